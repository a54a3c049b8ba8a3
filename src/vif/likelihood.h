/* Likelihood: the log density of observations under the VIF approximation (vif.h), its gradient and the expected
 * information, in two passes over the points.
 *
 * The first pass makes for every child its residual covariance, regression and contrasts, and, differentiating
 * forwards, what these change by in every direction; then come M and its inverse; the second pass puts the gradient
 * together:
 *   d loglik = sum_i -1/2 (1 - (e_i^2 + w_i . g_i) / D_i) dD_i / D_i
 *                    + (sum_j da_ij (e_i c_j + g_i . v_j) + dw_i . (e_i b - g_i)) / D_i,
 * g_i = M^-1 w_i, e_i = u_i - w_i . b, c_j = y_j - v_j . b, and dw_i = dv_i - sum_j a_ij dv_j. The coefficients a_ij
 * change by da_i = R_NN^-1 (dR alpha)_N, D_i by alpha' dR alpha, alpha = (-a_i, 1) over the neighbours and the child.
 * Neighbours and inducing inputs are held fixed. Everything is proportional to the variance, but for the noise: its
 * direction is that of all covariances less that of all noise.
 *
 * Both passes are maps over the children and sums: an evaluation can be made in steps (steps.h), where
 * other processes hold the other children. Each process has its own children, a shard, and their ancestors, the halo:
 * parents, parents of these and so on, because the information (information.h) solves triangular systems through them.
 *
 * Memory besides the arguments: the points once more in the order of space (arrangement.h), m n doubles, twice for
 * each direction of the kernel (slopes.h) and once more, k n for each of these directions and for the noise, and those
 * of information.h. */
#ifndef VECCHIANN_LIKELIHOOD_H
#define VECCHIANN_LIKELIHOOD_H

#include "vif/evaluation.h"

/* Parameters of the derivatives: logarithms of variance, lengthscales, nugget, smoothness. */
int likelihood_parameters(const likelihood_task *task);

/* A residual covariance that is not positive definite fails with `where` its child (its number in a shard). */
status likelihood_evaluate(const likelihood_task *task, likelihood_result *result);

#endif

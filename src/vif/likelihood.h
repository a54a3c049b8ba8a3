/* Likelihood: the log density of observations under the VIF approximation (vif.h), its gradient and the expected
 * information, in two passes over the points.
 *
 * The first pass makes for every child its residual covariance, regression and contrasts, and, differentiating forwards, what
 * these change by in every direction; then come M and its inverse; the second pass puts the gradient together:
 *   d loglik = sum_i -1/2 (1 - (e_i^2 + w_i . g_i) / D_i) dD_i / D_i
 *                    + (sum_j da_ij (e_i c_j + g_i . v_j) + dw_i . (e_i b - g_i)) / D_i,
 * g_i = M^-1 w_i, e_i = u_i - w_i . b, c_j = y_j - v_j . b, and dw_i = dv_i - sum_j a_ij dv_j. The coefficients a_ij change by
 * da_i = R_NN^-1 (dR alpha)_N, D_i by alpha' dR alpha, alpha = (-a_i, 1) over the neighbours and the child.
 * Neighbours and inducing inputs are held fixed. Everything is proportional to the variance, but for the noise: its direction
 * is that of all covariances less that of all noise.
 *
 * Memory besides the arguments: m n doubles, twice for each direction of the kernel (slopes.h) and once more, k n for each of
 * these directions and for the noise, and those of information.h. */
#ifndef VECCHIANN_LIKELIHOOD_H
#define VECCHIANN_LIKELIHOOD_H

#include "base/scratch.h"
#include "vif/batch.h"

#define LIKELIHOOD_APPROXIMATE 1 /* for many points good enough for scoring, see information.h */
#define LIKELIHOOD_ACCURATE 2    /* for standard errors */

typedef struct {
    const kernel *kern;
    int d, m, k;
    const vif_points *points;
    const int *id;        /* neighbours as R's table, n x k */
    const double *noise;  /* n, what of the points' variance is noise */
    const double *nugget;   /* n, what of it is in proportion to the nugget */
    int q;                /* values of a point: the observation, then covariates of the mean */
    const double *values; /* q x n */
    const double *z,
        *L; /* scaled inducing inputs, d x m; factor of their covariance; for derivatives only */
    int gradient;         /* whether it is asked for, as it is with the information */
    int information;      /* 0, or how */
    int axes, smoothness; /* directions, see slopes.h */
    int threads;
    scratch_pool *pool; /* for evaluations that follow each other, or NULL */
    const monitor *mon;
} likelihood_task;

/* Parameters of the derivatives: logarithms of variance, lengthscales, nugget, smoothness. */
int likelihood_parameters(const likelihood_task *task);

/* Where the results go; gradient and fisher may be NULL where they are not asked for. */
typedef struct {
    double loglik;
    double *beta, *information; /* q - 1 and (q - 1)^2: estimate, and its information */
    double *coef, *D;           /* k x n, n */
    double *root, *b,
        *B; /* m x m, m, m x (q - 1): factor of M, M^-1 W (y - X beta), M^-1 W X, weighted */
    double *error, *residual;  /* n: u_i - w_i . b, and y - X beta */
    double *gradient, *fisher; /* a parameter, and a pair of them */
} likelihood_result;

/* A residual covariance that is not positive definite fails with `where` its child. */
status likelihood_evaluate(const likelihood_task *task, likelihood_result *result);

#endif

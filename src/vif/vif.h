/* VIF: the Vecchia-inducing-points full-scale approximation, from a given table of neighbours.
 *
 * A Gaussian process with inducing points is V' z + residual, z ~ N(0, I), residual covariance
 * r_ij = k(x_i, x_j) - v_i . v_j. The residual process plus noise is approximated by regressions
 * of each point (a child) on its neighbours (parents),
 *   u_i = y_i - sum_j a_ij y_j,  a_i = (r_NN + noise)^-1 r_Ni,  D_i = r_ii + noise_i - a_i . r_Ni,
 * so that with w_i = v_i - sum_j a_ij v_j and M = I + sum_i w_i w_i' / D_i
 *   log det S = sum log D_i + log det M,   z | y ~ N(b, M^-1),  b = M^-1 sum_i w_i u_i / D_i,
 *   y' S^-1 y = sum_i (u_i - w_i . b)^2 / D_i + b . b,
 * and a new point has mean sum_j a_j y_j + w . b and variance D + w' M^-1 w. No matrix of the size of
 * the data is ever formed. Gyger, Furrer and Sigrist (2025), sections 2 and 3; M is written in whitened
 * form, which needs no difference of large numbers.
 *
 * Sums over points are taken in a fixed order: results do not depend on the number of threads.
 * Matrices are stored one column a point. Neighbour tables are R's: id is children x k by columns,
 * 1-based, anything below 1 (NA) for none. */
#ifndef VECCHIANN_VIF_H
#define VECCHIANN_VIF_H

#include "model/kernel.h"
#include "base/status.h"

/* Points and what is known of them; everything is borrowed. */
typedef struct {
    size_t n;
    const double *x;        /* d x n, scaled coordinates (see kernel.h) */
    const double *v;        /* m x n, whitened inducing features */
    const double *variance; /* n, residual variance plus noise */
} vif_points;

/* Neighbours of each child among the parents, and its regression on them. */
typedef struct {
    int k;
    const int *id;      /* children x k */
    const double *coef; /* k x children, a_ij; 0 where there is no neighbour */
} vif_table;

/* Regressions of all children on their parents; D has length children->n. A residual covariance that
 * is not positive definite, as duplicates without noise have, fails with `where` the child. */
status vif_regress(const kernel *kern, int d, int m, const vif_points *parents,
                   const vif_points *children, int k, const int *id, int threads, double *coef,
                   double *D);

/* out_i <- children_i - sum_j a_ij parents_j for q values a point (q x n arrays). */
void vif_contrast(const vif_table *table, int q, const double *parents, size_t n,
                  const double *children, int threads, double *out);

/* C (p x q) <- sum_i weight_i A_i B_i' for A (p x n) and B (q x n); weight NULL is all ones. */
status vif_cross(int p, int q, size_t n, const double *A, const double *B, const double *weight,
                 int threads, double *C);

/* norm_i <- w_i' M^-1 w_i and, unless NULL, G <- M^-1 W, from the Cholesky factor L of M. */
status vif_precision(int m, const double *L, size_t n, const double *W, int threads, double *norm,
                     double *G);

/* What the log-likelihood's derivative needs from its evaluation. */
typedef struct {
    const double *D;       /* n */
    const double *W;       /* m x n */
    const double *norm;    /* n, w_i' M^-1 w_i */
    const double *b;       /* m */
    const double *error;   /* n, u_i - w_i . b */
    const double *centred; /* n, y_i - v_i . b */
} vif_state;

/* Adjoints of the log-likelihood with the neighbours held fixed. With alpha_i = (-a_i, 1) over the
 * neighbours of i and itself, d loglik = sum_i beta_i' dR_i alpha_i - sum_ij alpha_ij c_i . dv_j for the
 * beta_i and c_i found here; R_i is their residual covariance plus noise. In terms of what R_i is made of:
 *   signal         derivative to the log of a factor of all covariances, noise included
 *   noise (n)      derivative to the noise variance of each point
 *   slope (d)      derivative to the log lengthscales through k(x_i, x_j)
 *   vbar (m x n)   derivative to the features
 * G (m x n) comes in as M^-1 W and is overwritten. */
status vif_adjoint(const kernel *kern, int d, int m, const vif_points *points,
                   const vif_table *table, const vif_state *state, int threads, double *G,
                   double *signal, double *noise, double *slope, double *vbar);

/* out[l] <- sum_uj A_uj d k(z_u, x_j) / d log lengthscale_l for A (p x n), z (d x p), x (d x n). */
status vif_kernel_slopes(const kernel *kern, int d, int p, const double *z, size_t n,
                         const double *x, const double *A, int threads, double *out);

#endif

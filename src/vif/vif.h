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

#include "vif/batch.h"

/* Neighbours of each child among the parents, and its regression on them. */
typedef struct {
    int k;
    const int *id;      /* children x k */
    const double *coef; /* k x children, a_ij; 0 where there is no neighbour */
} vif_table;

/* Regressions of all children on their parents; D has length children->n, and W, unless it is NULL, gets the contrasts
 * w_i of the features (m x children->n). A residual covariance that
 * is not positive definite, as duplicates without noise have, fails with `where` the child. */
status vif_regress(const kernel *kern, int d, int m, const vif_points *parents, const vif_points *children, int k,
                   const int *id, int threads, const monitor *mon, double *coef, double *D, double *W);

/* out_i <- children_i - sum_j a_ij parents_j for q values a point (q x n arrays). */
void vif_contrast(const vif_table *table, int q, const double *parents, size_t n, const double *children, int threads,
                  double *out);

/* norm_i <- w_i' M^-1 w_i, from the Cholesky factor L of M. */
status vif_norms(int m, const double *L, size_t n, const double *W, int threads, const monitor *mon, double *norm);

#endif

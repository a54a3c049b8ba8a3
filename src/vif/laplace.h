/* Laplace: derivatives of log-likelihoods that are a log-determinant and several quadratic forms.
 *
 * With S the VIF approximation (see vif.h) of the covariance of a process plus noise of known variances, one for each
 * point, and responses y_s with weights c_s of any sign, this is the derivative of
 *   -1/2 log det S - 1/2 sum_s c_s y_s' S^-1 y_s.
 * The Laplace approximation of a non-Gaussian likelihood needs two: its working responses z, and z + t and t with
 * weights 1 and -1, so that z' dS^-1 t, what comes through the mode, is found in the same pass.
 *
 * Gyger, Furrer and Sigrist (2025), section 4; Zilber and Katzfuss (2021) for working responses under a Vecchia
 * approximation of the noisy process. Sums over points are taken in a fixed order: results do not depend on the number
 * of threads. Matrices are stored one column a point. What takes long polls its monitor. */
#ifndef VECCHIANN_LAPLACE_H
#define VECCHIANN_LAPLACE_H

#include "base/status.h"
#include "vif/slopes.h"

/* Everything is borrowed. */
typedef struct {
    const kernel *kern;
    int d, m, k, q;
    int axes; /* whether each column has a lengthscale, see slopes.h */
    size_t n;
    const double *x;        /* d x n, scaled coordinates */
    const double *v;        /* m x n, whitened inducing features */
    const double *variance; /* n, residual variance plus noise */
    const int *id;          /* n x k by columns, 1-based, below 1 for none */
    const double *coef;     /* k x n, regression coefficients a_ij */
    const double *D;        /* n, conditional variances */
    const double *W;        /* m x n */
    const double *root;     /* m x m, the lower Cholesky factor of M */
    const double *weight;   /* q, c_s */
    const double *b;        /* m x q */
    const double *error;    /* q x n, u_i - w_i . b */
    const double *centred;  /* q x n, y_i - v_i . b */
    /* instead of root, weight, b, error and centred: derivatives of any function to D (n) and coef (k x n), or NULL */
    const double *to_D, *to_coef;
    /* more derivatives to the features, which vbar is to have too: `before` (m x n, or NULL) and left right, of
     * `products` columns (m x products, products x n) */
    const double *before, *left, *right;
    int products;
    const monitor *mon;
} laplace_problem;

/* Derivatives with the neighbours held fixed: to the log of a factor of all covariances, noise included (signal), to
 * the noise variance of each point (noise, n), to the log lengthscales through k(x_i, x_j) (slope, one or d), and to
 * the features (vbar, m x n). With to_D and to_coef signal means nothing, and vbar lacks what the function has of V
 * beside D and coef. */
status laplace_adjoint(const laplace_problem *problem, int threads, double *signal, double *noise, double *slope,
                       double *vbar);

/* out[l] <- sum_uj A_uj d k(z_u, x_j) / d log lengthscale_l for A (p x n), z (d x p), x (d x n). */
status laplace_slopes(const slopes *sl, int p, const double *z, size_t n, const double *x, const double *A, int threads,
                      double *out);

/* X (q x n) <- B^-1 X, or with `transposed` B'^-1 X, for B = I - (a_ij): many right-hand sides at once, side by
 * side. */
status laplace_solve(int k, size_t n, const int *id, const double *coef, int transposed, int q, const monitor *mon,
                     double *X);

/* Derivatives to D and coef of sum_s weight_s l_s' R r_s for R = B^-1 D B'^-1, from L = B'^-1 l and H = B'^-1 r, RL = R
 * l and RH = R r (q x n each). */
void laplace_pairs(int k, size_t n, const int *id, int q, const double *weight, const double *L, const double *H,
                   const double *RL, const double *RH, int threads, double *to_D, double *to_coef);

/* out (q x n) <- C' V for C (m x q) and V (m x n). */
status laplace_combine(int m, int q, size_t n, const double *C, const double *V, int threads, double *out);

/* out (p x q) <- sum_i w_i a_i b_i' for A (p x n), B (q x n) and weights w (n), NULL for 1. */
status laplace_cross(int p, int q, size_t n, const double *A, const double *B, const double *weight, int threads,
                     const monitor *mon, double *out);

/* root (m x m) <- the lower Cholesky factor of M = I + sum_i w_i w_i' / D_i for W (m x n). */
status laplace_root(int m, size_t n, const double *W, const double *D, int threads, const monitor *mon, double *root);

/* out (q x n) <- B' X. */
status laplace_collect(int k, size_t n, const int *id, const double *coef, int q, const double *X, const monitor *mon,
                       double *out);

#endif

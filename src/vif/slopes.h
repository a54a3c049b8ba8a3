/* Slopes: derivatives of a kernel and of the inducing features to the logarithms of the kernel's parameters.
 *
 * Directions are the common lengthscale, or with `axes` one lengthscale for each of the d columns, and, with
 * `smoothness`, that of KERNEL_MATERN. The variance needs
 * none: everything is proportional to it. */
#ifndef VECCHIANN_SLOPES_H
#define VECCHIANN_SLOPES_H

#include "base/status.h"
#include "model/kernel.h"

typedef struct {
    const kernel *kern;
    int d, axes, smoothness;
    kernel up, down; /* with `smoothness`: a little smoother and a little rougher */
} slopes;

/* For the main thread only, as kernels with tables are. */
slopes slopes_new(const kernel *kern, int d, int axes, int smoothness);

int slopes_count(const slopes *sl);

/* For `count` squared scaled distances the kernel in `value`; in `common` its derivative to the common lengthscale,
 * divided by s2 where there are axes (times (x_l - y_l)^2 it is that to lengthscale l); and in `smooth`, unless NULL,
 * that to the smoothness. None may be s2. */
void slopes_values(const slopes *sl, size_t count, const double *s2, double *value, double *common, double *smooth);

/* dV[c] (m x n) <- the derivative of V = L^-1 k(z, x) in every direction c, for scaled inducing inputs z (d x m), L the
 * Cholesky factor of K = k(z, z) plus jitter: with dL = L Phi(L^-1 dK L^-T), Phi the lower half, dV = L^-1 (dk - dL
 * V). */
status slopes_features(const slopes *sl, int m, const double *z, const double *L, size_t n, const double *x,
                       const double *V, int threads, const monitor *mon, double *const *dV);

#endif

/* Information: the expected (Fisher) information of the covariance parameters of a VIF approximation.
 *
 * In whitened coordinates, D^-1/2 B y, the covariance is C = I + W' W (W m x n, whitened contrasts of the features), and its derivative
 *   E_a = dW_a' W + W' dW_a + N_a + N_a' + diag(dD_a / D),   N_a = D^-1/2 dA_a B^-1 D^1/2,
 * dA_a the derivatives of the regression coefficients. The information is tr(C^-1 E_a C^-1 E_b) / 2. The part of E_a along C is
 * known exactly, because tr(C^-1 E_a) is. The rest is the trace of F_a F_b, F_a = R' E_a R for a root C^-1 = R R', here
 * R = I - W' L^-T (I + L)^-1 W with L L' = M = I + W W'. It is taken exactly over a few orthonormal vectors, a basis of what
 * random signs become under the F_a, and estimated by random signs in the rest of space (Hutchinson, 1990; Meyer, Musco,
 * Musco and Woodruff, 2021); for many points, unless it shall be accurate, by random signs alone, and to be accurate for few points over all of space. Either way it is a sum of
 * Gram matrices, positive semidefinite, and the signs are those of a fixed generator: the same numbers give the same
 * answer. By s = 16 random signs alone the relative error of a standard error is about (2 f s)^-1/2, f the degrees of freedom
 * in the data that tell of the parameter: good enough for the steps of an optimiser.
 */
#ifndef VECCHIANN_INFORMATION_H
#define VECCHIANN_INFORMATION_H

#include "base/scratch.h"
#include "base/status.h"

#include <stddef.h>

typedef struct {
    size_t n;
    int k, m, stride;           /* values of a row of W */
    const int *parent;          /* k x n, 0-based, -1 for none */
    const double *coef;         /* k x n */
    const double *D;            /* n */
    const double *W;            /* rows of the points, from products_rows */
    const double *root;         /* m x m, L */
    int count;                  /* directions */
    const double *const *dcoef; /* k x n each */
    const double *const *ratio; /* n each, dD / D */
    const double *const *dW;    /* as W, NULL where it is zero */
    const double *trace;        /* tr(C^-1 E_a) */
    int accurate;
    int threads;
    scratch_pool *pool; /* or NULL */
    const monitor *mon;
} information_task;

/* out (count x count). */
status information_expected(const information_task *task, double *out);

#endif

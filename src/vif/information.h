/* Information: the expected (Fisher) information of the covariance parameters of a VIF approximation.
 *
 * In whitened coordinates, D^-1/2 B y, the covariance is C = I + W' W (W m x n, whitened contrasts of the features),
 * and its derivative
 *   E_a = dW_a' W + W' dW_a + N_a + N_a' + diag(dD_a / D),   N_a = D^-1/2 dA_a B^-1 D^1/2,
 * dA_a the derivatives of the regression coefficients. The information is tr(C^-1 E_a C^-1 E_b) / 2. The part of E_a
 * along C is known exactly, because tr(C^-1 E_a) is. The rest is the trace of F_a F_b, F_a = R' E_a R for a root C^-1 =
 * R R', here R = I - W' L^-T (I + L)^-1 W with L L' = M = I + W W'. It is taken exactly over a few orthonormal vectors,
 * a basis of what random signs become under the F_a, and estimated by random signs in the rest of space (Hutchinson,
 * 1990; Meyer, Musco, Musco and Woodruff, 2021); for many points, unless it shall be accurate, by random signs alone,
 * and to be accurate for few points over all of space. Either way it is a sum of Gram matrices, positive semidefinite,
 * and the signs are those of a fixed generator: the same numbers give the same answer. By s = 16 random signs alone the
 * relative error of a standard error is about (2 f s)^-1/2, f the degrees of freedom in the data that tell of the
 * parameter: good enough for the steps of an optimiser.
 */
#ifndef VECCHIANN_INFORMATION_H
#define VECCHIANN_INFORMATION_H

#include "base/scratch.h"
#include "base/status.h"

#include <stddef.h>

#define INFORMATION_PROBES 16 /* random signs, where they are all there is */

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
    const unsigned char *own; /* of a shard, see evaluation.h; NULL: all points are here */
    const int *number;        /* numbers that the signs belong to; NULL: those of the points */
    const int *sequence;      /* points, parents before their children; NULL: as they are numbered */
    const double *v;          /* m x n, features, for the halo */
    int threads;
    scratch_pool *pool; /* or NULL */
    const monitor *mon;
} information_task;

/* out (count x count). */
status information_expected(const information_task *task, double *out);

/* The same by random signs alone for points that are sharded, in steps that follow those of steps.h. Sums are rows
 * of INFORMATION_PROBES, one for each of m features. */
typedef struct information_steps information_steps;

/* task->root and task->trace are not read. */
information_steps *information_open(const information_task *task);
void information_close(information_steps *steps);

/* W u, for random signs u. */
void information_signs(information_steps *steps, double *sums);
/* From the sums of W u: W h and dW_a h for each direction of the kernel, h = R u. Regressions of the halo are known by
 * now. */
status information_sweep(information_steps *steps, const double *turned, double *sums);
/* What children here say of the count x probes values N_a' h of a point. */
double *information_return(information_steps *steps, size_t point);
/* What the owner of a point has got by information_return() elsewhere. */
void information_add(information_steps *steps, size_t point, const double *values);
/* From the sums of the sweep: W t_a of all directions, h . t_a, and t_a . t_b. */
status information_products(information_steps *steps, const double *known, double *sums);

/* turned <- -L^-T (I + L)^-1 of the sums of the signs. */
void information_turn(int m, const double *root, const double *sums, double *turned);
/* out from the sums of the products; n are the points of all shards. */
status information_finish(size_t n, int count, int m, const double *root, const double *trace, const double *sums,
                          double *out);

#endif

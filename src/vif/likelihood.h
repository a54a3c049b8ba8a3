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
 * Both passes are maps over the children and sums: an evaluation can be made in steps (likelihood_open and what follows), where
 * other processes hold the other children. Each process has its own children, a shard, and their ancestors, the halo: parents,
 * parents of these and so on, because the information (information.h) solves triangular systems through them.
 *
 * Memory besides the arguments: m n doubles, twice for each direction of the kernel (slopes.h) and once more, k n for each of
 * these directions and for the noise, and those of information.h. */
#ifndef VECCHIANN_LIKELIHOOD_H
#define VECCHIANN_LIKELIHOOD_H

#include "base/scratch.h"
#include "vif/batch.h"

#define LIKELIHOOD_APPROXIMATE 1 /* for many points good enough for scoring, see information.h */
#define LIKELIHOOD_ACCURATE 2    /* for standard errors */

/* Which of the points are children: the others are their halo, all before the children that want them. */
typedef struct {
    const unsigned char *own; /* n, 0 for the halo */
    const int *place;         /* n, 0-based among all points of all shards, ascending */
    int apart;                /* whether the noise of any point of any shard is not all nugget */
} likelihood_shard;

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
    const likelihood_shard *shard; /* NULL: all points are here, each a child */
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

/* A residual covariance that is not positive definite fails with `where` its child (its place in a shard). */
status likelihood_evaluate(const likelihood_task *task, likelihood_result *result);

/* ---- in steps ---------------------------------------------------------------------------------
 *
 * Step 1 has M and W (y, X), step 2 the squares of what the inducing inputs leave, step 3 the errors and derivatives. A process adds
 * up the sums of a step over its children; somebody adds those of all processes and finishes the step, which tells what the next
 * one must know. With information and inducing inputs (always approximate in steps), between steps 1 and 2
 * regressions of the halo must be carried from their owners (likelihood_regressions), and between 2 and 3 what the children of
 * others have to say of the own ones (likelihood_returns). */

typedef struct likelihood likelihood;

/* Numbers of an evaluation that all processes share. */
typedef struct {
    size_t n; /* children of all shards */
    int m, q, d, axes, smoothness;
    int directions, nugget; /* derivatives are asked for where directions > 0; see slopes.h */
    int probes;             /* of the information, 0 where it needs none */
    int information;
} likelihood_sizes;

/* Runs the first pass. The task's arrays and the result's must live until likelihood_close, not the structs. */
status likelihood_open(const likelihood_task *task, const likelihood_result *result,
                       likelihood **out);
void likelihood_close(likelihood *open);

/* Of the shard; n are its own children. */
likelihood_sizes likelihood_size(const likelihood *open);
/* How many numbers a step sums up, and how many it must know. */
size_t likelihood_sum_count(const likelihood_sizes *sizes, int step);
size_t likelihood_known_count(const likelihood_sizes *sizes, int step);

status likelihood_step(likelihood *open, int step, const double *known, double *sums);

/* From the sums of step 1 or 2 to what the next step knows. */
status likelihood_finish(const likelihood_sizes *sizes, int step, const double *known,
                         const double *sums, double *next);
/* From the sums of step 3 to value and derivatives; known is that of step 3, and result->information that which
 * likelihood_mean found. */
status likelihood_finish_last(const likelihood_sizes *sizes, const double *known,
                              const double *sums, likelihood_result *result);
/* Parts of what step 3 knows. */
void likelihood_parts(const likelihood_sizes *sizes, const double *known, likelihood_result *result);

/* Rows of `likelihood_regression_width` and `likelihood_return_width` numbers, one for each of `count` points, taken or put. */
size_t likelihood_regression_width(const likelihood *open);
size_t likelihood_return_width(const likelihood *open);
void likelihood_regressions(likelihood *open, int put, size_t count, const int *points,
                            double *rows);
void likelihood_returns(likelihood *open, int put, size_t count, const int *points, double *rows);

#endif

/* Evaluation: what is asked of a likelihood, where it goes, and what is held in between; see likelihood.h. */
#ifndef VECCHIANN_EVALUATION_H
#define VECCHIANN_EVALUATION_H

#include "base/scratch.h"
#include "vif/batch.h"
#include "vif/products.h"

#define LIKELIHOOD_APPROXIMATE 1 /* for many points good enough for scoring, see information.h */
#define LIKELIHOOD_ACCURATE 2    /* for standard errors */

/* Which of the points are children: the others are their halo, all before the children that want them. */
typedef struct {
    const unsigned char *own; /* n, 0 for the halo */
    const int *number;        /* n, 0-based among all points of all shards, ascending */
    int apart;                /* whether the noise of any point of any shard is not all nugget */
} likelihood_shard;

typedef struct {
    const kernel *kern;
    int d, m, k;
    const vif_points *points;
    const int *id;        /* neighbours as R's table, n x k, by the caller's numbers */
    const double *noise;  /* n, what of the points' variance is noise */
    const double *nugget; /* n, what of it is in proportion to the nugget */
    int q;                /* values of a point: the observation, then covariates of the mean */
    const double *values; /* q x n */
    const double *z, *L;  /* scaled inducing inputs, d x m; factor of their covariance; for derivatives and features */
    int gradient;         /* whether it is asked for, as it is with the information */
    int information;      /* 0, or how */
    int axes, smoothness; /* directions, see slopes.h */
    const likelihood_shard *shard; /* NULL: all points are here, each a child */
    const int *given; /* n, the caller's number of each point; and the other way: points in an order in which parents */
    const int *sequence; /* come before their children. NULL: points are as the caller has numbered them */
    int threads;
    scratch_pool *pool; /* for evaluations that follow each other, or NULL */
    const monitor *mon;
} likelihood_task;

/* Where the results go; gradient and fisher may be NULL where they are not asked for, and so may coef in what
 * likelihood_evaluate() gets. */
typedef struct {
    double loglik;
    double *beta, *information; /* q - 1 and (q - 1)^2: estimate, and its information */
    double *coef, *D;           /* k x n, n */
    double *root, *b, *B;       /* m x m, m, m x (q - 1): factor of M, M^-1 W (y - X beta), M^-1 W X, weighted */
    double *error, *residual;   /* n: u_i - w_i . b, and y - X beta */
    double *gradient, *fisher;  /* a parameter, and a pair of them */
} likelihood_result;

/* Numbers of an evaluation that all processes share. */
typedef struct {
    size_t n; /* children of all shards */
    int m, q, d, axes, smoothness;
    int directions, nugget; /* derivatives are asked for where directions > 0; see slopes.h */
    int probes;             /* of the information, 0 where it needs none */
    int information;
} likelihood_sizes;

#define EVALUATION_CHUNK 128 /* children whose sums are kept apart, so that sums have one order */

/* Directions: all noise, those of slopes.h, and the nugget where it is not all noise. */
typedef struct {
    const likelihood_task *task;
    likelihood_result *result;
    batch_problem problem;
    slopes sl;
    size_t count;                              /* of the children, which come first in problem.order */
    int directions, kernel_directions, nugget; /* nugget: its direction, 0 where it is all noise */
    int stride, value_stride;
    double *W, *contrasts;   /* rows of the points, whitened: divided by the root of D */
    double **dV, **dW;       /* a direction of the kernel each */
    double **dcoef, **ratio; /* a direction each: k x n, and dD / D */
    double *centred;         /* c_j */
    double *inverse;         /* M^-1, rows of `stride` */
    double *sums;            /* of chunks */
} evaluation;

/* Memory for all but what the passes work with. */
status evaluation_new(const likelihood_task *task, likelihood_result *result, evaluation *e);
void evaluation_free(evaluation *e);

/* Features of the derivatives are of no use after the first pass. */
void evaluation_drop_features(evaluation *e);

likelihood_sizes evaluation_sizes(const evaluation *e);

static inline size_t evaluation_chunks(size_t n) { return (n + EVALUATION_CHUNK - 1) / EVALUATION_CHUNK; }

/* How many sums a chunk has: of each direction gradient and trace, and products of all pairs of them. */
static inline int evaluation_width(const evaluation *e) { return e->directions * (e->directions + 2); }

static inline int evaluation_is_child(const likelihood_task *task, size_t i)
{
    return !task->shard || task->shard->own[i];
}

#endif

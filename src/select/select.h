/* Select: greedy conditional selection of conditioning sets.
 *
 * The k nearest points are the best neighbours one by one, not as a set: several may say the same. From a pool of
 * candidates for each query we take, again and again, the one that explains most of what is left of the query's
 * residual variance given those taken before. With R the residual covariance of the candidates, plus noise on its
 * diagonal, and a partial Cholesky factor of R that has a row for each point taken,
 *   c_j  covariance of the query and candidate j given those taken, at first r_qj
 *   D_j  variance of candidate j given those taken, at first r_jj + noise_j
 * the next is the j of largest c_j^2 / D_j, ties to the lower index, and the query's variance falls by so much. The
 * query itself is free of noise.
 *
 * A candidate whose D_j is at most 1e-10 of its start says nothing new and is not taken; one without noise whose
 * residual variance is at most 1e-10 of the kernel's has nothing to say at all. A query whose variance has fallen to
 * 1e-13 of the kernel's has variance 0: all its candidates are then worth nothing, and ties go to the lower index.
 *
 * Queries close to each other share most of their candidates. The residual covariances of a group of queries are
 * computed once, by tiles; a pair has the same value in all tiles, so that the answer does not depend on the groups,
 * nor on the number of threads.
 *
 * Huan, Guinness, Katzfuss, Owhadi and Schaefer (2023), arXiv 2307.11648, section 3. */
#ifndef VECCHIANN_SELECT_H
#define VECCHIANN_SELECT_H

#include "base/status.h"
#include "model/metric.h"

/* Called for each query with the `count` points taken for it, in order, by index; their weights in the regression
 * of the query on them; and the query's variance given them. By several threads, for different queries. */
typedef void (*select_listener)(void *context, size_t q, int count, const int *id, const double *weight, double left);

typedef struct {
    const kernel *kern;
    const metric_points *points; /* the candidates, without noise in their variance */
    const double *residual;      /* their residual variances */
    const double *noise;         /* and their noise */
    const metric_points *from;   /* where the queries stand; may be `points` */
    const int *column;           /* of v that holds the features of each of these, or NULL: that of its number */
    const double *own;           /* residual variances of these */
    size_t count;                /* number of queries */
    const int *rows;             /* their rows in `from`; NULL is 0 .. count - 1 */
    int self;                    /* nonzero: the queries are points and never their own candidates */
    int predecessors;            /* nonzero: candidates are the points before the query */
    const int *pool;             /* count x width, row by row: indices of candidates; below 0 is none */
    int width, k, threads;
    int more_noises; /* sets for so many other noises too: the values of each follow those before, and so do its id */
    const monitor *mon;
} select_task;

/* id and dist are k x count, a query after the other, id from 1 and 0 where there is none, dist the distance by
 * residual correlation with the variances of `points` and `from`; variance has length count. Each may be NULL, as may
 * `listen`; with more_noises all but id are. */
typedef struct {
    int *id;
    double *dist, *variance;
    select_listener listen;
    void *context;
} select_result;

status select_run(const select_task *task, const select_result *result);

#endif

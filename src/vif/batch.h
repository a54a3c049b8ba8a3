/* Batches: regressions of children on their parents, one child in each lane of a vector.
 *
 * Positions of a system: where the number of places is odd a free one, the k parents in the order of the table, and the
 * child last. A free place, and one whose parent is missing, has variance 1 and no covariance with the others. Children
 * are taken in an order in which those that follow each other are close in space and share parents; which lanes and
 * chunks they share does not depend on the number of threads. */
#ifndef VECCHIANN_BATCH_H
#define VECCHIANN_BATCH_H

#include "base/scratch.h"
#include "base/status.h"
#include "vif/slopes.h"

#include <stddef.h>

/* Points and what is known of them; everything is borrowed. */
typedef struct {
    size_t n;
    const double *x;        /* d x n, scaled coordinates (see kernel.h) */
    const double *v;        /* m x n, whitened inducing features */
    const double *variance; /* n, residual variance plus noise */
} vif_points;

typedef struct {
    const kernel *kern;
    int d, m, k;
    const vif_points *parents, *children;
    int *parent;                  /* k x children->n, 0-based, -1 for none */
    int *order;                   /* the children, close ones together */
    const double *const *changes; /* matrices as the parents' v whose rows will be wanted too, or none */
    int change_count;
    scratch_pool *pool; /* that parent and order are from, or NULL */
} batch_problem;

/* Fills parent and order from R's table: children x k by columns, 1-based, anything below 1 (NA) for none. Where points
 * are arranged in the order of space, sequence[i] is where the i-th of the table is now; else it is NULL. */
status batch_problem_new(const kernel *kern, int d, int m, const vif_points *parents, const vif_points *children, int k,
                         const int *id, const int *sequence, int threads, scratch_pool *pool, batch_problem *out);
void batch_problem_free(batch_problem *problem);

/* Scratch of one thread. Elements of lanes as in simd.h. */
typedef struct {
    int size, count;  /* order of the systems, and how many lanes are in use */
    const int *child; /* of each lane */
    int *id;          /* size x lanes, -1 for a free place; the child's own place has its number among the children */
    const double **rows; /* lanes x size: features of each place */
    double *x;           /* size x d */
    double *s2, *R;      /* triangles: squared distances; covariances, then their Cholesky factor */
    double *inverse;     /* of the factor's diagonal */
    double *alpha;       /* size: minus the regression coefficients, 0 in a free place, and 1 */
    double *gram;        /* a triangle, of one lane */
    double *dots;        /* size, of one lane */
    double *nothing;     /* m zeros */
} batch;

/* One for each thread; NULL without memory. */
batch *batch_new(const batch_problem *problem, int threads);
void batch_free(batch *all, int threads);

size_t batch_triangle(int size);

/* Collects `count` children, at most a lane each. */
void batch_load(const batch_problem *problem, const int *child, int count, batch *b);

/* R, with `sl` also the derivatives of its kernel part in each direction (dK[c], triangles). */
void batch_covariance(const batch_problem *problem, const slopes *sl, double *const *dK, batch *b);

/* R <- its factor, and alpha. Bit `lane` of the answer is set where R is not positive definite. */
unsigned batch_factor(batch *b);

/* Conditional variance of the child of a lane. */
double batch_variance(const batch *b, int lane);

#endif

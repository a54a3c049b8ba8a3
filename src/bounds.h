/* Bounds: how large |rho| can be between a query and the points of a cell, or of a group of cells.
 *
 * Kernel-expansion bound. With the scaled features f_q of a query, w = L^-T f_q and its gain g_q,
 *     rho(q, y) = g_q g_y kappa(q, y) - sum_u w_u k(u, y) / sqrt(p_y),
 * so over the points y of a cell, with reach_u = max_y k(u, y) / sqrt(p_y) and g = max_y g_y,
 *     |rho(q, y)| <= g_q g kappa(distance of q from the cell's box) + sum_u |w_u| reach_u.
 * The weights decay away from q wherever the lengthscale is shorter than the domain. A point that
 * stands on an inducing input u (see screen.h) has rho = w_u jitter s2 / sqrt(p) exactly, and enters
 * reach_u with that. Two such points together are outside the bounds, as they are outside screening.
 *
 * Everything is computed on the actual points in double and rounded up to single precision. A sum of m
 * positive products in single precision is at least (1 - (m + 2) 2^-24) times its value, so bounds are
 * inflated by 1 + (m + 16) 2^-23, which also covers the roundings of the terms. */
#ifndef VECCHIANN_BOUNDS_H
#define VECCHIANN_BOUNDS_H

#include "linalg.h"
#include "screen.h"

#define BOUNDS_GROUP 16 /* cells of a group */

/* Bounds of consecutive ranges of points: the cells, or the groups of cells. */
typedef struct {
    int count;
    float *reach;       /* count x m */
    double *gain;       /* count */
    double *low, *high; /* count x d: the box, scaled coordinates */
} bounds_level;

typedef struct {
    const kernel *kern; /* borrowed */
    int m, d;
    linalg_triangle transposed; /* L', for the weights */
    bounds_level cells, groups;
} bounds;

status bounds_build(const screen_source *source, const screen *points, int threads, bounds *out);
void bounds_free(bounds *b);

/* Up to SCREEN_BLOCK queries as the bounds want them. Owned by the caller: bounds_block_new, _free. */
typedef struct {
    int count;
    float *weights; /* m x SCREEN_BLOCK: |w_u| */
    double *x;      /* SCREEN_BLOCK x d */
    double gain[SCREEN_BLOCK];
    double *scratch;
} bounds_block;

int bounds_block_new(const bounds *b, bounds_block *block);
void bounds_block_free(bounds_block *block);
/* The queries are the points at `count` positions of `from`. */
void bounds_block_set(const bounds *b, const screen *from, const int *positions, int count,
                      bounds_block *block);

/* upper[q] >= |rho(q, y)| for each query of the block and every point y of range `at`. */
void bounds_expansion(const bounds *b, const bounds_level *level, int at,
                      const bounds_block *block, float *upper);

#endif

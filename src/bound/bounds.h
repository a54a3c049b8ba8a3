/* Bounds: how large |rho| can be between the points of two ranges: panels, cells, groups of cells.
 *
 * Kernel-expansion bound. With w = L^-T v_q the kriging weights of q and g = 1 / sqrt(p),
 *     rho(q, y) = g_q g_y (k(q, y) - sum_u w_u(q) k(u, y)),
 * so over the points q of a range X and y of a range Y, with weight_u = max_q |w_u(q)|, reach_u =
 * max_y g_y k(u, y) and gain = max_y g_y,
 *     |rho(q, y)| <= g_q (gain kappa(distance of the boxes) sigma2 + sum_u weight_u reach_u),
 * where g_q is the query's own. Weights decay away from q wherever the lengthscale is shorter than
 * the domain. Without inducing inputs the sum is empty; where L is not known there is no such bound.
 *
 * A special point y on z_u (specials.h) has rho(q, y) = g_q g_y jitter sigma2 w_u(q) exactly, and enters
 * reach_u with that. A special query has rho = g_q jitter sigma2 w_u(y) g_y, with other specials too: for it
 * the largest |w_u(y)| g_y over a panel, special_reach, is a bound that is attained.
 *
 * Terms. The same sum is rho itself where it is taken for a pair, and where weights decay a few inputs make
 * almost all of it. So each panel may keep, in single precision, g_q w_u(q) of the `most` inputs of its largest
 * weights and g_y k(u, y) of the `most` of its largest reaches (for a special y, -g_y jitter sigma2 on its own input
 * and 0 elsewhere). For a pair of panels those inputs are summed that both keep and whose weight_u reach_u
 * is not negligible; left, the sum of weight_u reach_u over the others, bounds what that leaves out:
 *     |rho(q, y) - (g_q g_y k(q, y) - sum_u g_q w_u g_y k(u, y))| <= g_q (left + rounding),
 * rounding = (terms + 8) 2^-23 times the expansion bound of the two panels: each product errs by 3 u,
 * u = 2^-24, its factors' rounding included, and each of terms + 1 sums by u times what is summed.
 *
 * Everything is computed on the actual points in double and rounded up to single precision. A sum of m
 * positive products in single precision is at least (1 - (m + 2) 2^-24) times its value, so bounds are
 * inflated by 1 + (m + 16) 2^-23, which also covers the roundings of the terms.
 *
 * Roundoff. The computed residual covariance is k - v.v with computed L and v. It is that of a process
 * only up to rounding: with the computed weights w, the process e(x) = f(x) - w_x . (f(Z) + jitter noise) has
 *     cov(e(x), e(y)) = r(x, y) + w_x . f_y + w_y . f_x - w_x' E w_y     (+ terms of second order),
 * where E = L L' - (k(Z, Z) + jitter sigma2 I) and f_y = L v_y - k(Z, y). By the usual backward error of
 * Cholesky factors and triangular solves (Higham 2002, theorems 10.3 and 8.5), u = 2^-53,
 * |E| <= (m + 10) u |L| |L'| and |f_y| <= (m + 10) u |L| |v_y| element by element, kernel values
 * included; hence, as the rows of L and the columns v have norms of at most sqrt(sigma2),
 * ||E|| <= (m + 10) m u sigma2 and ||f|| <= (m + 10) sqrt(m) u sigma2. The same ||f|| |w| bounds what rounding
 * of w does, and the sum k - v.v itself errs by at most 2 (m + 10) u sigma2. All of this is below
 *     roundoff_x roundoff_y,   roundoff_x = sqrt((m + 10) u sigma2) (2 + sqrt(m) |w_x|) g_x,
 * for correlations: what is computed differs from the correlation of a true process by no more.
 * Features that come without L are taken as those of a process; then the term in |w| is absent. */
#ifndef VECCHIANN_BOUNDS_H
#define VECCHIANN_BOUNDS_H

#include "partition/cells.h"
#include "base/linalg.h"
#include "model/specials.h"

#define BOUNDS_GROUP 16 /* cells of a group */

_Static_assert(CELLS_MOST / SCREEN_COLS <= SIMD_WIDTH, "a cell has a column for each panel");

/* Bounds of consecutive ranges of points. Of panels, an index that was kept has reach and gain only for expansions:
 * what else asks for them reads the columns below. */
typedef struct {
    int count;
    float *reach, *weight; /* count x m; weight NULL where there is none */
    double *gain;          /* count: of points that are not special */
    double *low, *high;    /* count x d: the box, scaled coordinates */
} bounds_ranges;

/* The panels of a cell side by side, a column for each, for bounds of all of them at once; columns that no panel has
 * are 0. */
typedef struct {
    float *reach;       /* cells x m x SIMD_WIDTH */
    double *low, *high; /* cells x d x SIMD_WIDTH */
    double *gain;       /* cells x SIMD_WIDTH */
} bounds_by_panel;

/* Terms of panels: rank of an input among those that a panel keeps, or -1 (panels x m); and their values
 * (panels x most x SCREEN_COLS). */
typedef struct {
    int most; /* 0 for none */
    int16_t *weight_rank, *kernel_rank;
    float *weights, *kernels;
} bounds_terms;

typedef struct {
    const kernel *kern; /* borrowed, like the next two */
    const metric_points *points;
    const cells *order;
    int m, d;
    int expands; /* whether the expansion bound exists */
    double jitter;
    specials special;
    bounds_ranges panels, cells, groups;
    bounds_by_panel by_panel;
    float *special_reach; /* m x panels: a query reads one input; NULL where no point is special */
    float *roundoff;      /* n, by index, upwards */
    double most_roundoff;
    bounds_terms terms;
} bounds;

/* `terms`: whether panels are to keep some; they do if L is known. */
status bounds_build(const metric_source *source, const metric_points *points, const cells *order, int terms,
                    int threads, const monitor *mon, bounds *out);
void bounds_free(bounds *b);

/* upper >= |rho(q, y)| / g_q for every point q of range X of `from` that is not special, and every y of range Y of
 * `to`, of the same problem. */
float bounds_expansion(const bounds *b, const bounds_ranges *from, int X, const bounds_ranges *to, int Y);

/* The same for each panel of a cell, in SIMD_WIDTH places; returns the largest. */
float bounds_of_panels(const bounds *b, const bounds_ranges *from, int X, int cell, float *upper);

/* What makes of a weight w_u(y) g_y the size of rho(z_u, y) / g_z, up to roundoff, of a special query on input u: of
 * special_reach an upper bound for a panel. */
static inline double bounds_special_size(const bounds *b) { return b->jitter * b->kern->variance; }

#endif

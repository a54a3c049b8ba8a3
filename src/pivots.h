/* Pivots: two points of each panel, which tell the queries that need not meet it.
 *
 * They are landmarks as in subspace.h, two to a panel in place of dozens to a cell, and their correlations with
 * queries come from terms (bounds.h), in single precision. With c = rho(p_1, p_2) and s^2 = 1 - c^2,
 *     psi_1 = rho(q, p_1),    psi_2 = (rho(q, p_2) - c psi_1) / s,    |rho(q, y)| <= cos(max(0, alpha - beta)),
 * cos(alpha) = |psi|, and beta the largest angle of a point of the panel with the span of its pivots. So a query of
 * threshold tau is done with the panel where |psi| < cos(acos(tau) + beta). That pays where points are dense:
 * there beta is small, and the expansion bound, which adds up sizes, leaves many panels.
 *
 * Queries are asked about together first: with a point x and the largest angle of some queries with it, all of them are
 * done with a panel where |psi_x| < cos(acos(tau) + beta + that angle).
 *
 * The first pivot is the point nearest to the middle of the panel, the second the one farthest from it by angle; if
 * it is no farther than PIVOTS_APART of s^2, there is no second one. Special points of the panel have no part in
 * beta; they are bounded by their weights, |rho(q, y)| <= g_q |w_u(q)| special, special = max_y g_y jitter s2. Points
 * that have vanished have correlation 0.
 *
 * Errors. Computed correlations are those of a true process, normalised, up to delta = 2 (noise_q + noise)^2 +
 * 10^-12, noise the largest of the cell's points that are not special, and noise_q that of all that are asked
 * about. With rho(q, p) off by e, in which delta is, psi_1 is off by e and psi_2 by (e (1 + |c|) + delta) / s +
 * 20 delta / s^3, so |psi| by at most amplify e + PIVOTS_NOISY delta,
 * amplify = 1.01 (1 + ((1 + |c|) / s)^2)^(1/2); the square of a tail by no more than twice that, which is added to
 * it.
 */
#ifndef VECCHIANN_PIVOTS_H
#define VECCHIANN_PIVOTS_H

#include "bounds.h"
#include "frames.h"

#define PIVOTS_PANELS (CELLS_MOST / SCREEN_COLS) /* of a cell, half of SCREEN_COLS */
#define PIVOTS_TILES (SCREEN_COLS / SCREEN_ROWS)
#define PIVOTS_APART 0.01
#define PIVOTS_NOISY 3e4f

/* By cell; column p has the first pivot of its panel p, column PIVOTS_PANELS + p the second. Owns its arrays. */
typedef struct {
    int m, d, most;
    float *beta;        /* cells: the mean over panels */
    float *noise;       /* cells: the largest of points that are not special */
    float *reach;       /* cells x m: max_p g_p k(u, p) over pivots, */
    double *gain;       /* cells: max_p g_p */
    int16_t *place;     /* cells x m: of the inputs whose values are kept, or -1 */
    float *kernels;     /* cells x most x SCREEN_COLS: g_p k(u, p) */
    float *x;           /* cells x d x SCREEN_COLS, relative to the centre */
    float *scale;       /* cells x SCREEN_COLS: gains as in frames.h */
    simd_pivots *pairs; /* cells */
    /* the points as queries */
    float *weight_most; /* panels: the largest weight */
    int *
        middle; /* panels x PIVOTS_TILES: the point of SCREEN_ROWS columns nearest to their middle, or -1, */
    float *cosine, *sine; /* and the largest angle of the others with it */
} pivots;

/* From bounds with terms, and the frames of the same cells. */
status pivots_build(const metric_source *source, const bounds *bound, const frames *frame,
                    int threads, pivots *out);
void pivots_free(pivots *p);

#endif

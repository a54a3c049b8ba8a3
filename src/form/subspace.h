/* Subspaces: what a few landmarks of a cell say of correlations with all of its points.
 *
 * Noise of a point is its own, so between different points rho is an inner product of what the points have without
 * their noise: vectors u_x of the Hilbert space of the residual process, divided by sqrt(p_x), of the length
 *     |u_x|^2 = r_xx / p_x <= 1,
 * 1 where there is no noise. With landmarks S among the points of a cell, C = (u_s . u_t) + ridge I = M M' and, for any
 * point x,
 *     psi_x = M^-1 rho(S, x),        tail_x^2 = |u_x|^2 - |psi_x|^2
 * (a landmark's product with itself is its |u|^2), the Schur complement of C is positive semidefinite, so for every
 * pair
 *     |rho(q, y) - psi_q . psi_y| <= tail_q tail_y:
 * psi are coordinates in the span of S, tail the distance from it. Landmarks are pivots of a Cholesky
 * factorisation of all products of the cell, taken until every tail is small; one at least, unless all points
 * have vanished. In few dimensions a cell of 256 points needs 10 to 50, fewer where there is noise, and
 * neighbouring points have small tails however far from an inducing input they are. (Williams and Seeger, 2001, for one
 * global set of landmarks.)
 *
 * Subspace bound. For all points y of a cell, with |u_y| <= H and tail_y <= t, by Cauchy and Schwarz in the span and
 * outside
 *     |rho(q, y)| <= |psi_q| (H^2 - t^2)^(1/2) + (|u_q|^2 - |psi_q|^2)^(1/2) t
 *                  = |u_q| H cos(max(0, alpha - beta)),     cos(alpha) = |psi_q| / |u_q|,  sin(beta) = t / H:
 * the angle bound of a metric tree with a space in place of its pivot. (The sum grows with t up to t = H sin(alpha), so
 * that it holds for points of smaller tails.) A far query is nearly orthogonal to all landmarks together, which a
 * single pivot cannot tell. Any larger numbers may stand for lengths, 1 for all of them.
 *
 * Bound from cell to cell. With landmarks T of the cell of q and b = M_T^-T psi_q, u_q is
 * sum_s b_s u_s + e with |e| <= its own tail, so
 *     |psi_q| <= |P b| + tail_q,     P = M^-1 rho(S, T),
 * |S| |T| correlations for all queries of a cell together.
 *
 * Both bounds hold for the first landmarks of S and of T too, with the larger tails that these leave, and
 * the coordinates and M^-1 of the first landmarks are the first of all. So a query is projected in
 * stages, a few landmarks at a time, and from cell to cell only some 16 or 32 coarse landmarks are asked, which finish
 * most of what can be finished.
 *
 * Rounding. Computed correlations are those of a process up to roundoff_x roundoff_y (bounds.h), and so are squared
 * lengths. With spread = ||M^-1||_F and gather = (sum_S roundoff_s^2)^(1/2), u = 2^-24:
 * - the ridge is at least gather^2, so that C is not below the true products of S;
 * - psi_x errs by at most spread gather roundoff_x from roundoff, and, as M^-1 and the products are in single
 *   precision and |rho(S, x)| <= sqrt(rank), by at most rounding = (rank + 4) u spread sqrt(rank);
 * - a tail is stored as (|u_x|^2 + roundoff_x^2 - |psi_x|^2 + 2 (what psi_x errs by))^(1/2), upwards;
 * - P b errs by spread gather sum_s roundoff_s |b_s| + (rounding + (rank_T + 4) u) |b|_1.
 * The sum of `rank` products in single precision errs by at most (rank + 2) u |psi_q| |psi_y|. */
#ifndef VECCHIANN_SUBSPACE_H
#define VECCHIANN_SUBSPACE_H

#include "partition/cells.h"
#include "model/metric.h"

#define SUBSPACE_RANK 96       /* most landmarks of a cell */
#define SUBSPACE_TAIL 0.15     /* the largest tail that is wanted */
#define SUBSPACE_TAIL_FEW 0.05 /* the same up to SIMD_WIDTH landmarks, which cost as much as one */
#define SUBSPACE_MANY 32       /* from so many landmarks on a larger one will do: they take memory */
#define SUBSPACE_TAIL_MANY 0.25
#define SUBSPACE_STAGES (SUBSPACE_RANK / SIMD_WIDTH)
#define SUBSPACE_STAGE 0.8  /* the largest tail that makes of so many landmarks a stage */
#define SUBSPACE_COARSE 0.5 /* the largest tail that coarse landmarks leave */

typedef struct {
    const kernel *kern; /* borrowed, like the next two */
    const metric_points *points;
    const cells *order;
    const float *roundoff;                  /* n, by index; borrowed */
    int *rank;                              /* cells */
    size_t *landmark, *inverse_at, *psi_at; /* cells + 1: where each cell starts in what follows */
    int *ids;                               /* landmarks by index, padded to subspace_width by -1 */
    double *x, *v, *gain;                   /* column panels of the landmarks, gain 0 for padding */
    float *inverse;                         /* rank x subspace_width: the transpose of M^-1, row-major */
    float *psi;                             /* panels of the cell x rank x SCREEN_COLS */
    float *tail, *length;                   /* panels x SCREEN_COLS; |u|, upwards */
    /* cells */
    float *stage_tail;    /* cells x SUBSPACE_STAGES: the largest tail after each stage, or after all */
    float *cell_roundoff; /* spread gather */
    float *cell_rounding; /* rounding */
    float *cell_most;     /* the largest roundoff_x */
    float *cell_length;   /* the largest |u| */
    /* the axes of the cells, in column panels, the last one padded: gain 0 for none; cosine and sine of the opening,
     * downwards and upwards, 0 and 1 without an axis */
    double *axis_x, *axis_v, *axis_gain;
    float *axis_cosine, *axis_sine, *axis_roundoff;
} subspaces;

status subspaces_build(const kernel *kern, const metric_points *points, const cells *order, const float *roundoff,
                       int threads, const monitor *mon, subspaces *out);

/* The mean rank on a few cells, or on the first of so many parts of each, before anything is built; and its
 * share of the points. Negative without memory. */
double subspaces_sample_rank(const kernel *kern, const metric_points *points, const cells *order, int parts,
                             double *share);

/* How many cells the panels of axes hold, padding included. */
static inline size_t subspace_axes(const cells *order)
{
    size_t cols = simd->cols;
    return (order->count + cols - 1) / cols * cols;
}

/* Length of a row of psi: the rank, padded. */
static inline int subspace_width(const subspaces *s, int cell)
{
    return (s->rank[cell] + SIMD_WIDTH - 1) / SIMD_WIDTH * SIMD_WIDTH;
}

/* Coordinates of the point at a place of a cell, SCREEN_COLS apart. */
static inline const float *subspace_psi(const subspaces *s, int cell, int place)
{
    return s->psi + s->psi_at[cell] + (size_t)(place / SCREEN_COLS) * s->rank[cell] * SCREEN_COLS + place % SCREEN_COLS;
}

/* The largest tail with the first `to` landmarks, a multiple of SIMD_WIDTH; 0 where a cell has none, because
 * all of its points have vanished. */
static inline float subspace_stage_tail(const subspaces *s, int cell, int to)
{
    return s->stage_tail[cell * SUBSPACE_STAGES + (to ? to / SIMD_WIDTH - 1 : 0)];
}

/* Where the stage ends that starts with landmark `from`. */
static inline int subspace_stage(const subspaces *s, int cell, int from)
{
    int to = from + SIMD_WIDTH;
    while (subspace_stage_tail(s, cell, to) > SUBSPACE_STAGE && to < subspace_width(s, cell))
        to += SIMD_WIDTH;
    return to;
}

/* As many landmarks come first from cell to cell: those that leave no tail above SUBSPACE_COARSE, or all. */
static inline int subspace_coarse(const subspaces *s, int cell)
{
    int to = SIMD_WIDTH;
    while (subspace_stage_tail(s, cell, to) > SUBSPACE_COARSE && to < s->rank[cell])
        to += SIMD_WIDTH;
    return to < s->rank[cell] ? to : s->rank[cell];
}

/* Errors of a query with a cell: of the length of its psi, and of an inner product. */
static inline float subspace_psi_error(const subspaces *s, int cell, float roundoff)
{
    return 1.001f * (s->cell_roundoff[cell] * roundoff + s->cell_rounding[cell]);
}

static inline float subspace_pair_error(const subspaces *s, int cell, float roundoff)
{
    float most = s->cell_most[cell];
    float error =
        subspace_psi_error(s, cell, roundoff) + s->cell_roundoff[cell] * most + ldexpf(s->rank[cell] + 4, -23);
    return 1.1f * error + roundoff * most;
}

/* The tail of a query, upwards, from its length and its computed |psi|^2. */
static inline float subspace_tail(const subspaces *s, int cell, float roundoff, float length, float psi2)
{
    float tail2 = length * length + 1e-4f - psi2 + 2.0f * subspace_psi_error(s, cell, roundoff);
    return tail2 > 0.0f ? sqrtf(tail2) : 0.0f;
}

/* Coordinates `from` to `to` - 1 in the span of a cell's landmarks of `count` points, given by pointers and
 * their 1 / sqrt(p): psi (count x subspace_width). `room`, as large as psi, holds correlations with the
 * landmarks, those before `from` from an earlier call; `rows` has `count` pointers. Both ends are multiples
 * of SIMD_WIDTH. */
void subspaces_project(const subspaces *s, int cell, int from, int to, int count, const double *const *x,
                       const double *const *v, const double *gain, const float **rows, float *room, float *psi);

#endif

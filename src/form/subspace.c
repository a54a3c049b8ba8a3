#include "form/subspace.h"

#include "base/linalg.h"
#include "base/pace.h"
#include "base/scratch.h"
#include "base/threads.h"

#include <string.h>

#define ROWS_AT_ONCE 8 /* of correlations */
#define SAMPLE 5       /* cells that show what ranks are like, */
#define SAMPLE_SHARE 8 /* but at most one of so many */

/* Scratch of one thread, and what it has found of one cell. */
typedef struct {
    const int *ids; /* of a cell, or of a part of one */
    int number;
    double *x, *v;                 /* these points as column panels */
    double *gain, *square;         /* CELLS_MOST: 1 / sqrt(p), |u|^2 */
    double *rows;                  /* CELLS_MOST x CELLS_MOST: correlations of some points with all */
    int count, row_of[CELLS_MOST]; /* how many; where the row of a point stands, -1 for none */
    double *tile;                  /* ROWS_AT_ONCE x SIMD_MAX_COLS */
    linalg_pivoted factor;         /* of their products: what is left are squared tails */
    double *inverse;               /* SUBSPACE_RANK^2 */
    int pivot[SUBSPACE_RANK];
    double stage_left[SUBSPACE_STAGES]; /* the largest squared tail after each stage but the last */
} builder;

static void builder_free(builder *b)
{
    SCRATCH_FREE(b->x, b->v, b->gain, b->square, b->rows, b->tile, b->factor.factor, b->factor.left, b->inverse);
}

static int builder_new(int d, int m, builder *b)
{
    size_t room = CELLS_MOST + SIMD_MAX_COLS;
    memset(b, 0, sizeof(*b));
    b->factor = (linalg_pivoted){.stride = CELLS_MOST, .pivot = b->pivot};
    return SCRATCH_ALL(SCRATCH_FOR(b->x, room * d), SCRATCH_FOR(b->v, room * m), SCRATCH_FOR(b->gain, room),
                       SCRATCH_FOR(b->square, room), SCRATCH_FOR(b->rows, room * CELLS_MOST),
                       SCRATCH_FOR(b->tile, ROWS_AT_ONCE * SIMD_MAX_COLS),
                       SCRATCH_FOR(b->factor.factor, (size_t)SUBSPACE_RANK * CELLS_MOST),
                       SCRATCH_FOR(b->factor.left, CELLS_MOST),
                       SCRATCH_FOR(b->inverse, (size_t)SUBSPACE_RANK * SUBSPACE_RANK));
}

/* Points that are close together, with no rows yet. */
static void set_points(const kernel *kern, const metric_points *points, const int *ids, int number, builder *b)
{
    b->ids = ids;
    b->number = number;
    simd->pack_rows(points->d, simd->cols, number, points->x, ids, b->x);
    simd->pack_rows(points->m, simd->cols, number, points->v, ids, b->v);
    for (int i = 0; i < number; i++) {
        double gain = points->gain[ids[i]], explained;
        simd->dot_list(points->m, points->v + (size_t)ids[i] * points->m, points->v, ids + i, 1, &explained);
        b->gain[i] = gain;
        b->square[i] = fmin(fmax((kern->variance - explained) * gain * gain, 0.0), 1.0);
    }
    memset(b->row_of, 0xff, sizeof(b->row_of));
    b->count = 0;
}

/* The correlations of a pivot with all points. Rows come in tiles: in what is left of it
 * stand those of points that may be pivots soon, the ones of other panels with the largest tails. */
static const double *row_of(const metric_points *points, const radial *rad, double wanted, int pivot, builder *b)
{
    int count = b->number, d = points->d, m = points->m, cols = simd->cols, chosen[ROWS_AT_ONCE], number = 1;
    const double *left = b->factor.left, *x[ROWS_AT_ONCE], *v[ROWS_AT_ONCE];
    if (b->row_of[pivot] >= 0)
        return b->rows + (size_t)b->row_of[pivot] * CELLS_MOST;
    chosen[0] = pivot;
    for (int start = 0; start < count; start += SCREEN_COLS) {
        int best = -1, end = start + SCREEN_COLS < count ? start + SCREEN_COLS : count;
        if (pivot / SCREEN_COLS == start / SCREEN_COLS)
            continue;
        for (int i = start; i < end; i++)
            if (b->row_of[i] < 0 && left[i] > wanted && (best < 0 || left[i] > left[best]))
                best = i;
        if (best < 0)
            continue;
        int at = number < ROWS_AT_ONCE ? number++ : ROWS_AT_ONCE;
        for (; at > 1 && left[chosen[at - 1]] < left[best]; at--)
            if (at < ROWS_AT_ONCE)
                chosen[at] = chosen[at - 1];
        if (at < ROWS_AT_ONCE)
            chosen[at] = best;
    }
    for (int r = 0; r < number; r++) {
        size_t id = b->ids[chosen[r]];
        x[r] = points->x + id * d;
        v[r] = points->v + id * m;
        b->row_of[chosen[r]] = b->count + r;
    }
    for (int j = 0; j < count; j += cols) {
        simd->residual_rows(rad, d, number, x, b->x + (size_t)j * d, m, v, b->v + (size_t)j * m, b->tile);
        for (int r = 0; r < number; r++)
            for (int q = 0; q < cols && j + q < count; q++)
                b->rows[(size_t)(b->count + r) * CELLS_MOST + j + q] =
                    b->tile[r * cols + q] * (b->gain[chosen[r]] * b->gain[j + q]);
    }
    b->count += number;
    return b->rows + (size_t)b->row_of[pivot] * CELLS_MOST;
}

/* Pivoted Cholesky factor of all their products; returns the rank, at least 1 where not all of them have
 * vanished. */
static int choose(const metric_points *points, const radial *rad, double ridge, builder *b)
{
    linalg_pivoted *f = &b->factor;
    f->count = b->number;
    for (int i = 0; i < f->count; i++)
        f->left[i] = b->gain[i] > 0.0 ? b->square[i] : -1.0;
    for (f->rank = 0; f->rank < SUBSPACE_RANK;) {
        int s = f->rank, pivot = linalg_pivoted_next(f);
        double wanted = s < SIMD_WIDTH ? SUBSPACE_TAIL_FEW : s < SUBSPACE_MANY ? SUBSPACE_TAIL : SUBSPACE_TAIL_MANY;
        wanted *= wanted;
        if (f->left[pivot] <= wanted && (s || f->left[pivot] < 0.0))
            break;
        if (s && s % SIMD_WIDTH == 0)
            b->stage_left[s / SIMD_WIDTH - 1] = f->left[pivot];
        linalg_pivoted_add(f, pivot, row_of(points, rad, wanted, pivot, b), b->square[pivot] + ridge);
    }
    return f->rank;
}

/* A tail, upwards, from its computed square and the roundoff of its point. */
static float tail_of(const subspaces *s, int c, double spread, double left, double roundoff)
{
    int rank = s->rank[c];
    double error = s->cell_roundoff[c] * roundoff + ldexp(1.0, -23) + ldexp(rank * (rank + 10.0), -52) * spread;
    return (float)(sqrt(fmax(left, 0.0) + roundoff * roundoff + 2.0 * error) * (1.0 + ldexp(1.0, -20)));
}

/* What is kept of a cell until all are known: pivots, M^-1, psi and which pivot is the axis. */
typedef struct {
    int *pivot, axis; /* -1 for none */
    float *inverse, *psi;
} found;

/* The axis of a cell: of its landmarks the one whose smallest |rho| with a point is largest, which that |rho| tells of
 * the opening. */
static int set_axis(subspaces *s, int c, int rank, const builder *b)
{
    const int *ids = b->ids;
    double most = 0.0;
    int axis = -1;
    for (int r = 0; r < rank; r++) {
        int pivot = b->pivot[r];
        const double *rho = b->rows + (size_t)b->row_of[pivot] * CELLS_MOST;
        double least = 1.0, roundoff = s->roundoff[ids[pivot]];
        for (int i = 0; i < b->number; i++)
            if (i != pivot && b->gain[i] > 0.0)
                least = fmin(least, fabs(rho[i]) - roundoff * s->roundoff[ids[i]]);
        axis = axis < 0 || least > most ? r : axis;
        most = fmax(least, most);
    }
    s->axis_gain[c] = axis < 0 ? 0.0 : b->gain[b->pivot[axis]];
    s->axis_roundoff[c] = axis < 0 ? 0.0f : s->roundoff[ids[b->pivot[axis]]];
    s->axis_cosine[c] = (float)(most * (1.0 - 1e-6));
    s->axis_sine[c] = (float)(sqrt(1.0 - most * most) * (1.0 + 1e-6));
    return axis;
}

/* The places of the axes, when all are known. */
static int gather_axes(subspaces *s, const found *parts)
{
    size_t axes = subspace_axes(s->order);
    int *ids = scratch_alloc(axes + 1, sizeof(int));
    if (!ids)
        return 0;
    for (size_t c = 0; c < axes; c++) {
        int there = c < (size_t)s->order->count;
        ids[c] = there && parts[c].axis >= 0 ? s->ids[s->landmark[c] + parts[c].axis] : 0;
        if (there)
            continue;
        s->axis_gain[c] = 0.0;
        s->axis_roundoff[c] = s->axis_cosine[c] = 0.0f;
        s->axis_sine[c] = 1.0f;
    }
    simd->pack_rows(s->points->d, simd->cols, axes, s->points->x, ids, s->axis_x);
    simd->pack_rows(s->points->m, simd->cols, axes, s->points->v, ids, s->axis_v);
    scratch_free(ids);
    return 1;
}

static int build_cell(subspaces *s, int c, const radial *rad, builder *b, found *out)
{
    const cells *order = s->order;
    int first = order->first[c], count = order->first[c + 1] - first, panels = order->panel[c + 1] - order->panel[c];
    double most = 0.0, up = 1.0 + ldexp(1.0, -20), unit = ldexp(1.0, -24), gather = 0.0;
    float cell_tail = 0.0f;
    for (int i = 0; i < count; i++)
        most = fmax(most, s->roundoff[order->perm[first + i]]);
    set_points(s->kern, s->points, order->perm + first, count, b);
    int rank = choose(s->points, rad, SUBSPACE_RANK * most * most + 1e-10, b);
    double spread = linalg_pivoted_inverse(&b->factor, b->inverse);
    for (int r = 0; r < rank; r++) {
        double roundoff = s->roundoff[order->perm[first + b->pivot[r]]];
        gather += roundoff * roundoff;
    }
    s->rank[c] = rank;
    s->cell_length[c] = 1e-6f;
    s->cell_most[c] = (float)(most * up);
    s->cell_roundoff[c] = (float)(spread * sqrt(gather) * up);
    s->cell_rounding[c] = (float)((rank + 4) * unit * spread * sqrt(rank) * up);
    int width = subspace_width(s, c);
    if (!SCRATCH_ALL(SCRATCH_FOR(out->pivot, rank), SCRATCH_FOR(out->inverse, (size_t)rank * width),
                     SCRATCH_FOR(out->psi, (size_t)panels * rank * SCREEN_COLS)))
        return 0;
    out->axis = set_axis(s, c, rank, b);
    memcpy(out->pivot, b->pivot, rank * sizeof(int));
    for (int i = 0; i < rank; i++)
        for (int j = 0; j < width; j++)
            out->inverse[i * width + j] = j < rank ? (float)b->inverse[j * rank + i] : 0.0f;
    for (int i = 0; i < panels * SCREEN_COLS; i++) {
        float *psi = out->psi + (size_t)(i / SCREEN_COLS) * rank * SCREEN_COLS + i % SCREEN_COLS;
        for (int r = 0; r < rank; r++)
            psi[r * SCREEN_COLS] = i < count ? (float)b->factor.factor[(size_t)r * CELLS_MOST + i] : 0.0f;
        float tail = 0.0f, length = 0.0f;
        if (i < count && b->gain[i] > 0.0) {
            tail = tail_of(s, c, spread, b->factor.left[i], s->roundoff[order->perm[first + i]]);
            double roundoff = s->roundoff[order->perm[first + i]];
            length = (float)(sqrt(b->square[i] + roundoff * roundoff) * up);
        }
        s->tail[(size_t)order->panel[c] * SCREEN_COLS + i] = tail;
        s->length[(size_t)order->panel[c] * SCREEN_COLS + i] = length;
        cell_tail = fmaxf(cell_tail, tail);
        s->cell_length[c] = fmaxf(s->cell_length[c], length);
    }
    for (int i = 0; i < SUBSPACE_STAGES; i++)
        s->stage_tail[c * SUBSPACE_STAGES + i] =
            (i + 1) * SIMD_WIDTH >= rank ? cell_tail : tail_of(s, c, spread, b->stage_left[i], most);
    return 1;
}

/* Room for everything, now that the ranks are known. */
static int gather_found(subspaces *s, const found *parts)
{
    const cells *order = s->order;
    const metric_points *points = s->points;
    int count = order->count, d = points->d, m = points->m;
    s->landmark[0] = s->inverse_at[0] = s->psi_at[0] = 0;
    for (int c = 0; c < count; c++) {
        size_t rank = s->rank[c], width = subspace_width(s, c);
        s->landmark[c + 1] = s->landmark[c] + width;
        s->inverse_at[c + 1] = s->inverse_at[c] + rank * width;
        s->psi_at[c + 1] = s->psi_at[c] + (order->panel[c + 1] - order->panel[c]) * rank * SCREEN_COLS;
    }
    size_t landmarks = s->landmark[count];
    if (!SCRATCH_ALL(SCRATCH_FOR(s->ids, landmarks), SCRATCH_FOR(s->x, landmarks * d), SCRATCH_FOR(s->v, landmarks * m),
                     SCRATCH_FOR(s->gain, landmarks), SCRATCH_FOR(s->inverse, s->inverse_at[count]),
                     SCRATCH_FOR(s->psi, s->psi_at[count])))
        return 0;
    for (int c = 0; c < count; c++) {
        int rank = s->rank[c];
        size_t at = s->landmark[c];
        for (int r = 0; r < (int)(s->landmark[c + 1] - at); r++) {
            s->ids[at + r] = r < rank ? order->perm[order->first[c] + parts[c].pivot[r]] : -1;
            s->gain[at + r] = r < rank ? points->gain[s->ids[at + r]] : 0.0;
        }
        size_t packed = (rank + simd->cols - 1) / simd->cols * simd->cols, end = s->landmark[c + 1] - at;
        memset(s->x + (at + packed) * d, 0, (end - packed) * d * sizeof(double));
        memset(s->v + (at + packed) * m, 0, (end - packed) * m * sizeof(double));
        simd->pack_rows(d, simd->cols, rank, points->x, s->ids + at, s->x + at * d);
        simd->pack_rows(m, simd->cols, rank, points->v, s->ids + at, s->v + at * m);
        memcpy(s->inverse + s->inverse_at[c], parts[c].inverse,
               (s->inverse_at[c + 1] - s->inverse_at[c]) * sizeof(float));
        memcpy(s->psi + s->psi_at[c], parts[c].psi, (s->psi_at[c + 1] - s->psi_at[c]) * sizeof(float));
    }
    return 1;
}

status subspaces_build(const kernel *kern, const metric_points *points, const cells *order, const float *roundoff,
                       int threads, const monitor *mon, subspaces *s)
{
    int count = order->count, ok;
    s->kern = kern;
    s->points = points;
    s->order = order;
    s->roundoff = roundoff;
    size_t cells = count, columns = (size_t)order->panels * SCREEN_COLS, axes = subspace_axes(order);
    ok = SCRATCH_ALL(
        SCRATCH_FOR(s->rank, cells), SCRATCH_FOR(s->landmark, cells + 1), SCRATCH_FOR(s->inverse_at, cells + 1),
        SCRATCH_FOR(s->psi_at, cells + 1), SCRATCH_FOR(s->tail, columns), SCRATCH_FOR(s->length, columns),
        SCRATCH_FOR(s->stage_tail, cells * SUBSPACE_STAGES), SCRATCH_FOR(s->cell_roundoff, cells),
        SCRATCH_FOR(s->cell_rounding, cells), SCRATCH_FOR(s->cell_most, cells), SCRATCH_FOR(s->cell_length, cells),
        SCRATCH_FOR(s->axis_x, axes * points->d), SCRATCH_FOR(s->axis_v, axes * points->m),
        SCRATCH_FOR(s->axis_gain, axes), SCRATCH_FOR(s->axis_cosine, axes), SCRATCH_FOR(s->axis_sine, axes),
        SCRATCH_FOR(s->axis_roundoff, axes));
    found *parts = scratch_zeros(count, sizeof(*parts));
    builder *scratch = scratch_zeros(threads, sizeof(*scratch));
    ok = ok && parts && scratch;
    for (int t = 0; t < threads && ok; t++)
        ok = builder_new(points->d, points->m, &scratch[t]);
    pace slice = pace_over(mon, count, threads);
    if (ok) {
        radial rad = kernel_radial(kern);
        while (pace_next(&slice)) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) reduction(&& : ok)
            for (int c = (int)slice.first; c < (int)slice.last; c++)
                ok = build_cell(s, c, &rad, &scratch[threads_id()], &parts[c]) && ok;
        }
        ok = ok && !slice.stopped && gather_found(s, parts) && gather_axes(s, parts);
    }
    for (int t = 0; t < threads && scratch; t++)
        builder_free(&scratch[t]);
    for (int c = 0; c < count && parts; c++) {
        SCRATCH_FREE(parts[c].pivot, parts[c].inverse, parts[c].psi);
    }
    SCRATCH_FREE(scratch, parts);
    return ok || slice.stopped ? pace_end(&slice) : status_fail(STATUS_MEMORY);
}

double subspaces_sample_rank(const kernel *kern, const metric_points *points, const cells *order, int parts,
                             double *share)
{
    builder b;
    radial rad = kernel_radial(kern);
    int tried = 0, sum = 0, number = 0, least = order->count / SAMPLE + 1,
        step = least > SAMPLE_SHARE ? least : SAMPLE_SHARE;
    int ok = builder_new(points->d, points->m, &b);
    for (int c = step / 2 < order->count ? step / 2 : order->count / 2; c < order->count && ok; c += step, tried++) {
        int count = order->first[c + 1] - order->first[c], part = (count + parts - 1) / parts;
        set_points(kern, points, order->perm + order->first[c], part, &b);
        sum += choose(points, &rad, 1e-10, &b);
        number += part;
    }
    builder_free(&b);
    *share = tried ? (double)sum / number : 1.0;
    return !ok ? -1.0 : tried ? (double)sum / tried : SUBSPACE_RANK;
}

void subspaces_project(const subspaces *s, int cell, int from, int to, int count, const double *const *x,
                       const double *const *v, const double *gain, const float **rows, float *room, float *psi)
{
    int d = s->points->d, m = s->points->m, rank = s->rank[cell], width = subspace_width(s, cell);
    const float *inverse = s->inverse + s->inverse_at[cell];
    radial rad = kernel_radial(s->kern);
    size_t at = s->landmark[cell];
    for (int j = from; j < to && j < rank; j += simd->cols)
        simd->correlations(&rad, d, m, count, x, v, gain, s->x + (at + j) * d, s->v + (at + j) * m, s->gain + at + j,
                           room + j, width);
    for (int i = 0; i < count; i++)
        rows[i] = room + (size_t)i * width;
    for (int j = from, next; j < to; j = next) { /* the inverse is triangular */
        next = j + 2 * SIMD_WIDTH < to ? j + 2 * SIMD_WIDTH : to;
        simd->multiply32(count, rows, next < rank ? next : rank, inverse + j, width, next - j, psi + j);
    }
}

/* Landmarks: the form of smooth kernels and dense points (subspace.h has its bounds).
 *
 * Cells are asked in three steps, each for what the one before has left.
 *   skim     queries around a landmark of their cell, and all that they may still want, lie within an angle of it: a
 *            ball. Cells lie in balls too (below), and two balls that are too far apart have nothing for each other.
 *            Angles are those of points with their noise, which are unit vectors
 *   |P b|    the coarse landmarks of the queries' cell and those of another bound the length of all projections
 *   project  a query is projected on the landmarks of a cell, some at a time while it is not done with it, and
 *            intervals are formed with all points of the cell
 *
 * Balls. Points are unit vectors in the Hilbert space of the process, and the angle between the lines that they span,
 * acos |rho|, is a metric. A cell lies in a ball around its axis, the landmark of the smallest opening, which is the
 * largest angle of any of its points to that. So for a point t at an angle of at most A from queries q and from all
 * that they may still want, the cell holds nothing for them if
 *     |rho(t, axis)| < cos(A + opening).
 * This is the bound of a metric tree, for cells. They are too wide for it unless they are small beside the lengthscale,
 * which openings tell before anything is evaluated; where they are, in large data, sums of sizes (bounds.h) are least
 * sharp. Computed correlations are those of a process up to roundoff_x roundoff_y (bounds.h): that comes off the cosine
 * of the opening, and is added to |rho(t, axis)|. */
#include "base/scratch.h"
#include "form/form.h"
#include "form/subspace.h"

#include <string.h>

/* Of rows of numbers by query: not a power of two, for which all of them would share the same places of a cache. */
#define STRIDE (BITSET_SIZE + SIMD_WIDTH)
/* The longest row of psi. */
#define WIDTH ((SUBSPACE_RANK + SIMD_WIDTH - 1) / SIMD_WIDTH * SIMD_WIDTH)
/* Landmarks of a cell that its queries stand around; where so many say enough, they are all that is asked at first, and
 * take one tile. */
#define BALLS 8
#define COST_PAIR 60.0   /* a pair screened, see form.h */
#define LEFT_USUAL 265.0 /* candidates, or what costs as much as they do, where subspaces serve */
#define CAREFUL 1e-5f    /* more than single precision does to the cosine of a sum of angles */
#define CELLS_LEAST 64   /* the smallest number of points of a cell that is tried, at most */
#define RANK_WANTED 50.0 /* mean number of landmarks of a cell: what larger ones save, they cost */
#define RANK_SHARE 0.5   /* of the points of a cell: more landmarks say no more than the points */

static const subspaces *space_of(const point_set *set) { return set->form_data; }

/* A ball of queries: those that a landmark of their cell is nearest to, and the angle from it within which lies all
 * that they may still want, the largest sum of the angle to a query and of the angle of its threshold. */
typedef struct {
    float roundoff;     /* of the landmark */
    float cosine, sine; /* of the angle, downwards and upwards; the cosine may be negative */
    bitset members;
} ball;

/* The queries of a block as combinations of the coarse landmarks of their own cell. */
typedef struct {
    int rank;
    float *weights;                                                        /* rank x STRIDE: b */
    float tail[BITSET_SIZE], size[BITSET_SIZE], roundoff_sum[BITSET_SIZE]; /* tail, |b|_1, sum roundoff |b| */
} combinations;

typedef struct {
    int ready; /* whether what follows of coarse landmarks and balls is that of the block */
    /* rows of a block, of its landmarks, of what is left of it for a cell */
    float *own, *products, *psi; /* rows x width: psi in the own cell, P b, psi */
    combinations coarse;
    float *P;       /* rank x width of another cell */
    float *inverse; /* of the own cell, not transposed */
    const float **rows;
    const double *row_x[BITSET_SIZE], *row_v[BITSET_SIZE]; /* queries that are projected */
    double row_gain[BITSET_SIZE];
    const double *landmark_x[SUBSPACE_RANK], *landmark_v[SUBSPACE_RANK]; /* of the own cell */
    double landmark_gain[SUBSPACE_RANK];
    float *value; /* SCREEN_ROWS x SCREEN_COLS */
    float least[BITSET_SIZE], must[BITSET_SIZE];
    float length[BITSET_SIZE]; /* of the queries */
    /* balls; by query, which one it belongs to, and cosine and sine of the angle between them */
    int balls, ball_of[BITSET_SIZE];
    ball ball[BALLS];
    float ball_cosine[BITSET_SIZE], ball_sine[BITSET_SIZE];
    int panel; /* of axes, the last that was asked, and which balls reach each of its cells */
    uint32_t balls_left[SIMD_MAX_COLS];
    float axis_rho[BALLS * SIMD_MAX_COLS];
} landmarks_work;

/* ---- what is kept ---------------------------------------------------------------------------- */

/* The largest cells whose subspaces are still small: ranks grow with cells, but slower in smooth processes and low
 * dimension, where large cells pay. The parts of large cells stand for smaller ones. A set of more points has no
 * smaller rank, so what small cells need shows at once where landmarks serve none. */
static status divide(const metric_source *source, const metric_points *points, int threads, cells *order)
{
    int most = 0;
    status result = cells_build(points->d, points->n, points->x, CELLS_MOST, INFINITY, threads, order);
    for (int size = CELLS_LEAST; size <= CELLS_MOST && !result.code; size *= 2) {
        double share, rank = subspaces_sample_rank(source->kern, points, order, CELLS_MOST / size, &share);
        if (rank < 0.0)
            result = status_fail(STATUS_MEMORY);
        else if (rank <= RANK_WANTED && share <= RANK_SHARE)
            most = size;
        else if (size > CELLS_LEAST)
            break;
    }
    if (most == CELLS_MOST && !result.code)
        return result;
    cells_free(order);
    return most && !result.code ? cells_build(points->d, points->n, points->x, most, INFINITY, threads, order) : result;
}

static status build(const metric_source *source, const point_set *like, int threads, const monitor *mon, point_set *set)
{
    (void)like;
    return subspaces_build(source->kern, set->points, &set->order, set->bound.roundoff, threads, mon, set->form_data);
}

static void fields(point_set *set, field_visitor *walk)
{
    subspaces *s = set->form_data;
    size_t count = set->order.count, d = set->points->d, m = set->points->m,
           columns = (size_t)set->order.panels * SCREEN_COLS, axes = subspace_axes(&set->order);
    s->kern = set->bound.kern;
    s->points = set->points;
    s->order = &set->order;
    s->roundoff = set->bound.roundoff;
    walk->visit(walk, "subspace.rank", &s->rank, count * sizeof(int));
    walk->visit(walk, "subspace.landmark", &s->landmark, (count + 1) * sizeof(size_t));
    walk->visit(walk, "subspace.inverse_at", &s->inverse_at, (count + 1) * sizeof(size_t));
    walk->visit(walk, "subspace.psi_at", &s->psi_at, (count + 1) * sizeof(size_t));
    if (!s->landmark || (walk->end && (walk->beyond || s->landmark[count] > walk->end ||
                                       s->inverse_at[count] > walk->end || s->psi_at[count] > walk->end))) {
        walk->beyond = 1;
        return;
    }
    walk->visit(walk, "subspace.ids", &s->ids, s->landmark[count] * sizeof(int));
    walk->visit(walk, "subspace.x", &s->x, s->landmark[count] * d * sizeof(double));
    walk->visit(walk, "subspace.v", &s->v, s->landmark[count] * m * sizeof(double));
    walk->visit(walk, "subspace.gain", &s->gain, s->landmark[count] * sizeof(double));
    walk->visit(walk, "subspace.inverse", &s->inverse, s->inverse_at[count] * sizeof(float));
    walk->visit(walk, "subspace.psi", &s->psi, s->psi_at[count] * sizeof(float));
    walk->visit(walk, "subspace.tail", &s->tail, columns * sizeof(float));
    walk->visit(walk, "subspace.length", &s->length, columns * sizeof(float));
    walk->visit(walk, "subspace.stage_tail", &s->stage_tail, count * SUBSPACE_STAGES * sizeof(float));
    walk->visit(walk, "subspace.cell_roundoff", &s->cell_roundoff, count * sizeof(float));
    walk->visit(walk, "subspace.cell_rounding", &s->cell_rounding, count * sizeof(float));
    walk->visit(walk, "subspace.cell_most", &s->cell_most, count * sizeof(float));
    walk->visit(walk, "subspace.cell_length", &s->cell_length, count * sizeof(float));
    walk->visit(walk, "axis.x", &s->axis_x, axes * d * sizeof(double));
    walk->visit(walk, "axis.v", &s->axis_v, axes * m * sizeof(double));
    walk->visit(walk, "axis.gain", &s->axis_gain, axes * sizeof(double));
    walk->visit(walk, "axis.cosine", &s->axis_cosine, axes * sizeof(float));
    walk->visit(walk, "axis.sine", &s->axis_sine, axes * sizeof(float));
    walk->visit(walk, "axis.roundoff", &s->axis_roundoff, axes * sizeof(float));
}

/* ---- workspace ------------------------------------------------------------------------------- */

static void *work_new(const form_sides *on)
{
    landmarks_work w = {0};
    size_t room = (size_t)BITSET_SIZE * WIDTH;
    (void)on;
    return SCRATCH_WHOLE(w, SCRATCH_FOR(w.own, room), SCRATCH_FOR(w.products, room), SCRATCH_FOR(w.psi, room),
                         SCRATCH_FOR(w.coarse.weights, SUBSPACE_RANK * STRIDE), SCRATCH_FOR(w.P, SUBSPACE_RANK * WIDTH),
                         SCRATCH_FOR(w.inverse, SUBSPACE_RANK * WIDTH), SCRATCH_FOR(w.rows, BITSET_SIZE),
                         SCRATCH_FOR(w.value, SCREEN_ROWS * SCREEN_COLS));
}

/* ---- the block in its own cell ----------------------------------------------------------------- */

/* The coordinates of the queries in the span of the landmarks of their own cell. */
static void begin(const form_sides *on, const block *b, void *work)
{
    landmarks_work *w = work;
    const subspaces *space = space_of(on->from);
    int cell = b->cell, rank = space->rank[cell], width = subspace_width(space, cell);
    int first = on->from->order.panel[cell] * SCREEN_COLS;
    for (int q = 0; q < b->count; q++) {
        const float *source = subspace_psi(space, cell, b->column[q] - first);
        float *own = w->own + (size_t)q * width;
        for (int r = 0; r < rank; r++)
            own[r] = source[r * SCREEN_COLS];
        w->length[q] = space->length[b->column[q]];
    }
    w->ready = 0;
}

/* What the coarse landmarks of their own cell say of the queries. */
static void set_coarse(landmarks_work *w, const subspaces *space, const block *b)
{
    combinations *out = &w->coarse;
    const int *ids = space->ids + space->landmark[b->cell];
    int rank = out->rank = subspace_coarse(space, b->cell), all = space->rank[b->cell],
        stride = subspace_width(space, b->cell);
    for (int q = 0; q < b->count; q++)
        w->rows[q] = w->own + (size_t)q * stride;
    simd->multiply32(b->count, w->rows, rank, w->inverse, stride, (rank + SIMD_WIDTH - 1) / SIMD_WIDTH * SIMD_WIDTH,
                     w->products);
    for (int r = 0; r < rank; r++)
        for (int q = 0; q < b->count; q++)
            out->weights[r * STRIDE + q] = w->products[(size_t)q * stride + r];
    for (int q = 0; q < b->count; q++) {
        const float *weight = w->products + (size_t)q * stride;
        float size = 0.0f, roundoff_sum = 0.0f, rest = space->tail[b->column[q]];
        for (int r = 0; r < rank; r++) {
            size += fabsf(weight[r]);
            roundoff_sum += fabsf(weight[r]) * space->roundoff[ids[r]];
        }
        rest *= rest;
        for (int r = rank; r < all; r++)
            rest += w->rows[q][r] * w->rows[q][r];
        out->size[q] = size * 1.0001f;
        out->roundoff_sum[q] = roundoff_sum * 1.0001f;
        out->tail[q] = sqrtf(rest) * 1.0001f;
    }
}

/* ---- balls of queries -------------------------------------------------------------------------- */

static float between(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

/* The coordinates of the first landmarks of the queries' cell, a column for each, and their tails; returns how many. */
static int gather_landmarks(const point_set *from, int cell, float *psi, float *tails)
{
    const subspaces *space = space_of(from);
    int rank = space->rank[cell], count = rank < BALLS ? rank : BALLS, first = from->order.panel[cell] * SCREEN_COLS;
    for (int c = 0; c < count; c++) {
        int column = from->order.column[space->ids[space->landmark[cell] + c]];
        const float *of = subspace_psi(space, cell, column - first);
        for (int r = 0; r < rank; r++)
            psi[r * SIMD_WIDTH + c] = of[r * SCREEN_COLS];
        tails[c] = space->tail[column];
    }
    return count;
}

/* Which landmark of their own cell each query is nearest to; rows are the queries' in that cell. */
static void set_balls(landmarks_work *w, const point_set *from, const block *b)
{
    const subspaces *space = space_of(from);
    int cell = b->cell, rank = space->rank[cell];
    float psi[SUBSPACE_RANK * SIMD_WIDTH] = {0.0f}, tails[BALLS];
    int count = gather_landmarks(from, cell, psi, tails);
    w->balls = count;
    if (!count) /* all points have vanished: nor are there active queries */
        return;
    for (int c = 0; c < count; c++)
        w->ball[c] = (ball){.roundoff = space->roundoff[space->ids[space->landmark[cell] + c]]};
    simd->multiply32(b->count, w->rows, rank, psi, SIMD_WIDTH, SIMD_WIDTH, w->products);
    for (int q = 0; q < b->count; q++) {
        const float *rho = w->products + (size_t)q * SIMD_WIDTH;
        int nearest = 0;
        float most = fabsf(rho[0]);
        for (int c = 1; c < count; c++) {
            float size = fabsf(rho[c]);
            nearest = size > most ? c : nearest;
            most = size > most ? size : most;
        }
        float error = subspace_pair_error(space, cell, b->roundoff[q]) + tails[nearest] * space->tail[b->column[q]] +
                      CAREFUL,
              cosine = between(most - error, 0.0f, 1.0f);
        w->ball_of[q] = nearest;
        w->ball_cosine[q] = cosine;
        w->ball_sine[q] = sqrtf(1.0f - cosine * cosine);
        bitset_add(&w->ball[nearest].members, q);
    }
}

/* Their angles by the present thresholds. */
static void draw_balls(landmarks_work *w, const form_sides *on, const block *b)
{
    float most_roundoff = (float)on->points->bound.most_roundoff * 1.001f;
    for (int c = 0; c < w->balls; c++)
        w->ball[c].cosine = INFINITY; /* nothing is wanted: none of its queries is left, or it has none */
    for (int q = 0; q < b->count && w->balls; q++) {
        if (b->tau[q] == INFINITY)
            continue;
        float tau = between(b->tau[q] - b->roundoff[q] * most_roundoff - CAREFUL, 0.0f, 1.0f),
              sine = sqrtf(1.0f - tau * tau), cosine = w->ball_cosine[q] * tau - w->ball_sine[q] * sine,
              *least = &w->ball[w->ball_of[q]].cosine;
        *least = cosine < *least ? cosine : *least;
    }
    for (int c = 0; c < w->balls; c++) {
        float cosine = w->ball[c].cosine - CAREFUL;
        w->ball[c].cosine = cosine;
        w->ball[c].sine = sqrtf(between(1.0f - cosine * cosine, 0.0f, 1.0f)) + CAREFUL;
    }
}

/* The angle bound of two balls. Which balls of queries reach the points within an angle, given by cosine and sine, of
 * an axis or a space: near[c] is at least the cosine of the angle between it and the landmark of ball c. Of a space,
 * the length of the landmark's projection, without its noise, will do, and the sine is that of tails: by the subspace
 * bound, all lengths taken for 1, no |rho| of the landmark and the points exceeds the cosine of the difference of the
 * two angles. */
static uint32_t balls_reaching(const landmarks_work *w, const float *near, float cosine, float sine)
{
    uint32_t reach = 0;
    for (int c = 0; c < w->balls; c++) {
        int beyond = near[c] + CAREFUL < cosine * w->ball[c].cosine - sine * w->ball[c].sine;
        reach |= (uint32_t)!beyond << c;
    }
    return reach;
}

static bitset members_of(const landmarks_work *w, uint32_t some)
{
    bitset all = {{0}};
    for (; some; some &= some - 1)
        for (int i = 0; i < BITSET_WORDS; i++)
            all.word[i] |= w->ball[__builtin_ctz(some)].members.word[i];
    return all;
}

/* Combinations and balls of a block that meets more than a few cells. */
static void prepare(landmarks_work *w, const form_sides *on, const block *b)
{
    const metric_points *from = on->from->points;
    const subspaces *space = space_of(on->from);
    int cell = b->cell, rank = space->rank[cell], width = subspace_width(space, cell);
    const int *ids = space->ids + space->landmark[cell];
    if (w->ready)
        return;
    for (int r = 0; r < rank; r++) {
        w->landmark_x[r] = from->x + (size_t)ids[r] * from->d;
        w->landmark_v[r] = from->v + (size_t)ids[r] * from->m;
        w->landmark_gain[r] = from->gain[ids[r]];
    }
    const float *inverse = space->inverse + space->inverse_at[cell];
    for (int i = 0; i < rank; i++)
        for (int j = 0; j < width; j++)
            w->inverse[i * width + j] = j < rank ? inverse[j * width + i] : 0.0f;
    set_coarse(w, space, b);
    set_balls(w, on->from, b);
    draw_balls(w, on, b);
    w->panel = -1;
    w->ready = 1;
}

/* For each cell of a panel of axes, which balls reach it. */
static void ask_axes(landmarks_work *w, const form_sides *on, int panel, query_counters *counters)
{
    const subspaces *space = space_of(on->points);
    const metric_points *points = on->points->points;
    int cols = simd->cols, some = 0;
    size_t first = (size_t)panel * cols;
    const float *cosine = space->axis_cosine + first, *sine = space->axis_sine + first;
    float near[BALLS] = {0.0f};
    uint32_t all = (UINT32_C(1) << w->balls) - 1;
    w->panel = panel;
    for (int j = 0; j < cols; j++) {
        w->balls_left[j] = balls_reaching(w, near, cosine[j], sine[j]);
        some |= w->balls_left[j] != all;
    }
    if (!some) /* whatever the correlations are */
        return;
    radial rad = kernel_radial(on->kern);
    simd->correlations(&rad, points->d, points->m, w->balls, w->landmark_x, w->landmark_v, w->landmark_gain,
                       space->axis_x + first * points->d, space->axis_v + first * points->m, space->axis_gain + first,
                       w->axis_rho, cols);
    counters->correlations += w->balls * cols;
    for (int j = 0; j < cols; j++) {
        for (int c = 0; c < w->balls; c++)
            near[c] = fabsf(w->axis_rho[c * cols + j]) + 1.001f * w->ball[c].roundoff * space->axis_roundoff[first + j];
        w->balls_left[j] = balls_reaching(w, near, cosine[j], sine[j]);
    }
}

static uint32_t skim(const form_sides *on, const block *b, int cell, query_counters *c, void *work)
{
    landmarks_work *w = work;
    prepare(w, on, b);
    if (cell / simd->cols != w->panel)
        ask_axes(w, on, cell / simd->cols, c);
    return w->balls_left[cell % simd->cols];
}

/* ---- cell to cell ------------------------------------------------------------------------------ */

/* For each query of the block the smallest |psi| in the first `to` landmarks of a cell at which it is not done
 * with it; and the smallest |P b|, which counts where combinations are those of the block. */
static void set_limits(landmarks_work *w, const subspaces *space, const block *b, int cell, int to)
{
    const combinations *own = &w->coarse;
    float length = space->cell_length[cell], tail = subspace_stage_tail(space, cell, to) / length,
          rounding = space->cell_rounding[cell], most = space->cell_most[cell];
    simd_skip_cell skip = {
        .roundoff = space->cell_roundoff[cell],
        .rounding = rounding,
        .most = most,
        .dot = ldexpf(space->rank[cell] + 4, -23),
        .product = rounding + ldexpf(own->rank + 4, -24),
        .length = length,
        .cosine = tail < 1.0f ? sqrtf(1.0f - tail * tail) * 0.99999f : 0.0f,
        .sine = tail < 1.0f ? tail : 1.0f,
    };
    simd_skip queries = {b->tau, b->roundoff, w->length, own->tail, own->size, own->roundoff_sum};
    simd->skip_lengths(b->count, &queries, &skip, w->must, w->least);
}

/* Clears the queries that are done with a cell by |P b|, from the landmarks of their own cell and of this one. */
static void ask_landmarks(landmarks_work *w, const subspaces *space, const block *b, int cell, bitset *alive,
                          query_counters *counters)
{
    const combinations *own = &w->coarse;
    int to = (subspace_coarse(space, cell) + SIMD_WIDTH - 1) / SIMD_WIDTH * SIMD_WIDTH, count = bitset_count(alive);
    subspaces_project(space, cell, 0, to, own->rank, w->landmark_x, w->landmark_v, w->landmark_gain, w->rows,
                      w->products, w->P);
    set_limits(w, space, b, cell, to);
    simd->drop_short(b->count, own->rank, own->weights, STRIDE, w->P, subspace_width(space, cell), to, w->least,
                     alive->word);
    counters->correlations += (double)subspace_coarse(space, cell) * own->rank;
    counters->bounds += count;
    counters->pruned += count - bitset_count(alive);
}

/* ---- query to points --------------------------------------------------------------------------- */

/* Intervals of some queries with all points of a cell. Each has its psi, tail and error. */
static void screen_rows(landmarks_work *w, const form_sides *on, const block *b, int cell, int count,
                        const int *members, const float *tails, const float *errors, form_sink *sink)
{
    const subspaces *space = space_of(on->points);
    const cells *order = &on->points->order;
    int rank = space->rank[cell], first = order->panel[cell], panels = order->panel[cell + 1] - first,
        own = form_is_own(on, b, cell);
    static const float none[SCREEN_COLS];
    const float *rows[SCREEN_ROWS], *psi_of_cell = space->psi + space->psi_at[cell];
    float row_tail[SCREEN_ROWS], limit[SCREEN_ROWS];
    uint32_t mask[SCREEN_ROWS];
    for (int i = 0; i < count; i += SCREEN_ROWS) {
        int filled = count - i < SCREEN_ROWS ? count - i : SCREEN_ROWS;
        for (int a = 0; a < SCREEN_ROWS; a++) {
            int at = a < filled ? i + a : i;
            rows[a] = w->rows[at];
            row_tail[a] = tails[at];
            limit[a] = a < filled ? b->tau[members[at]] - errors[at] : INFINITY;
        }
        int start = own ? b->column[members[i]] / SCREEN_COLS - first : 0;
        for (int step = 0; step < panels; step++) {
            int p = form_nth_nearest(start, step, panels), panel = first + p;
            if (order->least[panel] >= b->most_limit)
                continue;
            const float *columns = psi_of_cell + (size_t)p * rank * SCREEN_COLS;
            const float *tail = space->tail + (size_t)panel * SCREEN_COLS;
            simd->subspace_tile(rank, rows, row_tail, limit, columns, tail, w->value, mask);
            sink->counters->screened += (double)filled * SCREEN_COLS;
            for (int a = 0; a < filled; a++)
                if (mask[a]) {
                    simd_interval_row row = {.value = w->value + a * SCREEN_COLS,
                                             .norm = tail,
                                             .slope = row_tail[a],
                                             .error = none,
                                             .base = errors[i + a]};
                    sink->keep(sink, members[i + a], order->ids + (size_t)panel * SCREEN_COLS, mask[a], &row);
                    limit[a] = b->tau[members[i + a]] - errors[i + a];
                }
        }
    }
}

/* The queries' own cell, where psi and tails are those of its points. */
static void screen_own(landmarks_work *w, const form_sides *on, const block *b, form_sink *sink)
{
    const subspaces *space = space_of(on->points);
    int members[BITSET_SIZE], count = bitset_members(&b->active, members);
    int width = subspace_width(space, b->cell);
    float errors[BITSET_SIZE], tails[BITSET_SIZE];
    for (int i = 0; i < count; i++) {
        errors[i] = subspace_pair_error(space, b->cell, b->roundoff[members[i]]);
        tails[i] = space->tail[b->column[members[i]]];
        w->rows[i] = w->own + (size_t)members[i] * width;
    }
    screen_rows(w, on, b, b->cell, count, members, tails, errors, sink);
}

/* Projects `count` queries on landmarks `from` to `to` - 1 of a cell and keeps, in place, those that are not
 * done with it then; `lengths` are |psi|^2 so far. Returns how many. */
static int project(landmarks_work *w, const subspaces *space, const block *b, int cell, int from, int to, int count,
                   int *members, float *lengths, query_counters *counters)
{
    int width = subspace_width(space, cell), left = 0;
    int last = to < space->rank[cell] ? to : space->rank[cell];
    float found[BITSET_SIZE];
    subspaces_project(space, cell, from, to, count, w->row_x, w->row_v, w->row_gain, w->rows, w->products, w->psi);
    simd->squared_lengths(count, width, to - from, w->psi + from, found);
    set_limits(w, space, b, cell, to);
    counters->correlations += (double)(last - from) * count;
    counters->bounds += count;
    for (int i = 0; i < count; i++) {
        int q = members[i];
        float length = lengths[i] + found[i];
        if (length * 1.0001f < w->must[q] * w->must[q])
            continue;
        lengths[left] = length;
        members[left] = q;
        if (left < i) {
            w->row_x[left] = w->row_x[i];
            w->row_v[left] = w->row_v[i];
            w->row_gain[left] = w->row_gain[i];
            memcpy(w->psi + (size_t)left * width, w->psi + (size_t)i * width, to * sizeof(float));
            memcpy(w->products + (size_t)left * width, w->products + (size_t)i * width, to * sizeof(float));
        }
        left++;
    }
    counters->pruned += count - left;
    return left;
}

/* The queries of a cell of the frontier that balls and landmarks leave; others are taken as they come. */
static int take(landmarks_work *w, const form_sides *on, const block *b, const frontier_cell *item, int *members,
                query_counters *counters)
{
    const metric_points *from = on->from->points;
    bitset alive = item->alive;
    if (item->parts) {
        bitset reached = members_of(w, item->parts);
        bitset_keep(&alive, &reached);
        if (bitset_count(&alive) > w->coarse.rank) /* few queries: they are near */
            ask_landmarks(w, space_of(on->points), b, item->cell, &alive, counters);
    }
    int count = bitset_members(&alive, members);
    for (int i = 0; i < count; i++) {
        int row = b->row[members[i]];
        w->row_x[i] = from->x + (size_t)row * from->d;
        w->row_v[i] = from->v + (size_t)row * from->m;
        w->row_gain[i] = from->gain[row];
    }
    return count;
}

static void screen(const form_sides *on, const block *b, const frontier_cell *item, form_sink *sink, void *work)
{
    landmarks_work *w = work;
    const subspaces *space = space_of(on->points);
    int cell = item->cell, members[BITSET_SIZE], width = subspace_width(space, cell);
    float errors[BITSET_SIZE], tails[BITSET_SIZE], found[BITSET_SIZE] = {0.0f};
    if (form_is_own(on, b, cell)) {
        screen_own(w, on, b, sink);
        return;
    }
    int count = take(w, on, b, item, members, sink->counters);
    for (int first = 0, to; first < width && count; first = to) {
        to = subspace_stage(space, cell, first);
        count = project(w, space, b, cell, first, to, count, members, found, sink->counters);
    }
    for (int i = 0; i < count; i++) {
        float roundoff = b->roundoff[members[i]];
        w->rows[i] = w->psi + (size_t)i * width;
        errors[i] = subspace_pair_error(space, cell, roundoff);
        tails[i] = subspace_tail(space, cell, roundoff, w->length[members[i]], found[i]);
    }
    if (count)
        screen_rows(w, on, b, cell, count, members, tails, errors, sink);
}

/* Of what subspaces are worth nothing tells but building them: what they usually leave where they serve. */
static status forecast(const metric_source *source, const metric_points *points, int k, double most, form_forecast *out)
{
    (void)source, (void)points, (void)k, (void)most;
    *out = (form_forecast){.pair = COST_PAIR, .left = LEFT_USUAL};
    return status_ok();
}

static double pair_cost(const point_set *set)
{
    (void)set;
    return COST_PAIR;
}

const screening_form form_landmarks = {
    .name = "landmarks",
    .note = "auto: cells skipped and screened by subspaces of landmarks",
    .settle = 2,
    .give_up = 32,
    .form_data_bytes = sizeof(subspaces),
    .forecast = forecast,
    .pair_cost = pair_cost,
    .compact = 1,
    .divide = divide,
    .build = build,
    .fields = fields,
    .work_new = work_new,
    .begin = begin,
    .skim = skim,
    .screen = screen,
};

/* Integers: the form for everything else. Features in 8 and 16 bits, for all cells that the expansion bound leaves:
 * certified intervals for residual correlations from products of small integers.
 *
 * With the kernel gains gain_i = sqrt(sigma2) / sqrt(p_i) and scaled features f_i = v_i / sqrt(p_i),
 *     rho_ij = gain_i gain_j kappa_ij - f_i . f_j.
 * Features are rounded to integers of 8 or 16 bits, f~ = step * integers, of which a processor
 * multiplies four or two where it multiplies one single-precision number; the error of rounding is
 * measured, not estimated: with e = |f - f~|, by Cauchy and Schwarz,
 *     |f_i . f_j - f~_i . f~_j| <= e_i |f_j| + |f~_i| e_j.
 * An orthogonal rotation (Hadamard butterflies) of all features first evens out their sizes, which
 * makes e smaller and changes no dot product.
 *
 * Pairs whose interval of 8 bits reaches the threshold have it made again from features in 16 bits, with
 * the same kernel value: it is some hundred times narrower.
 *
 * The kernel term comes from the frame, and its slack covers the products of steps too; e_j is stored as
 * (e_j + 2^-20 |f_j|) (1 + 2^-20).
 *
 * A special point on z_u (specials.h) has r(z_u, y) = jitter sigma2 (L^-1 e_u) . v_y exactly, so it is
 * screened with gain 0 and f = -jitter sigma2 L^-1 e_u / sqrt(p). What is computed differs from that by at most
 * roundoff_y roundoff_z (bounds.h). So z has an error larger by s roundoff_z, and other points a norm of at least
 * roundoff_y / s, s = ROUNDOFF_SHARE. Special queries are not screened. */
#include "base/pace.h"
#include "base/scratch.h"
#include "base/threads.h"
#include "form/frames.h"
#include "form/sample.h"
#include "model/inducing.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define COST_PAIR 20.0     /* a pair screened, but for its product and distance; */
#define COST_DISTANCE 4.0  /* that, for each dimension */
#define COST_REFINED 150.0 /* a pair that goes on to 16 bits, */
#define COST_FINE 1.2      /* and for each of its products */
#define HOPELESS 2.0       /* so many times as many of these as an outlook sees there will be */
#define NORM16 46000.0     /* norms that keep a sum of 16-bit products inside 32 bits */
#define SAMPLE_QUERIES 24
#define SAMPLE_K 60       /* neighbours that are wanted, where that is not known yet */
#define REFINED_PAYS 0.06 /* of all pairs: where 8 bits leave more to 16, these come first */
#define ROUNDOFF_SHARE 1e-4
#define SAMPLE_POINTS 512    /* at least, and at most twice as many, */
#define SAMPLE_DEPTH 2       /* so that as many neighbours of a query are among them */
#define SAMPLE_HOPELESS 32   /* one of so many points is too much to be left of them */
#define SAMPLE_EARLY 4       /* times k: the rank of a threshold yet to rise; less in few dimensions */
#define SAMPLE_COARSE 0.0007 /* thresholds are not known more finely, whatever the error of kernel values */
#define SAMPLE_ROUNDED 64    /* points that show the error of rounding */

/* Sizes, which opening an index cannot tell from the points. */
typedef struct {
    int bits;       /* 8 or 16 */
    int steps;      /* of 4 bytes: 4 integers of 8 bits or 2 of 16 */
    int fine_width; /* of a row of fine, a multiple of 32; 0 for none */
} integers_shape;

typedef struct {
    frames frame;
    integers_shape *shape; /* 1 */
    /* by column */
    float *step, *norm, *error;    /* panels x SCREEN_COLS */
    float *slack_floor;            /* panels */
    int32_t *start;                /* -128 sum of the integers, which undoes the offset of unsigned rows */
    int16_t *fine;                 /* columns x fine_width: with 8 bits, features in 16 too */
    float *fine_step, *fine_error; /* columns */
    void *integers;                /* panels x steps x SCREEN_COLS x 4 bytes */
    double *special_v;             /* m x specials, -jitter sigma2 L^-1 e_u */
} integers;

static integers *integers_of(const point_set *set) { return set->form_data; }

/* Features after padding for the rotation. */
static int padded(int m) { return (m + 7) / 8 * 8; }

/* ---- rounded features --------------------------------------------------------------------------- */

/* -jitter sigma2 L^-1 e_u for each special point. */
static status special_features(const metric_source *source, const point_set *set)
{
    integers *s = integers_of(set);
    const specials *special = &set->bound.special;
    size_t count = special->count, m = set->points->m;
    s->special_v = scratch_zeros(count * m, sizeof(double));
    if (!s->special_v)
        return status_fail(STATUS_MEMORY);
    for (size_t i = 0; i < count; i++)
        s->special_v[i * m + special->inputs[i]] = -source->jitter * source->kern->variance;
    return count ? inducing_solve((int)m, source->L, 0, count, s->special_v, 1, NULL, s->special_v) : status_ok();
}

/* Scaled features f (padded, zeros behind the first m) of point i. */
static void point_features(const point_set *set, size_t i, double *f)
{
    const metric_points *points = set->points;
    size_t m = points->m;
    int special = set->bound.special.rank[i];
    const double *v = special < 0 ? points->v + i * m : integers_of(set)->special_v + special * m;
    memset(f, 0, padded(points->m) * sizeof(double));
    simd->add_multiple(points->m, points->gain[i], v, f);
}

/* Orthogonal butterflies over eights, neighbouring and then strided: 64 elements mix. */
static void butterfly(double *f, size_t stride)
{
    for (size_t half = 1; half < 8; half *= 2)
        for (size_t a = 0; a < 8; a += 2 * half)
            for (size_t b = a; b < a + half; b++) {
                double sum = f[b * stride] + f[(b + half) * stride];
                f[(b + half) * stride] = f[b * stride] - f[(b + half) * stride];
                f[b * stride] = sum;
            }
}

/* Sixteen bits gain nothing from rotation: there the norm limits the step, not the largest element. */
static void rotate(int width, double *f)
{
    for (int a = 0; a < width; a += 8)
        butterfly(f + a, 1);
    for (int a = 0; a < width / 8; a++)
        butterfly(f + a, width / 8);
    for (int a = 0; a < width; a++)
        f[a] *= 0.125;
}

/* Rounds features f (width); returns step, |f| and |f - f~| in out. */
static void round_features(int width, int bits, const double *f, int16_t *integers, double *out)
{
    double norm2, most = simd->sizes(width, f, &norm2), norm = sqrt(norm2), step = most / 127.0;
    if (bits == 16)
        step = norm / NORM16 > most / 32767.0 ? norm / NORM16 : most / 32767.0;
    step = (double)(float)(step * (1.0 + 1e-6)); /* what the tiles will multiply by */
    out[0] = step = step < FLT_MIN ? 0.0 : step; /* smaller ones have too few digits to keep integers in their range */
    out[1] = out[2] = norm;
    if (step > 0.0)
        out[2] = sqrt(simd->round_integers(width, step, f, integers));
    else
        memset(integers, 0, width * sizeof(int16_t));
}

static void store_column(integers *s, size_t column, const int16_t *values)
{
    size_t panel = column / SCREEN_COLS, j = column % SCREEN_COLS;
    char *base = (char *)s->integers + panel * s->shape->steps * SCREEN_COLS * 4 + 4 * j;
    int32_t sum = 0;
    for (int u = 0; u < s->shape->steps; u++, base += SCREEN_COLS * 4) {
        if (s->shape->bits == 16) {
            memcpy(base, values + 2 * u, 4);
        } else {
            int8_t four[4];
            for (int e = 0; e < 4; e++) {
                four[e] = (int8_t)values[4 * u + e];
                sum += four[e];
            }
            memcpy(base, four, 4);
        }
    }
    s->start[column] = -128 * sum;
}

static void build_cell(const point_set *set, int c, double *f, int16_t *values)
{
    integers *s = integers_of(set);
    const cells *order = &set->order;
    int width = padded(set->points->m), bits = s->shape->bits, fine_width = s->shape->fine_width;
    double up = 1.0 + ldexp(1.0, -20);
    for (size_t column = (size_t)order->panel[c] * SCREEN_COLS; column < (size_t)order->panel[c + 1] * SCREEN_COLS;
         column++) {
        int id = order->ids[column];
        int special = id >= 0 && set->bound.special.rank[id] >= 0;
        double rounded[3], roundoff = id < 0 ? 0.0 : set->bound.roundoff[id],
                           more = special ? ROUNDOFF_SHARE * roundoff : 0.0;
        if (id < 0)
            memset(f, 0, width * sizeof(double));
        else
            point_features(set, id, f);
        if (bits == 8)
            rotate(width, f);
        round_features(width, bits, f, values, rounded);
        s->step[column] = (float)rounded[0];
        s->norm[column] = (float)(fmax(rounded[1] + rounded[2], special ? 0.0 : roundoff / ROUNDOFF_SHARE) * up);
        s->error[column] = (float)((rounded[2] + ldexp(rounded[1], -20) + more) * up);
        store_column(s, column, values);
        if (fine_width) {
            int16_t *fine = s->fine + column * fine_width;
            memset(fine, 0, fine_width * sizeof(int16_t));
            round_features(width, 16, f, fine, rounded);
            s->fine_step[column] = (float)rounded[0];
            s->fine_error[column] = (float)((rounded[2] + ldexp(rounded[1], -20) + more) * up);
        }
    }
    for (int panel = order->panel[c]; panel < order->panel[c + 1]; panel++) {
        float floor = 0.0f;
        for (size_t j = (size_t)panel * SCREEN_COLS; j < (size_t)(panel + 1) * SCREEN_COLS; j++)
            floor = fmaxf(floor, s->frame.slack[c] * (s->frame.kernel_gain[j] - s->norm[j]));
        s->slack_floor[panel] = floor * (1.0f + 1e-6f);
    }
}

/* ---- what is to be expected ---------------------------------------------------------------------- */

/* |f - f~| / |f| on average, by 8 and 16 bits. */
static void rounding_ratios(const metric_points *points, const int *ids, int count, double *f, int16_t *values,
                            double *ratio)
{
    int width = padded(points->m), step = count / SAMPLE_ROUNDED + 1, tried = 0;
    double rounded[3];
    ratio[0] = ratio[1] = 0.0;
    for (int c = 0; c < count; c += step, tried++) {
        memset(f, 0, width * sizeof(double));
        simd->add_multiple(points->m, points->gain[ids[c]], points->v + (size_t)ids[c] * points->m, f);
        for (int way = 1; way >= 0; way--) {
            round_features(width, way ? 16 : 8, f, values, rounded);
            ratio[way] += rounded[1] > 0.0 ? rounded[2] / rounded[1] : 0.0;
            rotate(width, f);
        }
    }
    ratio[0] /= tried;
    ratio[1] /= tried;
}

/* How many of a sample reach the threshold of given rank for its point `own`, if 8 or 16 bits may err by
 * ratio |f_i| |f_j| and the kernel by kernel_error. */
static void ask_sample(const metric_source *source, const metric_points *points, int own, int rank, const double *size,
                       double kernel_error, const double *ratio, sample *part, double *reached)
{
    double tau = sample_threshold(source->kern, points, own, rank, part),
           gain2 = source->kern->variance * points->gain[part->ids[own]];
    reached[0] = reached[1] = 0.0;
    for (int c = 0; c < part->count; c++) {
        double error = gain2 * points->gain[part->ids[c]] * kernel_error, sizes = size[own] * size[c];
        for (int way = 0; way < 2; way++)
            reached[way] += part->rho[c] + error + ratio[way] * (2.0 + ratio[way]) * sizes >= tau;
    }
}

/* What integers would leave of the pairs of a query, by its exact correlations with a part of the points. */
typedef struct {
    int bits;        /* that the first screening takes */
    double hopeless; /* share of the queries that they leave with more than a part of all points; of others: */
    double refined;  /* pairs that 8 bits leave to 16, 0 where they do not come first */
    double left;     /* pairs that 16 bits leave */
} outlook;

/* From a few queries, before anything is built; k neighbours are wanted. */
static status take_sample(const metric_source *source, const metric_points *points, int k, outlook *out)
{
    size_t most = SAMPLE_DEPTH * points->n / k;
    most = most < SAMPLE_POINTS ? SAMPLE_POINTS : most > 2 * SAMPLE_POINTS ? 2 * SAMPLE_POINTS : most;
    sample part;
    status outcome = sample_new(source, points, most, &part);
    double *f, *size;
    int16_t *values;
    if (!SCRATCH_ALL(SCRATCH_FOR(f, (size_t)points->m + 64), SCRATCH_FOR(size, most + 1),
                     SCRATCH_FOR(values, (size_t)points->m + 64)))
        outcome = status_fail(STATUS_MEMORY);
    *out = (outlook){.bits = 16, .hopeless = 1.0};
    if (!outcome.code && part.count) {
        radial_pieces pieces;
        double ratio[2], served = 0.0, left[2] = {0.0}, reached[2], share = (double)part.count / (double)points->n;
        int halved = points->d / 2,
            early = halved < 1              ? 1
                    : halved > SAMPLE_EARLY ? SAMPLE_EARLY
                                            : halved,
            rank = (int)(early * k * share) + 1;
        kernel_pieces(source->kern, &pieces);
        rounding_ratios(points, part.ids, part.count, f, values, ratio);
        for (int c = 0; c < part.count; c++) { /* |f| */
            const int *id = &part.ids[c];
            simd->dot_list(points->m, points->v + (size_t)*id * points->m, points->v, id, 1, &size[c]);
            size[c] = sqrt(size[c]) * points->gain[*id];
        }
        for (int q = 0; q < SAMPLE_QUERIES; q++) {
            ask_sample(source, points, sample_query(&part, q, SAMPLE_QUERIES), rank, size, pieces.error + SAMPLE_COARSE,
                       ratio, &part, reached);
            if (SAMPLE_HOPELESS * (reached[1] - rank) > part.count)
                continue;
            served++;
            left[0] += reached[0];
            left[1] += reached[1];
        }
        out->hopeless = 1.0 - served / SAMPLE_QUERIES;
        if (served > 0.0) {
            out->bits = simd->dot_tile8 && left[0] <= REFINED_PAYS * served * part.count ? 8 : 16;
            out->refined = out->bits == 8 ? left[0] / served / share : 0.0;
            out->left = k + fmax(left[1] / served - rank, 0.0) / share;
        }
    }
    sample_free(&part);
    SCRATCH_FREE(f, size, values);
    return outcome;
}

static double cost_of(const metric_points *points, int bits)
{
    return COST_PAIR + COST_DISTANCE * points->d + points->m * bits / 64.0;
}

static double pair_cost(const point_set *set) { return cost_of(set->points, integers_of(set)->shape->bits); }

/* All pairs are screened. */
static status forecast(const metric_source *source, const metric_points *points, int k, double most, form_forecast *out)
{
    double n = (double)points->n;
    outlook sight;
    *out = (form_forecast){.pairs = INFINITY, .pair = cost_of(points, simd->dot_tile8 ? 8 : 16)};
    if (n * out->pair > most)
        return status_ok();
    status outcome = take_sample(source, points, k, &sight);
    *out = (form_forecast){.pairs = n,
                           .pair = cost_of(points, sight.bits),
                           .more = sight.refined * (COST_REFINED + COST_FINE * points->m),
                           .left = sight.left,
                           .hopeless = fmin(1.0, HOPELESS * sight.hopeless)};
    return outcome;
}

/* ---- what is kept --------------------------------------------------------------------------------- */

static int allocate(const point_set *set)
{
    integers *s = integers_of(set);
    size_t panels = set->order.panels, columns = panels * SCREEN_COLS;
    int fine_width = s->shape->fine_width;
    return SCRATCH_ALL(SCRATCH_FOR(s->norm, columns), SCRATCH_FOR(s->error, columns), SCRATCH_FOR(s->step, columns),
                       SCRATCH_FOR(s->start, columns), SCRATCH_FOR(s->slack_floor, panels),
                       {&s->integers, columns * s->shape->steps, 4}) &&
           (!fine_width || SCRATCH_ALL(SCRATCH_FOR(s->fine, columns * fine_width), SCRATCH_FOR(s->fine_step, columns),
                                       SCRATCH_FOR(s->fine_error, columns)));
}

/* 8 bits where the instruction set has them and they leave few pairs of a sample of the points, else 16; queries have
 * those of the candidates. */
static status choose_shape(const metric_source *source, const point_set *like, const point_set *set)
{
    integers *s = integers_of(set);
    outlook sight = {0};
    status result = like ? status_ok() : take_sample(source, set->points, SAMPLE_K, &sight);
    int bits = like ? integers_of(like)->shape->bits : sight.bits, width = padded(set->points->m);
    s->shape = result.code ? NULL : scratch_alloc(1, sizeof(*s->shape));
    if (!s->shape)
        return result.code ? result : status_fail(STATUS_MEMORY);
    *s->shape = (integers_shape){bits, width / (bits == 8 ? 4 : 2), bits == 8 ? (width + 31) / 32 * 32 : 0};
    return result;
}

static status build(const metric_source *source, const point_set *like, int threads, const monitor *mon, point_set *set)
{
    const specials *special = &set->bound.special;
    size_t room = padded(set->points->m) + 32;
    double *f;
    int16_t *values;
    status result =
        frames_build(source->kern, set->points, &set->order, special, threads, mon, &integers_of(set)->frame);
    if (!result.code)
        result = choose_shape(source, like, set);
    if (!result.code)
        result = special_features(source, set);
    if (result.code)
        return result;
    if (!SCRATCH_ALL(SCRATCH_FOR(f, room * threads), SCRATCH_FOR(values, room * threads)) || !allocate(set))
        result = status_fail(STATUS_MEMORY);
    pace slice = pace_over(mon, result.code ? 0 : set->order.count, 4 * (size_t)threads);
    while (pace_next(&slice)) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
        for (int c = (int)slice.first; c < (int)slice.last; c++)
            build_cell(set, c, f + room * threads_id(), values + room * threads_id());
    }
    SCRATCH_FREE(f, values);
    return result.code ? result : pace_end(&slice);
}

static void fields(point_set *set, field_visitor *walk)
{
    integers *s = set->form_data;
    size_t columns = (size_t)set->order.panels * SCREEN_COLS;
    frames_fields(&s->frame, &set->order, walk);
    walk->visit(walk, "integers.shape", &s->shape, sizeof(*s->shape));
    if (!s->shape || (walk->end && (walk->beyond || s->shape->steps < 0 || (size_t)s->shape->steps > walk->end ||
                                    s->shape->fine_width < 0 || (size_t)s->shape->fine_width > walk->end))) {
        walk->beyond = 1;
        return;
    }
    size_t fine_width = s->shape->fine_width;
    walk->visit(walk, "integers.step", &s->step, columns * sizeof(float));
    walk->visit(walk, "integers.norm", &s->norm, columns * sizeof(float));
    walk->visit(walk, "integers.error", &s->error, columns * sizeof(float));
    walk->visit(walk, "integers.slack_floor", &s->slack_floor, set->order.panels * sizeof(float));
    walk->visit(walk, "integers.start", &s->start, columns * sizeof(int32_t));
    walk->visit(walk, "integers.values", &s->integers, columns * s->shape->steps * 4);
    if (fine_width) {
        walk->visit(walk, "integers.fine", &s->fine, columns * fine_width * sizeof(int16_t));
        walk->visit(walk, "integers.fine_step", &s->fine_step, columns * sizeof(float));
        walk->visit(walk, "integers.fine_error", &s->fine_error, columns * sizeof(float));
    }
    walk->visit(walk, "integers.special_v", &s->special_v,
                (size_t)set->bound.special.count * set->points->m * sizeof(double));
}

/* ---- tiles ---------------------------------------------------------------------------------------- */

typedef struct {
    float *relative;  /* BITSET_SIZE x d: positions from the centre of a cell */
    simd_rows *tiles; /* BITSET_SIZE / SCREEN_ROWS */
    simd_intervals *intervals;
} integers_work;

/* What a tile is screened with. */
typedef struct {
    const form_sides *on;
    const block *b, *other;
    form_sink *sink, *to_other;
    integers_work *work;
} screening;

static void *work_new(const form_sides *on)
{
    integers_work w;
    return SCRATCH_WHOLE(w, SCRATCH_FOR(w.relative, (size_t)BITSET_SIZE * on->points->points->d),
                         SCRATCH_FOR(w.tiles, BITSET_SIZE / SCREEN_ROWS), SCRATCH_FOR(w.intervals, 1));
}

static size_t row_bytes(const form_sides *on) { return (size_t)integers_of(on->points)->shape->steps * 4; }

/* The queries as rows, `steps` x 4 bytes each. */
static void begin(const form_sides *on, const block *b, void *work)
{
    const integers *from = integers_of(on->from);
    int steps = from->shape->steps;
    uint32_t flip = from->shape->bits == 8 ? 0x80808080u : 0u; /* signed to offset by 128 */
    (void)work;
    for (int q = 0; q < b->count; q++) {
        size_t panel = b->column[q] / SCREEN_COLS, j = b->column[q] % SCREEN_COLS;
        const char *source = (const char *)from->integers + panel * steps * SCREEN_COLS * 4 + 4 * j;
        char *out = (char *)b->rows + (size_t)q * steps * 4;
        for (int u = 0; u < steps; u++, source += SCREEN_COLS * 4, out += 4) {
            uint32_t four;
            memcpy(&four, source, 4);
            four ^= flip;
            memcpy(out, &four, 4);
        }
    }
}

/* Fills the rows of a tile; idle rows repeat the first. */
static void fill_rows(const screening *with, const int *members, int count, simd_rows *rows)
{
    const block *b = with->b;
    const integers *from = integers_of(with->on->from);
    size_t d = with->on->from->points->d, bytes = (size_t)from->shape->steps * 4, fine_width = from->shape->fine_width;
    for (int a = 0; a < SCREEN_ROWS; a++) {
        size_t q = members[a < count ? a : 0], column = b->column[q];
        rows->features[a] = (const char *)b->rows + q * bytes;
        rows->x[a] = with->work->relative + q * d;
        rows->gain[a] = from->frame.kernel_gain[column];
        rows->step[a] = from->step[column];
        rows->norm[a] = from->norm[column];
        rows->error[a] = from->error[column];
        if (fine_width) {
            rows->fine[a] = from->fine + column * fine_width;
            rows->fine_step[a] = from->fine_step[column];
            rows->fine_error[a] = from->fine_error[column];
        }
    }
}

/* A panel of a cell as columns of a tile. */
static simd_columns panel_columns(const point_set *set, int cell, int panel)
{
    const integers *s = integers_of(set);
    size_t column = (size_t)panel * SCREEN_COLS;
    simd_columns columns = {
        .features = (const char *)s->integers + column * s->shape->steps * 4,
        .x = s->frame.x + column * set->points->d,
        .gain = s->frame.kernel_gain + column,
        .step = s->step + column,
        .norm = s->norm + column,
        .error = s->error + column,
        .start = s->start + column,
        .slack = s->frame.slack[cell],
        .slack_floor = s->slack_floor[panel],
        .fine_width = s->shape->fine_width,
    };
    if (columns.fine_width) {
        columns.fine = s->fine + column * columns.fine_width;
        columns.fine_step = s->fine_step + column;
        columns.fine_error = s->fine_error + column;
    }
    return columns;
}

/* Keeps the query of a row as a candidate of those that stand in the columns, from place `first` on. */
static void keep_in_columns(form_sink *to_other, int first, int id, uint32_t mask, const simd_interval_row *row)
{
    for (; mask; mask &= mask - 1) {
        int j = __builtin_ctz(mask);
        float size = fabsf(row->value[j]),
              error = row->base + row->slope * row->norm[j] + row->row_norm * row->error[j];
        to_other->keep_one(to_other, first + j, id, size - error, size + error);
    }
}

/* Keeps what of row a reaches a threshold, in 16 bits where 8 leave a pair. */
static void keep_row(const screening *with, int a, int q, simd_rows *rows, const simd_columns *columns, const int *ids,
                     int first)
{
    simd_intervals *found = with->work->intervals;
    if (columns->fine_width)
        simd->refine_row(a, rows, columns, found);
    simd_interval_row row = {.value = found->value + a * SCREEN_COLS,
                             .norm = columns->norm,
                             .error = columns->fine_width ? columns->fine_error : columns->error,
                             .base = found->base[a],
                             .slope = found->slope[a],
                             .row_norm = rows->norm[a]};
    if (found->mask[a])
        with->sink->keep(with->sink, q, ids, found->mask[a], &row);
    keep_in_columns(with->to_other, first, with->b->row[q], found->column_mask[a], &row);
}

/* A tile: up to SCREEN_ROWS members against panel p of a cell. */
static void screen_tile(const screening *with, int cell, int p, const int *members, int count, simd_rows *rows,
                        const simd_columns *columns)
{
    const point_set *points = with->on->points;
    const integers *s = integers_of(points);
    const cells *order = &points->order;
    simd_intervals *found = with->work->intervals;
    int panel = order->panel[cell] + p;
    if (order->least[panel] >= with->b->most_limit)
        return;
    for (int a = 0; a < count; a++)
        rows->tau[a] = with->b->tau[members[a]];
    with->sink->counters->screened += (double)count * SCREEN_COLS;
    (s->shape->bits == 8 ? simd->dot_tile8 : simd->dot_tile16)(s->shape->steps, rows, columns, found->value);
    simd->interval_tile(s->frame.pieces, count, points->points->d, rows, columns, found);
    for (uint32_t left = found->rows; left; left &= left - 1) {
        int a = __builtin_ctz(left);
        keep_row(with, a, members[a], rows, columns, order->ids + (size_t)panel * SCREEN_COLS, p * SCREEN_COLS);
    }
}

static void screen_members(const screening *with, int cell, const int *members, int count)
{
    const form_sides *on = with->on;
    const block *b = with->b;
    const cells *order = &on->points->order;
    size_t d = on->points->points->d;
    int panels = order->panel[cell + 1] - order->panel[cell], own = form_is_own(on, b, cell);
    simd_columns columns[CELLS_MOST / SCREEN_COLS];
    for (int p = 0; p < panels; p++) {
        columns[p] = panel_columns(on->points, cell, order->panel[cell] + p);
        columns[p].tau = with->other ? with->other->tau + p * SCREEN_COLS : NULL;
    }
    for (int i = 0; i < count; i++)
        frames_relative(&integers_of(on->points)->frame, cell, on->from->points->x + b->row[members[i]] * d,
                        with->work->relative + members[i] * d);
    for (int i = 0; i < count; i += SCREEN_ROWS)
        fill_rows(with, members + i, count - i < SCREEN_ROWS ? count - i : SCREEN_ROWS,
                  &with->work->tiles[i / SCREEN_ROWS]);
    for (int step = 0; step < panels; step++)
        for (int i = 0; i < count; i += SCREEN_ROWS) {
            /* in the own cell where the queries stand first, which raises thresholds most */
            int p =
                own ? form_nth_nearest(b->column[members[i]] / SCREEN_COLS - order->panel[cell], step, panels) : step;
            screen_tile(with, cell, p, members + i, count - i < SCREEN_ROWS ? count - i : SCREEN_ROWS,
                        &with->work->tiles[i / SCREEN_ROWS], &columns[p]);
        }
}

static void screen_cell(const form_sides *on, const block *b, const frontier_cell *item, form_sink *sink, void *work)
{
    int members[BITSET_SIZE], count = bitset_members(&item->alive, members);
    screening with = {.on = on, .b = b, .sink = sink, .work = work};
    screen_members(&with, item->cell, members, count);
}

static void screen_both(const form_sides *on, const block *b, const block *other, const int *members, int count,
                        form_sink *sink, form_sink *to_other, void *work)
{
    screening with = {on, b, other, sink, to_other, work};
    screen_members(&with, other->cell, members, count);
}

const screening_form form_integers = {
    .name = "integers",
    .note = "auto: pairs screened by small integers",
    .settle = 1,
    .give_up = 32,
    .form_data_bytes = sizeof(integers),
    .forecast = forecast,
    .pair_cost = pair_cost,
    .build = build,
    .fields = fields,
    .work_new = work_new,
    .row_bytes = row_bytes,
    .begin = begin,
    .screen = screen_cell,
    .screen_both = screen_both,
};

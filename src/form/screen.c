#include "form/screen.h"

#include "base/linalg.h"
#include "base/pace.h"
#include "base/scratch.h"
#include "base/threads.h"
#include "form/sample.h"

#include <string.h>

#define NORM16 46000.0 /* norms that keep a sum of 16-bit products inside 32 bits */
#define ERROR16 0.03   /* the same for 16 bits */
#define SAMPLE_QUERIES 24
#define SAMPLE_K 60        /* neighbours that are wanted, where that is not known yet */
#define REFINED_PAYS 0.06  /* of all pairs: where 8 bits leave more to 16, these come first */
#define SAMPLE_POINTS 512  /* at least, and at most twice as many, */
#define SAMPLE_DEPTH 2     /* so that as many neighbours of a query are among them */
#define SAMPLE_HOPELESS 32 /* one of so many points is too much to be left of them */
#define SAMPLE_EARLY 4 /* times k: the rank of a threshold yet to rise; less in few dimensions */
#define SAMPLE_COARSE                                                                              \
    0.0007 /* thresholds are not known more finely, whatever the error of kernel values */
#define SAMPLE_ROUNDED 64 /* points that show the error of rounding */

void screen_free(screen *s)
{
    SCRATCH_FREE(s->step, s->norm, s->error, s->slack_floor, s->start, s->integers, s->special_v, s->fine, s->fine_step,
                 s->fine_error, s->shape);
    memset(s, 0, sizeof(*s));
}

/* -jitter s2 L^-1 e_u for each special point. */
static status special_features(const metric_source *source, screen *s)
{
    int cols = simd->cols, m = s->m;
    s->special_v = scratch_alloc((size_t)s->special->count * m + 1, sizeof(double));
    if (!s->special_v)
        return status_fail(STATUS_MEMORY);
    if (!s->special->count)
        return status_ok();
    linalg_triangle triangle;
    status result = linalg_triangle_pack(m, source->L, 0, &triangle);
    double *panel = scratch_alloc((size_t)m * cols, sizeof(double));
    if (!panel)
        result = status_fail(STATUS_MEMORY);
    for (int first = 0; first < s->special->count && !result.code; first += cols) {
        int wide = s->special->count - first < cols ? s->special->count - first : cols;
        memset(panel, 0, (size_t)m * cols * sizeof(double));
        for (int i = 0; i < wide; i++)
            panel[(size_t)s->special->inputs[first + i] * cols + i] = -source->jitter * source->kern->variance;
        linalg_solve_panel(&triangle, panel);
        for (int i = 0; i < wide; i++)
            for (int u = 0; u < m; u++)
                s->special_v[(size_t)(first + i) * m + u] = panel[(size_t)u * cols + i];
    }
    linalg_triangle_free(&triangle);
    scratch_free(panel);
    return result;
}

/* Scaled features f (width, zeros behind the first m) of point i. */
static void point_features(const screen *s, size_t i, double *f)
{
    const metric_points *points = s->points;
    double scale = points->scale[i];
    int special = s->special->rank[i];
    const double *v = special < 0 ? points->v + i * s->m : s->special_v + (size_t)special * s->m;
    memset(f, 0, s->width * sizeof(double));
    simd->add_multiple(s->m, scale, v, f);
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
    out[0] = step;
    out[1] = norm;
    out[2] = 0.0;
    if (step > 0.0)
        out[2] = sqrt(simd->round_integers(width, step, f, integers));
    else
        memset(integers, 0, width * sizeof(int16_t));
}

static void store_column(screen *s, size_t column, const int16_t *integers)
{
    size_t panel = column / SCREEN_COLS, j = column % SCREEN_COLS;
    char *base = (char *)s->integers + panel * s->steps * SCREEN_COLS * 4 + 4 * j;
    int32_t sum = 0;
    for (int u = 0; u < s->steps; u++, base += SCREEN_COLS * 4) {
        if (s->bits == 16) {
            memcpy(base, integers + 2 * u, 4);
        } else {
            int8_t four[4];
            for (int e = 0; e < 4; e++) {
                four[e] = (int8_t)integers[4 * u + e];
                sum += four[e];
            }
            memcpy(base, four, 4);
        }
    }
    s->start[column] = -128 * sum;
}

static void build_cell(screen *s, int c, double *f, int16_t *integers)
{
    const cells *order = s->order;
    double up = 1.0 + ldexp(1.0, -20);
    for (size_t column = (size_t)order->panel[c] * SCREEN_COLS;
         column < (size_t)order->panel[c + 1] * SCREEN_COLS; column++) {
        int id = order->ids[column];
        double rounded[3];
        if (id < 0)
            memset(f, 0, s->width * sizeof(double));
        else
            point_features(s, id, f);
        if (s->bits == 8)
            rotate(s->width, f);
        round_features(s->width, s->bits, f, integers, rounded);
        s->step[column] = (float)rounded[0];
        s->norm[column] = (float)((rounded[1] + rounded[2]) * up);
        s->error[column] = (float)((rounded[2] + ldexp(rounded[1], -20)) * up);
        store_column(s, column, integers);
        if (s->fine_width) {
            int16_t *fine = s->fine + column * s->fine_width;
            memset(fine, 0, s->fine_width * sizeof(int16_t));
            round_features(s->width, 16, f, fine, rounded);
            s->fine_step[column] = (float)rounded[0];
            s->fine_error[column] = (float)((rounded[2] + ldexp(rounded[1], -20)) * up);
        }
    }
    for (int panel = order->panel[c]; panel < order->panel[c + 1]; panel++) {
        float floor = 0.0f;
        for (size_t j = (size_t)panel * SCREEN_COLS; j < (size_t)(panel + 1) * SCREEN_COLS; j++)
            floor = fmaxf(floor, s->frame->slack[c] * (s->frame->gain[j] - s->norm[j]));
        s->slack_floor[panel] = floor * (1.0f + 1e-6f);
    }
}

int screen_is_fine(const metric_source *source, const metric_points *points)
{
    /* |f|^2 is about s2 / p, the step |f| / NORM16, and the error of a product 0.6 |f| step m^(1/2) */
    double limit = ERROR16 * NORM16 / (0.6 * sqrt(points->m + 1.0)), s2 = source->kern->variance;
    size_t stride = points->n / 997 + 1, coarse = 0, tried = 0;
    for (size_t i = 0; i < points->n; i += stride, tried++)
        coarse += s2 * points->scale[i] * points->scale[i] > limit;
    return 2 * coarse < tried + 1;
}

/* |f - f~| / |f| on average, by 8 and 16 bits. */
static void rounding_ratios(const metric_points *points, const int *ids, int count, double *f,
                            int16_t *integers, double *ratio)
{
    int width = (points->m + 7) / 8 * 8, step = count / SAMPLE_ROUNDED + 1, tried = 0;
    double rounded[3];
    ratio[0] = ratio[1] = 0.0;
    for (int c = 0; c < count; c += step, tried++) {
        memset(f, 0, width * sizeof(double));
        simd->add_multiple(points->m, points->scale[ids[c]], points->v + (size_t)ids[c] * points->m,
                           f);
        for (int way = 1; way >= 0; way--) {
            round_features(width, way ? 16 : 8, f, integers, rounded);
            ratio[way] += rounded[1] > 0.0 ? rounded[2] / rounded[1] : 0.0;
            rotate(width, f);
        }
    }
    ratio[0] /= tried;
    ratio[1] /= tried;
}

/* How many of a sample reach the threshold of given rank for its point `own`, if 8 or 16 bits may err by
 * ratio |f_i| |f_j| and the kernel by kernel_error. */
static void ask_sample(const metric_source *source, const metric_points *points, int own, int rank,
                       const double *size, double kernel_error, const double *ratio, sample *part,
                       double *reached)
{
    double tau = sample_threshold(source->kern, points, own, rank, part),
           gain2 = source->kern->variance * points->scale[part->ids[own]];
    reached[0] = reached[1] = 0.0;
    for (int c = 0; c < part->count; c++) {
        double error = gain2 * points->scale[part->ids[c]] * kernel_error, sizes = size[own] * size[c];
        for (int way = 0; way < 2; way++)
            reached[way] += part->rho[c] + error + ratio[way] * (2.0 + ratio[way]) * sizes >= tau;
    }
}

status screen_sample(const metric_source *source, const metric_points *points, int k,
                     screen_outlook *out)
{
    size_t most = SAMPLE_DEPTH * points->n / k;
    most = most < SAMPLE_POINTS       ? SAMPLE_POINTS
           : most > 2 * SAMPLE_POINTS ? 2 * SAMPLE_POINTS
                                      : most;
    sample part;
    status outcome = sample_new(source, points, most, &part);
    double *f, *size;
    int16_t *integers;
    if (!SCRATCH_ALL(SCRATCH_FOR(f, (size_t)points->m + 64), SCRATCH_FOR(size, most + 1),
                     SCRATCH_FOR(integers, (size_t)points->m + 64)))
        outcome = status_fail(STATUS_MEMORY);
    *out = (screen_outlook){.bits = 16, .hopeless = 1.0};
    if (!outcome.code && part.count) {
        radial_pieces pieces;
        double ratio[2], served = 0.0, left[2] = {0.0}, reached[2],
                         share = (double)part.count / (double)points->n;
        int halved = points->d / 2,
            early = halved < 1              ? 1
                    : halved > SAMPLE_EARLY ? SAMPLE_EARLY
                                            : halved,
            rank = (int)(early * k * share) + 1;
        kernel_pieces(source->kern, &pieces);
        rounding_ratios(points, part.ids, part.count, f, integers, ratio);
        for (int c = 0; c < part.count; c++) { /* |f| */
            const int *id = &part.ids[c];
            simd->dot_list(points->m, points->v + (size_t)*id * points->m, points->v, id, 1, &size[c]);
            size[c] = sqrt(size[c]) * points->scale[*id];
        }
        for (int q = 0; q < SAMPLE_QUERIES; q++) {
            ask_sample(source, points, sample_query(&part, q, SAMPLE_QUERIES), rank, size,
                       pieces.error + SAMPLE_COARSE, ratio, &part, reached);
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
    SCRATCH_FREE(f, size, integers);
    return outcome;
}

static int allocate(screen *s)
{
    size_t columns = (size_t)s->order->panels * SCREEN_COLS;
    return SCRATCH_ALL(SCRATCH_FOR(s->norm, columns), SCRATCH_FOR(s->error, columns), SCRATCH_FOR(s->step, columns),
                       SCRATCH_FOR(s->start, columns), SCRATCH_FOR(s->slack_floor, (size_t)s->order->panels),
                       {&s->integers, columns * s->steps, 4}) &&
           (!s->fine_width ||
            SCRATCH_ALL(SCRATCH_FOR(s->fine, columns * s->fine_width), SCRATCH_FOR(s->fine_step, columns),
                        SCRATCH_FOR(s->fine_error, columns)));
}

void screen_bind(screen *s, const metric_points *points, const cells *order, const specials *special,
                 const frames *frame)
{
    s->points = points;
    s->order = order;
    s->special = special;
    s->frame = frame;
    s->d = points->d;
    s->m = points->m;
    s->width = (points->m + 7) / 8 * 8;
    if (s->shape) {
        s->bits = s->shape->bits;
        s->steps = s->shape->steps;
        s->fine_width = s->shape->fine_width;
    }
}

status screen_build(const metric_source *source, const metric_points *points, const cells *order,
                    const specials *special, const frames *frame, int bits, int threads,
                    const monitor *mon, screen *s)
{
    memset(s, 0, sizeof(*s));
    screen_bind(s, points, order, special, frame);
    size_t room = s->width + 32;
    double *f = scratch_alloc(room * threads, sizeof(double));
    int16_t *integers = scratch_alloc(room * threads, sizeof(int16_t));
    status result = status_fail(STATUS_MEMORY);
    if (!f || !integers)
        goto done;
    result = special_features(source, s);
    if (result.code)
        goto done;
    s->bits = bits;
    if (!bits) {
        screen_outlook sight;
        result = screen_sample(source, points, SAMPLE_K, &sight);
        if (result.code)
            goto done;
        s->bits = sight.bits;
    }
    s->steps = s->width / (s->bits == 8 ? 4 : 2);
    s->fine_width = s->bits == 8 ? (s->width + 31) / 32 * 32 : 0;
    s->shape = scratch_alloc(1, sizeof(*s->shape));
    if (s->shape)
        *s->shape = (screen_shape){s->bits, s->steps, s->fine_width};
    if (!allocate(s) || !s->shape) {
        result = status_fail(STATUS_MEMORY);
        goto done;
    }
    pace slice = pace_over(mon, order->count, 4 * (size_t)threads);
    while (pace_next(&slice)) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
        for (int c = (int)slice.first; c < (int)slice.last; c++)
            build_cell(s, c, f + room * threads_id(), integers + room * threads_id());
    }
    result = pace_end(&slice);
done:
    SCRATCH_FREE(f, integers);
    if (result.code)
        screen_free(s);
    return result;
}

void screen_features(const screen *s, int column, void *out)
{
    const char *source = (const char *)s->integers +
                         (size_t)(column / SCREEN_COLS) * s->steps * SCREEN_COLS * 4 +
                         4 * (column % SCREEN_COLS);
    uint32_t flip = s->bits == 8 ? 0x80808080u : 0u; /* signed to offset by 128 */
    for (int u = 0; u < s->steps; u++, source += SCREEN_COLS * 4) {
        uint32_t four;
        memcpy(&four, source, 4);
        four ^= flip;
        memcpy((char *)out + 4 * u, &four, 4);
    }
}

void screen_row(const screen *s, int column, int row, simd_rows *out)
{
    out->gain[row] = s->frame->gain[column];
    out->step[row] = s->step[column];
    out->norm[row] = s->norm[column];
    out->error[row] = s->error[column];
    if (s->fine_width) {
        out->fine[row] = s->fine + (size_t)column * s->fine_width;
        out->fine_step[row] = s->fine_step[column];
        out->fine_error[row] = s->fine_error[column];
    }
}

simd_columns screen_columns(const screen *s, int cell, int panel)
{
    size_t column = (size_t)panel * SCREEN_COLS;
    simd_columns columns = {
        .features = (const char *)s->integers + column * s->steps * 4,
        .x = s->frame->x + column * s->d,
        .gain = s->frame->gain + column,
        .step = s->step + column,
        .norm = s->norm + column,
        .error = s->error + column,
        .start = s->start + column,
        .slack = s->frame->slack[cell],
        .slack_floor = s->slack_floor[panel],
    };
    if (s->fine_width) {
        columns.fine = s->fine + column * s->fine_width;
        columns.fine_step = s->fine_step + column;
        columns.fine_error = s->fine_error + column;
        columns.fine_width = s->fine_width;
    }
    return columns;
}

#include "screen.h"

#include "linalg.h"
#include "scratch.h"
#include "threads.h"

#include <string.h>

#define SPECIAL_VARIANCE 1e-3 /* of s2: above it cancellation costs nothing */
#define NORM16 46000.0        /* norms that keep a sum of 16-bit products inside 32 bits */
#define ERROR8 0.1            /* largest typical error of a correlation that 8 bits may have */

void screen_free(screen *s)
{
    void *held[] = {s->panel, s->place, s->ids, s->centre, s->slack, s->x, s->gain, s->step, s->norm,
                    s->error, s->tail, s->start, s->integers, s->special, s->special_ids,
                    s->special_input, s->special_v};
    for (size_t i = 0; i < sizeof(held) / sizeof(*held); i++)
        scratch_free(held[i]);
    memset(s, 0, sizeof(*s));
}

/* The inducing input that point i stands on, if its residual variance is nearly gone. */
static int standing_on(const screen_source *source, const metric_points *points, size_t i)
{
    if (!source->z || points->variance[i] > SPECIAL_VARIANCE * source->kern->variance)
        return -1;
    for (int u = 0; u < points->m; u++)
        if (memcmp(points->x + i * points->d, source->z + (size_t)u * points->d,
                   points->d * sizeof(double)) == 0)
            return u;
    return -1;
}

static status find_specials(const screen_source *source, screen *s, int threads)
{
    const metric_points *points = s->points;
    size_t n = points->n;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t i = 0; i < n; i++)
        s->special[i] = standing_on(source, points, i);
    for (size_t i = 0; i < n; i++)
        s->specials += s->special[i] >= 0;
    s->special_ids = scratch_alloc(s->specials + 1, sizeof(int));
    s->special_input = scratch_alloc(s->specials + 1, sizeof(int));
    s->special_v = scratch_alloc((size_t)s->specials * s->m + 1, sizeof(double));
    if (!s->special_ids || !s->special_input || !s->special_v)
        return status_fail(STATUS_MEMORY);
    if (!s->specials)
        return status_ok();
    linalg_triangle triangle;
    status result = linalg_triangle_pack(s->m, source->L, 0, &triangle);
    int cols = simd->cols, at = 0;
    double *panel = scratch_alloc((size_t)s->m * cols, sizeof(double));
    if (!panel)
        result = status_fail(STATUS_MEMORY);
    for (size_t i = 0; i < n && !result.code; i++) {
        if (s->special[i] < 0)
            continue;
        s->special_ids[at] = (int)i;
        s->special_input[at] = s->special[i];
        memset(panel, 0, (size_t)s->m * cols * sizeof(double));
        panel[(size_t)s->special[i] * cols] = -source->jitter * source->kern->variance;
        linalg_solve_panel(&triangle, panel);
        for (int u = 0; u < s->m; u++)
            s->special_v[(size_t)at * s->m + u] = panel[(size_t)u * cols];
        s->special[i] = at++;
    }
    linalg_triangle_free(&triangle);
    scratch_free(panel);
    return result;
}

void screen_features(const screen *s, const kernel *kern, size_t i, double *f, double *gain)
{
    const metric_points *points = s->points;
    double scale = points->scale[i];
    int special = s->special[i];
    const double *v = special < 0 ? points->v + i * s->m : s->special_v + (size_t)special * s->m;
    for (int u = 0; u < s->m; u++)
        f[u] = v[u] * scale;
    *gain = special < 0 ? sqrt(kern->variance) * scale : 0.0;
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

static void rotate(int width, double *f)
{
    for (int a = 0; a < width; a += 8)
        butterfly(f + a, 1);
    for (int a = 0; a < width / 8; a++)
        butterfly(f + a, width / 8);
    for (int a = 0; a < width; a++)
        f[a] *= 0.125;
}

/* Rotates f (width) and rounds it; returns step, |f| and |f - f~| in out. */
static void round_features(int width, int bits, double *f, int16_t *integers, double *out)
{
    double norm2 = 0.0, most = 0.0, error2 = 0.0;
    rotate(width, f);
    for (int u = 0; u < width; u++) {
        norm2 += f[u] * f[u];
        most = fabs(f[u]) > most ? fabs(f[u]) : most;
    }
    double norm = sqrt(norm2), step = most / 127.0;
    if (bits == 16)
        step = norm / NORM16 > most / 32767.0 ? norm / NORM16 : most / 32767.0;
    step = (double)(float)(step * (1.0 + 1e-6)); /* what the tiles will multiply by */
    for (int u = 0; u < width; u++) {
        double whole = step > 0.0 ? nearbyint(f[u] / step) : 0.0, gap = f[u] - step * whole;
        integers[u] = (int16_t)whole;
        error2 += gap * gap;
    }
    out[0] = step;
    out[1] = norm;
    out[2] = sqrt(error2);
}

static int choose_bits(const screen *s, const kernel *kern, double *f, int16_t *integers)
{
    if (!simd->dot_tile8 || s->m == 0)
        return 16;
    int rough = 0, tried = 0;
    size_t n = s->points->n, stride = n / 97 + 1;
    for (size_t i = 0; i < n; i += stride, tried++) {
        double gain, rounded[3];
        memset(f, 0, s->width * sizeof(double));
        screen_features(s, kern, i, f, &gain);
        round_features(s->width, 8, f, integers, rounded);
        rough += 2.0 * rounded[1] * rounded[2] > ERROR8;
    }
    return 2 * rough > tried ? 16 : 8;
}

static void place_integers(screen *s, size_t column, const int16_t *integers)
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

static void build_cell(screen *s, const kernel *kern, int c, double *f, int16_t *integers)
{
    const metric_points *points = s->points;
    int first = s->cell[c], count = s->cell[c + 1] - first, d = s->d;
    double *centre = s->centre + (size_t)c * d, far = 0.0;
    for (int u = 0; u < d; u++) { /* the middle of the box */
        double low = INFINITY, high = -INFINITY;
        for (int i = 0; i < count; i++) {
            double x = points->x[(size_t)s->perm[first + i] * d + u];
            low = x < low ? x : low;
            high = x > high ? x : high;
        }
        centre[u] = 0.5 * (low + high);
        far += 0.25 * (high - low) * (high - low);
    }
    s->slack[c] = (float)(ldexp(1.0, -24) * (40.0 + d + 2.0 * sqrt(far)));
    for (int i = 0; i < (s->panel[c + 1] - s->panel[c]) * SCREEN_COLS; i++) {
        size_t column = (size_t)s->panel[c] * SCREEN_COLS + i, panel = column / SCREEN_COLS;
        float *x = s->x + panel * d * SCREEN_COLS + column % SCREEN_COLS;
        s->ids[column] = -1;
        s->tail[column] = 0.0f;
        memset(f, 0, s->width * sizeof(double));
        double gain = 0.0, rounded[3];
        if (i < count) {
            size_t id = s->perm[first + i];
            s->ids[column] = (int)id;
            s->place[first + i] = (int)column;
            screen_features(s, kern, id, f, &gain);
            for (int u = 0; u < d; u++)
                x[u * SCREEN_COLS] = (float)(points->x[id * d + u] - centre[u]);
        } else {
            for (int u = 0; u < d; u++)
                x[u * SCREEN_COLS] = 0.0f;
        }
        round_features(s->width, s->bits, f, integers, rounded);
        double up = 1.0 + ldexp(1.0, -20);
        s->gain[column] = (float)gain;
        s->step[column] = (float)rounded[0];
        s->norm[column] = (float)((rounded[1] + rounded[2]) * up);
        s->error[column] = (float)((rounded[2] + ldexp(rounded[1], -20)) * up);
        place_integers(s, column, integers);
    }
}

status screen_build(const screen_source *source, const metric_points *points, const int *perm,
                    const int *cell, int cells, int bits, int threads, screen *s)
{
    size_t n = points->n;
    memset(s, 0, sizeof(*s));
    s->points = points;
    s->d = points->d;
    s->m = points->m;
    s->width = (points->m + 7) / 8 * 8;
    s->cells = cells;
    s->perm = perm;
    s->cell = cell;
    s->panel = scratch_alloc((size_t)cells + 1, sizeof(int));
    s->place = scratch_alloc(n + 1, sizeof(int));
    s->special = scratch_alloc(n + 1, sizeof(int));
    s->centre = scratch_alloc((size_t)cells * s->d + 1, sizeof(double));
    s->slack = scratch_alloc((size_t)cells + 1, sizeof(float));
    double *f = scratch_alloc((size_t)(s->width + 8) * threads, sizeof(double));
    int16_t *integers = scratch_alloc((size_t)(s->width + 32) * threads, sizeof(int16_t));
    status result = status_fail(STATUS_MEMORY);
    if (!s->panel || !s->place || !s->special || !s->centre || !s->slack || !f || !integers)
        goto done;
    result = find_specials(source, s, threads);
    if (result.code)
        goto done;
    s->panel[0] = 0;
    for (int c = 0; c < cells; c++)
        s->panel[c + 1] = s->panel[c] + (cell[c + 1] - cell[c] + SCREEN_COLS - 1) / SCREEN_COLS;
    s->bits = bits ? bits : choose_bits(s, source->kern, f, integers);
    s->steps = s->width / (s->bits == 8 ? 4 : 2);
    size_t columns = (size_t)s->panel[cells] * SCREEN_COLS;
    result = status_fail(STATUS_MEMORY);
    s->ids = scratch_alloc(columns, sizeof(int));
    s->x = scratch_alloc(columns * s->d, sizeof(float));
    s->gain = scratch_alloc(columns, sizeof(float));
    s->step = scratch_alloc(columns, sizeof(float));
    s->norm = scratch_alloc(columns, sizeof(float));
    s->error = scratch_alloc(columns, sizeof(float));
    s->tail = scratch_alloc(columns, sizeof(float));
    s->start = scratch_alloc(columns, sizeof(int32_t));
    s->integers = scratch_alloc(columns * s->steps + 1, 4);
    if (!s->ids || !s->x || !s->gain || !s->step || !s->norm || !s->error || !s->tail || !s->start ||
        !s->integers)
        goto done;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
    for (int c = 0; c < cells; c++)
        build_cell(s, source->kern, c, f + (size_t)(s->width + 8) * threads_id(),
                   integers + (size_t)(s->width + 32) * threads_id());
    result = status_ok();
done:
    scratch_free(f);
    scratch_free(integers);
    if (result.code)
        screen_free(s);
    return result;
}

void screen_row(const screen *from, int position, const double *centre, int row, simd_queries *out,
                float *x, void *integers)
{
    size_t column = from->place[position], panel = column / SCREEN_COLS;
    size_t id = from->perm[position];
    const char *source = (const char *)from->integers + panel * from->steps * SCREEN_COLS * 4 +
                         4 * (column % SCREEN_COLS);
    char *target = (char *)integers + 4 * row;
    out->gain[row] = from->gain[column];
    out->step[row] = from->step[column];
    out->norm[row] = from->norm[column];
    out->error[row] = from->error[column];
    out->tail[row] = from->tail[column];
    for (int u = 0; u < from->d; u++)
        x[u * SCREEN_ROWS + row] = (float)(from->points->x[id * from->d + u] - centre[u]);
    uint32_t flip = from->bits == 8 ? 0x80808080u : 0u; /* signed to unsigned with offset 128 */
    for (int u = 0; u < from->steps; u++, source += SCREEN_COLS * 4, target += SCREEN_ROWS * 4) {
        uint32_t four;
        memcpy(&four, source, 4);
        four ^= flip;
        memcpy(target, &four, 4);
    }
}

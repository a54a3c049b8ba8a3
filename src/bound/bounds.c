#include "bound/bounds.h"

#include "base/pace.h"
#include "base/scratch.h"
#include "base/threads.h"
#include "partition/boxes.h"

#include <string.h>

#define TERMS_SHARE 4    /* a panel keeps terms of one input in so many, */
#define TERMS_LEAST 32   /* or of so many, */
#define KEEP_LEAST 1e-6f /* times the largest */

static void ranges_free(bounds_ranges *ranges)
{
    SCRATCH_FREE(ranges->reach, ranges->weight, ranges->gain, ranges->low, ranges->high);
}

static int ranges_new(size_t count, size_t m, size_t d, int weights, bounds_ranges *ranges)
{
    ranges->count = (int)count;
    return (!weights || SCRATCH_ALL(SCRATCH_FOR(ranges->weight, count * m))) &&
           SCRATCH_ALL(SCRATCH_FOR(ranges->reach, count * m), SCRATCH_FOR(ranges->gain, count),
                       SCRATCH_FOR(ranges->low, count * d), SCRATCH_FOR(ranges->high, count * d));
}

void bounds_free(bounds *b)
{
    specials_free(&b->special);
    ranges_free(&b->panels);
    ranges_free(&b->cells);
    ranges_free(&b->groups);
    SCRATCH_FREE(b->special_reach, b->roundoff, b->by_panel.reach, b->by_panel.low, b->by_panel.high, b->by_panel.gain,
                 b->terms.weight_rank, b->terms.kernel_rank, b->terms.weights, b->terms.kernels);
    memset(b, 0, sizeof(*b));
}

static float rounded_up(double x) { return (float)(x * (1.0 + 1e-6)); }

/* What a panel is built with. */
typedef struct {
    const linalg_triangle *transposed; /* L', for the weights */
    radial rad;
    const double *z_panels;
} builder;

/* Scratch of a thread: a column panel; and for terms, all of a panel's values (m x SCREEN_COLS). */
typedef struct {
    double *column;
    float *weights, *kernels;
} workspace;

/* Reach of the points ids[0 .. filled - 1], one column panel of a panel; for terms, `kernels` has their values. */
static void fold_reach(const builder *how, const bounds *b, const int *ids, int filled, int panel, double *x,
                       float *kernels)
{
    const metric_points *points = b->points;
    int d = b->d, m = b->m, rows = simd->rows, cols = simd->cols;
    float *reach = b->panels.reach + (size_t)panel * m;
    double tile[SIMD_MAX_ROWS * SIMD_MAX_COLS] __attribute__((aligned(64))),
        gains[SIMD_MAX_COLS] = {0}, most[SIMD_MAX_ROWS], gain = b->panels.gain[panel];
    simd->pack_rows(d, cols, filled, points->x, ids, x);
    for (int j = 0; j < filled; j++) {
        int special = b->special.rank[ids[j]];
        double own = points->gain[ids[j]];
        gains[j] = special < 0 ? own : 0.0;
        gain = gains[j] > gain ? gains[j] : gain;
        if (special >= 0) {
            float up = rounded_up(bounds_special_size(b) * own);
            float *of = &reach[b->special.inputs[special]];
            *of = up > *of ? up : *of;
        }
    }
    b->panels.gain[panel] = gain;
    for (int u = 0; u < m; u += rows) {
        int height = m - u < rows ? m - u : rows;
        simd->distance_tile(d, how->z_panels + (size_t)u * d, x, tile);
        simd->radial_values(&how->rad, (size_t)rows * cols, tile, tile);
        simd->largest(height, tile, gains, most);
        for (int a = 0; a < height; a++) {
            float up = rounded_up(most[a]);
            reach[u + a] = up > reach[u + a] ? up : reach[u + a];
            for (int j = 0; j < cols && kernels; j++)
                kernels[(size_t)(u + a) * SCREEN_COLS + j] = (float)(tile[a * cols + j] * gains[j]);
        }
    }
    for (int j = 0; j < filled && kernels; j++) {
        int special = b->special.rank[ids[j]];
        if (special >= 0)
            kernels[(size_t)b->special.inputs[special] * SCREEN_COLS + j] =
                (float)(-bounds_special_size(b) * points->gain[ids[j]]);
    }
}

/* Weights of the same points: their norms, and maxima for the panel; for terms, `weights` has them all. */
static void fold_weights(const builder *how, const bounds *b, const int *ids, int filled, int panel, double *w,
                         float *weights)
{
    const metric_points *points = b->points;
    int m = b->m, cols = simd->cols;
    float *weight = b->panels.weight + (size_t)panel * m;
    float *reach = b->special_reach ? b->special_reach + panel : NULL;
    size_t panels = b->order->panels;
    double norms[SIMD_MAX_COLS], plain[SIMD_MAX_COLS] = {0}, gains[SIMD_MAX_COLS] = {0};
    double *most = w + (size_t)m * cols, *scaled = most + m;
    simd->pack_rows(m, cols, filled, points->v, ids, w);
    linalg_solve_panel(how->transposed, w);
    simd->panel_norms(m, w, norms);
    for (int j = 0; j < filled; j++) {
        plain[j] = b->special.rank[ids[j]] < 0;
        gains[j] = points->gain[ids[j]];
        b->roundoff[ids[j]] = (float)norms[j];
    }
    simd->largest(m, w, plain, most);
    if (reach)
        simd->largest(m, w, gains, scaled);
    for (int u = 0; u < m; u++) {
        float up = rounded_up(most[u]);
        weight[u] = up > weight[u] ? up : weight[u];
        if (reach) {
            up = rounded_up(scaled[u]);
            reach[u * panels] = up > reach[u * panels] ? up : reach[u * panels];
        }
        for (int j = 0; j < cols && weights; j++)
            weights[(size_t)u * SCREEN_COLS + j] = (float)(w[(size_t)u * cols + j] * gains[j]);
    }
}

/* Keeps the values (m x SCREEN_COLS) of the `most` inputs of largest size, or nearly so, in their order: the place of
 * each, or -1, and the values. */
static void keep(int m, int most, const float *size, const float *values, int16_t *place, float *out)
{
    float all = 0.0f, low = 0.0f, high = INFINITY;
    for (int u = 0; u < m; u++)
        all = size[u] > all ? size[u] : all;
    int reached = 0, spare, count = 0;
    for (float at = all; at > KEEP_LEAST * all && reached < most; at *= 0.5f) {
        high = low > 0.0f ? low : INFINITY;
        low = at;
        reached = 0;
        for (int u = 0; u < m; u++)
            reached += size[u] >= at;
    }
    spare = most; /* for those between low and high */
    for (int u = 0; u < m; u++)
        spare -= size[u] >= high;
    for (int u = 0; u < m; u++) {
        int kept = size[u] >= high || (size[u] >= low && low > 0.0f && spare-- > 0);
        place[u] = kept ? (int16_t)count : -1;
        if (kept)
            memcpy(out + (size_t)place[u] * SCREEN_COLS, values + (size_t)u * SCREEN_COLS, SCREEN_COLS * sizeof(float));
        count += kept;
    }
    memset(out + (size_t)count * SCREEN_COLS, 0, (size_t)(most - count) * SCREEN_COLS * sizeof(float));
}

static void build_panel(const builder *how, const bounds *b, int panel, const workspace *own)
{
    int m = b->m, d = b->d, cols = simd->cols;
    const int *ids = b->order->ids + (size_t)panel * SCREEN_COLS;
    int count = cells_filled(ids);
    memset(b->panels.reach + (size_t)panel * m, 0, m * sizeof(float));
    b->panels.gain[panel] = 0.0;
    if (b->panels.weight)
        memset(b->panels.weight + (size_t)panel * m, 0, m * sizeof(float));
    for (int u = 0; u < m && b->special_reach; u++)
        b->special_reach[u * (size_t)b->order->panels + panel] = 0.0f;
    boxes_measure(d, b->points->x, ids, count, b->panels.low + (size_t)panel * d, b->panels.high + (size_t)panel * d);
    for (int i = 0; i < count; i += cols) {
        int filled = count - i < cols ? count - i : cols;
        if (b->expands)
            fold_reach(how, b, ids + i, filled, panel, own->column, b->terms.most ? own->kernels + i : NULL);
        if (how->transposed)
            fold_weights(how, b, ids + i, filled, panel, own->column, b->terms.most ? own->weights + i : NULL);
    }
    if (b->terms.most) {
        const bounds_terms *terms = &b->terms;
        size_t at = (size_t)panel * m, to = (size_t)panel * terms->most * SCREEN_COLS;
        for (int u = 0; u < m; u++)
            for (int j = (count + cols - 1) / cols * cols; j < SCREEN_COLS; j++)
                own->weights[(size_t)u * SCREEN_COLS + j] = own->kernels[(size_t)u * SCREEN_COLS + j] = 0.0f;
        keep(m, terms->most, b->panels.weight + at, own->weights, terms->weight_rank + at, terms->weights + to);
        keep(m, terms->most, b->panels.reach + at, own->kernels, terms->kernel_rank + at, terms->kernels + to);
    }
}

static void fold(int count, const float *a, float *most)
{
    for (int u = 0; u < count; u++)
        most[u] = a[u] > most[u] ? a[u] : most[u];
}

/* Range `at` of some ranges from ranges first .. last - 1 of finer ones. */
static void merge(int m, int d, const bounds_ranges *fine, int first, int last, int at, bounds_ranges *ranges)
{
    float *reach = ranges->reach + (size_t)at * m;
    double *low = ranges->low + (size_t)at * d, *high = ranges->high + (size_t)at * d;
    memcpy(reach, fine->reach + (size_t)first * m, m * sizeof(float));
    memcpy(low, fine->low + (size_t)first * d, d * sizeof(double));
    memcpy(high, fine->high + (size_t)first * d, d * sizeof(double));
    ranges->gain[at] = fine->gain[first];
    if (ranges->weight)
        memcpy(ranges->weight + (size_t)at * m, fine->weight + (size_t)first * m, m * sizeof(float));
    for (int c = first + 1; c < last; c++) {
        fold(m, fine->reach + (size_t)c * m, reach);
        if (ranges->weight)
            fold(m, fine->weight + (size_t)c * m, ranges->weight + (size_t)at * m);
        ranges->gain[at] = fine->gain[c] > ranges->gain[at] ? fine->gain[c] : ranges->gain[at];
        for (int u = 0; u < d; u++) {
            double a = fine->low[(size_t)c * d + u], b = fine->high[(size_t)c * d + u];
            low[u] = a < low[u] ? a : low[u];
            high[u] = b > high[u] ? b : high[u];
        }
    }
}

static int by_panel_new(size_t cells, size_t m, size_t d, bounds_by_panel *c)
{
    size_t columns = cells * SIMD_WIDTH;
    return SCRATCH_ALL(SCRATCH_FOR(c->reach, columns * m), SCRATCH_FOR(c->low, columns * d),
                       SCRATCH_FOR(c->high, columns * d), SCRATCH_FOR(c->gain, columns));
}

/* The panels of a cell as columns. */
static void set_by_panel(const bounds *b, int cell)
{
    const bounds_by_panel *c = &b->by_panel;
    const bounds_ranges *panels = &b->panels;
    int m = b->m, d = b->d, count = b->order->panel[cell + 1] - b->order->panel[cell];
    size_t first = b->order->panel[cell], at = (size_t)cell * SIMD_WIDTH;
    simd_pack(1, SIMD_WIDTH, count, panels->gain + first, 1, 1, c->gain + at);
    simd_pack(d, SIMD_WIDTH, count, panels->low + first * d, d, 1, c->low + at * d);
    simd_pack(d, SIMD_WIDTH, count, panels->high + first * d, d, 1, c->high + at * d);
    for (int j = 0; j < SIMD_WIDTH; j++)
        for (int u = 0; u < m; u++)
            c->reach[at * m + u * SIMD_WIDTH + j] = j < count ? panels->reach[(first + j) * m + u] : 0.0f;
}

static int terms_new(const cells *order, int m, bounds_terms *terms)
{
    size_t panels = order->panels;
    terms->most = m / TERMS_SHARE > TERMS_LEAST ? m / TERMS_SHARE : m < TERMS_LEAST ? m : TERMS_LEAST;
    size_t values = panels * terms->most * SCREEN_COLS;
    return SCRATCH_ALL(SCRATCH_FOR(terms->weight_rank, panels * m), SCRATCH_FOR(terms->kernel_rank, panels * m),
                       SCRATCH_FOR(terms->weights, values), SCRATCH_FOR(terms->kernels, values));
}

status bounds_build(const metric_source *source, const metric_points *points, const cells *order, int terms,
                    int threads, const monitor *mon, bounds *b)
{
    int m = points->m, d = points->d, rows = simd->rows, count = order->count;
    int groups = (count + BOUNDS_GROUP - 1) / BOUNDS_GROUP, known = source->L && m;
    memset(b, 0, sizeof(*b));
    b->kern = source->kern;
    b->points = points;
    b->order = order;
    b->m = m;
    b->d = d;
    b->expands = source->L || !m;
    b->jitter = source->jitter;
    linalg_triangle transposed = {0};
    size_t column = (size_t)(m > d ? m : d) * (simd->cols + 2),
           values = terms && known ? (size_t)m * SCREEN_COLS : 0; /* of a thread */
    double *z_panels, *columns;
    float *weights, *kernels;
    int ok = SCRATCH_ALL(SCRATCH_FOR(z_panels, (size_t)(m + rows) * d), SCRATCH_FOR(columns, threads * column),
                         SCRATCH_FOR(weights, threads * values), SCRATCH_FOR(kernels, threads * values),
                         SCRATCH_FOR(b->roundoff, points->n));
    status result = specials_find(source, points, &b->special);
    if (!result.code)
        result = status_fail(STATUS_MEMORY);
    if (!ok || !b->special.rank || (values && !terms_new(order, m, &b->terms)) ||
        !ranges_new(order->panels, m, d, known, &b->panels) || !by_panel_new(count, m, d, &b->by_panel) ||
        !ranges_new(count, m, d, known, &b->cells) || !ranges_new(groups, m, d, 0, &b->groups))
        goto done;
    if (known) {
        if (b->special.count)
            b->special_reach = scratch_alloc((size_t)order->panels * m, sizeof(float));
        if (b->special.count && !b->special_reach)
            goto done;
        result = linalg_triangle_pack(m, source->L, 1, &transposed);
        if (result.code)
            goto done;
        simd_pack(d, rows, m, source->z, d, 1, z_panels);
    }
    memset(b->roundoff, 0, points->n * sizeof(float));
    builder how = {known ? &transposed : NULL, kernel_radial(source->kern), z_panels};
    pace slice = pace_over(mon, order->panels, 8 * (size_t)threads);
    while (pace_next(&slice)) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 8)
        for (int p = (int)slice.first; p < (int)slice.last; p++) {
            size_t t = threads_id();
            workspace own = {columns + t * column, weights + t * values, kernels + t * values};
            build_panel(&how, b, p, &own);
        }
    }
    result = pace_end(&slice);
    if (result.code)
        goto done;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int c = 0; c < count; c++) {
        merge(m, d, &b->panels, order->panel[c], order->panel[c + 1], c, &b->cells);
        set_by_panel(b, c);
    }
    for (int g = 0; g < groups; g++) {
        int last = (g + 1) * BOUNDS_GROUP < count ? (g + 1) * BOUNDS_GROUP : count;
        merge(m, d, &b->cells, g * BOUNDS_GROUP, last, g, &b->groups);
    }
    double unit = sqrt((m + 10.0) * ldexp(source->kern->variance, -53));
    for (size_t i = 0; i < points->n; i++) { /* so far the squared norms of the weights */
        double roundoff = unit * (2.0 + sqrt(m * (double)b->roundoff[i])) * points->gain[i];
        b->roundoff[i] = (float)(roundoff * (1.0 + 1e-6));
        b->most_roundoff = b->roundoff[i] > b->most_roundoff ? b->roundoff[i] : b->most_roundoff;
    }
    result = status_ok();
done:
    linalg_triangle_free(&transposed);
    SCRATCH_FREE(z_panels, columns, weights, kernels);
    if (result.code)
        bounds_free(b);
    return result;
}

/* What both sums are inflated by. */
static double inflation(const bounds *b) { return 1.0 + ldexp(b->m + 16.0, -23); }

float bounds_expansion(const bounds *b, const bounds_ranges *from, int X, const bounds_ranges *to, int Y)
{
    size_t m = b->m;
    size_t at = (size_t)X * b->d, to_at = (size_t)Y * b->d;
    double kernel = boxes_gap(b->d, from->low + at, from->high + at, to->low + to_at, to->high + to_at);
    kernel_values(b->kern, 1, &kernel, &kernel);
    double sum = to->gain[Y] * kernel;
    if (m)
        sum += simd->dot32((int)m, from->weight + X * m, to->reach + Y * m);
    return (float)(sum * inflation(b));
}

float bounds_of_panels(const bounds *b, const bounds_ranges *from, int X, int cell, float *upper)
{
    const bounds_by_panel *c = &b->by_panel;
    size_t m = b->m, d = b->d, at = (size_t)cell * SIMD_WIDTH;
    radial rad = kernel_radial(b->kern);
    simd->box_bounds(&rad, (int)d, from->low + X * d, from->high + X * d, c->low + at * d, c->high + at * d,
                     c->gain + at, (int)m, from->weight + X * m, c->reach + at * m, (float)inflation(b), upper);
    float most = 0.0f;
    for (int j = 0; j < SIMD_WIDTH; j++)
        most = upper[j] > most ? upper[j] : most;
    return most;
}

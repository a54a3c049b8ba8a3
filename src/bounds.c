#include "bounds.h"

#include "scratch.h"
#include "threads.h"

#include <string.h>

static void level_free(bounds_level *level)
{
    scratch_free(level->reach);
    scratch_free(level->weight);
    scratch_free(level->gain);
    scratch_free(level->low);
    scratch_free(level->high);
}

static int level_new(int count, int m, int d, int weights, bounds_level *level)
{
    level->count = count;
    level->reach = scratch_alloc((size_t)count * m + 1, sizeof(float));
    level->weight = weights ? scratch_alloc((size_t)count * m + 1, sizeof(float)) : NULL;
    level->gain = scratch_alloc(count, sizeof(double));
    level->low = scratch_alloc((size_t)count * d, sizeof(double));
    level->high = scratch_alloc((size_t)count * d, sizeof(double));
    return level->reach && (level->weight || !weights) && level->gain && level->low && level->high;
}

void bounds_free(bounds *b)
{
    specials_free(&b->special);
    level_free(&b->panels);
    level_free(&b->cells);
    level_free(&b->groups);
    scratch_free(b->special_reach);
    scratch_free(b->noise);
    memset(b, 0, sizeof(*b));
}

static float rounded_up(double x) { return (float)(x * (1.0 + 1e-6)); }

/* What a panel is built with. */
typedef struct {
    const metric_source *source;
    const linalg_triangle *transposed; /* L', for the weights */
    radial rad;
    const double *z_panels;
} builder;

/* Reach of the points ids[0 .. filled - 1], one column panel of a panel. */
static void fold_reach(const builder *how, const bounds *b, const int *ids, int filled, int panel,
                       double *x)
{
    const metric_points *points = b->points;
    int d = b->d, m = b->m, rows = simd->rows, cols = simd->cols;
    float *reach = b->panels.reach + (size_t)panel * m;
    double tile[SIMD_MAX_ROWS * SIMD_MAX_COLS] __attribute__((aligned(64))),
        scale[SIMD_MAX_COLS] = {0}, most[SIMD_MAX_ROWS], gain = b->panels.gain[panel];
    simd->pack_rows(d, cols, filled, points->x, ids, x);
    for (int j = 0; j < filled; j++) {
        int special = b->special.rank[ids[j]];
        double own = points->scale[ids[j]];
        scale[j] = special < 0 ? own : 0.0;
        gain = scale[j] > gain ? scale[j] : gain;
        if (special >= 0) {
            float up = rounded_up(b->jitter * b->kern->variance * own);
            float *of = &reach[b->special.inputs[special]];
            *of = up > *of ? up : *of;
        }
    }
    b->panels.gain[panel] = gain;
    for (int u = 0; u < m; u += rows) {
        int height = m - u < rows ? m - u : rows;
        simd->distance_tile(d, how->z_panels + (size_t)u * d, x, tile);
        simd->radial_values(&how->rad, (size_t)rows * cols, tile, tile);
        simd->largest(height, tile, scale, most);
        for (int a = 0; a < height; a++) {
            float up = rounded_up(most[a]);
            reach[u + a] = up > reach[u + a] ? up : reach[u + a];
        }
    }
}

/* Weights of the same points: their norms, and maxima for the panel. */
static void fold_weights(const builder *how, const bounds *b, const int *ids, int filled, int panel,
                         double *w)
{
    const metric_points *points = b->points;
    int m = b->m, cols = simd->cols;
    float *weight = b->panels.weight + (size_t)panel * m;
    float *reach = b->special_reach ? b->special_reach + (size_t)panel * m : NULL;
    double norms[SIMD_MAX_COLS], plain[SIMD_MAX_COLS] = {0}, scale[SIMD_MAX_COLS] = {0};
    double *most = w + (size_t)m * cols, *scaled = most + m;
    simd->pack_rows(m, cols, filled, points->v, ids, w);
    linalg_solve_panel(how->transposed, w);
    simd->panel_norms(m, w, norms);
    for (int j = 0; j < filled; j++) {
        plain[j] = b->special.rank[ids[j]] < 0;
        scale[j] = points->scale[ids[j]];
        b->noise[ids[j]] = (float)norms[j];
    }
    simd->largest(m, w, plain, most);
    if (reach)
        simd->largest(m, w, scale, scaled);
    for (int u = 0; u < m; u++) {
        float up = rounded_up(most[u]);
        weight[u] = up > weight[u] ? up : weight[u];
        if (reach) {
            up = rounded_up(scaled[u]);
            reach[u] = up > reach[u] ? up : reach[u];
        }
    }
}

static void measure_panel(const bounds *b, int panel)
{
    int d = b->d;
    double *low = b->panels.low + (size_t)panel * d, *high = b->panels.high + (size_t)panel * d;
    for (int u = 0; u < d; u++) {
        low[u] = INFINITY;
        high[u] = -INFINITY;
    }
    for (int j = 0; j < SCREEN_COLS; j++) {
        int id = b->order->ids[(size_t)panel * SCREEN_COLS + j];
        for (int u = 0; u < d && id >= 0; u++) {
            double value = b->points->x[(size_t)id * d + u];
            low[u] = value < low[u] ? value : low[u];
            high[u] = value > high[u] ? value : high[u];
        }
    }
}

static void build_panel(const builder *how, const bounds *b, int panel, double *scratch)
{
    int m = b->m, cols = simd->cols, count = 0;
    const int *ids = b->order->ids + (size_t)panel * SCREEN_COLS;
    memset(b->panels.reach + (size_t)panel * m, 0, m * sizeof(float));
    b->panels.gain[panel] = 0.0;
    if (b->panels.weight)
        memset(b->panels.weight + (size_t)panel * m, 0, m * sizeof(float));
    if (b->special_reach)
        memset(b->special_reach + (size_t)panel * m, 0, m * sizeof(float));
    measure_panel(b, panel);
    while (count < SCREEN_COLS && ids[count] >= 0)
        count++;
    for (int i = 0; i < count; i += cols) {
        int filled = count - i < cols ? count - i : cols;
        if (b->expands)
            fold_reach(how, b, ids + i, filled, panel, scratch);
        if (how->transposed)
            fold_weights(how, b, ids + i, filled, panel, scratch);
    }
}

static void fold(int count, const float *a, float *most)
{
    for (int u = 0; u < count; u++)
        most[u] = a[u] > most[u] ? a[u] : most[u];
}

/* Range `at` of a level from ranges first .. last - 1 of a finer one. */
static void merge(int m, int d, const bounds_level *fine, int first, int last, int at,
                  bounds_level *level)
{
    float *reach = level->reach + (size_t)at * m;
    double *low = level->low + (size_t)at * d, *high = level->high + (size_t)at * d;
    memcpy(reach, fine->reach + (size_t)first * m, m * sizeof(float));
    memcpy(low, fine->low + (size_t)first * d, d * sizeof(double));
    memcpy(high, fine->high + (size_t)first * d, d * sizeof(double));
    level->gain[at] = fine->gain[first];
    if (level->weight)
        memcpy(level->weight + (size_t)at * m, fine->weight + (size_t)first * m, m * sizeof(float));
    for (int c = first + 1; c < last; c++) {
        fold(m, fine->reach + (size_t)c * m, reach);
        if (level->weight)
            fold(m, fine->weight + (size_t)c * m, level->weight + (size_t)at * m);
        level->gain[at] = fine->gain[c] > level->gain[at] ? fine->gain[c] : level->gain[at];
        for (int u = 0; u < d; u++) {
            double a = fine->low[(size_t)c * d + u], b = fine->high[(size_t)c * d + u];
            low[u] = a < low[u] ? a : low[u];
            high[u] = b > high[u] ? b : high[u];
        }
    }
}

status bounds_build(const metric_source *source, const metric_points *points, const cells *order,
                    int threads, bounds *b)
{
    int m = points->m, d = points->d, rows = simd->rows, cols = simd->cols, count = order->count;
    int groups = (count + BOUNDS_GROUP - 1) / BOUNDS_GROUP, known = source->L && m;
    size_t room = (size_t)(m > d ? m : d) * (cols + 2);
    memset(b, 0, sizeof(*b));
    b->kern = source->kern;
    b->points = points;
    b->order = order;
    b->m = m;
    b->d = d;
    b->expands = source->L || !m;
    b->jitter = source->jitter;
    linalg_triangle transposed = {0};
    double *z_panels = scratch_alloc((size_t)(m + rows) * d, sizeof(double));
    double *scratch = scratch_alloc(room * threads, sizeof(double));
    b->noise = scratch_alloc(points->n + 1, sizeof(float));
    status result = specials_find(source, points, &b->special);
    if (!result.code)
        result = status_fail(STATUS_MEMORY);
    if (!z_panels || !scratch || !b->noise || !b->special.rank ||
        !level_new(order->panels, m, d, known, &b->panels) ||
        !level_new(count, m, d, known, &b->cells) || !level_new(groups, m, d, 0, &b->groups))
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
    memset(b->noise, 0, points->n * sizeof(float));
    builder how = {source, known ? &transposed : NULL, kernel_radial(source->kern), z_panels};
#pragma omp parallel for num_threads(threads) schedule(dynamic, 8)
    for (int p = 0; p < order->panels; p++)
        build_panel(&how, b, p, scratch + room * threads_id());
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int c = 0; c < count; c++)
        merge(m, d, &b->panels, order->panel[c], order->panel[c + 1], c, &b->cells);
    for (int g = 0; g < groups; g++) {
        int last = (g + 1) * BOUNDS_GROUP < count ? (g + 1) * BOUNDS_GROUP : count;
        merge(m, d, &b->cells, g * BOUNDS_GROUP, last, g, &b->groups);
    }
    double unit = sqrt((m + 10.0) * ldexp(source->kern->variance, -53));
    for (size_t i = 0; i < points->n; i++) { /* so far the squared norms of the weights */
        double noise = unit * (2.0 + sqrt(m * (double)b->noise[i])) * points->scale[i];
        b->noise[i] = (float)(noise * (1.0 + 1e-6));
        b->most_noise = b->noise[i] > b->most_noise ? b->noise[i] : b->most_noise;
    }
    result = status_ok();
done:
    linalg_triangle_free(&transposed);
    scratch_free(z_panels);
    scratch_free(scratch);
    if (result.code)
        bounds_free(b);
    return result;
}

static double squared_gap(int d, const bounds_level *from, int X, const bounds_level *to, int Y)
{
    double s2 = 0.0;
    for (int u = 0; u < d; u++) {
        double below = to->low[(size_t)Y * d + u] - from->high[(size_t)X * d + u],
               above = from->low[(size_t)X * d + u] - to->high[(size_t)Y * d + u];
        double gap = below > above ? below : above;
        s2 += gap > 0.0 ? gap * gap : 0.0;
    }
    return s2;
}

float bounds_expansion(const bounds *b, const bounds_level *from, int X, const bounds_level *to,
                       int first, int last)
{
    int m = b->m;
    double kernels[BOUNDS_GROUP], most = 0.0;
    for (int start = first; start < last; start += BOUNDS_GROUP) {
        int count = last - start < BOUNDS_GROUP ? last - start : BOUNDS_GROUP;
        for (int i = 0; i < count; i++)
            kernels[i] = squared_gap(b->d, from, X, to, start + i);
        kernel_values(b->kern, count, kernels, kernels);
        for (int i = 0; i < count; i++) {
            double upper = to->gain[start + i] * kernels[i];
            if (m)
                upper += simd->dot32(m, from->weight + (size_t)X * m,
                                     to->reach + (size_t)(start + i) * m);
            most = upper > most ? upper : most;
        }
    }
    return (float)(most * (1.0 + ldexp(m + 16.0, -23)));
}

#include "bounds.h"

#include "scratch.h"
#include "threads.h"

#include <string.h>

static void level_free(bounds_level *level)
{
    scratch_free(level->reach);
    scratch_free(level->gain);
    scratch_free(level->low);
    scratch_free(level->high);
}

static int level_new(int count, int m, int d, bounds_level *level)
{
    level->count = count;
    level->reach = scratch_alloc((size_t)count * m + 1, sizeof(float));
    level->gain = scratch_alloc(count, sizeof(double));
    level->low = scratch_alloc((size_t)count * d, sizeof(double));
    level->high = scratch_alloc((size_t)count * d, sizeof(double));
    return level->reach && level->gain && level->low && level->high;
}

void bounds_free(bounds *b)
{
    linalg_triangle_free(&b->transposed);
    level_free(&b->cells);
    level_free(&b->groups);
    memset(b, 0, sizeof(*b));
}

static float rounded_up(double x) { return (float)(x * (1.0 + 1e-6)); }

/* Folds panel `columns` of kernel values (inducing inputs by points) into the reach of its cell. */
static void fold_reach(int rows, int cols, const double *values, const double *scale, float *reach)
{
    for (int a = 0; a < rows; a++) {
        double most = 0.0;
        for (int j = 0; j < cols; j++) {
            double value = values[a * cols + j] * scale[j];
            most = value > most ? value : most;
        }
        float up = rounded_up(most);
        reach[a] = up > reach[a] ? up : reach[a];
    }
}

static void build_cell(const screen_source *source, const radial *rad, const screen *s, int c,
                       const double *z_panels, double *points_x, bounds_level *level)
{
    const metric_points *points = s->points;
    int d = s->d, m = s->m, rows = simd->rows, cols = simd->cols;
    float *reach = level->reach + (size_t)c * m;
    double *low = level->low + (size_t)c * d, *high = level->high + (size_t)c * d;
    double tile[SIMD_MAX_ROWS * SIMD_MAX_COLS], scale[SIMD_MAX_COLS];
    memset(reach, 0, m * sizeof(float));
    level->gain[c] = 0.0;
    for (int u = 0; u < d; u++) {
        low[u] = INFINITY;
        high[u] = -INFINITY;
    }
    for (int first = s->cell[c]; first < s->cell[c + 1]; first += cols) {
        int filled = s->cell[c + 1] - first < cols ? s->cell[c + 1] - first : cols;
        memset(points_x, 0, (size_t)d * cols * sizeof(double));
        memset(scale, 0, sizeof(scale));
        for (int j = 0; j < filled; j++) {
            size_t id = s->perm[first + j];
            int special = s->special[id];
            scale[j] = special < 0 ? points->scale[id] : 0.0;
            if (special >= 0) {
                int u = s->special_input[special];
                float up =
                    rounded_up(source->jitter * source->kern->variance * points->scale[id]);
                reach[u] = up > reach[u] ? up : reach[u];
            }
            for (int u = 0; u < d; u++) {
                double x = points->x[id * d + u];
                points_x[u * cols + j] = x;
                low[u] = x < low[u] ? x : low[u];
                high[u] = x > high[u] ? x : high[u];
            }
            level->gain[c] = scale[j] > level->gain[c] ? scale[j] : level->gain[c];
        }
        for (int u = 0; u < m; u += rows) {
            int height = m - u < rows ? m - u : rows;
            simd->distance_tile(d, z_panels + (size_t)u * d, points_x, tile);
            simd->radial_values(rad, (size_t)height * cols, tile, tile);
            fold_reach(height, cols, tile, scale, reach + u);
        }
    }
    level->gain[c] *= sqrt(source->kern->variance);
}

static void merge(int m, int d, const bounds_level *cells, int first, int last, int at,
                  bounds_level *groups)
{
    memcpy(groups->reach + (size_t)at * m, cells->reach + (size_t)first * m, m * sizeof(float));
    memcpy(groups->low + (size_t)at * d, cells->low + (size_t)first * d, d * sizeof(double));
    memcpy(groups->high + (size_t)at * d, cells->high + (size_t)first * d, d * sizeof(double));
    groups->gain[at] = cells->gain[first];
    for (int c = first + 1; c < last; c++) {
        groups->gain[at] = fmax(groups->gain[at], cells->gain[c]);
        for (int u = 0; u < m; u++)
            groups->reach[(size_t)at * m + u] =
                fmaxf(groups->reach[(size_t)at * m + u], cells->reach[(size_t)c * m + u]);
        for (int u = 0; u < d; u++) {
            groups->low[at * d + u] = fmin(groups->low[at * d + u], cells->low[c * d + u]);
            groups->high[at * d + u] = fmax(groups->high[at * d + u], cells->high[c * d + u]);
        }
    }
}

status bounds_build(const screen_source *source, const screen *points, int threads, bounds *b)
{
    int m = points->m, d = points->d, rows = simd->rows, cols = simd->cols, cells = points->cells;
    int groups = (cells + BOUNDS_GROUP - 1) / BOUNDS_GROUP;
    memset(b, 0, sizeof(*b));
    b->kern = source->kern;
    b->m = m;
    b->d = d;
    double *z_panels = scratch_alloc((size_t)(m + rows) * d, sizeof(double));
    double *scratch = scratch_alloc((size_t)d * cols * threads, sizeof(double));
    status result = status_fail(STATUS_MEMORY);
    if (!z_panels || !scratch || !level_new(cells, m, d, &b->cells) ||
        !level_new(groups, m, d, &b->groups))
        goto done;
    result = linalg_triangle_pack(m, source->L, 1, &b->transposed);
    if (result.code)
        goto done;
    radial rad = kernel_radial(source->kern);
    simd_pack(d, rows, m, source->z, d, 1, z_panels);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
    for (int c = 0; c < cells; c++)
        build_cell(source, &rad, points, c, z_panels, scratch + (size_t)d * cols * threads_id(),
                   &b->cells);
    for (int g = 0; g < groups; g++) {
        int last = (g + 1) * BOUNDS_GROUP < cells ? (g + 1) * BOUNDS_GROUP : cells;
        merge(m, d, &b->cells, g * BOUNDS_GROUP, last, g, &b->groups);
    }
done:
    scratch_free(z_panels);
    scratch_free(scratch);
    if (result.code)
        bounds_free(b);
    return result;
}

int bounds_block_new(const bounds *b, bounds_block *block)
{
    block->weights = scratch_alloc((size_t)b->m * SCREEN_BLOCK + 1, sizeof(float));
    block->x = scratch_alloc((size_t)SCREEN_BLOCK * b->d, sizeof(double));
    block->scratch = scratch_alloc((size_t)b->m * (simd->cols + 1) + 8, sizeof(double));
    return block->weights && block->x && block->scratch;
}

void bounds_block_free(bounds_block *block)
{
    scratch_free(block->weights);
    scratch_free(block->x);
    scratch_free(block->scratch);
}

void bounds_block_set(const bounds *b, const screen *from, const int *positions, int count,
                      bounds_block *block)
{
    int m = b->m, cols = simd->cols;
    double *panel = block->scratch, *f = panel + (size_t)m * cols;
    block->count = count;
    for (int start = 0; start < SCREEN_BLOCK; start += cols) {
        memset(panel, 0, (size_t)m * cols * sizeof(double));
        for (int j = 0; j < cols; j++) {
            int q = start + j;
            if (q >= count)
                continue;
            size_t id = from->perm[positions[q]];
            screen_features(from, b->kern, id, f, &block->gain[q]);
            memcpy(block->x + (size_t)q * b->d, from->points->x + id * b->d,
                   b->d * sizeof(double));
            for (int u = 0; u < m; u++)
                panel[(size_t)u * cols + j] = f[u];
        }
        linalg_solve_panel(&b->transposed, panel);
        for (int u = 0; u < m; u++)
            for (int j = 0; j < cols; j++)
                block->weights[(size_t)u * SCREEN_BLOCK + start + j] =
                    rounded_up(fabs(panel[(size_t)u * cols + j]));
    }
}

void bounds_expansion(const bounds *b, const bounds_level *level, int at,
                      const bounds_block *block, float *upper)
{
    double near[SCREEN_BLOCK], inflate = 1.0 + ldexp(b->m + 16.0, -23);
    const double *low = level->low + (size_t)at * b->d, *high = level->high + (size_t)at * b->d;
    for (int q = 0; q < block->count; q++) {
        double s2 = 0.0;
        for (int u = 0; u < b->d; u++) {
            double x = block->x[q * b->d + u];
            double gap = x < low[u] ? low[u] - x : x > high[u] ? x - high[u] : 0.0;
            s2 += gap * gap;
        }
        near[q] = s2;
    }
    kernel_values(b->kern, block->count, near, near);
    simd->block_product(b->m, block->weights, level->reach + (size_t)at * b->m, upper);
    double gain = level->gain[at] / b->kern->variance;
    for (int q = 0; q < block->count; q++)
        upper[q] = (float)((upper[q] + gain * block->gain[q] * near[q]) * inflate);
}

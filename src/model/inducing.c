#include "model/inducing.h"

#include "base/linalg.h"
#include "base/scratch.h"
#include "simd/simd.h"
#include "base/threads.h"

#include <math.h>
#include <string.h>

status inducing_factor(const kernel *kern, int d, int m, const double *z, double jitter, double *L)
{
    for (int j = 0; j < m; j++) {
        kernel_row(kern, d, z + (size_t)j * d, m, z, L + (size_t)j * m);
        L[j + (size_t)j * m] += jitter * kern->variance;
    }
    return linalg_cholesky(m, L);
}

/* B (m x cols) <- k(z, points) for one column panel of scaled points. */
static void kernel_panel(const radial *rad, int d, int m, const double *z_panels,
                         const double *points, double *B)
{
    int rows = simd->rows, cols = simd->cols;
    double tile[SIMD_MAX_ROWS * SIMD_MAX_COLS];
    for (int u = 0; u < m; u += rows) {
        int height = m - u < rows ? m - u : rows;
        simd->distance_tile(d, z_panels + (size_t)u * d, points, tile);
        simd->radial_values(rad, (size_t)height * cols, tile, B + (size_t)u * cols);
    }
}

static void unpack_panel(int m, int width, int filled, const double *panel, double *columns)
{
    for (int j = 0; j < filled; j++)
        for (int u = 0; u < m; u++)
            columns[u + (size_t)j * m] = panel[(size_t)u * width + j];
}

status inducing_features(const kernel *kern, int d, int m, const double *z, const double *L,
                         size_t n, const double *x, int threads, double *V, double *r)
{
    double top = kernel_value(kern, 0.0);
    if (m == 0) {
        for (size_t i = 0; i < n; i++)
            r[i] = top;
        return status_ok();
    }
    int rows = simd->rows, cols = simd->cols;
    radial rad = kernel_radial(kern);
    linalg_triangle triangle;
    status result = linalg_triangle_pack(m, L, 0, &triangle);
    if (result.code)
        return result;
    size_t scratch_size = (size_t)(m + rows) * cols + (size_t)d * cols;
    double *z_panels = scratch_alloc((size_t)(m + rows) * d, sizeof(double));
    double *scratch = scratch_alloc(scratch_size * threads, sizeof(double));
    if (!z_panels || !scratch) {
        result = status_fail(STATUS_MEMORY);
        goto done;
    }
    simd_pack(d, rows, m, z, d, 1, z_panels);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16)
    for (size_t first = 0; first < n; first += cols) {
        double *points = scratch + scratch_size * threads_id(), *B = points + (size_t)d * cols;
        int filled = n - first < (size_t)cols ? (int)(n - first) : cols;
        unsigned state = simd_flush();
        simd_pack(d, cols, filled, x + first * d, d, 1, points);
        kernel_panel(&rad, d, m, z_panels, points, B);
        linalg_solve_panel(&triangle, B);
        simd->panel_norms(m, B, points);
        for (int j = 0; j < filled; j++)
            r[first + j] = top - points[j];
        unpack_panel(m, cols, filled, B, V + first * m);
        simd_restore(state);
    }
done:
    linalg_triangle_free(&triangle);
    scratch_free(z_panels);
    scratch_free(scratch);
    return result;
}

status inducing_weights(int m, const double *L, size_t n, const double *V, int threads, double *W)
{
    if (m == 0)
        return status_ok();
    int cols = simd->cols;
    linalg_triangle triangle;
    status result = linalg_triangle_pack(m, L, 1, &triangle);
    if (result.code)
        return result;
    double *scratch = scratch_alloc((size_t)m * cols * threads, sizeof(double));
    if (!scratch) {
        linalg_triangle_free(&triangle);
        return status_fail(STATUS_MEMORY);
    }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16)
    for (size_t first = 0; first < n; first += cols) {
        double *B = scratch + (size_t)m * cols * threads_id();
        int filled = n - first < (size_t)cols ? (int)(n - first) : cols;
        simd_pack(m, cols, filled, V + first * m, m, 1, B);
        linalg_solve_panel(&triangle, B);
        unpack_panel(m, cols, filled, B, W + first * m);
    }
    linalg_triangle_free(&triangle);
    scratch_free(scratch);
    return result;
}

static double squared_distance(int d, const double *x, const double *y)
{
    double sum = 0.0;
    for (int u = 0; u < d; u++)
        sum += (x[u] - y[u]) * (x[u] - y[u]);
    return sum;
}

/* near[i] <- min(near[i], |x_i - centre|^2). */
static void shrink_distances(int d, size_t n, const double *x, const double *centre, int threads,
                             double *near)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t i = 0; i < n; i++) {
        double s2 = squared_distance(d, x + i * d, centre);
        if (s2 < near[i])
            near[i] = s2;
    }
}

/* Moves each centre to the mean of the points nearest to it; a centre without points stays. */
static void lloyd_step(int d, size_t n, const double *x, int m, int threads, double *centres,
                       int *nearest, double *sums, size_t *counts)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t i = 0; i < n; i++) {
        double best = INFINITY;
        for (int c = 0; c < m; c++) {
            double s2 = squared_distance(d, x + i * d, centres + (size_t)c * d);
            if (s2 < best) {
                best = s2;
                nearest[i] = c;
            }
        }
    }
    memset(sums, 0, (size_t)m * d * sizeof(double));
    memset(counts, 0, (size_t)m * sizeof(size_t));
    for (size_t i = 0; i < n; i++) { /* serial, so that the sums do not depend on the threads */
        counts[nearest[i]]++;
        for (int u = 0; u < d; u++)
            sums[(size_t)nearest[i] * d + u] += x[i * d + u];
    }
    for (int c = 0; c < m; c++)
        for (int u = 0; u < d && counts[c]; u++)
            centres[(size_t)c * d + u] = sums[(size_t)c * d + u] / (double)counts[c];
}

status inducing_kmeans(int d, size_t n, const double *x, int m, const double *uniforms, int steps,
                       int threads, double *centres)
{
    double *near = malloc((n + 1) * sizeof(double));
    int *nearest = malloc((n + 1) * sizeof(int));
    double *sums = malloc(((size_t)m * d + 1) * sizeof(double));
    size_t *counts = malloc(((size_t)m + 1) * sizeof(size_t));
    status result = status_ok();
    if (!near || !nearest || !sums || !counts) {
        result = status_fail(STATUS_MEMORY);
        goto done;
    }
    for (size_t i = 0; i < n; i++)
        near[i] = INFINITY;
    for (int c = 0; c < m; c++) {
        size_t chosen = (size_t)(uniforms[c] * (double)n);
        if (c > 0) { /* with probability proportional to the squared distance */
            double total = 0.0;
            for (size_t i = 0; i < n; i++)
                total += near[i];
            double target = uniforms[c] * total, sum = 0.0;
            for (size_t i = 0; i < n && !(sum > target); i++)
                if (near[i] > 0.0) {
                    sum += near[i];
                    chosen = i;
                }
        }
        memcpy(centres + (size_t)c * d, x + (chosen < n ? chosen : n - 1) * d, d * sizeof(double));
        shrink_distances(d, n, x, centres + (size_t)c * d, threads, near);
    }
    for (int step = 0; step < steps; step++)
        lloyd_step(d, n, x, m, threads, centres, nearest, sums, counts);
done:
    free(near);
    free(nearest);
    free(sums);
    free(counts);
    return result;
}

status inducing_maxmin(int d, size_t n, const double *x, int m, int threads, int *ids)
{
    double *near = malloc((n + 1) * sizeof(double));
    if (!near)
        return status_fail(STATUS_MEMORY);
    for (size_t i = 0; i < n; i++)
        near[i] = INFINITY;
    size_t chosen = 0;
    for (int c = 0; c < m; c++) {
        ids[c] = (int)chosen;
        shrink_distances(d, n, x, x + chosen * d, threads, near);
        chosen = 0;
        for (size_t i = 1; i < n; i++)
            if (near[i] > near[chosen])
                chosen = i;
    }
    free(near);
    return status_ok();
}

#include "model/inducing.h"

#include "base/linalg.h"
#include "base/pace.h"
#include "base/scratch.h"
#include "simd/simd.h"
#include "base/threads.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LLOYD_STEPS 10  /* of k-means */
#define NEAR_BLOCK 1024 /* squared distances of one sum */

status inducing_factor(const kernel *kern, int d, int m, const double *z, double jitter, const monitor *mon, double *L)
{
    pace p = pace_over(mon, m, 1);
    while (pace_next(&p))
        for (size_t j = p.first; j < p.last; j++) {
            kernel_row(kern, d, z + j * d, m, z, L + j * m);
            L[j + j * m] += jitter * kern->variance;
        }
    return p.stopped ? pace_end(&p) : linalg_cholesky(m, mon, L);
}

/* B (m x cols) <- k(z, points) for one column panel of scaled points. */
static void kernel_panel(const radial *rad, int d, int m, const double *z_panels, const double *points, double *B)
{
    int rows = simd->rows, cols = simd->cols;
    double tile[SIMD_MAX_ROWS * SIMD_MAX_COLS];
    for (int u = 0; u < m; u += rows) {
        int height = m - u < rows ? m - u : rows;
        simd->distance_tile(d, z_panels + (size_t)u * d, points, tile);
        simd->radial_values(rad, (size_t)height * cols, tile, B + (size_t)u * cols);
    }
}

status inducing_features(const kernel *kern, int d, int m, const double *z, const double *L, size_t n, const double *x,
                         int threads, const monitor *mon, double *V, double *r)
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
    double *z_panels, *scratch;
    if (!SCRATCH_ALL(SCRATCH_FOR(z_panels, (size_t)(m + rows) * d), SCRATCH_FOR(scratch, scratch_size * threads))) {
        result = status_fail(STATUS_MEMORY);
        goto done;
    }
    simd_pack(d, rows, m, z, d, 1, z_panels);
    pace p = pace_over(mon, (n + cols - 1) / cols, threads);
    while (pace_next(&p)) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16)
        for (size_t panel = p.first; panel < p.last; panel++) {
            size_t first = panel * cols;
            double *points = scratch + scratch_size * threads_id(), *B = points + (size_t)d * cols;
            int filled = n - first < (size_t)cols ? (int)(n - first) : cols;
            unsigned state = simd_flush();
            simd_pack(d, cols, filled, x + first * d, d, 1, points);
            kernel_panel(&rad, d, m, z_panels, points, B);
            linalg_solve_panel(&triangle, B);
            simd->panel_norms(m, B, points);
            for (int j = 0; j < filled; j++)
                r[first + j] = top - points[j];
            simd_unpack(m, filled, B, V + first * m);
            simd_restore(state);
        }
    }
    result = pace_end(&p);
done:
    linalg_triangle_free(&triangle);
    SCRATCH_FREE(z_panels, scratch);
    return result;
}

/* Signs and sizes that no damage knows of. */
static double combination(size_t i)
{
    uint64_t bits = (i + 1) * 0x9e3779b97f4a7c15u;
    bits = (bits ^ (bits >> 29)) * 0xbf58476d1ce4e5b9u;
    bits ^= bits >> 32;
    double size = 0.5 + ldexp((double)(bits >> 12), -53);
    return bits & 1 ? size : -size;
}

/* w <- L' u, and whether L is a lower factor with K u = L w. */
static int check_factor(const kernel *kern, const inducing_claim *claim, const double *u, double *w, double *row,
                        double tolerance)
{
    size_t m = claim->m;
    double *product = row + m;
    memset(product, 0, m * sizeof(double));
    for (size_t j = 0; j < m; j++) {
        const double *column = claim->L + j * m;
        if (!(column[j] > 0.0))
            return 0;
        for (size_t i = 0; i < j; i++)
            if (column[i] != 0.0)
                return 0;
        w[j] = 0.0;
        for (size_t i = j; i < m; i++)
            w[j] += column[i] * u[i];
        for (size_t i = j; i < m; i++)
            product[i] += column[i] * w[j];
    }
    for (size_t j = 0; j < m; j++) {
        kernel_row(kern, claim->d, claim->z + j * claim->d, claim->m, claim->z, row);
        double sum = claim->jitter * kern->variance * u[j];
        for (size_t i = 0; i < m; i++)
            sum += row[i] * u[i];
        if (!(fabs(sum - product[j]) <= tolerance))
            return 0;
    }
    return 1;
}

static inducing_part check_point(const kernel *kern, const inducing_claim *claim, size_t i, const double *u,
                                 const double *w, double *row, double tolerance)
{
    int m = claim->m;
    const double *v = claim->V + i * m;
    double top = kern->variance, norm = 0.0, sum = 0.0, slack = (1e-11 + 1e-14 * m) * top;
    for (int j = 0; j < m; j++)
        norm += v[j] * v[j];
    if (!claim->L)
        return isfinite(norm) && claim->variance[i] >= fmax(top - norm - 1e-8 * top, 0.0) ? INDUCING_SOUND
                                                                                          : INDUCING_VARIANCES;
    if (m)
        kernel_row(kern, claim->d, claim->x + i * claim->d, m, claim->z, row);
    for (int j = 0; j < m; j++)
        sum += w[j] * v[j] - u[j] * row[j];
    if (!(fabs(sum) <= tolerance))
        return INDUCING_FEATURES;
    return fabs(claim->variance[i] - (top - norm)) <= slack ? INDUCING_SOUND : INDUCING_VARIANCES;
}

status inducing_check(const kernel *kern, const inducing_claim *claim, int threads, const monitor *mon,
                      inducing_part *wrong)
{
    size_t m = claim->m, rows = 2 * (m + 8);
    double *u = scratch_alloc(2 * m + rows * threads + 1, sizeof(double)), *w = u + m, size = 0.0;
    if (!u)
        return status_fail(STATUS_MEMORY);
    for (size_t j = 0; j < m; j++) {
        u[j] = combination(j);
        size += fabs(u[j]);
    }
    double tolerance = (1e-11 + 1e-14 * m) * kern->variance * size;
    int found = INDUCING_SOUND;
    /* the factor is checked as sharply as rounding lets it: a small jitter is all that inducing inputs leave of
     * themselves */
    if (claim->L && m && !check_factor(kern, claim, u, w, w + m, (2e-13 + 1e-15 * m) * kern->variance * size))
        found = INDUCING_FACTOR;
    pace p = pace_over(mon, found == INDUCING_SOUND ? claim->n : 0, 64);
    while (pace_next(&p)) {
#pragma omp parallel for num_threads(threads) schedule(static) reduction(max : found)
        for (size_t i = p.first; i < p.last; i++) {
            int part = check_point(kern, claim, i, u, w, w + m + rows * threads_id(), tolerance);
            found = part > found ? part : found;
        }
    }
    scratch_free(u);
    *wrong = (inducing_part)found;
    return pace_end(&p);
}

status inducing_solve(int m, const double *L, int transposed, size_t n, const double *V, int threads,
                      const monitor *mon, double *W)
{
    if (m == 0)
        return status_ok();
    int cols = simd->cols;
    linalg_triangle triangle;
    status result = linalg_triangle_pack(m, L, transposed, &triangle);
    if (result.code)
        return result;
    double *scratch = scratch_alloc((size_t)m * cols * threads, sizeof(double));
    if (!scratch) {
        linalg_triangle_free(&triangle);
        return status_fail(STATUS_MEMORY);
    }
    pace p = pace_over(mon, (n + cols - 1) / cols, threads);
    while (pace_next(&p)) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16)
        for (size_t panel = p.first; panel < p.last; panel++) {
            size_t first = panel * cols;
            double *B = scratch + (size_t)m * cols * threads_id();
            int filled = n - first < (size_t)cols ? (int)(n - first) : cols;
            simd_pack(m, cols, filled, V + first * m, m, 1, B);
            linalg_solve_panel(&triangle, B);
            simd_unpack(m, filled, B, W + first * m);
        }
    }
    linalg_triangle_free(&triangle);
    scratch_free(scratch);
    return pace_end(&p);
}

/* near[i] <- min(near[i], |x_i - centre|^2), and their sums over blocks, where they are wanted. */
static void shrink_distances(int d, size_t n, const double *x, const double *centre, int threads, double *near,
                             double *sums)
{
    size_t blocks = (n + NEAR_BLOCK - 1) / NEAR_BLOCK;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t block = 0; block < blocks; block++) {
        size_t end = (block + 1) * NEAR_BLOCK < n ? (block + 1) * NEAR_BLOCK : n;
        double sum = 0.0;
        for (size_t i = block * NEAR_BLOCK; i < end; i++) {
            double s2 = linalg_distance2(d, x + i * d, centre);
            if (s2 < near[i])
                near[i] = s2;
            sum += near[i];
        }
        if (sums)
            sums[block] = sum;
    }
}

/* A point drawn with probability proportional to its squared distance; the last of any where rounding leaves none. */
static size_t draw_far(size_t n, const double *near, const double *sums, double uniform)
{
    size_t blocks = (n + NEAR_BLOCK - 1) / NEAR_BLOCK, block = 0, chosen = n;
    double total = 0.0, sum = 0.0;
    for (size_t b = 0; b < blocks; b++)
        total += sums[b];
    double target = uniform * total;
    for (; block < blocks && !(sum + sums[block] > target); block++)
        sum += sums[block];
    for (size_t i = block * NEAR_BLOCK; i < n && !(sum > target); i++)
        if (near[i] > 0.0) {
            sum += near[i];
            chosen = i;
        }
    while (chosen == n || (chosen > 0 && !(near[chosen] > 0.0)))
        chosen--;
    return chosen;
}

/* Moves each centre to the mean of the points nearest to it; a centre without points stays. */
static status lloyd_step(int d, size_t n, const double *x, int m, int threads, const monitor *mon, double *panels,
                         double *centres, int *nearest, double *sums, size_t *counts)
{
    size_t cols = simd->cols;
    pace p = pace_over(mon, (n + cols - 1) / cols, threads);
    while (pace_next(&p)) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (size_t panel = p.first; panel < p.last; panel++) {
            size_t first = panel * cols;
            double *points = panels + (size_t)threads_id() * d * cols;
            simd_pack(d, (int)cols, n - first < cols ? n - first : cols, x + first * d, d, 1, points);
            simd->nearest_rows(d, m, centres, points, nearest + first);
        }
    }
    if (p.stopped)
        return pace_end(&p);
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
    return status_ok();
}

status inducing_kmeans(int d, size_t n, const double *x, int m, const double *uniforms, int threads, const monitor *mon,
                       double *centres)
{
    double *near, *block_sums, *sums, *panels;
    int *nearest;
    size_t *counts;
    if (!SCRATCH_ALL(SCRATCH_FOR(near, n), SCRATCH_FOR(block_sums, n / NEAR_BLOCK + 1),
                     SCRATCH_FOR(sums, (size_t)m * d), SCRATCH_FOR(panels, (size_t)threads * d * SIMD_MAX_COLS),
                     SCRATCH_FOR(nearest, n + SIMD_MAX_COLS), SCRATCH_FOR(counts, m)))
        return status_fail(STATUS_MEMORY);
    status result = status_ok();
    for (size_t i = 0; i < n; i++)
        near[i] = INFINITY;
    for (int c = 0; c < m && !result.code; c++) {
        size_t chosen = c ? draw_far(n, near, block_sums, uniforms[c]) : (size_t)(uniforms[0] * (double)n);
        memcpy(centres + (size_t)c * d, x + chosen * d, d * sizeof(double));
        shrink_distances(d, n, x, centres + (size_t)c * d, threads, near, block_sums);
        if (monitor_poll(mon, 0.0))
            result = status_fail(STATUS_INTERRUPTED);
    }
    for (int step = 0; step < LLOYD_STEPS && !result.code; step++)
        result = lloyd_step(d, n, x, m, threads, mon, panels, centres, nearest, sums, counts);
    SCRATCH_FREE(near, block_sums, sums, panels, nearest, counts);
    return result;
}

status inducing_maxmin(int d, size_t n, const double *x, int m, int threads, const monitor *mon, int *ids)
{
    double *near = scratch_alloc(n + 1, sizeof(double));
    if (!near)
        return status_fail(STATUS_MEMORY);
    for (size_t i = 0; i < n; i++)
        near[i] = INFINITY;
    size_t chosen = 0;
    int stopped = 0;
    for (int c = 0; c < m && !stopped; c++) {
        ids[c] = (int)chosen;
        shrink_distances(d, n, x, x + chosen * d, threads, near, NULL);
        chosen = 0;
        for (size_t i = 1; i < n; i++)
            if (near[i] > near[chosen])
                chosen = i;
        stopped = monitor_poll(mon, 0.0);
    }
    scratch_free(near);
    return stopped ? status_fail(STATUS_INTERRUPTED) : status_ok();
}

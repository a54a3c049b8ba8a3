#include "vif/slopes.h"

#include "base/linalg.h"
#include "base/scratch.h"
#include "base/threads.h"

#include <math.h>
#include <string.h>

#define POLL_PANELS 256  /* for each thread, between two polls */
#define DONE 0.1         /* of an evaluation after this, for the monitor */
#define SMOOTH_STEP 1e-4 /* of log nu, for central differences: errors h^2 and rounding / h */

int slopes_count(const slopes *sl) { return (sl->axes ? sl->d : 1) + (sl->smoothness ? 1 : 0); }

slopes slopes_new(const kernel *kern, int d, int axes, int smoothness)
{
    slopes out = {kern, d, axes, smoothness, *kern, *kern};
    const char *name = kernel_name(kern->family);
    if (smoothness) {
        kernel_make(name, kern->variance, kern->smoothness * exp(SMOOTH_STEP), &out.up);
        kernel_make(name, kern->variance, kern->smoothness * exp(-SMOOTH_STEP), &out.down);
    }
    return out;
}

static void function_slopes(const slopes *sl, size_t count, const double *s2, double *value, double *common,
                            double *smooth)
{
    const kernel *kern = sl->kern;
    for (size_t i = 0; i < count; i++) {
        value[i] = kernel_value(kern, s2[i]);
        common[i] = s2[i] > 0 ? -kernel_slope(kern, s2[i]) * s2[i] : 0;
        if (smooth)
            smooth[i] = (kernel_value(&sl->up, s2[i]) - kernel_value(&sl->down, s2[i])) / (2 * SMOOTH_STEP);
    }
}

void slopes_values(const slopes *sl, size_t count, const double *s2, double *value, double *common, double *smooth)
{
    radial rad = kernel_radial(sl->kern);
    if (rad.kind == RADIAL_FUNCTION)
        function_slopes(sl, count, s2, value, common, smooth);
    else
        simd->radial_slopes(&rad, count, s2, value, common);
    for (size_t i = 0; sl->axes && i < count; i++)
        common[i] = s2[i] > 0 ? common[i] / s2[i] : 0;
}

/* B[c] (m x cols) <- the derivatives of k(z, points) for one column panel of scaled points. */
static void slope_panel(const slopes *sl, int m, const double *z_panels, const double *points, double *const *B)
{
    int rows = simd->rows, cols = simd->cols, d = sl->d, lengths = sl->axes ? d : 1;
    double s2[SIMD_MAX_ROWS * SIMD_MAX_COLS], value[SIMD_MAX_ROWS * SIMD_MAX_COLS],
        common[SIMD_MAX_ROWS * SIMD_MAX_COLS];
    for (int u = 0; u < m; u += rows) {
        int height = m - u < rows ? m - u : rows;
        const double *z = z_panels + (size_t)u * d;
        simd->distance_tile(d, z, points, s2);
        slopes_values(sl, (size_t)height * cols, s2, value, common,
                      sl->smoothness ? B[lengths] + (size_t)u * cols : NULL);
        if (!sl->axes)
            memcpy(B[0] + (size_t)u * cols, common, (size_t)height * cols * sizeof(double));
        for (int l = 0; sl->axes && l < d; l++)
            for (int a = 0; a < height; a++)
                for (int j = 0; j < cols; j++) {
                    double diff = z[l * rows + a] - points[l * cols + j];
                    B[l][(size_t)(u + a) * cols + j] = common[a * cols + j] * diff * diff;
                }
    }
}

/* A (m x m) <- L^-1 A. */
static void solve_columns(const linalg_triangle *triangle, int m, double *A, double *panel)
{
    int cols = simd->cols;
    for (int first = 0; first < m; first += cols) {
        int filled = m - first < cols ? m - first : cols;
        simd_pack(m, cols, filled, A + (size_t)first * m, m, 1, panel);
        linalg_solve_panel(triangle, panel);
        simd_unpack(m, filled, panel, A + (size_t)first * m);
    }
}

static void transpose(int m, double *A)
{
    for (int j = 0; j < m; j++)
        for (int i = 0; i < j; i++) {
            double held = A[i + (size_t)j * m];
            A[i + (size_t)j * m] = A[j + (size_t)i * m];
            A[j + (size_t)i * m] = held;
        }
}

/* A <- L Phi(L^-1 A L^-T), the derivative of L, from A, the derivative of K. */
static void factor_slope(const linalg_triangle *triangle, int m, const double *L, double *A, double *work,
                         double *panel)
{
    solve_columns(triangle, m, A, panel);
    transpose(m, A);
    solve_columns(triangle, m, A, panel);
    memcpy(work, A, (size_t)m * m * sizeof(double));
    memset(A, 0, (size_t)m * m * sizeof(double));
    for (int j = 0; j < m; j++)
        for (int u = j; u < m; u++)
            simd->add_multiple(m - u, (u == j ? 0.5 : 1) * work[u + (size_t)j * m], L + u + (size_t)u * m,
                               A + u + (size_t)j * m);
}

status slopes_features(const slopes *sl, int m, const double *z, const double *L, size_t n, const double *x,
                       const double *V, int threads, const monitor *mon, double *const *dV)
{
    int rows = simd->rows, cols = simd->cols, d = sl->d, count = slopes_count(sl);
    size_t square = (size_t)m * m, panel = (size_t)(m + rows) * cols, packed = (size_t)(m + rows) * m;
    size_t own = (size_t)(d + 1) * cols + (count + 1) * panel;
    linalg_triangle triangle;
    status result = linalg_triangle_pack(m, L, 0, &triangle);
    if (result.code)
        return result;
    double *z_panels, *dL, *dL_panels, *scratch, **panels;
    if (!SCRATCH_ALL(SCRATCH_FOR(z_panels, (size_t)(m + rows) * d), SCRATCH_FOR(dL, (count + 1) * square + 1),
                     SCRATCH_FOR(dL_panels, count * packed + 1), SCRATCH_FOR(scratch, own * threads),
                     SCRATCH_FOR(panels, (size_t)count * threads + 1))) {
        result = status_fail(STATUS_MEMORY);
        goto done;
    }
    for (int t = 0; t < threads; t++)
        for (int c = 0; c < count; c++)
            panels[t * count + c] = scratch + own * t + (size_t)(d + 1) * cols + (c + 1) * panel;
    simd_pack(d, rows, m, z, d, 1, z_panels);
    for (int first = 0; first < m; first += cols) {
        int filled = m - first < cols ? m - first : cols;
        simd_pack(d, cols, filled, z + (size_t)first * d, d, 1, scratch);
        slope_panel(sl, m, z_panels, scratch, panels);
        for (int c = 0; c < count; c++)
            simd_unpack(m, filled, panels[c], dL + c * square + (size_t)first * m);
    }
    for (int c = 0; c < count; c++) {
        factor_slope(&triangle, m, L, dL + c * square, dL + count * square, panels[0]);
        simd_pack(m, rows, m, dL + c * square, 1, m, dL_panels + c * packed);
    }
    for (size_t from = 0, step = (size_t)POLL_PANELS * cols * threads; from < n; from += step) {
        size_t stop = from + step < n ? from + step : n;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16)
        for (size_t first = from; first < stop; first += cols) {
            int thread = threads_id(), filled = n - first < (size_t)cols ? (int)(n - first) : cols;
            double *points = scratch + own * thread, *features = points + (size_t)(d + 1) * cols;
            double **B = panels + (size_t)count * thread, tile[SIMD_MAX_ROWS * SIMD_MAX_COLS];
            int ids[SIMD_MAX_COLS];
            for (int j = 0; j < cols; j++)
                ids[j] = j < filled ? j : 0;
            unsigned state = simd_flush();
            simd_pack(d, cols, filled, x + first * d, d, 1, points);
            simd->pack_rows(m, cols, filled, V + first * m, ids, features);
            slope_panel(sl, m, z_panels, points, B);
            for (int c = 0; c < count; c++) {
                for (int u = 0; u < m; u += rows) {
                    int height = m - u < rows ? m - u : rows;
                    simd->dot_tile(u + height, dL_panels + c * packed + (size_t)u * m, features, tile);
                    for (int e = 0; e < height * cols; e++)
                        B[c][(size_t)u * cols + e] -= tile[e];
                }
                linalg_solve_panel(&triangle, B[c]);
                simd_unpack(m, filled, B[c], dV[c] + first * m);
            }
            simd_restore(state);
        }
        if (monitor_poll(mon, DONE * (double)stop / (double)n)) {
            result = status_fail(STATUS_INTERRUPTED);
            goto done;
        }
    }
done:
    linalg_triangle_free(&triangle);
    SCRATCH_FREE(z_panels, dL, dL_panels, scratch, panels);
    return result;
}

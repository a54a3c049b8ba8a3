#include "landmarks.h"

#include "scratch.h"
#include "simd.h"
#include "threads.h"

#include <string.h>

#define RIDGE 1e-4

void landmarks_free(landmarks *l)
{
    scratch_free(l->ids);
    scratch_free(l->scale);
    scratch_free(l->panels_x);
    scratch_free(l->panels_v);
    linalg_triangle_free(&l->triangle);
    memset(l, 0, sizeof(*l));
}

/* Correlations of the landmarks with one column panel of points: out (count x cols). */
static void correlate(const landmarks *l, const double *x, const double *v, const double *scale,
                      double *out)
{
    int rows = simd->rows, cols = simd->cols;
    radial rad = kernel_radial(l->kern);
    double tile[SIMD_MAX_ROWS * SIMD_MAX_COLS] __attribute__((aligned(64)));
    for (int first = 0; first < l->count; first += rows) {
        simd->residual_tile(&rad, l->d, l->panels_x + (size_t)first * l->d, x, l->m,
                            l->panels_v + (size_t)first * l->m, v, tile);
        for (int a = 0; a < rows && first + a < l->count; a++)
            for (int j = 0; j < cols; j++)
                out[(size_t)(first + a) * cols + j] =
                    tile[a * cols + j] * (l->scale[first + a] * scale[j]);
    }
}

static void correlate_points(const landmarks *l, const metric_points *points, const int *ids,
                             int count, double *panel)
{
    int cols = simd->cols;
    double *x = panel + (size_t)l->count * cols, *v = x + (size_t)l->d * cols;
    double scale[SIMD_MAX_COLS];
    for (int j = 0; j < cols; j++)
        scale[j] = points->scale[ids[j < count ? j : 0]];
    simd_pack_rows(l->d, cols, count, points->x, ids, x);
    simd_pack_rows(l->m, cols, count, points->v, ids, v);
    correlate(l, x, v, scale, panel);
}

void landmarks_features(const landmarks *l, const metric_points *points, const int *ids, int count,
                        double *panel, double *tail2)
{
    double norms[SIMD_MAX_COLS];
    correlate_points(l, points, ids, count, panel);
    linalg_solve_panel(&l->triangle, panel);
    simd->panel_norms(l->count, panel, norms);
    for (int j = 0; j < count; j++)
        tail2[j] = norms[j] < 1.0 ? 1.0 - norms[j] : 0.0;
}

/* Packs the landmarks chosen so far and factors their correlations. */
static status factor(const metric_points *points, int threads, landmarks *l)
{
    int rows = simd->rows, cols = simd->cols, count = l->count;
    size_t room = (size_t)(count + l->d + l->m) * cols;
    double *C = scratch_alloc((size_t)count * count, sizeof(double));
    double *scratch = scratch_alloc(room * threads, sizeof(double)), sum = 0.0;
    status result = status_fail(STATUS_MEMORY);
    if (!C || !scratch)
        goto done;
    for (int a = 0; a < count + rows; a++)
        l->scale[a] = a < count ? points->scale[l->ids[a]] : 0.0;
    for (int a = 0; a < count; a++)
        sum += l->scale[a] * l->scale[a];
    l->noise = 2.0 * (l->m + 10.0) * ldexp(1.0, -53) * l->kern->variance * sqrt(sum / RIDGE);
    simd_pack_rows(l->d, rows, count, points->x, l->ids, l->panels_x);
    simd_pack_rows(l->m, rows, count, points->v, l->ids, l->panels_v);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int first = 0; first < count; first += cols) {
        double *panel = scratch + room * threads_id();
        int columns = count - first < cols ? count - first : cols;
        correlate_points(l, points, l->ids + first, columns, panel);
        for (int j = 0; j < columns; j++)
            for (int a = 0; a < count; a++)
                C[a + (size_t)(first + j) * count] =
                    panel[(size_t)a * cols + j] + (a == first + j ? RIDGE : 0.0);
    }
    result = linalg_cholesky(count, C);
    linalg_triangle_free(&l->triangle);
    if (!result.code)
        result = linalg_triangle_pack(count, C, 0, &l->triangle);
done:
    scratch_free(C);
    scratch_free(scratch);
    return result;
}

/* Appends `more` landmarks, evenly in the cumulated weights along the order. */
static void spread(const int *perm, size_t n, const double *weight, int more, landmarks *l)
{
    double total = 0.0, sum = 0.0;
    for (size_t i = 0; i < n; i++)
        total += weight[i];
    int taken = 0;
    for (size_t i = 0; i < n && taken < more; i++) {
        sum += weight[i];
        if (weight[i] > 0.0 && sum > (taken + 0.5) / more * total) {
            l->ids[l->count + taken++] = perm[i];
            while (taken < more && sum > (taken + 0.5) / more * total)
                more--; /* one point stands for several quantiles */
        }
    }
    l->count += taken;
}

status landmarks_build(const kernel *kern, const metric_points *points, const int *perm, int count,
                       int threads, landmarks *l)
{
    size_t n = points->n, rows = simd->rows, cols = simd->cols;
    memset(l, 0, sizeof(*l));
    l->kern = kern;
    l->d = points->d;
    l->m = points->m;
    l->ids = scratch_alloc(count, sizeof(int));
    l->scale = scratch_alloc(count + rows, sizeof(double));
    l->panels_x = scratch_alloc((count + rows) * l->d, sizeof(double));
    l->panels_v = scratch_alloc((count + rows) * l->m + 1, sizeof(double));
    size_t room = (count + l->d + l->m) * cols;
    double *weight = scratch_alloc(n, sizeof(double));
    double *scratch = scratch_alloc(room * threads, sizeof(double));
    status result = status_fail(STATUS_MEMORY);
    if (!l->ids || !l->scale || !l->panels_x || !l->panels_v || !weight || !scratch)
        goto done;
    for (size_t i = 0; i < n; i++)
        weight[i] = points->scale[perm[i]] > 0.0;
    spread(perm, n, weight, count / 4, l);
    result = factor(points, threads, l);
    if (result.code)
        goto done;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16)
    for (size_t first = 0; first < n; first += cols) {
        int columns = n - first < cols ? (int)(n - first) : (int)cols;
        double tail2[SIMD_MAX_COLS];
        landmarks_features(l, points, perm + first, columns, scratch + room * threads_id(), tail2);
        for (int j = 0; j < columns; j++)
            weight[first + j] *= tail2[j] > 1e-3 ? tail2[j] : 0.0; /* not the landmarks again */
    }
    spread(perm, n, weight, count - l->count, l);
    result = factor(points, threads, l);
done:
    scratch_free(weight);
    scratch_free(scratch);
    if (result.code)
        landmarks_free(l);
    return result;
}

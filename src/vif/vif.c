#include "vif/vif.h"

#include "base/linalg.h"
#include "base/pace.h"
#include "base/scratch.h"
#include "base/threads.h"
#include "simd/simd.h"

#include <math.h>
#include <string.h>

#define CHUNK 16       /* batches that a thread takes at once, */
#define POLL_CHUNKS 16 /* and such chunks for each thread between two polls */

/* The regressions of the children of a batch. */
static void batch_children(const batch_problem *problem, size_t at, size_t end, batch *b, double *coef, double *D,
                           double *W, size_t *worst)
{
    int lanes = simd->lanes, size = b->size, k = problem->k, first = size - 1 - k;
    const int *child = problem->order + at;
    batch_load(problem, child, end - at < (size_t)lanes ? (int)(end - at) : lanes, b);
    batch_covariance(problem, NULL, NULL, b);
    unsigned failed = batch_factor(b);
    for (int lane = 0; lane < b->count; lane++) {
        size_t i = child[lane];
        if (failed >> lane & 1 && i < *worst)
            *worst = i;
        for (int slot = 0; slot < k; slot++) {
            int place = (first + slot) * lanes + lane;
            coef[i * k + slot] = b->id[place] < 0 ? 0 : -b->alpha[place];
        }
        D[i] = batch_variance(b, lane);
        if (!W || problem->m == 0)
            continue;
        for (int place = 0; place < size; place++)
            b->dots[place] = b->alpha[place * lanes + lane];
        double *w = W + i * problem->m;
        simd->combine_rows(problem->m, size, 1, (const double *const *)&b->dots, b->rows + (size_t)lane * size, &w);
    }
}

status vif_regress(const kernel *kern, int d, int m, const vif_points *parents, const vif_points *children, int k,
                   const int *id, int threads, const monitor *mon, double *coef, double *D, double *W)
{
    batch_problem problem;
    status outcome = batch_problem_new(kern, d, m, parents, children, k, id, NULL, threads, NULL, &problem);
    if (outcome.code)
        return outcome;
    batch *all = batch_new(&problem, threads);
    size_t n = children->n, worst = n, lanes = simd->lanes;
    size_t step = CHUNK * lanes, poll = step * POLL_CHUNKS * threads;
    if (!all)
        outcome = status_fail(STATUS_MEMORY);
    for (size_t done = 0; done < n && !outcome.code; done += poll) {
        size_t stop = done + poll < n ? done + poll : n;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(min : worst)
        for (size_t from = done; from < stop; from += step) {
            size_t end = from + step < stop ? from + step : stop;
            unsigned state = simd_flush();
            for (size_t at = from; at < end; at += lanes)
                batch_children(&problem, at, end, all + threads_id(), coef, D, W, &worst);
            simd_restore(state);
        }
        if (monitor_poll(mon, (double)stop / (double)n))
            outcome = status_fail(STATUS_INTERRUPTED);
    }
    batch_free(all, threads);
    batch_problem_free(&problem);
    if (!outcome.code && worst < n)
        outcome = (status){STATUS_NOT_POSITIVE_DEFINITE, worst};
    return outcome;
}

void vif_contrast(const vif_table *table, int q, const double *parents, size_t n, const double *children, int threads,
                  double *out)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t i = 0; i < n; i++) {
        double *own = out + i * q;
        memcpy(own, children + i * q, q * sizeof(double));
        for (int slot = 0; slot < table->k; slot++) {
            int parent = table->id[i + slot * n];
            if (parent >= 1)
                simd->add_multiple(q, -table->coef[i * table->k + slot], parents + ((size_t)parent - 1) * q, own);
        }
    }
}

status vif_norms(int m, const double *L, size_t n, const double *W, int threads, const monitor *mon, double *norm)
{
    int cols = simd->cols;
    linalg_triangle lower = {0};
    double *scratch = scratch_alloc((size_t)(m + 1) * cols * threads, sizeof(double));
    status result = scratch ? linalg_triangle_pack(m, L, 0, &lower) : status_fail(STATUS_MEMORY);
    if (result.code)
        goto done;
    pace slice = pace_over(mon, (n + cols - 1) / cols, 16 * (size_t)threads);
    while (pace_next(&slice)) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16)
        for (size_t panel = slice.first; panel < slice.last; panel++) {
            double *B = scratch + (size_t)(m + 1) * cols * threads_id(), norms[SIMD_MAX_COLS];
            size_t first = panel * cols;
            int width = n - first < (size_t)cols ? (int)(n - first) : cols;
            simd_pack(m, cols, width, W + first * m, m, 1, B);
            linalg_solve_panel(&lower, B);
            simd->panel_norms(m, B, norms);
            memcpy(norm + first, norms, width * sizeof(double));
        }
    }
    result = pace_end(&slice);
done:
    linalg_triangle_free(&lower);
    scratch_free(scratch);
    return result;
}

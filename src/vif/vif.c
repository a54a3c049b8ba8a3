#include "vif/vif.h"

#include "base/linalg.h"
#include "base/scratch.h"
#include "base/threads.h"
#include "simd/simd.h"

#include <math.h>
#include <string.h>

#define BLOCK 16       /* batches that a thread takes at once, */
#define POLL_BLOCKS 16 /* and such blocks for each thread between two polls */
#define WIDE 128       /* systems of this order are factored one by one, in blocks */

/* Scratch of one thread for systems that are factored one by one. */
typedef struct {
    const double **rows;
    double *x, *R, *gram, *last;
} wide;

static void wide_free(wide *all, int threads)
{
    for (int t = 0; all && t < threads; t++) {
        scratch_free(all[t].rows);
        scratch_free(all[t].x);
    }
    scratch_free(all);
}

static wide *wide_new(int d, int k, int threads)
{
    size_t size = k + 1, square = size * size;
    wide *all = scratch_alloc(threads, sizeof(wide));
    if (!all)
        return NULL;
    memset(all, 0, threads * sizeof(wide));
    for (int t = 0; t < threads; t++) {
        all[t].rows = scratch_alloc(size, sizeof(double *));
        all[t].x = scratch_alloc(size * d + 2 * square + size, sizeof(double));
        if (!all[t].rows || !all[t].x) {
            wide_free(all, threads);
            return NULL;
        }
        all[t].R = all[t].x + size * d;
        all[t].gram = all[t].R + square;
        all[t].last = all[t].gram + square;
    }
    return all;
}

/* The regression of child i; nonzero where its covariance is not positive definite. */
static status wide_child(const batch_problem *problem, size_t i, wide *own, double *coef, double *D)
{
    int d = problem->d, k = problem->k, size = 0;
    const int *parent = problem->parent + i * k;
    double variance[2] = {0, problem->children->variance[i]};
    for (int slot = 0; slot <= k; slot++) {
        const vif_points *points = slot < k ? problem->parents : problem->children;
        size_t at = slot < k ? (size_t)parent[slot] : i;
        if (slot < k && parent[slot] < 0)
            continue;
        memcpy(own->x + (size_t)size * d, points->x + at * d, d * sizeof(double));
        own->rows[size++] = points->v + at * problem->m;
    }
    simd->gram_rows(problem->m, size, own->rows, own->gram);
    for (int p = 0, slot = 0; p < size; p++, slot++) {
        while (p < size - 1 && parent[slot] < 0)
            slot++;
        kernel_row(problem->kern, d, own->x + (size_t)p * d, p, own->x, own->last);
        const double *gram = own->gram + (size_t)p * (p + 1) / 2;
        for (int q = 0; q < p; q++)
            own->R[p + (size_t)q * size] = own->last[q] - gram[q];
        if (p < size - 1)
            variance[0] = problem->parents->variance[parent[slot]];
        own->R[p + (size_t)p * size] = variance[p == size - 1];
    }
    status outcome = linalg_cholesky(size, NULL, own->R);
    if (outcome.code)
        return outcome;
    /* the child's own row of the factor is L^-1 r, its pivot the standard deviation */
    int last = size - 1;
    double *a = own->last, deviation = own->R[last + (size_t)last * size];
    for (int q = 0; q < last; q++)
        a[q] = own->R[last + (size_t)q * size];
    for (int p = last - 1; p >= 0; --p) {
        const double *column = own->R + (size_t)p * size, *below = column + p + 1;
        double sum = 0;
        if (p + 1 < last)
            simd->dot_rows(last - p - 1, a + p + 1, 1, &below, &sum);
        a[p] = (a[p] - sum) / column[p];
    }
    for (int slot = 0, p = 0; slot < k; slot++)
        coef[slot] = parent[slot] < 0 ? 0 : a[p++];
    *D = deviation * deviation;
    return status_ok();
}

/* The regressions of the children of a batch. */
static void batch_children(const batch_problem *problem, size_t at, size_t end, batch *b,
                           double *coef, double *D, size_t *worst)
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
    }
}

status vif_regress(const kernel *kern, int d, int m, const vif_points *parents,
                   const vif_points *children, int k, const int *id, int threads,
                   const monitor *mon, double *coef, double *D)
{
    batch_problem problem;
    status outcome = batch_problem_new(kern, d, m, parents, children, k, id, &problem);
    if (outcome.code)
        return outcome;
    int one_by_one = k + 1 >= WIDE;
    batch *all = one_by_one ? NULL : batch_new(&problem, threads);
    wide *wides = one_by_one ? wide_new(d, k, threads) : NULL;
    size_t n = children->n, worst = n, failed = 0, length = one_by_one ? 1 : simd->lanes;
    size_t step = (one_by_one ? 1 : BLOCK) * length, poll = step * POLL_BLOCKS * threads;
    if (!all && !wides)
        outcome = status_fail(STATUS_MEMORY);
    for (size_t done = 0; done < n && !outcome.code; done += poll) {
        size_t stop = done + poll < n ? done + poll : n;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(min : worst) reduction(+ : failed)
        for (size_t from = done; from < stop; from += step) {
            size_t end = from + step < stop ? from + step : stop;
            unsigned state = simd_flush();
            for (size_t at = from; at < end; at += length) {
                size_t i = problem.order[at];
                if (!one_by_one) {
                    batch_children(&problem, at, end, all + threads_id(), coef, D, &worst);
                    continue;
                }
                status child = wide_child(&problem, i, wides + threads_id(), coef + i * k, D + i);
                failed += child.code == STATUS_MEMORY;
                if (child.code == STATUS_NOT_POSITIVE_DEFINITE && i < worst)
                    worst = i;
            }
            simd_restore(state);
        }
        if (failed)
            outcome = status_fail(STATUS_MEMORY);
        else if (monitor_poll(mon, (double)stop / (double)n))
            outcome = status_fail(STATUS_INTERRUPTED);
    }
    batch_free(all, threads);
    wide_free(wides, threads);
    batch_problem_free(&problem);
    if (!outcome.code && worst < n)
        outcome = (status){STATUS_NOT_POSITIVE_DEFINITE, worst};
    return outcome;
}

void vif_contrast(const vif_table *table, int q, const double *parents, size_t n,
                  const double *children, int threads, double *out)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t i = 0; i < n; i++) {
        double *own = out + i * q;
        memcpy(own, children + i * q, q * sizeof(double));
        for (int slot = 0; slot < table->k; slot++) {
            int parent = table->id[i + slot * n];
            if (parent >= 1)
                simd->add_multiple(q, -table->coef[i * table->k + slot],
                                   parents + ((size_t)parent - 1) * q, own);
        }
    }
}

status vif_norms(int m, const double *L, size_t n, const double *W, int threads, double *norm)
{
    int cols = simd->cols;
    linalg_triangle lower = {0};
    double *scratch = scratch_alloc((size_t)(m + 1) * cols * threads, sizeof(double));
    status result = scratch ? linalg_triangle_pack(m, L, 0, &lower) : status_fail(STATUS_MEMORY);
    if (result.code)
        goto done;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16)
    for (size_t first = 0; first < n; first += cols) {
        double *B = scratch + (size_t)(m + 1) * cols * threads_id(), norms[SIMD_MAX_COLS];
        int width = n - first < (size_t)cols ? (int)(n - first) : cols;
        simd_pack(m, cols, width, W + first * m, m, 1, B);
        linalg_solve_panel(&lower, B);
        simd->panel_norms(m, B, norms);
        memcpy(norm + first, norms, width * sizeof(double));
    }
done:
    linalg_triangle_free(&lower);
    scratch_free(scratch);
    return result;
}

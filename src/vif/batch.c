#include "vif/batch.h"

#include "base/scratch.h"
#include "partition/order.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* ---- the problem ------------------------------------------------------------------------------ */

status batch_problem_new(const kernel *kern, int d, int m, const vif_points *parents, const vif_points *children, int k,
                         const int *id, const int *sequence, int threads, scratch_pool *pool, batch_problem *out)
{
    size_t n = children->n;
    *out =
        (batch_problem){.kern = kern, .d = d, .m = m, .k = k, .parents = parents, .children = children, .pool = pool};
    out->parent = scratch_take(pool, n * k + 1, sizeof(int));
    out->order = scratch_take(pool, n + 1, sizeof(int));
    status result = out->parent && out->order ? status_ok() : status_fail(STATUS_MEMORY);
    if (!result.code && !sequence)
        result = order_space(d, n, children->x, out->order);
    for (size_t i = 0; i < n && sequence && !result.code; i++)
        out->order[i] = (int)i;
    if (result.code) {
        batch_problem_free(out);
        return result;
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t first = 0; first < n; first += 64) /* chunks, for both sides to be read in lines */
        for (int slot = 0; slot < k; slot++)
            for (size_t i = first; i < n && i < first + 64; i++) {
                int parent = id[i + slot * n];
                size_t child = sequence ? (size_t)sequence[i] : i;
                out->parent[child * k + slot] = parent < 1 ? -1 : sequence ? sequence[parent - 1] : parent - 1;
            }
    return status_ok();
}

void batch_problem_free(batch_problem *problem)
{
    scratch_give(problem->pool, problem->parent);
    scratch_give(problem->pool, problem->order);
    problem->parent = problem->order = NULL;
}

/* ---- batches ---------------------------------------------------------------------------------- */

size_t batch_triangle(int size) { return (size_t)size * (size + 1) / 2 * simd->lanes; }

void batch_free(batch *all, int threads)
{
    for (int t = 0; all && t < threads; t++) {
        batch *b = all + t;
        SCRATCH_FREE(b->id, b->rows, b->x, b->s2, b->R, b->inverse, b->alpha, b->gram, b->dots, b->nothing);
    }
    scratch_free(all);
}

static int batch_open(const batch_problem *problem, batch *b)
{
    int size = (problem->k + 2) / 2 * 2;
    size_t vector = (size_t)size * simd->lanes, triangle = batch_triangle(size);
    b->size = size;
    if (!SCRATCH_ALL(SCRATCH_FOR(b->id, vector), SCRATCH_FOR(b->rows, vector), SCRATCH_FOR(b->x, vector * problem->d),
                     SCRATCH_FOR(b->s2, triangle), SCRATCH_FOR(b->R, triangle), SCRATCH_FOR(b->inverse, vector),
                     SCRATCH_FOR(b->alpha, vector), SCRATCH_FOR(b->gram, triangle / simd->lanes),
                     SCRATCH_FOR(b->dots, size), SCRATCH_FOR(b->nothing, (size_t)problem->m + 1)))
        return 0;
    memset(b->nothing, 0, problem->m * sizeof(double));
    return 1;
}

batch *batch_new(const batch_problem *problem, int threads)
{
    batch *all = scratch_zeros(threads, sizeof(batch));
    for (int t = 0; all && t < threads; t++)
        if (!batch_open(problem, all + t)) {
            batch_free(all, threads);
            return NULL;
        }
    return all;
}

void batch_load(const batch_problem *problem, const int *child, int count, batch *b)
{
    int size = b->size, lanes = simd->lanes, d = problem->d, m = problem->m, k = problem->k;
    int first = size - 1 - k;
    b->child = child;
    b->count = count;
    for (int lane = 0; lane < lanes; lane++) {
        const int *parent = lane < count ? problem->parent + (size_t)child[lane] * k : NULL;
        for (int p = 0; p < size; p++) {
            int at = -1;
            const vif_points *points = problem->parents;
            if (parent && p == size - 1) {
                at = child[lane];
                points = problem->children;
            } else if (parent && p >= first) {
                at = parent[p - first];
            }
            b->id[p * lanes + lane] = at;
            b->rows[lane * size + p] = at >= 0 ? points->v + (size_t)at * m : b->nothing;
            for (int l = 0; l < d; l++)
                b->x[((size_t)p * d + l) * lanes + lane] = at >= 0 ? points->x[(size_t)at * d + l] : 0;
        }
    }
}

/* What is read after the products of a lane: features of the next, and how those of this one change. */
static void fetch_lane(const batch_problem *problem, const batch *b, int lane)
{
    int lanes = simd->lanes, size = b->size, m = problem->m;
    for (int p = 0; p < size; p++) {
        int at = b->id[p * lanes + lane];
        if (lane + 1 < lanes)
            scratch_fetch(b->rows[(lane + 1) * size + p], m * sizeof(double));
        for (int c = 0; c < problem->change_count && at >= 0; c++)
            scratch_fetch(problem->changes[c] + (size_t)at * m, m * sizeof(double));
    }
}

void batch_covariance(const batch_problem *problem, const slopes *sl, double *const *dK, batch *b)
{
    int size = b->size, lanes = simd->lanes, d = problem->d;
    size_t triangle = batch_triangle(size);
    simd->lane_distances(d, size, b->x, b->s2);
    if (!sl) {
        kernel_values(problem->kern, triangle, b->s2, b->R);
    } else {
        int lengths = sl->axes ? d : 1;
        slopes_values(sl, triangle, b->s2, b->R, dK[lengths - 1], sl->smoothness ? dK[lengths] : NULL);
        for (int l = 0; sl->axes && l < d; l++) /* the last direction holds what all need */
            simd->lane_axis(d, l, size, b->x, dK[d - 1], dK[l]);
    }
    for (int lane = 0; lane < lanes; lane++) {
        if (problem->m) {
            double *R = b->R + lane;
            const double *dot = b->gram;
            fetch_lane(problem, b, lane);
            simd->gram_rows(problem->m, size, b->rows + lane * size, b->gram);
            for (size_t e = 0; e < triangle / lanes; e++)
                R[e * lanes] -= dot[e];
        }
        for (int p = 0; p < size; p++) {
            double *row = b->R + batch_triangle(p) + lane;
            int at = b->id[p * lanes + lane];
            row[p * lanes] = at < 0          ? 1
                             : p == size - 1 ? problem->children->variance[at]
                                             : problem->parents->variance[at];
            if (at >= 0)
                continue;
            for (int q = 0; q < p; q++)
                row[q * lanes] = 0;
            for (int q = p + 1; q < size; q++)
                b->R[batch_triangle(q) + p * lanes + lane] = 0;
        }
    }
}

unsigned batch_factor(batch *b)
{
    int size = b->size, lanes = simd->lanes, last = size - 1;
    unsigned failed = simd->lane_factor(size, b->R, b->inverse);
    /* the child's own row of the factor is L^-1 r, its pivot the standard deviation */
    const double *row = b->R + batch_triangle(last);
    for (int e = 0; e < last * lanes; e++)
        b->alpha[e] = -row[e];
    for (int lane = 0; lane < lanes; lane++)
        b->alpha[last * lanes + lane] = 1;
    simd->lane_solve_back(last, b->R, b->inverse, b->alpha);
    return failed & ((1u << b->count) - 1);
}

double batch_variance(const batch *b, int lane)
{
    int last = b->size - 1;
    double deviation = b->R[batch_triangle(last) + (last * simd->lanes + lane)];
    return deviation * deviation;
}

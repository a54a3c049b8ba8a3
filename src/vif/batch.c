#include "vif/batch.h"

#include "base/scratch.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define ORDER_BITS 32
#define ORDER_AXES 8

/* ---- the problem ------------------------------------------------------------------------------ */

/* The widest coordinates, at most ORDER_AXES, and where they start; the largest width. */
static int widest_axes(int d, size_t n, const double *x, int *axes, double *low, double *width)
{
    int count = 0;
    double range[ORDER_AXES];
    *width = 0;
    for (int l = 0; l < d; l++) {
        double least = INFINITY, most = -INFINITY;
        for (size_t i = 0; i < n; i++) {
            least = fmin(least, x[i * d + l]);
            most = fmax(most, x[i * d + l]);
        }
        double own = most - least;
        if (!(own > 0))
            continue;
        int at = count < ORDER_AXES ? count++ : ORDER_AXES;
        for (; at > 0 && own > range[at - 1]; --at)
            if (at < ORDER_AXES) {
                axes[at] = axes[at - 1];
                low[at] = low[at - 1];
                range[at] = range[at - 1];
            }
        if (at < ORDER_AXES) {
            axes[at] = l;
            low[at] = least;
            range[at] = own;
        }
    }
    for (int a = 0; a < count; a++)
        if (range[a] < 0.125 * range[0])
            count = a;
    *width = count ? range[0] : 1;
    return count;
}

status batch_space_order(int d, size_t n, const double *x, int *order)
{
    int axes[ORDER_AXES];
    double low[ORDER_AXES], width;
    int count = widest_axes(d, n, x, axes, low, &width);
    int bits = count ? ORDER_BITS / count : 0;
    if (bits > 20)
        bits = 20;
    uint32_t *key = scratch_alloc(2 * n + 1, sizeof(uint32_t));
    int *other = scratch_alloc(n + 1, sizeof(int));
    if (!key || !other) {
        scratch_free(key);
        scratch_free(other);
        return status_fail(STATUS_MEMORY);
    }
    double cells = bits ? (double)((uint32_t)1 << bits) : 1;
    for (size_t i = 0; i < n; i++) {
        uint32_t code = 0, cell[ORDER_AXES];
        for (int a = 0; a < count; a++) {
            double at = (x[i * d + axes[a]] - low[a]) / width * cells;
            cell[a] = at < cells - 1 ? (uint32_t)at : (uint32_t)cells - 1;
        }
        for (int bit = bits - 1; bit >= 0; --bit)
            for (int a = 0; a < count; a++)
                code = code << 1 | (cell[a] >> bit & 1);
        key[i] = code;
        order[i] = (int)i;
    }
    uint32_t *from_key = key, *to_key = key + n;
    int *from = order, *to = other;
    for (int shift = 0; shift < 32; shift += 8) { /* an even number of passes ends in `order` */
        size_t start[257] = {0};
        for (size_t i = 0; i < n; i++)
            start[(from_key[i] >> shift & 255) + 1]++;
        for (int b = 0; b < 256; b++)
            start[b + 1] += start[b];
        for (size_t i = 0; i < n; i++) {
            size_t at = start[from_key[i] >> shift & 255]++;
            to_key[at] = from_key[i];
            to[at] = from[i];
        }
        uint32_t *held_key = from_key;
        int *held = from;
        from_key = to_key;
        from = to;
        to_key = held_key;
        to = held;
    }
    scratch_free(key);
    scratch_free(other);
    return status_ok();
}

status batch_problem_new(const kernel *kern, int d, int m, const vif_points *parents, const vif_points *children, int k,
                         const int *id, batch_problem *out)
{
    size_t n = children->n;
    *out = (batch_problem){kern, d, m, k, parents, children, NULL, NULL, NULL, 0};
    out->parent = scratch_alloc(n * k + 1, sizeof(int));
    out->order = scratch_alloc(n + 1, sizeof(int));
    status result = out->parent && out->order ? batch_space_order(d, n, children->x, out->order) : status_fail(STATUS_MEMORY);
    if (result.code) {
        batch_problem_free(out);
        return result;
    }
    for (size_t first = 0; first < n; first += 64) /* blocks, for both sides to be read in lines */
        for (int slot = 0; slot < k; slot++)
            for (size_t i = first; i < n && i < first + 64; i++) {
                int parent = id[i + slot * n];
                out->parent[i * k + slot] = parent >= 1 ? parent - 1 : -1;
            }
    return status_ok();
}

void batch_problem_free(batch_problem *problem)
{
    scratch_free(problem->parent);
    scratch_free(problem->order);
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
            batch_fetch(m, b->rows[(lane + 1) * size + p]);
        for (int c = 0; c < problem->change_count && at >= 0; c++)
            batch_fetch(m, problem->changes[c] + (size_t)at * m);
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

#include "bound/cones.h"

#include "base/pace.h"
#include "base/scratch.h"

#include <string.h>

void cones_free(cones *c)
{
    void *held[] = {c->x, c->v, c->scale, c->cosine, c->sine, c->noise};
    for (size_t i = 0; i < sizeof(held) / sizeof(*held); i++)
        scratch_free(held[i]);
    memset(c, 0, sizeof(*c));
}

size_t cones_columns(const cells *order)
{
    size_t cols = simd->cols;
    return (order->count + cols - 1) / cols * cols;
}

/* The point of a cell that is nearest to the middle of its box, of those that are not special and have not vanished;
 * -1 if there is none. */
static int middle(const bounds *b, int cell)
{
    const cells *order = b->order;
    int d = b->d, nearest = -1;
    const double *low = order->low + (size_t)cell * d, *high = order->high + (size_t)cell * d;
    double least = INFINITY;
    for (int i = order->first[cell]; i < order->first[cell + 1]; i++) {
        int id = order->perm[i];
        const double *x = b->points->x + (size_t)id * d;
        double s2 = 0.0;
        for (int u = 0; u < d; u++) {
            double gap = x[u] - 0.5 * (low[u] + high[u]);
            s2 += gap * gap;
        }
        if (s2 < least && b->points->scale[id] > 0.0 && b->special.rank[id] < 0) {
            least = s2;
            nearest = id;
        }
    }
    return nearest;
}

/* The smallest |rho| of an axis with the points of its cell. */
static double opening(const bounds *b, int cell, int axis)
{
    const int *ids = b->order->perm + b->order->first[cell];
    int count = b->order->first[cell + 1] - b->order->first[cell];
    double rho[CELLS_MOST], least = 1.0;
    metric_list(b->kern, b->points, axis, b->points, ids, count, rho);
    for (int i = 0; i < count; i++)
        if (ids[i] != axis && b->points->scale[ids[i]] > 0.0)
            least = fmin(least, fabs(rho[i]) - b->noise[axis] * b->noise[ids[i]]);
    return fmax(least, 0.0);
}

status cones_build(const bounds *b, int threads, const monitor *mon, cones *c)
{
    const metric_points *points = b->points;
    size_t columns = cones_columns(b->order);
    int *axis = scratch_alloc(columns + 1, sizeof(int)), count = b->order->count;
    memset(c, 0, sizeof(*c));
    c->x = scratch_alloc(columns * points->d + 1, sizeof(double));
    c->v = scratch_alloc(columns * points->m + 1, sizeof(double));
    c->scale = scratch_alloc(columns + 1, sizeof(double));
    c->cosine = scratch_alloc(columns + 1, sizeof(float));
    c->sine = scratch_alloc(columns + 1, sizeof(float));
    c->noise = scratch_alloc(columns + 1, sizeof(float));
    if (!axis || !c->x || !c->v || !c->scale || !c->cosine || !c->sine || !c->noise) {
        scratch_free(axis);
        cones_free(c);
        return status_fail(STATUS_MEMORY);
    }
    pace slice = pace_over(mon, columns, 8 * (size_t)threads);
    while (pace_next(&slice)) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 8)
        for (int cell = (int)slice.first; cell < (int)slice.last; cell++) {
            int id = cell < count ? middle(b, cell) : -1;
            double cosine = id < 0 ? 0.0 : opening(b, cell, id);
            axis[cell] = id < 0 ? 0 : id;
            c->scale[cell] = id < 0 ? 0.0 : points->scale[id];
            c->noise[cell] = id < 0 ? 0.0f : b->noise[id];
            c->cosine[cell] = (float)(cosine * (1.0 - 1e-6));
            c->sine[cell] = (float)(sqrt(1.0 - cosine * cosine) * (1.0 + 1e-6));
        }
    }
    if (slice.stopped) {
        scratch_free(axis);
        cones_free(c);
        return pace_end(&slice);
    }
    simd->pack_rows(points->d, simd->cols, columns, points->x, axis, c->x);
    simd->pack_rows(points->m, simd->cols, columns, points->v, axis, c->v);
    scratch_free(axis);
    return status_ok();
}

#include "index.h"

#include "scratch.h"

#include <string.h>

static void order_free(index_order *order)
{
    scratch_free(order->perm);
    scratch_free(order->cell);
    scratch_free(order->position);
}

typedef struct {
    int d;
    const double *x;
    int *perm;
    char *border; /* by position: a cell starts here */
} refinement;

static int before(const refinement *r, int u, int i, int j)
{
    double a = r->x[(size_t)i * r->d + u], b = r->x[(size_t)j * r->d + u];
    return a < b || (a == b && i < j);
}

/* Permutes positions first .. last - 1 so that the `keep` lowest along coordinate u come first. */
static void select_lowest(const refinement *r, int u, int first, int last, int keep)
{
    int *perm = r->perm, target = first + keep;
    while (last - first > 1) {
        int pivot = perm[first + (last - first) / 2], i = first, j = last - 1;
        while (i <= j) {
            while (before(r, u, perm[i], pivot))
                i++;
            while (before(r, u, pivot, perm[j]))
                j--;
            if (i <= j) {
                int held = perm[i];
                perm[i++] = perm[j];
                perm[j--] = held;
            }
        }
        if (target <= j)
            last = j + 1;
        else if (target >= i)
            first = i;
        else
            return;
    }
}

static int ascending(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

static int widest_side(const refinement *r, int first, int last)
{
    int widest = 0;
    double width = -1.0;
    for (int u = 0; u < r->d; u++) {
        double low = r->x[(size_t)r->perm[first] * r->d + u], high = low;
        for (int i = first + 1; i < last; i++) {
            double x = r->x[(size_t)r->perm[i] * r->d + u];
            low = x < low ? x : low;
            high = x > high ? x : high;
        }
        if (high - low > width) {
            width = high - low;
            widest = u;
        }
    }
    return widest;
}

static void refine(const refinement *r, int first, int last)
{
    int count = last - first;
    if (count <= SCREEN_COLS) {
        qsort(r->perm + first, count, sizeof(int), ascending);
        return;
    }
    /* as many whole cells, or inside a cell whole panels, on the left as fit half of the points */
    int unit = count > INDEX_CELL ? INDEX_CELL : SCREEN_COLS, units = (count + unit - 1) / unit;
    int64_t share = (int64_t)count * (units / 2) / units;
    int left = (int)((share + SCREEN_COLS - 1) / SCREEN_COLS * SCREEN_COLS);
    left = left < count ? left : count - 1;
    select_lowest(r, widest_side(r, first, last), first, last, left);
    if (count > INDEX_CELL)
        r->border[first + left] = 1;
    refine(r, first, first + left);
    refine(r, first + left, last);
}

static status order_build(const tree *structure, int d, const double *x, int threads,
                          index_order *out)
{
    size_t n = structure->n;
    memset(out, 0, sizeof(*out));
    out->n = n;
    out->perm = scratch_alloc(n + 1, sizeof(int));
    out->position = scratch_alloc(n + 1, sizeof(int));
    out->cell = scratch_alloc(n + 2, sizeof(int));
    char *border = scratch_alloc(n + 1, 1);
    if (!out->perm || !out->position || !out->cell || !border) {
        scratch_free(border);
        order_free(out);
        return status_fail(STATUS_MEMORY);
    }
    memset(border, 0, n + 1);
    memcpy(out->perm, structure->perm, n * sizeof(int));
    refinement r = {d, x, out->perm, border};
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int v = 0; v < structure->nodes; v++) {
        int parent = structure->parent[v], count = structure->count[v];
        int small = count <= INDEX_REFINE || structure->children[v] == 0;
        if (small && (parent < 0 || structure->count[parent] > INDEX_REFINE)) {
            border[structure->first[v]] = 1;
            refine(&r, structure->first[v], structure->first[v] + count);
        }
    }
    for (size_t i = 0; i < n; i++) {
        out->position[out->perm[i]] = (int)i;
        if (border[i])
            out->cell[out->cells++] = (int)i;
    }
    out->cell[out->cells] = (int)n;
    scratch_free(border);
    return status_ok();
}

static status order_points(const metric_points *points, int threads, index_order *out)
{
    tree structure;
    status result = tree_build(points->d, points->n, points->x, INDEX_LEAF, threads, &structure);
    if (result.code)
        return result;
    result = order_build(&structure, points->d, points->x, threads, out);
    tree_free(&structure);
    return result;
}

void index_free(index_search *index)
{
    order_free(&index->order);
    order_free(&index->fresh_order);
    screen_free(&index->points);
    screen_free(&index->fresh);
    bounds_free(&index->bound);
    memset(index, 0, sizeof(*index));
}

status index_build(const screen_source *source, const tree *structure, const metric_points *points,
                   const metric_points *from, int threads, index_search *out)
{
    memset(out, 0, sizeof(*out));
    status result = structure
                        ? order_build(structure, points->d, points->x, threads, &out->order)
                        : order_points(points, threads, &out->order);
    if (!result.code)
        result = screen_build(source, points, out->order.perm, out->order.cell, out->order.cells,
                              NULL, threads, &out->points);
    out->from = &out->points;
    out->position = out->order.position;
    if (!result.code && from != points) {
        result = order_points(from, threads, &out->fresh_order);
        if (!result.code)
            result = screen_build(source, from, out->fresh_order.perm, out->fresh_order.cell,
                                  out->fresh_order.cells, &out->points, threads, &out->fresh);
        out->from = &out->fresh;
        out->position = out->fresh_order.position;
    }
    out->bounded = source->L != NULL && points->m > 0 && !out->points.residual;
    if (!result.code && out->bounded)
        result = bounds_build(source, &out->points, threads, &out->bound);
    if (result.code)
        index_free(out);
    return result;
}

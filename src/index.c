#include "index.h"

#include "scratch.h"

#include <string.h>

static void order_free(index_order *order)
{
    scratch_free(order->perm);
    scratch_free(order->cell);
    scratch_free(order->position);
}

/* Cuts the order of a tree at the borders of its leaves, into cells as large as INDEX_CELL allows. */
static status order_build(const tree *structure, index_order *out)
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
    for (int v = 0; v < structure->nodes; v++)
        border[structure->first[v]] |= structure->children[v] == 0;
    border[n] = 1;
    memcpy(out->perm, structure->perm, n * sizeof(int));
    for (size_t i = 0; i < n; i++)
        out->position[out->perm[i]] = (int)i;
    out->cell[0] = 0;
    int start = 0, last = 0; /* last: the last border seen in the cell */
    for (int i = 1; i <= (int)n; i++) {
        while (i - start > INDEX_CELL) { /* no border in reach: duplicates, cut anywhere */
            start = last > start ? last : start + INDEX_CELL;
            out->cell[++out->cells] = start;
        }
        if (border[i])
            last = i;
    }
    out->cell[++out->cells] = (int)n;
    scratch_free(border);
    return status_ok();
}

static status order_points(const metric_points *points, int threads, index_order *out)
{
    tree structure;
    status result = tree_build(points->d, points->n, points->x, INDEX_LEAF, threads, &structure);
    if (result.code)
        return result;
    result = order_build(&structure, out);
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
    status result = structure ? order_build(structure, &out->order)
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
    out->bounded = source->L != NULL && points->m > 0;
    if (!result.code && out->bounded)
        result = bounds_build(source, &out->points, threads, &out->bound);
    if (result.code)
        index_free(out);
    return result;
}

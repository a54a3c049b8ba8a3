/* Best-first search: for each query, cells in the order of what they may still hold.
 *
 * A heap holds the cells by their bound on |rho|, the largest first; the points of the first are
 * evaluated exactly and go to the k-best, until no bound left can enter it. Bounds are the smaller of
 * the kernel-expansion bound (bounds.h) and, where that does not exist, the angle bound:
 * theta(x, y) = acos |rho(x, y)| is a metric, the angle between two lines, so with a pivot c and the
 * largest theta(c, y) = Theta over the cell,
 *     |rho(q, y)| <= cos(max(0, theta(q, c) - Theta)).
 * acos loses half of the digits near 1, so both angles are widened by ANGLE_SLACK: an error e of a
 * correlation moves its angle by at most sqrt(2 e) + e, and e <= 1e-9 here by far unless p has vanished
 * to rounding, when the bound is not used.
 *
 * With a finite budget the search of a query stops when that many correlations are evaluated: the cells
 * with the largest bounds came first, ties by distance. */
#include "query.h"
#include "scratch.h"
#include "threads.h"

#include <string.h>

#define ANGLE_SLACK 1e-4
#define ANGLE_VARIANCE 1e-8 /* of s2: below it angles are not to be trusted */
#define POLL_SECONDS 0.1

typedef struct {
    float bound, away;
    int cell;
} frontier_item;

typedef struct {
    int *pivot;    /* by cell: index of its pivot, -1 where the bound is not to be used */
    double *angle; /* by cell: Theta */
} angles;

typedef struct {
    bounds_block block;
    float *upper; /* cells x SCREEN_BLOCK */
    frontier_item *heap;
    double *rho;
    int *list;
    double *dist;
    int *id;
    query_counters counters;
} best_scratch;

/* ---- bounds --------------------------------------------------------------------------------- */

static int angles_new(const query_task *task, angles *a)
{
    const screen *points = &task->index->points;
    int cells = points->cells, threads = task->threads;
    a->pivot = scratch_alloc(cells, sizeof(int));
    a->angle = scratch_alloc(cells, sizeof(double));
    double *rho = scratch_alloc((size_t)INDEX_CELL * threads, sizeof(double));
    int ok = a->pivot && a->angle && rho;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4) if (ok)
    for (int c = 0; c < (ok ? cells : 0); c++) {
        int first = points->cell[c], count = points->cell[c + 1] - first;
        const int *ids = points->perm + first;
        double *own = rho + (size_t)INDEX_CELL * threads_id(), least = 1.0;
        double floor = ANGLE_VARIANCE * task->kern->variance;
        int pivot = ids[count / 2];
        for (int i = 0; i < count && pivot >= 0; i++)
            if (task->points->variance[ids[i]] < floor)
                pivot = -1;
        a->pivot[c] = pivot;
        if (pivot < 0)
            continue;
        metric_list(task->kern, task->points, pivot, task->points, ids, count, own);
        for (int i = 0; i < count; i++)
            if (ids[i] != pivot && fabs(own[i]) < least)
                least = fabs(own[i]);
        a->angle[c] = acos(least) + ANGLE_SLACK;
    }
    scratch_free(rho);
    return ok;
}

static void angles_free(angles *a)
{
    scratch_free(a->pivot);
    scratch_free(a->angle);
}

static float angle_bound(const query_task *task, const angles *a, int row, int c)
{
    if (a->pivot[c] < 0 || isfinite(task->budget) || /* pivots would have to come out of it */
        task->from->variance[row] < ANGLE_VARIANCE * task->kern->variance)
        return 1.0f;
    double rho;
    metric_list(task->kern, task->from, row, task->points, &a->pivot[c], 1, &rho);
    double gap = acos(fabs(rho)) - a->angle[c] - ANGLE_SLACK;
    return gap > 0.0 ? (float)(cos(gap) + 1e-6) : 1.0f;
}

/* ---- the heap of cells ---------------------------------------------------------------------- */

static int promising(const frontier_item *a, const frontier_item *b)
{
    if (a->bound != b->bound)
        return a->bound > b->bound;
    return a->away < b->away || (a->away == b->away && a->cell < b->cell);
}

static void sift(frontier_item *heap, int at, int size)
{
    frontier_item held = heap[at];
    for (int child; (child = 2 * at + 1) < size; at = child) {
        if (child + 1 < size && promising(&heap[child + 1], &heap[child]))
            child++;
        if (!promising(&heap[child], &held))
            break;
        heap[at] = heap[child];
    }
    heap[at] = held;
}

/* ---- search --------------------------------------------------------------------------------- */

static void search_query(const query_task *task, size_t q, int lane, const angles *a,
                         best_scratch *s, query_result *result)
{
    const screen *points = &task->index->points;
    const metric_points *from = task->from;
    int row = query_row(task, q), limit = query_limit(task, q), d = points->d, size = 0;
    kbest best = {task->k, 0, s->dist, s->id};
    double left = task->budget;
    if (from->scale[row] == 0.0) { /* 1 from all: the first k are the answer */
        for (int j = 0; j < limit && best.size < task->k; j++)
            if (!task->self || j != row)
                kbest_push(&best, 1.0, j);
        limit = 0;
    }
    /* bounds do not hold for two points on inducing inputs: those pairs come first, by themselves */
    int special = task->index->from->special[row] >= 0 && points->specials;
    for (int i = 0; i < points->specials && special && left > 0.0; i++) {
        int id = points->special_ids[i];
        if (id >= limit || (task->self && id == row))
            continue;
        metric_list(task->kern, from, row, task->points, &id, 1, s->rho);
        kbest_push(&best, metric_distance(s->rho[0]), id);
        s->counters.correlations++;
        left--;
    }
    for (int c = 0; c < points->cells && limit > 0; c++) {
        double s2 = 0.0;
        for (int u = 0; u < d; u++) {
            double gap = points->centre[(size_t)c * d + u] - from->x[(size_t)row * d + u];
            s2 += gap * gap;
        }
        float bound = task->index->bounded ? s->upper[(size_t)c * SCREEN_BLOCK + lane]
                                           : angle_bound(task, a, row, c);
        s->heap[size++] = (frontier_item){bound < 1.0f ? bound : 1.0f, (float)s2, c};
        s->counters.bounds++;
        s->counters.correlations += !task->index->bounded && !isfinite(task->budget);
    }
    for (int at = size / 2 - 1; at >= 0; at--)
        sift(s->heap, at, size);
    while (size > 0 && left > 0.0) {
        frontier_item top = s->heap[0];
        s->heap[0] = s->heap[--size];
        if (size)
            sift(s->heap, 0, size);
        if (kbest_full(&best)) {
            double reach = 1.0 - best.dist[0] * best.dist[0] - METRIC_SLACK;
            if (top.bound < reach) {
                s->counters.pruned += size + 1;
                break;
            }
        }
        s->counters.nodes++;
        int count = 0;
        for (int i = points->cell[top.cell]; i < points->cell[top.cell + 1]; i++) {
            int id = points->perm[i];
            int done = (task->self && id == row) || (special && points->special[id] >= 0);
            if (id < limit && !done && count < left)
                s->list[count++] = id;
        }
        left -= count;
        metric_list(task->kern, from, row, task->points, s->list, count, s->rho);
        for (int i = 0; i < count; i++)
            kbest_push(&best, metric_distance(s->rho[i]), s->list[i]);
        s->counters.correlations += count;
    }
    kbest_sort(&best);
    query_write(task, q, &best, result);
}

/* The queries first .. first + count - 1 share the evaluation of the expansion bounds. */
static void search_block(const query_task *task, size_t first, int count, const angles *a,
                         best_scratch *s, query_result *result)
{
    const index_search *index = task->index;
    if (index->bounded) {
        int positions[SCREEN_BLOCK];
        for (int q = 0; q < count; q++)
            positions[q] = index->position[query_row(task, first + q)];
        bounds_block_set(&index->bound, index->from, positions, count, &s->block);
        for (int c = 0; c < index->points.cells; c++)
            bounds_expansion(&index->bound, &index->bound.cells, c, &s->block,
                             s->upper + (size_t)c * SCREEN_BLOCK);
    }
    for (int q = 0; q < count; q++)
        search_query(task, first + q, q, a, s, result);
}

static void scratch_release(best_scratch *s)
{
    void *held[] = {s->upper, s->heap, s->rho, s->list, s->dist, s->id};
    for (size_t i = 0; i < sizeof(held) / sizeof(*held); i++)
        scratch_free(held[i]);
    bounds_block_free(&s->block);
}

static int scratch_reserve(const query_task *task, best_scratch *s)
{
    size_t cells = task->index->points.cells;
    s->upper = scratch_alloc(cells * SCREEN_BLOCK, sizeof(float));
    s->heap = scratch_alloc(cells, sizeof(frontier_item));
    s->rho = scratch_alloc(INDEX_CELL, sizeof(double));
    s->list = scratch_alloc(INDEX_CELL, sizeof(int));
    s->dist = scratch_alloc(task->k, sizeof(double));
    s->id = scratch_alloc(task->k, sizeof(int));
    return s->upper && s->heap && s->rho && s->list && s->dist && s->id &&
           (!task->index->bounded || bounds_block_new(&task->index->bound, &s->block));
}

status query_best(const query_task *task, query_result *result)
{
    int threads = task->threads;
    size_t blocks = (task->count + SCREEN_BLOCK - 1) / SCREEN_BLOCK, chunk = threads;
    angles a = {NULL, NULL};
    status outcome = status_ok();
    best_scratch *scratch = calloc(threads, sizeof(*scratch));
    if (!scratch || (!task->index->bounded && !angles_new(task, &a)))
        outcome = status_fail(STATUS_MEMORY);
    for (int t = 0; t < threads && !outcome.code; t++)
        if (!scratch_reserve(task, &scratch[t]))
            outcome = status_fail(STATUS_MEMORY);
    for (size_t done = 0, last; done < blocks && !outcome.code; done = last) {
        double start = threads_seconds();
        last = done + chunk < blocks ? done + chunk : blocks;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
        for (size_t b = done; b < last; b++) {
            size_t first = b * SCREEN_BLOCK, left = task->count - first;
            search_block(task, first, left < SCREEN_BLOCK ? (int)left : SCREEN_BLOCK, &a,
                         &scratch[threads_id()], result);
        }
        if (monitor_poll(task->mon, (double)last / (double)blocks))
            outcome = status_fail(STATUS_INTERRUPTED);
        double spent = threads_seconds() - start;
        if (spent < POLL_SECONDS)
            chunk *= 2;
        else if (spent > 2 * POLL_SECONDS && chunk > (size_t)threads)
            chunk /= 2;
    }
    for (int t = 0; t < threads && scratch; t++) {
        query_counters_add(&result->counters, &scratch[t].counters);
        scratch_release(&scratch[t]);
    }
    free(scratch);
    angles_free(&a);
    return outcome;
}

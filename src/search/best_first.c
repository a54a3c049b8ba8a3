/* Best-first search: one query at a time, by the parts of the candidates that promise most.
 *
 * A heap holds groups of cells and cells by their bound on |rho|, the largest first, ties by distance. A group is
 * replaced by its cells; a cell is screened as a block screens it (level.h), for one query. The search ends when no
 * bound left reaches the threshold. Few queries that are far apart go this way: they share nothing, and hardly a cell
 * is opened that the final threshold does not ask for.
 *
 * A finite budget is the largest number of correlations for a query. Then a cell is replaced by its panels, a panel by
 * its points, and points are evaluated in the order of their distance: bounds only say what can be skipped. */
#include "base/heap.h"
#include "base/scratch.h"
#include "base/threads.h"
#include "partition/boxes.h"
#include "search/level.h"

#define FEW_QUERIES 8     /* so many may be too few for blocks */
#define POINTS_WAITING 4  /* times the budget: points that may wait; those of other panels are evaluated at once */
#define POINTS_AT_ONCE 16 /* correlations are fastest some at a time */

/* Parts by their bound, negative, and their distance. Cells have the first numbers, then groups, panels and columns. */
typedef struct {
    heap_item *waiting;
    int size, room; /* room for points */
} part_heap;

static void push(part_heap *heap, int part, double upper, double away)
{
    heap_push(heap->waiting, &heap->size, (heap_item){-upper, away, part, 0});
}

/* ---- bounds of the one query of a block ------------------------------------------------------- */

/* What makes of an expansion bound a bound on |rho| of the query. A query on an inducing input has no such bound. */
static double as_correlation(const level_scratch *s, float upper)
{
    const block *block = s->block;
    const bounds *b = &s->task->index->points->bound;
    int special = s->task->index->on.from->bound.special.rank[block->row[0]] >= 0;
    return special || !b->expands ? INFINITY : upper * block->gain[0] * 1.00001 + block->roundoff[0] * b->most_roundoff;
}

static double upper_of(const level_scratch *s, const bounds_ranges *ranges, int at)
{
    const index_search *index = s->task->index;
    const bounds *b = &index->points->bound;
    int panel = s->block->column[0] / SCREEN_COLS;
    return b->expands ? as_correlation(s, bounds_expansion(b, &index->on.from->bound.panels, panel, ranges, at))
                      : INFINITY;
}

/* Squared distance of a query from a box. */
static double gap(const query_task *task, size_t row, const bounds_ranges *ranges, int at)
{
    size_t d = task->from->d;
    const double *x = task->from->x + row * d;
    return boxes_gap((int)d, ranges->low + at * d, ranges->high + at * d, x, x);
}

static int admissible(const cells *order, int cell, int limit)
{
    for (int panel = order->panel[cell]; panel < order->panel[cell + 1]; panel++)
        if (order->least[panel] < limit)
            return 1;
    return 0;
}

/* ---- opening parts ---------------------------------------------------------------------------- */

/* Lets a part wait if its bound reaches the threshold. No correlation is above 1: of parts that may hold that much, and
 * of all within a budget, the nearest comes first. */
static void offer(level_scratch *s, part_heap *heap, int part, double upper, double far)
{
    s->counters.bounds++;
    if (upper < s->block->tau[0])
        s->counters.pruned++;
    else
        push(heap, part, isinf(s->task->budget) && upper < 1.0 ? upper : 1.0, far);
}

static void open_group(level_scratch *s, part_heap *heap, int group, int own)
{
    const index_search *index = s->task->index;
    const bounds_ranges *ranges = &index->points->bound.cells;
    int first = group * BOUNDS_GROUP,
        last = first + BOUNDS_GROUP < ranges->count ? first + BOUNDS_GROUP : ranges->count;
    for (int c = first; c < last; c++)
        if (c != own && admissible(&index->points->order, c, s->block->limit[0]))
            offer(s, heap, c, upper_of(s, ranges, c) * 1.0001, gap(s->task, s->block->row[0], ranges, c));
}

/* Within a budget, the panels of a cell wait. */
static void open_panels(level_scratch *s, part_heap *heap, int cell, int panels_from)
{
    const index_search *index = s->task->index;
    const cells *order = &index->points->order;
    const bounds *b = &index->points->bound;
    float upper[SIMD_WIDTH] = {0.0f};
    if (b->expands)
        bounds_of_panels(b, &index->on.from->bound.panels, s->block->column[0] / SCREEN_COLS, cell, upper);
    for (int p = order->panel[cell], j = 0; p < order->panel[cell + 1]; p++, j++)
        if (order->least[p] < s->block->limit[0])
            offer(s, heap, panels_from + p, as_correlation(s, upper[j]), gap(s->task, s->block->row[0], &b->panels, p));
}

/* The points of a panel wait, or are taken where there is no room. */
static void open_points(level_scratch *s, part_heap *heap, int panel, int points_from)
{
    const query_task *task = s->task;
    const cells *order = &task->index->points->order;
    const int *ids = order->ids + (size_t)panel * SCREEN_COLS;
    int count = cells_filled(ids), waits = heap->room >= SCREEN_COLS;
    double far[SCREEN_COLS];
    simd->distance_list(task->from->d, task->from->x + (size_t)s->block->row[0] * task->from->d, task->points->x, ids,
                        count, far);
    heap->room -= waits ? count : 0;
    for (int j = 0; j < count; j++)
        if (waits)
            push(heap, points_from + panel * SCREEN_COLS + j, 1.0, far[j]);
        else
            level_take(s, 0, ids[j]);
}

/* ---- one query -------------------------------------------------------------------------------- */

static void offer_groups(level_scratch *s, part_heap *heap)
{
    const point_set *points = s->task->index->points;
    const bounds_ranges *groups = &points->bound.groups;
    for (int g = 0; g < groups->count; g++)
        offer(s, heap, points->order.count + g, upper_of(s, groups, g), gap(s->task, s->block->row[0], groups, g));
}

static void search(level_scratch *s, part_heap *heap)
{
    const index_search *index = s->task->index;
    const bitset *self = &s->block->active;
    int cells = index->points->order.count, query = 0, own = index->on.from == index->on.points ? s->block->cell : -1;
    index->form->begin(&index->on, s->block, s->work);
    if (own >= 0)
        level_screen(s, own, self);
    level_raise_thresholds(s, 1, &query);
    offer_groups(s, heap);
    while (heap->size && -heap->waiting[0].key >= s->block->tau[0]) {
        int top = heap_pop(heap->waiting, &heap->size).id;
        s->counters.nodes++;
        if (top >= cells)
            open_group(s, heap, top - cells, own);
        else
            level_screen(s, top, self);
        level_raise_thresholds(s, 1, &query);
    }
    s->counters.pruned += heap->size;
}

/* Evaluates the nearest points that bounds leave until the budget is spent. */
static void search_limited(level_scratch *s, part_heap *heap)
{
    const cells *order = &s->task->index->points->order;
    const level_block *lists = level_block_of(s->block);
    int panels_from = order->count + s->task->index->points->bound.groups.count,
        points_from = panels_from + order->panels;
    offer_groups(s, heap);
    while (heap->size && lists->spent[0] + lists->kept[0].count < s->task->budget) {
        int top = heap_pop(heap->waiting, &heap->size).id;
        s->counters.nodes += top < points_from;
        heap->room += top >= points_from;
        if (top >= points_from)
            level_take(s, 0, order->ids[top - points_from]);
        else if (top >= panels_from)
            open_points(s, heap, top - panels_from, points_from);
        else if (top >= order->count)
            open_group(s, heap, top - order->count, -1);
        else
            open_panels(s, heap, top, panels_from);
        if (lists->kept[0].count >= POINTS_AT_ONCE)
            level_resolve(s, 0);
    }
    level_resolve(s, 0);
}

/* ---- all queries ------------------------------------------------------------------------------ */

typedef struct {
    part_heap *heaps; /* threads */
    size_t next;
    int room;
    query_result *result;
} query_queue;

static int cell_of(const cells *order, int panel)
{
    int low = 0, high = order->count;
    while (high - low > 1) {
        int middle = (low + high) / 2;
        if (order->panel[middle] <= panel)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static int search_next_query(level_scratch *s, void *context)
{
    query_queue *queue = context;
    const cells *order = &s->task->index->on.from->order;
    size_t next = __atomic_fetch_add(&queue->next, 1, __ATOMIC_RELAXED);
    if (next >= s->task->count)
        return 0;
    int q = (int)next, column = order->column[query_row(s->task, q)];
    block *block = s->block;
    level_block_set(s->task, block, cell_of(order, column / SCREEN_COLS), &q, 1);
    part_heap *heap = &queue->heaps[threads_id()];
    heap->size = 0;
    heap->room = queue->room;
    if (isfinite(s->task->budget)) {
        block->tau[0] = -1.0f; /* on an inducing input too */
        if (block->gain[0] > 0.0f && block->limit[0] > 0)
            search_limited(s, heap);
        query_close(s->task, next, &level_block_of(block)->best[0], queue->result);
        return 1;
    }
    if (bitset_any(&block->active))
        search(s, heap);
    level_block_answer(s, queue->result);
    return 1;
}

static status search_queries(level_scratch *scratch, void *context, query_result *result)
{
    (void)result;
    level_progress progress = {.total = (int)scratch->task->count, .share = 1.0};
    return level_run(scratch, search_next_query, context, &progress);
}

status query_best(const query_task *task, query_result *result)
{
    const point_set *points = task->index->points;
    size_t parts = points->order.count + points->bound.groups.count, room = 0;
    if (isfinite(task->budget)) {
        room = POINTS_WAITING * (size_t)fmin(task->budget, (double)task->points->n) + SCREEN_COLS;
        parts += points->order.panels + room;
    }
    heap_item *waiting = scratch_alloc(task->threads * parts, sizeof(heap_item));
    query_queue queue = {scratch_alloc(task->threads, sizeof(part_heap)), 0, (int)room, result};
    status outcome = status_fail(STATUS_MEMORY);
    if (waiting && queue.heaps) {
        for (int t = 0; t < task->threads; t++)
            queue.heaps[t] = (part_heap){waiting + t * parts, 0, 0};
        outcome = level_search(task, task->threads, level_capacity(task), search_queries, &queue, result);
    }
    SCRATCH_FREE(waiting, queue.heaps);
    return outcome;
}

/* ---- whether it should ------------------------------------------------------------------------ */

static int nearest_cell(const query_task *task, size_t q)
{
    const bounds_ranges *ranges = &task->index->points->bound.cells;
    int nearest = 0;
    double least = INFINITY;
    for (int c = 0; c < ranges->count; c++) {
        double here = gap(task, query_row(task, q), ranges, c);
        nearest = here < least ? c : nearest;
        least = here < least ? here : least;
    }
    return nearest;
}

int query_best_serves(const query_task *task)
{
    int cell[FEW_QUERIES], distinct = 0;
    if (task->count > FEW_QUERIES)
        return 0;
    for (size_t q = 0; q < task->count; q++) {
        int found = nearest_cell(task, q), seen = 0;
        for (int i = 0; i < distinct; i++)
            seen |= cell[i] == found;
        if (!seen)
            cell[distinct++] = found;
    }
    return 3 * distinct >= 2 * (int)task->count;
}

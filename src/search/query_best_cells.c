/* Best-first search of an index: groups of cells, cells, and cells some of whose landmarks were asked.
 *
 * A group is replaced by its cells. A cell that the bounds of its panels leave is projected on its first landmarks
 * and waits again, under the sharper bound of their span; when its turn comes once more it is projected on more of
 * them; after all, its points are screened if its bound still reaches the threshold. So hardly a landmark is
 * asked that the final threshold does not ask for: that is the least that these bounds can do, and why single
 * queries go this way. Where integers or expansions screen, a cell is screened when it is taken. Candidates, thresholds and
 * answers are those of the level engine, for blocks of one query. */
#include "search/query_best.h"
#include "search/query_level.h"
#include "base/scratch.h"
#include "base/threads.h"

#include <string.h>

#define FEW_QUERIES 8 /* so many may be too few for blocks */
#define SLOTS 64      /* cells that may wait with their coordinates */
#define SLOT_FLOATS (2 * LEVEL_WIDTH)

/* What a thread needs besides the scratch of the level engine. Parts below the number of cells are cells. */
typedef struct {
    promise_heap heap;
    int *known;    /* by cell: how many of its landmarks were asked */
    int *slot;     /* by cell: where its coordinates in their span are, -1 for nowhere */
    float *length; /* by cell: |psi|^2 of these; before, the expansion bound */
    float *slots;  /* SLOTS x (correlations with landmarks, psi) */
    int vacant[SLOTS], vacancies;
} best_scratch;

static void best_release(best_scratch *b)
{
    scratch_free(b->heap.waiting);
    scratch_free(b->known);
    scratch_free(b->slot);
    scratch_free(b->length);
    scratch_free(b->slots);
}

static int best_reserve(const index_search *index, best_scratch *b)
{
    size_t cells = index->points.order.count, groups = index->points.bound.groups.count;
    b->heap.waiting = scratch_alloc(cells + groups, sizeof(promise));
    b->known = scratch_alloc(cells, sizeof(int));
    b->slot = scratch_alloc(cells, sizeof(int));
    b->length = scratch_alloc(cells, sizeof(float));
    b->slots = scratch_alloc(SLOTS * SLOT_FLOATS, sizeof(float));
    if (!b->heap.waiting || !b->known || !b->slot || !b->length || !b->slots)
        return 0;
    memset(b->known, 0, cells * sizeof(int));
    memset(b->slot, 0xff, cells * sizeof(int));
    for (b->vacancies = 0; b->vacancies < SLOTS; b->vacancies++)
        b->vacant[b->vacancies] = b->vacancies;
    return 1;
}

/* ---- bounds of the one query of a block ------------------------------------------------------- */

/* By the expansion bound from the panel of the query: of a range of a level, or of the panels of a cell if there is no
 * level. */
static double expansion(level_scratch *s, const bounds_level *level, int at)
{
    const index_search *index = s->task->index;
    const level_block *block = s->block;
    const bounds *b = &index->points.bound;
    const bounds_level *from = &index->from->bound.panels;
    int panel = block->column[0] / SCREEN_COLS;
    float of_panels[SIMD_WIDTH];
    if (!b->expands)
        return INFINITY;
    float upper = level ? bounds_expansion(b, from, panel, level, at)
                        : bounds_of_panels(b, from, panel, at, of_panels);
    return upper * block->gain[0] * 1.00001 + block->noise[0] * b->most_noise;
}

/* Squared distance of a query from the middle of a box. */
static double away(const query_task *task, size_t row, const bounds_level *level, int at)
{
    const metric_points *from = task->from;
    const double *x = from->x + row * from->d, *low = level->low + (size_t)at * from->d,
                 *high = level->high + (size_t)at * from->d;
    double s2 = 0.0;
    for (int u = 0; u < from->d; u++) {
        double gap = x[u] - 0.5 * (low[u] + high[u]);
        s2 += gap * gap;
    }
    return s2;
}

static int admissible(const cells *order, int cell, int limit)
{
    for (int panel = order->panel[cell]; panel < order->panel[cell + 1]; panel++)
        if (order->least[panel] < limit)
            return 1;
    return 0;
}

/* ---- opening parts ---------------------------------------------------------------------------- */

/* Lets a part wait if its bound reaches the threshold; returns whether. No correlation is above 1: of parts that
 * may hold that much the nearest comes first. */
static int offer(level_scratch *s, best_scratch *b, int part, double upper, double far)
{
    s->counters.bounds++;
    if (upper < s->block->tau[0]) {
        s->counters.pruned++;
        return 0;
    }
    promise_push(&b->heap, (promise){upper < 1.0 ? upper : 1.0, far, part});
    return 1;
}

static void open_group(level_scratch *s, best_scratch *b, int group, int own)
{
    const index_search *index = s->task->index;
    const bounds_level *level = &index->points.bound.cells;
    int first = group * BOUNDS_GROUP,
        last = first + BOUNDS_GROUP < level->count ? first + BOUNDS_GROUP : level->count;
    for (int c = first; c < last; c++)
        if (c != own && admissible(&index->points.order, c, s->block->limit[0])) {
            b->length[c] = (float)expansion(s, level, c);
            offer(s, b, c, b->length[c] * 1.0001, away(s->task, s->block->row[0], level, c));
        }
}

/* Projects the query on one more stage of the landmarks of a cell, after the first `from`; returns where that ends.
 * `slot` has what is known of the landmarks before. */
static int project(level_scratch *s, best_scratch *b, int cell, int from, float *slot)
{
    const query_task *task = s->task;
    const subspaces *space = &task->index->points.space;
    size_t row = s->block->row[0];
    const double *x = task->from->x + row * task->from->d, *v = task->from->v + row * task->from->m;
    float *psi = slot + LEVEL_WIDTH, more;
    int to = subspace_stage(space, cell, from), rank = space->rank[cell];
    subspaces_project(space, cell, from, to, 1, &x, &v, &task->from->scale[row], s->rows, slot,
                      psi);
    simd->squared_lengths(1, LEVEL_WIDTH, to - from, psi + from, &more);
    b->length[cell] += more;
    s->counters.correlations += (to < rank ? to : rank) - from;
    return to;
}

/* Whether the bounds of the panels of a cell leave it. */
static int panels_reach(level_scratch *s, const best_scratch *b, int cell)
{
    float tau = s->block->tau[0];
    if (b->length[cell] >= LEVEL_NEARLY * tau)
        return 1;
    int reached = expansion(s, NULL, cell) >= tau;
    s->counters.bounds++;
    s->counters.pruned += !reached;
    return reached;
}

/* Gives the slot of a cell back. */
static void leave_slot(best_scratch *b, int cell)
{
    if (b->slot[cell] >= 0)
        b->vacant[b->vacancies++] = b->slot[cell];
    b->slot[cell] = -1;
    b->known[cell] = 0;
}

/* One more stage of the landmarks of a cell, after which it waits again; all that are left where there is no slot
 * to wait in. After the last its points are screened if its bound still reaches the threshold. */
static void open_cell(level_scratch *s, best_scratch *b, promise item)
{
    const index_search *index = s->task->index;
    const subspaces *space = &index->points.space;
    int cell = item.part, self = 0, to = b->known[cell];
    if (!to && !panels_reach(s, b, cell))
        return;
    if (index->form == INDEX_INTEGERS) {
        level_integers_screen(s, cell, &self, 1, NULL);
        return;
    }
    if (index->form == INDEX_EXPANSIONS) {
        level_expansions_screen(s, cell);
        return;
    }
    if (!to && b->vacancies)
        b->slot[cell] = b->vacant[--b->vacancies];
    int waits = b->slot[cell] >= 0, width = subspace_width(space, cell);
    float *slot = waits ? b->slots + (size_t)b->slot[cell] * SLOT_FLOATS : s->products;
    if (!to)
        b->length[cell] = 0.0f;
    for (int more = to < width; more; more = to < width && !waits)
        to = project(s, b, cell, to, slot);
    double upper = subspace_upper(space, cell, to, s->block->noise[0], b->length[cell]);
    if (to < width && offer(s, b, cell, upper, item.away)) {
        b->known[cell] = to;
        return;
    }
    leave_slot(b, cell);
    if (to < width)
        return;
    s->counters.bounds++;
    if (upper < s->block->tau[0])
        s->counters.pruned++;
    else
        level_subspaces_screen_one(s, cell, slot + LEVEL_WIDTH, b->length[cell]);
}

static void search(level_scratch *s, best_scratch *b)
{
    const index_search *index = s->task->index;
    const bounds_level *groups = &index->points.bound.groups;
    int cells = index->points.order.count, self = 0, own = -1,
        subspaces = index->form == INDEX_SUBSPACES;
    if (index->form == INDEX_INTEGERS)
        level_integers_set(s);
    else if (index->form == INDEX_EXPANSIONS)
        level_expansions_set(s);
    else if (subspaces && index->from == &index->points) {
        own = s->block->cell;
        level_subspaces_own(s);
    }
    level_raise_thresholds(s, 1, &self);
    for (int g = 0; g < groups->count; g++)
        offer(s, b, cells + g, expansion(s, groups, g), away(s->task, s->block->row[0], groups, g));
    while (b->heap.size && b->heap.waiting[0].upper >= s->block->tau[0]) {
        s->counters.nodes++;
        promise top = promise_pop(&b->heap);
        if (top.part >= cells)
            open_group(s, b, top.part - cells, own);
        else
            open_cell(s, b, top);
        if (subspaces) /* integers do so as they keep candidates */
            level_raise_thresholds(s, 1, &self);
    }
    s->counters.pruned += b->heap.size;
    for (; b->heap.size; b->heap.size--) { /* those that need not be opened any more */
        int part = b->heap.waiting[b->heap.size - 1].part;
        if (part < cells)
            leave_slot(b, part);
    }
}

/* ---- all queries ------------------------------------------------------------------------------ */

typedef struct {
    best_scratch *scratch; /* threads */
    size_t next;
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
    const cells *order = &s->task->index->from->order;
    size_t next = __atomic_fetch_add(&queue->next, 1, __ATOMIC_RELAXED);
    if (next >= s->task->count)
        return 0;
    int q = (int)next, column = order->column[query_row(s->task, q)];
    level_block_set(s->task, s->block, cell_of(order, column / SCREEN_COLS), &q, 1);
    if (bitset_count(&s->block->active))
        search(s, &queue->scratch[threads_id()]);
    level_block_answer(s, queue->result);
    return 1;
}

static status search_queries(level_scratch *scratch, level_block *blocks, void *context,
                             query_result *result)
{
    (void)blocks;
    (void)result;
    level_progress progress = {.total = (int)scratch->task->count, .share = 1.0};
    return level_run(scratch, search_next_query, context, &progress);
}

status query_best_cells(const query_task *task, query_result *result)
{
    query_queue queue = {scratch_zeros(task->threads, sizeof(best_scratch)), 0, result};
    int ok = queue.scratch != NULL;
    for (int t = 0; t < task->threads && ok; t++)
        ok = best_reserve(task->index, &queue.scratch[t]);
    status outcome =
        ok ? level_search(task, task->threads, level_capacity(task), search_queries, &queue, result)
           : status_fail(STATUS_MEMORY);
    for (int t = 0; t < task->threads && queue.scratch; t++)
        best_release(&queue.scratch[t]);
    scratch_free(queue.scratch);
    return outcome;
}

/* ---- whether it should ------------------------------------------------------------------------ */

static int nearest_cell(const query_task *task, size_t q)
{
    const bounds_level *level = &task->index->points.bound.cells;
    int nearest = 0;
    double least = INFINITY;
    for (int c = 0; c < level->count; c++) {
        double here = away(task, query_row(task, q), level, c);
        nearest = here < least ? c : nearest;
        least = here < least ? here : least;
    }
    return nearest;
}

int query_best_serves(const query_task *task)
{
    int cell[FEW_QUERIES], distinct = 0;
    if (task->index->form == INDEX_INTEGERS || task->count > FEW_QUERIES)
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

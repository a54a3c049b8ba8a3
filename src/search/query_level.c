#include "search/query_level.h"

#include "base/scratch.h"
#include "base/threads.h"

#include <string.h>

#define POLL_SECONDS 0.1

static void scratch_release(level_scratch *s)
{
    void *held[] = {s->work,
                    s->special_upper,
                    s->lows,
                    s->low_dist,
                    s->low_id,
                    s->dist,
                    s->own,
                    s->spans[0].weights,
                    s->spans[1].weights,
                    s->products,
                    s->psi,
                    s->P,
                    s->inverse,
                    s->rows,
                    s->sight_psi,
                    s->panel_rho,
                    s->axis_rho,
                    s->lengths,
                    s->value,
                    s->relative,
                    s->span_x,
                    s->group,
                    s->row_at,
                    s->column_at,
                    s->intervals,
                    s->row_tiles};
    for (size_t i = 0; i < sizeof(held) / sizeof(*held); i++)
        scratch_free(held[i]);
}

static int reserve_subspaces(level_scratch *s, size_t cells)
{
    size_t room = BITSET_SIZE * LEVEL_WIDTH;
    s->own = scratch_alloc(room, sizeof(float));
    s->spans[0].weights = scratch_alloc(SUBSPACE_RANK * LEVEL_STRIDE, sizeof(float));
    s->spans[1].weights = scratch_alloc(SUBSPACE_RANK * LEVEL_STRIDE, sizeof(float));
    s->products = scratch_alloc(room, sizeof(float));
    s->psi = scratch_alloc(room, sizeof(float));
    s->P = scratch_alloc(SUBSPACE_RANK * LEVEL_WIDTH, sizeof(float));
    s->inverse = scratch_alloc(SUBSPACE_RANK * LEVEL_WIDTH, sizeof(float));
    s->rows = scratch_alloc(BITSET_SIZE, sizeof(float *));
    s->lengths = scratch_alloc(LEVEL_CHUNK * BITSET_SIZE, sizeof(float));
    s->sight_psi = scratch_alloc(LEVEL_SIGHT * LEVEL_STRIDE, sizeof(float));
    s->panel_rho = scratch_alloc(LEVEL_SIGHT * SIMD_MAX_COLS, sizeof(float));
    s->axis_rho = scratch_alloc(cells * LEVEL_SIGHT + 1, sizeof(float));
    return s->lengths && s->sight_psi && s->panel_rho && s->axis_rho && s->own &&
           s->spans[0].weights && s->spans[1].weights && s->products && s->psi && s->P &&
           s->inverse && s->rows;
}

static int reserve_integers(level_scratch *s, size_t d)
{
    s->relative = scratch_alloc(BITSET_SIZE * d, sizeof(float));
    s->intervals = scratch_alloc(1, sizeof(simd_intervals));
    s->row_tiles = scratch_alloc(BITSET_SIZE / SCREEN_ROWS, sizeof(simd_rows));
    return s->relative && s->intervals && s->row_tiles;
}

static int reserve_expansions(level_scratch *s, size_t d, size_t m)
{
    s->group = scratch_alloc(LEVEL_GROUPS, sizeof(level_group));
    s->relative = scratch_alloc(BITSET_SIZE * d, sizeof(float));
    s->row_at = scratch_alloc(m + SIMD_WIDTH, sizeof(int));
    s->column_at = scratch_alloc(m + SIMD_WIDTH, sizeof(int));
    s->span_x = scratch_alloc(LEVEL_GROUPS * SCREEN_ROWS * d, sizeof(float));
    return s->relative && s->group && s->span_x && s->row_at && s->column_at;
}

static int scratch_reserve(const query_task *task, int capacity, level_scratch *s)
{
    const index_search *index = task->index;
    size_t d = task->points->d, m = task->points->m, k = task->k, room = LEVEL_ROOM(capacity);
    memset(s, 0, sizeof(*s));
    s->task = task;
    s->work = scratch_alloc((size_t)index->points.order.count + 1, sizeof(work_item));
    s->special_upper = scratch_alloc(index->points.order.panels, sizeof(float));
    s->lows = scratch_alloc(room + k + SIMD_WIDTH, sizeof(float));
    s->low_dist = scratch_alloc(k, sizeof(double));
    s->low_id = scratch_alloc(k, sizeof(int));
    s->dist = scratch_alloc(room, sizeof(double));
    s->value = scratch_alloc(SCREEN_ROWS * SCREEN_COLS, sizeof(float));
    return s->work && s->special_upper && s->lows && s->low_dist && s->low_id && s->dist &&
           s->value &&
           (index->form == INDEX_SUBSPACES  ? reserve_subspaces(s, index->points.order.count)
            : index->form == INDEX_INTEGERS ? reserve_integers(s, d)
                                            : reserve_expansions(s, d, m));
}

/* The queries in the order of the columns, and where each block starts: at a cell, or after BITSET_SIZE
 * of them. */
typedef struct {
    int *sequence, *block, *cell, blocks;
} schedule;

static void schedule_free(schedule *plan)
{
    scratch_free(plan->sequence);
    scratch_free(plan->block);
    scratch_free(plan->cell);
}

static int schedule_new(const query_task *task, schedule *plan)
{
    const cells *order = &task->index->from->order;
    size_t columns = (size_t)order->panels * SCREEN_COLS,
           most = order->count + task->count / BITSET_SIZE + 2;
    memset(plan, 0, sizeof(*plan));
    plan->sequence = scratch_alloc(task->count + 1, sizeof(int));
    plan->block = scratch_alloc(most, sizeof(int));
    plan->cell = scratch_alloc(most, sizeof(int));
    int *at = scratch_alloc(columns + 2, sizeof(int));
    if (!plan->sequence || !plan->block || !plan->cell || !at) {
        scratch_free(at);
        return 0;
    }
    memset(at, 0, (columns + 2) * sizeof(int));
    for (size_t q = 0; q < task->count; q++)
        at[order->column[query_row(task, q)] + 1]++;
    for (size_t c = 0; c < columns; c++)
        at[c + 1] += at[c];
    for (int c = 0; c < order->count; c++)
        for (int first = at[order->panel[c] * SCREEN_COLS];
             first < at[order->panel[c + 1] * SCREEN_COLS]; first += BITSET_SIZE) {
            plan->block[plan->blocks] = first;
            plan->cell[plan->blocks++] = c;
        }
    plan->block[plan->blocks] = (int)task->count;
    for (size_t q = 0; q < task->count; q++)
        plan->sequence[at[order->column[query_row(task, q)]]++] = (int)q;
    scratch_free(at);
    return 1;
}

/* The special queries that blocks have left over, by brute force. */
static status search_deferred(const query_task *task, level_scratch *scratch, query_result *result)
{
    size_t count = 0;
    for (int t = 0; t < task->threads; t++)
        count += scratch[t].deferrals;
    if (!count)
        return status_ok();
    int *rows = scratch_alloc(count, sizeof(int)), *slot = scratch_alloc(count, sizeof(int)),
        *limits = scratch_alloc(count, sizeof(int));
    status outcome = status_fail(STATUS_MEMORY);
    if (rows && slot && limits) {
        query_task dense = *task;
        dense.rows = rows;
        dense.slot = slot;
        dense.limits = limits;
        dense.count = count;
        count = 0;
        for (int t = 0; t < task->threads; t++)
            for (int i = 0; i < scratch[t].deferrals; i++) {
                int q = scratch[t].deferred[i];
                rows[count] = query_row(task, q);
                limits[count] = query_limit(task, q);
                slot[count++] = query_slot(task, q);
            }
        outcome = query_brute(&dense, result);
    }
    scratch_free(rows);
    scratch_free(slot);
    scratch_free(limits);
    return outcome;
}

int level_capacity(const query_task *task)
{
    return level_room_for(task, 4, task->index->form == INDEX_INTEGERS ? 1024 : 512);
}

status level_run(level_scratch *scratch, level_piece *piece, void *context, level_progress *p)
{
    const query_task *task = scratch->task;
    while (p->over < p->total) {
        double start = threads_seconds();
#pragma omp parallel num_threads(task->threads)
        while (threads_seconds() - start < POLL_SECONDS && piece(&scratch[threads_id()], context))
            __atomic_fetch_add(&p->over, 1, __ATOMIC_RELAXED);
        if (monitor_poll(task->mon, p->from + p->share * p->over / p->total))
            return status_fail(STATUS_INTERRUPTED);
    }
    return status_ok();
}

/* The blocks that are to be searched one by one. */
typedef struct {
    const schedule *plan;
    int next;
    query_result *result;
} block_queue;

static int search_next_block(level_scratch *s, void *context)
{
    block_queue *queue = context;
    const schedule *plan = queue->plan;
    int b = __atomic_fetch_add(&queue->next, 1, __ATOMIC_RELAXED);
    if (b >= plan->blocks)
        return 0;
    level_block_set(s->task, s->block, plan->cell[b], plan->sequence + plan->block[b],
                    plan->block[b + 1] - plan->block[b]);
    int seed = level_seed(s);
    level_frontier(s, seed, seed + 1);
    level_block_answer(s, queue->result);
    return 1;
}

static status search_blocks(level_scratch *scratch, level_block *blocks, void *unused,
                            query_result *result)
{
    (void)blocks;
    (void)unused;
    schedule plan;
    status outcome = status_fail(STATUS_MEMORY);
    if (schedule_new(scratch->task, &plan)) {
        block_queue queue = {&plan, 0, result};
        level_progress progress = {.total = plan.blocks, .share = 1.0};
        outcome = level_run(scratch, search_next_block, &queue, &progress);
    }
    schedule_free(&plan);
    return outcome;
}

status level_search(const query_task *task, int count, int most, level_method *method,
                    void *context, query_result *result)
{
    int threads = task->threads;
    status outcome = status_ok();
    level_blocks blocks;
    level_scratch *scratch = scratch_zeros(threads, sizeof(*scratch));
    if (!level_blocks_new(task, count, most, &blocks) || !scratch)
        outcome = status_fail(STATUS_MEMORY);
    for (int t = 0; t < threads && !outcome.code; t++) {
        if (!scratch_reserve(task, most, &scratch[t]))
            outcome = status_fail(STATUS_MEMORY);
        else
            scratch[t].block = &blocks.each[t];
    }
    if (!outcome.code)
        outcome = method(scratch, blocks.each, context, result);
    if (!outcome.code)
        outcome = search_deferred(task, scratch, result);
    for (int t = 0; t < threads && scratch; t++) {
        query_counters_add(&result->counters, &scratch[t].counters);
        scratch_free(scratch[t].deferred);
        scratch_release(&scratch[t]);
    }
    level_blocks_free(&blocks);
    scratch_free(scratch);
    return outcome;
}

status query_level(const query_task *task, query_result *result)
{
    if (level_pairs_serve(task))
        return level_search(task, level_pairs_blocks(task), level_pairs_capacity(task),
                            level_search_pairs, NULL, result);
    return level_search(task, task->threads, level_capacity(task), search_blocks, NULL, result);
}

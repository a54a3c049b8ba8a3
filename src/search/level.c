#include "search/level.h"

#include "base/scratch.h"
#include "base/threads.h"

#include <string.h>

#define POLL_SECONDS 0.1

/* ---- blocks --------------------------------------------------------------------------------- */

static void blocks_free(level_blocks *blocks)
{
    SCRATCH_FREE(blocks->each, blocks->intervals, blocks->best_dist, blocks->best_id, blocks->rows);
}

/* Room for `count` blocks of which every query may have `capacity` candidates in play; 0 without memory. */
static int blocks_new(const query_task *task, size_t count, int capacity, level_blocks *blocks)
{
    const index_search *index = task->index;
    size_t width = task->count < BITSET_SIZE ? task->count : BITSET_SIZE, queries = count * width, k = task->k,
           room = LEVEL_ROOM(capacity), bytes = index->form->row_bytes ? index->form->row_bytes(&index->on) : 0;
    /* ids are as long as what intervals are made of */
    if (!SCRATCH_ALL(SCRATCH_FOR(blocks->each, count), SCRATCH_FOR(blocks->intervals, 3 * queries * room),
                     SCRATCH_FOR(blocks->best_dist, queries * k), SCRATCH_FOR(blocks->best_id, queries * k),
                     SCRATCH_FOR(blocks->rows, queries * bytes)))
        return 0;
    for (size_t i = 0; i < count; i++) {
        level_block *lists = &blocks->each[i];
        lists->capacity = capacity;
        lists->seen.rows = blocks->rows + i * width * bytes;
        for (size_t q = 0, at = i * width; q < width; q++, at++) {
            float *start = blocks->intervals + 3 * at * room;
            lists->kept[q] = (candidates){.id = (int *)start, .low = start + room, .high = start + 2 * room};
            lists->best[q] = (kbest){task->k, 0, blocks->best_dist + at * k, blocks->best_id + at * k, 0};
        }
    }
    return 1;
}

/* The k-best of a query that is 1 from all: the first k candidates. */
static void take_first(const query_task *task, block *b, int q)
{
    kbest *best = &level_block_of(b)->best[q];
    for (int j = 0; j < b->limit[q] && best->size < task->k; j++)
        if (!task->self || j != b->row[q])
            kbest_push(best, 1.0, j);
}

static int is_special(const query_task *task, int row) { return task->index->on.from->bound.special.rank[row] >= 0; }

void level_block_set(const query_task *task, block *b, int cell, const int *queries, int count)
{
    const point_set *from = task->index->on.from;
    level_block *lists = level_block_of(b);
    b->cell = cell;
    b->count = count;
    b->most_limit = 0;
    memset(&b->active, 0, sizeof(b->active));
    for (int q = 0; q < BITSET_SIZE; q++)
        b->tau[q] = INFINITY;
    for (int q = 0; q < count; q++) {
        int row = b->row[q] = query_row(task, queries[q]);
        int limit = b->limit[q] = query_limit(task, queries[q]);
        lists->query[q] = queries[q];
        b->most_limit = limit > b->most_limit ? limit : b->most_limit;
        b->column[q] = from->order.column[row];
        b->gain[q] = (float)(task->from->gain[row] * (1.0 + 1e-6));
        b->roundoff[q] = from->bound.roundoff[row];
        lists->kept[q].count = lists->settled[q] = lists->spent[q] = 0;
        lists->best[q].size = lists->best[q].sorted = 0;
        if (task->from->gain[row] == 0.0) {
            take_first(task, b, q);
        } else if (limit > 0 && !is_special(task, row)) {
            b->tau[q] = -1.0f;
            bitset_add(&b->active, q);
        }
    }
}

void level_block_answer(level_scratch *s, query_result *result)
{
    const query_task *task = s->task;
    block *b = s->block;
    level_block *lists = level_block_of(b);
    int members[BITSET_SIZE], count = bitset_members(&b->active, members);
    if (count)
        level_finish(s, members, count);
    for (int q = 0; q < b->count; q++)
        if (is_special(task, b->row[q]) && b->gain[q] > 0.0f && b->limit[q] > 0)
            level_search_special(s, q);
    for (int q = 0; q < b->count && result->given; q++)
        answers_expect(result->given, query_slot(task, lists->query[q]));
    for (int q = 0; q < b->count; q++)
        query_close(task, lists->query[q], &lists->best[q], result);
}

/* ---- what a thread works with ----------------------------------------------------------------- */

static void scratch_release(level_scratch *s)
{
    SCRATCH_FREE(s->work, s->frontier, s->special_upper, s->lows, s->dist, s->deferred);
}

static int scratch_reserve(const query_task *task, int capacity, level_scratch *s)
{
    const index_search *index = task->index;
    size_t k = task->k, room = LEVEL_ROOM(capacity);
    s->task = task;
    s->work = index->form->work_new(&index->on);
    return s->work && SCRATCH_ALL(SCRATCH_FOR(s->frontier, index->points->order.count),
                                  SCRATCH_FOR(s->special_upper, index->points->order.panels),
                                  SCRATCH_FOR(s->lows, room + k + SIMD_WIDTH), SCRATCH_FOR(s->dist, room));
}

/* ---- the schedule ------------------------------------------------------------------------------ */

/* The queries in the order of the columns, and where each block starts: at a cell, or after BITSET_SIZE
 * of them. */
typedef struct {
    int *sequence, *block, *cell, blocks;
} schedule;

static void schedule_free(schedule *plan) { SCRATCH_FREE(plan->sequence, plan->block, plan->cell); }

static int schedule_new(const query_task *task, schedule *plan)
{
    const cells *order = &task->index->on.from->order;
    size_t columns = (size_t)order->panels * SCREEN_COLS, most = order->count + task->count / BITSET_SIZE + 2;
    int *at;
    memset(plan, 0, sizeof(*plan));
    if (!SCRATCH_ALL(SCRATCH_FOR(plan->sequence, task->count + 1), SCRATCH_FOR(plan->block, most),
                     SCRATCH_FOR(plan->cell, most), SCRATCH_FOR(at, columns + 2)))
        return 0;
    memset(at, 0, (columns + 2) * sizeof(int));
    for (size_t q = 0; q < task->count; q++)
        at[order->column[query_row(task, q)] + 1]++;
    for (size_t c = 0; c < columns; c++)
        at[c + 1] += at[c];
    for (int c = 0; c < order->count; c++)
        for (int first = at[order->panel[c] * SCREEN_COLS]; first < at[order->panel[c + 1] * SCREEN_COLS];
             first += BITSET_SIZE) {
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
    query_part left_over;
    status outcome = status_fail(STATUS_MEMORY);
    if (query_part_new(task, count, &left_over)) {
        for (int t = 0; t < task->threads; t++)
            for (int i = 0; i < scratch[t].deferrals; i++)
                query_part_add(task, scratch[t].deferred[i], &left_over);
        outcome = query_brute(&left_over.task, result);
    }
    query_part_free(&left_over);
    return outcome;
}

int level_capacity(const query_task *task) { return level_room_for(task, 4, 512); }

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

static status search_blocks(level_scratch *scratch, void *unused, query_result *result)
{
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

status level_search(const query_task *task, int count, int most, level_method *method, void *context,
                    query_result *result)
{
    int threads = task->threads;
    status outcome = status_ok();
    level_blocks blocks;
    level_scratch *scratch = scratch_zeros(threads, sizeof(*scratch));
    if (!blocks_new(task, count, most, &blocks) || !scratch)
        outcome = status_fail(STATUS_MEMORY);
    for (int t = 0; t < threads && !outcome.code; t++) {
        if (!scratch_reserve(task, most, &scratch[t]))
            outcome = status_fail(STATUS_MEMORY);
        else
            scratch[t].block = &blocks.each[t].seen;
    }
    if (!outcome.code)
        outcome = method(scratch, context, result);
    for (int t = 0; t < threads && !outcome.code; t++)
        if (scratch[t].out_of_memory)
            outcome = status_fail(STATUS_MEMORY);
    if (!outcome.code)
        outcome = search_deferred(task, scratch, result);
    for (int t = 0; t < threads && scratch; t++) {
        query_counters_add(&result->counters, &scratch[t].counters);
        scratch_release(&scratch[t]);
    }
    blocks_free(&blocks);
    scratch_free(scratch);
    return outcome;
}

status query_level(const query_task *task, query_result *result)
{
    if (level_pairs_serve(task))
        return level_search(task, level_pairs_blocks(task), level_pairs_capacity(task), level_search_pairs, NULL,
                            result);
    return level_search(task, task->threads, level_capacity(task), search_blocks, NULL, result);
}

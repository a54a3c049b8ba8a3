/* All points as queries, a form that can screen both ways: blocks meet in pairs, and the product of two points serves
 * both of them. That wants thresholds and candidates of all queries at once, so it is done in waves of
 * PAIRS_WAVE blocks: within a wave a product serves twice, with cells outside of it once. */
#include "search/level.h"

#include "base/scratch.h"

#include <stdlib.h>

#define PAIRS_WAVE 64
#define PAIRS_BYTES ((size_t)1 << 26) /* most memory for lists of candidates */
#define PAIRS_NEAR 4                  /* nearest meetings for each block that come first, to raise thresholds */
#define PAIRS_SPARE 4                 /* blocks for each thread, for it to find two that no other has */

/* Two blocks that are to meet. */
typedef struct {
    float away; /* squared distance of the middles of their cells */
    int a, b, taken;
} meeting;

typedef struct {
    level_block *blocks;
    int first, count; /* cells of the wave */
    meeting *meetings;
    int total, next; /* meetings; blocks that were taken, or meetings: all before are */
    char busy[PAIRS_WAVE];
    query_result *result;
} wave;

int level_pairs_capacity(const query_task *task) { return level_room_for(task, 3, 64); }

int level_pairs_blocks(const query_task *task)
{
    size_t lists = 3 * sizeof(float) * BITSET_SIZE * LEVEL_ROOM(level_pairs_capacity(task)), most = PAIRS_BYTES / lists,
           count = (size_t)task->index->points->order.count;
    most = most < PAIRS_WAVE ? most : PAIRS_WAVE;
    return (int)(count < most ? count : most);
}

int level_pairs_serve(const query_task *task)
{
    const index_search *index = task->index;
    return index->form->screen_both && task->self && !task->predecessors && !task->rows &&
           level_pairs_blocks(task) >= PAIRS_SPARE * task->threads;
}

/* ---- the stages of a wave ------------------------------------------------------------------- */

static int take_block(level_scratch *s, wave *w)
{
    int i = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED);
    if (i >= w->count)
        return 0;
    s->block = &w->blocks[i].seen;
    return 1;
}

/* Each block against its own cell. */
static int open_block(level_scratch *s, void *context)
{
    wave *w = context;
    const cells *order = &s->task->index->points->order;
    if (!take_block(s, w))
        return 0;
    int cell = w->first + (int)(level_block_of(s->block) - w->blocks), first = order->first[cell];
    level_block_set(s->task, s->block, cell, order->perm + first, order->first[cell + 1] - first);
    level_seed(s);
    return 1;
}

static meeting *take_meeting(wave *w)
{
    meeting *found = NULL;
#pragma omp critical(level_pairs)
    {
        while (w->next < w->total && w->meetings[w->next].taken)
            w->next++;
        for (int i = w->next; i < w->total && !found; i++) {
            meeting *try = &w->meetings[i];
            if (!try->taken && !w->busy[try->a] && !w->busy[try->b])
                found = try;
        }
        if (found)
            found->taken = w->busy[found->a] = w->busy[found->b] = 1;
    }
    return found;
}

static void free_blocks(wave *w, const meeting *over)
{
#pragma omp critical(level_pairs)
    w->busy[over->a] = w->busy[over->b] = 0;
}

/* Two blocks: together, unless so few queries are left of them that it takes less one after the other. */
static int meet(level_scratch *s, void *context)
{
    wave *w = context;
    meeting *pair = take_meeting(w);
    if (!pair)
        return 0;
    block *sides[2] = {&w->blocks[pair->a].seen, &w->blocks[pair->b].seen};
    int everyone[BITSET_SIZE], count[2];
    bitset left[2];
    for (int side = 0; side < 2; side++) {
        s->block = sides[side];
        left[side] = level_bound(s, sides[1 - side]->cell);
        count[side] = bitset_count(&left[side]);
    }
    int64_t all = (int64_t)sides[0]->count * sides[1]->count;
    if ((int64_t)count[0] * sides[1]->count + (int64_t)count[1] * sides[0]->count > all) {
        const index_search *index = s->task->index;
        level_sink one = level_sink_of(s, sides[0]), other = level_sink_of(s, sides[1]);
        for (int q = 0; q < sides[0]->count; q++)
            everyone[q] = q;
        index->form->screen_both(&index->on, sides[0], sides[1], everyone, sides[0]->count, &one.sink, &other.sink,
                                 s->work);
    } else {
        for (int side = 0; side < 2; side++) {
            s->block = sides[side];
            level_screen(s, sides[1 - side]->cell, &left[side]);
        }
    }
    free_blocks(w, pair);
    return 1;
}

/* Each block against the cells outside of the wave. */
static int close_block(level_scratch *s, void *context)
{
    wave *w = context;
    if (!take_block(s, w))
        return 0;
    level_frontier(s, w->first, w->first + w->count);
    level_block_answer(s, w->result);
    return 1;
}

/* ---- all waves ------------------------------------------------------------------------------ */

static int by_number(const void *x, const void *y)
{
    const meeting *p = x, *q = y;
    return p->a != q->a ? p->a - q->a : p->b - q->b;
}

static int nearer(const void *x, const void *y)
{
    const meeting *p = x, *q = y;
    return p->away != q->away ? (p->away > q->away) - (p->away < q->away) : by_number(x, y);
}

static void arrange(const index_search *index, wave *w)
{
    w->total = 0;
    for (int a = 0; a < w->count; a++)
        for (int b = a + 1; b < w->count; b++)
            w->meetings[w->total++] = (meeting){level_away(&index->on, w->first + a, w->first + b), a, b, 0};
    qsort(w->meetings, w->total, sizeof(meeting), nearer);
    int near = PAIRS_NEAR * w->count;
    if (near < w->total)
        qsort(w->meetings + near, w->total - near, sizeof(meeting), by_number);
}

static status run_wave(level_scratch *scratch, wave *w)
{
    level_piece *stages[] = {open_block, meet, close_block};
    int totals[] = {w->count, w->total, w->count};
    double all = scratch->task->index->points->order.count, from = w->first / all,
           shares[] = {1.0, 0.5 * w->count, all - w->count + 1.0}, sum = shares[0] + shares[1] + shares[2];
    status outcome = status_ok();
    for (int i = 0; i < 3 && !outcome.code; i++) {
        level_progress progress = {totals[i], 0, from, shares[i] / sum * w->count / all};
        w->next = 0;
        outcome = level_run(scratch, stages[i], w, &progress);
        from += progress.share;
    }
    return outcome;
}

status level_search_pairs(level_scratch *scratch, void *unused, query_result *result)
{
    (void)unused;
    const index_search *index = scratch->task->index;
    int cells = index->points->order.count, most = level_pairs_blocks(scratch->task);
    wave w = {.blocks = level_block_of(scratch->block), .result = result};
    w.meetings = scratch_alloc(PAIRS_WAVE * PAIRS_WAVE / 2, sizeof(meeting));
    status outcome = w.meetings ? status_ok() : status_fail(STATUS_MEMORY);
    for (; w.first < cells && !outcome.code; w.first += w.count) {
        w.count = cells - w.first < most ? cells - w.first : most;
        arrange(index, &w);
        outcome = run_wave(scratch, &w);
    }
    scratch_free(w.meetings);
    return outcome;
}

#include "search/query_level.h"

#include "base/scratch.h"

#include <string.h>

void level_blocks_free(level_blocks *blocks)
{
    void *held[] = {blocks->each, blocks->lists, blocks->best_dist, blocks->best_id,
                    blocks->integers};
    for (size_t i = 0; i < sizeof(held) / sizeof(*held); i++)
        scratch_free(held[i]);
}

int level_blocks_new(const query_task *task, size_t count, int capacity, level_blocks *blocks)
{
    size_t width = level_width(task), queries = count * width, k = task->k,
           room = LEVEL_ROOM(capacity), bytes = (size_t)task->index->points.integers.steps * 4;
    memset(blocks, 0, sizeof(*blocks));
    blocks->each = scratch_alloc(count, sizeof(level_block));
    blocks->lists = scratch_alloc(3 * queries * room, sizeof(float)); /* ids are as long */
    blocks->best_dist = scratch_alloc(queries * k, sizeof(double));
    blocks->best_id = scratch_alloc(queries * k, sizeof(int));
    blocks->integers = scratch_alloc(queries * bytes + 1, 1);
    if (!blocks->each || !blocks->lists || !blocks->best_dist || !blocks->best_id ||
        !blocks->integers)
        return 0;
    for (size_t i = 0; i < count; i++) {
        level_block *block = &blocks->each[i];
        block->capacity = capacity;
        block->integers = blocks->integers + i * width * bytes;
        for (size_t q = 0, at = i * width; q < width; q++, at++) {
            float *lists = blocks->lists + 3 * at * room;
            block->kept[q] =
                (candidates){.id = (int *)lists, .low = lists + room, .high = lists + 2 * room};
            block->best[q] =
                (kbest){task->k, 0, blocks->best_dist + at * k, blocks->best_id + at * k, 0};
        }
    }
    return 1;
}

/* The k-best of a query that is 1 from all: the first k candidates. */
static void take_first(const query_task *task, level_block *block, int q)
{
    for (int j = 0; j < block->limit[q] && block->best[q].size < task->k; j++)
        if (!task->self || j != block->row[q])
            kbest_push(&block->best[q], 1.0, j);
}

static int is_special(const query_task *task, int row)
{
    return task->index->from->bound.special.rank[row] >= 0;
}

void level_block_set(const query_task *task, level_block *block, int cell, const int *queries,
                     int count)
{
    const index_set *from = task->index->from;
    block->cell = cell;
    block->count = count;
    block->most_limit = 0;
    memset(&block->active, 0, sizeof(block->active));
    for (int q = 0; q < BITSET_SIZE; q++)
        block->tau[q] = INFINITY;
    for (int q = 0; q < count; q++) {
        int row = block->row[q] = query_row(task, queries[q]);
        int limit = block->limit[q] = query_limit(task, queries[q]);
        block->query[q] = queries[q];
        block->most_limit = limit > block->most_limit ? limit : block->most_limit;
        block->column[q] = from->order.column[row];
        block->gain[q] = (float)(task->from->scale[row] * (1.0 + 1e-6));
        block->noise[q] = from->bound.noise[row];
        block->kept[q].count = block->settled[q] = block->spent[q] = 0;
        block->best[q].size = block->best[q].sorted = 0;
        if (task->from->scale[row] == 0.0) {
            take_first(task, block, q);
        } else if (limit > 0 && !is_special(task, row)) {
            block->tau[q] = -1.0f;
            bitset_add(&block->active, q);
        }
    }
}

void level_relative(level_scratch *s, int cell, int count, const int *members)
{
    const metric_points *from = s->task->from;
    for (int i = 0; i < count; i++)
        frames_relative(&s->task->index->points.frame, cell,
                        from->x + (size_t)s->block->row[members[i]] * from->d,
                        s->relative + (size_t)members[i] * from->d);
}

void level_block_answer(level_scratch *s, query_result *result)
{
    const query_task *task = s->task;
    level_block *block = s->block;
    int members[BITSET_SIZE], count = bitset_members(&block->active, members);
    if (count)
        level_finish(s, members, count);
    for (int q = 0; q < block->count; q++)
        if (is_special(task, block->row[q]) && block->gain[q] > 0.0f && block->limit[q] > 0)
            level_search_special(s, q);
    for (int q = 0; q < block->count && result->given; q++)
        answers_expect(result->given, query_slot(task, block->query[q]));
    for (int q = 0; q < block->count; q++)
        query_close(task, block->query[q], &block->best[q], result);
}

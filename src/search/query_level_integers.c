#include "search/query_level.h"

void level_integers_set(level_scratch *s)
{
    level_block *block = s->block;
    const screen *from = &s->task->index->from->integers;
    for (int q = 0; q < block->count; q++)
        screen_features(from, block->column[q], block->integers + (size_t)q * from->steps * 4);
}

/* Fills the rows of a tile; idle rows repeat the first. */
static void fill_rows(const level_scratch *s, const int *members, int count, simd_rows *rows)
{
    const level_block *block = s->block;
    const screen *from = &s->task->index->from->integers;
    for (int a = 0; a < SCREEN_ROWS; a++) {
        int q = members[a < count ? a : 0];
        screen_row(from, block->column[q], a, rows);
        rows->features[a] = block->integers + (size_t)q * from->steps * 4;
        rows->x[a] = s->relative + (size_t)q * from->d;
    }
}

/* Fetches what is to be refined of a tile. */
static void fetch_fine(const simd_columns *columns, const simd_intervals *found)
{
    uint32_t any = 0;
    for (uint32_t left = found->rows; left; left &= left - 1)
        any |= found->mask[__builtin_ctz(left)] | found->column_mask[__builtin_ctz(left)];
    for (; any; any &= any - 1) {
        const int16_t *column = columns->fine + (size_t)__builtin_ctz(any) * columns->fine_width;
        for (int u = 0; u < columns->fine_width; u += 32)
            __builtin_prefetch(column + u);
    }
}

/* Keeps the query of a row as a candidate of those that stand in the columns, from place `first` on. */
static void keep_in_columns(level_scratch *s, level_block *other, int first, int id, uint32_t mask,
                            const simd_interval_row *row)
{
    for (; mask; mask &= mask - 1) {
        int j = __builtin_ctz(mask);
        float size = fabsf(row->value[j]),
              error = row->base + row->slope * row->norm[j] + row->row_norm * row->error[j];
        level_keep_one(s, other, first + j, id, size - error, size + error);
    }
}

/* Keeps what of row a reaches a threshold, in 16 bits where 8 leave a pair. */
static void keep_row(level_scratch *s, int a, int q, simd_rows *rows, const simd_columns *columns,
                     const int *ids, level_block *other, int first)
{
    const screen *points = &s->task->index->points.integers;
    level_block *block = s->block;
    simd_intervals *found = s->intervals;
    if (points->fine_width)
        simd->refine_row(a, rows, columns, found);
    simd_interval_row row = {.value = found->value + a * SCREEN_COLS,
                             .norm = columns->norm,
                             .error = points->fine_width ? columns->fine_error : columns->error,
                             .base = found->base[a],
                             .slope = found->slope[a],
                             .row_norm = rows->norm[a]};
    if (found->mask[a])
        level_keep(s, block, q, ids, found->mask[a], &row);
    keep_in_columns(s, other, first, block->row[q], found->column_mask[a], &row);
}

/* A tile: up to SCREEN_ROWS members against panel p of a cell. */
static void screen_tile(level_scratch *s, int cell, int p, const int *members, int count,
                        simd_rows *rows, const simd_columns *columns, level_block *other)
{
    const screen *points = &s->task->index->points.integers;
    const cells *order = points->order;
    simd_intervals *found = s->intervals;
    int panel = order->panel[cell] + p;
    if (order->least[panel] >= s->block->most_limit)
        return;
    for (int a = 0; a < count; a++)
        rows->tau[a] = s->block->tau[members[a]];
    s->counters.screened += (double)count * SCREEN_COLS;
    (points->bits == 8 ? simd->dot_tile8 : simd->dot_tile16)(points->steps, rows, columns,
                                                             found->value);
    simd->interval_tile(s->task->index->points.frame.pieces, count, points->d, rows, columns,
                        found);
    if (points->fine_width)
        fetch_fine(columns, found);
    for (uint32_t left = found->rows; left; left &= left - 1) {
        int a = __builtin_ctz(left);
        keep_row(s, a, members[a], rows, columns, order->ids + (size_t)panel * SCREEN_COLS, other,
                 p * SCREEN_COLS);
    }
}

void level_integers_screen(level_scratch *s, int cell, const int *members, int count,
                           level_block *other)
{
    const level_block *block = s->block;
    const screen *points = &s->task->index->points.integers;
    const cells *order = points->order;
    int panels = order->panel[cell + 1] - order->panel[cell],
        own = s->task->index->from == &s->task->index->points && cell == block->cell;
    simd_columns columns[CELLS_MOST / SCREEN_COLS];
    for (int p = 0; p < panels; p++) {
        columns[p] = screen_columns(points, cell, order->panel[cell] + p);
        columns[p].tau = other ? other->tau + p * SCREEN_COLS : NULL;
    }
    level_relative(s, cell, count, members);
    for (int i = 0; i < count; i += SCREEN_ROWS)
        fill_rows(s, members + i, count - i < SCREEN_ROWS ? count - i : SCREEN_ROWS,
                  &s->row_tiles[i / SCREEN_ROWS]);
    for (int step = 0; step < panels; step++)
        for (int i = 0; i < count; i += SCREEN_ROWS) {
            /* in the own cell where the queries stand first, which raises thresholds most */
            int p = own ? level_nth_nearest(block->column[members[i]] / SCREEN_COLS -
                                                order->panel[cell],
                                            step, panels)
                        : step;
            screen_tile(s, cell, p, members + i, count - i < SCREEN_ROWS ? count - i : SCREEN_ROWS,
                        &s->row_tiles[i / SCREEN_ROWS], &columns[p], other);
        }
}

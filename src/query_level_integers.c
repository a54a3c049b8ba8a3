#include "query_level.h"

void level_integers_set(level_scratch *s)
{
    level_block *block = s->block;
    const screen *from = &s->task->index->from->integers;
    for (int q = 0; q < block->count; q++)
        screen_features(from, block->column[q], block->integers + (size_t)q * from->steps * 4);
}

/* Positions of queries relative to the centre of a cell. */
static void set_relative(level_scratch *s, int cell, int count, const int *members)
{
    const metric_points *from = s->task->from;
    int d = from->d;
    const double *centre = s->task->index->points.integers.centre + (size_t)cell * d;
    for (int i = 0; i < count; i++)
        for (int u = 0; u < d; u++)
            s->relative[(size_t)members[i] * d + u] =
                (float)(from->x[(size_t)s->block->row[members[i]] * d + u] - centre[u]);
}

/* Fills the rows of a tile; idle rows repeat the first and reach nothing. */
static void fill_rows(const level_scratch *s, const int *members, int count, simd_rows *rows)
{
    const level_block *block = s->block;
    const screen *from = &s->task->index->from->integers;
    for (int a = 0; a < SCREEN_ROWS; a++) {
        int q = members[a < count ? a : 0];
        screen_row(from, block->column[q], a, rows);
        rows->features[a] = block->integers + (size_t)q * from->steps * 4;
        rows->x[a] = s->relative + (size_t)q * from->d;
        rows->tau[a] = a < count ? block->tau[q] : INFINITY;
    }
}

/* Fetches the columns that a tile leaves to be refined. */
static void fetch_fine(const simd_columns *columns, int filled, const simd_intervals *found)
{
    uint32_t any = 0;
    for (int a = 0; a < filled; a++)
        any |= found->mask[a] | found->column_mask[a];
    for (; any; any &= any - 1) {
        const int16_t *column = columns->fine + (size_t)__builtin_ctz(any) * columns->fine_width;
        for (int u = 0; u < columns->fine_width; u += 32)
            __builtin_prefetch(column + u);
    }
}

/* Finds what of a tile reaches a threshold: by 8 bits, and of that by 16. */
static void screen_tile(const screen *points, int filled, const simd_rows *rows,
                        const simd_columns *columns, simd_intervals *found)
{
    (points->bits == 8 ? simd->dot_tile8 : simd->dot_tile16)(points->steps, rows, columns,
                                                             found->value);
    simd->interval_tile(points->pieces, points->d, rows, columns, found);
    if (!points->fine_width)
        return;
    fetch_fine(columns, filled, found);
    for (int a = 0; a < filled; a++)
        if (found->mask[a] | found->column_mask[a])
            simd->refine_row(a, rows, columns, found);
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

void level_integers_screen(level_scratch *s, int cell, const int *members, int count,
                           level_block *other)
{
    level_block *block = s->block;
    const screen *points = &s->task->index->points.integers;
    const cells *order = points->order;
    simd_intervals *found = s->intervals;
    simd_rows rows;
    set_relative(s, cell, count, members);
    for (int i = 0; i < count; i += SCREEN_ROWS) {
        int filled = count - i < SCREEN_ROWS ? count - i : SCREEN_ROWS;
        fill_rows(s, members + i, filled, &rows);
        for (int panel = order->panel[cell]; panel < order->panel[cell + 1]; panel++) {
            if (order->least[panel] >= block->most_limit)
                continue;
            int first = (panel - order->panel[cell]) * SCREEN_COLS;
            simd_columns columns = screen_columns(points, cell, panel);
            columns.tau = other ? other->tau + first : NULL;
            s->counters.screened += (double)filled * SCREEN_COLS;
            screen_tile(points, filled, &rows, &columns, found);
            for (int a = 0; a < filled; a++) {
                if (!(found->mask[a] | found->column_mask[a]))
                    continue;
                int q = members[i + a];
                simd_interval_row row = {.value = found->value + a * SCREEN_COLS,
                                         .norm = columns.norm,
                                         .error = points->fine_width ? columns.fine_error
                                                                     : columns.error,
                                         .base = found->base[a],
                                         .slope = found->slope[a],
                                         .row_norm = rows.norm[a]};
                if (found->mask[a])
                    level_keep(s, block, q, order->ids + (size_t)panel * SCREEN_COLS,
                               found->mask[a], &row);
                rows.tau[a] = block->tau[q];
                keep_in_columns(s, other, first, block->row[q], found->column_mask[a], &row);
            }
        }
    }
}

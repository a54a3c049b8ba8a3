#include "search/query_level.h"

#include <string.h>

/* What a term may be, times the largest gain of the queries, for it to be left out. */
#define NEGLIGIBLE 0.0006f

/* From so many queries on that the expansion bound leaves a panel, the span of theirs is asked about it, */
#define SPANS_PAY 12

/* unless the first so many answers have spared too few. */
#define SPANS_TRIED 4

/* Panels of the own cell that are met before spans are asked: they make the thresholds. */
#define OWN_FIRST 4

/* Columns that a group meets, and the terms that it meets them with. */
typedef struct {
    int cell, panel;
    simd_columns columns;
    int terms;
    float error; /* of a correlation, but for the query's gain */
} encounter;

/* What stands in a column of the panel of a group, as a row of a tile. */
static const float *row_features(const level_scratch *s, const level_group *g, int column)
{
    const bounds_terms *terms = &s->task->index->from->bound.terms;
    return terms->weights + (size_t)g->panel * terms->most * SCREEN_COLS + column % SCREEN_COLS;
}

/* The points that span the panel of a group, but for where they stand in the frame of a cell. */
static void set_span(const level_scratch *s, level_group *g)
{
    const index_set *from = s->task->index->from;
    g->spans = from->span.rank[g->panel];
    for (int a = 0; a < SCREEN_ROWS; a++) {
        int column = g->panel * SCREEN_COLS + from->span.column[g->panel * SCREEN_ROWS + a];
        g->rows.x[a] = g->span_x + (size_t)a * s->task->from->d;
        g->rows.features[a] = row_features(s, g, column);
        g->rows.gain[a] = from->frame.gain[column];
        g->rows.tau[a] = INFINITY;
    }
}

/* The first of some queries that stand in one panel. */
static void set_group(const level_scratch *s, const int *members, int count, level_group *g)
{
    const level_block *block = s->block;
    const index_set *from = s->task->index->from;
    float most_noise = (float)s->task->index->points.bound.most_noise * 1.00001f;
    g->panel = block->column[members[0]] / SCREEN_COLS;
    g->members = members;
    g->count = 0;
    g->frame_of = g->relative_to = -1;
    g->most_gain = 0.0f;
    set_span(s, g);
    for (int i = 0; i < count && i < SCREEN_COLS; i++) {
        int q = members[i], column = block->column[q];
        if (column / SCREEN_COLS != g->panel)
            break;
        g->count++;
        g->x[i] = s->relative + (size_t)q * s->task->from->d;
        g->features[i] = row_features(s, g, column);
        g->gain[i] = from->frame.gain[column];
        g->most_gain = block->gain[q] > g->most_gain ? block->gain[q] : g->most_gain;
        g->limit.noise[i] = block->noise[q] * most_noise;
        g->limit.inverse[i] = 0.99999f / block->gain[q];
        g->limit.cosine[i] = from->span.cosine[column];
        g->limit.sine[i] = from->span.sine[column];
    }
    for (int i = g->count; i < SCREEN_COLS; i++)
        g->limit.noise[i] = g->limit.cosine[i] = g->limit.sine[i] = g->limit.inverse[i] = 1.0f;
}

/* Takes note of the thresholds; returns the smallest bound that matters. */
static float note_thresholds(const level_scratch *s, level_group *g)
{
    for (int i = 0; i < SCREEN_COLS; i++)
        g->limit.tau[i] = i < g->count ? s->block->tau[g->members[i]] : INFINITY;
    return simd->group_limits(&g->limit);
}

/* The terms of a group and of a panel whose expansion bound is known. */
static void choose_terms(level_scratch *s, const level_group *g, float upper, encounter *e)
{
    const index_search *index = s->task->index;
    const bounds *points = &index->points.bound, *from = &index->from->bound;
    size_t m = points->m, row = g->panel * m, column = e->panel * m;
    float left = 0.0f;
    e->terms = 0;
    if (m)
        e->terms =
            simd->choose_terms((int)m, from->panels.weight + row, points->panels.reach + column,
                               from->terms.weight_place + row, points->terms.kernel_place + column,
                               NEGLIGIBLE / g->most_gain, s->row_at, s->column_at, &left);
    e->error = left * (1.0f + 0x1p-23f * (float)(m + 16)) +
               0x1p-23f * (float)(e->terms + 8) * upper +
               index->points.frame.slack[e->cell] *
                   (float)(points->panels.gain[e->panel] * points->kern->variance);
    e->error *= 1.0001f;
}

/* Puts the points that span the panel of a group into the frame of a cell. */
static void place_span(const level_scratch *s, int cell, level_group *g)
{
    const index_set *from = s->task->index->from;
    int d = s->task->from->d;
    g->frame_of = cell;
    for (int a = 0; a < SCREEN_ROWS; a++) {
        int place = from->span.column[g->panel * SCREEN_ROWS + a];
        size_t id = from->order.ids[(size_t)g->panel * SCREEN_COLS + place];
        frames_relative(&s->task->index->points.frame, cell, s->task->from->x + id * d,
                        g->span_x + (size_t)a * d);
    }
}

/* The members of a mask, `asked` of them, that the span of their panel does not finish with a panel. */
static uint32_t ask_span(level_scratch *s, const encounter *e, level_group *g, int asked,
                         uint32_t members)
{
    const index_search *index = s->task->index;
    const spans *span = &index->from->span;
    int rank = g->spans;
    uint32_t mask[SCREEN_ROWS];
    if (!rank || (g->asked >= SPANS_TRIED && g->spared < rank * g->asked))
        return members;
    if (g->frame_of != e->cell)
        place_span(s, e->cell, g);
    simd->expansion_tile(index->points.frame.pieces, rank, index->points.frame.d, e->terms,
                         s->row_at, s->column_at, &g->rows, &e->columns, s->value, mask);
    const float *inverse = span->inverse + (size_t)g->panel * SCREEN_ROWS * SCREEN_ROWS;
    float most_noise = (float)index->points.bound.most_noise,
          length = sqrtf(simd->span_length(rank, inverse, s->value)),
          error = span->amplify[g->panel] * e->error + span->noise[g->panel] * most_noise +
                  span->rounding[g->panel];
    members &= simd->within(g->limit.must, 1.00001f * length + 1.001f * error);
    int left = __builtin_popcount(members);
    g->asked++;
    g->spared += asked - left;
    s->counters.screened += (double)rank * SCREEN_COLS;
    s->counters.bounds += asked;
    s->counters.pruned += asked - left;
    return members;
}

/* Up to SCREEN_ROWS members against a panel; idle rows repeat the first. */
static void screen_tile(level_scratch *s, level_group *g, const encounter *e, int count,
                        const int *some)
{
    level_block *block = s->block;
    const index_search *index = s->task->index;
    int d = index->points.frame.d;
    simd_rows rows;
    uint32_t mask[SCREEN_ROWS];
    float base[SCREEN_ROWS];
    if (g->relative_to != e->cell) {
        level_relative(s, e->cell, g->count, g->members);
        g->relative_to = e->cell;
    }
    for (int a = 0; a < SCREEN_ROWS; a++) {
        int i = some[a < count ? a : 0], q = g->members[i];
        rows.x[a] = g->x[i];
        rows.features[a] = g->features[i];
        rows.gain[a] = g->gain[i];
        base[a] = g->limit.noise[i] + block->gain[q] * e->error;
        rows.tau[a] = block->tau[q] - base[a];
    }
    simd->expansion_tile(index->points.frame.pieces, count, d, e->terms, s->row_at, s->column_at,
                         &rows, &e->columns, s->value, mask);
    s->counters.screened += (double)count * SCREEN_COLS;
    for (int a = 0; a < count; a++)
        if (mask[a]) {
            simd_interval_row row = {
                .value = s->value + a * SCREEN_COLS, .tail = s->no_tail, .base = base[a]};
            level_keep(s, block, g->members[some[a]],
                       index->points.order.ids + (size_t)e->panel * SCREEN_COLS, mask[a], &row);
        }
}

/* A group against a panel of a cell: those members that the bounds leave. */
static void screen_panel(level_scratch *s, int cell, int panel, float upper, int ask,
                         level_group *g)
{
    const index_search *index = s->task->index;
    const bounds_terms *terms = &index->points.bound.terms;
    size_t column = (size_t)panel * SCREEN_COLS;
    uint32_t members =
        simd->within(g->limit.least, upper) & (UINT32_MAX >> (SCREEN_COLS - g->count));
    int some[SCREEN_COLS], count = 0, left = __builtin_popcount(members);
    s->counters.pruned += g->count - left;
    if (!members)
        return;
    encounter e = {.cell = cell,
                   .panel = panel,
                   .columns = {.x = index->points.frame.x + column * index->points.frame.d,
                               .gain = index->points.frame.gain + column,
                               .features = terms->kernels + column * terms->most}};
    choose_terms(s, g, upper, &e);
    if (ask && left >= SPANS_PAY)
        members = ask_span(s, &e, g, left, members);
    for (; members; members &= members - 1)
        some[count++] = __builtin_ctz(members);
    for (int i = 0; i < count; i += SCREEN_ROWS)
        screen_tile(s, g, &e, count - i < SCREEN_ROWS ? count - i : SCREEN_ROWS, some + i);
}

/* A group against the panels of a cell that the bounds leave. */
static void screen_group(level_scratch *s, int cell, level_group *g)
{
    const level_block *block = s->block;
    const index_search *index = s->task->index;
    const bounds *points = &index->points.bound;
    const bounds_level *from = &index->from->bound.panels;
    int first = index->points.order.panel[cell],
        panels = index->points.order.panel[cell + 1] - first,
        own = index->from == &index->points && cell == block->cell;
    float upper[SIMD_WIDTH], least = note_thresholds(s, g);
    s->counters.bounds++;
    if (bounds_expansion(points, from, g->panel, &points->cells, cell) < least) {
        s->counters.pruned++;
        return;
    }
    bounds_of_panels(points, from, g->panel, cell, upper);
    g->asked = g->spared = 0;
    for (int step = 0; step < panels; step++) {
        int p = own ? level_nth_nearest(g->panel - first, step, panels) : step;
        if (index->points.order.least[first + p] >= block->most_limit)
            continue;
        if (own)
            least = note_thresholds(s, g);
        s->counters.bounds += g->count;
        if (upper[p] < least)
            s->counters.pruned += g->count;
        else
            screen_panel(s, cell, first + p, upper[p], !own || step >= OWN_FIRST, g);
    }
}

void level_expansions_set(level_scratch *s)
{
    int count = bitset_members(&s->block->active, s->grouped), d = s->task->index->points.frame.d;
    s->groups = 0;
    for (int i = 0; i < count; i += s->group[s->groups++].count) {
        level_group *g = &s->group[s->groups];
        g->span_x = s->span_x + (size_t)s->groups * SCREEN_ROWS * d;
        set_group(s, s->grouped + i, count - i, g);
    }
}

void level_expansions_screen(level_scratch *s, int cell)
{
    for (int i = 0; i < s->groups; i++)
        screen_group(s, cell, &s->group[i]);
}

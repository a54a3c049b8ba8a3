#include "query_level.h"

#include <string.h>

/* What a term may be, times the largest gain of the queries, for it to be left out. */
#define NEGLIGIBLE 0.0006f
#define NEGLIGIBLE_PIVOT 0.004f /* the same of a pivot */

/* From so many panels on that the expansion bound leaves, pivots are asked about them. */
#define PIVOTS_PAY 2

/* The largest acos(tau) + beta at which pivots finish enough to pay. */
#define PIVOTS_ANGLE 1.4f

/* Panels of the own cell that are met before pivots are asked: they make the thresholds. */
#define OWN_FIRST 4

/* From so many queries on that the expansion bound leaves a panel, the span of theirs is asked about it, */
#define SPANS_PAY 12

/* unless the first so many answers have spared too few. */
#define SPANS_TRIED 4

/* Members of a group that stand in the same SCREEN_ROWS columns. */
typedef struct {
    int first, count;
    float need, least; /* smallest |rho| and bound that matter to any of them, negative if all do */
    uint32_t open;     /* panels that the bounds leave to any */
} group_tile;

/* Queries of a block that stand in one panel, up to SCREEN_COLS of them. */
typedef struct {
    int panel, count, tiles;
    const int *members;
    float gain;                 /* the largest */
    float noise[SCREEN_COLS];   /* by member: noise_q times the largest */
    uint32_t open[SCREEN_COLS]; /* by member: panels that pivots leave */
    float must[SCREEN_COLS];    /* by member: the smallest max_y |psi_y| that matters (spans.h) */
    simd_rows span;             /* in the frame of a cell, -1 for none as yet */
    int span_cell, asked, spared;
    group_tile tile[SCREEN_COLS];
} group;

/* Columns that a group meets, and the terms that it meets them with. */
typedef struct {
    int cell;
    simd_columns columns;
    float upper; /* expansion bound, but for the query's gain */
    int terms;
    float error; /* of a correlation, but for the query's gain */
} encounter;

static void set_group(const level_scratch *s, const int *members, int count, group *g)
{
    const level_block *block = s->block;
    float most_noise = (float)s->task->index->points.bound.most_noise * 1.00001f;
    g->panel = block->column[members[0]] / SCREEN_COLS;
    g->members = members;
    g->count = g->tiles = g->asked = g->spared = 0;
    g->span_cell = -1;
    g->gain = 0.0f;
    for (int i = 0; i < count && i < SCREEN_COLS; i++) {
        int q = members[i], column = block->column[q];
        if (column / SCREEN_COLS != g->panel)
            break;
        const group_tile *last = g->tiles ? &g->tile[g->tiles - 1] : NULL;
        if (!last || last->count == SCREEN_ROWS ||
            column / SCREEN_ROWS != block->column[members[last->first]] / SCREEN_ROWS)
            g->tile[g->tiles++] = (group_tile){.first = i};
        g->tile[g->tiles - 1].count++;
        g->count++;
        g->gain = block->gain[q] > g->gain ? block->gain[q] : g->gain;
        g->noise[i] = block->noise[q] * most_noise;
    }
}

/* Takes note of the thresholds; returns the smallest bound that matters. */
static float note_thresholds(const level_scratch *s, group *g)
{
    const level_block *block = s->block;
    const spans *span = &s->task->index->from->span;
    float all = INFINITY;
    for (group_tile *tile = g->tile; tile < g->tile + g->tiles; tile++) {
        tile->need = tile->least = INFINITY;
        for (int i = tile->first; i < tile->first + tile->count; i++) {
            int q = g->members[i];
            float need = block->tau[q] - g->noise[i],
                  least = need > 0.0f ? 0.99999f * need / block->gain[q] : -1.0f;
            float one = need < 1.0f ? need : 1.0f;
            g->must[i] = need > 0.0f ? span->cosine[block->column[q]] * one -
                                           span->sine[block->column[q]] * sqrtf(1.0f - one * one) -
                                           1e-6f
                                     : -1.0f;
            tile->need = need < tile->need ? need : tile->need;
            tile->least = least < tile->least ? least : tile->least;
        }
        all = tile->least < all ? tile->least : all;
    }
    return all;
}

/* The terms of a group and of columns with a reach, places and largest gain of their own. */
static void choose_terms(level_scratch *s, const group *g, const float *reach, const int16_t *place,
                         double gain, float negligible, encounter *e)
{
    const index_search *index = s->task->index;
    const bounds *points = &index->points.bound, *from = &index->from->bound;
    size_t m = points->m, row = g->panel * m;
    float left = 0.0f;
    e->terms = 0;
    if (m)
        e->terms = simd->choose_terms((int)m, from->panels.weight + row, reach,
                                      from->terms.weight_place + row, place, negligible / g->gain,
                                      s->row_at, s->column_at, &left);
    e->error = left * (1.0f + ldexpf((float)m + 16.0f, -23)) +
               ldexpf((float)e->terms + 8.0f, -23) * e->upper +
               index->points.frame.slack[e->cell] * (float)(gain * points->kern->variance);
    e->error *= 1.0001f;
}

/* Row a of a tile: the point in a column of the panel of a group, x relative to the centre of the cell it meets. */
static void set_row(const level_scratch *s, const group *g, int column, const float *x, int a,
                    simd_rows *rows)
{
    const index_set *from = s->task->index->from;
    const bounds_terms *terms = &from->bound.terms;
    rows->x[a] = x;
    rows->gain[a] = from->frame.gain[column];
    rows->features[a] =
        terms->weights + (size_t)g->panel * terms->most * SCREEN_COLS + column % SCREEN_COLS;
    rows->tau[a] = INFINITY;
}

/* Some members as rows; idle ones repeat the first. */
static void set_rows(const level_scratch *s, const group *g, const int *some, int count,
                     simd_rows *rows)
{
    int d = s->task->index->points.frame.d;
    for (int a = 0; a < SCREEN_ROWS; a++) {
        int q = g->members[some[a < count ? a : 0]];
        set_row(s, g, s->block->column[q], s->relative + (size_t)q * d, a, rows);
    }
}

/* ---- pivots --------------------------------------------------------------------------------- */

/* The panels of a cell that pivots leave to queries by their correlations with them: of one that needs |rho| and is of
 * a noise and gain, or of all within an angle of it. */
static uint32_t panels_left(const level_scratch *s, const group *g, const encounter *e,
                            const float *value, float need, float noise, float gain, float cosine,
                            float sine)
{
    const index_search *index = s->task->index;
    const pivots *p = &index->points.pivot;
    float sum = noise + p->noise[e->cell], delta = 2.0f * sum * sum + 1e-12f;
    need -= delta + 1e-6f;
    if (!(need > 0.0f && need < 1.0f))
        return UINT32_MAX;
    float away = sqrtf(1.0f - need * need), least = need * cosine - away * sine;
    if (least <= 0.0f)
        return UINT32_MAX;
    simd_asks query = {.cosine = least,
                       .sine = away * cosine + need * sine,
                       .error = gain * e->error + 1.01f * delta,
                       .noise = PIVOTS_NOISY * delta + 1e-5f,
                       .weight = g->gain * index->from->pivot.weight_most[g->panel]};
    return simd->ask_pivots(value, &query, &p->pairs[e->cell]);
}

/* Asks the pivots of a cell for the middles of tiles: leaves open what may be near to any of their members. */
static void ask_for_tiles(level_scratch *s, const encounter *e, group *g)
{
    const index_search *index = s->task->index;
    const pivots *from = &index->from->pivot;
    const metric_points *points = s->task->from;
    int d = index->points.frame.d, asked = 0;
    group_tile *of[SCREEN_COLS];
    size_t at[SCREEN_COLS];
    for (int t = 0; t < g->tiles; t++) {
        size_t columns = s->block->column[g->members[g->tile[t].first]] / SCREEN_ROWS;
        if (from->middle[columns] < 0 || g->tile[t].need <= 0.0f)
            continue;
        of[asked] = &g->tile[t];
        at[asked++] = columns;
    }
    for (int i = 0; i < asked; i += SCREEN_ROWS) {
        int count = asked - i < SCREEN_ROWS ? asked - i : SCREEN_ROWS;
        simd_rows rows;
        uint32_t mask[SCREEN_ROWS];
        for (int a = 0; a < SCREEN_ROWS; a++) {
            int id = from->middle[at[i + (a < count ? a : 0)]];
            float *x = s->middles + (size_t)a * d;
            frames_relative(&index->points.frame, e->cell, points->x + (size_t)id * d, x);
            set_row(s, g, index->from->order.column[id], x, a, &rows);
        }
        simd->expansion_tile(index->points.frame.pieces, count, d, e->terms, s->row_at,
                             s->column_at, &rows, &e->columns, s->value, mask);
        for (int a = 0; a < count; a++) {
            int id = from->middle[at[i + a]];
            of[i + a]->open &=
                panels_left(s, g, e, s->value + a * SCREEN_COLS, of[i + a]->need,
                            from->noise[s->block->cell], (float)(points->scale[id] * 1.000001),
                            from->cosine[at[i + a]], from->sine[at[i + a]]);
        }
    }
    s->counters.screened += (double)asked * SCREEN_COLS;
    s->counters.bounds += (double)asked * SIMD_PIVOTS;
}

/* The same for each member of a tile. */
static void ask_for_members(level_scratch *s, const encounter *e, group *g, group_tile *tile)
{
    const level_block *block = s->block;
    simd_rows rows;
    uint32_t mask[SCREEN_ROWS], any = 0;
    int some[SCREEN_ROWS];
    for (int a = 0; a < tile->count; a++)
        some[a] = tile->first + a;
    set_rows(s, g, some, tile->count, &rows);
    simd->expansion_tile(s->task->index->points.frame.pieces, tile->count,
                         s->task->index->points.frame.d, e->terms, s->row_at, s->column_at, &rows,
                         &e->columns, s->value, mask);
    for (int a = 0; a < tile->count; a++) {
        int i = tile->first + a, q = g->members[i];
        g->open[i] = panels_left(s, g, e, s->value + a * SCREEN_COLS, block->tau[q] - g->noise[i],
                                 block->noise[q], block->gain[q], 1.0f, 0.0f);
        any |= g->open[i];
    }
    tile->open &= any;
    s->counters.screened += (double)tile->count * SCREEN_COLS;
    s->counters.bounds += (double)tile->count * SIMD_PIVOTS;
}

/* Whether they are likely to finish most panels of a cell. */
static int pivots_pay(const level_scratch *s, int cell, const group *g)
{
    const float *beta = s->task->index->points.pivot.beta;
    float need = 1.0f;
    for (int t = 0; t < g->tiles; t++)
        need = g->tile[t].need < need ? g->tile[t].need : need;
    return beta && need > 0.0f && acosf(need) + beta[cell] < PIVOTS_ANGLE;
}

/* Asks the pivots of a cell about the panels that are open. */
static void ask_pivots(level_scratch *s, int cell, float upper, group *g)
{
    const pivots *p = &s->task->index->points.pivot;
    size_t m = p->m, columns = (size_t)cell * SCREEN_COLS;
    encounter e = {.cell = cell,
                   .columns = {.x = p->x + columns * p->d,
                               .gain = p->scale + columns,
                               .features = p->kernels + columns * p->most},
                   .upper = upper};
    choose_terms(s, g, p->reach + cell * m, p->place + cell * m, p->gain[cell], NEGLIGIBLE_PIVOT,
                 &e);
    ask_for_tiles(s, &e, g);
    for (int t = 0; t < g->tiles; t++)
        if (__builtin_popcount(g->tile[t].open) >= PIVOTS_PAY && g->tile[t].need > 0.0f)
            ask_for_members(s, &e, g, &g->tile[t]);
}

/* ---- screening ------------------------------------------------------------------------------ */

/* Takes those members off a list that the span of their panel finishes with panel p; returns how many are left. */
static int ask_span(level_scratch *s, const encounter *e, group *g, int count, int *some)
{
    const index_search *index = s->task->index;
    const index_set *from = index->from;
    const spans *span = &from->span;
    int rank = span->rank[g->panel], d = index->points.frame.d, left = 0;
    const int *columns = span->column + g->panel * SCREEN_ROWS;
    uint32_t mask[SCREEN_ROWS];
    if (!rank || (g->asked >= SPANS_TRIED && g->spared < rank * g->asked))
        return count;
    if (g->span_cell != e->cell) {
        g->span_cell = e->cell;
        for (int a = 0; a < SCREEN_ROWS; a++) {
            int column = g->panel * SCREEN_COLS + columns[a];
            float *x = s->span_x + (size_t)a * d;
            frames_relative(&index->points.frame, e->cell,
                            s->task->from->x + (size_t)from->order.ids[column] * d, x);
            set_row(s, g, column, x, a, &g->span);
        }
    }
    simd->expansion_tile(index->points.frame.pieces, rank, d, e->terms, s->row_at, s->column_at,
                         &g->span, &e->columns, s->value, mask);
    float most_noise = (float)index->points.bound.most_noise,
          reach = sqrtf(simd->span_length(rank,
                                          span->inverse +
                                              (size_t)g->panel * SCREEN_ROWS * SCREEN_ROWS,
                                          s->value)) *
                      1.00001f +
                  1.001f * (span->amplify[g->panel] * e->error +
                            span->noise[g->panel] * most_noise + span->rounding[g->panel]);
    for (int i = 0; i < count; i++)
        if (!(reach < g->must[some[i]]))
            some[left++] = some[i];
    g->asked++;
    g->spared += count - left;
    s->counters.screened += (double)rank * SCREEN_COLS;
    s->counters.bounds += count;
    s->counters.pruned += count - left;
    return left;
}

/* Up to SCREEN_ROWS members against a panel. */
static void screen_tile(level_scratch *s, const group *g, const int *some, int count, int panel,
                        const encounter *e)
{
    level_block *block = s->block;
    const index_search *index = s->task->index;
    simd_rows rows;
    uint32_t mask[SCREEN_ROWS];
    float base[SCREEN_ROWS];
    set_rows(s, g, some, count, &rows);
    for (int a = 0; a < count; a++) {
        int q = g->members[some[a]];
        base[a] = g->noise[some[a]] + block->gain[q] * e->error;
        rows.tau[a] = block->tau[q] - base[a];
    }
    simd->expansion_tile(index->points.frame.pieces, count, index->points.frame.d, e->terms,
                         s->row_at, s->column_at, &rows, &e->columns, s->value, mask);
    s->counters.screened += (double)count * SCREEN_COLS;
    for (int a = 0; a < count; a++)
        if (mask[a]) {
            simd_interval_row row = {
                .value = s->value + a * SCREEN_COLS, .tail = s->no_tail, .base = base[a]};
            level_keep(s, block, g->members[some[a]],
                       index->points.order.ids + (size_t)panel * SCREEN_COLS, mask[a], &row);
        }
}

/* A group against panel p of a cell: those members that the bounds leave. */
static void screen_panel(level_scratch *s, int cell, int p, float upper, group *g)
{
    const index_search *index = s->task->index;
    const bounds *points = &index->points.bound;
    int panel = index->points.order.panel[cell] + p, some[SCREEN_COLS], count = 0;
    size_t column = (size_t)panel * SCREEN_COLS, m = points->m;
    for (const group_tile *tile = g->tile; tile < g->tile + g->tiles; tile++)
        if (tile->open >> p & 1 && upper >= tile->least)
            for (int i = tile->first; i < tile->first + tile->count; i++)
                if (g->open[i] >> p & 1)
                    some[count++] = i;
    if (!count)
        return;
    encounter e = {.cell = cell,
                   .columns = {.x = index->points.frame.x + column * points->d,
                               .gain = index->points.frame.gain + column,
                               .features = points->terms.kernels + column * points->terms.most},
                   .upper = upper};
    choose_terms(s, g, points->panels.reach + panel * m, points->terms.kernel_place + panel * m,
                 points->panels.gain[panel], NEGLIGIBLE, &e);
    if (count >= SPANS_PAY && (index->from != &index->points || panel != g->panel))
        count = ask_span(s, &e, g, count, some);
    for (int i = 0; i < count; i += SCREEN_ROWS)
        screen_tile(s, g, some + i, count - i < SCREEN_ROWS ? count - i : SCREEN_ROWS, panel, &e);
}

/* A group against the panels of a cell that the bounds leave. */
static void screen_group(level_scratch *s, int cell, group *g)
{
    const level_block *block = s->block;
    const index_search *index = s->task->index;
    const bounds *points = &index->points.bound;
    const bounds_level *from = &index->from->bound.panels;
    const int *least_index = index->points.order.least;
    int first = index->points.order.panel[cell],
        panels = index->points.order.panel[cell + 1] - first, left = 0,
        own = index->from == &index->points && cell == block->cell,
        start = own ? g->panel - first : 0;
    float upper[CELLS_MOST / SCREEN_COLS], least = note_thresholds(s, g);
    uint32_t open = 0;
    s->counters.bounds++;
    *upper = bounds_expansion(points, from, g->panel, &points->cells, cell, cell + 1);
    if (*upper < least) {
        s->counters.pruned++;
        return;
    }
    float most = *upper;
    int ask = !own && pivots_pay(s, cell, g);
    if (ask) /* they say more */
        for (int p = 0; p < panels; p++)
            upper[p] = most;
    else
        bounds_expansions(points, from, g->panel, &points->panels, first, first + panels, upper);
    for (int p = 0; p < panels; p++)
        if (upper[p] >= least && least_index[first + p] < block->most_limit) {
            open |= (uint32_t)1 << p;
            left++;
        }
    s->counters.bounds += panels;
    s->counters.pruned += panels - left;
    if (!left)
        return;
    level_relative(s, cell, g->count, g->members);
    for (int t = 0; t < g->tiles; t++)
        g->tile[t].open = open;
    memset(g->open, 0xff, sizeof(g->open));
    if (ask && left >= PIVOTS_PAY)
        ask_pivots(s, cell, most, g);
    for (int step = 0; step < panels; step++) {
        int p = own ? level_nth_nearest(start, step, panels) : step;
        if (own)
            note_thresholds(s, g);
        if (own && step == OWN_FIRST && pivots_pay(s, cell, g))
            ask_pivots(s, cell, most, g);
        screen_panel(s, cell, p, upper[p], g);
    }
}

void level_expansions_screen(level_scratch *s, int cell, const int *members, int count)
{
    group g;
    for (int i = 0; i < count; i += g.count) {
        set_group(s, members + i, count - i, &g);
        screen_group(s, cell, &g);
    }
}

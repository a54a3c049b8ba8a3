#include "search/level.h"

#include <stdlib.h>

#define NEARLY 50.0f /* a bound of so many thresholds is not refined */

static int nearer(const void *a, const void *b)
{
    const frontier_cell *x = a, *y = b;
    return x->key != y->key ? (x->key > y->key) - (x->key < y->key) : (x->cell > y->cell) - (x->cell < y->cell);
}

/* The factor that makes of an expansion bound what must reach 1, roundoff allowed for; infinite while there
 * is no threshold. */
static float hardness(const level_scratch *s, int q)
{
    const block *block = s->block;
    float tau = block->tau[q] - block->roundoff[q] * (float)s->task->index->points->bound.most_roundoff * 1.00001f;
    return tau > 0.0f ? block->gain[q] / tau * 1.00001f : INFINITY;
}

/* A bound of 0 and no threshold make no number, which must not skip: correlations of 0 compete by index. */
static int reaches(float upper, float hard) { return !(upper * hard < 1.0f); }

float level_away(const form_sides *on, int from, int cell)
{
    const cells *order = &on->points->order, *own = &on->from->order;
    int d = order->d;
    const double *low = order->low + (size_t)cell * d, *high = order->high + (size_t)cell * d,
                 *from_low = own->low + (size_t)from * d, *from_high = own->high + (size_t)from * d;
    double s2 = 0.0;
    for (int u = 0; u < d; u++) { /* of the middles: boxes of one cell's neighbours all touch it */
        double gap = 0.5 * (low[u] + high[u] - from_low[u] - from_high[u]);
        s2 += gap * gap;
    }
    return (float)s2;
}

static float hardest_of(const level_scratch *s, const int *members, int count)
{
    float hardest = 0.0f;
    for (int i = 0; i < count; i++) {
        float hard = hardness(s, members[i]);
        hardest = hard > hardest ? hard : hardest;
    }
    return hardest;
}

/* The queries of the block that the expansion bound does not finish with a cell: by the panels that
 * they stand in, for the whole cell and then for its panels. */
static bitset bound_cell(level_scratch *s, int cell, const int *members, int count)
{
    const block *block = s->block;
    const form_sides *on = &s->task->index->on;
    const bounds *b = &on->points->bound, *from = &on->from->bound;
    float of_panels[SIMD_WIDTH];
    bitset active = {{0}};
    for (int i = 0, next; i < count; i = next) {
        int own = block->column[members[i]] / SCREEN_COLS;
        float upper = bounds_expansion(b, &from->panels, own, &b->cells, cell);
        for (next = i + 1; next < count && block->column[members[next]] / SCREEN_COLS == own;)
            next++;
        float hardest = hardest_of(s, members + i, next - i);
        if (reaches(upper, hardest) && upper * hardest < NEARLY)
            upper = bounds_of_panels(b, &from->panels, own, cell, of_panels);
        for (int j = i; j < next && reaches(upper, hardest); j++)
            if (reaches(upper, hardness(s, members[j])))
                bitset_add(&active, members[j]);
    }
    s->counters.bounds += count;
    return active;
}

/* The same where `upper` is the bound of the whole block. */
static bitset bound_block(level_scratch *s, int cell, float upper, const int *members, int count)
{
    int refine = s->task->index->points->bound.expands && !s->task->index->form->terms && upper < NEARLY;
    return refine ? bound_cell(s, cell, members, count) : s->block->active;
}

bitset level_bound(level_scratch *s, int cell)
{
    const form_sides *on = &s->task->index->on;
    const bounds *b = &on->points->bound;
    int members[BITSET_SIZE], count = bitset_members(&s->block->active, members);
    float upper = INFINITY;
    if (b->expands) {
        float hardest = hardest_of(s, members, count);
        upper = hardest * bounds_expansion(b, &on->from->bound.cells, s->block->cell, &b->cells, cell);
        s->counters.nodes++;
        if (upper < 1.0f)
            return (bitset){{0}};
    }
    return bound_block(s, cell, upper, members, count);
}

/* Cells but first .. last - 1 that the expansion bound of the whole block and the form leave, nearest first. */
static int list_cells(level_scratch *s, int first, int last, const int *members, int count)
{
    const form_sides *on = &s->task->index->on;
    const screening_form *form = s->task->index->form;
    const bounds *b = &on->points->bound, *from = &on->from->bound;
    int own = s->block->cell, listed = 0, group = 1;
    float hardest = hardest_of(s, members, count);
    for (int c = 0; c < on->points->order.count; c++) {
        float upper = INFINITY;
        uint32_t parts = 1;
        if (b->expands && c % BOUNDS_GROUP == 0) {
            int at = c / BOUNDS_GROUP;
            group = reaches(bounds_expansion(b, &from->cells, own, &b->groups, at), hardest);
            s->counters.nodes++;
        }
        if (!group || (c >= first && c < last))
            continue;
        if (b->expands) {
            s->counters.nodes++;
            upper = bounds_expansion(b, &from->cells, own, &b->cells, c) * hardest;
            if (upper < 1.0f)
                continue;
        }
        if (form->skim && !(parts = form->skim(on, s->block, c, &s->counters, s->work)))
            continue;
        s->frontier[listed++] =
            (frontier_cell){.key = level_away(on, own, c), .ratio = upper, .cell = c, .parts = parts};
    }
    qsort(s->frontier, listed, sizeof(frontier_cell), nearer);
    return listed;
}

/* Where thresholds start from: the queries' own cell if they are candidates. */
static int nearest_cell(const level_scratch *s)
{
    const form_sides *on = &s->task->index->on;
    int own = s->block->cell, nearest = 0;
    float least = INFINITY;
    if (on->from == on->points)
        return own;
    for (int c = 0; c < on->points->order.count; c++) {
        float away = level_away(on, own, c);
        if (away < least) {
            least = away;
            nearest = c;
        }
    }
    return nearest;
}

void level_screen(level_scratch *s, int cell, const bitset *alive)
{
    const index_search *index = s->task->index;
    level_sink to = level_sink_of(s, s->block);
    frontier_cell item = {.cell = cell, .alive = *alive};
    index->form->screen(&index->on, s->block, &item, &to.sink, s->work);
}

int level_seed(level_scratch *s)
{
    const index_search *index = s->task->index;
    int members[BITSET_SIZE], count = bitset_members(&s->block->active, members);
    int seed = nearest_cell(s);
    /* even if none is searched: in pairs they are candidates of others */
    index->form->begin(&index->on, s->block, s->work);
    if (count) {
        level_screen(s, seed, &s->block->active);
        level_raise_thresholds(s, count, members);
    }
    return seed;
}

void level_frontier(level_scratch *s, int first, int last)
{
    const index_search *index = s->task->index;
    level_sink to = level_sink_of(s, s->block);
    int members[BITSET_SIZE], count = bitset_members(&s->block->active, members);
    int listed = count ? list_cells(s, first, last, members, count) : 0;
    for (int done = 0, next = 1; done < listed; done++) {
        frontier_cell *item = &s->frontier[done];
        if (done == next) { /* near cells raise thresholds most */
            level_raise_thresholds(s, count, members);
            next *= 2;
        }
        item->alive = bound_block(s, item->cell, item->ratio, members, count);
        if (bitset_any(&item->alive))
            index->form->screen(&index->on, s->block, item, &to.sink, s->work);
    }
}

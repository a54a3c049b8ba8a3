#include "search/query_level.h"

#include <stdlib.h>

#define FIRST_CHUNK 8
#define NEARLY_CHEAP                                                                               \
    2.0f /* LEVEL_NEARLY where asking landmarks takes less than the bounds of all panels */

static int nearer(const void *a, const void *b)
{
    const work_item *x = a, *y = b;
    return x->key != y->key ? (x->key > y->key) - (x->key < y->key)
                            : (x->cell > y->cell) - (x->cell < y->cell);
}

/* The factor that makes of an expansion bound what must reach 1, noise allowed for; infinite while there
 * is no threshold. */
static float hardness(const level_scratch *s, int q)
{
    const level_block *block = s->block;
    float tau = block->tau[q] - block->noise[q] * (float)s->task->index->points.bound.most_noise;
    return tau > 0.0f ? block->gain[q] / tau * 1.00001f : INFINITY;
}

/* A bound of 0 and no threshold make no number, which must not skip: correlations of 0 compete by index. */
static int reaches(float upper, float hard) { return !(upper * hard < 1.0f); }

float level_away(const index_search *index, int from, int cell)
{
    int d = index->points.order.d;
    const cells *order = &index->points.order, *own = &index->from->order;
    const double *low = order->low + (size_t)cell * d, *high = order->high + (size_t)cell * d,
                 *from_low = own->low + (size_t)from * d, *from_high = own->high + (size_t)from * d;
    double s2 = 0.0;
    for (int u = 0; u < d; u++) { /* of the middles: boxes of one cell's neighbours all touch it */
        double gap = 0.5 * (low[u] + high[u] - from_low[u] - from_high[u]);
        s2 += gap * gap;
    }
    return (float)s2;
}

/* Up to how many thresholds a bound is refined. */
static float nearly(const level_scratch *s)
{
    return s->task->index->form == INDEX_SUBSPACES ? NEARLY_CHEAP : LEVEL_NEARLY;
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
    const level_block *block = s->block;
    const index_search *index = s->task->index;
    const bounds *b = &index->points.bound, *from = &index->from->bound;
    float of_panels[SIMD_WIDTH];
    bitset active = {{0}};
    for (int i = 0, next; i < count; i = next) {
        int own = block->column[members[i]] / SCREEN_COLS;
        float upper = bounds_expansion(b, &from->panels, own, &b->cells, cell);
        for (next = i + 1; next < count && block->column[members[next]] / SCREEN_COLS == own;)
            next++;
        float hardest = hardest_of(s, members + i, next - i);
        if (reaches(upper, hardest) && upper * hardest < nearly(s))
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
    int refine = s->task->index->points.bound.expands && upper < nearly(s);
    return refine ? bound_cell(s, cell, members, count) : s->block->active;
}

bitset level_bound(level_scratch *s, int cell)
{
    const index_search *index = s->task->index;
    const bounds *b = &index->points.bound;
    int members[BITSET_SIZE], count = bitset_members(&s->block->active, members);
    float upper = INFINITY;
    if (b->expands) {
        float hardest = hardest_of(s, members, count);
        upper = hardest *
                bounds_expansion(b, &index->from->bound.cells, s->block->cell, &b->cells, cell);
        s->counters.nodes++;
        if (upper < 1.0f)
            return (bitset){{0}};
    }
    return bound_block(s, cell, upper, members, count);
}

/* Cells but first .. last - 1 that the expansion bound of the whole block and circles leave, nearest first. */
static int list_work(level_scratch *s, int first, int last, const int *members, int count)
{
    const index_search *index = s->task->index;
    const bounds *b = &index->points.bound, *from = &index->from->bound;
    int own = s->block->cell, listed = 0, group = 1;
    float hardest = hardest_of(s, members, count);
    int circles = index->form == INDEX_SUBSPACES, panel = -1, known = 0;
    uint32_t reach[SIMD_MAX_COLS];
    if (circles)
        level_circles_draw(s);
    for (int c = 0; c < index->points.order.count; c++) {
        float upper = INFINITY;
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
        if (circles && c / simd->cols != panel) {
            panel = c / simd->cols;
            known = level_cones_reach(s, panel, reach);
        }
        uint32_t reached = circles ? reach[c % simd->cols] : 0;
        if (circles && !reached)
            continue;
        s->work[listed] = (work_item){.key = level_away(index, own, c),
                                      .upper = upper,
                                      .cell = c,
                                      .circles = reached,
                                      .axis = known ? level_cones_keep(s, c, listed) : -1};
        listed++;
    }
    qsort(s->work, listed, sizeof(work_item), nearer);
    return listed;
}

/* Where thresholds start from: the queries' own cell if they are candidates. */
static int nearest_cell(const level_scratch *s)
{
    const index_search *index = s->task->index;
    int own = s->block->cell, nearest = 0;
    float least = INFINITY;
    if (index->from == &index->points)
        return own;
    for (int c = 0; c < index->points.order.count; c++) {
        float away = level_away(index, own, c);
        if (away < least) {
            least = away;
            nearest = c;
        }
    }
    return nearest;
}

int level_seed(level_scratch *s)
{
    int members[BITSET_SIZE], count = bitset_members(&s->block->active, members);
    int seed = nearest_cell(s);
    index_form form = s->task->index->form;
    /* even if none is searched: in pairs they are candidates of others */
    if (form == INDEX_INTEGERS)
        level_integers_set(s);
    if (!count)
        return seed;
    if (form == INDEX_SUBSPACES) {
        level_subspaces_set(s);
        level_circles_set(s);
        level_cones_set(s);
        level_subspaces_seed(s, seed);
    } else if (form == INDEX_EXPANSIONS) {
        level_expansions_set(s);
        level_expansions_screen(s, seed);
    } else {
        level_integers_screen(s, seed, members, count, NULL);
    }
    level_raise_thresholds(s, count, members);
    return seed;
}

void level_frontier(level_scratch *s, int first, int last)
{
    index_form form = s->task->index->form;
    int members[BITSET_SIZE], count = bitset_members(&s->block->active, members);
    int listed = count ? list_work(s, first, last, members, count) : 0;
    for (int w = 0, chunk = FIRST_CHUNK; w < listed; w += chunk, chunk = LEVEL_CHUNK) {
        chunk = listed - w < chunk ? listed - w : chunk;
        for (work_item *item = s->work + w; item < s->work + w + chunk; item++) {
            if (form == INDEX_EXPANSIONS) { /* they bound panels themselves */
                level_expansions_screen(s, item->cell);
                continue;
            }
            item->active = bound_block(s, item->cell, item->upper, members, count);
            if (form == INDEX_SUBSPACES) {
                bitset reached = level_circles_members(s, item->circles);
                bitset_keep(&item->active, &reached);
                level_cones_ask(s, item);
            }
            if (form == INDEX_INTEGERS) {
                int active[BITSET_SIZE], left = bitset_members(&item->active, active);
                level_integers_screen(s, item->cell, active, left, NULL);
            }
        }
        if (form == INDEX_SUBSPACES) {
            level_subspaces_screen(s, s->work + w, chunk);
            level_circles_draw(s); /* smaller, as thresholds have risen */
        }
    }
}

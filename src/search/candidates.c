#include "search/level.h"

#include "base/scratch.h"

#include <string.h>

#define DENSE_PAYS 4   /* how many times faster a pair is in the tiles of brute force than alone */
#define FIRST_PANELS 4 /* before so many, a special query's k-best says little of how many it needs */

/* ---- candidates of one query ---------------------------------------------------------------- */

/* Evaluates the candidates exactly, as far as the budget goes, into the k-best. */
static void resolve(level_scratch *s, block *b, int q)
{
    const query_task *task = s->task;
    candidates *kept = &level_block_of(b)->kept[q];
    kbest *best = &level_block_of(b)->best[q];
    int *id = kept->id, all = kept->count, found = 0;
    double left = task->budget - level_block_of(b)->spent[q];
    all = all < left ? all : (int)left;
    kept->count = 0;
    s->counters.correlations += all;
    s->counters.scattered += all;
    level_block_of(b)->spent[q] += all;
    metric_distances(task->kern, task->from, b->row[q], task->points, id, all, s->dist);
    for (int i = 0; i < all; i++) {
        s->dist[found] = s->dist[i];
        id[found] = id[i];
        found += kbest_admits(best, s->dist[i], id[i]);
    }
    int count = best->size + found;
    if (!found)
        return;
    if (count > ORDER_MOST) {
        kbest_unsort(best);
        for (int i = 0; i < found; i++)
            kbest_push(best, s->dist[i], id[i]);
        return;
    }
    double all_dist[ORDER_MOST], dist[ORDER_MOST];
    int all_id[ORDER_MOST], ids[ORDER_MOST];
    memcpy(all_dist, best->dist, best->size * sizeof(double));
    memcpy(all_id, best->id, best->size * sizeof(int));
    memcpy(all_dist + best->size, s->dist, found * sizeof(double));
    memcpy(all_id + best->size, id, found * sizeof(int));
    simd->order_pairs(count, all_dist, all_id, dist, ids);
    best->size = count < best->k ? count : best->k;
    best->sorted = 1;
    memcpy(best->dist, dist, best->size * sizeof(double));
    memcpy(best->id, ids, best->size * sizeof(int));
}

/* The k-th largest lower bound known, from below. */
static void raise_threshold(level_scratch *s, block *b, int q)
{
    candidates *kept = &level_block_of(b)->kept[q];
    const kbest *best = &level_block_of(b)->best[q];
    int k = s->task->k, known = kept->count + best->size;
    if (known < k)
        return;
    float *lows = kept->low;
    if (best->size) {
        memcpy(s->lows, kept->low, kept->count * sizeof(float));
        for (int i = 0; i < best->size; i++) {
            double d = best->dist[i];
            s->lows[kept->count + i] = fmaxf((float)(1.0 - d * d) - 1e-6f, 0.0f);
        }
        lows = s->lows;
    }
    for (int i = known; i < known + SIMD_WIDTH; i++)
        lows[i] = -1.0f;
    b->tau[q] = simd->reached_by(lows, known, k, b->tau[q] > 0.0f ? b->tau[q] : 0.0f);
}

static void drop_hopeless(block *b, int q)
{
    candidates *kept = &level_block_of(b)->kept[q];
    kept->count = simd->drop_intervals(kept->count, b->tau[q], kept->id, kept->low, kept->high);
}

static void settle(level_scratch *s, block *b, int q)
{
    raise_threshold(s, b, q);
    drop_hopeless(b, q);
    level_block_of(b)->settled[q] = level_block_of(b)->kept[q].count;
}

/* Leaves a query of a block to brute force; 0 without memory, and the search will end in that error. */
static int defer(level_scratch *s, block *b, int q)
{
    if (s->deferrals == s->deferral_room) {
        int room = 2 * s->deferral_room + 64;
        int *more = scratch_resize(s->deferred, room, sizeof(int));
        if (!more) {
            s->out_of_memory = 1;
            return 0;
        }
        s->deferred = more;
        s->deferral_room = room;
    }
    s->deferred[s->deferrals++] = (int)level_block_of(b)->query[q];
    return 1;
}

/* Evaluates all candidates to make room, and raises the threshold; but a query that intervals do not serve is given up,
 * where that costs too much. */
static void make_room(level_scratch *s, block *b, int q)
{
    candidates *kept = &level_block_of(b)->kept[q];
    int share = s->task->index->form->give_up;
    if ((int64_t)share * (level_block_of(b)->spent[q] + kept->count) > b->limit[q] && defer(s, b, q)) {
        bitset_remove(&b->active, q);
        b->tau[q] = INFINITY;
        kept->count = level_block_of(b)->settled[q] = level_block_of(b)->best[q].size = 0;
        return;
    }
    resolve(s, b, q);
    settle(s, b, q);
}

/* Makes room: by raising the threshold, then by evaluating everything. */
static void compact(level_scratch *s, block *b, int q)
{
    if (b->tau[q] == INFINITY) { /* given up before */
        level_block_of(b)->kept[q].count = 0;
        return;
    }
    settle(s, b, q);
    if (level_block_of(b)->kept[q].count > level_block_of(b)->capacity / 2)
        make_room(s, b, q);
}

/* After something was kept: raises the threshold from time to time, and makes room where it must. */
static void keep_in_bounds(level_scratch *s, block *b, int q)
{
    int count = level_block_of(b)->kept[q].count, k = s->task->k;
    int fresh = count - level_block_of(b)->settled[q];
    int first = b->tau[q] < 0.0f && count / 2 >= k, /* as early as possible */
        more = fresh >= (int64_t)s->task->index->form->settle * k;
    if (count >= level_block_of(b)->capacity)
        compact(s, b, q);
    else if (first || more)
        settle(s, b, q);
}

static void keep(form_sink *self, int q, const int *ids, uint32_t mask, const simd_interval_row *row)
{
    const level_sink *to = (level_sink *)self;
    block *b = to->into;
    candidates *kept = &level_block_of(b)->kept[q];
    int at = kept->count, itself = to->scratch->task->self ? b->row[q] : -1;
    kept->count +=
        simd->append_intervals(mask, ids, b->limit[q], itself, row, kept->id + at, kept->low + at, kept->high + at);
    keep_in_bounds(to->scratch, b, q);
}

static void keep_one(form_sink *self, int q, int id, float low, float high)
{
    const level_sink *to = (level_sink *)self;
    candidates *kept = &level_block_of(to->into)->kept[q];
    kept->id[kept->count] = id;
    kept->low[kept->count] = low > 0.0f ? low : 0.0f;
    kept->high[kept->count++] = high;
    keep_in_bounds(to->scratch, to->into, q);
}

level_sink level_sink_of(level_scratch *s, block *into)
{
    return (level_sink){{keep, keep_one, &s->counters}, s, into};
}

void level_raise_thresholds(level_scratch *s, int count, const int *members)
{
    block *b = s->block;
    for (int i = 0; i < count; i++) {
        int q = members[i];
        if (level_block_of(b)->kept[q].count != level_block_of(b)->settled[q])
            settle(s, b, q);
    }
}

/* Fetches what is small and stands anywhere of a query's candidates; rows of features are fetched one after the
 * other. */
static void fetch_ahead(const metric_points *points, const candidates *kept)
{
    for (int i = 0; i < kept->count; i++) {
        __builtin_prefetch(points->x + (size_t)kept->id[i] * points->d);
        __builtin_prefetch(points->variance + kept->id[i]);
    }
}

/* All that is still in play. Query by query, since those that follow each other want much the same candidates. */
void level_finish(level_scratch *s, const int *members, int count)
{
    block *b = s->block;
    for (int i = 0; i < count; i++) {
        int q = members[i];
        if (i + 1 < count)
            fetch_ahead(s->task->points, &level_block_of(b)->kept[members[i + 1]]);
        settle(s, b, q);
        resolve(s, b, q);
    }
}

/* ---- special queries ------------------------------------------------------------------------ */

/* Raises the threshold by the k-best alone. */
static void set_threshold(block *b, int q)
{
    const kbest *best = &level_block_of(b)->best[q];
    if (kbest_full(best))
        b->tau[q] = (float)(1.0 - pow(best->dist[kbest_worst(best)], 2.0)) - 1e-6f;
}

void level_take(level_scratch *s, int q, int id)
{
    block *b = s->block;
    candidates *kept = &level_block_of(b)->kept[q];
    kept->id[kept->count] = id;
    kept->count += id >= 0 && id < b->limit[q] && !(s->task->self && id == b->row[q]);
}

void level_resolve(level_scratch *s, int q)
{
    resolve(s, s->block, q);
    set_threshold(s->block, q);
}

static void resolve_panel(level_scratch *s, int q, int panel)
{
    for (int j = 0; j < SCREEN_COLS; j++)
        level_take(s, q, s->task->index->points->order.ids[(size_t)panel * SCREEN_COLS + j]);
    level_resolve(s, q);
}

/* Leaves a query to brute force if it would take too many panels below `high`: tiles are some times
 * faster for each pair. Returns whether it has. */
static int defer_special(level_scratch *s, int q, float needed, float high)
{
    block *b = s->block;
    int panels = s->task->index->points->order.panels, left = 0;
    for (int p = 0; p < panels; p++)
        left += s->special_upper[p] >= needed && s->special_upper[p] < high;
    if (DENSE_PAYS * left < panels)
        return 0;
    return defer(s, b, q);
}

/* Bounds of all panels for a special query on an input, up to its own factor `size` and `slack`; returns the largest.
 * They are attained where special_reach is there. Where no point is special it is not, and the largest weight times the
 * largest gain of a panel bounds their products. */
static float bound_panels(level_scratch *s, int input, double size, double slack)
{
    const point_set *points = s->task->index->points;
    const bounds *b = &points->bound;
    const cells *order = &points->order;
    const float *reach = b->special_reach ? b->special_reach + (size_t)input * order->panels : NULL;
    float most = 0.0f, *upper = s->special_upper;
    for (int c = 0; c < order->count; c++)
        for (int p = order->panel[c], j = 0; p < order->panel[c + 1]; p++, j++) {
            double value =
                reach ? reach[p]
                      : b->panels.weight[(size_t)p * b->m + input] * b->by_panel.gain[(size_t)c * SIMD_WIDTH + j];
            upper[p] = (float)(value * size + slack);
            most = upper[p] > most ? upper[p] : most;
        }
    return most;
}

/* A query on an inducing input: panels by their bound, in bands of falling height. */
void level_search_special(level_scratch *s, int q)
{
    block *b = s->block;
    const point_set *points = s->task->index->points;
    const bounds *from = &s->task->index->on.from->bound;
    int input = from->special.inputs[from->special.rank[b->row[q]]], panels = points->order.panels, taken = 0;
    double up = 1.0 + 1e-6, slack = b->roundoff[q] * points->bound.most_roundoff * up,
           size = bounds_special_size(&points->bound) * b->gain[q] * up;
    const float *upper = s->special_upper;
    float most = bound_panels(s, input, size, slack);
    b->tau[q] = -1.0f;
    for (float high = INFINITY, low = 0.5f * most;; high = low, low *= 0.5f) {
        float needed = b->tau[q];
        if (high < needed)
            break;
        if (!(low >= 1e-6f * most && low > 0.0f && low < INFINITY)) /* bounds that say nothing: all that is left */
            low = -1.0f;
        if (needed > 0.0f && defer_special(s, q, taken < FIRST_PANELS ? fmaxf(low, needed) : needed, high))
            break;
        float least = low > needed ? low : needed;
        for (int p = 0; p < panels; p++)
            if (upper[p] >= least && upper[p] < high && points->order.least[p] < b->limit[q]) {
                taken++;
                resolve_panel(s, q, p);
            }
        if (low < 0.0f)
            break;
    }
    b->tau[q] = INFINITY;
}

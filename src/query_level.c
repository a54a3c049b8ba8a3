#include "query_level.h"

#include "scratch.h"
#include "threads.h"

#include <string.h>

#define POLL_SECONDS 0.1
#define FIRST_CHUNK 8
#define NEARLY 50.0f /* an expansion bound so far from skipping is not refined */

static void scratch_release(level_scratch *s)
{
    void *held[] = {s->lists,
                    s->heap_dist,
                    s->heap_id,
                    s->work,
                    s->special_upper,
                    s->lows,
                    s->rho,
                    s->own,
                    s->spans[0].weights,
                    s->spans[1].weights,
                    s->products,
                    s->psi,
                    s->P,
                    s->inverse,
                    s->rows,
                    s->lengths,
                    s->value,
                    s->room,
                    s->relative,
                    s->intervals,
                    s->table,
                    s->arrivals,
                    s->point_x,
                    s->point_v,
                    s->tile,
                    s->found_dist,
                    s->found_id};
    for (size_t i = 0; i < sizeof(held) / sizeof(*held); i++)
        scratch_free(held[i]);
}

static int reserve_subspaces(level_scratch *s)
{
    size_t room = BITSET_SIZE * LEVEL_WIDTH;
    s->own = scratch_alloc(room, sizeof(float));
    s->spans[0].weights = scratch_alloc(room, sizeof(float));
    s->spans[1].weights = scratch_alloc(room, sizeof(float));
    s->products = scratch_alloc(room, sizeof(float));
    s->psi = scratch_alloc(room, sizeof(float));
    s->P = scratch_alloc(SUBSPACE_RANK * LEVEL_WIDTH, sizeof(float));
    s->inverse = scratch_alloc(SUBSPACE_RANK * LEVEL_WIDTH, sizeof(float));
    s->rows = scratch_alloc(BITSET_SIZE, sizeof(float *));
    s->lengths = scratch_alloc(LEVEL_CHUNK * BITSET_SIZE, sizeof(float));
    return s->lengths && s->own && s->spans[0].weights && s->spans[1].weights && s->products &&
           s->psi && s->P && s->inverse && s->rows;
}

static int reserve_integers(level_scratch *s, size_t d)
{
    s->room = scratch_alloc((size_t)BITSET_SIZE * s->task->index->points.integers.steps + 1, 4);
    s->relative = scratch_alloc(BITSET_SIZE * d, sizeof(float));
    s->intervals = scratch_alloc(1, sizeof(simd_intervals));
    return s->room && s->relative && s->intervals;
}

static int scratch_reserve(const query_task *task, level_scratch *s)
{
    const index_search *index = task->index;
    size_t d = task->points->d, m = task->points->m, k = task->k;
    int ok = 1;
    memset(s, 0, sizeof(*s));
    s->task = task;
    s->capacity = index->form == INDEX_INTEGERS ? 1024 : 512; /* wide intervals keep more in play */
    s->capacity = 4 * (int)k > s->capacity ? 4 * (int)k : s->capacity;
    size_t room = s->capacity + 2 * SCREEN_COLS,
           most = (room > LEVEL_FINISH_PAIRS ? room : LEVEL_FINISH_PAIRS) + SIMD_MAX_COLS;
    s->lists = scratch_alloc(3 * BITSET_SIZE * room, sizeof(float)); /* ids are as long */
    for (size_t q = 0; q < BITSET_SIZE && s->lists; q++)
        s->kept[q] = (candidates){.id = (int *)(s->lists + 3 * q * room),
                                  .low = s->lists + (3 * q + 1) * room,
                                  .high = s->lists + (3 * q + 2) * room};
    ok &= s->lists != NULL;
    s->heap_dist = scratch_alloc(BITSET_SIZE * k, sizeof(double));
    s->heap_id = scratch_alloc(BITSET_SIZE * k, sizeof(int));
    s->work = scratch_alloc((size_t)index->points.order.count + 1, sizeof(work_item));
    s->special_upper = scratch_alloc(index->points.order.panels, sizeof(float));
    s->lows = scratch_alloc(room + k + SIMD_WIDTH, sizeof(float));
    s->rho = scratch_alloc(room, sizeof(double));
    s->value = scratch_alloc(SCREEN_ROWS * SCREEN_COLS, sizeof(float));
    for (s->table_size = 1; s->table_size < 2 * most;)
        s->table_size *= 2;
    s->table = scratch_alloc(s->table_size, sizeof(int));
    s->arrivals = scratch_alloc(most, sizeof(arrival));
    s->point_x = scratch_alloc(SIMD_MAX_COLS * d, sizeof(double));
    s->point_v = scratch_alloc(SIMD_MAX_COLS * m + 1, sizeof(double));
    s->found_dist = scratch_alloc(most + BITSET_SIZE, sizeof(double));
    s->found_id = scratch_alloc(most + BITSET_SIZE, sizeof(int));
    s->tile = scratch_alloc((BITSET_SIZE + 8) * SIMD_MAX_COLS, sizeof(double));
    ok &= s->heap_dist && s->heap_id && s->work && s->special_upper && s->lows && s->rho &&
          s->value && s->table && s->arrivals && s->point_x && s->point_v && s->tile &&
          s->found_dist && s->found_id;
    if (s->table)
        memset(s->table, 0xff, s->table_size * sizeof(int));
    return ok && (index->form == INDEX_SUBSPACES ? reserve_subspaces(s) : reserve_integers(s, d));
}

/* ---- blocks --------------------------------------------------------------------------------- */

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
    float tau = s->tau[q] - s->noise[q] * (float)s->task->index->points.bound.most_noise;
    return tau > 0.0f ? s->gain[q] / tau * 1.00001f : INFINITY;
}

/* A bound of 0 and no threshold make no number, which must not skip: correlations of 0 compete by index. */
static int reaches(float upper, float hard) { return !(upper * hard < 1.0f); }

static float between_boxes(int d, const double *low, const double *high, const double *from_low,
                           const double *from_high)
{
    double s2 = 0.0;
    for (int u = 0; u < d; u++) { /* of the middles: boxes of one cell's neighbours all touch it */
        double gap = 0.5 * (low[u] + high[u] - from_low[u] - from_high[u]);
        s2 += gap * gap;
    }
    return (float)s2;
}

/* The queries of the block that the expansion bound does not finish with a cell: by the panels that
 * they stand in, for the whole cell and then for its panels. */
static bitset bound_cell(level_scratch *s, int cell, const int *members, int count)
{
    const index_search *index = s->task->index;
    const bounds *b = &index->points.bound, *from = &index->from->bound;
    const int *panel = index->points.order.panel;
    bitset active = {{0}};
    for (int i = 0, next; i < count; i = next) {
        int own = s->column[members[i]] / SCREEN_COLS;
        float upper = bounds_expansion(b, &from->panels, own, &b->cells, cell, cell + 1);
        float hardest = hardness(s, members[i]);
        for (next = i + 1; next < count && s->column[members[next]] / SCREEN_COLS == own; next++) {
            float hard = hardness(s, members[next]);
            hardest = hard > hardest ? hard : hardest;
        }
        if (reaches(upper, hardest) && upper * hardest < NEARLY)
            upper =
                bounds_expansion(b, &from->panels, own, &b->panels, panel[cell], panel[cell + 1]);
        for (int j = i; j < next && reaches(upper, hardest); j++)
            if (reaches(upper, hardness(s, members[j])))
                bitset_add(&active, members[j]);
    }
    s->counters.bounds += count;
    return active;
}

/* The frontier: cells that the expansion bound of the whole block leaves, nearest first. */
static int list_work(level_scratch *s, int seed, const int *members, int count)
{
    const index_search *index = s->task->index;
    const bounds *b = &index->points.bound, *from = &index->from->bound;
    int d = b->d, listed = 0, group = 1;
    const double *low = from->cells.low + (size_t)s->cell * d,
                 *high = from->cells.high + (size_t)s->cell * d;
    float hardest = 0.0f;
    for (int i = 0; i < count; i++) {
        float hard = hardness(s, members[i]);
        hardest = hard > hardest ? hard : hardest;
    }
    for (int c = 0; c < index->points.order.count; c++) {
        float upper = INFINITY;
        if (b->expands) {
            if (c % BOUNDS_GROUP == 0) {
                int at = c / BOUNDS_GROUP;
                group = reaches(bounds_expansion(b, &from->cells, s->cell, &b->groups, at, at + 1),
                                hardest);
                s->counters.nodes++;
            }
            if (!group || c == seed)
                continue;
            s->counters.nodes++;
            upper = bounds_expansion(b, &from->cells, s->cell, &b->cells, c, c + 1) * hardest;
            if (upper < 1.0f)
                continue;
        } else if (c == seed) {
            continue;
        }
        float away = between_boxes(d, b->cells.low + (size_t)c * d, b->cells.high + (size_t)c * d,
                                   low, high);
        s->work[listed++] = (work_item){.key = away, .upper = upper, .cell = c};
    }
    qsort(s->work, listed, sizeof(work_item), nearer);
    return listed;
}

static int nearest_cell(const level_scratch *s)
{
    const index_search *index = s->task->index;
    const bounds *b = &index->points.bound, *from = &index->from->bound;
    int d = b->d, nearest = 0;
    float least = INFINITY;
    if (index->from == &index->points)
        return s->cell;
    for (int c = 0; c < index->points.order.count; c++) {
        float away = between_boxes(d, b->cells.low + (size_t)c * d, b->cells.high + (size_t)c * d,
                                   from->cells.low + (size_t)s->cell * d,
                                   from->cells.high + (size_t)s->cell * d);
        if (away < least) {
            least = away;
            nearest = c;
        }
    }
    return nearest;
}

/* The k-best of a query that is 1 from all: the first k candidates. */
static void take_first(level_scratch *s, int q)
{
    for (int j = 0; j < s->limit[q] && s->best[q].size < s->task->k; j++)
        if (!s->task->self || j != s->row[q])
            kbest_push(&s->best[q], 1.0, j);
}

/* Sets up the queries of a block; returns those that are to be searched together. */
static bitset set_block(level_scratch *s, const int *queries, int count)
{
    const query_task *task = s->task;
    const index_set *from = task->index->from;
    bitset all = {{0}};
    s->count = count;
    s->most_limit = 0;
    for (int q = 0; q < count; q++) {
        s->query[q] = queries[q];
        s->row[q] = query_row(task, queries[q]);
        s->limit[q] = query_limit(task, queries[q]);
        s->most_limit = s->limit[q] > s->most_limit ? s->limit[q] : s->most_limit;
        s->column[q] = from->order.column[from->order.position[s->row[q]]];
        s->gain[q] = (float)(task->from->scale[s->row[q]] * (1.0 + 1e-6));
        s->noise[q] = (float)(from->bound.noise[s->row[q]] * (1.0 + 1e-6));
        s->tau[q] = -1.0f;
        s->kept[q].count = s->settled[q] = 0;
        s->best[q] = (kbest){task->k, 0, s->heap_dist + (size_t)q * task->k,
                             s->heap_id + (size_t)q * task->k};
        if (task->from->scale[s->row[q]] == 0.0)
            take_first(s, q);
        else if (s->limit[q] > 0 && from->bound.special.rank[s->row[q]] < 0)
            bitset_add(&all, q);
    }
    return all;
}

static void search_together(level_scratch *s, const bitset *all)
{
    const index_search *index = s->task->index;
    int members[BITSET_SIZE], count = bitset_members(all, members), seed = nearest_cell(s);
    level_set_queries(s);
    level_screen_seed(s, seed, all);
    level_raise_thresholds(s, count, members);
    int listed = list_work(s, seed, members, count);
    for (int w = 0, chunk = FIRST_CHUNK; w < listed; w += chunk, chunk = LEVEL_CHUNK) {
        chunk = listed - w < chunk ? listed - w : chunk;
        for (int i = w; i < w + chunk; i++)
            s->work[i].active = index->points.bound.expands && s->work[i].upper < NEARLY
                                    ? bound_cell(s, s->work[i].cell, members, count)
                                    : *all;
        level_screen_chunk(s, s->work + w, chunk, all);
    }
    level_finish(s, members, count);
}

static void search_block(level_scratch *s, int cell, const int *queries, int count,
                         query_result *result)
{
    const query_task *task = s->task;
    s->cell = cell;
    bitset all = set_block(s, queries, count);
    if (bitset_any(&all))
        search_together(s, &all);
    for (int q = 0; q < count; q++)
        if (task->index->from->bound.special.rank[s->row[q]] >= 0 && s->gain[q] > 0.0f &&
            s->limit[q] > 0) {
            level_search_special(s, q);
        }
    for (int q = 0; q < count; q++) {
        kbest_sort(&s->best[q]);
        query_write(task, s->query[q], &s->best[q], result);
    }
}

/* The queries in the order of the cells, and where each block starts: at a cell, or after BITSET_SIZE
 * of them. */
typedef struct {
    int *sequence, *block, *cell, blocks;
} schedule;

static void schedule_free(schedule *plan)
{
    scratch_free(plan->sequence);
    scratch_free(plan->block);
    scratch_free(plan->cell);
}

static int schedule_new(const query_task *task, schedule *plan)
{
    const cells *order = &task->index->from->order;
    size_t n = order->n, most = order->count + task->count / BITSET_SIZE + 2;
    memset(plan, 0, sizeof(*plan));
    plan->sequence = scratch_alloc(task->count + 1, sizeof(int));
    plan->block = scratch_alloc(most, sizeof(int));
    plan->cell = scratch_alloc(most, sizeof(int));
    int *at = scratch_alloc(n + 2, sizeof(int));
    if (!plan->sequence || !plan->block || !plan->cell || !at) {
        scratch_free(at);
        return 0;
    }
    memset(at, 0, (n + 2) * sizeof(int));
    for (size_t q = 0; q < task->count; q++)
        at[order->position[query_row(task, q)] + 1]++;
    for (size_t i = 0; i < n; i++)
        at[i + 1] += at[i];
    for (int c = 0; c < order->count; c++)
        for (int first = at[order->first[c]]; first < at[order->first[c + 1]];
             first += BITSET_SIZE) {
            plan->block[plan->blocks] = first;
            plan->cell[plan->blocks++] = c;
        }
    plan->block[plan->blocks] = (int)task->count;
    for (size_t q = 0; q < task->count; q++)
        plan->sequence[at[order->position[query_row(task, q)]]++] = (int)q;
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
    int *rows = scratch_alloc(count, sizeof(int)), *slot = scratch_alloc(count, sizeof(int));
    status outcome = status_fail(STATUS_MEMORY);
    if (rows && slot) {
        query_task dense = *task;
        dense.rows = rows;
        dense.slot = slot;
        dense.count = count;
        count = 0;
        for (int t = 0; t < task->threads; t++)
            for (int i = 0; i < scratch[t].deferrals; i++) {
                int q = scratch[t].deferred[i];
                rows[count] = query_row(task, q);
                slot[count++] = task->slot ? task->slot[q] : q;
            }
        outcome = query_brute(&dense, result);
    }
    scratch_free(rows);
    scratch_free(slot);
    return outcome;
}

status query_level(const query_task *task, query_result *result)
{
    int threads = task->threads;
    status outcome = status_ok();
    schedule plan;
    level_scratch *scratch = calloc(threads, sizeof(*scratch));
    if (!schedule_new(task, &plan) || !scratch)
        outcome = status_fail(STATUS_MEMORY);
    for (int t = 0; t < threads && !outcome.code; t++)
        if (!scratch_reserve(task, &scratch[t]))
            outcome = status_fail(STATUS_MEMORY);
    for (int next = 0; next < plan.blocks && !outcome.code;) {
        double start = threads_seconds();
#pragma omp parallel num_threads(threads)
        while (threads_seconds() - start < POLL_SECONDS) {
            int b = __atomic_fetch_add(&next, 1, __ATOMIC_RELAXED);
            if (b >= plan.blocks)
                break;
            search_block(&scratch[threads_id()], plan.cell[b], plan.sequence + plan.block[b],
                         plan.block[b + 1] - plan.block[b], result);
        }
        double done = next < plan.blocks ? (double)next / (double)plan.blocks : 1.0;
        if (monitor_poll(task->mon, done))
            outcome = status_fail(STATUS_INTERRUPTED);
    }
    if (!outcome.code)
        outcome = search_deferred(task, scratch, result);
    for (int t = 0; t < threads && scratch; t++) {
        query_counters_add(&result->counters, &scratch[t].counters);
        free(scratch[t].deferred);
        scratch_release(&scratch[t]);
    }
    schedule_free(&plan);
    free(scratch);
    return outcome;
}

/* Level-synchronous search: blocks of close queries against cells of close points.
 *
 * SCREEN_BLOCK queries that stand together in the tree's order descend together. A node of the
 * frontier carries one 64-bit mask: the queries that it may still serve.
 *   1 seed     the nearest cells are screened, until every query has a threshold: the k-th largest
 *              lower bound of |rho| seen so far, which only candidates that may exceed it can enter
 *   2 bound    groups of cells, then the cells of the groups that survive, are skipped for the
 *              queries whose threshold their bound does not reach
 *   3 screen   what is left is screened in tiles of integer dot products, nearest first, and
 *              candidates whose interval reaches the threshold are kept
 *   4 finish   these are evaluated by the metric, in double, and ordered
 * Scratch belongs to a thread and does not depend on n, but for a list of the cells. */
#include "query.h"
#include "bitset.h"
#include "scratch.h"
#include "simd.h"
#include "threads.h"

#include <string.h>

#define POLL_SECONDS 0.1

/* Candidates of one query that are still in play: position-free, by index. */
typedef struct {
    int count, *id;
    float *low, *high; /* interval of |rho| */
} candidates;

typedef struct {
    float key; /* distance from the block, for the order of work */
    int cell;
    uint64_t active;
} work_item;

/* A candidate of the block, and the queries that want it. */
typedef struct {
    int position, id;
    uint64_t wanted;
} arrival;

typedef struct {
    const query_task *task;
    const int *sequence; /* the queries, in the order of the tree */
    int capacity; /* of a list of candidates */
    /* the block */
    int first, count;
    int row[SCREEN_BLOCK], limit[SCREEN_BLOCK], position[SCREEN_BLOCK];
    int special[SCREEN_BLOCK]; /* stands on an inducing input */
    size_t query[SCREEN_BLOCK];
    float tau[SCREEN_BLOCK]; /* threshold on |rho| */
    candidates kept[SCREEN_BLOCK];
    kbest best[SCREEN_BLOCK]; /* evaluated exactly */
    bounds_block bound;
    /* scratch */
    work_item *work;
    float *away;    /* by cell: squared distance from the middle of the block */
    double *middle; /* d */
    float *lows; /* of one query, for its threshold */
    double *rho;
    simd_intervals *intervals;
    simd_lanes *lanes;
    radial rad;
    /* the queries as rows of tiles */
    int local;
    char *room; /* integers of the block, where the screen does not hold them as rows */
    const void *features[SCREEN_BLOCK];
    float gain[SCREEN_BLOCK], step[SCREEN_BLOCK], norm[SCREEN_BLOCK], error[SCREEN_BLOCK],
        tail[SCREEN_BLOCK], prefix_tail[SCREEN_BLOCK];
    int prefix_tried, prefix_passed; /* tiles of the cell that the prefix was tried on, and kept */
    /* the active queries of a cell, by slot */
    int member[SCREEN_BLOCK];
    float *relative;  /* SCREEN_BLOCK x d, from the centre of the cell */
    float *projected; /* SCREEN_BLOCK x SCREEN_COLS, local coordinates */
    double *heap_dist;
    int *heap_id;
    /* finishing: distinct candidates, the queries that want each, and panels of both */
    size_t table_size; /* a power of two */
    int *table, *distinct, distincts;
    uint64_t *wanted;
    arrival *arrivals;
    double *query_x, *query_v, *point_x, *point_v;
    query_counters counters;
} level_scratch;

static void scratch_release(level_scratch *s)
{
    if (s->task && s->task->index->bounded)
        bounds_block_free(&s->bound);
    for (int q = 0; q < SCREEN_BLOCK; q++) {
        scratch_free(s->kept[q].id);
        scratch_free(s->kept[q].low);
        scratch_free(s->kept[q].high);
    }
    void *held[] = {s->work, s->lows,     s->rho,       s->intervals, s->lanes,
                    s->room, s->relative, s->projected, s->heap_dist, s->heap_id,
                    s->away, s->middle, s->table, s->distinct, s->wanted, s->arrivals, s->query_x, s->query_v,
                    s->point_x, s->point_v};
    for (size_t i = 0; i < sizeof(held) / sizeof(*held); i++)
        scratch_free(held[i]);
}

static int scratch_reserve(const query_task *task, const int *sequence, level_scratch *s)
{
    const index_search *index = task->index;
    int ok = 1, k = task->k;
    memset(s, 0, sizeof(*s));
    s->task = task;
    s->sequence = sequence;
    s->capacity = 4 * k > 512 ? 4 * k : 512;
    for (int q = 0; q < SCREEN_BLOCK; q++) {
        candidates *kept = &s->kept[q];
        kept->id = scratch_alloc(s->capacity + SCREEN_COLS, sizeof(int));
        kept->low = scratch_alloc(s->capacity + SCREEN_COLS, sizeof(float));
        kept->high = scratch_alloc(s->capacity + SCREEN_COLS, sizeof(float));
        ok &= kept->id && kept->low && kept->high;
    }
    s->work = scratch_alloc(index->points.cells, sizeof(work_item));
    s->away = scratch_alloc(index->points.cells, sizeof(float));
    s->middle = scratch_alloc(task->points->d, sizeof(double));
    s->lows = scratch_alloc(s->capacity + SCREEN_COLS + k, sizeof(float));
    s->rho = scratch_alloc(s->capacity + SCREEN_COLS, sizeof(double));
    s->intervals = scratch_alloc(1, sizeof(simd_intervals));
    s->lanes = scratch_alloc(1, sizeof(simd_lanes));
    s->room = scratch_alloc((size_t)SCREEN_BLOCK * index->points.steps + 1, 4);
    s->relative = scratch_alloc((size_t)SCREEN_BLOCK * task->points->d, sizeof(float));
    s->projected = scratch_alloc((size_t)SCREEN_BLOCK * SCREEN_COLS, sizeof(float));
    s->rad = kernel_radial(task->kern);
    s->local = index->points.form == SCREEN_LOCAL;
    s->heap_dist = scratch_alloc((size_t)SCREEN_BLOCK * k, sizeof(double));
    s->heap_id = scratch_alloc((size_t)SCREEN_BLOCK * k, sizeof(int));
    ok &= s->work && s->away && s->middle && s->lows && s->rho && s->intervals && s->lanes && s->room && s->relative &&
          s->projected && s->heap_dist && s->heap_id;
    size_t most = (size_t)SCREEN_BLOCK * s->capacity, m = task->points->m, d = task->points->d;
    s->table = scratch_alloc(4 * most, sizeof(int));
    s->distinct = scratch_alloc(most, sizeof(int));
    s->wanted = scratch_alloc(most, sizeof(uint64_t));
    s->arrivals = scratch_alloc(most, sizeof(arrival));
    s->query_x = scratch_alloc((SCREEN_BLOCK + SIMD_MAX_ROWS) * d, sizeof(double));
    s->query_v = scratch_alloc((SCREEN_BLOCK + SIMD_MAX_ROWS) * m + 1, sizeof(double));
    s->point_x = scratch_alloc(SIMD_MAX_COLS * d, sizeof(double));
    s->point_v = scratch_alloc(SIMD_MAX_COLS * m + 1, sizeof(double));
    ok &= s->table && s->distinct && s->wanted && s->arrivals && s->query_x && s->query_v && s->point_x && s->point_v;
    if (s->lanes)
        memset(s->lanes, 0, sizeof(*s->lanes));
    if (index->bounded)
        ok &= bounds_block_new(&index->bound, &s->bound);
    return ok;
}

/* ---- candidates of one query ---------------------------------------------------------------- */

/* Evaluates candidates first .. count - 1 exactly, into the heap. */
static void resolve(level_scratch *s, int q, int first)
{
    const query_task *task = s->task;
    candidates *kept = &s->kept[q];
    int count = kept->count - first;
    metric_list(task->kern, task->from, s->row[q], task->points, kept->id + first, count, s->rho);
    for (int i = 0; i < count; i++)
        kbest_push(&s->best[q], metric_distance(s->rho[i]), kept->id[first + i]);
    s->counters.correlations += count;
    kept->count = first;
}

/* The k-th largest lower bound known, from below: bisection on counts. */
static void raise_threshold(level_scratch *s, int q)
{
    candidates *kept = &s->kept[q];
    const kbest *best = &s->best[q];
    int k = s->task->k, known = kept->count + best->size;
    if (known < k)
        return;
    const float *lows = kept->low;
    if (best->size) {
        memcpy(s->lows, kept->low, kept->count * sizeof(float));
        for (int i = 0; i < best->size; i++) {
            double d = best->dist[i];
            s->lows[kept->count + i] = fmaxf((float)(1.0 - d * d) - 1e-6f, 0.0f);
        }
        lows = s->lows;
    }
    float low = s->tau[q] > 0.0f ? s->tau[q] : 0.0f, high = 1.0f;
    for (int step = 0; step < 10; step++) {
        float middle = 0.5f * (low + high);
        if (simd->count_reaching(lows, known, middle) >= (size_t)k)
            low = middle;
        else
            high = middle;
    }
    s->tau[q] = low;
}

static void drop_hopeless(level_scratch *s, int q)
{
    candidates *kept = &s->kept[q];
    int live = 0;
    for (int i = 0; i < kept->count; i++) {
        kept->id[live] = kept->id[i];
        kept->low[live] = kept->low[i];
        kept->high[live] = kept->high[i];
        live += kept->high[i] >= s->tau[q];
    }
    kept->count = live;
}

/* Where much is still in play, evaluates those that make the threshold first: the exact threshold then
 * spares about half of the others. */
static void sharpen(level_scratch *s, int q)
{
    candidates *kept = &s->kept[q];
    if (kept->count <= 2 * s->task->k)
        return;
    int below = 0;
    for (int i = 0; i < kept->count; i++)
        if (kept->low[i] < s->tau[q]) {
            int id = kept->id[i];
            float low = kept->low[i], high = kept->high[i];
            kept->id[i] = kept->id[below];
            kept->low[i] = kept->low[below];
            kept->high[i] = kept->high[below];
            kept->id[below] = id;
            kept->low[below] = low;
            kept->high[below++] = high;
        }
    resolve(s, q, below);
    raise_threshold(s, q);
    drop_hopeless(s, q);
}

/* Makes room: by raising the threshold, then by making it exact, then by evaluating everything. */
static void compact(level_scratch *s, int q)
{
    raise_threshold(s, q);
    drop_hopeless(s, q);
    if (2 * s->kept[q].count > s->capacity)
        sharpen(s, q);
    if (2 * s->kept[q].count > s->capacity) {
        resolve(s, q, 0);
        raise_threshold(s, q);
    }
}

/* ---- cells ---------------------------------------------------------------------------------- */

static void keep(level_scratch *s, int q, const int *ids, uint32_t mask, const float *value,
                 float slope, float base, const simd_columns *columns)
{
    candidates *kept = &s->kept[q];
    const screen *points = &s->task->index->points;
    int self = s->task->self ? s->row[q] : -1, special = s->special[q], limit = s->limit[q], count = kept->count;
    for (; mask; mask &= mask - 1) {
        int j = __builtin_ctz(mask), id = ids[j];
        float size = fabsf(value[j]), error = slope * columns->norm[j] + base;
        error += s->norm[q] * columns->error[j] + s->tail[q] * columns->tail[j];
        kept->id[count] = id;
        kept->low[count] = size > error ? size - error : 0.0f;
        kept->high[count] = size + error;
        count += id >= 0 && id < limit && id != self && !(special && points->special[id] >= 0);
    }
    kept->count = count;
    if (s->tau[q] < 0.0f && count >= 2 * s->task->k) { /* the first threshold, as early as possible */
        raise_threshold(s, q);
        drop_hopeless(s, q);
    } else if (count >= s->capacity) {
        compact(s, q);
    }
}

/* Fills the rows of a tile with slots first .. of the cell's active queries; idle rows repeat the
 * first and reach nothing. */
static void fill_rows(level_scratch *s, const int *slots, int count, simd_rows *rows)
{
    for (int a = 0; a < SCREEN_ROWS; a++) {
        int slot = slots[a < count ? a : 0], q = s->member[slot];
        rows->features[a] = s->local ? (const void *)(s->projected + slot * SCREEN_COLS)
                                     : s->features[q];
        rows->x[a] = s->relative + (size_t)slot * s->task->points->d;
        rows->gain[a] = s->gain[q];
        rows->step[a] = s->step[q];
        rows->norm[a] = s->norm[q];
        rows->error[a] = s->error[q];
        rows->tail[a] = s->tail[q];
        rows->tau[a] = a < count ? s->tau[q] : INFINITY;
    }
}

/* Coordinates of the active queries in the local basis of a cell. */
static void project(level_scratch *s, int cell, int active)
{
    const screen *points = &s->task->index->points;
    simd_columns basis = screen_projection(points, cell);
    simd_rows rows;
    for (int slot = 0; slot < active; slot += SCREEN_ROWS) {
        for (int a = 0; a < SCREEN_ROWS; a++) {
            int q = s->member[slot + a < active ? slot + a : slot];
            rows.features[a] = s->features[q];
            rows.step[a] = s->step[q];
        }
        simd->dot_tile16(points->steps, &rows, &basis, s->projected + slot * SCREEN_COLS);
    }
}

static void fill_lanes(level_scratch *s, int rank, int active)
{
    simd_lanes *lanes = s->lanes;
    int d = s->task->points->d;
    for (int slot = 0; slot < active; slot++) {
        int q = s->member[slot];
        lanes->gain[slot] = s->gain[q];
        lanes->norm[slot] = s->norm[q];
        lanes->error[slot] = s->error[q];
        lanes->tail[slot] = s->tail[q];
        lanes->tau[slot] = s->tau[q];
        for (int u = 0; u < d; u++)
            lanes->x[u * SCREEN_BLOCK + slot] = s->relative[(size_t)slot * d + u];
        for (int b = 0; b < rank; b++)
            lanes->features[b * SCREEN_BLOCK + slot] = s->projected[slot * SCREEN_COLS + b];
    }
}

static void integer_tile(const screen *points, int steps, const simd_rows *rows,
                         const simd_columns *columns, float *value)
{
    if (points->form == SCREEN_BITS8)
        simd->dot_tile8(steps, rows, columns, value);
    else
        simd->dot_tile16(steps, rows, columns, value);
}

static void screen_panel(level_scratch *s, int cell, int panel, uint64_t slots)
{
    const screen *points = &s->task->index->points;
    const radial *rad = points->residual ? NULL : &s->rad;
    simd_columns columns = screen_columns(points, cell, panel);
    simd_intervals *found = s->intervals;
    const int *ids = points->ids + (size_t)panel * SCREEN_COLS;
    simd_rows rows;
    simd_columns prefix = points->prefix ? screen_prefix(points, cell, panel) : columns;
    while (slots) {
        int picked[SCREEN_ROWS], count = 0;
        for (; count < SCREEN_ROWS && slots; count++)
            picked[count] = bitset_pop(&slots);
        fill_rows(s, picked, count, &rows);
        s->counters.screened += (double)count * SCREEN_COLS;
        if (points->prefix && 2 * s->prefix_passed <= s->prefix_tried + 4) {
            for (int a = 0; a < SCREEN_ROWS; a++)
                rows.tail[a] = s->prefix_tail[s->member[picked[a < count ? a : 0]]];
            integer_tile(points, points->prefix, &rows, &prefix, found->value);
            simd->interval_tile(rad, points->d, &rows, &prefix, found);
            uint32_t any = 0;
            for (int a = 0; a < count; a++)
                any |= found->mask[a];
            s->prefix_tried++;
            s->prefix_passed += any != 0;
            if (!any)
                continue;
            for (int a = 0; a < SCREEN_ROWS; a++)
                rows.tail[a] = s->tail[s->member[picked[a < count ? a : 0]]];
        }
        if (points->form == SCREEN_LOCAL)
            simd->dot_tile32(points->rank[cell], &rows, &columns, found->value);
        else
            integer_tile(points, points->steps, &rows, &columns, found->value);
        simd->interval_tile(rad, points->d, &rows, &columns, found);
        for (int a = 0; a < count; a++)
            if (found->mask[a])
                keep(s, s->member[picked[a]], ids, found->mask[a], found->value + a * SCREEN_COLS,
                     found->slope[a], found->base[a], &columns);
    }
}

static void screen_cell(level_scratch *s, int cell, uint64_t active)
{
    const metric_points *from = s->task->from;
    const screen *points = &s->task->index->points;
    int d = points->d, slots = 0;
    const double *centre = points->centre + (size_t)cell * d;
    for (; active; slots++) {
        int q = s->member[slots] = bitset_pop(&active);
        for (int u = 0; u < d; u++)
            s->relative[(size_t)slots * d + u] =
                (float)(from->x[(size_t)s->row[q] * d + u] - centre[u]);
    }
    s->prefix_tried = s->prefix_passed = 0;
    uint64_t all = slots == 64 ? ~(uint64_t)0 : ((uint64_t)1 << slots) - 1;
    if (s->local) {
        project(s, cell, slots);
        fill_lanes(s, points->rank[cell], slots);
    }
    for (int panel = points->panel[cell]; panel < points->panel[cell + 1]; panel++) {
        uint64_t still = all;
        if (s->local) {
            simd_box box = screen_box(points, cell, panel);
            still = simd->box_filter(&s->rad, d, points->rank[cell], slots, s->lanes, &box);
            s->counters.bounds += slots;
            s->counters.pruned += slots - bitset_count(still);
        }
        screen_panel(s, cell, panel, still);
    }
}

/* ---- finishing a block ---------------------------------------------------------------------- */

/* The distinct candidates of a block, in order of arrival: an open table from index to rank. */
static int rank_candidate(level_scratch *s, int id)
{
    size_t at = ((uint32_t)id * 2654435761u) & (s->table_size - 1);
    while (s->table[at] >= 0 && s->distinct[s->table[at]] != id)
        at = (at + 1) & (s->table_size - 1);
    if (s->table[at] < 0) {
        s->table[at] = s->distincts;
        s->wanted[s->distincts] = 0;
        s->distinct[s->distincts++] = id;
    }
    return s->table[at];
}

static int earlier(const void *a, const void *b)
{
    int x = ((const arrival *)a)->position, y = ((const arrival *)b)->position;
    return (x > y) - (x < y);
}

/* Evaluates the wanted pairs of one panel of candidates with one panel of queries, if they are many
 * enough for a tile; else leaves them to the queries' own lists. Both ways give the same bits. */
static void finish_tile(level_scratch *s, int rank, int columns, int first, int *packed)
{
    const query_task *task = s->task;
    const metric_points *from = task->from, *points = task->points;
    int rows = simd->rows, cols = simd->cols, d = points->d, m = points->m, pairs = 0;
    double tile[SIMD_MAX_ROWS * SIMD_MAX_COLS] __attribute__((aligned(64)));
    uint64_t strip = (rows < 64 ? ((uint64_t)1 << rows) - 1 : ~(uint64_t)0) << first;
    for (int j = 0; j < columns; j++)
        pairs += bitset_count(s->wanted[rank + j] & strip);
    if (!pairs)
        return;
    if (8 * pairs < rows * cols) {
        for (int j = 0; j < columns; j++)
            for (uint64_t left = s->wanted[rank + j] & strip; left;) {
                candidates *kept = &s->kept[bitset_pop(&left)];
                kept->id[kept->count++] = s->distinct[rank + j];
            }
        return;
    }
    if (!*packed) {
        simd_pack_rows(d, cols, columns, points->x, s->distinct + rank, s->point_x);
        simd_pack_rows(m, cols, columns, points->v, s->distinct + rank, s->point_v);
        *packed = 1;
    }
    simd->residual_tile(&s->rad, d, s->query_x + (size_t)first * d, s->point_x, m,
                        s->query_v + (size_t)first * m, s->point_v, tile);
    for (int j = 0; j < columns; j++)
        for (uint64_t left = s->wanted[rank + j] & strip; left;) {
            int q = bitset_pop(&left), id = s->distinct[rank + j];
            double rho = metric_correlation(tile[(q - first) * cols + j],
                                            from->variance[s->row[q]], points->variance[id]);
            kbest_push(&s->best[q], metric_distance(rho), id);
        }
    s->counters.correlations += pairs;
}

/* Puts the distinct candidates in the order of the tree, so that those of a panel have the same
 * queries. */
static void sort_distinct(level_scratch *s)
{
    const int *position = s->task->index->order.position;
    for (int i = 0; i < s->distincts; i++)
        s->arrivals[i] = (arrival){position[s->distinct[i]], s->distinct[i], s->wanted[i]};
    qsort(s->arrivals, s->distincts, sizeof(arrival), earlier);
    for (int i = 0; i < s->distincts; i++) {
        s->distinct[i] = s->arrivals[i].id;
        s->wanted[i] = s->arrivals[i].wanted;
    }
}

/* Evaluates all candidates of all queries of the block that are still in play. Queries that stand
 * together share candidates, so pairs come in tiles, and a candidate is read once a block. */
static void finish_block(level_scratch *s)
{
    const query_task *task = s->task;
    const metric_points *from = task->from, *points = task->points;
    int rows = simd->rows, cols = simd->cols, d = points->d, m = points->m;
    size_t total = 1;
    for (int q = 0; q < s->count; q++)
        total += s->kept[q].count;
    for (s->table_size = 1; s->table_size < 2 * total;)
        s->table_size *= 2;
    memset(s->table, 0xff, s->table_size * sizeof(int));
    s->distincts = 0;
    for (int q = 0; q < s->count; q++) {
        candidates *kept = &s->kept[q];
        for (int i = 0; i < kept->count; i++)
            s->wanted[rank_candidate(s, kept->id[i])] |= (uint64_t)1 << q;
        kept->count = 0;
    }
    sort_distinct(s);
    simd_pack_rows(d, rows, s->count, from->x, s->row, s->query_x);
    simd_pack_rows(m, rows, s->count, from->v, s->row, s->query_v);
    for (int rank = 0; rank < s->distincts; rank += cols) {
        int columns = s->distincts - rank < cols ? s->distincts - rank : cols, packed = 0;
        for (int first = 0; first < s->count; first += rows)
            finish_tile(s, rank, columns, first, &packed);
    }
    for (int q = 0; q < s->count; q++)
        resolve(s, q, 0);
}

/* ---- blocks --------------------------------------------------------------------------------- */

/* Pairs of two points on inducing inputs are outside screening: evaluates them. */
static void resolve_specials(level_scratch *s, int q)
{
    const screen *points = &s->task->index->points;
    candidates *kept = &s->kept[q];
    for (int i = 0; i < points->specials; i++) {
        int id = points->special_ids[i];
        if (id < s->limit[q] && !(s->task->self && id == s->row[q]))
            kept->id[kept->count++] = id;
        if (kept->count == s->capacity || i + 1 == points->specials)
            resolve(s, q, 0);
    }
}

static int nearer(const void *a, const void *b)
{
    const work_item *x = a, *y = b;
    return x->key != y->key ? (x->key > y->key) - (x->key < y->key)
                            : (x->cell > y->cell) - (x->cell < y->cell);
}

/* The queries whose threshold the bound of a range reaches. */
static uint64_t reached(level_scratch *s, const bounds_level *level, int at, uint64_t active)
{
    float upper[SCREEN_BLOCK];
    uint64_t still = 0;
    bounds_expansion(&s->task->index->bound, level, at, &s->bound, upper);
    for (uint64_t left = active; left;) {
        int q = bitset_pop(&left);
        if (upper[q] >= s->tau[q])
            still |= (uint64_t)1 << q;
    }
    s->counters.nodes++;
    s->counters.bounds += bitset_count(active);
    s->counters.pruned += bitset_count(active & ~still);
    return still;
}

/* Squared distances from the middle of the block to the centres of the cells; returns the nearest. */
static int measure_cells(level_scratch *s)
{
    const screen *points = &s->task->index->points;
    const metric_points *from = s->task->from;
    int d = points->d, nearest = 0;
    for (int u = 0; u < d; u++) {
        s->middle[u] = 0.0;
        for (int q = 0; q < s->count; q++)
            s->middle[u] += from->x[(size_t)s->row[q] * d + u] / s->count;
    }
    for (int c = 0; c < points->cells; c++) {
        double s2 = 0.0;
        for (int u = 0; u < d; u++) {
            double gap = points->centre[(size_t)c * d + u] - s->middle[u];
            s2 += gap * gap;
        }
        s->away[c] = (float)s2;
        nearest = s->away[c] < s->away[nearest] ? c : nearest;
    }
    return nearest;
}

/* The frontier: the cells, less `seed`, that bounds leave to some queries, nearest first. */
static int list_work(level_scratch *s, int seed, uint64_t all)
{
    const index_search *index = s->task->index;
    int cells = index->points.cells, listed = 0;
    uint64_t group = all;
    for (int c = 0; c < cells; c++) {
        if (index->bounded && c % BOUNDS_GROUP == 0)
            group = reached(s, &index->bound.groups, c / BOUNDS_GROUP, all);
        if (!group || c == seed)
            continue;
        uint64_t active = index->bounded ? reached(s, &index->bound.cells, c, group) : group;
        if (active)
            s->work[listed++] = (work_item){s->away[c], c, active};
    }
    qsort(s->work, listed, sizeof(work_item), nearer);
    return listed;
}

static void search_block(level_scratch *s, size_t first, size_t count, query_result *result)
{
    const query_task *task = s->task;
    const index_search *index = task->index;
    uint64_t all = 0;
    simd_rows row;
    s->count = (int)count;
    for (int q = 0; q < (int)count; q++) {
        s->query[q] = s->sequence[first + q];
        s->row[q] = query_row(task, s->query[q]);
        s->position[q] = index->position[s->row[q]];
        s->limit[q] = query_limit(task, s->query[q]);
        s->features[q] = screen_query(index->from, s->position[q],
                                      s->room + (size_t)q * index->points.steps * 4, 0, &row);
        s->gain[q] = row.gain[0];
        s->step[q] = row.step[0];
        s->norm[q] = row.norm[0];
        s->error[q] = row.error[0];
        s->tail[q] = row.tail[0];
        if (index->from->prefix)
            s->prefix_tail[q] = index->from->prefix_tail[index->from->place[s->position[q]]];
        s->tau[q] = -1.0f;
        s->kept[q].count = 0;
        s->best[q] = (kbest){task->k, 0, s->heap_dist + (size_t)q * task->k,
                             s->heap_id + (size_t)q * task->k};
        if (task->from->scale[s->row[q]] == 0.0) { /* 1 from all: the first k are the answer */
            for (int j = 0; j < s->limit[q] && s->best[q].size < task->k; j++)
                if (!task->self || j != s->row[q])
                    kbest_push(&s->best[q], 1.0, j);
        } else if (s->limit[q] > 0) {
            all |= (uint64_t)1 << q;
        }
        s->special[q] = index->from->special[s->row[q]] >= 0;
        if (s->special[q])
            resolve_specials(s, q);
    }
    int seed = measure_cells(s);
    screen_cell(s, seed, all);
    for (uint64_t left = all; left;) {
        int q = bitset_pop(&left);
        raise_threshold(s, q);
        drop_hopeless(s, q);
    }
    if (index->bounded)
        bounds_block_set(&index->bound, index->from, s->position, s->count, &s->bound);
    int listed = list_work(s, seed, all);
    for (int w = 0; w < listed; w++)
        screen_cell(s, s->work[w].cell, s->work[w].active);
    for (uint64_t left = all; left;) {
        int q = bitset_pop(&left);
        raise_threshold(s, q);
        drop_hopeless(s, q);
        sharpen(s, q);
    }
    finish_block(s);
    for (int q = 0; q < s->count; q++) {
        kbest_sort(&s->best[q]);
        query_write(task, s->query[q], &s->best[q], result);
    }
}

/* The queries by position: counted into the positions, so that repeated rows keep their order. */
static int *sequence_new(const query_task *task)
{
    size_t n = task->from->n;
    int *sequence = scratch_alloc(task->count + 1, sizeof(int));
    int *at = scratch_alloc(n + 2, sizeof(int));
    if (sequence && at) {
        memset(at, 0, (n + 2) * sizeof(int));
        for (size_t q = 0; q < task->count; q++)
            at[task->index->position[query_row(task, q)] + 1]++;
        for (size_t i = 0; i < n; i++)
            at[i + 1] += at[i];
        for (size_t q = 0; q < task->count; q++)
            sequence[at[task->index->position[query_row(task, q)]]++] = (int)q;
    } else {
        scratch_free(sequence);
        sequence = NULL;
    }
    scratch_free(at);
    return sequence;
}

status query_level(const query_task *task, query_result *result)
{
    int threads = task->threads;
    size_t blocks = (task->count + SCREEN_BLOCK - 1) / SCREEN_BLOCK, chunk = 4 * threads;
    status outcome = status_ok();
    level_scratch *scratch = calloc(threads, sizeof(*scratch));
    int *sequence = sequence_new(task);
    if (!scratch || !sequence)
        outcome = status_fail(STATUS_MEMORY);
    for (int t = 0; t < threads && !outcome.code; t++)
        if (!scratch_reserve(task, sequence, &scratch[t]))
            outcome = status_fail(STATUS_MEMORY);
    for (size_t done = 0, last; done < blocks && !outcome.code; done = last) {
        double start = threads_seconds();
        last = done + chunk < blocks ? done + chunk : blocks;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
        for (size_t b = done; b < last; b++) {
            size_t first = b * SCREEN_BLOCK;
            size_t count = task->count - first < SCREEN_BLOCK ? task->count - first : SCREEN_BLOCK;
            search_block(&scratch[threads_id()], first, count, result);
        }
        if (monitor_poll(task->mon, (double)last / (double)blocks))
            outcome = status_fail(STATUS_INTERRUPTED);
        double spent = threads_seconds() - start;
        if (spent < POLL_SECONDS)
            chunk *= 2;
        else if (spent > 2 * POLL_SECONDS && chunk > (size_t)threads)
            chunk /= 2;
    }
    for (int t = 0; t < threads && scratch; t++) {
        query_counters_add(&result->counters, &scratch[t].counters);
        scratch_release(&scratch[t]);
    }
    scratch_free(sequence);
    free(scratch);
    return outcome;
}

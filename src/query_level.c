/* Level-synchronous search: blocks of close queries against cells of close points.
 *
 * The queries of a block, up to BITSET_SIZE of one cell, descend together. A node of the frontier
 * carries a bit mask: the queries that it may still serve.
 *   1 seed     the nearest cell is screened; every query has a threshold from then on: the k-th
 *              largest lower bound of |rho| seen so far, which only candidates that may exceed it pass
 *   2 bound    groups of cells, then the cells of the groups that survive, are skipped by the
 *              kernel-expansion bound; the rest are listed, nearest first
 *   3 skip     a listed cell is skipped for the queries whose threshold its subspace bound does not
 *              reach: first from the landmarks of the block to those of the cell, then from the query
 *   4 screen   for what is left, intervals of |rho| are formed with all points of the cell, and
 *              candidates whose interval reaches the threshold are kept
 *   5 finish   these are evaluated by the metric, in double, and ordered
 * Where subspaces do not pay, integer products (screen.h) take the place of 3 and 4, for all cells.
 * Scratch belongs to a thread and does not depend on n, but for lists of the cells and panels. */
#include "query.h"
#include "bitset.h"
#include "scratch.h"
#include "simd.h"
#include "threads.h"

#include <string.h>

#define POLL_SECONDS 0.1
#define FIRST_CHUNK 8
#define DENSE_PAYS 4 /* how many times faster a pair is in the tiles of brute force than alone */
#define NEARLY 50.0f /* an expansion bound so far from skipping is not refined */
#define CHUNK 128    /* cells of the frontier that are ordered at once */
#define FINISH_PAIRS 16384 /* pairs that are finished at once */
#define ORDER_MOST 256     /* pairs of a query that are ordered by counting */
#define SUBSPACE_WIDTH ((SUBSPACE_RANK + SIMD_WIDTH - 1) / SIMD_WIDTH * SIMD_WIDTH)

/* Candidates of one query that are still in play, by index. */
typedef struct {
    int count, *id;
    float *low, *high; /* interval of |rho| */
} candidates;

typedef struct {
    float key;   /* squared distance of the boxes, for the order of work */
    float upper; /* expansion bound for the hardest query; 1 is what must be reached */
    float most;  /* largest |P b|^2 of its queries, negative where the landmarks were not asked */
    int cell;
    bitset active;
} work_item;

/* A candidate of several queries, and which of them want it. */
typedef struct {
    int position, id;
    bitset wanted;
} arrival;

typedef struct {
    const query_task *task;
    int capacity; /* of a list of candidates */
    /* the block */
    int count, cell; /* of `from` */
    int row[BITSET_SIZE], limit[BITSET_SIZE], column[BITSET_SIZE];
    int most_limit;
    size_t query[BITSET_SIZE];
    float tau[BITSET_SIZE];   /* threshold on |rho| */
    float gain[BITSET_SIZE];  /* 1 / sqrt(p), upwards */
    float noise[BITSET_SIZE]; /* noise_q */
    candidates kept[BITSET_SIZE];
    int settled[BITSET_SIZE]; /* how many were kept when the threshold was last raised */
    kbest best[BITSET_SIZE];  /* evaluated exactly */
    double *heap_dist;
    int *heap_id;
    /* frontier */
    work_item *work;
    float *special_upper;                    /* by panel, of one special query */
    int *deferred, deferrals, deferral_room; /* special queries that are left to brute force */
    float *lows;                             /* of one query, for its threshold */
    double *rho;
    float *lengths; /* CHUNK x BITSET_SIZE: |P b|^2 */
    float least[BITSET_SIZE], must[BITSET_SIZE];
    /* subspaces: rows of a block, of its landmarks, of what is left of it for a cell */
    float *own, *weights, *products, *psi; /* rows x width: psi in the own cell, b, P b, psi */
    float *P;                              /* rank x width of another cell */
    float *inverse;                        /* of the own cell, not transposed */
    const float **rows;
    double *row_x, *row_v, row_scale[BITSET_SIZE + SIMD_MAX_ROWS]; /* row panels of queries */
    double *landmark_x, *landmark_v,
        landmark_scale[SUBSPACE_WIDTH + SIMD_MAX_ROWS]; /* of landmarks */
    float own_tail[BITSET_SIZE], size[BITSET_SIZE],
        noisy[BITSET_SIZE]; /* tail, |b|_1, sum noise |b| */
    float *value;           /* SCREEN_ROWS x SCREEN_COLS */
    /* integers */
    char *room;
    const void *features[BITSET_SIZE];
    float int_gain[BITSET_SIZE], step[BITSET_SIZE], norm[BITSET_SIZE], error[BITSET_SIZE];
    float *relative; /* BITSET_SIZE x d, from the centre of a cell */
    simd_intervals *intervals;
    /* finishing: distinct candidates, the queries that want each, and panels of both */
    size_t table_size; /* a power of two */
    int *table, distincts;
    arrival *arrivals;
    double *point_x, *point_v, *tile;
    double *found_dist; /* FINISH_PAIRS: of the queries one after the other */
    int *found_id, found[BITSET_SIZE], found_at[BITSET_SIZE];
    query_counters counters;
} level_scratch;

static void scratch_release(level_scratch *s)
{
    for (int q = 0; q < BITSET_SIZE; q++) {
        scratch_free(s->kept[q].id);
        scratch_free(s->kept[q].low);
        scratch_free(s->kept[q].high);
    }
    void *held[] = {s->heap_dist, s->heap_id,  s->work,       s->special_upper, s->lows,
                    s->rho,       s->own,      s->weights,    s->products,      s->psi,
                    s->P,         s->inverse,  s->rows,       s->lengths,       s->value,
                    s->room,      s->relative, s->intervals,  s->table,         s->arrivals,
                    s->point_x,   s->point_v,  s->tile,       s->found_dist,    s->found_id,
                    s->row_x,     s->row_v,    s->landmark_x, s->landmark_v};
    for (size_t i = 0; i < sizeof(held) / sizeof(*held); i++)
        scratch_free(held[i]);
}

static int reserve_subspaces(level_scratch *s, size_t d, size_t m)
{
    s->row_x = scratch_alloc((BITSET_SIZE + SIMD_MAX_ROWS) * d, sizeof(double));
    s->row_v = scratch_alloc((BITSET_SIZE + SIMD_MAX_ROWS) * m + 1, sizeof(double));
    s->landmark_x = scratch_alloc((SUBSPACE_WIDTH + SIMD_MAX_ROWS) * d, sizeof(double));
    s->landmark_v = scratch_alloc((SUBSPACE_WIDTH + SIMD_MAX_ROWS) * m + 1, sizeof(double));
    if (!s->row_x || !s->row_v || !s->landmark_x || !s->landmark_v)
        return 0;
    size_t room = BITSET_SIZE * SUBSPACE_WIDTH;
    s->own = scratch_alloc(room, sizeof(float));
    s->weights = scratch_alloc(room, sizeof(float));
    s->products = scratch_alloc(room, sizeof(float));
    s->psi = scratch_alloc(room, sizeof(float));
    s->P = scratch_alloc(SUBSPACE_RANK * SUBSPACE_WIDTH, sizeof(float));
    s->inverse = scratch_alloc(SUBSPACE_RANK * SUBSPACE_WIDTH, sizeof(float));
    s->rows = scratch_alloc(BITSET_SIZE, sizeof(float *));
    s->lengths = scratch_alloc(CHUNK * BITSET_SIZE, sizeof(float));
    return s->lengths && s->own && s->weights && s->products && s->psi && s->P && s->inverse &&
           s->rows;
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
           most = (room > FINISH_PAIRS ? room : FINISH_PAIRS) + SIMD_MAX_COLS;
    for (int q = 0; q < BITSET_SIZE; q++) {
        candidates *kept = &s->kept[q];
        kept->id = scratch_alloc(room, sizeof(int));
        kept->low = scratch_alloc(room, sizeof(float));
        kept->high = scratch_alloc(room, sizeof(float));
        ok &= kept->id && kept->low && kept->high;
    }
    s->heap_dist = scratch_alloc(BITSET_SIZE * k, sizeof(double));
    s->heap_id = scratch_alloc(BITSET_SIZE * k, sizeof(int));
    s->work = scratch_alloc((size_t)index->points.order.count + 1, sizeof(work_item));
    s->special_upper = scratch_alloc(index->points.order.panels, sizeof(float));
    s->lows = scratch_alloc(room + k, sizeof(float));
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
    return ok &&
           (index->form == INDEX_SUBSPACES ? reserve_subspaces(s, d, m) : reserve_integers(s, d));
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
    for (int step = 0; step < 8; step++) {
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
    kept->count = simd->drop_intervals(kept->count, s->tau[q], kept->id, kept->low, kept->high);
}

/* Where much is still in play, puts those that make the threshold last and returns where they start:
 * evaluated first, they spare about half of the others. */
static int make_threshold(level_scratch *s, int q)
{
    candidates *kept = &s->kept[q];
    if (kept->count <= 2 * s->task->k)
        return kept->count;
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
    return below;
}

/* Makes room: by raising the threshold, then by making it exact, then by evaluating everything. */
static void compact(level_scratch *s, int q)
{
    raise_threshold(s, q);
    drop_hopeless(s, q);
    if (2 * s->kept[q].count > s->capacity) {
        resolve(s, q, make_threshold(s, q));
        raise_threshold(s, q);
        drop_hopeless(s, q);
    }
    if (2 * s->kept[q].count > s->capacity) {
        resolve(s, q, 0);
        raise_threshold(s, q);
    }
}

static void keep(level_scratch *s, int q, const int *ids, uint32_t mask,
                 const simd_interval_row *row)
{
    candidates *kept = &s->kept[q];
    int at = kept->count;
    int count = kept->count +=
        simd->append_intervals(mask, ids, s->limit[q], s->task->self ? s->row[q] : -1, row,
                               kept->id + at, kept->low + at, kept->high + at);
    if (s->tau[q] < 0.0f &&
        count >= 2 * s->task->k) { /* the first threshold, as early as possible */
        raise_threshold(s, q);
        drop_hopeless(s, q);
    } else if (count >= s->capacity) {
        compact(s, q);
    }
}

static int nearer(const void *a, const void *b)
{
    const work_item *x = a, *y = b;
    return x->key != y->key ? (x->key > y->key) - (x->key < y->key)
                            : (x->cell > y->cell) - (x->cell < y->cell);
}

/* ---- subspaces ------------------------------------------------------------------------------ */

/* The queries as rows, and what their own cell says of them. */
static void set_subspaces(level_scratch *s)
{
    const metric_points *from = s->task->from;
    const subspaces *space = &s->task->index->from->space;
    int cell = s->cell, rank = space->rank[cell], width = subspace_width(space, cell);
    const int *landmarks = space->ids + space->landmark[cell];
    simd->pack_rows(from->d, simd->rows, rank, from->x, landmarks, s->landmark_x);
    simd->pack_rows(from->m, simd->rows, rank, from->v, landmarks, s->landmark_v);
    for (int r = 0; r < rank; r++)
        s->landmark_scale[r] = from->scale[landmarks[r]];
    const float *psi = space->psi + space->psi_at[cell],
                *inverse = space->inverse + space->inverse_at[cell];
    int first = s->task->index->from->order.panel[cell] * SCREEN_COLS;
    for (int q = 0; q < s->count; q++) {
        int column = s->column[q] - first;
        const float *source =
            psi + (size_t)(column / SCREEN_COLS) * rank * SCREEN_COLS + column % SCREEN_COLS;
        float *own = s->own + (size_t)q * width;
        for (int r = 0; r < rank; r++)
            own[r] = source[r * SCREEN_COLS];
        s->rows[q] = own;
        s->own_tail[q] = space->tail[s->column[q]];
    }
    for (int i = 0; i < rank; i++)
        for (int j = 0; j < width; j++)
            s->inverse[i * width + j] = j < rank ? inverse[j * width + i] : 0.0f;
    simd->multiply32(s->count, s->rows, rank, s->inverse, width, s->weights);
    for (int q = 0; q < s->count; q++) {
        float size = 0.0f, noisy = 0.0f;
        for (int r = 0; r < rank; r++) {
            float b = fabsf(s->weights[(size_t)q * width + r]);
            size += b;
            noisy += b * (float)space->noise[landmarks[r]];
        }
        s->size[q] = size * 1.0001f;
        s->noisy[q] = noisy * 1.0001f;
    }
}

/* Errors of a query with a cell: of the length of its psi, and of an inner product. */
static float psi_error(const subspaces *space, int cell, float noise)
{
    return 1.001f * (space->cell_noise[cell] * noise + space->cell_rounding[cell]);
}

static float pair_error(const subspaces *space, int cell, float noise, float of_psi)
{
    float most = space->cell_most[cell];
    float error = of_psi + space->cell_noise[cell] * most + ldexpf(space->rank[cell] + 4, -23);
    return 1.1f * error + noise * most;
}

/* Intervals of some queries with all points of a cell. Each has its psi, tail and error. */
static void screen_rows(level_scratch *s, const subspaces *space, int cell, int count,
                        const int *members, const float *const *psi, const float *tails,
                        const float *errors)
{
    const cells *order = space->order;
    int rank = space->rank[cell];
    const float *rows[SCREEN_ROWS];
    float row_tail[SCREEN_ROWS], limit[SCREEN_ROWS];
    uint32_t mask[SCREEN_ROWS];
    for (int i = 0; i < count; i += SCREEN_ROWS) {
        int filled = count - i < SCREEN_ROWS ? count - i : SCREEN_ROWS;
        for (int a = 0; a < SCREEN_ROWS; a++) {
            int at = a < filled ? i + a : i;
            rows[a] = psi[at];
            row_tail[a] = tails[at];
            limit[a] = a < filled ? s->tau[members[at]] - errors[at] : INFINITY;
        }
        const float *columns = space->psi + space->psi_at[cell];
        for (int panel = order->panel[cell]; panel < order->panel[cell + 1];
             panel++, columns += rank * SCREEN_COLS) {
            if (order->least[panel] >= s->most_limit)
                continue;
            const float *tail = space->tail + (size_t)panel * SCREEN_COLS;
            simd->subspace_tile(rank, rows, row_tail, limit, columns, tail, s->value, mask);
            s->counters.screened += (double)filled * SCREEN_COLS;
            for (int a = 0; a < filled; a++)
                if (mask[a]) {
                    int q = members[i + a];
                    simd_interval_row row = {.value = s->value + a * SCREEN_COLS,
                                             .tail = tail,
                                             .row_tail = row_tail[a],
                                             .base = errors[i + a]};
                    keep(s, q, order->ids + (size_t)panel * SCREEN_COLS, mask[a], &row);
                    limit[a] = s->tau[q] - errors[i + a];
                }
        }
    }
}

/* The queries' own cell, where psi and tails are those of its points. */
static void screen_own(level_scratch *s, const bitset *active)
{
    const subspaces *space = &s->task->index->points.space;
    int members[BITSET_SIZE], count = bitset_members(active, members);
    int width = subspace_width(space, s->cell);
    float errors[BITSET_SIZE], tails[BITSET_SIZE];
    for (int i = 0; i < count; i++) {
        float noise = s->noise[members[i]];
        errors[i] = pair_error(space, s->cell, noise, psi_error(space, s->cell, noise));
        tails[i] = s->own_tail[members[i]];
        s->rows[i] = s->own + (size_t)members[i] * width;
    }
    screen_rows(s, space, s->cell, count, members, s->rows, tails, errors);
}

static simd_skip_cell skip_cell(const level_scratch *s, int cell)
{
    const subspaces *space = &s->task->index->points.space, *own = &s->task->index->from->space;
    float tail = space->cell_tail[cell], rounding = space->cell_rounding[cell],
          most = space->cell_most[cell];
    return (simd_skip_cell){
        .noise = space->cell_noise[cell],
        .rounding = rounding,
        .most = most,
        .dot = ldexpf(space->rank[cell] + 4, -23),
        .product = rounding + ldexpf(own->rank[s->cell] + 4, -24),
        .cosine = tail < 1.0f ? sqrtf(1.0f - tail * tail) * 0.99999f : 0.0f,
        .sine = tail < 1.0f ? tail : 1.0f,
    };
}

/* |P b|^2 of the active queries, by the landmarks of their cell and of another; returns the largest. */
static float cross_lengths(level_scratch *s, int cell, int count, const int *members,
                           float *lengths)
{
    const subspaces *space = &s->task->index->points.space, *own = &s->task->index->from->space;
    int own_rank = own->rank[s->cell], own_width = subspace_width(own, s->cell);
    int rank = space->rank[cell], width = subspace_width(space, cell);
    float found[BITSET_SIZE], most = 0.0f;
    subspaces_project(space, cell, own_rank, s->landmark_x, s->landmark_v, s->landmark_scale,
                      s->rows, s->products, s->P);
    s->counters.correlations += (double)rank * own_rank;
    for (int i = 0; i < count; i++)
        s->rows[i] = s->weights + (size_t)members[i] * own_width;
    simd->multiply32(count, s->rows, own_rank, s->P, width, s->products);
    simd->squared_lengths(count, width, s->products, found);
    for (int i = 0; i < count; i++) {
        lengths[members[i]] = found[i];
        most = found[i] > most ? found[i] : most;
    }
    return most;
}

/* A cell of the frontier for the active queries; `lengths` is |P b|^2 where the landmarks of their cell
 * were asked, or NULL. Queries with lengths in [low, high) only have their turn. */
static void screen_cell(level_scratch *s, int cell, const bitset *active, const float *lengths,
                        float low, float high)
{
    const subspaces *space = &s->task->index->points.space;
    const metric_points *from = s->task->from;
    int members[BITSET_SIZE], count = bitset_members(active, members), left = 0;
    int rank = space->rank[cell], width = subspace_width(space, cell);
    simd_skip_cell skip = skip_cell(s, cell);
    simd_skip queries = {s->tau, s->noise, s->own_tail, s->size, s->noisy};
    float errors[BITSET_SIZE], tails[BITSET_SIZE], found[BITSET_SIZE];
    int ids[BITSET_SIZE];
    simd->skip_limits(s->count, &queries, &skip, s->must, s->least);
    for (int i = 0; i < count; i++) {
        int q = members[i];
        if (lengths) {
            if (!(lengths[q] >= low && lengths[q] < high))
                continue;
            s->counters.bounds++;
            if (lengths[q] * 1.0001f < s->least[q] * s->least[q]) {
                s->counters.pruned++;
                continue;
            }
        }
        ids[left] = s->row[q];
        s->row_scale[left] = from->scale[s->row[q]];
        members[left++] = q;
    }
    count = left;
    if (!count)
        return;
    simd->pack_rows(from->d, simd->rows, count, from->x, ids, s->row_x);
    simd->pack_rows(from->m, simd->rows, count, from->v, ids, s->row_v);
    subspaces_project(space, cell, count, s->row_x, s->row_v, s->row_scale, s->rows, s->products,
                      s->psi);
    simd->squared_lengths(count, width, s->psi, found);
    s->counters.correlations += (double)rank * count;
    s->counters.bounds += count;
    left = 0;
    for (int i = 0; i < count; i++) {
        int q = members[i];
        if (found[i] * 1.0001f < s->must[q] * s->must[q])
            continue;
        float noise = s->noise[q], of_psi = psi_error(space, cell, noise);
        float tail2 = 1.0001f - found[i] + noise * noise + 2.0f * of_psi;
        members[left] = q;
        s->rows[left] = s->psi + (size_t)i * width;
        errors[left] = pair_error(space, cell, noise, of_psi);
        tails[left++] = tail2 > 0.0f ? sqrtf(tail2) : 0.0f;
    }
    s->counters.pruned += count - left;
    screen_rows(s, space, cell, left, members, s->rows, tails, errors);
}

static void raise_thresholds(level_scratch *s, int count, const int *members)
{
    for (int i = 0; i < count; i++) {
        int q = members[i];
        if (s->kept[q].count == s->settled[q])
            continue;
        raise_threshold(s, q);
        drop_hopeless(s, q);
        s->settled[q] = s->kept[q].count;
    }
}

/* Some cells of the frontier: what the landmarks say of all of them first, then for each query the
 * cells that may hold most, so that its threshold is high when the turn of the others comes. */
static void screen_chunk(level_scratch *s, work_item *work, int count, int queries, const int *all)
{
    static const float bands[] = {INFINITY, 0.4f, 0.16f, 0.06f, 0.0f};
    int own_rank = s->task->index->from->space.rank[s->cell], members[BITSET_SIZE], far = 0;
    for (int w = 0; w < count; w++) {
        int active = bitset_members(&work[w].active, members);
        work[w].most = -1.0f;
        if (active > own_rank) {
            work[w].most = cross_lengths(s, work[w].cell, active, members,
                                         s->lengths + (size_t)w * BITSET_SIZE);
            far++;
        } else if (active) { /* few queries: they are near */
            screen_cell(s, work[w].cell, &work[w].active, NULL, 0.0f, 0.0f);
        }
    }
    for (int band = 1; band < 5 && far; band++) {
        raise_thresholds(s, queries, all);
        for (int w = 0; w < count; w++)
            if (work[w].most >= bands[band])
                screen_cell(s, work[w].cell, &work[w].active, s->lengths + (size_t)w * BITSET_SIZE,
                            bands[band], bands[band - 1]);
    }
}

/* ---- integers ------------------------------------------------------------------------------- */

static void set_integers(level_scratch *s)
{
    const screen *from = &s->task->index->from->integers;
    simd_rows row;
    for (int q = 0; q < s->count; q++) {
        screen_query(from, s->column[q], s->room + (size_t)q * from->steps * 4, 0, &row);
        s->features[q] = row.features[0];
        s->int_gain[q] = row.gain[0];
        s->step[q] = row.step[0];
        s->norm[q] = row.norm[0];
        s->error[q] = row.error[0];
    }
}

/* Fills the rows of a tile; idle rows repeat the first and reach nothing. */
static void fill_rows(level_scratch *s, const int *members, int count, simd_rows *rows)
{
    for (int a = 0; a < SCREEN_ROWS; a++) {
        int q = members[a < count ? a : 0];
        rows->features[a] = s->features[q];
        rows->x[a] = s->relative + (size_t)q * s->task->points->d;
        rows->gain[a] = s->int_gain[q];
        rows->step[a] = s->step[q];
        rows->norm[a] = s->norm[q];
        rows->error[a] = s->error[q];
        rows->tau[a] = a < count ? s->tau[q] : INFINITY;
    }
}

static void screen_cell_integers(level_scratch *s, int cell, const bitset *active)
{
    const metric_points *from = s->task->from;
    const screen *points = &s->task->index->points.integers;
    const cells *order = points->order;
    int d = points->d, members[BITSET_SIZE], count = bitset_members(active, members);
    const double *centre = points->centre + (size_t)cell * d;
    simd_intervals *found = s->intervals;
    simd_rows rows;
    for (int i = 0; i < count; i++)
        for (int u = 0; u < d; u++)
            s->relative[(size_t)members[i] * d + u] =
                (float)(from->x[(size_t)s->row[members[i]] * d + u] - centre[u]);
    for (int i = 0; i < count; i += SCREEN_ROWS) {
        int filled = count - i < SCREEN_ROWS ? count - i : SCREEN_ROWS;
        fill_rows(s, members + i, filled, &rows);
        for (int panel = order->panel[cell]; panel < order->panel[cell + 1]; panel++) {
            if (order->least[panel] >= s->most_limit)
                continue;
            simd_columns columns = screen_columns(points, cell, panel);
            s->counters.screened += (double)filled * SCREEN_COLS;
            (points->bits == 8 ? simd->dot_tile8 : simd->dot_tile16)(points->steps, &rows, &columns,
                                                                     found->value);
            simd->interval_tile(points->pieces, d, &rows, &columns, found);
            for (int a = 0; a < filled; a++)
                if (found->mask[a]) {
                    simd_interval_row row = {.value = found->value + a * SCREEN_COLS,
                                             .norm = columns.norm,
                                             .error = columns.error,
                                             .base = found->base[a],
                                             .slope = found->slope[a],
                                             .row_norm = rows.norm[a]};
                    keep(s, members[i + a], order->ids + (size_t)panel * SCREEN_COLS,
                         found->mask[a], &row);
                    rows.tau[a] = s->tau[members[i + a]];
                }
        }
    }
}

/* ---- finishing a block ---------------------------------------------------------------------- */

/* The arrival of a candidate: an open table from index to place. */
static arrival *arrive(level_scratch *s, int id)
{
    size_t at = ((uint32_t)id * 2654435761u) & (s->table_size - 1);
    while (s->table[at] >= 0 && s->arrivals[s->table[at]].id != id)
        at = (at + 1) & (s->table_size - 1);
    if (s->table[at] < 0) {
        s->table[at] = s->distincts;
        s->arrivals[s->distincts++] =
            (arrival){.position = s->task->index->points.order.position[id], .id = id};
    }
    return &s->arrivals[s->table[at]];
}

static int earlier(const void *a, const void *b)
{
    int x = ((const arrival *)a)->position, y = ((const arrival *)b)->position;
    return (x > y) - (x < y);
}

/* Evaluates the wanted pairs of one panel of candidates. */
static void finish_panel(level_scratch *s, const arrival *panel, int columns)
{
    const query_task *task = s->task;
    const metric_points *from = task->from, *points = task->points;
    int cols = simd->cols, d = points->d, m = points->m, ids[SIMD_MAX_COLS], members[BITSET_SIZE];
    const double *x[BITSET_SIZE], *v[BITSET_SIZE];
    radial rad = kernel_radial(task->kern);
    bitset any = {{0}};
    for (int j = 0; j < columns; j++) {
        ids[j] = panel[j].id;
        for (int w = 0; w < BITSET_WORDS; w++)
            any.word[w] |= panel[j].wanted.word[w];
    }
    int count = bitset_members(&any, members);
    double variance[SIMD_MAX_COLS], dist[SIMD_MAX_COLS];
    for (int j = 0; j < cols; j++)
        variance[j] = points->variance[ids[j < columns ? j : 0]];
    for (int i = 0; i < count; i++) {
        x[i] = from->x + (size_t)s->row[members[i]] * d;
        v[i] = from->v + (size_t)s->row[members[i]] * m;
    }
    simd->pack_rows(d, cols, columns, points->x, ids, s->point_x);
    simd->pack_rows(m, cols, columns, points->v, ids, s->point_v);
    simd->residual_rows(&rad, d, count, x, s->point_x, m, v, s->point_v, s->tile);
    for (int i = 0; i < count; i++) {
        int q = members[i], at = s->found_at[q] + s->found[q];
        simd->distances(s->tile + i * cols, from->variance[s->row[q]], variance, dist);
        for (int j = 0; j < columns; j++) {
            s->found_dist[at] = dist[j];
            s->found_id[at] = ids[j];
            at += panel[j].wanted.word[q / 64] >> (q % 64) & 1;
        }
        s->counters.correlations += at - s->found_at[q] - s->found[q];
        s->found[q] = at - s->found_at[q];
    }
}

/* Adds what was found of a query to its k-best: ordered at once where nothing was known before. */
static void collect(level_scratch *s, int q)
{
    const double *dist = s->found_dist + s->found_at[q];
    const int *id = s->found_id + s->found_at[q];
    int count = s->found[q], rank[ORDER_MOST], k = s->task->k;
    double padded[ORDER_MOST + SIMD_MAX_COLS];
    kbest *best = &s->best[q];
    if (best->size || count > ORDER_MOST) {
        for (int i = 0; i < count; i++)
            kbest_push(best, dist[i], id[i]);
        return;
    }
    memcpy(padded, dist, count * sizeof(double));
    for (int j = count; j < count + SIMD_MAX_COLS; j++)
        padded[j] = INFINITY;
    simd->order_pairs(count, padded, id, rank);
    int last = (count < k ? count : k) - 1;
    for (int i = 0; i < count; i++) /* worst first: a heap */
        if (rank[i] <= last) {
            best->dist[last - rank[i]] = dist[i];
            best->id[last - rank[i]] = id[i];
        }
    best->size = last + 1;
}

/* Evaluates the candidates of each query of the block from place from[q] on. Queries that stand together
 * share candidates, so pairs come in tiles, and a candidate is read once. */
static void finish(level_scratch *s, const int *from)
{
    int cols = simd->cols;
    for (int first = 0, last; first < s->count; first = last) {
        int pairs = 0;
        s->distincts = 0;
        for (last = first; last < s->count; last++) {
            candidates *kept = &s->kept[last];
            if (last > first && pairs + kept->count - from[last] > FINISH_PAIRS)
                break;
            s->found_at[last] = pairs;
            s->found[last] = 0;
            pairs += kept->count - from[last] + 1; /* a place to spare */
            for (int i = from[last]; i < kept->count; i++)
                bitset_add(&arrive(s, kept->id[i])->wanted, last);
            kept->count = from[last];
        }
        if (!s->distincts)
            continue;
        memset(s->table, 0xff, s->table_size * sizeof(int));
        qsort(s->arrivals, s->distincts, sizeof(arrival), earlier);
        for (int i = 0; i < s->distincts; i += cols)
            finish_panel(s, s->arrivals + i, s->distincts - i < cols ? s->distincts - i : cols);
        for (int q = first; q < last; q++)
            collect(s, q);
    }
}

/* All that is still in play: first what makes the thresholds of queries with many candidates. */
static void finish_block(level_scratch *s, const int *members, int count)
{
    int from[BITSET_SIZE], many = 0;
    for (int q = 0; q < s->count; q++)
        from[q] = s->kept[q].count;
    for (int i = 0; i < count; i++) {
        int q = members[i];
        raise_threshold(s, q);
        drop_hopeless(s, q);
        from[q] = make_threshold(s, q);
        many += from[q] < s->kept[q].count;
    }
    if (many) {
        finish(s, from);
        for (int i = 0; i < count; i++) {
            int q = members[i];
            if (!s->best[q].size)
                continue;
            raise_threshold(s, q);
            drop_hopeless(s, q);
        }
    }
    memset(from, 0, sizeof(from));
    finish(s, from);
}

/* ---- special queries ------------------------------------------------------------------------ */

static void resolve_panel(level_scratch *s, int q, int panel)
{
    const int *ids = s->task->index->points.order.ids + (size_t)panel * SCREEN_COLS;
    int self = s->task->self ? s->row[q] : -1;
    candidates *kept = &s->kept[q];
    for (int j = 0; j < SCREEN_COLS; j++) {
        kept->id[kept->count] = ids[j];
        kept->count += ids[j] >= 0 && ids[j] < s->limit[q] && ids[j] != self;
    }
    resolve(s, q, 0);
}

/* Leaves a query to brute force if it would take too many panels below `high`: tiles are some times
 * faster for each pair. Returns whether it has. */
static int defer_special(level_scratch *s, int q, float needed, float high)
{
    int panels = s->task->index->points.order.panels, left = 0;
    for (int p = 0; p < panels; p++)
        left += s->special_upper[p] >= needed && s->special_upper[p] < high;
    if (DENSE_PAYS * left < panels)
        return 0;
    if (s->deferrals == s->deferral_room) {
        int room = 2 * s->deferral_room + 64, *more = realloc(s->deferred, room * sizeof(int));
        if (!more)
            return 0;
        s->deferred = more;
        s->deferral_room = room;
    }
    s->deferred[s->deferrals++] = (int)s->query[q];
    return 1;
}

/* A query on an inducing input: panels by their bound, which is attained, in bands of falling height. */
static void search_special(level_scratch *s, int q)
{
    const index_set *points = &s->task->index->points;
    const bounds *from = &s->task->index->from->bound;
    const kbest *best = &s->best[q];
    int input = from->special.inputs[from->special.rank[s->row[q]]], panels = points->order.panels;
    float most = 0.0f, *upper = s->special_upper;
    double slack = s->noise[q] * points->bound.most_noise;
    for (int p = 0; p < panels; p++) {
        upper[p] =
            (float)((bounds_special(&points->bound, input, p) * s->gain[q] + slack) * (1.0 + 1e-6));
        most = fmaxf(most, upper[p]);
    }
    for (float high = INFINITY, low = 0.5f * most;; high = low, low *= 0.5f) {
        float needed =
            kbest_full(best) ? (float)(1.0 - best->dist[0] * best->dist[0]) - 1e-6f : -1.0f;
        if (high < needed)
            break;
        if (needed > 0.0f && defer_special(s, q, needed, high))
            break;
        low = low < 1e-6f * most ? -1.0f : low;
        for (int p = 0; p < panels; p++)
            if (upper[p] >= low && upper[p] < high && upper[p] >= needed &&
                points->order.least[p] < s->limit[q])
                resolve_panel(s, q, p);
        if (low < 0.0f)
            break;
    }
}

/* ---- blocks --------------------------------------------------------------------------------- */

/* The factor that makes of an expansion bound what must reach 1. */
static float hardness(const level_scratch *s, int q)
{
    return s->tau[q] > 0.0f ? s->gain[q] / s->tau[q] * 1.00001f : INFINITY;
}

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
        if (upper * hardest >= 1.0f && upper * hardest < NEARLY)
            upper =
                bounds_expansion(b, &from->panels, own, &b->panels, panel[cell], panel[cell + 1]);
        for (int j = i; j < next && upper * hardest >= 1.0f; j++)
            if (upper * hardness(s, members[j]) >= 1.0f)
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
                group =
                    bounds_expansion(b, &from->cells, s->cell, &b->groups, at, at + 1) * hardest >=
                    1.0f;
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
    int by_subspaces = index->form == INDEX_SUBSPACES;

    if (by_subspaces)
        set_subspaces(s);
    else
        set_integers(s);
    if (by_subspaces && index->from == &index->points)
        screen_own(s, all);
    else if (by_subspaces)
        screen_cell(s, seed, all, NULL, 0.0f, 0.0f);
    else
        screen_cell_integers(s, seed, all);
    raise_thresholds(s, count, members);
    int listed = list_work(s, seed, members, count);
    for (int w = 0, chunk = FIRST_CHUNK; w < listed; w += chunk, chunk = CHUNK) {
        chunk = listed - w < chunk ? listed - w : chunk;
        for (int i = w; i < w + chunk; i++)
            s->work[i].active = index->points.bound.expands && s->work[i].upper < NEARLY
                                    ? bound_cell(s, s->work[i].cell, members, count)
                                    : *all;
        if (by_subspaces)
            screen_chunk(s, s->work + w, chunk, count, members);
        for (int i = w; i < w + chunk && !by_subspaces; i++)
            screen_cell_integers(s, s->work[i].cell, &s->work[i].active);
    }

    finish_block(s, members, count);
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
            search_special(s, q);
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
    int threads = task->threads, chunk = 4 * threads;
    status outcome = status_ok();
    schedule plan;
    level_scratch *scratch = calloc(threads, sizeof(*scratch));
    if (!schedule_new(task, &plan) || !scratch)
        outcome = status_fail(STATUS_MEMORY);
    for (int t = 0; t < threads && !outcome.code; t++)
        if (!scratch_reserve(task, &scratch[t]))
            outcome = status_fail(STATUS_MEMORY);
    for (int done = 0, last; done < plan.blocks && !outcome.code; done = last) {
        double start = threads_seconds();
        last = done + chunk < plan.blocks ? done + chunk : plan.blocks;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
        for (int b = done; b < last; b++)
            search_block(&scratch[threads_id()], plan.cell[b], plan.sequence + plan.block[b],
                         plan.block[b + 1] - plan.block[b], result);
        if (monitor_poll(task->mon, (double)last / (double)plan.blocks))
            outcome = status_fail(STATUS_INTERRUPTED);
        double spent = threads_seconds() - start;
        if (spent < POLL_SECONDS)
            chunk *= 2;
        else if (spent > 2 * POLL_SECONDS && chunk > threads)
            chunk /= 2;
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

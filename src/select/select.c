#include "select/select.h"

#include "base/scratch.h"
#include "base/threads.h"
#include "partition/order.h"
#include "simd/simd.h"

#include <math.h>
#include <string.h>

#define GONE 1e-10    /* share of a candidate's variance below which it is a combination of those taken */
#define NOTHING 1e-13 /* share of the variance below which what is left of a query is rounding */
#define BLOCK 128     /* queries of one piece of work */
#define GROUP 96      /* most queries of a group, */
#define SHARED 256    /* and most candidates of a group of several: their covariances should stay in cache, */
#define TWICE 1024    /* or twice the pool of one query, up to here */
#define HUGE_POOL 4096
#define LAZY 5        /* a pool above so many k is wide: rows of R are then computed one by one */
#define PATIENCE 1.25 /* a group grows while a query's part of the work is within this of the best */
#define LANES 8       /* rows of the factor are padded to whole vectors of any instruction set */
#define AHEAD 4       /* queries whose candidates are fetched before they are read */

static size_t padded(size_t count) { return (count + LANES - 1) / LANES * LANES; }

/* The row of query q in `from`. */
static int query_row(const select_task *task, size_t q) { return task->rows ? task->rows[q] : (int)q; }

/* ---- queries in order of place --------------------------------------------------------------- */

/* Numbers of the queries: with predecessors those with about as many candidates together, as these are about as
 * dense; and then by place. */
static status order_queries(const select_task *task, int **order)
{
    size_t count = task->count, first[65] = {0};
    int d = task->from->d;
    int *at, *list, *near;
    double *x;
    if (!SCRATCH_ALL(SCRATCH_FOR(at, count + 1), SCRATCH_FOR(list, count + 1), SCRATCH_FOR(near, count + 1),
                     SCRATCH_FOR(x, count * d + 1)))
        return status_fail(STATUS_MEMORY);
    for (size_t q = 0; q < count; q++) {
        at[q] = 0;
        for (size_t left = task->predecessors ? (size_t)query_row(task, q) : 0; left; left >>= 1)
            at[q]++;
        first[at[q] + 1]++;
    }
    for (int level = 0; level < 64; level++)
        first[level + 1] += first[level];
    for (size_t q = 0; q < count; q++)
        list[first[at[q]]++] = (int)q;
    status outcome = status_ok();
    for (size_t level = 0, start = 0; level < 64; level++) { /* first[level] is now its end */
        size_t size = first[level] - start;
        int *own = list + start;
        for (size_t i = 0; i < size; i++)
            memcpy(x + i * d, task->from->x + (size_t)query_row(task, own[i]) * d, d * sizeof(double));
        outcome = order_space(d, size, x, near);
        if (outcome.code)
            break;
        for (size_t i = 0; i < size; i++)
            at[i] = own[near[i]];
        memcpy(own, at, size * sizeof(int));
        start = first[level];
    }
    *order = outcome.code ? NULL : list;
    SCRATCH_FREE(at, near, x);
    if (outcome.code)
        scratch_free(list);
    return outcome;
}

/* ---- a group of queries and their candidates ---------------------------------------------------- */

/* Scratch of one thread. Candidates of a group have places 0, 1, .. in it. */
typedef struct {
    int room, mask, count;            /* places; of the table; taken */
    int *ids;                         /* by place */
    int *columns;                     /* of features, by place */
    int *keys, *places;               /* a table of ids by open addressing, */
    unsigned *used, turn;             /* in use where `used` is the present turn */
    unsigned *seen, query;            /* by place: the last query that had it in its pool */
    int *lists, sizes[GROUP];         /* places of the candidates of each query, padded to whole vectors */
    size_t stride;                    /* of R */
    double *panels_x, *panels_v;      /* candidates in column panels */
    const double **x, **v;            /* candidates, then queries */
    double *R, *cross;                /* candidates; queries that are none and candidates */
    const double **cross_row;         /* covariances of each query and the candidates: a row of cross or of R */
    double *start, *gone;             /* by place: variance with noise, and below what it has vanished */
    double *factor;                   /* k rows */
    double *c, *left, *least, *score; /* a value each candidate of a query */
    double *weight, *pivot, *explain; /* k */
    int *taken, *taken_id;            /* k */
    int *near;                        /* candidates that may be the next */
    double *tile, *dist;
} workspace;

static void workspace_free(workspace *all, int threads)
{
    for (int t = 0; all && t < threads; t++) {
        workspace *own = all + t;
        SCRATCH_FREE(own->ids, own->columns, own->keys, own->places, own->used, own->seen, own->lists, own->panels_x,
                     own->panels_v, own->x, own->v, own->R, own->cross, own->cross_row, own->start, own->gone,
                     own->factor, own->c, own->left, own->least, own->score, own->weight, own->pivot, own->explain,
                     own->taken, own->taken_id, own->near, own->tile, own->dist);
    }
    scratch_free(all);
}

/* Whether rows of R are computed one by one, as they are wanted. */
static int wide_pool(const select_task *task)
{
    return task->width > HUGE_POOL || (task->width > TWICE && task->width / LAZY > task->k);
}

/* The most candidates of a group. */
static int group_room(const select_task *task)
{
    int twice = 2 * task->width < TWICE ? 2 * task->width : TWICE;
    int shared = twice > SHARED ? twice : SHARED;
    return (int)padded(task->width > shared ? task->width : shared);
}

static int workspace_open(workspace *own, const select_task *task)
{
    int d = task->points->d, m = task->points->m, k = task->k;
    own->room = group_room(task);
    for (own->mask = 1; own->mask < 2 * (own->room + task->width); own->mask *= 2)
        ;
    size_t table = own->mask--, room = own->room, pool = padded(task->width), tried = room + task->width;
    size_t rows = wide_pool(task) ? 1 : room, lists = (wide_pool(task) ? 1 : GROUP) * pool;
    own->stride = room + SIMD_MAX_COLS;
    if (!SCRATCH_ALL(SCRATCH_FOR(own->ids, tried), SCRATCH_FOR(own->columns, tried), SCRATCH_FOR(own->keys, table),
                     SCRATCH_FOR(own->places, table), SCRATCH_FOR(own->used, table), SCRATCH_FOR(own->seen, tried),
                     SCRATCH_FOR(own->lists, lists), SCRATCH_FOR(own->panels_x, own->stride * d),
                     SCRATCH_FOR(own->panels_v, own->stride * m), SCRATCH_FOR(own->x, room + GROUP),
                     SCRATCH_FOR(own->v, room + GROUP), SCRATCH_FOR(own->R, rows * own->stride),
                     SCRATCH_FOR(own->cross, GROUP * own->stride), SCRATCH_FOR(own->cross_row, GROUP),
                     SCRATCH_FOR(own->start, own->stride), SCRATCH_FOR(own->gone, own->stride),
                     SCRATCH_FOR(own->factor, k * pool), SCRATCH_FOR(own->c, pool), SCRATCH_FOR(own->left, pool),
                     SCRATCH_FOR(own->least, pool), SCRATCH_FOR(own->score, pool), SCRATCH_FOR(own->weight, k),
                     SCRATCH_FOR(own->pivot, k), SCRATCH_FOR(own->explain, k), SCRATCH_FOR(own->taken, k),
                     SCRATCH_FOR(own->taken_id, k), SCRATCH_FOR(own->near, pool),
                     SCRATCH_FOR(own->tile, SIMD_MAX_ROWS * SIMD_MAX_COLS), SCRATCH_FOR(own->dist, k)))
        return 0;
    memset(own->used, 0, table * sizeof(unsigned));
    memset(own->seen, 0, tried * sizeof(unsigned));
    return 1;
}

static workspace *workspace_new(const select_task *task)
{
    workspace *all = scratch_zeros(task->threads, sizeof(workspace));
    for (int t = 0; all && t < task->threads; t++)
        if (!workspace_open(all + t, task)) {
            workspace_free(all, task->threads);
            return NULL;
        }
    return all;
}

static unsigned first_key(const workspace *own, int id)
{
    unsigned at = (unsigned)id * 2654435761u;
    return (at ^ at >> 15) & (unsigned)own->mask;
}

/* The place of a candidate in the group, which is new where none had it. */
static int find_place(workspace *own, int id)
{
    unsigned at = first_key(own, id);
    for (; own->used[at] == own->turn; at = (at + 1) & (unsigned)own->mask)
        if (own->keys[at] == id)
            return own->places[at];
    own->used[at] = own->turn;
    own->keys[at] = id;
    own->ids[own->count] = id;
    return own->places[at] = own->count++;
}

/* The same of a point that may be no candidate: -1 then. */
static int known_place(const workspace *own, int id)
{
    unsigned at = first_key(own, id);
    for (; own->used[at] == own->turn; at = (at + 1) & (unsigned)own->mask)
        if (own->keys[at] == id)
            return own->places[at] < own->count ? own->places[at] : -1;
    return -1;
}

static int admissible(const select_task *task, size_t q, int id)
{
    if (id < 0 || !task->self)
        return id >= 0;
    int row = query_row(task, q);
    return task->predecessors ? id < row : id != row;
}

static int *list_of(const workspace *own, const select_task *task, int g)
{
    return own->lists + g * padded(task->width);
}

static void fetch_features(const select_task *task, int id)
{
    size_t m = task->points->m;
    scratch_fetch(task->points->v + (task->column ? task->column[id] : id) * m, m * sizeof(double));
}

/* The candidates of the next query of a group, each once. */
static void add_query(workspace *own, const select_task *task, size_t q, int g)
{
    const int *pool = task->pool + q * task->width;
    int *list = list_of(own, task, g), count = 0;
    if (++own->query == 0) {
        memset(own->seen, 0, ((size_t)own->room + task->width) * sizeof(unsigned));
        own->query = 1;
    }
    for (int j = 0; j < task->width; j++) {
        if (!admissible(task, q, pool[j]))
            continue;
        int known = own->count, place = find_place(own, pool[j]);
        if (place == known) /* its features will be wanted soon */
            fetch_features(task, pool[j]);
        if (own->seen[place] != own->query)
            list[count++] = place;
        own->seen[place] = own->query;
    }
    own->sizes[g] = count;
    for (int j = count; j < (int)padded(count); j++)
        list[j] = 0;
}

static void start_group(workspace *own)
{
    own->count = 0;
    if (++own->turn == 0) {
        memset(own->used, 0, ((size_t)own->mask + 1) * sizeof(unsigned));
        own->turn = 1;
    }
}

/* Asks for the candidates of a query to be brought into cache. */
static void fetch_pool(const select_task *task, size_t q)
{
    scratch_fetch(task->pool + q * task->width, task->width * sizeof(int));
}

/* Takes some of the next queries for a group and returns how many: the covariances of U candidates of G queries cost
 * U^2 / 2 + G U, and the cost of one query should be least. Places of queries that were tried in vain come last, and
 * are left. */
static int choose_group(workspace *own, const select_task *task, const int *order, int most)
{
    int best = 1, count = 0;
    double least = INFINITY;
    most = wide_pool(task) ? 1 : most < GROUP ? most : GROUP;
    start_group(own);
    for (int g = 0; g < most; g++) {
        if (g + AHEAD < most)
            fetch_pool(task, order[g + AHEAD]);
        add_query(own, task, order[g], g);
        if (g > 0 && own->count > own->room)
            break;
        double cost = own->count * (0.5 * own->count / (g + 1) + 1.0);
        if (cost < least || g == 0) {
            least = cost;
            best = g + 1;
            count = own->count;
        } else if (cost > PATIENCE * least) {
            break;
        }
    }
    own->count = count;
    return best;
}

/* The variances that selection starts from, of all candidates of a group. */
static void start_values(workspace *own, const select_task *task)
{
    for (int i = 0; i < own->count; i++) {
        double residual = fmax(task->residual[own->ids[i]], 0.0), noise = task->noise[own->ids[i]];
        own->start[i] = residual + noise;
        own->gone[i] = noise == 0.0 && residual <= GONE * task->kern->variance ? INFINITY : GONE * (residual + noise);
    }
}

/* Residual covariances of all candidates of a group, and of its queries with them. */
static void fill_covariance(workspace *own, const select_task *task, const radial *rad, const int *order, int size)
{
    const metric_points *points = task->points, *from = task->from;
    int d = points->d, m = points->m, cols = simd->cols, count = own->count;
    size_t stride = own->stride;
    for (int i = 0; i < count; i++) {
        own->x[i] = points->x + (size_t)own->ids[i] * d;
        own->columns[i] = task->column ? task->column[own->ids[i]] : own->ids[i];
        own->v[i] = points->v + (size_t)own->columns[i] * m;
    }
    int others = 0, lazy = wide_pool(task);
    for (int g = 0; g < size; g++) {
        int row = query_row(task, order[g]), place = task->self && !lazy ? known_place(own, row) : -1;
        if (place >= 0) {
            own->cross_row[g] = own->R + place * stride;
            continue;
        }
        own->cross_row[g] = own->cross + others * stride;
        own->x[count + others] = from->x + (size_t)row * d;
        own->v[count + others] = from->v + (size_t)(task->column ? task->column[row] : row) * m;
        others++;
    }
    int rows = count + others;
    simd->pack_rows(d, cols, count, points->x, own->ids, own->panels_x);
    simd->pack_rows(m, cols, count, points->v, own->columns, own->panels_v);
    for (int j = 0; j < count; j += cols) {
        const double *bx = own->panels_x + (size_t)j * d, *bv = own->panels_v + (size_t)j * m;
        for (int i = lazy ? count : j; i < rows; i += 8) {
            int height = rows - i < 8 ? rows - i : 8;
            simd->residual_rows(rad, d, height, own->x + i, bx, m, own->v + i, bv, own->tile);
            int mirrored = count - i < height ? count - i : height;
            for (int a = 0; a < height; a++) {
                double *to = i + a < count ? own->R + (i + a) * stride : own->cross + (i + a - count) * stride;
                memcpy(to + j, own->tile + a * cols, cols * sizeof(double));
            }
            for (int b = 0; b < cols && j + b < count; b++) {
                double *to = own->R + (j + b) * stride + i;
                for (int a = 0; a < mirrored; a++)
                    to[a] = own->tile[a * cols + b];
            }
        }
    }
}

/* The row of R of a candidate, by place. */
static const double *covariance_row(workspace *own, const select_task *task, const radial *rad, int place)
{
    if (!wide_pool(task))
        return own->R + place * own->stride;
    int d = task->points->d, m = task->points->m, cols = simd->cols;
    for (int j = 0; j < own->count; j += cols) {
        simd->residual_rows(rad, d, 1, own->x + place, own->panels_x + (size_t)j * d, m, own->v + place,
                            own->panels_v + (size_t)j * m, own->tile);
        memcpy(own->R + j, own->tile, cols * sizeof(double));
    }
    return own->R;
}

/* ---- one query ---------------------------------------------------------------------------------- */

/* The values that selection starts from, by place in the list of a query. */
static void gather(workspace *own, int count, const int *list, const double *cross)
{
    for (int j = 0; j < count; j++) {
        own->c[j] = cross[list[j]];
        own->left[j] = own->start[list[j]];
        own->least[j] = own->gone[list[j]];
    }
    for (int j = count; j < (int)padded(count); j++) {
        own->c[j] = 0.0;
        own->left[j] = 1.0;
        own->least[j] = INFINITY;
    }
}

static int before(const workspace *own, const int *list, int i, int j) { return own->ids[list[i]] < own->ids[list[j]]; }

/* The candidate of the largest score of those that may have it, ties to the lower index; -1 for none. */
static int pick(const workspace *own, const int *list, int near)
{
    int best = -1;
    double most = 0.0;
    for (int i = 0; i < near; i++) {
        int j = own->near[i];
        double score = own->c[j] * own->c[j] / own->left[j];
        if (best < 0 || score > most || (score == most && before(own, list, j, best))) {
            best = j;
            most = score;
        }
    }
    return best;
}

/* The same where all candidates are worth nothing. */
static int pick_any(const workspace *own, const int *list, int count)
{
    int best = -1;
    for (int j = 0; j < count; j++)
        if (own->score[j] >= 0.0 && (best < 0 || before(own, list, j, best)))
            best = j;
    return best;
}

/* weight <- the regression of the query on the `taken` points: L' weight = explain. */
static void regress(workspace *own, int taken, size_t stride)
{
    for (int t = taken - 1; t >= 0; t--) {
        double sum = own->explain[t];
        for (int s = t + 1; s < taken; s++)
            sum -= own->factor[t * stride + own->taken[s]] * own->weight[s];
        own->weight[t] = sum / own->pivot[t];
    }
}

/* Query q, the g-th of a group. */
static void select_one(workspace *own, const select_task *task, const radial *rad, size_t q, int g,
                       const select_result *result)
{
    const int *list = list_of(own, task, g);
    const double *cross = own->cross_row[g], *covariance = cross;
    int count = own->sizes[g], wide = (int)padded(count), taken = 0;
    size_t row = query_row(task, q), stride = wide;
    double nothing = NOTHING * task->kern->variance, left = fmax(task->own[row], 0.0), scale = 0.0, pull = 0.0,
           *line = own->factor;
    gather(own, count, list, cross);
    for (;;) {
        /* the first step takes nothing away: it only finds the scores */
        int near = simd->select_step(wide, taken ? taken - 1 : 0, own->factor, stride, own->weight, scale, pull,
                                     own->least, covariance, list, line, own->c, own->left, own->score, own->near);
        int best = left > nothing ? pick(own, list, near) : pick_any(own, list, count);
        if (best < 0)
            break;
        double pivot = sqrt(own->left[best]);
        pull = own->c[best] / pivot;
        scale = 1.0 / pivot;
        left -= left <= nothing ? 0.0 : pull * pull;
        own->least[best] = INFINITY;
        own->taken[taken] = best;
        own->taken_id[taken] = own->ids[list[best]];
        own->pivot[taken] = pivot;
        own->explain[taken] = pull;
        if (taken + 1 == task->k) {
            taken++;
            break;
        }
        for (int u = 0; u < taken; u++)
            own->weight[u] = own->factor[u * stride + best];
        covariance = covariance_row(own, task, rad, list[best]);
        line = own->factor + taken++ * stride;
    }
    if (left <= nothing)
        left = 0.0;
    if (result->variance)
        result->variance[q] = left;
    for (int t = 0; result->id && t < task->k; t++)
        result->id[q * task->k + t] = t < taken ? own->taken_id[t] + 1 : 0;
    if (result->dist) {
        metric_distances(task->kern, task->from, row, task->points, own->taken_id, taken, own->dist);
        memcpy(result->dist + q * task->k, own->dist, taken * sizeof(double));
    }
    if (result->listen) {
        regress(own, taken, stride);
        result->listen(result->context, q, taken, own->taken_id, own->weight, left);
    }
}

static void run_block(workspace *own, const select_task *task, const radial *rad, const int *order, int count,
                      const select_result *result)
{
    for (int first = 0, size; first < count; first += size) {
        size = choose_group(own, task, order + first, count - first);
        fill_covariance(own, task, rad, order + first, size);
        select_task with = *task;
        select_result to = *result;
        for (int s = 0; s <= task->more_noises; s++) {
            start_values(own, &with);
            for (int g = 0; g < size; g++)
                select_one(own, &with, rad, order[first + g], g, &to);
            with.noise += task->points->n;
            if (to.id)
                to.id += task->count * task->k;
        }
    }
}

status select_run(const select_task *task, const select_result *result)
{
    int *order;
    radial rad = kernel_radial(task->kern);
    status outcome = order_queries(task, &order);
    if (outcome.code)
        return outcome;
    workspace *all = workspace_new(task);
    if (!all)
        outcome = status_fail(STATUS_MEMORY);
    size_t blocks = (task->count + BLOCK - 1) / BLOCK, pace = (size_t)16 * task->threads;
    for (size_t start = 0; !outcome.code && start < blocks; start += pace) {
        size_t end = start + pace < blocks ? start + pace : blocks;
        if (monitor_poll(task->mon, (double)start / (double)blocks)) {
            outcome = status_fail(STATUS_INTERRUPTED);
            break;
        }
#pragma omp parallel for num_threads(task->threads) schedule(dynamic, 1)
        for (size_t b = start; b < end; b++) {
            size_t first = b * BLOCK;
            int count = task->count - first < BLOCK ? (int)(task->count - first) : BLOCK;
            run_block(all + threads_id(), task, &rad, order + first, count, result);
        }
    }
    if (!outcome.code && monitor_poll(task->mon, 1.0))
        outcome = status_fail(STATUS_INTERRUPTED);
    workspace_free(all, task->threads);
    scratch_free(order);
    return outcome;
}

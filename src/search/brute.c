/* Brute force: every candidate of every query, in cache-sized tiles.
 *
 * The reference engine. Queries go in strips, candidates in slabs that stay in the second-level cache
 * while a strip passes over them; kernel, feature product, scaling and the comparison with the k-best
 * are fused tile by tile, so that nothing larger than a tile of correlations ever exists.
 *
 * Answers are those of lists (simd.h), as of every engine. A product in a tile differs from that of a list by no more
 * than 2 m u |v_q| |v_y| (Higham 2002, section 3.1), hence |rho| by 2 (m + 2) u s2 g_q g_y but for METRIC_SLACK.
 * Candidates that come so near to the worst of the k-best that this may decide are kept open, and lists compare them
 * with the k-best: at the end, or, where there are many, as they come. */
#include "search/query.h"
#include "base/scratch.h"
#include "simd/simd.h"
#include "base/threads.h"

#include <string.h>

#define STRIP 960         /* queries packed at once: divisible by every tile height */
#define SLAB_BYTES 400000 /* candidates packed at once */
#define POLL_SECONDS 0.1
#define BEST_MOST 4000000 /* neighbours of a strip, for them to take little memory */
#define OPEN_MOST 32      /* candidates of a query that are kept open */

typedef struct {
    int row, limit;
    kbest best;
    double slack, needed; /* of |rho|; of |r| g_y: what a candidate must have to matter */
    int by_lists, opened; /* whether the k-best is that of lists; how many candidates are open */
} brute_query;

/* What a thread works with, and the strip that it has at hand. */
typedef struct {
    size_t first, count; /* queries of the strip */
    int limit;           /* largest admissible range in it */
    double *query_x, *query_v, *point_x, *point_v, *point_gain;
    int *rows; /* of the queries */
    brute_query *queries;
    int *open;            /* strip x OPEN_MOST: what is open, */
    double *open_by_tile; /* and its distances */
    double *dist;         /* k or OPEN_MOST: of one query, by lists */
    int *id;              /* k */
    double *best_dist;    /* strip x k: the k-bests */
    int *best_id;
    query_counters counters;
} brute_scratch;

static void brute_scratch_free(brute_scratch *s)
{
    SCRATCH_FREE(s->query_x, s->query_v, s->point_x, s->point_v, s->point_gain, s->rows, s->queries, s->open,
                 s->open_by_tile, s->dist, s->id, s->best_dist, s->best_id);
}

static int brute_scratch_new(const query_task *task, size_t strip, size_t slab, brute_scratch *s)
{
    size_t d = task->points->d, m = task->points->m;
    return SCRATCH_ALL(SCRATCH_FOR(s->query_x, strip * d), SCRATCH_FOR(s->query_v, strip * m),
                       SCRATCH_FOR(s->point_x, slab * d), SCRATCH_FOR(s->point_v, slab * m),
                       SCRATCH_FOR(s->point_gain, slab), SCRATCH_FOR(s->rows, strip), SCRATCH_FOR(s->queries, strip),
                       SCRATCH_FOR(s->open, strip * OPEN_MOST), SCRATCH_FOR(s->open_by_tile, strip * OPEN_MOST),
                       SCRATCH_FOR(s->dist, task->k > OPEN_MOST ? task->k : OPEN_MOST), SCRATCH_FOR(s->id, task->k),
                       SCRATCH_FOR(s->best_dist, strip * task->k), SCRATCH_FOR(s->best_id, strip * task->k));
}

static void pack_queries(const metric_points *from, brute_scratch *s)
{
    simd->pack_rows(from->d, simd->rows, s->count, from->x, s->rows, s->query_x);
    simd->pack_rows(from->m, simd->rows, s->count, from->v, s->rows, s->query_v);
}

static void pack_points(const metric_points *points, size_t first, size_t count, brute_scratch *s)
{
    int cols = simd->cols;
    simd_pack(points->d, cols, count, points->x + first * points->d, points->d, 1, s->point_x);
    simd_pack(points->m, cols, count, points->v + first * points->m, points->m, 1, s->point_v);
    memcpy(s->point_gain, points->gain + first, count * sizeof(double));
}

/* ---- what rounding may decide ----------------------------------------------------------------- */

static double most_gain(const metric_points *points)
{
    double most = 0.0;
    for (size_t i = 0; i < points->n; i++)
        most = fmax(most, points->gain[i]);
    return most;
}

/* Twice what rounding may do to |rho| of the query in which row `row` stands. */
static double slack_of(const query_task *task, int row, double most)
{
    int m = task->points->m;
    double of_products = m ? ldexp(m + 2.0, -51) * task->kern->variance : 0.0;
    return of_products * task->from->gain[row] * most + METRIC_SLACK;
}

/* Evaluates the k-best by lists. */
static void list_best(const query_task *task, brute_query *q, brute_scratch *s)
{
    kbest *best = &q->best;
    int count = best->size;
    memcpy(s->id, best->id, count * sizeof(int));
    metric_distances(task->kern, task->from, q->row, task->points, s->id, count, s->dist);
    best->size = 0;
    for (int c = 0; c < count; c++)
        kbest_push(best, s->dist[c], s->id[c]);
    q->by_lists = 1;
}

/* Compares what is open with the k-best, by lists. */
static void close_open(const query_task *task, brute_query *q, brute_scratch *s)
{
    const int *open = s->open + (q - s->queries) * OPEN_MOST;
    if (!q->by_lists)
        list_best(task, q, s);
    metric_distances(task->kern, task->from, q->row, task->points, open, q->opened, s->dist);
    for (int c = 0; c < q->opened; c++)
        kbest_push(&q->best, s->dist[c], open[c]);
    q->opened = 0;
}

/* Whether lists may prefer a candidate to the worst of the k-best. */
static int is_open(const brute_query *q, double dist)
{
    return dist * dist <= q->best.dist[0] * q->best.dist[0] + q->slack;
}

/* Keeps a candidate open; others make room as the k-best grows better. */
static void keep_open(const query_task *task, brute_query *q, double dist, int id, brute_scratch *s)
{
    size_t first = (q - s->queries) * OPEN_MOST;
    int *open = s->open + first;
    double *by_tile = s->open_by_tile + first;
    if (q->opened == OPEN_MOST) {
        q->opened = 0;
        for (int c = 0; c < OPEN_MOST; c++)
            if (is_open(q, by_tile[c])) {
                open[q->opened] = open[c];
                by_tile[q->opened++] = by_tile[c];
            }
    }
    if (q->opened == OPEN_MOST)
        close_open(task, q, s);
    open[q->opened] = id;
    by_tile[q->opened++] = dist;
}

/* A candidate by its tile. */
static void offer(const query_task *task, brute_query *q, double dist, int id, brute_scratch *s)
{
    kbest *best = &q->best;
    if (!kbest_full(best)) {
        kbest_push(best, dist, id);
    } else if (q->by_lists) {
        keep_open(task, q, dist, id, s);
    } else {
        double left_dist = best->dist[0];
        int left = best->id[0];
        if (!kbest_push(best, dist, id)) {
            left_dist = dist;
            left = id;
        }
        if (is_open(q, left_dist))
            keep_open(task, q, left_dist, left, s);
    }
}

static void set_needed(const query_task *task, brute_query *q)
{
    double gain = task->from->gain[q->row];
    q->needed = -1.0;
    if (kbest_full(&q->best)) {
        double worst = 1.0 - q->best.dist[0] * q->best.dist[0] - q->slack;
        if (gain == 0.0) /* all candidates tie at 1, and the lowest came first */
            q->needed = INFINITY;
        else if (worst > 0.0)
            q->needed = worst / gain;
    }
}

/* One row of a tile: the candidates first + 0 .. width - 1 of a query. */
static void offer_row(const query_task *task, brute_query *q, const double *r, const double *gain, int first, int width,
                      brute_scratch *s)
{
    if (q->limit < first + width)
        width = q->limit - first;
    if (width <= 0)
        return;
    uint32_t live = simd->at_least(r, gain, q->needed) & UINT32_MAX >> (32 - width);
    if (!live)
        return;
    for (; live; live &= live - 1) {
        int j = __builtin_ctz(live), id = first + j;
        if (task->self && id == q->row)
            continue;
        double rho = metric_correlation(r[j], task->from->variance[q->row], task->points->variance[id]);
        offer(task, q, metric_distance(rho), id, s);
    }
    set_needed(task, q);
}

static void strip_over_slab(const query_task *task, const radial *rad, size_t first, size_t count, brute_scratch *s)
{
    int rows = simd->rows, cols = simd->cols, d = task->points->d, m = task->points->m;
    double tile[SIMD_MAX_ROWS * SIMD_MAX_COLS] __attribute__((aligned(64)));
    for (size_t i = 0; i < s->count; i += rows) {
        size_t height = s->count - i < (size_t)rows ? s->count - i : (size_t)rows, limit = 0;
        for (size_t a = i; a < i + height; a++) /* that of the tile's queries, not of the whole strip */
            limit = (size_t)s->queries[a].limit > limit ? (size_t)s->queries[a].limit : limit;
        for (size_t j = 0; j < count && first + j < limit; j += cols) {
            simd->residual_tile(rad, d, s->query_x + i * d, s->point_x + j * d, m, s->query_v + i * m,
                                s->point_v + j * m, tile);
            s->counters.correlations += (double)height * cols;
            int width = count - j < (size_t)cols ? (int)(count - j) : cols;
            for (size_t a = 0; a < height; a++)
                offer_row(task, &s->queries[i + a], tile + a * cols, s->point_gain + j, (int)(first + j), width, s);
        }
    }
}

/* The strip that starts with query `first`. */
static void set_queries(const query_task *task, size_t first, size_t most, double most_gain, brute_scratch *s)
{
    size_t k = task->k, left = first < task->count ? task->count - first : 0;
    s->first = first;
    s->count = left < most ? left : most;
    s->limit = 0;
    for (size_t i = 0; i < s->count; i++) {
        int row = s->rows[i] = query_row(task, first + i), limit = query_limit(task, first + i);
        s->limit = limit > s->limit ? limit : s->limit;
        s->queries[i] = (brute_query){.row = row,
                                      .limit = limit,
                                      .slack = slack_of(task, row, most_gain),
                                      .needed = -1.0,
                                      .best = {task->k, 0, s->best_dist + i * k, s->best_id + i * k, 0}};
    }
}

status query_brute(const query_task *task, query_result *result)
{
    double most = most_gain(task->points);
    size_t m = task->points->m, cols = simd->cols;
    size_t slab = SLAB_BYTES / (sizeof(double) * (m + task->points->d)) / cols * cols;
    slab = slab < 4 * cols ? 4 * cols : slab;
    size_t strip_size = STRIP;
    while (strip_size > 60 && task->count < strip_size * task->threads)
        strip_size = strip_size / 2 / 60 * 60; /* few queries: a strip for each thread */
    while (strip_size > 60 && strip_size * task->k > BEST_MOST)
        strip_size = strip_size / 2 / 60 * 60;
    int threads = task->threads;
    radial rad = kernel_radial(task->kern);
    status outcome = status_ok();
    brute_scratch *scratch = scratch_zeros(threads, sizeof(*scratch));
    if (!scratch)
        outcome = status_fail(STATUS_MEMORY);
    for (int t = 0; t < threads && !outcome.code; t++)
        if (!brute_scratch_new(task, strip_size, slab, &scratch[t]))
            outcome = status_fail(STATUS_MEMORY);

    for (size_t done = 0; done < task->count && !outcome.code; done += strip_size * threads) {
        size_t admissible = 0;
        for (int t = 0; t < threads; t++) {
            set_queries(task, done + t * strip_size, strip_size, most, &scratch[t]);
            admissible = (size_t)scratch[t].limit > admissible ? (size_t)scratch[t].limit : admissible;
        }
        /* Each parallel region covers as many slabs as fit between two polls. */
        size_t slabs = 1;
        for (size_t first = 0, last; first < admissible || first == 0; first = last) {
            double start = threads_seconds();
            last = first + slab * slabs < admissible ? first + slab * slabs : admissible;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
            for (int t = 0; t < threads; t++) {
                brute_scratch *own = &scratch[t];
                if (first == 0)
                    pack_queries(task->from, own);
                for (size_t at = first; at < last && at < (size_t)own->limit; at += slab) {
                    size_t count = last - at < slab ? last - at : slab;
                    pack_points(task->points, at, count, own);
                    strip_over_slab(task, &rad, at, count, own);
                }
                for (size_t i = 0; i < own->count && last == admissible; i++) {
                    close_open(task, &own->queries[i], own);
                    query_close(task, own->first + i, &own->queries[i].best, result);
                }
            }
            if (admissible == 0)
                break;
            size_t left = task->count - done, round = strip_size * threads < left ? strip_size * threads : left;
            double fraction = (double)last / (double)admissible * (double)round;
            if (monitor_poll(task->mon, ((double)done + fraction) / (double)task->count)) {
                outcome = status_fail(STATUS_INTERRUPTED);
                break;
            }
            if (threads_seconds() - start < POLL_SECONDS / 2)
                slabs *= 2;
            else if (threads_seconds() - start > 2 * POLL_SECONDS && slabs > 1)
                slabs /= 2;
        }
    }
    for (int t = 0; t < threads && scratch; t++) {
        query_counters_add(&result->counters, &scratch[t].counters);
        brute_scratch_free(&scratch[t]);
    }
    scratch_free(scratch);
    return outcome;
}

#include "search/distinct.h"

#include "base/heap.h"
#include "base/scratch.h"
#include "base/threads.h"
#include "model/places.h"

#include <math.h>
#include <string.h>

#define SHARE 2       /* so many times as many points as places, */
#define CROWDED 64.0  /* or so many copies of itself that a point meets on average, are worth it */
#define FEW 64        /* unless one of so many points is a query */
#define REPAYS 110.0  /* copies that are not met, for each place that gets an index though the points have one */
#define SPREAD 100000 /* queries whose answers are spread between two polls */

/* ---- whether --------------------------------------------------------------------------------- */

/* The places of points, or none where they hardly have copies. */
static status find_places(const metric_points *points, int crowds, places *out)
{
    int likely;
    *out = (places){0};
    status outcome = places_likely(points->n, points->d, points->x, &likely);
    if (outcome.code || !likely)
        return outcome;
    outcome = places_find(points, out);
    if (!outcome.code && (size_t)out->count > points->n / SHARE && !(crowds && places_crowding(out) >= CROWDED))
        places_free(out);
    return outcome;
}

/* Whether searching the places repays an index of them. */
static int repays(const query_task *task, const places *of)
{
    return !task->stored.memory || (double)task->count * places_crowding(of) > REPAYS * (double)of->count;
}

/* ---- the queries ----------------------------------------------------------------------------- */

/* Queries of one place and limit are one. Where queries 0, 1 and 2 stand at places 7, 4 and 7, two are searched, of
 * rows 7 and 4: the first for queries 0 and 2. */
typedef struct {
    size_t count;
    int *rows, *limits;   /* of each; limits for predecessors */
    int *first, *queries; /* where the task's queries of each start (count + 1), and these */
} merged;

static void merged_free(merged *all) { SCRATCH_FREE(all->rows, all->limits, all->first, all->queries); }

/* The place of a row, and its own where places are none. */
static int place_of(const places *p, int row) { return p->n ? p->place[row] : row; }

/* `at` are the places of the queries; those of the candidates, `of`, are the same where queries are points. Rows are
 * places in that case, and first points otherwise. `last` is by place the merged query that came last, `own` by query
 * the one that it is part of. */
static int merge_queries(const query_task *task, const places *at, const places *of, merged *out)
{
    size_t count = task->count, places = at->n ? (size_t)at->count : task->from->n;
    int *last, *own, ok;
    memset(out, 0, sizeof(*out));
    ok = SCRATCH_ALL(SCRATCH_FOR(out->rows, count), SCRATCH_FOR(out->limits, count), SCRATCH_FOR(out->first, count + 2),
                     SCRATCH_FOR(out->queries, count), SCRATCH_FOR(last, places), SCRATCH_FOR(own, count));
    if (ok) {
        memset(last, 0xff, places * sizeof(int));
        for (size_t q = 0; q < count; q++) {
            int row = query_row(task, q), place = place_of(at, row), found = last[place],
                limit = task->predecessors ? places_before(of, query_limit(task, q)) : 0;
            if (found < 0 || (task->predecessors && out->limits[found] != limit)) {
                found = last[place] = (int)out->count++;
                out->rows[found] = task->self ? place : at->n ? at->member[at->first[place]] : row;
                if (task->predecessors)
                    out->limits[found] = limit;
            }
            own[q] = found;
        }
        memset(out->first, 0, (out->count + 2) * sizeof(int)); /* filled as in places.c */
        for (size_t q = 0; q < count; q++)
            out->first[own[q] + 2]++;
        for (size_t c = 1; c < out->count; c++)
            out->first[c + 1] += out->first[c];
        for (size_t q = 0; q < count; q++)
            out->queries[out->first[own[q] + 1]++] = (int)q;
    }
    SCRATCH_FREE(last, own);
    return ok;
}

/* ---- the answers ------------------------------------------------------------------------------ */

/* What spreading needs to know. */
typedef struct {
    const query_task *task, *inner;
    const places *of;
    const merged *all;
    const int *id; /* the answers of the inner task, count x k by columns */
    const double *dist;
    query_result *result;
} spreading;

/* Of the copies at a place, from position `at` of the members on, the first candidate goes to the heap. */
static void push_copy(const places *of, int place, int at, double dist, int self, int limit, heap_item *heap, int *size)
{
    int end = of->first[place + 1];
    at += at < end && of->member[at] == self;
    if (at < end && of->member[at] < limit)
        heap_push(heap, size, (heap_item){dist, 0.0, of->member[at], at});
}

/* The answer of one query, from the nearest places of its merged one; `heap` has room for one more than these. */
static void spread_one(const spreading *s, size_t found, size_t q, double own_dist, heap_item *heap, int *id,
                       double *dist)
{
    const query_task *task = s->task;
    const places *of = s->of;
    size_t count = s->inner->count;
    int size = 0, filled = 0, limit = query_limit(task, q), row = query_row(task, q), self = task->self ? row : -1;
    for (int j = 0; j < s->inner->k && s->id[found + j * count]; j++) {
        int place = s->id[found + j * count] - 1;
        push_copy(of, place, of->first[place], s->dist[found + j * count], self, limit, heap, &size);
    }
    if (task->self)
        push_copy(of, of->place[row], of->first[of->place[row]], own_dist, self, limit, heap, &size);
    while (size && filled < task->k) {
        heap_item next = heap_pop(heap, &size);
        id[filled] = next.id + 1;
        dist[filled++] = next.key;
        push_copy(of, of->place[next.id], next.more + 1, next.key, self, limit, heap, &size);
    }
    for (; filled < task->k; filled++)
        id[filled] = 0;
    answers_give(s->result->given, query_slot(task, q), id, dist);
}

/* The answers of the queries of a merged one. */
static void spread(const spreading *s, size_t found, heap_item *heap, int *id, double *dist)
{
    const query_task *task = s->task, *inner = s->inner;
    const int *queries = s->all->queries;
    double own_dist = 0.0;
    if (s->of->n && task->self) {
        int row = query_row(inner, found);
        metric_distances(inner->kern, inner->points, row, inner->points, &row, 1, &own_dist);
    }
    for (int j = 0; j < task->k && !s->of->n; j++) { /* places are points */
        id[j] = j < inner->k ? s->id[found + j * inner->count] : 0;
        dist[j] = id[j] ? s->dist[found + j * inner->count] : 0.0;
    }
    for (int i = s->all->first[found]; i < s->all->first[found + 1]; i++)
        if (s->of->n)
            spread_one(s, found, queries[i], own_dist, heap, id, dist);
        else
            answers_give(s->result->given, query_slot(task, queries[i]), id, dist);
}

static status spread_all(const spreading *s)
{
    const query_task *task = s->task;
    size_t k = task->k, heap = s->inner->k + 1;
    int threads = task->threads;
    heap_item *heaps;
    int *ids;
    double *dists;
    status outcome = status_fail(STATUS_MEMORY);
    if (SCRATCH_ALL(SCRATCH_FOR(heaps, threads * heap), SCRATCH_FOR(ids, threads * k), SCRATCH_FOR(dists, threads * k)))
        outcome = status_ok();
    for (size_t done = 0; done < s->inner->count && !outcome.code; done += SPREAD) {
        size_t last = s->inner->count - done < SPREAD ? s->inner->count : done + SPREAD;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 64)
        for (size_t found = done; found < last; found++) {
            int t = threads_id();
            spread(s, found, heaps + t * heap, ids + t * k, dists + t * k);
        }
        if (monitor_poll(task->mon, 1.0))
            outcome = status_fail(STATUS_INTERRUPTED);
    }
    SCRATCH_FREE(heaps, ids, dists);
    return outcome;
}

/* ---- both ------------------------------------------------------------------------------------- */

/* The task whose candidates are places, and whose queries are merged ones. */
static void set_inner(const query_task *task, const places *of, const metric_points *distinct, const merged *all,
                      query_task *inner)
{
    *inner = *task;
    inner->count = all->count;
    inner->rows = all->rows;
    inner->limits = task->predecessors ? all->limits : NULL;
    inner->slot = NULL;
    if (!of->n)
        return;
    inner->points = distinct;
    if (task->self)
        inner->from = distinct;
    if (task->self && !task->rows && !task->predecessors) /* all, in their order */
        inner->rows = NULL;
    inner->k = task->k < of->count ? task->k : of->count;
    inner->stored = (index_pack){NULL, 0, 0};
}

static status run_inner(const char *method, const spreading *s, query_task *inner, int *id, double *dist)
{
    answers given;
    query_result result = *s->result;
    result.given = &given;
    status outcome = answers_new(inner->count, inner->k, id, dist, &given);
    if (!outcome.code)
        outcome = query_run(method, inner, &result);
    if (!outcome.code)
        answers_settle(&given, inner->threads);
    answers_free(&given);
    result.given = s->result->given;
    *s->result = result;
    return outcome.code ? outcome : spread_all(s);
}

static status run_distinct(const char *method, const query_task *task, const places *of, const places *at,
                           query_result *result)
{
    merged all;
    metric_points distinct = *task->points;
    query_task inner;
    double *memory = NULL, *dist = NULL;
    int *id = NULL, ok = merge_queries(task, at, of, &all);
    if (ok && of->n)
        ok = (memory = places_points(of, task->points, task->threads, &distinct)) != NULL;
    if (ok) {
        set_inner(task, of, &distinct, &all, &inner);
        id = scratch_alloc(inner.count * inner.k, sizeof(int));
        dist = scratch_alloc(inner.count * inner.k, sizeof(double));
    }
    spreading s = {task, &inner, of, &all, id, dist, result};
    status outcome = id && dist ? run_inner(method, &s, &inner, id, dist) : status_fail(STATUS_MEMORY);
    merged_free(&all);
    SCRATCH_FREE(memory, id, dist);
    return outcome;
}

/* Brute force is the plain reference, and a finite budget limits what copies cost. */
status distinct_run(const char *method, const query_task *task, query_result *result)
{
    places of = {0}, at = {0};
    status outcome = status_ok();
    if (strcmp(method, "brute") == 0 || isfinite(task->budget))
        return query_run(method, task, result);
    if (task->count >= task->points->n / FEW)
        outcome = find_places(task->points, 1, &of);
    if (of.n && !repays(task, &of))
        places_free(&of);
    if (!outcome.code && !task->self)
        outcome = find_places(task->from, 0, &at);
    if (!outcome.code)
        outcome = of.n || at.n ? run_distinct(method, task, &of, task->self ? &of : &at, result)
                               : query_run(method, task, result);
    places_free(&of);
    places_free(&at);
    return outcome;
}

/* The form of the places' index serves the points too; on a sample of these, copies would take long. */
status distinct_index(const query_task *task, int eager, index_search *index)
{
    places of;
    metric_points distinct;
    query_task inner = *task;
    index_search chosen;
    status outcome = find_places(task->points, 1, &of);
    if (outcome.code || !of.n)
        return outcome.code ? outcome : query_index(task, eager, index);
    double *memory = places_points(&of, task->points, task->threads, &distinct);
    inner.points = inner.from = &distinct;
    outcome = memory ? query_index(&inner, eager, &chosen) : status_fail(STATUS_MEMORY);
    if (!outcome.code) {
        const screening_form *form = chosen.form;
        double cost = chosen.cost;
        index_free(&chosen);
        index_none(task->points, index);
        if (form)
            outcome = index_build(task->source, task->points, form, task->threads, task->mon, index);
        index->cost = index->form ? cost : INFINITY;
    }
    scratch_free(memory);
    places_free(&of);
    return outcome;
}

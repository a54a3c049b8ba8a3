/* Best-first search: for each query, the nodes of the tree by what they may still hold.
 *
 * A heap holds nodes by their bound on |rho| (nodes.h), the largest first, ties by distance. An
 * inner node is replaced by its children, the points of a leaf are evaluated by the metric and go
 * to the k-best; it ends when no bound left can enter it. Nodes without an admissible index are
 * cut. If queries are few, what the bounds of a node are made of is made when the first query meets
 * it: a single query does far less than touch every point.
 *
 * A few queries spread over all show whether bounds skip enough. Where the expansion bound does
 * not, the angle bound is added if it can repay itself; where that does not either, the queries go
 * to brute force, whose tiles are about PAYS times faster for each pair.
 *
 * A finite budget is the largest number of correlations for a query. Then leaves are taken in the
 * order of their distance: bounds only say what can be skipped. */
#include "search/query_best.h"
#include "partition/nodes.h"
#include "search/query.h"
#include "base/scratch.h"
#include "base/threads.h"

#include <string.h>

#define LAZY_QUERIES 12    /* up to so many, on one thread, bounds are made when met */
#define ANGLE_QUERIES 1000 /* fewer do not repay the angles */
#define SAMPLE 4
#define PAYS 10
#define LEAST 5000 /* candidates that any query may act as if it had */
#define LIST 256
#define PENDING 24 /* correlations are fastest some at a time */
#define POLL_SECONDS 0.1

typedef struct {
    node_query query;
    promise_heap heap;
    node_bound *bound;  /* nodes: of those in the heap */
    int pending, *list; /* LIST: points to evaluate */
    double *dist;       /* LIST */
    double *best_dist;  /* k: the k-best */
    int *best_id;
    double spent, allowed; /* correlations for this query, and when to give it up */
    query_counters counters;
} best_scratch;

/* ---- one query ------------------------------------------------------------------------------ */

/* What a bound must reach for its node to matter. */
static double threshold(const kbest *best)
{
    return kbest_full(best) ? 1.0 - best->dist[0] * best->dist[0] - METRIC_SLACK : -1.0;
}

/* Evaluates the points of the list, as far as the budget goes. */
static void evaluate(const query_task *task, best_scratch *s, kbest *best)
{
    double left = task->budget - s->spent;
    int count = s->pending < left ? s->pending : (int)left;
    metric_distances(task->kern, task->from, s->query.row, task->points, s->list, count, s->dist);
    for (int i = 0; i < count; i++)
        kbest_push(best, s->dist[i], s->list[i]);
    s->counters.correlations += count;
    s->spent += count;
    s->pending = 0;
}

/* Pairs on inducing inputs, for which bounds do not hold. */
static void evaluate_specials(const query_task *task, const nodes *b, int limit, best_scratch *s,
                              kbest *best)
{
    for (int i = 0; i < b->special.count; i++) {
        int id = b->special.ids[i];
        if (id < limit && !(task->self && id == s->query.row))
            s->list[s->pending++] = id;
        if (s->pending == LIST)
            evaluate(task, s, best);
    }
    evaluate(task, s, best);
}

/* Lists the points of a leaf that may still enter. */
static void open_leaf(const query_task *task, const nodes *b, const node_bound *leaf, int limit,
                      best_scratch *s, kbest *best)
{
    const tree *t = b->structure;
    int last = t->first[leaf->node] + t->count[leaf->node], fresh = 0;
    for (int i = t->first[leaf->node]; i < last; i++) {
        int id = t->perm[i];
        int skip =
            (task->self && id == s->query.row) || (s->query.special && b->special.rank[id] >= 0);
        if (id < limit && !skip)
            s->list[s->pending + fresh++] = id;
        if (s->pending + fresh == LIST || i + 1 == last) {
            s->counters.screened += fresh;
            s->pending +=
                nodes_screen(b, &s->query, leaf, threshold(best), fresh, s->list + s->pending);
            fresh = 0;
            if (s->pending >= PENDING)
                evaluate(task, s, best);
        }
    }
}

static void open_inner(const query_task *task, nodes *b, const node_bound *node, int limit,
                       best_scratch *s, const kbest *best)
{
    int exact = isinf(task->budget), count = b->structure->children[node->node];
    node_bound bounds[TREE_FANOUT];
    double reach = threshold(best);
    nodes_expansion(b, &s->query, node, bounds);
    for (int c = 0; c < count; c++) {
        node_bound *bound = &bounds[c];
        if (b->least[bound->node] >= limit)
            continue;
        s->counters.bounds++;
        if (b->angle && exact && bound->upper >= reach) {
            bound->upper = fmin(bound->upper, nodes_angle(b, &s->query, bound->node));
            s->counters.correlations++;
        }
        if (bound->upper < reach) {
            s->counters.pruned++;
            continue;
        }
        if (!exact || bound->upper > 1.0)
            bound->upper = 1.0;
        s->bound[bound->node] = *bound;
        promise_push(&s->heap, (promise){bound->upper, bound->away, bound->node});
    }
}

/* Returns 0, without an answer, when the query takes more than it is allowed. */
static int search_query(const query_task *task, nodes *b, size_t q, best_scratch *s,
                        query_result *result)
{
    int row = query_row(task, q), limit = query_limit(task, q);
    kbest best = {task->k, 0, s->best_dist, s->best_id, 0};
    if (task->from->scale[row] == 0.0) { /* 1 from all: the first k are the answer */
        for (int j = 0; j < limit && best.size < task->k; j++)
            if (!task->self || j != row)
                kbest_push(&best, 1.0, j);
        limit = 0;
    }
    s->heap.size = s->pending = 0;
    s->spent = 0.0;
    if (limit > 0) {
        nodes_query_set(b, task->from, row, &s->query);
        if (s->query.special && isinf(task->budget))
            evaluate_specials(task, b, limit, s, &best);
        s->bound[0] = (node_bound){0, 1.0, 0.0, 0.0, INFINITY};
        promise_push(&s->heap, (promise){1.0, 0.0, 0});
    }
    while (s->heap.size > 0 && s->spent + s->pending < task->budget) {
        if (s->spent > s->allowed)
            return 0;
        node_bound top = s->bound[promise_pop(&s->heap).part];
        if (top.upper < threshold(&best)) {
            s->counters.pruned += s->heap.size + 1;
            break;
        }
        s->counters.nodes++;
        if (b->structure->children[top.node])
            open_inner(task, b, &top, limit, s, &best);
        else
            open_leaf(task, b, &top, limit, s, &best);
    }
    evaluate(task, s, &best);
    if (limit > 0 && s->query.special && isfinite(task->budget)) /* with what is left */
        evaluate_specials(task, b, limit, s, &best);
    query_close(task, q, &best, result);
    return 1;
}

/* ---- all queries ---------------------------------------------------------------------------- */

static void scratch_release(best_scratch *s)
{
    void *held[] = {s->query.weight, s->heap.waiting, s->bound,  s->list,
                    s->dist,         s->best_dist,    s->best_id};
    for (size_t i = 0; i < sizeof(held) / sizeof(*held); i++)
        scratch_free(held[i]);
}

static int scratch_reserve(const query_task *task, const tree *structure, best_scratch *s)
{
    s->query.weight = scratch_alloc(2 * (size_t)task->points->m + 1, sizeof(double));
    s->heap.waiting = scratch_alloc(structure->nodes, sizeof(promise));
    s->bound = scratch_alloc(structure->nodes, sizeof(node_bound));
    s->list = scratch_alloc(LIST, sizeof(int));
    s->dist = scratch_alloc(LIST, sizeof(double));
    s->best_dist = scratch_alloc(task->k, sizeof(double));
    s->best_id = scratch_alloc(task->k, sizeof(int));
    return s->query.weight && s->heap.waiting && s->bound && s->list && s->dist && s->best_dist &&
           s->best_id;
}

/* Whether bounds leave enough out on SAMPLE queries, from `offset` and spread over all. */
static int sample_pays(const query_task *task, nodes *b, size_t offset, best_scratch *s,
                       query_result *result)
{
    size_t at[SAMPLE], tries = task->count < SAMPLE ? task->count : SAMPLE;
    int pays = 1;
    s->allowed = 0.0;
    for (size_t i = 0; i < tries; i++) {
        at[i] = (task->count * i / tries + offset) % task->count;
        s->allowed += (query_limit(task, at[i]) + LEAST) / (double)PAYS;
    }
    for (size_t i = 0; i < tries && pays; i++) {
        pays = search_query(task, b, at[i], s, result);
        s->allowed -= s->spent;
    }
    s->allowed = INFINITY;
    return pays;
}

static status search_all(const query_task *task, nodes *b, int threads, best_scratch *scratch,
                         query_result *result)
{
    size_t chunk = 16 * threads;
    for (size_t done = 0, last; done < task->count; done = last) {
        double start = threads_seconds();
        last = done + chunk < task->count ? done + chunk : task->count;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
        for (size_t q = done; q < last; q++)
            search_query(task, b, q, &scratch[threads_id()], result);
        if (monitor_poll(task->mon, (double)last / (double)task->count))
            return status_fail(STATUS_INTERRUPTED);
        double spent = threads_seconds() - start;
        if (spent < POLL_SECONDS)
            chunk *= 2;
        else if (spent > 2 * POLL_SECONDS && chunk > (size_t)threads)
            chunk /= 2;
    }
    return status_ok();
}

static status search(const query_task *task, nodes *b, int threads, best_scratch *scratch,
                     query_result *result)
{
    if (isinf(task->budget)) {
        int pays = b->expands && sample_pays(task, b, 0, scratch, result);
        if (pays && task->count <= SAMPLE)
            return status_ok();
        if (!pays && task->count >= ANGLE_QUERIES) {
            status outcome = nodes_angles(b, threads, task->mon);
            if (outcome.code)
                return outcome;
            pays = sample_pays(task, b, 1, scratch, result);
        }
        if (!pays) {
            result->note = "on a sample, bounds skipped too little: by tiles of brute force";
            return query_brute(task, result);
        }
    }
    if (task->count > LAZY_QUERIES) {
        status outcome = nodes_fill(b, threads, task->mon);
        if (outcome.code)
            return outcome;
    }
    return search_all(task, b, threads, scratch, result);
}

status query_best_nodes(const query_task *task, query_result *result)
{
    int threads =
        task->count > LAZY_QUERIES ? task->threads : 1; /* lazy terms are for one thread */
    tree built = {0};
    nodes b = {0};
    status outcome = status_ok();
    const tree *structure = task->structure;
    if (!structure) {
        outcome = tree_build(task->points->d, task->points->n, task->points->x, CELLS_LEAF,
                             task->threads, task->mon, &built);
        structure = &built;
    }
    best_scratch *scratch = outcome.code ? NULL : scratch_zeros(threads, sizeof(*scratch));
    if (!outcome.code)
        outcome = nodes_build(task->source, structure, task->points, task->threads, &b);
    if (!scratch && !outcome.code)
        outcome = status_fail(STATUS_MEMORY);
    for (int t = 0; t < threads && !outcome.code; t++) {
        scratch[t].allowed = INFINITY;
        if (!scratch_reserve(task, structure, &scratch[t]))
            outcome = status_fail(STATUS_MEMORY);
    }
    if (!outcome.code)
        outcome = search(task, &b, threads, scratch, result);
    for (int t = 0; t < threads && scratch; t++) {
        query_counters_add(&result->counters, &scratch[t].counters);
        scratch_release(&scratch[t]);
    }
    scratch_free(scratch);
    nodes_free(&b);
    tree_free(&built);
    return outcome;
}

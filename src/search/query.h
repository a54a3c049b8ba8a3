/* Query: the one contract of every search engine.
 *
 * A query has the same inputs, the same admissible candidates, the same outputs and the same counters
 * whichever engine answers it, and the answer is the same: the k candidates of smallest distance,
 * ties to the lower index. Candidates of query q are the points j < query_limit(q), but for q itself where `self` is
 * set.
 * Engines poll the monitor on the main thread between parallel regions. */
#ifndef VECCHIANN_QUERY_H
#define VECCHIANN_QUERY_H

#include "search/answers.h"
#include "search/index.h"
#include "base/kbest.h"
#include "model/metric.h"
#include "base/status.h"

static inline void query_counters_add(query_counters *sum, const query_counters *more)
{
    sum->nodes += more->nodes;
    sum->bounds += more->bounds;
    sum->pruned += more->pruned;
    sum->screened += more->screened;
    sum->correlations += more->correlations;
    sum->scattered += more->scattered;
}

typedef struct {
    const kernel *kern;
    const metric_points *points; /* the candidates */
    const metric_points *from;   /* where the queries stand; may be `points` */
    size_t count;                /* number of queries */
    const int *rows;             /* their rows in `from`; NULL is 0 .. count - 1 */
    int self;                    /* nonzero: the queries are points and must not find themselves */
    int predecessors;            /* nonzero: candidates are the points before the query, */
    const int *limits;           /* or before these, one for each query; NULL is its row */
    const int *slot;             /* where each query's answer goes; NULL is its number */
    int k, threads;
    double budget;               /* largest number of correlations evaluated for a query; INFINITY is exact */
    const metric_source *source; /* what the features come from, for what bounds and screens are made of */
    index_pack stored;           /* an index of the candidates that was kept, or none */
    const index_search *index;   /* set by the dispatcher for engines that need it */
    const monitor *mon;
} query_task;

typedef struct {
    answers *given; /* NULL where only counters are wanted */
    query_counters counters;
    const char *method; /* the engine that answered */
    const char *note;   /* why, where the choice was ours */
} query_result;

static inline int query_row(const query_task *task, size_t q) { return task->rows ? task->rows[q] : (int)q; }

static inline int query_limit(const query_task *task, size_t q)
{
    return !task->predecessors ? (int)task->points->n : task->limits ? task->limits[q] : query_row(task, q);
}

static inline int query_slot(const query_task *task, size_t q) { return task->slot ? task->slot[q] : (int)q; }

/* Some queries of a task, as a task of their own. */
typedef struct {
    query_task task;
    int *rows, *limits, *slot;
} query_part;

/* With room for so many and none in it; 0 without memory. Whatever else is to be different is set in its task. */
int query_part_new(const query_task *whole, size_t room, query_part *out);
void query_part_add(const query_task *whole, size_t q, query_part *part);
void query_part_free(query_part *part);

/* Makes of the k-best of a query its answer: ids from 1, and 0 where there is no neighbour. */
static inline void query_close(const query_task *task, size_t q, kbest *best, query_result *result)
{
    kbest_sort(best);
    if (!result->given)
        return;
    for (int j = 0; j < best->k; j++)
        best->id[j] = j < best->size ? best->id[j] + 1 : 0;
    answers_give(result->given, query_slot(task, q), best->id, best->dist);
}

status query_brute(const query_task *task, query_result *result);
status query_level(const query_task *task, query_result *result);

status query_best(const query_task *task, query_result *result);

/* Whether queries are so few, and so far apart, that best-first search of the index is faster than blocks. */
int query_best_serves(const query_task *task);

/* Builds the index of a task's candidates in the form that costs less on a sample of them. Unless `eager`, one
 * that might cost much of what it can save is not tried. */
status query_index(const query_task *task, int eager, index_search *index);

/* Runs the named method: "brute", "level", "best_first", or "auto", which chooses. A finite budget is
 * for best_first, which the other two then become. */
status query_run(const char *method, const query_task *task, query_result *result);

#endif

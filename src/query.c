/* The dispatcher: names of engines, the choice among them, and prefixes for predecessors. */
#include "query.h"

#include "scratch.h"

#include <string.h>

/* Costs in units of one double-precision product, measured on one machine: only their order of
 * magnitude matters, for a choice between ways that give the same answer. */
#define COST_KERNEL 50.0       /* a kernel value in double */
#define COST_SCREENED 30.0     /* a screened pair, but for its product */
#define COST_CORRELATION 4.0   /* of a single correlation, for each product */
#define COST_INDEX 600.0       /* the index, for each point and feature */
#define INDEX_QUERIES 700      /* fewer queries do not repay an index */
#define PREFIX_SHRINK 4        /* ratio of the prefixes that serve predecessors */
#define PREFIX_LEAST 2000      /* shorter prefixes go by brute force */
#define SAMPLE_BLOCKS 4
#define SAMPLE_BLOCK 64

/* A part of the work of another monitor. */
typedef struct {
    const monitor *whole;
    double done, share;
} partial;

static int poll_partial(void *context, double fraction)
{
    const partial *part = context;
    return monitor_poll(part->whole, part->done + part->share * fraction);
}

static double brute_cost(const query_task *task)
{
    return (double)task->points->n * (task->points->m + COST_KERNEL);
}

/* The level engine's cost of a query, from the counters of a few blocks spread over the queries. */
static status sample_cost(const query_task *task, double *cost)
{
    const index_set *from = task->index->from, *points = &task->index->points;
    size_t n = task->from->n, count = SAMPLE_BLOCKS * SAMPLE_BLOCK;
    query_task sample = *task;
    query_result result = {0};
    int *rows = scratch_alloc(count, sizeof(int));
    result.id = scratch_alloc(count * task->k, sizeof(int));
    result.dist = scratch_alloc(count * task->k, sizeof(double));
    status outcome = status_fail(STATUS_MEMORY);
    if (rows && result.id && result.dist) {
        for (size_t i = 0; i < count; i++)
            rows[i] = from->order.perm[n / SAMPLE_BLOCKS * (i / SAMPLE_BLOCK) + i % SAMPLE_BLOCK];
        sample.rows = rows;
        sample.slot = NULL;
        sample.count = count;
        outcome = query_level(&sample, &result);
        double width = task->index->form == INDEX_SUBSPACES ? 32.0
                       : points->integers.bits == 8         ? task->points->m / 8.0
                                                            : task->points->m / 4.0;
        *cost = (result.counters.screened * (COST_SCREENED + width) +
                 result.counters.correlations * COST_CORRELATION * (task->points->m + COST_KERNEL)) /
                (double)count;
    }
    scratch_free(rows);
    scratch_free(result.id);
    scratch_free(result.dist);
    return outcome;
}

/* The level engine, or brute force where a sample says so, with an index of its own. */
static status run_indexed(const char *method, const query_task *task, query_result *result)
{
    index_search index;
    query_task indexed = *task;
    status outcome = index_build(task->source, task->structure, task->points, task->from,
                                 task->kept, task->threads, &index);
    if (outcome.code)
        return outcome;
    indexed.index = &index;
    int choose = strcmp(method, "auto") == 0, brute = 0;
    if (choose && task->from->n >= SAMPLE_BLOCKS * SAMPLE_BLOCK) {
        double cost = 0.0;
        outcome = sample_cost(&indexed, &cost);
        brute = !outcome.code && cost > brute_cost(task);
    }
    if (outcome.code) {
        index_free(&index);
        return outcome;
    }
    if (choose)
        result->note = brute ? "auto: on a sample, screening left too much for it to pay"
                       : index.form == INDEX_SUBSPACES
                           ? "auto: cells skipped and screened by subspaces of landmarks"
                       : index.points.integers.bits == 8 ? "auto: screening with 8-bit integers"
                                                         : "auto: screening with 16-bit integers";
    if (brute) {
        index_free(&index);
        result->method = "brute";
        return query_brute(task, result);
    }
    result->method = "level";
    outcome = query_level(&indexed, result);
    index_free(&index);
    return outcome;
}

static status run_plain(const char *method, const query_task *task, query_result *result)
{
    if (strcmp(method, "brute") == 0) {
        result->method = "brute";
        return query_brute(task, result);
    }
    if (strcmp(method, "best_first") == 0) {
        result->method = "best_first";
        return query_best(task, result);
    }
    if (strcmp(method, "auto") == 0 &&
        (task->count < INDEX_QUERIES ||
         (double)task->count * brute_cost(task) <
             2.0 * COST_INDEX * task->points->n * (task->points->m + 1.0))) {
        result->method = "brute";
        result->note = "auto: too few queries to repay an index";
        return query_brute(task, result);
    }
    return run_indexed(method, task, result);
}

/* Predecessors: the queries of rows below n and not below n / PREFIX_SHRINK are searched in an index of
 * the first n points, so that at least a quarter of what an index holds is admissible and early points
 * cost little; then the same for the first n / PREFIX_SHRINK points, and so on. The tree serves the
 * first round; prefixes get their own. */
static status run_prefixes(const char *method, const query_task *task, query_result *result)
{
    int *rows = scratch_alloc(task->count + 1, sizeof(int));
    int *slot = scratch_alloc(task->count + 1, sizeof(int));
    status outcome = rows && slot ? status_ok() : status_fail(STATUS_MEMORY);
    const char *first_method = NULL, *first_note = result->note;
    size_t done = 0;
    for (size_t n = task->points->n; n && !outcome.code;) {
        size_t next = n < PREFIX_LEAST ? 0 : n / PREFIX_SHRINK, count = 0;
        for (size_t q = 0; q < task->count; q++) {
            size_t row = query_row(task, q);
            if (row < n && row >= next) {
                rows[count] = (int)row;
                slot[count++] = task->slot ? task->slot[q] : (int)q;
            }
        }
        metric_points prefix = *task->points;
        prefix.n = n;
        partial part = {task->mon, (double)done / task->count, (double)count / task->count};
        monitor mon = {poll_partial, &part};
        query_task round = *task;
        round.points = round.from = &prefix;
        round.rows = rows;
        round.slot = slot;
        round.count = count;
        round.mon = &mon;
        if (n < task->points->n) {
            round.structure = NULL;
            round.kept = (index_pack){NULL, 0};
        }
        if (count) {
            int brief = n < PREFIX_LEAST && isinf(task->budget);
            outcome = run_plain(brief ? "brute" : method, &round, result);
            if (!first_method) {
                first_method = result->method;
                first_note = result->note;
            }
        }
        done += count;
        n = next;
    }
    if (first_method) {
        result->method = first_method;
        result->note = first_note;
    }
    scratch_free(rows);
    scratch_free(slot);
    return outcome;
}

status query_run(const char *method, const query_task *task, query_result *result)
{
    query_task chosen = *task;
    if (task->count * brute_cost(task) < 5e6)
        chosen.threads = 1; /* a team takes longer to wake than this takes */
    result->method = "brute";
    result->note = "";
    if (isfinite(task->budget) && strcmp(method, "brute") != 0)
        method = "best_first";
    if (task->predecessors && strcmp(method, "brute") != 0)
        return run_prefixes(method, &chosen, result);
    return run_plain(method, &chosen, result);
}

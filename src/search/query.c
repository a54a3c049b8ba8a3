/* The dispatcher: names of engines, the choice among them, and prefixes for predecessors. */
#include "search/query.h"

#include "base/scratch.h"

#include <math.h>
#include <string.h>

/* Costs are those of form.h. */
#define COST_CORRELATION 1.5 /* of a correlation, most of them with landmarks, for each product */
#define COST_SCATTERED 5.0   /* the same of candidates that few queries share */
#define COST_GIVEN_UP 1.3    /* a query that a form does not serve, in brute forces */
#define COST_QUERY 5e4       /* what else a query costs */
#define COST_PUSH 1500.0     /* brute force, for each time that one of the k best gives way */
#define COST_INDEX 550.0     /* making an index, for each point and product, */
#define INDEX_MORE 95.0      /* and for as many products more than there are features */
#define PAIRED 0.58          /* of all pairs are screened where blocks meet in pairs */
#define PROMISING 0.85       /* of what else is known, the most that integers may promise to cost, */
#define PROMISING_EAGER 1.1  /* and if they will serve more than one search */
#define HARDLY 0.3           /* of brute force: what expansions may promise to cost to be made, */
#define CLEARLY 0.1          /* and cost on a sample for nothing else to be tried, if they serve one search */
#define TOO_FEW 5.0          /* brute force of less than so many indices does without one, */
#define LEAST_KEPT 2000      /* and of so many candidates even where there is one */
#define PREFIX_SHRINK 4      /* ratio of the prefixes that serve predecessors */
#define PREFIX_LEAST 2000    /* shorter prefixes go by brute force */
#define SAMPLE_CELLS 4       /* cells whose points show what a search costs, */
#define SAMPLE_SHARE 16      /* but no more than one of so many, and one */
#define SAMPLE_FEW 16        /* of a sparse sample, and one point of so many: */
#define SAMPLE_SPARSE 512
#define SPARSE 1.2 /* brute forces on a sparse sample: more will not become less */
#define SPARSE_EAGER 4.0

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

int query_part_new(const query_task *whole, size_t room, query_part *out)
{
    int ok = SCRATCH_ALL(SCRATCH_FOR(out->rows, room), SCRATCH_FOR(out->limits, room), SCRATCH_FOR(out->slot, room));
    out->task = *whole;
    out->task.rows = out->rows;
    out->task.limits = whole->limits ? out->limits : NULL;
    out->task.slot = out->slot;
    out->task.count = 0;
    return ok;
}

void query_part_add(const query_task *whole, size_t q, query_part *part)
{
    size_t at = part->task.count++;
    part->rows[at] = query_row(whole, q);
    part->limits[at] = query_limit(whole, q);
    part->slot[at] = query_slot(whole, q);
}

void query_part_free(query_part *part) { SCRATCH_FREE(part->rows, part->limits, part->slot); }

/* Of a correlation, in double. */
static double correlation_cost(const query_task *task) { return task->points->m + COST_KERNEL; }

static double brute_cost(const query_task *task)
{
    double share = task->predecessors ? 0.5 + 0.5 / PREFIX_SHRINK : 1.0; /* of the points, on average */
    double n = share * (double)task->points->n, k = task->k;
    double pushes = k < n ? k * (1.0 + log(n / k)) : n; /* in random order */
    return n * correlation_cost(task) + COST_PUSH * pushes;
}

/* Of the pairs of a search, how many a form screens by themselves. */
static double unshared(const query_task *task, const screening_form *form)
{
    return form->screen_both && task->self && !task->predecessors && !task->rows ? PAIRED : 1.0;
}

static double index_cost(const query_task *task)
{
    return COST_INDEX * (task->points->m + INDEX_MORE) * (double)task->points->n;
}

/* What a form promises to cost a query, before it is made: infinite where that would be more than `most` for sure. */
static status promised_cost(const query_task *task, const screening_form *form, double most, double *cost)
{
    form_forecast f;
    double share = unshared(task, form);
    status outcome = form->forecast(task->source, task->points, task->k, most / share, &f);
    if (!outcome.code)
        *cost = f.hopeless * COST_GIVEN_UP * brute_cost(task) +
                (1.0 - f.hopeless) *
                    (COST_QUERY + share * f.pairs * f.pair + f.more + f.left * COST_SCATTERED * correlation_cost(task));
    return outcome;
}

/* Queries that were searched to see what that costs. Their answers stay where all points are queries. */
typedef struct {
    answers *given; /* NULL if they do not stay */
    char *answered; /* by query; NULL before the first sample */
    query_counters counters;
} sampled;

/* The first of the points that a sample may take. */
static int first_sampled(const query_task *task)
{
    return task->predecessors ? (int)(task->points->n / PREFIX_SHRINK) : 0;
}

/* Whether the queries are all points from that one on, in their order. */
static int all_are_queries(const query_task *task)
{
    size_t first = first_sampled(task);
    if (!task->self || task->limits || task->count + first != task->points->n)
        return 0;
    for (size_t q = 0; q < task->count && task->rows; q++)
        if (task->rows[q] != (int)(first + q))
            return 0;
    return 1;
}

/* The level engine's cost of a query by what it counted. */
static double counted_cost(const query_task *task, const index_search *index, const query_counters *c, double queries)
{
    return COST_QUERY + (c->screened * unshared(task, index->form) * index->form->pair_cost(index->points) +
                         (COST_CORRELATION * (c->correlations - c->scattered) + COST_SCATTERED * c->scattered) *
                             correlation_cost(task)) /
                            queries;
}

/* The cost by a search for the points of a few cells, or for some of them only. */
static status sample_search(const query_task *task, int sparse, sampled *seen, index_search *index)
{
    const cells *order = &index->points->order;
    int first = first_sampled(task), stays = seen->given != NULL;
    partial nothing = {task->mon, 0.0, 0.0}; /* of what the caller shows, this is no part */
    monitor mon = {poll_partial, &nothing};
    query_result result = {.given = seen->given};
    query_part sample;
    query_task all = *task; /* points as queries */
    all.from = task->points;
    all.self = 1;
    all.rows = all.slot = all.limits = NULL;
    all.index = index;
    all.mon = &mon;
    status outcome = status_fail(STATUS_MEMORY);
    if (stays && !seen->answered)
        seen->answered = scratch_zeros(task->count, 1);
    if (query_part_new(&all, (size_t)SAMPLE_CELLS * CELLS_MOST, &sample) && (seen->answered || !stays)) {
        int few = order->count / SAMPLE_SHARE + 1, tried = few < SAMPLE_CELLS ? few : SAMPLE_CELLS;
        int wanted = (int)(task->points->n / SAMPLE_SPARSE + SAMPLE_FEW) / tried;
        for (int i = 0; i < tried; i++) {
            int cell = (int)((i + 0.5) / tried * order->count);
            int step = sparse ? (order->first[cell + 1] - order->first[cell]) / wanted + 1 : 1;
            for (int at = order->first[cell]; at < order->first[cell + 1]; at += step) {
                int row = order->perm[at], q = row - first;
                if (row < first)
                    continue;
                query_part_add(&all, row, &sample);
                if (stays) {
                    sample.slot[sample.task.count - 1] = query_slot(task, q);
                    seen->answered[q] = 1;
                }
            }
        }
        outcome = query_level(&sample.task, &result);
        query_counters_add(&seen->counters, &result.counters);
        index->cost = counted_cost(task, index, &result.counters, (double)sample.task.count + 1e-9);
    }
    query_part_free(&sample);
    return outcome;
}

/* Its cost on a sample. A sparse one says enough of integers, and of subspaces that leave too much; what landmarks cost
 * depends on how many queries share them. */
static status sample_cost(const query_task *task, int eager, sampled *seen, index_search *index)
{
    status outcome = sample_search(task, 1, seen, index);
    if (!outcome.code && index->form == &form_landmarks &&
        index->cost < (eager ? SPARSE_EAGER : SPARSE) * brute_cost(task))
        outcome = sample_search(task, 0, seen, index);
    return outcome;
}

/* Builds an index of a form, and samples it; the better one stays. */
static status try_form(const query_task *task, const screening_form *form, int eager, sampled *seen,
                       index_search *index)
{
    index_search other;
    status outcome = index_build(task->source, task->points, form, task->threads, task->mon, &other);
    if (!outcome.code && other.form)
        outcome = sample_cost(task, eager, seen, &other);
    if (!outcome.code && other.cost < index->cost) {
        index_search worse = *index;
        *index = other;
        other = worse;
    }
    index_free(&other);
    return outcome;
}

/* The same of integers, where they promise to cost less than what there is. Unless `eager`, they have to repay what it
 * costs to make them. */
static status try_integers(const query_task *task, int eager, sampled *seen, index_search *index)
{
    double best = fmin(index->cost, brute_cost(task)), promise = 0.0,
           making = eager ? 0.0 : index_cost(task) / (double)task->count;
    if (index->form == &form_integers)
        return status_ok();
    status outcome = promised_cost(task, &form_integers, best - making, &promise);
    if (outcome.code || promise + making > (eager ? PROMISING_EAGER : PROMISING) * best)
        return outcome;
    return try_form(task, &form_integers, eager, seen, index);
}

/* query_index, with the answers of samples. Of landmarks and expansions what promises more comes first. */
static status make_index(const query_task *task, int eager, sampled *seen, index_search *index)
{
    const screening_form *turn[] = {&form_landmarks, &form_expansions, &form_integers};
    double landmarks = 0.0, expansions = 0.0, brute = brute_cost(task);
    index_none(task->points, index);
    status outcome = promised_cost(task, &form_expansions, INFINITY, &expansions);
    if (!outcome.code)
        outcome = promised_cost(task, &form_landmarks, INFINITY, &landmarks);
    if (expansions < landmarks) {
        turn[0] = &form_expansions;
        turn[1] = &form_landmarks;
    }
    for (int t = 0; t < 3 && !outcome.code && (eager || index->cost >= CLEARLY * brute); t++)
        if (turn[t] == &form_integers)
            outcome = try_integers(task, eager, seen, index);
        else if (turn[t] == &form_landmarks || expansions < HARDLY * brute)
            outcome = try_form(task, turn[t], eager, seen, index);
    if (outcome.code)
        index_free(index);
    return outcome;
}

status query_index(const query_task *task, int eager, index_search *index)
{
    sampled none = {0};
    return make_index(task, eager, &none, index);
}

/* Leaves in a task the queries that a sample has not answered; `rest` holds them. */
static status leave_unanswered(const sampled *seen, query_task *task, query_part *rest)
{
    if (!query_part_new(task, task->count, rest))
        return status_fail(STATUS_MEMORY);
    for (size_t q = 0; q < task->count; q++)
        if (!seen->answered[q])
            query_part_add(task, q, rest);
    *task = rest->task;
    return status_ok();
}

/* The level engine; where its index skips and screens too little, the dense tiles of brute force. */
static status run_indexed(const char *method, const query_task *task, query_result *result)
{
    index_search index;
    query_task indexed = *task;
    query_part rest = {.rows = NULL};
    int choose = strcmp(method, "auto") == 0;
    sampled seen = {.given = all_are_queries(task) ? result->given : NULL};
    status outcome = index_open(task->source, task->points, task->stored, &index);
    if (!outcome.code && !index.opened)
        outcome = make_index(task, !choose, &seen, &index);
    else if (!outcome.code && task->predecessors && index.form &&
             task->count > SAMPLE_CELLS * CELLS_MOST) { /* it was chosen for searches of all */
        outcome = sample_cost(task, !choose, &seen, &index);
        if (!outcome.code)
            outcome = try_integers(task, !choose, &seen, &index);
    }
    if (outcome.code)
        goto done;
    /* asked for by name, the level engine may lose a little: what it counts is then what it does */
    int by_brute = index.cost > (choose ? 0.85 : 2.0) * brute_cost(task) + (choose ? 0.0 : COST_QUERY);
    indexed.index = &index;
    int one_by_one = strcmp(method, "best_first") == 0,
        few = one_by_one || (choose && !by_brute && query_best_serves(&indexed));
    result->method = few ? "best_first" : choose && by_brute ? "brute" : "level";
    if (by_brute)
        result->note = !choose       ? "nothing to skip: by tiles of brute force"
                       : !index.form ? "auto: no index that was likely to pay"
                                     : "auto: on a sample, screening left too much for it to pay";
    else if (few && choose)
        result->note = "auto: few queries, each by the cells that promise most";
    else if (choose)
        result->note = index.form->note;
    if (!by_brute && task->from != task->points)
        outcome = index_add_queries(task->source, task->from, task->threads, task->mon, &index);
    /* where blocks meet in pairs, all queries have to be there */
    if (!outcome.code && seen.answered && (by_brute || !index.form->screen_both || task->predecessors)) {
        outcome = leave_unanswered(&seen, &indexed, &rest);
        query_counters_add(&result->counters, &seen.counters);
    }
    if (!outcome.code && indexed.count)
        outcome = by_brute ? query_brute(&indexed, result)
                  : few    ? query_best(&indexed, result)
                           : query_level(&indexed, result);
done:
    index_free(&index);
    query_part_free(&rest);
    scratch_free(seen.answered);
    return outcome;
}

/* Best-first search within a budget, in cells and bounds of any form. */
static status run_limited(const query_task *task, query_result *result)
{
    index_search index;
    query_task indexed = *task;
    result->method = "best_first";
    status outcome = index_open(task->source, task->points, task->stored, &index);
    if (!outcome.code && !index.form)
        outcome = index_build(task->source, task->points, &form_dense, task->threads, task->mon, &index);
    if (!outcome.code && task->from != task->points)
        outcome = index_add_queries(task->source, task->from, task->threads, task->mon, &index);
    indexed.index = &index;
    if (!outcome.code)
        outcome = query_best(&indexed, result);
    index_free(&index);
    return outcome;
}

/* Whether brute force is over before an index would have repaid itself. One that was kept costs nothing:
 * it serves single queries too. */
static int too_few(const query_task *task)
{
    double n = (double)task->points->n;
    if (task->stored.memory)
        return n <= LEAST_KEPT;
    return (double)task->count * brute_cost(task) < TOO_FEW * index_cost(task);
}

static status run_plain(const char *method, const query_task *task, query_result *result)
{
    int brute = strcmp(method, "brute") == 0, few = strcmp(method, "auto") == 0 && too_few(task);
    if (!brute && isfinite(task->budget))
        return run_limited(task, result);
    if (!brute && !few)
        return run_indexed(method, task, result);
    result->method = "brute";
    if (few)
        result->note = "auto: too few points or queries to repay an index";
    return query_brute(task, result);
}

/* Predecessors: the queries of limits below n and not below n / PREFIX_SHRINK are searched in an index of
 * the first n points, so that at least a quarter of what an index holds is admissible and early points
 * cost little; then the same for the first n / PREFIX_SHRINK points, and so on. What was kept serves
 * the first round. */
static status run_prefixes(const char *method, const query_task *task, query_result *result)
{
    query_part round;
    status outcome = query_part_new(task, task->count, &round) ? status_ok() : status_fail(STATUS_MEMORY);
    const char *first_method = NULL, *first_note = result->note;
    size_t done = 0;
    for (size_t n = task->points->n; n && !outcome.code;) {
        size_t next = n < PREFIX_LEAST ? 0 : n / PREFIX_SHRINK;
        round.task.count = 0;
        for (size_t q = 0; q < task->count; q++) {
            size_t limit = query_limit(task, q); /* no row is above its limit */
            if ((limit < n || n == task->points->n) && limit >= next)
                query_part_add(task, q, &round);
        }
        metric_points prefix = *task->points;
        prefix.n = n;
        partial part = {task->mon, (double)done / task->count, (double)round.task.count / task->count};
        monitor mon = {poll_partial, &part};
        round.task.points = round.task.from = &prefix;
        round.task.mon = &mon;
        if (n < task->points->n)
            round.task.stored = (index_pack){NULL, 0, 0};
        if (round.task.count) {
            int brief = n < PREFIX_LEAST && isinf(task->budget);
            outcome = run_plain(brief ? "brute" : method, &round.task, result);
            if (!first_method) {
                first_method = result->method;
                first_note = result->note;
            }
        }
        done += round.task.count;
        n = next;
    }
    if (first_method) {
        result->method = first_method;
        result->note = first_note;
    }
    query_part_free(&round);
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

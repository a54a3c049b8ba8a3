#include "vif/arrangement.h"

#include "model/inducing.h"
#include "partition/order.h"

#include <math.h>
#include <string.h>

void arrangement_free(arrangement *a)
{
    scratch_pool *pool = a->task.pool;
    double *doubles[] = {a->x, a->v, a->values, a->variance, a->noise, a->nugget, a->coef, a->D, a->error, a->residual};
    int *ints[] = {a->given, a->sequence};
    for (size_t i = 0; i < sizeof(doubles) / sizeof(*doubles); i++)
        scratch_give(pool, doubles[i]);
    for (size_t i = 0; i < sizeof(ints) / sizeof(*ints); i++)
        scratch_give(pool, ints[i]);
}

static double *take(scratch_pool *pool, size_t rows, size_t width, int *failed)
{
    double *out = scratch_take(pool, rows * width + 1, sizeof(double));
    *failed |= !out;
    return out;
}

static int *take_ints(scratch_pool *pool, size_t rows, int *failed)
{
    int *out = scratch_take(pool, rows + 1, sizeof(int));
    *failed |= !out;
    return out;
}

/* Rows of `width` values: those of the points from[order] in `to`, or with `back` the other way. */
static void move_rows(const arrangement *a, int width, const double *from, double *to, int back)
{
#pragma omp parallel for num_threads(a->task.threads) schedule(static)
    for (size_t at = 0; at < a->points.n; at++) {
        size_t i = a->given[at];
        memcpy(to + (back ? i : at) * width, from + (back ? at : i) * width, width * sizeof(double));
    }
}

static status make_features(arrangement *a)
{
    const likelihood_task *task = &a->task;
    double *residual = a->error; /* which waits for the results */
    status outcome = inducing_features(task->kern, task->d, task->m, task->z, task->L, a->points.n, a->x, task->threads,
                                       task->mon, a->v, residual);
    for (size_t at = 0; at < a->points.n && !outcome.code; at++)
        a->variance[at] += fmax(residual[at], 0.0);
    return outcome;
}

status arrangement_new(const likelihood_task *task, const likelihood_result *result, arrangement *a)
{
    const vif_points *points = task->points;
    scratch_pool *pool = task->pool;
    size_t n = points->n;
    int failed = 0, d = task->d, m = task->m, k = task->k, q = task->q;
    *a = (arrangement){.task = *task, .result = *result};
    a->given = take_ints(pool, n, &failed);
    a->sequence = take_ints(pool, n, &failed);
    a->x = take(pool, n, d, &failed);
    a->v = take(pool, n, m, &failed);
    a->values = take(pool, n, q, &failed);
    a->variance = take(pool, n, 1, &failed);
    a->noise = take(pool, n, 1, &failed);
    a->nugget = take(pool, n, 1, &failed);
    a->coef = take(pool, n, k, &failed);
    a->D = take(pool, n, 1, &failed);
    a->error = take(pool, n, 1, &failed);
    a->residual = take(pool, n, 1, &failed);
    status outcome = failed ? status_fail(STATUS_MEMORY) : order_space(d, n, points->x, a->given);
    if (outcome.code)
        return outcome;
    a->points = (vif_points){.n = n, .x = a->x, .v = a->v, .variance = a->variance};
    for (size_t at = 0; at < n; at++)
        a->sequence[a->given[at]] = (int)at;
    move_rows(a, d, points->x, a->x, 0);
    move_rows(a, q, task->values, a->values, 0);
    move_rows(a, 1, points->variance, a->variance, 0);
    move_rows(a, 1, task->noise, a->noise, 0);
    move_rows(a, 1, task->nugget, a->nugget, 0);
    if (points->v)
        move_rows(a, m, points->v, a->v, 0);
    else
        outcome = make_features(a);
    a->task.points = &a->points;
    a->task.values = a->values;
    a->task.noise = a->noise;
    a->task.nugget = a->nugget;
    a->task.given = a->given;
    a->task.sequence = a->sequence;
    a->result.coef = a->coef;
    a->result.D = a->D;
    a->result.error = a->error;
    a->result.residual = a->residual;
    return outcome;
}

void arrangement_return(const arrangement *a, likelihood_result *result)
{
    result->loglik = a->result.loglik;
    if (result->coef)
        move_rows(a, a->task.k, a->coef, result->coef, 1);
    move_rows(a, 1, a->D, result->D, 1);
    move_rows(a, 1, a->error, result->error, 1);
    move_rows(a, 1, a->residual, result->residual, 1);
}

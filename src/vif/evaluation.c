#include "vif/evaluation.h"

#include "vif/information.h"

#include <string.h>

static void give_each(scratch_pool *pool, double **arrays, int count)
{
    for (int a = 0; arrays && a < count; a++) {
        scratch_give(pool, arrays[a]);
        arrays[a] = NULL;
    }
}

void evaluation_free(evaluation *e)
{
    scratch_pool *pool = e->task->pool;
    batch_problem_free(&e->problem);
    scratch_give(pool, e->W);
    scratch_give(pool, e->contrasts);
    scratch_give(pool, e->centred);
    scratch_give(pool, e->inverse);
    give_each(pool, e->dV, e->kernel_directions);
    give_each(pool, e->dW, e->directions);
    give_each(pool, e->dcoef, e->directions);
    give_each(pool, e->ratio, e->directions);
    scratch_free(e->dV);
    scratch_free(e->dW);
    scratch_free(e->dcoef);
    scratch_free(e->ratio);
    scratch_free(e->sums);
}

void evaluation_drop_features(evaluation *e) { give_each(e->task->pool, e->dV, e->kernel_directions); }

static double **pointers(int count)
{
    double **out = scratch_alloc(count + 1, sizeof(double *));
    if (out)
        memset(out, 0, (count + 1) * sizeof(double *));
    return out;
}

status evaluation_new(const likelihood_task *task, likelihood_result *result, evaluation *e)
{
    size_t n = task->points->n;
    int m = task->m, k = task->k;
    *e = (evaluation){.task = task, .result = result};
    e->sl = slopes_new(task->kern, task->d, task->axes, task->smoothness);
    if (task->gradient) {
        e->kernel_directions = slopes_count(&e->sl);
        e->directions = e->kernel_directions + 1;
        int apart = task->shard ? task->shard->apart : 0;
        for (size_t i = 0; i < n && !apart && !task->shard; i++)
            apart = task->noise[i] != task->nugget[i];
        if (apart)
            e->nugget = e->directions++;
    }
    e->stride = m ? products_stride(m) : 0;
    e->value_stride = products_stride(task->q);
    status outcome = batch_problem_new(task->kern, task->d, m, task->points, task->points, k, task->id, task->sequence,
                                       task->threads, task->pool, &e->problem);
    if (outcome.code)
        return outcome;
    for (size_t at = 0; at < n; at++)
        if (evaluation_is_child(task, e->problem.order[at]))
            e->problem.order[e->count++] = e->problem.order[at];
    int zero = task->shard != NULL; /* what has no child adds nothing */
    e->W = products_rows(task->pool, m ? n : 0, m, zero, task->threads);
    e->contrasts = products_rows(task->pool, n, task->q, 1, task->threads);
    e->centred = scratch_take(task->pool, n + 1, sizeof(double));
    e->inverse = products_rows(task->pool, m, m, 1, task->threads);
    e->sums = scratch_alloc(evaluation_chunks(e->count) * evaluation_width(e) + 1, sizeof(double));
    e->dV = pointers(e->kernel_directions);
    e->dW = pointers(e->directions);
    e->dcoef = pointers(e->directions);
    e->ratio = pointers(e->directions);
    int failed =
        !e->W || !e->contrasts || !e->centred || !e->inverse || !e->sums || !e->dV || !e->dW || !e->dcoef || !e->ratio;
    for (int a = 0; a < e->directions && !failed; a++) {
        e->dcoef[a] = scratch_take(task->pool, n * k + 1, sizeof(double));
        e->ratio[a] = scratch_take(task->pool, n + 1, sizeof(double));
        failed = !e->dcoef[a] || !e->ratio[a];
        if (!failed && zero) {
            memset(e->dcoef[a], 0, n * k * sizeof(double));
            memset(e->ratio[a], 0, n * sizeof(double));
        }
        if (failed || !m || a < 1 || a > e->kernel_directions)
            continue;
        e->dV[a - 1] = scratch_take(task->pool, n * m + 1, sizeof(double));
        e->dW[a] = products_rows(task->pool, n, m, zero, task->threads);
        failed = !e->dV[a - 1] || !e->dW[a];
    }
    return failed ? status_fail(STATUS_MEMORY) : status_ok();
}

likelihood_sizes evaluation_sizes(const evaluation *e)
{
    const likelihood_task *task = e->task;
    return (likelihood_sizes){.n = e->count,
                              .m = task->m,
                              .q = task->q,
                              .d = task->d,
                              .axes = task->axes,
                              .smoothness = task->smoothness != 0,
                              .directions = e->directions,
                              .nugget = e->nugget,
                              .information = task->information,
                              .probes = task->information && task->m ? INFORMATION_PROBES : 0};
}

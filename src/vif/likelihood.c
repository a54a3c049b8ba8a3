#include "vif/likelihood.h"

#include "base/linalg.h"
#include "vif/arrangement.h"
#include "vif/derivatives.h"
#include "vif/mean.h"
#include "vif/passes.h"

int likelihood_parameters(const likelihood_task *task)
{
    return 2 + (task->axes ? task->d : 1) + (task->smoothness ? 1 : 0);
}

static status evaluate(const likelihood_task *task, likelihood_result *result)
{
    size_t n = task->points->n;
    int m = task->m, q = task->q;
    evaluation e;
    passes own = {NULL, NULL};
    double *sums = scratch_alloc((size_t)m * m + 2 * (size_t)m * q + (size_t)q * q + 1, sizeof(double));
    status outcome = evaluation_new(task, result, &e);
    if (!outcome.code && !sums)
        outcome = status_fail(STATUS_MEMORY);
    if (!outcome.code)
        outcome = passes_first(&e, &own);
    if (outcome.code)
        goto done;
    double *EW = sums + (size_t)m * m, *B = EW + (size_t)m * q, *squares = B + (size_t)m * q;
    if (m)
        outcome = mean_cross(&e, sums, EW);
    if (!outcome.code)
        outcome = mean_root(m, q, task->mon, sums, EW, result->root, B);
    if (!outcome.code)
        outcome = mean_squares(&e, B, squares);
    if (!outcome.code)
        outcome = mean_solve(m, q, B, squares, result);
    if (outcome.code)
        goto done;
    double error = mean_errors(&e, result->beta);
    double total = mean_value(n, m, mean_logs(&e), error, result);
    if (!task->gradient)
        goto done;
    if (m)
        outcome = linalg_inverse(m, task->mon, result->root, e.stride, e.inverse);
    mean_centre(&e, result->b);
    if (!outcome.code)
        outcome = passes_second(&e, &own);
    if (!outcome.code)
        outcome = derivatives_make(&e, total);
done:
    scratch_free(sums);
    passes_free(&own, task->threads);
    evaluation_free(&e);
    return outcome;
}

status likelihood_evaluate(const likelihood_task *task, likelihood_result *result)
{
    arrangement a;
    status outcome = arrangement_new(task, result, &a);
    if (!outcome.code)
        outcome = evaluate(&a.task, &a.result);
    if (!outcome.code)
        arrangement_return(&a, result);
    arrangement_free(&a);
    return outcome;
}

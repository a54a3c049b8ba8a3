#include "vif/steps.h"

#include "base/linalg.h"
#include "vif/derivatives.h"
#include "vif/mean.h"
#include "vif/passes.h"

#include <string.h>

struct likelihood {
    likelihood_task task;
    likelihood_result result;
    evaluation e;
    passes own;
    information_steps *steps;
};

static size_t width_of(const likelihood_sizes *sizes) { return (size_t)sizes->directions * (sizes->directions + 2); }

/* Directions along which features change too. */
static size_t moving(const likelihood_sizes *sizes)
{
    return sizes->directions ? sizes->directions - 1 - (sizes->nugget > 0) : 0;
}

size_t likelihood_sum_count(const likelihood_sizes *sizes, int step)
{
    size_t m = sizes->m, q = sizes->q, row = m * sizes->probes, count = sizes->directions;
    switch (step) {
    case 1: /* log D, M, E' W, W u */
        return 1 + m * m + q * m + row;
    case 2: /* E' E, W h, dW h */
        return q * q + row * (1 + moving(sizes));
    default: /* squared errors, the second pass, W t, h . t, t . t */
        return 1 + width_of(sizes) + count * row + (sizes->probes ? count * (count + 1) : 0);
    }
}

size_t likelihood_known_count(const likelihood_sizes *sizes, int step)
{
    size_t m = sizes->m, q = sizes->q, row = m * sizes->probes;
    switch (step) {
    case 1:
        return 0;
    case 2: /* log D, root, B, turned */
        return 1 + m * m + q * m + row;
    default: /* log D, root, beta, information, b, B of the covariates, W h, dW h */
        return 1 + m * m + q * (q - 1) + m * q + row * (1 + moving(sizes));
    }
}

void likelihood_close(likelihood *open)
{
    if (!open)
        return;
    information_close(open->steps);
    passes_free(&open->own, open->task.threads);
    evaluation_free(&open->e);
    scratch_free(open);
}

status likelihood_open(const likelihood_task *task, const likelihood_result *result, likelihood **out)
{
    likelihood *open = *out = scratch_alloc(1, sizeof(likelihood));
    if (!open)
        return status_fail(STATUS_MEMORY);
    *open = (likelihood){.task = *task, .result = *result};
    status outcome = evaluation_new(&open->task, &open->result, &open->e);
    if (!outcome.code) {
        size_t n = task->points->n;
        for (size_t i = 0; i < n; i++)
            open->result.D[i] = 1;
        memset(open->result.coef, 0, n * task->k * sizeof(double));
        outcome = passes_first(&open->e, &open->own);
    }
    if (outcome.code == STATUS_NOT_POSITIVE_DEFINITE && outcome.where < task->points->n)
        outcome.where = (size_t)task->shard->number[outcome.where];
    return outcome;
}

likelihood_sizes likelihood_size(const likelihood *open) { return evaluation_sizes(&open->e); }

size_t likelihood_regression_width(const likelihood *open)
{
    return 1 + (size_t)open->task.k * (1 + open->e.directions);
}

size_t likelihood_return_width(const likelihood *open) { return (size_t)open->e.directions * INFORMATION_PROBES; }

void likelihood_regressions(likelihood *open, int put, size_t count, const int *points, double *rows)
{
    evaluation *e = &open->e;
    size_t k = open->task.k;
    for (size_t at = 0; at < count; at++, rows += likelihood_regression_width(open)) {
        size_t i = points[at];
        if (put)
            open->result.D[i] = rows[0];
        else
            rows[0] = open->result.D[i];
        for (int a = -1; a < e->directions; a++) {
            double *here = (a < 0 ? open->result.coef : e->dcoef[a]) + i * k;
            double *there = rows + 1 + (a + 1) * k;
            memcpy(put ? here : there, put ? there : here, k * sizeof(double));
        }
    }
}

void likelihood_returns(likelihood *open, int put, size_t count, const int *points, double *rows)
{
    size_t width = likelihood_return_width(open);
    int stride = products_stride(INFORMATION_PROBES);
    for (size_t at = 0; at < count; at++, rows += width) {
        if (put) {
            information_add(open->steps, points[at], rows);
            continue;
        }
        const double *values = information_return(open->steps, points[at]);
        for (int a = 0; a < open->e.directions; a++)
            memcpy(rows + a * INFORMATION_PROBES, values + a * stride, INFORMATION_PROBES * sizeof(double));
    }
}

static status first_step(likelihood *open, double *sums)
{
    evaluation *e = &open->e;
    size_t m = open->task.m, q = open->task.q;
    *sums++ = mean_logs(e);
    status outcome = m ? mean_cross(e, sums, sums + m * m) : status_ok();
    if (outcome.code || !evaluation_sizes(e).probes)
        return outcome;
    information_task probes = derivatives_probes(e, NULL, NULL);
    open->steps = information_open(&probes);
    if (!open->steps)
        return status_fail(STATUS_MEMORY);
    information_signs(open->steps, sums + m * m + q * m);
    return status_ok();
}

static status second_step(likelihood *open, const double *known, double *sums)
{
    size_t m = open->task.m, q = open->task.q;
    const double *B = known + 1 + m * m;
    status outcome = mean_squares(&open->e, B, sums);
    if (!outcome.code && open->steps)
        outcome = information_sweep(open->steps, B + q * m, sums + q * q);
    return outcome;
}

static status third_step(likelihood *open, const double *known, double *sums)
{
    evaluation *e = &open->e;
    size_t m = open->task.m, q = open->task.q;
    const double *root = known + 1, *beta = root + m * m, *b = beta + q * (q - 1);
    status outcome = status_ok();
    *sums++ = mean_errors(e, beta);
    if (!open->task.gradient)
        return outcome;
    memcpy(open->result.b, b, m * sizeof(double));
    if (m)
        outcome = linalg_inverse(e->task->m, e->task->mon, root, e->stride, e->inverse);
    mean_centre(e, b);
    if (!outcome.code)
        outcome = passes_second(e, &open->own);
    derivatives_sums(e, sums);
    if (!outcome.code && open->steps)
        outcome = information_products(open->steps, b + m * q, sums + evaluation_width(e));
    return outcome;
}

status likelihood_step(likelihood *open, int step, const double *known, double *sums)
{
    return step == 1   ? first_step(open, sums)
           : step == 2 ? second_step(open, known, sums)
                       : third_step(open, known, sums);
}

void likelihood_parts(const likelihood_sizes *sizes, const double *known, likelihood_result *result)
{
    size_t m = sizes->m, q = sizes->q, p = q - 1;
    const double *beta = known + 1 + m * m, *b = beta + p * q;
    memcpy(result->root, known + 1, m * m * sizeof(double));
    memcpy(result->beta, beta, p * sizeof(double));
    memcpy(result->information, beta + p, p * p * sizeof(double));
    memcpy(result->b, b, m * sizeof(double));
    memcpy(result->B, b + m, m * p * sizeof(double));
}

status likelihood_finish(const likelihood_sizes *sizes, int step, const double *known, const double *sums, double *next)
{
    size_t m = sizes->m, q = sizes->q, p = q - 1, row = m * sizes->probes;
    next[0] = step == 1 ? sums[0] : known[0];
    double *root = next + 1;
    if (step == 1) {
        const double *M = sums + 1;
        memset(root, 0, m * m * sizeof(double));
        status outcome = mean_root(sizes->m, sizes->q, NULL, M, M + m * m, root, root + m * m);
        if (!outcome.code && row)
            information_turn(sizes->m, root, M + m * m + q * m, root + m * m + q * m);
        return outcome;
    }
    memcpy(root, known + 1, m * m * sizeof(double));
    double *beta = root + m * m, *b = beta + p * q;
    likelihood_result parts = {.beta = beta, .information = beta + p, .b = b, .B = b + m};
    memcpy(b + m * q, sums + q * q, row * (1 + moving(sizes)) * sizeof(double));
    return mean_solve(sizes->m, sizes->q, known + 1 + m * m, sums, &parts);
}

status likelihood_finish_last(const likelihood_sizes *sizes, const double *known, const double *sums,
                              likelihood_result *result)
{
    int count = sizes->directions;
    likelihood_parts(sizes, known, result);
    double total = mean_value(sizes->n, sizes->m, known[0], sums[0], result);
    if (!count)
        return status_ok();
    const double *slope = sums + 1, *trace = slope + count, *lower = trace + count;
    double *across = scratch_alloc((size_t)count * count + 1, sizeof(double));
    status outcome = across ? status_ok() : status_fail(STATUS_MEMORY);
    for (int a = 0; a < count && across; a++)
        for (int c = 0; c <= a; c++)
            across[c * count + a] = across[a * count + c] = lower[a * count + c];
    if (across && sizes->probes)
        outcome =
            information_finish(sizes->n, count, sizes->m, result->root, trace, sums + 1 + width_of(sizes), across);
    if (!outcome.code)
        derivatives_to_parameters(sizes, total, slope, trace, sizes->information ? across : NULL, result);
    scratch_free(across);
    return outcome;
}

#include "vif/derivatives.h"

/* Sums of column `at` over the chunks. */
static double chunk_sum(const evaluation *e, int at)
{
    double sum = 0;
    for (size_t chunk = 0; chunk < evaluation_chunks(e->count); chunk++)
        sum += e->sums[chunk * evaluation_width(e) + at];
    return sum;
}

/* From directions to parameters: the variance is everything less all noise. `total` is the derivative in the direction
 * of all covariances, trace and across those of the directions. */
void derivatives_to_parameters(const likelihood_sizes *sizes, double total, const double *slope, const double *trace,
                               const double *across, likelihood_result *out)
{
    int count = sizes->directions, lengths = sizes->axes ? sizes->d : 1;
    int parameters = 2 + lengths + sizes->smoothness;
    double n = (double)sizes->n;
    for (int i = 0; i < parameters; i++) {
        int a = i == 0 ? 0 : i <= lengths ? i : i == lengths + 1 ? sizes->nugget : i - 1;
        out->gradient[i] = i ? slope[a] : total - slope[0];
        for (int j = 0; across && j < parameters; j++) {
            int c = j == 0 ? 0 : j <= lengths ? j : j == lengths + 1 ? sizes->nugget : j - 1;
            double value = across[a * count + c];
            if (i == 0 && j == 0)
                value += 0.5 * n - trace[0];
            else if (i == 0)
                value = 0.5 * trace[c] - value;
            else if (j == 0)
                value = 0.5 * trace[a] - value;
            out->fisher[i + j * parameters] = value;
        }
    }
}

/* What the second pass has summed up: evaluation_width numbers. */
void derivatives_sums(const evaluation *e, double *sums)
{
    for (int at = 0; at < evaluation_width(e); at++)
        sums[at] = chunk_sum(e, at);
}

information_task derivatives_probes(const evaluation *e, const double *root, const double *trace)
{
    const likelihood_task *task = e->task;
    return (information_task){
        .n = task->points->n,
        .k = task->k,
        .m = task->m,
        .stride = e->stride,
        .parent = e->problem.parent,
        .coef = e->result->coef,
        .D = e->result->D,
        .W = e->W,
        .root = root,
        .count = e->directions,
        .dcoef = (const double *const *)e->dcoef,
        .ratio = (const double *const *)e->ratio,
        .dW = (const double *const *)e->dW,
        .trace = trace,
        .accurate = task->information == LIKELIHOOD_ACCURATE,
        .own = task->shard ? task->shard->own : NULL,
        .number = task->shard ? task->shard->number : task->given,
        .sequence = task->sequence,
        .v = task->points->v,
        .threads = task->threads,
        .pool = task->pool,
        .mon = task->mon,
    };
}

status derivatives_make(const evaluation *e, double total)
{
    const likelihood_task *task = e->task;
    int count = e->directions;
    likelihood_sizes sizes = evaluation_sizes(e);
    status outcome = status_ok();
    double *sums = scratch_alloc(evaluation_width(e) + 1, sizeof(double));
    if (!sums)
        return status_fail(STATUS_MEMORY);
    derivatives_sums(e, sums);
    double *slope = sums, *trace = sums + count, *across = sums + 2 * count;
    for (int a = 0; a < count; a++)
        for (int c = 0; c < a; c++)
            across[c * count + a] = across[a * count + c];
    if (task->information && task->m) {
        information_task probes = derivatives_probes(e, e->result->root, trace);
        outcome = information_expected(&probes, across);
    }
    if (!outcome.code)
        derivatives_to_parameters(&sizes, total, slope, trace, task->information ? across : NULL, e->result);
    scratch_free(sums);
    return outcome;
}

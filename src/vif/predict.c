#include "vif/predict.h"

#include "base/scratch.h"
#include "simd/simd.h"
#include "vif/vif.h"

#include <string.h>

typedef struct {
    const select_task *task;
    const predict_state *state;
    double *mean, *variance, *W, *coef;
} prediction;

static double dot(int m, const double *x, const double *y)
{
    double sum = 0.0;
    for (int u = 0; u < m; u++)
        sum += x[u] * y[u];
    return sum;
}

static void take_set(void *context, size_t q, int count, const int *id, const double *weight, double left)
{
    prediction *p = context;
    const metric_points *points = p->task->points, *from = p->task->from;
    int m = points->m, k = p->task->k;
    const double *v = from->v + (size_t)(p->task->rows ? (size_t)p->task->rows[q] : q) * m;
    double mean = dot(m, v, p->state->b);
    for (int t = 0; t < count; t++)
        mean += weight[t] * p->state->centred[id[t]];
    p->mean[q] = mean;
    if (p->variance)
        p->variance[q] = left;
    if (p->W) {
        double *w = p->W + q * m;
        memcpy(w, v, m * sizeof(double));
        for (int t = 0; t < count; t++)
            simd->add_multiple(m, -weight[t], points->v + (size_t)id[t] * m, w);
    }
    for (int t = 0; p->coef && t < k; t++)
        p->coef[q * k + t] = t < count ? weight[t] : 0.0;
}

status predict_run(const select_task *task, const predict_state *state, double *mean, double *variance, int *id,
                   double *coef)
{
    int m = task->points->m;
    prediction p = {task, state, mean, variance, NULL, coef};
    select_result result = {.id = id, .listen = take_set, .context = &p};
    double *norm = NULL;
    if (variance && m) {
        p.W = scratch_alloc(task->count * m + 1, sizeof(double));
        norm = scratch_alloc(task->count + 1, sizeof(double));
    }
    status outcome = variance && m && (!p.W || !norm) ? status_fail(STATUS_MEMORY) : select_run(task, &result);
    if (!outcome.code && p.W)
        outcome = vif_norms(m, state->root, task->count, p.W, task->threads, task->mon, norm);
    for (size_t q = 0; !outcome.code && p.W && q < task->count; q++)
        variance[q] += norm[q];
    scratch_free(p.W);
    scratch_free(norm);
    return outcome;
}

#include "vif/passes.h"

#include "base/threads.h"

#include <math.h>
#include <string.h>

#define POLL_CHUNKS 16 /* for each thread, between two polls */

/* Scratch of a thread beyond its batch. */
typedef struct workspace {
    batch *b;
    double **dK, *triangles; /* of each direction of the kernel */
    double *F;               /* (dR alpha) of each direction, vectors of lanes */
    double *weight;          /* of one lane */
    const double **rows;
    double *W, *G; /* rows of a few points */
    double *dots, *more;
    double *sums; /* vectors of lanes */
} workspace;

static void workspace_free(workspace *all, int threads)
{
    for (int t = 0; all && t < threads; t++) {
        workspace *own = all + t;
        SCRATCH_FREE(own->dK, own->triangles, own->F, own->weight, own->rows, own->W, own->G, own->dots, own->more,
                     own->sums);
    }
    scratch_free(all);
}

static int workspace_open(workspace *own, const evaluation *e, batch *b)
{
    int lanes = simd->lanes, count = e->kernel_directions;
    size_t size = b->size, vector = size * lanes, triangle = batch_triangle(b->size);
    size_t few = (size_t)SIMD_MAX_ROWS * (e->stride + SIMD_MAX_COLS);
    if (!SCRATCH_ALL(SCRATCH_FOR(own->dK, count + 1), SCRATCH_FOR(own->triangles, count * triangle + 1),
                     SCRATCH_FOR(own->F, e->directions * vector + 1), SCRATCH_FOR(own->weight, size + 2),
                     SCRATCH_FOR(own->rows, size + 2), SCRATCH_FOR(own->W, few), SCRATCH_FOR(own->G, few),
                     SCRATCH_FOR(own->dots, size + 2), SCRATCH_FOR(own->more, size + 2),
                     SCRATCH_FOR(own->sums, vector + lanes * lanes)))
        return 0;
    own->b = b;
    for (int c = 0; c < count; c++)
        own->dK[c] = own->triangles + c * triangle;
    memset(own->W, 0, few * sizeof(double));
    memset(own->G, 0, few * sizeof(double));
    return 1;
}

static workspace *workspace_new(const evaluation *e, batch *batches, int threads)
{
    workspace *all = scratch_zeros(threads, sizeof(workspace));
    for (int t = 0; all && t < threads; t++)
        if (!workspace_open(all + t, e, batches + t)) {
            workspace_free(all, threads);
            return NULL;
        }
    return all;
}

/* ---- the first pass --------------------------------------------------------------------------- */

/* What the batch of a thread found for its lanes: D, coefficients, contrasts. */
static void keep_values(const evaluation *e, workspace *own)
{
    const likelihood_task *task = e->task;
    batch *b = own->b;
    int lanes = simd->lanes, size = b->size, k = task->k, q = task->q, first = size - 1 - k;
    for (int lane = 0; lane < b->count; lane++) {
        size_t i = b->child[lane];
        double D = batch_variance(b, lane), scale = 1 / sqrt(D);
        double *coef = e->result->coef + i * k, *contrast = e->contrasts + i * e->value_stride;
        e->result->D[i] = D;
        for (int p = 0; p < size; p++) {
            double alpha = b->alpha[p * lanes + lane], weight = alpha * scale;
            int at = b->id[p * lanes + lane];
            own->weight[p] = weight;
            if (p >= first && p < size - 1)
                coef[p - first] = at < 0 ? 0 : -alpha;
            for (int c = 0; c < q && at >= 0; c++)
                contrast[c] += weight * task->values[(size_t)at * q + c];
        }
        double *w = task->m ? e->W + i * e->stride : NULL;
        if (task->m && !e->directions)
            simd->combine_rows(task->m, size, 1, (const double *const *)&own->weight, b->rows + (size_t)lane * size,
                               &w);
    }
}

/* The contrasts of the features of one lane and of their derivatives, and F <- F - (v . dw + dv . w) in the directions
 * of the kernel. */
static void feature_slopes(const evaluation *e, workspace *own, int lane)
{
    const likelihood_task *task = e->task;
    batch *b = own->b;
    int lanes = simd->lanes, size = b->size, m = task->m;
    size_t i = b->child[lane];
    double deviation = sqrt(e->result->D[i]);
    const double **changes = own->rows;
    for (int p = 0; p < size; p++)
        own->weight[p] = b->alpha[p * lanes + lane] / deviation;
    for (int c = 1; c <= e->kernel_directions; c++) {
        double *F = own->F + (size_t)c * size * lanes;
        for (int p = 0; p < size; p++) {
            int at = b->id[p * lanes + lane];
            changes[p] = at < 0 ? b->nothing : e->dV[c - 1] + (size_t)at * m;
        }
        simd->contrast_rows(m, size, own->weight, b->rows + (size_t)lane * size, changes, e->W + i * e->stride,
                            e->dW[c] + i * e->stride, own->sums, own->dots);
        for (int p = 0; p < size; p++)
            F[p * lanes + lane] -= deviation * own->dots[p];
    }
}

/* (dR alpha) in every direction, and dD. */
static void covariance_slopes(const evaluation *e, workspace *own)
{
    const likelihood_task *task = e->task;
    batch *b = own->b;
    int lanes = simd->lanes, size = b->size;
    size_t vector = (size_t)size * lanes;
    for (int a = 0; a < e->directions; a++) {
        double *F = own->F + a * vector;
        if (a >= 1 && a <= e->kernel_directions) {
            simd->lane_multiply(size, own->dK[a - 1], b->alpha, F);
            for (size_t at = 0; at < vector; at++)
                F[at] = b->id[at] < 0 ? 0 : F[at];
        } else if (a) {
            for (size_t at = 0; at < vector; at++)
                F[at] = b->id[at] < 0 ? 0 : task->nugget[b->id[at]] * b->alpha[at];
        } else {
            for (size_t at = 0; at < vector; at++)
                F[at] = b->id[at] < 0 ? 0 : task->noise[b->id[at]] * b->alpha[at];
        }
    }
    for (int lane = 0; lane < b->count && task->m; lane++)
        feature_slopes(e, own, lane);
    for (int a = 0; a < e->directions; a++) {
        const double *F = own->F + a * vector;
        double dD[SIMD_MAX_COLS] = {0};
        for (int p = 0; p < size; p++)
            for (int lane = 0; lane < lanes; lane++)
                dD[lane] += b->alpha[p * lanes + lane] * F[p * lanes + lane];
        for (int lane = 0; lane < b->count; lane++)
            e->ratio[a][b->child[lane]] = dD[lane] / e->result->D[b->child[lane]];
    }
}

/* The information of regressions (Guinness, 2021): t_a . t_b less half the product of their last elements, t_a the last
 * row of the whitened derivative. */
static void regression_information(const evaluation *e, const workspace *own, double *sums)
{
    const batch *b = own->b;
    int lanes = simd->lanes, size = b->size, last = (size - 1) * lanes;
    size_t vector = (size_t)size * lanes;
    for (int a = 0; a < e->directions; a++)
        for (int c = 0; c <= a; c++) {
            const double *A = own->F + a * vector, *C = own->F + c * vector;
            double sum[SIMD_MAX_COLS];
            for (int lane = 0; lane < lanes; lane++)
                sum[lane] = -0.5 * A[last + lane] * C[last + lane];
            for (int p = 0; p < size; p++)
                for (int lane = 0; lane < lanes; lane++)
                    sum[lane] += A[p * lanes + lane] * C[p * lanes + lane];
            for (int lane = 0; lane < b->count; lane++)
                sums[a * e->directions + c] += sum[lane] / e->result->D[b->child[lane]];
        }
}

/* How the regressions change, direction by direction; without features the information too. */
static void keep_slopes(const evaluation *e, workspace *own, double *sums)
{
    const likelihood_task *task = e->task;
    batch *b = own->b;
    int lanes = simd->lanes, size = b->size, k = task->k, first = size - 1 - k;
    size_t vector = (size_t)size * lanes;
    covariance_slopes(e, own);
    for (int a = 0; a < e->directions; a++)
        simd->lane_solve(size, b->R, b->inverse, own->F + a * vector);
    if (task->information && !task->m)
        regression_information(e, own, sums + 2 * e->directions);
    for (int a = 0; a < e->directions; a++) {
        double *F = own->F + a * vector;
        simd->lane_solve_back(size - 1, b->R, b->inverse, F);
        for (int lane = 0; lane < b->count; lane++) {
            double *dcoef = e->dcoef[a] + (size_t)b->child[lane] * k;
            for (int slot = 0; slot < k; slot++)
                dcoef[slot] = F[(first + slot) * lanes + lane];
        }
    }
}

static void first_chunk(const evaluation *e, workspace *own, size_t chunk, size_t *worst)
{
    size_t n = e->count, end = (chunk + 1) * EVALUATION_CHUNK < n ? (chunk + 1) * EVALUATION_CHUNK : n;
    size_t lanes = simd->lanes;
    double *sums = e->sums + chunk * evaluation_width(e);
    memset(sums, 0, evaluation_width(e) * sizeof(double));
    for (size_t at = chunk * EVALUATION_CHUNK; at < end; at += lanes) {
        const int *child = e->problem.order + at;
        batch_load(&e->problem, child, (int)(end - at < lanes ? end - at : lanes), own->b);
        batch_covariance(&e->problem, e->directions ? &e->sl : NULL, own->dK, own->b);
        unsigned failed = batch_factor(own->b);
        for (int lane = 0; failed >> lane; lane++)
            if (failed >> lane & 1) {
                size_t given = e->task->given ? e->task->given[child[lane]] : child[lane];
                *worst = given < *worst ? given : *worst;
            }
        if (failed)
            continue;
        keep_values(e, own);
        if (e->directions)
            keep_slopes(e, own, sums);
    }
}

/* ---- the second pass -------------------------------------------------------------------------- */

/* Adds what child i says of the gradient and of tr(S^-1 dS): w and g are divided by the root of D. */
static void child_gradient(const evaluation *e, workspace *own, size_t i, const double *w, const double *g,
                           const int *next, double *sums)
{
    const likelihood_task *task = e->task;
    const likelihood_result *found = e->result;
    int k = task->k, m = task->m;
    const int *parent = e->problem.parent + i * k;
    double scale = 1 / sqrt(found->D[i]), error = found->error[i] * scale, norm = 0;
    own->rows[k] = w;
    for (int j = 0; j < k; j++) {
        own->rows[j] = parent[j] < 0 ? own->b->nothing : task->points->v + (size_t)parent[j] * m;
        own->more[j] = parent[j] < 0 ? 0 : e->centred[parent[j]];
        own->dots[j] = 0;
    }
    if (next) /* while the dot products wait for nothing */
        for (int j = 0; j < k; j++)
            if (next[j] >= 0)
                scratch_fetch(task->points->v + (size_t)next[j] * m, m * sizeof(double));
    if (m) {
        simd->dot_rows(m, g, k + 1, own->rows, own->dots);
        norm = own->dots[k];
    }
    const double *both[] = {g, found->b}, *through[] = {own->dots, own->more};
    for (int a = 0; a < e->directions; a++) {
        /* da . (g . v) and da . c; g . dw and b . dw */
        double da[2], dw[2] = {0, 0}, ratio = e->ratio[a][i];
        simd->dot_rows(k, e->dcoef[a] + i * k, 2, through, da);
        if (e->dW[a])
            simd->dot_rows(m, e->dW[a] + i * e->stride, 2, both, dw);
        sums[a] += -0.5 * ratio * (1 - error * error - norm) + scale * (error * da[1] + da[0]) + error * dw[1] - dw[0];
        sums[e->directions + a] += ratio * (1 - norm) + 2 * (dw[0] - scale * da[0]);
    }
}

static void second_chunk(const evaluation *e, workspace *own, size_t chunk)
{
    size_t n = e->count, end = (chunk + 1) * EVALUATION_CHUNK < n ? (chunk + 1) * EVALUATION_CHUNK : n;
    int m = e->task->m, stride = e->stride, rows = simd->rows, cols = simd->cols;
    double *sums = e->sums + chunk * evaluation_width(e), tile[SIMD_MAX_ROWS * SIMD_MAX_COLS];
    for (size_t at = chunk * EVALUATION_CHUNK; at < end; at += rows) {
        int count = end - at < (size_t)rows ? (int)(end - at) : rows;
        const int *child = e->problem.order + at;
        for (int a = 0; a < count && m; a++)
            memcpy(own->W + (size_t)a * stride, e->W + (size_t)child[a] * stride, stride * sizeof(double));
        for (int v = 0; v < m; v += cols) {
            simd->strided_tile(m, own->W, stride, 1, e->inverse + v, stride, tile);
            for (int a = 0; a < count; a++)
                memcpy(own->G + (size_t)a * stride + v, tile + a * cols, cols * sizeof(double));
        }
        for (int a = 0; a < count; a++)
            child_gradient(e, own, child[a], own->W + (size_t)a * stride, own->G + (size_t)a * stride,
                           at + a + 1 < end && m ? e->problem.parent + (size_t)child[a + 1] * e->task->k : NULL, sums);
    }
}

/* ---- chunks ------------------------------------------------------------------------------------ */

/* Runs a pass over all chunks; `from` and `to` are the shares of the work at its ends. */
static status run_pass(const evaluation *e, workspace *all, int pass, double from, double to)
{
    size_t n = e->task->points->n, chunks = evaluation_chunks(e->count), worst = n;
    int threads = e->task->threads;
    size_t step = (size_t)POLL_CHUNKS * threads;
    for (size_t done = 0; done < chunks; done += step) {
        size_t end = done + step < chunks ? done + step : chunks;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(min : worst)
        for (size_t chunk = done; chunk < end; chunk++) {
            unsigned state = simd_flush();
            if (pass == 1)
                first_chunk(e, all + threads_id(), chunk, &worst);
            else
                second_chunk(e, all + threads_id(), chunk);
            simd_restore(state);
        }
        if (monitor_poll(e->task->mon, from + (to - from) * (double)end / (double)chunks))
            return status_fail(STATUS_INTERRUPTED);
    }
    return worst < n ? (status){STATUS_NOT_POSITIVE_DEFINITE, worst} : status_ok();
}

status passes_first(evaluation *e, passes *own)
{
    const likelihood_task *task = e->task;
    int m = task->m, threads = task->threads;
    status outcome = status_ok();
    if (task->gradient && m)
        outcome = slopes_features(&e->sl, m, task->z, task->L, task->points->n, task->points->x, task->points->v,
                                  threads, task->mon, e->dV);
    if (outcome.code)
        return outcome;
    e->problem.changes = (const double *const *)e->dV;
    e->problem.change_count = m ? e->kernel_directions : 0;
    own->batches = batch_new(&e->problem, threads);
    own->all = own->batches ? workspace_new(e, own->batches, threads) : NULL;
    if (!own->all)
        return status_fail(STATUS_MEMORY);
    outcome = run_pass(e, own->all, 1, 0.1, 0.6);
    evaluation_drop_features(e);
    return outcome;
}

status passes_second(const evaluation *e, passes *own) { return run_pass(e, own->all, 2, 0.6, 0.9); }

void passes_free(passes *own, int threads)
{
    workspace_free(own->all, threads);
    batch_free(own->batches, threads);
}

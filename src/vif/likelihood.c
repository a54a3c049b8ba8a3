#include "vif/likelihood.h"

#include "base/linalg.h"
#include "base/scratch.h"
#include "base/threads.h"
#include "vif/information.h"
#include "vif/products.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define BLOCK 128      /* children whose sums are kept apart, so that sums have one order */
#define POLL_BLOCKS 16 /* for each thread, between two polls */
#define LOG_2PI 1.837877066409345483560659472811

/* Directions: all noise, those of slopes.h, and the nugget where it is not all noise. */
typedef struct {
    const likelihood_task *task;
    likelihood_result *result;
    batch_problem problem;
    slopes sl;
    size_t count; /* of the children, which come first in problem.order */
    int directions, kernel_directions, nugget; /* nugget: its direction, 0 where it is all noise */
    int stride, value_stride;
    double *W, *contrasts;   /* rows of the points, whitened: divided by the root of D */
    double **dV, **dW;       /* a direction of the kernel each */
    double **dcoef, **ratio; /* a direction each: k x n, and dD / D */
    double *centred;         /* c_j */
    double *inverse;         /* M^-1, rows of `stride` */
    double *sums;            /* of blocks */
} evaluation;

/* Scratch of a thread beyond its batch. */
typedef struct {
    batch *b;
    double **dK;    /* triangles, a direction of the kernel each */
    double *F;      /* (dR alpha) of each direction, vectors of lanes */
    double *weight; /* of one lane */
    const double **rows;
    double *W, *G; /* rows of a few points */
    double *dots, *more;
    double *sums; /* vectors of lanes */
} workspace;

static size_t blocks_of(size_t n) { return (n + BLOCK - 1) / BLOCK; }

int likelihood_parameters(const likelihood_task *task)
{
    return 2 + (task->axes ? task->d : 1) + (task->smoothness ? 1 : 0);
}

static int sums_width(const evaluation *e) { return e->directions * (e->directions + 2); }

static int is_child(const likelihood_task *task, size_t i)
{
    return !task->shard || task->shard->own[i];
}

/* ---- memory ----------------------------------------------------------------------------------- */

static void workspace_free(workspace *all, int threads)
{
    for (int t = 0; all && t < threads; t++) {
        scratch_free(all[t].dK);
        scratch_free(all[t].F);
        scratch_free(all[t].rows);
    }
    scratch_free(all);
}

static workspace *workspace_new(const evaluation *e, batch *batches, int threads)
{
    int lanes = simd->lanes, count = e->kernel_directions;
    size_t size = batches[0].size, vector = size * lanes,
           triangle = batch_triangle(batches[0].size);
    size_t few = (size_t)SIMD_MAX_ROWS * (e->stride + SIMD_MAX_COLS);
    workspace *all = scratch_alloc(threads, sizeof(workspace));
    if (!all)
        return NULL;
    memset(all, 0, threads * sizeof(workspace));
    for (int t = 0; t < threads; t++) {
        workspace *own = all + t;
        own->b = batches + t;
        own->dK = scratch_alloc(count + 1, sizeof(double *));
        own->rows = scratch_alloc(size + 2, sizeof(double *));
        own->F = scratch_alloc(count * triangle + (e->directions + 2) * vector + lanes * lanes +
                                   3 * (size + 2) + 2 * few,
                               sizeof(double));
        if (!own->dK || !own->rows || !own->F) {
            workspace_free(all, threads);
            return NULL;
        }
        own->sums = own->F + (e->directions + 1) * vector;
        double *at = own->sums + vector + lanes * lanes;
        for (int c = 0; c < count; c++, at += triangle)
            own->dK[c] = at;
        own->weight = at;
        own->dots = own->weight + size + 2;
        own->more = own->dots + size + 2;
        own->W = own->more + size + 2;
        own->G = own->W + few;
        memset(own->W, 0, 2 * few * sizeof(double));
    }
    return all;
}

static void give_each(scratch_pool *pool, double **arrays, int count)
{
    for (int a = 0; arrays && a < count; a++) {
        scratch_give(pool, arrays[a]);
        arrays[a] = NULL;
    }
}

static void evaluation_free(evaluation *e)
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

static double **pointers(int count)
{
    double **out = scratch_alloc(count + 1, sizeof(double *));
    if (out)
        memset(out, 0, (count + 1) * sizeof(double *));
    return out;
}

static status evaluation_new(const likelihood_task *task, likelihood_result *result, evaluation *e)
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
    status outcome = batch_problem_new(task->kern, task->d, m, task->points, task->points, k,
                                       task->id, &e->problem);
    if (outcome.code)
        return outcome;
    for (size_t at = 0; at < n; at++)
        if (is_child(task, e->problem.order[at]))
            e->problem.order[e->count++] = e->problem.order[at];
    int zero = task->shard != NULL; /* what has no child adds nothing */
    e->W = products_rows(task->pool, m ? n : 0, m, zero);
    e->contrasts = products_rows(task->pool, n, task->q, 1);
    e->centred = scratch_take(task->pool, n + 1, sizeof(double));
    e->inverse = products_rows(task->pool, m, m, 1);
    e->sums = scratch_alloc(blocks_of(e->count) * sums_width(e) + 1, sizeof(double));
    e->dV = pointers(e->kernel_directions);
    e->dW = pointers(e->directions);
    e->dcoef = pointers(e->directions);
    e->ratio = pointers(e->directions);
    int failed = !e->W || !e->contrasts || !e->centred || !e->inverse || !e->sums ||
                 !e->dV || !e->dW || !e->dcoef || !e->ratio;
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
        e->dW[a] = products_rows(task->pool, n, m, zero);
        failed = !e->dV[a - 1] || !e->dW[a];
    }
    return failed ? status_fail(STATUS_MEMORY) : status_ok();
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
        if (task->m && !e->directions)
            simd->combine_rows(task->m, size, own->weight, b->rows + (size_t)lane * size,
                               e->W + i * e->stride);
    }
}

/* The contrasts of the features of one lane and of their derivatives, and F <- F - (v . dw + dv . w) in the directions of the
 * kernel. */
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
        simd->contrast_rows(m, size, own->weight, b->rows + (size_t)lane * size, changes,
                            e->W + i * e->stride, e->dW[c] + i * e->stride, own->sums, own->dots);
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

/* The information of regressions (Guinness, 2021): t_a . t_b less half the product of their last elements, t_a the last row
 * of the whitened derivative. */
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

static void first_block(const evaluation *e, workspace *own, size_t block, size_t *worst)
{
    size_t n = e->count, end = (block + 1) * BLOCK < n ? (block + 1) * BLOCK : n;
    size_t lanes = simd->lanes;
    double *sums = e->sums + block * sums_width(e);
    memset(sums, 0, sums_width(e) * sizeof(double));
    for (size_t at = block * BLOCK; at < end; at += lanes) {
        const int *child = e->problem.order + at;
        batch_load(&e->problem, child, (int)(end - at < lanes ? end - at : lanes), own->b);
        batch_covariance(&e->problem, e->directions ? &e->sl : NULL, own->dK, own->b);
        unsigned failed = batch_factor(own->b);
        for (int lane = 0; failed >> lane; lane++)
            if (failed >> lane & 1 && (size_t)child[lane] < *worst)
                *worst = child[lane];
        if (failed)
            continue;
        keep_values(e, own);
        if (e->directions)
            keep_slopes(e, own, sums);
    }
}

/* ---- between the passes ----------------------------------------------------------------------- */

/* x <- M^-1 x for one column. */
static void solve_root(int m, const double *root, double *x)
{
    for (int u = 0; u < m; u++) {
        x[u] /= root[u + (size_t)u * m];
        simd->add_multiple(m - u - 1, -x[u], root + u + 1 + (size_t)u * m, x + u + 1);
    }
    for (int u = m - 1; u >= 0; --u) {
        double sum = x[u];
        for (int v = u + 1; v < m; v++)
            sum -= root[v + (size_t)u * m] * x[v];
        x[u] = sum / root[u + (size_t)u * m];
    }
}

/* A failure that is no child's. */
static status positive(status outcome)
{
    if (outcome.code == STATUS_NOT_POSITIVE_DEFINITE)
        outcome.where = SIZE_MAX;
    return outcome;
}

/* M less the identity (m x m, lower by rows) and E' W for the contrasts E (q rows of m). */
static status sum_cross(const evaluation *e, double *M, double *EW)
{
    const likelihood_task *task = e->task;
    size_t n = task->points->n;
    int m = task->m, q = task->q, stride = e->stride;
    double *across = products_rows(NULL, q, m, 1);
    if (!across)
        return status_fail(STATUS_MEMORY);
    products_cross(n, m, e->W, stride, m, e->W, stride, 1, task->threads, e->inverse, stride);
    for (int u = 0; u < m; u++)
        memcpy(M + (size_t)u * m, e->inverse + (size_t)u * stride, m * sizeof(double));
    products_cross(n, q, e->contrasts, e->value_stride, m, e->W, stride, 0, task->threads, across,
                   stride);
    for (int c = 0; c < q; c++)
        memcpy(EW + (size_t)c * m, across + (size_t)c * stride, m * sizeof(double));
    scratch_free(across);
    return status_ok();
}

/* The factor of M, and B = M^-1 W E (m x q). */
static status make_root(int m, int q, const monitor *mon, const double *M, const double *EW,
                        double *root, double *B)
{
    for (int u = 0; u < m; u++)
        for (int v = 0; v <= u; v++)
            root[u + (size_t)v * m] = M[(size_t)u * m + v] + (u == v);
    status outcome = positive(linalg_cholesky(m, mon, root));
    for (int c = 0; c < q && !outcome.code; c++) {
        memcpy(B + (size_t)c * m, EW + (size_t)c * m, m * sizeof(double));
        solve_root(m, root, B + (size_t)c * m);
    }
    return outcome;
}

/* Generalised least squares: beta and its information from Q = E' C^-1 E (q x q). */
static status profile(const double *Q, int q, double *beta, double *information, double *root)
{
    int p = q - 1;
    for (int j = 0; j < p; j++)
        for (int i = 0; i < p; i++)
            root[i + j * p] = information[i + j * p] = Q[i + 1 + (size_t)(j + 1) * q];
    status outcome = positive(linalg_cholesky(p, NULL, root));
    for (int i = 0; i < p; i++)
        beta[i] = Q[i + 1];
    if (!outcome.code)
        solve_root(p, root, beta);
    return outcome;
}

/* Contrasts less what the inducing inputs say of them, and the squares of what is left (q x q). */
static status sum_squares(const evaluation *e, const double *B, double *squares)
{
    const likelihood_task *task = e->task;
    size_t n = task->points->n;
    int m = task->m, q = task->q, stride = e->value_stride;
    double *turned = products_rows(NULL, m, q, 1), *full = products_rows(NULL, q, q, 1);
    if (turned && full) {
        for (int u = 0; u < m; u++)
            for (int c = 0; c < q; c++)
                turned[(size_t)u * stride + c] = -B[u + (size_t)c * m];
        if (m)
            products_multiply(n, m, e->W, e->stride, q, turned, stride, 1, task->threads,
                              e->contrasts, stride);
        products_cross(n, q, e->contrasts, stride, q, e->contrasts, stride, 0, task->threads, full,
                       stride);
        for (int c = 0; c < q; c++)
            memcpy(squares + (size_t)c * q, full + (size_t)c * stride, q * sizeof(double));
    }
    status outcome = turned && full ? status_ok() : status_fail(STATUS_MEMORY);
    scratch_free(turned);
    scratch_free(full);
    return outcome;
}

/* beta, its information, b and B of the covariates, from the squares of step 2. */
static status make_mean(int m, int q, const double *B, const double *squares,
                        likelihood_result *out)
{
    double *Q = scratch_alloc((size_t)q * q * 2 + 1, sizeof(double));
    if (!Q)
        return status_fail(STATUS_MEMORY);
    for (int c = 0; c < q; c++)
        for (int j = 0; j < q; j++) {
            double sum = squares[(size_t)c * q + j];
            for (int u = 0; u < m; u++)
                sum += B[u + (size_t)c * m] * B[u + (size_t)j * m];
            Q[c + (size_t)j * q] = sum;
        }
    status outcome = profile(Q, q, out->beta, out->information, Q + (size_t)q * q);
    for (int u = 0; u < m && !outcome.code; u++) {
        out->b[u] = B[u];
        for (int c = 1; c < q; c++) {
            out->b[u] -= out->beta[c - 1] * B[u + (size_t)c * m];
            out->B[u + (size_t)(c - 1) * m] = B[u + (size_t)c * m];
        }
    }
    scratch_free(Q);
    return outcome;
}

/* Sum of log D over the children. */
static double sum_logs(const evaluation *e)
{
    double logs = 0;
    for (size_t i = 0; i < e->task->points->n; i++)
        logs += is_child(e->task, i) ? log(e->result->D[i]) : 0;
    return logs;
}

/* Errors, residuals and the sum of the squared errors over the children. */
static double make_errors(const evaluation *e, const double *beta)
{
    const likelihood_task *task = e->task;
    likelihood_result *out = e->result;
    int q = task->q;
    double squares = 0;
    for (size_t i = 0; i < task->points->n; i++) {
        double error = e->contrasts[i * e->value_stride], residual = task->values[i * q];
        for (int c = 1; c < q; c++) {
            error -= beta[c - 1] * e->contrasts[i * e->value_stride + c];
            residual -= beta[c - 1] * task->values[i * q + c];
        }
        squares += error * error; /* 0 in the halo */
        out->error[i] = error * sqrt(out->D[i]);
        out->residual[i] = residual;
    }
    return squares;
}

/* From the sums over all children; answers y' S^-1 y less the number of observations, half of it. */
static double make_value(size_t n, int m, double logs, double squares, likelihood_result *out)
{
    for (int u = 0; u < m; u++) {
        logs += 2 * log(out->root[u + (size_t)u * m]);
        squares += out->b[u] * out->b[u];
    }
    out->loglik = -0.5 * (n * LOG_2PI + logs + squares);
    return 0.5 * (squares - n); /* the derivative in the direction of all covariances together */
}

/* c_j of all points. */
static void make_centred(const evaluation *e, const double *b)
{
    const likelihood_task *task = e->task;
    int m = task->m;
#pragma omp parallel for num_threads(task->threads) schedule(static)
    for (size_t j = 0; j < task->points->n; j++) {
        const double *v = task->points->v + j * m;
        double along = 0;
        if (m)
            simd->dot_rows(m, b, 1, &v, &along);
        e->centred[j] = e->result->residual[j] - along;
    }
}

/* ---- the second pass -------------------------------------------------------------------------- */

/* Adds what child i says of the gradient and of tr(S^-1 dS): w and g are divided by the root of D. */
static void child_gradient(const evaluation *e, workspace *own, size_t i, const double *w,
                           const double *g, const int *next, double *sums)
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
                batch_fetch(m, task->points->v + (size_t)next[j] * m);
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
        sums[a] += -0.5 * ratio * (1 - error * error - norm) + scale * (error * da[1] + da[0]) +
                   error * dw[1] - dw[0];
        sums[e->directions + a] += ratio * (1 - norm) + 2 * (dw[0] - scale * da[0]);
    }
}

static void second_block(const evaluation *e, workspace *own, size_t block)
{
    size_t n = e->count, end = (block + 1) * BLOCK < n ? (block + 1) * BLOCK : n;
    int m = e->task->m, stride = e->stride, rows = simd->rows, cols = simd->cols;
    double *sums = e->sums + block * sums_width(e), tile[SIMD_MAX_ROWS * SIMD_MAX_COLS];
    for (size_t at = block * BLOCK; at < end; at += rows) {
        int count = end - at < (size_t)rows ? (int)(end - at) : rows;
        const int *child = e->problem.order + at;
        for (int a = 0; a < count && m; a++)
            memcpy(own->W + (size_t)a * stride, e->W + (size_t)child[a] * stride,
                   stride * sizeof(double));
        for (int v = 0; v < m; v += cols) {
            simd->strided_tile(m, own->W, stride, 1, e->inverse + v, stride, tile);
            for (int a = 0; a < count; a++)
                memcpy(own->G + (size_t)a * stride + v, tile + a * cols, cols * sizeof(double));
        }
        for (int a = 0; a < count; a++)
            child_gradient(
                e, own, child[a], own->W + (size_t)a * stride, own->G + (size_t)a * stride,
                at + a + 1 < end && m ? e->problem.parent + (size_t)child[a + 1] * e->task->k
                                      : NULL,
                sums);
    }
}

/* ---- both ------------------------------------------------------------------------------------- */

/* Runs a pass over all blocks; `from` and `to` are the shares of the work at its ends. */
static status run_pass(const evaluation *e, workspace *all, int pass, double from, double to)
{
    size_t n = e->task->points->n, blocks = blocks_of(e->count), worst = n;
    int threads = e->task->threads;
    size_t step = (size_t)POLL_BLOCKS * threads;
    for (size_t done = 0; done < blocks; done += step) {
        size_t end = done + step < blocks ? done + step : blocks;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(min : worst)
        for (size_t block = done; block < end; block++) {
            unsigned state = simd_flush();
            if (pass == 1)
                first_block(e, all + threads_id(), block, &worst);
            else
                second_block(e, all + threads_id(), block);
            simd_restore(state);
        }
        if (monitor_poll(e->task->mon, from + (to - from) * (double)end / (double)blocks))
            return status_fail(STATUS_INTERRUPTED);
    }
    return worst < n ? (status){STATUS_NOT_POSITIVE_DEFINITE, worst} : status_ok();
}

/* Sums of column `at` over the blocks. */
static double block_sum(const evaluation *e, int at)
{
    double sum = 0;
    for (size_t block = 0; block < blocks_of(e->count); block++)
        sum += e->sums[block * sums_width(e) + at];
    return sum;
}

/* From directions to parameters: the variance is everything less all noise. `total` is the derivative in the direction of all
 * covariances, trace and across those of the directions. */
static void to_parameters(const likelihood_sizes *sizes, double total, const double *slope,
                          const double *trace, const double *across, likelihood_result *out)
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

static likelihood_sizes sizes_of(const evaluation *e)
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

/* What the second pass has summed up: sums_width numbers. */
static void add_blocks(const evaluation *e, double *sums)
{
    for (int at = 0; at < sums_width(e); at++)
        sums[at] = block_sum(e, at);
}

static information_task probes_of(const evaluation *e, const double *root, const double *trace)
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
        .place = task->shard ? task->shard->place : NULL,
        .v = task->points->v,
        .threads = task->threads,
        .pool = task->pool,
        .mon = task->mon,
    };
}

static status make_derivatives(const evaluation *e, double total)
{
    const likelihood_task *task = e->task;
    int count = e->directions;
    likelihood_sizes sizes = sizes_of(e);
    status outcome = status_ok();
    double *sums = scratch_alloc(sums_width(e) + 1, sizeof(double));
    if (!sums)
        return status_fail(STATUS_MEMORY);
    add_blocks(e, sums);
    double *slope = sums, *trace = sums + count, *across = sums + 2 * count;
    for (int a = 0; a < count; a++)
        for (int c = 0; c < a; c++)
            across[c * count + a] = across[a * count + c];
    if (task->information && task->m) {
        information_task probes = probes_of(e, e->result->root, trace);
        outcome = information_expected(&probes, across);
    }
    if (!outcome.code)
        to_parameters(&sizes, total, slope, trace, task->information ? across : NULL, e->result);
    scratch_free(sums);
    return outcome;
}

/* Features of the derivatives, scratch and the first pass. */
static status first_pass(evaluation *e, batch **batches, workspace **all)
{
    const likelihood_task *task = e->task;
    int m = task->m, threads = task->threads;
    status outcome = status_ok();
    if (task->gradient && m)
        outcome = slopes_features(&e->sl, m, task->z, task->L, task->points->n, task->points->x,
                                  task->points->v, threads, task->mon, e->dV);
    if (outcome.code)
        return outcome;
    e->problem.changes = (const double *const *)e->dV;
    e->problem.change_count = m ? e->kernel_directions : 0;
    *batches = batch_new(&e->problem, threads);
    *all = *batches ? workspace_new(e, *batches, threads) : NULL;
    if (!*all)
        return status_fail(STATUS_MEMORY);
    outcome = run_pass(e, *all, 1, 0.1, 0.6);
    give_each(task->pool, e->dV, e->kernel_directions); /* of no use any more */
    return outcome;
}

status likelihood_evaluate(const likelihood_task *task, likelihood_result *result)
{
    size_t n = task->points->n;
    int m = task->m, q = task->q, threads = task->threads;
    evaluation e;
    batch *batches = NULL;
    workspace *all = NULL;
    double *sums = scratch_alloc((size_t)m * m + 2 * (size_t)m * q + (size_t)q * q + 1,
                                 sizeof(double));
    status outcome = evaluation_new(task, result, &e);
    if (!outcome.code && !sums)
        outcome = status_fail(STATUS_MEMORY);
    if (!outcome.code)
        outcome = first_pass(&e, &batches, &all);
    if (outcome.code)
        goto done;
    double *EW = sums + (size_t)m * m, *B = EW + (size_t)m * q, *squares = B + (size_t)m * q;
    if (m)
        outcome = sum_cross(&e, sums, EW);
    if (!outcome.code)
        outcome = make_root(m, q, task->mon, sums, EW, result->root, B);
    if (!outcome.code)
        outcome = sum_squares(&e, B, squares);
    if (!outcome.code)
        outcome = make_mean(m, q, B, squares, result);
    if (outcome.code)
        goto done;
    double error = make_errors(&e, result->beta);
    double total = make_value(n, m, sum_logs(&e), error, result);
    if (!task->gradient)
        goto done;
    if (m)
        outcome = linalg_inverse(task->m, result->root, e.stride, e.inverse);
    make_centred(&e, result->b);
    if (!outcome.code)
        outcome = run_pass(&e, all, 2, 0.6, 0.9);
    if (!outcome.code)
        outcome = make_derivatives(&e, total);
done:
    scratch_free(sums);
    workspace_free(all, threads);
    batch_free(batches, threads);
    evaluation_free(&e);
    return outcome;
}

/* ---- in steps --------------------------------------------------------------------------------- */

struct likelihood {
    likelihood_task task;
    likelihood_result result;
    evaluation e;
    batch *batches;
    workspace *all;
    information_steps *steps;
};

static size_t width_of(const likelihood_sizes *sizes)
{
    return (size_t)sizes->directions * (sizes->directions + 2);
}

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
    workspace_free(open->all, open->task.threads);
    batch_free(open->batches, open->task.threads);
    evaluation_free(&open->e);
    scratch_free(open);
}

status likelihood_open(const likelihood_task *task, const likelihood_result *result,
                       likelihood **out)
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
        outcome = first_pass(&open->e, &open->batches, &open->all);
    }
    if (outcome.code == STATUS_NOT_POSITIVE_DEFINITE && outcome.where < task->points->n)
        outcome.where = (size_t)task->shard->place[outcome.where];
    return outcome;
}

likelihood_sizes likelihood_size(const likelihood *open) { return sizes_of(&open->e); }

size_t likelihood_regression_width(const likelihood *open)
{
    return 1 + (size_t)open->task.k * (1 + open->e.directions);
}

size_t likelihood_return_width(const likelihood *open)
{
    return (size_t)open->e.directions * INFORMATION_PROBES;
}

void likelihood_regressions(likelihood *open, int put, size_t count, const int *points,
                            double *rows)
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
            memcpy(rows + a * INFORMATION_PROBES, values + a * stride,
                   INFORMATION_PROBES * sizeof(double));
    }
}

static status first_step(likelihood *open, double *sums)
{
    evaluation *e = &open->e;
    size_t m = open->task.m, q = open->task.q;
    *sums++ = sum_logs(e);
    status outcome = m ? sum_cross(e, sums, sums + m * m) : status_ok();
    if (outcome.code || !sizes_of(e).probes)
        return outcome;
    information_task probes = probes_of(e, NULL, NULL);
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
    status outcome = sum_squares(&open->e, B, sums);
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
    *sums++ = make_errors(e, beta);
    if (!open->task.gradient)
        return outcome;
    memcpy(open->result.b, b, m * sizeof(double));
    if (m)
        outcome = linalg_inverse(e->task->m, root, e->stride, e->inverse);
    make_centred(e, b);
    if (!outcome.code)
        outcome = run_pass(e, open->all, 2, 0.6, 0.9);
    add_blocks(e, sums);
    if (!outcome.code && open->steps)
        outcome = information_products(open->steps, b + m * q, sums + sums_width(e));
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

status likelihood_finish(const likelihood_sizes *sizes, int step, const double *known,
                         const double *sums, double *next)
{
    size_t m = sizes->m, q = sizes->q, p = q - 1, row = m * sizes->probes;
    next[0] = step == 1 ? sums[0] : known[0];
    double *root = next + 1;
    if (step == 1) {
        const double *M = sums + 1;
        memset(root, 0, m * m * sizeof(double));
        status outcome =
            make_root(sizes->m, sizes->q, NULL, M, M + m * m, root, root + m * m);
        if (!outcome.code && row)
            information_turn(sizes->m, root, M + m * m + q * m, root + m * m + q * m);
        return outcome;
    }
    memcpy(root, known + 1, m * m * sizeof(double));
    double *beta = root + m * m, *b = beta + p * q;
    likelihood_result parts = {.beta = beta, .information = beta + p, .b = b, .B = b + m};
    memcpy(b + m * q, sums + q * q, row * (1 + moving(sizes)) * sizeof(double));
    return make_mean(sizes->m, sizes->q, known + 1 + m * m, sums, &parts);
}

status likelihood_finish_last(const likelihood_sizes *sizes, const double *known,
                              const double *sums, likelihood_result *result)
{
    int count = sizes->directions;
    likelihood_parts(sizes, known, result);
    double total = make_value(sizes->n, sizes->m, known[0], sums[0], result);
    if (!count)
        return status_ok();
    const double *slope = sums + 1, *trace = slope + count, *lower = trace + count;
    double *across = scratch_alloc((size_t)count * count + 1, sizeof(double));
    status outcome = across ? status_ok() : status_fail(STATUS_MEMORY);
    for (int a = 0; a < count && across; a++)
        for (int c = 0; c <= a; c++)
            across[c * count + a] = across[a * count + c] = lower[a * count + c];
    if (across && sizes->probes)
        outcome = information_finish(sizes->n, count, sizes->m, result->root, trace,
                                     sums + 1 + width_of(sizes), across);
    if (!outcome.code)
        to_parameters(sizes, total, slope, trace, sizes->information ? across : NULL, result);
    scratch_free(across);
    return outcome;
}

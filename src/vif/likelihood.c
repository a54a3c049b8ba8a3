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
    int directions, kernel_directions, nugget; /* nugget: its direction, 0 where it is all noise */
    int stride, value_stride;
    double *W, *contrasts;   /* rows of the points, whitened: divided by the root of D */
    double **dV, **dW;       /* a direction of the kernel each */
    double **dcoef, **ratio; /* a direction each: k x n, and dD / D */
    double *centred;         /* c_j */
    double *inverse;         /* M^-1, rows of `stride` */
    double *sums;            /* of blocks */
    double *trace;           /* of the directions */
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
    scratch_free(e->trace);
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
        for (size_t i = 0; i < n && !e->nugget; i++)
            if (task->noise[i] != task->nugget[i])
                e->nugget = e->directions++;
    }
    e->stride = m ? products_stride(m) : 0;
    e->value_stride = products_stride(task->q);
    status outcome = batch_problem_new(task->kern, task->d, m, task->points, task->points, k,
                                       task->id, &e->problem);
    if (outcome.code)
        return outcome;
    e->W = products_rows(task->pool, m ? n : 0, m, 0);
    e->contrasts = products_rows(task->pool, n, task->q, 1);
    e->centred = scratch_take(task->pool, n + 1, sizeof(double));
    e->inverse = products_rows(task->pool, m, m, 1);
    e->sums = scratch_alloc(blocks_of(n) * sums_width(e) + 1, sizeof(double));
    e->trace = scratch_alloc(e->directions + 1, sizeof(double));
    e->dV = pointers(e->kernel_directions);
    e->dW = pointers(e->directions);
    e->dcoef = pointers(e->directions);
    e->ratio = pointers(e->directions);
    int failed = !e->W || !e->contrasts || !e->centred || !e->inverse || !e->sums || !e->trace ||
                 !e->dV || !e->dW || !e->dcoef || !e->ratio;
    for (int a = 0; a < e->directions && !failed; a++) {
        e->dcoef[a] = scratch_take(task->pool, n * k + 1, sizeof(double));
        e->ratio[a] = scratch_take(task->pool, n + 1, sizeof(double));
        failed = !e->dcoef[a] || !e->ratio[a];
        if (failed || !m || a < 1 || a > e->kernel_directions)
            continue;
        e->dV[a - 1] = scratch_take(task->pool, n * m + 1, sizeof(double));
        e->dW[a] = products_rows(task->pool, n, m, 0);
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
    size_t n = e->task->points->n, end = (block + 1) * BLOCK < n ? (block + 1) * BLOCK : n;
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

/* M, its factor, and M^-1 W E for the contrasts E (columns of B, the observation first). */
static status make_root(const evaluation *e, double *B)
{
    const likelihood_task *task = e->task;
    size_t n = task->points->n;
    int m = task->m, q = task->q, stride = e->stride;
    double *root = e->result->root, *across = products_rows(NULL, q, m, 1);
    if (!across)
        return status_fail(STATUS_MEMORY);
    products_cross(n, m, e->W, stride, m, e->W, stride, 1, task->threads, e->inverse, stride);
    for (int u = 0; u < m; u++)
        for (int v = 0; v <= u; v++)
            root[u + (size_t)v * m] = e->inverse[(size_t)u * stride + v] + (u == v);
    status outcome = positive(linalg_cholesky(m, task->mon, root));
    products_cross(n, q, e->contrasts, e->value_stride, m, e->W, stride, 0, task->threads, across,
                   stride);
    for (int c = 0; c < q && !outcome.code; c++) {
        memcpy(B + (size_t)c * m, across + (size_t)c * stride, m * sizeof(double));
        solve_root(m, root, B + (size_t)c * m);
    }
    scratch_free(across);
    return outcome;
}

/* M^-1 in rows, from its factor. */
static status make_inverse(const evaluation *e)
{
    int m = e->task->m, cols = simd->cols;
    linalg_triangle lower = {0}, upper = {0};
    double *panel = scratch_alloc((size_t)(m + simd->rows) * cols, sizeof(double));
    status outcome =
        panel ? linalg_triangle_pack(m, e->result->root, 0, &lower) : status_fail(STATUS_MEMORY);
    if (!outcome.code)
        outcome = linalg_triangle_pack(m, e->result->root, 1, &upper);
    for (int first = 0; first < m && !outcome.code; first += cols) {
        memset(panel, 0, (size_t)m * cols * sizeof(double));
        for (int j = 0; j < cols && first + j < m; j++)
            panel[(size_t)(first + j) * cols + j] = 1;
        linalg_solve_panel(&lower, panel);
        linalg_solve_panel(&upper, panel);
        for (int u = 0; u < m; u++)
            memcpy(e->inverse + (size_t)u * e->stride + first, panel + (size_t)u * cols,
                   cols * sizeof(double));
    }
    linalg_triangle_free(&lower);
    linalg_triangle_free(&upper);
    scratch_free(panel);
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

/* beta, b, errors, residuals and the log-likelihood. */
static status make_value(const evaluation *e)
{
    const likelihood_task *task = e->task;
    likelihood_result *out = e->result;
    size_t n = task->points->n;
    int m = task->m, q = task->q, stride = e->value_stride;
    status outcome = status_fail(STATUS_MEMORY);
    double *B = scratch_alloc((size_t)m * q + 1, sizeof(double)),
           *turned = products_rows(NULL, m, q, 1);
    double *Q = scratch_alloc((size_t)q * q * 2 + 1, sizeof(double)),
           *full = products_rows(NULL, q, q, 1);
    if (!B || !turned || !Q || !full)
        goto done;
    if (m) {
        outcome = make_root(e, B);
        if (outcome.code)
            goto done;
        for (int u = 0; u < m; u++)
            for (int c = 0; c < q; c++)
                turned[(size_t)u * stride + c] = -B[u + (size_t)c * m];
        products_multiply(n, m, e->W, e->stride, q, turned, stride, 1, task->threads, e->contrasts,
                          stride);
    }
    products_cross(n, q, e->contrasts, stride, q, e->contrasts, stride, 0, task->threads, full,
                   stride);
    for (int c = 0; c < q; c++)
        for (int j = 0; j < q; j++) {
            double sum = full[(size_t)c * stride + j];
            for (int u = 0; u < m; u++)
                sum += B[u + (size_t)c * m] * B[u + (size_t)j * m];
            Q[c + (size_t)j * q] = sum;
        }
    outcome = profile(Q, q, out->beta, out->information, Q + (size_t)q * q);
    if (outcome.code)
        goto done;
    for (int u = 0; u < m; u++) {
        out->b[u] = B[u];
        for (int c = 1; c < q; c++) {
            out->b[u] -= out->beta[c - 1] * B[u + (size_t)c * m];
            out->B[u + (size_t)(c - 1) * m] = B[u + (size_t)c * m];
        }
    }
    double logs = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        double error = e->contrasts[i * stride], residual = task->values[i * q];
        for (int c = 1; c < q; c++) {
            error -= out->beta[c - 1] * e->contrasts[i * stride + c];
            residual -= out->beta[c - 1] * task->values[i * q + c];
        }
        logs += log(out->D[i]);
        squares += error * error;
        out->error[i] = error * sqrt(out->D[i]);
        out->residual[i] = residual;
    }
    for (int u = 0; u < m; u++) {
        logs += 2 * log(out->root[u + (size_t)u * m]);
        squares += out->b[u] * out->b[u];
    }
    out->loglik = -0.5 * (n * LOG_2PI + logs + squares);
    if (task->gradient) { /* in the direction of all covariances together */
        e->trace[e->directions] = 0.5 * (squares - n);
        outcome = m ? make_inverse(e) : status_ok();
    }
done:
    scratch_free(B);
    scratch_free(turned);
    scratch_free(Q);
    scratch_free(full);
    return outcome;
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
    size_t n = e->task->points->n, end = (block + 1) * BLOCK < n ? (block + 1) * BLOCK : n;
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
    size_t n = e->task->points->n, blocks = blocks_of(n), worst = n;
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
    for (size_t block = 0; block < blocks_of(e->task->points->n); block++)
        sum += e->sums[block * sums_width(e) + at];
    return sum;
}

/* From directions to parameters: the variance is everything less all noise. */
static void to_parameters(const evaluation *e, const double *slope, const double *across)
{
    int count = e->directions, lengths = e->task->axes ? e->task->d : 1;
    int parameters = likelihood_parameters(e->task);
    double total = e->trace[count], n = (double)e->task->points->n;
    double *gradient = e->result->gradient, *fisher = e->result->fisher;
    for (int i = 0; i < parameters; i++) {
        int a = i == 0 ? 0 : i <= lengths ? i : i == lengths + 1 ? e->nugget : i - 1;
        gradient[i] = i ? slope[a] : total - slope[0];
        for (int j = 0; across && j < parameters; j++) {
            int c = j == 0 ? 0 : j <= lengths ? j : j == lengths + 1 ? e->nugget : j - 1;
            double value = across[a * count + c];
            if (i == 0 && j == 0)
                value += 0.5 * n - e->trace[0];
            else if (i == 0)
                value = 0.5 * e->trace[c] - value;
            else if (j == 0)
                value = 0.5 * e->trace[a] - value;
            fisher[i + j * parameters] = value;
        }
    }
}

static status make_derivatives(const evaluation *e)
{
    const likelihood_task *task = e->task;
    int count = e->directions;
    status outcome = status_ok();
    double *slope = scratch_alloc((size_t)count * (count + 1), sizeof(double));
    if (!slope)
        return status_fail(STATUS_MEMORY);
    double *across = slope + count;
    for (int a = 0; a < count; a++) {
        slope[a] = block_sum(e, a);
        e->trace[a] = block_sum(e, count + a);
        for (int c = 0; c <= a; c++)
            across[a * count + c] = across[c * count + a] = block_sum(e, 2 * count + a * count + c);
    }
    if (task->information && task->m) {
        information_task probes = {
            .n = task->points->n,
            .k = task->k,
            .m = task->m,
            .stride = e->stride,
            .parent = e->problem.parent,
            .coef = e->result->coef,
            .D = e->result->D,
            .W = e->W,
            .root = e->result->root,
            .count = count,
            .dcoef = (const double *const *)e->dcoef,
            .ratio = (const double *const *)e->ratio,
            .dW = (const double *const *)e->dW,
            .trace = e->trace,
            .accurate = task->information == LIKELIHOOD_ACCURATE,
            .threads = task->threads,
            .pool = task->pool,
            .mon = task->mon,
        };
        outcome = information_expected(&probes, across);
    }
    if (!outcome.code)
        to_parameters(e, slope, task->information ? across : NULL);
    scratch_free(slope);
    return outcome;
}

status likelihood_evaluate(const likelihood_task *task, likelihood_result *result)
{
    size_t n = task->points->n;
    int m = task->m, threads = task->threads;
    evaluation e;
    batch *batches = NULL;
    workspace *all = NULL;
    status outcome = evaluation_new(task, result, &e);
    if (!outcome.code && task->gradient && m)
        outcome = slopes_features(&e.sl, m, task->z, task->L, n, task->points->x, task->points->v,
                                  threads, task->mon, e.dV);
    if (outcome.code)
        goto done;
    e.problem.changes = (const double *const *)e.dV;
    e.problem.change_count = m ? e.kernel_directions : 0;
    outcome = status_fail(STATUS_MEMORY);
    batches = batch_new(&e.problem, threads);
    all = batches ? workspace_new(&e, batches, threads) : NULL;
    if (!all)
        goto done;
    outcome = run_pass(&e, all, 1, 0.1, 0.6);
    if (!outcome.code)
        outcome = make_value(&e);
    if (outcome.code || !task->gradient)
        goto done;
    give_each(task->pool, e.dV, e.kernel_directions); /* of no use any more */
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t j = 0; j < n; j++) {
        const double *v = task->points->v + j * m;
        double along = 0;
        if (m)
            simd->dot_rows(m, result->b, 1, &v, &along);
        e.centred[j] = result->residual[j] - along;
    }
    outcome = run_pass(&e, all, 2, 0.6, 0.9);
    if (!outcome.code)
        outcome = make_derivatives(&e);
done:
    workspace_free(all, threads);
    batch_free(batches, threads);
    evaluation_free(&e);
    return outcome;
}

#include "vif/mean.h"

#include "base/linalg.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define LOG_2PI 1.837877066409345483560659472811

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
status mean_cross(const evaluation *e, double *M, double *EW)
{
    const likelihood_task *task = e->task;
    size_t n = task->points->n;
    int m = task->m, q = task->q, stride = e->stride;
    double *across = products_rows(NULL, q, m, 1, task->threads);
    if (!across)
        return status_fail(STATUS_MEMORY);
    status outcome =
        products_cross(n, m, e->W, stride, m, e->W, stride, 1, task->threads, task->mon, e->inverse, stride);
    if (!outcome.code)
        outcome = products_cross(n, q, e->contrasts, e->value_stride, m, e->W, stride, 0, task->threads, task->mon,
                                 across, stride);
    for (int u = 0; u < m && !outcome.code; u++)
        memcpy(M + (size_t)u * m, e->inverse + (size_t)u * stride, m * sizeof(double));
    for (int c = 0; c < q && !outcome.code; c++)
        memcpy(EW + (size_t)c * m, across + (size_t)c * stride, m * sizeof(double));
    scratch_free(across);
    return outcome;
}

/* The factor of M, and B = M^-1 W E (m x q). */
status mean_root(int m, int q, const monitor *mon, const double *M, const double *EW, double *root, double *B)
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
status mean_squares(const evaluation *e, const double *B, double *squares)
{
    const likelihood_task *task = e->task;
    size_t n = task->points->n;
    int m = task->m, q = task->q, stride = e->value_stride;
    double *turned = products_rows(NULL, m, q, 1, task->threads), *full = products_rows(NULL, q, q, 1, task->threads);
    status outcome = turned && full ? status_ok() : status_fail(STATUS_MEMORY);
    if (!outcome.code) {
        for (int u = 0; u < m; u++)
            for (int c = 0; c < q; c++)
                turned[(size_t)u * stride + c] = -B[u + (size_t)c * m];
        if (m)
            products_multiply(n, m, e->W, e->stride, q, turned, stride, 1, task->threads, e->contrasts, stride);
        outcome = products_cross(n, q, e->contrasts, stride, q, e->contrasts, stride, 0, task->threads, task->mon, full,
                                 stride);
        for (int c = 0; c < q; c++)
            memcpy(squares + (size_t)c * q, full + (size_t)c * stride, q * sizeof(double));
    }
    scratch_free(turned);
    scratch_free(full);
    return outcome;
}

/* beta, its information, b and B of the covariates, from the squares of step 2. */
status mean_solve(int m, int q, const double *B, const double *squares, likelihood_result *out)
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
double mean_logs(const evaluation *e)
{
    double logs = 0;
    for (size_t i = 0; i < e->task->points->n; i++)
        logs += evaluation_is_child(e->task, i) ? log(e->result->D[i]) : 0;
    return logs;
}

/* Errors, residuals and the sum of the squared errors over the children. */
double mean_errors(const evaluation *e, const double *beta)
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
double mean_value(size_t n, int m, double logs, double squares, likelihood_result *out)
{
    for (int u = 0; u < m; u++) {
        logs += 2 * log(out->root[u + (size_t)u * m]);
        squares += out->b[u] * out->b[u];
    }
    out->loglik = -0.5 * (n * LOG_2PI + logs + squares);
    return 0.5 * (squares - n); /* the derivative in the direction of all covariances together */
}

/* c_j of all points. */
void mean_centre(const evaluation *e, const double *b)
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

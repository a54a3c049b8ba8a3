#include "vif/laplace.h"

#include "base/linalg.h"
#include "base/scratch.h"
#include "base/threads.h"
#include "simd/simd.h"
#include "vif/products.h"

#include <math.h>
#include <string.h>

#define BLOCK 256 /* points whose partial sums are kept apart, so that sums have one order */

/* Scratch of one thread: a point and its neighbours, the point last. */
typedef struct {
    int *ids, *slots;         /* 0-based neighbours, and their columns in the table */
    double *x, *v;            /* gathered */
    double *rows, *cols;      /* the same v in panels */
    double *R;                /* covariance, then its Cholesky factor */
    double *alpha, *beta, *z; /* k + 1, k + 1, m */
    double *line;             /* k + 1 */
} workspace;

static void workspace_free(workspace *work, int threads)
{
    for (int t = 0; work && t < threads; t++) {
        scratch_free(work[t].ids);
        scratch_free(work[t].x);
    }
    scratch_free(work);
}

static workspace *workspace_new(int d, int m, int k, int threads)
{
    workspace *work = scratch_alloc(threads, sizeof(workspace));
    if (!work)
        return NULL;
    memset(work, 0, threads * sizeof(workspace));
    size_t points = (size_t)k + 1 + SIMD_MAX_COLS, size = (k + 1) * (size_t)(k + 1);
    for (int t = 0; t < threads; t++) {
        workspace *own = work + t;
        own->ids = scratch_alloc(2 * points, sizeof(int));
        own->x = scratch_alloc(points * (d + 3 * (size_t)m + 3) + size + m, sizeof(double));
        if (!own->ids || !own->x) {
            workspace_free(work, threads);
            return NULL;
        }
        own->slots = own->ids + points;
        own->v = own->x + points * d;
        own->rows = own->v + points * m;
        own->cols = own->rows + points * m;
        own->alpha = own->cols + points * m;
        own->beta = own->alpha + points;
        own->line = own->beta + points;
        own->R = own->line + points;
        own->z = own->R + size;
    }
    return work;
}

/* Collects point i and its neighbours; returns how many neighbours it has. */
static int gather(workspace *work, const laplace_problem *p, size_t i)
{
    int count = 0;
    size_t d = p->d, m = p->m;
    for (int slot = 0; slot <= p->k; slot++) {
        int id = slot < p->k ? p->id[i + slot * p->n] : (int)i + 1;
        if (id < 1)
            continue;
        size_t at = (size_t)id - 1;
        memcpy(work->x + count * d, p->x + at * d, d * sizeof(double));
        memcpy(work->v + count * m, p->v + at * m, m * sizeof(double));
        work->ids[count] = (int)at;
        work->slots[count++] = slot;
    }
    return count - 1;
}

/* Lower triangle of the covariance of the gathered points, noise included. */
static void covariance(workspace *work, const laplace_problem *p, int size)
{
    int d = p->d, m = p->m, rows = simd->rows, cols = simd->cols;
    double *R = work->R, tile[SIMD_MAX_ROWS * SIMD_MAX_COLS];
    for (int i = 0; i < size; i++) {
        kernel_row(p->kern, d, work->x + (size_t)i * d, i, work->x, work->line);
        for (int j = 0; j < i; j++)
            R[i + (size_t)j * size] = work->line[j];
        R[i + (size_t)i * size] = p->variance[work->ids[i]];
    }
    if (m == 0)
        return;
    simd_pack(m, rows, size, work->v, m, 1, work->rows);
    simd_pack(m, cols, size, work->v, m, 1, work->cols);
    for (int i = 0; i < size; i += rows)
        for (int j = 0; j < i + rows && j < size; j += cols) {
            simd->dot_tile(m, work->rows + (size_t)i * m, work->cols + (size_t)j * m, tile);
            for (int b = 0; b < cols && j + b < size; b++)
                for (int a = 0; a < rows && i + a < size; a++)
                    if (i + a > j + b)
                        R[i + a + (size_t)(j + b) * size] -= tile[a * cols + b];
        }
}

/* R <- the lower Cholesky factor of its leading block; 0 on success. */
static int factor(double *R, int size, int count)
{
    for (int j = 0; j < count; j++) {
        double *column = R + (size_t)j * size;
        if (!(column[j] > 0))
            return 1;
        double pivot = sqrt(column[j]);
        column[j] = pivot;
        for (int i = j + 1; i < count; i++)
            column[i] /= pivot;
        for (int l = j + 1; l < count; l++) {
            double *target = R + (size_t)l * size, weight = column[l];
#pragma omp simd
            for (int i = l; i < count; i++)
                target[i] -= weight * column[i];
        }
    }
    return 0;
}

/* x <- (L L')^-1 x for the leading block of the factor. */
static void solve(const double *L, int size, int count, double *x)
{
    for (int j = 0; j < count; j++) {
        const double *column = L + (size_t)j * size;
        x[j] /= column[j];
        for (int i = j + 1; i < count; i++)
            x[i] -= column[i] * x[j];
    }
    for (int j = count - 1; j >= 0; --j) {
        const double *column = L + (size_t)j * size;
        double sum = x[j];
        for (int i = j + 1; i < count; i++)
            sum -= column[i] * x[i];
        x[j] = sum / column[j];
    }
}

static void add_scaled(size_t count, double weight, const double *x, double *y)
{
#pragma omp simd
    for (size_t u = 0; u < count; u++)
        y[u] += weight * x[u];
}

/* For each neighbour the places (k i + slot) where it is used, points ascending: the transpose of the table. */
static int transpose(const laplace_problem *p, size_t **start, size_t **place)
{
    size_t n = p->n, total = 0;
    *start = scratch_zeros(n + 2, sizeof(size_t));
    if (!*start)
        return 1;
    size_t *count = *start + 1;
    for (size_t cell = 0; cell < n * p->k; cell++)
        if (p->id[cell] >= 1) {
            count[p->id[cell]]++;
            total++;
        }
    *place = scratch_alloc(total + 1, sizeof(size_t));
    if (!*place)
        return 1;
    for (size_t i = 0; i < n; i++)
        count[i + 1] += count[i];
    /* count[j] is where row j begins; filling moves it to where the row ends */
    for (size_t i = 0; i < n; i++)
        for (int slot = 0; slot < p->k; slot++) {
            int parent = p->id[i + slot * n];
            if (parent >= 1)
                (*place)[count[parent - 1]++] = i * p->k + slot;
        }
    return 0;
}

/* With alpha = (-a, 1) and R the covariance of the neighbours and the point, the derivative is beta' dR alpha, but for what
 * comes through the features. Returns 1 if R is not positive definite any more. */
static int point_adjoint(workspace *work, const laplace_problem *p, size_t i, const double *g,
                         double norm, int count)
{
    int size = count + 1;
    double D = p->D[i], squares = 0, lambda;
    covariance(work, p, size);
    if (factor(work->R, size, count))
        return 1;
    /* beta = lambda alpha + C^-1 t, where t is the derivative to the coefficients */
    if (p->to_D) {
        lambda = p->to_D[i];
        for (int j = 0; j < count; j++)
            work->beta[j] = p->to_coef[i * p->k + work->slots[j]];
    } else {
        for (int s = 0; s < p->q; s++)
            squares += p->weight[s] * p->error[i * p->q + s] * p->error[i * p->q + s];
        lambda = -0.5 * (1 - (squares + norm) / D) / D;
        simd->dot_list(p->m, g, p->v, work->ids, count, work->beta);
        for (int j = 0; j < count; j++) {
            for (int s = 0; s < p->q; s++)
                work->beta[j] += p->weight[s] * p->error[i * p->q + s] *
                                 p->centred[(size_t)work->ids[j] * p->q + s];
            work->beta[j] /= D;
        }
    }
    solve(work->R, size, count, work->beta);
    for (int j = 0; j < count; j++) {
        work->alpha[j] = -p->coef[i * p->k + work->slots[j]];
        work->beta[j] += lambda * work->alpha[j];
    }
    work->alpha[count] = 1;
    work->beta[count] = lambda;
    memset(work->z, 0, p->m * sizeof(double));
    for (int j = 0; j < size; j++)
        add_scaled(p->m, work->beta[j], work->v + (size_t)j * p->m, work->z);
    return 0;
}

/* slope[l] += sum_{a, b} beta_a alpha_b d k(x_a, x_b) / d log lengthscale_l. */
static void pair_slopes(const workspace *work, const kernel *kern, int d, int size, double *slope)
{
    for (int p = 1; p < size; p++)
        for (int q = 0; q < p; q++) {
            const double *a = work->x + (size_t)p * d, *b = work->x + (size_t)q * d;
            double s2 = 0;
            for (int l = 0; l < d; l++)
                s2 += (a[l] - b[l]) * (a[l] - b[l]);
            double weight = -kernel_slope(kern, s2) *
                            (work->beta[p] * work->alpha[q] + work->beta[q] * work->alpha[p]);
            for (int l = 0; l < d; l++)
                slope[l] += weight * (a[l] - b[l]) * (a[l] - b[l]);
        }
}

/* One block of points: beta and own, their parts of the sums, and G, which becomes what multiplies alpha_j dv_j, up to
 * sign. Returns 1 on failure. */
static int block_adjoint(workspace *work, const laplace_problem *p, size_t first,
                         const double *norm, double *G, double *sums, double *beta, double *own)
{
    int failed = 0;
    for (size_t i = first; i < p->n && i < first + BLOCK; i++) {
        double *g = G + i * p->m, dv = 0;
        int count = gather(work, p, i);
        if (point_adjoint(work, p, i, g, norm[i], count)) {
            failed = 1;
            continue;
        }
        for (int j = 0; j < count; j++)
            beta[i * p->k + work->slots[j]] = work->beta[j];
        own[i] = work->beta[count];
        for (int s = 0; s < p->q && !p->to_D; s++)
            add_scaled(p->m, -p->weight[s] * p->error[i * p->q + s], p->b + (size_t)s * p->m, g);
        for (int u = 0; u < p->m; u++) {
            double to_w = g[u] / p->D[i];
            dv += to_w * p->W[i * p->m + u];
            g[u] = work->z[u] + to_w;
        }
        /* R alpha = (0, .., 0, D), so beta' R alpha is beta's last entry times D */
        sums[p->d] += own[i] * p->D[i] - 0.5 * dv;
        pair_slopes(work, p->kern, p->d, count + 1, sums);
    }
    return failed;
}

/* G <- M^-1 W and norm_i <- w_i' M^-1 w_i. */
static status precision(const laplace_problem *p, int threads, double *norm, double *G)
{
    size_t n = p->n, m = p->m, cols = simd->cols;
    linalg_triangle lower = {0}, upper = {0};
    double *scratch = scratch_alloc((m + 1) * cols * threads, sizeof(double));
    status result =
        scratch ? linalg_triangle_pack(p->m, p->root, 0, &lower) : status_fail(STATUS_MEMORY);
    if (!result.code)
        result = linalg_triangle_pack(p->m, p->root, 1, &upper);
    if (result.code)
        goto done;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16)
    for (size_t first = 0; first < n; first += cols) {
        double *B = scratch + (m + 1) * cols * threads_id();
        size_t width = n - first < cols ? n - first : cols;
        simd_pack(p->m, (int)cols, width, p->W + first * m, m, 1, B);
        linalg_solve_panel(&lower, B);
        linalg_solve_panel(&upper, B);
        for (size_t j = 0; j < width; j++) {
            double *g = G + (first + j) * m, sum = 0;
            const double *w = p->W + (first + j) * m;
            for (size_t u = 0; u < m; u++) {
                g[u] = B[u * cols + j];
                sum += g[u] * w[u];
            }
            norm[first + j] = sum;
        }
    }
done:
    linalg_triangle_free(&lower);
    linalg_triangle_free(&upper);
    scratch_free(scratch);
    return result;
}

status laplace_adjoint(const laplace_problem *p, int threads, double *signal, double *noise,
                       double *slope, double *vbar)
{
    size_t n = p->n, m = p->m, k = p->k, blocks = (n + BLOCK - 1) / BLOCK, width = p->d + 1;
    int failed = 0;
    status result = status_fail(STATUS_MEMORY);
    workspace *all = workspace_new(p->d, p->m, p->k, threads);
    double *partial = scratch_alloc(blocks * width, sizeof(double));
    double *beta = scratch_alloc(n * (k + 1), sizeof(double)); /* k x n, then the points' own */
    double *norm = scratch_alloc(n, sizeof(double)), *G = scratch_alloc(n * m + 1, sizeof(double));
    size_t *start = NULL, *place = NULL;
    if (!all || !partial || !beta || !norm || !G || transpose(p, &start, &place))
        goto done;
    memset(norm, 0, n * sizeof(double));
    memset(G, 0, n * m * sizeof(double));
    result = p->to_D ? status_ok() : precision(p, threads, norm, G);
    if (result.code)
        goto done;
    memset(partial, 0, blocks * width * sizeof(double));
    memset(beta, 0, n * (k + 1) * sizeof(double));
    double *own = beta + n * k;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(| : failed)
    for (size_t block = 0; block < blocks; block++)
        failed |= block_adjoint(all + threads_id(), p, block * BLOCK, norm, G,
                                partial + block * width, beta, own);
    if (failed) {
        result = status_fail(STATUS_NOT_POSITIVE_DEFINITE);
        goto done;
    }
    *signal = 0;
    memset(slope, 0, p->d * sizeof(double));
    for (size_t block = 0; block < blocks; block++) {
        *signal += partial[block * width + p->d];
        add_scaled(p->d, 1, partial + block * width, slope);
    }
    /* every point collects from those that use it, in their order */
#pragma omp parallel for num_threads(threads) schedule(dynamic, 64)
    for (size_t j = 0; j < n; j++) {
        double *bar = vbar + j * m;
        memset(bar, 0, m * sizeof(double));
        add_scaled(m, -own[j], p->W + j * m, bar);
        add_scaled(m, -1, G + j * m, bar);
        noise[j] = own[j];
        for (size_t at = start[j]; at < start[j + 1]; at++) {
            size_t cell = place[at], i = cell / k;
            add_scaled(m, p->coef[cell], G + i * m, bar);
            add_scaled(m, -beta[cell], p->W + i * m, bar);
            noise[j] -= beta[cell] * p->coef[cell];
        }
    }
    result = status_ok();
done:
    workspace_free(all, threads);
    scratch_free(partial);
    scratch_free(beta);
    scratch_free(norm);
    scratch_free(G);
    scratch_free(start);
    scratch_free(place);
    return result;
}

status laplace_slopes(const kernel *kern, int d, int p, const double *z, size_t n, const double *x,
                      const double *A, int threads, double *out)
{
    size_t blocks = (n + BLOCK - 1) / BLOCK;
    double *partial = scratch_alloc(blocks * d, sizeof(double));
    if (!partial)
        return status_fail(STATUS_MEMORY);
    memset(partial, 0, blocks * d * sizeof(double));
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (size_t block = 0; block < blocks; block++) {
        double *sums = partial + block * d;
        for (size_t j = block * BLOCK; j < n && j < (block + 1) * BLOCK; j++)
            for (int u = 0; u < p; u++) {
                const double *a = z + (size_t)u * d, *b = x + j * d;
                double s2 = 0;
                for (int l = 0; l < d; l++)
                    s2 += (a[l] - b[l]) * (a[l] - b[l]);
                double weight = -A[u + j * p] * kernel_slope(kern, s2);
                for (int l = 0; l < d; l++)
                    sums[l] += weight * (a[l] - b[l]) * (a[l] - b[l]);
            }
    }
    memset(out, 0, d * sizeof(double));
    for (size_t block = 0; block < blocks; block++)
        add_scaled(d, 1, partial + block * d, out);
    scratch_free(partial);
    return status_ok();
}

void laplace_solve(int k, size_t n, const int *id, const double *coef, int transposed, int q,
                   double *X)
{
    for (size_t step = 0; step < n; step++) {
        size_t i = transposed ? n - 1 - step : step;
        double *own = X + i * q;
        for (int slot = 0; slot < k; slot++) {
            int parent = id[i + slot * n];
            if (parent < 1)
                continue;
            double *other = X + ((size_t)parent - 1) * q, a = coef[i * k + slot];
            if (transposed)
                add_scaled(q, a, own, other);
            else
                add_scaled(q, a, other, own);
        }
    }
}

void laplace_pairs(int k, size_t n, const int *id, int q, const double *weight, const double *L,
                   const double *H, const double *RL, const double *RH, int threads, double *to_D,
                   double *to_coef)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t i = 0; i < n; i++) {
        const double *l = L + i * q, *h = H + i * q;
        double sum = 0;
        for (int s = 0; s < q; s++)
            sum += weight[s] * l[s] * h[s];
        to_D[i] = sum;
        for (int slot = 0; slot < k; slot++) {
            int parent = id[i + slot * n];
            double total = 0;
            if (parent >= 1) {
                const double *rl = RL + ((size_t)parent - 1) * q,
                             *rh = RH + ((size_t)parent - 1) * q;
                for (int s = 0; s < q; s++)
                    total += weight[s] * (l[s] * rh[s] + h[s] * rl[s]);
            }
            to_coef[i * k + slot] = total;
        }
    }
}

status laplace_combine(int m, int q, size_t n, const double *C, const double *V, int threads,
                       double *out)
{
    int rows = simd->rows, cols = simd->cols;
    size_t strips = (q + rows - 1) / rows, panel = (size_t)m * cols;
    double *left = scratch_alloc(strips * rows * m + 1, sizeof(double));
    double *right = scratch_alloc(panel * threads + 1, sizeof(double));
    if (!left || !right) {
        scratch_free(left);
        scratch_free(right);
        return status_fail(STATUS_MEMORY);
    }
    simd_pack(m, rows, q, C, m, 1, left);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t first = 0; first < n; first += cols) {
        double tile[SIMD_MAX_ROWS * SIMD_MAX_COLS], *own = right + panel * threads_id();
        int width = n - first < (size_t)cols ? (int)(n - first) : cols;
        simd_pack(m, cols, width, V + first * m, m, 1, own);
        for (int top = 0; top < q; top += rows) {
            simd->dot_tile(m, left + (size_t)top * m, own, tile);
            for (int b = 0; b < width; b++)
                for (int a = 0; a < rows && top + a < q; a++)
                    out[top + a + (first + b) * q] = tile[a * cols + b];
        }
    }
    scratch_free(left);
    scratch_free(right);
    return status_ok();
}

status laplace_cross(int p, int q, size_t n, const double *A, const double *B, const double *weight,
                     int threads, double *out)
{
    int lda = products_stride(p), ldb = products_stride(q);
    double *left = products_rows(NULL, n, p, 0), *right = products_rows(NULL, n, q, 0);
    double *C = scratch_alloc((size_t)p * ldb + 1, sizeof(double));
    status result = left && right && C ? status_ok() : status_fail(STATUS_MEMORY);
    if (!result.code) {
        for (size_t i = 0; i < n; i++) {
            memset(left + i * lda, 0, p * sizeof(double));
            add_scaled(p, weight ? weight[i] : 1, A + i * p, left + i * lda);
            memcpy(right + i * ldb, B + i * q, q * sizeof(double));
        }
        products_cross(n, p, left, lda, q, right, ldb, 0, threads, C, ldb);
        for (int u = 0; u < p; u++)
            for (int v = 0; v < q; v++)
                out[u + (size_t)v * p] = C[(size_t)u * ldb + v];
    }
    scratch_give(NULL, left);
    scratch_give(NULL, right);
    scratch_free(C);
    return result;
}

void laplace_collect(int k, size_t n, const int *id, const double *coef, int q, const double *X,
                     double *out)
{
    memcpy(out, X, n * q * sizeof(double));
    for (size_t i = 0; i < n; i++)
        for (int slot = 0; slot < k; slot++) {
            int parent = id[i + slot * n];
            if (parent >= 1)
                add_scaled(q, -coef[i * k + slot], X + i * q, out + ((size_t)parent - 1) * q);
        }
}

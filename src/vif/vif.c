#include "vif/vif.h"

#include "base/linalg.h"
#include "base/scratch.h"
#include "simd/simd.h"
#include "base/threads.h"

#include <math.h>
#include <string.h>

#define BLOCK 256 /* points whose partial sums are kept apart, so that sums have one order */

/* Scratch of one thread: a child and its neighbours, the child last. */
typedef struct {
    int *ids;            /* 0-based parents, at most k */
    int *slots;          /* their columns in the table */
    double *x, *v;       /* d and m values a point, gathered */
    double *rows, *cols; /* the same v in panels */
    double *R;           /* covariance, then its lower Cholesky factor; leading dimension k + 1 */
    double *kernel_row;  /* k + 1 */
    double *alpha, *beta, *z; /* k + 1, k + 1, m */
} workspace;

static size_t padded(size_t count) { return count + SIMD_MAX_COLS; }

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
    size_t points = padded(k + 1), size = (k + 1) * (size_t)(k + 1);
    size_t total = points * (d + 3 * (size_t)m) + size + 3 * points + m;
    for (int t = 0; t < threads; t++) {
        workspace *own = work + t;
        own->ids = scratch_alloc(2 * points, sizeof(int));
        own->x = scratch_alloc(total, sizeof(double));
        if (!own->ids || !own->x) {
            workspace_free(work, threads);
            return NULL;
        }
        own->slots = own->ids + points;
        own->v = own->x + points * d;
        own->rows = own->v + points * m;
        own->cols = own->rows + points * m;
        own->R = own->cols + points * m;
        own->kernel_row = own->R + size;
        own->alpha = own->kernel_row + points;
        own->beta = own->alpha + points;
        own->z = own->beta + points;
    }
    return work;
}

/* Collects child i and its neighbours; returns how many neighbours it has. */
static int gather(workspace *work, int d, int m, const vif_points *parents,
                  const vif_points *children, size_t i, int k, const int *id)
{
    int count = 0;
    for (int slot = 0; slot < k; slot++) {
        int parent = id[i + slot * children->n];
        if (parent < 1)
            continue;
        size_t at = (size_t)parent - 1;
        memcpy(work->x + (size_t)count * d, parents->x + at * d, d * sizeof(double));
        memcpy(work->v + (size_t)count * m, parents->v + at * m, m * sizeof(double));
        work->ids[count] = (int)at;
        work->slots[count++] = slot;
    }
    memcpy(work->x + (size_t)count * d, children->x + i * d, d * sizeof(double));
    memcpy(work->v + (size_t)count * m, children->v + i * m, m * sizeof(double));
    return count;
}

/* Lower triangle of the covariance of the gathered points, noise included, in R. */
static void covariance(workspace *work, const kernel *kern, int d, int m, const vif_points *parents,
                       const vif_points *children, size_t i, int count)
{
    int size = count + 1, rows = simd->rows, cols = simd->cols;
    double *R = work->R, tile[SIMD_MAX_ROWS * SIMD_MAX_COLS];
    for (int p = 0; p < size; p++) {
        kernel_row(kern, d, work->x + (size_t)p * d, p, work->x, work->kernel_row);
        for (int q = 0; q < p; q++)
            R[p + (size_t)q * size] = work->kernel_row[q];
        R[p + (size_t)p * size] =
            p < count ? parents->variance[work->ids[p]] : children->variance[i];
    }
    if (m == 0)
        return;
    simd_pack(m, rows, size, work->v, m, 1, work->rows);
    simd_pack(m, cols, size, work->v, m, 1, work->cols);
    for (int p = 0; p < size; p += rows)
        for (int q = 0; q < p + rows && q < size; q += cols) {
            simd->dot_tile(m, work->rows + (size_t)p * m, work->cols + (size_t)q * m, tile);
            for (int b = 0; b < cols && q + b < size; b++)
                for (int a = 0; a < rows && p + a < size; a++)
                    if (p + a > q + b)
                        R[p + a + (size_t)(q + b) * size] -= tile[a * cols + b];
        }
}

/* R <- its lower Cholesky factor; 0 on success. Right-looking, so that the inner loops are vectors. */
static int factor(double *R, int size)
{
    for (int j = 0; j < size; j++) {
        double *column = R + (size_t)j * size;
        if (!(column[j] > 0))
            return 1;
        double pivot = sqrt(column[j]);
        column[j] = pivot;
        for (int i = j + 1; i < size; i++)
            column[i] /= pivot;
        for (int l = j + 1; l < size; l++) {
            double *target = R + (size_t)l * size, weight = column[l];
#pragma omp simd
            for (int i = l; i < size; i++)
                target[i] -= weight * column[i];
        }
    }
    return 0;
}

/* x <- L^-1 x and x <- L^-T x for the leading count x count block of the factor. */
static void solve_lower(const double *L, int size, int count, double *x)
{
    for (int j = 0; j < count; j++) {
        const double *column = L + (size_t)j * size;
        x[j] /= column[j];
        for (int i = j + 1; i < count; i++)
            x[i] -= column[i] * x[j];
    }
}

static void solve_upper(const double *L, int size, int count, double *x)
{
    for (int j = count - 1; j >= 0; --j) {
        const double *column = L + (size_t)j * size;
        double sum = x[j];
        for (int i = j + 1; i < count; i++)
            sum -= column[i] * x[i];
        x[j] = sum / column[j];
    }
}

static void add_scaled(int m, double weight, const double *x, double *y)
{
#pragma omp simd
    for (int u = 0; u < m; u++)
        y[u] += weight * x[u];
}

status vif_regress(const kernel *kern, int d, int m, const vif_points *parents,
                   const vif_points *children, int k, const int *id, int threads, double *coef,
                   double *D)
{
    workspace *all = workspace_new(d, m, k, threads);
    if (!all)
        return status_fail(STATUS_MEMORY);
    size_t n = children->n, worst = n;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 64) reduction(min : worst)
    for (size_t i = 0; i < n; i++) {
        workspace *work = all + threads_id();
        int count = gather(work, d, m, parents, children, i, k, id), size = count + 1;
        double *a = coef + i * k, *last = work->alpha;
        memset(a, 0, k * sizeof(double));
        covariance(work, kern, d, m, parents, children, i, count);
        if (factor(work->R, size)) {
            D[i] = NAN;
            if (i < worst)
                worst = i;
            continue;
        }
        /* the child's own row of the factor is L^-1 r_Ni, its pivot the standard deviation */
        for (int j = 0; j < count; j++)
            last[j] = work->R[count + (size_t)j * size];
        solve_upper(work->R, size, count, last);
        for (int j = 0; j < count; j++)
            a[work->slots[j]] = last[j];
        double deviation = work->R[count + (size_t)count * size];
        D[i] = deviation * deviation;
    }
    workspace_free(all, threads);
    return worst < n ? (status){STATUS_NOT_POSITIVE_DEFINITE, worst} : status_ok();
}

void vif_contrast(const vif_table *table, int q, const double *parents, size_t n,
                  const double *children, int threads, double *out)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t i = 0; i < n; i++) {
        double *own = out + i * q;
        memcpy(own, children + i * q, q * sizeof(double));
        for (int slot = 0; slot < table->k; slot++) {
            int parent = table->id[i + slot * n];
            if (parent >= 1)
                add_scaled(q, -table->coef[i * table->k + slot], parents + ((size_t)parent - 1) * q,
                           own);
        }
    }
}

/* Row panels of C are shared out among the threads; each adds up its own over blocks of points. */
status vif_cross(int p, int q, size_t n, const double *A, const double *B, const double *weight,
                 int threads, double *C)
{
    int rows = simd->rows, cols = simd->cols;
    size_t left_size = (size_t)BLOCK * rows, right_size = (size_t)BLOCK * cols;
    size_t strips = (p + rows - 1) / rows;
    size_t own = strips * left_size + right_size;
    double *scratch = scratch_alloc(own * threads, sizeof(double));
    if (!scratch)
        return status_fail(STATUS_MEMORY);
    memset(C, 0, (size_t)p * q * sizeof(double));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int part = 0; part < threads; part++) {
        size_t begin = strips * part / threads, end = strips * (part + 1) / threads;
        double *left = scratch + own * part, *right = left + strips * left_size;
        double tile[SIMD_MAX_ROWS * SIMD_MAX_COLS];
        for (size_t first = 0; first < n && begin < end; first += BLOCK) {
            int length = n - first < BLOCK ? (int)(n - first) : BLOCK;
            for (size_t s = begin; s < end; s++) {
                int height = p - (int)s * rows < rows ? p - (int)s * rows : rows;
                double *panel = left + s * left_size;
                simd_pack(length, rows, height, A + first * p + s * rows, 1, p, panel);
                for (int t = 0; weight && t < length; t++)
                    for (int a = 0; a < rows; a++)
                        panel[t * rows + a] *= weight[first + t];
            }
            for (int j = 0; j < q; j += cols) {
                int width = q - j < cols ? q - j : cols;
                simd_pack(length, cols, width, B + first * q + j, 1, q, right);
                for (size_t s = begin; s < end; s++) {
                    int top = (int)s * rows, height = p - top < rows ? p - top : rows;
                    simd->dot_tile(length, left + s * left_size, right, tile);
                    for (int b = 0; b < width; b++)
                        for (int a = 0; a < height; a++)
                            C[top + a + (size_t)(j + b) * p] += tile[a * cols + b];
                }
            }
        }
    }
    scratch_free(scratch);
    return status_ok();
}

status vif_precision(int m, const double *L, size_t n, const double *W, int threads, double *norm,
                     double *G)
{
    int cols = simd->cols;
    linalg_triangle lower = {0}, upper = {0};
    double *scratch = scratch_alloc((size_t)(m + 1) * cols * threads, sizeof(double));
    status result = scratch ? linalg_triangle_pack(m, L, 0, &lower) : status_fail(STATUS_MEMORY);
    if (!result.code)
        result = linalg_triangle_pack(m, L, 1, &upper);
    if (result.code)
        goto done;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16)
    for (size_t first = 0; first < n; first += cols) {
        double *B = scratch + (size_t)(m + 1) * cols * threads_id();
        int width = n - first < (size_t)cols ? (int)(n - first) : cols;
        simd_pack(m, cols, width, W + first * m, m, 1, B);
        linalg_solve_panel(&lower, B);
        for (int j = 0; j < width; j++) {
            double sum = 0;
            for (int u = 0; u < m; u++)
                sum += B[(size_t)u * cols + j] * B[(size_t)u * cols + j];
            norm[first + j] = sum;
        }
        if (!G)
            continue;
        linalg_solve_panel(&upper, B);
        for (int j = 0; j < width; j++)
            for (int u = 0; u < m; u++)
                G[u + (first + j) * m] = B[(size_t)u * cols + j];
    }
done:
    linalg_triangle_free(&lower);
    linalg_triangle_free(&upper);
    scratch_free(scratch);
    return result;
}

/* For each parent the places (child, slot) where it is used, children ascending: a table's transpose.
 * start has n + 1 entries, place indexes coef (k x n). */
static int transpose(const vif_table *table, size_t n, size_t **start, size_t **place)
{
    size_t total = 0;
    int k = table->k;
    *start = calloc(n + 2, sizeof(size_t));
    if (!*start)
        return 1;
    size_t *count = *start + 1;
    for (size_t cell = 0; cell < n * k; cell++)
        if (table->id[cell] >= 1) {
            count[table->id[cell]]++;
            total++;
        }
    *place = malloc((total + 1) * sizeof(size_t));
    if (!*place)
        return 1;
    for (size_t i = 0; i < n; i++)
        count[i + 1] += count[i];
    /* count[j] is where row j begins; filling moves it to where the row ends */
    for (size_t i = 0; i < n; i++)
        for (int slot = 0; slot < k; slot++) {
            int parent = table->id[i + slot * n];
            if (parent >= 1)
                (*place)[count[parent - 1]++] = i * k + slot;
        }
    return 0;
}

/* The adjoints of one child: alpha, beta and z of the workspace; returns 1 if R is not positive
 * definite any more. */
static int child_adjoint(workspace *work, const kernel *kern, int d, int m,
                         const vif_points *points, const vif_table *table, const vif_state *state,
                         size_t i, const double *g, int *count)
{
    *count = gather(work, d, m, points, points, i, table->k, table->id);
    int size = *count + 1;
    double D = state->D[i], error = state->error[i];
    covariance(work, kern, d, m, points, points, i, *count);
    if (factor(work->R, size))
        return 1;
    /* beta = lambda alpha + C^-1 t / D, where t is the derivative to the coefficients */
    double lambda = -0.5 * (1 - (error * error + state->norm[i]) / D) / D;
    simd->dot_list(m, g, points->v, work->ids, *count, work->beta);
    for (int j = 0; j < *count; j++)
        work->beta[j] += error * state->centred[work->ids[j]];
    solve_lower(work->R, size, *count, work->beta);
    solve_upper(work->R, size, *count, work->beta);
    for (int j = 0; j < *count; j++) {
        work->alpha[j] = -table->coef[i * table->k + work->slots[j]];
        work->beta[j] = lambda * work->alpha[j] + work->beta[j] / D;
    }
    work->alpha[*count] = 1;
    work->beta[*count] = lambda;
    memset(work->z, 0, m * sizeof(double));
    for (int j = 0; j < size; j++)
        add_scaled(m, work->beta[j], work->v + (size_t)j * m, work->z);
    return 0;
}

/* slope[l] += sum_{p, q} beta_p alpha_q d k(x_p, x_q) / d log lengthscale_l. */
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

status vif_adjoint(const kernel *kern, int d, int m, const vif_points *points,
                   const vif_table *table, const vif_state *state, int threads, double *G,
                   double *signal, double *noise, double *slope, double *vbar)
{
    size_t n = points->n, blocks = (n + BLOCK - 1) / BLOCK, width = d + 1;
    int k = table->k, failed = 0;
    status result = status_fail(STATUS_MEMORY);
    workspace *all = workspace_new(d, m, k, threads);
    double *partial = scratch_alloc(blocks * width, sizeof(double));
    double *beta = scratch_alloc(n * (k + 1), sizeof(double)); /* k x n, then the children's own */
    size_t *start = NULL, *place = NULL;
    if (!all || !partial || !beta || transpose(table, n, &start, &place))
        goto done;
    memset(partial, 0, blocks * width * sizeof(double));
    memset(beta, 0, n * (k + 1) * sizeof(double));
    double *own = beta + n * k;

#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(| : failed)
    for (size_t block = 0; block < blocks; block++) {
        workspace *work = all + threads_id();
        double *sums = partial + block * width;
        for (size_t i = block * BLOCK; i < n && i < (block + 1) * BLOCK; i++) {
            double *g = G + i * m, D = state->D[i], dv = 0;
            int count;
            if (child_adjoint(work, kern, d, m, points, table, state, i, g, &count)) {
                failed = 1;
                continue;
            }
            for (int j = 0; j < count; j++)
                beta[i * k + work->slots[j]] = work->beta[j];
            own[i] = work->beta[count];
            /* g becomes what multiplies alpha_j dv_j, up to sign */
            for (int u = 0; u < m; u++) {
                double to_w = (g[u] - state->error[i] * state->b[u]) / D;
                dv += to_w * state->W[i * m + u];
                g[u] = work->z[u] + to_w;
            }
            /* R alpha = (0, .., 0, D), so beta' R alpha is beta's last entry times D */
            sums[d] += own[i] * D - 0.5 * dv;
            pair_slopes(work, kern, d, count + 1, sums);
        }
    }
    if (failed) {
        result = status_fail(STATUS_NOT_POSITIVE_DEFINITE);
        goto done;
    }
    *signal = 0;
    memset(slope, 0, d * sizeof(double));
    for (size_t block = 0; block < blocks; block++) {
        *signal += partial[block * width + d];
        for (int l = 0; l < d; l++)
            slope[l] += partial[block * width + l];
    }

    /* every point collects from the children that use it, in their order */
#pragma omp parallel for num_threads(threads) schedule(dynamic, 64)
    for (size_t j = 0; j < n; j++) {
        double *bar = vbar + j * m;
        memset(bar, 0, m * sizeof(double));
        add_scaled(m, -own[j], state->W + j * m, bar);
        add_scaled(m, -1, G + j * m, bar);
        noise[j] = own[j];
        for (size_t at = start[j]; at < start[j + 1]; at++) {
            size_t cell = place[at], i = cell / k;
            const double *w = state->W + i * m, *g = G + i * m;
            double to_w = beta[cell], to_g = table->coef[cell];
#pragma omp simd
            for (int u = 0; u < m; u++)
                bar[u] += to_g * g[u] - to_w * w[u];
            noise[j] -= beta[cell] * table->coef[cell];
        }
    }
    result = status_ok();
done:
    workspace_free(all, threads);
    scratch_free(partial);
    scratch_free(beta);
    free(start);
    free(place);
    return result;
}

status vif_kernel_slopes(const kernel *kern, int d, int p, const double *z, size_t n,
                         const double *x, const double *A, int threads, double *out)
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
        for (int l = 0; l < d; l++)
            out[l] += partial[block * d + l];
    scratch_free(partial);
    return status_ok();
}

#include "vif/laplace.h"

#include "base/linalg.h"
#include "base/scratch.h"
#include "base/threads.h"
#include "simd/simd.h"
#include "vif/batch.h"
#include "vif/products.h"

#include <math.h>
#include <string.h>

#define CHUNK 256     /* points whose partial sums are kept apart, so that sums have one order */
#define POLL_CHUNKS 8 /* for each thread, between two polls */
#define FEW 16        /* points whose dot products are taken together */
#define GATHER 128    /* rows that are added up at once */

/* What the passes share. */
typedef struct {
    const laplace_problem *p;
    const vif_points points;
    slopes sl;
    batch_problem problem;
    int stride;            /* values of a row of `inverse` */
    double *inverse;       /* M^-1 */
    double *G;             /* m x n */
    double *beta;          /* k x n, */
    double *own;           /* and what belongs to the point itself, n */
    size_t *start, *place; /* for each neighbour the places (k i + slot) where it is used, points ascending */
} adjoint;

/* Scratch of one thread. */
typedef struct {
    batch *b;
    double **dK, *triangles; /* of each direction */
    double *beta, *F;        /* vectors of lanes */
    double *weight, *dots;   /* of one lane */
    double *W, *G, *z;       /* rows of a batch, and one more */
    const double **rows;     /* GATHER */
    double *share;           /* GATHER */
} workspace;

static void add_scaled(size_t count, double weight, const double *x, double *y)
{
#pragma omp simd
    for (size_t u = 0; u < count; u++)
        y[u] += weight * x[u];
}

static void workspace_free(workspace *all, int threads)
{
    for (int t = 0; all && t < threads; t++) {
        workspace *own = all + t;
        SCRATCH_FREE(own->dK, own->triangles, own->beta, own->F, own->weight, own->dots, own->W, own->G, own->z,
                     own->rows, own->share);
    }
    scratch_free(all);
}

static int workspace_open(workspace *own, const adjoint *a, batch *b)
{
    size_t size = b->size, vector = size * simd->lanes, triangle = batch_triangle(b->size);
    size_t few = (size_t)SIMD_MAX_COLS * (a->stride + SIMD_MAX_COLS);
    int count = slopes_count(&a->sl);
    if (!SCRATCH_ALL(SCRATCH_FOR(own->dK, count), SCRATCH_FOR(own->triangles, count * triangle),
                     SCRATCH_FOR(own->beta, vector), SCRATCH_FOR(own->F, vector), SCRATCH_FOR(own->weight, size),
                     SCRATCH_FOR(own->dots, size), SCRATCH_FOR(own->W, few), SCRATCH_FOR(own->G, few),
                     SCRATCH_FOR(own->z, (size_t)a->p->m + 1), SCRATCH_FOR(own->rows, GATHER),
                     SCRATCH_FOR(own->share, GATHER)))
        return 0;
    own->b = b;
    for (int c = 0; c < count; c++)
        own->dK[c] = own->triangles + c * triangle;
    memset(own->W, 0, few * sizeof(double));
    return 1;
}

static workspace *workspace_new(const adjoint *a, batch *batches, int threads)
{
    workspace *all = scratch_zeros(threads, sizeof(workspace));
    for (int t = 0; all && t < threads; t++)
        if (!workspace_open(all + t, a, batches + t)) {
            workspace_free(all, threads);
            return NULL;
        }
    return all;
}

static int transpose(adjoint *a)
{
    const laplace_problem *p = a->p;
    size_t n = p->n, k = p->k, total = 0;
    const int *parent = a->problem.parent;
    a->start = scratch_zeros(n + 2, sizeof(size_t));
    if (!a->start)
        return 1;
    size_t *count = a->start + 1;
    for (size_t cell = 0; cell < n * k; cell++)
        if (parent[cell] >= 0) {
            count[parent[cell] + 1]++;
            total++;
        }
    a->place = scratch_alloc(total + 1, sizeof(size_t));
    if (!a->place)
        return 1;
    for (size_t i = 0; i < n; i++)
        count[i + 1] += count[i];
    /* count[j] is where row j begins; filling moves it to where the row ends */
    for (size_t cell = 0; cell < n * k; cell++)
        if (parent[cell] >= 0)
            a->place[count[parent[cell]]++] = cell;
    return 0;
}

static void adjoint_free(adjoint *a)
{
    batch_problem_free(&a->problem);
    scratch_free(a->inverse);
    scratch_free(a->G);
    scratch_free(a->beta);
    scratch_free(a->start);
    scratch_free(a->place);
}

static status adjoint_new(adjoint *a, int threads)
{
    const laplace_problem *p = a->p;
    size_t n = p->n, m = p->m, k = p->k;
    status result =
        batch_problem_new(p->kern, p->d, p->m, &a->points, &a->points, p->k, p->id, NULL, threads, NULL, &a->problem);
    if (result.code)
        return result;
    a->stride = products_stride(p->m);
    a->inverse = products_rows(NULL, m, p->m, 1, threads);
    a->G = scratch_alloc(n * m + 1, sizeof(double));
    a->beta = scratch_zeros(n * (k + 1) + 1, sizeof(double));
    a->own = a->beta + n * k;
    if (!a->inverse || !a->G || !a->beta || transpose(a))
        return status_fail(STATUS_MEMORY);
    return p->to_D ? status_ok() : linalg_inverse(p->m, p->mon, p->root, a->stride, a->inverse);
}

/* own->G <- M^-1 w for the points of a batch. */
static void weigh_batch(const adjoint *a, workspace *own)
{
    const batch *b = own->b;
    int m = a->p->m, stride = a->stride, rows = simd->rows, cols = simd->cols;
    double tile[SIMD_MAX_ROWS * SIMD_MAX_COLS];
    for (int lane = 0; lane < b->count; lane++)
        memcpy(own->W + (size_t)lane * stride, a->p->W + (size_t)b->child[lane] * m, m * sizeof(double));
    for (int first = 0; first < b->count; first += rows)
        for (int v = 0; v < m; v += cols) {
            simd->strided_tile(m, own->W + (size_t)first * stride, stride, 1, a->inverse + v, stride, tile);
            for (int r = 0; r < rows && first + r < b->count; r++)
                memcpy(own->G + (size_t)(first + r) * stride + v, tile + r * cols, cols * sizeof(double));
        }
}

/* The derivatives of one lane to its coefficients, in beta, and to D. */
static double to_regression(const adjoint *a, workspace *own, int lane)
{
    const laplace_problem *p = a->p;
    const batch *b = own->b;
    int lanes = simd->lanes, last = b->size - 1, first = last - p->k;
    size_t i = b->child[lane];
    if (p->to_D) {
        for (int slot = 0; slot < p->k; slot++)
            own->beta[(first + slot) * lanes + lane] =
                b->id[(first + slot) * lanes + lane] < 0 ? 0 : p->to_coef[i * p->k + slot];
        return p->to_D[i];
    }
    const double *g = own->G + (size_t)lane * a->stride, *error = p->error + i * p->q;
    double D = p->D[i], squares = 0, norm = 0;
    memset(own->dots, 0, b->size * sizeof(double));
    if (p->m) {
        const double *w = own->W + (size_t)lane * a->stride;
        simd->dot_rows(p->m, g, last, b->rows + (size_t)lane * b->size, own->dots);
        simd->dot_rows(p->m, g, 1, &w, &norm);
    }
    for (int s = 0; s < p->q; s++)
        squares += p->weight[s] * error[s] * error[s];
    for (int place = first; place < last; place++) {
        int parent = b->id[place * lanes + lane];
        double sum = own->dots[place];
        for (int s = 0; s < p->q && parent >= 0; s++)
            sum += p->weight[s] * error[s] * p->centred[(size_t)parent * p->q + s];
        own->beta[place * lanes + lane] = parent < 0 ? 0 : sum / D;
    }
    return -0.5 * (1 - (squares + norm) / D) / D;
}

/* With alpha = (-a, 1) and R the covariance of the neighbours and the point, the derivative is
 * beta' dR alpha, but for what comes through the features: beta = lambda alpha + C^-1 t, where lambda
 * and t are the derivatives to D and to the coefficients. G becomes what multiplies alpha_j dv_j, up to
 * sign. */
static void batch_adjoint(const adjoint *a, workspace *own, double *sums)
{
    const laplace_problem *p = a->p;
    batch *b = own->b;
    int lanes = simd->lanes, size = b->size, last = size - 1, first = last - p->k, m = p->m;
    double lambda[SIMD_MAX_COLS];
    memset(own->beta, 0, (size_t)size * lanes * sizeof(double));
    if (!p->to_D)
        weigh_batch(a, own);
    for (int lane = 0; lane < b->count; lane++)
        lambda[lane] = to_regression(a, own, lane);
    simd->lane_solve(last, b->R, b->inverse, own->beta);
    simd->lane_solve_back(last, b->R, b->inverse, own->beta);
    for (int lane = 0; lane < b->count; lane++) {
        size_t i = b->child[lane];
        double *g = a->G + i * m, dv = 0;
        for (int place = 0; place < size; place++) {
            double *beta = own->beta + place * lanes + lane;
            *beta += lambda[lane] * b->alpha[place * lanes + lane];
            own->weight[place] = *beta;
            if (place >= first && place < last)
                a->beta[i * p->k + place - first] = *beta;
        }
        a->own[i] = lambda[lane];
        if (m)
            simd->combine_rows(m, size, 1, (const double *const *)&own->weight, b->rows + (size_t)lane * size, &g);
        if (!p->to_D && m) {
            double *to_w = own->G + (size_t)lane * a->stride;
            const double *w = own->W + (size_t)lane * a->stride;
            for (int s = 0; s < p->q; s++)
                add_scaled(m, -p->weight[s] * p->error[i * p->q + s], p->b + (size_t)s * m, to_w);
            simd->dot_rows(m, to_w, 1, &w, &dv);
            dv /= p->D[i];
            add_scaled(m, 1 / p->D[i], to_w, g);
        }
        /* R alpha = (0, .., 0, D), so beta' R alpha is beta's last entry times D */
        sums[0] += lambda[lane] * p->D[i] - 0.5 * dv;
    }
    for (int c = 0; c < slopes_count(&a->sl); c++) {
        simd->lane_multiply(size, own->dK[c], b->alpha, own->F);
        for (int place = 0; place < size; place++)
            for (int lane = 0; lane < b->count; lane++) {
                int at = place * lanes + lane;
                sums[1 + c] += b->id[at] < 0 ? 0 : own->beta[at] * own->F[at];
            }
    }
}

/* One chunk of points: beta, own and G, and their parts of the sums. Returns 1 on failure. */
static int chunk_adjoint(const adjoint *a, workspace *own, size_t chunk, double *sums)
{
    size_t n = a->p->n, end = (chunk + 1) * CHUNK < n ? (chunk + 1) * CHUNK : n, lanes = simd->lanes;
    int failed = 0;
    unsigned state = simd_flush();
    for (size_t at = chunk * CHUNK; at < end && !failed; at += lanes) {
        batch_load(&a->problem, a->problem.order + at, (int)(end - at < lanes ? end - at : lanes), own->b);
        batch_covariance(&a->problem, &a->sl, own->dK, own->b);
        if (batch_factor(own->b))
            failed = 1;
        else
            batch_adjoint(a, own, sums);
    }
    simd_restore(state);
    return failed;
}

/* Adds a row to those that are waiting, after all that wait are added up in `bar` where there is no room. */
static void wait_row(workspace *own, int m, double weight, const double *row, int *count, int *begun, double *bar)
{
    if (*count == GATHER || !row) {
        double *to = *begun ? own->z : bar;
        simd->combine_rows(m, *count, 1, (const double *const *)&own->share, own->rows, &to);
        if (*begun)
            add_scaled(m, 1, own->z, bar);
        *begun = 1;
        *count = 0;
    }
    if (row) {
        own->share[*count] = weight;
        own->rows[(*count)++] = row;
    }
}

/* Point j collects from those that use it, in their order. */
static void collect_point(const adjoint *a, workspace *own, size_t j, double *noise, double *vbar)
{
    const laplace_problem *p = a->p;
    size_t m = p->m;
    int count = 0, begun = 0;
    double *bar = vbar + j * m;
    noise[j] = a->own[j];
    for (size_t at = a->start[j]; at < a->start[j + 1]; at++)
        noise[j] -= a->beta[a->place[at]] * p->coef[a->place[at]];
    if (!m)
        return;
    if (p->before)
        wait_row(own, p->m, 1, p->before + j * m, &count, &begun, bar);
    for (int s = 0; s < p->products; s++)
        wait_row(own, p->m, p->right[j * p->products + s], p->left + (size_t)s * m, &count, &begun, bar);
    wait_row(own, p->m, -a->own[j], p->W + j * m, &count, &begun, bar);
    wait_row(own, p->m, -1, a->G + j * m, &count, &begun, bar);
    for (size_t at = a->start[j]; at < a->start[j + 1]; at++) {
        size_t cell = a->place[at], i = cell / p->k;
        wait_row(own, p->m, p->coef[cell], a->G + i * m, &count, &begun, bar);
        wait_row(own, p->m, -a->beta[cell], p->W + i * m, &count, &begun, bar);
    }
    wait_row(own, p->m, 0, NULL, &count, &begun, bar);
}

static status both_passes(const adjoint *a, workspace *all, int threads, double *partial, double *noise, double *vbar)
{
    size_t n = a->p->n, chunks = (n + CHUNK - 1) / CHUNK, width = 1 + slopes_count(&a->sl);
    size_t step = (size_t)POLL_CHUNKS * threads;
    int failed = 0;
    for (size_t from = 0; from < chunks; from += step) {
        size_t end = from + step < chunks ? from + step : chunks;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(| : failed)
        for (size_t chunk = from; chunk < end; chunk++)
            failed |= chunk_adjoint(a, all + threads_id(), chunk, partial + chunk * width);
        if (failed)
            return status_fail(STATUS_NOT_POSITIVE_DEFINITE);
        if (monitor_poll(a->p->mon, 0.7 * (double)end / (double)chunks))
            return status_fail(STATUS_INTERRUPTED);
    }
    for (size_t from = 0; from < n; from += step * CHUNK) {
        size_t end = from + step * CHUNK < n ? from + step * CHUNK : n;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 64)
        for (size_t at = from; at < end; at++)
            collect_point(a, all + threads_id(), a->problem.order[at], noise, vbar);
        if (monitor_poll(a->p->mon, 0.7 + 0.3 * (double)end / (double)n))
            return status_fail(STATUS_INTERRUPTED);
    }
    return status_ok();
}

status laplace_adjoint(const laplace_problem *p, int threads, double *signal, double *noise, double *slope,
                       double *vbar)
{
    adjoint a = {.p = p, .points = {p->n, p->x, p->v, p->variance}, .sl = slopes_new(p->kern, p->d, p->axes, 0)};
    size_t chunks = (p->n + CHUNK - 1) / CHUNK;
    int count = slopes_count(&a.sl), width = 1 + count;
    status result = adjoint_new(&a, threads);
    batch *batches = result.code ? NULL : batch_new(&a.problem, threads);
    workspace *all = batches ? workspace_new(&a, batches, threads) : NULL;
    double *partial = scratch_zeros(chunks * width + 1, sizeof(double));
    if (!result.code)
        result = all && partial ? both_passes(&a, all, threads, partial, noise, vbar) : status_fail(STATUS_MEMORY);
    if (!result.code) {
        *signal = 0;
        memset(slope, 0, count * sizeof(double));
        for (size_t chunk = 0; chunk < chunks; chunk++) {
            *signal += partial[chunk * width];
            add_scaled(count, 1, partial + chunk * width + 1, slope);
        }
    }
    workspace_free(all, threads);
    batch_free(batches, threads);
    scratch_free(partial);
    adjoint_free(&a);
    return result;
}

status laplace_slopes(const slopes *sl, int p, const double *z, size_t n, const double *x, const double *A, int threads,
                      double *out)
{
    int d = sl->d, count = slopes_count(sl), rows = simd->rows, cols = simd->cols;
    size_t chunks = (n + CHUNK - 1) / CHUNK;
    double *partial = scratch_zeros(chunks * count + 1, sizeof(double));
    double *left = scratch_alloc((size_t)(p + rows) * d + 1, sizeof(double));
    double *right = scratch_alloc((size_t)threads * d * cols + 1, sizeof(double));
    status result = partial && left && right ? status_ok() : status_fail(STATUS_MEMORY);
    if (!result.code)
        simd_pack(d, rows, p, z, d, 1, left);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (size_t chunk = 0; chunk < (result.code ? 0 : chunks); chunk++) {
        double *sums = partial + chunk * count, *points = right + (size_t)threads_id() * d * cols;
        size_t end = (chunk + 1) * CHUNK < n ? (chunk + 1) * CHUNK : n;
        for (size_t first = chunk * CHUNK; first < end; first += cols) {
            int wide = end - first < (size_t)cols ? (int)(end - first) : cols;
            simd_pack(d, cols, wide, x + first * d, d, 1, points);
            for (int u = 0; u < p; u += rows) {
                int high = p - u < rows ? p - u : rows;
                double s2[SIMD_MAX_ROWS * SIMD_MAX_COLS], value[SIMD_MAX_ROWS * SIMD_MAX_COLS],
                    common[SIMD_MAX_ROWS * SIMD_MAX_COLS];
                const double *own = left + (size_t)u * d;
                simd->distance_tile(d, own, points, s2);
                slopes_values(sl, (size_t)high * cols, s2, value, common, NULL);
                for (int a = 0; a < high; a++)
                    for (int j = 0; j < wide; j++) {
                        double weight = A[u + a + (first + j) * p] * common[a * cols + j];
                        if (!sl->axes)
                            sums[0] += weight;
                        for (int l = 0; sl->axes && l < d; l++) {
                            double gap = own[l * rows + a] - points[l * cols + j];
                            sums[l] += weight * gap * gap;
                        }
                    }
            }
        }
    }
    if (!result.code) {
        memset(out, 0, count * sizeof(double));
        for (size_t chunk = 0; chunk < chunks; chunk++)
            add_scaled(count, 1, partial + chunk * count, out);
    }
    scratch_free(partial);
    scratch_free(left);
    scratch_free(right);
    return result;
}

/* Whether it is time to poll, and the monitor asks to stop, after `done` of n points of k products with q numbers
 * each. */
static int stopped(const monitor *mon, size_t done, size_t n, int k, int q)
{
    size_t every = 1 + 20000000 / (1 + (size_t)k * q); /* a few milliseconds */
    return done % every == 0 && monitor_poll(mon, (double)done / (double)n);
}

status laplace_solve(int k, size_t n, const int *id, const double *coef, int transposed, int q, const monitor *mon,
                     double *X)
{
    for (size_t step = 0; step < n; step++) {
        if (stopped(mon, step, n, k, q))
            return status_fail(STATUS_INTERRUPTED);
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
    return status_ok();
}

void laplace_pairs(int k, size_t n, const int *id, int q, const double *weight, const double *L, const double *H,
                   const double *RL, const double *RH, int threads, double *to_D, double *to_coef)
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
                const double *rl = RL + ((size_t)parent - 1) * q, *rh = RH + ((size_t)parent - 1) * q;
                for (int s = 0; s < q; s++)
                    total += weight[s] * (l[s] * rh[s] + h[s] * rl[s]);
            }
            to_coef[i * k + slot] = total;
        }
    }
}

/* For few columns: every point's dot products as they are, without packing V. */
static void combine_few(int m, int q, size_t n, const double *C, const double *V, int threads, double *out)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t first = 0; first < n; first += FEW) {
        const double *row[FEW];
        double dots[FEW];
        int count = n - first < FEW ? (int)(n - first) : FEW;
        for (int i = 0; i < count; i++)
            row[i] = V + (first + i) * m;
        for (int c = 0; c < q; c++) {
            simd->dot_rows(m, C + (size_t)c * m, count, row, dots);
            for (int i = 0; i < count; i++)
                out[c + (first + i) * q] = dots[i];
        }
    }
}

status laplace_combine(int m, int q, size_t n, const double *C, const double *V, int threads, double *out)
{
    if (q <= 4 && m) {
        combine_few(m, q, n, C, V, threads, out);
        return status_ok();
    }
    int rows = simd->rows, cols = simd->cols, stride = products_stride(q);
    size_t last = n / rows * rows; /* from here on tiles would read beyond V */
    double *right = products_rows(NULL, m, q, 1, threads), *rest = products_rows(NULL, n - last, m, 1, threads);
    if (!right || !rest) {
        scratch_free(right);
        scratch_free(rest);
        return status_fail(STATUS_MEMORY);
    }
    for (int u = 0; u < m; u++)
        for (int c = 0; c < q; c++)
            right[(size_t)u * stride + c] = C[u + (size_t)c * m];
    for (size_t i = last; i < n; i++)
        memcpy(rest + (i - last) * products_stride(m), V + i * m, m * sizeof(double));
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t i = 0; i < n; i += rows) {
        double tile[SIMD_MAX_ROWS * SIMD_MAX_COLS];
        unsigned state = simd_flush();
        for (int v = 0; v < q; v += cols) {
            if (i < last)
                simd->strided_tile(m, V + i * m, m, 1, right + v, stride, tile);
            else
                simd->strided_tile(m, rest, products_stride(m), 1, right + v, stride, tile);
            for (int r = 0; r < rows && i + r < n; r++)
                for (int c = 0; c < cols && v + c < q; c++)
                    out[v + c + (i + r) * q] = tile[r * cols + c];
        }
        simd_restore(state);
    }
    scratch_free(right);
    scratch_free(rest);
    return status_ok();
}

/* For few columns of B: sums of chunks, added up in their order, without a copy of A. */
static status cross_few(int p, int q, size_t n, const double *A, const double *B, const double *weight, int threads,
                        double *out)
{
    size_t size = (size_t)p * q, height = 1024, chunks = (n + height - 1) / height;
    double *partial = scratch_alloc(chunks * size + 1, sizeof(double));
    if (!partial)
        return status_fail(STATUS_MEMORY);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t chunk = 0; chunk < chunks; chunk++) {
        double *own = partial + chunk * size;
        size_t end = (chunk + 1) * height < n ? (chunk + 1) * height : n;
        memset(own, 0, size * sizeof(double));
        for (size_t i = chunk * height; i < end; i++)
            for (int c = 0; c < q; c++)
                add_scaled(p, (weight ? weight[i] : 1) * B[c + i * q], A + i * p, own + (size_t)c * p);
    }
    memset(out, 0, size * sizeof(double));
    for (size_t chunk = 0; chunk < chunks; chunk++)
        add_scaled(size, 1, partial + chunk * size, out);
    scratch_free(partial);
    return status_ok();
}

status laplace_cross(int p, int q, size_t n, const double *A, const double *B, const double *weight, int threads,
                     const monitor *mon, double *out)
{
    if (q <= 4)
        return cross_few(p, q, n, A, B, weight, threads, out);
    /* tiles read a little beyond a row: into the next ones, but for the last rows */
    size_t tail = n < 2 * SIMD_MAX_ROWS ? n : SIMD_MAX_ROWS, first = n - tail;
    int lda = products_stride(p), ldb = products_stride(q);
    double *rest = products_rows(NULL, tail, p, 0, threads), *right = products_rows(NULL, n, q, 0, threads);
    double *C = scratch_alloc(2 * (size_t)p * ldb + 1, sizeof(double)), *more = C + (size_t)p * ldb;
    status result = rest && right && C ? status_ok() : status_fail(STATUS_MEMORY);
    if (!result.code) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (size_t i = 0; i < n; i++)
            for (int c = 0; c < q; c++)
                right[i * ldb + c] = (weight ? weight[i] : 1) * B[i * q + c];
        for (size_t i = 0; i < tail; i++)
            memcpy(rest + i * lda, A + (first + i) * p, p * sizeof(double));
        result = products_cross(first, p, A, p, q, right, ldb, 0, threads, mon, C, ldb);
        products_cross(tail, p, rest, lda, q, right + first * ldb, ldb, 0, threads, NULL, more, ldb);
        for (int u = 0; u < p && !result.code; u++)
            for (int v = 0; v < q; v++)
                out[u + (size_t)v * p] = C[(size_t)u * ldb + v] + more[(size_t)u * ldb + v];
    }
    scratch_free(rest);
    scratch_free(right);
    scratch_free(C);
    return result;
}

status laplace_root(int m, size_t n, const double *W, const double *D, int threads, const monitor *mon, double *root)
{
    int stride = products_stride(m);
    double *scaled = products_rows(NULL, n, m, 0, threads), *M = products_rows(NULL, m, m, 0, threads);
    status result = scaled && M ? status_ok() : status_fail(STATUS_MEMORY);
    if (!result.code) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (size_t i = 0; i < n; i++) {
            double scale = 1 / sqrt(D[i]);
            for (int u = 0; u < m; u++)
                scaled[i * stride + u] = scale * W[i * m + u];
        }
        result = products_cross(n, m, scaled, stride, m, scaled, stride, 1, threads, mon, M, stride);
        for (int v = 0; v < m && !result.code; v++)
            for (int u = 0; u < m; u++)
                root[u + (size_t)v * m] = u < v ? 0 : M[(size_t)u * stride + v] + (u == v);
        if (!result.code)
            result = linalg_cholesky(m, mon, root);
    }
    scratch_free(scaled);
    scratch_free(M);
    return result;
}

status laplace_collect(int k, size_t n, const int *id, const double *coef, int q, const double *X, const monitor *mon,
                       double *out)
{
    memcpy(out, X, n * q * sizeof(double));
    for (size_t i = 0; i < n; i++) {
        if (stopped(mon, i, n, k, q))
            return status_fail(STATUS_INTERRUPTED);
        for (int slot = 0; slot < k; slot++) {
            int parent = id[i + slot * n];
            if (parent >= 1)
                add_scaled(q, -coef[i * k + slot], X + i * q, out + ((size_t)parent - 1) * q);
        }
    }
    return status_ok();
}

#include "vif/information.h"

#include "base/scratch.h"
#include "base/threads.h"
#include "simd/simd.h"
#include "vif/products.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define PROBES 24 /* at once: whole tiles of every instruction set */
#define MOST_SETS 3
#define ENOUGH 262144 /* values of all probes */
#define SUM_BLOCK 4096
#define SPLIT 4 /* probes that threads share out */

typedef struct {
    int stride;          /* of the probes of a point */
    double *q, *h;       /* n rows */
    double *t, *g;       /* n rows for each direction, and `count` rows for each point */
    double *across;      /* PROBES rows of W's stride */
    double *turned;      /* m rows of the probes' stride */
    double *y;           /* m rows for each direction */
    double *partial;     /* of a long sum */
    double **rows;       /* k for each thread */
    double *zeros;       /* k */
} probes;

/* Sebastiano Vigna's SplitMix64. */
static uint64_t mixed(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static double long_dot(size_t size, const double *a, const double *b, int threads, double *partial)
{
    size_t blocks = (size + SUM_BLOCK - 1) / SUM_BLOCK;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t block = 0; block < blocks; block++) {
        size_t first = block * SUM_BLOCK, count = size - first < SUM_BLOCK ? size - first : SUM_BLOCK;
        const double *row = b + first;
        simd->dot_rows((int)count, a + first, 1, &row, partial + block);
    }
    double sum = 0;
    for (size_t block = 0; block < blocks; block++)
        sum += partial[block];
    return sum;
}

/* turned (m rows) <- W' t for the n rows t of the probes. */
static void project(const information_task *task, probes *own, const double *W, const double *t,
                    double *turned)
{
    products_cross(task->n, PROBES, t, own->stride, task->m, W, task->stride, 0, task->threads,
                   own->across, task->stride);
    memset(turned, 0, (size_t)task->m * own->stride * sizeof(double));
    for (int u = 0; u < task->m; u++)
        for (int p = 0; p < PROBES; p++)
            turned[(size_t)u * own->stride + p] = own->across[(size_t)p * task->stride + u];
}

/* x (m rows) <- (L + shift I)^-1 x, and x <- L^-T x. */
static void solve_down(const information_task *task, const probes *own, double shift, double *x)
{
    int m = task->m, stride = own->stride;
    for (int u = 0; u < m; u++) {
        double *row = x + (size_t)u * stride, inverse = 1 / (task->root[u + (size_t)u * m] + shift);
        for (int p = 0; p < stride; p++)
            row[p] *= inverse;
        for (int v = u + 1; v < m; v++)
            simd->add_multiple(stride, -task->root[v + (size_t)u * m], row, x + (size_t)v * stride);
    }
}

static void solve_up(const information_task *task, const probes *own, double *x)
{
    int m = task->m, stride = own->stride;
    for (int u = m - 1; u >= 0; --u) {
        double *row = x + (size_t)u * stride, inverse = 1 / task->root[u + (size_t)u * m];
        for (int v = u + 1; v < m; v++)
            simd->add_multiple(stride, -task->root[v + (size_t)u * m], x + (size_t)v * stride, row);
        for (int p = 0; p < stride; p++)
            row[p] *= inverse;
    }
}

/* q <- R u. */
static void draw(const information_task *task, probes *own, uint64_t set)
{
    size_t n = task->n;
    for (size_t i = 0; i < n; i++) {
        uint64_t bits = mixed(mixed(set + 1) + i);
        for (int p = 0; p < PROBES; p++)
            own->q[i * own->stride + p] = bits >> p & 1 ? 1 : -1;
    }
    project(task, own, task->W, own->q, own->turned);
    solve_down(task, own, 1, own->turned);
    solve_up(task, own, own->turned);
    for (size_t e = 0; e < (size_t)task->m * own->stride; e++)
        own->turned[e] = -own->turned[e];
    products_multiply(n, task->m, task->W, task->stride, PROBES, own->turned, own->stride, 1,
                      task->threads, own->q, own->stride);
}

/* h = B^-1 D^1/2 q, and t_a <- N_a q + diag(dD_a / D) q, for `width` probes from `low` on. */
static void sweep_down(const information_task *task, probes *own, int low, int width, double **rows)
{
    int k = task->k, stride = own->stride;
    for (size_t i = 0; i < task->n; i++) {
        const int *parent = task->parent + i * k;
        double deviation = sqrt(task->D[i]);
        double *h = own->h + i * stride + low;
        const double *q = own->q + i * stride + low;
        for (int j = 0; j < k; j++) /* a missing parent has weight 0: any row does */
            rows[j] = own->h + (size_t)(parent[j] < 0 ? 0 : parent[j]) * stride + low;
        for (int a = 0; a < task->count; a++) {
            double *t = own->t + (a * task->n + i) * stride + low;
            simd->combine_rows(width, k, task->dcoef[a] + i * k, (const double *const *)rows, t);
            for (int p = 0; p < width; p++)
                t[p] = t[p] / deviation + task->ratio[a][i] * q[p];
        }
        simd->combine_rows(width, k, task->coef + i * k, (const double *const *)rows, h);
        for (int p = 0; p < width; p++)
            h[p] += deviation * q[p];
    }
}

/* t_a <- t_a + N_a' q: D^1/2 B^-T dA' D^-1/2 q. The rows g_a of a point are complete once those after it are done. */
static void sweep_up(const information_task *task, probes *own, int low, int width, double **rows)
{
    int k = task->k, stride = own->stride, count = task->count;
    double scaled[PROBES];
    for (size_t i = task->n; i-- > 0;) {
        const int *parent = task->parent + i * k;
        double deviation = sqrt(task->D[i]);
        const double *q = own->q + i * stride + low;
        int used = 0;
        for (int p = 0; p < width; p++)
            scaled[p] = q[p] / deviation;
        for (int a = 0; a < count; a++) {
            double *g = own->g + (i * count + a) * stride + low;
            double *t = own->t + (a * task->n + i) * stride + low;
            for (int p = 0; p < width; p++)
                t[p] += deviation * g[p];
            for (used = 0; used < k && parent[used] >= 0; used++)
                rows[used] = own->g + ((size_t)parent[used] * count + a) * stride + low;
            simd->spread_rows(width, used, task->coef + i * k, g, task->dcoef[a] + i * k, scaled,
                              rows);
            for (int j = used + 1; j < k; j++) /* beyond a missing one */
                if (parent[j] >= 0) {
                    rows[0] = own->g + ((size_t)parent[j] * count + a) * stride + low;
                    simd->spread_rows(width, 1, task->coef + i * k + j, g,
                                      task->dcoef[a] + i * k + j, scaled, rows);
                }
        }
    }
}

/* Adds the sums of one set of probes to `sums` (count x count). */
static void probe(const information_task *task, probes *own, uint64_t set, double *sums)
{
    int count = task->count, m = task->m, stride = own->stride;
    int parts = task->threads < PROBES / SPLIT ? task->threads : PROBES / SPLIT;
    size_t n = task->n, long_size = n * stride;
    draw(task, own, set);
    memset(own->g, 0, count * long_size * sizeof(double));
#pragma omp parallel for num_threads(task->threads) schedule(static)
    for (int part = 0; part < parts; part++) {
        int low = PROBES / SPLIT * part / parts * SPLIT;
        int high = PROBES / SPLIT * (part + 1) / parts * SPLIT;
        double **rows = own->rows + (size_t)(task->k + 1) * part;
        sweep_down(task, own, low, high - low, rows);
        sweep_up(task, own, low, high - low, rows);
    }
    project(task, own, task->W, own->q, own->turned);
    double total = n * (double)PROBES; /* q' C q = u' u */
    double *along = own->zeros + task->k + 1;
    for (int a = 0; a < count; a++) {
        double *t = own->t + a * long_size, *y = own->y + (size_t)a * m * stride;
        if (task->dW[a]) { /* dW' (W q) + W' (dW q) */
            products_multiply(n, m, task->dW[a], task->stride, PROBES, own->turned, stride, 1,
                              task->threads, t, stride);
            project(task, own, task->dW[a], own->q, y);
            products_multiply(n, m, task->W, task->stride, PROBES, y, stride, 1, task->threads, t,
                              stride);
        }
        project(task, own, task->W, t, y);
        solve_down(task, own, 0, y);
        along[a] = long_dot(long_size, own->q, t, task->threads, own->partial);
    }
    for (int a = 0; a < count; a++)
        for (int b = 0; b <= a; b++) {
            const double *ya = own->y + (size_t)a * m * stride, *yb = own->y + (size_t)b * m * stride;
            double inner = long_dot(long_size, own->t + a * long_size, own->t + b * long_size,
                                    task->threads, own->partial) -
                           long_dot((size_t)m * stride, ya, yb, 1, own->partial);
            double ca = task->trace[a] / n, cb = task->trace[b] / n;
            sums[a * count + b] += inner - ca * along[b] - cb * along[a] + ca * cb * total;
        }
}

status information_expected(const information_task *task, double *out)
{
    size_t n = task->n;
    int count = task->count, m = task->m, stride = products_stride(PROBES), k = task->k;
    size_t sets = ENOUGH / (n * PROBES) + 1;
    if (sets > MOST_SETS)
        sets = MOST_SETS;
    size_t square = (size_t)m * stride;
    status result = status_fail(STATUS_MEMORY);
    probes own = {
        .stride = stride,
        .q = products_rows(n, stride),
        .h = products_rows(n, stride),
        .t = products_rows(n * count, stride),
        .g = products_rows(n * count, stride),
        .across = products_rows(PROBES, task->stride),
        .turned = products_rows(m, stride),
        .y = products_rows((size_t)m * count, stride),
        .partial = scratch_alloc((n + m) * stride / SUM_BLOCK + 2, sizeof(double)),
        .rows = scratch_alloc((size_t)(k + 1) * PROBES, sizeof(double *)),
        .zeros = scratch_alloc(k + 1 + count, sizeof(double)),
    };
    if (!own.q || !own.h || !own.t || !own.g || !own.across || !own.turned || !own.y ||
        !own.partial || !own.rows || !own.zeros)
        goto done;
    (void)square;
    memset(out, 0, (size_t)count * count * sizeof(double));
    for (size_t set = 0; set < sets; set++) {
        probe(task, &own, set, out);
        if (monitor_poll(task->mon, (set + 1.0) / sets)) {
            result = status_fail(STATUS_INTERRUPTED);
            goto done;
        }
    }
    for (int a = 0; a < count; a++)
        for (int b = 0; b <= a; b++) {
            double exact = 0.5 * task->trace[a] * task->trace[b] / n;
            double rest = 0.5 * out[a * count + b] / (PROBES * (double)sets);
            out[a * count + b] = out[b * count + a] = exact + rest;
        }
    result = status_ok();
done:
    scratch_free(own.q);
    scratch_free(own.h);
    scratch_free(own.t);
    scratch_free(own.g);
    scratch_free(own.across);
    scratch_free(own.turned);
    scratch_free(own.y);
    scratch_free(own.partial);
    scratch_free(own.rows);
    scratch_free(own.zeros);
    return result;
}

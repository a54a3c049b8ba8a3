#include "vif/information.h"

#include "base/scratch.h"
#include "base/threads.h"
#include "simd/simd.h"
#include "vif/products.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#define PROBES 24                /* at once, with a basis, */
#define FEWER INFORMATION_PROBES /* and without one */
#define CHEAP 4000               /* points for which the basis costs little, */
#define FEW 2000                 /* and all of space */
#define MORE 4                   /* sets of random signs */
#define DEPENDENT 1e-10          /* what is left of the square of a vector in the span of those before it */
#define SUM_CHUNK 4096
#define DONE 0.9 /* of an evaluation before this, for the monitor */
#define SPLIT 4  /* probes that threads share out */

typedef struct {
    int probes, stride; /* at once, and values of a point */
    double *q, *h;      /* n rows: u, then R u; q owns the memory of these four, */
    double *t, *g;      /* n rows for each direction, E_a R u; and `count` rows for each point */
    double *basis;      /* n rows: orthonormal columns, or NULL */
    double *turned;     /* m rows of the probes' stride, at least own->probes */
    double *y;          /* m rows for each direction, L^-1 W t_a */
    double *partial;    /* of a long sum */
    double *along;      /* (R u) . t_a */
    double **pointers;  /* for pieces */
} probes;

/* Pointers of a piece of the sweeps. */
typedef struct {
    double **rows, **sums; /* k + 1, and count + 1 */
    const double **weight; /* count + 1 */
} piece;

static size_t piece_size(const information_task *task) { return (size_t)task->k + 1 + 2 * ((size_t)task->count + 1); }

static piece piece_of(const information_task *task, const probes *own, int number)
{
    double **at = own->pointers + number * piece_size(task), **sums = at + task->k + 1;
    return (piece){at, sums, (const double **)(sums + task->count + 1)};
}

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
    size_t chunks = (size + SUM_CHUNK - 1) / SUM_CHUNK;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t chunk = 0; chunk < chunks; chunk++) {
        size_t first = chunk * SUM_CHUNK, count = size - first < SUM_CHUNK ? size - first : SUM_CHUNK;
        const double *row = b + first;
        simd->dot_rows((int)count, a + first, 1, &row, partial + chunk);
    }
    double sum = 0;
    for (size_t chunk = 0; chunk < chunks; chunk++)
        sum += partial[chunk];
    return sum;
}

/* turned (m rows) <- W t for the n rows t of the probes. */
static void project(const information_task *task, const probes *own, const double *W, const double *t, double *turned)
{
    products_cross(task->n, task->m, W, task->stride, own->probes, t, own->stride, 0, task->threads, NULL, turned,
                   own->stride);
}

/* x (m rows) <- (L + shift I)^-1 x, and x <- (L + shift I)^-T x. */
static void solve_down(int m, const double *root, int stride, double shift, double *x)
{
    for (int u = 0; u < m; u++) {
        double *row = x + (size_t)u * stride, inverse = 1 / (root[u + (size_t)u * m] + shift);
        for (int p = 0; p < stride; p++)
            row[p] *= inverse;
        for (int v = u + 1; v < m; v++)
            simd->add_multiple(stride, -root[v + (size_t)u * m], row, x + (size_t)v * stride);
    }
}

static void solve_up(int m, const double *root, int stride, double shift, double *x)
{
    for (int u = m - 1; u >= 0; --u) {
        double *row = x + (size_t)u * stride, inverse = 1 / (root[u + (size_t)u * m] + shift);
        for (int v = u + 1; v < m; v++)
            simd->add_multiple(stride, -root[v + (size_t)u * m], x + (size_t)v * stride, row);
        for (int p = 0; p < stride; p++)
            row[p] *= inverse;
    }
}

/* q <- R q, or R' q. With z = (I + L)^-1 W u, W R u = z + L^-T z, which is left in `turned`. */
static void apply_root(const information_task *task, probes *own, int transposed, double *q)
{
    size_t size = (size_t)task->m * own->stride;
    project(task, own, task->W, q, own->turned);
    solve_down(task->m, task->root, own->stride, transposed ? 0 : 1, own->turned);
    memcpy(own->y, own->turned, size * sizeof(double));
    solve_up(task->m, task->root, own->stride, transposed ? 1 : 0, own->turned);
    for (size_t e = 0; e < size; e++)
        own->turned[e] = -own->turned[e];
    products_multiply(task->n, task->m, task->W, task->stride, own->probes, own->turned, own->stride, 1, task->threads,
                      q, own->stride);
    for (size_t e = 0; e < size; e++)
        own->turned[e] = own->y[e] - own->turned[e];
}

static void draw_signs(const information_task *task, probes *own, uint64_t set)
{
#pragma omp parallel for num_threads(task->threads) schedule(static)
    for (size_t i = 0; i < task->n; i++) {
        uint64_t bits = mixed(mixed(set) + (task->number ? (uint64_t)task->number[i] : i));
        for (int p = 0; p < own->probes; p++)
            own->q[i * own->stride + p] = bits >> p & 1 ? 1 : -1;
    }
}

/* h = B^-1 D^1/2 q, and t_a <- N_a q + diag(dD_a / D) q, for `width` probes from `low` on. */
static void sweep_down(const information_task *task, probes *own, int low, int width, const piece *space)
{
    int k = task->k, stride = own->stride, count = task->count;
    double **rows = space->rows, **sums = space->sums;
    const double **weight = space->weight;
    for (size_t at = 0; at < task->n; at++) {
        size_t i = task->sequence ? task->sequence[at] : at;
        const int *parent = task->parent + i * k;
        double deviation = sqrt(task->D[i]);
        double *h = own->h + i * stride + low;
        const double *q = own->q + i * stride + low;
        for (int j = 0; j < k; j++) /* a missing parent has weight 0: any finite row does */
            rows[j] = parent[j] < 0 ? own->turned : own->h + (size_t)parent[j] * stride + low;
        for (int a = 0; a < count; a++) {
            weight[a] = task->dcoef[a] + i * k;
            sums[a] = own->t + (a * task->n + i) * stride + low;
        }
        weight[count] = task->coef + i * k;
        sums[count] = h;
        simd->combine_rows(width, k, count + 1, weight, (const double *const *)rows, sums);
        for (int a = 0; a < count; a++)
            for (int p = 0; p < width; p++)
                sums[a][p] = sums[a][p] / deviation + task->ratio[a][i] * q[p];
        for (int p = 0; p < width; p++)
            h[p] += deviation * q[p];
    }
}

/* g_a, from zeros: N_a' q = D^1/2 g_a = D^1/2 B^-T dA' D^-1/2 q. The rows of a point are complete once those after it
 * are done. */
static void sweep_up(const information_task *task, probes *own, int low, int width, const piece *space)
{
    int k = task->k, stride = own->stride, count = task->count;
    size_t row = (size_t)count * stride;
    double scaled[PROBES], **rows = space->rows;
    const double **weight = space->weight;
    for (size_t at = task->n; at-- > 0;) {
        size_t i = task->sequence ? task->sequence[at] : at;
        const int *parent = task->parent + i * k;
        double deviation = sqrt(task->D[i]), *g = own->g + i * row + low;
        const double *q = own->q + i * stride + low;
        int here = !task->own || task->own[i]; /* the halo hands on what its children say, and adds nothing */
        for (int p = 0; p < width; p++)
            scaled[p] = here ? q[p] / deviation : 0;
        for (int j = 0, last; j < k; j = last + 1) { /* up to a missing parent, and beyond it */
            for (last = j; last < k && parent[last] >= 0; last++)
                rows[last - j] = own->g + parent[last] * row + low;
            for (int a = 0; a < count; a++)
                weight[a] = task->dcoef[a] + i * k + j;
            simd->spread_rows(width, count, stride, last - j, task->coef + i * k + j, g, weight, scaled, rows);
        }
    }
}

static void draw_units(const information_task *task, probes *own, size_t first)
{
    memset(own->q, 0, task->n * own->stride * sizeof(double));
    for (int p = 0; p < own->probes && first + p < task->n; p++)
        own->q[(first + p) * own->stride + p] = 1;
}

/* t_a <- t_a + N_a' q, from g. */
static void add_up(const information_task *task, probes *own)
{
    int stride = own->stride, count = task->count;
#pragma omp parallel for num_threads(task->threads) schedule(static)
    for (size_t i = 0; i < task->n; i++)
        for (int a = 0; a < count; a++)
            simd->add_multiple(stride, sqrt(task->D[i]), own->g + (i * count + a) * stride,
                               own->t + (a * task->n + i) * stride);
}

/* h, g and t_a from q. Sweeps down and up do not wait for each other; further threads share out the probes. */
static void sweep(const information_task *task, probes *own)
{
    int most = own->probes / SPLIT, parts = task->threads < 2 * most ? (task->threads + 1) / 2 : most;
    size_t row = (size_t)task->count * own->stride;
#pragma omp parallel for num_threads(task->threads) schedule(static)
    for (size_t i = 0; i < task->n; i++)
        memset(own->g + i * row, 0, row * sizeof(double));
#pragma omp parallel for num_threads(task->threads) schedule(static, 1)
    for (int number = 0; number < 2 * parts; number++) {
        int low = most * (number / 2) / parts * SPLIT, high = most * (number / 2 + 1) / parts * SPLIT;
        piece space = piece_of(task, own, number);
        unsigned state = simd_flush();
        if (number % 2)
            sweep_up(task, own, low, high - low, &space);
        else
            sweep_down(task, own, low, high - low, &space);
        simd_restore(state);
    }
    add_up(task, own);
}

/* From u in q: q <- R u, t_a <- E_a q, y_a and along; nonzero when the monitor asks to stop. */
static int differentiate(const information_task *task, probes *own)
{
    int count = task->count, m = task->m, stride = own->stride;
    size_t n = task->n, long_size = n * stride;
    apply_root(task, own, 0, own->q);
    if (monitor_poll(task->mon, DONE))
        return 1;
    sweep(task, own);
    if (monitor_poll(task->mon, DONE))
        return 1;
    for (int a = 0; a < count; a++) {
        double *t = own->t + a * long_size, *y = own->y + (size_t)a * m * stride;
        if (task->dW[a]) { /* dW' (W q) + W' (dW q) */
            products_multiply(n, m, task->dW[a], task->stride, own->probes, own->turned, stride, 1, task->threads, t,
                              stride);
            project(task, own, task->dW[a], own->q, y);
            products_multiply(n, m, task->W, task->stride, own->probes, y, stride, 1, task->threads, t, stride);
        }
        project(task, own, task->W, t, y);
        solve_down(m, task->root, stride, 0, y);
        own->along[a] = long_dot(long_size, own->q, t, task->threads, own->partial);
        if (monitor_poll(task->mon, DONE))
            return 1;
    }
    return 0;
}

/* Adds `weight` times the sums over the vectors u that were differentiated, the sum of whose squares is `squares`, to
 * `sums` (count x count). */
static void add_products(const information_task *task, probes *own, double weight, double squares, double *sums)
{
    int count = task->count;
    size_t long_size = task->n * own->stride, short_size = (size_t)task->m * own->stride;
    for (int a = 0; a < count; a++)
        for (int b = 0; b <= a; b++) {
            const double *ya = own->y + a * short_size, *yb = own->y + b * short_size;
            double inner =
                long_dot(long_size, own->t + a * long_size, own->t + b * long_size, task->threads, own->partial) -
                long_dot(short_size, ya, yb, 1, own->partial);
            double ca = task->trace[a] / task->n, cb = task->trace[b] / task->n;
            sums[a * count + b] += weight * (inner - ca * own->along[b] - cb * own->along[a] + ca * cb * squares);
        }
}

/* Makes the columns of the basis orthonormal, those that depend on others zero. */
static void orthonormalise(const information_task *task, probes *own)
{
    int stride = own->stride;
    double L[PROBES][PROBES];
    products_cross(task->n, own->probes, own->basis, stride, own->probes, own->basis, stride, 0, task->threads, NULL,
                   own->turned, stride);
    for (int j = 0; j < own->probes; j++) {
        double pivot = own->turned[(size_t)j * stride + j], whole = pivot;
        for (int v = 0; v < j; v++)
            pivot -= L[j][v] * L[j][v];
        int dependent = !(pivot > DEPENDENT * whole);
        L[j][j] = dependent ? 0 : sqrt(pivot);
        for (int i = j + 1; i < own->probes; i++) {
            double value = own->turned[(size_t)i * stride + j];
            for (int v = 0; v < j; v++)
                value -= L[i][v] * L[j][v];
            L[i][j] = dependent ? 0 : value / L[j][j];
        }
    }
#pragma omp parallel for num_threads(task->threads) schedule(static)
    for (size_t i = 0; i < task->n; i++) {
        double *row = own->basis + i * stride;
        for (int j = 0; j < own->probes; j++) {
            double value = row[j];
            for (int v = 0; v < j; v++)
                value -= L[j][v] * row[v];
            row[j] = L[j][j] > 0 ? value / L[j][j] : 0;
        }
    }
}

/* A basis of what the directions move most: some columns R' t_a - c_a u of each, u the random signs `set`; nonzero when
 * the monitor asks to stop. */
static int find_basis(const information_task *task, probes *own, uint64_t set)
{
    int stride = own->stride;
    size_t long_size = task->n * stride;
    draw_signs(task, own, set);
    double *u = own->basis;
    memcpy(u, own->q, long_size * sizeof(double));
    if (differentiate(task, own))
        return 1;
    for (int a = 0; a < task->count; a++)
        apply_root(task, own, 1, own->t + a * long_size);
#pragma omp parallel for num_threads(task->threads) schedule(static)
    for (size_t i = 0; i < task->n; i++)
        for (int p = 0; p < own->probes; p++) {
            int a = p % task->count;
            u[i * stride + p] = own->t[a * long_size + i * stride + p] - task->trace[a] / task->n * u[i * stride + p];
        }
    orthonormalise(task, own);
    orthonormalise(task, own); /* what rounding left */
    return monitor_poll(task->mon, DONE);
}

/* q <- q - Q Q' q; returns the sum of the squares that are left. */
static double leave_basis(const information_task *task, probes *own)
{
    int stride = own->stride;
    products_cross(task->n, own->probes, own->basis, stride, own->probes, own->q, stride, 0, task->threads, NULL,
                   own->turned, stride);
    for (size_t e = 0; e < (size_t)own->probes * stride; e++)
        own->turned[e] = -own->turned[e];
    products_multiply(task->n, own->probes, own->basis, stride, own->probes, own->turned, stride, 1, task->threads,
                      own->q, stride);
    return long_dot(task->n * stride, own->q, own->q, task->threads, own->partial);
}

static void probes_free(const information_task *task, probes *own)
{
    scratch_give(task->pool, own->q);
    scratch_give(task->pool, own->basis);
    scratch_give(task->pool, own->turned);
    scratch_give(task->pool, own->y);
    scratch_free(own->partial);
    scratch_free(own->along);
    scratch_free(own->pointers);
}

/* Nonzero without memory. */
static int probes_new(const information_task *task, int at_once, int with_basis, probes *own)
{
    size_t n = task->n;
    int count = task->count, m = task->m, stride = products_stride(at_once);
    /* together, for a pool to take the place of the features' derivatives, which are done with */
    double *all = products_rows(task->pool, n * (2 + 2 * count), at_once, 0, task->threads);
    *own = (probes){
        .probes = at_once,
        .stride = stride,
        .q = all,
        .basis = with_basis ? products_rows(task->pool, n, at_once, 0, task->threads) : NULL,
        .turned = products_rows(task->pool, m > PROBES ? m : PROBES, at_once, 1, task->threads),
        .y = products_rows(task->pool, (size_t)m * count, at_once, 1, task->threads),
        .partial = scratch_alloc((n + m) * stride / SUM_CHUNK + 2, sizeof(double)),
        .along = scratch_alloc(count, sizeof(double)),
        .pointers = scratch_alloc(piece_size(task) * PROBES, sizeof(double *)),
    };
    if (!all)
        return 1;
    own->h = all + n * stride;
    own->t = own->h + n * stride;
    own->g = own->t + count * n * stride;
    return (with_basis && !own->basis) || !own->turned || !own->y || !own->partial || !own->along || !own->pointers;
}

status information_expected(const information_task *task, double *out)
{
    size_t n = task->n;
    int count = task->count;
    int exact = task->accurate && n <= FEW, with_basis = !exact && (task->accurate || n <= CHEAP);
    int at_once = with_basis || exact ? PROBES : FEWER, stride = products_stride(at_once);
    size_t sets = exact ? (n + PROBES - 1) / PROBES : task->accurate ? MORE : 1;
    status result = status_fail(STATUS_MEMORY);
    probes own;
    if (probes_new(task, at_once, with_basis, &own))
        goto done;
    for (int a = 0; a < count; a++)
        for (int b = 0; b <= a; b++)
            out[a * count + b] = task->trace[a] * task->trace[b] / n;
    result = status_fail(STATUS_INTERRUPTED);
    double squares = (double)n * at_once;
    if (with_basis) {
        if (find_basis(task, &own, sets))
            goto done;
        memcpy(own.q, own.basis, n * stride * sizeof(double));
        squares = long_dot(n * stride, own.q, own.q, task->threads, own.partial);
        if (differentiate(task, &own))
            goto done;
        add_products(task, &own, 1, squares, out);
    }
    for (size_t set = 0; set < sets; set++) {
        if (exact) {
            draw_units(task, &own, set * PROBES);
            squares = n - set * PROBES < PROBES ? (double)(n - set * PROBES) : PROBES;
        } else {
            draw_signs(task, &own, set);
        }
        if (with_basis)
            squares = leave_basis(task, &own);
        if (differentiate(task, &own))
            goto done;
        add_products(task, &own, exact ? 1 : 1.0 / (at_once * (double)sets), squares, out);
    }
    for (int a = 0; a < count; a++)
        for (int b = 0; b <= a; b++)
            out[a * count + b] = out[b * count + a] = 0.5 * out[a * count + b];
    result = status_ok();
done:
    probes_free(task, &own);
    return result;
}

/* ---- in steps --------------------------------------------------------------------------------- */

struct information_steps {
    information_task task;
    probes own;
};

void information_close(information_steps *steps)
{
    if (steps)
        probes_free(&steps->task, &steps->own);
    scratch_free(steps);
}

information_steps *information_open(const information_task *task)
{
    information_steps *steps = scratch_alloc(1, sizeof(*steps));
    if (!steps)
        return NULL;
    steps->task = *task;
    if (probes_new(&steps->task, FEWER, 0, &steps->own)) {
        information_close(steps);
        return NULL;
    }
    draw_signs(&steps->task, &steps->own, 0);
    return steps;
}

/* Rows of the probes without what fills them up, and back. */
static void take_rows(const probes *own, size_t rows, const double *from, double *to)
{
    for (size_t u = 0; u < rows; u++)
        memcpy(to + u * FEWER, from + u * own->stride, FEWER * sizeof(double));
}

static void put_rows(const probes *own, size_t rows, const double *from, double *to)
{
    for (size_t u = 0; u < rows; u++)
        memcpy(to + u * own->stride, from + u * FEWER, FEWER * sizeof(double));
}

void information_signs(information_steps *steps, double *sums)
{
    project(&steps->task, &steps->own, steps->task.W, steps->own.q, steps->own.turned);
    take_rows(&steps->own, steps->task.m, steps->own.turned, sums);
}

void information_turn(int m, const double *root, const double *sums, double *turned)
{
    for (size_t e = 0; e < (size_t)m * FEWER; e++)
        turned[e] = -sums[e];
    solve_down(m, root, FEWER, 1, turned);
    solve_up(m, root, FEWER, 0, turned);
}

/* q <- q + w . turned in the halo, whose rows of W are not kept. */
static status turn_halo(const information_task *task, probes *own)
{
    int m = task->m, k = task->k;
    double *w, *weight;
    const double **rows;
    if (!SCRATCH_ALL(SCRATCH_FOR(w, m + 1), SCRATCH_FOR(weight, k + 2), SCRATCH_FOR(rows, k + 2)))
        return status_fail(STATUS_MEMORY);
    for (size_t i = 0; i < task->n; i++) {
        if (task->own[i])
            continue;
        const int *parent = task->parent + i * k;
        double scale = 1 / sqrt(task->D[i]);
        int used = 0;
        for (int j = 0; j < k; j++)
            if (parent[j] >= 0) {
                weight[used] = -scale * task->coef[i * k + j];
                rows[used++] = task->v + (size_t)parent[j] * m;
            }
        weight[used] = scale;
        rows[used++] = task->v + i * m;
        simd->combine_rows(m, used, 1, (const double *const *)&weight, rows, &w);
        for (int u = 0; u < m; u++)
            simd->add_multiple(own->stride, w[u], own->turned + (size_t)u * own->stride, own->q + i * own->stride);
    }
    SCRATCH_FREE(w, weight, rows);
    return status_ok();
}

status information_sweep(information_steps *steps, const double *turned, double *sums)
{
    const information_task *task = &steps->task;
    probes *own = &steps->own;
    size_t n = task->n, rows = task->m, stride = own->stride;
    put_rows(own, rows, turned, own->turned);
    products_multiply(n, task->m, task->W, task->stride, FEWER, own->turned, own->stride, 1, task->threads, own->q,
                      own->stride);
    status outcome = turn_halo(task, own);
    if (outcome.code)
        return outcome;
    sweep(task, own);
    for (size_t i = 0; i < n; i++) /* sums from here on are those of the shard's own points */
        if (!task->own[i]) {
            memset(own->q + i * stride, 0, stride * sizeof(double));
            for (int a = 0; a < task->count; a++)
                memset(own->t + (a * n + i) * stride, 0, stride * sizeof(double));
        }
    project(task, own, task->W, own->q, own->turned);
    take_rows(own, rows, own->turned, sums);
    for (int a = 0; a < task->count; a++)
        if (task->dW[a]) {
            sums += rows * FEWER;
            project(task, own, task->dW[a], own->q, own->y);
            take_rows(own, rows, own->y, sums);
        }
    return monitor_poll(task->mon, DONE) ? status_fail(STATUS_INTERRUPTED) : status_ok();
}

double *information_return(information_steps *steps, size_t point)
{
    return steps->own.g + point * steps->task.count * steps->own.stride;
}

void information_add(information_steps *steps, size_t point, const double *values)
{
    const information_task *task = &steps->task;
    size_t stride = steps->own.stride;
    double deviation = sqrt(task->D[point]);
    for (int a = 0; a < task->count; a++)
        for (int p = 0; p < FEWER; p++)
            steps->own.t[(a * task->n + point) * stride + p] += deviation * values[a * FEWER + p];
}

status information_products(information_steps *steps, const double *known, double *sums)
{
    const information_task *task = &steps->task;
    probes *own = &steps->own;
    int count = task->count;
    size_t rows = task->m, long_size = task->n * own->stride;
    double *along = sums + count * rows * FEWER, *across = along + count;
    put_rows(own, rows, known, own->turned);
    for (int a = 0; a < count; a++) {
        double *t = own->t + a * long_size;
        if (task->dW[a]) {
            known += rows * FEWER;
            products_multiply(task->n, task->m, task->dW[a], task->stride, FEWER, own->turned, own->stride, 1,
                              task->threads, t, own->stride);
            put_rows(own, rows, known, own->y);
            products_multiply(task->n, task->m, task->W, task->stride, FEWER, own->y, own->stride, 1, task->threads, t,
                              own->stride);
        }
        project(task, own, task->W, t, own->y);
        take_rows(own, rows, own->y, sums + a * rows * FEWER);
        along[a] = long_dot(long_size, own->q, t, task->threads, own->partial);
        for (int b = 0; b <= a; b++)
            across[a * count + b] = long_dot(long_size, t, own->t + b * long_size, task->threads, own->partial);
        if (monitor_poll(task->mon, DONE))
            return status_fail(STATUS_INTERRUPTED);
    }
    return status_ok();
}

status information_finish(size_t n, int count, int m, const double *root, const double *trace, const double *sums,
                          double *out)
{
    size_t size = (size_t)m * FEWER;
    const double *along = sums + count * size, *across = along + count;
    double *y = scratch_alloc(count * size + 1, sizeof(double));
    if (!y)
        return status_fail(STATUS_MEMORY);
    memcpy(y, sums, count * size * sizeof(double));
    for (int a = 0; a < count; a++) {
        solve_down(m, root, FEWER, 0, y + a * size);
        for (int b = 0; b <= a; b++) {
            double ca = trace[a] / n, cb = trace[b] / n, inner = across[a * count + b];
            for (size_t e = 0; e < size; e++)
                inner -= y[a * size + e] * y[b * size + e];
            inner += -ca * along[b] - cb * along[a] + ca * cb * ((double)n * FEWER);
            out[a * count + b] = out[b * count + a] = 0.5 * (trace[a] * trace[b] / n + inner / FEWER);
        }
    }
    scratch_free(y);
    return status_ok();
}

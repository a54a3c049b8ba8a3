#include "r/entry.h"

#include "base/scratch.h"
#include "model/inducing.h"
#include "partition/order.h"
#include "r/glue.h"
#include "vif/predict.h"

#include <R.h>
#include <limits.h>
#include <string.h>

#define TABLE_ROWS 64 /* turned at once, for both sides to be read in lines */

static int pools_width(SEXP pools, size_t count)
{
    int width = 0;
    for (R_xlen_t p = 0; p < XLENGTH(pools); p++) {
        SEXP table = VECTOR_ELT(pools, p);
        if (!isInteger(table) || (size_t)nrows(table) != count)
            error("internal: pools must be integer matrices of %lld rows", (long long)count);
        width += ncols(table);
    }
    return width;
}

/* Neighbour tables, one row a query and 1-based, side by side in one table of candidates, row by row and 0-based. */
static void unpack_pools(SEXP pools, size_t count, int width, int threads, int *to)
{
    for (R_xlen_t p = 0; p < XLENGTH(pools); p++) {
        const int *from = INTEGER(VECTOR_ELT(pools, p));
        int columns = ncols(VECTOR_ELT(pools, p));
#pragma omp parallel for num_threads(threads) schedule(static)
        for (size_t first = 0; first < count; first += TABLE_ROWS)
            for (int j = 0; j < columns; j++)
                for (size_t q = first; q < count && q < first + TABLE_ROWS; q++) {
                    int id = from[q + j * count];
                    to[q * width + j] = id == NA_INTEGER ? -1 : id - 1;
                }
        to += columns;
    }
}

/* Sets, row by row and 0 for none, as a neighbour table; with distances, unless these are NULL. */
static void pack_sets(size_t count, int k, const int *id, const double *dist, int threads, int *table,
                      double *distances)
{
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t first = 0; first < count; first += TABLE_ROWS)
        for (int t = 0; t < k; t++)
            for (size_t q = first; q < count && q < first + TABLE_ROWS; q++) {
                int own = id[q * k + t];
                table[q + t * count] = own ? own : NA_INTEGER;
                if (dist)
                    distances[q + t * count] = own ? dist[q * k + t] : NA_REAL;
            }
}

/* Features and residual variances of points that have none, in the unit of the scaling: of those near in space the
 * features lie together, in column[i] those of point i. For scratch_give. */
typedef struct {
    double *v, *residual;
    int *column;
} placed_features;

static void give_features(scratch_pool *pool, placed_features *own)
{
    scratch_give(pool, own->v);
    scratch_give(pool, own->residual);
    scratch_give(pool, own->column);
}

static status place_features(const scaling *sc, SEXP gp, const metric_points *points, scratch_pool *pool, int threads,
                             const monitor *mon, placed_features *own)
{
    size_t n = points->n;
    int m = points->m, d = points->d;
    const double *z = r_scaled(sc, r_element(gp, "inducing")),
                 *L = r_in_units(r_element(gp, "chol"), "chol", (R_xlen_t)m * m, 1.0 / sc->unit);
    int *order = r_memory(n, sizeof(int));
    double *x = r_memory(n * d, sizeof(double)), *residual = r_memory(n, sizeof(double));
    own->v = scratch_take(pool, n * m + 1, sizeof(double));
    own->residual = scratch_take(pool, n + 1, sizeof(double));
    own->column = scratch_take(pool, n + 1, sizeof(int));
    if (!own->v || !own->residual || !own->column)
        return status_fail(STATUS_MEMORY);
    status outcome = order_space(d, n, points->x, order);
    for (size_t at = 0; at < n && !outcome.code; at++)
        memcpy(x + at * d, points->x + (size_t)order[at] * d, d * sizeof(double));
    if (!outcome.code)
        outcome = inducing_features(&sc->kern, d, m, z, L, n, x, threads, mon, own->v, residual);
    for (size_t at = 0; at < n && !outcome.code; at++) {
        own->column[order[at]] = (int)at;
        own->residual[order[at]] = residual[at];
    }
    return outcome;
}

/* What all routines ask for but the candidates, in units in which squares of variances neither over- nor underflow;
 * `points` and `from` must outlive the task. Points without features are for selected_sets alone. */
static select_task unpack_task(scaling *sc, SEXP gp, SEXP noise, SEXP pools, SEXP k, SEXP queries, SEXP fresh,
                               metric_points *points, metric_points *from, SEXP threads)
{
    SEXP x = r_element(gp, "x");
    *sc = r_scaling_in_units(x, r_element(gp, "kernel"));
    double inverse = 1.0 / sc->unit / sc->unit;
    int bare = r_element(gp, "V") == R_NilValue;
    if (bare)
        *points =
            (metric_points){.n = nrows(x), .d = sc->d, .m = nrows(r_element(gp, "inducing")), .x = r_scaled(sc, x)};
    else
        *points = r_points(sc, gp, 0.0);
    *from = fresh == R_NilValue ? *points : r_points(sc, fresh, 0.0);
    SEXP own = fresh == R_NilValue ? gp : fresh;
    select_task task = {
        .kern = &sc->kern,
        .points = points,
        .residual = bare ? NULL : r_in_units(r_element(gp, "variance"), "variance", points->n, inverse),
        .noise = r_in_units(noise, "noise", points->n, inverse),
        .from = from,
        .own = bare ? NULL : r_in_units(r_element(own, "variance"), "variance", from->n, inverse),
        .count = queries == R_NilValue ? from->n : (size_t)XLENGTH(queries),
        .rows = r_rows(queries, from->n),
        .self = fresh == R_NilValue,
        .k = asInteger(k),
        .threads = r_threads(threads),
    };
    if (task.k < 1)
        error("internal: k must be 1 or more");
    task.width = pools_width(pools, task.count);
    return task;
}

/* Of a whole process, with the candidates. */
static select_task unpack_whole(scaling *sc, SEXP gp, SEXP noise, SEXP pools, SEXP k, SEXP queries, SEXP fresh,
                                metric_points *points, metric_points *from, SEXP threads)
{
    if (r_element(gp, "V") == R_NilValue)
        error("internal: a process without features");
    select_task task = unpack_task(sc, gp, noise, pools, k, queries, fresh, points, from, threads);
    int *pool = r_memory(task.count * task.width, sizeof(int));
    unpack_pools(pools, task.count, task.width, task.threads, pool);
    task.pool = pool;
    return task;
}

SEXP conditioning_sets(SEXP gp, SEXP noise, SEXP pools, SEXP k, SEXP queries, SEXP fresh, SEXP predecessors,
                       SEXP threads, SEXP progress)
{
    static const char *names[] = {"id", "dist", "variance"};
    scaling sc;
    metric_points points, from;
    select_task task = unpack_whole(&sc, gp, noise, pools, k, queries, fresh, &points, &from, threads);
    progress_line line;
    monitor mon = r_monitor(&line, asLogical(progress) == TRUE);
    task.mon = &mon;
    task.predecessors = asLogical(predecessors) == TRUE;
    SEXP out = PROTECT(r_list(3, names));
    SET_VECTOR_ELT(out, 0, allocMatrix(INTSXP, (int)task.count, task.k));
    SET_VECTOR_ELT(out, 1, allocMatrix(REALSXP, (int)task.count, task.k));
    SET_VECTOR_ELT(out, 2, allocVector(REALSXP, task.count));
    size_t size = task.count * task.k;
    int *id = r_memory(size, sizeof(int));
    double *dist = r_memory(size, sizeof(double));
    select_result result = {.id = id, .dist = dist, .variance = REAL(VECTOR_ELT(out, 2))};
    r_raise(select_run(&task, &result));
    r_scale(result.variance, task.count, sc.unit);
    r_scale(result.variance, task.count, sc.unit);
    pack_sets(task.count, task.k, id, dist, task.threads, INTEGER(VECTOR_ELT(out, 0)), REAL(VECTOR_ELT(out, 1)));
    UNPROTECT(1);
    return out;
}

/* The sets alone of points among predecessors, a table for each vector of noise in the list `noises`. Features that the
 * process does not have are made in the memory. */
SEXP selected_sets(SEXP gp, SEXP noises, SEXP pools, SEXP k, SEXP queries, SEXP memory, SEXP threads)
{
    scaling sc;
    metric_points points, from;
    select_task task =
        unpack_task(&sc, gp, VECTOR_ELT(noises, 0), pools, k, queries, R_NilValue, &points, &from, threads);
    R_xlen_t n = points.n, count = XLENGTH(noises), size = (R_xlen_t)task.count * task.k;
    double *noise = r_memory(count * n, sizeof(double));
    SEXP out = PROTECT(allocVector(VECSXP, count));
    for (R_xlen_t s = 0; s < count; s++) {
        SET_VECTOR_ELT(out, s, allocMatrix(INTSXP, (int)task.count, task.k));
        scratch_advise(INTEGER(VECTOR_ELT(out, s)), size * sizeof(int));
    }
    for (R_xlen_t s = 0; s < count; s++)
        memcpy(noise + s * n, r_in_units(VECTOR_ELT(noises, s), "noise", n, 1.0 / sc.unit / sc.unit),
               n * sizeof(double));
    task.noise = noise;
    task.more_noises = (int)count - 1;
    task.predecessors = 1;
    task.mon = r_interrupts();
    placed_features features = {NULL, NULL, NULL};
    scratch_pool *pool = memory == R_NilValue ? NULL : r_pointer(memory, "vif_memory");
    status outcome = status_ok();
    if (!task.residual) {
        outcome = place_features(&sc, gp, &points, pool, task.threads, task.mon, &features);
        points.v = from.v = features.v;
        task.residual = task.own = features.residual;
        task.column = features.column;
    }
    /* R may leave by an error above, but not below */
    int *candidates = NULL, *id = NULL;
    if (!outcome.code) {
        candidates = scratch_take(pool, task.count * task.width + 1, sizeof(int));
        id = scratch_take(pool, count * size + 1, sizeof(int));
        if (!candidates || !id)
            outcome = status_fail(STATUS_MEMORY);
    }
    if (!outcome.code) {
        unpack_pools(pools, task.count, task.width, task.threads, candidates);
        task.pool = candidates;
        select_result result = {.id = id};
        outcome = select_run(&task, &result);
    }
    for (R_xlen_t s = 0; s < count && !outcome.code; s++)
        pack_sets(task.count, task.k, id + s * size, NULL, task.threads, INTEGER(VECTOR_ELT(out, s)), NULL);
    give_features(pool, &features);
    scratch_give(pool, candidates);
    scratch_give(pool, id);
    r_raise(outcome);
    UNPROTECT(1);
    return out;
}

SEXP vif_prediction(SEXP gp, SEXP noise, SEXP pools, SEXP k, SEXP queries, SEXP fresh, SEXP centred, SEXP b, SEXP root,
                    SEXP sets, SEXP threads)
{
    static const char *names[] = {"fit", "variance", "id", "coef"};
    scaling sc;
    metric_points points, from;
    select_task task = unpack_whole(&sc, gp, noise, pools, k, queries, fresh, &points, &from, threads);
    task.mon = r_interrupts();
    task.self = 0; /* the noise-free value at an observation has that observation as a candidate */
    R_xlen_t m = points.m;
    predict_state state = {r_doubles(centred, "centred", points.n), r_in_units(b, "b", m, sc.unit), NULL};
    double *variance = NULL, *coef = NULL;
    int *id = NULL;
    SEXP out = PROTECT(r_list(4, names));
    SET_VECTOR_ELT(out, 0, allocVector(REALSXP, task.count));
    if (root != R_NilValue) {
        state.root = r_doubles(root, "root", m * m);
        SET_VECTOR_ELT(out, 1, allocVector(REALSXP, task.count));
        variance = REAL(VECTOR_ELT(out, 1));
    }
    if (asLogical(sets) == TRUE) {
        SET_VECTOR_ELT(out, 2, allocMatrix(INTSXP, (int)task.count, task.k));
        SET_VECTOR_ELT(out, 3, allocMatrix(REALSXP, task.k, (int)task.count));
        id = r_memory(task.count * task.k, sizeof(int));
        coef = REAL(VECTOR_ELT(out, 3));
    }
    r_raise(predict_run(&task, &state, REAL(VECTOR_ELT(out, 0)), variance, id, coef));
    if (id)
        pack_sets(task.count, task.k, id, NULL, task.threads, INTEGER(VECTOR_ELT(out, 2)), NULL);
    if (variance) {
        r_scale(variance, task.count, sc.unit);
        r_scale(variance, task.count, sc.unit);
    }
    UNPROTECT(1);
    return out;
}

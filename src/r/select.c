#include "r/entry.h"

#include "r/glue.h"
#include "vif/predict.h"

#include <R.h>
#include <limits.h>
#include <string.h>

/* Neighbour tables, one row a query and 1-based, side by side in one table of candidates, row by row and 0-based. */
static int *unpack_pools(SEXP pools, size_t count, int *width)
{
    *width = 0;
    for (R_xlen_t p = 0; p < XLENGTH(pools); p++) {
        SEXP table = VECTOR_ELT(pools, p);
        if (!isInteger(table) || (size_t)nrows(table) != count)
            error("internal: pools must be integer matrices of %lld rows", (long long)count);
        *width += ncols(table);
    }
    int *out = (int *)R_alloc(count * *width + 1, sizeof(int)), *to = out;
    for (R_xlen_t p = 0; p < XLENGTH(pools); p++) {
        const int *from = INTEGER(VECTOR_ELT(pools, p));
        int columns = ncols(VECTOR_ELT(pools, p));
        for (size_t first = 0; first < count; first += 64)
            for (int j = 0; j < columns; j++)
                for (size_t q = first; q < count && q < first + 64; q++) {
                    int id = from[q + j * count];
                    to[q * *width + j] = id == NA_INTEGER ? -1 : id - 1;
                }
        to += columns;
    }
    return out;
}

/* What both routines ask for, in units in which squares of variances neither over- nor underflow; `points` and `from`
 * must outlive the task. */
static select_task unpack_task(scaling *sc, SEXP gp, SEXP noise, SEXP pools, SEXP k, SEXP queries, SEXP fresh,
                               metric_points *points, metric_points *from, SEXP threads)
{
    *sc = r_scaling_in_units(r_element(gp, "x"), r_element(gp, "kernel"));
    double inverse = 1.0 / sc->unit / sc->unit;
    *from = *points = r_points(sc, gp, 0.0);
    SEXP own = fresh == R_NilValue ? gp : fresh;
    if (fresh != R_NilValue)
        *from = r_points(sc, fresh, 0.0);
    select_task task = {
        .kern = &sc->kern,
        .points = points,
        .residual = r_in_units(r_element(gp, "variance"), "variance", points->n, inverse),
        .noise = r_in_units(noise, "noise", points->n, inverse),
        .from = from,
        .own = r_in_units(r_element(own, "variance"), "variance", from->n, inverse),
        .count = queries == R_NilValue ? from->n : (size_t)XLENGTH(queries),
        .rows = r_rows(queries, from->n),
        .self = fresh == R_NilValue,
        .k = asInteger(k),
        .threads = r_threads(threads),
    };
    if (task.k < 1)
        error("internal: k must be 1 or more");
    task.pool = unpack_pools(pools, task.count, &task.width);
    return task;
}

SEXP conditioning_sets(SEXP gp, SEXP noise, SEXP pools, SEXP k, SEXP queries, SEXP fresh, SEXP predecessors,
                       SEXP threads, SEXP progress)
{
    static const char *names[] = {"id", "dist", "variance"};
    scaling sc;
    metric_points points, from;
    select_task task = unpack_task(&sc, gp, noise, pools, k, queries, fresh, &points, &from, threads);
    progress_line line;
    monitor mon = r_monitor(&line, asLogical(progress) == TRUE);
    task.mon = &mon;
    task.predecessors = asLogical(predecessors) == TRUE;
    SEXP out = PROTECT(r_list(3, names));
    SET_VECTOR_ELT(out, 0, allocMatrix(INTSXP, (int)task.count, task.k));
    SET_VECTOR_ELT(out, 1, allocMatrix(REALSXP, (int)task.count, task.k));
    SET_VECTOR_ELT(out, 2, allocVector(REALSXP, task.count));
    int *id = INTEGER(VECTOR_ELT(out, 0));
    double *dist = REAL(VECTOR_ELT(out, 1));
    select_result result = {.id = id, .dist = dist, .variance = REAL(VECTOR_ELT(out, 2))};
    r_raise(select_run(&task, &result));
    r_scale(result.variance, task.count, sc.unit);
    r_scale(result.variance, task.count, sc.unit);
    for (size_t at = 0; at < task.count * task.k; at++)
        if (id[at] == 0) {
            id[at] = NA_INTEGER;
            dist[at] = NA_REAL;
        }
    UNPROTECT(1);
    return out;
}

/* The sets alone of points among predecessors, a table for each vector of noise in the list `noises`. */
SEXP selected_sets(SEXP gp, SEXP noises, SEXP pools, SEXP k, SEXP queries, SEXP threads)
{
    scaling sc;
    metric_points points, from;
    select_task task =
        unpack_task(&sc, gp, VECTOR_ELT(noises, 0), pools, k, queries, R_NilValue, &points, &from, threads);
    R_xlen_t n = points.n, count = XLENGTH(noises), size = (R_xlen_t)task.count * task.k;
    double *noise = (double *)R_alloc(count * n + 1, sizeof(double));
    int *id = (int *)R_alloc(count * size + 1, sizeof(int));
    for (R_xlen_t s = 0; s < count; s++)
        memcpy(noise + s * n, r_in_units(VECTOR_ELT(noises, s), "noise", n, 1.0 / sc.unit / sc.unit),
               n * sizeof(double));
    task.noise = noise;
    task.more_noises = (int)count - 1;
    task.predecessors = 1;
    task.mon = r_interrupts();
    select_result result = {.id = id};
    r_raise(select_run(&task, &result));
    SEXP out = PROTECT(allocVector(VECSXP, count));
    for (R_xlen_t s = 0; s < count; s++, id += size) {
        SET_VECTOR_ELT(out, s, allocMatrix(INTSXP, (int)task.count, task.k));
        int *to = INTEGER(VECTOR_ELT(out, s));
        for (R_xlen_t at = 0; at < size; at++)
            to[at] = id[at] ? id[at] : NA_INTEGER;
    }
    UNPROTECT(1);
    return out;
}

SEXP vif_prediction(SEXP gp, SEXP noise, SEXP pools, SEXP k, SEXP queries, SEXP fresh, SEXP centred, SEXP b, SEXP root,
                    SEXP sets, SEXP threads)
{
    static const char *names[] = {"fit", "variance", "id", "coef"};
    scaling sc;
    metric_points points, from;
    select_task task = unpack_task(&sc, gp, noise, pools, k, queries, fresh, &points, &from, threads);
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
        id = INTEGER(VECTOR_ELT(out, 2));
        coef = REAL(VECTOR_ELT(out, 3));
    }
    r_raise(predict_run(&task, &state, REAL(VECTOR_ELT(out, 0)), variance, id, coef));
    if (variance) {
        r_scale(variance, task.count, sc.unit);
        r_scale(variance, task.count, sc.unit);
    }
    UNPROTECT(1);
    return out;
}

#include "r/entry.h"

#include "r/glue.h"
#include "select/select.h"

#include <R.h>
#include <limits.h>

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

SEXP conditioning_sets(SEXP gp, SEXP noise, SEXP pools, SEXP k, SEXP queries, SEXP fresh,
                       SEXP predecessors, SEXP threads, SEXP progress)
{
    static const char *names[] = {"id", "dist", "variance"};
    frame fr = r_frame(r_element(gp, "x"), r_element(gp, "kernel"));
    metric_points points = r_points(&fr, gp, 0.0), from = points;
    SEXP own = fresh == R_NilValue ? gp : fresh;
    if (fresh != R_NilValue)
        from = r_points(&fr, fresh, 0.0);
    progress_line line;
    monitor mon = r_monitor(&line, asLogical(progress) == TRUE);
    select_task task = {
        .kern = &fr.kern,
        .points = &points,
        .residual = r_doubles(r_element(gp, "variance"), "variance", points.n),
        .noise = r_doubles(noise, "noise", points.n),
        .from = &from,
        .own = r_doubles(r_element(own, "variance"), "variance", from.n),
        .count = queries == R_NilValue ? from.n : (size_t)XLENGTH(queries),
        .rows = r_rows(queries, from.n),
        .self = fresh == R_NilValue,
        .predecessors = asLogical(predecessors) == TRUE,
        .k = asInteger(k),
        .threads = r_threads(threads),
        .mon = &mon,
    };
    task.pool = unpack_pools(pools, task.count, &task.width);
    SEXP out = PROTECT(r_list(3, names));
    SET_VECTOR_ELT(out, 0, allocMatrix(INTSXP, (int)task.count, task.k));
    SET_VECTOR_ELT(out, 1, allocMatrix(REALSXP, (int)task.count, task.k));
    SET_VECTOR_ELT(out, 2, allocVector(REALSXP, task.count));
    int *id = INTEGER(VECTOR_ELT(out, 0));
    double *dist = REAL(VECTOR_ELT(out, 1));
    select_result result = {.id = id, .dist = dist, .variance = REAL(VECTOR_ELT(out, 2))};
    r_raise(select_run(&task, &result));
    for (size_t at = 0; at < task.count * task.k; at++)
        if (id[at] == 0) {
            id[at] = NA_INTEGER;
            dist[at] = NA_REAL;
        }
    UNPROTECT(1);
    return out;
}

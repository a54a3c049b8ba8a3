#include "r/entry.h"

#include "base/scratch.h"
#include "form/laws.h"
#include "r/glue.h"
#include "r/problem.h"
#include "search/answers.h"
#include "search/distinct.h"

#include <R.h>
#include <math.h>

static SEXP pack_counters(const query_counters *counters)
{
    static const char *names[] = {"nodes", "bounds", "pruned", "screened", "correlations"};
    SEXP stats = PROTECT(allocVector(REALSXP, 5)), labels = PROTECT(allocVector(STRSXP, 5));
    const double values[] = {counters->nodes, counters->bounds, counters->pruned, counters->screened,
                             counters->correlations};
    for (int c = 0; c < 5; c++) {
        REAL(stats)[c] = values[c];
        SET_STRING_ELT(labels, c, mkChar(names[c]));
    }
    setAttrib(stats, R_NamesSymbol, labels);
    UNPROTECT(2);
    return stats;
}

/* Buffers asked for and buffers held; the `nth` request from now on fails, unless it is NULL. */
SEXP scratch_buffers(SEXP nth)
{
    if (nth != R_NilValue)
        scratch_fail((size_t)asReal(nth));
    SEXP out = allocVector(REALSXP, 2);
    REAL(out)[0] = (double)scratch_count();
    REAL(out)[1] = (double)scratch_live();
    return out;
}

/* Where there are fewer than k the last are missing: ids of 0, and all columns from `found` on. `dist` may be NULL. */
static void fill_missing(size_t count, int found, int k, int *id, double *dist)
{
    for (size_t at = count * found; at < count * k; at++) {
        id[at] = NA_INTEGER;
        if (dist)
            dist[at] = NA_REAL;
    }
    for (size_t q = 0; q < count; q++)
        for (size_t j = found; j-- > 0 && id[q + j * count] == 0;) {
            id[q + j * count] = NA_INTEGER;
            if (dist)
                dist[q + j * count] = NA_REAL;
        }
}

SEXP residual_knn(SEXP gp, SEXP tree_list, SEXP k, SEXP queries, SEXP fresh, SEXP predecessors, SEXP method,
                  SEXP budget, SEXP distances, SEXP threads, SEXP progress)
{
    static const char *names[] = {"id", "dist", "stats", "method", "note"};
    search_problem problem;
    const char *name = CHAR(asChar(method));
    r_problem(gp, tree_list, &problem);
    metric_points from = problem.points;
    if (fresh != R_NilValue)
        from = r_points(&problem.sc, fresh, asReal(r_element(gp, "nugget")));
    int wanted = asInteger(k), self = fresh == R_NilValue;
    if (wanted < 1)
        error("internal: k must be 1 or more");
    size_t most = problem.points.n - (self && problem.points.n > 1); /* what a query can have */
    progress_line line;
    monitor mon = r_monitor(&line, asLogical(progress) == TRUE);
    query_task task = {
        .kern = &problem.sc.kern,
        .points = &problem.points,
        .from = fresh != R_NilValue ? &from : &problem.points,
        .count = queries == R_NilValue ? from.n : (size_t)XLENGTH(queries),
        .rows = r_rows(queries, from.n),
        .self = self,
        .predecessors = asLogical(predecessors) == TRUE,
        .k = (size_t)wanted < most ? wanted : (int)most,
        .threads = r_threads(threads),
        .budget = asReal(budget),
        .source = &problem.source,
        .stored = problem.stored,
        .mon = &mon,
    };
    SEXP out = PROTECT(r_list(5, names));
    SET_VECTOR_ELT(out, 0, allocMatrix(INTSXP, (int)task.count, wanted));
    int *id = INTEGER(VECTOR_ELT(out, 0));
    double *dist = NULL;
    scratch_advise(id, task.count * task.k * sizeof(int));
    if (asLogical(distances) == TRUE) {
        SET_VECTOR_ELT(out, 1, allocMatrix(REALSXP, (int)task.count, wanted));
        dist = REAL(VECTOR_ELT(out, 1));
        scratch_advise(dist, task.count * task.k * sizeof(double));
    }
    answers given;
    query_result result = {.given = &given, .note = ""};
    status outcome = answers_new(task.count, task.k, id, dist, &given);
    if (!outcome.code)
        outcome = distinct_run(name, &task, &result);
    if (!outcome.code)
        answers_settle(&given, task.threads);
    answers_free(&given);
    if (outcome.code)
        r_raise(outcome);
    fill_missing(task.count, task.k, wanted, id, dist);
    SET_VECTOR_ELT(out, 2, pack_counters(&result.counters));
    SET_VECTOR_ELT(out, 3, mkString(result.method));
    SET_VECTOR_ELT(out, 4, mkString(result.note));
    UNPROTECT(1);
    return out;
}

/* The laws of the form that a tree's index is in (form/laws.h), on a search of all points or of new ones: what was
 * checked and what was wrong. For tests. */
SEXP form_laws(SEXP tree_list, SEXP k, SEXP fresh, SEXP predecessors, SEXP one_by_one)
{
    static const char *names[] = {"cleared",         "intervals",    "silent", "wrong cleared",
                                  "wrong intervals", "wrong silent", "pairs"};
    search_problem problem;
    index_search index;
    laws_count count = {0};
    SEXP gp = r_element(tree_list, "gp"), out = PROTECT(allocVector(REALSXP, 7)),
         labels = PROTECT(allocVector(STRSXP, 7));
    r_problem(gp, tree_list, &problem);
    metric_points from = problem.points;
    if (fresh != R_NilValue)
        from = r_points(&problem.sc, fresh, asReal(r_element(gp, "nugget")));
    query_result result = {.note = ""};
    query_task task = {.kern = &problem.sc.kern,
                       .points = &problem.points,
                       .from = fresh != R_NilValue ? &from : &problem.points,
                       .count = from.n,
                       .self = fresh == R_NilValue,
                       .predecessors = asLogical(predecessors) == TRUE,
                       .k = asInteger(k),
                       .threads = 1,
                       .budget = INFINITY,
                       .source = &problem.source,
                       .index = &index,
                       .mon = r_interrupts()};
    r_raise(index_open(&problem.source, &problem.points, problem.stored, &index));
    if (!index.form)
        error("the tree keeps no index that searches read");
    const screening_form *form = index.form;
    status outcome = status_ok();
    if (fresh != R_NilValue)
        outcome = index_add_queries(&problem.source, &from, 1, task.mon, &index);
    index.form = laws_of(form, problem.points.n, &count);
    if (!index.form)
        outcome = status_fail(STATUS_MEMORY);
    if (!outcome.code)
        outcome = (asLogical(one_by_one) == TRUE ? query_best : query_level)(&task, &result);
    laws_end();
    index.form = form;
    index_free(&index);
    if (outcome.code)
        r_raise(outcome);
    const double values[] = {count.cleared,         count.intervals,    count.silent, count.wrong_cleared,
                             count.wrong_intervals, count.wrong_silent, count.pairs};
    for (int c = 0; c < 7; c++) {
        REAL(out)[c] = values[c];
        SET_STRING_ELT(labels, c, mkChar(names[c]));
    }
    setAttrib(out, R_NamesSymbol, labels);
    UNPROTECT(2);
    return out;
}

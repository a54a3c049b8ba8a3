#include "r/entry.h"

#include "r/glue.h"
#include "vif/steps.h"

#include <R.h>
#include <string.h>

/* An evaluation that waits for the next step. R's vectors that it reads are held by its external pointer. */
typedef struct {
    kernel kern;
    vif_points points;
    likelihood_shard shard;
    likelihood *open;
} waiting;

SEXP points_centre(SEXP x, SEXP kern)
{
    scaling sc = r_scaling(x, kern);
    SEXP out = PROTECT(allocVector(REALSXP, sc.d));
    memcpy(REAL(out), sc.centre, sc.d * sizeof(double));
    UNPROTECT(1);
    return out;
}

static void close_pointer(SEXP pointer)
{
    waiting *held = R_ExternalPtrAddr(pointer);
    if (!held)
        return;
    R_ClearExternalPtr(pointer);
    likelihood_close(held->open);
    R_Free(held);
}

SEXP shard_close(SEXP pointer)
{
    r_pointer(pointer, "shard");
    close_pointer(pointer);
    R_SetExternalPtrProtected(pointer, R_NilValue);
    return R_NilValue;
}

static waiting *r_waiting(SEXP pointer)
{
    waiting *held = r_pointer(pointer, "shard");
    if (!held || !held->open)
        error("internal: no evaluation is open");
    return held;
}

/* A copy that R holds as an element of a list. */
static const double *hold(SEXP list, int at, const double *values, size_t count)
{
    return memcpy(r_new_values(list, at, (R_xlen_t)count, -1), values, count * sizeof(double));
}

static SEXP take_sums(waiting *held, int step, const double *known)
{
    likelihood_sizes sizes = likelihood_size(held->open);
    SEXP sums = PROTECT(allocVector(REALSXP, likelihood_sum_count(&sizes, step)));
    r_raise_vif(likelihood_step(held->open, step, known, REAL(sums)), 0);
    UNPROTECT(1);
    return sums;
}

/* The sizes as R has them, and back. */
static SEXP write_sizes(const likelihood_sizes *from)
{
    const double values[] = {
        (double)from->n,  from->m,      from->q,      from->d,           from->axes, from->smoothness,
        from->directions, from->nugget, from->probes, from->information, 0};
    SEXP out = PROTECT(allocVector(REALSXP, 10));
    memcpy(REAL(out), values, 10 * sizeof(double));
    UNPROTECT(1);
    return out;
}

static likelihood_sizes read_sizes(SEXP from)
{
    const double *v = r_doubles(from, "sizes", 10);
    return (likelihood_sizes){.n = (size_t)v[0],
                              .m = (int)v[1],
                              .q = (int)v[2],
                              .d = (int)v[3],
                              .axes = (int)v[4],
                              .smoothness = (int)v[5],
                              .directions = (int)v[6],
                              .nugget = (int)v[7],
                              .probes = (int)v[8],
                              .information = (int)v[9]};
}

SEXP shard_open(SEXP gp, SEXP noise, SEXP nugget, SEXP id, SEXP values, SEXP shard, SEXP wanted, SEXP axes, SEXP memory,
                SEXP threads)
{
    static const char *names[] = {"pointer", "sums", "sizes"};
    static const char *parts[] = {"x", "variance", "z",     "D",      "coef",   "error", "residual",
                                  "b", "gp",       "noise", "nugget", "values", "shard", "memory"};
    scaling sc = r_scaling(r_element(gp, "x"), r_element(gp, "kernel"));
    vif_points points = r_vif_points(&sc, gp, noise);
    size_t n = points.n, m = nrows(r_element(gp, "V")), k = ncols(id), q = nrows(values);
    SEXP keep = PROTECT(r_list(14, parts)), own = r_element(shard, "own"), number = r_element(shard, "number"),
         all[] = {gp, noise, nugget, values, shard, memory};
    for (int e = 0; e < 6; e++)
        SET_VECTOR_ELT(keep, 8 + e, all[e]);
    if (TYPEOF(own) != RAWSXP || (size_t)XLENGTH(own) != n || !isInteger(number) || (size_t)XLENGTH(number) != n)
        error("internal: own and number must have one element for each of %lld points", (long long)n);
    points.x = hold(keep, 0, points.x, n * sc.d);
    points.variance = hold(keep, 1, points.variance, n);
    likelihood_result result = {
        .D = r_new_values(keep, 3, n, -1),
        .coef = r_new_values(keep, 4, k, n),
        .error = r_new_values(keep, 5, n, -1),
        .residual = r_new_values(keep, 6, n, -1),
        .b = r_new_values(keep, 7, m, -1),
    };
    int derivatives = asInteger(wanted); /* 0 value, 1 gradient, 2 information */
    const double *z = NULL;
    if (derivatives)
        z = hold(keep, 2, r_scaled(&sc, r_element(gp, "inducing")), m * sc.d);
    SEXP out = PROTECT(r_list(3, names));
    SEXP pointer = PROTECT(R_MakeExternalPtr(NULL, install("shard"), keep));
    SET_VECTOR_ELT(out, 0, pointer);
    R_RegisterCFinalizerEx(pointer, close_pointer, TRUE);
    waiting *held = R_Calloc(1, waiting);
    R_SetExternalPtrAddr(pointer, held);
    held->kern = sc.kern;
    held->points = points;
    held->shard = (likelihood_shard){RAW(own), INTEGER(number), asLogical(r_element(shard, "apart")) == TRUE};
    likelihood_task task = {
        .kern = &held->kern,
        .d = sc.d,
        .m = (int)m,
        .k = (int)k,
        .points = &held->points,
        .id = r_ids(id, n),
        .noise = r_doubles(noise, "noise", n),
        .nugget = r_doubles(nugget, "nugget", n),
        .q = (int)q,
        .values = r_doubles(values, "values", (R_xlen_t)(q * n)),
        .z = z,
        .gradient = derivatives > 0,
        .information = derivatives > 1 ? LIKELIHOOD_APPROXIMATE : 0,
        .axes = asLogical(axes) == TRUE,
        .smoothness = sc.kern.family == KERNEL_MATERN,
        .shard = &held->shard,
        .threads = r_threads(threads),
        .pool = memory == R_NilValue ? NULL : r_pointer(memory, "vif_memory"),
        .mon = r_interrupts(),
    };
    if (derivatives)
        task.L = r_doubles(r_element(gp, "chol"), "chol", (R_xlen_t)(m * m));
    r_raise_vif(likelihood_open(&task, &result, &held->open), SIZE_MAX);
    SET_VECTOR_ELT(out, 1, take_sums(held, 1, NULL));
    likelihood_sizes sizes = likelihood_size(held->open);
    SET_VECTOR_ELT(out, 2, write_sizes(&sizes));
    UNPROTECT(3);
    return out;
}

SEXP shard_step(SEXP pointer, SEXP step, SEXP known)
{
    waiting *held = r_waiting(pointer);
    likelihood_sizes sizes = likelihood_size(held->open);
    int which = asInteger(step);
    return take_sums(held, which, r_doubles(known, "known", (R_xlen_t)likelihood_known_count(&sizes, which)));
}

/* Rows of the points, regressions or returns, taken (rows is NULL) or put. */
SEXP shard_rows(SEXP pointer, SEXP what, SEXP points, SEXP rows)
{
    waiting *held = r_waiting(pointer);
    int returns = asInteger(what) == 1, put = rows != R_NilValue;
    size_t count = XLENGTH(points),
           width = returns ? likelihood_return_width(held->open) : likelihood_regression_width(held->open);
    const int *at = r_rows(points, held->points.n);
    SEXP out = PROTECT(put ? rows : allocMatrix(REALSXP, (int)width, (int)count));
    r_doubles(out, "rows", (R_xlen_t)(width * count));
    (returns ? likelihood_returns : likelihood_regressions)(held->open, put, count, at, REAL(out));
    UNPROTECT(1);
    return put ? R_NilValue : out;
}

/* What a step leaves of each point. */
SEXP shard_state(SEXP pointer)
{
    static const char *names[] = {"D", "coef", "error", "residual"};
    r_waiting(pointer);
    SEXP keep = R_ExternalPtrProtected(pointer), out = PROTECT(r_list(4, names));
    for (int e = 0; e < 4; e++)
        SET_VECTOR_ELT(out, e, r_element(keep, names[e]));
    UNPROTECT(1);
    return out;
}

SEXP shard_finish(SEXP sizes_vector, SEXP step, SEXP known, SEXP sums)
{
    static const char *names[] = {"loglik", "beta", "information", "root", "b", "B", "gradient", "fisher"};
    likelihood_sizes sizes = read_sizes(sizes_vector);
    int which = asInteger(step), m = sizes.m, p = sizes.q - 1;
    const double *found = r_doubles(sums, "sums", (R_xlen_t)likelihood_sum_count(&sizes, which));
    const double *told = r_doubles(known, "known", (R_xlen_t)likelihood_known_count(&sizes, which));
    if (which < 3) {
        SEXP next = PROTECT(allocVector(REALSXP, likelihood_known_count(&sizes, which + 1)));
        r_raise_vif(likelihood_finish(&sizes, which, told, found, REAL(next)), 0);
        UNPROTECT(1);
        return next;
    }
    int parameters = 2 + (sizes.axes ? sizes.d : 1) + sizes.smoothness;
    SEXP out = PROTECT(r_list(8, names));
    double *loglik = r_new_values(out, 0, 1, -1);
    likelihood_result result = {
        .beta = r_new_values(out, 1, p, -1),
        .information = r_new_values(out, 2, p, p),
        .root = r_new_values(out, 3, m, m),
        .b = r_new_values(out, 4, m, -1),
        .B = r_new_values(out, 5, m, p),
        .gradient = sizes.directions ? r_new_values(out, 6, parameters, -1) : NULL,
        .fisher = sizes.information ? r_new_values(out, 7, parameters, parameters) : NULL,
    };
    r_raise_vif(likelihood_finish_last(&sizes, told, found, &result), 0);
    *loglik = result.loglik;
    UNPROTECT(1);
    return out;
}

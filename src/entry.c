#include "entry.h"

#include "answers.h"
#include "inducing.h"
#include "metric.h"
#include "order.h"
#include "query.h"
#include "scratch.h"
#include "simd.h"
#include "threads.h"
#include "vif.h"

#include <R.h>
#include <R_ext/Utils.h>
#include <limits.h>
#include <math.h>
#include <string.h>

/* ---- unpacking ------------------------------------------------------------------------------ */

static SEXP element(SEXP list, const char *name)
{
    SEXP names = getAttrib(list, R_NamesSymbol);
    for (R_xlen_t i = 0; i < XLENGTH(list) && names != R_NilValue; i++)
        if (strcmp(CHAR(STRING_ELT(names, i)), name) == 0)
            return VECTOR_ELT(list, i);
    return R_NilValue;
}

static const double *doubles(SEXP object, const char *what, R_xlen_t length)
{
    if (!isReal(object) || (length >= 0 && XLENGTH(object) != length))
        error("internal: %s must be double of length %lld", what, (long long)length);
    return REAL(object);
}

static int thread_count(SEXP threads)
{
    int requested = asInteger(threads);
    return threads_resolve(requested == NA_INTEGER ? 0 : requested);
}

static kernel unpack_kernel(SEXP kern)
{
    static const char *families[] = {"matern12", "matern32", "matern52", "rbf", "matern"};
    const char *family = CHAR(asChar(element(kern, "family")));
    kernel out = {KERNEL_MATERN12, 0.0, asReal(element(kern, "variance"))};
    for (int f = 0; f < 5; f++)
        if (strcmp(family, families[f]) == 0) {
            out.family = (kernel_family)f;
            if (out.family == KERNEL_MATERN)
                out.smoothness = asReal(element(kern, "smoothness"));
            return out;
        }
    error("internal: unknown kernel family '%s'", family);
}

/* Everything that scaling needs: lengthscales spread over the columns, and the centre of gp$x. */
typedef struct {
    kernel kern;
    int d;
    const double *lengthscale, *centre;
} frame;

static double *spread(const double *value, R_xlen_t length, int d)
{
    double *out = (double *)R_alloc(d, sizeof(double));
    for (int u = 0; u < d; u++)
        out[u] = value[length == 1 ? 0 : u];
    return out;
}

static frame unpack_frame(SEXP x, SEXP kern)
{
    int d = ncols(x);
    size_t n = nrows(x);
    SEXP lengthscale = element(kern, "lengthscale");
    if (!isReal(x) || !isReal(lengthscale) ||
        (XLENGTH(lengthscale) != 1 && length(lengthscale) != d))
        error("internal: x and lengthscale do not fit");
    double *centre = (double *)R_alloc(d, sizeof(double));
    for (int u = 0; u < d; u++) {
        const double *column = REAL(x) + u * n;
        double lane[8] = {0.0}, sum = 0.0; /* an addition need not wait for the one before */
        size_t i = 0;
        for (; i + 8 <= n; i += 8)
#pragma GCC unroll 8
            for (int l = 0; l < 8; l++)
                lane[l] += column[i + l];
        for (; i < n; i++)
            sum += column[i];
        for (int l = 0; l < 8; l++)
            sum += lane[l];
        centre[u] = sum / (double)n;
    }
    return (frame){unpack_kernel(kern), d, spread(REAL(lengthscale), XLENGTH(lengthscale), d),
                   centre};
}

/* Scaled points (d x n) of a matrix, in memory that R frees. */
static double *scaled(const frame *fr, SEXP x)
{
    size_t n = nrows(x);
    if (!isReal(x) || ncols(x) != fr->d)
        error("internal: points must be a double matrix of %d columns", fr->d);
    double *out = (double *)R_alloc(n * fr->d + 1, sizeof(double));
    kernel_scale(&fr->kern, REAL(x), n, fr->d, fr->lengthscale, fr->centre, out);
    return out;
}

/* The points of a residual_gp, or of list(x, V, variance) for new ones. */
static metric_points unpack_points(const frame *fr, SEXP holder, double nugget)
{
    SEXP x = element(holder, "x"), V = element(holder, "V");
    metric_points out = {.n = nrows(x), .d = fr->d, .m = nrows(V)};
    out.x = scaled(fr, x);
    out.v = doubles(V, "V", (R_xlen_t)out.n * out.m);
    double *variance = (double *)R_alloc(2 * out.n + 1, sizeof(double));
    metric_variances(&fr->kern, out.n, doubles(element(holder, "variance"), "variance", out.n),
                     nugget, variance, variance + out.n);
    out.variance = variance;
    out.scale = variance + out.n;
    return out;
}

/* 1-based rows from R to 0-based ones; NULL stays NULL and means all. */
static const int *unpack_rows(SEXP rows, size_t n)
{
    if (rows == R_NilValue)
        return NULL;
    if (!isInteger(rows))
        error("internal: rows must be integer");
    const int *from = INTEGER(rows);
    int *out = (int *)R_alloc(XLENGTH(rows) + 1, sizeof(int));
    for (R_xlen_t i = 0; i < XLENGTH(rows); i++) {
        out[i] = from[i] - 1;
        if (out[i] < 0 || (size_t)out[i] >= n)
            error("internal: row out of range");
    }
    return out;
}

/* ---- statuses and the monitor --------------------------------------------------------------- */

static SEXP named_list(int count, const char **names)
{
    SEXP list = PROTECT(allocVector(VECSXP, count));
    SEXP labels = PROTECT(allocVector(STRSXP, count));
    for (int i = 0; i < count; i++)
        SET_STRING_ELT(labels, i, mkChar(names[i]));
    setAttrib(list, R_NamesSymbol, labels);
    UNPROTECT(2);
    return list;
}

static SEXP interrupt_condition(void)
{
    static const char *names[] = {"message", "call"};
    SEXP condition = PROTECT(named_list(2, names)), class = PROTECT(allocVector(STRSXP, 2));
    SET_VECTOR_ELT(condition, 0, mkString("interrupted"));
    SET_STRING_ELT(class, 0, mkChar("interrupt"));
    SET_STRING_ELT(class, 1, mkChar("condition"));
    setAttrib(condition, R_ClassSymbol, class);
    UNPROTECT(2);
    return condition;
}

static void raise(status outcome)
{
    switch (outcome.code) {
    case STATUS_OK:
        return;
    case STATUS_MEMORY:
        error("not enough memory");
    case STATUS_INTERRUPTED: /* R_ToplevelExec took the interrupt: signal it again, as an interrupt */
        eval(PROTECT(lang2(install("signalCondition"), interrupt_condition())), R_BaseEnv);
        eval(PROTECT(lang2(install("invokeRestart"), mkString("abort"))), R_BaseEnv);
        error("interrupted");
    case STATUS_NOT_POSITIVE_DEFINITE:
        error("the Cholesky factorisation of k(inducing, inducing) fails at pivot %lld: inducing "
              "inputs are too close for this kernel; use a larger `jitter`, or fewer or different "
              "inducing inputs",
              (long long)outcome.where + 1);
    }
}

static void check_interrupt(void *unused)
{
    (void)unused;
    R_CheckUserInterrupt();
}

typedef struct {
    int show, shown;
} progress_line;

/* R_ToplevelExec keeps the jump of an interrupt inside, so that the core can free its memory. */
static int poll_r(void *context, double fraction)
{
    progress_line *line = context;
    int percent = (int)(100.0 * fraction);
    if (line->show && percent > line->shown) {
        line->shown = percent;
        Rprintf("\rsearching %3d %%%s", percent, percent >= 100 ? "\r                \r" : "");
        R_FlushConsole();
    }
    return !R_ToplevelExec(check_interrupt, NULL);
}

/* ---- routines ------------------------------------------------------------------------------- */

SEXP threads_info(SEXP threads)
{
    static const char *names[] = {"threads", "openmp", "simd"};
    SEXP out = PROTECT(named_list(3, names));
    SET_VECTOR_ELT(out, 0, ScalarInteger(thread_count(threads)));
    SET_VECTOR_ELT(out, 1, ScalarLogical(threads_openmp()));
    SET_VECTOR_ELT(out, 2, mkString(simd->name));
    UNPROTECT(1);
    return out;
}

/* Points (d x n) in units of the lengthscales, for what does not depend on the kernel. */
static double *lengthscale_scaled(const kernel *unit, SEXP x, SEXP lengthscale, int *d)
{
    size_t n = nrows(x);
    *d = ncols(x);
    double *centre = (double *)R_alloc(*d, sizeof(double));
    memset(centre, 0, *d * sizeof(double));
    const double *scale = spread(doubles(lengthscale, "lengthscale", -1), XLENGTH(lengthscale), *d);
    double *points = (double *)R_alloc(n * *d + 1, sizeof(double));
    kernel_scale(unit, doubles(x, "x", (R_xlen_t)n * *d), n, *d, scale, centre, points);
    return points;
}

SEXP select_inducing(SEXP x, SEXP lengthscale, SEXP m, SEXP selection, SEXP uniforms, SEXP threads)
{
    /* lengthscale-scaled space: the constant of the family does not matter, so any kernel will do */
    static const int lloyd_steps = 10;
    size_t n = nrows(x);
    int d = ncols(x), count = asInteger(m);
    kernel unit = {KERNEL_MATERN12, 0.0, 1.0};
    const double *scale = spread(doubles(lengthscale, "lengthscale", -1), XLENGTH(lengthscale), d);
    double *points = lengthscale_scaled(&unit, x, lengthscale, &d);
    if (strcmp(CHAR(asChar(selection)), "maxmin") == 0) {
        SEXP ids = PROTECT(allocVector(INTSXP, count));
        raise(inducing_maxmin(d, n, points, count, thread_count(threads), INTEGER(ids)));
        for (int c = 0; c < count; c++)
            INTEGER(ids)[c]++;
        UNPROTECT(1);
        return ids;
    }
    double *centres = (double *)R_alloc((size_t)count * d + 1, sizeof(double));
    raise(inducing_kmeans(d, n, points, count, doubles(uniforms, "uniforms", -1), lloyd_steps,
                          thread_count(threads), centres));
    SEXP out = PROTECT(allocMatrix(REALSXP, count, d));
    for (int c = 0; c < count; c++)
        for (int u = 0; u < d; u++)
            REAL(out)[c + (size_t)u * count] = centres[(size_t)c * d + u] * scale[u];
    UNPROTECT(1);
    return out;
}

SEXP residual_gp(SEXP x, SEXP kern, SEXP inducing, SEXP jitter, SEXP threads)
{
    static const char *names[] = {"chol", "V", "variance"};
    frame fr = unpack_frame(x, kern);
    int m = nrows(inducing), n = nrows(x);
    SEXP out = PROTECT(named_list(3, names));
    SET_VECTOR_ELT(out, 0, allocMatrix(REALSXP, m, m));
    SET_VECTOR_ELT(out, 1, allocMatrix(REALSXP, m, n));
    SET_VECTOR_ELT(out, 2, allocVector(REALSXP, n));
    scratch_advise(REAL(VECTOR_ELT(out, 1)), (size_t)m * n * sizeof(double));
    double *z = scaled(&fr, inducing), *L = REAL(VECTOR_ELT(out, 0));
    raise(inducing_factor(&fr.kern, fr.d, m, z, asReal(jitter), L));
    raise(inducing_features(&fr.kern, fr.d, m, z, L, n, scaled(&fr, x), thread_count(threads),
                            REAL(VECTOR_ELT(out, 1)), REAL(VECTOR_ELT(out, 2))));
    UNPROTECT(1);
    return out;
}

SEXP residual_features(SEXP gp, SEXP newdata, SEXP threads)
{
    static const char *names[] = {"V", "variance"};
    frame fr = unpack_frame(element(gp, "x"), element(gp, "kernel"));
    SEXP inducing = element(gp, "inducing");
    int m = nrows(inducing), n = nrows(newdata);
    SEXP out = PROTECT(named_list(2, names));
    SET_VECTOR_ELT(out, 0, allocMatrix(REALSXP, m, n));
    SET_VECTOR_ELT(out, 1, allocVector(REALSXP, n));
    scratch_advise(REAL(VECTOR_ELT(out, 0)), (size_t)m * n * sizeof(double));
    raise(inducing_features(&fr.kern, fr.d, m, scaled(&fr, inducing),
                            doubles(element(gp, "chol"), "chol", (R_xlen_t)m * m), n,
                            scaled(&fr, newdata), thread_count(threads), REAL(VECTOR_ELT(out, 0)),
                            REAL(VECTOR_ELT(out, 1))));
    UNPROTECT(1);
    return out;
}

SEXP residual_correlation(SEXP gp, SEXP i, SEXP j, SEXP fresh, SEXP threads)
{
    frame fr = unpack_frame(element(gp, "x"), element(gp, "kernel"));
    double nugget = asReal(element(gp, "nugget"));
    metric_points points = unpack_points(&fr, gp, nugget), from = points;
    if (fresh != R_NilValue)
        from = unpack_points(&fr, fresh, nugget);
    const int *rows = unpack_rows(i, from.n), *columns = unpack_rows(j, points.n);
    size_t height = rows ? (size_t)XLENGTH(i) : from.n;
    size_t width = columns ? (size_t)XLENGTH(j) : points.n;
    if (height > INT_MAX || width > INT_MAX)
        error("a block of %.0f x %.0f correlations is too large", (double)height, (double)width);
    if (!columns) {
        int *all = (int *)R_alloc(width + 1, sizeof(int));
        for (size_t c = 0; c < width; c++)
            all[c] = (int)c;
        columns = all;
    }
    SEXP out = PROTECT(allocMatrix(REALSXP, (int)height, (int)width));
    double *value = REAL(out);
    int team = thread_count(threads);
    double *lines = (double *)R_alloc(width * team + 1, sizeof(double));
#pragma omp parallel for num_threads(team) schedule(static)
    for (size_t a = 0; a < height; a++) {
        double *line = lines + width * threads_id();
        metric_list(&fr.kern, &from, rows ? rows[a] : a, &points, columns, width, line);
        for (size_t b = 0; b < width; b++)
            value[a + b * height] = line[b];
    }
    UNPROTECT(1);
    return out;
}

static SEXP pack_counters(const query_counters *counters)
{
    static const char *names[] = {"nodes", "bounds", "pruned", "screened", "correlations"};
    SEXP stats = PROTECT(allocVector(REALSXP, 5)), labels = PROTECT(allocVector(STRSXP, 5));
    const double values[] = {counters->nodes, counters->bounds, counters->pruned,
                             counters->screened, counters->correlations};
    for (int c = 0; c < 5; c++) {
        REAL(stats)[c] = values[c];
        SET_STRING_ELT(labels, c, mkChar(names[c]));
    }
    setAttrib(stats, R_NamesSymbol, labels);
    UNPROTECT(2);
    return stats;
}

/* The fields of a tree in R, in this order; indices are 1-based there, and 0 is none. */
static const char *tree_fields[] = {"perm",     "first",  "count", "parent", "child",
                                    "children", "centre", "level", "radius"};

static SEXP allocate_tree(void *built)
{
    const tree *t = built;
    SEXP out = PROTECT(named_list(9, tree_fields));
    for (int f = 0; f < 9; f++)
        SET_VECTOR_ELT(out, f, allocVector(f < 8 ? INTSXP : REALSXP, f ? t->nodes : (int)t->n));
    UNPROTECT(1);
    return out;
}

static SEXP allocation_failed(SEXP condition, void *unused)
{
    (void)condition;
    (void)unused;
    return R_NilValue;
}

SEXP cover_tree(SEXP x, SEXP lengthscale, SEXP threads)
{
    kernel unit = {KERNEL_MATERN12, 0.0, 1.0};
    tree built;
    int d;
    double *points = lengthscale_scaled(&unit, x, lengthscale, &d);
    raise(tree_build(d, nrows(x), points, CELLS_LEAF, thread_count(threads), &built));
    const int *from[] = {built.perm,  built.first,    built.count,  built.parent,
                         built.child, built.children, built.centre, built.level};
    static const int shift[] = {1, 1, 0, 1, 1, 0, 1, 0};
    /* R may jump when it allocates: what it may lose is the tree, so that goes into R's memory first */
    SEXP out = PROTECT(R_tryCatchError(allocate_tree, &built, allocation_failed, NULL));
    if (out == R_NilValue) {
        tree_free(&built);
        raise(status_fail(STATUS_MEMORY));
    }
    for (int f = 0; f < 8; f++) {
        int *to = INTEGER(VECTOR_ELT(out, f));
        for (R_xlen_t i = 0; i < XLENGTH(VECTOR_ELT(out, f)); i++)
            to[i] = from[f][i] + shift[f];
    }
    memcpy(REAL(VECTOR_ELT(out, 8)), built.radius, built.nodes * sizeof(double));
    tree_free(&built);
    UNPROTECT(1);
    return out;
}

static tree unpack_tree(SEXP list, size_t n)
{
    static const int shift[] = {1, 1, 0, 1, 1, 0, 1, 0};
    tree out = {.n = n, .nodes = (int)XLENGTH(element(list, "first"))};
    int **to[] = {&out.perm,  &out.first,    &out.count,  &out.parent,
                  &out.child, &out.children, &out.centre, &out.level};
    for (int f = 0; f < 8; f++) {
        SEXP field = element(list, tree_fields[f]);
        size_t length = f ? (size_t)out.nodes : n;
        if (!isInteger(field) || (size_t)XLENGTH(field) != length)
            error("the tree does not fit its points: field '%s' has %lld elements, not %lld",
                  tree_fields[f], (long long)XLENGTH(field), (long long)length);
        const int *from = INTEGER(field);
        int *copy = *to[f] = (int *)R_alloc(length + 1, sizeof(int));
        for (size_t i = 0; i < length; i++)
            copy[i] = from[i] - shift[f];
    }
    for (size_t i = 0; i < n; i++)
        if (out.perm[i] < 0 || (size_t)out.perm[i] >= n)
            error("the tree does not fit its points: field 'perm' is no permutation");
    for (int v = 0; v < out.nodes; v++)
        if (out.first[v] < 0 || out.count[v] < 1 || (size_t)out.first[v] + out.count[v] > n ||
            out.parent[v] >= v || out.child[v] < 0 || out.children[v] < 0 ||
            out.child[v] + out.children[v] > out.nodes || out.centre[v] < 0 ||
            (size_t)out.centre[v] >= n)
            error("the tree does not fit its points: node %d is damaged", v + 1);
    out.radius = (double *)doubles(element(list, "radius"), "radius", out.nodes);
    return out;
}

SEXP tree_invariant(SEXP list, SEXP x, SEXP lengthscale)
{
    kernel unit = {KERNEL_MATERN12, 0.0, 1.0};
    int d;
    double *points = lengthscale_scaled(&unit, x, lengthscale, &d);
    tree structure = unpack_tree(list, nrows(x));
    return ScalarInteger(tree_check(&structure, d, points));
}

/* A residual process and its tree, if there is one; `source` points into the same struct. */
typedef struct {
    frame fr;
    metric_points points;
    metric_source source;
    tree structure;
    index_pack kept;
} search_problem;

#define PRINTED_ROWS 97 /* whose features are part of a fingerprint, of many points */

static uint64_t fingerprint(const frame *fr, SEXP gp)
{
    SEXP x = element(gp, "x"), V = element(gp, "V"), variance = element(gp, "variance");
    const double settings[] = {(double)fr->kern.family, fr->kern.smoothness, fr->kern.variance,
                               asReal(element(gp, "jitter")), asReal(element(gp, "nugget"))};
    size_t n = nrows(x), m = nrows(V), stride = n / PRINTED_ROWS + 1;
    uint64_t print = index_print(0, sizeof(settings) / sizeof(*settings), settings);
    print = index_print(print, fr->d, fr->lengthscale);
    print = index_print(print, fr->d, fr->centre);
    print = index_print(print, n * fr->d, REAL(x));
    print = index_print(print, n, doubles(variance, "variance", n));
    for (size_t i = 0; i < n; i += stride)
        print = index_print(print, m, doubles(V, "V", n * m) + i * m);
    return print;
}

/* The structure of a tree is read where its index does not serve, or if it is `wanted` all the same. */
static void unpack_problem(SEXP gp, SEXP tree_list, int wanted, search_problem *out)
{
    SEXP V = element(gp, "V"), inducing = element(gp, "inducing");
    out->fr = unpack_frame(element(gp, "x"), element(gp, "kernel"));
    out->kept = (index_pack){NULL, 0, 0};
    if (tree_list != R_NilValue) {
        SEXP kept = element(tree_list, "index");
        out->kept.print = fingerprint(&out->fr, gp);
        if (TYPEOF(kept) == RAWSXP) {
            out->kept.memory = RAW(kept);
            out->kept.bytes = (size_t)XLENGTH(kept);
        }
    }
    out->points =
        (metric_points){.n = nrows(element(gp, "x")), .d = out->fr.d, .m = nrows(V), .v = REAL(V)};
    if (!index_points(out->kept, &out->points)) {
        out->points = unpack_points(&out->fr, gp, asReal(element(gp, "nugget")));
        wanted = 1;
    }
    out->source = (metric_source){&out->fr.kern, NULL, NULL, asReal(element(gp, "jitter"))};
    if (inducing != R_NilValue) {
        out->source.z = scaled(&out->fr, inducing);
        out->source.L =
            doubles(element(gp, "chol"), "chol", (R_xlen_t)out->points.m * out->points.m);
    }
    out->structure = (tree){0};
    if (tree_list != R_NilValue && wanted)
        out->structure = unpack_tree(tree_list, out->points.n);
}

#define SAMPLE_NEIGHBOURS 30 /* what an index is chosen for */

static SEXP allocate_index(void *built)
{
    return allocVector(RAWSXP, (R_xlen_t)index_packed_bytes(built));
}

#define INDEX_PLACES 8

/* Memory for an index, or R_NilValue. R promises 16 bytes, but vectors that cross lines of the cache cost up to 7 % of
 * a search (problem C): of a few places the first that is aligned to a line, or the last. Sizes of 16 more than a
 * multiple of 64 make the next place another one with common allocators. */
static SEXP place_index(index_search *built)
{
    SEXP out = PROTECT(R_tryCatchError(allocate_index, built, allocation_failed, NULL));
    int places = 1;
    while (out != R_NilValue && (uintptr_t)RAW(out) % SCRATCH_ALIGN && places < INDEX_PLACES) {
        SEXP other = PROTECT(R_tryCatchError(allocate_index, built, allocation_failed, NULL));
        places++;
        if (other == R_NilValue)
            break;
        out = other;
    }
    UNPROTECT(places);
    return out;
}

SEXP tree_index(SEXP gp, SEXP tree_list, SEXP threads)
{
    search_problem problem;
    index_search built;
    unpack_problem(gp, tree_list, 1, &problem);
    query_task task = {
        .kern = &problem.fr.kern,
        .points = &problem.points,
        .from = &problem.points,
        .k = SAMPLE_NEIGHBOURS,
        .threads = thread_count(threads),
        .budget = INFINITY,
        .source = &problem.source,
        .structure = &problem.structure,
    };
    raise(query_index(&task, 1, &built));
    SEXP out = PROTECT(place_index(&built));
    if (out != R_NilValue) {
        scratch_advise(RAW(out), (size_t)XLENGTH(out));
        index_packed_write(&built, problem.kept.print, RAW(out));
    }
    index_free(&built);
    if (out == R_NilValue)
        raise(status_fail(STATUS_MEMORY));
    UNPROTECT(1);
    return out;
}

/* Fields of a tree's index while they are listed: names, first bytes, lengths. */
typedef struct {
    int count;
    SEXP out;
} field_list;

static void list_field(void *context, const char *name, size_t at, size_t bytes)
{
    field_list *list = context;
    if (list->out != R_NilValue) {
        SET_STRING_ELT(VECTOR_ELT(list->out, 0), list->count, mkChar(name));
        REAL(VECTOR_ELT(list->out, 1))[list->count] = (double)at;
        REAL(VECTOR_ELT(list->out, 2))[list->count] = (double)bytes;
    }
    list->count++;
}

SEXP tree_index_fields(SEXP gp, SEXP tree_list)
{
    static const char *names[] = {"name", "at", "bytes"};
    search_problem problem;
    index_search opened;
    unpack_problem(gp, tree_list, 0, &problem);
    if (!index_open(&problem.source, &problem.points, problem.kept, &opened))
        return R_NilValue; /* none, or one of another process */
    field_list list = {0, R_NilValue};
    index_packed_list(&opened, list_field, &list);
    SEXP out = PROTECT(named_list(3, names));
    for (int f = 0; f < 3; f++)
        SET_VECTOR_ELT(out, f, allocVector(f ? REALSXP : STRSXP, list.count));
    list = (field_list){0, out};
    index_packed_list(&opened, list_field, &list);
    UNPROTECT(1);
    return out;
}

SEXP scratch_buffers(void) { return ScalarReal((double)scratch_count()); }

SEXP residual_knn(SEXP gp, SEXP tree_list, SEXP k, SEXP queries, SEXP fresh, SEXP predecessors,
                  SEXP method, SEXP budget, SEXP threads, SEXP progress)
{
    static const char *names[] = {"id", "dist", "stats", "method", "note"};
    search_problem problem;
    const char *name = CHAR(asChar(method));
    int structure = asLogical(predecessors) == TRUE || R_FINITE(asReal(budget));
    unpack_problem(gp, tree_list, structure, &problem);
    metric_points from = problem.points;
    if (fresh != R_NilValue)
        from = unpack_points(&problem.fr, fresh, asReal(element(gp, "nugget")));
    progress_line line = {asLogical(progress) == TRUE, -1};
    monitor mon = {poll_r, &line};
    query_task task = {
        .kern = &problem.fr.kern,
        .points = &problem.points,
        .from = fresh != R_NilValue ? &from : &problem.points,
        .count = queries == R_NilValue ? from.n : (size_t)XLENGTH(queries),
        .rows = unpack_rows(queries, from.n),
        .self = fresh == R_NilValue,
        .predecessors = asLogical(predecessors) == TRUE,
        .k = asInteger(k),
        .threads = thread_count(threads),
        .budget = asReal(budget),
        .source = &problem.source,
        .structure = problem.structure.nodes ? &problem.structure : NULL,
        .kept = problem.kept,
        .mon = &mon,
    };
    SEXP out = PROTECT(named_list(5, names));
    SET_VECTOR_ELT(out, 0, allocMatrix(INTSXP, (int)task.count, task.k));
    SET_VECTOR_ELT(out, 1, allocMatrix(REALSXP, (int)task.count, task.k));
    scratch_advise(INTEGER(VECTOR_ELT(out, 0)), task.count * task.k * sizeof(int));
    scratch_advise(REAL(VECTOR_ELT(out, 1)), task.count * task.k * sizeof(double));
    int *id = INTEGER(VECTOR_ELT(out, 0));
    double *dist = REAL(VECTOR_ELT(out, 1));
    answers given;
    query_result result = {.given = &given, .note = ""};
    status outcome = answers_new(task.count, task.k, id, dist, &given);
    if (!outcome.code)
        outcome = query_run(name, &task, &result);
    if (!outcome.code)
        answers_settle(&given, task.threads);
    answers_free(&given);
    if (outcome.code)
        raise(outcome);
    for (size_t q = 0; q < task.count; q++) /* where there are fewer than k, the last are missing */
        for (size_t j = task.k; j-- > 0 && id[q + j * task.count] == 0;) {
            id[q + j * task.count] = NA_INTEGER;
            dist[q + j * task.count] = NA_REAL;
        }
    SET_VECTOR_ELT(out, 2, pack_counters(&result.counters));
    SET_VECTOR_ELT(out, 3, mkString(result.method));
    SET_VECTOR_ELT(out, 4, mkString(result.note));
    UNPROTECT(1);
    return out;
}

/* ---- ordering and the VIF approximation ----------------------------------------------------- */

SEXP order_points(SEXP x, SEXP centre)
{
    size_t n = nrows(x);
    int d = ncols(x);
    const double *from = doubles(x, "x", (R_xlen_t)n * d);
    double *points = (double *)R_alloc(n * d + 1, sizeof(double));
    for (size_t i = 0; i < n; i++)
        for (int u = 0; u < d; u++)
            points[i * d + u] = from[i + u * n];
    progress_line line = {0, -1};
    monitor mon = {poll_r, &line};
    SEXP order = PROTECT(allocVector(INTSXP, n));
    raise(order_maxmin(d, n, points, doubles(centre, "centre", d), &mon, INTEGER(order)));
    for (size_t t = 0; t < n; t++)
        INTEGER(order)[t]++;
    UNPROTECT(1);
    return order;
}

static void raise_vif(status outcome)
{
    if (outcome.code == STATUS_NOT_POSITIVE_DEFINITE)
        error("the residual covariance of point %lld and its neighbours is not positive definite: "
              "duplicates, or inputs too close for this kernel; use a positive `nugget`",
              (long long)outcome.where + 1);
    raise(outcome);
}

static const int *unpack_ids(SEXP id, size_t rows)
{
    if (!isInteger(id) || (size_t)nrows(id) != rows)
        error("internal: neighbours must be an integer matrix of %lld rows", (long long)rows);
    return INTEGER(id);
}

/* The points of a residual_gp, or of list(x, V, variance), with residual variance plus noise. */
static vif_points unpack_vif(const frame *fr, SEXP holder, SEXP noise)
{
    SEXP x = element(holder, "x"), V = element(holder, "V");
    vif_points out = {.n = nrows(x), .x = scaled(fr, x)};
    const double *residual = doubles(element(holder, "variance"), "variance", out.n);
    const double *extra = doubles(noise, "noise", out.n);
    double *variance = (double *)R_alloc(out.n + 1, sizeof(double));
    for (size_t i = 0; i < out.n; i++)
        variance[i] = fmax(residual[i], 0.0) + extra[i];
    out.v = doubles(V, "V", (R_xlen_t)out.n * nrows(V));
    out.variance = variance;
    return out;
}

SEXP vif_regression(SEXP gp, SEXP noise, SEXP id, SEXP children, SEXP child_noise, SEXP threads)
{
    static const char *names[] = {"coef", "D"};
    frame fr = unpack_frame(element(gp, "x"), element(gp, "kernel"));
    vif_points parents = unpack_vif(&fr, gp, noise), own = parents;
    if (children != R_NilValue)
        own = unpack_vif(&fr, children, child_noise);
    int k = ncols(id);
    SEXP out = PROTECT(named_list(2, names));
    SET_VECTOR_ELT(out, 0, allocMatrix(REALSXP, k, (int)own.n));
    SET_VECTOR_ELT(out, 1, allocVector(REALSXP, own.n));
    raise_vif(vif_regress(&fr.kern, fr.d, nrows(element(gp, "V")), &parents, &own, k,
                          unpack_ids(id, own.n), thread_count(threads), REAL(VECTOR_ELT(out, 0)),
                          REAL(VECTOR_ELT(out, 1))));
    UNPROTECT(1);
    return out;
}

SEXP vif_contrasts(SEXP id, SEXP coef, SEXP parents, SEXP children, SEXP threads)
{
    int n = ncols(children), q = nrows(children), k = ncols(id);
    vif_table table = {k, unpack_ids(id, n), doubles(coef, "coef", (R_xlen_t)k * n)};
    SEXP out = PROTECT(allocMatrix(REALSXP, q, n));
    vif_contrast(&table, q, doubles(parents, "parents", -1), n, doubles(children, "children", -1),
                 thread_count(threads), REAL(out));
    UNPROTECT(1);
    return out;
}

SEXP vif_crossproduct(SEXP A, SEXP B, SEXP weight, SEXP threads)
{
    int p = nrows(A), q = nrows(B), n = ncols(A);
    SEXP C = PROTECT(allocMatrix(REALSXP, p, q));
    raise(vif_cross(p, q, n, doubles(A, "A", -1), doubles(B, "B", (R_xlen_t)q * n),
                    weight == R_NilValue ? NULL : doubles(weight, "weight", n),
                    thread_count(threads), REAL(C)));
    UNPROTECT(1);
    return C;
}

SEXP vif_norms(SEXP L, SEXP W, SEXP threads)
{
    int m = nrows(W), n = ncols(W);
    SEXP norm = PROTECT(allocVector(REALSXP, n));
    raise(vif_precision(m, doubles(L, "L", (R_xlen_t)m * m), n, doubles(W, "W", -1),
                        thread_count(threads), REAL(norm), NULL));
    UNPROTECT(1);
    return norm;
}

SEXP vif_derivative(SEXP gp, SEXP noise, SEXP id, SEXP evaluation, SEXP threads)
{
    static const char *names[] = {"signal", "noise", "slope", "features"};
    frame fr = unpack_frame(element(gp, "x"), element(gp, "kernel"));
    vif_points points = unpack_vif(&fr, gp, noise);
    SEXP z = element(gp, "inducing");
    size_t n = points.n;
    int m = nrows(z), k = ncols(id), team = thread_count(threads);
    R_xlen_t size = (R_xlen_t)m * n;
    vif_table table = {k, unpack_ids(id, n),
                       doubles(element(evaluation, "coef"), "coef", (R_xlen_t)k * n)};
    double *norm = (double *)R_alloc(n + 1, sizeof(double));
    double *G = (double *)R_alloc(size + 1, sizeof(double));
    double *vbar = (double *)R_alloc(size + 1, sizeof(double));
    double *through_z = (double *)R_alloc(fr.d, sizeof(double));
    vif_state state = {
        .D = doubles(element(evaluation, "D"), "D", n),
        .W = doubles(element(evaluation, "W"), "W", size),
        .norm = norm,
        .b = doubles(element(evaluation, "b"), "b", m),
        .error = doubles(element(evaluation, "error"), "error", n),
        .centred = doubles(element(evaluation, "centred"), "centred", n),
    };
    raise(vif_precision(m, doubles(element(evaluation, "root"), "root", (R_xlen_t)m * m), n,
                        state.W, team, norm, G));
    SEXP out = PROTECT(named_list(4, names));
    SET_VECTOR_ELT(out, 0, allocVector(REALSXP, 1));
    SET_VECTOR_ELT(out, 1, allocVector(REALSXP, n));
    SET_VECTOR_ELT(out, 2, allocVector(REALSXP, fr.d));
    SET_VECTOR_ELT(out, 3, allocMatrix(REALSXP, m, m));
    double *slope = REAL(VECTOR_ELT(out, 2));
    raise_vif(vif_adjoint(&fr.kern, fr.d, m, &points, &table, &state, team, G,
                          REAL(VECTOR_ELT(out, 0)), REAL(VECTOR_ELT(out, 1)), slope, vbar));
    /* from the features to L (left to R, by features = vbar V') and to k(z, x), whose adjoint is
     * L^-T vbar */
    raise(vif_cross(m, m, n, vbar, points.v, NULL, team, REAL(VECTOR_ELT(out, 3))));
    raise(inducing_weights(m, doubles(element(gp, "chol"), "chol", (R_xlen_t)m * m), n, vbar, team,
                           vbar));
    raise(vif_kernel_slopes(&fr.kern, fr.d, m, scaled(&fr, z), n, points.x, vbar, team, through_z));
    for (int u = 0; u < fr.d; u++)
        slope[u] += through_z[u];
    UNPROTECT(1);
    return out;
}

/* sum_uv A_uv d k(z_u, z_v) / d log lengthscale. */
SEXP vif_slopes(SEXP gp, SEXP z, SEXP A, SEXP threads)
{
    frame fr = unpack_frame(element(gp, "x"), element(gp, "kernel"));
    int m = nrows(z);
    const double *points = scaled(&fr, z);
    SEXP out = PROTECT(allocVector(REALSXP, fr.d));
    raise(vif_kernel_slopes(&fr.kern, fr.d, m, points, m, points, doubles(A, "A", (R_xlen_t)m * m),
                            thread_count(threads), REAL(out)));
    UNPROTECT(1);
    return out;
}

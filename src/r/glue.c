#include "r/glue.h"

#include "base/scratch.h"
#include "base/threads.h"

#include <R.h>
#include <R_ext/Utils.h>
#include <math.h>
#include <setjmp.h>
#include <string.h>

#define USUAL_EXPONENT 64 /* of 2: variances that need no other unit */

/* ---- unpacking ------------------------------------------------------------------------------ */

SEXP r_element(SEXP list, const char *name)
{
    SEXP names = getAttrib(list, R_NamesSymbol);
    for (R_xlen_t i = 0; i < XLENGTH(list) && names != R_NilValue; i++)
        if (strcmp(CHAR(STRING_ELT(names, i)), name) == 0)
            return VECTOR_ELT(list, i);
    return R_NilValue;
}

void *r_pointer(SEXP object, const char *tag)
{
    if (TYPEOF(object) != EXTPTRSXP || R_ExternalPtrTag(object) != install(tag))
        error("internal: no pointer to a %s", tag);
    return R_ExternalPtrAddr(object);
}

const double *r_doubles(SEXP object, const char *what, R_xlen_t length)
{
    if (!isReal(object) || (length >= 0 && XLENGTH(object) != length))
        error("internal: %s must be double of length %lld", what, (long long)length);
    return REAL(object);
}

int r_threads(SEXP threads)
{
    int requested = asInteger(threads);
    return threads_resolve(requested == NA_INTEGER ? 0 : requested);
}

kernel r_kernel(SEXP kern)
{
    const char *family = CHAR(asChar(r_element(kern, "family")));
    SEXP smoothness = r_element(kern, "smoothness");
    kernel out;
    if (!kernel_make(family, asReal(r_element(kern, "variance")), smoothness == R_NilValue ? 0.0 : asReal(smoothness),
                     &out))
        error("internal: unknown kernel family '%s'", family);
    return out;
}

double *r_spread(const double *value, R_xlen_t length, int d)
{
    double *out = (double *)R_alloc(d, sizeof(double));
    for (int u = 0; u < d; u++)
        out[u] = value[length == 1 ? 0 : u];
    return out;
}

anisotropy r_anisotropy(SEXP values)
{
    if (values == R_NilValue)
        return (anisotropy){0, 0.0, 1.0, 1.0};
    const double *v = r_doubles(values, "anisotropy", 2);
    double angle = v[0] / 180.0 * M_PI;
    return (anisotropy){1, sin(angle), cos(angle), v[1]};
}

void r_turn(const anisotropy *turn, int d, size_t n, double *points)
{
    for (size_t i = 0; i < n && turn->there; i++) {
        double *at = points + i * d, x = at[0], y = at[1];
        at[0] = turn->sine * x + turn->cosine * y;
        at[1] = (turn->cosine * x - turn->sine * y) / turn->ratio;
    }
}

scaling r_scaling(SEXP x, SEXP kern)
{
    int d = ncols(x);
    size_t n = nrows(x);
    SEXP lengthscale = r_element(kern, "lengthscale");
    if (!isReal(x) || !isReal(lengthscale) || (XLENGTH(lengthscale) != 1 && length(lengthscale) != d))
        error("internal: x and lengthscale do not fit");
    double *centre = (double *)R_alloc(d, sizeof(double));
    SEXP given = getAttrib(x, install("centre")); /* of some of the points of a process: that of all */
    int known = isReal(given) && length(given) == d;
    for (int u = 0; u < d && known; u++)
        centre[u] = REAL(given)[u];
    for (int u = 0; u < d && !known; u++) {
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
        for (i = 0; i < n && !isfinite(sum); i++) /* the mean of huge numbers, which have no sum */
            centre[u] = (i ? centre[u] : 0.0) + column[i] / (double)n;
    }
    anisotropy turn = r_anisotropy(r_element(kern, "anisotropy"));
    if (turn.there && d < 2)
        error("internal: anisotropy needs two columns");
    return (scaling){r_kernel(kern), d, r_spread(REAL(lengthscale), XLENGTH(lengthscale), d), centre, turn, 1.0};
}

scaling r_scaling_in_units(SEXP x, SEXP kern)
{
    scaling sc = r_scaling(x, kern);
    int exponent;
    frexp(sc.kern.variance, &exponent);
    if (abs(exponent) > USUAL_EXPONENT) {
        sc.unit = ldexp(1.0, exponent / 2);
        sc.kern.variance = sc.kern.variance / sc.unit / sc.unit;
    }
    return sc;
}

void r_scale(double *values, size_t count, double factor)
{
    for (size_t i = 0; i < count && factor != 1.0; i++)
        values[i] *= factor;
}

void *r_memory(size_t count, size_t size)
{
    void *out = R_alloc(count + 1, (int)size);
    scratch_advise(out, count * size);
    return out;
}

const double *r_in_units(SEXP object, const char *what, R_xlen_t length, double factor)
{
    const double *from = r_doubles(object, what, length);
    if (factor == 1.0)
        return from;
    double *out = r_memory(length, sizeof(double));
    memcpy(out, from, length * sizeof(double));
    r_scale(out, length, factor);
    return out;
}

/* Scaled points (d x n) of a matrix, in memory that R frees. */
double *r_scaled(const scaling *sc, SEXP x)
{
    size_t n = nrows(x);
    if (!isReal(x) || ncols(x) != sc->d)
        error("internal: points must be a double matrix of %d columns", sc->d);
    double *out = r_memory(n * sc->d, sizeof(double));
    kernel_scale(&sc->kern, REAL(x), n, sc->d, sc->lengthscale, sc->centre, out);
    r_turn(&sc->turn, sc->d, n, out);
    return out;
}

/* The points of a residual_gp, or of list(x, V, variance) for new ones. */
metric_points r_points(const scaling *sc, SEXP holder, double nugget)
{
    SEXP x = r_element(holder, "x"), V = r_element(holder, "V");
    metric_points out = {.n = nrows(x), .d = sc->d, .m = nrows(V)};
    out.x = r_scaled(sc, x);
    double inverse = 1.0 / sc->unit;
    out.v = r_in_units(V, "V", (R_xlen_t)out.n * out.m, inverse);
    double *variance = r_memory(2 * out.n, sizeof(double));
    const double *residual = r_doubles(r_element(holder, "variance"), "variance", out.n);
    for (size_t i = 0; i < out.n; i++)
        variance[i] = residual[i] * inverse * inverse;
    metric_variances(&sc->kern, out.n, variance, nugget * inverse * inverse, variance, variance + out.n);
    out.variance = variance;
    out.gain = variance + out.n;
    return out;
}

/* 1-based rows from R to 0-based ones; NULL stays NULL and means all. */
const int *r_rows(SEXP rows, size_t n)
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

SEXP r_list(int count, const char *const *names)
{
    SEXP list = PROTECT(allocVector(VECSXP, count));
    SEXP labels = PROTECT(allocVector(STRSXP, count));
    for (int i = 0; i < count; i++)
        SET_STRING_ELT(labels, i, mkChar(names[i]));
    setAttrib(list, R_NamesSymbol, labels);
    UNPROTECT(2);
    return list;
}

/* The jump that a poll held, if one did. */
static SEXP held_jump(void)
{
    static SEXP token = NULL;
    if (!token) {
        token = R_MakeUnwindCont();
        R_PreserveObject(token);
    }
    return token;
}

void r_raise(status outcome)
{
    switch (outcome.code) {
    case STATUS_OK:
        return;
    case STATUS_MEMORY:
        error("not enough memory");
    case STATUS_INTERRUPTED:
        R_ContinueUnwind(held_jump());
    case STATUS_NOT_POSITIVE_DEFINITE:
        error("the Cholesky factorisation of k(inducing, inducing) fails at pivot %lld: inducing "
              "inputs are too close for this kernel; use a larger `jitter`, or fewer or different "
              "inducing inputs",
              (long long)outcome.where + 1);
    }
}

#define POLL_SECONDS 0.05

/* R looks at its time limits at every sixth check only (TIME_CHECK_SKIP in its sysutils.c). */
#define CHECKS_A_POLL 6

/* What R is let in for. */
typedef struct {
    progress_line *line;
    double fraction;
    jmp_buf back;
} visit;

static SEXP let_in(void *data)
{
    visit *now = data;
    progress_line *line = now->line;
    int percent = (int)(100.0 * now->fraction);
    if (line->show && percent > line->shown) {
        line->shown = percent;
        Rprintf("\rsearching %3d %%%s", percent, percent >= 100 ? "\r                \r" : "");
        R_FlushConsole();
    }
    for (int i = 0; i < CHECKS_A_POLL; i++)
        R_CheckUserInterrupt();
    return R_NilValue;
}

static void hold(void *data, Rboolean jump)
{
    if (jump)
        longjmp(((visit *)data)->back, 1);
}

static int poll_r(void *context, double fraction)
{
    progress_line *line = context;
    double now = threads_seconds();
    if (now < line->next && fraction < 1.0)
        return 0;
    visit visited = {.line = line, .fraction = fraction};
    if (setjmp(visited.back))
        return 1;
    R_UnwindProtect(let_in, &visited, hold, &visited, held_jump());
    line->next = now + POLL_SECONDS;
    return 0;
}

monitor r_monitor(progress_line *line, int show)
{
    held_jump(); /* made while a failure may still jump */
    *line = (progress_line){show, -1, 0.0};
    return (monitor){poll_r, line};
}

const monitor *r_interrupts(void)
{
    static progress_line line;
    static const monitor quiet = {poll_r, &line};
    held_jump();
    return &quiet;
}

double *r_lengthscale_scaled(const kernel *unit, SEXP x, SEXP lengthscale, SEXP turn, int *d)
{
    size_t n = nrows(x);
    *d = ncols(x);
    double *centre = (double *)R_alloc(*d, sizeof(double));
    memset(centre, 0, *d * sizeof(double));
    const double *scale = r_spread(r_doubles(lengthscale, "lengthscale", -1), XLENGTH(lengthscale), *d);
    double *points = r_memory(n * *d, sizeof(double));
    kernel_scale(unit, r_doubles(x, "x", (R_xlen_t)n * *d), n, *d, scale, centre, points);
    anisotropy own = r_anisotropy(turn);
    r_turn(&own, *d, n, points);
    return points;
}

/* ---- approximations --------------------------------------------------------------------------- */

void r_raise_vif(status outcome, size_t n)
{
    if (outcome.code == STATUS_NOT_POSITIVE_DEFINITE && outcome.where >= n)
        error("the covariance of the observations, or that of the coefficients of the mean, is not "
              "positive definite");
    if (outcome.code == STATUS_NOT_POSITIVE_DEFINITE)
        error("the residual covariance of point %lld and its neighbours is not positive definite: "
              "duplicates, or inputs too close for this kernel; use a positive `nugget`",
              (long long)outcome.where + 1);
    r_raise(outcome);
}

const int *r_ids(SEXP id, size_t rows)
{
    if (!isInteger(id) || (size_t)nrows(id) != rows)
        error("internal: neighbours must be an integer matrix of %lld rows", (long long)rows);
    return INTEGER(id);
}

/* The points of a residual_gp, or of list(x, V, variance), with residual variance plus noise. */
vif_points r_vif_points(const scaling *sc, SEXP holder, SEXP noise)
{
    SEXP x = r_element(holder, "x"), V = r_element(holder, "V");
    vif_points out = {.n = nrows(x), .x = r_scaled(sc, x)};
    const double *residual = r_doubles(r_element(holder, "variance"), "variance", out.n);
    const double *extra = r_doubles(noise, "noise", out.n);
    double *variance = r_memory(out.n, sizeof(double));
    for (size_t i = 0; i < out.n; i++)
        variance[i] = fmax(residual[i], 0.0) + extra[i];
    out.v = r_doubles(V, "V", (R_xlen_t)out.n * nrows(V));
    out.variance = variance;
    return out;
}

double *r_new_values(SEXP list, int at, R_xlen_t rows, R_xlen_t cols)
{
    SEXP values = cols < 0 ? allocVector(REALSXP, rows) : allocMatrix(REALSXP, (int)rows, (int)cols);
    SET_VECTOR_ELT(list, at, values);
    scratch_advise(REAL(values), XLENGTH(values) * sizeof(double));
    return REAL(values);
}

SEXP r_allocation_failed(SEXP condition, void *unused)
{
    (void)condition;
    (void)unused;
    return R_NilValue;
}

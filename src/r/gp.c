#include "r/entry.h"

#include "base/pace.h"
#include "base/scratch.h"
#include "base/threads.h"
#include "model/inducing.h"
#include "model/metric.h"
#include "model/places.h"
#include "partition/order.h"
#include "r/glue.h"
#include "r/known.h"
#include "simd/simd.h"

#include <R.h>
#include <limits.h>
#include <string.h>

SEXP threads_info(SEXP threads)
{
    static const char *names[] = {"threads", "openmp", "simd"};
    SEXP out = PROTECT(r_list(3, names));
    SET_VECTOR_ELT(out, 0, ScalarInteger(r_threads(threads)));
    SET_VECTOR_ELT(out, 1, ScalarLogical(threads_openmp()));
    SET_VECTOR_ELT(out, 2, mkString(simd->name));
    UNPROTECT(1);
    return out;
}

SEXP threads_limit(void) { return ScalarInteger(threads_most()); }

SEXP kernel_slopes(SEXP kern, SEXP r)
{
    kernel own = r_kernel(kern);
    const double *from = r_doubles(r, "r", -1);
    SEXP out = PROTECT(allocVector(REALSXP, XLENGTH(r)));
    for (R_xlen_t i = 0; i < XLENGTH(r); i++) {
        double one = 1.0, none = 0.0, s;
        kernel_scale(&own, from + i, 1, 1, &one, &none, &s);
        REAL(out)[i] = -kernel_slope(&own, s * s) * s * s;
    }
    UNPROTECT(1);
    return out;
}

SEXP select_inducing(SEXP x, SEXP lengthscale, SEXP m, SEXP selection, SEXP uniforms, SEXP threads)
{
    /* lengthscale-scaled space: the constant of the family does not matter, so any kernel will do */
    size_t n = nrows(x);
    int d = ncols(x), count = asInteger(m);
    kernel unit = {.family = KERNEL_MATERN12, .variance = 1.0};
    const double *scale = r_spread(r_doubles(lengthscale, "lengthscale", -1), XLENGTH(lengthscale), d);
    double *points = r_lengthscale_scaled(&unit, x, lengthscale, R_NilValue, &d);
    if (strcmp(CHAR(asChar(selection)), "maxmin") == 0) {
        SEXP ids = PROTECT(allocVector(INTSXP, count));
        r_raise(inducing_maxmin(d, n, points, count, r_threads(threads), r_interrupts(), INTEGER(ids)));
        for (int c = 0; c < count; c++)
            INTEGER(ids)[c]++;
        UNPROTECT(1);
        return ids;
    }
    double *centres = (double *)R_alloc((size_t)count * d + 1, sizeof(double));
    r_raise(inducing_kmeans(d, n, points, count, r_doubles(uniforms, "uniforms", -1), r_threads(threads),
                            r_interrupts(), centres));
    SEXP out = PROTECT(allocMatrix(REALSXP, count, d));
    for (int c = 0; c < count; c++)
        for (int u = 0; u < d; u++)
            REAL(out)[c + (size_t)u * count] = centres[(size_t)c * d + u] * scale[u];
    UNPROTECT(1);
    return out;
}

/* Features and residual variances of the rows of x, from inducing inputs and their factor in the unit of the scaling.
 * Where at least half of the rows are copies of others, those of the others serve them. */
static void set_features(const scaling *sc, int m, const double *z, const double *L, SEXP x, int threads, SEXP V,
                         SEXP variance)
{
    size_t n = nrows(x), count = n;
    double *points = r_scaled(sc, x), *v = REAL(V), *r = REAL(variance);
    metric_points all = {.n = n, .d = sc->d, .x = points};
    places at = {0};
    int likely;
    status outcome = places_likely(n, sc->d, points, &likely);
    if (!outcome.code && likely)
        outcome = places_find(&all, &at);
    if (!outcome.code && at.n && (size_t)at.count <= n / 2) {
        count = at.count;
        places_gather(&at, sc->d, points);
    }
    if (!outcome.code)
        outcome = inducing_features(&sc->kern, sc->d, m, z, L, count, points, threads, r_interrupts(), v, r);
    if (!outcome.code && count < n) {
        places_spread(&at, m, v);
        places_spread(&at, 1, r);
    }
    places_free(&at);
    r_raise(outcome);
    r_scale(v, n * m, sc->unit);
    r_scale(r, n, sc->unit);
    r_scale(r, n, sc->unit);
}

SEXP residual_gp(SEXP x, SEXP kern, SEXP inducing, SEXP jitter, SEXP threads)
{
    static const char *names[] = {"chol", "V", "variance"};
    scaling sc = r_scaling_in_units(x, kern);
    int m = nrows(inducing), n = nrows(x);
    SEXP out = PROTECT(r_list(3, names));
    SET_VECTOR_ELT(out, 0, allocMatrix(REALSXP, m, m));
    SET_VECTOR_ELT(out, 1, allocMatrix(REALSXP, m, n));
    SET_VECTOR_ELT(out, 2, allocVector(REALSXP, n));
    scratch_advise(REAL(VECTOR_ELT(out, 1)), (size_t)m * n * sizeof(double));
    double *z = r_scaled(&sc, inducing), *L = REAL(VECTOR_ELT(out, 0));
    r_raise(inducing_factor(&sc.kern, sc.d, m, z, asReal(jitter), r_interrupts(), L));
    set_features(&sc, m, z, L, x, r_threads(threads), VECTOR_ELT(out, 1), VECTOR_ELT(out, 2));
    r_scale(L, (size_t)m * m, sc.unit);
    UNPROTECT(1);
    return out;
}

SEXP numbers_print(SEXP object)
{
    char text[17];
    snprintf(text, sizeof(text), "%016llx", (unsigned long long)known_numbers(object, 0));
    return mkString(text);
}

SEXP gp_known(SEXP gp) { return ScalarLogical(known_gp(gp)); }

/* Takes a process that was just made as one that needs no check. */
SEXP gp_remember(SEXP gp)
{
    if (known_gp_shape(gp))
        known_gp_add(gp);
    return R_NilValue;
}

static int all_finite(SEXP values)
{
    double sum = 0.0;
    for (R_xlen_t i = 0; i < XLENGTH(values); i++)
        sum += 0.0 * REAL(values)[i];
    return sum == 0.0;
}

/* What is damaged of a process, or NULL, and then it is known. */
SEXP gp_damage(SEXP gp, SEXP threads)
{
    static const char *names[] = {"x", "inducing", "chol", "V", "variance"};
    SEXP V = r_element(gp, "V"), z = r_element(gp, "inducing"), L = r_element(gp, "chol");
    if (!known_gp_shape(gp))
        return mkString("x, kernel, inducing, chol, V, variance or nugget");
    for (int f = 0; f < 5; f++)
        if (r_element(gp, names[f]) != R_NilValue && !all_finite(r_element(gp, names[f])))
            return mkString(names[f]);
    scaling sc = r_scaling_in_units(r_element(gp, "x"), r_element(gp, "kernel"));
    double inverse = 1.0 / sc.unit;
    size_t n = nrows(r_element(gp, "x")), m = nrows(V);
    inducing_claim claim = {.n = n,
                            .m = (int)m,
                            .d = sc.d,
                            .x = r_scaled(&sc, r_element(gp, "x")),
                            .V = r_in_units(V, "V", n * m, inverse),
                            .variance = r_in_units(r_element(gp, "variance"), "variance", n, inverse * inverse)};
    if (z != R_NilValue) {
        claim.z = r_scaled(&sc, z);
        claim.L = r_in_units(L, "chol", m * m, inverse);
        claim.jitter = asReal(r_element(gp, "jitter"));
    }
    inducing_part wrong;
    r_raise(inducing_check(&sc.kern, &claim, r_threads(threads), r_interrupts(), &wrong));
    if (wrong != INDUCING_SOUND)
        return mkString(names[1 + wrong]);
    known_gp_add(gp);
    return R_NilValue;
}

SEXP residual_features(SEXP gp, SEXP newdata, SEXP threads)
{
    static const char *names[] = {"V", "variance"};
    scaling sc = r_scaling_in_units(r_element(gp, "x"), r_element(gp, "kernel"));
    SEXP inducing = r_element(gp, "inducing");
    int m = nrows(inducing), n = nrows(newdata);
    SEXP out = PROTECT(r_list(2, names));
    SET_VECTOR_ELT(out, 0, allocMatrix(REALSXP, m, n));
    SET_VECTOR_ELT(out, 1, allocVector(REALSXP, n));
    scratch_advise(REAL(VECTOR_ELT(out, 0)), (size_t)m * n * sizeof(double));
    set_features(&sc, m, r_scaled(&sc, inducing),
                 r_in_units(r_element(gp, "chol"), "chol", (R_xlen_t)m * m, 1.0 / sc.unit), newdata, r_threads(threads),
                 VECTOR_ELT(out, 0), VECTOR_ELT(out, 1));
    UNPROTECT(1);
    return out;
}

SEXP residual_correlation(SEXP gp, SEXP i, SEXP j, SEXP fresh, SEXP threads)
{
    scaling sc = r_scaling_in_units(r_element(gp, "x"), r_element(gp, "kernel"));
    double nugget = asReal(r_element(gp, "nugget"));
    metric_points points = r_points(&sc, gp, nugget), from = points;
    if (fresh != R_NilValue)
        from = r_points(&sc, fresh, nugget);
    const int *rows = r_rows(i, from.n), *columns = r_rows(j, points.n);
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
    int team = r_threads(threads);
    double *lines = (double *)R_alloc(width * team + 1, sizeof(double));
    pace p = pace_over(r_interrupts(), height, team);
    while (pace_next(&p)) {
#pragma omp parallel for num_threads(team) schedule(static)
        for (size_t a = p.first; a < p.last; a++) {
            double *line = lines + width * threads_id();
            metric_list(&sc.kern, &from, rows ? (size_t)rows[a] : a, &points, columns, width, line);
            for (size_t b = 0; b < width; b++)
                value[a + b * height] = line[b];
        }
    }
    r_raise(pace_end(&p));
    UNPROTECT(1);
    return out;
}

SEXP order_points(SEXP x, SEXP centre)
{
    size_t n = nrows(x);
    int d = ncols(x);
    const double *from = r_doubles(x, "x", (R_xlen_t)n * d);
    double *points = r_memory(n * d, sizeof(double));
    for (size_t i = 0; i < n; i++)
        for (int u = 0; u < d; u++)
            points[i * d + u] = from[i + u * n];
    SEXP order = PROTECT(allocVector(INTSXP, n));
    r_raise(order_maxmin(d, n, points, r_doubles(centre, "centre", d), r_interrupts(), INTEGER(order)));
    for (size_t t = 0; t < n; t++)
        INTEGER(order)[t]++;
    UNPROTECT(1);
    return order;
}

/* The families of kernels, as the table of model/kernel.c has them. */
SEXP kernel_names(void)
{
    SEXP out = PROTECT(allocVector(STRSXP, KERNEL_FAMILIES));
    for (int which = 0; which < KERNEL_FAMILIES; which++)
        SET_STRING_ELT(out, which, mkChar(kernel_name(which)));
    UNPROTECT(1);
    return out;
}

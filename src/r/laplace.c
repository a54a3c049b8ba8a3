#include "r/entry.h"

#include "model/inducing.h"
#include "r/glue.h"
#include "vif/laplace.h"
#include "vif/vif.h"

#include <R.h>
#include <math.h>
#include <string.h>

/* list(coef, D, W) of the points among themselves, and the factor `root` of M where it is wanted. */
SEXP laplace_regression(SEXP gp, SEXP noise, SEXP id, SEXP with_root, SEXP threads)
{
    static const char *names[] = {"coef", "D", "W", "root"};
    scaling sc = r_scaling(r_element(gp, "x"), r_element(gp, "kernel"));
    vif_points points = r_vif_points(&sc, gp, noise);
    int n = (int)points.n, k = ncols(id), m = nrows(r_element(gp, "V")), team = r_threads(threads);
    SEXP out = PROTECT(r_list(4, names));
    SET_VECTOR_ELT(out, 0, allocMatrix(REALSXP, k, n));
    SET_VECTOR_ELT(out, 1, allocVector(REALSXP, n));
    SET_VECTOR_ELT(out, 2, allocMatrix(REALSXP, m, n));
    double *D = REAL(VECTOR_ELT(out, 1)), *W = REAL(VECTOR_ELT(out, 2));
    r_raise_vif(vif_regress(&sc.kern, sc.d, m, &points, &points, k, r_ids(id, n), team, r_interrupts(),
                            REAL(VECTOR_ELT(out, 0)), D, W),
                n);
    if (asLogical(with_root) == TRUE) {
        SET_VECTOR_ELT(out, 3, allocMatrix(REALSXP, m, m));
        r_raise(laplace_root(m, n, W, D, team, r_interrupts(), REAL(VECTOR_ELT(out, 3))));
    }
    UNPROTECT(1);
    return out;
}

static int has_axes(SEXP gp) { return LENGTH(r_element(r_element(gp, "kernel"), "lengthscale")) > 1; }

/* state: coef, D, W, and either root, weight, b (m x q), error and centred (q x n), or to_D and
 * to_coef; before, left and right where they are wanted; see laplace.h. Answers what
 * laplace_adjoint() finds. */
SEXP laplace_derivative(SEXP gp, SEXP noise, SEXP id, SEXP state, SEXP threads)
{
    static const char *names[] = {"signal", "noise", "slope", "vbar"};
    scaling sc = r_scaling(r_element(gp, "x"), r_element(gp, "kernel"));
    SEXP x = r_element(gp, "x"), z = r_element(gp, "inducing");
    R_xlen_t n = nrows(x);
    int m = nrows(z), k = ncols(id), team = r_threads(threads);
    R_xlen_t size = (R_xlen_t)m * n;
    const double *residual = r_doubles(r_element(gp, "variance"), "variance", n);
    const double *extra = r_doubles(noise, "noise", n);
    double *variance = (double *)R_alloc(n + 1, sizeof(double));
    for (R_xlen_t i = 0; i < n; i++)
        variance[i] = fmax(residual[i], 0.0) + extra[i];
    laplace_problem problem = {
        .kern = &sc.kern,
        .d = sc.d,
        .m = m,
        .k = k,
        .axes = has_axes(gp),
        .n = n,
        .x = r_scaled(&sc, x),
        .v = r_doubles(r_element(gp, "V"), "V", size),
        .variance = variance,
        .id = r_ids(id, n),
        .coef = r_doubles(r_element(state, "coef"), "coef", (R_xlen_t)k * n),
        .D = r_doubles(r_element(state, "D"), "D", n),
        .W = r_doubles(r_element(state, "W"), "W", size),
        .mon = r_interrupts(),
    };
    SEXP to_D = r_element(state, "to_D");
    if (to_D == R_NilValue) {
        int q = problem.q = LENGTH(r_element(state, "weight"));
        problem.root = r_doubles(r_element(state, "root"), "root", (R_xlen_t)m * m);
        problem.weight = r_doubles(r_element(state, "weight"), "weight", q);
        problem.b = r_doubles(r_element(state, "b"), "b", (R_xlen_t)m * q);
        problem.error = r_doubles(r_element(state, "error"), "error", (R_xlen_t)q * n);
        problem.centred = r_doubles(r_element(state, "centred"), "centred", (R_xlen_t)q * n);
    } else {
        problem.to_D = r_doubles(to_D, "to_D", n);
        problem.to_coef = r_doubles(r_element(state, "to_coef"), "to_coef", (R_xlen_t)k * n);
    }
    SEXP before = r_element(state, "before"), left = r_element(state, "left");
    if (before != R_NilValue)
        problem.before = r_doubles(before, "before", size);
    if (left != R_NilValue) {
        problem.products = ncols(left);
        problem.left = r_doubles(left, "left", (R_xlen_t)m * problem.products);
        problem.right = r_doubles(r_element(state, "right"), "right", problem.products * n);
    }
    SEXP out = PROTECT(r_list(4, names));
    SET_VECTOR_ELT(out, 0, allocVector(REALSXP, 1));
    SET_VECTOR_ELT(out, 1, allocVector(REALSXP, n));
    SET_VECTOR_ELT(out, 2, allocVector(REALSXP, problem.axes ? sc.d : 1));
    SET_VECTOR_ELT(out, 3, allocMatrix(REALSXP, m, (int)n));
    r_raise(laplace_adjoint(&problem, team, REAL(VECTOR_ELT(out, 0)), REAL(VECTOR_ELT(out, 1)),
                            REAL(VECTOR_ELT(out, 2)), REAL(VECTOR_ELT(out, 3))));
    UNPROTECT(1);
    return out;
}

/* What a derivative vbar (m x n) to the features adds to the slope through k(z, x), whose own is
 * L^-T vbar: so many points at a time. */
#define FEATURE_POINTS 2048

SEXP laplace_features(SEXP gp, SEXP vbar, SEXP threads)
{
    scaling sc = r_scaling(r_element(gp, "x"), r_element(gp, "kernel"));
    SEXP x = r_element(gp, "x"), z = r_element(gp, "inducing");
    R_xlen_t n = nrows(x);
    int m = nrows(z), team = r_threads(threads);
    slopes sl = slopes_new(&sc.kern, sc.d, has_axes(gp), 0);
    int count = slopes_count(&sl);
    const double *bar = r_doubles(vbar, "vbar", (R_xlen_t)m * n), *points = r_scaled(&sc, x), *from = r_scaled(&sc, z);
    const double *L = r_doubles(r_element(gp, "chol"), "chol", (R_xlen_t)m * m);
    double *weights = (double *)R_alloc((size_t)m * FEATURE_POINTS + 1, sizeof(double));
    double *part = (double *)R_alloc(count, sizeof(double));
    SEXP out = PROTECT(allocVector(REALSXP, count));
    memset(REAL(out), 0, count * sizeof(double));
    for (R_xlen_t first = 0; first < n; first += FEATURE_POINTS) {
        R_xlen_t some = n - first < FEATURE_POINTS ? n - first : FEATURE_POINTS;
        r_raise(inducing_solve(m, L, 1, some, bar + first * m, team, r_interrupts(), weights));
        r_raise(laplace_slopes(&sl, m, from, some, points + first * sc.d, weights, team, part));
        for (int l = 0; l < count; l++)
            REAL(out)[l] += part[l];
    }
    UNPROTECT(1);
    return out;
}

/* sum_uv A_uv d k(z_u, z_v) / d log lengthscale for the inducing inputs z. */
SEXP laplace_inducing(SEXP gp, SEXP A, SEXP threads)
{
    scaling sc = r_scaling(r_element(gp, "x"), r_element(gp, "kernel"));
    SEXP z = r_element(gp, "inducing");
    int m = nrows(z);
    slopes sl = slopes_new(&sc.kern, sc.d, has_axes(gp), 0);
    const double *points = r_scaled(&sc, z);
    SEXP out = PROTECT(allocVector(REALSXP, slopes_count(&sl)));
    r_raise(
        laplace_slopes(&sl, m, points, m, points, r_doubles(A, "A", (R_xlen_t)m * m), r_threads(threads), REAL(out)));
    UNPROTECT(1);
    return out;
}

/* B^-1 X or B'^-1 X for X (q x n). */
SEXP laplace_solves(SEXP id, SEXP coef, SEXP X, SEXP transposed)
{
    int n = ncols(X), q = nrows(X), k = ncols(id);
    SEXP out = PROTECT(duplicate(X));
    r_raise(laplace_solve(k, n, r_ids(id, n), r_doubles(coef, "coef", (R_xlen_t)k * n), asLogical(transposed), q,
                          r_interrupts(), REAL(out)));
    UNPROTECT(1);
    return out;
}

/* list(to_D, to_coef) of laplace_pairs(). */
SEXP laplace_pair_sums(SEXP id, SEXP weight, SEXP L, SEXP H, SEXP RL, SEXP RH, SEXP threads)
{
    static const char *names[] = {"to_D", "to_coef"};
    int n = ncols(L), q = nrows(L), k = ncols(id);
    R_xlen_t size = (R_xlen_t)q * n;
    SEXP out = PROTECT(r_list(2, names));
    SET_VECTOR_ELT(out, 0, allocVector(REALSXP, n));
    SET_VECTOR_ELT(out, 1, allocMatrix(REALSXP, k, n));
    laplace_pairs(k, n, r_ids(id, n), q, r_doubles(weight, "weight", q), r_doubles(L, "L", size),
                  r_doubles(H, "H", size), r_doubles(RL, "RL", size), r_doubles(RH, "RH", size), r_threads(threads),
                  REAL(VECTOR_ELT(out, 0)), REAL(VECTOR_ELT(out, 1)));
    UNPROTECT(1);
    return out;
}

/* A diag(weight) B' (p x q) for A (p x n) and B (q x n), weight NULL for 1. */
SEXP laplace_crossproduct(SEXP A, SEXP B, SEXP weight, SEXP threads)
{
    int p = nrows(A), q = nrows(B), n = ncols(A);
    SEXP out = PROTECT(allocMatrix(REALSXP, p, q));
    const double *scale = weight == R_NilValue ? NULL : r_doubles(weight, "weight", n);
    r_raise(laplace_cross(p, q, n, r_doubles(A, "A", (R_xlen_t)p * n), r_doubles(B, "B", (R_xlen_t)q * n), scale,
                          r_threads(threads), r_interrupts(), REAL(out)));
    UNPROTECT(1);
    return out;
}

/* C' V (q x n) for C (m x q) and V (m x n). */
SEXP laplace_combination(SEXP C, SEXP V, SEXP threads)
{
    int m = nrows(C), q = ncols(C), n = ncols(V);
    SEXP out = PROTECT(allocMatrix(REALSXP, q, n));
    r_raise(laplace_combine(m, q, n, r_doubles(C, "C", -1), r_doubles(V, "V", (R_xlen_t)m * n), r_threads(threads),
                            REAL(out)));
    UNPROTECT(1);
    return out;
}

/* B' X for X (q x n). */
SEXP laplace_collects(SEXP id, SEXP coef, SEXP X)
{
    int n = ncols(X), q = nrows(X), k = ncols(id);
    SEXP out = PROTECT(allocMatrix(REALSXP, q, n));
    r_raise(laplace_collect(k, n, r_ids(id, n), r_doubles(coef, "coef", (R_xlen_t)k * n), q, r_doubles(X, "X", -1),
                            r_interrupts(), REAL(out)));
    UNPROTECT(1);
    return out;
}

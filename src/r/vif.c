#include "r/entry.h"

#include "model/inducing.h"
#include "r/glue.h"
#include "vif/vif.h"

#include <R.h>
#include <math.h>

static void raise_vif(status outcome)
{
    if (outcome.code == STATUS_NOT_POSITIVE_DEFINITE)
        error("the residual covariance of point %lld and its neighbours is not positive definite: "
              "duplicates, or inputs too close for this kernel; use a positive `nugget`",
              (long long)outcome.where + 1);
    r_raise(outcome);
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
    SEXP x = r_element(holder, "x"), V = r_element(holder, "V");
    vif_points out = {.n = nrows(x), .x = r_scaled(fr, x)};
    const double *residual = r_doubles(r_element(holder, "variance"), "variance", out.n);
    const double *extra = r_doubles(noise, "noise", out.n);
    double *variance = (double *)R_alloc(out.n + 1, sizeof(double));
    for (size_t i = 0; i < out.n; i++)
        variance[i] = fmax(residual[i], 0.0) + extra[i];
    out.v = r_doubles(V, "V", (R_xlen_t)out.n * nrows(V));
    out.variance = variance;
    return out;
}

SEXP vif_regression(SEXP gp, SEXP noise, SEXP id, SEXP children, SEXP child_noise, SEXP threads)
{
    static const char *names[] = {"coef", "D"};
    frame fr = r_frame(r_element(gp, "x"), r_element(gp, "kernel"));
    vif_points parents = unpack_vif(&fr, gp, noise), own = parents;
    if (children != R_NilValue)
        own = unpack_vif(&fr, children, child_noise);
    int k = ncols(id);
    SEXP out = PROTECT(r_list(2, names));
    SET_VECTOR_ELT(out, 0, allocMatrix(REALSXP, k, (int)own.n));
    SET_VECTOR_ELT(out, 1, allocVector(REALSXP, own.n));
    raise_vif(vif_regress(&fr.kern, fr.d, nrows(r_element(gp, "V")), &parents, &own, k,
                          unpack_ids(id, own.n), r_threads(threads), REAL(VECTOR_ELT(out, 0)),
                          REAL(VECTOR_ELT(out, 1))));
    UNPROTECT(1);
    return out;
}

SEXP vif_contrasts(SEXP id, SEXP coef, SEXP parents, SEXP children, SEXP threads)
{
    int n = ncols(children), q = nrows(children), k = ncols(id);
    vif_table table = {k, unpack_ids(id, n), r_doubles(coef, "coef", (R_xlen_t)k * n)};
    SEXP out = PROTECT(allocMatrix(REALSXP, q, n));
    vif_contrast(&table, q, r_doubles(parents, "parents", -1), n,
                 r_doubles(children, "children", -1), r_threads(threads), REAL(out));
    UNPROTECT(1);
    return out;
}

SEXP vif_crossproduct(SEXP A, SEXP B, SEXP weight, SEXP threads)
{
    int p = nrows(A), q = nrows(B), n = ncols(A);
    SEXP C = PROTECT(allocMatrix(REALSXP, p, q));
    r_raise(vif_cross(p, q, n, r_doubles(A, "A", -1), r_doubles(B, "B", (R_xlen_t)q * n),
                      weight == R_NilValue ? NULL : r_doubles(weight, "weight", n),
                      r_threads(threads), REAL(C)));
    UNPROTECT(1);
    return C;
}

SEXP vif_norms(SEXP L, SEXP W, SEXP threads)
{
    int m = nrows(W), n = ncols(W);
    SEXP norm = PROTECT(allocVector(REALSXP, n));
    r_raise(vif_precision(m, r_doubles(L, "L", (R_xlen_t)m * m), n, r_doubles(W, "W", -1),
                          r_threads(threads), REAL(norm), NULL));
    UNPROTECT(1);
    return norm;
}

SEXP vif_derivative(SEXP gp, SEXP noise, SEXP id, SEXP evaluation, SEXP threads)
{
    static const char *names[] = {"signal", "noise", "slope", "features"};
    frame fr = r_frame(r_element(gp, "x"), r_element(gp, "kernel"));
    vif_points points = unpack_vif(&fr, gp, noise);
    SEXP z = r_element(gp, "inducing");
    size_t n = points.n;
    int m = nrows(z), k = ncols(id), team = r_threads(threads);
    R_xlen_t size = (R_xlen_t)m * n;
    vif_table table = {k, unpack_ids(id, n),
                       r_doubles(r_element(evaluation, "coef"), "coef", (R_xlen_t)k * n)};
    double *norm = (double *)R_alloc(n + 1, sizeof(double));
    double *G = (double *)R_alloc(size + 1, sizeof(double));
    double *vbar = (double *)R_alloc(size + 1, sizeof(double));
    double *through_z = (double *)R_alloc(fr.d, sizeof(double));
    vif_state state = {
        .D = r_doubles(r_element(evaluation, "D"), "D", n),
        .W = r_doubles(r_element(evaluation, "W"), "W", size),
        .norm = norm,
        .b = r_doubles(r_element(evaluation, "b"), "b", m),
        .error = r_doubles(r_element(evaluation, "error"), "error", n),
        .centred = r_doubles(r_element(evaluation, "centred"), "centred", n),
    };
    r_raise(vif_precision(m, r_doubles(r_element(evaluation, "root"), "root", (R_xlen_t)m * m), n,
                          state.W, team, norm, G));
    SEXP out = PROTECT(r_list(4, names));
    SET_VECTOR_ELT(out, 0, allocVector(REALSXP, 1));
    SET_VECTOR_ELT(out, 1, allocVector(REALSXP, n));
    SET_VECTOR_ELT(out, 2, allocVector(REALSXP, fr.d));
    SET_VECTOR_ELT(out, 3, allocMatrix(REALSXP, m, m));
    double *slope = REAL(VECTOR_ELT(out, 2));
    raise_vif(vif_adjoint(&fr.kern, fr.d, m, &points, &table, &state, team, G,
                          REAL(VECTOR_ELT(out, 0)), REAL(VECTOR_ELT(out, 1)), slope, vbar));
    /* from the features to L (left to R, by features = vbar V') and to k(z, x), whose adjoint is
     * L^-T vbar */
    r_raise(vif_cross(m, m, n, vbar, points.v, NULL, team, REAL(VECTOR_ELT(out, 3))));
    r_raise(inducing_weights(m, r_doubles(r_element(gp, "chol"), "chol", (R_xlen_t)m * m), n, vbar,
                             team, r_interrupts(), vbar));
    r_raise(
        vif_kernel_slopes(&fr.kern, fr.d, m, r_scaled(&fr, z), n, points.x, vbar, team, through_z));
    for (int u = 0; u < fr.d; u++)
        slope[u] += through_z[u];
    UNPROTECT(1);
    return out;
}

/* sum_uv A_uv d k(z_u, z_v) / d log lengthscale. */
SEXP vif_slopes(SEXP gp, SEXP z, SEXP A, SEXP threads)
{
    frame fr = r_frame(r_element(gp, "x"), r_element(gp, "kernel"));
    int m = nrows(z);
    const double *points = r_scaled(&fr, z);
    SEXP out = PROTECT(allocVector(REALSXP, fr.d));
    r_raise(vif_kernel_slopes(&fr.kern, fr.d, m, points, m, points,
                              r_doubles(A, "A", (R_xlen_t)m * m), r_threads(threads), REAL(out)));
    UNPROTECT(1);
    return out;
}

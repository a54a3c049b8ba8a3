#include "r/entry.h"

#include "base/scratch.h"
#include "r/glue.h"
#include "vif/likelihood.h"
#include "vif/vif.h"

#include <R.h>

SEXP vif_regression(SEXP gp, SEXP noise, SEXP id, SEXP children, SEXP child_noise, SEXP threads)
{
    static const char *names[] = {"coef", "D"};
    scaling sc = r_scaling(r_element(gp, "x"), r_element(gp, "kernel"));
    vif_points parents = r_vif_points(&sc, gp, noise), own = parents;
    if (children != R_NilValue)
        own = r_vif_points(&sc, children, child_noise);
    int k = ncols(id);
    SEXP out = PROTECT(r_list(2, names));
    SET_VECTOR_ELT(out, 0, allocMatrix(REALSXP, k, (int)own.n));
    SET_VECTOR_ELT(out, 1, allocVector(REALSXP, own.n));
    const monitor *mon = r_interrupts();
    r_raise_vif(vif_regress(&sc.kern, sc.d, nrows(r_element(gp, "V")), &parents, &own, k, r_ids(id, own.n),
                            r_threads(threads), mon, REAL(VECTOR_ELT(out, 0)), REAL(VECTOR_ELT(out, 1)), NULL),
                own.n);
    UNPROTECT(1);
    return out;
}

SEXP vif_contrasts(SEXP id, SEXP coef, SEXP parents, SEXP children, SEXP threads)
{
    int n = ncols(children), q = nrows(children), k = ncols(id);
    vif_table table = {k, r_ids(id, n), r_doubles(coef, "coef", (R_xlen_t)k * n)};
    SEXP out = PROTECT(allocMatrix(REALSXP, q, n));
    vif_contrast(&table, q, r_doubles(parents, "parents", -1), n, r_doubles(children, "children", -1),
                 r_threads(threads), REAL(out));
    UNPROTECT(1);
    return out;
}

SEXP vif_norm(SEXP L, SEXP W, SEXP threads)
{
    int m = nrows(W), n = ncols(W);
    SEXP norm = PROTECT(allocVector(REALSXP, n));
    r_raise(vif_norms(m, r_doubles(L, "L", (R_xlen_t)m * m), n, r_doubles(W, "W", -1), r_threads(threads),
                      r_interrupts(), REAL(norm)));
    UNPROTECT(1);
    return norm;
}

static void free_pool(SEXP pointer)
{
    scratch_pool_free(R_ExternalPtrAddr(pointer));
    R_ClearExternalPtr(pointer);
}

SEXP vif_memory(void)
{
    SEXP pointer = PROTECT(R_MakeExternalPtr(NULL, install("vif_memory"), R_NilValue));
    R_RegisterCFinalizerEx(pointer, free_pool, TRUE);
    R_SetExternalPtrAddr(pointer, scratch_pool_new());
    UNPROTECT(1);
    return pointer;
}

SEXP vif_likelihood(SEXP gp, SEXP noise, SEXP nugget, SEXP id, SEXP values, SEXP gradient, SEXP information, SEXP axes,
                    SEXP memory, SEXP threads)
{
    static const char *names[] = {"loglik", "beta", "information", "coef",     "D",        "root",
                                  "b",      "B",    "error",       "residual", "gradient", "fisher"};
    scaling sc = r_scaling(r_element(gp, "x"), r_element(gp, "kernel"));
    SEXP x = r_element(gp, "x"), V = r_element(gp, "V");
    vif_points points;
    if (V != R_NilValue)
        points = r_vif_points(&sc, gp, noise);
    else /* the likelihood makes features itself */
        points = (vif_points){nrows(x), r_scaled(&sc, x), NULL, r_doubles(noise, "noise", nrows(x))};
    R_xlen_t n = points.n;
    int m = nrows(V != R_NilValue ? V : r_element(gp, "inducing")), k = ncols(id), q = nrows(values);
    const monitor *mon = r_interrupts();
    likelihood_task task = {
        .kern = &sc.kern,
        .d = sc.d,
        .m = m,
        .k = k,
        .points = &points,
        .id = r_ids(id, n),
        .noise = r_doubles(noise, "noise", n),
        .nugget = r_spread(r_doubles(nugget, "nugget", -1), XLENGTH(nugget), (int)n),
        .q = q,
        .values = r_doubles(values, "values", (R_xlen_t)q * n),
        .gradient = asLogical(gradient) == TRUE || asInteger(information) > 0,
        .information = asInteger(information),
        .axes = asLogical(axes) == TRUE,
        .smoothness = sc.kern.family == KERNEL_MATERN,
        .threads = r_threads(threads),
        .pool = memory == R_NilValue ? NULL : r_pointer(memory, "vif_memory"),
        .mon = mon,
    };
    if (task.gradient || !points.v) {
        task.z = r_scaled(&sc, r_element(gp, "inducing"));
        task.L = r_doubles(r_element(gp, "chol"), "chol", (R_xlen_t)m * m);
    }
    int parameters = likelihood_parameters(&task);
    SEXP out = PROTECT(r_list(12, names));
    double *loglik = r_new_values(out, 0, 1, -1);
    likelihood_result result = {
        .beta = r_new_values(out, 1, q - 1, -1),
        .information = r_new_values(out, 2, q - 1, q - 1),
        .coef = points.v ? r_new_values(out, 3, k, n) : NULL, /* large fits do not keep them */
        .D = r_new_values(out, 4, n, -1),
        .root = r_new_values(out, 5, m, m),
        .b = r_new_values(out, 6, m, -1),
        .B = r_new_values(out, 7, m, q - 1),
        .error = r_new_values(out, 8, n, -1),
        .residual = r_new_values(out, 9, n, -1),
        .gradient = task.gradient ? r_new_values(out, 10, parameters, -1) : NULL,
        .fisher = task.information ? r_new_values(out, 11, parameters, parameters) : NULL,
    };
    r_raise_vif(likelihood_evaluate(&task, &result), n);
    *loglik = result.loglik;
    UNPROTECT(1);
    return out;
}

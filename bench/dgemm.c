/* A plain dgemm of any BLAS: C (n x block) <- A (m x n)' B (m x block), for bench/dgemm.R. */
#include <R.h>
#include <Rinternals.h>
#include <dlfcn.h>

typedef void dgemm(const char *, const char *, const int *, const int *, const int *, const double *,
                   const double *, const int *, const double *, const int *, const double *,
                   double *, const int *, size_t, size_t);

SEXP bench_dgemm(SEXP path, SEXP A, SEXP B, SEXP C)
{
    void *blas = dlopen(CHAR(asChar(path)), RTLD_NOW | RTLD_LOCAL);
    dgemm *product = blas ? (dgemm *)dlsym(blas, "dgemm_") : NULL;
    if (!product)
        error("no dgemm in %s", CHAR(asChar(path)));
    void (*single)(int) = (void (*)(int))dlsym(blas, "openblas_set_num_threads");
    if (single)
        single(1);
    const int m = nrows(A), n = ncols(A), block = ncols(B);
    const double one = 1.0, zero = 0.0;
    product("T", "N", &n, &block, &m, &one, REAL(A), &m, REAL(B), &m, &zero, REAL(C), &n, 1, 1);
    return R_NilValue;
}

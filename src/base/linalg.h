/* Linear algebra that nothing outside the package must be fast for: blocked Cholesky and triangular
 * solves on the package's own tiles. Matrices are column-major. */
#ifndef VECCHIANN_LINALG_H
#define VECCHIANN_LINALG_H

#include "base/status.h"

/* A <- L with A = L L', lower triangle in, lower triangle out, zeros above. A is m x m. A pivot that
 * is not positive stops the factorisation; `where` is its 0-based index. */
status linalg_cholesky(int m, const monitor *mon, double *A);

/* A lower triangular L in the form the solves want: block rows of the tile's height. Owned by the
 * caller through linalg_triangle_free. */
typedef struct {
    int m, transposed;
    double *blocks;  /* block row I: columns 0 .. rows * I - 1, index-major, `rows` wide */
    double *corners; /* the diagonal blocks, rows x rows, row-major, with inverted diagonal */
} linalg_triangle;

/* Packs L for solves with L, or with L' when transposed is nonzero. */
status linalg_triangle_pack(int m, const double *L, int transposed, linalg_triangle *out);
void linalg_triangle_free(linalg_triangle *triangle);

/* B <- L^-1 B (or L'^-1 B) for one column panel B (m x simd->cols, index-major). */
void linalg_solve_panel(const linalg_triangle *triangle, double *B);

/* out <- (L L')^-1, a row every `stride` values, which are a multiple of simd->cols. */
status linalg_inverse(int m, const monitor *mon, const double *L, int stride, double *out);

#endif

/* Linear algebra that nothing outside the package must be fast for: blocked Cholesky and triangular
 * solves on the package's own tiles. Matrices are column-major. */
#ifndef VECCHIANN_LINALG_H
#define VECCHIANN_LINALG_H

#include "base/status.h"

/* Squared distance of two points, summed over the coordinates in their order. */
static inline double linalg_distance2(int d, const double *a, const double *b)
{
    double s2 = 0.0;
    for (int u = 0; u < d; u++)
        s2 += (a[u] - b[u]) * (a[u] - b[u]);
    return s2;
}

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

/* A Cholesky factor with pivots of the products of `count` points, made row by row: row s is column s of the factor.
 * The memory is the caller's. */
typedef struct {
    int count, rank;
    size_t stride; /* of rows */
    double *factor;
    double *left; /* count: what rows leave of the product of each point with itself */
    int *pivot;   /* rank */
} linalg_pivoted;

/* The point of which most is left, the lowest of several. */
int linalg_pivoted_next(const linalg_pivoted *f);

/* Adds the row of a pivot, from its products with all points and with itself. */
void linalg_pivoted_add(linalg_pivoted *f, int pivot, const double *products, double own);

/* out (rank x rank, row-major) <- M^-1, M the rows at the pivots; returns its Frobenius norm. */
double linalg_pivoted_inverse(const linalg_pivoted *f, double *out);

/* out <- (L L')^-1, a row every `stride` values, which are a multiple of simd->cols. */
status linalg_inverse(int m, const monitor *mon, const double *L, int stride, double *out);

#endif

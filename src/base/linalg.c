#include "base/linalg.h"

#include "base/scratch.h"
#include "simd/simd.h"

#include <math.h>
#include <string.h>

#define CHOLESKY_BLOCK 48

/* Factors the n x n block at A in place; returns the failing pivot or -1. */
static int cholesky_corner(int n, double *A, size_t lda)
{
    for (int j = 0; j < n; j++) {
        double *column = A + j * lda, pivot = column[j];
        for (int u = 0; u < j; u++)
            pivot -= A[j + u * lda] * A[j + u * lda];
        if (!(pivot > 0.0))
            return j;
        column[j] = pivot = sqrt(pivot);
        for (int i = j + 1; i < n; i++) {
            double value = column[i];
            for (int u = 0; u < j; u++)
                value -= A[i + u * lda] * A[j + u * lda];
            column[i] = value / pivot;
        }
    }
    return -1;
}

/* C -= A B' for C (p x q), A (p x k), B (q x k), all inside one column-major matrix. */
static void subtract_product(int p, int q, int k, const double *A, const double *B, double *C, size_t ld,
                             double *panels)
{
    int rows = simd->rows, cols = simd->cols;
    double tile[SIMD_MAX_ROWS * SIMD_MAX_COLS];
    double *right = panels, *left = panels + (size_t)k * (q + cols);
    simd_pack(k, cols, q, B, 1, ld, right);
    for (int i = 0; i < p; i += rows) {
        int height = p - i < rows ? p - i : rows;
        simd_pack(k, rows, height, A + i, 1, ld, left);
        for (int j = 0; j < q; j += cols) {
            int width = q - j < cols ? q - j : cols;
            simd->dot_tile(k, left, right + (size_t)k * j, tile);
            for (int b = 0; b < width; b++)
                for (int a = 0; a < height; a++)
                    C[i + a + (j + b) * ld] -= tile[a * cols + b];
        }
    }
}

status linalg_cholesky(int m, const monitor *mon, double *A)
{
    size_t ld = m;
    double *panels = scratch_alloc((size_t)m * (CHOLESKY_BLOCK + SIMD_MAX_COLS + SIMD_MAX_ROWS), sizeof(double));
    if (!panels)
        return status_fail(STATUS_MEMORY);
    for (int j = 0; j < m; j += CHOLESKY_BLOCK) {
        int width = m - j < CHOLESKY_BLOCK ? m - j : CHOLESKY_BLOCK;
        if (j && monitor_poll(mon, (double)j / m)) {
            scratch_free(panels);
            return status_fail(STATUS_INTERRUPTED);
        }
        double *corner = A + j + j * ld;
        if (j)
            subtract_product(m - j, width, j, A + j, A + j, corner, ld, panels);
        int pivot = cholesky_corner(width, corner, ld);
        if (pivot >= 0) {
            scratch_free(panels);
            return (status){STATUS_NOT_POSITIVE_DEFINITE, (size_t)(j + pivot)};
        }
        for (int b = 0; b < width; b++) { /* the rows below: X <- X corner'^-1 */
            double *column = corner + b * ld;
            for (int u = 0; u < b; u++)
                for (int i = width; i < m - j; i++)
                    column[i] -= corner[i + u * ld] * corner[b + u * ld];
            for (int i = width; i < m - j; i++)
                column[i] /= corner[b + b * ld];
        }
    }
    for (int j = 1; j < m; j++)
        memset(A + j * ld, 0, j * sizeof(double));
    scratch_free(panels);
    return status_ok();
}

/* Solving with L' from the last unknown up is solving with a lower triangle whose rows and columns
 * are reversed, so both cases share one packed form: element (i, j) of the triangle that is solved. */
static double triangle_element(int m, const double *L, int transposed, int i, int j)
{
    return transposed ? L[(m - 1 - j) + (size_t)(m - 1 - i) * m] : L[i + (size_t)j * m];
}

status linalg_triangle_pack(int m, const double *L, int transposed, linalg_triangle *out)
{
    int rows = simd->rows, count = (m + rows - 1) / rows;
    size_t off = (size_t)rows * rows * ((size_t)count * (count - 1) / 2);
    *out = (linalg_triangle){m, transposed, scratch_alloc(off ? off : 1, sizeof(double)),
                             scratch_alloc((size_t)count * rows * rows + 1, sizeof(double))};
    if (!out->blocks || !out->corners) {
        linalg_triangle_free(out);
        return status_fail(STATUS_MEMORY);
    }
    double *block = out->blocks, *corner = out->corners;
    for (int first = 0; first < m; first += rows) {
        for (int j = 0; j < first; j++)
            for (int a = 0; a < rows; a++)
                *block++ = first + a < m ? triangle_element(m, L, transposed, first + a, j) : 0.0;
        for (int a = 0; a < rows; a++)
            for (int b = 0; b < rows; b++) {
                double value = 0.0;
                if (first + a < m && b <= a)
                    value = triangle_element(m, L, transposed, first + a, first + b);
                *corner++ = a == b && value != 0.0 ? 1.0 / value : value;
            }
    }
    return status_ok();
}

void linalg_triangle_free(linalg_triangle *triangle)
{
    scratch_free(triangle->blocks);
    scratch_free(triangle->corners);
    triangle->blocks = triangle->corners = NULL;
}

static void reverse_rows(int m, int cols, double *B)
{
    for (int i = 0; i < m / 2; i++)
        for (int j = 0; j < cols; j++) {
            double held = B[(size_t)i * cols + j];
            B[(size_t)i * cols + j] = B[(size_t)(m - 1 - i) * cols + j];
            B[(size_t)(m - 1 - i) * cols + j] = held;
        }
}

void linalg_solve_panel(const linalg_triangle *triangle, double *B)
{
    int m = triangle->m, rows = simd->rows, cols = simd->cols;
    const double *block = triangle->blocks, *corner = triangle->corners;
    double tile[SIMD_MAX_ROWS * SIMD_MAX_COLS];
    if (triangle->transposed)
        reverse_rows(m, cols, B);
    for (int first = 0; first < m; first += rows, corner += (size_t)rows * rows) {
        int height = m - first < rows ? m - first : rows;
        simd->dot_tile(first, block, B, tile);
        block += (size_t)first * rows;
        simd->solve_corner(height, corner, tile, B + (size_t)first * cols);
    }
    if (triangle->transposed)
        reverse_rows(m, cols, B);
}

status linalg_inverse(int m, const monitor *mon, const double *L, int stride, double *out)
{
    int cols = simd->cols;
    linalg_triangle lower = {0}, upper = {0};
    double *panel = scratch_alloc((size_t)(m + simd->rows) * cols, sizeof(double));
    status outcome = panel ? linalg_triangle_pack(m, L, 0, &lower) : status_fail(STATUS_MEMORY);
    if (!outcome.code)
        outcome = linalg_triangle_pack(m, L, 1, &upper);
    for (int first = 0; first < m && !outcome.code; first += cols) {
        memset(panel, 0, (size_t)m * cols * sizeof(double));
        for (int j = 0; j < cols && first + j < m; j++)
            panel[(size_t)(first + j) * cols + j] = 1;
        linalg_solve_panel(&lower, panel);
        linalg_solve_panel(&upper, panel);
        if (monitor_poll(mon, (double)first / m))
            outcome = status_fail(STATUS_INTERRUPTED);
        for (int u = 0; u < m; u++)
            memcpy(out + (size_t)u * stride + first, panel + (size_t)u * cols, cols * sizeof(double));
    }
    linalg_triangle_free(&lower);
    linalg_triangle_free(&upper);
    scratch_free(panel);
    return outcome;
}

int linalg_pivoted_next(const linalg_pivoted *f)
{
    int pivot = 0;
    for (int i = 1; i < f->count; i++)
        if (f->left[i] > f->left[pivot])
            pivot = i;
    return pivot;
}

void linalg_pivoted_add(linalg_pivoted *f, int pivot, const double *products, double own)
{
    double *row = f->factor + f->rank * f->stride;
    memcpy(row, products, f->count * sizeof(double));
    row[pivot] = own;
    for (int r = 0; r < f->rank; r++)
        simd->add_multiple(f->count, -f->factor[r * f->stride + pivot], f->factor + r * f->stride, row);
    double root = sqrt(row[pivot]);
    for (int i = 0; i < f->count; i++) {
        row[i] /= root;
        f->left[i] -= row[i] * row[i];
    }
    f->left[pivot] = 0.0;
    f->pivot[f->rank++] = pivot;
}

double linalg_pivoted_inverse(const linalg_pivoted *f, double *out)
{
    int rank = f->rank;
    double sum = 0.0;
    for (int j = 0; j < rank; j++)
        for (int i = 0; i < rank; i++) {
            double value = i == j, *entry = out + (size_t)i * rank + j;
            for (int r = j; r < i; r++)
                value -= f->factor[r * f->stride + f->pivot[i]] * out[(size_t)r * rank + j];
            *entry = i < j ? 0.0 : value / f->factor[i * f->stride + f->pivot[i]];
            sum += *entry * *entry;
        }
    return sqrt(sum);
}

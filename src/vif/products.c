#include "vif/products.h"

#include "base/pace.h"
#include "base/scratch.h"
#include "simd/simd.h"

#include <string.h>

#define CROSS_ROWS 128     /* of a sum at once, so that they stay in cache */
#define SLICE_PRODUCTS 4e8 /* of a slice between two polls, at least */

int products_stride(int count) { return (count + simd->cols - 1) / simd->cols * simd->cols; }

/* By all threads: what fills up the rows may be the first touch of memory, which is slow. */
double *products_rows(scratch_pool *pool, size_t n, int count, int zero, int threads)
{
    int stride = products_stride(count), kept = zero ? 0 : count;
    size_t used = n * stride, size = used + (size_t)SIMD_MAX_ROWS * (stride + 1);
    double *rows = scratch_take(pool, size, sizeof(double));
    if (!rows)
        return NULL;
    if (stride > kept) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (size_t i = 0; i < n; i++)
            memset(rows + i * stride + kept, 0, (stride - kept) * sizeof(double));
    }
    memset(rows + used, 0, (size - used) * sizeof(double));
    return rows;
}

/* The first tile down column v that is wanted. */
static size_t first_tile(int rows, int lower, size_t v) { return lower ? v / rows * rows : 0; }

/* Threads share out tiles column by column, so that each reads its part of B only. */
status products_cross(size_t n, int p, const double *A, int lda, int q, const double *B, int ldb, int lower,
                      int threads, const monitor *mon, double *C, int ldc)
{
    size_t rows = simd->rows, cols = simd->cols, high = p, wide = q, tiles = 0;
    size_t least = 1 + (size_t)(SLICE_PRODUCTS / (CROSS_ROWS * (1.0 + (double)p * q)));
    pace slice = pace_over(mon, (n + CROSS_ROWS - 1) / CROSS_ROWS, least);
    for (size_t v = 0; v < wide; v += cols)
        for (size_t u = first_tile(rows, lower, v); u < high; u += rows)
            tiles++;
    for (int i = 0; i < p; i++)
        memset(C + (size_t)i * ldc, 0, ldc * sizeof(double));
    while (pace_next(&slice)) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int part = 0; part < threads; part++) {
            double tile[SIMD_MAX_ROWS * SIMD_MAX_COLS];
            size_t from = tiles * part / threads, to = tiles * (part + 1) / threads,
                   end = slice.last * CROSS_ROWS < n ? slice.last * CROSS_ROWS : n;
            unsigned state = simd_flush();
            for (size_t first = slice.first * CROSS_ROWS; first < end && from < to; first += CROSS_ROWS) {
                size_t count = n - first < CROSS_ROWS ? n - first : CROSS_ROWS, at = 0;
                for (size_t v = 0; v < wide && at < to; v += cols)
                    for (size_t u = first_tile(rows, lower, v); u < high && at < to; u += rows, at++) {
                        if (at < from)
                            continue;
                        simd->strided_tile(count, A + first * lda + u, 1, lda, B + first * ldb + v, ldb, tile);
                        for (size_t a = 0; a < rows && u + a < high; a++)
                            simd->add_multiple(cols, 1, tile + a * cols, C + (u + a) * ldc + v);
                    }
            }
            simd_restore(state);
        }
    }
    return pace_end(&slice);
}

void products_multiply(size_t n, int m, const double *A, int lda, int q, const double *X, int ldx, int add, int threads,
                       double *out, int ldo)
{
    int rows = simd->rows, cols = simd->cols;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t i = 0; i < n; i += rows) {
        double tile[SIMD_MAX_ROWS * SIMD_MAX_COLS];
        unsigned state = simd_flush();
        for (int v = 0; v < q; v += cols) {
            simd->strided_tile(m, A + i * lda, lda, 1, X + v, ldx, tile);
            for (int a = 0; a < rows && i + a < n; a++)
                if (add)
                    simd->add_multiple(cols, 1, tile + a * cols, out + (i + a) * ldo + v);
                else
                    memcpy(out + (i + a) * ldo + v, tile + a * cols, cols * sizeof(double));
        }
        simd_restore(state);
    }
}

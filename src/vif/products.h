/* Products: sums over the rows of long matrices, a row for each point.
 *
 * Sums have one order, whatever the number of threads. Whole tiles are read: matrices come from products_rows. */
#ifndef VECCHIANN_PRODUCTS_H
#define VECCHIANN_PRODUCTS_H

#include "base/scratch.h"
#include "base/status.h"

#include <stddef.h>

/* Values of a row of `count`, with those that fill it up to whole vectors. */
int products_stride(int count);

/* n rows of products_stride(count) values; zero are those beyond the first `count`, or with `zero` all. NULL without
 * memory. The zeros are written by `threads`. For scratch_give. */
double *products_rows(scratch_pool *pool, size_t n, int count, int zero, int threads);

/* C (p x q, rows of `ldc`) <- sum_i a_i b_i' over n rows a_i of A and b_i of B. With `lower` only what is needed for
 * entries (u, v), v <= u. Whole rows of C are written: ldc is a products_stride(). Fails only if the monitor says
 * so. */
status products_cross(size_t n, int p, const double *A, int lda, int q, const double *B, int ldb, int lower,
                      int threads, const monitor *mon, double *C, int ldc);

/* Row i of out <- a_i X, or with `add` is increased by it, for n rows a_i of A (m values), X m x q in rows of `ldx`. */
void products_multiply(size_t n, int m, const double *A, int lda, int q, const double *X, int ldx, int add, int threads,
                       double *out, int ldo);

#endif

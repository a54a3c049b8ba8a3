/* Answers: the k nearest of many queries, in two matrices of R's, filled one query after the other.
 *
 * Searches end in an order of their own, so that to put each where it belongs at once would touch a page for
 * every number. An answer is kept as a row instead, in the order of arrival, and all rows are put in place at
 * the end, column by column. The rows wait in the very matrices that they will fill. Columns of distances
 * are cut into parts, no part wider than the one before it, and the rows of each part wait where the part
 * before it will be; those of the first have memory of their own. Ids wait in the same way, their first part
 * where the last part of the distances will be, or in the memory of the first if there are no distances. So with ids
 * first, and the last part of each matrix before the others, everything moves to memory that is free, and the memory
 * needed beside the matrices is one part: memory that was never touched is dear (see scratch.h). */
#ifndef VECCHIANN_ANSWERS_H
#define VECCHIANN_ANSWERS_H

#include "base/status.h"

#include <stddef.h>

/* Some columns, of `size` bytes a number, where they belong and where their rows wait. */
typedef struct {
    int from, width;
    size_t size;
    void *to, *rows;
} answers_part;

typedef struct {
    size_t count;       /* of queries */
    answers_part *part; /* those of the distances, then those of the ids */
    int parts, dist_parts;
    char *first; /* the rows of the first part */
    int *row_of; /* of each query, the row of its answer; negative until it has one */
    int given;   /* rows */
} answers;

/* For `count` queries: the matrices, count x k by columns, are the caller's; without distances `dist` is NULL. */
status answers_new(size_t count, int k, int *id, double *dist, answers *out);
void answers_free(answers *a);

/* Gives query q its answer, k ids and distances from the first (`dist` is not read without distances); a later one
 * takes the place of an earlier one. Queries may be answered by several threads. */
void answers_give(answers *a, size_t q, const int *id, const double *dist);

/* That query q will soon have one: what is known of it stands anywhere. */
static inline void answers_expect(const answers *a, size_t q) { __builtin_prefetch(&a->row_of[q], 1); }

/* Puts them in place when every query has one. */
void answers_settle(answers *a, int threads);

#endif

/* Answers: the k nearest of many queries, in two matrices of R's, filled one query after the other.
 *
 * Searches end in an order of their own, so that to put each where it belongs at once would touch a page for
 * every number. An answer is kept as a row instead, in the order of arrival, and all rows are put in place at
 * the end, column by column. The rows wait in the very matrices that they will fill. Columns of distances
 * are cut into parts, no part wider than the one before it, and the rows of each part wait where the part
 * before it will be; those of the first have memory of their own. Ids wait in the same way, their first part
 * where the last part of the distances will be. So with ids first, and the last part of each matrix before the others,
 * everything moves to memory that is free, and the memory needed beside the matrices is one part of the distances:
 * memory that was never touched is dear (see scratch.h). */
#ifndef VECCHIANN_ANSWERS_H
#define VECCHIANN_ANSWERS_H

#include "kbest.h"
#include "status.h"

#include <stddef.h>

typedef struct {
    size_t count;       /* of queries */
    int k, parts, wide; /* the first `wide` of so many parts of the distances have a column more */
    int *id;            /* count x k by columns, the caller's, as the next */
    double *dist;
    double *first; /* the rows of the first part of the distances */
    int *place;    /* of each query, the row of its answer; negative until it has one */
    int given;     /* rows */
} answers;

status answers_new(size_t count, int k, int *id, double *dist, answers *out);
void answers_free(answers *a);

/* Gives query q its answer, sorted; a later one takes the place of an earlier one. Queries may be answered by several
 * threads. */
void answers_give(answers *a, size_t q, const kbest *best);

/* Puts them in place when every query has one: ids from 1 and distances; 0, and no distance, where there is no
 * neighbour. */
void answers_settle(answers *a, int threads);

#endif

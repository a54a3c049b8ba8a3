/* Arrangement: the points of an evaluation in the order of space.
 *
 * A regression reads the features of its neighbours, which are near in space but far apart in an order that spreads
 * points out. An evaluation therefore works on copies in which rows that are read together lie together, and gives
 * its results back in the order of the caller: for 10^6 points in maxmin order in 0.6 of the time (bench/README.md).
 * Results are those without, but for the rounding of sums. */
#ifndef VECCHIANN_ARRANGEMENT_H
#define VECCHIANN_ARRANGEMENT_H

#include "vif/evaluation.h"

typedef struct {
    likelihood_task task; /* of the arranged points */
    likelihood_result result;
    vif_points points;
    int *given, *sequence; /* see evaluation.h */
    double *x, *v, *values, *variance, *noise, *nugget, *coef, *D, *error, *residual;
} arrangement;

/* Copies of what a task says of its points; where they have no features (points->v is NULL, and variance the noise)
 * they are made here, from z and L. The task and the result are borrowed. */
status arrangement_new(const likelihood_task *task, const likelihood_result *result, arrangement *out);
void arrangement_free(arrangement *a);

/* The result in the order of the caller. */
void arrangement_return(const arrangement *a, likelihood_result *result);

#endif

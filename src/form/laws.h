/* Laws: a form whose answers are checked by brute force, for tests.
 *
 * laws_of() wraps a form: everything is handed on to it, and what it clears and emits is compared with correlations
 * that the metric evaluates. The thresholds are those of a search, so that the checks are asked where a search would
 * ask the form. For one thread and one search at a time. */
#ifndef VECCHIANN_LAWS_H
#define VECCHIANN_LAWS_H

#include "form/form.h"

/* What was checked, and what of it was wrong. */
typedef struct {
    double cleared;   /* queries that a form took from a cell: no admissible |rho| of it may reach their threshold */
    double intervals; /* that it emitted: each must contain |rho| */
    double silent;    /* pairs of queries that it kept without an interval: |rho| must not reach the threshold */
    double wrong_cleared, wrong_intervals, wrong_silent;
    double pairs; /* of blocks that met */
} laws_count;

/* Counts go to `count` until the next call. NULL without memory. */
const screening_form *laws_of(const screening_form *form, size_t candidates, laws_count *count);
void laws_end(void);

#endif

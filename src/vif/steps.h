/* Steps: an evaluation of a likelihood (likelihood.h) whose points several processes hold.
 *
 * Step 1 has M and W (y, X), step 2 the squares of what the inducing inputs leave, step 3 the errors and derivatives. A
 * process adds up the sums of a step over its children; somebody adds those of all processes and finishes the step,
 * which tells what the next one must know. With information and inducing inputs (always approximate in steps), between
 * steps 1 and 2 regressions of the halo must be carried from their owners (likelihood_regressions), and between 2 and 3
 * what the children of others have to say of the own ones (likelihood_returns). */
#ifndef VECCHIANN_STEPS_H
#define VECCHIANN_STEPS_H

#include "vif/evaluation.h"

typedef struct likelihood likelihood;

/* Runs the first pass. The task's arrays and the result's must live until likelihood_close, not the structs. */
status likelihood_open(const likelihood_task *task, const likelihood_result *result, likelihood **out);
void likelihood_close(likelihood *open);

/* Of the shard; n are its own children. */
likelihood_sizes likelihood_size(const likelihood *open);
/* How many numbers a step sums up, and how many it must know. */
size_t likelihood_sum_count(const likelihood_sizes *sizes, int step);
size_t likelihood_known_count(const likelihood_sizes *sizes, int step);

status likelihood_step(likelihood *open, int step, const double *known, double *sums);

/* From the sums of step 1 or 2 to what the next step knows. */
status likelihood_finish(const likelihood_sizes *sizes, int step, const double *known, const double *sums,
                         double *next);
/* From the sums of step 3 to value and derivatives; known is that of step 3, and result->information that which
 * likelihood_finish found after step 2. */
status likelihood_finish_last(const likelihood_sizes *sizes, const double *known, const double *sums,
                              likelihood_result *result);
/* Parts of what step 3 knows. */
void likelihood_parts(const likelihood_sizes *sizes, const double *known, likelihood_result *result);

/* Rows of `likelihood_regression_width` and `likelihood_return_width` numbers, one for each of `count` points, taken or
 * put. */
size_t likelihood_regression_width(const likelihood *open);
size_t likelihood_return_width(const likelihood *open);
void likelihood_regressions(likelihood *open, int put, size_t count, const int *points, double *rows);
void likelihood_returns(likelihood *open, int put, size_t count, const int *points, double *rows);

#endif

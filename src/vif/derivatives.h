/* Derivatives: from the sums of the second pass to gradient and information (likelihood.h). */
#ifndef VECCHIANN_DERIVATIVES_H
#define VECCHIANN_DERIVATIVES_H

#include "vif/evaluation.h"
#include "vif/information.h"

/* What the second pass has summed up: evaluation_width numbers. */
void derivatives_sums(const evaluation *e, double *sums);

/* What the information is made from. */
information_task derivatives_probes(const evaluation *e, const double *root, const double *trace);

/* From directions to parameters: the variance is everything less all noise. `total` is the derivative in the direction
 * of all covariances, trace and across those of the directions. */
void derivatives_to_parameters(const likelihood_sizes *sizes, double total, const double *slope, const double *trace,
                               const double *across, likelihood_result *out);

/* Gradient and information after the second pass. */
status derivatives_make(const evaluation *e, double total);

#endif

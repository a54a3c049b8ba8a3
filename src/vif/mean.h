/* Mean: what stands between the passes: M and its factor, the mean by generalised least squares, and the value
 * (likelihood.h). */
#ifndef VECCHIANN_MEAN_H
#define VECCHIANN_MEAN_H

#include "vif/evaluation.h"

/* M less the identity (m x m, lower by rows) and E' W for the contrasts E (q rows of m). */
status mean_cross(const evaluation *e, double *M, double *EW);

/* The factor of M, and B = M^-1 W E (m x q). */
status mean_root(int m, int q, const monitor *mon, const double *M, const double *EW, double *root, double *B);

/* Contrasts less what the inducing inputs say of them, and the squares of what is left (q x q). */
status mean_squares(const evaluation *e, const double *B, double *squares);

/* beta, its information, b and B of the covariates, from the squares of step 2. */
status mean_solve(int m, int q, const double *B, const double *squares, likelihood_result *out);

/* Sum of log D over the children. */
double mean_logs(const evaluation *e);

/* Errors, residuals and the sum of the squared errors over the children. */
double mean_errors(const evaluation *e, const double *beta);

/* From the sums over all children; answers y' S^-1 y less the number of observations, half of it. */
double mean_value(size_t n, int m, double logs, double squares, likelihood_result *out);

/* c_j of all points. */
void mean_centre(const evaluation *e, const double *b);

#endif

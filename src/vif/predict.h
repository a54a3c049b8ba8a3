/* Predict: new points, each conditioned on a set of observations that is selected for it and, through all of them, on
 * the inducing variables (see vif.h and select.h). With a the regression of the new residual on the set S and
 * w = v - sum a_j v_j, and z | y ~ N(b, M^-1),
 *   mean     sum a_j y_j + w . b = v . b + sum a_j (y_j - v_j . b)
 *   variance left + w' M^-1 w, `left` what the set leaves of the residual variance.
 * The selection's own partial factor gives a and `left`: nothing is factored again. */
#ifndef VECCHIANN_PREDICT_H
#define VECCHIANN_PREDICT_H

#include "select/select.h"

/* What is known of the observations. */
typedef struct {
    const double *centred; /* n, y_j - v_j . b */
    const double *b;       /* m */
    const double *root;    /* m x m, the Cholesky factor of M; NULL where no variance is wanted */
} predict_state;

/* mean and, unless NULL, variance for each query of the task; id (from 1, 0 for none) and coef, k x count, the sets
 * and regressions, unless NULL. */
status predict_run(const select_task *task, const predict_state *state, double *mean, double *variance, int *id,
                   double *coef);

#endif

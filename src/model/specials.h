/* Specials: points that stand on an inducing input and whose residual variance is nearly gone.
 *
 * For such a point p is about the jitter, and its correlations are differences of nearly equal
 * numbers. But r(z_u, y) = jitter sigma2 w_u(y) exactly, w = L^-T v_y the kriging weights of y, so bounds
 * and screening treat these points by their weights. */
#ifndef VECCHIANN_SPECIALS_H
#define VECCHIANN_SPECIALS_H

#include "model/metric.h"
#include "base/status.h"

/* The Gaussian process behind the features. */
typedef struct {
    const kernel *kern;
    const double *z, *L; /* scaled inducing inputs (d x m) and Cholesky factor; NULL if not known */
    double jitter;
} metric_source;

typedef struct {
    int count, *inputs; /* by increasing index, the inducing input that each stands on */
    int *rank;                /* n, by index: place in these lists, -1 for other points */
} specials;

/* The inducing input that point i stands on if it is special, or -1. */
int specials_input(const metric_source *source, const metric_points *points, size_t i);

status specials_find(const metric_source *source, const metric_points *points, specials *out);
void specials_free(specials *s);

#endif

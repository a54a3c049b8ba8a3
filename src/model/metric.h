/* Metric: residual correlations and the distance made of them.
 *
 *   r_ij   = k(x_i, x_j) - v_i . v_j
 *   p_i    = r_ii + nugget
 *   rho_ij = r_ij / sqrt(p_i p_j) for i != j, clamped to [-1, 1]; 0 when p_i or p_j has vanished
 *   d_ij   = sqrt(1 - |rho_ij|)
 * Gyger, Furrer and Sigrist (2025), section on correlation-based neighbours.
 *
 * The distance is monotone in |rho|, but rounding merges neighbouring values of |rho|: neighbours are
 * ordered by (d, index), so screening by |rho| must be generous by METRIC_SLACK. The quotient, not a
 * product of reciprocals, makes duplicates exactly 0 apart. */
#ifndef VECCHIANN_METRIC_H
#define VECCHIANN_METRIC_H

#include "model/kernel.h"

#include <math.h>

/* Bound on the rounding between |r| * scale_i * scale_j and |rho|, and of 1 - d^2 against |rho|:
 * each is a handful of roundings of numbers at most 1, so 16 units of 1.1e-16 hold both. */
#define METRIC_SLACK 2e-15

/* A set of points as the metric sees it; everything is borrowed. */
typedef struct {
    size_t n;
    int d, m;
    const double *x;        /* d x n, scaled coordinates (see kernel.h) */
    const double *v;        /* m x n, whitened inducing features */
    const double *variance; /* n, p_i; 0 for a point whose residual variance has vanished */
    const double *gain;     /* n, 1 / sqrt(p_i); 0 for such a point */
} metric_points;

/* Fills variance and gain (n each) from residual variances r_ii. A point has vanished when
 * r_ii <= 1e-10 * kernel variance and there is no nugget, or p_i <= 1e-30 * kernel variance. */
void metric_variances(const kernel *kern, size_t n, const double *residual, double nugget, double *variance,
                      double *gain);

static inline double metric_correlation(double r, double pi, double pj)
{
    if (pi == 0.0 || pj == 0.0)
        return 0.0;
    double rho = r / sqrt(pi * pj);
    return rho > 1.0 ? 1.0 : rho < -1.0 ? -1.0 : rho;
}

static inline double metric_distance(double rho) { return sqrt(1.0 - fabs(rho)); }

/* rho[c] for point i of `from` and points ids[c] of `to`, self included as an ordinary pair. */
void metric_list(const kernel *kern, const metric_points *from, size_t i, const metric_points *to, const int *ids,
                 size_t count, double *rho);

/* The same pairs' distances. */
void metric_distances(const kernel *kern, const metric_points *from, size_t i, const metric_points *to, const int *ids,
                      size_t count, double *dist);

#endif

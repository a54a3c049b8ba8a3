#include "model/metric.h"

#define VANISHED 1e-10
#define NOTHING 1e-30 /* of the kernel's variance, nugget included: squares of less leave the range of numbers */
#define LIST_CHUNK 256

void metric_variances(const kernel *kern, size_t n, const double *residual, double nugget, double *variance,
                      double *gain)
{
    for (size_t i = 0; i < n; i++) {
        double whole = (residual[i] > 0.0 ? residual[i] : 0.0) + nugget;
        int gone = (nugget == 0.0 && residual[i] <= VANISHED * kern->variance) || whole <= NOTHING * kern->variance;
        variance[i] = gone ? 0.0 : whole;
        gain[i] = gone ? 0.0 : 1.0 / sqrt(variance[i]);
    }
}

/* Residual covariances of at most LIST_CHUNK pairs. */
static void residuals(const kernel *kern, const metric_points *from, size_t i, const metric_points *to, const int *ids,
                      size_t count, double *r)
{
    radial rad = kernel_radial(kern);
    double dots[LIST_CHUNK];
    simd->distance_list(from->d, from->x + i * from->d, to->x, ids, count, r);
    simd->dot_list(from->m, from->v + i * from->m, to->v, ids, count, dots);
    simd->radial_values(&rad, count, r, r);
    for (size_t c = 0; c < count; c++)
        r[c] -= dots[c];
}

void metric_list(const kernel *kern, const metric_points *from, size_t i, const metric_points *to, const int *ids,
                 size_t count, double *rho)
{
    for (size_t first = 0; first < count; first += LIST_CHUNK) {
        size_t filled = count - first < LIST_CHUNK ? count - first : LIST_CHUNK;
        const int *list = ids + first;
        double *out = rho + first;
        residuals(kern, from, i, to, list, filled, out);
        for (size_t c = 0; c < filled; c++)
            out[c] = metric_correlation(out[c], from->variance[i], to->variance[list[c]]);
    }
}

void metric_distances(const kernel *kern, const metric_points *from, size_t i, const metric_points *to, const int *ids,
                      size_t count, double *dist)
{
    double variance[LIST_CHUNK];
    for (size_t first = 0; first < count; first += LIST_CHUNK) {
        size_t filled = count - first < LIST_CHUNK ? count - first : LIST_CHUNK;
        const int *list = ids + first;
        double *out = dist + first;
        residuals(kern, from, i, to, list, filled, out);
        for (size_t c = 0; c < filled; c++)
            variance[c] = to->variance[list[c]];
        simd->distances(filled, out, from->variance[i], variance, out);
    }
}

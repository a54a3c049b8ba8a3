#include "metric.h"

#define VANISHED 1e-10
#define LIST_CHUNK 256

void metric_variances(const kernel *kern, size_t n, const double *residual, double nugget,
                      double *variance, double *scale)
{
    for (size_t i = 0; i < n; i++) {
        int gone = nugget == 0.0 && residual[i] <= VANISHED * kern->variance;
        variance[i] = gone ? 0.0 : (residual[i] > 0.0 ? residual[i] : 0.0) + nugget;
        scale[i] = gone ? 0.0 : 1.0 / sqrt(variance[i]);
    }
}

void metric_list(const kernel *kern, const metric_points *from, size_t i, const metric_points *to,
                 const int *ids, size_t count, double *rho)
{
    radial rad = kernel_radial(kern);
    double dots[LIST_CHUNK];
    for (size_t first = 0; first < count; first += LIST_CHUNK) {
        size_t filled = count - first < LIST_CHUNK ? count - first : LIST_CHUNK;
        const int *list = ids + first;
        double *out = rho + first;
        simd->distance_list(from->d, from->x + i * from->d, to->x, list, filled, out);
        simd->radial_values(&rad, filled, out, out);
        simd->dot_list(from->m, from->v + i * from->m, to->v, list, filled, dots);
        for (size_t c = 0; c < filled; c++)
            out[c] = metric_correlation(out[c] - dots[c], from->variance[i], to->variance[list[c]]);
    }
}

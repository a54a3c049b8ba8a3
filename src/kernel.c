#include "kernel.h"

#include <Rmath.h>
#include <math.h>
#include <string.h>

#define BESSEL_MAX_ORDER 128

/* exp(s) K_nu(s), with the work array that makes R's routine free of allocation. */
static double bessel_scaled(double s, double nu)
{
    double work[BESSEL_MAX_ORDER];
    return bessel_k_ex(s, nu, 2.0, work);
}

/* 2^(1-nu) / Gamma(nu) s^power K_order(s): the Matern correlation (order = power = nu) and, up to
 * sign, its slope (order = |nu - 1|, power = nu - 1). */
static double bessel_term(double nu, double order, double power, double s)
{
    double log_term = (1.0 - nu) * M_LN2 - lgammafn(nu) + power * log(s) - s;
    return exp(log_term + log(bessel_scaled(s, order)));
}

static double matern_correlation(const void *context, double s2)
{
    double nu = ((const kernel *)context)->smoothness, s = sqrt(s2);
    if (s > 700.0)
        return 0.0;
    /* near 0 K_nu overflows before s^nu K_nu reaches its limit 1 */
    double value = s > 0.0 ? bessel_term(nu, nu, nu, s) : 1.0;
    return value <= 1.0 ? value : 1.0;
}

radial kernel_radial(const kernel *kern)
{
    radial rad = {RADIAL_POLYEXP, kern->variance, 0.0, 0.0, matern_correlation, kern, kern->table};
    switch (kern->family) {
    case KERNEL_MATERN12:
        break;
    case KERNEL_MATERN32:
        rad.c1 = 1.0;
        break;
    case KERNEL_MATERN52:
        rad.c1 = 1.0;
        rad.c2 = 1.0 / 3.0;
        break;
    case KERNEL_RBF:
        rad.form = RADIAL_GAUSSIAN;
        break;
    case KERNEL_MATERN:
        rad.form = RADIAL_FUNCTION;
        break;
    }
    return rad;
}

void kernel_tabulate(kernel *kern, float *table)
{
    double left = 1.0;
    kern->table_error = 0.0;
    for (int cell = 0; cell < RADIAL_CELLS; cell++) {
        int32_t bits = (RADIAL_FIRST + cell + 1) * (1 << 15);
        float end;
        memcpy(&end, &bits, sizeof(end));
        double right = cell + 1 < RADIAL_CELLS ? matern_correlation(kern, end) : 0.0;
        table[cell] = (float)(0.5 * (left + right));
        kern->table_error = fmax(kern->table_error, 0.5 * (left - right) + 1e-7);
        left = right;
    }
    kern->table = table;
}

static double family_scale(const kernel *kern)
{
    switch (kern->family) {
    case KERNEL_MATERN12:
        return 1.0;
    case KERNEL_MATERN32:
        return sqrt(3.0);
    case KERNEL_MATERN52:
        return sqrt(5.0);
    case KERNEL_RBF:
        return sqrt(0.5);
    case KERNEL_MATERN:
        return sqrt(2.0 * kern->smoothness);
    }
    return 1.0;
}

void kernel_scale(const kernel *kern, const double *x, size_t n, int d, const double *lengthscale,
                  const double *centre, double *out)
{
    double scale = family_scale(kern);
    for (int u = 0; u < d; u++) {
        double factor = scale / lengthscale[u];
        for (size_t i = 0; i < n; i++)
            out[i * (size_t)d + u] = (x[(size_t)u * n + i] - centre[u]) * factor;
    }
}

void kernel_values(const kernel *kern, size_t count, const double *s2, double *out)
{
    radial rad = kernel_radial(kern);
    simd->radial_values(&rad, count, s2, out);
}

double kernel_value(const kernel *kern, double s2)
{
    double out;
    kernel_values(kern, 1, &s2, &out);
    return out;
}

void kernel_row(const kernel *kern, int d, const double *x, size_t count, const double *y,
                double *out)
{
    for (size_t j = 0; j < count; j++) {
        double s2 = 0.0;
        for (int u = 0; u < d; u++) {
            double diff = x[u] - y[j * (size_t)d + u];
            s2 += diff * diff;
        }
        out[j] = s2;
    }
    kernel_values(kern, count, out, out);
}

double kernel_slope(const kernel *kern, double s2)
{
    double s = sqrt(s2), nu = kern->smoothness;
    switch (kern->family) {
    case KERNEL_MATERN12:
        return s > 0.0 ? -kern->variance * exp(-s) / s : 0.0;
    case KERNEL_MATERN32:
        return -kern->variance * exp(-s);
    case KERNEL_MATERN52:
        return -kern->variance * (1.0 + s) * exp(-s) / 3.0;
    case KERNEL_RBF:
        return -2.0 * kern->variance * exp(-s2);
    case KERNEL_MATERN:
        if (s > 700.0)
            return 0.0;
        if (s > 0.0) {
            double slope = -kern->variance * bessel_term(nu, fabs(nu - 1.0), nu - 1.0, s);
            if (isfinite(slope))
                return slope;
        }
        return nu > 1.0 ? -kern->variance / (2.0 * (nu - 1.0)) : 0.0;
    }
    return 0.0;
}

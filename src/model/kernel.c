#include "model/kernel.h"

#include <Rmath.h>
#include <math.h>
#include <string.h>

#define BESSEL_ORDERS 10 /* smoothness from here on goes by quadrature */
#define BESSEL_FAR 700.0 /* where no correlation is left of a smaller one */

/* exp(s) K_order(s) for 0 <= order < BESSEL_ORDERS, with the work array that R's routine would allocate. */
static double bessel_scaled(double s, double order)
{
    double work[BESSEL_ORDERS];
    return bessel_k_ex(s, order, 2.0, work);
}

/* 2^(1-nu) / Gamma(nu) s^power K_order(s): the Matern correlation (order = power = nu) and, up to
 * sign, its slope (order = |nu - 1|, power = nu - 1). */
static double bessel_term(double nu, double order, double power, double s)
{
    double log_term = (1.0 - nu) * M_LN2 - lgammafn(nu) + power * log(s) - s;
    return exp(log_term + log(bessel_scaled(s, order)));
}

/* lgamma(nu) without its leading terms (nu - 1/2) log(nu) - nu + log(2 pi) / 2, for nu >= 9. */
static double stirling_rest(double nu)
{
    double r = 1.0 / nu, r2 = r * r;
    return r * (1.0 / 12.0 -
                r2 * (1.0 / 360.0 -
                      r2 * (1.0 / 1260.0 -
                            r2 * (1.0 / 1680.0 - r2 * (1.0 / 1188.0 - r2 * (691.0 / 360360.0))))));
}

/* The Matern correlation as a mean of exp(-s^2 / (4 g)) over g from a Gamma(nu) distribution, an integral of
 * positive terms, for nu >= 9. In t = log(g / mode) the terms are exp(nu t - mode (e^t - 1) - b (e^-t - 1)); steps
 * of half a standard deviation of their peak leave an error far below rounding. */
static double matern_mean(double nu, double s)
{
    double width = hypot(nu, s), b = 0.5 * s * (s / (nu + width)), mode = nu + b;
    double log_peak =
        nu * log1p(b / nu) - 2.0 * b + 0.5 * log(0.5 * M_1_PI * nu) - stirling_rest(nu);
    if (!(log_peak > -745.0))
        return 0.0;
    double step = 0.5 / sqrt(width), sum = 1.0;
    for (int side = -1; side <= 1; side += 2)
        for (int i = 1;; i++) {
            double t = side * step * i, term = exp(nu * t - mode * expm1(t) - b * expm1(-t));
            sum += term;
            if (term < 1e-18)
                break;
        }
    return exp(log_peak) * (sum * step);
}

/* Scaled distances are those of rbf, whatever the smoothness; Bessel functions want sqrt(2 nu) r. */
static double bessel_distance(double nu, double s2) { return 2.0 * sqrt(nu) * sqrt(s2); }

static double matern_correlation(const void *context, double s2)
{
    double nu = ((const kernel *)context)->smoothness, s = bessel_distance(nu, s2);
    double value = 1.0;
    if (nu >= BESSEL_ORDERS)
        value = matern_mean(nu, s);
    else if (s > BESSEL_FAR)
        value = 0.0;
    else if (s > 0.0)
        value = bessel_term(nu, nu, nu, s);
    /* near 0 K_nu overflows before s^nu K_nu reaches its limit 1 */
    return value <= 1.0 ? value : 1.0;
}

radial kernel_radial(const kernel *kern)
{
    radial rad = {RADIAL_POLYEXP, kern->variance, 0.0, 0.0, matern_correlation, kern};
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

/* The number whose single-precision bits start a piece, the end of the one before. */
static double piece_start(const radial_pieces *pieces, int piece)
{
    int32_t bits = (int32_t)((uint32_t)(pieces->base + piece) << pieces->shift);
    float start;
    memcpy(&start, &bits, sizeof(start));
    return start;
}

/* The cubic through kappa at the Chebyshev nodes of one piece, and its largest error as seen at
 * `steps` points; certified adds what it may be between them: there kappa lies below its chord, but not
 * below the chord of a neighbour, carried on, because it is convex. */
static double fill_piece(const kernel *kern, int steps, int certified, int piece,
                         radial_pieces *out)
{
    double unit = 1.0 / kern->variance, from = piece ? piece_start(out, piece) : 0.0;
    static const double place[] = {-0.9238795325112867, -0.3826834323650898, 0.3826834323650898,
                                   0.9238795325112867};
    double to = piece_start(out, piece + 1), node[4], divided[4];
    if (piece == RADIAL_PIECES - 1) { /* without end: level */
        double left = kernel_value(kern, from) * unit;
        out->value[piece] = (float)(0.5 * left);
        out->slope[piece] = out->curve[piece] = out->twist[piece] = 0.0f;
        return 0.5 * left;
    }
    for (int i = 0; i < 4; i++) {
        node[i] = 0.5 * (from + to) + 0.5 * (to - from) * place[i];
        divided[i] = kernel_value(kern, node[i]) * unit;
    }
    for (int order = 1; order < 4; order++) /* Newton's form */
        for (int i = 3; i >= order; i--)
            divided[i] = (divided[i] - divided[i - 1]) / (node[i] - node[i - order]);
    double twist = divided[3], curve = divided[2] - twist * (node[0] + node[1] + node[2]),
           slope = divided[1] - divided[2] * (node[0] + node[1]) +
                   twist * (node[0] * node[1] + node[0] * node[2] + node[1] * node[2]),
           value = divided[0] - node[0] * (divided[1] - node[1] * (divided[2] - node[2] * twist));
    double step = (to - from) / steps, low = INFINITY, high = -INFINITY, gap = 0.0;
    double before = kernel_value(kern, from) * unit, chord = -INFINITY;
    for (int i = 0; i <= steps; i++) {
        double at = from + step * i, now = kernel_value(kern, at) * unit;
        double error = value + at * (slope + at * (curve + at * twist)) - now;
        low = fmin(low, error);
        high = fmax(high, error);
        if (i > 0) {
            double next = (now - before) / step;
            if (i > 1)
                gap = fmax(gap, step * (next - chord));
            chord = next;
        }
        before = now;
    }
    out->value[piece] = (float)(value - 0.5 * (high + low));
    out->slope[piece] = (float)slope;
    out->curve[piece] = (float)curve;
    out->twist[piece] = (float)twist;
    if (!certified)
        return 0.5 * (high - low);
    double bent =
        fmax(fabs(2.0 * curve + 6.0 * twist * from), fabs(2.0 * curve + 6.0 * twist * to));
    return 0.5 * (high - low) + gap + 0.125 * bent * step * step;
}

static void fill_pieces(const kernel *kern, int steps, int certified, radial_pieces *out)
{
    double most = 0.0;
    for (int piece = 0; piece < RADIAL_PIECES; piece++)
        most = fmax(most, fill_piece(kern, steps, certified, piece, out));
    out->error = (float)(most + 4e-6); /* and the rounding of the cubics */
}

void kernel_pieces(const kernel *kern, radial_pieces *out)
{
    radial_pieces tried;
    out->error = INFINITY;
    for (int halves = 0; halves < 3; halves++) /* 1, 2 or 4 for each power of 2 */
        for (int end = -1; end < 10; end++) {
            tried.shift = 23 - halves;
            tried.base = ((127 + end) << halves) - RADIAL_PIECES + 1;
            fill_pieces(kern, 6, 0, &tried);
            if (tried.error < out->error)
                *out = tried;
        }
    fill_pieces(kern, 256, 1, out);
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
        return sqrt(0.5);
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

/* kappa'(s) / s in the scaled distance: the correlation of smoothness nu - 1, but for a factor. */
static double matern_slope(double nu, double s2)
{
    double s = bessel_distance(nu, s2), slope = 0.0;
    if (nu >= BESSEL_ORDERS)
        return -2.0 * nu / (nu - 1.0) * matern_mean(nu - 1.0, s);
    if (s > BESSEL_FAR)
        return 0.0;
    if (s > 0.0)
        slope = -4.0 * nu * bessel_term(nu, fabs(nu - 1.0), nu - 1.0, s);
    if (s > 0.0 && isfinite(slope))
        return slope;
    return nu > 1.0 ? -2.0 * nu / (nu - 1.0) : 0.0;
}

double kernel_slope(const kernel *kern, double s2)
{
    double s = sqrt(s2);
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
        return kern->variance * matern_slope(kern->smoothness, s2);
    }
    return 0.0;
}

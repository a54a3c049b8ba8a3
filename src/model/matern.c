#include "model/matern.h"

#include <Rmath.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define BESSEL_ORDERS 10 /* smoothness from here on goes by quadrature */
#define BESSEL_FAR 700.0 /* where no correlation is left of a smaller one */
#define BESSEL_LOG 700.0 /* exp() of more is infinite */

/* exp(s) K_order(s) for 0 <= order < BESSEL_ORDERS, with the work array that R's routine would allocate. */
static double bessel_scaled(double s, double order)
{
    double work[BESSEL_ORDERS];
    if (order * log(2.0 / s) > BESSEL_LOG) /* R's routine would warn, from whatever thread this is */
        return INFINITY;
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
                      r2 * (1.0 / 1260.0 - r2 * (1.0 / 1680.0 - r2 * (1.0 / 1188.0 - r2 * (691.0 / 360360.0))))));
}

/* The Matern correlation as a mean of exp(-s^2 / (4 g)) over g from a Gamma(nu) distribution, an integral of
 * positive terms, for nu >= 9. In t = log(g / mode) the terms are exp(nu t - mode (e^t - 1) - b (e^-t - 1)); steps
 * of half a standard deviation of their peak leave an error far below rounding. */
static double matern_mean(double nu, double s)
{
    double width = hypot(nu, s), b = 0.5 * s * (s / (nu + width)), mode = nu + b;
    double log_peak = nu * log1p(b / nu) - 2.0 * b + 0.5 * log(0.5 * M_1_PI * nu) - stirling_rest(nu);
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

static double exact_value(double nu, double s)
{
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

/* kappa'(s) / s in the scaled distance: the correlation of smoothness nu - 1, but for a factor. */
static double exact_slope(double nu, double s)
{
    double slope = 0.0;
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

/* The piece of the table that s is in, or -1, and its place there, from -1 to 1. */
static int piece_of(double s, double *place)
{
    int64_t bits;
    memcpy(&bits, &s, sizeof(bits));
    int piece = (int)(bits >> 50) - 4 * (1023 + MATERN_LOW);
    if (piece < 0 || piece >= MATERN_PIECES)
        return -1;
    int64_t within = bits & 0x3ffffffffffff; /* the 50 bits below the piece's */
    *place = ldexp((double)(2 * within + 1), -50) - 1.0;
    return piece;
}

static double polynomial(const double *c, double u)
{
    double u2 = u * u, even = c[MATERN_DEGREE - 1], odd = c[MATERN_DEGREE];
    for (int j = MATERN_DEGREE - 3; j >= 0; j -= 2) {
        even = even * u2 + c[j];
        odd = odd * u2 + c[j + 1];
    }
    return even + u * odd;
}

/* Coefficients of the polynomial through values at the Chebyshev nodes of [-1, 1]. */
static void interpolate(const double *value, double *out)
{
    const int count = MATERN_DEGREE + 1;
    double before[MATERN_DEGREE + 1] = {1.0}, now[MATERN_DEGREE + 1] = {0.0, 1.0};
    memset(out, 0, count * sizeof(double));
    for (int j = 0; j < count; j++) { /* the coefficient of the j-th Chebyshev polynomial, and that polynomial */
        double sum = 0.0;
        for (int i = 0; i < count; i++)
            sum += value[i] * cos(M_PI * j * (i + 0.5) / count);
        sum *= (j ? 2.0 : 1.0) / count;
        for (int i = 0; i < count; i++)
            out[i] += sum * before[i];
        double next[MATERN_DEGREE + 1];
        for (int i = 0; i < count; i++)
            next[i] = (i ? 2.0 * now[i - 1] : 0.0) - before[i];
        memcpy(before, now, sizeof(now));
        memcpy(now, next, sizeof(next));
    }
}

void matern_fill(double nu, matern_table *out)
{
    out->smoothness = 0.0;
    if (nu >= BESSEL_ORDERS)
        return;
    for (int piece = 0; piece < MATERN_PIECES; piece++) {
        double from = ldexp(1.0 + 0.25 * (piece & 3), MATERN_LOW + (piece >> 2)),
               width = ldexp(0.25, MATERN_LOW + (piece >> 2));
        double value[MATERN_DEGREE + 1], slope[MATERN_DEGREE + 1];
        int far = from + width > BESSEL_FAR; /* nothing is left there */
        for (int i = 0; i <= MATERN_DEGREE; i++) {
            double s = from + 0.5 * width * (1.0 + cos(M_PI * (i + 0.5) / (MATERN_DEGREE + 1)));
            double grown = far ? 0.0 : exp(s);
            value[i] = far ? 0.0 : exact_value(nu, s) * grown;
            slope[i] = far ? 0.0 : exact_slope(nu, s) * grown;
        }
        interpolate(value, out->value[piece]);
        interpolate(slope, out->slope[piece]);
    }
    out->smoothness = nu;
}

double matern_value(double nu, const matern_table *table, double s2)
{
    double s = bessel_distance(nu, s2), u;
    int piece = table && table->smoothness == nu ? piece_of(s, &u) : -1;
    if (piece < 0)
        return exact_value(nu, s);
    double value = polynomial(table->value[piece], u) * exp(-s);
    return value <= 1.0 ? value : 1.0;
}

double matern_slope(double nu, const matern_table *table, double s2)
{
    double s = bessel_distance(nu, s2), u;
    int piece = table && table->smoothness == nu ? piece_of(s, &u) : -1;
    if (piece < 0)
        return exact_slope(nu, s);
    return polynomial(table->slope[piece], u) * exp(-s);
}

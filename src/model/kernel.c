#include "model/kernel.h"

#include <math.h>
#include <string.h>

#define TABLES 8 /* of smoothnesses that are kept, the latest */

/* A family of kernels. `scale` makes scaled coordinates of coordinates in lengthscales (kernel.h). Bounds want a value
 * that falls with the distance, and pieces one that is convex in its square; Matern and rbf are both (Schoenberg,
 * 1938). */
typedef struct {
    const char *name;
    double scale;
    radial_kind kind; /* with c1 and c2, see simd.h */
    double c1, c2;
    double (*function)(const void *context, double s2); /* RADIAL_FUNCTION: kappa */
    double (*slope)(const kernel *kern, double s2);     /* kappa'(s) / s */
} family;

static double matern12_slope(const kernel *kern, double s2)
{
    (void)kern;
    double s = sqrt(s2);
    return s > 0.0 ? -exp(-s) / s : 0.0;
}

static double matern32_slope(const kernel *kern, double s2)
{
    (void)kern;
    return -exp(-sqrt(s2));
}

static double matern52_slope(const kernel *kern, double s2)
{
    (void)kern;
    double s = sqrt(s2);
    return -(1.0 + s) * exp(-s) / 3.0;
}

static double rbf_slope(const kernel *kern, double s2)
{
    (void)kern;
    return -2.0 * exp(-s2);
}

static double any_matern(const void *context, double s2)
{
    const kernel *kern = context;
    return matern_value(kern->smoothness, kern->table, s2);
}

static double any_matern_slope(const kernel *kern, double s2)
{
    return matern_slope(kern->smoothness, kern->table, s2);
}

static const family families[KERNEL_FAMILIES] = {
    [KERNEL_MATERN12] = {"matern12", 1.0, RADIAL_POLYEXP, 0.0, 0.0, NULL, matern12_slope},
    [KERNEL_MATERN32] = {"matern32", 1.7320508075688772, RADIAL_POLYEXP, 1.0, 0.0, NULL, matern32_slope},
    [KERNEL_MATERN52] = {"matern52", 2.23606797749979, RADIAL_POLYEXP, 1.0, 1.0 / 3.0, NULL, matern52_slope},
    [KERNEL_RBF] = {"rbf", M_SQRT1_2, RADIAL_GAUSSIAN, 0.0, 0.0, NULL, rbf_slope},
    [KERNEL_MATERN] = {"matern", M_SQRT1_2, RADIAL_FUNCTION, 0.0, 0.0, any_matern, any_matern_slope},
};

/* A little beyond what gp_kernel() takes: outside, values are not known to be right, or to end. */
#define SMOOTHNESS_LEAST 9e-4
#define SMOOTHNESS_MOST 1.1e4

const char *kernel_name(int which) { return families[which].name; }

int kernel_make(const char *name, double variance, double smoothness, kernel *out)
{
    static matern_table tables[TABLES];
    static int next = 0;
    int which = 0;
    while (which < KERNEL_FAMILIES && strcmp(name, families[which].name) != 0)
        which++;
    if (which == KERNEL_FAMILIES)
        return 0;
    *out = (kernel){(kernel_family)which, 0.0, variance, NULL};
    if (which != KERNEL_MATERN)
        return 1;
    if (!(smoothness >= SMOOTHNESS_LEAST && smoothness <= SMOOTHNESS_MOST))
        return 0;
    out->smoothness = smoothness;
    for (int t = 0; t < TABLES && !out->table; t++)
        if (tables[t].smoothness == smoothness)
            out->table = &tables[t];
    if (!out->table) {
        matern_fill(smoothness, &tables[next]);
        out->table = &tables[next];
        next = (next + 1) % TABLES;
    }
    return 1;
}

radial kernel_radial(const kernel *kern)
{
    const family *own = &families[kern->family];
    return (radial){own->kind, kern->variance, own->c1, own->c2, own->function, kern};
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
static double fill_piece(const kernel *kern, int steps, int certified, int piece, radial_pieces *out)
{
    double unit = 1.0 / kern->variance, from = piece ? piece_start(out, piece) : 0.0;
    static const double place[] = {-0.9238795325112867, -0.3826834323650898, 0.3826834323650898, 0.9238795325112867};
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
    double bent = fmax(fabs(2.0 * curve + 6.0 * twist * from), fabs(2.0 * curve + 6.0 * twist * to));
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

void kernel_scale(const kernel *kern, const double *x, size_t n, int d, const double *lengthscale, const double *centre,
                  double *out)
{
    double scale = families[kern->family].scale;
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

void kernel_row(const kernel *kern, int d, const double *x, size_t count, const double *y, double *out)
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

double kernel_slope(const kernel *kern, double s2) { return kern->variance * families[kern->family].slope(kern, s2); }

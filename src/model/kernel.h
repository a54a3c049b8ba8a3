/* Kernel: stationary correlation functions k(x, y) = variance * kappa(r), r = ||(x - y) / lengthscale||.
 *
 * Rasmussen and Williams (2006), chapter 4. Points reach the core already scaled: each coordinate is
 * centred, divided by its lengthscale and multiplied by the constant of its family (`scale` in kernel.c: sqrt(2 nu)
 * for the first three, 1 / sqrt(2) for the others), so that with the scaled distance s
 *   matern12: exp(-s)          matern32: (1 + s) exp(-s)      matern52: (1 + s + s^2/3) exp(-s)
 *   rbf:      exp(-s^2)        matern:   2^(1-nu) / Gamma(nu) z^nu K_nu(z), z = 2 sqrt(nu) s
 * Squared distances are always sums of squared differences, never |x|^2 + |y|^2 - 2 x.y, which
 * cancels. Scaled points are stored point after point (d x n, coordinates contiguous). */
#ifndef VECCHIANN_KERNEL_H
#define VECCHIANN_KERNEL_H

#include "model/matern.h"
#include "simd/simd.h"

#include <stddef.h>

typedef enum {
    KERNEL_MATERN32, /* the default first: users see this order */
    KERNEL_RBF,
    KERNEL_MATERN12,
    KERNEL_MATERN52,
    KERNEL_MATERN, /* any smoothness that gp_kernel() takes */
    KERNEL_FAMILIES
} kernel_family;

typedef struct {
    kernel_family family;
    double smoothness;         /* nu, for KERNEL_MATERN only */
    double variance;           /* sigma2 */
    const matern_table *table; /* of the smoothness; NULL is right too, and slow */
} kernel;

/* The names of the families, 0 .. KERNEL_FAMILIES - 1. */
const char *kernel_name(int which);

/* The kernel of a name, with the table of its smoothness, which is kept for the next ones; 0 if there is no such name,
 * or smoothness of it. For the main thread only. When as many others have been made as tables are kept, values come
 * from Bessel functions, right and slow. */
int kernel_make(const char *name, double variance, double smoothness, kernel *out);

/* The kernel as the vector routines want it; `kern` must outlive the result. */
radial kernel_radial(const kernel *kern);

/* kappa in pieces, of a ratio and range that are chosen to err least. As a function of the squared
 * distance, kappa is completely monotone (Schoenberg, 1938), hence falling and convex, which certifies
 * the error between the points where it is measured. */
void kernel_pieces(const kernel *kern, radial_pieces *out);

/* out (d x n) <- scaled points from x, an n x d matrix stored by columns as R does. `centre` has
 * length d and is subtracted first; the same centre must serve all point sets of one problem. */
void kernel_scale(const kernel *kern, const double *x, size_t n, int d, const double *lengthscale, const double *centre,
                  double *out);

/* variance * kappa at squared scaled distance s2. The value is the same, bit for bit, as the one
 * that every block routine computes. */
double kernel_value(const kernel *kern, double s2);

/* out[i] <- variance * kappa for count squared scaled distances (in place allowed). */
void kernel_values(const kernel *kern, size_t count, const double *s2, double *out);

/* out[j] <- k(x, y_j) for one scaled point x and count scaled points y (d x count). */
void kernel_row(const kernel *kern, int d, const double *x, size_t count, const double *y, double *out);

/* variance * kappa'(s) / s at squared scaled distance s2, the factor of every lengthscale
 * derivative: d k / d log(lengthscale_j) = -factor * (x_j - y_j)^2 in scaled coordinates, and for
 * one common lengthscale -factor * s2. Finite at s2 = 0 except for matern12 (and nu <= 1), where
 * 0 is returned because it is always multiplied by a squared difference that is 0. */
double kernel_slope(const kernel *kern, double s2);

#endif

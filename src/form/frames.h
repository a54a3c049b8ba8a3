/* Frames: what single-precision tiles need for kernel values between points.
 *
 * Coordinates are taken relative to the centre of a cell, in double, and then rounded; a query's are taken
 * relative to the centre of the cell that it meets. The kernel comes from pieces (kernel.h), which err by at
 * most pieces->error, and kernel gains are sqrt(sigma2) / sqrt(p), so that rho has gain_i gain_j kappa_ij in it.
 *
 * Rounding. With u = 2^-24, s the distance and R the largest distance of a cell's points from its centre,
 * |ds| <= u (2 s + 2 R) from rounding coordinates and differences and u ((d + 1) / 2 + 4) s from the
 * sum; |kappa'| s <= 1 and |kappa'| <= 1 but for what is said below, and a cubic over a ratio of at most 2 is at
 * most twice as steep. Products of kernel gains and of what else is added to them err by at most 12 u times what they
 * multiply, which is at most the kernel gains, or what is added. So
 *     slack = 2 u (40 + d + 2 R) + pieces->error     multiplies gain_i gain_j
 * (kernels that are neither exponentials nor Gaussian, which may be steeper at 0, add 1 - kappa at the rounding of
 * coordinates). */
#ifndef VECCHIANN_FRAMES_H
#define VECCHIANN_FRAMES_H

#include "form/form.h"

/* Owns its arrays. */
typedef struct {
    int d;
    radial_pieces *pieces; /* 1 */
    double *centre;        /* cells x d, scaled coordinates */
    float *slack;          /* cells */
    float *x;              /* panels x d x SCREEN_COLS, relative to the centre */
    float *kernel_gain;    /* panels x SCREEN_COLS; 0 for specials, which have no kernel term */
} frames;

status frames_build(const kernel *kern, const metric_points *points, const cells *order, const specials *special,
                    int threads, const monitor *mon, frames *out);
void frames_fields(frames *f, const cells *order, field_visitor *walk);

/* out (d) <- a point relative to the centre of a cell. */
static inline void frames_relative(const frames *f, int cell, const double *x, float *out)
{
    const double *centre = f->centre + (size_t)cell * f->d;
    for (int u = 0; u < f->d; u++)
        out[u] = (float)(x[u] - centre[u]);
}

#endif

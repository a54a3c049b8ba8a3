/* Cones: cells that lie far from some queries, as one correlation tells.
 *
 * Points are unit vectors in the Hilbert space of the process, and the angle between the lines that they span,
 * acos |rho|, is a metric. A cell lies in a cone around its axis, the point nearest to its middle, whose opening is the
 * largest angle of any of its points to that. So for a point t at an angle of at most A from queries q and from all
 * that they may still want (form/landmarks.c, balls), the cell holds nothing for them if
 *     |rho(t, axis)| < cos(A + opening).
 * This is the bound of a metric tree, for cells. They are too wide for it unless they are small beside the lengthscale,
 * which openings tell before anything is evaluated; where they are, in large data, sums of sizes (bounds.h) are least
 * sharp.
 *
 * Computed correlations are those of a process up to noise_x noise_y (bounds.h): that comes off the cosine of the
 * opening, and is added to |rho(t, axis)| by who compares it. */
#ifndef VECCHIANN_CONES_H
#define VECCHIANN_CONES_H

#include "bound/bounds.h"

/* By cell, in panels of simd->cols of them, the last one padded. Owns its arrays. */
typedef struct {
    double *x, *v, *scale; /* column panels of the axes; scale 0 without one */
    float *cosine, *sine;  /* of the opening, downwards and upwards; 0 and 1 without an axis */
    float *noise;          /* of the axis */
} cones;

/* How many cells the panels hold, padding included. */
size_t cones_columns(const cells *order);

status cones_build(const bounds *bound, int threads, const monitor *mon, cones *out);
void cones_free(cones *c);

#endif

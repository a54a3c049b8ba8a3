/* Boxes: how far some of the points x (d x n) reach along each coordinate, and halving them along one. */
#ifndef VECCHIANN_BOXES_H
#define VECCHIANN_BOXES_H

#include <stddef.h>

/* low, high (d) <- the smallest box of the points listed; infinite the other way round without any. */
void boxes_measure(int d, const double *x, const int *ids, size_t count, double *low, double *high);

/* The first of its widest sides, and how wide that is. */
int boxes_widest(int d, const double *x, const int *ids, size_t count, double *side);

/* Rearranges ids[0 .. count - 1] so that the `keep` lowest along coordinate u come first, ties to the lower id. */
void boxes_lowest(int d, const double *x, int u, int *ids, int count, int keep);

/* The same ids, rising. */
void boxes_rising(int *ids, size_t count);

/* Squared distance of two boxes; a point is one whose corners are the same. Rounding is monotone, so it never exceeds
 * the computed squared distance of two points inside. */
static inline double boxes_gap(int d, const double *low, const double *high, const double *other_low,
                               const double *other_high)
{
    double s2 = 0.0;
    for (int u = 0; u < d; u++) {
        double below = other_low[u] - high[u], above = low[u] - other_high[u], gap = below > above ? below : above;
        s2 += gap > 0.0 ? gap * gap : 0.0;
    }
    return s2;
}

#endif

/* Order: exact maxmin ordering, the greedy farthest-point traversal of n points; and an order by place.
 *
 * The first point is the one nearest to a given centre; every next one is as far as possible from
 * all points already chosen. Ties go to the lower index, so duplicates of chosen points come last, in
 * index order. Distances are compared squared, summed over the coordinates in their order.
 *
 * A static k-d tree holds for each node the largest distance that any of its points still has to the
 * chosen ones, and which point that is: the root names the next point, and choosing it can only change
 * nodes that are nearer to it than their own largest distance. For n points spread over a domain the
 * t-th choice touches about n / t of them, O(n log n) altogether, in O(n) memory.
 *
 * Guinness (2018), section 3, for the ordering; Schaefer, Katzfuss and Owhadi (2021), section 4, for
 * other exact algorithms. */
#ifndef VECCHIANN_ORDER_H
#define VECCHIANN_ORDER_H

#include "base/status.h"

/* order[t] <- 0-based index of the t-th point of x (d x n, point after point); centre has length d. */
status order_maxmin(int d, size_t n, const double *x, const double *centre, const monitor *mon, int *order);

/* order <- the points, those near in space near in the order: by the interleaved bits of their widest coordinates
 * (Morton, 1966), equal ones by their number. */
status order_space(int d, size_t n, const double *x, int *order);

#endif

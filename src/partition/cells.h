/* Cells: an order of points that keeps neighbours together, cut into cells, and cells into panels.
 *
 * All points are halved along the widest side of their box (a k-d partition), down to cells of at most `most` points
 * and no side above `widest`, panels of SCREEN_COLS and, inside a panel, handfuls of CELLS_HANDFUL in increasing index:
 * bounds want compact sets and tiles want full ones. Points of one cell stand at consecutive positions. A column is a
 * place in a panel; the last panel of a cell is padded by columns without a point. */
#ifndef VECCHIANN_CELLS_H
#define VECCHIANN_CELLS_H

#include "simd/simd.h"
#include "base/status.h"

#define CELLS_MOST 512
#define CELLS_REFINE 4096 /* points of a range that one thread halves on its own */
#define CELLS_HANDFUL 4

/* Owns its arrays. */
typedef struct {
    size_t n;
    int d, count, panels;
    int *perm;          /* n: index of the point at each position */
    int *first;         /* count + 1: first position of each cell */
    int *panel;         /* count + 1: first panel of each cell */
    int *ids;           /* panels x SCREEN_COLS: index of the point in each column, -1 for none */
    int *column;        /* n, by index: panel * SCREEN_COLS + place; rises with the position */
    int *least;         /* panels: smallest index */
    double *low, *high; /* count x d: the boxes, in the coordinates given */
} cells;

/* From points x (d x n); most <= CELLS_MOST, and no side of a cell is above `widest`. */
status cells_build(int d, size_t n, const double *x, int most, double widest, int threads, cells *out);

/* How many points a panel holds, from its ids. */
static inline int cells_filled(const int *ids)
{
    int count = 0;
    while (count < SCREEN_COLS && ids[count] >= 0)
        count++;
    return count;
}

/* The mean of the widest sides. */
double cells_mean_side(const cells *c);
void cells_free(cells *c);

#endif

/* Screening: certified intervals for residual correlations from integer dot products.
 *
 * With gain_i = sqrt(s2) / sqrt(p_i) and scaled features f_i = v_i / sqrt(p_i),
 *     rho_ij = gain_i gain_j kappa_ij - f_i . f_j.
 * Features are rounded to integers of 8 or 16 bits, f~ = step * integers, of which a processor
 * multiplies four or two where it multiplies one single-precision number; the error of rounding is
 * measured, not estimated: with e = |f - f~|, by Cauchy and Schwarz,
 *     |f_i . f_j - f~_i . f~_j| <= e_i |f_j| + |f~_i| e_j.
 * An orthogonal rotation (Hadamard butterflies) of all features first evens out their sizes, which
 * makes e smaller and changes no dot product.
 *
 * Rounding in single precision. Coordinates are taken relative to the centre of a cell, in double.
 * With u = 2^-24, s the distance and R the largest distance of a cell's points from its centre,
 * |ds| <= u (2 s + 2 R) from rounding coordinates and differences and u ((d + 1) / 2 + 4) s from the
 * sum and the root; |kappa'| s <= 1 and |kappa'| <= 1 for every family, and the exponential has a
 * relative error below 8 u. Products of gains and of steps add at most 12 u times what they multiply,
 * which is at most the gains, or the norms. So
 *     slack = u (40 + d + 2 R)     multiplies gain_i gain_j,
 * and e_j is stored as (e_j + 2^-20 |f_j|) (1 + 2^-20).
 *
 * Points at an inducing input z_u have p about the jitter, and their correlation is a difference of
 * nearly equal numbers. For them r(z_u, y) = jitter s2 (L^-1 e_u) . v_y exactly, so they are screened
 * with gain 0 and f = -jitter s2 L^-1 e_u / sqrt(p). Two of them together cannot be: those pairs are
 * left to the exact metric.
 *
 * Points stand in cells (consecutive positions of an order that keeps neighbours together), cells in
 * panels of SCREEN_COLS. Queries are rows of a screen too, their own or that of the points. */
#ifndef VECCHIANN_SCREEN_H
#define VECCHIANN_SCREEN_H

#include "metric.h"
#include "status.h"

/* The Gaussian process behind the features. */
typedef struct {
    const kernel *kern;
    const double *z, *L; /* scaled inducing inputs (d x m) and Cholesky factor; NULL if not known */
    double jitter;
} screen_source;

typedef struct {
    const metric_points *points; /* borrowed */
    int d, m, bits, width;       /* width: features after padding for the rotation */
    int steps;                   /* of 4 bytes: 4 elements of 8 bits or 2 of 16 */
    int cells;
    const int *perm, *cell;      /* borrowed: n, cells + 1 */
    int *panel;                  /* cells + 1: first panel of each cell */
    int *place;                  /* n, by position: panel * SCREEN_COLS + column */
    int *ids;                    /* index of the point in each column, -1 for padding */
    double *centre;              /* cells x d, scaled coordinates */
    float *slack;                /* cells */
    float *x;                    /* panels x d x SCREEN_COLS, relative to the cell's centre */
    float *gain, *step, *norm, *error, *tail; /* panels x SCREEN_COLS */
    int32_t *start;              /* -128 sum of the integers, undoes the offset of unsigned rows */
    void *integers;              /* panels x steps x SCREEN_COLS x 4 bytes */
    int *special;                /* n, by index: its rank among the special points, or -1 */
    int specials, *special_ids;  /* how many, and their indices */
    int *special_input;          /* the inducing input each stands on */
    double *special_v;           /* m x specials, -jitter s2 L^-1 e_u */
} screen;

/* bits 0 chooses: 8 where the instruction set has them and their error is small, else 16. */
status screen_build(const screen_source *source, const metric_points *points, const int *perm,
                    const int *cell, int cells, int bits, int threads, screen *out);
void screen_free(screen *s);

/* f (m) and gain of point i as screened, before rotation and rounding. */
void screen_features(const screen *s, const kernel *kern, size_t i, double *f, double *gain);

/* Row `row` of a tile of queries: packs the point at `position` of `from`, with its coordinates taken
 * relative to `centre`, into the query side of a tile (integers: steps x SCREEN_ROWS x 4 bytes; x: d x
 * SCREEN_ROWS). */
void screen_row(const screen *from, int position, const double *centre, int row, simd_queries *out,
                float *x, void *integers);

#endif

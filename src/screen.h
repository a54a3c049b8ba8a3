/* Screening: certified intervals for residual correlations, far cheaper than the correlations.
 *
 * With gain_i = sqrt(s2) / sqrt(p_i) and scaled features f_i = v_i / sqrt(p_i),
 *     rho_ij = gain_i gain_j kappa_ij - f_i . f_j.
 *
 * Integers. Features are rounded to integers of 8 or 16 bits, f~ = step * integers, of which a
 * processor multiplies four or two where it multiplies one single-precision number; the error of
 * rounding is measured, not estimated: with e = |f - f~|, by Cauchy and Schwarz,
 *     |f_i . f_j - f~_i . f~_j| <= e_i |f_j| + |f~_i| e_j.
 * An orthogonal rotation (Hadamard butterflies) of all features first evens out their sizes, which
 * makes e smaller and changes no dot product.
 *
 * Local bases. In low dimension the features of the points of a cell nearly lie in a space of few
 * dimensions. Then the cell has a basis of at most SCREEN_COLS vectors b_s, rounded to 16 bits, and
 * each of its points y coordinates c_s in single precision; e_y = |f_y - sum_s c_s b_s| is measured
 * after both roundings. A query is projected once a cell, b_s . f~_q, and
 *     |f_q . f_y - sum_s c_s (b_s . f~_q)| <= e_q (|f_y| + e_y) + |f_q| e_y,
 * the same form. The coordinates of a panel lie in a box, which bounds the whole panel at once.
 * e_y^2 is expanded with the Gram matrix of the rounded basis; in double that loses at most
 * 1e-12 |f_y|^2, which is added.
 * The basis comes from a pivoted Cholesky factorisation of the Gram matrix of some points of the cell.
 *
 * Rounding in single precision. Coordinates are taken relative to the centre of a cell, in double.
 * With u = 2^-24, s the distance and R the largest distance of a cell's points from its centre,
 * |ds| <= u (2 s + 2 R) from rounding coordinates and differences and u ((d + 1) / 2 + 4) s from the
 * sum and the root; |kappa'| s <= 1 and |kappa'| <= 1 for every family, and the exponential has a
 * relative error below 8 u. Products of gains and of steps add at most 12 u times what they multiply,
 * which is at most the gains, or the norms; a sum of `rank` products of local coordinates errs by at
 * most 2 (rank + 8) u |f_q| |f_y|. So
 *     slack = u (40 + d + 2 R)     multiplies gain_i gain_j,
 * (a tabulated kernel adds the error of its table, and 1 - kappa at the rounding of coordinates),
 * and e_j is stored as (e_j + (2^-20 + 2 rank 2^-23) |f_j|) (1 + 2^-20).
 *
 * Residual features. Where the residual variances of most points are too small for all this (16 bits
 * would err by RESIDUAL_ERROR), the features are those of landmarks.h instead, gains are 0 and
 *     |rho_ij + (-psi_i . psi_j)| <= tail_i tail_j + the error of the integers,
 * with noise_j added to e_j. The features of the first half of the landmarks are features of their own,
 * with larger tails: a tile is screened by this prefix first, and by all of them only when it must.
 *
 * Points at an inducing input z_u have p about the jitter, and their correlation is a difference of
 * nearly equal numbers. For them r(z_u, y) = jitter s2 (L^-1 e_u) . v_y exactly, so they are screened
 * with gain 0 and f = -jitter s2 L^-1 e_u / sqrt(p). Two of them together cannot be: those pairs are
 * left to the exact metric.
 *
 * Points stand in cells (consecutive positions of an order that keeps neighbours together), cells in
 * panels of SCREEN_COLS. Queries are points of a screen too, the same one or their own. */
#ifndef VECCHIANN_SCREEN_H
#define VECCHIANN_SCREEN_H

#include "landmarks.h"
#include "metric.h"
#include "status.h"

/* The Gaussian process behind the features. */
typedef struct {
    const kernel *kern;
    const double *z, *L; /* scaled inducing inputs (d x m) and Cholesky factor; NULL if not known */
    double jitter;
} screen_source;

typedef enum { SCREEN_BITS8, SCREEN_BITS16, SCREEN_LOCAL } screen_form;

typedef struct {
    const metric_points *points; /* borrowed */
    screen_form form;
    landmarks *residual;    /* where the features come from, NULL for v; a screen of queries borrows it */
    int borrowed;
    int d, m, width;        /* width: features after padding for the rotation */
    int steps;              /* of 4 bytes: 4 integers of 8 bits or 2 of 16 */
    int cells;
    const int *perm, *cell; /* borrowed: n, cells + 1 */
    int *panel;             /* cells + 1: first panel of each cell */
    int *place;             /* n, by position: panel * SCREEN_COLS + column */
    int *ids;               /* index of the point in each column, -1 for padding */
    double *centre;         /* cells x d, scaled coordinates */
    float *slack;           /* cells */
    /* by column */
    float *x;                                 /* panels x d x SCREEN_COLS, relative to the centre */
    float *gain, *step, *norm, *error, *tail; /* panels x SCREEN_COLS */
    float *slack_floor; /* panels */
    int32_t *start; /* -128 sum of the integers, which undoes the offset of unsigned rows */
    int prefix;            /* steps of the prefix, 0 for none */
    float *prefix_tail;    /* panels x SCREEN_COLS */
    int32_t *prefix_start; /* panels x SCREEN_COLS */
    void *integers; /* 8 or 16 bits: panels x steps x SCREEN_COLS x 4 bytes */
    /* local form */
    int16_t *rows;       /* n x 2 steps, by position: the integers of each point as a query */
    int *rank;           /* cells */
    int16_t *basis;      /* cells x 2 steps x SCREEN_COLS */
    float *basis_step;   /* cells x SCREEN_COLS, negated: projections come out positive */
    float *coordinates;  /* panels x SCREEN_COLS x SCREEN_COLS, [s][column] */
    float *row_error, *row_norm; /* n, by position: e and |f~| of the integers */
    float *row_step;
    float *box;          /* panels x screen_box_size(d) */
    /* points on inducing inputs */
    int *special;        /* n, by index: its rank among these points, or -1 */
    int specials, *special_ids, *special_input; /* how many, their indices, where each stands */
    double *special_v;   /* m x specials, -jitter s2 L^-1 e_u */
} screen;

/* `like` NULL chooses the form from a sample of the points: local bases where rank SCREEN_COLS is
 * enough, else 8 bits where the instruction set has them and their error is small, else 16. A screen
 * of queries is built like the one of the candidates. */
status screen_build(const screen_source *source, const metric_points *points, const int *perm,
                    const int *cell, int cells, const screen *like, int threads, screen *out);
void screen_free(screen *s);

/* Scaled features f (m) and gain of point i, before rotation and rounding. */
void screen_features(const screen *s, const kernel *kern, size_t i, double *f, double *gain);

/* The point at a position as a query: its integers (in `room`, `steps` x 4 bytes, when they are not
 * stored that way), and row `row` of the scalars of a tile. */
const void *screen_query(const screen *s, int position, void *room, int row, simd_rows *out);

/* Columns of a panel for tiles of the form of the screen. */
simd_columns screen_columns(const screen *s, int cell, int panel);

/* The same for the prefix alone. */
simd_columns screen_prefix(const screen *s, int cell, int panel);

/* Columns that are the basis of a cell: dot_tile16 with them projects queries. */
simd_columns screen_projection(const screen *s, int cell);

simd_box screen_box(const screen *s, int cell, int panel);

#endif

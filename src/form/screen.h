/* Screening: certified intervals for residual correlations from products of small integers.
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
 * Pairs whose interval of 8 bits reaches the threshold have it made again from features in 16 bits, with
 * the same kernel value: it is some hundred times narrower.
 *
 * The kernel term comes from the frame, and its slack covers the products of steps too; e_j is stored as
 * (e_j + 2^-20 |f_j|) (1 + 2^-20).
 *
 * A special point on z_u (specials.h) has r(z_u, y) = jitter s2 (L^-1 e_u) . v_y exactly, so it is
 * screened with gain 0 and f = -jitter s2 L^-1 e_u / sqrt(p). Special queries are not screened. */
#ifndef VECCHIANN_SCREEN_H
#define VECCHIANN_SCREEN_H

#include "form/frames.h"

typedef struct {
    int bits, steps, fine_width;
} screen_shape;

typedef struct {
    const metric_points *points; /* borrowed, like the next three */
    const cells *order;
    const specials *special;
    const frames *frame;
    screen_shape *shape; /* 1: what opening cannot tell from the points, the same as in the next lines */
    int bits;            /* 8 or 16 */
    int d, m, width; /* width: features after padding for the rotation */
    int steps;       /* of 4 bytes: 4 integers of 8 bits or 2 of 16 */
    /* by column */
    float *step, *norm, *error; /* panels x SCREEN_COLS */
    float *slack_floor;         /* panels */
    int32_t *start; /* -128 sum of the integers, which undoes the offset of unsigned rows */
    int fine_width; /* of a row of fine, a multiple of 32; 0 for none */
    int16_t *fine;  /* columns x fine_width: with 8 bits, features in 16 too */
    float *fine_step, *fine_error; /* columns */
    void *integers;                /* panels x steps x SCREEN_COLS x 4 bytes */
    double *special_v;             /* m x specials, -jitter s2 L^-1 e_u */
} screen;

/* Whether 16 bits are fine enough for most points. */
int screen_is_fine(const metric_source *source, const metric_points *points);

/* What integers would leave of the pairs of a query, by its exact correlations with a part of the points. */
typedef struct {
    int bits; /* that the first screening takes */
    double
        hopeless; /* share of the queries that they leave with more than a part of all points; of others: */
    double refined; /* pairs that 8 bits leave to 16, 0 where they do not come first */
    double left;    /* pairs that 16 bits leave */
} screen_outlook;

/* From a few queries, before anything is built; k neighbours are wanted. */
status screen_sample(const metric_source *source, const metric_points *points, int k,
                     screen_outlook *out);

/* `bits` 0 chooses: 8 where the instruction set has them and they leave few pairs on a sample of the points,
 * else 16. A screen of queries is built with the bits of the candidates'. */
status screen_build(const metric_source *source, const metric_points *points, const cells *order,
                    const specials *special, const frames *frame, int bits, int threads,
                    const monitor *mon, screen *out);
void screen_free(screen *s);

/* Sets what is borrowed, and the shape. */
void screen_bind(screen *s, const metric_points *points, const cells *order, const specials *special,
                 const frames *frame);

/* The integers of the point in a column as those of a query, `steps` x 4 bytes. */
void screen_features(const screen *s, int column, void *out);

/* What else row `row` of a tile needs of the point in a column, but for its position and threshold. */
void screen_row(const screen *s, int column, int row, simd_rows *out);

/* Columns of a panel for tiles. */
simd_columns screen_columns(const screen *s, int cell, int panel);

#endif

/* Matern: the correlation of any smoothness nu, and its slope, as functions of the squared distance in units where
 * rbf is exp(-s2); s = 2 sqrt(nu s2) is the argument of the Bessel function.
 *
 * By Bessel functions below smoothness 10 and by a mean of Gaussians from there on: right to 1e-12, and 50 to 500
 * times as slow as an exponential. So a kernel carries a table: both functions times exp(s) are polynomials on four
 * pieces of each power of 2 of s, of degree MATERN_DEGREE through Chebyshev nodes. The singularity at 0 is nine half
 * widths from the middle of a piece, so that the interpolation errs by (9 + sqrt(80))^-12, 1e-15 of the value
 * (Trefethen, 2013, Approximation Theory and Approximation Practice, theorem 8.2). Outside of the table, and for
 * smoothness from 10 on, the functions themselves are taken. */
#ifndef VECCHIANN_MATERN_H
#define VECCHIANN_MATERN_H

#define MATERN_DEGREE 11
#define MATERN_LOW (-20) /* powers of 2 of s where the table begins */
#define MATERN_HIGH 10   /* and ends */
#define MATERN_PIECES (4 * (MATERN_HIGH - MATERN_LOW))

typedef struct {
    double smoothness; /* 0 for a table without values */
    double value[MATERN_PIECES][MATERN_DEGREE + 1], slope[MATERN_PIECES][MATERN_DEGREE + 1];
} matern_table;

/* Fills a table; nothing is filled for a smoothness that has none. */
void matern_fill(double smoothness, matern_table *out);

/* The correlation, and its derivative to s_rbf = sqrt(s2) over sqrt(s2); table NULL or without values: by the
 * functions themselves. */
double matern_value(double smoothness, const matern_table *table, double s2);
double matern_slope(double smoothness, const matern_table *table, double s2);

#endif

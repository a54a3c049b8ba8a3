/* Landmarks: explicit features of the residual process, for when it is a small remainder.
 *
 * Where residual variances are a millionth of the variance, k - v.v cancels and nothing but double
 * precision can form it. But the residual process then has few dimensions of its own. With landmarks S
 * among the points, C = rho(S, S) + ridge I = L2 L2' and
 *     psi_y = L2^-1 rho(S, y),        tail_y^2 = 1 - |psi_y|^2,
 * the Schur complement is positive semidefinite, so for every pair
 *     |rho(q, y) - psi_q . psi_y| <= tail_q tail_y.
 * Nystrom features; Williams and Seeger (2001).
 *
 * A quarter of the landmarks is spread evenly over an order of the points, the others with density
 * proportional to the squared tails that the first quarter leaves.
 *
 * Rounding. A correlation formed in double errs by at most g / sqrt(p_i p_j), g = 2 (m + 10) 2^-53 s2,
 * so psi_y errs by at most noise_y = g sqrt(sum_S 1 / p_S) / sqrt(p_y ridge); the ridge is what keeps
 * that small. */
#ifndef VECCHIANN_LANDMARKS_H
#define VECCHIANN_LANDMARKS_H

#include "linalg.h"
#include "metric.h"
#include "status.h"

typedef struct {
    const kernel *kern; /* borrowed */
    int d, m, count;
    int *ids;                   /* count: indices of the landmarks */
    double *scale;              /* count: 1 / sqrt(p), padded by zeros to whole row panels */
    double *panels_x, *panels_v; /* their row panels */
    double noise;               /* noise_y sqrt(p_y) */
    linalg_triangle triangle;
} landmarks;

/* Chooses `count` landmarks among the points in the order `perm`. */
status landmarks_build(const kernel *kern, const metric_points *points, const int *perm, int count,
                       int threads, landmarks *out);
void landmarks_free(landmarks *l);

/* Features of the points ids[0 .. count - 1], count <= simd->cols: panel (l->count x simd->cols) and
 * the squared tails. `panel` needs room for (d + m + l->count) x simd->cols. */
void landmarks_features(const landmarks *l, const metric_points *points, const int *ids, int count,
                        double *panel, double *tail2);

#endif

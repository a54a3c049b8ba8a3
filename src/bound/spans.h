/* Spans: a few queries of a panel that span it. If all projections of a candidate onto them are short, no query of
 * the panel wants it.
 *
 * They are landmarks as in subspace.h, up to SCREEN_ROWS of them to a panel in place of dozens to a cell, on the
 * side of the queries: with T among the points of a panel, C = rho(T, T) + ridge I = M M' and, for any point,
 *     psi = M^-1 rho(T, .),    sin(beta_q) = (1 - |psi_q|^2)^(1/2),
 * a query q of the panel has |rho(q, y)| <= cos(max(0, alpha - beta_q)), cos(alpha) = |psi_y|. So one tile of T
 * against a panel of candidates, whose correlations come from terms (bounds.h) in single precision, finishes all
 * queries of threshold tau with it for which
 *     max_y |psi_y| < cos(acos(tau) + beta_q).
 * That pays where the expansion bound, which adds up sizes, leaves many panels.
 *
 * Errors. Where rho(t, y) is off by at most e g_t, psi_y is off by no more than e times the length of |M^-1| g, and no
 * more than e |g| (||M^-1||_1 ||M^-1||_inf)^(1/2): `amplify` is the smaller. What computed correlations differ from
 * those of a process by is treated as in subspace.h, with spread = ||M^-1||_F and gather = (sum_T roundoff_t^2)^(1/2):
 * the ridge is at least gather^2, psi_y is off by spread gather roundoff_y more, and single precision by
 * (SCREEN_ROWS + 4) 2^-24 spread SCREEN_ROWS^(1/2). */
#ifndef VECCHIANN_SPANS_H
#define VECCHIANN_SPANS_H

#include "bound/bounds.h"

/* By panel. Owns its arrays. */
typedef struct {
    int *rank;            /* panels: 0 where none of the points counts */
    int *pivot;           /* panels x SCREEN_ROWS: where each of T stands in the panel */
    float *inverse;       /* panels x SCREEN_ROWS^2: M^-1, row-major, padded by zeros */
    float *amplify;       /* panels */
    float *roundoff;      /* panels: spread gather */
    float *rounding;      /* panels */
    float *cosine, *sine; /* panels x SCREEN_COLS: of beta, of the point in each column */
} spans;

status spans_build(const bounds *bound, int threads, const monitor *mon, spans *out);

#endif

/* Nodes: how large |rho| can be between one query and the points of a node of the tree.
 *
 * Expansion bound. With w = L^-T v_q / sqrt(p_q) and g_q = 1 / sqrt(p_q),
 *     rho(q, y) = (g_q k(q, y) - sum_u w_u k(z_u, y)) / sqrt(p_y).
 * kappa falls with distance, so over the box of a node every kernel lies between its values at the
 * distances of the nearest and of the farthest point of the box: middle +- half. With
 * 1 / sqrt(p_y) <= scale,
 *     |rho(q, y)| <= scale (|g_q middle_q - sum_u w_u middle_u| + g_q half_q + sum_u |w_u| half_u).
 * In a large node this is the bound of bounds.h; in a small one terms of both signs cancel.
 *
 * A point that stands on an inducing input z_u has rho(q, y) = jitter s2 w_u / sqrt(p_y) exactly:
 * such points stay out of the node's scale and enter half_u. A query that stands on z_a has
 * w = jitter s2 K^-1 e_a / sqrt(p_q) and no kernel term. Two such points together are outside the
 * bound: the caller treats those pairs by themselves. Without inducing inputs the sums are empty.
 *
 * Angle bound. theta(x, y) = acos |rho(x, y)|, the angle between two lines, is a metric; with the
 * centre c of a node and the largest theta(c, y) = Theta,
 *     |rho(q, y)| <= cos(max(0, theta(q, c) - Theta)).
 *
 * Rounding, eps = DBL_EPSILON; the bounds hold for the correlations that metric.h computes.
 * - That r is k - v.v, a sum of m + 1 terms of at most s2: it errs by at most (m + 8) eps s2.
 * - A triangular solve is exact for L perturbed by m eps |L|, and no row of |L| |v| exceeds s2:
 *   with the computed w and v, w.k(Z, y) differs from v_q.v_y by at most 2 m eps s2 sum |w_u| for
 *   each side.
 * - The sum of the bound itself errs by at most (2 m + 100) eps s2 sum |w_u| and 100 eps s2 g_q,
 *   kernel values and distances included. All of these are added, times the largest 1 / sqrt(p_y).
 * - For the angles, the features that are stored differ from exact ones by |L^-1| times sqrt(m)
 *   errors of m eps s2, and |L^-1| <= 1 / sqrt(jitter s2): r errs by 2 m sqrt(m / jitter) eps s2
 *   more. (Features that come without L are what they are.) A correlation that errs by e turns its
 *   angle by at most 1.12 sqrt(2 e); every angle is widened by that. */
#ifndef VECCHIANN_NODES_H
#define VECCHIANN_NODES_H

#include "model/metric.h"
#include "model/specials.h"
#include "partition/tree.h"

typedef struct {
    const metric_source *source; /* borrowed, like the next two */
    const tree *structure;
    const metric_points *points;
    int expands;        /* whether the expansion bound exists: L is known, or m = 0 */
    double *low, *high; /* nodes x d: the box, scaled coordinates */
    double *largest;    /* nodes: the largest 1 / sqrt(p) */
    double *scale;      /* nodes: the same, of points not on inducing inputs */
    int *least;         /* nodes: smallest index */
    double *terms;      /* nodes x 2 m: scale middle_u, then scale half_u */
    char *known;        /* nodes: whether the terms are filled in */
    double *rows;       /* m x m: L by rows, for w */
    double *angle;      /* nodes: Theta, widened; NULL until nodes_angles */
    specials special;   /* the points on inducing inputs */
} nodes;

status nodes_build(const metric_source *source, const tree *structure, const metric_points *points,
                   int threads, nodes *out);
void nodes_free(nodes *b);

/* Fills the terms of all nodes at once: otherwise each is filled by the first query that meets it,
 * which is for one thread only. */
status nodes_fill(nodes *b, int threads, const monitor *mon);

/* The angle bound of all nodes; n correlations for every level of the tree. */
status nodes_angles(nodes *b, int threads, const monitor *mon);

/* A query. `weight` (2 m) belongs to the caller. */
typedef struct {
    const metric_points *from;
    int row, special; /* special: stands on an inducing input */
    double gain;      /* 1 / sqrt(p), 0 for a special query */
    double scale;     /* 1 / sqrt(p) */
    double *weight;   /* 2 m: w_u, then |w_u| */
    double total;     /* sum_u |w_u| */
} node_query;

void nodes_query_set(const nodes *b, const metric_points *from, int row, node_query *query);

/* What is known of a node for a query: upper >= |rho| for all of its points; the squared distance
 * from its box; and sum_u w_u middle_u and sum_u |w_u| half_u of the expansion bound, rounding
 * included. */
typedef struct {
    int node;
    double upper, away, middle, half;
} node_bound;

/* The children of a node, by the expansion bound; where it does not exist they inherit the bound of
 * their parent. out has room for TREE_FANOUT. */
void nodes_expansion(nodes *b, const node_query *query, const node_bound *parent, node_bound *out);

/* Keeps those of the points of a leaf that may reach the threshold, by their own kernel and p in
 * the expansion bound; returns how many. */
int nodes_screen(const nodes *b, const node_query *query, const node_bound *bound, double threshold,
                 int count, int *ids);

/* upper of a node by the angle bound, after nodes_angles; one correlation. */
double nodes_angle(const nodes *b, const node_query *query, int node);

#endif

/* Problem: a residual process and the index of its tree, unpacked from R for a search; and the structure of a tree. */
#ifndef VECCHIANN_R_PROBLEM_H
#define VECCHIANN_R_PROBLEM_H

#include "partition/tree.h"
#include "r/glue.h"
#include "search/query.h"

/* A residual process and what its tree keeps, if there is one; `source` points into the same struct. */
typedef struct {
    scaling sc;
    metric_points points;
    metric_source source;
    index_pack stored;
} search_problem;

/* A cover tree over n points; an error where numbers are out of range. */
tree r_tree(SEXP list, size_t n);

/* The field of a tree that is not as it was built from its scaled points (d x n), or NULL. */
const char *r_tree_damage(SEXP list, size_t n, int d, const double *points, double slack);

void r_problem(SEXP gp, SEXP tree_list, search_problem *out);

#endif

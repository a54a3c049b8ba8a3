/* Problem: a residual process and the structure and index of its tree, unpacked from R for a search. */
#ifndef VECCHIANN_R_PROBLEM_H
#define VECCHIANN_R_PROBLEM_H

#include "partition/tree.h"
#include "r/glue.h"
#include "search/query.h"

/* A residual process and its tree, if there is one; `source` points into the same struct. */
typedef struct {
    frame fr;
    metric_points points;
    metric_source source;
    tree structure;
    index_pack kept;
} search_problem;

/* The fields of a tree in R, in this order; indices are 1-based there, and 0 is none. */
#define R_TREE_FIELDS 9
extern const char *const r_tree_fields[R_TREE_FIELDS];

/* A cover tree over n points; an error where it is none. */
tree r_tree(SEXP list, size_t n);

/* The structure of a tree is read where its index does not serve, or if it is `wanted` all the same. */
void r_problem(SEXP gp, SEXP tree_list, int wanted, search_problem *out);

#endif

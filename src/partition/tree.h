/* Tree: a cover tree over scaled inputs, structure only. It knows nothing of kernels.
 *
 * Nodes are numbered breadth first, so that the children of a node are contiguous, and points are
 * permuted so that every subtree is a contiguous range of positions. Node 0 is the root and holds all
 * points. A node is a leaf when it has at most TREE_LEAF points or when all its points coincide.
 *
 * Invariants, checked by tree_check() after tree_fault():
 *   range       the ranges of the children partition the range of their parent, in order; inside a
 *               leaf, points are in increasing index
 *   nesting     the centre of a node is the centre of one of its children
 *   covering    radius is the largest distance from the centre to a point of the node, exactly
 *   separation  the centres of siblings are at least as far apart as the largest of their radii
 *   compression every inner node has at least two children, so there are no chains; duplicates share
 *               a leaf however many they are
 * A classical cover tree (Beygelzimer, Kakade and Langford, 2006) halves its scale at each level;
 * here each family has the scale that farthest-point sampling (Gonzalez, 1985) finds in its own
 * points, which keeps the fan-out bounded by TREE_FANOUT in any dimension. Ties go to the lower index:
 * the tree depends on the points only, not on the number of threads. */
#ifndef VECCHIANN_TREE_H
#define VECCHIANN_TREE_H

#include "base/status.h"

#define TREE_FANOUT 16
#define TREE_LEAF 32

typedef struct {
    size_t n;
    int nodes;
    int *perm; /* n: index of the point at each position */
    /* one each for every node */
    int *first, *count;    /* range of positions */
    int *parent;           /* -1 for the root */
    int *child, *children; /* first child and how many; children is 0 for a leaf */
    int *centre;           /* index of the centre point */
    int *level;            /* 0 for the root */
    double *radius;
} tree;

/* Builds from n >= 1 points x (d x n); the caller frees with tree_free. */
status tree_build(int d, size_t n, const double *x, int threads, const monitor *mon, tree *out);
void tree_free(tree *t);

/* What is out of range, or does not fit what other nodes say: 0 perm, 1 first, 2 count, 3 parent, 4 child,
 * 5 children, 6 centre, 7 level, 8 radius; 9 where nothing is. perm itself is not read, and nothing else is safe to
 * read before. */
int tree_fault(const tree *t);

/* 0 when every invariant holds, otherwise the number of the first that fails, in the order above. The slack is a
 * share of the radii, for trees that were built on another machine. */
int tree_check(const tree *t, int d, const double *x, double slack);

#endif

/* Index: what a search by screening needs besides the points themselves.
 *
 * The order of a tree, refined into cells and panels; the screen of the candidates in that order; their
 * bounds; and, for queries that are not candidates, an
 * order and a screen of their own. Built again whenever hyperparameters change; the tree is not. */
#ifndef VECCHIANN_INDEX_H
#define VECCHIANN_INDEX_H

#include "bounds.h"
#include "screen.h"
#include "tree.h"

#define INDEX_LEAF 32
#define INDEX_CELL 256
#define INDEX_REFINE 4096

/* An order of points, cut into cells. Owns its arrays.
 *
 * The largest nodes of the tree with at most INDEX_REFINE points are halved along the widest side of
 * their box, down to cells of at most INDEX_CELL points and panels of SCREEN_COLS: bounds want compact
 * boxes and tiles want full ones, which the nodes of a cover tree are not. Inside a panel points are in
 * increasing index. */
typedef struct {
    size_t n;
    int cells;
    int *perm, *cell; /* n, cells + 1 */
    int *position;    /* n, by index: the inverse of perm */
} index_order;

typedef struct {
    index_order order, fresh_order; /* of the candidates; of queries that are not candidates */
    screen points, fresh;
    const screen *from; /* the screen of the queries: one of the two */
    const int *position; /* the positions of the queries in it, by row */
    bounds bound;
    int bounded; /* whether the expansion bound exists */
} index_search;

/* `structure` is the tree of the candidates, or NULL to build one; `from` is the set of the queries,
 * `points` again when they are candidates. All arguments are borrowed and must outlive the index. */
status index_build(const screen_source *source, const tree *structure, const metric_points *points,
                   const metric_points *from, int threads, index_search *out);
void index_free(index_search *index);

#endif

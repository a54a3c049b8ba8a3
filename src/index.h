/* Index: what the level-synchronous search needs besides the points themselves.
 *
 * For the candidates, and for queries that are not candidates, an order in cells, bounds, and one of
 * two forms of screening: subspaces where few landmarks say enough of a cell, integers otherwise.
 * Built again whenever hyperparameters change; the tree is not. */
#ifndef VECCHIANN_INDEX_H
#define VECCHIANN_INDEX_H

#include "bounds.h"
#include "screen.h"
#include "subspace.h"

typedef enum { INDEX_SUBSPACES, INDEX_INTEGERS } index_form;

typedef struct {
    cells order;
    bounds bound;
    subspaces space; /* INDEX_SUBSPACES */
    screen integers; /* INDEX_INTEGERS */
} index_set;

typedef struct {
    index_form form;
    int opened;              /* the candidates' arrays stand in memory that belongs to the caller */
    index_set points, fresh; /* the candidates; queries that are not candidates */
    const index_set *from;   /* the queries: one of the two */
} index_search;

/* An index of candidates laid out in one piece of memory, to be kept. */
typedef struct {
    const void *memory; /* aligned to 16 bytes; NULL for none */
    size_t bytes;
} index_pack;

/* `structure` is the tree of the candidates, or NULL to build one; `from` is the set of the queries,
 * `points` again when they are candidates. `kept` serves if it was made of the same points and by the
 * same vector routines. All arguments are borrowed and must outlive the index. */
status index_build(const metric_source *source, const tree *structure, const metric_points *points,
                   const metric_points *from, index_pack kept, int threads, index_search *out);
void index_free(index_search *index);

/* How many bytes the candidates' part takes, and laying it out. */
size_t index_packed_bytes(index_search *index);
void index_packed_write(index_search *index, void *memory);

#endif

/* Index: what the level-synchronous search needs besides the points themselves.
 *
 * For the candidates, and for queries that are not candidates, an order in cells, bounds, and one of
 * three forms of screening: expansions where weights decay, subspaces where few landmarks say enough of a cell,
 * integers otherwise.
 * Built again whenever hyperparameters change; the tree is not. */
#ifndef VECCHIANN_INDEX_H
#define VECCHIANN_INDEX_H

#include "bound/cones.h"
#include "form/frames.h"
#include "form/screen.h"
#include "bound/spans.h"
#include "form/subspace.h"

#include <stdint.h>

typedef enum { INDEX_SUBSPACES, INDEX_INTEGERS, INDEX_EXPANSIONS, INDEX_NONE } index_form;

typedef struct {
    cells order;
    bounds bound;    /* with terms: INDEX_EXPANSIONS */
    subspaces space; /* INDEX_SUBSPACES */
    cones cone;      /* INDEX_SUBSPACES */
    frames frame;    /* all others */
    spans span;      /* INDEX_EXPANSIONS */
    screen integers; /* INDEX_INTEGERS */
} index_set;

typedef struct {
    index_form form;
    const metric_points *candidates;
    double cost;             /* of a search for a point, see query.c; kept with the index */
    int opened;              /* the candidates' arrays stand in memory that belongs to the caller */
    index_set points, fresh; /* the candidates; queries that are not candidates */
    const index_set *from;   /* the queries: one of the two */
} index_search;

/* An index of candidates laid out in one piece of memory, to be kept, and with it what the metric asks of
 * them but their features: a search of few queries then does nothing for each point. */
typedef struct {
    const void *memory; /* aligned to 16 bytes; NULL for none */
    size_t bytes;
    uint64_t print; /* of the process that it is to serve, by index_print */
} index_pack;

/* Adds numbers to a fingerprint, which starts at 0. An index of one residual process must not serve another of
 * the same shape, so those who keep it tell processes apart by all that these are made of. */
uint64_t index_print(uint64_t print, size_t count, const double *values);

/* The index of candidates that are the queries too. `structure` is their tree, or NULL to build one.
 * INDEX_SUBSPACES becomes INDEX_NONE, with nothing built, where no cells have small subspaces. All arguments are
 * borrowed and must outlive the index. */
status index_build(const metric_source *source, const tree *structure, const metric_points *points,
                   index_form form, int threads, const monitor *mon, index_search *out);

/* Whether cells may have small subspaces, by the points nearest to a few: little work, without a tree. If it says
 * no, INDEX_SUBSPACES would most likely become INDEX_NONE. */
status index_outlook(const metric_source *source, const metric_points *points, int *hopeful);

/* An index of nothing, of infinite cost. */
void index_none(const metric_points *points, index_search *out);

/* Hands an index of candidates over to another place, which was empty. */
void index_move(index_search *from, index_search *to);

/* Whether no byte has changed since it was written; an index that is not of this layout is never read, and so is
 * sound too. Sealing gives it the checksum of what it holds. */
int index_sound(index_pack kept);
void index_seal(void *memory, size_t bytes);

/* What was kept of the points: given n, d, m and v, the rest of them; 0 if nothing was, or of another process.
 * Points lie where the index does. */
int index_points(index_pack kept, metric_points *points);

/* The same as index_build from what was kept; 0 if it was made of other points or by other vector routines. */
int index_open(const metric_source *source, const metric_points *points, index_pack kept,
               index_search *out);

/* Adds queries that are not candidates. */
status index_add_queries(const metric_source *source, const metric_points *from, int threads,
                         const monitor *mon, index_search *index);
void index_free(index_search *index);

/* How many bytes the candidates' part takes, and laying it out for the process of a fingerprint. */
size_t index_packed_bytes(index_search *index);
void index_packed_write(index_search *index, uint64_t print, void *memory);

/* Where each array stands in it. */
typedef void (*index_listener)(void *context, const char *name, size_t at, size_t bytes);
void index_packed_list(index_search *index, index_listener tell, void *context);

#endif

/* Index: what a search needs besides the points themselves.
 *
 * For the candidates, and for queries that are not candidates, an order in cells, bounds, and what a form of screening
 * keeps (form.h). Built again whenever hyperparameters change. */
#ifndef VECCHIANN_INDEX_H
#define VECCHIANN_INDEX_H

#include "form/form.h"

#include <stdint.h>

typedef struct {
    const screening_form *form; /* NULL where nothing is kept */
    const metric_points *candidates;
    double cost;               /* of a search for a point, see query.c; kept with the index */
    int opened;                /* the candidates' arrays stand in memory that belongs to the caller */
    point_set *points, *fresh; /* the candidates; queries that are not candidates */
    form_sides on;             /* both, for forms */
} index_search;

/* An index of candidates laid out in one piece of memory, to be kept, and with it what the metric asks of
 * them but their features: a search of few queries then does nothing for each point. */
typedef struct {
    const void *memory; /* aligned to 16 bytes; NULL for none */
    size_t bytes;
    uint64_t fingerprint; /* of the process that it is to serve, by index_fingerprint */
} index_pack;

/* Adds numbers to a fingerprint, which starts at 0. An index of one residual process must not serve another of
 * the same shape, so those who keep it tell processes apart by all that these are made of. */
uint64_t index_fingerprint(uint64_t fingerprint, size_t count, const double *values);

/* The index of candidates that are the queries too. The form becomes NULL, with nothing built, where it serves no
 * cells. All arguments are borrowed and must outlive the index. */
status index_build(const metric_source *source, const metric_points *points, const screening_form *form, int threads,
                   const monitor *mon, index_search *out);

/* The form of a name; NULL for others. */
const screening_form *index_form_named(const char *name);

/* An index of nothing, of infinite cost. */
void index_none(const metric_points *points, index_search *out);

/* Whether no byte has changed since it was written; an index that is not of this layout is never read, and so is
 * sound too. Sealing gives it the checksum of what it holds. */
int index_sound(index_pack stored);
void index_seal(void *memory, size_t bytes);

/* What was kept of the points: given n, d, m and v, the rest of them; 0 if nothing was, or of another process.
 * Points lie where the index does. */
int index_points(index_pack stored, metric_points *points);

/* The same as index_build from what was kept: `out` is opened then. It is an index of nothing, and not opened, where
 * what was kept was made of other points or by other vector routines, and without memory. */
status index_open(const metric_source *source, const metric_points *points, index_pack stored, index_search *out);

/* Adds queries that are not candidates. */
status index_add_queries(const metric_source *source, const metric_points *from, int threads, const monitor *mon,
                         index_search *index);

/* It is an index of nothing then. */
void index_free(index_search *index);

/* How many bytes the candidates' part takes, and laying it out for the process of a fingerprint. */
size_t index_packed_bytes(index_search *index);
void index_packed_write(index_search *index, uint64_t fingerprint, void *memory);

/* Where each array stands in it. */
typedef void (*index_listener)(void *context, const char *name, size_t at, size_t bytes);
void index_packed_list(index_search *index, index_listener tell, void *context);

#endif

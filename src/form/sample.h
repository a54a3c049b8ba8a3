/* Sample: a part of the points, as candidates of a few of them. Forms forecast from it what they would leave. */
#ifndef VECCHIANN_SAMPLE_H
#define VECCHIANN_SAMPLE_H

#include "model/specials.h"

/* Owns its arrays. */
typedef struct {
    int count, *ids; /* neither special points, which are screened by their weights, nor such as have vanished */
    double *rho;     /* count: |rho| with the query, 0 with itself */
    double *best;    /* the largest of these, and whose they are */
    int *best_id;
} sample;

/* Up to `most` points, evenly spread over all. */
status sample_new(const metric_source *source, const metric_points *points, size_t most, sample *out);
void sample_free(sample *part);

/* The place in the part of the qth of some queries. */
static inline int sample_query(const sample *part, int q, int queries)
{
    return (int)((q + 0.5) * part->count / queries);
}

/* Sets rho for the query at a place; returns the largest of given rank. */
double sample_threshold(const kernel *kern, const metric_points *points, int own, int rank, sample *part);

#endif

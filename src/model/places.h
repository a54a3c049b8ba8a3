/* Places: which points are copies of each other.
 *
 * Two points are at one place if their coordinates, features and variances are the same bits; whatever is computed of
 * one is then true of the other. Places are numbered in the order in which the points show them, so that their first
 * points rise: an order by (distance, place) is one by (distance, lowest index). */
#ifndef VECCHIANN_PLACES_H
#define VECCHIANN_PLACES_H

#include "base/status.h"
#include "model/metric.h"

typedef struct {
    size_t n;
    int count;   /* of places */
    int *place;  /* n: of each point */
    int *first;  /* count + 1: where the points of each place start in */
    int *member; /* n: the points by place, rising */
} places;

/* Whether points may have so many copies that it pays to find them all: by their coordinates, on about 8 sqrt(n) of
 * them. It sees twice as many points as places almost surely, and a few copies hardly ever. */
status places_likely(size_t n, int d, const double *x, int *likely);

/* By coordinates alone where points->v is NULL. */
status places_find(const metric_points *points, places *out);
void places_free(places *p);

/* How many copies of itself a point meets on average, itself included. */
double places_crowding(const places *p);

/* How many places have their first point below index i. */
int places_before(const places *p, size_t i);

/* The first point of every place, in memory of one piece, the caller's to free with scratch_free; NULL without
 * memory. */
double *places_points(const places *p, const metric_points *points, int threads, metric_points *out);

/* Values of points, `width` of each: those of every place's first point move to the front; and back to all points. */
void places_gather(const places *p, size_t width, double *values);
void places_spread(const places *p, size_t width, double *values);

#endif

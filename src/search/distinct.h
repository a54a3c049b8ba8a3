/* Distinct: searches of points many of which are copies of each other.
 *
 * Thousands of candidates at one distance cannot be told apart by any bound, and a query would have to look at all of
 * them. So places (places.h) are searched in place of points, each with its first point, and the answers are spread: of
 * the k nearest places by (distance, first point), and of the query's own, whose copies are its neighbours too, the k
 * nearest points are taken by (distance, index). A place that is not among these has k first points before all of its
 * own. Where candidates are predecessors, places are candidates from their first point on and points up to the query,
 * so that a query is its place and how many places there are before it. The answer is that of the points themselves,
 * bit for bit. */
#ifndef VECCHIANN_DISTINCT_H
#define VECCHIANN_DISTINCT_H

#include "search/query.h"

/* query_run, and query_index, by places where there are many copies. */
status distinct_run(const char *method, const query_task *task, query_result *result);
status distinct_index(const query_task *task, int eager, index_search *index);

#endif

/* Level-synchronous search: blocks of close queries against cells of close points.
 *
 * The queries of a block, up to BITSET_SIZE of one cell, descend together. A cell of the frontier carries a bit mask:
 * the queries that it may still serve.
 *   1 seed     the nearest cell is screened. Once a query has k candidates it has a threshold: the k-th largest lower
 *              bound of |rho| seen so far, which only candidates that may exceed it pass. Until then all do
 *   2 bound    groups of cells, then the cells of the groups that survive, are skipped by the kernel-expansion bound
 *              and by what the form skims. The rest are listed, nearest first
 *   3 skip     a listed cell is skipped in the same way for single queries, and the form says nothing of those that it
 *              knows to be done with it
 *   4 screen   for what is left the form gives intervals of |rho| with the points of the cell, and candidates whose
 *              interval reaches the threshold are kept
 *   5 finish   these are evaluated by the metric, in double, and ordered
 * What forms know of points is behind form.h. If all points are queries and a form can screen both ways, blocks meet in
 * pairs (mutual.c). Blocks of one query serve best-first search (best_first.c). Scratch belongs to a thread, the blocks
 * that meet to all; neither depends on n, but for lists of the cells and panels, and the blocks up to a bound on their
 * memory. */
#ifndef VECCHIANN_LEVEL_H
#define VECCHIANN_LEVEL_H

#include "search/query.h"

/* What a list of candidates takes: a row of a tile, and a whole vector, may come on top of its capacity. */
#define LEVEL_ROOM(capacity) ((size_t)(capacity) + SCREEN_COLS + SIMD_WIDTH)

/* Candidates of one query that are still in play, by index. */
typedef struct {
    int count, *id;
    float *low, *high; /* interval of |rho| */
} candidates;

/* A block and its candidates. */
typedef struct {
    block seen; /* first: forms see this much of it */
    size_t query[BITSET_SIZE];
    int capacity; /* of a list */
    candidates kept[BITSET_SIZE];
    int settled[BITSET_SIZE]; /* how many were kept when the threshold was last raised */
    int spent[BITSET_SIZE];   /* candidates that were evaluated one by one, to make room */
    kbest best[BITSET_SIZE];  /* evaluated exactly */
} level_block;

static inline level_block *level_block_of(block *b) { return (level_block *)b; }

/* Some blocks, and the memory that they share out. */
typedef struct {
    level_block *each;
    float *intervals;
    double *best_dist;
    int *best_id;
    char *rows;
} level_blocks;

/* What a thread works with. */
typedef struct {
    const query_task *task;
    block *block;                            /* borrowed: the queries at hand */
    void *work;                              /* the form's */
    frontier_cell *frontier;                 /* cells that are left for it, nearest first */
    float *special_upper;                    /* by panel, of one special query */
    int *deferred, deferrals, deferral_room; /* queries that are left to brute force; */
    int out_of_memory;                       /* set where one could not be noted: the search has failed */
    float *lows;                             /* of one query, for its threshold */
    double *dist;                            /* of the candidates of one query */
    query_counters counters;
} level_scratch;

/* The sink of a form: what is kept for the queries of a block. */
typedef struct {
    form_sink sink; /* first: forms see this much of it */
    level_scratch *scratch;
    block *into;
} level_sink;

level_sink level_sink_of(level_scratch *s, block *into);

/* A way to answer all queries: threads' scratch, each with a block of its own, which are the first of all there are. */
typedef status level_method(level_scratch *scratch, void *context, query_result *result);

/* So many times k candidates, but no more than there are, and at least `least`. */
static inline int level_room_for(const query_task *task, size_t times, size_t least)
{
    size_t wanted = times * task->k, all = task->points->n;
    wanted = wanted < all ? wanted : all;
    return (int)(wanted > least ? wanted : least);
}

/* ---- level.c: blocks, threads and the schedule ---- */

/* Puts up to BITSET_SIZE queries of one cell into a block. */
void level_block_set(const query_task *task, block *b, int cell, const int *queries, int count);

/* Evaluates what is still in play, searches what the traversal does not serve, and gives the answers. */
void level_block_answer(level_scratch *s, query_result *result);

/* How many candidates of a query may be in play. */
int level_capacity(const query_task *task);

/* Answers all queries by a method that works with `blocks` blocks of `capacity` candidates a query. */
status level_search(const query_task *task, int blocks, int capacity, level_method *method, void *context,
                    query_result *result);

/* One piece of work for a thread; 0 if there is none to take at present. */
typedef int level_piece(level_scratch *s, void *context);

/* Pieces that are there and that are over; where they stand in the whole search. */
typedef struct {
    int total, over;
    double from, share;
} level_progress;

/* All threads do pieces of work until all are over, and poll the monitor in between. */
status level_run(level_scratch *scratch, level_piece *piece, void *context, level_progress *p);

/* ---- candidates.c: thresholds, candidates, exact evaluation ---- */

/* Raises the thresholds of some queries by what has been kept since, and drops what they make hopeless. */
void level_raise_thresholds(level_scratch *s, int count, const int *members);

/* Evaluates all that is still in play. */
void level_finish(level_scratch *s, const int *members, int count);

/* Takes a point for a candidate of query q, without an interval. */
void level_take(level_scratch *s, int q, int id);

/* Evaluates all candidates of query q, as far as the budget goes, and raises its threshold by the k-best. */
void level_resolve(level_scratch *s, int q);

/* A query on an inducing input, which no traversal serves. */
void level_search_special(level_scratch *s, int q);

/* ---- frontier.c ---- */

/* Squared distance of a cell of the queries from one of the candidates. */
float level_away(const form_sides *on, int from, int cell);

/* The active queries of the block that the expansion bound does not finish with a cell. */
bitset level_bound(level_scratch *s, int cell);

/* Screens a cell for some queries, on its own. */
void level_screen(level_scratch *s, int cell, const bitset *alive);

/* Screens the nearest cell, for thresholds to start from; returns which it is. */
int level_seed(level_scratch *s);

/* Screens what the bounds leave of all cells but first .. last - 1. */
void level_frontier(level_scratch *s, int first, int last);

/* ---- mutual.c ---- */

/* Whether blocks can meet in pairs, how many at once, and how many candidates each query may have in play. */
int level_pairs_serve(const query_task *task);
int level_pairs_blocks(const query_task *task);
int level_pairs_capacity(const query_task *task);

level_method level_search_pairs;

#endif

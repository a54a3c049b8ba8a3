/* Level-synchronous search: blocks of close queries against cells of close points.
 *
 * The queries of a block, up to BITSET_SIZE of one cell, descend together. A node of the frontier
 * carries a bit mask: the queries that it may still serve.
 *   1 seed     the nearest cell is screened; every query has a threshold from then on: the k-th
 *              largest lower bound of |rho| seen so far, which only candidates that may exceed it pass
 *   2 bound    groups of cells, then the cells of the groups that survive, are skipped by the
 *              kernel-expansion bound; with subspaces also by circles: what the queries around a landmark of their cell
 *              may still want lies within some angle of it, and cells in cones (cones.h) that are farther are skipped.
 *              The rest are listed, nearest first, and skipped in the same way for single queries
 *   3 skip     a listed cell is skipped for the queries whose threshold its subspace bound does not
 *              reach: first from the landmarks of the block to those of the cell, coarse ones before all
 *              of them, for circles and then for single queries; then from the query to the cell's, some at a time
 *   4 screen   for what is left, intervals of |rho| are formed with all points of the cell, and
 *              candidates whose interval reaches the threshold are kept
 *   5 finish   these are evaluated by the metric, in double, and ordered
 * Where weights decay, kernel expansions (bounds.h) take the place of 3 and 4: panels of queries meet panels of
 * candidates that the expansion bound and spans (spans.h) leave, and a sum of a few terms is rho itself but for a
 * small error. Where neither pays, integer products (screen.h) do so, for all cells: in 8 bits where they can, and
 * in 16 what these leave. If all points are queries, blocks then meet in pairs and a product serves both
 * (query_level_pairs.c). Blocks of one query serve best-first search (query_best_cells.c).
 * Scratch belongs to a thread, the blocks that meet to all; neither depends on n, but for lists of the cells
 * and panels, and the blocks up to a bound on their memory. */
#ifndef VECCHIANN_QUERY_LEVEL_H
#define VECCHIANN_QUERY_LEVEL_H

#include "base/bitset.h"
#include "search/query.h"
#include "simd/simd.h"

#define LEVEL_CHUNK 128    /* cells of the frontier that are ordered at once */
#define LEVEL_NEARLY 50.0f /* an expansion bound of so many thresholds is not refined */
/* What a list of candidates takes: a row of a tile, and a whole vector, may come on top of its capacity. */
#define LEVEL_ROOM(capacity) ((size_t)(capacity) + SCREEN_COLS + SIMD_WIDTH)
/* Of rows of numbers by query: not a power of two, for which all of them would share the same places of a cache. */
#define LEVEL_STRIDE (BITSET_SIZE + SIMD_WIDTH)
/* Landmarks of a cell that its queries stand around; where so many say enough, they are all that is asked at first, and
 * take one tile. */
#define LEVEL_CIRCLES 8
#define LEVEL_CAREFUL 1e-5f /* more than single precision does to the cosine of a sum of angles */
/* Landmarks of a cell, the first, in whose span its queries see the axes of cones. */
#define LEVEL_SIGHT SIMD_WIDTH
/* The longest row of psi. */
#define LEVEL_WIDTH ((SUBSPACE_RANK + SIMD_WIDTH - 1) / SIMD_WIDTH * SIMD_WIDTH)

/* Candidates of one query that are still in play, by index. */
typedef struct {
    int count, *id;
    float *low, *high; /* interval of |rho| */
} candidates;

typedef struct {
    float key;   /* squared distance of the boxes, for the order of work */
    float upper; /* expansion bound for the hardest query; 1 is what must be reached */
    float most;  /* largest |P b|^2 of its queries, negative where the landmarks were not asked */
    int cell, fine;   /* whether all landmarks were asked, not the coarse ones only */
    uint32_t circles; /* in bits: those that reach it */
    int axis; /* where its correlations with landmarks of the queries' cell stand; -1 if they are not known */
    bitset active;
} work_item;

/* What queries may still want, of those that a landmark of their cell is nearest to: it lies within an angle of the
 * landmark, the largest sum of the angle to a query and of the angle of its threshold. */
typedef struct {
    int landmark;
    float noise;        /* of the landmark */
    float cosine, sine; /* of the angle, downwards and upwards; the cosine may be negative */
    bitset members;     /* the queries */
} level_circle;

/* The queries of a block from the landmarks of their own cell, coarse ones or all. */
typedef struct {
    int rank;
    float *weights;                                                 /* rank x LEVEL_STRIDE: b */
    float tail[BITSET_SIZE], size[BITSET_SIZE], noisy[BITSET_SIZE]; /* tail, |b|_1, sum noise |b| */
} span;

/* The queries that descend together, and what is known of each. */
typedef struct {
    int count, cell; /* of `from` */
    int row[BITSET_SIZE], limit[BITSET_SIZE], column[BITSET_SIZE];
    int most_limit;
    size_t query[BITSET_SIZE];
    bitset active;            /* those that the traversal serves */
    float tau[BITSET_SIZE];   /* threshold on |rho|, infinite for the others */
    float gain[BITSET_SIZE];  /* 1 / sqrt(p), upwards */
    float noise[BITSET_SIZE]; /* noise_q */
    int capacity;             /* of a list of candidates */
    candidates kept[BITSET_SIZE];
    int settled[BITSET_SIZE]; /* how many were kept when the threshold was last raised */
    int spent[BITSET_SIZE];   /* candidates that were evaluated one by one, to make room */
    kbest best[BITSET_SIZE];  /* evaluated exactly */
    char *integers;           /* rows: their features, where integers are screened */
} level_block;

/* Some blocks, and the memory that they share out. */
typedef struct {
    level_block *each;
    float *lists;
    double *best_dist;
    int *best_id;
    char *integers;
} level_blocks;

/* Queries of a block that stand in one panel, up to SCREEN_COLS of them, and the points that span the panel. */
typedef struct {
    int panel, count;
    const int *members;                                  /* of the block */
    const float *x[SCREEN_COLS], *features[SCREEN_COLS]; /* by member: as a row of a tile, */
    float gain[SCREEN_COLS];                             /* which knows its own gain; */
    float most_gain;                                     /* upwards, of all */
    simd_group limit;                                    /* by member */
    int spans; /* how many points span the panel, in rows */
    simd_rows rows;
    float *span_x; /* SCREEN_ROWS x d: where they stand in the frame of a cell, */
    int frame_of,
        relative_to; /* that one, and the cell that the members' positions are relative to; -1 for none */
    int asked,
        spared; /* how often they were asked about a panel of it, and members that this took off */
} level_group;

/* A block has no more: one for each panel of a cell, and one for each whole panel of queries. */
#define LEVEL_GROUPS ((CELLS_MOST + BITSET_SIZE) / SCREEN_COLS)

/* What a thread works with. */
typedef struct {
    const query_task *task;
    level_block *block; /* borrowed: the queries at hand */
    /* frontier */
    work_item *work;
    float *special_upper;                    /* by panel, of one special query */
    int *deferred, deferrals, deferral_room; /* queries that are left to brute force */
    float *lows;                             /* of one query, for its threshold */
    double *low_dist;                        /* k, the next too: the same of a special query */
    int *low_id;
    double *dist;   /* of the candidates of one query */
    float *lengths; /* LEVEL_CHUNK x BITSET_SIZE: |P b|^2 */
    float least[BITSET_SIZE], must[BITSET_SIZE];
    /* circles; by query, which one it belongs to, and cosine and sine of the angle between them */
    int circles, circle_of[BITSET_SIZE];
    level_circle circle[LEVEL_CIRCLES];
    float circle_cosine[BITSET_SIZE], circle_sine[BITSET_SIZE];
    float tau_cosine[BITSET_SIZE], tau_sine[BITSET_SIZE]; /* of the angle of its threshold */
    float least_cosine, least_sine;                       /* of the smallest of them */
    /* cones: coordinates of the queries, and distances, in the span of as many landmarks */
    int sight;
    float *sight_psi; /* LEVEL_SIGHT x LEVEL_STRIDE */
    float sight_tail[BITSET_SIZE];
    float *
        panel_rho; /* LEVEL_SIGHT x SIMD_MAX_COLS: correlations of the axes of a panel with the landmarks */
    float *axis_rho; /* cells x LEVEL_SIGHT: of those of the work */
    /* subspaces: rows of a block, of its landmarks, of what is left of it for a cell */
    float *own, *products, *psi; /* rows x width: psi in the own cell, P b, psi */
    span spans[2];               /* coarse landmarks, all */
    float *P;                    /* rank x width of another cell */
    float *inverse;              /* of the own cell, not transposed */
    const float **rows;
    const double *row_x[BITSET_SIZE], *row_v[BITSET_SIZE]; /* queries that are projected */
    double row_scale[BITSET_SIZE];
    const double *landmark_x[SUBSPACE_RANK], *landmark_v[SUBSPACE_RANK]; /* of the own cell */
    double landmark_scale[SUBSPACE_RANK];
    float *value; /* SCREEN_ROWS x SCREEN_COLS */
    /* integers, expansions */
    float *relative; /* BITSET_SIZE x d: positions from the centre of a cell */
    /* expansions */
    int *row_at, *column_at; /* m: terms of two panels */
    float no_tail[SCREEN_COLS];
    int groups, grouped[BITSET_SIZE]; /* members of the groups */
    level_group *group;
    float *span_x; /* of all groups */
    /* integers */
    simd_rows *row_tiles; /* BITSET_SIZE / SCREEN_ROWS */
    simd_intervals *intervals;
    query_counters counters;
} level_scratch;

/* A way to answer all queries: threads' scratch, each with a block of its own, and all blocks there are. */
typedef status level_method(level_scratch *scratch, level_block *blocks, void *context,
                            query_result *result);

/* So many times k candidates, but no more than there are, and at least `least`. */
static inline int level_room_for(const query_task *task, size_t times, size_t least)
{
    size_t wanted = times * task->k, all = task->points->n;
    wanted = wanted < all ? wanted : all;
    return (int)(wanted > least ? wanted : least);
}

/* ---- query_level_block.c ---- */

/* How many queries a block may have. */
static inline size_t level_width(const query_task *task)
{
    return task->count < BITSET_SIZE ? task->count : BITSET_SIZE;
}

/* Room for `count` blocks of which every query may have `capacity` candidates in play; 0 without memory. */
int level_blocks_new(const query_task *task, size_t count, int capacity, level_blocks *blocks);
void level_blocks_free(level_blocks *blocks);

/* Puts up to BITSET_SIZE queries of one cell into a block. */
void level_block_set(const query_task *task, level_block *block, int cell, const int *queries,
                     int count);

/* Positions of some queries relative to the centre of a cell. */
void level_relative(level_scratch *s, int cell, int count, const int *members);

/* Evaluates what is still in play, searches what the traversal does not serve, and gives the answers. */
void level_block_answer(level_scratch *s, query_result *result);

/* The numbers 0 .. count - 1 in the order of their distance from one of them: panels of the queries' own cell come
 * nearest first, for thresholds to rise early. */
static inline int level_nth_nearest(int from, int n, int count)
{
    int spare = from < count - 1 - from ? from : count - 1 - from; /* on the shorter side */
    if (n > 2 * spare)
        return from == spare ? n : count - 1 - n;
    return n % 2 ? from - (n + 1) / 2 : from + n / 2;
}

/* ---- query_level_candidates.c: thresholds, candidates, exact evaluation ---- */

/* Keeps the candidates of a mask of a panel's points for query q of a block, making room where it must. */
void level_keep(level_scratch *s, level_block *b, int q, const int *ids, uint32_t mask,
                const simd_interval_row *row);

/* Keeps one candidate. */
void level_keep_one(level_scratch *s, level_block *b, int q, int id, float low, float high);

/* Raises the thresholds of some queries by what has been kept since, and drops what they make hopeless. */
void level_raise_thresholds(level_scratch *s, int count, const int *members);

/* Evaluates all that is still in play. */
void level_finish(level_scratch *s, const int *members, int count);

/* A query on an inducing input, which no traversal serves. */
void level_search_special(level_scratch *s, int q);

/* ---- query_level_subspaces.c ---- */

/* The queries as rows, and what their own cell says of them. */
void level_subspaces_set(level_scratch *s);

/* The cell that thresholds start from; the queries' own if they are candidates. */
void level_subspaces_seed(level_scratch *s, int cell);

/* A block of one query: what its own cell knows of it, and its intervals with the points of that cell. */
void level_subspaces_own(level_scratch *s);

/* A block of one query: its intervals with all points of a cell, from its coordinates in the span of all
 * landmarks and their squared length. */
void level_subspaces_screen_one(level_scratch *s, int cell, const float *psi, float length);

/* Some cells of the frontier, for the queries that each is still active for. */
void level_subspaces_screen(level_scratch *s, work_item *work, int count);

/* ---- query_level_circles.c ---- */

/* Which landmark of their own cell each query belongs to. */
void level_circles_set(level_scratch *s);

/* Draws the circles by the present thresholds. */
void level_circles_draw(level_scratch *s);

/* Which circles reach the points within an angle, given by cosine and sine, of a space: near[c] is at least the
 * cosine of the angle between it and the landmark of circle c. */
uint32_t level_circles_reach(const level_scratch *s, const float *near, float cosine, float sine);

/* The queries of some circles. */
bitset level_circles_members(const level_scratch *s, uint32_t some);

/* ---- query_level_cones.c ---- */

/* How the queries see the axes of cones. */
void level_cones_set(level_scratch *s);

/* For each cell of a panel of cones, which circles reach it. Returns whether its axes were asked. */
int level_cones_reach(level_scratch *s, int panel, uint32_t *reach);

/* Keeps what was asked of a cell of that panel, for an item of the work. Returns where. */
int level_cones_keep(level_scratch *s, int cell, int item);

/* Takes the queries that want nothing of its cone from an item. */
void level_cones_ask(level_scratch *s, work_item *item);

/* ---- query_level_integers.c ---- */

/* The queries as rows. */
void level_integers_set(level_scratch *s);

/* Some queries against a cell. Where the block that stands in this cell is given, with all of its points as
 * queries, it keeps the rows as candidates too, from the same products. */
void level_integers_screen(level_scratch *s, int cell, const int *members, int count,
                           level_block *other);

/* ---- query_level_expansions.c ---- */

/* The active queries in groups. */
void level_expansions_set(level_scratch *s);

/* All groups against a cell, panel by panel. */
void level_expansions_screen(level_scratch *s, int cell);

/* ---- query_level_frontier.c ---- */

/* Squared distance of a cell of the queries from one of the candidates. */
float level_away(const index_search *index, int from, int cell);

/* The active queries of the block that the expansion bound does not finish with a cell. */
bitset level_bound(level_scratch *s, int cell);

/* Screens the nearest cell, for thresholds to start from; returns which it is. */
int level_seed(level_scratch *s);

/* Screens what the expansion bound leaves of all cells but first .. last - 1. */
void level_frontier(level_scratch *s, int first, int last);

/* ---- query_level_pairs.c ---- */

/* Whether blocks can meet in pairs, how many at once, and how many candidates each query may have in play. */
int level_pairs_serve(const query_task *task);
int level_pairs_blocks(const query_task *task);
int level_pairs_capacity(const query_task *task);

level_method level_search_pairs;

/* ---- query_level.c ---- */

/* How many candidates of a query may be in play: more where intervals are wide. */
int level_capacity(const query_task *task);

/* Answers all queries by a method that works with `blocks` blocks of `capacity` candidates a query. */
status level_search(const query_task *task, int blocks, int capacity, level_method *method,
                    void *context, query_result *result);

/* One piece of work for a thread; 0 if there is none to take at present. */
typedef int level_piece(level_scratch *s, void *context);

/* Pieces that are there and that are over; where they stand in the whole search. */
typedef struct {
    int total, over;
    double from, share;
} level_progress;

/* All threads do pieces of work until all are over, and poll the monitor in between. */
status level_run(level_scratch *scratch, level_piece *piece, void *context, level_progress *p);

#endif

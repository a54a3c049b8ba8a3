/* Screening forms: the contract between the traversal of a search and what screens pairs for it.
 *
 * The traversal (search/) alone owns the order of cells, the thresholds, the candidates in play and their exact
 * evaluation. A form keeps something of the points of each cell, in memory that it alone knows, and is asked two things
 * about a block of queries: which of them are done with a cell, and in which interval |rho| of a query and a point
 * lies. It sees the block as const and writes intervals to a sink. Forms share no state; each is one row, defined in
 * its file and listed in search/index.c.
 *
 * Two laws hold for every form (tests/testthat/test-form.R checks them with the form forced; form/laws.h):
 *   1. skim never clears a query for which some |rho| of the cell reaches its threshold, nor does screen, which clears
 *      those that it emits no interval for;
 *   2. every interval that screen emits contains |rho|, and a pair that it does not emit does not reach the threshold.
 * Thresholds rise while a form screens: it may read them again from the block at any time. */
#ifndef VECCHIANN_FORM_H
#define VECCHIANN_FORM_H

#include "base/bitset.h"
#include "bound/bounds.h"
#include "partition/cells.h"
#include "simd/simd.h"

/* What a search counts. */
typedef struct {
    double nodes;        /* parts of the candidates visited: groups, cells, panels */
    double bounds;       /* bounds evaluated on a part and a query */
    double pruned;       /* of these, those that skipped the part */
    double screened;     /* pairs screened by an interval for their correlation */
    double correlations; /* residual correlations evaluated in double precision */
    double scattered;    /* of these, those of candidates that few queries share */
} query_counters;

/* Points in cells, their bounds and what a form keeps of them. */
typedef struct {
    const metric_points *points;
    cells order;
    bounds bound;
    void *form_data;
} point_set;

/* Candidates and queries; one and the same set where the queries are candidates. */
typedef struct {
    const kernel *kern;
    const point_set *points, *from;
} form_sides;

/* The queries that descend together, of one cell, and what is known of each. */
typedef struct {
    int count, cell; /* of the queries' set */
    int row[BITSET_SIZE], limit[BITSET_SIZE], column[BITSET_SIZE];
    int most_limit;
    bitset active;               /* those that the traversal serves */
    float tau[BITSET_SIZE];      /* threshold on |rho|, infinite for the others */
    float gain[BITSET_SIZE];     /* 1 / sqrt(p), upwards */
    float roundoff[BITSET_SIZE]; /* roundoff_q, see bounds.h */
    void *rows;                  /* the form's: row_bytes for each query */
} block;

/* A cell of the frontier. */
typedef struct {
    float key;   /* squared distance of the middles of the boxes, for the order of work */
    float ratio; /* expansion bound for the hardest query; 1 is what must be reached */
    int cell;
    uint32_t parts; /* what skim said of it; 0 where it was not asked */
    bitset alive;   /* the queries that it may still serve */
} frontier_cell;

/* Where intervals go: for query q of the block that is screened, the points of a mask of a panel. */
typedef struct form_sink {
    void (*keep)(struct form_sink *self, int q, const int *ids, uint32_t mask, const simd_interval_row *row);
    /* one that is a candidate of q for sure: below its limit, and not q itself, which keep sees to */
    void (*keep_one)(struct form_sink *self, int q, int id, float low, float high);
    query_counters *counters;
} form_sink;

/* A visitor of the arrays of a form, in one order for packing, opening, listing and freeing an index: `field` is the
 * address of a pointer to `bytes` bytes. What the lengths of later arrays depend on is visited first. */
typedef struct field_visitor {
    void (*visit)(struct field_visitor *self, const char *name, void *field, size_t bytes);
    size_t end; /* for opening: how much memory there is, 0 otherwise, */
    int beyond; /* and whether an array would not lie in it: what was visited is not to be read then */
} field_visitor;

#define COST_KERNEL 80.0 /* products of brute force that a kernel value in double, and its comparison, are worth */

/* What a form expects of a query before anything is built. Costs are in double-precision products in the tiles of
 * brute force, measured on one machine: only their order of magnitude matters, for a choice between ways that give the
 * same answer. */
typedef struct {
    double pairs, pair; /* pairs that it screens, infinite where it will not do, and what one costs; */
    double more;        /* what else it costs; */
    double left;        /* candidates that it leaves to exact evaluation */
    double hopeless;    /* the share of the queries that it leaves to brute force; of these nothing else counts */
} form_forecast;

typedef struct screening_form {
    const char *name, *note; /* short; and what `auto` says when it takes it */
    /* How the traversal serves it, each at least 1: the threshold is raised when `settle` k candidates are new, and a
     * query is left to brute force when more than one in `give_up` points had to be evaluated to make room. */
    int settle, give_up;

    size_t form_data_bytes; /* of what is kept of a set, without its arrays; 0 where nothing is */
    int terms;              /* whether panels keep terms of the expansion bound (bounds.h); the form asks for bounds of
                          panels itself then */
    int compact; /* whether cells of queries that are no candidates must be as small as those of candidates */
    /* For k neighbours. It may say at once that it will not do where the pairs that it screens cost more than `most`.
     * NULL: `auto` never takes it. */
    status (*forecast)(const metric_source *source, const metric_points *points, int k, double most,
                       form_forecast *out);
    double (*pair_cost)(const point_set *set); /* of a pair screened, in the same unit, of what was built */
    /* Optional: the cells of candidates, none (count 0) where the form does not serve them. */
    status (*divide)(const metric_source *source, const metric_points *points, int threads, cells *out);
    /* Of forms that keep something: what is kept of the points of a set whose cells and bounds are there; `like` is the
     * set of the candidates where the set is one of queries. What an error leaves is freed by its fields. */
    status (*build)(const metric_source *source, const point_set *like, int threads, const monitor *mon,
                    point_set *set);
    /* Visits its arrays, but none whose length an array tells that is not there yet; sets what is borrowed of the set,
     * too. */
    void (*fields)(point_set *set, field_visitor *walk);

    /* What a thread works with, in one piece of memory for scratch_free; NULL without. Its size does not depend on n,
     * but for lists of cells. */
    void *(*work_new)(const form_sides *on);
    size_t (*row_bytes)(const form_sides *on); /* of a query of a block; NULL for none */

    void (*begin)(const form_sides *on, const block *b, void *work);
    /* Optional: parts of the block, in bits that the form gives a meaning, that may want something of a cell; 0 skips
     * it. Called in the order of the cells, before they are sorted. */
    uint32_t (*skim)(const form_sides *on, const block *b, int cell, query_counters *c, void *work);
    /* Intervals of the queries alive with the points of a cell; a pair that has none is done with. */
    void (*screen)(const form_sides *on, const block *b, const frontier_cell *item, form_sink *sink, void *work);
    /* Optional: the same for two blocks whose cells meet, all of whose points are queries: the products of `count`
     * members of the one with all of the other serve both. */
    void (*screen_both)(const form_sides *on, const block *b, const block *other, const int *members, int count,
                        form_sink *sink, form_sink *to_other, void *work);
} screening_form;

extern const screening_form form_landmarks, form_integers, form_expansions, form_dense;

/* The numbers 0 .. count - 1 in the order of their distance from one of them: panels of the queries' own cell come
 * nearest first, for thresholds to rise early. */
static inline int form_nth_nearest(int from, int n, int count)
{
    int spare = from < count - 1 - from ? from : count - 1 - from; /* on the shorter side */
    if (n > 2 * spare)
        return from == spare ? n : count - 1 - n;
    return n % 2 ? from - (n + 1) / 2 : from + n / 2;
}

/* Whether a cell is the queries' own. */
static inline int form_is_own(const form_sides *on, const block *b, int cell)
{
    return on->from == on->points && cell == b->cell;
}

#endif

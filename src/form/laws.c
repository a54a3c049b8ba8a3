#include "form/laws.h"

#include "base/scratch.h"

#include <string.h>

static const screening_form *inner;
static screening_form checked;
static laws_count *counts;
static char *emitted, *emitted_other; /* BITSET_SIZE x candidates: pairs of a block with an interval */
static size_t candidates;

typedef struct {
    form_sink sink;
    form_sink *to;
    const form_sides *on;
    const block *b;
    char *emitted;
} law_sink;

static double correlation(const form_sides *on, const block *b, int q, int id)
{
    double rho;
    metric_list(on->kern, on->from->points, b->row[q], on->points->points, &id, 1, &rho);
    return fabs(rho);
}

static int admissible(const form_sides *on, const block *b, int q, int id)
{
    return id >= 0 && id < b->limit[q] && !(on->from == on->points && id == b->row[q]);
}

/* Queries that are done with a cell. */
static void check_cleared(const form_sides *on, const block *b, int cell, const bitset *before, const bitset *after)
{
    const cells *order = &on->points->order;
    int members[BITSET_SIZE], count = bitset_members(before, members);
    for (int i = 0; i < count; i++) {
        int q = members[i], wrong = 0;
        if (after->word[q / 64] >> (q % 64) & 1 || b->tau[q] == INFINITY)
            continue;
        for (int at = order->first[cell]; at < order->first[cell + 1]; at++)
            wrong |= admissible(on, b, q, order->perm[at]) && correlation(on, b, q, order->perm[at]) >= b->tau[q];
        counts->cleared++;
        counts->wrong_cleared += wrong;
    }
}

static void check_interval(const law_sink *s, int q, int id, float low, float high)
{
    double rho = correlation(s->on, s->b, q, id);
    counts->intervals++;
    counts->wrong_intervals += !(low <= rho && rho <= high);
    s->emitted[q * candidates + id] = 1;
}

static void keep(form_sink *self, int q, const int *ids, uint32_t mask, const simd_interval_row *row)
{
    const law_sink *s = (law_sink *)self;
    for (uint32_t left = mask; left; left &= left - 1) {
        int j = __builtin_ctz(left);
        float value = fabsf(row->value[j]),
              error = row->base + row->slope * row->norm[j] + row->row_norm * row->error[j];
        if (admissible(s->on, s->b, q, ids[j]))
            check_interval(s, q, ids[j], value - error, value + error);
    }
    s->to->keep(s->to, q, ids, mask, row);
}

static void keep_one(form_sink *self, int q, int id, float low, float high)
{
    const law_sink *s = (law_sink *)self;
    check_interval(s, q, id, low, high);
    s->to->keep_one(s->to, q, id, low, high);
}

static law_sink sink_of(const form_sides *on, const block *b, form_sink *to, char *at)
{
    return (law_sink){{keep, keep_one, to->counters}, to, on, b, at};
}

/* Pairs without an interval; a query that has none with a cell is done with it. */
static void check_silent(const form_sides *on, const block *b, int cell, int count, const int *members,
                         const char *emitted)
{
    const cells *order = &on->points->order;
    for (int i = 0; i < count; i++) {
        int q = members[i], some = 0, silent = 0, wrong = 0;
        for (int at = order->first[cell]; at < order->first[cell + 1] && b->tau[q] != INFINITY; at++) {
            int id = order->perm[at], seen = emitted[q * candidates + id];
            some |= seen;
            if (seen || !admissible(on, b, q, id))
                continue;
            silent++;
            wrong += correlation(on, b, q, id) >= b->tau[q];
        }
        counts->silent += some ? silent : 0;
        counts->cleared += !some && silent;
        counts->wrong_silent += some ? wrong : 0;
        counts->wrong_cleared += !some && wrong;
    }
}

static void begin(const form_sides *on, const block *b, void *work)
{
    memset(emitted, 0, BITSET_SIZE * candidates);
    inner->begin(on, b, work);
}

static uint32_t skim(const form_sides *on, const block *b, int cell, query_counters *c, void *work)
{
    static const bitset none;
    uint32_t parts = inner->skim(on, b, cell, c, work);
    if (!parts)
        check_cleared(on, b, cell, &b->active, &none);
    return parts;
}

static void screen(const form_sides *on, const block *b, const frontier_cell *item, form_sink *sink, void *work)
{
    int members[BITSET_SIZE], count = bitset_members(&item->alive, members);
    law_sink to = sink_of(on, b, sink, emitted);
    inner->screen(on, b, item, &to.sink, work);
    check_silent(on, b, item->cell, count, members, emitted);
}

/* Members of one block with all of the other, whose queries are checked where they met all of the one. */
static void screen_both(const form_sides *on, const block *b, const block *other, const int *members, int count,
                        form_sink *sink, form_sink *to_other, void *work)
{
    int all[BITSET_SIZE];
    law_sink to = sink_of(on, b, sink, emitted), too = sink_of(on, other, to_other, emitted_other);
    memset(emitted, 0, BITSET_SIZE * candidates);
    memset(emitted_other, 0, BITSET_SIZE * candidates);
    inner->screen_both(on, b, other, members, count, &to.sink, &too.sink, work);
    for (int q = 0; q < other->count; q++)
        all[q] = q;
    check_silent(on, b, other->cell, count, members, emitted);
    if (count == b->count)
        check_silent(on, other, b->cell, other->count, all, emitted_other);
    counts->pairs++;
}

const screening_form *laws_of(const screening_form *form, size_t points, laws_count *count)
{
    emitted = scratch_alloc(2 * BITSET_SIZE * points, 1);
    if (!emitted)
        return NULL;
    emitted_other = emitted + BITSET_SIZE * points;
    inner = form;
    counts = count;
    candidates = points;
    checked = *form;
    checked.begin = begin;
    checked.skim = form->skim ? skim : NULL;
    checked.screen = screen;
    checked.screen_both = form->screen_both ? screen_both : NULL;
    return &checked;
}

void laws_end(void)
{
    scratch_free(emitted);
    emitted = emitted_other = NULL;
}

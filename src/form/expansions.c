/* Expansions: the form of short lengthscales in few dimensions. Panels of queries meet panels of candidates that the
 * expansion bound and spans (spans.h) leave, and a sum of a few terms is rho itself but for a small error (bounds.h,
 * terms). */
#include "base/scratch.h"
#include "bound/spans.h"
#include "form/form.h"
#include "form/frames.h"
#include "form/sample.h"
#include "model/inducing.h"

#include <math.h>
#include <string.h>

/* What a term may be, times the largest gain of the queries, for it to be left out. */
#define NEGLIGIBLE 0.0006f
/* From so many queries on that the expansion bound leaves a panel, the span of theirs is asked about it. */
#define SPANS_PAY 12
/* Costs, see form.h. */
#define COST_PAIR 75.0    /* a pair screened, bounds of panels included; before there are any: */
#define COST_TERMS 40.0   /* a pair screened without its terms, */
#define COST_TERM 2.5     /* and for each of them */
#define SPREAD 1.25       /* times d: the pairs that bounds of panels leave, for one that bounds of points leave */
#define SAMPLE_POINTS 512 /* at most, */
#define SAMPLE_SHARE 16   /* and one of so many */
#define SAMPLE_QUERIES 16
#define SAMPLE_ENOUGH 4     /* queries that show that there is nothing to gain, */
#define SAMPLE_HOPELESS 0.6 /* by the share of the points that is left */
#define SAMPLE_TERM 0.0006  /* a smaller one does not count */
#define SAMPLE_ERROR 0.002  /* of a correlation by its terms, about */
/* A block has no more bundles: one for each panel of a cell, and one for each whole panel of queries. */
#define BUNDLES ((CELLS_MOST + BITSET_SIZE) / SCREEN_COLS)

typedef struct {
    frames frame;
    spans span;
} expansions;

static const frames *frame_of(const point_set *set) { return &((const expansions *)set->form_data)->frame; }
static const spans *spans_of(const point_set *set) { return &((const expansions *)set->form_data)->span; }

/* Queries of a block that stand in one panel, up to SCREEN_COLS of them, and the points that span the panel. */
typedef struct {
    int panel, count;
    const int *members;                                  /* of the block */
    const float *x[SCREEN_COLS], *features[SCREEN_COLS]; /* by member: as a row of a tile, */
    float gain[SCREEN_COLS];                             /* which knows its own gain; */
    float most_gain;                                     /* upwards, of all */
    simd_bundle needs;                                   /* by member */
    int rank;                                            /* how many points span the panel, in rows */
    simd_rows rows;
    float *span_x;             /* SCREEN_ROWS x d: where they stand in the frame of a cell, */
    int frame_of, relative_to; /* that one, and the cell that the members' positions are relative to; -1 for none */
} bundle;

typedef struct {
    const form_sides *on;
    const block *b;
    form_sink *sink;                   /* of the cell at hand */
    float *relative;                   /* BITSET_SIZE x d: positions from the centre of a cell */
    int *row_at, *column_at;           /* m: terms of two panels */
    int bundles, bundled[BITSET_SIZE]; /* members of the bundles */
    bundle *bundle;
    float *span_x, *value; /* of all bundles; SCREEN_ROWS x SCREEN_COLS */
} expansions_work;

/* Columns that a bundle meets, and the terms that it meets them with. */
typedef struct {
    int cell, panel;
    simd_columns columns;
    int terms;
    float error; /* of a correlation, but for the query's gain */
} encounter;

/* ---- what is kept, and the workspace ----------------------------------------------------------- */

static status build(const metric_source *source, const point_set *like, int threads, const monitor *mon, point_set *set)
{
    expansions *kept = set->form_data;
    (void)like;
    status result =
        frames_build(source->kern, set->points, &set->order, &set->bound.special, threads, mon, &kept->frame);
    return result.code ? result : spans_build(&set->bound, threads, mon, &kept->span);
}

static void fields(point_set *set, field_visitor *walk)
{
    spans *s = &((expansions *)set->form_data)->span;
    size_t panels = set->order.panels, rows = panels * SCREEN_ROWS, columns = panels * SCREEN_COLS;
    frames_fields(&((expansions *)set->form_data)->frame, &set->order, walk);
    walk->visit(walk, "spans.rank", &s->rank, panels * sizeof(int));
    walk->visit(walk, "spans.pivot", &s->pivot, rows * sizeof(int));
    walk->visit(walk, "spans.inverse", &s->inverse, rows * SCREEN_ROWS * sizeof(float));
    walk->visit(walk, "spans.amplify", &s->amplify, panels * sizeof(float));
    walk->visit(walk, "spans.roundoff", &s->roundoff, panels * sizeof(float));
    walk->visit(walk, "spans.rounding", &s->rounding, panels * sizeof(float));
    walk->visit(walk, "spans.cosine", &s->cosine, columns * sizeof(float));
    walk->visit(walk, "spans.sine", &s->sine, columns * sizeof(float));
}

static void *work_new(const form_sides *on)
{
    size_t d = on->points->points->d, m = on->points->points->m;
    expansions_work w = {0};
    return SCRATCH_WHOLE(w, SCRATCH_FOR(w.relative, BITSET_SIZE * d), SCRATCH_FOR(w.row_at, m + SIMD_WIDTH),
                         SCRATCH_FOR(w.column_at, m + SIMD_WIDTH), SCRATCH_FOR(w.bundle, BUNDLES),
                         SCRATCH_FOR(w.span_x, BUNDLES * SCREEN_ROWS * d),
                         SCRATCH_FOR(w.value, SCREEN_ROWS * SCREEN_COLS));
}

/* ---- bundles of queries ------------------------------------------------------------------------- */

/* What stands in a column of the panel of a bundle, as a row of a tile. */
static const float *row_features(const expansions_work *w, const bundle *g, int column)
{
    const bounds_terms *terms = &w->on->from->bound.terms;
    return terms->weights + (size_t)g->panel * terms->most * SCREEN_COLS + column % SCREEN_COLS;
}

/* The points that span the panel of a bundle, but for where they stand in the frame of a cell. */
static void set_span(const expansions_work *w, bundle *g)
{
    const point_set *from = w->on->from;
    const spans *s = spans_of(from);
    g->rank = s->rank[g->panel];
    for (int a = 0; a < SCREEN_ROWS; a++) {
        int column = g->panel * SCREEN_COLS + s->pivot[g->panel * SCREEN_ROWS + a];
        g->rows.x[a] = g->span_x + (size_t)a * from->points->d;
        g->rows.features[a] = row_features(w, g, column);
        g->rows.gain[a] = frame_of(from)->kernel_gain[column];
        g->rows.tau[a] = INFINITY;
    }
}

/* The first of some queries that stand in one panel. */
static void set_bundle(const expansions_work *w, const int *members, int count, bundle *g)
{
    const block *b = w->b;
    const point_set *from = w->on->from;
    float most_roundoff = (float)w->on->points->bound.most_roundoff * 1.00001f;
    g->panel = b->column[members[0]] / SCREEN_COLS;
    g->members = members;
    g->count = 0;
    g->frame_of = g->relative_to = -1;
    g->most_gain = 0.0f;
    set_span(w, g);
    for (int i = 0; i < count && i < SCREEN_COLS; i++) {
        int q = members[i], column = b->column[q];
        if (column / SCREEN_COLS != g->panel)
            break;
        g->count++;
        g->x[i] = w->relative + (size_t)q * from->points->d;
        g->features[i] = row_features(w, g, column);
        g->gain[i] = frame_of(from)->kernel_gain[column];
        g->most_gain = b->gain[q] > g->most_gain ? b->gain[q] : g->most_gain;
        g->needs.roundoff[i] = b->roundoff[q] * most_roundoff;
        g->needs.inverse[i] = 0.99999f / b->gain[q];
        g->needs.cosine[i] = spans_of(from)->cosine[column];
        g->needs.sine[i] = spans_of(from)->sine[column];
    }
    for (int i = g->count; i < SCREEN_COLS; i++)
        g->needs.roundoff[i] = g->needs.cosine[i] = g->needs.sine[i] = g->needs.inverse[i] = 1.0f;
}

/* The active queries in bundles. */
static void begin(const form_sides *on, const block *b, void *work)
{
    expansions_work *w = work;
    int count = bitset_members(&b->active, w->bundled), d = on->from->points->d;
    w->on = on;
    w->b = b;
    w->bundles = 0;
    for (int i = 0; i < count; i += w->bundle[w->bundles++].count) {
        bundle *g = &w->bundle[w->bundles];
        g->span_x = w->span_x + (size_t)w->bundles * SCREEN_ROWS * d;
        set_bundle(w, w->bundled + i, count - i, g);
    }
}

/* Takes note of the thresholds; returns the smallest bound that matters. */
static float note_thresholds(const expansions_work *w, bundle *g)
{
    for (int i = 0; i < SCREEN_COLS; i++)
        g->needs.tau[i] = i < g->count ? w->b->tau[g->members[i]] : INFINITY;
    return simd->bundle_limits(&g->needs);
}

/* ---- panel to panel ---------------------------------------------------------------------------- */

/* The terms of a bundle and of a panel whose expansion bound is known. */
static void choose_terms(expansions_work *w, const bundle *g, float upper, encounter *e)
{
    const bounds *points = &w->on->points->bound, *from = &w->on->from->bound;
    size_t m = points->m, row = g->panel * m, column = e->panel * m;
    float left = 0.0f;
    e->terms = 0;
    if (m)
        e->terms = simd->choose_terms((int)m, from->panels.weight + row, points->panels.reach + column,
                                      from->terms.weight_rank + row, points->terms.kernel_rank + column,
                                      NEGLIGIBLE / g->most_gain, w->row_at, w->column_at, &left);
    e->error =
        left * (1.0f + 0x1p-23f * (float)(m + 16)) + 0x1p-23f * (float)(e->terms + 8) * upper +
        frame_of(w->on->points)->slack[e->cell] * (float)(points->panels.gain[e->panel] * points->kern->variance);
    e->error *= 1.0001f;
}

/* Puts the points that span the panel of a bundle into the frame of a cell. */
static void place_span(const expansions_work *w, int cell, bundle *g)
{
    const point_set *from = w->on->from;
    int d = from->points->d;
    g->frame_of = cell;
    for (int a = 0; a < SCREEN_ROWS; a++) {
        int place = spans_of(from)->pivot[g->panel * SCREEN_ROWS + a];
        size_t id = from->order.ids[(size_t)g->panel * SCREEN_COLS + place];
        frames_relative(frame_of(w->on->points), cell, from->points->x + id * d, g->span_x + (size_t)a * d);
    }
}

/* The members of a mask, `asked` of them, that the span of their panel does not finish with a panel. */
static uint32_t ask_span(expansions_work *w, const encounter *e, bundle *g, int asked, uint32_t members)
{
    const frames *frame = frame_of(w->on->points);
    const spans *span = spans_of(w->on->from);
    query_counters *counters = w->sink->counters;
    int rank = g->rank;
    uint32_t mask[SCREEN_ROWS];
    if (!rank)
        return members;
    if (g->frame_of != e->cell)
        place_span(w, e->cell, g);
    simd->expansion_tile(frame->pieces, rank, frame->d, e->terms, w->row_at, w->column_at, &g->rows, &e->columns,
                         w->value, mask);
    const float *inverse = span->inverse + (size_t)g->panel * SCREEN_ROWS * SCREEN_ROWS;
    float most_roundoff = (float)w->on->points->bound.most_roundoff,
          length = sqrtf(simd->span_length(rank, inverse, w->value)),
          error =
              span->amplify[g->panel] * e->error + span->roundoff[g->panel] * most_roundoff + span->rounding[g->panel];
    members &= simd->within(g->needs.must, 1.00001f * length + 1.001f * error);
    int left = __builtin_popcount(members);
    counters->screened += (double)rank * SCREEN_COLS;
    counters->bounds += asked;
    counters->pruned += asked - left;
    return members;
}

/* Up to SCREEN_ROWS members against a panel; idle rows repeat the first. */
static void screen_tile(expansions_work *w, bundle *g, const encounter *e, int count, const int *some)
{
    const block *b = w->b;
    const frames *frame = frame_of(w->on->points);
    const metric_points *from = w->on->from->points;
    static const float none[SCREEN_COLS];
    simd_rows rows;
    uint32_t mask[SCREEN_ROWS];
    float base[SCREEN_ROWS];
    if (g->relative_to != e->cell) {
        for (int i = 0; i < g->count; i++)
            frames_relative(frame, e->cell, from->x + (size_t)b->row[g->members[i]] * from->d,
                            w->relative + (size_t)g->members[i] * from->d);
        g->relative_to = e->cell;
    }
    for (int a = 0; a < SCREEN_ROWS; a++) {
        int i = some[a < count ? a : 0], q = g->members[i];
        rows.x[a] = g->x[i];
        rows.features[a] = g->features[i];
        rows.gain[a] = g->gain[i];
        base[a] = g->needs.roundoff[i] + b->gain[q] * e->error;
        rows.tau[a] = b->tau[q] - base[a];
    }
    simd->expansion_tile(frame->pieces, count, frame->d, e->terms, w->row_at, w->column_at, &rows, &e->columns,
                         w->value, mask);
    w->sink->counters->screened += (double)count * SCREEN_COLS;
    for (int a = 0; a < count; a++)
        if (mask[a]) {
            simd_interval_row row = {.value = w->value + a * SCREEN_COLS, .norm = none, .error = none, .base = base[a]};
            w->sink->keep(w->sink, g->members[some[a]], w->on->points->order.ids + (size_t)e->panel * SCREEN_COLS,
                          mask[a], &row);
        }
}

/* A bundle against a panel of a cell: those members that the bounds leave. */
static void screen_panel(expansions_work *w, int cell, int panel, float upper, bundle *g)
{
    const frames *frame = frame_of(w->on->points);
    const bounds_terms *terms = &w->on->points->bound.terms;
    size_t column = (size_t)panel * SCREEN_COLS;
    uint32_t members = simd->within(g->needs.least, upper) & (UINT32_MAX >> (SCREEN_COLS - g->count));
    int some[SCREEN_COLS], count = 0, left = __builtin_popcount(members);
    w->sink->counters->pruned += g->count - left;
    if (!members)
        return;
    encounter e = {.cell = cell,
                   .panel = panel,
                   .columns = {.x = frame->x + column * frame->d,
                               .gain = frame->kernel_gain + column,
                               .features = terms->kernels + column * terms->most}};
    choose_terms(w, g, upper, &e);
    if (left >= SPANS_PAY)
        members = ask_span(w, &e, g, left, members);
    for (; members; members &= members - 1)
        some[count++] = __builtin_ctz(members);
    for (int i = 0; i < count; i += SCREEN_ROWS)
        screen_tile(w, g, &e, count - i < SCREEN_ROWS ? count - i : SCREEN_ROWS, some + i);
}

/* A bundle against the panels of a cell that the bounds leave. */
static void screen_bundle(expansions_work *w, int cell, bundle *g)
{
    const cells *order = &w->on->points->order;
    const bounds *points = &w->on->points->bound;
    const bounds_ranges *from = &w->on->from->bound.panels;
    query_counters *counters = w->sink->counters;
    int first = order->panel[cell], panels = order->panel[cell + 1] - first, own = form_is_own(w->on, w->b, cell);
    float upper[SIMD_WIDTH], least = note_thresholds(w, g);
    counters->bounds++;
    if (bounds_expansion(points, from, g->panel, &points->cells, cell) < least) {
        counters->pruned++;
        return;
    }
    bounds_of_panels(points, from, g->panel, cell, upper);
    for (int step = 0; step < panels; step++) {
        int p = own ? form_nth_nearest(g->panel - first, step, panels) : step;
        if (order->least[first + p] >= w->b->most_limit)
            continue;
        if (own)
            least = note_thresholds(w, g);
        counters->bounds += g->count;
        if (upper[p] < least)
            counters->pruned += g->count;
        else
            screen_panel(w, cell, first + p, upper[p], g);
    }
}

static void screen(const form_sides *on, const block *b, const frontier_cell *item, form_sink *sink, void *work)
{
    expansions_work *w = work;
    (void)on, (void)b; /* they are those of begin */
    w->sink = sink;
    for (int i = 0; i < w->bundles; i++)
        screen_bundle(w, item->cell, &w->bundle[i]);
}

/* What terms would do for the queries of a sample: pairs whose expansion bound reaches the threshold, the terms of all
 * of these, and the pairs that are left to the metric. */
typedef struct {
    double pairs, terms, left;
} outlook;

/* For the queries `own` of a sample |w_u| g_q, and g_y k(u, y) for all of it. */
static status sample_terms(const metric_source *source, const metric_points *points, const sample *part, const int *own,
                           double *weights, double *kernels)
{
    size_t m = points->m, d = points->d;
    for (int q = 0; q < SAMPLE_QUERIES; q++)
        memcpy(weights + q * m, points->v + part->ids[own[q]] * m, m * sizeof(double));
    status outcome = inducing_solve((int)m, source->L, 1, SAMPLE_QUERIES, weights, 1, NULL, weights);
    for (int q = 0; q < SAMPLE_QUERIES; q++)
        for (size_t u = 0; u < m; u++)
            weights[q * m + u] = fabs(weights[q * m + u]) * points->gain[part->ids[own[q]]];
    for (int c = 0; c < part->count && m; c++) {
        size_t id = part->ids[c];
        kernel_row(source->kern, (int)d, points->x + id * d, m, source->z, kernels + c * m);
        for (size_t u = 0; u < m; u++)
            kernels[c * m + u] *= points->gain[id];
    }
    return outcome;
}

/* Adds what terms would do for one query. `values` has room for the part. */
static void ask_sample(const metric_source *source, const metric_points *points, int own, int rank,
                       const double *weights, const double *kernels, double *values, sample *part, outlook *sum)
{
    static const int first = 0;
    size_t m = points->m, query = part->ids[own];
    double tau = sample_threshold(source->kern, points, own, rank, part);
    simd->distance_list(points->d, points->x + query * points->d, points->x, part->ids, part->count, values);
    kernel_values(source->kern, part->count, values, values);
    for (int c = 0; c < part->count; c++) {
        const double *terms = kernels + c * m;
        double upper;
        simd->dot_list((int)m, weights, terms, &first, 1, &upper);
        upper += points->gain[query] * points->gain[part->ids[c]] * values[c];
        if (c == own || (upper < tau && tau >= SAMPLE_ERROR))
            continue;
        sum->pairs++;
        for (size_t u = 0; u < m; u++)
            sum->terms += weights[u] * terms[u] > SAMPLE_TERM;
        sum->left += part->rho[c] + SAMPLE_ERROR >= tau;
    }
    sum->left -= rank;
}

/* What terms would do, by a sample; there are none where inducing inputs are not known. */
static status forecast(const metric_source *source, const metric_points *points, int k, double most, form_forecast *out)
{
    size_t n = points->n, m = points->m, room = n / SAMPLE_SHARE < SAMPLE_POINTS ? n / SAMPLE_SHARE + 1 : SAMPLE_POINTS;
    int tried = 0, own[SAMPLE_QUERIES];
    outlook sum = {0};
    sample part;
    (void)most;
    *out = (form_forecast){.pairs = INFINITY, .pair = COST_TERMS};
    if (m && !source->L)
        return status_ok();
    status outcome = sample_new(source, points, room, &part);
    double *weights = scratch_alloc((SAMPLE_QUERIES + room + 1) * m + room + 1, sizeof(double));
    if (!weights)
        outcome = status_fail(STATUS_MEMORY);
    double *kernels = weights + SAMPLE_QUERIES * m, *values = kernels + (room + 1) * m;
    for (int q = 0; q < SAMPLE_QUERIES; q++)
        own[q] = sample_query(&part, q, SAMPLE_QUERIES);
    if (!outcome.code && part.count)
        outcome = sample_terms(source, points, &part, own, weights, kernels);
    int rank = (int)((double)k * part.count / (double)n) + 1;
    for (; tried < SAMPLE_QUERIES && !outcome.code && rank < part.count; tried++) {
        if (tried == SAMPLE_ENOUGH && sum.pairs > SAMPLE_HOPELESS * tried * part.count)
            break;
        ask_sample(source, points, own[tried], rank, weights + tried * m, kernels, values, &part, &sum);
    }
    double share = (double)tried * part.count / (double)n;
    if (!tried) { /* all pairs, with all terms */
        share = 1.0;
        sum = (outlook){(double)n, (double)n * m, (double)n};
    }
    *out = (form_forecast){.pairs = SPREAD * points->d * sum.pairs / share,
                           .pair = COST_TERMS + COST_TERM * sum.terms / (sum.pairs + 1e-9),
                           .left = k + fmax(sum.left, 0.0) / share};
    sample_free(&part);
    scratch_free(weights);
    return outcome;
}

static double pair_cost(const point_set *set)
{
    (void)set;
    return COST_PAIR;
}

const screening_form form_expansions = {
    .name = "expansions",
    .note = "auto: panels skipped and pairs screened by kernel expansions",
    .settle = 2,
    .give_up = 4, /* few queries come to it, which share no tiles */
    .form_data_bytes = sizeof(expansions),
    .forecast = forecast,
    .pair_cost = pair_cost,
    .terms = 1,
    .compact = 1,
    .build = build,
    .fields = fields,
    .work_new = work_new,
    .begin = begin,
    .screen = screen,
};

/* Integers: the form for everything else (screen.h has its intervals). Features in 8 and 16 bits, for all cells that
 * the expansion bound leaves. */
#include "base/scratch.h"
#include "form/form.h"
#include "form/screen.h"

#include <math.h>
#include <string.h>

typedef struct {
    screen features;
    frames frame;
} integers;

static const screen *features_of(const point_set *set) { return &((const integers *)set->kept)->features; }
static const frames *frame_of(const point_set *set) { return &((const integers *)set->kept)->frame; }

#define COST_PAIR 20.0    /* a pair screened, but for its product and distance; */
#define COST_DISTANCE 4.0 /* that, for each dimension */
#define COST_REFINED 150.0 /* a pair that goes on to 16 bits, */
#define COST_FINE 1.2      /* and for each of its products */
#define HOPELESS 2.0 /* so many times as many of these as an outlook sees there will be */

static double cost_of(const metric_points *points, int bits)
{
    return COST_PAIR + COST_DISTANCE * points->d + points->m * bits / 64.0;
}

static double pair_cost(const point_set *set) { return cost_of(set->points, features_of(set)->bits); }

/* All pairs are screened. */
static status forecast(const metric_source *source, const metric_points *points, int k, double most,
                       form_forecast *out)
{
    double n = (double)points->n;
    screen_outlook sight;
    *out = (form_forecast){.pairs = INFINITY, .pair = cost_of(points, simd->dot_tile8 ? 8 : 16)};
    if (n * out->pair > most || !screen_is_fine(source, points))
        return status_ok();
    status outcome = screen_sample(source, points, k, &sight);
    *out = (form_forecast){.pairs = n,
                           .pair = cost_of(points, sight.bits),
                           .more = sight.refined * (COST_REFINED + COST_FINE * points->m),
                           .left = sight.left,
                           .hopeless = fmin(1.0, HOPELESS * sight.hopeless)};
    return outcome;
}

typedef struct {
    float *relative;          /* BITSET_SIZE x d: positions from the centre of a cell */
    simd_rows *tiles;         /* BITSET_SIZE / SCREEN_ROWS */
    simd_intervals *intervals;
} integers_work;

/* What a tile is screened with. */
typedef struct {
    const form_sides *on;
    const block *b, *other;
    form_sink *sink, *to_other;
    integers_work *work;
} meeting;

static status build(const metric_source *source, const point_set *like, int threads, const monitor *mon,
                    point_set *set)
{
    integers *kept = set->kept;
    status result = frames_build(source->kern, set->points, &set->order, &set->bound.special, threads, mon,
                                 &kept->frame);
    if (!result.code)
        result = screen_build(source, set->points, &set->order, &set->bound.special, &kept->frame,
                              like ? features_of(like)->bits : 0, threads, mon, &kept->features);
    return result;
}

static void release(void *kept)
{
    frames_free(&((integers *)kept)->frame);
    screen_free(&((integers *)kept)->features);
}

static void fields(point_set *set, field_visitor *walk)
{
    frames *f = &((integers *)set->kept)->frame;
    screen *s = &((integers *)set->kept)->features;
    size_t columns = (size_t)set->order.panels * SCREEN_COLS;
    frames_fields(f, &set->order, walk);
    walk->visit(walk, "screen.shape", &s->shape, sizeof(*s->shape));
    if (walk->end && (walk->beyond || s->shape->steps < 0 || (size_t)s->shape->steps > walk->end ||
                      s->shape->fine_width < 0 || (size_t)s->shape->fine_width > walk->end)) {
        walk->beyond = 1;
        return;
    }
    screen_bind(s, set->points, &set->order, &set->bound.special, f);
    walk->visit(walk, "screen.step", &s->step, columns * sizeof(float));
    walk->visit(walk, "screen.norm", &s->norm, columns * sizeof(float));
    walk->visit(walk, "screen.error", &s->error, columns * sizeof(float));
    walk->visit(walk, "screen.slack_floor", &s->slack_floor, set->order.panels * sizeof(float));
    walk->visit(walk, "screen.start", &s->start, columns * sizeof(int32_t));
    walk->visit(walk, "screen.integers", &s->integers, columns * s->steps * 4);
    if (s->fine_width) {
        walk->visit(walk, "screen.fine", &s->fine, columns * s->fine_width * sizeof(int16_t));
        walk->visit(walk, "screen.fine_step", &s->fine_step, columns * sizeof(float));
        walk->visit(walk, "screen.fine_error", &s->fine_error, columns * sizeof(float));
    }
    walk->visit(walk, "screen.special_v", &s->special_v,
                (size_t)set->bound.special.count * s->m * sizeof(double));
}

static void work_free(void *work)
{
    integers_work *w = work;
    if (!w)
        return;
    SCRATCH_FREE(w->relative, w->tiles, w->intervals, w);
}

static void *work_new(const form_sides *on)
{
    integers_work *w = scratch_alloc(1, sizeof(*w));
    if (!w)
        return NULL;
    if (SCRATCH_ALL(SCRATCH_FOR(w->relative, (size_t)BITSET_SIZE * on->points->points->d),
                    SCRATCH_FOR(w->tiles, BITSET_SIZE / SCREEN_ROWS), SCRATCH_FOR(w->intervals, 1)))
        return w;
    work_free(w);
    return NULL;
}

static size_t row_bytes(const form_sides *on) { return (size_t)features_of(on->points)->steps * 4; }

/* The queries as rows. */
static void begin(const form_sides *on, const block *b, void *work)
{
    const screen *from = features_of(on->from);
    (void)work;
    for (int q = 0; q < b->count; q++)
        screen_features(from, b->column[q], (char *)b->rows + (size_t)q * from->steps * 4);
}

/* Fills the rows of a tile; idle rows repeat the first. */
static void fill_rows(const meeting *with, const int *members, int count, simd_rows *rows)
{
    const block *b = with->b;
    const screen *from = features_of(with->on->from);
    for (int a = 0; a < SCREEN_ROWS; a++) {
        int q = members[a < count ? a : 0];
        screen_row(from, b->column[q], a, rows);
        rows->features[a] = (const char *)b->rows + (size_t)q * from->steps * 4;
        rows->x[a] = with->work->relative + (size_t)q * from->d;
    }
}

/* Fetches what is to be refined of a tile. */
static void fetch_fine(const simd_columns *columns, const simd_intervals *found)
{
    uint32_t any = 0;
    for (uint32_t left = found->rows; left; left &= left - 1)
        any |= found->mask[__builtin_ctz(left)] | found->column_mask[__builtin_ctz(left)];
    for (; any; any &= any - 1) {
        const int16_t *column = columns->fine + (size_t)__builtin_ctz(any) * columns->fine_width;
        for (int u = 0; u < columns->fine_width; u += 32)
            __builtin_prefetch(column + u);
    }
}

/* Keeps the query of a row as a candidate of those that stand in the columns, from place `first` on. */
static void keep_in_columns(form_sink *to_other, int first, int id, uint32_t mask,
                            const simd_interval_row *row)
{
    for (; mask; mask &= mask - 1) {
        int j = __builtin_ctz(mask);
        float size = fabsf(row->value[j]),
              error = row->base + row->slope * row->norm[j] + row->row_norm * row->error[j];
        to_other->keep_one(to_other, first + j, id, size - error, size + error);
    }
}

/* Keeps what of row a reaches a threshold, in 16 bits where 8 leave a pair. */
static void keep_row(const meeting *with, int a, int q, simd_rows *rows, const simd_columns *columns,
                     const int *ids, int first)
{
    const screen *points = features_of(with->on->points);
    simd_intervals *found = with->work->intervals;
    if (points->fine_width)
        simd->refine_row(a, rows, columns, found);
    simd_interval_row row = {.value = found->value + a * SCREEN_COLS,
                             .norm = columns->norm,
                             .error = points->fine_width ? columns->fine_error : columns->error,
                             .base = found->base[a],
                             .slope = found->slope[a],
                             .row_norm = rows->norm[a]};
    if (found->mask[a])
        with->sink->keep(with->sink, q, ids, found->mask[a], &row);
    keep_in_columns(with->to_other, first, with->b->row[q], found->column_mask[a], &row);
}

/* A tile: up to SCREEN_ROWS members against panel p of a cell. */
static void screen_tile(const meeting *with, int cell, int p, const int *members, int count,
                        simd_rows *rows, const simd_columns *columns)
{
    const screen *points = features_of(with->on->points);
    const cells *order = points->order;
    simd_intervals *found = with->work->intervals;
    int panel = order->panel[cell] + p;
    if (order->least[panel] >= with->b->most_limit)
        return;
    for (int a = 0; a < count; a++)
        rows->tau[a] = with->b->tau[members[a]];
    with->sink->counters->screened += (double)count * SCREEN_COLS;
    (points->bits == 8 ? simd->dot_tile8 : simd->dot_tile16)(points->steps, rows, columns,
                                                             found->value);
    simd->interval_tile(frame_of(with->on->points)->pieces, count, points->d, rows, columns,
                        found);
    if (points->fine_width)
        fetch_fine(columns, found);
    for (uint32_t left = found->rows; left; left &= left - 1) {
        int a = __builtin_ctz(left);
        keep_row(with, a, members[a], rows, columns, order->ids + (size_t)panel * SCREEN_COLS,
                 p * SCREEN_COLS);
    }
}

static void screen_members(const meeting *with, int cell, const int *members, int count)
{
    const form_sides *on = with->on;
    const block *b = with->b;
    const screen *points = features_of(on->points);
    const cells *order = points->order;
    int panels = order->panel[cell + 1] - order->panel[cell], own = form_is_own(on, b, cell);
    simd_columns columns[CELLS_MOST / SCREEN_COLS];
    for (int p = 0; p < panels; p++) {
        columns[p] = screen_columns(points, cell, order->panel[cell] + p);
        columns[p].tau = with->other ? with->other->tau + p * SCREEN_COLS : NULL;
    }
    for (int i = 0; i < count; i++)
        frames_relative(points->frame, cell, on->from->points->x + (size_t)b->row[members[i]] * points->d,
                        with->work->relative + (size_t)members[i] * points->d);
    for (int i = 0; i < count; i += SCREEN_ROWS)
        fill_rows(with, members + i, count - i < SCREEN_ROWS ? count - i : SCREEN_ROWS,
                  &with->work->tiles[i / SCREEN_ROWS]);
    for (int step = 0; step < panels; step++)
        for (int i = 0; i < count; i += SCREEN_ROWS) {
            /* in the own cell where the queries stand first, which raises thresholds most */
            int p = own ? form_nth_nearest(b->column[members[i]] / SCREEN_COLS -
                                                order->panel[cell],
                                            step, panels)
                        : step;
            screen_tile(with, cell, p, members + i, count - i < SCREEN_ROWS ? count - i : SCREEN_ROWS,
                        &with->work->tiles[i / SCREEN_ROWS], &columns[p]);
        }
}

static void screen_cell(const form_sides *on, const block *b, const leaf *item, form_sink *sink, void *work)
{
    int members[BITSET_SIZE], count = bitset_members(&item->alive, members);
    meeting with = {.on = on, .b = b, .sink = sink, .work = work};
    screen_members(&with, item->cell, members, count);
}

static void screen_both(const form_sides *on, const block *b, const block *other, const int *members,
                        int count, form_sink *sink, form_sink *to_other, void *work)
{
    meeting with = {on, b, other, sink, to_other, work};
    screen_members(&with, other->cell, members, count);
}

const screening_form form_integers = {
    .name = "integers",
    .note = "auto: pairs screened by small integers",
    .settle = 1,
    .give_up = 32,
    .kept_bytes = sizeof(integers),
    .forecast = forecast,
    .pair_cost = pair_cost,
    .build = build,
    .release = release,
    .fields = fields,
    .work_new = work_new,
    .work_free = work_free,
    .row_bytes = row_bytes,
    .begin = begin,
    .screen = screen_cell,
    .screen_both = screen_both,
};

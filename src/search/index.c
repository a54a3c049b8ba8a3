#include "search/index.h"

#include <string.h>

#define CELLS_LEAST 64   /* smallest of the largest numbers of points of a cell that are tried */
#define RANK_WANTED 50.0 /* mean number of landmarks of a cell: what larger ones save, they cost */
#define RANK_SHARE 0.5   /* of the points of a cell: more landmarks say no more than the points */
#define ALIGN 64
#define AFTER 16           /* bytes after the arrays: no multiple of ALIGN, see who asks for the memory */
#define WIDTH_MOST 1048576 /* of what is kept of a point, in numbers */
#define MAGIC 0x76616e6e32303041 /* changes with the layout */

static void set_free(index_set *set)
{
    cells_free(&set->order);
    bounds_free(&set->bound);
    subspaces_free(&set->space);
    cones_free(&set->cone);
    frames_free(&set->frame);
    spans_free(&set->span);
    screen_free(&set->integers);
}

void index_free(index_search *index)
{
    if (!index->opened)
        set_free(&index->points);
    set_free(&index->fresh);
    memset(index, 0, sizeof(*index));
}

/* What parts of a set say of each other, wherever it stands. */
static void set_bind(index_set *set)
{
    set->bound.order = set->space.order = set->integers.order = &set->order;
    set->space.noise = set->bound.noise;
    set->integers.special = &set->bound.special;
    set->integers.frame = &set->frame;
}

void index_none(const metric_points *points, index_search *out)
{
    memset(out, 0, sizeof(*out));
    out->form = INDEX_NONE;
    out->candidates = points;
    out->from = &out->points;
    out->cost = INFINITY;
}

void index_move(index_search *from, index_search *to)
{
    *to = *from;
    to->from = &to->points;
    set_bind(&to->points);
    memset(from, 0, sizeof(*from));
}

/* ---- one piece of memory -------------------------------------------------------------------- */

/* What opening needs to know before it can tell how long the arrays are. */
typedef struct {
    uint64_t magic, bytes, n, print, sum;
    int32_t rows, cols, form, d, m, count, panels, specials, expands, weights, special_reach, terms,
        bits, steps, width, fine_width;
    double jitter, most_noise, cost;
} header;

/* A walk over the arrays of a set, the same for measuring, writing and opening. */
typedef struct walk {
    void (*visit)(struct walk *self, const char *name, void *field, size_t bytes);
    char *memory;
    size_t at;
    index_listener tell; /* for listing */
    void *context;
    size_t end; /* for opening: how much memory there is, 0 otherwise, */
    int beyond; /* and whether an array would not lie in it */
} walk;

static void visit(walk *self, const char *name, void *field, size_t bytes)
{
    self->visit(self, name, field, bytes);
    self->at = (self->at + bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static void walk_level(walk *w, const char *const *names, bounds_level *level, int m, int d,
                       int reaches, int weights)
{
    size_t count = level->count;
    if (reaches)
        visit(w, names[0], &level->reach, count * m * sizeof(float));
    if (weights)
        visit(w, names[1], &level->weight, count * m * sizeof(float));
    if (reaches)
        visit(w, names[2], &level->gain, count * sizeof(double));
    visit(w, names[3], &level->low, count * d * sizeof(double));
    visit(w, names[4], &level->high, count * d * sizeof(double));
}

#define LEVEL_NAMES(of)                                                                            \
    {                                                                                              \
        "bound." of ".reach", "bound." of ".weight", "bound." of ".gain", "bound." of ".low",      \
            "bound." of ".high"                                                                    \
    }

static void walk_points(walk *w, const header *head, metric_points *points)
{
    size_t n = head->n;
    visit(w, "points.x", &points->x, n * head->d * sizeof(double));
    visit(w, "points.variance", &points->variance, n * sizeof(double));
    visit(w, "points.scale", &points->scale, n * sizeof(double));
}

static void walk_set(walk *w, const header *head, metric_points *points, index_set *set)
{
    if (head->form == INDEX_NONE)
        return;
    walk_points(w, head, points);
    size_t n = head->n, count = head->count, panels = head->panels, d = head->d, m = head->m,
           columns = panels * SCREEN_COLS;
    static const char *const of_panels[] = LEVEL_NAMES("panels"),
                             *const of_cells[] = LEVEL_NAMES("cells"),
                             *const of_groups[] = LEVEL_NAMES("groups");
    cells *c = &set->order;
    visit(w, "order.perm", &c->perm, n * sizeof(int));
    visit(w, "order.first", &c->first, (count + 1) * sizeof(int));
    visit(w, "order.panel", &c->panel, (count + 1) * sizeof(int));
    visit(w, "order.ids", &c->ids, columns * sizeof(int));
    visit(w, "order.column", &c->column, n * sizeof(int));
    visit(w, "order.least", &c->least, panels * sizeof(int));
    visit(w, "order.low", &c->low, count * d * sizeof(double));
    visit(w, "order.high", &c->high, count * d * sizeof(double));
    bounds *b = &set->bound;
    visit(w, "bound.special.ids", &b->special.ids, head->specials * sizeof(int));
    visit(w, "bound.special.inputs", &b->special.inputs, head->specials * sizeof(int));
    visit(w, "bound.special.rank", &b->special.rank, n * sizeof(int));
    walk_level(w, of_panels, &b->panels, head->m, head->d, head->form == INDEX_EXPANSIONS,
               head->weights);
    bounds_columns *columns_of = &b->columns;
    visit(w, "bound.columns.reach", &columns_of->reach, count * SIMD_WIDTH * m * sizeof(float));
    visit(w, "bound.columns.low", &columns_of->low, count * SIMD_WIDTH * d * sizeof(double));
    visit(w, "bound.columns.high", &columns_of->high, count * SIMD_WIDTH * d * sizeof(double));
    visit(w, "bound.columns.gain", &columns_of->gain, count * SIMD_WIDTH * sizeof(double));
    walk_level(w, of_cells, &b->cells, head->m, head->d, 1, head->weights);
    walk_level(w, of_groups, &b->groups, head->m, head->d, 1, 0);
    if (head->special_reach)
        visit(w, "bound.special_reach", &b->special_reach, panels * m * sizeof(float));
    visit(w, "bound.noise", &b->noise, n * sizeof(float));
    if (head->terms) {
        size_t values = columns * head->terms;
        visit(w, "terms.weight_place", &b->terms.weight_place, panels * m * sizeof(int16_t));
        visit(w, "terms.kernel_place", &b->terms.kernel_place, panels * m * sizeof(int16_t));
        visit(w, "terms.weights", &b->terms.weights, values * sizeof(float));
        visit(w, "terms.kernels", &b->terms.kernels, values * sizeof(float));
    }
    if (head->form == INDEX_SUBSPACES) {
        subspaces *s = &set->space;
        visit(w, "subspace.rank", &s->rank, count * sizeof(int));
        visit(w, "subspace.coarse", &s->coarse, count * sizeof(int));
        visit(w, "subspace.landmark", &s->landmark, (count + 1) * sizeof(size_t));
        visit(w, "subspace.inverse_at", &s->inverse_at, (count + 1) * sizeof(size_t));
        visit(w, "subspace.psi_at", &s->psi_at, (count + 1) * sizeof(size_t));
        if (w->end && (w->beyond || s->landmark[count] > w->end || s->inverse_at[count] > w->end ||
                       s->psi_at[count] > w->end)) {
            w->beyond = 1;
            return;
        }
        visit(w, "subspace.ids", &s->ids, s->landmark[count] * sizeof(int));
        visit(w, "subspace.x", &s->x, s->landmark[count] * d * sizeof(double));
        visit(w, "subspace.v", &s->v, s->landmark[count] * m * sizeof(double));
        visit(w, "subspace.scale", &s->scale, s->landmark[count] * sizeof(double));
        visit(w, "subspace.inverse", &s->inverse, s->inverse_at[count] * sizeof(float));
        visit(w, "subspace.psi", &s->psi, s->psi_at[count] * sizeof(float));
        visit(w, "subspace.tail", &s->tail, columns * sizeof(float));
        visit(w, "subspace.stage_tail", &s->stage_tail, count * SUBSPACE_STAGES * sizeof(float));
        visit(w, "subspace.cell_noise", &s->cell_noise, count * sizeof(float));
        visit(w, "subspace.cell_rounding", &s->cell_rounding, count * sizeof(float));
        visit(w, "subspace.cell_most", &s->cell_most, count * sizeof(float));
        cones *k = &set->cone;
        size_t axes = cones_columns(c);
        visit(w, "cones.x", &k->x, axes * d * sizeof(double));
        visit(w, "cones.v", &k->v, axes * m * sizeof(double));
        visit(w, "cones.scale", &k->scale, axes * sizeof(double));
        visit(w, "cones.cosine", &k->cosine, axes * sizeof(float));
        visit(w, "cones.sine", &k->sine, axes * sizeof(float));
        visit(w, "cones.noise", &k->noise, axes * sizeof(float));
        return;
    }
    frames *f = &set->frame;
    visit(w, "frame.pieces", &f->pieces, sizeof(radial_pieces));
    visit(w, "frame.centre", &f->centre, count * d * sizeof(double));
    visit(w, "frame.slack", &f->slack, count * sizeof(float));
    visit(w, "frame.x", &f->x, columns * d * sizeof(float));
    visit(w, "frame.gain", &f->gain, columns * sizeof(float));
    if (head->form == INDEX_EXPANSIONS) {
        spans *s = &set->span;
        size_t rows = panels * SCREEN_ROWS;
        visit(w, "spans.rank", &s->rank, panels * sizeof(int));
        visit(w, "spans.column", &s->column, rows * sizeof(int));
        visit(w, "spans.inverse", &s->inverse, rows * SCREEN_ROWS * sizeof(float));
        visit(w, "spans.amplify", &s->amplify, panels * sizeof(float));
        visit(w, "spans.noise", &s->noise, panels * sizeof(float));
        visit(w, "spans.rounding", &s->rounding, panels * sizeof(float));
        visit(w, "spans.cosine", &s->cosine, columns * sizeof(float));
        visit(w, "spans.sine", &s->sine, columns * sizeof(float));
    }
    if (head->form == INDEX_INTEGERS) {
        screen *s = &set->integers;
        visit(w, "screen.step", &s->step, columns * sizeof(float));
        visit(w, "screen.norm", &s->norm, columns * sizeof(float));
        visit(w, "screen.error", &s->error, columns * sizeof(float));
        visit(w, "screen.slack_floor", &s->slack_floor, panels * sizeof(float));
        visit(w, "screen.start", &s->start, columns * sizeof(int32_t));
        visit(w, "screen.integers", &s->integers, columns * head->steps * 4);
        if (head->fine_width) {
            visit(w, "screen.fine", &s->fine, columns * head->fine_width * sizeof(int16_t));
            visit(w, "screen.fine_step", &s->fine_step, columns * sizeof(float));
            visit(w, "screen.fine_error", &s->fine_error, columns * sizeof(float));
        }
        visit(w, "screen.special_v", &s->special_v, head->specials * m * sizeof(double));
    }
}

uint64_t index_print(uint64_t print, size_t count, const double *values)
{
    uint64_t lane[SIMD_MIXED] = {0};
    size_t whole = count / SIMD_MIXED * SIMD_MIXED;
    simd->mix(whole, values, lane);
    for (size_t i = whole; i < count; i++) {
        uint64_t bits;
        memcpy(&bits, &values[i], sizeof(bits));
        lane[i % SIMD_MIXED] = (lane[i % SIMD_MIXED] ^ bits ^ (bits >> 32)) * SIMD_MIX;
    }
    print = (print ^ 0xcbf29ce484222325 ^ count) * SIMD_MIX;
    for (int l = 0; l < SIMD_MIXED; l++)
        print = (print ^ lane[l] ^ (lane[l] >> 32)) * SIMD_MIX;
    return print;
}

static header describe(const index_search *index)
{
    const index_set *set = &index->points;
    const bounds *b = &set->bound;
    const screen *s = &set->integers;
    return (header){MAGIC,
                    0,
                    index->candidates->n,
                    0,
                    0,
                    simd->rows,
                    simd->cols,
                    index->form,
                    index->candidates->d,
                    index->candidates->m,
                    set->order.count,
                    set->order.panels,
                    b->special.count,
                    b->expands,
                    b->panels.weight != NULL,
                    b->special_reach != NULL,
                    b->terms.most,
                    s->bits,
                    s->steps,
                    s->width,
                    s->fine_width,
                    b->jitter,
                    b->most_noise,
                    index->cost};
}

static void visit_nothing(walk *self, const char *name, void *field, size_t bytes)
{
    (void)name;
    (void)self;
    (void)field;
    (void)bytes;
}

static void visit_write(walk *self, const char *name, void *field, size_t bytes)
{
    (void)name;
    char *to = self->memory + self->at;
    const void *from;
    memcpy(&from, field, sizeof(from)); /* a pointer of another type */
    memcpy(to, from, bytes);
    memset(to + bytes, 0, (ALIGN - bytes % ALIGN) % ALIGN); /* equal indices are equal bytes */
}

static void visit_open(walk *self, const char *name, void *field, size_t bytes)
{
    (void)name;
    void *to = self->memory + self->at;
    self->beyond = self->beyond || self->at > self->end || bytes > self->end - self->at;
    memcpy(field, &to, sizeof(to)); /* a pointer of another type */
}

static void visit_list(walk *self, const char *name, void *field, size_t bytes)
{
    (void)field;
    self->tell(self->context, name, self->at, bytes);
}

static size_t start_of_arrays(void) { return (sizeof(header) + ALIGN - 1) / ALIGN * ALIGN; }

static size_t walk_index(walk w, index_search *index)
{
    header head = describe(index);
    metric_points points = *index->candidates;
    w.at = start_of_arrays();
    walk_set(&w, &head, &points, &index->points);
    return w.at + AFTER;
}

size_t index_packed_bytes(index_search *index)
{
    return walk_index((walk){.visit = visit_nothing}, index);
}

void index_packed_write(index_search *index, uint64_t print, void *memory)
{
    header head = describe(index);
    head.print = print;
    head.bytes = index_packed_bytes(index);
    memset(memory, 0, start_of_arrays());
    memcpy(memory, &head, sizeof(head));
    memset((char *)memory + head.bytes - AFTER, 0, AFTER);
    walk_index((walk){.visit = visit_write, .memory = memory}, index);
    index_seal(memory, head.bytes);
}

/* A checksum of all that is not the checksum. */
static uint64_t sum_of(const void *memory, size_t bytes)
{
    header head;
    memcpy(&head, memory, sizeof(head));
    head.sum = 0;
    double start[sizeof(head) / sizeof(double)];
    memcpy(start, &head, sizeof(start));
    uint64_t print = index_print(0, sizeof(start) / sizeof(*start), start);
    return index_print(print, (bytes - sizeof(head)) / sizeof(double),
                       (const double *)memory + sizeof(head) / sizeof(double));
}

void index_seal(void *memory, size_t bytes)
{
    header head;
    memcpy(&head, memory, sizeof(head));
    head.sum = sum_of(memory, bytes);
    memcpy(memory, &head, sizeof(head));
}

int index_sound(index_pack kept)
{
    header head = {0};
    if (!kept.memory || kept.bytes < sizeof(head.magic))
        return 1;
    memcpy(&head, kept.memory, kept.bytes < sizeof(head) ? kept.bytes : sizeof(head));
    return head.magic != MAGIC || (kept.bytes >= sizeof(head) && head.bytes == kept.bytes &&
                                   head.sum == sum_of(kept.memory, kept.bytes));
}

void index_packed_list(index_search *index, index_listener tell, void *context)
{
    walk_index((walk){.visit = visit_list, .tell = tell, .context = context}, index);
}

/* Sizes that cannot be, and whose products might overflow. */
static int wild(const header *head)
{
    const int32_t widths[] = {head->terms, head->steps, head->width, head->fine_width};
    for (size_t w = 0; w < sizeof(widths) / sizeof(*widths); w++)
        if (widths[w] < 0 || widths[w] > WIDTH_MOST)
            return 1;
    return head->form < INDEX_SUBSPACES || head->form > INDEX_NONE || head->count < 0 ||
           head->panels < 0 || head->specials < 0 || (size_t)head->count > head->n ||
           (size_t)head->panels > head->n || (size_t)head->specials > head->n;
}

/* Reads what stands before the arrays; 0 if they are not for these points or these vector routines. */
static int read_header(index_pack kept, const metric_points *points, header *head)
{
    if (!kept.memory || kept.bytes < sizeof(*head))
        return 0;
    memcpy(head, kept.memory, sizeof(*head));
    return head->magic == MAGIC && head->bytes == kept.bytes && head->print == kept.print &&
           head->n == points->n && head->d == points->d && head->m == points->m &&
           head->rows == simd->rows && head->cols == simd->cols &&
           !(head->bits == 8 && !simd->dot_tile8) && !wild(head);
}

static walk opening(index_pack kept)
{
    return (walk){.visit = visit_open,
                  .memory = (char *)kept.memory,
                  .at = start_of_arrays(),
                  .end = kept.bytes};
}

int index_points(index_pack kept, metric_points *points)
{
    header head;
    if (!read_header(kept, points, &head) || head.form == INDEX_NONE)
        return 0;
    metric_points found = *points;
    walk w = opening(kept);
    walk_points(&w, &head, &found);
    if (w.beyond)
        return 0;
    *points = found;
    return 1;
}

int index_open(const metric_source *source, const metric_points *points, index_pack kept,
               index_search *out)
{
    memset(out, 0, sizeof(*out));
    header head;
    if (!read_header(kept, points, &head))
        return 0;
    index_set *set = &out->points;
    int groups = (head.count + BOUNDS_GROUP - 1) / BOUNDS_GROUP;
    out->form = (index_form)head.form;
    out->cost = head.cost;
    out->candidates = points;
    out->opened = 1;
    out->from = set;
    if (out->form == INDEX_NONE)
        return 1;
    set->order = (cells){.n = head.n, .d = head.d, .count = head.count, .panels = head.panels};
    set->bound = (bounds){.kern = source->kern,
                          .points = points,
                          .m = head.m,
                          .d = head.d,
                          .expands = head.expands,
                          .jitter = head.jitter,
                          .terms.most = head.terms,
                          .most_noise = head.most_noise,
                          .special.count = head.specials,
                          .panels.count = head.panels,
                          .cells.count = head.count,
                          .groups.count = groups};
    set->space = (subspaces){.kern = source->kern, .points = points};
    set->frame = (frames){.d = head.d};
    set->integers = (screen){.points = points,
                             .bits = head.bits,
                             .d = head.d,
                             .m = head.m,
                             .width = head.width,
                             .steps = head.steps,
                             .fine_width = head.fine_width};
    metric_points same = *points;
    walk w = opening(kept);
    walk_set(&w, &head, &same, set);
    if (w.beyond || w.at + AFTER != kept.bytes) {
        memset(out, 0, sizeof(*out));
        return 0;
    }
    set_bind(set);
    return 1;
}

/* ---- building ------------------------------------------------------------------------------- */

/* The largest cells whose subspaces are still small: ranks grow with cells, but slower in smooth
 * processes and low dimension, where large cells pay. The parts of large cells stand for smaller ones.
 * Returns 0, and no cells, where no size will do. */
static int choose_cells(const metric_source *source, const tree *structure,
                        const metric_points *points, int threads, cells *order, status *result)
{
    *result = cells_build(structure, points->d, points->n, points->x, CELLS_MOST, INFINITY, threads,
                          order);
    for (int parts = 1; CELLS_MOST / parts >= CELLS_LEAST && !result->code; parts *= 2) {
        double share, rank = subspaces_sample_rank(source->kern, points, order, parts, &share);
        if (rank < 0.0) {
            *result = status_fail(STATUS_MEMORY);
            break;
        }
        if (rank > RANK_WANTED || share > RANK_SHARE)
            continue;
        if (parts > 1) {
            cells_free(order);
            *result = cells_build(structure, points->d, points->n, points->x, CELLS_MOST / parts,
                                  INFINITY, threads, order);
        }
        return !result->code;
    }
    cells_free(order);
    return 0;
}

/* A set of more points has no smaller rank: with a rank of at most RANK_WANTED in a larger cell, one of twice the least
 * size would have that too, and less than RANK_SHARE of its points. */
status index_outlook(const metric_source *source, const metric_points *points, int *hopeful)
{
    *hopeful = 0;
    for (int number = CELLS_LEAST; number <= 2 * CELLS_LEAST && !*hopeful; number *= 2) {
        double share, rank = subspaces_near_rank(source->kern, points, number, &share);
        if (rank < 0.0)
            return status_fail(STATUS_MEMORY);
        *hopeful = rank <= RANK_WANTED && share <= RANK_SHARE;
    }
    return status_ok();
}

/* `like` is the set of candidates when the set is one of queries, NULL for the candidates. */
static status set_build(const metric_source *source, const tree *structure,
                        const metric_points *points, const index_set *like, int threads,
                        const monitor *mon, index_form *form, index_set *set)
{
    status result = status_ok();
    tree built = {0};
    int small = 0;
    if (!structure) {
        result = tree_build(points->d, points->n, points->x, CELLS_LEAF, threads, mon, &built);
        structure = &built;
    }
    if (!like && *form == INDEX_SUBSPACES && !result.code)
        small = choose_cells(source, structure, points, threads, &set->order, &result);
    if (!like && *form == INDEX_SUBSPACES && !small)
        *form = INDEX_NONE;
    if (*form == INDEX_NONE)
        goto done;
    if (!small && !result.code) /* queries descend together where they are as close as candidates */
        result =
            cells_build(structure, points->d, points->n, points->x, CELLS_MOST,
                        like && *form != INDEX_INTEGERS ? cells_mean_side(&like->order) : INFINITY,
                        threads, &set->order);
    if (!result.code)
        result = bounds_build(source, points, &set->order, *form == INDEX_EXPANSIONS, threads, mon,
                              &set->bound);
    if (!result.code && *form == INDEX_SUBSPACES)
        result = subspaces_build(source->kern, points, &set->order, set->bound.noise, threads, mon,
                                 &set->space);
    if (!result.code && *form == INDEX_SUBSPACES)
        result = cones_build(&set->bound, threads, mon, &set->cone);
    if (!result.code && *form != INDEX_SUBSPACES)
        result = frames_build(source->kern, points, &set->order, &set->bound.special, threads, mon,
                              &set->frame);
    if (!result.code && *form == INDEX_EXPANSIONS)
        result = spans_build(&set->bound, threads, mon, &set->span);
    if (!result.code && *form == INDEX_INTEGERS)
        result = screen_build(source, points, &set->order, &set->bound.special, &set->frame,
                              like ? like->integers.bits : 0, threads, mon, &set->integers);
done:
    tree_free(&built);
    return result;
}

status index_build(const metric_source *source, const tree *structure, const metric_points *points,
                   index_form form, int threads, const monitor *mon, index_search *out)
{
    index_none(points, out);
    out->form = form;
    status result =
        set_build(source, structure, points, NULL, threads, mon, &out->form, &out->points);
    if (result.code)
        index_free(out);
    return result;
}

status index_add_queries(const metric_source *source, const metric_points *from, int threads,
                         const monitor *mon, index_search *index)
{
    status result =
        set_build(source, NULL, from, &index->points, threads, mon, &index->form, &index->fresh);
    index->from = &index->fresh;
    return result;
}

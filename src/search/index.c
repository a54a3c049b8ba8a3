#include "search/index.h"

#include "base/scratch.h"

#include <string.h>

#define ALIGN 64
#define AFTER 16                 /* bytes after the arrays: no multiple of ALIGN, see who asks for the memory */
#define FIELDS_MOST 64           /* arrays of a form */
#define MAGIC 0x76616e6e32303044 /* changes with the layout and with the forms */

/* Every form there is; a stored index knows its own by the number. */
static const screening_form *const forms[] = {&form_landmarks, &form_integers, &form_expansions, &form_dense};

#define FORMS ((int)(sizeof(forms) / sizeof(*forms)))
#define NO_FORM (-1)

const screening_form *index_form_named(const char *name)
{
    for (int f = 0; f < FORMS; f++)
        if (strcmp(name, forms[f]->name) == 0)
            return forms[f];
    return NULL;
}

static int form_number(const screening_form *form)
{
    int f = FORMS - 1;
    while (f > NO_FORM && forms[f] != form)
        f--;
    return f;
}

/* ---- sets of points ------------------------------------------------------------------------- */

/* Collects the arrays of a form, to free them when none is read any more. */
typedef struct {
    field_visitor visitor;
    int count;
    void *held[FIELDS_MOST];
} collection;

static void collect(field_visitor *self, const char *name, void *field, size_t bytes)
{
    collection *all = (collection *)self;
    (void)name, (void)bytes;
    memcpy(&all->held[all->count++], field, sizeof(*all->held));
}

static void set_free(const screening_form *form, int opened, point_set *set)
{
    if (!set)
        return;
    if (!opened) {
        collection all = {.visitor = {.visit = collect}};
        if (form->fields)
            form->fields(set, &all.visitor);
        scratch_free_all(all.held, all.count);
        cells_free(&set->order);
        bounds_free(&set->bound);
    }
    SCRATCH_FREE(set->form_data, set);
}

static point_set *set_new(const screening_form *form, const metric_points *points)
{
    point_set *set = scratch_zeros(1, sizeof(*set));
    void *kept = scratch_zeros(1, form->form_data_bytes);
    if (!set || !kept) {
        SCRATCH_FREE(set, kept);
        return NULL;
    }
    set->points = points;
    set->form_data = kept;
    return set;
}

void index_free(index_search *index)
{
    set_free(index->form, index->opened, index->points);
    set_free(index->form, 0, index->fresh);
    index_none(index->candidates, index);
}

static void set_sides(const kernel *kern, index_search *index)
{
    index->on = (form_sides){kern, index->points, index->fresh ? index->fresh : index->points};
}

void index_none(const metric_points *points, index_search *out)
{
    *out = (index_search){.candidates = points, .cost = INFINITY};
}

/* ---- one piece of memory -------------------------------------------------------------------- */

/* What opening needs to know before it can tell how long the arrays are. */
typedef struct {
    uint64_t magic, bytes, n, fingerprint, sum;
    int32_t rows, cols, bytes8, form, d, m, count, panels, specials, expands, weights, special_reach, of_panels, terms;
    double jitter, most_roundoff, cost;
} header;

/* A walk over the arrays of a set, the same for measuring, listing, writing and opening. */
typedef struct {
    field_visitor visitor; /* first: forms see this much of it. It has an end for opening */
    char *memory;          /* NULL for measuring and listing */
    size_t at;
    index_listener tell; /* for listing */
    void *context;
} walk;

static void visit(field_visitor *self, const char *name, void *field, size_t bytes)
{
    walk *w = (walk *)self;
    char *place = w->memory ? w->memory + w->at : NULL; /* of fields that are pointers of other types */
    if (w->tell) {
        w->tell(w->context, name, w->at, bytes);
    } else if (self->end) {
        self->beyond |= w->at > self->end || bytes > self->end - w->at;
        memcpy(field, &place, sizeof(place));
    } else if (place) {
        const void *from;
        memcpy(&from, field, sizeof(from));
        memcpy(place, from, bytes);
        memset(place + bytes, 0, (ALIGN - bytes % ALIGN) % ALIGN); /* equal indices are equal bytes */
    }
    w->at = (w->at + bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static void walk_ranges(field_visitor *w, const char *const *names, bounds_ranges *ranges, int m, int d, int reaches,
                        int weights)
{
    size_t count = ranges->count;
    if (reaches)
        visit(w, names[0], &ranges->reach, count * m * sizeof(float));
    if (weights)
        visit(w, names[1], &ranges->weight, count * m * sizeof(float));
    if (reaches)
        visit(w, names[2], &ranges->gain, count * sizeof(double));
    visit(w, names[3], &ranges->low, count * d * sizeof(double));
    visit(w, names[4], &ranges->high, count * d * sizeof(double));
}

#define RANGE_NAMES(of)                                                                                                \
    {                                                                                                                  \
        "bound." of ".reach", "bound." of ".weight", "bound." of ".gain", "bound." of ".low", "bound." of ".high"      \
    }

static void walk_points(field_visitor *w, const header *head, metric_points *points)
{
    size_t n = head->n;
    visit(w, "points.x", &points->x, n * head->d * sizeof(double));
    visit(w, "points.variance", &points->variance, n * sizeof(double));
    visit(w, "points.gain", &points->gain, n * sizeof(double));
}

static void walk_set(field_visitor *w, const header *head, metric_points *points, point_set *set)
{
    if (head->form == NO_FORM)
        return;
    walk_points(w, head, points);
    size_t n = head->n, count = head->count, panels = head->panels, d = head->d, m = head->m,
           columns = panels * SCREEN_COLS;
    static const char *const of_panels[] = RANGE_NAMES("panels"), *const of_cells[] = RANGE_NAMES("cells"),
                             *const of_groups[] = RANGE_NAMES("groups");
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
    visit(w, "bound.special.inputs", &b->special.inputs, head->specials * sizeof(int));
    visit(w, "bound.special.rank", &b->special.rank, n * sizeof(int));
    walk_ranges(w, of_panels, &b->panels, head->m, head->d, head->of_panels, head->weights);
    bounds_by_panel *by_panel = &b->by_panel;
    visit(w, "bound.by_panel.reach", &by_panel->reach, count * SIMD_WIDTH * m * sizeof(float));
    visit(w, "bound.by_panel.low", &by_panel->low, count * SIMD_WIDTH * d * sizeof(double));
    visit(w, "bound.by_panel.high", &by_panel->high, count * SIMD_WIDTH * d * sizeof(double));
    visit(w, "bound.by_panel.gain", &by_panel->gain, count * SIMD_WIDTH * sizeof(double));
    walk_ranges(w, of_cells, &b->cells, head->m, head->d, 1, head->weights);
    walk_ranges(w, of_groups, &b->groups, head->m, head->d, 1, 0);
    if (head->special_reach)
        visit(w, "bound.special_reach", &b->special_reach, panels * m * sizeof(float));
    visit(w, "bound.roundoff", &b->roundoff, n * sizeof(float));
    if (head->terms) {
        size_t values = columns * head->terms;
        visit(w, "terms.weight_rank", &b->terms.weight_rank, panels * m * sizeof(int16_t));
        visit(w, "terms.kernel_rank", &b->terms.kernel_rank, panels * m * sizeof(int16_t));
        visit(w, "terms.weights", &b->terms.weights, values * sizeof(float));
        visit(w, "terms.kernels", &b->terms.kernels, values * sizeof(float));
    }
    b->points = set->points;
    b->order = &set->order;
    if (forms[head->form]->fields)
        forms[head->form]->fields(set, w);
}

uint64_t index_fingerprint(uint64_t fingerprint, size_t count, const double *values)
{
    uint64_t lane[SIMD_MIXED] = {0};
    size_t whole = count / SIMD_MIXED * SIMD_MIXED;
    simd->mix(whole, values, lane);
    for (size_t i = whole; i < count; i++) {
        uint64_t bits;
        memcpy(&bits, &values[i], sizeof(bits));
        lane[i % SIMD_MIXED] = (lane[i % SIMD_MIXED] ^ bits ^ (bits >> 32)) * SIMD_MIX;
    }
    fingerprint = (fingerprint ^ 0xcbf29ce484222325 ^ count) * SIMD_MIX;
    for (int l = 0; l < SIMD_MIXED; l++)
        fingerprint = (fingerprint ^ lane[l] ^ (lane[l] >> 32)) * SIMD_MIX;
    return fingerprint;
}

static header describe(const index_search *index)
{
    header head = {.magic = MAGIC,
                   .n = index->candidates->n,
                   .rows = simd->rows,
                   .cols = simd->cols,
                   .bytes8 = simd->dot_tile8 != NULL,
                   .form = form_number(index->form),
                   .d = index->candidates->d,
                   .m = index->candidates->m,
                   .cost = index->cost};
    if (index->points) {
        const bounds *b = &index->points->bound;
        head.count = index->points->order.count;
        head.panels = index->points->order.panels;
        head.specials = b->special.count;
        head.expands = b->expands;
        head.weights = b->panels.weight != NULL;
        head.special_reach = b->special_reach != NULL;
        head.of_panels = index->form->terms;
        head.terms = b->terms.most;
        head.jitter = b->jitter;
        head.most_roundoff = b->most_roundoff;
    }
    return head;
}

static size_t start_of_arrays(void) { return (sizeof(header) + ALIGN - 1) / ALIGN * ALIGN; }

static size_t walk_index(walk w, index_search *index)
{
    header head = describe(index);
    metric_points points = *index->candidates;
    w.visitor.visit = visit;
    w.at = start_of_arrays();
    walk_set(&w.visitor, &head, &points, index->points);
    return w.at + AFTER;
}

size_t index_packed_bytes(index_search *index) { return walk_index((walk){0}, index); }

void index_packed_write(index_search *index, uint64_t fingerprint, void *memory)
{
    header head = describe(index);
    head.fingerprint = fingerprint;
    head.bytes = index_packed_bytes(index);
    memset(memory, 0, start_of_arrays());
    memcpy(memory, &head, sizeof(head));
    memset((char *)memory + head.bytes - AFTER, 0, AFTER);
    walk_index((walk){.memory = memory}, index);
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
    uint64_t fingerprint = index_fingerprint(0, sizeof(start) / sizeof(*start), start);
    return index_fingerprint(fingerprint, (bytes - sizeof(head)) / sizeof(double),
                             (const double *)memory + sizeof(head) / sizeof(double));
}

void index_seal(void *memory, size_t bytes)
{
    header head;
    memcpy(&head, memory, sizeof(head));
    head.sum = sum_of(memory, bytes);
    memcpy(memory, &head, sizeof(head));
}

int index_sound(index_pack stored)
{
    header head = {0};
    if (!stored.memory || stored.bytes < sizeof(head.magic))
        return 1;
    memcpy(&head, stored.memory, stored.bytes < sizeof(head) ? stored.bytes : sizeof(head));
    return head.magic != MAGIC || (stored.bytes >= sizeof(head) && head.bytes == stored.bytes &&
                                   head.sum == sum_of(stored.memory, stored.bytes));
}

void index_packed_list(index_search *index, index_listener tell, void *context)
{
    walk_index((walk){.tell = tell, .context = context}, index);
}

/* Sizes that cannot be, and whose products might overflow. */
static int wild(const header *head)
{
    return head->form < NO_FORM || head->form >= FORMS || head->terms < 0 || head->terms > head->m || head->count < 0 ||
           head->panels < 0 || head->specials < 0 || (size_t)head->count > head->n || (size_t)head->panels > head->n ||
           (size_t)head->specials > head->n;
}

/* Reads what stands before the arrays; 0 if they are not for these points or these vector routines. */
static int read_header(index_pack stored, const metric_points *points, header *head)
{
    if (!stored.memory || stored.bytes < sizeof(*head))
        return 0;
    memcpy(head, stored.memory, sizeof(*head));
    return head->magic == MAGIC && head->bytes == stored.bytes && head->fingerprint == stored.fingerprint &&
           head->n == points->n && head->d == points->d && head->m == points->m && head->rows == simd->rows &&
           head->cols == simd->cols && head->bytes8 == (simd->dot_tile8 != NULL) && !wild(head);
}

static walk opening(index_pack stored)
{
    return (walk){{visit, stored.bytes, 0}, (char *)stored.memory, start_of_arrays(), NULL, NULL};
}

int index_points(index_pack stored, metric_points *points)
{
    header head;
    if (!read_header(stored, points, &head) || head.form == NO_FORM)
        return 0;
    metric_points found = *points;
    walk w = opening(stored);
    walk_points(&w.visitor, &head, &found);
    if (w.visitor.beyond)
        return 0;
    *points = found;
    return 1;
}

status index_open(const metric_source *source, const metric_points *points, index_pack stored, index_search *out)
{
    index_none(points, out);
    header head;
    if (!read_header(stored, points, &head))
        return status_ok();
    out->cost = head.cost;
    out->opened = 1;
    if (head.form == NO_FORM)
        return status_ok();
    out->form = forms[head.form];
    point_set *set = out->points = set_new(out->form, points);
    if (!set) {
        index_free(out);
        return status_fail(STATUS_MEMORY);
    }
    set->order = (cells){.n = head.n, .d = head.d, .count = head.count, .panels = head.panels};
    set->bound = (bounds){.kern = source->kern,
                          .m = head.m,
                          .d = head.d,
                          .expands = head.expands,
                          .jitter = head.jitter,
                          .terms.most = head.terms,
                          .most_roundoff = head.most_roundoff,
                          .special.count = head.specials,
                          .panels.count = head.panels,
                          .cells.count = head.count,
                          .groups.count = (head.count + BOUNDS_GROUP - 1) / BOUNDS_GROUP};
    metric_points same = *points;
    walk w = opening(stored);
    walk_set(&w.visitor, &head, &same, set);
    if (w.visitor.beyond || w.at + AFTER != stored.bytes) {
        index_free(out);
        return status_ok();
    }
    set_sides(source->kern, out);
    return status_ok();
}

/* ---- building ------------------------------------------------------------------------------- */

/* `like` is the set of candidates when the set is one of queries, NULL for the candidates. The set stays empty where
 * the form serves no cells. */
static status set_build(const metric_source *source, const screening_form *form, const metric_points *points,
                        const point_set *like, int threads, const monitor *mon, point_set **made)
{
    point_set *set = *made = set_new(form, points);
    status result;
    if (!set)
        return status_fail(STATUS_MEMORY);
    if (!like && form->divide)
        result = form->divide(source, points, threads, &set->order);
    else /* queries descend together where they are as close as candidates */
        result = cells_build(points->d, points->n, points->x, CELLS_MOST,
                             like && form->compact ? cells_mean_side(&like->order) : INFINITY, threads, &set->order);
    if (result.code || !set->order.count)
        return result;
    result = bounds_build(source, points, &set->order, form->terms, threads, mon, &set->bound);
    return result.code || !form->build ? result : form->build(source, like, threads, mon, set);
}

status index_build(const metric_source *source, const metric_points *points, const screening_form *form, int threads,
                   const monitor *mon, index_search *out)
{
    index_none(points, out);
    out->form = form;
    status result = set_build(source, form, points, NULL, threads, mon, &out->points);
    if (result.code || !out->points->order.count) {
        index_free(out);
        return result;
    }
    set_sides(source->kern, out);
    return result;
}

status index_add_queries(const metric_source *source, const metric_points *from, int threads, const monitor *mon,
                         index_search *index)
{
    status result = set_build(source, index->form, from, index->points, threads, mon, &index->fresh);
    set_sides(source->kern, index);
    return result;
}

#include "search/query_level.h"

#include <string.h>

/* All landmarks are asked where coarse ones leave so many times as many queries. */
#define FINE_PAYS 3

/* |P b|^2 of cells that come first: they raise the thresholds before the turn of the others. */
#define NEAR_LENGTH 0.3f

/* What the first `rank` landmarks of their own cell say of the queries. */
static void set_span(level_scratch *s, const subspaces *space, const int *landmarks, int rank,
                     span *out)
{
    const level_block *block = s->block;
    int all = space->rank[block->cell], stride = subspace_width(space, block->cell);
    out->rank = rank;
    for (int q = 0; q < block->count; q++)
        s->rows[q] = s->own + (size_t)q * stride;
    simd->multiply32(block->count, s->rows, rank, s->inverse, stride,
                     (rank + SIMD_WIDTH - 1) / SIMD_WIDTH * SIMD_WIDTH, s->products);
    for (int r = 0; r < rank; r++)
        for (int q = 0; q < block->count; q++)
            out->weights[r * LEVEL_STRIDE + q] = s->products[(size_t)q * stride + r];
    for (int q = 0; q < block->count; q++) {
        const float *b = s->products + (size_t)q * stride;
        float size = 0.0f, noisy = 0.0f, rest = space->tail[block->column[q]];
        for (int r = 0; r < rank; r++) {
            size += fabsf(b[r]);
            noisy += fabsf(b[r]) * space->noise[landmarks[r]];
        }
        rest *= rest;
        for (int r = rank; r < all; r++)
            rest += s->rows[q][r] * s->rows[q][r];
        out->size[q] = size * 1.0001f;
        out->noisy[q] = noisy * 1.0001f;
        out->tail[q] = sqrtf(rest) * 1.0001f;
    }
}

static float largest_tail(const level_scratch *s, const span *own)
{
    int members[BITSET_SIZE], count = bitset_members(&s->block->active, members);
    float largest = 0.0f;
    for (int i = 0; i < count; i++)
        largest = fmaxf(largest, own->tail[members[i]]);
    return largest;
}

/* The coordinates of the queries in the span of the landmarks of their own cell. */
static void set_own(level_scratch *s)
{
    const level_block *block = s->block;
    const subspaces *space = &s->task->index->from->space;
    int cell = block->cell, rank = space->rank[cell], width = subspace_width(space, cell);
    int first = s->task->index->from->order.panel[cell] * SCREEN_COLS;
    for (int q = 0; q < block->count; q++) {
        const float *source = subspace_psi(space, cell, block->column[q] - first);
        float *own = s->own + (size_t)q * width;
        for (int r = 0; r < rank; r++)
            own[r] = source[r * SCREEN_COLS];
    }
}

void level_subspaces_set(level_scratch *s)
{
    const level_block *block = s->block;
    const metric_points *from = s->task->from;
    const subspaces *space = &s->task->index->from->space;
    int cell = block->cell, rank = space->rank[cell], width = subspace_width(space, cell);
    const int *landmarks = space->ids + space->landmark[cell];
    for (int r = 0; r < rank; r++) {
        s->landmark_x[r] = from->x + (size_t)landmarks[r] * from->d;
        s->landmark_v[r] = from->v + (size_t)landmarks[r] * from->m;
        s->landmark_scale[r] = from->scale[landmarks[r]];
    }
    set_own(s);
    const float *inverse = space->inverse + space->inverse_at[cell];
    for (int i = 0; i < rank; i++)
        for (int j = 0; j < width; j++)
            s->inverse[i * width + j] = j < rank ? inverse[j * width + i] : 0.0f;
    int coarse = space->coarse[cell], few = coarse < LEVEL_CIRCLES ? coarse : LEVEL_CIRCLES;
    set_span(s, space, landmarks, few, &s->spans[0]);
    if (few < coarse && largest_tail(s, &s->spans[0]) > SUBSPACE_COARSE)
        set_span(s, space, landmarks, coarse, &s->spans[0]);
    set_span(s, space, landmarks, rank, &s->spans[1]);
}

/* Intervals of some queries with all points of a cell. Each has its psi, tail and error. */
static void screen_rows(level_scratch *s, const subspaces *space, int cell, int count,
                        const int *members, const float *const *psi, const float *tails,
                        const float *errors)
{
    level_block *block = s->block;
    const cells *order = space->order;
    int rank = space->rank[cell], first = order->panel[cell],
        panels = order->panel[cell + 1] - first,
        own = s->task->index->from == &s->task->index->points && cell == block->cell;
    const float *rows[SCREEN_ROWS], *psi_of_cell = space->psi + space->psi_at[cell];
    float row_tail[SCREEN_ROWS], limit[SCREEN_ROWS];
    uint32_t mask[SCREEN_ROWS];
    for (int i = 0; i < count; i += SCREEN_ROWS) {
        int filled = count - i < SCREEN_ROWS ? count - i : SCREEN_ROWS;
        for (int a = 0; a < SCREEN_ROWS; a++) {
            int at = a < filled ? i + a : i;
            rows[a] = psi[at];
            row_tail[a] = tails[at];
            limit[a] = a < filled ? block->tau[members[at]] - errors[at] : INFINITY;
        }
        int start = own ? block->column[members[i]] / SCREEN_COLS - first : 0;
        for (int step = 0; step < panels; step++) {
            int p = level_nth_nearest(start, step, panels), panel = first + p;
            if (order->least[panel] >= block->most_limit)
                continue;
            const float *columns = psi_of_cell + (size_t)p * rank * SCREEN_COLS;
            const float *tail = space->tail + (size_t)panel * SCREEN_COLS;
            simd->subspace_tile(rank, rows, row_tail, limit, columns, tail, s->value, mask);
            s->counters.screened += (double)filled * SCREEN_COLS;
            for (int a = 0; a < filled; a++)
                if (mask[a]) {
                    int q = members[i + a];
                    simd_interval_row row = {.value = s->value + a * SCREEN_COLS,
                                             .tail = tail,
                                             .row_tail = row_tail[a],
                                             .base = errors[i + a]};
                    level_keep(s, block, q, order->ids + (size_t)panel * SCREEN_COLS, mask[a],
                               &row);
                    limit[a] = block->tau[q] - errors[i + a];
                }
        }
    }
}

/* The queries' own cell, where psi and tails are those of its points. */
static void screen_own(level_scratch *s)
{
    const level_block *block = s->block;
    const subspaces *space = &s->task->index->points.space;
    int members[BITSET_SIZE], count = bitset_members(&block->active, members);
    int width = subspace_width(space, block->cell);
    float errors[BITSET_SIZE], tails[BITSET_SIZE];
    for (int i = 0; i < count; i++) {
        float noise = block->noise[members[i]];
        errors[i] = subspace_pair_error(space, block->cell, noise);
        tails[i] = s->task->index->from->space.tail[block->column[members[i]]];
        s->rows[i] = s->own + (size_t)members[i] * width;
    }
    screen_rows(s, space, block->cell, count, members, s->rows, tails, errors);
}

/* For each query of the block the smallest |psi| in the first `to` landmarks of a cell at which it is not done
 * with it; and the smallest |P b|, from some landmarks of its own. */
static void set_limits(level_scratch *s, int cell, int to, const span *own)
{
    const level_block *block = s->block;
    const subspaces *space = &s->task->index->points.space;
    float tail = subspace_stage_tail(space, cell, to), rounding = space->cell_rounding[cell],
          most = space->cell_most[cell];
    simd_skip_cell skip = {
        .noise = space->cell_noise[cell],
        .rounding = rounding,
        .most = most,
        .dot = ldexpf(space->rank[cell] + 4, -23),
        .product = rounding + ldexpf(own->rank + 4, -24),
        .cosine = tail < 1.0f ? sqrtf(1.0f - tail * tail) * 0.99999f : 0.0f,
        .sine = tail < 1.0f ? tail : 1.0f,
    };
    simd_skip queries = {block->tau, block->noise, own->tail, own->size, own->noisy};
    simd->skip_limits(block->count, &queries, &skip, s->must, s->least);
}

/* How many landmarks of a cell those of another are asked for, padded. */
static int asked(const subspaces *space, int cell, int fine)
{
    int rank = fine ? space->rank[cell] : space->coarse[cell];
    return (rank + SIMD_WIDTH - 1) / SIMD_WIDTH * SIMD_WIDTH;
}

/* The circles that reach a cell, by the landmarks of the queries' cell in the span of its first `to`. */
static uint32_t circles_reaching(const level_scratch *s, int cell, int to)
{
    const subspaces *space = &s->task->index->points.space;
    int width = subspace_width(space, cell);
    float near[LEVEL_CIRCLES], length, sine = fminf(subspace_stage_tail(space, cell, to), 1.0f);
    for (int c = 0; c < s->circles; c++) {
        const level_circle *circle = &s->circle[c];
        simd->squared_lengths(1, width, to, s->P + (size_t)circle->landmark * width, &length);
        near[c] = sqrtf(length * 1.0001f) + subspace_psi_error(space, cell, circle->noise);
    }
    return level_circles_reach(s, near, sqrtf(1.0f - sine * sine), sine);
}

/* Asks the landmarks of the queries' cell and of another for |P b|^2 of the active queries, and takes those
 * that are done with the cell from them, by circles first. Returns how many are left. */
static int ask_landmarks(level_scratch *s, work_item *item, int fine, float *lengths)
{
    const subspaces *space = &s->task->index->points.space;
    const span *own = &s->spans[fine];
    int cell = item->cell, width = subspace_width(space, cell), members[BITSET_SIZE];
    int rank = fine ? space->rank[cell] : space->coarse[cell], to = asked(space, cell, fine);
    int count = bitset_count(&item->active);
    subspaces_project(space, cell, 0, to, own->rank, s->landmark_x, s->landmark_v,
                      s->landmark_scale, s->rows, s->products, s->P);
    s->counters.correlations += (double)rank * own->rank;
    bitset reached = level_circles_members(s, circles_reaching(s, cell, to));
    bitset_keep(&item->active, &reached);
    if (bitset_any(&item->active)) {
        set_limits(s, cell, to, own);
        simd->product_lengths(s->block->count, own->rank, own->weights, LEVEL_STRIDE, s->P, width,
                              to, s->least, item->active.word, lengths);
    }
    int left = bitset_members(&item->active, members);
    item->fine = fine;
    item->most = 0.0f;
    for (int i = 0; i < left; i++)
        item->most = fmaxf(item->most, lengths[members[i]]);
    s->counters.bounds += count;
    s->counters.pruned += count - left;
    return left;
}

/* Projects `count` queries on landmarks `from` to `to` - 1 of a cell and keeps, in place, those that are not
 * done with it then; `lengths` are |psi|^2 so far. Returns how many. */
static int project(level_scratch *s, int cell, int from, int to, int count, int *members,
                   float *lengths)
{
    const subspaces *space = &s->task->index->points.space;
    int width = subspace_width(space, cell), left = 0;
    int last = to < space->rank[cell] ? to : space->rank[cell];
    float found[BITSET_SIZE];
    subspaces_project(space, cell, from, to, count, s->row_x, s->row_v, s->row_scale, s->rows,
                      s->products, s->psi);
    simd->squared_lengths(count, width, to - from, s->psi + from, found);
    set_limits(s, cell, to, &s->spans[1]);
    s->counters.correlations += (double)(last - from) * count;
    s->counters.bounds += count;
    for (int i = 0; i < count; i++) {
        int q = members[i];
        float length = lengths[i] + found[i];
        if (length * 1.0001f < s->must[q] * s->must[q])
            continue;
        lengths[left] = length;
        members[left] = q;
        if (left < i) {
            s->row_x[left] = s->row_x[i];
            s->row_v[left] = s->row_v[i];
            s->row_scale[left] = s->row_scale[i];
            memcpy(s->psi + (size_t)left * width, s->psi + (size_t)i * width, to * sizeof(float));
            memcpy(s->products + (size_t)left * width, s->products + (size_t)i * width,
                   to * sizeof(float));
        }
        left++;
    }
    s->counters.pruned += count - left;
    return left;
}

/* A cell of the frontier for the active queries; `lengths` is |P b|^2 where landmarks were asked, or NULL.
 * Queries with lengths in [low, high) only have their turn. */
static void screen_cell(level_scratch *s, const work_item *item, const float *lengths, float low,
                        float high)
{
    const level_block *block = s->block;
    const subspaces *space = &s->task->index->points.space;
    const metric_points *from = s->task->from;
    int cell = item->cell, members[BITSET_SIZE], count = bitset_members(&item->active, members),
        left = 0;
    int width = subspace_width(space, cell);
    float errors[BITSET_SIZE], tails[BITSET_SIZE], found[BITSET_SIZE];
    if (lengths)
        set_limits(s, cell, asked(space, cell, item->fine), &s->spans[item->fine]);
    for (int i = 0; i < count; i++) {
        int q = members[i];
        if (lengths) {
            if (!(lengths[q] >= low && lengths[q] < high))
                continue;
            s->counters.bounds++;
            if (lengths[q] * 1.0001f < s->least[q] * s->least[q]) {
                s->counters.pruned++;
                continue;
            }
        }
        s->row_x[left] = from->x + (size_t)block->row[q] * from->d;
        s->row_v[left] = from->v + (size_t)block->row[q] * from->m;
        s->row_scale[left] = from->scale[block->row[q]];
        found[left] = 0.0f;
        members[left++] = q;
    }
    count = left;
    for (int first = 0, to; first < width && count; first = to) {
        to = subspace_stage(space, cell, first);
        count = project(s, cell, first, to, count, members, found);
    }
    if (!count)
        return;
    for (int i = 0; i < count; i++) {
        float noise = block->noise[members[i]];
        s->rows[i] = s->psi + (size_t)i * width;
        errors[i] = subspace_pair_error(space, cell, noise);
        tails[i] = subspace_tail(space, cell, noise, found[i]);
    }
    screen_rows(s, space, cell, count, members, s->rows, tails, errors);
}

void level_subspaces_own(level_scratch *s)
{
    set_own(s);
    screen_own(s);
}

void level_subspaces_screen_one(level_scratch *s, int cell, const float *psi, float length)
{
    const subspaces *space = &s->task->index->points.space;
    float noise = s->block->noise[0], error = subspace_pair_error(space, cell, noise),
          tail = subspace_tail(space, cell, noise, length);
    int member = 0;
    screen_rows(s, space, cell, 1, &member, &psi, &tail, &error);
}

void level_subspaces_seed(level_scratch *s, int cell)
{
    if (s->task->index->from == &s->task->index->points)
        screen_own(s);
    else
        screen_cell(s, &(work_item){.cell = cell, .active = s->block->active}, NULL, 0.0f, 0.0f);
}

/* Some cells of the frontier: what the landmarks say of all of them first, then for each query the
 * cells that may hold most, so that its threshold is high when the turn of the others comes. */
void level_subspaces_screen(level_scratch *s, work_item *work, int count)
{
    const level_block *block = s->block;
    int everyone[BITSET_SIZE], queries = bitset_members(&block->active, everyone);
    int coarse = s->spans[0].rank, rank = s->spans[1].rank, far = 0;
    for (int w = 0; w < count; w++) {
        float *lengths = s->lengths + (size_t)w * BITSET_SIZE;
        int active = bitset_count(&work[w].active);
        work[w].most = -1.0f;
        if (active > coarse) {
            active = ask_landmarks(s, &work[w], 0, lengths);
            if (active > FINE_PAYS * rank && coarse < rank)
                active = ask_landmarks(s, &work[w], 1, lengths);
            if (!active)
                work[w].most = -1.0f;
            far += active > 0;
        } else if (active) { /* few queries: they are near */
            screen_cell(s, &work[w], NULL, 0.0f, 0.0f);
        }
    }
    for (int turn = 0; turn < 2 && far; turn++) {
        float low = turn ? 0.0f : NEAR_LENGTH, high = turn ? NEAR_LENGTH : INFINITY;
        level_raise_thresholds(s, queries, everyone);
        for (int w = 0; w < count; w++)
            if (work[w].most >= low)
                screen_cell(s, &work[w], s->lengths + (size_t)w * BITSET_SIZE, low, high);
    }
}

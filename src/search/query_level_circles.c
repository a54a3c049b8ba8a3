#include "search/query_level.h"

#include <string.h>

static float between(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

/* The coordinates of the first landmarks of the queries' cell, a column for each, and their tails; returns how many. */
static int gather_landmarks(const level_scratch *s, float *psi, float *tails)
{
    const index_set *from = s->task->index->from;
    const subspaces *space = &from->space;
    int cell = s->block->cell, rank = space->rank[cell],
        count = rank < LEVEL_CIRCLES ? rank : LEVEL_CIRCLES,
        first = from->order.panel[cell] * SCREEN_COLS;
    for (int c = 0; c < count; c++) {
        int column = from->order.column[space->ids[space->landmark[cell] + c]];
        const float *of = subspace_psi(space, cell, column - first);
        for (int r = 0; r < rank; r++)
            psi[r * SIMD_WIDTH + c] = of[r * SCREEN_COLS];
        tails[c] = space->tail[column];
    }
    return count;
}

/* Those with queries. */
static void drop_empty(level_scratch *s, int count)
{
    int place[LEVEL_CIRCLES];
    s->circles = 0;
    for (int c = 0; c < count; c++) {
        place[c] = s->circles;
        if (bitset_any(&s->circle[c].members))
            s->circle[s->circles++] = s->circle[c];
    }
    for (int q = 0; q < s->block->count; q++)
        s->circle_of[q] = place[s->circle_of[q]];
}

void level_circles_set(level_scratch *s)
{
    const level_block *block = s->block;
    const subspaces *space = &s->task->index->from->space;
    int cell = block->cell, rank = space->rank[cell], width = subspace_width(space, cell);
    float psi[SUBSPACE_RANK * SIMD_WIDTH] = {0.0f}, tails[LEVEL_CIRCLES];
    int count = gather_landmarks(s, psi, tails);
    s->circles = 0;
    if (!count) /* nor are there active queries */
        return;
    for (int c = 0; c < count; c++)
        s->circle[c] = (level_circle){.landmark = c,
                                      .noise = space->noise[space->ids[space->landmark[cell] + c]]};
    for (int q = 0; q < block->count; q++)
        s->rows[q] = s->own + (size_t)q * width;
    simd->multiply32(block->count, s->rows, rank, psi, SIMD_WIDTH, SIMD_WIDTH, s->products);
    for (int q = 0; q < block->count; q++) {
        const float *rho = s->products + (size_t)q * SIMD_WIDTH;
        int nearest = 0;
        float most = fabsf(rho[0]);
        for (int c = 1; c < count; c++) {
            float size = fabsf(rho[c]);
            nearest = size > most ? c : nearest;
            most = size > most ? size : most;
        }
        float error = subspace_pair_error(space, cell, block->noise[q]) +
                      tails[nearest] * space->tail[block->column[q]] + LEVEL_CAREFUL,
              cosine = between(most - error, 0.0f, 1.0f);
        s->circle_of[q] = nearest;
        s->circle_cosine[q] = cosine;
        s->circle_sine[q] = sqrtf(1.0f - cosine * cosine);
        bitset_add(&s->circle[nearest].members, q);
    }
    drop_empty(s, count);
}

void level_circles_draw(level_scratch *s)
{
    const level_block *block = s->block;
    float most_noise = (float)s->task->index->points.bound.most_noise * 1.001f;
    for (int c = 0; c < s->circles; c++)
        s->circle[c].cosine = 1.0f;
    s->least_cosine = 0.0f;
    for (int q = 0; q < block->count && s->circles; q++) {
        int idle = block->tau[q] == INFINITY;
        float tau =
                  between(block->tau[q] - block->noise[q] * most_noise - LEVEL_CAREFUL, 0.0f, 1.0f),
              sine = sqrtf(1.0f - tau * tau),
              cosine = s->circle_cosine[q] * tau - s->circle_sine[q] * sine,
              *least = &s->circle[s->circle_of[q]].cosine;
        s->tau_cosine[q] = tau;
        s->tau_sine[q] = sine;
        *least = !idle && cosine < *least ? cosine : *least;
        s->least_cosine = !idle && tau > s->least_cosine ? tau : s->least_cosine;
    }
    s->least_sine = sqrtf(1.0f - s->least_cosine * s->least_cosine);
    for (int c = 0; c < s->circles; c++) {
        level_circle *circle = &s->circle[c];
        float cosine = circle->cosine - LEVEL_CAREFUL;
        circle->cosine = cosine;
        circle->sine = sqrtf(between(1.0f - cosine * cosine, 0.0f, 1.0f)) + LEVEL_CAREFUL;
    }
}

uint32_t level_circles_reach(const level_scratch *s, const float *near, float cosine, float sine)
{
    uint32_t reach = 0;
    for (int c = 0; c < s->circles; c++) {
        int beyond =
            near[c] + LEVEL_CAREFUL < cosine * s->circle[c].cosine - sine * s->circle[c].sine;
        reach |= (uint32_t)!beyond << c;
    }
    return reach;
}

bitset level_circles_members(const level_scratch *s, uint32_t some)
{
    bitset all = {{0}};
    for (; some; some &= some - 1)
        for (int w = 0; w < BITSET_WORDS; w++)
            all.word[w] |= s->circle[__builtin_ctz(some)].members.word[w];
    return all;
}

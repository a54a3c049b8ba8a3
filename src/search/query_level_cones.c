/* Cones of cells: first for circles, then for single queries.
 *
 * A query sees an axis in the span of the first landmarks of its own cell, where both have coordinates (subspace.h):
 *     |rho(q, axis)| <= |psi_q . psi_axis| + tail_q tail_axis,
 * and it wants nothing of the cone if that is below the cosine of the sum of two angles, its threshold's and the opening.
 * The correlations of an axis with the landmarks serve all queries of the block, and circles before them. */
#include "search/query_level.h"

#include <string.h>

/* Cosines below this one are left alone: queries hardly see an axis better. */
#define SIGHT_LEAST 0.2f

/* Whether a query of the block may want nothing of a cone. */
static int may_be_beyond(const level_scratch *s, float cosine, float sine)
{
    return s->least_cosine * cosine - s->least_sine * sine > SIGHT_LEAST;
}

void level_cones_set(level_scratch *s)
{
    const level_block *block = s->block;
    const subspaces *space = &s->task->index->from->space;
    int rank = space->rank[block->cell], width = subspace_width(space, block->cell);
    s->sight = rank < LEVEL_SIGHT ? rank : LEVEL_SIGHT;
    for (int q = 0; q < block->count; q++) {
        const float *own = s->own + (size_t)q * width;
        float rest = space->tail[block->column[q]];
        rest *= rest;
        for (int r = 0; r < s->sight; r++)
            s->sight_psi[r * LEVEL_STRIDE + q] = own[r];
        for (int r = s->sight; r < rank; r++)
            rest += own[r] * own[r];
        s->sight_tail[q] = sqrtf(rest) * 1.0001f;
    }
}

int level_cones_reach(level_scratch *s, int panel, uint32_t *reach)
{
    const cones *cone = &s->task->index->points.cone;
    const metric_points *points = s->task->points;
    radial rad = kernel_radial(s->task->kern);
    int cols = simd->cols, some = 0;
    size_t first = (size_t)panel * cols;
    const float *cosine = cone->cosine + first, *sine = cone->sine + first;
    float near[LEVEL_CIRCLES] = {0.0f};
    uint32_t all = (UINT32_C(1) << s->circles) - 1;
    for (int j = 0; j < cols; j++) {
        reach[j] = level_circles_reach(s, near, cosine[j], sine[j]);
        some |= reach[j] != all || may_be_beyond(s, cosine[j], sine[j]);
    }
    if (!some) /* whatever the correlations are */
        return 0;
    simd->correlations(&rad, points->d, points->m, s->sight, s->landmark_x, s->landmark_v,
                       s->landmark_scale, cone->x + first * points->d, cone->v + first * points->m,
                       cone->scale + first, s->panel_rho, cols);
    s->counters.correlations += s->sight * cols;
    for (int j = 0; j < cols; j++) {
        for (int c = 0; c < s->circles; c++)
            near[c] = fabsf(s->panel_rho[s->circle[c].landmark * cols + j]) +
                      1.001f * s->circle[c].noise * cone->noise[first + j];
        reach[j] = level_circles_reach(s, near, cosine[j], sine[j]);
    }
    return 1;
}

int level_cones_keep(level_scratch *s, int cell, int item)
{
    for (int r = 0; r < s->sight; r++)
        s->axis_rho[(size_t)item * LEVEL_SIGHT + r] =
            s->panel_rho[r * simd->cols + cell % simd->cols];
    return item;
}

void level_cones_ask(level_scratch *s, work_item *item)
{
    const cones *cone = &s->task->index->points.cone;
    const subspaces *space = &s->task->index->from->space;
    int own = s->block->cell, cell = item->cell, before = bitset_count(&item->active);
    float noise = cone->noise[cell], cosine = cone->cosine[cell], sine = cone->sine[cell];
    if (item->axis < 0 || !may_be_beyond(s, cosine, sine))
        return;
    const float *rho = s->axis_rho + (size_t)item->axis * LEVEL_SIGHT;
    float psi[LEVEL_SIGHT], length;
    simd->multiply32(1, &rho, s->sight, space->inverse + space->inverse_at[own],
                     subspace_width(space, own), LEVEL_SIGHT, psi);
    simd->squared_lengths(1, LEVEL_SIGHT, LEVEL_SIGHT, psi, &length);
    simd_cone_queries queries = {s->sight_psi, LEVEL_STRIDE, s->sight_tail, s->tau_cosine,
                                 s->tau_sine};
    simd_cone seen = {psi, fminf(subspace_tail(space, own, noise, length), 1.0f),
                      subspace_pair_error(space, own, noise) + LEVEL_CAREFUL, cosine, sine};
    simd->cone_members(s->block->count, s->sight, &queries, &seen, item->active.word);
    s->counters.bounds += before;
    s->counters.pruned += before - bitset_count(&item->active);
}

/* Dense: the trivial form. Nothing is kept of the points: every pair of a cell is evaluated as it comes. It serves
 * searches within a budget, which ask for cells and bounds only, and the tests of the contract, as what the other forms
 * are compared with. */
#include "base/scratch.h"
#include "form/form.h"

#include <float.h>

static double pair_cost(const point_set *set) { return set->points->m + COST_KERNEL; }

static void *work_new(const form_sides *on)
{
    (void)on;
    return scratch_alloc(1, 1);
}

static void begin(const form_sides *on, const block *b, void *work) { (void)on, (void)b, (void)work; }

static void screen(const form_sides *on, const block *b, const frontier_cell *item, form_sink *sink, void *work)
{
    const cells *order = &on->points->order;
    static const float none[SCREEN_COLS];
    int members[BITSET_SIZE], count = bitset_members(&item->alive, members);
    (void)work;
    for (int i = 0; i < count; i++)
        for (int p = order->panel[item->cell]; p < order->panel[item->cell + 1]; p++) {
            const int *ids = order->ids + (size_t)p * SCREEN_COLS;
            double rho[SCREEN_COLS];
            float value[SCREEN_COLS] = {0.0f};
            uint32_t mask = 0;
            int there = cells_filled(ids);
            metric_list(on->kern, on->from->points, b->row[members[i]], on->points->points, ids, there, rho);
            for (int j = 0; j < there; j++) {
                value[j] = (float)rho[j];
                mask |= (uint32_t)(fabsf(value[j]) + FLT_EPSILON >= b->tau[members[i]]) << j;
            }
            simd_interval_row row = {.value = value, .norm = none, .error = none, .base = FLT_EPSILON};
            sink->counters->screened += there;
            if (mask)
                sink->keep(sink, members[i], ids, mask, &row);
        }
}

const screening_form form_dense = {
    .name = "dense",
    .note = "every pair evaluated",
    .settle = 1,
    .give_up = 32,
    .pair_cost = pair_cost,
    .work_new = work_new,
    .begin = begin,
    .screen = screen,
};

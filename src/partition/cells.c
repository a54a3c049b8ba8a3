#include "partition/cells.h"

#include "base/scratch.h"
#include "partition/boxes.h"

#include <math.h>
#include <string.h>

void cells_free(cells *c)
{
    SCRATCH_FREE(c->perm, c->first, c->panel, c->ids, c->column, c->least, c->low, c->high);
    memset(c, 0, sizeof(*c));
}

typedef struct {
    int d;
    const double *x;
    int *perm;
    char *border;      /* by position: a cell starts here */
    int most;          /* points of a cell, */
    double widest;     /* and its side */
    int *later, parts; /* where ranges start that are halved in parallel; how many */
} refinement;

/* Halves a range down to handfuls; at the top, down to ranges that are left for later. */
static void refine(refinement *r, int top, int first, int last)
{
    int count = last - first;
    double side;
    if (top && count <= CELLS_REFINE) {
        r->later[r->parts++] = first;
        return;
    }
    int widest = boxes_widest(r->d, r->x, r->perm + first, count, &side), cut = count > r->most || side > r->widest;
    if (count <= CELLS_HANDFUL) {
        boxes_rising(r->perm + first, count);
        if (cut)
            memset(r->border + first, 1, count);
        return;
    }
    /* as many whole cells, inside a cell whole panels, inside a panel whole handfuls, on the left as
     * fit half of the points */
    int whole = count > SCREEN_COLS ? SCREEN_COLS : CELLS_HANDFUL, unit = count > r->most ? r->most : whole,
        units = (count + unit - 1) / unit;
    int64_t share = (int64_t)count * (units / 2) / units;
    int left = (int)((share + whole - 1) / whole * whole);
    left = left < count ? left : count - 1;
    boxes_lowest(r->d, r->x, widest, r->perm + first, count, left);
    if (cut)
        r->border[first + left] = 1;
    refine(r, top, first, first + left);
    refine(r, top, first + left, last);
}

/* Orders the points and marks where cells start; border has n + 1 entries. */
static void refine_all(refinement *r, int n, int threads)
{
    memset(r->border, 0, (size_t)n + 1);
    for (int i = 0; i < n; i++)
        r->perm[i] = i;
    r->border[0] = 1;
    refine(r, 1, 0, n);
    r->later[r->parts] = n;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int part = 0; part < r->parts; part++)
        refine(r, 0, r->later[part], r->later[part + 1]);
}

static void fill_panels(cells *c)
{
    for (int at = 0; at < c->count; at++)
        for (int p = c->panel[at]; p < c->panel[at + 1]; p++) {
            int start = c->first[at] + (p - c->panel[at]) * SCREEN_COLS;
            c->least[p] = (int)c->n;
            for (int j = 0; j < SCREEN_COLS; j++) {
                int there = start + j < c->first[at + 1];
                int id = c->ids[(size_t)p * SCREEN_COLS + j] = there ? c->perm[start + j] : -1;
                if (there)
                    c->column[id] = p * SCREEN_COLS + j;
                if (there && id < c->least[p])
                    c->least[p] = id;
            }
        }
}

status cells_build(int d, size_t n, const double *x, int most, double widest, int threads, cells *c)
{
    memset(c, 0, sizeof(*c));
    c->n = n;
    c->d = d;
    char *border;
    int *later, ok = SCRATCH_ALL(SCRATCH_FOR(c->perm, n), SCRATCH_FOR(c->first, n + 1), SCRATCH_FOR(c->column, n),
                                 SCRATCH_FOR(border, n + 1), SCRATCH_FOR(later, 2 * n / (CELLS_REFINE / 2) + 2));
    if (ok) {
        refinement r = {d, x, c->perm, border, most, widest, later, 0};
        refine_all(&r, (int)n, threads);
        for (size_t i = 0; i < n; i++)
            if (border[i])
                c->first[c->count++] = (int)i;
        c->first[c->count] = (int)n;
        size_t corners = (size_t)c->count * d;
        ok = SCRATCH_ALL(SCRATCH_FOR(c->panel, (size_t)c->count + 1), SCRATCH_FOR(c->low, corners),
                         SCRATCH_FOR(c->high, corners));
    }
    if (ok) {
        c->panel[0] = 0;
        for (int at = 0; at < c->count; at++)
            c->panel[at + 1] = c->panel[at] + (c->first[at + 1] - c->first[at] + SCREEN_COLS - 1) / SCREEN_COLS;
        c->panels = c->panel[c->count];
        ok = SCRATCH_ALL(SCRATCH_FOR(c->ids, (size_t)c->panels * SCREEN_COLS), SCRATCH_FOR(c->least, c->panels));
    }
    if (ok) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int at = 0; at < c->count; at++)
            boxes_measure(d, x, c->perm + c->first[at], c->first[at + 1] - c->first[at], c->low + (size_t)at * d,
                          c->high + (size_t)at * d);
        fill_panels(c);
    }
    SCRATCH_FREE(border, later);
    if (!ok) {
        cells_free(c);
        return status_fail(STATUS_MEMORY);
    }
    return status_ok();
}

double cells_mean_side(const cells *c)
{
    double sum = 0.0;
    for (int at = 0; at < c->count; at++) {
        double side = 0.0;
        for (int u = 0; u < c->d; u++)
            side = fmax(side, c->high[(size_t)at * c->d + u] - c->low[(size_t)at * c->d + u]);
        sum += side;
    }
    return sum / c->count;
}

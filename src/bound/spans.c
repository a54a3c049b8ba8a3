#include "bound/spans.h"

#include "base/pace.h"
#include "base/scratch.h"

#define SPANS_TAIL 0.1 /* the largest tail that is wanted */

/* A panel: its points that count, and the pivoted factor of their correlations. */
typedef struct {
    int place[SCREEN_COLS], ids[SCREEN_COLS], pivot[SCREEN_ROWS];
    double factor[SCREEN_ROWS * SCREEN_COLS], left[SCREEN_COLS]; /* squared tails */
    double inverse[SCREEN_ROWS * SCREEN_ROWS];                   /* rank x rank */
    linalg_pivoted rows;
} panel_factor;

static void gather_points(const bounds *b, int panel, panel_factor *f)
{
    const int *ids = b->order->ids + (size_t)panel * SCREEN_COLS;
    int count = 0;
    for (int j = 0; j < SCREEN_COLS; j++)
        if (ids[j] >= 0 && b->special.rank[ids[j]] < 0 && b->points->gain[ids[j]] > 0.0) {
            f->place[count] = j;
            f->left[count] = 1.0;
            f->ids[count++] = ids[j];
        }
    f->rows = (linalg_pivoted){count, 0, SCREEN_COLS, f->factor, f->left, f->pivot};
}

static void factorise(const bounds *b, double ridge, panel_factor *f)
{
    double rho[SCREEN_COLS];
    while (f->rows.count && f->rows.rank < SCREEN_ROWS) {
        int pivot = linalg_pivoted_next(&f->rows);
        if (f->left[pivot] <= SPANS_TAIL * SPANS_TAIL)
            break;
        metric_list(b->kern, b->points, f->ids[pivot], b->points, f->ids, f->rows.count, rho);
        linalg_pivoted_add(&f->rows, pivot, rho, 1.0 + ridge);
    }
}

/* What M^-1 may make of errors that are in proportion to the gains of T. */
static double amplify(const bounds *b, const panel_factor *f)
{
    double column[SCREEN_ROWS] = {0.0}, most_column = 0.0, most_row = 0.0, squares = 0.0, gains = 0.0;
    int rank = f->rows.rank;
    for (int i = 0; i < rank; i++) {
        double row = 0.0, whole = 0.0;
        for (int j = 0; j < rank; j++) {
            double size = fabs(f->inverse[i * rank + j]);
            row += size;
            whole += size * b->points->gain[f->ids[f->pivot[j]]];
            column[j] += size;
            most_column = fmax(most_column, column[j]);
        }
        most_row = fmax(most_row, row);
        squares += whole * whole;
        gains += pow(b->points->gain[f->ids[f->pivot[i]]], 2.0);
    }
    return sqrt(fmin(squares, gains * most_row * most_column));
}

static void build_panel(const bounds *b, int panel, spans *s)
{
    panel_factor f;
    double most = 0.0, gather = 0.0, up = 1.0 + 1e-6;
    float *inverse = s->inverse + (size_t)panel * SCREEN_ROWS * SCREEN_ROWS;
    size_t columns = (size_t)panel * SCREEN_COLS;
    gather_points(b, panel, &f);
    int count = f.rows.count;
    for (int i = 0; i < count; i++)
        most = fmax(most, b->roundoff[f.ids[i]]);
    double ridge = SCREEN_ROWS * most * most + 1e-10;
    factorise(b, ridge, &f);
    double spread = linalg_pivoted_inverse(&f.rows, f.inverse);
    int rank = s->rank[panel] = f.rows.rank;
    for (int r = 0; r < SCREEN_ROWS; r++) {
        int known = r < rank;
        s->pivot[panel * SCREEN_ROWS + r] = known ? f.place[f.pivot[r]] : 0;
        gather += known ? pow(b->roundoff[f.ids[f.pivot[r]]], 2.0) : 0.0;
        for (int j = 0; j < SCREEN_ROWS; j++)
            inverse[r * SCREEN_ROWS + j] = known && j < rank ? (float)f.inverse[r * rank + j] : 0.0f;
    }
    s->amplify[panel] = (float)(amplify(b, &f) * up);
    s->roundoff[panel] = (float)(spread * sqrt(gather) * up);
    s->rounding[panel] = (float)(ldexp(SCREEN_ROWS + 4.0, -24) * spread * sqrt((double)SCREEN_ROWS) * up);
    for (int j = 0; j < SCREEN_COLS; j++) {
        s->cosine[columns + j] = 0.0f;
        s->sine[columns + j] = 1.0f;
    }
    for (int i = 0; i < count; i++) {
        double roundoff = b->roundoff[f.ids[i]],
               error = s->roundoff[panel] * roundoff + ldexp(1.0, -23) + ldexp(200.0, -52) * spread,
               tail2 = fmin(1.0, fmax(f.left[i], 0.0) + ridge + roundoff * roundoff + 2.0 * error);
        s->cosine[columns + f.place[i]] = (float)(sqrt(1.0 - tail2) * (1.0 - 1e-6));
        s->sine[columns + f.place[i]] = (float)fmin(1.0, sqrt(tail2) * up);
    }
}

status spans_build(const bounds *b, int threads, const monitor *mon, spans *s)
{
    size_t panels = b->order->panels, rows = panels * SCREEN_ROWS, columns = panels * SCREEN_COLS;
    if (!SCRATCH_ALL(SCRATCH_FOR(s->rank, panels), SCRATCH_FOR(s->pivot, rows),
                     SCRATCH_FOR(s->inverse, rows * SCREEN_ROWS), SCRATCH_FOR(s->amplify, panels),
                     SCRATCH_FOR(s->roundoff, panels), SCRATCH_FOR(s->rounding, panels),
                     SCRATCH_FOR(s->cosine, columns), SCRATCH_FOR(s->sine, columns)))
        return status_fail(STATUS_MEMORY);
    pace slice = pace_over(mon, panels, 8 * (size_t)threads);
    while (pace_next(&slice)) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 8)
        for (int p = (int)slice.first; p < (int)slice.last; p++)
            build_panel(b, p, s);
    }
    return pace_end(&slice);
}

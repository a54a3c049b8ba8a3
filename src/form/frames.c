#include "form/frames.h"

#include "base/pace.h"
#include "base/scratch.h"

void frames_fields(frames *f, const cells *order, field_visitor *walk)
{
    size_t columns = (size_t)order->panels * SCREEN_COLS, count = order->count, d = order->d;
    f->d = order->d;
    walk->visit(walk, "frame.pieces", &f->pieces, sizeof(radial_pieces));
    walk->visit(walk, "frame.centre", &f->centre, count * d * sizeof(double));
    walk->visit(walk, "frame.slack", &f->slack, count * sizeof(float));
    walk->visit(walk, "frame.x", &f->x, columns * d * sizeof(float));
    walk->visit(walk, "frame.kernel_gain", &f->kernel_gain, columns * sizeof(float));
}

static void set_centre(frames *f, const kernel *kern, const cells *order, int c)
{
    double far = 0.0;
    for (int u = 0; u < f->d; u++) { /* the middle of the box */
        double low = order->low[(size_t)c * f->d + u], high = order->high[(size_t)c * f->d + u];
        f->centre[(size_t)c * f->d + u] = 0.5 * (low + high);
        far += 0.25 * (high - low) * (high - low);
    }
    double slack = ldexp(1.0, -23) * (40.0 + f->d + 2.0 * sqrt(far)) + f->pieces->error;
    if (kernel_radial(kern).kind == RADIAL_FUNCTION) { /* steepest at 0, where rounding may cost more than |ds| */
        double step = ldexp(1.0, -23) * (1.0 + sqrt(far));
        slack += 1.0 - kernel_value(kern, step * step) / kern->variance;
    }
    f->slack[c] = (float)slack;
}

static void set_points(frames *f, const kernel *kern, const metric_points *points, const cells *order,
                       const specials *special, int c)
{
    int d = f->d;
    double deviation = sqrt(kern->variance);
    for (size_t column = (size_t)order->panel[c] * SCREEN_COLS; column < (size_t)order->panel[c + 1] * SCREEN_COLS;
         column++) {
        float *x = f->x + column / SCREEN_COLS * d * SCREEN_COLS + column % SCREEN_COLS;
        int id = order->ids[column], counts = id >= 0 && special->rank[id] < 0;
        f->kernel_gain[column] = counts ? (float)(deviation * points->gain[id]) : 0.0f;
        for (int u = 0; u < d; u++)
            x[u * SCREEN_COLS] = id < 0 ? 0.0f : (float)(points->x[(size_t)id * d + u] - f->centre[(size_t)c * d + u]);
    }
}

status frames_build(const kernel *kern, const metric_points *points, const cells *order, const specials *special,
                    int threads, const monitor *mon, frames *f)
{
    size_t columns = (size_t)order->panels * SCREEN_COLS, count = order->count;
    f->d = points->d;
    if (!SCRATCH_ALL(SCRATCH_FOR(f->pieces, 1), SCRATCH_FOR(f->centre, count * f->d), SCRATCH_FOR(f->slack, count),
                     SCRATCH_FOR(f->x, columns * f->d), SCRATCH_FOR(f->kernel_gain, columns)))
        return status_fail(STATUS_MEMORY);
    kernel_pieces(kern, f->pieces);
    pace slice = pace_over(mon, count, 4 * (size_t)threads);
    while (pace_next(&slice)) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
        for (int c = (int)slice.first; c < (int)slice.last; c++) {
            set_centre(f, kern, order, c);
            set_points(f, kern, points, order, special, c);
        }
    }
    return pace_end(&slice);
}

#include "form/sample.h"

#include "base/kbest.h"
#include "base/scratch.h"

void sample_free(sample *part) { SCRATCH_FREE(part->ids, part->rho, part->best, part->best_id); }

status sample_new(const metric_source *source, const metric_points *points, size_t most, sample *out)
{
    size_t n = points->n;
    out->count = 0;
    if (!SCRATCH_ALL(SCRATCH_FOR(out->ids, most + 1), SCRATCH_FOR(out->rho, most + 1), SCRATCH_FOR(out->best, most + 1),
                     SCRATCH_FOR(out->best_id, most + 1)))
        return status_fail(STATUS_MEMORY);
    for (size_t i = 0; i < n; i += n / most + 1)
        if (points->gain[i] > 0.0 && specials_input(source, points, i) < 0)
            out->ids[out->count++] = (int)i;
    return status_ok();
}

double sample_threshold(const kernel *kern, const metric_points *points, int own, int rank, sample *part)
{
    kbest largest = {rank, 0, part->best, part->best_id, 0};
    metric_list(kern, points, part->ids[own], points, part->ids, part->count, part->rho);
    part->rho[own] = 0.0;
    for (int c = 0; c < part->count; c++) {
        part->rho[c] = fabs(part->rho[c]);
        kbest_push(&largest, -part->rho[c], c);
    }
    return -part->best[0];
}

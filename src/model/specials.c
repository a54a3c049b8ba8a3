#include "model/specials.h"

#include "base/scratch.h"

#include <string.h>

#define TINY_VARIANCE 1e-3 /* of s2: above it cancellation costs nothing */

void specials_free(specials *s)
{
    SCRATCH_FREE(s->inputs, s->rank);
    memset(s, 0, sizeof(*s));
}

/* The inducing inputs by their first coordinate. */
static void order_inputs(const metric_source *source, int d, int m, int *order)
{
    for (int u = 0; u < m; u++) {
        int at = u;
        for (; at > 0 && source->z[(size_t)order[at - 1] * d] > source->z[(size_t)u * d]; at--)
            order[at] = order[at - 1];
        order[at] = u;
    }
}

/* The inducing input at x, or -1. */
static int input_at(const metric_source *source, int d, int m, const int *order, const double *x)
{
    const double *z = source->z;
    int first = 0, last = m;
    while (first < last) {
        int middle = (first + last) / 2;
        if (z[(size_t)order[middle] * d] < x[0])
            first = middle + 1;
        else
            last = middle;
    }
    for (; first < m && z[(size_t)order[first] * d] == x[0]; first++)
        if (memcmp(x, z + (size_t)order[first] * d, d * sizeof(double)) == 0)
            return order[first];
    return -1;
}

int specials_input(const metric_source *source, const metric_points *points, size_t i)
{
    int d = points->d;
    if (!source->L || points->variance[i] > TINY_VARIANCE * source->kern->variance)
        return -1;
    for (int u = 0; u < points->m; u++)
        if (memcmp(points->x + i * d, source->z + (size_t)u * d, d * sizeof(double)) == 0)
            return u;
    return -1;
}

status specials_find(const metric_source *source, const metric_points *points, specials *s)
{
    size_t n = points->n, most = 0;
    int m = points->m, d = points->d;
    double tiny = TINY_VARIANCE * source->kern->variance;
    memset(s, 0, sizeof(*s));
    for (size_t i = 0; i < n && source->L; i++)
        most += points->variance[i] <= tiny;
    int *order;
    if (!SCRATCH_ALL(SCRATCH_FOR(s->inputs, most), SCRATCH_FOR(s->rank, n), SCRATCH_FOR(order, m)))
        return status_fail(STATUS_MEMORY);
    memset(s->rank, 0xff, n * sizeof(int));
    if (most)
        order_inputs(source, d, m, order);
    for (size_t i = 0; i < n && most; i++) {
        int input = points->variance[i] <= tiny ? input_at(source, d, m, order, points->x + i * d) : -1;
        if (input >= 0) {
            s->rank[i] = s->count;
            s->inputs[s->count++] = input;
        }
    }
    scratch_free(order);
    return status_ok();
}

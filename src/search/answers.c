#include "search/answers.h"

#include "base/scratch.h"

#include <string.h>

#define PART 8        /* columns: a row of a part is as long as a line of a cache */
#define FETCH_AHEAD 6 /* rows, which stand anywhere */

/* Parts of the distances: as even as can be, the wider ones first. */
static void cut_dist(int k, double *dist, answers *a)
{
    int width = k / a->dist_parts, wider = k % a->dist_parts;
    double *rows = a->first;
    for (int p = 0, from = 0; p < a->dist_parts; from += a->dist[p++].width) {
        double *to = dist + from * a->count;
        a->dist[p] = (answers_part){from, width + (p < wider), to, rows};
        rows = to;
    }
}

/* Parts of the ids: two are as long as a distance. */
static void cut_id(int k, int *id, answers *a)
{
    const answers_part *last = &a->dist[a->dist_parts - 1];
    int *rows = last->to;
    for (int from = 0; from < k; from += 2 * last->width) {
        int *to = id + from * a->count, width = k - from;
        a->id[a->id_parts++] = (answers_part){from, width < 2 * last->width ? width : 2 * last->width, to, rows};
        rows = to;
    }
}

status answers_new(size_t count, int k, int *id, double *dist, answers *out)
{
    int parts = (k + PART - 1) / PART;
    *out = (answers){.count = count, .dist_parts = parts};
    if (!SCRATCH_ALL(SCRATCH_FOR(out->dist, parts), SCRATCH_FOR(out->id, k),
                     SCRATCH_FOR(out->first, count * ((k + parts - 1) / parts)), SCRATCH_FOR(out->place, count)))
        return status_fail(STATUS_MEMORY);
    cut_dist(k, dist, out);
    cut_id(k, id, out);
    memset(out->place, 0xff, count * sizeof(int));
    return status_ok();
}

void answers_free(answers *a) { SCRATCH_FREE(a->dist, a->id, a->first, a->place); }

void answers_give(answers *a, size_t q, const int *id, const double *dist)
{
    int *place = &a->place[q];
    if (*place < 0)
        *place = __atomic_fetch_add(&a->given, 1, __ATOMIC_RELAXED);
    size_t row = *place;
    for (const answers_part *p = a->dist; p < a->dist + a->dist_parts; p++)
        memcpy((double *)p->rows + row * p->width, dist + p->from, p->width * sizeof(double));
    for (const answers_part *p = a->id; p < a->id + a->id_parts; p++)
        memcpy((int *)p->rows + row * p->width, id + p->from, p->width * sizeof(int));
}

static void fetch(const void *memory, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += 64)
        __builtin_prefetch((const char *)memory + at);
}

void answers_settle(answers *a, int threads)
{
    size_t count = a->count;
    const int *place = a->place;
    for (const answers_part *p = a->id + a->id_parts; p-- > a->id;) {
        const int *rows = p->rows;
        int *to = p->to, width = p->width;
#pragma omp parallel for num_threads(threads) schedule(static) if (count > 1000)
        for (size_t q = 0; q < count; q++) {
            const int *row = rows + (size_t)place[q] * width;
            if (q + FETCH_AHEAD < count)
                fetch(rows + (size_t)place[q + FETCH_AHEAD] * width, width * sizeof(int));
            for (int j = 0; j < width; j++)
                to[q + j * count] = row[j];
        }
    }
    for (const answers_part *p = a->dist + a->dist_parts; p-- > a->dist;) {
        const double *rows = p->rows;
        double *to = p->to;
        int width = p->width;
#pragma omp parallel for num_threads(threads) schedule(static) if (count > 1000)
        for (size_t q = 0; q < count; q++) {
            const double *row = rows + (size_t)place[q] * width;
            if (q + FETCH_AHEAD < count)
                fetch(rows + (size_t)place[q + FETCH_AHEAD] * width, width * sizeof(double));
            for (int j = 0; j < width; j++)
                to[q + j * count] = row[j];
        }
    }
}

#include "search/answers.h"

#include "base/scratch.h"

#include <string.h>

#define LINE 64       /* bytes: a row of a part is as long as a line of a cache */
#define FETCH_AHEAD 6 /* rows, which stand anywhere */

static int ratio_up(size_t a, size_t b) { return (int)((a + b - 1) / b); }

/* Parts of k columns of `size` bytes a number, as even as can be, the wider ones first. The rows of the first wait at
 * `rows`, those of the others where the part before will be; returned is where the last will be. */
static void *cut(int parts, int k, size_t column, size_t size, char *to, void *rows, answers_part *out)
{
    for (int p = 0, from = 0; p < parts; from += out[p++].width) {
        out[p] = (answers_part){from, k / parts + (p < k % parts), to + from * column * size, rows};
        rows = out[p].to;
    }
    return rows;
}

status answers_new(size_t count, int k, int *id, double *dist, answers *out)
{
    size_t size = dist ? sizeof(double) : sizeof(int);
    int parts = ratio_up(k * size, LINE), wide = ratio_up(k, parts);
    *out = (answers){.count = count, .dist_parts = dist ? parts : 0, .id_parts = parts};
    if (dist) /* two ids are as long as a distance */
        out->id_parts = ratio_up(k, 2 * (k / parts));
    if (!SCRATCH_ALL(SCRATCH_FOR(out->dist, out->dist_parts), SCRATCH_FOR(out->id, out->id_parts),
                     SCRATCH_FOR(out->first, count * wide * size), SCRATCH_FOR(out->place, count)))
        return status_fail(STATUS_MEMORY);
    void *rows = cut(out->dist_parts, k, count, sizeof(double), (char *)dist, out->first, out->dist);
    cut(out->id_parts, k, count, sizeof(int), (char *)id, rows, out->id);
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
                scratch_fetch(rows + (size_t)place[q + FETCH_AHEAD] * width, width * sizeof(int));
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
                scratch_fetch(rows + (size_t)place[q + FETCH_AHEAD] * width, width * sizeof(double));
            for (int j = 0; j < width; j++)
                to[q + j * count] = row[j];
        }
    }
}

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
        out[p] = (answers_part){from, k / parts + (p < k % parts), size, to + from * column * size, rows};
        rows = out[p].to;
    }
    return rows;
}

status answers_new(size_t count, int k, int *id, double *dist, answers *out)
{
    size_t size = dist ? sizeof(double) : sizeof(int);
    int parts = ratio_up(k * size, LINE), wide = ratio_up(k, parts);
    int id_parts = dist ? ratio_up(k, 2 * (k / parts)) : parts; /* two ids are as long as a distance */
    *out = (answers){.count = count, .dist_parts = dist ? parts : 0};
    out->parts = out->dist_parts + id_parts;
    if (!SCRATCH_ALL(SCRATCH_FOR(out->part, out->parts), SCRATCH_FOR(out->first, count * wide * size),
                     SCRATCH_FOR(out->row_of, count)))
        return status_fail(STATUS_MEMORY);
    void *rows = cut(out->dist_parts, k, count, sizeof(double), (char *)dist, out->first, out->part);
    cut(id_parts, k, count, sizeof(int), (char *)id, rows, out->part + out->dist_parts);
    memset(out->row_of, 0xff, count * sizeof(int));
    return status_ok();
}

void answers_free(answers *a) { SCRATCH_FREE(a->part, a->first, a->row_of); }

void answers_give(answers *a, size_t q, const int *id, const double *dist)
{
    int *own = &a->row_of[q];
    if (*own < 0)
        *own = __atomic_fetch_add(&a->given, 1, __ATOMIC_RELAXED);
    size_t row = *own;
    for (const answers_part *p = a->part; p < a->part + a->dist_parts; p++)
        memcpy((double *)p->rows + row * p->width, dist + p->from, p->width * sizeof(double));
    for (const answers_part *p = a->part + a->dist_parts; p < a->part + a->parts; p++)
        memcpy((int *)p->rows + row * p->width, id + p->from, p->width * sizeof(int));
}

void answers_settle(answers *a, int threads)
{
    size_t count = a->count;
    const int *row_of = a->row_of;
    for (const answers_part *p = a->part + a->parts; p-- > a->part;) {
        const char *rows = p->rows;
        void *to = p->to;
        int width = p->width;
        size_t size = p->size, bytes = width * size;
#pragma omp parallel for num_threads(threads) schedule(static) if (count > 1000)
        for (size_t q = 0; q < count; q++) {
            const char *row = rows + row_of[q] * bytes;
            if (q + FETCH_AHEAD < count)
                scratch_fetch(rows + row_of[q + FETCH_AHEAD] * bytes, bytes);
            for (int j = 0; j < width && size == sizeof(double); j++)
                ((double *)to)[q + j * count] = ((const double *)row)[j];
            for (int j = 0; j < width && size == sizeof(int); j++)
                ((int *)to)[q + j * count] = ((const int *)row)[j];
        }
    }
}

#include "answers.h"

#include "scratch.h"

#include <string.h>

#define PART 8        /* columns: a row of a part is as long as a line of a cache */
#define FETCH_AHEAD 6 /* rows, which stand anywhere */

/* Columns `from` to `from` + `width` - 1 of the distances, or of the ids. */
typedef struct {
    int from, width;
} part;

static part part_of_dist(const answers *a, int number)
{
    int width = a->k / a->parts, wider = number < a->wide ? number : a->wide;
    return (part){number * width + wider, width + (number < a->wide)};
}

/* Two ids are as long as a distance. */
static part part_of_id(const answers *a, int number)
{
    int width = 2 * (a->k / a->parts), from = number * width, left = a->k - from;
    return (part){from, left < width ? left : width};
}

static int parts_of_id(const answers *a)
{
    int width = 2 * (a->k / a->parts);
    return (a->k + width - 1) / width;
}

/* Where the rows of a part wait. */
static double *rows_of_dist(const answers *a, int number)
{
    return number ? a->dist + part_of_dist(a, number - 1).from * a->count : a->first;
}

static int *rows_of_id(const answers *a, int number)
{
    return number ? a->id + part_of_id(a, number - 1).from * a->count
                  : (int *)(a->dist + part_of_dist(a, a->parts - 1).from * a->count);
}

status answers_new(size_t count, int k, int *id, double *dist, answers *out)
{
    int parts = (k + PART - 1) / PART;
    *out = (answers){count, k, parts, k % parts, id, dist, NULL, NULL, 0};
    out->first = scratch_alloc(count * part_of_dist(out, 0).width + 1, sizeof(double));
    out->place = scratch_alloc(count + 1, sizeof(int));
    if (!out->first || !out->place)
        return status_fail(STATUS_MEMORY);
    memset(out->place, 0xff, count * sizeof(int));
    return status_ok();
}

void answers_free(answers *a)
{
    scratch_free(a->first);
    scratch_free(a->place);
}

void answers_give(answers *a, size_t q, const kbest *best)
{
    int *place = &a->place[q];
    if (*place < 0)
        *place = __atomic_fetch_add(&a->given, 1, __ATOMIC_RELAXED);
    size_t at = *place;
    for (int number = 0; number < a->parts; number++) {
        part p = part_of_dist(a, number);
        double *row = rows_of_dist(a, number) + at * p.width;
        for (int j = 0; j < p.width; j++)
            row[j] = p.from + j < best->size ? best->dist[p.from + j] : 0.0;
    }
    for (int number = 0; number < parts_of_id(a); number++) {
        part p = part_of_id(a, number);
        int *row = rows_of_id(a, number) + at * p.width;
        for (int j = 0; j < p.width; j++)
            row[j] = p.from + j < best->size ? best->id[p.from + j] + 1 : 0;
    }
}

static void fetch(const void *memory, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += 64)
        __builtin_prefetch((const char *)memory + at);
}

void answers_settle(answers *a, int threads)
{
    size_t count = a->count;
    for (int number = parts_of_id(a); number-- > 0;) {
        part p = part_of_id(a, number);
        const int *rows = rows_of_id(a, number);
        int *to = a->id + p.from * count;
#pragma omp parallel for num_threads(threads) schedule(static) if (count > 1000)
        for (size_t q = 0; q < count; q++) {
            const int *row = rows + (size_t)a->place[q] * p.width;
            if (q + FETCH_AHEAD < count)
                fetch(rows + (size_t)a->place[q + FETCH_AHEAD] * p.width, p.width * sizeof(int));
            for (int j = 0; j < p.width; j++)
                to[q + j * count] = row[j];
        }
    }
    for (int number = a->parts; number-- > 0;) {
        part p = part_of_dist(a, number);
        const double *rows = rows_of_dist(a, number);
        double *to = a->dist + p.from * count;
#pragma omp parallel for num_threads(threads) schedule(static) if (count > 1000)
        for (size_t q = 0; q < count; q++) {
            const double *row = rows + (size_t)a->place[q] * p.width;
            if (q + FETCH_AHEAD < count)
                fetch(rows + (size_t)a->place[q + FETCH_AHEAD] * p.width, p.width * sizeof(double));
            for (int j = 0; j < p.width; j++)
                to[q + j * count] = row[j];
        }
    }
}

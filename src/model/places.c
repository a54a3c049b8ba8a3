#include "model/places.h"

#include "base/scratch.h"

#include <stdint.h>
#include <string.h>

#define LIKELY_PAIRS 8 /* of copies, on a sample that has 32 where every point has one */

#define HASH_START 0x9e3779b97f4a7c15

static uint64_t hash_add(uint64_t hash, size_t count, const double *values)
{
    for (size_t u = 0; u < count; u++) {
        uint64_t bits;
        memcpy(&bits, &values[u], sizeof(bits));
        hash = (hash ^ bits ^ (hash >> 29)) * 0xbf58476d1ce4e5b9;
    }
    return hash ^ (hash >> 32);
}

/* Features are most often those of the coordinates: a few numbers tell others apart. */
static uint64_t hash_point(const metric_points *points, size_t i)
{
    size_t m = points->m;
    uint64_t hash = hash_add(HASH_START, points->d, points->x + i * points->d);
    if (points->v)
        hash = hash_add(hash, 1, points->variance + i);
    if (points->v && m)
        hash = hash_add(hash_add(hash, 1, points->v + i * m), 1, points->v + i * m + m / 2);
    return hash;
}

/* Numbers by what they stand for, in the order of their arrival: open addressing, -1 for none. */
typedef struct {
    uint64_t mask;
    int *number;
} table;

static int table_new(size_t entries, table *t)
{
    uint64_t size = 16;
    while (size < 2 * entries)
        size *= 2;
    t->mask = size - 1;
    t->number = scratch_alloc(size, sizeof(int));
    if (t->number)
        memset(t->number, 0xff, size * sizeof(int));
    return t->number != NULL;
}

status places_likely(size_t n, int d, const double *x, int *likely)
{
    size_t tried = (size_t)(8.0 * sqrt((double)n)) + 64, pairs = 0;
    tried = tried < n ? tried : n;
    table t;
    *likely = 0;
    if (!table_new(tried, &t))
        return status_fail(STATUS_MEMORY);
    uint64_t draw = 0; /* spread over all, without a period that the points may have too */
    for (size_t i = 0; i < tried && pairs < LIKELY_PAIRS; i++) {
        draw += 0x9e3779b97f4a7c15;
        uint64_t mixed = (draw ^ (draw >> 30)) * 0xbf58476d1ce4e5b9;
        size_t id = tried == n ? i : (mixed ^ (mixed >> 31)) % n;
        const double *own = x + id * d;
        for (uint64_t at = hash_add(HASH_START, d, own) & t.mask;; at = (at + 1) & t.mask) {
            if (t.number[at] < 0) {
                t.number[at] = (int)id;
                break;
            }
            if (t.number[at] == (int)id) /* drawn before */
                break;
            pairs += memcmp(own, x + (size_t)t.number[at] * d, d * sizeof(double)) == 0;
        }
    }
    scratch_free(t.number);
    *likely = pairs >= LIKELY_PAIRS;
    return status_ok();
}

static int same(const metric_points *points, size_t i, size_t j)
{
    size_t d = points->d, m = points->m;
    if (memcmp(points->x + i * d, points->x + j * d, d * sizeof(double)) != 0)
        return 0;
    return !points->v || (points->variance[i] == points->variance[j] &&
                          memcmp(points->v + i * m, points->v + j * m, m * sizeof(double)) == 0);
}

status places_find(const metric_points *points, places *p)
{
    size_t n = points->n;
    *p = (places){.n = n};
    table t = {0};
    int ok = SCRATCH_ALL(SCRATCH_FOR(p->place, n), SCRATCH_FOR(p->first, n + 2), SCRATCH_FOR(p->member, n));
    if (!ok || !table_new(n, &t)) {
        places_free(p);
        return status_fail(STATUS_MEMORY);
    }
    int *lowest = p->member; /* of each place, for now */
    for (size_t i = 0; i < n; i++) {
        uint64_t at = hash_point(points, i) & t.mask;
        while (t.number[at] >= 0 && !same(points, i, lowest[t.number[at]]))
            at = (at + 1) & t.mask;
        if (t.number[at] < 0) {
            t.number[at] = p->count;
            lowest[p->count++] = (int)i;
        }
        p->place[i] = t.number[at];
    }
    scratch_free(t.number);
    memset(p->first, 0, ((size_t)p->count + 2) * sizeof(int)); /* counted two places on, filled one place on */
    for (size_t i = 0; i < n; i++)
        p->first[p->place[i] + 2]++;
    for (int c = 1; c < p->count; c++)
        p->first[c + 1] += p->first[c];
    for (size_t i = 0; i < n; i++)
        p->member[p->first[p->place[i] + 1]++] = (int)i;
    return status_ok();
}

void places_free(places *p)
{
    SCRATCH_FREE(p->place, p->first, p->member);
    memset(p, 0, sizeof(*p));
}

double places_crowding(const places *p)
{
    double sum = 0.0;
    for (int c = 0; c < p->count; c++)
        sum += (double)(p->first[c + 1] - p->first[c]) * (p->first[c + 1] - p->first[c]);
    return sum / (double)p->n;
}

int places_before(const places *p, size_t i)
{
    int low = 0, high = p->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        if ((size_t)p->member[p->first[middle]] < i)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

double *places_points(const places *p, const metric_points *points, int threads, metric_points *out)
{
    size_t count = p->count, d = points->d, m = points->m;
    double *x = scratch_alloc(count * (d + m + 2) + 1, sizeof(double)), *v = x + count * d, *variance = v + count * m,
           *gain = variance + count;
    if (!x)
        return NULL;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (size_t c = 0; c < count; c++) {
        size_t i = p->member[p->first[c]];
        memcpy(x + c * d, points->x + i * d, d * sizeof(double));
        memcpy(v + c * m, points->v + i * m, m * sizeof(double));
        variance[c] = points->variance[i];
        gain[c] = points->gain[i];
    }
    *out = (metric_points){count, points->d, points->m, x, v, variance, gain};
    return x;
}

/* The first point of a place is not before the place's number, so nothing is overwritten that is still to move. */
void places_gather(const places *p, size_t width, double *values)
{
    for (int c = 0; c < p->count; c++) {
        size_t from = p->member[p->first[c]];
        if (from != (size_t)c)
            memcpy(values + c * width, values + from * width, width * sizeof(double));
    }
}

void places_spread(const places *p, size_t width, double *values)
{
    for (int c = p->count; c-- > 0;)
        for (int i = p->first[c + 1]; i-- > p->first[c];)
            if (p->member[i] != c)
                memcpy(values + p->member[i] * width, values + c * width, width * sizeof(double));
}

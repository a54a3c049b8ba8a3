/* Coverage-guided fuzzing of the reader of packed indices (src/search/index.h), for libFuzzer; tools/fuzz_index.R compiles and
 * runs it.
 *
 * An input is a list of edits: its first byte picks one of three indices, the second what to do, and each six bytes after
 * them a place and a byte. The edited index stands in memory of exactly its length, so that AddressSanitizer sees each
 * byte that is read beyond it. What must hold:
 *  - a checksum sees every edit;
 *  - opening reads nothing but the memory, whatever is in it, sealed again or not, and an index that it takes lies in it;
 *  - an index without edits gives the neighbours that brute force gives. */
#include "model/inducing.h"
#include "search/query.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POINTS 1500
#define INDUCING 12
#define PRINT 12345
#define NEIGHBOURS 4

typedef struct {
    kernel kern;
    metric_source source;
    metric_points points;
    const screening_form *form;
    void *packed;
    size_t bytes;
} problem;

static problem problems[3];

static void fail(const char *what)
{
    fprintf(stderr, "%s\n", what);
    abort();
}

static void make(problem *p, const char *family, double lengthscale, int d, const screening_form *form)
{
    double *raw = calloc((size_t)POINTS * d, sizeof(double)), *x = calloc((size_t)POINTS * d, sizeof(double));
    double scale[8], centre[8] = {0.0};
    uint32_t draw = 1;
    for (int i = 0; i < POINTS * d; i++) {
        draw = draw * 1664525u + 1013904223u;
        raw[i] = draw / 4294967296.0;
    }
    for (int u = 0; u < d; u++)
        scale[u] = lengthscale;
    if (!kernel_make(family, 1.0, 0.0, &p->kern))
        fail("no such kernel");
    kernel_scale(&p->kern, raw, POINTS, d, scale, centre, x);
    double *L = calloc(INDUCING * INDUCING, sizeof(double)), *V = calloc(POINTS * INDUCING, sizeof(double)),
           *variance = calloc(2 * POINTS, sizeof(double));
    if (inducing_factor(&p->kern, d, INDUCING, x, 1e-6, NULL, L).code ||
        inducing_features(&p->kern, d, INDUCING, x, L, POINTS, x, 1, NULL, V, variance).code)
        fail("no features");
    metric_variances(&p->kern, POINTS, variance, 0.0, variance, variance + POINTS);
    p->source = (metric_source){&p->kern, x, L, 1e-6};
    p->points = (metric_points){POINTS, d, INDUCING, x, V, variance, variance + POINTS};
    index_search built;
    if (index_build(&p->source, &p->points, form, 1, NULL, &built).code || built.form != form)
        fail("no index");
    p->form = form;
    p->bytes = index_packed_bytes(&built);
    p->packed = malloc(p->bytes);
    index_packed_write(&built, PRINT, p->packed);
    index_free(&built);
    free(raw);
}

static void search(const problem *p, const char *method, index_pack kept, int *id, double *dist)
{
    int rows[] = {3, 700, 701, 1499};
    answers given;
    query_result result = {.given = &given, .note = ""};
    query_task task = {.kern = &p->kern,
                       .points = &p->points,
                       .from = &p->points,
                       .count = 4,
                       .rows = rows,
                       .self = 1,
                       .k = NEIGHBOURS,
                       .threads = 1,
                       .budget = INFINITY,
                       .source = &p->source,
                       .kept = kept};
    if (answers_new(4, NEIGHBOURS, id, dist, &given).code || query_run(method, &task, &result).code)
        fail("no memory");
    answers_settle(&given, 1);
    answers_free(&given);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    simd_init(getenv("VECCHIANN_SIMD"));
    make(&problems[0], "matern52", 0.3, 2, &form_landmarks);
    make(&problems[1], "matern32", 0.5, 5, &form_integers);
    make(&problems[2], "matern12", 0.05, 2, &form_expansions);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const problem *p = &problems[data[0] % 3];
    int cut = data[1] & 1, seal = data[1] & 2, changed = 0;
    size_t bytes = p->bytes;
    if (cut && size >= 5)
        bytes = ((size_t)data[2] | (size_t)data[3] << 8 | (size_t)data[4] << 16) % (p->bytes + 1);
    unsigned char *memory = NULL;
    if (posix_memalign((void **)&memory, 16, bytes ? bytes : 1))
        fail("no memory");
    memcpy(memory, p->packed, bytes);
    for (size_t at = cut ? 5 : 2; at + 4 < size; at += 5) { /* most edits meet the header */
        size_t place = (size_t)data[at] | (size_t)data[at + 1] << 8 | (size_t)data[at + 2] << 16;
        place = data[at + 3] & 1 ? place : place % 192;
        if (place < bytes) {
            memory[place] ^= data[at + 4];
        }
    }
    changed = bytes != p->bytes || memcmp(memory, p->packed, bytes) != 0;
    index_pack kept = {memory, bytes, PRINT};
    uint64_t magic = 0, own;
    memcpy(&own, p->packed, sizeof(own));
    memcpy(&magic, memory, bytes < sizeof(magic) ? bytes : sizeof(magic));
    if (index_sound(kept) && changed && magic == own && bytes >= sizeof(magic))
        fail("an edit that the checksum does not see");
    if (seal && bytes >= 256)
        index_seal(memory, bytes);
    metric_points points = p->points;
    index_points(kept, &points);
    index_search opened;
    if (index_open(&p->source, &p->points, kept, &opened).code)
        fail("no memory");
    if (opened.opened) {
        volatile char last = ((char *)memory)[bytes - 1];
        (void)last;
        index_free(&opened);
    }
    static int searched[3];
    if (!changed && !searched[data[0] % 3]++) {
        int id[4 * NEIGHBOURS], own_id[4 * NEIGHBOURS];
        double dist[4 * NEIGHBOURS], own_dist[4 * NEIGHBOURS];
        search(p, "level", kept, id, dist);
        search(p, "brute", (index_pack){0}, own_id, own_dist);
        if (memcmp(id, own_id, sizeof(id)) != 0 || memcmp(dist, own_dist, sizeof(dist)) != 0)
            fail("other neighbours");
    }
    free(memory);
    return 0;
}

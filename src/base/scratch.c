#include "base/scratch.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#define SCRATCH_LARGE ((size_t)3 << 20)
#define SCRATCH_PAGE ((size_t)2 << 20)

/* What stands before an aligned buffer: at least 65 bytes lie between it and what malloc gave. */
typedef struct {
    void *base;
    size_t bytes;
} scratch_origin;

static size_t asked = 0, live = 0, failing = 0; /* `failing`: the number of the one that fails, 0 for none */

size_t scratch_count(void) { return __atomic_load_n(&asked, __ATOMIC_RELAXED); }
size_t scratch_live(void) { return __atomic_load_n(&live, __ATOMIC_RELAXED); }
void scratch_fail(size_t nth) { failing = nth ? scratch_count() + nth : 0; }

void scratch_advise(void *memory, size_t bytes)
{
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (bytes >= SCRATCH_LARGE) {
        uintptr_t page = ((uintptr_t)memory + SCRATCH_PAGE - 1) / SCRATCH_PAGE * SCRATCH_PAGE;
        uintptr_t end = ((uintptr_t)memory + bytes) / SCRATCH_PAGE * SCRATCH_PAGE;
        if (end > page)
            madvise((void *)page, end - page, MADV_HUGEPAGE); /* advice: whether it is taken is no matter */
    }
#else
    (void)memory;
    (void)bytes;
#endif
}

static void *take(size_t count, size_t size, int clear)
{
    size_t number = __atomic_add_fetch(&asked, 1, __ATOMIC_RELAXED);
    if (number == failing || (size && count > (PTRDIFF_MAX - 2 * SCRATCH_ALIGN) / size))
        return NULL;
    size_t bytes = count * size, room = bytes + 2 * SCRATCH_ALIGN;
    char *base = clear ? calloc(room, 1) : malloc(room);
    if (!base)
        return NULL;
    __atomic_fetch_add(&live, 1, __ATOMIC_RELAXED);
    char *aligned = base + SCRATCH_ALIGN + (SCRATCH_ALIGN - (uintptr_t)base % SCRATCH_ALIGN);
    ((scratch_origin *)(void *)aligned)[-1] = (scratch_origin){base, bytes};
    scratch_advise(aligned, bytes);
    return aligned;
}

void *scratch_alloc(size_t count, size_t size) { return take(count, size, 0); }
void *scratch_zeros(size_t count, size_t size) { return take(count, size, 1); }

void *scratch_resize(void *aligned, size_t count, size_t size)
{
    void *more = take(count, size, 0);
    if (more && aligned) {
        size_t before = ((scratch_origin *)aligned)[-1].bytes, bytes = count * size;
        memcpy(more, aligned, before < bytes ? before : bytes);
        scratch_free(aligned);
    }
    return more;
}

void scratch_free(void *aligned)
{
    if (!aligned)
        return;
    __atomic_fetch_sub(&live, 1, __ATOMIC_RELAXED);
    free(((scratch_origin *)aligned)[-1].base);
}

int scratch_all(const scratch_request *requests, size_t number)
{
    size_t made = 0;
    for (void *buffer; made < number; made++) {
        buffer = scratch_alloc(requests[made].count, requests[made].size);
        memcpy(requests[made].pointer, &buffer, sizeof(buffer)); /* of any type */
        if (!buffer)
            break;
    }
    for (size_t i = 0; i < number && made < number; i++) {
        void *buffer, *none = NULL;
        memcpy(&buffer, requests[i].pointer, sizeof(buffer));
        scratch_free(i < made ? buffer : NULL);
        memcpy(requests[i].pointer, &none, sizeof(none));
    }
    return made == number;
}

/* Room for a buffer, so that large ones do not start at the same place of a page. */
static size_t room_of(size_t bytes) { return (bytes / SCRATCH_ALIGN + 2) * SCRATCH_ALIGN; }

void *scratch_whole(const void *own, size_t size, const scratch_request *requests, size_t number)
{
    size_t bytes = room_of(size);
    for (size_t i = 0; i < number; i++) {
        if (requests[i].count > (PTRDIFF_MAX / 2 - bytes) / (requests[i].size + 1))
            return NULL;
        bytes += room_of(requests[i].count * requests[i].size);
    }
    char *memory = scratch_alloc(bytes, 1);
    if (!memory)
        return NULL;
    char *next = memory + room_of(size);
    for (size_t i = 0; i < number; next += room_of(requests[i].count * requests[i].size), i++)
        memcpy(requests[i].pointer, &next, sizeof(next));
    return memcpy(memory, own, size);
}

void scratch_free_all(void *const *aligned, size_t number)
{
    for (size_t i = 0; i < number; i++)
        scratch_free(aligned[i]);
}

#define POOL_MOST 256
#define POOL_WASTE 3 /* a buffer is at most so many times as large as what it is taken for */

struct scratch_pool {
    int count;
    struct {
        void *buffer;
        size_t bytes;
        int used;
    } kept[POOL_MOST];
};

scratch_pool *scratch_pool_new(void) { return scratch_zeros(1, sizeof(scratch_pool)); }

void scratch_pool_free(scratch_pool *pool)
{
    for (int i = 0; pool && i < pool->count; i++)
        scratch_free(pool->kept[i].buffer);
    scratch_free(pool);
}

void *scratch_take(scratch_pool *pool, size_t count, size_t size)
{
    if (!pool || (size && count > PTRDIFF_MAX / size))
        return scratch_alloc(count, size);
    size_t bytes = count * size;
    int best = -1;
    for (int i = 0; i < pool->count; i++)
        if (!pool->kept[i].used && pool->kept[i].bytes >= bytes &&
            (best < 0 || pool->kept[i].bytes < pool->kept[best].bytes))
            best = i;
    if (best >= 0 && pool->kept[best].bytes / POOL_WASTE <= bytes) {
        pool->kept[best].used = 1;
        return pool->kept[best].buffer;
    }
    for (int i = 0; i < pool->count; i++) /* what is too small now is so for good: sizes grow */
        if (!pool->kept[i].used && pool->kept[i].bytes < bytes && bytes >= SCRATCH_LARGE) {
            scratch_free(pool->kept[i].buffer);
            pool->kept[i--] = pool->kept[--pool->count];
        }
    void *buffer = scratch_alloc(count, size);
    if (buffer && pool->count < POOL_MOST) {
        pool->kept[pool->count].buffer = buffer;
        pool->kept[pool->count].bytes = bytes;
        pool->kept[pool->count++].used = 1;
    }
    return buffer;
}

void scratch_give(scratch_pool *pool, void *buffer)
{
    for (int i = 0; pool && i < pool->count; i++)
        if (pool->kept[i].buffer == buffer) {
            pool->kept[i].used = 0;
            return;
        }
    scratch_free(buffer);
}

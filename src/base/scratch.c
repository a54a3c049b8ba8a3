#include "base/scratch.h"

#include <stdint.h>

#ifdef __linux__
#include <sys/mman.h>
#endif

#define SCRATCH_LARGE ((size_t)3 << 20)
#define SCRATCH_PAGE ((size_t)2 << 20)

static size_t asked = 0;

size_t scratch_count(void) { return __atomic_load_n(&asked, __ATOMIC_RELAXED); }

void scratch_advise(void *memory, size_t bytes)
{
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (bytes >= SCRATCH_LARGE) {
        uintptr_t page = ((uintptr_t)memory + SCRATCH_PAGE - 1) / SCRATCH_PAGE * SCRATCH_PAGE;
        uintptr_t end = ((uintptr_t)memory + bytes) / SCRATCH_PAGE * SCRATCH_PAGE;
        if (end > page)
            madvise((void *)page, end - page,
                    MADV_HUGEPAGE); /* advice: whether it is taken is no matter */
    }
#else
    (void)memory;
    (void)bytes;
#endif
}

void *scratch_alloc(size_t count, size_t size)
{
    __atomic_fetch_add(&asked, 1, __ATOMIC_RELAXED);
    if (size && count > (PTRDIFF_MAX - 2 * SCRATCH_ALIGN) / size)
        return NULL;
    char *base = malloc(count * size + 2 * SCRATCH_ALIGN);
    if (!base)
        return NULL;
    char *aligned = base + SCRATCH_ALIGN + (SCRATCH_ALIGN - (uintptr_t)base % SCRATCH_ALIGN);
    ((void **)aligned)[-1] = base;
    scratch_advise(aligned, count * size);
    return aligned;
}

void scratch_free(void *aligned)
{
    if (aligned)
        free(((void **)aligned)[-1]);
}

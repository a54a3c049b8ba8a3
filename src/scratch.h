/* Scratch memory: buffers aligned to cache lines, so that full-width vector loads never straddle one.
 * scratch_alloc returns NULL on failure or on overflow of count * size; scratch_free takes NULL. */
#ifndef VECCHIANN_SCRATCH_H
#define VECCHIANN_SCRATCH_H

#include <stdint.h>
#include <stdlib.h>

#define SCRATCH_ALIGN 64

static inline void *scratch_alloc(size_t count, size_t size)
{
    if (size && count > (SIZE_MAX - 2 * SCRATCH_ALIGN) / size)
        return NULL;
    char *base = malloc(count * size + 2 * SCRATCH_ALIGN);
    if (!base)
        return NULL;
    char *aligned = base + SCRATCH_ALIGN + (SCRATCH_ALIGN - (uintptr_t)base % SCRATCH_ALIGN);
    ((void **)aligned)[-1] = base;
    return aligned;
}

static inline void scratch_free(void *aligned)
{
    if (aligned)
        free(((void **)aligned)[-1]);
}

#endif

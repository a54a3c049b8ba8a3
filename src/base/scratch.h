/* Scratch memory: all that the core allocates. Buffers are aligned to cache lines, so that full-width vector
 * loads never straddle one. Large ones ask for large pages: the first touch of many small ones is dear, most
 * of all in virtual machines.
 *
 * scratch_alloc, scratch_zeros and scratch_resize return NULL on failure or on overflow of count * size. A buffer that
 * cannot be resized stays as it was; NULL may be resized, and freed. */
#ifndef VECCHIANN_SCRATCH_H
#define VECCHIANN_SCRATCH_H

#include <stddef.h>

#define SCRATCH_ALIGN 64

/* Asks for large pages for memory of any origin, before it is touched. */
void scratch_advise(void *memory, size_t bytes);

/* Asks for memory to be brought into cache before it is read. */
static inline void scratch_fetch(const void *memory, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += SCRATCH_ALIGN)
        __builtin_prefetch((const char *)memory + at);
}

void *scratch_alloc(size_t count, size_t size);
void *scratch_zeros(size_t count, size_t size);
void *scratch_resize(void *aligned, size_t count, size_t size);
void scratch_free(void *aligned);

/* Several buffers at once: all of them, or NULL in every place and 0. SCRATCH_FOR is a pointer and how many values it
 * is to hold:
 *     if (!SCRATCH_ALL(SCRATCH_FOR(s->rank, panels), SCRATCH_FOR(s->noise, n)))
 *         return status_fail(STATUS_MEMORY);
 *     ...
 *     SCRATCH_FREE(s->rank, s->noise); */
typedef struct {
    void *pointer; /* where it stands */
    size_t count, size;
} scratch_request;

int scratch_all(const scratch_request *requests, size_t number);
void *scratch_whole(const void *own, size_t size, const scratch_request *requests, size_t number);
void scratch_free_all(void *const *aligned, size_t number);

#define SCRATCH_FOR(pointer, count)                                                                                    \
    {                                                                                                                  \
        &(pointer), (count), sizeof(*(pointer))                                                                        \
    }
#define SCRATCH_ALL(...)                                                                                               \
    scratch_all((const scratch_request[]){__VA_ARGS__},                                                                \
                sizeof((scratch_request[]){__VA_ARGS__}) / sizeof(scratch_request))
/* A structure and its buffers in one piece of memory, for one scratch_free: a copy of `own`, whose pointers are set
 * before; NULL on failure. */
#define SCRATCH_WHOLE(own, ...)                                                                                        \
    scratch_whole(&(own), sizeof(own), (const scratch_request[]){__VA_ARGS__},                                         \
                  sizeof((scratch_request[]){__VA_ARGS__}) / sizeof(scratch_request))
#define SCRATCH_FREE(...) scratch_free_all((void *[]){__VA_ARGS__}, sizeof((void *[]){__VA_ARGS__}) / sizeof(void *))

/* A pool: buffers that wait to be used again, because what touches large memory for the first time waits for the system
 * to clear it. Of one caller at a time. NULL in its place is no pool: buffers come from scratch_alloc and go by
 * scratch_free. */
typedef struct scratch_pool scratch_pool;

scratch_pool *scratch_pool_new(void);
/* Frees it with its buffers, none of which may be in use. */
void scratch_pool_free(scratch_pool *pool);
/* A buffer that is not cleared, NULL on failure; give takes NULL. */
void *scratch_take(scratch_pool *pool, size_t count, size_t size);
void scratch_give(scratch_pool *pool, void *buffer);

/* For tests. How many buffers have been asked for since the library was loaded, by all threads, and how many are
 * held now; and a request for a buffer to fail, the nth from now on, or none for 0. */
size_t scratch_count(void);
size_t scratch_live(void);
void scratch_fail(size_t nth);

#endif

/* Scratch memory: buffers aligned to cache lines, so that full-width vector loads never straddle one.
 * scratch_alloc returns NULL on failure or on overflow of count * size; scratch_free takes NULL. Large
 * buffers ask for large pages: the first touch of many small ones is dear, most of all in virtual
 * machines. */
#ifndef VECCHIANN_SCRATCH_H
#define VECCHIANN_SCRATCH_H

#include <stddef.h>
#include <stdlib.h>

#define SCRATCH_ALIGN 64

/* Asks for large pages for memory of any origin, before it is touched. */
void scratch_advise(void *memory, size_t bytes);

void *scratch_alloc(size_t count, size_t size);
void scratch_free(void *aligned);

/* A pool: buffers that wait to be used again, because what touches large memory for the first time waits for the system to
 * clear it. Of one caller at a time. NULL in its place is no pool: buffers come from scratch_alloc and go by scratch_free. */
typedef struct scratch_pool scratch_pool;

scratch_pool *scratch_pool_new(void);
/* Frees it with its buffers, none of which may be in use. */
void scratch_pool_free(scratch_pool *pool);
/* A buffer that is not cleared, NULL on failure; give takes NULL. */
void *scratch_take(scratch_pool *pool, size_t count, size_t size);
void scratch_give(scratch_pool *pool, void *buffer);

/* How many buffers have been asked for since the library was loaded, by all threads: for the test that
 * searches allocate nothing for a query, a block or a point. */
size_t scratch_count(void);

#endif

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

/* How many buffers have been asked for since the library was loaded, by all threads: for the test that
 * searches allocate nothing for a query, a block or a point. */
size_t scratch_count(void);

#endif

/* Status and monitor: how the C core reports to its caller.
 *
 * The core never sees a SEXP, never jumps and frees what it allocates. A function that can fail
 * returns a status, and one that can only fail for want of memory may return NULL or 0 instead, if it
 * says so; the entry layer turns a status into an R error. A search that lasts polls its monitor
 * on the main thread between parallel regions; a nonzero answer stops it with STATUS_INTERRUPTED. */
#ifndef VECCHIANN_STATUS_H
#define VECCHIANN_STATUS_H

#include <stddef.h>

typedef enum {
    STATUS_OK = 0,
    STATUS_MEMORY,                /* an allocation failed */
    STATUS_INTERRUPTED,           /* the monitor asked to stop */
    STATUS_NOT_POSITIVE_DEFINITE, /* a Cholesky pivot is not positive; `where` is its 0-based row */
} status_code;

typedef struct {
    status_code code;
    size_t where;
} status;

static inline status status_ok(void) { return (status){STATUS_OK, 0}; }
static inline status status_fail(status_code code) { return (status){code, 0}; }

/* poll(context, fraction): fraction of the work done, in [0, 1]; nonzero asks to stop. */
typedef struct {
    int (*poll)(void *context, double fraction);
    void *context;
} monitor;

static inline int monitor_poll(const monitor *mon, double fraction)
{
    return mon && mon->poll ? mon->poll(mon->context, fraction) : 0;
}

#endif

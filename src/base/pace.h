/* Pace: a loop in slices of about a tenth of a second, between which a monitor is polled.
 *
 *   pace p = pace_over(mon, n, least);
 *   while (pace_next(&p))
 *       for (size_t i = p.first; i < p.last; i++) ...        (in parallel, if it pays)
 *   result = pace_end(&p);
 *
 * Without a monitor there is one slice. What is shown of the progress is not for a pace to say: it is a part of
 * some larger work. Only the thread that R runs on may call these. */
#ifndef VECCHIANN_PACE_H
#define VECCHIANN_PACE_H

#include "base/status.h"
#include "base/threads.h"

#define PACE_SECONDS 0.1

typedef struct {
    size_t first, last; /* the slice */
    const monitor *mon;
    size_t count, least, step;
    double started;
    int stopped;
} pace;

/* `least`: the smallest slice, of far less than a tenth of a second. */
static inline pace pace_over(const monitor *mon, size_t count, size_t least)
{
    size_t step = mon && mon->poll ? least : count;
    return (pace){0, 0, mon, count, least, step, 0.0, 0};
}

static inline int pace_next(pace *p)
{
    if (p->last) {
        double spent = threads_seconds() - p->started;
        if (spent < PACE_SECONDS / 4)
            p->step *= 2;
        else if (spent > PACE_SECONDS && p->step / 2 >= p->least)
            p->step /= 2;
        p->stopped = monitor_poll(p->mon, 0.0);
    }
    p->first = p->last;
    p->last = p->count - p->first < p->step ? p->count : p->first + p->step;
    p->started = threads_seconds();
    return p->first < p->count && !p->stopped;
}

static inline status pace_end(const pace *p) { return p->stopped ? status_fail(STATUS_INTERRUPTED) : status_ok(); }

#endif

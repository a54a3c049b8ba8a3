/* Best-first search: for each query, what may hold most is opened next.
 *
 * A heap holds parts of the candidates by their bound on |rho|, the largest first, ties by distance. What is
 * taken from it is replaced by smaller parts, or by itself with a sharper bound, or evaluated; the search
 * ends when no bound left can enter the k-best. There are two engines: query_best_nodes.c over the nodes of
 * the tree, which needs nothing else and serves a finite budget, and query_best_cells.c over the cells of
 * an index. */
#ifndef VECCHIANN_QUERY_BEST_H
#define VECCHIANN_QUERY_BEST_H

/* A part by its number, which says what it is to the engine. */
typedef struct {
    double upper, away;
    int part;
} promise;

/* The memory is the engine's: room for all parts that may wait at once. */
typedef struct {
    promise *waiting;
    int size;
} promise_heap;

static inline int promise_before(const promise *a, const promise *b)
{
    if (a->upper != b->upper)
        return a->upper > b->upper;
    return a->away < b->away || (a->away == b->away && a->part < b->part);
}

static inline void promise_push(promise_heap *heap, promise item)
{
    promise *waiting = heap->waiting;
    int at = heap->size++;
    for (int parent; at > 0 && promise_before(&item, &waiting[parent = (at - 1) / 2]); at = parent)
        waiting[at] = waiting[parent];
    waiting[at] = item;
}

static inline promise promise_pop(promise_heap *heap)
{
    promise *waiting = heap->waiting, top = waiting[0], held = waiting[--heap->size];
    int at = 0;
    for (int child; (child = 2 * at + 1) < heap->size; at = child) {
        if (child + 1 < heap->size && promise_before(&waiting[child + 1], &waiting[child]))
            child++;
        if (!promise_before(&waiting[child], &held))
            break;
        waiting[at] = waiting[child];
    }
    waiting[at] = held;
    return top;
}

#endif

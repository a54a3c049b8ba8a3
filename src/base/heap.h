/* Heap: items of which the first comes out first, in an array that the caller owns.
 *
 * Order is by two keys and a number, so that it does not depend on the order of arrival. (kbest.h keeps the k smallest,
 * and gives way at the other end.) */
#ifndef VECCHIANN_HEAP_H
#define VECCHIANN_HEAP_H

typedef struct {
    double key, tie;
    int id, more; /* `more` is the caller's */
} heap_item;

static inline int heap_before(const heap_item *a, const heap_item *b)
{
    if (a->key != b->key)
        return a->key < b->key;
    return a->tie < b->tie || (a->tie == b->tie && a->id < b->id);
}

static inline void heap_push(heap_item *items, int *size, heap_item item)
{
    int at = (*size)++;
    for (int parent; at > 0 && heap_before(&item, &items[parent = (at - 1) / 2]); at = parent)
        items[at] = items[parent];
    items[at] = item;
}

static inline heap_item heap_pop(heap_item *items, int *size)
{
    heap_item top = items[0], last = items[--*size];
    int at = 0;
    for (int child; (child = 2 * at + 1) < *size; at = child) {
        if (child + 1 < *size && heap_before(&items[child + 1], &items[child]))
            child++;
        if (!heap_before(&items[child], &last))
            break;
        items[at] = items[child];
    }
    items[at] = last;
    return top;
}

#endif

/* k-best: the k smallest (distance, id) pairs, a max-heap in arrays that the caller owns.
 *
 * Order is by distance, then by lower id, so the result does not depend on the order of arrival. */
#ifndef VECCHIANN_KBEST_H
#define VECCHIANN_KBEST_H

typedef struct {
    int k, size;
    double *dist; /* k; dist[0] is the worst of a heap */
    int *id;      /* k */
    int sorted;   /* best first: no heap any more */
} kbest;

static inline int kbest_before(double da, int ia, double db, int ib) { return da < db || (da == db && ia < ib); }

static inline int kbest_full(const kbest *heap) { return heap->size == heap->k; }

/* Where the worst stands, of some. */
static inline int kbest_worst(const kbest *held) { return held->sorted ? held->size - 1 : 0; }

/* Whether a pair would enter. */
static inline int kbest_admits(const kbest *held, double dist, int id)
{
    int worst = kbest_worst(held);
    return !kbest_full(held) || kbest_before(dist, id, held->dist[worst], held->id[worst]);
}

static inline void kbest_sift(kbest *heap, int at, int size)
{
    double dist = heap->dist[at];
    int id = heap->id[at];
    for (int child; (child = 2 * at + 1) < size; at = child) {
        if (child + 1 < size &&
            kbest_before(heap->dist[child], heap->id[child], heap->dist[child + 1], heap->id[child + 1]))
            child++;
        if (!kbest_before(dist, id, heap->dist[child], heap->id[child]))
            break;
        heap->dist[at] = heap->dist[child];
        heap->id[at] = heap->id[child];
    }
    heap->dist[at] = dist;
    heap->id[at] = id;
}

/* Offers a pair; returns whether it entered. */
static inline int kbest_push(kbest *heap, double dist, int id)
{
    if (heap->size < heap->k) {
        int at = heap->size++;
        while (at > 0) {
            int parent = (at - 1) / 2;
            if (!kbest_before(heap->dist[parent], heap->id[parent], dist, id))
                break;
            heap->dist[at] = heap->dist[parent];
            heap->id[at] = heap->id[parent];
            at = parent;
        }
        heap->dist[at] = dist;
        heap->id[at] = id;
        return 1;
    }
    if (!kbest_before(dist, id, heap->dist[0], heap->id[0]))
        return 0;
    heap->dist[0] = dist;
    heap->id[0] = id;
    kbest_sift(heap, 0, heap->size);
    return 1;
}

/* Sorts in place, best first. */
static inline void kbest_sort(kbest *heap)
{
    for (int size = heap->size - 1; size > 0 && !heap->sorted; size--) {
        double dist = heap->dist[0];
        int id = heap->id[0];
        heap->dist[0] = heap->dist[size];
        heap->id[0] = heap->id[size];
        heap->dist[size] = dist;
        heap->id[size] = id;
        kbest_sift(heap, 0, size);
    }
    heap->sorted = 1;
}

/* Makes a heap again of what was sorted: falling order is one. */
static inline void kbest_unsort(kbest *heap)
{
    for (int i = 0, j = heap->size - 1; i < j && heap->sorted; i++, j--) {
        double dist = heap->dist[i];
        int id = heap->id[i];
        heap->dist[i] = heap->dist[j];
        heap->id[i] = heap->id[j];
        heap->dist[j] = dist;
        heap->id[j] = id;
    }
    heap->sorted = 0;
}

#endif

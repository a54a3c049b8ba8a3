#include "partition/boxes.h"

#include <math.h>
#include <stdlib.h>

void boxes_measure(int d, const double *x, const int *ids, size_t count, double *low, double *high)
{
    for (int u = 0; u < d; u++) {
        low[u] = INFINITY;
        high[u] = -INFINITY;
    }
    for (size_t i = 0; i < count; i++)
        for (int u = 0; u < d; u++) {
            double value = x[(size_t)ids[i] * d + u];
            low[u] = value < low[u] ? value : low[u];
            high[u] = value > high[u] ? value : high[u];
        }
}

int boxes_widest(int d, const double *x, const int *ids, size_t count, double *side)
{
    int widest = 0;
    *side = -1.0;
    for (int u = 0; u < d; u++) {
        double low = INFINITY, high = -INFINITY;
        for (size_t i = 0; i < count; i++) {
            double value = x[(size_t)ids[i] * d + u];
            low = value < low ? value : low;
            high = value > high ? value : high;
        }
        if (high - low > *side) {
            *side = high - low;
            widest = u;
        }
    }
    return widest;
}

static int before(int d, const double *x, int u, int i, int j)
{
    double a = x[(size_t)i * d + u], b = x[(size_t)j * d + u];
    return a < b || (a == b && i < j);
}

/* Hoare's selection. */
void boxes_lowest(int d, const double *x, int u, int *ids, int count, int keep)
{
    int first = 0, last = count;
    while (last - first > 1) {
        int pivot = ids[first + (last - first) / 2], i = first, j = last - 1;
        while (i <= j) {
            while (before(d, x, u, ids[i], pivot))
                i++;
            while (before(d, x, u, pivot, ids[j]))
                j--;
            if (i <= j) {
                int held = ids[i];
                ids[i++] = ids[j];
                ids[j--] = held;
            }
        }
        if (keep <= j)
            last = j + 1;
        else if (keep >= i)
            first = i;
        else
            return;
    }
}

static int ascending(const void *a, const void *b)
{
    int x = *(const int *)a, y = *(const int *)b;
    return (x > y) - (x < y);
}

void boxes_rising(int *ids, size_t count) { qsort(ids, count, sizeof(int), ascending); }

/* Bit sets of up to 64 queries: which queries of a block a node may still serve. */
#ifndef VECCHIANN_BITSET_H
#define VECCHIANN_BITSET_H

#include <stdint.h>

/* Removes the lowest member of a set that is not empty and returns it. */
static inline int bitset_pop(uint64_t *set)
{
    int member = __builtin_ctzll(*set);
    *set &= *set - 1;
    return member;
}

static inline int bitset_count(uint64_t set) { return __builtin_popcountll(set); }

#endif

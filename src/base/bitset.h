/* Bit sets: which queries of a block a cell may still serve, one 64-bit mask for each 64 queries. */
#ifndef VECCHIANN_BITSET_H
#define VECCHIANN_BITSET_H

#include <stdint.h>

#define BITSET_WORDS 8
#define BITSET_SIZE (64 * BITSET_WORDS)

typedef struct {
    uint64_t word[BITSET_WORDS];
} bitset;

static inline void bitset_add(bitset *set, int member) { set->word[member / 64] |= (uint64_t)1 << (member % 64); }

static inline void bitset_remove(bitset *set, int member) { set->word[member / 64] &= ~((uint64_t)1 << (member % 64)); }

/* Removes what is not in the other. */
static inline void bitset_keep(bitset *set, const bitset *other)
{
    for (int w = 0; w < BITSET_WORDS; w++)
        set->word[w] &= other->word[w];
}

static inline int bitset_any(const bitset *set)
{
    uint64_t any = 0;
    for (int w = 0; w < BITSET_WORDS; w++)
        any |= set->word[w];
    return any != 0;
}

static inline int bitset_count(const bitset *set)
{
    int count = 0;
    for (int w = 0; w < BITSET_WORDS; w++)
        count += __builtin_popcountll(set->word[w]);
    return count;
}

/* Writes the members in increasing order and returns how many. */
static inline int bitset_members(const bitset *set, int *members)
{
    int count = 0;
    for (int w = 0; w < BITSET_WORDS; w++)
        for (uint64_t left = set->word[w]; left; left &= left - 1)
            members[count++] = 64 * w + __builtin_ctzll(left);
    return count;
}

#endif

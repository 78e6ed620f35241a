/* SPDX-License-Identifier: MIT */
/* Atomic operations on bits, by Concurrency Kit's primitives. */
#include "kernel.h"

#include <errno.h>

#include <ck_pr.h>

static int no_map(void)
{
    return kssi_error(-EINVAL, "the bitmap is NULL");
}

int kss_bit_set(uint64_t *map, size_t bit)
{
    return map ? ck_pr_bts_64(&map[bit / 64], bit % 64) : no_map();
}

int kss_bit_clear(uint64_t *map, size_t bit)
{
    return map ? ck_pr_btr_64(&map[bit / 64], bit % 64) : no_map();
}

int kss_bit_change(uint64_t *map, size_t bit)
{
    return map ? ck_pr_btc_64(&map[bit / 64], bit % 64) : no_map();
}

int kss_bit_test(const uint64_t *map, size_t bit)
{
    return map ? (int)(ck_pr_load_64(&map[bit / 64]) >> bit % 64 & 1) : no_map();
}

/* `flip` is all ones to look for clear bits. */
static long find(const uint64_t *map, size_t bits, size_t from, uint64_t flip)
{
    if (!map)
        return no_map();
    for (size_t w = from / 64; w * 64 < bits && from < bits; w++) {
        uint64_t word = ck_pr_load_64(&map[w]) ^ flip;
        if (w == from / 64)
            word &= ~(uint64_t)0 << from % 64;
        size_t bit = word ? w * 64 + (size_t)__builtin_ctzll(word) : bits;
        if (bit < bits)
            return (long)bit;
    }
    return kssi_error(-ENOENT, "no such bit among %zu, from %zu on", bits, from);
}

long kss_bit_find_set(const uint64_t *map, size_t bits, size_t from)
{
    return find(map, bits, from, 0);
}

long kss_bit_find_clear(const uint64_t *map, size_t bits, size_t from)
{
    return find(map, bits, from, ~(uint64_t)0);
}

/* Another may take the one that was found: then the next. Those that were freed behind it are seen at the second try. */
long kss_bit_claim(uint64_t *map, size_t bits)
{
    long bit = find(map, bits, 0, ~(uint64_t)0);
    while (bit >= 0 && kss_bit_set(map, (size_t)bit))
        bit = find(map, bits, 0, ~(uint64_t)0);
    return bit;
}

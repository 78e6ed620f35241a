/* SPDX-License-Identifier: MIT */
/*
 * A log-linear histogram of nanoseconds: 16 buckets a power of two, so a relative error of at most
 * 1/16, over the whole range of 64 bits (the layout of HdrHistogram, Gil Tene). Debian 12 has no C
 * library for it: hdr_histogram_c is packaged for Go and Java only. Written by one CPU in hard irq context; no
 * allocation, no locks. An array of them is not touched, and so takes no memory, before it is written to.
 */
#include "kernel.h"


#define SUB 16u
#define BUCKETS (SUB * 61)

struct kssi_histogram {
    uint64_t count, max;
    uint64_t bucket[BUCKETS];
};

struct kssi_histogram *kssi_histograms_new(struct kss_machine *m, unsigned n)
{
    return kssi_pages_new(m, n * sizeof(struct kssi_histogram));
}

void kssi_histograms_free(struct kss_machine *m, struct kssi_histogram *h, unsigned n)
{
    kssi_pages_free(m, h, n * sizeof(struct kssi_histogram));
}

static unsigned bucket_of(uint64_t v)
{
    if (v < SUB)
        return (unsigned)v;
    unsigned shift = 63u - (unsigned)__builtin_clzll(v) - 4; /* 4: log2(SUB) */
    return (shift + 1) * SUB + (unsigned)((v >> shift) - SUB);
}

/* The largest value that falls into a bucket. */
static uint64_t bucket_top(unsigned b)
{
    if (b < SUB)
        return b;
    unsigned shift = b / SUB - 1;
    return ((uint64_t)(b % SUB + SUB + 1) << shift) - 1;
}

void kssi_histogram_add(struct kssi_histogram *of, unsigned i, uint64_t ns)
{
    struct kssi_histogram *h = &of[i];
    h->bucket[bucket_of(ns)]++;
    h->count++;
    if (ns > h->max)
        h->max = ns;
}

static uint64_t percentile(const struct kssi_histogram *h, unsigned per_mille)
{
    uint64_t want = (h->count * per_mille + 999) / 1000, seen = 0;
    for (unsigned b = 0; b < BUCKETS; b++) {
        seen += h->bucket[b];
        if (seen >= want && seen)
            return bucket_top(b) < h->max ? bucket_top(b) : h->max;
    }
    return h->max;
}

void kssi_histogram_read(const struct kssi_histogram *of, unsigned i, struct kss_latency *out)
{
    const struct kssi_histogram *h = &of[i];
    *out = (struct kss_latency){ .count = h->count, .max_ns = h->max, .p50_ns = percentile(h, 500),
                                 .p90_ns = percentile(h, 900), .p99_ns = percentile(h, 990),
                                 .p999_ns = percentile(h, 999) };
}

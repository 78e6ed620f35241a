/* SPDX-License-Identifier: MIT */
/*
 * A log-linear histogram of nanoseconds: 16 buckets a power of two, so a relative error of at most
 * 1/16, over the whole range of 64 bits (the layout of HdrHistogram, Gil Tene). Debian has no C
 * library for it. Written by one CPU in hard irq context; no allocation, no locks.
 */
#include "kernel.h"

#include <errno.h>

#define SUB 16u
#define BUCKETS (SUB * 61)

struct kssi_histogram {
    uint64_t count, max;
    uint64_t bucket[BUCKETS];
};

#define ALL_OF_A_CPU (2 * KSS_IRQ_LINES * sizeof(struct kssi_histogram))

/* A megabyte a CPU, of which as much is touched as there are lines in use. */
int kssi_histograms_init(struct kssi_cpu *cpu)
{
    struct kssi_histogram *h = kssi_pages_new(cpu->machine, ALL_OF_A_CPU);
    if (!h)
        return kssi_error(-ENOMEM, "no host memory for latency histograms");
    for (unsigned i = 0; i < KSS_IRQ_LINES; i++) {
        cpu->to_handler[i] = h + 2 * i;
        cpu->handler[i] = h + 2 * i + 1;
    }
    return 0;
}

void kssi_histograms_fini(struct kssi_cpu *cpu)
{
    kssi_pages_free(cpu->machine, cpu->to_handler[0], ALL_OF_A_CPU);
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

void kssi_histogram_add(struct kssi_histogram *h, uint64_t ns)
{
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

void kssi_histogram_read(const struct kssi_histogram *h, struct kss_latency *out)
{
    *out = (struct kss_latency){ .count = h->count, .max_ns = h->max, .p50_ns = percentile(h, 500),
                                 .p90_ns = percentile(h, 900), .p99_ns = percentile(h, 990),
                                 .p999_ns = percentile(h, 999) };
}

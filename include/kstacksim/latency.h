/* SPDX-License-Identifier: MIT */
/* Latencies of a CPU, with kss_config.latency: handlers, interrupts off, preemption off. */
#ifndef KSTACKSIM_LATENCY_H
#define KSTACKSIM_LATENCY_H

#include <kstacksim/common.h>
#include <kstacksim/irq.h>
#include <kstacksim/trap.h>

KSS_BEGIN_DECLS

/** Where something was turned off or on: by code at pc, or by the entry or exit of a trap. */
struct kss_latency_place {
    uint64_t pc;      /* 0: by a trap */
    uint64_t offset;  /* of pc in the function */
    unsigned vector;  /* the trap's, if pc is 0 */
    char symbol[64];  /* the function at pc; empty: unknown */
};

/** How long something was off, and where it was off longest. */
struct kss_latency_span {
    struct kss_latency time;
    struct kss_latency_place from, to; /* of the longest: turned off, and on again */
    int tid;                           /* who turned it on again */
};

/** A vector that was handled. */
struct kss_latency_vector {
    unsigned vector;
    char name[32];                 /* the line's, as it was requested, or the vector's */
    struct kss_latency to_handler; /* from the event to the first line of the handler; interrupts only */
    struct kss_latency handler;    /* the handler, sleeps included */
};

/** All of a CPU. About 36 KiB: too large for a kernel stack. */
struct kss_latency_summary {
    unsigned cpu;
    struct kss_latency_span irqs_off, preempt_off;
    unsigned vectors; /* how many of the next are filled in: those that were handled, lowest first */
    struct kss_latency_vector vector[KSS_VECTORS];
};

/**
 * Handler times of a vector on a CPU: of an exception, a system call, an interrupt. -EINVAL (vector, CPU, NULL),
 * -ENODATA (kss_config.latency is off). Context: any.
 */
KSS_API int kss_vector_latency(struct kss_machine *machine, unsigned cpu, unsigned vector, struct kss_latency *handler);
/**
 * All latencies of a CPU. While the machine runs, the numbers are a snapshot. -EINVAL (CPU, NULL), -ENODATA. Context: any
 * but hard irq, since it looks up names.
 */
KSS_API int kss_latency_read(struct kss_machine *machine, unsigned cpu, struct kss_latency_summary *summary);
/** The summary as a table for people, always NUL-terminated. Returns its whole length; -EINVAL. Context: any but hard irq. */
KSS_API int kss_latency_format(const struct kss_latency_summary *summary, char *buffer, size_t size);

KSS_END_DECLS
#endif

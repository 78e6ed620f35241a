/* SPDX-License-Identifier: MIT */
/* The trace: one binary ring per CPU, and its narration. */
#ifndef KSTACKSIM_TRACE_H
#define KSTACKSIM_TRACE_H

#include <stdio.h>
#include <kstacksim/common.h>

KSS_BEGIN_DECLS

/** What happened. The comment names the four values. */
enum kss_trace_type {
    KSS_TR_NONE,
    KSS_TR_ENTER,        /* into the kernel: vector, frame address, pc, from mode */
    KSS_TR_LEAVE,        /* out of it: vector, frame address, pc, to mode */
    KSS_TR_ISR_IN,       /* line, stack pointer */
    KSS_TR_ISR_OUT,      /* line */
    KSS_TR_EOI,          /* line */
    KSS_TR_RAISE,        /* line, cpu it was raised on */
    KSS_TR_SWITCH,       /* next tid, previous stack pointer, next stack pointer, reason */
    KSS_TR_WAKE,         /* tid woken */
    KSS_TR_SLEEP,        /* wait queue's name (pointer) */
    KSS_TR_FORK,         /* new tid, pid */
    KSS_TR_EXIT,         /* status */
    KSS_TR_REAP,         /* tid reaped */
    KSS_TR_STACK_ALLOC,  /* low address, size, from cache */
    KSS_TR_STACK_FREE,   /* low address, size, high-water mark */
    KSS_TR_SYSCALL_IN,   /* number, first three arguments */
    KSS_TR_SYSCALL_OUT,  /* number, result */
    KSS_TR_DEVICE_START, /* name (pointer), bytes, offset, is a write */
    KSS_TR_DEVICE_DONE,  /* name (pointer), bytes, error */
    KSS_TR_EXCEPTION,    /* vector, address, pc, error */
    KSS_TR_MARK,         /* an experiment's own: id, value */
    KSS_TR_LOST,         /* line, cpu: it was still pending there */
    KSS_TR_SOFTIRQ_IN,   /* number, stack pointer */
    KSS_TR_SOFTIRQ_OUT,  /* number */
    KSS_TR_MIGRATE,      /* tid, from CPU, to CPU */
    KSS_TR_TYPES
};

/** Why a context switch happened. */
enum kss_switch_reason { KSS_SWITCH_SLEEP, KSS_SWITCH_PREEMPT, KSS_SWITCH_YIELD, KSS_SWITCH_EXIT };

/** The tid of events that a host thread, such as a device's, recorded. */
#define KSS_TRACE_HOST INT32_MIN

/** One event. tid is 0 or less for idle threads. */
struct kss_trace_event {
    uint64_t time_ns;  /* the machine's clock */
    uint64_t sequence; /* position in the CPU's ring since boot */
    uint64_t value[4];
    int32_t tid;
    uint16_t type;     /* enum kss_trace_type */
    uint16_t cpu;
};

/** Switches recording on or off. Context: any but user. */
KSS_API int kss_trace_enable(struct kss_machine *machine, bool on);
/** Records an event of the experiment's own. Context: user (a system call), kernel, hard irq. */
KSS_API long kss_trace_mark(uint64_t id, uint64_t value);
/**
 * Calls fn with each recorded event, oldest first over all CPUs, until fn returns nonzero; returns
 * that value, or 0. Context: kernel; host while the machine does not run, else -EBUSY.
 */
KSS_API int kss_trace_for_each(struct kss_machine *machine,
                               int (*fn)(const struct kss_trace_event *event, void *arg), void *arg);
/** One event as a sentence (no newline), always NUL-terminated. Returns its length. Context: any. */
KSS_API int kss_trace_narrate(struct kss_machine *machine, const struct kss_trace_event *event,
                              char *buffer, size_t size);
/** An event type's name, such as "context_switch". Context: any. */
KSS_API const char *kss_trace_type_name(enum kss_trace_type type);

KSS_END_DECLS
#endif

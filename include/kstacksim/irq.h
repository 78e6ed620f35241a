/* SPDX-License-Identifier: MIT */
/* Interrupts: the controller's lines, their handlers, masking, end of interrupt, latency. */
#ifndef KSTACKSIM_IRQ_H
#define KSTACKSIM_IRQ_H

#include <stdio.h>
#include <kstacksim/common.h>

KSS_BEGIN_DECLS

struct kss_cpumask; /* smp.h */

/** IRQ lines of each CPU's controller. Line n arrives at vector KSS_VEC_IRQ + n. */
#define KSS_IRQ_LINES 64
/** The lines the machine itself uses; disks take the next ones from KSS_LINE_DISK up. */
enum kss_line { KSS_LINE_TIMER = 0, KSS_LINE_KEYBOARD = 1, KSS_LINE_STOP = 2,
                KSS_LINE_RESCHED = 3, KSS_LINE_CALL = 4, /* between CPUs: see smp.h */
                KSS_LINE_DISK = 8,
                KSS_LINE_FREE = 32 /* from here up: never taken by the library */ };
/** Line priorities: 0 lowest to 15 highest. Default 8; between CPUs 13, timer 14; stop is above all. */
#define KSS_IRQ_PRIO_MAX 15

/** An interrupt handler: hard irq context, interrupts off. It must end with kss_irq_eoi(line). */
typedef void (*kss_irq_fn)(unsigned line, void *arg);

/** Account of one line on one CPU: raised = delivered + pending + lost, at every moment. */
struct kss_irq_stats {
    uint64_t raised, delivered, lost;
    unsigned pending;     /* 0 or 1: the one-deep buffer */
    bool in_service;      /* delivered, and not yet ended */
    bool masked;
    unsigned priority;
    uint64_t unhandled;   /* of the delivered: there was no handler */
    uint64_t eoi;         /* ends of interrupt */
    bool held;            /* held back on this CPU: a storm */
    uint64_t storms;      /* how many there were */
    uint64_t held_ns;     /* time that it was held back for them */
    char name[32];
};

/** A latency distribution in nanoseconds: log-linear, 1/16 relative error. */
struct kss_latency {
    uint64_t count, max_ns;
    uint64_t p50_ns, p90_ns, p99_ns, p999_ns;
};

/**
 * Sets the handler of a line. -EINVAL (line, NULL), -EBUSY (taken).
 * Context: kernel (privileged), or host before the machine runs.
 */
KSS_API int kss_irq_request(struct kss_machine *machine, unsigned line, kss_irq_fn handler,
                            void *arg, const char *name);
/**
 * Removes the handler; when it returns, no CPU is in it any more, so that what it uses may go. -EINVAL, -ENOENT, -EBUSY
 * (the machine's own line), -EDEADLK (a handler, a softirq, a spinlock held, interrupts off: the handler could be waiting
 * for the caller). Context: thread in kernel mode (privileged), or host before the machine runs. It waits, without sleep.
 */
KSS_API int kss_irq_free(struct kss_machine *machine, unsigned line);
/**
 * The CPUs that a device's interrupts of a line may go to; all at first. They go to the lowest of these that is online, or
 * if none is, to the lowest that is online: to one CPU at a time, so that a driver's handler is not run twice at once.
 * What is pending on another CPU is still delivered there. CPUs the machine does not have are left out. -EINVAL (line,
 * NULL, none of the machine's CPUs is in it), -EBUSY (timer, stop and those between CPUs are each CPU's own).
 * Context: kernel, hard irq (privileged); host before the machine runs.
 */
KSS_API int kss_irq_set_affinity(struct kss_machine *machine, unsigned line, const struct kss_cpumask *cpus);
/** Reads them. -EINVAL. Context: any. */
KSS_API int kss_irq_get_affinity(struct kss_machine *machine, unsigned line, struct kss_cpumask *cpus);
/**
 * The CPU that a device's interrupt of this line goes to now: for kss_irq_raise(). -EINVAL. Context: any, host threads
 * and host signal handlers too.
 */
KSS_API int kss_irq_route(struct kss_machine *machine, unsigned line);
/** Sets a line's priority (0 to 15) on all CPUs. -EINVAL, -EBUSY (the stop line). Context as kss_irq_request(). */
KSS_API int kss_irq_set_priority(struct kss_machine *machine, unsigned line, unsigned priority);
/** Holds a line back on all CPUs; what it raises stays pending. -EINVAL, -EBUSY (the stop line). Context: kernel, hard irq; host before run. */
KSS_API int kss_irq_mask(struct kss_machine *machine, unsigned line);
/** Lets it through again. -EINVAL. Context as kss_irq_mask(). */
KSS_API int kss_irq_unmask(struct kss_machine *machine, unsigned line);
/**
 * Raises a line on a CPU, as a device does. A line that is still pending there loses it, and counts.
 * -EINVAL (line, CPU; a machine that is gone, or that another thread is just destroying).
 * Context: any, host threads and host signal handlers too, user mode not.
 */
KSS_API int kss_irq_raise(struct kss_machine *machine, unsigned cpu, unsigned line);
/**
 * Raises a non-maskable interrupt on a CPU: vector KSS_VEC_NMI, taken even with interrupts off, on a vector stack of
 * its own. One that is raised while another is under way comes after it. -EINVAL (CPU). Context as kss_irq_raise().
 */
KSS_API int kss_nmi_raise(struct kss_machine *machine, unsigned cpu);
/**
 * End of interrupt: until then the same and all lower priorities are held back on this CPU.
 * -EINVAL (line, or not in service). Context: hard irq, kernel. Privileged.
 */
KSS_API int kss_irq_eoi(unsigned line);
/** Reads a line's account on a CPU. -EINVAL. Context: any. */
KSS_API int kss_irq_stats(struct kss_machine *machine, unsigned cpu, unsigned line,
                          struct kss_irq_stats *stats);
/**
 * Latencies of a line on a CPU, with kss_config.latency on: from the event to the first line of the
 * handler (to_handler), and the handler itself (handler). Either may be NULL. -EINVAL, -ENODATA.
 * Context: any.
 */
KSS_API int kss_irq_latency(struct kss_machine *machine, unsigned cpu, unsigned line,
                            struct kss_latency *to_handler, struct kss_latency *handler);

/** Softirqs a machine has: the deferred halves of interrupts, lowest number first. */
#define KSS_SOFTIRQS 32
/** A softirq handler: interrupts on, may not sleep. */
typedef void (*kss_softirq_fn)(void *arg);
/** Sets a softirq's handler. -EINVAL (number, NULL), -EBUSY (taken). Context as kss_irq_request(). */
KSS_API int kss_softirq_request(struct kss_machine *machine, unsigned number, kss_softirq_fn handler, void *arg,
                                const char *name);
/**
 * Has it run on this CPU at the end of the outermost interrupt handler; from a thread with interrupts on, at once. Raised
 * again before it has begun, it runs once. After 10 rounds the rest is left to the CPU's kernel thread "ksoftirqd/N". -EINVAL (number, no handler). Context: kernel, hard irq. Privileged.
 */
KSS_API int kss_softirq_raise(unsigned number);
/** Is this a softirq, or an interrupt of one? Context: kernel, hard irq. */
KSS_API bool kss_in_softirq(void);

/* The CPU's interrupt flag. Privileged: in user mode these raise a general-protection fault. They
   cost no host system call. Context: kernel, hard irq. */

/** Turns interrupts off on this CPU. */
KSS_API void kss_irq_disable(void);
/** Turns them on; what is pending is delivered before it returns. */
KSS_API void kss_irq_enable(void);
/** Turns them off and returns whether they were on. */
KSS_API bool kss_irq_save(void);
/** Turns them on again if `on`. */
KSS_API void kss_irq_restore(bool on);
/** Are they on? */
KSS_API bool kss_irqs_enabled(void);
/** Is this a hard irq handler? Context: kernel, hard irq. */
KSS_API bool kss_in_irq(void);

KSS_END_DECLS
#endif

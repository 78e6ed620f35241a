/* SPDX-License-Identifier: MIT */
/* Many CPUs: sets of CPUs, affinity, calls from one CPU to others, taking CPUs out and putting them back. */
#ifndef KSTACKSIM_SMP_H
#define KSTACKSIM_SMP_H

#include <kstacksim/common.h>
#include <kstacksim/machine.h>

KSS_BEGIN_DECLS

/** Most CPUs of a machine. */
#define KSS_CPUS_MAX 256

/** A set of CPUs: bit n of bits[n / 64] is CPU n. */
struct kss_cpumask {
    uint64_t bits[KSS_CPUS_MAX / 64];
};

/* Their context: any. A CPU from KSS_CPUS_MAX up is in no set, and can't be put in. */

/** Puts a CPU in. */
static inline void kss_cpumask_set(struct kss_cpumask *mask, unsigned cpu)
{
    if (cpu < KSS_CPUS_MAX)
        mask->bits[cpu / 64] |= 1ull << (cpu % 64);
}
/** Takes it out. */
static inline void kss_cpumask_clear(struct kss_cpumask *mask, unsigned cpu)
{
    if (cpu < KSS_CPUS_MAX)
        mask->bits[cpu / 64] &= ~(1ull << (cpu % 64));
}
/** Is it in? */
static inline bool kss_cpumask_test(const struct kss_cpumask *mask, unsigned cpu)
{
    return cpu < KSS_CPUS_MAX && (mask->bits[cpu / 64] >> (cpu % 64) & 1);
}
/** Is nothing in it? */
static inline bool kss_cpumask_empty(const struct kss_cpumask *mask)
{
    return !(mask->bits[0] | mask->bits[1] | mask->bits[2] | mask->bits[3]);
}
/** How many CPUs are in it. */
static inline unsigned kss_cpumask_count(const struct kss_cpumask *mask)
{
    unsigned n = 0;
    for (unsigned i = 0; i < KSS_CPUS_MAX / 64; i++)
        n += (unsigned)__builtin_popcountll(mask->bits[i]);
    return n;
}
/** The lowest CPU in it from `from` up; -1: none. */
static inline int kss_cpumask_next(const struct kss_cpumask *mask, unsigned from)
{
    for (unsigned cpu = from; cpu < KSS_CPUS_MAX; cpu = (cpu | 63) + 1) {
        uint64_t rest = mask->bits[cpu / 64] >> (cpu % 64);
        if (rest)
            return (int)(cpu + (unsigned)__builtin_ctzll(rest));
    }
    return -1;
}
/** The lowest CPU in it; -1: it is empty. */
static inline int kss_cpumask_first(const struct kss_cpumask *mask)
{
    return kss_cpumask_next(mask, 0);
}
/** The first n CPUs: 0 to n - 1. */
static inline struct kss_cpumask kss_cpumask_all(unsigned n)
{
    struct kss_cpumask mask = { { 0, 0, 0, 0 } };
    for (unsigned i = 0; i < n && i < KSS_CPUS_MAX; i++)
        kss_cpumask_set(&mask, i);
    return mask;
}
/** One CPU. */
static inline struct kss_cpumask kss_cpumask_of(unsigned cpu)
{
    struct kss_cpumask mask = { { 0, 0, 0, 0 } };
    kss_cpumask_set(&mask, cpu);
    return mask;
}

/**
 * The CPU that this runs on, from 0; -EPERM on a host thread. With preemption possible it may be another one when the
 * caller looks at the number. Context: any.
 */
KSS_API int kss_cpu_id(void);

/** A system call: the CPUs on which a thread (0: the caller) may run. -ESRCH, -EINVAL (mask is NULL), -EFAULT. Context: user. */
KSS_API long kss_getaffinity(long tid, struct kss_cpumask *mask);
/**
 * A system call: sets them. One that runs elsewhere moves at once. CPUs that the machine does not have are left out;
 * when all of a thread's CPUs are offline, it runs on any other until one is back. -ESRCH, -EINVAL (none of the
 * machine's CPUs is in the set), -EFAULT. Context: user.
 */
KSS_API long kss_setaffinity(long tid, const struct kss_cpumask *mask);

/** What kss_cpu_call() calls: hard irq context on the called CPU, interrupts off; it must not sleep. */
typedef void (*kss_cpu_fn)(void *arg);
/**
 * Calls fn(arg) on all online CPUs of a set, each by an interrupt of its own (line KSS_LINE_CALL); on the caller's own
 * at once. wait: returns when all of them have returned. Calls of several CPUs take turns. Returns on how many CPUs;
 * -EINVAL (NULL), -EPERM (host thread), -EDEADLK (interrupts off, a hard irq, a softirq, or a spinlock held: two CPUs
 * could wait for each other). Context: kernel. Privileged.
 */
KSS_API int kss_cpu_call(const struct kss_cpumask *cpus, kss_cpu_fn fn, void *arg, bool wait);

/** The CPUs that run threads now. -EINVAL. Context: any. */
KSS_API int kss_cpus_online(struct kss_machine *machine, struct kss_cpumask *online);
/**
 * Takes a CPU out: its threads move to others, its ticks and the devices' interrupts stop coming. Returns 0 when it
 * is idle for good, also if it was; -EINVAL (no such CPU), -EBUSY (the last one that is online), -EPERM (host
 * thread, a handler, a spinlock held, interrupts off). Context: kernel; sleeps. Privileged.
 */
KSS_API int kss_cpu_down(unsigned cpu);
/** Puts it back. 0, also if it is; -EINVAL; -EPERM (host thread). Context: kernel. Privileged. */
KSS_API int kss_cpu_up(unsigned cpu);

/** Counters of one CPU. -EINVAL. Context: any; a snapshot when the machine runs. */
KSS_API int kss_machine_cpu_stats(struct kss_machine *machine, unsigned cpu, struct kss_cpu_stats *stats);

KSS_END_DECLS
#endif

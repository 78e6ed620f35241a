/* SPDX-License-Identifier: MIT */
/* Kernel timers: functions of kernel code that run when their time has come. */
#ifndef KSTACKSIM_TIMER_H
#define KSTACKSIM_TIMER_H

#include <kstacksim/common.h>

KSS_BEGIN_DECLS

struct kss_timer;
/**
 * A timer's function: as a softirq on the CPU that armed the timer, interrupts on; it may not sleep. The timer is not
 * pending any more unless it is periodic, so that the function may arm it again, or free its memory.
 */
typedef void (*kss_timer_fn)(struct kss_timer *timer, void *arg);

/**
 * A timer; the memory is the caller's, and must stay while it is pending or its function runs. All fields are private.
 */
struct kss_timer {
    unsigned magic; /* KSS_TIMER_MAGIC, or it was never initialised */
    unsigned cpu;
    kss_timer_fn fn;
    void *arg;
    uint64_t owner, expires, period, order;
    bool pending;
    void *node[4];
};
/** What kss_timer.magic holds in a timer that was initialised. */
#define KSS_TIMER_MAGIC 0x6b746d72u

/** Makes it a timer that is not armed. -EINVAL (NULL), -EBUSY (it is armed). Context: kernel, hard irq, host. */
KSS_API int kss_timer_init(struct kss_timer *timer, kss_timer_fn fn, void *arg);
/**
 * Arms it to expire in ns nanoseconds, looked at at each tick of this CPU: those whose time has come run in the order
 * of their times, then of their arming. One that is armed already is armed anew. Returns 0; -EINVAL (NULL, never
 * initialised, or armed in another machine before), -EPERM (a host thread). Context: kernel, hard irq.
 */
KSS_API int kss_timer_arm(struct kss_timer *timer, uint64_t ns);
/**
 * The same, at a time of kss_sched_clock(); one that has passed: at the next tick. Errors and context as
 * kss_timer_arm().
 */
KSS_API int kss_timer_arm_at(struct kss_timer *timer, uint64_t at_ns);
/**
 * Arms it to expire in ns nanoseconds and from then on every period_ns, on the same CPU, until it is cancelled. Periods
 * that passed before its function could run are left out. -EINVAL also for a period of 0. Errors and context as
 * kss_timer_arm().
 */
KSS_API int kss_timer_arm_periodic(struct kss_timer *timer, uint64_t ns, uint64_t period_ns);
/**
 * Disarms it, from any CPU; its function may still be under way on another. Returns 1 if it was pending, 0 if not;
 * errors as kss_timer_arm(). Context: kernel, hard irq.
 */
KSS_API int kss_timer_cancel(struct kss_timer *timer);
/**
 * The same, and its function is over on all CPUs when this returns, so that its memory may go. The caller must not hold
 * what the function waits for. -EDEADLK (from a hard irq, a softirq, so from its own function; with a spinlock held or
 * interrupts off). Context: kernel.
 */
KSS_API int kss_timer_cancel_wait(struct kss_timer *timer);
/** Is it armed, and its time has not come yet? False for what is no timer. Context: kernel, hard irq. */
KSS_API bool kss_timer_pending(const struct kss_timer *timer);

KSS_END_DECLS
#endif

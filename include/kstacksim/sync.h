/* SPDX-License-Identifier: MIT */
/* For kernel code: preemption control, spinlocks, wait queues. */
#ifndef KSTACKSIM_SYNC_H
#define KSTACKSIM_SYNC_H

#include <kstacksim/common.h>

KSS_BEGIN_DECLS

/** No preemption of this thread until the matching kss_preempt_enable(). Context: kernel, hard irq. */
KSS_API void kss_preempt_disable(void);
/** Undoes one; switches at once if that was due and interrupts are on. Context: kernel, hard irq. */
KSS_API void kss_preempt_enable(void);
/** How deep preemption is disabled. Context: kernel, hard irq. */
KSS_API int kss_preempt_count(void);

/** Lets others of the same right run: what kss_yield() is for user mode. Context: kernel; sleeps. */
KSS_API void kss_reschedule(void);

/** A lock held for a short time, interrupts off. Never sleep with one held. */
struct kss_spinlock {
    unsigned locked;
    unsigned magic; /* KSS_SPINLOCK_MAGIC, or it was never initialised */
    const char *name;
    const void *holder; /* the thread that has it */
    uint64_t taken, contended, spins, spin_ns; /* see struct kss_lock_stats; the holder writes them */
};
/** What kss_spinlock.magic holds in a lock that may be used. */
#define KSS_SPINLOCK_MAGIC 0x6b6c6f63u
#define KSS_SPINLOCK_INIT(n) { 0, KSS_SPINLOCK_MAGIC, n, NULL, 0, 0, 0, 0 }
KSS_API void kss_spinlock_init(struct kss_spinlock *lock, const char *name);
/** Interrupts off, then the lock. Returns what kss_spin_unlock() needs. Context: kernel, hard irq. */
KSS_API bool kss_spin_lock(struct kss_spinlock *lock);
/** Releases it and restores interrupts. Context: kernel, hard irq. */
KSS_API void kss_spin_unlock(struct kss_spinlock *lock, bool irqs_were_on);
/**
 * The lock, if nobody has it: true, interrupts are off, and *irqs_were_on is what kss_spin_unlock() needs. False:
 * everything is as it was. Context: kernel, hard irq.
 */
KSS_API bool kss_spin_trylock(struct kss_spinlock *lock, bool *irqs_were_on);

/** What a lock has seen since it was initialised. */
struct kss_lock_stats {
    uint64_t taken;     /* how often it was taken */
    uint64_t contended; /* of these, how often the taker had to wait */
    uint64_t spins;     /* locks that spin: how many pauses that took */
    uint64_t wait_ns;   /* how long they waited in all, ns */
};
/** 0 or -EINVAL. The numbers may be of different moments while others take the lock. Context: any. */
KSS_API int kss_spin_stats(const struct kss_spinlock *lock, struct kss_lock_stats *stats);

/** One sleeper on a wait queue; lives on the sleeper's kernel stack. */
struct kss_waiter {
    struct kss_waiter *next, *prev;
    struct kss_thread *thread;
    struct kss_wait_queue *queue; /* NULL when it is on none */
    bool woken;
    struct kss_waiter *outer; /* the thread's other one, if any: it may wait inside a condition */
    bool killable; /* set by the sleeper: a kill ends this wait, so the hung-task watchdog leaves it alone */
};
/** Where threads sleep. */
struct kss_wait_queue {
    struct kss_spinlock lock;
    struct kss_waiter *first, *last;
    const char *name;
    unsigned count;
    uint64_t missed; /* when it was last woken with nobody on it, on a clock of the machine's own; 0: never */
};
KSS_API void kss_wait_queue_init(struct kss_wait_queue *queue, const char *name);
/** Puts the caller on the queue and makes it SLEEPING; then test the condition. Context: kernel. */
KSS_API void kss_wait_prepare(struct kss_wait_queue *queue, struct kss_waiter *waiter);
/** Gives up the CPU unless woken since kss_wait_prepare(). Context: kernel; sleeps. */
KSS_API void kss_wait_sleep(void);
/**
 * The same, but no longer than to a time of kss_sched_clock(), in ns; UINT64_MAX: for ever. It ends at the first timer
 * tick from then on. 0, or -ETIMEDOUT when the time is over, whoever woke the caller. Context: kernel; sleeps.
 */
KSS_API int kss_wait_sleep_until(uint64_t when_ns);
/** The time of kss_sched_clock() that is ns from now; UINT64_MAX if there is no such time. Context: kernel. */
KSS_API uint64_t kss_deadline(uint64_t ns);
/** Leaves the queue, RUNNING again. Context: kernel. */
KSS_API void kss_wait_finish(struct kss_waiter *waiter);
/**
 * Changes a thread's state, for experiments that build their own way of sleeping: the caller's RUNNING to SLEEPING
 * (then look at the condition, then kss_wait_sleep()) and SLEEPING to RUNNING, another's SLEEPING to READY (wakes it).
 * Any other change is refused with -EINVAL and a report of the kind KSS_REPORT_BAD_TRANSITION. Context: kernel; hard irq
 * for READY.
 */
KSS_API int kss_thread_set_state(struct kss_thread *thread, enum kss_thread_state state);
/** Was the caller killed, so that it should not sleep on? Context: kernel. */
KSS_API bool kss_wait_killed(void);
/** Wakes at most n sleepers, first come first (n 0: all). Returns how many; 0 on a host thread. Context: kernel, hard irq. */
KSS_API unsigned kss_wake_up(struct kss_wait_queue *queue, unsigned n);

/** Sleeps until the condition holds; for I/O that must end. Context: kernel; sleeps. */
#define kss_wait_event(queue, condition)                      \
    do {                                                      \
        struct kss_waiter kss_waiter_ = { 0, 0, 0, 0, 0, 0, 0 }; \
        for (;;) {                                            \
            kss_wait_prepare((queue), &kss_waiter_);          \
            if (condition)                                    \
                break;                                        \
            kss_wait_sleep();                                 \
        }                                                     \
        kss_wait_finish(&kss_waiter_);                        \
    } while (0)

/** The same, but a kill ends it: 0 or -EINTR. */
#define kss_wait_event_killable(queue, condition)             \
    __extension__({                                           \
        struct kss_waiter kss_waiter_ = { 0, 0, 0, 0, 0, 0, 1 }; \
        int kss_result_ = 0;                                  \
        for (;;) {                                            \
            kss_wait_prepare((queue), &kss_waiter_);          \
            if (condition)                                    \
                break;                                        \
            if (kss_wait_killed()) {                          \
                kss_result_ = -4;                             \
                break;                                        \
            }                                                 \
            kss_wait_sleep();                                 \
        }                                                     \
        kss_wait_finish(&kss_waiter_);                        \
        kss_result_;                                          \
    })

/** The same, and no longer than about ns: 0, -EINTR, or -ETIMEDOUT if the condition does not hold even then. */
#define kss_wait_event_timeout(queue, condition, ns)          \
    __extension__({                                           \
        struct kss_waiter kss_waiter_ = { 0, 0, 0, 0, 0, 0, 1 }; \
        uint64_t kss_until_ = kss_deadline(ns);               \
        int kss_result_ = 0, kss_over_ = 0;                   \
        for (;;) {                                            \
            kss_wait_prepare((queue), &kss_waiter_);          \
            if (condition)                                    \
                break;                                        \
            if (kss_over_ || kss_wait_killed()) {             \
                kss_result_ = kss_over_ ? -110 : -4;          \
                break;                                        \
            }                                                 \
            kss_over_ = kss_wait_sleep_until(kss_until_) < 0; \
        }                                                     \
        kss_wait_finish(&kss_waiter_);                        \
        kss_result_;                                          \
    })

KSS_END_DECLS
#endif

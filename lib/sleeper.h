/* SPDX-License-Identifier: MIT */
/* What the locks that sleep share. A lock is handed to the one who sleeps on it: nobody comes in between, and a wake-up
   that came is never given back by one who was killed at the same time. */
#ifndef KSSI_SLEEPER_H
#define KSSI_SLEEPER_H

#include "kernel.h"

/* One who sleeps; on its kernel stack. All of it is guarded by the lock's guard: the spinlock of the lock, or the
   mutexes'. */
struct kssi_sleeper {
    struct kssi_sleeper *next, *prev;
    struct kss_lock_queue *queue; /* NULL: it is on none any more */
    struct kss_spinlock *guard;
    struct kss_thread *thread;
    struct kss_mutex *mutex; /* that it waits for, if it does */
    int priority;            /* its place in a queue by priority */
    bool granted;            /* it has what it waited for */
    int result;              /* of that */
};

struct kssi_wait {
    const char *channel;
    bool killable;
    uint64_t until; /* of kssi_now(); UINT64_MAX: for ever */
};

static inline struct kssi_sleeper *kssi_sleeper_first(const struct kss_lock_queue *q)
{
    return q->first;
}

/* May the caller use a lock that is `good`, and may it sleep, if the call does that? 0 or an error; in atomic context a
   call that may sleep is reported, even if it would not have to. */
int kssi_lock_usable(const void *lock, bool good, const char *call, bool sleeps);
/* The same where there must be a thread of its own, though it does not sleep. */
int kssi_lock_thread_only(const char *call);

void kssi_sleeper_add(struct kss_lock_queue *q, struct kssi_sleeper *s, bool by_priority);
void kssi_sleeper_remove(struct kssi_sleeper *s);
/* Takes it off, and wakes it: it has what it waited for. */
void kssi_sleeper_grant(struct kssi_sleeper *s, int result);
/* Sleeps until granted; the guard is released meanwhile, and taken again. -EINTR, -ETIMEDOUT: it was not granted, and
   is on no queue any more. *slept_ns grows. */
int kssi_sleeper_wait(struct kssi_sleeper *s, bool *irqs_on, const struct kssi_wait *wait, uint64_t *slept_ns);
/* The queue's threads are of another machine than the caller: nobody can wake those. */
bool kssi_sleeper_foreign(const struct kss_lock_queue *q, const struct kss_thread *self);
int kssi_no_foreign(const char *call);
int kssi_stats_to(const void *lock, bool good, struct kss_lock_stats *out);

/* mutex.c, graph held: who slept on a mutex is gone without having been woken, or with what it was given. */
void kssi_mutex_sleeper_gone(struct kss_thread *t, struct kssi_sleeper *s);
/* mutex.c, for condition variables */
bool kssi_mutex_owned(const struct kss_mutex *mutex, const struct kss_thread *self);

#endif

/* SPDX-License-Identifier: MIT */
/* Condition variables: the sleeper is in the queue before it gives the mutex up, so whoever changes what the mutex
   guards, and signals then, finds it. */
#include "sleeper.h"

#include <errno.h>

void kss_condvar_init(struct kss_condvar *cv, const char *name)
{
    if (cv)
        *cv = (struct kss_condvar)KSS_CONDVAR_INIT(name);
}

static bool initialised(const struct kss_condvar *cv)
{
    return cv && cv->lock.magic == KSS_SPINLOCK_MAGIC;
}

/* 0: self is in the queue. */
static int enter(struct kss_condvar *cv, struct kssi_sleeper *s)
{
    bool on = kss_spin_lock(&cv->lock), foreign = kssi_sleeper_foreign(&cv->sleepers, s->thread);
    if (!foreign) {
        s->thread->sleeper = s;
        kssi_sleeper_add(&cv->sleepers, s, true);
        kssi_count(&cv->waits, 1);
    }
    kss_spin_unlock(&cv->lock, on);
    return foreign ? kssi_no_foreign("kss_condvar_wait()") : 0;
}

static int wait_on(struct kss_condvar *cv, struct kss_mutex *m, bool killable, uint64_t ns, const char *call)
{
    int r = kssi_lock_usable(cv, initialised(cv), call, true);
    if (r == 0)
        r = kssi_lock_usable(m, m && m->magic == KSS_MUTEX_MAGIC, call, true);
    if (r < 0)
        return r;
    struct kss_thread *self = kssi_current();
    if (!kssi_mutex_owned(m, self))
        return kssi_error(-EPERM, "%s: the caller does not have the mutex \"%s\"", call, m->name ? m->name : "?");
    struct kssi_sleeper s = { .guard = &cv->lock, .thread = self, .priority = self->priority };
    struct kssi_wait wait = { cv->lock.name ? cv->lock.name : "condition variable", killable,
                              ns == UINT64_MAX ? ns : kss_deadline(ns) };
    r = enter(cv, &s);
    if (r < 0)
        return r;
    kss_mutex_unlock(m);
    bool on = kss_spin_lock(&cv->lock);
    r = kssi_sleeper_wait(&s, &on, &wait, &cv->wait_ns);
    kss_spin_unlock(&cv->lock, on);
    int again = kss_mutex_lock(m);
    return again < 0 ? again : r;
}

int kss_condvar_wait(struct kss_condvar *cv, struct kss_mutex *m)
{
    return wait_on(cv, m, false, UINT64_MAX, "kss_condvar_wait()");
}

int kss_condvar_wait_killable(struct kss_condvar *cv, struct kss_mutex *m)
{
    return wait_on(cv, m, true, UINT64_MAX, "kss_condvar_wait_killable()");
}

int kss_condvar_wait_timeout(struct kss_condvar *cv, struct kss_mutex *m, uint64_t ns)
{
    return wait_on(cv, m, true, ns, "kss_condvar_wait_timeout()");
}

static int wake(struct kss_condvar *cv, bool all, const char *call)
{
    int n = 0, r = kssi_lock_usable(cv, initialised(cv), call, false);
    if (r < 0)
        return r;
    bool on = kss_spin_lock(&cv->lock), foreign = kssi_sleeper_foreign(&cv->sleepers, kssi_current());
    while (!foreign && cv->sleepers.first && (all || n == 0)) {
        kssi_sleeper_grant(kssi_sleeper_first(&cv->sleepers), 0);
        n++;
    }
    kss_spin_unlock(&cv->lock, on);
    return foreign ? kssi_no_foreign(call) : n;
}

int kss_condvar_signal(struct kss_condvar *cv)
{
    return wake(cv, false, "kss_condvar_signal()");
}

int kss_condvar_broadcast(struct kss_condvar *cv)
{
    return wake(cv, true, "kss_condvar_broadcast()");
}

int kss_condvar_stats(const struct kss_condvar *cv, struct kss_lock_stats *stats)
{
    int r = kssi_stats_to(cv, initialised(cv), stats);
    if (r == 0) {
        uint64_t waits = __atomic_load_n(&cv->waits, __ATOMIC_RELAXED);
        *stats = (struct kss_lock_stats){ waits, waits, 0, __atomic_load_n(&cv->wait_ns, __ATOMIC_RELAXED) };
    }
    return r;
}

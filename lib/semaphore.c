/* SPDX-License-Identifier: MIT */
/* Counting semaphores. One that is given goes to the first who sleeps, so nobody overtakes. */
#include "sleeper.h"

#include <errno.h>
#include <limits.h>

void kss_sem_init(struct kss_semaphore *sem, const char *name, unsigned count)
{
    if (sem)
        *sem = (struct kss_semaphore)KSS_SEMAPHORE_INIT(name, count);
}

static bool initialised(const struct kss_semaphore *sem)
{
    return sem && sem->lock.magic == KSS_SPINLOCK_MAGIC;
}

static int down(struct kss_semaphore *sem, bool killable, uint64_t ns, const char *call)
{
    int r = kssi_lock_usable(sem, initialised(sem), call, true);
    if (r < 0)
        return r;
    struct kss_thread *self = kssi_current();
    bool on = kss_spin_lock(&sem->lock), foreign = false;
    if (sem->count) { /* then nobody sleeps */
        sem->count--;
    } else if ((foreign = kssi_sleeper_foreign(&sem->sleepers, self))) {
        r = -EINVAL;
    } else {
        struct kssi_sleeper s = { .guard = &sem->lock, .thread = self };
        struct kssi_wait wait = { sem->lock.name ? sem->lock.name : "semaphore", killable,
                                  ns == UINT64_MAX ? ns : kss_deadline(ns) };
        kssi_sleeper_add(&sem->sleepers, &s, false);
        kssi_count(&sem->contended, 1);
        r = kssi_sleeper_wait(&s, &on, &wait, &sem->wait_ns);
    }
    if (r == 0)
        kssi_count(&sem->taken, 1);
    kss_spin_unlock(&sem->lock, on);
    return foreign ? kssi_no_foreign(call) : r;
}

int kss_sem_down(struct kss_semaphore *sem)
{
    return down(sem, false, UINT64_MAX, "kss_sem_down()");
}

int kss_sem_down_killable(struct kss_semaphore *sem)
{
    return down(sem, true, UINT64_MAX, "kss_sem_down_killable()");
}

int kss_sem_down_timeout(struct kss_semaphore *sem, uint64_t ns)
{
    return down(sem, true, ns, "kss_sem_down_timeout()");
}

int kss_sem_trydown(struct kss_semaphore *sem)
{
    int r = kssi_lock_usable(sem, initialised(sem), "kss_sem_trydown()", false);
    if (r < 0)
        return r;
    bool on = kss_spin_lock(&sem->lock), got = sem->count > 0;
    sem->count -= got;
    kssi_count(&sem->taken, got);
    kss_spin_unlock(&sem->lock, on);
    return got ? 0 : kssi_error(-EBUSY, "the semaphore is at 0");
}

int kss_sem_up(struct kss_semaphore *sem)
{
    int r = kssi_lock_usable(sem, initialised(sem), "kss_sem_up()", false);
    if (r < 0)
        return r;
    bool on = kss_spin_lock(&sem->lock);
    if (kssi_sleeper_foreign(&sem->sleepers, kssi_current()))
        r = -EINVAL;
    else if (sem->sleepers.first)
        kssi_sleeper_grant(kssi_sleeper_first(&sem->sleepers), 0);
    else if (sem->count == UINT_MAX)
        r = -EOVERFLOW;
    else
        sem->count++;
    kss_spin_unlock(&sem->lock, on);
    return r == -EINVAL ? kssi_no_foreign("kss_sem_up()")
           : r < 0      ? kssi_error(r, "the semaphore is at %u: it can't have more", UINT_MAX) : 0;
}

int kss_sem_stats(const struct kss_semaphore *sem, struct kss_lock_stats *stats)
{
    int r = kssi_stats_to(sem, initialised(sem), stats);
    if (r == 0)
        *stats = (struct kss_lock_stats){ __atomic_load_n(&sem->taken, __ATOMIC_RELAXED),
                                          __atomic_load_n(&sem->contended, __ATOMIC_RELAXED), 0,
                                          __atomic_load_n(&sem->wait_ns, __ATOMIC_RELAXED) };
    return r;
}

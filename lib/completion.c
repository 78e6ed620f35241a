/* SPDX-License-Identifier: MIT */
/*
 * Completions. They may lie on the stack of the one who waits. That takes the lock before it returns, also if it has
 * been granted meanwhile, and the release of the lock is the last that kss_complete() does to them.
 */
#include "sleeper.h"

#include <errno.h>
#include <limits.h>

void kss_completion_init(struct kss_completion *c, const char *name)
{
    if (c)
        *c = (struct kss_completion)KSS_COMPLETION_INIT(name);
}

static bool initialised(const struct kss_completion *c)
{
    return c && c->lock.magic == KSS_SPINLOCK_MAGIC;
}

static int wait_for(struct kss_completion *c, bool killable, uint64_t ns, const char *call)
{
    int r = kssi_lock_usable(c, initialised(c), call, true);
    if (r < 0)
        return r;
    struct kss_thread *self = kssi_current();
    bool on = kss_spin_lock(&c->lock), foreign = false;
    if (c->done) {
        c->done -= c->done != UINT_MAX;
    } else if ((foreign = kssi_sleeper_foreign(&c->sleepers, self))) {
        r = -EINVAL;
    } else {
        struct kssi_sleeper s = { .guard = &c->lock, .thread = self };
        struct kssi_wait wait = { c->lock.name ? c->lock.name : "completion", killable,
                                  ns == UINT64_MAX ? ns : kss_deadline(ns) };
        kssi_sleeper_add(&c->sleepers, &s, false);
        kssi_count(&c->contended, 1);
        r = kssi_sleeper_wait(&s, &on, &wait, &c->wait_ns);
    }
    if (r == 0)
        kssi_count(&c->taken, 1);
    kss_spin_unlock(&c->lock, on);
    return foreign ? kssi_no_foreign(call) : r;
}

int kss_completion_wait(struct kss_completion *c)
{
    return wait_for(c, false, UINT64_MAX, "kss_completion_wait()");
}

int kss_completion_wait_killable(struct kss_completion *c)
{
    return wait_for(c, true, UINT64_MAX, "kss_completion_wait_killable()");
}

int kss_completion_wait_timeout(struct kss_completion *c, uint64_t ns)
{
    return wait_for(c, true, ns, "kss_completion_wait_timeout()");
}

static int complete(struct kss_completion *c, bool all, const char *call)
{
    int r = kssi_lock_usable(c, initialised(c), call, false);
    if (r < 0)
        return r;
    bool on = kss_spin_lock(&c->lock), foreign = kssi_sleeper_foreign(&c->sleepers, kssi_current());
    if (!foreign && all) {
        c->done = UINT_MAX;
        while (c->sleepers.first)
            kssi_sleeper_grant(kssi_sleeper_first(&c->sleepers), 0);
    } else if (!foreign && c->sleepers.first) {
        kssi_sleeper_grant(kssi_sleeper_first(&c->sleepers), 0);
    } else if (!foreign && c->done < UINT_MAX - 1) {
        c->done++;
    }
    kss_spin_unlock(&c->lock, on);
    return foreign ? kssi_no_foreign(call) : 0;
}

int kss_complete(struct kss_completion *c)
{
    return complete(c, false, "kss_complete()");
}

int kss_complete_all(struct kss_completion *c)
{
    return complete(c, true, "kss_complete_all()");
}

int kss_completion_stats(const struct kss_completion *c, struct kss_lock_stats *stats)
{
    int r = kssi_stats_to(c, initialised(c), stats);
    if (r == 0)
        *stats = (struct kss_lock_stats){ __atomic_load_n(&c->taken, __ATOMIC_RELAXED),
                                          __atomic_load_n(&c->contended, __ATOMIC_RELAXED), 0,
                                          __atomic_load_n(&c->wait_ns, __ATOMIC_RELAXED) };
    return r;
}

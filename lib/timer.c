/* SPDX-License-Identifier: MIT */
/* Sleeping for a time: a red-black tree of sleepers by expiry, looked at every tick. sched_lock. */
#include "kernel.h"

#include <errno.h>

static int compare(struct kss_thread *a, struct kss_thread *b)
{
    if (a->wake_at != b->wake_at)
        return a->wake_at < b->wake_at ? -1 : 1;
    return a->timer_order < b->timer_order ? -1 : a->timer_order > b->timer_order;
}

RB_PROTOTYPE_INTERNAL(kssi_timer_tree, kss_thread, timer, compare, static __attribute__((unused)))
RB_GENERATE_INTERNAL(kssi_timer_tree, kss_thread, timer, compare, static __attribute__((unused)))

struct kss_thread *kssi_timer_first(struct kss_machine *m)
{
    return RB_MIN(kssi_timer_tree, &m->timers);
}

static void note_next(struct kss_machine *m)
{
    struct kss_thread *t = kssi_timer_first(m);
    __atomic_store_n(&m->next_timer, t ? t->wake_at : UINT64_MAX, __ATOMIC_RELAXED);
}

static void arm(struct kss_thread *t, uint64_t at)
{
    struct kss_machine *m = t->machine;
    t->wake_at = at;
    t->timer_order = m->timer_order++;
    RB_INSERT(kssi_timer_tree, &m->timers, t);
    t->timer_armed = true;
    note_next(m);
}

void kssi_timer_disarm(struct kss_thread *t)
{
    if (!t->timer_armed)
        return;
    RB_REMOVE(kssi_timer_tree, &t->machine->timers, t);
    t->timer_armed = false;
    note_next(t->machine);
}

int kssi_sleep_begin(const char *channel, bool killable, uint64_t until)
{
    struct kss_thread *t = kssi_current();
    struct kss_machine *m = t->machine;
    bool on = kss_spin_lock(&m->sched_lock);
    /* Under the lock: a kill that comes before it is seen here, one that comes after it finds a sleeper to wake. */
    bool killed = killable && (__atomic_load_n(&t->ti->flags, __ATOMIC_RELAXED) & KSS_TI_KILLED);
    if (!killed) {
        kssi_set_state(t, KSS_THREAD_SLEEPING);
        t->wait_channel = channel;
        t->unkillable = !killable;
        if (until != UINT64_MAX)
            arm(t, until);
    }
    kss_spin_unlock(&m->sched_lock, on);
    return killed ? -EINTR : 0;
}

void kssi_sleep_end(void)
{
    struct kss_thread *t = kssi_current();
    bool on = kss_spin_lock(&t->machine->sched_lock);
    t->wait_channel = NULL;
    t->unkillable = false;
    kss_spin_unlock(&t->machine->sched_lock, on);
}

int kss_wait_sleep_until(uint64_t when)
{
    if (!kssi_require_kernel())
        return kssi_error(-EPERM, "only threads of a simulated CPU sleep");
    struct kss_thread *t = kssi_current();
    struct kss_machine *m = t->machine;
    bool on = kss_spin_lock(&m->sched_lock);
    /* Woken since kss_wait_prepare(), or preempted, it is RUNNING; nobody may find it in the timer tree then. */
    if (t->state == KSS_THREAD_SLEEPING && when != UINT64_MAX && !t->timer_armed)
        arm(t, when);
    kss_spin_unlock(&m->sched_lock, on);
    kss_wait_sleep();
    return kssi_now(m) >= when ? -ETIMEDOUT : 0;
}

uint64_t kss_deadline(uint64_t ns)
{
    uint64_t now = kss_sched_clock();
    return ns > UINT64_MAX - now ? UINT64_MAX : now + ns;
}

long kssi_sleep_until(uint64_t at)
{
    struct kss_thread *t = kssi_current();
    struct kss_machine *m = t->machine;
    do {
        bool on = kss_spin_lock(&m->sched_lock);
        /* Under the lock: a kill that comes before it is seen here, one that comes after it finds a
           sleeper to wake. */
        if (t->ti->flags & KSS_TI_KILLED) {
            kss_spin_unlock(&m->sched_lock, on);
            return -EINTR;
        }
        kssi_set_state(t, KSS_THREAD_SLEEPING);
        t->wait_channel = "sleep";
        arm(t, at);
        kss_spin_unlock(&m->sched_lock, on);
        if (unlikely(m->profile))
            kssi_profile_sleep();
        KSSI_TRACE(m, KSS_TR_SLEEP, (uintptr_t)t->wait_channel, 0, 0, 0);
        kssi_schedule(KSS_SWITCH_SLEEP);
        on = kss_spin_lock(&m->sched_lock);
        kssi_timer_disarm(t);
        t->wait_channel = NULL;
        kss_spin_unlock(&m->sched_lock, on);
    } while (kssi_now(m) < at);
    return 0;
}

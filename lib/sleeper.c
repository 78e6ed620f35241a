/* SPDX-License-Identifier: MIT */
/* Sleeping on a lock, and being handed it. */
#include "sleeper.h"

#include <errno.h>

/* ---- who may call --------------------------------------------------------------------------------- */

/* Interrupts off, so that the CPU that is asked about is the caller's. */
static void may_sleep(void)
{
    bool on = kssi_irq_save();
    struct kss_thread *t = kssi_current();
    const struct kssi_cpu *cpu = kssi_this_cpu();
    if (unlikely(cpu->irq_depth | cpu->in_softirq | cpu->in_on_report | cpu->in_class_op | t->locks_held |
                 (unsigned)t->ti->preempt_count | !on))
        kssi_report_atomic(t, !on);
    kssi_irq_restore(on);
}

int kssi_lock_usable(const void *lock, bool good, const char *call, bool sleeps)
{
    if (!kssi_require_kernel())
        return kssi_error(-EPERM, "%s: locks belong to the kernel of a simulated CPU", call);
    if (sleeps)
        may_sleep();
    else
        kssi_not_in_class_op(call);
    if (unlikely(!good))
        return lock ? kssi_error(-EINVAL, "%s: the lock at %p was never initialised", call, lock)
                    : kssi_error(-EINVAL, "%s: the lock is NULL", call);
    return 0;
}

int kssi_lock_thread_only(const char *call)
{
    bool on = kssi_irq_save();
    const struct kssi_cpu *cpu = kssi_this_cpu();
    bool other = cpu->irq_depth || cpu->in_softirq;
    kssi_irq_restore(on);
    return other ? kssi_error(-EPERM, "%s: in an interrupt handler or a softirq there is no thread to own it", call) : 0;
}

bool kssi_sleeper_foreign(const struct kss_lock_queue *q, const struct kss_thread *self)
{
    const struct kssi_sleeper *s = kssi_sleeper_first(q);
    return s && s->thread->machine != self->machine;
}

int kssi_no_foreign(const char *call)
{
    return kssi_error(-EINVAL, "%s: threads of another machine sleep on the lock", call);
}

int kssi_stats_to(const void *lock, bool good, struct kss_lock_stats *out)
{
    if (!good || !out)
        return kssi_error(-EINVAL, !out ? "no place for a lock's statistics"
                                   : lock ? "the lock was never initialised" : "the lock is NULL");
    return 0;
}

/* ---- the queue ------------------------------------------------------------------------------------ */

/* From the end: equals in the order they came, which is the usual case. */
void kssi_sleeper_add(struct kss_lock_queue *q, struct kssi_sleeper *s, bool by_priority)
{
    struct kssi_sleeper *before = q->last;
    while (by_priority && before && before->priority < s->priority)
        before = before->prev;
    s->queue = q;
    s->prev = before;
    s->next = before ? before->next : q->first;
    if (s->next)
        s->next->prev = s;
    else
        q->last = s;
    if (before)
        before->next = s;
    else
        q->first = s;
}

void kssi_sleeper_remove(struct kssi_sleeper *s)
{
    struct kss_lock_queue *q = s->queue;
    if (s->prev)
        s->prev->next = s->next;
    else
        q->first = s->next;
    if (s->next)
        s->next->prev = s->prev;
    else
        q->last = s->prev;
    s->queue = NULL;
}

/* It can't be gone before the guard is released: it needs that to return. */
void kssi_sleeper_grant(struct kssi_sleeper *s, int result)
{
    kssi_sleeper_remove(s);
    s->granted = true;
    s->result = result;
    kssi_wake(s->thread);
}

static int sleep_once(struct kssi_sleeper *s, bool *on, const struct kssi_wait *wait)
{
    struct kss_machine *m = s->thread->machine;
    if (wait->until != UINT64_MAX && kssi_now(m) >= wait->until)
        return -ETIMEDOUT;
    int r = kssi_sleep_begin(wait->channel, wait->killable, wait->until);
    if (r < 0)
        return r;
    /* Granted from here on, or preempted, it is RUNNING, and the sleep ends at once. */
    kss_spin_unlock(s->guard, *on);
    kss_wait_sleep();
    *on = kss_spin_lock(s->guard);
    return 0;
}

int kssi_sleeper_wait(struct kssi_sleeper *s, bool *on, const struct kssi_wait *wait, uint64_t *slept)
{
    struct kss_machine *m = s->thread->machine;
    uint64_t start = m->platform->account_clock(m), end;
    int r = 0;
    s->thread->sleeper = s;
    while (!s->granted && r == 0)
        r = sleep_once(s, on, wait);
    s->thread->sleeper = NULL;
    kssi_sleep_end();
    end = m->platform->account_clock(m);
    kssi_count(slept, end > start ? end - start : 0);
    if (s->granted)
        return s->result;
    kssi_sleeper_remove(s);
    return r;
}

/* Its entry is on the stack that goes. */
void kssi_sleeper_abandon(struct kss_thread *t)
{
    struct kssi_sleeper *s = t->sleeper;
    if (!s)
        return;
    bool on = kss_spin_lock(s->guard);
    t->sleeper = NULL;
    if (s->queue)
        kssi_sleeper_remove(s);
    if (s->mutex)
        kssi_mutex_sleeper_gone(t, s);
    kss_spin_unlock(s->guard, on);
}

/* ---- the end of a machine ------------------------------------------------------------------------- */

/* On the host thread that ran it, all CPUs halted; threads of other machines may use the same locks. */
void kssi_locks_clear(struct kss_machine *m)
{
    for (unsigned i = 0; i < m->id_slots; i++) {
        struct kss_thread *t = m->by_id[i];
        struct kssi_sleeper *s = t ? t->sleeper : NULL;
        if (!s)
            continue;
        bool on = kss_spin_lock(s->guard);
        if (s->queue)
            kssi_sleeper_remove(s);
        kss_spin_unlock(s->guard, on);
        t->sleeper = NULL;
    }
    for (unsigned i = 0; i < m->id_slots; i++)
        if (m->by_id[i])
            kssi_mutexes_abandon(m->by_id[i]);
}

/* SPDX-License-Identifier: MIT */
/*
 * Wait queues. The sleeper puts itself on the queue and becomes SLEEPING *before* it tests its
 * condition, the waker makes the condition true before it looks at the queue: so whichever comes
 * second sees the other, and no wake-up is lost.
 */
#include "kernel.h"

void kss_wait_queue_init(struct kss_wait_queue *queue, const char *name)
{
    if (queue)
        *queue = (struct kss_wait_queue){ .lock = KSS_SPINLOCK_INIT("wait queue"), .name = name };
}

static void unlink_waiter(struct kss_wait_queue *q, struct kss_waiter *w)
{
    if (w->prev)
        w->prev->next = w->next;
    else
        q->first = w->next;
    if (w->next)
        w->next->prev = w->prev;
    else
        q->last = w->prev;
    w->next = w->prev = NULL;
    q->count--;
    /* The last: seen by its sleeper on another CPU, the waiter may be gone at once, and the thread with it. */
    __atomic_store_n(&w->queue, NULL, __ATOMIC_RELEASE);
}

static void set_own_state(struct kss_thread *t, enum kss_thread_state state, const char *channel, bool killable)
{
    bool on = kss_spin_lock(&t->machine->sched_lock);
    if (t->state != state)
        kssi_set_state(t, state);
    t->wait_channel = channel;
    t->unkillable = channel && !killable;
    kss_spin_unlock(&t->machine->sched_lock, on);
}

/* Doing nothing would leave the caller in its loop for ever. */
__attribute__((noreturn)) static void misused(const char *how)
{
    kssi_irq_disable();
    struct kssi_fault f = { .kind = KSS_REPORT_KERNEL_FAULT, .message = how };
    kssi_fault(&f, KSS_KILLED + 1);
    __builtin_unreachable(); /* nobody goes on after a fault of this kind */
}

void kss_wait_prepare(struct kss_wait_queue *q, struct kss_waiter *w)
{
    if (!kssi_require_kernel())
        return;
    kssi_not_in_class_op("kss_wait_prepare()"); /* it would end with the queue's lock held */
    struct kss_thread *t = kssi_current();
    if (unlikely(kss_in_irq()))
        kssi_report_atomic(t, false);
    if (unlikely(!q || !w))
        misused(q ? "kss_wait_prepare(): the waiter is NULL" : "kss_wait_prepare(): the wait queue is NULL");
    bool on = kss_spin_lock(&q->lock);
    if (unlikely(q->first && q->first->thread->machine != t->machine)) {
        kss_spin_unlock(&q->lock, on);
        misused("kss_wait_prepare(): threads of another machine sleep on the wait queue");
    }
    if (!w->thread) { /* a thread that dies of a fault is taken off by this list */
        w->outer = t->waiters;
        t->waiters = w;
    }
    if (!w->queue) {
        *w = (struct kss_waiter){ .prev = q->last, .thread = t, .queue = q, .outer = w->outer,
                                  .killable = w->killable };
        if (q->last)
            q->last->next = w;
        else
            q->first = w;
        q->last = w;
        q->count++;
    }
    set_own_state(t, KSS_THREAD_SLEEPING, q->name, w->killable);
    kss_spin_unlock(&q->lock, on);
}

void kss_wait_sleep(void)
{
    if (!kssi_require_kernel())
        return;
    if (unlikely(kssi_current()->machine->profile))
        kssi_profile_sleep();
    KSSI_TRACE(kssi_current()->machine, KSS_TR_SLEEP, (uintptr_t)kssi_current()->wait_channel, 0, 0, 0);
    kssi_schedule(KSS_SWITCH_SLEEP);
}

void kss_wait_finish(struct kss_waiter *w)
{
    if (!kssi_require_kernel())
        return;
    struct kss_thread *t = kssi_current();
    if (!w || (w->thread && w->thread != t))
        return;
    set_own_state(t, KSS_THREAD_RUNNING, NULL, true);
    /* The waker takes it off under the queue's lock; the queue cannot be gone while it is on it. Once it is off, the
       waker has done with it. */
    struct kss_wait_queue *q = __atomic_load_n(&w->queue, __ATOMIC_ACQUIRE);
    if (q) {
        bool on = kss_spin_lock(&q->lock);
        if (w->queue)
            unlink_waiter(q, w);
        kss_spin_unlock(&q->lock, on);
    }
    /* Nobody can find it any more. Usually it is the first. */
    struct kss_waiter **link = &t->waiters;
    while (*link && *link != w)
        link = &(*link)->outer;
    if (*link)
        *link = w->outer;
    w->thread = NULL;
}

bool kss_wait_killed(void)
{
    return kssi_require_kernel() && (kssi_current()->ti->flags & KSS_TI_KILLED);
}

unsigned kss_wake_up(struct kss_wait_queue *q, unsigned n)
{
    unsigned woken = 0;
    if (!kssi_require_kernel() || !q)
        return 0;
    kssi_not_in_class_op("kss_wake_up()");
    struct kss_machine *m = kssi_current()->machine;
    bool on = kss_spin_lock(&q->lock);
    if (!q->first) /* for the hung-task watchdog: a sleeper may have come too late */
        q->missed = m->platform->account_clock(m);
    while (q->first && q->first->thread->machine == m && (!n || woken < n)) {
        struct kss_waiter *w = q->first;
        w->woken = true;
        kssi_wake(w->thread);
        unlink_waiter(q, w);
        woken++;
    }
    kss_spin_unlock(&q->lock, on);
    return woken;
}

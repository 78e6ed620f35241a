/* SPDX-License-Identifier: MIT */
/*
 * Wait queues. The sleeper puts itself on the queue and becomes SLEEPING *before* it tests its
 * condition, the waker makes the condition true before it looks at the queue: so whichever comes
 * second sees the other, and no wake-up is lost.
 */
#include "kernel.h"

void kss_wait_queue_init(struct kss_wait_queue *queue, const char *name)
{
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
    w->queue = NULL;
    q->count--;
}

static void set_own_state(struct kss_thread *t, enum kss_thread_state state, const char *channel)
{
    bool on = kss_spin_lock(&t->machine->sched_lock);
    if (t->state != state)
        kssi_set_state(t, state);
    t->wait_channel = channel;
    kss_spin_unlock(&t->machine->sched_lock, on);
}

void kss_wait_prepare(struct kss_wait_queue *q, struct kss_waiter *w)
{
    if (!kssi_require_kernel())
        return;
    struct kss_thread *t = kssi_current();
    KSS_ASSERT(!kss_in_irq());
    bool on = kss_spin_lock(&q->lock);
    if (!w->thread) { /* a thread that dies of a fault is taken off by this list */
        w->outer = t->waiters;
        t->waiters = w;
    }
    if (!w->queue) {
        *w = (struct kss_waiter){ .prev = q->last, .thread = t, .queue = q, .outer = w->outer };
        if (q->last)
            q->last->next = w;
        else
            q->first = w;
        q->last = w;
        q->count++;
    }
    set_own_state(t, KSS_THREAD_SLEEPING, q->name);
    kss_spin_unlock(&q->lock, on);
}

void kss_wait_sleep(void)
{
    if (!kssi_require_kernel())
        return;
    KSSI_TRACE(kssi_current()->machine, KSS_TR_SLEEP, (uintptr_t)kssi_current()->wait_channel, 0, 0, 0);
    kssi_schedule(KSS_SWITCH_SLEEP);
}

void kss_wait_finish(struct kss_waiter *w)
{
    if (!kssi_require_kernel())
        return;
    struct kss_thread *t = kssi_current();
    set_own_state(t, KSS_THREAD_RUNNING, NULL);
    /* The waker takes it off under the queue's lock; the queue cannot be gone while it is on it. */
    struct kss_wait_queue *q = w->queue;
    if (q) {
        bool on = kss_spin_lock(&q->lock);
        if (w->queue)
            unlink_waiter(q, w);
        kss_spin_unlock(&q->lock, on);
    }
    /* Nobody can find it any more. */
    if (t->waiters == w)
        t->waiters = w->outer;
    w->thread = NULL;
}

bool kss_wait_killed(void)
{
    return kssi_require_kernel() && (kssi_current()->ti->flags & KSS_TI_KILLED);
}

unsigned kss_wake_up(struct kss_wait_queue *q, unsigned n)
{
    unsigned woken = 0;
    if (kssi_this_cpu() && !kssi_require_kernel())
        return 0;
    bool on = kss_spin_lock(&q->lock);
    while (q->first && (!n || woken < n)) {
        struct kss_waiter *w = q->first;
        unlink_waiter(q, w);
        struct kss_thread *t = w->thread;
        w->woken = true;
        kssi_wake(t);
        woken++;
    }
    kss_spin_unlock(&q->lock, on);
    return woken;
}

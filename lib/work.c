/* SPDX-License-Identifier: MIT */
/*
 * Work queues: each CPU has a list of items and a worker, a kernel thread that runs them one by one. Its lock guards
 * the list and the state of the items on it; an item's CPU changes under that CPU's lock only. An item whose function
 * runs is queued where it runs, so that it never runs twice at a time.
 */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>

enum { IDLE, DELAYED, QUEUED };

/* ---- a CPU's items: its lock held ---------------------------------------------------------------------- */

static void append(struct kssi_works *q, struct kss_work *w)
{
    w->next = NULL;
    w->prev = q->last;
    if (q->last)
        q->last->next = w;
    else
        q->first = w;
    q->last = w;
    w->number = ++q->numbers; /* of a flush, those up to it */
    __atomic_store_n(&w->state, QUEUED, __ATOMIC_RELAXED);
}

static void unlink_item(struct kssi_works *q, struct kss_work *w)
{
    if (w->prev)
        w->prev->next = w->next;
    else
        q->first = w->next;
    if (w->next)
        w->next->prev = w->prev;
    else
        q->last = w->prev;
    __atomic_store_n(&w->state, IDLE, __ATOMIC_RELAXED);
}

/* ---- the worker ------------------------------------------------------------------------------------------ */

static struct kss_work *take(struct kssi_works *q, kss_work_fn *fn, void **arg)
{
    bool on = kss_spin_lock(&q->lock);
    struct kss_work *w = q->first;
    if (w) {
        unlink_item(q, w);
        q->running = w;
        q->running_number = w->number;
        *fn = w->fn;
        *arg = w->arg;
    }
    kss_spin_unlock(&q->lock, on);
    return w;
}

static void run_item(struct kssi_works *q, struct kss_work *w, kss_work_fn fn, void *arg)
{
    struct kss_thread *t = kssi_current();
    struct kssi_atomic was = kssi_atomic_state(t, true);
    fn(w, arg); /* w may be gone after it */
    bool on = kssi_irq_save();
    if (unlikely(!kssi_atomic_kept(t, &was, on)))
        kssi_report_leak(t, NULL, KSSI_LEAK_WORK, &was, on);
    kss_spin_lock(&q->lock);
    q->running = NULL;
    q->done++;
    kss_spin_unlock(&q->lock, true);
    kss_wake_up(&q->flushed, 0);
}

static long worker_main(void *arg)
{
    struct kssi_works *q = arg;
    kss_work_fn fn = NULL;
    void *fn_arg = NULL;
    for (;;) {
        struct kss_work *w = NULL;
        (void)kss_wait_event_killable(&q->more, (w = take(q, &fn, &fn_arg)) != NULL);
        if (w)
            run_item(q, w, fn, fn_arg);
    }
    return 0;
}

/* Also in a hard irq. Whoever comes second waits for the first, who has interrupts off. */
static int need_worker(struct kss_machine *m, struct kssi_cpu *cpu)
{
    char name[KSS_NAME_MAX];
    int error = 0;
    if (likely(__atomic_load_n(&cpu->works.worker, __ATOMIC_ACQUIRE) != NULL))
        return 0;
    snprintf(name, sizeof name, "kworker/%u", cpu->index);
    bool on = kss_spin_lock(&m->worker_lock);
    struct kss_thread *t = cpu->works.worker ? NULL : kssi_kthread_new(m, name, worker_main, &cpu->works, 0,
                                                                       (int)cpu->index, &error);
    if (t) {
        t->worker = true;
        __atomic_store_n(&cpu->works.worker, t, __ATOMIC_RELEASE);
        kssi_sched_start_thread(t);
    }
    kss_spin_unlock(&m->worker_lock, on);
    return error;
}

void kssi_works_init(struct kssi_cpu *cpu)
{
    kss_spinlock_init(&cpu->works.lock, "work items");
    kss_wait_queue_init(&cpu->works.more, "work items");
    kss_wait_queue_init(&cpu->works.flushed, "flush work items");
}

/* ---- which CPU's it is ------------------------------------------------------------------------------------ */

static int check_call(const struct kss_work *w)
{
    if (!kssi_require_kernel())
        return kssi_error(-EPERM, "work queues belong to the kernel of a simulated CPU");
    if (!w)
        return kssi_error(-EINVAL, "work item is NULL");
    if (w->magic != KSS_WORK_MAGIC)
        return kssi_error(-EINVAL, "work item %p was never initialised: call kss_work_init() first", (const void *)w);
    uint64_t owner = __atomic_load_n(&w->owner, __ATOMIC_ACQUIRE);
    if (owner && owner != kssi_current()->machine->number)
        return kssi_error(-EINVAL, "work item %p was queued in another machine: call kss_work_init() before it is used "
                          "here", (const void *)w);
    return 0;
}

/* The CPU whose item it is, locked. Interrupts are off. */
static struct kssi_works *lock_works_of(struct kss_work *w)
{
    struct kss_machine *m = kssi_current()->machine;
    uint64_t none = 0;
    if (!__atomic_load_n(&w->owner, __ATOMIC_ACQUIRE))
        __atomic_compare_exchange_n(&w->owner, &none, m->number, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    for (;;) {
        unsigned index = __atomic_load_n(&w->cpu, __ATOMIC_ACQUIRE);
        struct kssi_works *q = &m->cpu[index < m->cpus ? index : 0].works;
        kss_spin_lock(&q->lock);
        if (__atomic_load_n(&w->cpu, __ATOMIC_RELAXED) == index)
            return q;
        kss_spin_unlock(&q->lock, false);
    }
}

/* ---- queueing ----------------------------------------------------------------------------------------------- */

/* Its time has come, unless it was cancelled, and perhaps delayed again, in between. A softirq. */
static void delay_over(struct kss_timer *timer, void *arg)
{
    struct kss_work *w = arg;
    bool on = kssi_irq_save();
    struct kssi_works *q = lock_works_of(w);
    bool due = w->state == DELAYED && w->due <= kssi_now(kssi_current()->machine);
    (void)timer;
    if (due)
        append(q, w);
    kss_spin_unlock(&q->lock, on);
    if (due)
        kss_wake_up(&q->more, 1);
}

/* At once (at 0), or at a time. */
static int queue(struct kss_work *w, int index, uint64_t at)
{
    struct kss_machine *m = kssi_current()->machine;
    bool on = kssi_irq_save();
    struct kssi_cpu *cpu = index < 0 ? kssi_this_cpu() : &m->cpu[index];
    int r = need_worker(m, cpu);
    if (r < 0) {
        kssi_irq_restore(on);
        return r;
    }
    struct kssi_works *q = lock_works_of(w);
    while (w->state == IDLE && q != &cpu->works && q->running != w) {
        __atomic_store_n(&w->cpu, cpu->index, __ATOMIC_RELEASE);
        kss_spin_unlock(&q->lock, false);
        q = lock_works_of(w);
    }
    bool idle = w->state == IDLE;
    if (idle) {
        q->queued++;
        w->due = at;
        if (at)
            __atomic_store_n(&w->state, DELAYED, __ATOMIC_RELAXED);
        else
            append(q, w);
    }
    if (idle && at)
        kss_timer_arm_at(&w->timer, at); /* under the lock: state and timer change together */
    kss_spin_unlock(&q->lock, false);
    if (idle && !at)
        kss_wake_up(&q->more, 1);
    kssi_irq_restore(on);
    return idle;
}

int kss_work_init(struct kss_work *w, kss_work_fn fn, void *arg)
{
    if (kssi_this_cpu())
        kssi_require_kernel();
    if (!w || !fn)
        return kssi_error(-EINVAL, w ? "the work item's function is NULL" : "work item is NULL");
    if (kssi_this_cpu() && kss_work_pending(w))
        return kssi_error(-EBUSY, "work item %p is queued: cancel it before it is initialised again", (void *)w);
    *w = (struct kss_work){ .magic = KSS_WORK_MAGIC, .fn = fn, .arg = arg };
    return kss_timer_init(&w->timer, delay_over, w);
}

int kss_work_queue(struct kss_work *w)
{
    int r = check_call(w);
    return r < 0 ? r : queue(w, -1, 0);
}

int kss_work_queue_on(struct kss_work *w, unsigned cpu)
{
    int r = check_call(w);
    if (r < 0)
        return r;
    if (cpu >= kssi_current()->machine->cpus)
        return kssi_error(-EINVAL, "CPU %u: the machine has %u", cpu, kssi_current()->machine->cpus);
    return queue(w, (int)cpu, 0);
}

int kss_work_queue_delayed(struct kss_work *w, uint64_t ns)
{
    int r = check_call(w);
    if (r < 0)
        return r;
    uint64_t now = kssi_now(kssi_current()->machine);
    return queue(w, -1, ns < UINT64_MAX - 1 - now ? now + ns + !(now + ns) : UINT64_MAX - 1);
}

bool kss_work_pending(const struct kss_work *w)
{
    if (!kssi_require_kernel() || !w || w->magic != KSS_WORK_MAGIC)
        return false;
    return w->owner == kssi_current()->machine->number && __atomic_load_n(&w->state, __ATOMIC_RELAXED) != IDLE;
}

/* ---- cancelling and flushing ---------------------------------------------------------------------------------- */

int kss_work_cancel(struct kss_work *w)
{
    int r = check_call(w);
    if (r < 0)
        return r;
    bool on = kssi_irq_save();
    struct kssi_works *q = lock_works_of(w);
    unsigned was = w->state;
    if (was == QUEUED)
        unlink_item(q, w);
    __atomic_store_n(&w->state, IDLE, __ATOMIC_RELAXED);
    q->cancelled += was != IDLE;
    if (was == DELAYED)
        kss_timer_cancel(&w->timer);
    kss_spin_unlock(&q->lock, false);
    kssi_irq_restore(on);
    if (was == QUEUED)
        kss_wake_up(&q->flushed, 0); /* who waits for it to run waits for nothing */
    return was != IDLE;
}

/* From threads that may sleep, and are not the worker that is waited for. works NULL: any. */
static int check_flush(const struct kssi_works *q, const char *what)
{
    const struct kss_thread *t = kssi_current();
    if (kss_in_irq() || kss_in_softirq())
        return kssi_error(-EPERM, "%s in a hard irq or softirq handler: only threads may wait", what);
    if (t->worker && (!q || t == q->worker))
        return kssi_error(-EDEADLK, "%s in a work item of the same worker (%s): it would wait for itself", what,
                          t->name);
    return 0;
}

/* The queueing of that number, or one before, is still to run or running. */
static bool is_due(struct kssi_works *q, const struct kss_work *w, uint64_t number)
{
    bool on = kss_spin_lock(&q->lock);
    bool running = q->running && (!w || q->running == w) && q->running_number <= number;
    if (!w)
        running |= q->first && q->first->number <= number;
    else if (!running && q->running != w) /* else it may be gone by now */
        for (const struct kss_work *i = q->first; i && !running; i = i->next)
            running = i == w && i->number <= number;
    kss_spin_unlock(&q->lock, on);
    return running;
}

static int flush(struct kss_work *w, const char *what)
{
    bool on = kssi_irq_save();
    struct kssi_works *q = lock_works_of(w);
    bool delayed = w->state == DELAYED;
    int r = check_flush(q, what);
    if (r == 0 && delayed)
        append(q, w);
    uint64_t number = w->state == QUEUED ? w->number : q->running == w ? q->running_number : 0;
    if (r == 0 && delayed)
        kss_timer_cancel(&w->timer);
    kss_spin_unlock(&q->lock, false);
    kssi_irq_restore(on);
    if (r < 0 || !number)
        return r;
    if (delayed)
        kss_wake_up(&q->more, 1);
    r = kss_wait_event_killable(&q->flushed, !is_due(q, w, number));
    return r < 0 ? kssi_error(r, "killed or asked to stop while it waited for work item %p", (const void *)w) : 0;
}

int kss_work_flush(struct kss_work *w)
{
    int r = check_call(w);
    return r < 0 ? r : flush(w, "kss_work_flush()");
}

int kss_work_cancel_wait(struct kss_work *w)
{
    int r = check_call(w), was = 0;
    if (r == 0) /* before anything is done */
        r = check_flush(&kssi_current()->machine->cpu[w->cpu].works, "kss_work_cancel_wait()");
    if (r < 0)
        return r;
    do { /* its function may queue it again */
        was |= kss_work_cancel(w);
        r = flush(w, "kss_work_cancel_wait()");
        if (r == 0)
            r = kss_timer_cancel_wait(&w->timer); /* its function looks at the item */
    } while (r >= 0 && kss_work_pending(w));
    return r < 0 ? r : was;
}

int kss_work_flush_all(void)
{
    if (!kssi_require_kernel())
        return kssi_error(-EPERM, "work queues belong to the kernel of a simulated CPU");
    struct kss_machine *m = kssi_current()->machine;
    int r = check_flush(NULL, "kss_work_flush_all()");
    for (unsigned i = 0; i < m->cpus && r == 0; i++) {
        struct kssi_works *q = &m->cpu[i].works;
        uint64_t number = __atomic_load_n(&q->numbers, __ATOMIC_ACQUIRE);
        r = kss_wait_event_killable(&q->flushed, !is_due(q, NULL, number));
        if (r < 0)
            kssi_error(r, "killed or asked to stop while it waited for work items");
    }
    return r;
}

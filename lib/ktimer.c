/* SPDX-License-Identifier: MIT */
/*
 * Kernel timers: each CPU has a red-black tree of those that were armed on it, by time and then by order, under a lock
 * of its own. Its tick looks at the first; the softirq KSSI_SOFTIRQ_TIMERS runs what is due, interrupts on and no lock
 * held, so that a function may arm and cancel whatever it likes. Threads that sleep have a tree of theirs: timer.c.
 */
#include "kernel.h"

#include <errno.h>

#define BATCH 256 /* run in a round; where more are due, other softirqs and threads have a turn in between */

/* What kss_timer.node holds: the public header knows no tree. */
struct kssi_timer_node {
    RB_ENTRY(kssi_timer_node) link;
} __attribute__((may_alias));
_Static_assert(sizeof(struct kssi_timer_node) <= sizeof((struct kss_timer *)0)->node, "kss_timer.node is too small");

static inline struct kss_timer *timer_of(const struct kssi_timer_node *n)
{
    return n ? (struct kss_timer *)((uintptr_t)n - offsetof(struct kss_timer, node)) : NULL;
}

static inline struct kssi_timer_node *node_of(struct kss_timer *t)
{
    return (struct kssi_timer_node *)(void *)t->node;
}

static int compare(const struct kssi_timer_node *x, const struct kssi_timer_node *y)
{
    const struct kss_timer *a = timer_of(x), *b = timer_of(y);
    if (a->expires != b->expires)
        return a->expires < b->expires ? -1 : 1;
    return a->order < b->order ? -1 : a->order > b->order;
}

RB_PROTOTYPE_INTERNAL(kssi_ktimer_tree, kssi_timer_node, link, compare, static __attribute__((unused)))
RB_GENERATE_INTERNAL(kssi_ktimer_tree, kssi_timer_node, link, compare, static __attribute__((unused)))

/* ---- a CPU's timers: its lock held ------------------------------------------------------------------- */

static struct kss_timer *first_of(struct kssi_cpu *cpu)
{
    return timer_of(RB_MIN(kssi_ktimer_tree, &cpu->timers.tree));
}

static void note_next(struct kssi_cpu *cpu)
{
    const struct kss_timer *t = first_of(cpu);
    __atomic_store_n(&cpu->timers.next, t ? t->expires : UINT64_MAX, __ATOMIC_RELAXED);
}

static void insert(struct kssi_cpu *cpu, struct kss_timer *t)
{
    t->order = cpu->timers.order++;
    RB_INSERT(kssi_ktimer_tree, &cpu->timers.tree, node_of(t));
    __atomic_store_n(&t->pending, true, __ATOMIC_RELAXED);
    cpu->timers.armed++;
    note_next(cpu);
}

static void take_out(struct kssi_cpu *cpu, struct kss_timer *t)
{
    RB_REMOVE(kssi_ktimer_tree, &cpu->timers.tree, node_of(t));
    __atomic_store_n(&t->pending, false, __ATOMIC_RELAXED);
    note_next(cpu);
}

static bool disarm(struct kssi_cpu *cpu, struct kss_timer *t)
{
    if (!t->pending)
        return false;
    take_out(cpu, t);
    cpu->timers.cancelled++;
    return true;
}

/* ---- which CPU's it is -------------------------------------------------------------------------------- */

/* 0: of this machine's, or of none yet. Told by a number: another machine may come to lie where the first was. */
static int check_timer(const struct kss_timer *t, const struct kss_machine *m)
{
    if (!t)
        return kssi_error(-EINVAL, "timer is NULL");
    if (t->magic != KSS_TIMER_MAGIC)
        return kssi_error(-EINVAL, "timer %p was never initialised: call kss_timer_init() first", (const void *)t);
    uint64_t owner = __atomic_load_n(&t->owner, __ATOMIC_ACQUIRE);
    if (owner && owner != m->number)
        return kssi_error(-EINVAL, "timer %p was armed in another machine: call kss_timer_init() before it is used "
                          "here", (const void *)t);
    return 0;
}

static int check_call(const struct kss_timer *t)
{
    if (!kssi_require_kernel())
        return kssi_error(-EPERM, "timers belong to the kernel of a simulated CPU");
    return check_timer(t, kssi_current()->machine);
}

/* The CPU whose timer it is, locked: it changes under that CPU's lock only. A new one becomes this CPU's. Interrupts
   are off. */
static struct kssi_cpu *lock_cpu_of(struct kss_timer *t)
{
    struct kss_machine *m = kssi_current()->machine;
    uint64_t none = 0;
    if (!__atomic_load_n(&t->owner, __ATOMIC_ACQUIRE)) /* cpu is 0 until then */
        __atomic_compare_exchange_n(&t->owner, &none, m->number, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    for (;;) {
        unsigned index = __atomic_load_n(&t->cpu, __ATOMIC_ACQUIRE);
        struct kssi_cpu *cpu = &m->cpu[index < m->cpus ? index : 0];
        kss_spin_lock(&cpu->timers.lock);
        if (__atomic_load_n(&t->cpu, __ATOMIC_RELAXED) == index)
            return cpu;
        kss_spin_unlock(&cpu->timers.lock, false);
    }
}

/* Where its function runs right now it stays, so that whoever cancels it can see that. */
static void arm_here(struct kss_timer *t, uint64_t at, uint64_t period)
{
    bool on = kssi_irq_save();
    struct kssi_cpu *here = kssi_this_cpu(), *cpu = lock_cpu_of(t);
    while (cpu != here && cpu->timers.running != t) {
        disarm(cpu, t);
        __atomic_store_n(&t->cpu, here->index, __ATOMIC_RELEASE);
        kss_spin_unlock(&cpu->timers.lock, false);
        cpu = lock_cpu_of(t); /* somebody else may have armed it in between */
    }
    disarm(cpu, t);
    t->expires = at;
    t->period = period;
    insert(cpu, t);
    kss_spin_unlock(&cpu->timers.lock, on);
}

/* ---- expiry -------------------------------------------------------------------------------------------- */

void kssi_timers_tick(struct kssi_cpu *cpu)
{
    uint64_t next = __atomic_load_n(&cpu->timers.next, __ATOMIC_RELAXED);
    if (unlikely(next != UINT64_MAX) && kssi_now(cpu->machine) >= next)
        cpu->softirq_pending |= 1ull << KSSI_SOFTIRQ_TIMERS;
}

/* The first that is due, out of the tree, or in it again if it is periodic. NULL: none. */
static struct kss_timer *take_due(struct kssi_cpu *cpu, uint64_t now, kss_timer_fn *fn, void **arg)
{
    struct kss_timer *t = first_of(cpu);
    if (!t || t->expires > now)
        return NULL;
    take_out(cpu, t);
    cpu->timers.expired++;
    *fn = t->fn;
    *arg = t->arg;
    if (t->period) {
        t->expires += ((now - t->expires) / t->period + 1) * t->period;
        insert(cpu, t);
    }
    return t;
}

/* A softirq: on one CPU from beginning to end. */
static void run_due(void *arg)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    uint64_t now = kssi_now(cpu->machine);
    (void)arg;
    for (int i = 0; i < BATCH; i++) {
        kss_timer_fn fn = NULL;
        void *fn_arg = NULL;
        bool on = kss_spin_lock(&cpu->timers.lock);
        struct kss_timer *t = cpu->timers.running = take_due(cpu, now, &fn, &fn_arg);
        kss_spin_unlock(&cpu->timers.lock, on);
        if (!t)
            return;
        fn(t, fn_arg);
        __atomic_store_n(&cpu->timers.running, NULL, __ATOMIC_RELEASE); /* t may be gone */
    }
    bool on = kssi_irq_save();
    cpu->softirq_pending |= 1ull << KSSI_SOFTIRQ_TIMERS;
    kssi_irq_restore(on);
}

void kssi_timers_init(struct kssi_cpu *cpu)
{
    struct kssi_softirq *s = &cpu->machine->softirq[KSSI_SOFTIRQ_TIMERS];
    RB_INIT(&cpu->timers.tree);
    kss_spinlock_init(&cpu->timers.lock, "timers");
    cpu->timers.next = UINT64_MAX;
    *s = (struct kssi_softirq){ .handler = run_due, .name = "timers" };
}

/* ---- public -------------------------------------------------------------------------------------------- */

int kss_timer_init(struct kss_timer *t, kss_timer_fn fn, void *arg)
{
    if (kssi_this_cpu())
        kssi_require_kernel();
    if (!t || !fn)
        return kssi_error(-EINVAL, t ? "the timer's function is NULL" : "timer is NULL");
    if (kssi_this_cpu() && t->magic == KSS_TIMER_MAGIC && t->owner == kssi_current()->machine->number && t->pending)
        return kssi_error(-EBUSY, "timer %p is armed: cancel it before it is initialised again", (void *)t);
    *t = (struct kss_timer){ .magic = KSS_TIMER_MAGIC, .fn = fn, .arg = arg };
    return 0;
}

static uint64_t in(uint64_t ns)
{
    uint64_t now = kssi_now(kssi_current()->machine);
    return ns < UINT64_MAX - 1 - now ? now + ns : UINT64_MAX - 1;
}

int kss_timer_arm(struct kss_timer *t, uint64_t ns)
{
    int r = check_call(t);
    if (r == 0)
        arm_here(t, in(ns), 0);
    return r;
}

int kss_timer_arm_at(struct kss_timer *t, uint64_t at)
{
    int r = check_call(t);
    if (r == 0)
        arm_here(t, at < UINT64_MAX ? at : UINT64_MAX - 1, 0);
    return r;
}

int kss_timer_arm_periodic(struct kss_timer *t, uint64_t ns, uint64_t period)
{
    int r = check_call(t);
    if (r == 0 && (!period || period > INT64_MAX))
        r = kssi_error(-EINVAL, "a period of %llu ns: 1 to %lld", (unsigned long long)period, (long long)INT64_MAX);
    if (r == 0)
        arm_here(t, in(ns), period);
    return r;
}

/* *cpu: where its function may be under way. */
static int cancel(struct kss_timer *t, struct kssi_cpu **cpu)
{
    bool on = kssi_irq_save();
    *cpu = lock_cpu_of(t);
    bool was = disarm(*cpu, t);
    kss_spin_unlock(&(*cpu)->timers.lock, on);
    return was;
}

int kss_timer_cancel(struct kss_timer *t)
{
    struct kssi_cpu *cpu;
    int r = check_call(t);
    return r < 0 ? r : cancel(t, &cpu);
}

int kss_timer_cancel_wait(struct kss_timer *t)
{
    struct kssi_cpu *cpu;
    int r = check_call(t);
    if (r < 0)
        return r;
    const struct kss_thread *self = kssi_current();
    if (kss_in_irq() || kss_in_softirq() || self->locks_held || !kssi_irqs_on())
        return kssi_error(-EDEADLK, "kss_timer_cancel_wait() %s: the timer's function might never end",
                          self->locks_held ? "with a spinlock held" : kss_in_irq() || kss_in_softirq()
                                           ? "in a handler" : "with interrupts off");
    /* The function may arm it again just before it ends. */
    do {
        r |= cancel(t, &cpu);
        while (__atomic_load_n(&cpu->timers.running, __ATOMIC_ACQUIRE) == t && !cpu->machine->stopping)
            kssi_relax();
    } while (__atomic_load_n(&t->pending, __ATOMIC_RELAXED) && !cpu->machine->stopping);
    return r;
}

bool kss_timer_pending(const struct kss_timer *t)
{
    if (!kssi_require_kernel() || !t || t->magic != KSS_TIMER_MAGIC)
        return false;
    return t->owner == kssi_current()->machine->number && __atomic_load_n(&t->pending, __ATOMIC_RELAXED);
}

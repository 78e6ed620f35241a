/* SPDX-License-Identifier: MIT */
/*
 * Softirqs: the deferred half of an interrupt. They run at the end of the outermost hard irq handler, interrupts on,
 * on the CPU's softirq stack where interrupts have stacks of their own, else on the stack in use. One that is raised
 * again while they run is run again, ROUNDS times at most; the rest is left to the CPU's worker, a kernel thread that
 * has its turn like all threads, so that a flood starves nobody. Until that runs, each interrupt does ROUNDS more.
 */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>

#define ROUNDS 10
#define WORKER_NS 2000000 /* so long does the worker keep the CPU, if its time slice lets it */

/* Interrupts on, and again when it returns, whatever the handler does. */
static void run_one(struct kssi_cpu *cpu, unsigned number)
{
    struct kss_thread *t = cpu->current;
    const struct kssi_softirq *s = &cpu->machine->softirq[number];
    struct kssi_atomic was = kssi_atomic_state(t, true);
    KSSI_TRACE(cpu->machine, KSS_TR_SOFTIRQ_IN, number, (uintptr_t)__builtin_frame_address(0), 0, 0);
    s->handler(s->arg);
    KSSI_TRACE(cpu->machine, KSS_TR_SOFTIRQ_OUT, number, 0, 0, 0);
    bool on = kssi_irqs_on();
    if (kssi_atomic_kept(t, &was, on))
        return;
    kssi_irq_disable();
    kssi_report_leak(t, t->tf, (int)number, &was, on);
    kssi_irq_enable();
}

static void run_all(void *arg)
{
    struct kssi_cpu *cpu = arg;
    uint64_t *rounds = cpu->in_worker ? &cpu->stats.softirq_worker_rounds : &cpu->stats.softirq_rounds;
    for (int round = 0; round < ROUNDS && cpu->softirq_pending && !cpu->machine->stopping; round++) {
        uint64_t bits = cpu->softirq_pending;
        cpu->softirq_pending = 0; /* interrupts are off: what is raised from here on is run in the next round */
        ++*rounds;
        kssi_irq_enable_at(cpu->machine, (uintptr_t)kssi_softirq_run, 0);
        for (; bits; bits &= bits - 1)
            run_one(cpu, (unsigned)__builtin_ctzll(bits));
        kssi_irq_disable();
        if (unlikely(cpu->latency != NULL))
            kssi_latency_irqs_off((uintptr_t)kssi_softirq_run, 0);
    }
}

/* Interrupts off. The CPU cannot change under it: nothing is scheduled while in_softirq is set. */
static void run_rounds(struct kssi_cpu *cpu)
{
    const struct kssi_range *own = &cpu->stacks.vector[KSSI_STACK_SOFTIRQ];
    cpu->in_softirq = true;
    if (own->high && cpu->machine->config.irq_stacks == KSS_IRQ_STACKS_PER_CPU) {
        ((struct kss_thread_info *)own->low)->thread = cpu->current;
        kssi_call_on(own, run_all, cpu);
    } else {
        run_all(cpu);
    }
    cpu->in_softirq = false;
}

/* ---- the worker ---------------------------------------------------------------------------------- */

static bool pending_here(void)
{
    bool on = kssi_irq_save();
    bool pending = kssi_this_cpu()->softirq_pending != 0;
    kssi_irq_restore(on);
    return pending;
}

/* ROUNDS of them, then whoever else is due has its turn. An interrupt in between may do the rest itself. */
static void work_off(struct kss_machine *m)
{
    uint64_t start = kssi_now(m);
    while (pending_here()) {
        kssi_irq_disable();
        struct kssi_cpu *cpu = kssi_this_cpu();
        cpu->in_worker = true;
        run_rounds(cpu);
        cpu->in_worker = false;
        kssi_irq_enable();
        uint64_t now = kssi_now(m);
        if (kssi_current()->ti->flags & KSS_TI_NEED_RESCHED)
            kssi_schedule(KSS_SWITCH_PREEMPT);
        else if (now - start >= WORKER_NS)
            kssi_schedule(KSS_SWITCH_YIELD);
        else
            continue;
        start = kssi_now(m);
    }
}

/* It stays on its CPU; where that was taken out, it finds nothing to do on the others, and the interrupts that the CPU
   still takes do it. */
static long worker_main(void *arg)
{
    struct kssi_cpu *cpu = arg;
    for (;;) {
        (void)kss_wait_event_killable(&cpu->softirq_more, pending_here());
        work_off(cpu->machine);
    }
    return 0;
}

/* Made when there is work for it for the first time: on most CPUs there never is. Without it, for want of memory, what
   is left waits for the next interrupt. Interrupts off. */
static void wake_worker(struct kssi_cpu *cpu)
{
    char name[KSS_NAME_MAX];
    int error = 0;
    if (cpu->softirq_worker) {
        kss_wake_up(&cpu->softirq_more, 1);
        return;
    }
    snprintf(name, sizeof name, "ksoftirqd/%u", cpu->index);
    kss_wait_queue_init(&cpu->softirq_more, "softirqs");
    struct kss_thread *t = kssi_kthread_new(cpu->machine, name, worker_main, cpu, 0, (int)cpu->index, &error);
    if (!t)
        return;
    t->worker = true;
    cpu->softirq_worker = t;
    kssi_sched_start_thread(t);
}

/* Interrupts off, and not in softirqs. */
void kssi_softirq_run(struct kssi_cpu *cpu)
{
    run_rounds(cpu);
    if (unlikely(cpu->softirq_pending && !cpu->machine->stopping))
        wake_worker(cpu);
}

/* ---- public ---------------------------------------------------------------------------------------- */

int kss_softirq_request(struct kss_machine *m, unsigned number, kss_softirq_fn handler, void *arg, const char *name)
{
    int r = kssi_require_config(m);
    if (r < 0)
        return r;
    if (number >= KSS_SOFTIRQS || !handler)
        return kssi_error(-EINVAL, "softirq %u: 0 to %d, with a handler", number, KSS_SOFTIRQS - 1);
    struct kssi_softirq *s = &m->softirq[number];
    if (s->handler)
        return kssi_error(-EBUSY, "softirq %u is taken by %s", number, s->name);
    s->arg = arg;
    snprintf(s->name, sizeof s->name, "%s", name ? name : "");
    __atomic_store_n(&s->handler, handler, __ATOMIC_RELEASE);
    return 0;
}

int kss_softirq_raise(unsigned number)
{
    if (!kssi_require_kernel())
        return kssi_error(-EPERM, "softirqs belong to the kernel of a simulated CPU");
    struct kss_machine *m = kssi_this_cpu()->machine;
    if (number >= KSS_SOFTIRQS || !m->softirq[number].handler)
        return kssi_error(-EINVAL, "softirq %u: there is none, or it has no handler", number);
    bool on = kssi_irq_save();
    struct kssi_cpu *cpu = kssi_this_cpu();
    cpu->softirq_pending |= 1ull << number;
    if (on && !cpu->in_softirq && !cpu->irq_depth)
        kssi_softirq_run(cpu); /* from a thread: at once */
    if (on)
        kssi_irq_enable_at(m, (uintptr_t)__builtin_return_address(0), 0);
    return 0;
}

bool kss_in_softirq(void)
{
    if (!kssi_require_kernel())
        return false;
    bool on = kssi_irq_save(); /* see kss_in_irq() */
    bool in = kssi_this_cpu()->in_softirq;
    kssi_irq_restore(on);
    return in;
}

/* ---- how deep it gets ---------------------------------------------------------------------------- */

static size_t deepest(struct kss_machine *m, const struct kssi_range *r, size_t so_far)
{
    size_t n = r->high ? kssi_kstack_high_water(r->low, r->high - r->low, m->config.poison) : 0;
    return n > so_far ? n : so_far;
}

int kss_stack_depths(struct kss_machine *m, struct kss_stack_depths *d)
{
    int r = kssi_require_view(m);
    if (r < 0)
        return r;
    if (!d)
        return kssi_error(-EINVAL, "no place for the depths");
    if (!m->config.poison)
        return kssi_error(-ENODATA, "kss_config.poison is off: nothing shows how far stacks were used");
    bool on = kss_spin_lock(&m->tree_lock); /* no stack goes while it is read */
    *d = (struct kss_stack_depths){ .task = m->deepest_task };
    for (unsigned i = 0; i < m->id_slots; i++) {
        const struct kss_thread *t = m->by_id[i];
        if (!t || !t->ti || !t->kstack_arena)
            continue;
        uintptr_t low = (uintptr_t)t->ti;
        struct kssi_range own = { low, low + t->kstack_arena->size };
        d->task = deepest(m, &own, d->task);
    }
    kss_spin_unlock(&m->tree_lock, on);
    unsigned nmi = m->vectors.gate[KSS_VEC_NMI].stack;
    for (unsigned i = 0; i < m->cpus; i++) {
        const struct kssi_cpu_stacks *s = &m->cpu[i].stacks;
        d->softirq = deepest(m, &s->vector[KSSI_STACK_SOFTIRQ], d->softirq);
        d->hard_irq = deepest(m, &s->irq, d->hard_irq);
        d->nmi = nmi ? deepest(m, &s->vector[nmi], d->nmi) : 0;
    }
    d->worst = d->task + d->softirq + d->hard_irq + d->nmi;
    return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Softirqs: the deferred half of an interrupt. They run at the end of the outermost hard irq handler, interrupts on,
 * on the CPU's softirq stack where interrupts have stacks of their own, else on the stack in use. One that is raised
 * again while they run is run again, ROUNDS times at most; the rest waits for the next interrupt, so that a flood does
 * not starve threads for ever.
 */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>

#define ROUNDS 10

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
    for (int round = 0; round < ROUNDS && cpu->softirq_pending && !cpu->machine->stopping; round++) {
        uint32_t bits = cpu->softirq_pending;
        cpu->softirq_pending = 0; /* interrupts are off: what is raised from here on is run in the next round */
        kssi_irq_enable();
        for (; bits; bits &= bits - 1)
            run_one(cpu, (unsigned)__builtin_ctz(bits));
        kssi_irq_disable();
    }
}

/* Interrupts off. The CPU cannot change under it: nothing is scheduled while in_softirq is set. */
void kssi_softirq_run(struct kssi_cpu *cpu)
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
    cpu->softirq_pending |= 1u << number;
    if (on && !cpu->in_softirq && !cpu->irq_depth)
        kssi_softirq_run(cpu); /* from a thread: at once */
    kssi_irq_restore(on);
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

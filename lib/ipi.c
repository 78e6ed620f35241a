/* SPDX-License-Identifier: MIT */
/*
 * Interrupts from one CPU to another: to schedule, to call a function. Raising one takes no lock, so that it can be
 * done with any held.
 */
#include "kernel.h"

#include <errno.h>

/* ---- to schedule --------------------------------------------------------------------------------- */

/*
 * The flag is the CPU's own thread's, so the CPU itself sets it. What is to be found by the scheduler there was
 * written before: either that CPU has yet to take sched_lock and sees it, or the interrupt comes after it has let go.
 */
void kssi_resched_cpu(struct kssi_cpu *cpu)
{
    if (cpu == kssi_this_cpu())
        kssi_set_need_resched(cpu->current);
    else if (!atomic_exchange(&cpu->resched_sent, true))
        cpu->machine->platform->raise(cpu->machine, cpu->index, KSS_LINE_RESCHED, 1);
}

void kssi_interrupt_thread(struct kss_thread *t)
{
    struct kss_machine *m = t->machine;
    if (m->cpus > 1 && __atomic_load_n(&t->on_cpu, __ATOMIC_SEQ_CST) && t != kssi_current())
        kssi_resched_cpu(&m->cpu[__atomic_load_n(&t->cpu, __ATOMIC_RELAXED)]);
}

void kssi_on_resched(unsigned line, void *arg)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    (void)arg;
    /* First, so that there is no moment in which neither says that somebody has sent for it. What is sent for before the
       next line is found by the scheduler, which is called after this. Not sent: the CPU's own, see host.c. */
    kssi_set_need_resched(cpu->current);
    if (atomic_exchange(&cpu->resched_sent, false))
        cpu->stats.reschedules++;
    kss_irq_eoi(line);
}

/* ---- to call a function -------------------------------------------------------------------------- */

/* One call at a time in a machine; whoever waits for its turn, or for the end, has interrupts on and is called itself. */

void kssi_on_call(unsigned line, void *arg)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct kssi_call *c = &cpu->machine->call;
    (void)arg;
    if (atomic_exchange(&cpu->call_due, false)) {
        c->fn(c->arg);
        kssi_irq_disable(); /* whatever it left */
        cpu->stats.calls++;
        if (atomic_fetch_sub(&c->pending, 1) == 1) {
            atomic_fetch_add(&c->done, 1);
            atomic_store(&c->busy, false);
        }
    }
    kss_irq_eoi(line);
}

static bool take_turn(struct kss_machine *m)
{
    while (atomic_exchange(&m->call.busy, true)) {
        if (m->stopping)
            return false;
        kssi_relax();
    }
    return true;
}

static void call_here(struct kssi_cpu *cpu, kss_cpu_fn fn, void *arg)
{
    bool on = kssi_irq_save();
    fn(arg);
    kssi_irq_disable();
    cpu->stats.calls++;
    kssi_irq_restore(on);
}

/* Preemption is off: this CPU stays the same. Returns how many others are called. */
static unsigned call_others(struct kssi_cpu *here, const struct kss_cpumask *cpus, kss_cpu_fn fn, void *arg, bool wait)
{
    struct kss_machine *m = here->machine;
    struct kssi_call *c = &m->call;
    struct kss_cpumask set = *cpus;
    unsigned n = 0;
    for (unsigned i = 0; i < KSS_CPUS_MAX / 64; i++)
        set.bits[i] &= m->online.bits[i];
    kss_cpumask_clear(&set, here->index);
    if (kss_cpumask_empty(&set) || !take_turn(m))
        return 0;
    n = kss_cpumask_count(&set);
    unsigned number = atomic_load(&c->done);
    c->fn = fn;
    c->arg = arg;
    atomic_store(&c->pending, n);
    for (int i = kss_cpumask_first(&set); i >= 0; i = kss_cpumask_next(&set, (unsigned)i + 1)) {
        atomic_store(&m->cpu[i].call_due, true);
        m->platform->raise(m, (unsigned)i, KSS_LINE_CALL, 1);
    }
    while (wait && atomic_load(&c->done) == number && !m->stopping)
        kssi_relax();
    return n;
}

int kss_cpu_call(const struct kss_cpumask *cpus, kss_cpu_fn fn, void *arg, bool wait)
{
    if (!kssi_require_kernel())
        return kssi_error(-EPERM, "functions can be called on CPUs by kernel code of a simulated CPU only");
    if (!cpus || !fn)
        return kssi_error(-EINVAL, cpus ? "the function to call is NULL" : "the set of CPUs is NULL");
    struct kss_thread *t = kssi_current();
    if (!kssi_irqs_on() || kss_in_irq() || kss_in_softirq() || t->locks_held)
        return kssi_error(-EDEADLK, "a call of other CPUs with %s: they may be waiting for this one",
                          t->locks_held ? "a spinlock held" : kssi_irqs_on() ? "a handler under way" : "interrupts off");
    kss_preempt_disable();
    struct kssi_cpu *here = kssi_this_cpu();
    unsigned n = call_others(here, cpus, fn, arg, wait);
    if (kss_cpumask_test(cpus, here->index)) {
        call_here(here, fn, arg);
        n++;
    }
    kss_preempt_enable();
    return (int)n;
}

int kss_cpu_id(void)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    return cpu ? (int)cpu->index : kssi_error(-EPERM, "this is no simulated CPU");
}

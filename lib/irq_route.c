/* SPDX-License-Identifier: MIT */
/*
 * Where devices' interrupts go, and that none is under way any more. A line goes to one CPU at a time, the lowest of its
 * set that is online, as on a PC: taking turns would have a driver's handler run on two CPUs at once, and an experiment
 * see other numbers in each run. Whoever wants the load spread gives its lines different CPUs.
 */
#include "kernel.h"

#include <errno.h>

static bool is_per_cpu(unsigned line)
{
    return line == KSS_LINE_TIMER || line == KSS_LINE_STOP || line == KSS_LINE_RESCHED || line == KSS_LINE_CALL;
}

static int check(int r, unsigned line)
{
    if (r == 0 && line >= KSS_IRQ_LINES)
        r = kssi_error(-EINVAL, "IRQ line %u: lines are 0 to %d", line, KSS_IRQ_LINES - 1);
    return r;
}

/* ---- affinity ------------------------------------------------------------------------------------ */

/* The sets are read a word at a time, while somebody may change them: the answer was right for a moment. */
unsigned kssi_irq_cpu(struct kss_machine *m, unsigned line)
{
    int any = -1;
    for (unsigned i = 0; i < KSS_CPUS_MAX / 64; i++) {
        uint64_t online = __atomic_load_n(&m->online.bits[i], __ATOMIC_RELAXED);
        uint64_t both = online & atomic_load_explicit(&m->irq[line].affinity[i], memory_order_relaxed);
        if (both)
            return i * 64 + (unsigned)__builtin_ctzll(both);
        if (online && any < 0)
            any = (int)(i * 64 + (unsigned)__builtin_ctzll(online));
    }
    return any < 0 ? 0 : (unsigned)any;
}

int kss_irq_set_affinity(struct kss_machine *m, unsigned line, const struct kss_cpumask *cpus)
{
    int r = check(kssi_require_config(m), line);
    if (r < 0)
        return r;
    if (!cpus)
        return kssi_error(-EINVAL, "IRQ line %u: the set of CPUs is NULL", line);
    if (is_per_cpu(line))
        return kssi_error(-EBUSY, "IRQ line %u is each CPU's own: it goes where it is raised", line);
    struct kss_cpumask set = kss_cpumask_all(m->cpus);
    for (unsigned i = 0; i < KSS_CPUS_MAX / 64; i++)
        set.bits[i] &= cpus->bits[i];
    if (kss_cpumask_empty(&set))
        return kssi_error(-EINVAL, "IRQ line %u: none of the machine's %u CPUs is in the set", line, m->cpus);
    bool on = kss_spin_lock(&m->irq_lock);
    for (unsigned i = 0; i < KSS_CPUS_MAX / 64; i++)
        atomic_store_explicit(&m->irq[line].affinity[i], set.bits[i], memory_order_relaxed);
    kss_spin_unlock(&m->irq_lock, on);
    return 0;
}

int kss_irq_get_affinity(struct kss_machine *m, unsigned line, struct kss_cpumask *cpus)
{
    int r = check(kssi_valid_machine(m), line);
    if (r == 0 && !cpus)
        r = kssi_error(-EINVAL, "IRQ line %u: no place for the set of CPUs", line);
    for (unsigned i = 0; r == 0 && i < KSS_CPUS_MAX / 64; i++)
        cpus->bits[i] = atomic_load_explicit(&m->irq[line].affinity[i], memory_order_relaxed);
    return r;
}

int kss_irq_route(struct kss_machine *m, unsigned line)
{
    struct kssi_hold hold;
    if (!kssi_machine_hold(m, &hold))
        return -EINVAL; /* no sentence: host signal handlers may call this */
    int r = line < KSS_IRQ_LINES ? (int)kssi_irq_cpu(m, line) : -EINVAL;
    kssi_machine_drop(&hold);
    return r;
}

/* ---- taking a handler away ----------------------------------------------------------------------- */

/*
 * Interrupts are on: a handler that interrupts this thread is over when it goes on, here or on whichever CPU it has come
 * to. One on another CPU is waited for; it needs nothing of this one.
 */
static void wait_until_unused(struct kss_machine *m, unsigned line)
{
    for (unsigned i = 0; i < m->cpus; i++)
        while ((atomic_load(&m->cpu[i].handling) >> line & 1) && !m->stopping && kssi_this_cpu() != &m->cpu[i])
            kssi_relax();
}

int kss_irq_free(struct kss_machine *m, unsigned line)
{
    int r = check(kssi_require_config(m), line);
    if (r < 0)
        return r;
    if (is_per_cpu(line))
        return kssi_error(-EBUSY, "IRQ line %u is the machine's own", line);
    bool on_cpu = kssi_this_cpu() != NULL;
    if (on_cpu && (kss_in_irq() || kss_in_softirq() || kssi_current()->locks_held || !kssi_irqs_on()))
        return kssi_error(-EDEADLK, "IRQ line %u can't be freed in a handler, with a spinlock held or interrupts off: its "
                          "handler, which is waited for, may need what the caller has", line);
    struct kssi_irq_desc *d = &m->irq[line];
    bool on = kss_spin_lock(&m->irq_lock);
    bool had = d->handler != NULL;
    if (had) {
        d->freeing = true;
        atomic_store(&d->handler, NULL);
    }
    kss_spin_unlock(&m->irq_lock, on);
    if (!had)
        return kssi_error(-ENOENT, "IRQ line %u has no handler", line);
    if (on_cpu)
        wait_until_unused(m, line);
    on = kss_spin_lock(&m->irq_lock);
    d->arg = NULL;
    d->freeing = false;
    kss_spin_unlock(&m->irq_lock, on);
    return 0;
}

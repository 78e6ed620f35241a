/* SPDX-License-Identifier: MIT */
/*
 * CPUs taken out and put back while the machine runs. A CPU that is out stands in its idle thread and is given no
 * other; it still takes interrupts, and its tick goes on, for what was armed on it.
 */
#include "sched_class.h"

#include <errno.h>

static int check_caller(unsigned index)
{
    if (!kssi_require_kernel())
        return kssi_error(-EPERM, "CPUs are taken out and put back by kernel code of a simulated CPU only");
    struct kss_thread *t = kssi_current();
    struct kss_machine *m = t->machine;
    if (index >= m->cpus)
        return kssi_error(-EINVAL, "CPU %u: the machine has %u", index, m->cpus);
    if (kss_in_irq() || kss_in_softirq() || t->locks_held || !kssi_irqs_on() || t->ti->preempt_count)
        return kssi_error(-EPERM, "CPU %u can't be taken out or put back from a handler, with a spinlock held, with "
                          "interrupts off or preemption disabled", index);
    return 0;
}

static void move(struct kss_thread *t)
{
    struct kss_machine *m = t->machine;
    kssi_dsq_remove(t);
    t->cpu = kssi_select_cpu(t);
    kssi_dsq_insert_fifo(t, m->cpu[t->cpu].local, t->slice_ns);
    kssi_resched_cpu(&m->cpu[t->cpu]);
}

/* Threads that wait for it go to others. sched_lock. */
static void drain(struct kssi_cpu *cpu)
{
    struct kss_thread *t;
    while ((t = kssi_dsq_first(cpu->local)))
        move(t);
}

/* Threads that had to go elsewhere while all their CPUs were out come back, as soon as they are interrupted: nobody
   would take those that wait there, if the CPU that is back has enough to do. sched_lock. */
static void call_back(struct kss_machine *m)
{
    for (unsigned i = 0; i < m->cpus; i++) {
        struct kssi_cpu *other = &m->cpu[i];
        struct kss_thread *t;
        while ((t = kssi_dsq_first_not_for(other->local, i)))
            move(t);
        t = other->current;
        if (t != other->idle && t->pinned && !kssi_may_run_on(t, i))
            kssi_resched_cpu(other);
    }
}

int kss_cpu_down(unsigned index)
{
    int r = check_caller(index);
    if (r < 0)
        return r;
    struct kss_machine *m = kssi_current()->machine;
    struct kssi_cpu *cpu = &m->cpu[index];
    bool on = kss_spin_lock(&m->sched_lock);
    bool was = kss_cpumask_test(&m->online, index);
    if (was && kss_cpumask_count(&m->online) == 1)
        r = -EBUSY;
    if (was && r == 0) {
        kss_cpumask_clear(&m->online, index);
        kss_cpumask_clear(&m->idle, index);
        CLASS(m, cpu_offline, NULL, index);
        drain(cpu);
        kssi_resched_cpu(cpu);
    }
    kss_spin_unlock(&m->sched_lock, on);
    if (r < 0)
        return kssi_error(r, "CPU %u is the last one that is online", index);
    for (bool idle = false; !idle && !m->stopping;) {
        on = kss_spin_lock(&m->sched_lock);
        idle = cpu->current == cpu->idle || kss_cpumask_test(&m->online, index); /* or somebody has put it back */
        kss_spin_unlock(&m->sched_lock, on);
        if (!idle)
            kssi_schedule(KSS_SWITCH_YIELD); /* off this CPU, if it is the one */
    }
    return 0;
}

int kss_cpu_up(unsigned index)
{
    int r = check_caller(index);
    if (r < 0)
        return r;
    struct kss_machine *m = kssi_current()->machine;
    struct kssi_cpu *cpu = &m->cpu[index];
    bool on = kss_spin_lock(&m->sched_lock);
    if (!kss_cpumask_test(&m->online, index)) {
        kss_cpumask_set(&m->online, index);
        if (cpu->current == cpu->idle)
            kss_cpumask_set(&m->idle, index);
        CLASS(m, cpu_online, NULL, index);
        kssi_resched_cpu(cpu);
        call_back(m);
    }
    kss_spin_unlock(&m->sched_lock, on);
    return 0;
}

int kss_cpus_online(struct kss_machine *m, struct kss_cpumask *online)
{
    int r = kssi_valid_machine(m);
    if (r < 0)
        return r;
    if (!online)
        return kssi_error(-EINVAL, "no place for the set of CPUs");
    *online = m->online;
    return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * Which CPU a thread runs on, where its class does not say. Each CPU has a queue of its own, so that threads stay where
 * their memory is warm; idle CPUs take from others, and at ticks busy ones that have much less to do. Everything here
 * runs with sched_lock held.
 */
#include "sched_class.h"

#define BALANCE_TICKS 4

static bool intersect(const struct kss_cpumask *a, const struct kss_cpumask *b)
{
    return (a->bits[0] & b->bits[0]) | (a->bits[1] & b->bits[1]) | (a->bits[2] & b->bits[2]) | (a->bits[3] & b->bits[3]);
}

bool kssi_may_run_on(const struct kss_thread *t, unsigned cpu)
{
    const struct kss_machine *m = t->machine;
    if (m->cpus == 1)
        return true;
    if (!kss_cpumask_test(&m->online, cpu))
        return false;
    return !t->pinned || kss_cpumask_test(&t->allowed, cpu) || !intersect(&t->allowed, &m->online);
}

/* One that has been sent for already is not idle any more: by what it is to find, which need not be in its own queue,
   or by the interrupt that is on its way, or by that one's mark. */
static bool is_idle(const struct kss_machine *m, unsigned cpu)
{
    const struct kssi_cpu *c = &m->cpu[cpu];
    return kss_cpumask_test(&m->idle, cpu) && !kssi_dsq_count(c->local) && !atomic_load(&c->resched_sent) &&
           !(__atomic_load_n(&c->idle->ti->flags, __ATOMIC_SEQ_CST) & KSS_TI_NEED_RESCHED);
}

static int idle_cpu_for(const struct kss_thread *t, unsigned from)
{
    const struct kss_machine *m = t->machine;
    for (int cpu = kss_cpumask_next(&m->idle, from); cpu >= 0; cpu = kss_cpumask_next(&m->idle, (unsigned)cpu + 1))
        if (is_idle(m, (unsigned)cpu) && kssi_may_run_on(t, (unsigned)cpu))
            return cpu;
    return -1;
}

/* Where it ran last if that is idle; else another idle one, the next ones first; else the least loaded, at home if that
   is nearly so. */
unsigned kssi_select_cpu(const struct kss_thread *t)
{
    const struct kss_machine *m = t->machine;
    unsigned home = t->cpu, best = home, least = UINT32_MAX;
    bool at_home = kssi_may_run_on(t, home);
    if (m->cpus == 1 || (at_home && is_idle(m, home)))
        return home;
    int cpu = idle_cpu_for(t, home);
    if (cpu < 0)
        cpu = idle_cpu_for(t, 0);
    if (cpu >= 0)
        return (unsigned)cpu;
    for (unsigned i = 0; i < m->cpus; i++) {
        unsigned n = kssi_dsq_count(m->cpu[i].local);
        if (n < least && kssi_may_run_on(t, i)) {
            least = n;
            best = i;
        }
    }
    return at_home && kssi_dsq_count(m->cpu[home].local) <= least + 1 ? home : best;
}

void kssi_kick_idle_for(const struct kss_thread *t)
{
    struct kss_machine *m = t->machine;
    if (kss_cpumask_empty(&m->idle))
        return;
    /* Where it is queued, or anywhere: the one does not look idle any more, the other would steal it. */
    int cpu = kss_cpumask_test(&m->idle, t->cpu) ? (int)t->cpu : idle_cpu_for(t, 0);
    if (cpu >= 0)
        kssi_resched_cpu(&m->cpu[cpu]);
}

/* The CPU with the longest queue in which somebody waits who may run here, and that one. */
static struct kss_thread *from_busiest(struct kssi_cpu *cpu, unsigned at_least)
{
    struct kss_machine *m = cpu->machine;
    struct kss_thread *found = NULL;
    for (unsigned i = 1; i < m->cpus; i++) {
        struct kssi_dsq *q = m->cpu[(cpu->index + i) % m->cpus].local;
        struct kss_thread *t = kssi_dsq_count(q) >= at_least ? kssi_dsq_first_for(q, cpu->index) : NULL;
        if (!t)
            continue;
        found = t;
        at_least = kssi_dsq_count(q) + 1;
    }
    if (found)
        kssi_dsq_remove(found);
    return found;
}

struct kss_thread *kssi_steal(struct kssi_cpu *cpu)
{
    return from_busiest(cpu, 1);
}

/* At an idle CPU's tick, without the lock: somebody may wait for a CPU that has its interrupts off for long, and that had
   other plans when the thread was queued. */
void kssi_balance_idle(struct kssi_cpu *cpu)
{
    struct kss_machine *m = cpu->machine;
    if (m->cpus == 1 || ++cpu->balance_ticks < BALANCE_TICKS || !kss_cpumask_test(&m->online, cpu->index))
        return;
    cpu->balance_ticks = 0;
    for (unsigned i = 0; i < m->cpus; i++)
        if (kssi_dsq_count(m->cpu[i].local)) {
            kssi_set_need_resched(cpu->idle);
            return;
        }
}

void kssi_balance(struct kssi_cpu *cpu)
{
    struct kss_machine *m = cpu->machine;
    if (m->sched->enqueue || ++cpu->balance_ticks < BALANCE_TICKS || !kss_cpumask_test(&m->online, cpu->index))
        return;
    cpu->balance_ticks = 0;
    struct kss_thread *t = from_busiest(cpu, kssi_dsq_count(cpu->local) + 2);
    if (!t)
        return;
    t->cpu = cpu->index;
    kssi_dsq_insert_fifo(t, cpu->local, t->slice_ns);
}

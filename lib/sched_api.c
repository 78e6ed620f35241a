/* SPDX-License-Identifier: MIT */
/* What a scheduler class may ask and say; and the life of the class in a machine. */
#include "sched_class.h"

#include <errno.h>
#include <stdlib.h>

static void kick(struct kss_machine *m, unsigned index, unsigned flags)
{
    struct kssi_cpu *cpu = &m->cpu[index];
    struct kss_thread *t = __atomic_load_n(&cpu->current, __ATOMIC_RELAXED);
    if (t != cpu->idle && !(flags & KSS_KICK_PREEMPT))
        return;
    if (t != cpu->idle)
        __atomic_store_n(&t->slice_ns, 0, __ATOMIC_RELAXED); /* without the lock: one that runs out late, at worst */
    kssi_resched_cpu(cpu);
}

void kss_kick_cpu(int index, unsigned flags)
{
    if (!kssi_require_kernel())
        return;
    struct kss_machine *m = kssi_this_cpu()->machine;
    bool on = kssi_irq_save(); /* the CPU that is compared with stays the caller's */
    if (index >= 0 && (unsigned)index < m->cpus)
        kick(m, (unsigned)index, flags);
    kssi_irq_restore(on);
}

struct kss_thread *kss_cpu_running(int index)
{
    if (!kssi_require_kernel())
        return NULL;
    struct kss_machine *m = kssi_this_cpu()->machine;
    if (index < 0 || (unsigned)index >= m->cpus)
        return NULL;
    struct kssi_cpu *cpu = &m->cpu[index];
    return cpu->current == cpu->idle ? NULL : cpu->current;
}

bool kss_thread_allowed(const struct kss_thread *t, int cpu)
{
    return kssi_view_thread(t) == 0 && cpu >= 0 && (unsigned)cpu < t->machine->cpus && kssi_may_run_on(t, (unsigned)cpu);
}

int kss_cpu_count(void)
{
    return kssi_this_cpu() ? (int)kssi_this_cpu()->machine->cpus : 0;
}

void *kss_sched_thread_data(struct kss_thread *t)
{
    return kssi_view_thread(t) < 0 ? NULL : t->class_data;
}

void *kss_sched_cpu_data(int index)
{
    struct kssi_cpu *cpu = kssi_require_kernel() ? kssi_this_cpu() : NULL;
    return cpu && index >= 0 && (unsigned)index < cpu->machine->cpus
               ? cpu->machine->cpu[index].class_data : NULL;
}

int kss_thread_priority(const struct kss_thread *t)
{
    int r = kssi_view_thread(t);
    return r < 0 ? r : t->priority;
}

unsigned kss_thread_weight(const struct kss_thread *t)
{
    return kssi_view_thread(t) < 0 ? 0 : t->weight;
}

uint64_t kss_thread_slice(const struct kss_thread *t)
{
    return kssi_view_thread(t) < 0 ? 0 : t->slice_ns;
}

void kss_thread_set_slice(struct kss_thread *t, uint64_t ns)
{
    if (kssi_require_kernel() && kssi_own_thread(t) == 0)
        t->slice_ns = ns;
}

uint64_t kss_thread_run_time(const struct kss_thread *t)
{
    return kssi_view_thread(t) < 0 ? 0 : t->run_ns;
}

uint64_t kss_sched_clock(void)
{
    return kssi_require_kernel() ? kssi_now(kssi_this_cpu()->machine) : 0;
}

/* splitmix64 (Steele, Lea, Flood 2014). */
uint64_t kssi_random(struct kss_machine *m)
{
    uint64_t z = __atomic_add_fetch(&m->random_state, 0x9e3779b97f4a7c15ull, __ATOMIC_RELAXED);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

uint64_t kss_sched_random(void)
{
    return kssi_require_kernel() ? kssi_random(kssi_this_cpu()->machine) : 0;
}

int kssi_sched_init(struct kss_machine *m)
{
    const struct kss_sched_class *c = m->config.sched;
    m->sched = c;
    m->next_timer = UINT64_MAX;
    m->online = m->idle = kss_cpumask_all(m->cpus);
    m->global = kssi_dsq_new(m, KSS_DSQ_GLOBAL);
    if (!m->global)
        return kssi_error(-ENOMEM, "no memory for the run queues");
    for (unsigned i = 0; i < m->cpus; i++) {
        m->cpu[i].local = kssi_dsq_new(m, KSS_DSQ_LOCAL_ON | i);
        m->cpu[i].class_data = calloc(1, c->cpu_data_size + 1);
        if (!m->cpu[i].local || !m->cpu[i].class_data)
            return kssi_error(-ENOMEM, "no memory for the run queues");
    }
    return kssi_guard_init(m);
}

int kssi_sched_start(struct kss_machine *m)
{
    int r = (int)CLASS_OR(m, init, NULL, 0, 0);
    if (r < 0)
        return kssi_error(r, "scheduler %s did not start: error %d", m->sched->name, -r);
    m->sched_started = true;
    bool on = kss_spin_lock(&m->sched_lock);
    for (unsigned i = 0; i < m->cpus; i++)
        CLASS(m, cpu_online, NULL, i);
    kss_spin_unlock(&m->sched_lock, on);
    return 0;
}

void kssi_sched_fini(struct kss_machine *m)
{
    static const struct kss_sched_exit_info done = { .kind = KSS_SCHED_EXIT_DONE, .reason = "done",
                                                     .message = "the machine has ended", .dump = "" };
    if (m->sched && m->sched->exit && m->sched_started)
        m->sched->exit(&done);
    kssi_dsq_free_all(m);
    kssi_guard_fini(m);
    for (unsigned i = 0; i < m->cpus; i++)
        free(m->cpu[i].class_data);
}

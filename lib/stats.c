/* SPDX-License-Identifier: MIT */
/* What a machine and its CPUs have counted. */
#include "kernel.h"

#include <errno.h>
#include <string.h>

/* The counters that are kept elsewhere, under other locks. */
static struct kss_cpu_stats stats_of(struct kss_machine *m, unsigned cpu)
{
    const struct kssi_cpu *c = &m->cpu[cpu];
    struct kss_cpu_stats s = c->stats;
    s.deferred = m->platform->deferred(m, cpu);
    s.timers_armed = c->timers.armed;
    s.timers_expired = c->timers.expired;
    s.timers_cancelled = c->timers.cancelled;
    s.works_queued = c->works.queued;
    s.works_done = c->works.done;
    s.works_cancelled = c->works.cancelled;
    return s;
}

static void add_cpu(struct kss_cpu_stats *t, const struct kss_cpu_stats *c)
{
    t->entries += c->entries;
    t->entries_user += c->entries_user;
    t->exceptions += c->exceptions;
    t->interrupts += c->interrupts;
    t->syscalls += c->syscalls;
    t->hw_words += c->hw_words;
    t->handler_words += c->handler_words;
    t->control_saves += c->control_saves;
    t->context_switches += c->context_switches;
    t->preemptions += c->preemptions;
    t->migrations += c->migrations;
    t->reschedules += c->reschedules;
    t->calls += c->calls;
    t->softirq_rounds += c->softirq_rounds;
    t->softirq_worker_rounds += c->softirq_worker_rounds;
    t->timers_armed += c->timers_armed;
    t->timers_expired += c->timers_expired;
    t->timers_cancelled += c->timers_cancelled;
    t->works_queued += c->works_queued;
    t->works_done += c->works_done;
    t->works_cancelled += c->works_cancelled;
    t->ticks += c->ticks;
    t->idle_ns += c->idle_ns;
    t->deferred += c->deferred;
    if (c->max_nesting > t->max_nesting)
        t->max_nesting = c->max_nesting;
}

int kss_machine_stats(struct kss_machine *m, struct kss_machine_stats *s)
{
    int r = kssi_valid_machine(m);
    if (r < 0)
        return r;
    if (!s)
        return kssi_error(-EINVAL, "no place for the statistics");
    memset(s, 0, sizeof *s);
    for (unsigned i = 0; i < m->cpus; i++) {
        struct kss_cpu_stats c = stats_of(m, i);
        add_cpu(&s->total, &c);
    }
    s->threads_created = m->created;
    s->threads_reaped = m->reaped;
    s->threads_live = m->threads;
    s->zombies = m->zombies;
    s->zombie_stacks = m->zombie_stacks;
    s->zombie_stacks_max = m->zombie_stacks_max;
    s->kstack_allocs = m->kstack_allocs;
    s->kstack_cache_hits = m->kstack_hits;
    s->kstack_cache_misses = m->kstack_allocs - m->kstack_hits;
    s->kstacks_live = (unsigned)m->kstack_live;
    for (unsigned i = 0; i < 16 && m->kernel_arenas[i]; i++) {
        struct kssi_arena *a = m->kernel_arenas[i];
        s->kstack_bytes += (size_t)(a->fresh - a->free_count) * a->size;
        s->kstack_arena_bytes += a->region_size;
    }
    s->thread_bytes = m->thread_size;
    s->process_bytes = sizeof(struct kss_process);
    s->frame_bytes = kssi_frame_size();
    s->trace_recorded = kssi_trace_recorded(m, &s->trace_lost);
    s->guards_by_madvise = m->platform->guards_by_madvise();
    return 0;
}

int kss_machine_cpu_stats(struct kss_machine *m, unsigned cpu, struct kss_cpu_stats *s)
{
    int r = kssi_valid_machine(m);
    if (r < 0)
        return r;
    if (cpu >= m->cpus || !s)
        return kssi_error(-EINVAL, s ? "CPU %u: the machine has %u" : "CPU %u of %u: no place for its counters", cpu,
                          m->cpus);
    *s = stats_of(m, cpu);
    return 0;
}

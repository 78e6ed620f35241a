/* SPDX-License-Identifier: MIT */
/*
 * Watchdogs: what should have ended long ago. They run at the tick; where ticks do not come through, by a
 * non-maskable interrupt that the machine raises on its own when a tick has waited for too long. Limits are kept in
 * ticks: a tick that the host delays does not make anybody look hung.
 */
#include "kernel.h"

#include <stdio.h>
#include <string.h>

#define SCAN_MIN 16        /* threads looked at in one tick, at least; all in four seconds */
#define MISSED_NS 1000000000u /* a wake-up this long before a sleep may have been meant for it */

typedef unsigned long long ull;

static unsigned ticks_of(const struct kss_machine *m, uint64_t ns)
{
    unsigned __int128 n = (unsigned __int128)ns * m->config.tick_hz / 1000000000u;
    return !ns ? 0 : n < 1 ? 1 : n > 1u << 30 ? 1u << 30 : (unsigned)n;
}

static uint64_t ns_of(const struct kss_machine *m, unsigned ticks)
{
    return (uint64_t)ticks * 1000000000u / m->config.tick_hz;
}

/* ---- soft and hard lockup ---------------------------------------------------------------------- */

/* The flag is cleared whenever the scheduler is called. In user mode it is called at the end of this interrupt. */
static void watch_soft_lockup(struct kssi_cpu *cpu, struct kss_thread *t)
{
    struct kss_machine *m = cpu->machine;
    unsigned limit = ticks_of(m, m->config.watchdog.soft_lockup_ns);
    char message[200];
    if (!limit || t == cpu->idle || !t->tf || t->tf->mode == KSS_MODE_USER || !(t->ti->flags & KSS_TI_NEED_RESCHED)) {
        cpu->watch.resched_ticks = 0;
        return;
    }
    if (++cpu->watch.resched_ticks != limit)
        return;
    snprintf(message, sizeof message, "soft lockup: thread %d (%s) keeps CPU %u in kernel mode for %llu ms, %s", t->tid,
             t->name, cpu->index, (ull)(ns_of(m, limit) / 1000000),
             t->ti->preempt_count ? "preemption disabled" : "in a handler");
    struct kssi_fault f = { .kind = KSS_REPORT_SOFT_LOCKUP, .tf = t->tf, .message = message,
                            .waited_ns = ns_of(m, limit) };
    kssi_fault(&f, 0);
}

static void hard_lockup(struct kssi_cpu *cpu, struct kss_trap_frame *tf)
{
    struct kss_machine *m = cpu->machine;
    struct kss_thread *t = cpu->current;
    char message[200];
    snprintf(message, sizeof message, "hard lockup: CPU %u has had interrupts off for %llu ms, in thread %d (%s)",
             cpu->index, (ull)(m->config.watchdog.hard_lockup_ns / 1000000), t->tid, t->name);
    struct kssi_fault f = { .kind = KSS_REPORT_HARD_LOCKUP, .tf = tf, .message = message,
                            .waited_ns = m->config.watchdog.hard_lockup_ns, .place = t->irqs_off_at,
                            .place_what = "interrupts were turned off" };
    kssi_fault(&f, 0);
}

/* A CPU that waits for the scheduler while an operation of an experiment's class keeps it, or the class is ejected: the
   CPU which that runs on sees to it, if it never ends. Nor may one be blamed that has only just been let go. */
static bool waits_for_class(const struct kssi_cpu *cpu)
{
    struct kss_machine *m = cpu->machine;
    if (m->cpus == 1 || !m->ejection)
        return false;
    for (unsigned i = 0; i < m->cpus; i++)
        if (i != cpu->index && __atomic_load_n(&m->cpu[i].in_class_op, __ATOMIC_ACQUIRE))
            return true;
    return kssi_class_leaves(m);
}

/* ---- missing end of interrupt ------------------------------------------------------------------ */

void kssi_watchdog_eoi(struct kssi_cpu *cpu, unsigned line, bool given)
{
    uint64_t bit = 1ull << line;
    if (given) {
        cpu->watch.ended |= bit;
        cpu->watch.unended &= ~bit;
        return;
    }
    cpu->watch.unended |= bit;
    cpu->watch.unended_told &= ~bit;
    cpu->watch.unended_ticks[line] = 0;
}

static void missing_eoi(struct kssi_cpu *cpu, unsigned line, const struct kss_trap_frame *tf)
{
    struct kss_machine *m = cpu->machine;
    uint64_t waited = ns_of(m, cpu->watch.unended_ticks[line]);
    char message[200];
    cpu->watch.unended_told |= 1ull << line;
    if (waited < m->config.watchdog.eoi_ns)
        waited = m->config.watchdog.eoi_ns;
    snprintf(message, sizeof message, "missing end of interrupt: line %u (%s) is in service on CPU %u, its handler has "
             "ended %llu ms ago; it and lower priorities are held back", line, m->irq[line].name, cpu->index,
             (ull)(waited / 1000000));
    struct kssi_fault f = { .kind = KSS_REPORT_MISSING_EOI, .tf = tf, .line = line, .message = message,
                            .waited_ns = waited, .place = (uintptr_t)m->irq[line].handler,
                            .place_what = "the line's handler is" };
    kssi_fault(&f, 0);
}

static void watch_eoi(struct kssi_cpu *cpu, struct kss_thread *t)
{
    unsigned limit = ticks_of(cpu->machine, cpu->machine->config.watchdog.eoi_ns);
    for (uint64_t bits = cpu->watch.unended; bits && limit; bits &= bits - 1) {
        unsigned line = (unsigned)__builtin_ctzll(bits);
        if (++cpu->watch.unended_ticks[line] >= limit && !(cpu->watch.unended_told & (1ull << line)))
            missing_eoi(cpu, line, t->tf);
    }
}

/* The ticks themselves are held back by it. */
static bool eoi_by_nmi(struct kssi_cpu *cpu, const struct kss_trap_frame *tf)
{
    uint64_t bits = cpu->watch.unended & ~cpu->watch.unended_told;
    if (bits)
        missing_eoi(cpu, (unsigned)__builtin_ctzll(bits), tf);
    return bits != 0;
}

/* ---- hung tasks ---------------------------------------------------------------------------------- */

static void hung(struct kss_thread *t, uint64_t slept)
{
    const struct kss_waiter *w = t->waiters;
    const struct kss_wait_queue *q = w ? w->queue : NULL;
    char message[256];
    bool lost = q && q->missed && q->missed <= t->run_start && t->run_start - q->missed < MISSED_NS;
    if (lost)
        snprintf(message, sizeof message, "lost wake-up: thread %d (%s) sleeps on %s, which was woken %llu us before "
                 "with nobody on it: its condition must be tested after kss_wait_prepare()", t->tid, t->name,
                 t->wait_channel, (ull)((t->run_start - q->missed) / 1000));
    else
        snprintf(message, sizeof message, "hung task: thread %d (%s) is blocked for more than %llu ms on %s", t->tid,
                 t->name, (ull)(t->machine->config.watchdog.hung_task_ns / 1000000), t->wait_channel);
    struct kssi_fault f = { .kind = lost ? KSS_REPORT_LOST_WAKEUP : KSS_REPORT_HUNG_TASK, .message = message,
                            .thread = t, .waited_ns = slept, .sp = t->machine->platform->context_sp(t->context) };
    t->hung_told = t->run_start;
    kssi_fault(&f, 0);
}

static void watch_hung(struct kssi_cpu *cpu)
{
    struct kss_machine *m = cpu->machine;
    uint64_t limit = m->config.watchdog.hung_task_ns, now;
    if (!limit || cpu->index != 0)
        return;
    now = m->platform->account_clock(m);
    unsigned scan = m->id_slots / (4 * m->config.tick_hz);
    for (unsigned i = 0; (i < scan || i < SCAN_MIN) && i < m->id_slots; i++) {
        struct kss_thread *t = m->by_id[cpu->watch.scan++ & (m->id_slots - 1)];
        if (t && t->state == KSS_THREAD_SLEEPING && t->unkillable && !t->on_cpu && t->context_saved &&
            now > t->run_start && now - t->run_start > limit && t->hung_told != t->run_start)
            hung(t, now - t->run_start);
    }
}

/* ---- when they look ------------------------------------------------------------------------------ */

void kssi_watchdog_tick(struct kssi_cpu *cpu)
{
    struct kss_thread *t = cpu->current;
    watch_soft_lockup(cpu, t);
    if (unlikely(cpu->watch.unended))
        watch_eoi(cpu, t);
    watch_hung(cpu);
}

static void nmi(struct kssi_cpu *cpu, struct kss_trap_frame *tf)
{
    if (atomic_exchange(&cpu->dump_wanted, false))
        kssi_dump(cpu, tf);
    if ((tf->error & KSSI_NMI_STOP) && cpu->machine->stopping)
        kssi_cpu_abort();
    if (!(tf->error & KSSI_NMI_WATCHDOG))
        return;
    if (kssi_sched_rescue(cpu, tf))
        return;
    if (tf->mode == KSS_MODE_USER || tf->irqs_on)
        eoi_by_nmi(cpu, tf);
    else if (!waits_for_class(cpu))
        hard_lockup(cpu, tf);
}

void kssi_nmi(struct kss_trap_frame *tf, void *arg)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    (void)arg;
    if (cpu->reporting || cpu->walking || cpu->stacks.vector_busy[KSSI_STACK_REPORT]) {
        cpu->machine->platform->nmi(cpu->machine, cpu->index); /* not in the middle of another report, or backtrace */
        return;
    }
    cpu->own_nmi = true;
    nmi(cpu, tf);
    cpu->own_nmi = false;
}

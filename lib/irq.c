/* SPDX-License-Identifier: MIT */
/* Hard irqs: from the controller's line to the driver's handler. */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct handling {
    struct kssi_cpu *cpu;
    const struct kss_trap_frame *tf;
    unsigned line;
    uint64_t raised_ns;
};

/* Not inlined: its text would be on the stack of every interrupt. */
__attribute__((noinline)) static void report_spurious(struct kssi_cpu *cpu, unsigned line)
{
    char message[120];
    snprintf(message, sizeof message, "spurious interrupt: line %u (vector %#x) has no handler; it is counted from "
             "now on", line, KSS_VEC_IRQ + line);
    struct kssi_fault f = { .kind = KSS_REPORT_SPURIOUS, .tf = cpu->current->tf, .line = line, .message = message };
    kssi_fault(&f, 0);
}

#define HANDLED_STOPPING 1000

static void run_handler(void *arg)
{
    struct handling *h = arg;
    struct kssi_cpu *cpu = h->cpu;
    struct kss_machine *m = cpu->machine;
    struct kssi_irq_desc *desc = &m->irq[h->line];
    uint64_t begun = 0;
    /* A storm, each handler raising the next, would never let the stop through: there is an end to it. */
    if (unlikely(m->stopping && h->line != KSS_LINE_TIMER && h->line != KSS_LINE_STOP) &&
        cpu->handled_stopping++ > HANDLED_STOPPING) {
        kss_irq_eoi(h->line);
        return;
    }
    if (unlikely(cpu->latency != NULL))
        kssi_latency_reached(cpu, h->line, h->raised_ns, kssi_now(m));
    if (likely(cpu->storm.on || cpu->latency))
        begun = m->platform->account_clock(m);
    KSSI_TRACE(m, KSS_TR_ISR_IN, h->line, (uintptr_t)__builtin_frame_address(0), 0, 0);
    struct kss_thread *t = cpu->current;
    struct kssi_atomic was = kssi_atomic_state(t, false);
    /* First said, then looked: kss_irq_free() takes the handler away, then waits for whom it finds in it. A handler that
       lets its own line in again finds the bit set, and leaves it set. */
    uint64_t handling = atomic_load_explicit(&cpu->handling, memory_order_relaxed);
    atomic_store(&cpu->handling, handling | 1ull << h->line);
    kss_irq_fn handler = atomic_load(&desc->handler);
    if (likely(handler != NULL)) {
        cpu->watch.ended &= ~(1ull << h->line);
        handler(h->line, desc->arg);
        kssi_irq_disable(); /* whatever the handler left */
        if (unlikely(!(cpu->watch.ended & (1ull << h->line))))
            kssi_watchdog_eoi(cpu, h->line, false);
    } else {
        kss_irq_eoi(h->line);
        if (desc->unhandled++ == 0)
            report_spurious(cpu, h->line);
    }
    atomic_store_explicit(&cpu->handling, handling, memory_order_release);
    if (!kssi_atomic_kept(t, &was, false))
        kssi_report_leak(t, h->tf, -1, &was, false);
    KSSI_TRACE(m, KSS_TR_ISR_OUT, h->line, 0, 0, 0);
    if (likely(begun)) {
        uint64_t ns = m->platform->account_clock(m) - begun;
        if (unlikely(cpu->latency != NULL))
            kssi_latency_handled(cpu, KSS_VEC_IRQ + h->line, ns);
        if (likely(cpu->storm.on))
            kssi_storm_note(cpu, h->line, ns, h->tf);
    }
}

void kssi_irq_dispatch(struct kss_trap_frame *tf, void *arg)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct handling h = { cpu, tf, tf->vector - KSS_VEC_IRQ, tf->raised_ns };
    (void)arg;
    kssi_class_op_interrupted(cpu, h.line);
    cpu->stats.interrupts++;
    cpu->irq_depth++;
    if (cpu->stacks.irq.high && cpu->irq_depth == 1 && !tf->stack) {
        /* thread_info there names the interrupted thread: `current` works on this stack too. */
        ((struct kss_thread_info *)cpu->stacks.irq.low)->thread = cpu->current;
        kssi_call_on(&cpu->stacks.irq, run_handler, &h);
    } else {
        run_handler(&h);
    }
    cpu->irq_depth--;
    if (unlikely(cpu->softirq_pending && !cpu->irq_depth && !cpu->in_softirq && !tf->stack))
        kssi_softirq_run(cpu);
}

/* ---- the machine's own lines ------------------------------------------------------------------ */

static void on_tick(unsigned line, void *arg)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    (void)arg;
    if (unlikely(cpu->machine->profile))
        kssi_profile_tick(cpu);
    kssi_timer_expire(cpu->machine);
    kssi_timers_tick(cpu);
    kssi_watchdog_tick(cpu);
    kssi_storm_tick(cpu);
    kssi_sched_tick(cpu);
    kss_irq_eoi(line);
}

static void on_stop(unsigned line, void *arg)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    (void)arg;
    kssi_set_need_resched(cpu->current);
    kss_irq_eoi(line);
}

static void set_name(struct kss_machine *m, unsigned line, const char *name)
{
    snprintf(m->irq[line].name, sizeof m->irq[line].name, "%s", name ? name : "");
}

void kssi_irq_init(struct kss_machine *m)
{
    m->irq[KSS_LINE_TIMER].handler = on_tick;
    set_name(m, KSS_LINE_TIMER, "timer");
    m->irq[KSS_LINE_STOP].handler = on_stop;
    set_name(m, KSS_LINE_STOP, "stop");
    m->irq[KSS_LINE_RESCHED].handler = kssi_on_resched;
    set_name(m, KSS_LINE_RESCHED, "reschedule");
    m->irq[KSS_LINE_CALL].handler = kssi_on_call;
    set_name(m, KSS_LINE_CALL, "call");
    struct kss_cpumask all = kss_cpumask_all(m->cpus);
    for (unsigned line = 0; line < KSS_IRQ_LINES; line++)
        for (unsigned i = 0; i < KSS_CPUS_MAX / 64; i++)
            m->irq[line].affinity[i] = all.bits[i];
}

/* ---- public ----------------------------------------------------------------------------------- */

static int check_line(struct kss_machine *m, unsigned line)
{
    int r = kssi_require_config(m);
    if (r == 0 && line >= KSS_IRQ_LINES)
        r = kssi_error(-EINVAL, "IRQ line %u: lines are 0 to %d", line, KSS_IRQ_LINES - 1);
    return r;
}

int kss_irq_request(struct kss_machine *m, unsigned line, kss_irq_fn handler, void *arg,
                    const char *name)
{
    int r = check_line(m, line);
    if (r < 0)
        return r;
    if (!handler)
        return kssi_error(-EINVAL, "IRQ line %u: the handler is NULL", line);
    bool on = kss_spin_lock(&m->irq_lock);
    struct kssi_irq_desc *d = &m->irq[line];
    char owner[sizeof d->name];
    bool taken = d->handler || d->freeing;
    if (taken) {
        memcpy(owner, d->name, sizeof owner);
    } else {
        d->arg = arg;
        set_name(m, line, name);
        atomic_store(&d->handler, handler);
    }
    kss_spin_unlock(&m->irq_lock, on);
    return taken ? kssi_error(-EBUSY, "IRQ line %u is taken by %s", line, owner) : 0;
}

static int stop_is_special(unsigned line)
{
    return kssi_error(-EBUSY, "IRQ line %u stops the machine: nothing holds it back", line);
}

int kss_irq_set_priority(struct kss_machine *m, unsigned line, unsigned priority)
{
    int r = check_line(m, line);
    if (r < 0)
        return r;
    if (priority > KSS_IRQ_PRIO_MAX)
        return kssi_error(-EINVAL, "priority %u of IRQ line %u: 0 to %d", priority, line,
                          KSS_IRQ_PRIO_MAX);
    if (line == KSS_LINE_STOP)
        return stop_is_special(line);
    m->platform->set_line_priority(m, line, priority);
    return 0;
}

int kss_irq_mask(struct kss_machine *m, unsigned line)
{
    int r = check_line(m, line);
    if (r == 0 && line == KSS_LINE_STOP)
        r = stop_is_special(line);
    if (r == 0)
        m->platform->set_mask(m, line, true);
    return r;
}

int kss_irq_unmask(struct kss_machine *m, unsigned line)
{
    int r = check_line(m, line);
    if (r == 0)
        m->platform->set_mask(m, line, false);
    return r;
}

void kssi_trace_raise(struct kss_machine *m, unsigned line, const struct kssi_cpu *cpu, bool lost)
{
    KSSI_TRACE(m, KSS_TR_RAISE, line, cpu->index, 0, 0);
    if (lost)
        KSSI_TRACE(m, KSS_TR_LOST, line, cpu->index, 0, 0);
}

int kss_irq_raise(struct kss_machine *m, unsigned cpu, unsigned line)
{
    if (kssi_this_cpu())
        kssi_require_kernel();
    struct kssi_hold hold;
    if (!kssi_machine_hold(m, &hold))
        return -EINVAL; /* no sentence: host signal handlers may call this */
    int r = line < KSS_IRQ_LINES && cpu < m->cpus ? 0 : -EINVAL;
    if (r == 0) {
        KSSI_TRACE(m, KSS_TR_RAISE, line, cpu, 0, 0);
        struct kssi_cpu *self = kssi_this_cpu();
        if (self == &m->cpu[cpu] && !self->irq_depth && !self->in_softirq) /* a thread, which gets on: no storm */
            self->storm.line[line].count = self->storm.line[line].ns = 0;
        if (m->platform->raise(m, cpu, line, 1))
            KSSI_TRACE(m, KSS_TR_LOST, line, cpu, 0, 0);
    }
    kssi_machine_drop(&hold);
    return r;
}

int kss_nmi_raise(struct kss_machine *m, unsigned cpu)
{
    if (kssi_this_cpu())
        kssi_require_kernel();
    struct kssi_hold hold;
    if (!kssi_machine_hold(m, &hold))
        return -EINVAL; /* no sentence: host signal handlers may call this */
    int r = cpu < m->cpus ? 0 : -EINVAL;
    if (r == 0)
        m->platform->nmi(m, cpu);
    kssi_machine_drop(&hold);
    return r;
}

int kss_irq_eoi(unsigned line)
{
    if (!kssi_require_kernel())
        return kssi_error(-EPERM, "an end of interrupt can be given on a simulated CPU only");
    if (line >= KSS_IRQ_LINES)
        return kssi_error(-EINVAL, "IRQ line %u: lines are 0 to %d", line, KSS_IRQ_LINES - 1);
    struct kss_machine *m = kssi_this_cpu()->machine;
    KSSI_TRACE(m, KSS_TR_EOI, line, 0, 0, 0);
    kssi_watchdog_eoi(kssi_this_cpu(), line, true);
    int r = m->platform->eoi(line); /* the last: with interrupts on it may let the next one in */
    return r < 0 ? kssi_error(r, "end of interrupt for line %u, which is not in service", line) : 0;
}

/* Devices raise from host threads: tries until the numbers belong together. */
bool kssi_line_stats(struct kss_machine *m, unsigned cpu, unsigned line, struct kss_irq_stats *s)
{
    for (int i = 0; i < 10000; i++) {
        if (m->platform->line_stats(m, cpu, line, s))
            return true;
        kssi_relax();
    }
    return false;
}

int kss_irq_stats(struct kss_machine *m, unsigned cpu, unsigned line, struct kss_irq_stats *stats)
{
    int r = kssi_valid_machine(m);
    if (r < 0)
        return r;
    if (line >= KSS_IRQ_LINES || cpu >= m->cpus || !stats)
        return kssi_error(-EINVAL, "line %u of CPU %u: no such line or CPU", line, cpu);
    memset(stats, 0, sizeof *stats);
    kssi_line_stats(m, cpu, line, stats);
    kssi_storm_stats(&m->cpu[cpu], line, stats);
    stats->unhandled = m->irq[line].unhandled;
    snprintf(stats->name, sizeof stats->name, "%s", m->irq[line].name);
    return 0;
}

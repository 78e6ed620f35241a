/* SPDX-License-Identifier: MIT */
/*
 * The scheduler's core: picks, switches, wakes, and tells the class. sched_lock is held across the
 * switch, so a thread whose context is not yet saved can't be picked elsewhere.
 */
#include "sched_class.h"

#include <errno.h>

uint64_t kssi_now(struct kss_machine *m)
{
    return m->platform->clock(m);
}

void kssi_set_need_resched(struct kss_thread *t)
{
    kssi_ti_set(t->ti, KSS_TI_NEED_RESCHED);
}

/* ---- enqueue, wake ---------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) void enqueue(struct kss_thread *t, unsigned flags)
{
    struct kss_machine *m = t->machine;
    t->queued = true;
    if (unlikely(m->sched->enqueue))
        kssi_op_run(m, KSSI_OP(enqueue), "enqueue", t, (long)flags);
    else
        kssi_dsq_insert_fifo(t, m->cpus == 1 ? m->global : m->cpu[t->cpu].local, m->config.timeslice_ns);
}

/* It has become READY: place it, and see that an idle CPU takes notice. */
static void activate(struct kss_thread *t, unsigned flags)
{
    struct kss_machine *m = t->machine;
    t->queued = true; /* from here on the class may insert it */
    CLASS(m, runnable, t, flags);
    long cpu = CLASS_OR(m, select_cpu, t, flags, -1);
    if (m->cpus > 1)
        t->cpu = cpu >= 0 && cpu < (long)m->cpus && kssi_may_run_on(t, (unsigned)cpu) ? (unsigned)cpu : kssi_select_cpu(t);
    if (!t->dsq.queue) /* else select_cpu has placed it */
        enqueue(t, flags);
    kss_kick_cpu((int)t->cpu, KSS_KICK_IDLE);
}

static bool wake_locked(struct kss_thread *t)
{
    if (t->state != KSS_THREAD_SLEEPING)
        return false;
    kssi_timer_disarm(t);
    KSSI_TRACE(t->machine, KSS_TR_WAKE, t->tid, 0, 0, 0);
    if (t->on_cpu) {
        /* Between kss_wait_prepare() and the switch: it will find itself RUNNING and not sleep. */
        kssi_set_state(t, KSS_THREAD_RUNNING);
        return true;
    }
    kssi_set_state(t, KSS_THREAD_READY);
    activate(t, KSS_ENQ_WAKEUP);
    return true;
}

bool kssi_wake(struct kss_thread *t)
{
    bool on = kss_spin_lock(&t->machine->sched_lock);
    bool woken = wake_locked(t);
    kss_spin_unlock(&t->machine->sched_lock, on);
    return woken;
}

void kssi_timer_expire(struct kss_machine *m)
{
    uint64_t now = kssi_now(m);
    if (now < __atomic_load_n(&m->next_timer, __ATOMIC_RELAXED))
        return;
    bool on = kss_spin_lock(&m->sched_lock);
    struct kss_thread *t;
    while ((t = kssi_timer_first(m)) && t->wake_at <= now)
        if (!wake_locked(t))
            kssi_timer_disarm(t);
    kss_spin_unlock(&m->sched_lock, on);
}

int kssi_sched_add(struct kss_thread *t)
{
    struct kss_machine *m = t->machine;
    bool on = kss_spin_lock(&m->sched_lock);
    int r = (int)CLASS_OR(m, init_thread, t, 0, 0);
    if (r == 0)
        CLASS(m, enable, t, 0);
    kss_spin_unlock(&m->sched_lock, on);
    return r < 0 ? kssi_error(r, "scheduler %s refuses thread %s", m->sched->name, t->name) : 0;
}

void kssi_sched_start_thread(struct kss_thread *t)
{
    bool on = kss_spin_lock(&t->machine->sched_lock);
    kssi_set_state(t, KSS_THREAD_READY);
    activate(t, KSS_ENQ_NEW);
    kss_spin_unlock(&t->machine->sched_lock, on);
}

void kssi_sched_remove(struct kss_thread *t)
{
    bool on = kss_spin_lock(&t->machine->sched_lock);
    CLASS(t->machine, disable, t, 0);
    CLASS(t->machine, exit_thread, t, 0);
    kss_spin_unlock(&t->machine->sched_lock, on);
}

/* ---- the switch ------------------------------------------------------------------------------- */

static void account(struct kss_thread *t, uint64_t now)
{
    uint64_t ran = now > t->run_start ? now - t->run_start : 0;
    t->run_ns += ran;
    t->run_start = now;
    if (t->slice_ns != KSS_SLICE_INFINITE)
        t->slice_ns = ran < t->slice_ns ? t->slice_ns - ran : 0;
}

static struct kss_thread *take_queued(struct kssi_cpu *cpu, struct kss_thread *prev)
{
    struct kss_machine *m = cpu->machine;
    struct kss_thread *t = kssi_dsq_pop(cpu->local, cpu->index);
    if (!t)
        t = kssi_dsq_pop(m->global, cpu->index);
    if (!t && m->sched->dispatch) {
        CLASS(m, dispatch, prev, cpu->index);
        t = kssi_dsq_pop(cpu->local, cpu->index);
        if (!t)
            t = kssi_dsq_pop(m->global, cpu->index);
    }
    if (!t && !prev && m->cpus > 1)
        t = kssi_steal(cpu);
    if (t)
        t->queued = false;
    return t;
}

/* Order: keep what has slice left; local, global, dispatch(); keep what could go on; idle. */
static struct kss_thread *pick(struct kssi_cpu *cpu, struct kss_thread *prev)
{
    struct kss_machine *m = cpu->machine;
    bool can_go_on = prev->state == KSS_THREAD_RUNNING && prev != cpu->idle;
    if (unlikely(m->stopping || (m->cpus > 1 && !kss_cpumask_test(&m->online, cpu->index))))
        return cpu->idle;
    if (unlikely(prev->pinned && !kssi_may_run_on(prev, cpu->index)))
        can_go_on = false;
    if (can_go_on && prev->slice_ns > 0)
        return prev;
    struct kss_thread *t = take_queued(cpu, can_go_on ? prev : NULL);
    if (t)
        return t;
    if (!can_go_on)
        return cpu->idle;
    prev->slice_ns = m->config.timeslice_ns;
    return prev;
}

/* What leaves the CPU: READY and back to the class, or quiescent. */
static void put_prev(struct kssi_cpu *cpu, struct kss_thread *prev, enum kss_switch_reason reason)
{
    struct kss_machine *m = cpu->machine;
    bool runnable = prev->state == KSS_THREAD_RUNNING;
    if (runnable)
        kssi_set_state(prev, KSS_THREAD_READY);
    if (prev == cpu->idle) {
        kss_cpumask_clear(&m->idle, cpu->index);
        CLASS(m, update_idle, NULL, false);
        return;
    }
    CLASS(m, stopping, prev, runnable);
    if (runnable) {
        if (m->cpus > 1 && !kssi_may_run_on(prev, cpu->index))
            prev->cpu = kssi_select_cpu(prev);
        enqueue(prev, reason == KSS_SWITCH_YIELD ? KSS_ENQ_YIELD : KSS_ENQ_PREEMPT);
        if (m->cpus > 1)
            kssi_kick_idle_for(prev);
    }
    if (!runnable)
        CLASS(m, quiescent, prev, KSS_DEQ_SLEEP);
    if (reason == KSS_SWITCH_PREEMPT) {
        prev->preemptions++;
        cpu->stats.preemptions++;
    } else {
        prev->voluntary++;
    }
}

/* A thread that has never entered the kernel gets the CPU's spare stack to start on, and keeps it from
   its first entry on. */
static void lend_stack(struct kssi_cpu *cpu, struct kss_thread *t)
{
    struct kss_machine *m = cpu->machine;
    KSS_ASSERT(cpu->spare_stack);
    size_t size = m->config.kstack_size;
    t->ti = kssi_kstack_prepare(cpu->spare_stack, t, t->canary);
    t->user_frame = kssi_kstack_user_frame(cpu->spare_stack, size);
    m->platform->context_init(t->context,
                              (struct kssi_range){ cpu->spare_stack, t->user_frame },
                              kssi_thread_entry);
    t->context_saved = true;
}

/* Its frames, errno and masks come along: the first is on its stack, the others are put right by the common exit. */
static void migrated(struct kssi_cpu *cpu, struct kss_thread *t)
{
    if (t->context_saved && t->run_ns) {
        t->migrations++;
        cpu->stats.migrations++;
        KSSI_TRACE(cpu->machine, KSS_TR_MIGRATE, t->tid, t->ran_on, cpu->index, 0);
    }
    t->ran_on = cpu->index;
}

static void switch_to(struct kssi_cpu *cpu, struct kss_thread *prev, struct kss_thread *next,
                      enum kss_switch_reason reason)
{
    struct kss_machine *m = cpu->machine;
    uint64_t now = m->platform->account_clock(m);
    account(prev, now);
    if (prev == cpu->idle)
        cpu->stats.idle_ns = prev->run_ns;
    put_prev(cpu, prev, reason);
    if (unlikely(!next->ti))
        lend_stack(cpu, next);
    KSS_ASSERT(next->context_saved);
    kssi_set_state(next, KSS_THREAD_RUNNING);
    /* A zombie whose stack goes at exit stays "on the CPU" until it is gone. */
    prev->on_cpu = reason == KSS_SWITCH_EXIT && m->config.zombie_stacks == KSS_ZOMBIE_FREES_STACK;
    prev->context_saved = true;
    next->on_cpu = true;
    next->cpu = cpu->index;
    next->run_start = now;
    if (unlikely(next->ran_on != cpu->index))
        migrated(cpu, next);
    if (next != cpu->idle) {
        CLASS(m, running, next, 0);
    } else {
        if (likely(kss_cpumask_test(&m->online, cpu->index)))
            kss_cpumask_set(&m->idle, cpu->index);
        CLASS(m, update_idle, NULL, true);
    }
    cpu->current = next;
    cpu->switched_from = prev;
    cpu->reason = reason; /* of this switch: the next thread reads it before any other */
    cpu->stats.context_switches++;
    cpu->stacks.task.low = (uintptr_t)next->ti;
    cpu->stacks.task.high =
        cpu->stacks.task.low + (next->kstack_arena ? next->kstack_arena->size : m->config.kstack_size);
    m->platform->load_kernel_sp(next->user_frame);
    if (unlikely(*cpu->stacks.host_depth | next->host_depth))
        kssi_host_switch(cpu, prev, next, reason == KSS_SWITCH_EXIT);
    cpu->stats.control_saves++;
    m->platform->context_switch(prev->context, next->context);
    kssi_switch_finish();
}

/* prev has ended and its stack is not in use any more, nor the vector stack it may have died on. */
static void after_exit(struct kssi_cpu *cpu, struct kss_thread *prev)
{
    struct kss_machine *m = cpu->machine;
    for (unsigned i = 1; i < KSSI_VECTOR_STACKS; i++) {
        cpu->stacks.vector_busy[i] = 0;
        kssi_frames_gone(cpu->stacks.vector[i].low, cpu->stacks.vector[i].high);
    }
    cpu->reporting = cpu->walking = false; /* it may have died in a callback of a report's */
    if (m->report_lock.holder == prev)
        kssi_unlock(&m->report_lock);
    if (m->config.zombie_stacks != KSS_ZOMBIE_FREES_STACK)
        return;
    kssi_kstack_detach(prev);
    kssi_lock(&m->sched_lock, cpu->current);
    prev->on_cpu = false;
    kssi_unlock(&m->sched_lock);
}

/* The first thing on the new stack. */
void kssi_switch_finish(void)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct kss_machine *m = cpu->machine;
    struct kss_thread *prev = cpu->switched_from, *next = cpu->current;
    kssi_stack_in_use(cpu->stacks.task);
    DTRACE_PROBE2(kstacksim, KSS_TR_SWITCH, prev->tid, next->tid);
    if (unlikely(m->trace_on && prev != next))
        kssi_trace_switch(m, prev, next, cpu->reason);
    next->context_saved = false;
    kssi_unlock(&m->sched_lock);
    if (unlikely(cpu->reason == KSS_SWITCH_EXIT))
        after_exit(cpu, prev);
    if (unlikely(m->config.check_switches) && kss_check(m) < 0)
        kssi_panic(KSS_REPORT_INVARIANT, "%s", kss_last_error());
}

/* Not in a hard irq, with a lock held, with preemption off, to sleep with interrupts off, on a CPU's own stack. */
static inline void check_may_switch(const struct kssi_cpu *cpu, struct kss_thread *prev, bool irqs_on,
                                    enum kss_switch_reason reason)
{
    uintptr_t sp = (uintptr_t)__builtin_frame_address(0);
    bool irqs_off = reason == KSS_SWITCH_SLEEP && !irqs_on;
    if (unlikely((cpu->irq_depth | cpu->in_softirq | cpu->in_on_report | prev->locks_held |
                  (unsigned)prev->ti->preempt_count) || irqs_off ||
                 (reason != KSS_SWITCH_EXIT && (sp < cpu->stacks.task.low || sp > cpu->stacks.task.high))))
        kssi_report_atomic(prev, irqs_off);
}

void kssi_schedule(enum kss_switch_reason reason)
{
    struct kss_thread *prev = kssi_current();
    struct kss_machine *m = prev->machine;
    bool on = kssi_irq_save();
    struct kssi_cpu *cpu = kssi_this_cpu();
    if (unlikely(cpu->latency != NULL) && on)
        kssi_latency_irqs_off((uintptr_t)__builtin_return_address(0), 0);
    check_may_switch(cpu, prev, on, reason);
    KSS_ASSERT(prev->kstack_arena); /* nobody sleeps on a borrowed stack */
    if (unlikely(!kssi_kstack_end_ok(prev) || (m->fenced && kssi_kstack_fence_hit(prev))))
        kssi_kstack_verify(prev, NULL);
    if (unlikely(!cpu->spare_stack && m->config.kstack_alloc == KSS_KSTACK_AT_FIRST_ENTRY))
        kssi_spare_stack_get(cpu);
    if (reason == KSS_SWITCH_YIELD || (reason == KSS_SWITCH_SLEEP && prev->state == KSS_THREAD_SLEEPING))
        kssi_host_leaving(prev);
    if (unlikely(cpu->host_held.since))
        kssi_host_held_over(cpu);
    kssi_lock(&m->sched_lock, prev);
    if (reason == KSS_SWITCH_SLEEP && prev->state == KSS_THREAD_RUNNING) {
        kssi_unlock(&m->sched_lock); /* woken since kss_wait_prepare(); need_resched stays */
        if (on)
            kssi_irq_enable_at(m, (uintptr_t)__builtin_return_address(0), 0);
        return;
    }
    kssi_ti_clear(prev->ti, KSS_TI_NEED_RESCHED);
    if (reason == KSS_SWITCH_YIELD && prev != cpu->idle && CLASS_OR(m, yield, prev, 0, true))
        prev->slice_ns = 0;
    /* Preempted between kss_wait_prepare() and the sleep: counts as woken for nothing. Its loop will
       test the condition again. */
    if (reason == KSS_SWITCH_PREEMPT && prev->state == KSS_THREAD_SLEEPING) {
        kssi_timer_disarm(prev);
        kssi_set_state(prev, KSS_THREAD_RUNNING);
    }
    struct kss_thread *next = pick(cpu, prev);
    if (next != prev)
        switch_to(cpu, prev, next, reason);
    else
        kssi_unlock(&m->sched_lock);
    if (on)
        kssi_irq_enable_at(m, (uintptr_t)__builtin_return_address(0), 0);
}

KSSI_TAIL_CALL void kss_reschedule(void)
{
    if (kssi_require_kernel())
        kssi_schedule(KSS_SWITCH_YIELD);
}

void kssi_sched_tick(struct kssi_cpu *cpu)
{
    struct kss_thread *t = cpu->current;
    struct kss_machine *m = cpu->machine;
    cpu->stats.ticks++;
    if (unlikely(m->guarded && m->sched_started)) /* init() has no lock: its own CPU ejects it */
        kssi_sched_watch(cpu);
    if (t == cpu->idle) {
        kssi_balance_idle(cpu);
        return;
    }
    kssi_lock(&m->sched_lock, t);
    account(t, m->platform->account_clock(m));
    CLASS(m, tick, t, 0);
    if (t->slice_ns == 0)
        kssi_set_need_resched(t);
    if (m->cpus > 1)
        kssi_balance(cpu);
    kssi_unlock(&m->sched_lock);
}

/* Takes a queued thread out while something about it changes, and puts it back. sched_lock. */
void kssi_requeue(struct kss_thread *t, void (*change)(struct kss_thread *t, void *arg), void *arg)
{
    struct kss_machine *m = t->machine;
    bool queued = t->queued;
    if (queued) {
        CLASS(m, dequeue, t, KSS_DEQ_SAVE);
        kssi_dsq_remove(t);
        t->queued = false;
    }
    change(t, arg);
    if (!queued)
        return;
    if (m->cpus > 1 && !kssi_may_run_on(t, t->cpu))
        t->cpu = kssi_select_cpu(t);
    enqueue(t, 0);
    if (m->cpus > 1)
        kssi_kick_idle_for(t);
}

static void change_priority(struct kss_thread *t, void *arg)
{
    t->priority = *(int *)arg;
    CLASS(t->machine, set_priority, t, t->priority);
}

void kssi_sched_set_priority(struct kss_thread *t, int priority)
{
    bool on = kss_spin_lock(&t->machine->sched_lock);
    kssi_requeue(t, change_priority, &priority);
    kss_spin_unlock(&t->machine->sched_lock, on);
}

static void change_affinity(struct kss_thread *t, void *arg)
{
    struct kss_machine *m = t->machine;
    const struct kss_cpumask *mask = arg;
    t->allowed = *mask;
    t->pinned = kss_cpumask_count(mask) < m->cpus;
    CLASS(m, set_cpumask, t, 0);
    if (t->on_cpu && !kssi_may_run_on(t, t->cpu))
        kssi_resched_cpu(&m->cpu[t->cpu]);
}

int kssi_affinity_set(struct kss_thread *t, const struct kss_cpumask *allowed)
{
    struct kss_machine *m = t->machine;
    struct kss_cpumask mask = kss_cpumask_all(m->cpus);
    for (unsigned i = 0; i < KSS_CPUS_MAX / 64; i++)
        mask.bits[i] &= allowed->bits[i];
    if (kss_cpumask_empty(&mask))
        return kssi_error(-EINVAL, "none of the machine's %u CPUs is in the set", m->cpus);
    bool on = kss_spin_lock(&m->sched_lock);
    kssi_requeue(t, change_affinity, &mask);
    kss_spin_unlock(&m->sched_lock, on);
    return 0;
}

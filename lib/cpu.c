/* SPDX-License-Identifier: MIT */
/* A CPU's life in the kernel: boot, idle, halt. */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* Nothing to run: waits for an interrupt. One that arrives between the test and the wait is pending,
   since interrupts are off, and the wait returns at once. */
static void idle_loop(void)
{
    struct kss_thread *t = kssi_current();
    struct kss_machine *m = t->machine;
    for (;;) {
        kssi_irq_disable();
        while (!m->stopping && !(t->ti->flags & KSS_TI_NEED_RESCHED)) {
            m->platform->wait_for_interrupt();
            kssi_irq_enable(); /* what has come is handled here */
            kssi_irq_disable();
        }
        if (m->stopping)
            kssi_cpu_abort();
        kssi_irq_enable();
        kssi_schedule(KSS_SWITCH_YIELD);
    }
}

/* CPU 0's idle thread brings up the rest of the kernel, since it is the first that may. */
static void wait_for_boot(struct kss_machine *m)
{
    struct kss_thread_info *ti = kssi_current()->ti;
    kssi_irq_disable();
    ti->preempt_count++; /* an interrupt may find something to run: not before the kernel is up */
    while (!m->booted && !m->stopping) {
        m->platform->wait_for_interrupt();
        kssi_irq_enable();
        kssi_irq_disable();
    }
    ti->preempt_count--; /* need_resched stays, and the idle loop sees it */
    kssi_irq_enable();
}

static void booted(struct kss_machine *m)
{
    m->booted = true;
    for (unsigned i = 1; i < m->cpus; i++)
        kssi_resched_cpu(&m->cpu[i]);
}

static void idle_main(void)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct kss_machine *m = cpu->machine;
    if (cpu->index == 0) {
        int r = kssi_sched_start(m);
        if (r == 0)
            r = kssi_boot_init(m);
        if (r < 0) {
            snprintf(m->boot_error, sizeof m->boot_error, "%s", kssi_current()->error);
            kssi_stop(m, r);
        } else {
            booted(m);
        }
    } else {
        wait_for_boot(m);
    }
    idle_loop();
}

static struct kss_thread *make_idle(struct kssi_cpu *cpu)
{
    struct kss_spawn_attr attr = { .name = "idle" };
    int error = 0;
    struct kss_thread *t = kssi_thread_new(cpu->machine, &attr, NULL, NULL, idle_main, &error);
    if (!t)
        return NULL;
    t->tid = -(int)cpu->index;
    t->cpu = cpu->index;
    t->priority = 0;
    return t;
}

void kssi_cpu_main(struct kssi_cpu *cpu)
{
    struct kss_machine *m = cpu->machine;
    /* From the host thread's own stack to the idle thread's, which is RUNNING from now on. Idle is left
       only at halt, and then by switching back here. */
    struct kss_thread *t = cpu->idle;
    kssi_set_state(t, KSS_THREAD_RUNNING);
    t->on_cpu = true;
    t->run_start = m->platform->account_clock(m);
    cpu->current = t;
    cpu->switched_from = t;
    kssi_storm_init(cpu);
    cpu->stacks.task = (struct kssi_range){ (uintptr_t)t->ti, (uintptr_t)t->ti + t->kstack_arena->size };
    m->platform->load_kernel_sp(t->user_frame);
    /* The last: with it, non-maskable interrupts and exceptions can be taken. */
    m->platform->load_vector_table(&m->vectors);
    kssi_lock(&m->sched_lock, t); /* the first switch is finished like any other */
    struct kssi_range host = kssi_stack_in_use(cpu->stacks.task);
    m->platform->context_switch(cpu->boot_context, t->context);
    kssi_stack_in_use(host);
    cpu->halted = true;
}

void kssi_stop(struct kss_machine *m, int reason)
{
    int none = 0;
    if (reason)
        atomic_compare_exchange_strong(&m->stop_reason, &none, reason);
    if (atomic_exchange(&m->stopping, true))
        return;
    for (unsigned i = 0; i < m->cpus; i++)
        m->platform->raise(m, i, KSS_LINE_STOP, 1);
}

/* Leaves whatever the CPU was doing, for good: back to the host thread's stack. */
void kssi_cpu_abort(void)
{
    kssi_irq_disable();
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct kss_machine *m = cpu->machine;
    struct kss_thread *t = cpu->current;
    kssi_stop(m, m->stopping ? 0 : -EFAULT);
    /* Locks that this CPU holds would stay held for ever; one that an NMI found it taking has no holder yet. */
    if (m->sched_lock.holder == t || m->cpus == 1)
        m->sched_lock.locked = 0;
    if (m->tree_lock.holder == t || m->cpus == 1)
        m->tree_lock.locked = 0;
    if (m->report_lock.holder == t)
        kssi_unlock(&m->report_lock);
    kssi_report_leave(t);
    while (t->locks_held)
        kssi_lock_take_away(t, true);
    /* The interrupted work can be looked at afterwards: its context is where it stopped. */
    t->context_saved = true;
    m->platform->load_vector_table(NULL); /* the last: nothing is delivered to a CPU that has left */
    m->platform->context_switch(t->context, cpu->boot_context);
    __builtin_unreachable();
}

int kssi_cpu_init(struct kssi_cpu *cpu)
{
    struct kss_machine *m = cpu->machine;
    size_t cache = m->config.kstack_cache;
    kssi_timers_init(cpu);
    kssi_works_init(cpu);
    cpu->boot_context = aligned_alloc(64, (m->platform->context_size + 63) & ~(size_t)63);
    cpu->kstacks.low = calloc(cache + 1, sizeof(uintptr_t));
    cpu->ustacks.low = calloc(cache + 1, sizeof(uintptr_t));
    if (!cpu->boot_context || !cpu->kstacks.low || !cpu->ustacks.low)
        return kssi_error(-ENOMEM, "no host memory for CPU %u", cpu->index);
    int r = kssi_cpu_stacks_init(cpu);
    if (r < 0)
        return r;
    r = kssi_latency_init(cpu);
    if (r < 0)
        return r;
    cpu->idle = make_idle(cpu);
    cpu->current = cpu->idle; /* for other CPUs, until it has booted */
    return cpu->idle ? 0 : -ENOMEM;
}

void kssi_cpu_fini(struct kssi_cpu *cpu)
{
    kssi_latency_fini(cpu);
    free(cpu->kstacks.low);
    free(cpu->ustacks.low);
    free(cpu->boot_context);
}

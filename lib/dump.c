/* SPDX-License-Identifier: MIT */
/*
 * Every thread's stack as text, from a CPU that was stopped wherever it was by a non-maskable interrupt: what SIGQUIT
 * prints. It reads without locks, since a CPU may have been stopped with any of
 * them: what other CPUs take away meanwhile ends a backtrace.
 */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define FRAMES 24

struct dump {
    struct kssi_cpu *cpu;
    const struct kss_trap_frame *tf; /* where this CPU was */
};

static void say(struct kss_machine *m, const char *line)
{
    m->platform->message(line, strlen(line));
}

static void say_stack(struct kss_thread *t, const struct kss_trap_frame *tf)
{
    char line[200];
    struct kss_machine *m = t->machine;
    uintptr_t low = (uintptr_t)t->ti, sp = tf ? kssi_frame_sp(tf) : 0;
    size_t size = t->kstack_arena ? t->kstack_arena->size : m->config.kstack_size;
    if (!low)
        return;
    if (!tf && t->context_saved)
        sp = m->platform->context_sp(t->context);
    bool on_it = sp > low && sp <= low + size;
    snprintf(line, sizeof line, "  kernel stack %#lx-%#lx, %zu bytes in use, high-water mark %zu%s\n", (unsigned long)low,
             (unsigned long)(low + size), on_it ? (size_t)(low + size - sp) : 0,
             kssi_kstack_high_water(low, size, m->config.poison),
             kssi_kstack_end_ok(t) ? "" : ", its END IS OVERWRITTEN");
    say(m, line);
}

/* It may be reaped meanwhile, by another CPU. */
static void say_stack_of(struct dump *d, struct kss_thread *t, const struct kss_trap_frame *tf)
{
    if (__builtin_setjmp(d->cpu->rescue) == 0) {
        d->cpu->walking = true;
        say_stack(t, tf);
    }
    d->cpu->walking = false;
}

static void say_thread(struct dump *d, struct kss_thread *t)
{
    static const char *const mark[] = { "    ", "--> ", "  u " };
    struct kss_machine *m = t->machine;
    struct kss_frame *f = d->cpu->walk_frames;
    const struct kss_trap_frame *tf = t == d->cpu->current ? d->tf : NULL;
    char line[200];
    snprintf(line, sizeof line, "thread %d (%s) of process %d: %s%s%s\n", t->tid, t->name,
             t->process ? t->process->pid : 0, kss_thread_state_name(t->state), t->wait_channel ? " on " : "",
             t->wait_channel ? t->wait_channel : "");
    say(m, line);
    say_stack_of(d, t, tf);
    if (t->state == KSS_THREAD_ZOMBIE || (!tf && (!t->context_saved || !t->ti)))
        return;
    memset(f, 0, FRAMES * sizeof *f);
    int n = kssi_report_walk(d->cpu, tf, t->context, f, FRAMES);
    for (int i = 0; i < n; i++) {
        snprintf(line, sizeof line, "  %s%2d  %#016lx  %s+%#lx\n", mark[f[i].kind], i, (unsigned long)f[i].pc,
                 f[i].symbol[0] ? f[i].symbol : "?", (unsigned long)f[i].offset);
        say(m, line);
    }
}

static void say_all(void *arg)
{
    struct dump *d = arg;
    struct kss_machine *m = d->cpu->machine;
    char line[120];
    snprintf(line, sizeof line, "kstacksim: all stacks at %.6f s, CPU %u in %s mode\n", (double)kssi_now(m) / 1e9,
             d->cpu->index, d->tf->mode == KSS_MODE_USER ? "user" : "kernel");
    say(m, line);
    if (d->cpu->current != d->cpu->idle && d->cpu->index != 0)
        say_thread(d, d->cpu->current);
    say_thread(d, d->cpu->idle);
    for (unsigned i = 0; d->cpu->index == 0 && i < m->id_slots; i++) {
        struct kss_thread *t = m->by_id[i]; /* those that run on other CPUs are said there */
        if (t && t->state != KSS_THREAD_NEW && (!t->on_cpu || t == d->cpu->current))
            say_thread(d, t);
    }
    say(m, "kstacksim: the run goes on\n");
}

void kssi_dump(struct kssi_cpu *cpu, const struct kss_trap_frame *tf)
{
    static struct kss_spinlock turn = KSS_SPINLOCK_INIT("dump"); /* one CPU at a time */
    struct dump d = { cpu, tf };
    while (__atomic_exchange_n(&turn.locked, 1, __ATOMIC_ACQUIRE)) {
        if (cpu->machine->stopping)
            return;
        kssi_relax();
    }
    turn.holder = cpu->current;
    kssi_lock_note(cpu->current, &turn, 0, KSSI_HELD_SPIN); /* kssi_cpu_abort() gives it back */
    cpu->reporting = true;
    kssi_call_on_report_stack(cpu, say_all, &d);
    cpu->reporting = false;
    kssi_lock_forget(cpu->current, &turn);
    kssi_unlock(&turn);
}

/* Async-signal-safe. */
int kss_machine_dump(struct kss_machine *m)
{
    if (kssi_this_cpu())
        kssi_require_kernel();
    struct kssi_hold hold;
    if (!kssi_machine_hold(m, &hold))
        return -EINVAL;
    bool runs = m->life == KSSI_RUNNING;
    if (runs) {
        for (unsigned i = 0; i < m->cpus; i++) {
            m->cpu[i].dump_wanted = true;
            m->platform->nmi(m, i);
        }
    }
    kssi_machine_drop(&hold);
    return runs ? 0 : -EBUSY;
}

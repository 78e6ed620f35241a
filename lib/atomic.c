/* SPDX-License-Identifier: MIT */
/*
 * Atomic context: a thread with a spinlock held, with preemption or interrupts off, or in a hard irq. It must
 * not give up the CPU, and a handler must leave it as it found it. Here is what is said when one does not:
 * what held it, and where that began.
 */
#include "kernel.h"

#include <stdio.h>

/* ---- scheduling while atomic -------------------------------------------------------------------- */

/* The interrupt that is being handled: the innermost frame of one. */
static int line_in_hand(const struct kss_thread *t)
{
    for (const struct kss_trap_frame *tf = t->tf; tf; tf = tf->prev)
        if (tf->vector >= KSS_VEC_IRQ && tf->vector < KSS_VEC_IRQ + KSS_IRQ_LINES)
            return tf->vector - KSS_VEC_IRQ;
    return -1;
}

static void tell_irq(struct kssi_fault *f, const struct kss_thread *t, char *why, size_t size)
{
    int line = line_in_hand(t);
    if (line < 0) {
        snprintf(why, size, "in a hard irq handler");
        return;
    }
    const struct kssi_irq_desc *d = &t->machine->irq[line];
    snprintf(why, size, "in the hard irq handler of line %d (%s)", line, d->name);
    f->line = (unsigned)line;
    f->place = (uintptr_t)d->handler;
    f->place_what = "the handler is";
}

static void tell_lock(struct kssi_fault *f, const struct kss_thread *t, char *why, size_t size)
{
    char name[64] = "a spinlock";
    unsigned n = t->locks_held - 1;
    if (n < KSSI_HELD_MAX && t->held[n].lock) {
        kssi_lock_name(t->held[n].lock, name, sizeof name);
        f->place = t->held[n].pc;
        f->place_what = "the lock was taken";
    }
    snprintf(why, size, "with %s held", name);
    if (n)
        snprintf(why, size, "with %s and %u more held", name, n);
}

void kssi_report_atomic(struct kss_thread *t, bool irqs_off)
{
    char message[240], why[140] = "on a stack that is not the thread's";
    kssi_irq_disable();
    if (!kssi_kstack_end_ok(t)) /* then preempt_count is anything */
        kssi_kstack_verify(t, NULL);
    struct kssi_fault f = { .kind = KSS_REPORT_ATOMIC_SLEEP, .message = message };
    if (kssi_this_cpu()->in_class_op) {
        snprintf(why, sizeof why, "in an operation of a scheduler class");
    } else if (kssi_this_cpu()->in_on_report) {
        snprintf(why, sizeof why, "in on_report()");
    } else if (kssi_this_cpu()->irq_depth) {
        tell_irq(&f, t, why, sizeof why);
    } else if (kssi_this_cpu()->in_softirq) {
        snprintf(why, sizeof why, "in a softirq");
    } else if (t->locks_held) {
        tell_lock(&f, t, why, sizeof why);
    } else if (t->ti->preempt_count) {
        snprintf(why, sizeof why, "with preemption disabled");
        f.place = t->preempt_off_at;
        f.place_what = "preemption was disabled";
    } else if (irqs_off && t->irqs_off_at) {
        snprintf(why, sizeof why, "with interrupts off");
        f.place = t->irqs_off_at;
        f.place_what = "interrupts were turned off";
    } else if (irqs_off) {
        snprintf(why, sizeof why, "with interrupts off%s%s", t->tf ? ", as the gate left them: " : "",
                 t->tf ? kss_vector_name(t->tf->vector) : "");
    }
    snprintf(message, sizeof message, "scheduling while atomic: thread %d (%s) gives up the CPU %s", t->tid, t->name,
             why);
    kssi_fault(&f, 0); /* the only thing that may be done about this kind is to stop the machine */
    kssi_cpu_abort();
}

/* ---- state that leaks out of a handler ---------------------------------------------------------- */

struct leak {
    struct kssi_fault fault;
    struct kssi_text what;
    char message[240];
};

static void tell_place(struct leak *l, uintptr_t pc, const char *what)
{
    if (l->fault.place || !pc)
        return;
    l->fault.place = pc;
    l->fault.place_what = what;
}

static void tell_handler(struct leak *l, struct kss_machine *m, const struct kss_trap_frame *tf, int softirq,
                         uintptr_t *handler)
{
    unsigned v = tf ? tf->vector : 0, line = v - KSS_VEC_IRQ;
    if (softirq >= 0) {
        *handler = (uintptr_t)m->softirq[softirq].handler;
        kssi_text_print(&l->what, "softirq %d (%.24s)", softirq, m->softirq[softirq].name);
    } else if (softirq == KSSI_LEAK_WORK) {
        kssi_text_print(&l->what, "a work item");
    } else if (v == KSS_VEC_SYSCALL) {
        long a[6], nr = kssi_frame_arguments(tf, a);
        bool ok = nr >= 0 && nr < KSS_SYSCALLS;
        *handler = ok ? (uintptr_t)m->syscall[nr] : 0;
        kssi_text_print(&l->what, "system call %ld (%.24s)", nr, ok ? kss_syscall_name(m, (unsigned)nr) : "?");
    } else if (line < KSS_IRQ_LINES) {
        l->fault.line = line;
        *handler = (uintptr_t)m->irq[line].handler;
        kssi_text_print(&l->what, "the handler of line %u (%.24s)", line, m->irq[line].name);
    } else {
        *handler = (uintptr_t)m->platform->vector_table()->gate[v & 0xff].handler;
        kssi_text_print(&l->what, "the handler of vector %u (%s)", v, kss_vector_name(v));
    }
    kssi_text_print(&l->what, " returned with");
}

/*
 * A lock in the stack frame of the handler is gone with it: what is there now belongs to the functions
 * that look for it. `dead` is where that part of the stack ends.
 */
static bool is_gone(const struct kss_spinlock *lock, uintptr_t dead)
{
    return (uintptr_t)lock > (uintptr_t)kssi_thread_info() && (uintptr_t)lock < dead;
}

static void tell_locks(struct leak *l, struct kss_thread *t, unsigned before, uintptr_t dead)
{
    char name[64];
    bool first = true;
    while (t->locks_held > before) {
        unsigned n = t->locks_held - 1;
        struct kssi_held h = n < KSSI_HELD_MAX ? t->held[n] : (struct kssi_held){ NULL, 0, KSSI_HELD_SPIN };
        bool gone = h.lock && is_gone(h.lock, dead);
        snprintf(name, sizeof name, gone ? "a spinlock of its own stack frame" : "a spinlock");
        if (h.lock && !gone)
            kssi_lock_name(h.lock, name, sizeof name);
        if (l->what.length < 150)
            kssi_text_print(&l->what, "%s %s", first ? "" : " and", name);
        tell_place(l, h.pc, "the lock was taken");
        kssi_lock_take_away(t, !gone);
        first = false;
    }
    kssi_text_print(&l->what, " held, taken away now");
}

void kssi_report_leak(struct kss_thread *t, const struct kss_trap_frame *tf, int softirq, const struct kssi_atomic *was,
                      bool irqs_on)
{
    uintptr_t handler = 0;
    if (!kssi_kstack_end_ok(t)) /* then preempt_count is anything */
        kssi_kstack_verify(t, tf);
    struct leak l = { .fault = { .kind = KSS_REPORT_STATE_LEAK, .message = l.message,
                                 .other_what = "the handler that returned" } };
    l.what = (struct kssi_text){ l.message, sizeof l.message, 0 };
    tell_handler(&l, t->machine, tf, softirq, &handler);
    size_t start = l.what.length;
    if (t->locks_held > was->locks)
        tell_locks(&l, t, was->locks, (uintptr_t)__builtin_frame_address(0));
    else if (t->locks_held < was->locks)
        kssi_text_print(&l.what, " a spinlock released that it had not taken");
    if (t->ti->preempt_count != was->preempt) {
        bool disabled = t->ti->preempt_count > was->preempt;
        kssi_text_print(&l.what, "%s preemption %s, put back", l.what.length > start ? "," : "",
                        disabled ? "disabled" : "enabled that was disabled");
        if (disabled)
            tell_place(&l, t->preempt_off_at, "preemption was disabled");
        t->ti->preempt_count = was->preempt;
    }
    if (was->irqs_on && !irqs_on) {
        kssi_text_print(&l.what, "%s interrupts off", l.what.length > start ? "," : "");
        tell_place(&l, t->irqs_off_at, "interrupts were turned off");
    }
    l.fault.other_pcs = &handler;
    l.fault.other_count = handler != 0;
    kssi_fault(&l.fault, KSS_KILLED + 1);
}

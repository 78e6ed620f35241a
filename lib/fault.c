/* SPDX-License-Identifier: MIT */
/* Exceptions: what is fixed up, who dies of what, and when the machine can't go on. */
#include "kernel.h"

#include <stdio.h>
#include <string.h>

static const char *const names[32] = {
    [KSS_VEC_DIVIDE] = "divide error",
    [KSS_VEC_DEBUG] = "debug exception",
    [KSS_VEC_NMI] = "non-maskable interrupt",
    [KSS_VEC_BREAKPOINT] = "breakpoint",
    [KSS_VEC_OVERFLOW] = "overflow",
    [KSS_VEC_INVALID_OPCODE] = "invalid opcode",
    [KSS_VEC_DOUBLE_FAULT] = "double fault",
    [KSS_VEC_STACK] = "stack exception",
    [KSS_VEC_GENERAL_PROTECTION] = "general protection fault",
    [KSS_VEC_PAGE_FAULT] = "page fault",
    [KSS_VEC_FPU] = "floating-point exception",
    [KSS_VEC_ALIGNMENT] = "alignment check",
    [KSS_VEC_SIMD] = "SIMD floating-point exception",
};

const char *kss_vector_name(unsigned vector)
{
    if (vector == KSS_VEC_SYSCALL)
        return "system call";
    if (vector == KSS_VEC_IRQ + KSS_LINE_TIMER)
        return "timer interrupt";
    if (vector >= KSS_VEC_IRQ && vector < KSS_VEC_IRQ + KSS_IRQ_LINES)
        return "device interrupt";
    if (vector >= KSS_VEC_SOFTWARE && vector < KSS_VECTORS)
        return "software interrupt";
    return vector < 32 && names[vector] ? names[vector] : "vector";
}

/* ---- exceptions --------------------------------------------------------------------------------- */

/* What a report says of an exception, before it is known what is done about it. */
struct told {
    struct kssi_fault fault;
    struct kss_report_near near;
    char message[240];
};

static bool runs_over(uintptr_t sp, uintptr_t low, size_t reserve)
{
    return sp < low + reserve;
}

static void tell_kind(struct told *w, struct kssi_cpu *cpu, const struct kss_trap_frame *tf)
{
    const struct kss_report_near *n = &w->near;
    const struct kss_thread *t = cpu->current;
    bool user = tf->mode == KSS_MODE_USER, beside = n->below || n->above;
    if (cpu->irq_depth)
        w->fault.kind = KSS_REPORT_FAULT_IN_IRQ;
    else if (user && t->machine->config.protect && kssi_in_kernel_arena(t->machine, tf->fault_address))
        w->fault.kind = KSS_REPORT_KERNEL_MEMORY; /* guards, freed stacks and unused slots are closed too */
    else if (n->freed)
        w->fault.kind = KSS_REPORT_FREED_STACK;
    else if (user && n->stack != KSS_STACK_USER && n->stack != KSS_STACK_UNKNOWN && !beside)
        w->fault.kind = KSS_REPORT_KERNEL_MEMORY;
    else if (user && n->stack == KSS_STACK_USER && n->tid == t->tid && n->below &&
             runs_over(kssi_frame_sp(tf), t->user_low, 4096))
        w->fault.kind = KSS_REPORT_USER_STACK_OVERFLOW;
    else if (beside && !n->guess)
        w->fault.kind = KSS_REPORT_GUARD;
}

/* A bad address is described by the stack that it lies in or beside. */
static void tell(struct told *w, struct kssi_cpu *cpu, const struct kss_trap_frame *tf)
{
    struct kss_machine *m = cpu->machine;
    struct kss_thread *whose = NULL;
    char where[160] = "";
    w->fault = (struct kssi_fault){ .kind = tf->mode == KSS_MODE_USER ? KSS_REPORT_USER_FAULT
                                          : KSS_REPORT_KERNEL_FAULT,
                                    .tf = tf, .message = w->message };
    w->near.stack = KSS_STACK_UNKNOWN;
    if (cpu->irq_depth)
        w->fault.kind = KSS_REPORT_FAULT_IN_IRQ;
    if (tf->vector != KSS_VEC_PAGE_FAULT) {
        snprintf(w->message, sizeof w->message, "%s at pc %#lx, error code %#lx", kss_vector_name(tf->vector),
                 (unsigned long)kssi_frame_pc(tf), (unsigned long)tf->error);
        return;
    }
    kssi_stack_near(m, tf->fault_address, cpu->current, &w->near, &whose);
    tell_kind(w, cpu, tf);
    kssi_near_format(&w->near, whose ? whose->name : NULL, where, sizeof where);
    if (!where[0] && kssi_in_kernel_arena(m, tf->fault_address))
        snprintf(where, sizeof where, "where the kernel's stacks are");
    bool null = tf->fault_address < 65536;
    snprintf(w->message, sizeof w->message, "%s%s %s address %#lx%s%s",
             null && tf->mode == KSS_MODE_KERNEL ? "kernel NULL dereference: " : "",
             tf->error & 2 ? "write to" : tf->error & 16 ? "jump to" : "read from",
             null ? "NULL-like" : "inaccessible", (unsigned long)tf->fault_address, where[0] ? ", " : "", where);
}

/* It dies at the common exit. */
static void in_user_mode(struct kssi_cpu *cpu, struct kss_trap_frame *tf)
{
    struct kss_thread *t = cpu->current;
    struct told w;
    tell(&w, cpu, tf);
    switch (kssi_report(&w.fault)) {
    case KSS_ACTION_STOP_MACHINE:
        kssi_cpu_abort();
    case KSS_ACTION_KILL_THREAD:
        kssi_mark_killed(t, (int)tf->vector + 1);
        break;
    default:
        kssi_process_kill(t->process, (int)tf->vector + 1);
    }
}

static void on_exception(struct kss_trap_frame *tf, void *arg)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct told w;
    (void)arg;
    KSSI_TRACE(cpu->machine, KSS_TR_EXCEPTION, tf->vector, tf->fault_address, kssi_frame_pc(tf), tf->error);
    if (tf->mode == KSS_MODE_USER) {
        in_user_mode(cpu, tf);
        return;
    }
    /* A copy to or from a bad user pointer, mapped nowhere or no address at all. */
    if ((tf->vector == KSS_VEC_PAGE_FAULT || tf->vector == KSS_VEC_GENERAL_PROTECTION) && kssi_frame_fixup(tf))
        return;
    kssi_report_rescue(cpu, tf);
    tell(&w, cpu, tf);
    kssi_fault(&w.fault, (int)tf->vector + 1);
}

/* ---- double fault ------------------------------------------------------------------------------- */

/* The frame that is live on the vector stack which the first exception needed. */
static const struct kss_trap_frame *live_frame(const struct kssi_cpu *cpu, unsigned stack)
{
    return (const struct kss_trap_frame *)((cpu->stacks.vector[stack].high - kssi_frame_size()) & ~(uintptr_t)63);
}

static void tell_overflow(struct told *w, const struct kssi_cpu *cpu, const struct kss_trap_frame *tf,
                          const struct kssi_range *s, enum kss_stack_kind kind)
{
    uintptr_t sp = kssi_frame_sp(tf);
    unsigned nesting = cpu->current->nesting;
    w->fault.kind = KSS_REPORT_STACK_OVERFLOW;
    snprintf(w->message, sizeof w->message,
             "kernel stack overflow: %zu bytes in use of the %s's %zu, no room for the frame of %s%s%s",
             (size_t)(s->high - sp), kss_stack_kind_name(kind), (size_t)(s->high - s->low),
             kss_vector_name(tf->cause), sp < s->low ? ", and past the end" : "",
             nesting > 3 ? "; interrupts are nested" : "");
}

/*
 * On the double fault's own stack: the frame did not fit where it belonged. Either a kernel stack is used up, or
 * a vector stack was still in use, or the stack pointer was somewhere else, or the host refused a frame at the
 * exit.
 */
static void tell_double(struct told *w, struct kssi_cpu *cpu, const struct kss_trap_frame *tf)
{
    const struct kss_vector_table *table = cpu->machine->platform->vector_table();
    uintptr_t sp = kssi_frame_sp(tf);
    enum kss_stack_kind kind;
    const struct kssi_range *s = kssi_range_of(cpu, sp, &kind);
    w->fault = (struct kssi_fault){ .kind = KSS_REPORT_DOUBLE_FAULT, .tf = tf, .message = w->message,
                                    .second_vector = KSS_VEC_STACK };
    if (tf->cause == KSS_NO_CAUSE) {
        w->fault.kind = KSS_REPORT_BAD_FRAME;
        w->fault.tf = NULL;
        w->fault.sp = sp;
        snprintf(w->message, sizeof w->message, "the host refused the trap frame that was returned through");
        return;
    }
    unsigned own = table->gate[tf->cause & 0xff].stack & 7;
    if (own && cpu->stacks.vector_busy[own]) {
        w->fault.kind = KSS_REPORT_STACK_REUSED;
        w->fault.other_tf = live_frame(cpu, own);
        w->fault.other_what = "the frame that is live on that stack interrupted";
        snprintf(w->message, sizeof w->message, "stack reused: %s needs vector stack %u, where the frame of %s is "
                 "still live", kss_vector_name(tf->cause), own, kss_vector_name(w->fault.other_tf->vector));
    } else if (tf->mode == KSS_MODE_KERNEL && sp < s->low + kssi_frame_size() + 1024 &&
               sp + cpu->machine->stack_gap > s->low) {
        tell_overflow(w, cpu, tf, s, kind);
    } else {
        snprintf(w->message, sizeof w->message, "double fault: %s, then %s while it was delivered: stack pointer "
                 "%#lx is on no kernel stack", kss_vector_name(tf->cause), kss_vector_name(KSS_VEC_STACK),
                 (unsigned long)sp);
    }
}

static void on_double_fault(struct kss_trap_frame *tf, void *arg)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct kss_thread *t = cpu->current;
    struct told w;
    (void)arg;
    tell_double(&w, cpu, tf);
    enum kss_report_action action = kssi_report(&w.fault);
    /* What the overflow destroyed at the low end; the thread never runs on this stack again. */
    kssi_kstack_prepare((uintptr_t)t->ti, t, t->canary);
    kssi_act(action, KSS_VEC_DOUBLE_FAULT + 1);
}

/* On the CPU's last stack: nothing of what happened is left but what it was, and where. */
void kssi_triple_fault(void)
{
    const struct kssi_range *own = &kssi_this_cpu()->stacks.vector[KSSI_STACK_REPORT];
    kssi_frames_gone(own->low, own->high);
    kssi_stack_in_use(*own);
    const struct kssi_cpu_stacks *s = &kssi_this_cpu()->stacks;
    char message[160];
    snprintf(message, sizeof message, "triple fault: %s while the double fault was handled",
             kss_vector_name(s->triple_vector));
    struct kssi_fault f = { .kind = KSS_REPORT_TRIPLE_FAULT, .message = message, .place = s->triple_pc,
                            .place_what = "it happened" };
    kssi_fault(&f, 0);
    __builtin_unreachable();
}

void kssi_vector_reset(struct kss_machine *m, unsigned vector)
{
    bool df = vector == KSS_VEC_DOUBLE_FAULT;
    /* Every vector has a gate in the kernel's eyes: one without is a general protection fault, which
       entry code sees by its type. */
    if (vector >= KSS_VEC_IRQ && vector < KSS_VEC_IRQ + KSS_IRQ_LINES)
        m->vectors.gate[vector] =
            (struct kss_gate){ kssi_irq_dispatch, NULL, KSS_GATE_INTERRUPT, KSS_PRIV_KERNEL, 0 };
    else if (vector == KSS_VEC_SYSCALL)
        m->vectors.gate[vector] =
            (struct kss_gate){ kssi_syscall_dispatch, NULL, KSS_GATE_TRAP, KSS_PRIV_USER, 0 };
    else if (vector < 32)
        m->vectors.gate[vector] = (struct kss_gate){ .handler = df ? on_double_fault : on_exception,
                                                     .type = KSS_GATE_INTERRUPT,
                                                     .privilege = vector == KSS_VEC_BREAKPOINT ||
                                                                          vector == KSS_VEC_OVERFLOW
                                                                      ? KSS_PRIV_USER : KSS_PRIV_KERNEL,
                                                     .stack = df ? KSSI_STACK_DOUBLE_FAULT : 0 };
    if (vector == KSS_VEC_NMI) {
        m->vectors.gate[vector].handler = kssi_nmi;
        m->vectors.gate[vector].stack = KSSI_STACK_NMI;
    }
}

void kssi_fault_init(struct kss_machine *m)
{
    for (unsigned v = 0; v < KSS_VECTORS; v++)
        kssi_vector_reset(m, v);
}

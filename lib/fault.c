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

/* Describes a bad address by the stack it lies in or beside. */
static void describe(char *out, size_t size, struct kss_machine *m, const struct kss_trap_frame *tf)
{
    const char *name = kss_vector_name(tf->vector);
    if (tf->vector != KSS_VEC_PAGE_FAULT) {
        snprintf(out, size, "%s at pc %#lx, error code %#lx", name, (unsigned long)kssi_frame_pc(tf),
                 (unsigned long)tf->error);
        return;
    }
    char where[128] = "";
    kssi_stack_describe(m, tf->fault_address, where, sizeof where);
    snprintf(out, size, "%s %s address %#lx%s%s", tf->error & 2 ? "write to" : "read from",
             tf->fault_address < 65536 ? "NULL-like" : "inaccessible", (unsigned long)tf->fault_address,
             where[0] ? ": " : "", where);
}

static void in_user_mode(struct kssi_cpu *cpu, struct kss_trap_frame *tf)
{
    struct kss_thread *t = cpu->current;
    char message[220];
    describe(message, sizeof message, cpu->machine, tf);
    struct kssi_fault f = { KSS_REPORT_USER_FAULT, KSS_ACTION_KILL_PROCESS, tf, kssi_frame_sp(tf), message };
    kssi_report(&f);
    kssi_process_kill(t->process, (int)tf->vector + 1); /* dies at the common exit */
}

/* In a hard irq, in a kernel thread, or with a lock held that nobody would release any more. */
static bool cannot_survive(const struct kssi_cpu *cpu, const struct kss_thread *t)
{
    return cpu->irq_depth || !t->process || t->locks_held || cpu->machine->sched_lock.holder == t ||
           cpu->machine->tree_lock.holder == t;
}

static void in_kernel_mode(struct kssi_cpu *cpu, struct kss_trap_frame *tf)
{
    struct kss_thread *t = cpu->current;
    char message[220];
    describe(message, sizeof message, cpu->machine, tf);
    struct kssi_fault f = { KSS_REPORT_KERNEL_FAULT, KSS_ACTION_KILL_PROCESS, tf, kssi_frame_sp(tf), message };
    if (cpu->irq_depth)
        f.kind = KSS_REPORT_FAULT_IN_IRQ;
    if (t->ti->preempt_count || cannot_survive(cpu, t))
        f.action = KSS_ACTION_STOP_MACHINE;
    kssi_report(&f);
    if (f.action == KSS_ACTION_STOP_MACHINE)
        kssi_cpu_abort();
    kssi_die((int)tf->vector + 1);
}

static void on_exception(struct kss_trap_frame *tf, void *arg)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    (void)arg;
    KSSI_TRACE(cpu->machine, KSS_TR_EXCEPTION, tf->vector, tf->fault_address, kssi_frame_pc(tf), tf->error);
    if (tf->mode == KSS_MODE_USER)
        in_user_mode(cpu, tf);
    else if ((tf->vector != KSS_VEC_PAGE_FAULT && tf->vector != KSS_VEC_GENERAL_PROTECTION) ||
             !kssi_frame_fixup(tf)) /* a copy to or from a bad user pointer, mapped nowhere or no address at all */
        in_kernel_mode(cpu, tf);
}

/*
 * On the double fault's own stack: the frame did not fit where it belonged. Either the thread's kernel
 * stack is used up, or the stack pointer was somewhere else, or the host refused a frame at the exit.
 */
static void on_double_fault(struct kss_trap_frame *tf, void *arg)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct kss_thread *t = cpu->current;
    uintptr_t sp = kssi_frame_sp(tf), low = cpu->stacks.task.low, high = cpu->stacks.task.high;
    char message[220];
    struct kssi_fault f = { KSS_REPORT_DOUBLE_FAULT, KSS_ACTION_KILL_PROCESS, tf, sp, message };
    (void)arg;
    if (tf->cause == KSS_NO_CAUSE) {
        f.kind = KSS_REPORT_BAD_FRAME;
        f.tf = NULL;
        snprintf(message, sizeof message, "the host refused the trap frame that was returned through");
    } else if (sp < low + kssi_frame_size() + 1024 && sp + cpu->machine->stack_gap > low) {
        f.kind = KSS_REPORT_STACK_OVERFLOW;
        snprintf(message, sizeof message,
                 "kernel stack overflow: %zu bytes in use of %zu, no room for the frame of %s%s",
                 (size_t)(high - sp), (size_t)(high - low), kss_vector_name(tf->cause),
                 sp < low ? ", and past the end" : "");
    } else {
        snprintf(message, sizeof message, "double fault: %s with stack pointer %#lx, which is on no kernel stack",
                 kss_vector_name(tf->cause), (unsigned long)sp);
    }
    if (cannot_survive(cpu, t))
        f.action = KSS_ACTION_STOP_MACHINE;
    kssi_report(&f);
    if (f.action == KSS_ACTION_STOP_MACHINE)
        kssi_cpu_abort();
    /* What the overflow destroyed at the low end; the thread never runs on this stack again. */
    kssi_kstack_prepare((uintptr_t)t->ti, t, t->canary);
    kssi_die(KSS_VEC_DOUBLE_FAULT + 1);
}

/* On the CPU's last stack: nothing of what happened is left but that it did. */
void kssi_triple_fault(void)
{
    struct kssi_fault f = { .kind = KSS_REPORT_TRIPLE_FAULT, .action = KSS_ACTION_STOP_MACHINE,
                            .message = "triple fault: the double fault could not be delivered either" };
    kssi_report(&f);
    kssi_cpu_abort();
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
                                                     .stack = df ? 1 : 0 };
}

void kssi_fault_init(struct kss_machine *m)
{
    for (unsigned v = 0; v < KSS_VECTORS; v++)
        kssi_vector_reset(m, v);
}

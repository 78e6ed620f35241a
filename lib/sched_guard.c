/* SPDX-License-Identifier: MIT */
/*
 * Operations of an experiment's scheduler class, under guard. They run on a stack of the CPU's own: what
 * they do to it harms nobody. Where the kernel would report that it can't go on, the operation is
 * abandoned instead, back to the recovery point on the caller's stack. Everything else that an
 * operation may have left (interrupts on, preemption off, live trap frames) is put back.
 */
#include "sched_class.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- what was found --------------------------------------------------------------------------- */

static enum kss_sched_exit_kind exit_kind(const struct kssi_fault *f)
{
    switch (f->kind) {
    case KSS_REPORT_HARD_LOCKUP:
        return KSS_SCHED_EXIT_STALL;
    case KSS_REPORT_ATOMIC_SLEEP:
    case KSS_REPORT_INVARIANT:
    case KSS_REPORT_STATE_LEAK:
    case KSS_REPORT_BAD_TRANSITION:
    case KSS_REPORT_LOCK_ORDER:
    case KSS_REPORT_SPINLOCK:
        return KSS_SCHED_EXIT_ERROR;
    default:
        return f->tf && f->tf->vector == KSS_VEC_NMI ? KSS_SCHED_EXIT_STALL : KSS_SCHED_EXIT_CRASH;
    }
}

/* While the class is being ejected, its last operations add to the record only. */
static bool takes_blame(struct kss_machine *m, const char *text)
{
    struct kssi_ejection *e = m->ejection;
    if (e->under_way)
        kssi_text_print(&e->dump.text, "\n%s\n", text);
    return !e->under_way && !e->done && e->info.kind == KSS_SCHED_EXIT_DONE;
}

static void found(struct kss_machine *m, enum kss_sched_exit_kind kind, const struct kss_thread *t, const char *text)
{
    struct kssi_ejection *e = m->ejection;
    if (!takes_blame(m, text))
        return;
    e->info.kind = kind;
    e->info.tid = t ? t->tid : 0;
    snprintf(e->message, sizeof e->message, "%s", text);
}

void kssi_class_blame(struct kss_machine *m, enum kss_sched_exit_kind kind, const struct kss_thread *t,
                      const char *format, ...)
{
    char text[KSSI_CLASS_MESSAGE];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    found(m, kind, t, text);
}

void kssi_class_report(struct kss_machine *m, const struct kssi_fault *f)
{
    struct kssi_ejection *e = m->ejection;
    char message[KSSI_CLASS_MESSAGE];
    struct kssi_fault told = *f;
    snprintf(message, sizeof message, "scheduler %.40s: %.200s", m->config.sched->name, e->message);
    told.kind = KSS_REPORT_SCHED_EJECTED;
    told.message = message;
    told.must_stop = NULL;
    e->reported = true;
    e->action = kssi_report(&told);
}

static void found_in_op(struct kssi_cpu *cpu, enum kss_sched_exit_kind kind, const char *what)
{
    const struct kssi_class_op *o = cpu->op;
    char text[KSSI_CLASS_MESSAGE];
    if (o->thread)
        snprintf(text, sizeof text, "%s() of thread %d (%s): %.180s", o->name, o->thread->tid, o->thread->name, what);
    else
        snprintf(text, sizeof text, "%s(): %.200s", o->name, what);
    found(cpu->machine, kind, o->thread, text);
}

/* With the report made here, where its backtrace shows the operation. */
static void blame_op(struct kssi_cpu *cpu, const struct kssi_fault *f)
{
    struct kss_machine *m = cpu->machine;
    bool first = m->ejection->info.kind == KSS_SCHED_EXIT_DONE;
    /* Found before it is said to be over: a CPU that waits for it sees one or the other, and is not to blame. */
    found_in_op(cpu, exit_kind(f), f->message ? f->message : kss_report_kind_name(f->kind));
    __atomic_store_n(&cpu->in_class_op, false, __ATOMIC_RELEASE); /* a fault from here on is the kernel's own */
    if (first)
        kssi_class_report(m, f);
}

/* ---- abandoning it ------------------------------------------------------------------------------ */

void kssi_class_op_failed(struct kssi_cpu *cpu, const struct kssi_fault *f)
{
    blame_op(cpu, f);
    __builtin_longjmp(cpu->op->recovery, 1);
}

/* Where an interrupted operation resumes: with any stack pointer, so it does next to nothing. */
__attribute__((noreturn)) static void recover(void)
{
    __builtin_longjmp(kssi_this_cpu()->op->recovery, 1);
}

bool kssi_sched_rescue(struct kssi_cpu *cpu, struct kss_trap_frame *tf)
{
    if (!cpu->in_class_op)
        return false;
    struct kssi_fault f = { .kind = KSS_REPORT_HARD_LOCKUP, .tf = tf,
                            .message = "it did not end: ended by a non-maskable interrupt" };
    blame_op(cpu, &f);
    kssi_frame_set_pc(tf, (uintptr_t)recover);
    return true;
}

static bool in_class_op(void)
{
    /* An operation has interrupts off, so nobody who could migrate between the reads is in one. */
    return !kssi_irqs_on() && kssi_this_cpu() && kssi_this_cpu()->in_class_op;
}

void kssi_not_in_class_op(const char *what)
{
    if (unlikely(in_class_op()))
        kssi_panic(KSS_REPORT_ATOMIC_SLEEP, "%s is not for operations of a scheduler class", what);
}

/* The line is in service already: it is ended and raised again, and comes when the class is gone. */
void kssi_class_op_interrupted(struct kssi_cpu *cpu, unsigned line)
{
    struct kss_machine *m = cpu->machine;
    if (likely(!cpu->in_class_op))
        return;
    m->platform->eoi(line);
    m->platform->raise(m, cpu->index, line, 1);
    kssi_panic(KSS_REPORT_STATE_LEAK, "it turned interrupts on, and one came");
}

/* ---- the call ------------------------------------------------------------------------------------- */

static void note_state(struct kssi_cpu *cpu)
{
    struct kssi_class_op *o = cpu->op;
    struct kss_thread *t = cpu->current;
    o->tf = t->tf;
    o->waiters = t->waiters;
    o->nesting = t->nesting;
    o->locks_held = t->locks_held;
    o->irq_depth = cpu->irq_depth;
    o->reporting = cpu->reporting;
    o->preempt_count = t->ti->preempt_count;
    o->host_errno = kssi_host_errno();
    __builtin_memcpy(o->vector_busy, cpu->stacks.vector_busy, sizeof o->vector_busy);
}

/* As it was before the operation, wherever that was left. */
static void put_back(struct kssi_cpu *cpu)
{
    struct kssi_class_op *o = cpu->op;
    struct kss_thread *t = cpu->current;
    kssi_irq_disable();
    t->tf = o->tf;
    t->waiters = o->waiters;
    t->nesting = o->nesting;
    while (t->locks_held > o->locks_held) /* those it took: nobody else would release them */
        kssi_lock_take_away(t, true);
    cpu->irq_depth = o->irq_depth;
    cpu->reporting = o->reporting;
    t->ti->preempt_count = o->preempt_count;
    kssi_set_host_errno(o->host_errno);
    __builtin_memcpy(cpu->stacks.vector_busy, o->vector_busy, sizeof o->vector_busy);
}

/* It returned: has it left everything as it was? */
static void check_state(struct kssi_cpu *cpu)
{
    struct kssi_class_op *o = cpu->op;
    struct kss_thread *t = cpu->current;
    const char *left = NULL;
    if (kssi_irqs_on())
        left = "it left interrupts on";
    else if (t->ti->preempt_count != o->preempt_count)
        left = "it left preemption disabled";
    else if (t->locks_held != o->locks_held)
        left = "it left a spinlock held";
    if (likely(!left))
        return;
    put_back(cpu);
    found_in_op(cpu, KSS_SCHED_EXIT_ERROR, left);
}

static void on_class_stack(void *arg)
{
    struct kss_machine *m = arg;
    struct kssi_class_op *o = kssi_this_cpu()->op;
    o->result = kssi_op_call(m, m->config.sched, o->op, o->thread, o->argument);
}

/* False: it was abandoned. Nothing that lives in a register is used after the return of the second kind. */
__attribute__((noinline)) static bool run(struct kssi_cpu *cpu)
{
    const struct kssi_range *own = &cpu->stacks.vector[KSSI_STACK_CLASS];
    cpu->op->caller = kssi_stack_in_use(*own);
    if (__builtin_setjmp(cpu->op->recovery)) {
        struct kssi_cpu *here = kssi_this_cpu();
        kssi_stack_in_use(here->op->caller);
        kssi_frames_gone(here->stacks.vector[KSSI_STACK_CLASS].low, here->stacks.vector[KSSI_STACK_CLASS].high);
        return false;
    }
    kssi_call_on_stack(own->high & ~(uintptr_t)63, on_class_stack, cpu->machine);
    kssi_stack_in_use(cpu->op->caller);
    return true;
}

long kssi_op_guarded(struct kss_machine *m, size_t op, const char *name, struct kss_thread *t, long n)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct kssi_class_op *o = cpu->op;
    KSS_ASSERT(!cpu->in_class_op);
    o->op = op;
    o->name = name;
    o->thread = t;
    o->argument = n;
    /* What the caller goes on with if it is abandoned: as if the class had no such operation. */
    o->result = op == KSSI_OP(yield) ? 1 : op == KSSI_OP(select_cpu) ? -1 : 0;
    note_state(cpu);
    kssi_kstack_prepare(cpu->stacks.vector[KSSI_STACK_CLASS].low, cpu->current, cpu->current->canary);
    cpu->in_class_op = true;
    if (run(cpu))
        check_state(cpu);
    else
        put_back(cpu);
    cpu->in_class_op = false;
    if (unlikely(m->ejection->info.kind != KSS_SCHED_EXIT_DONE))
        kssi_eject_if_found(cpu);
    return o->result;
}

int kssi_guard_init(struct kss_machine *m)
{
    const struct kss_sched_class *c = m->config.sched;
    m->guarded = c != &kss_sched_rr && c != &kss_sched_priority;
    if (!m->guarded)
        return 0;
    m->ejection = calloc(1, sizeof *m->ejection);
    if (!m->ejection)
        return kssi_error(-ENOMEM, "no host memory for scheduler %s", c->name);
    for (unsigned i = 0; i < m->cpus; i++) {
        m->cpu[i].op = calloc(1, sizeof *m->cpu[i].op);
        if (!m->cpu[i].op)
            return kssi_error(-ENOMEM, "no host memory for scheduler %s", c->name);
    }
    return 0;
}

void kssi_guard_fini(struct kss_machine *m)
{
    for (unsigned i = 0; i < m->cpus; i++)
        free(m->cpu[i].op);
    free(m->ejection);
}

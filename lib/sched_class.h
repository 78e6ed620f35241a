/* SPDX-License-Identifier: MIT */
/*
 * How the scheduler calls the operations of its class. The library's own classes are called directly. An
 * experiment's are called under guard: on a stack of the CPU's own, and with a point to come back to,
 * so that an operation that faults, asserts, sleeps or never ends is abandoned, and its class ejected.
 */
#ifndef KSSI_SCHED_CLASS_H
#define KSSI_SCHED_CLASS_H

#include "kernel.h"

/* An operation is known by its place in the class. */
#define KSSI_OP(op) offsetof(struct kss_sched_class, op)

struct kss_dump {
    struct kssi_text text;
};

#define KSSI_RECORD_SIZE 8192
#define KSSI_CLASS_MESSAGE 256

/* How a class ended, and what is needed to see that it must. sched_lock. */
struct kssi_ejection {
    struct kss_sched_exit_info info; /* kind: not 0 from the moment a misbehaviour is found */
    char message[KSSI_CLASS_MESSAGE];
    bool reported, under_way, done;
    uint64_t done_at;
    enum kss_report_action action;   /* of the report */
    struct kss_dump dump;
    char record[KSSI_RECORD_SIZE];
    uint64_t ticks;                  /* time in which a CPU could have run anything */
    unsigned cursor;                 /* next slot of by_id to look at */
};

/* The operation under way on a CPU, and what is put back if it is abandoned. Interrupts off. */
struct kssi_class_op {
    size_t op;
    const char *name;
    struct kss_thread *thread; /* it is about; may be NULL */
    long argument, result;
    void *recovery[5];
    struct kssi_range caller;  /* the stack that it was called on */
    struct kss_trap_frame *tf;
    struct kss_waiter *waiters;
    unsigned nesting, locks_held, irq_depth;
    int preempt_count, host_errno;
    uint8_t vector_busy[KSSI_VECTOR_STACKS];
    bool reporting;
};

/* op is a constant where this is inlined: one indirect call is left. The operation exists. */
static inline __attribute__((always_inline)) long
kssi_op_call(struct kss_machine *m, const struct kss_sched_class *c, size_t op, struct kss_thread *t, long n)
{
    switch (op) {
    case KSSI_OP(select_cpu):
        return c->select_cpu(t, (int)t->cpu, (unsigned)n);
    case KSSI_OP(enqueue):
        c->enqueue(t, (unsigned)n);
        return 0;
    case KSSI_OP(dequeue):
        c->dequeue(t, (unsigned)n);
        return 0;
    case KSSI_OP(dispatch):
        c->dispatch((int)n, t);
        return 0;
    case KSSI_OP(tick):
        c->tick(t);
        return 0;
    case KSSI_OP(yield):
        return c->yield(t, NULL);
    case KSSI_OP(runnable):
        c->runnable(t, (unsigned)n);
        return 0;
    case KSSI_OP(running):
        c->running(t);
        return 0;
    case KSSI_OP(stopping):
        c->stopping(t, n != 0);
        return 0;
    case KSSI_OP(quiescent):
        c->quiescent(t, (unsigned)n);
        return 0;
    case KSSI_OP(set_priority):
        c->set_priority(t, (int)n);
        return 0;
    case KSSI_OP(set_cpumask):
        c->set_cpumask(t, t->allowed.bits);
        return 0;
    case KSSI_OP(update_idle):
        c->update_idle((int)kssi_this_cpu()->index, n != 0);
        return 0;
    case KSSI_OP(cpu_online):
        c->cpu_online((int)n);
        return 0;
    case KSSI_OP(cpu_offline):
        c->cpu_offline((int)n);
        return 0;
    case KSSI_OP(init):
        return c->init(m);
    case KSSI_OP(exit):
        c->exit(&m->ejection->info);
        return 0;
    case KSSI_OP(init_thread):
        return c->init_thread(t);
    case KSSI_OP(exit_thread):
        c->exit_thread(t);
        return 0;
    case KSSI_OP(enable):
        c->enable(t);
        return 0;
    case KSSI_OP(disable):
        c->disable(t);
        return 0;
    case KSSI_OP(dump):
        c->dump(&m->ejection->dump);
        return 0;
    case KSSI_OP(dump_cpu):
        c->dump_cpu(&m->ejection->dump, (int)n, m->cpu[n].current == m->cpu[n].idle);
        return 0;
    case KSSI_OP(dump_thread):
        c->dump_thread(&m->ejection->dump, t);
        return 0;
    default:
        KSS_ASSERT(!"an operation that nobody calls");
        return 0;
    }
}

/* Calls the operation under guard and ejects the class if it misbehaves. Interrupts off. */
long kssi_op_guarded(struct kss_machine *m, size_t op, const char *name, struct kss_thread *t, long n)
    __attribute__((cold));

static inline __attribute__((always_inline)) long
kssi_op_run(struct kss_machine *m, size_t op, const char *name, struct kss_thread *t, long n)
{
    return likely(!m->guarded) ? kssi_op_call(m, m->sched, op, t, n) : kssi_op_guarded(m, op, name, t, n);
}

/* The class's operation with a thread and a number, or what the operation's default is. Unlikely: the default class
   has no operations, and its context switch is the one that is measured. */
#define CLASS_OR(m, op, t, n, preset) \
    (unlikely((m)->sched->op) ? kssi_op_run((m), KSSI_OP(op), #op, (t), (long)(n)) : (preset))
#define CLASS(m, op, t, n) ((void)CLASS_OR(m, op, t, n, 0))

/* A misbehaviour: the first one counts. Acted on when the operation under way has ended, or by
   kssi_eject_if_found(). */
void kssi_class_blame(struct kss_machine *m, enum kss_sched_exit_kind kind, const struct kss_thread *t,
                      const char *format, ...) KSS_PRINTF(4, 5);
/* The same with a report, made where it happened. */
void kssi_class_report(struct kss_machine *m, const struct kssi_fault *f);
/* Ejects the class if there is a misbehaviour. sched_lock held, interrupts off, no operation under way. */
void kssi_eject_if_found(struct kssi_cpu *cpu);

#endif

/* SPDX-License-Identifier: MIT */
/* Reports: built on a stack of the CPU's own, so that a dead stack is read and not used. */
#include "kernel.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is done about it -------------------------------------------------------------------- */

/* Its frame is the first on its stack, while that is busy. */
static bool in_nmi(const struct kssi_cpu *cpu)
{
    unsigned n = cpu->machine->platform->vector_table()->gate[KSS_VEC_NMI].stack & 7;
    uintptr_t at = (cpu->stacks.vector[n].high - kssi_frame_size()) & ~(uintptr_t)63;
    return n && cpu->stacks.vector_busy[n] && ((const struct kss_trap_frame *)at)->vector == KSS_VEC_NMI;
}

const char *kssi_cannot_survive(const struct kssi_cpu *cpu, const struct kss_thread *t)
{
    if (cpu->in_on_report)
        return "it is in on_report()";
    if (cpu->irq_depth)
        return "it is in a hard irq handler";
    if (in_nmi(cpu))
        return "a non-maskable interrupt is handled, and may have found the kernel in the middle of anything";
    if (cpu->in_softirq)
        return "it is in a softirq";
    if (t->kernel_fn)
        return "it is a kernel thread";
    if (t->locks_held)
        return "it holds a spinlock that nobody would release";
    if (cpu->machine->sched_lock.holder == t || cpu->machine->tree_lock.holder == t)
        return "it holds a lock of the kernel's";
    /* Where the stack has run over it, it says nothing any more; nor is it mended, for the backtrace of what ran over it
       finds registers there. */
    const struct kss_thread_info *ti = t->ti;
    bool whole = ti && ti->magic == KSS_THREAD_INFO_MAGIC && ti->thread == t && kssi_kstack_end_ok(t);
    return whole && ti->preempt_count ? "preemption is disabled" : NULL;
}

static bool dies_in_kernel(const struct kssi_fault *f, enum kss_report_action action)
{
    return (action == KSS_ACTION_KILL_THREAD || action == KSS_ACTION_KILL_PROCESS) &&
           (!f->tf || f->tf->mode == KSS_MODE_KERNEL);
}

static enum kss_report_action decide(struct kssi_cpu *cpu, const struct kssi_fault *f, const char **why)
{
    enum kss_report_action action = cpu->machine->config.policy[f->kind];
    if (action == KSS_ACTION_DEFAULT)
        kss_report_actions(f->kind, &action);
    *why = f->must_stop;
    if (!*why && dies_in_kernel(f, action))
        *why = kssi_cannot_survive(cpu, cpu->current);
    if (action == KSS_ACTION_STOP_MACHINE)
        *why = NULL;
    return *why ? KSS_ACTION_STOP_MACHINE : action;
}

void kssi_act(enum kss_report_action action, int status)
{
    if (action == KSS_ACTION_STOP_MACHINE)
        kssi_cpu_abort();
    if (action == KSS_ACTION_KILL_PROCESS)
        kssi_die(status);
    if (action == KSS_ACTION_KILL_THREAD)
        kssi_thread_exit(kssi_current(), status, -1);
}

void kssi_fault(const struct kssi_fault *f, int status)
{
    kssi_act(kssi_report(f), status);
}

/* ---- what is said about it ---------------------------------------------------------------------- */

static void name_place(struct kss_machine *m, struct kss_report_place *p, uintptr_t pc)
{
    p->pc = pc;
    if (pc && !m->platform->symbol(pc, p->symbol, sizeof p->symbol, &p->offset))
        p->symbol[0] = '\0';
}

static void fill_stack(struct kss_report *r, struct kssi_cpu *cpu, struct kss_thread *t)
{
    r->stack = KSS_STACK_USER;
    r->stack_low = t->user_low;
    r->stack_high = t->user_high;
    if (r->mode == KSS_MODE_KERNEL) {
        struct kssi_range own = { (uintptr_t)t->ti, 0 };
        const struct kssi_range *s = &own;
        if (t == cpu->current)
            s = kssi_range_of(cpu, r->sp, &r->stack);
        else
            r->stack = KSS_STACK_TASK;
        if (s == &own)
            own.high = own.low + (t->kstack_arena ? t->kstack_arena->size : cpu->machine->config.kstack_size);
        r->stack_low = s->low;
        r->stack_high = s->high;
    }
    if (r->sp && r->sp <= r->stack_high)
        r->depth = r->stack_high - r->sp;
    if (r->sp && r->sp < r->stack_low)
        r->beyond = r->stack_low - r->sp;
    kssi_stack_guards(cpu->machine, r->stack_low, &r->guard_low, &r->guard_high);
    if (r->stack == KSS_STACK_TASK && t->ti) {
        r->user_frame = t->user_frame;
        r->canary_intact = t->ti->canary == t->canary;
        r->high_water = kssi_kstack_high_water(r->stack_low, r->stack_high - r->stack_low,
                                               cpu->machine->config.poison);
    }
}

static void fill_fault(struct kss_report *r, const struct kssi_fault *f)
{
    r->kind = f->kind;
    r->line = f->line;
    r->waited_ns = f->waited_ns;
    r->second_vector = f->second_vector;
    r->sp = f->sp;
    r->mode = KSS_MODE_KERNEL;
    r->vector = KSS_NO_CAUSE;
    r->fault_address = f->address;
    if (f->message)
        snprintf(r->message, sizeof r->message, "%s", f->message);
    if (!f->tf)
        return;
    r->mode = f->tf->mode;
    r->vector = f->tf->cause != KSS_NO_CAUSE ? f->tf->cause : f->tf->vector;
    r->error = f->tf->error;
    r->pc = kssi_frame_pc(f->tf);
    if (!r->fault_address)
        r->fault_address = f->tf->fault_address;
    if (!r->sp)
        r->sp = kssi_frame_sp(f->tf);
}

/* A smashed stack may lead the unwinder anywhere: a fault on the way ends the walk, with what it has found. */
void kssi_report_rescue(struct kssi_cpu *cpu, const struct kss_trap_frame *tf)
{
    if (!cpu->walking || (in_nmi(cpu) && !cpu->own_nmi)) /* a handler's own fault is not the walk's */
        return;
    cpu->walking = false;
    cpu->current->tf = tf->prev;
    cpu->current->nesting--;
    if (tf->stack)
        cpu->stacks.vector_busy[tf->stack] = 0;
    __builtin_longjmp(cpu->rescue, 1);
}

int kssi_report_walk(struct kssi_cpu *cpu, const struct kss_trap_frame *tf, const void *context,
                     struct kss_frame *frames, int max)
{
    const struct kssi_platform *p = cpu->machine->platform;
    volatile int n = 0;
    if (__builtin_setjmp(cpu->rescue) == 0) {
        cpu->walking = true;
        n = tf ? p->backtrace_trap(tf, frames, max) : p->backtrace(context, frames, max);
    } else {
        while (n < max && frames[n].pc)
            n++;
    }
    cpu->walking = false;
    return n;
}

/* The report's own frames, on the stack it is built on, and the functions that asked for it. */
static void drop_own(struct kss_report *r, struct kssi_cpu *cpu)
{
    const struct kssi_range *s = &cpu->stacks.vector[KSSI_STACK_REPORT];
    int i = 0;
    while (i < r->frames && ((r->frame[i].sp > s->low && r->frame[i].sp <= s->high) ||
                             strncmp(r->frame[i].symbol, "kssi_call_on", 12) == 0 ||
                             strncmp(r->frame[i].symbol, "kssi_report", 11) == 0 ||
                             strncmp(r->frame[i].symbol, "kssi_fault", 10) == 0 ||
                             strncmp(r->frame[i].symbol, "kssi_panic", 10) == 0 ||
                             strncmp(r->frame[i].symbol, "kssi_stack_smashed", 18) == 0 ||
                             strncmp(r->frame[i].symbol, "__stack_chk_fail", 16) == 0))
        i++;
    memmove(r->frame, r->frame + i, (size_t)(r->frames - i) * sizeof r->frame[0]);
    r->frames -= i;
}

/* The kernel's own frames between a trap and what it called, or what its exit has found. */
static bool is_dispatch(const char *symbol)
{
    static const char *const names[] = { "handle", "dispatch", "leave", "exit_to_user", "run_handler",
                                         "leapt", "end_overwritten" };
    size_t n = strcspn(symbol, "."); /* compilers make parts, "handle.cold" */
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strlen(names[i]) == n && strncmp(symbol, names[i], n) == 0)
            return true;
    return strncmp(symbol, "kssi_", 5) == 0;
}

/* Of the frames [i, end), the function that called into the library; end: all are the library's. */
static int caller_of_library(const struct kss_report *r, int i, int end)
{
    int found = i;
    for (int n = i; n < end; n++)
        if (strncmp(r->frame[n].symbol, "kss_", 4) == 0)
            found = n + 1; /* behind the outermost function of the interface */
    while (found == i && i < end && strncmp(r->frame[i].symbol, "kss", 3) == 0)
        found = ++i;
    return found;
}

/* What was interrupted; without a frame, who called into the library, if nobody on this side of a trap then on the
   other. */
static void name_culprit(struct kss_report *r, const struct kssi_fault *f)
{
    int i = 0;
    for (int from = 0; !f->tf && from < r->frames;) {
        int trap = from, end;
        while (trap < r->frames && r->frame[trap].kind != KSS_FRAME_TRAP)
            trap++;
        for (end = trap; end > from && trap < r->frames && is_dispatch(r->frame[end - 1].symbol);)
            end--;
        i = caller_of_library(r, from, end);
        from = i < end ? r->frames : trap + 1;
    }
    if (i >= r->frames)
        return;
    snprintf(r->symbol, sizeof r->symbol, "%s", r->frame[i].symbol);
    r->offset = r->frame[i].offset;
    r->pc = r->frame[i].pc;
}

static void fill_backtraces(struct kss_report *r, struct kssi_cpu *cpu, const struct kssi_fault *f)
{
    const void *context = f->thread && f->thread != cpu->current ? f->thread->context : NULL;
    r->frames = kssi_report_walk(cpu, f->tf, context, r->frame, KSS_REPORT_FRAMES);
    if (!f->tf && !context)
        drop_own(r, cpu);
    name_culprit(r, f);
    if (f->other_tf)
        r->other_frames = kssi_report_walk(cpu, f->other_tf, NULL, r->other, KSS_REPORT_OTHER_FRAMES);
    for (int i = 0; i < f->other_count && i < KSS_REPORT_OTHER_FRAMES; i++, r->other_frames++) {
        struct kss_report_place place = { 0 };
        name_place(cpu->machine, &place, f->other_pcs[i]);
        r->other[i] = (struct kss_frame){ .pc = place.pc, .offset = place.offset };
        memcpy(r->other[i].symbol, place.symbol, sizeof place.symbol);
    }
}

static void fill(struct kss_report *r, struct kssi_cpu *cpu, const struct kssi_fault *f)
{
    struct kss_machine *m = cpu->machine;
    struct kss_thread *t = f->thread ? f->thread : cpu->current, *near = NULL;
    const char *why = NULL;
    memset(r, 0, sizeof *r);
    fill_fault(r, f);
    r->action = decide(cpu, f, &why);
    snprintf(r->why_stopped, sizeof r->why_stopped, "%s", why ? why : "");
    r->machine = m;
    r->time_ns = kssi_now(m);
    r->cpu = cpu->index;
    r->tid = t->tid;
    r->pid = t->process ? t->process->pid : 0;
    snprintf(r->thread_name, sizeof r->thread_name, "%s", t->name);
    r->nesting = t->nesting;
    r->near.stack = KSS_STACK_UNKNOWN;
    if (r->fault_address)
        kssi_stack_near(m, r->fault_address, t, &r->near, &near);
    fill_stack(r, cpu, t);
    name_place(m, &r->place, f->place);
    snprintf(r->place_what, sizeof r->place_what, "%s", f->place_what ? f->place_what : "");
    snprintf(r->other_what, sizeof r->other_what, "%s", f->other_what ? f->other_what : "");
    if (m->trace_on)
        r->events = kssi_trace_last(cpu, r->event, KSS_REPORT_EVENTS);
    if (r->kind != KSS_REPORT_TRIPLE_FAULT) /* there is nothing left to walk */
        fill_backtraces(r, cpu, f);
}

/* A report of another CPU's waits for this one: an experiment's function is not called by two. But not for ever: that
   CPU may have a lock which the one that reports needs. */
#define TURN_NS 500000000u

static bool take_turn(struct kss_machine *m, const struct kss_thread *self)
{
    uint64_t start = m->platform->account_clock(m);
    if (m->report_lock.holder == self)
        return false; /* a fault in the middle of a report */
    while (__atomic_exchange_n(&m->report_lock.locked, 1, __ATOMIC_ACQUIRE)) {
        if (m->platform->account_clock(m) - start > TURN_NS)
            return false;
        kssi_relax();
    }
    m->report_lock.holder = self;
    return true;
}

static struct kss_spinlock printing = KSS_SPINLOCK_INIT("report");

void kssi_report_leave(const struct kss_thread *t)
{
    if (printing.holder == t)
        kssi_unlock(&printing);
}

static void hand_out(struct kss_machine *m, const struct kss_report *r)
{
    static char text[16384]; /* one machine reports at a time: `printing` */
    if (m->config.on_report) {
        struct kssi_cpu *cpu = kssi_this_cpu();
        cpu->in_on_report = true;
        m->config.on_report(r, m->config.report_arg);
        kssi_irq_disable(); /* whatever it left */
        cpu->in_on_report = false;
        return;
    }
    bool nested = printing.holder == kssi_current(); /* a fault while it was printed */
    if (!nested)
        kssi_lock(&printing, kssi_current());
    int n = kss_report_format(r, text, sizeof text);
    m->platform->message(text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
    if (!nested)
        kssi_unlock(&printing);
}

struct building {
    struct kssi_fault fault;
    enum kss_report_action action;
};

static void build_and_hand_out(void *arg)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct building *b = arg;
    bool turn = take_turn(cpu->machine, cpu->current);
    fill(&cpu->report, cpu, &b->fault);
    b->action = cpu->report.action; /* of this one: a callback may cause another, which takes its place */
    hand_out(cpu->machine, &cpu->report);
    if (turn)
        kssi_unlock(&cpu->machine->report_lock);
}

/* The experiment's function has the report in its hands, and is not called again for what it does wrong. */
static enum kss_report_action report_of_on_report(struct kssi_cpu *cpu, const struct kssi_fault *f)
{
    char line[400];
    const char *why;
    int n = snprintf(line, sizeof line, "kstacksim: %s, in on_report(): %s\n", kss_report_kind_name(f->kind),
                     f->message ? f->message : "");
    cpu->machine->platform->message(line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
    return decide(cpu, f, &why);
}

void kssi_call_on_report_stack(struct kssi_cpu *cpu, void (*fn)(void *), void *arg)
{
    struct kssi_range *own = &cpu->stacks.vector[KSSI_STACK_REPORT];
    uint8_t *busy = &cpu->stacks.vector_busy[KSSI_STACK_REPORT];
    uintptr_t sp = (uintptr_t)__builtin_frame_address(0);
    /* A fault on it, or a handler that came while it was used: below that, or on the handler's own. */
    if (*busy || (sp > own->low && sp <= own->high)) {
        fn(arg);
        return;
    }
    *busy = 1;
    ((struct kss_thread_info *)own->low)->thread = cpu->current;
    kssi_call_on(own, fn, arg);
    *busy = 0;
}

enum kss_report_action kssi_report(const struct kssi_fault *f)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    if (cpu->in_on_report)
        return report_of_on_report(cpu, f);
    struct building b = { .fault = *f };
    const char *why;
    if (unlikely(cpu->in_class_op) && decide(cpu, f, &why) != KSS_ACTION_CONTINUE)
        kssi_class_op_failed(cpu, f);
    if (!b.fault.sp && !b.fault.tf && (!b.fault.thread || b.fault.thread == cpu->current))
        b.fault.sp = (uintptr_t)__builtin_frame_address(0);
    bool within_another = cpu->reporting;
    cpu->reporting = true;
    kssi_call_on_report_stack(cpu, build_and_hand_out, &b);
    cpu->reporting = within_another;
    return b.action;
}

void kssi_panic(enum kss_report_kind kind, const char *format, ...)
{
    char message[256];
    va_list ap;
    va_start(ap, format);
    vsnprintf(message, sizeof message, format, ap);
    va_end(ap);
    if (!kssi_this_cpu()) {
        fprintf(stderr, "kstacksim: %s: %s\n", kss_report_kind_name(kind), message);
        abort();
    }
    kssi_irq_disable();
    struct kssi_fault f = { .kind = kind, .message = message, .sp = (uintptr_t)__builtin_frame_address(0),
                            .must_stop = "" };
    kssi_report(&f);
    kssi_cpu_abort();
}

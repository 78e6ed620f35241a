/* SPDX-License-Identifier: MIT */
/* Reports: built on a stack of the CPU's own, so that a dead stack is read and not used. */
#include "kernel.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const kinds[KSS_REPORT_KINDS] = {
    [KSS_REPORT_USER_FAULT] = "exception in user mode",
    [KSS_REPORT_KERNEL_FAULT] = "exception in kernel mode",
    [KSS_REPORT_FAULT_IN_IRQ] = "fatal exception in interrupt",
    [KSS_REPORT_STACK_OVERFLOW] = "kernel stack overflow",
    [KSS_REPORT_STACK_CORRUPTED] = "corrupted stack end",
    [KSS_REPORT_DOUBLE_FAULT] = "double fault",
    [KSS_REPORT_TRIPLE_FAULT] = "triple fault",
    [KSS_REPORT_BAD_FRAME] = "bad trap frame",
    [KSS_REPORT_ATOMIC_SLEEP] = "scheduling while atomic",
    [KSS_REPORT_INVARIANT] = "invariant violated",
};

const char *kss_report_kind_name(enum kss_report_kind kind)
{
    return (unsigned)kind < KSS_REPORT_KINDS ? kinds[kind] : "?";
}

static void fill_stack(struct kss_report *r, struct kssi_cpu *cpu, const struct kssi_fault *f)
{
    struct kss_thread *t = cpu->current;
    r->sp = f->sp;
    r->stack = KSS_STACK_USER;
    r->stack_low = t->user_low;
    r->stack_high = t->user_high;
    if (r->mode == KSS_MODE_KERNEL) {
        const struct kssi_range *s = &cpu->stacks.task;
        r->stack = KSS_STACK_TASK;
        if (f->sp > cpu->stacks.irq.low && f->sp <= cpu->stacks.irq.high) {
            s = &cpu->stacks.irq;
            r->stack = KSS_STACK_IRQ;
        }
        r->stack_low = s->low;
        r->stack_high = s->high;
    }
    if (f->sp && f->sp <= r->stack_high)
        r->depth = r->stack_high - f->sp;
    if (f->sp && f->sp < r->stack_low)
        r->beyond = r->stack_low - f->sp;
}

static void fill(struct kss_report *r, struct kssi_cpu *cpu, const struct kssi_fault *f)
{
    struct kss_thread *t = cpu->current;
    memset(r, 0, sizeof *r);
    r->kind = f->kind;
    r->action = f->action;
    r->cpu = cpu->index;
    r->tid = t->tid;
    r->pid = t->process ? t->process->pid : 0;
    snprintf(r->thread_name, sizeof r->thread_name, "%s", t->name);
    r->mode = KSS_MODE_KERNEL;
    r->nesting = t->nesting;
    snprintf(r->message, sizeof r->message, "%s", f->message);
    if (f->tf) {
        r->mode = f->tf->mode;
        r->vector = f->tf->cause != KSS_NO_CAUSE ? f->tf->cause : f->tf->vector;
        r->error = f->tf->error;
        r->fault_address = f->tf->fault_address;
        r->pc = kssi_frame_pc(f->tf);
    }
    fill_stack(r, cpu, f);
    if (r->kind == KSS_REPORT_TRIPLE_FAULT)
        return; /* there is nothing left to walk */
    r->frames = f->tf ? cpu->machine->platform->backtrace_trap(f->tf, r->frame, KSS_REPORT_FRAMES)
                      : cpu->machine->platform->backtrace(NULL, r->frame, KSS_REPORT_FRAMES);
    if (r->frames > 0 && f->tf) {
        snprintf(r->symbol, sizeof r->symbol, "%s", r->frame[0].symbol);
        r->offset = r->frame[0].offset;
    }
}

static void build_and_hand_out(void *arg)
{
    static char text[8192]; /* one CPU reports at a time: `report_lock` */
    static struct kss_spinlock report_lock = KSS_SPINLOCK_INIT("report");
    const struct kssi_fault *f = arg;
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct kss_machine *m = cpu->machine;
    fill(&cpu->report, cpu, f);
    if (m->config.on_report) {
        m->config.on_report(&cpu->report, m->config.report_arg);
        return;
    }
    kss_spin_lock(&report_lock);
    int n = kss_report_format(&cpu->report, text, sizeof text);
    if (n >= (int)sizeof text)
        n = (int)sizeof text - 1;
    for (int done = 0; done < n;) {
        ssize_t w = write(STDERR_FILENO, text + done, (size_t)(n - done));
        if (w <= 0)
            break;
        done += (int)w;
    }
    kss_spin_unlock(&report_lock, false);
}

void kssi_report(const struct kssi_fault *f)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct kssi_range *own = &cpu->stacks.vector[7];
    uintptr_t sp = (uintptr_t)__builtin_frame_address(0);
    ((struct kss_thread_info *)own->low)->thread = cpu->current;
    if (sp > own->low && sp <= own->high)
        build_and_hand_out((void *)f); /* a fault while reporting */
    else
        kssi_call_on_stack(own->high & ~(uintptr_t)63, build_and_hand_out, (void *)f);
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
    struct kssi_fault f = { .kind = kind, .action = KSS_ACTION_STOP_MACHINE,
                            .sp = (uintptr_t)__builtin_frame_address(0), .message = message };
    kssi_report(&f);
    kssi_cpu_abort();
}

/* ---- text ------------------------------------------------------------------------------------- */

struct text {
    char *buffer;
    size_t size, length;
};

static void print(struct text *t, const char *format, ...)
{
    va_list ap;
    size_t room = t->length < t->size ? t->size - t->length : 0;
    va_start(ap, format);
    int n = vsnprintf(room ? t->buffer + t->length : NULL, room, format, ap);
    va_end(ap);
    if (n > 0)
        t->length += (size_t)n;
}

int kss_report_format(const struct kss_report *r, char *buffer, size_t size)
{
    static const char *const mark[] = { "    ", "--> ", "  u " };
    struct text t = { buffer, size, 0 };
    if (!r || (size && !buffer))
        return kssi_error(-EINVAL, "no report, or no buffer");
    if (size)
        buffer[0] = '\0';
    const char *kind = kss_report_kind_name(r->kind);
    bool said = strncmp(r->message, kind, strlen(kind)) == 0;
    print(&t, "kstacksim: %s%s%s\n", said ? "" : kind, said ? "" : ": ", r->message);
    print(&t, "  CPU %u, thread %d (%s) of process %d, %s mode, %u live trap frame%s\n", r->cpu, r->tid,
          r->thread_name, r->pid, r->mode == KSS_MODE_USER ? "user" : "kernel", r->nesting,
          r->nesting == 1 ? "" : "s");
    if (r->pc)
        print(&t, "  at %s+%#lx (pc %#lx)\n", r->symbol[0] ? r->symbol : "?", (unsigned long)r->offset,
              (unsigned long)r->pc);
    if (r->stack_high)
        print(&t, "  %s %#lx-%#lx, stack pointer %#lx: %zu bytes deep\n", kss_stack_kind_name(r->stack),
              (unsigned long)r->stack_low, (unsigned long)r->stack_high, (unsigned long)r->sp, r->depth);
    if (r->beyond)
        print(&t, "  %zu bytes past the end of the stack\n", r->beyond);
    for (int i = 0; i < r->frames; i++)
        print(&t, "  %s%2d  %#016lx  %s+%#lx\n", mark[r->frame[i].kind], i, (unsigned long)r->frame[i].pc,
              r->frame[i].symbol[0] ? r->frame[i].symbol : "?", (unsigned long)r->frame[i].offset);
    print(&t, "  %s\n", r->action == KSS_ACTION_STOP_MACHINE ? "The machine stops."
                        : "The process is killed; everything else runs on.");
    return (int)t.length;
}

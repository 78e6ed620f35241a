/* SPDX-License-Identifier: MIT */
/* The trace as sentences. */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const names[KSS_TR_TYPES] = {
    [KSS_TR_NONE] = "none",
    [KSS_TR_ENTER] = "enter_kernel",
    [KSS_TR_LEAVE] = "leave_kernel",
    [KSS_TR_ISR_IN] = "isr_in",
    [KSS_TR_ISR_OUT] = "isr_out",
    [KSS_TR_EOI] = "eoi",
    [KSS_TR_RAISE] = "raise",
    [KSS_TR_LOST] = "lost",
    [KSS_TR_SWITCH] = "context_switch",
    [KSS_TR_WAKE] = "wake",
    [KSS_TR_SLEEP] = "sleep",
    [KSS_TR_FORK] = "fork",
    [KSS_TR_EXIT] = "exit",
    [KSS_TR_REAP] = "reap",
    [KSS_TR_STACK_ALLOC] = "stack_alloc",
    [KSS_TR_STACK_FREE] = "stack_free",
    [KSS_TR_SYSCALL_IN] = "syscall_in",
    [KSS_TR_SYSCALL_OUT] = "syscall_out",
    [KSS_TR_DEVICE_START] = "device_start",
    [KSS_TR_DEVICE_DONE] = "device_done",
    [KSS_TR_EXCEPTION] = "exception",
    [KSS_TR_MARK] = "mark",
    [KSS_TR_SOFTIRQ_IN] = "softirq_in",
    [KSS_TR_SOFTIRQ_OUT] = "softirq_out",
    [KSS_TR_MIGRATE] = "migrate",
};

const char *kss_trace_type_name(enum kss_trace_type type)
{
    return (unsigned)type < KSS_TR_TYPES ? names[type] : "?";
}

typedef unsigned long long ull;

static const char *mode_name(uint64_t mode)
{
    return mode == KSS_MODE_USER ? "user" : "kernel";
}

static int stack_events(const struct kss_trace_event *e, char *s, size_t n)
{
    const uint64_t *v = e->value;
    static const char *const why[] = { "it sleeps", "preempted", "it yields", "it has ended" };
    switch (e->type) {
    case KSS_TR_SWITCH:
        return snprintf(s, n, "context switch to thread %d: stack pointer %#llx saved, %#llx loaded (%s)",
                        (int)v[0], (ull)v[1], (ull)v[2], v[3] < 4 ? why[v[3]] : "?");
    case KSS_TR_STACK_ALLOC:
        return snprintf(s, n, "kernel stack at %#llx, %llu bytes, %s", (ull)v[0], (ull)v[1],
                        v[2] ? "from the cache" : "new from the arena");
    case KSS_TR_STACK_FREE:
        return snprintf(s, n, "kernel stack at %#llx given back; %llu of %llu bytes were used", (ull)v[0],
                        (ull)v[2], (ull)v[1]);
    default:
        return snprintf(s, n, "%s", kss_trace_type_name(e->type));
    }
}

static int trap_events(struct kss_machine *m, const struct kss_trace_event *e, char *s, size_t n)
{
    const uint64_t *v = e->value;
    const char *name = v[0] >= KSS_VEC_IRQ && v[0] < KSS_VEC_IRQ + KSS_IRQ_LINES && m->irq[v[0] - KSS_VEC_IRQ].name[0]
                           ? m->irq[v[0] - KSS_VEC_IRQ].name : kss_vector_name((unsigned)v[0]);
    switch (e->type) {
    case KSS_TR_ENTER:
        return snprintf(s, n, "%s (vector %#llx) in %s mode at pc %#llx: frame saved at %#llx, now in kernel mode",
                        name, (ull)v[0], mode_name(v[3]), (ull)v[2], (ull)v[1]);
    case KSS_TR_LEAVE:
        return snprintf(s, n, "return from trap through the frame at %#llx to %s mode, pc %#llx", (ull)v[1],
                        mode_name(v[3]), (ull)v[2]);
    case KSS_TR_EXCEPTION:
        return snprintf(s, n, "%s at pc %#llx, address %#llx", kss_vector_name((unsigned)v[0]), (ull)v[2], (ull)v[1]);
    case KSS_TR_ISR_IN:
        return snprintf(s, n, "interrupt handler of line %llu (%s) starts, stack at %#llx", (ull)v[0],
                        v[0] < KSS_IRQ_LINES ? m->irq[v[0]].name : "?", (ull)v[1]);
    case KSS_TR_ISR_OUT:
        return snprintf(s, n, "interrupt handler of line %llu has ended", (ull)v[0]);
    case KSS_TR_SOFTIRQ_IN:
        return snprintf(s, n, "softirq %llu (%s) starts, stack at %#llx", (ull)v[0],
                        v[0] <= KSS_SOFTIRQS ? m->softirq[v[0]].name : "?", (ull)v[1]);
    case KSS_TR_MIGRATE:
        return snprintf(s, n, "thread %lld comes from CPU %llu to CPU %llu", (long long)v[0], (ull)v[1], (ull)v[2]);
    case KSS_TR_SOFTIRQ_OUT:
        return snprintf(s, n, "softirq %llu has ended", (ull)v[0]);
    case KSS_TR_EOI:
        return snprintf(s, n, "end of interrupt for line %llu", (ull)v[0]);
    case KSS_TR_RAISE:
        return snprintf(s, n, "line %llu (%s) is raised on CPU %llu", (ull)v[0],
                        v[0] < KSS_IRQ_LINES ? m->irq[v[0]].name : "?", (ull)v[1]);
    case KSS_TR_LOST:
        return snprintf(s, n, "line %llu was still pending on CPU %llu: this one is lost", (ull)v[0], (ull)v[1]);
    case KSS_TR_SYSCALL_IN:
        return snprintf(s, n, "system call %s(%#llx, %#llx, %#llx)", kss_syscall_name(m, (unsigned)v[0]), (ull)v[1],
                        (ull)v[2], (ull)v[3]);
    case KSS_TR_SYSCALL_OUT:
        return snprintf(s, n, "system call %s returns %lld", kss_syscall_name(m, (unsigned)v[0]), (long long)v[1]);
    default:
        return stack_events(e, s, n);
    }
}

int kss_trace_narrate(struct kss_machine *m, const struct kss_trace_event *e, char *buffer, size_t size)
{
    char s[192];
    int r = kssi_valid_machine(m);
    if (r < 0)
        return r;
    if (!e || (size && !buffer))
        return kssi_error(-EINVAL, "no event, or no buffer");
    const uint64_t *v = e->value;
    switch (e->type) {
    case KSS_TR_WAKE:
        snprintf(s, sizeof s, "wakes thread %d", (int)v[0]);
        break;
    case KSS_TR_SLEEP:
        snprintf(s, sizeof s, "goes to sleep on \"%s\", its work on its kernel stack", v[0] ? (const char *)v[0] : "?");
        break;
    case KSS_TR_FORK:
        snprintf(s, sizeof s, "makes thread %d of process %d", (int)v[0], (int)v[1]);
        break;
    case KSS_TR_EXIT:
        snprintf(s, sizeof s, "ends with status %#llx", (ull)v[0]);
        break;
    case KSS_TR_REAP:
        snprintf(s, sizeof s, "reaps thread %d", (int)v[0]);
        break;
    case KSS_TR_DEVICE_START:
        snprintf(s, sizeof s, "starts DMA on %s: %s of %llu bytes at offset %llu", v[0] ? (const char *)v[0] : "?",
                 v[3] ? "write" : "read", (ull)v[1], (ull)v[2]);
        break;
    case KSS_TR_DEVICE_DONE:
        snprintf(s, sizeof s, "DMA on %s is done: %llu bytes, error %llu", v[0] ? (const char *)v[0] : "?", (ull)v[1],
                 (ull)v[2]);
        break;
    case KSS_TR_MARK:
        snprintf(s, sizeof s, "mark %llu: %llu", (ull)v[0], (ull)v[1]);
        break;
    default:
        trap_events(m, e, s, sizeof s);
    }
    if (e->tid == KSS_TRACE_HOST)
        return snprintf(buffer, size, "%12.3f us  host       %s", (double)e->time_ns / 1e3, s);
    return snprintf(buffer, size, "%12.3f us  thread %-3d %s", (double)e->time_ns / 1e3, e->tid, s);
}

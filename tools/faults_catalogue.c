/* SPDX-License-Identifier: MIT */
/* The names of the catalogue, and who provokes them. */
#include "faults.h"

const char *const fault_rows[] = {
    "kernel-stack-overflow",
    "kernel-stack-overflow-jump",
    "user-stack-overflow",
    "guard-leading",
    "guard-trailing",
    "irq-stack-overflow",
    "nested-overflow",
    "canary-smashed",
    "frame-smashed",
    "stack-protector",
    "double-fault",
    "triple-fault",
    "double-fault-stack-reuse",
    "divide-error",
    "invalid-opcode",
    "breakpoint",
    "general-protection",
    "page-fault",
    "fault-in-interrupt",
    "privileged-in-user",
    "kernel-memory-touch",
    "bad-user-pointer",
    "stack-pointer-garbage",
    "scheduling-while-atomic",
    "sleep-in-user",
    "wake-twice",
    "bad-transition",
    "irq-state-leak",
    "missing-eoi",
    "spurious-interrupt",
    "interrupt-storm",
    "lost-interrupts",
    "soft-lockup",
    "hard-lockup",
    "hung-task",
    "deadlock",
    "spinlock-misuse",
    "lost-wakeup",
    "use-after-reap",
    "out-of-stacks",
    "out-of-memory",
    "too-many-processes",
    "double-free",
    "foreign-handle",
    "null-handle",
    "scheduler-misbehaves",
    "host-signal",
    NULL,
};

const struct fault *const fault_groups[] = { faults_stack, faults_trap, faults_irq, faults_sched, faults_lock,
                                             faults_memory, faults_api, faults_eject, NULL };

/* The scenarios in the order of their files. */
static const struct fault *after(const struct fault *from)
{
    bool passed = !from;
    for (int g = 0; fault_groups[g]; g++)
        for (const struct fault *f = fault_groups[g]; f->row; f++) {
            if (passed)
                return f;
            passed = f == from;
        }
    return NULL;
}

static const struct fault *in_row(const char *row, const struct fault *from)
{
    const struct fault *f = after(from);
    while (f && strcmp(f->row, row) != 0)
        f = after(f);
    return f;
}

const struct fault *fault_next(const char *row, const struct fault *from)
{
    if (row)
        return in_row(row, from);
    int i = 0;
    if (from) {
        const struct fault *f = in_row(from->row, from);
        if (f)
            return f;
        while (strcmp(fault_rows[i], from->row) != 0)
            i++;
        i++;
    }
    for (; fault_rows[i]; i++) {
        const struct fault *f = in_row(fault_rows[i], NULL);
        if (f)
            return f;
    }
    return NULL;
}

const char *fault_name(const struct fault *f, char *buffer, size_t size)
{
    snprintf(buffer, size, "%s%s%s", f->row, f->variant ? "/" : "", f->variant ? f->variant : "");
    return buffer;
}

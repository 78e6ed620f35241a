/* SPDX-License-Identifier: MIT */
/* Reports: what went wrong in the simulated kernel or a program on it, and what was done. */
#ifndef KSTACKSIM_REPORT_H
#define KSTACKSIM_REPORT_H

#include <kstacksim/common.h>
#include <kstacksim/kstack.h>

KSS_BEGIN_DECLS

/** What was found. */
enum kss_report_kind {
    KSS_REPORT_USER_FAULT,       /* an exception in user mode */
    KSS_REPORT_KERNEL_FAULT,     /* an exception in kernel mode */
    KSS_REPORT_FAULT_IN_IRQ,     /* an exception in a hard irq handler */
    KSS_REPORT_STACK_OVERFLOW,   /* kernel stack overflow */
    KSS_REPORT_STACK_CORRUPTED,  /* the end of a kernel stack was overwritten */
    KSS_REPORT_DOUBLE_FAULT,
    KSS_REPORT_TRIPLE_FAULT,
    KSS_REPORT_BAD_FRAME,        /* a trap frame that may not be returned through */
    KSS_REPORT_ATOMIC_SLEEP,     /* scheduling while atomic */
    KSS_REPORT_INVARIANT,        /* kss_check() failed */
    KSS_REPORT_KINDS
};
/** What was done about it. */
enum kss_report_action { KSS_ACTION_KILL_PROCESS, KSS_ACTION_STOP_MACHINE };

#define KSS_REPORT_FRAMES 32

struct kss_report {
    enum kss_report_kind kind;
    enum kss_report_action action;
    unsigned cpu;
    int tid, pid;
    char thread_name[32];
    enum kss_mode mode;
    unsigned vector;           /* of the exception */
    uint64_t error;
    uintptr_t fault_address;
    enum kss_stack_kind stack; /* in use when it happened */
    uintptr_t stack_low, stack_high, sp, pc;
    size_t depth;              /* bytes in use */
    size_t beyond;             /* bytes past the end, when it ran over */
    unsigned nesting;          /* live trap frames */
    char symbol[64];           /* culprit function */
    uint64_t offset;
    char message[256];         /* one sentence */
    int frames;
    struct kss_frame frame[KSS_REPORT_FRAMES];
};

/** The report as text for people, always NUL-terminated. Returns its whole length. Context: any. */
KSS_API int kss_report_format(const struct kss_report *report, char *buffer, size_t size);
/** A report kind's name, such as "kernel stack overflow". Context: any. */
KSS_API const char *kss_report_kind_name(enum kss_report_kind kind);

KSS_END_DECLS
#endif

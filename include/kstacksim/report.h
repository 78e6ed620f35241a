/* SPDX-License-Identifier: MIT */
/* Reports: what went wrong in the simulated kernel or a program on it, and what was done. */
#ifndef KSTACKSIM_REPORT_H
#define KSTACKSIM_REPORT_H

#include <kstacksim/common.h>
#include <kstacksim/kstack.h>
#include <kstacksim/trace.h>
#include <kstacksim/trap.h>

KSS_BEGIN_DECLS

/** What was found. */
enum kss_report_kind {
    KSS_REPORT_USER_FAULT,          /* an exception in user mode */
    KSS_REPORT_KERNEL_FAULT,        /* an exception in kernel mode */
    KSS_REPORT_FAULT_IN_IRQ,        /* an exception in a hard irq handler */
    KSS_REPORT_STACK_OVERFLOW,      /* a kernel stack is used up; also a CPU's interrupt or vector stack */
    KSS_REPORT_STACK_CORRUPTED,     /* the end of a kernel stack, or what lies beyond it, was overwritten */
    KSS_REPORT_DOUBLE_FAULT,
    KSS_REPORT_TRIPLE_FAULT,
    KSS_REPORT_BAD_FRAME,           /* a trap frame that may not be returned through */
    KSS_REPORT_ATOMIC_SLEEP,        /* scheduling while atomic */
    KSS_REPORT_INVARIANT,           /* kss_check() failed, or an assertion of the library */
    KSS_REPORT_USER_STACK_OVERFLOW, /* a user stack is used up */
    KSS_REPORT_GUARD,               /* kernel code touched the guard of a stack */
    KSS_REPORT_FREED_STACK,         /* a stack was touched after its thread was reaped */
    KSS_REPORT_KERNEL_MEMORY,       /* user mode touched kernel memory (kss_config.protect) */
    KSS_REPORT_STACK_PROTECTOR,     /* the compiler's check found a buffer overrun */
    KSS_REPORT_STACK_REUSED,        /* a vector stack was needed while a frame is live on it */
    KSS_REPORT_BAD_TRANSITION,      /* an illegal change of a thread's state */
    KSS_REPORT_STATE_LEAK,          /* a handler or system call left interrupts off, or a lock held */
    KSS_REPORT_MISSING_EOI,         /* a line is in service, and its handler has ended long ago */
    KSS_REPORT_SPURIOUS,            /* an interrupt without a handler; once a line */
    KSS_REPORT_SOFT_LOCKUP,         /* a thread keeps its CPU in kernel mode */
    KSS_REPORT_HARD_LOCKUP,         /* a CPU keeps interrupts off */
    KSS_REPORT_HUNG_TASK,           /* a thread sleeps, not to be killed, for too long */
    KSS_REPORT_LOST_WAKEUP,         /* the same, and its queue was woken just before it slept */
    KSS_REPORT_LOCK_ORDER,          /* locks taken in opposite order, or one taken by its holder */
    KSS_REPORT_SPINLOCK,            /* a spinlock misused: not initialised, not held, another's */
    KSS_REPORT_SCHED_EJECTED,       /* a scheduler class misbehaved; the default one took over */
    KSS_REPORT_IRQ_STORM,           /* a line comes so fast that nothing else gets on */
    KSS_REPORT_HOST_BLOCKED,        /* a thread slept or yielded inside libc's callback, or a host region */
    KSS_REPORT_KINDS
};

/** What was done about it, or is to be done: kss_config.policy. */
enum kss_report_action {
    KSS_ACTION_DEFAULT,      /* only as a policy: what the kind has by default */
    KSS_ACTION_CONTINUE,     /* reported; everything runs on */
    KSS_ACTION_KILL_THREAD,
    KSS_ACTION_KILL_PROCESS,
    KSS_ACTION_STOP_MACHINE,
    KSS_REPORT_ACTIONS
};

#define KSS_REPORT_FRAMES 32       /* longest backtrace of a report */
#define KSS_REPORT_OTHER_FRAMES 16 /* and of its second one */
#define KSS_REPORT_EVENTS 16       /* most trace events in a report */

/** A place in the code. */
struct kss_report_place {
    uintptr_t pc;    /* 0: none */
    char symbol[64]; /* function, empty when unknown */
    uint64_t offset; /* of pc in it */
};

/** A bad address, by the stack that it lies in or beside. */
struct kss_report_near {
    enum kss_stack_kind stack; /* KSS_STACK_UNKNOWN: it is near none */
    int tid;                   /* whose; a CPU's own stack: 0 */
    size_t below;              /* bytes below its low end */
    size_t above;              /* bytes above its high end, 1 for the first */
    bool guess;                /* beyond the guard: the nearest stack that a frame could have leapt from */
    bool freed;                /* the stack of a thread that was reaped */
};

struct kss_report {
    enum kss_report_kind kind;
    enum kss_report_action action;
    uint64_t time_ns;          /* the machine's clock */
    unsigned cpu;
    int tid, pid;
    char thread_name[32];
    enum kss_mode mode;
    unsigned vector;           /* of the exception or interrupt; KSS_NO_CAUSE: it was none */
    unsigned second_vector;    /* double fault: what came while the first was delivered */
    unsigned line;             /* the IRQ line it is about */
    uint64_t error;
    uintptr_t fault_address;
    struct kss_report_near near; /* where fault_address is */
    enum kss_stack_kind stack; /* in use when it happened */
    uintptr_t stack_low, stack_high, sp, pc;
    uintptr_t user_frame;      /* on a task stack: where entries from user mode put their frame */
    size_t guard_low, guard_high; /* bytes that fault directly beside its ends */
    size_t depth;              /* bytes in use */
    size_t beyond;             /* bytes past the end, when it ran over */
    size_t high_water;         /* of a task stack; 0 if not known */
    unsigned nesting;          /* live trap frames */
    bool canary_intact;
    char symbol[64];           /* culprit function */
    uint64_t offset;
    char message[256];         /* one sentence */
    char why_stopped[96];      /* why the action is harder than the policy asks for; else empty */
    struct kss_report_place place; /* a second place: where the lock was taken, interrupts turned off */
    char place_what[64];       /* what happened there, such as "interrupts were turned off" */
    uint64_t waited_ns;        /* watchdogs: for how long */
    int frames;
    struct kss_frame frame[KSS_REPORT_FRAMES];
    char other_what[96];       /* what the second backtrace is */
    int other_frames;
    struct kss_frame other[KSS_REPORT_OTHER_FRAMES];
    int events;                /* last trace events of this CPU, oldest first; 0 with the trace off */
    struct kss_trace_event event[KSS_REPORT_EVENTS];
    struct kss_machine *machine;
};

/** The report as text for people, always NUL-terminated. Returns its whole length. Context: any. */
KSS_API int kss_report_format(const struct kss_report *report, char *buffer, size_t size);
/**
 * The report as one JSON object (RFC 8259) on one line, no newline; always NUL-terminated. Addresses are
 * strings such as "0x7f00". Returns its whole length. Context: any.
 */
KSS_API int kss_report_json(const struct kss_report *report, char *buffer, size_t size);
/** A report kind's name, such as "kernel stack overflow". Context: any. */
KSS_API const char *kss_report_kind_name(enum kss_report_kind kind);
/** A report kind's name for programs, such as "stack-overflow". Context: any. */
KSS_API const char *kss_report_kind_id(enum kss_report_kind kind);
/** An action's name, such as "stop the machine". Context: any. */
KSS_API const char *kss_report_action_name(enum kss_report_action action);
/** What may be done about a kind: bit 1 << KSS_ACTION_x for each; *preset (may be NULL): the default. */
KSS_API unsigned kss_report_actions(enum kss_report_kind kind, enum kss_report_action *preset);

KSS_END_DECLS
#endif

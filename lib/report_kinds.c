/* SPDX-License-Identifier: MIT */
/* What kinds of reports there are, what is done about each by default, and what else may be. */
#include "kernel.h"

#define CAN(x) (1u << KSS_ACTION_##x)
#define KILLS (CAN(KILL_THREAD) | CAN(KILL_PROCESS) | CAN(STOP_MACHINE))
#define WARNS (CAN(CONTINUE) | CAN(STOP_MACHINE))

/*
 * Going on after a fault makes no sense: the instruction would fault again. Nor can a thread be killed from a
 * watchdog's interrupt, in the middle of whatever it does in the kernel.
 */
static const struct kind {
    const char *id, *name;
    enum kss_report_action preset;
    unsigned allowed;
} kinds[KSS_REPORT_KINDS] = {
    [KSS_REPORT_USER_FAULT] = { "user-fault", "exception in user mode", KSS_ACTION_KILL_PROCESS, KILLS },
    [KSS_REPORT_KERNEL_FAULT] = { "kernel-fault", "exception in kernel mode", KSS_ACTION_KILL_PROCESS, KILLS },
    [KSS_REPORT_FAULT_IN_IRQ] = { "fault-in-interrupt", "fatal exception in interrupt", KSS_ACTION_STOP_MACHINE,
                                  CAN(STOP_MACHINE) },
    [KSS_REPORT_STACK_OVERFLOW] = { "stack-overflow", "kernel stack overflow", KSS_ACTION_KILL_PROCESS, KILLS },
    [KSS_REPORT_STACK_CORRUPTED] = { "stack-corrupted", "corrupted stack end", KSS_ACTION_KILL_PROCESS, KILLS },
    [KSS_REPORT_DOUBLE_FAULT] = { "double-fault", "double fault", KSS_ACTION_KILL_PROCESS, KILLS },
    [KSS_REPORT_TRIPLE_FAULT] = { "triple-fault", "triple fault", KSS_ACTION_STOP_MACHINE, CAN(STOP_MACHINE) },
    [KSS_REPORT_BAD_FRAME] = { "bad-trap-frame", "bad trap frame", KSS_ACTION_KILL_PROCESS, KILLS },
    [KSS_REPORT_ATOMIC_SLEEP] = { "scheduling-while-atomic", "scheduling while atomic", KSS_ACTION_STOP_MACHINE,
                                  CAN(STOP_MACHINE) },
    [KSS_REPORT_INVARIANT] = { "invariant", "invariant violated", KSS_ACTION_STOP_MACHINE, CAN(STOP_MACHINE) },
    [KSS_REPORT_USER_STACK_OVERFLOW] = { "user-stack-overflow", "user stack overflow", KSS_ACTION_KILL_PROCESS,
                                         KILLS },
    [KSS_REPORT_GUARD] = { "guard-hit", "guard hit", KSS_ACTION_KILL_PROCESS, KILLS },
    [KSS_REPORT_FREED_STACK] = { "use-after-reap", "use of a freed stack", KSS_ACTION_KILL_PROCESS, KILLS },
    [KSS_REPORT_KERNEL_MEMORY] = { "kernel-memory-touch", "user mode touched kernel memory",
                                   KSS_ACTION_KILL_PROCESS, KILLS },
    [KSS_REPORT_STACK_PROTECTOR] = { "stack-protector", "stack smashed", KSS_ACTION_KILL_PROCESS, KILLS },
    [KSS_REPORT_STACK_REUSED] = { "stack-reused", "stack reused", KSS_ACTION_KILL_PROCESS, KILLS },
    [KSS_REPORT_BAD_TRANSITION] = { "bad-transition", "illegal state change", KSS_ACTION_CONTINUE,
                                    CAN(CONTINUE) | KILLS },
    [KSS_REPORT_STATE_LEAK] = { "irq-state-leak", "state leak", KSS_ACTION_CONTINUE, CAN(CONTINUE) | KILLS },
    [KSS_REPORT_MISSING_EOI] = { "missing-eoi", "missing end of interrupt", KSS_ACTION_CONTINUE, WARNS },
    [KSS_REPORT_SPURIOUS] = { "spurious-interrupt", "spurious interrupt", KSS_ACTION_CONTINUE, WARNS },
    [KSS_REPORT_SOFT_LOCKUP] = { "soft-lockup", "soft lockup", KSS_ACTION_CONTINUE, WARNS },
    [KSS_REPORT_HARD_LOCKUP] = { "hard-lockup", "hard lockup", KSS_ACTION_STOP_MACHINE, WARNS },
    [KSS_REPORT_HUNG_TASK] = { "hung-task", "hung task", KSS_ACTION_CONTINUE, WARNS },
    [KSS_REPORT_LOST_WAKEUP] = { "lost-wakeup", "lost wake-up", KSS_ACTION_CONTINUE, WARNS },
    [KSS_REPORT_LOCK_ORDER] = { "deadlock", "possible deadlock", KSS_ACTION_CONTINUE, CAN(CONTINUE) | KILLS },
    [KSS_REPORT_SPINLOCK] = { "spinlock-misuse", "spinlock misused", KSS_ACTION_KILL_PROCESS, CAN(CONTINUE) | KILLS },
    [KSS_REPORT_IRQ_STORM] = { "interrupt-storm", "interrupt storm", KSS_ACTION_CONTINUE, WARNS },
    [KSS_REPORT_HOST_BLOCKED] = { "host-blocked", "gave up the CPU inside a host call", KSS_ACTION_CONTINUE, WARNS },
    [KSS_REPORT_SCHED_EJECTED] = { "scheduler-misbehaves", "scheduler ejected", KSS_ACTION_CONTINUE, WARNS },
};

static const char *const actions[KSS_REPORT_ACTIONS] = { "the default", "run on", "kill the thread",
                                                         "kill the process", "stop the machine" };

static const struct kind *kind_of(enum kss_report_kind kind)
{
    return (unsigned)kind < KSS_REPORT_KINDS ? &kinds[kind] : NULL;
}

const char *kss_report_kind_name(enum kss_report_kind kind)
{
    return kind_of(kind) ? kind_of(kind)->name : "?";
}

const char *kss_report_kind_id(enum kss_report_kind kind)
{
    return kind_of(kind) ? kind_of(kind)->id : "?";
}

const char *kss_report_action_name(enum kss_report_action action)
{
    return (unsigned)action < KSS_REPORT_ACTIONS ? actions[action] : "?";
}

unsigned kss_report_actions(enum kss_report_kind kind, enum kss_report_action *preset)
{
    if (preset)
        *preset = kind_of(kind) ? kind_of(kind)->preset : KSS_ACTION_DEFAULT;
    return kind_of(kind) ? kind_of(kind)->allowed : 0;
}

/* SPDX-License-Identifier: MIT */
/* The system-call table: built-in numbers, and how an experiment adds its own. */
#ifndef KSTACKSIM_SYSCALL_H
#define KSTACKSIM_SYSCALL_H

#include <kstacksim/common.h>

KSS_BEGIN_DECLS

/** Size of the table. */
#define KSS_SYSCALLS 256

enum kss_syscall_number {
    KSS_SYS_GETPID, KSS_SYS_GETTID, KSS_SYS_GETPPID, KSS_SYS_YIELD, KSS_SYS_EXIT,
    KSS_SYS_THREAD_EXIT, KSS_SYS_SPAWN, KSS_SYS_THREAD_CREATE, KSS_SYS_THREAD_JOIN, KSS_SYS_WAIT,
    KSS_SYS_SLEEP, KSS_SYS_NICE, KSS_SYS_SETPRIORITY, KSS_SYS_GETPRIORITY, KSS_SYS_OPEN,
    KSS_SYS_CLOSE, KSS_SYS_READ, KSS_SYS_WRITE, KSS_SYS_CLOCK, KSS_SYS_TRACE_MARK,
    KSS_SYS_SETAFFINITY, KSS_SYS_GETAFFINITY,
    KSS_SYS_EXPERIMENT = 64 /* from here up: the experiment's */
};

/** A system call's arguments as the user program passed them; pointers are user pointers. */
struct kss_syscall_args {
    long a[6];
    struct kss_trap_frame *frame; /* the trap frame of this call */
};

/** A system-call handler: kernel mode, interrupts on, may sleep. Negative errno on error. */
typedef long (*kss_syscall_fn)(const struct kss_syscall_args *args);

/**
 * Puts a handler into the table. number: KSS_SYS_EXPERIMENT to 255. NULL removes it. name is for
 * traces and must stay valid. -EINVAL, -EBUSY (taken). Context: kernel (privileged), or host before
 * the machine runs.
 */
KSS_API int kss_syscall_register(struct kss_machine *machine, unsigned number,
                                 kss_syscall_fn handler, const char *name);

/** Makes a system call; unknown numbers give -ENOSYS. Context: user. On a host thread: -EPERM. */
KSS_API long kss_syscall(long number, long a0, long a1, long a2, long a3, long a4, long a5);

/** Defines the user stub of a system call: KSS_SYSCALL_STUB2(my_call, 64, int, fd, void *, p) */
#define KSS_SYSCALL_STUB0(fn, nr) \
    static inline long fn(void) { return kss_syscall(nr, 0, 0, 0, 0, 0, 0); }
#define KSS_SYSCALL_STUB1(fn, nr, t0, a0) \
    static inline long fn(t0 a0) { return kss_syscall(nr, (long)(a0), 0, 0, 0, 0, 0); }
#define KSS_SYSCALL_STUB2(fn, nr, t0, a0, t1, a1) \
    static inline long fn(t0 a0, t1 a1) { return kss_syscall(nr, (long)(a0), (long)(a1), 0, 0, 0, 0); }
#define KSS_SYSCALL_STUB3(fn, nr, t0, a0, t1, a1, t2, a2) \
    static inline long fn(t0 a0, t1 a1, t2 a2) \
    { return kss_syscall(nr, (long)(a0), (long)(a1), (long)(a2), 0, 0, 0); }

/** A system call's name, "?" if the number is free. Context: any. */
KSS_API const char *kss_syscall_name(struct kss_machine *machine, unsigned number);

KSS_END_DECLS
#endif

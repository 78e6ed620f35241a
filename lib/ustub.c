/* SPDX-License-Identifier: MIT */
/* User mode's side: the stubs that a simulated program calls. They run in user mode. */
#include "platform.h"

#include <errno.h>
#include <stdlib.h>

long kss_syscall(long nr, long a0, long a1, long a2, long a3, long a4, long a5)
{
    switch (kssi_syscall_entry()) {
    case KSS_SYSCALL_GATE:
        return kssi_enter_by_gate(nr, a0, a1, a2, a3, a4, a5);
    case KSS_SYSCALL_TRAP:
        return kssi_enter_by_trap(nr, a0, a1, a2, a3, a4, a5);
    default:
        return kssi_error(-EPERM, "system calls can be made on a simulated CPU only");
    }
}

#define CALL(nr, ...) CALL_(nr, __VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define CALL_(nr, a, b, c, d, e, f, ...) \
    kss_syscall(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

long kss_getpid(void)
{
    return CALL(KSS_SYS_GETPID, 0);
}

long kss_gettid(void)
{
    return CALL(KSS_SYS_GETTID, 0);
}

long kss_getppid(void)
{
    return CALL(KSS_SYS_GETPPID, 0);
}

long kss_yield(void)
{
    return CALL(KSS_SYS_YIELD, 0);
}

void kss_exit(int status)
{
    if (!kssi_this_cpu())
        abort(); /* there is nothing to end, and no way to return */
    for (;;)
        CALL(KSS_SYS_EXIT, status);
}

void kss_thread_exit(long value)
{
    if (!kssi_this_cpu())
        abort();
    for (;;)
        CALL(KSS_SYS_THREAD_EXIT, value);
}

long kss_spawn(kss_user_fn fn, void *arg, const struct kss_spawn_attr *attr)
{
    return CALL(KSS_SYS_SPAWN, fn, arg, attr);
}

long kss_thread_create(kss_user_fn fn, void *arg, const struct kss_spawn_attr *attr)
{
    return CALL(KSS_SYS_THREAD_CREATE, fn, arg, attr);
}

long kss_thread_join(long tid, long *value)
{
    return CALL(KSS_SYS_THREAD_JOIN, tid, value);
}

long kss_wait(long pid, int *status)
{
    return CALL(KSS_SYS_WAIT, pid, status);
}

long kss_sleep(uint64_t ns)
{
    return CALL(KSS_SYS_SLEEP, ns);
}

long kss_nice(int increment)
{
    return CALL(KSS_SYS_NICE, increment);
}

long kss_setpriority(long tid, int priority)
{
    return CALL(KSS_SYS_SETPRIORITY, tid, priority);
}

long kss_setaffinity(long tid, const struct kss_cpumask *mask)
{
    return kss_syscall(KSS_SYS_SETAFFINITY, tid, (long)mask, 0, 0, 0, 0);
}

long kss_getaffinity(long tid, struct kss_cpumask *mask)
{
    return kss_syscall(KSS_SYS_GETAFFINITY, tid, (long)mask, 0, 0, 0, 0);
}

long kss_getpriority(long tid)
{
    return CALL(KSS_SYS_GETPRIORITY, tid);
}

long kss_open(const char *name, int flags)
{
    return CALL(KSS_SYS_OPEN, name, flags);
}

long kss_close(int fd)
{
    return CALL(KSS_SYS_CLOSE, fd);
}

long kss_read(int fd, void *buffer, size_t n)
{
    return CALL(KSS_SYS_READ, fd, buffer, n);
}

long kss_write(int fd, const void *buffer, size_t n)
{
    return CALL(KSS_SYS_WRITE, fd, buffer, n);
}

long kss_clock(void)
{
    return CALL(KSS_SYS_CLOCK, 0);
}

/* After a user function has returned: the first thread's result is its process's exit status. */
void kssi_user_return(long value)
{
    if (kss_gettid() == kss_getpid())
        kss_exit((int)value);
    kss_thread_exit(value);
}

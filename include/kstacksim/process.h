/* SPDX-License-Identifier: MIT */
/* Processes and threads: the system calls a simulated program makes, and what others can see. */
#ifndef KSTACKSIM_PROCESS_H
#define KSTACKSIM_PROCESS_H

#include <kstacksim/common.h>

KSS_BEGIN_DECLS

/** Longest name of a process or thread, with the final NUL. */
#define KSS_NAME_MAX 32
/** Priorities: 1 lowest to 99 highest (idle threads have 0); what they mean is the scheduler class's business. */
#define KSS_PRIO_MIN 1
#define KSS_PRIO_MAX 99
#define KSS_PRIO_DEFAULT 50

/** How to make a process or thread. Zeroed fields take the machine's or the parent's value. */
struct kss_spawn_attr {
    const char *name;   /* at most 31 characters are kept; NULL: the parent's */
    int priority;       /* 1 to 99; 0: the parent's */
    size_t kstack_size; /* power of two up to the machine's kstack_max; 0: the machine's */
    void *user_stack;   /* lowest address of the caller's own stack; NULL: the library makes one */
    size_t user_stack_size; /* its size, at least 4096; with NULL: 0 or a multiple of the page size */
};

/* Wait status, as kss_wait() and kss_machine_run() give it. */
/** The thread or process returned or called kss_exit(). */
#define KSS_WIFEXITED(s) (((s) & 0xff) == 0)
/** Its exit status, 0 to 255. */
#define KSS_WEXITSTATUS(s) (((s) >> 8) & 0xff)
/** It was killed. */
#define KSS_WIFKILLED(s) (((s) & 0xff) != 0)
/** The vector of the exception that killed it, or KSS_KILLED when it was something else. */
#define KSS_WVECTOR(s) (((s) & 0xff) - 1)
/** Not an exception: its stack's end was corrupted, or it had a bad trap frame. */
#define KSS_KILLED 0xf0

/* System calls. Context of all of them: user. On a host thread they return -EPERM; those that do not
   return abort the host process. */

/** The calling process's id, from 1 up. */
KSS_API long kss_getpid(void);
/** The calling thread's id; that of a process's first thread is the process's id. */
KSS_API long kss_gettid(void);
/** The parent's id; 1 for an orphan, 0 for pid 1. */
KSS_API long kss_getppid(void);
/** Lets others of the same right to the CPU run. Returns 0. */
KSS_API long kss_yield(void);
/** Ends the calling process, all its threads included. status: 0 to 255. */
KSS_API void kss_exit(int status) __attribute__((noreturn));
/** Ends the calling thread only; the last one ends the process. */
KSS_API void kss_thread_exit(long value) __attribute__((noreturn));
/**
 * Makes a child process that runs fn(arg) in user mode on a stack of its own; open files are
 * inherited. attr may be NULL; a scheduler class may refuse with an error of its own. Returns its pid; -EAGAIN (max_threads reached, or no stack),
 * -ENOMEM, -EINVAL (an attribute), -EFAULT (fn is NULL, attr or its name can't be read).
 */
KSS_API long kss_spawn(kss_user_fn fn, void *arg, const struct kss_spawn_attr *attr);
/** Makes a thread in the calling process; parameters and errors as kss_spawn(). Returns its tid. */
KSS_API long kss_thread_create(kss_user_fn fn, void *arg, const struct kss_spawn_attr *attr);
/**
 * Waits until a thread of this process, not its first, has ended and frees it. *value (may be NULL) is what it
 * returned. Returns 0; -ESRCH, -EDEADLK (itself), -EINVAL (somebody waits for it already), -EFAULT.
 */
KSS_API long kss_thread_join(long tid, long *value);
/**
 * Waits for any child process (pid -1) or a certain one to end, and reaps it, kernel stack and all.
 * Returns its pid and its wait status in *status (may be NULL); -ECHILD, -EFAULT.
 */
KSS_API long kss_wait(long pid, int *status);
/** Sleeps at least ns nanoseconds, rounded up to the next tick. Returns 0; -EINTR when killed. */
KSS_API long kss_sleep(uint64_t ns);
/** Adds increment to the calling thread's priority, clamped to 1..99. Returns the new priority. */
KSS_API long kss_nice(int increment);
/** Sets the priority (1 to 99) of a thread (0: the caller). -ESRCH, -EINVAL. */
KSS_API long kss_setpriority(long tid, int priority);
/** The priority of a thread (0: the caller). -ESRCH. */
KSS_API long kss_getpriority(long tid);
/**
 * Opens a device by name ("console", a disk's name, or one registered by the experiment).
 * flags: O_RDONLY, O_WRONLY or O_RDWR. Returns a descriptor from 0 up; -ENOENT, -EACCES, -EMFILE,
 * -EINVAL, -EFAULT.
 */
KSS_API long kss_open(const char *name, int flags);
/** Closes a descriptor. -EBADF. */
KSS_API long kss_close(int fd);
/** Reads up to n bytes at the descriptor's position. Returns the count, 0 at the end; -errno. */
KSS_API long kss_read(int fd, void *buffer, size_t n);
/** Writes up to n bytes at the descriptor's position. Returns the count; -errno. */
KSS_API long kss_write(int fd, const void *buffer, size_t n);
/** The machine's clock in nanoseconds since boot. */
KSS_API long kss_clock(void);

/** What can be seen of a thread. Times in nanoseconds, sizes in bytes. */
struct kss_thread_info_snapshot {
    int tid, pid, ppid;
    char name[KSS_NAME_MAX];
    enum kss_thread_state state;
    enum kss_mode mode;        /* mode it was in when it last gave up the CPU */
    int priority;
    unsigned cpu;              /* where it last ran */
    const char *wait_channel;  /* name of the wait queue it sleeps on, or NULL */
    uint64_t run_ns;           /* time on a CPU */
    uint64_t syscalls;
    uint64_t preemptions;      /* involuntary switches */
    uint64_t voluntary;        /* voluntary switches */
    uint64_t migrations;       /* from one CPU to another */
    size_t kstack_size;        /* 0 while it has none */
    size_t kstack_high_water;  /* most bytes ever in use */
    size_t kstack_depth;       /* bytes in use now: its suspended work; 0 if there is none */
    bool is_kernel;            /* a kernel thread, such as an idle thread */
};

/**
 * Fills at most max entries, in the order of ids, and returns how many threads there are.
 * Context: kernel, or host while the machine does not run; -EBUSY otherwise.
 */
KSS_API int kss_threads(struct kss_machine *machine, struct kss_thread_info_snapshot *out, int max);

/** A thread by id, NULL when there is none. Valid until it is reaped. Context as kss_threads(). */
KSS_API struct kss_thread *kss_thread_find(struct kss_machine *machine, int tid);

/** The running thread, found by masking the stack pointer. Context: kernel, hard irq. */
KSS_API struct kss_thread *kss_current(void);

/** A thread's id. Context: kernel, hard irq; host while the machine does not run. */
KSS_API int kss_thread_id(const struct kss_thread *thread);
/** A thread's name. Context as kss_thread_id(). */
KSS_API const char *kss_thread_name(const struct kss_thread *thread);

/** The name of a thread state, such as "SLEEPING". Context: any. */
KSS_API const char *kss_thread_state_name(enum kss_thread_state state);

KSS_END_DECLS
#endif

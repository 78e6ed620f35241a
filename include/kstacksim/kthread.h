/* SPDX-License-Identifier: MIT */
/* Kernel threads: threads that run a function of the experiment in kernel mode, and have no user mode. */
#ifndef KSTACKSIM_KTHREAD_H
#define KSTACKSIM_KTHREAD_H

#include <kstacksim/common.h>

KSS_BEGIN_DECLS

/**
 * What a kernel thread runs, in kernel mode on its own kernel stack, interrupts on; it may sleep. It ends by returning;
 * the result is what kss_kthread_join() gives. It makes no system call (-EPERM) and copies nothing from or to user
 * memory (-EFAULT, or all bytes left): there is no user behind it. A fault in it stops the machine.
 */
typedef long (*kss_kthread_fn)(void *arg);

/**
 * Makes a kernel thread that runs fn(arg), scheduled like any other, on all CPUs. name: at most 31 characters are kept.
 * priority: 1 to 99; 0: KSS_PRIO_DEFAULT. It has an id and counts for max_threads, belongs to no process, and does not
 * keep the machine running. Returns its id; -EINVAL, -EAGAIN (max_threads, or no stack), -ENOMEM, -EPERM (a host
 * thread; a handler), and what the scheduler class refuses with. Context: kernel.
 */
KSS_API long kss_kthread_create(const char *name, kss_kthread_fn fn, void *arg, int priority);
/**
 * Asks a kernel thread to end, and does not wait for it: kss_kthread_should_stop() is true there from now on, it wakes
 * up, and sleeps that a kill would end give -EINTR. -ESRCH (there is no such kernel thread), -EPERM. Context: kernel,
 * hard irq.
 */
KSS_API int kss_kthread_stop(long tid);
/** Was the calling kernel thread asked to end? False in any other thread. Context: kernel. */
KSS_API bool kss_kthread_should_stop(void);
/**
 * Waits until a kernel thread has ended, and frees it. *value (may be NULL) is what it returned. One that nobody joins
 * stays a zombie until the machine ends. Returns 0; -ESRCH, -EDEADLK (itself, or one that waits for the caller),
 * -EINVAL (somebody waits for it already), -EINTR (the caller was killed or asked to stop), -EPERM. Context: kernel;
 * sleeps.
 */
KSS_API int kss_kthread_join(long tid, long *value);
/**
 * Sleeps at least ns nanoseconds, rounded up to the next tick: kss_sleep() for kernel code of any thread. Returns 0;
 * -EINTR (killed, or asked to stop), -EPERM (a host thread). Context: kernel; sleeps.
 */
KSS_API int kss_kthread_sleep(uint64_t ns);

KSS_END_DECLS
#endif

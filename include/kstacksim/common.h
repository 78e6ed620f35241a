/* SPDX-License-Identifier: MIT */
/*
 * What every public header needs: export marks, the basic enums, and the sentence behind an error.
 *
 * Contexts named in the comments of all headers:
 *   user         a simulated process or thread in user mode
 *   kernel       a simulated thread in kernel mode (a system call handler, for instance); may sleep
 *   hard irq     an interrupt handler; may not sleep
 *   host         a host thread that is not a simulated CPU, such as main()
 */
#ifndef KSTACKSIM_COMMON_H
#define KSTACKSIM_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define KSS_BEGIN_DECLS extern "C" {
#define KSS_END_DECLS }
#else
#define KSS_BEGIN_DECLS
#define KSS_END_DECLS
#endif

#define KSS_API __attribute__((visibility("default")))
#define KSS_PRINTF(f, a) __attribute__((format(printf, f, a)))

KSS_BEGIN_DECLS

struct kss_machine;
struct kss_thread;
struct kss_trap_frame;
struct kss_sched_class;
struct kss_report;

/** The CPU's processor mode. */
enum kss_mode { KSS_MODE_USER = 0, KSS_MODE_KERNEL = 1 };

/** Thread states; they change in one function of the kernel, which checks each transition. */
enum kss_thread_state {
    KSS_THREAD_NEW = 0,  /* being built; no scheduler knows it */
    KSS_THREAD_READY,    /* has what it needs to resume, waits for a CPU */
    KSS_THREAD_RUNNING,  /* on a CPU */
    KSS_THREAD_SLEEPING, /* its suspended work is on its kernel stack */
    KSS_THREAD_ZOMBIE,   /* finished, not yet waited for */
    KSS_THREAD_DEAD      /* reaped; nobody may refer to it */
};

/** Entry point of a process or thread in user mode. Its result is the exit status. */
typedef long (*kss_user_fn)(void *arg);

/**
 * The sentence behind the last error that a public function returned to this thread: what was
 * wrong, with which value, what is allowed. Never NULL; empty when there was none. Simulated
 * threads each have their own; the text is valid until that thread's next failing call.
 * Context: any but hard irq.
 */
KSS_API const char *kss_last_error(void);

/**
 * Sets that sentence, for an experiment's own handlers and devices, and returns err, so that one line
 * does both: return kss_set_error(-EIO, "sector %u is bad", n). Context: any but hard irq.
 */
KSS_API int kss_set_error(int err, const char *format, ...) KSS_PRINTF(2, 3);

/** The library's version, such as "0.1.0". Context: any. */
KSS_API const char *kss_version(void);

KSS_END_DECLS
#endif

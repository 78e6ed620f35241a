/* SPDX-License-Identifier: MIT */
/* What the tests of behaviour share: a machine to run something on, and the reports it made. */
#ifndef HARNESS_H
#define HARNESS_H

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kstacksim/kstacksim.h>

#define REPORTS 64
/* A function that is to have a frame, with its own name, in backtraces. */
#ifdef __clang__
#define KEEP_FRAME __attribute__((noinline, optnone))
#else
#define KEEP_FRAME __attribute__((noipa))
#endif

/*
 * Each assertion that holds would send a message through a mutex of libcheck's. That library is linked
 * statically, so the machine can't tell that it is host code: a simulated process that is preempted with
 * the mutex held would stop all others at their next assertion. Failing ones still report.
 */
#define _mark_point(file, line) ((void)0)

/* Built with AddressSanitizer: frames are larger, and its run-time library maps memory of its own. */
#if defined(__SANITIZE_ADDRESS__)
#define KSS_TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KSS_TEST_ASAN 1
#endif
#endif
#ifndef KSS_TEST_ASAN
#define KSS_TEST_ASAN 0
#endif
/* A function that reads other functions' frames, or what they left; or overruns its own on purpose. */
#if KSS_TEST_ASAN
#define READS_FRAMES __attribute__((no_sanitize("address")))
#else
#define READS_FRAMES
#endif

/* Does on purpose what the undefined-behaviour sanitizer would stop. */
#define NO_UBSAN __attribute__((no_sanitize("undefined")))

extern struct kss_report reports[REPORTS];
extern int report_count;

/* Defaults for tests: every context switch checks the invariants, reports are kept. */
struct kss_config test_config(void);
/* Kernel stacks can be closed by mprotect on this host; where not, the library has said why. */
bool test_can_protect(void);
/* As many CPUs as KSS_TEST_CPUS says (1), if this host can; at 10 kHz for one of them. */
void test_stress(struct kss_config *config);
struct kss_machine *test_machine(const struct kss_config *config);
/* Runs fn(arg) as the first process; asserts that the run and the invariants are good. Returns its
   wait status. */
int test_run(struct kss_machine *m, kss_user_fn fn, void *arg);
/* All of it: make, run, destroy. */
int test_boot(const struct kss_config *config, kss_user_fn fn, void *arg);
/* Does address lie in the running thread's kernel stack? Kernel mode. */
bool test_on_kernel_stack(uintptr_t address);

int test_main(Suite *(*suite)(void));

/* One system call that runs a function in kernel mode: for looking around. */
#define SYS_KERNEL KSS_SYS_EXPERIMENT
long in_kernel(long (*fn)(void *arg), void *arg);
/* User mode: yields until a thread sleeps on a wait queue (or for a time). */
void test_wait_asleep(long tid);

#endif

/* SPDX-License-Identifier: MIT */
/* What the tests of locks and atomic context share: one process that does wrong, and others that run on. */
#ifndef CULPRIT_H
#define CULPRIT_H

#include "harness.h"

extern struct kss_spinlock lock_a, lock_b, lock_c;

bool in_frames(const struct kss_frame *f, int n, const char *symbol);
/* Report i: its kind, parts of its message separated by '|', the second place, who is in the backtrace. */
void expect_report(int i, enum kss_report_kind kind, const char *parts, const char *place, const char *culprit);

/* The job, in kernel mode, is the first process's child "culprit"'s; its result and wait status. */
extern long (*job)(void *);
extern volatile long job_result;
extern volatile int culprit_status;
long judge(void *arg);
/* Survived: the machine runs to its end, and its invariants hold. */
void survive(struct kss_config *c, long (*fn)(void *), void *arg);
/* It stops the machine, with one report. */
void stops(struct kss_config *c, long (*fn)(void *), void *arg);

/* A device on line 40 whose handler, isr(), does a job of its own; and how to raise it. */
extern void (*isr_job)(void);
struct kss_machine *machine_with_isr(const struct kss_config *c);
long raise_it(void *arg);

#endif

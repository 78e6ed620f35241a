/* SPDX-License-Identifier: MIT */
/* What the host itself takes for the same work, on bare Linux primitives. Nanoseconds an operation. */
#ifndef KSS_BENCH_RAW_H
#define KSS_BENCH_RAW_H

double bench_now(void);               /* CLOCK_MONOTONIC in ns */
double raw_signal(long n);            /* a signal to itself, empty handler on an alternate stack */
double raw_int(long n);               /* int $0x81 that faults; the handler skips it */
double raw_swapcontext(long n);       /* one swapcontext() */
double raw_getppid(long n);
double raw_pthread(long n);           /* pthread_create() + pthread_join() */
/* Queues SIGALRM to the calling thread with si_code SI_TIMER, as an expired timer does, from code that
   is not libc's. */
void bench_expire(void);
#endif

/* SPDX-License-Identifier: MIT */
/* What the host itself takes for the same work, on bare Linux primitives. Nanoseconds an operation. */
#ifndef KSS_BENCH_RAW_H
#define KSS_BENCH_RAW_H

#include <stddef.h>

double bench_now(void);               /* CLOCK_MONOTONIC in ns */
double raw_signal(long n);            /* a signal to itself, empty handler on an alternate stack */
double raw_int(long n);               /* int $0x81 that faults; the handler skips it */
double raw_swapcontext(long n);       /* one swapcontext() */
double raw_getppid(long n);
double raw_pthread(long n);           /* pthread_create() + pthread_join() */
/* Queues SIGALRM to the calling thread with si_code SI_TIMER, as an expired timer does, from code that
   is not libc's. */
void bench_expire(void);

/* raw_smp.c: two threads, each on its own core. */
unsigned bench_cores(void);      /* that this process may use; the first call before any is pinned */
void bench_pin(unsigned index);  /* the calling host thread to the index-th of them */
void bench_unpin(void);
void bench_relax(void);
void bench_pause(double ns);     /* without sleeping */
#define BENCH_LONG_SLEEP_NS 400000
#define BENCH_LATENCIES 65536
struct bench_latency {
    size_t n;
    double ns[BENCH_LATENCIES];
};
void bench_latency_add(struct bench_latency *l, double ns);
double bench_latency_quantile(struct bench_latency *l, double q);
double raw_futex(long n);        /* median from FUTEX_WAKE to the woken thread */
double raw_futex_idle(long n);   /* the same when it has slept for BENCH_LONG_SLEEP_NS */
double raw_spin(long n);         /* a contended pthread_spinlock_t, taken and released */
double raw_millisecond(long n);  /* what a limit in absolute time is compared with */
#endif

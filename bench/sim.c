/* SPDX-License-Identifier: MIT */
/* The simulated side: each function runs as the first process of a machine. */
#include "bench.h"

long sim_interrupt(void *arg)
{
    struct job *j = arg;
    double start = bench_now();
    for (long i = 0; i < j->n; i++)
        bench_expire();
    j->ns = (bench_now() - start) / (double)j->n;
    return 0;
}

long sim_getpid(void *arg)
{
    struct job *j = arg;
    double start = bench_now();
    for (long i = 0; i < j->n; i++)
        kss_getpid();
    j->ns = (bench_now() - start) / (double)j->n;
    return 0;
}

static _Atomic bool stop_yielding;

static long yielder(void *arg)
{
    (void)arg;
    while (!stop_yielding)
        kss_yield();
    return 0;
}

/* Two processes that yield to each other, each time by a system call. */
long sim_yield(void *arg)
{
    struct job *j = arg;
    stop_yielding = false;
    if (kss_spawn(yielder, NULL, NULL) < 0)
        return 1;
    kss_yield();
    double start = bench_now();
    for (long i = 0; i < j->n; i += 2)
        kss_yield();
    j->ns = (bench_now() - start) / (double)j->n;
    stop_yielding = true;
    return kss_wait(-1, NULL) < 0;
}

/* The same two in the middle of one system call each: the switch without mode switches. */
long sim_sys_switcher(const struct kss_syscall_args *a)
{
    struct job *j = (struct job *)a->a[0];
    if (!j) {
        while (!stop_yielding)
            kss_reschedule();
        return 0;
    }
    kss_reschedule();
    double start = bench_now();
    for (long i = 0; i < j->n; i += 2)
        kss_reschedule();
    j->ns = (bench_now() - start) / (double)j->n;
    stop_yielding = true;
    return 0;
}

static long switch_partner(void *arg)
{
    return kss_syscall(SYS_SWITCHER, (long)arg, 0, 0, 0, 0, 0);
}

long sim_switch(void *arg)
{
    stop_yielding = false;
    if (kss_spawn(switch_partner, NULL, NULL) < 0)
        return 1;
    switch_partner(arg);
    return kss_wait(-1, NULL) < 0;
}

static long empty_process(void *arg)
{
    (void)arg;
    return 0;
}

long sim_spawn(void *arg)
{
    struct job *j = arg;
    for (int i = 0; i < 8; i++) { /* warm the stack cache */
        if (kss_spawn(empty_process, NULL, NULL) < 0 || kss_wait(-1, NULL) < 0)
            return 1;
    }
    double start = bench_now();
    for (long i = 0; i < j->n; i++) {
        kss_spawn(empty_process, NULL, NULL);
        kss_wait(-1, NULL);
    }
    j->ns = (bench_now() - start) / (double)j->n;
    return 0;
}

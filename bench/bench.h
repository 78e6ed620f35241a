/* SPDX-License-Identifier: MIT */
/* What the benchmark's files share. */
#ifndef KSS_BENCH_H
#define KSS_BENCH_H

#include <kstacksim/kstacksim.h>

#include "raw.h"

/* What a simulated process is to do, n times, and how long one took. */
struct job {
    long n;
    double ns;
};

struct bench {
    const char *name, *what, *against;
    double (*raw)(long n);
    kss_user_fn sim;
    enum kss_syscall_entry entry;
    long n;
    double limit;
    void (*policy)(struct kss_config *config); /* what is not default; if raw is NULL, against the default */
    double (*machine)(const struct kss_config *config, long n); /* measured from outside, instead of sim; < 0: failed */
};

struct result {
    double sim, raw, ratio, low, high;
    bool left_out; /* this host can't do it */
};

/* sim.c */
long sim_interrupt(void *job);
long sim_getpid(void *job);
long sim_yield(void *job);
long sim_switch(void *job);
long sim_spawn(void *job);
#define SYS_SWITCHER KSS_SYS_EXPERIMENT
long sim_sys_switcher(const struct kss_syscall_args *a);

/* smp.c: on as many CPUs as the machine has, each on its own host core. Each takes the least of many short batches,
   since what else the host does is in few of them; where CPUs want the same lock it takes the median, since a CPU that
   the host holds back leaves the lock to the others. */
#define SYS_SLEEPER (KSS_SYS_EXPERIMENT + 1)
#define SYS_LOCKER (KSS_SYS_EXPERIMENT + 2)
long smp_sys_sleeper(const struct kss_syscall_args *a);
long smp_sys_locker(const struct kss_syscall_args *a);
long smp_work(void *job);
long smp_getpid(void *job);
long smp_yield(void *job);
long smp_spawn(void *job);
long smp_lock(void *job);
long smp_wake(void *job);      /* median: from the call that wakes to the woken thread, which has just gone to sleep */
long smp_wake_idle(void *job); /* the same when it has slept for long */
double smp_boot(const struct kss_config *config, long n); /* create, run an empty process, destroy */

/* output.c */
void print_json(const struct bench *benches, const struct result *r, size_t n);
void print_table(const struct bench *benches, const struct result *r, size_t n);

#endif

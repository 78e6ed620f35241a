/* SPDX-License-Identifier: MIT */
/* What the parts of the soak share. */
#ifndef SOAK_H
#define SOAK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kstacksim/kstacksim.h>

#define SOAK_WORKERS 64
#define SYS_KERNEL KSS_SYS_EXPERIMENT

struct complaint {
    const char *what;
    long a, b;
};

extern struct soak {
    uint64_t seed, end_ns;
    unsigned cpus;
    _Atomic unsigned workers, wrong, complaints, reports;
    _Atomic bool over, finished, watcher_over;
    struct complaint complaint[8];
    long tid[SOAK_WORKERS];
    unsigned of_job[SOAK_WORKERS];
    _Atomic uint64_t progress[SOAK_WORKERS];
    _Atomic bool left[SOAK_WORKERS]; /* has done its work */
    _Atomic uint64_t called, calls_wanted;
    FILE *shared;
    _Atomic uint64_t lines;          /* printed to it */
    int console_in;
    _Atomic uint64_t console_written, console_read;
} soak;

uint64_t soak_random(uint64_t *seed);
void soak_wrong(const char *what, long a, long b);
void soak_setup(void);
void soak_check_work(void); /* when the machine has ended */
long soak_sys_kernel(const struct kss_syscall_args *a);
long in_kernel(long (*fn)(void *arg), void *arg);
long soak_wake_all(void *arg);
void *soak_drain_console(void *arg);

/* Processes; arg: the worker's number. Each goes on until soak.over, counts its rounds, and returns 0. */
long soak_storm(void *arg);
long soak_compute(void *arg);
long soak_lock(void *arg);
long soak_queue(void *arg);
long soak_disk(void *arg);
long soak_console(void *arg);
long soak_call(void *arg);
long soak_mover(void *arg);
long soak_hotplug(void *arg);
long soak_malloc(void *arg);
long soak_print(void *arg);

#endif

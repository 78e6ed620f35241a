/* SPDX-License-Identifier: MIT */
/*
 * kss_bench: each path of the simulated kernel beside the host's own for the same work, interleaved in
 * one run. A round measures the host, then boots a machine and measures there; shown are the medians
 * over all rounds, the ratio's own median and its spread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench.h"

#define ROUNDS_MAX 1001

/* ---- the cases ----------------------------------------------------------------------------------- */

static void erase(struct kss_config *c)
{
    c->kstack_erase = true;
}

static void randomize(struct kss_config *c)
{
    c->kstack_randomize = true;
}

static void narrow_guards(struct kss_config *c)
{
    c->guard_size = 4096;
}

static void quarantine(struct kss_config *c)
{
    c->kstack_quarantine = true;
}

static void no_poison(struct kss_config *c)
{
    c->poison = false;
}

static void irq_stacks(struct kss_config *c)
{
    c->irq_stacks = KSS_IRQ_STACKS_PER_CPU;
}

static void lock_order(struct kss_config *c)
{
    c->lock_order = true;
}

static void tracing(struct kss_config *c)
{
    c->trace = true;
}

static void closed_stacks(struct kss_config *c)
{
    c->protect = KSS_PROTECT_MPROTECT;
}

static void two_cpus(struct kss_config *c)
{
    c->cpus = 2;
}

static const struct bench benches[] = {
    { "interrupt", "whole timer interrupt, user to user", "signal, empty handler", raw_signal, sim_interrupt,
      KSS_SYSCALL_TRAP, 10000, 1.4, NULL, NULL },
    { "syscall-trap", "system call by trapping instruction", "faulting int n, skipped", raw_int, sim_getpid,
      KSS_SYSCALL_TRAP, 10000, 1.4, NULL, NULL },
    { "switch", "context switch, scheduler included", "swapcontext", raw_swapcontext, sim_switch,
      KSS_SYSCALL_GATE, 100000, 1.25, NULL, NULL },
    { "yield", "the same by a yield system call (gate)", "swapcontext", raw_swapcontext, sim_yield,
      KSS_SYSCALL_GATE, 100000, 0, NULL, NULL },
    { "syscall-gate", "system call by call gate", "getppid", raw_getppid, sim_getpid, KSS_SYSCALL_GATE, 200000,
      0.5, NULL, NULL },
    { "spawn", "spawn + exit + wait, warm", "pthread_create + join", raw_pthread, sim_spawn, KSS_SYSCALL_GATE,
      2000, 0.2, NULL, NULL },
    { "erase", "gate system call, stack erased on return", "the same by default", NULL, sim_getpid, KSS_SYSCALL_GATE,
      50000, 0, erase, NULL },
    { "randomize", "gate system call, stack offset at random", "the same by default", NULL, sim_getpid,
      KSS_SYSCALL_GATE, 100000, 0, randomize, NULL },
    { "fence", "gate system call, guards of one page and a fence", "the same by default", NULL, sim_getpid,
      KSS_SYSCALL_GATE, 20000, 0, narrow_guards, NULL },
    { "quarantine", "spawn + exit + wait, freed stacks unreachable", "the same by default", NULL, sim_spawn,
      KSS_SYSCALL_GATE, 2000, 0, quarantine, NULL },
    { "no-poison", "spawn + exit + wait, no poison", "the same by default", NULL, sim_spawn, KSS_SYSCALL_GATE, 2000, 0,
      no_poison, NULL },
    { "irq-stacks", "timer interrupt on the CPU's interrupt stack", "the same by default", NULL, sim_interrupt,
      KSS_SYSCALL_TRAP, 10000, 0, irq_stacks, NULL },
    { "lock-order", "spawn + exit + wait, order of locks checked", "the same by default", NULL, sim_spawn,
      KSS_SYSCALL_GATE, 2000, 0, lock_order, NULL },
    { "trace", "gate system call, traced", "the same by default", NULL, sim_getpid, KSS_SYSCALL_GATE, 20000, 0, tracing, NULL },
    { "work-2", "user work on 2 CPUs, 100 multiplications", "the same on 1 CPU", NULL, smp_work, KSS_SYSCALL_GATE, 320000, 1 / 1.8,
      two_cpus, NULL },
    { "gate-2", "gate system calls on 2 CPUs", "the same on 1 CPU", NULL, smp_getpid, KSS_SYSCALL_GATE, 200000, 1 / 1.6,
      two_cpus, NULL },
    { "trap-2", "trap system calls on 2 CPUs", "the same on 1 CPU", NULL, smp_getpid, KSS_SYSCALL_TRAP, 20000, 1 / 1.6,
      two_cpus, NULL },
    { "yield-2", "yields on 2 CPUs, one scheduler lock", "the same on 1 CPU", NULL, smp_yield, KSS_SYSCALL_GATE, 100000, 0,
      two_cpus, NULL },
    { "spawn-2", "spawn + exit + wait on 2 CPUs, two kernel locks", "the same on 1 CPU", NULL, smp_spawn,
      KSS_SYSCALL_GATE, 6400, 0, two_cpus, NULL },
    { "lock-2", "one spinlock taken by 2 CPUs", "pthread_spinlock_t, 2 threads", raw_spin, smp_lock, KSS_SYSCALL_GATE,
      320000, 0, two_cpus, NULL },
    { "wake-2", "wake-up to run, CPU to CPU, ping-pong", "futex wake, 2 threads", raw_futex, smp_wake, KSS_SYSCALL_GATE,
      2000, 1.5, two_cpus, NULL },
    { "wake-idle-2", "the same, the woken CPU long asleep", "futex wake, 2 threads", raw_futex_idle, smp_wake_idle,
      KSS_SYSCALL_GATE, 50, 1.5, two_cpus, NULL },
    { "boot-2", "boot + halt of 2 CPUs, create to destroy", "a millisecond", raw_millisecond, NULL, KSS_SYSCALL_TRAP, 400,
      1, two_cpus, smp_boot },
    { "closed", "system call by trap, kernel stacks closed", "faulting int n, skipped", raw_int, sim_getpid,
      KSS_SYSCALL_TRAP, 10000, 0, closed_stacks, NULL },
};
#define BENCHES (sizeof benches / sizeof benches[0])
static struct result result[BENCHES];

struct figures {
    double sim[ROUNDS_MAX], raw[ROUNDS_MAX], ratio[ROUNDS_MAX];
};

static struct kss_config config_of(const struct bench *b, bool with_policy)
{
    struct kss_config config;
    kss_config_init(&config);
    config.syscall_entry = b->entry;
    if (with_policy && b->policy)
        b->policy(&config);
    return config;
}

static bool can(const struct bench *b)
{
    struct kss_config config = config_of(b, true);
    struct kss_machine *m;
    if (config.cpus > bench_cores())
        return false;
    int r = kss_machine_create(&m, &config);
    kss_machine_destroy(m);
    if (r == -ENOTSUP)
        fprintf(stderr, "kss_bench: %s is left out: %s\n", b->name, kss_last_error());
    return r != -ENOTSUP;
}

static int run_sim(const struct bench *b, bool with_policy, double *ns)
{
    struct kss_config config = config_of(b, with_policy);
    struct kss_machine *m;
    struct job job = { b->n, 0 };
    int status = 0;
    if (b->machine) {
        *ns = b->machine(&config, b->n);
        if (*ns < 0)
            fprintf(stderr, "kss_bench: %s: %s\n", b->name, kss_last_error());
        return *ns < 0 ? -1 : 0;
    }
    int r = kss_machine_create(&m, &config);
    if (r == 0) {
        kss_syscall_register(m, SYS_SWITCHER, sim_sys_switcher, "switcher");
        kss_syscall_register(m, SYS_SLEEPER, smp_sys_sleeper, "sleeper");
        kss_syscall_register(m, SYS_LOCKER, smp_sys_locker, "locker");
        r = kss_machine_run(m, b->sim, &job, &status);
        kss_machine_destroy(m);
    }
    if (r < 0 || status) {
        fprintf(stderr, "kss_bench: %s: %s\n", b->name, r < 0 ? kss_last_error() : "the process failed");
        return -1;
    }
    *ns = job.ns;
    return 0;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double quantile(double *v, int n, double q)
{
    qsort(v, (size_t)n, sizeof *v, compare);
    return v[(int)(q * (n - 1) + 0.5)];
}

static int measure(const struct bench *b, struct figures *f, int round)
{
    /* One host core for both sides: neither profits from being moved. */
    if (config_of(b, true).cpus > 1)
        bench_unpin();
    else
        bench_pin(0);
    if (b->raw)
        f->raw[round] = b->raw(b->n);
    else if (run_sim(b, false, &f->raw[round]) < 0)
        return -1;
    if (run_sim(b, true, &f->sim[round]) < 0)
        return -1;
    f->ratio[round] = f->sim[round] / f->raw[round];
    return 0;
}

static struct result summarise(struct figures *f, int rounds)
{
    struct result r = { .left_out = false };
    r.sim = quantile(f->sim, rounds, 0.5);
    r.raw = quantile(f->raw, rounds, 0.5);
    r.low = quantile(f->ratio, rounds, 0.1);
    r.ratio = quantile(f->ratio, rounds, 0.5);
    r.high = quantile(f->ratio, rounds, 0.9);
    return r;
}

static void usage(FILE *out)
{
    fprintf(out, "usage: kss_bench [--rounds N] [--json] [NAME...]\n"
                 "Measures each path, or those named, beside the host's own. --rounds: 1 to %d, default 25.\n", ROUNDS_MAX);
}

/* Leaves out what is not named; nothing is, if no name is given. */
static int wanted(char **names)
{
    for (size_t i = 0; i < BENCHES && *names; i++)
        result[i].left_out = true;
    for (; *names; names++) {
        size_t i = 0;
        while (i < BENCHES && strcmp(*names, benches[i].name) != 0)
            i++;
        if (i == BENCHES) {
            fprintf(stderr, "kss_bench: %s: there are", *names);
            for (i = 0; i < BENCHES; i++)
                fprintf(stderr, " %s", benches[i].name);
            fprintf(stderr, "\n");
            return -1;
        }
        result[i].left_out = false;
    }
    return 0;
}

static int options(int argc, char **argv, int *rounds, bool *json)
{
    static const struct option longs[] = { { "rounds", required_argument, 0, 'r' },
                                           { "json", no_argument, 0, 'j' },
                                           { "help", no_argument, 0, 'h' },
                                           { 0, 0, 0, 0 } };
    for (int c; (c = getopt_long(argc, argv, "r:jh", longs, NULL)) != -1;) {
        char *end = NULL;
        long n = c == 'r' ? strtol(optarg, &end, 10) : 0;
        if (c == 'h') {
            usage(stdout);
            exit(0);
        }
        if (c == '?' || (c == 'r' && (*end || n < 1 || n > ROUNDS_MAX))) {
            usage(stderr);
            return -1;
        }
        if (c == 'r')
            *rounds = (int)n;
        *json |= c == 'j';
    }
    return wanted(argv + optind);
}

int main(int argc, char **argv)
{
    static struct figures figures[BENCHES];
    int rounds = 25;
    bool json = false;
    bench_cores();
    if (options(argc, argv, &rounds, &json) < 0)
        return 2;
    for (size_t i = 0; i < BENCHES; i++)
        result[i].left_out = result[i].left_out || !can(&benches[i]);
    for (int round = 0; round < rounds; round++) {
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "\rround %d of %d ", round + 1, rounds);
        for (size_t i = 0; i < BENCHES; i++)
            if (!result[i].left_out && measure(&benches[i], &figures[i], round) < 0)
                return 1;
    }
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r%20s\r", "");
    for (size_t i = 0; i < BENCHES; i++)
        if (!result[i].left_out)
            result[i] = summarise(&figures[i], rounds);
    if (json)
        print_json(benches, result, BENCHES);
    else
        print_table(benches, result, BENCHES);
    return 0;
}

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

#include <kstacksim/kstacksim.h>

#include "config.h"
#include "raw.h"
#ifdef HAVE_SMARTCOLS
#include <libsmartcols.h>
#endif

#define ROUNDS_MAX 1001

/* ---- the simulated side: each runs as the first process ----------------------------------------- */

struct job {
    long n;
    double ns;
};

static long sim_interrupt(void *arg)
{
    struct job *j = arg;
    double start = bench_now();
    for (long i = 0; i < j->n; i++)
        bench_expire();
    j->ns = (bench_now() - start) / (double)j->n;
    return 0;
}

static long sim_getpid(void *arg)
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
static long sim_yield(void *arg)
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
#define SYS_SWITCHER KSS_SYS_EXPERIMENT

static long switcher(const struct kss_syscall_args *a)
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

static long sim_switch(void *arg)
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

static long sim_spawn(void *arg)
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

/* ---- the cases ----------------------------------------------------------------------------------- */

struct bench {
    const char *name, *what, *against;
    double (*raw)(long n);
    kss_user_fn sim;
    enum kss_syscall_entry entry;
    long n;
    double limit;
    void (*policy)(struct kss_config *config); /* what is not default; if raw is NULL, against the default */
};

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

static const struct bench benches[] = {
    { "interrupt", "whole timer interrupt, user to user", "signal, empty handler", raw_signal, sim_interrupt,
      KSS_SYSCALL_TRAP, 10000, 1.4, NULL },
    { "syscall-trap", "system call by trapping instruction", "faulting int n, skipped", raw_int, sim_getpid,
      KSS_SYSCALL_TRAP, 10000, 1.4, NULL },
    { "switch", "context switch, scheduler included", "swapcontext", raw_swapcontext, sim_switch,
      KSS_SYSCALL_GATE, 100000, 1.25, NULL },
    { "yield", "the same by a yield system call (gate)", "swapcontext", raw_swapcontext, sim_yield,
      KSS_SYSCALL_GATE, 100000, 0, NULL },
    { "syscall-gate", "system call by call gate", "getppid", raw_getppid, sim_getpid, KSS_SYSCALL_GATE, 200000,
      0.5, NULL },
    { "spawn", "spawn + exit + wait, warm", "pthread_create + join", raw_pthread, sim_spawn, KSS_SYSCALL_GATE,
      2000, 0.2, NULL },
    { "erase", "gate system call, stack erased on return", "the same by default", NULL, sim_getpid, KSS_SYSCALL_GATE,
      50000, 0, erase },
    { "randomize", "gate system call, stack offset at random", "the same by default", NULL, sim_getpid,
      KSS_SYSCALL_GATE, 100000, 0, randomize },
    { "fence", "gate system call, guards of one page and a fence", "the same by default", NULL, sim_getpid,
      KSS_SYSCALL_GATE, 20000, 0, narrow_guards },
    { "quarantine", "spawn + exit + wait, freed stacks unreachable", "the same by default", NULL, sim_spawn,
      KSS_SYSCALL_GATE, 2000, 0, quarantine },
    { "no-poison", "spawn + exit + wait, no poison", "the same by default", NULL, sim_spawn, KSS_SYSCALL_GATE, 2000, 0,
      no_poison },
    { "irq-stacks", "timer interrupt on the CPU's interrupt stack", "the same by default", NULL, sim_interrupt,
      KSS_SYSCALL_TRAP, 10000, 0, irq_stacks },
    { "lock-order", "spawn + exit + wait, order of locks checked", "the same by default", NULL, sim_spawn,
      KSS_SYSCALL_GATE, 2000, 0, lock_order },
    { "trace", "gate system call, traced", "the same by default", NULL, sim_getpid, KSS_SYSCALL_GATE, 20000, 0, tracing },
    { "closed", "system call by trap, kernel stacks closed", "faulting int n, skipped", raw_int, sim_getpid,
      KSS_SYSCALL_TRAP, 10000, 0, closed_stacks },
};
#define BENCHES (sizeof benches / sizeof benches[0])
static bool left_out[BENCHES]; /* what this host can't do */

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
    int r = kss_machine_create(&m, &config);
    if (r == 0) {
        kss_syscall_register(m, SYS_SWITCHER, switcher, "switcher");
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

struct result {
    double sim, raw, ratio, low, high;
};

static int measure(const struct bench *b, struct figures *f, int round)
{
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
    struct result r;
    r.sim = quantile(f->sim, rounds, 0.5);
    r.raw = quantile(f->raw, rounds, 0.5);
    r.low = quantile(f->ratio, rounds, 0.1);
    r.ratio = quantile(f->ratio, rounds, 0.5);
    r.high = quantile(f->ratio, rounds, 0.9);
    return r;
}

/* ---- output --------------------------------------------------------------------------------------- */

static void print_json(const struct result *r)
{
    for (size_t i = 0; i < BENCHES; i++)
        if (!left_out[i])
            printf("{\"name\":\"%s\",\"value_ns\":%.1f,\"raw_ns\":%.1f,\"ratio\":%.3f,\"unit\":\"ns\","
                   "\"ratio_p10\":%.3f,\"ratio_p90\":%.3f,\"limit\":%.2f}\n",
                   benches[i].name, r[i].sim, r[i].raw, r[i].ratio, r[i].low, r[i].high, benches[i].limit);
}

static void cells(const struct bench *b, const struct result *r, char cell[7][48])
{
    snprintf(cell[0], 48, "%s", b->what);
    snprintf(cell[1], 48, "%.0f", r->sim);
    snprintf(cell[2], 48, "%s", b->against);
    snprintf(cell[3], 48, "%.0f", r->raw);
    snprintf(cell[4], 48, "%.2f", r->ratio);
    snprintf(cell[5], 48, "%.2f-%.2f", r->low, r->high);
    snprintf(cell[6], 48, b->limit > 0 ? "%.2f" : "", b->limit);
}

static void print_table(const struct result *r)
{
    static const char *const head[] = { "PATH", "NS", "AGAINST", "NS", "RATIO", "P10-P90", "AT MOST" };
#ifdef HAVE_SMARTCOLS
    struct libscols_table *t = scols_new_table();
    for (int c = 0; c < 7; c++)
        scols_table_new_column(t, head[c], 0, c == 0 || c == 2 ? 0 : SCOLS_FL_RIGHT);
    for (size_t i = 0; i < BENCHES; i++) {
        char cell[7][48];
        if (left_out[i])
            continue;
        cells(&benches[i], &r[i], cell);
        struct libscols_line *line = scols_table_new_line(t, NULL);
        for (size_t c = 0; c < 7; c++)
            scols_line_set_data(line, c, cell[c]);
    }
    scols_print_table(t);
    scols_unref_table(t);
#else
    for (size_t i = 0; i < BENCHES; i++) {
        char cell[7][48];
        if (left_out[i])
            continue;
        cells(&benches[i], &r[i], cell);
        for (int c = 0; c < 7; c++)
            printf("%s %s%s", head[c], cell[c], c < 6 ? ", " : "\n");
    }
#endif
}

static void usage(FILE *out)
{
    fprintf(out, "usage: kss_bench [--rounds N] [--json]\n"
                 "Measures each path beside the host's own. --rounds: 1 to %d, default 25.\n", ROUNDS_MAX);
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
    return 0;
}

int main(int argc, char **argv)
{
    static struct figures figures[BENCHES];
    struct result result[BENCHES];
    int rounds = 25;
    bool json = false;
    if (options(argc, argv, &rounds, &json) < 0)
        return 2;
    /* One host CPU for both sides: neither profits from being moved. */
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu() < 0 ? 0 : (size_t)sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);
    for (size_t i = 0; i < BENCHES; i++)
        left_out[i] = !can(&benches[i]);
    for (int round = 0; round < rounds; round++) {
        if (isatty(STDERR_FILENO))
            fprintf(stderr, "\rround %d of %d ", round + 1, rounds);
        for (size_t i = 0; i < BENCHES; i++)
            if (!left_out[i] && measure(&benches[i], &figures[i], round) < 0)
                return 1;
    }
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r%20s\r", "");
    for (size_t i = 0; i < BENCHES; i++)
        result[i] = summarise(&figures[i], rounds);
    if (json)
        print_json(result);
    else
        print_table(result);
    return 0;
}

/* SPDX-License-Identifier: MIT */
/* The simulated side with two CPUs. One that has one CPU does the same work alone. */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <string.h>

#include "bench.h"

#define BATCHES 16

/* ---- the same work on every CPU --------------------------------------------------------------------- */

static struct {
    void (*work)(long n);
    _Atomic long started, ended; /* batches, summed over CPUs */
    long n;                      /* items a CPU and batch */
    unsigned cpus;
    double quantile;             /* which batch counts: 0 the least, 0.5 the median */
} crew;

/* Batches start together: the last to come lets the others go. */
static void together(_Atomic long *count, long batch)
{
    atomic_fetch_add(count, 1);
    while (atomic_load(count) < (batch + 1) * (long)crew.cpus)
        bench_relax();
}

static double batches(void)
{
    static struct bench_latency all[2]; /* the mates' own are not looked at */
    struct bench_latency *l = &all[kss_cpu_id() != 0];
    l->n = 0;
    for (long b = 0; b < BATCHES; b++) {
        together(&crew.started, b);
        double start = bench_now();
        crew.work(crew.n);
        together(&crew.ended, b);
        bench_latency_add(l, bench_now() - start);
    }
    return bench_latency_quantile(l, crew.quantile);
}

/* To one simulated CPU, and that to one host core. */
static void settle(unsigned cpu)
{
    struct kss_cpumask one = kss_cpumask_of(cpu);
    kss_setaffinity(0, &one);
    bench_pin(cpu);
}

static long mate(void *arg)
{
    settle((unsigned)(long)arg);
    batches();
    return 0;
}

static long on_all_cpus(struct job *j, void (*work)(long n), double quantile)
{
    struct kss_cpumask all;
    kss_getaffinity(0, &all);
    crew.work = work;
    crew.quantile = quantile;
    crew.cpus = kss_cpumask_count(&all);
    crew.started = crew.ended = 0;
    crew.n = j->n / BATCHES / (long)crew.cpus;
    settle(0);
    for (unsigned i = 1; i < crew.cpus; i++)
        if (kss_spawn(mate, (void *)(long)i, NULL) < 0)
            return 1;
    j->ns = batches() / (double)(crew.n * (long)crew.cpus);
    for (unsigned i = 1; i < crew.cpus; i++)
        kss_wait(-1, NULL);
    return 0;
}

static void count_up(long n)
{
    unsigned x = 1;
    for (long i = 0; i < 100 * n; i++) {
        x = x * 69069 + 1;
        __asm__ volatile("" : "+r"(x)); /* not to be computed in advance */
    }
}

long smp_work(void *arg)
{
    return on_all_cpus(arg, count_up, 0);
}

static void ask_pid(long n)
{
    for (long i = 0; i < n; i++)
        kss_getpid();
}

long smp_getpid(void *arg)
{
    return on_all_cpus(arg, ask_pid, 0);
}

static void yield_alone(long n)
{
    for (long i = 0; i < n; i++)
        kss_yield();
}

/* Nobody else is there to run, but the scheduler's lock is taken each time. */
long smp_yield(void *arg)
{
    return on_all_cpus(arg, yield_alone, 0.5);
}

static long nothing(void *arg)
{
    (void)arg;
    return 0;
}

static void spawn_and_wait(long n)
{
    for (long i = 0; i < n; i++) {
        kss_spawn(nothing, NULL, NULL); /* inherits the CPU */
        kss_wait(-1, NULL);
    }
}

long smp_spawn(void *arg)
{
    return on_all_cpus(arg, spawn_and_wait, 0.5);
}

/* ---- one lock --------------------------------------------------------------------------------------- */

static struct kss_spinlock lock = KSS_SPINLOCK_INIT("bench");
static volatile long guarded;

long smp_sys_locker(const struct kss_syscall_args *a)
{
    for (long i = 0; i < a->a[0]; i++) {
        bool on = kss_spin_lock(&lock);
        guarded++;
        kss_spin_unlock(&lock, on);
    }
    return 0;
}

static void lock_and_count(long n)
{
    kss_syscall(SYS_LOCKER, n, 0, 0, 0, 0, 0);
}

long smp_lock(void *arg)
{
    return on_all_cpus(arg, lock_and_count, 0.5);
}

/* ---- from a wake-up to the woken ---------------------------------------------------------------------- */

static struct {
    struct kss_wait_queue queue[2];
    _Atomic bool turn[2];
    double woken_at;
    struct bench_latency latency;
    double gap;
} game;

static void wait_turn(unsigned me)
{
    struct kss_waiter w = { 0 };
    for (;;) {
        kss_wait_prepare(&game.queue[me], &w);
        if (atomic_exchange(&game.turn[me], false))
            break;
        kss_wait_sleep();
    }
    kss_wait_finish(&w);
}

static void wake(unsigned other)
{
    bench_pause(game.gap);
    game.woken_at = bench_now();
    atomic_store(&game.turn[other], true);
    kss_wake_up(&game.queue[other], 1);
}

/* a[0]: 0 or 1, who serves; a[1]: how many times */
long smp_sys_sleeper(const struct kss_syscall_args *a)
{
    unsigned me = (unsigned)a->a[0];
    for (long i = 0; i < a->a[1]; i++) {
        if (me == 0)
            wake(1);
        wait_turn(me);
        bench_latency_add(&game.latency, bench_now() - game.woken_at);
        if (me == 1)
            wake(0);
    }
    return 0;
}

static long returner(void *arg)
{
    settle(1);
    return kss_syscall(SYS_SLEEPER, 1, (long)arg, 0, 0, 0, 0);
}

static long play(struct job *j, double gap)
{
    kss_wait_queue_init(&game.queue[0], "server");
    kss_wait_queue_init(&game.queue[1], "returner");
    game.turn[0] = game.turn[1] = false;
    game.gap = gap;
    game.latency.n = 0;
    settle(0);
    if (kss_spawn(returner, (void *)j->n, NULL) < 0)
        return 1;
    kss_syscall(SYS_SLEEPER, 0, j->n, 0, 0, 0, 0);
    kss_wait(-1, NULL);
    j->ns = bench_latency_quantile(&game.latency, 0.5);
    return 0;
}

long smp_wake(void *arg)
{
    return play(arg, 0);
}

long smp_wake_idle(void *arg)
{
    return play(arg, BENCH_LONG_SLEEP_NS);
}

/* ---- a machine's life --------------------------------------------------------------------------------- */

double smp_boot(const struct kss_config *config, long n)
{
    double start = bench_now();
    for (long i = 0; i < n; i++) {
        struct kss_machine *m;
        int status = 0;
        if (kss_machine_create(&m, config) < 0)
            return -1;
        if (kss_machine_run(m, nothing, NULL, &status) < 0 || kss_machine_destroy(m) < 0)
            return -1;
    }
    return (bench_now() - start) / (double)n;
}

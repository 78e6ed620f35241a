/* SPDX-License-Identifier: MIT */
/* The host's side with two threads, each on its own core. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "raw.h"

/* ---- cores -------------------------------------------------------------------------------------------- */

static cpu_set_t allowed; /* at the start of the program */

unsigned bench_cores(void)
{
    if (!CPU_COUNT(&allowed))
        sched_getaffinity(0, sizeof allowed, &allowed);
    return (unsigned)CPU_COUNT(&allowed);
}

void bench_pin(unsigned index)
{
    cpu_set_t one;
    CPU_ZERO(&one);
    for (size_t core = 0, n = 0; core < CPU_SETSIZE; core++)
        if (CPU_ISSET(core, &allowed) && n++ == index)
            CPU_SET(core, &one);
    sched_setaffinity(0, sizeof one, &one);
}

void bench_unpin(void)
{
    sched_setaffinity(0, sizeof allowed, &allowed);
}

void bench_relax(void)
{
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
}

void bench_pause(double ns)
{
    if (ns <= 0)
        return;
    for (double end = bench_now() + ns; bench_now() < end;)
        bench_relax();
}

/* ---- latencies ---------------------------------------------------------------------------------------- */

/* The one who was woken adds, so that there is one at a time. */
void bench_latency_add(struct bench_latency *l, double ns)
{
    if (l->n < BENCH_LATENCIES)
        l->ns[l->n++] = ns;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double bench_latency_quantile(struct bench_latency *l, double q)
{
    qsort(l->ns, l->n, sizeof l->ns[0], compare);
    return l->n ? l->ns[(size_t)(q * (double)(l->n - 1))] : 0;
}

/* ---- two threads -------------------------------------------------------------------------------------- */

static void *on_core_1(void *fn)
{
    bench_pin(1);
    ((void (*)(void))fn)();
    return NULL;
}

/* One on each core; returns when both have ended. */
static void both(void (*first)(void), void (*second)(void))
{
    pthread_t t;
    bench_pin(0);
    if (pthread_create(&t, NULL, on_core_1, (void *)second) != 0)
        abort();
    first();
    pthread_join(t, NULL);
    bench_unpin();
}

static struct {
    _Atomic int turn[2];
    double woken_at, gap;
    long n;
    struct bench_latency latency;
} game;

static void wait_turn(unsigned me)
{
    while (atomic_load(&game.turn[me]) == 0)
        syscall(SYS_futex, &game.turn[me], FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    atomic_store(&game.turn[me], 0);
    bench_latency_add(&game.latency, bench_now() - game.woken_at);
}

static void wake(unsigned other)
{
    bench_pause(game.gap);
    game.woken_at = bench_now();
    atomic_store(&game.turn[other], 1);
    syscall(SYS_futex, &game.turn[other], FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void server(void)
{
    for (long i = 0; i < game.n; i++) {
        wake(1);
        wait_turn(0);
    }
}

static void returner(void)
{
    for (long i = 0; i < game.n; i++) {
        wait_turn(1);
        wake(0);
    }
}

static double play(long n, double gap)
{
    game.turn[0] = game.turn[1] = 0;
    game.latency.n = 0;
    game.n = n;
    game.gap = gap;
    both(server, returner);
    return bench_latency_quantile(&game.latency, 0.5);
}

double raw_futex(long n)
{
    return play(n, 0);
}

double raw_futex_idle(long n)
{
    return play(n, BENCH_LONG_SLEEP_NS);
}

static pthread_spinlock_t lock;
static volatile long guarded;
static double begin, ends[2];
static long turns;

static void lock_and_count(unsigned me)
{
    for (long i = 0; i < turns; i++) {
        pthread_spin_lock(&lock);
        guarded++;
        pthread_spin_unlock(&lock);
    }
    ends[me] = bench_now();
}

static _Atomic int ready;

static void meet(void)
{
    ready++;
    while (ready < 2)
        bench_relax();
}

static void locker_0(void)
{
    meet();
    begin = bench_now();
    lock_and_count(0);
}

static void locker_1(void)
{
    meet();
    lock_and_count(1);
}

double raw_spin(long n)
{
    static struct bench_latency all;
    all.n = 0;
    pthread_spin_init(&lock, PTHREAD_PROCESS_PRIVATE);
    turns = n / 32;
    for (int batch = 0; batch < 16; batch++) {
        ready = 0;
        both(locker_0, locker_1);
        double end = ends[0] > ends[1] ? ends[0] : ends[1];
        bench_latency_add(&all, (end - begin) / (double)(2 * turns));
    }
    return bench_latency_quantile(&all, 0.5);
}

double raw_millisecond(long n)
{
    (void)n;
    return 1e6;
}

/* SPDX-License-Identifier: MIT */
/*
 * No wake-up from one CPU to another is lost: threads on different CPUs pass a token, each asleep until it comes, so
 * that one lost wake-up stops them for ever. Ticks are really off, since any signal would rescue a CPU that sleeps
 * past its wake-up. And a machine that is booted again and again leaves nothing behind.
 */
#define _GNU_SOURCE
#include "harness.h"

#include <dirent.h>
#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PLAYERS_MAX 8
#define TIMERS_MAX 1024
#define PATIENCE_S 30

static long number(const char *name, long fallback)
{
    const char *s = getenv(name);
    return s ? atol(s) : fallback;
}

/* ---- the token ------------------------------------------------------------------------------------------ */

static struct {
    unsigned players;
    long rounds;
    bool ticks;
    struct kss_wait_queue queue[PLAYERS_MAX];
    _Atomic bool token[PLAYERS_MAX];
    _Atomic long passed, wrong;
    _Atomic bool over;
} game;

static void wait_for_token(unsigned me)
{
    struct kss_waiter w = { 0 };
    for (;;) {
        kss_wait_prepare(&game.queue[me], &w);
        if (atomic_exchange(&game.token[me], false))
            break;
        kss_wait_sleep();
    }
    kss_wait_finish(&w);
}

static long pass_on(void *arg)
{
    unsigned me = (unsigned)(long)arg, next = (me + 1) % game.players;
    for (long i = 0; i < game.rounds; i++) {
        wait_for_token(me);
        game.wrong += kss_cpu_id() != (int)me;
        game.passed++;
        atomic_store(&game.token[next], true);
        kss_wake_up(&game.queue[next], 1);
    }
    return 0;
}

static long player(void *arg)
{
    struct kss_cpumask own = kss_cpumask_of((unsigned)(long)arg);
    return kss_setaffinity(0, &own) < 0 || in_kernel(pass_on, arg);
}

/* The CPUs' ticks are this process's only timers, and the host numbers them from 0. */
static void stop_ticks(void)
{
    struct itimerspec never = { 0 };
    for (int timer = 0; timer < TIMERS_MAX; timer++)
        syscall(SYS_timer_settime, timer, 0, &never, NULL);
}

static long wake_first(void *arg)
{
    (void)arg;
    return kss_wake_up(&game.queue[0], 1);
}

static long start(void *arg)
{
    long failed = 0, tid[PLAYERS_MAX];
    (void)arg;
    for (unsigned i = 0; i < game.players; i++)
        failed += (tid[i] = kss_spawn(player, (void *)(long)i, NULL)) < 0;
    /* Asleep on its own CPU: all CPUs have booted, and have their timers. */
    for (unsigned i = 0; i < game.players && !failed; i++)
        test_wait_asleep(tid[i]);
    if (!game.ticks)
        stop_ticks();
    game.token[0] = true;
    in_kernel(wake_first, NULL);
    for (unsigned i = 0; i < game.players; i++) {
        int status = -1;
        failed += kss_wait(-1, &status) < 0 || status != 0;
    }
    return failed;
}

/* Nothing has been passed for long: shows where everybody is, and ends it. */
static void *watchdog(void *m)
{
    long seen = -1;
    for (int still = 0; !game.over && still < PATIENCE_S * 10;) {
        long now = game.passed;
        still = now == seen ? still + 1 : 0;
        seen = now;
        nanosleep(&(struct timespec){ 0, 100000000 }, NULL);
    }
    if (!game.over) {
        fprintf(stderr, "a wake-up is lost after %ld\n", seen);
        kss_machine_dump(m);
        nanosleep(&(struct timespec){ 1, 0 }, NULL);
        kss_machine_stop(m);
    }
    return NULL;
}

static void play(unsigned cpus, unsigned tick_hz, long rounds)
{
    struct kss_config c = test_config();
    pthread_t dog;
    c.cpus = cpus;
    c.tick_hz = tick_hz ? tick_hz : 1;
    c.check_switches = false;
    memset(&game, 0, sizeof game);
    game.players = cpus;
    game.ticks = tick_hz != 0;
    game.rounds = rounds / (long)cpus;
    for (unsigned i = 0; i < cpus; i++)
        kss_wait_queue_init(&game.queue[i], "token");
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(pthread_create(&dog, NULL, watchdog, m), 0);
    int status = test_run(m, start, NULL);
    game.over = true;
    pthread_join(dog, NULL);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(game.passed, (long)cpus * game.rounds);
    ck_assert_int_eq(game.wrong, 0);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}

static long wake_ups(void)
{
    return number("KSS_TEST_WAKEUPS", 100000);
}

/* As many CPUs as the host has cores at most: they poll before they sleep. */
START_TEST(polling)
{
    play(2, 0, wake_ups());
}
END_TEST

/* More than most hosts' test machines have: they sleep at once. */
START_TEST(sleeping)
{
    play(PLAYERS_MAX, 0, wake_ups());
}
END_TEST

/* Signals and the doorbell at the same time. */
START_TEST(with_ticks)
{
    play(2, 10000, wake_ups() / 4);
}
END_TEST

/* ---- boot and halt -------------------------------------------------------------------------------------- */

static long nothing(void *arg)
{
    (void)arg;
    return 0;
}

struct footprint {
    unsigned descriptors, mappings;
    size_t heap;
};

static struct footprint footprint(void)
{
    struct footprint f = { 0, 0, mallinfo2().uordblks };
    DIR *d = opendir("/proc/self/fd");
    FILE *maps = fopen("/proc/self/maps", "r");
    while (d && readdir(d))
        f.descriptors++;
    for (int c; maps && (c = getc(maps)) != EOF;)
        f.mappings += c == '\n';
    if (d)
        closedir(d);
    if (maps)
        fclose(maps);
    return f;
}

/* What the first ones leave for the next: glibc's cached thread stacks, the unwinder's names. */
START_TEST(booted_often)
{
    struct kss_config c = test_config();
    struct footprint before = { 0 }, after;
    long boots = number("KSS_TEST_BOOTS", 500);
    c.cpus = 2;
    for (long i = 0; i < 20 + boots; i++) {
        if (i == 20)
            before = footprint();
        ck_assert_int_eq(test_boot(&c, nothing, NULL), 0);
    }
    after = footprint();
    ck_assert_uint_eq(after.descriptors, before.descriptors);
    ck_assert_uint_le(after.mappings, before.mappings + (KSS_TEST_ASAN ? 200 : 2)); /* the heap's own ups and downs */
    ck_assert_uint_le(after.heap, before.heap + 4096);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_wake");
    TCase *t = tcase_create("wake");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, polling);
    tcase_add_test(t, sleeping);
    tcase_add_test(t, with_ticks);
    tcase_add_test(t, booted_often);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

/* SPDX-License-Identifier: MIT */
/*
 * Host regions, and libc's frames below a callback: what is held back comes, none of it too early and none is lost;
 * who gives up the CPU there is named. REQ M6.
 */
#define _GNU_SOURCE
#include "harness.h"

#include <stdatomic.h>
#include <time.h>

#define LINE 40

static struct kss_machine *machine;
static _Atomic int taken; /* interrupts of LINE */

static void on_line(unsigned line, void *arg)
{
    (void)arg;
    taken++;
    kss_irq_eoi(line);
}

static void build(const struct kss_config *c)
{
    taken = 0;
    report_count = 0;
    machine = test_machine(c);
    ck_assert_int_eq(kss_irq_request(machine, LINE, on_line, NULL, "line"), 0);
}

static int run(kss_user_fn fn, void *arg)
{
    int status = test_run(machine, fn, arg);
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
    return status;
}

static long raise_line(void *arg)
{
    (void)arg;
    return kss_irq_raise(machine, (unsigned)kss_cpu_id(), LINE);
}

static struct kss_host_stats host_stats(void)
{
    struct kss_host_stats s;
    ck_assert_int_eq(kss_host_stats(machine, -1, &s), 0);
    return s;
}

static uint64_t host_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- regions -------------------------------------------------------------------------------------- */

/* The number of the first expectation that fails, or 0. */
#define EXPECT(n, x)  \
    do {              \
        if (!(x))     \
            return n; \
    } while (0)

static long nested(void *arg)
{
    (void)arg;
    EXPECT(1, kss_host_end() == -EINVAL);
    EXPECT(2, kss_host_begin() == 0);
    EXPECT(3, kss_host_begin() == 0);
    EXPECT(4, in_kernel(raise_line, NULL) == 0); /* a system call, and its exit, do not let it in */
    EXPECT(5, taken == 0);
    EXPECT(6, kss_getpid() > 0 && taken == 0);
    EXPECT(7, kss_host_end() == 0 && taken == 0);
    EXPECT(8, kss_host_end() == 0 && taken == 1); /* at once */
    EXPECT(9, kss_host_end() == -EINVAL);
    EXPECT(10, in_kernel(raise_line, NULL) == 0 && taken == 2);
    return 0;
}

static long in_kernel_mode(void *arg)
{
    (void)arg;
    EXPECT(1, kss_host_begin() == 0);
    EXPECT(2, raise_line(NULL) == 0 && taken == 0);
    kss_irq_disable();
    kss_irq_enable();
    EXPECT(3, taken == 0);
    kss_irq_disable();
    EXPECT(4, kss_host_end() == 0 && taken == 0); /* interrupts are off for another reason */
    kss_irq_enable();
    EXPECT(5, taken == 1);
    EXPECT(6, kss_host_begin() == 0 && raise_line(NULL) == 0 && taken == 1);
    EXPECT(7, kss_host_end() == 0 && taken == 2);
    return 0;
}

static long both_modes(void *arg)
{
    (void)arg;
    long r = nested(NULL);
    if (r)
        return r;
    taken = 0;
    r = in_kernel(in_kernel_mode, NULL);
    return r ? 100 + r : 0;
}

START_TEST(test_region)
{
    struct kss_config c = test_config();
    ck_assert_int_eq(kss_host_begin(), -EPERM);
    ck_assert_int_eq(kss_host_end(), -EPERM);
    build(&c);
    int status = test_run(machine, both_modes, NULL);
    ck_assert_int_eq(status, 0);
    struct kss_host_stats s = host_stats();
    ck_assert_uint_ge(s.wait[KSS_HOST_REGION].count, 2);
    ck_assert_uint_ge(s.wait[KSS_HOST_REGION].total_ns, s.wait[KSS_HOST_REGION].longest_ns);
    ck_assert_int_eq(report_count, 0);
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}
END_TEST

/* Ticks come all the time; in a region none does, whatever the others want. */
static _Atomic long others;
static _Atomic bool enough;

static long other(void *arg)
{
    (void)arg;
    while (!enough)
        others++;
    return 0;
}

static long keeps_the_cpu(void *arg)
{
    static volatile int sink;
    long pid = kss_spawn(other, NULL, NULL), r = 0;
    (void)arg;
    while (!others)
        kss_yield();
    for (int round = 0; round < 50 && !r; round++) {
        kss_host_begin();
        long before = others;
        for (uint64_t until = host_ns() + 1000000; host_ns() < until;) /* two ticks */
            sink++;
        kss_getpid();
        r = others == before ? 0 : 1;
        kss_host_end();
        for (before = others; others == before;)
            kss_yield();
    }
    enough = true;
    kss_wait(pid, NULL);
    return r;
}

START_TEST(test_no_preemption)
{
    struct kss_config c = test_config();
    c.cpus = 1; /* on another one, others would run all the time */
    c.tick_hz = 2000;
    c.timeslice_ns = 0;
    others = 0;
    enough = false;
    build(&c);
    int status = test_run(machine, keeps_the_cpu, NULL);
    ck_assert_int_eq(status, 0);
    ck_assert_uint_gt(host_stats().wait[KSS_HOST_REGION].count, 0);
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}
END_TEST

/* An interrupt at every instruction of begin and end, outermost and inner: it comes once, and not inside. */
static long placed(void *arg)
{
    (void)arg;
    struct kss_placement p = { .fired = true };
    for (uint64_t k = 1; p.fired; k++) {
        taken = 0;
        kss_placement_start(LINE, k);
        kss_host_begin();
        int at_begin = taken;
        kss_host_begin();
        kss_host_end();
        int at_end = taken;
        kss_host_end();
        int after = taken;
        kss_placement_stop(&p);
        EXPECT(1, at_begin == at_end);
        /* One that is placed behind the last instruction comes later than this looks. */
        EXPECT(2, taken == p.fired && after <= taken);
        EXPECT(3, kss_host_end() == -EINVAL);
        EXPECT(4, k < 10000);
    }
    return 0;
}

static long placed_in_kernel(void *arg)
{
    return in_kernel(placed, arg);
}

START_TEST(test_every_instruction)
{
    struct kss_config c = test_config();
    c.tick_hz = 1;
    build(&c);
    ck_assert_int_eq((run(_i ? placed_in_kernel : placed, NULL)), 0);
}
END_TEST

NO_UBSAN static long ends_inside(void *arg)
{
    volatile int *volatile bad = (volatile int *)16;
    kss_host_begin();
    in_kernel(raise_line, NULL);
    if (arg)
        *bad = 0; /* dies of it */
    kss_exit(3);
}

static long regions_end(void *arg)
{
    int status;
    (void)arg;
    EXPECT(1, kss_wait(kss_spawn(ends_inside, NULL, NULL), &status) > 0 && KSS_WEXITSTATUS(status) == 3 && taken == 1);
    EXPECT(2, kss_wait(kss_spawn(ends_inside, &status, NULL), &status) > 0 && !KSS_WIFEXITED(status) && taken == 2);
    EXPECT(3, kss_host_end() == -EINVAL);
    return 0;
}

START_TEST(test_ends_with_its_thread)
{
    struct kss_config c = test_config();
    build(&c);
    ck_assert_int_eq((run(regions_end, NULL)), 0);
    ck_assert_int_eq(report_count, 1); /* the fault */
}
END_TEST

/* ---- giving up the CPU there ------------------------------------------------------------------------ */

static long sleeps_in_region(void *arg)
{
    (void)arg;
    kss_host_begin();
    kss_sleep(1000);
    EXPECT(1, in_kernel(raise_line, NULL) == 0 && taken == 0); /* it is in it again */
    EXPECT(2, kss_host_end() == 0 && taken == 1);
    kss_sleep(1000);
    return 0;
}

static int compare_and_sleep(const void *a, const void *b, void *arg)
{
    if (*(int *)arg == 0)
        kss_sleep(1000);
    else if (*(int *)arg == 1)
        kss_yield();
    *(int *)arg = 2;
    return *(const int *)a - *(const int *)b;
}

static long sleeps_in_callback(void *arg)
{
    int v[4] = { 3, 1, 2, 0 }, how = (int)(long)arg;
    qsort_r(v, 4, sizeof v[0], compare_and_sleep, &how);
    return v[0] == 0 && v[3] == 3 ? 0 : 1;
}

static long sleeps_in_kernel_callback(void *arg)
{
    return in_kernel(sleeps_in_callback, arg);
}

static const struct sleeper {
    kss_user_fn fn;
    long arg;
    const char *says, *function;
} sleepers[] = {
    { sleeps_in_region, 0, "it sleeps on sleep between kss_host_begin()", "" },
    { sleeps_in_callback, 0, "it sleeps on sleep in a callback of qsort_r()", "qsort_r" },
    { sleeps_in_callback, 1, "it yields in a callback of qsort_r()", "qsort_r" },
    { sleeps_in_kernel_callback, 1, "it yields in a callback of qsort_r()", "qsort_r" },
};

START_TEST(test_gives_up)
{
    const struct sleeper *s = &sleepers[_i];
    struct kss_config c = test_config();
    c.check_host_blocks = true;
    build(&c);
    int status = test_run(machine, s->fn, (void *)s->arg);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(report_count, 1);
    ck_assert_int_eq(reports[0].kind, KSS_REPORT_HOST_BLOCKED);
    ck_assert_int_eq(reports[0].action, KSS_ACTION_CONTINUE);
    if (!KSS_TEST_ASAN) { /* which has functions of its own before libc's */
        ck_assert_msg(strstr(reports[0].message, s->says) == reports[0].message, "%s", reports[0].message);
        ck_assert_str_eq(reports[0].place.symbol, s->function);
    }
    ck_assert_uint_eq(host_stats().blocked, 1);
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}
END_TEST

/* ---- frames below a callback ------------------------------------------------------------------------- */

/* Another wants the CPU at once; the comparison goes on, and the other comes when qsort_r() is over. */
static struct kss_wait_queue queue;
static _Atomic bool go;

static long wait_for_go(void *arg)
{
    (void)arg;
    kss_wait_event(&queue, go);
    others++;
    return 0;
}

static long urgent(void *arg)
{
    return in_kernel(wait_for_go, arg);
}

static long wake_urgent(void *arg)
{
    (void)arg;
    go = true;
    kss_wake_up(&queue, 0);
    return 0;
}

/* Stale return addresses of libc's, in a frame that is live: they do not count. */
KEEP_FRAME static long leave_words(void *arg)
{
    volatile uintptr_t words[64];
    for (int i = 0; i < 64; i++)
        words[63 - i] = ((uintptr_t *)arg)[i]; /* not in the red zone */
    for (others = 0; !others;) /* until it is preempted, all the same */
        words[0]++;
    return 0;
}

static uintptr_t words_of_libc[64];

READS_FRAMES static int remember_words(const void *a, const void *b)
{
    uintptr_t *p = __builtin_frame_address(0);
    for (int i = 0; i < 8; i++) /* its return address is among them */
        words_of_libc[i] = p[i];
    return *(const int *)a - *(const int *)b;
}

static int wakes(const void *a, const void *b, void *arg)
{
    static volatile int sink __attribute__((unused));
    if (!go)
        in_kernel(wake_urgent, NULL);
    for (int i = 0; i < 20000; i++)
        sink = i;
    if (others)
        *(int *)arg = 1;
    return *(const int *)a - *(const int *)b;
}

static long wakes_in_callback(void *arg)
{
    int v[30], preempted = 0;
    long pid;
    (void)arg;
    others = 0;
    go = false;
    kss_wait_queue_init(&queue, "urgent");
    pid = kss_spawn(urgent, NULL, NULL);
    test_wait_asleep(pid);
    for (int i = 0; i < 30; i++)
        v[i] = 30 - i;
    qsort_r(v, 30, sizeof v[0], wakes, &preempted);
    kss_wait(pid, NULL);
    return preempted ? 1 : others == 1 ? 0 : 2;
}

START_TEST(test_wake_in_callback)
{
    struct kss_config c = test_config();
    c.cpus = 1; /* or it runs on another one */
    c.timeslice_ns = 0;
    c.tick_hz = 5000;
    build(&c);
    int status = test_run(machine, wakes_in_callback, NULL);
    ck_assert_int_eq(status, 0);
    struct kss_host_stats s = host_stats();
    ck_assert_uint_ge(s.wait[KSS_HOST_CALLBACK].count, 1);
    ck_assert_uint_gt(s.walks, 0);
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}
END_TEST

static long stale(void *arg)
{
    int v[2] = { 1, 0 };
    (void)arg;
    enough = false;
    others = 0;
    qsort(v, 2, sizeof v[0], remember_words);
    long pid = kss_spawn(other, NULL, NULL), r = leave_words(words_of_libc);
    enough = true;
    kss_wait(pid, NULL);
    return r;
}

START_TEST(test_stale_words)
{
    struct kss_config c = test_config();
    c.timeslice_ns = 0;
    c.tick_hz = 2000;
    build(&c);
    int status = test_run(machine, stale, NULL);
    ck_assert_int_eq(status, 0);
    struct kss_host_stats s = host_stats();
    ck_assert_uint_gt(s.walks, 0);
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}
END_TEST

START_TEST(test_stats_misuse)
{
    struct kss_config c = test_config();
    struct kss_host_stats s;
    build(&c);
    ck_assert_int_eq(kss_host_stats(NULL, 0, &s), -EINVAL);
    ck_assert_int_eq(kss_host_stats(machine, (int)c.cpus, &s), -EINVAL);
    ck_assert_int_eq(kss_host_stats(machine, -2, &s), -EINVAL);
    ck_assert_int_eq(kss_host_stats(machine, 0, NULL), -EINVAL);
    ck_assert_int_eq(kss_host_stats(machine, 0, &s), 0);
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("host");
    TCase *t = tcase_create("host");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_region);
    tcase_add_test(t, test_no_preemption);
    tcase_add_loop_test(t, test_every_instruction, 0, 2);
    tcase_add_test(t, test_ends_with_its_thread);
    tcase_add_loop_test(t, test_gives_up, 0, (int)(sizeof sleepers / sizeof sleepers[0]));
    tcase_add_test(t, test_wake_in_callback);
    tcase_add_test(t, test_stale_words);
    tcase_add_test(t, test_stats_misuse);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

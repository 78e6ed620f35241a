/* SPDX-License-Identifier: MIT */
/*
 * Many CPUs: storms of processes and threads, calls between CPUs, CPUs taken out and put back meanwhile. What goes
 * wrong is counted, and looked at when the machine has ended.
 */
#include "harness.h"

static _Atomic unsigned long done, bad;
static _Atomic bool over;
static const unsigned cpu_counts[] = { 2, 4, 16 };

static struct kss_config config(unsigned cpus)
{
    struct kss_config c = test_config();
    c.cpus = cpus;
    c.tick_hz = 10000 / cpus;
    c.timeslice_ns = 0;
    done = bad = 0;
    over = false;
    return c;
}

static void expect(bool ok)
{
    bad += !ok;
}

/* ---- storms of spawn, exit, wait ------------------------------------------------------------------------ */

#define STORMS 6
#define ROUNDS 60

static long thread_leaf(void *arg)
{
    done++;
    return (long)arg;
}

static long leaf(void *arg)
{
    long n = (long)arg, value = 0;
    if (n % 3 == 0) {
        long tid = kss_thread_create(thread_leaf, arg, NULL);
        expect(tid > 0 && kss_thread_join(tid, &value) == 0 && value == n);
    } else if (n % 3 == 1) {
        kss_yield();
    } else if (n % 12 == 2) {
        kss_sleep(1);
    }
    done++;
    return n & 0x7f;
}

static long storm(void *arg)
{
    for (long i = 0; i < ROUNDS; i++) {
        long pid[4];
        for (long k = 0; k < 4; k++) {
            pid[k] = kss_spawn(leaf, (void *)(i * 4 + k), NULL);
            expect(pid[k] > 0);
        }
        for (long k = 3; k >= 0; k--) {
            int status = -1;
            expect(kss_wait(pid[k], &status) == pid[k]);
            expect(KSS_WIFEXITED(status) && KSS_WEXITSTATUS(status) == ((i * 4 + k) & 0x7f));
        }
    }
    return (long)arg;
}

static long storms(void *arg)
{
    int status, n = 0;
    (void)arg;
    for (long i = 0; i < STORMS; i++)
        expect(kss_spawn(storm, (void *)i, NULL) > 0);
    while (kss_wait(-1, &status) > 0)
        n++;
    return n;
}

/* Every switch has checked the invariants; the counters of the CPUs add up to the machine's. */
static void expect_counts(struct kss_machine *m, unsigned cpus)
{
    struct kss_machine_stats s;
    struct kss_cpu_stats sum = { 0 }, one;
    unsigned busy = 0;
    ck_assert_int_eq(kss_machine_stats(m, &s), 0);
    for (unsigned i = 0; i < cpus; i++) {
        ck_assert_int_eq(kss_machine_cpu_stats(m, i, &one), 0);
        ck_assert_uint_eq(one.context_switches, one.control_saves);
        sum.context_switches += one.context_switches;
        sum.syscalls += one.syscalls;
        sum.migrations += one.migrations;
        sum.interrupts += one.interrupts;
        busy += one.syscalls > 0;
    }
    ck_assert_uint_eq(sum.context_switches, s.total.context_switches);
    ck_assert_uint_eq(sum.syscalls, s.total.syscalls);
    ck_assert_uint_eq(sum.interrupts, s.total.interrupts);
    ck_assert_uint_eq(sum.migrations, s.total.migrations);
    ck_assert_uint_gt(busy, 1);
    ck_assert_uint_eq(s.threads_created, s.threads_reaped + s.threads_live);
    ck_assert_uint_eq(s.zombies, 0);
}

START_TEST(spawn_storms) /* REQ M5 P9 */
{
    unsigned cpus = cpu_counts[_i % 3];
    struct kss_config c = config(cpus);
    c.irq_stacks = _i < 3 ? KSS_IRQ_STACKS_NONE : KSS_IRQ_STACKS_PER_CPU;
    c.kstack_alloc = _i < 3 ? KSS_KSTACK_AT_CREATE : KSS_KSTACK_AT_FIRST_ENTRY;
    c.zombie_stacks = _i < 3 ? KSS_ZOMBIE_KEEPS_STACK : KSS_ZOMBIE_FREES_STACK;
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(KSS_WEXITSTATUS(test_run(m, storms, NULL)), STORMS);
    ck_assert_uint_eq(bad, 0);
    ck_assert_uint_eq(done, STORMS * ROUNDS * 4 + STORMS * ROUNDS * 4 / 3);
    ck_assert_int_eq(report_count, 0);
    expect_counts(m, cpus);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

/* ---- calls between CPUs ----------------------------------------------------------------------------------- */

static _Atomic unsigned long called[16], wrong_context;
static _Atomic unsigned long expected[16];

static void on_call(void *arg)
{
    int cpu = kss_cpu_id();
    if (kss_irqs_enabled() || cpu < 0 || cpu > 15)
        wrong_context++;
    else
        called[cpu]++;
    if (arg)
        (*(_Atomic unsigned long *)arg)++;
}

static long calls(void *arg)
{
    unsigned cpus = (unsigned)kss_cpu_count();
    struct kss_cpumask all = kss_cpumask_all(cpus);
    (void)arg;
    for (unsigned i = 0; i < 200; i++) {
        _Atomic unsigned long here = 0;
        struct kss_cpumask one = kss_cpumask_of(i % cpus);
        /* all, waiting: the counter on this stack is done with when the call returns */
        expect(kss_cpu_call(&all, on_call, (void *)&here, true) == (int)cpus);
        expect(here == cpus);
        expect(kss_cpu_call(&one, on_call, NULL, false) == 1);
        for (unsigned k = 0; k < cpus; k++)
            expected[k] += 1 + (k == i % cpus);
        done++;
    }
    struct kss_cpumask none = { { 0 } }, beyond = kss_cpumask_of(200);
    expect(kss_cpu_call(&none, on_call, NULL, true) == 0);
    expect(kss_cpu_call(&beyond, on_call, NULL, true) == 0);
    return 0;
}

static struct kss_spinlock lock;

static void calls_from_a_handler(unsigned line, void *arg)
{
    struct kss_cpumask all = kss_cpumask_all(2);
    (void)arg;
    expect(kss_cpu_call(&all, on_call, NULL, true) == -EDEADLK);
    done++;
    kss_irq_eoi(line);
}

static long misuses(void *arg)
{
    struct kss_cpumask all = kss_cpumask_all(2);
    (void)arg;
    expect(kss_cpu_call(NULL, on_call, NULL, true) == -EINVAL && strstr(kss_last_error(), "the set of CPUs is NULL"));
    expect(kss_cpu_call(&all, NULL, NULL, true) == -EINVAL && strstr(kss_last_error(), "the function to call is NULL"));
    bool on = kss_irq_save();
    expect(kss_cpu_call(&all, on_call, NULL, true) == -EDEADLK && strstr(kss_last_error(), "interrupts off"));
    kss_irq_restore(on);
    on = kss_spin_lock(&lock);
    kss_irq_enable();
    expect(kss_cpu_call(&all, on_call, NULL, true) == -EDEADLK && strstr(kss_last_error(), "a spinlock held"));
    kss_spin_unlock(&lock, on);
    unsigned long before = done;
    kss_preempt_disable();
    expect(kss_irq_raise(kss_machine_current(), (unsigned)kss_cpu_id(), 40) == 0);
    kss_preempt_enable();
    expect(done == before + 1);
    return 0;
}

static long caller(void *arg)
{
    return in_kernel(arg ? misuses : calls, NULL);
}

static long callers(void *arg)
{
    for (int i = 0; i < (arg ? 1 : 4); i++)
        expect(kss_spawn(caller, arg, NULL) > 0);
    while (kss_wait(-1, NULL) > 0)
        ;
    return 0;
}

START_TEST(calls_add_up)
{
    unsigned cpus = cpu_counts[_i];
    struct kss_config c = config(cpus);
    memset((void *)called, 0, sizeof called);
    memset((void *)expected, 0, sizeof expected);
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(test_run(m, callers, NULL), 0);
    ck_assert_uint_eq(bad, 0);
    ck_assert_uint_eq(wrong_context, 0);
    ck_assert_uint_eq(done, 800);
    struct kss_cpu_stats s;
    unsigned long sum = 0, want = 0;
    for (unsigned i = 0; i < cpus; i++) {
        ck_assert_int_eq(kss_machine_cpu_stats(m, i, &s), 0);
        ck_assert_uint_eq(s.calls, called[i]);
        sum += called[i];
        want += expected[i];
    }
    ck_assert_uint_le(want - sum, 4); /* the machine may end before the last one that nobody waits for */
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

START_TEST(calls_misused)
{
    struct kss_config c = config(2);
    struct kss_cpumask all = kss_cpumask_all(2);
    kss_spinlock_init(&lock, "held");
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(kss_irq_request(m, 40, calls_from_a_handler, NULL, "calls"), 0);
    ck_assert_int_eq(test_run(m, callers, (void *)1), 0);
    ck_assert_uint_eq(bad, 0);
    ck_assert_uint_eq(done, 1);
    ck_assert_int_eq(kss_cpu_call(&all, on_call, NULL, true), -EPERM);
    ck_assert_int_eq(kss_cpu_id(), -EPERM);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

/* ---- CPUs out and in -------------------------------------------------------------------------------------- */

static unsigned cpus_there;

static long down_and_up(void *arg)
{
    (void)arg;
    for (unsigned round = 0; round < 40; round++) {
        struct kss_cpumask online;
        unsigned n = cpus_there, keep = round % n;
        for (unsigned i = 0; i < n; i++)
            expect(i == keep || kss_cpu_down(i) == 0);
        expect(kss_cpu_down((keep + 1) % n) == 0); /* it is out already */
        expect(kss_cpu_down(keep) == -EBUSY && strstr(kss_last_error(), "the last one"));
        expect(kss_cpus_online(kss_machine_current(), &online) == 0 && kss_cpumask_count(&online) == 1);
        kss_preempt_disable();
        expect(kss_cpu_id() == (int)keep);
        kss_preempt_enable();
        for (unsigned i = 0; i < n; i++)
            expect(kss_cpu_up(i) == 0);
        done++;
    }
    over = true;
    return 0;
}

static long where(void *arg)
{
    struct kss_cpumask online;
    bool on = kss_irq_save();
    int cpu = kss_cpu_id();
    kss_cpus_online(kss_machine_current(), &online);
    kss_irq_restore(on);
    /* A CPU that is on its way out may still run it. */
    return cpu == (int)(long)arg ? 1 : kss_cpumask_test(&online, (unsigned)(long)arg) ? -1 : 0;
}

/* Pinned to one CPU: elsewhere only while that is out. Between the look at where it is and at the set, that may have
   come back; so it is wrong only if it stays where it is. */
static long pinned(void *arg)
{
    struct kss_cpumask one = kss_cpumask_of((unsigned)(long)arg);
    unsigned long at_home = 0;
    expect(kss_setaffinity(0, &one) == 0);
    while (!over) {
        long r = in_kernel(where, arg);
        for (int i = 0; i < 100000 && r < 0; i++)
            r = in_kernel(where, arg);
        expect(r >= 0);
        at_home += r == 1;
    }
    expect(at_home > 0);
    return 0;
}

static long forces(void *arg)
{
    while (!over)
        storm(arg);
    return 0;
}

static long hot_plugger(void *arg)
{
    return in_kernel(down_and_up, arg);
}

static long hotplug_main(void *arg)
{
    (void)arg;
    for (long i = 0; i < 2; i++)
        expect(kss_spawn(forces, (void *)i, NULL) > 0);
    for (long i = 0; i < (long)cpus_there; i++)
        expect(kss_spawn(pinned, (void *)i, NULL) > 0);
    expect(kss_spawn(hot_plugger, NULL, NULL) > 0);
    while (kss_wait(-1, NULL) > 0)
        ;
    return 0;
}

START_TEST(down_and_up_in_a_storm)
{
    cpus_there = _i ? 4 : 2;
    struct kss_config c = config(cpus_there);
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(test_run(m, hotplug_main, NULL), 0);
    ck_assert_uint_eq(bad, 0);
    ck_assert_int_eq(report_count, 0);
    struct kss_machine_stats s;
    ck_assert_int_eq(kss_machine_stats(m, &s), 0);
    ck_assert_uint_eq(s.threads_created, s.threads_reaped + s.threads_live); /* none is lost */
    ck_assert_int_eq(kss_cpu_down(0), -EPERM);
    ck_assert_int_eq(kss_cpu_up(0), -EPERM);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_smp");
    TCase *t = tcase_create("smp");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, spawn_storms, 0, 6);
    tcase_add_loop_test(t, calls_add_up, 0, 3);
    tcase_add_test(t, calls_misused);
    tcase_add_loop_test(t, down_and_up_in_a_storm, 0, 2);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

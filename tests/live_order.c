/* SPDX-License-Identifier: MIT */
/* kss_config.lock_order: the order in which spinlocks are taken. */
#include "culprit.h"

KEEP_FRAME static void take_two(struct kss_spinlock *outer, struct kss_spinlock *inner)
{
    bool on = kss_spin_lock(outer);
    kss_spin_unlock(inner, kss_spin_lock(inner));
    kss_spin_unlock(outer, on);
}

KEEP_FRAME static long a_then_b(void *arg)
{
    (void)arg;
    take_two(&lock_a, &lock_b);
    return 0;
}

KEEP_FRAME static long b_then_a(void *arg)
{
    (void)arg;
    take_two(&lock_b, &lock_a);
    return 0;
}

KEEP_FRAME static long b_then_c(void *arg)
{
    (void)arg;
    take_two(&lock_b, &lock_c);
    return 0;
}

KEEP_FRAME static long c_then_a(void *arg)
{
    (void)arg;
    take_two(&lock_c, &lock_a);
    return 0;
}

static long run_job(void *arg)
{
    return in_kernel((long (*)(void *))arg, NULL);
}

static long (*const *orders)(void *);

/* One process for each, one after the other: nobody ever waits. Twice, and each circle is told once. */
static long order_main(void *arg)
{
    static const char *const names[] = { "first", "second", "third" };
    (void)arg;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 3 && orders[i]; i++) {
            struct kss_spawn_attr name = { .name = names[i] };
            ck_assert_int_gt(kss_wait(kss_spawn(run_job, (void *)orders[i], &name), NULL), 0);
        }
    }
    return 0;
}

static struct kss_config order_config(void)
{
    struct kss_config c = test_config();
    c.lock_order = true;
    return c;
}

START_TEST(opposite_orders)
{
    static long (*const two[])(void *) = { a_then_b, b_then_a, NULL };
    struct kss_config c = order_config();
    orders = two;
    ck_assert_int_eq(test_boot(&c, order_main, NULL), 0);
    ck_assert_int_eq(report_count, 1);
    const struct kss_report *r = &reports[0];
    expect_report(0, KSS_REPORT_LOCK_ORDER, "possible deadlock: |(second) takes \"a\" with \"b\" held; the other way round: |"
                  "(first) took \"b\" with \"a\" held", "take_two", "b_then_a");
    ck_assert_str_eq(r->place_what, "the lock that it holds was taken");
    ck_assert(in_frames(r->other, r->other_frames, "a_then_b"));
    ck_assert(!in_frames(r->other, r->other_frames, "b_then_a"));
    ck_assert_str_eq(r->other[0].symbol, "take_two");
    ck_assert(strstr(r->other_what, "had \"a\" from take_two+") && strstr(r->other_what, "and took \"b\" at"));
    ck_assert_int_eq(r->action, KSS_ACTION_CONTINUE);
    ck_assert_str_eq(r->thread_name, "second");
}
END_TEST

START_TEST(three_in_a_circle)
{
    static long (*const three[])(void *) = { a_then_b, b_then_c, c_then_a };
    struct kss_config c = order_config();
    orders = three;
    ck_assert_int_eq(test_boot(&c, order_main, NULL), 0);
    ck_assert_int_eq(report_count, 1);
    expect_report(0, KSS_REPORT_LOCK_ORDER, "(third) takes \"a\" with \"c\" held|"
                  "(first) took \"b\" with \"a\" held, |(second) took \"c\" with \"b\" held", "take_two", "c_then_a");
    ck_assert(in_frames(reports[0].other, reports[0].other_frames, "a_then_b"));
}
END_TEST

START_TEST(orders_that_agree)
{
    static long (*const agree[])(void *) = { a_then_b, b_then_c, a_then_b };
    static long (*const two[])(void *) = { a_then_b, b_then_a, NULL };
    struct kss_config c = order_config();
    orders = agree;
    ck_assert_int_eq(test_boot(&c, order_main, NULL), 0);
    orders = two;
    c.lock_order = false; /* as it is by default */
    ck_assert_int_eq(test_boot(&c, order_main, NULL), 0);
    ck_assert_int_eq(report_count, 0);
}
END_TEST

/* Whoever is to be killed holds a lock. */
START_TEST(opposite_orders_by_policy)
{
    struct kss_config c = order_config();
    static long (*const two[])(void *) = { a_then_b, b_then_a, NULL };
    c.policy[KSS_REPORT_LOCK_ORDER] = _i ? KSS_ACTION_KILL_PROCESS : KSS_ACTION_STOP_MACHINE;
    orders = two;
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(kss_machine_run(m, order_main, NULL, NULL), -EFAULT);
    ck_assert_int_eq(reports[0].action, KSS_ACTION_STOP_MACHINE);
    ck_assert_int_eq(reports[0].why_stopped[0] != 0, _i);
    kss_machine_destroy(m);
}
END_TEST

/* Locks of one name: by their addresses. */
static struct kss_spinlock forks[5];

/* arg: the last philosopher, too. */
static long take_forks(void *arg)
{
    for (int i = 0; i < (arg ? 5 : 4); i++)
        take_two(&forks[i], &forks[(i + 1) % 5]);
    return 0;
}

START_TEST(locks_of_one_name)
{
    struct kss_config c = order_config();
    for (int i = 0; i < 5; i++)
        kss_spinlock_init(&forks[i], "fork");
    survive(&c, take_forks, NULL);
    ck_assert_int_eq(report_count, 0);
    survive(&c, take_forks, forks);
    ck_assert_int_eq(report_count, 1);
    expect_report(0, KSS_REPORT_LOCK_ORDER, "takes fork at |with fork at ", "take_two", "take_forks");
}
END_TEST

/* The scheduler's lock takes part, also while a class's operations are called. */
static struct kss_wait_queue sleepers;
static _Atomic bool may_wake;

static long sleep_there(void *arg)
{
    (void)arg;
    kss_wait_event(&sleepers, may_wake);
    return 0;
}

KEEP_FRAME static long wake_with_lock(void *arg)
{
    bool on = kss_spin_lock(&lock_a);
    (void)arg;
    may_wake = true;
    kss_wake_up(&sleepers, 0);
    kss_spin_unlock(&lock_a, on);
    return 0;
}

static void running_takes(struct kss_thread *t)
{
    (void)t;
    kss_spin_unlock(&lock_a, kss_spin_lock(&lock_a));
}

static long sleeper(void *arg)
{
    return in_kernel(sleep_there, arg);
}

static long wake_main(void *arg)
{
    long pid = kss_spawn(sleeper, NULL, NULL);
    (void)arg;
    test_wait_asleep(pid);
    in_kernel(wake_with_lock, NULL);
    return kss_wait(pid, NULL) == pid ? 0 : 1;
}

START_TEST(order_against_the_scheduler)
{
    struct kss_config c = order_config();
    struct kss_sched_class class = kss_sched_rr;
    class.name = "takes a lock";
    class.running = running_takes;
    c.sched = &class;
    kss_wait_queue_init(&sleepers, "sleepers");
    ck_assert_int_eq(test_boot(&c, wake_main, NULL), 0);
    ck_assert_int_eq(report_count, 1);
    expect_report(0, KSS_REPORT_LOCK_ORDER, "with \"wait queue\" held|\"scheduler\"|\"a\"", NULL, "wake_with_lock");
}
END_TEST

/* More classes than there is room for: what is over is not checked, and nothing breaks. */
static struct kss_spinlock crowd[400];

static long take_crowd(void *arg)
{
    (void)arg;
    for (int i = 0; i < 400; i++)
        take_two(&lock_a, &crowd[i]);
    for (int i = 0; i < 15; i++)
        kss_spin_lock(&crowd[i]);
    for (int i = 15; i < 400; i++)
        kss_spin_unlock(&crowd[i], kss_spin_lock(&crowd[i]));
    for (int i = 15; i-- > 0;)
        kss_spin_unlock(&crowd[i], i == 0);
    return b_then_a(arg);
}

START_TEST(full_tables)
{
    struct kss_config c = order_config();
    for (int i = 0; i < 400; i++)
        kss_spinlock_init(&crowd[i], NULL);
    survive(&c, take_crowd, NULL);
    ck_assert_int_eq(report_count, 0);
    ck_assert_int_eq(culprit_status, 5 << 8);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_order");
    TCase *t = tcase_create("order");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, opposite_orders);
    tcase_add_test(t, three_in_a_circle);
    tcase_add_test(t, orders_that_agree);
    tcase_add_loop_test(t, opposite_orders_by_policy, 0, 2);
    tcase_add_test(t, locks_of_one_name);
    tcase_add_test(t, order_against_the_scheduler);
    tcase_add_test(t, full_tables);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    unsetenv("KSS_TEST_LOCK_ORDER"); /* here it may well be wrong */
    return test_main(suite);
}

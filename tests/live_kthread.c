/* SPDX-License-Identifier: MIT */
/* Kernel threads: made, seen, asked to end, joined, refused what needs a user; and machines that end with them. */
#include "defer.h"

static _Atomic int started, ended;

/* ---- one that runs, and what it gives -------------------------------------------------------------- */

static long adds_up(void *arg)
{
    long sum = 0;
    EXPECT(kss_current() != NULL && !kss_in_irq() && kss_irqs_enabled(), 0);
    EXPECT(!kss_kthread_should_stop(), 0);
    for (long i = 0; i <= (long)arg; i++) {
        sum += i;
        if (i % 16 == 0)
            kss_reschedule();
    }
    ended++;
    return sum;
}

static long join_kernel(void *arg)
{
    long tid[20], value;
    struct kss_machine_stats before, after;
    (void)arg;
    kss_machine_stats(kss_machine_current(), &before);
    for (int i = 0; i < 20; i++)
        EXPECT((tid[i] = kss_kthread_create("adds", adds_up, (void *)(long)(i * 100), 0)) > 0, tid[i]);
    for (int i = 0; i < 20; i++) {
        EXPECT_EQ(kss_kthread_join(tid[i], &value), 0);
        EXPECT_EQ(value, i * 100L * (i * 100L + 1) / 2);
        EXPECT_EQ(kss_kthread_join(tid[i], &value), -ESRCH); /* it is gone */
    }
    EXPECT_EQ(ended, 20);
    kss_machine_stats(kss_machine_current(), &after);
    EXPECT_EQ(after.threads_live, before.threads_live);
    EXPECT_EQ(after.threads_reaped - before.threads_reaped, 20);
    EXPECT_EQ(after.kstacks_live, before.kstacks_live);
    return 0;
}

START_TEST(joined_with_its_value)
{
    ended = 0;
    defer_run(defer_rates[_i], join_kernel);
}
END_TEST

/* ---- asked to end ------------------------------------------------------------------------------------ */

static struct kss_wait_queue queue;

/* Sleeps on a queue, for a time, or not at all. */
static long until_stopped(void *arg)
{
    long turns = 0;
    started++;
    while (!kss_kthread_should_stop()) {
        int r = 0;
        turns++;
        if (arg == (void *)1)
            r = kss_wait_event_killable(&queue, false);
        else if (arg == (void *)2)
            r = kss_kthread_sleep(UINT64_MAX);
        EXPECT(r == 0 || r == -EINTR, r);
    }
    return turns;
}

static long stop_kernel(void *arg)
{
    long tid[3], value;
    (void)arg;
    kss_wait_queue_init(&queue, "nothing");
    for (long i = 0; i < 3; i++)
        EXPECT((tid[i] = kss_kthread_create("loops", until_stopped, (void *)i, 60)) > 0, tid[i]);
    while (started < 3)
        kss_kthread_sleep(1);
    EXPECT(!kss_kthread_should_stop(), 0); /* this is none */
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(kss_kthread_stop(tid[i]), 0);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(kss_kthread_join(tid[i], &value), 0);
        EXPECT(value >= 1, value);
        EXPECT(i == 0 || value == 1, value); /* the first sleep ended by it */
    }
    return 0;
}

START_TEST(asked_to_end)
{
    started = 0;
    defer_run(defer_rates[_i], stop_kernel);
}
END_TEST

/* ---- what it may not, and what others see ------------------------------------------------------------- */

static _Atomic int user_word = 7;

static long refused(void *arg)
{
    int word = 1;
    char text[8];
    EXPECT_EQ(kss_copy_from_user(&word, &user_word, sizeof word), sizeof word);
    EXPECT_SAYS("(refused) is a kernel thread: it has no user memory");
    EXPECT_EQ(word, 1);
    EXPECT_EQ(kss_copy_to_user(&user_word, &word, sizeof word), sizeof word);
    EXPECT_EQ(user_word, 7);
    EXPECT_EQ(kss_copy_string_from_user(text, "text", sizeof text), -EFAULT);
    EXPECT(!kss_access_ok(&user_word, 1), 0);
    EXPECT_EQ(kss_getpid(), -EPERM);
    EXPECT_SAYS("it makes no system calls");
    EXPECT_EQ(kss_spawn(adds_up, NULL, NULL), -EPERM);
    EXPECT_EQ(in_kernel(adds_up, NULL), -EPERM);
    EXPECT_EQ(kss_kthread_join(kss_thread_id(kss_current()), NULL), -EDEADLK);
    started = 1;
    while (!kss_kthread_should_stop())
        kss_kthread_sleep(1000000);
    return (long)arg;
}

static void expect_seen(long tid)
{
    static struct kss_thread_info_snapshot s[64];
    int n = kss_threads(kss_machine_current(), s, 64), found = 0;
    for (int i = 0; i < n && i < 64; i++) {
        if (s[i].tid != tid)
            continue;
        found++;
        EXPECT_EQ(s[i].pid, 0);
        EXPECT_EQ(s[i].ppid, 0);
        EXPECT(s[i].is_kernel && s[i].mode == KSS_MODE_KERNEL, 0);
        EXPECT_EQ(s[i].priority, 33);
        EXPECT_EQ(strcmp(s[i].name, "refused"), 0);
        EXPECT(s[i].kstack_size > 0, 0);
    }
    EXPECT_EQ(found, 1);
    EXPECT_EQ(kss_thread_id(kss_thread_find(kss_machine_current(), (int)tid)), tid);
}

static long refused_kernel(void *arg)
{
    (void)arg;
    long value = 0, tid = kss_kthread_create("refused", refused, (void *)5, 33);
    EXPECT(tid > 0, tid);
    while (!started)
        kss_kthread_sleep(1);
    expect_seen(tid);
    EXPECT_EQ(kss_kthread_stop(tid), 0);
    EXPECT_EQ(kss_kthread_join(tid, &value), 0);
    EXPECT_EQ(value, 5);
    return 0;
}

START_TEST(refused_what_needs_a_user)
{
    started = 0;
    defer_run(defer_rates[_i], refused_kernel);
}
END_TEST

/* ---- errors --------------------------------------------------------------------------------------------- */

static long misuse_kernel(void *arg)
{
    (void)arg;
    EXPECT_EQ(kss_kthread_create(NULL, adds_up, NULL, 0), -EINVAL);
    EXPECT_EQ(kss_kthread_create("x", NULL, NULL, 0), -EINVAL);
    EXPECT_SAYS("function is NULL");
    EXPECT_EQ(kss_kthread_create("x", adds_up, NULL, 100), -EINVAL);
    EXPECT_EQ(kss_kthread_create("x", adds_up, NULL, -1), -EINVAL);
    EXPECT_SAYS("priority -1: 1 to 99");
    EXPECT_EQ(kss_kthread_join(1, NULL), -ESRCH); /* init is none, and none was made yet */
    EXPECT_EQ(kss_kthread_stop(1), -ESRCH);
    EXPECT_EQ(kss_kthread_stop(-1), -ESRCH);
    EXPECT_EQ(kss_kthread_stop(1L << 40), -ESRCH);
    long tid = kss_kthread_create("once", adds_up, NULL, 0);
    EXPECT_EQ(kss_kthread_join(kss_thread_id(kss_current()), NULL), -EDEADLK);
    EXPECT_EQ(kss_kthread_join(1, NULL), -ESRCH);
    EXPECT_SAYS("there is no kernel thread 1");
    EXPECT_EQ(kss_kthread_join(tid, NULL), 0);
    long ids[64];
    int n = 0;
    while (n < 64 && (ids[n] = kss_kthread_create("many", until_stopped, (void *)2, 0)) > 0)
        n++;
    EXPECT(n > 0 && n < 8, n);
    EXPECT_EQ(ids[n], -EAGAIN);
    EXPECT_SAYS("max_threads");
    while (n-- > 0) {
        kss_kthread_stop(ids[n]);
        EXPECT_EQ(kss_kthread_join(ids[n], NULL), 0);
    }
    return 0;
}

START_TEST(misuse)
{
    struct kss_config c = defer_config(250);
    defer_wrong_line = 0;
    c.max_threads = 8;
    ck_assert_int_eq(kss_kthread_create("host", adds_up, NULL, 0), -EPERM);
    ck_assert_int_eq(kss_kthread_stop(1), -EPERM);
    ck_assert_int_eq(kss_kthread_join(1, NULL), -EPERM);
    ck_assert_int_eq(kss_kthread_sleep(1), -EPERM);
    ck_assert(!kss_kthread_should_stop());
    ck_assert_int_eq(test_boot(&c, defer_main, (void *)misuse_kernel), 0);
    ck_assert_msg(!defer_wrong_line, "line %d: %ld", (int)defer_wrong_line, (long)defer_wrong_value);
}
END_TEST

static long in_user_mode(void *arg)
{
    (void)arg;
    return kss_kthread_create("user", adds_up, NULL, 0);
}

static long system_exit(void *arg)
{
    (void)arg;
    kss_exit(0);
}

static long calls_exit(void *arg)
{
    (void)arg;
    kss_kthread_create("leaves", system_exit, NULL, 0);
    return kss_kthread_sleep(UINT64_MAX);
}

START_TEST(stops_the_machine)
{
    struct kss_config c = defer_config(250);
    ck_assert(KSS_WIFKILLED(test_boot(&c, in_user_mode, NULL)));
    ck_assert_int_eq(report_count, 1);
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(kss_machine_run(m, defer_main, (void *)calls_exit, NULL), -EFAULT);
    ck_assert_int_eq(report_count, 2);
    ck_assert_ptr_nonnull(strstr(reports[1].message, "(leaves) is a kernel thread: it ends by returning"));
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

/* ---- the machine ends, they do not ------------------------------------------------------------------------ */

static long leaves_them(void *arg)
{
    (void)arg;
    kss_wait_queue_init(&queue, "nothing");
    for (long i = 0; i < 6; i++)
        EXPECT(kss_kthread_create("stays", until_stopped, (void *)(i % 3), 0) > 0, i);
    EXPECT(kss_kthread_create("zombie", adds_up, NULL, 0) > 0, 0);
    while (!ended)
        kss_kthread_sleep(1);
    return 0;
}

START_TEST(machine_ends_with_some)
{
    for (int i = 0; i < 20; i++) {
        started = ended = 0;
        defer_run(defer_rates[_i], leaves_them);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("kernel threads");
    TCase *t = tcase_create("live");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, joined_with_its_value, 0, 2);
    tcase_add_loop_test(t, asked_to_end, 0, 2);
    tcase_add_loop_test(t, refused_what_needs_a_user, 0, 2);
    tcase_add_test(t, misuse);
    tcase_add_test(t, stops_the_machine);
    tcase_add_loop_test(t, machine_ends_with_some, 0, 2);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

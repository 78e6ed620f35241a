/* SPDX-License-Identifier: MIT */
/* Kernel timers: in which order and context they run, armed again, armed and cancelled from everywhere, very many. */
#include "defer.h"

static _Atomic int runs;

static struct kss_cpu_stats counted(void)
{
    struct kss_machine_stats s;
    kss_machine_stats(kss_machine_current(), &s);
    return s.total;
}

/* Nothing is pending: all that were armed have expired or were cancelled. */
static void expect_account(uint64_t armed)
{
    struct kss_cpu_stats s = counted();
    EXPECT_EQ(s.timers_armed, armed);
    EXPECT_EQ(s.timers_armed, s.timers_expired + s.timers_cancelled);
}

static void wait_for_runs(int n)
{
    while (runs < n)
        kss_kthread_sleep(1);
}

/* ---- order, and context -------------------------------------------------------------------------------- */

#define SOME 12
static struct kss_timer some[SOME];
static int ran[SOME];

static void notes(struct kss_timer *t, void *arg)
{
    EXPECT(kss_in_softirq() && !kss_in_irq() && kss_irqs_enabled(), 0);
    EXPECT(t == &some[(long)arg], (long)arg);
    EXPECT(!kss_timer_pending(t), 0);
    ran[runs++] = (int)(long)arg;
}

/* By their times, and those of one time as they were armed; times that have passed come at the next tick. All are on
   one CPU, armed in one go. */
static long order_kernel(void *arg)
{
    static const int expected[SOME] = { 3, 4, 9, 0, 5, 6, 7, 8, 1, 10, 11, 2 };
    static const int after_ms[SOME] = { 5, 7, 9, 0, 1, 5, 5, 5, 5, 4, 8, 8 };
    (void)arg;
    for (long i = 0; i < SOME; i++)
        EXPECT_EQ(kss_timer_init(&some[i], notes, (void *)i), 0);
    bool on = kss_irq_save();
    uint64_t now = kss_sched_clock();
    for (int i = 0; i < SOME; i++) {
        EXPECT_EQ(kss_timer_arm_at(&some[i], i == 3 ? 1 : now + (uint64_t)after_ms[i] * 100000), 0);
        EXPECT(kss_timer_pending(&some[i]), i);
    }
    kss_irq_restore(on);
    wait_for_runs(SOME);
    for (int i = 0; i < SOME; i++)
        EXPECT_EQ(ran[i], expected[i]);
    expect_account(SOME);
    return 0;
}

START_TEST(by_time_then_by_arming)
{
    runs = 0;
    defer_run(defer_rates[_i], order_kernel);
}
END_TEST

/* Never before its time. */
static uint64_t due, seen_at;

static void notes_time(struct kss_timer *t, void *arg)
{
    (void)t;
    (void)arg;
    seen_at = kss_sched_clock();
    runs++;
}

static long early_kernel(void *arg)
{
    struct kss_timer t;
    (void)arg;
    memset(&t, 0x5a, sizeof t);
    EXPECT_EQ(kss_timer_init(&t, notes_time, NULL), 0);
    for (int i = 0; i < 5; i++) {
        runs = 0;
        due = kss_sched_clock() + 3000000;
        EXPECT_EQ(kss_timer_arm(&t, 3000000), 0);
        wait_for_runs(1);
        EXPECT(seen_at >= due, seen_at);
    }
    return 0;
}

START_TEST(never_early)
{
    defer_run(defer_rates[_i], early_kernel);
}
END_TEST

/* ---- armed again, periodic, cancelled -------------------------------------------------------------------- */

static void arms_itself(struct kss_timer *t, void *arg)
{
    (void)arg;
    if (++runs < 10)
        EXPECT_EQ(kss_timer_arm(t, 1000), 0);
}

static void stops_itself(struct kss_timer *t, void *arg)
{
    (void)arg;
    EXPECT(kss_timer_pending(t), 0); /* the next period */
    if (++runs == 10)
        EXPECT_EQ(kss_timer_cancel(t), 1);
    EXPECT_EQ(kss_timer_cancel_wait(t), -EDEADLK);
}

static long again_kernel(void *arg)
{
    static struct kss_timer t, other;
    (void)arg;
    EXPECT_EQ(kss_timer_init(&t, arms_itself, NULL), 0);
    EXPECT_EQ(kss_timer_arm(&t, 0), 0);
    wait_for_runs(10);
    EXPECT_EQ(kss_timer_cancel_wait(&t), 0);
    expect_account(10);
    runs = 0;
    EXPECT_EQ(kss_timer_init(&other, stops_itself, NULL), 0);
    EXPECT_EQ(kss_timer_arm_periodic(&other, 1000, 1000), 0);
    wait_for_runs(10);
    EXPECT(!kss_timer_pending(&other), 0);
    EXPECT_EQ(kss_timer_cancel(&other), 0);
    EXPECT_EQ(counted().timers_expired, 20);
    EXPECT_EQ(counted().timers_cancelled, 1);
    /* armed anew before its time: the first arming counts as cancelled */
    EXPECT_EQ(kss_timer_init(&t, notes_time, NULL), 0);
    EXPECT_EQ(kss_timer_arm(&t, UINT64_MAX), 0);
    EXPECT_EQ(kss_timer_init(&t, notes_time, NULL), -EBUSY);
    runs = 0;
    EXPECT_EQ(kss_timer_arm(&t, 0), 0);
    wait_for_runs(1);
    EXPECT_EQ(kss_timer_arm(&t, UINT64_MAX), 0);
    EXPECT_EQ(kss_timer_cancel(&t), 1);
    EXPECT_EQ(kss_timer_cancel(&t), 0);
    expect_account(10 + 11 + 3);
    return 0;
}

START_TEST(armed_again)
{
    runs = 0;
    defer_run(defer_rates[_i], again_kernel);
}
END_TEST

/* ---- from all CPUs at once --------------------------------------------------------------------------------- */

#define SHARED 8
#define ROUNDS 3000
static struct kss_timer shared[SHARED];
static _Atomic int inside[SHARED], fired;

/* On one CPU at a time, wherever it was armed. */
static void alone(struct kss_timer *t, void *arg)
{
    long i = (long)arg;
    EXPECT_EQ(++inside[i], 1);
    fired++;
    if (fired % 3 == 0)
        EXPECT_EQ(kss_timer_arm(t, 0), 0);
    EXPECT_EQ(--inside[i], 0);
}

/* While another does the same: arms and cancels timers, wherever they are. */
static long storms(void *arg)
{
    unsigned seed = (unsigned)(long)arg;
    for (int i = 0; i < ROUNDS; i++) {
        seed = seed * 1103515245u + 12345u;
        struct kss_timer *t = &shared[seed >> 16 & (SHARED - 1)];
        switch (seed >> 24 & 3) {
        case 0:
            EXPECT(kss_timer_cancel(t) >= 0, 0);
            break;
        case 1:
            EXPECT(kss_timer_cancel_wait(t) >= 0, 0);
            break;
        default:
            EXPECT_EQ(kss_timer_arm(t, seed >> 8 & 0xffff), 0);
        }
        if (i % 50 == 0)
            kss_kthread_sleep(1);
    }
    return 0;
}

static long storm_kernel(void *arg)
{
    long tid[4];
    (void)arg;
    for (long i = 0; i < SHARED; i++)
        EXPECT_EQ(kss_timer_init(&shared[i], alone, (void *)i), 0);
    for (long i = 0; i < 4; i++)
        tid[i] = kss_kthread_create("storms", storms, (void *)(i + 1), 0);
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(kss_kthread_join(tid[i], NULL), 0);
    /* Perhaps none has fired yet: where CPUs take turns, each finds its timers moved to the other one by its tick. */
    for (int i = 0; i < SHARED; i++) {
        int before = fired;
        EXPECT_EQ(kss_timer_arm(&shared[i], 0), 0);
        while (fired == before)
            kss_kthread_sleep(1);
    }
    for (int i = 0; i < SHARED; i++) {
        EXPECT(kss_timer_cancel_wait(&shared[i]) >= 0, 0);
        EXPECT(!kss_timer_pending(&shared[i]), 0);
    }
    expect_account(counted().timers_armed);
    EXPECT_EQ(counted().timers_expired, fired);
    return 0;
}

START_TEST(armed_and_cancelled_from_everywhere)
{
    fired = 0;
    defer_run(defer_rates[_i], storm_kernel);
}
END_TEST

/* ---- a million ----------------------------------------------------------------------------------------------- */

#define MANY (KSS_TEST_ASAN ? 100000 : 1000000)
static struct kss_timer *many;
static _Atomic int in_order;
static uint64_t last_due;

static void counts(struct kss_timer *t, void *arg)
{
    uint64_t at = (uint64_t)(uintptr_t)arg;
    (void)t;
    in_order += at >= last_due;
    last_due = at;
    runs++;
}

/* Armed in a wild order, every third cancelled; the others come by their times. */
static long million_kernel(void *arg)
{
    uint64_t seed = 1, later = kss_sched_clock() + 3600000000000u;
    int cancelled = 0, left = 0;
    (void)arg;
    kss_preempt_disable(); /* all on one CPU */
    for (int i = 0; i < MANY; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        uint64_t at = 1 + (seed >> 40);
        EXPECT_EQ(kss_timer_init(&many[i], counts, (void *)(uintptr_t)at), 0);
        EXPECT_EQ(kss_timer_arm_at(&many[i], later + at), 0);
    }
    for (int i = 0; i < MANY; i += 3)
        cancelled += kss_timer_cancel(&many[i]);
    EXPECT_EQ(cancelled, (MANY + 2) / 3);
    EXPECT_EQ(runs, 0);
    /* Now some are due, in one tick. */
    bool on = kss_irq_save();
    for (int i = 1; i < MANY && left < 20000; i += 3, left++)
        EXPECT_EQ(kss_timer_arm_at(&many[i], (uint64_t)(uintptr_t)many[i].arg), 0);
    kss_irq_restore(on);
    kss_preempt_enable();
    wait_for_runs(left);
    EXPECT_EQ(in_order, left);
    EXPECT_EQ(counted().timers_expired, left);
    EXPECT_EQ(counted().timers_armed, counted().timers_expired + counted().timers_cancelled +
              (uint64_t)(MANY - cancelled - left));
    return 0; /* the machine ends with the others pending */
}

START_TEST(a_million)
{
    many = calloc(MANY, sizeof *many);
    ck_assert_ptr_nonnull(many);
    runs = in_order = 0;
    last_due = 0;
    defer_run(250, million_kernel);
    free(many);
}
END_TEST

/* ---- errors ----------------------------------------------------------------------------------------------------- */

static struct kss_timer of_before;

static long misuse_kernel(void *arg)
{
    struct kss_timer raw;
    static struct kss_spinlock lock = KSS_SPINLOCK_INIT("a lock");
    memset(&raw, 0x5a, sizeof raw);
    EXPECT_EQ(kss_timer_init(NULL, counts, NULL), -EINVAL);
    EXPECT_EQ(kss_timer_init(&raw, NULL, NULL), -EINVAL);
    EXPECT_SAYS("the timer's function is NULL");
    EXPECT_EQ(kss_timer_arm(NULL, 1), -EINVAL);
    EXPECT_EQ(kss_timer_arm(&raw, 1), -EINVAL);
    EXPECT_SAYS("was never initialised: call kss_timer_init() first");
    EXPECT_EQ(kss_timer_cancel(&raw), -EINVAL);
    EXPECT_EQ(kss_timer_cancel_wait(&raw), -EINVAL);
    EXPECT(!kss_timer_pending(&raw) && !kss_timer_pending(NULL), 0);
    EXPECT_EQ(kss_timer_init(&raw, counts, NULL), 0);
    EXPECT_EQ(kss_timer_arm_periodic(&raw, 1, 0), -EINVAL);
    EXPECT_EQ(kss_timer_cancel_wait(&raw), 0); /* never armed */
    bool on = kss_spin_lock(&lock);
    EXPECT_EQ(kss_timer_cancel_wait(&raw), -EDEADLK);
    EXPECT_SAYS("with a spinlock held");
    kss_spin_unlock(&lock, on);
    on = kss_irq_save();
    EXPECT_EQ(kss_timer_cancel_wait(&raw), -EDEADLK);
    kss_irq_restore(on);
    if (!of_before.owner) {
        EXPECT_EQ(kss_timer_init(&of_before, counts, arg), 0);
        EXPECT_EQ(kss_timer_arm(&of_before, UINT64_MAX), 0);
        return 0;
    }
    EXPECT_EQ(kss_timer_arm(&of_before, 1), -EINVAL); /* armed in a machine that is gone */
    EXPECT_SAYS("in another machine");
    EXPECT(!kss_timer_pending(&of_before), 0);
    EXPECT_EQ(kss_timer_init(&of_before, counts, arg), 0);
    EXPECT_EQ(kss_timer_arm(&of_before, UINT64_MAX), 0);
    return 0;
}

static long in_user_mode(void *arg)
{
    return kss_timer_arm(arg, 1);
}

START_TEST(misuse)
{
    struct kss_timer t;
    struct kss_config c = defer_config(250);
    ck_assert_int_eq(kss_timer_init(&t, counts, NULL), 0); /* on the host */
    ck_assert_int_eq(kss_timer_arm(&t, 1), -EPERM);
    ck_assert_int_eq(kss_timer_cancel(&t), -EPERM);
    ck_assert(!kss_timer_pending(&t));
    memset(&of_before, 0, sizeof of_before);
    defer_run(250, misuse_kernel);
    defer_run(250, misuse_kernel);
    ck_assert(KSS_WIFKILLED(test_boot(&c, in_user_mode, &t)));
    ck_assert_int_eq(report_count, 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("kernel timers");
    TCase *t = tcase_create("live");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, by_time_then_by_arming, 0, 2);
    tcase_add_loop_test(t, never_early, 0, 2);
    tcase_add_loop_test(t, armed_again, 0, 2);
    tcase_add_loop_test(t, armed_and_cancelled_from_everywhere, 0, 2);
    tcase_add_test(t, a_million);
    tcase_add_test(t, misuse);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

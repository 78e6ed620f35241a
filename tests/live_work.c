/* SPDX-License-Identifier: MIT */
/* Work queues: in order, sleeping, from handlers, queued twice, delayed, cancelled, waited for. */
#include "defer.h"

#define SOME 16
static struct kss_work some[SOME];
static _Atomic int runs;
static int ran[4096];

static struct kss_cpu_stats counted(void)
{
    struct kss_machine_stats s;
    kss_machine_stats(kss_machine_current(), &s);
    return s.total;
}

static void expect_account(uint64_t queued)
{
    struct kss_cpu_stats s = counted();
    EXPECT_EQ(s.works_queued, queued);
    EXPECT_EQ(s.works_queued, s.works_done + s.works_cancelled);
}

/* ---- order -------------------------------------------------------------------------------------------- */

static void notes(struct kss_work *w, void *arg)
{
    EXPECT(!kss_in_softirq() && !kss_in_irq() && kss_irqs_enabled(), 0);
    EXPECT(strncmp(kss_thread_name(kss_current()), "kworker/", 8) == 0, 0);
    EXPECT(w == &some[(long)arg] && !kss_work_pending(w), (long)arg);
    if ((long)arg % 3 == 0)
        EXPECT_EQ(kss_kthread_sleep(1), 0);
    ran[runs++] = (int)(long)arg;
}

/* One after the other, though some of them sleep; each once, though queued twice. */
static long order_kernel(void *arg)
{
    (void)arg;
    for (long i = 0; i < SOME; i++)
        EXPECT_EQ(kss_work_init(&some[i], notes, (void *)i), 0);
    bool on = kss_irq_save(); /* nothing runs here before all of it is queued */
    unsigned here = (unsigned)kss_cpu_id();
    for (int i = SOME; i-- > 0;) {
        EXPECT_EQ(kss_work_queue_on(&some[i], here), 1);
        EXPECT_EQ(kss_work_queue_on(&some[i], here), 0);
        EXPECT_EQ(kss_work_queue(&some[i]), 0);
        EXPECT(kss_work_pending(&some[i]), i);
    }
    kss_irq_restore(on);
    EXPECT_EQ(kss_work_flush_all(), 0);
    EXPECT_EQ(runs, SOME);
    for (int i = 0; i < SOME; i++)
        EXPECT_EQ(ran[i], SOME - 1 - i);
    expect_account(SOME);
    return 0;
}

START_TEST(in_order)
{
    runs = 0;
    defer_run(defer_rates[_i], order_kernel);
}
END_TEST

/* ---- from a hard irq, a softirq and the item itself ----------------------------------------------------- */

#define LINE 40
static struct kss_work from_irq, from_softirq, from_timer;
static struct kss_timer timer;
static _Atomic int queued_once;

static void counts(struct kss_work *w, void *arg)
{
    (void)w;
    (void)arg;
    runs++;
}

static void softirq_queues(void *arg)
{
    queued_once += kss_work_queue(arg) == 1;
}

static void timer_queues(struct kss_timer *t, void *arg)
{
    (void)t;
    queued_once += kss_work_queue(arg) == 1;
}

static void isr_queues(unsigned line, void *arg)
{
    (void)arg;
    queued_once += kss_work_queue(&from_irq) == 1;
    queued_once += kss_work_queue(&from_irq) == 1;
    kss_softirq_raise(4);
    kss_irq_eoi(line);
}

static long handlers_kernel(void *arg)
{
    struct kss_machine *m = kss_machine_current();
    (void)arg;
    EXPECT_EQ(kss_irq_request(m, LINE, isr_queues, NULL, "queues"), 0);
    EXPECT_EQ(kss_softirq_request(m, 4, softirq_queues, &from_softirq, "queues"), 0);
    EXPECT_EQ(kss_work_init(&from_irq, counts, NULL), 0);
    EXPECT_EQ(kss_work_init(&from_softirq, counts, NULL), 0);
    EXPECT_EQ(kss_work_init(&from_timer, counts, NULL), 0);
    EXPECT_EQ(kss_timer_init(&timer, timer_queues, &from_timer), 0);
    for (int i = 1; i <= 50; i++) {
        EXPECT_EQ(kss_timer_arm(&timer, 0), 0);
        EXPECT_EQ(kss_irq_raise(m, 0, LINE), 0);
        while (queued_once < 3 * i)
            kss_kthread_sleep(1);
        EXPECT_EQ(kss_work_flush(&from_irq), 0);
        EXPECT_EQ(kss_work_flush_all(), 0);
        EXPECT_EQ(runs, 3 * i);
    }
    expect_account(150);
    return 0;
}

START_TEST(queued_by_handlers)
{
    runs = queued_once = 0;
    defer_run(defer_rates[_i], handlers_kernel);
}
END_TEST

/* Queued while it runs: once more, however often. */
static _Atomic int inside, go_on;

static void waits(struct kss_work *w, void *arg)
{
    (void)w;
    (void)arg;
    EXPECT_EQ(++inside, 1);
    runs++;
    while (go_on < runs)
        kss_kthread_sleep(1);
    EXPECT_EQ(--inside, 0);
}

static void again(struct kss_work *w, void *arg)
{
    (void)arg;
    if (++runs < 10)
        EXPECT_EQ(kss_work_queue(w), 1);
}

static long running_kernel(void *arg)
{
    struct kss_work w;
    unsigned cpus = (unsigned)kss_cpu_count();
    (void)arg;
    EXPECT_EQ(kss_work_init(&w, waits, NULL), 0);
    EXPECT_EQ(kss_work_queue(&w), 1);
    while (runs < 1)
        kss_kthread_sleep(1);
    EXPECT(!kss_work_pending(&w), 0);
    EXPECT_EQ(kss_work_queue_on(&w, cpus - 1), 1);
    for (unsigned i = 0; i < cpus; i++)
        EXPECT_EQ(kss_work_queue_on(&w, i), 0);
    go_on = 2;
    EXPECT_EQ(kss_work_flush(&w), 0);
    EXPECT_EQ(runs, 2);
    runs = 0;
    EXPECT_EQ(kss_work_init(&w, again, NULL), 0);
    EXPECT_EQ(kss_work_queue(&w), 1);
    while (runs < 10)
        EXPECT_EQ(kss_work_flush(&w), 0);
    EXPECT_EQ(kss_work_cancel_wait(&w), 0);
    expect_account(12);
    return 0;
}

START_TEST(queued_while_it_runs)
{
    runs = inside = go_on = 0;
    defer_run(defer_rates[_i], running_kernel);
}
END_TEST

/* ---- delayed, cancelled, flushed --------------------------------------------------------------------------- */

static long cancel_kernel(void *arg)
{
    static struct kss_work blocker, w;
    (void)arg;
    runs = go_on = 0;
    EXPECT_EQ(kss_work_init(&blocker, waits, NULL), 0);
    EXPECT_EQ(kss_work_init(&w, counts, NULL), 0);
    EXPECT_EQ(kss_work_queue_delayed(&w, 1), 1);
    while (runs < 1)
        kss_kthread_sleep(1);
    EXPECT_EQ(kss_work_queue_delayed(&w, UINT64_MAX), 1);
    EXPECT(kss_work_pending(&w), 0);
    EXPECT_EQ(kss_work_queue(&w), 0); /* it is queued */
    EXPECT_EQ(kss_work_flush_all(), 0);
    EXPECT_EQ(runs, 1);
    EXPECT_EQ(kss_work_flush(&w), 0); /* the delay ends by it */
    EXPECT_EQ(runs, 2);
    EXPECT_EQ(kss_work_queue_delayed(&w, UINT64_MAX), 1);
    EXPECT_EQ(kss_work_init(&w, counts, NULL), -EBUSY);
    EXPECT_EQ(kss_work_cancel(&w), 1);
    EXPECT_EQ(kss_work_cancel(&w), 0);
    EXPECT_EQ(runs, 2);
    /* behind one that runs */
    EXPECT_EQ(kss_work_queue_on(&blocker, 0), 1);
    EXPECT_EQ(kss_work_queue_on(&w, 0), 1);
    EXPECT_EQ(kss_work_cancel(&w), 1);
    while (runs < 3)
        kss_kthread_sleep(1);
    EXPECT_EQ(kss_work_cancel(&blocker), 0); /* it has begun */
    go_on = 100;
    EXPECT_EQ(kss_work_cancel_wait(&blocker), 0);
    EXPECT_EQ(inside, 0);
    EXPECT_EQ(kss_work_flush_all(), 0);
    EXPECT_EQ(runs, 3);
    expect_account(5);
    return 0;
}

START_TEST(delayed_cancelled_flushed)
{
    defer_run(defer_rates[_i], cancel_kernel);
}
END_TEST

/* ---- from all CPUs at once ------------------------------------------------------------------------------------ */

#define SHARED 8
#define ROUNDS 1500
static struct kss_work shared[SHARED];
static _Atomic int alone_in[SHARED], shared_runs;

static void alone(struct kss_work *w, void *arg)
{
    long i = (long)arg;
    EXPECT_EQ(++alone_in[i], 1);
    shared_runs++;
    if (shared_runs % 4 == 0)
        kss_reschedule();
    if (shared_runs % 5 == 0)
        EXPECT(kss_work_queue(w) >= 0, i);
    EXPECT_EQ(--alone_in[i], 0);
}

static long storms(void *arg)
{
    unsigned seed = (unsigned)(long)arg, cpus = (unsigned)kss_cpu_count();
    for (int i = 0; i < ROUNDS; i++) {
        seed = seed * 1103515245u + 12345u;
        struct kss_work *w = &shared[seed >> 16 & (SHARED - 1)];
        switch (seed >> 24 & 7) {
        case 0:
            EXPECT(kss_work_cancel(w) >= 0, 0);
            break;
        case 1:
            EXPECT(kss_work_cancel_wait(w) >= 0, 0);
            break;
        case 2:
            EXPECT_EQ(kss_work_flush(w), 0);
            break;
        case 3:
            EXPECT(kss_work_queue_delayed(w, seed >> 8 & 0xffff) >= 0, 0);
            break;
        default:
            EXPECT(kss_work_queue_on(w, (seed >> 8) % cpus) >= 0, 0);
        }
    }
    return 0;
}

static long storm_kernel(void *arg)
{
    long tid[4];
    (void)arg;
    for (long i = 0; i < SHARED; i++)
        EXPECT_EQ(kss_work_init(&shared[i], alone, (void *)i), 0);
    for (long i = 0; i < 4; i++)
        tid[i] = kss_kthread_create("storms", storms, (void *)(i + 1), 0);
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(kss_kthread_join(tid[i], NULL), 0);
    for (int i = 0; i < SHARED; i++) {
        EXPECT(kss_work_cancel_wait(&shared[i]) >= 0, 0);
        EXPECT(!kss_work_pending(&shared[i]), 0);
    }
    EXPECT(shared_runs > 0, shared_runs);
    expect_account(counted().works_queued);
    EXPECT_EQ(counted().works_done, shared_runs);
    return 0;
}

START_TEST(queued_and_cancelled_from_everywhere)
{
    shared_runs = 0;
    defer_run(defer_rates[_i], storm_kernel);
}
END_TEST

/* ---- a CPU that is out: its items and its timers go on ---------------------------------------------------------- */

static _Atomic int timer_runs;

static void timer_counts(struct kss_timer *t, void *arg)
{
    (void)t;
    (void)arg;
    timer_runs++;
}

static void arms(void *arg)
{
    EXPECT_EQ(kss_timer_arm(arg, 1000000), 0);
}

static long out_kernel(void *arg)
{
    struct kss_work w;
    struct kss_timer t;
    struct kss_cpumask second = { { 2 } };
    (void)arg;
    EXPECT_EQ(kss_work_init(&w, counts, NULL), 0);
    EXPECT_EQ(kss_timer_init(&t, timer_counts, NULL), 0);
    for (int i = 1; i <= 10; i++) { /* at first the worker is made meanwhile */
        EXPECT_EQ(kss_cpu_call(&second, arms, &t, true), 1);
        EXPECT_EQ(kss_cpu_down(1), 0);
        EXPECT_EQ(kss_work_queue_on(&w, 1), 1);
        EXPECT_EQ(kss_work_flush(&w), 0);
        EXPECT_EQ(runs, 2 * i - 1);
        while (timer_runs < i)
            kss_kthread_sleep(1);
        EXPECT_EQ(kss_cpu_up(1), 0);
        EXPECT_EQ(kss_work_queue_on(&w, 1), 1);
        EXPECT_EQ(kss_work_flush_all(), 0);
        EXPECT_EQ(runs, 2 * i);
    }
    EXPECT_EQ(kss_timer_cancel_wait(&t), 0);
    return 0;
}

START_TEST(cpu_that_is_out)
{
    struct kss_config c = defer_config(defer_rates[_i]);
    runs = timer_runs = defer_wrong_line = 0;
    c.cpus = 2;
    ck_assert_int_eq(test_boot(&c, defer_main, (void *)out_kernel), 0);
    ck_assert_msg(!defer_wrong_line, "line %d: %ld", (int)defer_wrong_line, (long)defer_wrong_value);
    ck_assert_int_eq(report_count, 0);
}
END_TEST

/* ---- errors, and the end -------------------------------------------------------------------------------------- */

static struct kss_work of_before;
static _Atomic long own[4];

static void waits_for_itself(struct kss_work *w, void *arg)
{
    (void)arg;
    own[0] = kss_work_flush(w);
    own[1] = kss_work_cancel_wait(w);
    own[2] = kss_work_flush_all();
    own[3] = kss_kthread_stop(kss_thread_id(kss_current()));
    runs++;
}

static void flushes_in_softirq(void *arg)
{
    own[0] = kss_work_flush(arg);
    own[1] = kss_work_cancel_wait(arg);
    own[2] = kss_work_flush_all();
}

static long misuse_kernel(void *arg)
{
    struct kss_work raw;
    memset(&raw, 0x5a, sizeof raw);
    EXPECT_EQ(kss_work_init(NULL, counts, NULL), -EINVAL);
    EXPECT_EQ(kss_work_init(&raw, NULL, NULL), -EINVAL);
    EXPECT_SAYS("the work item's function is NULL");
    EXPECT_EQ(kss_work_queue(NULL), -EINVAL);
    EXPECT_EQ(kss_work_queue(&raw), -EINVAL);
    EXPECT_SAYS("was never initialised: call kss_work_init() first");
    EXPECT_EQ(kss_work_flush(&raw), -EINVAL);
    EXPECT_EQ(kss_work_cancel(&raw), -EINVAL);
    EXPECT(!kss_work_pending(&raw) && !kss_work_pending(NULL), 0);
    EXPECT_EQ(kss_work_init(&raw, waits_for_itself, NULL), 0);
    EXPECT_EQ(kss_work_queue_on(&raw, 256), -EINVAL);
    EXPECT_EQ(kss_work_flush(&raw), 0); /* never queued */
    EXPECT_EQ(kss_work_cancel_wait(&raw), 0);
    EXPECT_EQ(kss_work_queue(&raw), 1);
    EXPECT_EQ(kss_work_flush(&raw), 0);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(own[i], -EDEADLK);
    EXPECT_EQ(own[3], -ESRCH);
    EXPECT_EQ(kss_softirq_request(kss_machine_current(), 1, flushes_in_softirq, &raw, "flushes"), 0);
    EXPECT_EQ(kss_softirq_raise(1), 0);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(own[i], -EPERM);
    if (of_before.owner) {
        EXPECT_EQ(kss_work_queue(&of_before), -EINVAL); /* queued in a machine that is gone */
        EXPECT_SAYS("in another machine");
    }
    EXPECT_EQ(kss_work_init(&of_before, counts, arg), 0);
    EXPECT_EQ(kss_work_queue_delayed(&of_before, UINT64_MAX), 1);
    return 0; /* the machine ends with it, and with its worker */
}

static long in_user_mode(void *arg)
{
    return kss_work_queue(arg);
}

START_TEST(misuse)
{
    struct kss_work w;
    struct kss_config c = defer_config(250);
    ck_assert_int_eq(kss_work_init(&w, counts, NULL), 0); /* on the host */
    ck_assert_int_eq(kss_work_queue(&w), -EPERM);
    ck_assert_int_eq(kss_work_flush_all(), -EPERM);
    memset(&of_before, 0, sizeof of_before);
    defer_run(250, misuse_kernel);
    defer_run(250, misuse_kernel);
    ck_assert(KSS_WIFKILLED(test_boot(&c, in_user_mode, &w)));
    ck_assert_int_eq(report_count, 1);
}
END_TEST

/* A function that keeps a lock loses it, and is told; the worker goes on. */
static struct kss_spinlock kept;

static void keeps_a_lock(struct kss_work *w, void *arg)
{
    (void)w;
    (void)arg;
    if (runs++ == 0)
        kss_spin_lock(&kept);
}

static long leak_kernel(void *arg)
{
    struct kss_work w;
    (void)arg;
    kss_spinlock_init(&kept, "kept");
    EXPECT_EQ(kss_work_init(&w, keeps_a_lock, NULL), 0);
    for (int i = 0; i < 2; i++) {
        EXPECT_EQ(kss_work_queue(&w), 1);
        EXPECT_EQ(kss_work_flush(&w), 0);
    }
    EXPECT_EQ(runs, 2);
    return 0;
}

START_TEST(leak_is_told)
{
    struct kss_config c = defer_config(250);
    runs = defer_wrong_line = 0;
    ck_assert_int_eq(test_boot(&c, defer_main, (void *)leak_kernel), 0);
    ck_assert_msg(!defer_wrong_line, "line %d: %ld", (int)defer_wrong_line, (long)defer_wrong_value);
    ck_assert_int_eq(report_count, 1);
    ck_assert_int_eq(reports[0].kind, KSS_REPORT_STATE_LEAK);
    ck_assert_ptr_nonnull(strstr(reports[0].message, "a work item returned with"));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("work queues");
    TCase *t = tcase_create("live");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, in_order, 0, 2);
    tcase_add_loop_test(t, queued_by_handlers, 0, 2);
    tcase_add_loop_test(t, queued_while_it_runs, 0, 2);
    tcase_add_loop_test(t, delayed_cancelled_flushed, 0, 2);
    tcase_add_loop_test(t, queued_and_cancelled_from_everywhere, 0, 2);
    tcase_add_loop_test(t, cpu_that_is_out, 0, 2);
    tcase_add_test(t, misuse);
    tcase_add_test(t, leak_is_told);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

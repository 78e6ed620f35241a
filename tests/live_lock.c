/* SPDX-License-Identifier: MIT */
/* Locks that tell on their misuse: spinlocks misused, and joins that wait for each other. */
#include "culprit.h"

#include <pthread.h>
#include <stdatomic.h>

/* ---- spinlocks misused ---------------------------------------------------------------------------- */

static struct kss_spinlock *no_lock;

KEEP_FRAME static long take_and_release(void *arg)
{
    struct kss_spinlock *lock = arg;
    bool on = kss_spin_lock(lock);
    long held = kss_irqs_enabled() ? 0 : 1;
    kss_spin_unlock(lock, on);
    return held + (kss_irqs_enabled() ? 2 : 0);
}

START_TEST(uninitialised)
{
    struct kss_config c = test_config();
    struct kss_spinlock raw;
    char address[64];
    memset(&raw, 0x55, sizeof raw);
    snprintf(address, sizeof address, "(culprit) takes|uninitialised spinlock at %p", (void *)&raw);
    survive(&c, take_and_release, &raw);
    ck_assert_int_eq(report_count, 1);
    expect_report(0, KSS_REPORT_SPINLOCK, address, "take_and_release", "take_and_release");
    ck_assert_int_eq(reports[0].action, KSS_ACTION_KILL_PROCESS);
    ck_assert(KSS_WIFKILLED(culprit_status));

    c.policy[KSS_REPORT_SPINLOCK] = KSS_ACTION_CONTINUE;
    memset(&raw, 0x55, sizeof raw);
    survive(&c, take_and_release, &raw);
    ck_assert_int_eq(report_count, 1); /* it is made a lock: the release finds nothing wrong */
    ck_assert_int_eq(culprit_status, 5 << 8);
    ck_assert_int_eq(job_result, 3);
    ck_assert_uint_eq(raw.magic, KSS_SPINLOCK_MAGIC);
    ck_assert_uint_eq(raw.locked, 0);
}
END_TEST

START_TEST(null)
{
    struct kss_config c = test_config();
    survive(&c, take_and_release, no_lock);
    ck_assert_int_eq(report_count, 1);
    expect_report(0, KSS_REPORT_SPINLOCK, "takes a spinlock that is NULL", "take_and_release", "take_and_release");
    ck_assert(KSS_WIFKILLED(culprit_status));

    c.policy[KSS_REPORT_SPINLOCK] = KSS_ACTION_CONTINUE;
    survive(&c, take_and_release, no_lock);
    ck_assert_int_eq(report_count, 2);
    expect_report(1, KSS_REPORT_SPINLOCK, "releases a spinlock that is NULL", "take_and_release", "take_and_release");
    ck_assert_int_eq(job_result, 3); /* interrupts go off and on as with a lock */
    ck_assert(!kss_spin_lock(no_lock)); /* on a host thread there is nobody to kill */
    kss_spin_unlock(no_lock, false);
}
END_TEST

KEEP_FRAME static long release_only(void *arg)
{
    kss_spin_unlock(arg, true);
    return kss_irqs_enabled();
}

START_TEST(released_by_nobody)
{
    struct kss_config c = test_config();
    survive(&c, release_only, &lock_a);
    ck_assert_int_eq(report_count, 1);
    expect_report(0, KSS_REPORT_SPINLOCK, "(culprit) releases spinlock \"a\", which nobody holds", "release_only",
           "release_only");
    ck_assert(KSS_WIFKILLED(culprit_status));
    /* a host thread's stays as it is */
    c.policy[KSS_REPORT_SPINLOCK] = KSS_ACTION_CONTINUE;
    kss_spin_lock(&lock_a);
    survive(&c, release_only, &lock_a);
    ck_assert_int_eq(report_count, 1);
    expect_report(0, KSS_REPORT_SPINLOCK, "releases spinlock \"a\", which a host thread holds", "release_only", NULL);
    ck_assert_uint_eq(lock_a.locked, 1);
    ck_assert_int_eq(job_result, 1);
    kss_spin_unlock(&lock_a, false);
    ck_assert_uint_eq(lock_a.locked, 0);
}
END_TEST

/* Two machines, so two CPUs: one thread has the lock, one of the other machine releases it. */
static atomic_bool held_now, tried;

KEEP_FRAME static long hold_it(void *arg)
{
    bool on = kss_spin_lock(&lock_b);
    (void)arg;
    held_now = true;
    while (!tried)
        ;
    long still = lock_b.locked && lock_b.holder == kss_current();
    kss_spin_unlock(&lock_b, on);
    return still;
}

static long holder_main(void *arg)
{
    return in_kernel(hold_it, arg) == 1 ? 9 : 1;
}

static void *second_machine(void *arg)
{
    struct kss_config c = test_config();
    struct kss_machine *m = test_machine(&c);
    int status = 0;
    (void)arg;
    ck_assert_int_eq(kss_machine_run(m, holder_main, NULL, &status), 0);
    ck_assert_int_eq(KSS_WEXITSTATUS(status), 9);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
    return NULL;
}

static long release_anothers(void *arg)
{
    while (!held_now)
        ;
    release_only(arg);
    return 0;
}

START_TEST(released_by_another)
{
    struct kss_config c = test_config();
    pthread_t thread;
    c.policy[KSS_REPORT_SPINLOCK] = KSS_ACTION_CONTINUE;
    ck_assert_int_eq(pthread_create(&thread, NULL, second_machine, NULL), 0);
    job = release_anothers;
    ck_assert_int_eq(test_boot(&c, judge, &lock_b), 0);
    tried = true;
    pthread_join(thread, NULL);
    ck_assert_int_eq(report_count, 1);
    expect_report(0, KSS_REPORT_SPINLOCK, "(culprit) releases spinlock \"b\", which thread 2 (main) of another machine holds",
           "hold_it", "release_only");
    ck_assert_str_eq(reports[0].place_what, "its holder took it");
}
END_TEST

KEEP_FRAME static void inner_take(void)
{
    kss_spin_unlock(&lock_a, kss_spin_lock(&lock_a));
}

KEEP_FRAME static long outer_take(void *arg)
{
    bool on = kss_spin_lock(&lock_a);
    (void)arg;
    inner_take();
    kss_spin_unlock(&lock_a, on);
    return 0;
}

START_TEST(recursive)
{
    struct kss_config c = test_config();
    c.policy[KSS_REPORT_LOCK_ORDER] = _i ? KSS_ACTION_KILL_PROCESS : KSS_ACTION_DEFAULT;
    stops(&c, outer_take, NULL); /* whatever the policy says */
    expect_report(0, KSS_REPORT_LOCK_ORDER, "(culprit) waits for itself|takes spinlock \"a\", which it holds", "outer_take",
           "inner_take");
    ck_assert(reports[0].why_stopped[0]);
    ck_assert_uint_eq(lock_a.locked, 0); /* no other machine finds it taken */
}
END_TEST

/* ---- in interrupt handlers ------------------------------------------------------------------------- */

KEEP_FRAME static long interrupted_holder(void *arg)
{
    bool on = kss_spin_lock(&lock_a);
    kss_irq_enable();
    raise_it(arg);
    kss_spin_unlock(&lock_a, on);
    return 0;
}

START_TEST(recursive_in_an_interrupt)
{
    struct kss_config c = test_config();
    c.irq_stacks = _i ? KSS_IRQ_STACKS_PER_CPU : KSS_IRQ_STACKS_NONE;
    struct kss_machine *m = machine_with_isr(&c);
    isr_job = inner_take;
    job = interrupted_holder;
    ck_assert_int_eq(kss_machine_run(m, judge, NULL, NULL), -EFAULT);
    ck_assert_int_eq(report_count, 1);
    expect_report(0, KSS_REPORT_LOCK_ORDER, "waits for itself|in an interrupt handler", "interrupted_holder", "inner_take");
    kss_machine_destroy(m);
}
END_TEST

/* ---- many locks, and in any order -------------------------------------------------------------------- */

static struct kss_spinlock many[40];

static long take_many(void *arg)
{
    bool on = false;
    (void)arg;
    for (int i = 0; i < 40; i++)
        on |= kss_spin_lock(&many[i]);
    for (int i = 0; i < 40; i += 2)
        kss_spin_unlock(&many[i], false);
    for (int i = 39; i > 0; i -= 2)
        kss_spin_unlock(&many[i], false);
    kss_irq_restore(on);
    return 0;
}

START_TEST(many_locks)
{
    struct kss_config c = test_config();
    c.lock_order = true;
    for (int i = 0; i < 40; i++)
        kss_spinlock_init(&many[i], NULL);
    survive(&c, take_many, NULL);
    ck_assert_int_eq(report_count, 0);
    ck_assert_int_eq(culprit_status, 5 << 8);
    for (int i = 0; i < 40; i++)
        ck_assert_uint_eq(many[i].locked, 0);
}
END_TEST

/* ---- joins in a circle ------------------------------------------------------------------------------------ */

static volatile long tids[4];
static long joined[4];
static int circle;

static long join_next(void *arg)
{
    long i = (long)arg, r;
    while (!tids[(i + 1) % circle])
        kss_yield();
    if (i == circle - 1)
        for (int k = 0; k < circle - 1; k++)
            test_wait_asleep(tids[k]);
    r = kss_thread_join(tids[(i + 1) % circle], NULL);
    joined[i] = r;
    return 0;
}

static long join_main(void *arg)
{
    (void)arg;
    for (long i = circle - 1; i >= 0; i--)
        tids[i] = kss_thread_create(join_next, (void *)i, NULL);
    /* The last one of the circle is refused, ends, and the others end one after the other. */
    while (!joined[circle - 1])
        kss_yield();
    ck_assert_int_eq(joined[circle - 1], -EDEADLK);
    ck_assert_int_eq(kss_thread_join(tids[0], NULL), 0);
    for (int i = 0; i < circle - 1; i++)
        ck_assert_int_eq(joined[i], 0);
    return 0;
}

START_TEST(join_circle)
{
    struct kss_config c = test_config();
    circle = _i;
    for (int i = 0; i < circle - 1; i++)
        joined[i] = 1; /* not yet */
    ck_assert_int_eq(test_boot(&c, join_main, NULL), 0);
    ck_assert_int_eq(report_count, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_lock");
    TCase *t = tcase_create("lock");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, uninitialised);
    tcase_add_test(t, null);
    tcase_add_test(t, released_by_nobody);
    tcase_add_test(t, released_by_another);
    tcase_add_loop_test(t, recursive, 0, 2);
    tcase_add_loop_test(t, recursive_in_an_interrupt, 0, 2);
    tcase_add_test(t, many_locks);
    tcase_add_loop_test(t, join_circle, 2, 5);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

/* SPDX-License-Identifier: MIT */
/* Mutexes misused: circles are refused, owners that end are told of, others are reported. */
#include "crowd.h"
#include "culprit.h"

static struct kss_config config(void)
{
    struct kss_config c = test_config();
    c.check_switches = false;
    test_stress(&c);
    return c;
}

static struct kss_mutex mutex, outer;
static _Atomic bool release;

/* ---- circles -------------------------------------------------------------------------------------- */

static struct kss_mutex ring[4];
static long tids[4];
static _Atomic int have;
static int circle;
static _Atomic int refused;

KEEP_FRAME static long close_circle(void *arg)
{
    return kss_mutex_lock(arg);
}

static long take_own(void *arg)
{
    have++;
    return kss_mutex_lock(arg);
}

static long take_next(void *arg)
{
    long i = (long)arg;
    int r = (int)close_circle(&ring[(i + 1) % circle]);
    if (r == 0)
        MUST(kss_mutex_unlock(&ring[(i + 1) % circle]) == 0);
    refused += r == -EDEADLK;
    MUST(kss_mutex_unlock(&ring[i]) == 0);
    return r;
}

static long in_the_ring(void *arg)
{
    long i = (long)arg;
    MUST(in_kernel(take_own, &ring[i]) == 0);
    while (have < circle)
        kss_yield();
    for (int k = 0; i == circle - 1 && k < circle - 1; k++)
        test_wait_asleep(tids[k]);
    return in_kernel(take_next, arg);
}

static long ring_main(void *arg)
{
    for (long i = 0; i < circle; i++) {
        char name[8] = "link-a";
        struct kss_spawn_attr a = { .name = name };
        name[5] = (char)('a' + i);
        tids[i] = kss_thread_create(in_the_ring, (void *)i, &a);
    }
    for (int i = 0; i < circle; i++)
        MUST(kss_thread_join(tids[i], NULL) == 0);
    return (long)arg;
}

START_TEST(circles)
{
    static const char *const names[] = { "ring-a", "ring-b", "ring-c", "ring-d" };
    struct kss_config c = config();
    circle = _i;
    have = refused = 0;
    wrong = 0;
    for (int i = 0; i < 4; i++)
        kss_mutex_init(&ring[i], names[i]);
    ck_assert_int_eq(test_boot(&c, ring_main, NULL), 0);
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_eq(refused, 1);
    ck_assert_int_eq(report_count, 1);
    expect_report(0, KSS_REPORT_LOCK_ORDER, "waits for itself: it takes mutex \"ring-a\"|(link-a)|its own",
                  "take_own", "close_circle");
    ck_assert(strstr(reports[0].message, circle == 2 ? "(link-b)" : "waits for mutex \"ring-b\"") != NULL);
    for (int i = 0; i < 4; i++)
        ck_assert_uint_eq(ring[i].owner, 0);
}
END_TEST

/* ---- misuse --------------------------------------------------------------------------------------- */

KEEP_FRAME static long take_it(void *arg)
{
    return kss_mutex_lock(arg);
}

KEEP_FRAME static long take_it_twice(void *arg)
{
    MUST(take_it(arg) == 0);
    int r = kss_mutex_lock(arg);
    MUST(kss_mutex_trylock(arg) == -EBUSY);
    MUST(kss_mutex_unlock(arg) == 0);
    return r;
}

START_TEST(recursive)
{
    struct kss_config c = test_config();
    kss_mutex_init(&mutex, "twice");
    wrong = 0;
    survive(&c, take_it_twice, &mutex);
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_eq(job_result, -EDEADLK);
    ck_assert_int_eq(report_count, 1);
    expect_report(0, KSS_REPORT_LOCK_ORDER, "(culprit) waits for itself: it takes mutex \"twice\", its own",
                  "take_it", "take_it_twice");
    c.policy[KSS_REPORT_LOCK_ORDER] = KSS_ACTION_KILL_PROCESS;
    kss_mutex_init(&mutex, "twice");
    survive(&c, take_it_twice, &mutex);
    ck_assert_int_eq(report_count, 1);
    ck_assert(KSS_WIFKILLED(culprit_status));
    ck_assert_uint_eq(mutex.owner, 2); /* dead */
}
END_TEST

KEEP_FRAME static long release_it(void *arg)
{
    return kss_mutex_unlock(arg);
}

static long holds_it(void *arg)
{
    int r = take_it(arg);
    have = 1;
    while (!release)
        kss_reschedule();
    return r | kss_mutex_unlock(arg);
}

static long holder(void *arg)
{
    return in_kernel(holds_it, arg);
}

static long release_anothers(void *arg)
{
    while (!have)
        kss_reschedule();
    long r = release_it(arg);
    MUST(kss_mutex_owner(arg) != NULL && kss_mutex_owner(arg) != kss_current());
    release = true;
    return r;
}

static long two_of_them(void *arg)
{
    struct kss_spawn_attr a = { .name = "holder" };
    long pid = kss_spawn(holder, arg, &a), r;
    r = judge(arg);
    release = true;
    MUST(kss_wait(pid, NULL) == pid);
    return r;
}

START_TEST(released_by_another)
{
    struct kss_config c = test_config();
    c.policy[KSS_REPORT_SPINLOCK] = _i ? KSS_ACTION_CONTINUE : KSS_ACTION_DEFAULT;
    kss_mutex_init(&mutex, "mine");
    have = 0;
    release = false;
    wrong = 0;
    report_count = 0;
    job = release_anothers;
    ck_assert_int_eq(test_boot(&c, two_of_them, &mutex), 0);
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_eq(report_count, 1);
    expect_report(0, KSS_REPORT_SPINLOCK, "(culprit) releases mutex \"mine\", which thread|(holder) has", "take_it",
                  "release_it");
    if (_i)
        ck_assert_int_eq(job_result, -EPERM);
    else
        ck_assert(KSS_WIFKILLED(culprit_status));
    ck_assert_uint_eq(mutex.owner, 0);
}
END_TEST

static long misuse(void *arg)
{
    static struct kss_mutex raw;
    static struct kss_condvar cv = KSS_CONDVAR_INIT("cv");
    (void)arg;
    MUST(kss_mutex_lock(&raw) == -EINVAL && strstr(kss_last_error(), "never initialised"));
    MUST(kss_mutex_lock(NULL) == -EINVAL && strstr(kss_last_error(), "NULL"));
    MUST(kss_mutex_unlock(&raw) == -EINVAL && kss_mutex_trylock(&raw) == -EINVAL);
    MUST(kss_condvar_wait(&cv, &raw) == -EINVAL);
    MUST(kss_condvar_wait(&cv, &mutex) == -EPERM && strstr(kss_last_error(), "does not have"));
    MUST(kss_condvar_signal(&cv) == 0 && kss_condvar_broadcast(&cv) == 0);
    MUST(kss_mutex_lock_timeout(&mutex, 0) == 0 && kss_mutex_unlock(&mutex) == 0);
    MUST(kss_mutex_unlock(&mutex) == -EPERM);
    return 0;
}

START_TEST(bad_arguments)
{
    struct kss_config c = test_config();
    c.policy[KSS_REPORT_SPINLOCK] = KSS_ACTION_CONTINUE;
    kss_mutex_init(&mutex, "m");
    wrong = 0;
    survive(&c, misuse, NULL);
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_eq(report_count, 1);
    expect_report(0, KSS_REPORT_SPINLOCK, "releases mutex \"m\", which nobody has", NULL, "misuse");
    ck_assert_int_eq(kss_mutex_lock(&mutex), -EPERM); /* on a host thread */
    ck_assert_ptr_null(kss_mutex_owner(&mutex));
}
END_TEST

/* ---- reader-writer spinlocks ---------------------------------------------------------------------- */

static struct kss_rwlock rwlock;

static long rw_misuse(void *arg)
{
    static struct kss_rwlock raw;
    (void)arg;
    raw.lock.magic = 0;
    kss_read_unlock(&rwlock, kss_read_lock(&raw));       /* 1: not initialised; made one. 2: not held */
    kss_read_unlock(&raw, true);
    kss_write_unlock(&rwlock, true);                     /* 3 */
    bool on = kss_read_lock(&rwlock);
    kss_write_unlock(&rwlock, false);                    /* 4: not as a writer */
    kss_read_unlock(&rwlock, kss_read_lock(&rwlock));    /* 5: twice */
    kss_read_unlock(&rwlock, on);
    on = kss_write_lock(&rwlock);
    kss_read_unlock(&rwlock, false);                     /* 6: not as a reader */
    kss_write_unlock(&rwlock, on);
    kss_read_unlock(NULL, kss_read_lock(NULL));          /* 7, 8 */
    MUST(kss_irqs_enabled());
    return 0;
}

START_TEST(rwlock_misused)
{
    static const char *const told[] = { "takes an uninitialised lock", "releases spinlock \"rw\"|as a reader",
                                        "releases spinlock \"rw\"|as a writer", "as a writer",
                                        "waits for itself: it takes spinlock \"rw\"", "as a reader",
                                        "takes a lock that is NULL", "releases a lock that is NULL" };
    struct kss_config c = test_config();
    c.policy[KSS_REPORT_SPINLOCK] = c.policy[KSS_REPORT_LOCK_ORDER] = KSS_ACTION_CONTINUE;
    kss_rwlock_init(&rwlock, "rw");
    wrong = 0;
    survive(&c, rw_misuse, NULL);
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_eq(report_count, 8);
    for (int i = 0; i < 8; i++)
        expect_report(i, i == 4 ? KSS_REPORT_LOCK_ORDER : KSS_REPORT_SPINLOCK, told[i], "rw_misuse", "rw_misuse");
    ck_assert_uint_eq(rwlock.state[0] | rwlock.state[1], 0);
}
END_TEST

KEEP_FRAME static long read_then_write(void *arg)
{
    kss_read_lock(arg);
    kss_write_lock(arg);
    return 0;
}

KEEP_FRAME static long sleep_with_it(void *arg)
{
    kss_read_lock(arg);
    kss_reschedule();
    return 0;
}

KEEP_FRAME static long leave_with_it(void *arg)
{
    if (kss_read_lock(arg))
        kss_irq_enable();
    return 0;
}

KEEP_FRAME static long leave_writing(void *arg)
{
    if (kss_write_lock(arg))
        kss_irq_enable();
    return 0;
}

START_TEST(rwlock_held)
{
    struct kss_config c = test_config();
    kss_rwlock_init(&rwlock, "rw");
    stops(&c, read_then_write, &rwlock);
    expect_report(0, KSS_REPORT_LOCK_ORDER, "waits for itself", "read_then_write", "read_then_write");
    ck_assert_uint_eq(rwlock.state[0] | rwlock.state[1], 0); /* no other machine finds it taken */
    stops(&c, sleep_with_it, &rwlock);
    expect_report(0, KSS_REPORT_ATOMIC_SLEEP, "with spinlock \"rw\" held", "sleep_with_it", "sleep_with_it");
    ck_assert_uint_eq(rwlock.state[0] | rwlock.state[1], 0);
    survive(&c, _i ? leave_with_it : leave_writing, &rwlock);
    ck_assert_int_eq(report_count, 1);
    expect_report(0, KSS_REPORT_STATE_LEAK, "spinlock \"rw\"", _i ? "leave_with_it" : "leave_writing", NULL);
    ck_assert_uint_eq(rwlock.state[0] | rwlock.state[1], 0);
    ck_assert_ptr_null(rwlock.lock.holder);
}
END_TEST

/* ---- owners that end ------------------------------------------------------------------------------ */

NO_UBSAN static long dies(void *arg)
{
    MUST(kss_mutex_lock(&mutex) == 0);
    MUST(kss_mutex_lock(&outer) == 0);
    have = 1;
    while (!release)
        kss_reschedule();
    if (arg)
        *(volatile int *)arg = 1;
    return 0;
}

static long dying(void *arg)
{
    return in_kernel(dies, arg);
}

static long next_owner(void *arg)
{
    long r = kss_mutex_lock(arg);
    MUST(kss_mutex_unlock(arg) == 0);
    return r;
}

static long in_the_kernel_next(void *arg)
{
    return in_kernel(next_owner, arg);
}

static long death_main(void *arg)
{
    long pid = kss_spawn(dying, arg, NULL), value = 0;
    while (!have)
        kss_yield();
    long tid = kss_thread_create(in_the_kernel_next, &mutex, NULL);
    test_wait_asleep(tid);
    release = true;
    MUST(kss_wait(pid, NULL) == pid);
    MUST(kss_thread_join(tid, &value) == 0 && value == -EOWNERDEAD); /* it waited */
    MUST(in_kernel(next_owner, &outer) == -EOWNERDEAD);              /* it comes later */
    MUST(in_kernel(next_owner, &outer) == 0);                        /* told once */
    MUST(in_kernel(next_owner, &mutex) == 0);
    return 0;
}

START_TEST(dead_owner)
{
    struct kss_config c = config();
    kss_mutex_init(&mutex, "dead");
    kss_mutex_init(&outer, "dead too");
    have = 0;
    release = false;
    wrong = 0;
    ck_assert_int_eq(test_boot(&c, death_main, (void *)(8l * _i)), 0);
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_eq(report_count, _i);
}
END_TEST

static struct kss_semaphore forever = KSS_SEMAPHORE_INIT("forever", 0);

static long sleeps_for_ever(void *arg)
{
    return arg ? kss_sem_down(&forever) : kss_mutex_lock(&mutex);
}

static long sleeping_for_ever(void *arg)
{
    return in_kernel(sleeps_for_ever, arg);
}

static long stop_now(void *arg)
{
    (void)arg;
    MUST(kss_mutex_lock(&mutex) == 0);
    return 0;
}

static long stop_main(void *arg)
{
    MUST(in_kernel(stop_now, arg) == 0);
    test_wait_asleep(kss_thread_create(sleeping_for_ever, NULL, NULL));
    test_wait_asleep(kss_thread_create(sleeping_for_ever, &forever, NULL));
    kss_machine_stop(arg);
    while (!wrong)
        ;
    return 1;
}

/* A machine that stops leaves nothing in locks that outlive it: the next one finds them free. */
START_TEST(machine_stops)
{
    struct kss_config c = config();
    kss_mutex_init(&mutex, "outlives");
    for (int i = 0; i < 3; i++) {
        struct kss_machine *m = test_machine(&c);
        wrong = 0;
        ck_assert_int_eq(kss_machine_run(m, stop_main, m, NULL), -ECANCELED);
        ck_assert_int_eq(wrong, 0);
        ck_assert_uint_eq(mutex.owner, 0);
        ck_assert_ptr_null(mutex.sleepers.first);
        ck_assert_ptr_null(forever.sleepers.first);
        ck_assert_int_eq(kss_machine_destroy(m), 0);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_locks_misuse");
    TCase *t = tcase_create("mutex");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, circles, 2, 5);
    tcase_add_test(t, recursive);
    tcase_add_loop_test(t, released_by_another, 0, 2);
    tcase_add_test(t, bad_arguments);
    tcase_add_test(t, rwlock_misused);
    tcase_add_loop_test(t, rwlock_held, 0, 2);
    tcase_add_loop_test(t, dead_owner, 0, 2);
    tcase_add_test(t, machine_stops);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    unsetenv("KSS_TEST_LOCK_ORDER"); /* what it would find is what is tested here */
    return test_main(suite);
}

/* SPDX-License-Identifier: MIT */
/* Mutexes: one at a time, priorities lent along chains and taken back. */
#include "crowd.h"

#define ROUNDS 100
#define TICK 100000ull /* ns */

static struct kss_config config(void)
{
    struct kss_config c = test_config();
    c.check_switches = false;
    test_stress(&c);
    return c;
}

/* ---- one at a time -------------------------------------------------------------------------------- */

static struct kss_mutex mutex;
static _Atomic long taken, busy, late;

static long take_any_way(void *number)
{
    int way = (int)((long)number % 4), r = way == 0 ? kss_mutex_lock(&mutex)
                                           : way == 1 ? kss_mutex_lock_killable(&mutex)
                                           : way == 2 ? kss_mutex_lock_timeout(&mutex, TICK / 2)
                                                      : kss_mutex_trylock(&mutex);
    MUST(r == 0 || (way == 2 && r == -ETIMEDOUT) || (way == 3 && r == -EBUSY));
    busy += r == -EBUSY;
    late += r == -ETIMEDOUT;
    if (r < 0)
        return 0;
    taken++;
    only_one_enters();
    MUST(kss_mutex_owner(&mutex) == kss_current());
    if (taken % 3 == 0)
        kss_reschedule();
    only_one_leaves();
    MUST(kss_mutex_unlock(&mutex) == 0);
    return 0;
}

START_TEST(exclusion)
{
    struct kss_config c = config();
    struct kss_lock_stats s;
    c.sched = _i ? &kss_sched_priority : &kss_sched_rr;
    kss_mutex_init(&mutex, "one");
    taken = busy = late = 0;
    crowd(&c, CROWD, take_any_way, ROUNDS);
    ck_assert_int_eq(taken + busy + late, CROWD * ROUNDS);
    ck_assert_int_eq(kss_mutex_stats(&mutex, &s), 0);
    ck_assert_uint_eq(s.taken, (unsigned long)taken);
    ck_assert(c.cpus > 1 || s.contended > 0);
    ck_assert_uint_le(s.contended, CROWD * ROUNDS);
    ck_assert_uint_eq(mutex.owner, 0);
    ck_assert_ptr_null(mutex.sleepers.first);
}
END_TEST

/* Many mutexes in one order, nested, so that chains of inheritance come and go; priorities change meanwhile. */
#define NEST 5
static struct kss_mutex nested[NEST];
static volatile unsigned long done[NEST];

static long nest(void *number)
{
    int from = (int)((long)number % NEST), p;
    for (int i = from; i < NEST; i++)
        MUST(kss_mutex_lock(&nested[i]) == 0);
    for (int i = from; i < NEST; i++) {
        unsigned long n = done[i];
        if (i == NEST - 1)
            kss_reschedule();
        done[i] = n + 1;
    }
    for (int i = NEST; i-- > from;)
        MUST(kss_mutex_unlock(&nested[i]) == 0);
    p = kss_thread_priority(kss_current());
    MUST(p == 10 + (int)(long)number);
    return 0;
}

static long set_own(void *number)
{
    return kss_setpriority(0, 10 + (int)(long)number);
}

static long nester(void *number)
{
    set_own(number);
    for (int i = 0; i < ROUNDS; i++)
        in_kernel(nest, number);
    return 0;
}

static long nest_main(void *arg)
{
    long tid[CROWD];
    for (long i = 0; i < CROWD; i++)
        tid[i] = kss_thread_create(nester, (void *)i, NULL);
    for (int i = 0; i < CROWD; i++)
        MUST(kss_thread_join(tid[i], NULL) == 0);
    return (long)arg;
}

START_TEST(nested_chains)
{
    struct kss_config c = config();
    unsigned long want = 0;
    c.sched = &kss_sched_priority;
    for (int i = 0; i < NEST; i++) {
        kss_mutex_init(&nested[i], "nested");
        done[i] = 0;
    }
    wrong = 0;
    ck_assert_int_eq(test_boot(&c, nest_main, NULL), 0);
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_eq(report_count, 0);
    for (int i = 0; i < NEST; i++) {
        for (int k = 0; k < CROWD; k++)
            want += k % NEST == i ? ROUNDS : 0;
        ck_assert_uint_eq(done[i], want);
    }
}
END_TEST

/* ---- priorities ----------------------------------------------------------------------------------- */

static struct kss_mutex outer, inner;
static struct kss_thread *_Atomic low, *_Atomic middle;
static _Atomic bool release, go;
static char order[16];
static _Atomic unsigned events;
static _Atomic int after;

static void event(char what)
{
    order[events++] = what;
}

static long lowest(void *arg)
{
    (void)arg;
    MUST(kss_mutex_lock(&outer) == 0);
    event('l');
    low = kss_current();
    while (!release)
        ;
    MUST(kss_mutex_unlock(&outer) == 0);
    after = kss_thread_priority(kss_current()); /* the one who waited may run first */
    return 0;
}

static long highest(void *arg)
{
    MUST(kss_mutex_lock(arg) == 0);
    event('h');
    MUST(kss_mutex_unlock(arg) == 0);
    return 0;
}

static long in_the_kernel_lowest(void *arg)
{
    return in_kernel(lowest, arg);
}

static long in_the_kernel_highest(void *arg)
{
    return in_kernel(highest, arg);
}

static long unconcerned(void *arg)
{
    event('m');
    return (long)arg;
}

static long start(kss_user_fn fn, void *arg, int priority)
{
    struct kss_spawn_attr a = { .priority = priority };
    return kss_thread_create(fn, arg, &a);
}

static long priority_of(void *arg)
{
    return kss_thread_priority(arg);
}

#define PRIORITY(t) in_kernel(priority_of, t)

static long inversion_main(void *arg)
{
    long l = start(in_the_kernel_lowest, NULL, 10), h, m;
    while (!low)
        kss_sleep(TICK);
    MUST(PRIORITY(low) == 10);
    h = start(in_the_kernel_highest, &outer, 30);
    test_wait_asleep(h);
    MUST(PRIORITY(low) == 30);
    MUST(kss_getpriority(l) == 10); /* its own */
    m = start(unconcerned, NULL, 20);
    for (int i = 0; i < 20; i++)
        kss_sleep(TICK);
    MUST(events == 1);
    release = true;
    MUST(kss_thread_join(h, NULL) == 0 && kss_thread_join(m, NULL) == 0 && kss_thread_join(l, NULL) == 0);
    return (long)arg;
}

static struct kss_config priorities(void)
{
    struct kss_config c = test_config();
    c.sched = &kss_sched_priority;
    c.tick_hz = 10000;
    kss_mutex_init(&outer, "outer");
    kss_mutex_init(&inner, "inner");
    low = middle = NULL;
    release = go = false;
    events = 0;
    wrong = 0;
    memset(order, 0, sizeof order);
    return c;
}

/* One CPU: who is ready and not running would have to be seen running otherwise. */
START_TEST(inversion)
{
    struct kss_config c = priorities();
    c.cpus = 1;
    ck_assert_int_eq(test_boot(&c, inversion_main, NULL), 0);
    ck_assert_int_eq(wrong, 0);
    ck_assert_str_eq(order, "lhm");
    ck_assert_int_eq(after, 10);
}
END_TEST

static long in_between(void *arg)
{
    (void)arg;
    middle = kss_current();
    MUST(kss_mutex_lock(&inner) == 0);
    MUST(kss_mutex_lock(&outer) == 0);
    MUST(kss_mutex_unlock(&outer) == 0);
    MUST(kss_mutex_unlock(&inner) == 0);
    MUST(kss_thread_priority(kss_current()) == 20);
    return 0;
}

static long in_the_kernel_between(void *arg)
{
    return in_kernel(in_between, arg);
}

static long gives_up(void *arg)
{
    (void)arg;
    return kss_mutex_lock_timeout(&inner, 100 * TICK);
}

static long in_the_kernel_gives_up(void *arg)
{
    return in_kernel(gives_up, arg);
}

static long is_killed(void *arg)
{
    (void)arg;
    int r = kss_mutex_lock_killable(&inner); /* the mutex or the end, whichever comes first */
    return r < 0 ? r : kss_mutex_unlock(&inner);
}

static long in_the_kernel_killed(void *arg)
{
    return in_kernel(is_killed, arg);
}

static long killer(void *arg)
{
    long tid = start(in_the_kernel_killed, arg, 40);
    test_wait_asleep(tid);
    go = true;
    while (!release) /* for the judge to look */
        kss_sleep(TICK);
    return 3;
}

static void expect_both(int priority)
{
    MUST(PRIORITY(low) == priority);
    MUST(PRIORITY(middle) == priority);
}

static long chain_main(void *arg)
{
    long value = 0, l = start(in_the_kernel_lowest, NULL, 10), m, h;
    int status = 0;
    while (!low)
        kss_sleep(TICK);
    m = start(in_the_kernel_between, NULL, 20);
    test_wait_asleep(m);
    expect_both(20);
    h = start(in_the_kernel_gives_up, NULL, 30);
    test_wait_asleep(h);
    expect_both(30);
    MUST(kss_thread_join(h, &value) == 0 && value == -ETIMEDOUT);
    expect_both(20); /* taken back on time-out */
    MUST(kss_setpriority(m, 25) == 0);
    expect_both(25); /* one in the middle of the chain is given another of its own */
    MUST(kss_setpriority(l, 50) == 0);
    MUST(PRIORITY(low) == 50 && PRIORITY(middle) == 25);
    MUST(kss_setpriority(l, 10) == 0);
    MUST(kss_setpriority(m, 20) == 0);
    expect_both(20);
    struct kss_spawn_attr a = { .priority = 60 };
    long pid = kss_spawn(killer, NULL, &a);
    while (!go)
        kss_sleep(TICK);
    expect_both(40);
    release = true; /* both: the owner releases, and the other process ends */
    MUST(kss_wait(pid, &status) == pid && KSS_WEXITSTATUS(status) == 3);
    MUST(kss_thread_join(m, NULL) == 0 && kss_thread_join(l, NULL) == 0);
    return (long)arg;
}

START_TEST(chain)
{
    struct kss_config c = priorities();
    ck_assert_int_eq(test_boot(&c, chain_main, NULL), 0);
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_eq(after, 10);
    ck_assert_uint_eq(outer.owner | inner.owner, 0);
}
END_TEST

static _Atomic int killed_result;

static long wait_killed(void *arg)
{
    (void)arg;
    killed_result = kss_mutex_lock_killable(&outer);
    return 0;
}

static long in_the_kernel_wait_killed(void *arg)
{
    return in_kernel(wait_killed, arg);
}

static long short_killer(void *arg)
{
    long tid = start(in_the_kernel_wait_killed, arg, 40);
    test_wait_asleep(tid);
    MUST(PRIORITY(low) == 40);
    return 3;
}

static long kill_main(void *arg)
{
    struct kss_spawn_attr a = { .priority = 60 };
    long l = start(in_the_kernel_lowest, NULL, 10), pid;
    while (!low)
        kss_sleep(TICK);
    pid = kss_spawn(short_killer, NULL, &a);
    MUST(kss_wait(pid, NULL) == pid);
    while (killed_result == 1)
        kss_sleep(TICK);
    MUST(killed_result == -EINTR);
    MUST(PRIORITY(low) == 10); /* taken back on a kill */
    release = true;
    MUST(kss_thread_join(l, NULL) == 0);
    return (long)arg;
}

START_TEST(killed_waiter)
{
    struct kss_config c = priorities();
    killed_result = 1;
    ck_assert_int_eq(test_boot(&c, kill_main, NULL), 0);
    ck_assert_int_eq(wrong, 0);
    ck_assert_ptr_null(outer.sleepers.first);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_locks_mutex");
    TCase *t = tcase_create("mutex");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, exclusion, 0, 2);
    tcase_add_test(t, nested_chains);
    tcase_add_test(t, inversion);
    tcase_add_test(t, chain);
    tcase_add_test(t, killed_waiter);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

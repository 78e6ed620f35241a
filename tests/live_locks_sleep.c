/* SPDX-License-Identifier: MIT */
/* Semaphores, condition variables and completions: nothing is lost and nothing comes twice, whoever is killed or runs
   out of time. */
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

/* ---- semaphores ----------------------------------------------------------------------------------- */

static struct kss_semaphore sem, ups;
static _Atomic long given, got, missed;

static long three_at_a_time(void *number)
{
    static _Atomic int now;
    (void)number;
    MUST(kss_sem_down(&sem) == 0);
    MUST(++now <= 3);
    kss_reschedule();
    now--;
    MUST(kss_sem_up(&sem) == 0);
    return 0;
}

START_TEST(semaphore)
{
    struct kss_config c = config();
    struct kss_lock_stats s;
    kss_sem_init(&sem, "three", 3);
    crowd(&c, CROWD, three_at_a_time, ROUNDS);
    ck_assert_uint_eq(sem.count, 3);
    ck_assert_int_eq(kss_sem_stats(&sem, &s), 0);
    ck_assert_uint_eq(s.taken, CROWD * ROUNDS);
    ck_assert(c.cpus > 1 || (s.contended > 0 && s.wait_ns > 0)); /* each gives the CPU to the next with it */
}
END_TEST

static void up_in_isr(void)
{
    given += kss_sem_up(&ups) == 0;
}

/* Half of them give, by an interrupt; the others take what comes, and give up soon. */
static long take_in_time(void *number)
{
    if ((long)number % 2) {
        kss_irq_raise(kss_machine_current(), 0, 40);
        kss_reschedule();
        return 0;
    }
    int r = kss_sem_down_timeout(&ups, (uint64_t)((long)number % 5) * TICK / 2);
    MUST(r == 0 || r == -ETIMEDOUT);
    got += r == 0;
    missed += r == -ETIMEDOUT;
    return 0;
}

/* What was given is taken or still there: an up that comes when its sleeper gives up is not lost. */
START_TEST(ups_and_timeouts)
{
    struct kss_config c = config();
    kss_sem_init(&ups, "ups", 0);
    given = got = missed = 0;
    crowd_isr = up_in_isr;
    crowd(&c, CROWD, take_in_time, ROUNDS);
    ck_assert_int_gt(given, 0);
    ck_assert_int_eq(got + (long)ups.count, given);
    ck_assert_int_eq(got + missed, CROWD / 2 * ROUNDS);
    ck_assert_ptr_null(ups.sleepers.first);
    ck_assert_ptr_null(ups.sleepers.last);
}
END_TEST

static long killed_there(void *arg)
{
    int r = arg == (void *)0L   ? kss_sem_down_killable(&ups)
            : arg == (void *)1L ? kss_sem_down_timeout(&ups, UINT64_MAX)
                                : kss_sem_down(&ups);
    given += r == -EINTR;
    got += r == 0;
    return 0;
}

static long sleeper(void *arg)
{
    return in_kernel(killed_there, arg);
}

static _Atomic long asleep;

/* Its end is the sleeper's, too. */
static long killer(void *arg)
{
    long tid = kss_thread_create(sleeper, arg, NULL);
    test_wait_asleep(tid);
    asleep = 1;
    return 7;
}

static long up_once(void *arg)
{
    (void)arg;
    return kss_sem_up(&ups);
}

static long kill_main(void *arg)
{
    for (long i = 0; i < 3; i++) {
        asleep = 0;
        long pid = kss_spawn(killer, (void *)i, NULL);
        int status = 0;
        while (!asleep)
            kss_sleep(1);
        if (i == 2) { /* that one does not hear of it before it has one */
            for (int k = 0; k < 20; k++)
                kss_sleep(TICK);
            MUST(got == 0);
            in_kernel(up_once, NULL);
        }
        MUST(kss_wait(pid, &status) == pid);
        MUST(KSS_WEXITSTATUS(status) == 7);
    }
    return (long)arg;
}

START_TEST(killed_sleepers)
{
    struct kss_config c = config();
    kss_sem_init(&ups, "ups", 0);
    given = got = wrong = 0;
    ck_assert_int_eq(test_boot(&c, kill_main, NULL), 0);
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_eq(given, 2);
    ck_assert_int_eq(got, 1);
    ck_assert_ptr_null(ups.sleepers.first);
}
END_TEST

/* ---- condition variables: a bounded buffer ---------------------------------------------------------- */

#define ROOM 3

static struct kss_mutex mutex;
static struct kss_condvar not_full, not_empty;
static long buffer[ROOM];
static int filled;
static long sum_in, sum_out;
static _Atomic long timeouts;

static long produce_or_consume(void *number)
{
    bool producer = (long)number % 2;
    MUST(kss_mutex_lock(&mutex) == 0);
    only_one_enters();
    while (producer ? filled == ROOM : filled == 0) {
        only_one_leaves();
        int r = (long)number % 3 ? kss_condvar_wait(producer ? &not_full : &not_empty, &mutex)
                                 : kss_condvar_wait_timeout(producer ? &not_full : &not_empty, &mutex, TICK);
        MUST(r == 0 || r == -ETIMEDOUT);
        timeouts += r != 0;
        MUST(kss_mutex_owner(&mutex) == kss_current());
        only_one_enters();
    }
    if (producer) {
        sum_in += buffer[filled++] = (long)number;
        MUST(kss_condvar_signal(&not_empty) >= 0);
    } else {
        sum_out += buffer[--filled];
        MUST(kss_condvar_signal(&not_full) >= 0);
    }
    only_one_leaves();
    MUST(kss_mutex_unlock(&mutex) == 0);
    return 0;
}

START_TEST(bounded_buffer)
{
    struct kss_config c = config();
    struct kss_lock_stats s;
    kss_mutex_init(&mutex, "buffer");
    kss_condvar_init(&not_full, "not full");
    kss_condvar_init(&not_empty, "not empty");
    filled = 0;
    sum_in = sum_out = 0;
    crowd(&c, CROWD, produce_or_consume, ROUNDS);
    ck_assert_int_eq(filled, 0);
    ck_assert_int_eq(sum_in, sum_out);
    ck_assert_int_gt(sum_in, 0);
    ck_assert_int_eq(kss_condvar_stats(&not_empty, &s), 0);
    ck_assert_uint_gt(s.taken, 0);
}
END_TEST

static struct kss_condvar gate;
static int generation, waiting;

/* All wait until all are there: a barrier. The last one wakes the others. */
static long barrier(void *number)
{
    (void)number;
    MUST(kss_mutex_lock(&mutex) == 0);
    int mine = generation;
    if (++waiting == CROWD) {
        waiting = 0;
        generation++;
        MUST(kss_condvar_broadcast(&gate) <= CROWD - 1);
    }
    while (generation == mine)
        MUST(kss_condvar_wait_killable(&gate, &mutex) == 0);
    MUST(generation == mine + 1);
    MUST(kss_mutex_unlock(&mutex) == 0);
    return 0;
}

START_TEST(broadcast)
{
    struct kss_config c = config();
    kss_mutex_init(&mutex, "barrier");
    kss_condvar_init(&gate, "gate");
    generation = waiting = 0;
    crowd(&c, CROWD, barrier, ROUNDS);
    ck_assert_int_eq(generation, ROUNDS);
}
END_TEST

/* ---- completions on the stack of who waits ---------------------------------------------------------- */

static struct kss_spinlock requests_lock;
static struct kss_completion *requests[CROWD];
static unsigned requested;
static _Atomic long completed, waited;

static void complete_requests(void)
{
    for (;;) {
        bool on = kss_spin_lock(&requests_lock);
        struct kss_completion *c = requested ? requests[--requested] : NULL;
        kss_spin_unlock(&requests_lock, on);
        if (!c)
            return;
        MUST(kss_complete(c) == 0);
        completed++;
    }
}

__attribute__((noinline)) static void request(void)
{
    struct kss_completion done;
    kss_completion_init(&done, "request");
    bool on = kss_spin_lock(&requests_lock);
    requests[requested++] = &done;
    kss_spin_unlock(&requests_lock, on);
    kss_irq_raise(kss_machine_current(), 0, 40);
    MUST(kss_completion_wait(&done) == 0);
    memset(&done, 0x55, sizeof done); /* it is gone: whoever touches it now sees no lock */
    waited++;
}

static long request_and_go(void *number)
{
    (void)number;
    request();
    return 0;
}

START_TEST(completions_on_the_stack)
{
    struct kss_config c = config();
    kss_spinlock_init(&requests_lock, "requests");
    completed = waited = 0;
    crowd_isr = complete_requests;
    crowd(&c, CROWD, request_and_go, ROUNDS * 2);
    ck_assert_int_eq(completed, CROWD * ROUNDS * 2);
    ck_assert_int_eq(waited, CROWD * ROUNDS * 2);
}
END_TEST

static struct kss_completion all;

static long wait_for_all(void *number)
{
    struct kss_lock_stats s;
    if ((long)number == CROWD - 1) {
        kss_reschedule();
        return kss_complete_all(&all);
    }
    MUST((number ? kss_completion_wait_killable(&all) : kss_completion_wait_timeout(&all, UINT64_MAX)) == 0);
    MUST(kss_completion_wait(&all) == 0); /* and again */
    MUST(kss_completion_wait_timeout(&all, 0) == 0);
    MUST(kss_completion_stats(&all, &s) == 0 && s.taken > 0);
    return 0;
}

static long not_done(void *number)
{
    struct kss_completion c = KSS_COMPLETION_INIT("never");
    (void)number;
    MUST(kss_completion_wait_timeout(&c, 0) == -ETIMEDOUT);
    uint64_t before = kss_sched_clock();
    MUST(kss_completion_wait_timeout(&c, 3 * TICK) == -ETIMEDOUT);
    MUST(kss_sched_clock() - before >= 3 * TICK);
    MUST(kss_complete(&c) == 0);
    MUST(kss_complete(&c) == 0);
    MUST(kss_completion_wait(&c) == 0);
    MUST(kss_completion_wait(&c) == 0);
    MUST(kss_completion_wait_timeout(&c, 0) == -ETIMEDOUT);
    return 0;
}

START_TEST(completions)
{
    struct kss_config c = config();
    kss_completion_init(&all, "all");
    crowd(&c, CROWD, wait_for_all, 1);
    crowd(&c, 3, not_done, 2);
}
END_TEST

/* ---- wait queues with a time ------------------------------------------------------------------------ */

static struct kss_wait_queue queue;
static _Atomic long events;

static bool take_event(void)
{
    long n = events;
    while (n > 0 && !atomic_compare_exchange_weak(&events, &n, n - 1))
        ;
    return n > 0;
}

static void make_event(void)
{
    events++;
    given++;
    kss_wake_up(&queue, 0);
}

static long wait_for_event(void *number)
{
    if ((long)number % 3 == 0)
        return kss_irq_raise(kss_machine_current(), 0, 40);
    int r = kss_wait_event_timeout(&queue, take_event(), (uint64_t)((long)number % 4) * TICK);
    MUST(r == 0 || r == -ETIMEDOUT);
    got += r == 0;
    return 0;
}

START_TEST(wait_event_timeout)
{
    struct kss_config c = config();
    kss_wait_queue_init(&queue, "events");
    events = given = got = 0;
    crowd_isr = make_event;
    crowd(&c, CROWD, wait_for_event, ROUNDS);
    ck_assert_int_eq(got + events, given);
    ck_assert_uint_eq(queue.count, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_locks_sleep");
    TCase *t = tcase_create("sleep");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, semaphore);
    tcase_add_test(t, ups_and_timeouts);
    tcase_add_test(t, killed_sleepers);
    tcase_add_test(t, bounded_buffer);
    tcase_add_test(t, broadcast);
    tcase_add_test(t, completions_on_the_stack);
    tcase_add_test(t, completions);
    tcase_add_test(t, wait_event_timeout);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

/* SPDX-License-Identifier: MIT */
/*
 * Death at the worst moment: a process is killed by its other thread, or dies of a fault, at each
 * instruction of a system call. An interrupt placed there wakes the killer.
 */
#include "harness.h"

static struct kss_wait_queue killer_queue;
static _Atomic bool killer_go;

static long wait_for_go(void *arg)
{
    (void)arg;
    kss_wait_event(&killer_queue, killer_go);
    killer_go = false;
    return 0;
}

static void on_placed(unsigned line, void *arg)
{
    (void)arg;
    killer_go = true;
    kss_wake_up(&killer_queue, 0);
    kss_irq_eoi(line);
}

__attribute__((noreturn)) static long killer(void *arg)
{
    in_kernel(wait_for_go, arg);
    kss_exit(3);
}

static long never_ends(void *arg)
{
    (void)arg;
    return kss_sleep(UINT64_MAX);
}

static void sleep_for_ever(void)
{
    kss_sleep(UINT64_MAX);
}

static void make_a_thread(void)
{
    struct kss_spawn_attr low = { .priority = 20 };
    kss_thread_create(never_ends, NULL, &low);
    kss_sleep(UINT64_MAX);
}

static void (*const victims[])(void) = { sleep_for_ever, make_a_thread };
static void (*victim)(void);

static long process(void *arg)
{
    struct kss_spawn_attr high = { .priority = 60 };
    kss_thread_create(killer, NULL, &high);
    kss_yield();
    kss_placement_start(40, (uint64_t)(long)arg);
    victim();
    return 0;
}

/* Stops being interesting once the call has gone to sleep: then the killer comes by a tick's wake-up. */
static long raise_now(void *arg)
{
    (void)arg;
    return kss_irq_raise(kss_machine_current(), 0, 40);
}

static long kill_main(void *arg)
{
    struct kss_spawn_attr middle = { .priority = 40 };
    (void)arg;
    kss_wait_queue_init(&killer_queue, "killer");
    for (long step = 1; step < 700; step += step < 250 ? 1 : 3) {
        int status = 0;
        long pid = kss_spawn(process, (void *)step, &middle);
        ck_assert_int_gt(pid, 0);
        kss_sleep(1);
        in_kernel(raise_now, NULL); /* for a step that lies behind the sleep */
        ck_assert_int_eq(kss_wait(pid, &status), pid);
        ck_assert_int_eq(KSS_WEXITSTATUS(status), 3);
        killer_go = false;
    }
    struct kss_machine_stats s;
    kss_machine_stats(kss_machine_current(), &s);
    ck_assert_uint_eq(s.threads_live, 2); /* pid 1 and this one: nobody is left behind */
    return 0;
}

START_TEST(killed_at_every_instruction)
{
    struct kss_config c = test_config();
    c.sched = &kss_sched_priority;
    c.tick_hz = 1000;
    c.check_switches = false;
    victim = victims[_i];
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(kss_irq_request(m, 40, on_placed, NULL, "placed"), 0);
    ck_assert_int_eq(test_run(m, kill_main, NULL), 0);
    kss_machine_destroy(m);
}
END_TEST

/* ---- a fault while queued to sleep ---------------------------------------------------------------- */

static struct kss_wait_queue fault_queue;
static int *volatile nowhere = (int *)4096; /* nothing is ever mapped there */

static long fault_while_queued(void *arg)
{
    (void)arg;
    kss_wait_event(&fault_queue, *nowhere);
    return 0;
}

static long dies_queued(void *arg)
{
    in_kernel(fault_while_queued, arg);
    return 0;
}

static long wake_all(void *arg)
{
    (void)arg;
    ck_assert_uint_eq(fault_queue.count, 0);
    return kss_wake_up(&fault_queue, 0);
}

static long fault_main(void *arg)
{
    (void)arg;
    kss_wait_queue_init(&fault_queue, "fault");
    for (int i = 0; i < 20; i++) {
        int status = 0;
        ck_assert_int_gt(kss_wait(kss_spawn(dies_queued, NULL, NULL), &status), 0);
        ck_assert(KSS_WIFKILLED(status));
        ck_assert_int_eq(in_kernel(wake_all, NULL), 0);
    }
    return 0;
}

START_TEST(fault_while_queued_leaves_nothing)
{
    struct kss_config c = test_config();
    ck_assert_int_eq(test_boot(&c, fault_main, NULL), 0);
}
END_TEST

/* ---- a fault with a lock held: nobody would release it ---------------------------------------------- */

static struct kss_spinlock lock = KSS_SPINLOCK_INIT("test");

static long fault_with_lock(void *arg)
{
    (void)arg;
    bool on = kss_spin_lock(&lock);
    long r = *nowhere;
    kss_spin_unlock(&lock, on);
    return r;
}

static long lock_twice(void *arg)
{
    (void)arg;
    bool on = kss_spin_lock(&lock);
    kss_spin_unlock(&lock, kss_spin_lock(&lock));
    kss_spin_unlock(&lock, on);
    return 0;
}

static long stop_main(void *arg)
{
    return in_kernel((long (*)(void *))arg, NULL);
}

START_TEST(fault_with_a_lock_stops_the_machine)
{
    struct kss_config c = test_config();
    struct kss_machine *m = test_machine(&c);
    long (*job)(void *) = _i ? lock_twice : fault_with_lock;
    ck_assert_int_eq(kss_machine_run(m, stop_main, (void *)job, NULL), -EFAULT);
    ck_assert_int_eq(report_count, 1);
    ck_assert_int_eq(reports[0].action, KSS_ACTION_STOP_MACHINE);
    ck_assert_int_eq(reports[0].kind, _i ? KSS_REPORT_LOCK_ORDER : KSS_REPORT_KERNEL_FAULT);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_kill");
    TCase *t = tcase_create("kill");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, killed_at_every_instruction, 0, 2);
    tcase_add_test(t, fault_while_queued_leaves_nothing);
    tcase_add_loop_test(t, fault_with_a_lock_stops_the_machine, 0, 2);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

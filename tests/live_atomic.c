/* SPDX-License-Identifier: MIT */
/* Atomic context: sleeping in it, and handlers that leak it. */
#include "culprit.h"

/* ---- scheduling while atomic ---------------------------------------------------------------------------- */

KEEP_FRAME static long sleep_with_lock(void *arg)
{
    bool on = kss_spin_lock(&lock_a);
    if (arg)
        kss_irq_enable(); /* changes nothing: it would sleep with the lock held */
    kss_sleep(1);
    kss_spin_unlock(&lock_a, on);
    return 0;
}

KEEP_FRAME static long yield_with_locks(void *arg)
{
    bool on = kss_spin_lock(&lock_a);
    (void)arg;
    kss_spin_lock(&lock_b);
    kss_irq_enable();
    kss_reschedule();
    kss_spin_unlock(&lock_b, false);
    kss_spin_unlock(&lock_a, on);
    return 0;
}

KEEP_FRAME static bool turn_off(void)
{
    bool on = kss_irq_save();
    return on;
}

static struct kss_wait_queue never;

KEEP_FRAME static long sleep_with_irqs_off(void *arg)
{
    bool on = turn_off();
    (void)arg;
    kss_irq_disable(); /* they are off already: the place is where that began */
    kss_wait_event(&never, kss_wait_killed());
    kss_irq_restore(on);
    return 0;
}

KEEP_FRAME static long sleep_unpreemptible(void *arg)
{
    kss_preempt_disable();
    sleep_with_irqs_off(arg);
    return 0;
}

KEEP_FRAME static long sleep_after_unlock(void *arg)
{
    kss_spin_lock(&lock_c);
    kss_spin_unlock(&lock_c, false); /* forgets that they were on */
    kss_wait_event(&never, arg);
    return 0;
}

static const struct {
    long (*fn)(void *);
    void *arg;
    const char *parts, *place;
} atomic_sleeps[] = {
    { sleep_with_lock, NULL, "(culprit) gives up the CPU with spinlock \"a\" held", "sleep_with_lock" },
    { sleep_with_lock, &lock_a, "with spinlock \"a\" held", "sleep_with_lock" },
    { yield_with_locks, NULL, "with spinlock \"b\" and 1 more held", "yield_with_locks" },
    { sleep_with_irqs_off, NULL, "with interrupts off", "turn_off" },
    { sleep_unpreemptible, NULL, "with preemption disabled", "sleep_unpreemptible" },
    { sleep_after_unlock, NULL, "with interrupts off", "sleep_after_unlock" },
};

START_TEST(atomic_sleep)
{
    struct kss_config c = test_config();
    kss_wait_queue_init(&never, "never");
    stops(&c, atomic_sleeps[_i].fn, atomic_sleeps[_i].arg);
    expect_report(0, KSS_REPORT_ATOMIC_SLEEP, atomic_sleeps[_i].parts, atomic_sleeps[_i].place, "sys_kernel");
    ck_assert(reports[0].place_what[0]);
}
END_TEST

KEEP_FRAME static void sleeping_isr(void)
{
    if (never.name)
        kss_wait_event(&never, kss_wait_killed());
    else
        kss_reschedule();
}

START_TEST(atomic_sleep_in_an_interrupt)
{
    struct kss_config c = test_config();
    struct kss_machine *m = machine_with_isr(&c);
    kss_wait_queue_init(&never, _i ? "never" : NULL);
    isr_job = sleeping_isr;
    job = raise_it;
    ck_assert_int_eq(kss_machine_run(m, judge, NULL, NULL), -EFAULT);
    ck_assert_int_eq(report_count, 1);
    expect_report(0, KSS_REPORT_ATOMIC_SLEEP, "in the hard irq handler of line 40 (device)", "isr", "sleeping_isr");
    ck_assert_uint_eq(reports[0].line, 40);
    kss_machine_destroy(m);
}
END_TEST

/* An interrupt gate has turned them off, not the handler. */
static void sleeping_gate(struct kss_trap_frame *tf, void *arg)
{
    (void)tf;
    kss_wait_event(&never, arg);
}

static long gate_main(void *arg)
{
    (void)arg;
    return kss_software_interrupt(0x90, 0);
}

START_TEST(atomic_sleep_behind_an_interrupt_gate)
{
    struct kss_config c = test_config();
    struct kss_machine *m = test_machine(&c);
    struct kss_gate gate = { sleeping_gate, NULL, KSS_GATE_INTERRUPT, KSS_PRIV_USER, 0 };
    kss_wait_queue_init(&never, "never");
    ck_assert_int_eq(kss_vector_set(m, 0x90, &gate), 0);
    ck_assert_int_eq(kss_machine_run(m, gate_main, NULL, NULL), -EFAULT);
    expect_report(0, KSS_REPORT_ATOMIC_SLEEP, "with interrupts off|gate left them: software interrupt", "", "sleeping_gate");
    kss_machine_destroy(m);
}
END_TEST

/* A tick that comes while a lock is held with interrupts on must not preempt. */
static long spin_with_lock(void *arg)
{
    struct kss_cpu_stats before, now;
    bool on = kss_spin_lock(&lock_a);
    unsigned cpu = (unsigned)kss_cpu_id();
    (void)arg;
    kss_irq_enable();
    kss_machine_cpu_stats(kss_machine_current(), cpu, &before);
    do {
        kss_preempt_disable();
        kss_preempt_enable(); /* nor this */
        kss_machine_cpu_stats(kss_machine_current(), cpu, &now);
    } while (now.ticks < before.ticks + 5);
    bool stayed = kss_cpu_id() == (int)cpu;
    kss_spin_unlock(&lock_a, on);
    return stayed && now.context_switches == before.context_switches;
}

START_TEST(no_preemption_with_a_lock)
{
    struct kss_config c = test_config();
    c.timeslice_ns = 0;
    c.tick_hz = 1000;
    survive(&c, spin_with_lock, NULL);
    ck_assert_int_eq(report_count, 0);
    ck_assert_int_eq(job_result, 1);
}
END_TEST

/* ---- state that leaks ---------------------------------------------------------------------------------- */

KEEP_FRAME static void take(struct kss_spinlock *lock)
{
    kss_spin_lock(lock);
}

static long leak_lock(void *arg)
{
    (void)arg;
    take(&lock_a);
    return 1;
}

static long leak_locks(void *arg)
{
    (void)arg;
    kss_spin_lock(&lock_b);
    take(&lock_a);
    return 1;
}

KEEP_FRAME static void keep_preemption(void)
{
    kss_preempt_disable();
}

static long leak_preemption(void *arg)
{
    (void)arg;
    keep_preemption();
    kss_preempt_disable();
    return 1;
}

KEEP_FRAME static void keep_interrupts(void)
{
    kss_irq_disable();
}

static long leak_interrupts(void *arg)
{
    (void)arg;
    keep_interrupts();
    return 1;
}

static long leak_own_frame(void *arg)
{
    struct kss_spinlock own = KSS_SPINLOCK_INIT("own");
    (void)arg;
    take(&own);
    return 1;
}

static long leak_all(void *arg)
{
    keep_preemption();
    return leak_lock(arg);
}

static const struct {
    long (*fn)(void *);
    const char *parts, *place;
} leaks[] = {
    { leak_lock, "system call 64 (kernel) returned with spinlock \"a\" held", "take" },
    { leak_locks, "spinlock \"a\" and spinlock \"b\" held", "take" },
    { leak_preemption, "returned with preemption disabled", "keep_preemption" },
    { leak_interrupts, "returned with interrupts off", "keep_interrupts" },
    { leak_own_frame, "a spinlock of its own stack frame held", "take" },
    { leak_all, "spinlock \"a\" held|preemption disabled|interrupts off", "take" },
};

static long look_after(void *arg)
{
    (void)arg;
    return kss_irqs_enabled() && !kss_preempt_count() && !lock_a.locked && !lock_b.locked;
}

static long leaky_process(void *arg)
{
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(in_kernel(leaks[(long)arg].fn, NULL), 1);
    return in_kernel(look_after, NULL) == 1 ? 6 : 1;
}

static long leak_main(void *arg)
{
    int status = 0;
    ck_assert_int_gt(kss_wait(kss_spawn(leaky_process, arg, NULL), &status), 0);
    return status;
}

START_TEST(leak_of_a_system_call)
{
    struct kss_config c = test_config();
    ck_assert_int_eq(KSS_WEXITSTATUS(test_boot(&c, leak_main, (void *)(long)_i)), 0);
    ck_assert_int_eq(report_count, 3); /* the state was put back each time, and it runs on */
    for (int i = 0; i < 3; i++) {
        expect_report(i, KSS_REPORT_STATE_LEAK, leaks[_i].parts, leaks[_i].place, "leaky_process");
        ck_assert(in_frames(reports[i].other, reports[i].other_frames, "sys_kernel"));
        ck_assert_int_eq(reports[i].action, KSS_ACTION_CONTINUE);
    }
}
END_TEST

START_TEST(leak_kills_if_so_chosen)
{
    struct kss_config c = test_config();
    c.policy[KSS_REPORT_STATE_LEAK] = KSS_ACTION_KILL_PROCESS;
    for (size_t i = 0; i < sizeof leaks / sizeof leaks[0]; i++) {
        survive(&c, leaks[i].fn, NULL);
        ck_assert_int_eq(report_count, 1);
        ck_assert_int_eq(reports[0].action, KSS_ACTION_KILL_PROCESS);
        ck_assert(KSS_WIFKILLED(culprit_status));
        ck_assert_uint_eq(lock_a.locked, 0);
    }
}
END_TEST

/* Releases what the system call that it interrupts has taken. */
static bool inner_saved;

static void isr_takes(void)
{
    take(&lock_b);
}

static void isr_releases(void)
{
    kss_spin_unlock(&lock_a, false);
}

static void isr_enables(void)
{
    kss_irq_enable(); /* so that others may come: its right */
}

static long raise_with_lock(void *arg)
{
    bool on = kss_spin_lock(&lock_a);
    kss_irq_enable();
    raise_it(arg);
    if (inner_saved)
        kss_spin_unlock(&lock_a, on);
    return lock_b.locked;
}

static const struct {
    void (*isr)(void);
    const char *parts, *place;
} isr_leaks[] = {
    { isr_takes, "the handler of line 40 (device) returned with spinlock \"b\" held", "take" },
    { keep_preemption, "the handler of line 40 (device) returned with preemption disabled", "keep_preemption" },
    { isr_releases, "returned with a spinlock released that it had not taken", "" },
    { isr_enables, NULL, NULL },
};

START_TEST(leak_of_an_interrupt_handler)
{
    for (int stacks = 0; stacks < 2; stacks++) {
        struct kss_config c = test_config();
        c.cpus = 1; /* the line comes to CPU 0, and interrupts who raises it */
        c.irq_stacks = stacks ? KSS_IRQ_STACKS_PER_CPU : KSS_IRQ_STACKS_NONE;
        struct kss_machine *m = machine_with_isr(&c);
        isr_job = isr_leaks[_i].isr;
        inner_saved = isr_job != isr_releases;
        job = raise_with_lock;
        ck_assert_int_eq(test_run(m, judge, NULL), 0);
        ck_assert_int_eq(report_count, isr_leaks[_i].parts ? 1 : 0);
        if (isr_leaks[_i].parts) {
            expect_report(0, KSS_REPORT_STATE_LEAK, isr_leaks[_i].parts, isr_leaks[_i].place, "raise_with_lock");
            ck_assert(in_frames(reports[0].other, reports[0].other_frames, "isr"));
            ck_assert_uint_eq(reports[0].line, 40);
        }
        ck_assert_int_eq(job_result, 0);
        ck_assert_int_eq(culprit_status, 5 << 8);
        kss_machine_destroy(m);
    }
}
END_TEST

/* A softirq is called with interrupts on. */
static void soft(void *arg)
{
    (void)arg;
    isr_job();
}

static long raise_softirq(void *arg)
{
    (void)arg;
    kss_softirq_raise(3);
    return kss_irqs_enabled() && !kss_preempt_count() && !lock_b.locked;
}

static const struct {
    void (*job)(void);
    const char *parts;
} soft_leaks[] = {
    { isr_takes, "softirq 3 (soft) returned with spinlock \"b\" held, taken away now, interrupts off" },
    { keep_preemption, "softirq 3 (soft) returned with preemption disabled" },
    { keep_interrupts, "softirq 3 (soft) returned with interrupts off" },
};

START_TEST(leak_of_a_softirq)
{
    for (int stacks = 0; stacks < 2; stacks++) {
        struct kss_config c = test_config();
        c.irq_stacks = stacks ? KSS_IRQ_STACKS_PER_CPU : KSS_IRQ_STACKS_NONE;
        struct kss_machine *m = test_machine(&c);
        ck_assert_int_eq(kss_softirq_request(m, 3, soft, NULL, "soft"), 0);
        isr_job = soft_leaks[_i].job;
        job = raise_softirq;
        report_count = 0;
        ck_assert_int_eq(test_run(m, judge, NULL), 0);
        ck_assert_int_eq(report_count, 1);
        expect_report(0, KSS_REPORT_STATE_LEAK, soft_leaks[_i].parts, NULL, "raise_softirq");
        ck_assert(in_frames(reports[0].other, reports[0].other_frames, "soft"));
        ck_assert_int_eq(job_result, 1);
        kss_machine_destroy(m);
    }
}
END_TEST

START_TEST(atomic_sleep_in_a_softirq)
{
    struct kss_config c = test_config();
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(kss_softirq_request(m, 3, soft, NULL, "soft"), 0);
    kss_wait_queue_init(&never, "never");
    isr_job = sleeping_isr;
    job = raise_softirq;
    ck_assert_int_eq(kss_machine_run(m, judge, NULL, NULL), -EFAULT);
    expect_report(0, KSS_REPORT_ATOMIC_SLEEP, "in a softirq", NULL, "sleeping_isr");
    kss_machine_destroy(m);
}
END_TEST

static void leaky_gate(struct kss_trap_frame *tf, void *arg)
{
    (void)tf;
    (void)arg;
    keep_interrupts();
}

START_TEST(leak_of_a_software_interrupt)
{
    struct kss_config c = test_config();
    struct kss_machine *m = test_machine(&c);
    /* Behind an interrupt gate they are off when it is called: nothing leaks. */
    struct kss_gate gate = { leaky_gate, NULL, _i ? KSS_GATE_TRAP : KSS_GATE_INTERRUPT, KSS_PRIV_USER, 0 };
    ck_assert_int_eq(kss_vector_set(m, 0x90, &gate), 0);
    ck_assert_int_eq(test_run(m, gate_main, NULL), 0);
    ck_assert_int_eq(report_count, _i);
    if (_i)
        expect_report(0, KSS_REPORT_STATE_LEAK, "the handler of vector 144 (software interrupt) returned with interrupts off",
               "keep_interrupts", "gate_main");
    kss_machine_destroy(m);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_atomic");
    TCase *t = tcase_create("atomic");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, atomic_sleep, 0, sizeof atomic_sleeps / sizeof atomic_sleeps[0]);
    tcase_add_loop_test(t, atomic_sleep_in_an_interrupt, 0, 2);
    tcase_add_test(t, atomic_sleep_behind_an_interrupt_gate);
    tcase_add_test(t, no_preemption_with_a_lock);
    tcase_add_loop_test(t, leak_of_a_system_call, 0, sizeof leaks / sizeof leaks[0]);
    tcase_add_test(t, leak_kills_if_so_chosen);
    tcase_add_loop_test(t, leak_of_an_interrupt_handler, 0, sizeof isr_leaks / sizeof isr_leaks[0]);
    tcase_add_test(t, atomic_sleep_in_a_softirq);
    tcase_add_loop_test(t, leak_of_a_softirq, 0, sizeof soft_leaks / sizeof soft_leaks[0]);
    tcase_add_loop_test(t, leak_of_a_software_interrupt, 0, 2);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

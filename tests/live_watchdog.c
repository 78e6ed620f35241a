/* SPDX-License-Identifier: MIT */
/* Non-maskable interrupts, and the watchdogs: what should have ended long ago is named, with its place. */
#define _GNU_SOURCE
#include "harness.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

static struct kss_machine *machine;

/* In its caller: a report names the function that spins. */
__attribute__((always_inline)) static inline const struct kss_report *find(enum kss_report_kind kind)
{
    int n = *(volatile int *)&report_count; /* it changes under a loop that waits for it */
    for (int i = 0; i < n && i < REPORTS; i++)
        if (reports[i].kind == kind)
            return &reports[i];
    return NULL;
}

static bool in_backtrace(const struct kss_report *r, const char *symbol)
{
    for (int i = 0; i < r->frames; i++)
        if (strcmp(r->frame[i].symbol, symbol) == 0)
            return true;
    return false;
}

static int run(struct kss_config *c, kss_user_fn fn)
{
    c->trace = true;
    machine = test_machine(c);
    int status = test_run(machine, fn, NULL);
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
    return status;
}

/* What goes wrong here goes wrong on CPU 0, where the lines are raised. */
static struct kss_config one_cpu(void)
{
    struct kss_config c = test_config();
    c.cpus = 1;
    return c;
}

/* ---- non-maskable interrupts ------------------------------------------------------------------------ */

static _Atomic unsigned nmis, in_user, in_kernel_off, stop_raising;

static void count_nmi(struct kss_trap_frame *tf, void *arg)
{
    (void)arg;
    nmis++;
    in_user += tf->mode == KSS_MODE_USER;
    in_kernel_off += tf->mode == KSS_MODE_KERNEL && !tf->irqs_on;
    ck_assert_int_eq(tf->stack, 2);
    struct kss_thread *t = NULL;
    ck_assert_int_eq(kss_stack_find(machine, (uintptr_t)&t, &t), KSS_STACK_VECTOR);
}

static void *raise_nmis(void *arg)
{
    (void)arg;
    /* The next one only when the last has been taken and the CPU has had some time for itself. */
    for (unsigned n = 1; !stop_raising; n = n * 1103515245 + 12345) {
        unsigned before = nmis;
        kss_nmi_raise(machine, 0);
        while (!stop_raising && nmis == before)
            ;
        for (volatile unsigned i = n >> 17; i > 0; i--)
            ;
    }
    return NULL;
}

/* Comes some microseconds later, wherever the program is by then. */
static long off_and_on(void *arg)
{
    kss_nmi_raise(machine, 0);
    for (int i = 0; i < 20; i++) {
        kss_irq_disable();
        for (volatile int j = 0; j < 50; j++)
            ;
        kss_irq_enable();
    }
    return (long)arg;
}

static long calls(void *arg)
{
    double f = 1.5;
    for (unsigned i = 0; nmis < 2000 || !in_kernel_off || !in_user; i++) {
        ck_assert_int_eq(kss_getpid(), kss_gettid());
        f = f * 1.0000001 + 1e-9;
        if (i % 4 == 0)
            ck_assert_int_eq(in_kernel(off_and_on, arg), (long)arg);
        if (i % 16 == 0)
            kss_yield();
    }
    ck_assert(f >= 1.5 && f < 1e300);
    return 0;
}

static long nmi_main(void *arg)
{
    (void)arg;
    for (long i = 1; i <= 3; i++)
        ck_assert_int_gt(kss_spawn(calls, (void *)i, NULL), 0);
    for (int i = 0; i < 3; i++) {
        int status = -1;
        ck_assert_int_gt(kss_wait(-1, &status), 0);
        ck_assert_int_eq(status, 0);
    }
    return 0;
}

/* The storm lands everywhere: in user code, with interrupts off, in entry, exit and gate, in the switch. */
START_TEST(nmi_storm) /* REQ M2 */
{
    struct kss_config c = one_cpu();
    struct kss_gate gate = { count_nmi, NULL, KSS_GATE_INTERRUPT, KSS_PRIV_KERNEL, 2 };
    pthread_t host;
    c.tick_hz = 2000;
    c.timeslice_ns = 0;
    c.syscall_entry = _i == 1 ? KSS_SYSCALL_GATE : KSS_SYSCALL_TRAP;
    c.protect = _i == 2 ? KSS_PROTECT_MPROTECT : KSS_PROTECT_OFF;
    if (_i == 2 && !test_can_protect())
        return;
    machine = test_machine(&c);
    ck_assert_int_eq(kss_vector_set(machine, KSS_VEC_NMI, &gate), 0);
    ck_assert_int_eq(kss_nmi_raise(machine, 7), -EINVAL);
    ck_assert_int_eq(kss_nmi_raise(NULL, 0), -EINVAL);
    ck_assert_int_eq(pthread_create(&host, NULL, raise_nmis, NULL), 0);
    ck_assert_int_eq(test_run(machine, nmi_main, NULL), 0);
    stop_raising = 1;
    pthread_join(host, NULL);
    ck_assert_int_eq(report_count, 0);
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}
END_TEST

/* ---- lockups ---------------------------------------------------------------------------------------- */

/* Ticks go on while this spins, and say so in the end. */
KEEP_FRAME static long spin_without_preemption(void *arg)
{
    (void)arg;
    kss_preempt_disable();
    while (!find(KSS_REPORT_SOFT_LOCKUP))
        ;
    kss_preempt_enable();
    return 0;
}

static long other_process(void *arg)
{
    (void)arg;
    while (!find(KSS_REPORT_SOFT_LOCKUP))
        kss_yield();
    return 0;
}

static long soft_main(void *arg)
{
    (void)arg;
    ck_assert_int_gt(kss_spawn(other_process, NULL, NULL), 0);
    in_kernel(spin_without_preemption, NULL);
    ck_assert_int_gt(kss_wait(-1, NULL), 0);
    return 0;
}

START_TEST(soft_lockup)
{
    struct kss_config c = one_cpu();
    c.tick_hz = 1000;
    c.watchdog.soft_lockup_ns = 20000000;
    ck_assert_int_eq(run(&c, soft_main), 0);
    const struct kss_report *r = find(KSS_REPORT_SOFT_LOCKUP);
    ck_assert_int_eq(r->action, KSS_ACTION_CONTINUE);
    ck_assert_str_eq(r->symbol, "spin_without_preemption");
    ck_assert(in_backtrace(r, "soft_main"));
    ck_assert_uint_eq(r->waited_ns, 20000000);
    ck_assert_int_gt(r->events, 0);
    ck_assert_int_eq(report_count, 1);
}
END_TEST

KEEP_FRAME static long spin_with_interrupts_off(void *arg)
{
    kss_irq_disable();
    while (arg || !find(KSS_REPORT_HARD_LOCKUP))
        ;
    kss_irq_enable();
    return 0;
}

static long hard_main(void *arg)
{
    return in_kernel(spin_with_interrupts_off, arg);
}

START_TEST(hard_lockup)
{
    struct kss_config c = one_cpu();
    c.tick_hz = 1000;
    c.watchdog.hard_lockup_ns = 20000000;
    c.policy[KSS_REPORT_HARD_LOCKUP] = KSS_ACTION_CONTINUE;
    ck_assert_int_eq(run(&c, hard_main), 0);
    const struct kss_report *r = find(KSS_REPORT_HARD_LOCKUP);
    ck_assert_str_eq(r->symbol, "spin_with_interrupts_off");
    ck_assert_int_eq(r->stack, KSS_STACK_TASK);
    ck_assert(in_backtrace(r, "hard_main"));
}
END_TEST

/* It would spin for ever: the machine is stopped under it, and the host goes on. */
START_TEST(hard_lockup_stops_the_machine)
{
    struct kss_config c = one_cpu();
    struct kss_machine *m;
    c.tick_hz = 1000;
    c.watchdog.hard_lockup_ns = 20000000;
    m = test_machine(&c);
    ck_assert_int_eq(kss_machine_run(m, hard_main, "for ever", NULL), -EFAULT);
    ck_assert_int_eq(reports[0].kind, KSS_REPORT_HARD_LOCKUP);
    ck_assert_int_eq(reports[0].action, KSS_ACTION_STOP_MACHINE);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

/* ---- interrupts that are not ended, not expected ---------------------------------------------------- */

#define LINE 40
static int handled;

static void forgets(unsigned line, void *arg)
{
    (void)line;
    (void)arg;
    handled++;
}

static long raise_line(void *arg)
{
    return kss_irq_raise(kss_machine_current(), 0, (unsigned)(long)arg);
}

static long end_line(void *arg)
{
    return kss_irq_eoi((unsigned)(long)arg);
}

static long eoi_main(void *arg)
{
    (void)arg;
    in_kernel(raise_line, (void *)LINE);
    while (!find(KSS_REPORT_MISSING_EOI))
        kss_getpid();
    ck_assert_int_eq(in_kernel(end_line, (void *)LINE), 0);
    in_kernel(raise_line, (void *)LINE);
    ck_assert_int_eq(handled, 2);
    ck_assert_int_eq(in_kernel(end_line, (void *)LINE), 0);
    return 0;
}

/* Also where the line has a higher priority than the timer's, so that no tick comes through. */
START_TEST(missing_eoi) /* REQ I5 */
{
    struct kss_config c = one_cpu();
    c.tick_hz = 1000;
    c.watchdog.eoi_ns = 10000000;
    machine = test_machine(&c);
    ck_assert_int_eq(kss_irq_request(machine, LINE, forgets, NULL, "forgetful"), 0);
    ck_assert_int_eq(kss_irq_set_priority(machine, LINE, _i ? 15 : 8), 0);
    ck_assert_int_eq(test_run(machine, eoi_main, NULL), 0);
    const struct kss_report *r = find(KSS_REPORT_MISSING_EOI);
    ck_assert_uint_eq(r->line, LINE);
    ck_assert_str_eq(r->place.symbol, "forgets");
    ck_assert_ptr_nonnull(strstr(r->message, "line 40 (forgetful)"));
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}
END_TEST

static long spurious_main(void *arg)
{
    (void)arg;
    for (int i = 0; i < 5; i++)
        in_kernel(raise_line, (void *)(LINE + 1));
    return 0;
}

START_TEST(spurious)
{
    struct kss_config c = one_cpu();
    struct kss_irq_stats s;
    machine = test_machine(&c);
    ck_assert_int_eq(test_run(machine, spurious_main, NULL), 0);
    ck_assert_int_eq(report_count, 1);
    ck_assert_int_eq(reports[0].kind, KSS_REPORT_SPURIOUS);
    ck_assert_uint_eq(reports[0].line, LINE + 1);
    ck_assert_int_eq(kss_irq_stats(machine, 0, LINE + 1, &s), 0);
    ck_assert_uint_eq(s.unhandled, 5);
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}
END_TEST

/* ---- sleepers --------------------------------------------------------------------------------------- */

static struct kss_wait_queue queue;
static bool condition;

KEEP_FRAME static long sleeps_for_io(void *arg)
{
    (void)arg;
    kss_wait_event(&queue, condition);
    return 0;
}

/* Tests, is interrupted by what makes it true, and sleeps: nobody will wake it. */
KEEP_FRAME static long sleeps_without_recheck(void *arg)
{
    struct kss_waiter w = { 0 };
    (void)arg;
    if (!condition) {
        condition = true; /* as an interrupt here would */
        kss_wake_up(&queue, 0);
        kss_wait_prepare(&queue, &w);
        kss_wait_sleep();
        kss_wait_finish(&w);
    }
    return 0;
}

static long sleeps_killably(void *arg)
{
    (void)arg;
    return kss_wait_event_killable(&queue, condition);
}

static long let_go(void *arg)
{
    (void)arg;
    condition = true;
    return kss_wake_up(&queue, 0);
}

static long sleeper(void *arg)
{
    return in_kernel((long (*)(void *))arg, NULL);
}

static enum kss_report_kind expected;

static long hung_main(void *arg)
{
    (void)arg;
    int sleepers = 1;
    if (expected == KSS_REPORT_HUNG_TASK) { /* one that a kill would end: nothing is said of it */
        test_wait_asleep(kss_spawn(sleeper, (void *)sleeps_killably, NULL));
        sleepers++;
    }
    long pid = kss_spawn(sleeper, expected == KSS_REPORT_HUNG_TASK ? (void *)sleeps_for_io : (void *)sleeps_without_recheck,
                         NULL);
    ck_assert_int_gt(pid, 0);
    while (!find(expected))
        kss_getpid();
    in_kernel(let_go, NULL);
    while (sleepers--)
        ck_assert_int_gt(kss_wait(-1, NULL), 0);
    return 0;
}

START_TEST(hung_task)
{
    struct kss_config c = one_cpu();
    expected = _i ? KSS_REPORT_LOST_WAKEUP : KSS_REPORT_HUNG_TASK;
    kss_wait_queue_init(&queue, "disk");
    c.tick_hz = 1000;
    c.max_threads = 64;
    c.watchdog.hung_task_ns = 5000000;
    ck_assert_int_eq(run(&c, hung_main), 0);
    const struct kss_report *r = find(expected);
    ck_assert_int_eq(report_count, 1);
    ck_assert_int_eq(r->stack, KSS_STACK_TASK);
    ck_assert(in_backtrace(r, _i ? "sleeps_without_recheck" : "sleeps_for_io"));
    ck_assert_ptr_nonnull(strstr(r->message, "disk"));
    ck_assert_uint_ge(r->waited_ns, 5000000);
}
END_TEST

/* ---- SIGQUIT prints all stacks, and the run goes on ---------------------------------------------------- */

static char printed[65536];
static unsigned cpus;

static long look(void *arg)
{
    int *pipe_end = arg;
    static size_t have;
    ssize_t n = read(*pipe_end, printed + have, sizeof printed - 1 - have);
    if (n > 0)
        have += (size_t)n;
    unsigned ends = 0;
    for (const char *p = printed; (p = strstr(p, "the run goes on")); p++)
        ends++;
    return ends >= cpus; /* each prints its own */
}

static long quit_main(void *arg)
{
    test_wait_asleep(kss_spawn(sleeper, (void *)sleeps_for_io, &(struct kss_spawn_attr){ .name = "reader" }));
    kill(getpid(), SIGQUIT);
    while (!look(arg)) /* libc reads the pipe in user mode */
        kss_getpid();
    in_kernel(let_go, NULL);
    ck_assert_int_gt(kss_wait(-1, NULL), 0);
    return 0;
}

START_TEST(sigquit_prints_all_stacks)
{
    struct kss_config c = one_cpu();
    int ends[2], saved = dup(STDERR_FILENO);
    c.host_signals = true;
    cpus = c.cpus;
    kss_wait_queue_init(&queue, "disk");
    ck_assert_int_eq(pipe2(ends, O_NONBLOCK), 0);
    dup2(ends[1], STDERR_FILENO);
    machine = test_machine(&c);
    int status = -1, r = kss_machine_run(machine, quit_main, &ends[0], &status);
    dup2(saved, STDERR_FILENO);
    ck_assert_int_eq(r, 0);
    ck_assert_int_eq(status, 0);
    ck_assert_ptr_nonnull(strstr(printed, "(reader) of process"));
    ck_assert_ptr_nonnull(strstr(printed, "SLEEPING on disk"));
    ck_assert_ptr_nonnull(strstr(printed, "sleeps_for_io+"));
    ck_assert_ptr_nonnull(strstr(printed, "thread 0 (idle)"));
    ck_assert_ptr_nonnull(strstr(printed, "quit_main+"));
    ck_assert_int_eq(kss_machine_dump(machine), -EBUSY);
    ck_assert_int_eq(kss_machine_dump(NULL), -EINVAL);
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_watchdog");
    TCase *c = tcase_create("watchdog");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, nmi_storm, 0, 3);
    tcase_add_test(c, soft_lockup);
    tcase_add_test(c, hard_lockup);
    tcase_add_test(c, hard_lockup_stops_the_machine);
    tcase_add_loop_test(c, missing_eoi, 0, 2);
    tcase_add_test(c, spurious);
    tcase_add_loop_test(c, hung_task, 0, 2);
    tcase_add_test(c, sigquit_prints_all_stacks);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return test_main(suite);
}

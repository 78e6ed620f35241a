/* SPDX-License-Identifier: MIT */
/* What comes in the middle of something else: of an exit, a backtrace, a report, a change of state. */
#define _GNU_SOURCE
#include "harness.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#define LINE 40
#define VECTOR KSS_VEC_SOFTWARE

static struct kss_machine *machine;

/* ---- an interrupt on the frame of a vector stack, and the vector again -------------------------------- */

static int entered;

static void on_vector(struct kss_trap_frame *tf, void *arg)
{
    (void)tf, (void)arg;
    if (entered++ == 0)
        kss_irq_raise(machine, 0, LINE); /* is taken at the exit, on the frame that is there */
}

static void on_line(unsigned line, void *arg)
{
    (void)arg;
    kss_irq_eoi(line);
    kss_software_interrupt(VECTOR, 0);
}

static long enters(void *arg)
{
    (void)arg;
    kss_software_interrupt(VECTOR, 0);
    return 0;
}

START_TEST(vector_stack_is_busy_at_its_exit)
{
    struct kss_config c = test_config();
    machine = test_machine(&c);
    struct kss_gate gate = { on_vector, NULL, KSS_GATE_INTERRUPT, KSS_PRIV_USER, 3 };
    ck_assert_int_eq(kss_vector_set(machine, VECTOR, &gate), 0);
    ck_assert_int_eq(kss_irq_request(machine, LINE, on_line, NULL, "line"), 0);
    ck_assert_int_eq(kss_machine_run(machine, enters, NULL, NULL), -EFAULT);
    ck_assert_int_eq(entered, 1);
    ck_assert_int_eq(reports[0].kind, KSS_REPORT_STACK_REUSED);
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}
END_TEST

/* ---- a non-maskable interrupt in the middle of a backtrace --------------------------------------------- */

static _Atomic bool over;

static void *asks_for_dumps(void *arg)
{
    (void)arg;
    for (; !over; usleep(100))
        kss_machine_dump(machine);
    return NULL;
}

static long walks(void *arg)
{
    struct kss_frame f[16];
    (void)arg;
    for (int i = 0; i < 300; i++)
        ck_assert_int_ge(kss_backtrace(NULL, f, 16), 3);
    return 0;
}

static long walks_in_kernel(void *arg)
{
    return in_kernel(walks, arg);
}

START_TEST(dump_in_a_backtrace)
{
    struct kss_config c = test_config();
    pthread_t thread;
    sigset_t all, before;
    int null = open("/dev/null", O_WRONLY), err = dup(STDERR_FILENO);
    machine = test_machine(&c);
    over = false;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    ck_assert_int_eq(pthread_create(&thread, NULL, asks_for_dumps, NULL), 0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    dup2(null, STDERR_FILENO);
    int r = kss_machine_run(machine, walks_in_kernel, NULL, NULL);
    over = true;
    pthread_join(thread, NULL);
    dup2(err, STDERR_FILENO);
    close(null);
    close(err);
    ck_assert_int_eq(r, 0);
    ck_assert_int_eq(report_count, 0);
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}
END_TEST

/* ---- a report in the middle of a report ---------------------------------------------------------------- */

static struct kss_spinlock not_held = KSS_SPINLOCK_INIT("not held");

static void misuses(const struct kss_report *r, void *arg)
{
    (void)arg;
    reports[report_count++ % REPORTS] = *r;
    if (r->kind == KSS_REPORT_KERNEL_FAULT && report_count < REPORTS)
        kss_spin_unlock(&not_held, false);
}

static int *volatile nowhere;

NO_UBSAN static long faults(void *arg)
{
    (void)arg;
    *nowhere = 0;
    return 0;
}

static long faults_in_kernel(void *arg)
{
    return in_kernel(faults, arg);
}

static long waits_for_it(void *arg)
{
    int status = 0;
    (void)arg;
    ck_assert_int_gt(kss_wait(kss_spawn(faults_in_kernel, NULL, NULL), &status), 0);
    ck_assert(KSS_WIFKILLED(status));
    return 0;
}

START_TEST(report_in_a_report)
{
    struct kss_config c = test_config();
    c.on_report = misuses;
    c.policy[KSS_REPORT_SPINLOCK] = KSS_ACTION_CONTINUE;
    ck_assert_int_eq(test_boot(&c, waits_for_it, NULL), 0);
    ck_assert_int_eq(report_count, 1); /* the callback is not called for what it does wrong itself */
}
END_TEST

/* ---- a fault in the handler of a non-maskable interrupt ------------------------------------------------- */

static _Atomic bool nmi_came;

static void faults_in_nmi(struct kss_trap_frame *tf, void *arg)
{
    (void)tf;
    nmi_came = true;
    faults(arg);
}

static long is_interrupted(void *arg)
{
    (void)arg;
    kss_irq_disable(); /* as the kernel itself does, where nobody may be killed */
    kss_nmi_raise(machine, 0);
    while (!nmi_came)
        ;
    kss_irq_enable();
    return 0;
}

static long is_interrupted_in_kernel(void *arg)
{
    return in_kernel(is_interrupted, arg);
}

START_TEST(fault_in_nmi)
{
    struct kss_config c = test_config();
    machine = test_machine(&c);
    struct kss_gate gate;
    nmi_came = false;
    ck_assert_int_eq(kss_vector_get(machine, KSS_VEC_NMI, &gate), 0);
    gate.handler = faults_in_nmi;
    ck_assert_int_eq(kss_vector_set(machine, KSS_VEC_NMI, &gate), 0);
    ck_assert_int_eq(kss_machine_run(machine, is_interrupted_in_kernel, NULL, NULL), -EFAULT);
    ck_assert_int_eq(report_count, 1);
    ck_assert_int_eq(reports[0].action, KSS_ACTION_STOP_MACHINE);
    ck_assert_ptr_nonnull(strstr(reports[0].why_stopped, "non-maskable"));
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}
END_TEST

/* ---- quarantine: a thread that could not be finished ---------------------------------------------------- */

static long nothing(void *arg)
{
    (void)arg;
    return 7;
}

static long spawns(void *arg)
{
    struct kss_spawn_attr large = { .user_stack_size = (size_t)1 << 30 };
    (void)arg;
    for (int i = 0; i < 20; i++) {
        int status = 0;
        ck_assert_int_eq(kss_spawn(nothing, NULL, &large), -EAGAIN);
        ck_assert_int_gt(kss_wait(kss_spawn(nothing, NULL, NULL), &status), 0);
        ck_assert_int_eq(KSS_WEXITSTATUS(status), 7);
    }
    return 0;
}

START_TEST(quarantine_of_what_nobody_had)
{
    struct kss_config c = test_config();
    c.kstack_quarantine = true;
    c.kstack_cache = _i ? 64 : 0;
    c.max_threads = 1 << 20; /* so that there is no room for so many stacks of that size */
    ck_assert_int_eq(test_boot(&c, spawns, NULL), 0);
    ck_assert_int_eq(report_count, 0);
}
END_TEST

/* ---- an interrupt between SLEEPING and RUNNING ----------------------------------------------------------- */

static long almost_sleeps(void *arg)
{
    (void)arg;
    for (int i = 0; i < 200000; i++) {
        ck_assert_int_eq(kss_thread_set_state(kss_current(), KSS_THREAD_SLEEPING), 0);
        ck_assert_int_eq(kss_thread_set_state(kss_current(), KSS_THREAD_RUNNING), 0);
    }
    return 0;
}

static long almost_sleeps_in_kernel(void *arg)
{
    return in_kernel(almost_sleeps, arg);
}

static long two_of_them(void *arg)
{
    long pid = kss_spawn(almost_sleeps_in_kernel, NULL, NULL);
    almost_sleeps_in_kernel(arg);
    ck_assert_int_eq(kss_wait(pid, NULL), pid);
    return 0;
}

START_TEST(preempted_between_states)
{
    struct kss_config c = test_config();
    c.tick_hz = 5000;
    c.timeslice_ns = 0;
    c.check_switches = false;
    ck_assert_int_eq(test_boot(&c, two_of_them, NULL), 0);
    ck_assert_int_eq(report_count, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_nested");
    TCase *t = tcase_create("nested");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, vector_stack_is_busy_at_its_exit);
    tcase_add_loop_test(t, dump_in_a_backtrace, 0, 3);
    tcase_add_test(t, report_in_a_report);
    tcase_add_test(t, fault_in_nmi);
    tcase_add_loop_test(t, quarantine_of_what_nobody_had, 0, 2);
    tcase_add_test(t, preempted_between_states);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

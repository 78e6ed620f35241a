/* SPDX-License-Identifier: MIT */
/* Softirqs: what they may not do, and what may not be done with them. */
#include "softirq.h"

static struct kss_wait_queue queue;
static _Atomic bool woken;

/* ---- what it may not do -------------------------------------------------------------------------------- */

KEEP_FRAME static void sleeps(void *arg)
{
    (void)arg;
    kss_wait_event(&queue, woken);
}

KEEP_FRAME static void gives_up_the_cpu(void *arg)
{
    (void)arg;
    kss_reschedule();
}

KEEP_FRAME static void reads_through_null(void *arg)
{
    volatile const long *p = arg;
    say(p[100] ? "?" : "!");
}

static long bad_main(void *arg)
{
    (void)arg;
    in_kernel(raise_line, (void *)LINE);
    return 0;
}

static const struct {
    kss_softirq_fn fn;
    const char *symbol, *message;
    enum kss_report_kind kind;
} bad[] = {
    { sleeps, "sleeps", "in a softirq", KSS_REPORT_ATOMIC_SLEEP },
    { gives_up_the_cpu, "gives_up_the_cpu", "in a softirq", KSS_REPORT_ATOMIC_SLEEP },
    { reads_through_null, "reads_through_null", "NULL", KSS_REPORT_KERNEL_FAULT },
};

START_TEST(what_stops_the_machine)
{
    struct kss_config c = quiet(_i & 1 ? KSS_IRQ_STACKS_PER_CPU : KSS_IRQ_STACKS_NONE);
    const struct kss_report *r = &reports[0];
    int n = _i / 2;
    woken = false;
    kss_wait_queue_init(&queue, "softirq");
    build(&c, isr_raises_one);
    ck_assert_int_eq(kss_softirq_request(machine, 2, bad[n].fn, NULL, "bad"), 0);
    ck_assert_int_eq(kss_machine_run(machine, bad_main, NULL, NULL), -EFAULT);
    ck_assert_int_eq(report_count, 1);
    ck_assert_int_eq(r->kind, bad[n].kind);
    ck_assert_int_eq(r->action, KSS_ACTION_STOP_MACHINE);
    ck_assert_str_eq(r->symbol, bad[n].symbol);
    ck_assert_msg(strstr(r->message, bad[n].message) != NULL, "%s", r->message);
    ck_assert_int_eq(r->stack, _i & 1 ? KSS_STACK_VECTOR : KSS_STACK_TASK);
    if (bad[n].kind == KSS_REPORT_KERNEL_FAULT)
        ck_assert_str_eq(r->why_stopped, "it is in a softirq");
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}
END_TEST

/* ---- misuse -------------------------------------------------------------------------------------------- */

static long misuse_kernel(void *arg)
{
    (void)arg;
    ck_assert_int_eq(kss_softirq_raise(KSS_SOFTIRQS), -EINVAL);
    ck_assert_int_eq(kss_softirq_raise(1), -EINVAL);
    ck_assert_ptr_nonnull(strstr(kss_last_error(), "softirq 1"));
    ck_assert_int_eq(kss_softirq_request(machine, 1, say_number, (void *)1L, NULL), 0); /* while it runs, too */
    raise_softirq(1);
    ck_assert_str_eq(order, "1");
    return 0;
}

static long misuse_main(void *arg)
{
    return in_kernel(misuse_kernel, arg);
}

START_TEST(misuse)
{
    struct kss_config c = quiet(KSS_IRQ_STACKS_NONE);
    build(&c, isr_quiet);
    ck_assert_int_eq(kss_softirq_request(NULL, 0, say_number, NULL, "x"), -EINVAL);
    ck_assert_int_eq(kss_softirq_request(machine, KSS_SOFTIRQS, say_number, NULL, "x"), -EINVAL);
    ck_assert_ptr_nonnull(strstr(kss_last_error(), "softirq 32: 0 to 31"));
    ck_assert_int_eq(kss_softirq_request(machine, 0, NULL, NULL, "x"), -EINVAL);
    ck_assert_int_eq(kss_softirq_request(machine, 0, say_number, NULL, "first"), 0);
    ck_assert_int_eq(kss_softirq_request(machine, 0, say_number, NULL, "second"), -EBUSY);
    ck_assert_ptr_nonnull(strstr(kss_last_error(), "taken by first"));
    ck_assert_int_eq(kss_softirq_raise(0), -EPERM); /* on the host */
    ck_assert(!kss_in_softirq());
    run(misuse_main);
}
END_TEST

static long privileged_child(void *arg)
{
    if (arg)
        kss_softirq_raise(0);
    else
        kss_in_softirq();
    return 0;
}

static long privileged_main(void *arg)
{
    (void)arg;
    for (long i = 0; i < 2; i++) {
        int status = 0;
        ck_assert_int_gt(kss_wait(kss_spawn(privileged_child, (void *)i, NULL), &status), 0);
        ck_assert_int_eq(KSS_WVECTOR(status), KSS_VEC_GENERAL_PROTECTION);
    }
    return 0;
}

START_TEST(privileged) /* REQ M1 */
{
    struct kss_config c = quiet(KSS_IRQ_STACKS_NONE);
    build(&c, isr_quiet);
    request(0, say_number);
    ck_assert_int_eq(test_run(machine, privileged_main, NULL), 0);
    ck_assert_int_eq(report_count, 2);
    ck_assert_str_eq(order, "");
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_softirq_misuse");
    TCase *t = tcase_create("misuse");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, what_stops_the_machine, 0, 6);
    tcase_add_test(t, misuse);
    tcase_add_test(t, privileged);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

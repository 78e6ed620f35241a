/* SPDX-License-Identifier: MIT */
#include "culprit.h"

struct kss_spinlock lock_a = KSS_SPINLOCK_INIT("a"), lock_b = KSS_SPINLOCK_INIT("b"), lock_c = KSS_SPINLOCK_INIT("c");

bool in_frames(const struct kss_frame *f, int n, const char *symbol)
{
    for (int i = 0; i < n; i++)
        if (strcmp(f[i].symbol, symbol) == 0)
            return true;
    return false;
}

void expect_report(int i, enum kss_report_kind kind, const char *parts, const char *place, const char *culprit)
{
    char part[120];
    const struct kss_report *r = &reports[i];
    ck_assert_int_gt(report_count, i);
    ck_assert_msg(r->kind == kind, "%s: %s", kss_report_kind_name(r->kind), r->message);
    for (const char *p = parts; *p; p += strcspn(p, "|"), p += *p == '|') {
        snprintf(part, sizeof part, "%.*s", (int)strcspn(p, "|"), p);
        ck_assert_msg(strstr(r->message, part) != NULL, "\"%s\" is not in: %s", part, r->message);
    }
    if (place)
        ck_assert_msg(strcmp(r->place.symbol, place) == 0, "%s: %s at %s", r->message, r->place_what,
                      r->place.symbol);
    if (culprit)
        ck_assert_msg(in_frames(r->frame, r->frames, culprit), "%s is not in the backtrace of: %s", culprit, r->message);
}

long (*job)(void *);
volatile long job_result;

static long culprit_main(void *arg)
{
    job_result = in_kernel(job, arg);
    return 5;
}

static long bystander(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20; i++)
        kss_yield();
    return 7;
}

volatile int culprit_status;

long judge(void *arg)
{
    struct kss_spawn_attr name = { .name = "culprit" };
    int status = 0, other = 0;
    long by = kss_spawn(bystander, NULL, NULL), pid = kss_spawn(culprit_main, arg, &name);
    ck_assert_int_eq(kss_wait(pid, &status), pid);
    ck_assert_int_eq(kss_wait(by, &other), by);
    ck_assert_int_eq(KSS_WEXITSTATUS(other), 7);
    culprit_status = status;
    return 0;
}

void survive(struct kss_config *c, long (*fn)(void *), void *arg)
{
    job = fn;
    report_count = 0;
    ck_assert_int_eq(test_boot(c, judge, arg), 0);
}

void stops(struct kss_config *c, long (*fn)(void *), void *arg)
{
    struct kss_machine *m = test_machine(c);
    job = fn;
    report_count = 0;
    ck_assert_int_eq(kss_machine_run(m, judge, arg, NULL), -EFAULT);
    ck_assert_int_eq(report_count, 1);
    ck_assert_int_eq(reports[0].action, KSS_ACTION_STOP_MACHINE);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}

void (*isr_job)(void);

static void isr(unsigned line, void *arg)
{
    (void)arg;
    isr_job();
    kss_irq_eoi(line);
}

long raise_it(void *arg)
{
    (void)arg;
    kss_irq_raise(kss_machine_current(), 0, 40);
    return kss_preempt_count();
}

struct kss_machine *machine_with_isr(const struct kss_config *c)
{
    struct kss_machine *m = test_machine(c);
    ck_assert_int_eq(kss_irq_request(m, 40, isr, NULL, "device"), 0);
    report_count = 0;
    return m;
}

/* SPDX-License-Identifier: MIT */
/* Bad input from the host: every function that takes a machine, and calls at the wrong time. */
#define _GNU_SOURCE
#include "errors.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#define NAME_32 "a-name-of-thirty-two-characters."

static const struct kss_gate a_gate = { NULL, NULL, KSS_GATE_NONE, KSS_PRIV_KERNEL, 0 };
static const struct kss_device_ops no_ops;

static void isr(unsigned line, void *arg)
{
    (void)arg;
    kss_irq_eoi(line);
}

static void on_trap(struct kss_trap_frame *tf, void *arg)
{
    (void)tf;
    (void)arg;
}

static long on_syscall(const struct kss_syscall_args *args)
{
    return args->a[0];
}

static long user(void *arg)
{
    return (long)arg;
}

static int on_event(const struct kss_trace_event *event, void *arg)
{
    (void)event;
    (void)arg;
    return 0;
}

/* ---- a machine that is none --------------------------------------------------------------------- */

static void with_no_machine(struct kss_machine *m)
{
    struct kss_machine_stats s;
    struct kss_irq_stats is;
    struct kss_latency l;
    struct kss_gate gate;
    struct kss_disk_config disk = { .name = "disk", .path = "/dev/null" };
    struct kss_disk_stats ds;
    struct kss_console_config console = { -1, -1, false };
    struct kss_console_stats cs;
    struct kss_trace_event event = { 0 };
    struct kss_thread_info_snapshot snapshot[2];
    struct kss_thread *t;
    char text[64];
    int status;

    FAILS_SAYING(kss_machine_run(m, user, NULL, &status), EINVAL, "machine");
    FAILS_SAYING(kss_machine_stats(m, &s), EINVAL, "machine");
    FAILS_SAYING(kss_check(m), EINVAL, "machine");
    FAILS_SILENTLY(kss_machine_stop(m), EINVAL);
    FAILS_SAYING(kss_irq_request(m, 40, isr, NULL, "x"), EINVAL, "machine");
    FAILS_SAYING(kss_irq_free(m, 40), EINVAL, "machine");
    FAILS_SAYING(kss_irq_set_priority(m, 40, 1), EINVAL, "machine");
    FAILS_SAYING(kss_irq_mask(m, 40), EINVAL, "machine");
    FAILS_SAYING(kss_irq_unmask(m, 40), EINVAL, "machine");
    FAILS_SILENTLY(kss_irq_raise(m, 0, 40), EINVAL);
    FAILS_SAYING(kss_irq_stats(m, 0, 40, &is), EINVAL, "machine");
    FAILS_SAYING(kss_irq_latency(m, 0, 40, &l, NULL), EINVAL, "machine");
    FAILS_SAYING(kss_vector_set(m, 0x90, &a_gate), EINVAL, "machine");
    FAILS_SAYING(kss_vector_get(m, 0x90, &gate), EINVAL, "machine");
    FAILS_SAYING(kss_syscall_register(m, 64, on_syscall, "x"), EINVAL, "machine");
    ck_assert_str_eq(kss_syscall_name(m, 0), "?");
    FAILS_SAYING(kss_dsq_create(m, 1), EINVAL, "machine");
    FAILS_SAYING(kss_device_register(m, "x", &no_ops, NULL), EINVAL, "machine");
    FAILS_SAYING(kss_disk_attach(m, &disk), EINVAL, "machine");
    FAILS_SAYING(kss_disk_stats(m, "disk", &ds), EINVAL, "machine");
    FAILS_SAYING(kss_console_attach(m, &console), EINVAL, "machine");
    FAILS_SAYING(kss_console_stats(m, &cs), EINVAL, "machine");
    FAILS_SAYING(kss_trace_enable(m, true), EINVAL, "machine");
    FAILS_SAYING(kss_trace_for_each(m, on_event, NULL), EINVAL, "machine");
    FAILS_SAYING(kss_trace_narrate(m, &event, text, sizeof text), EINVAL, "machine");
    FAILS_SAYING(kss_threads(m, snapshot, 2), EINVAL, "machine");
    FAILS_SAYING(kss_thread_find(m, 1) == NULL ? -EINVAL : 0, EINVAL, "machine");
    FAILS_SAYING(kss_stack_find(m, 0, &t) == KSS_STACK_UNKNOWN ? -EINVAL : 0, EINVAL, "machine");
}

START_TEST(no_machine)
{
    static uint64_t zeros[65536];
    struct kss_config c = test_config();
    FAILS_SAYING(kss_machine_create(NULL, &c), EINVAL, "NULL");
    with_no_machine(NULL);
    with_no_machine((struct kss_machine *)zeros);
    FAILS_SAYING(kss_machine_destroy((struct kss_machine *)zeros), EINVAL, "machine");
    ck_assert_int_eq(kss_machine_destroy(NULL), 0);
    for (size_t i = 0; i < sizeof zeros / sizeof zeros[0]; i++)
        ck_assert_uint_eq(zeros[i], 0);
}
END_TEST

/* ---- numbers and pointers out of range ------------------------------------------------------------ */

static void bad_lines(struct kss_machine *m)
{
    static const unsigned lines[] = { KSS_IRQ_LINES, 255, UINT_MAX };
    struct kss_irq_stats s;
    struct kss_latency l;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        char number[16];
        snprintf(number, sizeof number, "%u", lines[i]);
        FAILS_SAYING(kss_irq_request(m, lines[i], isr, NULL, "x"), EINVAL, number);
        FAILS_SAYING(kss_irq_free(m, lines[i]), EINVAL, number);
        FAILS_SAYING(kss_irq_set_priority(m, lines[i], 1), EINVAL, number);
        FAILS_SAYING(kss_irq_mask(m, lines[i]), EINVAL, number);
        FAILS_SAYING(kss_irq_unmask(m, lines[i]), EINVAL, number);
        FAILS_SILENTLY(kss_irq_raise(m, 0, lines[i]), EINVAL);
        FAILS_SAYING(kss_irq_stats(m, 0, lines[i], &s), EINVAL, number);
        FAILS_SAYING(kss_irq_latency(m, 0, lines[i], &l, &l), EINVAL, number);
    }
    FAILS_SILENTLY(kss_irq_raise(m, 1, 40), EINVAL);
    FAILS_SAYING(kss_irq_stats(m, 1, 0, &s), EINVAL, "CPU 1");
    FAILS(kss_irq_stats(m, 0, 0, NULL), EINVAL);
    FAILS_SAYING(kss_irq_latency(m, UINT_MAX, 0, &l, &l), EINVAL, "CPU");
    FAILS_SAYING(kss_irq_latency(m, 0, 0, &l, &l), ENODATA, "latency");
    FAILS_SAYING(kss_irq_request(m, 40, NULL, NULL, "x"), EINVAL, "NULL");
    FAILS_SAYING(kss_irq_request(m, KSS_LINE_TIMER, isr, NULL, "x"), EBUSY, "timer");
    ck_assert_int_eq(kss_irq_request(m, 40, isr, NULL, "first"), 0);
    FAILS_SAYING(kss_irq_request(m, 40, isr, NULL, "second"), EBUSY, "first");
    FAILS_SAYING(kss_irq_free(m, KSS_LINE_TIMER), EBUSY, "own");
    FAILS_SAYING(kss_irq_free(m, KSS_LINE_STOP), EBUSY, "own");
    ck_assert_int_eq(kss_irq_free(m, 40), 0);
    FAILS_SAYING(kss_irq_free(m, 40), ENOENT, "40");
    FAILS_SAYING(kss_irq_set_priority(m, 40, KSS_IRQ_PRIO_MAX + 1), EINVAL, "16");
}

static void bad_vectors(struct kss_machine *m)
{
    struct kss_gate g = { on_trap, NULL, KSS_GATE_TRAP, KSS_PRIV_USER, 0 }, bad;
    FAILS_SAYING(kss_vector_set(m, KSS_VECTORS, &g), EINVAL, "256");
    FAILS(kss_vector_set(m, 0x90, NULL), EINVAL);
    FAILS_SAYING(kss_vector_get(m, KSS_VECTORS, &g), EINVAL, "256");
    FAILS(kss_vector_get(m, 0x90, NULL), EINVAL);
    bad = g;
    bad.handler = NULL;
    FAILS_SAYING(kss_vector_set(m, 0x90, &bad), EINVAL, "handler");
    bad = g;
    bad.type = (enum kss_gate_type)3;
    FAILS_SAYING(kss_vector_set(m, 0x90, &bad), EINVAL, "type 3");
    bad = g;
    bad.privilege = (enum kss_privilege)1;
    FAILS_SAYING(kss_vector_set(m, 0x90, &bad), EINVAL, "privilege 1");
    bad = g;
    bad.stack = 8;
    FAILS_SAYING(kss_vector_set(m, 0x90, &bad), EINVAL, "stack 8");
    ck_assert_int_eq(kss_vector_get(m, 0x90, &bad), 0);
    ck_assert_int_eq(bad.type, KSS_GATE_NONE); /* nothing of it was taken */
}

static void bad_numbers(struct kss_machine *m)
{
    struct kss_trace_event event = { 0 };
    struct kss_thread_info_snapshot s[2];
    char text[64];
    FAILS(kss_machine_stats(m, NULL), EINVAL);
    FAILS_SAYING(kss_machine_run(m, NULL, NULL, NULL), EINVAL, "main_fn");
    FAILS_SAYING(kss_syscall_register(m, KSS_SYS_EXPERIMENT - 1, on_syscall, "x"), EINVAL, "63");
    FAILS_SAYING(kss_syscall_register(m, KSS_SYSCALLS, on_syscall, "x"), EINVAL, "256");
    FAILS_SAYING(kss_syscall_register(m, SYS_KERNEL, on_syscall, "x"), EBUSY, "kernel");
    ck_assert_int_eq(kss_syscall_register(m, 200, NULL, NULL), 0); /* removes nothing */
    ck_assert_str_eq(kss_syscall_name(m, KSS_SYSCALLS), "?");
    ck_assert_str_eq(kss_syscall_name(m, 200), "?");
    FAILS_SAYING(kss_dsq_create(m, 0), EINVAL, "id");
    FAILS_SAYING(kss_dsq_create(m, (1ull << 32) + 1), EINVAL, "0x100000001");
    FAILS(kss_dsq_create(m, KSS_DSQ_GLOBAL), EINVAL);
    ck_assert_int_eq(kss_dsq_create(m, 1ull << 32), 0);
    FAILS_SAYING(kss_dsq_create(m, 1ull << 32), EEXIST, "exists");
    FAILS(kss_trace_for_each(m, NULL, NULL), EINVAL);
    FAILS(kss_trace_narrate(m, NULL, text, sizeof text), EINVAL);
    FAILS(kss_trace_narrate(m, &event, NULL, 10), EINVAL);
    event.type = 9999;
    ck_assert_int_gt(kss_trace_narrate(m, &event, text, sizeof text), 0);
    FAILS(kss_threads(m, NULL, 2), EINVAL);
    FAILS_SAYING(kss_threads(m, s, -1), EINVAL, "-1");
    ck_assert_int_eq(kss_threads(m, NULL, 0), 1); /* only counts: the idle thread */
    for (int tid = -1; tid < 2; tid++)
        FAILS(kss_thread_find(m, tid) ? 0 : -ESRCH, ESRCH);
    ck_assert_int_eq(kss_stack_find(m, (uintptr_t)text, NULL), KSS_STACK_UNKNOWN);
    ck_assert_int_eq(kss_stack_find(m, UINTPTR_MAX, NULL), KSS_STACK_UNKNOWN);
}

static void bad_devices(struct kss_machine *m)
{
    FAILS_SAYING(kss_device_register(m, NULL, &no_ops, NULL), EINVAL, "name");
    FAILS_SAYING(kss_device_register(m, "", &no_ops, NULL), EINVAL, "name");
    FAILS_SAYING(kss_device_register(m, NAME_32, &no_ops, NULL), EINVAL, NAME_32);
    FAILS_SAYING(kss_device_register(m, "x", NULL, NULL), EINVAL, "NULL");
    ck_assert_int_eq(kss_device_register(m, &NAME_32[1], &no_ops, NULL), 0); /* 31 */
    FAILS_SAYING(kss_device_register(m, &NAME_32[1], &no_ops, NULL), EEXIST, "exists");

    struct kss_disk_config good = { .name = "d", .path = "/dev/null" }, d = good;
    struct kss_disk_stats s;
    FAILS(kss_disk_attach(m, NULL), EINVAL);
    d.name = NULL;
    FAILS_SAYING(kss_disk_attach(m, &d), EINVAL, "name");
    d.name = &NAME_32[1];
    FAILS_SAYING(kss_disk_attach(m, &d), EEXIST, d.name);
    d.name = NAME_32;
    FAILS(kss_disk_attach(m, &d), EINVAL);
    d = good;
    d.path = NULL;
    FAILS_SAYING(kss_disk_attach(m, &d), EINVAL, "path");
    d.path = "/nonexistent/image";
    FAILS_SAYING(kss_disk_attach(m, &d), ENOENT, d.path);
    d.path = "/";
    FAILS(kss_disk_attach(m, &d), EISDIR);
    d = good;
    d.seek_ns = 10000000001ull;
    FAILS_SAYING(kss_disk_attach(m, &d), EINVAL, "seek_ns");
    d = good;
    d.max_transfer = 511;
    FAILS_SAYING(kss_disk_attach(m, &d), EINVAL, "511");
    d.max_transfer = (1u << 20) + 1;
    FAILS_SAYING(kss_disk_attach(m, &d), EINVAL, "1048577");
    FAILS_SAYING(kss_disk_stats(m, "d", &s), ENOENT, "\"d\"");
    FAILS(kss_disk_stats(m, NULL, &s), EINVAL);
    FAILS(kss_disk_stats(m, "d", NULL), EINVAL);
    char name[32];
    for (int i = 0; i < 60; i++) { /* with the one above: 61 */
        snprintf(name, sizeof name, "device%d", i);
        ck_assert_int_eq(kss_device_register(m, name, &no_ops, NULL), 0);
    }
}

static void bad_console(struct kss_machine *m)
{
    struct kss_console_config c = { -1, -2, false };
    struct kss_console_stats s;
    FAILS(kss_console_attach(m, NULL), EINVAL);
    FAILS(kss_console_attach(m, &c), EINVAL);
    c = (struct kss_console_config){ INT_MAX, -1, false };
    FAILS(kss_console_attach(m, &c), EBADF);
    c = (struct kss_console_config){ -1, INT_MAX, false };
    FAILS(kss_console_attach(m, &c), EBADF);
    FAILS(kss_console_stats(m, &s), ENOENT);
    c = (struct kss_console_config){ -1, -1, false };
    ck_assert_int_eq(kss_console_attach(m, &c), 0); /* what failed has left nothing behind */
    FAILS(kss_console_attach(m, &c), EBUSY);
    FAILS(kss_console_stats(m, NULL), EINVAL);
}

START_TEST(out_of_range)
{
    struct kss_config c = test_config();
    struct kss_machine *m = test_machine(&c);
    bad_lines(m);
    bad_vectors(m);
    bad_numbers(m);
    bad_devices(m);
    bad_console(m);
    ck_assert_int_eq(kss_device_register(m, "last but one", &no_ops, NULL), 0);
    ck_assert_int_eq(kss_device_register(m, "last", &no_ops, NULL), 0);
    FAILS_SAYING(kss_device_register(m, "one more", &no_ops, NULL), ENOSPC, "64");
    ck_assert_int_eq(test_run(m, user, (void *)0L), 0); /* none the worse for it */
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

START_TEST(too_many_disks)
{
    struct kss_config c = test_config();
    struct kss_machine *m = test_machine(&c);
    char name[32];
    struct kss_disk_config d = { .name = name, .path = "/dev/null" };
    FILE *image = tmpfile();
    char path[64];
    ck_assert_ptr_nonnull(image);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fileno(image));
    d.path = path;
    for (int i = 0; i < KSS_LINE_FREE - KSS_LINE_DISK; i++) {
        snprintf(name, sizeof name, "disk%d", i);
        int r = kss_disk_attach(m, &d);
        ck_assert_msg(r == 0, "%s: %d: %s", name, r, kss_last_error());
    }
    strcpy(name, "more");
    FAILS_SAYING(kss_disk_attach(m, &d), ENOSPC, "more");
    ck_assert_int_eq(kss_machine_destroy(m), 0);
    fclose(image);
}
END_TEST

/* Names of what is none, and functions that take a pointer to look at. */
START_TEST(nameless)
{
    static uint64_t zeros[1024];
    struct kss_thread *none = (struct kss_thread *)zeros;
    struct kss_kstack_info k;
    struct kss_frame f[4];
    struct kss_report report;
    uint64_t value;
    char text[32];
    for (int i = -1; i < 100; i += 101 / 4) {
        ck_assert_ptr_nonnull(kss_thread_state_name((enum kss_thread_state)i));
        ck_assert_ptr_nonnull(kss_stack_kind_name((enum kss_stack_kind)i));
        ck_assert_ptr_nonnull(kss_report_kind_name((enum kss_report_kind)i));
        ck_assert_ptr_nonnull(kss_trace_type_name((enum kss_trace_type)i));
        ck_assert_ptr_nonnull(kss_vector_name((unsigned)i));
    }
    FAILS(kss_kstack_info(none, &k), EINVAL);
    FAILS(kss_backtrace(none, f, 4), EINVAL);
    FAILS(kss_kstack_draw(none, text, sizeof text), EINVAL);
    FAILS(kss_kstack_draw(NULL, NULL, 10), EINVAL);
    FAILS(kss_thread_id(none), EINVAL);
    FAILS(kss_thread_id(NULL), EINVAL);
    ck_assert_str_eq(kss_thread_name(none), "?");
    ck_assert_str_eq(kss_thread_name(NULL), "?");
    FAILS_SILENTLY(kss_report_format(NULL, text, sizeof text), EINVAL);
    memset(&report, 0, sizeof report);
    FAILS_SILENTLY(kss_report_format(&report, NULL, 10), EINVAL);
    ck_assert_int_gt(kss_report_format(&report, NULL, 0), 0);
    ck_assert_int_gt(kss_report_format(&report, text, sizeof text), (int)sizeof text);
    ck_assert_uint_lt(strlen(text), sizeof text);
    ck_assert_uint_eq(kss_trap_pc(NULL), 0);
    ck_assert_uint_eq(kss_trap_sp(NULL), 0);
    ck_assert_uint_eq(kss_trap_flags(NULL), 0);
    ck_assert_uint_eq(kss_trap_instruction_length(NULL), 0);
    ck_assert_int_eq(kss_trap_argument(NULL, 0), 0);
    FAILS(kss_trap_register(NULL, 0, &value), EPERM);
    kss_dump_printf(NULL, "%d", 1);
    FAILS(kss_set_error(-EIO, "sector %d", 7), EIO);
    ck_assert_int_eq(kss_set_error(-EPERM, NULL), -EPERM);
    ck_assert_str_eq(kss_last_error(), "sector 7"); /* stays as it was */
}
END_TEST

/* ---- at the wrong time --------------------------------------------------------------------------------- */

static struct kss_machine *life_machine;
static atomic_int life_stage; /* 1: the machine runs; 2: looked at */
static struct kss_thread *life_thread;

static void while_it_runs(struct kss_machine *m)
{
    struct kss_thread_info_snapshot s[2];
    struct kss_kstack_info k;
    struct kss_frame f[4];
    struct kss_gate gate;
    struct kss_disk_config d = { .name = "d", .path = "/dev/null" };
    struct kss_console_config console = { -1, -1, false };
    char text[32];
    FAILS_SAYING(kss_machine_run(m, user, NULL, NULL), EBUSY, "running");
    FAILS_SAYING(kss_machine_destroy(m), EBUSY, "running");
    FAILS(kss_check(m), EBUSY);
    FAILS(kss_threads(m, s, 2), EBUSY);
    FAILS(kss_thread_find(m, 1) ? 0 : -EBUSY, EBUSY);
    FAILS(kss_kstack_info(life_thread, &k), EBUSY);
    FAILS(kss_backtrace(life_thread, f, 4), EBUSY);
    FAILS(kss_kstack_draw(life_thread, text, sizeof text), EBUSY);
    FAILS(kss_trace_for_each(m, on_event, NULL), EBUSY);
    FAILS(kss_irq_request(m, 40, isr, NULL, "x"), EBUSY);
    FAILS(kss_irq_free(m, 40), EBUSY);
    FAILS(kss_irq_set_priority(m, 40, 1), EBUSY);
    FAILS(kss_irq_mask(m, 40), EBUSY);
    FAILS(kss_irq_unmask(m, 40), EBUSY);
    FAILS(kss_vector_set(m, 0x90, &a_gate), EBUSY);
    FAILS(kss_vector_get(m, 0x90, &gate), EBUSY);
    FAILS(kss_syscall_register(m, 70, on_syscall, "x"), EBUSY);
    FAILS(kss_dsq_create(m, 1), EBUSY);
    FAILS(kss_device_register(m, "x", &no_ops, NULL), EBUSY);
    FAILS(kss_disk_attach(m, &d), EBUSY);
    FAILS(kss_console_attach(m, &console), EBUSY);
    struct kss_machine_stats stats;
    ck_assert_int_eq(kss_machine_stats(m, &stats), 0); /* this may be read at any time */
    ck_assert_uint_eq(stats.threads_live, 2);
}

static void *life_host(void *arg)
{
    (void)arg;
    while (life_stage < 1)
        sched_yield();
    while_it_runs(life_machine);
    life_stage = 2;
    return NULL;
}

static long life_kernel(void *arg)
{
    struct kss_config c = test_config();
    struct kss_machine *other;
    (void)arg;
    life_thread = kss_current();
    FAILS(kss_machine_create(&other, &c), EPERM);
    FAILS(kss_machine_run(life_machine, user, NULL, NULL), EPERM);
    FAILS(kss_machine_destroy(life_machine), EBUSY);
    FAILS(kss_device_register(life_machine, "x", &no_ops, NULL), EBUSY);
    return 0;
}

static long life_main(void *arg)
{
    ck_assert_int_eq(in_kernel(life_kernel, arg), 0);
    life_stage = 1;
    while (life_stage < 2)
        ;
    return 0;
}

START_TEST(while_running_and_after)
{
    struct kss_config c = test_config();
    struct kss_disk_config d = { .name = "d", .path = "/dev/null" };
    struct kss_console_config console = { -1, -1, false };
    pthread_t host;
    life_machine = test_machine(&c);
    ck_assert_int_eq(pthread_create(&host, NULL, life_host, NULL), 0);
    ck_assert_int_eq(test_run(life_machine, life_main, NULL), 0);
    pthread_join(host, NULL);
    FAILS_SAYING(kss_machine_run(life_machine, user, NULL, NULL), EBUSY, "once");
    FAILS(kss_device_register(life_machine, "x", &no_ops, NULL), EBUSY);
    FAILS(kss_disk_attach(life_machine, &d), EBUSY);
    FAILS(kss_console_attach(life_machine, &console), EBUSY);
    ck_assert_int_eq(kss_machine_stop(life_machine), 0);
    ck_assert_int_eq(kss_machine_destroy(life_machine), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("errors_api");
    TCase *t = tcase_create("host");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, no_machine);
    tcase_add_test(t, out_of_range);
    tcase_add_test(t, too_many_disks);
    tcase_add_test(t, nameless);
    tcase_add_test(t, while_running_and_after);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

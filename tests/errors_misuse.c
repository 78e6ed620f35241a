/* SPDX-License-Identifier: MIT */
/* What an experiment's own code can do wrong in the kernel, in its callbacks, and between host threads: each is
   refused or reported, and nothing hangs. */
#define _GNU_SOURCE
#include "errors.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>


/* ---- wait queues --------------------------------------------------------------------------------- */

static struct kss_wait_queue queue = { .lock = KSS_SPINLOCK_INIT("queue") };

static long wait_on_nothing(void *arg)
{
    (void)arg;
    kss_wait_event((struct kss_wait_queue *)NULL, false);
    return 0;
}

static long wait_with_nothing(void *arg)
{
    (void)arg;
    kss_wait_prepare(&queue, NULL);
    return 0;
}

/* Two waiters of one thread, left in the wrong order: none stays linked. */
static long wrong_order(void *arg)
{
    static struct kss_wait_queue second = { .lock = KSS_SPINLOCK_INIT("second") };
    struct kss_waiter a = { 0 }, b = { 0 };
    (void)arg;
    kss_wait_prepare(&queue, &a);
    kss_wait_prepare(&second, &b);
    kss_wait_finish(&a);
    memset(&a, 0x55, sizeof a);
    kss_wait_finish(&b);
    return queue.count || second.count;
}

/* Leaves a waiter that is another thread's alone. */
static struct kss_waiter *sleepers;
static _Atomic bool wake;

static long sleep_there(void *arg)
{
    struct kss_waiter w = { 0 };
    (void)arg;
    sleepers = &w;
    do {
        kss_wait_prepare(&queue, &w);
        if (!wake)
            kss_wait_sleep();
    } while (!wake);
    kss_wait_finish(&w);
    return 0;
}

static long enter_sleep(void *arg)
{
    return in_kernel(sleep_there, arg);
}

static long finish_anothers(void *arg)
{
    (void)arg;
    kss_wait_finish(sleepers);
    ck_assert_uint_eq(queue.count, 1);
    wake = true;
    return kss_wake_up(&queue, 0);
}

static long queue_child(void *arg)
{
    return in_kernel((long (*)(void *))arg, NULL);
}

static long queue_main(void *arg)
{
    int status = -1;
    (void)arg;
    for (int i = 0; i < 2; i++) {
        long pid = kss_spawn(queue_child, i ? (void *)wait_with_nothing : (void *)wait_on_nothing, NULL);
        ck_assert_int_eq(kss_wait(pid, &status), pid);
        ck_assert_msg(KSS_WIFKILLED(status) && KSS_WVECTOR(status) == KSS_KILLED, "status %#x", (unsigned)status);
        ck_assert_int_eq(report_count, i + 1);
        ck_assert_int_eq(reports[i].kind, KSS_REPORT_KERNEL_FAULT);
        ck_assert_ptr_nonnull(strstr(reports[i].message, "kss_wait_prepare()"));
    }
    ck_assert_int_eq(in_kernel(wrong_order, NULL), 0);
    queue.name = "test";
    long pid = kss_spawn(enter_sleep, NULL, NULL);
    test_wait_asleep(pid);
    ck_assert_int_eq(in_kernel(finish_anothers, NULL), 1);
    ck_assert_int_eq(kss_wait(pid, NULL), pid);
    return 0;
}

START_TEST(wait_queues)
{
    struct kss_config c = test_config();
    ck_assert_int_eq(test_boot(&c, queue_main, NULL), 0);
    ck_assert_uint_eq(kss_wake_up(&queue, 0), 0); /* on the host */
}
END_TEST

static long sleep_and_stop(void *arg)
{
    kss_spawn(enter_sleep, NULL, NULL);
    for (;;)
        if (kss_yield() < 0)
            return (long)arg;
}

static long anothers_queue(void *arg)
{
    (void)arg;
    return kss_wake_up(&queue, 0); /* theirs stay asleep */
}

static long anothers_main(void *arg)
{
    int status = -1;
    (void)arg;
    ck_assert_int_eq(in_kernel(anothers_queue, NULL), 0);
    long pid = kss_spawn(enter_sleep, NULL, NULL);
    ck_assert_int_eq(kss_wait(pid, &status), pid);
    ck_assert(KSS_WIFKILLED(status));
    return 0;
}

static struct kss_machine *first;

static void *stop_when_asleep(void *arg)
{
    while (*(volatile unsigned *)&queue.count == 0)
        sched_yield();
    kss_machine_stop(first);
    return arg;
}

START_TEST(queue_of_another_machine)
{
    struct kss_config c = test_config();
    pthread_t host;
    wake = false;
    kss_wait_queue_init(&queue, "of the first");
    first = test_machine(&c);
    ck_assert_int_eq(pthread_create(&host, NULL, stop_when_asleep, NULL), 0);
    ck_assert_int_eq(kss_machine_run(first, sleep_and_stop, NULL, NULL), -ECANCELED);
    pthread_join(host, NULL);
    ck_assert_int_eq(test_boot(&c, anothers_main, NULL), 0);
    ck_assert_int_eq(report_count, 1);
    ck_assert_ptr_nonnull(strstr(reports[0].message, "another machine"));
    ck_assert_int_eq(kss_machine_destroy(first), 0);
}
END_TEST

/* ---- nothing holds a stop back ---------------------------------------------------------------------- */

static void no_eoi(unsigned line, void *arg)
{
    (void)line;
    *(atomic_int *)arg = 1;
}

static long spin(void *arg)
{
    struct kss_machine *m = kss_machine_current();
    (void)arg;
    kss_irq_raise(m, 0, 40); /* in user mode: kills only this process */
    return 0;
}

static long raise_line(void *arg)
{
    return kss_irq_raise(kss_machine_current(), 0, (unsigned)(long)arg);
}

static long mask_stop(void *arg)
{
    struct kss_machine *m = kss_machine_current();
    (void)arg;
    FAILS_SAYING(kss_irq_mask(m, KSS_LINE_STOP), EBUSY, "stop");
    FAILS_SAYING(kss_irq_unmask(m, KSS_IRQ_LINES), EINVAL, "64");
    FAILS_SAYING(kss_irq_set_priority(m, KSS_LINE_STOP, 0), EBUSY, "stop");
    FAILS_SAYING(kss_irq_set_priority(m, KSS_LINE_STOP, 16), EINVAL, "16");
    ck_assert_int_eq(kss_irq_set_priority(m, 40, KSS_IRQ_PRIO_MAX), 0);
    return 0;
}

static atomic_int in_service;

static long held_back_main(void *arg)
{
    (void)arg;
    int status = -1;
    long pid = kss_spawn(spin, NULL, NULL);
    ck_assert_int_eq(kss_wait(pid, &status), pid);
    ck_assert_int_eq(KSS_WVECTOR(status), KSS_VEC_GENERAL_PROTECTION);
    ck_assert_int_eq(in_kernel(mask_stop, NULL), 0);
    in_kernel(raise_line, (void *)40L);
    for (;;)
        ;
}

static void *stop_when_in_service(void *arg)
{
    while (!in_service)
        sched_yield();
    kss_machine_stop(arg);
    return NULL;
}

START_TEST(stop_goes_through)
{
    struct kss_config c = test_config();
    pthread_t host;
    c.watchdog = (struct kss_watchdog){ 0, 0, 0, 0, 0 };
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(kss_irq_request(m, 40, no_eoi, &in_service, "highest"), 0);
    ck_assert_int_eq(pthread_create(&host, NULL, stop_when_in_service, m), 0);
    ck_assert_int_eq(kss_machine_run(m, held_back_main, NULL, NULL), -ECANCELED);
    pthread_join(host, NULL);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

/* ---- vector tables ------------------------------------------------------------------------------------ */

static struct kss_vector_table table;

static long load_tables(void *arg)
{
    struct kss_gate *g = &table.gate[0x95];
    (void)arg;
    table = *kss_vector_table();
    g->type = KSS_GATE_TRAP;
    FAILS_SAYING(kss_vector_table_load(&table), EINVAL, "149");
    g->type = (enum kss_gate_type)7;
    FAILS_SAYING(kss_vector_table_load(&table), EINVAL, "type 7");
    g->type = KSS_GATE_NONE;
    g->stack = 8;
    FAILS_SAYING(kss_vector_table_load(&table), EINVAL, "stack 8");
    g->stack = 4; /* none has asked for it before */
    ck_assert_int_eq(kss_vector_table_load(&table), 0);
    g->stack = 0;
    *g = (struct kss_gate){ .type = KSS_GATE_TRAP, .privilege = KSS_PRIV_USER }; /* in place: nobody checks it */
    return 0;
}

static long table_main(void *arg)
{
    (void)arg;
    ck_assert_int_eq(in_kernel(load_tables, NULL), 0);
    return kss_software_interrupt(0x95, 0);
}

START_TEST(gate_without_handler)
{
    struct kss_config c = test_config();
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(kss_machine_run(m, table_main, NULL, NULL), -EFAULT);
    ck_assert_int_eq(report_count, 1);
    ck_assert_int_eq(reports[0].kind, KSS_REPORT_DOUBLE_FAULT);
    ck_assert_ptr_nonnull(strstr(reports[0].message, "149"));
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

/* ---- reports -------------------------------------------------------------------------------------------- */

static int calls;
static volatile int *volatile bad_pointer;

NO_UBSAN static void bad_on_report(const struct kss_report *r, void *arg)
{
    (void)r;
    calls++;
    if (arg)
        kss_exit(1);
    *bad_pointer = 1;
}

NO_UBSAN static long do_fault(void *arg)
{
    *(volatile int *)arg = 1;
    return 0;
}

START_TEST(on_report_that_goes_wrong)
{
    struct kss_config c = test_config();
    c.on_report = bad_on_report;
    c.report_arg = _i ? &c : NULL;
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(kss_machine_run(m, do_fault, NULL, NULL), -EFAULT);
    ck_assert_int_eq(calls, 1); /* what it did is told on standard error */
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

#define WITH(change, word)                                                    \
    do {                                                                      \
        memset(&r, 0, sizeof r);                                              \
        r.change;                                                             \
        FAILS_SAYING(kss_report_format(&r, text, sizeof text), EINVAL, word); \
        FAILS_SAYING(kss_report_json(&r, text, sizeof text), EINVAL, word);   \
    } while (0)

START_TEST(made_up_reports)
{
    static struct kss_report r;
    static char text[8192];
    WITH(frames = -1, "frames");
    WITH(frames = KSS_REPORT_FRAMES + 1, "33");
    WITH(other_frames = KSS_REPORT_OTHER_FRAMES + 1, "17");
    WITH(events = KSS_REPORT_EVENTS + 1, "17");
    WITH(events = -1, "-1");
    memset(&r, 0x80, sizeof r);
    FAILS(kss_report_format(&r, text, sizeof text), EINVAL);
    memset(&r, 0, sizeof r);
    memset(r.message, 'x', sizeof r.message);
    FAILS_SAYING(kss_report_format(&r, text, sizeof text), EINVAL, "string");
    memset(&r, 0, sizeof r);
    r.frames = KSS_REPORT_FRAMES;
    r.events = KSS_REPORT_EVENTS;
    r.kind = (enum kss_report_kind)999;
    r.action = (enum kss_report_action)999;
    r.stack = (enum kss_stack_kind)999;
    ck_assert_int_gt(kss_report_format(&r, text, sizeof text), 0);
    ck_assert_int_gt(kss_report_json(&r, text, sizeof text), 0);
    r.frame[31].kind = (enum kss_frame_kind)3;
    FAILS(kss_report_format(&r, text, sizeof text), EINVAL);
}
END_TEST

/* ---- disks ------------------------------------------------------------------------------------------------ */

static long slow_read(void *arg)
{
    char byte[512];
    return kss_read((int)(long)arg, byte, sizeof byte);
}

static long slow_main(void *arg)
{
    long fd = kss_open("slow", O_RDONLY), pid = kss_spawn(slow_read, (void *)fd, NULL);
    test_wait_asleep(pid);
    kss_machine_stop(kss_machine_current());
    for (;;)
        if (kss_yield() < 0)
            return (long)arg;
}

/* A transfer that takes 500 s: neither a stop nor destroying waits for it. */
START_TEST(slow_disk)
{
    struct kss_config c = test_config();
    char path[] = "errors_misuse.XXXXXX", data[512] = "";
    int fd = mkstemp(path);
    ck_assert(fd >= 0 && write(fd, data, sizeof data) == sizeof data);
    struct kss_disk_config d = { .name = "slow", .path = path, .bytes_per_second = 1 };
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(kss_disk_attach(m, &d), 0);
    unlink(path);
    close(fd);
    ck_assert_int_eq(kss_machine_run(m, slow_main, NULL, NULL), -ECANCELED);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

START_TEST(pipe_as_a_disk)
{
    struct kss_config c = test_config();
    char path[] = "errors_misuse.XXXXXX";
    struct kss_disk_config d = { .name = "d", .path = path };
    struct kss_machine *m = test_machine(&c);
    int fd = mkstemp(path);
    ck_assert(fd >= 0 && unlink(path) == 0 && mkfifo(path, 0600) == 0);
    close(fd);
    FAILS_SAYING(kss_disk_attach(m, &d), ESPIPE, "pipe");
    d.create = true;
    FAILS_SAYING(kss_disk_attach(m, &d), ESPIPE, "pipe");
    unlink(path);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

/* ---- destroyed while others have the handle ------------------------------------------------------------------ */

static _Atomic(struct kss_machine *) shared;
static atomic_int over;

/* As a host signal handler or a device thread would: with a handle that may be gone. */
static void *stop_and_raise(void *arg)
{
    while (!over) {
        struct kss_machine *m = shared;
        int r = kss_irq_raise(m, 0, 40), s = kss_machine_stop(m);
        ck_assert(r == 0 || r == -EINVAL);
        ck_assert(s == 0 || s == -EINVAL);
    }
    return arg;
}

static void *destroy_too(void *arg)
{
    while (!over) {
        int r = kss_machine_destroy(shared);
        ck_assert(r == 0 || r == -EINVAL || r == -EBUSY);
    }
    return arg;
}

static long forever(void *arg)
{
    for (;;)
        if (kss_yield() < 0)
            return (long)arg;
}

START_TEST(destroyed_meanwhile)
{
    struct kss_config c = test_config();
    pthread_t host[3];
    c.max_threads = 16;
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&host[i], NULL, i == 2 && _i ? destroy_too : stop_and_raise, NULL), 0);
    for (int i = 0; i < 200; i++) {
        struct kss_machine *m;
        ck_assert_int_eq(kss_machine_create(&m, &c), 0);
        shared = m;
        int r = i % 2 ? kss_machine_run(m, forever, NULL, NULL) : -EINVAL;
        ck_assert_msg(r == -ECANCELED || r == -EINVAL || r == -EBUSY, "%d", r);
        r = kss_machine_destroy(m);
        ck_assert_msg(r == 0 || (_i && r == -EINVAL), "%d", r);
    }
    over = 1;
    for (int i = 0; i < 3; i++)
        pthread_join(host[i], NULL);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("errors_misuse");
    TCase *t = tcase_create("misuse");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, wait_queues);
    tcase_add_test(t, queue_of_another_machine);
    tcase_add_test(t, stop_goes_through);
    tcase_add_test(t, gate_without_handler);
    tcase_add_loop_test(t, on_report_that_goes_wrong, 0, 2);
    tcase_add_test(t, made_up_reports);
    tcase_add_test(t, slow_disk);
    tcase_add_test(t, pipe_as_a_disk);
    tcase_add_loop_test(t, destroyed_meanwhile, 0, 2);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

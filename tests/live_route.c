/* SPDX-License-Identifier: MIT */
/* Where devices' interrupts go, and handlers that are taken away while others are in them. */
#include "harness.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <unistd.h>

#define LINE 40
#define DISK_TRANSFERS 6

static struct kss_machine *machine;

static struct kss_machine *build(unsigned cpus)
{
    struct kss_config c = test_config();
    c.cpus = cpus;
    return machine = test_machine(&c);
}

/* ---- sets ------------------------------------------------------------------------------------------------- */

START_TEST(sets_of_cpus)
{
    struct kss_cpumask some = kss_cpumask_of(1), got;
    struct kss_machine *m = build(2);
    kss_cpumask_set(&some, 200); /* one it does not have: left out */
    ck_assert_int_eq(kss_irq_get_affinity(m, LINE, &got), 0);
    ck_assert_uint_eq(kss_cpumask_count(&got), 2);
    ck_assert_int_eq(kss_irq_route(m, LINE), 0);
    ck_assert_int_eq(kss_irq_set_affinity(m, LINE, &some), 0);
    ck_assert_int_eq(kss_irq_get_affinity(m, LINE, &got), 0);
    ck_assert_uint_eq(kss_cpumask_count(&got), 1);
    ck_assert_int_eq(kss_irq_route(m, LINE), 1);
    some = kss_cpumask_of(2);
    ck_assert_int_eq(kss_irq_set_affinity(m, LINE, &some), -EINVAL);
    ck_assert_ptr_nonnull(strstr(kss_last_error(), "none of the machine's 2 CPUs"));
    ck_assert_int_eq(kss_irq_set_affinity(m, KSS_LINE_TIMER, &got), -EBUSY);
    ck_assert_int_eq(kss_irq_set_affinity(m, KSS_IRQ_LINES, &got), -EINVAL);
    ck_assert_int_eq(kss_irq_set_affinity(m, LINE, NULL), -EINVAL);
    ck_assert_int_eq(kss_irq_get_affinity(m, LINE, NULL), -EINVAL);
    ck_assert_int_eq(kss_irq_route(m, KSS_IRQ_LINES), -EINVAL);
    ck_assert_int_eq(kss_irq_route(NULL, LINE), -EINVAL);
    ck_assert_int_eq(kss_irq_route(m, LINE), 1); /* errors changed nothing */
    kss_machine_destroy(m);
}
END_TEST

/* ---- a disk's line ------------------------------------------------------------------------------------------ */

static uint64_t disk_interrupts(unsigned cpu)
{
    struct kss_irq_stats s;
    ck_assert_int_eq(kss_irq_stats(machine, cpu, KSS_LINE_DISK, &s), 0);
    return s.raised;
}

static void transfer(void)
{
    static unsigned char data[512 * DISK_TRANSFERS];
    int fd = (int)kss_open("disk0", O_RDONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(kss_read(fd, data, sizeof data), sizeof data);
    kss_close(fd);
}

static long to_cpu_1(void *arg)
{
    struct kss_cpumask one = kss_cpumask_of(1);
    (void)arg;
    return kss_irq_set_affinity(machine, KSS_LINE_DISK, &one);
}

static long cpu_1_down(void *arg)
{
    (void)arg;
    return kss_cpu_down(1);
}

static long cpu_1_up(void *arg)
{
    (void)arg;
    return kss_cpu_up(1);
}

/* Where the line goes shows in each CPU's own account. */
static long disk_main(void *arg)
{
    uint64_t before[2], now;
    (void)arg;
    transfer();
    ck_assert_uint_ge(before[0] = disk_interrupts(0), DISK_TRANSFERS);
    ck_assert_uint_eq(disk_interrupts(1), 0);
    ck_assert_int_eq(in_kernel(to_cpu_1, NULL), 0);
    transfer();
    ck_assert_uint_eq(disk_interrupts(0), before[0]);
    ck_assert_uint_ge(before[1] = disk_interrupts(1), DISK_TRANSFERS);
    ck_assert_int_eq(in_kernel(cpu_1_down, NULL), 0);
    transfer(); /* its CPU is out: to another one */
    ck_assert_uint_ge(now = disk_interrupts(0), before[0] + DISK_TRANSFERS);
    ck_assert_uint_eq(disk_interrupts(1), before[1]);
    ck_assert_int_eq(in_kernel(cpu_1_up, NULL), 0);
    transfer(); /* and back */
    ck_assert_uint_eq(disk_interrupts(0), now);
    ck_assert_uint_ge(disk_interrupts(1), before[1] + DISK_TRANSFERS);
    return 0;
}

START_TEST(disk_goes_where_it_is_sent)
{
    char path[] = "/tmp/kss-test-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(ftruncate(fd, 512 * DISK_TRANSFERS), 0);
    close(fd);
    struct kss_disk_config d = { .name = "disk0", .path = path, .max_transfer = 512 };
    struct kss_machine *m = build(2);
    ck_assert_msg(kss_disk_attach(m, &d) == 0, "%s", kss_last_error());
    ck_assert_int_eq(test_run(m, disk_main, NULL), 0);
    kss_machine_destroy(m);
    unlink(path);
}
END_TEST

/* ---- a handler is taken away ---------------------------------------------------------------------------------- */

static _Atomic int in_handler, go_on, left_handler;
static _Atomic int handler_arg = 1;

/* On CPU 1, until the other one has begun to free the line; what it uses must be there to its end. */
static void slow_isr(unsigned line, void *arg)
{
    in_handler = 1;
    while (!go_on)
        ;
    for (int i = 0; i < 20000; i++)
        ck_assert_int_eq(*(_Atomic int *)arg, 1);
    left_handler = 1;
    kss_irq_eoi(line);
}

static long free_it(void *arg)
{
    (void)arg;
    ck_assert_int_eq(kss_irq_raise(machine, 1, LINE), 0);
    while (!in_handler)
        ;
    go_on = 1;
    ck_assert_int_eq(kss_irq_free(machine, LINE), 0);
    ck_assert_int_eq(left_handler, 1); /* it is over */
    handler_arg = 0;                   /* and what it used may go */
    return kss_irq_free(machine, LINE);
}

static long free_main(void *arg)
{
    struct kss_cpumask one = kss_cpumask_of(0);
    (void)arg;
    ck_assert_int_eq(kss_setaffinity(0, &one), 0);
    return in_kernel(free_it, NULL) == -ENOENT ? 0 : 1;
}

START_TEST(free_waits_for_the_handler)
{
    struct kss_machine *m = build(2);
    ck_assert_int_eq(kss_irq_request(m, LINE, slow_isr, &handler_arg, "slow"), 0);
    ck_assert_int_eq(test_run(m, free_main, NULL), 0);
    kss_machine_destroy(m);
}
END_TEST

static _Atomic int freed_in_handler;

static void free_isr(unsigned line, void *arg)
{
    (void)arg;
    freed_in_handler = kss_irq_free(machine, line);
    kss_irq_eoi(line);
}

static long misuse(void *arg)
{
    struct kss_spinlock lock = KSS_SPINLOCK_INIT("a lock");
    (void)arg;
    ck_assert_int_eq(kss_irq_raise(machine, (unsigned)kss_cpu_id(), LINE), 0);
    kss_irq_disable();
    ck_assert_int_eq(kss_irq_free(machine, LINE), -EDEADLK);
    kss_irq_enable();
    bool on = kss_spin_lock(&lock);
    ck_assert_int_eq(kss_irq_free(machine, LINE), -EDEADLK);
    kss_spin_unlock(&lock, on);
    ck_assert_ptr_nonnull(strstr(kss_last_error(), "spinlock held"));
    return kss_irq_free(machine, LINE);
}

static long misuse_main(void *arg)
{
    struct kss_cpumask one = kss_cpumask_of(0);
    ck_assert_int_eq(kss_setaffinity(0, &one), 0);
    return in_kernel(misuse, arg);
}

START_TEST(free_where_it_could_wait_for_itself)
{
    struct kss_machine *m = build(1);
    ck_assert_int_eq(kss_irq_request(m, LINE, free_isr, NULL, "frees itself"), 0);
    ck_assert_int_eq(test_run(m, misuse_main, NULL), 0);
    ck_assert_int_eq(freed_in_handler, -EDEADLK);
    kss_machine_destroy(m);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_route");
    TCase *t = tcase_create("route");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, sets_of_cpus);
    tcase_add_test(t, disk_goes_where_it_is_sent);
    tcase_add_test(t, free_waits_for_the_handler);
    tcase_add_test(t, free_where_it_could_wait_for_itself);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

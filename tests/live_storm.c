/* SPDX-License-Identifier: MIT */
/*
 * Interrupts faster than they can be handled: the account of each line on each CPU, the order in which they come, and
 * storms, which are told and held back.
 */
#include "harness.h"

#include <pthread.h>
#include <stdatomic.h>

#define LOW 40
#define MIDDLE 41
#define HIGH 42
#define LINES 3
#define DEVICES 4

static struct kss_machine *machine;
static unsigned cpus;
static atomic_bool over;

/* KSS_TEST_CPUS of them, where the host carries so many. */
static void build(struct kss_config *c)
{
    const char *n = getenv("KSS_TEST_CPUS");
    c->cpus = cpus = n ? (unsigned)atoi(n) : 1;
    machine = test_machine(c);
    over = false;
}

static struct kss_irq_stats stats_of(unsigned cpu, unsigned line)
{
    struct kss_irq_stats s;
    ck_assert_int_eq(kss_irq_stats(machine, cpu, line, &s), 0);
    return s;
}

/* ---- REQ M7 I5: several devices at once, masked and unmasked, off and on ------------------------------------------ */

static const unsigned priority[LINES] = { 3, 7, 11 };
static _Atomic unsigned long raised[KSS_CPUS_MAX][LINES], handled[KSS_CPUS_MAX][LINES];
static _Atomic unsigned seen_pending, seen_handled, wrong_order;

static void *device(void *arg)
{
    unsigned cpu = (unsigned)(size_t)arg % cpus;
    for (unsigned i = (unsigned)(size_t)arg; !over; i++) {
        ck_assert_int_eq(kss_irq_raise(machine, cpu, LOW + i % LINES), 0);
        raised[cpu][i % LINES]++;
    }
    return NULL;
}

/* Until the end of interrupt the line itself, and what has no higher priority, is held back: REQ I5. */
static void count(unsigned line, void *arg)
{
    unsigned n = line - LOW, cpu = (unsigned)kss_cpu_id();
    (void)arg;
    struct kss_irq_stats s = stats_of(cpu, line);
    if (!s.in_service)
        wrong_order++;
    if (cpu == 0) {
        for (unsigned higher = n + 1; higher < LINES; higher++)
            if ((seen_pending >> higher & 1) && !(seen_handled >> higher & 1))
                wrong_order++; /* it was pending when interrupts were turned on, and of higher priority */
        seen_handled |= 1u << n;
    }
    handled[cpu][n]++;
    kss_irq_eoi(line);
}

/* All lines are pending behind a closed gate; then it is opened. */
static void open_gate(void)
{
    kss_irq_disable();
    unsigned pending = 0;
    while (pending != (1u << LINES) - 1)
        for (unsigned n = 0; n < LINES; n++)
            pending |= stats_of(0, LOW + n).pending << n;
    seen_handled = 0;
    seen_pending = pending;
    kss_irq_enable();
    seen_pending = 0;
}

static long mask_storm(void *arg)
{
    struct kss_irq_stats before, after;
    (void)arg;
    kss_preempt_disable();
    for (int round = 0; round < 100; round++) {
        open_gate();
        unsigned line = LOW + (unsigned)round % LINES;
        ck_assert_int_eq(kss_irq_mask(machine, line), 0);
        before = stats_of(0, line);
        for (unsigned long n = handled[0][(line - LOW + 1) % LINES]; handled[0][(line - LOW + 1) % LINES] < n + 3;)
            ; /* others come */
        after = stats_of(0, line);
        ck_assert(after.masked && after.delivered == before.delivered); /* this one does not */
        ck_assert_int_eq(kss_irq_unmask(machine, line), 0);
    }
    kss_preempt_enable();
    return 0;
}

static long mask_main(void *arg)
{
    struct kss_cpumask one = kss_cpumask_of(0);
    ck_assert_int_eq(kss_setaffinity(0, &one), 0);
    return in_kernel(mask_storm, arg);
}

START_TEST(account_of_several_devices) /* REQ M7 I5 */
{
    struct kss_config c = test_config();
    pthread_t thread[DEVICES];
    c.watchdog.irq_storm_hz = 0;
    build(&c);
    for (unsigned n = 0; n < LINES; n++) {
        ck_assert_int_eq(kss_irq_request(machine, LOW + n, count, NULL, "device"), 0);
        ck_assert_int_eq(kss_irq_set_priority(machine, LOW + n, priority[n]), 0);
    }
    for (size_t i = 0; i < DEVICES; i++) /* more of them than CPUs: several raise on the same one */
        ck_assert_int_eq(pthread_create(&thread[i], NULL, device, (void *)i), 0);
    ck_assert_int_eq(test_run(machine, mask_main, NULL), 0);
    over = true;
    for (int i = 0; i < DEVICES; i++)
        pthread_join(thread[i], NULL);
    ck_assert_uint_eq(wrong_order, 0);
    for (unsigned cpu = 0; cpu < cpus; cpu++) {
        for (unsigned n = 0; n < LINES; n++) {
            struct kss_irq_stats s = stats_of(cpu, LOW + n);
            ck_assert_uint_eq(s.raised, raised[cpu][n]);
            ck_assert_uint_eq(s.raised, s.delivered + s.pending + s.lost);
            /* a storm that the machine's end has found is ended without its handler */
            ck_assert(s.delivered >= handled[cpu][n] && s.eoi <= s.delivered && s.delivered - s.eoi <= 1);
            ck_assert_uint_eq(s.storms, 0);
            ck_assert(cpu || s.lost > 0);
        }
    }
    kss_machine_destroy(machine);
}
END_TEST

/* ---- spurious vectors, and one that nothing masks --------------------------------------------------------------------- */

static long raise_unknown(void *arg)
{
    (void)arg;
    kss_irq_disable();
    for (int i = 0; i < 10; i++)
        kss_irq_raise(machine, (unsigned)kss_cpu_id(), HIGH);
    struct kss_irq_stats s = stats_of((unsigned)kss_cpu_id(), HIGH);
    ck_assert(s.pending == 1 && s.lost == 9 && s.unhandled == 0);
    kss_irq_enable();
    s = stats_of(0, HIGH);
    ck_assert(s.delivered == 1 && s.unhandled == 1 && s.eoi == 1 && s.lost == 9 && !s.in_service);
    return 0;
}

static long spurious_main(void *arg)
{
    struct kss_cpumask one = kss_cpumask_of(0);
    ck_assert_int_eq(kss_setaffinity(0, &one), 0);
    return in_kernel(raise_unknown, arg);
}

START_TEST(spurious_ones_add_up) /* REQ M7 */
{
    struct kss_config c = test_config();
    report_count = 0;
    build(&c);
    ck_assert_int_eq(test_run(machine, spurious_main, NULL), 0);
    ck_assert_int_eq(report_count, 1);
    ck_assert_int_eq(reports[0].kind, KSS_REPORT_SPURIOUS);
    kss_machine_destroy(machine);
}
END_TEST

/* ---- storms --------------------------------------------------------------------------------------------------------- */

static _Atomic unsigned long runs;
static unsigned long spin; /* how long the handler takes, in rounds of a loop */

static void raise_again(unsigned line, void *arg)
{
    (void)arg;
    runs++;
    for (volatile unsigned long i = 0; i < spin; i++)
        ;
    kss_irq_raise(machine, (unsigned)kss_cpu_id(), line);
    kss_irq_eoi(line);
}

static long start_storm(void *arg)
{
    (void)arg;
    return kss_irq_raise(machine, (unsigned)kss_cpu_id(), LOW);
}

static uint64_t ticks(void)
{
    struct kss_machine_stats s;
    kss_machine_stats(machine, &s);
    return s.total.ticks;
}

/* User mode gets on, and so do ticks and sleepers, while the storm lasts; the end of this is the machine's. */
static long storm_main(void *arg)
{
    struct kss_cpumask one = kss_cpumask_of(0);
    (void)arg;
    ck_assert_int_eq(kss_setaffinity(0, &one), 0);
    ck_assert_int_eq(in_kernel(start_storm, NULL), 0);
    uint64_t from = ticks();
    unsigned long before = runs;
    while (ticks() < from + 60)
        ;
    kss_sleep(1000000);
    ck_assert_uint_gt(runs, before); /* the storm has gone on as well */
    return 7;
}

static void storm(unsigned line_priority, unsigned long rounds)
{
    struct kss_config c = test_config();
    c.tick_hz = 100;
    report_count = 0;
    runs = 0;
    spin = rounds;
    build(&c);
    ck_assert_int_eq(kss_irq_request(machine, LOW, raise_again, NULL, "wild"), 0);
    ck_assert_int_eq(kss_irq_set_priority(machine, LOW, line_priority), 0);
    ck_assert_int_eq(test_run(machine, storm_main, NULL) >> 8, 7);
    ck_assert_int_ge(report_count, 1);
    ck_assert_int_eq(reports[0].kind, KSS_REPORT_IRQ_STORM);
    ck_assert_int_eq(reports[0].action, KSS_ACTION_CONTINUE);
    ck_assert_uint_eq(reports[0].line, LOW);
    ck_assert_ptr_nonnull(strstr(reports[0].message, "line 40 (wild)"));
    ck_assert_ptr_nonnull(strstr(reports[0].message, "CPU 0"));
    struct kss_irq_stats s = stats_of(0, LOW);
    ck_assert_uint_eq(s.storms, report_count); /* each storm once, however often it was held back */
    ck_assert_uint_gt(s.held_ns, 0);
    ck_assert_uint_eq(s.raised, s.delivered + s.pending + s.lost);
    kss_machine_destroy(machine);
}

START_TEST(handler_raises_its_line)
{
    storm(8, 0);
}
END_TEST

START_TEST(storm_above_the_tick)
{
    storm(KSS_IRQ_PRIO_MAX, 0);
}
END_TEST

/* Not many of them, but nothing else fits between. */
START_TEST(storm_of_long_handlers)
{
    storm(8, 500000);
}
END_TEST

static void plain(unsigned line, void *arg)
{
    (void)arg;
    runs++;
    kss_irq_eoi(line);
}

static void *wild_device(void *arg)
{
    (void)arg;
    while (!over)
        kss_irq_raise(machine, 0, LOW);
    return NULL;
}

static long until_told(void *arg)
{
    (void)arg;
    while (!*(volatile int *)&report_count)
        ;
    uint64_t from = ticks();
    while (ticks() < from + 50)
        ;
    return 0;
}

START_TEST(device_storms)
{
    struct kss_config c = test_config();
    pthread_t thread[2];
    c.watchdog.irq_storm_hz = 2000; /* what any host carries */
    c.tick_hz = 100;
    report_count = 0;
    build(&c);
    ck_assert_int_eq(kss_irq_request(machine, LOW, plain, NULL, "wild"), 0);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&thread[i], NULL, wild_device, NULL), 0);
    ck_assert_int_eq(test_run(machine, until_told, NULL), 0);
    over = true;
    for (int i = 0; i < 2; i++)
        pthread_join(thread[i], NULL);
    ck_assert_int_eq(reports[0].kind, KSS_REPORT_IRQ_STORM);
    struct kss_irq_stats s = stats_of(0, LOW);
    ck_assert_uint_eq(s.raised, s.delivered + s.pending + s.lost);
    ck_assert(s.storms >= 1 && s.held_ns > 0 && s.lost > 0);
    kss_machine_destroy(machine);
}
END_TEST

/* A thread that raises on its own CPU gets on, however fast it is. */
static long raise_often(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100000; i++)
        kss_irq_raise(machine, (unsigned)kss_cpu_id(), LOW);
    return 0;
}

static long often_main(void *arg)
{
    struct kss_cpumask one = kss_cpumask_of(0);
    ck_assert_int_eq(kss_setaffinity(0, &one), 0);
    return in_kernel(raise_often, arg);
}

START_TEST(thread_raises_often)
{
    struct kss_config c = test_config();
    c.watchdog.irq_storm_hz = 1000;
    report_count = 0;
    runs = 0;
    build(&c);
    ck_assert_int_eq(kss_irq_request(machine, LOW, plain, NULL, "often"), 0);
    ck_assert_int_eq(test_run(machine, often_main, NULL), 0);
    ck_assert_int_eq(report_count, 0);
    ck_assert_uint_eq(runs, 100000);
    ck_assert_uint_eq(stats_of(0, LOW).held_ns, 0);
    kss_machine_destroy(machine);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_storm");
    TCase *t = tcase_create("storm");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, account_of_several_devices);
    tcase_add_test(t, spurious_ones_add_up);
    tcase_add_test(t, handler_raises_its_line);
    tcase_add_test(t, storm_above_the_tick);
    tcase_add_test(t, storm_of_long_handlers);
    tcase_add_test(t, device_storms);
    tcase_add_test(t, thread_raises_often);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

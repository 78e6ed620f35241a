/* SPDX-License-Identifier: MIT */
/* Latencies: handlers of every vector, interrupts off, preemption off, and where that was longest. */
#include "harness.h"

#include <stdatomic.h>

#define LINE 40
#define CALLS 500
#define LONG_TICKS 200 /* of 1 ms: longer than a busy host stops a CPU anywhere else */

static struct kss_machine *machine;
static struct kss_latency_summary summary;
static char text[20000];

static void build(bool on)
{
    const char *n = getenv("KSS_TEST_CPUS");
    struct kss_config c = test_config();
    c.cpus = n ? (unsigned)atoi(n) : 1;
    c.latency = on;
    c.tick_hz = 1000;
    machine = test_machine(&c);
}

static void isr(unsigned line, void *arg)
{
    (void)arg;
    kss_irq_eoi(line);
}

static bool in_order(const struct kss_latency *l)
{
    return l->p50_ns <= l->p90_ns && l->p90_ns <= l->p99_ns && l->p99_ns <= l->p999_ns && l->p999_ns <= l->max_ns;
}

/* ---- every vector ------------------------------------------------------------------------------------------ */

static long nothing(void *arg)
{
    return (long)arg;
}

static long raise_line(void *arg)
{
    (void)arg;
    return kss_irq_raise(machine, (unsigned)kss_cpu_id(), LINE);
}

static long vectors_main(void *arg)
{
    struct kss_cpumask one = kss_cpumask_of(0);
    ck_assert_int_eq(kss_setaffinity(0, &one), 0);
    for (long i = 0; i < CALLS; i++) {
        ck_assert_int_eq(in_kernel(nothing, (void *)i), i);
        ck_assert_int_eq(in_kernel(raise_line, arg), 0);
        __asm__ volatile("int3"); /* handled below */
    }
    return 0;
}

static _Atomic unsigned breakpoints;

static void on_breakpoint(struct kss_trap_frame *tf, void *arg)
{
    (void)tf;
    (void)arg;
    breakpoints++;
}

static const struct kss_latency_vector *row_of(unsigned vector)
{
    for (unsigned i = 0; i < summary.vectors; i++)
        if (summary.vector[i].vector == vector)
            return &summary.vector[i];
    return NULL;
}

START_TEST(every_vector) /* REQ I7 */
{
    struct kss_gate gate = { on_breakpoint, NULL, KSS_GATE_INTERRUPT, KSS_PRIV_USER, 0 };
    struct kss_latency l, to, handler;
    struct kss_cpu_stats cpu;
    build(true);
    ck_assert_int_eq(kss_irq_request(machine, LINE, isr, NULL, "line"), 0);
    ck_assert_int_eq(kss_vector_set(machine, KSS_VEC_BREAKPOINT, &gate), 0);
    ck_assert_int_eq(test_run(machine, vectors_main, NULL), 0);
    ck_assert_int_eq(kss_machine_cpu_stats(machine, 0, &cpu), 0);
    ck_assert_int_eq(kss_vector_latency(machine, 0, KSS_VEC_SYSCALL, &l), 0);
    ck_assert(l.count >= 2 * CALLS && l.count <= cpu.syscalls && in_order(&l) && l.p50_ns > 0);
    ck_assert_int_eq(kss_vector_latency(machine, 0, KSS_VEC_BREAKPOINT, &l), 0);
    ck_assert_uint_eq(breakpoints, CALLS);
    ck_assert(l.count == CALLS && in_order(&l));
    ck_assert_int_eq(kss_irq_latency(machine, 0, LINE, &to, &handler), 0);
    /* one that another interrupt delivers, while the time of its event is being noted, has none */
    ck_assert(to.count <= CALLS && to.count > CALLS - 20);
    ck_assert_uint_eq(handler.count, CALLS);
    ck_assert_int_eq(kss_vector_latency(machine, 0, KSS_VEC_IRQ + LINE, &l), 0);
    ck_assert_uint_eq(l.count, CALLS);
    ck_assert_int_eq(kss_latency_read(machine, 0, &summary), 0);
    ck_assert_uint_eq(row_of(KSS_VEC_IRQ + LINE)->to_handler.count, to.count);
    ck_assert_str_eq(row_of(KSS_VEC_IRQ + LINE)->name, "line");
    ck_assert_uint_eq(row_of(KSS_VEC_BREAKPOINT)->handler.count, CALLS);
    ck_assert_uint_gt(row_of(KSS_VEC_IRQ + KSS_LINE_TIMER)->handler.count, 0);
    ck_assert_uint_ge(summary.irqs_off.time.count, 4 * CALLS); /* each call, each interrupt */
    ck_assert(in_order(&summary.irqs_off.time));
    int n = kss_latency_format(&summary, text, sizeof text);
    ck_assert(n > 0 && (size_t)n == strlen(text));
    ck_assert_ptr_nonnull(strstr(text, "interrupts off longest, by thread"));
    ck_assert_ptr_nonnull(strstr(text, "to handler"));
    char few[40];
    ck_assert_int_eq(kss_latency_format(&summary, few, sizeof few), n);
    ck_assert_uint_eq(strlen(few), sizeof few - 1);
    ck_assert_int_eq(kss_latency_format(&summary, NULL, 0), n);
    kss_machine_destroy(machine);
}
END_TEST

/* ---- the place that was worst --------------------------------------------------------------------------------- */

static struct kss_spinlock lock = KSS_SPINLOCK_INIT("long");

/* Ticks that were raised: they are while nobody takes them. */
static uint64_t raised(void)
{
    struct kss_irq_stats s;
    kss_irq_stats(machine, (unsigned)kss_cpu_id(), KSS_LINE_TIMER, &s);
    return s.raised;
}

static void take_long(void)
{
    uint64_t from = raised();
    while (raised() < from + LONG_TICKS)
        ;
}

KEEP_FRAME static long keep_interrupts_off(void *arg)
{
    bool on = kss_irq_save();
    take_long();
    kss_irq_restore(on);
    return (long)arg;
}

KEEP_FRAME static long keep_a_lock(void *arg)
{
    bool on = kss_spin_lock(&lock);
    take_long();
    kss_spin_unlock(&lock, on);
    return (long)arg;
}

KEEP_FRAME static long keep_preemption_off(void *arg)
{
    kss_preempt_disable();
    take_long();
    kss_preempt_enable();
    return (long)arg;
}

KEEP_FRAME static void keep_in_handler(unsigned line, void *arg)
{
    (void)arg;
    take_long();
    kss_irq_eoi(line);
}

static long worst_main(void *arg)
{
    struct kss_cpumask one = kss_cpumask_of(0);
    ck_assert_int_eq(kss_setaffinity(0, &one), 0);
    for (int i = 0; i < 50; i++)
        in_kernel(nothing, NULL);
    in_kernel((long (*)(void *))arg, NULL);
    return kss_gettid();
}

static const struct kss_latency_span *worst(long (*fn)(void *))
{
    build(true);
    ck_assert_int_eq(kss_irq_request(machine, LINE, keep_in_handler, NULL, "long"), 0);
    int status = test_run(machine, worst_main, (void *)fn);
    ck_assert_int_eq(kss_latency_read(machine, 0, &summary), 0);
    kss_latency_format(&summary, text, sizeof text);
    const struct kss_latency_span *s = fn == keep_preemption_off ? &summary.preempt_off : &summary.irqs_off;
    ck_assert_msg(s->tid == status >> 8, "%s", text);
    ck_assert_uint_gt(s->time.max_ns, 0);
    kss_machine_destroy(machine);
    return s;
}

START_TEST(place_that_was_worst) /* REQ I7 */
{
    static long (*const by[])(void *) = { keep_interrupts_off, keep_a_lock, keep_preemption_off };
    static const char *const name[] = { "keep_interrupts_off", "keep_a_lock", "keep_preemption_off" };
    for (int i = 0; i < 3; i++) {
        const struct kss_latency_span *s = worst(by[i]);
        ck_assert_msg(!strcmp(s->from.symbol, name[i]) && !strcmp(s->to.symbol, name[i]), "%s", text);
        ck_assert(s->from.pc && s->to.pc && s->to.offset > s->from.offset);
        ck_assert_ptr_nonnull(strstr(text, name[i]));
    }
}
END_TEST

/* A handler has them off from the trap's entry to its exit. */
START_TEST(handler_that_was_worst)
{
    const struct kss_latency_span *s = worst(raise_line);
    ck_assert_msg(!s->from.pc && s->from.vector == KSS_VEC_IRQ + LINE, "%s", text);
    ck_assert_msg(!s->to.pc && s->to.vector == KSS_VEC_IRQ + LINE, "%s", text);
    ck_assert_ptr_nonnull(strstr(text, "the entry of "));
}
END_TEST

/* ---- off, and misuse --------------------------------------------------------------------------------------------- */

static long off_main(void *arg)
{
    in_kernel(keep_preemption_off, arg);
    return 0;
}

START_TEST(off_by_default)
{
    struct kss_latency l;
    build(false);
    ck_assert_int_eq(test_run(machine, off_main, NULL), 0);
    ck_assert_int_eq(kss_latency_read(machine, 0, &summary), -ENODATA);
    ck_assert_ptr_nonnull(strstr(kss_last_error(), "kss_config.latency is off"));
    ck_assert_int_eq(kss_vector_latency(machine, 0, 3, &l), -ENODATA);
    kss_machine_destroy(machine);
}
END_TEST

START_TEST(misuse)
{
    struct kss_latency l;
    build(true);
    ck_assert_int_eq(kss_latency_read(machine, 300, &summary), -EINVAL);
    ck_assert_int_eq(kss_latency_read(machine, 0, NULL), -EINVAL);
    ck_assert_int_eq(kss_latency_read(NULL, 0, &summary), -EINVAL);
    ck_assert_int_eq(kss_vector_latency(machine, 0, KSS_VECTORS, &l), -EINVAL);
    ck_assert_int_eq(kss_vector_latency(machine, 0, 0, NULL), -EINVAL);
    ck_assert_int_eq(kss_latency_format(NULL, text, sizeof text), -EINVAL);
    ck_assert_int_eq(kss_latency_read(machine, 0, &summary), 0); /* nothing yet */
    ck_assert_uint_eq(summary.vectors, 0);
    ck_assert_int_eq(kss_latency_format(&summary, NULL, 5), -EINVAL);
    summary.vectors = KSS_VECTORS + 1;
    ck_assert_int_eq(kss_latency_format(&summary, text, sizeof text), -EINVAL);
    kss_machine_destroy(machine);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_latency");
    TCase *t = tcase_create("latency");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, every_vector);
    tcase_add_test(t, place_that_was_worst);
    tcase_add_test(t, handler_that_was_worst);
    tcase_add_test(t, off_by_default);
    tcase_add_test(t, misuse);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

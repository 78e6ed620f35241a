/* SPDX-License-Identifier: MIT */
/* Interrupts: nesting, end of interrupt, masking and loss, stacks, latency, the timer's story. */
#include "harness.h"

#include <pthread.h>
#include <stdatomic.h>

#define LOW 40
#define HIGH 41
#define SAME 42

static struct kss_machine *machine;

static void raise_line(unsigned line)
{
    ck_assert_int_eq(kss_irq_raise(machine, 0, line), 0);
}

static struct kss_irq_stats line_stats(unsigned line)
{
    struct kss_irq_stats s;
    ck_assert_int_eq(kss_irq_stats(machine, 0, line, &s), 0);
    ck_assert_uint_eq(s.raised, s.delivered + s.pending + s.lost); /* at every moment */
    return s;
}

static void build(const struct kss_config *c, kss_irq_fn low, kss_irq_fn high, kss_irq_fn same)
{
    struct kss_config one = *c;
    one.cpus = 1; /* the lines come to CPU 0: that is where whoever raises them is to be */
    machine = test_machine(&one);
    ck_assert_int_eq(kss_irq_request(machine, LOW, low, NULL, "low"), 0);
    if (high)
        ck_assert_int_eq(kss_irq_request(machine, HIGH, high, NULL, "high"), 0);
    if (same)
        ck_assert_int_eq(kss_irq_request(machine, SAME, same, NULL, "same"), 0);
    kss_irq_set_priority(machine, LOW, 5);
    kss_irq_set_priority(machine, SAME, 5);
    kss_irq_set_priority(machine, HIGH, 9);
}

/* ---- REQ I4: nested calls three deep in a handler, in its backtrace --------------------------------------- */

static char seen[512];

KEEP_FRAME static int third(volatile int *x)
{
    struct kss_frame f[32];
    volatile int local = *x + 1;
    int n = kss_backtrace(NULL, f, 32);
    seen[0] = '\0';
    for (int i = 0; i < n; i++) {
        strncat(seen, f[i].symbol, 60);
        strcat(seen, " ");
    }
    return local;
}

KEEP_FRAME static int second(volatile int *x)
{
    volatile int local = *x + 1;
    return third(&local) + local;
}

KEEP_FRAME static int first(int x)
{
    volatile int local = x + 1;
    return second(&local) + local;
}

static int nested_sum;

static void i4_isr(unsigned line, void *arg)
{
    (void)arg;
    nested_sum = first(1);
    kss_irq_eoi(line);
}

static long raise_low(void *arg)
{
    (void)arg;
    raise_line(LOW);
    return 0;
}

static long i4_main(void *arg)
{
    in_kernel(raise_low, arg);
    return nested_sum != 4 + 3 + 2;
}

START_TEST(nested_calls_in_a_handler) /* REQ I4 */
{
    struct kss_config c = test_config();
    build(&c, i4_isr, NULL, NULL);
    ck_assert_int_eq(test_run(machine, i4_main, NULL), 0);
    ck_assert_msg(strncmp(seen, "third second first i4_isr ", 26) == 0, "%s", seen);
    ck_assert_ptr_nonnull(strstr(seen, "raise_low"));
    ck_assert_ptr_nonnull(strstr(seen, "i4_main"));
    kss_machine_destroy(machine);
}
END_TEST

/* ---- REQ I5 M6: end of interrupt; nesting on one stack ----------------------------------------------------- */

static char order[64];
static uintptr_t local_at[2];
static enum kss_stack_kind kind_at[2];
static unsigned frames_live;

static void say(char c)
{
    size_t n = strlen(order);
    ck_assert_uint_lt(n, sizeof order - 1);
    order[n] = c;
    order[n + 1] = '\0';
}

static void i5_high(unsigned line, void *arg)
{
    volatile int local = 0;
    struct kss_kstack_info k;
    (void)arg;
    say('H');
    local_at[1] = (uintptr_t)&local;
    kind_at[1] = kss_stack_find(machine, local_at[1], NULL);
    ck_assert_int_eq(kss_kstack_info(NULL, &k), 0);
    frames_live = k.trap_frames;
    ck_assert(kss_in_irq());
    ck_assert(!kss_irqs_enabled());
    kss_irq_eoi(line);
    say('h');
}

static void i5_same(unsigned line, void *arg)
{
    (void)arg;
    say('S');
    kss_irq_eoi(line);
    say('s');
}

/* Interrupts on inside the handler: a higher line nests, the same priority waits for the EOI. */
static void i5_low(unsigned line, void *arg)
{
    volatile int local = 0;
    (void)arg;
    say('L');
    local_at[0] = (uintptr_t)&local;
    kind_at[0] = kss_stack_find(machine, local_at[0], NULL);
    ck_assert(line_stats(LOW).in_service);
    raise_line(SAME);
    raise_line(HIGH);
    ck_assert_str_eq(order, "L"); /* interrupts are off */
    kss_irq_enable();
    ck_assert_str_eq(order, "LHh"); /* the higher one came; the same priority did not */
    ck_assert_uint_eq(line_stats(SAME).pending, 1);
    kss_irq_disable();
    say('.');
    ck_assert_int_eq(kss_irq_eoi(line), 0);
    ck_assert_int_eq(kss_irq_eoi(line), -EINVAL); /* once only */
    say('l');
}

static long i5_main(void *arg)
{
    in_kernel(raise_low, arg);
    ck_assert_str_eq(order, "LHh.lSs");
    return 0;
}

static void i5(enum kss_irq_stacks policy)
{
    struct kss_config c = test_config();
    c.irq_stacks = policy;
    c.tick_hz = 1;
    build(&c, i5_low, i5_high, i5_same);
    ck_assert_int_eq(test_run(machine, i5_main, NULL), 0);
    kss_machine_destroy(machine);
}

START_TEST(end_of_interrupt_and_nesting) /* REQ I5 M6 */
{
    i5(KSS_IRQ_STACKS_NONE);
    /* the nested frame lies on the same stack, just below: system call, low, high */
    ck_assert_int_eq(kind_at[0], KSS_STACK_TASK);
    ck_assert_int_eq(kind_at[1], KSS_STACK_TASK);
    ck_assert_uint_lt(local_at[1], local_at[0]);
    ck_assert_uint_lt(local_at[0] - local_at[1], 8192);
    ck_assert_uint_eq(frames_live, 3);
}
END_TEST

START_TEST(interrupt_stack_per_cpu) /* REQ M6 */
{
    i5(KSS_IRQ_STACKS_PER_CPU);
    ck_assert_int_eq(kind_at[0], KSS_STACK_IRQ);
    ck_assert_int_eq(kind_at[1], KSS_STACK_IRQ); /* the nested one goes on there */
}
END_TEST

/* A handler that forgets the EOI holds its priority back, and is found. */
static int forgotten;

static void forgets(unsigned line, void *arg)
{
    (void)line;
    (void)arg;
    forgotten++;
}

static long forget_twice(void *arg)
{
    (void)arg;
    raise_line(LOW);
    raise_line(LOW);
    ck_assert_int_eq(forgotten, 1);
    struct kss_irq_stats s = line_stats(LOW);
    ck_assert(s.in_service);
    ck_assert_uint_eq(s.pending, 1);
    ck_assert_uint_eq(s.delivered - s.eoi, 1);
    ck_assert_int_eq(kss_irq_eoi(LOW), 0); /* late, and the held one comes */
    ck_assert_int_eq(forgotten, 2);
    ck_assert_int_eq(kss_irq_eoi(LOW), 0);
    return 0;
}

static long forget_main(void *arg)
{
    return in_kernel(forget_twice, arg);
}

START_TEST(forgotten_end_of_interrupt) /* REQ I5 */
{
    struct kss_config c = test_config();
    build(&c, forgets, NULL, NULL);
    ck_assert_int_eq(test_run(machine, forget_main, NULL), 0);
    kss_machine_destroy(machine);
}
END_TEST

/* ---- REQ M7: pending, delivered, lost ----------------------------------------------------------------------- */

static char turns[16];

static void turn(unsigned line, void *arg)
{
    (void)arg;
    size_t n = strlen(turns);
    turns[n] = line == LOW ? 'L' : line == HIGH ? 'H' : 'S';
    turns[n + 1] = '\0';
    kss_irq_eoi(line);
}

static long mask_kernel(void *arg)
{
    (void)arg;
    kss_irq_disable();
    for (int i = 0; i < 5; i++)
        raise_line(LOW);
    raise_line(HIGH);
    raise_line(SAME);
    struct kss_irq_stats s = line_stats(LOW);
    ck_assert_uint_eq(s.raised, 5);
    ck_assert_uint_eq(s.pending, 1);
    ck_assert_uint_eq(s.lost, 4); /* the buffer is one deep */
    ck_assert_uint_eq(s.delivered, 0);
    ck_assert_str_eq(turns, "");
    kss_irq_enable();
    ck_assert_str_eq(turns, "HLS"); /* in turn, by priority */
    s = line_stats(LOW);
    ck_assert_uint_eq(s.delivered, 1);
    ck_assert_uint_eq(s.pending, 0);
    ck_assert_int_eq(kss_irq_mask(machine, HIGH), 0);
    raise_line(HIGH);
    raise_line(LOW);
    ck_assert_str_eq(turns, "HLSL");
    ck_assert(line_stats(HIGH).masked && line_stats(HIGH).pending);
    ck_assert_int_eq(kss_irq_unmask(machine, HIGH), 0);
    ck_assert_str_eq(turns, "HLSLH");
    return 0;
}

static long mask_main(void *arg)
{
    return in_kernel(mask_kernel, arg);
}

START_TEST(masking_and_loss) /* REQ M7 */
{
    struct kss_config c = test_config();
    build(&c, turn, turn, turn);
    ck_assert_int_eq(test_run(machine, mask_main, NULL), 0);
    kss_machine_destroy(machine);
}
END_TEST

/* A device storms from a host thread while the CPU opens and closes its interrupts. */
static atomic_bool storm_over;
static atomic_ulong storm_raised;
static volatile unsigned long storm_handled;

static void *storm(void *arg)
{
    (void)arg;
    while (!storm_over) {
        kss_irq_raise(machine, 0, LOW);
        storm_raised++;
    }
    return NULL;
}

static void storm_isr(unsigned line, void *arg)
{
    (void)arg;
    storm_handled++;
    kss_irq_eoi(line);
}

static long storm_kernel(void *arg)
{
    (void)arg;
    while (storm_handled < 20000) {
        kss_irq_disable();
        for (volatile int i = 0; i < 200; i++)
            ;
        kss_irq_enable();
    }
    return 0;
}

static long storm_main(void *arg)
{
    in_kernel(storm_kernel, arg);
    for (volatile long i = 0; storm_handled < 25000; i++)
        ; /* user mode as well */
    return 0;
}

START_TEST(storm_adds_up) /* REQ M7 */
{
    struct kss_config c = test_config();
    pthread_t thread;
    build(&c, storm_isr, NULL, NULL);
    ck_assert_int_eq(pthread_create(&thread, NULL, storm, NULL), 0);
    int status = test_run(machine, storm_main, NULL);
    storm_over = true;
    pthread_join(thread, NULL);
    ck_assert_int_eq(status, 0);
    struct kss_irq_stats s = line_stats(LOW);
    ck_assert_uint_eq(s.raised, storm_raised);
    ck_assert_uint_eq(s.delivered, storm_handled);
    kss_machine_destroy(machine);
}
END_TEST

static long spin_main(void *arg)
{
    (void)arg;
    for (volatile long i = 0; i < 100000000; i++)
        ;
    return 0;
}

START_TEST(unhandled_interrupt_is_counted)
{
    struct kss_config c = test_config();
    build(&c, turn, NULL, NULL);
    ck_assert_int_eq(kss_irq_raise(machine, 0, 50), 0);
    ck_assert_int_eq(test_run(machine, spin_main, NULL), 0);
    ck_assert_uint_eq(line_stats(50).unhandled, 1);
    kss_machine_destroy(machine);
}
END_TEST

/* ---- REQ I7: latency ---------------------------------------------------------------------------------------- */

static long i7_main(void *arg)
{
    (void)arg;
    for (int i = 0; i < 200; i++) {
        in_kernel(raise_low, NULL);
        kss_yield();
    }
    kss_sleep(50000000);
    return 0;
}

static void i7_isr(unsigned line, void *arg)
{
    (void)arg;
    for (volatile int i = 0; i < 1000; i++)
        ;
    kss_irq_eoi(line);
}

START_TEST(latency_is_measured) /* REQ I7 */
{
    struct kss_config c = test_config();
    struct kss_latency to, handler;
    c.latency = true;
    c.tick_hz = 1000;
    build(&c, i7_isr, NULL, NULL);
    ck_assert_int_eq(test_run(machine, i7_main, NULL), 0);
    const unsigned lines[] = { LOW, KSS_LINE_TIMER };
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(kss_irq_latency(machine, 0, lines[i], &to, &handler), 0);
        ck_assert_uint_eq(handler.count, line_stats(lines[i]).delivered);
        ck_assert_uint_eq(to.count, handler.count);
        ck_assert_uint_gt(to.max_ns, 0);
        ck_assert(to.p50_ns <= to.p90_ns && to.p90_ns <= to.p99_ns && to.p99_ns <= to.p999_ns &&
                  to.p999_ns <= to.max_ns);
        ck_assert(handler.p50_ns > 0 && handler.p50_ns <= handler.max_ns);
    }
    kss_machine_destroy(machine);
}
END_TEST

/* ---- REQ I8: the timer's story, from the trace -------------------------------------------------------------- */

static const enum kss_trace_type steps[] = { KSS_TR_RAISE, KSS_TR_ENTER, KSS_TR_ISR_IN,
                                             KSS_TR_EOI,   KSS_TR_ISR_OUT, KSS_TR_LEAVE };
static struct {
    unsigned at, stories;
    uint64_t frame, pc;
} story;

static int on_event(const struct kss_trace_event *e, void *arg)
{
    (void)arg;
    if ((e->type == KSS_TR_RAISE && e->value[0] == KSS_LINE_TIMER) || e->type == KSS_TR_SWITCH)
        story.at = 0; /* a switch: the way out is another thread's */
    if (story.at >= 6 || e->type != (uint16_t)steps[story.at])
        return 0;
    if (e->type == KSS_TR_ENTER) {
        /* one that found interrupts off, or libc running, comes in at another entry's exit */
        if (e->value[3] != KSS_MODE_USER || e->value[0] != KSS_VEC_IRQ + KSS_LINE_TIMER)
            return 0;
        story.frame = e->value[1];
        story.pc = e->value[2];
    }
    if (e->type == KSS_TR_LEAVE) {
        ck_assert_uint_eq(e->value[1], story.frame); /* through the frame that was saved */
        ck_assert_uint_eq(e->value[2], story.pc);    /* to where it was interrupted */
        ck_assert_uint_eq(e->value[3], KSS_MODE_USER);
    }
    if (++story.at == 6)
        story.stories++;
    return 0;
}

START_TEST(timer_story) /* REQ I8 */
{
    struct kss_config c = test_config();
    c.trace = true;
    c.tick_hz = 1000;
    build(&c, turn, NULL, NULL);
    ck_assert_int_eq(test_run(machine, spin_main, NULL), 0);
    ck_assert_int_eq(kss_trace_for_each(machine, on_event, NULL), 0);
    ck_assert_uint_gt(story.stories, 10);
    kss_machine_destroy(machine);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_irq");
    TCase *t = tcase_create("irq");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, nested_calls_in_a_handler);
    tcase_add_test(t, end_of_interrupt_and_nesting);
    tcase_add_test(t, interrupt_stack_per_cpu);
    tcase_add_test(t, forgotten_end_of_interrupt);
    tcase_add_test(t, masking_and_loss);
    tcase_add_test(t, storm_adds_up);
    tcase_add_test(t, unhandled_interrupt_is_counted);
    tcase_add_test(t, latency_is_measured);
    tcase_add_test(t, timer_story);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

/* SPDX-License-Identifier: MIT */
/* Softirqs: when they run, in which order, on which stack, and what interrupts them. */
#include "softirq.h"

/* ---- order, and when ----------------------------------------------------------------------------------- */

/* Asked for in any order, and one of them twice: they run when the handler has ended. */
static void isr_raises(unsigned line, void *arg)
{
    (void)arg;
    say("(");
    raise_softirq(7);
    raise_softirq(3);
    raise_softirq(5);
    raise_softirq(3);
    kss_irq_eoi(line);
    ck_assert(kss_in_irq());
    ck_assert(!kss_in_softirq());
    say(")");
}

static long order_kernel(void *arg)
{
    (void)arg;
    ck_assert(!kss_in_softirq());
    raise_line((void *)LINE);
    ck_assert_str_eq(order, "()357");
    ck_assert(!kss_in_softirq());
    return 0;
}

static long order_main(void *arg)
{
    return in_kernel(order_kernel, arg);
}

START_TEST(lowest_number_first)
{
    struct kss_config c = quiet(_i ? KSS_IRQ_STACKS_PER_CPU : KSS_IRQ_STACKS_NONE);
    build(&c, isr_raises);
    request(3, say_number);
    request(5, say_number);
    request(7, say_number);
    run(order_main);
}
END_TEST

/* ---- raised again while they run ----------------------------------------------------------------------- */

static int again;

static void raises_itself(void *arg)
{
    say_number(arg);
    if (again-- > 0)
        raise_softirq((unsigned)(long)arg);
}

/* A lower number that is raised here comes in the next round, after what this round still has. */
static void raises_lower(void *arg)
{
    say_number(arg);
    raise_softirq(1);
}

static void isr_raises_both(unsigned line, void *arg)
{
    (void)arg;
    raise_softirq(4);
    raise_softirq(6);
    kss_irq_eoi(line);
}

static long again_kernel(void *arg)
{
    (void)arg;
    raise_line((void *)LINE);
    ck_assert_str_eq(order, "46" "16" "6"); /* three rounds: 4 raises 1, 6 itself twice */
    return 0;
}

static long again_main(void *arg)
{
    return in_kernel(again_kernel, arg);
}

START_TEST(raised_again_while_running)
{
    struct kss_config c = quiet(KSS_IRQ_STACKS_NONE);
    build(&c, isr_raises_both);
    request(1, say_number);
    request(4, raises_lower);
    request(6, raises_itself);
    again = 2;
    run(again_main);
}
END_TEST

/* One that never ends: ten rounds an interrupt, and the thread goes on in between. */
static int rounds;

static void endless(void *arg)
{
    rounds++;
    raise_softirq((unsigned)(long)arg);
}

static long rounds_kernel(void *arg)
{
    (void)arg;
    raise_line((void *)LINE);
    ck_assert_int_eq(rounds, 10);
    for (int i = 2; i <= 5; i++) {
        raise_line((void *)OTHER); /* whatever interrupt: what is left goes on */
        ck_assert_int_eq(rounds, 10 * i);
    }
    raise_softirq(2); /* or the next one from a thread */
    ck_assert_int_eq(rounds, 60);
    return 0;
}

static long rounds_main(void *arg)
{
    return in_kernel(rounds_kernel, arg);
}

START_TEST(ten_rounds_an_interrupt)
{
    struct kss_config c = quiet(_i ? KSS_IRQ_STACKS_PER_CPU : KSS_IRQ_STACKS_NONE);
    build(&c, isr_raises_one);
    ck_assert_int_eq(kss_irq_request(machine, OTHER, isr_quiet, NULL, "other"), 0);
    request(2, endless);
    rounds = 0;
    run(rounds_main);
}
END_TEST

/* ---- from a thread, and on which stack ----------------------------------------------------------------- */

static enum kss_stack_kind kind;
static struct kss_thread *whose;
static uintptr_t local_at;

static void where(void *arg)
{
    volatile int local = 1;
    local_at = (uintptr_t)&local;
    kind = kss_stack_find(machine, local_at, &whose);
    ck_assert_ptr_eq(kss_current(), *(struct kss_thread **)arg); /* by masking the stack pointer, here too */
    say("s");
}

static struct kss_thread *raiser;

/* An interrupt's second half, like the first, has a stack of the CPU's where the policy says so. */
static void expect_stack(bool own)
{
    ck_assert_int_eq(kind, own ? KSS_STACK_VECTOR : KSS_STACK_TASK);
    ck_assert_ptr_eq(whose, own ? NULL : kss_current());
    ck_assert_int_eq(test_on_kernel_stack(local_at), !own);
}

static long thread_kernel(void *arg)
{
    volatile int mine = 0;
    struct kss_machine_stats before, after;
    raiser = kss_current();
    ck_assert_int_eq(kss_machine_stats(machine, &before), 0);
    raise_softirq(8);
    ck_assert_str_eq(order, "s"); /* before kss_softirq_raise() has returned, with no interrupt */
    ck_assert_int_eq(kss_machine_stats(machine, &after), 0);
    ck_assert_uint_eq(before.total.interrupts, after.total.interrupts);
    expect_stack(arg != NULL);
    if (!arg)
        ck_assert_uint_lt(local_at, (uintptr_t)&mine);
    raise_line((void *)LINE);
    ck_assert_str_eq(order, "ss");
    expect_stack(arg != NULL);
    /* with interrupts off it waits, for the next interrupt */
    bool on = kss_irq_save();
    raise_softirq(8);
    ck_assert_str_eq(order, "ss");
    kss_irq_restore(on);
    ck_assert_str_eq(order, "ss");
    raise_line((void *)OTHER);
    ck_assert_str_eq(order, "sss");
    return 0;
}

static void isr_raises_eight(unsigned line, void *arg)
{
    (void)arg;
    raise_softirq(8);
    kss_irq_eoi(line);
}

static long thread_main(void *arg)
{
    (void)arg;
    return in_kernel(thread_kernel, NULL);
}

static long thread_main_own(void *arg)
{
    (void)arg;
    return in_kernel(thread_kernel, "own");
}

START_TEST(from_a_thread_at_once) /* REQ M6 */
{
    struct kss_config c = quiet(_i ? KSS_IRQ_STACKS_PER_CPU : KSS_IRQ_STACKS_NONE);
    build(&c, isr_raises_eight);
    ck_assert_int_eq(kss_irq_request(machine, OTHER, isr_quiet, NULL, "other"), 0);
    ck_assert_int_eq(kss_softirq_request(machine, 8, where, &raiser, "where"), 0);
    run(_i ? thread_main_own : thread_main);
}
END_TEST

/* ---- hard irqs come in the middle, softirqs and other threads do not ----------------------------------- */

static void isr_other(unsigned line, void *arg)
{
    (void)arg;
    ck_assert(kss_in_irq());
    ck_assert(kss_in_softirq()); /* of one */
    say("h");
    raise_softirq(9);
    kss_irq_eoi(line);
}

static void is_interrupted(void *arg)
{
    (void)arg;
    say("[");
    raise_line((void *)OTHER); /* taken here */
    say("]");
}

static long interrupted_kernel(void *arg)
{
    (void)arg;
    raise_line((void *)LINE);
    ck_assert_str_eq(order, "[h]9"); /* the one that the handler has raised waits for its turn */
    return 0;
}

static long interrupted_main(void *arg)
{
    return in_kernel(interrupted_kernel, arg);
}

START_TEST(hard_irqs_interrupt_it) /* REQ M6 */
{
    struct kss_config c = quiet(_i ? KSS_IRQ_STACKS_PER_CPU : KSS_IRQ_STACKS_NONE);
    build(&c, isr_raises_one);
    ck_assert_int_eq(kss_irq_request(machine, OTHER, isr_other, NULL, "other"), 0);
    request(2, is_interrupted);
    request(9, say_number);
    run(interrupted_main);
}
END_TEST

static _Atomic bool stop_spinning;
static volatile unsigned long spun;
static uint64_t switches_after;
static unsigned long spun_after;
static unsigned asked;
static struct kss_wait_queue queue;
static _Atomic bool woken;

static struct kss_cpu_stats total(void)
{
    struct kss_machine_stats s;
    ck_assert_int_eq(kss_machine_stats(machine, &s), 0);
    return s.total;
}

/* Five ticks, each of which finds the time slice over, a wake-up, preemption enabled: nobody else gets the CPU. */
static void outlasts_ticks(void *arg)
{
    struct kss_kstack_info k;
    uint64_t switches = total().context_switches;
    (void)arg;
    for (uint64_t ticks = total().ticks; total().ticks < ticks + 5;)
        ;
    woken = true;
    kss_wake_up(&queue, 0);
    kss_preempt_disable();
    kss_preempt_enable();
    ck_assert_int_eq(kss_kstack_info(NULL, &k), 0);
    asked += (((struct kss_thread_info *)k.low)->flags & KSS_TI_NEED_RESCHED) != 0;
    switches_after = total().context_switches - switches;
    spun_after = spun;
}

static long no_preemption_kernel(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++) {
        unsigned long before = spun;
        woken = false;
        raise_line((void *)LINE);
        ck_assert_uint_eq(switches_after, 0);
        /* the other one has the CPU again as soon as it is over, and not before */
        while (spun == spun_after)
            kss_reschedule();
        ck_assert_uint_ge(spun_after, before);
    }
    ck_assert_uint_eq(asked, 3); /* the scheduler did want it */
    stop_spinning = true;
    return 0;
}

static long spins(void *arg)
{
    (void)arg;
    while (!stop_spinning)
        spun++;
    return 0;
}

static long waits_kernel(void *arg)
{
    (void)arg;
    while (!stop_spinning) {
        struct kss_waiter w = { 0 };
        kss_wait_prepare(&queue, &w);
        if (!woken && !stop_spinning)
            kss_wait_sleep();
        kss_wait_finish(&w);
        kss_reschedule();
    }
    return 0;
}

static long waits(void *arg)
{
    return in_kernel(waits_kernel, arg);
}

static long wake_all(void *arg)
{
    (void)arg;
    return kss_wake_up(&queue, 0);
}

static long no_preemption_main(void *arg)
{
    long spinner = kss_spawn(spins, NULL, NULL), sleeper = kss_spawn(waits, NULL, NULL);
    ck_assert_int_gt(spinner, 0);
    test_wait_asleep(sleeper);
    in_kernel(no_preemption_kernel, arg);
    in_kernel(wake_all, NULL);
    ck_assert_int_eq(kss_wait(spinner, NULL), spinner);
    ck_assert_int_eq(kss_wait(sleeper, NULL), sleeper);
    return 0;
}

START_TEST(no_preemption_in_the_middle)
{
    struct kss_config c = test_config();
    c.cpus = 1; /* who wants the CPU would have another */
    c.irq_stacks = _i ? KSS_IRQ_STACKS_PER_CPU : KSS_IRQ_STACKS_NONE;
    c.tick_hz = 2000;
    c.timeslice_ns = 0;
    kss_wait_queue_init(&queue, "softirq");
    asked = 0;
    build(&c, isr_raises_one);
    request(2, outlasts_ticks);
    run(no_preemption_main);
}
END_TEST

/* ---- waking -------------------------------------------------------------------------------------------- */

/* Also the thread that it has interrupted, which is not "the caller" here. */
static void wakes(void *arg)
{
    ck_assert_int_eq(kss_thread_set_state(*(struct kss_thread **)arg, KSS_THREAD_READY), 0);
    say("w");
}

static long wakes_kernel(void *arg)
{
    (void)arg;
    raiser = kss_current();
    ck_assert_int_eq(kss_thread_set_state(raiser, KSS_THREAD_SLEEPING), 0);
    raise_line((void *)LINE);
    kss_wait_sleep(); /* woken already: returns at once */
    ck_assert_str_eq(order, "w");
    return 0;
}

static long wakes_main(void *arg)
{
    return in_kernel(wakes_kernel, arg);
}

START_TEST(wakes_whom_it_has_interrupted)
{
    struct kss_config c = quiet(_i ? KSS_IRQ_STACKS_PER_CPU : KSS_IRQ_STACKS_NONE);
    build(&c, isr_raises_one);
    ck_assert_int_eq(kss_softirq_request(machine, 2, wakes, &raiser, "wakes"), 0);
    run(wakes_main);
}
END_TEST

/* ---- a flood: the worker -------------------------------------------------------------------------------- */

static _Atomic bool flood_over, worker_asleep;
static _Atomic uint64_t flood_runs, runs_by_worker;

static void floods(void *arg)
{
    if (!kss_in_softirq() || kss_in_irq())
        flood_over = true;
    flood_runs++;
    if (strncmp(kss_thread_name(kss_current()), "ksoftirqd/", 10) == 0)
        runs_by_worker++;
    if (!flood_over)
        kss_softirq_raise((unsigned)(long)arg);
}

static long raise_two(void *arg)
{
    (void)arg;
    return kss_softirq_raise(2);
}

static long look_for_worker(void *arg)
{
    static struct kss_thread_info_snapshot s[32];
    int n = kss_threads(kss_machine_current(), s, 32), found = 0;
    (void)arg;
    for (int i = 0; i < n && i < 32; i++) {
        if (strncmp(s[i].name, "ksoftirqd/", 10) != 0)
            continue;
        found++;
        worker_asleep = s[i].state == KSS_THREAD_SLEEPING;
    }
    return found;
}

/* While the flood lasts, a process makes its calls, and the softirq runs on, in the worker too. */
static long flooded_main(void *arg)
{
    struct kss_cpu_stats c;
    uint64_t events = 0;
    if (in_kernel(raise_two, arg) != 0)
        return 1;
    while (runs_by_worker < 20000) {
        uint64_t before = runs_by_worker;
        for (int i = 0; i < 100; i++)
            events += kss_getpid() > 0;
        if (before == runs_by_worker)
            kss_yield();
    }
    if (events < 100 || in_kernel(look_for_worker, arg) < 1)
        return 2;
    flood_over = true;
    while (!worker_asleep)
        if (in_kernel(look_for_worker, arg) != 1 || kss_sleep(1) != 0)
            return 3;
    uint64_t runs = flood_runs;
    for (int i = 0; i < 10; i++)
        kss_sleep(1);
    if (runs != flood_runs)
        return 4;
    flood_over = false; /* another one: the same worker wakes up */
    if (in_kernel(raise_two, arg) != 0)
        return 5;
    while (runs_by_worker < 40000)
        kss_yield();
    flood_over = true;
    if (in_kernel(look_for_worker, arg) < 1)
        return 6;
    struct kss_machine_stats s;
    kss_machine_stats(machine, &s);
    c = s.total;
    return c.softirq_rounds < 10 || c.softirq_worker_rounds < 40000 ? 7 : 0;
}

START_TEST(flood_starves_nobody)
{
    struct kss_config c = test_config();
    const char *cpus = getenv("KSS_TEST_CPUS");
    c.tick_hz = _i & 1 ? 10000 : 250;
    c.check_switches = false;
    c.irq_stacks = _i & 2 ? KSS_IRQ_STACKS_PER_CPU : KSS_IRQ_STACKS_NONE;
    c.cpus = cpus && atoi(cpus) > 0 ? (unsigned)atoi(cpus) : 1;
    build(&c, isr_quiet);
    request(2, floods);
    flood_over = worker_asleep = false;
    flood_runs = runs_by_worker = 0;
    run(flooded_main);
}
END_TEST

/* One that lasts until the machine ends. */
static long leaves_a_flood(void *arg)
{
    long r = in_kernel(raise_two, arg);
    while (runs_by_worker < 1000)
        kss_yield();
    return r;
}

START_TEST(flood_at_the_end)
{
    struct kss_config c = test_config();
    c.tick_hz = _i ? 10000 : 250;
    c.check_switches = false;
    build(&c, isr_quiet);
    request(2, floods);
    flood_over = false;
    runs_by_worker = 0;
    run(leaves_a_flood);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_softirq");
    TCase *t = tcase_create("softirq");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, lowest_number_first, 0, 2);
    tcase_add_test(t, raised_again_while_running);
    tcase_add_loop_test(t, ten_rounds_an_interrupt, 0, 2);
    tcase_add_loop_test(t, flood_starves_nobody, 0, 4);
    tcase_add_loop_test(t, flood_at_the_end, 0, 2);
    tcase_add_loop_test(t, from_a_thread_at_once, 0, 2);
    tcase_add_loop_test(t, hard_irqs_interrupt_it, 0, 2);
    tcase_add_loop_test(t, no_preemption_in_the_middle, 0, 2);
    tcase_add_loop_test(t, wakes_whom_it_has_interrupted, 0, 2);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

/* SPDX-License-Identifier: MIT */
/*
 * Several CPUs inside the kernel at the same time: each on stacks of its own, with and without interrupt stacks; and a
 * process that is preempted in the middle of a system call, while others make system calls on all CPUs.
 */
#include "harness.h"

#define CPUS 4
#define LINE 40

static _Atomic unsigned long bad;
static _Atomic bool over;
static struct kss_machine *machine;
static bool irq_stacks;

static void expect(bool ok)
{
    bad += !ok;
}

static struct kss_config config(unsigned cpus)
{
    struct kss_config c = test_config();
    c.cpus = cpus;
    c.tick_hz = 4000 / cpus;
    c.timeslice_ns = 0;
    c.irq_stacks = irq_stacks ? KSS_IRQ_STACKS_PER_CPU : KSS_IRQ_STACKS_NONE;
    bad = 0;
    over = false;
    return c;
}

/* ---- REQ M4 M6: where everybody is while all are in the kernel ---------------------------------------------- */

static struct place {
    struct kss_thread *thread;
    uintptr_t task_sp, irq_sp;
    _Atomic unsigned arrived;
    _Atomic unsigned irqs;
} at[CPUS];

static void on_line(unsigned line, void *arg)
{
    int cpu = kss_cpu_id();
    struct kss_thread *whose = NULL;
    struct place *p = &at[cpu];
    (void)arg;
    p->irq_sp = (uintptr_t)__builtin_frame_address(0);
    enum kss_stack_kind kind = kss_stack_find(machine, p->irq_sp, &whose);
    expect(kss_in_irq());
    expect(kss_current() == p->thread); /* by masking, on whichever stack */
    if (irq_stacks)
        expect(kind == KSS_STACK_IRQ);
    else
        expect(kind == KSS_STACK_TASK && whose == p->thread);
    p->irqs++;
    kss_irq_eoi(line);
}

/* All wait for all, in the kernel, preemption off: at that moment as many are in it as there are CPUs. */
static long meet(void *arg)
{
    (void)arg;
    static _Atomic unsigned round_of[CPUS];
    kss_preempt_disable();
    int cpu = kss_cpu_id();
    struct place *p = &at[cpu];
    struct kss_thread *whose = NULL;
    p->thread = kss_current();
    p->task_sp = (uintptr_t)__builtin_frame_address(0);
    expect(kss_stack_find(machine, p->task_sp, &whose) == KSS_STACK_TASK && whose == p->thread);
    unsigned round = ++round_of[cpu], irqs = p->irqs;
    p->arrived = round;
    for (int i = 0; i < CPUS; i++)
        while (at[i].arrived < round)
            ;
    kss_irq_raise(machine, (unsigned)cpu, LINE); /* taken here, before it returns */
    expect(p->irqs == irqs + 1);
    for (int i = 0; i < CPUS; i++) {
        if (i == cpu)
            continue;
        expect(at[i].thread != p->thread);
        expect((at[i].task_sp ^ p->task_sp) & ~(uintptr_t)32767); /* another stack, of 32 KiB */
        if (p->irq_sp && at[i].irq_sp && irq_stacks)
            expect((at[i].irq_sp ^ p->irq_sp) & ~(uintptr_t)16383);
    }
    p->arrived = round + 1;
    round_of[cpu] = round + 1;
    for (int i = 0; i < CPUS; i++) /* nobody leaves before all have looked */
        while (at[i].arrived < round + 1)
            ;
    kss_preempt_enable();
    return 0;
}

static long meets(void *arg)
{
    struct kss_cpumask cpu = kss_cpumask_of((unsigned)(long)arg);
    expect(kss_setaffinity(0, &cpu) == 0);
    for (int i = 0; i < 50; i++)
        in_kernel(meet, NULL);
    return 0;
}

static long meet_main(void *arg)
{
    (void)arg;
    for (long i = 0; i < CPUS; i++)
        expect(kss_spawn(meets, (void *)i, NULL) > 0);
    while (kss_wait(-1, NULL) > 0)
        ;
    return 0;
}

START_TEST(each_on_its_own_stacks) /* REQ M4 M6 */
{
    irq_stacks = _i;
    struct kss_config c = config(CPUS);
    machine = test_machine(&c);
    ck_assert_int_eq(kss_irq_request(machine, LINE, on_line, NULL, "line"), 0);
    ck_assert_int_eq(test_run(machine, meet_main, NULL), 0);
    ck_assert_uint_eq(bad, 0);
    for (int i = 0; i < CPUS; i++)
        ck_assert_uint_eq(at[i].irqs, 50);
    ck_assert_int_eq(report_count, 0);
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}
END_TEST

/* ---- REQ P1: preempted in the middle of a system call ---------------------------------------------------------- */

static _Atomic unsigned long calls_of[2 * CPUS];

static uint64_t others_calls(unsigned n)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < n; i++)
        sum += calls_of[i];
    return sum;
}

static unsigned others;

/* Until it has been preempted ten times, wherever it goes on: what it has on its kernel stack stays. */
static long long_syscall(void *arg)
{
    volatile unsigned char pattern[3000];
    struct kss_kstack_info k;
    static struct kss_thread_info_snapshot s[64];
    uint64_t before = others_calls(others), moved = 0;
    unsigned char fill = (unsigned char)(long)arg;
    memset((void *)pattern, fill, sizeof pattern);
    expect(kss_kstack_info(NULL, &k) == 0 && (uintptr_t)pattern > k.low && (uintptr_t)pattern < k.high);
    uintptr_t low = k.low;
    int self = kss_thread_id(kss_current()), last = kss_cpu_id();
    for (uint64_t preempted = 0, start = 0; preempted < start + 10 || !start;) {
        int n = kss_threads(machine, s, 64);
        for (int i = 0; i < n && i < 64; i++)
            if (s[i].tid == self)
                preempted = s[i].preemptions;
        if (!start)
            start = preempted;
        moved += kss_cpu_id() != last;
        last = kss_cpu_id();
    }
    expect(kss_kstack_info(NULL, &k) == 0 && k.low == low); /* the stack came along */
    for (unsigned i = 0; i < sizeof pattern; i++)
        expect(pattern[i] == fill);
    expect(others_calls(others) > before);
    return (long)moved;
}

static long other(void *arg)
{
    long pid = kss_getpid();
    while (!over) {
        expect(kss_getpid() == pid);
        calls_of[(long)arg]++;
    }
    return 0;
}

static long p1_main(void *arg)
{
    (void)arg;
    for (long i = 0; i < (long)others; i++)
        expect(kss_spawn(other, (void *)i, NULL) > 0);
    for (long i = 0; i < 20; i++)
        expect(in_kernel(long_syscall, (void *)(i + 1)) >= 0);
    over = true;
    while (kss_wait(-1, NULL) > 0)
        ;
    return 0;
}

START_TEST(preempted_in_a_system_call) /* REQ P1 */
{
    unsigned cpus = _i % 2 ? CPUS : 2;
    irq_stacks = _i > 1;
    struct kss_config c = config(cpus);
    others = 2 * cpus;
    machine = test_machine(&c);
    ck_assert_int_eq(test_run(machine, p1_main, NULL), 0);
    ck_assert_uint_eq(bad, 0);
    struct kss_machine_stats s;
    ck_assert_int_eq(kss_machine_stats(machine, &s), 0);
    ck_assert_uint_ge(s.total.preemptions, 200);
    ck_assert_int_eq(report_count, 0);
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_smp_stacks");
    TCase *t = tcase_create("stacks");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, each_on_its_own_stacks, 0, 2);
    tcase_add_loop_test(t, preempted_in_a_system_call, 0, 4);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

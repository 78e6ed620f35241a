/* SPDX-License-Identifier: MIT */
/* Processes and threads: the tree, zombies, preemption in the kernel, accounting, invariants. */
#include "harness.h"

#include <stdatomic.h>

/* ---- REQ P1 P5: preempted in the middle of a system call -------------------------------------------------- */

static _Atomic bool stop;
static volatile unsigned long other_calls;
static struct {
    uint64_t saved, loaded;
    unsigned switches, preempted_in_kernel;
} p5;

static long long_syscall(void *arg)
{
    volatile unsigned char pattern[512];
    (void)arg;
    unsigned long before = other_calls;
    memset((void *)pattern, 0x3c, sizeof pattern);
    while (other_calls < before + 1000) /* others make system calls meanwhile: it is preempted */
        ;
    for (unsigned i = 0; i < sizeof pattern; i++)
        ck_assert_uint_eq(pattern[i], 0x3c);
    return 77;
}

static long other(void *arg)
{
    (void)arg;
    while (!stop) {
        ck_assert_int_gt(kss_getpid(), 0);
        other_calls++;
    }
    return 0;
}

static long p1_main(void *arg)
{
    (void)arg;
    long pid = kss_spawn(other, NULL, NULL);
    for (int i = 0; i < 20; i++)
        ck_assert_int_eq(in_kernel(long_syscall, NULL), 77);
    stop = true;
    return kss_wait(pid, NULL) != pid;
}

/* Every switch: what was saved last for the thread that comes is what is loaded now. */
static uint64_t saved_sp[64];

static int on_switch(const struct kss_trace_event *e, void *arg)
{
    (void)arg;
    if (e->type != KSS_TR_SWITCH)
        return 0;
    p5.switches++;
    ck_assert_int_lt(e->tid, 64);
    saved_sp[e->tid] = e->value[1];
    ck_assert_uint_ne(e->value[1], 0);
    if (saved_sp[e->value[0]])
        ck_assert_uint_eq(e->value[2], saved_sp[e->value[0]]);
    p5.preempted_in_kernel += e->value[3] == KSS_SWITCH_PREEMPT;
    return 0;
}

START_TEST(preempted_in_a_system_call) /* REQ P1 P5 */
{
    struct kss_config c = test_config();
    c.cpus = 1; /* so that the others' calls mean that this one is off the CPU; for many see live_smp_stacks.c */
    c.trace = true;
    c.trace_events = 1 << 18;
    c.tick_hz = 2000;
    c.timeslice_ns = 0;
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(test_run(m, p1_main, NULL), 0);
    ck_assert_int_eq(kss_trace_for_each(m, on_switch, NULL), 0);
    ck_assert_uint_gt(p5.switches, 20);
    ck_assert_uint_gt(p5.preempted_in_kernel, 10);
    kss_machine_destroy(m);
}
END_TEST

/* ---- REQ P3: current, from the stack pointer alone ---------------------------------------------------------- */

static _Atomic int p3_irqs;

static void check_current(void)
{
    struct kss_kstack_info k;
    struct kss_thread *t = kss_current();
    ck_assert_int_eq(kss_kstack_info(t, &k), 0);
    /* the machine's largest stack is 64 KiB: all are aligned to that */
    struct kss_thread_info *ti = (struct kss_thread_info *)((uintptr_t)__builtin_frame_address(0) & ~(uintptr_t)65535);
    ck_assert_ptr_eq(ti->thread, t);
    ck_assert_uint_eq(ti->magic, KSS_THREAD_INFO_MAGIC);
    if ((uintptr_t)ti == k.low)
        ck_assert_uint_eq(ti->canary, ((struct kss_thread_info *)k.low)->canary);
}

static void p3_isr(unsigned line, void *arg)
{
    (void)arg;
    check_current();
    p3_irqs++;
    kss_irq_eoi(line);
}

static long p3_kernel(void *arg)
{
    (void)arg;
    check_current();
    kss_preempt_disable(); /* on this CPU, where none is pending */
    int r = kss_irq_raise(kss_machine_current(), (unsigned)kss_cpu_id(), 40);
    kss_preempt_enable();
    return r;
}

static long p3_child(void *arg)
{
    for (int i = 0; i < 50; i++) {
        in_kernel(p3_kernel, arg);
        kss_yield();
    }
    return 0;
}

static long p3_main(void *arg)
{
    for (int i = 0; i < 5; i++)
        kss_spawn(p3_child, arg, NULL);
    while (kss_wait(-1, NULL) > 0)
        ;
    return 0;
}

START_TEST(current_by_masking) /* REQ P3 */
{
    struct kss_config c = test_config();
    c.irq_stacks = _i ? KSS_IRQ_STACKS_PER_CPU : KSS_IRQ_STACKS_NONE;
    struct kss_machine *m = test_machine(&c);
    kss_irq_request(m, 40, p3_isr, NULL, "p3");
    ck_assert_int_eq(test_run(m, p3_main, NULL), 0);
    ck_assert_int_eq(p3_irqs, 250);
    kss_machine_destroy(m);
}
END_TEST

/* ---- REQ P4: what a process costs ---------------------------------------------------------------------------- */

static long waits(void *arg)
{
    (void)arg;
    kss_sleep(1000000000);
    return 0;
}

static struct kss_machine_stats p4_before, p4_after;

static long p4_main(void *arg)
{
    (void)arg;
    kss_machine_stats(kss_machine_current(), &p4_before);
    for (int i = 0; i < 100; i++)
        ck_assert_int_gt(kss_spawn(waits, NULL, NULL), 0);
    kss_machine_stats(kss_machine_current(), &p4_after);
    return 0; /* init waits for none of them: the machine is stopped */
}

__attribute__((noreturn)) static long p4_stop(void *arg)
{
    p4_main(arg);
    kss_machine_stop(kss_machine_current());
    for (;;)
        kss_yield();
}

START_TEST(cost_of_a_process) /* REQ P4 */
{
    struct kss_config c = test_config();
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(kss_machine_run(m, p4_stop, NULL, NULL), -ECANCELED);
    ck_assert_uint_eq(p4_after.threads_live - p4_before.threads_live, 100);
    ck_assert_uint_eq(p4_after.kstacks_live - p4_before.kstacks_live, 100);
    ck_assert_uint_eq(p4_after.kstack_bytes - p4_before.kstack_bytes, 100 * c.kstack_size);
    ck_assert_uint_lt(p4_after.thread_bytes + p4_after.process_bytes, 4096);
    ck_assert_uint_gt(p4_after.frame_bytes, 500);
    ck_assert_int_eq(kss_check(m), 0);
    kss_machine_destroy(m);
}
END_TEST

/* ---- REQ P8: zombies ------------------------------------------------------------------------------------------ */

static long at_once(void *arg)
{
    return (long)arg;
}

static long p8_main(void *arg)
{
    struct kss_machine_stats s;
    bool keeps = arg == NULL;
    long pid[20];
    for (long i = 0; i < 20; i++)
        pid[i] = kss_spawn(at_once, (void *)i, NULL);
    do {
        kss_yield();
        kss_machine_stats(kss_machine_current(), &s);
    } while (s.zombies < 20);
    kss_sleep(1); /* and the last one is off its CPU */
    kss_machine_stats(kss_machine_current(), &s);
    ck_assert_uint_eq(s.zombies, 20);
    ck_assert_uint_eq(s.zombie_stacks, keeps ? 20 : 0);
    unsigned live = s.kstacks_live;
    for (long i = 0; i < 20; i++) {
        int status;
        ck_assert_int_eq(kss_wait(pid[i], &status), pid[i]);
        ck_assert_int_eq(KSS_WEXITSTATUS(status), i);
        kss_machine_stats(kss_machine_current(), &s);
        ck_assert_uint_eq(s.zombie_stacks, keeps ? 19 - i : 0);
    }
    kss_machine_stats(kss_machine_current(), &s);
    ck_assert_uint_eq(s.zombies, 0);
    ck_assert_uint_eq(live - s.kstacks_live, keeps ? 20 : 0);
    ck_assert_uint_eq(s.zombie_stacks_max, keeps ? 20 : 0);
    ck_assert_int_eq(kss_wait(-1, NULL), -ECHILD);
    return 0;
}

START_TEST(zombies_and_their_stacks) /* REQ P8 */
{
    struct kss_config c = test_config();
    c.zombie_stacks = _i ? KSS_ZOMBIE_FREES_STACK : KSS_ZOMBIE_KEEPS_STACK;
    c.kstack_alloc = _i == 2 ? KSS_KSTACK_AT_FIRST_ENTRY : KSS_KSTACK_AT_CREATE;
    ck_assert_int_eq(test_boot(&c, p8_main, _i ? &c : NULL), 0);
}
END_TEST

/* ---- orphans ---------------------------------------------------------------------------------------------------- */

static atomic_long orphan_parent;

static long orphan(void *arg)
{
    (void)arg;
    kss_sleep(20000000);
    orphan_parent = kss_getppid();
    return 0;
}

static long leaves_orphans(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++)
        kss_spawn(orphan, NULL, NULL);
    kss_spawn(at_once, NULL, NULL); /* and a zombie */
    kss_sleep(5000000);
    return 0;
}

static long orphan_main(void *arg)
{
    int status;
    (void)arg;
    kss_wait(kss_spawn(leaves_orphans, NULL, NULL), &status);
    struct kss_machine_stats s;
    do { /* until pid 1 has reaped them all */
        kss_sleep(1);
        kss_machine_stats(kss_machine_current(), &s);
    } while (s.threads_live != 2);
    ck_assert_uint_eq(s.zombies, 0);
    return 0;
}

START_TEST(orphans_go_to_pid_1)
{
    struct kss_config c = test_config();
    ck_assert_int_eq(test_boot(&c, orphan_main, NULL), 0);
    ck_assert_int_eq(orphan_parent, 1);
}
END_TEST

/* ---- threads, priorities, sleep ---------------------------------------------------------------------------------- */

static long adds(void *arg)
{
    atomic_long *sum = arg;
    for (int i = 0; i < 100000; i++)
        atomic_fetch_add_explicit(sum, 1, memory_order_relaxed);
    return kss_gettid();
}

static _Alignas(16) unsigned char own_stack[65536];

static long stack_user(void *arg)
{
    volatile int local = 0;
    (void)arg;
    return (unsigned char *)&local > own_stack && (unsigned char *)&local < own_stack + sizeof own_stack;
}

static long threads_main(void *arg)
{
    atomic_long sum = 0;
    long tid[8], value;
    (void)arg;
    for (int i = 0; i < 8; i++)
        ck_assert_int_gt(tid[i] = kss_thread_create(adds, &sum, NULL), 0);
    for (int i = 0; i < 8; i++) {
        ck_assert_int_eq(kss_thread_join(tid[i], &value), 0);
        ck_assert_int_eq(value, tid[i]);
        ck_assert_int_eq(kss_thread_join(tid[i], &value), -ESRCH);
    }
    ck_assert_int_eq(sum, 800000);
    struct kss_spawn_attr a = { .user_stack = own_stack, .user_stack_size = sizeof own_stack };
    ck_assert_int_eq(kss_thread_join(kss_thread_create(stack_user, NULL, &a), &value), 0);
    ck_assert_int_eq(value, 1);
    ck_assert_int_eq(kss_getpriority(0), KSS_PRIO_DEFAULT);
    ck_assert_int_eq(kss_nice(10), KSS_PRIO_DEFAULT + 10);
    ck_assert_int_eq(kss_nice(1000), KSS_PRIO_MAX);
    ck_assert_int_eq(kss_setpriority(0, 20), 0);
    ck_assert_int_eq(kss_getpriority(kss_gettid()), 20);
    ck_assert_int_eq(kss_setpriority(0, 100), -EINVAL);
    ck_assert_int_eq(kss_setpriority(12345, 20), -ESRCH);
    long before = kss_clock();
    ck_assert_int_eq(kss_sleep(30000000), 0);
    ck_assert_int_ge(kss_clock() - before, 30000000);
    return 0;
}

START_TEST(threads_and_priorities)
{
    struct kss_config c = test_config();
    ck_assert_int_eq(test_boot(&c, threads_main, NULL), 0);
}
END_TEST

/* A process that exits takes its threads along, wherever they are: running, asleep, or not yet run. */
static long sleeps_long(void *arg)
{
    (void)arg;
    kss_sleep(1000000000000);
    return 0;
}

__attribute__((noreturn)) static long spins(void *arg)
{
    (void)arg;
    for (;;)
        kss_getpid();
}

__attribute__((noreturn)) static long exits(void *arg)
{
    for (int i = 0; i < 4; i++) {
        kss_thread_create(sleeps_long, NULL, NULL);
        kss_thread_create(spins, NULL, NULL);
    }
    kss_sleep(2000000);
    kss_thread_create(spins, NULL, NULL);
    kss_exit((int)(long)arg);
}

static long exit_main(void *arg)
{
    (void)arg;
    for (long i = 0; i < 30; i++) {
        int status = 0;
        long pid = kss_spawn(exits, (void *)i, NULL);
        ck_assert_int_eq(kss_wait(pid, &status), pid);
        ck_assert(KSS_WIFEXITED(status));
        ck_assert_int_eq(KSS_WEXITSTATUS(status), i);
    }
    struct kss_machine_stats s;
    kss_machine_stats(kss_machine_current(), &s);
    ck_assert_uint_eq(s.threads_live, 2);
    return 0;
}

START_TEST(exit_takes_all_threads)
{
    struct kss_config c = test_config();
    c.tick_hz = 2000;
    c.timeslice_ns = 0;
    ck_assert_int_eq(test_boot(&c, exit_main, NULL), 0);
}
END_TEST

/* ---- strict priority -------------------------------------------------------------------------------------------- */

static char trail[64];

static long leaves_mark(void *arg)
{
    size_t n = strlen(trail);
    trail[n] = (char)(long)arg;
    trail[n + 1] = '\0';
    return 0;
}

static long priority_main(void *arg)
{
    static const char who[] = "abcdef";
    (void)arg;
    kss_setpriority(0, 99);
    for (int i = 0; i < 6; i++) {
        struct kss_spawn_attr a = { .priority = 10 + i * 10 };
        kss_spawn(leaves_mark, (void *)(long)who[i], &a);
    }
    while (kss_wait(-1, NULL) > 0)
        ;
    ck_assert_str_eq(trail, "fedcba");
    struct kss_spawn_attr high = { .priority = 90 };
    kss_setpriority(0, 50);
    kss_spawn(leaves_mark, (void *)'H', &high); /* runs before this call returns */
    ck_assert_str_eq(trail, "fedcbaH");
    return 0;
}

START_TEST(highest_priority_first)
{
    struct kss_config c = test_config();
    c.cpus = 1; /* with more, several run at once */
    c.sched = &kss_sched_priority;
    ck_assert_int_eq(test_boot(&c, priority_main, NULL), 0);
}
END_TEST

/* ---- REQ M5 P9: counters, and the invariants after every switch ---------------------------------------------------- */

static long busy(void *arg)
{
    for (int i = 0; i < 200; i++) {
        kss_getpid();
        if (i % 3 == 0)
            kss_yield();
        if (i % 50 == 0)
            kss_sleep(100000);
        if (i % 40 == 0)
            kss_wait(kss_spawn(at_once, NULL, NULL), NULL);
    }
    return (long)arg;
}

static long check_now(void *arg)
{
    (void)arg;
    return kss_check(kss_machine_current());
}

static long p9_main(void *arg)
{
    for (int i = 0; i < 10; i++)
        kss_spawn(busy, arg, NULL);
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(in_kernel(check_now, NULL), 0);
        kss_yield();
    }
    while (kss_wait(-1, NULL) > 0)
        ;
    return 0;
}

START_TEST(invariants_and_counters) /* REQ M5 P9 */
{
    struct kss_config c = test_config();
    struct kss_machine_stats s;
    c.tick_hz = 5000;
    c.timeslice_ns = 0;
    c.kstack_alloc = _i & 1 ? KSS_KSTACK_AT_FIRST_ENTRY : KSS_KSTACK_AT_CREATE;
    c.irq_stacks = _i & 2 ? KSS_IRQ_STACKS_PER_CPU : KSS_IRQ_STACKS_NONE;
    c.syscall_entry = _i & 4 ? KSS_SYSCALL_GATE : KSS_SYSCALL_TRAP;
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(test_run(m, p9_main, NULL), 0);
    ck_assert_int_eq(kss_machine_stats(m, &s), 0);
    ck_assert_uint_gt(s.total.context_switches, 100);
    ck_assert_uint_eq(s.total.control_saves, s.total.context_switches); /* only at a context switch */
    ck_assert_uint_gt(s.total.entries, s.total.context_switches);
    ck_assert_uint_eq(s.total.hw_words, 5 * s.total.entries);     /* the minimum, by hardware */
    ck_assert_uint_ge(s.total.handler_words, 6 * s.total.entries); /* the rest, by the handler */
    ck_assert_uint_le(s.total.handler_words, 15 * s.total.entries);
    kss_machine_destroy(m);
}
END_TEST

/* The checker bites: a broken machine is found. */
static long break_and_check(void *arg)
{
    struct kss_kstack_info k;
    struct kss_thread *t = kss_thread_find(kss_machine_current(), (int)(long)arg);
    ck_assert_int_eq(kss_kstack_info(t, &k), 0);
    struct kss_thread_info *ti = (struct kss_thread_info *)k.low;
    ti->canary ^= 0x100;
    ck_assert_int_eq(kss_check(kss_machine_current()), -EILSEQ);
    ck_assert_ptr_nonnull(strstr(kss_last_error(), "kernel stack is overwritten"));
    ti->canary ^= 0x100;
    struct kss_thread *owner = ti->thread;
    ti->thread = NULL;
    ck_assert_int_eq(kss_check(kss_machine_current()), -EILSEQ);
    ti->thread = owner;
    struct kss_trap_frame *tf = (struct kss_trap_frame *)k.user_frame;
    tf->magic++;
    ck_assert_int_eq(kss_check(kss_machine_current()), -EILSEQ);
    tf->magic--;
    return kss_check(kss_machine_current());
}

__attribute__((noreturn)) static long bites_main(void *arg)
{
    (void)arg;
    long pid = kss_spawn(sleeps_long, NULL, NULL);
    test_wait_asleep(pid);
    ck_assert_int_eq(in_kernel(break_and_check, (void *)pid), 0);
    kss_machine_stop(kss_machine_current());
    for (;;)
        kss_yield();
}

START_TEST(the_checker_bites) /* REQ P9 */
{
    struct kss_config c = test_config();
    c.check_switches = false;
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(kss_machine_run(m, bites_main, NULL, NULL), -ECANCELED);
    kss_machine_destroy(m);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_process");
    TCase *t = tcase_create("process");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, preempted_in_a_system_call);
    tcase_add_loop_test(t, current_by_masking, 0, 2);
    tcase_add_test(t, cost_of_a_process);
    tcase_add_loop_test(t, zombies_and_their_stacks, 0, 3);
    tcase_add_test(t, orphans_go_to_pid_1);
    tcase_add_test(t, threads_and_priorities);
    tcase_add_test(t, exit_takes_all_threads);
    tcase_add_test(t, highest_priority_first);
    tcase_add_loop_test(t, invariants_and_counters, 0, 8);
    tcase_add_test(t, the_checker_bites);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

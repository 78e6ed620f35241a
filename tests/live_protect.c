/* SPDX-License-Identifier: MIT */
/* Kernel stacks closed to user mode (kss_config.protect): who may touch them, and what all of it must not disturb. */
#define _GNU_SOURCE
#include "harness.h"

#include <pthread.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static struct kss_config closed_config(void)
{
    struct kss_config c = test_config();
    c.cpus = 1; /* mprotect is the whole process's */
    c.syscall_entry = KSS_SYSCALL_TRAP;
    c.protect = KSS_PROTECT_MPROTECT;
    return c;
}

/* ---- REQ M8: a touch kills that process, and nobody else notices --------------------------------------- */

enum target { OWN_FRAME, OWN_LOW, OTHERS, OF_ANOTHER_SIZE, IRQ_STACK, VECTOR_STACK, GUARD, UNUSED, FREED, TARGETS };
static const char *const target_names[] = { "its own trap frame", "its own thread_info", "another's kernel stack",
                                            "a kernel stack of another size", "the interrupt stack",
                                            "a vector stack", "a guard", "a slot that nobody had yet",
                                            "a freed kernel stack" };
static uintptr_t target[TARGETS];
static const enum kss_stack_kind target_stack[] = { KSS_STACK_TASK, KSS_STACK_TASK, KSS_STACK_TASK, KSS_STACK_TASK,
                                                    KSS_STACK_IRQ,  KSS_STACK_VECTOR };

/* Another process, in the middle of a system call: it holds a pattern on its kernel stack. */
static struct kss_wait_queue holders;
static _Atomic bool let_go;
static volatile uintptr_t held[2];
static volatile unsigned long spins;

static long hold(void *arg)
{
    volatile unsigned char pattern[512];
    long index = (long)arg, bad = 0;
    for (unsigned i = 0; i < sizeof pattern; i++)
        pattern[i] = (unsigned char)(i * 7 + 1);
    held[index] = (uintptr_t)&pattern[sizeof pattern / 2];
    kss_wait_event(&holders, let_go);
    for (unsigned i = 0; i < sizeof pattern; i++)
        bad += pattern[i] != (unsigned char)(i * 7 + 1);
    return bad;
}

static long holder(void *arg)
{
    return in_kernel(hold, arg);
}

static long spinner(void *arg)
{
    (void)arg;
    while (!let_go)
        spins++;
    return 0;
}

static long release(void *arg)
{
    (void)arg;
    let_go = true;
    kss_wake_up(&holders, 0);
    return 0;
}

static void note_irq_stack(unsigned line, void *arg)
{
    volatile char here = 0;
    (void)arg;
    target[IRQ_STACK] = (uintptr_t)&here;
    kss_irq_eoi(line);
}

static void note_vector_stack(struct kss_trap_frame *tf, void *arg)
{
    (void)arg;
    target[VECTOR_STACK] = (uintptr_t)tf + 64;
}

static long where_i_am(void *arg)
{
    struct kss_kstack_info k;
    (void)arg;
    ck_assert_int_eq(kss_kstack_info(NULL, &k), 0);
    ck_assert_int_eq(kss_irq_raise(kss_machine_current(), 0, 40), 0);
    target[OWN_FRAME] = k.user_frame + 128;
    target[OWN_LOW] = k.low + 8;
    target[GUARD] = k.high + 64;
    target[UNUSED] = k.low + ((uintptr_t)64 << 20);
    return 0;
}

static long note_freed(void *arg)
{
    struct kss_kstack_info k;
    (void)arg;
    kss_kstack_info(NULL, &k);
    target[FREED] = k.low + k.size / 2;
    return 0;
}

static long short_life(void *arg)
{
    return in_kernel(note_freed, arg);
}

struct touch {
    enum target what;
    bool write;
    _Atomic bool lived;
};

static long toucher(void *arg)
{
    struct touch *t = arg;
    in_kernel(where_i_am, NULL);
    kss_software_interrupt(KSS_VEC_SOFTWARE, 0);
    volatile unsigned char *p = (volatile unsigned char *)target[t->what];
    if (t->write)
        *p = 0x55;
    else
        (void)*p;
    t->lived = true;
    return 0;
}

static long touch_main(void *arg)
{
    struct touch *t = arg;
    struct kss_spawn_attr large = { .kstack_size = 65536 };
    int status = 0;
    kss_wait_queue_init(&holders, "holders");
    long pids[3] = { kss_spawn(holder, (void *)0, NULL), kss_spawn(holder, (void *)1, &large),
                     kss_spawn(spinner, NULL, NULL) };
    test_wait_asleep(pids[0]);
    test_wait_asleep(pids[1]); /* the region of its size was made while the machine ran */
    target[OTHERS] = held[0];
    target[OF_ANOTHER_SIZE] = held[1];
    long short_lived = kss_spawn(short_life, NULL, NULL);
    ck_assert_int_eq(kss_wait(short_lived, NULL), short_lived);
    long pid = kss_spawn(toucher, t, NULL);
    ck_assert_int_eq(kss_wait(pid, &status), pid);
    ck_assert_msg(!t->lived, "%s of %s succeeded", t->write ? "a write" : "a read", target_names[t->what]);
    ck_assert(KSS_WIFKILLED(status));
    ck_assert_int_eq(KSS_WVECTOR(status), KSS_VEC_PAGE_FAULT);
    for (unsigned long before = spins; spins == before;)
        kss_yield();
    in_kernel(release, NULL);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(kss_wait(pids[i], &status), pids[i]);
        ck_assert_int_eq(status, 0); /* the pattern is whole */
    }
    return 0;
}

START_TEST(a_touch_kills) /* REQ M8 */
{
    struct kss_config c = closed_config();
    struct touch t = { .what = (enum target)(_i / 2), .write = _i % 2 };
    struct kss_gate gate = { note_vector_stack, NULL, KSS_GATE_INTERRUPT, KSS_PRIV_USER, 3 };
    if (!test_can_protect())
        return;
    c.irq_stacks = KSS_IRQ_STACKS_PER_CPU;
    c.kstack_size = 16384;
    c.kstack_max = 65536;
    c.kstack_cache = 0;
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(kss_irq_request(m, 40, note_irq_stack, NULL, "where"), 0);
    ck_assert_int_eq(kss_vector_set(m, KSS_VEC_SOFTWARE, &gate), 0);
    ck_assert_int_eq(test_run(m, touch_main, &t), 0);
    ck_assert_int_eq(report_count, 1);
    const struct kss_report *r = &reports[0];
    ck_assert_msg(r->kind == KSS_REPORT_KERNEL_MEMORY, "%s: reported as %s", target_names[t.what],
                  kss_report_kind_name(r->kind));
    ck_assert_int_eq(r->mode, KSS_MODE_USER);
    ck_assert_uint_eq(r->fault_address, target[t.what]);
    ck_assert_int_eq(r->action, KSS_ACTION_KILL_PROCESS);
    ck_assert_str_eq(r->symbol, "toucher");
    ck_assert_ptr_nonnull(strstr(r->message, t.write ? "write to inaccessible" : "read from inaccessible"));
    if ((size_t)t.what < sizeof target_stack / sizeof target_stack[0])
        ck_assert_int_eq(r->near.stack, target_stack[t.what]);
    kss_machine_destroy(m);
}
END_TEST

/* ---- the host's system calls are user mode's too ------------------------------------------------------- */

static long host_call_main(void *arg)
{
    int *fds = arg;
    char byte = 0;
    in_kernel(where_i_am, NULL);
    ck_assert_int_eq(write(fds[1], (void *)target[OWN_FRAME], 1), -1);
    ck_assert_int_eq(errno, EFAULT);
    ck_assert_int_eq(write(fds[1], "x", 1), 1);
    ck_assert_int_eq(read(fds[0], (void *)target[OWN_FRAME], 1), -1);
    ck_assert_int_eq(errno, EFAULT);
    ck_assert_int_eq(read(fds[0], &byte, 1), 1);
    return byte != 'x';
}

START_TEST(host_system_calls) /* REQ M8 */
{
    struct kss_config c = closed_config();
    int fds[2];
    if (!test_can_protect())
        return;
    ck_assert_int_eq(pipe(fds), 0);
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(kss_irq_request(m, 40, note_irq_stack, NULL, "where"), 0);
    ck_assert_int_eq(test_run(m, host_call_main, fds), 0);
    ck_assert_int_eq(report_count, 0);
    kss_machine_destroy(m);
}
END_TEST

/* ---- kernel code may ----------------------------------------------------------------------------------- */

static long touch_in_kernel(void *arg)
{
    unsigned char local[64] = { 0 };
    int *fds = arg, bad = 0;
    for (int i = 0; i < TARGETS; i++) {
        if (!target[i] || i == GUARD || i == UNUSED || i == FREED)
            continue;
        volatile unsigned char *p = (volatile unsigned char *)target[i];
        unsigned char before = *p;
        *p = (unsigned char)~before;
        bad += *p != (unsigned char)~before;
        *p = before;
    }
    /* The host finds its stack open too. */
    bad += write(fds[1], "kernel", 6) != 6 || read(fds[0], local, 6) != 6 || memcmp(local, "kernel", 6) != 0;
    return bad;
}

static long in_kernel_main(void *arg)
{
    long pid;
    kss_wait_queue_init(&holders, "holders");
    pid = kss_spawn(holder, (void *)0, NULL);
    test_wait_asleep(pid);
    target[OTHERS] = held[0];
    for (int i = 0; i < 50; i++) {
        in_kernel(where_i_am, NULL);
        ck_assert_int_eq(in_kernel(touch_in_kernel, arg), 0);
    }
    in_kernel(release, NULL);
    return kss_wait(pid, NULL) != pid;
}

START_TEST(the_kernel_may)
{
    struct kss_config c = closed_config();
    int fds[2];
    if (!test_can_protect())
        return;
    ck_assert_int_eq(pipe(fds), 0);
    c.irq_stacks = KSS_IRQ_STACKS_PER_CPU;
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(kss_irq_request(m, 40, note_irq_stack, NULL, "where"), 0);
    ck_assert_int_eq(test_run(m, in_kernel_main, fds), 0);
    ck_assert_int_eq(report_count, 0);
    kss_machine_destroy(m);
}
END_TEST

/* Guards are where they were, however often the stacks around them were opened. */
static long guard_in_kernel(void *arg)
{
    struct kss_kstack_info k;
    kss_kstack_info(NULL, &k);
    *(volatile char *)(arg ? k.high : k.low - 1) = 1;
    return 0;
}

static long over_the_guard(void *arg)
{
    for (int i = 0; i < 20; i++)
        kss_getpid();
    return in_kernel(guard_in_kernel, arg);
}

static long guards_main(void *arg)
{
    int status;
    long pid = kss_spawn(over_the_guard, arg, NULL);
    return kss_wait(pid, &status) != pid || !KSS_WIFKILLED(status);
}

START_TEST(guards_stay)
{
    struct kss_config c = closed_config();
    if (!test_can_protect())
        return;
    ck_assert_int_eq(test_boot(&c, guards_main, (void *)(long)_i), 0);
    ck_assert_int_eq(report_count, 1);
    ck_assert_int_eq(reports[0].kind, KSS_REPORT_GUARD);
    ck_assert_int_eq(reports[0].mode, KSS_MODE_KERNEL);
}
END_TEST

/* ---- a frame that the host refuses --------------------------------------------------------------------- */

/* Nothing that the frame's seal covers: the header of the extended state, which only the processor looks at. */
static long spoil_xstate(void *arg)
{
    struct kss_kstack_info k;
    (void)arg;
    kss_kstack_info(NULL, &k);
    ucontext_t *uc = (ucontext_t *)(k.user_frame + 64);
    unsigned char *fp = (unsigned char *)uc->uc_mcontext.fpregs;
    memset(fp + 512 + 16, 0xff, 48); /* reserved: zero, or a fault */
    return 0;
}

static long spoiler(void *arg)
{
    return in_kernel(spoil_xstate, arg);
}

static long spoil_main(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++) {
        int status = 0;
        long pid = kss_spawn(spoiler, NULL, NULL);
        ck_assert_int_eq(kss_wait(pid, &status), pid);
        ck_assert(KSS_WIFKILLED(status));
    }
    return 0;
}

START_TEST(refused_frame)
{
    struct kss_config c = closed_config();
    if (!test_can_protect())
        return;
    ck_assert_int_eq(test_boot(&c, spoil_main, NULL), 0);
    ck_assert_int_eq(report_count, 3);
}
END_TEST

/* ---- stopped in user mode: everything is open for who looks at it -------------------------------------- */

static void *stop_later(void *arg)
{
    while (!spins)
        usleep(1000);
    kss_machine_stop(arg);
    return NULL;
}

static long stopped_main(void *arg)
{
    (void)arg;
    kss_wait_queue_init(&holders, "holders");
    test_wait_asleep(kss_spawn(holder, (void *)0, NULL));
    for (;;)
        spins++;
    return 0;
}

/* Others' frames, dead and alive: nothing for a sanitizer. */
READS_FRAMES static void read_all(uintptr_t low, uintptr_t high)
{
    for (; low < high; low += 64)
        (void)*(volatile unsigned char *)low;
}

START_TEST(open_at_the_end)
{
    struct kss_config c = closed_config();
    struct kss_thread_info_snapshot all[8];
    struct kss_frame f[32];
    pthread_t stopper;
    if (!test_can_protect())
        return;
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(pthread_create(&stopper, NULL, stop_later, m), 0);
    ck_assert_int_eq(kss_machine_run(m, stopped_main, NULL, NULL), -ECANCELED);
    pthread_join(stopper, NULL);
    ck_assert_int_eq(kss_check(m), 0);
    int n = kss_threads(m, all, 8);
    ck_assert_int_eq(n, 4); /* idle, init, the spinner, the holder */
    for (int i = 0; i < n; i++) {
        struct kss_kstack_info k;
        struct kss_thread *t = kss_thread_find(m, all[i].tid);
        if (all[i].is_kernel)
            continue;
        ck_assert_ptr_nonnull(t);
        ck_assert_int_gt(kss_backtrace(t, f, 32), 2);
        ck_assert_int_eq(kss_kstack_info(t, &k), 0);
        ck_assert(k.canary_intact);
        read_all(k.low, k.high);
    }
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

/* ---- machines side by side ----------------------------------------------------------------------------- */

static long busy(void *arg)
{
    volatile unsigned long *rounds = arg;
    while (*rounds < 400) {
        ck_assert_int_eq(kss_getpid(), kss_gettid());
        for (volatile int i = 0; i < 2000; i++)
            ;
        ++*rounds;
        if (*rounds % 16 == 0)
            kss_yield();
    }
    return 0;
}

static long side_main(void *arg)
{
    int status, bad = 0;
    unsigned long *rounds = arg;
    for (int i = 0; i < 3; i++)
        ck_assert_int_gt(kss_spawn(busy, &rounds[i], NULL), 0);
    while (kss_wait(-1, &status) > 0)
        bad |= status;
    return bad;
}

static void *run_one(void *arg)
{
    unsigned long rounds[3] = { 0 };
    long *result = arg;
    struct kss_config c = *result == 2 ? test_config() : closed_config(); /* one of them is open */
    struct kss_machine *m;
    int status = -1;
    c.tick_hz = 2000;
    c.timeslice_ns = 0;
    int r = kss_machine_create(&m, &c);
    if (r == 0)
        r = kss_machine_run(m, side_main, rounds, &status);
    if (r == 0)
        r = kss_check(m);
    kss_machine_destroy(m);
    *result = r | status;
    return NULL;
}

START_TEST(side_by_side)
{
    pthread_t host[3];
    long result[3] = { 0, 1, 2 };
    if (!test_can_protect())
        return;
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(pthread_create(&host[i], NULL, run_one, &result[i]), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(host[i], NULL);
    for (int i = 0; i < 3; i++)
        ck_assert_msg(result[i] == 0, "machine %d: %#lx", i, result[i]);
    ck_assert_int_eq(report_count, 0);
}
END_TEST

/* ---- with what else a machine can be ------------------------------------------------------------------- */

static long child(void *arg)
{
    return kss_sleep(100000) + (long)arg;
}

static long many_main(void *arg)
{
    int status, bad = 0;
    (void)arg;
    for (int round = 0; round < 5; round++) {
        for (long i = 0; i < 20; i++)
            ck_assert_int_gt(kss_spawn(child, (void *)0, NULL), 0);
        while (kss_wait(-1, &status) > 0)
            bad |= status;
    }
    return bad;
}

START_TEST(with_every_policy)
{
    struct kss_config c = closed_config();
    if (!test_can_protect())
        return;
    c.protect = _i & 1 ? KSS_PROTECT_AUTO : KSS_PROTECT_MPROTECT;
    c.kstack_alloc = _i & 1 ? KSS_KSTACK_AT_FIRST_ENTRY : KSS_KSTACK_AT_CREATE;
    c.zombie_stacks = _i & 2 ? KSS_ZOMBIE_FREES_STACK : KSS_ZOMBIE_KEEPS_STACK;
    c.irq_stacks = _i & 4 ? KSS_IRQ_STACKS_PER_CPU : KSS_IRQ_STACKS_NONE;
    c.guards = _i % 3 == 0 ? KSS_GUARDS_BOTH : _i % 3 == 1 ? KSS_GUARDS_TRAILING : KSS_GUARDS_NONE;
    c.kstack_erase = c.kstack_randomize = c.kstack_quarantine = _i & 2;
    c.kstack_cache = 4;
    ck_assert_int_eq(test_boot(&c, many_main, NULL), 0);
    ck_assert_int_eq(report_count, 0);
}
END_TEST

/* ---- what can't be configured -------------------------------------------------------------------------- */

static const struct refusal {
    enum kss_protect protect;
    enum kss_syscall_entry entry;
    int error;
    const char *says[2];
} refusals[] = {
    { KSS_PROTECT_MPROTECT, KSS_SYSCALL_GATE, -EINVAL, { "syscall_entry", "protect" } },
    { KSS_PROTECT_AUTO, KSS_SYSCALL_GATE, -EINVAL, { "syscall_entry", "protect" } },
    { KSS_PROTECT_PKEY, KSS_SYSCALL_GATE, -EINVAL, { "syscall_entry", "protect" } },
    { KSS_PROTECT_PKEY, KSS_SYSCALL_TRAP, -ENOTSUP, { "KSS_PROTECT_PKEY", "protection keys" } },
    { (enum kss_protect)4, KSS_SYSCALL_TRAP, -EINVAL, { "protect is 4", "0 to 3" } },
};

START_TEST(refused)
{
    const struct refusal *r = &refusals[_i];
    struct kss_config c = test_config();
    struct kss_machine *m = (void *)1;
    c.cpus = 1;
    c.protect = r->protect;
    c.syscall_entry = r->entry;
    ck_assert_int_eq(kss_machine_create(&m, &c), r->error);
    ck_assert_ptr_null(m);
    for (int i = 0; i < 2; i++)
        ck_assert_msg(strstr(kss_last_error(), r->says[i]) != NULL, "no \"%s\" in \"%s\"", r->says[i], kss_last_error());
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_protect");
    TCase *t = tcase_create("protect");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, a_touch_kills, 0, 2 * TARGETS);
    tcase_add_test(t, host_system_calls);
    tcase_add_test(t, the_kernel_may);
    tcase_add_loop_test(t, guards_stay, 0, 2);
    tcase_add_test(t, refused_frame);
    tcase_add_test(t, open_at_the_end);
    tcase_add_test(t, side_by_side);
    tcase_add_loop_test(t, with_every_policy, 0, 8);
    tcase_add_loop_test(t, refused, 0, sizeof refusals / sizeof refusals[0]);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

/* SPDX-License-Identifier: MIT */
/* Vectors, gates, exceptions, the vector table, system calls: what arrives where, and from whom. */
#define _GNU_SOURCE
#include "harness.h"

#include <sys/mman.h>

/* ---- REQ I1 M1: each kind of event arrives at its own vector ------------------------------------------- */

static struct seen {
    int count;
    uint64_t error, address;
    uintptr_t pc;
    enum kss_mode mode;
} seen[KSS_VECTORS];
/* Named by the assembly below. */
__attribute__((visibility("hidden"))) uintptr_t resume_at, resume_here;

/* Notes what came, and makes the program go on where it says. */
static void note(struct kss_trap_frame *tf, void *arg)
{
    struct seen *s = &seen[tf->vector];
    volatile int local = 0;
    (void)arg;
    ck_assert(test_on_kernel_stack((uintptr_t)&local));
    s->count++;
    s->error = tf->error;
    s->address = tf->fault_address;
    s->pc = kss_trap_pc(tf);
    s->mode = (enum kss_mode)tf->mode;
    if (resume_at)
        kss_trap_set_pc(tf, resume_at);
}

static const struct kss_gate note_gate = { note, NULL, KSS_GATE_INTERRUPT, KSS_PRIV_KERNEL, 0 };
static const struct kss_gate user_gate = { note, NULL, KSS_GATE_TRAP, KSS_PRIV_USER, 0 };

/* Runs an instruction that traps, and goes on behind it. */
#define TRAPPING(...)                                                                          \
    do {                                                                                       \
        uintptr_t scratch;                                                                     \
        __asm__ volatile("leaq 1f(%%rip), %0\n\tmovq %0, resume_here(%%rip)\n\t" __VA_ARGS__ "\n1:" \
                         : "=&r"(scratch)                                                      \
                         :                                                                     \
                         : "rax", "rcx", "rdx", "memory", "cc");                               \
    } while (0)

__attribute__((noinline)) static void trap_by(int which)
{
    switch (which) {
    case KSS_VEC_DIVIDE:
        TRAPPING("xorl %%ecx, %%ecx; xorl %%edx, %%edx; movl $1, %%eax; "
                 "movq resume_here(%%rip), %0; movq %0, resume_at(%%rip); divl %%ecx");
        break;
    case KSS_VEC_INVALID_OPCODE:
        TRAPPING("movq resume_here(%%rip), %0; movq %0, resume_at(%%rip); ud2");
        break;
    case KSS_VEC_BREAKPOINT:
        TRAPPING("movq resume_here(%%rip), %0; movq %0, resume_at(%%rip); int3");
        break;
    case KSS_VEC_GENERAL_PROTECTION:
        TRAPPING("movq resume_here(%%rip), %0; movq %0, resume_at(%%rip); hlt");
        break;
    case KSS_VEC_PAGE_FAULT:
        TRAPPING("movq resume_here(%%rip), %0; movq %0, resume_at(%%rip); movl $1, 0x1230");
        break;
    default: /* alignment: the flag goes off again behind it */
        TRAPPING("movq resume_here(%%rip), %0; movq %0, resume_at(%%rip); "
                 "pushfq; orq $0x40000, (%%rsp); popfq; movl 1(%%rsp), %%eax");
        __asm__ volatile("pushfq; andq $~0x40000, (%%rsp); popfq" ::: "memory", "cc");
    }
    resume_at = 0;
}

static const int exceptions[] = { KSS_VEC_DIVIDE,  KSS_VEC_INVALID_OPCODE, KSS_VEC_BREAKPOINT,
                                  KSS_VEC_GENERAL_PROTECTION, KSS_VEC_PAGE_FAULT, KSS_VEC_ALIGNMENT };

static long trap_in_kernel(void *arg)
{
    trap_by((int)(long)arg);
    return 0;
}

static long i1_main(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < sizeof exceptions / sizeof exceptions[0]; i++) {
        struct seen *s = &seen[exceptions[i]];
        trap_by(exceptions[i]);
        ck_assert_msg(s->count == 1 && s->mode == KSS_MODE_USER, "vector %d from user mode: %d", exceptions[i], s->count);
        in_kernel(trap_in_kernel, (void *)(long)exceptions[i]);
        ck_assert_msg(s->count == 2 && s->mode == KSS_MODE_KERNEL, "vector %d from kernel mode: %d", exceptions[i],
                      s->count);
    }
    ck_assert_uint_eq(seen[KSS_VEC_PAGE_FAULT].address, 0x1230);
    ck_assert_uint_eq(seen[KSS_VEC_PAGE_FAULT].error & 2, 2); /* a write */
    ck_assert_uint_eq(seen[KSS_VEC_GENERAL_PROTECTION].error, 0);
    /* software interrupt, with the pc behind it */
    ck_assert_int_eq(kss_software_interrupt(KSS_VEC_SOFTWARE, 5), 0);
    ck_assert_int_eq(seen[KSS_VEC_SOFTWARE].count, 1);
    return 0;
}

START_TEST(each_at_its_vector) /* REQ I1 */
{
    struct kss_config c = test_config();
    struct kss_machine *m = test_machine(&c);
    for (size_t i = 0; i < sizeof exceptions / sizeof exceptions[0]; i++)
        ck_assert_int_eq(kss_vector_set(m, (unsigned)exceptions[i], &note_gate), 0);
    ck_assert_int_eq(kss_vector_set(m, KSS_VEC_SOFTWARE, &user_gate), 0);
    ck_assert_int_eq(test_run(m, i1_main, NULL), 0);
    kss_machine_destroy(m);
}
END_TEST

/* ---- the default: the process dies of it, and its parent hears of what ----------------------------------- */

static long dies(void *arg)
{
    resume_at = 0;
    trap_by((int)(long)arg);
    return 0;
}

static long dies_main(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < sizeof exceptions / sizeof exceptions[0]; i++) {
        int status = 0;
        long pid = kss_spawn(dies, (void *)(long)exceptions[i], NULL);
        ck_assert_int_eq(kss_wait(pid, &status), pid);
        ck_assert(KSS_WIFKILLED(status));
        ck_assert_int_eq(KSS_WVECTOR(status), exceptions[i]);
    }
    return 0;
}

START_TEST(exceptions_kill_the_process)
{
    struct kss_config c = test_config();
    ck_assert_int_eq(test_boot(&c, dies_main, NULL), 0);
    ck_assert_int_eq(report_count, 6);
    for (int i = 0; i < 6; i++) {
        ck_assert_int_eq(reports[i].kind, KSS_REPORT_USER_FAULT);
        ck_assert_uint_eq(reports[i].vector, (unsigned)exceptions[i]);
        ck_assert_str_eq(reports[i].symbol, "trap_by");
    }
}
END_TEST

/* ---- REQ I2 M1: privileged operations in user mode --------------------------------------------------------- */

static struct kss_vector_table own_table;
static struct kss_gate own_gate;

static long privileged(void *arg)
{
    switch ((long)arg) {
    case 0:
        kss_vector_table_load(&own_table);
        break;
    case 1:
        kss_vector_set(kss_machine_current(), 100, &own_gate);
        break;
    case 2:
        kss_irq_disable();
        break;
    case 3:
        kss_software_interrupt(KSS_VEC_IRQ + KSS_LINE_TIMER, 0); /* a kernel-only gate */
        break;
    case 4:
        kss_software_interrupt(KSS_VEC_DOUBLE_FAULT, 0);
        break;
    case 5:
        kss_software_interrupt(0xf0, 0); /* no gate at all */
        break;
    case 6:
        kss_preempt_disable();
        break;
    case 7:
        kss_current();
        break;
    case 8:
        kss_irq_raise(kss_machine_current(), 0, 40);
        break;
    case 9:
        kss_copy_from_user(&own_gate, &own_table, 8);
        break;
    case 10:
        kss_vector_table();
        break;
    default:
        kss_irq_enable();
    }
    return 0;
}

static long m1_main(void *arg)
{
    (void)arg;
    for (long i = 0; i < 12; i++) {
        int status = 0;
        long pid = kss_spawn(privileged, (void *)i, NULL);
        ck_assert_int_eq(kss_wait(pid, &status), pid);
        ck_assert_msg(KSS_WIFKILLED(status) && KSS_WVECTOR(status) == KSS_VEC_GENERAL_PROTECTION,
                      "privileged operation %ld: status %#x", i, status);
    }
    return 0;
}

START_TEST(privileged_in_user_mode) /* REQ I2 M1 */
{
    struct kss_config c = test_config();
    ck_assert_int_eq(test_boot(&c, m1_main, NULL), 0);
    ck_assert_int_eq(report_count, 12);
    ck_assert_uint_eq(reports[3].error, (KSS_VEC_IRQ + KSS_LINE_TIMER) * 8 + 2);
    /* the culprit is in the backtrace */
    bool found = false;
    for (int i = 0; i < reports[2].frames; i++)
        found |= !strcmp(reports[2].frame[i].symbol, "privileged");
    ck_assert(found);
}
END_TEST

static int own_syscalls;

static void own_syscall_gate(struct kss_trap_frame *tf, void *arg)
{
    const struct kss_gate *old = arg;
    own_syscalls++;
    old->handler(tf, old->arg);
}

static struct kss_gate old_gate;

/* In kernel mode the table can be loaded and is used from then on. */
static long load_table(void *arg)
{
    (void)arg;
    own_table = *kss_vector_table();
    old_gate = own_table.gate[KSS_VEC_SYSCALL];
    own_table.gate[KSS_VEC_SYSCALL].handler = own_syscall_gate;
    own_table.gate[KSS_VEC_SYSCALL].arg = &old_gate;
    ck_assert_int_eq(kss_vector_table_load(NULL), -EINVAL);
    ck_assert_int_eq(kss_vector_table_load(&own_table), 0);
    ck_assert_ptr_eq(kss_vector_table(), &own_table);
    return 0;
}

static long i2_main(void *arg)
{
    (void)arg;
    in_kernel(load_table, NULL);
    for (int i = 0; i < 10; i++)
        kss_getpid();
    ck_assert_int_eq(own_syscalls, 10);
    return 0;
}

START_TEST(vector_table_register) /* REQ I2 */
{
    struct kss_config c = test_config();
    ck_assert_int_eq(test_boot(&c, i2_main, NULL), 0);
}
END_TEST

/* ---- REQ I9: behind the trapping instruction; a page fault restarts ------------------------------------------ */

static char *restart_page;
static int restarts;
static uintptr_t fault_pc;

static void make_present(struct kss_trap_frame *tf, void *arg)
{
    const struct kss_gate *old = arg;
    if (tf->fault_address - (uintptr_t)restart_page >= 4096) {
        old->handler(tf, old->arg);
        return;
    }
    restarts++;
    fault_pc = kss_trap_pc(tf);
    mprotect(restart_page, 4096, PROT_READ | PROT_WRITE);
}

static long check_advanced(void *arg)
{
    struct kss_kstack_info k;
    (void)arg;
    kss_kstack_info(NULL, &k);
    const struct kss_trap_frame *tf = (const struct kss_trap_frame *)k.user_frame;
    const unsigned char *pc = (const unsigned char *)kss_trap_pc(tf);
    if (tf->source == KSS_FRAME_GATE)
        return 0;
    ck_assert_uint_eq(pc[-2], 0xcd); /* int n, two bytes before */
    ck_assert_uint_eq(pc[-1], KSS_VEC_SYSCALL);
    return 2;
}

static long i9_main(void *arg)
{
    (void)arg;
    long r = in_kernel(check_advanced, NULL);
    ck_assert(r == 2 || getenv("KSS_TEST_ENTRY"));
    volatile char *p = restart_page + 100;
    *p = 42; /* faults, is made present, and is executed again */
    ck_assert_int_eq(*p, 42);
    ck_assert_int_eq(restarts, 1);
    return 0;
}

START_TEST(resume_after_or_at) /* REQ I9 */
{
    struct kss_config c = test_config();
    struct kss_machine *m = test_machine(&c);
    restart_page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_int_eq(kss_vector_get(m, KSS_VEC_PAGE_FAULT, &old_gate), 0);
    struct kss_gate g = { make_present, &old_gate, KSS_GATE_INTERRUPT, KSS_PRIV_KERNEL, 0 };
    ck_assert_int_eq(kss_vector_set(m, KSS_VEC_PAGE_FAULT, &g), 0);
    ck_assert_int_eq(test_run(m, i9_main, NULL), 0);
    kss_machine_destroy(m);
    munmap(restart_page, 4096);
}
END_TEST

/* ---- REQ K3: one entry, one exit --------------------------------------------------------------------------- */

static int through[3]; /* interrupt, exception, system call */

static void count_entry(int kind)
{
    struct kss_frame f[32];
    int n = kss_backtrace(NULL, f, 32);
    for (int i = 0; i < n; i++)
        if (!strcmp(f[i].symbol, "kssi_trap_entry")) {
            ck_assert_int_eq(f[i].kind, KSS_FRAME_TRAP);
            through[kind]++;
            return;
        }
    ck_abort_msg("kind %d: no kssi_trap_entry among %d frames", kind, n);
}

static void k3_irq(unsigned line, void *arg)
{
    (void)arg;
    count_entry(0);
    kss_irq_eoi(line);
}

static void k3_exception(struct kss_trap_frame *tf, void *arg)
{
    (void)arg;
    count_entry(1);
    kss_trap_set_pc(tf, resume_at);
}

static long k3_syscall(void *arg)
{
    (void)arg;
    count_entry(2);
    return kss_irq_raise(kss_machine_current(), 0, 40);
}

static long k3_main(void *arg)
{
    (void)arg;
    in_kernel(k3_syscall, NULL);
    trap_by(KSS_VEC_INVALID_OPCODE);
    return 0;
}

START_TEST(one_common_entry) /* REQ K3 */
{
    struct kss_config c = test_config();
    struct kss_machine *m = test_machine(&c);
    struct kss_gate g = { k3_exception, NULL, KSS_GATE_INTERRUPT, KSS_PRIV_KERNEL, 0 };
    kss_vector_set(m, KSS_VEC_INVALID_OPCODE, &g);
    kss_irq_request(m, 40, k3_irq, NULL, "k3");
    ck_assert_int_eq(test_run(m, k3_main, NULL), 0);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(through[i], 1);
    kss_machine_destroy(m);
}
END_TEST

/* ---- a vector with a stack of its own ------------------------------------------------------------------------ */

static struct kss_thread *on_vector_stack;
static enum kss_stack_kind vector_kind;

static void own_stack_handler(struct kss_trap_frame *tf, void *arg)
{
    volatile int local = 0;
    (void)arg;
    (void)tf;
    on_vector_stack = kss_current(); /* REQ P3: by masking, on any stack */
    vector_kind = kss_stack_find(kss_machine_current(), (uintptr_t)&local, NULL);
}

static long vector_stack_main(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100; i++)
        kss_software_interrupt(KSS_VEC_SOFTWARE + 3, 0);
    return 0;
}

START_TEST(gate_with_a_stack) /* REQ P3 */
{
    struct kss_config c = test_config();
    struct kss_machine *m = test_machine(&c);
    struct kss_gate g = { own_stack_handler, NULL, KSS_GATE_INTERRUPT, KSS_PRIV_USER, 3 };
    ck_assert_int_eq(kss_vector_set(m, KSS_VEC_SOFTWARE + 3, &g), 0);
    ck_assert_int_eq(test_run(m, vector_stack_main, NULL), 0);
    ck_assert_int_eq(vector_kind, KSS_STACK_VECTOR);
    ck_assert_ptr_nonnull(on_vector_stack);
    kss_machine_destroy(m);
}
END_TEST

/* ---- REQ M2: an interrupt at every instruction of entry and exit --------------------------------------------- */

static int placed;
static struct kss_wait_queue placed_queue;
static _Atomic bool placed_woken, placed_over;
static volatile int placed_ran;

static void on_placed(unsigned line, void *arg)
{
    (void)arg;
    placed++;
    placed_woken = true;
    kss_wake_up(&placed_queue, 0); /* somebody of higher priority: a context switch follows */
    kss_irq_eoi(line);
}

static long wait_placed(void *arg)
{
    (void)arg;
    kss_wait_event(&placed_queue, placed_woken || placed_over);
    placed_woken = false;
    return 0;
}

static long high_priority(void *arg)
{
    (void)arg;
    while (!placed_over) {
        in_kernel(wait_placed, NULL);
        placed_ran++;
    }
    return 0;
}

static long count_cpus(void *arg)
{
    (void)arg;
    return kss_cpu_count();
}

static long release(void *arg)
{
    (void)arg;
    placed_over = true;
    kss_wake_up(&placed_queue, 0);
    return 0;
}

static long m2_main(void *arg)
{
    struct kss_spawn_attr high = { .priority = 90 };
    long pid = kss_getpid();
    uint64_t in_kernel_mode = 0, with_irqs_off = 0;
    struct kss_placement whole;
    uintptr_t last_pc = 0;
    uint64_t tail = (uint64_t)(long)arg;
    kss_wait_queue_init(&placed_queue, "placed");
    long waiter = kss_spawn(high_priority, NULL, &high);
    /* How long it is from end to end; then every instruction near both ends, some in the middle. */
    for (int i = 0; i < 2; i++) { /* not the first time, when the host's linker finds the functions */
        ck_assert_int_eq(kss_placement_start(40, 1000000), 0);
        kss_getpid();
        ck_assert_int_eq(kss_placement_stop(&whole), 0);
    }
    ck_assert(!whole.fired);
    ck_assert_uint_gt(whole.steps, 150);
    for (uint64_t k = 1, next; k < whole.steps + 10; k = next) {
        struct kss_placement p;
        next = k + (k > 130 && k + tail < whole.steps ? 5 : 1);
        int before = placed;
        ck_assert_int_eq(kss_placement_start(40, k), 0);
        long r = kss_getpid();
        ck_assert_int_eq(kss_placement_stop(&p), 0);
        ck_assert_int_eq(r, pid);
        ck_assert_msg(placed - before == p.fired, "step %lu at pc %#lx: %d interrupts for %d", (unsigned long)k,
                      (unsigned long)p.pc, placed - before, p.fired);
        if (p.fired && p.pc == last_pc && k + 130 < whole.steps)
            next = k + 5; /* a repeated instruction */
        last_pc = p.pc;
        in_kernel_mode += p.mode == KSS_MODE_KERNEL;
        with_irqs_off += !p.irqs_on;
    }
    ck_assert_msg(in_kernel_mode > 50, "%lu of %lu steps in kernel mode", (unsigned long)in_kernel_mode,
                  (unsigned long)whole.steps);
    ck_assert_uint_gt(with_irqs_off, 50);
    /* With more CPUs it may still run, elsewhere, when it is woken again. */
    ck_assert_int_gt(placed_ran, in_kernel(count_cpus, NULL) == 1 ? 100 : 0);
    in_kernel(release, NULL);
    return kss_wait(waiter, NULL) != waiter;
}

START_TEST(interrupt_at_every_instruction) /* REQ M2 */
{
    struct kss_config c = test_config();
    c.syscall_entry = _i == 1 ? KSS_SYSCALL_GATE : KSS_SYSCALL_TRAP;
    c.protect = _i == 2 ? KSS_PROTECT_MPROTECT : KSS_PROTECT_OFF;
    if (_i == 2 && !test_can_protect())
        return;
    c.sched = &kss_sched_priority;
    c.tick_hz = 1; /* at 20 us a step a quicker one would be stepped through time and again */
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(kss_irq_request(m, 40, on_placed, NULL, "placed"), 0);
    ck_assert_int_eq(test_run(m, m2_main, (void *)(_i == 2 ? 700L : 130L)), 0);
    kss_machine_destroy(m);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_trap");
    TCase *t = tcase_create("trap");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, each_at_its_vector);
    tcase_add_test(t, exceptions_kill_the_process);
    tcase_add_test(t, privileged_in_user_mode);
    tcase_add_test(t, vector_table_register);
    tcase_add_test(t, resume_after_or_at);
    tcase_add_test(t, one_common_entry);
    tcase_add_test(t, gate_with_a_stack);
    tcase_add_loop_test(t, interrupt_at_every_instruction, 0, 3);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

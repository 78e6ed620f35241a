/* SPDX-License-Identifier: MIT */
/* Exceptions in user and in kernel mode, privileged operations, double and triple faults, stack pointers. */
#define _GNU_SOURCE
#include "faults.h"

#include <sys/mman.h>

#if defined(__x86_64__)
#include "faults_x86_64.h"
#else
#error "the instructions that these faults are made of are known for x86-64 only"
#endif

/* ---- one exception each, in user mode and in kernel mode ------------------------------------------------------ */

BROKEN static long divide_by_zero(void *arg)
{
    (void)arg;
    machine_divide_by_zero();
    return 0;
}

BROKEN static long execute_no_instruction(void *arg)
{
    (void)arg;
    machine_invalid_opcode();
    return 0;
}

BROKEN static long stop_at_a_breakpoint(void *arg)
{
    (void)arg;
    machine_breakpoint();
    return 0;
}

BROKEN static long execute_a_privileged_one(void *arg)
{
    (void)arg;
    machine_privileged();
    return 0;
}

BROKEN static long read_through_null(void *arg)
{
    volatile int *volatile p = arg;
    return *p;
}

static const char *is_null(const struct fault_run *r)
{
    return r->report[0].fault_address == 0 ? NULL : "the address in the report is not 0";
}

/* ---- privileged operations in user mode ----------------------------------------------------------------------- */

static struct kss_vector_table own_table;

KEEP_FRAME static long turn_interrupts_off(void *arg)
{
    (void)arg;
    kss_irq_disable();
    return 0;
}

KEEP_FRAME static long load_a_vector_table(void *arg)
{
    (void)arg;
    kss_vector_table_load(&own_table);
    return 0;
}

KEEP_FRAME static long raise_a_kernel_vector(void *arg)
{
    (void)arg;
    kss_software_interrupt(KSS_VEC_IRQ + KSS_LINE_TIMER, 0);
    return 0;
}

KEEP_FRAME static long call_a_kernel_function(void *arg)
{
    (void)arg;
    kss_preempt_disable();
    return 0;
}

static const char *names_the_vector(const struct fault_run *r)
{
    return r->report[0].error == (KSS_VEC_IRQ + KSS_LINE_TIMER) * 8 + 2 ? NULL : "the error code names another vector";
}

/* ---- stack pointers ------------------------------------------------------------------------------------------- */

#define HOLE (16u << 20) /* in the middle of it no stack is near */
static char *hole; /* address space without memory */
static volatile int enough;

static int prepare_hole(struct kss_machine *m)
{
    (void)m;
    hole = mmap(NULL, HOLE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    enough = 0;
    return hole == MAP_FAILED ? kss_set_error(-ENOMEM, "no address space for a hole") : 0;
}

static void cleanup_hole(void)
{
    munmap(hole, HOLE);
}

/* A thread of the same process: sees the neighbours come by while the other spins, which is preemption. */
static long watch_them(void *arg)
{
    unsigned long start = fault_rounds();
    (void)arg;
    while (fault_rounds() < start + 20)
        kss_yield();
    enough = 1;
    return 0;
}

KEEP_FRAME static void spin_with_a_wild_stack_pointer(uintptr_t sp)
{
    machine_spin_with_sp(sp, &enough);
}

KEEP_FRAME static long wild_stack_pointer(uintptr_t sp)
{
    long tid = kss_thread_create(watch_them, NULL, NULL);
    if (!fault_expect(tid > 0, "no thread: %s", kss_last_error()))
        return 1;
    spin_with_a_wild_stack_pointer(sp);
    return kss_thread_join(tid, NULL) != 0;
}

static long sp_null(void *arg)
{
    (void)arg;
    return wild_stack_pointer(0);
}

static long sp_unmapped(void *arg)
{
    (void)arg;
    return wild_stack_pointer((uintptr_t)hole + HOLE / 2);
}

static long own_stack(void *arg)
{
    struct kss_kstack_info k;
    kss_kstack_info(NULL, &k);
    *(uintptr_t *)arg = k.high - 512;
    return 0;
}

static long sp_kernel(void *arg)
{
    uintptr_t sp = 0;
    (void)arg;
    fault_in_kernel(own_stack, &sp);
    return wild_stack_pointer(sp);
}

BROKEN static long push_to_nowhere(void *arg)
{
    (void)arg;
    machine_push_with_sp((uintptr_t)hole + HOLE / 2);
    return 0;
}

/* ---- double and triple faults ------------------------------------------------------------------------------------ */

#define OWN_VECTOR (KSS_VEC_SOFTWARE + 1)
#define OWN_STACK 3

/* Runs on vector stack 3, and needs it once more while its own frame is live there. */
BROKEN static void raise_own_vector_again(struct kss_trap_frame *tf, void *arg)
{
    (void)tf;
    (void)arg;
    kss_software_interrupt(OWN_VECTOR, 0);
}

static int prepare_own_vector(struct kss_machine *m)
{
    const struct kss_gate gate = { raise_own_vector_again, NULL, KSS_GATE_INTERRUPT, KSS_PRIV_USER, OWN_STACK };
    return kss_vector_set(m, OWN_VECTOR, &gate);
}

static long raise_own_vector(void *arg)
{
    (void)arg;
    return kss_software_interrupt(OWN_VECTOR, 0);
}

static const char *shows_both_frames(const struct fault_run *r)
{
    const struct kss_report *p = &r->report[0];
    return p->frames && p->other_frames ? NULL : "the report does not show both frames";
}

BROKEN static void fault_in_double_fault_handler(struct kss_trap_frame *tf, void *arg)
{
    volatile int *volatile p = arg;
    (void)tf;
    *p = 1;
}

static int prepare_triple(struct kss_machine *m)
{
    const struct kss_gate gate = { fault_in_double_fault_handler, NULL, KSS_GATE_INTERRUPT, KSS_PRIV_KERNEL, 1 };
    int r = kss_vector_set(m, KSS_VEC_DOUBLE_FAULT, &gate);
    return r < 0 ? r : prepare_hole(m);
}

#define EXCEPTION_OF(name, variant_, what_, in, fn, report, mode_, stack_, vec)                             \
    { name, variant_, what_, .in = fn, .kind = report, .action = KSS_ACTION_KILL_PROCESS, .stack = stack_, \
      .mode = mode_, .culprit = #fn, .status = KILLED(vec) }
#define IN_USER_MODE(name, what, fn, vec)                                                                  \
    EXCEPTION_OF(name, NULL, what, user, fn, KSS_REPORT_USER_FAULT, KSS_MODE_USER, KSS_STACK_USER, vec)
#define IN_KERNEL_MODE(name, what, fn, vec)                                                                \
    EXCEPTION_OF(name, "kernel", what, kernel, fn, KSS_REPORT_KERNEL_FAULT, KSS_MODE_KERNEL, KSS_STACK_TASK, vec)
#define PRIVILEGED(variant_, what_, fn)                                                                    \
    { "privileged-in-user", variant_, what_, .user = fn, .kind = KSS_REPORT_USER_FAULT,                    \
      .action = KSS_ACTION_KILL_PROCESS, .stack = KSS_STACK_USER, .mode = KSS_MODE_USER, .culprit = #fn,   \
      .sentence = "general protection fault", .status = KILLED(KSS_VEC_GENERAL_PROTECTION)
#define SURVIVES_SP(variant_, what_, fn)                                                                   \
    { "stack-pointer-garbage", variant_, what_, .prepare = prepare_hole, .cleanup = cleanup_hole, .user = fn, \
      .quiet = true, .status = EXITED(0) }

const struct fault faults_trap[] = {
    IN_USER_MODE("divide-error", "A process divides by zero.", divide_by_zero, KSS_VEC_DIVIDE),
    IN_KERNEL_MODE("divide-error", "Kernel code divides by zero.", divide_by_zero, KSS_VEC_DIVIDE),
    IN_USER_MODE("invalid-opcode", "A process executes what is no instruction.", execute_no_instruction,
                 KSS_VEC_INVALID_OPCODE),
    IN_KERNEL_MODE("invalid-opcode", "Kernel code executes what is no instruction.", execute_no_instruction,
                   KSS_VEC_INVALID_OPCODE),
    IN_USER_MODE("breakpoint", "A process comes to a breakpoint that no debugger has set.", stop_at_a_breakpoint,
                 KSS_VEC_BREAKPOINT),
    IN_KERNEL_MODE("breakpoint", "Kernel code comes to a breakpoint.", stop_at_a_breakpoint, KSS_VEC_BREAKPOINT),
    IN_USER_MODE("general-protection", "A process executes a privileged instruction of the host.",
                 execute_a_privileged_one, KSS_VEC_GENERAL_PROTECTION),
    IN_KERNEL_MODE("general-protection", "Kernel code executes one that even it may not.", execute_a_privileged_one,
                   KSS_VEC_GENERAL_PROTECTION),
    { "page-fault", NULL, "A process reads through a null pointer.", .user = read_through_null,
      .kind = KSS_REPORT_USER_FAULT, .action = KSS_ACTION_KILL_PROCESS, .stack = KSS_STACK_USER,
      .mode = KSS_MODE_USER, .culprit = "read_through_null", .sentence = "read from NULL-like address",
      .status = KILLED(KSS_VEC_PAGE_FAULT), .check = is_null },
    { "page-fault", "kernel", "Kernel code reads through a null pointer.", .kernel = read_through_null,
      .kind = KSS_REPORT_KERNEL_FAULT, .action = KSS_ACTION_KILL_PROCESS, .stack = KSS_STACK_TASK,
      .mode = KSS_MODE_KERNEL, .culprit = "read_through_null", .sentence = "kernel NULL dereference",
      .status = KILLED(KSS_VEC_PAGE_FAULT), .check = is_null },
    PRIVILEGED(NULL, "A process turns interrupts off.", turn_interrupts_off) },
    PRIVILEGED("vector-table", "A process loads a vector table.", load_a_vector_table) },
    PRIVILEGED("gate", "A process raises a vector whose gate is the kernel's.", raise_a_kernel_vector),
      .check = names_the_vector },
    PRIVILEGED("function", "A process calls a function that only the kernel may.", call_a_kernel_function) },
    { "double-fault", NULL, "Kernel code uses a stack pointer that is on no kernel stack.", .prepare = prepare_hole,
      .cleanup = cleanup_hole, .kernel = push_to_nowhere, .kind = KSS_REPORT_DOUBLE_FAULT,
      .action = KSS_ACTION_KILL_PROCESS, .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL,
      .culprit = "push_to_nowhere", .sentence = "double fault: page fault, then stack exception",
      .status = KILLED(KSS_VEC_DOUBLE_FAULT) },
    { "triple-fault", NULL, "The double fault's handler faults itself.", .prepare = prepare_triple,
      .cleanup = cleanup_hole, .kernel = push_to_nowhere, .kind = KSS_REPORT_TRIPLE_FAULT,
      .action = KSS_ACTION_STOP_MACHINE, .stack = KSS_STACK_VECTOR, .mode = KSS_MODE_KERNEL,
      .culprit = "fault_in_double_fault_handler", .sentence = "triple fault: page fault" },
    { "double-fault-stack-reuse", NULL, "A handler on a vector stack raises its own vector, whose frame is live there.",
      .prepare = prepare_own_vector, .user = raise_own_vector, .kind = KSS_REPORT_STACK_REUSED,
      .action = KSS_ACTION_KILL_PROCESS, .stack = KSS_STACK_VECTOR, .mode = KSS_MODE_KERNEL,
      .culprit = "raise_own_vector_again", .status = KILLED(KSS_VEC_DOUBLE_FAULT), .check = shows_both_frames },
    SURVIVES_SP(NULL, "A process sets its stack pointer to 0 and spins: it is preempted and goes on.", sp_null),
    SURVIVES_SP("unmapped", "It is set to where no memory is.", sp_unmapped),
    SURVIVES_SP("kernel", "It is set to the process's own kernel stack.", sp_kernel),
    { "stack-pointer-garbage", "used", "A process uses a stack that is not there.", .prepare = prepare_hole,
      .cleanup = cleanup_hole, .user = push_to_nowhere, .kind = KSS_REPORT_USER_FAULT,
      .action = KSS_ACTION_KILL_PROCESS, .stack = KSS_STACK_USER, .mode = KSS_MODE_USER,
      .culprit = "push_to_nowhere", .status = KILLED(KSS_VEC_PAGE_FAULT) },
    { 0 },
};

/* SPDX-License-Identifier: MIT */
/* Faults of stacks: used up, leapt over, touched beside, overwritten. */
#include "faults_smash.h"

#define LINE KSS_LINE_FREE
#define FOREVER 1000000 /* frames: more than any stack here has room for */

/* ---- used up ------------------------------------------------------------------------------------------------ */

BROKEN static long recurse_too_deep(long depth)
{
    volatile char frame[256];
    frame[0] = (char)depth;
    frame[255] = (char)depth;
    return depth <= 0 ? 0 : 1 + recurse_too_deep(depth - 1) + (frame[0] - frame[255]);
}

static long overflow_in_kernel(void *arg)
{
    (void)arg;
    return recurse_too_deep(FOREVER);
}

BROKEN static long recurse_in_user_mode(long depth)
{
    volatile char frame[256];
    frame[0] = (char)depth;
    frame[255] = (char)depth;
    return depth <= 0 ? 0 : 1 + recurse_in_user_mode(depth - 1) + (frame[0] - frame[255]);
}

static long overflow_in_user(void *arg)
{
    (void)arg;
    return recurse_in_user_mode(FOREVER);
}

static const char *is_user_stack_guard(const struct fault_run *r)
{
    const struct kss_report *p = &r->report[0];
    if (p->near.stack != KSS_STACK_USER || p->near.tid != p->tid || !p->near.below)
        return "the address is not said to be below the culprit's user stack";
    return NULL;
}

/* ---- leapt over --------------------------------------------------------------------------------------------- */

/* From the top of a stack of 32 KiB its far end lies more than 8 KiB below the stack. */
#define LEAP 40960

static void with_narrow_guards(struct kss_config *c)
{
    c->guard_size = 4096;
}

BROKEN static long leap_over_the_guard(void *arg)
{
    volatile char room[LEAP];
    (void)arg;
    room[0] = 1; /* the far end first: what lies between is not touched */
    return room[0];
}

/* A tick meanwhile would find no room for its frame, and tell another story. */
static long leap_undisturbed(void *arg)
{
    bool on = kss_irq_save();
    long r = leap_over_the_guard(arg);
    kss_irq_restore(on);
    return r;
}

static const char *is_own_stack(const struct fault_run *r)
{
    const struct kss_report *p = &r->report[0];
    if (p->stack_high - p->stack_low != 32768)
        return "the stack in the report is not one of 32 KiB";
    return p->sp && p->sp < p->stack_low && !p->beyond ? "no bytes beyond the end in the report" : NULL;
}

static const char *is_near_own_stack(const struct fault_run *r)
{
    const struct kss_report_near *n = &r->report[0].near;
    return n->below > 4096 && n->stack == KSS_STACK_TASK && n->tid == r->report[0].tid
               ? is_own_stack(r) : "not more than a page below the culprit's kernel stack";
}

/* ---- touched beside ------------------------------------------------------------------------------------------- */

BROKEN static long read_below_the_stack(void *arg)
{
    struct kss_kstack_info k;
    (void)arg;
    kss_kstack_info(NULL, &k);
    return *(volatile char *)(k.low - 1);
}

BROKEN static long read_above_the_stack(void *arg)
{
    struct kss_kstack_info k;
    (void)arg;
    kss_kstack_info(NULL, &k);
    return *(volatile char *)k.high;
}

static const char *is_one_below(const struct fault_run *r)
{
    const struct kss_report_near *n = &r->report[0].near;
    return n->below == 1 && !n->above && n->stack == KSS_STACK_TASK && n->tid == r->report[0].tid && !n->guess
               ? NULL : "not one byte below the culprit's kernel stack";
}

static const char *is_one_above(const struct fault_run *r)
{
    const struct kss_report_near *n = &r->report[0].near;
    return n->above == 1 && !n->below && n->stack == KSS_STACK_TASK && n->tid == r->report[0].tid && !n->guess
               ? NULL : "not one byte above the culprit's kernel stack";
}

/* ---- interrupts' stacks --------------------------------------------------------------------------------------- */

BROKEN static long recurse_in_handler(long depth)
{
    volatile char frame[256];
    frame[0] = (char)depth;
    frame[255] = (char)depth;
    return depth <= 0 ? 0 : 1 + recurse_in_handler(depth - 1) + (frame[0] - frame[255]);
}

static void deep_handler(unsigned line, void *arg)
{
    (void)arg;
    recurse_in_handler(FOREVER);
    kss_irq_eoi(line);
}

static int prepare_deep(struct kss_machine *m)
{
    return kss_irq_request(m, LINE, deep_handler, NULL, "deep");
}

static void on_irq_stacks(struct kss_config *c)
{
    c->irq_stacks = KSS_IRQ_STACKS_PER_CPU;
}

static long raise_line(void *arg)
{
    (void)arg;
    return kss_irq_raise(kss_machine_current(), 0, LINE);
}

/* Ends the interrupt first, so that the same line comes again at once: a frame more each time. */
BROKEN static void nest_without_end(unsigned line, void *arg)
{
    (void)arg;
    kss_irq_eoi(line);
    kss_irq_raise(kss_machine_current(), 0, line);
    kss_irq_enable(); /* here it comes */
    kss_irq_disable();
}

static int prepare_nesting(struct kss_machine *m)
{
    return kss_irq_request(m, LINE, nest_without_end, NULL, "nesting");
}

static const char *is_nested(const struct fault_run *r)
{
    return r->report[0].nesting >= 5 ? NULL : "fewer than 5 live trap frames in the report";
}

/* ---- overwritten ---------------------------------------------------------------------------------------------- */

BROKEN static long overwrite_the_canary(void *arg)
{
    struct kss_kstack_info k;
    (void)arg;
    kss_kstack_info(NULL, &k);
    ((struct kss_thread_info *)k.low)->canary ^= 1;
    return 0;
}

/* The culprit has returned by the time it is found; who asked for it has not. */
KEEP_FRAME static long ask_to_overwrite_it(void *arg)
{
    return fault_in_kernel(overwrite_the_canary, arg);
}

KEEP_FRAME static long overwrite_and_let_others_run(void *arg)
{
    overwrite_the_canary(arg);
    kss_reschedule();
    return 0;
}

/* The frame that this system call will return through: in it, the mode it came from. */
BROKEN static long return_to_kernel_mode(void *arg)
{
    struct kss_kstack_info k;
    (void)arg;
    kss_kstack_info(NULL, &k);
    ((struct kss_trap_frame *)k.user_frame)->mode = KSS_MODE_KERNEL;
    return 0;
}

/* Not by kss_trap_set_pc(): wherever the frame holds the program counter, it is overwritten by what is no address. */
BROKEN static long return_to_nowhere(void *arg)
{
    struct kss_kstack_info k;
    (void)arg;
    kss_kstack_info(NULL, &k);
    struct kss_trap_frame *tf = (struct kss_trap_frame *)k.user_frame;
    volatile uintptr_t *word = (volatile uintptr_t *)tf;
    uintptr_t pc = kss_trap_pc(tf);
    for (size_t i = 0; i < tf->size / sizeof *word; i++)
        if (word[i] == pc)
            word[i] = (uintptr_t)1 << 62;
    return 0;
}

BROKEN static long return_without_magic(void *arg)
{
    struct kss_kstack_info k;
    (void)arg;
    kss_kstack_info(NULL, &k);
    ((struct kss_trap_frame *)k.user_frame)->magic++;
    return 0;
}

const struct fault faults_stack[] = {
    { "kernel-stack-overflow", NULL, "A system call recurses past the end of its kernel stack.",
      .kernel = overflow_in_kernel, .kind = KSS_REPORT_STACK_OVERFLOW, .action = KSS_ACTION_KILL_PROCESS,
      .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL, .culprit = "recurse_too_deep",
      .status = KILLED(KSS_VEC_DOUBLE_FAULT), .check = is_own_stack },
    { "kernel-stack-overflow-jump", NULL,
      "A local array of 40 KiB reaches over a page's width beyond the end of the kernel stack.",
      .kernel = leap_over_the_guard, .kind = KSS_REPORT_STACK_OVERFLOW, .action = KSS_ACTION_KILL_PROCESS,
      .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL, .culprit = "leap_over_the_guard",
      .status = KILLED(KSS_VEC_DOUBLE_FAULT), .check = is_own_stack },
    { "kernel-stack-overflow-jump", "narrow", "With a guard of one page it leaps over, and writes beyond it.",
      .configure = with_narrow_guards, .kernel = leap_undisturbed, .kind = KSS_REPORT_STACK_OVERFLOW,
      .action = KSS_ACTION_KILL_PROCESS, .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL,
      .sentence = "a frame leapt over the guard", .status = KILLED(KSS_KILLED), .check = is_near_own_stack },
    { "user-stack-overflow", NULL, "A process recurses past the end of its user stack.",
      .user = overflow_in_user, .kind = KSS_REPORT_USER_STACK_OVERFLOW, .action = KSS_ACTION_KILL_PROCESS,
      .stack = KSS_STACK_USER, .mode = KSS_MODE_USER, .culprit = "recurse_in_user_mode",
      .status = KILLED(KSS_VEC_PAGE_FAULT), .check = is_user_stack_guard },
    { "guard-leading", NULL, "Kernel code reads one byte below its kernel stack.",
      .kernel = read_below_the_stack, .kind = KSS_REPORT_GUARD, .action = KSS_ACTION_KILL_PROCESS,
      .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL, .culprit = "read_below_the_stack",
      .sentence = "1 byte below the low end of the kernel stack", .status = KILLED(KSS_VEC_PAGE_FAULT),
      .check = is_one_below },
    { "guard-trailing", NULL, "Kernel code reads one byte above its kernel stack.",
      .kernel = read_above_the_stack, .kind = KSS_REPORT_GUARD, .action = KSS_ACTION_KILL_PROCESS,
      .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL, .culprit = "read_above_the_stack",
      .sentence = "1 byte above the high end of the kernel stack", .status = KILLED(KSS_VEC_PAGE_FAULT),
      .check = is_one_above },
    { "irq-stack-overflow", NULL, "An interrupt handler recurses past the end of the CPU's interrupt stack.",
      .configure = on_irq_stacks, .prepare = prepare_deep, .kernel = raise_line,
      .kind = KSS_REPORT_STACK_OVERFLOW, .action = KSS_ACTION_STOP_MACHINE, .stack = KSS_STACK_IRQ,
      .mode = KSS_MODE_KERNEL, .culprit = "recurse_in_handler", .sentence = "interrupt stack" },
    { "nested-overflow", NULL, "Interrupts nest until the kernel stack that they are taken on is used up.",
      .prepare = prepare_nesting, .kernel = raise_line, .kind = KSS_REPORT_STACK_OVERFLOW,
      .action = KSS_ACTION_STOP_MACHINE, .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL,
      .culprit = "nest_without_end", .sentence = "interrupts are nested", .check = is_nested },
    { "canary-smashed", NULL, "Kernel code overwrites the word at the end of its stack, and touches no guard.",
      .user = ask_to_overwrite_it, .kind = KSS_REPORT_STACK_CORRUPTED, .action = KSS_ACTION_KILL_PROCESS,
      .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL, .culprit = "ask_to_overwrite_it",
      .sentence = "corrupted stack end: the canary", .status = KILLED(KSS_KILLED) },
    { "canary-smashed", "switch", "It is overwritten, and then others are let run.",
      .kernel = overwrite_and_let_others_run, .kind = KSS_REPORT_STACK_CORRUPTED, .action = KSS_ACTION_KILL_PROCESS,
      .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL, .culprit = "overwrite_and_let_others_run",
      .sentence = "corrupted stack end: the canary", .status = KILLED(KSS_KILLED) },
    { "stack-protector", NULL, "A kernel function writes past the end of a buffer on its stack.",
      .kernel = overrun_a_buffer, .kind = KSS_REPORT_STACK_PROTECTOR, .action = KSS_ACTION_KILL_PROCESS,
      .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL, .culprit = "overrun_a_buffer",
      .sentence = "overrun_a_buffer() in kernel mode", .status = KILLED(KSS_KILLED) },
    { "stack-protector", "user", "A function in user mode does.", .user = overrun_a_buffer,
      .kind = KSS_REPORT_STACK_PROTECTOR, .action = KSS_ACTION_KILL_PROCESS, .stack = KSS_STACK_USER,
      .mode = KSS_MODE_USER, .culprit = "overrun_a_buffer", .sentence = "overrun_a_buffer() in user mode",
      .status = KILLED(KSS_KILLED) },
    { "frame-smashed", NULL, "Kernel code edits its system call's trap frame to return to kernel mode.",
      .kernel = return_to_kernel_mode, .kind = KSS_REPORT_BAD_FRAME, .action = KSS_ACTION_KILL_PROCESS,
      .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL, .status = KILLED(KSS_KILLED) },
    { "frame-smashed", "wild-address", "The trap frame is edited to return to what is no address.",
      .kernel = return_to_nowhere, .kind = KSS_REPORT_BAD_FRAME, .action = KSS_ACTION_KILL_PROCESS,
      .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL, .status = KILLED(KSS_KILLED) },
    { "frame-smashed", "magic", "The trap frame's magic number is overwritten.",
      .kernel = return_without_magic, .kind = KSS_REPORT_BAD_FRAME, .action = KSS_ACTION_KILL_PROCESS,
      .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL, .status = KILLED(KSS_KILLED) },
    { 0 },
};

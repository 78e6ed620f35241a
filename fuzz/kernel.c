/* SPDX-License-Identifier: MIT */
/* Programs in kernel mode: a system call's, interrupt and trap handlers', on_report()'s. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <string.h>

#define HANDLER_OPERATIONS 6

static void nested(struct run *r, unsigned operations)
{
    unsigned left = r->left;
    if (r->depth >= 3)
        return;
    r->depth++;
    r->left = left < operations ? left : operations;
    run_kernel(r);
    r->left = left > operations ? left - operations : 0;
    r->depth--;
}

/* ---- interrupts, preemption, locks ---------------------------------------------------------------------- */

static void op_irqs_off(struct run *r)
{
    bool on = kss_irq_save();
    nested(r, 3);
    if (take(&r->code) & 1 || r->locks) /* with one held, a handler could want it */
        kss_irq_restore(on);
    else
        kss_irq_enable();
}

static void op_leak(struct run *r)
{
    if (take(&r->code) < 32)
        kss_irq_disable();
    kss_irqs_enabled();
    kss_in_irq();
}

static void op_preempt(struct run *r)
{
    kss_preempt_disable();
    kss_preempt_count();
    nested(r, 3);
    kss_preempt_enable();
}

/* In one order, so that none is taken twice. */
static void op_lock(struct run *r)
{
    unsigned i = r->depth;
    bool on = kss_spin_lock(&fuzz.lock[i]);
    r->locks++;
    if (take(&r->code) & 1)
        nested(r, 3);
    r->locks--;
    kss_spin_unlock(&fuzz.lock[i], on);
}

static void op_irq(struct run *r)
{
    unsigned line = some_line(r);
    struct kss_machine *m = some_machine(r);
    switch (take(&r->code) % 8) {
    case 0:
        kss_irq_eoi(line);
        break;
    case 1:
        kss_irq_mask(m, line);
        break;
    case 2:
        kss_irq_unmask(m, line);
        break;
    case 3:
        kss_irq_set_priority(m, line, (unsigned)number(r));
        break;
    case 4:
        kss_irq_free(m, line);
        break;
    case 5:
        kss_irq_request(m, line, take(&r->code) < 8 ? NULL : irq_handler, NULL, "fuzz");
        break;
    default:
        kss_irq_raise(m, take(&r->code) < 16, line);
    }
}

static void op_softirq(struct run *r)
{
    unsigned n = take(&r->code) < 8 ? (unsigned)number(r) : take(&r->code) % 5;
    kss_in_softirq();
    if (take(&r->code) < 16)
        kss_softirq_request(some_machine(r), n, take(&r->code) < 8 ? NULL : softirq_handler, NULL, NULL);
    kss_softirq_raise(n);
    if (take(&r->code) < 16)
        kss_nmi_raise(some_machine(r), take(&r->code) < 8);
}

/* ---- sleeping --------------------------------------------------------------------------------------------- */

static void op_wait(struct run *r)
{
    unsigned q = take(&r->code) % QUEUES;
    if (take(&r->code) & 1)
        fuzz.flag[q] = true; /* most do not have to wait */
    if (take(&r->code) & 1)
        kss_wait_event(&fuzz.queue[q], atomic_exchange(&fuzz.flag[q], false));
    else if (kss_wait_event_killable(&fuzz.queue[q], atomic_exchange(&fuzz.flag[q], false)) < 0)
        kss_wait_killed();
}

/* The parts in any order. The waiters live as long as the handler. */
static void op_wait_parts(struct run *r)
{
    uint8_t how = take(&r->code);
    struct kss_waiter *w = &r->waiter[how & 1];
    switch (how >> 4) {
    case 0:
        kss_wait_finish(NULL);
        break;
    case 1:
        if ((how & 14) == 0)
            kss_wait_prepare(how & 1 ? NULL : &fuzz.queue[0], NULL);
        break;
    case 2:
        kss_wait_finish(w);
        break;
    default:
        kss_wait_prepare(&fuzz.queue[how % QUEUES], w);
        if (how & 4)
            nested(r, 2);
        if (how & 8)
            kss_wait_finish(w);
    }
}

static void op_wake(struct run *r)
{
    unsigned q = take(&r->code) % QUEUES;
    fuzz.flag[q] = true;
    kss_wake_up(take(&r->code) < 8 ? NULL : &fuzz.queue[q], (unsigned)number(r));
}

static void op_reschedule(struct run *r)
{
    if (take(&r->code) & 1)
        kss_reschedule();
    else if (take(&r->code) < 16)
        kss_wait_sleep(); /* alone: nobody has prepared anything */
    kss_kick_cpu((int)number(r), (unsigned)number(r));
}

/* Most changes are refused. Nobody is made to sleep who would not know of it. */
static void op_state(struct run *r)
{
    struct kss_thread *t = some_thread(r);
    unsigned to = take(&r->code) % 8;
    if (to != KSS_THREAD_SLEEPING || t != fuzz.a_thread)
        kss_thread_set_state(t, (enum kss_thread_state)to);
    if (kss_current() && !r->in_handler)
        kss_thread_set_state(kss_current(), KSS_THREAD_RUNNING);
}

/* System calls from within the kernel. */
static void op_system_call(struct run *r)
{
    uint8_t how = take(&r->code);
    if (r->in_handler && how > 16)
        return;
    run_user(&(struct run){ .code = r->code, .left = 1, .in_kernel = true });
    take(&r->code);
}

/* ---- tables, frames, user memory ------------------------------------------------------------------------- */

static void op_vector(struct run *r)
{
    struct kss_gate g = { take(&r->code) < 8 ? NULL : trap_handler, NULL, (enum kss_gate_type)(take(&r->code) % 4),
                          (enum kss_privilege)(take(&r->code) % 4), take(&r->code) % 9 };
    unsigned vector = OWN_VECTORS + take(&r->code) % 16;
    if (take(&r->code) < 8)
        kss_vector_set(some_machine(r), (unsigned)number(r) | 256u, &g);
    else
        kss_vector_set(some_machine(r), vector, take(&r->code) < 8 ? NULL : &g);
    kss_vector_get(some_machine(r), vector, &g);
}

static void op_table(struct run *r)
{
    static struct kss_vector_table table;
    uint8_t how = take(&r->code);
    bool on = kss_irq_save();
    if (kss_vector_table() != &table)
        table = *kss_vector_table();
    if (how & 1)
        table.gate[OWN_VECTORS + how % 16].type = (enum kss_gate_type)(how >> 5);
    if (how & 2)
        table.gate[OWN_VECTORS + how % 16].stack = how >> 4;
    if (kss_vector_table_load(how < 16 ? NULL : &table) < 0) /* what is in use must be right */
        table.gate[OWN_VECTORS + how % 16] = (struct kss_gate){ .type = KSS_GATE_NONE };
    kss_irq_restore(on);
}

static void op_frame(struct run *r)
{
    struct kss_trap_frame *tf = some_frame(r);
    uint64_t value;
    kss_trap_pc(tf);
    kss_trap_sp(tf);
    kss_trap_flags(tf);
    kss_trap_instruction_length(tf);
    kss_trap_register(tf, (unsigned)number(r), &value);
    kss_trap_argument(tf, (unsigned)number(r));
    if (take(&r->code) & 1)
        kss_trap_set_result(tf, (long)number(r));
    uint8_t how = take(&r->code);
    if (how < 8 && r->frame && tf == r->frame && r->frame->mode == KSS_MODE_USER)
        kss_trap_set_pc(tf, how & 1 ? 1ull << 63 : how & 2 ? fuzz.a_stack : 24); /* it dies of that */
}

static void op_user_memory(struct run *r)
{
    char buffer[256];
    size_t n = number(r);
    n = n < sizeof buffer ? n : sizeof buffer;
    kss_copy_from_user(take(&r->code) < 8 ? NULL : buffer, user_pointer(r), n);
    kss_copy_to_user(user_pointer(r), memset(buffer, 0, sizeof buffer), n);
    kss_copy_string_from_user(take(&r->code) < 8 ? NULL : buffer, user_pointer(r), n);
    kss_access_ok(user_pointer(r), number(r));
}

static void op_register(struct run *r)
{
    struct kss_device_ops none = { 0 };
    kss_syscall_register(some_machine(r), 65 + take(&r->code) % 8, take(&r->code) & 1 ? kernel_call : NULL, NULL);
    kss_device_register(some_machine(r), "late", &none, NULL);
    kss_dsq_create(some_machine(r), 4 + take(&r->code) % 4);
    kss_trace_enable(some_machine(r), take(&r->code) & 1);
}

/* What no kernel code may do: it gets an error. */
static void op_forbidden(struct run *r)
{
    struct kss_machine *m = some_machine(r), *made = NULL;
    kss_machine_create(&made, &fuzz.config);
    kss_machine_run(m, user_program, NULL, NULL);
    kss_machine_destroy(m);
    if (take(&r->code) < 4)
        kss_machine_stop(fuzz.m);
}

/* ---- going wrong ------------------------------------------------------------------------------------------ */

__attribute__((noinline)) static unsigned long recurse(volatile char *above, unsigned depth)
{
    volatile char here[512];
    here[0] = above[0];
    return depth ? recurse(here, depth - 1) + (unsigned long)here[0] : 0;
}

/* The end of the running thread's stack, and all below is as it was. */
static void smash_canary(void)
{
    struct kss_kstack_info k;
    if (kss_kstack_info(NULL, &k) < 0)
        return;
    fuzz.smashed = true;
    ((struct kss_thread_info *)k.low)->canary = 1;
}

static void op_fault(struct run *r)
{
    volatile char top = 0;
    uint8_t how = take(&r->code);
    if (how > 48)
        return;
    switch (how % 6) {
#ifdef __x86_64__
    case 0:
        __asm__ volatile("movb $1, (%0)" : : "r"((uintptr_t)how) : "memory");
        break;
    case 1:
        __asm__ volatile("xorl %%edx, %%edx; xorl %%ecx, %%ecx; divl %%ecx" : : : "rax", "rcx", "rdx", "cc");
        break;
    case 2:
        __asm__ volatile("ud2");
        break;
    case 3:
        __asm__ volatile("call *%0" : : "r"((uintptr_t)16) : "memory");
        break;
#endif
    case 4: /* without guards it would run on into what belongs to others */
        if (fuzz.config.guards == KSS_GUARDS_BOTH)
            recurse(&top, ~0u);
        break;
    default:
        if (!r->in_handler)
            smash_canary();
    }
}

/* ---- the program ------------------------------------------------------------------------------------------- */

static void (*const operation[])(struct run *r) = {
    op_irqs_off, op_leak, op_preempt, op_lock, op_irq, op_irq, op_irq, op_softirq, op_state, op_wait, op_wait_parts, op_wake, op_wake,
    op_reschedule, op_system_call, op_vector, op_table, op_frame, op_user_memory, op_register, op_forbidden, op_fault,
    look_around, look_around,
};

void run_kernel(struct run *r)
{
    while (r->left && r->code.p < r->code.end) {
        r->left--;
        unsigned n = take(&r->code) % (sizeof operation / sizeof operation[0]);
        if (r->in_handler && (operation[n] == op_wait || operation[n] == op_wait_parts || operation[n] == op_reschedule) && take(&r->code) > 4)
            continue; /* would stop the machine nearly always */
        operation[n](r);
    }
}

long kernel_call(const struct kss_syscall_args *args)
{
    struct run r;
    struct kss_kstack_info k;
    start_run(&r, (unsigned)args->a[0], (unsigned)args->a[1] & 0xff, (unsigned)args->a[2] & 31);
    r.frame = args->frame;
    fuzz.a_thread = kss_current();
    fuzz.a_frame = args->frame;
    if (kss_kstack_info(NULL, &k) == 0)
        fuzz.a_stack = k.low;
    run_kernel(&r);
    /* A waiter must not be left behind: it is on this stack. */
    kss_wait_finish(&r.waiter[0]);
    kss_wait_finish(&r.waiter[1]);
    return (long)r.left;
}

static void run_handler(unsigned slice, unsigned offset, struct kss_trap_frame *frame)
{
    struct run r;
    start_run(&r, slice, offset, HANDLER_OPERATIONS);
    r.in_handler = true;
    r.frame = frame;
    r.depth = 1; /* its locks are others than those of what it has interrupted */
    run_kernel(&r);
}

/* One in eight forgets to end it. */
void irq_handler(unsigned line, void *arg)
{
    static atomic_uint calls;
    unsigned n = atomic_fetch_add(&calls, 1);
    (void)arg;
    run_handler(line, (n * 7) & 63, NULL);
    if (n % 8)
        kss_irq_eoi(line);
}

/* Interrupts are on: its locks are its own again. */
void softirq_handler(void *arg)
{
    struct run r;
    start_run(&r, (unsigned)(uintptr_t)arg, 11, HANDLER_OPERATIONS);
    r.in_handler = true;
    r.depth = 2;
    run_kernel(&r);
}

void trap_handler(struct kss_trap_frame *frame, void *arg)
{
    (void)arg;
    run_handler(frame->vector, (unsigned)kss_trap_argument(frame, 0) & 63, frame);
    kss_trap_set_result(frame, 7);
}

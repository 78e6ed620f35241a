/* SPDX-License-Identifier: MIT */
/* Programs in user mode: system calls, software interrupts, and what a program can do wrong. */
#include "fuzz.h"

#include <fcntl.h>

#define OPERATIONS 64

/* ---- system calls --------------------------------------------------------------------------------- */

static void op_ids(struct run *r)
{
    kss_getpid();
    kss_gettid();
    kss_getppid();
    kss_getpriority((long)number(r));
}

static void op_yield(struct run *r)
{
    (void)r;
    kss_yield();
}

static void op_sleep(struct run *r)
{
    uint64_t ns = number(r);
    kss_sleep(ns < 256 ? ns * 4000 : ns % 2 ? ns : 0);
}

static void op_priority(struct run *r)
{
    kss_nice((int)number(r));
    kss_setpriority((long)number(r), (int)number(r));
}

#define OWN_STACK 32768
static _Alignas(4096) char own_stack[4][OWN_STACK];

/* Each of the program's own stacks goes to one thread at most. */
static void *claim_stack(void)
{
    unsigned i = atomic_fetch_add(&fuzz.own_stacks, 1);
    return i < 4 ? own_stack[i] : NULL;
}

static long make(struct run *r, bool process)
{
    uint8_t how = take(&r->code);
    struct kss_spawn_attr attr = { .name = how & 1 ? "child" : NULL };
    struct kss_spawn_attr *a = &attr;
    void *arg = (void *)(uintptr_t)(how % SLICE_HOST | (unsigned)take(&r->code) << 8);
    if (how & 2)
        attr.priority = (int)number(r);
    if (how & 4)
        attr.kstack_size = number(r);
    if (how & 8)
        attr.user_stack_size = number(r);
    if (how & 16 && (attr.user_stack = claim_stack()))
        attr.user_stack_size = OWN_STACK;
    if (how & 32)
        a = NULL;
    if (how & 64)
        attr.name = user_pointer(r);
    if ((how & 0xe0) == 0xe0)
        a = user_pointer(r);
    return process ? kss_spawn(user_program, arg, a) : kss_thread_create(user_program, arg, a);
}

static void op_spawn(struct run *r)
{
    make(r, true);
}

static void op_thread(struct run *r)
{
    long tid = make(r, false);
    if (take(&r->code) & 1)
        kss_thread_join(tid, NULL);
}

static void op_spawn_wild(struct run *r)
{
    uint8_t how = take(&r->code);
    kss_user_fn fn = (kss_user_fn)(how & 1 ? (uintptr_t)fuzz.a_stack : how & 2 ? 8 : 1ull << 63);
    if (how & 4)
        kss_spawn(fn, NULL, NULL);
    else
        kss_thread_create(fn, NULL, NULL);
}

static void op_wait(struct run *r)
{
    uint8_t how = take(&r->code);
    kss_wait(how & 1 ? -1 : (long)number(r), how & 2 ? NULL : user_pointer(r));
}

static void op_join(struct run *r)
{
    kss_thread_join((long)number(r), take(&r->code) & 1 ? NULL : user_pointer(r));
}

static void op_exit(struct run *r)
{
    if (take(&r->code) & 1)
        kss_exit((int)number(r));
    kss_thread_exit((long)number(r));
}

static void op_file(struct run *r)
{
    static const char *const names[] = { "console", "disk", "slow", "device", "nothing", "" };
    uint8_t how = take(&r->code);
    int fd = how & 64 ? (int)number(r) : how & 3;
    if (how & 4)
        kss_open(how & 8 ? user_pointer(r) : names[take(&r->code) % 6], how & 128 ? (int)number(r) : how & 3);
    if (how & 16)
        kss_read(fd, user_pointer(r), number(r));
    if (how & 32)
        kss_write(fd, user_pointer(r), number(r) % 4096);
    if (how & 128)
        kss_close(fd);
}

static void op_misc(struct run *r)
{
    kss_clock();
    kss_trace_mark(number(r), number(r));
    kss_machine_current();
    kss_syscall_name(some_machine(r), (unsigned)number(r));
}

/* Any number, any arguments; pointers are none, or where nothing is. Not the call that ends the machine. */
static void op_raw(struct run *r)
{
    long nr = (long)number(r), a[6];
    for (int i = 0; i < 6; i++)
        a[i] = (long)(take(&r->code) & 1 ? number(r) : (uint64_t)user_pointer(r));
    if (nr == KSS_SYS_SPAWN || nr == KSS_SYS_THREAD_CREATE)
        a[0] = 0;
    if (nr != SYS_KERNEL_OPS)
        kss_syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static void op_kernel(struct run *r)
{
    uint8_t slice = take(&r->code), offset = take(&r->code);
    kss_syscall(SYS_KERNEL_OPS, slice % SLICES, offset, take(&r->code) % 32, 0, 0, 0);
}

/* ---- traps ------------------------------------------------------------------------------------------ */

static void op_software_interrupt(struct run *r)
{
    uint8_t how = take(&r->code);
    kss_software_interrupt(how & 1 ? (unsigned)number(r) : OWN_VECTORS + how % 16, how);
}

static void op_spin(struct run *r)
{
    unsigned n = 50u * take(&r->code);
    for (volatile unsigned i = 0; i < n; i++)
        ;
}

/* The trap flag: some 20 us a step. */
static void op_placement(struct run *r)
{
    struct kss_placement p;
    unsigned line = some_line(r);
    if (kss_placement_start(line, 1u + take(&r->code) % 32) == 0) {
        kss_getpid();
        kss_placement_stop(&p);
    }
}

/* Interrupts come while the stack pointer is none. */
static void op_no_stack(struct run *r)
{
    if (r->in_kernel)
        return;
#ifdef __x86_64__
    __asm__ volatile("movq %%rsp, %%rbx\n\t"
                     "xorl %%esp, %%esp\n\t"
                     "movl $20000, %%ecx\n\t"
                     "1: decl %%ecx\n\t"
                     "jnz 1b\n\t"
                     "movq %%rbx, %%rsp"
                     : : : "rbx", "rcx", "cc", "memory");
#endif
}

/* ---- going wrong ------------------------------------------------------------------------------------- */

static volatile int zero;

__attribute__((noinline)) static int recurse(volatile char *above)
{
    volatile char here[512];
    here[0] = above[0];
    return zero ? 0 : recurse(here) + here[0];
}

static void privileged(struct run *r)
{
    int word = 0;
    switch (take(&r->code) % 8) {
    case 0:
        kss_irq_disable();
        break;
    case 1:
        kss_vector_table_load(NULL);
        break;
    case 2:
        kss_current();
        break;
    case 3:
        kss_spin_lock(&fuzz.lock[0]);
        break;
    case 4:
        kss_irq_raise(some_machine(r), 0, some_line(r));
        break;
    case 5:
        kss_wake_up(&fuzz.queue[0], 0);
        break;
    case 6:
        kss_copy_from_user(&word, user_pointer(r), 4);
        break;
    default:
        kss_thread_id(some_thread(r));
    }
}

/* Where nothing is, so that nothing can be overwritten; or what is closed to user mode. */
static uintptr_t bad_address(uint8_t how)
{
    if (how & 128 && fuzz.config.protect != KSS_PROTECT_OFF && fuzz.a_stack)
        return fuzz.a_stack + how * 16;
    static const uintptr_t none[] = { 0, 8, 4096, 65535, 1ull << 63, UINTPTR_MAX, UINTPTR_MAX - 4095, 1ull << 48 };
    return none[how % (sizeof none / sizeof none[0])];
}

/* An instruction of its own for each, so that no compiler thinks about it. */
static void op_fault(struct run *r)
{
    volatile char top = 0;
    uint8_t how = take(&r->code);
    if (how > 64) /* most programs are to go on */
        return;
    switch (how % 8) {
#ifdef __x86_64__
    case 0:
        __asm__ volatile("movb $1, (%0)" : : "r"(r->in_kernel ? 8 : bad_address(take(&r->code))) : "memory");
        break;
    case 1:
        __asm__ volatile("xorl %%edx, %%edx; xorl %%ecx, %%ecx; divl %%ecx" : : : "rax", "rcx", "rdx", "cc");
        break;
    case 2:
        __asm__ volatile("ud2");
        break;
    case 3:
        __asm__ volatile("int3");
        break;
    case 4:
        __asm__ volatile("movb (%0), %%al" : : "r"(user_pointer(r)) : "rax");
        break;
    case 5:
        __asm__ volatile("call *%0" : : "r"((uintptr_t)(how & 32 ? fuzz.a_stack : 16)) : "memory");
        break;
#endif
    case 6:
        if (!r->in_kernel)
            zero = recurse(&top);
        break;
    default:
        privileged(r);
    }
}

/* ---- the program --------------------------------------------------------------------------------------- */

static void (*const operation[])(struct run *r) = {
    op_ids, op_yield, op_sleep, op_priority, op_spawn, op_spawn, op_thread, op_spawn_wild, op_wait, op_join, op_exit,
    op_file, op_file, op_misc, op_raw, op_kernel, op_kernel, op_kernel, op_kernel, op_software_interrupt, op_spin,
    op_placement, op_no_stack, op_fault, look_around, op_yield,
};

void run_user(struct run *r)
{
    while (r->left-- && r->code.p < r->code.end)
        operation[take(&r->code) % (sizeof operation / sizeof operation[0])](r);
}

void start_run(struct run *r, unsigned slice, unsigned offset, unsigned operations)
{
    *r = (struct run){ .code = fuzz.slice[slice % SLICES], .left = operations };
    size_t there = (size_t)(r->code.end - r->code.p);
    r->code.p += offset < there ? offset : there;
}

long user_program(void *arg)
{
    struct run r;
    start_run(&r, (uintptr_t)arg & 0xff, ((uintptr_t)arg >> 8) & 0xff, OPERATIONS);
    run_user(&r);
    return (long)r.left;
}

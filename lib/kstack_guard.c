/* SPDX-License-Identifier: MIT */
/*
 * What finds that a kernel stack was overrun where no guard did, and what an attacker or a bug shall not find on it:
 * the end of the stack with its canary, the fence beyond a narrow guard, erasing, randomising.
 */
#include "kernel.h"

#include <stdio.h>
#include <string.h>

#define RANDOM_STEPS 16 /* of 64 bytes */
#define CHUNK 4096u

static struct kssi_range fence_of(const struct kss_thread *t)
{
    /* A stack that is only lent has its thread's arena too, but the thread does not know it yet. */
    if (!t->machine->fenced || !t->kstack_arena)
        return (struct kssi_range){ 0, 0 };
    return kssi_arena_fence(t->machine, t->kstack_arena, (uintptr_t)t->ti);
}

/* The highest written byte: the one nearest to the stack. The fence is made of whole pages, all zero. */
KSSI_UNSANITIZED uintptr_t kssi_kstack_fence_hit(const struct kss_thread *t)
{
    static const _Alignas(uint64_t) unsigned char zeros[CHUNK];
    struct kssi_range f = fence_of(t);
    for (uintptr_t p = f.high; p > f.low; p -= CHUNK) {
        if (likely(kssi_stack_equal((const void *)(p - CHUNK), zeros, CHUNK)))
            continue;
        while (!*(const uint8_t *)--p)
            ;
        return p;
    }
    return 0;
}

void kssi_kstack_fence_mend(const struct kss_thread *t)
{
    struct kssi_range f = fence_of(t);
    kssi_frames_gone(f.low, f.high);
    if (f.high)
        t->machine->platform->discard((void *)f.low, f.high - f.low);
}

static void leapt(struct kss_thread *t, const struct kss_trap_frame *tf, uintptr_t hit)
{
    char message[160];
    snprintf(message, sizeof message, "kernel stack overflow: a frame leapt over the guard, and wrote %zu bytes below "
             "the end of the stack", (size_t)((uintptr_t)t->ti - hit));
    struct kssi_fault f = { .kind = KSS_REPORT_STACK_OVERFLOW, .tf = tf, .address = hit, .message = message };
    enum kss_report_action action = kssi_report(&f);
    kssi_kstack_fence_mend(t);
    kssi_act(action, KSS_KILLED + 1);
}

static void end_overwritten(struct kss_thread *t, const struct kss_trap_frame *tf)
{
    const struct kss_thread_info *ti = t->ti;
    const char *what = ti->canary != t->canary ? "the canary is overwritten"
                       : ti->magic != KSS_THREAD_INFO_MAGIC ? "thread_info's magic number is overwritten"
                       : ti->thread != t ? "thread_info names another thread"
                                         : "thread_info's flags are overwritten";
    char message[120];
    snprintf(message, sizeof message, "corrupted stack end: %s", what);
    struct kssi_fault f = { .kind = KSS_REPORT_STACK_CORRUPTED, .tf = tf, .message = message };
    enum kss_report_action action = kssi_report(&f);
    kssi_kstack_prepare((uintptr_t)t->ti, t, t->canary);
    if (t->killed)
        kssi_ti_set(t->ti, KSS_TI_KILLED);
    kssi_act(action, KSS_KILLED + 1);
}

void kssi_kstack_verify(struct kss_thread *t, const struct kss_trap_frame *tf)
{
    kssi_irq_disable(); /* from kssi_schedule() they are off already */
    if (kssi_this_cpu()->walking)
        return; /* a report's backtrace of this very stack has faulted: its handler ends it */
    if (tf && tf->mode == KSS_MODE_USER)
        tf = NULL; /* it is about the kernel stack, which this runs on */
    uintptr_t hit = kssi_kstack_fence_hit(t);
    if (hit)
        leapt(t, tf, hit);
    if (!kssi_kstack_end_ok(t))
        end_overwritten(t, tf);
}

/* ---- the compiler's stack protector -------------------------------------------------------------- */

static void tell_smashed(struct kssi_fault *f, char *message, size_t size, uintptr_t pc, const char *mode)
{
    struct kss_report_place p = { 0 };
    if (!kssi_this_cpu()->machine->platform->symbol(pc, p.symbol, sizeof p.symbol, &p.offset))
        p.symbol[0] = '\0';
    snprintf(message, size, "stack smashed: %s() in %s mode has overrun a buffer on its stack", p.symbol[0] ? p.symbol : "?",
             mode);
    *f = (struct kssi_fault){ .kind = KSS_REPORT_STACK_PROTECTOR, .message = message, .place = pc,
                              .place_what = "the overrun frame is that of the function" };
}

void kssi_stack_smashed(uintptr_t pc)
{
    char message[200];
    struct kssi_fault f;
    if (kssi_cpu_mode() == KSS_MODE_USER)
        for (;;)
            kss_syscall(KSSI_SYS_SMASHED, (long)pc, 0, 0, 0, 0, 0);
    kssi_irq_disable();
    tell_smashed(&f, message, sizeof message, pc, "kernel");
    kssi_fault(&f, KSS_KILLED + 1);
    kssi_panic(KSS_REPORT_STACK_PROTECTOR, "%s", message); /* there is nothing to return to */
}

long kssi_sys_smashed(const struct kss_syscall_args *a)
{
    char message[200];
    struct kssi_fault f;
    struct kss_thread *t = kssi_current();
    bool on = kssi_irq_save();
    tell_smashed(&f, message, sizeof message, (uintptr_t)a->a[0], "user");
    f.tf = t->tf;
    enum kss_report_action action = kssi_report(&f);
    kssi_irq_restore(on);
    kssi_act(action, KSS_KILLED + 1);
    kssi_process_kill(t->process, KSS_KILLED + 1);
    return 0;
}

/* ---- what is left on a stack ----------------------------------------------------------------------- */

/*
 * Poisons what the kernel used of the stack since the last time, as far as this function's own frame; the rest are the
 * frames of the exit. Exact: the deepest word that is not poison is where it begins (compare Linux's STACKLEAK, which
 * has the compiler track the deepest point). Not through memset(): that would use the stack it erases.
 */
__attribute__((noinline)) void kssi_kstack_erase(struct kss_thread *t)
{
    size_t size = t->kstack_arena->size, deepest = kssi_kstack_high_water((uintptr_t)t->ti, size, true);
    volatile uint64_t *p = (volatile uint64_t *)((uintptr_t)t->ti + size - deepest);
    uintptr_t end = (uintptr_t)__builtin_frame_address(0) - 128;
    if (t->high_water < deepest)
        t->high_water = deepest;
    while ((uintptr_t)p < end)
        *p++ = KSS_STACK_POISON;
}

/* Where the next entry from user mode puts its frame. */
uintptr_t kssi_kstack_random_frame(struct kss_thread *t)
{
    return kssi_kstack_user_frame((uintptr_t)t->ti, t->kstack_arena->size) -
           64 * (kssi_random(t->machine) % RANDOM_STEPS);
}

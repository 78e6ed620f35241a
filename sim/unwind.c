/* SPDX-License-Identifier: MIT */
/*
 * Backtraces by libunwind, across the mode switch: the common entry's unwind rules find the
 * interrupted registers in the trap frame, which is a host ucontext. Kernel mode with interrupts off,
 * or a host thread while the machine stands still: libunwind takes locks.
 */
#define UNW_LOCAL_ONLY
#include <libunwind.h>

#include "hw.h"

#include <string.h>

static void name_frame(unw_cursor_t *cursor, struct kss_frame *f)
{
    unw_word_t offset = 0;
    f->symbol[0] = '\0';
    f->offset = 0;
    int r = unw_get_proc_name(cursor, f->symbol, sizeof f->symbol, &offset);
    if (r == 0 || r == -UNW_ENOMEM)
        f->offset = offset;
    else
        f->symbol[0] = '\0';
}

/* The frame's own bytes reach to the stack pointer of its caller, unless that is on another stack. */
static void set_sizes(struct kss_frame *frames, int n)
{
    for (int i = 0; i + 1 < n; i++)
        if (frames[i].kind != KSS_FRAME_TRAP && frames[i + 1].sp > frames[i].sp &&
            frames[i + 1].sp - frames[i].sp < (1u << 24))
            frames[i].size = frames[i + 1].sp - frames[i].sp;
}

static int walk(unw_cursor_t *cursor, enum kss_frame_kind kind, struct kss_frame *frames, int max)
{
    int n = 0;
    while (n < max) {
        unw_word_t pc = 0, sp = 0;
        if (unw_get_reg(cursor, UNW_REG_IP, &pc) < 0 || unw_get_reg(cursor, UNW_REG_SP, &sp) < 0 ||
            !pc)
            break;
        struct kss_frame *f = &frames[n++];
        *f = (struct kss_frame){ .pc = (uintptr_t)pc, .sp = (uintptr_t)sp, .kind = kind };
        name_frame(cursor, f);
        if (kssi_arch_is_entry(pc)) {
            const struct kss_trap_frame *tf = kssi_arch_entry_frame(cursor);
            f->kind = KSS_FRAME_TRAP;
            f->sp = (uintptr_t)tf;
            if (tf && tf->magic == KSS_TRAP_FRAME_MAGIC) {
                f->size = tf->size;
                kind = tf->mode == KSS_MODE_USER ? KSS_FRAME_USER : KSS_FRAME_KERNEL;
            }
        }
        if (unw_step(cursor) <= 0)
            break;
    }
    set_sizes(frames, n);
    return n;
}

int kssi_unwind(const void *ctx, struct kss_frame *frames, int max)
{
    unw_cursor_t cursor;
    unw_context_t here;
    if (ctx) {
        /* A context that swapcontext() left: its pc is behind a call. */
        unw_context_t *uc = (unw_context_t *)kssi_context_ucontext(ctx);
        if (unw_init_local(&cursor, uc) < 0)
            return 0;
    } else {
        unw_getcontext(&here);
        if (unw_init_local(&cursor, &here) < 0 || unw_step(&cursor) <= 0)
            return 0;
    }
    return walk(&cursor, KSS_FRAME_KERNEL, frames, max);
}

int kssi_unwind_trap(const struct kss_trap_frame *tf, struct kss_frame *frames, int max)
{
    unw_cursor_t cursor;
    /* An interrupted pc is exact: told apart, or libunwind looks one byte before it. */
    unw_context_t *uc = (unw_context_t *)kssi_arch_frame_ucontext(tf);
    if (unw_init_local2(&cursor, uc, UNW_INIT_SIGNAL_FRAME) < 0)
        return 0;
    return walk(&cursor, tf->mode == KSS_MODE_USER ? KSS_FRAME_USER : KSS_FRAME_KERNEL, frames, max);
}

bool kssi_symbol(uintptr_t pc, char *name, size_t size, uint64_t *offset)
{
    unw_cursor_t cursor;
    unw_context_t here;
    unw_word_t off = 0;
    unw_getcontext(&here);
    kssi_arch_set_pc((ucontext_t *)&here, pc);
    if (unw_init_local2(&cursor, &here, UNW_INIT_SIGNAL_FRAME) < 0)
        return false;
    int r = unw_get_proc_name(&cursor, name, size, &off);
    if (r != 0 && r != -UNW_ENOMEM)
        return false;
    *offset = off;
    return true;
}

void kssi_unwind_warm(void)
{
    struct kss_frame frames[8];
    kssi_unwind(NULL, frames, 8);
}

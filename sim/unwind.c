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

/* gdb finds a script by the shared library's path in its own folder only. This names it for statically
   linked programs and other prefixes: 1 is a file, in Python. */
__asm__(".pushsection .debug_gdb_scripts, \"MS\", %progbits, 1\n"
        ".byte 1\n"
        ".asciz \"" KSSI_GDB_SCRIPT "\"\n"
        ".popsection");

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

/*
 * By the unwind tables alone: finding a name reads the whole program's symbols. Even the search in the tables is most
 * of a walk's time, and return addresses come again: a place of the cache holds an address and, in the low 16 bits,
 * how far in its function it is, in one word, so that CPUs need no lock for it.
 */
static void start_of_frame(unw_cursor_t *cursor, struct kss_frame *f)
{
    static _Atomic uint64_t cache[4096];
    _Atomic uint64_t *place = &cache[(f->pc ^ f->pc >> 12) % 4096];
    uint64_t known = atomic_load_explicit(place, memory_order_relaxed);
    unw_proc_info_t info;
    f->symbol[0] = '\0';
    f->offset = 0;
    if (known >> 16 == f->pc) {
        f->offset = known & 0xffff;
    } else if (unw_get_proc_info(cursor, &info) == 0 && info.start_ip <= f->pc) {
        f->offset = f->pc - info.start_ip;
        if (f->offset < 1u << 16 && f->pc < 1ull << 48)
            atomic_store_explicit(place, (uint64_t)f->pc << 16 | f->offset, memory_order_relaxed);
    }
    f->pc -= f->offset;
}

/* The frame's own bytes reach to the stack pointer of its caller, unless that is on another stack. */
static void set_sizes(struct kss_frame *frames, int n)
{
    for (int i = 0; i + 1 < n; i++)
        if (frames[i].kind != KSS_FRAME_TRAP && frames[i + 1].sp > frames[i].sp &&
            frames[i + 1].sp - frames[i].sp < (1u << 24))
            frames[i].size = frames[i + 1].sp - frames[i].sp;
}

static int walk(unw_cursor_t *cursor, enum kss_frame_kind kind, void (*describe)(unw_cursor_t *, struct kss_frame *),
                struct kss_frame *frames, int max)
{
    int n = 0;
    while (n < max) {
        unw_word_t pc = 0, sp = 0;
        if (unw_get_reg(cursor, UNW_REG_IP, &pc) < 0 || unw_get_reg(cursor, UNW_REG_SP, &sp) < 0 ||
            !pc)
            break;
        struct kss_frame *f = &frames[n++];
        *f = (struct kss_frame){ .pc = (uintptr_t)pc, .sp = (uintptr_t)sp, .kind = kind };
        describe(cursor, f);
        if (strcmp(f->symbol, "kssi_thread_entry") == 0)
            break; /* below it is only what makecontext() put there, which has no name of its own */
        if (kssi_arch_is_entry(pc)) {
            const struct kss_trap_frame *tf = kssi_arch_entry_frame(cursor);
            f->kind = KSS_FRAME_TRAP;
            f->sp = (uintptr_t)tf;
            if (tf && (uintptr_t)tf % 64 == 0 && tf->magic == KSS_TRAP_FRAME_MAGIC) { /* the register may hold anything */
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

static int walk_from_here(void (*describe)(unw_cursor_t *, struct kss_frame *), unw_context_t *here,
                          struct kss_frame *frames, int max)
{
    unw_cursor_t cursor;
    if (unw_init_local(&cursor, here) < 0 || unw_step(&cursor) <= 0)
        return 0;
    return walk(&cursor, KSS_FRAME_KERNEL, describe, frames, max);
}

static int walk_trap(const struct kss_trap_frame *tf, void (*describe)(unw_cursor_t *, struct kss_frame *),
                     struct kss_frame *frames, int max)
{
    unw_cursor_t cursor;
    /* An interrupted pc is exact: told apart, or libunwind looks one byte before it. */
    unw_context_t *uc = (unw_context_t *)kssi_arch_frame_ucontext(tf);
    if (unw_init_local2(&cursor, uc, UNW_INIT_SIGNAL_FRAME) < 0)
        return 0;
    return walk(&cursor, tf->mode == KSS_MODE_USER ? KSS_FRAME_USER : KSS_FRAME_KERNEL, describe, frames, max);
}

int kssi_unwind(const void *ctx, struct kss_frame *frames, int max)
{
    unw_cursor_t cursor;
    unw_context_t here;
    if (!ctx) {
        unw_getcontext(&here);
        return walk_from_here(name_frame, &here, frames, max);
    }
    /* A context that swapcontext() left: its pc is behind a call. */
    unw_context_t *uc = (unw_context_t *)kssi_context_ucontext(ctx);
    /* One that has never run stands at its first function's first byte, and has no caller. */
    bool fresh = kssi_context_is_fresh(ctx);
    if (fresh ? unw_init_local2(&cursor, uc, UNW_INIT_SIGNAL_FRAME) < 0 : unw_init_local(&cursor, uc) < 0)
        return 0;
    return walk(&cursor, KSS_FRAME_KERNEL, name_frame, frames, fresh && max > 1 ? 1 : max);
}

int kssi_unwind_trap(const struct kss_trap_frame *tf, struct kss_frame *frames, int max)
{
    return walk_trap(tf, name_frame, frames, max);
}

int kssi_unwind_sample(const struct kss_trap_frame *tf, struct kss_frame *frames, int max)
{
    unw_context_t here;
    if (tf)
        return walk_trap(tf, start_of_frame, frames, max);
    unw_getcontext(&here);
    return walk_from_here(start_of_frame, &here, frames, max);
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

static void warm(void)
{
    struct kss_frame frames[8];
    kssi_unwind(NULL, frames, 8);
}

/* The unwinder reads /proc and the objects' files for names: once, and not for each machine. */
void kssi_unwind_warm(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, warm);
}

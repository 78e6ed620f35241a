/* SPDX-License-Identifier: MIT */
/*
 * The processor's registers that entry and exit code reads and writes: mode, interrupt flag, the
 * kernel stack pointer. One a host thread, in thread-local storage at an offset that is the same in
 * every thread, so that one instruction reads or writes it even if the code has just migrated.
 */
#ifndef KSSI_HOT_H
#define KSSI_HOT_H

#define HOT_IRQS_ON 0
#define HOT_MODE 1
#define HOT_PENDING 4
#define HOT_KERNEL_SP 8
#define HOT_EXIT_FRAME 16
#define HOT_ALTSTACK 24 /* stack_t */
#define HOT_CLOSE 48
#define HOT_TRAMPOLINE 56
#define HOT_CLOSED 64
#define HOT_HOST_DEPTH 72
#define HOT_HOST_HELD 76

/* struct kssi_closable */
#define CLOSABLE_START 0
#define CLOSABLE_SIZE 8
#define CLOSABLE_BYTES 16

#ifndef __ASSEMBLER__
#include <signal.h>
#include <stddef.h>
#include "platform.h"

struct kssi_hw_cpu;

/* Memory that user mode may not touch: see protect.c. */
struct kssi_closable {
    void *start; /* NULL: the end of the list */
    size_t size;
};

struct kssi_hot {
    uint8_t irqs_on;         /* the software interrupt flag; user mode always has it 1 */
    uint8_t mode;            /* enum kss_mode */
    uint8_t delivering;      /* a handler is moving a frame: a fault now is in the copy */
    uint8_t stepping;        /* interrupt placement: 1 counting, 2 done but flags may linger */
    uint32_t pending;        /* something may be deliverable: ask the controller */
    uint64_t kernel_sp;      /* where an entry from user mode puts its frame */
    uint64_t exit_frame;     /* the frame that the common exit is returning through */
    stack_t altstack;        /* the entry stack; the exit writes it into every frame */
    const struct kssi_closable *close; /* what the exit to user mode closes; NULL: nothing */
    void *trampoline;        /* outside of that: the exit's copy of the frame it returns through */
    uint8_t closed;          /* it may be closed: handlers open it before they touch a kernel stack */
    int syscall_entry;       /* enum kss_syscall_entry */
    uint32_t host_depth;     /* kss_host_begin()s of the running thread: no interrupt is taken */
    uint8_t host_held;       /* one came meanwhile */
    struct kssi_cpu *cpu;    /* NULL: not a simulated CPU */
    struct kssi_hw_cpu *hw;
    struct kssi_cpu_stacks *stacks;
    struct kss_vector_table *table;
    unsigned relaxed;        /* calls of kssi_relax() */
};

_Static_assert(offsetof(struct kssi_hot, irqs_on) == HOT_IRQS_ON, "assembly offset");
_Static_assert(offsetof(struct kssi_hot, mode) == HOT_MODE, "assembly offset");
_Static_assert(offsetof(struct kssi_hot, pending) == HOT_PENDING, "assembly offset");
_Static_assert(offsetof(struct kssi_hot, kernel_sp) == HOT_KERNEL_SP, "assembly offset");
_Static_assert(offsetof(struct kssi_hot, exit_frame) == HOT_EXIT_FRAME, "assembly offset");
_Static_assert(offsetof(struct kssi_hot, altstack) == HOT_ALTSTACK, "assembly offset");
_Static_assert(offsetof(struct kssi_hot, close) == HOT_CLOSE, "assembly offset");
_Static_assert(offsetof(struct kssi_hot, trampoline) == HOT_TRAMPOLINE, "assembly offset");
_Static_assert(offsetof(struct kssi_hot, closed) == HOT_CLOSED, "assembly offset");
_Static_assert(offsetof(struct kssi_hot, host_depth) == HOT_HOST_DEPTH, "assembly offset");
_Static_assert(offsetof(struct kssi_hot, host_held) == HOT_HOST_HELD, "assembly offset");
_Static_assert(offsetof(struct kssi_closable, start) == CLOSABLE_START, "assembly offset");
_Static_assert(offsetof(struct kssi_closable, size) == CLOSABLE_SIZE, "assembly offset");
_Static_assert(sizeof(struct kssi_closable) == CLOSABLE_BYTES, "assembly offset");

extern _Thread_local struct kssi_hot kssi_hot __attribute__((tls_model("initial-exec")));

/* The address of this thread's; not inlined, see kssi_this_cpu(). */
struct kssi_hot *kssi_hot_get(void);
#endif
#endif

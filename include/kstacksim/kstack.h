/* SPDX-License-Identifier: MIT */
/* Kernel stacks: what lies where, how deep, and pictures of it. */
#ifndef KSTACKSIM_KSTACK_H
#define KSTACKSIM_KSTACK_H

#include <stdio.h>
#include <kstacksim/common.h>

KSS_BEGIN_DECLS

/** thread_info lies at the low end of each kernel stack and is found by masking the stack pointer. */
struct kss_thread_info {
    uint64_t magic;
    struct kss_thread *thread;
    uint32_t flags;         /* KSS_TI_* */
    int32_t preempt_count;  /* 0: the kernel may be preempted here */
    uint64_t canary;        /* the end of the stack: the word that an overflow hits first */
};

/** The scheduler wants the CPU back. */
#define KSS_TI_NEED_RESCHED 1u
/** The thread must die before it returns to user mode. */
#define KSS_TI_KILLED 2u
/** What kss_thread_info.magic holds on a live stack. */
#define KSS_THREAD_INFO_MAGIC 0x6b73735f74696e66ull
/** What unused stack is filled with, word by word. */
#define KSS_STACK_POISON 0x57ac57ac57ac57acull

/** Which stack. */
enum kss_stack_kind {
    KSS_STACK_TASK,         /* a thread's kernel stack */
    KSS_STACK_IRQ,          /* a CPU's interrupt stack */
    KSS_STACK_VECTOR,       /* a CPU's stack for vectors whose gate names one */
    KSS_STACK_DOUBLE_FAULT, /* of these, the one of the double fault */
    KSS_STACK_ENTRY,        /* the alternate signal stack: the entry trampoline */
    KSS_STACK_SCHED,        /* a CPU's stack for the operations of an experiment's scheduler class */
    KSS_STACK_USER,
    KSS_STACK_UNKNOWN
};

/** One kernel stack, measured. Addresses grow upward: low < base of use < top. */
struct kss_kstack_info {
    uintptr_t low, high;      /* usable bytes are [low, high); thread_info is at low */
    size_t size;
    uintptr_t user_frame;     /* where every entry from user mode puts its trap frame */
    uintptr_t sp;             /* saved or current stack pointer; 0 if nothing is in use */
    size_t depth;             /* high - sp; 0 if nothing is in use */
    size_t high_water;        /* most bytes ever used, from the poison; exact to the deepest write */
    size_t guard_low, guard_high; /* bytes guarded at each end */
    bool canary_intact;
    unsigned trap_frames;     /* live on it now */
};

/** One frame of a backtrace. */
enum kss_frame_kind { KSS_FRAME_KERNEL, KSS_FRAME_TRAP, KSS_FRAME_USER };
struct kss_frame {
    uintptr_t pc;      /* where execution goes on in this frame */
    uintptr_t sp;      /* stack pointer in this frame */
    size_t size;       /* bytes of this frame; 0 when the next one is on another stack */
    char symbol[64];   /* function, empty when unknown */
    uint64_t offset;   /* of pc in the function */
    enum kss_frame_kind kind;
};

/** The greatest depths that were reached, in bytes, and what they add up to in the worst case. */
struct kss_stack_depths {
    size_t task;     /* of any thread's kernel stack */
    size_t softirq;  /* of the CPUs' softirq, interrupt and NMI stacks: the most of any CPU; the first two are 0 */
    size_t hard_irq; /* without kss_config.irq_stacks, since then they are part of task */
    size_t nmi;      /* 0 when the gate of KSS_VEC_NMI names no vector stack: then it is part of the others */
    size_t worst;    /* all of them at once */
};
/** Measures that, from the poison. -EINVAL, -ENODATA (poison is off). Context as kss_threads(). */
KSS_API int kss_stack_depths(struct kss_machine *machine, struct kss_stack_depths *depths);

/** Smallest kernel stack this host allows: its trap frame twice, and room for handlers. Any context. */
KSS_API size_t kss_kstack_min_size(void);

/**
 * Measures a thread's kernel stack. -ENODATA while it has none. thread may be NULL: the caller.
 * Context: kernel, hard irq; host while the machine does not run (-EBUSY otherwise).
 */
KSS_API int kss_kstack_info(struct kss_thread *thread, struct kss_kstack_info *info);

/**
 * The frames of a thread, innermost first, running or not, across the trap frame into user frames.
 * thread may be NULL: the caller. Returns how many were written, at most max.
 * Context as kss_kstack_info(). Not async-signal-safe.
 */
KSS_API int kss_backtrace(struct kss_thread *thread, struct kss_frame *frames, int max);

/**
 * Draws a thread's kernel stack to scale, high addresses first, each part with its name and size, as
 * text into buffer (always NUL-terminated). Returns the length that the whole picture has.
 * Context as kss_kstack_info().
 */
KSS_API int kss_kstack_draw(struct kss_thread *thread, char *buffer, size_t size);

/** Which stack an address lies in, and whose: *thread may be NULL for a CPU's own. Context: kernel. */
KSS_API enum kss_stack_kind kss_stack_find(struct kss_machine *machine, uintptr_t address,
                                           struct kss_thread **thread);

/** A stack kind's name, such as "task stack". Context: any. */
KSS_API const char *kss_stack_kind_name(enum kss_stack_kind kind);

KSS_END_DECLS
#endif

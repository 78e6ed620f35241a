/* SPDX-License-Identifier: MIT */
/*
 * The contract between the kernel (lib/) and the machine it runs on (sim/). The kernel sees nothing
 * of the host but this header. What differs between machines is in one const table of operations;
 * what is the processor itself, and the same for every machine, are plain functions.
 */
#ifndef KSSI_PLATFORM_H
#define KSSI_PLATFORM_H

#include <kstacksim/kstacksim.h>

#include "sanitizer.h"

struct kssi_cpu;

/*
 * For wrappers around a context switch: each return after it is mispredicted, since the processor's return
 * stack is another thread's, so that a frame less is worth some nanoseconds. Elsewhere the library is
 * built without tail calls, for complete backtraces.
 */
#ifdef __clang__
#define KSSI_TAIL_CALL
#else
#define KSSI_TAIL_CALL __attribute__((optimize("optimize-sibling-calls")))
#endif

/* ---- the processor ------------------------------------------------------------------------- */

/* Index 0 is unused: it means "the stack in use". Gates name 1 to 7; the kernel has the others for itself, and a CPU
   that leaves for good does so on the last. */
#define KSSI_VECTOR_STACKS 11

/*
 * The processor's view of the kernel's stacks, its task state segment. Written by the kernel with
 * interrupts off, read by entry code on the same CPU.
 */
struct kssi_cpu_stacks {
    struct kssi_range task, irq, vector[KSSI_VECTOR_STACKS];
    uint8_t vector_busy[KSSI_VECTOR_STACKS]; /* a frame is live on it */
    unsigned triple_vector; /* of a triple fault: what came, and where */
    uintptr_t triple_pc;
    volatile uint32_t *host_depth; /* host regions that the running thread is in; set when the CPU boots */
};

/* Where libc's frames could be, for platform.host_scan(). */
struct kssi_host_look {
    const struct kss_trap_frame *tf; /* the innermost; NULL: none */
    uintptr_t sp;                    /* kernel code without a trap frame of its own: where it stands; 0: it has one */
    struct kssi_range task, user;    /* the thread's stacks */
    /* found: */
    const struct kss_trap_frame *from; /* where a walk has to begin; NULL: at its caller */
    struct kssi_range farthest;        /* the farthest word, and the end of its stack; SURE: where in libc */
};
enum kssi_host_words {
    KSSI_HOST_WORDS_NONE,
    KSSI_HOST_WORDS_SOME, /* one that may be a return address into libc: up to platform.host_walk() */
    KSSI_HOST_WORDS_SURE  /* libc was interrupted itself */
};
enum kssi_host_verdict {
    KSSI_HOST_FREE,
    KSSI_HOST_LIVE,
    KSSI_HOST_UNKNOWN /* the walk has ended before it came to the farthest word */
};

/* Interrupt flag. Enabling delivers what is pending before it returns. */
bool kssi_irq_save(void);
void kssi_irq_disable(void);
void kssi_irq_enable(void);
bool kssi_irqs_on(void);
static inline void kssi_irq_restore(bool on)
{
    if (on)
        kssi_irq_enable();
}

enum kss_mode kssi_cpu_mode(void);
/* NULL on a host thread. Not inlined: the compiler must not keep it across a migration. */
struct kssi_cpu *kssi_this_cpu(void);
/* Executes a privileged instruction: a general-protection fault in user mode. */
void kssi_privileged_instruction(void);
/* Enters the kernel: by a trapping instruction, by the call gate, or by `int n`. */
long kssi_enter_by_trap(long nr, long a0, long a1, long a2, long a3, long a4, long a5);
long kssi_enter_by_gate(long nr, long a0, long a1, long a2, long a3, long a4, long a5);
long kssi_enter_by_int(unsigned vector, long argument);
/* How this CPU's machine has user stubs enter: enum kss_syscall_entry; -1 on a host thread. */
int kssi_syscall_entry(void);
/* Copies with fault fix-up: returns the bytes that could not be copied. */
size_t kssi_user_copy(void *to, const void *from, size_t n);
/* Calls fn(arg) with the stack pointer at top, and comes back to the stack in use. */
void kssi_call_on_stack(uintptr_t top, void (*fn)(void *), void *arg);
/* Host regions of the running thread, in either mode of a CPU: see entry_x86_64.S. */
void kssi_host_enter(void);
int kssi_host_leave(void);
/* After a region: what was held back comes now. */
void kssi_host_release(void);
/* Pauses in a spin loop. */
void kssi_relax(void);
/* The same, after many of them: what is waited for may need this host core. Leaves the host's errno as it is. */
void kssi_relax_long(void);
/* The host's errno of this CPU; not inlined, like kssi_this_cpu(). */
int kssi_host_errno(void);
void kssi_set_host_errno(int value);

/* Trap frames. */
size_t kssi_frame_size(void);      /* a hardware-like frame, a multiple of 64 */
uint64_t kssi_frame_get(const struct kss_trap_frame *tf, unsigned dwarf); /* checked by caller */
bool kssi_frame_has(unsigned dwarf);
uintptr_t kssi_frame_pc(const struct kss_trap_frame *tf);
uintptr_t kssi_frame_sp(const struct kss_trap_frame *tf);
uint64_t kssi_frame_flags(const struct kss_trap_frame *tf);
void kssi_frame_set_pc(struct kss_trap_frame *tf, uintptr_t pc);
void kssi_frame_set_result(struct kss_trap_frame *tf, long value);
long kssi_frame_arguments(const struct kss_trap_frame *tf, long a[6]); /* returns the call's number */
/* A frame from which the common exit starts fn(arg) in user mode on a stack that ends at sp. */
void kssi_frame_init_user(struct kss_trap_frame *tf, kss_user_fn fn, void *arg, uintptr_t sp);
/* At entry: seals what decides where and how the frame returns. Returns how many general registers entry saves
   beyond the hardware's words. */
unsigned kssi_frame_seal(struct kss_trap_frame *tf, uint64_t key);
/* Whether that is as it was. kssi_frame_set_pc() and kssi_frame_fixup() keep the seal right. */
bool kssi_frame_sealed(const struct kss_trap_frame *tf, uint64_t key);
/* A frame whose seal is broken: what is wrong with it. */
const char *kssi_frame_check(const struct kss_trap_frame *tf);
/* A fault inside kssi_user_copy(): makes it return; false if it was elsewhere. */
bool kssi_frame_fixup(struct kss_trap_frame *tf);
unsigned kssi_frame_instruction_length(const struct kss_trap_frame *tf);
/* Returns from trap through a frame, never to the caller. Interrupts off. */
void kssi_frame_return(struct kss_trap_frame *tf) __attribute__((noreturn));

/* ---- the machine --------------------------------------------------------------------------- */

/* A disk transfer, as the driver programs it into the controller. */
struct kssi_disk_request {
    bool write;
    uint64_t offset;
    size_t length;
    void *memory; /* kernel memory; DMA goes there while the CPU runs on */
};
/* What the controller's status registers say after its interrupt. */
struct kssi_disk_status {
    size_t done;
    int error; /* host errno, 0 if none */
};
struct kssi_disk_hw;
struct kssi_console_hw;

struct kssi_platform {
    const char *name;

    /* Life. init leaves nothing behind on error. run boots every CPU (each calls kssi_cpu_main())
       and returns when all have left it. */
    int (*probe)(void); /* can this host carry it? Learns the trap frame's size. */
    int (*init)(struct kss_machine *m);
    void (*fini)(struct kss_machine *m);
    int (*run)(struct kss_machine *m);

    /* Stack memory: reserve gives address space; open makes a part usable, guard makes it fault. */
    void *(*reserve)(size_t size, size_t align);
    void (*release)(void *p, size_t size);
    int (*open)(void *p, size_t size);
    int (*guard)(void *p, size_t size);
    int (*unguard)(void *p, size_t size); /* what was open and then guarded: usable again, contents gone */
    void (*populate)(void *p, size_t size); /* all of it is about to be written */
    void (*discard)(void *p, size_t size); /* contents may go; zero or old when touched again */
    bool (*guards_by_madvise)(void);
    /* This reservation holds kernel stacks: user mode is not to touch it, if kss_config.protect says so. Before the
       machine runs, or in kernel mode. */
    int (*protect)(struct kss_machine *m, void *region, size_t size);
    size_t (*page_size)(void);
    size_t (*memory_size)(void);

    /* Privileged registers of this CPU. */
    void (*load_kernel_sp)(uintptr_t user_frame);
    void (*load_vector_table)(struct kss_vector_table *table);
    struct kss_vector_table *(*vector_table)(void);
    /* Waits for an interrupt: called with interrupts off, returns with them off; never misses one
       that was pending. */
    void (*wait_for_interrupt)(void);

    /* Contexts: what a context switch saves. */
    size_t context_size;
    void (*context_init)(void *ctx, struct kssi_range stack, void (*entry)(void));
    void (*context_switch)(void *from, void *to);
    uintptr_t (*context_sp)(const void *ctx);

    /* Interrupt controller. acknowledge: the highest deliverable line goes into service, or -1. */
    /* raise: 1 if the event was lost, since the line was pending already. */
    int (*raise)(struct kss_machine *m, unsigned cpu, unsigned line, unsigned count);
    void (*nmi)(struct kss_machine *m, unsigned cpu); /* async-signal-safe */
    int (*acknowledge)(uint64_t *raised_ns);
    int (*eoi)(unsigned line);
    void (*set_mask)(struct kss_machine *m, unsigned line, bool masked);
    void (*hold)(uint64_t lines); /* on this CPU just these are held back, beside the masked ones */
    void (*set_line_priority)(struct kss_machine *m, unsigned line, unsigned priority);
    /* line_stats: false if the line was being raised meanwhile, so that the numbers may not add up. */
    bool (*line_stats)(struct kss_machine *m, unsigned cpu, unsigned line, struct kss_irq_stats *s);
    uint64_t (*deferred)(struct kss_machine *m, unsigned cpu);

    uint64_t (*clock)(struct kss_machine *m); /* ns since boot; host context allowed */
    /* Cheaper, for run times and slices: ns from some start, within 0.1 % of clock()'s pace. */
    uint64_t (*account_clock)(struct kss_machine *m);
    uint64_t (*entropy)(void);
    void (*message)(const char *text, size_t n); /* to the person at the machine; may be called anywhere */

    /* Backtraces. ctx: a saved context, or NULL: from the caller. */
    int (*backtrace)(const void *ctx, struct kss_frame *frames, int max);
    int (*backtrace_trap)(const struct kss_trap_frame *tf, struct kss_frame *frames, int max);
    /* Without names: pc is where the function begins, offset how far in it is. tf NULL: from the caller. */
    int (*sample)(const struct kss_trap_frame *tf, struct kss_frame *frames, int max);
    /* Names an address; offset from the symbol's start. False if unknown. */
    bool (*symbol)(uintptr_t pc, char *name, size_t size, uint64_t *offset);

    bool (*in_host_code)(uintptr_t pc); /* libc and its like, which must not be preempted */
    /* Are frames of theirs live on the stacks of the running thread? Interrupts off. The scan looks at words; the walk
       by unwind tables, up to the farthest of these, decides. pc: which of its functions was called, or NULL. The walk may fault, and uses some KiB
       of stack. */
    enum kssi_host_words (*host_scan)(struct kssi_host_look *look);
    enum kssi_host_verdict (*host_walk)(const struct kss_trap_frame *tf, struct kssi_range farthest, uintptr_t *pc);
    void (*host_look_again)(uint64_t ns);     /* has KSS_LINE_RESCHED raised on this CPU in about that time */
    void (*host_load_depth)(uint32_t depth);  /* the regions of the thread that is switched to */
    void (*host_waits)(struct kss_machine *m, unsigned cpu, struct kss_host_stats *s); /* adds this CPU's */

    /* Interrupt placement: see kss_placement_start(). */
    int (*placement_start)(unsigned line, uint64_t steps);
    int (*placement_stop)(struct kss_placement *result);

    /* Devices. They raise their line on the CPU that kssi_irq_cpu() gives. */
    int (*disk_open)(struct kss_machine *m, const struct kss_disk_config *config, unsigned line,
                     struct kssi_disk_hw **hw);
    void (*disk_start)(struct kssi_disk_hw *hw, const struct kssi_disk_request *request);
    bool (*disk_status)(struct kssi_disk_hw *hw, struct kssi_disk_status *status);
    void (*disk_close)(struct kssi_disk_hw *hw);
    void (*disk_counters)(struct kssi_disk_hw *hw, struct kss_disk_stats *stats);
    int (*console_open)(struct kss_machine *m, const struct kss_console_config *config,
                        unsigned line, struct kssi_console_hw **hw);
    /* One key from the controller's buffer: 0 to 255, or a KSSI_KEY_ code. */
    int (*console_key)(struct kssi_console_hw *hw);
    long (*console_write)(struct kssi_console_hw *hw, const void *data, size_t n);
    void (*console_close)(struct kssi_console_hw *hw);
};

#define KSSI_KEY_NONE (-1) /* buffer empty */
#define KSSI_KEY_HANGUP (-2) /* the input has ended */

/* The error code of a non-maskable interrupt: why it came. */
#define KSSI_NMI_RAISED 1u   /* platform.nmi() */
#define KSSI_NMI_STOP 4u     /* the machine stops, and this CPU has not heard of it */
#define KSSI_NMI_WATCHDOG 2u /* a tick waits for too long: interrupts are off, or one was never ended */

extern const struct kssi_platform kssi_platform_live;

/* ---- what the machine calls in the kernel -------------------------------------------------- */

/* From the common entry, on the kernel stack, interrupts off. Returns to the common exit. */
void kssi_trap(struct kss_trap_frame *tf);
/* From the common exit, when an interrupt became pending since: handles it on the same frame. */
void kssi_trap_again(struct kss_trap_frame *tf);
/* A CPU's main function, on its host thread's own stack; returns at halt. */
void kssi_cpu_main(struct kssi_cpu *cpu);
/* The machine can't go on: from entry code, through an edited frame. Never returns. */
void kssi_cpu_abort(void) __attribute__((noreturn));
void kssi_triple_fault(void) __attribute__((noreturn));
/* The compiler's check of a stack frame failed, in the function that pc is in; either mode of a CPU. */
void kssi_stack_smashed(uintptr_t pc) __attribute__((noreturn));
/* The CPU that a device's interrupt goes to. Async-signal-safe. */
unsigned kssi_irq_cpu(struct kss_machine *m, unsigned line);
/* A line was raised on a CPU, by entry code; for the trace. Async-signal-safe. */
void kssi_trace_raise(struct kss_machine *m, unsigned line, const struct kssi_cpu *cpu, bool lost);
/* Where every thread's context starts. */
void kssi_thread_entry(void);
/* After a user function has returned. */
void kssi_user_return(long value) __attribute__((noreturn));
/* Accessors for structures that only the kernel knows. */
struct kssi_hw_machine *kssi_machine_hw(struct kss_machine *m);
void kssi_machine_set_hw(struct kss_machine *m, struct kssi_hw_machine *hw);
bool kssi_machine_stopping(struct kss_machine *m);
const struct kss_config *kssi_machine_config(struct kss_machine *m);
struct kssi_cpu *kssi_machine_cpu(struct kss_machine *m, unsigned index);
struct kssi_cpu_stacks *kssi_cpu_stacks(struct kssi_cpu *cpu);
/* Remembers an error sentence for kss_last_error(); returns err. */
int kssi_error(int err, const char *format, ...) KSS_PRINTF(2, 3);

#endif

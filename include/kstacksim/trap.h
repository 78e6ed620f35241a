/* SPDX-License-Identifier: MIT */
/* Traps: the vector table, gates, trap frames, and interrupts placed at an exact instruction. */
#ifndef KSTACKSIM_TRAP_H
#define KSTACKSIM_TRAP_H

#include <kstacksim/common.h>

KSS_BEGIN_DECLS

#define KSS_VECTORS 256

/** Vectors. Those below 32 are exceptions and have the numbers of the x86 architecture. */
enum kss_vector {
    KSS_VEC_DIVIDE = 0,
    KSS_VEC_DEBUG = 1,
    KSS_VEC_NMI = 2,
    KSS_VEC_BREAKPOINT = 3,
    KSS_VEC_OVERFLOW = 4,
    KSS_VEC_INVALID_OPCODE = 6,
    KSS_VEC_DOUBLE_FAULT = 8,
    KSS_VEC_STACK = 12,
    KSS_VEC_GENERAL_PROTECTION = 13,
    KSS_VEC_PAGE_FAULT = 14,
    KSS_VEC_FPU = 16,
    KSS_VEC_ALIGNMENT = 17,
    KSS_VEC_SIMD = 19,
    KSS_VEC_IRQ = 32,     /* first of KSS_IRQ_LINES */
    KSS_VEC_SYSCALL = 0x81,
    KSS_VEC_SOFTWARE = 0x90 /* up to 0xff: free for an experiment's software interrupts */
};

/** An interrupt gate turns interrupts off on entry, a trap gate leaves them as they are. */
enum kss_gate_type { KSS_GATE_NONE = 0, KSS_GATE_INTERRUPT, KSS_GATE_TRAP };

/** Who may raise a vector by an instruction. */
enum kss_privilege { KSS_PRIV_KERNEL = 0, KSS_PRIV_USER = 3 };

/** A trap handler. Runs in kernel mode on the kernel stack; frame is what was interrupted. */
typedef void (*kss_trap_fn)(struct kss_trap_frame *frame, void *arg);

/** One entry of the vector table. */
struct kss_gate {
    kss_trap_fn handler;
    void *arg;
    enum kss_gate_type type;
    enum kss_privilege privilege;
    unsigned stack; /* 0: the stack in use; 1 to 7: the CPU's vector stack of that number */
};

struct kss_vector_table {
    struct kss_gate gate[KSS_VECTORS];
};

/** What made a trap frame. */
enum kss_frame_source {
    KSS_FRAME_SIGNAL = 1, /* hardware-like entry: the whole register state */
    KSS_FRAME_GATE = 2    /* call gate or an interrupt taken at irq-enable: general registers */
};

/**
 * The head of a trap frame, at the lowest address of it, on the kernel stack. The registers follow;
 * read them with the functions below.
 */
struct kss_trap_frame {
    uint64_t magic;                /* KSS_TRAP_FRAME_MAGIC */
    struct kss_trap_frame *prev;   /* the frame this one is nested in; NULL from user mode */
    uint64_t error;                /* error code of an exception */
    uint64_t fault_address;        /* of a page fault */
    uint64_t raised_ns;            /* when the event was raised; 0 if not measured */
    uint16_t vector;
    uint8_t source;                /* enum kss_frame_source */
    uint8_t mode;                  /* enum kss_mode that was interrupted */
    uint8_t irqs_on;               /* were interrupts enabled there? */
    uint8_t stack;                 /* vector stack it lies on, 0 if none */
    uint16_t cause;                /* double fault: the vector that could not be delivered */
    uint32_t size;                 /* bytes from here to the end of the frame */
    int32_t host_errno;
    uint64_t seal;                 /* over what decides where and how it returns: a scribbled frame is refused */
};

/** In `cause`: there is none. */
#define KSS_NO_CAUSE 0xffff
/** In `magic`, of every trap frame. */
#define KSS_TRAP_FRAME_MAGIC 0x6b73735f66726d65ull

/* All take a frame on a kernel stack of this CPU's machine; 0 or nothing for what is none. Privileged. */
/** Program counter, stack pointer, processor status at the trap. Context: kernel, hard irq. */
KSS_API uintptr_t kss_trap_pc(const struct kss_trap_frame *frame);
KSS_API uintptr_t kss_trap_sp(const struct kss_trap_frame *frame);
KSS_API uint64_t kss_trap_flags(const struct kss_trap_frame *frame);
/** A general register by its DWARF number. -EINVAL if there is no such register. */
KSS_API int kss_trap_register(const struct kss_trap_frame *frame, unsigned dwarf, uint64_t *value);
/** Makes the interrupted program go on elsewhere. Context: kernel, hard irq. */
KSS_API void kss_trap_set_pc(struct kss_trap_frame *frame, uintptr_t pc);
/** Length in bytes of the trapping instruction at the saved program counter; 0 if none is there. */
KSS_API unsigned kss_trap_instruction_length(const struct kss_trap_frame *frame);
/** The bytes a hardware-like trap frame takes on this host. Context: any. */
KSS_API size_t kss_trap_frame_size(void);

/**
 * Loads the table that this CPU finds its handlers through: the privileged register of the
 * processor. The table must stay valid and is used in place. A user-mode caller gets a
 * general-protection fault. -EINVAL (NULL, a gate that kss_vector_set() would refuse), -ENOMEM. Context: kernel, hard irq.
 */
KSS_API int kss_vector_table_load(struct kss_vector_table *table);
/** The table in use. Privileged. Context: kernel, hard irq. */
KSS_API struct kss_vector_table *kss_vector_table(void);
/**
 * Sets one gate of the machine's own table. Privileged when called on a simulated CPU.
 * -EINVAL (vector above 255, stack above 7, a type that is no type, an NMI without a stack), -ENOMEM (no vector stack).
 * Context: kernel; host before the machine runs.
 */
KSS_API int kss_vector_set(struct kss_machine *machine, unsigned vector,
                           const struct kss_gate *gate);
/** Reads one gate of the machine's own table. -EINVAL. Context as kss_vector_set(). */
KSS_API int kss_vector_get(struct kss_machine *machine, unsigned vector, struct kss_gate *gate);

/**
 * Raises a vector by an instruction, as `int n` does: a software interrupt. A gate that is closed to
 * user mode, or none, gives a general-protection fault. argument is the handler's argument 0.
 * Returns what the handler left with kss_trap_set_result(), -EINVAL for 3, 4 and 0x80, which the host
 * takes for itself, -EPERM on a host thread. Context: user, kernel.
 */
KSS_API long kss_software_interrupt(unsigned vector, long argument);

/** Result of a software interrupt: what kss_software_interrupt() returns. Context: kernel. */
KSS_API void kss_trap_set_result(struct kss_trap_frame *frame, long value);
/** Argument number 0 to 5 of a system call (0: of a software interrupt). Context: kernel. */
KSS_API long kss_trap_argument(const struct kss_trap_frame *frame, unsigned index);

/** A vector's name, such as "page fault"; "vector" if it has none. Context: any. */
KSS_API const char *kss_vector_name(unsigned vector);

/* Interrupts placed at an exact instruction, by the processor's trap flag. For tests of entry and
   exit code: some 20 us of host time a step. */

/** What became of a placed interrupt. */
struct kss_placement {
    bool fired;          /* the line was raised */
    uint64_t steps;      /* instructions stepped through */
    uintptr_t pc;        /* where it was raised */
    enum kss_mode mode;  /* in which mode the CPU was */
    bool irqs_on;        /* were interrupts enabled? */
};
/**
 * From now on the CPU steps; after `steps` instructions, user and kernel code counted alike, the
 * IRQ line is raised as if its signal had just arrived. -EINVAL. Context: user.
 */
KSS_API int kss_placement_start(unsigned line, uint64_t steps);
/** Ends stepping and says what happened. -EINVAL. Context: user. */
KSS_API int kss_placement_stop(struct kss_placement *result);

KSS_END_DECLS
#endif

/* SPDX-License-Identifier: MIT */
/* x86-64 trap frames, as the kernel sees them: lib/platform.h's frame functions. */
#define _GNU_SOURCE
#include "frame_x86_64.h"

#include <string.h>

#include "arch.h"

#define model kssi_frame_model

_Static_assert(offsetof(struct kss_trap_frame, prev) == TF_PREV, "frame layout");
_Static_assert(offsetof(struct kss_trap_frame, raised_ns) == TF_RAISED, "frame layout");
_Static_assert(offsetof(struct kss_trap_frame, vector) == TF_VECTOR, "frame layout");
_Static_assert(offsetof(struct kss_trap_frame, source) == TF_SOURCE, "frame layout");
_Static_assert(offsetof(struct kss_trap_frame, mode) == TF_MODE, "frame layout");
_Static_assert(offsetof(struct kss_trap_frame, irqs_on) == TF_IRQS_ON, "frame layout");
_Static_assert(offsetof(struct kss_trap_frame, stack) == TF_STACK, "frame layout");
_Static_assert(offsetof(struct kss_trap_frame, cause) == TF_CAUSE, "frame layout");
_Static_assert(offsetof(struct kss_trap_frame, size) == TF_SIZE, "frame layout");
_Static_assert(offsetof(struct kss_trap_frame, host_errno) == TF_HOST_ERRNO, "frame layout");
_Static_assert(sizeof(struct kss_trap_frame) == FRAME_UC, "frame layout");
_Static_assert(KSS_TRAP_FRAME_MAGIC == FRAME_MAGIC, "frame layout");
_Static_assert(KSS_VEC_SYSCALL == SYSCALL_VECTOR, "vector");
_Static_assert(offsetof(ucontext_t, uc_stack) == UC_STACK, "ucontext layout");
_Static_assert(offsetof(ucontext_t, uc_mcontext.gregs) == UC_GREGS, "ucontext layout");
_Static_assert(offsetof(ucontext_t, uc_mcontext.fpregs) == UC_FPREGS, "ucontext layout");


/* The flags that user code may have in a frame it returns through: status, trap, direction, alignment,
   resume, id, and the two that are always one. */
#define FLAGS_ALLOWED 0x250fd7u

extern char kssi_user_start[];

size_t kssi_frame_size(void)
{
    return model.frame_size;
}

static ucontext_t *frame_uc(const struct kss_trap_frame *tf)
{
    return (ucontext_t *)((unsigned char *)tf + FRAME_UC);
}

const ucontext_t *kssi_arch_frame_ucontext(const struct kss_trap_frame *tf)
{
    return frame_uc(tf);
}

static greg_t *frame_regs(const struct kss_trap_frame *tf)
{
    return frame_uc(tf)->uc_mcontext.gregs;
}

/* DWARF register numbers of the System V ABI. */
static const int dwarf_register[] = { REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI,
                                      REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                      REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP };

bool kssi_frame_has(unsigned dwarf)
{
    return dwarf < sizeof dwarf_register / sizeof dwarf_register[0];
}

uint64_t kssi_frame_get(const struct kss_trap_frame *tf, unsigned dwarf)
{
    return (uint64_t)frame_regs(tf)[dwarf_register[dwarf]];
}

uintptr_t kssi_frame_pc(const struct kss_trap_frame *tf)
{
    return (uintptr_t)frame_regs(tf)[REG_RIP];
}

uintptr_t kssi_frame_sp(const struct kss_trap_frame *tf)
{
    return (uintptr_t)frame_regs(tf)[REG_RSP];
}

uint64_t kssi_frame_flags(const struct kss_trap_frame *tf)
{
    return (uint64_t)frame_regs(tf)[REG_EFL];
}

void kssi_frame_set_pc(struct kss_trap_frame *tf, uintptr_t pc)
{
    greg_t *r = frame_regs(tf);
    tf->seal ^= (uint64_t)r[REG_RIP] ^ pc;
    r[REG_RIP] = (greg_t)pc;
}

void kssi_frame_set_result(struct kss_trap_frame *tf, long value)
{
    frame_regs(tf)[REG_RAX] = value;
}

long kssi_frame_arguments(const struct kss_trap_frame *tf, long a[6])
{
    const greg_t *r = frame_regs(tf);
    a[0] = r[REG_RSI];
    a[1] = r[REG_RDX];
    a[2] = r[REG_RCX];
    a[3] = r[REG_R8];
    a[4] = r[REG_R9];
    a[5] = r[REG_R10];
    return r[REG_RDI];
}

/* What is not part of it: the vector, which an interrupt that is handled at the exit changes; the link; results. */
static inline uint64_t seal_of(const struct kss_trap_frame *tf, uint64_t key)
{
    const greg_t *r = frame_regs(tf);
    uint64_t head, size, sp = (uint64_t)r[REG_RSP], flags = (uint64_t)r[REG_EFL];
    memcpy(&head, (const unsigned char *)tf + TF_VECTOR, 8);
    memcpy(&size, (const unsigned char *)tf + TF_SIZE, 8); /* and host_errno */
    key ^= tf->magic ^ (uint64_t)(uintptr_t)tf->prev ^ (uint64_t)r[REG_RIP] ^ (sp << 13 | sp >> 51) ^
           (flags << 29 | flags >> 35) ^ (size << 7) ^ (head & ~(uint64_t)0xffff);
    if (tf->source == SOURCE_SIGNAL)
        key ^= (uint64_t)r[REG_CSGSFS] ^ (uint64_t)(uintptr_t)frame_uc(tf)->uc_mcontext.fpregs;
    return key;
}

unsigned kssi_frame_seal(struct kss_trap_frame *tf, uint64_t key)
{
    tf->seal = seal_of(tf, key);
    /* All general registers but pc and sp; the gate leaves out those a C call may change. */
    return tf->source == SOURCE_SIGNAL ? 15 : 6;
}

bool kssi_frame_sealed(const struct kss_trap_frame *tf, uint64_t key)
{
    return tf->seal == seal_of(tf, key);
}

void kssi_frame_init_user(struct kss_trap_frame *tf, kss_user_fn fn, void *arg, uintptr_t sp)
{
    unsigned char *base = (unsigned char *)tf;
    memset(tf, 0, sizeof *tf);
    tf->magic = KSS_TRAP_FRAME_MAGIC;
    tf->vector = KSS_VEC_SYSCALL;
    tf->source = SOURCE_SIGNAL;
    tf->mode = KSS_MODE_USER;
    tf->irqs_on = 1;
    tf->cause = KSS_NO_CAUSE;
    tf->size = (uint32_t)model.frame_size;
    memcpy(base + FRAME_UC, &model.uc, UC_SIZE);
    memcpy(base + FRAME_XSTATE, model.xstate, sizeof model.xstate);
    uint64_t none = 0;
    uint32_t mxcsr = 0x1f80;
    memcpy(base + FRAME_XSTATE + MXCSR_OFFSET, &mxcsr, 4);
    if (model.xstate_size > 512) {
        memcpy(base + FRAME_XSTATE + XSAVE_HEADER, &none, 8);
        memcpy(base + FRAME_XSTATE + model.xstate_size - 4, &model.magic2, 4);
    }
    ucontext_t *uc = frame_uc(tf);
    uc->uc_mcontext.fpregs = (fpregset_t)(base + FRAME_XSTATE);
    greg_t *r = uc->uc_mcontext.gregs;
    for (int i = REG_R8; i <= REG_RCX; i++)
        r[i] = 0;
    r[REG_RIP] = (greg_t)kssi_user_start;
    r[REG_RSP] = (greg_t)(sp & ~(uintptr_t)15);
    r[REG_RBX] = (greg_t)fn;
    r[REG_RDI] = (greg_t)arg;
    r[REG_EFL] = 0x202;
}

const char *kssi_frame_check(const struct kss_trap_frame *tf)
{
    if (tf->magic != KSS_TRAP_FRAME_MAGIC)
        return "the frame's magic number is wrong";
    if (tf->mode > KSS_MODE_KERNEL || tf->irqs_on > 1)
        return "the saved mode or interrupt flag is neither 0 nor 1";
    if (tf->mode == KSS_MODE_USER && !tf->irqs_on && !tf->stack) /* but for an NMI in the call gate */
        return "it would return to user mode with interrupts off";
    if (tf->stack >= KSSI_VECTOR_STACKS)
        return "it says that it lies on a vector stack that does not exist";
    if (tf->source == SOURCE_GATE)
        return tf->size == GATE_FRAME_SIZE ? "the saved program counter, stack pointer or mode is not what was saved"
                                           : "the frame's size is wrong";
    if (tf->source != SOURCE_SIGNAL || tf->size != model.frame_size)
        return "the frame's kind or size is wrong";
    const unsigned char *base = (const unsigned char *)tf;
    const ucontext_t *uc = frame_uc(tf);
    const greg_t *r = uc->uc_mcontext.gregs;
    if (r[REG_CSGSFS] != model.uc.uc_mcontext.gregs[REG_CSGSFS])
        return "a saved segment register is wrong";
    if ((uint64_t)r[REG_EFL] & ~(uint64_t)FLAGS_ALLOWED)
        return "the saved flags have bits that no program can set";
    if ((uint64_t)r[REG_RIP] >> 47)
        return "the saved program counter is no address that a program can have";
    if ((const unsigned char *)uc->uc_mcontext.fpregs != base + FRAME_XSTATE)
        return "the pointer to the extended state is wrong";
    return "the saved program counter, stack pointer, flags or mode is not what was saved";
}

bool kssi_frame_fixup(struct kss_trap_frame *tf)
{
    uintptr_t pc = kssi_frame_pc(tf);
    bool fixed = kssi_arch_fixup(frame_uc(tf));
    tf->seal ^= pc ^ kssi_frame_pc(tf);
    return fixed;
}

unsigned kssi_frame_instruction_length(const struct kss_trap_frame *tf)
{
    unsigned char code[2];
    if (kssi_user_copy(code, (const void *)kssi_frame_pc(tf), 2) != 0)
        return 0;
    return code[0] == 0xcd ? 2 : code[0] == 0xcc ? 1 : 0;
}

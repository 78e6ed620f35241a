/* SPDX-License-Identifier: MIT */
/* x86-64: signal frames, exceptions, the common entry and exit's addresses. */
#define _GNU_SOURCE
#include "arch.h"

#define UNW_LOCAL_ONLY
#include <cpuid.h>
#include <errno.h>
#include <libunwind.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "frame_x86_64.h"
#include "hot.h"

#define FLAG_TRAP 0x100u
#define FLAG_DIRECTION 0x400u
#define FLAG_NESTED 0x4000u
#define FLAG_ALIGNMENT 0x40000u
void kssi_arch_clear_alignment(void);
extern char kssi_trap_entry[], kssi_trap_exit[], kssi_trap_exit_begin[], kssi_trap_exit_end[];
extern char kssi_trap_exit_pending[], kssi_trap_exit_noted[], kssi_gate_begin[], kssi_gate_end[];
extern char kssi_user_copy_insn[], kssi_user_copy_fixup[];

struct kssi_frame_model kssi_frame_model;
#define model kssi_frame_model

int kssi_arch_check_host(void)
{
    unsigned long status = 0;
    /* ARCH_SHSTK_STATUS: fails with EINVAL where the kernel has no user shadow stacks. */
    if (syscall(SYS_arch_prctl, 0x5005, &status) == 0 && (status & 1))
        return kssi_error(-ENOTSUP, "user shadow stacks are on (GLIBC_TUNABLES?): a moved trap frame "
                                    "can't be returned through; run without them");
    return 0;
}

bool kssi_arch_cycles_usable(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(0x80000007, &a, &b, &c, &d) && (d & (1u << 8)); /* invariant TSC */
}

uint64_t kssi_arch_cycles(void)
{
    return __builtin_ia32_rdtsc();
}

int kssi_arch_learn(const ucontext_t *uc)
{
    if (model.known)
        return 0;
    const unsigned char *fp = (const void *)uc->uc_mcontext.fpregs;
    if (!fp)
        return kssi_error(-ENOTSUP, "the host's signal frames carry no extended state");
    uint32_t magic1, size;
    memcpy(&magic1, fp + XSAVE_SW_BYTES, 4);
    memcpy(&size, fp + XSAVE_SW_BYTES + 4, 4);
    model.xstate_size = 512;
    if (magic1 == FP_XSTATE_MAGIC1_) {
        model.xstate_size = size;
        memcpy(&model.magic2, fp + size - 4, 4);
        for (unsigned i = 2; i < 63; i++) {
            unsigned a, b, c, d;
            if (!__get_cpuid_count(0xd, i, &a, &b, &c, &d) || !a || (c & 1))
                continue; /* absent, or supervisor state: not in a user frame */
            if (b + a > size - 4 || model.components == 16)
                continue;
            model.component[model.components++] = (struct kssi_component){ 1ull << i, b, a };
        }
    }
    unsigned eax, ebx, ecx, edx;
    model.fred = __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax & (1u << 17));
    memcpy(&model.uc, uc, UC_SIZE);
    memcpy(model.xstate, fp, magic1 == FP_XSTATE_MAGIC1_ ? XSAVE_EXTENDED : 512);
    model.frame_size = (FRAME_XSTATE + model.xstate_size + 63) & ~(size_t)63;
    model.known = true;
    return 0;
}

/* ---- the host's ucontext ------------------------------------------------------------------------ */

uintptr_t kssi_arch_pc(const ucontext_t *uc)
{
    return (uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
}

uintptr_t kssi_arch_sp(const ucontext_t *uc)
{
    return (uintptr_t)uc->uc_mcontext.gregs[REG_RSP];
}

void kssi_arch_set_pc(ucontext_t *uc, uintptr_t pc)
{
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)pc;
}

size_t kssi_arch_red_zone(void)
{
    return 128;
}

uintptr_t kssi_arch_ucontext_sp(const ucontext_t *uc)
{
    return kssi_arch_sp(uc);
}

void kssi_arch_own_fpstate(ucontext_t *uc)
{
    uc->uc_mcontext.fpregs = &uc->__fpregs_mem;
}

/* `int n` in memory at pc: its vector, or -1. The bytes have just been executed, so they are there. */
static int int_instruction(uintptr_t pc)
{
    unsigned char code[2];
    if (kssi_user_copy(code, (const void *)pc, 2) != 0)
        return -1;
    return code[0] == 0xcd ? code[1] : -1;
}

static void decode_general_protection(uint64_t error, uintptr_t pc, struct kssi_arch_event *e)
{
    /* The host reports #GP with error code n*8+2 and the pc at the instruction; CPUs with FRED may
       have moved past it and leave the code 0. */
    int n = int_instruction(pc);
    if (n >= 0 && (error == (uint64_t)n * 8 + 2 || error == 0)) {
        e->pc_after = pc + 2;
    } else if (model.fred && error == 0 && (n = int_instruction(pc - 2)) >= 0) {
        e->pc_after = pc;
    } else {
        e->vector = KSS_VEC_GENERAL_PROTECTION;
        return;
    }
    e->vector = (unsigned)n;
    e->error = 0;
    e->by_instruction = true;
}

void kssi_arch_decode(int sig, const siginfo_t *si, const ucontext_t *uc, struct kssi_arch_event *e)
{
    uint64_t trap = (uint64_t)uc->uc_mcontext.gregs[REG_TRAPNO];
    uintptr_t pc = kssi_arch_pc(uc);
    (void)si;
    *e = (struct kssi_arch_event){ .vector = (unsigned)trap & 31,
                                   .error = (uint64_t)uc->uc_mcontext.gregs[REG_ERR] };
    switch (trap) {
    case KSS_VEC_GENERAL_PROTECTION:
        decode_general_protection(e->error, pc, e);
        break;
    case KSS_VEC_PAGE_FAULT:
        e->address = (uint64_t)uc->uc_mcontext.gregs[REG_CR2];
        break;
    case KSS_VEC_DEBUG:
        e->single_step = sig == SIGTRAP && si->si_code == TRAP_TRACE;
        break;
    default:
        break;
    }
}

/* ---- moving frames ------------------------------------------------------------------------------ */

static bool copy(void *to, const void *from, size_t n)
{
    return kssi_user_copy(to, from, n) == 0;
}

/* Only components in use are copied: XRSTOR takes the others from their initial state. */
static bool move_xstate(unsigned char *to, const unsigned char *fp)
{
    uint32_t magic1;
    memcpy(&magic1, fp + XSAVE_SW_BYTES, 4);
    if (magic1 != FP_XSTATE_MAGIC1_)
        return copy(to, fp, 512);
    if (!copy(to, fp, XSAVE_EXTENDED))
        return false;
    uint64_t in_use;
    memcpy(&in_use, fp + XSAVE_HEADER, 8);
    for (unsigned i = 0; i < model.components; i++) {
        const struct kssi_component *c = &model.component[i];
        if ((in_use & c->bit) && !copy(to + c->offset, fp + c->offset, c->size))
            return false;
    }
    memcpy(to + model.xstate_size - 4, &model.magic2, 4);
    return true;
}

bool kssi_arch_move_frame(struct kss_trap_frame *to, const ucontext_t *uc)
{
    unsigned char *base = (unsigned char *)to;
    if (!copy(base + FRAME_UC, uc, UC_SIZE))
        return false;
    if (!move_xstate(base + FRAME_XSTATE, (const unsigned char *)uc->uc_mcontext.fpregs))
        return false;
    void *fp = base + FRAME_XSTATE;
    memcpy(base + FRAME_UC + UC_FPREGS, &fp, sizeof fp);
    to->source = SOURCE_SIGNAL;
    to->size = (uint32_t)model.frame_size;
    return true;
}

static void clear_flags(ucontext_t *uc)
{
    uc->uc_mcontext.gregs[REG_EFL] &=
        ~(greg_t)(FLAG_TRAP | FLAG_DIRECTION | FLAG_NESTED | FLAG_ALIGNMENT);
}

void kssi_arch_enter(ucontext_t *uc, struct kss_trap_frame *tf)
{
    clear_flags(uc);
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)kssi_trap_entry;
    uc->uc_mcontext.gregs[REG_RSP] = (greg_t)tf;
    uc->uc_mcontext.gregs[REG_RBX] = (greg_t)tf;
    /* The kernel starts with clean control words and all vector state in its initial form: user code
       may have unmasked exceptions or be in MMX mode. This also makes the host's return quicker. */
    unsigned char *fp = (unsigned char *)uc->uc_mcontext.fpregs;
    uint32_t mxcsr = 0x1f80, magic1;
    memcpy(&magic1, fp + XSAVE_SW_BYTES, 4);
    memcpy(fp + MXCSR_OFFSET, &mxcsr, 4);
    if (magic1 == FP_XSTATE_MAGIC1_) {
        uint64_t in_use;
        memcpy(&in_use, fp + XSAVE_HEADER, 8);
        in_use &= XFEATURE_PKRU;
        memcpy(fp + XSAVE_HEADER, &in_use, 8);
    } else {
        uint16_t cw = 0x37f, zero = 0;
        memcpy(fp, &cw, 2);
        memcpy(fp + 2, &zero, 2);
        fp[4] = 0; /* all x87 registers empty */
    }
}

void kssi_arch_divert(ucontext_t *uc, void (*fn)(void), uintptr_t stack_top)
{
    clear_flags(uc);
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)fn;
    uc->uc_mcontext.gregs[REG_RSP] = (greg_t)((stack_top & ~(uintptr_t)63) - 8);
}

void kssi_arch_handler_entry(const ucontext_t *uc)
{
    if (__builtin_expect((uc->uc_mcontext.gregs[REG_EFL] & FLAG_ALIGNMENT) != 0, 0))
        kssi_arch_clear_alignment();
}

bool kssi_arch_in_exit(uintptr_t pc)
{
    return pc >= (uintptr_t)kssi_trap_exit_begin && pc < (uintptr_t)kssi_trap_exit_end;
}

void kssi_arch_restart_exit(ucontext_t *uc, uint64_t exit_frame)
{
    bool noted = kssi_arch_pc(uc) >= (uintptr_t)kssi_trap_exit_noted;
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)kssi_trap_exit_begin;
    if (!noted)
        return; /* rbx and rsp are still right, and exit_frame may be another one's */
    uc->uc_mcontext.gregs[REG_RBX] = (greg_t)exit_frame;
    uc->uc_mcontext.gregs[REG_RSP] = (greg_t)exit_frame;
}

void kssi_arch_exit_from(ucontext_t *uc, uint64_t exit_frame)
{
    uc->uc_mcontext.gregs[REG_RBX] = (greg_t)exit_frame;
    uc->uc_mcontext.gregs[REG_RSP] = (greg_t)(exit_frame + FRAME_UC);
}

bool kssi_arch_in_gate(uintptr_t pc)
{
    return pc >= (uintptr_t)kssi_gate_begin && pc < (uintptr_t)kssi_gate_end;
}

bool kssi_arch_fixup(ucontext_t *uc)
{
    if (kssi_arch_pc(uc) != (uintptr_t)kssi_user_copy_insn)
        return false;
    kssi_arch_set_pc(uc, (uintptr_t)kssi_user_copy_fixup);
    return true;
}

void kssi_arch_set_step(ucontext_t *uc, bool on)
{
    if (on)
        uc->uc_mcontext.gregs[REG_EFL] |= FLAG_TRAP;
    else
        uc->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)FLAG_TRAP;
}

bool kssi_arch_is_entry(uintptr_t pc)
{
    return pc >= (uintptr_t)kssi_trap_entry && pc <= (uintptr_t)kssi_trap_exit_pending + 8;
}

const struct kss_trap_frame *kssi_arch_entry_frame(void *cursor)
{
    unw_word_t rbx = 0;
    return unw_get_reg(cursor, UNW_X86_64_RBX, &rbx) < 0 ? NULL : (const void *)rbx;
}

/* call rel32, or call through a register or memory (ff /2) in each of its lengths. */
KSSI_UNSANITIZED bool kssi_arch_after_call(uintptr_t pc)
{
    const uint8_t *p = (const uint8_t *)pc;
    if (p[-5] == 0xe8)
        return true;
    for (int n = 2; n <= 7; n++)
        if (p[-n] == 0xff && (p[1 - n] & 0x38) == 0x10)
            return true;
    return false;
}

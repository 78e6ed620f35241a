/* SPDX-License-Identifier: MIT */
/*
 * A trap frame on x86-64, from its lowest address up:
 *
 *   struct kss_trap_frame          FRAME_UC bytes
 *   the host's struct ucontext     UC_SIZE bytes: flags, link, alternate stack, registers, mask
 *   (signal frames only) the extended state, 64-byte aligned
 *
 * The call gate leaves the same head and general registers, and no extended state.
 */
#ifndef KSSI_FRAME_X86_64_H
#define KSSI_FRAME_X86_64_H

/* struct kss_trap_frame */
#define TF_MAGIC 0
#define TF_PREV 8
#define TF_RAISED 32
#define TF_VECTOR 40
#define TF_SOURCE 42
#define TF_MODE 43
#define TF_IRQS_ON 44
#define TF_STACK 45
#define TF_CAUSE 46
#define TF_SIZE 48
#define TF_HOST_ERRNO 52
#define FRAME_UC 64

/* The kernel's struct ucontext (asm/ucontext.h); glibc's begins the same way. */
#define UC_STACK 16
#define UC_GREGS 40
#define UC_FPREGS 224
#define UC_SIZE 304
#define GATE_FRAME_SIZE 384
/* Behind the registers of a gate frame from user mode: its control words. */
#define GATE_MXCSR 368
#define GATE_FCW 372

/* General registers: their place in the frame. */
#define G(n) (FRAME_UC + UC_GREGS + 8 * (n))
#define G_R8 G(0)
#define G_R9 G(1)
#define G_R10 G(2)
#define G_R11 G(3)
#define G_R12 G(4)
#define G_R13 G(5)
#define G_R14 G(6)
#define G_R15 G(7)
#define G_RDI G(8)
#define G_RSI G(9)
#define G_RBP G(10)
#define G_RBX G(11)
#define G_RDX G(12)
#define G_RAX G(13)
#define G_RCX G(14)
#define G_RSP G(15)
#define G_RIP G(16)
#define G_EFL G(17)

#define FRAME_MAGIC 0x6b73735f66726d65
#define SOURCE_SIGNAL 1
#define SOURCE_GATE 2
#define SYSCALL_VECTOR 0x81

/* The extended state, in the standard XSAVE format: legacy region with the host's software bytes
   (asm/sigcontext.h: struct _fpx_sw_bytes), header, components. */
#define FRAME_XSTATE ((FRAME_UC + UC_SIZE + 63) & ~63)
#define XSAVE_SW_BYTES 464
#define XSAVE_HEADER 512
#define XSAVE_EXTENDED 576
#define FP_XSTATE_MAGIC1_ 0x46505853u
#define MXCSR_OFFSET 24
#define XFEATURE_PKRU (1ull << 9)

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <ucontext.h>

/* One extended-state component behind the legacy region. */
struct kssi_component {
    uint64_t bit;
    uint32_t offset, size;
};

/* What a real signal frame taught: written once, before any CPU runs. */
struct kssi_frame_model {
    bool known;
    bool fred;          /* the processor may leave the pc behind `int n`, with error code 0 */
    size_t xstate_size; /* bytes the host's frames have, magic at the end included */
    size_t frame_size;
    unsigned components;
    struct kssi_component component[16];
    ucontext_t uc;      /* template: segments, mask, flags */
    _Alignas(64) unsigned char xstate[512 + 64];
    uint32_t magic2;
};
extern struct kssi_frame_model kssi_frame_model;
#endif
#endif

/* SPDX-License-Identifier: MIT */
/*
 * void regs_spin(struct regs *s): loads every register from s->in, spins without changing any but
 * rcx, stores every register to s->out. Offsets as in struct regs of live_preempt.c.
 */
#define ITERATIONS 0
#define FLAGS_IN 8
#define FLAGS_OUT 16
#define MXCSR_IN 24
#define MXCSR_OUT 28
#define VECTOR 32         /* 0: SSE, 1: AVX, 2: AVX-512 */
#define GPR_IN 64         /* rax rbx rdx rsi rbp r8-r15: 13 */
#define GPR_OUT 192
#define RED_IN 320        /* 16 quads */
#define RED_OUT 448
#define X87_IN 576        /* 8 of 16 bytes */
#define X87_OUT 704
#define MASK_IN 832       /* k1-k7 */
#define MASK_OUT 896
#define VEC_IN 1024       /* 32 of 64 bytes */
#define VEC_OUT 3072

        .text
        .globl regs_spin
        .type regs_spin, @function
        .macro EACH_VEC insn, reg, count, base, load
        .set n, 0
        .rept \count
        EACH_VEC_ONE \insn, \reg, %n, \base, \load
        .set n, n + 1
        .endr
        .endm
        .altmacro
        .macro EACH_VEC_ONE insn, reg, i, base, load
        .if \load
        \insn \base+64*\i(%rdi), %\reg\()\i
        .else
        \insn %\reg\()\i, \base+64*\i(%rdi)
        .endif
        .endm
        .macro MASKS insn, base, load
        .set n, 1
        .rept 7
        MASK_ONE \insn, %n, \base, \load
        .set n, n + 1
        .endr
        .endm
        .macro MASK_ONE insn, i, base, load
        .if \load
        \insn \base+8*\i(%rdi), %k\()\i
        .else
        \insn %k\()\i, \base+8*\i(%rdi)
        .endif
        .endm
        .macro RED dir, i
        .endm

regs_spin:
        .cfi_startproc
        pushq   %rbp
        pushq   %rbx
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        subq    $8, %rsp
        .cfi_def_cfa_offset 64
        /* vectors */
        cmpl    $1, VECTOR(%rdi)
        ja      2f
        je      1f
        EACH_VEC movups, xmm, 16, VEC_IN, 1
        jmp     3f
1:      EACH_VEC vmovups, ymm, 16, VEC_IN, 1
        jmp     3f
2:      EACH_VEC vmovups, zmm, 32, VEC_IN, 1
        MASKS   kmovw, MASK_IN, 1
3:      /* x87: loaded last to first, so that st(i) is number i */
        fninit
        .set n, 7
        .rept 8
        fldt    X87_IN+16*n(%rdi)
        .set n, n - 1
        .endr
        ldmxcsr MXCSR_IN(%rdi)
        movq    FLAGS_IN(%rdi), %rax
        pushq   %rax
        popfq
        /* red zone; lea and mov change no flags */
        .set n, 0
        .rept 16
        movq    RED_IN+8*n(%rdi), %rax
        movq    %rax, -8-8*n(%rsp)
        .set n, n + 1
        .endr
        movq    GPR_IN+8(%rdi), %rbx
        movq    GPR_IN+16(%rdi), %rdx
        movq    GPR_IN+24(%rdi), %rsi
        movq    GPR_IN+32(%rdi), %rbp
        movq    GPR_IN+40(%rdi), %r8
        movq    GPR_IN+48(%rdi), %r9
        movq    GPR_IN+56(%rdi), %r10
        movq    GPR_IN+64(%rdi), %r11
        movq    GPR_IN+72(%rdi), %r12
        movq    GPR_IN+80(%rdi), %r13
        movq    GPR_IN+88(%rdi), %r14
        movq    GPR_IN+96(%rdi), %r15
        movq    ITERATIONS(%rdi), %rcx
        movq    GPR_IN(%rdi), %rax
4:      loop    4b              /* the only instruction that runs for long: no flags, only rcx */
        movq    %rax, GPR_OUT(%rdi)
        movq    %rbx, GPR_OUT+8(%rdi)
        movq    %rdx, GPR_OUT+16(%rdi)
        movq    %rsi, GPR_OUT+24(%rdi)
        movq    %rbp, GPR_OUT+32(%rdi)
        movq    %r8, GPR_OUT+40(%rdi)
        movq    %r9, GPR_OUT+48(%rdi)
        movq    %r10, GPR_OUT+56(%rdi)
        movq    %r11, GPR_OUT+64(%rdi)
        movq    %r12, GPR_OUT+72(%rdi)
        movq    %r13, GPR_OUT+80(%rdi)
        movq    %r14, GPR_OUT+88(%rdi)
        movq    %r15, GPR_OUT+96(%rdi)
        .set n, 0
        .rept 16
        movq    -8-8*n(%rsp), %rax
        movq    %rax, RED_OUT+8*n(%rdi)
        .set n, n + 1
        .endr
        pushfq
        popq    FLAGS_OUT(%rdi)
        cld
        stmxcsr MXCSR_OUT(%rdi)
        .set n, 0
        .rept 8
        fstpt   X87_OUT+16*n(%rdi)
        .set n, n + 1
        .endr
        fninit
        cmpl    $1, VECTOR(%rdi)
        ja      6f
        je      5f
        EACH_VEC movups, xmm, 16, VEC_OUT, 0
        jmp     7f
5:      EACH_VEC vmovups, ymm, 16, VEC_OUT, 0
        vzeroupper
        jmp     7f
6:      EACH_VEC vmovups, zmm, 32, VEC_OUT, 0
        MASKS   kmovw, MASK_OUT, 0
        vzeroupper
7:      movl    $0x1f80, -4(%rsp)
        ldmxcsr -4(%rsp)
        addq    $8, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %rbx
        popq    %rbp
        .cfi_def_cfa_offset 8
        ret
        .cfi_endproc
        .size regs_spin, . - regs_spin

/*
 * void garbage_sp(uintptr_t sp, long n): spins n rounds with the stack pointer set to sp.
 */
        .globl garbage_sp
        .type garbage_sp, @function
garbage_sp:
        .cfi_startproc
        pushq   %rbx
        .cfi_def_cfa_offset 16
        movq    %rsp, %rbx
        movq    %rsi, %rcx
        movq    %rdi, %rsp
1:      loop    1b
        movq    %rbx, %rsp
        popq    %rbx
        .cfi_def_cfa_offset 8
        ret
        .cfi_endproc
        .size garbage_sp, . - garbage_sp

        .section .note.GNU-stack, "", @progbits

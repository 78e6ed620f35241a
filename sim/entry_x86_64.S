/* SPDX-License-Identifier: MIT */
/*
 * Entry and exit, x86-64. Throughout, "an interrupt" is the host signal that stands for one.
 *
 * Every trap, of whatever kind, goes through kssi_trap_entry and kssi_trap_exit. rbx holds the trap
 * frame from the first instruction of the one to the last of the other, and the unwind rules find
 * every interrupted register through it: so debuggers and libunwind cross the mode switch.
 */
#include "hot.h"
#include "frame_x86_64.h"

        .text

        /* The constant offset of kssi_hot from the thread pointer: right in whatever thread the next
           instruction runs. */
        .macro HOT reg
        movq    kssi_hot@gottpoff(%rip), \reg
        .endm

        /* DW_CFA_expression: the register is saved at *(base + off). base: DW_OP_breg of it. */
        .macro SAVED regno, base, off
        .cfi_escape 0x10, \regno, 3, \base, ((\off) & 0x7f) | 0x80, (\off) >> 7
        .endm
        /* The frame's rules, with the trap frame in the register that base names. */
        .macro FRAME_RULES base
        .cfi_escape 0x0f, 4, \base, ((G_RSP) & 0x7f) | 0x80, (G_RSP) >> 7, 0x06
        SAVED 0, \base, G_RAX
        SAVED 1, \base, G_RDX
        SAVED 2, \base, G_RCX
        SAVED 3, \base, G_RBX
        SAVED 4, \base, G_RSI
        SAVED 5, \base, G_RDI
        SAVED 6, \base, G_RBP
        SAVED 7, \base, G_RSP
        SAVED 8, \base, G_R8
        SAVED 9, \base, G_R9
        SAVED 10, \base, G_R10
        SAVED 11, \base, G_R11
        SAVED 12, \base, G_R12
        SAVED 13, \base, G_R13
        SAVED 14, \base, G_R14
        SAVED 15, \base, G_R15
        SAVED 16, \base, G_RIP
        .endm
        #define BREG_RBX 0x73
        #define BREG_RDX 0x71
        #define BREG_RAX 0x70

        .macro FUNC name
        .globl  \name
        .hidden \name
        .type   \name, @function
        .balign 16
\name:
        .endm
        .macro END name
        .size   \name, . - \name
        .endm
        .macro LABEL name
        .globl  \name
        .hidden \name
\name:
        .endm

/* ---- the common entry and the common exit ---------------------------------------------------- */

/*
 * In: rbx = rsp = trap frame, 64-byte aligned, complete but for prev; mode is kernel, interrupts
 * are off, direction and trap flags clear. An interrupt from here on finds the flag 0 and stays
 * pending.
 */
        .cfi_startproc
        .cfi_signal_frame
        FRAME_RULES BREG_RBX
        nop     /* unwinders that look one byte before a frame's pc stay inside this function */
FUNC kssi_trap_entry
        movq    %rbx, %rdi
        call    kssi_trap
END kssi_trap_entry

/*
 * In: rbx = trap frame, interrupts off. The stack pointer may be anywhere below it on the same stack.
 */
FUNC kssi_trap_exit
        movq    %rbx, %rsp
/*
 * The restartable sequence. Mode and interrupt flag are memory, the program counter is not, and they
 * must change together. An interrupt that finds the pc in [begin, end) is left pending and puts the
 * CPU back to begin: kernel mode, interrupts off, rbx = rsp = the exit frame (the handler does all
 * of this). Nothing here changes the frame but for the alternate stack, so doing it again is safe.
 * The exit frame is noted inside it: a non-maskable interrupt before that has an exit of its own, and
 * would leave another one there. Until it is noted, rbx is right.
 */
LABEL kssi_trap_exit_begin
        HOT     %rax
        movq    %rbx, %fs:HOT_EXIT_FRAME(%rax)
LABEL kssi_trap_exit_noted
        cmpb    $0, TF_IRQS_ON(%rbx)
        je      1f                      /* back to where interrupts are off: pending ones wait */
        cmpl    $0, %fs:HOT_PENDING(%rax)
        jne     kssi_trap_exit_pending
1:      cmpb    $SOURCE_SIGNAL, TF_SOURCE(%rbx)
        jne     2f
        movq    %fs:HOT_ALTSTACK(%rax), %rcx    /* or a migrated thread takes its old CPU's along */
        movq    %rcx, FRAME_UC+UC_STACK(%rbx)
        movq    %fs:HOT_ALTSTACK+8(%rax), %rcx
        movq    %rcx, FRAME_UC+UC_STACK+8(%rbx)
        movq    %fs:HOT_ALTSTACK+16(%rax), %rcx
        movq    %rcx, FRAME_UC+UC_STACK+16(%rbx)
        cmpq    $0, %fs:HOT_CLOSE(%rax)
        jne     7f
8:      movzbl  TF_MODE(%rbx), %ecx
        movb    %cl, %fs:HOT_MODE(%rax)
        movzbl  TF_IRQS_ON(%rbx), %ecx
        movb    %cl, %fs:HOT_IRQS_ON(%rax)
        leaq    FRAME_UC(%rbx), %rsp
        movl    $15, %eax               /* rt_sigreturn: everything changes in this instruction */
        syscall
        ud2                             /* a frame the host refused raises SIGSEGV right here */
2:      movzbl  TF_MODE(%rbx), %ecx
        movb    %cl, %fs:HOT_MODE(%rax)
        movzbl  TF_IRQS_ON(%rbx), %ecx
        movb    %cl, %fs:HOT_IRQS_ON(%rax)
        movq    %rbx, %rdx
        FRAME_RULES BREG_RDX
        movq    G_RBP(%rdx), %rbp
        movq    G_R12(%rdx), %r12
        movq    G_R13(%rdx), %r13
        movq    G_R14(%rdx), %r14
        movq    G_R15(%rdx), %r15
        cmpb    $0, TF_MODE(%rdx)
        jne     3f
        movl    GATE_MXCSR(%rdx), %ecx  /* the user's control words, where they differ */
        andl    $0xffc0, %ecx
        cmpl    $0x1f80, %ecx
        jne     4f
        cmpw    $0x37f, GATE_FCW(%rdx)
        jne     4f
5:      testl   $0x40000, G_EFL(%rdx)
        jnz     6f
3:      movq    G_RAX(%rdx), %rax
        movq    G_RDI(%rdx), %rdi       /* for a first entry to user mode: fn's argument */
        movq    G_RBX(%rdx), %rbx
        movq    G_RSP(%rdx), %rsp
        jmp     *G_RIP(%rdx)
4:      ldmxcsr GATE_MXCSR(%rdx)
        fldcw   GATE_FCW(%rdx)
        jmp     5b
6:      pushq   G_EFL(%rdx)             /* still on the kernel stack */
        andl    $0x40cd5, (%rsp)        /* alignment check and what any program has; no trap flag */
        orl     $2, (%rsp)
        popfq
        jmp     3b
        FRAME_RULES BREG_RBX
/*
 * To user mode, which finds the kernel stacks closed. They can't be closed by code that returns through one: the
 * frame is copied to the CPU's trampoline, and the copy is what the host reads. From "closed = 1" on, an interrupt
 * opens them again before it goes back to begin, where the frame itself is what counts; the copy is forgotten.
 */
7:      cmpb    $0, TF_MODE(%rbx)
        jne     8b                      /* back into the kernel: they stay open */
        movq    %fs:HOT_TRAMPOLINE(%rax), %rdi
        movq    %rbx, %rsi
        movl    TF_SIZE(%rbx), %ecx
        shrl    $3, %ecx
        rep movsq
        movq    %fs:HOT_CLOSE(%rax), %r12
        movb    $1, %fs:HOT_CLOSED(%rax)
        movq    %fs:HOT_TRAMPOLINE(%rax), %rbx
        leaq    FRAME_XSTATE(%rbx), %rcx
        movq    %rcx, FRAME_UC+UC_FPREGS(%rbx)
        leaq    FRAME_UC(%rbx), %rsp
        jmp     10f
9:      movq    CLOSABLE_SIZE(%r12), %rsi
        xorl    %edx, %edx              /* PROT_NONE */
        movl    $10, %eax               /* mprotect */
        syscall
        testl   %eax, %eax
        jnz     kssi_trap_exit_open
        addq    $CLOSABLE_BYTES, %r12
10:     movq    CLOSABLE_START(%r12), %rdi
        testq   %rdi, %rdi
        jnz     9b
        HOT     %rax
        jmp     8b
LABEL kssi_trap_exit_end
LABEL kssi_trap_exit_pending
        movq    %rbx, %rdi
        call    kssi_trap_again
        jmp     kssi_trap_exit
kssi_trap_exit_open:                    /* the host would not close them: on the entry stack, and not back */
        HOT     %rax
        movq    %fs:HOT_ALTSTACK(%rax), %rsp
        addq    %fs:HOT_ALTSTACK+16(%rax), %rsp
        andq    $-16, %rsp
        call    kssi_protect_failed
END kssi_trap_exit
        .cfi_endproc

/* void kssi_frame_return(struct kss_trap_frame *) */
FUNC kssi_frame_return
        .cfi_startproc
        .cfi_undefined %rip
        movq    %rdi, %rbx
        jmp     kssi_trap_exit
        .cfi_endproc
END kssi_frame_return

/* ---- the call gate ------------------------------------------------------------------------------ */

/*
 * long kssi_enter_by_gate(long nr, long a0, long a1, long a2, long a3, long a4, long a5)
 *
 * Before the flag is 0 an interrupt is taken as from any user code. After it, interrupts stay
 * pending until the common exit, so mode and stack may change one after the other. Reading the return
 * address comes first: a bad user stack faults as user code, with nothing changed.
 */
FUNC kssi_enter_by_gate
        .cfi_startproc
        movq    (%rsp), %r11
        HOT     %rax
        cmpq    $0, %fs:HOT_KERNEL_SP(%rax)
        je      kssi_enter_by_trap      /* not a simulated CPU, or no kernel stack yet */
        movzbl  %fs:HOT_IRQS_ON(%rax), %r10d
        movb    $0, %fs:HOT_IRQS_ON(%rax)
LABEL kssi_gate_begin
        cmpb    $0, %fs:HOT_MODE(%rax)
        jne     1f
        movq    %fs:HOT_KERNEL_SP(%rax), %rax
        movb    $0, TF_MODE(%rax)
        movb    $1, TF_IRQS_ON(%rax)
        jmp     2f
1:      leaq    -GATE_FRAME_SIZE(%rsp), %rax    /* from kernel mode: on the stack in use */
        andq    $-64, %rax
        movb    $1, TF_MODE(%rax)
        movb    %r10b, TF_IRQS_ON(%rax)
2:      movw    $SYSCALL_VECTOR, TF_VECTOR(%rax)
        movq    $0, 16(%rax)
        movq    $0, 24(%rax)
        movq    $0, TF_RAISED(%rax)
        movq    8(%rsp), %r10           /* the seventh argument */
        movq    %r10, G_R10(%rax)
        leaq    8(%rsp), %r10
        movq    %r11, G_RIP(%rax)
        movq    %r10, G_RSP(%rax)
        /* The kernel runs with control words of its own. Loading them is dear, comparing is not; the
           sticky bits of mxcsr are left alone. */
        stmxcsr GATE_MXCSR(%rax)
        fnstcw  GATE_FCW(%rax)
        movl    GATE_MXCSR(%rax), %r10d
        andl    $0xffc0, %r10d
        cmpl    $0x1f80, %r10d
        jne     4f
        cmpw    $0x37f, GATE_FCW(%rax)
        jne     4f
3:      movq    %rdi, G_RDI(%rax)
        movq    %rsi, G_RSI(%rax)
        movq    %rdx, G_RDX(%rax)
        movq    %rcx, G_RCX(%rax)
        movq    %r8, G_R8(%rax)
        movq    %r9, G_R9(%rax)
        jmp     kssi_gate_common
4:      ldmxcsr kernel_mxcsr(%rip)
        fldcw   kernel_fcw(%rip)
        jmp     3b
        .cfi_endproc
END kssi_enter_by_gate

/*
 * void kssi_arch_take_interrupt(unsigned vector, uint64_t raised_ns): kernel mode, interrupts off.
 */
FUNC kssi_arch_take_interrupt
        .cfi_startproc
        movq    (%rsp), %r11
        leaq    8(%rsp), %r10
        leaq    -GATE_FRAME_SIZE(%rsp), %rax
        andq    $-64, %rax
        movb    $1, TF_MODE(%rax)
        movb    $1, TF_IRQS_ON(%rax)
        movw    %di, TF_VECTOR(%rax)
        movq    $0, 16(%rax)
        movq    $0, 24(%rax)
        movq    %rsi, TF_RAISED(%rax)
        movq    %r11, G_RIP(%rax)
        movq    %r10, G_RSP(%rax)
kssi_gate_common:
        movabsq $FRAME_MAGIC, %r11
        movq    %r11, TF_MAGIC(%rax)
        movb    $SOURCE_GATE, TF_SOURCE(%rax)
        movb    $0, TF_STACK(%rax)
        movw    $0xffff, TF_CAUSE(%rax)
        movl    $GATE_FRAME_SIZE, TF_SIZE(%rax)
        movq    %rbx, G_RBX(%rax)
        movq    %rbp, G_RBP(%rax)
        movq    %r12, G_R12(%rax)
        movq    %r13, G_R13(%rax)
        movq    %r14, G_R14(%rax)
        movq    %r15, G_R15(%rax)
        pushfq
        .cfi_adjust_cfa_offset 8
        popq    G_EFL(%rax)
        .cfi_adjust_cfa_offset -8
        testl   $0x40100, G_EFL(%rax)   /* alignment check, trap: not in the kernel */
        jz      5f
        pushq   $2
        .cfi_adjust_cfa_offset 8
        popfq
        .cfi_adjust_cfa_offset -8
5:      HOT     %r11
        movb    $1, %fs:HOT_MODE(%r11)
        FRAME_RULES BREG_RAX
        movq    %rax, %rbx
        movq    %rax, %rsp
        jmp     kssi_trap_entry
LABEL kssi_gate_end
        .cfi_endproc
END kssi_arch_take_interrupt

/* ---- entry by a trapping instruction -------------------------------------------------------------- */

/* long kssi_enter_by_trap(long nr, long a0, long a1, long a2, long a3, long a4, long a5) */
FUNC kssi_enter_by_trap
        .cfi_startproc
        movq    8(%rsp), %r10
        int     $SYSCALL_VECTOR
        ret
        .cfi_endproc
END kssi_enter_by_trap

/* long kssi_enter_by_int(unsigned vector, long argument): one stub of four bytes a vector. */
FUNC kssi_enter_by_int
        .cfi_startproc
        movl    %edi, %eax
        leaq    kssi_int_stubs(%rip), %rcx
        leaq    (%rcx,%rax,4), %rcx
        xorl    %eax, %eax              /* the result, unless the handler leaves one */
        jmp     *%rcx
        .balign 4
kssi_int_stubs:
        .set    n, 0
        .rept   256
        .byte   0xcd, n, 0xc3, 0x90
        .set    n, n + 1
        .endr
        .cfi_endproc
END kssi_enter_by_int

/* void kssi_privileged_instruction(void): faults in user mode; the caller has seen that it is that. */
FUNC kssi_privileged_instruction
        .cfi_startproc
        hlt
        ret
        .cfi_endproc
END kssi_privileged_instruction

/* ---- user mode ---------------------------------------------------------------------------------- */

/* The first code in user mode: rbx = function, rdi = argument. The outermost frame. */
FUNC kssi_user_start
        .cfi_startproc
        .cfi_undefined %rip
        xorl    %ebp, %ebp
        call    *%rbx
        movq    %rax, %rdi
        call    kssi_user_return
        ud2
        .cfi_endproc
END kssi_user_start

/* ---- the interrupt flag ---------------------------------------------------------------------------- */

FUNC kssi_irq_disable
        .cfi_startproc
        HOT     %rax
        movb    $0, %fs:HOT_IRQS_ON(%rax)
        ret
        .cfi_endproc
END kssi_irq_disable

/* An interrupt between the two accesses finds the flag 1 and is over before the store. */
FUNC kssi_irq_save
        .cfi_startproc
        HOT     %rcx
        movzbl  %fs:HOT_IRQS_ON(%rcx), %eax
        movb    $0, %fs:HOT_IRQS_ON(%rcx)
        ret
        .cfi_endproc
END kssi_irq_save

/* Store first, then test: an interrupt before the store has set pending and is seen by the test; one
   after it is taken at once. */
FUNC kssi_irq_enable
        .cfi_startproc
        HOT     %rax
        movb    $1, %fs:HOT_IRQS_ON(%rax)
        cmpl    $0, %fs:HOT_PENDING(%rax)
        jne     kssi_irq_replay
        ret
        .cfi_endproc
END kssi_irq_enable

/* bool kssi_irq_try_enable(void): turns them on and returns whether something is pending. */
FUNC kssi_irq_try_enable
        .cfi_startproc
        HOT     %rcx
        movb    $1, %fs:HOT_IRQS_ON(%rcx)
        xorl    %eax, %eax
        cmpl    $0, %fs:HOT_PENDING(%rcx)
        setne   %al
        ret
        .cfi_endproc
END kssi_irq_try_enable

FUNC kssi_irqs_on
        .cfi_startproc
        HOT     %rax
        movzbl  %fs:HOT_IRQS_ON(%rax), %eax
        ret
        .cfi_endproc
END kssi_irqs_on

FUNC kssi_cpu_mode
        .cfi_startproc
        HOT     %rax
        movzbl  %fs:HOT_MODE(%rax), %eax
        ret
        .cfi_endproc
END kssi_cpu_mode

/* ---- host regions ------------------------------------------------------------------------------------- */

/* void kssi_host_enter(void). One instruction counts: before it the thread may be interrupted and migrate, and then
   counts on its new CPU; behind it no interrupt is taken, so that it stays there. */
FUNC kssi_host_enter
        .cfi_startproc
        HOT     %rax
        incl    %fs:HOT_HOST_DEPTH(%rax)
        ret
        .cfi_endproc
END kssi_host_enter

/* int kssi_host_leave(void): -1 if the thread is in no region, 1 if something was held back and can come now, else 0.
   What comes after the decrement is taken at once, and whatever else is pending with it; then the answer may be 1 for
   nothing, or of a CPU that the thread was on: an unneeded look. An interrupt before the decrement is held, and seen. */
FUNC kssi_host_leave
        .cfi_startproc
        HOT     %rcx
        movl    $-1, %eax
        cmpl    $0, %fs:HOT_HOST_DEPTH(%rcx)
        je      1f
        xorl    %eax, %eax
        decl    %fs:HOT_HOST_DEPTH(%rcx)
        jnz     1f
        xchgb   %al, %fs:HOT_HOST_HELD(%rcx)
1:      ret
        .cfi_endproc
END kssi_host_leave

/* void kssi_arch_pin_self(int pid, int tid, int signal): not through libc, which would hold the interrupt back. */
FUNC kssi_arch_pin_self
        .cfi_startproc
        movl    $234, %eax              /* tgkill */
        syscall
        ret
        .cfi_endproc
END kssi_arch_pin_self

/* ---- the rest ---------------------------------------------------------------------------------------- */

/* size_t kssi_user_copy(void *to, const void *from, size_t n): the bytes that were not copied. The
   page-fault handler moves the pc from the one instruction that can fault to the one after it. */
FUNC kssi_user_copy
        .cfi_startproc
        movq    %rdx, %rcx
LABEL kssi_user_copy_insn
        rep movsb
LABEL kssi_user_copy_fixup
        movq    %rcx, %rax
        ret
        .cfi_endproc
END kssi_user_copy

/* void kssi_call_on_stack(uintptr_t top, void (*fn)(void *), void *arg). Its caller may lie on lower
   addresses: gdb takes that for a corrupt stack, unless it is told that the frame is special. */
FUNC kssi_call_on_stack
        .cfi_startproc
        .cfi_signal_frame
        pushq   %rbp
        .cfi_def_cfa_offset 16
        .cfi_offset %rbp, -16
        movq    %rsp, %rbp
        .cfi_def_cfa_register %rbp
        movq    %rdi, %rsp
        movq    %rdx, %rdi
        call    *%rsi
        leave
        .cfi_def_cfa %rsp, 8
        ret
        .cfi_endproc
END kssi_call_on_stack

FUNC kssi_arch_pause
        .cfi_startproc
        pause
        ret
        .cfi_endproc
END kssi_arch_pause

/* sched_yield(), not through libc: an interrupt that lands there would have to wait. */
FUNC kssi_arch_host_yield
        .cfi_startproc
        movl    $24, %eax
        syscall
        ret
        .cfi_endproc
END kssi_arch_host_yield

/* void kssi_arch_futex_wait(_Atomic unsigned *word, unsigned value) */
FUNC kssi_arch_futex_wait
        .cfi_startproc
        movl    %esi, %edx
        movl    $128, %esi              /* FUTEX_WAIT_PRIVATE */
        xorl    %r10d, %r10d            /* no time limit */
        movl    $202, %eax              /* futex */
        syscall
        ret
        .cfi_endproc
END kssi_arch_futex_wait

/* Sets the trap flag: the instruction after the popfq is the first that traps. */
FUNC kssi_arch_step_here
        .cfi_startproc
        pushfq
        .cfi_adjust_cfa_offset 8
        orq     $0x100, (%rsp)
        popfq
        .cfi_adjust_cfa_offset -8
        ret
        .cfi_endproc
END kssi_arch_step_here

FUNC kssi_arch_clear_alignment
        .cfi_startproc
        pushfq
        .cfi_adjust_cfa_offset 8
        andq    $~0x40000, (%rsp)
        popfq
        .cfi_adjust_cfa_offset -8
        ret
        .cfi_endproc
END kssi_arch_clear_alignment

FUNC kssi_arch_step_stop
        .cfi_startproc
        pushfq
        .cfi_adjust_cfa_offset 8
        andq    $~0x100, (%rsp)
        popfq
        .cfi_adjust_cfa_offset -8
        ret
        .cfi_endproc
END kssi_arch_step_stop

        .section .rodata
        .balign 4
kernel_mxcsr:
        .long   0x1f80
kernel_fcw:
        .word   0x37f

        .section .note.GNU-stack, "", @progbits

/* SPDX-License-Identifier: MIT */
/* What takes an instruction of the processor's own. */
#ifndef FAULTS_X86_64_H
#define FAULTS_X86_64_H

#include <stdint.h>

__attribute__((always_inline)) static inline void machine_divide_by_zero(void)
{
    __asm__ volatile("xorl %%ecx, %%ecx\n\txorl %%edx, %%edx\n\tmovl $1, %%eax\n\tdivl %%ecx" ::
                         : "rax", "rcx", "rdx", "cc");
}

__attribute__((always_inline)) static inline void machine_invalid_opcode(void)
{
    __asm__ volatile("ud2");
}

__attribute__((always_inline)) static inline void machine_breakpoint(void)
{
    __asm__ volatile("int3");
}

__attribute__((always_inline)) static inline void machine_privileged(void)
{
    __asm__ volatile("hlt");
}

/*
 * With the stack pointer at sp, waits until *flag is not 0. Nothing uses the stack meanwhile, but traps do what
 * they do with a stack pointer.
 */
__attribute__((always_inline)) static inline void machine_spin_with_sp(uintptr_t sp, const volatile int *flag)
{
    __asm__ volatile("movq %%rsp, %%r12\n\tmovq %0, %%rsp\n1:\tpause\n\tcmpl $0, (%1)\n\tje 1b\n\t"
                     "movq %%r12, %%rsp"
                     :
                     : "r"(sp), "r"(flag)
                     : "r12", "memory", "cc");
}

/* Uses the stack where sp is. Never comes back, or not well. */
__attribute__((always_inline)) static inline void machine_push_with_sp(uintptr_t sp)
{
    __asm__ volatile("movq %%rsp, %%r12\n\tmovq %0, %%rsp\n\tpushq %%r12\n\tmovq %%r12, %%rsp" ::"r"(sp)
                     : "r12", "memory");
}

/* What the compiler's stack protector has at the end of each frame. */
__attribute__((always_inline)) static inline uintptr_t machine_stack_canary(void)
{
    uintptr_t canary;
    __asm__ volatile("movq %%fs:0x28, %0" : "=r"(canary));
    return canary;
}

#endif

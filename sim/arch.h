/* SPDX-License-Identifier: MIT */
/*
 * The contract between the hosted machines and one architecture: everything that names a register.
 * One file (and one assembly file) for each architecture implements it, beside the frame functions of
 * lib/platform.h.
 */
#ifndef KSSI_ARCH_H
#define KSSI_ARCH_H

#include <signal.h>
#include <ucontext.h>
#include "platform.h"

/* An exception that the host has turned into a signal, as the processor meant it. */
struct kssi_arch_event {
    unsigned vector;
    uint64_t error;
    uint64_t address;   /* of a page fault */
    bool by_instruction; /* `int n`: the gate's privilege counts */
    bool single_step;   /* the trap flag, not a breakpoint */
    uintptr_t pc_after; /* where the saved pc must stand, for what traps rather than faults */
};

/* Learns the frame's layout from a real signal frame; 0, or -ENOTSUP with a sentence. */
int kssi_arch_learn(const ucontext_t *uc);
/* Refuses hosts whose frames can't be moved (shadow stacks): 0 or -ENOTSUP with a sentence. */
int kssi_arch_check_host(void);

uintptr_t kssi_arch_pc(const ucontext_t *uc);
uintptr_t kssi_arch_sp(const ucontext_t *uc);
void kssi_arch_set_pc(ucontext_t *uc, uintptr_t pc);
/* Bytes below the stack pointer that belong to the interrupted code. */
size_t kssi_arch_red_zone(void);

void kssi_arch_decode(int sig, const siginfo_t *si, const ucontext_t *uc,
                      struct kssi_arch_event *event);

/* Copies a signal frame to where `to` points, fills in source and size. False: it faulted. */
bool kssi_arch_move_frame(struct kss_trap_frame *to, const ucontext_t *uc);
/* Makes the handler's return continue at the common entry, on the stack that ends at tf. */
void kssi_arch_enter(ucontext_t *uc, struct kss_trap_frame *tf);
/* Makes the handler's return continue at a function that never returns, on the given stack. */
void kssi_arch_divert(ucontext_t *uc, void (*fn)(void), uintptr_t stack_top);

/* A cycle counter that runs at one pace on all CPUs, if there is one. */
bool kssi_arch_cycles_usable(void);
uint64_t kssi_arch_cycles(void);

/* Sleeps until the word is woken, unless it has another value; also returns early. Not in libc, so that a
   non-maskable interrupt is taken in it. */
void kssi_arch_futex_wait(_Atomic unsigned *word, unsigned value);

/* First thing in a handler: the host leaves the interrupted code's alignment flag on there. */
void kssi_arch_handler_entry(const ucontext_t *uc);

/* The restartable exit: is pc in it, and how to put it back to its start. */
bool kssi_arch_in_exit(uintptr_t pc);
void kssi_arch_restart_exit(ucontext_t *uc, uint64_t exit_frame);
/* A fault in it: its registers name the frame, not the copy that it returns through. */
void kssi_arch_exit_from(ucontext_t *uc, uint64_t exit_frame);
/* The call gate's code before the common entry: half-entered. */
bool kssi_arch_in_gate(uintptr_t pc);
/* A fault in kssi_user_copy(): makes it return. */
bool kssi_arch_fixup(ucontext_t *uc);

void kssi_arch_set_step(ucontext_t *uc, bool on);
void kssi_arch_step_here(void);  /* sets the trap flag of the caller */
void kssi_arch_step_stop(void);
void kssi_arch_pause(void);      /* in a loop that waits for another CPU */
void kssi_arch_host_yield(void); /* the host may run another thread */

/* Takes an interrupt at this point, as if it had arrived here: builds a frame on the stack in use and
   goes through the common entry. Kernel mode, interrupts off; returns with them on. */
void kssi_arch_take_interrupt(unsigned vector, uint64_t raised_ns);

/* Sends this host thread a signal that is taken behind this very system call. */
void kssi_arch_pin_self(int pid, int tid, int signal);
/* Could it be a return address: is there a call before it? The bytes before it can be read. */
bool kssi_arch_after_call(uintptr_t pc);

/* For the unwinder: the registers of a moved frame as the ucontext they are. */
const ucontext_t *kssi_arch_frame_ucontext(const struct kss_trap_frame *tf);
/* A copied ucontext must point to its own floating-point state. */
void kssi_arch_own_fpstate(ucontext_t *uc);
/* The stack pointer saved in a context that swapcontext() left. */
uintptr_t kssi_arch_ucontext_sp(const ucontext_t *uc);

/* Is pc in the common entry or exit, where an unwinder's frame stands for a trap frame? */
bool kssi_arch_is_entry(uintptr_t pc);
/* Which trap frame that is. cursor: unw_cursor_t. */
const struct kss_trap_frame *kssi_arch_entry_frame(void *cursor);
#endif

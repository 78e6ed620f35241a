/* SPDX-License-Identifier: MIT */
/*
 * The fuzzer of the public functions: bytes become a configuration, what is set up on the host, programs of
 * simulated processes, of kernel code and of a foreign host thread.
 *
 * A wrong call must give an error or a report. Found is: a crash, a hang, an assertion or a broken
 * invariant of the library, a fault with the library's code as its culprit, a mapping that is left behind.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdatomic.h>
#include <stdlib.h>

#include <kstacksim/kstacksim.h>

#define SLICES 8 /* programs in the input: 0 is the first process, 7 the host thread */
#define SLICE_HOST 7
#define QUEUES 4
#define HANDLES 6
#define NUMBERS 24

#define SYS_KERNEL_OPS KSS_SYS_EXPERIMENT
#define OWN_LINES 40u /* first of 8 IRQ lines with handlers */
#define OWN_VECTORS 0x90u

/* What is left of a program. Reading past its end gives zeros. */
struct bytes {
    const uint8_t *p, *end;
};

static inline uint8_t take(struct bytes *b)
{
    return b->p < b->end ? *b->p++ : 0;
}

/* A program under way. */
struct run {
    struct bytes code;
    unsigned left;   /* operations, at most */
    unsigned depth;  /* of operations in operations */
    bool in_handler; /* hard irq, or on_report() */
    bool in_kernel;
    unsigned locks;  /* held */
    struct kss_trap_frame *frame;
    struct kss_waiter waiter[2];
};

/* What one input shares. */
struct fuzz {
    struct kss_machine *m, *other;
    struct kss_config config;
    struct bytes slice[SLICES];
    struct kss_wait_queue queue[QUEUES];
    struct kss_spinlock lock[QUEUES];
    atomic_bool flag[QUEUES];
    atomic_uint own_stacks;   /* those of own_stack[] that are given out */
    atomic_uintptr_t a_stack; /* low end of some kernel stack */
    struct kss_thread *_Atomic a_thread;
    struct kss_trap_frame *_Atomic a_frame;
    atomic_bool smashed;      /* a canary: kss_check() will say so */
    unsigned mood;            /* of the scheduler class */
    unsigned reports;         /* so far */
    bool found;               /* something that must not be; its report is in `report` */
    struct kss_report report;
    int host_descriptor[2];   /* the console's input */
};
extern struct fuzz fuzz;

/* numbers.c: choices by a byte of the program */
uint64_t number(struct run *r);
void *user_pointer(struct run *r);
struct kss_machine *some_machine(struct run *r);
struct kss_thread *some_thread(struct run *r);
struct kss_trap_frame *some_frame(struct run *r);
unsigned some_line(struct run *r);
void numbers_init(void);

/* The operations of each mode. */
void run_user(struct run *r);
void run_kernel(struct run *r);
void run_host(struct run *r);
/* Looks at everything, from wherever it is allowed. */
void look_around(struct run *r);
void start_run(struct run *r, unsigned slice, unsigned offset, unsigned operations);

long user_program(void *arg); /* arg: slice, and offset << 8 */
long kernel_call(const struct kss_syscall_args *args);
void irq_handler(unsigned line, void *arg);
void softirq_handler(void *arg);
void trap_handler(struct kss_trap_frame *frame, void *arg);
void report_callback(const struct kss_report *report, void *arg);
void set_up(struct run *r);                        /* on the host, before the machine runs */
void make_config(struct run *r, struct kss_config *c);
extern const struct kss_sched_class fuzz_class;

#endif

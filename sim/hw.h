/* SPDX-License-Identifier: MIT */
/* The hosted machines' private structures, and what their files offer each other. */
#ifndef KSSI_HW_H
#define KSSI_HW_H

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <time.h>

#include "arch.h"
#include "hot.h"
#include "platform.h"

/* The timer's signal, and the one that is every CPU's interrupt pin. SIGURG is ignored by default and
   meant to come spuriously, so nothing breaks if one arrives late. */
#define KSSI_SIG_TIMER SIGALRM
#define KSSI_SIG_PIN SIGURG

/* One line of a CPU's interrupt controller. Counters are written by whoever raises it. */
struct kssi_line {
    _Atomic uint64_t raised, lost, delivered, eoi;
    _Atomic uint64_t raised_ns; /* when the pending one was raised, if latency is measured */
    uint8_t priority;
};

struct kssi_intc {
    _Atomic uint64_t request;    /* pending bits: the one-deep buffer */
    _Atomic uint64_t mask;
    _Atomic uint64_t held;       /* held back by its own CPU, only there */
    _Atomic uint64_t in_service; /* written by its own CPU only */
    _Atomic unsigned raising;    /* raises under way: until they are over the counters do not add up */
    unsigned taking;             /* odd while its own CPU takes or ends one: the same */
    struct kssi_line line[KSS_IRQ_LINES];
};

struct kssi_hw_cpu {
    struct kssi_cpu *cpu;
    struct kssi_hw_machine *machine;
    pthread_t thread;
    _Atomic pid_t host_tid;  /* 0: not running, needs no pin */
    struct kssi_hot *hot;    /* its thread's, while it runs: where a debugger finds it */
    void *entry_stack;
    size_t entry_stack_size;
    void *trampoline;        /* NULL: kernel stacks are open in user mode too */
    timer_t tick, retry;
    uint64_t retry_ns;       /* how long to wait before the next look at a deferred interrupt */
    _Atomic uint64_t deferred;
    bool relook;             /* the retry timer's signal is to ask for the scheduler */
    struct kssi_host_wait {  /* interrupts held back by libc, by a host region; own CPU's handler only */
        uint64_t since;      /* 0: none waits */
        struct kss_host_wait wait;
    } host_wait[KSS_HOST_REASONS];
    struct kssi_intc intc;
    /* Written by other CPUs, and what they read: a line of memory of its own. */
    _Alignas(64) _Atomic unsigned doorbell; /* pin.c */
    unsigned poll_ns;        /* how long waiting for an interrupt begins by polling; own CPU only */
    _Alignas(64) _Atomic unsigned nmi;    /* KSSI_NMI_ bits: why a non-maskable interrupt is due */
    unsigned stuck;          /* ticks since the one that is still pending; own CPU's handler only */
    unsigned hard_limit, eoi_limit; /* how many are too many, with interrupts off or on; 0: no limit */
    /* interrupt placement; this CPU only */
    unsigned place_line;
    uint64_t place_at;
    struct kss_placement placement;
    int error;               /* why it could not boot */
};

#define KSSI_CLOSABLE_MAX 16 /* kernel arenas of a machine */

struct kssi_hw_machine {
    struct kss_machine *machine;
    const struct kss_config *config;
    uint64_t boot_ns;
    pid_t pid;
    unsigned cpus;
    struct kssi_closable closable[KSSI_CLOSABLE_MAX + 1];
    struct kssi_hw_cpu cpu[];
};

/* timer_live.c, clocks */
uint64_t kssi_host_now(void); /* CLOCK_MONOTONIC */
void kssi_cycles_anchor(void);    /* starts the calibration of the cycle counter, once */
void kssi_cycles_calibrate(void); /* ends it, at least 1 ms later, once */
uint64_t kssi_cycles_ns(void);

/* intc.c */
void kssi_intc_init(struct kssi_intc *intc);
/* Adds `count` events; true when the line was not pending before. Async-signal-safe. */
bool kssi_intc_raise(struct kssi_intc *intc, unsigned line, unsigned count, uint64_t now);
/* Takes the deliverable line of the highest priority into service; -1: none. Own CPU only. */
int kssi_intc_acknowledge(struct kssi_intc *intc, uint64_t *raised_ns);
int kssi_intc_eoi(struct kssi_intc *intc, unsigned line);
bool kssi_intc_deliverable(struct kssi_intc *intc);
bool kssi_intc_line_stats(struct kssi_intc *intc, unsigned line, struct kss_irq_stats *s);

/* pin.c */
void kssi_pin(struct kssi_hw_cpu *hw); /* its controller is to be looked at; async-signal-safe */
void kssi_pin_nmi(struct kssi_hw_cpu *hw, unsigned why); /* KSSI_NMI_ bits; async-signal-safe */
void kssi_pin_signalled(struct kssi_hw_cpu *hw); /* first thing in the handler, own CPU */
void kssi_pin_cpus(int cpus); /* as many begin to run; negative: have ended */
void kssi_wait_for_interrupt(void); /* see struct kssi_platform */

/* signal.c */
int kssi_acknowledge(struct kssi_hot *hot, uint64_t *raised_ns); /* of the own CPU: a line, or -1 */
int kssi_signals_install(void);  /* counted: the last removal restores what was there */
void kssi_signals_remove(void);
void kssi_signals_cpu_mask(sigset_t *set); /* what a CPU's thread has blocked */
int kssi_signals_learn(void);    /* the host's frame, once */
void kssi_signals_on_stop(struct kss_machine *m, bool on); /* SIGINT and SIGTERM stop it */
int kssi_placement_start(unsigned line, uint64_t steps);
int kssi_placement_stop(struct kss_placement *result);

/* timer_live.c */
int kssi_timers_create(struct kssi_hw_cpu *hw, unsigned hz);
void kssi_timers_delete(struct kssi_hw_cpu *hw);
void kssi_timer_retry(struct kssi_hw_cpu *hw); /* a look at deferred interrupts soon; signal-safe */

/* hostcall.c */
void kssi_hostcall_refresh(void); /* libraries may have been loaded since; host threads that are no CPU */
struct kssi_range kssi_hostcall_hull(void);
bool kssi_hostcall_contains(uintptr_t pc); /* is it libc, ld.so, the vDSO or their like? */

/* hostframes.c: see struct kssi_platform */
enum kssi_host_words kssi_host_scan(struct kssi_host_look *look);
enum kssi_host_verdict kssi_host_walk(const struct kss_trap_frame *tf, struct kssi_range farthest, uintptr_t *pc);
void kssi_host_look_again(uint64_t ns);
void kssi_host_load_depth(uint32_t depth);
void kssi_host_waits(struct kss_machine *m, unsigned cpu, struct kss_host_stats *s);
/* The handler holds an interrupt back, or what was held is taken. */
void kssi_host_hold(struct kssi_hw_cpu *hw, enum kss_host_reason reason);
void kssi_host_taken(struct kssi_hw_cpu *hw);

/* stackmem.c */
void *kssi_mem_reserve(size_t size, size_t align);
void kssi_mem_release(void *p, size_t size);
int kssi_mem_open(void *p, size_t size);
int kssi_mem_guard(void *p, size_t size);
int kssi_mem_unguard(void *p, size_t size);
void kssi_mem_populate(void *p, size_t size);
void kssi_mem_discard(void *p, size_t size);
bool kssi_mem_by_madvise(void);
size_t kssi_mem_page(void);
size_t kssi_mem_physical(void);

/* protect.c */
int kssi_protect_init(struct kssi_hw_machine *h);
void kssi_protect_fini(struct kssi_hw_machine *h);
int kssi_protect(struct kss_machine *m, void *region, size_t size);
void kssi_protect_open(struct kssi_hot *hot);
/* In a handler, before it touches a kernel stack: they may be closed in user mode and late in the exit to it. */
static inline void kssi_protect_enter(struct kssi_hot *hot)
{
    if (__builtin_expect(hot->closed != 0, 0))
        kssi_protect_open(hot);
}

/* context_ucontext.c */
size_t kssi_context_size(void);
void kssi_context_init(void *ctx, struct kssi_range stack, void (*entry)(void));
void kssi_context_switch(void *from, void *to);
uintptr_t kssi_context_sp(const void *ctx);
const ucontext_t *kssi_context_ucontext(const void *ctx);
bool kssi_context_is_fresh(const void *ctx); /* made, and never switched to */

/* sanitizer.c; all but the first where KSSI_ASAN only */
int kssi_sanitizer_probe(void);
typedef int kssi_swapcontext_fn(ucontext_t *from, const ucontext_t *to);
struct kssi_range kssi_sanitizer_code(void); /* must not be interrupted */
kssi_swapcontext_fn *kssi_sanitizer_swapcontext(void);

/* unwind.c */
void kssi_unwind_warm(void);
int kssi_unwind(const void *ctx, struct kss_frame *frames, int max);
int kssi_unwind_trap(const struct kss_trap_frame *tf, struct kss_frame *frames, int max);
int kssi_unwind_sample(const struct kss_trap_frame *tf, struct kss_frame *frames, int max);
bool kssi_symbol(uintptr_t pc, char *name, size_t size, uint64_t *offset);

/* hostthread.c */
int kssi_host_thread(pthread_t *thread, void *(*fn)(void *), void *arg); /* all signals blocked */

/* disk.c, console.c: see struct kssi_platform */
int kssi_disk_open(struct kss_machine *m, const struct kss_disk_config *config, unsigned line,
                   struct kssi_disk_hw **hw);
void kssi_disk_start(struct kssi_disk_hw *hw, const struct kssi_disk_request *request);
bool kssi_disk_status(struct kssi_disk_hw *hw, struct kssi_disk_status *status);
void kssi_disk_close(struct kssi_disk_hw *hw);
void kssi_disk_counters(struct kssi_disk_hw *hw, struct kss_disk_stats *stats);
int kssi_console_open(struct kss_machine *m, const struct kss_console_config *config,
                      unsigned line, struct kssi_console_hw **hw);
int kssi_console_key(struct kssi_console_hw *hw);
long kssi_console_write(struct kssi_console_hw *hw, const void *data, size_t n);
void kssi_console_close(struct kssi_console_hw *hw);

/* live.c: raises a line, for devices, on the CPU that it is routed to */
void kssi_device_raise(struct kss_machine *m, unsigned line);

#endif

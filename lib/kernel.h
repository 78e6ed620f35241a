/* SPDX-License-Identifier: MIT */
/*
 * The kernel's private structures, their fields grouped by what guards them, and the functions its
 * files offer each other.
 *
 * Lock order, outermost first:
 *   machine.tree_lock   process tree, ids, arenas, the CPUs' caches of stacks
 *   the mutexes' lock   who waits for which mutex, and inherits whose priority: see mutex.c; one for all
 *   wait_queue.lock     the queue's sleepers; the same of semaphores, completions, condition variables
 *   a CPU's works.lock, then a CPU's timers.lock
 *   machine.sched_lock  thread states, dispatch queues, timers, priorities
 * and, with none of these held, cpu.timers.lock and cpu.works.lock.
 * All are taken with interrupts off. sched_lock is held across a context switch: the thread that is
 * switched to releases it (kssi_switch_finish), so that nobody runs a thread whose context is not yet
 * saved. Interrupts between CPUs are raised with any of them held: raising takes no lock.
 */
#ifndef KSSI_KERNEL_H
#define KSSI_KERNEL_H

#include <sys/queue.h>
#include <bsd/sys/tree.h>

#include <stdatomic.h>

#include "platform.h"
#include <kstacksim/smp.h>
#include <kstacksim/kthread.h>
#include <kstacksim/work.h>

#ifdef HAVE_CONFIG_H
#include <config.h>
#endif
#ifdef HAVE_SYS_SDT_H
#include <sys/sdt.h>
#else
#define DTRACE_PROBE2(provider, name, a, b) ((void)0)
#endif

#define KSSI_MACHINE_MAGIC 0x6b73735f6d616368ull /* for debuggers: handles are looked up, see handle.c */
#define KSSI_THREAD_MAGIC 0x6b73735f74687264ull
#define KSSI_OPEN_MAX 16
#define KSSI_DEVICES_MAX 64
#define KSSI_ERROR_MAX 240
#define KSSI_SYS_HALT 63 /* pid 1's own: the machine ends */
#define KSSI_SYS_SMASHED 62 /* user mode's stack protector has found something */

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Always checked: an error in this library, or an experiment that broke a precondition. */
#define KSS_ASSERT(x) ((void)(likely(x) || (kssi_assert_failed(#x, __FILE__, __LINE__), 0)))
/* Costly ones: configure --enable-checks. */
#ifdef KSS_ENABLE_CHECKS
#define KSS_CHECK(x) KSS_ASSERT(x)
#else
#define KSS_CHECK(x) ((void)0)
#endif
void kssi_assert_failed(const char *what, const char *file, int line) __attribute__((noreturn));

struct kss_process;
struct kssi_dsq;
struct kssi_arena;
struct kssi_fault;

TAILQ_HEAD(kssi_process_list, kss_process);
TAILQ_HEAD(kssi_thread_list, kss_thread);

/* A spinlock that a thread has, and who took it. */
struct kssi_held {
    struct kss_spinlock *lock;
    uintptr_t pc; /* where the call that took it returns to */
    enum kssi_held_as { KSSI_HELD_SPIN, KSSI_HELD_READ, KSSI_HELD_WRITE } as; /* the others: `lock` is a kss_rwlock's */
};
#define KSSI_HELD_MAX 16 /* deeper ones are only counted */

/* A thread's place in a dispatch queue. */
struct kssi_dsq_link {
    struct kssi_dsq *queue; /* NULL: in none */
    uint64_t vtime, order;
    bool by_vtime;
    TAILQ_ENTRY(kss_thread) fifo;
    RB_ENTRY(kss_thread) tree;
};

struct kss_thread {
    /* constant while it lives */
    uint64_t magic;
    unsigned block;              /* its number in the slab; constant from the first use on */
    int tid;
    struct kss_machine *machine;
    struct kss_process *process; /* NULL: an idle thread */
    char name[KSS_NAME_MAX];
    kss_user_fn fn;
    void *arg;
    void (*kernel_fn)(void);     /* kernel threads, idle ones too; NULL: it has a user mode */
    bool worker;                 /* a kernel thread that the kernel made for itself: see softirq.c, work.c */
    uint64_t canary;
    size_t kstack_want;          /* size it will get */
    uintptr_t user_low, user_high; /* its user stack */
    struct kssi_arena *user_arena; /* NULL: the caller's memory */
    bool main;                   /* its process's first */
    void *context;               /* what a context switch saves */
    void *class_data;

    /* its own CPU, interrupts off; others only while it is not running */
    struct kss_thread_info *ti;  /* at the low end of its kernel stack; NULL while it has none */
    struct kss_trap_frame *tf;   /* innermost trap frame; NULL in user mode */
    struct kssi_arena *kstack_arena;
    uintptr_t user_frame;        /* where entries from user mode put their frame */
    unsigned nesting;            /* live trap frames */
    size_t high_water;           /* kept when the stack is gone */
    uint64_t syscalls;
    uint32_t host_depth;         /* host regions, while it does not run */
    uint32_t host_leaves;        /* how often it gave up the CPU, for kssi_host_leaving() */
    unsigned locks_held;         /* by kss_spin_lock(); a fault with one held can't be survived */
    struct kssi_held held[KSSI_HELD_MAX]; /* the first of them, outermost first */
    uintptr_t irqs_off_at;       /* where interrupts were turned off; 0: since the last entry by its gate */
    uintptr_t preempt_off_at;    /* where preempt_count left 0 */
    uint64_t preempt_off_ns;     /* and when, if latencies are measured; 0: it is 0 */
    struct kss_waiter *waiters;  /* where it is queued, innermost first */
    struct kss_mutex *mutexes;   /* that it holds, the last one first */
    char error[KSSI_ERROR_MAX];  /* kss_last_error() */

    /* sched_lock */
    enum kss_thread_state state;
    unsigned cpu;                /* where it runs, is queued, or ran last */
    unsigned ran_on;             /* where it ran last */
    bool pinned;                 /* not all CPUs are allowed */
    struct kss_cpumask allowed;
    uint64_t migrations;
    bool on_cpu;                 /* its context is in the CPU, not in memory */
    bool context_saved;          /* `context` holds where to resume */
    bool queued;                 /* the class has it as runnable and waiting */
    int priority;                /* the mutexes' lock too, to write it */
    unsigned weight;
    uint64_t slice_ns;
    struct kssi_dsq_link dsq;
    uint64_t run_ns, run_start;
    uint64_t preemptions, voluntary;
    uint64_t watched_at, watched_switches; /* kssi_sched_watch(): READY since, at least; 0: not */
    const char *wait_channel;
    bool unkillable;             /* SLEEPING, and a kill does not end it */
    uint64_t hung_told;          /* run_start of the sleep that was reported */
    uint64_t wake_at;            /* sleeping until; in the timer tree if timer_armed */
    uint64_t timer_order;
    bool timer_armed;
    RB_ENTRY(kss_thread) timer;

    /* the mutexes' lock: see mutex.c */
    int base_priority;           /* its own; `priority` is at least that */
    struct kss_mutex *waited_for; /* those it holds that others wait for */

    struct kssi_sleeper *blocked; /* what it waits for, if that is a mutex */

    struct kssi_sleeper *sleeper; /* its own: where it sleeps on any lock; for the end of the machine */

    /* tree_lock */
    long exit_value;
    int exit_status;
    bool finished;               /* has left its process; about to be, or, a ZOMBIE */
    bool killed;
    struct kss_thread *joiner;   /* also links the free list */
    TAILQ_ENTRY(kss_thread) of_process;
};

struct kssi_open_file {
    TAILQ_ENTRY(kssi_open_file) all;
    const struct kssi_device *device; /* NULL: free */
    struct kss_file file;
    unsigned references;
};

struct kss_process {
    int pid;
    struct kss_machine *machine;
    /* tree_lock */
    struct kss_process *parent;
    struct kssi_process_list children;
    TAILQ_ENTRY(kss_process) sibling;
    struct kssi_thread_list threads;
    unsigned alive;              /* threads that are not yet zombies */
    bool dying, zombie;
    int exit_status;
    struct kss_process *all_next; /* every block there is */
    struct kss_wait_queue child_exit; /* kss_wait() */
    struct kss_wait_queue thread_exit; /* kss_thread_join() */
    struct kssi_open_file *files[KSSI_OPEN_MAX];
};

struct kssi_device {
    char name[KSS_NAME_MAX];
    const struct kss_device_ops *ops;
    void *data;
};

/* Stacks of one size, cut from one reservation: see kstack.c. */
struct kssi_arena {
    size_t size, stride, align;
    char *base;            /* of slot 0's stack */
    char *region;
    size_t region_size;
    unsigned slots, fresh; /* slots from `fresh` on were never used */
    unsigned free_count;
    uint32_t *free_slots;
    int32_t *owner;        /* of each slot: the last thread that had it, for reports */
    bool kernel;
};

/* Freed stacks of the default size, ready for use. tree_lock; a CPU's own, so that they are warm. */
struct kssi_stack_cache {
    unsigned count;
    uintptr_t *low;
};

struct kssi_histogram;
struct kssi_latency;
/* Where interrupts were turned off or on. pc 0: by a trap. */
struct kssi_place {
    uintptr_t pc;
    unsigned vector;
};
struct kssi_profile;
struct kssi_class_op;
struct kssi_ejection;

/* Vector stacks with a use of the kernel's own; from 8 on no gate can name them, so that nothing else comes there. */
#define KSSI_STACK_DOUBLE_FAULT 1
#define KSSI_STACK_NMI 2
#define KSSI_GATE_STACKS 7 /* up to this one, gates may name them */
#define KSSI_STACK_SOFTIRQ 8 /* where interrupts have stacks of their own */
#define KSSI_STACK_CLASS 9 /* operations of an experiment's scheduler class */
#define KSSI_STACK_REPORT 10 /* reports, backtraces, and leaving for good */

#define KSSI_WALK_FRAMES 128

struct kssi_irq_desc {
    _Atomic(kss_irq_fn) handler;  /* changed under irq_lock; NULL: none */
    void *arg;                    /* changed while there is no handler, and none is under way */
    bool freeing;                 /* irq_lock: its last handlers are waited for */
    char name[32];                /* irq_lock */
    _Atomic uint64_t unhandled;
    _Atomic uint64_t affinity[KSS_CPUS_MAX / 64]; /* irq_lock; read without: each CPU is in or not */
};

#define KSSI_SOFTIRQ_TIMERS KSS_SOFTIRQS /* the kernel's own, the last of each round */
struct kssi_softirq {
    kss_softirq_fn handler;
    void *arg;
    char name[32];
};

/* Interrupt storms on a CPU: see irq_storm.c. Its own, interrupts off; others only look. */
struct kssi_storm {
    bool on;
    unsigned window_ticks, ticks;
    uint64_t count_max, ns_max;   /* what a window allows a line */
    uint64_t since;               /* when this one began */
    uint64_t held, storming;      /* bits of lines */
    struct kssi_storm_line {
        uint64_t count, ns;       /* in this window */
        uint64_t storms, held_at, held_ns;
    } line[KSS_IRQ_LINES];
};

/* A CPU's kernel timers: see ktimer.c. */
RB_HEAD(kssi_ktimer_tree, kssi_timer_node);
struct kssi_timers {
    struct kss_spinlock lock;
    struct kssi_ktimer_tree tree;
    uint64_t next;                /* when the first is due; UINT64_MAX: none. Read without the lock */
    uint64_t order;
    struct kss_timer *running;    /* whose function is under way; set under the lock, cleared without */
    uint64_t armed, expired, cancelled;
};

/* A CPU's work items: see work.c. */
struct kssi_works {
    struct kss_thread *worker;    /* NULL: none yet; machine.worker_lock */
    struct kss_spinlock lock;
    struct kss_work *first, *last;
    struct kss_work *running;     /* whose function is under way */
    uint64_t running_number, numbers; /* each that comes on the list has the next number */
    uint64_t queued, done, cancelled;
    struct kss_wait_queue more, flushed;
};

struct kssi_cpu {
    struct kss_machine *machine;
    unsigned index;
    struct kssi_cpu_stacks stacks;
    struct kss_thread *current;   /* own CPU: interrupts off; others: sched_lock */
    _Atomic bool resched_sent;    /* a KSS_LINE_RESCHED is on its way */
    _Atomic bool dump_wanted;     /* at its next NMI */
    unsigned balance_ticks;
    _Atomic bool call_due;        /* a KSS_LINE_CALL is on its way */
    struct kss_thread *idle;
    void *boot_context;           /* the host thread's own stack */
    unsigned pauses;              /* of the wait for a lock that goes on; interrupts off */
    unsigned irq_depth;           /* hard irq handlers under way */
    _Atomic uint64_t handling;    /* whose: a bit for each line; own CPU, read by kss_irq_free() */
    unsigned handled_stopping;    /* interrupts since the machine was to stop */
    uint64_t softirq_pending;     /* a bit each; after the experiment's, KSSI_SOFTIRQ_TIMERS */
    bool in_softirq, in_worker;
    struct kss_thread *softirq_worker; /* NULL: there was no flood yet */
    struct kss_wait_queue softirq_more;
    struct kssi_timers timers;
    struct kssi_works works;
    uintptr_t spare_stack;        /* a kernel stack for the next thread that has none */
    struct kssi_stack_cache kstacks, ustacks;
    struct kss_cpu_stats stats;
    struct kss_thread *switched_from;
    enum kss_switch_reason reason;
    struct kssi_trace_ring *ring;
    void *class_data;
    struct kssi_class_op *op;     /* under guard: what goes on; NULL: the class is the library's own */
    bool in_class_op;
    struct kssi_host_held {       /* interrupts off: see host.c */
        uint64_t since;           /* a preemption is held back; 0: none is */
        uint64_t retry_ns;
        bool region;
    } host_held;
    struct kss_host_stats host;   /* of these, the platform has the interrupts */
    struct kssi_latency *latency; /* NULL: not measured */
    bool halted;
    struct kssi_storm storm;
    struct kssi_watch {           /* interrupts off: see watchdog.c */
        unsigned resched_ticks;   /* ticks that found need_resched still set */
        uint64_t ended;           /* lines whose end of interrupt has been given */
        uint64_t unended;         /* lines whose handler is over, and that is still missing */
        uint64_t unended_told;
        unsigned unended_ticks[KSS_IRQ_LINES];
        unsigned scan;            /* where the look for hung threads goes on */
    } watch;
    struct kss_report report;     /* under construction; interrupts off */
    bool own_nmi;                 /* kssi_nmi() is under way; it found no walk, so one that goes on is its own */
    bool in_on_report;            /* the experiment's function is under way */
    bool reporting, walking;      /* walking: a fault now ends the backtrace, through `rescue` */
    void *rescue[5];
    struct kss_frame walk_frames[KSSI_WALK_FRAMES]; /* the same */
    struct kss_frame picture_frames[KSSI_WALK_FRAMES]; /* the same */
    struct kss_stack_picture picture; /* being drawn; the same */
    /* sched_lock */
    struct kssi_dsq *local;
};

RB_HEAD(kssi_timer_tree, kss_thread);

enum kssi_machine_state { KSSI_BUILT, KSSI_RUNNING, KSSI_ENDED, KSSI_DYING };

/* Where a machine's thread blocks lie: see thread.c and handle.c. */
struct kssi_slab {
    char *base;
    size_t block_size, reserved;
    size_t used;                  /* bytes of blocks ever in use */
    size_t open;                  /* bytes that can be touched */
};

struct kss_machine {
    uint64_t magic;
    uint64_t number;              /* no other machine has, or had, it */
    const struct kssi_platform *platform;
    struct kssi_hw_machine *hw;
    struct kss_config config;
    size_t stack_gap;             /* bytes between two kernel stacks, at least */
    bool fenced;                  /* part of that is open */
    bool exit_policies;           /* the exit to user mode has more to do: erase, randomise, look at fences */
    _Atomic int life;             /* enum kssi_machine_state */
    _Atomic bool stopping;        /* CPUs go to idle and leave: set by kssi_stop() */
    _Atomic bool booted;          /* by CPU 0: the others may schedule */
    struct kssi_call {            /* of other CPUs, under way: see ipi.c */
        _Atomic bool busy;
        _Atomic unsigned pending, done;
        kss_cpu_fn fn;
        void *arg;
    } call;
    _Atomic int stop_reason;      /* 0, or a negative errno for kss_machine_run() */
    kss_user_fn main_fn;
    void *main_arg;
    int main_status;
    int main_pid;
    struct kss_vector_table vectors;
    kss_syscall_fn syscall[KSS_SYSCALLS];
    const char *syscall_name[KSS_SYSCALLS];
    struct kss_spinlock irq_lock; /* inside all but report_lock */
    struct kssi_irq_desc irq[KSS_IRQ_LINES];
    struct kssi_softirq softirq[KSS_SOFTIRQS + 1];
    struct kssi_device device[KSSI_DEVICES_MAX];
    unsigned devices;
    unsigned next_disk_line;
    struct kssi_disk *disks;
    struct kssi_console *console;
    bool trace_on, sched_started;
    struct kssi_lockdep *lockdep; /* NULL: the order of locks is not checked */
    struct kssi_profile *profile;
    char boot_error[KSSI_ERROR_MAX];
    size_t thread_size;

    struct kss_spinlock tree_lock;
    struct kss_process *init;
    struct kss_process *kernel;   /* of the kernel threads; NULL: there was none yet. Set once */
    struct kss_thread **by_id;
    unsigned id_slots;
    int next_id;
    unsigned threads, zombies, zombie_stacks, zombie_stacks_max;
    uint64_t created, reaped;
    struct kssi_arena *kernel_arenas[16], *user_arenas[32];
    struct kssi_slab *slab;       /* thread blocks; its own fields: tree_lock */
    struct kss_process *all_processes;
    TAILQ_HEAD(, kssi_open_file) all_files;
    struct kss_thread *free_threads; /* linked through joiner */
    struct kss_process *free_processes; /* linked through parent */
    uint64_t kstack_allocs, kstack_hits, kstack_live;
    size_t deepest_task;          /* of the kernel stacks that were freed */
    uint64_t random_state;

    struct kss_spinlock worker_lock; /* making workers for work items; outside all others */

    struct kss_spinlock report_lock; /* one CPU reports at a time; inside all others */

    struct kss_spinlock sched_lock;
    const struct kss_sched_class *sched;
    bool guarded;                 /* it is an experiment's: see sched_class.h */
    struct kssi_ejection *ejection; /* NULL: the class is the library's own */
    struct kssi_dsq *dsqs;        /* list of all, the built-in ones too */
    struct kssi_dsq *global;
    struct kss_cpumask online;    /* CPUs that run threads */
    struct kss_cpumask idle;      /* of these, those that run none */
    struct kssi_timer_tree timers;
    uint64_t timer_order;
    uint64_t next_timer;          /* earliest wake_at; UINT64_MAX: none */
    uint64_t dsq_order;

    unsigned cpus;
    struct kssi_cpu cpu[];
};

/* ---- current ---------------------------------------------------------------------------------- */

#define KSSI_MACHINES_MAX 64
extern struct kss_machine *kssi_machines[KSSI_MACHINES_MAX]; /* alive; NULL: a free place */
extern uintptr_t kssi_stack_mask; /* of all live machines: see kss_config.kstack_max */

/* Kernel mode only: by masking the stack pointer, also on interrupt and vector stacks. */
static inline struct kss_thread_info *kssi_thread_info(void)
{
    return (struct kss_thread_info *)((uintptr_t)__builtin_frame_address(0) & kssi_stack_mask);
}

static inline struct kss_thread *kssi_current(void)
{
    return kssi_thread_info()->thread;
}

/* On a stack of this CPU's own. Interrupts off. */
static inline void kssi_call_on(const struct kssi_range *stack, void (*fn)(void *), void *arg)
{
    struct kssi_range was = kssi_stack_in_use(*stack);
    kssi_call_on_stack(stack->high & ~(uintptr_t)63, fn, arg);
    kssi_stack_in_use(was);
}

/* The end of a thread's kernel stack: one line of memory, looked at on every entry, exit and switch. */
KSSI_UNSANITIZED static inline bool kssi_kstack_end_ok(const struct kss_thread *t)
{
    const struct kss_thread_info *ti = t->ti;
    return likely(!((ti->canary ^ t->canary) | (ti->magic ^ KSS_THREAD_INFO_MAGIC) |
                    ((uintptr_t)ti->thread ^ (uintptr_t)t) |
                    (ti->flags & ~(KSS_TI_NEED_RESCHED | KSS_TI_KILLED)))) ||
           !t->machine->config.canary;
}

/* thread_info's flags are set by other CPUs too. */
static inline void kssi_ti_set(struct kss_thread_info *ti, uint32_t bit)
{
    if (!(__atomic_load_n(&ti->flags, __ATOMIC_RELAXED) & bit))
        __atomic_or_fetch(&ti->flags, bit, __ATOMIC_SEQ_CST);
}
static inline void kssi_ti_clear(struct kss_thread_info *ti, uint32_t bit)
{
    if (__atomic_load_n(&ti->flags, __ATOMIC_RELAXED) & bit)
        __atomic_and_fetch(&ti->flags, ~bit, __ATOMIC_SEQ_CST);
}

/* A statistic that one writes at a time, and anybody may read. */
static inline void kssi_count(uint64_t *n, uint64_t by)
{
    __atomic_store_n(n, *n + by, __ATOMIC_RELAXED);
}

/* spinlock.c: takes a lock that somebody has. self: NULL on a host thread. */
void kssi_lock_contended(struct kss_spinlock *lock, const struct kss_thread *self);
/* One pause of a loop whose pauses *n counts: now and then a long one. */
void kssi_spin_pause(unsigned *n);

/* A spinlock where interrupts are off already and the current thread is known. */
static inline void kssi_lock(struct kss_spinlock *lock, const struct kss_thread *self)
{
    if (unlikely(__atomic_exchange_n(&lock->locked, 1, __ATOMIC_ACQUIRE)))
        kssi_lock_contended(lock, self);
    lock->holder = self;
    kssi_count(&lock->taken, 1);
}

static inline void kssi_unlock(struct kss_spinlock *lock)
{
    lock->holder = NULL;
    __atomic_store_n(&lock->locked, 0, __ATOMIC_RELEASE);
}

/* False: the caller has it already. Interrupts off. */
static inline bool kssi_lock_unless_held(struct kss_spinlock *lock)
{
    if (lock->holder == kssi_current())
        return false;
    kssi_lock(lock, kssi_current());
    return true;
}

/* True in kernel mode of a simulated CPU; a user-mode caller faults; false on a host thread. */
bool kssi_require_kernel(void);
/* 0 where a machine may be configured (host before the machine runs, kernel), or an error. */
int kssi_require_config(struct kss_machine *m);
/* 0 where a machine may be looked at: kernel, or host while it does not run. */
int kssi_require_view(const struct kss_machine *m);

/* ---- handle.c --------------------------------------------------------------------------------- */

/* Neither looks at what the pointer points to, before it is known to be a handle. */
int kssi_valid_machine(const struct kss_machine *m);
int kssi_no_machine(const struct kss_machine *m); /* the error */
int kssi_valid_thread(const struct kss_thread *t);
/* On a simulated CPU, it must also be a thread of that CPU's machine. */
int kssi_own_thread(const struct kss_thread *t);
/* And it may be looked at from here: privileged; host while its machine does not run. */
int kssi_view_thread(const struct kss_thread *t);
/* A trap frame on a kernel stack of this CPU's machine. Privileged; -EPERM on the host. */
int kssi_valid_frame(const struct kss_trap_frame *tf);
/* NULL: t is no thread. No sentence. */
struct kss_machine *kssi_thread_machine(const struct kss_thread *t);

struct kssi_hold {
    int place;
    bool irqs_on;
};
/* Keeps a machine from being destroyed meanwhile; false: it is none. Async-signal-safe. */
bool kssi_machine_hold(const struct kss_machine *m, struct kssi_hold *hold);
void kssi_machine_drop(const struct kssi_hold *hold);
int kssi_machine_register(struct kss_machine *m, size_t stack_align);
void kssi_machine_publish(struct kss_machine *m);
void kssi_machine_hide(struct kss_machine *m);
void kssi_machine_forget(struct kss_machine *m);

/* ---- state.c, sched.c, dsq.c, preempt.c -------------------------------------------------------- */

void kssi_set_state(struct kss_thread *t, enum kss_thread_state to); /* sched_lock */

int kssi_sched_init(struct kss_machine *m);
void kssi_sched_fini(struct kss_machine *m);
int kssi_sched_start(struct kss_machine *m); /* on a CPU: the class's init */
int kssi_sched_add(struct kss_thread *t);    /* NEW: the class may refuse */
void kssi_sched_start_thread(struct kss_thread *t); /* NEW -> READY */
void kssi_sched_remove(struct kss_thread *t);       /* ZOMBIE */
void kssi_schedule(enum kss_switch_reason reason);
void kssi_switch_finish(void);
bool kssi_wake(struct kss_thread *t);
void kssi_set_need_resched(struct kss_thread *t); /* of the own CPU */
void kssi_interrupt_thread(struct kss_thread *t);   /* if it runs on another CPU */
void kssi_on_resched(unsigned line, void *arg);
void kssi_on_call(unsigned line, void *arg);
void kssi_resched_cpu(struct kssi_cpu *cpu);        /* any: it calls the scheduler soon */
void kssi_sched_tick(struct kssi_cpu *cpu);
void kssi_sched_set_priority(struct kss_thread *t, int priority);
uint64_t kssi_now(struct kss_machine *m);
uint64_t kssi_random(struct kss_machine *m);

struct kssi_dsq *kssi_dsq_new(struct kss_machine *m, uint64_t id);
void kssi_dsq_insert_fifo(struct kss_thread *t, struct kssi_dsq *q, uint64_t slice_ns);
struct kss_thread *kssi_dsq_first(struct kssi_dsq *q);
struct kss_thread *kssi_dsq_first_for(struct kssi_dsq *q, unsigned cpu);
struct kss_thread *kssi_dsq_first_not_for(struct kssi_dsq *q, unsigned cpu);
struct kss_thread *kssi_dsq_pop(struct kssi_dsq *q, unsigned cpu); /* the first that may run there */
void kssi_dsq_remove(struct kss_thread *t);
unsigned kssi_dsq_count(const struct kssi_dsq *q);
bool kssi_dsq_contains(struct kssi_dsq *q, const struct kss_thread *t);
struct kssi_dsq *kssi_dsq_next(struct kssi_dsq *q);
void kssi_dsq_free_all(struct kss_machine *m);
void kssi_dsq_clear_all(struct kss_machine *m); /* whatever state they are in */

/* sched_guard.c, sched_eject.c: operations of an experiment's class; see sched_class.h */
int kssi_guard_init(struct kss_machine *m);
void kssi_guard_fini(struct kss_machine *m);
/* A report that ends what is under way, while an operation is: the operation is abandoned. */
void kssi_class_op_failed(struct kssi_cpu *cpu, const struct kssi_fault *f) __attribute__((noreturn));
/* Panics if an operation is under way: for what would leave things half done if it panicked later. */
void kssi_not_in_class_op(const char *what);
/* An interrupt was taken in an operation, which must have turned them on: if so, does not return. */
void kssi_class_op_interrupted(struct kssi_cpu *cpu, unsigned line);
/* From the handler of a non-maskable interrupt. True: it came in an operation that does not end; the frame
   now leads to where that is abandoned. */
bool kssi_sched_rescue(struct kssi_cpu *cpu, struct kss_trap_frame *tf);
void kssi_sched_watch(struct kssi_cpu *cpu); /* every tick: is a READY thread passed over? */
bool kssi_class_leaves(struct kss_machine *m); /* a guarded class is about to be ejected, is being, or just has been */

/* runqueue.c: which CPU a thread runs on, where the class does not say. sched_lock. */
bool kssi_may_run_on(const struct kss_thread *t, unsigned cpu);
unsigned kssi_select_cpu(const struct kss_thread *t);
void kssi_kick_idle_for(const struct kss_thread *t); /* it is queued: an idle CPU may come for it */
struct kss_thread *kssi_steal(struct kssi_cpu *cpu);
void kssi_balance(struct kssi_cpu *cpu);
void kssi_balance_idle(struct kssi_cpu *cpu); /* hard irq: does anybody wait elsewhere? */
int kssi_affinity_set(struct kss_thread *t, const struct kss_cpumask *allowed);
void kssi_requeue(struct kss_thread *t, void (*change)(struct kss_thread *t, void *arg), void *arg);

/* ktimer.c */
void kssi_timers_init(struct kssi_cpu *cpu);
void kssi_timers_tick(struct kssi_cpu *cpu); /* hard irq */

/* work.c */
void kssi_works_init(struct kssi_cpu *cpu);
/* host.c: threads are not switched away from while libc's frames are live on their stacks. Interrupts off. */
bool kssi_host_holds(struct kss_thread *t, const struct kss_trap_frame *tf); /* the current one; tf NULL: from here */
void kssi_host_leaving(struct kss_thread *t); /* it sleeps or yields: reports if it may not */
void kssi_host_switch(struct kssi_cpu *cpu, struct kss_thread *prev, struct kss_thread *next, bool exits);
void kssi_host_held_over(struct kssi_cpu *cpu);

/* timer.c */
struct kss_thread *kssi_timer_first(struct kss_machine *m); /* sched_lock */
void kssi_timer_disarm(struct kss_thread *t);               /* sched_lock */
/* Makes the caller SLEEPING, until kssi_wake() or a time of kssi_now(), UINT64_MAX: none. Then it calls
   kss_wait_sleep(). -EINTR: it stays RUNNING, since it is killable and was killed. */
int kssi_sleep_begin(const char *channel, bool killable, uint64_t until);
void kssi_sleep_end(void); /* after it: it waits for nothing any more */
void kssi_timer_expire(struct kss_machine *m);          /* hard irq */
long kssi_sleep_until(uint64_t at);

/* ---- kstack.c, stack_cache.c -------------------------------------------------------------------- */

struct kssi_arena *kssi_arena_get(struct kss_machine *m, size_t size, bool kernel);
uintptr_t kssi_arena_take(struct kss_machine *m, struct kssi_arena *a);
void kssi_arena_give(struct kss_machine *m, struct kssi_arena *a, uintptr_t low);
void kssi_arenas_fini(struct kss_machine *m);
void kssi_arena_retire(struct kss_machine *m, struct kssi_arena *a, uintptr_t low, int tid);
bool kssi_arena_revive(struct kss_machine *m, struct kssi_arena *a, uintptr_t low);
/* Bytes that fault directly below and above a stack of the machine's. */
void kssi_stack_guards(struct kss_machine *m, uintptr_t low, size_t *below, size_t *above);
bool kssi_in_kernel_arena(const struct kss_machine *m, uintptr_t address); /* stacks, guards, unused slots */
struct kssi_range kssi_arena_fence(struct kss_machine *m, const struct kssi_arena *a, uintptr_t low);
size_t kssi_arena_stride(const struct kss_config *c, size_t size, size_t align);

uintptr_t kssi_kstack_alloc(struct kss_machine *m, size_t size, struct kssi_arena **arena);
void kssi_kstack_free(struct kss_thread *t, uintptr_t low);
struct kss_thread_info *kssi_kstack_prepare(uintptr_t low, struct kss_thread *t, uint64_t canary);
void kssi_kstack_attach(struct kss_thread *t, uintptr_t low, struct kssi_arena *arena);
void kssi_kstack_detach(struct kss_thread *t); /* frees it */
size_t kssi_kstack_high_water(uintptr_t low, size_t size, bool poisoned);
/* The first byte that was written in the open part of the gap below the stack, 0 if none; and its cleaning. */
uintptr_t kssi_kstack_fence_hit(const struct kss_thread *t);
void kssi_kstack_fence_mend(const struct kss_thread *t);
/* The end of the current thread's stack, and its fence: reports, mends, acts. tf: what was interrupted, or NULL. */
void kssi_kstack_verify(struct kss_thread *t, const struct kss_trap_frame *tf);
void kssi_kstack_erase(struct kss_thread *t);
long kssi_sys_smashed(const struct kss_syscall_args *a);
uintptr_t kssi_kstack_random_frame(struct kss_thread *t);
uintptr_t kssi_kstack_user_frame(uintptr_t low, size_t size);
uintptr_t kssi_ustack_alloc(struct kss_machine *m, size_t size, struct kssi_arena **arena);
void kssi_ustack_free(struct kss_thread *t);
int kssi_cpu_stacks_init(struct kssi_cpu *cpu);
void kssi_cpu_stacks_fini(struct kssi_cpu *cpu);
int kssi_vector_stack_get(struct kssi_cpu *cpu, unsigned index);
void kssi_poison_init(void);
void kssi_spare_stack_get(struct kssi_cpu *cpu);
void kssi_spare_stack_adopt(struct kssi_cpu *cpu, struct kss_thread *t);

/* ---- thread.c, process.c, exit.c ------------------------------------------------------------------ */

struct kss_thread *kssi_thread_new(struct kss_machine *m, const struct kss_spawn_attr *attr,
                                   struct kss_process *process, struct kss_thread *parent,
                                   void (*kernel_fn)(void), int *error);
void kssi_thread_free(struct kss_thread *t);
struct kss_thread *kssi_thread_by_id(struct kss_machine *m, int tid); /* tree_lock */
void kssi_thread_exit(struct kss_thread *t, int status, long value) __attribute__((noreturn));
void kssi_mark_killed(struct kss_thread *t, int status); /* tree_lock */
void kssi_process_kill(struct kss_process *p, int status);
void kssi_process_exit(int status) __attribute__((noreturn));
void kssi_die(int status) __attribute__((noreturn)); /* the current thread's process, at once */
long kssi_process_spawn(struct kss_machine *m, struct kss_process *parent, kss_user_fn fn, void *arg,
                        const struct kss_spawn_attr *attr);
long kssi_thread_spawn(kss_user_fn fn, void *arg, const struct kss_spawn_attr *attr);
long kssi_process_wait(struct kss_process *p, long pid, int *status);
long kssi_thread_join(struct kss_process *p, long tid, long *value);
void kssi_process_reap(struct kss_process *p); /* tree_lock not held; p is unlinked */
int kssi_boot_init(struct kss_machine *m);
struct kss_process *kssi_process_new(struct kss_machine *m);
void kssi_process_free(struct kss_process *p);
void kssi_process_add_thread(struct kss_process *p, struct kss_thread *t, kss_user_fn fn, void *arg);
/* kthread.c: NEW, for kssi_sched_start_thread(). cpu: the only one it runs on; -1: all. Any kernel context. */
struct kss_thread *kssi_kthread_new(struct kss_machine *m, const char *name, kss_kthread_fn fn, void *arg, int priority,
                                    int cpu, int *error);
int kssi_threads_init(struct kss_machine *m);
void kssi_threads_fini(struct kss_machine *m);
void kssi_processes_fini(struct kss_machine *m);

/* cpu.c */
void kssi_stop(struct kss_machine *m, int reason); /* the first reason counts; 0: none. Async-signal-safe */
int kssi_cpu_init(struct kssi_cpu *cpu);
void kssi_cpu_fini(struct kssi_cpu *cpu);

/* ---- trap.c, irq.c, syscall.c ---------------------------------------------------------------------- */

void kssi_trap_init(struct kss_machine *m);
void kssi_irq_dispatch(struct kss_trap_frame *tf, void *arg);
bool kssi_line_stats(struct kss_machine *m, unsigned cpu, unsigned line, struct kss_irq_stats *s);
void kssi_irq_init(struct kss_machine *m);
void kssi_storm_init(struct kssi_cpu *cpu); /* at its boot */
/* A handler has taken ns; tf: what it interrupted. Hard irq. */
void kssi_storm_note(struct kssi_cpu *cpu, unsigned line, uint64_t ns, const struct kss_trap_frame *tf);
void kssi_storm_tick(struct kssi_cpu *cpu);
void kssi_storm_stats(struct kssi_cpu *cpu, unsigned line, struct kss_irq_stats *stats);
void kssi_softirq_run(struct kssi_cpu *cpu);
void kssi_nmi(struct kss_trap_frame *tf, void *arg);
void kssi_watchdog_tick(struct kssi_cpu *cpu); /* hard irq */
void kssi_watchdog_eoi(struct kssi_cpu *cpu, unsigned line, bool given);
void kssi_syscall_init(struct kss_machine *m);
void kssi_syscall_dispatch(struct kss_trap_frame *tf, void *arg);
void kssi_fault_init(struct kss_machine *m);
void kssi_vector_reset(struct kss_machine *m, unsigned vector); /* back to what it was at boot */

/* file.c and devices */
int kssi_device_name_ok(struct kss_machine *m, const char *name);
long kssi_file_open(struct kss_process *p, const char *name, int flags);
long kssi_file_close(struct kss_process *p, int fd);
long kssi_file_io(struct kss_process *p, int fd, void *buffer, size_t n, bool write);
void kssi_files_inherit(struct kss_process *child, struct kss_process *parent);
void kssi_files_close(struct kss_process *p);
void kssi_files_fini(struct kss_machine *m);
void kssi_console_stdio(struct kss_machine *m, struct kss_process *p);
void kssi_disks_fini(struct kss_machine *m);
void kssi_console_fini(struct kss_machine *m);

/* ---- trace.c, report.c, histogram.c ---------------------------------------------------------------- */

int kssi_trace_init(struct kss_machine *m);
void kssi_trace_fini(struct kss_machine *m);
void kssi_trace_record(struct kss_machine *m, enum kss_trace_type type, uint64_t a, uint64_t b,
                       uint64_t c, uint64_t d);
void kssi_trace_switch(struct kss_machine *m, const struct kss_thread *prev,
                       const struct kss_thread *next, enum kss_switch_reason reason);
uint64_t kssi_trace_recorded(struct kss_machine *m, uint64_t *lost);
/* One predictable branch when off, and a USDT probe of the type's name with the first two values. */
#define KSSI_TRACE(m, type, a, b, c, d)                                                             \
    do {                                                                                            \
        DTRACE_PROBE2(kstacksim, type, a, b);                                                       \
        if (unlikely((m)->trace_on))                                                                \
            kssi_trace_record((m), (type), (uint64_t)(a), (uint64_t)(b), (uint64_t)(c),             \
                              (uint64_t)(d));                                                       \
    } while (0)

/* ---- report.c and its like ---- */

/* What is to be reported; the rest is found out. */
struct kssi_fault {
    enum kss_report_kind kind;
    const struct kss_trap_frame *tf; /* NULL: at the caller */
    uintptr_t sp;                    /* 0: the frame's, or the caller's */
    uintptr_t address;               /* a bad one; 0: the frame's */
    const char *message;
    const char *must_stop;           /* why it can't be survived; NULL: found out */
    struct kss_thread *thread;       /* whom it is about; NULL: the current one */
    unsigned second_vector, line;
    uint64_t waited_ns;
    uintptr_t place;
    const char *place_what;
    const struct kss_trap_frame *other_tf; /* a second backtrace: from a frame, of pcs, or of a thread */
    const uintptr_t *other_pcs;
    int other_count;
    const char *other_what;
};
/* Decides by the policy, builds the report on a stack of the CPU's own and hands it out. Interrupts off. */
enum kss_report_action kssi_report(const struct kssi_fault *fault);
/* fn(arg) on the stack for reports and backtraces, unless that is in use. Interrupts off; an NMI that finds it in use
   comes again later. */
void kssi_call_on_report_stack(struct kssi_cpu *cpu, void (*fn)(void *), void *arg);
/* Does it: returns after CONTINUE only. status: of the thread or process that is killed. Kernel mode. */
void kssi_act(enum kss_report_action action, int status);
/* A fault while a backtrace is made for a report ends that; else it returns. */
void kssi_report_rescue(struct kssi_cpu *cpu, const struct kss_trap_frame *tf);
/* A backtrace that a fault on the way only cuts short: from a trap frame, a saved context, or (both NULL) from here. */
int kssi_report_walk(struct kssi_cpu *cpu, const struct kss_trap_frame *tf, const void *context,
                     struct kss_frame *frames, int max);
/* All stacks as text; tf: where this CPU was. NMI. */
void kssi_dump(struct kssi_cpu *cpu, const struct kss_trap_frame *tf);
/* A thread leaves for good, perhaps in the middle of a report. */
void kssi_report_leave(const struct kss_thread *t);
/* Both. */
void kssi_fault(const struct kssi_fault *fault, int status);
/* Stops the machine from whatever state the CPU is in. */
void kssi_panic(enum kss_report_kind kind, const char *format, ...) __attribute__((noreturn))
KSS_PRINTF(2, 3);
/* Why the current thread can't be killed in kernel mode; NULL: it can. */
const char *kssi_cannot_survive(const struct kssi_cpu *cpu, const struct kss_thread *t);

/* Text into a buffer of any size; length counts what the whole text has. */
struct kssi_text {
    char *buffer;
    size_t size, length;
};
/* 0: what a person made up can be printed. */
int kssi_report_check(const struct kss_report *r, const char *buffer, size_t size);
void kssi_text_print(struct kssi_text *t, const char *format, ...) KSS_PRINTF(2, 3);
int kssi_near_format(const struct kss_report_near *n, const char *thread_name, char *out, size_t size);
/* The last events of a CPU's ring, oldest first. */
int kssi_trace_last(struct kssi_cpu *cpu, struct kss_trace_event *out, int max);

int kssi_backtrace_trap(const struct kss_trap_frame *tf, struct kss_frame *frames, int max);
/* From entry code: a frame could not even be put on the double fault's stack. */
void kssi_triple_fault(void) __attribute__((noreturn));
/* Which stack an address lies in or beside; by: who touched it. *thread: whose; NULL: a CPU's, a freed one, or none. */
void kssi_stack_near(struct kss_machine *m, uintptr_t address, struct kss_thread *by, struct kss_report_near *near,
                     struct kss_thread **thread);
/* The range of the kernel stack of this CPU that a stack pointer belongs to, also when it has run over. */
const struct kssi_range *kssi_range_of(const struct kssi_cpu *cpu, uintptr_t sp, enum kss_stack_kind *kind);

/* ---- spinlock.c, lockdep.c, atomic.c ---- */

/* `spinlock "name"`, or its address. */
void kssi_lock_name(const struct kss_spinlock *lock, char *out, size_t size);
/* Where a thread took a lock; 0: it has not, or too many others. */
uintptr_t kssi_lock_place(const struct kss_thread *t, const struct kss_spinlock *lock);
/* Takes the innermost lock away from its holder; its memory is let alone if `touch` is false. */
void kssi_lock_take_away(struct kss_thread *t, bool touch);

/* A lock of another kind that has a spinlock in it, to be known by: what the thread holds, and where it took it. */
void kssi_lock_note(struct kss_thread *self, struct kss_spinlock *lock, uintptr_t pc, enum kssi_held_as as);
void kssi_lock_forget(struct kss_thread *self, const struct kss_spinlock *lock);
bool kssi_lock_initialised(const struct kss_spinlock *lock, struct kss_thread *self, const char *verb, uintptr_t pc);
void kssi_report_recursion(const struct kss_spinlock *lock, const struct kss_thread *self, bool for_sure);
void kssi_report_lock_misuse(const struct kss_thread *self, const char *what, uintptr_t place, const char *place_what);
void kssi_rwlock_take_away(struct kss_spinlock *lock, enum kssi_held_as as);
void kssi_lock_stats(const struct kss_spinlock *lock, struct kss_lock_stats *out);

/* mutex.c */
void kssi_set_base_priority(struct kss_thread *t, int priority);
void kssi_sleeper_abandon(struct kss_thread *t); /* it dies of a fault where it slept */
void kssi_mutexes_abandon(struct kss_thread *t); /* it ends: the next who takes one hears of it */
/* sleeper.c: the machine has ended; its threads' places in locks that outlive it. */
void kssi_locks_clear(struct kss_machine *m);

int kssi_lockdep_init(struct kss_machine *m);
void kssi_lockdep_fini(struct kss_machine *m);
/* Before self waits for a lock: does that close a circle? Interrupts off. */
void kssi_lockdep_check(struct kss_thread *self, struct kss_spinlock *lock, uintptr_t pc);

/* A thread gives up the CPU where it must not. irqs_off: they were, and that matters. Stops the machine. */
void kssi_report_atomic(struct kss_thread *t, bool irqs_off) __attribute__((noreturn));
/* What a handler found, and must leave as it was. */
struct kssi_atomic {
    unsigned locks;
    int preempt;
    bool irqs_on;
};
static inline struct kssi_atomic kssi_atomic_state(const struct kss_thread *t, bool irqs_on)
{
    return (struct kssi_atomic){ t->locks_held, t->ti->preempt_count, irqs_on };
}
/* Interrupts off. True if nothing leaked: turning interrupts on is a handler's right. */
static inline bool kssi_atomic_kept(const struct kss_thread *t, const struct kssi_atomic *was, bool irqs_on)
{
    return likely(!((t->locks_held ^ was->locks) | (unsigned)(t->ti->preempt_count ^ was->preempt) |
                    (was->irqs_on & !irqs_on)));
}
/* Puts it back, and reports the handler of tf, or a softirq's, if that is not negative. */
#define KSSI_LEAK_WORK (-2) /* for `softirq`: it was a work item */
void kssi_report_leak(struct kss_thread *t, const struct kss_trap_frame *tf, int softirq, const struct kssi_atomic *was,
                      bool irqs_on);
/* profile.c: where stacks are, at ticks and sleeps. m->profile is NULL when off. */
int kssi_profile_init(struct kss_machine *m);
void kssi_profile_fini(struct kss_machine *m);
void kssi_profile_tick(struct kssi_cpu *cpu); /* hard irq */
void kssi_profile_sleep(void);                /* the caller is about to */

/* machine.c: memory for tables, zero, of which the host gives as much as is touched. NULL: it gives none. */
void *kssi_pages_new(struct kss_machine *m, size_t size);
void kssi_pages_free(struct kss_machine *m, void *p, size_t size); /* p NULL: nothing */
/* An array of n; NULL: no memory. */
struct kssi_histogram *kssi_histograms_new(struct kss_machine *m, unsigned n);
void kssi_histograms_free(struct kss_machine *m, struct kssi_histogram *h, unsigned n);
void kssi_histogram_add(struct kssi_histogram *of, unsigned i, uint64_t ns);
void kssi_histogram_read(const struct kssi_histogram *of, unsigned i, struct kss_latency *out);

/* latency.c: all but init and fini only if cpu->latency, which is there if kss_config.latency is on. */
int kssi_latency_init(struct kssi_cpu *cpu);
void kssi_latency_fini(struct kssi_cpu *cpu);
/* A handler has ended; interrupts off. A line's handler has been reached. */
void kssi_latency_handled(struct kssi_cpu *cpu, unsigned vector, uint64_t ns);
void kssi_latency_reached(struct kssi_cpu *cpu, unsigned line, uint64_t raised, uint64_t now);
/* This CPU's interrupts have been turned off, and are about to be turned on. pc 0: by a trap of that vector. */
void kssi_latency_irqs_off(uintptr_t pc, unsigned vector);
void kssi_latency_irqs_on(uintptr_t pc, unsigned vector);
void kssi_latency_preempt_off(struct kss_thread *t);
void kssi_latency_preempt_on(struct kss_thread *t, uintptr_t pc);
/* Turns interrupts on, where they may have been off for long. */
static inline void kssi_irq_enable_at(const struct kss_machine *m, uintptr_t pc, unsigned vector)
{
    if (unlikely(m->config.latency))
        kssi_latency_irqs_on(pc, vector);
    kssi_irq_enable();
}

#endif

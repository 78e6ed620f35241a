/* SPDX-License-Identifier: MIT */
/*
 * The kernel's private structures, their fields grouped by what guards them, and the functions its
 * files offer each other.
 *
 * Lock order, outermost first:
 *   machine.tree_lock   process tree, ids, arenas
 *   wait_queue.lock     the queue's sleepers
 *   machine.sched_lock  thread states, dispatch queues, timers, priorities
 * All are taken with interrupts off. sched_lock is held across a context switch: the thread that is
 * switched to releases it (kssi_switch_finish), so that nobody runs a thread whose context is not yet
 * saved.
 */
#ifndef KSSI_KERNEL_H
#define KSSI_KERNEL_H

#include <sys/queue.h>
#include <bsd/sys/tree.h>

#include "platform.h"

#ifdef HAVE_CONFIG_H
#include <config.h>
#endif
#ifdef HAVE_SYS_SDT_H
#include <sys/sdt.h>
#else
#define DTRACE_PROBE2(provider, name, a, b) ((void)0)
#endif

#define KSSI_MACHINE_MAGIC 0x6b73735f6d616368ull
#define KSSI_THREAD_MAGIC 0x6b73735f74687264ull
#define KSSI_OPEN_MAX 16
#define KSSI_DEVICES_MAX 64
#define KSSI_ERROR_MAX 240
#define KSSI_SYS_HALT 63 /* pid 1's own: the machine ends */

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

TAILQ_HEAD(kssi_process_list, kss_process);
TAILQ_HEAD(kssi_thread_list, kss_thread);

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
    int tid;
    struct kss_machine *machine;
    struct kss_process *process; /* NULL: a kernel thread */
    char name[KSS_NAME_MAX];
    kss_user_fn fn;
    void *arg;
    void (*kernel_fn)(void);     /* kernel threads */
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
    unsigned locks_held;         /* by kss_spin_lock(); a fault with one held can't be survived */
    struct kss_waiter *waiters;  /* where it is queued, innermost first */
    char error[KSSI_ERROR_MAX];  /* kss_last_error() */

    /* sched_lock */
    enum kss_thread_state state;
    unsigned cpu;
    bool on_cpu;                 /* its context is in the CPU, not in memory */
    bool context_saved;          /* `context` holds where to resume */
    bool queued;                 /* the class has it as runnable and waiting */
    int priority;
    unsigned weight;
    uint64_t slice_ns;
    struct kssi_dsq_link dsq;
    uint64_t run_ns, run_start;
    uint64_t preemptions, voluntary;
    const char *wait_channel;
    uint64_t wake_at;            /* sleeping until; in the timer tree if timer_armed */
    uint64_t timer_order;
    bool timer_armed;
    RB_ENTRY(kss_thread) timer;

    /* tree_lock */
    long exit_value;
    int exit_status;
    bool finished;               /* has left its process; about to be, or, a ZOMBIE */
    bool killed;
    struct kss_thread *joiner;   /* also links the free list */
    struct kss_thread *all_next; /* every block there is */
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
    bool kernel;
};

/* Freed stacks of the default size, ready for use. Own CPU, interrupts off. */
struct kssi_stack_cache {
    unsigned count;
    uintptr_t *low;
};

struct kssi_histogram;

#define KSSI_WALK_FRAMES 64

struct kssi_irq_desc {
    kss_irq_fn handler;
    void *arg;
    char name[32];
    uint64_t unhandled;
};

struct kssi_cpu {
    struct kss_machine *machine;
    unsigned index;
    struct kssi_cpu_stacks stacks;
    struct kss_thread *current;   /* interrupts off */
    struct kss_thread *idle;
    void *boot_context;           /* the host thread's own stack */
    unsigned irq_depth;           /* hard irq handlers under way */
    uintptr_t spare_stack;        /* a kernel stack for the next thread that has none */
    struct kssi_stack_cache kstacks, ustacks;
    struct kss_cpu_stats stats;
    struct kss_thread *switched_from;
    enum kss_switch_reason reason;
    struct kssi_trace_ring *ring;
    void *class_data;
    struct kssi_histogram *to_handler[KSS_IRQ_LINES], *handler[KSS_IRQ_LINES];
    bool halted;
    struct kss_report report;     /* under construction; interrupts off */
    struct kss_frame walk_frames[KSSI_WALK_FRAMES]; /* the same */
    /* sched_lock */
    struct kssi_dsq *local;
};

RB_HEAD(kssi_timer_tree, kss_thread);

enum kssi_machine_state { KSSI_BUILT, KSSI_RUNNING, KSSI_ENDED };

struct kss_machine {
    uint64_t magic;
    const struct kssi_platform *platform;
    struct kssi_hw_machine *hw;
    struct kss_config config;
    size_t stack_gap;             /* guarded bytes between two kernel stacks, at least */
    _Atomic int life;             /* enum kssi_machine_state */
    _Atomic bool stopping;        /* CPUs go to idle and leave */
    _Atomic int stop_reason;      /* 0, or a negative errno for kss_machine_run() */
    kss_user_fn main_fn;
    void *main_arg;
    int main_status;
    int main_pid;
    struct kss_vector_table vectors;
    kss_syscall_fn syscall[KSS_SYSCALLS];
    const char *syscall_name[KSS_SYSCALLS];
    struct kssi_irq_desc irq[KSS_IRQ_LINES];
    struct kssi_device device[KSSI_DEVICES_MAX];
    unsigned devices;
    unsigned next_disk_line;
    struct kssi_disk *disks;
    struct kssi_console *console;
    bool trace_on, sched_started;
    char boot_error[KSSI_ERROR_MAX];
    size_t thread_size;

    struct kss_spinlock tree_lock;
    struct kss_process *init;
    struct kss_thread **by_id;
    unsigned id_slots;
    int next_id;
    unsigned threads, zombies, zombie_stacks, zombie_stacks_max;
    uint64_t created, reaped;
    struct kssi_arena *kernel_arenas[16], *user_arenas[32];
    struct kss_thread *all_threads;
    struct kss_process *all_processes;
    TAILQ_HEAD(, kssi_open_file) all_files;
    struct kss_thread *free_threads; /* linked through joiner */
    struct kss_process *free_processes; /* linked through parent */
    uint64_t kstack_allocs, kstack_hits, kstack_live;
    uint64_t random_state;

    struct kss_spinlock sched_lock;
    const struct kss_sched_class *sched;
    struct kssi_dsq *dsqs;        /* list of all, the built-in ones too */
    struct kssi_dsq *global;
    struct kssi_timer_tree timers;
    uint64_t timer_order;
    uint64_t next_timer;          /* earliest wake_at; UINT64_MAX: none */
    uint64_t dsq_order;

    unsigned cpus;
    struct kssi_cpu cpu[];
};

/* ---- current ---------------------------------------------------------------------------------- */

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

/* A spinlock where interrupts are off already and the current thread is known. */
static inline void kssi_lock(struct kss_spinlock *lock, const struct kss_thread *self)
{
    while (unlikely(__atomic_exchange_n(&lock->locked, 1, __ATOMIC_ACQUIRE)))
        while (__atomic_load_n(&lock->locked, __ATOMIC_RELAXED))
            kssi_relax();
    lock->holder = self;
}

static inline void kssi_unlock(struct kss_spinlock *lock)
{
    lock->holder = NULL;
    __atomic_store_n(&lock->locked, 0, __ATOMIC_RELEASE);
}

/* True in kernel mode of a simulated CPU; a user-mode caller faults; false on a host thread. */
bool kssi_require_kernel(void);
/* 0 where a machine may be configured (host before the machine runs, kernel), or an error. */
int kssi_require_config(struct kss_machine *m);
/* 0 where a machine may be looked at: kernel, or host while it does not run. */
int kssi_require_view(struct kss_machine *m);
int kssi_valid_machine(const struct kss_machine *m);

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
void kssi_set_need_resched(struct kss_thread *t);
void kssi_sched_tick(struct kssi_cpu *cpu);
void kssi_sched_set_priority(struct kss_thread *t, int priority);
uint64_t kssi_now(struct kss_machine *m);
uint64_t kssi_random(struct kss_machine *m);

struct kssi_dsq *kssi_dsq_new(struct kss_machine *m, uint64_t id);
void kssi_dsq_insert_fifo(struct kss_thread *t, struct kssi_dsq *q, uint64_t slice_ns);
struct kss_thread *kssi_dsq_pop(struct kssi_dsq *q);
void kssi_dsq_remove(struct kss_thread *t);
unsigned kssi_dsq_count(const struct kssi_dsq *q);
bool kssi_dsq_contains(struct kssi_dsq *q, const struct kss_thread *t);
struct kssi_dsq *kssi_dsq_next(struct kssi_dsq *q);
void kssi_dsq_free_all(struct kss_machine *m);

/* timer.c */
struct kss_thread *kssi_timer_first(struct kss_machine *m); /* sched_lock */
void kssi_timer_disarm(struct kss_thread *t);               /* sched_lock */
void kssi_timer_expire(struct kss_machine *m);          /* hard irq */
long kssi_sleep_until(uint64_t at);

/* ---- kstack.c, stack_cache.c -------------------------------------------------------------------- */

struct kssi_arena *kssi_arena_get(struct kss_machine *m, size_t size, bool kernel);
uintptr_t kssi_arena_take(struct kss_machine *m, struct kssi_arena *a);
void kssi_arena_give(struct kss_machine *m, struct kssi_arena *a, uintptr_t low);
void kssi_arenas_fini(struct kss_machine *m);

uintptr_t kssi_kstack_alloc(struct kss_machine *m, size_t size, struct kssi_arena **arena);
void kssi_kstack_free(struct kss_machine *m, struct kssi_arena *arena, uintptr_t low, size_t *high_water);
struct kss_thread_info *kssi_kstack_prepare(uintptr_t low, struct kss_thread *t, uint64_t canary);
void kssi_kstack_attach(struct kss_thread *t, uintptr_t low, struct kssi_arena *arena);
void kssi_kstack_detach(struct kss_thread *t); /* frees it */
size_t kssi_kstack_high_water(uintptr_t low, size_t size, bool poisoned);
bool kssi_kstack_canary_ok(const struct kss_thread *t);
uintptr_t kssi_kstack_user_frame(uintptr_t low, size_t size);
uintptr_t kssi_ustack_alloc(struct kss_machine *m, size_t size, struct kssi_arena **arena);
void kssi_ustack_free(struct kss_machine *m, struct kssi_arena *arena, uintptr_t low);
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
void kssi_thread_entry(void);  /* where every new context starts */
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
void kssi_threads_fini(struct kss_machine *m);

/* cpu.c */
int kssi_cpu_init(struct kssi_cpu *cpu);
void kssi_cpu_fini(struct kssi_cpu *cpu);

/* ---- trap.c, irq.c, syscall.c ---------------------------------------------------------------------- */

void kssi_trap_init(struct kss_machine *m);
void kssi_irq_dispatch(struct kss_trap_frame *tf, void *arg);
bool kssi_line_stats(struct kss_machine *m, unsigned cpu, unsigned line, struct kss_irq_stats *s);
void kssi_irq_init(struct kss_machine *m);
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

struct kssi_fault {
    enum kss_report_kind kind;
    enum kss_report_action action;
    const struct kss_trap_frame *tf; /* NULL: at the caller */
    uintptr_t sp;
    const char *message;
};
/* Builds the report on a stack of the CPU's own and hands it out. Interrupts off. */
void kssi_report(const struct kssi_fault *fault);
/* Stops the machine from whatever state the CPU is in. */
void kssi_panic(enum kss_report_kind kind, const char *format, ...) __attribute__((noreturn))
KSS_PRINTF(2, 3);

int kssi_backtrace_trap(const struct kss_trap_frame *tf, struct kss_frame *frames, int max);
/* From entry code: a frame could not even be put on the double fault's stack. */
void kssi_triple_fault(void) __attribute__((noreturn));
/* "guard below the kernel stack of thread 3 (x)" and the like; empty when it is near none. */
void kssi_stack_describe(struct kss_machine *m, uintptr_t address, char *out, size_t size);

struct kssi_histogram *kssi_histogram_new(void);
void kssi_histogram_add(struct kssi_histogram *h, uint64_t ns);
void kssi_histogram_read(const struct kssi_histogram *h, struct kss_latency *out);

#endif

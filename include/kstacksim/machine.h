/* SPDX-License-Identifier: MIT */
/* A machine: configuration, life, statistics, and the executable invariants. */
#ifndef KSTACKSIM_MACHINE_H
#define KSTACKSIM_MACHINE_H

#include <kstacksim/common.h>
#include <kstacksim/report.h>

KSS_BEGIN_DECLS

/** How the library's system-call stubs enter the kernel. */
enum kss_syscall_entry {
    KSS_SYSCALL_TRAP, /* a real trapping instruction; the saved pc is advanced by its length */
    KSS_SYSCALL_GATE  /* the call gate: the same change of mode in a few instructions, no signal */
};

/** Which ends of a kernel stack are guarded. */
enum kss_guards {
    KSS_GUARDS_BOTH,     /* all between two stacks is inaccessible */
    KSS_GUARDS_TRAILING, /* only above the stack's high end, as vmalloc does it */
    KSS_GUARDS_NONE
};

/** When a thread gets its kernel stack. */
enum kss_kstack_alloc {
    KSS_KSTACK_AT_CREATE,     /* when the thread is made */
    KSS_KSTACK_AT_FIRST_ENTRY /* at its first move from user to kernel mode */
};

/** How long a zombie keeps its kernel stack. */
enum kss_zombie_stacks {
    KSS_ZOMBIE_KEEPS_STACK, /* until the parent waits */
    KSS_ZOMBIE_FREES_STACK  /* freed when it exits */
};

/** Where interrupt handlers run. */
enum kss_irq_stacks {
    KSS_IRQ_STACKS_NONE,   /* on the kernel stack in use */
    KSS_IRQ_STACKS_PER_CPU /* on the CPU's interrupt stack */
};

/** How kernel stacks are closed to user mode. */
enum kss_protect {
    KSS_PROTECT_OFF,      /* they are not */
    KSS_PROTECT_MPROTECT, /* host system calls at each mode switch; needs KSS_SYSCALL_TRAP, and Linux 6.13 */
    KSS_PROTECT_PKEY,     /* the processor's protection keys: -ENOTSUP, this version has no form for them */
    KSS_PROTECT_AUTO      /* the best form that there is: in this version mprotect */
};

/** Limits of the watchdogs, times in nanoseconds; 0: off. Looked at every tick, so no finer than one. */
struct kss_watchdog {
    uint64_t soft_lockup_ns; /* a thread keeps the CPU in kernel mode though others wait; 20 s */
    uint64_t hard_lockup_ns; /* a tick waits for interrupts to be turned on; 10 s */
    uint64_t hung_task_ns;   /* a sleep that a kill does not end; 120 s */
    uint64_t eoi_ns;         /* a line in service after its handler has ended; 1 s */
    unsigned irq_storm_hz;   /* a line's interrupts a second and CPU: more, or 80 % of the time in their handler, are a
                                storm, and held back; 100000 */
};

/**
 * What a machine is made of. Always start from kss_config_init(). Sizes are in bytes, times in
 * nanoseconds. A field out of its range makes kss_machine_create() fail with the field's name, the
 * value and the limit.
 */
struct kss_config {
    size_t struct_size; /* set by kss_config_init(); how versions are told apart */

    unsigned cpus;       /* simulated CPUs, each on a host thread: 1 to 256; default 1 */
    unsigned tick_hz;    /* timer interrupts per second and CPU: 1 to 20000; default 250 */
    unsigned max_threads; /* 4 to 1048576; default 4096 */

    size_t kstack_size;     /* kernel stack: power of two, at least kss_kstack_min_size(); 32768 */
    size_t kstack_max;      /* largest size a single thread may ask for: power of two; 65536 */
    size_t user_stack_size; /* multiple of the page size, 16384 to 1 GiB; default 262144 */
    enum kss_guards guards;
    size_t guard_size; /* at each guarded end, at least: multiple of the page size to 64 MiB; 65536 */
    enum kss_kstack_alloc kstack_alloc;
    enum kss_zombie_stacks zombie_stacks;
    enum kss_irq_stacks irq_stacks;
    unsigned kstack_cache; /* freed stacks kept ready per CPU: 0 to 65536; default 64 */
    bool canary;           /* per-thread random word at the end of the stack; default on */
    bool poison;           /* fill unused stack, for the exact high-water mark; default on */
    bool kstack_erase;     /* poison what the kernel used, at each return to user mode; needs poison; off */
    bool kstack_randomize; /* each entry from user mode starts up to 1 KiB lower, at random; off */
    bool kstack_quarantine; /* a freed stack can't be touched until it is reused; off */
    enum kss_protect protect; /* kernel stacks closed to user mode; KSS_PROTECT_OFF */

    enum kss_syscall_entry syscall_entry; /* default KSS_SYSCALL_TRAP */

    const struct kss_sched_class *sched; /* default &kss_sched_rr */
    uint64_t timeslice_ns;               /* 0 (every tick) to 10 s; default 4 ms */

    bool trace;            /* record events from boot on; default off */
    unsigned trace_events; /* ring size per CPU in events: power of two, 64 to 2^24; 16384 */
    bool latency;          /* measure handlers, interrupts and preemption off: see latency.h; default off */
    bool profile;          /* count stacks at ticks and sleeps: see profile.h; default off */
    bool lock_order;       /* check the order in which spinlocks are taken; off */
    struct kss_watchdog watchdog;
    enum kss_report_action policy[KSS_REPORT_KINDS]; /* what to do; all KSS_ACTION_DEFAULT */
    bool check_switches;   /* run kss_check() at every context switch and stop on a violation */
    bool check_host_blocks; /* look for libc's frames at every sleep and yield, not only at some; off */
    bool unsafe_host_calls; /* for tests of this library: libc is interrupted and preempted anywhere; off */

    bool host_signals; /* SIGINT and SIGTERM stop the machine in order, SIGQUIT prints all stacks; off */
    uint64_t seed;     /* for canaries and the scheduler's random source; 0 = from the host */

    /* Called with each report (a fault, a violated invariant), in kernel mode on a stack of the
       CPU's own, interrupts off: it must not sleep. NULL: text to standard error. */
    void (*on_report)(const struct kss_report *report, void *arg);
    void *report_arg;
};

/** Counters of one CPU, or of all of them added up. */
struct kss_cpu_stats {
    uint64_t entries;          /* traps of every kind that made a trap frame */
    uint64_t entries_user;     /* of these, from user mode */
    uint64_t exceptions;       /* of these, exceptions */
    uint64_t interrupts;       /* hard irqs handled, also those taken at an exit with no new frame */
    uint64_t syscalls;         /* system calls */
    uint64_t hw_words;         /* words the CPU itself must save: pc, sp, flags, mode, error: 5 an entry */
    uint64_t handler_words;    /* general registers that entry saves beside those */
    uint64_t control_saves;    /* saves into the thread's control block */
    uint64_t context_switches; /* always equals control_saves */
    uint64_t preemptions;      /* context switches the thread did not ask for */
    uint64_t migrations;       /* threads that came from another CPU */
    uint64_t reschedules;      /* interrupts from other CPUs that asked this one to schedule */
    uint64_t calls;            /* functions called by kss_cpu_call() */
    uint64_t softirq_rounds;   /* rounds of softirqs run at the end of interrupts, and where they were raised */
    uint64_t softirq_worker_rounds; /* rounds that the CPU's worker thread has run */
    uint64_t timers_armed;     /* kernel timers armed: those that expired, were cancelled, and are pending */
    uint64_t timers_expired;   /* of these, their time has come; a periodic one is armed again by that */
    uint64_t timers_cancelled; /* of these, cancelled, or armed anew before their time */
    uint64_t works_queued;     /* work items queued: those that are over, cancelled, running and waiting */
    uint64_t works_done;       /* of these, their function has returned */
    uint64_t works_cancelled;  /* of these, cancelled */
    uint64_t ticks;            /* timer interrupts handled */
    uint64_t idle_ns;          /* time in the idle thread */
    uint64_t deferred;         /* interrupts left pending because libc was running */
    uint64_t max_nesting;      /* most trap frames ever live on one stack */
};

/** A machine's memory and stack account. */
struct kss_machine_stats {
    struct kss_cpu_stats total;
    uint64_t threads_created, threads_reaped;
    unsigned threads_live;       /* not yet reaped; pid 1 is one of them, idle threads are not */
    unsigned zombies;            /* threads that are zombies now */
    unsigned zombie_stacks;      /* kernel stacks that zombies hold now */
    unsigned zombie_stacks_max;  /* most ever held */
    uint64_t kstack_allocs;      /* kernel stacks handed out */
    uint64_t kstack_cache_hits;  /* of these, from the cache */
    uint64_t kstack_cache_misses;
    unsigned kstacks_live;       /* handed out now, the CPUs' own among them */
    size_t kstack_bytes;         /* live and cached kernel stacks, as KernelStack in /proc/meminfo */
    size_t kstack_arena_bytes;   /* address space reserved for kernel stacks */
    size_t thread_bytes;         /* control block of one thread, context and class data included */
    size_t process_bytes;        /* control block of one process */
    size_t frame_bytes;          /* the trap frame that a hardware-like entry leaves */
    uint64_t trace_recorded, trace_lost;
    bool guards_by_madvise;      /* guards cost no mapping of their own */
};

/** Fills in the defaults above. Context: any. */
KSS_API void kss_config_init(struct kss_config *config);

/**
 * Builds a machine; nothing runs yet. On success *machine is the new machine and 0 is returned.
 * Errors: -EINVAL (a field is out of range; kss_last_error() names it), -ENOMEM, -EBUSY (another
 * machine with a different kstack_max is alive), -ENOTSUP (the host can't carry a live machine; the
 * sentence says why), -EPERM (on a simulated CPU). Nothing is left behind on error. Context: host.
 */
KSS_API int kss_machine_create(struct kss_machine **machine, const struct kss_config *config);

/**
 * Boots the CPUs, runs main_fn(arg) as the first process under a built-in init (pid 1), and returns
 * when no process is left or the machine was stopped. A machine runs once.
 * Returns 0 and main_fn's wait status in *status (may be NULL); -ECANCELED when stopped by
 * kss_machine_stop() or a host signal; -EFAULT when a fatal fault stopped it; -EINVAL, -EBUSY (it
 * has run already), -ENOMEM, -EAGAIN (no host thread or timer). Context: host; blocks.
 */
KSS_API int kss_machine_run(struct kss_machine *machine, kss_user_fn main_fn, void *arg,
                            int *status);

/**
 * Asks the machine to stop: its CPUs leave what they do, threads stay as they are, and
 * kss_machine_run() returns. It may come while another host thread destroys the machine: then it stops
 * nothing, or gives -EINVAL. Context: any, host signal handlers too.
 */
KSS_API int kss_machine_stop(struct kss_machine *machine);

/**
 * Prints every thread's kernel stack to standard error, from wherever the machine is; it runs on. What SIGQUIT does with
 * kss_config.host_signals. A CPU in libc prints when it is out of it. -EINVAL, -EBUSY (it does not run). Context: any but
 * user, host signal handlers too.
 */
KSS_API int kss_machine_dump(struct kss_machine *machine);

/**
 * Frees a machine that is not running, with all threads in it. NULL is allowed. From then on its
 * handle, and those of its threads, are refused with -EINVAL wherever they are handed in, unless
 * something new has come to the same address. -EBUSY while it runs, -EPERM on a simulated CPU.
 * Context: host.
 */
KSS_API int kss_machine_destroy(struct kss_machine *machine);

/** Reads the counters. Context: any; numbers are a snapshot when the machine runs. */
KSS_API int kss_machine_stats(struct kss_machine *machine, struct kss_machine_stats *stats);

/** The machine this simulated CPU belongs to; NULL on a host thread. Context: any. */
KSS_API struct kss_machine *kss_machine_current(void);

/**
 * Walks the machine and verifies its invariants: the four states (user mode: kernel stack empty;
 * kernel mode: in use; ready: holds what is needed to resume; waiting: holds the suspended
 * computation), canaries, queue membership, counters. Returns 0, or -EILSEQ with the first
 * violation as kss_last_error(). Context: kernel (not sleeping), or host when it does not run.
 */
KSS_API int kss_check(struct kss_machine *machine);

KSS_END_DECLS
#endif

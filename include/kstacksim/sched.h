/* SPDX-License-Identifier: MIT */
/* Scheduler classes, modelled on Linux's sched_ext (Documentation/scheduler/sched-ext.rst). */
#ifndef KSTACKSIM_SCHED_H
#define KSTACKSIM_SCHED_H

#include <kstacksim/common.h>

KSS_BEGIN_DECLS

struct kss_frame;

/* Flags of enqueue, dequeue and select_cpu. */
#define KSS_ENQ_WAKEUP 1u  /* it was asleep */
#define KSS_ENQ_NEW 2u     /* it has just been made */
#define KSS_ENQ_PREEMPT 4u /* it was preempted */
#define KSS_ENQ_YIELD 8u   /* it yielded */
#define KSS_DEQ_SLEEP 1u   /* it goes to sleep or ends */
#define KSS_DEQ_SAVE 2u    /* only to be put back after a change */

/* Dispatch queues. An experiment's own have ids from 1 to 2^32. */
#define KSS_DSQ_GLOBAL (1ull << 63)
#define KSS_DSQ_LOCAL (1ull << 62)       /* of the CPU that runs this */
#define KSS_DSQ_LOCAL_ON (1ull << 61)    /* of the CPU in the low bits */

/** A time slice without end. */
#define KSS_SLICE_INFINITE UINT64_MAX
/** The machine's timeslice_ns. */
#define KSS_SLICE_DEFAULT 0

/** What kss_kick_cpu() does. */
#define KSS_KICK_IDLE 1u    /* wake it if it is idle */
#define KSS_KICK_PREEMPT 2u /* take the CPU from its thread */

/** Why a class ends. All but the first: it misbehaved and was ejected. */
enum kss_sched_exit_kind {
    KSS_SCHED_EXIT_DONE = 0,    /* the machine has ended */
    KSS_SCHED_EXIT_CRASH,       /* an operation faulted, overflowed its stack or destroyed it */
    KSS_SCHED_EXIT_LOST_THREAD, /* a READY thread was not run for timeout_ms */
    KSS_SCHED_EXIT_BAD_PICK,    /* it queued a thread that does not wait for a CPU, or is queued already */
    KSS_SCHED_EXIT_STALL,       /* an operation did not end */
    KSS_SCHED_EXIT_ERROR        /* an operation slept, made a system call, or left interrupts on or a lock held */
};

/** The same in full. Valid during exit(). */
struct kss_sched_exit_info {
    enum kss_sched_exit_kind kind;
    const char *reason;  /* the kind in a word: "done", "crash", "lost-thread", "bad-pick", "stall", "error" */
    const char *message; /* one sentence */
    int tid;             /* the thread it is about; 0: none */
    const char *dump;    /* what the dump operations wrote; never NULL */
    const struct kss_frame *frame; /* backtrace of where it happened, innermost first */
    int frames;
};

/** Where dump operations write to: 8 KiB for all of them; what does not fit is left out. */
struct kss_dump;
KSS_API void kss_dump_printf(struct kss_dump *dump, const char *format, ...) KSS_PRINTF(2, 3);

/**
 * A scheduler class. Only name is required; every other operation has a default. All run in kernel
 * mode with interrupts off and the scheduler's lock held: they must not sleep. One that misbehaves
 * has its class ejected: kss_sched_rr takes over all threads.
 */
struct kss_sched_class {
    size_t abi_size;         /* sizeof(struct kss_sched_class) */
    const char *name;
    uint64_t flags;          /* 0 */
    unsigned timeout_ms;     /* longest wait of a ready thread before ejection; 0: 30000 */
    size_t thread_data_size; /* private bytes per thread: kss_sched_thread_data() */
    size_t cpu_data_size;    /* private bytes per CPU: kss_sched_cpu_data() */
    void *user;              /* the experiment's own */

    /* placement */
    int (*select_cpu)(struct kss_thread *t, int prev_cpu, unsigned flags);
    void (*enqueue)(struct kss_thread *t, unsigned flags);
    void (*dequeue)(struct kss_thread *t, unsigned flags);
    void (*dispatch)(int cpu, struct kss_thread *prev); /* prev: NULL unless it could run on */
    void (*tick)(struct kss_thread *t);
    bool (*yield)(struct kss_thread *from, struct kss_thread *to);
    /* state notices: runnable -> (running -> stopping)* -> quiescent */
    void (*runnable)(struct kss_thread *t, unsigned flags);
    void (*running)(struct kss_thread *t);
    void (*stopping)(struct kss_thread *t, bool still_runnable);
    void (*quiescent)(struct kss_thread *t, unsigned flags);
    /* attributes */
    void (*set_weight)(struct kss_thread *t, unsigned weight); /* 1 to 10000 */
    void (*set_priority)(struct kss_thread *t, int priority);
    void (*set_cpumask)(struct kss_thread *t, const uint64_t mask[4]);
    int (*set_deadline)(struct kss_thread *t, uint64_t period, uint64_t runtime, uint64_t deadline);
    /* CPU */
    void (*update_idle)(int cpu, bool idle);
    void (*cpu_online)(int cpu);
    void (*cpu_offline)(int cpu);
    /* life */
    int (*init)(struct kss_machine *m);
    void (*exit)(const struct kss_sched_exit_info *info);
    int (*init_thread)(struct kss_thread *t); /* may refuse with a negative errno */
    void (*exit_thread)(struct kss_thread *t);
    void (*enable)(struct kss_thread *t);
    void (*disable)(struct kss_thread *t);
    /* diagnosis */
    void (*dump)(struct kss_dump *d);
    void (*dump_cpu)(struct kss_dump *d, int cpu, bool idle);
    void (*dump_thread)(struct kss_dump *d, struct kss_thread *t);
};

/** Round robin: one queue, a time slice each. The default. */
extern KSS_API const struct kss_sched_class kss_sched_rr;
/** Fixed priority, preemptive, round robin among equals. */
extern KSS_API const struct kss_sched_class kss_sched_priority;

/**
 * The record of an ejected class, as text: its name, the reason, the message, and its dump. NULL if no class
 * was ejected; also -EINVAL and -EBUSY in kss_last_error()'s words. Valid until the machine is destroyed.
 * Context: kernel; host while the machine does not run.
 */
KSS_API const char *kss_sched_record(struct kss_machine *machine);

/* For classes. Context: an operation of the class. */

/** Makes a dispatch queue, id 1 to 2^32. -EEXIST, -EINVAL, -ENOMEM. Also in init. */
KSS_API int kss_dsq_create(struct kss_machine *machine, uint64_t id);
/**
 * Puts a thread at the tail of a queue with a slice of ns. -EINVAL: no such queue; or the thread does not wait
 * for a CPU, or is in a queue: then the class is ejected.
 */
KSS_API int kss_dsq_insert(struct kss_thread *t, uint64_t dsq, uint64_t slice_ns, unsigned flags);
/** Puts it in the order of vtime, lowest first, first come first among equals. -EINVAL (as above). */
KSS_API int kss_dsq_insert_vtime(struct kss_thread *t, uint64_t dsq, uint64_t slice_ns,
                                 uint64_t vtime, unsigned flags);
/** Moves the first thread of a queue that may run on this CPU to its local queue. false: there is none. */
KSS_API bool kss_dsq_move_to_local(uint64_t dsq);
/** Threads in a queue. */
KSS_API unsigned kss_dsq_length(uint64_t dsq);
/** The first thread of a queue that may run on this CPU, NULL when there is none. */
KSS_API struct kss_thread *kss_dsq_first(uint64_t dsq);
/** Makes a CPU think again: KSS_KICK_*. */
KSS_API void kss_kick_cpu(int cpu, unsigned flags);
/** May the thread run on a CPU? Its affinity says so, and the CPU is online. */
KSS_API bool kss_thread_allowed(const struct kss_thread *t, int cpu);
/** What runs on a CPU; NULL when idle. */
KSS_API struct kss_thread *kss_cpu_running(int cpu);
/** CPUs of the machine. */
KSS_API int kss_cpu_count(void);
/** The class's private data. */
KSS_API void *kss_sched_thread_data(struct kss_thread *t);
KSS_API void *kss_sched_cpu_data(int cpu);
/** A thread's priority, 1 to 99, and weight, 1 to 10000 (default 100). -EINVAL and 0: it is none. */
KSS_API int kss_thread_priority(const struct kss_thread *t);
KSS_API unsigned kss_thread_weight(const struct kss_thread *t);
/** What is left of its slice; setting it to 0 makes the CPU choose again. */
KSS_API uint64_t kss_thread_slice(const struct kss_thread *t);
KSS_API void kss_thread_set_slice(struct kss_thread *t, uint64_t ns);
/** Time it has had on a CPU, in ns. */
KSS_API uint64_t kss_thread_run_time(const struct kss_thread *t);
/** The machine's clock in ns; the only one a class may read. */
KSS_API uint64_t kss_sched_clock(void);
/** A number from the machine's seeded random source. */
KSS_API uint64_t kss_sched_random(void);

KSS_END_DECLS
#endif

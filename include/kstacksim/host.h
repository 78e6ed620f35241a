/* SPDX-License-Identifier: MIT */
/*
 * Host code: libc and its like, called by user and kernel code of an experiment. The library recognises the shared
 * libraries by itself: no interrupt is taken in them, and no thread is preempted while a frame of theirs is live below
 * a callback. This is for what it can't recognise, and for what the waiting costs.
 */
#ifndef KSTACKSIM_HOST_H
#define KSTACKSIM_HOST_H

#include <kstacksim/common.h>

KSS_BEGIN_DECLS

/** Why something waited. */
enum kss_host_reason {
    KSS_HOST_LIBC,     /* an interrupt: libc was running */
    KSS_HOST_CALLBACK, /* a preemption: libc's frames were live below a callback */
    KSS_HOST_REGION,   /* an interrupt: between kss_host_begin() and kss_host_end() */
    KSS_HOST_REASONS
};

/** What waited for one reason. */
struct kss_host_wait {
    uint64_t count;      /* waits that are over */
    uint64_t total_ns;   /* all of them together */
    uint64_t longest_ns; /* the longest */
};

/** How a CPU, or all of a machine, got along with libc. */
struct kss_host_stats {
    struct kss_host_wait wait[KSS_HOST_REASONS];
    uint64_t scans;   /* stacks looked through for libc's return addresses, word by word */
    uint64_t walks;   /* of these, how often the unwind tables had to decide */
    uint64_t unknown; /* of these, how often they could not */
    uint64_t blocked; /* threads that gave up the CPU with libc's frames live or in a region */
};

/**
 * From here to kss_host_end() no interrupt is taken by this thread: what comes stays pending. For code that must not be
 * preempted and that the library can't recognise: host libraries linked statically, a FILE locked by flockfile(), a
 * critical region of a pthread mutex. Nests. System calls that don't sleep are allowed; a thread that sleeps or yields in
 * it is reported (KSS_REPORT_HOST_BLOCKED), and is in it again when it goes on; one that ends, ends it.
 * -EPERM (host thread). Context: any of a CPU's.
 */
KSS_API int kss_host_begin(void);
/** Ends it; after the outermost, what was held back comes. -EINVAL (there is none), -EPERM. Context as kss_host_begin(). */
KSS_API int kss_host_end(void);
/** Reads the account of a CPU; -1: of all. -EINVAL. Context: any; a snapshot when the machine runs. */
KSS_API int kss_host_stats(struct kss_machine *machine, int cpu, struct kss_host_stats *stats);

KSS_END_DECLS
#endif

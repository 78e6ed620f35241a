/* SPDX-License-Identifier: MIT */
/* preempted_write: what its three files share. */
#ifndef PW_H
#define PW_H

#include <kstacksim/kstacksim.h>

#define PW_THREADS 16
#define PW_FRAMES 32
#define PW_PICTURE 16384

struct pw_options {
    const char *input, *output;
    unsigned tick_hz;
    size_t chunk, kstack_size;
    uint64_t seek_ns, bytes_per_second;
    enum kss_syscall_entry entry;
    bool json;
};

/* All that the run leaves behind. Simulated programs and the host share one address space. */
struct pw_run {
    const struct pw_options *options;
    uint64_t input_bytes;
    /* written by the processes */
    volatile uint64_t copied;      /* bytes the writer has written */
    volatile bool in_write;        /* the writer is inside write() */
    volatile bool stop;            /* the worker may end */
    volatile long writer_error;    /* negative errno, with its sentence: */
    char writer_sentence[256];
    volatile uint64_t worker_loops, worker_syscalls, worker_blocked_syscalls;
    int writer_tid, worker_tid;
    /* the blocked writer, seen by the worker through the kernel */
    bool seen_blocked;
    char picture[PW_PICTURE];
    struct kss_frame frame[PW_FRAMES];
    int frames;
    /* at the end */
    struct kss_thread_info_snapshot thread[PW_THREADS];
    int threads;
    int run_result, status;
    char run_sentence[256];
    double seconds;
    bool equal;
    uint64_t compared;
    char difference[256];
};

/* pw_processes.c: registers the experiment's system calls; the first process. */
int pw_register(struct kss_machine *m);
long pw_main(void *run);

/* pw_show.c */
void pw_show(struct kss_machine *m, const struct pw_run *run);
void pw_show_json(struct kss_machine *m, const struct pw_run *run);

#endif

/* SPDX-License-Identifier: MIT */
/* preempted_write: the simulated programs, and what they ask of the kernel. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "pw.h"

#define SYS_LOOK KSS_SYS_EXPERIMENT         /* look at the writer's kernel stack */
#define SYS_STORY_ENDS (SYS_LOOK + 1)       /* the first write is over: no more trace */
#define SYS_TABLE (SYS_LOOK + 2)            /* all threads as they are now */
KSS_SYSCALL_STUB1(look, SYS_LOOK, struct pw_run *, run)
KSS_SYSCALL_STUB0(story_ends, SYS_STORY_ENDS)
KSS_SYSCALL_STUB1(table, SYS_TABLE, struct pw_run *, run)

/* ---- in kernel mode ----------------------------------------------------------------------------- */

/* Draws the writer's stack if it sleeps in the middle of write(); 1 when it did. */
static long sys_look(const struct kss_syscall_args *a)
{
    struct pw_run *run = (struct pw_run *)a->a[0];
    struct kss_machine *m = kss_machine_current();
    struct kss_thread *writer = kss_thread_find(m, run->writer_tid);
    struct kss_kstack_info k;
    bool on = kss_irq_save(); /* it must not wake up while it is looked at */
    long seen = 0;
    if (writer && run->in_write && kss_kstack_info(writer, &k) == 0 && k.depth > 0) {
        run->frames = kss_backtrace(writer, run->frame, PW_FRAMES);
        kss_kstack_draw(writer, run->picture, sizeof run->picture);
        seen = run->frames > 0;
        run->seen_blocked = seen;
    }
    kss_irq_restore(on);
    return seen;
}

static long sys_story_ends(const struct kss_syscall_args *a)
{
    (void)a;
    return kss_trace_enable(kss_machine_current(), false);
}

static long sys_table(const struct kss_syscall_args *a)
{
    struct pw_run *run = (struct pw_run *)a->a[0];
    run->threads = kss_threads(kss_machine_current(), run->thread, PW_THREADS);
    return 0;
}

int pw_register(struct kss_machine *m)
{
    int r = kss_syscall_register(m, SYS_LOOK, sys_look, "look");
    if (r == 0)
        r = kss_syscall_register(m, SYS_STORY_ENDS, sys_story_ends, "story_ends");
    if (r == 0)
        r = kss_syscall_register(m, SYS_TABLE, sys_table, "table");
    return r;
}

/* ---- in user mode ------------------------------------------------------------------------------- */

static long failed(struct pw_run *run, long error)
{
    snprintf(run->writer_sentence, sizeof run->writer_sentence, "%s", kss_last_error());
    run->writer_error = error;
    return 1;
}

/* Writes all of it. A short write is no error yet; writing the rest will say. */
static long write_all(struct pw_run *run, int fd, const char *data, long n)
{
    for (long done = 0; done < n;) {
        run->in_write = true;
        long w = kss_write(fd, data + done, (size_t)(n - done));
        run->in_write = false;
        if (run->copied == 0)
            story_ends();
        if (w <= 0)
            return w < 0 ? w : -ENOSPC;
        done += w;
        run->copied += (uint64_t)w;
    }
    return 0;
}

/* High priority: copies the input disk to the output disk. */
static long writer(void *arg)
{
    struct pw_run *run = arg;
    static char buffer[1 << 20];
    int in = (int)kss_open("input", O_RDONLY), out = (int)kss_open("output", O_WRONLY);
    if (in < 0 || out < 0)
        return failed(run, in < 0 ? in : out);
    for (;;) {
        long n = kss_read(in, buffer, run->options->chunk);
        if (n < 0)
            return failed(run, n);
        if (n == 0)
            return 0;
        n = write_all(run, out, buffer, n);
        if (n < 0)
            return failed(run, n);
    }
}

/* Low priority: computes, and makes system calls of its own, whenever the writer is blocked. */
static long worker(void *arg)
{
    struct pw_run *run = arg;
    volatile uint64_t x = 1;
    while (!run->stop) {
        for (int i = 0; i < 2000; i++)
            x = x * 6364136223846793005u + 1442695040888963407u;
        bool writer_inside = run->in_write;
        if (kss_getpid() != kss_gettid())
            return 1;
        run->worker_syscalls += 2;
        if (writer_inside && run->in_write)
            run->worker_blocked_syscalls += 2;
        if (writer_inside && !run->seen_blocked && run->copied > 0) /* the first write is the story's */
            look(run);
        run->worker_loops++;
    }
    return 0;
}

static void progress(const struct pw_run *run, bool last)
{
    if (run->options->json || !isatty(STDERR_FILENO))
        return;
    double whole = run->input_bytes ? (double)run->input_bytes : 1;
    fprintf(stderr, "\r%5.1f %% copied, %llu system calls by the worker meanwhile%s",
            100.0 * (double)run->copied / whole, (unsigned long long)run->worker_syscalls, last ? "\n" : " ");
}

/* The first process: starts both, shows progress, looks at the end, and waits. */
long pw_main(void *arg)
{
    struct pw_run *run = arg;
    struct kss_spawn_attr high = { .name = "writer", .priority = 80 };
    struct kss_spawn_attr low = { .name = "worker", .priority = 20 };
    kss_setpriority(0, 90); /* so that both are known before they run */
    run->worker_tid = (int)kss_spawn(worker, run, &low);
    run->writer_tid = (int)kss_spawn(writer, run, &high);
    if (run->worker_tid < 0 || run->writer_tid < 0)
        return failed(run, run->worker_tid < 0 ? run->worker_tid : run->writer_tid);
    int status = 0;
    bool over = false;
    while (!over) {
        kss_sleep(50000000);
        progress(run, false);
        table(run);
        for (int i = 0; i < run->threads && i < PW_THREADS; i++)
            over |= run->thread[i].tid == run->writer_tid && run->thread[i].state == KSS_THREAD_ZOMBIE;
    }
    progress(run, true);
    kss_wait(run->writer_tid, &status);
    run->stop = true;
    kss_wait(run->worker_tid, NULL);
    return KSS_WIFEXITED(status) ? KSS_WEXITSTATUS(status) : 1;
}

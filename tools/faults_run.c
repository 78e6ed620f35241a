/* SPDX-License-Identifier: MIT */
/* One fault on one machine: the processes around it, and what is kept of it. */
#define _GNU_SOURCE
#include "faults.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define SYS_PROVOKE KSS_SYS_EXPERIMENT
#define DEADLINE_S 120 /* a machine that has not come to its end by then is stopped: the fault was not caught */

static struct fault_run *run; /* one at a time */
static atomic_bool go;
volatile unsigned fault_reports;

struct fault_run *fault_current(void)
{
    return run;
}

unsigned long fault_rounds(void)
{
    unsigned long n = 0;
    for (int i = 0; i < FAULT_NEIGHBOURS; i++)
        n += run->neighbour[i].rounds;
    return n;
}

static bool note(char *where, size_t size, const char *format, va_list ap)
{
    if (!where[0])
        vsnprintf(where, size, format, ap);
    return false;
}

bool fault_expect(bool ok, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    if (!ok)
        note(run->wrong, sizeof run->wrong, format, ap);
    va_end(ap);
    return ok;
}

KSS_PRINTF(2, 3) static bool must(bool ok, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    if (!ok)
        note(run->trouble, sizeof run->trouble, format, ap);
    va_end(ap);
    return ok;
}

static void on_report(const struct kss_report *report, void *arg)
{
    (void)arg;
    if (run->reports < FAULT_REPORTS)
        run->report[run->reports] = *report;
    fault_reports = ++run->reports;
}

/* ---- in the machine ---------------------------------------------------------------------------------------- */

KEEP_FRAME static long sys_provoke(const struct kss_syscall_args *a)
{
    long (*fn)(void *) = (long (*)(void *))a->a[0];
    volatile long r = fn((void *)a->a[1]);
    return r;
}

KEEP_FRAME long fault_in_kernel(long (*fn)(void *arg), void *arg)
{
    volatile long r = kss_syscall(SYS_PROVOKE, (long)fn, (long)arg, 0, 0, 0, 0);
    return r;
}

/* The process that does it. It is made before its neighbour, so that its stacks lie between theirs. */
KEEP_FRAME static long culprit(void *arg)
{
    const struct fault *f = arg;
    while (!go)
        kss_yield();
    volatile long r = f->user ? f->user(NULL) : fault_in_kernel(f->kernel, NULL);
    return r;
}

static long check_machine(void *arg)
{
    (void)arg;
    return kss_check(kss_machine_current());
}

/* Each neighbour comes by some more times: it was not stopped by what happened. */
static void wait_for_progress(void)
{
    for (int i = 0; i < FAULT_NEIGHBOURS; i++)
        run->neighbour[i].rounds_at_fault = run->neighbour[i].rounds;
    for (int i = 0; i < FAULT_NEIGHBOURS; i++)
        while (run->neighbour[i].rounds < run->neighbour[i].rounds_at_fault + 5)
            kss_yield();
}

/* Whatever the culprit left behind is reaped by pid 1: that one and this are the last. */
static void wait_for_orphans(void)
{
    struct kss_machine_stats s;
    do {
        kss_yield();
        kss_machine_stats(kss_machine_current(), &s);
    } while (s.threads_live > 2);
}

static long run_main(void *arg)
{
    const struct fault *f = arg;
    struct kss_spawn_attr attr = { .name = "culprit" };
    bool ok = must(fault_neighbour_start(&run->neighbour[0]), "neighbour 0: %s", kss_last_error());
    long pid = kss_spawn(culprit, (void *)f, &attr);
    ok = ok && must(pid > 0, "culprit: %s", kss_last_error());
    for (unsigned i = 1; i < FAULT_NEIGHBOURS; i++)
        ok = ok && must(fault_neighbour_start(&run->neighbour[i]), "neighbour %u: %s", i, kss_last_error());
    if (!ok) {
        kss_machine_stop(kss_machine_current());
        return 1;
    }
    go = true;
    must(kss_wait(pid, &run->status) == pid, "waiting for the culprit: %s", kss_last_error());
    wait_for_progress();
    must(fault_in_kernel(check_machine, NULL) == 0, "kss_check(): %s", kss_last_error());
    fault_neighbours_stop(run);
    wait_for_orphans();
    must(fault_in_kernel(check_machine, NULL) == 0, "kss_check() at the end: %s", kss_last_error());
    run->finished = true;
    return 0;
}

/* ---- on the host --------------------------------------------------------------------------------------------- */

/* Something may go wrong in a way that nobody has thought of: then the machine is stopped from outside. */
struct deadline {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool over, hit;
    struct kss_machine *machine;
};

static void *watch(void *arg)
{
    struct deadline *d = arg;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += DEADLINE_S;
    pthread_mutex_lock(&d->lock);
    int r = 0;
    while (!d->over && r == 0)
        r = pthread_cond_clockwait(&d->changed, &d->lock, CLOCK_MONOTONIC, &until);
    d->hit = !d->over;
    if (d->hit)
        kss_machine_stop(d->machine);
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

static void run_watched(const struct fault *f)
{
    struct deadline d = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, false, run->machine };
    pthread_t watcher;
    bool watched = pthread_create(&watcher, NULL, watch, &d) == 0;
    run->run = kss_machine_run(run->machine, run_main, (void *)f, NULL);
    if (!watched)
        return;
    pthread_mutex_lock(&d.lock);
    d.over = true;
    pthread_cond_signal(&d.changed);
    pthread_mutex_unlock(&d.lock);
    pthread_join(watcher, NULL);
    must(!d.hit, "the machine had not come to its end after %d seconds", DEADLINE_S);
}

static struct kss_config config_for(const struct fault *f, const struct fault_options *o)
{
    struct kss_config c;
    kss_config_init(&c);
    c.tick_hz = o->tick_hz;
    c.seed = o->seed;
    c.max_threads = 64;
    c.trace = true;
    c.trace_events = 1024;
    c.on_report = on_report;
    if (f->configure)
        f->configure(&c);
    return c;
}

static char *as_text(int (*format)(const struct kss_report *, char *, size_t), const struct kss_report *r)
{
    int n = format(r, NULL, 0);
    char *text = malloc((size_t)n + 1);
    if (!text)
        abort();
    format(r, text, (size_t)n + 1);
    return text;
}

/* A report's trace events can be told only while the machine is there. */
static void keep_texts(void)
{
    for (unsigned i = 0; i < run->reports && i < FAULT_REPORTS; i++) {
        run->text[i] = as_text(kss_report_format, &run->report[i]);
        run->json[i] = as_text(kss_report_json, &run->report[i]);
    }
}

static void provoke(const struct fault *f, const struct fault_options *o)
{
    struct kss_config c = config_for(f, o);
    int r = kss_machine_create(&run->machine, &c);
    if (!must(r == 0, "no machine: %s", kss_last_error()))
        return;
    r = kss_syscall_register(run->machine, SYS_PROVOKE, sys_provoke, "provoke");
    must(r == 0, "no system call: %s", kss_last_error());
    if (r == 0 && f->prepare) {
        r = f->prepare(run->machine);
        must(r == 0, "the experiment could not be prepared: %s", kss_last_error());
    }
    if (r == 0)
        run_watched(f);
    keep_texts();
    fault_check_all(run);
    must(kss_machine_destroy(run->machine) == 0, "the machine could not be freed: %s", kss_last_error());
    run->machine = NULL;
}

struct fault_run *fault_provoke(const struct fault *f, const struct fault_options *o)
{
    struct timespec from, to;
    run = calloc(1, sizeof *run);
    if (!run)
        abort();
    run->fault = f;
    run->skipped = f->skip ? f->skip() : NULL;
    if (run->skipped) {
        run->result = FAULT_SKIPPED;
        return run;
    }
    go = false;
    fault_reports = 0;
    fault_neighbours_init(run);
    clock_gettime(CLOCK_MONOTONIC, &from);
    provoke(f, o);
    if (f->cleanup)
        f->cleanup();
    clock_gettime(CLOCK_MONOTONIC, &to);
    run->ms = (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) / 1e6;
    run->result = FAULT_CAUGHT;
    for (int i = 0; i < run->checks; i++)
        if (!run->check[i].ok)
            run->result = FAULT_NOT_CAUGHT;
    if (!run->checks)
        run->result = FAULT_NOT_CAUGHT;
    return run;
}

void fault_run_free(struct fault_run *r)
{
    for (int i = 0; i < FAULT_REPORTS; i++) {
        free(r->text[i]);
        free(r->json[i]);
    }
    free(r);
}

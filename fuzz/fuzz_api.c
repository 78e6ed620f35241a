/* SPDX-License-Identifier: MIT */
/* One input: a machine is made, set up, run, looked at and destroyed; and what must not be is found. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define STOP_AFTER_MS 60
#define HANGS_AFTER_MS 60000     /* for one that sleeps; the host may have much else to do */
#define HANGS_AFTER_CPU_MS 10000 /* for one that does not */
#define HOST_OPERATIONS 40
#define REPORTS_MAX 12
#define HEAD 40 /* bytes for the configuration and what is set up */

struct fuzz fuzz;

__attribute__((noreturn)) static void found(const char *what)
{
    static char text[16384];
    fprintf(stderr, "fuzz: %s (%s)\n", what, kss_last_error());
    if (fuzz.found && kss_report_format(&fuzz.report, text, sizeof text) > 0)
        fputs(text, stderr);
    abort();
}

/* ---- the watchdog: an input ends in time, or it is a find --------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t change = PTHREAD_COND_INITIALIZER;
static bool watching;
static unsigned input_number; /* so that the next one is not taken for the last */

static bool wait_ms(unsigned ms, unsigned input)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    t.tv_sec += ms / 1000 + t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    while (watching && input_number == input && pthread_cond_timedwait(&change, &lock, &t) != ETIMEDOUT)
        ;
    return watching && input_number == input;
}

static long cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool hangs(unsigned input)
{
    long from = cpu_ms();
    for (int waited = 0; waited < HANGS_AFTER_MS && cpu_ms() - from < HANGS_AFTER_CPU_MS; waited += 100)
        if (!wait_ms(100, input))
            return false;
    return true;
}

static void *watchdog(void *arg)
{
    pthread_mutex_lock(&lock);
    for (;;) {
        while (!watching)
            pthread_cond_wait(&change, &lock);
        unsigned input = input_number;
        if (!wait_ms(STOP_AFTER_MS, input))
            continue;
        kss_machine_stop(fuzz.m);
        if (hangs(input)) {
            kss_machine_dump(fuzz.m);
            wait_ms(1000, input);
            found("the machine does not stop");
        }
    }
    return arg;
}

static void watch(bool on)
{
    pthread_mutex_lock(&lock);
    watching = on;
    input_number += on;
    pthread_cond_broadcast(&change);
    pthread_mutex_unlock(&lock);
}

/* ---- reports -------------------------------------------------------------------------------------------- */

/* A fault whose culprit is the library, which was given nothing but handles, numbers and user pointers. */
static bool is_the_librarys(const struct kss_report *r)
{
    if (r->kind == KSS_REPORT_INVARIANT || r->kind == KSS_REPORT_TRIPLE_FAULT)
        return true;
    return r->kind == KSS_REPORT_KERNEL_FAULT && strncmp(r->symbol, "kss", 3) == 0;
}

void report_callback(const struct kss_report *report, void *arg)
{
    struct run r;
    (void)arg;
    if (!fuzz.found && is_the_librarys(report)) {
        fuzz.report = *report;
        fuzz.found = true;
    }
    if (++fuzz.reports > REPORTS_MAX) /* each takes milliseconds */
        kss_machine_stop(fuzz.m);
    start_run(&r, report->kind, (unsigned)report->tid & 63, 3);
    r.in_handler = true;
    r.depth = 2;
    run_kernel(&r);
}

/* ---- what is left behind ---------------------------------------------------------------------------------- */

static int mappings(void)
{
    char buffer[4096];
    int n = 0, fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    for (ssize_t got; (got = read(fd, buffer, sizeof buffer)) > 0;)
        for (ssize_t i = 0; i < got; i++)
            n += buffer[i] == '\n';
    close(fd);
    return n;
}

static int descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < 64; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

/* What the host keeps for itself (thread stacks, the unwinder's pipe) is little. */
static void check_leaks(void)
{
    static unsigned inputs;
    static int maps, fds;
    if (++inputs % 100)
        return;
    int now = mappings(), open_now = descriptors();
    if (inputs == 500) {
        maps = now;
        fds = open_now;
    }
    if (inputs > 500 && (now > maps + 100 || open_now > fds + 8)) {
        fprintf(stderr, "fuzz: %d mappings, then %d; %d descriptors, then %d\n", maps, now, fds, open_now);
        found("something is left behind");
    }
}

/* ---- one input ---------------------------------------------------------------------------------------------- */

static void *host_thread(void *arg)
{
    struct run r;
    (void)arg;
    start_run(&r, SLICE_HOST, 0, HOST_OPERATIONS);
    run_host(&r);
    return NULL;
}

static void cut(const uint8_t *data, size_t size)
{
    size_t each = size / SLICES;
    for (size_t i = 0; i < SLICES; i++)
        fuzz.slice[i] = (struct bytes){ data + i * each, data + (i + 1) * each };
}

static void reset(void)
{
    static const char *const names[QUEUES] = { "queue 0", "queue 1", "queue 2", "queue 3" };
    for (unsigned i = 0; i < QUEUES; i++) {
        kss_wait_queue_init(&fuzz.queue[i], names[i]);
        kss_spinlock_init(&fuzz.lock[i], names[i]);
        fuzz.flag[i] = false;
    }
    fuzz.m = NULL;
    fuzz.own_stacks = 0;
    fuzz.reports = 0;
    fuzz.a_stack = 0;
    fuzz.a_thread = NULL;
    fuzz.a_frame = NULL;
    fuzz.smashed = fuzz.found = false;
    char drain[256];
    while (read(fuzz.host_descriptor[0], drain, sizeof drain) > 0)
        ;
}

/* A machine that has run and is kept, for handles of another machine. */
static void make_other(void)
{
    struct kss_config c;
    kss_config_init(&c);
    c.max_threads = 4;
    fuzz.other = NULL;
    if (kss_machine_create(&fuzz.other, &c) < 0)
        found("the other machine was not made");
}

static void run_machine(uint8_t how)
{
    pthread_t host;
    int status = 0;
    if (how & 1)
        kss_machine_stop(fuzz.m); /* before it runs */
    pthread_create(&host, NULL, host_thread, NULL);
    watch(true);
    int r = kss_machine_run(fuzz.m, user_program, NULL, &status);
    watch(false);
    pthread_join(host, NULL);
    if (fuzz.found)
        found("a report that must not be");
    if (r != 0 && r != -ECANCELED && r != -EFAULT)
        found("the run ended in another way");
    if (kss_machine_run(fuzz.m, user_program, NULL, NULL) != -EBUSY)
        found("the machine ran twice");
    if (r != -EFAULT && !fuzz.smashed && kss_check(fuzz.m) < 0)
        found("an invariant is broken");
}

static void look_afterwards(struct run *r)
{
    struct kss_thread_info_snapshot s[32];
    struct kss_frame f[8];
    int n = kss_threads(fuzz.m, s, 32);
    for (int i = 0; i < n && i < 32; i++)
        if (kss_thread_find(fuzz.m, s[i].tid) && i < 3)
            kss_backtrace(kss_thread_find(fuzz.m, s[i].tid), f, 8);
    for (int i = 0; i < 4; i++)
        look_around(r);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    pthread_t t;
    (void)argc;
    (void)argv;
    numbers_init();
    if (pipe2(fuzz.host_descriptor, O_NONBLOCK | O_CLOEXEC) < 0 || pthread_create(&t, NULL, watchdog, NULL) != 0)
        abort();
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD)
        return -1;
    struct run r = { .code = { data, data + HEAD } };
    cut(data + HEAD, size - HEAD);
    reset();
    make_config(&r, &fuzz.config);
    uint8_t how = take(&r.code);
    if (how & 128 && fuzz.config.kstack_max == 65536)
        make_other();
    if (kss_machine_create(&fuzz.m, &fuzz.config) < 0)
        found("a machine was not made that could be made before");
    set_up(&r);
    if ((how & 14) != 14)
        run_machine(how & 0x71 ? 0 : 1);
    start_run(&r, 1, 0, 0);
    look_afterwards(&r);
    if (kss_machine_destroy(fuzz.m) < 0 || kss_machine_destroy(fuzz.m) != -EINVAL)
        found("the machine was not destroyed, or twice");
    look_around(&r); /* all handles are bad now */
    kss_machine_destroy(fuzz.other);
    fuzz.other = NULL;
    check_leaks();
    return 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * kstacksim stack: the demonstration. A writer sleeps in the middle of a disk write with its work on its kernel
 * stack; an indexer was preempted in the middle of a system call; a prober is in a system call too, interrupted by
 * its device, whose handler is interrupted by a more urgent one. That one takes the pictures: so all of them are of
 * one instant.
 */
#define _GNU_SOURCE
#include "stack.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SYS_INDEX KSS_SYS_EXPERIMENT
#define SYS_PROBE (SYS_INDEX + 1)
#define LINE_DEVICE KSS_LINE_FREE
#define LINE_URGENT (KSS_LINE_FREE + 1)
#define THREADS 16
#define ROUNDS_COUNTED 30 /* of the prober, when stacks are counted */
/* With a frame and a name of its own. */
#ifdef __clang__
#define APART __attribute__((noinline))
#else
#define APART __attribute__((noinline, noclone))
#endif

static struct {
    unsigned rounds;               /* of the prober, after the pictures */
    _Atomic bool stop;
    long writer, indexer;
    struct kss_thread *wanted[THREADS]; /* whose picture is taken now */
    int wanted_count;
    struct kss_stack_picture shot[THREADS];
    char name[THREADS][KSS_NAME_MAX];
    int tid[THREADS], shots;
    bool taken;
} demo;

/* ---- in kernel mode --------------------------------------------------------------------------- */

static void take_pictures(void)
{
    for (int i = 0; i < demo.wanted_count; i++) {
        if (kss_picture_thread(demo.wanted[i], &demo.shot[demo.shots]) < 0)
            continue;
        demo.tid[demo.shots] = kss_thread_id(demo.wanted[i]);
        snprintf(demo.name[demo.shots++], KSS_NAME_MAX, "%s", kss_thread_name(demo.wanted[i]));
    }
    demo.taken = true;
}

static void urgent_handler(unsigned line, void *arg)
{
    (void)arg;
    if (!demo.taken)
        take_pictures();
    kss_irq_eoi(line);
}

static void device_handler(unsigned line, void *arg)
{
    volatile char status[96] = { 0 }; /* what a driver would read from its device */
    (void)arg;
    kss_irq_enable(); /* more urgent lines may come now */
    kss_irq_raise(kss_machine_current(), 0, LINE_URGENT);
    kss_irq_disable();
    status[0]++;
    kss_irq_eoi(line);
}

APART static long checksum_block(const volatile unsigned char *block, unsigned n)
{
    volatile unsigned char copy[512];
    long sum = 0;
    for (unsigned i = 0; i < n; i++)
        copy[i % sizeof copy] = block[i];
    for (unsigned i = 0; i < sizeof copy; i++)
        sum = sum * 31 + copy[i];
    return sum;
}

APART static long checksum_file(unsigned blocks)
{
    static volatile unsigned char file[4096];
    volatile long sum[16] = { 0 };
    for (unsigned i = 0; i < blocks && !demo.stop; i++)
        sum[i % 16] += checksum_block(file, sizeof file);
    return sum[0] + sum[15];
}

static long sys_index(const struct kss_syscall_args *args)
{
    return checksum_file((unsigned)args->a[0]) & 1;
}

/* Are the other two where the story wants them? */
static bool in_place(const struct kss_thread_info_snapshot *s, int n)
{
    bool blocked = false, preempted = false;
    for (int i = 0; i < n; i++) {
        blocked |= s[i].tid == demo.writer && s[i].state == KSS_THREAD_SLEEPING && s[i].kstack_depth;
        preempted |= s[i].tid == demo.indexer && s[i].state == KSS_THREAD_READY && s[i].mode == KSS_MODE_KERNEL;
    }
    return blocked && preempted;
}

APART static long probe_device(void)
{
    return kss_irq_raise(kss_machine_current(), 0, LINE_DEVICE);
}

/* 1: the pictures are there. */
static long sys_probe(const struct kss_syscall_args *args)
{
    static struct kss_thread_info_snapshot s[THREADS];
    struct kss_machine *m = kss_machine_current();
    (void)args;
    int n = kss_threads(m, s, THREADS);
    n = n < THREADS ? n : THREADS;
    if (!in_place(s, n))
        return demo.taken;
    demo.wanted_count = 0;
    for (int i = 0; i < n; i++) {
        struct kss_thread *t = kss_thread_find(m, s[i].tid);
        if (t)
            demo.wanted[demo.wanted_count++] = t;
    }
    probe_device();
    return demo.taken;
}

/* ---- in user mode ----------------------------------------------------------------------------- */

static long write_blocks(void *arg)
{
    static char block[8192];
    int fd = (int)kss_open("disk", O_WRONLY);
    (void)arg;
    while (fd >= 0 && !demo.stop)
        if (kss_write(fd, block, sizeof block) != (long)sizeof block)
            return 1;
    return fd < 0;
}

static long index_files(void *arg)
{
    (void)arg;
    while (!demo.stop)
        kss_syscall(SYS_INDEX, 100000, 0, 0, 0, 0, 0);
    return 0;
}

static long probe_until_taken(void *arg)
{
    unsigned after = 0;
    (void)arg;
    while (after < demo.rounds || !demo.taken) {
        kss_sleep(10000000);
        after += kss_syscall(SYS_PROBE, 0, 0, 0, 0, 0, 0) == 1;
    }
    demo.stop = true;
    return 0;
}

static long start(void *arg)
{
    struct kss_spawn_attr low = { .name = "indexer", .priority = 20 }, mid = { .name = "prober", .priority = 60 },
                          high = { .name = "writer", .priority = 80 };
    int bad = 0, status;
    (void)arg;
    kss_setpriority(0, 90);
    demo.writer = kss_spawn(write_blocks, NULL, &high);
    demo.indexer = kss_spawn(index_files, NULL, &low);
    long prober = kss_spawn(probe_until_taken, NULL, &mid);
    demo.stop = demo.writer < 0 || demo.indexer < 0 || prober < 0;
    while (kss_wait(-1, &status) > 0)
        bad |= status;
    return bad || demo.writer < 0 || demo.indexer < 0 || prober < 0;
}

/* ---- the machine ------------------------------------------------------------------------------ */

static struct kss_machine *build(bool profile)
{
    struct kss_config c;
    struct kss_machine *m;
    char path[40];
    kss_config_init(&c);
    c.tick_hz = 1000;
    c.sched = &kss_sched_priority;
    c.profile = profile;
    int fd = memfd_create("kstacksim-disk", MFD_CLOEXEC);
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct kss_disk_config disk = { .name = "disk", .path = path, .create = true, .bytes_per_second = 200000 };
    int r = fd < 0 ? -errno : kss_machine_create(&m, &c);
    if (r == 0)
        r = kss_disk_attach(m, &disk);
    if (fd >= 0)
        close(fd);
    if (r < 0)
        return NULL;
    kss_syscall_register(m, SYS_INDEX, sys_index, "index");
    kss_syscall_register(m, SYS_PROBE, sys_probe, "probe");
    kss_irq_request(m, LINE_DEVICE, device_handler, NULL, "device");
    kss_irq_request(m, LINE_URGENT, urgent_handler, NULL, "urgent");
    kss_irq_set_priority(m, LINE_DEVICE, 4);
    kss_irq_set_priority(m, LINE_URGENT, 12);
    return m;
}

/* Those that were asked for; by default the three that the story is about. */
static bool is_asked_for(const struct stack_request *q, int i)
{
    char id[16];
    snprintf(id, sizeof id, "%d", demo.tid[i]);
    if (q->thread)
        return strcmp(q->thread, demo.name[i]) == 0 || strcmp(q->thread, id) == 0;
    return q->all || !strcmp(demo.name[i], "writer") || !strcmp(demo.name[i], "indexer") ||
           !strcmp(demo.name[i], "prober");
}

static int choose(const struct stack_request *q, struct gallery *g)
{
    char there[256] = "";
    for (int i = 0; i < demo.shots; i++) {
        size_t n = strlen(there);
        snprintf(there + n, sizeof there - n, "%s%d (%s)", i ? ", " : "", demo.tid[i], demo.name[i]);
        struct kss_stack_picture *p = is_asked_for(q, i) ? gallery_add(g) : NULL;
        if (p)
            *p = demo.shot[i];
    }
    if (!g->count && q->thread)
        return stack_fail(EXIT_FAILURE, "there is no thread '%s' in the demonstration. There are: %s.",
                          q->thread, there);
    return EXIT_SUCCESS;
}

struct kss_machine *stack_demo(const struct stack_request *q, bool profile, struct gallery *g, int *status)
{
    int result = -1;
    demo.rounds = profile ? ROUNDS_COUNTED : 0;
    struct kss_machine *m = build(profile);
    if (!m) {
        *status = stack_fail(EXIT_FAILURE, "no machine for the demonstration: %s", kss_last_error());
        return NULL;
    }
    int r = kss_machine_run(m, start, NULL, &result);
    if (r < 0 || result)
        *status = stack_fail(EXIT_FAILURE, "the demonstration failed: %s",
                             r < 0 ? kss_last_error() : "a process did");
    else
        *status = choose(q, g);
    return m;
}

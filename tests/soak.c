/* SPDX-License-Identifier: MIT */
/*
 * The soak: everything at once on 1, 2, 4 and 16 CPUs, at the highest tick that the host carries. At the end every
 * counter adds up, every byte and register is right, no wake-up is lost, and nothing has leaked.
 *
 *   KSS_SOAK_SECONDS  for all CPU counts together; 8
 *   KSS_SOAK_CPUS     only this count
 *   KSS_SOAK_SEED     as a run that failed has printed it
 *   KSS_SOAK_HZ       timer signals a second in all; 25000
 */
#define _GNU_SOURCE
#include "soak.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

struct soak soak;

static const struct {
    const char *name;
    kss_user_fn fn;
    unsigned copies; /* 0: as many as CPUs */
} jobs[] = {
    { "storm", soak_storm, 2 },       { "compute", soak_compute, 3 },   { "lock", soak_lock, 0 },
    { "queue", soak_queue, 4 },       { "disk", soak_disk, 1 },         { "console", soak_console, 1 },
    { "call", soak_call, 2 },         { "mover", soak_mover, 1 },       { "hotplug", soak_hotplug, 1 },
    { "malloc", soak_malloc, 2 },     { "print", soak_print, 2 },
};
#define JOBS (sizeof jobs / sizeof jobs[0])

uint64_t soak_random(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

void soak_wrong(const char *what, long a, long b)
{
    if (soak.wrong++ < 8) /* in user and kernel mode: put together without libc's locks */
        soak.complaint[soak.complaints++ & 7] = (struct complaint){ what, a, b };
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static unsigned long number(const char *name, unsigned long preset)
{
    const char *s = getenv(name);
    return s && *s ? strtoul(s, NULL, 0) : preset;
}

/* ---- what must not grow ------------------------------------------------------------------------------------- */

struct usage {
    unsigned mappings, fds, threads;
    unsigned long resident_kb;
};

static unsigned entries(const char *folder)
{
    DIR *d = opendir(folder);
    unsigned n = 0;
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

static struct usage usage(void)
{
    struct usage u = { .fds = entries("/proc/self/fd"), .threads = entries("/proc/self/task") };
    char line[512];
    FILE *f = fopen("/proc/self/maps", "r");
    while (f && fgets(line, sizeof line, f))
        u.mappings++;
    if (f)
        fclose(f);
    f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        sscanf(line, "VmRSS: %lu", &u.resident_kb);
    if (f)
        fclose(f);
    return u;
}

/* ---- the machine ---------------------------------------------------------------------------------------------- */

static void on_report(const struct kss_report *r, void *arg)
{
    static char text[16384];
    (void)arg;
    soak.reports++;
    int n = kss_report_format(r, text, sizeof text);
    if (write(STDERR_FILENO, text, n < (int)sizeof text ? (size_t)n : sizeof text - 1) < 0)
        soak.wrong++;
}

static long soak_main(void *arg)
{
    int status;
    uint64_t end = soak.end_ns;
    (void)arg;
    for (unsigned j = 0; j < JOBS; j++) {
        unsigned copies = jobs[j].copies ? jobs[j].copies : soak.cpus + 1;
        for (unsigned i = 0; i < copies; i++) {
            struct kss_spawn_attr attr = { .name = jobs[j].name };
            long pid = kss_spawn(jobs[j].fn, (void *)(long)soak.workers, &attr);
            if (pid < 0)
                soak_wrong("kss_spawn", pid, j);
            soak.of_job[soak.workers] = j;
            soak.tid[soak.workers++] = pid;
        }
    }
    while (now_ns() < end && !soak.wrong)
        kss_sleep(20000000);
    soak.over = true;
    in_kernel(soak_wake_all, NULL);
    for (long pid; (pid = kss_wait(-1, &status)) > 0;)
        if (status)
            soak_wrong("a worker's status", pid, status);
    soak.finished = true;
    return 0;
}

/* Prints where everybody is when somebody has not moved for long: a wake-up that is lost, a lock that is. */
static void *watch(void *arg)
{
    struct kss_machine *m = arg;
    uint64_t seen[SOAK_WORKERS] = { 0 };
    unsigned still[SOAK_WORKERS] = { 0 }, patience = (unsigned)number("KSS_SOAK_PATIENCE", 60);
    uint64_t told = now_ns();
    while (!soak.watcher_over) {
        struct timespec second = { 1, 0 };
        nanosleep(&second, NULL);
        for (unsigned i = 0; i < soak.workers; i++) {
            still[i] = soak.progress[i] != seen[i] || soak.finished || soak.left[i] ? 0 : still[i] + 1;
            seen[i] = soak.progress[i];
            if (still[i] == patience) {
                fprintf(stderr, "soak: worker %u (%s, pid %ld) stands at %llu for %u s\n", i,
                        jobs[soak.of_job[i]].name, soak.tid[i], (unsigned long long)seen[i], patience);
                soak_wrong("no progress", (long)i, (long)seen[i]);
                kss_machine_dump(m);
                sleep(2);
                kss_machine_stop(m);
            }
        }
        if (now_ns() - told > 10000000000u) {
            unsigned long sum = 0;
            told = now_ns();
            for (unsigned i = 0; i < soak.workers; i++)
                sum += soak.progress[i];
            printf("soak: %u CPUs: %lu rounds, %u wrong\n", soak.cpus, sum, (unsigned)soak.wrong);
            fflush(stdout);
        }
    }
    return NULL;
}

static struct kss_machine *machine(unsigned cpus, unsigned long hz, const char *disk_path, int console_out)
{
    struct kss_config c;
    struct kss_machine *m = NULL;
    kss_config_init(&c);
    c.cpus = cpus;
    c.tick_hz = (unsigned)(hz / cpus < 20000 ? hz / cpus : 20000);
    c.timeslice_ns = 0;
    c.seed = soak.seed;
    c.on_report = on_report;
    c.max_threads = 512;
    c.irq_stacks = cpus % 4 ? KSS_IRQ_STACKS_NONE : KSS_IRQ_STACKS_PER_CPU;
    c.zombie_stacks = cpus > 2 ? KSS_ZOMBIE_FREES_STACK : KSS_ZOMBIE_KEEPS_STACK;
    c.kstack_alloc = cpus > 2 ? KSS_KSTACK_AT_FIRST_ENTRY : KSS_KSTACK_AT_CREATE;
    c.watchdog.soft_lockup_ns = c.watchdog.hard_lockup_ns = 120000000000u; /* the host may be busy */
    struct kss_disk_config d = { .name = "disk", .path = disk_path, .create = true };
    struct kss_console_config con = { .input_fd = -1, .output_fd = console_out };
    int r = kss_machine_create(&m, &c);
    if (r == 0)
        r = kss_syscall_register(m, SYS_KERNEL, soak_sys_kernel, "kernel");
    if (r == 0)
        r = kss_disk_attach(m, &d);
    if (r == 0)
        r = kss_console_attach(m, &con);
    if (r < 0) {
        fprintf(stderr, "soak: %d: %s\n", r, kss_last_error());
        exit(1);
    }
    return m;
}

/* ---- afterwards ------------------------------------------------------------------------------------------------ */

static void check_counters(struct kss_machine *m)
{
    struct kss_machine_stats s;
    struct kss_cpu_stats one;
    uint64_t switches = 0, calls = 0;
    kss_machine_stats(m, &s);
    for (unsigned i = 0; i < soak.cpus; i++) {
        kss_machine_cpu_stats(m, i, &one);
        switches += one.context_switches;
        calls += one.calls;
        if (one.context_switches != one.control_saves)
            soak_wrong("control saves", (long)one.context_switches, (long)one.control_saves);
        for (unsigned line = 0; line < KSS_IRQ_LINES; line++) {
            struct kss_irq_stats q;
            kss_irq_stats(m, i, line, &q);
            if (q.raised != q.delivered + q.pending + q.lost)
                soak_wrong("interrupts of a line do not add up", (long)line, (long)q.raised);
        }
    }
    if (switches != s.total.context_switches)
        soak_wrong("context switches", (long)switches, (long)s.total.context_switches);
    if (calls != soak.called || calls > soak.calls_wanted || soak.calls_wanted - calls > 4 * soak.cpus)
        soak_wrong("calls", (long)calls, (long)soak.calls_wanted);
    if (s.threads_created != s.threads_reaped + s.threads_live || s.zombies)
        soak_wrong("threads created and reaped", (long)s.threads_created, (long)s.threads_reaped);
    if (kss_check(m) < 0)
        soak_wrong(kss_last_error(), 0, 0);
    soak_check_work();
    printf("soak: %u CPUs: %llu system calls, %llu switches, %llu preemptions, %llu migrations, %llu ticks, "
           "%llu calls, %llu deferred, %llu threads\n", soak.cpus, (unsigned long long)s.total.syscalls,
           (unsigned long long)s.total.context_switches, (unsigned long long)s.total.preemptions,
           (unsigned long long)s.total.migrations, (unsigned long long)s.total.ticks, (unsigned long long)calls,
           (unsigned long long)s.total.deferred, (unsigned long long)s.threads_created);
}

static void run(unsigned cpus, unsigned long seconds_ns, unsigned long hz)
{
    char path[] = "/tmp/kss-soak-XXXXXX";
    int fd = mkstemp(path), ends[2], status = -1;
    pthread_t watcher, drain;
    uint64_t seed = soak.seed;
    unsigned wrong = soak.wrong;
    memset(&soak, 0, sizeof soak);
    soak.seed = seed;
    soak.wrong = wrong;
    soak.cpus = cpus;
    soak_setup();
    if (fd < 0 || pipe(ends) < 0 || !(soak.shared = tmpfile()))
        exit(1);
    soak.console_in = ends[0];
    soak.end_ns = now_ns() + seconds_ns;
    struct kss_machine *m = machine(cpus, hz, path, ends[1]);
    pthread_create(&watcher, NULL, watch, m);
    pthread_create(&drain, NULL, soak_drain_console, NULL);
    int r = kss_machine_run(m, soak_main, NULL, &status);
    soak.watcher_over = true;
    if (r < 0 || status)
        soak_wrong(kss_last_error(), r, status);
    close(ends[1]);
    pthread_join(drain, NULL);
    pthread_join(watcher, NULL);
    if (r == 0)
        check_counters(m);
    kss_machine_destroy(m);
    close(ends[0]);
    fclose(soak.shared);
    close(fd);
    unlink(path);
}

int main(void)
{
    static const unsigned counts[] = { 1, 2, 4, 16 };
    unsigned long seconds = number("KSS_SOAK_SECONDS", 8), hz = number("KSS_SOAK_HZ", 25000);
    unsigned long only = number("KSS_SOAK_CPUS", 0), n = only ? 1 : 4;
    struct usage before = { 0 }, after;
    soak.seed = number("KSS_SOAK_SEED", now_ns() | 1);
    printf("soak: KSS_SOAK_SEED=%llu, %lu s\n", (unsigned long long)soak.seed, seconds);
    for (unsigned i = 0; i < n && !soak.wrong && !soak.reports; i++) {
        run(only ? (unsigned)only : counts[i], seconds * 1000000000u / n, hz);
        after = usage();
        if (i == 0)
            before = after; /* the first one has what is made once */
        /* libc keeps heaps for as many threads as eight times the host's CPUs, two mappings each, and some stacks. */
        unsigned of_libc = 16 * (unsigned)sysconf(_SC_NPROCESSORS_ONLN) + 16;
        if (after.fds > before.fds || after.threads > before.threads || after.mappings > before.mappings + of_libc)
            soak_wrong("left behind: descriptors, threads, or mappings", (long)after.fds, (long)after.mappings);
        if (after.resident_kb > before.resident_kb + 65536)
            soak_wrong("host memory grows: kB before and now", (long)before.resident_kb, (long)after.resident_kb);
        printf("soak: after %u CPUs: %u mappings, %u descriptors, %u threads, %lu kB\n", soak.cpus, after.mappings,
               after.fds - 3, after.threads - 2, after.resident_kb);
        fflush(stdout);
    }
    for (unsigned i = 0; i < soak.complaints && i < 8; i++)
        fprintf(stderr, "soak: wrong: %s: %ld, %ld\n", soak.complaint[i].what, soak.complaint[i].a, soak.complaint[i].b);
    if (soak.wrong || soak.reports)
        fprintf(stderr, "soak: %u wrong, %u reports; again with KSS_SOAK_SEED=%llu KSS_SOAK_CPUS=%u\n",
                (unsigned)soak.wrong, (unsigned)soak.reports, (unsigned long long)soak.seed, soak.cpus);
    else
        printf("soak: all is well\n");
    return soak.wrong || soak.reports;
}

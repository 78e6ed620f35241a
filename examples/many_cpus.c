/* SPDX-License-Identifier: MIT */
/*
 * Many CPUs, all in the kernel at the same time.
 *
 * One process a CPU, each bound to its own by its affinity. They meet inside a system call: each waits there until all
 * others are in it too, so that every CPU is in the kernel at once, on the kernel stack of the process it runs, with
 * its interrupts on. Then the bonds are loosened, and the CPUs share out three times as many processes.
 *
 * Expect: a kernel stack for each CPU, no two the same; what each CPU has done, with its ticks, context switches and
 * processes that came from others; and that each process has computed what it should.
 */
#include <kstacksim/kstacksim.h>

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#define SYS_MEET KSS_SYS_EXPERIMENT
#define CPUS_MAX 16
#define WORKERS 3 /* for each CPU */
#define ROUNDS 40
#define PATIENCE_NS 10000000000u

static unsigned cpus = 2;
static struct kss_kstack_info stack[CPUS_MAX];
static _Atomic unsigned inside;

KSS_SYSCALL_STUB1(meet, SYS_MEET, long, cpu)

/* Kernel mode. Nobody leaves before all are here: so there is a moment when every CPU is in this function. */
static long sys_meet(const struct kss_syscall_args *args)
{
    unsigned cpu = (unsigned)args->a[0];
    if (cpu >= cpus)
        return kss_set_error(-EINVAL, "CPU %u: 0 to %u", cpu, cpus - 1);
    if (kss_cpu_id() != (int)cpu)
        return kss_set_error(-ENXIO, "bound to CPU %u, and on CPU %d", cpu, kss_cpu_id());
    long r = kss_kstack_info(NULL, &stack[cpu]);
    uint64_t start = kss_sched_clock();
    atomic_fetch_add(&inside, 1);
    while (r == 0 && atomic_load(&inside) < cpus)
        if (kss_sched_clock() - start > PATIENCE_NS)
            return kss_set_error(-ETIMEDOUT, "only %u of %u CPUs have come", atomic_load(&inside), cpus);
    return r;
}

static uint64_t compute(uint64_t x)
{
    for (int i = 0; i < 200000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    return x;
}

static long bound(void *arg)
{
    struct kss_cpumask own = kss_cpumask_of((unsigned)(long)arg);
    long r = kss_setaffinity(0, &own);
    if (r == 0)
        r = meet((long)arg);
    if (r < 0)
        fprintf(stderr, "many_cpus: %s\n", kss_last_error());
    return r < 0;
}

static long worker(void *arg)
{
    uint64_t x = (uint64_t)(long)arg, expected = x;
    for (int i = 0; i < ROUNDS; i++) {
        x = compute(x);
        kss_yield();
    }
    for (int i = 0; i < ROUNDS; i++)
        expected = compute(expected);
    return x != expected;
}

/* Runs n processes and returns how many did not do well. */
static long all(kss_user_fn fn, unsigned n, long first)
{
    long bad = 0;
    unsigned made = 0;
    for (; made < n; made++)
        if (kss_spawn(fn, (void *)(first + (long)made), NULL) < 0)
            break;
    if (made < n)
        fprintf(stderr, "many_cpus: no process: %s\n", kss_last_error());
    for (unsigned i = 0; i < made; i++) {
        int status = 0;
        bad += kss_wait(-1, &status) < 0 || status != 0;
    }
    return bad + (made < n);
}

static long program(void *arg)
{
    (void)arg;
    long bad = all(bound, cpus, 0);
    printf("all %u CPUs were in the kernel at once, on these stacks:\n", cpus);
    for (unsigned i = 0; i < cpus; i++) {
        printf("  CPU %-2u  %#" PRIxPTR "-%#" PRIxPTR ", stack pointer %#" PRIxPTR "\n", i, stack[i].low, stack[i].high,
               stack[i].sp);
        for (unsigned k = 0; k < i; k++)
            bad += stack[k].low == stack[i].low;
    }
    return bad + all(worker, WORKERS * cpus, 1) != 0;
}

static void tell(struct kss_machine *machine)
{
    struct kss_cpu_stats s;
    printf("%u processes shared the CPUs, and computed what they should:\n", WORKERS * cpus);
    printf("  CPU    ticks  switches  came from others  asked to schedule  system calls  idle ms\n");
    for (unsigned i = 0; i < cpus && kss_machine_cpu_stats(machine, i, &s) == 0; i++)
        printf("  %3u %8" PRIu64 " %9" PRIu64 " %17" PRIu64 " %18" PRIu64 " %13" PRIu64 " %8.1f\n", i, s.ticks,
               s.context_switches, s.migrations, s.reschedules, s.syscalls, (double)s.idle_ns / 1e6);
}

static int run(void)
{
    struct kss_machine *machine;
    struct kss_config config;
    int status = 0;
    kss_config_init(&config);
    config.cpus = cpus;
    int r = kss_machine_create(&machine, &config);
    if (r == 0)
        r = kss_syscall_register(machine, SYS_MEET, sys_meet, "meet");
    if (r == 0)
        r = kss_machine_run(machine, program, NULL, &status);
    if (r < 0)
        fprintf(stderr, "many_cpus: %s\n", kss_last_error());
    else if (status == 0)
        tell(machine);
    if (kss_machine_destroy(machine) < 0)
        fprintf(stderr, "many_cpus: %s\n", kss_last_error());
    return r < 0 || status != 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"cpus", required_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    static const char usage[] = "usage: many_cpus [--cpus N]\n"
                                "Processes on N CPUs (1 to 16; 2), all in the kernel at once, each on a kernel\n"
                                "stack of its own; then what each CPU has done.\n";
    int c;
    while ((c = getopt_long(argc, argv, "c:h", options, NULL)) == 'c') {
        char *end;
        unsigned long n = strtoul(optarg, &end, 10);
        if (*end || end == optarg || n < 1 || n > CPUS_MAX) {
            fprintf(stderr, "many_cpus: --cpus is '%s': 1 to %d are allowed\n%s", optarg, CPUS_MAX, usage);
            return 2;
        }
        cpus = (unsigned)n;
    }
    if (c != -1 || optind != argc) {
        fputs(usage, c == 'h' ? stdout : stderr);
        return c == 'h' ? 0 : 2;
    }
    return run();
}

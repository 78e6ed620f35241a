/* SPDX-License-Identifier: MIT */
/*
 * Recursion on a kernel stack: how deep it gets, and what happens when it gets too deep.
 *
 * A system call's handler calls itself N times, each time with a frame of some 300 bytes.
 *
 *     recursion [N]          N from 1 to 40, default 12: fits into the 32 KiB of a kernel stack
 *     recursion --overflow   without an end
 *
 * Expect: for N the sum the recursion computes, depth and high-water mark of the kernel stack, and,
 * up to N = 16, its picture at the deepest point. With --overflow: the report of the kernel stack
 * overflow; the process that did it is killed, another one goes on and finishes its work.
 */
#include <kstacksim/kstacksim.h>

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#define SYS_RECURSE KSS_SYS_EXPERIMENT
#define N_MAX 40
#define N_PICTURE 16
#define FRAME_BYTES 256
#define WITHOUT_END LONG_MAX

static long levels;
static struct kss_kstack_info deepest;
static char picture[16384], report_text[8192];
static struct kss_report report;
static unsigned reports;

/* The locals are volatile and used after the call: no compiler makes a loop of this. Looking takes
   some stack too, so the high-water mark is a little more than the depth. */
__attribute__((noinline)) static long recurse(long n)
{
    volatile char local[FRAME_BYTES];
    for (int i = 0; i < FRAME_BYTES; i++)
        local[i] = (char)n;
    if (n == levels) {
        int r = kss_kstack_info(NULL, &deepest);
        if (r == 0 && levels <= N_PICTURE)
            r = kss_kstack_draw(NULL, picture, sizeof picture);
        return r < 0 ? r : n;
    }
    long below = recurse(n + 1);
    return below < 0 || local[0] != local[FRAME_BYTES - 1] ? -EIO : below + n;
}

static long sys_recurse(const struct kss_syscall_args *args)
{
    return recurse(args->a[0]);
}

KSS_SYSCALL_STUB1(recursion, SYS_RECURSE, long, from)

/* Kernel mode on a stack of the CPU's own: the dead stack is read, not used. */
static void on_report(const struct kss_report *r, void *arg)
{
    (void)arg;
    reports++;
    report = *r;
    kss_report_format(r, report_text, sizeof report_text);
}

static long within_bounds(void *arg)
{
    long sum = recursion(1), expected = levels * (levels + 1) / 2;
    (void)arg;
    if (sum != expected) {
        fprintf(stderr, "recursion: gave %ld, not %ld: %s\n", sum, expected, kss_last_error());
        return 1;
    }
    printf("%ld calls deep: the sum of 1 to %ld is %ld\n", levels, levels, sum);
    printf("kernel stack %#" PRIxPTR "-%#" PRIxPTR ", %zu bytes; at the deepest point %zu in use, "
           "high-water mark %zu\n\n%s",
           deepest.low, deepest.high, deepest.size, deepest.depth, deepest.high_water, picture);
    if (deepest.depth < (size_t)levels * FRAME_BYTES || deepest.high_water < deepest.depth ||
        deepest.high_water > deepest.size || !deepest.canary_intact || reports) {
        fprintf(stderr, "recursion: the stack's measures can't be right\n");
        return 1;
    }
    return 0;
}

static long endless(void *arg)
{
    (void)arg;
    recursion(1);
    fprintf(stderr, "recursion: an endless recursion returned\n");
    return 1;
}

/* Innocent; works before, during and after the other one's overflow. */
static long neighbour(void *arg)
{
    (void)arg;
    for (int i = 0; i < 10; i++)
        if (kss_sleep(2000000) < 0 || kss_getpid() <= 0)
            return 1;
    return 42;
}

static long overflow(void *arg)
{
    int a = 0, b = 0;
    (void)arg;
    long other = kss_spawn(neighbour, NULL, &(struct kss_spawn_attr){.name = "neighbour"});
    long culprit = kss_spawn(endless, NULL, &(struct kss_spawn_attr){.name = "endless"});
    if (other < 0 || culprit < 0 || kss_wait(culprit, &a) < 0 || kss_wait(other, &b) < 0) {
        fprintf(stderr, "recursion: %s\n", kss_last_error());
        return 1;
    }
    printf("%s\nprocess %ld: %s\nprocess %ld: exit status %d, as if nothing had happened\n",
           report_text, culprit, KSS_WIFKILLED(a) ? "killed" : "NOT KILLED", other,
           KSS_WEXITSTATUS(b));
    if (reports != 1 || report.kind != KSS_REPORT_STACK_OVERFLOW || report.pid != culprit ||
        report.action != KSS_ACTION_KILL_PROCESS || !KSS_WIFKILLED(a)) {
        fprintf(stderr, "recursion: the overflow was not caught as one\n");
        return 1;
    }
    if (!KSS_WIFEXITED(b) || KSS_WEXITSTATUS(b) != 42) {
        fprintf(stderr, "recursion: the neighbour was hurt\n");
        return 1;
    }
    return 0;
}

static int run(void)
{
    struct kss_config config;
    struct kss_machine *machine;
    int status = 0;
    kss_config_init(&config);
    config.on_report = on_report;
    int r = kss_machine_create(&machine, &config);
    if (r == 0)
        r = kss_syscall_register(machine, SYS_RECURSE, sys_recurse, "recurse");
    if (r == 0)
        r = kss_machine_run(machine, levels == WITHOUT_END ? overflow : within_bounds, NULL,
                            &status);
    if (r < 0)
        fprintf(stderr, "recursion: %s\n%s", kss_last_error(), report_text);
    if (kss_machine_destroy(machine) < 0)
        fprintf(stderr, "recursion: %s\n", kss_last_error());
    return r < 0 || status != 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"overflow", no_argument, NULL, 'o'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    static const char usage[] = "usage: recursion [N] | recursion --overflow\n"
                                "A system call that recurses on its kernel stack.\n"
                                "  N                1 to 40, default 12; up to 16 with a picture\n"
                                "  -o, --overflow   without an end: a report, one process killed\n";
    long n = 12;
    char *end = "";
    int c;
    while ((c = getopt_long(argc, argv, "oh", options, NULL)) == 'o')
        levels = WITHOUT_END;
    if (c == -1 && !levels && optind < argc)
        n = strtol(argv[optind++], &end, 10);
    if (c != -1 || optind != argc || *end || n < 1 || n > N_MAX) {
        fputs(usage, c == 'h' ? stdout : stderr);
        return c == 'h' ? 0 : 2;
    }
    if (!levels)
        levels = n;
    return run();
}

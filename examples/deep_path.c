/* SPDX-License-Identifier: MIT */
/*
 * Deep paths: a small kernel stack is enough for a path through a file system, and for one through a network
 * stack, but not for one that interrupts the other in its depths.
 *
 * A process reads a file: vfs, file system, block map, volume manager, block layer, driver. In the driver the
 * network card raises its interrupt; the handler leaves the work to a softirq: receive, ip, tcp, socket. There the
 * disk raises its own, and in its handler a non-maskable interrupt arrives. The same path runs three times:
 *
 *     a) on a kernel stack of 8 KiB, interrupts on the stack in use:    it overflows
 *     b) on a kernel stack of 8 KiB, interrupts on stacks of the CPU's: it fits
 *     c) on a kernel stack of 16 KiB, interrupts on the stack in use:   it fits
 *
 *     deep_path
 *
 * Expect: the report of the overflow, which hurts nobody's stack but its own; for b) and c) the stacks at the deepest
 * point; and a table of how deep each kind of stack was used, with the worst case, which is their sum.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "dp.h"

#define KSTACK 8192    /* the small stack, where the host's trap frame allows it */
#define MEASURE 65536  /* a stack on which everything fits */

/* Kernel mode, on a stack of the CPU's own: the dead stack is read, not used. */
static void on_report(const struct kss_report *r, void *arg)
{
    struct dp_run *run = arg;
    if (run->reports++)
        return;
    run->report = *r;
    kss_report_format(r, run->report_text, sizeof run->report_text);
}

static int build(struct kss_machine **m, struct dp_run *run)
{
    struct kss_config c;
    kss_config_init(&c);
    c.kstack_size = run->kstack_size;
    c.irq_stacks = run->irq_stacks;
    c.watchdog = (struct kss_watchdog){ 0 }; /* ticks are held back: they would be missed */
    c.on_report = on_report;
    c.report_arg = run;
    int r = kss_machine_create(m, &c);
    return r == 0 ? dp_install(*m, run) : r;
}

static void go(struct dp_run *run)
{
    struct kss_machine *m = NULL;
    run->saved = malloc(run->kstack_size);
    run->result = run->saved ? build(&m, run) : kss_set_error(-ENOMEM, "no memory for a copy of a stack");
    if (run->result == 0)
        run->result = kss_machine_run(m, dp_main, run, &run->status);
    if (run->result < 0)
        snprintf(run->sentence, sizeof run->sentence, "%s", kss_last_error());
    /* A machine that was stopped can still be looked at: all stacks are as they were. */
    if (run->result == -EFAULT && run->neighbour.size)
        run->neighbour_unchanged = dp_neighbour(run, false);
    if (m && run->reports + run->looks > 0 && kss_stack_depths(m, &run->depths) < 0)
        fprintf(stderr, "deep_path: %s\n", kss_last_error());
    if (kss_machine_destroy(m) < 0)
        fprintf(stderr, "deep_path: %s\n", kss_last_error());
    free(run->saved);
    run->saved = NULL;
}

/* ---- what must come of it ----------------------------------------------------------------------- */

#define EXPECT(condition, ...)                              \
    do {                                                    \
        if (!(condition)) {                                 \
            fprintf(stderr, "deep_path, %s: ", run->label); \
            fprintf(stderr, __VA_ARGS__);                   \
            fputc('\n', stderr);                            \
            return false;                                   \
        }                                                   \
    } while (0)

static bool overflowed(const struct dp_run *run)
{
    const struct kss_report *r = &run->report;
    EXPECT(run->reports == 1, "%u reports, not 1; the run returned %d: %s", run->reports, run->result, run->sentence);
    EXPECT(r->kind == KSS_REPORT_STACK_OVERFLOW, "no kernel stack overflow was reported, but: %s", r->message);
    EXPECT(r->action == KSS_ACTION_STOP_MACHINE && run->result == -EFAULT, "the machine did not stop");
    EXPECT(r->stack == KSS_STACK_TASK && r->tid == run->reader_tid && r->stack_high - r->stack_low == run->kstack_size,
           "not the reader's kernel stack overflowed");
    EXPECT(!run->looks, "the deepest point was reached all the same");
    return true;
}

static bool fitted(const struct dp_run *run)
{
    const struct kss_stack_depths *d = &run->depths;
    bool own = run->irq_stacks == KSS_IRQ_STACKS_PER_CPU;
    EXPECT(run->result == 0 && !run->reports, "the run returned %d: %s\n%s", run->result, run->sentence,
           run->report_text);
    EXPECT(run->status == 0 && run->blocks == 2, "the path was not gone to its end: status %#x, %ld requests done",
           (unsigned)run->status, run->blocks);
    EXPECT(run->looks == 1 && run->frames > 0, "nobody looked from the deepest point");
    EXPECT(own == (d->softirq > 0) && own == (d->hard_irq > 0) && d->nmi > 0 && d->task > kss_trap_frame_size(),
           "the depths can't be right");
    return true;
}

static bool as_described(const struct dp_run *run)
{
    const struct kss_stack_depths *d = &run->depths;
    if (!(run->expect_overflow ? overflowed(run) : fitted(run)))
        return false;
    EXPECT(run->neighbour_unchanged, "the bystander's kernel stack has changed");
    EXPECT(d->task <= run->kstack_size && d->worst == d->task + d->softirq + d->hard_irq + d->nmi,
           "the depths do not add up");
    return true;
}

/* ---- how large the locals are ------------------------------------------------------------------- */

/*
 * How much the path needs beside its locals depends on the host, since a trap frame holds the processor's whole state
 * (some 1 to 11 KiB), and on the compiler. So it is measured, on a large stack and with next to no locals. The first of
 * the two runs is for the dynamic linker, which binds functions when they are first called, and takes some KiB of the
 * stack for it. 0: it could not be measured.
 */
static size_t measure(void)
{
    static struct dp_run dry[2];
    size_t size = MEASURE;
    while (size < 8 * kss_kstack_min_size())
        size *= 2;
    for (int i = 0; i < 2; i++) {
        struct dp_run *run = &dry[i];
        *run = (struct dp_run){ .label = "measuring", .kstack_size = size, .locals = DP_LOCALS_MIN };
        go(run);
        if (!fitted(run))
            return 0;
    }
    return dry[1].depths.task;
}

/*
 * What is missing to 5/4 of the small stack is given to the locals: too much for that stack, and far from too much for
 * twice its size. The part on the thread's own stack fits, since half of the locals are the interrupts'.
 */
static size_t share(size_t kstack_size, size_t without)
{
    return DP_LOCALS_MIN + ((kstack_size / 4 * 5 - without) / DP_FUNCTIONS & ~(size_t)15);
}

static int demonstrate(void)
{
    static struct dp_run run[3];
    size_t small = kss_kstack_min_size(), without = small ? measure() : 0;
    if (!small)
        fprintf(stderr, "deep_path: %s\n", kss_last_error());
    if (!without)
        return 1;
    while (small < KSTACK || small < without)
        small *= 2;
    printf("A path through a file system, interrupted by one through the network. Without locals it needs\n"
           "%zu bytes of stack, of them %zu for the trap frame of the system call on this host. Each of its\n"
           "%d functions has %zu bytes of locals.\n",
           without, kss_trap_frame_size(), DP_FUNCTIONS, share(small, without));
    run[0] = (struct dp_run){ .label = "a", .kstack_size = small, .expect_overflow = true };
    run[1] = (struct dp_run){ .label = "b", .kstack_size = small, .irq_stacks = KSS_IRQ_STACKS_PER_CPU };
    run[2] = (struct dp_run){ .label = "c", .kstack_size = 2 * small };
    bool good = true;
    for (int i = 0; i < 3; i++) {
        run[i].locals = share(small, without);
        go(&run[i]);
        dp_show_run(&run[i]);
        fflush(stdout);
        good = as_described(&run[i]) && good;
    }
    dp_show_table(run, 3);
    return good ? 0 : 1;
}

int main(int argc, char **argv)
{
    static const struct option options[] = { { "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 } };
    static const char usage[] = "usage: deep_path\n"
                                "A file system's path interrupted by the network's: on a small kernel stack, with\n"
                                "interrupt stacks, and on a stack of twice the size.\n";
    int c = getopt_long(argc, argv, "h", options, NULL);
    if (c != -1 || optind != argc) {
        fputs(usage, c == 'h' ? stdout : stderr);
        return c == 'h' ? 0 : 2;
    }
    return demonstrate();
}

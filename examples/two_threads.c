/* SPDX-License-Identifier: MIT */
/*
 * Two threads of one process, each with its own user stack and its own kernel stack.
 *
 * "library" runs on a user stack that the library made, "caller" on one that the program hands
 * over. Both compute without a pause, so only timer interrupts make them share the CPU: a tick
 * saves the registers on the kernel stack of the thread it interrupts, and a context switch goes to
 * the other.
 *
 * Expect: for each thread both stacks, how often it was preempted (at least 3 times), and the same
 * result that the computation gives when it is done again in one thread.
 */
#include <kstacksim/kstacksim.h>

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#define SYS_LOOK KSS_SYS_EXPERIMENT
#define PREEMPTIONS 3
#define MAX_THREADS 16

struct look {
    struct kss_kstack_info kstack;
    uint64_t preemptions;
    int user_stack_owner; /* whose user stack the user stack pointer is on */
};

struct work {
    const char *name;
    uint64_t seed, result, rounds;
    uintptr_t local; /* address of a local in user mode */
    struct look look;
};

static _Alignas(4096) char own_stack[65536];
static struct kss_config config;
static struct work work[2] = {{.name = "library", .seed = 1}, {.name = "caller", .seed = 2}};

KSS_SYSCALL_STUB1(look, SYS_LOOK, struct look *, out)

/* Kernel mode: what the kernel knows of the calling thread. */
static long sys_look(const struct kss_syscall_args *args)
{
    struct kss_machine *machine = kss_machine_current();
    struct kss_thread_info_snapshot all[MAX_THREADS];
    struct kss_thread *owner;
    struct look l = {.user_stack_owner = -1};
    int n = kss_threads(machine, all, MAX_THREADS);
    int r = n < 0 ? n : kss_kstack_info(NULL, &l.kstack);
    if (r < 0)
        return r;
    for (int i = 0; i < n && i < MAX_THREADS; i++)
        if (all[i].tid == kss_thread_id(kss_current()))
            l.preemptions = all[i].preemptions;
    if (kss_stack_find(machine, kss_trap_sp(args->frame), &owner) == KSS_STACK_USER)
        l.user_stack_owner = kss_thread_id(owner);
    return kss_copy_to_user((void *)args->a[0], &l, sizeof l) ? -EFAULT : 0;
}

static uint64_t compute(uint64_t x)
{
    for (int i = 0; i < 500000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    return x;
}

/* Computes, round by round, until it has been preempted often enough. */
static long worker(void *arg)
{
    struct work *w = arg;
    w->local = (uintptr_t)&w;
    w->result = w->seed;
    do {
        w->result = compute(w->result);
        w->rounds++;
        long r = look(&w->look);
        if (r < 0)
            return r;
    } while (w->look.preemptions < PREEMPTIONS && w->rounds < 5000);
    return 0;
}

static int check(const struct work *w, long tid)
{
    const struct kss_kstack_info *k = &w->look.kstack;
    uintptr_t low = (uintptr_t)own_stack;
    bool own = w->local >= low && w->local < low + sizeof own_stack;
    uint64_t expected = w->seed;
    for (uint64_t i = 0; i < w->rounds; i++)
        expected = compute(expected);
    printf("thread %ld (%s)\n", tid, w->name);
    printf("  kernel stack %#" PRIxPTR "-%#" PRIxPTR ", %zu bytes, %zu of them ever used\n", k->low,
           k->high, k->size, k->high_water);
    printf("  user stack   of %s, %zu bytes, a local at %#" PRIxPTR "\n",
           own ? "the caller" : "the library", own ? sizeof own_stack : config.user_stack_size,
           w->local);
    printf("  preempted %" PRIu64 " times in %" PRIu64 " rounds, result %#018" PRIx64 ", %s\n",
           w->look.preemptions, w->rounds, w->result, w->result == expected ? "right" : "WRONG");
    if (own != (w == &work[1]) || w->look.user_stack_owner != tid)
        fprintf(stderr, "two_threads: %s ran on a user stack that is not its own\n", w->name);
    else if (w->look.preemptions < PREEMPTIONS)
        fprintf(stderr, "two_threads: %s was hardly ever preempted\n", w->name);
    else if (w->result != expected)
        fprintf(stderr, "two_threads: %s computed the wrong result\n", w->name);
    else
        return 0;
    return 1;
}

static long program(void *arg)
{
    const struct kss_spawn_attr attr[2] = {
        {.name = "library"},
        {.name = "caller", .user_stack = own_stack, .user_stack_size = sizeof own_stack},
    };
    long tid[2], value = 0;
    int bad = 0;
    (void)arg;
    for (int i = 0; i < 2; i++) {
        tid[i] = kss_thread_create(worker, &work[i], &attr[i]);
        if (tid[i] < 0) {
            fprintf(stderr, "two_threads: no thread: %s\n", kss_last_error());
            return 1;
        }
    }
    for (int i = 0; i < 2; i++) {
        if (kss_thread_join(tid[i], &value) < 0 || value < 0) {
            fprintf(stderr, "two_threads: thread %ld: %s\n", tid[i], kss_last_error());
            return 1;
        }
        bad |= check(&work[i], tid[i]);
    }
    if (work[0].look.kstack.low != work[1].look.kstack.low)
        return bad;
    fprintf(stderr, "two_threads: both have the same kernel stack\n");
    return 1;
}

static int run(void)
{
    struct kss_machine *machine;
    int status = 0;
    kss_config_init(&config);
    config.timeslice_ns = 0; /* the CPU goes to the next thread at every tick */
    int r = kss_machine_create(&machine, &config);
    if (r == 0)
        r = kss_syscall_register(machine, SYS_LOOK, sys_look, "look");
    if (r == 0)
        r = kss_machine_run(machine, program, NULL, &status);
    if (r < 0)
        fprintf(stderr, "two_threads: %s\n", kss_last_error());
    if (kss_machine_destroy(machine) < 0)
        fprintf(stderr, "two_threads: %s\n", kss_last_error());
    return r < 0 || status != 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    static const char usage[] = "usage: two_threads\n"
                                "Two threads of one process that ticks preempt: their user and\n"
                                "kernel stacks, and that both compute what they should.\n";
    int c = getopt_long(argc, argv, "h", options, NULL);
    if (c != -1 || optind != argc) {
        fputs(usage, c == 'h' ? stdout : stderr);
        return c == 'h' ? 0 : 2;
    }
    return run();
}

/* SPDX-License-Identifier: MIT */
/*
 * Processes that run along with a fault. Two hand a turn to each other in a system call, so that each sleeps and
 * wakes on its kernel stack all the time; one runs in user mode. Their stacks hold patterns, which nobody but
 * themselves may ever write to.
 */
#include "faults.h"

#include <stdatomic.h>

#define PATTERN 2048

static struct kss_wait_queue turn_queue;
static atomic_uint turn;
static atomic_bool over;

static unsigned char pattern_at(unsigned seed, unsigned i)
{
    return (unsigned char)(seed + i * 7 + i / 251);
}

static void fill(volatile unsigned char *p, unsigned seed)
{
    for (unsigned i = 0; i < PATTERN; i++)
        p[i] = pattern_at(seed, i);
}

static unsigned long changed(const volatile unsigned char *p, unsigned seed)
{
    unsigned long n = 0;
    for (unsigned i = 0; i < PATTERN; i++)
        n += p[i] != pattern_at(seed, i);
    return n;
}

/* In a system call: the suspended computation of each is on its kernel stack, above the pattern. */
KEEP_FRAME static long take_turns(void *arg)
{
    struct fault_neighbour *n = arg;
    volatile unsigned char pattern[PATTERN];
    fill(pattern, n->seed + 100);
    n->kernel_pattern = pattern;
    while (!over && kss_wait_event_killable(&turn_queue, turn == n->index || over) == 0) {
        n->rounds++;
        turn = !n->index;
        kss_wake_up(&turn_queue, 0);
    }
    n->bad += changed(pattern, n->seed + 100);
    n->kernel_pattern = NULL;
    return 0;
}

KEEP_FRAME static long neighbour(void *arg)
{
    struct fault_neighbour *n = arg;
    volatile unsigned char pattern[PATTERN];
    fill(pattern, n->seed);
    n->user_pattern = pattern;
    if (n->index < 2)
        fault_in_kernel(take_turns, n);
    while (!over) {
        n->rounds++;
        kss_yield();
    }
    n->bad += changed(pattern, n->seed);
    n->user_pattern = NULL;
    return n->bad != 0;
}

void fault_neighbours_init(struct fault_run *run)
{
    static const char *const names[FAULT_NEIGHBOURS] = { "left", "right", "walker" };
    kss_wait_queue_init(&turn_queue, "turn");
    turn = 0;
    over = false;
    for (unsigned i = 0; i < FAULT_NEIGHBOURS; i++)
        run->neighbour[i] = (struct fault_neighbour){ .name = names[i], .index = i, .seed = 11 * i + 3 };
}

bool fault_neighbour_start(struct fault_neighbour *n)
{
    struct kss_spawn_attr attr = { .name = n->name };
    n->pid = kss_spawn(neighbour, n, &attr);
    while (n->pid > 0 && !(n->index < 2 ? n->kernel_pattern : n->user_pattern))
        kss_yield();
    return n->pid > 0;
}

static long wake_them(void *arg)
{
    (void)arg;
    return kss_wake_up(&turn_queue, 0);
}

void fault_neighbours_stop(struct fault_run *run)
{
    over = true;
    fault_in_kernel(wake_them, NULL);
    for (unsigned i = 0; i < FAULT_NEIGHBOURS; i++)
        if (kss_wait(run->neighbour[i].pid, &run->neighbour[i].status) < 0)
            run->neighbour[i].status = -1;
}

/* Of a machine that has stopped: what is still on its stacks. */
unsigned long fault_neighbour_changed(const struct fault_neighbour *n)
{
    return n->bad + (n->user_pattern ? changed(n->user_pattern, n->seed) : 0) +
           (n->kernel_pattern ? changed(n->kernel_pattern, n->seed + 100) : 0);
}

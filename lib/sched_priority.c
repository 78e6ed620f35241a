/* SPDX-License-Identifier: MIT */
/*
 * Fixed priority, preemptive: the highest priority runs; equals share by time slice. As POSIX
 * SCHED_RR. One dispatch queue in the order of falling priority; equals keep their order of arrival.
 */
#include <kstacksim/kstacksim.h>

#define QUEUE 1

static uint64_t key(const struct kss_thread *t)
{
    return (uint64_t)(KSS_PRIO_MAX - kss_thread_priority(t));
}

static int init(struct kss_machine *m)
{
    return kss_dsq_create(m, QUEUE);
}

/* The CPU with the lowest running priority, if it is below t's, has to give way. `chooses`: one that has just taken
   another thread; -1: none. */
static void make_way(struct kss_thread *t, int chooses)
{
    struct kss_thread *lowest = NULL;
    int where = -1;
    for (int cpu = 0; cpu < kss_cpu_count(); cpu++) {
        struct kss_thread *r = kss_cpu_running(cpu);
        if (cpu == chooses || !kss_thread_allowed(t, cpu))
            continue;
        if (!r)
            return; /* an idle CPU will come for it */
        if (!lowest || kss_thread_priority(r) < kss_thread_priority(lowest)) {
            lowest = r;
            where = cpu;
        }
    }
    if (lowest && lowest != t && kss_thread_priority(lowest) < kss_thread_priority(t))
        kss_kick_cpu(where, KSS_KICK_PREEMPT);
}

static void enqueue(struct kss_thread *t, unsigned flags)
{
    kss_dsq_insert_vtime(t, QUEUE, KSS_SLICE_DEFAULT, key(t), flags);
    make_way(t, -1);
}

/* prev keeps the CPU unless somebody of at least its priority waits. Who woke together with the one that is taken may
   have asked for this same CPU, so another is looked for. */
static void dispatch(int cpu, struct kss_thread *prev)
{
    struct kss_thread *first = kss_dsq_first(QUEUE);
    if (!first || (prev && kss_thread_priority(first) < kss_thread_priority(prev)))
        return;
    kss_dsq_move_to_local(QUEUE);
    first = kss_cpu_count() > 1 ? kss_dsq_first(QUEUE) : NULL;
    if (first)
        make_way(first, cpu);
}

/* A lowered priority may have to give way. */
static void set_priority(struct kss_thread *t, int priority)
{
    struct kss_thread *first = kss_dsq_first(QUEUE);
    if (first && kss_thread_priority(first) > priority)
        kss_thread_set_slice(t, 0);
    for (int cpu = 0; cpu < kss_cpu_count(); cpu++)
        if (kss_cpu_running(cpu) == t && kss_thread_slice(t) == 0)
            kss_kick_cpu(cpu, KSS_KICK_PREEMPT);
}

const struct kss_sched_class kss_sched_priority = {
    .abi_size = sizeof(struct kss_sched_class),
    .name = "priority",
    .init = init,
    .enqueue = enqueue,
    .dispatch = dispatch,
    .set_priority = set_priority,
};

/* SPDX-License-Identifier: MIT */
/* A scheduler class that uses every queue, and asks for things that are not there. It places every thread. */
#include "fuzz.h"

static unsigned turn;

static int class_init(struct kss_machine *m)
{
    for (uint64_t id = 1; id <= 3; id++)
        if (kss_dsq_create(m, id) < 0)
            return -1;
    return kss_dsq_create(m, 1) == 0;
}

/* Any of these gets the class ejected, or the machine stopped. */
static bool misbehaves(struct kss_thread *t)
{
    if (fuzz.mood < 2 || turn % 16 != 5)
        return false;
    switch (fuzz.mood) {
    case 2:
        kss_dsq_insert(turn & 16 ? NULL : (struct kss_thread *)((uintptr_t)t + 64), KSS_DSQ_GLOBAL, 0, 0);
        return false;
    case 3:
        kss_dsq_insert_vtime(t, KSS_DSQ_LOCAL, 0, 1, 0);
        return false;
    case 4:
        *(volatile int *)(uintptr_t)(turn & 4095) = 1;
        return false;
    case 5:
        kss_reschedule();
        return false;
    case 6:
        kss_irq_enable();
        return false;
    default:
        return true; /* it is not placed */
    }
}

static void class_enqueue(struct kss_thread *t, unsigned flags)
{
    unsigned n = turn++;
    if (misbehaves(t))
        return;
    kss_dsq_length(97);
    uint64_t slice = n % 7 ? KSS_SLICE_DEFAULT : 1000;
    switch (n % 5) {
    case 0:
        kss_dsq_insert(t, KSS_DSQ_GLOBAL, slice, flags);
        break;
    case 1:
        kss_dsq_insert(t, KSS_DSQ_LOCAL, slice, flags);
        break;
    case 2:
        kss_dsq_insert_vtime(t, 1, slice, kss_thread_run_time(t), flags);
        break;
    case 3:
        kss_dsq_insert_vtime(t, 2, slice, n, flags);
        break;
    default:
        kss_dsq_insert(t, 2, slice, flags);
    }
}

static void class_dispatch(int cpu, struct kss_thread *prev)
{
    (void)cpu;
    (void)prev;
    if (!kss_dsq_move_to_local(1 + turn % 2))
        kss_dsq_move_to_local(1 + (turn + 1) % 2);
}

static void class_tick(struct kss_thread *t)
{
    if (++turn % 3 == 0)
        kss_thread_set_slice(t, 0);
}

static int class_init_thread(struct kss_thread *t)
{
    *(unsigned *)kss_sched_thread_data(t) = turn;
    return 0;
}

const struct kss_sched_class fuzz_class = {
    .abi_size = sizeof(struct kss_sched_class),
    .name = "fuzz",
    .thread_data_size = 20, /* no multiple of anything */
    .cpu_data_size = 3,
    .init = class_init,
    .init_thread = class_init_thread,
    .enqueue = class_enqueue,
    .dispatch = class_dispatch,
    .tick = class_tick,
};

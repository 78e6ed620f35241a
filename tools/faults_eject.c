/* SPDX-License-Identifier: MIT */
/* Faults of a scheduler class: first come first served, until the culprit yields. */
#include "faults.h"

#define QUEUE 1
#define FORGOTTEN 2 /* a queue that dispatch() does not look at */

static _Atomic bool armed;
static struct kss_thread *sleeper;
static int *volatile nowhere = (int *)4096; /* nothing is ever mapped there */
static volatile unsigned long spins;

/* ---- what goes wrong, once -------------------------------------------------------------------------------- */

BROKEN static void crash_in_enqueue(struct kss_thread *t)
{
    *nowhere = t != NULL;
}

BROKEN static void lose_it(struct kss_thread *t)
{
    (void)t;
}

BROKEN static void put_it_where_nobody_looks(struct kss_thread *t)
{
    kss_dsq_insert(t, FORGOTTEN, KSS_SLICE_DEFAULT, 0);
}

BROKEN static void pick_the_sleeping_one(struct kss_thread *t)
{
    kss_dsq_insert(sleeper, QUEUE, KSS_SLICE_DEFAULT, 0);
    kss_dsq_insert(t, QUEUE, KSS_SLICE_DEFAULT, 0);
}

BROKEN static void enqueue_without_end(struct kss_thread *t)
{
    (void)t;
    for (;;)
        spins++;
}

static void (*wrong)(struct kss_thread *t);

/* ---- the class --------------------------------------------------------------------------------------------- */

static int init(struct kss_machine *m)
{
    armed = false;
    sleeper = NULL;
    int r = kss_dsq_create(m, QUEUE);
    return r < 0 ? r : kss_dsq_create(m, FORGOTTEN);
}

static void enqueue(struct kss_thread *t, unsigned flags)
{
    if (armed && (flags & KSS_ENQ_YIELD) && strcmp(kss_thread_name(t), "culprit") == 0) {
        armed = false;
        wrong(t);
    } else {
        kss_dsq_insert(t, QUEUE, KSS_SLICE_DEFAULT, flags);
    }
}

static void quiescent(struct kss_thread *t, unsigned flags)
{
    (void)flags;
    if (strcmp(kss_thread_name(t), "sleeper") == 0)
        sleeper = t;
}

static void dispatch(int cpu, struct kss_thread *prev)
{
    (void)cpu;
    (void)prev;
    kss_dsq_move_to_local(QUEUE);
}

static const struct kss_sched_class experiment = {
    .abi_size = sizeof(struct kss_sched_class),
    .name = "experiment",
    .timeout_ms = 200,
    .init = init,
    .enqueue = enqueue,
    .dispatch = dispatch,
    .quiescent = quiescent,
};

#define CONFIGURE(name, fn)                           \
    static void name(struct kss_config *c)            \
    {                                                 \
        wrong = fn;                                   \
        c->sched = &experiment;                       \
        c->watchdog.hard_lockup_ns = 200000000;       \
    }
CONFIGURE(crashes, crash_in_enqueue)
CONFIGURE(loses, lose_it)
CONFIGURE(starves, put_it_where_nobody_looks)
CONFIGURE(picks_sleeping, pick_the_sleeping_one)
CONFIGURE(never_ends, enqueue_without_end)

/* ---- the culprit, and what must be there afterwards -------------------------------------------------------------- */

KEEP_FRAME static long yield_until_ejected(void *arg)
{
    (void)arg;
    armed = true;
    while (!fault_reports)
        kss_yield();
    return 0;
}

KEEP_FRAME static long sleep_in_peace(void *arg)
{
    (void)arg;
    volatile long r = kss_sleep(UINT64_MAX);
    return r;
}

static long yield_beside_a_sleeper(void *arg)
{
    struct kss_spawn_attr attr = { .name = "sleeper" };
    long tid = kss_thread_create(sleep_in_peace, NULL, &attr);
    if (tid < 0)
        return tid;
    while (!sleeper)
        kss_yield();
    return yield_until_ejected(arg); /* the sleeper ends with the process */
}

static const char *is_recorded(const struct fault_run *run)
{
    const char *record = kss_sched_record(run->machine);
    return record && strstr(record, "scheduler experiment ejected\nreason: ") ? NULL : "there is no record of it";
}

#define EJECTED(variant_, what_, configure_, user_, stack_, culprit_, sentence_)                               \
    { "scheduler-misbehaves", variant_, what_, .configure = configure_, .user = user_,                          \
      .kind = KSS_REPORT_SCHED_EJECTED, .action = KSS_ACTION_CONTINUE, .stack = stack_, .mode = KSS_MODE_KERNEL, \
      .culprit = culprit_, .sentence = sentence_, .status = EXITED(0), .check = is_recorded }

const struct fault faults_eject[] = {
    EJECTED(NULL, "A scheduler class writes to NULL in its enqueue operation.", crashes, yield_until_ejected,
            KSS_STACK_SCHED, "crash_in_enqueue", "kernel NULL dereference"),
    EJECTED("lost", "A scheduler class forgets a thread.", loses, yield_until_ejected, KSS_STACK_TASK,
            "yield_until_ejected", "it is in no dispatch queue"),
    EJECTED("starved", "A scheduler class never picks a thread.", starves, yield_until_ejected, KSS_STACK_TASK,
            "yield_until_ejected", "it is in a dispatch queue"),
    EJECTED("sleeping", "A scheduler class picks a thread that sleeps.", picks_sleeping, yield_beside_a_sleeper,
            KSS_STACK_TASK, "sleep_in_peace", "it is SLEEPING"),
    EJECTED("endless", "A scheduler class's enqueue operation does not end.", never_ends, yield_until_ejected,
            KSS_STACK_SCHED, "enqueue_without_end", "it did not end"),
    { 0 },
};

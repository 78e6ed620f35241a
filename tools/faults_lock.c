/* SPDX-License-Identifier: MIT */
/* Faults of locks: their order, waiting for oneself, misuse. */
#include "faults.h"

#include <pthread.h>

static struct kss_spinlock lock_a, lock_b, raw;

static int prepare(struct kss_machine *m)
{
    (void)m;
    kss_spinlock_init(&lock_a, "a");
    kss_spinlock_init(&lock_b, "b");
    memset(&raw, 0x55, sizeof raw);
    return 0;
}

static void with_lock_order(struct kss_config *c)
{
    c->lock_order = true;
}

/* ---- opposite orders ------------------------------------------------------------------------------------------ */

KEEP_FRAME static long take_a_then_b(void *arg)
{
    (void)arg;
    bool on = kss_spin_lock(&lock_a);
    kss_spin_unlock(&lock_b, kss_spin_lock(&lock_b));
    kss_spin_unlock(&lock_a, on);
    return 0;
}

KEEP_FRAME static long take_b_then_a(void *arg)
{
    (void)arg;
    bool on = kss_spin_lock(&lock_b);
    kss_spin_unlock(&lock_a, kss_spin_lock(&lock_a));
    kss_spin_unlock(&lock_b, on);
    return 0;
}

static long first_order(void *arg)
{
    return fault_in_kernel(take_a_then_b, arg);
}

/* One after the other: nobody waits, and still it is found. */
static long take_in_opposite_orders(void *arg)
{
    struct kss_spawn_attr attr = { .name = "first" };
    long pid = kss_spawn(first_order, arg, &attr);
    fault_expect(kss_wait(pid, NULL) == pid, "no other process: %s", kss_last_error());
    return fault_in_kernel(take_b_then_a, arg);
}

static const char *shows_both_chains(const struct fault_run *r)
{
    const struct kss_report *p = &r->report[0];
    bool other = false, own = false;
    for (int i = 0; i < p->other_frames; i++)
        other |= strcmp(p->other[i].symbol, "take_a_then_b") == 0;
    for (int i = 0; i < p->frames; i++)
        own |= strcmp(p->frame[i].symbol, "take_b_then_a") == 0;
    return other && own ? NULL : "the report does not show both orders";
}

/* ---- waiting for oneself -------------------------------------------------------------------------------------- */

KEEP_FRAME static long take_it_twice(void *arg)
{
    (void)arg;
    bool on = kss_spin_lock(&lock_a);
    kss_spin_lock(&lock_a);
    kss_spin_unlock(&lock_a, on);
    return 0;
}

static volatile long ring[2], joins[2];
static volatile int joined;

static long join_the_other(void *arg)
{
    long i = (long)arg;
    while (!ring[!i])
        kss_yield();
    joins[i] = kss_thread_join(ring[!i], NULL);
    joined++;
    return 0;
}

/* Two threads that wait for each other's end: the second is told, and then the first's wait ends. */
static long join_in_a_circle(void *arg)
{
    (void)arg;
    joined = 0;
    ring[0] = ring[1] = 0;
    fault_expect(kss_thread_join(kss_gettid(), NULL) == -EDEADLK, "a thread could join itself");
    for (long i = 0; i < 2; i++)
        ring[i] = kss_thread_create(join_the_other, (void *)i, NULL);
    while (joined < 2)
        kss_yield();
    fault_expect((joins[0] == -EDEADLK && joins[1] == 0) || (joins[1] == -EDEADLK && joins[0] == 0),
                 "the joins gave %ld and %ld", joins[0], joins[1]);
    return 0;
}

/* ---- misuse --------------------------------------------------------------------------------------------------- */

KEEP_FRAME static long take_an_uninitialised_lock(void *arg)
{
    (void)arg;
    kss_spin_unlock(&raw, kss_spin_lock(&raw));
    return 0;
}

KEEP_FRAME static long release_what_nobody_holds(void *arg)
{
    (void)arg;
    kss_spin_unlock(&lock_a, true);
    return 0;
}

/* With one CPU a machine, who holds a spinlock while somebody else runs is a thread of another machine. */
static pthread_t other_host;
static volatile int held, tried;

KEEP_FRAME static long hold_the_lock(void *arg)
{
    (void)arg;
    bool on = kss_spin_lock(&lock_b);
    held = true;
    while (!tried)
        ;
    kss_spin_unlock(&lock_b, on);
    return 0;
}

static long sys_hold(const struct kss_syscall_args *a)
{
    (void)a;
    return hold_the_lock(NULL);
}

static long holder(void *arg)
{
    return kss_syscall(KSS_SYS_EXPERIMENT, (long)arg, 0, 0, 0, 0, 0);
}

static void *other_machine(void *arg)
{
    struct kss_machine *m = arg;
    kss_machine_run(m, holder, NULL, NULL);
    kss_machine_destroy(m);
    return NULL;
}

static int prepare_other(struct kss_machine *m)
{
    struct kss_config c;
    struct kss_machine *other;
    held = tried = false;
    prepare(m);
    kss_config_init(&c);
    int r = kss_machine_create(&other, &c);
    if (r == 0)
        r = kss_syscall_register(other, KSS_SYS_EXPERIMENT, sys_hold, "hold");
    if (r == 0 && pthread_create(&other_host, NULL, other_machine, other) != 0)
        r = kss_set_error(-EAGAIN, "no host thread for another machine");
    return r;
}

static void cleanup_other(void)
{
    tried = true;
    pthread_join(other_host, NULL);
}

KEEP_FRAME static long release_anothers_lock(void *arg)
{
    (void)arg;
    while (!held)
        ;
    kss_spin_unlock(&lock_b, true);
    return 0;
}

#define MISUSED(variant_, what_, prepare_, cleanup_, fn, sentence_)                                          \
    { "spinlock-misuse", variant_, what_, .prepare = prepare_, .cleanup = cleanup_, .kernel = fn,           \
      .kind = KSS_REPORT_SPINLOCK, .action = KSS_ACTION_KILL_PROCESS, .stack = KSS_STACK_TASK,              \
      .mode = KSS_MODE_KERNEL, .culprit = #fn, .sentence = sentence_, .status = KILLED(KSS_KILLED) }

const struct fault faults_lock[] = {
    { "deadlock", NULL, "Two processes take two spinlocks in opposite orders, one after the other.",
      .configure = with_lock_order, .prepare = prepare, .user = take_in_opposite_orders,
      .kind = KSS_REPORT_LOCK_ORDER, .action = KSS_ACTION_CONTINUE, .stack = KSS_STACK_TASK,
      .mode = KSS_MODE_KERNEL, .culprit = "take_b_then_a", .sentence = "possible deadlock", .status = EXITED(0),
      .check = shows_both_chains },
    { "deadlock", "self", "A thread takes a spinlock that it holds.", .prepare = prepare, .kernel = take_it_twice,
      .kind = KSS_REPORT_LOCK_ORDER, .action = KSS_ACTION_STOP_MACHINE, .stack = KSS_STACK_TASK,
      .mode = KSS_MODE_KERNEL, .culprit = "take_it_twice", .sentence = "waits for itself" },
    { "deadlock", "join", "Threads wait for each other's end, and one for its own: -EDEADLK.",
      .user = join_in_a_circle, .quiet = true, .status = EXITED(0) },
    MISUSED(NULL, "A spinlock is taken that was never initialised.", prepare, NULL, take_an_uninitialised_lock,
            "takes an uninitialised spinlock"),
    MISUSED("release", "A spinlock is released that nobody holds.", prepare, NULL, release_what_nobody_holds,
            "releases spinlock \"a\", which nobody holds"),
    MISUSED("another", "A spinlock is released that a thread of another machine holds.", prepare_other, cleanup_other,
            release_anothers_lock, "of another machine holds"),
    { 0 },
};

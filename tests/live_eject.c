/* SPDX-License-Identifier: MIT */
/*
 * A scheduler class that misbehaves is ejected, in whatever way it does: all processes end with the right
 * results, the invariants hold at every switch, and a report and a record say which class, why, and
 * which thread.
 */
#include "harness.h"

#define QUEUE 1
#define AWAY 2 /* a queue that nobody looks at */

/* ---- a class that works, and where it goes wrong ----------------------------------------------------- */

enum op { SELECT_CPU, ENQUEUE, DISPATCH, TICK, YIELD, RUNNABLE, RUNNING, STOPPING, QUIESCENT, SET_PRIORITY,
          UPDATE_IDLE, INIT, INIT_THREAD, EXIT_THREAD, ENABLE, DISABLE, CPU_ONLINE, NOWHERE };

static const struct bad {
    const char *what;
    enum op op;
    void (*act)(struct kss_thread *t);
    enum kss_sched_exit_kind kind;
    const char *reason, *message;
} *bad;

static _Atomic bool armed;
static bool drop, hold, dump_wildly, exit_crashes, exit_loops, dump_crashes;
static struct kss_thread *sleeper, *victim;
static struct kss_wait_queue queue;
static int exits;
static struct kss_sched_exit_info exit_info;
static char exit_message[300];
static int *volatile nowhere = (int *)4096; /* nothing is ever mapped there */

/* Once, in the operation that the case names, when all processes are there. */
static void in_op(enum op op, struct kss_thread *t)
{
    if (!bad || op != bad->op || !(armed || op >= INIT))
        return;
    armed = false;
    victim = t;
    const struct bad *now = bad;
    bad = NULL;
    now->act(t);
}

static int init(struct kss_machine *m)
{
    int r = kss_dsq_create(m, QUEUE);
    in_op(INIT, NULL);
    return r ? r : kss_dsq_create(m, AWAY);
}

static int select_cpu(struct kss_thread *t, int prev_cpu, unsigned flags)
{
    (void)flags;
    in_op(SELECT_CPU, t);
    return prev_cpu;
}

static void enqueue(struct kss_thread *t, unsigned flags)
{
    in_op(ENQUEUE, t);
    if (!drop)
        kss_dsq_insert(t, QUEUE, KSS_SLICE_DEFAULT, flags);
    drop = false;
    in_op(NOWHERE, t);
}

static void dispatch(int cpu, struct kss_thread *prev)
{
    (void)cpu;
    in_op(DISPATCH, prev);
    if (!hold)
        kss_dsq_move_to_local(QUEUE);
}

static bool yield(struct kss_thread *from, struct kss_thread *to)
{
    (void)to;
    in_op(YIELD, from);
    return true;
}

static void quiescent(struct kss_thread *t, unsigned flags)
{
    (void)flags;
    if (strcmp(kss_thread_name(t), "dozer") == 0)
        sleeper = t; /* and it stays asleep until all is over */
    in_op(QUIESCENT, t);
}

static void tick(struct kss_thread *t)
{
    in_op(TICK, t);
}

static void runnable(struct kss_thread *t, unsigned flags)
{
    (void)flags;
    in_op(RUNNABLE, t);
}

static void running(struct kss_thread *t)
{
    in_op(RUNNING, t);
}

static void stopping(struct kss_thread *t, bool still_runnable)
{
    (void)still_runnable;
    in_op(STOPPING, t);
}

static void set_priority(struct kss_thread *t, int priority)
{
    (void)priority;
    in_op(SET_PRIORITY, t);
}

static void update_idle(int cpu, bool idle)
{
    (void)cpu;
    (void)idle;
    in_op(UPDATE_IDLE, NULL);
}

static void cpu_online(int cpu)
{
    (void)cpu;
    in_op(CPU_ONLINE, NULL);
}

static int init_thread(struct kss_thread *t)
{
    in_op(INIT_THREAD, t);
    return 0;
}

static void exit_thread(struct kss_thread *t)
{
    in_op(EXIT_THREAD, t);
}

static void enable(struct kss_thread *t)
{
    in_op(ENABLE, t);
}

static void disable(struct kss_thread *t)
{
    in_op(DISABLE, t);
}

static void loop(struct kss_thread *t) __attribute__((noreturn));

static void on_exit_class(const struct kss_sched_exit_info *info)
{
    exits++;
    exit_info = *info;
    snprintf(exit_message, sizeof exit_message, "%s", info->message);
    if (exit_crashes)
        *nowhere = 1;
    if (exit_loops)
        loop(NULL);
}

static void dump(struct kss_dump *d)
{
    kss_dump_printf(d, "%u wait in the class's queue\n", kss_dsq_length(QUEUE));
    if (dump_crashes)
        *nowhere = 1;
    for (int i = 0; dump_wildly && i < 10000; i++)
        kss_dump_printf(d, "line %d\n", i);
}

static void dump_cpu(struct kss_dump *d, int cpu, bool idle)
{
    kss_dump_printf(d, "dump of CPU %d, %s\n", cpu, idle ? "idle" : "busy");
}

static void dump_thread(struct kss_dump *d, struct kss_thread *t)
{
    kss_dump_printf(d, "dump of thread %d\n", kss_thread_id(t));
}

static const struct kss_sched_class naughty = {
    .abi_size = sizeof(struct kss_sched_class), .name = "naughty", .timeout_ms = 100,
    .thread_data_size = 64, .cpu_data_size = 64,
    .select_cpu = select_cpu, .enqueue = enqueue, .dispatch = dispatch, .tick = tick, .yield = yield,
    .runnable = runnable, .running = running, .stopping = stopping, .quiescent = quiescent,
    .set_priority = set_priority, .update_idle = update_idle, .cpu_online = cpu_online,
    .init = init, .exit = on_exit_class, .init_thread = init_thread, .exit_thread = exit_thread,
    .enable = enable, .disable = disable,
    .dump = dump, .dump_cpu = dump_cpu, .dump_thread = dump_thread,
};

/* ---- the ways to go wrong ------------------------------------------------------------------------- */

static void crash(struct kss_thread *t)
{
    (void)t;
    *nowhere = 1;
}

NO_UBSAN static void divide(struct kss_thread *t)
{
    volatile int a = 1000, zero = 0;
    (void)t;
    a = a / zero;
}

KEEP_FRAME static int recurse(int n)
{
    volatile char room[512];
    room[0] = (char)n;
    return n == INT32_MAX ? 0 : recurse(n + 1) + room[0];
}

static void overflow(struct kss_thread *t)
{
    (void)t;
    recurse(0);
}

/* What it returns through, and everything above up to the end of the stack and beyond. */
KEEP_FRAME READS_FRAMES NO_UBSAN static void smash(struct kss_thread *t)
{
    volatile char room[64], *p = room;
    (void)t;
    for (long i = 0; i < 1 << 20; i++)
        p[i] = 0x5a;
}

/* A little less: the return goes wrong. */
KEEP_FRAME READS_FRAMES NO_UBSAN static void smash_return(struct kss_thread *t)
{
    volatile uintptr_t room[8], *p = room;
    (void)t;
    for (int i = 0; i < 16; i++)
        p[i] = 0x5a5a5a5a5a5a5a5a;
}

static void lose(struct kss_thread *t)
{
    (void)t;
    drop = true;
}

static void put_away(struct kss_thread *t)
{
    ck_assert_int_eq(kss_dsq_insert(t, AWAY, KSS_SLICE_DEFAULT, 0), 0);
    drop = true;
}

static void hold_all(struct kss_thread *t)
{
    (void)t;
    hold = true;
}

static void insert_sleeper(struct kss_thread *t)
{
    (void)t;
    victim = sleeper;
    ck_assert_int_eq(kss_dsq_insert(sleeper, QUEUE, KSS_SLICE_DEFAULT, 0), -EINVAL);
    ck_assert_ptr_nonnull(strstr(kss_last_error(), "SLEEPING"));
    ck_assert_int_eq(kss_dsq_insert_vtime(sleeper, QUEUE, KSS_SLICE_DEFAULT, 5, 0), -EINVAL);
}

static void insert_it(struct kss_thread *t)
{
    ck_assert_int_eq(kss_dsq_insert(t, QUEUE, KSS_SLICE_DEFAULT, 0), -EINVAL);
}

static void insert_nothing(struct kss_thread *t)
{
    (void)t;
    victim = NULL;
    ck_assert_int_eq(kss_dsq_insert(NULL, QUEUE, KSS_SLICE_DEFAULT, 0), -EINVAL);
}

static void insert_wild(struct kss_thread *t)
{
    (void)t;
    kss_dsq_insert((struct kss_thread *)nowhere, QUEUE, KSS_SLICE_DEFAULT, 0);
}

static void reschedule(struct kss_thread *t)
{
    (void)t;
    kss_reschedule();
}

static void sleep_a_while(struct kss_thread *t)
{
    (void)t;
    kss_sleep(1000);
}

static void wait_on_queue(struct kss_thread *t)
{
    (void)t;
    kss_wait_event(&queue, false);
}

static void wake_others(struct kss_thread *t)
{
    (void)t;
    kss_wake_up(&queue, 0);
}

static void look_at_threads(struct kss_thread *t)
{
    (void)t;
    kss_threads(kss_machine_current(), (struct kss_thread_info_snapshot *)nowhere, 5);
}

static void irqs_on(struct kss_thread *t)
{
    (void)t;
    kss_irq_enable();
}

static volatile int seen;

static void on_line(unsigned line, void *arg)
{
    (void)arg;
    seen++;
    kss_irq_eoi(line);
}

/* An interrupt comes at once: it is not lost. */
static void irqs_on_and_one_comes(struct kss_thread *t)
{
    (void)t;
    kss_irq_raise(kss_machine_current(), 0, 40);
    kss_irq_enable();
}

static void no_preemption(struct kss_thread *t)
{
    (void)t;
    kss_preempt_disable();
}

static struct kss_spinlock lock;

static void lock_held(struct kss_thread *t)
{
    (void)t;
    kss_spin_lock(&lock);
}

static void lock_and_crash(struct kss_thread *t)
{
    (void)t;
    kss_spin_lock(&lock);
    kss_preempt_disable();
    *nowhere = 1;
}

/* ---- never ending ---------------------------------------------------------------------------------- */

static volatile unsigned long spins;

static void loop(struct kss_thread *t)
{
    (void)t;
    for (;;)
        spins++;
}

/* Most of the time in libc, where it can't be interrupted. */
__attribute__((noreturn)) static void loop_in_libc(struct kss_thread *t)
{
    char text[64];
    (void)t;
    for (;;)
        snprintf(text, sizeof text, "%f", (double)spins);
}

__attribute__((noreturn)) static void loop_for_lock(struct kss_thread *t)
{
    (void)t;
    lock.locked = 1; /* as if another CPU held it */
    kss_spin_lock(&lock);
    for (;;)
        ;
}

/* ---- the workload ----------------------------------------------------------------------------------- */

#define WORKERS 6
#define ROUNDS 40

static unsigned long work(unsigned long seed)
{
    for (int i = 0; i < 3000; i++)
        seed = seed * 6364136223846793005u + 1442695040888963407u;
    return seed;
}

static unsigned long expected(long n)
{
    unsigned long sum = (unsigned long)n;
    for (int i = 0; i < ROUNDS; i++)
        sum = work(sum);
    return sum;
}

static _Atomic bool over;

static long worker(void *arg)
{
    unsigned long sum = (unsigned long)(long)arg;
    for (int i = 0; i < ROUNDS; i++) {
        sum = work(sum);
        if (i % 4 == 0)
            kss_yield();
        if (i % 8 == (long)arg)
            kss_sleep(100000);
        if (i % 8 == 3)
            kss_setpriority(0, 30 + i % 5);
    }
    return sum == expected((long)arg) ? 40 + (long)arg : 1;
}

/* Always wants the CPU, so that ticks find a thread running and others wait. */
static long spinner(void *arg)
{
    (void)arg;
    while (!over)
        work(1);
    return 0;
}

static long change_priorities(void *arg)
{
    for (long i = 0; i < 20; i++)
        kss_setpriority((long)arg, 20 + i);
    return 0;
}

static struct kss_wait_queue dozing;

static long doze(void *arg)
{
    (void)arg;
    kss_wait_event(&dozing, over);
    return 0;
}

static long dozer(void *arg)
{
    return in_kernel(doze, arg);
}

static long wake_dozer(void *arg)
{
    (void)arg;
    return kss_wake_up(&dozing, 0);
}

static long run_all(void *arg)
{
    long pid[WORKERS], spin[2], changer, last, doze_pid;
    int status = 0;
    (void)arg;
    kss_wait_queue_init(&dozing, "all is over");
    doze_pid = kss_spawn(dozer, NULL, &(struct kss_spawn_attr){ .name = "dozer" });
    test_wait_asleep(doze_pid);
    for (long i = 0; i < WORKERS; i++)
        pid[i] = kss_spawn(worker, (void *)i, NULL);
    for (int i = 0; i < 2; i++)
        spin[i] = kss_spawn(spinner, NULL, NULL);
    armed = true;
    changer = kss_spawn(change_priorities, (void *)spin[0], NULL);
    for (long i = 0; i < WORKERS; i++) {
        ck_assert_int_eq(kss_wait(pid[i], &status), pid[i]);
        ck_assert_int_eq(KSS_WEXITSTATUS(status), 40 + i);
    }
    over = true;
    in_kernel(wake_dozer, NULL);
    ck_assert_int_eq(kss_wait(doze_pid, &status), doze_pid);
    while (bad)
        kss_sleep(100000); /* the CPU may still have to become idle */
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(kss_wait(spin[i], &status), spin[i]);
    ck_assert_int_eq(kss_wait(changer, &status), changer);
    /* Life goes on under the default class. */
    last = kss_spawn(worker, (void *)3, NULL);
    ck_assert_int_eq(kss_wait(last, &status), last);
    ck_assert_int_eq(KSS_WEXITSTATUS(status), 43);
    return 0;
}

static struct kss_machine *make(struct kss_config *c)
{
    armed = false;
    drop = false;
    hold = false;
    dump_wildly = false;
    exit_crashes = false;
    exit_loops = false;
    dump_crashes = false;
    over = false;
    sleeper = victim = NULL;
    exits = seen = report_count = 0;
    exit_message[0] = '\0';
    kss_spinlock_init(&lock, "class");
    kss_wait_queue_init(&queue, "queue");
    c->sched = &naughty;
    c->tick_hz = 1000;
    c->timeslice_ns = 500000;
    c->max_threads = 64;
    c->watchdog.hard_lockup_ns = 50000000;
    struct kss_machine *m = test_machine(c);
    ck_assert_int_eq(kss_irq_request(m, 40, on_line, NULL, "line"), 0);
    return m;
}

/* ---- one case each ---------------------------------------------------------------------------------- */

static const struct bad cases[] = {
    { "crash", ENQUEUE, crash, KSS_SCHED_EXIT_CRASH, "crash", "enqueue() of thread" },
    { "crash when queued", NOWHERE, crash, KSS_SCHED_EXIT_CRASH, "crash", "enqueue() of thread" },
    { "crash", DISPATCH, crash, KSS_SCHED_EXIT_CRASH, "crash", "dispatch()" },
    { "crash", TICK, crash, KSS_SCHED_EXIT_CRASH, "crash", "tick() of thread" },
    { "crash", SELECT_CPU, crash, KSS_SCHED_EXIT_CRASH, "crash", "select_cpu() of thread" },
    { "crash", YIELD, crash, KSS_SCHED_EXIT_CRASH, "crash", "yield() of thread" },
    { "crash", RUNNABLE, crash, KSS_SCHED_EXIT_CRASH, "crash", "runnable() of thread" },
    { "crash", RUNNING, crash, KSS_SCHED_EXIT_CRASH, "crash", "running() of thread" },
    { "crash", STOPPING, crash, KSS_SCHED_EXIT_CRASH, "crash", "stopping() of thread" },
    { "crash", QUIESCENT, crash, KSS_SCHED_EXIT_CRASH, "crash", "quiescent() of thread" },
    { "crash", SET_PRIORITY, crash, KSS_SCHED_EXIT_CRASH, "crash", "set_priority() of thread" },
    { "crash", UPDATE_IDLE, crash, KSS_SCHED_EXIT_CRASH, "crash", "update_idle()" },
    { "crash", INIT, crash, KSS_SCHED_EXIT_CRASH, "crash", "init()" },
    { "crash", CPU_ONLINE, crash, KSS_SCHED_EXIT_CRASH, "crash", "cpu_online()" },
    { "crash", INIT_THREAD, crash, KSS_SCHED_EXIT_CRASH, "crash", "init_thread() of thread" },
    { "crash", EXIT_THREAD, crash, KSS_SCHED_EXIT_CRASH, "crash", "exit_thread() of thread" },
    { "crash", ENABLE, crash, KSS_SCHED_EXIT_CRASH, "crash", "enable() of thread" },
    { "crash", DISABLE, crash, KSS_SCHED_EXIT_CRASH, "crash", "disable() of thread" },
    { "divide error", DISPATCH, divide, KSS_SCHED_EXIT_CRASH, "crash", "divide error" },
    { "overflow", ENQUEUE, overflow, KSS_SCHED_EXIT_CRASH, "crash", "kernel stack overflow" },
    { "overflow", TICK, overflow, KSS_SCHED_EXIT_CRASH, "crash", "kernel stack overflow" },
    { "smash", ENQUEUE, smash, KSS_SCHED_EXIT_CRASH, "crash", "above the high end of the scheduler stack" },
    { "smash the return", DISPATCH, smash_return, KSS_SCHED_EXIT_CRASH, "crash", "dispatch()" },
    { "wild thread", TICK, insert_wild, KSS_SCHED_EXIT_BAD_PICK, "bad-pick", "tick()" },
    { "lock and crash", TICK, lock_and_crash, KSS_SCHED_EXIT_CRASH, "crash", "tick()" },
    { "crash with the tree locked", TICK, look_at_threads, KSS_SCHED_EXIT_CRASH, "crash", "tick()" },
    { "lose", ENQUEUE, lose, KSS_SCHED_EXIT_LOST_THREAD, "lost-thread", "in no dispatch queue" },
    { "put away", ENQUEUE, put_away, KSS_SCHED_EXIT_LOST_THREAD, "lost-thread", "in a dispatch queue" },
    { "hold all", DISPATCH, hold_all, KSS_SCHED_EXIT_LOST_THREAD, "lost-thread", "in a dispatch queue" },
    { "sleeper", ENQUEUE, insert_sleeper, KSS_SCHED_EXIT_BAD_PICK, "bad-pick", "SLEEPING" },
    { "sleeper", TICK, insert_sleeper, KSS_SCHED_EXIT_BAD_PICK, "bad-pick", "SLEEPING" },
    { "the running one", TICK, insert_it, KSS_SCHED_EXIT_BAD_PICK, "bad-pick", "RUNNING" },
    { "the next one", RUNNING, insert_it, KSS_SCHED_EXIT_BAD_PICK, "bad-pick", "RUNNING" },
    { "a zombie", EXIT_THREAD, insert_it, KSS_SCHED_EXIT_BAD_PICK, "bad-pick", "ZOMBIE" },
    { "a new one", ENABLE, insert_it, KSS_SCHED_EXIT_BAD_PICK, "bad-pick", "NEW" },
    { "twice", NOWHERE, insert_it, KSS_SCHED_EXIT_BAD_PICK, "bad-pick", "already" },
    { "nothing", DISPATCH, insert_nothing, KSS_SCHED_EXIT_BAD_PICK, "bad-pick", "thread is NULL" },
    { "reschedule", ENQUEUE, reschedule, KSS_SCHED_EXIT_ERROR, "error", "scheduling while atomic" },
    { "sleep", DISPATCH, sleep_a_while, KSS_SCHED_EXIT_ERROR, "error", "a system call" },
    { "wait", ENQUEUE, wait_on_queue, KSS_SCHED_EXIT_ERROR, "error", "kss_wait_prepare()" },
    { "wake", TICK, wake_others, KSS_SCHED_EXIT_ERROR, "error", "kss_wake_up()" },
    { "interrupts on", ENQUEUE, irqs_on, KSS_SCHED_EXIT_ERROR, "error", "interrupts on" },
    { "interrupt", ENQUEUE, irqs_on_and_one_comes, KSS_SCHED_EXIT_ERROR, "error", "interrupts on" },
    { "preemption", RUNNABLE, no_preemption, KSS_SCHED_EXIT_ERROR, "error", "preemption disabled" },
    { "lock", STOPPING, lock_held, KSS_SCHED_EXIT_ERROR, "error", "spinlock held" },
    { "endless", ENQUEUE, loop, KSS_SCHED_EXIT_STALL, "stall", "enqueue() of thread" },
    { "endless", DISPATCH, loop, KSS_SCHED_EXIT_STALL, "stall", "dispatch()" },
    { "endless", TICK, loop, KSS_SCHED_EXIT_STALL, "stall", "tick() of thread" },
    { "endless", INIT, loop, KSS_SCHED_EXIT_STALL, "stall", "init()" },
    { "endless in libc", RUNNABLE, loop_in_libc, KSS_SCHED_EXIT_STALL, "stall", "runnable() of thread" },
    { "endless for a lock", STOPPING, loop_for_lock, KSS_SCHED_EXIT_STALL, "stall", "stopping() of thread" },
};
#define CASES ((int)(sizeof cases / sizeof cases[0]))

/* The record and the report name the class, the reason and the thread. */
static void check_record(struct kss_machine *m, const struct bad *b)
{
    const char *record = kss_sched_record(m);
    char whom[40];
    ck_assert_ptr_nonnull(record);
    ck_assert_msg(strstr(record, "scheduler naughty ejected\nreason: ") == record, "%s", record);
    snprintf(whom, sizeof whom, "reason: %s\n", b->reason);
    ck_assert_msg(strstr(record, whom) != NULL, "%s: %s", b->what, record);
    ck_assert_msg(strstr(record, b->message) != NULL, "%s: %s", b->what, record);
    ck_assert_ptr_nonnull(strstr(record, "wait in the class's queue\n"));
    ck_assert_ptr_nonnull(strstr(record, "dump of CPU 0, "));
    if (b->op < INIT || b->op == NOWHERE)
        ck_assert_ptr_nonnull(strstr(record, "dump of thread "));
    ck_assert_int_eq(report_count, 1);
    ck_assert_int_eq(reports[0].kind, KSS_REPORT_SCHED_EJECTED);
    ck_assert_int_eq(reports[0].action, KSS_ACTION_CONTINUE);
    ck_assert_msg(strstr(reports[0].message, "scheduler naughty: ") != NULL, "%s", reports[0].message);
    ck_assert_msg(strstr(reports[0].message, b->message) != NULL, "%s", reports[0].message);
    ck_assert_int_eq(exits, 1);
    ck_assert_int_eq(exit_info.kind, b->kind);
    ck_assert_str_eq(exit_info.reason, b->reason);
    ck_assert_ptr_nonnull(strstr(record, exit_message));
    if (exit_info.tid > 0) {
        snprintf(whom, sizeof whom, "thread %d (", exit_info.tid);
        ck_assert_msg(strstr(exit_message, whom) != NULL, "%s", exit_message);
    }
}

START_TEST(ejected)
{
    const struct bad *b = &cases[_i % CASES];
    struct kss_config c = test_config();
    if (b->act == look_at_threads)
        c.lock_order = false; /* it takes the tree's lock with the scheduler's held: the checker says so, and is right */
    if (b->kind == KSS_SCHED_EXIT_LOST_THREAD)
        c.cpus = 1; /* on another one, a change of its priority may bring it back before it is missed */
    c.irq_stacks = _i < CASES ? KSS_IRQ_STACKS_NONE : KSS_IRQ_STACKS_PER_CPU;
    c.kstack_alloc = _i < CASES ? KSS_KSTACK_AT_CREATE : KSS_KSTACK_AT_FIRST_ENTRY;
    c.zombie_stacks = _i < CASES ? KSS_ZOMBIE_KEEPS_STACK : KSS_ZOMBIE_FREES_STACK;
    struct kss_machine *m = make(&c);
    bad = b;
    ck_assert_int_eq(test_run(m, run_all, NULL), 0);
    ck_assert_msg(!bad, "%s: it never came to it", b->what);
    check_record(m, b);
    if (b->act == lock_held || b->act == lock_and_crash)
        ck_assert(!lock.locked);
    ck_assert_int_eq(seen, b->act == irqs_on_and_one_comes);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
    ck_assert_int_eq(exits, 1);
}
END_TEST

/* ---- the rest --------------------------------------------------------------------------------------- */

START_TEST(exit_and_dump_crash)
{
    struct kss_config c = test_config();
    struct kss_machine *m = make(&c);
    bad = &cases[0];
    exit_crashes = dump_crashes = true;
    ck_assert_int_eq(test_run(m, run_all, NULL), 0);
    check_record(m, &cases[0]);
    ck_assert_ptr_nonnull(strstr(kss_sched_record(m), "\ndump(): kernel NULL dereference"));
    ck_assert_ptr_nonnull(strstr(kss_sched_record(m), "\nexit(): kernel NULL dereference"));
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

START_TEST(exit_never_ends)
{
    struct kss_config c = test_config();
    struct kss_machine *m = make(&c);
    bad = &cases[0];
    exit_loops = true;
    ck_assert_int_eq(test_run(m, run_all, NULL), 0);
    check_record(m, &cases[0]);
    ck_assert_ptr_nonnull(strstr(kss_sched_record(m), "\nexit(): it did not end"));
    exit_loops = false; /* exit() is not called again */
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

START_TEST(dumps_are_bounded)
{
    struct kss_config c = test_config();
    struct kss_machine *m = make(&c);
    bad = &cases[0];
    dump_wildly = true;
    ck_assert_int_eq(test_run(m, run_all, NULL), 0);
    ck_assert_uint_eq(strlen(kss_sched_record(m)), 8191);
    ck_assert_ptr_nonnull(strstr(kss_sched_record(m), "line 100\n"));
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

START_TEST(stopped_by_policy)
{
    struct kss_config c = test_config();
    c.policy[KSS_REPORT_SCHED_EJECTED] = KSS_ACTION_STOP_MACHINE;
    struct kss_machine *m = make(&c);
    bad = &cases[_i];
    ck_assert_int_eq(kss_machine_run(m, run_all, NULL, NULL), -EFAULT);
    ck_assert_int_eq(reports[0].action, KSS_ACTION_STOP_MACHINE);
    ck_assert_ptr_nonnull(kss_sched_record(m));
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

/* Not static: its name is to be seen. */
KEEP_FRAME void the_culprit(struct kss_thread *t);
KEEP_FRAME void the_culprit(struct kss_thread *t)
{
    *nowhere = t != NULL;
}

static const struct bad named = { "named", YIELD, the_culprit, KSS_SCHED_EXIT_CRASH, "crash", "yield()" };

/* The backtrace leads into the operation. */
START_TEST(culprit_is_named)
{
    struct kss_config c = test_config();
    struct kss_machine *m = make(&c);
    bool culprit = false, user = false;
    bad = &named;
    ck_assert_int_eq(test_run(m, run_all, NULL), 0);
    ck_assert_int_eq(reports[0].stack, KSS_STACK_SCHED);
    for (int i = 0; i < reports[0].frames; i++) {
        culprit |= strcmp(reports[0].frame[i].symbol, "the_culprit") == 0;
        user |= reports[0].frame[i].kind == KSS_FRAME_USER;
    }
    ck_assert(culprit);
    ck_assert(user); /* from the class's stack over the thread's into user mode */
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

START_TEST(a_good_one_stays)
{
    struct kss_config c = test_config();
    struct kss_machine *m = make(&c);
    bad = NULL;
    ck_assert_int_eq(test_run(m, run_all, NULL), 0);
    ck_assert_int_eq(report_count, 0);
    ck_assert_ptr_null(kss_sched_record(m));
    ck_assert_int_eq(exits, 0);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
    ck_assert_int_eq(exits, 1);
    ck_assert_int_eq(exit_info.kind, KSS_SCHED_EXIT_DONE);
    ck_assert_str_eq(exit_info.reason, "done");
    ck_assert_ptr_null(kss_sched_record(NULL));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_eject");
    TCase *t = tcase_create("ejected");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, ejected, 0, 2 * CASES);
    tcase_add_test(t, exit_and_dump_crash);
    tcase_add_test(t, exit_never_ends);
    tcase_add_test(t, dumps_are_bounded);
    tcase_add_loop_test(t, stopped_by_policy, 0, CASES);
    tcase_add_test(t, culprit_is_named);
    tcase_add_test(t, a_good_one_stays);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

/* SPDX-License-Identifier: MIT */
/* Faults of sleeping and waking. */
#include "faults.h"

#define LINE KSS_LINE_FREE

static struct kss_spinlock lock = KSS_SPINLOCK_INIT("experiment");
static struct kss_wait_queue queue;

static int prepare(struct kss_machine *m)
{
    (void)m;
    kss_spinlock_init(&lock, "experiment");
    kss_wait_queue_init(&queue, "experiment");
    return 0;
}

/* ---- where nobody may sleep ---------------------------------------------------------------------------------- */

KEEP_FRAME static long sleep_with_a_lock_held(void *arg)
{
    struct kss_waiter w = { 0 };
    (void)arg;
    bool on = kss_spin_lock(&lock);
    kss_wait_prepare(&queue, &w);
    kss_wait_sleep();
    kss_wait_finish(&w);
    kss_spin_unlock(&lock, on);
    return 0;
}

KEEP_FRAME static long yield_with_a_lock_held(void *arg)
{
    (void)arg;
    bool on = kss_spin_lock(&lock);
    kss_reschedule();
    kss_spin_unlock(&lock, on);
    return 0;
}

KEEP_FRAME static long sleep_with_interrupts_off(void *arg)
{
    struct kss_waiter w = { 0 };
    (void)arg;
    kss_irq_disable();
    kss_wait_prepare(&queue, &w);
    kss_wait_sleep();
    kss_wait_finish(&w);
    kss_irq_enable();
    return 0;
}

KEEP_FRAME static long sleep_with_preemption_disabled(void *arg)
{
    (void)arg;
    kss_preempt_disable();
    kss_reschedule();
    kss_preempt_enable();
    return 0;
}

KEEP_FRAME static void sleep_in_handler(unsigned line, void *arg)
{
    (void)arg;
    kss_reschedule();
    kss_irq_eoi(line);
}

static int prepare_handler(struct kss_machine *m)
{
    return kss_irq_request(m, LINE, sleep_in_handler, NULL, "sleepy");
}

static long raise_line(void *arg)
{
    (void)arg;
    return kss_irq_raise(kss_machine_current(), 0, LINE);
}

/* ---- lockups ------------------------------------------------------------------------------------------------- */

#define SOON_NS 20000000

/* One watchdog each: a slow host is not to set off another. */
static void soft_lockups_soon(struct kss_config *c)
{
    c->watchdog.soft_lockup_ns = SOON_NS;
}

static void hard_lockups_soon(struct kss_config *c)
{
    c->watchdog.hard_lockup_ns = 5 * SOON_NS;
}

static void hung_tasks_soon(struct kss_config *c)
{
    c->watchdog.hung_task_ns = SOON_NS;
}

KEEP_FRAME static long spin_without_preemption(void *arg)
{
    (void)arg;
    kss_preempt_disable();
    while (!fault_reports)
        ;
    kss_preempt_enable();
    return 0;
}

KEEP_FRAME static long spin_with_interrupts_off(void *arg)
{
    volatile int for_ever = !arg;
    kss_irq_disable();
    while (for_ever)
        ;
    kss_irq_enable();
    return 0;
}

static const char *waited(const struct fault_run *r)
{
    return r->report[0].waited_ns >= SOON_NS ? NULL : "the report came too early";
}

/* ---- sleepers ------------------------------------------------------------------------------------------------ */

static volatile int condition, spinning; /* not bool: gcc, with UBSan, reads that once only */

static int prepare_sleeper(struct kss_machine *m)
{
    condition = false;
    spinning = false;
    return prepare(m);
}

KEEP_FRAME static long wait_for_what_never_comes(void *arg)
{
    (void)arg;
    kss_wait_event(&queue, condition);
    return 0;
}

/* The wake-up comes after the test and before the sleep: an interrupt here would do the same. */
KEEP_FRAME static long sleep_without_a_second_test(void *arg)
{
    struct kss_waiter w = { 0 };
    (void)arg;
    if (!condition) {
        condition = true;
        kss_wake_up(&queue, 0);
        kss_wait_prepare(&queue, &w);
        kss_wait_sleep();
        kss_wait_finish(&w);
    }
    return 0;
}

static long let_go(void *arg)
{
    (void)arg;
    condition = true;
    return kss_wake_up(&queue, 0);
}

static long sleep_in_kernel(void *arg)
{
    return fault_in_kernel((long (*)(void *))arg, NULL);
}

/* A thread of its own sleeps; this one waits for the report, and then for the thread. */
static long watch_sleeper(long (*fn)(void *arg))
{
    struct kss_spawn_attr attr = { .name = "sleeper" };
    long tid = kss_thread_create(sleep_in_kernel, (void *)fn, &attr);
    if (!fault_expect(tid > 0, "no thread: %s", kss_last_error()))
        return 1;
    while (!fault_reports)
        kss_yield();
    fault_in_kernel(let_go, NULL);
    return kss_thread_join(tid, NULL);
}

static long hang(void *arg)
{
    (void)arg;
    return watch_sleeper(wait_for_what_never_comes);
}

static long lose_a_wake_up(void *arg)
{
    (void)arg;
    return watch_sleeper(sleep_without_a_second_test);
}

static const char *is_the_sleeper(const struct fault_run *r)
{
    return strcmp(r->report[0].thread_name, "sleeper") == 0 ? waited(r) : "the report is about another thread";
}

/* ---- changes of state that do not exist -------------------------------------------------------------------------- */


static long spin_in_user_mode(void *arg)
{
    spinning = true;
    while (!condition)
        ;
    return (long)arg;
}

static long sleep_on_queue(void *arg)
{
    (void)arg;
    kss_wait_event(&queue, condition);
    return 0;
}

static long is_asleep(void *arg)
{
    struct kss_thread_info_snapshot s[64];
    int n = kss_threads(kss_machine_current(), s, 64);
    for (int i = 0; i < n && i < 64; i++)
        if (s[i].tid == (int)(long)arg)
            return s[i].state == KSS_THREAD_SLEEPING && s[i].kstack_depth;
    return 0;
}

/* A thread that is in user mode, and does not ask for it. */
KEEP_FRAME static long put_another_to_sleep(void *arg)
{
    struct kss_thread *t = kss_thread_find(kss_machine_current(), (int)(long)arg);
    int r = kss_thread_set_state(t, KSS_THREAD_SLEEPING);
    fault_expect(r == -EINVAL, "kss_thread_set_state() gave %d", r);
    return 0;
}

/* Interrupts off: it can't run between the two. */
KEEP_FRAME static long wake_it_twice(void *arg)
{
    struct kss_thread *t = kss_thread_find(kss_machine_current(), (int)(long)arg);
    condition = true;
    bool on = kss_irq_save();
    int first = kss_thread_set_state(t, KSS_THREAD_READY), second = kss_thread_set_state(t, KSS_THREAD_READY);
    kss_irq_restore(on);
    fault_expect(first == 0 && second == -EINVAL, "kss_thread_set_state() gave %d, then %d", first, second);
    return 0;
}

KEEP_FRAME static long declare_oneself_dead(void *arg)
{
    (void)arg;
    int r = kss_thread_set_state(kss_current(), KSS_THREAD_DEAD);
    fault_expect(r == -EINVAL, "kss_thread_set_state() gave %d", r);
    return 0;
}

static long sleep_in_user(void *arg)
{
    (void)arg;
    long tid = kss_thread_create(spin_in_user_mode, NULL, NULL);
    while (!spinning)
        kss_yield();
    fault_in_kernel(put_another_to_sleep, (void *)tid);
    condition = true;
    return kss_thread_join(tid, NULL);
}

static long wake_twice(void *arg)
{
    (void)arg;
    long tid = kss_thread_create(sleep_in_kernel, (void *)sleep_on_queue, NULL);
    while (fault_in_kernel(is_asleep, (void *)tid) != 1)
        kss_yield();
    fault_in_kernel(wake_it_twice, (void *)tid);
    return kss_thread_join(tid, NULL);
}

#define REFUSED_STATE(row_, what_, in, fn, culprit_, sentence_)                                             \
    { row_, NULL, what_, .prepare = prepare_sleeper, .in = fn, .kind = KSS_REPORT_BAD_TRANSITION,          \
      .action = KSS_ACTION_CONTINUE, .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL, .culprit = culprit_, \
      .sentence = sentence_, .status = EXITED(0) }

#define ATOMIC(variant_, what_, prepare_, fn, culprit_)                                                      \
    { "scheduling-while-atomic", variant_, what_, .prepare = prepare_, .kernel = fn,                        \
      .kind = KSS_REPORT_ATOMIC_SLEEP, .action = KSS_ACTION_STOP_MACHINE, .stack = KSS_STACK_TASK,          \
      .mode = KSS_MODE_KERNEL, .culprit = culprit_ }

const struct fault faults_sched[] = {
    ATOMIC(NULL, "Kernel code goes to sleep while it holds a spinlock.", prepare, sleep_with_a_lock_held,
           "sleep_with_a_lock_held"),
    ATOMIC("irq", "An interrupt handler gives up the CPU.", prepare_handler, raise_line, "sleep_in_handler"),
    ATOMIC("irqs-off", "Kernel code goes to sleep with interrupts off.", prepare, sleep_with_interrupts_off,
           "sleep_with_interrupts_off"),
    ATOMIC("preempt-off", "Kernel code gives up the CPU with preemption disabled.", prepare,
           sleep_with_preemption_disabled, "sleep_with_preemption_disabled"),
    ATOMIC("yield", "Kernel code lets others run while it holds a spinlock.", prepare, yield_with_a_lock_held,
           "yield_with_a_lock_held"),
    REFUSED_STATE("sleep-in-user", "A thread that runs in user mode is to be made SLEEPING by another.", user,
                  sleep_in_user, "put_another_to_sleep", "-> SLEEPING"),
    REFUSED_STATE("wake-twice", "A sleeping thread is made READY twice.", user, wake_twice, "wake_it_twice",
                  "READY -> READY"),
    REFUSED_STATE("bad-transition", "A running thread declares itself DEAD.", kernel, declare_oneself_dead,
                  "declare_oneself_dead", "RUNNING -> DEAD, its own"),
    { "soft-lockup", NULL, "Kernel code spins with preemption disabled.", .configure = soft_lockups_soon,
      .kernel = spin_without_preemption, .kind = KSS_REPORT_SOFT_LOCKUP, .action = KSS_ACTION_CONTINUE,
      .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL, .culprit = "spin_without_preemption",
      .status = EXITED(0), .check = waited },
    { "hard-lockup", NULL, "Kernel code spins with interrupts off.", .configure = hard_lockups_soon,
      .kernel = spin_with_interrupts_off, .kind = KSS_REPORT_HARD_LOCKUP, .action = KSS_ACTION_STOP_MACHINE,
      .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL, .culprit = "spin_with_interrupts_off", .check = waited },
    { "hung-task", NULL, "A thread sleeps on what never comes, and no kill would end it.", .configure = hung_tasks_soon,
      .prepare = prepare_sleeper, .user = hang, .kind = KSS_REPORT_HUNG_TASK, .action = KSS_ACTION_CONTINUE,
      .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL, .culprit = "wait_for_what_never_comes",
      .sentence = "on experiment", .status = EXITED(0), .check = is_the_sleeper },
    { "lost-wakeup", NULL, "A thread tests its condition, is woken, and then sleeps without a second test.",
      .configure = hung_tasks_soon, .prepare = prepare_sleeper, .user = lose_a_wake_up, .kind = KSS_REPORT_LOST_WAKEUP,
      .action = KSS_ACTION_CONTINUE, .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL,
      .culprit = "sleep_without_a_second_test", .sentence = "on experiment", .status = EXITED(0),
      .check = is_the_sleeper },
    { 0 },
};

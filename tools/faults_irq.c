/* SPDX-License-Identifier: MIT */
/* Faults of interrupts and of their handlers. */
#include "faults.h"

#define LINE KSS_LINE_FREE
#define UNKNOWN_LINE (KSS_LINE_FREE + 5) /* nobody handles it */

static long raise_line(void *arg)
{
    (void)arg;
    return kss_irq_raise(kss_machine_current(), 0, LINE);
}

/* ---- a bad access in a handler ------------------------------------------------------------------------------- */

BROKEN static void read_null_in_handler(unsigned line, void *arg)
{
    volatile int *volatile p = arg;
    volatile int value = *p;
    (void)value;
    kss_irq_eoi(line);
}

static int prepare_bad_handler(struct kss_machine *m)
{
    return kss_irq_request(m, LINE, read_null_in_handler, NULL, "bad");
}

/* ---- raised faster than delivered ------------------------------------------------------------------------------ */

#define RAISES 1000
static volatile unsigned long handled;
static struct kss_irq_stats account;

static void counting_handler(unsigned line, void *arg)
{
    (void)arg;
    handled++;
    kss_irq_eoi(line);
}

static int prepare_counting(struct kss_machine *m)
{
    handled = 0;
    memset(&account, 0, sizeof account);
    return kss_irq_request(m, LINE, counting_handler, NULL, "counting");
}

static long raise_faster_than_delivered(void *arg)
{
    struct kss_machine *m = kss_machine_current();
    struct kss_irq_stats s;
    (void)arg;
    kss_irq_disable();
    for (int i = 0; i < RAISES; i++)
        kss_irq_raise(m, 0, LINE);
    kss_irq_stats(m, 0, LINE, &s);
    fault_expect(s.raised == RAISES && s.pending == 1 && s.lost == RAISES - 1 && s.delivered == 0,
                 "with interrupts off: raised %lu, delivered %lu, pending %u, lost %lu", (unsigned long)s.raised,
                 (unsigned long)s.delivered, s.pending, (unsigned long)s.lost);
    kss_irq_enable();
    kss_irq_stats(m, 0, LINE, &account);
    return 0;
}

static const char *adds_up(const struct fault_run *r)
{
    (void)r;
    if (handled != 1)
        return "the handler did not run once";
    if (account.raised != account.delivered + account.pending + account.lost)
        return "raised is not delivered + pending + lost";
    return account.raised == RAISES && account.delivered == 1 && !account.pending && account.lost == RAISES - 1
               ? NULL : "the account is not 1000 raised, 1 delivered, 999 lost";
}

/* ---- no end of interrupt, no handler --------------------------------------------------------------------------- */

static void soon(struct kss_config *c)
{
    c->watchdog.eoi_ns = 20000000;
}

KEEP_FRAME static void forget_the_end_of_interrupt(unsigned line, void *arg)
{
    (void)line;
    (void)arg;
    handled++;
}

static int prepare_forgetful(struct kss_machine *m)
{
    handled = 0;
    return kss_irq_request(m, LINE, forget_the_end_of_interrupt, NULL, "forgetful");
}

/* With the line in service its priority is held back; the report comes while this has the CPU. */
KEEP_FRAME static long raise_and_wait_for_report(void *arg)
{
    (void)arg;
    kss_preempt_disable();
    kss_irq_raise(kss_machine_current(), 0, LINE);
    kss_irq_raise(kss_machine_current(), 0, LINE);
    while (!fault_reports)
        ;
    fault_expect(handled == 1, "the handler ran %lu times before the end of interrupt", handled);
    fault_expect(kss_irq_eoi(LINE) == 0, "late end of interrupt: %s", kss_last_error());
    fault_expect(handled == 2, "the line that was held back did not come");
    kss_irq_eoi(LINE);
    kss_preempt_enable();
    return 0;
}

static const char *names_the_line(const struct fault_run *r)
{
    return r->report[0].line == LINE ? NULL : "the report names another line";
}

static const char *counts_each(const struct fault_run *r)
{
    struct kss_irq_stats s = { 0 };
    kss_irq_stats(r->machine, 0, UNKNOWN_LINE, &s);
    return r->report[0].line == UNKNOWN_LINE && s.unhandled == 5 && s.delivered == 5 ? NULL : "not each of 5 was counted";
}

KEEP_FRAME static long raise_a_line_without_handler(void *arg)
{
    (void)arg;
    for (int i = 0; i < 5; i++)
        kss_irq_raise(kss_machine_current(), 0, UNKNOWN_LINE);
    return 0;
}

/* ---- a handler that raises its own line again and again --------------------------------------------------------- */

static volatile bool storm_over;

KEEP_FRAME static void raise_it_again(unsigned line, void *arg)
{
    (void)arg;
    handled++;
    if (!storm_over)
        kss_irq_raise(kss_machine_current(), 0, line);
    kss_irq_eoi(line);
}

static int prepare_storm(struct kss_machine *m)
{
    handled = 0;
    storm_over = false;
    return kss_irq_request(m, LINE, raise_it_again, NULL, "again");
}

/* Gets on when the line is held back. When it comes again, it stops. Without preemption: ticks come through a storm as
   well, and the report would be about whoever has the CPU. */
KEEP_FRAME static long start_a_storm(void *arg)
{
    struct kss_machine *m = kss_machine_current();
    struct kss_irq_stats s;
    (void)arg;
    kss_preempt_disable();
    kss_irq_raise(m, 0, LINE);
    storm_over = true;
    kss_irq_stats(m, 0, LINE, &s);
    fault_expect(s.storms == 1 && s.held && s.pending, "storms %lu, held %d, pending %u", (unsigned long)s.storms, s.held,
                 s.pending);
    while (s.held || s.pending)
        kss_irq_stats(m, 0, LINE, &s);
    fault_expect(s.raised == s.delivered && s.delivered == handled && s.held_ns, "raised %lu, delivered %lu, handled %lu",
                 (unsigned long)s.raised, (unsigned long)s.delivered, handled);
    kss_preempt_enable();
    return 0;
}

/* ---- what a handler leaves behind ------------------------------------------------------------------------------ */

static struct kss_spinlock lock;

static int prepare_lock(struct kss_machine *m)
{
    (void)m;
    kss_spinlock_init(&lock, "experiment");
    return 0;
}

KEEP_FRAME static long return_with_interrupts_off(void *arg)
{
    (void)arg;
    kss_irq_disable();
    return 0;
}

KEEP_FRAME static long return_with_a_lock_held(void *arg)
{
    (void)arg;
    kss_spin_lock(&lock);
    return 0;
}

/* Put right at the exit: the next call finds interrupts on and the lock free. */
static long look_after_leak(void *arg)
{
    (void)arg;
    fault_expect(kss_irqs_enabled(), "interrupts are off in the next system call");
    fault_expect(kss_preempt_count() == 0, "preemption is disabled in the next system call");
    fault_expect(!lock.locked, "the lock is still held in the next system call");
    return 0;
}

static long leak_interrupts(void *arg)
{
    fault_in_kernel(return_with_interrupts_off, arg);
    return fault_in_kernel(look_after_leak, arg);
}

static long leak_a_lock(void *arg)
{
    fault_in_kernel(return_with_a_lock_held, arg);
    return fault_in_kernel(look_after_leak, arg);
}

KEEP_FRAME static void handler_disables_preemption(unsigned line, void *arg)
{
    (void)arg;
    kss_preempt_disable();
    kss_irq_eoi(line);
}

static int prepare_leaky(struct kss_machine *m)
{
    return kss_irq_request(m, LINE, handler_disables_preemption, NULL, "leaky");
}

static long leak_from_handler(void *arg)
{
    fault_in_kernel(raise_line, arg);
    return fault_in_kernel(look_after_leak, arg);
}

#define LEAKS(variant_, what_, prepare_, fn, culprit_, sentence_)                                           \
    { "irq-state-leak", variant_, what_, .prepare = prepare_, .user = fn, .kind = KSS_REPORT_STATE_LEAK,   \
      .action = KSS_ACTION_CONTINUE, .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL, .culprit = culprit_, \
      .sentence = sentence_, .status = EXITED(0) }

const struct fault faults_irq[] = {
    LEAKS(NULL, "A system call returns with interrupts off.", prepare_lock, leak_interrupts,
          "return_with_interrupts_off", "returned with interrupts off"),
    LEAKS("lock", "A system call returns with a spinlock held.", prepare_lock, leak_a_lock, "return_with_a_lock_held",
          "spinlock \"experiment\" held"),
    LEAKS("handler", "An interrupt handler returns with preemption disabled.", prepare_leaky, leak_from_handler,
          "handler_disables_preemption", "(leaky) returned with preemption disabled"),
    { "missing-eoi", NULL, "An interrupt handler returns without the end of interrupt.", .configure = soon,
      .prepare = prepare_forgetful, .kernel = raise_and_wait_for_report, .kind = KSS_REPORT_MISSING_EOI,
      .action = KSS_ACTION_CONTINUE, .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL,
      .culprit = "forget_the_end_of_interrupt", .sentence = "(forgetful)", .status = EXITED(0),
      .check = names_the_line },
    { "spurious-interrupt", NULL, "A line is raised that nobody handles: told once, counted each time.",
      .kernel = raise_a_line_without_handler, .kind = KSS_REPORT_SPURIOUS, .action = KSS_ACTION_CONTINUE,
      .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL, .culprit = "raise_a_line_without_handler",
      .status = EXITED(0), .check = counts_each },
    { "fault-in-interrupt", NULL, "An interrupt handler reads through a null pointer.",
      .prepare = prepare_bad_handler, .kernel = raise_line, .kind = KSS_REPORT_FAULT_IN_IRQ,
      .action = KSS_ACTION_STOP_MACHINE, .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL,
      .culprit = "read_null_in_handler" },
    { "interrupt-storm", NULL, "A handler raises its own line again and again: it is held back, and others get on.",
      .prepare = prepare_storm, .kernel = start_a_storm, .kind = KSS_REPORT_IRQ_STORM, .action = KSS_ACTION_CONTINUE,
      .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL, .culprit = "raise_it_again", .sentence = "(again)",
      .status = EXITED(0), .check = names_the_line },
    { "lost-interrupts", NULL, "A line is raised 1000 times while interrupts are off: one is pending, 999 are lost.",
      .prepare = prepare_counting, .kernel = raise_faster_than_delivered, .quiet = true, .status = EXITED(0),
      .check = adds_up },
    { 0 },
};

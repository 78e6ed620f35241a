/* SPDX-License-Identifier: MIT */
/* What the tests of softirqs share: a machine with an interrupt line, quiet but for it, and an order of events. */
#ifndef SOFTIRQ_H
#define SOFTIRQ_H

#include "harness.h"

#define LINE 40
#define OTHER 41

static struct kss_machine *machine __attribute__((unused));
static char order[256] __attribute__((unused));

static inline void say(const char *what)
{
    ck_assert_uint_lt(strlen(order) + strlen(what), sizeof order);
    strcat(order, what);
}

static inline void raise_softirq(unsigned number)
{
    ck_assert_int_eq(kss_softirq_raise(number), 0);
}

static inline long raise_line(void *arg)
{
    return kss_irq_raise(machine, 0, (unsigned)(long)arg);
}

/* Ticks are no part of what is tested, but where a test says so: an interrupt more runs softirqs that wait. */
static inline struct kss_config quiet(enum kss_irq_stacks stacks)
{
    struct kss_config c = test_config();
    c.cpus = 1; /* the lines come to CPU 0: that is where whoever raises them is to be */
    c.irq_stacks = stacks;
    c.watchdog = (struct kss_watchdog){ 0 };
    return c;
}

static inline void build(const struct kss_config *c, kss_irq_fn isr)
{
    machine = test_machine(c);
    order[0] = '\0';
    ck_assert_int_eq(kss_irq_request(machine, LINE, isr, NULL, "line"), 0);
    if (c->watchdog.hung_task_ns == 0) /* quiet() */
        ck_assert_int_eq(kss_irq_mask(machine, KSS_LINE_TIMER), 0);
}

static inline void request(unsigned number, kss_softirq_fn fn)
{
    ck_assert_int_eq(kss_softirq_request(machine, number, fn, (void *)(long)number, "test"), 0);
}

static inline void run(kss_user_fn fn)
{
    ck_assert_int_eq(test_run(machine, fn, NULL), 0);
    ck_assert_int_eq(report_count, 0);
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}

static inline void say_number(void *arg)
{
    char text[8];
    ck_assert(kss_in_softirq());
    ck_assert(!kss_in_irq());
    ck_assert(kss_irqs_enabled());
    snprintf(text, sizeof text, "%ld", (long)arg);
    say(text);
}

static inline void isr_raises_one(unsigned line, void *arg)
{
    (void)arg;
    raise_softirq(2);
    kss_irq_eoi(line);
}

static inline void isr_quiet(unsigned line, void *arg)
{
    (void)arg;
    kss_irq_eoi(line);
}

#endif

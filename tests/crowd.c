/* SPDX-License-Identifier: MIT */
#include "crowd.h"

_Atomic long wrong;
void (*crowd_isr)(void);
static long (*crowd_fn)(void *);
static int crowd_rounds;
static unsigned crowd_threads;
static _Atomic unsigned started;

static volatile unsigned inside;
static volatile unsigned long passes, passes_too;

void only_one_enters(void)
{
    MUST(inside == 0);
    MUST(passes == passes_too);
    inside = inside + 1;
    passes = passes + 1;
}

void only_one_leaves(void)
{
    passes_too = passes_too + 1;
    MUST(inside == 1);
    inside = inside - 1;
}

static void isr(unsigned line, void *arg)
{
    (void)arg;
    if (crowd_isr)
        crowd_isr();
    kss_irq_eoi(line);
}

static long one(void *arg)
{
    started++;
    while (started < crowd_threads)
        kss_yield();
    for (int i = 0; i < crowd_rounds; i++)
        in_kernel(crowd_fn, arg);
    return 0;
}

static long crowd_main(void *arg)
{
    long tid[64];
    (void)arg;
    for (unsigned i = 0; i < crowd_threads; i++)
        tid[i] = kss_thread_create(one, (void *)(long)i, NULL);
    for (unsigned i = 0; i < crowd_threads; i++)
        kss_thread_join(tid[i], NULL);
    return 0;
}

void crowd(const struct kss_config *c, unsigned threads, long (*fn)(void *), int rounds)
{
    struct kss_machine *m = test_machine(c);
    crowd_fn = fn;
    crowd_rounds = rounds;
    crowd_threads = threads;
    started = 0;
    wrong = 0;
    inside = 0;
    passes = passes_too = 0;
    report_count = 0;
    ck_assert_int_eq(kss_irq_request(m, 40, isr, NULL, "crowd"), 0);
    ck_assert_int_eq(test_run(m, crowd_main, NULL), 0);
    ck_assert_int_eq(report_count, 0);
    ck_assert_int_eq(wrong, 0);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
    crowd_isr = NULL;
}

/* SPDX-License-Identifier: MIT */
/* What the tests of deferred work share: machines of some CPUs, at some rates of ticks. */
#ifndef DEFER_H
#define DEFER_H

#include "harness.h"

#include <stdatomic.h>

/* KSS_TEST_CPUS: on how many CPUs; 1 where the machine can't have them. */
static inline struct kss_config defer_config(unsigned hz)
{
    struct kss_config c = test_config();
    const char *cpus = getenv("KSS_TEST_CPUS");
    struct kss_machine *m = NULL;
    c.tick_hz = hz;
    c.check_switches = hz < 1000;
    if (!cpus || atoi(cpus) < 1)
        return c;
    c.cpus = (unsigned)atoi(cpus);
    if (kss_machine_create(&m, &c) < 0)
        c.cpus = 1;
    kss_machine_destroy(m);
    return c;
}

static const unsigned defer_rates[] = { 250, 10000 };

/* All of it in kernel mode, by the machine's first process, which then ends. */
static inline long defer_main(void *fn)
{
    return in_kernel((long (*)(void *))fn, NULL);
}

/* A check that fails in a simulated process hangs libcheck: they are told afterwards, by the first that fails. */
static _Atomic int defer_wrong_line;
static _Atomic long defer_wrong_value;

#define EXPECT(condition, value)                          \
    do {                                                  \
        int none_ = 0;                                    \
        if (!(condition) && atomic_compare_exchange_strong(&defer_wrong_line, &none_, __LINE__)) \
            defer_wrong_value = (long)(value);            \
    } while (0)
#define EXPECT_EQ(a, b)          \
    do {                         \
        long a_ = (long)(a);     \
        EXPECT(a_ == (long)(b), a_); \
    } while (0)
/* The last error has this in its sentence. */
#define EXPECT_SAYS(text) EXPECT(strstr(kss_last_error(), (text)) != NULL, 0)

/* Kernel mode, in a machine with these ticks; nothing may be reported. */
static inline void defer_run(unsigned hz, long (*kernel)(void *arg))
{
    struct kss_config c = defer_config(hz);
    defer_wrong_line = 0;
    report_count = 0;
    int status = test_boot(&c, defer_main, (void *)kernel);
    ck_assert_msg(!defer_wrong_line, "line %d: %ld", (int)defer_wrong_line, (long)defer_wrong_value);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(report_count, 0);
}

#endif

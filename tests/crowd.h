/* SPDX-License-Identifier: MIT */
/* What the tests of locks share: many threads that do the same in kernel mode, and what they found wrong. */
#ifndef CROWD_H
#define CROWD_H

#include "harness.h"

#include <stdatomic.h>

#define CROWD 12

/* What must not be, counted; for the host to look at. */
extern _Atomic long wrong;
#define MUST(x)                                                        \
    do {                                                               \
        if (!(x)) {                                                    \
            wrong++;                                                   \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);    \
        }                                                              \
    } while (0)

/* Boots with threads that each call fn(number) `rounds` times, one system call each, all at a time. */
void crowd(const struct kss_config *c, unsigned threads, long (*fn)(void *number), int rounds);
/* Line 40's handler in such a machine, if any. */
extern void (*crowd_isr)(void);
/* Is the one who calls the only one, between these? Not atomic: that is the test. */
void only_one_enters(void);
void only_one_leaves(void);

#endif

/* SPDX-License-Identifier: MIT */
/* What the tests of bad input share: an error must have its number, and a sentence of its own. */
#ifndef ERRORS_H
#define ERRORS_H

#include "harness.h"

/* The sentence is cleared first, so that an old one does not count. */
#define RESULT_OF(call) (kss_set_error(0, "%s", ""), (long)(call))

#define FAILS(call, error)                                                                      \
    do {                                                                                        \
        long r_ = RESULT_OF(call);                                                              \
        ck_assert_msg(r_ == -(error), "%s: %ld (%s), not %d", #call, r_, kss_last_error(),      \
                      -(error));                                                                \
        ck_assert_msg(kss_last_error()[0] != '\0', "%s: %ld without a sentence", #call, r_);     \
    } while (0)

/* And the sentence says what it is about. */
#define FAILS_SAYING(call, error, word)                                                          \
    do {                                                                                         \
        FAILS(call, error);                                                                      \
        ck_assert_msg(strstr(kss_last_error(), (word)) != NULL, "%s: \"%s\" does not say \"%s\"", \
                      #call, kss_last_error(), (word));                                          \
    } while (0)

/* Where no sentence may be written. */
#define FAILS_SILENTLY(call, error)                                                             \
    do {                                                                                        \
        long r_ = RESULT_OF(call);                                                              \
        ck_assert_msg(r_ == -(error), "%s: %ld, not %d", #call, r_, -(error));                   \
    } while (0)

/* Runs fn as the first process; nobody may have been killed or reported. */
static inline void run_quietly(const struct kss_config *c, const struct kss_device_ops *ops, kss_user_fn fn)
{
    struct kss_machine *m = test_machine(c);
    if (ops)
        ck_assert_int_eq(kss_device_register(m, "device", ops, NULL), 0);
    int status = test_run(m, fn, NULL);
    ck_assert_msg(status == 0, "status %#x", (unsigned)status);
    ck_assert_int_eq(report_count, 0);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}

#endif

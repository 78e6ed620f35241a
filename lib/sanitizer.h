/* SPDX-License-Identifier: MIT */
/*
 * What AddressSanitizer has to be told about stacks. It marks the bytes around a function's variables as bad when
 * the function is entered and as good when it returns, and believes that a host thread has one stack, whose frames
 * a call that never returns gives up. Here there are many stacks, mode switches go from one to another without a
 * call, and frames end without a return. In other builds all of this is nothing.
 */
#ifndef KSSI_SANITIZER_H
#define KSSI_SANITIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define KSSI_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KSSI_ASAN 1
#endif
#endif
#ifndef KSSI_ASAN
#define KSSI_ASAN 0
#endif

/* The address range of a stack: what entry code checks a frame against before moving it there. */
struct kssi_range {
    uintptr_t low, high;
};

#if KSSI_ASAN
#include <sanitizer/asan_interface.h>

/* Not instrumented: a function that reads whole stacks, live ones too, between the variables and in them; or one
   that runs where the sanitizer's own code can't. */
#define KSSI_UNSANITIZED __attribute__((no_sanitize("address")))

/* memcmp() == 0 for whole words of a stack. The sanitizer looks into calls of memcmp() itself. */
KSSI_UNSANITIZED static inline bool kssi_stack_equal(const void *a, const void *b, size_t n)
{
    const volatile uint64_t *x = a, *y = b;
    for (size_t i = 0; i < n / 8; i++)
        if (x[i] != y[i])
            return false;
    return true;
}

/* No frame in [low, high) is live any more, whether it has returned or not. */
static inline void kssi_frames_gone(uintptr_t low, uintptr_t high)
{
    __asan_unpoison_memory_region((const void *)low, high - low);
}

/* This CPU runs on that stack now, or from its next instructions on. Returns what it was on. */
struct kssi_range kssi_stack_in_use(struct kssi_range stack);
#else
#define KSSI_UNSANITIZED

static inline bool kssi_stack_equal(const void *a, const void *b, size_t n)
{
    return memcmp(a, b, n) == 0;
}

static inline void kssi_frames_gone(uintptr_t low, uintptr_t high)
{
    (void)low;
    (void)high;
}

static inline struct kssi_range kssi_stack_in_use(struct kssi_range stack)
{
    return stack;
}
#endif
#endif

/* SPDX-License-Identifier: MIT */
/* How the live machine gets along with AddressSanitizer's runtime: see lib/sanitizer.h. */
#define _GNU_SOURCE
#include "hw.h"

#include <dlfcn.h>
#include <errno.h>

#if KSSI_ASAN
extern int __asan_option_detect_stack_use_after_return; /* part of the compiler's interface to the runtime */

/* Can the machine run with the runtime as it is? */
int kssi_sanitizer_probe(void)
{
    if (__asan_option_detect_stack_use_after_return)
        return kssi_error(-ENOTSUP, "AddressSanitizer keeps local variables off the stack: set "
                                    "detect_stack_use_after_return=0 in ASAN_OPTIONS or in __asan_default_options()");
    kssi_hostcall_refresh();
    if (!kssi_hostcall_contains((uintptr_t)__asan_unpoison_memory_region))
        return kssi_error(-ENOTSUP, "AddressSanitizer's runtime is part of the program, so that an interrupt can't "
                                    "tell its code from the program's: link with -shared-libasan");
    return 0;
}

/* Through pointers: the stub that a call of a library function goes through would lie elsewhere. */
static void (*volatile start_switch)(void **, const void *, size_t) = __sanitizer_start_switch_fiber;
static void (*volatile finish_switch)(void *, const void **, size_t *) = __sanitizer_finish_switch_fiber;
extern const char __start_kssi_one_piece[], __stop_kssi_one_piece[];

/* The runtime ends the process when a second switch starts inside a first one. So this is host code, which not even
   a non-maskable interrupt breaks into. */
__attribute__((section("kssi_one_piece"))) KSSI_UNSANITIZED struct kssi_range kssi_stack_in_use(struct kssi_range stack)
{
    const void *low = NULL;
    size_t size = 0;
    start_switch(NULL, (const void *)stack.low, stack.high - stack.low);
    finish_switch(NULL, &low, &size);
    return (struct kssi_range){ (uintptr_t)low, (uintptr_t)low + size };
}

struct kssi_range kssi_sanitizer_code(void)
{
    return (struct kssi_range){ (uintptr_t)__start_kssi_one_piece, (uintptr_t)__stop_kssi_one_piece };
}

/* The runtime's swapcontext() warns, and clears the marks of the whole stack that it switches to. */
kssi_swapcontext_fn *kssi_sanitizer_swapcontext(void)
{
    void *libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    void *found = libc ? dlsym(libc, "swapcontext") : NULL;
    return found ? (kssi_swapcontext_fn *)found : swapcontext;
}
#else
extern void __asan_unpoison_memory_region(void const volatile *, size_t) __attribute__((weak));

int kssi_sanitizer_probe(void)
{
    if (__asan_unpoison_memory_region)
        return kssi_error(-ENOTSUP, "the program is built with AddressSanitizer, this library is not: frames that end "
                                    "without a return would look like errors; build it with -fsanitize=address");
    return 0;
}
#endif

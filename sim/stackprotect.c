/* SPDX-License-Identifier: MIT */
/*
 * The compiler's stack protector (-fstack-protector) calls __stack_chk_fail() when a function's canary is
 * overwritten, and libc's would end the host process. This one is found before it, and gives a report. On a host
 * thread libc's is called as if this one were not there.
 */
#define _GNU_SOURCE
#include "hw.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

KSS_API void __stack_chk_fail(void) __attribute__((noreturn));

void __stack_chk_fail(void)
{
    /* One byte back: the call may be its function's last instruction, with another function behind it. */
    if (kssi_this_cpu())
        kssi_stack_smashed((uintptr_t)__builtin_return_address(0) - 1);
    void (*libc)(void) = (void (*)(void))dlsym(RTLD_NEXT, "__stack_chk_fail");
    if (libc)
        libc();
    fputs("*** stack smashing detected ***\n", stderr);
    abort();
}

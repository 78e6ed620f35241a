/* SPDX-License-Identifier: MIT */
/* Built with the compiler's stack protector for every function, whatever the rest is built with. */
#include "faults_smash.h"

#if defined(__x86_64__)
#include "faults_x86_64.h"
#endif

/* What lies between the buffer and the canary, and what lies behind it, is another matter with each compiler. */
BROKEN long overrun_a_buffer(void *arg)
{
    volatile uintptr_t buffer[2] = { 0, 0 };
    volatile uintptr_t *word = buffer + 2;
    (void)arg;
    while (*word != machine_stack_canary())
        word++;
    *word = 0x7878787878787878;
    return (long)buffer[0];
}

/* SPDX-License-Identifier: MIT */
/* Built with the compiler's stack protector: overruns a buffer of its own, in whatever mode it is called. */
#include "harness.h"

long smasher(long n);

KEEP_FRAME READS_FRAMES NO_UBSAN long smasher(long n)
{
    volatile char buffer[16];
    for (long i = 0; i < n; i++)
        buffer[i] = (char)0x5a;
    return buffer[0];
}

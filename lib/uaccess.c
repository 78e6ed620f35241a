/* SPDX-License-Identifier: MIT */
/* User memory from the kernel. Faults are fixed up by the page-fault handler. */
#include "kernel.h"

#include <errno.h>
#include <string.h>

/* How much of [p, p+n) lies before the first byte that is the kernel's. Wrap-around: nothing. */
static size_t user_part(const void *p, size_t n)
{
    uintptr_t from = (uintptr_t)p;
    const struct kss_thread *t = kssi_current();
    struct kss_machine *m = t->machine;
    if (from + n < from)
        return 0;
    if (unlikely(t->kernel_fn)) {
        kssi_error(-EFAULT, "thread %d (%s) is a kernel thread: it has no user memory", t->tid, t->name);
        return 0;
    }
    for (size_t i = 0; i < sizeof m->kernel_arenas / sizeof m->kernel_arenas[0]; i++) {
        struct kssi_arena *a = m->kernel_arenas[i];
        if (!a)
            break;
        uintptr_t low = (uintptr_t)a->region, high = low + a->region_size;
        if (from >= low && from < high)
            return 0;
        if (from < low && n > low - from)
            n = low - from;
    }
    return n;
}

bool kss_access_ok(const void *p, size_t n)
{
    return kssi_require_kernel() && user_part(p, n) == n;
}

size_t kss_copy_from_user(void *to, const void *from, size_t n)
{
    if (!kssi_require_kernel() || !n)
        return n;
    size_t ok = user_part(from, n);
    return n - ok + kssi_user_copy(to, from, ok);
}

size_t kss_copy_to_user(void *to, const void *from, size_t n)
{
    if (!kssi_require_kernel() || !n)
        return n;
    size_t ok = user_part(to, n);
    return n - ok + kssi_user_copy(to, from, ok);
}

long kss_copy_string_from_user(char *to, const char *from, size_t size)
{
    size_t have = 0;
    if (!to && size) {
        kssi_require_kernel();
        return kssi_error(-EINVAL, "no room for the string");
    }
    while (have < size) {
        size_t chunk = size - have < 32 ? size - have : 32;
        size_t got = chunk - kss_copy_from_user(to + have, (const void *)((uintptr_t)from + have), chunk);
        char *end = memchr(to + have, 0, got);
        if (end)
            return end - to;
        have += got;
        if (got < chunk)
            return kssi_error(-EFAULT, "the string at %p can't be read to its end", (const void *)from);
    }
    if (size)
        to[size - 1] = '\0';
    return kssi_error(-ENAMETOOLONG, "a string has more than %zu characters", size ? size - 1 : 0);
}

/* SPDX-License-Identifier: MIT */
/*
 * Memory for stacks: address space reserved at once, parts of it opened or guarded. Where the host
 * has MADV_GUARD_INSTALL (Linux 6.13) the whole reservation is accessible and guards are marks in the
 * page table, which cost no mapping; elsewhere the reservation is PROT_NONE and parts are opened with
 * mprotect, two mappings a stack.
 */
#define _GNU_SOURCE
#include "hw.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

size_t kssi_mem_page(void)
{
    static size_t page;
    if (!page)
        page = (size_t)sysconf(_SC_PAGESIZE);
    return page;
}

size_t kssi_mem_physical(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    return pages > 0 ? (size_t)pages * kssi_mem_page() : SIZE_MAX;
}

bool kssi_mem_by_madvise(void)
{
    static _Atomic int known; /* 0: not tried, 1: no, 2: yes */
    if (!known) {
        size_t page = kssi_mem_page();
        void *p = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        int yes = p != MAP_FAILED && madvise(p, page, MADV_GUARD_INSTALL) == 0;
        if (p != MAP_FAILED)
            munmap(p, page);
        known = 1 + yes;
    }
    return known == 2;
}

void *kssi_mem_reserve(size_t size, size_t align)
{
    size_t page = kssi_mem_page();
    if (align < page)
        align = page;
    if (size > SIZE_MAX / 4 || align > SIZE_MAX / 4)
        return NULL;
    int prot = kssi_mem_by_madvise() ? PROT_READ | PROT_WRITE : PROT_NONE;
    size_t whole = size + align;
    char *p = mmap(NULL, whole, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    char *start = (char *)(((uintptr_t)p + align - 1) & ~(align - 1));
    if (start > p)
        munmap(p, (size_t)(start - p));
    if (start + size < p + whole)
        munmap(start + size, (size_t)(p + whole - (start + size)));
    /* A huge page would make the first touch of one stack pay for dozens. */
    madvise(start, size, MADV_NOHUGEPAGE);
    return start;
}

void kssi_mem_release(void *p, size_t size)
{
    if (p)
        munmap(p, size);
}

int kssi_mem_open(void *p, size_t size)
{
    if (kssi_mem_by_madvise() || !size)
        return 0;
    return mprotect(p, size, PROT_READ | PROT_WRITE) == 0 ? 0 : -errno;
}

int kssi_mem_guard(void *p, size_t size)
{
    if (!size)
        return 0;
    if (!kssi_mem_by_madvise())
        return mprotect(p, size, PROT_NONE) == 0 ? 0 : -errno;
    int r;
    do
        r = madvise(p, size, MADV_GUARD_INSTALL);
    while (r != 0 && errno == EINTR);
    return r == 0 ? 0 : -errno;
}

int kssi_mem_unguard(void *p, size_t size)
{
    if (!kssi_mem_by_madvise()) {
        madvise(p, size, MADV_DONTNEED);
        return mprotect(p, size, PROT_READ | PROT_WRITE) == 0 ? 0 : -errno;
    }
    return madvise(p, size, MADV_GUARD_REMOVE) == 0 ? 0 : -errno;
}

/* One call is a third of as many page faults. A host that can't (Linux before 5.14) has the faults. */
void kssi_mem_populate(void *p, size_t size)
{
    int saved = errno;
    madvise(p, size, MADV_POPULATE_WRITE);
    errno = saved;
}

void kssi_mem_discard(void *p, size_t size)
{
    madvise(p, size, MADV_DONTNEED);
}

/* SPDX-License-Identifier: MIT */
/*
 * Is libc running? Two simulated threads of one CPU share the host thread's libc: preempting one in
 * the middle of malloc or stdio and running the other there corrupts both, since libc's locks are
 * recursive per host thread or not there at all. An interrupt that finds the program counter in libc,
 * the dynamic linker, the vDSO or a library that takes their locks stays pending until it is out.
 */
#define _GNU_SOURCE
#include "hw.h"

#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

#define MAX_RANGES 32
static struct kssi_range ranges[MAX_RANGES];
static unsigned count;
static struct kssi_range hull = { UINTPTR_MAX, 0 };

static const char *const host_libraries[] = { "libc.so",      "libc-",      "ld-linux", "ld-musl",
                                              "linux-vdso",   "libgcc_s",   "libunwind", "liblzma",
                                              "libpthread",   "libdl",      "libstdc++", "libc++",
                                              "libsmartcols", "libcheck",   "libasan",  "libubsan",
                                              "libtsan",      "libclang_rt", "libsubunit" };

static bool is_host_library(const char *path)
{
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    for (size_t i = 0; i < sizeof host_libraries / sizeof host_libraries[0]; i++)
        if (strncmp(name, host_libraries[i], strlen(host_libraries[i])) == 0)
            return true;
    return false;
}

static void add_range(struct kssi_range r)
{
    if (count == MAX_RANGES)
        return;
    ranges[count++] = r;
    if (r.low < hull.low)
        hull.low = r.low;
    if (r.high > hull.high)
        hull.high = r.high;
}

static int add_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    uintptr_t vdso = getauxval(AT_SYSINFO_EHDR);
    (void)size;
    (void)arg;
    if (!is_host_library(info->dlpi_name) && !(vdso && info->dlpi_addr == vdso))
        return 0;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_LOAD && (p->p_flags & PF_X))
            add_range((struct kssi_range){ info->dlpi_addr + p->p_vaddr,
                                           info->dlpi_addr + p->p_vaddr + p->p_memsz });
    }
    return 0;
}

static void find_ranges(void)
{
    dl_iterate_phdr(add_object, NULL);
#if KSSI_ASAN
    add_range(kssi_sanitizer_code());
#endif
}

void kssi_hostcall_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_ranges);
}

bool kssi_hostcall_contains(uintptr_t pc)
{
    if (pc < hull.low || pc >= hull.high)
        return false;
    for (unsigned i = 0; i < count; i++)
        if (pc >= ranges[i].low && pc < ranges[i].high)
            return true;
    return false;
}

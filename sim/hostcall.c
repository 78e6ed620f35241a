/* SPDX-License-Identifier: MIT */
/*
 * Is libc running? Two simulated threads of one CPU share the host thread's libc: preempting one in
 * the middle of malloc or stdio and running the other there corrupts both, since libc's locks are
 * recursive per host thread or not there at all. An interrupt that finds the program counter in libc,
 * the dynamic linker, the vDSO or a library that takes their locks stays pending until it is out. Their frames below
 * a callback are hostframes.c's. Libraries that a program loads later are known after a tenth of a second at most; until
 * then only their frames' callers in libc hold a preemption back. libm is not among them: it has no locks.
 */
#define _GNU_SOURCE
#include "hw.h"

#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

/*
 * Read by handlers at any time, without a lock: a place is filled from `low` to `high` and counted last, and emptied by
 * one store. A place that is used again while a handler looks could fool that one look: an interrupt is taken in a
 * library that was just loaded, or held back once more.
 */
#define MAX_RANGES 64
static struct host_range {
    _Atomic uintptr_t low, high; /* low == high: empty */
    bool seen;                   /* by the refresh under way */
} ranges[MAX_RANGES];
static _Atomic unsigned count;
static _Atomic uintptr_t hull_low = UINTPTR_MAX, hull_high;
static pthread_mutex_t refresh_lock = PTHREAD_MUTEX_INITIALIZER;

static const char *const host_libraries[] = { "libc.so",      "libc-",      "ld-linux", "ld-musl",
                                              "linux-vdso",   "libgcc_s",   "libunwind", "liblzma",
                                              "libpthread",   "libdl",      "libstdc++", "libc++",
                                              "libsmartcols", "libcheck",   "libasan",  "libubsan",
                                              "libtsan",      "libclang_rt", "libsubunit",
                                              "libresolv",    "libnss_",    "libanl",    "libnsl",
                                              "libatomic",    "liblsan",    "libhwasan" };

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
    struct host_range *free = NULL;
    unsigned n = count;
    for (unsigned i = 0; i < n; i++) {
        if (ranges[i].low == r.low && ranges[i].high == r.high) {
            ranges[i].seen = true;
            return;
        }
        if (ranges[i].low == ranges[i].high)
            free = &ranges[i];
    }
    if (!free && n == MAX_RANGES)
        return;
    if (!free)
        free = &ranges[n];
    free->high = 0;
    free->low = r.low;
    free->seen = true;
    if (r.low < hull_low)
        hull_low = r.low;
    if (r.high > hull_high)
        hull_high = r.high;
    free->high = r.high;
    if (free == &ranges[n])
        count = n + 1;
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

/* Not on a CPU: it takes the linker's lock, which a thread there may have. */
void kssi_hostcall_refresh(void)
{
    pthread_mutex_lock(&refresh_lock);
    for (unsigned i = 0; i < count; i++)
        ranges[i].seen = false;
    dl_iterate_phdr(add_object, NULL);
#if KSSI_ASAN
    add_range(kssi_sanitizer_code());
#endif
    for (unsigned i = 0; i < count; i++)
        if (!ranges[i].seen)
            ranges[i].high = ranges[i].low; /* unloaded: other code may come there */
    pthread_mutex_unlock(&refresh_lock);
}

struct kssi_range kssi_hostcall_hull(void)
{
    return (struct kssi_range){ hull_low, hull_high };
}

bool kssi_hostcall_contains(uintptr_t pc)
{
    if (pc < hull_low || pc >= hull_high)
        return false;
    unsigned n = count;
    for (unsigned i = 0; i < n; i++)
        if (pc >= ranges[i].low && pc < ranges[i].high)
            return true;
    return false;
}

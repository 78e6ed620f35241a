/* SPDX-License-Identifier: MIT */
/*
 * Kernel stacks closed to user mode (kss_config.protect), by mprotect: every region that holds kernel stacks is
 * PROT_NONE while the CPU is in user mode.
 *
 * The way in: a handler runs on the entry stack, which is in no region, and opens them before it puts the trap frame.
 * The way out: the exit to user mode returns through a copy of the frame, outside of them, and closes them in between
 * (entry_x86_64.S). `hot->closed` is set before the first region is closed and cleared after the last one is open, so
 * an interrupt at any instruction knows whether it may touch a kernel stack.
 *
 * What it rests on:
 * - Guards that MADV_GUARD_INSTALL made are marks in the page table and stay when the protection changes. Guards that
 *   are PROT_NONE would be opened with the rest, so hosts that have only those are refused.
 * - A region is a host mapping of its own: kssi_mem_reserve() leaves a hole above each, and other memory has other
 *   flags. So changing its protection splits and merges nothing, and needs no memory that the host might not have.
 * - Protection belongs to the process: with several CPUs, one in kernel mode would hold everything open for the user
 *   code on the others. That needs protection keys, which belong to a thread; hence one CPU.
 */
#define _GNU_SOURCE
#include "hw.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int kssi_protect_init(struct kssi_hw_machine *h)
{
    if (h->config->protect == KSS_PROTECT_OFF)
        return 0;
    if (h->config->protect == KSS_PROTECT_PKEY)
        return kssi_error(-ENOTSUP, "protect is KSS_PROTECT_PKEY: this version has no form for protection keys yet; "
                                    "KSS_PROTECT_MPROTECT is there");
    if (!kssi_mem_by_madvise())
        return kssi_error(-ENOTSUP, "protect is on, but this host has no MADV_GUARD_INSTALL (Linux 6.13): opening "
                                    "kernel stacks by mprotect would open their guards too");
    for (unsigned i = 0; i < h->cpus; i++) {
        void *p = aligned_alloc(64, kssi_frame_size());
        if (!p)
            return kssi_error(-ENOMEM, "no host memory for the exit trampoline of CPU %u", i);
        h->cpu[i].trampoline = memset(p, 0, kssi_frame_size());
    }
    return 0;
}

void kssi_protect_fini(struct kssi_hw_machine *h)
{
    for (unsigned i = 0; i < h->cpus; i++)
        free(h->cpu[i].trampoline);
}

/* The CPU is in kernel mode or not up yet, so no handler and no exit walks the list. */
int kssi_protect(struct kss_machine *m, void *region, size_t size)
{
    struct kssi_hw_machine *h = kssi_machine_hw(m);
    unsigned n = 0;
    while (h->closable[n].start)
        n++;
    if (n == KSSI_CLOSABLE_MAX)
        return -ENOMEM;
    h->closable[n] = (struct kssi_closable){ region, size };
    return 0;
}

/* The host can't change protection any more. Running on would be with kernel stacks open, or with none: neither. */
void kssi_protect_failed(void) __attribute__((noreturn));
void kssi_protect_failed(void)
{
    static const char text[] = "kstacksim: mprotect of the kernel stacks failed: the host has no memory left\n";
    ssize_t n = write(STDERR_FILENO, text, sizeof text - 1);
    (void)n;
    abort();
}

void kssi_protect_open(struct kssi_hot *hot)
{
    for (const struct kssi_closable *c = hot->close; c->start; c++)
        if (mprotect(c->start, c->size, PROT_READ | PROT_WRITE) != 0)
            kssi_protect_failed();
    hot->closed = 0;
}

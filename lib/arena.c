/* SPDX-License-Identifier: MIT */
/*
 * Arenas: one large reservation for stacks of one size, cut in slots. A slot is the stack, aligned so
 * that thread_info is found by masking, and a gap above it. The gap guards the stack below it at
 * its trailing end and the one above at its leading end; before the first slot lies one more gap.
 * What of a gap is guarded is the policy:
 *   both      all of it
 *   trailing  its lower half, which belongs to the stack below
 *   none      nothing
 */
#include "kernel.h"

#include <stdlib.h>

#define GAP_MIN 65536u /* least guarded space between two user stacks */

static size_t gap_of(const struct kssi_arena *a)
{
    return a->stride - a->size;
}

static int guard_gap(struct kss_machine *m, const struct kssi_arena *a, char *gap, bool open_rest)
{
    const struct kssi_platform *p = m->platform;
    size_t guarded = gap_of(a);
    if (m->config.guards == KSS_GUARDS_TRAILING)
        guarded = (guarded / 2 + p->page_size() - 1) & ~(p->page_size() - 1);
    else if (m->config.guards == KSS_GUARDS_NONE)
        guarded = 0;
    int r = p->guard(gap, guarded);
    if (r == 0 && open_rest)
        r = p->open(gap + guarded, gap_of(a) - guarded);
    return r;
}

static struct kssi_arena *arena_new(struct kss_machine *m, size_t size, bool kernel)
{
    const struct kssi_platform *p = m->platform;
    struct kssi_arena *a = calloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->size = size;
    a->kernel = kernel;
    a->align = kernel ? (size_t)(~kssi_stack_mask + 1) : p->page_size();
    a->stride = kernel ? a->align : size + GAP_MIN;
    if (a->stride - size < a->size && kernel)
        a->stride += a->align; /* a guard at least as wide as the stack: frames that leap are caught */
    /* Every thread may have one; the CPUs have up to ten each for themselves. */
    a->slots = m->config.max_threads + (kernel ? 12 * m->cpus : 1);
    size_t lead = kernel ? a->align : gap_of(a);
    if (a->slots > (SIZE_MAX / 4 - lead) / a->stride) {
        free(a);
        return NULL;
    }
    a->region_size = lead + a->slots * a->stride;
    a->free_slots = malloc(a->slots * sizeof *a->free_slots);
    a->region = p->reserve(a->region_size, a->align);
    if (!a->region || !a->free_slots || guard_gap(m, a, a->region + lead - gap_of(a), false) < 0) {
        p->release(a->region, a->region_size);
        free(a->free_slots);
        free(a);
        return NULL;
    }
    a->base = a->region + lead;
    return a;
}

/* tree_lock, or before the machine runs. NULL: no memory, or too many sizes. */
struct kssi_arena *kssi_arena_get(struct kss_machine *m, size_t size, bool kernel)
{
    struct kssi_arena **list = kernel ? m->kernel_arenas : m->user_arenas;
    size_t n = kernel ? sizeof m->kernel_arenas / sizeof *list : sizeof m->user_arenas / sizeof *list;
    for (size_t i = 0; i < n; i++) {
        if (list[i] && list[i]->size == size)
            return list[i];
        if (!list[i])
            return list[i] = arena_new(m, size, kernel);
    }
    return NULL;
}

/* A slot that was never used, or one given back. 0: none left. tree_lock. */
uintptr_t kssi_arena_take(struct kss_machine *m, struct kssi_arena *a)
{
    bool fresh = !a->free_count;
    if (fresh && a->fresh == a->slots)
        return 0;
    unsigned slot = fresh ? a->fresh : a->free_slots[a->free_count - 1];
    char *low = a->base + (size_t)slot * a->stride;
    if (m->platform->open(low, a->size) < 0)
        return 0;
    if (fresh && guard_gap(m, a, low + a->size, true) < 0)
        return 0;
    if (fresh)
        a->fresh++;
    else
        a->free_count--;
    return (uintptr_t)low;
}

/* The slot's memory goes back to the host where guards are cheap. tree_lock. */
void kssi_arena_give(struct kss_machine *m, struct kssi_arena *a, uintptr_t low)
{
    KSS_ASSERT((low - (uintptr_t)a->base) % a->stride == 0 && a->free_count < a->slots);
    m->platform->discard((void *)low, a->size);
    a->free_slots[a->free_count++] = (uint32_t)((low - (uintptr_t)a->base) / a->stride);
}

static void arenas_free(struct kss_machine *m, struct kssi_arena **list, size_t n)
{
    for (size_t i = 0; i < n && list[i]; i++) {
        m->platform->release(list[i]->region, list[i]->region_size);
        free(list[i]->free_slots);
        free(list[i]);
        list[i] = NULL;
    }
}

void kssi_arenas_fini(struct kss_machine *m)
{
    arenas_free(m, m->kernel_arenas, sizeof m->kernel_arenas / sizeof m->kernel_arenas[0]);
    arenas_free(m, m->user_arenas, sizeof m->user_arenas / sizeof m->user_arenas[0]);
}

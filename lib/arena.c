/* SPDX-License-Identifier: MIT */
/*
 * Arenas: one large reservation for stacks of one size, cut in slots. A slot is the stack, aligned so
 * that thread_info is found by masking, and a gap above it. The gap guards the stack below it at
 * its trailing end and the one above at its leading end; before the first slot lies one more gap.
 * What of a gap is guarded is the policy:
 *   both      guard_size bytes at each end, so all of it where they meet
 *   trailing  guard_size bytes at its lower end, at most half of it: they belong to the stack below
 *   none      nothing
 * What is left open is the fence: nobody writes there, so that a byte that is not zero tells of a frame that has
 * leapt over a guard.
 */
#include "kernel.h"

#include <stdlib.h>

#define GAP_MIN 65536u /* least guarded space between two user stacks */

static size_t gap_of(const struct kssi_arena *a)
{
    return a->stride - a->size;
}

/* The part of a gap that is open: [from, to), offsets from its low end. */
static void open_part(const struct kss_config *c, const struct kssi_arena *a, size_t page, size_t *from, size_t *to)
{
    size_t gap = gap_of(a), width = c->guard_size < gap ? c->guard_size : gap;
    *from = *to = 0;
    if (c->guards == KSS_GUARDS_TRAILING && width > gap / 2)
        width = (gap / 2 + page - 1) & ~(page - 1);
    if (c->guards != KSS_GUARDS_NONE)
        *from = width;
    if (c->guards != KSS_GUARDS_BOTH)
        *to = gap;
    else
        *to = 2 * width < gap ? gap - width : width;
}

static int guard_gap(struct kss_machine *m, const struct kssi_arena *a, char *gap, bool open_rest)
{
    const struct kssi_platform *p = m->platform;
    size_t from, to;
    open_part(&m->config, a, p->page_size(), &from, &to);
    int r = p->guard(gap, from);
    if (r == 0)
        r = p->guard(gap + to, gap_of(a) - to);
    if (r == 0 && open_rest)
        r = p->open(gap + from, to - from);
    return r;
}

/* The open bytes below a stack: none with the default guards. */
struct kssi_range kssi_arena_fence(struct kss_machine *m, const struct kssi_arena *a, uintptr_t low)
{
    size_t from, to;
    open_part(&m->config, a, m->platform->page_size(), &from, &to);
    /* Before the first stack lies the lead, which is opened nowhere. */
    if (from == to || low == (uintptr_t)a->base)
        return (struct kssi_range){ 0, 0 };
    return (struct kssi_range){ low - gap_of(a) + from, low - gap_of(a) + to };
}

static const struct kssi_arena *arena_of(const struct kss_machine *m, uintptr_t low)
{
    for (unsigned i = 0; i < 48; i++) {
        const struct kssi_arena *a = i < 16 ? m->kernel_arenas[i] : m->user_arenas[i - 16];
        if (a && low >= (uintptr_t)a->base && low - (uintptr_t)a->base < a->slots * a->stride)
            return a;
    }
    return NULL;
}

void kssi_stack_guards(struct kss_machine *m, uintptr_t low, size_t *below, size_t *above)
{
    const struct kssi_arena *a = arena_of(m, low);
    size_t from = 0, to = 0;
    *below = *above = 0;
    if (!a)
        return;
    open_part(&m->config, a, m->platform->page_size(), &from, &to);
    *above = from < to ? from : gap_of(a);
    *below = from < to ? gap_of(a) - to : gap_of(a);
    if (low == (uintptr_t)a->base) /* what is open elsewhere was never opened before the first */
        *below = gap_of(a);
}

/* Bytes from one kernel stack to the next. */
size_t kssi_arena_stride(const struct kss_config *c, size_t size, size_t align)
{
    size_t stride = (size + align - 1) & ~(align - 1);
    while (c->guards != KSS_GUARDS_NONE && stride - size < c->guard_size)
        stride += align;
    return stride > size ? stride : stride + align;
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
    size_t user_gap = m->config.guard_size > GAP_MIN ? m->config.guard_size : GAP_MIN;
    a->stride = kernel ? kssi_arena_stride(&m->config, size, a->align) : size + user_gap;
    /* Every thread may have one; the CPUs have up to 13 each for themselves: vector stacks, the interrupts', idle, spare. */
    a->slots = m->config.max_threads + (kernel ? (KSSI_VECTOR_STACKS + 2) * m->cpus : 1);
    size_t lead = kernel ? (gap_of(a) + a->align - 1) & ~(a->align - 1) : gap_of(a);
    if (a->slots > (SIZE_MAX / 4 - lead) / a->stride) {
        free(a);
        return NULL;
    }
    a->region_size = lead + a->slots * a->stride;
    a->free_slots = malloc(a->slots * sizeof *a->free_slots);
    a->owner = calloc(a->slots, sizeof *a->owner);
    a->region = p->reserve(a->region_size, a->align);
    if (!a->region || !a->free_slots || !a->owner || guard_gap(m, a, a->region + lead - gap_of(a), false) < 0 ||
        (kernel && p->protect(m, a->region, a->region_size) < 0)) {
        p->release(a->region, a->region_size);
        free(a->free_slots);
        free(a->owner);
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

/* A stack that nobody has any more: unreachable if the policy says so. tid: whose it was; 0: nobody has run on it, and
   so it stays open, which is what kssi_arena_revive() takes it for. */
void kssi_arena_retire(struct kss_machine *m, struct kssi_arena *a, uintptr_t low, int tid)
{
    KSS_ASSERT((low - (uintptr_t)a->base) % a->stride == 0);
    a->owner[(low - (uintptr_t)a->base) / a->stride] = tid;
    if (m->config.kstack_quarantine && tid)
        m->platform->guard((void *)low, a->size);
}

/* Used again. False: the host can't open it. */
bool kssi_arena_revive(struct kss_machine *m, struct kssi_arena *a, uintptr_t low)
{
    return !m->config.kstack_quarantine || !a->owner[(low - (uintptr_t)a->base) / a->stride] ||
           m->platform->unguard((void *)low, a->size) == 0;
}

/* A slot that was never used, or one given back. 0: none left. tree_lock. */
uintptr_t kssi_arena_take(struct kss_machine *m, struct kssi_arena *a)
{
    bool fresh = !a->free_count;
    if (fresh && a->fresh == a->slots)
        return 0;
    unsigned slot = fresh ? a->fresh : a->free_slots[a->free_count - 1];
    char *low = a->base + (size_t)slot * a->stride;
    if (m->platform->open(low, a->size) < 0 || !kssi_arena_revive(m, a, (uintptr_t)low))
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
    if (!m->config.kstack_quarantine)
        m->platform->discard((void *)low, a->size);
    a->free_slots[a->free_count++] = (uint32_t)((low - (uintptr_t)a->base) / a->stride);
}

/* Slot by slot, so that a sanitizer has as little to write as was used. */
static void frames_gone(const struct kssi_arena *a)
{
    uintptr_t low = (uintptr_t)a->base;
    for (unsigned i = 0; KSSI_ASAN && i < a->fresh; i++, low += a->stride)
        kssi_frames_gone(low, low + a->stride);
}

bool kssi_in_kernel_arena(const struct kss_machine *m, uintptr_t address)
{
    for (size_t i = 0; i < sizeof m->kernel_arenas / sizeof m->kernel_arenas[0] && m->kernel_arenas[i]; i++)
        if (address - (uintptr_t)m->kernel_arenas[i]->region < m->kernel_arenas[i]->region_size)
            return true;
    return false;
}

static void arenas_free(struct kss_machine *m, struct kssi_arena **list, size_t n)
{
    for (size_t i = 0; i < n && list[i]; i++) {
        frames_gone(list[i]);
        m->platform->release(list[i]->region, list[i]->region_size);
        free(list[i]->free_slots);
        free(list[i]->owner);
        free(list[i]);
        list[i] = NULL;
    }
}

void kssi_arenas_fini(struct kss_machine *m)
{
    arenas_free(m, m->kernel_arenas, sizeof m->kernel_arenas / sizeof m->kernel_arenas[0]);
    arenas_free(m, m->user_arenas, sizeof m->user_arenas / sizeof m->user_arenas[0]);
}

/* SPDX-License-Identifier: MIT */
/*
 * Kernel stacks. From high to low:
 *
 *   trap frame of the last entry from user mode, always at the same place
 *   kernel frames, nested trap frames
 *   poison
 *   thread_info, its last word the canary: what an overflow hits first
 *
 * Freed stacks of the default size stay ready in a per-CPU cache, poisoned again as far as they were
 * used, so that nothing of the former owner can be read.
 */
#include "kernel.h"

#include <errno.h>
#include <string.h>

#define POISON_CHUNK 4096

static uint64_t poison[POISON_CHUNK / 8];

void kssi_poison_init(void)
{
    for (size_t i = 0; i < POISON_CHUNK / 8; i++)
        poison[i] = KSS_STACK_POISON;
}

static void fill_poison(uintptr_t from, uintptr_t to)
{
    for (; to - from >= POISON_CHUNK; from += POISON_CHUNK)
        memcpy((void *)from, poison, POISON_CHUNK);
    memcpy((void *)from, poison, to - from);
}

/* Bytes from the top down to the deepest word that is not poison. */
KSSI_UNSANITIZED size_t kssi_kstack_high_water(uintptr_t low, size_t size, bool poisoned)
{
    uintptr_t p = low + sizeof(struct kss_thread_info), high = low + size;
    if (!poisoned)
        return 0;
    while (high - p >= POISON_CHUNK && kssi_stack_equal((void *)p, poison, POISON_CHUNK))
        p += POISON_CHUNK;
    while (p < high && *(uint64_t *)p == KSS_STACK_POISON)
        p += 8;
    return high - p;
}

uintptr_t kssi_kstack_user_frame(uintptr_t low, size_t size)
{
    return (low + size - kssi_frame_size()) & ~(uintptr_t)63;
}

struct kss_thread_info *kssi_kstack_prepare(uintptr_t low, struct kss_thread *t, uint64_t canary)
{
    struct kss_thread_info *ti = (struct kss_thread_info *)low;
    *ti = (struct kss_thread_info){ .magic = KSS_THREAD_INFO_MAGIC, .thread = t, .canary = canary };
    return ti;
}

static void forget(struct kss_machine *m, uintptr_t low, size_t size, size_t high_water)
{
    if (m->config.poison)
        fill_poison(low + size - high_water, low + size);
    else
        memset((void *)low, 0, size);
    memset((void *)low, 0, sizeof(struct kss_thread_info));
}

/* Nothing of its last owner is there, and it can be reached. */
static bool renew(struct kss_machine *m, struct kssi_arena *a, uintptr_t low, bool cached)
{
    if (cached && !kssi_arena_revive(m, a, low))
        return false;
    if (!m->config.poison)
        return true;
    if (!cached)
        m->platform->populate((void *)low, a->size);
    if (!cached || m->config.kstack_quarantine)
        fill_poison(low + sizeof(struct kss_thread_info), low + a->size);
    return true;
}

uintptr_t kssi_kstack_alloc(struct kss_machine *m, size_t size, struct kssi_arena **arena)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    bool on = kss_spin_lock(&m->tree_lock);
    struct kssi_arena *a = kssi_arena_get(m, size, true);
    uintptr_t low = 0;
    bool hit = false;
    if (a && cpu && size == m->config.kstack_size && cpu->kstacks.count) {
        low = cpu->kstacks.low[--cpu->kstacks.count];
        hit = true;
    } else if (a) {
        low = kssi_arena_take(m, a);
    }
    if (low && !renew(m, a, low, hit)) {
        cpu->kstacks.low[cpu->kstacks.count++] = low;
        low = 0;
    }
    if (low) {
        m->kstack_allocs++;
        m->kstack_hits += hit;
        m->kstack_live++;
    }
    kss_spin_unlock(&m->tree_lock, on);
    *arena = a;
    if (low)
        KSSI_TRACE(m, KSS_TR_STACK_ALLOC, low, size, hit, 0);
    return low;
}

void kssi_kstack_free(struct kss_thread *t, uintptr_t low)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct kss_machine *m = t->machine;
    struct kssi_arena *a = t->kstack_arena;
    kssi_frames_gone(low, low + a->size);
    size_t deepest = kssi_kstack_high_water(low, a->size, m->config.poison);
    if (t->high_water < deepest)
        t->high_water = deepest;
    KSSI_TRACE(m, KSS_TR_STACK_FREE, low, a->size, deepest, 0);
    bool cached = cpu && a->size == m->config.kstack_size;
    if (cached && !m->config.kstack_quarantine)
        forget(m, low, a->size, deepest);
    bool on = kss_spin_lock(&m->tree_lock);
    kssi_arena_retire(m, a, low, t->tid);
    if (t->high_water > m->deepest_task)
        m->deepest_task = t->high_water;
    if (cached && cpu->kstacks.count < m->config.kstack_cache)
        cpu->kstacks.low[cpu->kstacks.count++] = low;
    else
        kssi_arena_give(m, a, low);
    m->kstack_live--;
    kss_spin_unlock(&m->tree_lock, on);
}

uintptr_t kssi_ustack_alloc(struct kss_machine *m, size_t size, struct kssi_arena **arena)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    bool on = kss_spin_lock(&m->tree_lock);
    struct kssi_arena *a = kssi_arena_get(m, size, false);
    uintptr_t low = 0;
    if (a && cpu && size == m->config.user_stack_size && cpu->ustacks.count)
        low = kssi_arena_revive(m, a, cpu->ustacks.low[cpu->ustacks.count - 1])
                  ? cpu->ustacks.low[--cpu->ustacks.count] : 0;
    else if (a)
        low = kssi_arena_take(m, a);
    kss_spin_unlock(&m->tree_lock, on);
    *arena = low ? a : NULL; /* none: there is nothing to give back */
    return low;
}

void kssi_ustack_free(struct kss_thread *t)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct kss_machine *m = t->machine;
    struct kssi_arena *a = t->user_arena;
    uintptr_t low = t->user_low;
    bool on = kss_spin_lock(&m->tree_lock);
    kssi_arena_retire(m, a, low, t->tid);
    if (cpu && a->size == m->config.user_stack_size && cpu->ustacks.count < m->config.kstack_cache)
        cpu->ustacks.low[cpu->ustacks.count++] = low;
    else
        kssi_arena_give(m, a, low);
    kss_spin_unlock(&m->tree_lock, on);
}

void kssi_kstack_attach(struct kss_thread *t, uintptr_t low, struct kssi_arena *arena)
{
    t->ti = kssi_kstack_prepare(low, t, t->canary);
    t->kstack_arena = arena;
    t->user_frame = kssi_kstack_user_frame(low, arena->size);
}

/* Not on the stack that goes: the caller runs on another one. */
void kssi_kstack_detach(struct kss_thread *t)
{
    if (!t->ti)
        return;
    uintptr_t low = (uintptr_t)t->ti;
    KSS_ASSERT((struct kss_thread_info *)kssi_thread_info() != t->ti || !kssi_this_cpu());
    /* Whoever marks a thread as killed, or looks at its stack, has the lock. */
    bool on = kss_spin_lock(&t->machine->tree_lock);
    t->ti = NULL;
    kss_spin_unlock(&t->machine->tree_lock, on);
    t->user_frame = 0;
    t->context_saved = false;
    kssi_kstack_free(t, low);
}

/* ---- stacks at the first entry ---------------------------------------------------------------- */

void kssi_spare_stack_get(struct kssi_cpu *cpu)
{
    struct kssi_arena *a;
    cpu->spare_stack = kssi_kstack_alloc(cpu->machine, cpu->machine->config.kstack_size, &a);
    if (!cpu->spare_stack)
        kssi_panic(KSS_REPORT_INVARIANT, "no kernel stack is left for CPU %u's next thread", cpu->index);
}

/* At a thread's first entry from user mode: the stack it started on is its own from now on. */
void kssi_spare_stack_adopt(struct kssi_cpu *cpu, struct kss_thread *t)
{
    KSS_ASSERT((uintptr_t)t->ti == cpu->spare_stack);
    t->kstack_arena = kssi_arena_get(t->machine, t->machine->config.kstack_size, true);
    cpu->spare_stack = 0;
}

/* ---- the CPUs' own stacks --------------------------------------------------------------------- */

#define CPU_STACK_MIN 65536u /* the double fault's: reports are built there */

static int cpu_stack(struct kssi_cpu *cpu, struct kssi_range *range)
{
    struct kss_machine *m = cpu->machine;
    struct kssi_arena *a;
    size_t size = m->config.kstack_size > CPU_STACK_MIN ? m->config.kstack_size : CPU_STACK_MIN;
    uintptr_t low = kssi_kstack_alloc(m, size, &a);
    if (!low)
        return kssi_error(-ENOMEM, "no stack of %zu bytes for CPU %u", size, cpu->index);
    kssi_kstack_prepare(low, NULL, kssi_random(m));
    range->low = low; /* first: an entry that sees the high end must not take all below it for the stack */
    __atomic_store_n(&range->high, low + size, __ATOMIC_RELEASE);
    return 0;
}

int kssi_vector_stack_get(struct kssi_cpu *cpu, unsigned index)
{
    return cpu->stacks.vector[index].high ? 0 : cpu_stack(cpu, &cpu->stacks.vector[index]);
}

int kssi_cpu_stacks_init(struct kssi_cpu *cpu)
{
    struct kss_machine *m = cpu->machine;
    int r = kssi_vector_stack_get(cpu, KSSI_STACK_DOUBLE_FAULT);
    if (r == 0)
        r = kssi_vector_stack_get(cpu, KSSI_STACK_NMI);
    if (r == 0)
        r = kssi_vector_stack_get(cpu, KSSI_STACK_REPORT);
    if (r == 0 && m->guarded)
        r = kssi_vector_stack_get(cpu, KSSI_STACK_CLASS);
    if (r == 0 && m->config.irq_stacks == KSS_IRQ_STACKS_PER_CPU)
        r = cpu_stack(cpu, &cpu->stacks.irq);
    if (r == 0 && m->config.irq_stacks == KSS_IRQ_STACKS_PER_CPU)
        r = kssi_vector_stack_get(cpu, KSSI_STACK_SOFTIRQ);
    for (unsigned i = 0; i < KSS_VECTORS && r == 0; i++)
        if (m->vectors.gate[i].stack)
            r = kssi_vector_stack_get(cpu, m->vectors.gate[i].stack);
    return r;
}

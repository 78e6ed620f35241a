/* SPDX-License-Identifier: MIT */
/* Threads: made from a slab, started through a frame that the common exit returns through. */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory and ids --------------------------------------------------------------------------- */

/*
 * All blocks lie in one slab, made for max_threads and the CPUs' own, and touched as they are first used:
 * so a thread's handle can be told from any other pointer (handle.c).
 */
int kssi_threads_init(struct kss_machine *m)
{
    struct kssi_slab *s = m->slab;
    size_t size = m->thread_size * ((size_t)m->config.max_threads + m->cpus), page = m->platform->page_size();
    size = (size + page - 1) & ~(page - 1);
    char *base = m->platform->reserve(size, page);
    if (!base)
        return kssi_error(-ENOMEM, "no address space for max_threads = %u", m->config.max_threads);
    s->block_size = m->thread_size;
    s->reserved = size;
    s->open = 0;
    __atomic_store_n(&s->base, base, __ATOMIC_SEQ_CST);
    return 0;
}

/* Hidden already: nobody takes what lies there for a thread. */
void kssi_threads_fini(struct kss_machine *m)
{
    struct kssi_slab *s = m->slab;
    for (size_t at = 0; s->base && at + s->block_size <= s->open; at += s->block_size) {
        const struct kss_thread *t = (const struct kss_thread *)(s->base + at);
        if (t->magic)
            kssi_frames_gone(t->user_low, t->user_high); /* of memory that is not ours, perhaps */
    }
    m->platform->release(s->base, s->reserved);
    s->base = NULL;
}

#define OPEN_STEP ((size_t)1 << 16)

/* A block that was never used. tree_lock. */
static struct kss_thread *fresh_block(struct kss_machine *m)
{
    struct kssi_slab *s = m->slab;
    size_t end = s->used + s->block_size;
    if (end > s->reserved)
        return NULL;
    while (s->open < end) {
        size_t step = s->reserved - s->open < OPEN_STEP ? s->reserved - s->open : OPEN_STEP;
        if (m->platform->open(s->base + s->open, step) < 0)
            return NULL;
        s->open += step;
    }
    struct kss_thread *t = (struct kss_thread *)(s->base + s->used);
    t->block = (unsigned)(s->used / s->block_size);
    __atomic_store_n(&s->used, end, __ATOMIC_SEQ_CST);
    return t;
}

static struct kss_thread *take_block(struct kss_machine *m)
{
    bool on = kss_spin_lock(&m->tree_lock);
    struct kss_thread *t = m->free_threads;
    if (t)
        m->free_threads = t->joiner;
    else
        t = fresh_block(m);
    kss_spin_unlock(&m->tree_lock, on);
    return t;
}

/* The table is at least twice as large as there can be threads, so a free slot is near. */
static void assign_id(struct kss_machine *m, struct kss_thread *t)
{
    bool on = kss_spin_lock(&m->tree_lock);
    do {
        if (++m->next_id <= 0 || m->next_id == INT32_MAX)
            m->next_id = 2;
    } while (m->by_id[(unsigned)m->next_id & (m->id_slots - 1)]);
    t->tid = m->next_id;
    m->by_id[(unsigned)t->tid & (m->id_slots - 1)] = t;
    m->created++;
    kss_spin_unlock(&m->tree_lock, on);
}

static void drop_id(struct kss_machine *m, struct kss_thread *t)
{
    bool on = kss_spin_lock(&m->tree_lock);
    m->by_id[(unsigned)t->tid & (m->id_slots - 1)] = NULL;
    m->created--;
    kss_spin_unlock(&m->tree_lock, on);
}

struct kss_thread *kssi_thread_by_id(struct kss_machine *m, int tid)
{
    if (tid <= 0)
        return NULL;
    struct kss_thread *t = m->by_id[(unsigned)tid & (m->id_slots - 1)];
    return t && t->tid == tid ? t : NULL;
}

static bool count_in(struct kss_machine *m)
{
    bool on = kss_spin_lock(&m->tree_lock);
    bool ok = m->threads < m->config.max_threads;
    m->threads += ok;
    kss_spin_unlock(&m->tree_lock, on);
    return ok;
}

static void count_out(struct kss_machine *m)
{
    bool on = kss_spin_lock(&m->tree_lock);
    m->threads--;
    kss_spin_unlock(&m->tree_lock, on);
}

/* ---- making one ------------------------------------------------------------------------------- */

static void init_fields(struct kss_thread *t, struct kss_machine *m, const struct kss_spawn_attr *attr,
                        struct kss_process *process, struct kss_thread *parent)
{
    unsigned block = t->block;
    memset(t, 0, sizeof *t);
    t->block = block;
    t->magic = KSSI_THREAD_MAGIC;
    t->machine = m;
    t->process = process;
    t->context = (char *)t + ((sizeof *t + 63) & ~(size_t)63);
    t->class_data = (char *)t->context + ((m->platform->context_size + 63) & ~(size_t)63);
    memset(t->class_data, 0, m->sched->thread_data_size);
    t->weight = 100;
    t->allowed = parent ? parent->allowed : kss_cpumask_all(m->cpus);
    t->pinned = parent && parent->pinned;
    t->cpu = t->ran_on = parent ? parent->cpu : 0;
    t->priority = attr && attr->priority ? attr->priority : parent ? parent->base_priority : KSS_PRIO_DEFAULT;
    t->base_priority = t->priority;
    t->kstack_want = attr && attr->kstack_size ? attr->kstack_size : m->config.kstack_size;
    t->canary = kssi_random(m) & ~(uint64_t)0xff; /* a zero byte: no string copy writes it */
    t->slice_ns = m->config.timeslice_ns;
    snprintf(t->name, sizeof t->name, "%s", attr && attr->name ? attr->name : parent ? parent->name : "?");
}

static int give_user_stack(struct kss_thread *t, const struct kss_spawn_attr *attr)
{
    struct kss_machine *m = t->machine;
    if (attr && attr->user_stack) {
        t->user_low = (uintptr_t)attr->user_stack;
        t->user_high = t->user_low + attr->user_stack_size;
        return 0;
    }
    size_t size = attr && attr->user_stack_size ? attr->user_stack_size : m->config.user_stack_size;
    t->user_low = kssi_ustack_alloc(m, size, &t->user_arena);
    t->user_high = t->user_low + size;
    return t->user_low ? 0 : kssi_error(-EAGAIN, "no user stack of %zu bytes is left", size);
}

static int give_kernel_stack(struct kss_thread *t)
{
    struct kss_machine *m = t->machine;
    struct kssi_arena *a;
    bool lazy = m->config.kstack_alloc == KSS_KSTACK_AT_FIRST_ENTRY &&
                t->kstack_want == m->config.kstack_size && !t->kernel_fn;
    if (lazy)
        return 0;
    uintptr_t low = kssi_kstack_alloc(m, t->kstack_want, &a);
    if (!low)
        return kssi_error(-EAGAIN, "no kernel stack of %zu bytes is left", t->kstack_want);
    kssi_kstack_attach(t, low, a);
    m->platform->context_init(t->context, (struct kssi_range){ low, t->user_frame }, kssi_thread_entry);
    t->context_saved = true;
    return 0;
}

static void give_back(struct kss_thread *t)
{
    struct kss_machine *m = t->machine;
    kssi_kstack_detach(t);
    if (t->user_arena)
        kssi_ustack_free(t);
    t->magic = 0;
    bool on = kss_spin_lock(&m->tree_lock);
    t->joiner = m->free_threads;
    m->free_threads = t;
    kss_spin_unlock(&m->tree_lock, on);
}

/* process NULL: an idle thread, outside the id table. The thread is NEW; nobody else knows it. */
struct kss_thread *kssi_thread_new(struct kss_machine *m, const struct kss_spawn_attr *attr,
                                   struct kss_process *process, struct kss_thread *parent,
                                   void (*kernel_fn)(void), int *error)
{
    if (process && !count_in(m)) {
        *error = kssi_error(-EAGAIN, "max_threads (%u) reached", m->config.max_threads);
        return NULL;
    }
    struct kss_thread *t = take_block(m);
    if (!t) {
        *error = kssi_error(-ENOMEM, "no host memory for a thread");
    } else {
        init_fields(t, m, attr, process, parent);
        t->kernel_fn = kernel_fn;
        *error = give_kernel_stack(t);
        if (*error == 0 && !kernel_fn)
            *error = give_user_stack(t, attr);
        if (*error == 0 && process) {
            assign_id(m, t);
            *error = kssi_sched_add(t);
            if (*error < 0)
                drop_id(m, t);
        }
        if (*error == 0)
            return t;
        give_back(t);
    }
    if (process)
        count_out(m);
    return NULL;
}

/* ZOMBIE, or NEW when its process could not be finished; off its CPU; unlinked from its process. */
void kssi_thread_free(struct kss_thread *t)
{
    struct kss_machine *m = t->machine;
    bool zombie = t->state == KSS_THREAD_ZOMBIE;
    KSSI_TRACE(m, KSS_TR_REAP, t->tid, 0, 0, 0);
    /* Out of the table first: nobody finds it any more, and whoever walks the table sees no DEAD thread. */
    bool on = kss_spin_lock(&m->tree_lock);
    m->by_id[(unsigned)t->tid & (m->id_slots - 1)] = NULL;
    m->threads--;
    m->reaped++;
    m->zombies -= zombie;
    m->zombie_stacks -= zombie && t->ti;
    kss_spin_unlock(&m->tree_lock, on);
    kssi_sched_remove(t);
    on = kss_spin_lock(&m->sched_lock);
    kssi_set_state(t, KSS_THREAD_DEAD);
    kss_spin_unlock(&m->sched_lock, on);
    give_back(t);
}

/* ---- its first instructions ------------------------------------------------------------------- */

/* Not instrumented: a sanitizer would clear up, before a call that does not return, the stack in use; and that is
   the user's already. */
KSSI_UNSANITIZED __attribute__((noreturn)) static void first_return(const struct kss_thread *t)
{
    kssi_stack_in_use((struct kssi_range){ t->user_low, t->user_high });
    kssi_frame_return((struct kss_trap_frame *)t->user_frame);
}

void kssi_thread_entry(void)
{
    kssi_switch_finish();
    struct kss_thread *t = kssi_current();
    if (t->kernel_fn) {
        t->kernel_fn();
        kssi_panic(KSS_REPORT_INVARIANT, "kernel thread %s returned", t->name);
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* `ti` was set before: whoever kills sees it, or this sees `killed` */
    if (t->killed) {
        if (!t->kstack_arena)
            kssi_spare_stack_adopt(kssi_this_cpu(), t); /* a zombie holds a stack of its own */
        kssi_thread_exit(t, t->exit_status, 0);
    }
    struct kss_trap_frame *tf = (struct kss_trap_frame *)t->user_frame;
    kssi_frame_init_user(tf, t->fn, t->arg, t->user_high);
    kssi_frame_seal(tf, t->canary); /* an interrupt may be handled on it before it is left through */
    KSSI_TRACE(t->machine, KSS_TR_LEAVE, tf->vector, (uintptr_t)tf, (uintptr_t)t->fn, KSS_MODE_USER);
    if (unlikely(t->machine->config.latency))
        kssi_latency_irqs_on((uintptr_t)kssi_thread_entry, 0);
    first_return(t);
}

/* ---- what others see -------------------------------------------------------------------------- */

struct kss_thread *kss_current(void)
{
    return kssi_require_kernel() ? kssi_current() : NULL;
}

int kss_thread_id(const struct kss_thread *t)
{
    int r = kssi_view_thread(t);
    return r < 0 ? r : t->tid;
}

const char *kss_thread_name(const struct kss_thread *t)
{
    return kssi_view_thread(t) < 0 ? "?" : t->name;
}

struct kss_thread *kss_thread_find(struct kss_machine *m, int tid)
{
    if (kssi_require_view(m) < 0)
        return NULL;
    bool on = kss_spin_lock(&m->tree_lock);
    struct kss_thread *t = kssi_thread_by_id(m, tid);
    kss_spin_unlock(&m->tree_lock, on);
    if (!t)
        kssi_error(-ESRCH, "there is no thread %d", tid);
    return t;
}

static void snapshot(struct kss_thread *t, struct kss_thread_info_snapshot *s)
{
    struct kss_kstack_info k;
    memset(s, 0, sizeof *s);
    s->tid = t->tid;
    s->pid = t->process ? t->process->pid : 0;
    s->ppid = t->process && t->process->parent ? t->process->parent->pid : 0;
    memcpy(s->name, t->name, sizeof s->name);
    s->state = t->state;
    s->mode = t->tf || t->kernel_fn || t->state == KSS_THREAD_ZOMBIE ? KSS_MODE_KERNEL : KSS_MODE_USER;
    if (t->tf && t->state == KSS_THREAD_READY && !t->tf->prev && t->tf->mode == KSS_MODE_USER &&
        t->tf->vector != KSS_VEC_SYSCALL)
        s->mode = KSS_MODE_USER; /* preempted in user mode */
    s->priority = t->priority;
    s->cpu = t->ran_on;
    s->wait_channel = t->wait_channel;
    s->run_ns = t->run_ns;
    s->syscalls = t->syscalls;
    s->preemptions = t->preemptions;
    s->voluntary = t->voluntary;
    s->migrations = t->migrations;
    s->is_kernel = t->kernel_fn != NULL;
    s->kstack_high_water = t->high_water;
    if (t->kstack_arena && t->ti && kss_kstack_info(t, &k) == 0) {
        s->kstack_size = k.size;
        s->kstack_high_water = k.high_water;
        s->kstack_depth = k.depth;
    }
}

static int by_tid(const void *a, const void *b)
{
    const struct kss_thread_info_snapshot *x = a, *y = b;
    return x->tid < y->tid ? -1 : x->tid > y->tid;
}

int kss_threads(struct kss_machine *m, struct kss_thread_info_snapshot *out, int max)
{
    int r = kssi_require_view(m), n = 0;
    if (r < 0)
        return r;
    if (max < 0 || (max && !out))
        return kssi_error(-EINVAL, "room for %d snapshots: a count of at least 0 and an array", max);
    bool on = kss_spin_lock(&m->tree_lock);
    for (unsigned i = 0; i < m->cpus; i++, n++)
        if (n < max && m->cpu[i].idle)
            snapshot(m->cpu[i].idle, &out[n]);
    for (unsigned i = 0; i < m->id_slots; i++) {
        if (!m->by_id[i])
            continue;
        if (n < max)
            snapshot(m->by_id[i], &out[n]);
        n++;
    }
    kss_spin_unlock(&m->tree_lock, on);
    if (max > 0)
        qsort(out, (size_t)(n < max ? n : max), sizeof *out, by_tid);
    return n;
}

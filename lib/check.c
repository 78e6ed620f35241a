/* SPDX-License-Identifier: MIT */
/*
 * The invariants, executable. The four states of a thread, and what its kernel stack holds in each:
 *   user mode     empty
 *   kernel mode   in use
 *   ready         holds what is needed to resume
 *   waiting       holds the suspended computation
 */
#include "kernel.h"

#include <errno.h>

#define FAIL(...) return kssi_error(-EILSEQ, __VA_ARGS__)
#define STATE(t) kss_thread_state_name((t)->state)

static bool on_stack(const struct kss_thread *t, uintptr_t sp)
{
    uintptr_t low = (uintptr_t)t->ti;
    size_t size = t->kstack_arena ? t->kstack_arena->size : t->machine->config.kstack_size;
    return sp > low + sizeof(struct kss_thread_info) && sp <= low + size;
}

static bool on_a_cpu_stack(const struct kss_thread *t, uintptr_t p)
{
    const struct kssi_cpu_stacks *s = &t->machine->cpu[t->cpu].stacks;
    bool found = p >= s->irq.low && p < s->irq.high;
    for (unsigned i = 1; i < KSSI_VECTOR_STACKS; i++)
        found |= p >= s->vector[i].low && p < s->vector[i].high;
    return found;
}

static int check_frames(const struct kss_thread *t)
{
    unsigned n = 0;
    const struct kss_trap_frame *inner = NULL;
    for (const struct kss_trap_frame *tf = t->tf; tf; tf = tf->prev) {
        if (tf->magic != KSS_TRAP_FRAME_MAGIC)
            FAIL("thread %d (%s): trap frame %u of %u has no magic number", t->tid, t->name, n + 1, t->nesting);
        if (!on_stack(t, (uintptr_t)tf) && !on_a_cpu_stack(t, (uintptr_t)tf))
            FAIL("thread %d (%s): trap frame %p is not on its kernel stack", t->tid, t->name, (const void *)tf);
        if (tf->mode == KSS_MODE_USER && (tf->prev || (uintptr_t)tf != t->user_frame))
            FAIL("thread %d (%s): the frame of an entry from user mode is not the outermost, at the top", t->tid,
                 t->name);
        inner = tf;
        if (++n > t->nesting)
            break;
    }
    if (n != t->nesting)
        FAIL("thread %d (%s): %u trap frames are linked, %u counted", t->tid, t->name, n, t->nesting);
    if (inner && inner->mode != KSS_MODE_USER && !t->kernel_fn)
        FAIL("thread %d (%s): its outermost trap frame is not from user mode", t->tid, t->name);
    return 0;
}

/* READY or SLEEPING: everything to resume is in memory, on its own stack. */
static int check_suspended(struct kss_machine *m, struct kss_thread *t)
{
    if (!t->ti) {
        if (t->state != KSS_THREAD_READY || m->config.kstack_alloc == KSS_KSTACK_AT_CREATE)
            FAIL("thread %d (%s) is %s without a kernel stack", t->tid, t->name, STATE(t));
        return 0;
    }
    if (t->locks_held)
        FAIL("thread %d (%s) is %s with %u spinlocks held", t->tid, t->name, STATE(t), t->locks_held);
    if (!t->context_saved)
        FAIL("thread %d (%s) is %s, and its context is not saved", t->tid, t->name, STATE(t));
    uintptr_t sp = m->platform->context_sp(t->context);
    if (!on_stack(t, sp))
        FAIL("thread %d (%s) is %s with a saved stack pointer %#lx that is not on its kernel stack", t->tid,
             t->name, STATE(t), (unsigned long)sp);
    if (t->state == KSS_THREAD_SLEEPING && !t->kernel_fn && (!t->tf || sp >= (uintptr_t)t->tf))
        FAIL("thread %d (%s) is SLEEPING with no suspended computation on its stack", t->tid, t->name);
    return 0;
}

static int check_queues(struct kss_thread *t)
{
    bool ready = t->state == KSS_THREAD_READY;
    if (ready != t->queued)
        FAIL("thread %d (%s) is %s and %s by the scheduler", t->tid, t->name, STATE(t),
             t->queued ? "queued" : "not queued");
    if (t->dsq.queue && !ready)
        FAIL("thread %d (%s) is %s, and in a dispatch queue", t->tid, t->name, STATE(t));
    if (t->dsq.queue && !kssi_dsq_contains(t->dsq.queue, t))
        FAIL("thread %d (%s) is not in the dispatch queue that it says", t->tid, t->name);
    if (t->timer_armed && t->state != KSS_THREAD_SLEEPING)
        FAIL("thread %d (%s) is %s with a timer armed", t->tid, t->name, STATE(t));
    if (t->wait_channel && t->state == KSS_THREAD_READY && t->tf == NULL && !t->kernel_fn)
        FAIL("thread %d (%s) waits on %s in user mode", t->tid, t->name, t->wait_channel);
    return 0;
}

static int check_running(struct kss_machine *m, struct kss_thread *t)
{
    struct kssi_cpu *cpu = &m->cpu[t->cpu];
    if (m->life == KSSI_RUNNING && cpu->current != t)
        FAIL("thread %d (%s) is RUNNING, and is not what CPU %u runs", t->tid, t->name, t->cpu);
    /* Seen from the kernel, the one that looks is in kernel mode: its stack is in use. */
    if (kssi_this_cpu() == cpu && t == kssi_current() && !t->kernel_fn && t->kstack_arena && !t->tf &&
        !on_stack(t, (uintptr_t)__builtin_frame_address(0)) && cpu->current == t)
        FAIL("thread %d (%s) is in kernel mode with an empty kernel stack", t->tid, t->name);
    return 0;
}

/* Its frames come and go while they are looked at. */
static bool runs_elsewhere(const struct kss_thread *t)
{
    return t->on_cpu && kssi_this_cpu() && t != kssi_current();
}

static int check_thread(struct kss_machine *m, struct kss_thread *t)
{
    int r = 0;
    if (t->magic != KSSI_THREAD_MAGIC)
        FAIL("a thread's magic number is wrong");
    bool whole = t->kstack_arena && t->ti && !runs_elsewhere(t); /* there, its own CPU may be about to tell of it */
    uintptr_t hit = whole ? kssi_kstack_fence_hit(t) : 0;
    if (hit)
        FAIL("thread %d (%s): the byte at %#lx below its kernel stack, beyond the guard, is written", t->tid, t->name,
             (unsigned long)hit);
    if (whole && !kssi_kstack_end_ok(t))
        FAIL("thread %d (%s): the end of its kernel stack is overwritten", t->tid, t->name);
    if (whole && t->ti->thread != t)
        FAIL("thread %d (%s): its thread_info names another thread", t->tid, t->name);
    switch (t->state) {
    case KSS_THREAD_RUNNING:
        r = check_running(m, t);
        break;
    case KSS_THREAD_READY:
    case KSS_THREAD_SLEEPING:
        if (!t->on_cpu)
            r = check_suspended(m, t);
        break;
    case KSS_THREAD_ZOMBIE:
        if (!t->on_cpu && !t->ti && m->config.zombie_stacks == KSS_ZOMBIE_KEEPS_STACK && t->high_water)
            FAIL("zombie %d (%s) has lost its kernel stack", t->tid, t->name);
        break;
    default:
        FAIL("thread %d (%s) is known and %s", t->tid, t->name, STATE(t));
    }
    if (r == 0 && t->ti && !runs_elsewhere(t))
        r = check_frames(t);
    return r < 0 || t->state == KSS_THREAD_ZOMBIE ? r : check_queues(t);
}

static int check_lines(struct kss_machine *m)
{
    for (unsigned c = 0; c < m->cpus; c++) {
        for (unsigned l = 0; l < KSS_IRQ_LINES; l++) {
            struct kss_irq_stats s;
            if (!kssi_line_stats(m, c, l, &s))
                continue; /* it is being raised without a pause: nothing can be said of it now */
            if (s.raised != s.delivered + s.pending + s.lost)
                FAIL("IRQ line %u: raised %llu is not delivered %llu + pending %u + lost %llu", l,
                     (unsigned long long)s.raised, (unsigned long long)s.delivered, s.pending,
                     (unsigned long long)s.lost);
            if (s.delivered - s.eoi != s.in_service)
                FAIL("IRQ line %u: delivered %llu, ended %llu, and %s in service", l,
                     (unsigned long long)s.delivered, (unsigned long long)s.eoi, s.in_service ? "" : "not");
        }
    }
    return 0;
}

static int check_all(struct kss_machine *m)
{
    unsigned threads = 0, zombies = 0;
    for (unsigned i = 0; i < m->id_slots; i++) {
        struct kss_thread *t = m->by_id[i];
        if (!t)
            continue;
        if (t->state == KSS_THREAD_NEW)
            continue; /* being built by a thread that was preempted */
        threads++;
        zombies += t->finished;
        int r = check_thread(m, t);
        if (r < 0)
            return r;
    }
    if (threads > m->threads)
        FAIL("%u threads are known, %u counted", threads, m->threads);
    if (zombies > m->zombies)
        FAIL("%u zombies are known, %u counted", zombies, m->zombies);
    for (unsigned i = 0; i < m->cpus; i++)
        if (m->cpu[i].stats.control_saves != m->cpu[i].stats.context_switches)
            FAIL("CPU %u: %llu control-block saves, %llu context switches", i,
                 (unsigned long long)m->cpu[i].stats.control_saves,
                 (unsigned long long)m->cpu[i].stats.context_switches);
    return check_lines(m);
}

int kss_check(struct kss_machine *m)
{
    int r = kssi_require_view(m);
    if (r < 0)
        return r;
    if (!kssi_this_cpu())
        return check_all(m);
    bool on = kssi_irq_save();
    /* Nothing changes while it is looked at. */
    bool tree = kssi_lock_unless_held(&m->tree_lock), sched = kssi_lock_unless_held(&m->sched_lock);
    r = check_all(m);
    if (sched)
        kssi_unlock(&m->sched_lock);
    if (tree)
        kssi_unlock(&m->tree_lock);
    kssi_irq_restore(on);
    return r;
}

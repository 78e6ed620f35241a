/* SPDX-License-Identifier: MIT */
/* Looking at kernel stacks: whose an address is, how deep, which frames. */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const kinds[] = { "task stack",         "interrupt stack", "vector stack",
                                     "double-fault stack", "entry stack",     "user stack",
                                     "no known stack" };

const char *kss_stack_kind_name(enum kss_stack_kind kind)
{
    return (unsigned)kind < sizeof kinds / sizeof kinds[0] ? kinds[kind] : "?";
}

static bool within(const struct kssi_range *r, uintptr_t a)
{
    return r->high && a >= r->low && a < r->high;
}

static enum kss_stack_kind cpu_stack_kind(const struct kssi_cpu *cpu, uintptr_t a)
{
    if (within(&cpu->stacks.irq, a))
        return KSS_STACK_IRQ;
    for (unsigned i = 1; i < KSSI_VECTOR_STACKS; i++)
        if (within(&cpu->stacks.vector[i], a))
            return i == 1 ? KSS_STACK_DOUBLE_FAULT : KSS_STACK_VECTOR;
    return KSS_STACK_UNKNOWN;
}

/* The thread whose kernel or user stack holds the address, or has it in the gap beside it. `beside` is
   how far outside, 0 inside. */
struct found {
    struct kss_thread *thread;
    enum kss_stack_kind kind;
    size_t below, above; /* outside: bytes below the low end, or at and above the high end */
};

static bool test_stack(struct kss_thread *t, enum kss_stack_kind kind, uintptr_t low, uintptr_t high,
                       size_t gap, uintptr_t a, struct found *f)
{
    if (!high || a + gap < low || a >= high + gap)
        return false;
    struct found now = { t, kind, a < low ? low - a : 0, a >= high ? a - high + 1 : 0 };
    size_t distance = now.below + now.above, best = f->below + f->above;
    if (f->kind == KSS_STACK_UNKNOWN || distance < best)
        *f = now;
    return distance == 0;
}

static void test_thread(struct kss_thread *t, uintptr_t a, struct found *f)
{
    size_t gap = t->machine->stack_gap;
    if (t->ti) {
        uintptr_t low = (uintptr_t)t->ti;
        size_t size = t->kstack_arena ? t->kstack_arena->size : t->machine->config.kstack_size;
        test_stack(t, KSS_STACK_TASK, low, low + size, gap, a, f);
    }
    if (t->user_high)
        test_stack(t, KSS_STACK_USER, t->user_low, t->user_high, t->user_arena ? 65536 : 0, a, f);
}

/* No locks: a fault may have come with them held. Interrupts are off or nothing runs. */
static struct found find(struct kss_machine *m, uintptr_t a)
{
    struct found f = { NULL, KSS_STACK_UNKNOWN, 0, 0 };
    for (unsigned i = 0; i < m->cpus; i++) {
        f.kind = cpu_stack_kind(&m->cpu[i], a);
        if (f.kind != KSS_STACK_UNKNOWN)
            return f;
        if (m->cpu[i].idle)
            test_thread(m->cpu[i].idle, a, &f);
    }
    for (unsigned i = 0; i < m->id_slots && m->by_id; i++)
        if (m->by_id[i])
            test_thread(m->by_id[i], a, &f);
    return f;
}

enum kss_stack_kind kss_stack_find(struct kss_machine *m, uintptr_t address, struct kss_thread **thread)
{
    if (thread)
        *thread = NULL;
    if (kssi_require_view(m) < 0)
        return KSS_STACK_UNKNOWN;
    struct found f = find(m, address);
    if (f.below || f.above)
        return KSS_STACK_UNKNOWN;
    if (thread)
        *thread = f.thread;
    return f.kind;
}

void kssi_stack_describe(struct kss_machine *m, uintptr_t address, char *out, size_t size)
{
    struct found f = find(m, address);
    const char *name = f.kind == KSS_STACK_TASK ? "kernel stack" : kss_stack_kind_name(f.kind);
    if (size)
        out[0] = '\0';
    if (f.kind == KSS_STACK_UNKNOWN)
        return;
    if (!f.thread)
        snprintf(out, size, "on a CPU's %s", name);
    else if (f.below)
        snprintf(out, size, "%zu bytes below the low end of the %s of thread %d (%s)", f.below, name,
                 f.thread->tid, f.thread->name);
    else if (f.above)
        snprintf(out, size, "%zu bytes above the high end of the %s of thread %d (%s)", f.above, name,
                 f.thread->tid, f.thread->name);
    else
        snprintf(out, size, "on the %s of thread %d (%s)", name, f.thread->tid, f.thread->name);
}

/* ---- one stack -------------------------------------------------------------------------------- */

/* NULL: the caller. Checks that the handle may be looked at from here. */
static int view(struct kss_thread **t)
{
    if (!*t) {
        if (!kssi_require_kernel())
            return kssi_error(-EPERM, "no thread given, and the caller is not one");
        *t = kssi_current();
        return 0;
    }
    if ((*t)->magic != KSSI_THREAD_MAGIC)
        return kssi_error(-EINVAL, "thread handle is none: reaped, or never one");
    return kssi_require_view((*t)->machine);
}

static bool is_running_here(const struct kss_thread *t)
{
    return kssi_this_cpu() && kssi_this_cpu()->current == t;
}

int kss_kstack_info(struct kss_thread *t, struct kss_kstack_info *k)
{
    int r = view(&t);
    if (r < 0)
        return r;
    if (!k)
        return kssi_error(-EINVAL, "no place for the stack's measures");
    if (!t->ti || !t->kstack_arena)
        return kssi_error(-ENODATA, "thread %d has no kernel stack %s", t->tid,
                          t->state == KSS_THREAD_ZOMBIE ? "any more" : "yet");
    struct kss_machine *m = t->machine;
    uintptr_t low = (uintptr_t)t->ti;
    memset(k, 0, sizeof *k);
    k->low = low;
    k->size = t->kstack_arena->size;
    k->high = low + k->size;
    k->user_frame = t->user_frame;
    if (is_running_here(t)) {
        k->sp = (uintptr_t)__builtin_frame_address(0);
        if (k->sp < k->low || k->sp >= k->high) /* on another stack: what it left here */
            k->sp = t->tf ? (uintptr_t)t->tf : 0;
    } else if (t->context_saved && t->state != KSS_THREAD_ZOMBIE) {
        k->sp = m->platform->context_sp(t->context);
    }
    k->depth = k->sp ? k->high - k->sp : 0;
    k->high_water = kssi_kstack_high_water(low, k->size, m->config.poison);
    if (k->high_water < k->depth)
        k->high_water = k->depth;
    size_t gap = t->kstack_arena->stride - k->size;
    k->guard_low = m->config.guards == KSS_GUARDS_BOTH ? gap : 0;
    k->guard_high = m->config.guards == KSS_GUARDS_BOTH ? gap
                    : m->config.guards == KSS_GUARDS_TRAILING ? gap / 2 : 0;
    k->canary_intact = t->ti->canary == t->canary;
    k->trap_frames = t->nesting;
    return 0;
}

/* ---- backtraces ------------------------------------------------------------------------------- */

struct walk {
    const struct kss_thread *thread; /* NULL: from here */
    const struct kss_trap_frame *tf;
    struct kss_frame *frames;
    int max, n;
    uintptr_t own; /* frame of the function that was asked: it and what it calls are left out */
};

static void run_walk(void *arg)
{
    struct walk *w = arg;
    const struct kssi_platform *p = kssi_this_cpu() ? kssi_this_cpu()->machine->platform
                                                    : w->thread->machine->platform;
    if (w->tf)
        w->n = p->backtrace_trap(w->tf, w->frames, w->max);
    else
        w->n = p->backtrace(w->thread ? w->thread->context : NULL, w->frames, w->max);
}

/* The frames of the library's own looking, on the CPU's stack for it, are left out. */
static void drop_own(struct kssi_cpu *cpu, struct walk *w)
{
    const struct kssi_range *s = &cpu->stacks.vector[7];
    int i = 0;
    while (i < w->n && ((w->frames[i].sp > s->low && w->frames[i].sp <= s->high) ||
                        (w->frames[i].sp <= w->own && w->own - w->frames[i].sp < 4096)))
        i++;
    memmove(w->frames, w->frames + i, (size_t)(w->n - i) * sizeof *w->frames);
    w->n -= i;
}

/* Unwinding takes more stack than a small kernel stack has: it runs on one of the CPU's own. */
__attribute__((noinline)) static void walk_on_own_stack(struct walk *w)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    if (!cpu || within(&cpu->stacks.vector[7], (uintptr_t)__builtin_frame_address(0))) {
        run_walk(w);
        return;
    }
    bool on = kssi_irq_save();
    int max = w->max;
    struct kss_frame *out = w->frames;
    bool here = !w->tf && !w->thread;
    w->frames = here ? cpu->walk_frames : out;
    w->max = here ? KSSI_WALK_FRAMES : max;
    kssi_call_on_stack(cpu->stacks.vector[7].high & ~(uintptr_t)63, run_walk, w);
    if (here) {
        drop_own(cpu, w);
        w->n = w->n < max ? w->n : max;
        if (w->n > 0) /* out may be NULL when there is no room */
            memcpy(out, w->frames, (size_t)w->n * sizeof *out);
        w->frames = out;
    }
    kssi_irq_restore(on);
}

int kssi_backtrace_trap(const struct kss_trap_frame *tf, struct kss_frame *frames, int max)
{
    struct walk w = { NULL, tf, frames, max, 0, 0 };
    walk_on_own_stack(&w);
    return w.n;
}

int kss_backtrace(struct kss_thread *t, struct kss_frame *frames, int max)
{
    int r = view(&t);
    if (r < 0)
        return r;
    if (max < 0 || (max && !frames))
        return kssi_error(-EINVAL, "room for %d frames: a count of at least 0 and an array", max);
    if (!t->ti)
        return kssi_error(-ENODATA, "thread %d has no kernel stack", t->tid);
    struct walk w = { is_running_here(t) ? NULL : t, NULL, frames, max, 0,
                      (uintptr_t)__builtin_frame_address(0) };
    if (w.thread && !t->context_saved)
        return kssi_error(-EBUSY, "thread %d runs on another CPU", t->tid);
    walk_on_own_stack(&w);
    return w.n;
}

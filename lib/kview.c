/* SPDX-License-Identifier: MIT */
/* Looking at kernel stacks: whose an address is, how deep, which frames. */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const kinds[] = { "task stack",         "interrupt stack", "vector stack",
                                     "double-fault stack", "entry stack",     "scheduler stack",
                                     "user stack",         "no known stack" };

const char *kss_stack_kind_name(enum kss_stack_kind kind)
{
    return (unsigned)kind < sizeof kinds / sizeof kinds[0] ? kinds[kind] : "?";
}

static bool within(const struct kssi_range *r, uintptr_t a)
{
    return r->high && a >= r->low && a < r->high;
}

static enum kss_stack_kind vector_kind(unsigned index)
{
    return index == KSSI_STACK_DOUBLE_FAULT ? KSS_STACK_DOUBLE_FAULT : index == KSSI_STACK_CLASS ? KSS_STACK_SCHED : KSS_STACK_VECTOR;
}

const struct kssi_range *kssi_range_of(const struct kssi_cpu *cpu, uintptr_t sp, enum kss_stack_kind *kind)
{
    const struct kssi_cpu_stacks *s = &cpu->stacks;
    const struct kssi_range *range = &s->task;
    size_t gap = cpu->machine->stack_gap, nearest = sp > s->task.high ? SIZE_MAX : s->task.low - sp;
    *kind = KSS_STACK_TASK;
    if (sp >= s->task.low && sp <= s->task.high)
        return range;
    for (unsigned i = 0; i < KSSI_VECTOR_STACKS; i++) {
        const struct kssi_range *v = i ? &s->vector[i] : &s->irq;
        bool in = v->high && sp > v->low && sp <= v->high;
        if (in || (v->high && sp <= v->low && v->low - sp < gap && v->low - sp < nearest)) {
            nearest = in ? 0 : v->low - sp;
            range = v;
            *kind = i == 0 ? KSS_STACK_IRQ : vector_kind(i);
        }
        if (in)
            break;
    }
    return range;
}

/* A frame that leaps over a guard was at most this large: a guess. */
#define FRAME_LIMIT ((size_t)1 << 20)

/* The best candidate so far: the stack that holds the address, else the one with the nearest end. */
struct found {
    struct kss_thread *thread;
    struct kss_report_near near;
};

static bool test_stack(struct kss_thread *t, enum kss_stack_kind kind, uintptr_t low, uintptr_t high, uintptr_t a,
                       size_t reach, struct found *f)
{
    if (!high || (a < low && low - a > reach) || (a >= high && a - high >= reach))
        return false;
    struct kss_report_near now = { .stack = kind, .tid = t ? t->tid : 0, .below = a < low ? low - a : 0,
                                   .above = a >= high ? a - high + 1 : 0 };
    size_t distance = now.below + now.above, best = f->near.below + f->near.above;
    if (f->near.stack == KSS_STACK_UNKNOWN || distance < best)
        *f = (struct found){ t, now };
    return distance == 0;
}

static bool test_thread(struct kss_thread *t, uintptr_t a, size_t reach, struct found *f)
{
    size_t size = t->kstack_arena ? t->kstack_arena->size : t->machine->config.kstack_size;
    uintptr_t low = (uintptr_t)t->ti;
    if (low && test_stack(t, KSS_STACK_TASK, low, low + size, a, reach, f))
        return true;
    return test_stack(t, KSS_STACK_USER, t->user_low, t->user_high, a, t->user_arena ? reach : 0, f);
}

/* A slot that nobody has now, in an arena: whose it was last. */
static bool find_freed(struct kss_machine *m, uintptr_t a, struct found *f)
{
    for (unsigned i = 0; i < 48; i++) {
        struct kssi_arena *arena = i < 16 ? m->kernel_arenas[i] : m->user_arenas[i - 16];
        uintptr_t base = arena ? (uintptr_t)arena->base : 0;
        if (!arena || a < base || a - base >= arena->fresh * arena->stride)
            continue;
        size_t slot = (a - base) / arena->stride;
        if ((a - base) % arena->stride >= arena->size || !arena->owner[slot])
            return false;
        *f = (struct found){ NULL, { .stack = arena->kernel ? KSS_STACK_TASK : KSS_STACK_USER,
                                     .tid = arena->owner[slot], .freed = true } };
        return true;
    }
    return false;
}

static bool find_live(struct kss_machine *m, uintptr_t a, size_t reach, struct found *f)
{
    for (unsigned i = 0; i < m->cpus; i++) {
        const struct kssi_cpu_stacks *s = &m->cpu[i].stacks;
        if (test_stack(NULL, KSS_STACK_IRQ, s->irq.low, s->irq.high, a, reach, f))
            return true;
        for (unsigned v = 1; v < KSSI_VECTOR_STACKS; v++)
            if (test_stack(NULL, vector_kind(v), s->vector[v].low, s->vector[v].high, a, reach, f))
                return true;
        if (m->cpu[i].idle && test_thread(m->cpu[i].idle, a, reach, f))
            return true;
    }
    for (unsigned i = 0; i < m->id_slots && m->by_id; i++)
        if (m->by_id[i] && test_thread(m->by_id[i], a, reach, f))
            return true;
    return false;
}

/* No locks: a fault may have come with them held. Interrupts are off or nothing runs. */
static struct found find(struct kss_machine *m, uintptr_t a)
{
    struct found f = { NULL, { .stack = KSS_STACK_UNKNOWN } };
    if (find_live(m, a, m->stack_gap, &f) || find_freed(m, a, &f) || f.near.stack != KSS_STACK_UNKNOWN)
        return f;
    find_live(m, a, FRAME_LIMIT, &f);
    f.near.guess = f.near.stack != KSS_STACK_UNKNOWN;
    if (f.near.above) /* stacks grow down: nobody leaps up */
        f = (struct found){ NULL, { .stack = KSS_STACK_UNKNOWN } };
    return f;
}

/* In a gap the nearer stack is meant, but for one: who touches what is below its own stack has overrun that. */
void kssi_stack_near(struct kss_machine *m, uintptr_t address, struct kss_thread *by, struct kss_report_near *near,
                     struct kss_thread **thread)
{
    struct found f = find(m, address);
    struct found own = { NULL, { .stack = KSS_STACK_UNKNOWN } };
    if (f.near.below || f.near.above)
        test_thread(by, address, m->stack_gap, &own);
    if (own.near.below)
        f = own;
    *near = f.near;
    *thread = f.thread;
}

enum kss_stack_kind kss_stack_find(struct kss_machine *m, uintptr_t address, struct kss_thread **thread)
{
    if (thread)
        *thread = NULL;
    if (kssi_require_view(m) < 0)
        return KSS_STACK_UNKNOWN;
    struct found f = find(m, address);
    if (f.near.below || f.near.above || f.near.freed)
        return KSS_STACK_UNKNOWN;
    if (thread)
        *thread = f.thread;
    return f.near.stack;
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
    return kssi_view_thread(*t);
}

static bool is_running_here(const struct kss_thread *t)
{
    return kssi_cpu_mode() == KSS_MODE_KERNEL && kssi_current() == t;
}

/*
 * Where the current thread left its own stack for an interrupt or vector stack: the innermost of its trap frames that
 * lies there, or that interrupted it there. What the entry's own functions use below such a frame is not counted.
 */
static uintptr_t left_at(const struct kss_thread *t, const struct kss_kstack_info *k)
{
    for (const struct kss_trap_frame *tf = t->tf; tf; tf = tf->prev) {
        uintptr_t at = (uintptr_t)tf, sp = kssi_frame_sp(tf);
        if (at >= k->low && at < k->high)
            return at;
        if (tf->mode == KSS_MODE_KERNEL && sp > k->low && sp < k->high)
            return sp;
    }
    return 0;
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
        if (k->sp < k->low || k->sp >= k->high)
            k->sp = left_at(t, k);
    } else if (t->context_saved && t->state != KSS_THREAD_ZOMBIE) {
        k->sp = m->platform->context_sp(t->context);
    }
    k->depth = k->sp ? k->high - k->sp : 0;
    k->high_water = kssi_kstack_high_water(low, k->size, m->config.poison);
    if (k->high_water < t->high_water) /* what was erased since */
        k->high_water = t->high_water;
    if (k->high_water < k->depth)
        k->high_water = k->depth;
    kssi_stack_guards(m, low, &k->guard_low, &k->guard_high);
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
    const struct kssi_range *s = &cpu->stacks.vector[KSSI_STACK_REPORT];
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
    bool on = kssi_this_cpu() && kssi_irq_save();
    struct kssi_cpu *cpu = kssi_this_cpu();
    if (!cpu || within(&cpu->stacks.vector[KSSI_STACK_REPORT], (uintptr_t)__builtin_frame_address(0))) {
        run_walk(w);
        kssi_irq_restore(on);
        return;
    }
    int max = w->max;
    struct kss_frame *out = w->frames;
    bool here = !w->tf && !w->thread;
    w->frames = here ? cpu->walk_frames : out;
    w->max = here ? KSSI_WALK_FRAMES : max;
    kssi_call_on_report_stack(cpu, run_walk, w);
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
    /* It must not be taken to a CPU while its stack is read. */
    bool hold = w.thread && kssi_this_cpu(), on = hold && kssi_irq_save();
    bool locked = hold && kssi_lock_unless_held(&t->machine->sched_lock);
    bool elsewhere = w.thread && (!t->context_saved || t->on_cpu);
    if (!elsewhere)
        walk_on_own_stack(&w);
    if (locked)
        kssi_unlock(&t->machine->sched_lock);
    kssi_irq_restore(on);
    return elsewhere ? kssi_error(-EBUSY, "thread %d runs on another CPU", t->tid) : w.n;
}

/* SPDX-License-Identifier: MIT */
/*
 * The profile: at each tick the interrupted stack, at each sleep the sleeper's, is walked and counted. A walk may
 * meet anything, since user code may have put its stack pointer anywhere: a fault ends the walk, as it does for
 * reports. Where libc or the unwinder itself was interrupted, a lock of theirs may be held: no sample is taken.
 */
#include "profile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct sample {
    struct kssi_cpu *cpu;
    const struct kss_trap_frame *tf; /* NULL: from here */
    uintptr_t own;                   /* frames at and below it are the profile's own */
    int n;
};

int kssi_profile_init(struct kss_machine *m)
{
    if (!m->config.profile)
        return 0;
    m->profile = calloc(1, sizeof *m->profile);
    if (!m->profile)
        return kssi_error(-ENOMEM, "no host memory for the profile");
    kss_spinlock_init(&m->profile->lock, "profile");
    return 0;
}

void kssi_profile_fini(struct kss_machine *m)
{
    free(m->profile);
}

/* ---- counting --------------------------------------------------------------------------------- */

static bool in_range(const struct kssi_range *r, uintptr_t sp)
{
    return r->high && sp >= r->low && sp < r->high;
}

/* The high end of the stack that a frame lies on; 0: none that is known. */
static uintptr_t top_of(const struct kssi_cpu *cpu, uintptr_t sp)
{
    const struct kssi_cpu_stacks *s = &cpu->stacks;
    const struct kss_thread *t = cpu->current;
    if (in_range(&s->task, sp))
        return s->task.high;
    if (in_range(&s->irq, sp))
        return s->irq.high;
    for (unsigned i = 1; i < KSSI_VECTOR_STACKS; i++)
        if (in_range(&s->vector[i], sp))
            return s->vector[i].high;
    return sp >= t->user_low && sp < t->user_high ? t->user_high : 0;
}

/* Its place in the table; -1: full. */
static int find_function(struct kssi_profile *p, uintptr_t start, enum kss_frame_kind kind)
{
    unsigned i = (unsigned)((start * 0x9e3779b97f4a7c15u) >> 32) + (unsigned)kind;
    for (;; i++) {
        struct kssi_profile_function *f = &p->function[i %= KSSI_PROFILE_FUNCTIONS];
        if (f->samples && f->start == start && f->kind == kind)
            return (int)i;
        if (f->samples)
            continue;
        if (p->functions == KSSI_PROFILE_FUNCTIONS / 4 * 3)
            return -1;
        f->start = start;
        f->kind = kind;
        p->functions++;
        return (int)i;
    }
}

static int count_function(struct kssi_profile *p, const struct kssi_cpu *cpu, const struct kss_frame *frame)
{
    const struct kss_trap_frame *tf = (const struct kss_trap_frame *)frame->sp;
    bool trap = frame->kind == KSS_FRAME_TRAP && tf->magic == KSS_TRAP_FRAME_MAGIC;
    int i = find_function(p, trap ? tf->vector : frame->pc, frame->kind);
    if (i < 0)
        return i;
    struct kssi_profile_function *f = &p->function[i];
    uintptr_t top = top_of(cpu, frame->sp);
    if (top && frame->size <= top - frame->sp && frame->size > f->frame)
        f->frame = frame->size;
    if (top && top - frame->sp > f->depth)
        f->depth = top - frame->sp;
    if (f->last != p->samples || !f->samples)
        __atomic_store_n(&f->samples, f->samples + 1, __ATOMIC_RELEASE);
    f->last = p->samples;
    return i;
}

static bool same(const struct kssi_profile_stack *a, const struct kssi_profile_stack *b)
{
    return a->hash == b->hash && a->frames == b->frames && strcmp(a->thread, b->thread) == 0 &&
           memcmp(a->function, b->function, a->frames * sizeof a->function[0]) == 0;
}

static bool count_stack(struct kssi_profile *p, struct kssi_profile_stack *s)
{
    s->hash = 14695981039346656037u;
    for (const char *c = s->thread; *c; c++)
        s->hash = (s->hash ^ (unsigned char)*c) * 1099511628211u;
    for (unsigned i = 0; i < s->frames; i++)
        s->hash = (s->hash ^ s->function[i]) * 1099511628211u;
    for (unsigned i = (unsigned)(s->hash >> 32);; i++) {
        struct kssi_profile_stack *place = &p->stack[i %= KSSI_PROFILE_STACKS];
        if (place->count && !same(place, s))
            continue;
        if (!place->count && p->stacks == KSSI_PROFILE_STACKS / 4 * 3)
            return false;
        if (!place->count) {
            *place = *s;
            p->stacks++;
        }
        __atomic_store_n(&place->count, place->count + 1, __ATOMIC_RELEASE);
        return true;
    }
}

static void count(struct kssi_cpu *cpu, const struct kss_frame *frames, int n)
{
    struct kssi_profile *p = cpu->machine->profile;
    struct kssi_profile_stack s = { .frames = 0 };
    bool kept = true;
    memcpy(s.thread, cpu->current->name, sizeof s.thread);
    kssi_lock(&p->lock, cpu->current);
    p->samples++;
    for (int i = 0; i < n && kept; i++) {
        int f = count_function(p, cpu, &frames[i]);
        kept = f >= 0;
        if (kept)
            s.function[s.frames++] = (uint16_t)f;
    }
    if (!kept || !count_stack(p, &s))
        p->lost++;
    kssi_unlock(&p->lock);
}

/* ---- walking ---------------------------------------------------------------------------------- */

static void walk(struct sample *s)
{
    struct kssi_cpu *cpu = s->cpu;
    struct kss_frame *frames = cpu->walk_frames;
    volatile int n = 0;
    for (int i = 0; i < KSSI_WALK_FRAMES; i++)
        frames[i].pc = 0;
    if (__builtin_setjmp(cpu->rescue) == 0) {
        cpu->walking = true;
        n = cpu->machine->platform->sample(s->tf, frames, KSSI_WALK_FRAMES);
    } else {
        while (n < KSSI_WALK_FRAMES && frames[n].pc)
            n++;
    }
    cpu->walking = false;
    s->n = n;
}

static void take(void *arg)
{
    struct sample *s = arg;
    const struct kssi_range *here = &s->cpu->stacks.vector[KSSI_STACK_REPORT];
    const struct kss_frame *f = s->cpu->walk_frames;
    walk(s);
    for (; !s->tf && s->n > 0; f++, s->n--) {
        bool walking = f->sp > here->low && f->sp <= here->high;
        if (!walking && (f->sp > s->own || s->own - f->sp >= 4096))
            break;
    }
    if (s->n > 0)
        count(s->cpu, f, s->n);
}

/* Interrupts off. On the CPU's own stack for such things, unless that is in use. */
static void sample(struct sample *s)
{
    if (!s->cpu->reporting && !s->cpu->walking && !s->cpu->stacks.vector_busy[KSSI_STACK_REPORT])
        kssi_call_on_report_stack(s->cpu, take, s);
}

void kssi_profile_tick(struct kssi_cpu *cpu)
{
    struct sample s = { cpu, cpu->current->tf, 0, 0 };
    if (cpu->current != cpu->idle && s.tf && !cpu->machine->platform->in_host_code(kssi_frame_pc(s.tf)))
        sample(&s);
}

__attribute__((noinline)) void kssi_profile_sleep(void)
{
    bool on = kssi_irq_save();
    struct sample s = { kssi_this_cpu(), NULL, (uintptr_t)__builtin_frame_address(0), 0 };
    sample(&s);
    kssi_irq_restore(on);
}

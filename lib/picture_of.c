/* SPDX-License-Identifier: MIT */
/* Whose stack a picture is of: a thread's as it is now, or the one that a report describes. */
#include "picture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define OWN_FRAMES 8 /* at most, of the library's own looking */

/* A backtrace that is full may have been cut; not where it has come to the trap frame from user mode. */
static bool is_cut(const struct kss_frame *frames, int n, int full, enum kss_frame_kind kind)
{
    return n >= full && frames[n - 1].kind == kind;
}

/* ---- a thread --------------------------------------------------------------------------------- */

/* The caller's own frames end at the function that was called, and so does its stack in the picture. */
static uintptr_t drop_own(struct kssi_picture_source *s, uintptr_t own)
{
    for (; s->frames > 0 && s->frame->sp <= own && own - s->frame->sp < 4096; s->frame++)
        s->frames--;
    uintptr_t sp = 0;
    for (int i = 0; i < s->frames && !sp; i++)
        if (s->frame[i].sp >= s->low && s->frame[i].sp < s->high)
            sp = s->frame[i].sp;
    return sp;
}

static void fill(struct kss_thread *t, const struct kss_kstack_info *k, struct kss_stack_picture *p,
                 struct kss_frame *frames, uintptr_t own)
{
    bool zombie = t->state == KSS_THREAD_ZOMBIE; /* what it has left is no work any more */
    bool here = kssi_this_cpu() && kssi_current() == t;
    int n = zombie ? 0 : kss_backtrace(t, frames, KSSI_WALK_FRAMES);
    char info[100];
    struct kssi_picture_source s = {
        .low = k->low, .high = k->high, .sp = zombie ? 0 : k->sp, .user_frame = k->user_frame,
        .high_water = k->high_water, .guard_low = k->guard_low, .guard_high = k->guard_high, .info = info,
        .canary_intact = k->canary_intact, .live = true, .frame = frames,
        .cut = is_cut(frames, n, KSSI_WALK_FRAMES - OWN_FRAMES, KSS_FRAME_KERNEL),
        .frames = n > 0 ? n : 0,
    };
    if (here && n > 0)
        s.sp = drop_own(&s, own);
    snprintf(info, sizeof info, "thread_info: preempt_count %d%s%s", t->ti->preempt_count,
             t->ti->flags & KSS_TI_NEED_RESCHED ? ", need_resched" : "",
             t->ti->flags & KSS_TI_KILLED ? ", killed" : "");
    if (!t->machine->config.poison)
        s.high_water = 0;
    kssi_picture_build(p, &s);
    snprintf(p->title, sizeof p->title, "kernel stack of thread %d (%s)", t->tid, t->name);
    snprintf(p->state, sizeof p->state, "%s%s%s", kss_thread_state_name(t->state), t->wait_channel ? ": " : "",
             t->wait_channel ? t->wait_channel : "");
}

/* A host thread has stack enough for the frames. */
__attribute__((noinline)) static void fill_on_host(struct kss_thread *t, const struct kss_kstack_info *k,
                                                   struct kss_stack_picture *p)
{
    struct kss_frame frames[KSSI_WALK_FRAMES];
    fill(t, k, p, frames, 0);
}

int kssi_picture_thread(struct kss_thread *t, struct kss_stack_picture *p, uintptr_t own)
{
    struct kss_kstack_info k;
    int r = kss_kstack_info(t, &k);
    if (r < 0)
        return r;
    if (!kssi_this_cpu()) {
        fill_on_host(t, &k, p);
        return 0;
    }
    bool on = kssi_irq_save(); /* the CPU's room for frames is one for all */
    fill(t ? t : kssi_current(), &k, p, kssi_this_cpu()->picture_frames, own);
    kssi_irq_restore(on);
    return 0;
}

int kss_picture_thread(struct kss_thread *t, struct kss_stack_picture *p)
{
    kssi_require_kernel(); /* or the host */
    if (!p)
        return kssi_error(-EINVAL, "no place for the picture");
    return kssi_picture_thread(t, p, (uintptr_t)__builtin_frame_address(0));
}

/* ---- a report --------------------------------------------------------------------------------- */

#define BEYOND_MAX ((size_t)1 << 20) /* a stack pointer further off is another matter than an overflow */

static void say_what(const struct kss_report *r, struct kss_stack_picture *p, bool sp_is_there)
{
    char where[64] = "";
    const char *kind = kss_report_kind_name(r->kind);
    bool said = strncmp(r->message, kind, strlen(kind)) == 0;
    snprintf(p->title, sizeof p->title, "%s of thread %d (%s)",
             r->stack == KSS_STACK_TASK ? "kernel stack" : kss_stack_kind_name(r->stack), r->tid, r->thread_name);
    if (r->stack != KSS_STACK_TASK && r->stack != KSS_STACK_USER)
        snprintf(p->title, sizeof p->title, "%s of CPU %u, under thread %d (%s)",
                 kss_stack_kind_name(r->stack), r->cpu, r->tid, r->thread_name);
    if (!sp_is_there && r->sp)
        snprintf(where, sizeof where, " (stack pointer %#lx: elsewhere)", (unsigned long)r->sp);
    struct kssi_text state = { p->state, sizeof p->state, 0 };
    kssi_text_print(&state, "%s%s%s%s", said ? "" : kind, said ? "" : ": ", r->message, where);
}

int kss_picture_report(const struct kss_report *r, struct kss_stack_picture *p)
{
    if (!r || !p)
        return kssi_error(-EINVAL, "no report, or no place for the picture");
    int bad = kssi_report_check(r, NULL, 0);
    if (bad < 0)
        return bad;
    if (r->stack_low >= r->stack_high || r->stack_low % sizeof(uintptr_t))
        return kssi_error(-ENODATA, "the report names no stack: it has [%#lx, %#lx)", (unsigned long)r->stack_low,
                          (unsigned long)r->stack_high);
    size_t size = r->stack_high - r->stack_low, room = r->stack_low < BEYOND_MAX ? r->stack_low : BEYOND_MAX;
    bool there = r->sp >= r->stack_low - room && r->sp <= r->stack_high;
    bool user = r->stack == KSS_STACK_USER;
    if (r->frames < 0 || r->frames > KSS_REPORT_FRAMES || (!user && size < sizeof(struct kss_thread_info)))
        return kssi_error(-EINVAL, "the report has %d frames on a stack of %zu bytes: that is none",
                          r->frames, size);
    struct kssi_picture_source s = {
        .low = r->stack_low, .high = r->stack_high, .sp = there ? r->sp : 0,
        .user_frame = r->user_frame > r->stack_low && r->user_frame < r->stack_high ? r->user_frame : 0,
        .high_water = r->high_water <= size ? r->high_water : 0,
        .guard_low = r->guard_low < r->stack_low ? r->guard_low : 0,
        .guard_high = r->guard_high < UINTPTR_MAX - r->stack_high ? r->guard_high : 0,
        .info = user ? NULL : "thread_info", .canary_intact = r->canary_intact || r->stack != KSS_STACK_TASK,
        .user = user, .frame = r->frame, .frames = r->frames,
        .cut = is_cut(r->frame, r->frames, KSS_REPORT_FRAMES, user ? KSS_FRAME_USER : KSS_FRAME_KERNEL),
    };
    if (s.high_water && s.sp && s.high_water < r->stack_high - s.sp) /* frames that were not written to yet */
        s.high_water = s.sp < s.low ? size : s.high - s.sp;
    kssi_picture_build(p, &s);
    say_what(r, p, there);
    return kss_picture_check(p); /* a report may have come from anywhere */
}

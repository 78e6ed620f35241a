/* SPDX-License-Identifier: MIT */
/*
 * The picture of a stack, built from its high end to its low end: each part begins where the one before it
 * ended, so that whatever the backtrace says, nothing is left out and nothing is there twice.
 */
#include "picture.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TAIL_PARTS 8 /* kept for what follows the frames */
#define MOST_BYTES ((size_t)1 << 40)

static const struct {
    const char *name, *id;
} kinds[KSS_PART_KINDS] = {
    [KSS_PART_GUARD] = { "guard", "guard" },
    [KSS_PART_TRAP] = { "trap frame", "trap-frame" },
    [KSS_PART_FRAME] = { "function's frame", "frame" },
    [KSS_PART_PADDING] = { "red zone, alignment", "padding" },
    [KSS_PART_USED] = { "used earlier", "used" },
    [KSS_PART_UNUSED] = { "never used", "unused" },
    [KSS_PART_CANARY] = { "canary", "canary" },
    [KSS_PART_THREAD_INFO] = { "thread_info", "thread-info" },
    [KSS_PART_BEYOND] = { "past the end", "beyond" },
};

const char *kss_part_kind_name(enum kss_part_kind kind)
{
    return (unsigned)kind < KSS_PART_KINDS ? kinds[kind].name : "?";
}

const char *kss_part_kind_id(enum kss_part_kind kind)
{
    return (unsigned)kind < KSS_PART_KINDS ? kinds[kind].id : "?";
}

/* ---- building --------------------------------------------------------------------------------- */

struct builder {
    struct kss_stack_picture *p;
    const struct kssi_picture_source *s;
    uintptr_t at;    /* low end of the last part */
    uintptr_t floor; /* frames inside the stack end here */
    bool full;       /* no room for all frames */
};

/* The next part, down to `low`; nothing if that is not below the last one. */
static void add(struct builder *b, enum kss_part_kind kind, uintptr_t low, const char *format, ...)
    KSS_PRINTF(4, 5);
static void add(struct builder *b, enum kss_part_kind kind, uintptr_t low, const char *format, ...)
{
    va_list ap;
    if (low >= b->at || b->p->parts == KSS_PICTURE_PARTS)
        return;
    struct kss_stack_part *part = &b->p->part[b->p->parts++];
    part->kind = kind;
    part->high = b->at;
    part->low = low;
    va_start(ap, format);
    vsnprintf(part->label, sizeof part->label, format, ap);
    va_end(ap);
    b->at = low;
}

static uintptr_t at_least(uintptr_t a, uintptr_t low)
{
    return a > low ? a : low;
}

static const char *symbol(const struct kss_frame *f)
{
    return f->symbol[0] ? f->symbol : "?";
}

static void add_trap(struct builder *b, const struct kss_frame *f, const struct kss_frame *interrupted)
{
    const struct kss_trap_frame *tf = (const struct kss_trap_frame *)f->sp;
    uintptr_t low = at_least(f->sp, b->floor);
    bool known = b->s->live && tf->magic == KSS_TRAP_FRAME_MAGIC;
    bool user = known ? tf->mode == KSS_MODE_USER : interrupted && interrupted->kind == KSS_FRAME_USER;
    if (f->sp + f->size < b->at && f->sp + f->size > b->floor) {
        bool wide = b->at == b->s->high && b->at - (f->sp + f->size) >= 64;
        add(b, KSS_PART_PADDING, f->sp + f->size, "%s", wide ? "room for a larger trap frame, or a random offset"
            : b->at == b->s->high ? "alignment" : "red zone and alignment");
    }
    const char *mode = !known && !interrupted ? "" : user ? " in user mode" : " in kernel mode";
    add(b, KSS_PART_TRAP, low, "trap frame%s%s%s%s%s", known ? ": " : mode[0] ? ": taken" : "",
        known ? kss_vector_name(tf->vector) : "", mode, interrupted ? ", at " : "",
        interrupted ? symbol(interrupted) : "");
}

static void add_function(struct builder *b, const struct kss_frame *f, bool first)
{
    const struct kssi_picture_source *s = b->s;
    if (first && s->user_frame && f->sp < s->user_frame && !s->cut)
        /* the first frames of a thread that has not been in user mode */
        add(b, KSS_PART_PADDING, s->user_frame, "place of the trap frame of entries from user mode: empty");
    if (f->size && f->size < b->at - f->sp && f->sp + f->size >= b->floor)
        add(b, KSS_PART_FRAME, f->sp + f->size, "outer frames, not listed");
    add(b, KSS_PART_FRAME, at_least(f->sp, b->floor), "%s+%#lx", symbol(f), (unsigned long)f->offset);
}

/* Does the frame belong to this picture, below what it has already? */
static bool belongs(const struct builder *b, const struct kss_frame *f)
{
    if (f->kind == KSS_FRAME_USER && !b->s->user)
        return false;
    return f->sp >= b->s->sp && f->sp < b->at;
}

/* The live part, from the outermost frame down to the stack pointer or the end of the stack. */
static void add_frames(struct builder *b)
{
    const struct kssi_picture_source *s = b->s;
    int n = s->cut && s->frames > 0 ? s->frames - 1 : s->frames; /* the size of the outermost is not known then */
    for (int i = n - 1; i >= 0 && b->at > b->floor; i--) {
        const struct kss_frame *f = &s->frame[i];
        if (!belongs(b, f))
            continue;
        if (b->p->parts >= KSS_PICTURE_PARTS - TAIL_PARTS) {
            b->full = true;
            break;
        }
        if (f->kind == KSS_FRAME_TRAP)
            add_trap(b, f, i + 1 < s->frames ? &s->frame[i + 1] : NULL);
        else
            add_function(b, f, b->at == s->high);
    }
    if (s->sp)
        add(b, KSS_PART_FRAME, at_least(s->sp, b->floor), "%s",
            b->full ? "more frames than a picture has room for" : "innermost frame");
}

static void add_rest(struct builder *b)
{
    const struct kssi_picture_source *s = b->s;
    if (!s->high_water) {
        add(b, KSS_PART_UNUSED, b->floor, "free");
        return;
    }
    add(b, KSS_PART_USED, at_least(s->high - s->high_water, b->floor),
        "used earlier, down to the high-water mark");
    add(b, KSS_PART_UNUSED, b->floor, "never used: poison");
}

/* What an overflow has put past the low end, and what of the guard lies below that. */
static void add_beyond(struct builder *b)
{
    const struct kssi_picture_source *s = b->s;
    for (int i = s->frames - 1; i >= 0 && s->sp && s->sp < s->low; i--)
        if (belongs(b, &s->frame[i]) && b->p->parts < KSS_PICTURE_PARTS - 2)
            add(b, KSS_PART_BEYOND, s->frame[i].sp, "%s+%#lx, past the end", symbol(&s->frame[i]),
                (unsigned long)s->frame[i].offset);
    if (s->sp)
        add(b, KSS_PART_BEYOND, s->sp, "past the end");
    if (s->guard_low)
        add(b, KSS_PART_GUARD, s->low - s->guard_low, "guard%s", b->at < s->low ? ", what is left of it" : "");
}

void kssi_picture_build(struct kss_stack_picture *p, const struct kssi_picture_source *s)
{
    struct builder b = { p, s, s->high + s->guard_high, s->low, false };
    uintptr_t info = s->low + sizeof(struct kss_thread_info);
    p->low = s->low;
    p->high = s->high;
    p->sp = s->sp;
    p->high_water = s->high_water;
    p->guard_low = s->guard_low;
    p->guard_high = s->guard_high;
    p->parts = 0;
    if (s->info)
        b.floor = info;
    if (s->guard_high)
        add(&b, KSS_PART_GUARD, s->high, "guard");
    if (s->sp)
        add_frames(&b);
    add_rest(&b);
    if (s->info) {
        add(&b, KSS_PART_CANARY, info - sizeof(uint64_t), "canary, %s",
            s->canary_intact ? "intact" : "OVERWRITTEN");
        add(&b, KSS_PART_THREAD_INFO, s->low, "%s", s->info);
    }
    add_beyond(&b);
}

/* ---- checking --------------------------------------------------------------------------------- */

static int check_part(const struct kss_stack_picture *p, unsigned i)
{
    const struct kss_stack_part *part = &p->part[i];
    bool outside = part->kind == KSS_PART_GUARD || part->kind == KSS_PART_BEYOND;
    if ((unsigned)part->kind >= KSS_PART_KINDS)
        return kssi_error(-EINVAL, "part %u of the picture has the kind %d: 0 to %d are allowed", i,
                          (int)part->kind, KSS_PART_KINDS - 1);
    if (part->low >= part->high || (i && part->high != part[-1].low))
        return kssi_error(-EINVAL,
                          "part %u of the picture is [%#lx, %#lx): it must not be empty, and must end where "
                          "part %u begins",
                          i, (unsigned long)part->low, (unsigned long)part->high, i - 1);
    if (outside ? part->low < p->high && part->high > p->low : part->low < p->low || part->high > p->high)
        return kssi_error(-EINVAL,
                          "part %u of the picture, %s at [%#lx, %#lx), is on the wrong side of the stack's "
                          "[%#lx, %#lx)",
                          i, kinds[part->kind].name, (unsigned long)part->low, (unsigned long)part->high,
                          (unsigned long)p->low, (unsigned long)p->high);
    if (!memchr(part->label, '\0', sizeof part->label))
        return kssi_error(-EINVAL, "the label of part %u of the picture has no end", i);
    return 0;
}

int kss_picture_check(const struct kss_stack_picture *p)
{
    if (!p)
        return kssi_error(-EINVAL, "no picture");
    if (p->low >= p->high || !p->parts || p->parts > KSS_PICTURE_PARTS)
        return kssi_error(
            -EINVAL, "the picture has %u parts of a stack [%#lx, %#lx): 1 to %d of one that is not empty",
            p->parts, (unsigned long)p->low, (unsigned long)p->high, KSS_PICTURE_PARTS);
    if (!memchr(p->title, '\0', sizeof p->title) || !memchr(p->state, '\0', sizeof p->state))
        return kssi_error(-EINVAL, "the title or the state of the picture has no end");
    for (unsigned i = 0; i < p->parts; i++) {
        int r = check_part(p, i);
        if (r < 0)
            return r;
    }
    uintptr_t top = p->part[0].high, bottom = p->part[p->parts - 1].low;
    if (top < p->high || bottom > p->low)
        return kssi_error(
            -EINVAL, "the parts of the picture cover [%#lx, %#lx), not all of the stack's [%#lx, %#lx)",
            (unsigned long)bottom, (unsigned long)top, (unsigned long)p->low, (unsigned long)p->high);
    if (top - bottom > MOST_BYTES)
        return kssi_error(-EINVAL, "the picture has %zu bytes: at most %zu (1 TiB) are allowed",
                          (size_t)(top - bottom), MOST_BYTES);
    if (p->sp && (p->sp < bottom || p->sp > top))
        return kssi_error(-EINVAL, "the stack pointer %#lx is not in the picture's [%#lx, %#lx)",
                          (unsigned long)p->sp, (unsigned long)bottom, (unsigned long)top);
    if (p->high_water > p->high - p->low)
        return kssi_error(-EINVAL, "the high-water mark is %zu, and the stack has %zu bytes", p->high_water,
                          (size_t)(p->high - p->low));
    return 0;
}

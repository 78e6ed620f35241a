/* SPDX-License-Identifier: MIT */
/*
 * The picture of a kernel stack in text: every part from high to low addresses, each with as many rows
 * as its size asks for at a fixed number of bytes a row, and at least one.
 */
#include "kernel.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ROWS 32
#define FRAMES 48

struct canvas {
    char *buffer;
    size_t size, length;
    size_t unit; /* bytes a row */
};

static void print(struct canvas *c, const char *format, ...)
{
    va_list ap;
    size_t room = c->length < c->size ? c->size - c->length : 0;
    va_start(ap, format);
    int n = vsnprintf(room ? c->buffer + c->length : NULL, room, format, ap);
    va_end(ap);
    if (n > 0)
        c->length += (size_t)n;
}

/* One part: its label in the first row, its size in rows. */
static void part(struct canvas *c, char fill, uintptr_t high, uintptr_t low, const char *label)
{
    size_t rows = (high - low + c->unit / 2) / c->unit;
    if (high <= low)
        return;
    print(c, "  %#014lx |%c%c%c%c%c%c| %6zu  %s\n", (unsigned long)low, fill, fill, fill, fill, fill, fill,
          (size_t)(high - low), label);
    for (size_t i = 1; i < rows; i++)
        print(c, "  %14s |%c%c%c%c%c%c|\n", "", fill, fill, fill, fill, fill, fill);
}

static void trap_label(const struct kss_frame *f, const struct kss_frame *interrupted, char *out, size_t size)
{
    const struct kss_trap_frame *tf = (const struct kss_trap_frame *)f->sp;
    snprintf(out, size, "trap frame: %s in %s mode%s%s", kss_vector_name(tf->vector),
             tf->mode == KSS_MODE_USER ? "user" : "kernel", interrupted ? ", at " : "",
             interrupted ? interrupted->symbol : "");
}

/* The live part, from the outermost frame down to the stack pointer. */
static uintptr_t draw_frames(struct canvas *c, const struct kss_kstack_info *k, const struct kss_frame *f, int n)
{
    uintptr_t at = k->high;
    char label[192];
    for (int i = n - 1; i >= 0; i--) {
        if (f[i].sp < k->low || f[i].sp >= at)
            continue; /* user frames, and what is on other stacks */
        if (f[i].kind == KSS_FRAME_TRAP) {
            uintptr_t end = f[i].sp + f[i].size;
            if (end < at)
                part(c, ' ', at, end, at == k->high ? "alignment" : "red zone and alignment");
            trap_label(&f[i], i + 1 < n ? &f[i + 1] : NULL, label, sizeof label);
            part(c, 'T', end < at ? end : at, f[i].sp, label);
        } else {
            if (at == k->high && k->user_frame && f[i].sp < k->user_frame) {
                /* the first frames of a thread that has not been in user mode */
                part(c, ' ', at, k->user_frame, "trap frame of the last entry from user mode: empty");
                at = k->user_frame;
            }
            snprintf(label, sizeof label, "%s+%#lx", f[i].symbol[0] ? f[i].symbol : "?",
                     (unsigned long)f[i].offset);
            part(c, '#', at, f[i].sp, label);
        }
        at = f[i].sp;
    }
    return at;
}

static void draw(struct canvas *c, struct kss_thread *t, const struct kss_kstack_info *k,
                 const struct kss_frame *frames, int n)
{
    uintptr_t info = k->low + sizeof(struct kss_thread_info), canary = info - sizeof(uint64_t);
    char label[128];
    print(c, "kernel stack of thread %d (%s), %s%s%s\n", t->tid, t->name, kss_thread_state_name(t->state),
          t->wait_channel ? ": " : "", t->wait_channel ? t->wait_channel : "");
    print(c, "  %zu bytes, %zu in use, high-water mark %zu; a row is %zu bytes\n", k->size, k->depth,
          k->high_water, c->unit);
    print(c, "  %14s  ______   bytes\n", "low end at");
    if (k->guard_high)
        print(c, "  %14s |//////| %6zu  guard (not to scale)\n", "", k->guard_high);
    uintptr_t at = draw_frames(c, k, frames, n);
    if (k->sp && k->sp < at)
        part(c, '#', at, k->sp, "innermost frame");
    if (k->sp && k->sp < at)
        at = k->sp;
    if (k->sp)
        print(c, "  %#014lx  <-- stack pointer\n", (unsigned long)at);
    uintptr_t mark = k->high - k->high_water;
    if (t->machine->config.poison) {
        part(c, '.', at, mark, "used earlier, down to the high-water mark");
        part(c, ' ', mark < at ? mark : at, info, "never used: poison");
    } else {
        part(c, ' ', at, info, "free");
    }
    snprintf(label, sizeof label, "canary, %s", k->canary_intact ? "intact" : "OVERWRITTEN");
    part(c, 'C', info, canary, label);
    snprintf(label, sizeof label, "thread_info: preempt_count %d%s%s", t->ti->preempt_count,
             t->ti->flags & KSS_TI_NEED_RESCHED ? ", need_resched" : "",
             t->ti->flags & KSS_TI_KILLED ? ", killed" : "");
    part(c, 'i', canary, k->low, label);
    if (k->guard_low)
        print(c, "  %14s |//////| %6zu  guard (not to scale)\n", "", k->guard_low);
}

int kss_kstack_draw(struct kss_thread *t, char *buffer, size_t size)
{
    struct kss_kstack_info k;
    struct kss_frame frames[FRAMES];
    if (size && !buffer)
        return kssi_error(-EINVAL, "no buffer for the picture");
    int r = kss_kstack_info(t, &k);
    if (r < 0)
        return r;
    if (!t)
        t = kssi_current();
    int n = kss_backtrace(t, frames, FRAMES);
    if (n < 0 || t->state == KSS_THREAD_ZOMBIE)
        n = 0; /* what a zombie has left is no work any more */
    struct canvas c = { buffer, size, 0, k.size / ROWS };
    if (size)
        buffer[0] = '\0';
    draw(&c, t, &k, frames, n);
    return (int)c.length;
}

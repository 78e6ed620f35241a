/* SPDX-License-Identifier: MIT */
/* A report as text for people. No allocation, no locks: it may be called in the middle of anything. */
#include "kernel.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

typedef unsigned long ul;

void kssi_text_print(struct kssi_text *t, const char *format, ...)
{
    va_list ap;
    size_t room = t->length < t->size ? t->size - t->length : 0;
    va_start(ap, format);
    int n = vsnprintf(room ? t->buffer + t->length : NULL, room, format, ap);
    va_end(ap);
    if (n > 0)
        t->length += (size_t)n;
}

#define print kssi_text_print

static const char *name_of(const char *symbol)
{
    return symbol[0] ? symbol : "?";
}

static void frames(struct kssi_text *t, const struct kss_frame *f, int n)
{
    static const char *const mark[] = { "    ", "--> ", "  u " };
    for (int i = 0; i < n; i++)
        print(t, "  %s%2d  %#016lx  %s+%#lx\n", mark[f[i].kind], i, (ul)f[i].pc, name_of(f[i].symbol),
              (ul)f[i].offset);
}

int kssi_near_format(const struct kss_report_near *n, const char *thread_name, char *out, size_t size)
{
    struct kssi_text t = { out, size, 0 };
    char whose[64] = "a CPU";
    if (size)
        out[0] = '\0';
    if (n->stack == KSS_STACK_UNKNOWN)
        return 0;
    const char *name = n->stack == KSS_STACK_TASK ? "kernel stack" : kss_stack_kind_name(n->stack);
    if (n->tid)
        snprintf(whose, sizeof whose, "thread %d%s%s%s", n->tid, thread_name ? " (" : "",
                 thread_name ? thread_name : "", thread_name ? ")" : "");
    if (n->guess)
        print(&t, "perhaps ");
    if (n->below)
        print(&t, "%zu byte%s below the low end of ", n->below, n->below == 1 ? "" : "s");
    else if (n->above)
        print(&t, "%zu byte%s above the high end of ", n->above, n->above == 1 ? "" : "s");
    else
        print(&t, "on ");
    print(&t, "the %s%s of %s", n->freed ? "freed " : "", n->freed ? "stack" : name, whose);
    return (int)t.length;
}

static void stack_lines(struct kssi_text *t, const struct kss_report *r)
{
    char where[160];
    if (r->pc)
        print(t, "  at %s+%#lx (pc %#lx)\n", name_of(r->symbol), (ul)r->offset, (ul)r->pc);
    if (r->stack_high)
        print(t, "  %s %#lx-%#lx, stack pointer %#lx: %zu bytes deep\n", kss_stack_kind_name(r->stack),
              (ul)r->stack_low, (ul)r->stack_high, (ul)r->sp, r->depth);
    if (r->beyond)
        print(t, "  %zu bytes past the end of the stack\n", r->beyond);
    if (kssi_near_format(&r->near, NULL, where, sizeof where))
        print(t, "  address %#lx is %s\n", (ul)r->fault_address, where);
    if (r->place.pc)
        print(t, "  %s at %s+%#lx (pc %#lx)\n", r->place_what, name_of(r->place.symbol), (ul)r->place.offset,
              (ul)r->place.pc);
}

static void events(struct kssi_text *t, const struct kss_report *r)
{
    char line[256];
    if (r->events)
        print(t, "  last events of CPU %u:\n", r->cpu);
    for (int i = 0; i < r->events; i++)
        if (kss_trace_narrate(r->machine, &r->event[i], line, sizeof line) > 0)
            print(t, "    %s\n", line);
}

static const char *done(const struct kss_report *r)
{
    switch (r->action) {
    case KSS_ACTION_STOP_MACHINE:
        return "The machine stops";
    case KSS_ACTION_KILL_PROCESS:
        return "The process is killed; everything else runs on";
    case KSS_ACTION_KILL_THREAD:
        return "The thread is killed; everything else runs on";
    default:
        return "Everything runs on";
    }
}

#define ENDS(s) (memchr((s), '\0', sizeof(s)) != NULL)

static bool good_frames(const struct kss_frame *f, int n, int max)
{
    for (int i = 0; i < n && n <= max; i++)
        if (f[i].kind > KSS_FRAME_USER || !ENDS(f[i].symbol))
            return false;
    return n >= 0 && n <= max;
}

int kssi_report_check(const struct kss_report *r, const char *buffer, size_t size)
{
    if (!r || (size && !buffer))
        return kssi_error(-EINVAL, "no report, or no buffer");
    if (!good_frames(r->frame, r->frames, KSS_REPORT_FRAMES) ||
        !good_frames(r->other, r->other_frames, KSS_REPORT_OTHER_FRAMES))
        return kssi_error(-EINVAL, "a report of %d and %d frames: one of them is none, or there are too many",
                          r->frames, r->other_frames);
    if (r->events < 0 || r->events > KSS_REPORT_EVENTS)
        return kssi_error(-EINVAL, "a report of %d events: at most %d", r->events, KSS_REPORT_EVENTS);
    if (!ENDS(r->thread_name) || !ENDS(r->symbol) || !ENDS(r->message) || !ENDS(r->why_stopped) ||
        !ENDS(r->place.symbol) || !ENDS(r->place_what) || !ENDS(r->other_what))
        return kssi_error(-EINVAL, "a report with a string that does not end");
    return 0;
}

int kss_report_format(const struct kss_report *r, char *buffer, size_t size)
{
    struct kssi_text t = { buffer, size, 0 };
    int bad = kssi_report_check(r, buffer, size);
    if (bad < 0)
        return bad;
    if (size)
        buffer[0] = '\0';
    const char *kind = kss_report_kind_name(r->kind);
    bool said = strncmp(r->message, kind, strlen(kind)) == 0;
    print(&t, "kstacksim: %s%s%s\n", said ? "" : kind, said ? "" : ": ", r->message);
    print(&t, "  CPU %u, thread %d (%s) of process %d, %s mode, %u live trap frame%s\n", r->cpu, r->tid,
          r->thread_name, r->pid, r->mode == KSS_MODE_USER ? "user" : "kernel", r->nesting,
          r->nesting == 1 ? "" : "s");
    stack_lines(&t, r);
    frames(&t, r->frame, r->frames);
    if (r->frames == KSS_REPORT_FRAMES)
        print(&t, "      at most %d frames are listed\n", KSS_REPORT_FRAMES);
    if (r->other_frames)
        print(&t, "  %s:\n", r->other_what);
    frames(&t, r->other, r->other_frames);
    events(&t, r);
    print(&t, "  %s%s%s.\n", done(r), r->why_stopped[0] ? ": " : "", r->why_stopped);
    return (int)t.length;
}

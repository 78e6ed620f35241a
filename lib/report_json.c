/* SPDX-License-Identifier: MIT */
/*
 * A report as one JSON object. Written here, not by a library: it is called where nothing may be allocated. Only
 * strings need care (RFC 8259, section 7).
 */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>

#define print kssi_text_print
typedef unsigned long long ull;

static void string(struct kssi_text *t, const char *key, const char *s)
{
    print(t, "\"%s\":\"", key);
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            print(t, "\\%c", c);
        else if (c < 32 || c >= 127)
            print(t, "\\u%04x", c); /* Latin-1: never malformed UTF-8, whatever a name holds */
        else
            print(t, "%c", c);
    }
    print(t, "\",");
}

static void number(struct kssi_text *t, const char *key, ull v)
{
    print(t, "\"%s\":%llu,", key, v);
}

static void truth(struct kssi_text *t, const char *key, bool v)
{
    print(t, "\"%s\":%s,", key, v ? "true" : "false");
}

/* Addresses need all of their 64 bits, which a JSON number may not have. */
static void address(struct kssi_text *t, const char *key, uintptr_t v)
{
    print(t, "\"%s\":\"0x%llx\",", key, (ull)v);
}

/* Replaces the comma that was printed last. */
static void close_with(struct kssi_text *t, const char *end)
{
    if (--t->length < t->size)
        t->buffer[t->length] = '\0';
    print(t, "%s", end);
}

static void place(struct kssi_text *t, uintptr_t pc, const char *symbol, uint64_t offset)
{
    address(t, "pc", pc);
    string(t, "symbol", symbol);
    number(t, "offset", offset);
}

static void frames(struct kssi_text *t, const char *key, const struct kss_frame *f, int n)
{
    static const char *const kind[] = { "kernel", "trap", "user" };
    if (!n) {
        print(t, "\"%s\":[],", key);
        return;
    }
    print(t, "\"%s\":[", key);
    for (int i = 0; i < n; i++) {
        print(t, "{");
        string(t, "kind", kind[f[i].kind]);
        place(t, f[i].pc, f[i].symbol, f[i].offset);
        address(t, "sp", f[i].sp);
        number(t, "size", f[i].size);
        close_with(t, "},");
    }
    close_with(t, "],");
}

static void near(struct kssi_text *t, const struct kss_report_near *n)
{
    print(t, "\"near\":{");
    string(t, "stack", kss_stack_kind_name(n->stack));
    print(t, "\"tid\":%d,", n->tid);
    number(t, "below", n->below);
    number(t, "above", n->above);
    truth(t, "guess", n->guess);
    truth(t, "freed", n->freed);
    close_with(t, "},");
}

static void stack(struct kssi_text *t, const struct kss_report *r)
{
    print(t, "\"stack\":{");
    string(t, "kind", kss_stack_kind_name(r->stack));
    address(t, "low", r->stack_low);
    address(t, "high", r->stack_high);
    address(t, "sp", r->sp);
    address(t, "user_frame", r->user_frame);
    number(t, "guard_low", r->guard_low);
    number(t, "guard_high", r->guard_high);
    number(t, "depth", r->depth);
    number(t, "beyond", r->beyond);
    number(t, "high_water", r->high_water);
    truth(t, "canary_intact", r->canary_intact);
    close_with(t, "},");
}

static void events(struct kssi_text *t, const struct kss_report *r)
{
    char line[256];
    print(t, "\"events\":[%s", r->events ? "" : "],");
    for (int i = 0; i < r->events; i++) {
        const struct kss_trace_event *e = &r->event[i];
        print(t, "{");
        number(t, "time_ns", e->time_ns);
        print(t, "\"tid\":%d,", e->tid);
        string(t, "type", kss_trace_type_name((enum kss_trace_type)e->type));
        if (kss_trace_narrate(r->machine, e, line, sizeof line) > 0)
            string(t, "text", line);
        close_with(t, "},");
    }
    if (r->events)
        close_with(t, "],");
}

int kss_report_json(const struct kss_report *r, char *buffer, size_t size)
{
    struct kssi_text t = { buffer, size, 0 };
    int bad = kssi_report_check(r, buffer, size);
    if (bad < 0)
        return bad;
    if (size)
        buffer[0] = '\0';
    print(&t, "{");
    string(&t, "kind", kss_report_kind_id(r->kind));
    string(&t, "message", r->message);
    string(&t, "action", kss_report_action_name(r->action));
    string(&t, "why_stopped", r->why_stopped);
    number(&t, "time_ns", r->time_ns);
    number(&t, "cpu", r->cpu);
    print(&t, "\"tid\":%d,\"pid\":%d,", r->tid, r->pid);
    string(&t, "thread", r->thread_name);
    string(&t, "mode", r->mode == KSS_MODE_USER ? "user" : "kernel");
    print(&t, r->vector == KSS_NO_CAUSE ? "\"vector\":null," : "\"vector\":%u,", r->vector);
    number(&t, "second_vector", r->second_vector);
    number(&t, "line", r->line);
    number(&t, "error", r->error);
    address(&t, "fault_address", r->fault_address);
    near(&t, &r->near);
    stack(&t, r);
    number(&t, "nesting", r->nesting);
    number(&t, "waited_ns", r->waited_ns);
    print(&t, "\"culprit\":{");
    place(&t, r->pc, r->symbol, r->offset);
    close_with(&t, "},");
    print(&t, "\"place\":{");
    string(&t, "what", r->place_what);
    place(&t, r->place.pc, r->place.symbol, r->place.offset);
    close_with(&t, "},");
    frames(&t, "frames", r->frame, r->frames);
    string(&t, "other", r->other_what);
    frames(&t, "other_frames", r->other, r->other_frames);
    events(&t, r);
    close_with(&t, "}");
    return (int)t.length;
}

/* SPDX-License-Identifier: MIT */
/*
 * kstacksim stack: pictures from JSON, either reports as kss_report_json() writes them, or stacks as the gdb command
 * kss-stack --json does. The text may be anything: what is not there has a default, what is wrong is said with its
 * place.
 */
#include "stack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_JANSSON
#include <jansson.h>

/* Where messages are about. */
struct source {
    const char *name;
    unsigned line; /* of the object's first character */
    char path[64]; /* of the member, such as "stack.low" */
    bool bad;      /* something was said */
};

static void wrong(struct source *s, const char *member, const char *expected)
{
    if (!s->bad)
        stack_fail(EXIT_USAGE, "%s:%u: member '%s%s' must be %s", s->name, s->line, s->path, member, expected);
    s->bad = true;
}

/* ---- members ---------------------------------------------------------------------------------- */

/* Addresses are strings such as "0x7f00", or numbers; null and none are 0. */
static uintptr_t address(struct source *s, json_t *o, const char *member)
{
    json_t *v = json_object_get(o, member);
    if (!v || json_is_null(v))
        return 0;
    if (json_is_integer(v) && json_integer_value(v) >= 0)
        return (uintptr_t)json_integer_value(v);
    const char *text = json_string_value(v);
    char *end = NULL;
    errno = 0;
    unsigned long long n = text && text[0] >= '0' && text[0] <= '9' ? strtoull(text, &end, 0) : 0;
    if (!end || *end || errno)
        wrong(s, member, "an address such as \"0x7f00\", or a number");
    return end && !*end ? (uintptr_t)n : 0;
}

static long long number(struct source *s, json_t *o, const char *member, long long least, long long most)
{
    json_t *v = json_object_get(o, member);
    if (!v)
        return 0;
    long long n = json_integer_value(v);
    if (json_is_integer(v) && n >= least && n <= most)
        return n;
    char expected[80];
    snprintf(expected, sizeof expected, "a whole number from %lld to %lld", least, most);
    wrong(s, member, expected);
    return 0;
}

#define SIZE(s, o, member) (size_t)number((s), (o), (member), 0, INT64_MAX)

static bool truth(struct source *s, json_t *o, const char *member)
{
    json_t *v = json_object_get(o, member);
    if (v && !json_is_boolean(v))
        wrong(s, member, "true or false");
    return json_is_true(v);
}

static void string(struct source *s, json_t *o, const char *member, char *out, size_t size)
{
    json_t *v = json_object_get(o, member);
    if (v && !json_is_string(v))
        wrong(s, member, "a string");
    snprintf(out, size, "%s", json_is_string(v) ? json_string_value(v) : "");
}

/* One of the names that name(0) to name(n - 1) give. */
static int choice(struct source *s, json_t *o, const char *member, const char *(*name)(int), int n)
{
    char text[64], expected[800] = "one of ";
    string(s, o, member, text, sizeof text);
    for (int i = 0; i < n; i++) {
        size_t used = strlen(expected);
        if (strcmp(text, name(i)) == 0)
            return i;
        snprintf(expected + used, sizeof expected - used, "%s\"%s\"", i ? ", " : "", name(i));
    }
    wrong(s, member, expected);
    return 0;
}

static const char *report_kind(int i)
{
    return kss_report_kind_id((enum kss_report_kind)i);
}

static const char *stack_kind(int i)
{
    return kss_stack_kind_name((enum kss_stack_kind)i);
}

static const char *frame_kind(int i)
{
    static const char *const names[] = { "kernel", "trap", "user" };
    return names[i];
}

static const char *part_kind(int i)
{
    return i == KSS_PART_KINDS ? "red-zone" : kss_part_kind_id((enum kss_part_kind)i);
}

/* ---- a report --------------------------------------------------------------------------------- */

static void read_frames(struct source *s, json_t *o, struct kss_report *r)
{
    json_t *frames = json_object_get(o, "frames"), *f;
    size_t i;
    if (frames && !json_is_array(frames))
        wrong(s, "frames", "an array of frames");
    json_array_foreach(frames, i, f) {
        if (i == KSS_REPORT_FRAMES)
            break;
        snprintf(s->path, sizeof s->path, "frames[%zu].", i);
        struct kss_frame *to = &r->frame[r->frames++];
        to->kind = (enum kss_frame_kind)choice(s, f, "kind", frame_kind, 3);
        to->pc = address(s, f, "pc");
        to->sp = address(s, f, "sp");
        to->size = SIZE(s, f, "size");
        to->offset = SIZE(s, f, "offset");
        string(s, f, "symbol", to->symbol, sizeof to->symbol);
    }
    s->path[0] = '\0';
}

static void read_stack(struct source *s, json_t *stack, struct kss_report *r)
{
    snprintf(s->path, sizeof s->path, "stack.");
    r->stack = (enum kss_stack_kind)choice(s, stack, "kind", stack_kind, KSS_STACK_UNKNOWN + 1);
    r->stack_low = address(s, stack, "low");
    r->stack_high = address(s, stack, "high");
    r->sp = address(s, stack, "sp");
    r->user_frame = address(s, stack, "user_frame");
    r->guard_low = SIZE(s, stack, "guard_low");
    r->guard_high = SIZE(s, stack, "guard_high");
    r->high_water = SIZE(s, stack, "high_water");
    r->canary_intact = truth(s, stack, "canary_intact");
    s->path[0] = '\0';
}

static int read_report(struct source *s, json_t *o, struct kss_stack_picture *p)
{
    static struct kss_report r;
    memset(&r, 0, sizeof r);
    r.kind = (enum kss_report_kind)choice(s, o, "kind", report_kind, KSS_REPORT_KINDS);
    r.cpu = (unsigned)number(s, o, "cpu", 0, INT32_MAX);
    r.tid = (int)number(s, o, "tid", INT32_MIN, INT32_MAX);
    string(s, o, "thread", r.thread_name, sizeof r.thread_name);
    string(s, o, "message", r.message, sizeof r.message);
    read_stack(s, json_object_get(o, "stack"), &r);
    read_frames(s, o, &r);
    return s->bad ? -EINVAL : kss_picture_report(&r, p);
}

/* ---- a stack ---------------------------------------------------------------------------------- */

/* A recursion has more frames than a picture has room for: those of one label become one. */
static void read_part(struct source *s, json_t *o, struct kss_stack_picture *p, bool crowded)
{
    struct kss_stack_part part = { .low = address(s, o, "low"), .high = address(s, o, "high") };
    int kind = choice(s, o, "kind", part_kind, KSS_PART_KINDS + 1);
    part.kind = kind == KSS_PART_KINDS ? KSS_PART_PADDING : (enum kss_part_kind)kind;
    string(s, o, "label", part.label, sizeof part.label);
    struct kss_stack_part *last = p->parts ? &p->part[p->parts - 1] : NULL;
    if (crowded && last && last->kind == part.kind && last->low == part.high && !strcmp(last->label, part.label))
        last->low = part.low;
    else if (p->parts < KSS_PICTURE_PARTS)
        p->part[p->parts++] = part;
    else
        wrong(s, "", "no more: that is one part too many for a picture");
}

static int read_picture(struct source *s, json_t *o, struct kss_stack_picture *p)
{
    json_t *parts = json_object_get(o, "parts"), *part;
    char name[64], state[64];
    size_t i;
    memset(p, 0, sizeof *p);
    if (!json_is_array(parts))
        wrong(s, "parts", "an array of parts");
    string(s, o, "name", name, sizeof name);
    string(s, o, "state", state, sizeof state);
    snprintf(p->title, sizeof p->title, "kernel stack of thread %lld (%s)",
             number(s, o, "thread", INT32_MIN, INT32_MAX), name);
    snprintf(p->state, sizeof p->state, "%s", state);
    p->low = address(s, o, "low");
    p->high = address(s, o, "high");
    p->sp = address(s, o, "sp");
    p->high_water = SIZE(s, o, "high_water");
    p->guard_low = SIZE(s, o, "guard_low");
    p->guard_high = SIZE(s, o, "guard_high");
    json_array_foreach(parts, i, part) {
        snprintf(s->path, sizeof s->path, "parts[%zu].", i);
        read_part(s, part, p, json_array_size(parts) > KSS_PICTURE_PARTS);
    }
    s->path[0] = '\0';
    if (p->parts && (p->sp < p->part[p->parts - 1].low || p->sp > p->part[0].high)) {
        if (p->sp)
            snprintf(p->state, sizeof p->state, "%s (stack pointer %#lx: elsewhere)", state, (unsigned long)p->sp);
        p->sp = 0;
    }
    return s->bad ? -EINVAL : kss_picture_check(p);
}

/* ---- the text --------------------------------------------------------------------------------- */

static int read_object(struct source *s, json_t *o, struct gallery *g)
{
    bool report = json_is_object(json_object_get(o, "stack")), picture = json_object_get(o, "parts") != NULL;
    if (!report && !picture)
        return EXIT_SUCCESS; /* something else in between, such as a result of `kstacksim faults --json` */
    struct kss_stack_picture *p = gallery_add(g);
    if (!p)
        return EXIT_FAILURE;
    int r = picture ? read_picture(s, o, p) : read_report(s, o, p);
    if (r < 0)
        g->count--;
    if (r == -ENODATA) /* such as a report about no stack */
        return EXIT_SUCCESS;
    if (r < 0 && !s->bad)
        return stack_fail(EXIT_USAGE, "%s:%u: %s", s->name, s->line, kss_last_error());
    return r < 0 ? EXIT_USAGE : EXIT_SUCCESS;
}

static size_t skip_blanks(const char *text, size_t at, size_t size, unsigned *line)
{
    for (; at < size && strchr(" \t\r\n", text[at]) && text[at]; at++)
        *line += text[at] == '\n';
    return at;
}

int stack_read_json(const char *name, const char *text, size_t size, struct gallery *g)
{
    unsigned line = 1;
    for (size_t at = skip_blanks(text, 0, size, &line); at < size; at = skip_blanks(text, at, size, &line)) {
        json_error_t e;
        json_t *o = json_loadb(text + at, size - at, JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, &e);
        size_t column = 0;
        while (column < at && text[at - column - 1] != '\n')
            column++;
        if (!o)
            return stack_fail(EXIT_USAGE, "%s:%u:%u: %s", name, line + (unsigned)e.line - 1,
                              (unsigned)e.column + (e.line == 1 ? (unsigned)column : 0), e.text);
        struct source s = { .name = name, .line = line };
        int r = read_object(&s, o, g);
        json_decref(o);
        if (r != EXIT_SUCCESS)
            return r;
        for (size_t end = at + (size_t)e.position; at < end; at++)
            line += text[at] == '\n';
    }
    if (!g->count)
        return stack_fail(EXIT_USAGE, "%s: there is no stack in it: no object with the members of a report", name);
    return EXIT_SUCCESS;
}
#else
int stack_read_json(const char *name, const char *text, size_t size, struct gallery *g)
{
    (void)text;
    (void)size;
    (void)g;
    return stack_fail(EXIT_FAILURE,
                      "%s can't be read: this program was built without jansson, which reads JSON", name);
}
#endif

/* ---- files ------------------------------------------------------------------------------------ */

#define FILE_MAX ((size_t)64 << 20)

char *stack_read_file(const char *name, size_t *size)
{
    FILE *f = strcmp(name, "-") ? fopen(name, "r") : stdin;
    char *text = NULL;
    size_t room = 0;
    *size = 0;
    while (f && !feof(f) && !ferror(f) && *size < FILE_MAX) {
        if (*size == room) {
            room = room ? 2 * room : 65536;
            char *more = realloc(text, room);
            if (!more)
                break;
            text = more;
        }
        *size += fread(text + *size, 1, room - *size, f);
    }
    bool whole = f && feof(f) && !ferror(f);
    if (!whole) {
        stack_fail(0, "can't read %s: %s", name, *size >= FILE_MAX ? "it has more than 64 MiB" : strerror(errno));
        free(text);
        text = NULL;
    }
    if (f && f != stdin)
        fclose(f);
    return text;
}

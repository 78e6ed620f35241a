/* SPDX-License-Identifier: MIT */
/*
 * The picture of a stack in text: every part from high to low addresses, each with as many rows as its
 * size asks for at a fixed number of bytes a row, and at least one.
 */
#include "picture.h"

#include <errno.h>
#include <string.h>

#define ROWS 32
#define print kssi_text_print

typedef unsigned long ul;

static const char fill[KSS_PART_KINDS] = { '/', 'T', '#', '-', '.', ' ', 'C', 'i', '!' };

static void rows(struct kssi_text *t, char c, const char *address, size_t bytes, const char *label, size_t unit)
{
    print(t, "  %14s |%c%c%c%c%c%c| %6zu  %s\n", address, c, c, c, c, c, c, bytes, label);
    for (size_t n = (bytes + unit / 2) / unit; n > 1; n--)
        print(t, "  %14s |%c%c%c%c%c%c|\n", "", c, c, c, c, c, c);
}

static void part(struct kssi_text *t, const struct kss_stack_part *part, size_t unit)
{
    char address[24], label[160];
    struct kssi_text a = { address, sizeof address, 0 }, l = { label, sizeof label, 0 };
    bool guard = part->kind == KSS_PART_GUARD;
    print(&a, "%#014lx", (ul)part->low);
    print(&l, "%s%s", part->label, guard ? " (not to scale)" : "");
    rows(t, fill[part->kind], guard ? "" : address, part->high - part->low, label, guard ? SIZE_MAX : unit);
}

static void head(struct kssi_text *t, const struct kss_stack_picture *p, size_t unit)
{
    size_t size = p->high - p->low;
    print(t, "%s, %s\n  %zu bytes", p->title, p->state, size);
    if (p->sp && p->sp <= p->high)
        print(t, ", %zu in use", (size_t)(p->high - p->sp));
    else
        print(t, ", 0 in use");
    if (p->sp && p->sp < p->low)
        print(t, " (%zu past the end)", (size_t)(p->low - p->sp));
    if (p->high_water)
        print(t, ", high-water mark %zu", p->high_water);
    print(t, "; a row is %zu bytes\n  %14s  ______   bytes\n", unit, "low end at");
}

int kss_picture_text(const struct kss_stack_picture *p, char *buffer, size_t size)
{
    struct kssi_text t = { buffer, size, 0 };
    int r = kss_picture_check(p);
    if (r < 0)
        return r;
    if (size && !buffer)
        return kssi_error(-EINVAL, "no buffer for the picture");
    if (size)
        buffer[0] = '\0';
    size_t unit = (p->high - p->low) / ROWS;
    bool pointed = !p->sp, marked = !p->high_water || (p->sp && p->high - p->sp >= p->high_water);
    unit = unit ? unit : 1;
    head(&t, p, unit);
    for (unsigned i = 0; i < p->parts; i++) {
        part(&t, &p->part[i], unit);
        if (!pointed && p->part[i].low <= p->sp) {
            print(&t, "  %#014lx  <-- stack pointer\n", (ul)p->sp);
            pointed = true;
        }
        if (!marked && p->part[i].low <= p->high - p->high_water) {
            print(&t, "  %#014lx  <-- high-water mark\n", (ul)(p->high - p->high_water));
            marked = true;
        }
    }
    return (int)t.length;
}

/* ---- a thread's ------------------------------------------------------------------------------- */

__attribute__((noinline)) static int draw_on_host(struct kss_thread *t, char *buffer, size_t size)
{
    struct kss_stack_picture p;
    int r = kssi_picture_thread(t, &p, 0);
    return r < 0 ? r : kss_picture_text(&p, buffer, size);
}

int kss_kstack_draw(struct kss_thread *t, char *buffer, size_t size)
{
    bool kernel = kssi_require_kernel();
    if (size && !buffer)
        return kssi_error(-EINVAL, "no buffer for the picture");
    if (!kernel)
        return draw_on_host(t, buffer, size);
    bool on = kssi_irq_save(); /* the CPU has room for one picture */
    struct kssi_cpu *cpu = kssi_this_cpu();
    int r = kssi_picture_thread(t, &cpu->picture, (uintptr_t)__builtin_frame_address(0));
    if (r == 0)
        r = kss_picture_text(&cpu->picture, buffer, size);
    kssi_irq_restore(on);
    return r;
}

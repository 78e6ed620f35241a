/* SPDX-License-Identifier: MIT */
/* What the profile has counted, with names, which are looked up only here. */
#include "profile.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int readable(struct kss_machine *m)
{
    int r = kssi_require_view(m);
    if (r < 0)
        return r;
    return m->profile ? 0 : kssi_error(-ENODATA, "kss_config.profile is off: nothing was counted");
}

/* A semicolon would end the name in a folded stack. */
static const char *name_of(struct kss_machine *m, struct kssi_profile_function *f)
{
    uint64_t offset;
    char *out = f->name;
    size_t size = sizeof f->name;
    if (out[0])
        return out;
    if (f->kind == KSS_FRAME_TRAP && f->start < KSS_VECTORS)
        snprintf(out, size, "[%s]", kss_vector_name((unsigned)f->start));
    else if (!m->platform->symbol(f->start, out, size, &offset))
        snprintf(out, size, "%#lx", (unsigned long)f->start);
    for (char *c = out; *c; c++)
        if (*c == ';' || *c == '\n')
            *c = ':';
    return out;
}

static void print_stack(struct kss_machine *m, const struct kssi_profile_stack *s, uint64_t count, FILE *out)
{
    for (const char *c = s->thread; *c; c++)
        putc(*c == ';' || *c == '\n' ? ':' : *c, out);
    if (s->frames == KSSI_WALK_FRAMES)
        fputs(";[outer frames]", out);
    for (int i = s->frames - 1; i >= 0; i--)
        fprintf(out, ";%s", name_of(m, &m->profile->function[s->function[i]]));
    fprintf(out, " %llu\n", (unsigned long long)count);
}

long kss_profile_folded(struct kss_machine *m, FILE *out)
{
    long samples = 0;
    int r = readable(m);
    if (r < 0)
        return r;
    if (!out)
        return kssi_error(-EINVAL, "no file to write the folded stacks to");
    for (unsigned i = 0; i < KSSI_PROFILE_STACKS; i++) {
        uint64_t count = __atomic_load_n(&m->profile->stack[i].count, __ATOMIC_ACQUIRE);
        if (count)
            print_stack(m, &m->profile->stack[i], count, out);
        samples += (long)count;
    }
    if (m->profile->lost)
        fprintf(out, "[more stacks than the table holds] %llu\n", (unsigned long long)m->profile->lost);
    if (ferror(out))
        return kssi_error(-EIO, "the folded stacks could not be written");
    return samples + (long)m->profile->lost;
}

int kss_profile_functions(struct kss_machine *m, struct kss_function_depth *out, int max)
{
    int n = 0, found = 0;
    int r = readable(m);
    if (r < 0)
        return r;
    if (max < 0 || (max && !out))
        return kssi_error(-EINVAL, "room for %d functions: a count of at least 0 and an array", max);
    for (unsigned i = 0; i < KSSI_PROFILE_FUNCTIONS; i++) {
        struct kssi_profile_function *f = &m->profile->function[i];
        uint64_t samples = __atomic_load_n(&f->samples, __ATOMIC_ACQUIRE);
        if (!samples)
            continue;
        found++;
        /* Sorted into those that are there; the least deep falls out. */
        int at = n < max ? n++ : max;
        for (; at > 0 && out[at - 1].depth < f->depth; at--)
            if (at < max)
                out[at] = out[at - 1];
        if (at == max)
            continue;
        out[at] = (struct kss_function_depth){ .kind = f->kind, .samples = samples, .frame = f->frame,
                                               .depth = f->depth };
        snprintf(out[at].function, sizeof out[at].function, "%s", name_of(m, f));
    }
    return found;
}

/* SPDX-License-Identifier: MIT */
/*
 * kstacksim stack --functions and --su: how deep the functions' frames lay, and beside each measured frame what the
 * compiler said it would be. Compilers write one .su file an object with -fstack-usage: place, size and "static",
 * "dynamic" or "dynamic,bounded", separated by tabs. GCC's sizes include the return address, as measured ones do;
 * clang's do not (it also writes no column into the place, by which they are told apart).
 */
#define _GNU_SOURCE
#include "stack.h"

#include <errno.h>
#include <fts.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../examples/table.h"

#define FUNCTIONS 4096

struct usage {
    char name[64];
    size_t bytes;
    bool dynamic;
};

struct usages {
    struct usage *of;
    size_t count, room;
    unsigned files;
};

/* ---- .su files -------------------------------------------------------------------------------- */

/* "file:line:column:name", or without column; the file may hold colons. False: neither. */
static bool split_place(const char *place, const char **name, bool *column)
{
    for (const char *c = strchr(place, ':'); c; c = strchr(c + 1, ':')) {
        size_t line = strspn(c + 1, "0123456789");
        const char *after = c + 1 + line;
        if (!line || *after != ':')
            continue;
        size_t digits = strspn(after + 1, "0123456789");
        *column = digits && after[1 + digits] == ':';
        *name = *column ? after + digits + 2 : after + 1;
        return **name != '\0';
    }
    return false;
}

/* Clones that the compiler makes of a function have its name with a suffix. */
static void base_name(const char *name, char *out, size_t size)
{
    size_t n = strcspn(name, ".");
    snprintf(out, size, "%.*s", (int)(n < size ? n : size - 1), name);
}

static bool read_line(char *line, struct usage *u)
{
    const char *name;
    bool column;
    char *qualifier = strrchr(line, '\t'), *end;
    if (!qualifier)
        return false;
    *qualifier++ = '\0';
    char *size = strrchr(line, '\t');
    if (!size)
        return false;
    *size++ = '\0';
    u->bytes = strtoull(size, &end, 10);
    if (*end || !split_place(line, &name, &column))
        return false;
    if (!column)
        u->bytes += sizeof(void *);
    u->dynamic = strncmp(qualifier, "dynamic", 7) == 0;
    base_name(name, u->name, sizeof u->name);
    return true;
}

static int read_su(const char *path, struct usages *all)
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    unsigned n = 0;
    if (!f)
        return stack_fail(EXIT_FAILURE, "can't read %s: %s", path, strerror(errno));
    int r = EXIT_SUCCESS;
    while (r == EXIT_SUCCESS && getline(&line, &room, f) >= 0) {
        n++;
        if (all->count == all->room) {
            all->room = all->room ? 2 * all->room : 256;
            struct usage *more = reallocarray(all->of, all->room, sizeof *more);
            if (!more)
                abort();
            all->of = more;
        }
        if (read_line(line, &all->of[all->count]))
            all->count++;
        else
            r = stack_fail(EXIT_USAGE, "%s:%u: that is not \"place, tab, size, tab, static or dynamic\"", path, n);
    }
    all->files++;
    free(line);
    fclose(f);
    return r;
}

static int read_directory(const char *name, struct usages *all)
{
    char *const roots[] = { (char *)name, NULL };
    struct stat st;
    if (stat(name, &st) != 0)
        return stack_fail(EXIT_FAILURE, "can't read %s: %s", name, strerror(errno));
    FTS *tree = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    int r = EXIT_SUCCESS;
    for (FTSENT *e; tree && r == EXIT_SUCCESS && (e = fts_read(tree));)
        if (e->fts_info == FTS_F && e->fts_namelen > 3 && strcmp(e->fts_name + e->fts_namelen - 3, ".su") == 0)
            r = read_su(e->fts_path, all);
    if (tree)
        fts_close(tree);
    if (r == EXIT_SUCCESS && !all->files)
        return stack_fail(EXIT_FAILURE, "there is no .su file below %s: compile with -fstack-usage", name);
    return r;
}

/* ---- side by side ----------------------------------------------------------------------------- */

/* Of several functions of that name the one that agrees, else the largest. */
static const struct usage *find_usage(const struct usages *all, const struct kss_function_depth *f)
{
    const struct usage *best = NULL;
    char name[64];
    base_name(f->function, name, sizeof name);
    for (size_t i = 0; i < all->count; i++) {
        const struct usage *u = &all->of[i];
        if (strcmp(u->name, name) != 0)
            continue;
        if (u->bytes == f->frame)
            return u;
        if (!best || u->bytes > best->bytes)
            best = u;
    }
    return best;
}

static const char *verdict(const struct kss_function_depth *f, const struct usage *u)
{
    if (!u)
        return "-";
    if (u->dynamic)
        return "dynamic: no limit that the compiler knows of";
    if (!f->frame)
        return "not measured: its caller is on another stack";
    if (f->frame == u->bytes)
        return "agree";
    return f->frame < u->bytes ? "DIFFER: seen only before its frame was whole?"
                               : "DIFFER: more than the compiler says";
}

static void show_row(struct table *t, const struct kss_function_depth *f, const struct usages *all)
{
    static const char *const mode[] = { "kernel", "trap", "user" };
    char frame[24] = "-", said[24] = "-";
    if (f->frame)
        snprintf(frame, sizeof frame, "%zu", f->frame);
    if (!all) {
        table_row(t, "%s|%s|%" PRIu64 "|%zu|%s", f->function, mode[f->kind], f->samples, f->depth, frame);
        return;
    }
    const struct usage *u = f->kind == KSS_FRAME_TRAP ? NULL : find_usage(all, f);
    if (u)
        snprintf(said, sizeof said, "%zu", u->bytes);
    table_row(t, "%s|%s|%" PRIu64 "|%zu|%s|%s|%s", f->function, mode[f->kind], f->samples, f->depth, frame, said,
              f->kind == KSS_FRAME_TRAP ? "-" : verdict(f, u));
}

int stack_functions(struct kss_machine *m, const char *su_directory)
{
    static const char *const head[] = { "FUNCTION", "MODE", "SAMPLES", "DEEPEST", "FRAME", "COMPILER", "THEY" };
    static struct kss_function_depth f[FUNCTIONS];
    struct usages all = { 0 };
    int n = kss_profile_functions(m, f, FUNCTIONS);
    if (n < 0)
        return stack_fail(EXIT_FAILURE, "%s", kss_last_error());
    int r = su_directory ? read_directory(su_directory, &all) : EXIT_SUCCESS;
    if (r == EXIT_SUCCESS) {
        struct table *t = table_new(head, su_directory ? 7 : 5, "l l r r r r l");
        for (int i = 0; i < n && i < FUNCTIONS; i++)
            show_row(t, &f[i], su_directory ? &all : NULL);
        table_print(t);
        puts("DEEPEST: bytes from the top of its stack to the low end of its frame. FRAME: its largest, in "
             "bytes.");
    }
    free(all.of);
    return r;
}

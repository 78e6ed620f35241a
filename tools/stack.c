/* SPDX-License-Identifier: MIT */
/* kstacksim stack: the command line, and what is written. */
#define _GNU_SOURCE
#include "stack.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static void usage(FILE *to)
{
    fputs("usage: kstacksim stack [OPTION]...\n\n"
          "Draws kernel stacks to scale, high addresses on top: of a demonstration that it runs, where a "
          "writer is\n"
          "blocked in the middle of a disk write, another process is preempted in a system call, and a third "
          "one is\n"
          "interrupted twice; or of a report, a core file or a process.\n\n"
          "  --thread NAME|ID   one thread only (with --core and --pid also MACHINE:ID)\n"
          "  --all              all threads\n"
          "  --svg FILE         as one SVG document for a browser; - is standard output\n"
          "  --report FILE      the stacks of reports written by kss_report_json(); - is standard input\n"
          "  --core FILE        from a core file of the program that --exe names, through gdb\n"
          "  --exe PROGRAM\n"
          "  --pid PID          from a running process, through gdb; it stands still meanwhile\n"
          "  --functions        how deep each function's frame lay in the demonstration\n"
          "  --su DIRECTORY     the same beside what the compiler says: .su files of -fstack-usage below it\n"
          "  --folded FILE      the demonstration's stacks, counted, for flame graphs; - is standard output\n"
          "  --help\n",
          to);
}

int stack_fail(int status, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fputs("kstacksim stack: ", stderr);
    vfprintf(stderr, format, ap);
    fputc('\n', stderr);
    va_end(ap);
    return status;
}

struct kss_stack_picture *gallery_add(struct gallery *g)
{
    if (g->count == STACK_PICTURES_MAX) {
        stack_fail(0, "more than %d stacks", STACK_PICTURES_MAX);
        return NULL;
    }
    if (g->count == g->room) {
        unsigned room = g->room ? 2 * g->room : 8;
        struct kss_stack_picture *p = realloc(g->picture, room * sizeof *p);
        if (!p) {
            stack_fail(0, "no memory for %u pictures", room);
            return NULL;
        }
        g->picture = p;
        g->room = room;
    }
    return &g->picture[g->count++];
}

/* ---- the command line ------------------------------------------------------------------------- */

static const struct option options[] = {
    { "thread", required_argument, NULL, 't' }, { "all", no_argument, NULL, 'a' },
    { "svg", required_argument, NULL, 's' },    { "report", required_argument, NULL, 'r' },
    { "core", required_argument, NULL, 'c' },   { "exe", required_argument, NULL, 'e' },
    { "pid", required_argument, NULL, 'p' },    { "functions", no_argument, NULL, 'f' },
    { "su", required_argument, NULL, 'u' },     { "folded", required_argument, NULL, 'o' },
    { "help", no_argument, NULL, 'h' },         { NULL, 0, NULL, 0 },
};

static bool one_option(int c, struct stack_request *q)
{
    const char **const text[128] = { ['t'] = &q->thread, ['s'] = &q->svg, ['r'] = &q->report, ['c'] = &q->core,
                                     ['e'] = &q->exe, ['p'] = &q->pid, ['u'] = &q->su, ['o'] = &q->folded };
    q->all |= c == 'a';
    q->functions |= c == 'f' || c == 'u';
    if (c < 128 && text[c])
        *text[c] = optarg;
    return c == 'a' || c == 'f' || (c < 128 && text[c]);
}

/* What can't be asked together; NULL: nothing. */
static const char *contradiction(const struct stack_request *q)
{
    bool counted = q->functions || q->folded;
    if (!!q->report + !!q->core + !!q->pid > 1)
        return "--report, --core and --pid: one of them";
    if (q->core && !q->exe)
        return "--core needs --exe: the program that the core file is of";
    if (q->exe && !q->core && !q->pid)
        return "--exe goes with --core or --pid";
    if (q->report && (q->thread || q->all))
        return "--thread and --all go with the demonstration, --core and --pid: a report is about one stack";
    if (q->pid && (!*q->pid || q->pid[strspn(q->pid, "0123456789")]))
        return "--pid needs the number of a process";
    if (counted && (q->report || q->core || q->pid))
        return "--functions, --su and --folded are about the demonstration";
    if (q->thread && q->all)
        return "--thread and --all: one of them";
    if (q->svg && q->folded && !strcmp(q->svg, "-") && !strcmp(q->folded, "-"))
        return "--svg and --folded can't both be standard output";
    return NULL;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct stack_request *q)
{
    optind = 0;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":h", options, NULL)) != -1;) {
        if (c == 'h') {
            usage(stdout);
            return EXIT_SUCCESS;
        }
        if (!one_option(c, q))
            return stack_fail(EXIT_USAGE, c == ':' ? "option '%s' needs a value. Try --help." :
                              "there is no option '%s'. Try --help.", argv[optind - 1]);
    }
    if (optind < argc)
        return stack_fail(EXIT_USAGE, "it takes no arguments, and there is '%s'. Try --help.", argv[optind]);
    const char *wrong = contradiction(q);
    return wrong ? stack_fail(EXIT_USAGE, "%s. Try --help.", wrong) : -1;
}

/* ---- what is written -------------------------------------------------------------------------- */

static FILE *open_output(const char *name)
{
    FILE *f = strcmp(name, "-") ? fopen(name, "w") : stdout;
    if (!f)
        stack_fail(0, "can't write %s: %s", name, strerror(errno));
    return f;
}

static int close_output(const char *name, FILE *f)
{
    bool bad = fflush(f) != 0 || ferror(f);
    int why = errno;
    if (f != stdout && fclose(f) != 0 && !bad) {
        bad = true;
        why = errno;
    }
    return bad ? stack_fail(EXIT_FAILURE, "can't write %s: %s", name, strerror(why)) : EXIT_SUCCESS;
}

static int write_svg(const struct stack_request *q, const struct gallery *g)
{
    int n = kss_picture_svg(g->picture, g->count, NULL, 0);
    char *text = n > 0 ? malloc((size_t)n + 1) : NULL;
    if (!text)
        return stack_fail(EXIT_FAILURE, "%s", n < 0 ? kss_last_error() : "no memory for the SVG document");
    kss_picture_svg(g->picture, g->count, text, (size_t)n + 1);
    FILE *f = open_output(q->svg);
    int r = EXIT_FAILURE;
    if (f) {
        fputs(text, f);
        r = close_output(q->svg, f);
        if (r == EXIT_SUCCESS && f != stdout)
            printf("%s: %u stack%s\n", q->svg, g->count, g->count == 1 ? "" : "s");
    }
    free(text);
    return r;
}

static int write_text(const struct gallery *g)
{
    static char text[65536];
    for (unsigned i = 0; i < g->count; i++) {
        if (kss_picture_text(&g->picture[i], text, sizeof text) < 0)
            return stack_fail(EXIT_FAILURE, "%s", kss_last_error());
        printf("%s%s", i ? "\n" : "", text);
    }
    return EXIT_SUCCESS;
}

static int write_folded(const char *name, struct kss_machine *m)
{
    FILE *f = open_output(name);
    if (!f)
        return EXIT_FAILURE;
    long n = kss_profile_folded(m, f);
    int r = close_output(name, f);
    if (r == EXIT_SUCCESS && n < 0)
        return stack_fail(EXIT_FAILURE, "%s", kss_last_error());
    if (r == EXIT_SUCCESS && f != stdout)
        printf("%s: %ld samples\n", name, n);
    return r;
}

static int show(const struct stack_request *q, const struct gallery *g)
{
    return q->svg ? write_svg(q, g) : write_text(g);
}

static int from_demonstration(const struct stack_request *q, struct gallery *g)
{
    bool counted = q->functions || q->folded, drawn = !counted || q->svg || q->thread || q->all;
    int status = EXIT_SUCCESS;
    struct kss_machine *m = stack_demo(q, counted, g, &status);
    if (status == EXIT_SUCCESS && drawn)
        status = show(q, g);
    if (status == EXIT_SUCCESS && q->folded)
        status = write_folded(q->folded, m);
    if (status == EXIT_SUCCESS && q->functions)
        status = stack_functions(m, q->su);
    kss_machine_destroy(m);
    return status;
}

int cmd_stack(int argc, char **argv)
{
    struct stack_request q = { 0 };
    struct gallery g = { 0 };
    int status = parse(argc, argv, &q);
    if (status >= 0)
        return status;
    if (q.report) {
        size_t size;
        char *text = stack_read_file(q.report, &size);
        status = text ? stack_read_json(q.report, text, size, &g) : EXIT_FAILURE;
        free(text);
    } else if (q.core || q.pid) {
        status = stack_ask_gdb(&q, &g);
    } else {
        status = from_demonstration(&q, &g);
    }
    if (status == EXIT_SUCCESS && (q.report || q.core || q.pid))
        status = show(&q, &g);
    free(g.picture);
    return status;
}

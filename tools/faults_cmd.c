/* SPDX-License-Identifier: MIT */
/* kstacksim faults: the command line, and what is shown. */
#define _GNU_SOURCE
#include "faults.h"

#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include "../examples/table.h"
#include "faults_json.h"
#include "kstacksim.h"

static const char *const result_names[] = { "caught", "not caught", "skipped" };

struct request {
    struct fault_options run;
    bool all, json;
    unsigned repeat;
    const char *how; /* an option that is about provoking; NULL: none */
    char **names;
    int count;
};

/* ---- one of them ----------------------------------------------------------------------------------------- */

static void show_json(const struct fault_run *r)
{
    for (int i = 0; i < FAULT_REPORTS && r->json[i]; i++)
        puts(r->json[i]);
    fault_json_result(r, result_names[r->result]);
}

static void show_checks(const struct fault_run *r)
{
    puts("checked:");
    for (int i = 0; i < r->checks; i++)
        printf("  %-7s %-11s %s\n", r->check[i].ok ? "ok" : "WRONG", r->check[i].name, r->check[i].said);
}

static void show_text(const struct fault_run *r)
{
    char name[80];
    printf("%s: %s\n", fault_name(r->fault, name, sizeof name), r->fault->what);
    if (r->skipped) {
        printf("skipped: %s\n\n", r->skipped);
        return;
    }
    for (int i = 0; i < FAULT_REPORTS && r->text[i]; i++)
        fputs(r->text[i], stdout);
    if (!r->checks)
        printf("%s\n", r->trouble);
    show_checks(r);
    printf("%s, %.1f ms\n\n", result_names[r->result], r->ms);
}

/* ---- all of them ------------------------------------------------------------------------------------------- */

struct totals {
    unsigned count[3];
    double ms;
    struct table *table; /* NULL until there is a row */
    unsigned done, of;
};

static const char *first_wrong(const struct fault_run *r)
{
    for (int i = 0; i < r->checks; i++)
        if (!r->check[i].ok)
            return r->check[i].said;
    return r->trouble;
}

static void add_row(struct totals *t, const struct fault_run *r)
{
    static const char *const head[] = { "fault", "result", "report", "action", "ms" };
    char name[80], result[260];
    bool report = r->reports > 0;
    snprintf(result, sizeof result, "%s%s%s", result_names[r->result], r->result == FAULT_CAUGHT ? "" : ": ",
             r->result == FAULT_SKIPPED ? r->skipped : r->result == FAULT_CAUGHT ? "" : first_wrong(r));
    if (!t->table)
        t->table = table_new(head, 5, "l l l l r");
    table_row(t->table, "%s|%s|%s|%s|%.1f", fault_name(r->fault, name, sizeof name), result,
              report ? kss_report_kind_name(r->report[0].kind) : "-",
              report ? kss_report_action_name(r->report[0].action) : "-", r->ms);
}

static void progress(const struct totals *t, const struct fault *f)
{
    char name[80];
    if (isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K[%u/%u] %s", t->done + 1, t->of, f ? fault_name(f, name, sizeof name) : "");
}

static void one_of_all(struct totals *t, const struct request *q, const struct fault *f)
{
    progress(t, f);
    struct fault_run *r = fault_provoke(f, &q->run);
    t->count[r->result]++;
    t->ms += r->ms;
    t->done++;
    if (q->json)
        show_json(r);
    else if (q->repeat == 1 || r->result == FAULT_NOT_CAUGHT)
        add_row(t, r);
    fault_run_free(r);
}

static int run_all(const struct request *q)
{
    struct totals t = { 0 };
    for (const struct fault *f = fault_next(NULL, NULL); f; f = fault_next(NULL, f))
        t.of += q->repeat;
    for (unsigned i = 0; i < q->repeat; i++)
        for (const struct fault *f = fault_next(NULL, NULL); f; f = fault_next(NULL, f))
            one_of_all(&t, q, f);
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
    if (!q->json) {
        if (t.table)
            table_print(t.table);
        printf("%u caught, %u not caught, %u skipped; %.1f s\n", t.count[FAULT_CAUGHT], t.count[FAULT_NOT_CAUGHT],
               t.count[FAULT_SKIPPED], t.ms / 1e3);
    }
    return t.count[FAULT_NOT_CAUGHT] ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* ---- some of them ------------------------------------------------------------------------------------------ */

/* Does `name` name it: a row for all its variants, or one of these? */
static bool named(const struct fault *f, const char *name)
{
    char own[80];
    return strcmp(f->row, name) == 0 || strcmp(fault_name(f, own, sizeof own), name) == 0;
}

static const struct fault *next_named(const char *name, const struct fault *from)
{
    const struct fault *f = fault_next(NULL, from);
    while (f && !named(f, name))
        f = fault_next(NULL, f);
    return f;
}

static int run_named(const struct request *q)
{
    int status = EXIT_SUCCESS;
    for (int i = 0; i < q->count; i++)
        for (unsigned n = 0; n < q->repeat; n++)
            for (const struct fault *f = next_named(q->names[i], NULL); f; f = next_named(q->names[i], f)) {
                struct fault_run *r = fault_provoke(f, &q->run);
                if (q->json)
                    show_json(r);
                else
                    show_text(r);
                if (r->result == FAULT_NOT_CAUGHT)
                    status = EXIT_FAILURE;
                fault_run_free(r);
            }
    return status;
}

static int list(bool json)
{
    char name[80];
    int width = 0;
    for (const struct fault *f = fault_next(NULL, NULL); f; f = fault_next(NULL, f)) {
        int n = (int)strlen(fault_name(f, name, sizeof name));
        width = n > width ? n : width;
    }
    for (const struct fault *f = fault_next(NULL, NULL); f; f = fault_next(NULL, f)) {
        fault_name(f, name, sizeof name);
        if (json)
            fault_json_entry(f, name);
        else
            printf("%-*s %s\n", width, name, f->what);
    }
    return EXIT_SUCCESS;
}

/* ---- the command line -------------------------------------------------------------------------------------- */

static void help(void)
{
    puts("usage: kstacksim faults [OPTION]...            list them\n"
         "       kstacksim faults [OPTION]... NAME...    provoke some, each on a machine of its own\n"
         "       kstacksim faults [OPTION]... --all      provoke every one, one after the other, in this process\n"
         "\n"
         "NAME is a name of the list. Without its /variant it stands for all of its variants. For each fault, what\n"
         "is done is said, then the report that the library made, then what was checked: the report's kind, action,\n"
         "stack, mode and culprit, what came of the process and of its neighbours, and that the machine is whole.\n"
         "\n"
         "  -a, --all         every fault; ends with a table\n"
         "  -j, --json        one JSON object a line: the reports, and a result after them\n"
         "  -t, --tick HZ     timer interrupts per second, 1 to 20000 (default 250)\n"
         "  -n, --repeat N    all of it N times, 1 to 1000000 (default 1)\n"
         "  -s, --seed N      seed of canaries and random choices (default: the host's)\n"
         "  -h, --help        show this\n"
         "\n"
         "Exit status: 0 each was caught, 1 one was not, 2 the command line is wrong. See kstacksim-faults(7).");
}

static int wrong(const char *format, const char *what)
{
    fputs("kstacksim faults: ", stderr);
    fprintf(stderr, format, what);
    fputs("\nTry 'kstacksim faults --help'.\n", stderr);
    return EXIT_USAGE;
}

static bool number(const char *text, unsigned long low, unsigned long high, unsigned long *value)
{
    char *end;
    errno = 0;
    *value = strtoul(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && !*end && !errno && *value >= low && *value <= high;
}

/* -1: go on; else the exit status. */
static int parse(int argc, char **argv, struct request *q)
{
    static const struct option options[] = {
        { "all", no_argument, NULL, 'a' },          { "json", no_argument, NULL, 'j' },
        { "tick", required_argument, NULL, 't' },   { "repeat", required_argument, NULL, 'n' },
        { "seed", required_argument, NULL, 's' },   { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    unsigned long v;
    int o;
    optind = 0;
    opterr = 0;
    while ((o = getopt_long(argc, argv, ":ajt:n:s:h", options, NULL)) != -1) {
        if (o == 'a') {
            q->all = true;
        } else if (o == 'j') {
            q->json = true;
        } else if (o == 'h') {
            help();
            return EXIT_SUCCESS;
        } else if (o == 't') {
            if (!number(optarg, 1, 20000, &v))
                return wrong("the tick is '%s': a number of Hz from 1 to 20000 is needed.", optarg);
            q->run.tick_hz = (unsigned)v;
            q->how = "--tick";
        } else if (o == 'n') {
            if (!number(optarg, 1, 1000000, &v))
                return wrong("--repeat is '%s': a number from 1 to 1000000 is needed.", optarg);
            q->repeat = (unsigned)v;
            q->how = "--repeat";
        } else if (o == 's') {
            if (!number(optarg, 1, ULONG_MAX, &v))
                return wrong("the seed is '%s': a number from 1 up is needed.", optarg);
            q->run.seed = v;
            q->how = "--seed";
        } else {
            return wrong(o == ':' ? "option '%s' needs a value." : "there is no option '%s'.", argv[optind - 1]);
        }
    }
    q->names = argv + optind;
    q->count = argc - optind;
    return -1;
}

int cmd_faults(int argc, char **argv)
{
    struct request q = { .run = { .tick_hz = 250 }, .repeat = 1 };
    int status = parse(argc, argv, &q);
    if (status >= 0)
        return status;
    if (q.all && q.count)
        return wrong("'%s' is given beside --all, which stands for every fault.", q.names[0]);
    if (q.how && !q.all && !q.count)
        return wrong("%s says how faults are provoked, and none is named: give names, or --all.", q.how);
    for (int i = 0; i < q.count; i++)
        if (!next_named(q.names[i], NULL))
            return wrong("there is no fault '%s'. 'kstacksim faults' lists them.", q.names[i]);
    if (q.all)
        return run_all(&q);
    return q.count ? run_named(&q) : list(q.json);
}

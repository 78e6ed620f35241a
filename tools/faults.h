/* SPDX-License-Identifier: MIT */
/* The fault catalogue: what can be provoked, what must come of it, and how it is run and checked. */
#ifndef FAULTS_H
#define FAULTS_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <kstacksim/kstacksim.h>

/* A function that is to have a frame, with its own name, in backtraces. */
#ifdef __clang__
#define KEEP_FRAME __attribute__((noinline, optnone))
#else
#define KEEP_FRAME __attribute__((noipa))
#endif

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif
#ifndef WITH_ASAN
#define WITH_ASAN 0
#endif

/* Code that is wrong on purpose: a sanitizer is not to find it before the library does. */
#define UNCHECKED __attribute__((no_sanitize("address"), no_sanitize("undefined")))
#define BROKEN KEEP_FRAME UNCHECKED

#define FAULT_REPORTS 8
#define FAULT_CHECKS 16
#define FAULT_NEIGHBOURS 3

/* Wait statuses. */
#define EXITED(n) ((n) << 8)
#define KILLED(vector) ((vector) + 1)

struct fault_run;

/* One thing to provoke. Rows of the catalogue may have several: variants. */
struct fault {
    const char *row;     /* name in the catalogue */
    const char *variant; /* NULL: the row's only one, or its first */
    const char *what;    /* one sentence: what is done */

    /* The experiment: a process of its own runs `user`, or `kernel` in a system call. */
    void (*configure)(struct kss_config *config);
    int (*prepare)(struct kss_machine *machine); /* before it runs; negative errno */
    kss_user_fn user;
    long (*kernel)(void *arg);
    void (*cleanup)(void); /* after the machine is gone */
    const char *(*skip)(void); /* why it can't be provoked here; NULL: it can */

    /* What must come of it. */
    bool quiet;            /* no report; the rest is `status` and `check` */
    unsigned reports;      /* how many; 0: one */
    enum kss_report_kind kind;
    enum kss_report_action action;
    enum kss_stack_kind stack;
    enum kss_mode mode;
    const char *culprit;   /* function: in the report or one of its backtraces */
    const char *sentence;  /* a part of the report's message; NULL: any */
    int run;               /* what kss_machine_run() returns when the machine stops; 0: as the action says */
    int status;            /* of the process: EXITED() or KILLED() */
    const char *(*check)(const struct fault_run *run); /* what is wrong; NULL: nothing */
};

/* A process that runs along: it must not notice. */
struct fault_neighbour {
    const char *name;
    unsigned index, seed;
    long pid;
    int status;
    volatile unsigned long rounds;
    unsigned long rounds_at_fault;
    const volatile unsigned char *user_pattern, *kernel_pattern; /* on its stacks, while they are in use */
    volatile unsigned long bad; /* bytes that have changed */
};

struct fault_check {
    const char *name;
    bool ok;
    char said[200];
};

enum fault_result { FAULT_CAUGHT, FAULT_NOT_CAUGHT, FAULT_SKIPPED };

struct fault_options {
    unsigned tick_hz;
    uint64_t seed;
};

/* One provocation: filled in by fault_provoke(). */
struct fault_run {
    const struct fault *fault;
    struct kss_machine *machine; /* gone when fault_provoke() has returned */
    enum fault_result result;
    const char *skipped;
    int run, status;
    double ms;
    unsigned reports;            /* made; at most FAULT_REPORTS are kept */
    struct kss_report report[FAULT_REPORTS];
    char *text[FAULT_REPORTS], *json[FAULT_REPORTS];
    char wrong[200];             /* set by fault_expect() */
    char trouble[200];           /* set by the run itself */
    bool finished;               /* every process has ended, and the machine was whole then */
    struct fault_neighbour neighbour[FAULT_NEIGHBOURS];
    int checks;
    struct fault_check check[FAULT_CHECKS];
};

/* ---- the catalogue (faults_catalogue.c) ------------------------------------------------------------------ */

extern const char *const fault_rows[]; /* every name, in order; ends with NULL */
extern const struct fault *const fault_groups[]; /* the scenarios by group; each ends with a row NULL */
/* The next scenario of a row (NULL: of any) after `from` (NULL: the first), NULL at the end. */
const struct fault *fault_next(const char *row, const struct fault *from);
/* "row" or "row/variant". */
const char *fault_name(const struct fault *fault, char *buffer, size_t size);

extern const struct fault faults_stack[], faults_trap[], faults_irq[], faults_sched[], faults_lock[],
    faults_memory[], faults_api[], faults_eject[];

/* ---- running (faults_run.c, faults_neighbours.c, faults_check.c) ----------------------------------------------- */

/* Builds a machine, provokes it, checks all. The result is valid until fault_run_free(). */
struct fault_run *fault_provoke(const struct fault *fault, const struct fault_options *options);
void fault_run_free(struct fault_run *run);
void fault_check_all(struct fault_run *run);

/* Neighbours: started around the culprit, stopped and waited for. User mode. */
bool fault_neighbour_start(struct fault_neighbour *n);
void fault_neighbours_stop(struct fault_run *run);
unsigned long fault_neighbour_changed(const struct fault_neighbour *n); /* bytes, looked at from outside */
void fault_neighbours_init(struct fault_run *run);

/* ---- for scenarios ------------------------------------------------------------------------------------------ */

/* One system call that runs a function in kernel mode. User mode. */
long fault_in_kernel(long (*fn)(void *arg), void *arg);
/* Notes what is wrong when `ok` is false: the fault counts as not caught. Returns ok. */
bool fault_expect(bool ok, const char *format, ...) KSS_PRINTF(2, 3);
/* The run under way. */
struct fault_run *fault_current(void);
/* Reports made so far: to wait for in a loop, in any mode. */
extern volatile unsigned fault_reports;
/* How far the neighbours are together: it grows when others have had the CPU. Any mode. */
unsigned long fault_rounds(void);
/* The first report's function that has this name, wherever it is in the report. */
bool fault_report_names(const struct kss_report *report, const char *function);

#endif

/* SPDX-License-Identifier: MIT */
/* kstacksim stack: what its files share. */
#ifndef STACK_H
#define STACK_H

#include <stdbool.h>
#include <stdio.h>

#include <kstacksim/kstacksim.h>

#include "kstacksim.h"

#define STACK_PICTURES_MAX 4096

/* Pictures, as many as there are. */
struct gallery {
    struct kss_stack_picture *picture;
    unsigned count, room;
};

struct stack_request {
    const char *thread;           /* name or id; NULL: those that the story is about */
    bool all;
    const char *svg, *report, *core, *exe, *pid, *folded, *su;
    bool functions;
};

/* Room for one more; NULL: too many, or no memory, and that is said. */
struct kss_stack_picture *gallery_add(struct gallery *g);
/* Says a sentence, after "kstacksim stack: ". Returns the exit status it was given. */
int stack_fail(int status, const char *format, ...) KSS_PRINTF(2, 3);

/* stack_demo.c: runs the demonstration and takes its pictures. profile: also counts stacks. */
struct kss_machine *stack_demo(const struct stack_request *q, bool profile, struct gallery *g, int *status);

/* stack_json.c: every stack in a text of one or more JSON objects; `name` is for messages. */
int stack_read_json(const char *name, const char *text, size_t size, struct gallery *g);
/* A whole file, "-" for standard input; NULL and a sentence if that is impossible. */
char *stack_read_file(const char *name, size_t *size);

/* stack_gdb.c: of a core file or a process. */
int stack_ask_gdb(const struct stack_request *q, struct gallery *g);

/* stack_usage.c: the functions with their depths, and beside them what the compiler said. */
int stack_functions(struct kss_machine *m, const char *su_directory);

#endif

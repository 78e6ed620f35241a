/* SPDX-License-Identifier: MIT */
/* The program kstacksim: its subcommands. */
#ifndef KSTACKSIM_TOOL_H
#define KSTACKSIM_TOOL_H

#define EXIT_USAGE 2

/* A subcommand. argv[0] is its name; returns the exit status. */
struct command {
    const char *name;
    const char *summary; /* one line */
    int (*run)(int argc, char **argv);
};

int cmd_faults(int argc, char **argv);
int cmd_stack(int argc, char **argv);

#endif

/* SPDX-License-Identifier: MIT */
/* kstacksim: what can be done with libkstacksim without writing a program. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kstacksim/kstacksim.h>

#include "kstacksim.h"

static int cmd_help(int argc, char **argv);
static int cmd_version(int argc, char **argv);

static const struct command commands[] = {
    { "faults", "provoke what can go wrong with stacks, interrupts and the kernel, and see the reports", cmd_faults },
    { "stack", "draw kernel stacks to scale, of a demonstration, a report, a core file or a process", cmd_stack },
    { "help", "show this, or the help of a subcommand", cmd_help },
    { "version", "show the version", cmd_version },
};
#define COMMANDS (sizeof commands / sizeof commands[0])

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

static void usage(FILE *to)
{
    fputs("usage: kstacksim SUBCOMMAND [OPTION]... [ARGUMENT]...\n\n"
          "Runs a small preemptive kernel inside this process, to look at its stacks.\n\nsubcommands:\n", to);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs("\n'kstacksim SUBCOMMAND --help' shows a subcommand's options.\n"
          "Exit status: 0 all is well, 1 something is not, 2 the command line is wrong.\n", to);
}

static int unknown(const char *name)
{
    fprintf(stderr, "kstacksim: there is no subcommand '%s'. There are:", name);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(stderr, " %s", commands[i].name);
    fputs(".\nTry 'kstacksim --help'.\n", stderr);
    return EXIT_USAGE;
}

static int cmd_help(int argc, char **argv)
{
    char help[] = "--help", *again[] = { NULL, help, NULL };
    if (argc < 2 || strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0) {
        usage(stdout);
        return EXIT_SUCCESS;
    }
    const struct command *c = find(argv[1]);
    if (!c)
        return unknown(argv[1]);
    again[0] = argv[1];
    return c->run(2, again);
}

static int cmd_version(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        puts("usage: kstacksim version\n\nShows the version of the program and of the library that it uses.");
        return EXIT_SUCCESS;
    }
    if (argc > 1) {
        fprintf(stderr, "kstacksim version: it takes no argument, and there is '%s'.\n", argv[1]);
        return EXIT_USAGE;
    }
    printf("kstacksim %s, libkstacksim %s\n", KSS_VERSION_STRING, kss_version());
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fputs("kstacksim: no subcommand is given.\n", stderr);
        usage(stderr);
        return EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return cmd_help(0, NULL);
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        return cmd_version(0, NULL);
    const struct command *c = find(argv[1]);
    if (!c)
        return unknown(argv[1]);
    int status = c->run(argc - 1, argv + 1);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        perror("kstacksim: standard output");
        return EXIT_FAILURE;
    }
    return status;
}

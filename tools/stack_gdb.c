/* SPDX-License-Identifier: MIT */
/*
 * kstacksim stack --core and --pid: gdb knows how to read another process's memory and debug information, and the
 * project's commands for gdb how to find threads and stacks in it. It runs in batch mode; what it prints as JSON is
 * drawn.
 */
#define _GNU_SOURCE
#include "stack.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define THREADS_MAX 4096
#define FIXED 20 /* arguments beside the commands */

extern char **environ;

/* ---- where the commands are --------------------------------------------------------------------- */

/* Installed; or in the source tree that this program was built in, or in a folder of. */
static bool find_script(char *path, size_t size)
{
    const char *given = getenv("KSTACKSIM_GDB_SCRIPT");
    char self[4096];
    if (given && *given) {
        snprintf(path, size, "%s", given);
        return access(path, R_OK) == 0;
    }
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = '\0';
    for (int up = 0; up < 4; up++) {
        char *slash = strrchr(self, '/');
        if (!slash)
            break;
        *slash = '\0';
        if ((size_t)snprintf(path, size, "%s/tools/gdb/kstacksim-gdb.py", self) < size && access(path, R_OK) == 0)
            return true;
    }
    snprintf(path, size, "%s", GDB_SCRIPT);
    return access(path, R_OK) == 0;
}

/* ---- running gdb -------------------------------------------------------------------------------- */

static char *read_all(int fd, size_t *size)
{
    char *text = NULL;
    size_t room = 0;
    ssize_t n = 1;
    for (*size = 0; n > 0; *size += n > 0 ? (size_t)n : 0) {
        if (*size + 1 >= room) {
            room = room ? 2 * room : 65536;
            char *more = realloc(text, room);
            if (!more)
                break;
            text = more;
        }
        do
            n = read(fd, text + *size, room - *size - 1);
        while (n < 0 && errno == EINTR);
    }
    if (text)
        text[*size] = '\0';
    return text;
}

/* A warning, or a line of source that gdb would have liked to show: its number and a tab. */
static bool is_noise(const char *line)
{
    size_t digits = strspn(line, "0123456789");
    return strncmp(line, "warning:", 8) == 0 || (digits && line[digits] == '\t');
}

/* What makes all else that gdb says a consequence. */
static bool is_cause(const char *line)
{
    return strncmp(line, "ptrace:", 7) == 0 || strstr(line, "not a core dump") ||
           strstr(line, ": No such file or directory.");
}

/* What gdb has complained about: the cause, else the last that it said. */
static void keep_complaint(int fd, char *said, size_t size)
{
    size_t n;
    lseek(fd, 0, SEEK_SET);
    char *text = read_all(fd, &n);
    snprintf(said, size, "it does not say why");
    for (char *save = NULL, *line = text ? strtok_r(text, "\n", &save) : NULL; line;
         line = strtok_r(NULL, "\n", &save))
        if (!is_noise(line)) {
            snprintf(said, size, "%s", line);
            if (is_cause(line))
                break;
        }
    free(text);
}

/* What it prints; its complaint in `said`. NULL: it could not be run, and that is said. */
static char *run_gdb(char **argv, char *said, size_t said_size)
{
    posix_spawn_file_actions_t fa;
    size_t size;
    int fds[2], status, errors = memfd_create("errors", MFD_CLOEXEC);
    pid_t pid;
    if (errors < 0 || pipe2(fds, O_CLOEXEC) != 0) {
        stack_fail(0, "no pipe to gdb: %s", strerror(errno));
        return NULL;
    }
    posix_spawn_file_actions_init(&fa);
    posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&fa, fds[1], 1);
    posix_spawn_file_actions_adddup2(&fa, errors, 2);
    int r = posix_spawnp(&pid, argv[0], &fa, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&fa);
    close(fds[1]);
    char *text = r == 0 ? read_all(fds[0], &size) : NULL;
    close(fds[0]);
    if (r == ENOENT)
        stack_fail(
            0,
            "gdb is needed to look into a core file or another process, and there is no '%s' here: install "
            "gdb, or set KSTACKSIM_GDB to where it is",
            argv[0]);
    else if (r != 0)
        stack_fail(0, "%s can't be run: %s", argv[0], strerror(r));
    if (r == 0)
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
    keep_complaint(errors, said, said_size);
    close(errors);
    return text;
}

/* gdb with the project's commands loaded, then `count` commands of ours. */
static char *ask(const struct stack_request *q, char *const *commands, size_t count, char *said, size_t size)
{
    char script[4200], source[4300], *text = NULL;
    const char *gdb = getenv("KSTACKSIM_GDB");
    char **argv = calloc(FIXED + 2 * count, sizeof *argv);
    size_t n = 0;
    if (!argv || !find_script(script, sizeof script)) {
        stack_fail(0, argv ? "the commands for gdb are not there: looked for %s" : "no memory for %s", script);
        free(argv);
        return NULL;
    }
    snprintf(source, sizeof source, "source %s", script);
    const char *const fixed[] = {gdb && *gdb ? gdb : "gdb",
                                 "-nx",
                                 "-q",
                                 "-batch",
                                 "-ex",
                                 "set pagination off",
                                 "-ex",
                                 "set width 0",
                                 "-ex",
                                 "set debuginfod enabled off",
                                 "-ex",
                                 source};
    for (; n < sizeof fixed / sizeof fixed[0]; n++)
        argv[n] = (char *)fixed[n];
    for (size_t i = 0; i < count; i++) {
        argv[n++] = (char *)"-ex";
        argv[n++] = commands[i];
    }
    if (q->exe)
        argv[n++] = (char *)q->exe;
    argv[n++] = (char *)(q->core ? "-c" : "-p");
    argv[n++] = (char *)(q->core ? q->core : q->pid);
    text = run_gdb(argv, said, size);
    free(argv);
    return text;
}

static int complain(const struct stack_request *q, const char *said)
{
    return stack_fail(EXIT_FAILURE, "gdb finds no kernel stack in %s %s: %s", q->core ? "core file" : "process",
                      q->core ? q->core : q->pid, said);
}

/* ---- which threads ------------------------------------------------------------------------------ */

/* The commands that show each thread that kss-ps lists. Returns their number. */
static size_t list_threads(char *text, char **commands)
{
    size_t n = 0;
    for (char *save = NULL, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        char *end;
        long tid = strtol(line, &end, 10);
        if (end == line || *end != ' ' || n == THREADS_MAX)
            continue;
        if (asprintf(&commands[n], "kss-stack --json %ld", tid) > 0)
            n++;
    }
    return n;
}

static bool is_thread_id(const char *s)
{
    return *s && strspn(s, "-0123456789:") == strlen(s);
}

static bool is_named(const struct kss_stack_picture *p, const char *name)
{
    const char *open = strchr(p->title, '('), *close = strrchr(p->title, ')');
    size_t n = strlen(name);
    return open && close && (size_t)(close - open) == n + 1 && memcmp(open + 1, name, n) == 0;
}

static void keep_named(struct gallery *g, const char *name)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < g->count; i++)
        if (is_named(&g->picture[i], name))
            g->picture[kept++] = g->picture[i];
    g->count = kept;
}

/* Of what gdb has printed, the lines that are JSON objects. */
static int read_answer(const struct stack_request *q, char *text, const char *said, struct gallery *g)
{
    size_t size = 0;
    char *copy = strdup(text), *json = malloc(strlen(text) + 1);
    int r = EXIT_FAILURE;
    for (char *save = NULL, *line = copy ? strtok_r(copy, "\n", &save) : NULL; json && line;
         line = strtok_r(NULL, "\n", &save)) {
        if (line[0] != '{')
            continue;
        size_t n = strlen(line);
        memcpy(json + size, line, n);
        size += n;
        json[size++] = '\n';
    }
    if (json && size)
        r = stack_read_json("gdb's answer", json, size, g) ? EXIT_FAILURE : EXIT_SUCCESS;
    else
        complain(q, said);
    free(copy);
    free(json);
    return r;
}

/* All that kss-ps lists; 0: none, and why is said. */
static size_t find_threads(const struct stack_request *q, char **commands)
{
    static char ps[] = "kss-ps", *list[] = { ps };
    char said[400];
    char *text = ask(q, list, 1, said, sizeof said);
    size_t n = text ? list_threads(text, commands) : 0;
    if (text && !n)
        complain(q, said);
    free(text);
    return n;
}

int stack_ask_gdb(const struct stack_request *q, struct gallery *g)
{
    static char *commands[THREADS_MAX], one[128];
    bool by_id = q->thread && is_thread_id(q->thread);
    char said[400];
    snprintf(one, sizeof one, "kss-stack --json %s", by_id ? q->thread : "");
    commands[0] = one;
    size_t count = by_id ? 1 : find_threads(q, commands);
    char *text = count ? ask(q, commands, count, said, sizeof said) : NULL;
    int r = text ? read_answer(q, text, said, g) : EXIT_FAILURE;
    free(text);
    if (r == EXIT_SUCCESS && q->thread && !by_id) {
        keep_named(g, q->thread);
        if (!g->count)
            r = stack_fail(EXIT_FAILURE, "no thread '%s' with a kernel stack is there", q->thread);
    }
    for (size_t i = 0; i < count && !by_id; i++)
        free(commands[i]);
    return r;
}

/* SPDX-License-Identifier: MIT */
/*
 * preempted_write INPUT OUTPUT: the central story of kernel stacks. A process of high priority copies
 * INPUT to OUTPUT through two simulated disks. In the middle of each write() it blocks: its suspended
 * work stays on its own kernel stack, a process of low priority gets the CPU and makes system calls of
 * its own, and the disk's completion interrupt brings the writer back exactly where it was.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "pw.h"

static void usage(FILE *out)
{
    fprintf(out, "usage: preempted_write [OPTIONS] INPUT OUTPUT\n"
                 "Copies INPUT to OUTPUT through simulated disks and shows how the writer is preempted.\n"
                 "  --json             the same facts for programs\n"
                 "  --tick HZ          timer interrupts a second, 1 to 20000 (1000)\n"
                 "  --chunk BYTES      size of each write, 1 to 1048576 (8192)\n"
                 "  --kstack BYTES     kernel stack size, a power of two (32768)\n"
                 "  --seek US          seek time of the disks in microseconds (100)\n"
                 "  --rate KIB         transfer rate of the disks in KiB a second, 0: unlimited (16384)\n"
                 "  --entry trap|gate  how system calls enter the kernel (trap)\n");
}

/* Whether s is a whole number within bounds. */
static bool number(const char *name, const char *s, uint64_t low, uint64_t high, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long n = strtoull(s, &end, 10);
    if (errno || end == s || *end || *s == '-' || n < low || n > high) {
        fprintf(stderr, "preempted_write: --%s %s: a number from %" PRIu64 " to %" PRIu64 "\n", name, s, low, high);
        return false;
    }
    *out = n;
    return true;
}

static bool one_option(int c, struct pw_options *o)
{
    uint64_t n = 0;
    bool ok = true;
    switch (c) {
    case 'j':
        o->json = true;
        break;
    case 't':
        ok = number("tick", optarg, 0, UINT32_MAX, &n);
        o->tick_hz = (unsigned)n; /* the library knows its limits and says them */
        break;
    case 'c':
        ok = number("chunk", optarg, 1, 1 << 20, &n);
        o->chunk = n;
        break;
    case 'k':
        ok = number("kstack", optarg, 0, UINT64_MAX, &n);
        o->kstack_size = n;
        break;
    case 's':
        ok = number("seek", optarg, 0, 10000000, &n);
        o->seek_ns = n * 1000;
        break;
    case 'r':
        ok = number("rate", optarg, 0, 1u << 30, &n);
        o->bytes_per_second = n * 1024;
        break;
    case 'e':
        ok = !strcmp(optarg, "trap") || !strcmp(optarg, "gate");
        o->entry = strcmp(optarg, "gate") ? KSS_SYSCALL_TRAP : KSS_SYSCALL_GATE;
        if (!ok)
            fprintf(stderr, "preempted_write: --entry %s: trap or gate\n", optarg);
        break;
    default:
        usage(stderr);
        ok = false;
    }
    return ok;
}

static bool parse(int argc, char **argv, struct pw_options *o)
{
    static const struct option longs[] = {
        { "json", no_argument, 0, 'j' },          { "tick", required_argument, 0, 't' },
        { "chunk", required_argument, 0, 'c' },   { "kstack", required_argument, 0, 'k' },
        { "seek", required_argument, 0, 's' },    { "rate", required_argument, 0, 'r' },
        { "entry", required_argument, 0, 'e' },   { "help", no_argument, 0, 'h' },
        { 0, 0, 0, 0 }
    };
    for (int c; (c = getopt_long(argc, argv, "h", longs, NULL)) != -1;) {
        if (c == 'h') {
            usage(stdout);
            exit(0);
        }
        if (!one_option(c, o))
            return false;
    }
    if (argc - optind != 2) {
        usage(stderr);
        return false;
    }
    o->input = argv[optind];
    o->output = argv[optind + 1];
    return true;
}

/* Before the machine is made: OUTPUT would be emptied first. */
static bool check_files(const struct pw_options *o, uint64_t *bytes)
{
    struct stat in, out;
    if (stat(o->input, &in) != 0) {
        fprintf(stderr, "preempted_write: can't read %s: %s\n", o->input, strerror(errno));
        return false;
    }
    if (S_ISDIR(in.st_mode)) {
        fprintf(stderr, "preempted_write: %s is a directory\n", o->input);
        return false;
    }
    if (stat(o->output, &out) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino) {
        fprintf(stderr, "preempted_write: INPUT and OUTPUT are the same file\n");
        return false;
    }
    *bytes = (uint64_t)in.st_size;
    return true;
}

static int build(struct kss_machine **m, const struct pw_options *o)
{
    struct kss_config config;
    kss_config_init(&config);
    config.tick_hz = o->tick_hz;
    config.kstack_size = o->kstack_size;
    if (config.kstack_max < config.kstack_size)
        config.kstack_max = config.kstack_size;
    config.syscall_entry = o->entry;
    config.sched = &kss_sched_priority;
    config.trace = true;
    config.host_signals = true;
    int r = kss_machine_create(m, &config);
    if (r < 0)
        return r;
    struct kss_disk_config in = { .name = "input", .path = o->input, .seek_ns = o->seek_ns,
                                  .bytes_per_second = o->bytes_per_second };
    struct kss_disk_config out = { .name = "output", .path = o->output, .create = true, .seek_ns = o->seek_ns,
                                   .bytes_per_second = o->bytes_per_second };
    in.max_transfer = out.max_transfer = o->chunk < 512 ? 512 : o->chunk;
    r = kss_disk_attach(*m, &in);
    if (r == 0)
        r = kss_disk_attach(*m, &out);
    if (r == 0)
        r = pw_register(*m);
    return r;
}

/* Byte for byte, from the host. */
static void compare(struct pw_run *run)
{
    FILE *a = fopen(run->options->input, "rb"), *b = fopen(run->options->output, "rb");
    if (!a || !b) {
        snprintf(run->difference, sizeof run->difference, "one of them can't be read: %s", strerror(errno));
    } else {
        int x, y;
        do {
            x = getc(a);
            y = getc(b);
            run->compared += x == y && x != EOF;
        } while (x == y && x != EOF);
        run->equal = x == y && !ferror(a) && !ferror(b);
        if (!run->equal)
            snprintf(run->difference, sizeof run->difference, "the first difference is at byte %" PRIu64, run->compared);
    }
    if (a)
        fclose(a);
    if (b)
        fclose(b);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    static struct pw_options options = { .tick_hz = 1000, .chunk = 8192, .kstack_size = 32768, .seek_ns = 100000,
                                         .bytes_per_second = 16u << 20, .entry = KSS_SYSCALL_TRAP };
    static struct pw_run run = { .options = &options };
    struct kss_machine *m = NULL;
    if (!parse(argc, argv, &options))
        return 2;
    if (!check_files(&options, &run.input_bytes))
        return 1;
    if (build(&m, &options) < 0) {
        fprintf(stderr, "preempted_write: %s\n", kss_last_error());
        kss_machine_destroy(m);
        return 1;
    }
    double start = now();
    run.run_result = kss_machine_run(m, pw_main, &run, &run.status);
    run.seconds = now() - start;
    if (run.run_result < 0)
        snprintf(run.run_sentence, sizeof run.run_sentence, "%s", kss_last_error());
    if (run.run_result == 0 && !run.writer_error)
        compare(&run);
    if (options.json)
        pw_show_json(m, &run);
    else
        pw_show(m, &run);
    kss_machine_destroy(m);
    if (run.run_result == -ECANCELED)
        return 130;
    return run.run_result == 0 && !run.writer_error && run.status == 0 && run.equal ? 0 : 1;
}

/* SPDX-License-Identifier: MIT */
/*
 * A keyboard, its interrupts, and a process that reads lines.
 *
 * Standard input becomes the simulated keyboard: each key raises the keyboard's IRQ line, the
 * handler collects keys into a line that can still be edited (erase: Backspace or ^H, kill: ^U),
 * and Enter, ^D or the end of the input wakes the reader, which slept in its read() system call.
 * What is read is written back. Input may be a terminal, a pipe or a file.
 *
 *     keyboard_echo                          type; ^D on an empty line ends it
 *     printf 'ab\bc\nlast' | keyboard_echo
 *
 * Expect: the lines, edited ("ac" and "last" above), then the console's counters on standard error.
 */
#include <kstacksim/kstacksim.h>

#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

/* What the process counted; it is checked against the console's own counters. */
static uint64_t reads, lines, bytes;

static long write_all(const char *p, size_t n)
{
    while (n) {
        long w = kss_write(1, p, n);
        if (w <= 0)
            return -1;
        p += w;
        n -= (size_t)w;
    }
    return 0;
}

/* The first process has descriptors 0, 1 and 2 open on the console. */
static long echo_lines(void *arg)
{
    char line[256];
    long n;
    (void)arg;
    while ((n = kss_read(0, line, sizeof line)) > 0) {
        reads++;
        bytes += (uint64_t)n;
        lines += line[n - 1] == '\n';
        if (write_all(line, (size_t)n) < 0) {
            n = -1;
            break;
        }
    }
    if (n < 0)
        fprintf(stderr, "keyboard_echo: %s\n", kss_last_error());
    return n < 0;
}

static int check(struct kss_machine *machine)
{
    struct kss_console_stats s;
    struct kss_irq_stats irq;
    if (kss_console_stats(machine, &s) < 0 ||
        kss_irq_stats(machine, 0, KSS_LINE_KEYBOARD, &irq) < 0) {
        fprintf(stderr, "keyboard_echo: %s\n", kss_last_error());
        return 1;
    }
    fprintf(stderr,
            "\n%" PRIu64 " key interrupts for %" PRIu64 " bytes (%" PRIu64 " raised while "
            "still pending), %" PRIu64 " lines, %" PRIu64 " erased, %" PRIu64 " overflowed; "
            "%" PRIu64 " reads gave %" PRIu64 " bytes\n",
            s.key_interrupts, s.bytes_in, irq.lost, s.lines, s.erased, s.overflow, reads, bytes);
    if (irq.raised != irq.delivered + irq.pending + irq.lost || s.key_interrupts != irq.delivered) {
        fprintf(stderr, "keyboard_echo: interrupts are missing\n");
        return 1;
    }
    if (s.overflow) {
        fprintf(stderr, "keyboard_echo: the input came faster than it was read\n");
        return 1;
    }
    if (s.bytes_out != bytes || lines > s.lines || bytes + s.erased > s.bytes_in) {
        fprintf(stderr, "keyboard_echo: the counters of console and process differ\n");
        return 1;
    }
    return 0;
}

static int run(void)
{
    struct kss_config config;
    struct kss_machine *machine;
    int status = 0;
    struct kss_console_config console = {
        .input_fd = STDIN_FILENO, .output_fd = STDOUT_FILENO, .echo = isatty(STDIN_FILENO)};
    /* Looked at first: if it is closed, the next descriptor that anybody opens takes its number. */
    if (fcntl(STDIN_FILENO, F_GETFD) < 0 || fcntl(STDOUT_FILENO, F_GETFD) < 0) {
        perror("keyboard_echo: standard input or output");
        return 1;
    }
    kss_config_init(&config);
    config.host_signals = true; /* ^C stops the machine in order, and the terminal is set back */
    int r = kss_machine_create(&machine, &config);
    if (r == 0)
        r = kss_console_attach(machine, &console);
    if (r == 0)
        r = kss_machine_run(machine, echo_lines, NULL, &status);
    if (r < 0)
        fprintf(stderr, "keyboard_echo: %s\n", kss_last_error());
    int bad = r < 0 || status != 0 || check(machine);
    if (kss_machine_destroy(machine) < 0)
        fprintf(stderr, "keyboard_echo: %s\n", kss_last_error());
    return bad;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    static const char usage[] = "usage: keyboard_echo [< file]\n"
                                "Reads lines by keyboard interrupts and echoes them until ^D or\n"
                                "the end of the input. Backspace erases a key, ^U the line.\n"
                                "The counters come on standard error.\n";
    int c = getopt_long(argc, argv, "h", options, NULL);
    if (c != -1 || optind != argc) {
        fputs(usage, c == 'h' ? stdout : stderr);
        return c == 'h' ? 0 : 2;
    }
    return run();
}

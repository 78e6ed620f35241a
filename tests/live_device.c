/* SPDX-License-Identifier: MIT */
/* Disk and console: transfers, host errors, the line discipline; the write story. */
#include "harness.h"

#include <fcntl.h>
#include <unistd.h>

static char path[2][64];

static void make_file(int i, size_t bytes)
{
    snprintf(path[i], sizeof path[i], "/tmp/kss-test-XXXXXX");
    int fd = mkstemp(path[i]);
    ck_assert_int_ge(fd, 0);
    for (size_t n = 0; n < bytes; n++) {
        unsigned char c = (unsigned char)(n * 31 + (n >> 8));
        ck_assert_int_eq(write(fd, &c, 1), 1);
    }
    close(fd);
}

static void drop_files(void)
{
    for (int i = 0; i < 2; i++)
        if (path[i][0])
            unlink(path[i]);
}

static void attach(struct kss_machine *m, const char *name, const char *file, bool create)
{
    struct kss_disk_config d = { .name = name, .path = file, .create = create, .seek_ns = 200000,
                                 .bytes_per_second = 64 << 20 };
    ck_assert_msg(kss_disk_attach(m, &d) == 0, "%s", kss_last_error());
}

/* ---- REQ P2: the write story -------------------------------------------------------------------------------- */

static _Atomic bool written;
static volatile unsigned long calls_while_blocked;
static _Atomic bool blocked_in_write;

static long story_writer(void *arg)
{
    static unsigned char data[8192];
    (void)arg;
    for (unsigned i = 0; i < sizeof data; i++)
        data[i] = (unsigned char)(i * 31 + (i >> 8));
    int fd = (int)kss_open("out", O_WRONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(kss_write(fd, data, sizeof data), sizeof data);
    written = true;
    return 0;
}

static long look_at_writer(void *arg)
{
    struct kss_frame f[32];
    struct kss_thread *t = kss_thread_find(kss_machine_current(), (int)(long)arg);
    struct kss_kstack_info k;
    if (!t || kss_kstack_info(t, &k) < 0 || !k.depth)
        return 0;
    int n = kss_backtrace(t, f, 32), write = 0, user = 0;
    for (int i = 0; i < n; i++) {
        write |= !strcmp(f[i].symbol, "kssi_file_io");
        user |= !strcmp(f[i].symbol, "story_writer") && f[i].kind == KSS_FRAME_USER;
    }
    blocked_in_write |= write && user;
    return write && user;
}

static long story_main(void *arg)
{
    struct kss_spawn_attr high = { .priority = 80 };
    (void)arg;
    kss_setpriority(0, 10); /* the lower one is this process */
    long pid = kss_spawn(story_writer, NULL, &high);
    while (!written) {
        ck_assert_int_eq(kss_getpid(), kss_gettid());
        calls_while_blocked++;
        if (!blocked_in_write)
            in_kernel(look_at_writer, (void *)pid);
    }
    return kss_wait(pid, NULL) != pid;
}

START_TEST(write_story) /* REQ P2 */
{
    struct kss_config c = test_config();
    c.cpus = 1; /* who has the lower priority runs because the writer is blocked */
    c.sched = &kss_sched_priority;
    make_file(0, 8192);
    make_file(1, 0);
    struct kss_machine *m = test_machine(&c);
    attach(m, "out", path[1], true);
    ck_assert_int_eq(test_run(m, story_main, NULL), 0);
    ck_assert_uint_gt(calls_while_blocked, 0);
    ck_assert(blocked_in_write);
    struct kss_disk_stats d;
    ck_assert_int_eq(kss_disk_stats(m, "out", &d), 0);
    ck_assert_uint_eq(d.bytes_written, 8192);
    ck_assert_uint_eq(d.interrupts, 1);
    kss_machine_destroy(m);
    static unsigned char a[8193], b[8193];
    int x = open(path[0], O_RDONLY), y = open(path[1], O_RDONLY);
    ck_assert_int_eq(read(x, a, sizeof a), 8192);
    ck_assert_int_eq(read(y, b, sizeof b), 8192);
    ck_assert_int_eq(memcmp(a, b, 8192), 0);
    close(x);
    close(y);
    drop_files();
}
END_TEST

/* ---- several readers and writers at once; short reads; positions ---------------------------------------------- */

static long reader(void *arg)
{
    unsigned char buffer[1000];
    uint64_t at = 0;
    int fd = (int)kss_open("in", O_RDONLY);
    ck_assert_int_ge(fd, 0);
    for (;;) {
        long n = kss_read(fd, buffer, sizeof buffer);
        ck_assert_int_ge(n, 0);
        for (long i = 0; i < n; i++, at++)
            ck_assert_uint_eq(buffer[i], (unsigned char)(at * 31 + (at >> 8)));
        if (n < (long)sizeof buffer) {
            ck_assert_int_eq(kss_read(fd, buffer, sizeof buffer), 0); /* the end stays the end */
            break;
        }
    }
    ck_assert_int_eq(kss_close(fd), 0);
    ck_assert_int_eq(kss_close(fd), -EBADF);
    return at != (uint64_t)(long)arg;
}

static long readers_main(void *arg)
{
    int status;
    long bad = 0;
    for (int i = 0; i < 5; i++)
        kss_spawn(reader, arg, NULL);
    while (kss_wait(-1, &status) > 0)
        bad |= status;
    return bad;
}

START_TEST(many_readers)
{
    struct kss_config c = test_config();
    c.tick_hz = 5000;
    make_file(0, 12345);
    struct kss_machine *m = test_machine(&c);
    attach(m, "in", path[0], false);
    ck_assert_int_eq(test_run(m, readers_main, (void *)12345L), 0);
    kss_machine_destroy(m);
    drop_files();
}
END_TEST

/* ---- host errors come through ----------------------------------------------------------------------------------- */

static long full_main(void *arg)
{
    (void)arg;
    int fd = (int)kss_open("full", O_WRONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(kss_write(fd, "x", 1), -ENOSPC);
    ck_assert_ptr_nonnull(strstr(kss_last_error(), "No space left"));
    ck_assert_int_eq(kss_read(fd, &fd, 1), -EBADF); /* opened for writing */
    fd = (int)kss_open("in", O_RDONLY);
    char c;
    ck_assert_int_eq(kss_write(fd, "x", 1), -EBADF);
    ck_assert_int_eq(kss_read(fd, &c, 1), 1);
    ck_assert_int_eq(kss_read(fd, NULL, 1), -EFAULT);
    ck_assert_int_eq(kss_open("in", O_WRONLY), -EACCES);
    ck_assert_int_eq(kss_open("nothing", O_RDONLY), -ENOENT);
    return 0;
}

START_TEST(host_errors)
{
    struct kss_config c = test_config();
    make_file(0, 100);
    struct kss_machine *m = test_machine(&c);
    struct kss_disk_config d = { .name = "full", .path = "/dev/full", .writable = true };
    ck_assert_int_eq(kss_disk_attach(m, &d), 0);
    attach(m, "in", path[0], false);
    struct kss_disk_config bad = { .name = "dir", .path = "/tmp" };
    ck_assert_int_eq(kss_disk_attach(m, &bad), -EISDIR);
    bad.path = "/nonexistent/file";
    ck_assert_int_eq(kss_disk_attach(m, &bad), -ENOENT);
    bad.name = "in";
    bad.path = path[0];
    bad.create = true;
    ck_assert_int_eq(kss_disk_attach(m, &bad), -EEXIST); /* and the file is not emptied: */
    ck_assert_int_eq(test_run(m, full_main, NULL), 0);
    struct kss_disk_stats s;
    ck_assert_int_eq(kss_disk_stats(m, "full", &s), 0);
    ck_assert_uint_eq(s.errors, 1);
    kss_machine_destroy(m);
    drop_files();
}
END_TEST

/* ---- the console -------------------------------------------------------------------------------------------------- */

static char got[4096];

static long console_main(void *arg)
{
    size_t n = 0;
    (void)arg;
    for (;;) {
        long r = kss_read(0, got + n, 100);
        ck_assert_int_ge(r, 0);
        if (r == 0)
            break;
        n += (size_t)r;
        got[n++] = '|';
    }
    got[n] = '\0';
    ck_assert_int_eq(kss_write(1, "done\n", 5), 5);
    return 0;
}

static void console(const char *typed, size_t n, const char *expected)
{
    int in[2], out[2];
    char text[64] = "";
    struct kss_config c = test_config();
    ck_assert_int_eq(pipe(in), 0);
    ck_assert_int_eq(pipe(out), 0);
    struct kss_machine *m = test_machine(&c);
    struct kss_console_config k = { .input_fd = in[0], .output_fd = out[1] };
    ck_assert_int_eq(kss_console_attach(m, &k), 0);
    ck_assert_int_eq(kss_console_attach(m, &k), -EBUSY);
    ck_assert_int_eq(write(in[1], typed, n), (ssize_t)n);
    close(in[1]);
    ck_assert_int_eq(test_run(m, console_main, NULL), 0);
    ck_assert_str_eq(got, expected);
    ck_assert_int_eq(read(out[0], text, sizeof text - 1), 5);
    ck_assert_str_eq(text, "done\n");
    struct kss_console_stats s;
    ck_assert_int_eq(kss_console_stats(m, &s), 0);
    ck_assert_uint_eq(s.overflow, 0);
    kss_machine_destroy(m);
    close(in[0]);
    close(out[0]);
    close(out[1]);
}

static const struct {
    const char *typed, *expected;
} lines[] = {
    { "one\ntwo\n", "one\n|two\n|" },
    { "no newline", "no newline|" },
    { "mistaj\177ke\n", "mistake\n|" },
    { "\177\177a\b\bb\n", "b\n|" },
    { "all gone\025new\n", "new\n|" },
    { "part\004rest\n", "part|rest\n|" },
    { "line\n\004never read\n", "line\n|" },
    { "", "" },
    { "\r\n", "\n|\n|" },
};

START_TEST(line_discipline)
{
    console(lines[_i].typed, strlen(lines[_i].typed), lines[_i].expected);
}
END_TEST

/* More than the keyboard's buffer and the pipe's: nothing gets lost. */
static long count_main(void *arg)
{
    static char buffer[256];
    long n = 0, r;
    while ((r = kss_read(0, buffer, sizeof buffer)) > 0)
        n += r;
    *(long *)arg = n;
    return 0;
}

START_TEST(much_input)
{
    struct kss_config c = test_config();
    long n = 0;
    c.check_switches = false;
    make_file(0, 0);
    FILE *f = fopen(path[0], "w");
    for (int i = 0; i < 3000; i++)
        fprintf(f, "line %d of the input\n", i);
    fclose(f);
    int fd = open(path[0], O_RDONLY);
    off_t size = lseek(fd, 0, SEEK_END);
    lseek(fd, 0, SEEK_SET);
    struct kss_machine *m = test_machine(&c);
    struct kss_console_config k = { .input_fd = fd, .output_fd = -1 };
    ck_assert_int_eq(kss_console_attach(m, &k), 0);
    ck_assert_int_eq(test_run(m, count_main, &n), 0);
    ck_assert_int_eq(n, size);
    kss_machine_destroy(m);
    close(fd);
    drop_files();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_device");
    TCase *t = tcase_create("device");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, write_story);
    tcase_add_test(t, many_readers);
    tcase_add_test(t, host_errors);
    tcase_add_loop_test(t, line_discipline, 0, sizeof lines / sizeof lines[0]);
    tcase_add_test(t, much_input);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

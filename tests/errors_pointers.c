/* SPDX-License-Identifier: MIT */
/* Bad pointers to every system call that takes one, byte counts to the byte; descriptors. Nobody is
   killed by it. */
#define _GNU_SOURCE
#include "errors.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE 4096
#define NAME_40 "a-name-of-forty-characters-that-is-cut--"

static long user(void *arg)
{
    return (long)arg;
}

/* ---- a device: reads a pattern, checks what is written ---------------------------------------------- */

static unsigned char pattern_at(size_t i)
{
    return (unsigned char)(i * 7 + 3);
}

static long pattern_read(struct kss_file *f, void *user_buffer, size_t n)
{
    static unsigned char data[2 * PAGE];
    (void)f;
    n = n < sizeof data ? n : sizeof data;
    for (size_t i = 0; i < n; i++)
        data[i] = pattern_at(i);
    size_t missing = kss_copy_to_user(user_buffer, data, n);
    return n && missing == n ? kss_set_error(-EFAULT, "nothing of %zu bytes", n) : (long)(n - missing);
}

static long pattern_write(struct kss_file *f, const void *user_buffer, size_t n)
{
    static unsigned char data[2 * PAGE];
    (void)f;
    n = n < sizeof data ? n : sizeof data;
    size_t got = n - kss_copy_from_user(data, user_buffer, n);
    for (size_t i = 0; i < got; i++)
        if (data[i] != pattern_at(i))
            return kss_set_error(-EIO, "byte %zu is wrong", i);
    return n && !got ? kss_set_error(-EFAULT, "nothing of %zu bytes", n) : (long)got;
}

static long pattern_open(struct kss_file *f)
{
    return f->flags == O_WRONLY ? kss_set_error(-EACCES, "not for writing only") : 0;
}

static const struct kss_device_ops pattern_ops = { pattern_open, pattern_read, pattern_write, NULL };

/* ---- bad pointers ----------------------------------------------------------------------------------- */

enum { BAD_NULL, BAD_LOW, BAD_TASK_STACK, BAD_FRAME, BAD_GUARD_BELOW, BAD_GUARD_ABOVE, BAD_WRAP, BAD_END,
       BAD_NONCANONICAL, BAD_PROT_NONE, BAD_BEHIND_FILE, BAD_POINTERS };
static char *bad[BAD_POINTERS];
static char *page; /* one page, and behind it one that nobody may touch */

static long look(void *arg)
{
    return kss_kstack_info(NULL, arg);
}

static void make_bad_pointers(void)
{
    struct kss_kstack_info k;
    ck_assert_int_eq(in_kernel(look, &k), 0);
    page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(page, MAP_FAILED);
    ck_assert_int_eq(mprotect(page + PAGE, PAGE, PROT_NONE), 0);
    bad[BAD_NULL] = NULL;
    bad[BAD_LOW] = (char *)0x1000;
    bad[BAD_TASK_STACK] = (char *)k.low + 256;
    bad[BAD_FRAME] = (char *)k.user_frame;
    bad[BAD_GUARD_BELOW] = (char *)k.low - 64;
    bad[BAD_GUARD_ABOVE] = (char *)k.high + 64;
    bad[BAD_WRAP] = (char *)-16;
    bad[BAD_END] = (char *)-1;
    bad[BAD_NONCANONICAL] = (char *)(1ull << 63);
    bad[BAD_PROT_NONE] = page + PAGE;
    int fd = memfd_create("empty", 0); /* a file's mapping where the file has ended: another signal */
    bad[BAD_BEHIND_FILE] = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert(fd >= 0 && bad[BAD_BEHIND_FILE] != MAP_FAILED);
    close(fd);
}

static long get_flag(void *arg)
{
    (void)arg;
    return 1;
}

/* One bad pointer to every call that takes one. NULL means "none" where it is allowed. */
static void one_bad_pointer(int which, int fd)
{
    char *p = bad[which];
    struct kss_spawn_attr attr = { .name = p };
    long tid, pid;
    FAILS(kss_open(p, O_RDWR), EFAULT);
    FAILS(kss_read(fd, p, 64), EFAULT);
    FAILS(kss_write(fd, p, 64), EFAULT);
    if (which != BAD_NULL) {
        FAILS(kss_spawn(user, NULL, (struct kss_spawn_attr *)p), EFAULT);
        FAILS(kss_thread_create(user, NULL, (struct kss_spawn_attr *)p), EFAULT);
        FAILS(kss_spawn(user, NULL, &attr), EFAULT);
        FAILS(kss_thread_create(user, NULL, &attr), EFAULT);
        ck_assert_int_gt(tid = kss_thread_create(user, NULL, NULL), 0);
        FAILS(kss_thread_join(tid, (long *)p), EFAULT);
        ck_assert_int_eq(kss_thread_join(tid, NULL), 0); /* it is still there: nothing was reaped for it */
        ck_assert_int_gt(pid = kss_spawn(user, NULL, NULL), 0);
        FAILS(kss_wait(pid, (int *)p), EFAULT);
        ck_assert_int_eq(kss_wait(pid, NULL), pid);
    }
    FAILS(kss_wait(-1, NULL), ECHILD); /* whatever failed, no child is left */
    ck_assert_int_eq(kss_read(fd, p, 0), 0);
    ck_assert_int_eq(kss_write(fd, p, 0), 0);
    ck_assert_int_eq(in_kernel(get_flag, NULL), 1);
}

/* Half of it is there: exactly so many bytes are moved, and none behind. */
static void half_there(int fd)
{
    static const size_t there[] = { 1, 7, 8, 63, 64, 65, 1000, PAGE };
    for (size_t i = 0; i < sizeof there / sizeof there[0]; i++) {
        unsigned char *start = (unsigned char *)page + PAGE - there[i];
        memset(page, 0xee, PAGE);
        ck_assert_int_eq(kss_read(fd, start, there[i] + 1), (long)there[i]);
        for (size_t k = 0; k < there[i]; k++)
            ck_assert_uint_eq(start[k], pattern_at(k));
        for (unsigned char *p = (unsigned char *)page; p < start; p++)
            ck_assert_uint_eq(*p, 0xee);
        ck_assert_int_eq(kss_write(fd, start, there[i] + 100), (long)there[i]);
        ck_assert_int_eq(kss_write(fd, start, there[i]), (long)there[i]);
        FAILS_SAYING(kss_read(fd, start, SIZE_MAX), EINVAL, "bytes");
    }
    /* A status whose last byte is not there; an attribute of which half is. */
    long pid = kss_spawn(user, NULL, NULL);
    FAILS(kss_wait(pid, (int *)(page + PAGE - 3)), EFAULT);
    FAILS(kss_spawn(user, NULL, (struct kss_spawn_attr *)(page + PAGE - 16)), EFAULT);
    /* Strings up to the last byte, and one that has no end. */
    memset(page, 'x', PAGE);
    page[PAGE - 1] = '\0';
    FAILS_SAYING(kss_open(page + PAGE - 5, O_RDWR), ENOENT, "xxxx");
    FAILS(kss_open(page + PAGE - 1, O_RDWR), ENOENT); /* empty */
    page[PAGE - 1] = 'x';
    FAILS(kss_open(page + PAGE - 5, O_RDWR), EFAULT);
    FAILS(kss_open(page, O_RDWR), ENOENT); /* too long: an end need not be looked for */
}

static long kernel_copies(void *arg)
{
    char to[64], *end = page + PAGE;
    (void)arg;
    for (int i = 0; i < BAD_POINTERS; i++) {
        ck_assert_uint_eq(kss_copy_from_user(to, bad[i], 64), 64);
        ck_assert_uint_eq(kss_copy_to_user(bad[i], to, 64), 64);
        ck_assert_uint_eq(kss_copy_from_user(to, bad[i], 0), 0);
        ck_assert_uint_eq(kss_copy_to_user(bad[i], to, 0), 0);
        FAILS(kss_copy_string_from_user(to, bad[i], sizeof to), EFAULT);
    }
    for (int i = BAD_TASK_STACK; i <= BAD_GUARD_ABOVE; i++)
        ck_assert(!kss_access_ok(bad[i], 1));
    ck_assert(!kss_access_ok(bad[BAD_WRAP], 64));
    ck_assert(!kss_access_ok(page, SIZE_MAX));
    ck_assert(kss_access_ok(page, PAGE));
    ck_assert_uint_eq(kss_copy_from_user(to, end - 10, 64), 54);
    ck_assert_uint_eq(kss_copy_to_user(end - 10, to, 64), 54);
    memset(page, 'y', PAGE);
    FAILS(kss_copy_string_from_user(to, page, sizeof to), ENAMETOOLONG);
    ck_assert_uint_eq(strlen(to), sizeof to - 1);
    FAILS(kss_copy_string_from_user(to, end - 10, sizeof to), EFAULT);
    FAILS(kss_copy_string_from_user(to, page, 0), ENAMETOOLONG);
    end[-1] = '\0';
    ck_assert_int_eq(kss_copy_string_from_user(to, end - 10, sizeof to), 9);
    ck_assert_int_eq(mprotect(page, PAGE, PROT_READ), 0);
    ck_assert_uint_eq(kss_copy_to_user(page, to, 8), 8); /* read-only */
    ck_assert_uint_eq(kss_copy_from_user(to, page, 8), 0);
    ck_assert_int_eq(mprotect(page, PAGE, PROT_READ | PROT_WRITE), 0);
    return 0;
}

static long pointer_main(void *arg)
{
    (void)arg;
    make_bad_pointers();
    long fd = kss_open("device", O_RDWR);
    ck_assert_int_ge(fd, 0);
    for (int i = 0; i < BAD_POINTERS; i++)
        one_bad_pointer(i, (int)fd);
    half_there((int)fd);
    FAILS(kss_spawn(NULL, NULL, NULL), EFAULT);
    FAILS(kss_thread_create(NULL, NULL, NULL), EFAULT);
    ck_assert_int_eq(in_kernel(kernel_copies, NULL), 0);
    return 0;
}

START_TEST(bad_pointers)
{
    struct kss_config c = test_config();
    c.syscall_entry = _i ? KSS_SYSCALL_GATE : KSS_SYSCALL_TRAP;
    c.tick_hz = 2000;
    run_quietly(&c, &pattern_ops, pointer_main);
}
END_TEST

/* ---- files --------------------------------------------------------------------------------------------- */

static long file_main(void *arg)
{
    char byte = 0;
    (void)arg;
    FAILS_SAYING(kss_open("nothing", O_RDONLY), ENOENT, "nothing");
    FAILS(kss_open(NAME_40, O_RDONLY), ENOENT);
    FAILS_SAYING(kss_open("device", O_RDWR | O_CREAT), EINVAL, "flags");
    FAILS_SAYING(kss_open("device", 3), EINVAL, "flags");
    FAILS(kss_open("device", O_WRONLY), EACCES);
    static const int none[] = { -1, 0, 15, 16, 17, INT_MAX, INT_MIN };
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        FAILS(kss_read(none[i], &byte, 1), EBADF);
        FAILS(kss_write(none[i], &byte, 1), EBADF);
        FAILS(kss_close(none[i]), EBADF);
    }
    for (int round = 0; round < 3; round++) {
        int n = 0;
        long fd;
        while ((fd = kss_open("device", O_RDONLY)) >= 0)
            ck_assert_int_eq(fd, n++);
        FAILS_SAYING(kss_open("device", O_RDONLY), EMFILE, "16");
        ck_assert_int_eq(n, 16);
        FAILS(kss_write(3, &byte, 1), EBADF); /* open for reading */
        ck_assert_int_eq(kss_read(3, &byte, 1), 1);
        for (int i = 0; i < n; i++) {
            ck_assert_int_eq(kss_close(i), 0);
            FAILS(kss_close(i), EBADF);
        }
    }
    return 0;
}

START_TEST(files)
{
    struct kss_config c = test_config();
    run_quietly(&c, &pattern_ops, file_main);
}
END_TEST

static long mute_main(void *arg)
{
    char byte = 0;
    (void)arg;
    ck_assert_int_eq(kss_open("device", O_RDWR), 0);
    FAILS_SAYING(kss_read(0, &byte, 1), EINVAL, "device");
    FAILS_SAYING(kss_write(0, &byte, 1), EINVAL, "device");
    return 0;
}

START_TEST(device_that_can_nothing)
{
    static const struct kss_device_ops none;
    struct kss_config c = test_config();
    run_quietly(&c, &none, mute_main);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("errors_pointers");
    TCase *t = tcase_create("user");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, bad_pointers, 0, 2);
    tcase_add_test(t, files);
    tcase_add_test(t, device_that_can_nothing);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

/* SPDX-License-Identifier: MIT */
/*
 * With AddressSanitizer: it finds what is wrong on every stack of the machine, also after a switch away and back, and
 * finds nothing on stacks whose frames ended without a return.
 */
#define _GNU_SOURCE
#include "harness.h"

#include <sys/wait.h>
#include <unistd.h>

static struct kss_wait_queue queue;
static _Atomic bool go;
static char own_stack[65536] __attribute__((aligned(64)));

/* ---- what it must find ------------------------------------------------------------------------------- */

KEEP_FRAME static long write_past(volatile char *room, size_t n)
{
    room[n] = 1;
    return room[0];
}

KEEP_FRAME static long overflow(void *arg)
{
    volatile char room[40];
    room[0] = arg != NULL;
    return write_past(room, sizeof room);
}

KEEP_FRAME static long overflow_after_sleep(void *arg)
{
    volatile char room[40];
    room[0] = arg != NULL;
    kss_wait_event(&queue, go);
    return write_past(room, sizeof room);
}

static long in_user_mode(void *arg)
{
    return overflow(arg);
}

static long in_kernel_mode(void *arg)
{
    return in_kernel(overflow, arg);
}

static long in_interrupt(void *arg)
{
    return kss_software_interrupt(0x90, (long)arg);
}

static void on_interrupt(struct kss_trap_frame *tf, void *arg)
{
    (void)tf;
    overflow(arg);
}

static long sleeper(void *arg)
{
    return in_kernel(overflow_after_sleep, arg);
}

static long wake(void *arg)
{
    (void)arg;
    go = true;
    kss_wake_up(&queue, 0);
    return 0;
}

static long after_sleep(void *arg)
{
    kss_wait_queue_init(&queue, "asan");
    long pid = kss_spawn(sleeper, arg, NULL);
    test_wait_asleep(pid);
    in_kernel(wake, NULL);
    return kss_wait(pid, NULL) != pid;
}

static char *volatile block;

static long freed(void *arg)
{
    block = malloc(100);
    (void)arg;
    free(block);
    return block[50];
}

/* ---- what it must not find --------------------------------------------------------------------------- */

/* At the deepest frame, each with variables that are marked around, it ends: how 0 to 3. */
KEEP_FRAME static long end_deep(long how, int depth)
{
    volatile char room[64];
    room[0] = (char)depth;
    if (depth > 0)
        return end_deep(how, depth - 1) + room[0];
    if (how == 0)
        kss_exit(1);
    if (how == 1)
        kss_thread_exit(1);
    if (how == 2)
        *(volatile int *)16 = 1; /* killed, here or in kernel mode */
    return room[0];
}

static long end_deep_in_kernel(void *arg)
{
    return end_deep((long)arg, 20);
}

static long ends(void *arg)
{
    long how = (long)arg;
    return how & 4 ? in_kernel(end_deep_in_kernel, (void *)2L) : end_deep(how & 3, 40);
}

KEEP_FRAME static long walks(int depth)
{
    volatile char room[3000];
    memset((void *)room, depth, sizeof room);
    return depth > 0 ? walks(depth - 1) + room[1] : room[2999];
}

static long walks_in_kernel(void *arg)
{
    return walks((int)(long)arg);
}

static long walker(void *arg)
{
    (void)arg;
    walks(8);
    in_kernel(walks_in_kernel, (void *)3L);
    return 0;
}

static long dead_frames(void *arg)
{
    struct kss_spawn_attr own = { .user_stack = own_stack, .user_stack_size = sizeof own_stack };
    (void)arg;
    for (long i = 0; i < 200; i++) {
        kss_wait(kss_spawn(ends, (void *)(i % 5), i & 8 ? &own : NULL), NULL);
        kss_wait(kss_spawn(walker, NULL, i & 8 ? &own : NULL), NULL);
        memset(own_stack, 0, sizeof own_stack);
    }
    return 0;
}

/* ---- running it -------------------------------------------------------------------------------------- */

static const struct {
    kss_user_fn fn;
    const char *error, *function; /* NULL: none */
} rows[] = {
    { in_user_mode, "stack-buffer-overflow", "in overflow" },
    { in_kernel_mode, "stack-buffer-overflow", "in overflow" },
    { in_interrupt, "stack-buffer-overflow", "in overflow" },
    { after_sleep, "stack-buffer-overflow", "in overflow_after_sleep" },
    { freed, "heap-use-after-free", "in freed" },
    { dead_frames, NULL, NULL },
};

static int run_row(int i)
{
    struct kss_config c = test_config();
    struct kss_gate gate = { .handler = on_interrupt, .type = KSS_GATE_INTERRUPT, .privilege = KSS_PRIV_USER,
                             .stack = 3 };
    struct kss_machine *m = test_machine(&c);
    int status = -1;
    kss_vector_set(m, 0x90, &gate);
    int r = kss_machine_run(m, rows[i].fn, NULL, &status);
    kss_machine_destroy(m);
    return r < 0 || status != 0 ? 100 : 0;
}

START_TEST(finds_what_is_wrong)
{
    static char text[65536];
    size_t n = 0;
    int out[2], status = 0;
    ck_assert_int_eq(pipe(out), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(out[1], STDERR_FILENO);
        _exit(run_row(_i));
    }
    close(out[1]);
    for (ssize_t got = 1; got > 0 && n < sizeof text - 1; n += got > 0 ? (size_t)got : 0)
        got = read(out[0], text + n, sizeof text - 1 - n);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    if (rows[_i].error) {
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 1, "status %#x: %s", status, text);
        ck_assert_msg(strstr(text, rows[_i].error) && strstr(text, rows[_i].function), "%s", text);
    } else {
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0 && n == 0, "status %#x: %s", status, text);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_asan");
    TCase *t = tcase_create("asan");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, finds_what_is_wrong, 0, sizeof rows / sizeof rows[0]);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return KSS_TEST_ASAN ? test_main(suite) : 77; /* skipped: it is about that sanitizer */
}

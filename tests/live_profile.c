/* SPDX-License-Identifier: MIT */
/* The profile: folded stacks for flame graphs, and each function's depth. */
#include "harness.h"

#define REFUSED(call) \
    do { \
        ck_assert_int_eq(call, -EINVAL); \
        ck_assert_uint_gt(strlen(kss_last_error()), 0); \
    } while (0)

/* ---- stacks of all kinds ------------------------------------------------------------------------------------ */

#define SLEEPS 25
#define NAPS 3500 /* more different stacks than are kept */

KEEP_FRAME static long doze(void *arg)
{
    volatile char room[200];
    struct kss_waiter w = { 0 };
    room[0] = arg != NULL;
    static struct kss_wait_queue never;
    kss_wait_queue_init(&never, "never");
    kss_wait_prepare(&never, &w);
    kss_wake_up(&never, 1); /* woken before it sleeps: it goes through the motions only */
    kss_wait_sleep();
    kss_wait_finish(&w);
    return room[0];
}

KEEP_FRAME static long nap(unsigned path, unsigned left);

KEEP_FRAME static long nap_left(unsigned path, unsigned left)
{
    volatile long r = nap(path >> 1, left - 1);
    return r;
}

KEEP_FRAME static long nap_right(unsigned path, unsigned left)
{
    volatile long r = nap(path >> 1, left - 1);
    return r;
}

/* Each path through these is a stack of its own. */
KEEP_FRAME static long nap(unsigned path, unsigned left)
{
    volatile long r = !left ? in_kernel(doze, NULL) : path & 1 ? nap_left(path, left) : nap_right(path, left);
    return r;
}

static long folded_main(void *arg)
{
    unsigned naps = (unsigned)(long)arg;
    long r = 0;
    for (unsigned i = 0; i < SLEEPS; i++)
        r |= nap(0, 1);
    for (unsigned i = 0; i < naps; i++)
        r |= nap(i, 12);
    return r;
}

static struct kss_machine *count_stacks(unsigned naps)
{
    struct kss_config c = test_config();
    c.profile = true;
    c.check_switches = false;
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(test_run(m, folded_main, (void *)(long)naps), 0);
    return m;
}

/* The count behind the last blank of a line, and the sum of all. */
static unsigned long sum_of_counts(FILE *f, const char *looked_for, unsigned long *found)
{
    unsigned long sum = 0;
    char line[8192];
    *found = 0;
    rewind(f);
    while (fgets(line, sizeof line, f)) {
        char *blank = strrchr(line, ' ');
        ck_assert_ptr_nonnull(blank);
        unsigned long n = strtoul(blank + 1, NULL, 10);
        ck_assert_uint_gt(n, 0);
        sum += n;
        *blank = '\0';
        if (strstr(line, looked_for))
            *found += n;
    }
    return sum;
}

START_TEST(folded_stacks_cross_the_mode_switch) /* REQ K9 */
{
    struct kss_machine *m = count_stacks(0);
    unsigned long found;
    FILE *f = tmpfile();
    long samples = kss_profile_folded(m, f);
    ck_assert_int_ge(samples, SLEEPS);
    /* from user mode over the trap frame to the function in the kernel that sleeps */
    ck_assert_uint_eq(sum_of_counts(f, "kss_wait_sleep", &found), (unsigned long)samples);
    sum_of_counts(f, ";nap;nap_right;nap;in_kernel;kss_syscall;", &found);
    ck_assert_uint_ge(found, SLEEPS);
    sum_of_counts(f, ";[system call];kssi_trap;handle;kssi_syscall_dispatch;sys_kernel;doze;kss_wait_sleep",
                  &found);
    ck_assert_uint_ge(found, SLEEPS);
    sum_of_counts(f, "main;kssi_user_start;folded_main;nap;", &found);
    ck_assert_uint_ge(found, SLEEPS);
    fclose(f);
    kss_machine_destroy(m);
}
END_TEST

START_TEST(each_function_s_depth)
{
    struct kss_machine *m = count_stacks(0);
    static struct kss_function_depth d[512], few[3];
    const struct kss_function_depth *kernel = NULL, *trap = NULL;
    int n = kss_profile_functions(m, d, 512);
    ck_assert_int_gt(n, 8);
    ck_assert_int_lt(n, 512);
    for (int i = 0; i < n; i++) {
        if (i)
            ck_assert_uint_le(d[i].depth, d[i - 1].depth);
        if (strcmp(d[i].function, "doze") == 0)
            kernel = &d[i];
        if (strcmp(d[i].function, "[system call]") == 0)
            trap = &d[i];
    }
    ck_assert(kernel && trap);
    ck_assert_int_eq(trap->kind, KSS_FRAME_TRAP);
    ck_assert_int_eq(kernel->kind, KSS_FRAME_KERNEL);
    ck_assert_uint_ge(kernel->samples, SLEEPS);
    ck_assert_uint_ge(kernel->frame, 200);
    ck_assert_uint_ge(kernel->depth, trap->depth + kernel->frame);
    ck_assert_int_eq(kss_profile_functions(m, few, 3), n);
    ck_assert_int_eq(memcmp(few, d, sizeof few), 0);
    ck_assert_int_eq(kss_profile_functions(m, NULL, 0), n);
    REFUSED(kss_profile_functions(m, NULL, 1));
    REFUSED(kss_profile_functions(m, few, -1));
    REFUSED(kss_profile_folded(m, NULL));
    kss_machine_destroy(m);
}
END_TEST

/* What the table has no room for is counted, and nothing is lost of what it has. */
START_TEST(the_profile_is_bounded)
{
    struct kss_machine *m = count_stacks(NAPS);
    unsigned long found;
    FILE *f = tmpfile();
    long samples = kss_profile_folded(m, f);
    ck_assert_int_ge(samples, SLEEPS + NAPS);
    ck_assert_uint_eq(sum_of_counts(f, "[more stacks than the table holds]", &found), (unsigned long)samples);
    ck_assert_uint_gt(found, 0);
    fclose(f);
    kss_machine_destroy(m);
}
END_TEST

START_TEST(no_profile_when_off)
{
    struct kss_config c = test_config();
    struct kss_machine *m = test_machine(&c);
    static struct kss_function_depth d[1];
    ck_assert_int_eq(kss_profile_folded(m, stdout), -ENODATA);
    ck_assert_int_eq(kss_profile_functions(m, d, 1), -ENODATA);
    kss_machine_destroy(m);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_profile");
    TCase *c = tcase_create("live_profile");
    tcase_set_timeout(c, 120);
    suite_add_tcase(s, c);
    tcase_add_test(c, folded_stacks_cross_the_mode_switch);
    tcase_add_test(c, each_function_s_depth);
    tcase_add_test(c, the_profile_is_bounded);
    tcase_add_test(c, no_profile_when_off);
    return s;
}

int main(void)
{
    return test_main(suite);
}

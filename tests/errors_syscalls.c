/* SPDX-License-Identifier: MIT */
/* Bad numbers from user mode: joins, waits, attributes, the thread limit; and system calls from where
   there is no CPU. Nobody is killed by it. */
#define _GNU_SOURCE
#include "errors.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>

#define PAGE 4096
#define NAME_40 "a-name-of-forty-characters-that-is-cut--"

static long user(void *arg)
{
    return (long)arg;
}

static long look(void *arg)
{
    return kss_kstack_info(NULL, arg);
}

/* ---- joins and waits ------------------------------------------------------------------------------------ */

static volatile long foreign_tid, joined, main_tid;
static _Atomic bool go;

static long wait_for_go(void *arg)
{
    while (!go)
        kss_sleep(1000000);
    return (long)arg;
}

static long family_child(void *arg)
{
    (void)arg;
    foreign_tid = kss_thread_create(wait_for_go, NULL, NULL);
    while (!go)
        kss_sleep(1000000);
    return kss_thread_join(foreign_tid, NULL);
}

static long second_joiner(void *arg)
{
    (void)arg;
    FAILS(kss_thread_join(main_tid, NULL), ESRCH); /* a process's first thread */
    kss_sleep(5000000);                            /* the other joiner is there by now */
    FAILS_SAYING(kss_thread_join(joined, NULL), EINVAL, "joined");
    go = true;
    return 0;
}

static long family_main(void *arg)
{
    long value = 0;
    (void)arg;
    main_tid = kss_gettid();
    FAILS(kss_wait(-1, NULL), ECHILD);
    FAILS(kss_wait(1, NULL), ECHILD);
    FAILS(kss_wait(kss_getpid(), NULL), ECHILD);
    FAILS(kss_wait(0, NULL), ECHILD);
    FAILS(kss_wait(LONG_MIN, NULL), ECHILD);
    FAILS(kss_thread_join(kss_gettid(), NULL), EDEADLK);
    FAILS_SAYING(kss_thread_join(99999, NULL), ESRCH, "99999");
    FAILS(kss_thread_join(0, NULL), ESRCH);
    FAILS(kss_thread_join(-1, NULL), ESRCH);
    FAILS(kss_thread_join(kss_gettid() | 1L << 32, NULL), ESRCH);

    long child = kss_spawn(family_child, NULL, NULL);
    while (!foreign_tid)
        kss_sleep(1000000);
    FAILS(kss_thread_join(foreign_tid, NULL), ESRCH); /* another process's */
    FAILS(kss_thread_join(child, NULL), ESRCH);
    FAILS(kss_wait(child + 1000, NULL), ECHILD);
    FAILS(kss_wait(foreign_tid, NULL), ECHILD);

    joined = kss_thread_create(wait_for_go, (void *)77L, NULL);
    long second = kss_thread_create(second_joiner, NULL, NULL);
    ck_assert_int_eq(kss_thread_join(joined, &value), 0);
    ck_assert_int_eq(value, 77);
    FAILS(kss_thread_join(joined, &value), ESRCH);
    ck_assert_int_eq(kss_thread_join(second, NULL), 0);
    ck_assert_int_eq(kss_wait(child, NULL), child);
    FAILS(kss_wait(child, NULL), ECHILD);
    return 0;
}

START_TEST(joins_and_waits)
{
    struct kss_config c = test_config();
    c.tick_hz = 1000;
    run_quietly(&c, NULL, family_main);
}
END_TEST

/* ---- numbers --------------------------------------------------------------------------------------------- */

static long kernel_numbers(void *arg)
{
    struct kss_frame f[4];
    uint64_t value;
    const struct kss_trap_frame *tf;
    struct kss_kstack_info k;
    (void)arg;
    FAILS_SAYING(kss_irq_eoi(KSS_IRQ_LINES), EINVAL, "64");
    FAILS_SAYING(kss_irq_eoi(50), EINVAL, "50");
    FAILS(kss_vector_table_load(NULL), EINVAL);
    FAILS(kss_kstack_info(NULL, NULL), EINVAL);
    FAILS(kss_backtrace(NULL, NULL, 4), EINVAL);
    FAILS(kss_backtrace(NULL, f, -1), EINVAL);
    ck_assert_int_eq(kss_backtrace(NULL, NULL, 0), 0);
    FAILS(kss_kstack_draw(NULL, NULL, 10), EINVAL);
    ck_assert_int_gt(kss_kstack_draw(NULL, NULL, 0), 0);
    ck_assert_int_eq(kss_kstack_info(NULL, &k), 0);
    tf = (const struct kss_trap_frame *)k.user_frame;
    FAILS_SAYING(kss_trap_register(tf, 9999, &value), EINVAL, "9999");
    FAILS(kss_trap_register(tf, 0, NULL), EINVAL);
    ck_assert_int_eq(kss_trap_argument(tf, 6), 0);
    ck_assert_ptr_null(kss_cpu_running(-1));
    ck_assert_ptr_null(kss_cpu_running(1));
    ck_assert_ptr_null(kss_sched_cpu_data(1));
    ck_assert_uint_eq(kss_dsq_length(12345), 0);
    ck_assert_ptr_null(kss_dsq_first(12345));
    kss_kick_cpu(-1, KSS_KICK_PREEMPT);
    kss_kick_cpu(1, KSS_KICK_PREEMPT);
    FAILS(kss_thread_find(kss_machine_current(), 99999) ? 0 : -ESRCH, ESRCH);
    return 0;
}

static long number_main(void *arg)
{
    static const long numbers[] = { -1, LONG_MIN, LONG_MAX, KSS_SYSCALLS, KSS_SYSCALLS - 1, KSS_SYS_EXPERIMENT + 1,
                                    KSS_SYS_GETAFFINITY + 1, 1L << 32 };
    (void)arg;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        FAILS(kss_syscall(numbers[i], 0, 0, 0, 0, 0, 0), ENOSYS);
    FAILS(kss_syscall(KSS_SYS_EXPERIMENT - 1, 0, 0, 0, 0, 0, 0), EPERM); /* pid 1's */
    FAILS(kss_setpriority(0, 0), EINVAL);
    FAILS_SAYING(kss_setpriority(0, 100), EINVAL, "100");
    FAILS(kss_setpriority(0, INT_MIN), EINVAL);
    FAILS_SAYING(kss_setpriority(99999, 50), ESRCH, "99999");
    FAILS(kss_getpriority(99999), ESRCH);
    FAILS(kss_getpriority(-1), ESRCH);
    FAILS(kss_getpriority(1L << 40), ESRCH);
    ck_assert_int_eq(kss_nice(INT_MAX), KSS_PRIO_MAX);
    ck_assert_int_eq(kss_nice(INT_MIN), KSS_PRIO_MIN);
    static const unsigned vectors[] = { 3, 4, 0x80, 256, UINT_MAX };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
        FAILS(kss_software_interrupt(vectors[i], 0), EINVAL);
    FAILS(kss_placement_start(KSS_IRQ_LINES, 1), EINVAL);
    FAILS(kss_placement_start(40, 0), EINVAL);
    FAILS(kss_placement_stop(NULL), EINVAL);
    ck_assert_int_eq(kss_sleep(0), 0);
    return in_kernel(kernel_numbers, NULL);
}

START_TEST(numbers)
{
    struct kss_config c = test_config();
    run_quietly(&c, NULL, number_main);
}
END_TEST

/* ---- attributes ------------------------------------------------------------------------------------------- */

static char own_stack[65536] __attribute__((aligned(64)));
static char own_name[64];

static long name_of(void *arg)
{
    strcpy(arg, kss_thread_name(kss_current()));
    return 0;
}

static long attr_child(void *arg)
{
    volatile char here = 1;
    in_kernel(name_of, own_name);
    return here && (char *)&here >= own_stack && (char *)&here < own_stack + sizeof own_stack ? (long)arg : 1;
}

static void bad_attributes(void)
{
    struct kss_kstack_info k;
    ck_assert_int_eq(in_kernel(look, &k), 0);
    const struct {
        struct kss_spawn_attr attr;
        const char *word;
    } cases[] = {
        { { .priority = -1 }, "priority -1" },
        { { .priority = 100 }, "priority 100" },
        { { .kstack_size = 1 }, "kstack_size 1" },
        { { .kstack_size = 4096 * 3 }, "kstack_size 12288" },
        { { .kstack_size = kss_kstack_min_size() / 2 }, "kstack_size" },
        { { .kstack_size = 131072 }, "131072" },
        { { .kstack_size = SIZE_MAX }, "kstack_size" },
        { { .user_stack_size = 4095 }, "user_stack_size 4095" },
        { { .user_stack_size = SIZE_MAX & ~4095ul }, "user_stack_size" },
        { { .user_stack_size = (1ul << 30) + 4096 }, "user_stack_size" },
        { { .user_stack = own_stack }, "user stack of 0" },
        { { .user_stack = own_stack, .user_stack_size = 4095 }, "4095" },
        { { .user_stack = own_stack, .user_stack_size = SIZE_MAX }, "user stack" },
        { { .user_stack = (char *)k.low, .user_stack_size = k.size }, "user stack" },
        { { .user_stack = (char *)k.low - 4096, .user_stack_size = 8192 }, "user stack" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        FAILS_SAYING(kss_spawn(user, NULL, &cases[i].attr), EINVAL, cases[i].word);
        FAILS_SAYING(kss_thread_create(user, NULL, &cases[i].attr), EINVAL, cases[i].word);
    }
    FAILS(kss_wait(-1, NULL), ECHILD);
}

static long attr_main(void *arg)
{
    struct kss_spawn_attr a = { .user_stack = own_stack, .user_stack_size = sizeof own_stack, .name = NAME_40 };
    int status = -1;
    (void)arg;
    bad_attributes();
    long pid = kss_spawn(attr_child, (void *)5L, &a);
    ck_assert_int_eq(kss_wait(pid, &status), pid);
    ck_assert_int_eq(KSS_WEXITSTATUS(status), 5);
    ck_assert_uint_eq(strlen(own_name), KSS_NAME_MAX - 1); /* cut */
    ck_assert_int_eq(strncmp(own_name, NAME_40, KSS_NAME_MAX - 1), 0);
    /* Sizes of many kinds: at some point no more are there, and that is an error like any other. */
    int refused = 0;
    for (size_t pages = 4; pages < 40; pages++) {
        struct kss_spawn_attr size = { .user_stack_size = pages * PAGE };
        pid = RESULT_OF(kss_spawn(user, NULL, &size));
        if (pid < 0) {
            ck_assert_int_eq(pid, -EAGAIN);
            ck_assert_ptr_nonnull(strstr(kss_last_error(), "user stack"));
            refused++;
        } else {
            ck_assert_int_eq(kss_wait(pid, NULL), pid);
        }
    }
    ck_assert_int_lt(refused, 36);
    return kss_wait(kss_spawn(user, NULL, NULL), NULL) < 0;
}

START_TEST(attributes)
{
    struct kss_config c = test_config();
    run_quietly(&c, NULL, attr_main);
}
END_TEST

/* ---- as many threads as there may be ------------------------------------------------------------------------ */

#define LIMIT 12

static struct kss_machine_stats stats_now(void)
{
    struct kss_machine_stats s;
    ck_assert_int_eq(kss_machine_stats(kss_machine_current(), &s), 0);
    return s;
}

static void fill_up(bool threads)
{
    long id[LIMIT];
    int n = 0, status = -1;
    go = false;
    while ((id[n] = threads ? kss_thread_create(wait_for_go, (void *)9L, NULL)
                            : kss_spawn(wait_for_go, (void *)9L, NULL)) > 0)
        n++;
    ck_assert_int_eq(n, LIMIT - 2); /* pid 1, and the caller */
    for (int i = 0; i < 5; i++) {
        FAILS_SAYING(kss_spawn(user, NULL, NULL), EAGAIN, "max_threads");
        FAILS_SAYING(kss_thread_create(user, NULL, NULL), EAGAIN, "12");
    }
    ck_assert_uint_eq(stats_now().threads_live, LIMIT);
    go = true;
    for (int i = 0; i < n; i++) {
        long value = 0;
        if (threads) {
            ck_assert_int_eq(kss_thread_join(id[i], &value), 0);
        } else {
            ck_assert_int_eq(kss_wait(id[i], &status), id[i]);
            value = KSS_WEXITSTATUS(status);
        }
        ck_assert_int_eq(value, 9);
    }
}

static long limit_main(void *arg)
{
    struct kss_machine_stats first = { .kstack_bytes = 0 }, s;
    (void)arg;
    for (int round = 0; round < 20; round++) {
        fill_up(round & 1);
        s = stats_now();
        if (round == 1)
            first = s;
        ck_assert_uint_eq(s.threads_live, 2);
        ck_assert_uint_eq(s.zombies, 0);
        ck_assert_uint_eq(s.zombie_stacks, 0);
        ck_assert_uint_eq(s.threads_created, s.threads_reaped + 2);
        if (round > 1) {
            ck_assert_uint_eq(s.kstacks_live, first.kstacks_live);
            ck_assert_uint_eq(s.kstack_bytes, first.kstack_bytes);
            ck_assert_uint_eq(s.kstack_arena_bytes, first.kstack_arena_bytes);
        }
    }
    return 0;
}

START_TEST(thread_limit)
{
    struct kss_config c = test_config();
    c.max_threads = LIMIT;
    c.kstack_cache = _i ? 64 : 2;
    c.kstack_alloc = _i == 2 ? KSS_KSTACK_AT_FIRST_ENTRY : KSS_KSTACK_AT_CREATE;
    c.tick_hz = 2000;
    run_quietly(&c, NULL, limit_main);
}
END_TEST

/* ---- on a host thread ----------------------------------------------------------------------------------------- */

START_TEST(from_the_host)
{
    static struct kss_vector_table table;
    struct kss_kstack_info k;
    struct kss_frame f[4];
    struct kss_placement placement;
    char byte[8] = "";
    long value;
    int status;
    FAILS(kss_getpid(), EPERM);
    FAILS(kss_gettid(), EPERM);
    FAILS(kss_getppid(), EPERM);
    FAILS(kss_yield(), EPERM);
    FAILS(kss_spawn(user, NULL, NULL), EPERM);
    FAILS(kss_thread_create(user, NULL, NULL), EPERM);
    FAILS(kss_thread_join(1, &value), EPERM);
    FAILS(kss_wait(-1, &status), EPERM);
    FAILS(kss_sleep(1), EPERM);
    FAILS(kss_nice(1), EPERM);
    FAILS(kss_setpriority(0, 1), EPERM);
    FAILS(kss_getpriority(0), EPERM);
    FAILS(kss_open("console", O_RDONLY), EPERM);
    FAILS(kss_close(0), EPERM);
    FAILS(kss_read(0, byte, 1), EPERM);
    FAILS(kss_write(1, byte, 1), EPERM);
    FAILS(kss_clock(), EPERM);
    FAILS(kss_syscall(KSS_SYS_GETPID, 0, 0, 0, 0, 0, 0), EPERM);
    FAILS(kss_trace_mark(1, 2), EPERM);
    FAILS(kss_software_interrupt(0x90, 0), EPERM);
    FAILS(kss_vector_table_load(&table), EPERM);
    FAILS(kss_kstack_info(NULL, &k), EPERM);
    FAILS(kss_backtrace(NULL, f, 4), EPERM);
    FAILS(kss_kstack_draw(NULL, byte, sizeof byte), EPERM);
    FAILS(kss_irq_eoi(40), EPERM);
    FAILS(kss_placement_start(40, 1), EINVAL);
    FAILS(kss_placement_stop(&placement), EINVAL);
    ck_assert_ptr_null(kss_vector_table());
    ck_assert_ptr_null(kss_current());
    ck_assert_ptr_null(kss_machine_current());
    ck_assert_ptr_null(kss_cpu_running(0));
    ck_assert_ptr_null(kss_sched_cpu_data(0));
    ck_assert_ptr_null(kss_dsq_first(1));
    ck_assert_uint_eq(kss_dsq_length(1), 0);
    ck_assert_uint_eq(kss_sched_clock(), 0);
    ck_assert_int_eq(kss_cpu_count(), 0);
    ck_assert(!kss_dsq_move_to_local(1));
    ck_assert(!kss_irqs_enabled() && !kss_in_irq() && !kss_irq_save() && !kss_wait_killed());
    ck_assert_int_eq(kss_preempt_count(), 0);
    ck_assert(!kss_access_ok(byte, 1));
    ck_assert_uint_eq(kss_copy_from_user(byte, byte, 4), 4);
    ck_assert_uint_eq(kss_copy_to_user(byte, byte, 4), 4);
    FAILS(kss_copy_string_from_user(byte, "abc", sizeof byte), EFAULT);
    kss_irq_disable(); /* nothing happens */
    kss_irq_enable();
    kss_irq_restore(true);
    kss_preempt_disable();
    kss_preempt_enable();
    kss_reschedule();
    kss_kick_cpu(0, KSS_KICK_IDLE);
    kss_wait_sleep();
}
END_TEST

START_TEST(no_return)
{
    if (_i)
        kss_thread_exit(0);
    kss_exit(0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("errors_syscalls");
    TCase *t = tcase_create("user");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, joins_and_waits);
    tcase_add_test(t, numbers);
    tcase_add_test(t, attributes);
    tcase_add_loop_test(t, thread_limit, 0, 3);
    suite_add_tcase(s, t);
    t = tcase_create("host");
    tcase_add_test(t, from_the_host);
    tcase_add_loop_test_raise_signal(t, no_return, SIGABRT, 0, 2);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

/* SPDX-License-Identifier: MIT */
#include "harness.h"

struct kss_report reports[REPORTS];
int report_count;

static void on_report(const struct kss_report *r, void *arg)
{
    (void)arg;
    if (report_count < REPORTS)
        reports[report_count] = *r;
    report_count++;
}

struct kss_config test_config(void)
{
    struct kss_config c;
    kss_config_init(&c);
    c.check_switches = true;
    c.on_report = on_report;
    const char *entry = getenv("KSS_TEST_ENTRY");
    if (entry && strcmp(entry, "gate") == 0)
        c.syscall_entry = KSS_SYSCALL_GATE;
    c.lock_order = getenv("KSS_TEST_LOCK_ORDER") != NULL;
    const char *cpus = getenv("KSS_TEST_CPUS");
    if (cpus)
        c.cpus = (unsigned)strtoul(cpus, NULL, 10);
    return c;
}

static long sys_kernel(const struct kss_syscall_args *a)
{
    long (*fn)(void *) = (long (*)(void *))a->a[0];
    return fn((void *)a->a[1]);
}

long in_kernel(long (*fn)(void *arg), void *arg)
{
    return kss_syscall(SYS_KERNEL, (long)fn, (long)arg, 0, 0, 0, 0);
}

static long is_asleep(void *arg)
{
    static struct kss_thread_info_snapshot s[512];
    int n = kss_threads(kss_machine_current(), s, 512);
    for (int i = 0; i < n && i < 512; i++)
        if (s[i].tid == (int)(long)arg)
            return s[i].state == KSS_THREAD_SLEEPING && s[i].wait_channel && s[i].kstack_depth;
    return 0;
}

void test_wait_asleep(long tid)
{
    while (in_kernel(is_asleep, (void *)tid) != 1)
        kss_sleep(1);
}

/* KSS_TEST_LOCK_ORDER: no test but those of the checker itself may make it speak. */
static void assert_lock_order(void)
{
    static char text[8192];
    for (int i = 0; getenv("KSS_TEST_LOCK_ORDER") && i < report_count && i < REPORTS; i++) {
        if (reports[i].kind != KSS_REPORT_LOCK_ORDER)
            continue;
        kss_report_format(&reports[i], text, sizeof text);
        ck_abort_msg("the order of locks:\n%s", text);
    }
}

bool test_can_protect(void)
{
    struct kss_config c = test_config();
    struct kss_machine *m = NULL;
    c.syscall_entry = KSS_SYSCALL_TRAP;
    c.protect = KSS_PROTECT_MPROTECT;
    c.cpus = 1; /* mprotect closes them for the whole process */
    int r = kss_machine_create(&m, &c);
    ck_assert_msg(r == 0 || (r == -ENOTSUP && strstr(kss_last_error(), "MADV_GUARD_INSTALL")), "%d: %s", r,
                  kss_last_error());
    kss_machine_destroy(m);
    return r == 0;
}

void test_stress(struct kss_config *config)
{
    const char *wanted = getenv("KSS_TEST_CPUS");
    struct kss_machine *m = NULL;
    config->cpus = wanted ? (unsigned)strtoul(wanted, NULL, 10) : 1;
    if (kss_machine_create(&m, config) < 0)
        config->cpus = 1;
    kss_machine_destroy(m);
    config->tick_hz = config->cpus <= 2 ? 10000 : 20000 / config->cpus < 100 ? 100 : 20000 / config->cpus;
}

struct kss_machine *test_machine(const struct kss_config *config)
{
    struct kss_machine *m = NULL;
    struct kss_config c = *config;
    if (getenv("KSS_TEST_PROTECT") && c.syscall_entry == KSS_SYSCALL_TRAP) /* all tests with kernel stacks closed */
        c.protect = KSS_PROTECT_AUTO;
    if (c.protect != KSS_PROTECT_OFF)
        c.cpus = 1;
    int r = kss_machine_create(&m, &c);
    ck_assert_msg(r == 0, "create: %d: %s", r, kss_last_error());
    r = kss_syscall_register(m, SYS_KERNEL, sys_kernel, "kernel");
    ck_assert_msg(r == 0, "register: %d: %s", r, kss_last_error());
    return m;
}

int test_run(struct kss_machine *m, kss_user_fn fn, void *arg)
{
    int status = -1;
    int r = kss_machine_run(m, fn, arg, &status);
    if (r != 0 && report_count) {
        static char text[8192];
        kss_report_format(&reports[report_count <= REPORTS ? report_count - 1 : REPORTS - 1], text, sizeof text);
        ck_abort_msg("run: %d: %s\n%s", r, kss_last_error(), text);
    }
    ck_assert_msg(r == 0, "run: %d: %s", r, kss_last_error());
    assert_lock_order();
    r = kss_check(m);
    ck_assert_msg(r == 0, "check: %s", kss_last_error());
    return status;
}

int test_boot(const struct kss_config *config, kss_user_fn fn, void *arg)
{
    struct kss_machine *m = test_machine(config);
    int status = test_run(m, fn, arg);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
    return status;
}

bool test_on_kernel_stack(uintptr_t address)
{
    struct kss_thread *whose = NULL;
    return kss_stack_find(kss_machine_current(), address, &whose) == KSS_STACK_TASK && whose == kss_current();
}

int test_main(Suite *(*suite)(void))
{
    SRunner *r = srunner_create(suite());
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

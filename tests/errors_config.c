/* SPDX-License-Identifier: MIT */
/* Every field of the configuration out of its range, and at its edges; and a thousand machines one after
   the other, good and refused ones, that leave nothing behind. */
#define _GNU_SOURCE
#include "errors.h"

#include <fcntl.h>
#include <limits.h>
#include <malloc.h>
#include <sys/resource.h>

static long user(void *arg)
{
    return (long)arg;
}

/* ---- the configuration ------------------------------------------------------------------------------ */

#define FIELD(f) #f, offsetof(struct kss_config, f), sizeof(((struct kss_config *)0)->f)
static const struct bad_field {
    const char *name;
    size_t offset, size;
    uint64_t value;
} bad_fields[] = {
    { FIELD(struct_size), 0 },
    { FIELD(struct_size), 8 },
    { FIELD(cpus), 0 },
    { FIELD(cpus), 257 },
    { FIELD(cpus), UINT_MAX },
    { FIELD(tick_hz), 0 },
    { FIELD(tick_hz), 20001 },
    { FIELD(tick_hz), 1000000 },
    { FIELD(max_threads), 0 },
    { FIELD(max_threads), 3 },
    { FIELD(max_threads), 1048577 },
    { FIELD(kstack_size), 0 },
    { FIELD(kstack_size), 1 },
    { FIELD(kstack_size), 1024 },
    { FIELD(kstack_size), 30000 },
    { FIELD(kstack_size), 32767 },
    { FIELD(kstack_size), 128u << 20 },
    { FIELD(kstack_size), 1ull << 46 },
    { FIELD(kstack_size), 1ull << 63 },
    { FIELD(kstack_max), 0 },
    { FIELD(kstack_max), 65535 },
    { FIELD(kstack_max), 128u << 20 },
    { FIELD(user_stack_size), 0 },
    { FIELD(user_stack_size), 4096 },
    { FIELD(user_stack_size), 262145 },
    { FIELD(user_stack_size), (1ull << 30) + 4096 },
    { FIELD(guards), 3 },
    { FIELD(kstack_alloc), 2 },
    { FIELD(zombie_stacks), 2 },
    { FIELD(irq_stacks), 2 },
    { FIELD(kstack_cache), 65537 },
    { FIELD(syscall_entry), 2 },
    { FIELD(timeslice_ns), 10000000001ull },
    { FIELD(timeslice_ns), UINT64_MAX },
    { FIELD(trace_events), 0 },
    { FIELD(trace_events), 32 },
    { FIELD(trace_events), 100 },
    { FIELD(trace_events), 1u << 25 },
};

static struct kss_config with_field(const struct bad_field *f)
{
    struct kss_config c = test_config();
    memcpy((char *)&c + f->offset, &f->value, f->size); /* little-endian */
    return c;
}

START_TEST(config_field)
{
    const struct bad_field *f = &bad_fields[_i];
    struct kss_config c = with_field(f);
    struct kss_machine *m = (struct kss_machine *)&c;
    char value[32];
    snprintf(value, sizeof value, "%llu", (unsigned long long)f->value);
    FAILS_SAYING(kss_machine_create(&m, &c), EINVAL, f->name);
    ck_assert_msg(strstr(kss_last_error(), value) != NULL, "\"%s\" does not say %s", kss_last_error(), value);
    ck_assert_ptr_null(m);
}
END_TEST

START_TEST(config_pointers)
{
    struct kss_config c = test_config();
    struct kss_sched_class bad = { .abi_size = sizeof bad, .name = NULL };
    struct kss_machine *m;
    FAILS_SAYING(kss_machine_create(&m, NULL), EINVAL, "config");
    c.sched = NULL;
    FAILS_SAYING(kss_machine_create(&m, &c), EINVAL, "sched");
    c.sched = &bad;
    FAILS_SAYING(kss_machine_create(&m, &c), EINVAL, "name");
    bad.name = "bad";
    bad.abi_size = 8;
    FAILS_SAYING(kss_machine_create(&m, &c), EINVAL, "abi_size");
    bad.abi_size = sizeof bad;
    bad.thread_data_size = SIZE_MAX;
    FAILS_SAYING(kss_machine_create(&m, &c), EINVAL, "bad");
    bad.thread_data_size = 0;
    bad.cpu_data_size = (1u << 20) + 1;
    FAILS_SAYING(kss_machine_create(&m, &c), EINVAL, "bad");
}
END_TEST

static int refuse_machine(struct kss_machine *m)
{
    (void)m;
    return -ENODEV;
}

static int refuse_thread(struct kss_thread *t)
{
    (void)t;
    return -ENOSPC;
}

START_TEST(class_that_refuses)
{
    struct kss_config c = test_config();
    struct kss_sched_class class = kss_sched_rr;
    c.sched = &class;
    class.name = "refuser";
    class.init = refuse_machine;
    struct kss_machine *m = test_machine(&c);
    FAILS_SAYING(kss_machine_run(m, user, NULL, NULL), ENODEV, "refuser");
    ck_assert_int_eq(kss_machine_destroy(m), 0);
    class.init = NULL;
    class.init_thread = refuse_thread;
    m = test_machine(&c);
    FAILS_SAYING(kss_machine_run(m, user, NULL, NULL), ENOSPC, "refuses");
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

/* The edges that are allowed, and that the machine still runs there. */
START_TEST(config_edges)
{
    static const struct bad_field good[] = {
        { FIELD(tick_hz), 1 },
        { FIELD(tick_hz), 20000 },
        { FIELD(max_threads), 4 },
        { FIELD(kstack_cache), 0 },
        { FIELD(kstack_cache), 65536 },
        { FIELD(timeslice_ns), 0 },
        { FIELD(timeslice_ns), 10000000000ull },
        { FIELD(user_stack_size), 16384 },
        { FIELD(user_stack_size), 1u << 30 },
        { FIELD(trace_events), 64 },
        { FIELD(kstack_max), 32768 },
        { FIELD(kstack_max), 1u << 20 },
        { FIELD(seed), UINT64_MAX },
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct kss_config c = with_field(&good[i]);
        if (c.user_stack_size == 1u << 30)
            c.max_threads = 16; /* address space */
        ck_assert_int_eq(test_boot(&c, user, (void *)3L), 3 << 8);
    }
}
END_TEST

START_TEST(another_mask)
{
    struct kss_config c = test_config();
    struct kss_machine *m = test_machine(&c), *other;
    c.kstack_max = 262144;
    FAILS_SAYING(kss_machine_create(&other, &c), EBUSY, "kstack_max");
    ck_assert_int_eq(kss_machine_destroy(m), 0);
    ck_assert_int_eq(test_boot(&c, user, NULL), 0);
}
END_TEST

/* ---- a host that has no more to give ------------------------------------------------------------------ */

static void limit(int resource, rlim_t soft, struct rlimit *old)
{
    ck_assert_int_eq(getrlimit(resource, old), 0);
    struct rlimit now = { soft < old->rlim_max ? soft : old->rlim_max, old->rlim_max };
    ck_assert_int_eq(setrlimit(resource, &now), 0);
}

/* With more and more address space, until a machine runs: each failure has its sentence. */
START_TEST(little_address_space)
{
    struct kss_config c = test_config();
    struct kss_machine *m;
    struct rlimit old;
    int failed = 0, done = 0;
    ck_assert_int_eq(test_boot(&c, user, NULL), 0);
    for (rlim_t space = 16ul << 20; !done && space < 1ul << 42; space += space / 4) {
        limit(RLIMIT_AS, space, &old);
        long r = RESULT_OF(kss_machine_create(&m, &c));
        bool created = r == 0;
        int status = -1;
        if (created)
            r = RESULT_OF(kss_machine_run(m, user, (void *)4L, &status));
        ck_assert_int_eq(setrlimit(RLIMIT_AS, &old), 0);
        ck_assert_msg(r == 0 || r == -ENOMEM || r == -EAGAIN, "%ld with %lu bytes: %s", r, (unsigned long)space,
                      kss_last_error());
        ck_assert_msg(r == 0 || kss_last_error()[0], "%ld with %lu bytes, no sentence", r, (unsigned long)space);
        failed += r != 0;
        if (created)
            ck_assert_int_eq(kss_machine_destroy(m), 0);
        done = r == 0;
    }
    ck_assert(failed > 0 && done);
    ck_assert_int_eq(test_boot(&c, user, (void *)6L), 6 << 8);
}
END_TEST

START_TEST(no_timers)
{
    struct kss_config c = test_config();
    struct kss_machine *m = test_machine(&c);
    struct rlimit old;
    limit(RLIMIT_SIGPENDING, 0, &old); /* each POSIX timer holds one */
    long r = RESULT_OF(kss_machine_run(m, user, NULL, NULL));
    ck_assert_int_eq(setrlimit(RLIMIT_SIGPENDING, &old), 0);
    ck_assert_msg(r == -EAGAIN, "%ld: %s", r, kss_last_error());
    ck_assert_ptr_nonnull(strstr(kss_last_error(), "timer"));
    ck_assert_int_eq(kss_machine_destroy(m), 0);
    ck_assert_int_eq(test_boot(&c, user, NULL), 0);
}
END_TEST

/* ---- a thousand machines ------------------------------------------------------------------------------- */

static int mappings(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    int n = 0, c;
    ck_assert_ptr_nonnull(maps);
    while ((c = getc(maps)) != EOF)
        n += c == '\n';
    fclose(maps);
    return n;
}

static int descriptors(void)
{
    int n = 0;
    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static long boot_main(void *arg)
{
    int status = -1;
    long pid = kss_spawn(user, arg, NULL);
    return kss_wait(pid, &status) == pid ? KSS_WEXITSTATUS(status) : 255;
}

static void one_machine(int i)
{
    struct kss_config c = test_config();
    struct kss_console_config console = { -1, -1, false };
    c.check_switches = false;
    c.max_threads = 64;
    c.tick_hz = 1000;
    c.latency = i % 3 == 0;
    c.kstack_alloc = i % 2 ? KSS_KSTACK_AT_FIRST_ENTRY : KSS_KSTACK_AT_CREATE;
    c.irq_stacks = i % 5 ? KSS_IRQ_STACKS_NONE : KSS_IRQ_STACKS_PER_CPU;
    struct kss_machine *m = test_machine(&c);
    if (i % 4 == 0)
        ck_assert_int_eq(kss_console_attach(m, &console), 0);
    if (i % 7) /* and some are never run */
        ck_assert_int_eq(test_run(m, boot_main, (void *)(long)(i & 127)), (i & 127) << 8);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
    c = with_field(&bad_fields[(size_t)i % (sizeof bad_fields / sizeof bad_fields[0])]);
    ck_assert_int_eq(kss_machine_create(&m, &c), -EINVAL);
}

START_TEST(a_thousand_machines)
{
    for (int i = 0; i < 100; i++)
        one_machine(i);
    int maps = mappings(), fds = descriptors();
    size_t heap = mallinfo2().uordblks;
    for (int i = 0; i < 1000; i++)
        one_machine(i);
    size_t grown = mallinfo2().uordblks;
    ck_assert_int_eq(descriptors(), fds);
    /* AddressSanitizer maps its shadow of large blocks anew, piece by piece. */
    ck_assert_msg(KSS_TEST_ASAN || mappings() <= maps + 8, "%d mappings, then %d", maps, mappings());
    ck_assert_msg(grown < heap + 16384, "%zu bytes of heap, then %zu", heap, grown);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("errors_config");
    TCase *t = tcase_create("config");
    tcase_set_timeout(t, 240);
    tcase_add_loop_test(t, config_field, 0, sizeof bad_fields / sizeof bad_fields[0]);
    tcase_add_test(t, config_pointers);
    tcase_add_test(t, class_that_refuses);
    tcase_add_test(t, config_edges);
    tcase_add_test(t, another_mask);
    if (!KSS_TEST_ASAN) /* it needs terabytes of address space, and gives up without */
        tcase_add_test(t, little_address_space);
    tcase_add_test(t, no_timers);
    tcase_add_test(t, a_thousand_machines);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

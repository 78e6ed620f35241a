/* SPDX-License-Identifier: MIT */
/*
 * How machines with many CPUs end: hundreds of boots and halts with nothing left behind, stopped from outside at any
 * moment, stopped by a fault of one CPU while others are wherever they are. And what a dump says of each CPU.
 */
#define _GNU_SOURCE
#include "harness.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

static _Atomic bool over;
static _Atomic unsigned ready;

static unsigned entries(const char *folder)
{
    DIR *d = opendir(folder);
    unsigned n = 0;
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

static unsigned lines_of(const char *file)
{
    char line[512];
    unsigned n = 0;
    FILE *f = fopen(file, "r");
    while (f && fgets(line, sizeof line, f))
        n++;
    if (f)
        fclose(f);
    return n;
}

/* ---- boot and halt ------------------------------------------------------------------------------------------- */

static long brief(void *arg)
{
    return (long)arg;
}

static long brief_main(void *arg)
{
    int status;
    for (long i = 0; i < 4; i++)
        kss_spawn(brief, (void *)i, NULL);
    while (kss_wait(-1, &status) > 0)
        ;
    return (long)arg;
}

START_TEST(boots_and_halts)
{
    struct kss_config c = test_config();
    unsigned mappings = 0, fds = 0, tasks = 0;
    c.cpus = _i ? 4 : 2;
    c.max_threads = 64;
    for (int i = 0; i < 200; i++) {
        ck_assert_int_eq(KSS_WEXITSTATUS(test_boot(&c, brief_main, (void *)(long)(i % 100))), i % 100);
        if (i == 20) { /* what is made once is there, also libc's memory for so many threads */
            mappings = lines_of("/proc/self/maps");
            fds = entries("/proc/self/fd");
            tasks = entries("/proc/self/task");
        }
    }
    ck_assert_uint_le(lines_of("/proc/self/maps"), mappings + (KSS_TEST_ASAN ? 200 : 8)); /* libc may open one more arena, or two */
    ck_assert_uint_eq(entries("/proc/self/fd"), fds);
    ck_assert_uint_eq(entries("/proc/self/task"), tasks);
    ck_assert_int_eq(report_count, 0);
}
END_TEST

/* ---- stopped from outside ------------------------------------------------------------------------------------- */

static struct kss_wait_queue queue;
static struct kss_spinlock lock;

static long kernel_work(void *arg)
{
    uint64_t n = (uint64_t)(long)arg;
    bool on;
    switch (n % 5) {
    case 0:
        on = kss_spin_lock(&lock);
        for (int i = 0; i < 3000; i++)
            __asm__ volatile("");
        kss_spin_unlock(&lock, on);
        break;
    case 1:
        kss_wake_up(&queue, 0);
        break;
    case 2:
        kss_wait_event_killable(&queue, n % 3 == 0);
        break;
    case 3:
        on = kss_irq_save();
        for (int i = 0; i < 3000; i++)
            __asm__ volatile("");
        kss_irq_restore(on);
        break;
    case 4:
        kss_reschedule();
        break;
    }
    return 0;
}

__attribute__((noreturn)) static long busy(void *arg)
{
    for (uint64_t n = (uint64_t)(long)arg;; n += 7) {
        in_kernel(kernel_work, (void *)(n & 0xffff));
        if (n % 11 == 0) {
            long pid = kss_spawn(brief, NULL, NULL);
            if (pid > 0)
                kss_wait(pid, NULL);
        }
        if (n % 13 == 0)
            free(malloc(n % 5000));
        ready = 1;
    }
}

__attribute__((noreturn)) static long busy_main(void *arg)
{
    (void)arg;
    for (long i = 0; i < 6; i++)
        kss_spawn(busy, (void *)i, NULL);
    busy((void *)17);
}

struct stopper {
    struct kss_machine *m;
    unsigned delay_us;
};

static void *stops(void *arg)
{
    struct stopper *s = arg;
    struct timespec t = { 0, s->delay_us * 1000 };
    while (!ready && s->delay_us % 3)
        usleep(100); /* else it may come before there is a process, or a CPU */
    nanosleep(&t, NULL);
    kss_machine_stop(s->m);
    return NULL;
}

START_TEST(stopped_at_any_moment)
{
    uint64_t seed = 4711 + (uint64_t)_i;
    for (int i = 0; i < 40; i++) {
        struct kss_config c = test_config();
        pthread_t thread;
        c.cpus = _i ? 8 : 2;
        c.tick_hz = 2000;
        c.timeslice_ns = 0;
        c.check_switches = false;
        ready = 0;
        kss_wait_queue_init(&queue, "queue");
        kss_spinlock_init(&lock, "lock");
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        struct stopper s = { test_machine(&c), (unsigned)(seed >> 40) % 5000 };
        ck_assert_int_eq(pthread_create(&thread, NULL, stops, &s), 0);
        ck_assert_int_eq(kss_machine_run(s.m, busy_main, NULL, NULL), -ECANCELED);
        pthread_join(thread, NULL);
        ck_assert_int_eq(report_count, 0);
        ck_assert_int_eq(kss_machine_destroy(s.m), 0);
    }
}
END_TEST

/* ---- stopped by a fault --------------------------------------------------------------------------------------- */

static struct kss_spinlock held;
static int *volatile nowhere = (int *)8;

static void pin(unsigned cpu)
{
    struct kss_cpumask one = kss_cpumask_of(cpu);
    kss_setaffinity(0, &one);
}

/* The others: in the kernel with a lock, waiting for that, with interrupts off, in user mode, computing in the kernel. */
__attribute__((noreturn)) static long never_ends(void *arg)
{
    long how = (long)arg;
    if (how == 0)
        kss_spin_lock(&held);
    else if (how == 1)
        while (!__atomic_load_n(&held.locked, __ATOMIC_ACQUIRE))
            ;
    else if (how == 2)
        kss_irq_disable();
    ready++;
    if (how == 1)
        kss_spin_lock(&held);
    for (;;)
        __asm__ volatile("");
}

__attribute__((noreturn)) static long other(void *arg)
{
    pin((unsigned)(long)arg + 1); /* before it takes a CPU for good */
    if ((long)arg < 4)
        in_kernel(never_ends, arg);
    ready++;
    for (;;)
        kss_getpid();
}

static long in_handler(void *arg)
{
    (void)arg;
    return kss_irq_raise(kss_machine_current(), 0, 40);
}

static void faulting_handler(unsigned line, void *arg)
{
    (void)line;
    (void)arg;
    *nowhere = 1;
}

__attribute__((noreturn)) static long fault_main(void *arg)
{
    (void)arg;
    pin(0);
    for (long i = 0; i < 5; i++)
        kss_spawn(other, (void *)i, NULL);
    while (ready < 5)
        kss_yield();
    for (;;)
        in_kernel(in_handler, NULL);
}

START_TEST(stopped_by_a_fault)
{
    struct kss_config c = test_config();
    c.cpus = 6;
    c.check_switches = false;
    c.irq_stacks = _i ? KSS_IRQ_STACKS_PER_CPU : KSS_IRQ_STACKS_NONE;
    ready = 0;
    kss_spinlock_init(&held, "held");
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(kss_irq_request(m, 40, faulting_handler, NULL, "faulting"), 0);
    ck_assert_int_eq(kss_machine_run(m, fault_main, NULL, NULL), -EFAULT);
    ck_assert_int_eq(report_count, 1);
    ck_assert_int_eq(reports[0].kind, KSS_REPORT_FAULT_IN_IRQ);
    ck_assert_uint_eq(reports[0].cpu, 0);
    ck_assert_str_eq(reports[0].symbol, "faulting_handler");
    ck_assert(!held.locked); /* taken away from a CPU that has left */
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

/* ---- a dump ----------------------------------------------------------------------------------------------------- */

static char printed[1 << 17];

KEEP_FRAME static long spins_0(void *arg)
{
    ready++;
    while (!over)
        __asm__ volatile("");
    return (long)arg;
}

KEEP_FRAME static long spins_1(void *arg)
{
    ready++;
    while (!over)
        __asm__ volatile("");
    return (long)arg + 1;
}

KEEP_FRAME static long spins_2(void *arg)
{
    ready++;
    while (!over)
        __asm__ volatile("");
    return (long)arg + 2;
}

static long spins_in_kernel(void *arg)
{
    return in_kernel(spins_2, arg);
}

static unsigned count(const char *what)
{
    unsigned n = 0;
    for (const char *p = printed; (p = strstr(p, what)); p++)
        n++;
    return n;
}

static long dump_now(void *arg)
{
    return kss_machine_dump(arg);
}

static long dump_main(void *arg)
{
    static const kss_user_fn fn[] = { spins_0, spins_1, spins_in_kernel };
    int *end = arg;
    size_t have = 0;
    for (long i = 0; i < 3; i++)
        kss_spawn(fn[i], NULL, &(struct kss_spawn_attr){ .name = i == 0 ? "zero" : i == 1 ? "one" : "two" });
    while (ready < 3)
        kss_yield();
    in_kernel(dump_now, kss_machine_current());
    while (count("the run goes on") < 4) {
        ssize_t n = read(*end, printed + have, sizeof printed - 1 - have);
        have += n > 0 ? (size_t)n : 0;
        kss_yield();
    }
    over = true;
    while (kss_wait(-1, NULL) > 0)
        ;
    return 0;
}

START_TEST(dump_names_all)
{
    struct kss_config c = test_config();
    int ends[2], saved = dup(STDERR_FILENO), status = -1;
    c.cpus = 4;
    c.tick_hz = 100;
    ready = 0;
    over = false;
    ck_assert_int_eq(pipe2(ends, O_NONBLOCK), 0);
    dup2(ends[1], STDERR_FILENO);
    struct kss_machine *m = test_machine(&c);
    int r = kss_machine_run(m, dump_main, &ends[0], &status);
    dup2(saved, STDERR_FILENO);
    ck_assert_int_eq(r, 0);
    ck_assert_int_eq(status, 0);
    ck_assert_msg(strstr(printed, "spins_0+"), "%s", printed);
    ck_assert_msg(strstr(printed, "spins_1+"), "%s", printed);
    ck_assert_msg(strstr(printed, "spins_2+") && strstr(printed, "spins_in_kernel+"), "%s", printed);
    ck_assert_uint_eq(count("all stacks at"), 4);
    for (int i = 0; i < 4; i++) {
        char cpu[20];
        snprintf(cpu, sizeof cpu, "CPU %d in ", i);
        ck_assert_uint_eq(count(cpu), 1);
    }
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_smp_stop");
    TCase *t = tcase_create("stop");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, boots_and_halts, 0, 2);
    tcase_add_loop_test(t, stopped_at_any_moment, 0, 2);
    tcase_add_loop_test(t, stopped_by_a_fault, 0, 2);
    tcase_add_test(t, dump_names_all);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

/* SPDX-License-Identifier: MIT */
/*
 * A storm of host calls: several processes and kernel code use libc at once, under the highest tick rate, and whatever
 * libc does for them must come out whole. KSS_TEST_CPUS: on so many CPUs; KSS_TEST_SECONDS: for so long.
 * REQ M6: the same storm with the protection off fails, in a child.
 */
#define _GNU_SOURCE
#include "harness.h"

#include <dlfcn.h>
#include <locale.h>
#include <netdb.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORKERS 6 /* the last two: in kernel mode */
#define ROUNDS 600
#define LINES 8

/* A failed check ends its worker; the first is said by the host. */
static struct storm {
    FILE *file, *cookie;
    _Atomic long lines, cookie_bytes, callbacks, rounds;
    _Atomic int last[KSS_CPUS_MAX]; /* whose callback ran last on a CPU */
    _Atomic int in_cookie;
    _Atomic bool failed;
    char why[200];
    bool unsafe;
    uint64_t until_ns;
} storm;

#define CHECK(x, ...)                                                              \
    do {                                                                           \
        if (!(x)) {                                                                \
            if (!atomic_exchange(&storm.failed, true))                             \
                snprintf(storm.why, sizeof storm.why, __VA_ARGS__);                \
            return false;                                                          \
        }                                                                          \
    } while (0)

static uint64_t host_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void spin(int n)
{
    static volatile int sink __attribute__((unused));
    for (int i = 0; i < n; i++)
        sink = i;
}

/* ---- what is done --------------------------------------------------------------------------------- */

/* "W n L n aaaa... sum": the reader sees whether it is one piece. */
static bool say_lines(int me, long round)
{
    for (int i = 0; i < LINES; i++) {
        int length = 10 + (int)((round * 7 + i * 13 + me * 31) % 60);
        int r = fprintf(storm.file, "%d %ld %d %d %.*s %d.\n", me, round, i, length, length,
                        "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz", me + length);
        CHECK(r > length, "fprintf: %d", r);
        storm.lines++;
    }
    return true;
}

static bool use_heap(int me, long round)
{
    unsigned char *p[24];
    size_t size[24];
    for (int i = 0; i < 24; i++) {
        size[i] = (size_t)((round * 131 + i * 977 + me * 53) % 3000) + 1;
        CHECK((p[i] = malloc(size[i])) != NULL, "malloc");
        memset(p[i], me * 24 + i + 1, size[i]);
    }
    for (int i = 0; i < 24; i += 3) {
        size_t more = size[i] * 2 + 7;
        CHECK((p[i] = realloc(p[i], more)) != NULL, "realloc");
        memset(p[i] + size[i], me * 24 + i + 1, more - size[i]);
        size[i] = more;
    }
    for (int i = 0; i < 24; i++) {
        for (size_t k = 0; k < size[i]; k++)
            CHECK(p[i][k] == (unsigned char)(me * 24 + i + 1), "worker %d: byte %zu of block %d is another's", me, k, i);
        free(p[i]);
    }
    return true;
}

/* REQ M6: between its first line and its last, nobody else's callback runs on the CPU, and the thread stays there. */
static int compare(const void *a, const void *b, void *arg)
{
    int me = *(int *)arg, cpu = kss_cpu_id();
    storm.last[cpu] = me;
    storm.callbacks++;
    spin(20);
    if ((storm.last[cpu] != me || kss_cpu_id() != cpu) && !atomic_exchange(&storm.failed, true))
        snprintf(storm.why, sizeof storm.why, "worker %d was preempted in a callback of qsort_r()", me);
    return *(const int *)a < *(const int *)b ? -1 : *(const int *)a > *(const int *)b;
}

static bool sort(int me, long round)
{
    int v[100], sum = 0, back = 0;
    long before = storm.callbacks;
    for (int i = 0; i < 100; i++)
        sum += v[i] = (int)((round * 7919 + i * 104729 + me) % 1000);
    qsort_r(v, 100, sizeof v[0], compare, &me);
    for (int i = 0; i < 100; i++)
        back += v[i];
    for (int i = 1; i < 100; i++)
        CHECK(v[i - 1] <= v[i], "worker %d: qsort", me);
    CHECK(back == sum && storm.callbacks > before + 99, "worker %d: qsort has lost something", me);
    return true;
}

/* Called with the stream's lock: by nobody else meanwhile. */
static ssize_t cookie_write(void *cookie, const char *data, size_t n)
{
    (void)cookie;
    (void)data;
    bool alone = ++storm.in_cookie == 1;
    spin(300);
    if (kss_getpid() == 1)
        alone = false;
    spin(300);
    alone = alone && storm.in_cookie == 1;
    storm.in_cookie--;
    storm.cookie_bytes += (long)n;
    if (!alone && !atomic_exchange(&storm.failed, true))
        snprintf(storm.why, sizeof storm.why, "two threads in a stream's write function");
    return (ssize_t)n;
}

static bool write_cookie(int me)
{
    CHECK(fprintf(storm.cookie, "worker %d\n", me) > 0 && fflush(storm.cookie) == 0, "the stream of a cookie");
    return true;
}

static bool load_library(int me)
{
    static const char *const names[] = { "libresolv.so.2", "libutil.so.1", "libBrokenLocale.so.1", "libnss_files.so.2" };
    void *self = dlopen(NULL, RTLD_NOW), *other = dlopen(names[me % 4], RTLD_LAZY);
    CHECK(self && dlsym(self, "fprintf"), "dlsym");
    kss_host_begin(); /* dlerror() is the host thread's: another's would come between */
    bool wrong = dlsym(self, "no_such_function_anywhere") || !dlerror();
    kss_host_end();
    CHECK(!wrong, "dlerror");
    if (other)
        dlclose(other);
    dlclose(self);
    return true;
}

static bool resolve(const char *host)
{
    struct addrinfo hints = { .ai_family = AF_INET, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV }, *found = NULL;
    int r = getaddrinfo(host, "80", &hints, &found);
    CHECK(r == 0 && found && found->ai_addrlen >= sizeof(struct sockaddr), "getaddrinfo(%s): %d", host, r);
    freeaddrinfo(found);
    return true;
}

static bool numbers(int me, long round)
{
    char text[100];
    double x = (double)round / 7.0 + me;
    snprintf(text, sizeof text, "%.17g|%a|%e", x, x, x);
    CHECK(strtod(text, NULL) == x, "worker %d: %.17g came back as %s", me, x, text);
    CHECK(strtod(strchr(text, '|') + 1, NULL) == x, "worker %d: %a came back as %s", me, x, text);
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    CHECK(c, "newlocale");
    freelocale(c);
    return true;
}

/* ---- who does it ---------------------------------------------------------------------------------- */

static long kernel_round(void *arg)
{
    long code = (long)arg;
    int me = (int)(code % WORKERS);
    long round = code / WORKERS;
    return say_lines(me, round) && use_heap(me, round) && sort(me, round) && write_cookie(me) && numbers(me, round);
}

static bool user_round(int me, long round)
{
    return say_lines(me, round) && use_heap(me, round) && sort(me, round) && write_cookie(me) && numbers(me, round) &&
           (round % 4 || load_library(me)) && (round % 3 || resolve("127.0.0.1")) && (round % 16 || resolve("localhost"));
}

static bool goes_on(long round)
{
    return !storm.failed && (storm.until_ns ? host_ns() < storm.until_ns : round < ROUNDS);
}

static long worker(void *arg)
{
    int me = (int)(long)arg;
    for (long round = 0; goes_on(round); round++) {
        bool ok = me < WORKERS - 2 ? user_round(me, round) : in_kernel(kernel_round, (void *)(round * WORKERS + me)) == 1;
        if (!ok)
            return 1;
        storm.rounds++;
    }
    return 0;
}

static long storm_main(void *arg)
{
    (void)arg;
    int bad = 0, status;
    for (long i = 0; i < WORKERS; i++)
        if (kss_spawn(worker, (void *)i, NULL) < 0)
            return 2;
    for (int i = 0; i < WORKERS; i++)
        if (kss_wait(-1, &status) < 0 || status)
            bad = 1;
    return bad;
}

/* Every line is one piece, none is missing. */
static bool lines_whole(void)
{
    char line[200], text[100];
    long lines = 0;
    rewind(storm.file);
    while (fgets(line, sizeof line, storm.file)) {
        int me, i, length, sum, end = 0;
        long round;
        int n = sscanf(line, "%d %ld %d %d %99[a-z] %d.%n", &me, &round, &i, &length, text, &sum, &end);
        CHECK(n == 6 && end && line[end] == '\n' && !line[end + 1] && (int)strlen(text) == length && sum == me + length,
              "a line is mangled: %.80s", line);
        lines++;
    }
    CHECK(lines == storm.lines, "%ld lines of %ld", lines, (long)storm.lines);
    return true;
}

static struct kss_config storm_config(void)
{
    struct kss_config c = test_config();
    c.check_switches = false;
    c.kstack_size = c.kstack_max;
    c.tick_hz = 10000;
    c.timeslice_ns = 0;
    c.unsafe_host_calls = storm.unsafe;
    return c;
}

/* On the CPUs that are asked for, or on one where they can't be had. */
static struct kss_machine *storm_machine(void)
{
    struct kss_config c = storm_config();
    struct kss_machine *m = NULL;
    const char *cpus = getenv("KSS_TEST_CPUS");
    if (cpus && !storm.unsafe)
        c.cpus = (unsigned)atoi(cpus);
    if (kss_machine_create(&m, &c) < 0)
        c.cpus = 1;
    kss_machine_destroy(m);
    return test_machine(&c);
}

static void storm_init(bool unsafe)
{
    cookie_io_functions_t io = { .write = cookie_write };
    const char *seconds = getenv("KSS_TEST_SECONDS");
    storm.unsafe = unsafe;
    storm.file = tmpfile();
    storm.cookie = fopencookie(NULL, "w", io);
    if (seconds && !unsafe)
        storm.until_ns = host_ns() + (uint64_t)atoi(seconds) * 1000000000u;
    if (unsafe)
        storm.until_ns = host_ns() + 5000000000u;
}

static void show(struct kss_machine *m)
{
    struct kss_host_stats s;
    struct kss_machine_stats all;
    static const char *const names[] = { "libc", "callback", "region" };
    ck_assert_int_eq(kss_host_stats(m, -1, &s), 0);
    ck_assert_int_eq(kss_machine_stats(m, &all), 0);
    ck_assert_uint_gt(s.wait[KSS_HOST_LIBC].count, 100);
    ck_assert_uint_gt(s.wait[KSS_HOST_CALLBACK].count, 10);
    ck_assert_uint_ge(s.wait[KSS_HOST_LIBC].total_ns, s.wait[KSS_HOST_LIBC].longest_ns);
    ck_assert_uint_ge(all.total.deferred, s.wait[KSS_HOST_LIBC].count);
    ck_assert_uint_le(s.walks, s.scans);
    ck_assert_uint_eq(s.blocked, 0);
    if (!getenv("KSS_TEST_VERBOSE"))
        return;
    printf("%ld rounds, %ld lines, %ld callbacks, %lu preemptions, %lu migrations, %lu deferred\n", (long)storm.rounds,
           (long)storm.lines, (long)storm.callbacks, (unsigned long)all.total.preemptions,
           (unsigned long)all.total.migrations, (unsigned long)all.total.deferred);
    for (int i = 0; i < KSS_HOST_REASONS; i++)
        printf("%s: %lu waits, %.1f us on average, longest %.1f us\n", names[i], (unsigned long)s.wait[i].count,
               s.wait[i].count ? (double)s.wait[i].total_ns / 1e3 / (double)s.wait[i].count : 0.0,
               (double)s.wait[i].longest_ns / 1e3);
    printf("%lu scans, %lu walks, %lu unknown\n", (unsigned long)s.scans, (unsigned long)s.walks,
           (unsigned long)s.unknown);
}

START_TEST(test_storm)
{
    storm_init(false);
    struct kss_machine *m = storm_machine();
    int status = test_run(m, storm_main, NULL);
    ck_assert_msg(!storm.failed, "%s", storm.why);
    ck_assert_int_eq(status, 0);
    ck_assert_msg(lines_whole(), "%s", storm.why);
    ck_assert_int_gt(storm.cookie_bytes, 0);
    show(m);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

/* A heap that is broken, a deadlock, a mangled line, a callback that was preempted: any of it. */
static int unprotected(void)
{
    int status = 0;
    if (!freopen("/dev/null", "w", stderr))
        return 3;
    storm_init(true);
    struct kss_machine *m = storm_machine();
    if (kss_machine_run(m, storm_main, NULL, &status) < 0 || status || storm.failed || !lines_whole())
        return 1;
    return 0;
}

START_TEST(test_bites)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0)
        _exit(unprotected());
    for (int i = 0; i < 1000 && waitpid(pid, &status, WNOHANG) == 0; i++) {
        struct timespec t = { .tv_nsec = 10000000 };
        nanosleep(&t, NULL);
        if (i == 999) {
            kill(pid, SIGKILL); /* each with a lock of the others': no end either */
            waitpid(pid, &status, 0);
        }
    }
    ck_assert_msg(status != 0, "libc was preempted everywhere for 5 s, and nothing came of it");
    ck_assert_int_ne(WIFEXITED(status) ? WEXITSTATUS(status) : 1, 3);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("host storm");
    TCase *t = tcase_create("storm");
    const char *seconds = getenv("KSS_TEST_SECONDS");
    tcase_set_timeout(t, 60 + (seconds ? atoi(seconds) : 0));
    tcase_add_test(t, test_storm);
    tcase_add_test(t, test_bites);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

/* SPDX-License-Identifier: MIT */
/*
 * Threads that move between CPUs: their affinity is honoured at all times, and nothing of what they have in registers,
 * on their stacks, or in the host's errno and signal mask is lost on the way.
 */
#define _GNU_SOURCE
#include "harness.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

static _Atomic unsigned long bad, done;
static _Atomic bool over;

static _Atomic int first_bad; /* the line of the first expectation that failed */

/* Not an assertion: those take a mutex of libcheck's, on whatever CPU. */
static void expect_at(bool ok, int line)
{
    int none = 0;
    if (!ok && bad++ == 0)
        atomic_compare_exchange_strong(&first_bad, &none, line);
}
#define expect(ok) expect_at((ok), __LINE__)

static struct kss_config config(unsigned cpus)
{
    struct kss_config c = test_config();
    c.cpus = cpus;
    c.tick_hz = 4000 / cpus;
    c.timeslice_ns = 0;
    bad = done = 0;
    over = false;
    return c;
}

/* ---- affinity ----------------------------------------------------------------------------------------------- */

#define THREADS 8
static struct subject {
    _Atomic uint64_t allowed, before; /* now, and before the last change */
    _Atomic unsigned changes;         /* odd while it is being changed */
    long tid;
    _Atomic unsigned long looks;
} subject[THREADS];

/* Interrupts off: it can't move between the look at where it is and at where it may be. */
static long look(void *arg)
{
    struct subject *s = arg;
    bool on = kss_irq_save();
    unsigned changes = s->changes;
    uint64_t here = 1ull << kss_cpu_id(), may = s->allowed | (changes % 2 ? s->before : 0);
    bool same = s->changes == changes;
    kss_irq_restore(on);
    s->looks++;
    return same && !(may & here);
}

static long wanders(void *arg)
{
    struct subject *s = &subject[(long)arg];
    for (unsigned i = 0; !over; i++) {
        long wrong = in_kernel(look, s);
        /* The change may have come while it was on a CPU: then it has an interrupt to take first, no more. */
        for (int n = 0; wrong && n < 1000; n++)
            wrong = in_kernel(look, s);
        expect(!wrong);
        if ((long)arg % 3 == 1 && i % 8 == 0)
            kss_sleep(1); /* changed while it sleeps */
        if ((long)arg % 3 == 2)
            kss_yield(); /* or is queued */
    }
    return 0;
}

/* After its own change a thread is where it may be when the call returns. */
static long moves_itself(void *arg)
{
    unsigned cpus = (unsigned)(long)arg;
    for (unsigned i = 0; i < 600 / cpus; i++) {
        struct kss_cpumask one = kss_cpumask_of(i * 7 % cpus), got;
        expect(kss_setaffinity(0, &one) == 0);
        expect(kss_cpu_id() == (int)(i * 7 % cpus));
        expect(kss_getaffinity(0, &got) == 0 && memcmp(&one, &got, sizeof one) == 0);
        done++;
    }
    return 0;
}

static long affinity_main(void *arg)
{
    unsigned cpus = (unsigned)(long)arg;
    uint64_t all = (1ull << cpus) - 1, seed = 12345;
    for (long i = 0; i < THREADS; i++) {
        subject[i].allowed = subject[i].before = all;
        subject[i].tid = kss_spawn(wanders, (void *)i, NULL);
    }
    long self = kss_spawn(moves_itself, arg, NULL);
    for (unsigned i = 0; i < 3000; i++) {
        struct subject *s = &subject[i % THREADS];
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        struct kss_cpumask mask = { { seed >> 32 & all, 0, 0, 0 } };
        if (kss_cpumask_empty(&mask))
            continue;
        s->changes++;
        s->before = s->allowed;
        s->allowed = mask.bits[0];
        expect(kss_setaffinity(s->tid, &mask) == 0);
        s->changes++;
    }
    expect(kss_wait(self, NULL) == self);
    over = true;
    while (kss_wait(-1, NULL) > 0)
        ;
    return 0;
}

START_TEST(affinity_is_honoured)
{
    static const unsigned counts[] = { 2, 4, 16 };
    struct kss_config c = config(counts[_i]);
    ck_assert_int_eq(test_boot(&c, affinity_main, (void *)(long)counts[_i]), 0);
    ck_assert_msg(bad == 0, "%lu failed, first that of line %d", bad, first_bad);
    ck_assert_uint_eq(done, 600 / counts[_i]);
    for (int i = 0; i < THREADS; i++)
        ck_assert_uint_gt(subject[i].looks, 0);
    ck_assert_int_eq(report_count, 0);
}
END_TEST

static long refusals(void *arg)
{
    struct kss_cpumask none = { { 0 } }, beyond = kss_cpumask_of(77), mask = kss_cpumask_all(KSS_CPUS_MAX);
    (void)arg;
    expect(kss_setaffinity(0, &none) == -EINVAL);
    expect(kss_setaffinity(0, &beyond) == -EINVAL && strstr(kss_last_error(), "machine's 2 CPUs"));
    expect(kss_setaffinity(0, NULL) == -EINVAL);
    expect(kss_setaffinity(0, (struct kss_cpumask *)8) == -EFAULT);
    expect(kss_setaffinity(4711, &mask) == -ESRCH);
    expect(kss_getaffinity(4711, &mask) == -ESRCH);
    expect(kss_getaffinity(0, NULL) == -EINVAL);
    expect(kss_setaffinity(0, &mask) == 0); /* more than there are: those that there are */
    expect(kss_getaffinity(0, &mask) == 0 && kss_cpumask_count(&mask) == 2);
    return 0;
}

START_TEST(affinity_refused)
{
    struct kss_config c = config(2);
    ck_assert_int_eq(test_boot(&c, refusals, NULL), 0);
    ck_assert_msg(bad == 0, "%lu failed, first that of line %d", bad, first_bad);
}
END_TEST

START_TEST(masks) /* the inline functions, at their limits */
{
    struct kss_cpumask m = { { 0 } };
    ck_assert(kss_cpumask_empty(&m));
    ck_assert_int_eq(kss_cpumask_first(&m), -1);
    for (unsigned i = 0; i < KSS_CPUS_MAX; i++) {
        kss_cpumask_set(&m, i);
        ck_assert(kss_cpumask_test(&m, i));
        ck_assert_uint_eq(kss_cpumask_count(&m), 1);
        ck_assert_int_eq(kss_cpumask_first(&m), (int)i);
        ck_assert_int_eq(kss_cpumask_next(&m, i + 1), -1);
        kss_cpumask_clear(&m, i);
    }
    ck_assert(kss_cpumask_empty(&m));
    kss_cpumask_set(&m, KSS_CPUS_MAX);
    kss_cpumask_clear(&m, KSS_CPUS_MAX);
    ck_assert(kss_cpumask_empty(&m) && !kss_cpumask_test(&m, KSS_CPUS_MAX));
    m = kss_cpumask_all(1000);
    ck_assert_uint_eq(kss_cpumask_count(&m), KSS_CPUS_MAX);
    ck_assert_int_eq(kss_cpumask_next(&m, KSS_CPUS_MAX), -1);
    ck_assert_int_eq(kss_cpumask_next(&m, UINT_MAX), -1);
}
END_TEST

/* ---- migration ---------------------------------------------------------------------------------------------- */

struct regs {
    long iterations;
    uint64_t flags_in, flags_out;
    uint32_t mxcsr_in, mxcsr_out, vector, pad[7];
    uint64_t gpr_in[16], gpr_out[16];
    uint64_t red_in[16], red_out[16];
    unsigned char x87_in[8][16], x87_out[8][16];
    uint64_t mask_in[8], mask_out[8], pad2[8];
    unsigned char vec_in[32][64], vec_out[32][64];
};
_Static_assert(offsetof(struct regs, vec_out) == 3072, "regs_x86_64.S");
void regs_spin(struct regs *s);

#define MOVERS 3
static struct regs registers[MOVERS];

/* Where the host keeps it depends on the CPU: gone to anew each time. */
/* Between finding where a CPU's errno is and using it, the thread must not move to another. */
__attribute__((noinline)) static int get_errno(void)
{
    kss_host_begin();
    int value = errno;
    kss_host_end();
    return value;
}

__attribute__((noinline)) static void set_errno(int value)
{
    kss_host_begin();
    errno = value;
    kss_host_end();
}

static void fill(struct regs *s, uint64_t *seed)
{
    unsigned char *from = (unsigned char *)s->gpr_in, *to = (unsigned char *)(s + 1);
    for (unsigned char *p = from; p + 8 <= to; p += 8) {
        *seed = *seed * 6364136223846793005u + 1442695040888963407u;
        memcpy(p, seed, 8);
    }
    for (int i = 0; i < 8; i++) { /* normal numbers; signalling ones would be changed by the load */
        s->x87_in[i][7] |= 0x80;
        s->x87_in[i][8] = 0x77;
        s->x87_in[i][9] = 0x3f;
        s->mask_in[i] &= 0xffff;
    }
    s->flags_in = (*seed & 0xcd5) | 2;
    s->mxcsr_in = 0x1f80 | (uint32_t)(*seed & 0xe03f);
    s->iterations = 20000;
    s->vector = __builtin_cpu_supports("avx512f") ? 2 : __builtin_cpu_supports("avx") ? 1 : 0;
}

static bool same(const struct regs *s)
{
    size_t width = s->vector == 2 ? 64 : s->vector == 1 ? 32 : 16;
    bool ok = !memcmp(s->gpr_in, s->gpr_out, 13 * 8) && !memcmp(s->red_in, s->red_out, sizeof s->red_in) &&
              !((s->flags_in ^ s->flags_out) & 0xcd5) && s->mxcsr_in == s->mxcsr_out;
    for (int i = 0; i < 8; i++)
        ok &= !memcmp(s->x87_in[i], s->x87_out[i], 10);
    for (int i = 0; i < (s->vector == 2 ? 32 : 16); i++)
        ok &= !memcmp(s->vec_in[i], s->vec_out[i], width);
    for (int i = 1; i < 8 && s->vector == 2; i++)
        ok &= !((s->mask_in[i] ^ s->mask_out[i]) & 0xffff);
    return ok;
}

static long spin_in_kernel(void *arg)
{
    regs_spin(arg);
    return 0;
}

/* The last one in kernel mode. */
static long computes(void *arg)
{
    struct regs *s = &registers[(long)arg];
    uint64_t seed = 99 + (uint64_t)(long)arg;
    double d = 1.5;
    while (!over) {
        fill(s, &seed);
        set_errno(100 + (int)(long)arg);
        if ((long)arg == MOVERS - 1)
            in_kernel(spin_in_kernel, s);
        else
            regs_spin(s);
        expect(same(s));
        expect(get_errno() == 100 + (int)(long)arg);
        sigset_t now;
        pthread_sigmask(SIG_SETMASK, NULL, &now);
        expect(!sigismember(&now, SIGALRM) && !sigismember(&now, SIGSEGV) && sigismember(&now, SIGTERM));
        d = d * 1.25 - 0.375; /* a fixed point: exact, whatever CPU it is on */
        expect(d == 1.5);
        done++;
    }
    return 0;
}

static long mover_main(void *arg)
{
    unsigned cpus = (unsigned)(long)arg;
    long pid[MOVERS];
    for (long i = 0; i < MOVERS; i++)
        pid[i] = kss_spawn(computes, (void *)i, NULL);
    for (unsigned round = 0; round < 2000 || done < 30; round++) {
        struct kss_cpumask one = kss_cpumask_of((round + round / 5) % cpus);
        expect(kss_setaffinity(pid[round % MOVERS], &one) == 0);
        if (round % 4 == 3)
            kss_yield();
        if (round % 16 == 7)
            kss_sleep(1);
    }
    over = true;
    for (int i = 0; i < MOVERS; i++)
        expect(kss_wait(pid[i], NULL) == pid[i]);
    return 0;
}

static uint64_t moves_seen;

static int on_event(const struct kss_trace_event *e, void *arg)
{
    (void)arg;
    if (e->type == KSS_TR_MIGRATE) {
        moves_seen++;
        expect(e->value[1] != e->value[2] && e->value[2] == e->cpu);
    }
    return 0;
}

START_TEST(migration_keeps_all) /* REQ I6 M3 */
{
    unsigned cpus = _i ? 4 : 2;
    struct kss_config c = config(cpus);
    c.trace = true;
    struct kss_machine *m = test_machine(&c);
    moves_seen = 0;
    ck_assert_int_eq(test_run(m, mover_main, (void *)(long)cpus), 0);
    struct kss_machine_stats s;
    ck_assert_int_eq(kss_machine_stats(m, &s), 0);
    ck_assert_uint_gt(s.total.migrations, 100);
    ck_assert_int_eq(kss_trace_for_each(m, on_event, NULL), 0);
    ck_assert_uint_gt(moves_seen, 0);
    ck_assert_uint_le(moves_seen, s.total.migrations);
    ck_assert_msg(bad == 0, "%lu failed, first that of line %d", bad, first_bad);
    ck_assert_int_eq(report_count, 0);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_smp_move");
    TCase *t = tcase_create("move");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, affinity_is_honoured, 0, 3);
    tcase_add_test(t, affinity_refused);
    tcase_add_test(t, masks);
    tcase_add_loop_test(t, migration_keeps_all, 0, 2);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

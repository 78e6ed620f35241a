/* SPDX-License-Identifier: MIT */
/*
 * Preemption at arbitrary instructions changes nothing: all registers, flags, vector state and the red
 * zone, with any stack pointer; programs compute what they compute alone; long instructions go on.
 */
#define _GNU_SOURCE
#include "harness.h"

#include <stddef.h>
#include <stdlib.h>

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
_Static_assert(offsetof(struct regs, gpr_in) == 64, "regs_x86_64.S");
_Static_assert(offsetof(struct regs, red_in) == 320, "regs_x86_64.S");
_Static_assert(offsetof(struct regs, x87_in) == 576, "regs_x86_64.S");
_Static_assert(offsetof(struct regs, mask_in) == 832, "regs_x86_64.S");
_Static_assert(offsetof(struct regs, vec_in) == 1024, "regs_x86_64.S");
_Static_assert(offsetof(struct regs, vec_out) == 3072, "regs_x86_64.S");

void regs_spin(struct regs *s);
void garbage_sp(uintptr_t sp, long n);

static unsigned wanted(void)
{
    const char *s = getenv("KSS_TEST_PREEMPTIONS");
    return s ? (unsigned)atoi(s) : 100000;
}

static uint64_t xorshift(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

/* Carry, parity, adjust, zero, sign, direction, overflow: whatever a program may set. */
#define FLAGS_MASK 0xcd5u

static void randomise(struct regs *s, uint64_t *seed)
{
    unsigned char *from = (unsigned char *)s->gpr_in, *to = (unsigned char *)(s + 1);
    for (unsigned char *p = from; p + 8 <= to; p += 8) {
        uint64_t v = xorshift(seed);
        memcpy(p, &v, 8);
    }
    for (int i = 0; i < 8; i++) { /* normal numbers: signalling NaNs would be changed by the load */
        s->x87_in[i][7] |= 0x80;
        s->x87_in[i][8] = (unsigned char)xorshift(seed);
        s->x87_in[i][9] = 0x3f;
    }
    for (int i = 0; i < 8; i++)
        s->mask_in[i] &= 0xffff;
    s->flags_in = (xorshift(seed) & FLAGS_MASK) | 2;
    s->mxcsr_in = 0x1f80 | (uint32_t)(xorshift(seed) & 0xe03f); /* sticky bits, rounding, flush to zero */
}

static long verify(const struct regs *s)
{
    size_t width = s->vector == 2 ? 64 : s->vector == 1 ? 32 : 16;
    int vectors = s->vector == 2 ? 32 : 16;
    if (memcmp(s->gpr_in, s->gpr_out, 13 * 8))
        return 10;
    if (memcmp(s->red_in, s->red_out, sizeof s->red_in))
        return 11;
    if ((s->flags_in ^ s->flags_out) & FLAGS_MASK)
        return 12;
    if (s->mxcsr_in != s->mxcsr_out)
        return 13;
    for (int i = 0; i < 8; i++)
        if (memcmp(s->x87_in[i], s->x87_out[i], 10))
            return 14;
    for (int i = 0; i < vectors; i++)
        if (memcmp(s->vec_in[i], s->vec_out[i], width))
            return 15;
    for (int i = 1; i < 8 && s->vector == 2; i++)
        if ((s->mask_in[i] ^ s->mask_out[i]) & 0xffff)
            return 16;
    return 0;
}

static _Atomic bool over;
static volatile unsigned long rounds;
static unsigned enough;

#define WORKERS 4

/* The last worker does it in kernel mode: interrupts nest on its kernel stack, below its red zone. */
static long spin_in_kernel(void *arg)
{
    regs_spin(arg);
    return 0;
}

static long register_worker(void *arg)
{
    uint64_t seed = 0x9e3779b97f4a7c15u + (uint64_t)(long)arg;
    static struct regs all[WORKERS];
    struct regs *s = &all[(long)arg];
    while (!over) {
        randomise(s, &seed);
        s->iterations = 2000 + (long)(xorshift(&seed) % 20000);
        s->vector = __builtin_cpu_supports("avx512f") ? 2 : __builtin_cpu_supports("avx") ? 1 : 0;
        if ((long)arg == WORKERS - 1)
            in_kernel(spin_in_kernel, s);
        else
            regs_spin(s);
        long bad = verify(s);
        if (bad) {
            over = true;
            return bad;
        }
        rounds++;
    }
    return 0;
}

static uintptr_t own_stack(void)
{
    return (uintptr_t)__builtin_frame_address(0);
}

static uintptr_t kernel_address;

static long garbage_worker(void *arg)
{
    (void)arg;
    const uintptr_t garbage[] = { 0, 8, 0xdeadbeef, ~(uintptr_t)0, 0x8000000000000000u, kernel_address,
                                  own_stack() + 3, 0x7fffffffffffu };
    for (unsigned i = 0; !over; i++)
        garbage_sp(garbage[i % 8], 20000);
    return 0;
}

static long get_kernel_address(void *arg)
{
    struct kss_kstack_info k;
    (void)arg;
    kss_kstack_info(NULL, &k);
    kernel_address = k.low + 1000;
    return 0;
}

static uint64_t preemptions(void)
{
    struct kss_machine_stats s;
    kss_machine_stats(kss_machine_current(), &s);
    return s.total.preemptions;
}

static long stress_main(void *arg)
{
    int status;
    long bad = 0;
    (void)arg;
    in_kernel(get_kernel_address, NULL);
    for (long i = 0; i < WORKERS; i++)
        ck_assert_int_gt(kss_spawn(register_worker, (void *)i, NULL), 0);
    ck_assert_int_gt(kss_spawn(garbage_worker, NULL, NULL), 0);
    while (!over && preemptions() < enough)
        kss_sleep(50000000);
    over = true;
    while (kss_wait(-1, &status) > 0)
        bad |= status;
    ck_assert_msg(bad == 0, "a worker ended with %#lx: 10 general, 11 red zone, 12 flags, 13 mxcsr, 14 x87, "
                            "15 vector, 16 mask", bad);
    return 0;
}

START_TEST(every_register_survives) /* REQ I6 I3 P1 */
{
    struct kss_config c = test_config();
    enough = wanted();
    c.tick_hz = 10000;
    c.timeslice_ns = 0; /* every tick preempts */
    if (_i) { /* REQ M8: kernel stacks closed; the frame is returned through by way of a copy */
        if (!test_can_protect())
            return;
        enough = 2000;
        c.tick_hz = 1000; /* a mode switch takes longer */
        c.syscall_entry = KSS_SYSCALL_TRAP;
        c.protect = KSS_PROTECT_MPROTECT;
    }
    ck_assert_int_eq(test_boot(&c, stress_main, NULL), 0);
    ck_assert_uint_gt(rounds, _i ? 10 : 100);
    ck_assert_int_eq(report_count, 0);
}
END_TEST

/* ---- REQ M3: a program interrupted at random computes the same --------------------------------------- */

static uint64_t compute(void)
{
    uint64_t h = 1469598103934665603u, x = 88172645463325252u;
    double d = 1;
    for (int i = 0; i < 3000000; i++) {
        h = (h ^ (xorshift(&x) & 0xff)) * 1099511628211u;
        d = d * 1.0000001 + (double)(h & 7);
    }
    uint64_t bits;
    memcpy(&bits, &d, 8);
    return h ^ bits;
}

static long m3_child(void *arg)
{
    uint64_t *out = arg;
    *out = compute();
    return 0;
}

static long m3_main(void *arg)
{
    uint64_t *out = arg;
    for (int i = 0; i < 4; i++)
        kss_spawn(m3_child, &out[i], NULL);
    while (kss_wait(-1, NULL) > 0)
        ;
    return 0;
}

START_TEST(transparent) /* REQ M3 */
{
    struct kss_config c = test_config();
    uint64_t alone = compute(), out[4] = { 0 };
    c.tick_hz = 10000;
    c.timeslice_ns = 0;
    ck_assert_int_eq(test_boot(&c, m3_main, out), 0);
    for (int i = 0; i < 4; i++)
        ck_assert_uint_eq(out[i], alone);
}
END_TEST

/* ---- REQ I10: a long instruction resumes in the middle ------------------------------------------------ */

#define LONG (64u << 20)
static volatile unsigned i10_inside, i10_hits;
static unsigned char *i10_to;

static _Atomic bool i10_stop;

/* Another process: it gets the CPU in the middle of the copy, at a tick, and looks how far it is. */
static long i10_look(void *arg)
{
    struct kss_thread *t = kss_thread_find(kss_machine_current(), (int)(long)arg);
    struct kss_kstack_info k;
    uint64_t left;
    if (!t || kss_kstack_info(t, &k) < 0)
        return 0;
    const struct kss_trap_frame *tf = (const struct kss_trap_frame *)k.user_frame;
    i10_hits += kss_trap_register(tf, 2, &left) == 0 && left > 0 && left < LONG && i10_inside;
    return 0;
}

static long i10_watcher(void *arg)
{
    while (!i10_stop) {
        in_kernel(i10_look, arg);
        kss_yield();
    }
    return 0;
}

static long i10_main(void *arg)
{
    unsigned char *from = arg, *to = i10_to;
    long watcher = kss_spawn(i10_watcher, (void *)kss_gettid(), NULL);
    void *d = to;
    const void *s = from;
    size_t n = LONG;
    i10_inside = 1;
    __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n)::"memory");
    i10_inside = 0;
    i10_stop = true;
    kss_wait(watcher, NULL);
    return (unsigned char *)d != to + LONG || n != 0;
}

START_TEST(rep_movsb_goes_on) /* REQ I10 */
{
    struct kss_config c = test_config();
    c.tick_hz = 10000;
    c.timeslice_ns = 0;
    c.check_switches = false;
    unsigned char *from = malloc(LONG);
    i10_to = calloc(LONG, 1);
    ck_assert(from && i10_to);
    uint64_t x = 7;
    for (size_t i = 0; i < LONG; i += 8) {
        uint64_t v = xorshift(&x);
        memcpy(from + i, &v, 8);
    }
    ck_assert_int_eq(test_boot(&c, i10_main, from), 0);
    ck_assert_int_eq(memcmp(from, i10_to, LONG), 0);
    ck_assert_uint_gt(i10_hits, 3); /* it was interrupted in the middle, and more than once */
    free(from);
    free(i10_to);
}
END_TEST

/* ---- libc under preemption (the innermost program counter decides) ---------------------------------- */

static long malloc_worker(void *arg)
{
    uint64_t seed = 12345 + (uint64_t)(long)arg;
    for (int i = 0; i < 200000; i++) {
        size_t n = xorshift(&seed) % 3000 + 1;
        unsigned char *p = malloc(n);
        if (!p)
            return 1;
        p[0] = p[n - 1] = (unsigned char)n;
        if (p[0] != (unsigned char)n)
            return 2;
        free(p);
    }
    return 0;
}

static long print_worker(void *arg)
{
    for (int i = 0; i < 20000; i++)
        fprintf(arg, "%08d the quick brown fox jumps over the lazy dog %08d\n", i, i);
    return 0;
}

static long libc_main(void *arg)
{
    int status;
    long bad = 0;
    for (long i = 0; i < 2; i++) {
        kss_spawn(malloc_worker, (void *)i, NULL);
        kss_spawn(print_worker, arg, NULL);
    }
    while (kss_wait(-1, &status) > 0)
        bad |= status;
    return bad;
}

START_TEST(libc_stays_whole)
{
    struct kss_config c = test_config();
    c.tick_hz = 10000;
    c.timeslice_ns = 0;
    FILE *f = tmpfile();
    char line[256];
    int lines = 0, a, b;
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(test_boot(&c, libc_main, f), 0);
    rewind(f);
    while (fgets(line, sizeof line, f)) {
        ck_assert_msg(strlen(line) == 62 &&
                          sscanf(line, "%d the quick brown fox jumps over the lazy dog %d", &a, &b) == 2 && a == b,
                      "mangled line %d: %s", lines, line);
        lines++;
    }
    ck_assert_int_eq(lines, 40000);
    fclose(f);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_preempt");
    TCase *t = tcase_create("preempt");
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, every_register_survives, 0, 2);
    tcase_add_test(t, transparent);
    tcase_add_test(t, rep_movsb_goes_on);
    tcase_add_test(t, libc_stays_whole);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

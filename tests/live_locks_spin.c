/* SPDX-License-Identifier: MIT */
/* Locks that spin, bits and counters, by many threads and an interrupt handler, under a tick of 10 kHz. */
#include "crowd.h"

#define ROUNDS 400

static struct kss_config config(void)
{
    struct kss_config c = test_config();
    c.check_switches = false;
    test_stress(&c);
    return c;
}

static void work(int n)
{
    for (volatile int i = 0; i < n; i++)
        ;
}

/* ---- spinlocks ------------------------------------------------------------------------------------ */

static struct kss_spinlock spinlock = KSS_SPINLOCK_INIT("test");
static _Atomic unsigned long taken, failed;

static void under_spinlock(void)
{
    bool on = kss_spin_lock(&spinlock);
    only_one_enters();
    work(50);
    only_one_leaves();
    taken++;
    kss_spin_unlock(&spinlock, on);
}

static long spin(void *number)
{
    bool on, were = kss_irqs_enabled();
    for (int i = 0; i < 10; i++) {
        under_spinlock();
        MUST(kss_irqs_enabled() == were);
        if (!kss_spin_trylock(&spinlock, &on)) {
            failed++;
            MUST(kss_irqs_enabled() == were);
            continue;
        }
        MUST(on == were && !kss_irqs_enabled());
        only_one_enters();
        only_one_leaves();
        taken++;
        kss_spin_unlock(&spinlock, on);
    }
    if ((long)number == 0)
        kss_irq_raise(kss_machine_current(), 0, 40);
    return 0;
}

START_TEST(spinlocks)
{
    struct kss_config c = config();
    struct kss_lock_stats s;
    kss_spinlock_init(&spinlock, "test");
    taken = failed = 0;
    crowd_isr = under_spinlock;
    crowd(&c, CROWD, spin, ROUNDS);
    ck_assert_int_eq(kss_spin_stats(&spinlock, &s), 0);
    ck_assert_uint_eq(s.taken, taken);
    ck_assert_uint_le(s.contended, s.taken);
    ck_assert(s.contended ? s.spins > 0 : s.spins == 0 && s.wait_ns == 0);
    if (c.cpus == 1) {
        ck_assert_uint_eq(s.contended, 0);
        ck_assert_uint_eq(failed, 0);
    }
}
END_TEST

static long try_twice(void *arg)
{
    bool on, again = true;
    (void)arg;
    MUST(kss_spin_trylock(&spinlock, &on) && on);
    MUST(!kss_spin_trylock(&spinlock, &again) && !again);
    MUST(!kss_irqs_enabled());
    kss_spin_unlock(&spinlock, on);
    MUST(!kss_spin_trylock(&spinlock, NULL));
    MUST(strstr(kss_last_error(), "no place") != NULL);
    return 0;
}

START_TEST(trylock)
{
    struct kss_config c = config();
    kss_spinlock_init(&spinlock, "test");
    crowd(&c, 1, try_twice, 1);
}
END_TEST

/* ---- reader-writer locks -------------------------------------------------------------------------- */

static struct kss_rwlock rwlock;
static volatile unsigned long left, right;
static _Atomic unsigned long writes, reads;
static _Atomic int readers_inside;

static void read_both(void)
{
    bool on = kss_read_lock(&rwlock);
    readers_inside++;
    unsigned long l = left;
    work(20);
    MUST(l == right);
    readers_inside--;
    reads++;
    kss_read_unlock(&rwlock, on);
}

static long read_or_write(void *number)
{
    for (int i = 0; i < 10; i++) {
        if ((i + (long)number) % 4) {
            read_both();
            continue;
        }
        bool on = kss_write_lock(&rwlock);
        MUST(!kss_irqs_enabled() && readers_inside == 0);
        only_one_enters();
        left = left + 1;
        work(30);
        right = right + 1;
        only_one_leaves();
        writes++;
        kss_write_unlock(&rwlock, on);
        MUST(kss_irqs_enabled());
    }
    if ((long)number == 0)
        kss_irq_raise(kss_machine_current(), 0, 40);
    return 0;
}

START_TEST(rwlocks)
{
    struct kss_config c = config();
    struct kss_lock_stats s;
    kss_rwlock_init(&rwlock, "pair");
    writes = reads = left = right = 0;
    crowd_isr = read_both;
    crowd(&c, CROWD, read_or_write, ROUNDS);
    ck_assert_uint_eq(left, writes);
    ck_assert_uint_ge(reads, CROWD * ROUNDS * 7);
    ck_assert_int_eq(kss_rwlock_stats(&rwlock, &s), 0);
    ck_assert_uint_eq(s.taken, writes);
    ck_assert_uint_le(s.contended, writes + reads);
    ck_assert_uint_eq(rwlock.state[0] | rwlock.state[1], 0);
}
END_TEST

/* ---- sequence locks ------------------------------------------------------------------------------- */

static struct kss_seqlock seqlock;
static _Atomic unsigned long retries;

/* Any mode: this one is called in user mode as well. */
static void read_sequence(void)
{
    unsigned long l, r;
    unsigned begin;
    for (;;) {
        begin = kss_seq_read_begin(&seqlock);
        l = left;
        work(5);
        r = right;
        if (!kss_seq_read_retry(&seqlock, begin))
            break;
        retries++;
    }
    MUST(l == r);
    reads++;
}

static long write_sequence(void *number)
{
    for (int i = 0; i < 10; i++) {
        read_sequence();
        bool on = kss_seq_write_begin(&seqlock);
        only_one_enters();
        left = left + 1;
        unsigned begin = kss_seq_read_begin(&seqlock); /* as an NMI handler would: it comes back */
        MUST(kss_seq_read_retry(&seqlock, begin));
        right = right + 1;
        only_one_leaves();
        writes++;
        kss_seq_write_end(&seqlock, on);
    }
    if ((long)number == 0)
        kss_irq_raise(kss_machine_current(), 0, 40);
    return 0;
}

START_TEST(seqlocks)
{
    struct kss_config c = config();
    struct kss_lock_stats s;
    kss_seqlock_init(&seqlock, "sequence");
    writes = reads = left = right = 0;
    crowd_isr = read_sequence;
    crowd(&c, CROWD, write_sequence, ROUNDS / 4);
    ck_assert_uint_eq(left, CROWD * ROUNDS / 4 * 10);
    ck_assert_uint_eq(seqlock.sequence, 2 * (unsigned)writes);
    ck_assert_int_eq(kss_spin_stats(&seqlock.lock, &s), 0);
    ck_assert_uint_eq(s.taken, writes);
}
END_TEST

/* ---- bits ----------------------------------------------------------------------------------------- */

#define BITS 133

static uint64_t map[KSS_BITMAP_WORDS(BITS)];
static volatile long owner[BITS];
static _Atomic long claims, refused;

static long claim(void *number)
{
    long mine[BITS], n = 0;
    for (int i = 0; i < 20; i++) {
        long bit = kss_bit_claim(map, BITS);
        if (bit < 0) {
            MUST(bit == -ENOENT);
            refused++;
            break;
        }
        MUST(owner[bit] == 0);
        owner[bit] = (long)number + 1;
        mine[n++] = bit;
        claims++;
    }
    kss_reschedule(); /* 12 times 20 are more than there are */
    while (n--) {
        MUST(owner[mine[n]] == (long)number + 1 && kss_bit_test(map, (size_t)mine[n]) == 1);
        owner[mine[n]] = 0;
        MUST(kss_bit_clear(map, (size_t)mine[n]) == 1);
    }
    return 0;
}

START_TEST(bits_claimed)
{
    struct kss_config c = config();
    memset(map, 0, sizeof map);
    crowd(&c, CROWD, claim, ROUNDS / 4);
    ck_assert_int_gt(claims, 0);
    for (size_t i = 0; i < KSS_BITMAP_WORDS(BITS); i++)
        ck_assert_uint_eq(map[i], 0);
}
END_TEST

START_TEST(bits)
{
    memset(map, 0, sizeof map);
    ck_assert_int_eq(kss_bit_find_set(map, BITS, 0), -ENOENT);
    ck_assert_int_eq(kss_bit_find_clear(map, BITS, BITS - 1), BITS - 1);
    ck_assert_int_eq(kss_bit_find_clear(map, BITS, BITS), -ENOENT);
    ck_assert_int_eq(kss_bit_find_clear(map, BITS, SIZE_MAX), -ENOENT);
    for (size_t i = 0; i < BITS; i++) {
        ck_assert_int_eq(kss_bit_test(map, i), 0);
        ck_assert_int_eq(kss_bit_set(map, i), 0);
        ck_assert_int_eq(kss_bit_set(map, i), 1);
        ck_assert_int_eq(kss_bit_find_set(map, BITS, i), (long)i);
        ck_assert_int_eq(kss_bit_find_set(map, i, 0), i ? 0 : -ENOENT);
        ck_assert_int_eq(kss_bit_find_clear(map, BITS, 0), i + 1 < BITS ? (long)i + 1 : -ENOENT);
    }
    ck_assert_int_eq(kss_bit_claim(map, BITS), -ENOENT);
    ck_assert_uint_eq(map[2], 0x1f); /* the bits beyond are left alone */
    ck_assert_int_eq(kss_bit_clear(map, 70), 1);
    ck_assert_int_eq(kss_bit_clear(map, 70), 0);
    ck_assert_int_eq(kss_bit_find_clear(map, BITS, 3), 70);
    ck_assert_int_eq(kss_bit_change(map, 70), 0);
    ck_assert_int_eq(kss_bit_change(map, 70), 1);
    ck_assert_int_eq(kss_bit_claim(map, BITS), 70);
}
END_TEST

/* ---- counters ------------------------------------------------------------------------------------- */

static struct kss_percpu_counter counter;
static _Atomic long by_isr;

static void count_in_isr(void)
{
    kss_percpu_counter_add(&counter, 1000);
    by_isr++;
}

static long count(void *number)
{
    if (!counter.slot) /* the first call of the only thread */
        MUST(kss_percpu_counter_init(&counter, kss_machine_current()) == 0);
    for (int i = 0; i < 1000; i++)
        MUST(kss_percpu_counter_add(&counter, i % 2 ? 3 : -1) == 0);
    if ((long)number == 0)
        kss_irq_raise(kss_machine_current(), 0, 40);
    return 0;
}

START_TEST(counters)
{
    struct kss_config c = config();
    by_isr = 0;
    crowd(&c, 1, count, 1);
    crowd_isr = count_in_isr;
    crowd(&c, CROWD, count, ROUNDS / 4);
    ck_assert_int_eq(kss_percpu_counter_sum(&counter), 1000l * (1 + CROWD * ROUNDS / 4) + 1000 * by_isr);
    kss_percpu_counter_destroy(&counter);
    ck_assert_int_eq(kss_percpu_counter_add(&counter, 1), -EINVAL);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_locks_spin");
    TCase *t = tcase_create("spin");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, spinlocks);
    tcase_add_test(t, trylock);
    tcase_add_test(t, rwlocks);
    tcase_add_test(t, seqlocks);
    tcase_add_test(t, bits_claimed);
    tcase_add_test(t, bits);
    tcase_add_test(t, counters);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

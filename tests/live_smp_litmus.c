/* SPDX-License-Identifier: MIT */
/*
 * The litmus shapes, by two processes that are pinned to two CPUs: store buffering, message passing, Peterson's lock.
 * With locks or barriers the forbidden outcomes never occur. What the processor may do without them is counted and
 * printed: a host that runs the two one after the other shows none.
 */
#include "harness.h"

#include <stdatomic.h>

static unsigned rounds(void)
{
    const char *s = getenv("KSS_TEST_LITMUS");
    return s ? (unsigned)atoi(s) : 100000;
}

enum shape { SB_PLAIN, SB_BARRIER, SB_LOCK, MP_PLAIN, MP_LOCK, SHAPES };
static enum shape shape;
/* On lines of their own. */
static struct {
    _Atomic int value;
    char pad[60];
} x, y, r[2][2], go[2];
static struct kss_spinlock lock;
static unsigned forbidden, total;
static _Atomic bool broken;

#define RELAXED memory_order_relaxed

static void store_buffering(int me, bool barrier)
{
    _Atomic int *mine = me ? &y.value : &x.value, *other = me ? &x.value : &y.value;
    atomic_store_explicit(mine, 1, RELAXED);
    if (barrier)
        atomic_thread_fence(memory_order_seq_cst);
    atomic_store_explicit(&r[me][0].value, atomic_load_explicit(other, RELAXED), RELAXED);
}

static void message_passing(int me)
{
    if (me == 0) {
        atomic_store_explicit(&x.value, 1, RELAXED);
        atomic_store_explicit(&y.value, 1, RELAXED);
    } else {
        int flag = atomic_load_explicit(&y.value, RELAXED);
        atomic_store_explicit(&r[1][0].value, flag, RELAXED);
        atomic_store_explicit(&r[1][1].value, atomic_load_explicit(&x.value, RELAXED), RELAXED);
    }
}

/* Kernel mode, for the lock. */
static long locked(void *arg)
{
    int me = (int)(long)arg;
    bool on = kss_spin_lock(&lock);
    if (shape == SB_LOCK)
        store_buffering(me, false);
    else
        message_passing(me);
    kss_spin_unlock(&lock, on);
    return 0;
}

static void one(int me)
{
    if (shape == SB_LOCK || shape == MP_LOCK)
        in_kernel(locked, (void *)(long)me);
    else if (shape == MP_PLAIN)
        message_passing(me);
    else
        store_buffering(me, shape == SB_BARRIER);
}

/* Waits for the other to be there; off the CPU now and then, should the host not run it. */
static void meet(int me, int n)
{
    atomic_store(&go[me].value, n);
    for (unsigned spins = 0; atomic_load(&go[!me].value) < n && !broken; spins++)
        if (spins > 2000)
            kss_yield();
}

static bool saw_forbidden(void)
{
    if (shape == MP_PLAIN || shape == MP_LOCK)
        return r[1][0].value == 1 && r[1][1].value == 0;
    return r[0][0].value == 0 && r[1][0].value == 0;
}

static long player(void *arg)
{
    int me = (int)(long)arg;
    struct kss_cpumask cpu = kss_cpumask_of((unsigned)me);
    if (kss_setaffinity(0, &cpu) != 0)
        broken = true;
    for (int i = 0; i < (int)total && !broken; i++) {
        meet(me, 3 * i + 1);
        one(me);
        meet(me, 3 * i + 2);
        if (me == 0) {
            forbidden += saw_forbidden();
            x.value = y.value = 0;
        }
        meet(me, 3 * i + 3);
    }
    return 0;
}

static long two(void *arg)
{
    kss_user_fn fn = *(kss_user_fn *)arg;
    for (long i = 0; i < 2; i++)
        if (kss_spawn(fn, (void *)i, NULL) < 0)
            broken = true;
    while (kss_wait(-1, NULL) > 0)
        ;
    return broken;
}

static struct kss_config config(void)
{
    struct kss_config c = test_config();
    c.cpus = 2;
    c.tick_hz = 1000;
    c.timeslice_ns = 0;
    c.check_switches = false;
    return c;
}

START_TEST(shapes)
{
    static const char *const names[] = { "store buffering", "store buffering with barriers",
                                         "store buffering under a spinlock", "message passing",
                                         "message passing under a spinlock" };
    struct kss_config c = config();
    kss_user_fn fn = player;
    shape = (enum shape)_i;
    total = rounds();
    if (shape == SB_LOCK || shape == MP_LOCK)
        total /= 5;
    kss_spinlock_init(&lock, "litmus");
    ck_assert_int_eq(test_boot(&c, two, &fn), 0);
    printf("litmus: %s: %u of %u rounds with the outcome that order would forbid%s\n", names[_i], forbidden, total,
           shape == SB_PLAIN && !forbidden ? ": this host has shown none" : "");
    /* This processor keeps stores in order, and loads: message passing needs no barrier on it. */
    if (shape != SB_PLAIN)
        ck_assert_uint_eq(forbidden, 0);
}
END_TEST

/* ---- Peterson's lock ---------------------------------------------------------------------------------------- */

static struct {
    _Atomic int value;
    char pad[60];
} flag[2], turn, inside;
static bool with_barrier;
static _Atomic unsigned both;
static unsigned long counter; /* guarded by it */

static long peterson(void *arg)
{
    int me = (int)(long)arg;
    struct kss_cpumask cpu = kss_cpumask_of((unsigned)me);
    if (kss_setaffinity(0, &cpu) != 0)
        broken = true;
    for (unsigned i = 0; i < total; i++) {
        atomic_store_explicit(&flag[me].value, 1, RELAXED);
        atomic_store_explicit(&turn.value, !me, RELAXED);
        if (with_barrier)
            atomic_thread_fence(memory_order_seq_cst);
        for (unsigned spins = 0; atomic_load_explicit(&flag[!me].value, memory_order_acquire) &&
                                 atomic_load_explicit(&turn.value, memory_order_acquire) == !me; spins++)
            if (spins > 2000)
                kss_yield();
        if (atomic_fetch_add_explicit(&inside.value, 1, RELAXED))
            both++;
        __atomic_store_n(&counter, __atomic_load_n(&counter, __ATOMIC_RELAXED) + 1, __ATOMIC_RELAXED);
        atomic_fetch_sub_explicit(&inside.value, 1, RELAXED);
        atomic_store_explicit(&flag[me].value, 0, memory_order_release);
    }
    return 0;
}

START_TEST(petersons_lock)
{
    struct kss_config c = config();
    kss_user_fn fn = peterson;
    with_barrier = _i;
    total = rounds();
    ck_assert_int_eq(test_boot(&c, two, &fn), 0);
    printf("litmus: Peterson's lock %s its barrier: both inside %u times, %lu of %u counted\n",
           with_barrier ? "with" : "without", (unsigned)both, counter, 2 * total);
    if (with_barrier) {
        ck_assert_uint_eq(both, 0);
        ck_assert_uint_eq(counter, 2ul * total);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_smp_litmus");
    TCase *t = tcase_create("litmus");
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, shapes, 0, SHAPES);
    tcase_add_loop_test(t, petersons_lock, 0, 2);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

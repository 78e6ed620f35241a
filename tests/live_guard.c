/* SPDX-License-Identifier: MIT */
/* Stack protection: guards, canary and fence against every size of overflow; erase, randomise, quarantine. */
#define _GNU_SOURCE
#include "harness.h"

#include <sys/mman.h>

long smasher(long n);

static struct kss_wait_queue queue;
static bool woken;

static const struct kss_report *last(void)
{
    ck_assert_int_gt(report_count, 0);
    return &reports[(report_count - 1) % REPORTS];
}

/* Reports go round: the sweeps make thousands. */
static void keep_last(const struct kss_report *r, void *arg)
{
    (void)arg;
    reports[report_count++ % REPORTS] = *r;
}

static int run(struct kss_config *c, kss_user_fn fn, void *arg)
{
    c->on_report = keep_last;
    kss_wait_queue_init(&queue, "bystanders");
    return test_boot(c, fn, arg);
}

/* splitmix64, so that a failure can be repeated. */
static uint64_t state = 1;
static uint64_t draw(void)
{
    uint64_t z = state += 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/* ---- REQ K4 K7: every size of overflow, anywhere ------------------------------------------------------ */

struct overflow {
    size_t size;     /* bytes past the end of the stack, which is the end of the canary */
    bool whole;      /* all of them written from above, or only the last */
    struct kss_kstack_info stack;
};

static uintptr_t end_of_stack(const struct kss_kstack_info *k)
{
    return k->low + sizeof(struct kss_thread_info);
}

/* Changes each byte: a value that happens to be there already is no overflow. */
static void change(volatile unsigned char *p)
{
    *p = (unsigned char)~*p;
}

KEEP_FRAME static long overflows(void *arg)
{
    struct overflow *o = arg;
    if (kss_kstack_info(NULL, &o->stack) < 0)
        return -1;
    uintptr_t end = end_of_stack(&o->stack);
    if (!o->whole) {
        change((volatile unsigned char *)(end - o->size));
        return 0;
    }
    for (size_t i = 1; i <= o->size; i++)
        change((volatile unsigned char *)(end - i));
    return 0;
}

static long victim(void *arg)
{
    in_kernel(overflows, arg);
    kss_yield();
    return 0;
}

static long wait_for_release(void *arg)
{
    (void)arg;
    kss_wait_event(&queue, woken);
    return 0;
}

static long bystander_asleep(void *arg)
{
    return in_kernel(wait_for_release, arg);
}

static long release(void *arg)
{
    (void)arg;
    woken = true;
    return kss_wake_up(&queue, 0);
}

static long release_all(void)
{
    in_kernel(release, NULL);
    while (kss_wait(-1, NULL) > 0)
        ;
    return 0;
}

#define NEIGHBOURS 6
static struct saved {
    uintptr_t low;
    size_t size;
    unsigned char bytes[32768];
} saved[NEIGHBOURS];

/* Not by memcpy() and memcmp(), which a sanitizer looks into: there are live frames. */
READS_FRAMES static long save_stack(void *arg)
{
    struct saved *s = &saved[(long)arg / 1000000];
    struct kss_kstack_info k;
    struct kss_thread *t = kss_thread_find(kss_machine_current(), (int)((long)arg % 1000000));
    if (!t || kss_kstack_info(t, &k) < 0 || k.size > sizeof s->bytes)
        return -1;
    s->low = k.low;
    s->size = k.size;
    for (size_t i = 0; i < k.size; i++)
        s->bytes[i] = ((const volatile unsigned char *)k.low)[i];
    return 0;
}

READS_FRAMES static long stacks_unchanged(void *arg)
{
    (void)arg;
    for (int i = 0; i < NEIGHBOURS; i++)
        for (size_t b = 0; b < saved[i].size; b++)
            if (saved[i].bytes[b] != ((const volatile unsigned char *)saved[i].low)[b])
                return i + 1;
    return 0;
}

static bool caught(const struct overflow *o, long pid)
{
    const struct kss_report *r = last();
    size_t below = o->size - sizeof(struct kss_thread_info);
    if (r->tid != pid || r->stack != KSS_STACK_TASK || r->stack_low != o->stack.low)
        return false;
    if (r->kind == KSS_REPORT_STACK_CORRUPTED)
        return o->whole || o->size <= sizeof(struct kss_thread_info);
    if (o->size <= sizeof(struct kss_thread_info))
        return false;
    if (o->whole)
        below = 1; /* the first byte of the guard */
    return r->kind == KSS_REPORT_GUARD && r->near.below == below && r->near.tid == pid && !r->near.guess;
}

static long sweep(void *arg)
{
    static const size_t edges[] = { 1, 2, 7, 8, 9, 16, 39, 40, 41, 42, 4095, 4096, 4097, 32767, 32768, 65535, 65536 };
    int n = (int)(long)arg, status;
    long pids[NEIGHBOURS];
    for (long i = 0; i < NEIGHBOURS; i++) {
        pids[i] = kss_spawn(bystander_asleep, NULL, NULL);
        ck_assert_int_gt(pids[i], 0);
        test_wait_asleep(pids[i]);
    }
    for (long i = 0; i < NEIGHBOURS; i++) /* now that they are all linked to each other */
        ck_assert_int_eq(in_kernel(save_stack, (void *)(i * 1000000 + pids[i])), 0);
    for (int i = 0; i < n; i++) {
        static struct overflow o;
        int reports_before = report_count;
        o.size = i < 17 ? edges[i] : 1 + draw() % 65536;
        o.whole = draw() & 1;
        /* In thread_info, what is no canary: flags and the count of disabled preemptions may be anything. */
        if (!o.whole && o.size > 8 && o.size <= sizeof(struct kss_thread_info))
            o.whole = true;
        long pid = kss_spawn(victim, &o, NULL);
        ck_assert_int_gt(pid, 0);
        ck_assert_int_eq(kss_wait(pid, &status), pid);
        ck_assert_msg(KSS_WIFKILLED(status), "overflow of %zu bytes (%s): not noticed", o.size, o.whole ? "whole" : "one");
        ck_assert_msg(report_count > reports_before && caught(&o, pid), "overflow of %zu bytes (%s): %s", o.size,
                      o.whole ? "whole" : "one", last()->message);
        ck_assert_int_eq(in_kernel(stacks_unchanged, NULL), 0);
    }
    return release_all();
}

START_TEST(every_overflow_is_found) /* REQ K4 K7 */
{
    struct kss_config c = test_config();
    c.check_switches = false;
    state = 4711;
    c.kstack_quarantine = _i; /* slots are reused in another order, and opened anew */
    ck_assert_int_eq(run(&c, sweep, (void *)1000L), 0);
}
END_TEST

/* ---- narrow guards: the frame that leaps over -------------------------------------------------------- */

KEEP_FRAME static long leaps(void *arg)
{
    struct kss_kstack_info k;
    kss_kstack_info(NULL, &k);
    change((volatile unsigned char *)(k.low - (uintptr_t)arg));
    return 0;
}

static long leaper(void *arg)
{
    in_kernel(leaps, arg);
    return 0;
}

static long leap_main(void *arg)
{
    (void)arg;
    long first = kss_spawn(bystander_asleep, NULL, NULL); /* so that there is a stack below */
    test_wait_asleep(first);
    for (uintptr_t below = 4097; below <= 28672; below += 4093) {
        int status = 0, before = report_count;
        long pid = kss_spawn(leaper, (void *)below, NULL);
        ck_assert_int_eq(kss_wait(pid, &status), pid);
        ck_assert_int_eq(report_count, before + 1);
        ck_assert_int_eq(last()->kind, KSS_REPORT_STACK_OVERFLOW);
        ck_assert_uint_eq(last()->near.below, below);
        ck_assert_int_eq(last()->near.tid, pid);
        ck_assert(KSS_WIFKILLED(status));
    }
    return release_all();
}

START_TEST(leap_over_a_narrow_guard) /* REQ K7 */
{
    struct kss_config c = test_config();
    c.guard_size = 4096;
    ck_assert_int_eq(run(&c, leap_main, NULL), 0);
}
END_TEST

/* ---- what is left on the stack ------------------------------------------------------------------------ */

#define SECRET 0x5ec2e75ec2e75ec2ull

KEEP_FRAME static long leave_secret(void *arg)
{
    volatile uint64_t secret[256];
    for (int i = 0; i < 256; i++)
        secret[i] = SECRET;
    return (long)(secret[7] == SECRET) + (long)arg;
}

READS_FRAMES static long count_secrets(void *arg)
{
    struct kss_kstack_info k;
    long n = 0;
    kss_kstack_info(NULL, &k);
    for (uintptr_t p = k.low + sizeof(struct kss_thread_info); p < (uintptr_t)__builtin_frame_address(0); p += 8)
        n += *(volatile uint64_t *)p == SECRET;
    return n + (long)arg;
}

static long secrets_main(void *arg)
{
    struct kss_thread_info_snapshot s[16];
    (void)arg;
    (void)s;
    ck_assert_int_eq(in_kernel(leave_secret, NULL), 1);
    return in_kernel(count_secrets, NULL) > 100;
}

START_TEST(erase_on_return) /* REQ K11 */
{
    struct kss_config c = test_config();
    c.kstack_erase = _i;
    ck_assert_int_eq(run(&c, secrets_main, NULL), _i ? 0 : 1 << 8);
    c.poison = false;
    struct kss_machine *m = NULL;
    if (_i)
        ck_assert_int_eq(kss_machine_create(&m, &c), -EINVAL);
}
END_TEST

static long where_is_the_frame(void *arg)
{
    struct kss_kstack_info k;
    (void)arg;
    kss_kstack_info(NULL, &k);
    return (long)(k.high - k.user_frame);
}

static long random_main(void *arg)
{
    long first = in_kernel(where_is_the_frame, arg), different = 0, far = 0;
    for (int i = 0; i < 300; i++) {
        long now = in_kernel(where_is_the_frame, arg);
        ck_assert_int_eq(now % 64, first % 64);
        different += now != first;
        far = now > far ? now : far;
        if (i % 10 == 0)
            kss_yield();
    }
    return different > 200 && far <= (long)kss_trap_frame_size() + 64 + 1024 ? 0 : 1;
}

START_TEST(offset_randomised)
{
    struct kss_config c = test_config();
    c.kstack_randomize = true;
    c.tick_hz = 5000;
    c.timeslice_ns = 0;
    ck_assert_int_eq(run(&c, random_main, NULL), 0);
}
END_TEST

/* ---- use after reap --------------------------------------------------------------------------------------- */

static uintptr_t reaped_low;

static long note_low(void *arg)
{
    struct kss_kstack_info k;
    (void)arg;
    kss_kstack_info(NULL, &k);
    reaped_low = k.high - 64;
    return 0;
}

static long short_lived(void *arg)
{
    return in_kernel(note_low, arg);
}

KEEP_FRAME static long touch_reaped(void *arg)
{
    (void)arg;
    return *(volatile long *)reaped_low;
}

static long touches(void *arg)
{
    return in_kernel(touch_reaped, arg);
}

static long reap_main(void *arg)
{
    int status = 0;
    (void)arg;
    long gone = kss_spawn(short_lived, NULL, NULL);
    ck_assert_int_eq(kss_wait(gone, NULL), gone);
    /* Its stack is the first to be used again: another one takes it, and is reaped too. */
    long again = kss_spawn(short_lived, NULL, NULL);
    ck_assert_int_eq(kss_wait(again, NULL), again);
    long asleep = kss_spawn(bystander_asleep, NULL, &(struct kss_spawn_attr){ .name = "other", .kstack_size = 65536 });
    ck_assert_int_gt(asleep, 0);
    long pid = kss_spawn(touches, NULL, &(struct kss_spawn_attr){ .kstack_size = 65536 });
    ck_assert_int_eq(kss_wait(pid, &status), pid);
    ck_assert(KSS_WIFKILLED(status));
    ck_assert_int_eq(last()->kind, KSS_REPORT_FREED_STACK);
    ck_assert(last()->near.freed);
    ck_assert_int_eq(last()->near.tid, again);
    ck_assert_str_eq(last()->symbol, "touch_reaped");
    char name[64];
    snprintf(name, sizeof name, "the freed stack of thread %ld", again);
    ck_assert_msg(strstr(last()->message, name) != NULL, "%s", last()->message);
    return release_all();
}

START_TEST(use_after_reap) /* REQ K11 */
{
    struct kss_config c = test_config();
    c.kstack_quarantine = true;
    c.kstack_cache = _i ? 64 : 0;
    ck_assert_int_eq(run(&c, reap_main, NULL), 0);
    ck_assert_int_eq(report_count, 1);
}
END_TEST

/* ---- the compiler's stack protector ----------------------------------------------------------------------- */

static long smash_in_kernel(void *arg)
{
    return smasher((long)arg);
}

static long smash(void *arg)
{
    /* The canary behind 16 bytes, but not as far as the guard: there is little above these frames. */
    return arg ? in_kernel(smash_in_kernel, (void *)40L) : smasher(40);
}

static long smash_main(void *arg)
{
    (void)arg;
    for (long kernel = 0; kernel < 2; kernel++) {
        int status = 0;
        long pid = kss_spawn(smash, (void *)kernel, NULL);
        ck_assert_int_eq(kss_wait(pid, &status), pid);
        ck_assert(KSS_WIFKILLED(status));
        ck_assert_int_eq(last()->kind, KSS_REPORT_STACK_PROTECTOR);
        ck_assert_str_eq(last()->place.symbol, "smasher");
        ck_assert_ptr_nonnull(strstr(last()->message, kernel ? "smasher() in kernel mode" : "smasher() in user mode"));
        ck_assert_int_eq(last()->tid, pid);
    }
    return 0;
}

START_TEST(stack_protector)
{
    struct kss_config c = test_config();
    ck_assert_int_eq(run(&c, smash_main, NULL), 0);
    ck_assert_int_eq(report_count, 2);
}
END_TEST

/* ---- a fault in the double fault's handler ------------------------------------------------------------------ */

static void bad_double_fault_handler(struct kss_trap_frame *tf, void *arg)
{
    (void)tf;
    *(volatile int *)arg = 1;
}

KEEP_FRAME static long recurse(void *arg)
{
    volatile char frame[512];
    frame[0] = 1;
    return (arg ? 0 : recurse(arg)) + frame[0];
}

static long triple_main(void *arg)
{
    return in_kernel(recurse, arg);
}

START_TEST(triple_fault) /* REQ K6 */
{
    struct kss_config c = test_config();
    struct kss_gate gate = { bad_double_fault_handler, (void *)0x10, KSS_GATE_INTERRUPT, KSS_PRIV_KERNEL, 1 };
    c.on_report = keep_last;
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(kss_vector_set(m, KSS_VEC_DOUBLE_FAULT, &gate), 0);
    ck_assert_int_eq(kss_machine_run(m, triple_main, NULL, NULL), -EFAULT);
    ck_assert_int_eq(report_count, 1);
    ck_assert_int_eq(last()->kind, KSS_REPORT_TRIPLE_FAULT);
    ck_assert_str_eq(last()->place.symbol, "bad_double_fault_handler");
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}
END_TEST

/* ---- policies, and the state setter --------------------------------------------------------------------------- */

static long bad_thread(void *arg)
{
    *(volatile int *)arg = 1;
    return 0;
}

static long policy_main(void *arg)
{
    (void)arg;
    long value = 0;
    long tid = kss_thread_create(bad_thread, (void *)0x10, NULL);
    ck_assert_int_gt(tid, 0);
    ck_assert_int_eq(kss_thread_join(tid, &value), 0); /* the process lives on */
    return 0;
}

START_TEST(policy)
{
    struct kss_config c = test_config();
    struct kss_machine *m = NULL;
    c.policy[KSS_REPORT_USER_FAULT] = KSS_ACTION_KILL_THREAD;
    ck_assert_int_eq(run(&c, policy_main, NULL), 0);
    ck_assert_int_eq(last()->action, KSS_ACTION_KILL_THREAD);
    c.policy[KSS_REPORT_USER_FAULT] = KSS_ACTION_CONTINUE;
    ck_assert_int_eq(kss_machine_create(&m, &c), -EINVAL);
    ck_assert_ptr_nonnull(strstr(kss_last_error(), "exception in user mode is 1 (run on): allowed are the default, "
                                                   "kill the thread"));
    c.policy[KSS_REPORT_USER_FAULT] = (enum kss_report_action)77;
    ck_assert_int_eq(kss_machine_create(&m, &c), -EINVAL);
}
END_TEST

static long transitions(void *arg)
{
    static const enum kss_thread_state bad[] = { KSS_THREAD_NEW, KSS_THREAD_READY, KSS_THREAD_ZOMBIE, KSS_THREAD_DEAD,
                                                 (enum kss_thread_state)99 };
    struct kss_thread *other = kss_thread_find(kss_machine_current(), (int)(long)arg);
    for (size_t i = 0; i < 5; i++) {
        ck_assert_int_eq(kss_thread_set_state(kss_current(), bad[i]), -EINVAL);
        ck_assert_int_eq(last()->kind, KSS_REPORT_BAD_TRANSITION);
    }
    ck_assert_int_eq(kss_thread_set_state(kss_current(), KSS_THREAD_SLEEPING), 0);
    ck_assert_int_eq(kss_thread_set_state(kss_current(), KSS_THREAD_RUNNING), 0);
    ck_assert_int_eq(kss_thread_set_state(kss_current(), KSS_THREAD_RUNNING), 0); /* a wake-up may have done it */
    ck_assert_int_eq(kss_thread_set_state(other, KSS_THREAD_READY), 0);       /* wakes it */
    ck_assert_int_eq(kss_thread_set_state(other, KSS_THREAD_READY), -EINVAL); /* twice */
    ck_assert_int_eq(kss_thread_set_state(other, KSS_THREAD_SLEEPING), -EINVAL);
    ck_assert_str_eq(last()->symbol, "transitions");
    ck_assert_ptr_nonnull(strstr(last()->message, "READY -> SLEEPING"));
    ck_assert_int_eq(report_count, 7);
    return 0;
}

static long wait_here(void *arg)
{
    (void)arg;
    struct kss_waiter w = { 0 };
    kss_wait_prepare(&queue, &w);
    kss_wait_sleep();
    kss_wait_finish(&w);
    woken = true;
    return 0;
}

static long waits(void *arg)
{
    return in_kernel(wait_here, arg);
}

static long transition_main(void *arg)
{
    (void)arg;
    long pid = kss_spawn(waits, NULL, NULL);
    test_wait_asleep(pid);
    in_kernel(transitions, (void *)pid);
    ck_assert_int_eq(kss_wait(pid, NULL), pid);
    ck_assert(woken);
    return 0;
}

START_TEST(state_setter_refuses)
{
    struct kss_config c = test_config();
    c.cpus = 1;
    c.tick_hz = 1; /* nobody runs between the two wake-ups */
    kss_wait_queue_init(&queue, "here");
    ck_assert_int_eq(run(&c, transition_main, NULL), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_guard");
    TCase *c = tcase_create("guard");
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, every_overflow_is_found, 0, 2);
    tcase_add_test(c, leap_over_a_narrow_guard);
    tcase_add_loop_test(c, erase_on_return, 0, 2);
    tcase_add_test(c, offset_randomised);
    tcase_add_loop_test(c, use_after_reap, 0, 2);
    tcase_add_test(c, stack_protector);
    tcase_add_test(c, triple_fault);
    tcase_add_test(c, policy);
    tcase_add_test(c, state_setter_refuses);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return test_main(suite);
}

/* SPDX-License-Identifier: MIT */
/* The kernel stack: where things lie, isolation, sizes, guards, canary, depth, reuse. */
#define _GNU_SOURCE
#include "harness.h"

#include <alloca.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

/* ---- REQ K1: what is saved, and where ----------------------------------------------------------- */

static uintptr_t isr_local, isr_frame_user;
static int isr_runs;

static void k1_isr(unsigned line, void *arg)
{
    volatile int local = 1;
    (void)arg;
    ck_assert(test_on_kernel_stack((uintptr_t)&local));
    struct kss_kstack_info k;
    ck_assert_int_eq(kss_kstack_info(NULL, &k), 0);
    isr_frame_user = k.user_frame;
    isr_local = (uintptr_t)&local;
    isr_runs++;
    ck_assert_int_eq(kss_irq_eoi(line), 0);
}

static long k1_syscall(void *arg)
{
    volatile int local = 2;
    struct kss_kstack_info k;
    (void)arg;
    ck_assert(test_on_kernel_stack((uintptr_t)&local));
    ck_assert_int_eq(kss_kstack_info(NULL, &k), 0);
    ck_assert(k.user_frame < k.high && k.user_frame > (uintptr_t)&local);
    ck_assert_uint_eq(k.trap_frames, 1);
    struct kss_trap_frame *tf = (struct kss_trap_frame *)k.user_frame;
    ck_assert_uint_eq(tf->magic, KSS_TRAP_FRAME_MAGIC);
    ck_assert_int_eq(tf->mode, KSS_MODE_USER);
    /* the user's stack pointer, counter and status are in the frame */
    ck_assert_uint_ne(kss_trap_pc(tf), 0);
    ck_assert(!test_on_kernel_stack(kss_trap_sp(tf)));
    ck_assert_uint_ne(kss_trap_flags(tf) & 2, 0);
    kss_irq_raise(kss_machine_current(), 0, 40); /* taken right here, on this stack */
    ck_assert(isr_local < (uintptr_t)&local && isr_local > k.low);
    ck_assert_uint_eq(isr_frame_user, k.user_frame);
    return 0;
}

static long k1_main(void *arg)
{
    /* what lies below this frame on the user stack stays as it is over a system call's kernel work */
    volatile unsigned char *below = (unsigned char *)__builtin_frame_address(0) - 8192;
    (void)arg;
    memset((void *)below, 0x5a, 4096);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(in_kernel(k1_syscall, NULL), 0);
    for (int i = 0; i < 4096; i++)
        ck_assert_uint_eq(below[i], 0x5a);
    return 0;
}

START_TEST(frames_and_locals_on_the_kernel_stack) /* REQ K1 */
{
    struct kss_config c = test_config();
    c.cpus = 1; /* the line is raised where this runs */
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(kss_irq_request(m, 40, k1_isr, NULL, "k1"), 0);
    ck_assert_int_eq(test_run(m, k1_main, NULL), 0);
    ck_assert_int_eq(isr_runs, 100);
    kss_machine_destroy(m);
}
END_TEST

/* ---- REQ K2: frames of a blocked thread ------------------------------------------------------------ */

static struct kss_wait_queue k2_queue;
static _Atomic bool k2_go;

KEEP_FRAME static long k2_inner(void *arg)
{
    volatile char room[200];
    room[0] = arg != NULL;
    kss_wait_event(&k2_queue, k2_go);
    return room[0];
}

KEEP_FRAME static long k2_outer(void *arg)
{
    volatile long r = k2_inner(arg);
    return r;
}

static long k2_sleeper(void *arg)
{
    return in_kernel(k2_outer, arg);
}

static long k2_look(void *arg)
{
    struct kss_frame f[32];
    struct kss_thread *t = kss_thread_find(kss_machine_current(), (int)(long)arg);
    ck_assert_ptr_nonnull(t);
    int n = kss_backtrace(t, f, 32), inner = -1, outer = -1, trap = -1, user = -1;
    for (int i = 0; i < n; i++) {
        if (!strcmp(f[i].symbol, "k2_inner"))
            inner = i;
        if (!strcmp(f[i].symbol, "k2_outer"))
            outer = i;
        if (f[i].kind == KSS_FRAME_TRAP)
            trap = i;
        if (!strcmp(f[i].symbol, "k2_sleeper"))
            user = i;
    }
    ck_assert_msg(inner >= 0 && outer == inner + 1 && trap > outer && user > trap,
                  "frames: inner %d, outer %d, trap %d, user %d of %d", inner, outer, trap, user, n);
    ck_assert_uint_ge(f[inner].size, 200);
    ck_assert_uint_gt(f[inner].offset, 0);
    ck_assert_int_eq(f[inner].kind, KSS_FRAME_KERNEL);
    ck_assert_int_eq(f[user].kind, KSS_FRAME_USER);
    ck_assert_str_eq(f[n - 1].symbol, "kssi_user_start");
    /* sizes add up: each frame's caller is where it ends */
    for (int i = 0; i + 1 < trap; i++)
        ck_assert_uint_eq(f[i].sp + f[i].size, f[i + 1].sp);
    char picture[8192];
    ck_assert_int_gt(kss_kstack_draw(t, picture, sizeof picture), 500);
    ck_assert_ptr_nonnull(strstr(picture, "k2_inner+"));
    ck_assert_ptr_nonnull(strstr(picture, "canary, intact"));
    k2_go = true;
    kss_wake_up(&k2_queue, 0);
    return 0;
}

static long k2_main(void *arg)
{
    (void)arg;
    kss_wait_queue_init(&k2_queue, "k2");
    long pid = kss_spawn(k2_sleeper, NULL, NULL);
    test_wait_asleep(pid);
    ck_assert_int_eq(in_kernel(k2_look, (void *)pid), 0);
    return kss_wait(pid, NULL) != pid;
}

START_TEST(backtrace_of_a_blocked_thread) /* REQ K2 */
{
    struct kss_config c = test_config();
    ck_assert_int_eq(test_boot(&c, k2_main, NULL), 0);
}
END_TEST

/* ---- REQ K4 K6: overflow is caught, neighbours unchanged --------------------------------------------- */

KEEP_FRAME static long recurse(long depth)
{
    volatile char frame[256];
    frame[0] = (char)depth;
    frame[255] = (char)depth;
    return depth <= 0 ? 0 : 1 + recurse(depth - 1) + (frame[0] - frame[255]);
}

static long recurse_in_kernel(void *arg)
{
    return recurse((long)arg);
}

static long overflower(void *arg)
{
    return in_kernel(recurse_in_kernel, arg) == (long)arg ? 0 : 1;
}

static _Atomic bool neighbour_stop;
static unsigned long sums[2];

/* Suspended work on a kernel stack, with a pattern that must not change. */
static long neighbour_work(void *arg)
{
    volatile unsigned char pattern[4096];
    unsigned seed = (unsigned)(long)arg;
    for (unsigned i = 0; i < sizeof pattern; i++)
        pattern[i] = (unsigned char)(seed + i * 7);
    while (!neighbour_stop)
        kss_reschedule();
    unsigned long bad = 0;
    for (unsigned i = 0; i < sizeof pattern; i++)
        bad += pattern[i] != (unsigned char)(seed + i * 7);
    return (long)bad;
}

static long neighbour(void *arg)
{
    return in_kernel(neighbour_work, arg);
}

static long k4_main(void *arg)
{
    int status = 0;
    (void)arg;
    long left = kss_spawn(neighbour, (void *)3L, NULL);
    kss_sleep(2000000);
    long victim = kss_spawn(overflower, (void *)100000L, NULL);
    long right = kss_spawn(neighbour, (void *)5L, NULL);
    ck_assert_int_eq(kss_wait(victim, &status), victim);
    ck_assert(KSS_WIFKILLED(status));
    ck_assert_int_eq(KSS_WVECTOR(status), KSS_VEC_DOUBLE_FAULT);
    neighbour_stop = true;
    ck_assert_int_eq(kss_wait(left, &status), left);
    ck_assert_int_eq(status, 0);
    ck_assert_int_eq(kss_wait(right, &status), right);
    ck_assert_int_eq(status, 0);
    return (long)sums[0];
}

START_TEST(overflow_leaves_neighbours_alone) /* REQ K4 */
{
    struct kss_config c = test_config();
    ck_assert_int_eq(test_boot(&c, k4_main, NULL), 0);
    ck_assert_int_eq(report_count, 1);
    ck_assert_int_eq(reports[0].kind, KSS_REPORT_STACK_OVERFLOW);
    ck_assert_str_eq(reports[0].symbol, "recurse");
    ck_assert_int_eq(reports[0].action, KSS_ACTION_KILL_PROCESS);
    ck_assert_uint_le(reports[0].sp, reports[0].stack_low + 8192);
}
END_TEST

/* Finds the deepest recursion that returns; every deeper one must be a caught overflow. */
static long k6_main(void *arg)
{
    long good = 0, bad = 4096;
    (void)arg;
    while (bad - good > 1) {
        long mid = (good + bad) / 2;
        int status = 0;
        long pid = kss_spawn(overflower, (void *)mid, NULL);
        ck_assert_int_eq(kss_wait(pid, &status), pid);
        if (status == 0)
            good = mid;
        else {
            ck_assert_msg(KSS_WIFKILLED(status), "depth %ld: status %#x", mid, status);
            bad = mid;
        }
    }
    ck_assert_int_gt(good, 40); /* 32 KiB, frames of some 300 bytes */
    ck_assert_int_lt(good, 120);
    for (int i = 0; i < 20; i++) { /* and it stays so, on reused stacks */
        int status = 0;
        long pid = kss_spawn(overflower, (void *)(good - 4 + (i & 1) * 40), NULL);
        ck_assert_int_eq(kss_wait(pid, &status), pid);
        ck_assert_msg((i & 1) ? KSS_WIFKILLED(status) : status == 0, "%ld: %#x", good, status);
    }
    return 0;
}

START_TEST(recursion_to_the_limit) /* REQ K6 */
{
    struct kss_config c = test_config();
    c.tick_hz = 100; /* a tick near the end needs room for its frame: depth depends on it */
    ck_assert_int_eq(test_boot(&c, k6_main, NULL), 0);
    for (int i = 0; i < report_count && i < REPORTS; i++)
        ck_assert_int_eq(reports[i].kind, KSS_REPORT_STACK_OVERFLOW);
}
END_TEST

/* ---- REQ K5: sizes --------------------------------------------------------------------------------- */

START_TEST(size_sweep) /* REQ K5 */
{
    size_t min = kss_kstack_min_size();
    int overflows = 0;
    size_t bytes = 0;
    /* The least size is for the library as it is: AddressSanitizer's snprintf() alone takes 2 KiB more. */
    for (size_t size = KSS_TEST_ASAN ? 2 * min : min; size <= 262144; size *= 2) {
        struct kss_config c = test_config();
        c.kstack_size = size;
        c.kstack_max = size;
        c.tick_hz = 100;
        struct kss_machine *m = test_machine(&c);
        report_count = 0;
        /* Needs some 48 KiB, and half as much again with a sanitizer. */
        int status = test_run(m, overflower, (void *)(KSS_TEST_ASAN ? 100L : 150L));
        struct kss_machine_stats s;
        ck_assert_int_eq(kss_machine_stats(m, &s), 0);
        ck_assert_int_eq(KSS_WIFKILLED(status), size < 65536);
        ck_assert_int_eq(report_count, size < 65536);
        overflows += report_count;
        ck_assert_uint_gt(s.kstack_bytes, bytes); /* the price of a larger size */
        bytes = size > 65536 ? s.kstack_bytes : 0;
        kss_machine_destroy(m);
    }
    ck_assert_int_ge(overflows, 2);
    struct kss_config c = test_config();
    struct kss_machine *m;
    char least[32];
    c.kstack_size = min / 2;
    ck_assert_int_eq(kss_machine_create(&m, &c), -EINVAL);
    snprintf(least, sizeof least, "%zu", min);
    ck_assert_ptr_nonnull(strstr(kss_last_error(), "kstack_size"));
    ck_assert_ptr_nonnull(strstr(kss_last_error(), least));
}
END_TEST

static long k5_size(void *arg)
{
    struct kss_kstack_info k;
    (void)arg;
    ck_assert_int_eq(kss_kstack_info(NULL, &k), 0);
    ck_assert_uint_eq(k.low & (k.size - 1), 0);
    return (long)k.size;
}

static long k5_child(void *arg)
{
    return in_kernel(k5_size, NULL) != (long)arg;
}

static long k5_main(void *arg)
{
    (void)arg;
    for (size_t size = kss_kstack_min_size(); size <= 65536; size *= 2) {
        struct kss_spawn_attr a = { .kstack_size = size };
        int status = 1;
        long pid = kss_spawn(k5_child, (void *)size, &a);
        ck_assert_int_gt(pid, 0);
        kss_wait(pid, &status);
        ck_assert_int_eq(status, 0);
    }
    struct kss_spawn_attr bad = { .kstack_size = 131072 };
    ck_assert_int_eq(kss_spawn(k5_child, NULL, &bad), -EINVAL);
    ck_assert_ptr_nonnull(strstr(kss_last_error(), "131072"));
    return 0;
}

START_TEST(size_per_thread) /* REQ K5 */
{
    struct kss_config c = test_config();
    ck_assert_int_eq(test_boot(&c, k5_main, NULL), 0);
}
END_TEST

/* ---- REQ K7: guards and canaries ---------------------------------------------------------------------- */

static long touch_below(void *arg)
{
    struct kss_kstack_info k;
    (void)arg;
    kss_kstack_info(NULL, &k);
    return *(volatile char *)(k.low - 1);
}

static long touch_above(void *arg)
{
    struct kss_kstack_info k;
    (void)arg;
    kss_kstack_info(NULL, &k);
    return *(volatile char *)k.high;
}

static long smash_canary(void *arg)
{
    struct kss_kstack_info k;
    (void)arg;
    kss_kstack_info(NULL, &k);
    ((struct kss_thread_info *)k.low)->canary ^= 1;
    return 0;
}

static long (*const guard_jobs[])(void *) = { touch_below, touch_above, smash_canary };

static long k7_child(void *arg)
{
    in_kernel(guard_jobs[(long)arg], NULL);
    kss_getpid(); /* the canary is looked at on entry */
    return 0;
}

static long get_canary(void *arg)
{
    struct kss_kstack_info k;
    kss_kstack_info(NULL, &k);
    *(uint64_t *)arg = ((struct kss_thread_info *)k.low)->canary;
    return 0;
}

static uint64_t canaries[16];

static long k7_canary(void *arg)
{
    return in_kernel(get_canary, arg);
}

static long k7_main(void *arg)
{
    (void)arg;
    for (long job = 0; job < 3; job++) {
        int status = 0;
        long pid = kss_spawn(k7_child, (void *)job, NULL);
        ck_assert_int_eq(kss_wait(pid, &status), pid);
        ck_assert_msg(KSS_WIFKILLED(status), "job %ld: status %#x", job, status);
    }
    for (int i = 0; i < 16; i++)
        ck_assert_int_gt(kss_spawn(k7_canary, &canaries[i], NULL), 0);
    while (kss_wait(-1, NULL) > 0)
        ;
    return 0;
}

START_TEST(guards_and_canary_trip) /* REQ K7 */
{
    struct kss_config c = test_config();
    c.check_switches = false; /* the smashed canary is to be found on entry */
    ck_assert_int_eq(test_boot(&c, k7_main, NULL), 0);
    ck_assert_int_eq(report_count, 3);
    ck_assert_int_eq(reports[0].kind, KSS_REPORT_GUARD);
    ck_assert_ptr_nonnull(strstr(reports[0].message, "1 byte below the low end of the kernel stack"));
    ck_assert_str_eq(reports[0].symbol, "touch_below");
    ck_assert_int_eq(reports[1].kind, KSS_REPORT_GUARD);
    ck_assert_ptr_nonnull(strstr(reports[1].message, "1 byte above the high end of the kernel stack"));
    ck_assert_int_eq(reports[2].kind, KSS_REPORT_STACK_CORRUPTED);
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < i; j++)
            ck_assert_uint_ne(canaries[i], canaries[j]);
}
END_TEST

static long trailing_child(void *arg)
{
    in_kernel(guard_jobs[(long)arg], NULL);
    return 5;
}

static long trailing_main(void *arg)
{
    int status = 0;
    (void)arg;
    kss_wait(kss_spawn(trailing_child, (void *)1L, NULL), &status); /* above: still guarded */
    ck_assert(KSS_WIFKILLED(status));
    kss_wait(kss_spawn(trailing_child, (void *)0L, NULL), &status); /* below: not with this policy */
    ck_assert_int_eq(KSS_WEXITSTATUS(status), 5);
    return 0;
}

START_TEST(trailing_guards_only) /* REQ K7 */
{
    struct kss_config c = test_config();
    c.guards = KSS_GUARDS_TRAILING;
    ck_assert_int_eq(test_boot(&c, trailing_main, NULL), 0);
}
END_TEST

/* ---- REQ K10: depth and high-water mark, exact -------------------------------------------------------- */

static size_t depths[3];

KEEP_FRAME static void use(size_t n)
{
    volatile char *room = alloca(n);
    struct kss_kstack_info k;
    memset((void *)room, 1, n);
    kss_kstack_info(NULL, &k);
    depths[0] = k.depth;
    depths[1] = k.high - (uintptr_t)room;
    depths[2] = k.high_water;
}

static long k10_kernel(void *arg)
{
    struct kss_kstack_info before, after;
    (void)arg;
    kss_kstack_info(NULL, &before);
    use(9000);
    kss_kstack_info(NULL, &after);
    ck_assert_uint_ge(depths[1], before.depth + 9000);
    ck_assert_uint_lt(depths[1], before.depth + 9500);
    ck_assert_uint_ge(depths[2], depths[1]); /* the deepest byte written is counted */
    ck_assert_uint_eq(after.depth, before.depth);
    ck_assert_uint_ge(after.high_water, depths[1]);
    /* a single word deeper moves the mark exactly there */
    uintptr_t deeper = (after.high - after.high_water) - 512;
    *(volatile uint64_t *)deeper = 1;
    kss_kstack_info(NULL, &after);
    ck_assert_uint_eq(after.high_water, after.high - deeper);
    return 0;
}

static long k10_main(void *arg)
{
    return in_kernel(k10_kernel, arg);
}

START_TEST(depth_and_high_water_mark) /* REQ K10 */
{
    struct kss_config c = test_config();
    c.tick_hz = 1; /* an interrupt here would move the mark */
    ck_assert_int_eq(test_boot(&c, k10_main, NULL), 0);
}
END_TEST

/* ---- REQ K11: at first entry; the cache; nothing readable left ------------------------------------------ */

static int stacks_of(struct kss_machine *m, long pid)
{
    struct kss_thread_info_snapshot s[16];
    int n = kss_threads(m, s, 16);
    for (int i = 0; i < n && i < 16; i++)
        if (s[i].tid == pid)
            return s[i].kstack_size != 0;
    return -1;
}

static long k11_has_stack(void *arg)
{
    return stacks_of(kss_machine_current(), (long)arg);
}

static long k11_child(void *arg)
{
    (void)arg;
    return kss_getpid() == kss_gettid() ? 0 : 1;
}

static long k11_lazy(void *arg)
{
    struct kss_spawn_attr low = { .priority = 1 };
    (void)arg;
    long pid = kss_spawn(k11_child, NULL, &low);
    ck_assert_int_eq(in_kernel(k11_has_stack, (void *)pid), 0); /* not yet: it has not run */
    while (in_kernel(k11_has_stack, (void *)pid) != 1) /* it runs while this one sleeps, and gets one */
        kss_sleep(1);
    return kss_wait(pid, NULL) != pid;
}

START_TEST(stack_at_first_entry) /* REQ K11 */
{
    struct kss_config c = test_config();
    c.kstack_alloc = KSS_KSTACK_AT_FIRST_ENTRY;
    c.sched = &kss_sched_priority;
    c.tick_hz = 1000;
    ck_assert_int_eq(test_boot(&c, k11_lazy, NULL), 0);
}
END_TEST

static const char secret[] = "the former owner's secret";

static long leave_secret(void *arg)
{
    volatile char deep[6000];
    (void)arg;
    for (size_t i = 0; i + sizeof secret < sizeof deep; i += sizeof secret)
        memcpy((void *)(deep + i), secret, sizeof secret);
    return deep[0] == 0;
}

READS_FRAMES static long search_secret(void *arg)
{
    struct kss_kstack_info k;
    (void)arg;
    kss_kstack_info(NULL, &k);
    /* An interrupt would save the register that holds what is searched for on this very stack. */
    bool on = kss_irq_save();
    uintptr_t here = (uintptr_t)__builtin_frame_address(0) - 512;
    long found = 0;
    for (uintptr_t p = k.low; p + 8 < here; p++) {
        int i = 0;
        while (i < 8 && ((const char *)p)[i] == secret[i]) /* memcmp() would keep what it reads on this stack */
            i++;
        found |= i == 8;
    }
    kss_irq_restore(on);
    return found;
}

static long k11_leaver(void *arg)
{
    return in_kernel(leave_secret, arg);
}

static long k11_searcher(void *arg)
{
    return in_kernel(search_secret, arg);
}

static long k11_reuse(void *arg)
{
    struct kss_machine_stats s;
    int status = 1;
    (void)arg;
    for (int i = 0; i < 50; i++) {
        kss_wait(kss_spawn(k11_leaver, NULL, NULL), &status);
        ck_assert_int_eq(status, 0);
        kss_wait(kss_spawn(k11_searcher, NULL, NULL), &status);
        ck_assert_int_eq(status, 0);
    }
    kss_machine_stats(kss_machine_current(), &s);
    ck_assert_uint_ge(s.kstack_cache_hits, 99); /* one miss at most: the first */
    return 0;
}

START_TEST(reused_stack_is_clean) /* REQ K11 */
{
    struct kss_config c = test_config();
    c.poison = _i & 1;
    ck_assert_int_eq(test_boot(&c, k11_reuse, NULL), 0);
}
END_TEST

/* ---- REQ C2: from the process's own memory map ----------------------------------------------------------- */

static bool readable(uintptr_t address)
{
    char byte;
    struct iovec to = { &byte, 1 }, from = { (void *)address, 1 };
    return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1;
}

static long c2_kernel(void *arg)
{
    struct kss_kstack_info k;
    char line[512];
    bool found = false;
    (void)arg;
    kss_kstack_info(NULL, &k);
    FILE *maps = fopen("/proc/self/maps", "r");
    ck_assert_ptr_nonnull(maps);
    while (fgets(line, sizeof line, maps)) {
        unsigned long low, high, inode;
        char mode[8];
        if (sscanf(line, "%lx-%lx %7s %*s %*s %lu", &low, &high, mode, &inode) == 4 && low <= k.low && high >= k.high)
            found = strcmp(mode, "rw-p") == 0 && inode == 0; /* private, anonymous, not executable */
    }
    fclose(maps);
    ck_assert(found);
    ck_assert(readable(k.low) && readable(k.high - 1));
    for (size_t i = 1; i <= k.guard_low; i += 4096)
        ck_assert(!readable(k.low - i));
    for (size_t i = 0; i < k.guard_high; i += 4096)
        ck_assert(!readable(k.high + i));
    ck_assert_uint_ge(k.guard_low, 4096);
    ck_assert_uint_ge(k.guard_high, 4096);
    return 0;
}

static long c2_main(void *arg)
{
    return in_kernel(c2_kernel, arg);
}

START_TEST(stacks_are_mapped_and_guarded) /* REQ C2 */
{
    struct kss_config c = test_config();
    ck_assert_int_eq(test_boot(&c, c2_main, NULL), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_stack");
    TCase *t = tcase_create("stack");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, frames_and_locals_on_the_kernel_stack);
    tcase_add_test(t, backtrace_of_a_blocked_thread);
    tcase_add_test(t, overflow_leaves_neighbours_alone);
    tcase_add_test(t, recursion_to_the_limit);
    tcase_add_test(t, size_sweep);
    tcase_add_test(t, size_per_thread);
    tcase_add_test(t, guards_and_canary_trip);
    tcase_add_test(t, trailing_guards_only);
    tcase_add_test(t, depth_and_high_water_mark);
    tcase_add_test(t, stack_at_first_entry);
    tcase_add_loop_test(t, reused_stack_is_clean, 0, 2);
    tcase_add_test(t, stacks_are_mapped_and_guarded);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

/* SPDX-License-Identifier: MIT */
/* Every public function (every.def), with every kind of bad handle, from everywhere: it returns, says what was
   wrong, or is refused with a report; it never crashes the host and never hangs. */
#define _GNU_SOURCE
#include "errors.h"

#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>

struct args {
    struct kss_machine *m;
    struct kss_thread *t;
    struct kss_trap_frame *tf;
    struct kss_spinlock *lock;
    struct kss_rwlock *rwlock;
    struct kss_seqlock *seqlock;
    unsigned u;
    int i;
    uint64_t q;
};

enum { M = 1, T = 2, F = 4, NEG = 8, QUIET = 16, ANY = 32, CALL = 64, SLEEPS = 128, PREPARES = 256, ELSEWHERE = 512,
       NO_RETURN = 1024 };
#define HANDLES (M | T | F)

/* ---- the calls ------------------------------------------------------------------------------------- */

static long with_kss_irq_enable(void)
{
    bool on = kss_irqs_enabled();
    kss_irq_enable();
    if (!on)
        kss_irq_disable();
    return 0;
}

static long with_kss_preempt_enable(void)
{
    kss_preempt_disable();
    kss_preempt_enable();
    return 0;
}

static long with_kss_spin_unlock(struct kss_spinlock *lock)
{
    bool on = kss_spin_lock(lock);
    kss_spin_unlock(lock, on);
    return 0;
}

static long with_kss_spin_trylock(struct kss_spinlock *lock)
{
    bool on;
    if (kss_spin_trylock(lock, &on))
        kss_spin_unlock(lock, on);
    return 0;
}

static long with_kss_read_unlock(struct kss_rwlock *lock)
{
    bool on = kss_read_lock(lock);
    kss_read_unlock(lock, on);
    return 0;
}

static long with_kss_write_unlock(struct kss_rwlock *lock)
{
    bool on = kss_write_lock(lock);
    kss_write_unlock(lock, on);
    return 0;
}

static long with_kss_seq_write_end(struct kss_seqlock *lock)
{
    bool on = kss_seq_write_begin(lock);
    kss_seq_write_end(lock, on);
    return 0;
}

static long with_kss_wait_prepare(void)
{
    static struct kss_wait_queue queue = { .lock = KSS_SPINLOCK_INIT("queue") };
    struct kss_waiter w = { 0 };
    kss_wait_prepare(&queue, &w);
    kss_wait_finish(&w);
    return 0;
}

#define X(name, flags, ...)                     \
    static long call_##name(const struct args *a) \
    {                                           \
        (void)a;                                \
        return (long)(__VA_ARGS__);             \
    }
#include "every.def"
#undef X

static const struct function {
    const char *name;
    unsigned flags;
    long (*call)(const struct args *a);
} functions[] = {
#define X(name, flags, ...) { #name, flags, call_##name },
#include "every.def"
#undef X
};
#define FUNCTIONS (sizeof functions / sizeof functions[0])

/* ---- bad handles ------------------------------------------------------------------------------------- */

enum { NOTHING, FREED, FOREIGN, WILD, INSIDE, REAPED, OTHER, SETS };
static struct args sets[SETS];
static const char *const set_names[] = { "NULL", "freed", "foreign", "wild", "inside", "reaped", "other machine's" };
static struct kss_machine *other; /* has run, and its threads are still there */
static struct args seen;          /* by handles_main */

static long see_frame(const struct kss_syscall_args *args)
{
    seen.m = kss_machine_current();
    seen.t = kss_current();
    seen.tf = args->frame;
    return 0;
}

#define SYS_SEE (KSS_SYS_EXPERIMENT + 1)

static long see(void *arg)
{
    kss_syscall(SYS_SEE, 0, 0, 0, 0, 0, 0);
    if (arg)
        kss_machine_stop(seen.m);
    for (;;)
        if (!arg)
            return 0;
}

static struct kss_machine *machine_to_see(const struct kss_config *c)
{
    struct kss_machine *m = test_machine(c);
    ck_assert_int_eq(kss_syscall_register(m, SYS_SEE, see_frame, "see"), 0);
    return m;
}

/* After all other machines of the test: a new one may get the address, and so the handle, of one that is gone. */
static void make_sets(void)
{
    static struct kss_spinlock lock = KSS_SPINLOCK_INIT("every");
    static struct kss_rwlock rwlock = KSS_RWLOCK_INIT("every");
    static struct kss_seqlock seqlock = KSS_SEQLOCK_INIT("every");
    static _Alignas(64) char zeros[65536];
    struct kss_config c = test_config();
    other = machine_to_see(&c);
    ck_assert_int_eq(kss_machine_run(other, see, &c, NULL), -ECANCELED);
    sets[OTHER] = seen;
    sets[INSIDE] = (struct args){ .m = (void *)((char *)seen.m + 64), .t = (void *)((char *)seen.t + 64),
                                  .tf = (void *)((char *)seen.tf + 64) };
    struct kss_machine *m = machine_to_see(&c);
    ck_assert_int_eq(kss_machine_run(m, see, NULL, NULL), 0);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
    sets[FREED] = seen;
    sets[FOREIGN] = (struct args){ .m = (void *)zeros, .t = (void *)zeros, .tf = (void *)zeros };
    char *gone = mmap(NULL, 65536, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(gone, MAP_FAILED);
    ck_assert_int_eq(munmap(gone, 65536), 0);
    sets[WILD] = (struct args){ .m = (void *)gone, .t = (void *)gone, .tf = (void *)gone };
    for (int s = 0; s < SETS; s++) {
        sets[s].lock = &lock;
        sets[s].rwlock = &rwlock;
        sets[s].seqlock = &seqlock;
        sets[s].u = s ? UINT_MAX : 0;
        sets[s].i = s ? -1 : 0;
        sets[s].q = s ? UINT64_MAX : 0;
    }
}

static void call_one(const struct function *f, int s)
{
    bool null_is_caller = s == NOTHING && f->flags & T; /* fails all the same, by its other arguments */
    bool refused = f->flags & NEG && !(s == OTHER && f->flags & ELSEWHERE);
    long r = RESULT_OF(f->call(&sets[s]));
    ck_assert_msg(!refused || r < 0, "%s, %s: %ld", f->name, set_names[s], r);
    ck_assert_msg(!refused || f->flags & QUIET || kss_last_error()[0], "%s, %s: %ld without a sentence", f->name,
                  set_names[s], r);
    if (f->flags & (T | F) && !(f->flags & NEG) && !null_is_caller)
        ck_assert_msg(r == 0 || r == 1, "%s, %s: %ld", f->name, set_names[s], r);
}

/* Every function but those with one of the flags, with every bad handle but those of the last sets. */
static void call_all(unsigned without, int some_sets)
{
    for (int s = 0; s < some_sets; s++)
        for (size_t k = 0; k < FUNCTIONS; k++)
            if (!(functions[k].flags & without))
                call_one(&functions[k], s);
}

/* ---- on the host --------------------------------------------------------------------------------------- */

static void call_all_on_host(void)
{
    call_all(CALL, REAPED);
    for (size_t k = 0; k < FUNCTIONS; k++)
        if (functions[k].flags & CALL && !(functions[k].flags & NO_RETURN))
            ck_assert_msg(functions[k].call(&sets[NOTHING]) == -EPERM, "%s on a host thread", functions[k].name);
}

START_TEST(on_the_host)
{
    make_sets();
    call_all_on_host();
    ck_assert_int_eq(kss_machine_destroy(other), 0);
}
END_TEST

static atomic_int stage;

static void *foreign_host_thread(void *arg)
{
    struct args running = sets[WILD];
    (void)arg;
    while (stage < 1)
        sched_yield();
    running.m = seen.m;
    running.t = seen.t;
    running.tf = seen.tf;
    for (int round = 0; round < 3; round++)
        call_all_on_host();
    for (size_t k = 0; k < FUNCTIONS; k++) {
        const struct function *f = &functions[k];
        if (!(f->flags & HANDLES) || strcmp(f->name, "kss_machine_stop") == 0)
            continue;
        long r = f->call(&running);
        ck_assert_msg(!(f->flags & (T | F) && f->flags & NEG) || r < 0, "%s, running: %ld", f->name, r);
    }
    stage = 2;
    return NULL;
}

static long busy_child(void *arg)
{
    while (stage < 2)
        kss_getpid();
    return (long)arg;
}

static long busy_main(void *arg)
{
    (void)arg;
    for (int i = 0; i < 3; i++)
        kss_spawn(busy_child, NULL, NULL);
    kss_syscall(SYS_SEE, 0, 0, 0, 0, 0, 0);
    stage = 1;
    busy_child(NULL);
    while (kss_wait(-1, NULL) > 0)
        ;
    return 0;
}

START_TEST(foreign_host)
{
    struct kss_config c = test_config();
    pthread_t host;
    c.tick_hz = 2000;
    struct kss_machine *m = machine_to_see(&c);
    make_sets();
    ck_assert_int_eq(pthread_create(&host, NULL, foreign_host_thread, NULL), 0);
    ck_assert_int_eq(test_run(m, busy_main, NULL), 0);
    pthread_join(host, NULL);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
    ck_assert_int_eq(kss_machine_destroy(other), 0);
}
END_TEST

/* ---- in the kernel ------------------------------------------------------------------------------------- */

static bool done_there;

static long nothing(void *arg)
{
    return (long)arg;
}

static long in_system_call(void *arg)
{
    (void)arg;
    call_all(NO_RETURN, SETS);
    done_there = true;
    return 0;
}

static void in_handler(unsigned line, void *arg)
{
    (void)arg;
    call_all(NO_RETURN | SLEEPS | PREPARES, SETS);
    done_there = true;
    kss_irq_eoi(line);
}

static long raise_it(void *arg)
{
    (void)arg;
    return kss_irq_raise(kss_machine_current(), 0, 40);
}

static void in_on_report(const struct kss_report *r, void *arg)
{
    (void)r;
    (void)arg;
    call_all(NO_RETURN | SLEEPS | PREPARES, SETS);
    done_there = true;
}

NO_UBSAN static long do_fault(void *arg)
{
    *(volatile int *)arg = 1;
    return 0;
}

static long remember_child(void *arg)
{
    sets[REAPED].m = NULL;
    sets[REAPED].t = kss_thread_find(kss_machine_current(), (int)(long)arg);
    return sets[REAPED].t != NULL;
}

static long kernel_main(void *arg)
{
    long pid = kss_spawn(nothing, NULL, NULL);
    ck_assert_int_eq(in_kernel(remember_child, (void *)pid), 1);
    ck_assert_int_eq(kss_wait(pid, NULL), pid);
    if (arg == (void *)0L)
        return in_kernel(in_system_call, NULL);
    if (arg == (void *)1L)
        return in_kernel(raise_it, NULL);
    sets[REAPED] = sets[FREED]; /* the next child gets the reaped one's place, and so its handle */
    kss_spawn(do_fault, NULL, NULL);
    return kss_wait(-1, NULL) < 0;
}

START_TEST(kernel)
{
    struct kss_config c = test_config();
    done_there = false;
    if (_i == 2)
        c.on_report = in_on_report;
    struct kss_machine *m = test_machine(&c);
    make_sets();
    ck_assert_int_eq(kss_irq_request(m, 40, in_handler, NULL, "every"), 0);
    ck_assert_int_eq(test_run(m, kernel_main, (void *)(long)_i), 0);
    ck_assert(done_there);
    ck_assert_int_eq(report_count, 0);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
    ck_assert_int_eq(kss_machine_destroy(other), 0);
}
END_TEST

/* ---- in user mode ---------------------------------------------------------------------------------------- */

static long call_in_user_mode(void *arg)
{
    const struct function *f = arg;
    struct args a = sets[NOTHING];
    a.m = seen.m;
    a.t = seen.t;
    a.tf = seen.tf;
    f->call(&a);
    return 7;
}

static long user_main(void *arg)
{
    (void)arg;
    kss_syscall(SYS_SEE, 0, 0, 0, 0, 0, 0);
    for (size_t k = 0; k < FUNCTIONS; k++) {
        const struct function *f = &functions[k];
        int status = -1, before = report_count;
        if (f->flags & NO_RETURN || strcmp(f->name, "kss_machine_stop") == 0)
            continue;
        long pid = kss_spawn(call_in_user_mode, (void *)f, NULL);
        ck_assert_int_eq(kss_wait(pid, &status), pid);
        if (f->flags & (ANY | CALL))
            ck_assert_msg(status == 7 << 8, "%s in user mode: status %#x", f->name, (unsigned)status);
        else
            ck_assert_msg(KSS_WIFKILLED(status) && KSS_WVECTOR(status) == KSS_VEC_GENERAL_PROTECTION &&
                              report_count == before + 1, "%s in user mode: status %#x", f->name, (unsigned)status);
    }
    return 0;
}

/* REQ M1: what belongs to the kernel can't be called in user mode. */
START_TEST(user_mode)
{
    struct kss_config c = test_config();
    make_sets();
    c.syscall_entry = _i ? KSS_SYSCALL_GATE : KSS_SYSCALL_TRAP;
    struct kss_machine *m = machine_to_see(&c);
    ck_assert_int_eq(test_run(m, user_main, NULL), 0);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
    ck_assert_int_eq(kss_machine_destroy(other), 0);
}
END_TEST

/* ---- where nobody may sleep ------------------------------------------------------------------------------- */

static const struct function *sleeper;

static void sleep_in_handler(unsigned line, void *arg)
{
    (void)arg;
    sleeper->call(&sets[NOTHING]);
    kss_irq_eoi(line);
}

static void sleep_in_on_report(const struct kss_report *r, void *arg)
{
    (void)r;
    (void)arg;
    sleeper->call(&sets[NOTHING]);
}

static long sleep_with_preemption_off(void *arg)
{
    (void)arg;
    kss_preempt_disable();
    sleeper->call(&sets[NOTHING]);
    return 0;
}

static long sleep_main(void *arg)
{
    if (arg == (void *)0L)
        in_kernel(raise_it, NULL);
    if (arg == (void *)1L)
        in_kernel(sleep_with_preemption_off, NULL);
    kss_spawn(do_fault, NULL, NULL);
    return kss_wait(-1, NULL) < 0;
}

static void sleep_there(long where)
{
    struct kss_config c = test_config();
    report_count = 0;
    if (where == 2)
        c.on_report = sleep_in_on_report; /* the second report goes to standard error */
    struct kss_machine *m = test_machine(&c);
    ck_assert_int_eq(kss_irq_request(m, 40, sleep_in_handler, NULL, "sleeper"), 0);
    int r = kss_machine_run(m, sleep_main, (void *)where, NULL);
    ck_assert_msg(r == -EFAULT, "%s, %ld: %d", sleeper->name, where, r);
    ck_assert_int_eq(report_count, where != 2);
    ck_assert_msg(where == 2 || reports[0].kind == KSS_REPORT_ATOMIC_SLEEP || reports[0].kind == KSS_REPORT_INVARIANT,
                  "%s, %ld: %s", sleeper->name, where, reports[0].message);
    ck_assert_int_eq(kss_machine_destroy(m), 0);
}

START_TEST(sleeping_while_atomic)
{
    for (size_t k = 0; k < FUNCTIONS; k++) {
        sleeper = &functions[k];
        if (sleeper->flags & (SLEEPS | PREPARES))
            sleep_there(0);
        if (sleeper->flags & SLEEPS) {
            sleep_there(1);
            sleep_there(2);
        }
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("errors_every");
    TCase *t = tcase_create("function");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, on_the_host);
    tcase_add_test(t, foreign_host);
    tcase_add_loop_test(t, kernel, 0, 3);
    tcase_add_loop_test(t, user_mode, 0, 2);
    tcase_add_test(t, sleeping_while_atomic);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

/* SPDX-License-Identifier: MIT */
/*
 * The stacks that a CPU has beside its threads': seven for vectors whose gate names one, and the interrupt stack. All
 * are in use at a time here, in every order that matters, and none is ever used twice.
 */
#include "harness.h"

#define LINE 40
#define STACKS 7
#define VECTOR(n) (KSS_VEC_SOFTWARE + (unsigned)(n)) /* its gate names vector stack n */
#define ROOM 512

static struct kss_machine *machine;

static void build(enum kss_irq_stacks stacks, kss_trap_fn handler)
{
    struct kss_config c = test_config();
    c.cpus = 1; /* the lines come to CPU 0: all is to nest there */
    c.irq_stacks = stacks;
    c.watchdog = (struct kss_watchdog){ 0 };
    machine = test_machine(&c);
    ck_assert_int_eq(kss_irq_mask(machine, KSS_LINE_TIMER), 0);
    for (unsigned n = 1; n <= STACKS; n++) {
        struct kss_gate gate = { handler, (void *)(long)n, KSS_GATE_INTERRUPT, KSS_PRIV_USER, n };
        ck_assert_int_eq(kss_vector_set(machine, VECTOR(n), &gate), 0);
    }
}

static void run(kss_user_fn fn, void *arg)
{
    ck_assert_int_eq(test_run(machine, fn, arg), 0);
    ck_assert_int_eq(report_count, 0);
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}

/* ---- seven at once ------------------------------------------------------------------------------ */

/* In which order they are nested. What the library itself has stacks for lies between what it has not. */
static const int orders[][STACKS + 1] = { { 1, 2, 3, 4, 5, 6, 7, 0 }, { 7, 6, 5, 4, 3, 2, 1, 0 },
                                          { 7, 4, 2, 6, 3, 5, 1, 0 }, { 3, 7, 1, 5, 2, 4, 6, 0 } };
static const int *next;
static volatile unsigned char *rooms[STACKS + 1];
static const struct kss_trap_frame *outer;
static int live, most;

static void fill(volatile unsigned char *p, int n)
{
    for (int i = 0; i < ROOM; i++)
        p[i] = (unsigned char)(n * 31 + i * 7);
}

static void check_room(int n)
{
    for (int i = 0; i < ROOM; i++)
        ck_assert_msg(rooms[n][i] == (unsigned char)(n * 31 + i * 7), "stack %d, byte %d", n, i);
}

/* All handlers that are live: what each has written on its stack is there, and each on a stack of its own. */
static void check_rooms(void)
{
    for (int a = 1; a <= STACKS; a++) {
        if (!rooms[a])
            continue;
        check_room(a);
        for (int b = 1; b < a; b++) {
            uintptr_t x = (uintptr_t)rooms[a], y = (uintptr_t)rooms[b];
            ck_assert(!rooms[b] || (x > y ? x - y : y - x) >= 65536);
        }
    }
}

/* Everything the library may do on stacks of the CPU's, while all of them are in use. */
KEEP_FRAME static void at_the_deepest_point(void)
{
    struct kss_frame f[48];
    struct kss_kstack_info k;
    int n = kss_backtrace(NULL, f, 48), handlers = 0;
    for (int i = 0; i < n; i++)
        handlers += strcmp(f[i].symbol, "nests") == 0;
    ck_assert_int_eq(handlers, live);
    ck_assert_int_eq(kss_kstack_info(NULL, &k), 0);
    ck_assert_uint_gt(k.depth, 0);
    ck_assert_uint_lt(k.depth, k.size);
    ck_assert_int_eq(kss_check(machine), 0);
    ck_assert_int_eq(kss_irq_raise(machine, 0, LINE), 0);
    kss_irq_enable(); /* an interrupt, and a softirq */
    kss_irq_disable();
}

KEEP_FRAME static void nests(struct kss_trap_frame *tf, void *arg)
{
    volatile unsigned char room[ROOM];
    int n = (int)(long)arg;
    const struct kss_trap_frame *outside = outer;
    struct kss_thread *whose = NULL;
    if (!live) /* the system call's */
        outside = tf->prev;
    fill(room, n);
    rooms[n] = room;
    live++;
    most = live > most ? live : most;
    ck_assert_int_eq(tf->stack, n);
    ck_assert_ptr_eq(tf->prev, outside);
    ck_assert_int_eq(tf->mode, KSS_MODE_KERNEL);
    outer = tf;
    ck_assert_int_eq(kss_stack_find(machine, (uintptr_t)room, &whose),
                     n == 1 ? KSS_STACK_DOUBLE_FAULT : KSS_STACK_VECTOR);
    ck_assert_ptr_null(whose);
    ck_assert_str_eq(kss_thread_name(kss_current()), "main");
    if (*++next)
        kss_software_interrupt(VECTOR(*next), 0);
    else
        at_the_deepest_point();
    check_rooms();
    outer = outside;
    rooms[n] = NULL;
    live--;
}

static int softirqs;

static void isr(unsigned line, void *arg)
{
    (void)arg;
    kss_softirq_raise(0);
    kss_irq_eoi(line);
}

static void softirq(void *arg)
{
    volatile unsigned char room[4096];
    (void)arg;
    for (size_t i = 0; i < sizeof room; i++)
        room[i] = 0xee;
    softirqs++;
}

static void nothing(struct kss_trap_frame *tf, void *arg)
{
    (void)arg;
    kss_trap_set_result(tf, 0);
}

static long seven_kernel(void *arg)
{
    for (int round = 0; round < 3; round++) { /* the stacks are free again each time */
        next = arg;
        most = 0;
        kss_software_interrupt(VECTOR(*next), 0);
        ck_assert_int_eq(most, STACKS);
        ck_assert_int_eq(live, 0);
        ck_assert_int_eq(softirqs, round + 1);
    }
    return 0;
}

static long seven_main(void *arg)
{
    return in_kernel(seven_kernel, arg);
}

START_TEST(seven_live_at_once) /* REQ M6 */
{
    build(_i & 1 ? KSS_IRQ_STACKS_PER_CPU : KSS_IRQ_STACKS_NONE, nests);
    ck_assert_int_eq(kss_irq_request(machine, LINE, isr, NULL, "line"), 0);
    ck_assert_int_eq(kss_softirq_request(machine, 0, softirq, NULL, "softirq"), 0);
    softirqs = 0;
    run(seven_main, (void *)orders[_i / 2]);
}
END_TEST

/* ---- a stack that is in use --------------------------------------------------------------------- */

/* On stack n, by way of stack 5, back to stack n. */
KEEP_FRAME static void comes_back(struct kss_trap_frame *tf, void *arg)
{
    int n = (int)(long)arg;
    (void)tf;
    kss_software_interrupt(n == 5 && outer ? VECTOR(live) : VECTOR(5), 0);
}

KEEP_FRAME static void goes(struct kss_trap_frame *tf, void *arg)
{
    outer = tf;
    live = (int)(long)arg;
    comes_back(tf, arg);
}

static long reuse_child(void *arg)
{
    return kss_software_interrupt(VECTOR((long)arg), 0);
}

static bool shown(const struct kss_frame *f, int n, const char *symbol)
{
    for (int i = 0; i < n; i++)
        if (strcmp(f[i].symbol, symbol) == 0)
            return true;
    return false;
}

static long reuse_main(void *arg)
{
    for (int round = 0; round < 2; round++) { /* what the culprit leaves is free for the next one */
        int status = 0, before = report_count;
        const struct kss_report *r = &reports[before];
        char sentence[32];
        ck_assert_int_gt(kss_wait(kss_spawn(reuse_child, arg, NULL), &status), 0);
        ck_assert_int_eq(KSS_WVECTOR(status), KSS_VEC_DOUBLE_FAULT);
        ck_assert_int_eq(report_count, before + 1);
        ck_assert_int_eq(r->kind, KSS_REPORT_STACK_REUSED);
        ck_assert_int_eq(r->action, KSS_ACTION_KILL_PROCESS);
        snprintf(sentence, sizeof sentence, "vector stack %ld", (long)arg);
        ck_assert_msg(strstr(r->message, sentence) != NULL, "%s", r->message);
        ck_assert_uint_eq(r->vector, VECTOR((long)arg));
        /* both frames: where the second use was asked for, and what the first one has interrupted */
        ck_assert(shown(r->frame, r->frames, "comes_back"));
        ck_assert(shown(r->frame, r->frames, "goes"));
        ck_assert(shown(r->other, r->other_frames, "reuse_child"));
        ck_assert(!shown(r->other, r->other_frames, "goes"));
        ck_assert_ptr_nonnull(strstr(r->other_what, "live on that stack"));
    }
    return 0;
}

START_TEST(second_use_is_reported)
{
    static const int stacks[] = { 2, 3, 4, 6, 7 }; /* 1 is the double fault's own */
    long n = stacks[_i];
    struct kss_gate gate = { goes, (void *)n, KSS_GATE_INTERRUPT, KSS_PRIV_USER, (unsigned)n };
    build(KSS_IRQ_STACKS_PER_CPU, comes_back);
    ck_assert_int_eq(kss_vector_set(machine, VECTOR(n), &gate), 0);
    ck_assert_int_eq(test_run(machine, reuse_main, (void *)n), 0);
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}
END_TEST

/* ---- the interrupt stack ------------------------------------------------------------------------ */

static uintptr_t isr_at[3];
static enum kss_stack_kind isr_on[3];
static int isr_level;

static void isr_notes(unsigned line, void *arg)
{
    volatile int local = 0;
    int level = isr_level++;
    struct kss_thread *whose = NULL;
    (void)arg;
    isr_at[level] = (uintptr_t)&local;
    isr_on[level] = kss_stack_find(machine, (uintptr_t)&local, &whose);
    ck_assert_ptr_eq(whose, isr_on[level] == KSS_STACK_TASK ? kss_current() : NULL);
    kss_irq_eoi(line);
    if (level < 2) {
        ck_assert_int_eq(kss_irq_raise(machine, 0, LINE), 0);
        kss_irq_enable(); /* nested: it goes on below, on the stack in use */
        kss_irq_disable();
    }
}

static struct kss_thread *interrupted[2];
static uintptr_t from_at[2];

static long interrupt_me(void *arg)
{
    volatile int local = 0;
    int who = (int)(long)arg;
    interrupted[who] = kss_current();
    from_at[who] = (uintptr_t)&local;
    isr_level = 0;
    ck_assert_int_eq(kss_irq_raise(machine, 0, LINE), 0);
    ck_assert_int_eq(isr_level, 3);
    return 0;
}

static long interrupted_child(void *arg)
{
    return in_kernel(interrupt_me, arg);
}

static uintptr_t first_at[2];

static long interrupt_main(void *arg)
{
    (void)arg;
    for (long who = 0; who < 2; who++) {
        int status = 1;
        ck_assert_int_gt(kss_wait(kss_spawn(interrupted_child, (void *)who, NULL), &status), 0);
        ck_assert_int_eq(status, 0);
        first_at[who] = isr_at[0];
    }
    return 0;
}

/*
 * REQ M4, as far as one CPU can show it: the interrupt stack is the CPU's, whichever thread it finds, and no byte of
 * a handler lies on a thread's stack. REQ M6: a nested one goes on just below, there as on a thread's stack.
 */
START_TEST(interrupt_stack_is_the_cpus)
{
    bool own = _i != 0;
    build(own ? KSS_IRQ_STACKS_PER_CPU : KSS_IRQ_STACKS_NONE, nothing);
    ck_assert_int_eq(kss_irq_request(machine, LINE, isr_notes, NULL, "line"), 0);
    run(interrupt_main, NULL);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(isr_on[i], own ? KSS_STACK_IRQ : KSS_STACK_TASK);
    for (int i = 1; i < 3; i++)
        ck_assert(isr_at[i] < isr_at[i - 1] && isr_at[i - 1] - isr_at[i] < 8192);
    if (own)
        ck_assert_uint_eq(first_at[0], first_at[1]); /* two threads, one stack */
    else
        ck_assert(isr_at[0] < from_at[1] && from_at[1] - isr_at[0] < 8192);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_vstack");
    TCase *t = tcase_create("vector stacks");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, seven_live_at_once, 0, 8);
    tcase_add_loop_test(t, second_use_is_reported, 0, 5);
    tcase_add_loop_test(t, interrupt_stack_is_the_cpus, 0, 2);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

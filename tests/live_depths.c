/* SPDX-License-Identifier: MIT */
/* How deep stacks were used: kss_stack_depths(). */
#include "softirq.h"

#define TASK_BYTES 3000
#define SOFTIRQ_BYTES 8000
#define IRQ_BYTES 14000

KEEP_FRAME static void use(volatile char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = 1;
}

static void softirq_uses(void *arg)
{
    volatile char room[SOFTIRQ_BYTES];
    (void)arg;
    use(room, sizeof room);
}

static void isr_uses(unsigned line, void *arg)
{
    volatile char room[IRQ_BYTES];
    (void)arg;
    use(room, sizeof room);
    raise_softirq(2);
    kss_irq_eoi(line);
}

KEEP_FRAME static long uses_task(void)
{
    volatile char room[TASK_BYTES];
    use(room, sizeof room);
    raise_line((void *)LINE);
    return room[0];
}

static struct kss_stack_depths inside;

static long depths_kernel(void *arg)
{
    (void)arg;
    ck_assert_int_eq(uses_task(), 1);
    ck_assert_int_eq(kss_stack_depths(machine, &inside), 0); /* in kernel mode, and below on the host */
    return 0;
}

static long depths_main(void *arg)
{
    return in_kernel(depths_kernel, arg);
}

/* The dynamic linker binds what is called for the first time, and takes some KiB for it. */
static bool about(size_t n, size_t bytes)
{
    return n >= bytes && n < bytes + (KSS_TEST_ASAN ? 12000 : 6000);
}

START_TEST(depths)
{
    struct kss_config c = quiet(_i ? KSS_IRQ_STACKS_PER_CPU : KSS_IRQ_STACKS_NONE);
    struct kss_stack_depths d;
    build(&c, isr_uses);
    request(2, softirq_uses);
    ck_assert_int_eq(test_run(machine, depths_main, NULL), 0);
    ck_assert_int_eq(kss_stack_depths(machine, &d), 0); /* of a thread that is gone */
    ck_assert_uint_eq(d.worst, d.task + d.softirq + d.hard_irq + d.nmi);
    ck_assert_uint_eq(inside.worst, inside.task + inside.softirq + inside.hard_irq + inside.nmi);
    ck_assert_uint_ge(d.task, inside.task);
    size_t frame = kss_trap_frame_size();
    if (_i) {
        ck_assert_msg(about(d.task, frame + TASK_BYTES), "task %zu, frame %zu", d.task, frame);
        ck_assert_msg(about(d.softirq, SOFTIRQ_BYTES), "softirq %zu", d.softirq);
        ck_assert_msg(about(d.hard_irq, IRQ_BYTES), "hard irq %zu", d.hard_irq);
        ck_assert_uint_eq(d.softirq, inside.softirq);
        ck_assert_uint_eq(d.hard_irq, inside.hard_irq);
    } else { /* the handler has ended when the softirq begins: the deeper of them counts */
        ck_assert_msg(about(d.task, frame + TASK_BYTES + IRQ_BYTES), "task %zu, frame %zu", d.task, frame);
        ck_assert_uint_eq(d.softirq + d.hard_irq, 0);
    }
    ck_assert_uint_eq(d.nmi, 0); /* none came */
    ck_assert_int_eq(kss_machine_destroy(machine), 0);
}
END_TEST

static long host_kernel(void *arg)
{
    struct kss_stack_depths d;
    (void)arg;
    ck_assert_int_eq(kss_stack_depths(machine, &d), -ENODATA);
    ck_assert_int_eq(kss_stack_depths(machine, NULL), -EINVAL);
    return 0;
}

static long host_main(void *arg)
{
    return in_kernel(host_kernel, arg);
}

START_TEST(depths_misuse)
{
    struct kss_config c = quiet(KSS_IRQ_STACKS_NONE);
    struct kss_stack_depths d;
    c.poison = false;
    build(&c, isr_quiet);
    ck_assert_int_eq(kss_stack_depths(NULL, &d), -EINVAL);
    ck_assert_int_eq(kss_stack_depths(machine, NULL), -EINVAL);
    ck_assert_int_eq(kss_stack_depths(machine, &d), -ENODATA);
    ck_assert_ptr_nonnull(strstr(kss_last_error(), "poison is off"));
    run(host_main);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_depths");
    TCase *t = tcase_create("depths");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, depths, 0, 2);
    tcase_add_test(t, depths_misuse);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

/* SPDX-License-Identifier: MIT */
/*
 * The fault catalogue: each row provoked, and held against a table of its own, beside what the scenario itself
 * expects, and against a golden text of the report.
 */
#define _GNU_SOURCE
#include "harness.h"

#include "../tools/faults.h"
#include "golden.h"

/* What becomes of it: KILLED by the vector `status` (KSS_KILLED: another reason), the machine STOPPED with the
   result `status`, or the process ENDED with it. */
enum end { ENDS, KILLS, STOPS };

static const struct row {
    const char *name, *kind, *stack, *culprit; /* NULL: no report */
    enum end end;
    int status;
} rows[] = {
    { "kernel-stack-overflow", "stack-overflow", "task stack", "recurse_too_deep", KILLS, 8 },
    { "kernel-stack-overflow-jump", "stack-overflow", "task stack", "leap_over_the_guard", KILLS, 8 },
    { "kernel-stack-overflow-jump/narrow", "stack-overflow", "task stack", "culprit", KILLS, KSS_KILLED },
    { "user-stack-overflow", "user-stack-overflow", "user stack", "recurse_in_user_mode", KILLS, 14 },
    { "guard-leading", "guard-hit", "task stack", "read_below_the_stack", KILLS, 14 },
    { "guard-trailing", "guard-hit", "task stack", "read_above_the_stack", KILLS, 14 },
    { "irq-stack-overflow", "stack-overflow", "interrupt stack", "recurse_in_handler", STOPS, -EFAULT },
    { "nested-overflow", "stack-overflow", "task stack", "nest_without_end", STOPS, -EFAULT },
    { "canary-smashed", "stack-corrupted", "task stack", "ask_to_overwrite_it", KILLS, KSS_KILLED },
    { "canary-smashed/switch", "stack-corrupted", "task stack", "overwrite_and_let_others_run", KILLS, KSS_KILLED },
    { "frame-smashed", "bad-trap-frame", "task stack", "culprit", KILLS, KSS_KILLED },
    { "frame-smashed/wild-address", "bad-trap-frame", "task stack", "culprit", KILLS, KSS_KILLED },
    { "frame-smashed/magic", "bad-trap-frame", "task stack", "culprit", KILLS, KSS_KILLED },
    { "stack-protector", "stack-protector", "task stack", "overrun_a_buffer", KILLS, KSS_KILLED },
    { "stack-protector/user", "stack-protector", "user stack", "overrun_a_buffer", KILLS, KSS_KILLED },
    { "double-fault", "double-fault", "task stack", "push_to_nowhere", KILLS, 8 },
    { "triple-fault", "triple-fault", "vector stack", "fault_in_double_fault_handler", STOPS, -EFAULT },
    { "double-fault-stack-reuse", "stack-reused", "vector stack", "raise_own_vector_again", KILLS, 8 },
    { "divide-error", "user-fault", "user stack", "divide_by_zero", KILLS, 0 },
    { "divide-error/kernel", "kernel-fault", "task stack", "divide_by_zero", KILLS, 0 },
    { "invalid-opcode", "user-fault", "user stack", "execute_no_instruction", KILLS, 6 },
    { "invalid-opcode/kernel", "kernel-fault", "task stack", "execute_no_instruction", KILLS, 6 },
    { "breakpoint", "user-fault", "user stack", "stop_at_a_breakpoint", KILLS, 3 },
    { "breakpoint/kernel", "kernel-fault", "task stack", "stop_at_a_breakpoint", KILLS, 3 },
    { "general-protection", "user-fault", "user stack", "execute_a_privileged_one", KILLS, 13 },
    { "general-protection/kernel", "kernel-fault", "task stack", "execute_a_privileged_one", KILLS, 13 },
    { "page-fault", "user-fault", "user stack", "read_through_null", KILLS, 14 },
    { "page-fault/kernel", "kernel-fault", "task stack", "read_through_null", KILLS, 14 },
    { "fault-in-interrupt", "fault-in-interrupt", "task stack", "read_null_in_handler", STOPS, -EFAULT },
    { "privileged-in-user", "user-fault", "user stack", "turn_interrupts_off", KILLS, 13 },
    { "privileged-in-user/vector-table", "user-fault", "user stack", "load_a_vector_table", KILLS, 13 },
    { "privileged-in-user/gate", "user-fault", "user stack", "raise_a_kernel_vector", KILLS, 13 },
    { "privileged-in-user/function", "user-fault", "user stack", "call_a_kernel_function", KILLS, 13 },
    { "kernel-memory-touch", "kernel-memory-touch", "user stack", "read_its_kernel_stack", KILLS, 14 },
    { "kernel-memory-touch/write", "kernel-memory-touch", "user stack", "write_to_a_neighbours", KILLS, 14 },
    { "bad-user-pointer", NULL, NULL, NULL, ENDS, 0 },
    { "stack-pointer-garbage", NULL, NULL, NULL, ENDS, 0 },
    { "stack-pointer-garbage/unmapped", NULL, NULL, NULL, ENDS, 0 },
    { "stack-pointer-garbage/kernel", NULL, NULL, NULL, ENDS, 0 },
    { "stack-pointer-garbage/used", "user-fault", "user stack", "push_to_nowhere", KILLS, 14 },
    { "scheduling-while-atomic", "scheduling-while-atomic", "task stack", "sleep_with_a_lock_held", STOPS, -EFAULT },
    { "scheduling-while-atomic/irq", "scheduling-while-atomic", "task stack", "sleep_in_handler", STOPS, -EFAULT },
    { "scheduling-while-atomic/irqs-off", "scheduling-while-atomic", "task stack", "sleep_with_interrupts_off", STOPS,
      -EFAULT },
    { "scheduling-while-atomic/preempt-off", "scheduling-while-atomic", "task stack", "sleep_with_preemption_disabled",
      STOPS, -EFAULT },
    { "scheduling-while-atomic/yield", "scheduling-while-atomic", "task stack", "yield_with_a_lock_held", STOPS, -EFAULT },
    { "sleep-in-user", "bad-transition", "task stack", "put_another_to_sleep", ENDS, 0 },
    { "wake-twice", "bad-transition", "task stack", "wake_it_twice", ENDS, 0 },
    { "bad-transition", "bad-transition", "task stack", "declare_oneself_dead", ENDS, 0 },
    { "irq-state-leak", "irq-state-leak", "task stack", "return_with_interrupts_off", ENDS, 0 },
    { "irq-state-leak/lock", "irq-state-leak", "task stack", "return_with_a_lock_held", ENDS, 0 },
    { "irq-state-leak/handler", "irq-state-leak", "task stack", "handler_disables_preemption", ENDS, 0 },
    { "missing-eoi", "missing-eoi", "task stack", "forget_the_end_of_interrupt", ENDS, 0 },
    { "spurious-interrupt", "spurious-interrupt", "task stack", "raise_a_line_without_handler", ENDS, 0 },
    { "interrupt-storm", "interrupt-storm", "task stack", "raise_it_again", ENDS, 0 },
    { "lost-interrupts", NULL, NULL, NULL, ENDS, 0 },
    { "soft-lockup", "soft-lockup", "task stack", "spin_without_preemption", ENDS, 0 },
    { "hard-lockup", "hard-lockup", "task stack", "spin_with_interrupts_off", STOPS, -EFAULT },
    { "hung-task", "hung-task", "task stack", "wait_for_what_never_comes", ENDS, 0 },
    { "deadlock", "deadlock", "task stack", "take_a_then_b", ENDS, 0 },
    { "deadlock/self", "deadlock", "task stack", "take_it_twice", STOPS, -EFAULT },
    { "deadlock/join", NULL, NULL, NULL, ENDS, 0 },
    { "spinlock-misuse", "spinlock-misuse", "task stack", "take_an_uninitialised_lock", KILLS, KSS_KILLED },
    { "spinlock-misuse/release", "spinlock-misuse", "task stack", "release_what_nobody_holds", KILLS, KSS_KILLED },
    { "spinlock-misuse/another", "spinlock-misuse", "task stack", "release_anothers_lock", KILLS, KSS_KILLED },
    { "lost-wakeup", "lost-wakeup", "task stack", "sleep_without_a_second_test", ENDS, 0 },
    { "use-after-reap", "use-after-reap", "task stack", "use_the_kept_variable", KILLS, 14 },
    { "use-after-reap/user", "use-after-reap", "user stack", "use_the_kept_variable", KILLS, 14 },
    { "out-of-stacks", NULL, NULL, NULL, ENDS, 0 },
    { "out-of-memory", NULL, NULL, NULL, ENDS, 0 },
    { "too-many-processes", NULL, NULL, NULL, ENDS, 0 },
    { "double-free", NULL, NULL, NULL, ENDS, 0 },
    { "foreign-handle", NULL, NULL, NULL, ENDS, 0 },
    { "null-handle", NULL, NULL, NULL, ENDS, 0 },
    { "scheduler-misbehaves", "scheduler-misbehaves", "scheduler stack", "crash_in_enqueue", ENDS, 0 },
    { "scheduler-misbehaves/lost", "scheduler-misbehaves", "task stack", "yield_until_ejected", ENDS, 0 },
    { "scheduler-misbehaves/starved", "scheduler-misbehaves", "task stack", "yield_until_ejected", ENDS, 0 },
    { "scheduler-misbehaves/sleeping", "scheduler-misbehaves", "task stack", "sleep_in_peace", ENDS, 0 },
    { "scheduler-misbehaves/endless", "scheduler-misbehaves", "scheduler stack", "enqueue_without_end", ENDS, 0 },
    { "host-signal", NULL, NULL, NULL, STOPS, -ECANCELED },
    { "host-signal/quit", NULL, NULL, NULL, ENDS, 0 },
    { "host-signal/terminate", NULL, NULL, NULL, STOPS, -ECANCELED },
};
#define ROWS (sizeof rows / sizeof rows[0])

static const struct fault *find(const char *name)
{
    char own[80];
    const struct fault *f = fault_next(NULL, NULL);
    while (f && strcmp(fault_name(f, own, sizeof own), name) != 0)
        f = fault_next(NULL, f);
    return f;
}

static void compare_with_golden(const struct fault_run *run, const char *name)
{
    static char text[16384], difference[40000];
    char path[512], file[80];
    const char *top = getenv("top_srcdir");
    text[0] = '\0';
    for (int i = 0; i < FAULT_REPORTS && run->text[i]; i++)
        golden_append(text, sizeof text, &run->report[i], run->text[i]);
    if (!text[0])
        strcpy(text, "no report\n");
    snprintf(file, sizeof file, "%s", name);
    if (strchr(file, '/'))
        *strchr(file, '/') = '.';
    snprintf(path, sizeof path, "%s/tests/golden/faults/%s.txt", top ? top : "..", file);
    ck_assert_msg(golden_same(path, text, difference, sizeof difference), "%s", difference);
}

static void compare_neighbours(const struct fault_run *run, const struct row *row)
{
    for (int i = 0; i < FAULT_NEIGHBOURS; i++) {
        const struct fault_neighbour *n = &run->neighbour[i];
        ck_assert_msg(n->bad == 0, "%s: %lu bytes of %s's stacks have changed", row->name, n->bad, n->name);
        if (row->end == STOPS)
            continue;
        ck_assert_msg(n->rounds >= n->rounds_at_fault + 5, "%s: %s has stopped", row->name, n->name);
        ck_assert_msg(n->status == 0, "%s: %s ended with %#x", row->name, n->name, n->status);
    }
}

static void compare(const struct fault_run *run, const struct row *row)
{
    const struct kss_report *p = &run->report[0];
    ck_assert_msg((run->reports != 0) == (row->kind != NULL), "%s: %u reports", row->name, run->reports);
    if (row->kind) {
        ck_assert_str_eq(kss_report_kind_id(p->kind), row->kind);
        ck_assert_str_eq(kss_stack_kind_name(p->stack), row->stack);
        ck_assert_msg(fault_report_names(p, row->culprit), "%s: %s is not in the report", row->name, row->culprit);
    }
    ck_assert_int_eq(run->run, row->end == STOPS ? row->status : 0);
    if (row->end == KILLS)
        ck_assert_msg(KSS_WIFKILLED(run->status) && KSS_WVECTOR(run->status) == row->status, "%s: status %#x",
                      row->name, run->status);
    if (row->end == ENDS)
        ck_assert_int_eq(run->status, row->status << 8);
    compare_neighbours(run, row);
    for (int i = 0; i < run->checks; i++)
        ck_assert_msg(run->check[i].ok, "%s: %s: %s", row->name, run->check[i].name, run->check[i].said);
    ck_assert_int_ge(run->checks, 3);
}

START_TEST(each_row)
{
    const struct row *row = &rows[_i];
    const struct fault_options options = { 250, 0 };
    const struct fault *f = find(row->name);
    ck_assert_msg(f != NULL, "%s: nobody provokes it", row->name);
    struct fault_run *run = fault_provoke(f, &options);
    if (run->skipped) {
        printf("%s: skipped: %s\n", row->name, run->skipped);
    } else {
        compare(run, row);
        compare_with_golden(run, row->name);
    }
    fault_run_free(run);
}
END_TEST

/* No name without a scenario, no scenario without a name, and a line of the table for each. */
START_TEST(nothing_is_missing)
{
    for (int i = 0; fault_rows[i]; i++)
        ck_assert_msg(fault_next(fault_rows[i], NULL) != NULL, "%s: nobody provokes it", fault_rows[i]);
    for (int g = 0; fault_groups[g]; g++)
        for (const struct fault *f = fault_groups[g]; f->row; f++) {
            char name[80];
            bool row = false, line = false;
            fault_name(f, name, sizeof name);
            for (int i = 0; fault_rows[i]; i++)
                row |= strcmp(fault_rows[i], f->row) == 0;
            for (size_t i = 0; i < ROWS; i++)
                line |= strcmp(rows[i].name, name) == 0;
            ck_assert_msg(row, "%s is no name of the catalogue", f->row);
            ck_assert_msg(line, "%s is not in the table of this test", name);
        }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("live_faults");
    TCase *t = tcase_create("faults");
    tcase_set_timeout(t, 180);
    tcase_add_loop_test(t, each_row, 0, ROWS);
    tcase_add_test(t, nothing_is_missing);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    return test_main(suite);
}

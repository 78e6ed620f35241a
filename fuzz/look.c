/* SPDX-License-Identifier: MIT */
/* Looks at everything that can be looked at, with good and bad arguments. */
#include "fuzz.h"

#include <stdio.h>

static int one_event(const struct kss_trace_event *event, void *arg)
{
    char text[128];
    struct kss_machine *m = arg;
    return kss_trace_narrate(m, event, text, sizeof text) < 0;
}

static void look_at_names(struct run *r)
{
    int n = (int)number(r);
    enum kss_report_action action;
    kss_vector_name((unsigned)n);
    kss_stack_kind_name((enum kss_stack_kind)n);
    kss_thread_state_name((enum kss_thread_state)n);
    kss_trace_type_name((enum kss_trace_type)n);
    kss_report_kind_name((enum kss_report_kind)n);
    kss_report_kind_id((enum kss_report_kind)n);
    kss_report_action_name((enum kss_report_action)n);
    kss_report_actions((enum kss_report_kind)n, &action);
    kss_set_error(~(n & 255), n & 1 ? NULL : "%d", n);
    kss_last_error();
    kss_cpu_count();
    kss_trap_frame_size();
}

static void look_at_lines(struct run *r)
{
    struct kss_machine *m = some_machine(r);
    struct kss_irq_stats s;
    struct kss_latency l;
    struct kss_machine_stats ms;
    kss_irq_stats(m, take(&r->code) < 16, some_line(r), take(&r->code) < 16 ? NULL : &s);
    kss_irq_latency(m, 0, some_line(r), &l, take(&r->code) < 128 ? NULL : &l);
    kss_machine_stats(m, take(&r->code) < 16 ? NULL : &ms);
}

static void look_at_devices(struct run *r)
{
    struct kss_machine *m = some_machine(r);
    struct kss_disk_stats ds;
    struct kss_console_stats cs;
    kss_disk_stats(m, take(&r->code) & 1 ? "disk" : NULL, &ds);
    kss_console_stats(m, take(&r->code) < 16 ? NULL : &cs);
}

static void look_at_thread(struct run *r)
{
    struct kss_thread *t = some_thread(r);
    struct kss_kstack_info k;
    struct kss_frame f[4];
    char text[512];
    int max = (int)(take(&r->code) % 6) - 1;
    kss_thread_id(t);
    kss_thread_name(t);
    kss_thread_priority(t);
    kss_thread_weight(t);
    kss_thread_slice(t);
    kss_thread_run_time(t);
    kss_sched_thread_data(t);
    kss_sched_cpu_data(max);
    kss_kstack_info(t, max < 0 ? NULL : &k);
    if (take(&r->code) < 64) /* backtraces take time */
        kss_backtrace(t, max < 0 ? NULL : f, max < 4 ? max : 4);
    if (take(&r->code) < 64)
        kss_kstack_draw(t, max < 0 ? NULL : text, (size_t)(take(&r->code) * 2));
}

static void look_at_pictures(struct run *r)
{
    static struct kss_stack_picture p; /* too large for a small kernel stack; whoever is preempted here gets a mix */
    static struct kss_report report;
    char text[64];
    struct kss_stack_depths d;
    struct kss_function_depth f[2];
    struct kss_machine *m = some_machine(r);
    report.stack_low = number(r);
    report.stack_high = report.stack_low + number(r);
    report.sp = number(r);
    report.frames = (int)number(r);
    if (take(&r->code) & 1)
        kss_picture_report(&report, take(&r->code) & 1 ? &p : NULL);
    else
        kss_picture_thread(some_thread(r), &p);
    p.part[take(&r->code) % KSS_PICTURE_PARTS].low ^= number(r) & 8;
    kss_picture_check(&p);
    kss_report_format(&report, text, sizeof text);
    kss_report_json(&report, text, take(&r->code) & 63);
    kss_stack_depths(m, take(&r->code) < 16 ? NULL : &d);
    kss_profile_functions(m, f, (int)(take(&r->code) % 4) - 1);
    kss_profile_folded(m, NULL);
    kss_sched_record(m);
    kss_part_kind_name((enum kss_part_kind)number(r));
    kss_part_kind_id((enum kss_part_kind)number(r));
}

static void look_at_queues(struct run *r)
{
    struct kss_thread *t = some_thread(r);
    uint64_t id = take(&r->code) & 1 ? take(&r->code) % 5 : number(r);
    kss_dsq_length(id);
    kss_dsq_first(id);
    kss_cpu_running((int)number(r));
    kss_sched_clock();
    kss_sched_random();
    if (take(&r->code) < 64) { /* these belong to the class's operations */
        kss_dsq_insert(t, id, number(r), 0);
        kss_dsq_insert_vtime(t, id, number(r), number(r), 0);
        kss_dsq_move_to_local(id);
    }
    kss_thread_set_slice(t, number(r));
}

static void look_at_machine(struct run *r)
{
    struct kss_machine *m = some_machine(r);
    struct kss_thread_info_snapshot s[4];
    struct kss_thread *t;
    int max = (int)(take(&r->code) % 6) - 1;
    kss_threads(m, s, max < 4 ? max : 4);
    kss_thread_find(m, (int)number(r));
    kss_stack_find(m, (uintptr_t)number(r), &t);
    kss_stack_find(m, (uintptr_t)user_pointer(r), max < 0 ? NULL : &t);
    kss_check(m);
    if (take(&r->code) < 16)
        kss_trace_for_each(m, max < 0 ? NULL : one_event, m);
}

void look_around(struct run *r)
{
    bool user = kss_machine_current() && !r->in_kernel && !r->in_handler && !r->frame;
    uint8_t what = take(&r->code);
    if (what & 1)
        look_at_names(r);
    if (what & 2)
        look_at_lines(r);
    if (user)
        return;
    if (what & 4)
        look_at_devices(r);
    if (what & 8)
        look_at_thread(r);
    if (what & 16)
        look_at_queues(r);
    if (what & 32)
        look_at_machine(r);
    if ((what & 0xc0) == 0xc0)
        look_at_pictures(r);
}

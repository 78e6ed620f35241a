/* SPDX-License-Identifier: MIT */
/* preempted_write: the same facts for people and for programs. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "pw.h"
#include "table.h"

/* ---- the story ---------------------------------------------------------------------------------- */

struct story {
    struct kss_machine *m;
    const struct pw_run *run;
    bool inside, returned, json, first;
    struct kss_trace_event entry; /* of the writer's latest trap, until it shows what call it was */
    unsigned shown, worker_events, worker_calls;
};

static bool is_write(const struct story *s, const struct kss_trace_event *e, enum kss_trace_type type)
{
    return e->type == type && e->tid == s->run->writer_tid && e->value[0] == KSS_SYS_WRITE;
}

static void tell(struct story *s, const struct kss_trace_event *e)
{
    char line[256];
    kss_trace_narrate(s->m, e, line, sizeof line);
    if (!s->json) {
        printf("  %s\n", line);
        return;
    }
    printf("%s\n  {\"time_ns\":%" PRIu64 ",\"tid\":%d,\"event\":\"%s\"}", s->first ? "" : ",", e->time_ns, e->tid,
           kss_trace_type_name((enum kss_trace_type)e->type));
    s->first = false;
}

/* The worker's own calls are many and all alike: the first few are shown, the rest counted. */
static bool too_many(struct story *s, const struct kss_trace_event *e)
{
    if (e->tid != s->run->worker_tid || e->type == KSS_TR_SWITCH)
        return false;
    bool of_call = e->type == KSS_TR_SYSCALL_IN || e->type == KSS_TR_SYSCALL_OUT ||
                   ((e->type == KSS_TR_ENTER || e->type == KSS_TR_LEAVE) && e->value[0] == KSS_VEC_SYSCALL);
    s->worker_calls += e->type == KSS_TR_SYSCALL_IN;
    return of_call && ++s->worker_events > 8;
}

static int on_event(const struct kss_trace_event *e, void *arg)
{
    struct story *s = arg;
    bool writers = e->tid == s->run->writer_tid;
    if (!s->inside && writers && e->type == KSS_TR_ENTER)
        s->entry = *e;
    if (!s->inside && is_write(s, e, KSS_TR_SYSCALL_IN)) {
        s->inside = true;
        tell(s, &s->entry);
    }
    if (!s->inside)
        return 0;
    if (!too_many(s, e) && ++s->shown <= 120)
        tell(s, e);
    s->returned |= is_write(s, e, KSS_TR_SYSCALL_OUT);
    return s->returned && writers && e->type == KSS_TR_LEAVE;
}

static void story(struct kss_machine *m, const struct pw_run *run, bool json)
{
    struct story s = { .m = m, .run = run, .json = json, .first = true };
    kss_trace_for_each(m, on_event, &s);
    if (json)
        return;
    if (!s.inside)
        printf("  (nothing was written)\n");
    if (s.worker_events > 8)
        printf("  (the worker made %u system calls in this time; the first ones are shown)\n", s.worker_calls);
}

/* ---- for people --------------------------------------------------------------------------------- */

static void show_threads(const struct pw_run *run)
{
    static const char *const head[] = { "TID", "NAME",   "PRIORITY", "STATE",       "RUN ms",
                                        "PREEMPTED", "BLOCKED", "SYSTEM CALLS", "STACK USED/SIZE" };
    struct table *t = table_new(head, 9, "r l r l r r r r r");
    for (int i = 0; i < run->threads && i < PW_THREADS; i++) {
        const struct kss_thread_info_snapshot *s = &run->thread[i];
        table_row(t, "%d|%s|%d|%s|%.2f|%" PRIu64 "|%" PRIu64 "|%" PRIu64 "|%zu/%zu", s->tid, s->name, s->priority,
                  kss_thread_state_name(s->state), (double)s->run_ns / 1e6, s->preemptions, s->voluntary, s->syscalls,
                  s->kstack_high_water, s->kstack_size);
    }
    table_print(t);
}

static const unsigned lines[] = { KSS_LINE_TIMER, KSS_LINE_DISK, KSS_LINE_DISK + 1 };

static void show_lines(struct kss_machine *m)
{
    static const char *const head[] = { "LINE", "NAME", "RAISED", "DELIVERED", "PENDING", "LOST", "ADDS UP" };
    struct table *t = table_new(head, 7, "r l r r r r l");
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct kss_irq_stats s;
        if (kss_irq_stats(m, 0, lines[i], &s) == 0)
            table_row(t, "%u|%s|%" PRIu64 "|%" PRIu64 "|%u|%" PRIu64 "|%s", lines[i], s.name, s.raised, s.delivered,
                      s.pending, s.lost, s.raised == s.delivered + s.pending + s.lost ? "yes" : "NO");
    }
    table_print(t);
}

static void show_result(const struct pw_run *run)
{
    if (run->run_result < 0)
        printf("Stopped: %s\n%" PRIu64 " of %" PRIu64 " bytes had been written; %s is incomplete.\n",
               run->run_sentence, run->copied, run->input_bytes, run->options->output);
    else if (run->writer_error)
        printf("The writer failed: %s\n%" PRIu64 " of %" PRIu64 " bytes had been written; %s is incomplete.\n",
               run->writer_sentence, run->copied, run->input_bytes, run->options->output);
    else if (run->equal)
        printf("%s equals %s: %" PRIu64 " bytes compared, in %.2f s of simulated machine.\n", run->options->output,
               run->options->input, run->compared, run->seconds);
    else
        printf("%s DIFFERS from %s: %s\n", run->options->output, run->options->input, run->difference);
}

void pw_show(struct kss_machine *m, const struct pw_run *run)
{
    printf("The story of the first write(), as the kernel traced it\n"
           "(writer is thread %d, worker is thread %d, idle is thread 0):\n\n", run->writer_tid, run->worker_tid);
    story(m, run, false);
    if (run->seen_blocked) {
        printf("\nThe blocked writer, as the worker found it through a system call of its own:\n\n%s\n", run->picture);
        printf("Its backtrace, across the mode switch:\n\n");
        for (int i = 0; i < run->frames; i++)
            printf("  %2d  %-6s  %s+%#" PRIx64 "\n", i,
                   run->frame[i].kind == KSS_FRAME_USER   ? "user"
                   : run->frame[i].kind == KSS_FRAME_TRAP ? "trap"
                                                          : "kernel",
                   run->frame[i].symbol[0] ? run->frame[i].symbol : "?", run->frame[i].offset);
    }
    printf("\nThreads at the end, the writer a zombie that still has its kernel stack:\n\n");
    show_threads(run);
    printf("\nInterrupts:\n\n");
    show_lines(m);
    printf("\nWhile the writer was inside write(), the worker made %" PRIu64 " system calls.\n",
           run->worker_blocked_syscalls);
    show_result(run);
}

/* ---- for programs ------------------------------------------------------------------------------- */

static void json_string(const char *s)
{
    putchar('"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            printf("\\%c", *s);
        else if ((unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7f)
            printf("\\u%04x", (unsigned char)*s);
        else
            putchar(*s);
    }
    putchar('"');
}

static void json_threads(const struct pw_run *run)
{
    printf("\"threads\":[");
    for (int i = 0; i < run->threads && i < PW_THREADS; i++) {
        const struct kss_thread_info_snapshot *s = &run->thread[i];
        printf("%s\n  {\"tid\":%d,\"pid\":%d,\"name\":", i ? "," : "", s->tid, s->pid);
        json_string(s->name);
        printf(",\"priority\":%d,\"state\":\"%s\",\"run_ns\":%" PRIu64 ",\"preemptions\":%" PRIu64
               ",\"voluntary\":%" PRIu64 ",\"system_calls\":%" PRIu64 ",\"stack_used\":%zu,\"stack_size\":%zu}",
               s->priority, kss_thread_state_name(s->state), s->run_ns, s->preemptions, s->voluntary, s->syscalls,
               s->kstack_high_water, s->kstack_size);
    }
    printf("],\n");
}

static void json_lines(struct kss_machine *m)
{
    const char *comma = "";
    printf("\"interrupts\":[");
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        struct kss_irq_stats s;
        if (kss_irq_stats(m, 0, lines[i], &s) < 0)
            continue;
        printf("%s\n  {\"line\":%u,\"name\":", comma, lines[i]);
        json_string(s.name);
        printf(",\"raised\":%" PRIu64 ",\"delivered\":%" PRIu64 ",\"pending\":%u,\"lost\":%" PRIu64 "}", s.raised,
               s.delivered, s.pending, s.lost);
        comma = ",";
    }
    printf("],\n");
}

void pw_show_json(struct kss_machine *m, const struct pw_run *run)
{
    printf("{\"input\":");
    json_string(run->options->input);
    printf(",\"output\":");
    json_string(run->options->output);
    printf(",\n\"bytes\":%" PRIu64 ",\"written\":%" PRIu64 ",\"equal\":%s,\"seconds\":%.6f,\n", run->input_bytes,
           run->copied, run->equal ? "true" : "false", run->seconds);
    printf("\"error\":");
    if (run->run_result < 0 || run->writer_error)
        json_string(run->run_result < 0 ? run->run_sentence : run->writer_sentence);
    else
        printf("null");
    printf(",\n\"worker_system_calls\":%" PRIu64 ",\"worker_system_calls_while_blocked\":%" PRIu64 ",\n",
           run->worker_syscalls, run->worker_blocked_syscalls);
    printf("\"blocked_backtrace\":[");
    for (int i = 0; i < run->frames; i++) {
        printf("%s\n  {\"symbol\":", i ? "," : "");
        json_string(run->frame[i].symbol);
        printf(",\"offset\":%" PRIu64 ",\"size\":%zu,\"kind\":\"%s\"}", run->frame[i].offset, run->frame[i].size,
               run->frame[i].kind == KSS_FRAME_USER   ? "user"
               : run->frame[i].kind == KSS_FRAME_TRAP ? "trap"
                                                      : "kernel");
    }
    printf("],\n");
    json_threads(run);
    json_lines(m);
    printf("\"story\":[");
    story(m, run, true);
    printf("]}\n");
}

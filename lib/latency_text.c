/* SPDX-License-Identifier: MIT */
/* A CPU's latencies as a table for people. */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>

typedef unsigned long long ull;

#define print kssi_text_print

/* Four digits are enough, and columns stay narrow. */
static void time_of(struct kssi_text *t, uint64_t ns)
{
    static const char *const unit[] = { "ns", "us", "ms", "s " };
    unsigned u = 0;
    uint64_t whole = ns, rest = 0;
    for (; whole >= 10000 && u < 3; u++) {
        rest = whole % 1000;
        whole /= 1000;
    }
    if (u && whole < 100)
        print(t, " %5llu.%llu %s", (ull)whole, (ull)(rest / 100), unit[u]);
    else
        print(t, " %7llu %s", (ull)whole, unit[u]);
}

static void row(struct kssi_text *t, const char *what, const char *which, const struct kss_latency *l)
{
    if (!l->count)
        return;
    print(t, "  %-28.28s %-10s %10llu", what, which, (ull)l->count);
    time_of(t, l->p50_ns);
    time_of(t, l->p90_ns);
    time_of(t, l->p99_ns);
    time_of(t, l->p999_ns);
    time_of(t, l->max_ns);
    print(t, "\n");
}

static void place(struct kssi_text *t, const struct kss_latency_place *p, const char *trap)
{
    if (!p->pc)
        print(t, "%s of %.60s (vector %#x)", trap, kss_vector_name(p->vector), p->vector);
    else if (p->symbol[0])
        print(t, "%.63s+%#llx", p->symbol, (ull)p->offset);
    else
        print(t, "pc %#llx", (ull)p->pc);
}

static void longest(struct kssi_text *t, const char *what, const struct kss_latency_span *s)
{
    if (!s->time.count)
        return;
    print(t, "  %s longest, by thread %d: from ", what, s->tid);
    place(t, &s->from, "the entry");
    print(t, " to ");
    place(t, &s->to, "the exit");
    print(t, "\n");
}

int kss_latency_format(const struct kss_latency_summary *s, char *buffer, size_t size)
{
    struct kssi_text t = { buffer, size, 0 };
    if (!s || (size && !buffer))
        return kssi_error(-EINVAL, s ? "%zu bytes of text: the buffer is NULL" : "%zu bytes of text: no summary to print", size);
    if (s->vectors > KSS_VECTORS)
        return kssi_error(-EINVAL, "a summary of %u vectors: there are %d", s->vectors, KSS_VECTORS);
    if (size)
        buffer[0] = '\0';
    print(&t, "CPU %-26u %-10s %10s %10s %10s %10s %10s %10s\n", s->cpu, "", "count", "50 %", "90 %", "99 %", "99.9 %",
          "longest");
    row(&t, "interrupts", "off", &s->irqs_off.time);
    row(&t, "preemption", "off", &s->preempt_off.time);
    for (unsigned i = 0; i < s->vectors; i++) {
        char what[40];
        snprintf(what, sizeof what, "%#x %.31s", s->vector[i].vector, s->vector[i].name);
        row(&t, what, "to handler", &s->vector[i].to_handler);
        row(&t, what, "handler", &s->vector[i].handler);
    }
    longest(&t, "interrupts off", &s->irqs_off);
    longest(&t, "preemption off", &s->preempt_off);
    return (int)t.length;
}

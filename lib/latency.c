/* SPDX-License-Identifier: MIT */
/*
 * Latencies, per CPU: how long handlers take, and for how long interrupts and preemption are off, with the places where
 * that was longest. Only with kss_config.latency; else cpu->latency is NULL, and nobody comes here. What turns interrupts
 * off for a moment inside the library, and on again in the same function, is not measured. A CPU that idles has them
 * off while it waits: that is nobody's latency, and not measured either.
 */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct span {
    unsigned writing; /* odd while `worst` changes */
    struct worst {
        uint64_t ns;
        struct kssi_place from, to;
        int tid;
    } worst;
};

enum { IRQS, PREEMPT, SPANS };

/* Its own CPU, interrupts off or (preemption) not preemptible; others only look. */
struct kssi_latency {
    struct kssi_histogram *to_handler; /* of each line */
    struct kssi_histogram *handler;    /* of each vector */
    struct kssi_histogram *off;        /* of each span */
    uint64_t off_at;                   /* interrupts have been off since; 0: on, or not measured */
    struct kssi_place off_from;
    struct span span[SPANS];
};

int kssi_latency_init(struct kssi_cpu *cpu)
{
    if (!cpu->machine->config.latency)
        return 0;
    struct kssi_latency *l = cpu->latency = calloc(1, sizeof *l);
    if (l) {
        l->to_handler = kssi_histograms_new(cpu->machine, KSS_IRQ_LINES);
        l->handler = kssi_histograms_new(cpu->machine, KSS_VECTORS);
        l->off = kssi_histograms_new(cpu->machine, SPANS);
    }
    return l && l->to_handler && l->handler && l->off
               ? 0 : kssi_error(-ENOMEM, "no host memory for the latencies of CPU %u", cpu->index);
}

void kssi_latency_fini(struct kssi_cpu *cpu)
{
    struct kssi_latency *l = cpu->latency;
    if (!l)
        return;
    kssi_histograms_free(cpu->machine, l->to_handler, KSS_IRQ_LINES);
    kssi_histograms_free(cpu->machine, l->handler, KSS_VECTORS);
    kssi_histograms_free(cpu->machine, l->off, SPANS);
    free(l);
    cpu->latency = NULL;
}

/* ---- measuring ----------------------------------------------------------------------------------- */

static uint64_t clock_of(const struct kssi_cpu *cpu)
{
    uint64_t now = cpu->machine->platform->account_clock(cpu->machine);
    return now ? now : 1;
}

void kssi_latency_handled(struct kssi_cpu *cpu, unsigned vector, uint64_t ns)
{
    kssi_histogram_add(cpu->latency->handler, vector & 0xff, ns);
}

void kssi_latency_reached(struct kssi_cpu *cpu, unsigned line, uint64_t raised, uint64_t now)
{
    if (raised && now >= raised)
        kssi_histogram_add(cpu->latency->to_handler, line, now - raised);
}

static void add(struct kssi_latency *l, unsigned span, uint64_t ns, struct kssi_place from, struct kssi_place to, int tid)
{
    struct span *s = &l->span[span];
    kssi_histogram_add(l->off, span, ns);
    if (ns <= s->worst.ns)
        return;
    __atomic_store_n(&s->writing, s->writing + 1, __ATOMIC_SEQ_CST);
    s->worst = (struct worst){ ns, from, to, tid };
    __atomic_store_n(&s->writing, s->writing + 1, __ATOMIC_SEQ_CST);
}

/* Interrupts have just been turned off on this CPU. Whatever was noted before was ended where nobody looked. */
void kssi_latency_irqs_off(uintptr_t pc, unsigned vector)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    cpu->latency->off_from = (struct kssi_place){ pc, vector };
    cpu->latency->off_at = clock_of(cpu);
}

/* They are about to be turned on. Nothing is said of a CPU that has them on. */
void kssi_latency_irqs_on(uintptr_t pc, unsigned vector)
{
    if (kssi_irqs_on())
        return;
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct kssi_latency *l = cpu->latency;
    uint64_t from = l->off_at, now = clock_of(cpu);
    l->off_at = 0;
    if (from && now > from)
        add(l, IRQS, now - from, l->off_from, (struct kssi_place){ pc, vector }, cpu->current->tid);
}

void kssi_latency_preempt_off(struct kss_thread *t)
{
    t->preempt_off_ns = clock_of(kssi_this_cpu());
}

/* Still off, so that neither the CPU changes nor a handler comes here in the middle: it finds the count above 1. */
void kssi_latency_preempt_on(struct kss_thread *t, uintptr_t pc)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    uint64_t now = clock_of(cpu), from = t->preempt_off_ns;
    t->preempt_off_ns = 0;
    if (now > from)
        add(cpu->latency, PREEMPT, now - from, (struct kssi_place){ t->preempt_off_at, 0 }, (struct kssi_place){ pc, 0 },
            t->tid);
}

/* ---- reading ------------------------------------------------------------------------------------- */

static int readable(struct kss_machine *m, unsigned cpu, const void *out)
{
    int r = kssi_valid_machine(m);
    if (r < 0)
        return r;
    if (cpu >= m->cpus || !out)
        return kssi_error(-EINVAL, out ? "CPU %u: the machine has %u" : "CPU %u of %u: no place for its latencies", cpu,
                          m->cpus);
    return m->cpu[cpu].latency ? 0 : kssi_error(-ENODATA, "kss_config.latency is off: nothing was measured");
}

static void name(struct kss_machine *m, const struct kssi_place *from, struct kss_latency_place *to)
{
    *to = (struct kss_latency_place){ .pc = from->pc, .vector = from->vector };
    if (from->pc && !m->platform->symbol(from->pc, to->symbol, sizeof to->symbol, &to->offset))
        to->symbol[0] = '\0';
}

static void read_span(struct kss_machine *m, const struct kssi_latency *l, unsigned span, struct kss_latency_span *out)
{
    const struct span *s = &l->span[span];
    struct worst w;
    unsigned before;
    do {
        before = __atomic_load_n(&s->writing, __ATOMIC_SEQ_CST);
        w = s->worst;
    } while (before % 2 || __atomic_load_n(&s->writing, __ATOMIC_SEQ_CST) != before);
    kssi_histogram_read(l->off, span, &out->time);
    name(m, &w.from, &out->from);
    name(m, &w.to, &out->to);
    out->tid = w.tid;
}

int kss_latency_read(struct kss_machine *m, unsigned cpu, struct kss_latency_summary *out)
{
    int r = readable(m, cpu, out);
    if (r < 0)
        return r;
    const struct kssi_latency *l = m->cpu[cpu].latency;
    memset(out, 0, sizeof *out);
    out->cpu = cpu;
    read_span(m, l, IRQS, &out->irqs_off);
    read_span(m, l, PREEMPT, &out->preempt_off);
    for (unsigned v = 0; v < KSS_VECTORS; v++) {
        struct kss_latency_vector *to = &out->vector[out->vectors];
        to->vector = v;
        kssi_histogram_read(l->handler, v, &to->handler);
        if (!to->handler.count)
            continue;
        const char *line = "";
        if (v >= KSS_VEC_IRQ && v < KSS_VEC_IRQ + KSS_IRQ_LINES) {
            kssi_histogram_read(l->to_handler, v - KSS_VEC_IRQ, &to->to_handler);
            line = m->irq[v - KSS_VEC_IRQ].name;
        }
        snprintf(to->name, sizeof to->name, "%s", line[0] ? line : kss_vector_name(v));
        out->vectors++;
    }
    return 0;
}

int kss_vector_latency(struct kss_machine *m, unsigned cpu, unsigned vector, struct kss_latency *handler)
{
    int r = readable(m, cpu, handler);
    if (r < 0)
        return r;
    if (vector >= KSS_VECTORS)
        return kssi_error(-EINVAL, "vector %u: 0 to %d", vector, KSS_VECTORS - 1);
    kssi_histogram_read(m->cpu[cpu].latency->handler, vector, handler);
    return 0;
}

int kss_irq_latency(struct kss_machine *m, unsigned cpu, unsigned line, struct kss_latency *to_handler,
                    struct kss_latency *handler)
{
    int r = kssi_valid_machine(m);
    if (r < 0)
        return r;
    if (line >= KSS_IRQ_LINES || cpu >= m->cpus)
        return kssi_error(-EINVAL, "line %u of CPU %u: no such line or CPU", line, cpu);
    struct kss_latency unused;
    r = readable(m, cpu, &unused);
    if (r < 0)
        return r;
    kssi_histogram_read(m->cpu[cpu].latency->to_handler, line, to_handler ? to_handler : &unused);
    kssi_histogram_read(m->cpu[cpu].latency->handler, KSS_VEC_IRQ + line, handler ? handler : &unused);
    return 0;
}

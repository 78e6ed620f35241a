/* SPDX-License-Identifier: MIT */
/*
 * A CPU's interrupt controller: request (pending), mask and in-service bits, priorities, end of
 * interrupt. A line is deliverable when it is requested, not masked, and of higher priority than all
 * that are in service. The request bit is the hardware's one-deep buffer: a line raised while it is
 * still pending is lost, and counted, so that raised = delivered + pending + lost.
 */
#include "hw.h"

#include <errno.h>
#include <string.h>

/* Above all that a handler can leave in service. */
#define STOP_PRIORITY (KSS_IRQ_PRIO_MAX + 1)

void kssi_intc_init(struct kssi_intc *intc)
{
    memset(intc, 0, sizeof *intc);
    for (unsigned i = 0; i < KSS_IRQ_LINES; i++)
        intc->line[i].priority = 8;
    intc->line[KSS_LINE_RESCHED].priority = intc->line[KSS_LINE_CALL].priority = 13;
    intc->line[KSS_LINE_TIMER].priority = 14;
    intc->line[KSS_LINE_STOP].priority = STOP_PRIORITY;
}

bool kssi_intc_raise(struct kssi_intc *intc, unsigned line, unsigned count, uint64_t now)
{
    struct kssi_line *l = &intc->line[line];
    uint64_t bit = 1ull << line;
    atomic_fetch_add(&intc->raising, 1);
    atomic_fetch_add_explicit(&l->raised, count, memory_order_relaxed);
    bool first = !(atomic_fetch_or(&intc->request, bit) & bit);
    if (first && now)
        atomic_store_explicit(&l->raised_ns, now, memory_order_relaxed);
    if (count > 1 || !first)
        atomic_fetch_add_explicit(&l->lost, count - first, memory_order_relaxed);
    atomic_fetch_sub(&intc->raising, 1);
    return first;
}

static int service_priority(const struct kssi_intc *intc)
{
    int highest = -1;
    for (uint64_t bits = intc->in_service; bits; bits &= bits - 1) {
        int p = intc->line[__builtin_ctzll(bits)].priority;
        if (p > highest)
            highest = p;
    }
    return highest;
}

/* The requested line that may be delivered first; -1: none. Lowest line first among equals. */
static int best(const struct kssi_intc *intc)
{
    uint64_t bits = intc->request & ~(intc->mask | intc->held);
    int line = -1, priority = bits ? service_priority(intc) : 0;
    for (; bits; bits &= bits - 1) {
        int n = __builtin_ctzll(bits);
        if (intc->line[n].priority > priority) {
            priority = intc->line[n].priority;
            line = n;
        }
    }
    return line;
}

bool kssi_intc_deliverable(struct kssi_intc *intc)
{
    return best(intc) >= 0;
}

/* Written by the own CPU only; a signal in the middle adds an even number. */
static void taking(struct kssi_intc *intc)
{
    __atomic_store_n(&intc->taking, intc->taking + 1, __ATOMIC_RELEASE);
}

int kssi_intc_acknowledge(struct kssi_intc *intc, uint64_t *raised_ns)
{
    int line = best(intc);
    if (line < 0)
        return -1;
    struct kssi_line *l = &intc->line[line];
    taking(intc);
    *raised_ns = atomic_exchange_explicit(&l->raised_ns, 0, memory_order_relaxed);
    /* The time stamp is taken before the bit is cleared: a raise in between is still "pending" and
       lost, as it would be a moment earlier. */
    atomic_fetch_and(&intc->request, ~(1ull << line));
    atomic_fetch_or(&intc->in_service, 1ull << line);
    atomic_fetch_add_explicit(&l->delivered, 1, memory_order_relaxed);
    taking(intc);
    return line;
}

int kssi_intc_eoi(struct kssi_intc *intc, unsigned line)
{
    uint64_t bit = 1ull << line;
    if (!(intc->in_service & bit))
        return -EINVAL;
    taking(intc);
    atomic_fetch_and(&intc->in_service, ~bit);
    atomic_fetch_add_explicit(&intc->line[line].eoi, 1, memory_order_relaxed);
    taking(intc);
    return 0;
}

/* True if nobody raised, took or ended anything meanwhile: then the numbers belong together. */
bool kssi_intc_line_stats(struct kssi_intc *intc, unsigned line, struct kss_irq_stats *s)
{
    struct kssi_line *l = &intc->line[line];
    uint64_t bit = 1ull << line, before = atomic_load(&l->raised);
    unsigned taken = __atomic_load_n(&intc->taking, __ATOMIC_ACQUIRE);
    bool quiet = atomic_load(&intc->raising) == 0 && taken % 2 == 0;
    s->delivered = l->delivered;
    s->pending = (intc->request & bit) != 0;
    s->lost = l->lost;
    s->raised = l->raised;
    s->eoi = l->eoi;
    s->in_service = (intc->in_service & bit) != 0;
    s->masked = (intc->mask & bit) != 0;
    s->priority = l->priority < KSS_IRQ_PRIO_MAX ? l->priority : KSS_IRQ_PRIO_MAX;
    return quiet && atomic_load(&intc->raising) == 0 && s->raised == before &&
           __atomic_load_n(&intc->taking, __ATOMIC_SEQ_CST) == taken;
}

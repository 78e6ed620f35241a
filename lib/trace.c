/* SPDX-License-Identifier: MIT */
/*
 * The trace ring: one a CPU, overwriting the oldest. A slot is reserved with one atomic addition, so
 * an interrupt in the middle of a record simply takes the next slot; no locks, no system calls but the
 * clock's, which the vDSO answers.
 */
#include "kernel.h"

#include <errno.h>
#include <stdlib.h>

struct kssi_trace_ring {
    uint64_t head; /* events ever recorded */
    uint64_t mask;
    struct kss_trace_event event[];
};

static size_t ring_size(const struct kss_machine *m)
{
    return sizeof(struct kssi_trace_ring) + m->config.trace_events * sizeof(struct kss_trace_event);
}

int kssi_trace_init(struct kss_machine *m)
{
    size_t n = m->config.trace_events;
    for (unsigned i = 0; i < m->cpus; i++) {
        struct kssi_trace_ring *r = kssi_pages_new(m, ring_size(m));
        if (!r)
            return kssi_error(-ENOMEM, "no host memory for trace_events = %zu", n);
        r->mask = n - 1;
        m->cpu[i].ring = r;
    }
    return 0;
}

void kssi_trace_fini(struct kss_machine *m)
{
    for (unsigned i = 0; i < m->cpus; i++)
        kssi_pages_free(m, m->cpu[i].ring, ring_size(m));
}

static void record(struct kssi_cpu *cpu, int tid, enum kss_trace_type type, uint64_t a, uint64_t b,
                   uint64_t c, uint64_t d)
{
    struct kssi_trace_ring *r = cpu->ring;
    uint64_t n = __atomic_fetch_add(&r->head, 1, __ATOMIC_RELAXED);
    struct kss_trace_event *e = &r->event[n & r->mask];
    e->time_ns = kssi_now(cpu->machine);
    e->value[0] = a;
    e->value[1] = b;
    e->value[2] = c;
    e->value[3] = d;
    e->tid = tid;
    e->type = (uint16_t)type;
    e->cpu = (uint16_t)cpu->index;
    __atomic_store_n(&e->sequence, n, __ATOMIC_RELEASE);
}

/* From a host thread (a device), it goes to CPU 0, which gets the interrupt. */
void kssi_trace_record(struct kss_machine *m, enum kss_trace_type type, uint64_t a, uint64_t b,
                       uint64_t c, uint64_t d)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    if (!cpu) {
        record(&m->cpu[0], KSS_TRACE_HOST, type, a, b, c, d);
        return;
    }
    int tid;
    do { /* a thread with interrupts on may migrate in between; the handlers of signals come here too */
        cpu = kssi_this_cpu();
        tid = cpu->current->tid;
    } while (unlikely(cpu != kssi_this_cpu()));
    record(cpu, tid, type, a, b, c, d);
}

void kssi_trace_switch(struct kss_machine *m, const struct kss_thread *prev, const struct kss_thread *next,
                       enum kss_switch_reason reason)
{
    record(kssi_this_cpu(), prev->tid, KSS_TR_SWITCH, (uint64_t)(int64_t)next->tid,
           m->platform->context_sp(prev->context), m->platform->context_sp(next->context), reason);
}

uint64_t kssi_trace_recorded(struct kss_machine *m, uint64_t *lost)
{
    uint64_t n = 0;
    *lost = 0;
    for (unsigned i = 0; i < m->cpus; i++) {
        struct kssi_trace_ring *r = m->cpu[i].ring;
        n += r->head;
        *lost += r->head > r->mask + 1 ? r->head - (r->mask + 1) : 0;
    }
    return n;
}

int kssi_trace_last(struct kssi_cpu *cpu, struct kss_trace_event *out, int max)
{
    struct kssi_trace_ring *r = cpu->ring;
    uint64_t have = r->head < r->mask + 1 ? r->head : r->mask + 1;
    int n = have < (uint64_t)max ? (int)have : max;
    for (int i = 0; i < n; i++)
        out[i] = r->event[(r->head - (uint64_t)(n - i)) & r->mask];
    return n;
}

int kss_trace_enable(struct kss_machine *m, bool on)
{
    int r = kssi_valid_machine(m);
    if (r < 0)
        return r;
    if (kssi_this_cpu())
        kssi_require_kernel();
    m->config.trace = on; /* for a machine that has not run yet */
    m->trace_on = on;
    return 0;
}

long kss_trace_mark(uint64_t id, uint64_t value)
{
    if (!kssi_this_cpu())
        return kssi_error(-EPERM, "marks can be made on a simulated CPU only");
    if (kssi_cpu_mode() == KSS_MODE_USER)
        return kss_syscall(KSS_SYS_TRACE_MARK, (long)id, (long)value, 0, 0, 0, 0);
    KSSI_TRACE(kssi_this_cpu()->machine, KSS_TR_MARK, id, value, 0, 0);
    return 0;
}

/* The event that comes next in time over all rings; each ring is in order already. */
static struct kssi_trace_ring *earliest(struct kss_machine *m, const uint64_t *at)
{
    struct kssi_trace_ring *best = NULL;
    uint64_t time = UINT64_MAX;
    for (unsigned i = 0; i < m->cpus; i++) {
        struct kssi_trace_ring *r = m->cpu[i].ring;
        if (at[i] < r->head && r->event[at[i] & r->mask].time_ns < time) {
            time = r->event[at[i] & r->mask].time_ns;
            best = r;
        }
    }
    return best;
}

int kss_trace_for_each(struct kss_machine *m, int (*fn)(const struct kss_trace_event *, void *), void *arg)
{
    int r = kssi_require_view(m);
    if (r < 0)
        return r;
    if (!fn)
        return kssi_error(-EINVAL, "no function to call");
    uint64_t *at = calloc(m->cpus, sizeof *at);
    if (!at)
        return kssi_error(-ENOMEM, "no host memory to read the trace");
    bool was_on = m->trace_on;
    m->trace_on = false; /* stands still while it is read */
    for (unsigned i = 0; i < m->cpus; i++) {
        struct kssi_trace_ring *ring = m->cpu[i].ring;
        at[i] = ring->head > ring->mask + 1 ? ring->head - (ring->mask + 1) : 0;
    }
    struct kssi_trace_ring *ring;
    while (r == 0 && (ring = earliest(m, at))) {
        for (unsigned i = 0; i < m->cpus; i++)
            if (m->cpu[i].ring == ring)
                r = fn(&ring->event[at[i]++ & ring->mask], arg);
    }
    m->trace_on = was_on;
    free(at);
    return r;
}

/* SPDX-License-Identifier: MIT */
/*
 * Dispatch queues, as in Linux's sched_ext: first come first served, or in the order of a virtual
 * time (a red-black tree). One local queue a CPU, one global, any number of the class's own.
 * Everything here runs with sched_lock held.
 */
#include "sched_class.h"

#include <errno.h>
#include <stdlib.h>

static int compare(struct kss_thread *a, struct kss_thread *b)
{
    if (a->dsq.vtime != b->dsq.vtime)
        return a->dsq.vtime < b->dsq.vtime ? -1 : 1;
    return a->dsq.order < b->dsq.order ? -1 : a->dsq.order > b->dsq.order;
}

RB_HEAD(dsq_tree, kss_thread);

struct kssi_dsq {
    uint64_t id;
    unsigned count;
    TAILQ_HEAD(, kss_thread) fifo;
    struct dsq_tree tree;
    struct kssi_dsq *next;
};

RB_PROTOTYPE_INTERNAL(dsq_tree, kss_thread, dsq.tree, compare, static __attribute__((unused)))
RB_GENERATE_INTERNAL(dsq_tree, kss_thread, dsq.tree, compare, static __attribute__((unused)))

struct kssi_dsq *kssi_dsq_new(struct kss_machine *m, uint64_t id)
{
    struct kssi_dsq *q = calloc(1, sizeof *q);
    if (!q)
        return NULL;
    q->id = id;
    TAILQ_INIT(&q->fifo);
    RB_INIT(&q->tree);
    q->next = m->dsqs;
    m->dsqs = q;
    return q;
}

void kssi_dsq_free_all(struct kss_machine *m)
{
    while (m->dsqs) {
        struct kssi_dsq *q = m->dsqs;
        m->dsqs = q->next;
        free(q);
    }
}

struct kssi_dsq *kssi_dsq_next(struct kssi_dsq *q)
{
    return q->next;
}

void kssi_dsq_clear_all(struct kss_machine *m)
{
    for (struct kssi_dsq *q = m->dsqs; q; q = q->next) {
        q->count = 0;
        TAILQ_INIT(&q->fifo);
        RB_INIT(&q->tree);
    }
}

unsigned kssi_dsq_count(const struct kssi_dsq *q)
{
    return q->count;
}

static struct kssi_dsq *find(struct kss_machine *m, uint64_t id)
{
    if (id == KSS_DSQ_GLOBAL)
        return m->global;
    if (id == KSS_DSQ_LOCAL)
        id = KSS_DSQ_LOCAL_ON | kssi_this_cpu()->index; /* it may be out, and handle an interrupt */
    if (id & KSS_DSQ_LOCAL_ON) {
        uint64_t cpu = id & ~KSS_DSQ_LOCAL_ON;
        if (cpu >= m->cpus)
            return NULL;
        return kss_cpumask_test(&m->online, (unsigned)cpu) ? m->cpu[cpu].local : m->global; /* of one that is out: all others' */
    }
    for (struct kssi_dsq *q = m->dsqs; q; q = q->next)
        if (q->id == id)
            return q;
    return NULL;
}

void kssi_dsq_insert_fifo(struct kss_thread *t, struct kssi_dsq *q, uint64_t slice_ns)
{
    KSS_ASSERT(!t->dsq.queue);
    t->slice_ns = slice_ns;
    t->dsq.queue = q;
    t->dsq.by_vtime = false;
    TAILQ_INSERT_TAIL(&q->fifo, t, dsq.fifo);
    q->count++;
}

/* Only what the scheduler has been given to place, and is in no queue. */
static int check_insert(const struct kss_thread *t)
{
    int r = kssi_own_thread(t);
    if (r < 0)
        return r;
    if (t->dsq.queue)
        return kssi_error(-EINVAL, "thread %d (%s) is in a dispatch queue already", t->tid, t->name);
    if (!t->queued)
        return kssi_error(-EINVAL, "thread %d (%s) can't be queued: it is %s, and does not wait for a CPU", t->tid,
                          t->name, kss_thread_state_name(t->state));
    return 0;
}

/* The class goes when its operation has ended. */
static int misplaced(const struct kss_thread *t)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    if (cpu->in_class_op)
        kssi_class_blame(cpu->machine, KSS_SCHED_EXIT_BAD_PICK, kssi_thread_machine(t) == cpu->machine ? t : NULL,
                         "%s(): %.200s", cpu->op->name, kss_last_error());
    return -EINVAL;
}

static bool may_run_from(const struct kss_thread *t, uint64_t id)
{
    if (id == KSS_DSQ_LOCAL)
        id = KSS_DSQ_LOCAL_ON | kssi_this_cpu()->index;
    unsigned cpu = (unsigned)(id & ~KSS_DSQ_LOCAL_ON);
    if (id == KSS_DSQ_GLOBAL || !(id & KSS_DSQ_LOCAL_ON) || !kss_cpumask_test(&t->machine->online, cpu))
        return true; /* of one that is out: the global one takes its place, see find() */
    return kssi_may_run_on(t, cpu);
}

static int insert(struct kss_thread *t, uint64_t id, uint64_t slice_ns, bool by_vtime, uint64_t vtime)
{
    if (check_insert(t) < 0)
        return misplaced(t);
    struct kssi_dsq *q = find(t->machine, id);
    if (!q)
        return kssi_error(-EINVAL, "dispatch queue %#llx does not exist", (unsigned long long)id);
    if (unlikely(t->pinned) && !may_run_from(t, id)) {
        kssi_error(-EINVAL, "thread %d (%s) may not run on the CPU of that queue: see kss_setaffinity()", t->tid, t->name);
        return misplaced(t);
    }
    if (by_vtime && (id >> 61))
        return kssi_error(-EINVAL, "the local and global queues have no order by virtual time");
    if (slice_ns == KSS_SLICE_DEFAULT)
        slice_ns = t->machine->config.timeslice_ns;
    if (!by_vtime) {
        kssi_dsq_insert_fifo(t, q, slice_ns);
        return 0;
    }
    t->slice_ns = slice_ns;
    t->dsq.queue = q;
    t->dsq.by_vtime = true;
    t->dsq.vtime = vtime;
    t->dsq.order = t->machine->dsq_order++;
    RB_INSERT(dsq_tree, &q->tree, t);
    q->count++;
    return 0;
}

int kss_dsq_insert(struct kss_thread *t, uint64_t dsq, uint64_t slice_ns, unsigned flags)
{
    (void)flags;
    if (!kssi_require_kernel())
        return kssi_error(-EPERM, "dispatch queues belong to the kernel of a simulated CPU");
    return insert(t, dsq, slice_ns, false, 0);
}

int kss_dsq_insert_vtime(struct kss_thread *t, uint64_t dsq, uint64_t slice_ns, uint64_t vtime,
                         unsigned flags)
{
    (void)flags;
    if (!kssi_require_kernel())
        return kssi_error(-EPERM, "dispatch queues belong to the kernel of a simulated CPU");
    return insert(t, dsq, slice_ns, true, vtime);
}

struct kss_thread *kssi_dsq_first(struct kssi_dsq *q)
{
    struct kss_thread *t = TAILQ_FIRST(&q->fifo);
    return t ? t : RB_MIN(dsq_tree, &q->tree);
}

void kssi_dsq_remove(struct kss_thread *t)
{
    struct kssi_dsq *q = t->dsq.queue;
    if (!q)
        return;
    if (t->dsq.by_vtime)
        RB_REMOVE(dsq_tree, &q->tree, t);
    else
        TAILQ_REMOVE(&q->fifo, t, dsq.fifo);
    q->count--;
    t->dsq.queue = NULL;
}

struct kss_thread *kssi_dsq_first_for(struct kssi_dsq *q, unsigned cpu)
{
    struct kss_thread *t = kssi_dsq_first(q);
    if (likely(!t || kssi_may_run_on(t, cpu)))
        return t;
    TAILQ_FOREACH (t, &q->fifo, dsq.fifo)
        if (kssi_may_run_on(t, cpu))
            return t;
    RB_FOREACH (t, dsq_tree, &q->tree)
        if (kssi_may_run_on(t, cpu))
            return t;
    return NULL;
}

struct kss_thread *kssi_dsq_first_not_for(struct kssi_dsq *q, unsigned cpu)
{
    struct kss_thread *t;
    TAILQ_FOREACH (t, &q->fifo, dsq.fifo)
        if (!kssi_may_run_on(t, cpu))
            return t;
    return NULL;
}

struct kss_thread *kssi_dsq_pop(struct kssi_dsq *q, unsigned cpu)
{
    struct kss_thread *t = kssi_dsq_first_for(q, cpu);
    if (t)
        kssi_dsq_remove(t);
    return t;
}

bool kssi_dsq_contains(struct kssi_dsq *q, const struct kss_thread *t)
{
    struct kss_thread *i;
    TAILQ_FOREACH (i, &q->fifo, dsq.fifo)
        if (i == t)
            return true;
    RB_FOREACH (i, dsq_tree, &q->tree)
        if (i == t)
            return true;
    return false;
}

int kss_dsq_create(struct kss_machine *m, uint64_t id)
{
    int r = kssi_require_config(m);
    if (r < 0)
        return r;
    if (id == 0 || id > (1ull << 32))
        return kssi_error(-EINVAL, "dispatch queue id %#llx: 1 to 2^32 are a class's own",
                          (unsigned long long)id);
    bool on = kssi_this_cpu() && kssi_irq_save(); /* it may come from a class's operation: no lock */
    r = find(m, id) ? -EEXIST : kssi_dsq_new(m, id) ? 0 : -ENOMEM;
    kssi_irq_restore(on);
    if (r == -EEXIST)
        return kssi_error(r, "dispatch queue %#llx exists", (unsigned long long)id);
    return r < 0 ? kssi_error(r, "no memory for a dispatch queue") : 0;
}

bool kss_dsq_move_to_local(uint64_t id)
{
    if (!kssi_require_kernel())
        return false;
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct kssi_dsq *q = find(cpu->machine, id);
    struct kss_thread *t = q && q != cpu->local ? kssi_dsq_pop(q, cpu->index) : NULL;
    if (!t)
        return false;
    uint64_t slice = t->slice_ns;
    insert(t, KSS_DSQ_LOCAL, slice, false, 0);
    t->slice_ns = slice;
    return true;
}

unsigned kss_dsq_length(uint64_t id)
{
    struct kssi_dsq *q = kssi_require_kernel() ? find(kssi_this_cpu()->machine, id) : NULL;
    return q ? q->count : 0;
}

struct kss_thread *kss_dsq_first(uint64_t id)
{
    struct kssi_dsq *q = kssi_require_kernel() ? find(kssi_this_cpu()->machine, id) : NULL;
    return q ? kssi_dsq_first_for(q, kssi_this_cpu()->index) : NULL;
}

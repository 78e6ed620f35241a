/* SPDX-License-Identifier: MIT */
/*
 * Ejection: a scheduler class that misbehaves goes, its threads all go to the default one, and a record says
 * why. Also how it is found that a class has lost a thread, or holds one back for ever.
 */
#include "sched_class.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static const char *const reasons[] = {
    [KSS_SCHED_EXIT_DONE] = "done",         [KSS_SCHED_EXIT_CRASH] = "crash",
    [KSS_SCHED_EXIT_LOST_THREAD] = "lost-thread", [KSS_SCHED_EXIT_BAD_PICK] = "bad-pick",
    [KSS_SCHED_EXIT_STALL] = "stall",       [KSS_SCHED_EXIT_ERROR] = "error",
};

/* ---- the record ----------------------------------------------------------------------------------- */

void kss_dump_printf(struct kss_dump *dump, const char *format, ...)
{
    va_list ap;
    if (!dump || !format || dump->text.length >= dump->text.size)
        return;
    va_start(ap, format);
    int n = vsnprintf(dump->text.buffer + dump->text.length, dump->text.size - dump->text.length, format, ap);
    va_end(ap);
    if (n > 0)
        dump->text.length += (size_t)n;
}

const char *kss_sched_record(struct kss_machine *m)
{
    if (kssi_require_view(m) < 0)
        return NULL;
    return m->ejection && m->ejection->done ? m->ejection->record : NULL;
}

static void dump_threads(struct kss_machine *m)
{
    struct kss_dump *d = &m->ejection->dump;
    for (unsigned i = 0; i < m->id_slots && d->text.length < d->text.size; i++) {
        struct kss_thread *t = m->by_id[i];
        if (!t || t->state == KSS_THREAD_NEW || t->state > KSS_THREAD_SLEEPING)
            continue;
        kss_dump_printf(d, "thread %d (%s): %s%s, has run %llu us\n", t->tid, t->name,
                        kss_thread_state_name(t->state),
                        !t->queued ? "" : t->dsq.queue ? ", in a dispatch queue" : ", in no dispatch queue",
                        (unsigned long long)(t->run_ns / 1000));
        if (m->config.sched->dump_thread)
            kssi_op_guarded(m, KSSI_OP(dump_thread), "dump_thread", t, 0);
    }
}

/* Everything the class has to say, while its threads are still where it left them. */
static void write_record(struct kss_machine *m)
{
    const struct kss_sched_class *c = m->config.sched;
    struct kssi_ejection *e = m->ejection;
    e->dump.text = (struct kssi_text){ .buffer = e->record, .size = sizeof e->record };
    kss_dump_printf(&e->dump, "scheduler %s ejected\nreason: %s\nmessage: %s\n", c->name, e->info.reason, e->message);
    e->info.dump = e->record + (e->dump.text.length < sizeof e->record ? e->dump.text.length : 0);
    if (c->dump)
        kssi_op_guarded(m, KSSI_OP(dump), "dump", NULL, 0);
    for (unsigned i = 0; i < m->cpus; i++) {
        kss_dump_printf(&e->dump, "CPU %u: runs thread %d (%s)\n", i, m->cpu[i].current->tid,
                        m->cpu[i].current->name);
        if (c->dump_cpu)
            kssi_op_guarded(m, KSSI_OP(dump_cpu), "dump_cpu", NULL, (long)i);
    }
    dump_threads(m);
}

/* ---- the change of class ---------------------------------------------------------------------------- */

/*
 * An operation may have been abandoned in the middle of a change to a queue, so none is believed: all are
 * emptied, and what waits for a CPU is queued anew. A thread that is on its way from or to a CPU is
 * not `queued`; whoever moves it finds the default class when it goes on.
 */
static void take_over(struct kss_machine *m)
{
    uint64_t slice = m->config.timeslice_ns;
    kssi_dsq_clear_all(m);
    for (unsigned i = 0; i < m->id_slots; i++) {
        struct kss_thread *t = m->by_id[i];
        if (!t)
            continue;
        t->dsq.queue = NULL;
        if (t->slice_ns > slice)
            t->slice_ns = slice;
        if (t->queued)
            kssi_dsq_insert_fifo(t, m->global, slice);
    }
    for (unsigned i = 0; i < m->cpus; i++)
        kssi_resched_cpu(&m->cpu[i]);
    kssi_set_need_resched(kssi_this_cpu()->idle); /* it may be on its way to the CPU right now */
}

/* Of the thread that it is about, if that has something to show. */
static void report(struct kssi_cpu *cpu)
{
    struct kss_machine *m = cpu->machine;
    struct kss_thread *t = kssi_thread_by_id(m, m->ejection->info.tid);
    struct kssi_fault f = { 0 };
    if (t && t->ti && t->context_saved) {
        f.thread = t;
        f.sp = m->platform->context_sp(t->context);
    }
    kssi_class_report(m, &f);
}

bool kssi_class_leaves(struct kss_machine *m)
{
    const struct kssi_ejection *e = m->ejection;
    if (e->done)
        return kssi_now(m) - e->done_at < m->config.watchdog.hard_lockup_ns;
    return e->info.kind != KSS_SCHED_EXIT_DONE;
}

void kssi_eject_if_found(struct kssi_cpu *cpu)
{
    struct kss_machine *m = cpu->machine;
    struct kssi_ejection *e = m->ejection;
    if (e->info.kind == KSS_SCHED_EXIT_DONE || e->under_way || e->done)
        return;
    e->under_way = true; /* operations from here on only add to the record */
    e->info.reason = reasons[e->info.kind];
    e->info.message = e->message;
    if (!e->reported)
        report(cpu);
    e->info.frame = cpu->report.frame;
    e->info.frames = cpu->report.frames;
    write_record(m);
    m->sched = &kss_sched_rr;
    m->guarded = false;
    if (m->config.sched->exit)
        kssi_op_guarded(m, KSSI_OP(exit), "exit", NULL, 0);
    take_over(m);
    e->under_way = false;
    e->done_at = kssi_now(m);
    e->done = true;
    kssi_act(e->action, 0);
}

/* ---- threads that are passed over --------------------------------------------------------------------- */

#define SLOTS_A_TICK 64

/*
 * Whether a thread has had a CPU between two looks is seen by its count of context switches, so nothing is
 * noted when it becomes READY. Time is counted in ticks that were handled: when the host stops the
 * process for a minute, no class is to blame.
 */
static bool passed_over(struct kssi_ejection *e, struct kss_thread *t, uint64_t limit)
{
    uint64_t switches = t->preemptions + t->voluntary;
    if (t->state != KSS_THREAD_READY) {
        t->watched_at = 0;
        return false;
    }
    if (!t->watched_at || t->watched_switches != switches) {
        t->watched_at = e->ticks;
        t->watched_switches = switches;
        return false;
    }
    return e->ticks - t->watched_at > limit;
}

static void blame_for(struct kss_machine *m, const struct kss_thread *t)
{
    uint64_t ms = (m->ejection->ticks - t->watched_at) * 1000 / m->config.tick_hz;
    kssi_class_blame(m, KSS_SCHED_EXIT_LOST_THREAD, t, "thread %d (%s) is READY and has not run for %llu ms; it is "
                     "in %s dispatch queue", t->tid, t->name, (unsigned long long)ms, t->dsq.queue ? "a" : "no");
}

void kssi_sched_watch(struct kssi_cpu *cpu)
{
    struct kss_machine *m = cpu->machine;
    struct kssi_ejection *e = m->ejection;
    unsigned timeout = m->config.sched->timeout_ms ? m->config.sched->timeout_ms : 30000;
    uint64_t limit = ((uint64_t)timeout * m->config.tick_hz + 999) / 1000;
    kssi_lock(&m->sched_lock, cpu->current);
    e->ticks += cpu->index == 0;
    for (unsigned i = 0; i < SLOTS_A_TICK && !m->stopping && m->guarded; i++) {
        struct kss_thread *t = __atomic_load_n(&m->by_id[e->cursor++ & (m->id_slots - 1)], __ATOMIC_RELAXED);
        if (t && passed_over(e, t, limit))
            blame_for(m, t);
    }
    if (m->guarded)
        kssi_eject_if_found(cpu);
    kssi_unlock(&m->sched_lock);
}

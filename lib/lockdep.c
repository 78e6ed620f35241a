/* SPDX-License-Identifier: MIT */
/*
 * The order of locks (kss_config.lock_order), in the manner of Linux's lockdep. Who takes B with A held says
 * "A before B"; two threads that say the opposite can wait for each other for ever, even if they never have.
 * Each such sentence is kept with the places where it was first said, and one that closes a circle is
 * reported before anybody waits.
 *
 * A lock stands for its class: all locks with the same name (the same pointer). Two of one class held at a
 * time are told apart by address, so that five forks may be taken in a circle, and that is found. Tables are
 * bounded: what comes when they are full is not checked.
 */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLASSES 256
#define EDGES 2048
#define HASH 512

struct class {
    const void *key; /* name, or the lock itself; NULL: free */
    char name[KSS_NAME_MAX];
};

/* "from before to", as it was first seen. */
struct edge {
    unsigned from, to;
    uintptr_t held_pc; /* where `from` was taken */
    int tid;
    char thread[KSS_NAME_MAX];
    int frames;
    uintptr_t pc[KSS_REPORT_OTHER_FRAMES]; /* and how it came to take `to` */
};

struct kssi_lockdep {
    struct kss_spinlock lock; /* all of this; taken inside every other lock */
    unsigned classes, edges;
    struct class class[CLASSES + 1];     /* from 1 on */
    uint16_t hash[HASH];
    uint16_t edge_of[CLASSES + 1][CLASSES + 1]; /* 0: not seen */
    struct edge edge[EDGES + 1];
    uint16_t from[CLASSES + 1], queue[CLASSES]; /* of a search */
    struct kss_frame walk[KSS_REPORT_OTHER_FRAMES + 8];
    int chain_frames; /* of the lock that is looked at now; 0: not yet walked */
    uintptr_t chain[KSS_REPORT_OTHER_FRAMES];
};

/* ---- classes ------------------------------------------------------------------------------------- */

static void name_class(struct class *c, const struct kss_spinlock *lock, const void *key)
{
    const char *name = lock->name ? lock->name : "spinlock";
    c->key = key;
    if (key == lock->name)
        snprintf(c->name, sizeof c->name, "\"%.28s\"", name);
    else
        snprintf(c->name, sizeof c->name, "%.10s at %p", name, (const void *)lock);
}

/* 0: there is no room for another. */
static unsigned class_of(struct kssi_lockdep *d, const struct kss_spinlock *lock, bool by_address)
{
    const void *key = lock->name && !by_address ? (const void *)lock->name : lock;
    unsigned h = (unsigned)(((uintptr_t)key * 0x9e3779b97f4a7c15ull) >> 55);
    for (; d->hash[h]; h = (h + 1) % HASH)
        if (d->class[d->hash[h]].key == key)
            return d->hash[h];
    if (d->classes == CLASSES)
        return 0;
    d->hash[h] = (uint16_t)++d->classes;
    name_class(&d->class[d->classes], lock, key);
    return d->classes;
}

/* ---- edges --------------------------------------------------------------------------------------- */

/* Breadth first, so the shortest way: d->from leads back along it. */
static bool reaches(struct kssi_lockdep *d, unsigned start, unsigned goal)
{
    unsigned head = 0, tail = 0;
    memset(d->from, 0, sizeof d->from);
    d->from[start] = (uint16_t)start;
    d->queue[tail++] = (uint16_t)start;
    while (head < tail && !d->from[goal]) {
        unsigned at = d->queue[head++];
        for (unsigned to = 1; to <= d->classes; to++) {
            if (!d->edge_of[at][to] || d->from[to])
                continue;
            d->from[to] = (uint16_t)at;
            d->queue[tail++] = (uint16_t)to;
        }
    }
    return d->from[goal] != 0;
}

/* Return addresses from the call that takes the lock outward. */
static void record_chain(struct kssi_lockdep *d, uintptr_t taker)
{
    const int max = (int)(sizeof d->walk / sizeof d->walk[0]);
    int n = kss_backtrace(NULL, d->walk, max), first = 0;
    while (first < n && d->walk[first].pc != taker)
        first++;
    while (first < n && d->chain_frames < KSS_REPORT_OTHER_FRAMES)
        d->chain[d->chain_frames++] = d->walk[first++].pc;
    if (!d->chain_frames) /* it could not be walked: the one that is known */
        d->chain[d->chain_frames++] = taker;
}

static struct edge *add_edge(struct kssi_lockdep *d, unsigned from, unsigned to, const struct kss_thread *self,
                             uintptr_t held_pc, uintptr_t taker)
{
    if (d->edges == EDGES)
        return NULL;
    struct edge *e = &d->edge[++d->edges];
    e->from = from;
    e->to = to;
    e->held_pc = held_pc;
    e->tid = self->tid;
    memcpy(e->thread, self->name, sizeof e->thread);
    if (!d->chain_frames)
        record_chain(d, taker);
    e->frames = d->chain_frames;
    memcpy(e->pc, d->chain, sizeof e->pc);
    d->edge_of[from][to] = (uint16_t)d->edges;
    return e;
}

/* ---- the report ---------------------------------------------------------------------------------- */

struct finding {
    char message[256], other_what[96];
    const struct edge *other; /* the first sentence of the opposite order; never changes again */
    uintptr_t held_pc;
};

struct naming {
    uintptr_t pc;
    char text[48];
};

/* Names are looked up with the unwinder's tables, which takes more stack than there may be here. */
static void name_pc(void *arg)
{
    struct naming *n = arg;
    char symbol[64];
    uint64_t offset = 0;
    if (n->pc && kssi_this_cpu()->machine->platform->symbol(n->pc, symbol, sizeof symbol, &offset))
        snprintf(n->text, sizeof n->text, "%.32s+%#llx", symbol, (unsigned long long)offset);
    else
        snprintf(n->text, sizeof n->text, "%#lx", (unsigned long)n->pc);
}

/* `now` says "from before to"; the search has found a way from to to from. */
static void tell(struct kssi_lockdep *d, const struct edge *now, struct finding *out)
{
    struct kssi_text t = { out->message, sizeof out->message, 0 };
    struct kssi_cpu *cpu = kssi_this_cpu();
    unsigned way[CLASSES + 1], n = 0;
    for (unsigned at = now->from; at != now->to; at = d->from[at])
        way[n++] = at;
    out->other = &d->edge[d->edge_of[now->to][way[n - 1]]];
    out->held_pc = now->held_pc;
    kssi_text_print(&t, "possible deadlock: thread %d (%.20s) takes %s with %s held; the other way round: ", now->tid,
                    now->thread, d->class[now->to].name, d->class[now->from].name);
    for (unsigned from = now->to; n-- > 0; from = way[n]) {
        const struct edge *e = &d->edge[d->edge_of[from][way[n]]];
        kssi_text_print(&t, "%sthread %d (%.20s) took %s with %s held", from == now->to ? "" : ", ", e->tid, e->thread,
                        d->class[e->to].name, d->class[e->from].name);
    }
    struct naming name = { .pc = out->other->held_pc };
    kssi_call_on_report_stack(cpu, name_pc, &name);
    t = (struct kssi_text){ out->other_what, sizeof out->other_what, 0 };
    kssi_text_print(&t, "thread %d had %s from %s, and took %s at", out->other->tid, d->class[out->other->from].name,
                    name.text, d->class[out->other->to].name);
}

static void report(const struct finding *found)
{
    struct kssi_fault f = { .kind = KSS_REPORT_LOCK_ORDER, .message = found->message,
                            .place = found->held_pc, .place_what = "the lock that it holds was taken",
                            .other_pcs = found->other->pc, .other_count = found->other->frames,
                            .other_what = found->other_what };
    kssi_fault(&f, KSS_KILLED + 1);
}

/* ---- what kss_spin_lock() calls ------------------------------------------------------------------ */

/* Says "held before lock". True if that closes a circle that was not there. */
static bool say(struct kssi_lockdep *d, struct kss_thread *self, const struct kssi_held *held,
                const struct kss_spinlock *lock, uintptr_t pc, struct finding *found)
{
    bool same = held->lock->name && held->lock->name == lock->name;
    unsigned from = class_of(d, held->lock, same), to = class_of(d, lock, same);
    if (!from || !to || from == to || d->edge_of[from][to])
        return false;
    /* If it was implied, by a way over other locks, then so was the circle, and it has been told. */
    bool circle = !reaches(d, from, to) && reaches(d, to, from);
    const struct edge *e = add_edge(d, from, to, self, held->pc, pc);
    if (!e || !circle)
        return false;
    tell(d, e, found);
    return true;
}

/* Has it the scheduler's lock by kssi_lock(), which records nothing? Then a scheduler class is at work. */
static bool has_sched_lock(const struct kss_thread *self)
{
    struct kss_spinlock *s = &self->machine->sched_lock;
    return s->holder == self && !kssi_lock_place(self, s);
}

void kssi_lockdep_check(struct kss_thread *self, struct kss_spinlock *lock, uintptr_t pc)
{
    struct kssi_lockdep *d = self->machine->lockdep;
    unsigned n = self->locks_held < KSSI_HELD_MAX ? self->locks_held : KSSI_HELD_MAX;
    struct kssi_held sched = { &self->machine->sched_lock, 0, KSSI_HELD_SPIN };
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct finding found;
    bool circle = false;
    if (cpu->reporting || (!n && !has_sched_lock(self)))
        return;
    cpu->reporting = true; /* the stack for it is in use: no other report, of an NMI, in the middle of this */
    kssi_lock(&d->lock, self);
    d->chain_frames = 0;
    if (has_sched_lock(self))
        circle = say(d, self, &sched, lock, pc, &found);
    while (n-- > 0 && !circle)
        if (self->held[n].lock)
            circle = say(d, self, &self->held[n], lock, pc, &found);
    kssi_unlock(&d->lock);
    cpu->reporting = false;
    if (circle)
        report(&found);
}

int kssi_lockdep_init(struct kss_machine *m)
{
    if (!m->config.lock_order)
        return 0;
    m->lockdep = calloc(1, sizeof *m->lockdep);
    if (!m->lockdep)
        return kssi_error(-ENOMEM, "no host memory to check the order of locks: %zu bytes", sizeof *m->lockdep);
    kss_spinlock_init(&m->lockdep->lock, "lock order");
    return 0;
}

void kssi_lockdep_fini(struct kss_machine *m)
{
    free(m->lockdep);
}

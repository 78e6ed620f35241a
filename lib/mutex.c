/* SPDX-License-Identifier: MIT */
/*
 * Mutexes with priority inheritance. A free mutex is taken, and one that nobody waits for released, by one atomic
 * instruction on `owner`. Everything else is guarded by one spinlock for all mutexes: who waits for which, who inherits
 * what. With WAITED in it, `owner` changes under that lock only; so an owner that somebody waits for can't be gone.
 *
 * The list of what a thread holds is its own: no interrupt handler uses mutexes.
 */
#include "sleeper.h"

#include <errno.h>

#define WAITED ((uintptr_t)1) /* somebody sleeps on it, or is about to */
#define DEAD ((uintptr_t)2)   /* it has no owner, since that ended */

static struct kss_spinlock graph = KSS_SPINLOCK_INIT("mutexes");

void kss_mutex_init(struct kss_mutex *m, const char *name)
{
    if (m)
        *m = (struct kss_mutex)KSS_MUTEX_INIT(name);
}

static bool initialised(const struct kss_mutex *m)
{
    return m && m->magic == KSS_MUTEX_MAGIC;
}

static uintptr_t load(const struct kss_mutex *m)
{
    return __atomic_load_n(&m->owner, __ATOMIC_ACQUIRE);
}

static bool exchange(struct kss_mutex *m, uintptr_t from, uintptr_t to)
{
    return __atomic_compare_exchange_n(&m->owner, &from, to, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

static struct kss_thread *thread_of(uintptr_t owner)
{
    return (struct kss_thread *)(owner & ~(WAITED | DEAD));
}

bool kssi_mutex_owned(const struct kss_mutex *m, const struct kss_thread *self)
{
    return thread_of(load(m)) == self;
}

struct kss_thread *kss_mutex_owner(const struct kss_mutex *m)
{
    return kssi_require_kernel() && initialised(m) ? thread_of(load(m)) : NULL;
}

int kss_mutex_stats(const struct kss_mutex *m, struct kss_lock_stats *stats)
{
    int r = kssi_stats_to(m, initialised(m), stats);
    if (r == 0)
        *stats = (struct kss_lock_stats){ __atomic_load_n(&m->taken, __ATOMIC_RELAXED),
                                          __atomic_load_n(&m->contended, __ATOMIC_RELAXED), 0,
                                          __atomic_load_n(&m->wait_ns, __ATOMIC_RELAXED) };
    return r;
}

/* ---- inheritance: graph --------------------------------------------------------------------------- */

/* Its own, or that of the first who waits for something that it has. */
static int due_priority(const struct kss_thread *t)
{
    int p = t->base_priority;
    for (const struct kss_mutex *m = t->waited_for; m; m = m->next_waited) {
        const struct kssi_sleeper *s = kssi_sleeper_first(&m->sleepers);
        if (s && s->priority > p)
            p = s->priority;
    }
    return p;
}

/* And so on, where it waits itself. The chain has no circle: who would close one is refused. */
static void inherit(struct kss_thread *t)
{
    while (t) {
        int p = due_priority(t);
        if (p == t->priority)
            return;
        kssi_sched_set_priority(t, p);
        struct kssi_sleeper *s = t->blocked;
        if (!s || !s->queue)
            return;
        kssi_sleeper_remove(s);
        s->priority = p;
        kssi_sleeper_add(&s->mutex->sleepers, s, true);
        t = thread_of(s->mutex->owner);
    }
}

static void add_waited(struct kss_thread *t, struct kss_mutex *m)
{
    m->next_waited = t->waited_for;
    t->waited_for = m;
}

static void remove_waited(struct kss_thread *t, struct kss_mutex *m)
{
    struct kss_mutex **link = &t->waited_for;
    while (*link && *link != m)
        link = &(*link)->next_waited;
    if (*link)
        *link = m->next_waited;
    m->next_waited = NULL;
}

void kssi_set_base_priority(struct kss_thread *t, int priority)
{
    bool on = kss_spin_lock(&graph);
    t->base_priority = priority;
    inherit(t);
    kss_spin_unlock(&graph, on);
}

/* ---- waiting for each other ----------------------------------------------------------------------- */

struct circle {
    char message[240];
    uintptr_t place;
};

/* Under graph, WAITED set in m. True: self waits for itself if it waits for m. */
static bool closes_circle(const struct kss_mutex *m, const struct kss_thread *self, struct circle *c)
{
    struct kssi_text text = { c->message, sizeof c->message, 0 };
    const struct kss_thread *t = thread_of(m->owner);
    c->place = m->taken_at;
    kssi_text_print(&text, "thread %d (%.20s) waits for itself: it takes mutex \"%.20s\"", self->tid, self->name,
                    m->name ? m->name : "?");
    while (t && t != self && t->blocked) {
        m = t->blocked->mutex;
        kssi_text_print(&text, " of thread %d (%.20s), which waits for mutex \"%.20s\"", t->tid, t->name,
                        m->name ? m->name : "?");
        t = thread_of(m->owner);
    }
    kssi_text_print(&text, ", its own");
    return t == self;
}

static int report_circle(const struct circle *c)
{
    bool on = kssi_irq_save();
    struct kssi_fault f = { .kind = KSS_REPORT_LOCK_ORDER, .message = c->message, .place = c->place,
                            .place_what = "the mutex was taken" };
    kssi_fault(&f, KSS_KILLED + 1);
    kssi_irq_restore(on);
    return kssi_error(-EDEADLK, "%s", c->message);
}

/* ---- taking it ------------------------------------------------------------------------------------ */

static void note_taken(struct kss_mutex *m, struct kss_thread *self, uintptr_t pc)
{
    m->taken_at = pc;
    kssi_count(&m->taken, 1);
    m->next_held = self->mutexes;
    self->mutexes = m;
}

/* graph. 0, -EOWNERDEAD: self has it. -EBUSY: another has it, and WAITED is set. */
static int claim(struct kss_mutex *m, struct kss_thread *self)
{
    for (;;) {
        uintptr_t o = load(m);
        if (!thread_of(o)) {
            if (exchange(m, o, (uintptr_t)self))
                return o & DEAD ? -EOWNERDEAD : 0;
        } else if (o & WAITED || exchange(m, o, o | WAITED)) {
            return -EBUSY;
        }
    }
}

/* graph. Nobody sleeps on it any more, perhaps. */
static void settle(struct kss_mutex *m)
{
    struct kss_thread *owner = thread_of(m->owner);
    if (m->sleepers.first)
        return;
    remove_waited(owner, m);
    __atomic_store_n(&m->owner, (uintptr_t)owner, __ATOMIC_RELEASE);
}

/* graph. Somebody does not sleep on it any more, from whom its owner may have inherited. The owner first: without WAITED
   it may end at once. */
static void unsleep(struct kss_mutex *m)
{
    struct kss_thread *owner = thread_of(m->owner);
    if (!m->sleepers.first)
        remove_waited(owner, m);
    inherit(owner);
    settle(m);
}

static int sleep_on(struct kss_mutex *m, struct kss_thread *self, bool *on, const struct kssi_wait *wait)
{
    struct kssi_sleeper s = { .guard = &graph, .thread = self, .mutex = m, .priority = self->priority };
    if (!m->sleepers.first)
        add_waited(thread_of(m->owner), m);
    kssi_sleeper_add(&m->sleepers, &s, true);
    self->blocked = &s;
    inherit(thread_of(m->owner));
    kssi_count(&m->contended, 1);
    int r = kssi_sleeper_wait(&s, on, wait, &m->wait_ns);
    self->blocked = NULL;
    if (!s.granted)
        unsleep(m);
    return r;
}

void kssi_mutex_sleeper_gone(struct kss_thread *t, struct kssi_sleeper *s)
{
    t->blocked = NULL;
    if (s->granted) { /* kssi_mutexes_abandon() passes it on */
        s->mutex->next_held = t->mutexes;
        t->mutexes = s->mutex;
    } else {
        unsleep(s->mutex);
    }
}

static int lock_slow(struct kss_mutex *m, struct kss_thread *self, const struct kssi_wait *wait, const char *call)
{
    struct circle c;
    bool on = kss_spin_lock(&graph), circle = false, foreign = false;
    int r = claim(m, self);
    if (r == -EBUSY) {
        foreign = thread_of(m->owner)->machine != self->machine;
        circle = !foreign && closes_circle(m, self, &c);
        if (foreign || circle)
            settle(m);
        else
            r = sleep_on(m, self, &on, wait);
    }
    kss_spin_unlock(&graph, on);
    if (foreign)
        return kssi_error(-EINVAL, "%s: a thread of another machine has the mutex", call);
    return circle ? report_circle(&c) : r;
}

static int lock(struct kss_mutex *m, bool killable, uint64_t ns, const char *call, uintptr_t pc)
{
    int r = kssi_lock_usable(m, initialised(m), call, true);
    if (unlikely(r < 0))
        return r;
    struct kss_thread *self = kssi_current();
    if (unlikely(!exchange(m, 0, (uintptr_t)self))) {
        struct kssi_wait wait = { m->name ? m->name : "mutex", killable, ns == UINT64_MAX ? ns : kss_deadline(ns) };
        r = lock_slow(m, self, &wait, call);
    }
    if (likely(r == 0 || r == -EOWNERDEAD))
        note_taken(m, self, pc);
    return r;
}

#define HERE ((uintptr_t)__builtin_return_address(0))

int kss_mutex_lock(struct kss_mutex *m)
{
    return lock(m, false, UINT64_MAX, "kss_mutex_lock()", HERE);
}

int kss_mutex_lock_killable(struct kss_mutex *m)
{
    return lock(m, true, UINT64_MAX, "kss_mutex_lock_killable()", HERE);
}

int kss_mutex_lock_timeout(struct kss_mutex *m, uint64_t ns)
{
    return lock(m, true, ns, "kss_mutex_lock_timeout()", HERE);
}

int kss_mutex_trylock(struct kss_mutex *m)
{
    int r = kssi_lock_usable(m, initialised(m), "kss_mutex_trylock()", false);
    if (r == 0)
        r = kssi_lock_thread_only("kss_mutex_trylock()");
    if (r < 0)
        return r;
    struct kss_thread *self = kssi_current();
    uintptr_t o = load(m);
    if (thread_of(o) || !exchange(m, o, (uintptr_t)self))
        return kssi_error(-EBUSY, "the mutex is taken");
    note_taken(m, self, HERE);
    return o & DEAD ? -EOWNERDEAD : 0;
}

/* ---- releasing it --------------------------------------------------------------------------------- */

/* graph. To the first who sleeps on it; if there is none, it is left free, or DEAD. */
static void pass_on(struct kss_mutex *m, struct kss_thread *self, bool dead)
{
    struct kssi_sleeper *s = kssi_sleeper_first(&m->sleepers);
    remove_waited(self, m);
    inherit(self);
    if (!s) {
        __atomic_store_n(&m->owner, dead ? DEAD : 0, __ATOMIC_RELEASE);
        return;
    }
    struct kss_thread *next = s->thread;
    bool more = s->next != NULL;
    __atomic_store_n(&m->owner, (uintptr_t)next | (more ? WAITED : 0), __ATOMIC_RELEASE);
    next->blocked = NULL; /* from here on: it may be long until it runs */
    kssi_sleeper_grant(s, dead ? -EOWNERDEAD : 0);
    if (more) {
        add_waited(next, m);
        inherit(next); /* of those who wait it was the first; but it may have been given a lower priority of its own */
    }
}

static void remove_held(struct kss_thread *self, struct kss_mutex *m)
{
    struct kss_mutex **link = &self->mutexes;
    while (*link && *link != m)
        link = &(*link)->next_held;
    if (*link)
        *link = m->next_held;
    m->next_held = NULL;
}

static int not_owner(const struct kss_mutex *m, const struct kss_thread *self)
{
    const char *name = m->name ? m->name : "?";
    char what[160];
    bool on = kss_spin_lock(&graph); /* an owner that somebody waits for stays; another is looked up */
    struct kss_thread *owner = thread_of(load(m));
    bool known = owner && kssi_thread_machine(owner) == self->machine;
    struct kssi_text t = { what, sizeof what, 0 };
    uintptr_t place = m->taken_at;
    if (known)
        kssi_text_print(&t, "releases mutex \"%.40s\", which thread %d (%s) has", name, owner->tid, owner->name);
    else
        kssi_text_print(&t, "releases mutex \"%.40s\", which %s", name, owner ? "a thread of another machine has"
                                                                                : "nobody has");
    kss_spin_unlock(&graph, on);
    on = kssi_irq_save();
    kssi_report_lock_misuse(self, what, known ? place : 0, known ? "its owner took it" : NULL);
    kssi_irq_restore(on);
    return kssi_error(-EPERM, "thread %d (%s) %s", self->tid, self->name, what);
}

int kss_mutex_unlock(struct kss_mutex *m)
{
    int r = kssi_lock_usable(m, initialised(m), "kss_mutex_unlock()", false);
    if (r == 0)
        r = kssi_lock_thread_only("kss_mutex_unlock()");
    if (r < 0)
        return r;
    struct kss_thread *self = kssi_current();
    if (unlikely(!kssi_mutex_owned(m, self)))
        return not_owner(m, self);
    remove_held(self, m);
    if (likely(exchange(m, (uintptr_t)self, 0)))
        return 0;
    /* The next one may have a right to the CPU at once: then at the end, not in the middle. */
    kss_preempt_disable();
    bool on = kss_spin_lock(&graph);
    pass_on(m, self, false);
    kss_spin_unlock(&graph, on);
    kss_preempt_enable();
    return 0;
}

/* One that has gone away in the meantime may fault here: without a lock held, and with a list that is empty already. */
void kssi_mutexes_abandon(struct kss_thread *t)
{
    bool ended = kssi_this_cpu() == NULL; /* the whole machine: another one is to find it free */
    struct kss_mutex *m = t->mutexes, *next;
    t->mutexes = NULL;
    for (; m && initialised(m); m = next) {
        next = m->next_held;
        m->next_held = NULL;
        bool on = kss_spin_lock(&graph), its = thread_of(m->owner) == t;
        if (its && ended)
            __atomic_store_n(&m->owner, 0, __ATOMIC_RELEASE);
        else if (its)
            pass_on(m, t, true);
        kss_spin_unlock(&graph, on);
    }
}

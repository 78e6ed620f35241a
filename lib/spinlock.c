/* SPDX-License-Identifier: MIT */
/*
 * Spinlocks: test and test-and-set, interrupts off while held. Each thread knows which it holds and where it
 * took them, so that misuse can be told with its place. An interrupt handler's locks are the interrupted
 * thread's: it gives them back before that goes on.
 */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>

void kss_spinlock_init(struct kss_spinlock *lock, const char *name)
{
    if (lock)
        *lock = (struct kss_spinlock)KSS_SPINLOCK_INIT(name);
}

void kssi_lock_name(const struct kss_spinlock *lock, char *out, size_t size)
{
    if (lock->name)
        snprintf(out, size, "spinlock \"%.40s\"", lock->name);
    else
        snprintf(out, size, "spinlock %p", (const void *)lock);
}

/* ---- what a thread holds ------------------------------------------------------------------------- */

static unsigned recorded(const struct kss_thread *t)
{
    return t->locks_held < KSSI_HELD_MAX ? t->locks_held : KSSI_HELD_MAX;
}

uintptr_t kssi_lock_place(const struct kss_thread *t, const struct kss_spinlock *lock)
{
    for (unsigned i = recorded(t); i-- > 0;)
        if (t->held[i].lock == lock)
            return t->held[i].pc;
    return 0;
}

/* Not the innermost, or there are more than are recorded. One that was not may take the place of one that is
   released: nothing is known of it. */
static void drop_slow(struct kss_thread *t, const struct kss_spinlock *lock)
{
    unsigned n = recorded(t), at = n;
    for (unsigned i = 0; i < n; i++)
        if (t->held[i].lock == lock || (!t->held[i].lock && at == n))
            at = i;
    for (; at + 1 < n; at++)
        t->held[at] = t->held[at + 1];
    if (t->locks_held > KSSI_HELD_MAX && at < n)
        t->held[n - 1] = (struct kssi_held){ NULL, 0, KSSI_HELD_SPIN };
    t->locks_held--;
}

static inline void drop(struct kss_thread *t, const struct kss_spinlock *lock)
{
    unsigned n = t->locks_held - 1;
    if (likely(n < KSSI_HELD_MAX && t->held[n].lock == lock))
        t->locks_held = n;
    else
        drop_slow(t, lock);
}

void kssi_lock_note(struct kss_thread *self, struct kss_spinlock *lock, uintptr_t pc, enum kssi_held_as as)
{
    unsigned n = self->locks_held++;
    if (likely(n < KSSI_HELD_MAX))
        self->held[n] = (struct kssi_held){ lock, pc, as };
}

void kssi_lock_forget(struct kss_thread *self, const struct kss_spinlock *lock)
{
    drop(self, lock);
}

void kssi_lock_take_away(struct kss_thread *t, bool touch)
{
    unsigned n = --t->locks_held;
    struct kss_spinlock *lock = n < KSSI_HELD_MAX ? t->held[n].lock : NULL;
    if (!touch || !lock)
        return;
    if (t->held[n].as != KSSI_HELD_SPIN)
        kssi_rwlock_take_away(lock, t->held[n].as);
    else if (lock->holder == t)
        kssi_unlock(lock);
}

/* ---- misuse -------------------------------------------------------------------------------------- */

void kssi_report_lock_misuse(const struct kss_thread *self, const char *what, uintptr_t place, const char *place_what)
{
    char message[240];
    snprintf(message, sizeof message, "thread %d (%s) %s", self->tid, self->name, what);
    struct kssi_fault f = { .kind = KSS_REPORT_SPINLOCK, .message = message, .place = place, .place_what = place_what };
    kssi_fault(&f, KSS_KILLED + 1);
}

static bool initialised(const struct kss_spinlock *lock)
{
    return lock && lock->magic == KSS_SPINLOCK_MAGIC;
}

/* It is no lock. If the policy is to go on, it is made one; NULL is passed by. */
static bool report_no_lock(struct kss_spinlock *lock, const struct kss_thread *self, const char *verb, uintptr_t pc,
                           const char *place_what)
{
    char what[100];
    if (!lock)
        snprintf(what, sizeof what, "%s a spinlock that is NULL", verb);
    else
        snprintf(what, sizeof what, "%s an uninitialised spinlock at %p", verb, (void *)lock);
    kssi_report_lock_misuse(self, what, pc, place_what);
    kss_spinlock_init(lock, NULL);
    return lock != NULL;
}

void kssi_report_recursion(const struct kss_spinlock *lock, const struct kss_thread *self, bool for_sure)
{
    char message[240], name[64];
    kssi_lock_name(lock, name, sizeof name);
    snprintf(message, sizeof message, "thread %d (%s) waits for itself: it takes %s%s, which it holds", self->tid,
             self->name, name, kssi_this_cpu()->irq_depth ? " in an interrupt handler" : "");
    struct kssi_fault f = { .kind = KSS_REPORT_LOCK_ORDER, .message = message,
                            .must_stop = for_sure ? "it would wait for ever, and nobody would release the lock" : NULL,
                            .place = kssi_lock_place(self, lock), .place_what = "it took the lock first" };
    kssi_fault(&f, for_sure ? 0 : KSS_KILLED + 1);
}

bool kssi_lock_initialised(const struct kss_spinlock *lock, struct kss_thread *self, const char *verb, uintptr_t pc)
{
    char what[120];
    if (initialised(lock))
        return true;
    snprintf(what, sizeof what, lock ? "%s an uninitialised lock at %p" : "%s a lock that is NULL", verb, (const void *)lock);
    kssi_report_lock_misuse(self, what, pc, "it was to be done");
    return false;
}

/* Released by one who does not have it. The lock stays as it is. */
static void report_not_holder(const struct kss_spinlock *lock, const struct kss_thread *self, uintptr_t pc)
{
    const struct kss_thread *h = lock->holder;
    char what[180], name[64];
    kssi_lock_name(lock, name, sizeof name);
    if (!__atomic_load_n(&lock->locked, __ATOMIC_RELAXED)) {
        snprintf(what, sizeof what, "releases %s, which nobody holds", name);
        kssi_report_lock_misuse(self, what, pc, "it was to be released");
    } else if (h && !kssi_thread_machine(h)) {
        snprintf(what, sizeof what, "releases %s, whose holder is gone", name);
        kssi_report_lock_misuse(self, what, pc, "it was to be released");
    } else if (!h) {
        snprintf(what, sizeof what, "releases %s, which a host thread holds", name);
        kssi_report_lock_misuse(self, what, pc, "it was to be released");
    } else {
        snprintf(what, sizeof what, "releases %s, which thread %d (%s)%s holds", name, h->tid, h->name,
                 h->machine == self->machine ? "" : " of another machine");
        kssi_report_lock_misuse(self, what, kssi_lock_place(h, lock), "its holder took it");
    }
}

/* ---- taking and releasing ------------------------------------------------------------------------ */

#define SHORT_PAUSES 64 /* some microseconds, between two chances for the host thread that has what is waited for */

void kssi_spin_pause(unsigned *n)
{
    if (++*n % SHORT_PAUSES)
        kssi_relax();
    else
        kssi_relax_long();
}

__attribute__((cold, noinline)) void kssi_lock_contended(struct kss_spinlock *lock, const struct kss_thread *self)
{
    struct kss_machine *m = self ? self->machine : NULL;
    uint64_t start = m ? m->platform->account_clock(m) : 0, end;
    unsigned pauses = 0;
    do {
        while (__atomic_load_n(&lock->locked, __ATOMIC_RELAXED))
            kssi_spin_pause(&pauses);
    } while (__atomic_exchange_n(&lock->locked, 1, __ATOMIC_ACQUIRE));
    end = m ? m->platform->account_clock(m) : 0;
    kssi_count(&lock->contended, 1);
    kssi_count(&lock->spins, pauses);
    kssi_count(&lock->spin_ns, end > start ? end - start : 0);
}

static inline void spin(struct kss_spinlock *lock, const struct kss_thread *self)
{
    if (unlikely(__atomic_exchange_n(&lock->locked, 1, __ATOMIC_ACQUIRE)))
        kssi_lock_contended(lock, self);
    lock->holder = self;
    kssi_count(&lock->taken, 1);
}

/* A host thread, while no CPU runs: there is nobody to exclude but other host threads. */
static void lock_on_host(struct kss_spinlock *lock)
{
    if (!lock) {
        kssi_error(-EINVAL, "spinlock is NULL");
        return;
    }
    if (!initialised(lock))
        kss_spinlock_init(lock, NULL);
    spin(lock, NULL);
}

bool kss_spin_lock(struct kss_spinlock *lock)
{
    uintptr_t pc = (uintptr_t)__builtin_return_address(0);
    if (unlikely(kssi_cpu_mode() != KSS_MODE_KERNEL)) {
        kssi_require_kernel();
        lock_on_host(lock);
        return false;
    }
    bool on = kssi_irq_save();
    struct kss_thread *self = kssi_current();
    if (unlikely(self->machine->config.latency) && on)
        kssi_latency_irqs_off(pc, 0);
    if (unlikely(!initialised(lock)) && !report_no_lock(lock, self, "takes", pc, "it was to be taken"))
        return on;
    if (unlikely(lock->holder == self))
        kssi_report_recursion(lock, self, true);
    if (unlikely(self->machine->lockdep != NULL))
        kssi_lockdep_check(self, lock, pc);
    spin(lock, self);
    if (on)
        self->irqs_off_at = pc;
    unsigned n = self->locks_held++;
    if (likely(n < KSSI_HELD_MAX))
        self->held[n] = (struct kssi_held){ lock, pc, KSSI_HELD_SPIN };
    return on;
}

static bool try_once(struct kss_spinlock *lock, const struct kss_thread *self)
{
    if (__atomic_load_n(&lock->locked, __ATOMIC_RELAXED) || __atomic_exchange_n(&lock->locked, 1, __ATOMIC_ACQUIRE))
        return false;
    lock->holder = self;
    kssi_count(&lock->taken, 1);
    return true;
}

bool kss_spin_trylock(struct kss_spinlock *lock, bool *irqs_were_on)
{
    uintptr_t pc = (uintptr_t)__builtin_return_address(0);
    if (irqs_were_on)
        *irqs_were_on = false;
    if (unlikely(kssi_cpu_mode() != KSS_MODE_KERNEL)) {
        kssi_require_kernel();
        return initialised(lock) && irqs_were_on && try_once(lock, NULL);
    }
    if (unlikely(!irqs_were_on)) {
        kssi_error(-EINVAL, "kss_spin_trylock(): no place for whether interrupts were on");
        return false;
    }
    bool on = kssi_irq_save();
    struct kss_thread *self = kssi_current();
    if ((unlikely(!initialised(lock)) && !report_no_lock(lock, self, "takes", pc, "it was to be taken")) ||
        !try_once(lock, self)) {
        kssi_irq_restore(on);
        return false;
    }
    if (on)
        self->irqs_off_at = pc;
    kssi_lock_note(self, lock, pc, KSSI_HELD_SPIN);
    *irqs_were_on = on;
    return true;
}

/* Interrupts are what the caller asked for, whether it had the lock or not. */
static void unlock_slow(struct kss_spinlock *lock, struct kss_thread *self, bool on, uintptr_t pc)
{
    bool were = kssi_irq_save();
    if (!initialised(lock))
        report_no_lock(lock, self, "releases", pc, "it was to be released");
    else
        report_not_holder(lock, self, pc);
    kssi_irq_restore(were || on);
}

void kss_spin_unlock(struct kss_spinlock *lock, bool irqs_were_on)
{
    if (unlikely(kssi_cpu_mode() != KSS_MODE_KERNEL)) {
        kssi_require_kernel();
        if (lock)
            kssi_unlock(lock);
        return;
    }
    struct kss_thread *self = kssi_current();
    if (unlikely(!lock || lock->holder != self)) {
        unlock_slow(lock, self, irqs_were_on, (uintptr_t)__builtin_return_address(0));
        return;
    }
    drop(self, lock);
    kssi_unlock(lock);
    if (irqs_were_on)
        kssi_irq_enable_at(self->machine, (uintptr_t)__builtin_return_address(0), 0);
}

/* ---- statistics ---------------------------------------------------------------------------------- */

void kssi_lock_stats(const struct kss_spinlock *lock, struct kss_lock_stats *out)
{
    out->taken = __atomic_load_n(&lock->taken, __ATOMIC_RELAXED);
    out->contended = __atomic_load_n(&lock->contended, __ATOMIC_RELAXED);
    out->spins = __atomic_load_n(&lock->spins, __ATOMIC_RELAXED);
    out->wait_ns = __atomic_load_n(&lock->spin_ns, __ATOMIC_RELAXED);
}

int kss_spin_stats(const struct kss_spinlock *lock, struct kss_lock_stats *stats)
{
    if (!initialised(lock) || !stats)
        return kssi_error(-EINVAL, !stats ? "no place for a lock's statistics"
                                   : lock ? "the spinlock was never initialised" : "the spinlock is NULL");
    kssi_lock_stats(lock, stats);
    return 0;
}

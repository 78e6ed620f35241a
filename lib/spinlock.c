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
        t->held[n - 1] = (struct kssi_held){ NULL, 0 };
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

void kssi_lock_take_away(struct kss_thread *t, bool touch)
{
    unsigned n = --t->locks_held;
    struct kss_spinlock *lock = n < KSSI_HELD_MAX ? t->held[n].lock : NULL;
    if (touch && lock && lock->holder == t)
        kssi_unlock(lock);
}

/* ---- misuse -------------------------------------------------------------------------------------- */

static void report_misuse(const struct kss_thread *self, const char *what, uintptr_t place, const char *place_what)
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
    report_misuse(self, what, pc, place_what);
    kss_spinlock_init(lock, NULL);
    return lock != NULL;
}

static void report_recursion(const struct kss_spinlock *lock, const struct kss_thread *self)
{
    char message[240], name[64];
    kssi_lock_name(lock, name, sizeof name);
    snprintf(message, sizeof message, "thread %d (%s) waits for itself: it takes %s%s, which it holds", self->tid,
             self->name, name, kssi_this_cpu()->irq_depth ? " in an interrupt handler" : "");
    struct kssi_fault f = { .kind = KSS_REPORT_LOCK_ORDER, .message = message,
                            .must_stop = "it would wait for ever, and nobody would release the lock",
                            .place = kssi_lock_place(self, lock), .place_what = "it took the lock first" };
    kssi_fault(&f, 0);
}

/* Released by one who does not have it. The lock stays as it is. */
static void report_not_holder(const struct kss_spinlock *lock, const struct kss_thread *self, uintptr_t pc)
{
    const struct kss_thread *h = lock->holder;
    char what[180], name[64];
    kssi_lock_name(lock, name, sizeof name);
    if (!__atomic_load_n(&lock->locked, __ATOMIC_RELAXED)) {
        snprintf(what, sizeof what, "releases %s, which nobody holds", name);
        report_misuse(self, what, pc, "it was to be released");
    } else if (h && !kssi_thread_machine(h)) {
        snprintf(what, sizeof what, "releases %s, whose holder is gone", name);
        report_misuse(self, what, pc, "it was to be released");
    } else if (!h) {
        snprintf(what, sizeof what, "releases %s, which a host thread holds", name);
        report_misuse(self, what, pc, "it was to be released");
    } else {
        snprintf(what, sizeof what, "releases %s, which thread %d (%s)%s holds", name, h->tid, h->name,
                 h->machine == self->machine ? "" : " of another machine");
        report_misuse(self, what, kssi_lock_place(h, lock), "its holder took it");
    }
}

/* ---- taking and releasing ------------------------------------------------------------------------ */

static inline void spin(struct kss_spinlock *lock)
{
    while (unlikely(__atomic_exchange_n(&lock->locked, 1, __ATOMIC_ACQUIRE)))
        while (__atomic_load_n(&lock->locked, __ATOMIC_RELAXED))
            kssi_relax();
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
    spin(lock);
    lock->holder = NULL;
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
    if (unlikely(!initialised(lock)) && !report_no_lock(lock, self, "takes", pc, "it was to be taken"))
        return on;
    if (unlikely(lock->holder == self))
        report_recursion(lock, self);
    if (unlikely(self->machine->lockdep != NULL))
        kssi_lockdep_check(self, lock, pc);
    spin(lock);
    lock->holder = self;
    if (on)
        self->irqs_off_at = pc;
    unsigned n = self->locks_held++;
    if (likely(n < KSSI_HELD_MAX))
        self->held[n] = (struct kssi_held){ lock, pc };
    return on;
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
        kssi_irq_enable();
}

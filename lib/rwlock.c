/* SPDX-License-Identifier: MIT */
/*
 * Reader-writer spinlocks: Concurrency Kit's, with interrupts off, known to the thread like its spinlocks. Its pauses
 * are counted, and give the host's core away now and then: with more CPUs than cores, the one that is waited for may
 * be without one.
 */
#include "kernel.h"

#include <errno.h>

#include <ck_pr.h>
#define ck_pr_stall() kssi_spin_pause(&kssi_this_cpu()->pauses) /* interrupts are off */
#include <ck_rwlock.h>

_Static_assert(sizeof(ck_rwlock_t) == sizeof(((struct kss_rwlock *)0)->state), "storage in the public struct");
_Static_assert(_Alignof(ck_rwlock_t) <= _Alignof(unsigned), "storage in the public struct");

static ck_rwlock_t *ck(struct kss_rwlock *rw)
{
    return (ck_rwlock_t *)rw->state;
}

void kss_rwlock_init(struct kss_rwlock *rw, const char *name)
{
    if (rw)
        *rw = (struct kss_rwlock)KSS_RWLOCK_INIT(name);
}

/* ---- who may --------------------------------------------------------------------------------------- */

/* False: there is nobody to exclude, or nothing to take. Else interrupts are off, and *self is the caller. */
static bool begin(struct kss_rwlock *rw, bool write, uintptr_t pc, bool *on, struct kss_thread **self)
{
    *on = false;
    if (unlikely(kssi_cpu_mode() != KSS_MODE_KERNEL)) {
        kssi_require_kernel();
        kssi_error(-EPERM, "locks belong to the kernel of a simulated CPU");
        return false;
    }
    *on = kssi_irq_save();
    *self = kssi_current();
    if (!kssi_lock_initialised(rw ? &rw->lock : NULL, *self, "takes", pc)) {
        if (!rw)
            return false;
        kss_rwlock_init(rw, NULL);
    }
    if (unlikely(kssi_lock_place(*self, &rw->lock)))
        kssi_report_recursion(&rw->lock, *self, write || rw->lock.holder == *self);
    if (unlikely((*self)->machine->lockdep != NULL))
        kssi_lockdep_check(*self, &rw->lock, pc);
    return true;
}

static void end(struct kss_rwlock *rw, struct kss_thread *self, uintptr_t pc, bool on, enum kssi_held_as as)
{
    if (on)
        self->irqs_off_at = pc;
    kssi_lock_note(self, &rw->lock, pc, as);
}

/* May it be released by the caller, as that? Else reported. */
static bool held(struct kss_rwlock *rw, const char *as, bool write, uintptr_t pc)
{
    struct kss_thread *self = kssi_current();
    char what[140], name[64];
    bool good = rw && rw->lock.magic == KSS_SPINLOCK_MAGIC;
    if (good && (write ? rw->lock.holder == self : rw->lock.holder != self && ck_pr_load_uint(&ck(rw)->n_readers) &&
                 (kssi_lock_place(self, &rw->lock) || self->locks_held > KSSI_HELD_MAX)))
        return true;
    bool were = kssi_irq_save();
    if (kssi_lock_initialised(rw ? &rw->lock : NULL, self, "releases", pc)) {
        struct kssi_text t = { what, sizeof what, 0 };
        kssi_lock_name(&rw->lock, name, sizeof name);
        kssi_text_print(&t, "releases %s, which it does not have as a %s", name, as);
        kssi_report_lock_misuse(self, what, pc, "it was to be released");
    }
    kssi_irq_restore(were);
    return false;
}

/* ---- how long they waited ------------------------------------------------------------------------- */

static uint64_t start_waiting(struct kss_thread *self)
{
    kssi_this_cpu()->pauses = 0;
    return self->machine->platform->account_clock(self->machine);
}

static void count_wait(struct kss_rwlock *rw, struct kss_thread *self, uint64_t start)
{
    uint64_t end = self->machine->platform->account_clock(self->machine);
    ck_pr_add_64(&rw->lock.spins, kssi_this_cpu()->pauses);
    ck_pr_add_64(&rw->lock.spin_ns, end > start ? end - start : 0);
}

/* ---- readers --------------------------------------------------------------------------------------- */

bool kss_read_lock(struct kss_rwlock *rw)
{
    uintptr_t pc = (uintptr_t)__builtin_return_address(0);
    struct kss_thread *self;
    bool on;
    if (!begin(rw, false, pc, &on, &self))
        return on;
    if (unlikely(!ck_rwlock_read_trylock(ck(rw)))) {
        uint64_t start = start_waiting(self);
        ck_rwlock_read_lock(ck(rw));
        ck_pr_inc_64(&rw->reads_contended);
        count_wait(rw, self, start);
    }
    end(rw, self, pc, on, KSSI_HELD_READ);
    return on;
}

void kss_read_unlock(struct kss_rwlock *rw, bool irqs_were_on)
{
    if (!kssi_require_kernel())
        return;
    if (likely(held(rw, "reader", false, (uintptr_t)__builtin_return_address(0)))) {
        kssi_lock_forget(kssi_current(), &rw->lock);
        ck_rwlock_read_unlock(ck(rw));
    }
    kssi_irq_restore(irqs_were_on);
}

/* ---- writers --------------------------------------------------------------------------------------- */

bool kss_write_lock(struct kss_rwlock *rw)
{
    uintptr_t pc = (uintptr_t)__builtin_return_address(0);
    struct kss_thread *self;
    bool on;
    if (!begin(rw, true, pc, &on, &self))
        return on;
    if (unlikely(!ck_rwlock_write_trylock(ck(rw)))) {
        uint64_t start = start_waiting(self);
        ck_rwlock_write_lock(ck(rw));
        kssi_count(&rw->lock.contended, 1);
        count_wait(rw, self, start);
    }
    rw->lock.holder = self;
    kssi_count(&rw->lock.taken, 1);
    end(rw, self, pc, on, KSSI_HELD_WRITE);
    return on;
}

void kss_write_unlock(struct kss_rwlock *rw, bool irqs_were_on)
{
    if (!kssi_require_kernel())
        return;
    if (likely(held(rw, "writer", true, (uintptr_t)__builtin_return_address(0)))) {
        kssi_lock_forget(kssi_current(), &rw->lock);
        rw->lock.holder = NULL;
        ck_rwlock_write_unlock(ck(rw));
    }
    kssi_irq_restore(irqs_were_on);
}

void kssi_rwlock_take_away(struct kss_spinlock *lock, enum kssi_held_as as)
{
    struct kss_rwlock *rw = (struct kss_rwlock *)((char *)lock - offsetof(struct kss_rwlock, lock));
    if (as == KSSI_HELD_READ) {
        ck_rwlock_read_unlock(ck(rw));
        return;
    }
    rw->lock.holder = NULL;
    ck_rwlock_write_unlock(ck(rw));
}

int kss_rwlock_stats(const struct kss_rwlock *rw, struct kss_lock_stats *stats)
{
    int r = kss_spin_stats(rw ? &rw->lock : NULL, stats);
    if (r == 0)
        stats->contended += ck_pr_load_64(&rw->reads_contended);
    return r;
}

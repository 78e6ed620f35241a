/* SPDX-License-Identifier: MIT */
/* Spinlocks: test and test-and-set, interrupts off while held. */
#include "kernel.h"

void kss_spinlock_init(struct kss_spinlock *lock, const char *name)
{
    *lock = (struct kss_spinlock)KSS_SPINLOCK_INIT(name);
}

bool kss_spin_lock(struct kss_spinlock *lock)
{
    if (kssi_this_cpu())
        kssi_require_kernel();
    /* A host thread may take it while no CPU runs: there is nobody to exclude. */
    struct kss_thread *self = kssi_this_cpu() ? kssi_current() : NULL;
    bool on = self && kssi_irq_save();
    if (unlikely(self && lock->locked && lock->holder == self))
        kssi_panic(KSS_REPORT_INVARIANT, "spinlock %s: thread %d (%s) takes it again while it holds it",
                   lock->name ? lock->name : "?", self->tid, self->name);
    while (__atomic_exchange_n(&lock->locked, 1, __ATOMIC_ACQUIRE))
        while (__atomic_load_n(&lock->locked, __ATOMIC_RELAXED))
            kssi_relax();
    if (self)
        self->locks_held++;
    lock->holder = self;
    return on;
}

void kss_spin_unlock(struct kss_spinlock *lock, bool irqs_were_on)
{
    if (kssi_this_cpu())
        kssi_require_kernel();
    if (kssi_this_cpu())
        kssi_current()->locks_held--;
    lock->holder = NULL;
    __atomic_store_n(&lock->locked, 0, __ATOMIC_RELEASE);
    if (irqs_were_on)
        kssi_irq_enable();
}

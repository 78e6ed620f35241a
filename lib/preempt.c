/* SPDX-License-Identifier: MIT */
/* Preemption control. The count is in thread_info: it belongs to the stack, not to the CPU. */
#include "kernel.h"

void kss_preempt_disable(void)
{
    if (!kssi_require_kernel())
        return;
    struct kss_thread *t = kssi_current();
    if (t->ti->preempt_count++ == 0) {
        t->preempt_off_at = (uintptr_t)__builtin_return_address(0);
        if (unlikely(t->machine->config.latency))
            kssi_latency_preempt_off(t);
    }
}

void kss_preempt_enable(void)
{
    if (!kssi_require_kernel())
        return;
    struct kss_thread *t = kssi_current();
    struct kss_thread_info *ti = t->ti;
    KSS_ASSERT(ti->preempt_count > 0);
    if (unlikely(t->preempt_off_ns) && ti->preempt_count == 1)
        kssi_latency_preempt_on(t, (uintptr_t)__builtin_return_address(0));
    /* An interrupt between the two lines may preempt right here: then the flag is clear below. */
    ti->preempt_count--;
    if (unlikely(ti->preempt_count == 0 && (ti->flags & KSS_TI_NEED_RESCHED)) && kssi_irqs_on() &&
        !t->locks_held && !kss_in_irq() && !kss_in_softirq()) {
        kssi_irq_disable();
        if (!kssi_host_holds(t, NULL))
            kssi_schedule(KSS_SWITCH_PREEMPT);
        kssi_irq_enable();
    }
}

int kss_preempt_count(void)
{
    return kssi_require_kernel() ? kssi_current()->ti->preempt_count : 0;
}

bool kss_in_irq(void)
{
    if (!kssi_require_kernel())
        return false;
    /* The thread may migrate between any two lines, and the CPU it has left be in a hard irq. */
    bool on = kssi_irq_save();
    bool in = kssi_this_cpu()->irq_depth != 0;
    kssi_irq_restore(on);
    return in;
}

static bool irq_save_at(uintptr_t pc)
{
    bool on = kssi_irq_save();
    if (on) {
        struct kss_thread *t = kssi_current();
        t->irqs_off_at = pc; /* for reports */
        if (unlikely(t->machine->config.latency))
            kssi_latency_irqs_off(pc, 0);
    }
    return on;
}

void kss_irq_disable(void)
{
    if (kssi_require_kernel())
        irq_save_at((uintptr_t)__builtin_return_address(0));
}

void kss_irq_enable(void)
{
    if (kssi_require_kernel())
        kssi_irq_enable_at(kssi_current()->machine, (uintptr_t)__builtin_return_address(0), 0);
}

bool kss_irq_save(void)
{
    return kssi_require_kernel() && irq_save_at((uintptr_t)__builtin_return_address(0));
}

void kss_irq_restore(bool on)
{
    if (kssi_require_kernel() && on)
        kssi_irq_enable_at(kssi_current()->machine, (uintptr_t)__builtin_return_address(0), 0);
}

bool kss_irqs_enabled(void)
{
    return kssi_require_kernel() && kssi_irqs_on();
}

/* SPDX-License-Identifier: MIT */
/* Thread states: the only function that changes them. */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>

static const char *const names[] = { "NEW", "READY", "RUNNING", "SLEEPING", "ZOMBIE", "DEAD" };

const char *kss_thread_state_name(enum kss_thread_state state)
{
    return (unsigned)state < sizeof names / sizeof names[0] ? names[state] : "?";
}

#define TO(s) (1u << KSS_THREAD_##s)
/*
 * SLEEPING -> RUNNING: woken between kss_wait_prepare() and the switch, while still on its CPU.
 * NEW -> DEAD: it could not be finished being built.
 */
static const unsigned allowed[] = {
    [KSS_THREAD_NEW] = TO(READY) | TO(DEAD) | TO(RUNNING),
    [KSS_THREAD_READY] = TO(RUNNING),
    [KSS_THREAD_RUNNING] = TO(READY) | TO(SLEEPING) | TO(ZOMBIE),
    [KSS_THREAD_SLEEPING] = TO(READY) | TO(RUNNING),
    [KSS_THREAD_ZOMBIE] = TO(DEAD),
    [KSS_THREAD_DEAD] = 0,
};

void kssi_set_state(struct kss_thread *t, enum kss_thread_state to)
{
    enum kss_thread_state from = t->state;
    bool ok = (allowed[from] & (1u << to)) != 0;
    /* Only what runs can sleep or end, and only what is off its CPU can become READY by a wake-up. */
    if (from == KSS_THREAD_SLEEPING)
        ok = ok && t->on_cpu == (to == KSS_THREAD_RUNNING);
    if (unlikely(!ok))
        kssi_panic(KSS_REPORT_INVARIANT, "thread %d (%s): illegal state change %s -> %s%s", t->tid,
                   t->name, kss_thread_state_name(from), kss_thread_state_name(to),
                   t->on_cpu ? ", on a CPU" : "");
    t->state = to;
}

/* ---- for experiments ---------------------------------------------------------------------------- */

static int refuse(struct kss_thread *t, enum kss_thread_state from, enum kss_thread_state to)
{
    char message[200];
    bool on = kssi_irq_save();
    snprintf(message, sizeof message, "illegal state change of thread %d (%s): %s -> %s%s", t->tid, t->name,
             kss_thread_state_name(from), kss_thread_state_name(to), t == kssi_current() ? ", its own" : "");
    struct kssi_fault f = { .kind = KSS_REPORT_BAD_TRANSITION, .message = message };
    kssi_fault(&f, KSS_KILLED + 1);
    if (on)
        kssi_irq_enable();
    return kssi_error(-EINVAL, "%s", message);
}

int kss_thread_set_state(struct kss_thread *t, enum kss_thread_state to)
{
    if (!kssi_require_kernel())
        return kssi_error(-EPERM, "thread states belong to the kernel of a simulated CPU");
    int r = kssi_own_thread(t);
    if (r < 0)
        return r;
    bool self = t == kssi_current() && !kss_in_irq() && !kss_in_softirq();
    enum kss_thread_state from = t->state;
    if (to == KSS_THREAD_READY && !self && from == KSS_THREAD_SLEEPING && kssi_wake(t))
        return 0;
    bool sleeps = from == KSS_THREAD_RUNNING && to == KSS_THREAD_SLEEPING;
    /* An interrupt may wake or preempt it before this call, or in the middle of it: then it is RUNNING already. */
    bool stays = to == KSS_THREAD_RUNNING;
    if (!self || !(sleeps || stays))
        return refuse(t, from, to);
    bool on = kss_spin_lock(&t->machine->sched_lock);
    if (t->state != to)
        kssi_set_state(t, to);
    t->wait_channel = sleeps ? "a sleep of its own" : NULL;
    t->unkillable = sleeps;
    kss_spin_unlock(&t->machine->sched_lock, on);
    return 0;
}

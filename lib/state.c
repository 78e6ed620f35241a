/* SPDX-License-Identifier: MIT */
/* Thread states: the only function that changes them. */
#include "kernel.h"

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

/* SPDX-License-Identifier: MIT */
/* How threads and processes end. */
#include "kernel.h"

#include <errno.h>

void kssi_mark_killed(struct kss_thread *t, int status)
{
    t->exit_status = status;
    __atomic_store_n(&t->killed, true, __ATOMIC_SEQ_CST); /* said first, then looked: see kssi_thread_entry() */
    if (t->ti)
        kssi_ti_set(t->ti, KSS_TI_KILLED);
}

/* Every thread of the process dies before it is in user mode again. Sleepers are woken: those that may
   be interrupted give up, the others test their condition and sleep on. */
void kssi_process_kill(struct kss_process *p, int status)
{
    struct kss_machine *m = p->machine;
    struct kss_thread *t;
    bool on = kss_spin_lock(&m->tree_lock);
    if (!p->dying) {
        p->dying = true;
        p->exit_status = status;
        TAILQ_FOREACH (t, &p->threads, of_process) {
            kssi_mark_killed(t, status);
            if (!kssi_wake(t))
                kssi_interrupt_thread(t);
        }
    }
    kss_spin_unlock(&m->tree_lock, on);
}

static void become_zombie_process(struct kss_process *p)
{
    struct kss_machine *m = p->machine;
    struct kss_process *init = m->init, *c;
    bool orphan_zombies = false;
    if (p == init) { /* there is nobody left to reap: the machine can't go on */
        kssi_stop(m, -EFAULT);
        return;
    }
    while ((c = TAILQ_FIRST(&p->children))) {
        TAILQ_REMOVE(&p->children, c, sibling);
        c->parent = init;
        if (c->zombie)
            TAILQ_INSERT_HEAD(&init->children, c, sibling);
        else
            TAILQ_INSERT_TAIL(&init->children, c, sibling);
        orphan_zombies |= c->zombie;
    }
    if (orphan_zombies)
        kss_wake_up(&init->child_exit, 0);
    p->zombie = true;
    if (!p->parent)
        return;
    TAILQ_REMOVE(&p->parent->children, p, sibling);
    TAILQ_INSERT_HEAD(&p->parent->children, p, sibling);
    kss_wake_up(&p->parent->child_exit, 0);
}

static void leave_process(struct kss_thread *t, int status, long value)
{
    struct kss_process *p = t->process;
    t->exit_value = value;
    t->finished = true;
    if (!p->dying && (t->main || p->alive == 1))
        p->exit_status = status;
    p->machine->zombies++;
    if (--p->alive == 0)
        become_zombie_process(p);
    else
        kss_wake_up(&p->thread_exit, 0);
}

/*
 * Interrupts stay off from before the parent can hear of it until the switch: else the parent could
 * preempt this thread and take its stack away under it.
 */
void kssi_thread_exit(struct kss_thread *t, int status, long value)
{
    struct kss_machine *m = t->machine;
    KSSI_TRACE(m, KSS_TR_EXIT, status, value, 0, 0);
    /* Where a fault left it queued: the entries are on the stack that goes. */
    while (t->waiters)
        kss_wait_finish(t->waiters);
    kssi_sleeper_abandon(t);
    kssi_mutexes_abandon(t);
    kssi_irq_disable();
    kssi_frames_gone(t->user_low, t->user_high);
    kss_spin_lock(&m->tree_lock);
    if (m->config.zombie_stacks == KSS_ZOMBIE_KEEPS_STACK && ++m->zombie_stacks > m->zombie_stacks_max)
        m->zombie_stacks_max = m->zombie_stacks;
    leave_process(t, status, value);
    kss_spin_unlock(&m->tree_lock, false);
    kss_spin_lock(&m->sched_lock);
    if (t->state == KSS_THREAD_SLEEPING) { /* it died of a fault between prepare and sleep */
        kssi_timer_disarm(t);
        kssi_set_state(t, KSS_THREAD_RUNNING);
    }
    kssi_set_state(t, KSS_THREAD_ZOMBIE);
    kss_spin_unlock(&m->sched_lock, false);
    t->tf = NULL;
    t->nesting = 0;
    kssi_schedule(KSS_SWITCH_EXIT);
    __builtin_unreachable();
}

/* From a fault in kernel mode: whatever is on this stack is given up. */
void kssi_die(int status)
{
    struct kss_thread *t = kssi_current();
    kssi_process_kill(t->process, status);
    kssi_thread_exit(t, status, -1);
}

void kssi_process_exit(int status)
{
    struct kss_thread *t = kssi_current();
    struct kss_process *p = t->process;
    kssi_process_kill(p, (status & 0xff) << 8);
    kssi_thread_exit(t, p->exit_status, status);
}

/* SPDX-License-Identifier: MIT */
/*
 * Kernel threads: threads of a process that nobody sees, has no user mode and never ends. So they are made, scheduled,
 * joined and reaped as all others; and since init does not wait for that process, the machine ends without them.
 */
#include "kernel.h"

#include <errno.h>
#include <string.h>

static void kthread_main(void)
{
    struct kss_thread *t = kssi_current();
    kssi_irq_enable();
    long value = t->fn(t->arg);
    if (unlikely(t->locks_held || t->ti->preempt_count || !kssi_irqs_on()))
        kssi_panic(KSS_REPORT_ATOMIC_SLEEP, "kernel thread %d (%s) ends %s", t->tid, t->name,
                   t->locks_held ? "with a spinlock held" : kssi_irqs_on() ? "with preemption disabled"
                                                                           : "with interrupts off");
    kssi_thread_exit(t, 0, value);
}

/* It counts as a thread of its own process's, so that this never ends. */
static struct kss_process *kernel_process(struct kss_machine *m, int *error)
{
    struct kss_process *p = __atomic_load_n(&m->kernel, __ATOMIC_ACQUIRE), *fresh, *none = NULL;
    if (p)
        return p;
    fresh = kssi_process_new(m);
    if (!fresh) {
        *error = kssi_error(-ENOMEM, "no host memory for the kernel's process");
        return NULL;
    }
    fresh->alive = 1;
    if (__atomic_compare_exchange_n(&m->kernel, &none, fresh, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return fresh;
    kssi_process_free(fresh); /* another CPU was faster */
    return none;
}

struct kss_thread *kssi_kthread_new(struct kss_machine *m, const char *name, kss_kthread_fn fn, void *arg, int priority,
                                    int cpu, int *error)
{
    struct kss_spawn_attr attr = { .name = name, .priority = priority ? priority : KSS_PRIO_DEFAULT };
    struct kss_process *p = kernel_process(m, error);
    struct kss_thread *t = p ? kssi_thread_new(m, &attr, p, NULL, kthread_main, error) : NULL;
    if (!t)
        return NULL;
    bool on = kssi_irq_save();
    t->cpu = t->ran_on = cpu >= 0 ? (unsigned)cpu : kssi_this_cpu()->index;
    kssi_irq_restore(on);
    if (cpu >= 0 && m->cpus > 1) {
        struct kss_cpumask only = { { 0 } };
        kss_cpumask_set(&only, (unsigned)cpu);
        kssi_affinity_set(t, &only);
    }
    kssi_process_add_thread(p, t, fn, arg);
    KSSI_TRACE(m, KSS_TR_FORK, t->tid, 0, 0, 0);
    return t;
}

/* ---- public ----------------------------------------------------------------------------------- */

static int check_caller(const char *what, bool in_handlers)
{
    if (!kssi_require_kernel())
        return kssi_error(-EPERM, "%s: kernel threads belong to the kernel of a simulated CPU", what);
    if (!in_handlers && (kss_in_irq() || kss_in_softirq()))
        return kssi_error(-EPERM, "%s in a hard irq or softirq handler: only threads may", what);
    return 0;
}

long kss_kthread_create(const char *name, kss_kthread_fn fn, void *arg, int priority)
{
    int r = check_caller("kss_kthread_create()", false);
    if (r < 0)
        return r;
    if (!name || !fn)
        return kssi_error(-EINVAL, "a kernel thread's %s is NULL", name ? "function" : "name");
    if (priority < 0 || priority > KSS_PRIO_MAX)
        return kssi_error(-EINVAL, "priority %d: %d to %d, or 0 for %d", priority, KSS_PRIO_MIN, KSS_PRIO_MAX,
                          KSS_PRIO_DEFAULT);
    struct kss_thread *t = kssi_kthread_new(kssi_current()->machine, name, fn, arg, priority, -1, &r);
    if (!t)
        return r;
    int tid = t->tid; /* it may be gone before this call returns */
    kssi_sched_start_thread(t);
    return tid;
}

int kss_kthread_stop(long tid)
{
    int r = check_caller("kss_kthread_stop()", true);
    if (r < 0)
        return r;
    struct kss_machine *m = kssi_current()->machine;
    bool on = kss_spin_lock(&m->tree_lock);
    struct kss_thread *t = tid == (int)tid ? kssi_thread_by_id(m, (int)tid) : NULL;
    /* The kernel's own workers go on: others rely on them. */
    bool found = t && t->kernel_fn && !t->worker;
    if (found && !t->finished) {
        kssi_mark_killed(t, 0);
        kssi_wake(t);
    }
    kss_spin_unlock(&m->tree_lock, on);
    return found ? 0 : kssi_error(-ESRCH, t && t->worker ? "thread %ld is the kernel's own worker: it does not end"
                                                         : "there is no kernel thread %ld", tid);
}

bool kss_kthread_should_stop(void)
{
    if (!kssi_require_kernel())
        return false;
    const struct kss_thread *t = kssi_current();
    return t->kernel_fn && (__atomic_load_n(&t->ti->flags, __ATOMIC_RELAXED) & KSS_TI_KILLED);
}

int kss_kthread_join(long tid, long *value)
{
    long ignored;
    int r = check_caller("kss_kthread_join()", false);
    if (r < 0)
        return r;
    struct kss_process *p = __atomic_load_n(&kssi_current()->machine->kernel, __ATOMIC_ACQUIRE);
    if (!p)
        return kssi_error(-ESRCH, "there is no kernel thread %ld", tid);
    r = (int)kssi_thread_join(p, tid, value ? value : &ignored);
    return r == -EINTR ? kssi_error(r, "killed or asked to stop while it waited for kernel thread %ld", tid) : r;
}

int kss_kthread_sleep(uint64_t ns)
{
    int r = check_caller("kss_kthread_sleep()", true);
    if (r < 0)
        return r;
    uint64_t now = kssi_now(kssi_current()->machine);
    r = (int)kssi_sleep_until(ns < UINT64_MAX - now ? now + ns : UINT64_MAX - 1);
    return r == -EINTR ? kssi_error(r, "killed or asked to stop while it slept") : r;
}

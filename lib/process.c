/* SPDX-License-Identifier: MIT */
/* Processes: a family tree, open files, and one or more threads. Guarded by tree_lock. */
#include "kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct kss_process *kssi_process_new(struct kss_machine *m)
{
    bool on = kss_spin_lock(&m->tree_lock);
    struct kss_process *p = m->free_processes;
    if (p)
        m->free_processes = p->parent;
    kss_spin_unlock(&m->tree_lock, on);
    struct kss_process *all_next = p ? p->all_next : NULL;
    bool fresh = !p;
    if (fresh && !(p = malloc(sizeof *p)))
        return NULL;
    memset(p, 0, sizeof *p);
    p->all_next = all_next;
    if (fresh) {
        on = kss_spin_lock(&m->tree_lock);
        p->all_next = m->all_processes;
        m->all_processes = p;
        kss_spin_unlock(&m->tree_lock, on);
    }
    p->machine = m;
    TAILQ_INIT(&p->children);
    TAILQ_INIT(&p->threads);
    kss_wait_queue_init(&p->child_exit, "wait for a child");
    kss_wait_queue_init(&p->thread_exit, "join a thread");
    return p;
}

void kssi_process_free(struct kss_process *p)
{
    struct kss_machine *m = p->machine;
    bool on = kss_spin_lock(&m->tree_lock);
    p->parent = m->free_processes;
    m->free_processes = p;
    kss_spin_unlock(&m->tree_lock, on);
}

void kssi_process_add_thread(struct kss_process *p, struct kss_thread *t, kss_user_fn fn, void *arg)
{
    t->fn = fn;
    t->arg = arg;
    bool on = kss_spin_lock(&p->machine->tree_lock);
    TAILQ_INSERT_TAIL(&p->threads, t, of_process);
    p->alive++;
    if (p->dying) /* while this thread was being made */
        kssi_mark_killed(t, p->exit_status);
    kss_spin_unlock(&p->machine->tree_lock, on);
}

long kssi_process_spawn(struct kss_machine *m, struct kss_process *parent, kss_user_fn fn, void *arg,
                        const struct kss_spawn_attr *attr)
{
    int r = 0;
    struct kss_process *p = kssi_process_new(m);
    if (!p)
        return kssi_error(-ENOMEM, "no host memory for a process");
    struct kss_thread *self = kssi_this_cpu() && parent ? kssi_current() : NULL;
    struct kss_thread *t = kssi_thread_new(m, attr, p, self, NULL, &r);
    if (!t) {
        kssi_process_free(p);
        return r;
    }
    p->pid = t->tid;
    t->main = true;
    if (parent)
        kssi_files_inherit(p, parent);
    kssi_process_add_thread(p, t, fn, arg);
    bool on = kss_spin_lock(&m->tree_lock);
    p->parent = parent;
    if (parent)
        TAILQ_INSERT_TAIL(&parent->children, p, sibling);
    kss_spin_unlock(&m->tree_lock, on);
    int pid = p->pid; /* the child may be gone before this call returns */
    KSSI_TRACE(m, KSS_TR_FORK, pid, pid, 0, 0);
    kssi_sched_start_thread(t);
    return pid;
}

long kssi_thread_spawn(kss_user_fn fn, void *arg, const struct kss_spawn_attr *attr)
{
    int r = 0;
    struct kss_thread *self = kssi_current();
    struct kss_process *p = self->process;
    struct kss_thread *t = kssi_thread_new(self->machine, attr, p, self, NULL, &r);
    if (!t)
        return r;
    int tid = t->tid;
    kssi_process_add_thread(p, t, fn, arg);
    KSSI_TRACE(self->machine, KSS_TR_FORK, tid, p->pid, 0, 0);
    kssi_sched_start_thread(t);
    return tid;
}

/* ---- waiting ---------------------------------------------------------------------------------- */

/* The zombie's last thread may still be on its way off its CPU: its stack must not go before. */
static void wait_until_off(struct kss_thread *t)
{
    for (;;) {
        bool on = kss_spin_lock(&t->machine->sched_lock);
        bool off = t->state == KSS_THREAD_ZOMBIE && !t->on_cpu;
        kss_spin_unlock(&t->machine->sched_lock, on);
        if (off)
            return;
        kssi_relax();
    }
}

void kssi_process_reap(struct kss_process *p)
{
    struct kss_thread *t;
    kssi_files_close(p);
    while ((t = TAILQ_FIRST(&p->threads))) {
        TAILQ_REMOVE(&p->threads, t, of_process);
        wait_until_off(t);
        kssi_thread_free(t);
    }
    kssi_process_free(p);
}

/* Takes a finished child out of the tree: NULL when none has finished yet; *any: there is one to wait
   for. Zombies are at the head of the list. */
static struct kss_process *take_zombie(struct kss_process *p, long pid, bool *any)
{
    struct kss_process *c, *found = NULL;
    bool on = kss_spin_lock(&p->machine->tree_lock);
    *any = false;
    TAILQ_FOREACH (c, &p->children, sibling) {
        if (pid != -1 && c->pid != pid)
            continue;
        *any = true;
        if (c->zombie)
            found = c;
        if (found || pid == -1)
            break;
    }
    if (found)
        TAILQ_REMOVE(&p->children, found, sibling);
    kss_spin_unlock(&p->machine->tree_lock, on);
    return found;
}

long kssi_process_wait(struct kss_process *p, long pid, int *status)
{
    struct kss_process *c = NULL;
    bool any = false;
    int r = kss_wait_event_killable(&p->child_exit, (c = take_zombie(p, pid, &any)) || !any);
    if (!c)
        return r < 0 ? r
                     : kssi_error(-ECHILD, pid == -1 ? "process %d has no children" : "process %d has no child %ld",
                                  p->pid, pid);
    int child = c->pid;
    *status = c->exit_status;
    kssi_process_reap(c);
    return child;
}

/* Does the thread wait for self, through any number of others? tree_lock. */
static bool waits_for(const struct kss_thread *t, const struct kss_thread *self)
{
    for (const struct kss_thread *w = self->joiner; w; w = w->joiner)
        if (w == t)
            return true;
    return false;
}

/* 0: t has ended and is the caller's to free; -EAGAIN: not yet; or an error. */
static int take_thread(struct kss_process *p, long tid, struct kss_thread **out)
{
    struct kss_thread *self = kssi_current();
    int r = 0;
    bool on = kss_spin_lock(&p->machine->tree_lock);
    struct kss_thread *t = tid == (int)tid ? kssi_thread_by_id(p->machine, (int)tid) : NULL;
    if (t == self) {
        r = kssi_error(-EDEADLK, "thread %ld can't join itself", tid);
    } else if (!t || t->process != p || t->main || t->worker) {
        r = p == p->machine->kernel ? kssi_error(-ESRCH, "there is no kernel thread %ld to join", tid)
                                    : kssi_error(-ESRCH, "process %d has no thread %ld to join", p->pid, tid);
    } else if (t->joiner && t->joiner != self) {
        r = kssi_error(-EINVAL, "thread %ld is joined by thread %d already", tid, t->joiner->tid);
    } else if (!t->finished && waits_for(t, self)) {
        r = kssi_error(-EDEADLK, "thread %d can't join thread %ld, which waits for it%s: neither would end", self->tid,
                       tid, self->joiner == t ? "" : " through others");
    } else if (!t->finished) {
        t->joiner = self;
        r = -EAGAIN;
    } else {
        TAILQ_REMOVE(&p->threads, t, of_process);
        *out = t;
    }
    kss_spin_unlock(&p->machine->tree_lock, on);
    return r;
}

/* Killed while it waited: nobody may find it through the thread that it waited for. */
static void leave_thread(struct kss_process *p, long tid)
{
    bool on = kss_spin_lock(&p->machine->tree_lock);
    struct kss_thread *t = kssi_thread_by_id(p->machine, (int)tid);
    if (t && t->joiner == kssi_current())
        t->joiner = NULL;
    kss_spin_unlock(&p->machine->tree_lock, on);
}

long kssi_thread_join(struct kss_process *p, long tid, long *value)
{
    struct kss_thread *t = NULL;
    int r = 0;
    int killed = kss_wait_event_killable(&p->thread_exit, (r = take_thread(p, tid, &t)) != -EAGAIN);
    if (killed < 0)
        leave_thread(p, tid);
    if (killed < 0 || r < 0)
        return killed < 0 ? killed : r;
    *value = t->exit_value;
    wait_until_off(t);
    kssi_thread_free(t);
    return 0;
}

/* ---- pid 1, and the end ----------------------------------------------------------------------- */

/* pid 1, in user mode: starts the experiment, adopts and reaps orphans, and ends the machine when no
   process is left. */
static long init_main(void *arg)
{
    struct kss_machine *m = arg;
    int status = 0, main_status = 0;
    struct kss_spawn_attr attr = { .name = "main", .priority = KSS_PRIO_DEFAULT };
    long main_pid = kss_spawn(m->main_fn, m->main_arg, &attr), pid;
    while (main_pid > 0 && (pid = kss_wait(-1, &status)) > 0)
        if (pid == main_pid)
            main_status = status;
    kss_syscall(KSSI_SYS_HALT, main_pid < 0 ? main_pid : main_status, 0, 0, 0, 0, 0);
    return 0;
}

int kssi_boot_init(struct kss_machine *m)
{
    struct kss_spawn_attr attr = { .name = "init", .priority = KSS_PRIO_MAX };
    long pid = kssi_process_spawn(m, NULL, init_main, m, &attr);
    if (pid < 0)
        return (int)pid;
    m->init = kssi_thread_by_id(m, (int)pid)->process;
    kssi_console_stdio(m, m->init);
    return 0;
}

/* The machine has ended, threads are wherever they were: memory only, no goodbye. Host. */
void kssi_processes_fini(struct kss_machine *m)
{
    while (m->all_processes) {
        struct kss_process *p = m->all_processes;
        m->all_processes = p->all_next;
        free(p);
    }
}

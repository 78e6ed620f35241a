/* SPDX-License-Identifier: MIT */
/* The system-call table, its dispatch, and the built-in calls about processes. */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

typedef const struct kss_syscall_args *args;

static struct kss_process *self(void)
{
    return kssi_current()->process;
}

static long sys_getpid(args a)
{
    (void)a;
    return self()->pid;
}

static long sys_gettid(args a)
{
    (void)a;
    return kssi_current()->tid;
}

static long sys_getppid(args a)
{
    (void)a;
    struct kss_process *p = self();
    bool on = kss_spin_lock(&p->machine->tree_lock);
    int pid = p->parent ? p->parent->pid : 0;
    kss_spin_unlock(&p->machine->tree_lock, on);
    return pid;
}

static long sys_yield(args a)
{
    (void)a;
    kssi_schedule(KSS_SWITCH_YIELD);
    return 0;
}

__attribute__((noreturn)) static long sys_exit(args a)
{
    kssi_process_exit((int)a->a[0]);
}

__attribute__((noreturn)) static long sys_thread_exit(args a)
{
    kssi_thread_exit(kssi_current(), (int)(a->a[0] & 0xff) << 8, a->a[0]);
}

/* The attributes as the kernel may use them: copied once, then checked. */
struct checked_attr {
    struct kss_spawn_attr attr;
    char name[KSS_NAME_MAX];
};

static int check_sizes(struct kss_machine *m, const struct kss_spawn_attr *at)
{
    const struct kss_config *c = &m->config;
    size_t k = at->kstack_size;
    if (at->priority < 0 || at->priority > KSS_PRIO_MAX)
        return kssi_error(-EINVAL, "priority %d: 1 to %d, or 0 for the parent's", at->priority, KSS_PRIO_MAX);
    if (k && (k & (k - 1) || k < kss_kstack_min_size() || k > c->kstack_max))
        return kssi_error(-EINVAL, "kstack_size %zu: a power of two from %zu to kstack_max %zu", k,
                          kss_kstack_min_size(), c->kstack_max);
    if (at->user_stack && (at->user_stack_size < 4096 ||
                           !kss_access_ok(at->user_stack, at->user_stack_size)))
        return kssi_error(-EINVAL, "user stack of %zu bytes at %p: at least 4096 bytes of user memory",
                          at->user_stack_size, at->user_stack);
    if (!at->user_stack && at->user_stack_size &&
        (at->user_stack_size % m->platform->page_size() || at->user_stack_size > (1u << 30)))
        return kssi_error(-EINVAL, "user_stack_size %zu: a multiple of %zu, at most 1 GiB",
                          at->user_stack_size, m->platform->page_size());
    return 0;
}

static long get_attr(const void *user, struct checked_attr *out)
{
    memset(out, 0, sizeof *out);
    if (!user)
        return 0;
    if (kss_copy_from_user(&out->attr, user, sizeof out->attr))
        return kssi_error(-EFAULT, "the attributes at %p can't be read", user);
    if (out->attr.name) {
        long n = kss_copy_string_from_user(out->name, out->attr.name, sizeof out->name);
        if (n < 0 && n != -ENAMETOOLONG) /* a long one is cut */
            return n;
        out->attr.name = out->name;
    }
    return check_sizes(self()->machine, &out->attr);
}

static long make(args a, bool process)
{
    struct checked_attr at;
    kss_user_fn fn = (kss_user_fn)a->a[0];
    if (!fn)
        return kssi_error(-EFAULT, "the function to run is NULL");
    long r = get_attr((const void *)a->a[2], &at);
    if (r < 0)
        return r;
    return process ? kssi_process_spawn(self()->machine, self(), fn, (void *)a->a[1], &at.attr)
                   : kssi_thread_spawn(fn, (void *)a->a[1], &at.attr);
}

static long sys_spawn(args a)
{
    return make(a, true);
}

static long sys_thread_create(args a)
{
    return make(a, false);
}

/* Before anything is reaped for it: can the result be written? NULL: it is not wanted. */
static long check_result(void *to, const void *nothing, size_t n)
{
    if (to && kss_copy_to_user(to, nothing, n))
        return kssi_error(-EFAULT, "the result can't be written to %p", to);
    return 0;
}

static long sys_thread_join(args a)
{
    long value = 0, r = check_result((void *)a->a[1], &value, sizeof value);
    if (r == 0)
        r = kssi_thread_join(self(), a->a[0], &value);
    if (r == 0 && a->a[1] && kss_copy_to_user((void *)a->a[1], &value, sizeof value))
        r = kssi_error(-EFAULT, "the value can't be written to %#lx", a->a[1]);
    return r;
}

static long sys_wait(args a)
{
    int status = 0;
    long r = check_result((void *)a->a[1], &status, sizeof status);
    if (r == 0)
        r = kssi_process_wait(self(), a->a[0], &status);
    if (r > 0 && a->a[1] && kss_copy_to_user((void *)a->a[1], &status, sizeof status))
        r = kssi_error(-EFAULT, "the status can't be written to %#lx", a->a[1]);
    return r;
}

static long sys_sleep(args a)
{
    uint64_t now = kssi_now(self()->machine), ns = (uint64_t)a->a[0];
    if (!ns)
        return 0;
    return kssi_sleep_until(ns > UINT64_MAX - now ? UINT64_MAX : now + ns);
}

/* ---- priorities ------------------------------------------------------------------------------- */

static long with_thread(long tid, int *set, bool relative)
{
    struct kss_machine *m = self()->machine;
    struct kss_thread *me = kssi_current();
    long r;
    bool on = kss_spin_lock(&m->tree_lock);
    struct kss_thread *t = tid ? (tid == (int)tid ? kssi_thread_by_id(m, (int)tid) : NULL) : me;
    if (!t) {
        r = kssi_error(-ESRCH, "there is no thread %ld", tid);
    } else {
        long p = t->base_priority;
        if (set) {
            p = relative ? p + *set : *set;
            p = p < 1 ? 1 : p > KSS_PRIO_MAX ? KSS_PRIO_MAX : p;
            kssi_set_base_priority(t, (int)p);
        }
        r = p;
    }
    kss_spin_unlock(&m->tree_lock, on);
    return r;
}

static long sys_nice(args a)
{
    int increment = a->a[0] > 100 ? 100 : a->a[0] < -100 ? -100 : (int)a->a[0];
    return with_thread(0, &increment, true);
}

static long sys_setpriority(args a)
{
    int p = (int)a->a[1];
    if (a->a[1] < 1 || a->a[1] > KSS_PRIO_MAX)
        return kssi_error(-EINVAL, "priority %ld: 1 to %d", a->a[1], KSS_PRIO_MAX);
    long r = with_thread(a->a[0], &p, false);
    return r < 0 ? r : 0;
}

static long sys_getpriority(args a)
{
    return with_thread(a->a[0], NULL, false);
}

/* ---- affinity --------------------------------------------------------------------------------- */

static long affinity(long tid, struct kss_cpumask *mask, bool set)
{
    struct kss_machine *m = self()->machine;
    long r = 0;
    bool on = kss_spin_lock(&m->tree_lock);
    struct kss_thread *t = !tid ? kssi_current() : tid == (int)tid ? kssi_thread_by_id(m, (int)tid) : NULL;
    if (!t)
        r = kssi_error(-ESRCH, "there is no thread %ld", tid);
    else if (set)
        r = kssi_affinity_set(t, mask);
    else
        *mask = t->allowed;
    kss_spin_unlock(&m->tree_lock, on);
    return r;
}

static long sys_setaffinity(args a)
{
    struct kss_cpumask mask;
    if (!a->a[1])
        return kssi_error(-EINVAL, "the set of CPUs is NULL");
    if (kss_copy_from_user(&mask, (const void *)a->a[1], sizeof mask))
        return kssi_error(-EFAULT, "the set of CPUs at %#lx can't be read", a->a[1]);
    return affinity(a->a[0], &mask, true);
}

static long sys_getaffinity(args a)
{
    struct kss_cpumask mask;
    if (!a->a[1])
        return kssi_error(-EINVAL, "no place for the set of CPUs: it is NULL");
    long r = affinity(a->a[0], &mask, false);
    if (r == 0 && kss_copy_to_user((void *)a->a[1], &mask, sizeof mask))
        r = kssi_error(-EFAULT, "the set of CPUs can't be written to %#lx", a->a[1]);
    return r;
}

/* ---- files, clock, marks ---------------------------------------------------------------------- */

static long sys_open(args a)
{
    char name[KSS_NAME_MAX];
    long n = kss_copy_string_from_user(name, (const char *)a->a[0], sizeof name);
    if (n == -ENAMETOOLONG)
        return kssi_error(-ENOENT, "there is no device with a name of more than %d characters",
                          KSS_NAME_MAX - 1);
    return n < 0 ? n : kssi_file_open(self(), name, (int)a->a[1]);
}

static long sys_close(args a)
{
    return kssi_file_close(self(), (int)a->a[0]);
}

static long sys_read(args a)
{
    return kssi_file_io(self(), (int)a->a[0], (void *)a->a[1], (size_t)a->a[2], false);
}

static long sys_write(args a)
{
    return kssi_file_io(self(), (int)a->a[0], (void *)a->a[1], (size_t)a->a[2], true);
}

static long sys_clock(args a)
{
    (void)a;
    return (long)kssi_now(self()->machine);
}

static long sys_trace_mark(args a)
{
    KSSI_TRACE(self()->machine, KSS_TR_MARK, a->a[0], a->a[1], 0, 0);
    return 0;
}

static long sys_halt(args a)
{
    struct kss_machine *m = self()->machine;
    if (self() != m->init)
        return kssi_error(-EPERM, "only pid 1 may end the machine");
    m->main_status = a->a[0] < 0 ? 0 : (int)a->a[0];
    if (a->a[0] < 0) {
        m->stop_reason = (int)a->a[0];
        snprintf(m->boot_error, sizeof m->boot_error, "the first process was not made: %.180s",
                 kssi_current()->error);
    }
    kssi_stop(m, 0);
    kssi_schedule(KSS_SWITCH_YIELD);
    return 0;
}

/* ---- the table -------------------------------------------------------------------------------- */

static const struct {
    kss_syscall_fn fn;
    const char *name;
} builtin[] = {
    [KSS_SYS_GETPID] = { sys_getpid, "getpid" },
    [KSS_SYS_GETTID] = { sys_gettid, "gettid" },
    [KSS_SYS_GETPPID] = { sys_getppid, "getppid" },
    [KSS_SYS_YIELD] = { sys_yield, "yield" },
    [KSS_SYS_EXIT] = { sys_exit, "exit" },
    [KSS_SYS_THREAD_EXIT] = { sys_thread_exit, "thread_exit" },
    [KSS_SYS_SPAWN] = { sys_spawn, "spawn" },
    [KSS_SYS_THREAD_CREATE] = { sys_thread_create, "thread_create" },
    [KSS_SYS_THREAD_JOIN] = { sys_thread_join, "thread_join" },
    [KSS_SYS_WAIT] = { sys_wait, "wait" },
    [KSS_SYS_SLEEP] = { sys_sleep, "sleep" },
    [KSS_SYS_NICE] = { sys_nice, "nice" },
    [KSS_SYS_SETPRIORITY] = { sys_setpriority, "setpriority" },
    [KSS_SYS_GETPRIORITY] = { sys_getpriority, "getpriority" },
    [KSS_SYS_OPEN] = { sys_open, "open" },
    [KSS_SYS_CLOSE] = { sys_close, "close" },
    [KSS_SYS_READ] = { sys_read, "read" },
    [KSS_SYS_WRITE] = { sys_write, "write" },
    [KSS_SYS_CLOCK] = { sys_clock, "clock" },
    [KSS_SYS_TRACE_MARK] = { sys_trace_mark, "trace_mark" },
    [KSS_SYS_SETAFFINITY] = { sys_setaffinity, "setaffinity" },
    [KSS_SYS_GETAFFINITY] = { sys_getaffinity, "getaffinity" },
    [KSSI_SYS_SMASHED] = { kssi_sys_smashed, "smashed" },
    [KSSI_SYS_HALT] = { sys_halt, "halt" },
};

void kssi_syscall_init(struct kss_machine *m)
{
    for (unsigned i = 0; i < sizeof builtin / sizeof builtin[0]; i++) {
        m->syscall[i] = builtin[i].fn;
        m->syscall_name[i] = builtin[i].name;
    }
}

/* There is no user behind it. Those that do not return would be made again and again. */
static long refuse_kernel_thread(const struct kss_thread *t, unsigned long nr)
{
    if (nr == KSS_SYS_EXIT || nr == KSS_SYS_THREAD_EXIT || nr == KSSI_SYS_SMASHED)
        kssi_panic(KSS_REPORT_KERNEL_FAULT, "thread %d (%s) is a kernel thread: it ends by returning, not by a system call",
                   t->tid, t->name);
    return kssi_error(-EPERM, "thread %d (%s) is a kernel thread: it makes no system calls", t->tid, t->name);
}

void kssi_syscall_dispatch(struct kss_trap_frame *tf, void *arg)
{
    struct kss_thread *t = kssi_current();
    struct kss_machine *m = t->machine;
    struct kss_syscall_args a;
    unsigned long nr = (unsigned long)kssi_frame_arguments(tf, a.a);
    (void)arg;
    if (unlikely(tf->mode == KSS_MODE_KERNEL))
        kssi_not_in_class_op("a system call");
    if (unlikely(t->kernel_fn != NULL)) {
        kssi_frame_set_result(tf, refuse_kernel_thread(t, nr));
        return;
    }
    a.frame = tf;
    t->syscalls++;
    KSSI_TRACE(m, KSS_TR_SYSCALL_IN, nr, a.a[0], a.a[1], a.a[2]);
    kss_syscall_fn fn = nr < KSS_SYSCALLS ? m->syscall[nr] : NULL;
    long result = likely(fn != NULL) ? fn(&a) : kssi_error(-ENOSYS, "there is no system call %lu", nr);
    kssi_frame_set_result(tf, result);
    KSSI_TRACE(m, KSS_TR_SYSCALL_OUT, nr, result, 0, 0);
}

int kss_syscall_register(struct kss_machine *m, unsigned number, kss_syscall_fn handler, const char *name)
{
    int r = kssi_require_config(m);
    if (r < 0)
        return r;
    if (number < KSS_SYS_EXPERIMENT || number >= KSS_SYSCALLS)
        return kssi_error(-EINVAL, "system call %u: an experiment's are %d to %d", number,
                          KSS_SYS_EXPERIMENT, KSS_SYSCALLS - 1);
    bool on = kss_spin_lock(&m->tree_lock);
    if (handler && m->syscall[number]) {
        r = kssi_error(-EBUSY, "system call %u is taken by %s", number, m->syscall_name[number]);
    } else {
        m->syscall[number] = handler;
        m->syscall_name[number] = handler ? (name ? name : "experiment") : NULL;
    }
    kss_spin_unlock(&m->tree_lock, on);
    return r;
}

const char *kss_syscall_name(struct kss_machine *m, unsigned number)
{
    if (kssi_valid_machine(m) < 0 || number >= KSS_SYSCALLS || !m->syscall_name[number])
        return "?";
    return m->syscall_name[number];
}

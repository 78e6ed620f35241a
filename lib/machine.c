/* SPDX-License-Identifier: MIT */
/* A machine's life: configuration, creation, run, end. */
#include "kernel.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VECTOR_STACK_MIN 65536u /* see kstack.c: the CPUs' own stacks */

void kss_config_init(struct kss_config *c)
{
    if (!c)
        return;
    *c = (struct kss_config){
        .struct_size = sizeof *c,
        .cpus = 1,
        .tick_hz = 250,
        .max_threads = 4096,
        .kstack_size = 32768,
        .kstack_max = 65536,
        .user_stack_size = 262144,
        .guard_size = 65536,
        .kstack_cache = 64,
        .canary = true,
        .poison = true,
        .sched = &kss_sched_rr,
        .timeslice_ns = 4000000,
        .trace_events = 16384,
        .watchdog = { 20000000000u, 10000000000u, 120000000000u, 1000000000u, 100000 },
    };
}

size_t kss_kstack_min_size(void)
{
    if (!kssi_frame_size() && kssi_platform_live.probe() < 0)
        return 0;
    size_t need = 2 * kssi_frame_size() + 1024, size = 4096;
    while (size < need)
        size *= 2;
    return size;
}

/* ---- configuration ---------------------------------------------------------------------------- */

static bool power_of_two(size_t n)
{
    return n && !(n & (n - 1));
}

static bool in_range(uint64_t v, uint64_t low, uint64_t high)
{
    return v >= low && v <= high;
}

#define RANGE(field, low, high)                                                                      \
    do {                                                                                             \
        if (!in_range((uint64_t)c->field, (low), (high)))                                                \
            return kssi_error(-EINVAL, #field " is %llu: %llu to %llu are allowed",                  \
                              (unsigned long long)c->field, (unsigned long long)(low),               \
                              (unsigned long long)(high));                                           \
    } while (0)

static int check_stacks(const struct kss_config *c, const struct kssi_platform *p)
{
    size_t min = kss_kstack_min_size(), memory = p->memory_size();
    if (!power_of_two(c->kstack_size))
        return kssi_error(-EINVAL, "kstack_size is %zu: a power of two is needed, such as 32768", c->kstack_size);
    if (c->kstack_size < min)
        return kssi_error(-EINVAL,
                          "kstack_size is %zu: at least %zu is needed, since this host's trap frame has %zu bytes",
                          c->kstack_size, min, kssi_frame_size());
    if (c->kstack_size > memory)
        return kssi_error(-EINVAL, "kstack_size is %zu: the host has %zu bytes of memory", c->kstack_size, memory);
    if (c->kstack_size > (64u << 20))
        return kssi_error(-EINVAL, "kstack_size is %zu: at most %u (64 MiB) is allowed", c->kstack_size, 64u << 20);
    if (!power_of_two(c->kstack_max) || c->kstack_max > (64u << 20))
        return kssi_error(-EINVAL, "kstack_max is %zu: a power of two up to %u", c->kstack_max, 64u << 20);
    if (c->user_stack_size % p->page_size())
        return kssi_error(-EINVAL, "user_stack_size is %zu: a multiple of %zu is needed", c->user_stack_size,
                          p->page_size());
    RANGE(user_stack_size, 16384, 1u << 30);
    return 0;
}

static int check_policy(const struct kss_config *c)
{
    for (unsigned k = 0; k < KSS_REPORT_KINDS; k++) {
        unsigned allowed = kss_report_actions((enum kss_report_kind)k, NULL) | 1u << KSS_ACTION_DEFAULT;
        if ((unsigned)c->policy[k] < KSS_REPORT_ACTIONS && (allowed & (1u << c->policy[k])))
            continue;
        char can[160] = "";
        for (unsigned a = KSS_ACTION_DEFAULT; a < KSS_REPORT_ACTIONS; a++)
            if (allowed & (1u << a))
                snprintf(can + strlen(can), sizeof can - strlen(can), "%s%s", can[0] ? ", " : "",
                         kss_report_action_name((enum kss_report_action)a));
        return kssi_error(-EINVAL, "policy for %s is %d (%s): allowed are %s",
                          kss_report_kind_name((enum kss_report_kind)k), (int)c->policy[k],
                          kss_report_action_name(c->policy[k]), can);
    }
    return 0;
}

static int check_config(const struct kss_config *c, const struct kssi_platform *p)
{
    if (!c)
        return kssi_error(-EINVAL, "config is NULL: start from kss_config_init()");
    if (c->struct_size != sizeof *c)
        return kssi_error(-EINVAL, "config.struct_size is %zu, not %zu: kss_config_init() was not called, "
                                   "or the headers are of another version", c->struct_size, sizeof *c);
    RANGE(cpus, 1, KSS_CPUS_MAX);
    RANGE(tick_hz, 1, 20000);
    RANGE(max_threads, 4, 1u << 20);
    RANGE(kstack_cache, 0ull, 65536);
    RANGE(timeslice_ns, 0, 10000000000ull);
    RANGE(guards, 0, KSS_GUARDS_NONE);
    RANGE(kstack_alloc, 0, KSS_KSTACK_AT_FIRST_ENTRY);
    RANGE(zombie_stacks, 0, KSS_ZOMBIE_FREES_STACK);
    RANGE(irq_stacks, 0, KSS_IRQ_STACKS_PER_CPU);
    RANGE(syscall_entry, 0, KSS_SYSCALL_GATE);
    RANGE(trace_events, 64, 1u << 24);
    RANGE(guard_size, p->page_size(), 64u << 20);
    RANGE(protect, 0, KSS_PROTECT_AUTO);
    if (c->protect != KSS_PROTECT_OFF && c->syscall_entry == KSS_SYSCALL_GATE)
        return kssi_error(-EINVAL, "syscall_entry is KSS_SYSCALL_GATE and protect is %d: the call gate writes to the "
                                   "kernel stack before it is in kernel mode; protect needs KSS_SYSCALL_TRAP or "
                                   "KSS_PROTECT_OFF (0)", (int)c->protect);
    if (c->protect != KSS_PROTECT_OFF && c->cpus > 1)
        return kssi_error(-ENOTSUP, "protect is %d and cpus is %u: mprotect closes kernel stacks for the whole process, so "
                                    "that only one CPU can be in user mode; cpus must be 1, or protect KSS_PROTECT_OFF (0)",
                          (int)c->protect, c->cpus);
    if (c->guard_size % p->page_size())
        return kssi_error(-EINVAL, "guard_size is %zu: a multiple of %zu is needed", c->guard_size, p->page_size());
    if (c->kstack_erase && !c->poison)
        return kssi_error(-EINVAL, "kstack_erase is on and poison is off: it finds what was used by the poison");
    if (!power_of_two(c->trace_events))
        return kssi_error(-EINVAL, "trace_events is %u: a power of two is needed", c->trace_events);
    if (!c->sched || !c->sched->name || c->sched->abi_size != sizeof *c->sched)
        return kssi_error(-EINVAL, "sched: a class with a name and abi_size %zu is needed", sizeof *c->sched);
    if (c->sched->thread_data_size > (1u << 20) || c->sched->cpu_data_size > (1u << 20))
        return kssi_error(-EINVAL, "sched %s: more than 1 MiB of private data", c->sched->name);
    int r = check_policy(c);
    return r < 0 ? r : check_stacks(c, p);
}

/* ---- creation --------------------------------------------------------------------------------- */

static int enter_registry(struct kss_machine *m)
{
    size_t align = m->config.kstack_max;
    if (align < m->config.kstack_size)
        align = m->config.kstack_max = m->config.kstack_size;
    if (align < VECTOR_STACK_MIN)
        align = VECTOR_STACK_MIN;
    int r = kssi_machine_register(m, align);
    if (r == 0)
        m->stack_gap = kssi_arena_stride(&m->config, m->config.kstack_size, align) - m->config.kstack_size;
    return r;
}

static size_t whole_pages(const struct kss_machine *m, size_t size)
{
    size_t page = m->platform->page_size();
    return (size + page - 1) & ~(page - 1);
}

void *kssi_pages_new(struct kss_machine *m, size_t size)
{
    void *p = m->platform->reserve(whole_pages(m, size), m->platform->page_size());
    if (!p || m->platform->open(p, whole_pages(m, size)) == 0)
        return p;
    m->platform->release(p, whole_pages(m, size));
    return NULL;
}

void kssi_pages_free(struct kss_machine *m, void *p, size_t size)
{
    m->platform->release(p, whole_pages(m, size));
}

static int build(struct kss_machine *m)
{
    size_t slots = 4;
    int r = m->platform->init(m);
    if (r < 0)
        return r;
    while (slots < 2 * (size_t)m->config.max_threads)
        slots *= 2;
    m->id_slots = (unsigned)slots;
    m->by_id = kssi_pages_new(m, slots * sizeof *m->by_id);
    if (!m->by_id)
        return kssi_error(-ENOMEM, "no host memory for max_threads = %u", m->config.max_threads);
    r = kssi_threads_init(m);
    if (r < 0)
        return r;
    kssi_trap_init(m);
    kssi_irq_init(m);
    kssi_syscall_init(m);
    r = kssi_trace_init(m);
    if (r == 0)
        r = kssi_lockdep_init(m);
    if (r == 0)
        r = kssi_profile_init(m);
    if (r == 0)
        r = kssi_sched_init(m);
    for (unsigned i = 0; i < m->cpus && r == 0; i++)
        r = kssi_cpu_init(&m->cpu[i]);
    return r;
}

/* The experiment's own functions are called first, and may still use the handle. */
static void tear_down(struct kss_machine *m)
{
    kssi_disks_fini(m); /* host threads first: they raise interrupts */
    kssi_console_fini(m);
    kssi_sched_fini(m);
    kssi_files_fini(m);
    kssi_machine_hide(m);
    m->magic = 0;
    kssi_threads_fini(m);
    kssi_processes_fini(m);
    for (unsigned i = 0; i < m->cpus; i++)
        kssi_cpu_fini(&m->cpu[i]);
    kssi_trace_fini(m);
    kssi_lockdep_fini(m);
    kssi_profile_fini(m);
    kssi_arenas_fini(m);
    m->platform->fini(m);
    kssi_machine_forget(m);
    kssi_pages_free(m, m->by_id, m->id_slots * sizeof *m->by_id);
    free(m);
}

static _Atomic uint64_t machines_made;

int kss_machine_create(struct kss_machine **out, const struct kss_config *config)
{
    const struct kssi_platform *p = &kssi_platform_live;
    if (!out)
        return kssi_error(-EINVAL, "no place for the machine: the first argument is NULL");
    *out = NULL;
    if (kssi_this_cpu())
        return kssi_error(-EPERM, "a machine can't be made on a simulated CPU");
    int r = p->probe();
    if (r == 0)
        r = check_config(config, p);
    if (r < 0)
        return r;
    struct kss_machine *m = calloc(1, sizeof *m + config->cpus * sizeof m->cpu[0]);
    if (!m)
        return kssi_error(-ENOMEM, "no host memory for a machine");
    m->platform = p;
    m->number = atomic_fetch_add(&machines_made, 1) + 1;
    m->config = *config;
    m->cpus = config->cpus;
    m->next_disk_line = KSS_LINE_DISK;
    m->next_id = 0;
    m->random_state = config->seed ? config->seed : p->entropy();
    TAILQ_INIT(&m->all_files);
    kss_spinlock_init(&m->tree_lock, "process tree");
    kss_spinlock_init(&m->sched_lock, "scheduler");
    kss_spinlock_init(&m->report_lock, "reports");
    kss_spinlock_init(&m->irq_lock, "IRQ lines");
    kss_spinlock_init(&m->worker_lock, "workers");
    m->thread_size = ((sizeof(struct kss_thread) + 63) & ~(size_t)63) +
                     ((p->context_size + 63) & ~(size_t)63) +
                     ((config->sched->thread_data_size + 63) & ~(size_t)63);
    for (unsigned i = 0; i < m->cpus; i++) {
        m->cpu[i].machine = m;
        m->cpu[i].index = i;
    }
    r = enter_registry(m);
    if (r < 0) {
        free(m);
        return r;
    }
    const struct kss_config *c = &m->config;
    m->fenced = c->guards != KSS_GUARDS_BOTH || 2 * c->guard_size < m->stack_gap;
    m->exit_policies = m->fenced || c->kstack_erase || c->kstack_randomize;
    kssi_poison_init();
    r = build(m);
    if (r < 0) {
        tear_down(m);
        return r;
    }
    m->magic = KSSI_MACHINE_MAGIC;
    kssi_machine_publish(m);
    *out = m;
    return 0;
}

static int result_of(struct kss_machine *m, int r, int *status)
{
    if (r < 0)
        return r;
    if (m->boot_error[0])
        kssi_error(m->stop_reason, "%s", m->boot_error);
    else if (m->stop_reason == -ECANCELED)
        kssi_error(-ECANCELED, "the machine was stopped before its processes had ended");
    else if (m->stop_reason == -EFAULT)
        kssi_error(-EFAULT, "a fatal fault stopped the machine");
    if (m->stop_reason < 0)
        return m->stop_reason;
    if (status)
        *status = m->main_status;
    return 0;
}

int kss_machine_run(struct kss_machine *m, kss_user_fn fn, void *arg, int *status)
{
    struct kssi_hold hold;
    if (kssi_this_cpu())
        return kssi_error(-EPERM, "a machine can't be run from a simulated CPU");
    if (!kssi_machine_hold(m, &hold))
        return kssi_no_machine(m);
    int was = KSSI_BUILT;
    bool mine = fn && atomic_compare_exchange_strong(&m->life, &was, KSSI_RUNNING);
    kssi_machine_drop(&hold);
    if (!fn)
        return kssi_error(-EINVAL, "main_fn is NULL");
    if (!mine)
        return kssi_error(-EBUSY, was == KSSI_RUNNING ? "the machine is running"
                                                      : "the machine has run: a machine runs once");
    m->main_fn = fn;
    m->main_arg = arg;
    m->trace_on = m->config.trace;
    int r = result_of(m, m->platform->run(m), status);
    kssi_locks_clear(m);
    m->life = KSSI_ENDED; /* last: another thread may destroy it from here on */
    return r;
}

/* Async-signal-safe. */
int kss_machine_stop(struct kss_machine *m)
{
    struct kssi_hold hold;
    if (!kssi_machine_hold(m, &hold))
        return -EINVAL;
    if (m->life != KSSI_ENDED)
        kssi_stop(m, -ECANCELED);
    kssi_machine_drop(&hold);
    return 0;
}

int kss_machine_destroy(struct kss_machine *m)
{
    struct kssi_hold hold;
    if (!m)
        return 0;
    if (!kssi_machine_hold(m, &hold))
        return kssi_no_machine(m);
    int life = m->life;
    while (!kssi_this_cpu() && life != KSSI_RUNNING && life != KSSI_DYING &&
           !atomic_compare_exchange_strong(&m->life, &life, KSSI_DYING))
        ;
    kssi_machine_drop(&hold);
    if (life == KSSI_RUNNING)
        return kssi_error(-EBUSY, "the machine is running: stop it first");
    if (kssi_this_cpu())
        return kssi_error(-EPERM, "a machine can't be destroyed on a simulated CPU");
    if (life == KSSI_DYING)
        return kssi_error(-EINVAL, "machine %p is being destroyed", (void *)m);
    tear_down(m);
    return 0;
}

struct kss_machine *kss_machine_current(void)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    return cpu ? cpu->machine : NULL;
}

/* ---- for the platform ------------------------------------------------------------------------- */

struct kssi_hw_machine *kssi_machine_hw(struct kss_machine *m)
{
    return m->hw;
}

void kssi_machine_set_hw(struct kss_machine *m, struct kssi_hw_machine *hw)
{
    m->hw = hw;
}

bool kssi_machine_stopping(struct kss_machine *m)
{
    return m->stopping;
}

const struct kss_config *kssi_machine_config(struct kss_machine *m)
{
    return &m->config;
}

struct kssi_cpu *kssi_machine_cpu(struct kss_machine *m, unsigned index)
{
    return &m->cpu[index];
}

struct kssi_cpu_stacks *kssi_cpu_stacks(struct kssi_cpu *cpu)
{
    return &cpu->stacks;
}

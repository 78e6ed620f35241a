/* SPDX-License-Identifier: MIT */
/* The live machine: CPUs are host threads, time is the host's, interrupts are signals. */
#define _GNU_SOURCE
#include "hw.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <unistd.h>

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif
#define ENTRY_STACK_EXTRA 65536

_Thread_local struct kssi_hot kssi_hot __attribute__((tls_model("initial-exec")));

__attribute__((noinline)) struct kssi_hot *kssi_hot_get(void)
{
    __asm__ volatile("");
    return &kssi_hot;
}

__attribute__((noinline)) struct kssi_cpu *kssi_this_cpu(void)
{
    __asm__ volatile("");
    return kssi_hot.cpu;
}

__attribute__((noinline)) int kssi_syscall_entry(void)
{
    __asm__ volatile("");
    return kssi_hot.cpu ? kssi_hot.syscall_entry : -1;
}

__attribute__((noinline)) int kssi_host_errno(void)
{
    __asm__ volatile("");
    return errno;
}

__attribute__((noinline)) void kssi_set_host_errno(int value)
{
    __asm__ volatile("");
    errno = value;
}

/* It never fails, so that errno stays. */
void kssi_relax_long(void)
{
    sched_yield();
}

/*
 * Whoever is waited for may be a CPU that the host does not run: with more CPUs than the host has, or a busy host. So
 * now and then its turn is offered to others; else a lock whose holder was taken off would be spun for by all, for a
 * time slice of the host's each. A wait that is as short as it should be ends before.
 */
#define RELAXES 128

void kssi_relax(void)
{
    struct kssi_hot *hot = kssi_hot_get();
    if (++hot->relaxed % RELAXES)
        kssi_arch_pause();
    else
        kssi_arch_host_yield();
}

static struct kssi_hw_machine *hw_of(struct kss_machine *m)
{
    return kssi_machine_hw(m);
}

/* ---- life ----------------------------------------------------------------------------------------- */

static int make_entry_stack(struct kssi_hw_cpu *hw)
{
    size_t page = kssi_mem_page();
    size_t size = getauxval(AT_MINSIGSTKSZ) + kssi_frame_size() + ENTRY_STACK_EXTRA;
    size = (size + page - 1) & ~(page - 1);
    char *p = kssi_mem_reserve(size + page, page);
    if (!p)
        return -ENOMEM;
    if (kssi_mem_guard(p, page) < 0 || kssi_mem_open(p + page, size) < 0) {
        kssi_mem_release(p, size + page);
        return -ENOMEM;
    }
    kssi_mem_populate(p + page, size);
    memset(p + page, 0, size); /* a first touch by the host's signal delivery is trouble (HOST) */
    hw->entry_stack = p + page;
    hw->entry_stack_size = size;
    return 0;
}

static void live_fini(struct kss_machine *m)
{
    struct kssi_hw_machine *h = hw_of(m);
    size_t page = kssi_mem_page();
    if (!h)
        return;
    kssi_protect_fini(h);
    for (unsigned i = 0; i < h->cpus; i++)
        if (h->cpu[i].entry_stack)
            kssi_mem_release((char *)h->cpu[i].entry_stack - page, h->cpu[i].entry_stack_size + page);
    kssi_machine_set_hw(m, NULL);
    free(h);
}

static int live_probe(void)
{
    const char *preload = getenv("LD_PRELOAD");
    if (getenv("VALGRIND_LIB") || (preload && strstr(preload, "vgpreload")))
        return kssi_error(-ENOTSUP, "the live machine can't run under valgrind, which kills a process "
                                    "whose signal frame was moved");
    int r = kssi_sanitizer_probe();
    if (r < 0)
        return r;
    kssi_cycles_anchor();
    return kssi_signals_learn();
}

static unsigned in_ticks(uint64_t ns, unsigned hz)
{
    unsigned __int128 n = (unsigned __int128)ns * hz / 1000000000u;
    return !ns ? 0 : n < 1 ? 1 : n > 1u << 30 ? 1u << 30 : (unsigned)n;
}

static int live_init(struct kss_machine *m)
{
    const struct kss_config *config = kssi_machine_config(m);
    kssi_hostcall_refresh();
    kssi_unwind_warm();
    size_t size = sizeof(struct kssi_hw_machine) + config->cpus * sizeof(struct kssi_hw_cpu);
    struct kssi_hw_machine *h = aligned_alloc(_Alignof(struct kssi_hw_machine), size);
    if (!h)
        return kssi_error(-ENOMEM, "no host memory for %u CPUs", config->cpus);
    memset(h, 0, size);
    h->machine = m;
    h->config = config;
    h->cpus = config->cpus;
    kssi_machine_set_hw(m, h);
    int r = kssi_protect_init(h);
    if (r < 0) {
        live_fini(m);
        return r;
    }
    for (unsigned i = 0; i < h->cpus; i++) {
        struct kssi_hw_cpu *hw = &h->cpu[i];
        hw->machine = h;
        hw->cpu = kssi_machine_cpu(m, i);
        hw->hard_limit = in_ticks(config->watchdog.hard_lockup_ns, config->tick_hz);
        hw->eoi_limit = in_ticks(config->watchdog.eoi_ns, config->tick_hz);
        kssi_intc_init(&hw->intc);
        if (make_entry_stack(hw) < 0) {
            live_fini(m);
            return kssi_error(-ENOMEM, "no memory for the entry stack of CPU %u", i);
        }
    }
    return 0;
}

static void *cpu_thread(void *arg)
{
    struct kssi_hw_cpu *hw = arg;
    struct kssi_hot *hot = kssi_hot_get();
    sigset_t cpu, all;
    stack_t before; /* a sanitizer's, for instance */
    memset(hot, 0, sizeof *hot);
    hot->altstack = (stack_t){ .ss_sp = hw->entry_stack, .ss_size = hw->entry_stack_size };
    sigaltstack(&hot->altstack, &before);
    hot->mode = KSS_MODE_KERNEL;
    hot->stacks = kssi_cpu_stacks(hw->cpu);
    hot->cpu = hw->cpu;
    hot->syscall_entry = (int)hw->machine->config->syscall_entry;
    hot->hw = hw;
    hw->hot = hot;
    hot->stacks->host_depth = &hot->host_depth;
    hot->trampoline = hw->trampoline;
    hot->close = hw->trampoline ? hw->machine->closable : NULL;
    atomic_store(&hw->host_tid, gettid());
    kssi_signals_cpu_mask(&cpu);
    pthread_sigmask(SIG_SETMASK, &cpu, NULL);
    hw->error = kssi_timers_create(hw, hw->machine->config->tick_hz);
    if (hw->error == 0) {
        kssi_cpu_main(hw->cpu);
        kssi_timers_delete(hw);
    } else {
        kss_machine_stop(hw->machine->machine); /* the others would wait for it */
    }
    atomic_store(&hw->host_tid, 0);
    hw->hot = NULL;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, NULL);
    sigaltstack(&before, NULL);
    memset(hot, 0, sizeof *hot);
    return NULL;
}

/* Host threads of the library start with every signal blocked, so that none is taken before the
   thread is ready, and none meant for a CPU lands elsewhere. */
int kssi_host_thread(pthread_t *thread, void *(*fn)(void *), void *arg)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(thread, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -r;
}

/*
 * A CPU that has not left long after the machine was to stop has interrupts off, perhaps for good: it waits for a lock
 * whose holder has left. It is made to leave. One that is in libc, or asleep in a host call, is waited for.
 */
#define STOP_PATIENCE_NS 100000000

static void join_cpu(struct kssi_hw_machine *h, unsigned index)
{
    struct timespec t;
    bool patient = true;
    do {
        clock_gettime(CLOCK_REALTIME, &t);
        t.tv_nsec += STOP_PATIENCE_NS;
        t.tv_sec += t.tv_nsec / 1000000000;
        t.tv_nsec %= 1000000000;
        if (pthread_timedjoin_np(h->cpu[index].thread, NULL, &t) == 0)
            return;
        bool stopping = kssi_machine_stopping(h->machine);
        if (!stopping)
            kssi_hostcall_refresh();
        for (unsigned i = 0; i < h->cpus && stopping && !patient; i++)
            kssi_pin_nmi(&h->cpu[i], KSSI_NMI_STOP);
        patient = !stopping; /* from the stop on there is one whole wait at least */
    } while (true);
}

static int live_run(struct kss_machine *m)
{
    struct kssi_hw_machine *h = hw_of(m);
    unsigned started = 0;
    int r = 0;
    kssi_cycles_calibrate();
    h->boot_ns = kssi_host_now();
    h->pid = getpid();
    kssi_pin_cpus((int)h->cpus);
    kssi_signals_install();
    if (h->config->host_signals)
        kssi_signals_on_stop(m, true);
    for (; started < h->cpus && r == 0; started += r == 0) {
        r = kssi_host_thread(&h->cpu[started].thread, cpu_thread, &h->cpu[started]);
        if (r < 0)
            kssi_error(r, "no host thread for CPU %u: %s", started, strerror(-r));
    }
    if (r < 0)
        kss_machine_stop(m);
    for (unsigned i = 0; i < started; i++) {
        join_cpu(h, i);
        if (h->cpu[i].error < 0 && r == 0)
            r = kssi_error(-EAGAIN, "no host timer for CPU %u: %s", i, strerror(-h->cpu[i].error));
    }
    if (h->config->host_signals)
        kssi_signals_on_stop(m, false);
    kssi_signals_remove();
    kssi_pin_cpus(-(int)h->cpus);
    return r;
}

/* ---- privileged registers ------------------------------------------------------------------------- */

static void live_load_kernel_sp(uintptr_t user_frame)
{
    kssi_hot_get()->kernel_sp = user_frame;
}

static void live_load_vector_table(struct kss_vector_table *table)
{
    kssi_hot_get()->table = table;
}

static struct kss_vector_table *live_vector_table(void)
{
    return kssi_hot_get()->table;
}

/* ---- interrupt controller ------------------------------------------------------------------------- */

static int live_raise(struct kss_machine *m, unsigned cpu, unsigned line, unsigned count)
{
    struct kssi_hw_machine *h = hw_of(m);
    struct kssi_hw_cpu *hw = &h->cpu[cpu];
    uint64_t now = h->config->latency && h->boot_ns ? kssi_host_now() - h->boot_ns : 0;
    bool first = kssi_intc_raise(&hw->intc, line, count, now);
    struct kssi_hot *hot = kssi_hot_get();
    if (hot->hw == hw && hot->mode == KSS_MODE_KERNEL) {
        hot->pending = 1;
        if (kssi_irqs_on())
            kssi_irq_enable(); /* take it now */
        return !first;
    }
    if (first)
        kssi_pin(hw);
    return !first;
}

void kssi_device_raise(struct kss_machine *m, unsigned line)
{
    kss_irq_raise(m, kssi_irq_cpu(m, line), line);
}

static void live_nmi(struct kss_machine *m, unsigned cpu)
{
    kssi_pin_nmi(&hw_of(m)->cpu[cpu], KSSI_NMI_RAISED);
}

static int live_acknowledge(uint64_t *raised_ns)
{
    struct kssi_hot *hot = kssi_hot_get();
    hot->pending = 0; /* before looking: a signal from here on sets it again */
    if (hot->host_depth) { /* a system call's exit, or interrupts turned on, in a host region: its end looks again */
        hot->host_held = 1;
        if (kssi_intc_deliverable(&hot->hw->intc))
            kssi_host_hold(hot->hw, KSS_HOST_REGION);
        return -1;
    }
    return kssi_acknowledge(hot, raised_ns);
}

/* Interrupts may have become deliverable on this CPU: have them looked at when they are enabled. */
static void look_again(struct kssi_hot *hot)
{
    if (!kssi_intc_deliverable(&hot->hw->intc))
        return;
    hot->pending = 1;
    if (hot->irqs_on && hot->mode == KSS_MODE_KERNEL)
        kssi_irq_enable();
}

static int live_eoi(unsigned line)
{
    struct kssi_hot *hot = kssi_hot_get();
    int r = kssi_intc_eoi(&hot->hw->intc, line);
    look_again(hot);
    return r;
}

static void pin_all(struct kssi_hw_machine *h)
{
    struct kssi_hot *hot = kssi_hot_get();
    for (unsigned i = 0; i < h->cpus; i++) {
        if (hot->hw == &h->cpu[i])
            look_again(hot);
        else
            kssi_pin(&h->cpu[i]);
    }
}

static void live_set_mask(struct kss_machine *m, unsigned line, bool masked)
{
    struct kssi_hw_machine *h = hw_of(m);
    for (unsigned i = 0; i < h->cpus; i++) {
        if (masked)
            atomic_fetch_or(&h->cpu[i].intc.mask, 1ull << line);
        else
            atomic_fetch_and(&h->cpu[i].intc.mask, ~(1ull << line));
    }
    if (!masked)
        pin_all(h);
}

static void live_hold(uint64_t lines)
{
    struct kssi_hot *hot = kssi_hot_get();
    atomic_store(&hot->hw->intc.held, lines);
    look_again(hot);
}

static void live_set_line_priority(struct kss_machine *m, unsigned line, unsigned priority)
{
    struct kssi_hw_machine *h = hw_of(m);
    for (unsigned i = 0; i < h->cpus; i++)
        h->cpu[i].intc.line[line].priority = (uint8_t)priority;
    pin_all(h);
}

static bool live_line_stats(struct kss_machine *m, unsigned cpu, unsigned line,
                            struct kss_irq_stats *s)
{
    return kssi_intc_line_stats(&hw_of(m)->cpu[cpu].intc, line, s);
}

static uint64_t live_deferred(struct kss_machine *m, unsigned cpu)
{
    return hw_of(m)->cpu[cpu].deferred;
}

/*
 * Interrupts were enabled and something is pending: take it here, each with a frame on the stack in
 * use, as if it had arrived at this point. Called from kssi_irq_enable() with interrupts on.
 */
void kssi_irq_replay(void);
bool kssi_irq_try_enable(void);
void kssi_irq_replay(void)
{
    do {
        uint64_t raised_ns = 0;
        kssi_irq_disable();
        int line = live_acknowledge(&raised_ns);
        if (line >= 0)
            kssi_arch_take_interrupt(KSS_VEC_IRQ + (unsigned)line, raised_ns);
    } while (kssi_irq_try_enable());
}

static uint64_t live_clock(struct kss_machine *m)
{
    uint64_t boot = hw_of(m)->boot_ns; /* 0: not yet */
    return boot ? kssi_host_now() - boot : 0;
}

static uint64_t live_account_clock(struct kss_machine *m)
{
    (void)m;
    return kssi_cycles_ns();
}

static uint64_t live_entropy(void)
{
    uint64_t v = 0;
    if (getrandom(&v, sizeof v, 0) != sizeof v)
        v = kssi_host_now() * 0x9e3779b97f4a7c15ull ^ (uintptr_t)&v;
    return v;
}

static void live_message(const char *text, size_t n)
{
    while (n) {
        ssize_t w = write(STDERR_FILENO, text, n);
        if (w <= 0 && errno != EINTR)
            return;
        text += w > 0 ? w : 0;
        n -= w > 0 ? (size_t)w : 0;
    }
}

struct kssi_platform const kssi_platform_live = {
    .name = "live",
    .probe = live_probe,
    .init = live_init,
    .fini = live_fini,
    .run = live_run,
    .reserve = kssi_mem_reserve,
    .release = kssi_mem_release,
    .open = kssi_mem_open,
    .guard = kssi_mem_guard,
    .unguard = kssi_mem_unguard,
    .populate = kssi_mem_populate,
    .discard = kssi_mem_discard,
    .guards_by_madvise = kssi_mem_by_madvise,
    .protect = kssi_protect,
    .page_size = kssi_mem_page,
    .memory_size = kssi_mem_physical,
    .load_kernel_sp = live_load_kernel_sp,
    .load_vector_table = live_load_vector_table,
    .vector_table = live_vector_table,
    .wait_for_interrupt = kssi_wait_for_interrupt,
    .context_size = sizeof(ucontext_t),
    .context_init = kssi_context_init,
    .context_switch = kssi_context_switch,
    .context_sp = kssi_context_sp,
    .raise = live_raise,
    .nmi = live_nmi,
    .acknowledge = live_acknowledge,
    .eoi = live_eoi,
    .set_mask = live_set_mask,
    .hold = live_hold,
    .set_line_priority = live_set_line_priority,
    .line_stats = live_line_stats,
    .deferred = live_deferred,
    .clock = live_clock,
    .account_clock = live_account_clock,
    .entropy = live_entropy,
    .message = live_message,
    .backtrace = kssi_unwind,
    .backtrace_trap = kssi_unwind_trap,
    .sample = kssi_unwind_sample,
    .symbol = kssi_symbol,
    .in_host_code = kssi_hostcall_contains,
    .host_scan = kssi_host_scan,
    .host_walk = kssi_host_walk,
    .host_look_again = kssi_host_look_again,
    .host_load_depth = kssi_host_load_depth,
    .host_waits = kssi_host_waits,
    .placement_start = kssi_placement_start,
    .placement_stop = kssi_placement_stop,
    .disk_open = kssi_disk_open,
    .disk_start = kssi_disk_start,
    .disk_status = kssi_disk_status,
    .disk_close = kssi_disk_close,
    .disk_counters = kssi_disk_counters,
    .console_open = kssi_console_open,
    .console_key = kssi_console_key,
    .console_write = kssi_console_write,
    .console_close = kssi_console_close,
};

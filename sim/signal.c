/* SPDX-License-Identifier: MIT */
/*
 * The signal handlers: what a processor's hardware does when an interrupt or exception arrives. They
 * run on the CPU's entry stack with all interrupt signals masked, decide in a few instructions, move
 * the host's frame to where hardware would have put it, edit the frame they return through, and
 * return. Nothing here may call into libc beyond system-call wrappers that are async-signal-safe.
 */
#define _GNU_SOURCE
#include "hw.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Bytes that must stay free between a frame and a stack's end: thread_info, the canary, and the first
   calls of the common entry. */
#define STACK_RESERVE 512
#define STACK_DOUBLE_FAULT 1
#define STACK_ABORT (KSSI_VECTOR_STACKS - 1)

static const int exceptions[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP };
static struct sigaction previous[NSIG];
static pthread_mutex_t install_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned installed;

struct event {
    unsigned vector;
    uint64_t error, address, raised_ns;
};

/* ---- putting a frame where it belongs ------------------------------------------------------------- */

static const struct kssi_range *stack_of(const struct kssi_cpu_stacks *s, uintptr_t sp)
{
    if (sp > s->task.low && sp <= s->task.high)
        return &s->task;
    if (sp > s->irq.low && sp <= s->irq.high)
        return &s->irq;
    for (unsigned i = 1; i < KSSI_VECTOR_STACKS; i++)
        if (sp > s->vector[i].low && sp <= s->vector[i].high)
            return &s->vector[i];
    return NULL;
}

/* NULL: the frame does not fit there, or the vector stack has a live frame on it. */
static struct kss_trap_frame *place(struct kssi_hot *hot, const ucontext_t *uc, unsigned stack)
{
    struct kssi_cpu_stacks *s = hot->stacks;
    size_t size = kssi_frame_size();
    if (stack) {
        if (s->vector_busy[stack] || !s->vector[stack].high)
            return NULL;
        return (struct kss_trap_frame *)((s->vector[stack].high - size) & ~(uintptr_t)63);
    }
    if (hot->mode == KSS_MODE_USER)
        return (struct kss_trap_frame *)hot->kernel_sp;
    uintptr_t sp = kssi_arch_sp(uc);
    const struct kssi_range *range = stack_of(s, sp);
    if (!range || sp - range->low < size + kssi_arch_red_zone() + STACK_RESERVE + 64)
        return NULL;
    return (struct kss_trap_frame *)((sp - kssi_arch_red_zone() - size) & ~(uintptr_t)63);
}

static bool put_frame(struct kssi_hot *hot, const ucontext_t *uc, unsigned stack,
                      const struct event *ev, unsigned cause)
{
    struct kss_trap_frame *tf = place(hot, uc, stack);
    if (!tf || !kssi_arch_move_frame(tf, uc))
        return false;
    tf->magic = KSS_TRAP_FRAME_MAGIC;
    tf->prev = NULL;
    tf->error = ev->error;
    tf->fault_address = ev->address;
    tf->raised_ns = ev->raised_ns;
    tf->vector = (uint16_t)ev->vector;
    tf->mode = hot->mode;
    tf->irqs_on = hot->irqs_on;
    tf->stack = (uint8_t)stack;
    tf->cause = (uint16_t)cause;
    if (stack)
        hot->stacks->vector_busy[stack] = 1;
    hot->exit_frame = (uintptr_t)tf;
    return true;
}

/* Is its handler running? An exception there is a triple fault, however much room its stack has. */
static bool in_double_fault(const struct kssi_hot *hot, const ucontext_t *uc)
{
    const struct kssi_range *own = &hot->stacks->vector[STACK_DOUBLE_FAULT];
    uintptr_t sp = kssi_arch_sp(uc);
    return hot->stacks->vector_busy[STACK_DOUBLE_FAULT] && sp > own->low && sp <= own->high;
}

/*
 * Delivers a vector. A frame that can't be put where it belongs (kernel stack used up, stack pointer
 * anywhere, vector stack in use) becomes a double fault on that vector's own stack; when that fails
 * too, a triple fault: the CPU leaves for good.
 */
static void deliver(struct kssi_hot *hot, ucontext_t *uc, const struct event *ev)
{
    kssi_protect_enter(hot);
    unsigned stack = hot->table->gate[ev->vector].stack & 7;
    bool last = in_double_fault(hot, uc) && ev->vector < KSS_VEC_IRQ && ev->vector != KSS_VEC_NMI;
    hot->delivering = 1;
    bool ok = !last && put_frame(hot, uc, stack, ev, KSS_NO_CAUSE);
    if (!ok) {
        struct event df = { KSS_VEC_DOUBLE_FAULT, ev->error, ev->address, 0 };
        ok = put_frame(hot, uc, STACK_DOUBLE_FAULT, &df, ev->vector);
    }
    hot->delivering = 0;
    hot->irqs_on = 0;
    hot->mode = KSS_MODE_KERNEL;
    if (!ok) {
        hot->stacks->triple_vector = ev->vector;
        hot->stacks->triple_pc = kssi_arch_pc(uc);
        kssi_arch_divert(uc, kssi_triple_fault, hot->stacks->vector[STACK_ABORT].high);
        return;
    }
    kssi_arch_enter(uc, (struct kss_trap_frame *)hot->exit_frame);
    if (hot->stepping == 1)
        kssi_arch_set_step(uc, true);
}

/* ---- interrupts ----------------------------------------------------------------------------------- */

/* A watchdog's non-maskable interrupt that libc has held back until the tick came through has nothing to say: it would
   find whatever runs by then, and blame that. */
int kssi_acknowledge(struct kssi_hot *hot, uint64_t *raised_ns)
{
    int line = kssi_intc_acknowledge(&hot->hw->intc, raised_ns);
    if (line >= 0)
        kssi_host_taken(hot->hw);
    if (line == KSS_LINE_TIMER) {
        hot->hw->stuck = 0;
        if (hot->hw->nmi & KSSI_NMI_WATCHDOG)
            atomic_fetch_and(&hot->hw->nmi, ~KSSI_NMI_WATCHDOG);
    }
    return line;
}

static void interrupt(struct kssi_hot *hot, ucontext_t *uc)
{
    uintptr_t pc = kssi_arch_pc(uc);
    if (kssi_arch_in_exit(pc)) {
        /* Between "mode = user" and the instruction that leaves: undo it; the exit starts again and
           finds the pending flag. */
        kssi_protect_enter(hot);
        kssi_arch_restart_exit(uc, hot->exit_frame);
        hot->mode = KSS_MODE_KERNEL;
        hot->irqs_on = 0;
        hot->pending = 1;
        return;
    }
    if (!hot->irqs_on) {
        hot->pending = 1;
        return;
    }
    if (hot->host_depth) {
        hot->host_held = 1; /* not pending: every exit to a region would look, for nothing */
        kssi_host_hold(hot->hw, KSS_HOST_REGION);
        return;
    }
    if (kssi_hostcall_contains(pc) && !hot->hw->machine->config->unsafe_host_calls) {
        hot->pending = 1; /* looked at again on the next entry, exit or irq-enable, or soon */
        kssi_host_hold(hot->hw, KSS_HOST_LIBC);
        kssi_timer_retry(hot->hw);
        return;
    }
    hot->hw->retry_ns = 20000;
    struct event ev = { 0 };
    int line = kssi_acknowledge(hot, &ev.raised_ns);
    if (line < 0)
        return; /* masked, or held back by what is in service: EOI and unmask look again */
    ev.vector = KSS_VEC_IRQ + (unsigned)line;
    deliver(hot, uc, &ev);
}

/*
 * Taken whatever the interrupt flag says, but not in the middle of libc, which its handler may need, nor while the
 * last one's frame is live: both look again soon. In the exit's restartable range it finds a whole CPU by going back
 * to the start of it. True: it was delivered.
 */
static bool nonmaskable(struct kssi_hot *hot, ucontext_t *uc)
{
    uintptr_t pc = kssi_arch_pc(uc);
    unsigned stack = hot->table->gate[KSS_VEC_NMI].stack & 7;
    const struct kssi_range *own = &hot->stacks->vector[stack];
    /* The last one's frame is in use to the last instruction of its exit, long after it is said to be free; the stack
       pointer may be in the trampoline by then. */
    uintptr_t sp = hot->closed && kssi_arch_in_exit(pc) ? hot->exit_frame : kssi_arch_sp(uc);
    bool busy = stack && (hot->stacks->vector_busy[stack] || (sp > own->low && sp <= own->high));
    /* A machine that stops does not wait for a region's end: there may be none. */
    bool region = hot->host_depth && !(hot->hw->nmi & KSSI_NMI_STOP);
    if (kssi_hostcall_contains(pc) || busy || region) {
        kssi_timer_retry(hot->hw);
        return false;
    }
    struct event ev = { .vector = KSS_VEC_NMI, .error = atomic_exchange(&hot->hw->nmi, 0) };
    if (kssi_arch_in_exit(pc)) {
        kssi_arch_restart_exit(uc, hot->exit_frame);
        hot->mode = KSS_MODE_KERNEL;
        hot->irqs_on = 0;
    }
    hot->hw->stuck = 0; /* the time until now is not held against what its handler does about it */
    hot->pending = 1; /* what this signal came for beside it is found at the exit */
    hot->hw->retry_ns = 20000;
    deliver(hot, uc, &ev);
    return true;
}

/* The tick's watchdog: the last tick is still waiting, not because libc runs, but because interrupts are off or an
   interrupt of the same or a higher priority was never ended. */
static void watch_ticks(struct kssi_hot *hot, bool first)
{
    struct kssi_hw_cpu *hw = hot->hw;
    /* Expiries that were missed are not counted: the host has not run this thread meanwhile. */
    hw->stuck = first ? 0 : hw->stuck + 1;
    if (!hw->stuck)
        return;
    unsigned limit = 0;
    if (hot->mode == KSS_MODE_KERNEL && !hot->irqs_on)
        limit = hw->hard_limit;
    else if (!kssi_intc_deliverable(&hw->intc))
        limit = hw->eoi_limit;
    if (!limit) { /* libc holds it back: that time is not held against what comes after it */
        hw->stuck = 0;
    } else if (hw->stuck >= limit) {
        hw->stuck = 0;
        atomic_fetch_or(&hw->nmi, KSSI_NMI_WATCHDOG);
    }
}

/* The handlers themselves are not instrumented: to mark its frame, a function writes unaligned words, and the
   interrupted program may have alignment checks on until kssi_arch_handler_entry() is over. */
KSSI_UNSANITIZED static void on_interrupt(int sig, siginfo_t *si, void *context)
{
    int saved = errno;
    kssi_arch_handler_entry(context);
    struct kssi_hot *hot = kssi_hot_get();
    if (hot->hw) {
        kssi_pin_signalled(hot->hw);
        if (sig == KSSI_SIG_TIMER && si->si_code == SI_TIMER) {
            struct kssi_hw_machine *h = hot->hw->machine;
            uint64_t now = h->config->latency ? kssi_host_now() - h->boot_ns : 0;
            unsigned missed = si->si_overrun > 0 ? (unsigned)si->si_overrun : 0;
            bool first = kssi_intc_raise(&hot->hw->intc, KSS_LINE_TIMER, 1 + missed, now);
            kssi_trace_raise(h->machine, KSS_LINE_TIMER, hot->cpu, !first || missed);
            watch_ticks(hot, first);
        }
        if (sig == KSSI_SIG_PIN && si->si_code == SI_TIMER && hot->hw->relook) {
            hot->hw->relook = false;
            kssi_intc_raise(&hot->hw->intc, KSS_LINE_RESCHED, 1, 0);
        }
        if (!hot->hw->nmi || !hot->table || !nonmaskable(hot, context))
            interrupt(hot, context);
    } else if (sig == KSSI_SIG_TIMER) {
        /* The host program's own alarm(), on a thread of its own: its handler, if it has one. */
        const struct sigaction *old = &previous[sig];
        if ((old->sa_flags & SA_SIGINFO) && old->sa_sigaction)
            old->sa_sigaction(sig, si, context);
        else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN)
            old->sa_handler(sig);
    }
    errno = saved;
}

/* ---- exceptions ----------------------------------------------------------------------------------- */

/* Not ours: a host thread's own fault, or a signal somebody sent. What was there before gets it. */
static void pass_on(int sig, const siginfo_t *si, void *context)
{
    struct sigaction *old = &previous[sig];
    if ((old->sa_flags & SA_SIGINFO) && old->sa_sigaction) {
        old->sa_sigaction(sig, (siginfo_t *)si, context);
    } else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN) {
        old->sa_handler(sig);
    } else {
        struct sigaction dfl = { .sa_handler = SIG_DFL };
        sigaction(sig, &dfl, NULL);
        if (si->si_code <= 0)
            raise(sig); /* a sent one does not come again by itself */
    }
}

/* The trap flag. True when the step was for a placement, or in code that can't be stepped. */
static bool step(struct kssi_hot *hot, ucontext_t *uc)
{
    struct kssi_hw_cpu *hw = hot->hw;
    uintptr_t pc = kssi_arch_pc(uc);
    if (hot->stepping == 1) {
        if (++hw->placement.steps < hw->place_at) {
            kssi_arch_set_step(uc, true);
            return true;
        }
        hot->stepping = 2;
        hw->placement.fired = true;
        hw->placement.pc = pc;
        hw->placement.mode = hot->mode;
        hw->placement.irqs_on = hot->irqs_on;
        kssi_arch_set_step(uc, false);
        kssi_intc_raise(&hw->intc, hw->place_line, 1, 0);
        interrupt(hot, uc);
        return true;
    }
    /* Flags saved while stepping come back with returns from trap; and code between the modes is not
       user code, whoever set the flag. */
    if (hot->stepping == 2 || hot->mode == KSS_MODE_KERNEL || kssi_arch_in_gate(pc) ||
        kssi_arch_in_exit(pc)) {
        kssi_arch_set_step(uc, false);
        return true;
    }
    return false;
}

static void exception(struct kssi_hot *hot, int sig, siginfo_t *si, ucontext_t *uc)
{
    if (hot->delivering) {
        /* Moving a frame faulted: the copy returns what is left, and deliver() sees it. */
        if (!kssi_arch_fixup(uc))
            pass_on(sig, si, uc);
        return;
    }
    struct kssi_arch_event a;
    hot->delivering = 1; /* decode reads the instruction */
    kssi_arch_decode(sig, si, uc, &a);
    hot->delivering = 0;
    if (a.single_step && step(hot, uc))
        return;
    struct event ev = { a.vector, a.error, a.address, 0 };
    if (kssi_arch_in_exit(kssi_arch_pc(uc))) {
        /* The host refused the frame that the exit was returning through, or its copy. */
        if (hot->closed)
            kssi_arch_exit_from(uc, hot->exit_frame);
        hot->mode = KSS_MODE_KERNEL;
        hot->irqs_on = 0;
        ev.vector = KSS_VEC_DOUBLE_FAULT;
    } else if (a.by_instruction) {
        const struct kss_gate *gate = &hot->table->gate[a.vector];
        if (gate->type == KSS_GATE_NONE ||
            (hot->mode == KSS_MODE_USER && gate->privilege != KSS_PRIV_USER)) {
            ev.error = a.vector * 8 + 2;
            ev.vector = KSS_VEC_GENERAL_PROTECTION; /* the pc stays at the instruction */
        } else {
            kssi_arch_set_pc(uc, a.pc_after);
        }
    }
    deliver(hot, uc, &ev);
}

KSSI_UNSANITIZED static void on_exception(int sig, siginfo_t *si, void *context)
{
    int saved = errno;
    kssi_arch_handler_entry(context);
    struct kssi_hot *hot = kssi_hot_get();
    if (!hot->hw || !hot->table || si->si_code <= 0)
        pass_on(sig, si, context);
    else
        exception(hot, sig, si, context);
    errno = saved;
}

/* ---- interrupt placement -------------------------------------------------------------------------- */

int kssi_placement_start(unsigned line, uint64_t steps)
{
    struct kssi_hot *hot = kssi_hot_get();
    if (!hot->hw)
        return -EPERM;
    hot->hw->placement = (struct kss_placement){ 0 };
    hot->hw->place_line = line;
    hot->hw->place_at = steps;
    hot->stepping = 1;
    kssi_arch_step_here();
    return 0;
}

int kssi_placement_stop(struct kss_placement *result)
{
    struct kssi_hot *hot = kssi_hot_get();
    if (!hot->hw)
        return -EPERM;
    hot->stepping = 2; /* from here on a step is none of the placement's, nor the user's own */
    kssi_arch_step_stop();
    hot->stepping = 0;
    *result = hot->hw->placement;
    return 0;
}

/* ---- installation --------------------------------------------------------------------------------- */

void kssi_signals_cpu_mask(sigset_t *set)
{
    sigfillset(set);
    sigdelset(set, KSSI_SIG_TIMER);
    sigdelset(set, KSSI_SIG_PIN);
    for (size_t i = 0; i < sizeof exceptions / sizeof exceptions[0]; i++)
        sigdelset(set, exceptions[i]);
}

int kssi_signals_install(void)
{
    pthread_mutex_lock(&install_lock);
    if (installed++ == 0) {
        struct sigaction sa = { .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };
        sigemptyset(&sa.sa_mask);
        sigaddset(&sa.sa_mask, KSSI_SIG_TIMER);
        sigaddset(&sa.sa_mask, KSSI_SIG_PIN);
        sa.sa_sigaction = on_interrupt;
        sigaction(KSSI_SIG_TIMER, &sa, &previous[KSSI_SIG_TIMER]);
        sigaction(KSSI_SIG_PIN, &sa, &previous[KSSI_SIG_PIN]);
        /* Exceptions stay unmasked in all handlers: one there lands deeper on the entry stack. */
        sa.sa_flags |= SA_NODEFER;
        sa.sa_sigaction = on_exception;
        for (size_t i = 0; i < sizeof exceptions / sizeof exceptions[0]; i++)
            sigaction(exceptions[i], &sa, &previous[exceptions[i]]);
    }
    pthread_mutex_unlock(&install_lock);
    return 0;
}

void kssi_signals_remove(void)
{
    pthread_mutex_lock(&install_lock);
    if (--installed == 0) {
        sigaction(KSSI_SIG_TIMER, &previous[KSSI_SIG_TIMER], NULL);
        sigaction(KSSI_SIG_PIN, &previous[KSSI_SIG_PIN], NULL);
        for (size_t i = 0; i < sizeof exceptions / sizeof exceptions[0]; i++)
            sigaction(exceptions[i], &previous[exceptions[i]], NULL);
    }
    pthread_mutex_unlock(&install_lock);
}

static int learn_result;

static void on_learn(int sig, siginfo_t *si, void *context)
{
    (void)sig;
    (void)si;
    ucontext_t *uc = context;
    sigset_t mine, cpu;
    memcpy(&mine, &uc->uc_sigmask, 8); /* the host's set has 64 signals, glibc's 1024 */
    kssi_signals_cpu_mask(&cpu);
    memcpy(&uc->uc_sigmask, &cpu, 8);
    learn_result = kssi_arch_learn(uc);
    memcpy(&uc->uc_sigmask, &mine, 8);
}

int kssi_signals_learn(void)
{
    static bool learnt;
    int r = kssi_arch_check_host();
    if (r < 0 || learnt)
        return r;
    pthread_mutex_lock(&install_lock);
    struct sigaction sa = { .sa_flags = SA_SIGINFO, .sa_sigaction = on_learn }, old;
    sigset_t pin, before;
    sigfillset(&sa.sa_mask);
    sigemptyset(&pin);
    sigaddset(&pin, KSSI_SIG_PIN);
    pthread_sigmask(SIG_UNBLOCK, &pin, &before);
    sigaction(KSSI_SIG_PIN, &sa, &old);
    syscall(SYS_tgkill, getpid(), gettid(), KSSI_SIG_PIN);
    sigaction(KSSI_SIG_PIN, &old, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    learnt = learn_result == 0;
    r = learn_result;
    pthread_mutex_unlock(&install_lock);
    return r;
}

/* ---- SIGINT, SIGTERM, SIGQUIT --------------------------------------------------------------------- */

#define STOPPABLE 16
static _Atomic(struct kss_machine *) stoppable[STOPPABLE];
static struct sigaction stop_previous[3];
static const int stop_signals[3] = { SIGINT, SIGTERM, SIGQUIT };
static unsigned stoppables;
static _Atomic unsigned in_on_stop; /* handlers that may be looking at a machine */

static void on_stop(int sig)
{
    int saved = errno;
    in_on_stop++;
    for (unsigned i = 0; i < STOPPABLE; i++) {
        struct kss_machine *m = stoppable[i];
        if (m && sig == SIGQUIT)
            kss_machine_dump(m);
        else if (m)
            kss_machine_stop(m);
    }
    in_on_stop--;
    errno = saved;
}

void kssi_signals_on_stop(struct kss_machine *m, bool on)
{
    pthread_mutex_lock(&install_lock);
    struct kss_machine *from = on ? NULL : m;
    for (unsigned i = 0; i < STOPPABLE; i++) {
        struct kss_machine *expected = from;
        if (!atomic_compare_exchange_strong(&stoppable[i], &expected, on ? m : NULL))
            continue;
        if (on && stoppables++ == 0) {
            struct sigaction sa = { .sa_handler = on_stop, .sa_flags = SA_RESTART };
            sigfillset(&sa.sa_mask);
            for (int s = 0; s < 3; s++)
                sigaction(stop_signals[s], &sa, &stop_previous[s]);
        } else if (!on && --stoppables == 0) {
            for (int s = 0; s < 3; s++)
                sigaction(stop_signals[s], &stop_previous[s], NULL);
        }
        break;
    }
    while (!on && in_on_stop) /* on another host thread: the machine may be destroyed when this returns */
        kssi_relax();
    pthread_mutex_unlock(&install_lock);
}

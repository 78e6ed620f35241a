/* SPDX-License-Identifier: MIT */
/*
 * How a CPU is told that its interrupt controller has something: its interrupt pin. One that runs gets a signal. One
 * that waits for an interrupt watches a word instead, its doorbell: first, for a time that has paid lately, in a loop,
 * which needs nothing from the host on either side, and then asleep on it (a futex), one host call on each side.
 */
#define _GNU_SOURCE
#include "hw.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { DOORBELL_AWAKE, DOORBELL_POLLED, DOORBELL_ASLEEP };

#define POLL_FIRST_NS 10000u
#define POLL_MAX_NS 200000u

static _Atomic unsigned running; /* CPUs of all machines */
static _Atomic unsigned host_cores;

void kssi_pin_cpus(int cpus)
{
    cpu_set_t set;
    if (cpus > 0 && sched_getaffinity(0, sizeof set, &set) == 0)
        host_cores = (unsigned)CPU_COUNT(&set);
    atomic_fetch_add(&running, (unsigned)cpus);
}

static void signal_cpu(struct kssi_hw_cpu *hw)
{
    pid_t tid = atomic_load(&hw->host_tid);
    int saved = errno; /* a host signal handler may be calling */
    if (tid)
        syscall(SYS_tgkill, hw->machine->pid, tid, KSSI_SIG_PIN);
    errno = saved;
}

/*
 * The request bit is set before the doorbell is looked at, and the CPU sets its doorbell before it looks at the request
 * bits, both in one order for all (seq_cst). So one of the two sees the other: a CPU that missed the bit has its
 * doorbell set, and is rung. Whoever turns the doorbell from POLLED or ASLEEP to AWAKE has woken it, and it looks at
 * the bits again after that; anybody who finds AWAKE can't know whether it has looked already, and sends a signal.
 */
void kssi_pin(struct kssi_hw_cpu *hw)
{
    unsigned was = atomic_load(&hw->doorbell);
    if (was != DOORBELL_AWAKE)
        was = atomic_exchange(&hw->doorbell, DOORBELL_AWAKE);
    if (was == DOORBELL_AWAKE) {
        signal_cpu(hw);
    } else if (was == DOORBELL_ASLEEP) {
        int saved = errno;
        syscall(SYS_futex, &hw->doorbell, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        errno = saved;
    }
}

/* On this CPU it comes a little later, out of libc. A signal whatever the CPU does: it is not maskable. */
void kssi_pin_nmi(struct kssi_hw_cpu *hw, unsigned why)
{
    int saved = errno;
    atomic_fetch_or(&hw->nmi, why);
    if (kssi_hot_get()->hw == hw)
        kssi_timer_retry(hw);
    else
        signal_cpu(hw);
    errno = saved;
}

/* A signal has come, on this CPU. If it waits, it is to stop: the host would put it back to sleep. */
void kssi_pin_signalled(struct kssi_hw_cpu *hw)
{
    if (atomic_load_explicit(&hw->doorbell, memory_order_relaxed) != DOORBELL_AWAKE)
        atomic_store(&hw->doorbell, DOORBELL_AWAKE);
}

/*
 * Polling keeps a host core from others: only while every simulated CPU can have one. It has paid if another CPU rang
 * soon enough; what a signal brings (a tick, for instance) would have come as quickly to a sleeper. When it has not
 * paid it halves, and is soon nothing: an idle machine sleeps from tick to tick.
 */
static void learn(struct kssi_hw_cpu *hw, bool rung, uint64_t waited)
{
    if (!rung || waited > POLL_MAX_NS)
        hw->poll_ns = hw->poll_ns > POLL_FIRST_NS ? hw->poll_ns / 2 : 0;
    else if (waited > hw->poll_ns)
        hw->poll_ns = hw->poll_ns ? (hw->poll_ns < POLL_MAX_NS / 2 ? hw->poll_ns * 2 : POLL_MAX_NS) : POLL_FIRST_NS;
}

static bool may_poll(const struct kssi_hw_cpu *hw)
{
    return hw->machine->cpus > 1 && atomic_load_explicit(&running, memory_order_relaxed) <=
                                        atomic_load_explicit(&host_cores, memory_order_relaxed);
}

/* The flag that a handler sets when it finds interrupts off. */
static bool signalled(const struct kssi_hot *hot)
{
    return __atomic_load_n(&hot->pending, __ATOMIC_RELAXED) != 0;
}

/*
 * No wake-up is lost. By another CPU: see kssi_pin(). By a signal: interrupts are off, so that its handler sets
 * `pending` and the doorbell to AWAKE. If it comes before the doorbell is set here, `pending` is seen after that; if it
 * comes later, at any instruction, the doorbell is not what the loop, the exchange, or the host in the moment it would
 * put the thread to sleep expects; in the sleep it ends it, or the host starts it again and finds the same. A
 * non-maskable interrupt is one more such signal, and is handled right where it finds the CPU, since nothing here is
 * libc's. The caller turns interrupts on next, and then `pending` has the controller looked at.
 */
void kssi_wait_for_interrupt(void)
{
    struct kssi_hot *hot = kssi_hot_get();
    struct kssi_hw_cpu *hw = hot->hw;
    bool polls = may_poll(hw);
    unsigned window = polls ? hw->poll_ns : 0, expected = DOORBELL_POLLED;
    uint64_t start = polls ? kssi_cycles_ns() : 0;
    atomic_store(&hw->doorbell, DOORBELL_POLLED);
    if (!signalled(hot) && !kssi_intc_deliverable(&hw->intc)) {
        while (window && atomic_load(&hw->doorbell) == DOORBELL_POLLED && kssi_cycles_ns() - start < window)
            kssi_relax();
        if (atomic_compare_exchange_strong(&hw->doorbell, &expected, DOORBELL_ASLEEP))
            while (atomic_load(&hw->doorbell) == DOORBELL_ASLEEP)
                kssi_arch_futex_wait(&hw->doorbell, DOORBELL_ASLEEP);
        if (polls)
            learn(hw, !signalled(hot), kssi_cycles_ns() - start);
    }
    atomic_store(&hw->doorbell, DOORBELL_AWAKE);
    __atomic_store_n(&hot->pending, 1, __ATOMIC_RELAXED);
}

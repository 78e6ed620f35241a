/* SPDX-License-Identifier: MIT */
/* The live machine's clocks: a periodic POSIX timer for each CPU's tick, and a one-shot one for a look
   at interrupts that were deferred. Both signal exactly the CPU's own host thread. */
#define _GNU_SOURCE
#include "hw.h"

#include <errno.h>
#include <unistd.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define RETRY_FIRST_NS 20000u

uint64_t kssi_host_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* ---- the cycle counter as a clock ------------------------------------------------------------ */

#define CALIBRATION_NS 1000000u
static struct {
    bool usable, ready;
    uint64_t cycles, ns; /* the anchor */
    uint64_t scale;      /* ns a cycle, times 2^32 */
} counter;
static pthread_mutex_t counter_lock = PTHREAD_MUTEX_INITIALIZER;

void kssi_cycles_anchor(void)
{
    pthread_mutex_lock(&counter_lock);
    if (!counter.ns) {
        counter.usable = kssi_arch_cycles_usable();
        counter.ns = kssi_host_now();
        counter.cycles = kssi_arch_cycles();
    }
    pthread_mutex_unlock(&counter_lock);
}

void kssi_cycles_calibrate(void)
{
    pthread_mutex_lock(&counter_lock);
    if (!counter.ready && counter.usable) {
        uint64_t ns, cycles;
        do {
            ns = kssi_host_now() - counter.ns;
            cycles = kssi_arch_cycles() - counter.cycles;
        } while (ns < CALIBRATION_NS);
        counter.usable = cycles > 0;
        if (cycles)
            counter.scale = (uint64_t)(((unsigned __int128)ns << 32) / cycles);
        counter.ready = true;
    }
    pthread_mutex_unlock(&counter_lock);
}

uint64_t kssi_cycles_ns(void)
{
    if (!counter.usable)
        return kssi_host_now();
    return (uint64_t)(((unsigned __int128)(kssi_arch_cycles() - counter.cycles) * counter.scale) >> 32);
}

static int make_timer(timer_t *timer, int signal, void *value)
{
    struct sigevent ev = { 0 };
    ev.sigev_notify = SIGEV_THREAD_ID;
    ev.sigev_signo = signal;
    ev.sigev_value.sival_ptr = value;
    ev.sigev_notify_thread_id = gettid();
    return timer_create(CLOCK_MONOTONIC, &ev, timer) == 0 ? 0 : -errno;
}

int kssi_timers_create(struct kssi_hw_cpu *hw, unsigned hz)
{
    int r = make_timer(&hw->tick, KSSI_SIG_TIMER, hw);
    if (r < 0)
        return r;
    r = make_timer(&hw->retry, KSSI_SIG_PIN, hw);
    if (r < 0) {
        timer_delete(hw->tick);
        return r;
    }
    long period = (long)(1000000000u / hz);
    struct timespec t = { period / 1000000000, period % 1000000000 };
    struct itimerspec every = { .it_interval = t, .it_value = t };
    timer_settime(hw->tick, 0, &every, NULL);
    hw->retry_ns = RETRY_FIRST_NS;
    return 0;
}

void kssi_timers_delete(struct kssi_hw_cpu *hw)
{
    timer_delete(hw->tick);
    timer_delete(hw->retry);
}

void kssi_timer_retry(struct kssi_hw_cpu *hw)
{
    struct itimerspec once = { .it_value.tv_nsec = (long)hw->retry_ns };
    timer_settime(hw->retry, 0, &once, NULL);
    if (hw->retry_ns < 1000000)
        hw->retry_ns *= 2; /* libc may be blocked in the host: do not spin beside it */
}

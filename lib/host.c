/* SPDX-License-Identifier: MIT */
/*
 * Host calls are safe: a thread is not switched away from while a frame of libc's is live on its stacks, or in a region
 * of kss_host_begin(). It goes on with need_resched set, and is looked at again at each exit from the kernel, and soon.
 * Nor does it die of a kill there: libc's locks would never be released. Who gives up the CPU there by itself is named.
 */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RETRY_FIRST_NS 20000u
#define RETRY_MAX_NS 1000000u
/* A word that could be libc's, on a stack that can't be unwound up to it: it is believed for so long. */
#define UNKNOWN_NS 10000000u
/* A killed thread that stays in a callback dies there in the end. */
#define KILL_NS 1000000000u
/* At how many of a thread's first sleeps and yields its stack is looked at, and then at every how many'th. */
#define LEAVES_FIRST 16
#define LEAVES_EVERY 64

struct walk {
    struct kssi_cpu *cpu;
    struct kssi_host_look look;
    enum kssi_host_verdict verdict;
    uintptr_t *pc; /* NULL: does not matter */
};

static void walk(void *arg)
{
    struct walk *w = arg;
    if (__builtin_setjmp(w->cpu->rescue) == 0) {
        w->cpu->walking = true;
        w->verdict = w->cpu->machine->platform->host_walk(w->look.from, w->look.farthest, w->pc);
    }
    w->cpu->walking = false;
}

/* tf: what was interrupted; NULL: this stands in the kernel, called by whoever wants to know. */
static enum kssi_host_verdict frames_live(struct kssi_cpu *cpu, struct kss_thread *t, const struct kss_trap_frame *tf,
                                          uintptr_t *pc)
{
    struct walk w = { .cpu = cpu, .verdict = KSSI_HOST_UNKNOWN, .pc = pc };
    w.look.tf = tf ? tf : t->tf;
    w.look.sp = tf ? 0 : (uintptr_t)__builtin_frame_address(0);
    w.look.task = cpu->stacks.task;
    w.look.user = (struct kssi_range){ t->user_low, t->user_high };
    cpu->host.scans++;
    enum kssi_host_words words = cpu->machine->platform->host_scan(&w.look);
    if (likely(words == KSSI_HOST_WORDS_NONE))
        return KSSI_HOST_FREE;
    if (words == KSSI_HOST_WORDS_SURE) {
        if (pc)
            *pc = w.look.farthest.low;
        return KSSI_HOST_LIVE;
    }
    if (cpu->reporting || cpu->walking || cpu->stacks.vector_busy[KSSI_STACK_REPORT])
        return KSSI_HOST_UNKNOWN;
    cpu->host.walks++;
    kssi_call_on_report_stack(cpu, walk, &w);
    if (w.verdict == KSSI_HOST_UNKNOWN)
        cpu->host.unknown++;
    return w.verdict;
}

/* ---- held back ---------------------------------------------------------------------------------- */

static void hold(struct kssi_cpu *cpu, uint64_t now, bool region)
{
    struct kssi_host_held *h = &cpu->host_held;
    const struct kssi_platform *p = cpu->machine->platform;
    if (!h->since) {
        h->since = now | 1;
        h->retry_ns = RETRY_FIRST_NS;
        h->region = region;
        if (region) /* no look is any use before its end, which finds the interrupt */
            p->raise(cpu->machine, cpu->index, KSS_LINE_RESCHED, 1);
    } else if (h->retry_ns < RETRY_MAX_NS) {
        h->retry_ns *= 2;
    }
    if (!region)
        p->host_look_again(h->retry_ns);
}

bool kssi_host_holds(struct kss_thread *t, const struct kss_trap_frame *tf)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct kss_machine *m = cpu->machine;
    if (unlikely(m->config.unsafe_host_calls || t == cpu->idle))
        return false;
    bool region = *cpu->stacks.host_depth;
    enum kssi_host_verdict verdict = region ? KSSI_HOST_LIVE : frames_live(cpu, t, tf, NULL);
    if (likely(verdict == KSSI_HOST_FREE))
        return false;
    uint64_t now = m->platform->account_clock(m);
    uint64_t held = cpu->host_held.since && now > cpu->host_held.since ? now - cpu->host_held.since : 0;
    if ((verdict == KSSI_HOST_UNKNOWN && held > UNKNOWN_NS) || ((t->ti->flags & KSS_TI_KILLED) && held > KILL_NS))
        return false;
    hold(cpu, now, region);
    return true;
}

/* The thread is switched away from. */
void kssi_host_held_over(struct kssi_cpu *cpu)
{
    struct kssi_host_held *h = &cpu->host_held;
    uint64_t now = cpu->machine->platform->account_clock(cpu->machine);
    uint64_t waited = now > h->since ? now - h->since : 0;
    struct kss_host_wait *w = &cpu->host.wait[h->region ? KSS_HOST_REGION : KSS_HOST_CALLBACK];
    h->since = 0;
    w->count++;
    w->total_ns += waited;
    if (waited > w->longest_ns)
        w->longest_ns = waited;
}

/* ---- given up ----------------------------------------------------------------------------------- */

static void report(struct kssi_cpu *cpu, struct kss_thread *t, uintptr_t pc)
{
    char name[64] = "libc", message[200];
    uint64_t offset;
    const char *channel = t->state == KSS_THREAD_SLEEPING && t->wait_channel ? t->wait_channel : NULL;
    if (pc && !cpu->machine->platform->symbol(pc, name, sizeof name, &offset))
        snprintf(name, sizeof name, "libc");
    if (pc)
        snprintf(message, sizeof message, "%s%s in a callback of %s(): whoever calls that next may find it half done",
                 channel ? "it sleeps on " : "it yields", channel ? channel : "", name);
    else
        snprintf(message, sizeof message, "%s%s between kss_host_begin() and kss_host_end()",
                 channel ? "it sleeps on " : "it yields", channel ? channel : "");
    struct kssi_fault f = { .kind = KSS_REPORT_HOST_BLOCKED, .message = message, .place = pc,
                            .place_what = pc ? "libc's frame" : NULL };
    cpu->host.blocked++;
    kssi_fault(&f, KSS_KILLED + 1);
}

void kssi_host_leaving(struct kss_thread *t)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    uintptr_t pc = 0;
    uint32_t n = t->host_leaves++;
    if (unlikely(*cpu->stacks.host_depth)) {
        report(cpu, t, 0);
        return;
    }
    if (likely(n >= LEAVES_FIRST && n % LEAVES_EVERY && !cpu->machine->config.check_host_blocks))
        return;
    if (t != cpu->idle && frames_live(cpu, t, NULL, &pc) == KSSI_HOST_LIVE)
        report(cpu, t, pc);
}

/* ---- regions ------------------------------------------------------------------------------------ */

/* Of the two threads, one is in a region. Interrupts off, sched_lock. */
void kssi_host_switch(struct kssi_cpu *cpu, struct kss_thread *prev, struct kss_thread *next, bool exits)
{
    prev->host_depth = exits ? 0 : *cpu->stacks.host_depth;
    cpu->machine->platform->host_load_depth(next->host_depth);
    next->host_depth = 0;
}

int kss_host_begin(void)
{
    if (!kssi_this_cpu())
        return kssi_error(-EPERM, "host regions are for threads of a simulated CPU");
    kssi_host_enter();
    return 0;
}

int kss_host_end(void)
{
    if (!kssi_this_cpu())
        return kssi_error(-EPERM, "host regions are for threads of a simulated CPU");
    int held = kssi_host_leave();
    if (unlikely(held < 0))
        return kssi_error(-EINVAL, "kss_host_end() without kss_host_begin()");
    if (unlikely(held))
        kssi_host_release();
    return 0;
}

int kss_host_stats(struct kss_machine *m, int cpu, struct kss_host_stats *s)
{
    int r = kssi_valid_machine(m);
    if (r < 0)
        return r;
    if (cpu < -1 || cpu >= (int)m->cpus || !s)
        return kssi_error(-EINVAL, s ? "CPU %d: the machine has %u, and -1 is all"
                                    : "CPU %d of %u: no place for its account", cpu, m->cpus);
    memset(s, 0, sizeof *s);
    for (unsigned i = cpu < 0 ? 0 : (unsigned)cpu; i < (cpu < 0 ? m->cpus : (unsigned)cpu + 1); i++) {
        const struct kss_host_stats *own = &m->cpu[i].host;
        m->platform->host_waits(m, i, s);
        for (int reason = 0; reason < KSS_HOST_REASONS; reason++) {
            s->wait[reason].count += own->wait[reason].count;
            s->wait[reason].total_ns += own->wait[reason].total_ns;
            if (own->wait[reason].longest_ns > s->wait[reason].longest_ns)
                s->wait[reason].longest_ns = own->wait[reason].longest_ns;
        }
        s->scans += own->scans;
        s->walks += own->walks;
        s->unknown += own->unknown;
        s->blocked += own->blocked;
    }
    return 0;
}

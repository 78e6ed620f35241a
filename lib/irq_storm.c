/* SPDX-License-Identifier: MIT */
/*
 * Interrupt storms: a line that comes so fast that nothing else gets on, raised by a device gone wild or by its own
 * handler. Each CPU counts deliveries and the time in handlers over a window of ticks. A line that has used up what a
 * window allows is reported, and held back in the CPU's controller to the end of it; from then on, until a whole window
 * has passed without that, it is allowed an eighth. Nothing here needs a tick to get through: the end of the allowance
 * stops a line that the tick itself waits for.
 *
 * What a thread raises on its own CPU does not count: it gets on, since it raises. What interrupts the idle thread
 * starves nobody, and is allowed eight times as many.
 */
#include "kernel.h"

#include <stdio.h>
#include <string.h>

#define WINDOW_NS 100000000u
#define SHARE_PERCENT 80
#define COUNT_MIN 16u /* deliveries of which nobody speaks as a storm, however long they take */
#define SHIFT 3       /* an eighth, eight times */

typedef unsigned long long ull;

static bool is_own(unsigned line)
{
    return line == KSS_LINE_TIMER || line == KSS_LINE_STOP || line == KSS_LINE_RESCHED || line == KSS_LINE_CALL;
}

void kssi_storm_init(struct kssi_cpu *cpu)
{
    struct kss_machine *m = cpu->machine;
    struct kssi_storm *s = &cpu->storm;
    uint64_t ticks = (uint64_t)WINDOW_NS * m->config.tick_hz / 1000000000u;
    s->window_ticks = ticks ? (unsigned)ticks : 1;
    uint64_t window_ns = (uint64_t)s->window_ticks * 1000000000u / m->config.tick_hz;
    unsigned __int128 count = (unsigned __int128)m->config.watchdog.irq_storm_hz * window_ns / 1000000000u;
    s->count_max = count < COUNT_MIN ? COUNT_MIN : count > UINT32_MAX ? UINT32_MAX : (uint64_t)count;
    s->ns_max = window_ns * SHARE_PERCENT / 100;
    s->since = m->platform->account_clock(m);
    s->on = m->config.watchdog.irq_storm_hz != 0;
}

static void report(struct kssi_cpu *cpu, unsigned line, uint64_t elapsed, const struct kss_trap_frame *tf)
{
    const struct kss_machine *m = cpu->machine;
    const struct kssi_storm *s = &cpu->storm;
    const struct kssi_irq_desc *d = &m->irq[line];
    char message[240];
    elapsed += !elapsed;
    snprintf(message, sizeof message, "interrupt storm: line %u (%s) came to CPU %u %llu times in %llu us, %llu a second, "
             "%llu %% of that in its handler; it is held back until the storm is over, but for %llu in %u ticks", line,
             d->handler ? d->name : "no handler", cpu->index, (ull)s->line[line].count, (ull)(elapsed / 1000),
             (ull)((unsigned __int128)s->line[line].count * 1000000000u / elapsed), (ull)(s->line[line].ns * 100 / elapsed),
             (ull)(s->count_max >> SHIFT), s->window_ticks);
    struct kssi_fault f = { .kind = KSS_REPORT_IRQ_STORM, .tf = tf, .line = line, .message = message,
                            .waited_ns = elapsed, .place = (uintptr_t)(kss_irq_fn)d->handler,
                            .place_what = d->handler ? "the line's handler is" : NULL };
    kssi_fault(&f, 0);
}

/* Not inlined: its text would be on the stack of every interrupt. */
static __attribute__((noinline)) void hold(struct kssi_cpu *cpu, unsigned line, const struct kss_trap_frame *tf)
{
    struct kssi_storm *s = &cpu->storm;
    uint64_t bit = 1ull << line, now = cpu->machine->platform->account_clock(cpu->machine);
    if (s->held & bit) /* the one that was in the middle of its handler */
        return;
    bool first = !(s->storming & bit);
    s->held |= bit;
    s->storming |= bit;
    s->line[line].held_at = now;
    s->line[line].storms += first;
    cpu->machine->platform->hold(s->held);
    if (first)
        report(cpu, line, now - s->since, tf);
}

void kssi_storm_note(struct kssi_cpu *cpu, unsigned line, uint64_t ns, const struct kss_trap_frame *tf)
{
    struct kssi_storm *s = &cpu->storm;
    if (is_own(line))
        return;
    /* Also cleared by a thread of this CPU that raises the line, or did before it was moved: no harm is in a count that
       is lost. */
    uint64_t count = s->line[line].count + 1, spent = s->line[line].ns + ns;
    s->line[line].count = count;
    s->line[line].ns = spent;
    uint64_t bit = 1ull << line, count_max = s->count_max, ns_max = s->ns_max;
    if (unlikely(s->storming & bit)) {
        count_max >>= SHIFT;
        ns_max >>= SHIFT;
    } else if (cpu->current == cpu->idle) {
        count_max <<= SHIFT;
    }
    if (unlikely(count > count_max || (spent > ns_max && count >= COUNT_MIN)))
        hold(cpu, line, tf);
}

/* Hard irq. Those that were held back come when this interrupt is over. */
void kssi_storm_tick(struct kssi_cpu *cpu)
{
    struct kssi_storm *s = &cpu->storm;
    if (!s->on || ++s->ticks < s->window_ticks)
        return;
    uint64_t now = cpu->machine->platform->account_clock(cpu->machine);
    s->ticks = 0;
    s->since = now;
    for (unsigned i = 0; i < KSS_IRQ_LINES; i++)
        s->line[i].count = s->line[i].ns = 0;
    s->storming = s->held; /* the others were calm for a window */
    for (uint64_t bits = s->held; bits; bits &= bits - 1) {
        struct kssi_storm_line *l = &s->line[__builtin_ctzll(bits)];
        l->held_ns += now - l->held_at;
    }
    if (s->held) {
        s->held = 0;
        cpu->machine->platform->hold(0);
    }
}

void kssi_storm_stats(struct kssi_cpu *cpu, unsigned line, struct kss_irq_stats *stats)
{
    const struct kssi_storm *s = &cpu->storm;
    const struct kssi_storm_line *l = &s->line[line];
    uint64_t held_at = l->held_at, now;
    stats->held = s->held >> line & 1;
    stats->storms = l->storms;
    stats->held_ns = l->held_ns;
    if (stats->held && (now = cpu->machine->platform->account_clock(cpu->machine)) > held_at)
        stats->held_ns += now - held_at;
}

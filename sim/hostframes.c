/* SPDX-License-Identifier: MIT */
/*
 * Are libc's frames live below a callback? Code that qsort() or a stream's write function called is the experiment's,
 * and may be interrupted; but it must not be switched away from, since another thread would find libc half way through.
 *
 * First the words of the stacks are looked at, without a lock and without the unwinder: most stacks have none that could
 * be a return address into libc, and that is all there is to do. Where one is found, which may be a stale one in a
 * buffer, the unwind tables say whether a frame returns there. Stacks that the library does not know (a program's own
 * coroutines) are walked at once.
 */
#define UNW_LOCAL_ONLY
#include <libunwind.h>

#include "hw.h"

/* Words further out are not looked at. A stack of the default size is seen whole; frames of libc's below that much of
   a callback's own stack are not. */
#define SCAN_MAX (256u << 10)
#define WALK_MAX 1024

/* What follows a call in libc, if anything. Function pointers do not; nor does what makecontext() leaves at a stack's
   base, where no frame of libc's does anything any more. */
static bool returns_to_host(uintptr_t pc)
{
    return kssi_hostcall_contains(pc) && kssi_arch_after_call(pc);
}

/* From the far end: the first that is found is the farthest. Four at a time where none is near: a third of a
   nanosecond a word. */
KSSI_UNSANITIZED static uintptr_t farthest_word(uintptr_t low, uintptr_t high)
{
    struct kssi_range hull = kssi_hostcall_hull();
    uintptr_t from = hull.low, size = hull.high - hull.low;
    if (high - low > SCAN_MAX)
        high = low + SCAN_MAX;
    const uintptr_t *p = (const uintptr_t *)high;
    while (p - 4 >= (const uintptr_t *)low) {
        bool near = (p[-1] - from < size) | (p[-2] - from < size) | (p[-3] - from < size) | (p[-4] - from < size);
        if (__builtin_expect(near, 0))
            for (int i = 1; i <= 4; i++)
                if (returns_to_host(p[-i]))
                    return (uintptr_t)(p - i);
        p -= 4;
    }
    while (p-- > (const uintptr_t *)low)
        if (__builtin_expect(*p - hull.low < size, 0) && returns_to_host(*p))
            return (uintptr_t)p;
    return 0;
}

static bool within(uintptr_t sp, struct kssi_range r)
{
    return sp >= r.low && sp < r.high;
}

/* One stretch of a stack, from where code stands to its end or the trap frame of what it has interrupted. */
static void scan(struct kssi_host_look *look, const struct kss_trap_frame *tf, uintptr_t sp, struct kssi_range stack,
                 const struct kss_trap_frame *interrupted)
{
    uintptr_t low = (sp + 7) & ~(uintptr_t)7, end = (uintptr_t)interrupted;
    uintptr_t at = farthest_word(low, end >= low && end < stack.high ? end : stack.high & ~(uintptr_t)7);
    if (!at)
        return;
    if (!look->farthest.low)
        look->from = tf; /* nothing is nearer */
    look->farthest = (struct kssi_range){ at, stack.high };
}

enum kssi_host_words kssi_host_scan(struct kssi_host_look *look)
{
    look->farthest = (struct kssi_range){ 0, 0 };
    if (look->sp && within(look->sp, look->task))
        scan(look, NULL, look->sp, look->task, look->tf);
    for (const struct kss_trap_frame *tf = look->tf; tf; tf = tf->prev) {
        uintptr_t sp = kssi_frame_sp(tf), pc = kssi_frame_pc(tf);
        bool user = tf->mode == KSS_MODE_USER;
        if (kssi_hostcall_contains(pc)) { /* an exception was handled in the middle of it */
            look->farthest.low = pc;
            return KSSI_HOST_WORDS_SURE;
        }
        if (within(sp, user ? look->user : look->task)) {
            scan(look, tf, sp, user ? look->user : look->task, user ? NULL : tf->prev);
        } else if (user) { /* a stack of its own: it is walked to wherever that leads */
            if (!look->farthest.low)
                look->from = tf;
            look->farthest = (struct kssi_range){ 0, 0 };
            return KSSI_HOST_WORDS_SOME;
        }
    }
    return look->farthest.low ? KSSI_HOST_WORDS_SOME : KSSI_HOST_WORDS_NONE;
}

/* The function that the experiment called: the last of libc's in a row. Those it has inside have no names. */
static void called_from(unw_cursor_t *cursor, unw_word_t pc, uintptr_t *found)
{
    if (!found)
        return;
    do
        *found = (uintptr_t)pc;
    while (unw_step(cursor) > 0 && unw_get_reg(cursor, UNW_REG_IP, &pc) == 0 && returns_to_host(pc));
}

/* With tf NULL: from the caller, whose own frames are none of libc's. */
enum kssi_host_verdict kssi_host_walk(const struct kss_trap_frame *tf, struct kssi_range farthest, uintptr_t *found)
{
    unw_context_t here;
    unw_cursor_t cursor;
    bool exact = tf != NULL; /* not a return address */
    if (!tf)
        unw_getcontext(&here);
    if (tf ? unw_init_local2(&cursor, (unw_context_t *)kssi_arch_frame_ucontext(tf), UNW_INIT_SIGNAL_FRAME) < 0
           : unw_init_local(&cursor, &here) < 0)
        return KSSI_HOST_UNKNOWN;
    for (int n = 0; n < WALK_MAX; n++) {
        unw_word_t pc = 0, sp = 0;
        if (unw_get_reg(&cursor, UNW_REG_IP, &pc) < 0 || unw_get_reg(&cursor, UNW_REG_SP, &sp) < 0 || !pc)
            break;
        if (exact ? kssi_hostcall_contains(pc) : returns_to_host(pc)) {
            called_from(&cursor, pc, found);
            return KSSI_HOST_LIVE;
        }
        exact = kssi_arch_is_entry(pc);
        uintptr_t at = exact ? (uintptr_t)kssi_arch_entry_frame(&cursor) : (uintptr_t)sp;
        if (farthest.low && at > farthest.low && at <= farthest.high)
            return KSSI_HOST_FREE;
        if (unw_step(&cursor) <= 0)
            break;
    }
    return farthest.low ? KSSI_HOST_UNKNOWN : KSSI_HOST_FREE;
}

void kssi_host_look_again(uint64_t ns)
{
    struct kssi_hw_cpu *hw = kssi_hot_get()->hw;
    struct itimerspec once = { .it_value.tv_nsec = (long)ns };
    hw->relook = true;
    timer_settime(hw->retry, 0, &once, NULL);
}

/* ---- regions, and the account of waits ---------------------------------------------------------- */

void kssi_host_load_depth(uint32_t depth)
{
    struct kssi_hot *hot = kssi_hot_get();
    hot->host_depth = depth;
    if (!depth && hot->host_held) {
        hot->host_held = 0;
        hot->pending = 1; /* interrupts are off: seen when they are turned on */
    }
}

/*
 * In user mode by a signal to this very CPU, since there is no other way in: if the thread migrates on the way, both its
 * CPUs have handled what was pending, and the signal finds nothing.
 */
void kssi_host_release(void)
{
    if (kssi_cpu_mode() == KSS_MODE_USER) {
        struct kssi_hw_cpu *hw = kssi_hot_get()->hw;
        kssi_arch_pin_self(hw->machine->pid, atomic_load(&hw->host_tid), KSSI_SIG_PIN);
        return;
    }
    bool on = kssi_irq_save();
    kssi_hot_get()->pending = 1;
    kssi_irq_restore(on);
}

void kssi_host_hold(struct kssi_hw_cpu *hw, enum kss_host_reason reason)
{
    atomic_fetch_add_explicit(&hw->deferred, 1, memory_order_relaxed);
    if (!hw->host_wait[reason].since)
        hw->host_wait[reason].since = kssi_cycles_ns() | 1;
}

void kssi_host_taken(struct kssi_hw_cpu *hw)
{
    for (int i = 0; i < KSS_HOST_REASONS; i++) {
        struct kssi_host_wait *w = &hw->host_wait[i];
        if (__builtin_expect(!w->since, 1))
            continue;
        uint64_t now = kssi_cycles_ns(), waited = now > w->since ? now - w->since : 0;
        w->since = 0;
        w->wait.count++;
        w->wait.total_ns += waited;
        if (waited > w->wait.longest_ns)
            w->wait.longest_ns = waited;
    }
}

void kssi_host_waits(struct kss_machine *m, unsigned cpu, struct kss_host_stats *s)
{
    struct kssi_hw_cpu *hw = &kssi_machine_hw(m)->cpu[cpu];
    for (int i = 0; i < KSS_HOST_REASONS; i++) {
        const struct kss_host_wait *w = &hw->host_wait[i].wait;
        s->wait[i].count += w->count;
        s->wait[i].total_ns += w->total_ns;
        if (w->longest_ns > s->wait[i].longest_ns)
            s->wait[i].longest_ns = w->longest_ns;
    }
}

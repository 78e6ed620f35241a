/* SPDX-License-Identifier: MIT */
/*
 * The kernel's half of the common entry and the common exit. Every trap of every kind comes through
 * kssi_trap(), on the kernel stack, interrupts off.
 */
#include "kernel.h"

#include <errno.h>

/* ---- entry ------------------------------------------------------------------------------------ */

static void enter(struct kssi_cpu *cpu, struct kss_thread *t, struct kss_trap_frame *tf)
{
    if (tf->mode == KSS_MODE_USER) {
        KSS_ASSERT(!t->tf); /* the kernel stack of a thread in user mode is empty */
        if (unlikely(!t->kstack_arena))
            kssi_spare_stack_adopt(cpu, t);
        cpu->stats.entries_user++;
    }
    if (tf->irqs_on) {
        t->irqs_off_at = 0; /* by the entry itself */
        if (unlikely(cpu->latency != NULL))
            kssi_latency_irqs_off(0, tf->vector);
    }
    tf->prev = t->tf;
    t->tf = tf;
    if (++t->nesting > cpu->stats.max_nesting)
        cpu->stats.max_nesting = t->nesting;
    cpu->stats.entries++;
    cpu->stats.hw_words += 5;
    cpu->stats.handler_words += kssi_frame_seal(tf, t->canary);
    KSSI_TRACE(t->machine, KSS_TR_ENTER, tf->vector, (uintptr_t)tf, kssi_frame_pc(tf), tf->mode);
}

/* Runs the vector's handler. An interrupt gate leaves interrupts off, a trap gate as they were. */
static void dispatch(struct kssi_cpu *cpu, struct kss_thread *t, struct kss_trap_frame *tf)
{
    const struct kss_gate *gate = &cpu->machine->platform->vector_table()->gate[tf->vector & 0xff];
    if (tf->vector < KSS_VEC_IRQ)
        cpu->stats.exceptions++;
    else if (tf->vector == KSS_VEC_SYSCALL)
        cpu->stats.syscalls++;
    if (unlikely(!gate->handler)) /* an experiment's table, changed in place */
        kssi_panic(KSS_REPORT_DOUBLE_FAULT, "double fault: the loaded table has no handler for vector %u (%s)",
                   tf->vector & 0xff, kss_vector_name(tf->vector));
    struct kssi_atomic was = kssi_atomic_state(t, gate->type == KSS_GATE_TRAP && tf->irqs_on && !tf->stack);
    unsigned vector = tf->vector; /* the frame may come to hold another one, or the handler change it */
    uint64_t begun = 0;
    if (unlikely(cpu->latency != NULL) && gate->handler != kssi_irq_dispatch) /* which measures itself */
        begun = cpu->machine->platform->account_clock(cpu->machine);
    if (was.irqs_on)
        kssi_irq_enable_at(cpu->machine, 0, vector);
    gate->handler(tf, gate->arg);
    bool on = kssi_irq_save();
    if (unlikely(begun)) {
        if (on)
            kssi_latency_irqs_off(0, vector);
        kssi_latency_handled(kssi_this_cpu(), vector, t->machine->platform->account_clock(t->machine) - begun);
    }
    if (!kssi_atomic_kept(t, &was, on) && gate->handler != kssi_irq_dispatch) /* which has looked itself */
        kssi_report_leak(t, tf, -1, &was, on);
}

/* ---- exit ------------------------------------------------------------------------------------- */

/* Not on an interrupt or vector stack. */
static bool may_switch(const struct kss_thread *t, const struct kss_trap_frame *tf)
{
    const struct kssi_cpu *cpu = kssi_this_cpu();
    return tf->irqs_on && !t->ti->preempt_count && !t->locks_held && !cpu->irq_depth && !cpu->in_softirq &&
           (uintptr_t)tf - cpu->stacks.task.low < cpu->stacks.task.high - cpu->stacks.task.low;
}

/* What must be done before the interrupted program goes on: others run, or it dies. Interrupts are
   off again whenever this is tested, so nothing is missed between the test and the exit. */
static void exit_work(struct kss_thread *t, struct kss_trap_frame *tf)
{
    for (;;) {
        uint32_t flags = t->ti->flags;
        if (unlikely(tf->vector == KSS_VEC_NMI)) /* whatever it interrupted is not to be taken apart here */
            return;
        /* In libc it dies later; but not after an exception, which would only come again. */
        if ((flags & KSS_TI_KILLED) && tf->mode == KSS_MODE_USER &&
            (tf->vector < KSS_VEC_IRQ || !kssi_host_holds(t, tf)))
            kssi_thread_exit(t, t->exit_status, 0);
        if (!(flags & KSS_TI_NEED_RESCHED) || !may_switch(t, tf) || kssi_host_holds(t, tf))
            return;
        kssi_schedule(KSS_SWITCH_PREEMPT);
    }
}

static void check_frame(struct kss_thread *t, const struct kss_trap_frame *tf)
{
    if (likely(kssi_frame_sealed(tf, t->canary)))
        return;
    const char *wrong = kssi_frame_check(tf);
    /* A program's outermost frame is from user mode, and no other is. */
    if (!t->kernel_fn && !tf->stack && (tf->mode == KSS_MODE_USER) != !tf->prev)
        wrong = tf->prev ? "it would return to user mode from a nested trap"
                         : "it would go on in kernel mode where it came from user mode";
    struct kssi_fault f = { .kind = KSS_REPORT_BAD_FRAME, .sp = (uintptr_t)tf, .message = wrong };
    t->tf = NULL;
    kssi_fault(&f, KSS_KILLED + 1);
}

/* What costs time and is off by default. */
static void exit_to_user(struct kss_thread *t)
{
    const struct kss_config *c = &t->machine->config;
    if (t->machine->fenced && kssi_kstack_fence_hit(t))
        kssi_kstack_verify(t, NULL);
    if (c->kstack_erase)
        kssi_kstack_erase(t);
    if (c->kstack_randomize) {
        t->user_frame = kssi_kstack_random_frame(t);
        t->machine->platform->load_kernel_sp(t->user_frame);
    }
}

static void leave(struct kssi_cpu *cpu, struct kss_thread *t, struct kss_trap_frame *tf)
{
    KSSI_TRACE(t->machine, KSS_TR_LEAVE, tf->vector, (uintptr_t)tf, kssi_frame_pc(tf), tf->mode);
    if (unlikely(cpu->latency != NULL) && tf->irqs_on)
        kssi_latency_irqs_on(0, tf->vector);
    t->nesting--;
    t->tf = tf->prev;
    if (tf->stack)
        cpu->stacks.vector_busy[tf->stack] = 0;
    else if (unlikely(t->machine->exit_policies) && tf->mode == KSS_MODE_USER)
        exit_to_user(t);
}

/* For a sanitizer: the CPU runs on the frame's stack now. Returns what it ran on. */
static struct kssi_range enter_stack(const struct kssi_cpu *cpu, const struct kss_trap_frame *tf)
{
    enum kss_stack_kind kind;
    return KSSI_ASAN ? kssi_stack_in_use(*kssi_range_of(cpu, (uintptr_t)tf, &kind)) : cpu->stacks.task;
}

static void handle(struct kss_trap_frame *tf)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct kss_thread *t = cpu->current;
    if (unlikely(tf->stack)) { /* `current` by masking works on vector stacks too */
        ((struct kss_thread_info *)((uintptr_t)tf & kssi_stack_mask))->thread = t;
        kssi_frames_gone((uintptr_t)t->ti, (uintptr_t)(t->ti + 1)); /* one may have run over it */
    } else if (unlikely(!kssi_kstack_end_ok(t))) {
        kssi_kstack_verify(t, tf);
    }
    dispatch(cpu, t, tf);
    if (unlikely(!kssi_kstack_end_ok(t)) && tf->vector != KSS_VEC_NMI) /* before its flags are believed */
        kssi_kstack_verify(t, tf);
    exit_work(t, tf);
    check_frame(t, tf);
}

void kssi_trap(struct kss_trap_frame *tf)
{
    int saved = kssi_host_errno();
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct kss_thread *t = cpu->current;
    struct kssi_range interrupted = enter_stack(cpu, tf);
    tf->host_errno = saved;
    enter(cpu, t, tf);
    handle(tf);
    leave(kssi_this_cpu(), t, tf);
    kssi_stack_in_use(interrupted);
    kssi_set_host_errno(saved);
}

/*
 * An interrupt became pending on the way out: handled on the frame that is there, as if it had arrived
 * right after the return. No second frame, and no way to lose it.
 */
void kssi_trap_again(struct kss_trap_frame *tf)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct kss_thread *t = cpu->current;
    uint64_t raised_ns = 0;
    int line = cpu->machine->platform->acknowledge(&raised_ns);
    if (line < 0)
        return;
    /* A thread on its way to user mode for the first time: this may switch away from it, so the spare
       stack that it runs on must be its own from here on. */
    if (unlikely(!t->kstack_arena))
        kssi_spare_stack_adopt(cpu, t);
    if (tf->mode == KSS_MODE_USER && !tf->stack)
        t->user_frame = (uintptr_t)tf; /* the next entry's place may have been chosen already */
    if (unlikely(cpu->latency != NULL) && tf->irqs_on)
        kssi_latency_irqs_off(0, KSS_VEC_IRQ + (unsigned)line);
    struct kssi_range interrupted = enter_stack(cpu, tf);
    if (tf->stack)
        cpu->stacks.vector_busy[tf->stack] = 1; /* leave() has said that the frame is done with */
    tf->prev = t->tf;
    t->tf = tf;
    t->nesting++;
    tf->vector = (uint16_t)(KSS_VEC_IRQ + line);
    tf->raised_ns = raised_ns;
    KSSI_TRACE(t->machine, KSS_TR_ENTER, tf->vector, (uintptr_t)tf, kssi_frame_pc(tf), tf->mode);
    handle(tf);
    leave(kssi_this_cpu(), t, tf);
    kssi_stack_in_use(interrupted);
    kssi_set_host_errno(tf->host_errno);
}

/* ---- the vector table ------------------------------------------------------------------------- */

void kssi_trap_init(struct kss_machine *m)
{
    kssi_fault_init(m);
}

static int check_gate(unsigned vector, const struct kss_gate *g)
{
    if (g->type > KSS_GATE_TRAP || g->stack > KSSI_GATE_STACKS ||
        (g->privilege != KSS_PRIV_KERNEL && g->privilege != KSS_PRIV_USER))
        return kssi_error(-EINVAL, "vector %u: type %d, privilege %d, stack %u: one of them is none",
                          vector, (int)g->type, (int)g->privilege, g->stack);
    if (vector == KSS_VEC_NMI && g->type != KSS_GATE_NONE && !g->stack)
        return kssi_error(-EINVAL, "vector %u: a non-maskable interrupt may find a stack half made: its gate needs one of "
                                   "its own, 1 to 7", vector);
    if (g->type != KSS_GATE_NONE && !g->handler)
        return kssi_error(-EINVAL, "vector %u: a gate needs a handler", vector);
    return 0;
}

int kss_vector_table_load(struct kss_vector_table *table)
{
    if (!kssi_require_kernel())
        return kssi_error(-EPERM, "a vector table can be loaded on a simulated CPU only");
    if (!table)
        return kssi_error(-EINVAL, "vector table is NULL");
    int r = 0;
    bool on = kssi_irq_save(); /* all of it on one CPU */
    for (unsigned v = 0; v < KSS_VECTORS && r == 0; v++) {
        r = check_gate(v, &table->gate[v]);
        if (r == 0 && table->gate[v].stack)
            r = kssi_vector_stack_get(kssi_this_cpu(), table->gate[v].stack);
    }
    if (r == 0)
        kssi_this_cpu()->machine->platform->load_vector_table(table);
    kssi_irq_restore(on);
    return r;
}

struct kss_vector_table *kss_vector_table(void)
{
    return kssi_require_kernel() ? kssi_this_cpu()->machine->platform->vector_table() : NULL;
}

int kss_vector_set(struct kss_machine *m, unsigned vector, const struct kss_gate *gate)
{
    int r = kssi_require_config(m);
    if (r < 0)
        return r;
    if (vector >= KSS_VECTORS || !gate)
        return kssi_error(-EINVAL, "vector %u: 0 to 255, with a gate", vector);
    r = check_gate(vector, gate);
    if (r < 0)
        return r;
    if (m->life != KSSI_ENDED && gate->stack)
        for (unsigned i = 0; i < m->cpus && r == 0; i++)
            r = kssi_vector_stack_get(&m->cpu[i], gate->stack);
    if (r < 0)
        return r;
    bool on = kssi_this_cpu() && kssi_irq_save();
    m->vectors.gate[vector] = *gate;
    if (gate->type == KSS_GATE_NONE)
        kssi_vector_reset(m, vector);
    if (on)
        kssi_irq_enable();
    return 0;
}

int kss_vector_get(struct kss_machine *m, unsigned vector, struct kss_gate *gate)
{
    int r = kssi_require_config(m);
    if (r < 0)
        return r;
    if (vector >= KSS_VECTORS || !gate)
        return kssi_error(-EINVAL, "vector %u: 0 to 255, with room for the gate", vector);
    *gate = m->vectors.gate[vector];
    return 0;
}

/* ---- trap frames ------------------------------------------------------------------------------ */

uintptr_t kss_trap_pc(const struct kss_trap_frame *tf)
{
    return kssi_valid_frame(tf) < 0 ? 0 : kssi_frame_pc(tf);
}

uintptr_t kss_trap_sp(const struct kss_trap_frame *tf)
{
    return kssi_valid_frame(tf) < 0 ? 0 : kssi_frame_sp(tf);
}

uint64_t kss_trap_flags(const struct kss_trap_frame *tf)
{
    return kssi_valid_frame(tf) < 0 ? 0 : kssi_frame_flags(tf);
}

int kss_trap_register(const struct kss_trap_frame *tf, unsigned dwarf, uint64_t *value)
{
    int r = kssi_valid_frame(tf);
    if (r < 0)
        return r;
    if (!value || !kssi_frame_has(dwarf))
        return kssi_error(-EINVAL, value ? "no general register has the DWARF number %u"
                                         : "no place for the register with the DWARF number %u", dwarf);
    *value = kssi_frame_get(tf, dwarf);
    return 0;
}

void kss_trap_set_pc(struct kss_trap_frame *tf, uintptr_t pc)
{
    if (kssi_valid_frame(tf) == 0)
        kssi_frame_set_pc(tf, pc);
}

void kss_trap_set_result(struct kss_trap_frame *tf, long value)
{
    if (kssi_valid_frame(tf) == 0)
        kssi_frame_set_result(tf, value);
}

long kss_trap_argument(const struct kss_trap_frame *tf, unsigned index)
{
    long a[6];
    if (kssi_valid_frame(tf) < 0 || index >= 6)
        return 0;
    kssi_frame_arguments(tf, a);
    return a[index];
}

unsigned kss_trap_instruction_length(const struct kss_trap_frame *tf)
{
    return kssi_valid_frame(tf) < 0 ? 0 : kssi_frame_instruction_length(tf);
}

size_t kss_trap_frame_size(void)
{
    return kss_kstack_min_size() ? kssi_frame_size() : 0;
}

long kss_software_interrupt(unsigned vector, long argument)
{
    if (!kssi_this_cpu())
        return kssi_error(-EPERM, "software interrupts can be raised on a simulated CPU only");
    if (vector > 255 || vector == 3 || vector == 4 || vector == 0x80)
        return kssi_error(-EINVAL, "vector %u can't be raised by an instruction on this host", vector);
    return kssi_enter_by_int(vector, argument);
}

int kss_placement_start(unsigned line, uint64_t steps)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    if (!cpu || line >= KSS_IRQ_LINES || !steps)
        return kssi_error(-EINVAL, "line %u after %llu steps: line 0 to 63, at least 1 step, on a CPU",
                          line, (unsigned long long)steps);
    return cpu->machine->platform->placement_start(line, steps);
}

int kss_placement_stop(struct kss_placement *result)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    if (!cpu || !result)
        return kssi_error(-EINVAL, cpu ? "no place for what became of it" : "placements are made on a CPU");
    return cpu->machine->platform->placement_stop(result);
}

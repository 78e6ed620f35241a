/* SPDX-License-Identifier: MIT */
/*
 * The kernel's half of the common entry and the common exit. Every trap of every kind comes through
 * kssi_trap(), on the kernel stack, interrupts off.
 */
#include "kernel.h"

#include <errno.h>

/* ---- entry ------------------------------------------------------------------------------------ */

static void check_stack_end(struct kss_thread *t, const struct kss_trap_frame *tf)
{
    if (likely(kssi_kstack_canary_ok(t)))
        return;
    struct kssi_fault f = { .kind = KSS_REPORT_STACK_CORRUPTED, .action = KSS_ACTION_KILL_PROCESS,
                            .tf = tf, .sp = kssi_frame_sp(tf),
                            .message = "corrupted stack end: the canary is overwritten" };
    kssi_report(&f);
    t->ti->magic = KSS_THREAD_INFO_MAGIC;
    t->ti->thread = t;
    t->ti->canary = t->canary;
    t->ti->preempt_count = 0;
    kssi_die(KSS_KILLED + 1);
}

static void enter(struct kssi_cpu *cpu, struct kss_thread *t, struct kss_trap_frame *tf)
{
    if (tf->mode == KSS_MODE_USER) {
        KSS_ASSERT(!t->tf); /* the kernel stack of a thread in user mode is empty */
        if (unlikely(!t->kstack_arena))
            kssi_spare_stack_adopt(cpu, t);
        cpu->stats.entries_user++;
    }
    tf->prev = t->tf;
    t->tf = tf;
    if (++t->nesting > cpu->stats.max_nesting)
        cpu->stats.max_nesting = t->nesting;
    cpu->stats.entries++;
    cpu->stats.hw_words += 5;
    cpu->stats.handler_words += kssi_frame_saved_registers(tf);
    KSSI_TRACE(t->machine, KSS_TR_ENTER, tf->vector, (uintptr_t)tf, kssi_frame_pc(tf), tf->mode);
}

/* Runs the vector's handler. An interrupt gate leaves interrupts off, a trap gate as they were. */
static void dispatch(struct kssi_cpu *cpu, struct kss_trap_frame *tf)
{
    const struct kss_gate *gate = &cpu->machine->platform->vector_table()->gate[tf->vector & 0xff];
    if (tf->vector < KSS_VEC_IRQ)
        cpu->stats.exceptions++;
    else if (tf->vector == KSS_VEC_SYSCALL)
        cpu->stats.syscalls++;
    if (gate->type == KSS_GATE_TRAP && tf->irqs_on && !tf->stack)
        kssi_irq_enable();
    gate->handler(tf, gate->arg);
    kssi_irq_disable();
}

/* ---- exit ------------------------------------------------------------------------------------- */

/* Not on an interrupt or vector stack, nor when an exception was handled in the middle of libc. */
static bool may_switch(const struct kss_thread *t, const struct kss_trap_frame *tf)
{
    const struct kssi_cpu *cpu = kssi_this_cpu();
    return tf->irqs_on && !t->ti->preempt_count && !cpu->irq_depth &&
           (uintptr_t)tf - cpu->stacks.task.low < cpu->stacks.task.high - cpu->stacks.task.low &&
           (tf->vector >= KSS_VEC_IRQ || !t->machine->platform->in_host_code(kssi_frame_pc(tf)));
}

/* What must be done before the interrupted program goes on: others run, or it dies. Interrupts are
   off again whenever this is tested, so nothing is missed between the test and the exit. */
static void exit_work(struct kss_thread *t, struct kss_trap_frame *tf)
{
    for (;;) {
        uint32_t flags = t->ti->flags;
        if ((flags & KSS_TI_KILLED) && tf->mode == KSS_MODE_USER)
            kssi_thread_exit(t, t->exit_status, 0);
        if (!(flags & KSS_TI_NEED_RESCHED) || !may_switch(t, tf))
            return;
        kssi_schedule(KSS_SWITCH_PREEMPT);
    }
}

static void check_frame(struct kss_thread *t, const struct kss_trap_frame *tf)
{
    const char *wrong = kssi_frame_check(tf);
    if (likely(!wrong))
        return;
    struct kssi_fault f = { .kind = KSS_REPORT_BAD_FRAME, .action = KSS_ACTION_KILL_PROCESS,
                            .sp = (uintptr_t)tf, .message = wrong };
    t->tf = NULL;
    kssi_report(&f);
    kssi_die(KSS_KILLED + 1);
}

static void leave(struct kssi_cpu *cpu, struct kss_thread *t, struct kss_trap_frame *tf)
{
    KSSI_TRACE(t->machine, KSS_TR_LEAVE, tf->vector, (uintptr_t)tf, kssi_frame_pc(tf), tf->mode);
    t->nesting--;
    t->tf = tf->prev;
    if (tf->stack)
        cpu->stacks.vector_busy[tf->stack] = 0;
}

static void handle(struct kss_trap_frame *tf)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct kss_thread *t = cpu->current;
    if (unlikely(tf->stack)) /* `current` by masking works on vector stacks too */
        ((struct kss_thread_info *)((uintptr_t)tf & kssi_stack_mask))->thread = t;
    else
        check_stack_end(t, tf);
    dispatch(cpu, tf);
    exit_work(t, tf);
    check_frame(t, tf);
}

void kssi_trap(struct kss_trap_frame *tf)
{
    int saved = kssi_host_errno();
    struct kssi_cpu *cpu = kssi_this_cpu();
    struct kss_thread *t = cpu->current;
    tf->host_errno = saved;
    enter(cpu, t, tf);
    handle(tf);
    leave(kssi_this_cpu(), t, tf);
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
    tf->prev = t->tf;
    t->tf = tf;
    t->nesting++;
    tf->vector = (uint16_t)(KSS_VEC_IRQ + line);
    tf->raised_ns = raised_ns;
    KSSI_TRACE(t->machine, KSS_TR_ENTER, tf->vector, (uintptr_t)tf, kssi_frame_pc(tf), tf->mode);
    handle(tf);
    leave(kssi_this_cpu(), t, tf);
    kssi_set_host_errno(tf->host_errno);
}

/* ---- the vector table ------------------------------------------------------------------------- */

void kssi_trap_init(struct kss_machine *m)
{
    kssi_fault_init(m);
}

int kss_vector_table_load(struct kss_vector_table *table)
{
    if (!kssi_require_kernel())
        return kssi_error(-EPERM, "a vector table can be loaded on a simulated CPU only");
    if (!table)
        return kssi_error(-EINVAL, "vector table is NULL");
    kssi_this_cpu()->machine->platform->load_vector_table(table);
    return 0;
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
    if (gate->type > KSS_GATE_TRAP || gate->stack > 7 ||
        (gate->privilege != KSS_PRIV_KERNEL && gate->privilege != KSS_PRIV_USER))
        return kssi_error(-EINVAL, "vector %u: type %d, privilege %d, stack %u: one of them is none",
                          vector, (int)gate->type, (int)gate->privilege, gate->stack);
    if (gate->type != KSS_GATE_NONE && !gate->handler)
        return kssi_error(-EINVAL, "vector %u: a gate needs a handler", vector);
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
    return tf ? kssi_frame_pc(tf) : 0;
}

uintptr_t kss_trap_sp(const struct kss_trap_frame *tf)
{
    return tf ? kssi_frame_sp(tf) : 0;
}

uint64_t kss_trap_flags(const struct kss_trap_frame *tf)
{
    return tf ? kssi_frame_flags(tf) : 0;
}

int kss_trap_register(const struct kss_trap_frame *tf, unsigned dwarf, uint64_t *value)
{
    if (!tf || !value || !kssi_frame_has(dwarf))
        return kssi_error(-EINVAL, "no general register has the DWARF number %u", dwarf);
    *value = kssi_frame_get(tf, dwarf);
    return 0;
}

void kss_trap_set_pc(struct kss_trap_frame *tf, uintptr_t pc)
{
    if (tf && kssi_require_kernel())
        kssi_frame_set_pc(tf, pc);
}

void kss_trap_set_result(struct kss_trap_frame *tf, long value)
{
    if (tf && kssi_require_kernel())
        kssi_frame_set_result(tf, value);
}

long kss_trap_argument(const struct kss_trap_frame *tf, unsigned index)
{
    long a[6];
    if (!tf || index >= 6)
        return 0;
    kssi_frame_arguments(tf, a);
    return a[index];
}

unsigned kss_trap_instruction_length(const struct kss_trap_frame *tf)
{
    return tf ? kssi_frame_instruction_length(tf) : 0;
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
        return -EINVAL;
    return cpu->machine->platform->placement_stop(result);
}

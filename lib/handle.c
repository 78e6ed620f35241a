/* SPDX-License-Identifier: MIT */
/*
 * Handles: whether a pointer that somebody hands in is a machine, a thread, or a trap frame. Found out without
 * looking at what it points to, so that a freed, foreign or wild one is an error and no fault.
 *
 * A machine is what is registered here. A thread is a block of a slab (thread.c) that is in use. A handle may
 * come to name something new after what it named was freed, as a file descriptor may: that can't be seen.
 */
#include "kernel.h"

#include <errno.h>

uintptr_t kssi_stack_mask;
struct kss_machine *kssi_machines[KSSI_MACHINES_MAX];
static struct kssi_slab slabs[KSSI_MACHINES_MAX];
static bool taken[KSSI_MACHINES_MAX]; /* also by a machine that is being made or unmade, and is no handle */
static unsigned machines_alive; /* with this mask */
static struct kss_spinlock registry = KSS_SPINLOCK_INIT("machines");
static unsigned users[KSSI_MACHINES_MAX]; /* who is in the middle of a call, see kssi_machine_hold() */

static struct kss_machine *at(unsigned place)
{
    return __atomic_load_n(&kssi_machines[place], __ATOMIC_SEQ_CST);
}

static int place_of(const struct kss_machine *m)
{
    for (unsigned i = 0; m && i < KSSI_MACHINES_MAX; i++)
        if (at(i) == m)
            return (int)i;
    return -1;
}

/* thread_info is found with one mask, so all machines alive at a time must agree on it. */
int kssi_machine_register(struct kss_machine *m, size_t stack_align)
{
    uintptr_t mask = ~(uintptr_t)(stack_align - 1);
    int r = 0;
    unsigned place = 0;
    kss_spin_lock(&registry);
    while (place < KSSI_MACHINES_MAX && taken[place])
        place++;
    if (machines_alive && kssi_stack_mask != mask) {
        r = -EBUSY;
    } else if (place == KSSI_MACHINES_MAX) {
        r = -EAGAIN;
    } else {
        kssi_stack_mask = mask;
        taken[place] = true;
        m->slab = &slabs[place];
        machines_alive++;
    }
    kss_spin_unlock(&registry, false);
    if (r == -EAGAIN)
        return kssi_error(r, "%d machines are alive: that is the most", KSSI_MACHINES_MAX);
    if (r < 0)
        return kssi_error(r, "kstack_max is %zu, but another machine is alive with %zu: stacks are found by one mask",
                          stack_align, (size_t)(~kssi_stack_mask + 1));
    return 0;
}

void kssi_machine_publish(struct kss_machine *m)
{
    __atomic_store_n(&kssi_machines[m->slab - slabs], m, __ATOMIC_SEQ_CST);
}

/* When this returns nobody is in a call that holds it, and no call finds it. */
void kssi_machine_hide(struct kss_machine *m)
{
    size_t place = (size_t)(m->slab - slabs);
    __atomic_store_n(&m->slab->used, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&kssi_machines[place], NULL, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&users[place], __ATOMIC_SEQ_CST))
        kssi_relax();
}

/* Its stacks are gone. */
void kssi_machine_forget(struct kss_machine *m)
{
    kss_spin_lock(&registry);
    taken[m->slab - slabs] = false;
    machines_alive--;
    kss_spin_unlock(&registry, false);
}

/*
 * For the calls that may come from host signal handlers and other host threads, while somebody destroys the
 * machine: it stays until kssi_machine_drop(). The count goes up before the second look, the destroyer hides
 * the machine before it looks at the count: so either it waits, or the machine is not found here.
 * Interrupts are off in between, or a simulated caller could be switched away from and never come back.
 */
bool kssi_machine_hold(const struct kss_machine *m, struct kssi_hold *h)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    bool kernel = kssi_cpu_mode() == KSS_MODE_KERNEL;
    int place = place_of(m);
    *h = (struct kssi_hold){ .place = -1 };
    if (place < 0)
        return false;
    /* A CPU's own machine is not destroyed while it runs. Nor may it be held: a fault in here, or an NMI that stops the
       machine, would leave it held for ever. User mode can't turn interrupts off. */
    if (cpu && (!kernel || cpu->machine == m))
        return true;
    h->irqs_on = kernel && kssi_irq_save();
    h->place = place;
    __atomic_add_fetch(&users[place], 1, __ATOMIC_SEQ_CST);
    if (at((unsigned)place) == m)
        return true;
    kssi_machine_drop(h);
    return false;
}

void kssi_machine_drop(const struct kssi_hold *h)
{
    if (h->place >= 0)
        __atomic_sub_fetch(&users[h->place], 1, __ATOMIC_SEQ_CST);
    kssi_irq_restore(h->irqs_on);
}

int kssi_no_machine(const struct kss_machine *m)
{
    if (!m)
        return kssi_error(-EINVAL, "machine is NULL");
    return kssi_error(-EINVAL, "machine %p is none: freed, or not made by kss_machine_create()", (const void *)m);
}

int kssi_valid_machine(const struct kss_machine *m)
{
    return likely(place_of(m) >= 0) ? 0 : kssi_no_machine(m);
}

/* ---- threads ---------------------------------------------------------------------------------- */

/*
 * The slabs are no part of their machines, since those of others may go at any time. Base and size belong
 * together if the size has not changed in between: it goes to 0 before another slab takes the place.
 */
static bool in_slab(const struct kssi_slab *s, uintptr_t p)
{
    size_t used = __atomic_load_n(&s->used, __ATOMIC_SEQ_CST), again;
    bool in = false;
    for (; used; used = again) {
        uintptr_t base = (uintptr_t)__atomic_load_n(&s->base, __ATOMIC_SEQ_CST);
        in = p >= base && p - base < used && used - (p - base) >= sizeof(struct kss_thread);
        again = __atomic_load_n(&s->used, __ATOMIC_SEQ_CST);
        if (again == used)
            return in;
    }
    return false;
}

/* A block knows its own number from its first use on, which keeps a pointer into the middle of one from
   passing, and costs no division. */
static bool is_block(const struct kssi_slab *s, const struct kss_thread *t)
{
    return (uintptr_t)s->base + (size_t)t->block * s->block_size == (uintptr_t)t && t->magic == KSSI_THREAD_MAGIC;
}

struct kss_machine *kssi_thread_machine(const struct kss_thread *t)
{
    const struct kss_machine *here = kss_machine_current();
    const struct kssi_slab *s = here ? here->slab : NULL;
    uintptr_t p = (uintptr_t)t;
    if (!p || p % 64)
        return NULL;
    for (unsigned i = 0; !(s && in_slab(s, p)); s = &slabs[i++])
        if (i == KSSI_MACHINES_MAX)
            return NULL;
    return is_block(s, t) ? t->machine : NULL;
}

int kssi_valid_thread(const struct kss_thread *t)
{
    if (likely(kssi_thread_machine(t) != NULL))
        return 0;
    if (!t)
        return kssi_error(-EINVAL, "thread is NULL");
    return kssi_error(-EINVAL, "thread %p is none: reaped, or its machine is gone, or it never was one",
                      (const void *)t);
}

int kssi_own_thread(const struct kss_thread *t)
{
    const struct kss_machine *here = kss_machine_current(), *m = kssi_thread_machine(t);
    if (likely(m && (m == here || !here)))
        return 0;
    return m ? kssi_error(-EINVAL, "thread %d (%s) belongs to another machine", t->tid, t->name)
             : kssi_valid_thread(t);
}

int kssi_view_thread(const struct kss_thread *t)
{
    bool kernel = kssi_require_kernel();
    int r = kssi_own_thread(t);
    return likely(r < 0 || kernel) ? r : kssi_require_view(t->machine);
}

/* ---- trap frames ------------------------------------------------------------------------------- */

/* How many bytes of a kernel stack of this machine lie from p upward; 0: none. */
static size_t stack_from(const struct kss_machine *m, uintptr_t p)
{
    for (size_t i = 0; i < sizeof m->kernel_arenas / sizeof m->kernel_arenas[0]; i++) {
        const struct kssi_arena *a = m->kernel_arenas[i];
        if (!a)
            break;
        if (p < (uintptr_t)a->base || p - (uintptr_t)a->base >= a->fresh * a->stride)
            continue;
        size_t offset = (p - (uintptr_t)a->base) % a->stride;
        return offset < a->size ? a->size - offset : 0;
    }
    return 0;
}

int kssi_valid_frame(const struct kss_trap_frame *tf)
{
    if (!kssi_require_kernel())
        return kssi_error(-EPERM, "trap frames can be looked at in kernel mode only");
    size_t room = (uintptr_t)tf % 64 ? 0 : stack_from(kss_machine_current(), (uintptr_t)tf);
    if (room >= sizeof *tf && tf->magic == KSS_TRAP_FRAME_MAGIC && tf->size <= room)
        return 0;
    return tf ? kssi_error(-EINVAL, "%p is no trap frame of this machine", (const void *)tf)
              : kssi_error(-EINVAL, "trap frame is NULL");
}

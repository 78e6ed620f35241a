/* SPDX-License-Identifier: MIT */
/* deep_path: a path through a file system, interrupted in its depths by a path through a network stack. */
#include <errno.h>

#include "dp.h"

#define LINE_NET KSS_LINE_FREE
#define LINE_DISK (KSS_LINE_FREE + 1)
#define SOFTIRQ_NET 3
#define VEC_LOOK KSS_VEC_SOFTWARE
#define SYS_READ_FILE KSS_SYS_EXPERIMENT
#define SYS_HOLD (SYS_READ_FILE + 1)
#define SYS_SAVE (SYS_READ_FILE + 2)
#define SYS_RELEASE (SYS_READ_FILE + 3)
KSS_SYSCALL_STUB1(read_file, SYS_READ_FILE, long, block)
KSS_SYSCALL_STUB0(hold, SYS_HOLD)
KSS_SYSCALL_STUB1(save_stack_of, SYS_SAVE, long, tid)
KSS_SYSCALL_STUB0(release, SYS_RELEASE)

static struct dp_run *run;
static struct kss_wait_queue bystanders;
static _Atomic bool released, holding, nmi_over;

/*
 * Each function has a frame of its own and some local data, which it really uses: a struct bio, a list of requests, a
 * header that is being built. How many bytes is a matter of the run (see main()).
 */
#ifdef __clang__
#define KEEP_FRAME __attribute__((noinline, optnone))
#else
#define KEEP_FRAME __attribute__((noipa))
#endif
#define MARK 0x5d
#define LOCALS                                  \
    volatile unsigned char local[run->locals];  \
    for (size_t i_ = 0; i_ < run->locals; i_++) \
        local[i_] = MARK
#define UNHURT(r) (local[0] == MARK && local[run->locals - 1] == MARK ? (r) : -EIO)

/* ---- a bystander's stack, as memory ------------------------------------------------------------- */

/* Live frames are no objects that one may copy: byte by byte, and no sanitizer is to mind. */
__attribute__((no_sanitize("address"))) bool dp_neighbour(struct dp_run *r, bool save)
{
    const volatile unsigned char *stack = (const volatile unsigned char *)r->neighbour.low;
    bool same = true;
    for (size_t i = 0; i < r->neighbour.size; i++) {
        if (save)
            r->saved[i] = stack[i];
        same = same && r->saved[i] == stack[i];
    }
    return same;
}

/* ---- at the deepest point: nothing is disturbed that is measured, since this has vector stack 4 t */

static void look(struct kss_trap_frame *frame, void *arg)
{
    struct kss_machine *m = kss_machine_current();
    (void)frame;
    (void)arg;
    run->looks++;
    kss_kstack_draw(NULL, run->picture, sizeof run->picture);
    run->frames = kss_backtrace(NULL, run->frame, DP_FRAMES);
    for (int i = 0; i < run->frames; i++)
        run->on[i] = kss_stack_find(m, run->frame[i].sp, NULL);
}

KEEP_FRAME static long nmi_read_counters(void)
{
    LOCALS;
    long r = kss_software_interrupt(VEC_LOOK, 0);
    return UNHURT(r);
}

/* Not even interrupts that are off keep it out. */
static void nmi_profiler(struct kss_trap_frame *frame, void *arg)
{
    (void)frame;
    (void)arg;
    nmi_read_counters();
    nmi_over = true;
}

/* ---- the disk's interrupt, in the middle of the softirq ----------------------------------------- */

KEEP_FRAME static long disk_complete_request(void)
{
    LOCALS;
    nmi_over = false;
    kss_nmi_raise(kss_machine_current(), 0);
    while (!nmi_over) /* it comes some microseconds later: here */
        ;
    return UNHURT(1);
}

KEEP_FRAME static void disk_interrupt(unsigned line, void *arg)
{
    LOCALS;
    (void)arg;
    run->blocks += UNHURT(disk_complete_request());
    kss_irq_eoi(line);
}

/* ---- the network -------------------------------------------------------------------------------- */

KEEP_FRAME static long socket_deliver(void)
{
    LOCALS;
    kss_irq_raise(kss_machine_current(), 0, LINE_DISK); /* softirqs run with interrupts on: it is taken here */
    return UNHURT(1);
}

KEEP_FRAME static long tcp_receive(void)
{
    LOCALS;
    long r = socket_deliver();
    return UNHURT(r);
}

KEEP_FRAME static long ip_receive(void)
{
    LOCALS;
    long r = tcp_receive();
    return UNHURT(r);
}

/* The softirq: what the interrupt has left for later. */
KEEP_FRAME static void net_receive(void *arg)
{
    LOCALS;
    (void)arg;
    run->blocks += UNHURT(ip_receive());
}

/* The hard irq takes the packet from the card, and leaves the rest to the softirq: interrupts are off here. */
static void net_interrupt(unsigned line, void *arg)
{
    (void)arg;
    kss_softirq_raise(SOFTIRQ_NET);
    kss_irq_eoi(line);
}

/* ---- the file system ---------------------------------------------------------------------------- */

/* In its deepest function the network card raises its line, always at the same instruction. */
KEEP_FRAME static long driver_start_request(long block)
{
    LOCALS;
    kss_irq_raise(kss_machine_current(), 0, LINE_NET);
    return UNHURT(block);
}

KEEP_FRAME static long block_submit(long block)
{
    LOCALS;
    long r = driver_start_request(block);
    return UNHURT(r);
}

KEEP_FRAME static long volume_map(long block)
{
    LOCALS;
    long r = block_submit(block + 2048);
    return UNHURT(r);
}

KEEP_FRAME static long fs_map_block(long block)
{
    LOCALS;
    long r = volume_map(8 * block);
    return UNHURT(r);
}

KEEP_FRAME static long fs_read_page(long block)
{
    LOCALS;
    long r = fs_map_block(block);
    return UNHURT(r);
}

KEEP_FRAME static long vfs_read(long block)
{
    LOCALS;
    long r = fs_read_page(block);
    return UNHURT(r);
}

const char *const dp_names[] = { "reader", "sys_read_file", "vfs_read", "fs_read_page", "fs_map_block", "volume_map",
                                 "block_submit", "driver_start_request", "net_interrupt", "net_receive", "ip_receive",
                                 "tcp_receive", "socket_deliver", "disk_interrupt", "disk_complete_request",
                                 "nmi_profiler", "nmi_read_counters", NULL };

/* ---- system calls ------------------------------------------------------------------------------- */

KEEP_FRAME static long sys_read_file(const struct kss_syscall_args *a)
{
    return vfs_read(a->a[0]) < 0 ? -EIO : 0;
}

/* The bystander: its computation lies suspended on its kernel stack all the time. */
static long sys_hold(const struct kss_syscall_args *a)
{
    (void)a;
    holding = true;
    kss_wait_event(&bystanders, released);
    return 0;
}

static long sys_save(const struct kss_syscall_args *a)
{
    struct kss_thread *t = kss_thread_find(kss_machine_current(), (int)a->a[0]);
    int r = t ? kss_kstack_info(t, &run->neighbour) : -ESRCH;
    if (r == 0)
        dp_neighbour(run, true);
    return r;
}

static long sys_release(const struct kss_syscall_args *a)
{
    (void)a;
    run->neighbour_unchanged = dp_neighbour(run, false);
    released = true;
    return kss_wake_up(&bystanders, 0);
}

int dp_install(struct kss_machine *m, struct dp_run *r)
{
    const struct kss_gate nmi = { nmi_profiler, NULL, KSS_GATE_INTERRUPT, KSS_PRIV_KERNEL, 2 };
    const struct kss_gate looker = { look, NULL, KSS_GATE_INTERRUPT, KSS_PRIV_KERNEL, 4 };
    run = r;
    released = holding = false;
    kss_wait_queue_init(&bystanders, "bystanders");
    int e = kss_syscall_register(m, SYS_READ_FILE, sys_read_file, "read_file");
    if (e == 0)
        e = kss_syscall_register(m, SYS_HOLD, sys_hold, "hold");
    if (e == 0)
        e = kss_syscall_register(m, SYS_SAVE, sys_save, "save");
    if (e == 0)
        e = kss_syscall_register(m, SYS_RELEASE, sys_release, "release");
    if (e == 0)
        e = kss_irq_request(m, LINE_NET, net_interrupt, NULL, "network card");
    if (e == 0)
        e = kss_irq_request(m, LINE_DISK, disk_interrupt, NULL, "disk");
    if (e == 0)
        e = kss_softirq_request(m, SOFTIRQ_NET, net_receive, NULL, "network");
    if (e == 0)
        e = kss_vector_set(m, KSS_VEC_NMI, &nmi);
    if (e == 0)
        e = kss_vector_set(m, VEC_LOOK, &looker);
    if (e == 0)
        e = kss_irq_mask(m, KSS_LINE_TIMER); /* no tick: nothing but the path is to lie on the stacks */
    return e;
}

/* ---- in user mode ------------------------------------------------------------------------------- */

KEEP_FRAME static long reader(void *arg)
{
    (void)arg;
    return read_file(1234) != 0;
}

static long bystander(void *arg)
{
    (void)arg;
    return hold();
}

long dp_main(void *arg)
{
    int status = 1, other = 1;
    (void)arg;
    long neighbour = kss_spawn(bystander, NULL, &(struct kss_spawn_attr){ .name = "bystander" });
    while (neighbour > 0 && !holding)
        kss_yield();
    if (neighbour < 0 || save_stack_of(neighbour) < 0)
        return 2;
    long pid = kss_spawn(reader, NULL, &(struct kss_spawn_attr){ .name = "reader" });
    run->reader_tid = (int)pid;
    if (pid < 0 || kss_wait(pid, &status) < 0 || release() < 0 || kss_wait(neighbour, &other) < 0)
        return 2;
    return status || other;
}

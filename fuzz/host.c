/* SPDX-License-Identifier: MIT */
/* What happens on the host: the configuration, devices and handlers before the run, a foreign thread during it. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- the configuration ------------------------------------------------------------------------------ */

#define FIELD(f) { offsetof(struct kss_config, f), sizeof(((struct kss_config *)0)->f) }
static const struct field {
    size_t offset, size;
} fields[] = {
    FIELD(struct_size), FIELD(cpus), FIELD(tick_hz), FIELD(max_threads), FIELD(kstack_size), FIELD(kstack_max),
    FIELD(user_stack_size), FIELD(guards), FIELD(guard_size), FIELD(kstack_alloc), FIELD(zombie_stacks),
    FIELD(irq_stacks), FIELD(kstack_cache), FIELD(protect), FIELD(syscall_entry), FIELD(timeslice_ns),
    FIELD(trace_events), FIELD(watchdog), FIELD(watchdog.hung_task_ns), FIELD(watchdog.eoi_ns), FIELD(policy[KSS_REPORT_KERNEL_FAULT]), FIELD(policy[KSS_REPORT_INVARIANT]),
    FIELD(seed),
};

/* Any number into any field: most are refused, and must say which field it was. */
static void change_field(struct run *r, struct kss_config *c)
{
    const struct field *f = &fields[take(&r->code) % (sizeof fields / sizeof fields[0])];
    uint64_t value = number(r);
    memcpy((char *)c + f->offset, &value, f->size < sizeof value ? f->size : sizeof value);
}

static void good_config(struct run *r, struct kss_config *c)
{
    static const struct kss_sched_class *const classes[] = { &kss_sched_rr, &kss_sched_priority, &fuzz_class,
                                                             &kss_sched_rr };
    uint8_t a = take(&r->code), b = take(&r->code), d = take(&r->code), e = take(&r->code);
    kss_config_init(c);
    c->tick_hz = 500u << (a & 3);
    c->timeslice_ns = a & 4 ? 1000000 : 0;
    c->max_threads = 6 + (a >> 4);
    c->kstack_size = a & 8 ? 16384 : 32768;
    c->guards = (enum kss_guards)(b % 3);
    c->guard_size = b & 4 ? 4096 : 65536;
    c->kstack_alloc = b & 8 ? KSS_KSTACK_AT_FIRST_ENTRY : KSS_KSTACK_AT_CREATE;
    c->zombie_stacks = b & 16 ? KSS_ZOMBIE_FREES_STACK : KSS_ZOMBIE_KEEPS_STACK;
    c->irq_stacks = b & 32 ? KSS_IRQ_STACKS_PER_CPU : KSS_IRQ_STACKS_NONE;
    c->syscall_entry = b & 64 ? KSS_SYSCALL_GATE : KSS_SYSCALL_TRAP;
    c->kstack_cache = b & 128 ? 1 : 64;
    c->sched = classes[d & 3];
    c->trace = d & 4;
    c->latency = d & 8;
    c->poison = !(d & 16);
    c->check_switches = d & 32;
    c->lock_order = d & 64;
    c->profile = d & 128;
    c->kstack_erase = (e & 1) && c->poison;
    c->kstack_randomize = e & 2;
    c->kstack_quarantine = e & 4;
    c->protect = (e & 24) == 24 && c->syscall_entry == KSS_SYSCALL_TRAP ? KSS_PROTECT_MPROTECT : KSS_PROTECT_OFF;
    fuzz.mood = e >> 5;
    c->trace_events = 256;
    c->user_stack_size = 32768;
    c->seed = 1;
}

/* A field that makes the machine large is tried, and not run with. */
static bool is_small(const struct kss_config *c)
{
    return c->kstack_size <= 1u << 18 && c->kstack_max <= 1u << 18 && c->max_threads <= 256 &&
           c->trace_events <= 1u << 16 && c->user_stack_size <= 1u << 24 && c->guard_size <= 1u << 20;
}

void make_config(struct run *r, struct kss_config *c)
{
    struct kss_machine *m = NULL;
    good_config(r, c);
    struct kss_config changed = *c;
    for (unsigned n = take(&r->code) % 4; n; n--)
        change_field(r, &changed);
    kss_set_error(0, "%s", "");
    int result = kss_machine_create(&m, &changed);
    if (result < 0 && (m || !kss_last_error()[0]))
        abort(); /* something is left, or nothing was said */
    kss_machine_destroy(m);
    if (result == 0 && is_small(&changed))
        *c = changed;
    c->on_report = report_callback;
}

/* ---- devices and handlers ------------------------------------------------------------------------------ */

static long device_io(struct kss_file *f, void *user, size_t n)
{
    f->position += n % 7;
    return (long)(n - kss_copy_to_user(user, &fuzz.smashed, n ? 1 : 0));
}

static long device_open(struct kss_file *f)
{
    return f->flags == O_WRONLY ? -EACCES : 0;
}

static void device_close(struct kss_file *f)
{
    struct kss_machine_stats s;
    kss_machine_stats(f->data, &s); /* on the host too: the handle is still good */
}

static const struct kss_device_ops device_ops = { device_open, device_io, NULL, device_close };

static void attach_disk(struct run *r, struct kss_machine *m, const char *name, uint64_t rate)
{
    char path[64];
    int fd = memfd_create("disk", 0);
    struct kss_disk_config c = { .name = take(&r->code) < 4 ? NULL : name, .path = take(&r->code) < 4 ? "/" : path,
                                 .writable = true, .bytes_per_second = rate,
                                 .max_transfer = take(&r->code) < 8 ? number(r) : 512 };
    if (fd < 0 || ftruncate(fd, 8192) < 0)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    kss_disk_attach(m, take(&r->code) < 4 ? NULL : &c);
    close(fd);
}

static void attach_console(struct run *r, struct kss_machine *m)
{
    struct kss_console_config c = { fuzz.host_descriptor[0], -1, false };
    if (take(&r->code) < 8)
        c.output_fd = (int)number(r) | 1 << 20;
    if (take(&r->code) < 64)
        c.input_fd = -1;
    kss_console_attach(m, take(&r->code) < 4 ? NULL : &c);
}

void set_up(struct run *r)
{
    struct kss_machine *m = fuzz.m;
    uint8_t what = take(&r->code);
    struct kss_gate g = { trap_handler, NULL, what & 1 ? KSS_GATE_TRAP : KSS_GATE_INTERRUPT,
                          what & 2 ? KSS_PRIV_USER : KSS_PRIV_KERNEL, what >> 5 };
    if (kss_syscall_register(m, SYS_KERNEL_OPS, kernel_call, "kernel") < 0)
        abort();
    for (unsigned line = OWN_LINES; line < OWN_LINES + 6; line++)
        kss_irq_request(m, line, irq_handler, NULL, "fuzz");
    for (unsigned v = OWN_VECTORS; v < OWN_VECTORS + 8; v++)
        kss_vector_set(m, v, &g);
    for (unsigned i = 0; i < 4; i++)
        kss_softirq_request(m, i, softirq_handler, (void *)(uintptr_t)i, "fuzz");
    kss_irq_set_priority(m, OWN_LINES, take(&r->code) % 17);
    kss_irq_mask(m, OWN_LINES + 1);
    if (what & 4)
        attach_disk(r, m, "disk", 0);
    if (what & 8)
        attach_disk(r, m, "slow", 1);
    if (what & 16)
        attach_console(r, m);
    kss_device_register(m, "device", &device_ops, m);
    kss_device_register(m, take(&r->code) < 128 ? "device" : NULL, &device_ops, NULL);
}

/* ---- a foreign thread ------------------------------------------------------------------------------------- */

static void from_a_signal_handler(int sig)
{
    (void)sig;
    kss_irq_raise(fuzz.m, 0, OWN_LINES + 2);
}

void run_host(struct run *r)
{
    struct sigaction sa = { .sa_handler = from_a_signal_handler }, before;
    sigaction(SIGUSR2, &sa, &before);
    while (r->left-- && r->code.p < r->code.end) {
        uint8_t what = take(&r->code);
        if (what & 1)
            kss_irq_raise(some_machine(r), 0, some_line(r));
        if ((what & 65) == 65)
            kss_nmi_raise(some_machine(r), take(&r->code) < 16);
        if (what & 2)
            look_around(r);
        if (what & 4)
            raise(SIGUSR2);
        if (what & 8 && write(fuzz.host_descriptor[1], "ab\x7f\ncd\004", 7) < 0)
            sched_yield(); /* it is full */
        if (what & 16)
            usleep(take(&r->code) * 4u);
        if ((what & 0xe0) == 0xe0)
            kss_machine_stop(some_machine(r));
        if ((what & 0xe0) == 0x60)
            kss_machine_run(some_machine(r), NULL, NULL, NULL);
    }
    sigaction(SIGUSR2, &before, NULL);
}

/* SPDX-License-Identifier: MIT */
/* REQ C1: strict C11 sees the whole interface, the defaults are as documented, and a program of it runs. */
#include <kstacksim/kstacksim.h>

#include <stdio.h>
#include <string.h>

#define SYS_TWICE KSS_SYS_EXPERIMENT

KSS_SYSCALL_STUB1(twice, SYS_TWICE, long, value)
KSS_SYSCALL_STUB0(my_getpid, KSS_SYS_GETPID)
KSS_SYSCALL_STUB2(my_getpriority, KSS_SYS_GETPRIORITY, long, tid, long, unused)
KSS_SYSCALL_STUB3(my_write, KSS_SYS_WRITE, int, fd, const void *, buffer, size_t, n)

static struct kss_spinlock lock = KSS_SPINLOCK_INIT("lock");
static int failed;

#define EXPECT(what, value, wanted)                                                          \
    do {                                                                                     \
        unsigned long long value_ = (unsigned long long)(value);                             \
        unsigned long long wanted_ = (unsigned long long)(wanted);                           \
        if (value_ != wanted_) {                                                             \
            printf("compile_c11: %s is %llu, not %llu\n", what, value_, wanted_);            \
            failed = 1;                                                                      \
        }                                                                                    \
    } while (0)

static long sys_twice(const struct kss_syscall_args *args)
{
    bool on = kss_spin_lock(&lock);
    long r = 2 * args->a[0];
    kss_spin_unlock(&lock, on);
    return r;
}

static long main_fn(void *arg)
{
    (void)arg;
    EXPECT("twice(21)", twice(21), 42);
    EXPECT("getpid", my_getpid(), kss_getpid());
    EXPECT("priority", my_getpriority(0, 0), KSS_PRIO_DEFAULT);
    EXPECT("write", my_write(9, "x", 1) < 0, 1);
    return 7;
}

/* What machine.h says of kss_config_init(). */
static void defaults(void)
{
    struct kss_config c;
    memset(&c, 0x5a, sizeof c);
    kss_config_init(&c);
    EXPECT("struct_size", c.struct_size, sizeof c);
    EXPECT("cpus", c.cpus, 1);
    EXPECT("tick_hz", c.tick_hz, 250);
    EXPECT("max_threads", c.max_threads, 4096);
    EXPECT("kstack_size", c.kstack_size, 32768);
    EXPECT("kstack_max", c.kstack_max, 65536);
    EXPECT("user_stack_size", c.user_stack_size, 262144);
    EXPECT("guards", c.guards, KSS_GUARDS_BOTH);
    EXPECT("kstack_alloc", c.kstack_alloc, KSS_KSTACK_AT_CREATE);
    EXPECT("zombie_stacks", c.zombie_stacks, KSS_ZOMBIE_KEEPS_STACK);
    EXPECT("irq_stacks", c.irq_stacks, KSS_IRQ_STACKS_NONE);
    EXPECT("kstack_cache", c.kstack_cache, 64);
    EXPECT("canary", c.canary, true);
    EXPECT("poison", c.poison, true);
    EXPECT("syscall_entry", c.syscall_entry, KSS_SYSCALL_TRAP);
    EXPECT("sched", c.sched == &kss_sched_rr, true);
    EXPECT("timeslice_ns", c.timeslice_ns, 4000000);
    EXPECT("trace", c.trace, false);
    EXPECT("trace_events", c.trace_events, 16384);
    EXPECT("latency", c.latency, false);
    EXPECT("check_switches", c.check_switches, false);
    EXPECT("check_host_blocks", c.check_host_blocks, false);
    EXPECT("unsafe_host_calls", c.unsafe_host_calls, false);
    EXPECT("host_signals", c.host_signals, false);
    EXPECT("seed", c.seed, 0);
    EXPECT("on_report", c.on_report == NULL, true);
    EXPECT("report_arg", c.report_arg == NULL, true);
    kss_config_init(NULL); /* does nothing */
}

int main(void)
{
    struct kss_config c;
    struct kss_machine *m;
    int status = -1;

    defaults();
    if (strcmp(kss_version(), KSS_VERSION_STRING) != 0) {
        printf("compile_c11: library %s, headers %s\n", kss_version(), KSS_VERSION_STRING);
        failed = 1;
    }
    kss_config_init(&c);
    if (kss_machine_create(&m, &c) < 0) {
        printf("compile_c11: no machine: %s\n", kss_last_error());
        return 1;
    }
    EXPECT("register", kss_syscall_register(m, SYS_TWICE, sys_twice, "twice"), 0);
    EXPECT("run", kss_machine_run(m, main_fn, NULL, &status), 0);
    EXPECT("exited", KSS_WIFEXITED(status), true);
    EXPECT("status", KSS_WEXITSTATUS(status), 7);
    EXPECT("destroy", kss_machine_destroy(m), 0);
    return failed;
}

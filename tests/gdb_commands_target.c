/* SPDX-License-Identifier: MIT */
/*
 * What gdb_commands.sh looks at: when it stops in stop_in_user() and then in stop_in_kernel(), main (thread
 * 2) runs, guests (3 to 5) sleep in a system call, grinder (6) was preempted in the middle of a system call,
 * and stroller (7) in user mode.
 */
#include <kstacksim/kstacksim.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SYS_DRINK KSS_SYS_EXPERIMENT
#define SYS_GRIND (KSS_SYS_EXPERIMENT + 1)
#define SYS_LOOK (KSS_SYS_EXPERIMENT + 2)
#define SYS_SERVE (KSS_SYS_EXPERIMENT + 3)
#define SYS_ASLEEP (KSS_SYS_EXPERIMENT + 4)
#define GUESTS 3
#define THREADS 32

static struct kss_wait_queue tea;
static volatile int served, grinding, strolling;

KSS_SYSCALL_STUB0(drink, SYS_DRINK)
KSS_SYSCALL_STUB0(grind, SYS_GRIND)
KSS_SYSCALL_STUB0(asleep, SYS_ASLEEP)
KSS_SYSCALL_STUB0(look, SYS_LOOK)
KSS_SYSCALL_STUB0(serve, SYS_SERVE)

/* Where gdb_commands.sh puts its breakpoints. */
__attribute__((noinline, used)) static void stop_in_user(void)
{
    __asm__ volatile("" ::: "memory");
}

__attribute__((noinline, used)) static void stop_in_kernel(void)
{
    __asm__ volatile("" ::: "memory");
}

__attribute__((noinline)) static void wait_for_tea(void)
{
    kss_wait_event(&tea, served);
}

static long sys_drink(const struct kss_syscall_args *args)
{
    (void)args;
    wait_for_tea();
    return 0;
}

/* Does not give up the CPU: it is taken away. */
static long sys_grind(const struct kss_syscall_args *args)
{
    (void)args;
    while (!served)
        grinding = 1;
    return 0;
}

/* How many guests sleep. */
static long sys_asleep(const struct kss_syscall_args *args)
{
    static struct kss_thread_info_snapshot s[THREADS];
    int n = kss_threads(kss_machine_current(), s, THREADS), count = 0;
    (void)args;
    for (int i = 0; i < n && i < THREADS; i++)
        count += strcmp(s[i].name, "guest") == 0 && s[i].state == KSS_THREAD_SLEEPING && s[i].wait_channel;
    return count;
}

__attribute__((noinline)) static long sys_look(const struct kss_syscall_args *args)
{
    (void)args;
    stop_in_kernel();
    return 0;
}

static long sys_serve(const struct kss_syscall_args *args)
{
    (void)args;
    return kss_wake_up(&tea, 0);
}

__attribute__((noinline)) static long guest(void *arg)
{
    (void)arg;
    return drink();
}

static long grinder(void *arg)
{
    (void)arg;
    return grind();
}

static long stroller(void *arg)
{
    (void)arg;
    while (!served)
        strolling = 1;
    return 0;
}

static long spawn(const char *name, kss_user_fn fn)
{
    struct kss_spawn_attr attr = { .name = name };
    return kss_spawn(fn, NULL, &attr);
}

static long host(void *arg)
{
    long sum = 0;
    int status;
    (void)arg;
    for (int i = 0; i < GUESTS; i++)
        spawn("guest", guest);
    spawn("grinder", grinder);
    spawn("stroller", stroller);
    while (!grinding || !strolling)
        kss_yield();
    while (asleep() != GUESTS)
        kss_yield();
    stop_in_user();
    look();
    served = 1;
    serve();
    while (kss_wait(-1, &status) > 0)
        sum += status;
    return sum;
}

int main(void)
{
    struct kss_config c;
    struct kss_machine *m;
    int status = -1;

    kss_config_init(&c);
    if (getenv("KSS_TEST_ENTRY") && strcmp(getenv("KSS_TEST_ENTRY"), "gate") == 0)
        c.syscall_entry = KSS_SYSCALL_GATE;
    kss_wait_queue_init(&tea, "tea");
    if (kss_machine_create(&m, &c) < 0 || kss_syscall_register(m, SYS_DRINK, sys_drink, "drink") < 0 ||
        kss_syscall_register(m, SYS_GRIND, sys_grind, "grind") < 0 ||
        kss_syscall_register(m, SYS_LOOK, sys_look, "look") < 0 ||
        kss_syscall_register(m, SYS_ASLEEP, sys_asleep, "asleep") < 0 ||
        kss_syscall_register(m, SYS_SERVE, sys_serve, "serve") < 0 ||
        kss_machine_run(m, host, NULL, &status) < 0) {
        printf("gdb_commands_target: %s\n", kss_last_error());
        return 1;
    }
    kss_machine_destroy(m);
    printf("gdb_commands_target: status %d\n", status);
    return status != 0;
}

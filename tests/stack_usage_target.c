/* SPDX-License-Identifier: MIT */
/*
 * What stack_usage.sh looks at: functions with frames of many sizes, compiled with -fstack-usage, each of them on
 * the stack of a thread that goes to sleep. Prints the sizes that the walk over that stack has measured.
 */
#include <kstacksim/kstacksim.h>

#include <stdio.h>
#include <string.h>

#define SYS_GO KSS_SYS_EXPERIMENT
#ifdef __clang__
#define APART __attribute__((noinline))
#else
#define APART __attribute__((noipa))
#endif

/* A function with a frame of its own that goes on to the next one. */
#define FRAME(name, bytes, next)           \
    APART static long name(long n)         \
    {                                      \
        volatile char room[bytes];         \
        room[0] = (char)n;                 \
        room[sizeof room - 1] = (char)n;   \
        long r = next(n + 1);              \
        return r + room[sizeof room - 1];  \
    }

static struct kss_wait_queue queue;
static _Atomic bool go;

APART static long su_sleeps(long n)
{
    kss_wait_event(&queue, go);
    return n;
}

FRAME(su_1, 1, su_sleeps)
FRAME(su_8, 8, su_1)
FRAME(su_24, 24, su_8)
FRAME(su_100, 100, su_24)
FRAME(su_255, 255, su_100)
FRAME(su_1000, 1000, su_255)
FRAME(su_4096, 4096, su_1000)

/* Saved registers, and no array. */
APART static long su_registers(long a)
{
    long b = su_4096(a), c = su_1(b), d = su_1(a + c), e = su_1(d - b), f = su_1(a * b);
    return su_1(a + b) + a + b * c + d * e + f;
}

/* The compiler can't know its size. */
APART static long su_dynamic(long n)
{
    volatile char room[n];
    room[n - 1] = 1;
    return su_registers(n) + room[n - 1];
}

static long sys_go(const struct kss_syscall_args *args)
{
    return su_dynamic(args->a[0]) & 0;
}

static long sleeper(void *arg)
{
    return kss_syscall(SYS_GO, (long)arg, 0, 0, 0, 0, 0);
}

static long sys_wake(const struct kss_syscall_args *args)
{
    go = args->a[0];
    return kss_wake_up(&queue, 0);
}

static long start(void *arg)
{
    int status = -1;
    (void)arg;
    kss_spawn(sleeper, (void *)777, NULL);
    while (kss_syscall(SYS_GO + 1, 0, 0, 0, 0, 0, 0) != 1)
        kss_sleep(1);
    kss_syscall(SYS_GO + 1, 1, 0, 0, 0, 0, 0);
    kss_wait(-1, &status);
    return status != 0;
}

int main(void)
{
    static struct kss_function_depth f[256];
    struct kss_config c;
    struct kss_machine *m;
    int status = -1;
    kss_config_init(&c);
    c.profile = true;
    kss_wait_queue_init(&queue, "stack usage");
    if (kss_machine_create(&m, &c) < 0 || kss_syscall_register(m, SYS_GO, sys_go, "go") < 0 ||
        kss_syscall_register(m, SYS_GO + 1, sys_wake, "wake") < 0 ||
        kss_machine_run(m, start, NULL, &status) < 0) {
        printf("stack_usage_target: %s\n", kss_last_error());
        return 1;
    }
    int n = kss_profile_functions(m, f, 256);
    for (int i = 0; i < n && i < 256; i++)
        if (strncmp(f[i].function, "su_", 3) == 0)
            printf("%s %zu %zu\n", f[i].function, f[i].frame, f[i].depth);
    kss_machine_destroy(m);
    return status != 0;
}

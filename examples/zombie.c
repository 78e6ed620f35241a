/* SPDX-License-Identifier: MIT */
/*
 * Zombies: what stays of a process that has ended, and for how long.
 *
 * A child exits and its parent does not wait for it: the child is a ZOMBIE and holds its kernel
 * stack, until kss_wait() reaps it. Then a child of that child is left alone: the orphan gets pid 1
 * as its parent, which reaps it without being asked.
 *
 *     zombie          a zombie keeps its kernel stack (KSS_ZOMBIE_KEEPS_STACK)
 *     zombie --free   its kernel stack is freed when it exits (KSS_ZOMBIE_FREES_STACK)
 *
 * Expect: the child's state and kernel stack before its end, as a zombie, and after the wait.
 */
#include <kstacksim/kstacksim.h>

#include <errno.h>
#include <getopt.h>
#include <stdatomic.h>
#include <stdio.h>

#define SYS_LOOK KSS_SYS_EXPERIMENT
#define MAX_THREADS 16
#define MS 1000000u

static enum kss_zombie_stacks policy;
static atomic_bool may_end; /* tells the child to exit */
static atomic_int orphan, parent_at_end;

KSS_SYSCALL_STUB2(look, SYS_LOOK, long, tid, struct kss_thread_info_snapshot *, out)

/* Kernel mode: what is known of a thread. -ESRCH when it is gone. */
static long sys_look(const struct kss_syscall_args *args)
{
    struct kss_thread_info_snapshot all[MAX_THREADS];
    int n = kss_threads(kss_machine_current(), all, MAX_THREADS);
    if (n < 0)
        return n;
    for (int i = 0; i < n && i < MAX_THREADS; i++)
        if (all[i].tid == args->a[0])
            return kss_copy_to_user((void *)args->a[1], &all[i], sizeof all[i]) ? -EFAULT : 0;
    return -ESRCH;
}

static long fail(const char *what)
{
    fprintf(stderr, "zombie: %s (last error: %s)\n", what, kss_last_error());
    return 1;
}

/* Prints one line of the story. Returns 0 and the thread's snapshot, or -ESRCH. */
static long show(const char *when, long tid, struct kss_thread_info_snapshot *t)
{
    struct kss_machine_stats s;
    long r = look(tid, t);
    if (kss_machine_stats(kss_machine_current(), &s) < 0)
        return -EINVAL;
    printf("%-24s thread %ld %-9s kernel stack %5zu bytes; zombies %u, holding %u stacks\n", when,
           tid, r < 0 ? "is gone," : kss_thread_state_name(t->state), r < 0 ? 0 : t->kstack_size,
           s.zombies, s.zombie_stacks);
    return r;
}

/* Tells the child to exit and sleeps until it is a zombie, or is gone altogether. */
static void end_of(long tid, bool gone)
{
    struct kss_thread_info_snapshot t;
    may_end = true;
    while (look(tid, &t) == 0 && (gone || t.state != KSS_THREAD_ZOMBIE) && kss_sleep(MS) == 0)
        ;
    may_end = false;
}

static long child(void *arg)
{
    (void)arg;
    while (!may_end)
        if (kss_sleep(MS) < 0)
            return 1;
    parent_at_end = (int)kss_getppid();
    return 7;
}

static long a_zombie_and_its_stack(void)
{
    struct kss_thread_info_snapshot t;
    int status = 0;
    long pid = kss_spawn(child, NULL, &(struct kss_spawn_attr){.name = "child"});
    if (pid < 0 || show("before its end:", pid, &t) < 0)
        return fail("no child");
    end_of(pid, false);
    if (show("it has exited, no wait:", pid, &t) < 0 || t.state != KSS_THREAD_ZOMBIE)
        return fail("the child is not a zombie");
    if ((t.kstack_size != 0) != (policy == KSS_ZOMBIE_KEEPS_STACK))
        return fail("its kernel stack is not as the policy says");
    if (kss_wait(pid, &status) != pid || !KSS_WIFEXITED(status) || KSS_WEXITSTATUS(status) != 7)
        return fail("the wait did not give the child's exit status");
    if (show("after kss_wait():", pid, &t) != -ESRCH)
        return fail("it is still there after the wait");
    return 0;
}

/* Exits at once and leaves its child behind. */
static long parent(void *arg)
{
    orphan = (int)kss_spawn(child, arg, &(struct kss_spawn_attr){.name = "orphan"});
    return orphan < 0;
}

static long an_orphan(void)
{
    struct kss_thread_info_snapshot t;
    int status = 0;
    long pid = kss_spawn(parent, NULL, &(struct kss_spawn_attr){.name = "parent"});
    if (pid < 0 || kss_wait(pid, &status) != pid || status != 0)
        return fail("no parent");
    if (show("its parent has ended:", orphan, &t) < 0 || t.ppid != 1)
        return fail("the orphan is not a child of pid 1");
    if (kss_wait(orphan, &status) != -ECHILD)
        return fail("a grandchild could be waited for");
    end_of(orphan, true);
    if (show("pid 1 has reaped it:", orphan, &t) != -ESRCH || parent_at_end != 1)
        return fail("the orphan was not reaped by pid 1");
    return 0;
}

static long program(void *arg)
{
    struct kss_machine_stats s;
    (void)arg;
    if (a_zombie_and_its_stack() != 0 || an_orphan() != 0)
        return 1;
    if (kss_machine_stats(kss_machine_current(), &s) < 0 || s.zombies || s.zombie_stacks)
        return fail("a zombie is left");
    return 0;
}

static int run(void)
{
    struct kss_config config;
    struct kss_machine *machine;
    int status = 0;
    kss_config_init(&config);
    config.zombie_stacks = policy;
    int r = kss_machine_create(&machine, &config);
    if (r == 0)
        r = kss_syscall_register(machine, SYS_LOOK, sys_look, "look");
    if (r == 0)
        r = kss_machine_run(machine, program, NULL, &status);
    if (r < 0)
        fprintf(stderr, "zombie: %s\n", kss_last_error());
    if (kss_machine_destroy(machine) < 0)
        fprintf(stderr, "zombie: %s\n", kss_last_error());
    return r < 0 || status != 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"free", no_argument, NULL, 'f'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    static const char usage[] = "usage: zombie [--free]\n"
                                "A zombie and its kernel stack, and an orphan that pid 1 reaps.\n"
                                "  -f, --free   kernel stacks are freed at exit, not at the wait\n";
    int c;
    while ((c = getopt_long(argc, argv, "fh", options, NULL)) == 'f')
        policy = KSS_ZOMBIE_FREES_STACK;
    if (c != -1 || optind != argc) {
        fputs(usage, c == 'h' ? stdout : stderr);
        return c == 'h' ? 0 : 2;
    }
    return run();
}

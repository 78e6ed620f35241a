/* SPDX-License-Identifier: MIT */
/*
 * A system call of your own, from the user stub to the handler and back.
 *
 * Shows: registering a handler under a number; reading and writing user memory with
 * kss_copy_string_from_user() and kss_copy_to_user(); that the trap frame and the handler's locals
 * lie in the calling thread's kernel stack while the user stack stays where it was; and that a bad
 * pointer gives -EFAULT and harms nobody.
 *
 *     hello_syscall [--entry trap|gate]
 *
 * Expect: the handler's answer, the two stacks from high to low addresses, three refused pointers.
 * With --entry gate the trap frame is much smaller: the call gate saves the general registers only.
 */
#include <kstacksim/kstacksim.h>

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SYS_GREET KSS_SYS_EXPERIMENT

struct greeting {
    char text[64];
    uintptr_t stack_low, stack_high; /* the caller's kernel stack */
    uintptr_t frame, local;          /* the trap frame of this call, a local of the handler */
    uintptr_t user_sp;               /* the stack pointer that the trap frame holds */
    uint32_t frame_size;
    uint8_t source;
};

/* What the program calls, in user mode. */
KSS_SYSCALL_STUB2(greet, SYS_GREET, const char *, name, struct greeting *, out)

/* What then runs, in kernel mode. Its arguments are user pointers: never followed, only copied. */
static long sys_greet(const struct kss_syscall_args *args)
{
    struct greeting g = {.frame = (uintptr_t)args->frame, .local = (uintptr_t)&g};
    struct kss_kstack_info k;
    char name[32];
    long n = kss_copy_string_from_user(name, (const char *)args->a[0], sizeof name);
    if (n < 0)
        return n;
    int r = kss_kstack_info(NULL, &k); /* NULL: the caller's */
    if (r < 0)
        return r;
    snprintf(g.text, sizeof g.text, "hello, %s: this is kernel mode", name);
    g.stack_low = k.low;
    g.stack_high = k.high;
    g.user_sp = kss_trap_sp(args->frame);
    g.frame_size = args->frame->size;
    g.source = args->frame->source;
    return kss_copy_to_user((void *)args->a[1], &g, sizeof g) ? -EFAULT : n;
}

static int refuses(const char *what, const char *name, struct greeting *out)
{
    long r = greet(name, out);
    printf("  %-34s %s\n", what, r == -EFAULT ? "-EFAULT" : "NOT REFUSED");
    return r != -EFAULT;
}

/* The first process; a trap handler has no business on its user stack. */
static long program(void *arg)
{
    enum kss_syscall_entry entry = *(enum kss_syscall_entry *)arg;
    struct greeting g;
    long r = greet("world", &g);
    if (r != 5) {
        fprintf(stderr, "hello_syscall: greet() gave %ld: %s\n", r, kss_last_error());
        return 1;
    }
    printf("%s\n\n", g.text);
    printf("  %#14" PRIxPTR "  kernel stack, high end\n", g.stack_high);
    printf("  %#14" PRIxPTR "  trap frame, %" PRIu32 " bytes\n", g.frame, g.frame_size);
    printf("  %#14" PRIxPTR "  a local of the handler\n", g.local);
    printf("  %#14" PRIxPTR "  kernel stack, low end\n", g.stack_low);
    printf("  %#14" PRIxPTR "  a local of the user program\n", (uintptr_t)&g);
    printf("  %#14" PRIxPTR "  its stack pointer, as the trap frame has it\n\n", g.user_sp);
    if (g.frame < g.local || g.frame + g.frame_size > g.stack_high || g.local < g.stack_low ||
        (g.user_sp >= g.stack_low && g.user_sp < g.stack_high) || g.user_sp > (uintptr_t)&g) {
        fprintf(stderr, "hello_syscall: something does not lie where it should\n");
        return 1;
    }
    if (g.source != (entry == KSS_SYSCALL_GATE ? KSS_FRAME_GATE : KSS_FRAME_SIGNAL)) {
        fprintf(stderr, "hello_syscall: the call came in by the other entry\n");
        return 1;
    }
    int bad = refuses("no name", NULL, &g);
    bad += refuses("a name on the kernel stack", (const char *)g.local, &g);
    bad +=
        refuses("an answer into read-only memory", "world", (struct greeting *)(uintptr_t)program);
    return bad != 0;
}

static int run(enum kss_syscall_entry entry)
{
    struct kss_config config;
    struct kss_machine *machine;
    int status = 0;
    kss_config_init(&config);
    config.syscall_entry = entry;
    int r = kss_machine_create(&machine, &config);
    if (r == 0)
        r = kss_syscall_register(machine, SYS_GREET, sys_greet, "greet");
    if (r == 0)
        r = kss_machine_run(machine, program, &entry, &status);
    if (r < 0)
        fprintf(stderr, "hello_syscall: %s\n", kss_last_error());
    if (kss_machine_destroy(machine) < 0)
        fprintf(stderr, "hello_syscall: %s\n", kss_last_error());
    return r < 0 || status != 0;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"entry", required_argument, NULL, 'e'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    static const char usage[] = "usage: hello_syscall [--entry trap|gate]\n"
                                "A system call of its own: handler, stub, stacks, bad pointers.\n"
                                "  -e, --entry trap   by a trapping instruction (default)\n"
                                "  -e, --entry gate   by the call gate\n";
    enum kss_syscall_entry entry = KSS_SYSCALL_TRAP;
    int c;
    while ((c = getopt_long(argc, argv, "e:h", options, NULL)) == 'e') {
        if (strcmp(optarg, "trap") != 0 && strcmp(optarg, "gate") != 0)
            break;
        entry = strcmp(optarg, "gate") == 0 ? KSS_SYSCALL_GATE : KSS_SYSCALL_TRAP;
    }
    if (c != -1 || optind != argc) {
        fputs(usage, c == 'h' ? stdout : stderr);
        return c == 'h' ? 0 : 2;
    }
    return run(entry);
}

/* SPDX-License-Identifier: MIT */
/* Faults of memory: bad pointers, and none left. */
#define _GNU_SOURCE
#include "faults.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

/* ---- system calls with bad pointers ----------------------------------------------------------------------------- */

#define PAGE 4096
#define BEFORE 100 /* bytes of a copy that lie before the bad ones */

static char *two_pages; /* the second is inaccessible */

static long sink_write(struct kss_file *file, const void *user, size_t n)
{
    char buffer[256];
    (void)file;
    size_t left = kss_copy_from_user(buffer, user, n < sizeof buffer ? n : sizeof buffer);
    return left == n ? -EFAULT : (long)(n - left);
}

static long sink_read(struct kss_file *file, void *user, size_t n)
{
    char buffer[256] = { 0 };
    (void)file;
    size_t left = kss_copy_to_user(user, buffer, n < sizeof buffer ? n : sizeof buffer);
    return left == n ? -EFAULT : (long)(n - left);
}

static const struct kss_device_ops sink = { NULL, sink_read, sink_write, NULL };

static int prepare_pointers(struct kss_machine *m)
{
    two_pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (two_pages == MAP_FAILED || mprotect(two_pages + PAGE, PAGE, PROT_NONE) < 0)
        return kss_set_error(-ENOMEM, "no pages for bad pointers");
    return kss_device_register(m, "sink", &sink, NULL);
}

static void cleanup_pointers(void)
{
    munmap(two_pages, 2 * PAGE);
}

static long stack_bounds(void *arg)
{
    return kss_kstack_info(NULL, arg);
}

/* Each in a read, a write and a name. Bytes before the bad ones are copied, and counted. */
static void try_pointer(int fd, const char *what, char *p, size_t n, long good)
{
    long want = good ? good : -EFAULT, r = kss_write(fd, p, n);
    fault_expect(r == want, "write from %s: %ld, not %ld", what, r, want);
    r = kss_read(fd, p, n);
    fault_expect(r == want, "read to %s: %ld, not %ld", what, r, want);
    if (!good) {
        r = kss_open(p, O_RDWR);
        fault_expect(r == -EFAULT, "open with its name at %s: %ld, not %d", what, r, -EFAULT);
    }
}

static long use_bad_pointers(void *arg)
{
    struct kss_kstack_info k;
    int fd = (int)kss_open("sink", O_RDWR);
    (void)arg;
    fault_in_kernel(stack_bounds, &k);
    if (!fault_expect(fd >= 0, "open: %s", kss_last_error()))
        return 1;
    try_pointer(fd, "NULL", NULL, 10, 0);
    try_pointer(fd, "an inaccessible page", two_pages + PAGE, 10, 0);
    try_pointer(fd, "no address", (char *)((uintptr_t)1 << 62), 10, 0);
    try_pointer(fd, "a kernel stack", (char *)k.high - 512, 10, 0);
    try_pointer(fd, "thread_info", (char *)k.low, 10, 0);
    try_pointer(fd, "a guard", (char *)k.high, 10, 0);
    try_pointer(fd, "the top of all addresses", (char *)UINTPTR_MAX - 4, 10, 0);
    try_pointer(fd, "the end of a page", two_pages + PAGE - BEFORE, 200, BEFORE);
    try_pointer(fd, "a good page", two_pages, 200, 200);
    return kss_close(fd) != 0;
}

/* ---- the kernel's memory ------------------------------------------------------------------------------------------- */

static void with_protection(struct kss_config *c)
{
    c->protect = KSS_PROTECT_AUTO;
}

static const char *not_without_protection(void)
{
    static char why[240];
    struct kss_config c;
    struct kss_machine *m;
    kss_config_init(&c);
    with_protection(&c);
    int r = kss_machine_create(&m, &c);
    snprintf(why, sizeof why, "%s", r < 0 ? kss_last_error() : "");
    kss_machine_destroy(m);
    return r == -ENOTSUP ? why : NULL;
}

BROKEN static long read_its_kernel_stack(void *arg)
{
    struct kss_kstack_info k;
    (void)arg;
    fault_in_kernel(stack_bounds, &k);
    return *(const volatile long *)k.user_frame;
}

BROKEN static long write_to_a_neighbours(void *arg)
{
    (void)arg;
    *(volatile unsigned char *)fault_current()->neighbour[0].kernel_pattern = 0;
    return 0;
}

static const char *is_its_own(const struct fault_run *r)
{
    const struct kss_report *p = &r->report[0];
    return p->near.stack == KSS_STACK_TASK && p->near.tid == p->tid ? NULL : "the report does not say that it is its own";
}

static const char *is_the_neighbours(const struct fault_run *r)
{
    const struct kss_report *p = &r->report[0];
    return p->near.stack == KSS_STACK_TASK && p->near.tid == r->neighbour[0].pid ? NULL
           : "the report does not say whose stack it is";
}

/* ---- none left ----------------------------------------------------------------------------------------------------- */

static struct kss_machine_stats before;
static volatile int may_end;

static long child(void *arg)
{
    while (arg && !may_end)
        kss_yield();
    return 0;
}

static void count_before(void)
{
    may_end = false;
    kss_machine_stats(kss_machine_current(), &before);
}

/* Nobody and nothing is left of what failed, and a child can still be made. */
static long count_after(long made)
{
    struct kss_machine_stats now;
    may_end = true;
    for (long i = 0; i < made; i++)
        fault_expect(kss_wait(-1, NULL) > 0, "child %ld can't be waited for: %s", i, kss_last_error());
    kss_machine_stats(kss_machine_current(), &now);
    fault_expect(now.threads_live == before.threads_live, "%u threads are live, not %u", now.threads_live,
                 before.threads_live);
    fault_expect(now.kstacks_live == before.kstacks_live, "%u kernel stacks are live, not %u", now.kstacks_live,
                 before.kstacks_live);
    long pid = kss_spawn(child, NULL, NULL);
    fault_expect(pid > 0 && kss_wait(pid, NULL) == pid, "no child after it: %s", kss_last_error());
    return 0;
}

static long make_too_many(void *arg)
{
    long made = 0, pid;
    (void)arg;
    count_before();
    while ((pid = kss_spawn(child, (void *)1, NULL)) > 0)
        made++;
    fault_expect(pid == -EAGAIN, "the error is %ld, not %d", pid, -EAGAIN);
    fault_expect(made + before.threads_live == 64, "%ld were made beside %u", made, before.threads_live);
    fault_expect(strstr(kss_last_error(), "max_threads") != NULL, "the reason is \"%s\"", kss_last_error());
    return count_after(made);
}

/* The machine keeps stacks of a limited number of sizes. */
static long use_up_stacks(void *arg)
{
    struct kss_spawn_attr attr = { .user_stack_size = 65536 };
    long pid;
    int sizes = 0;
    (void)arg;
    count_before();
    while ((pid = kss_spawn(child, NULL, &attr)) > 0 && sizes < 1000) {
        kss_wait(pid, NULL);
        attr.user_stack_size += 16 * PAGE;
        sizes++;
    }
    fault_expect(pid == -EAGAIN, "the error is %ld, not %d", pid, -EAGAIN);
    fault_expect(sizes > 8, "after %d sizes already", sizes);
    fault_expect(strstr(kss_last_error(), "no user stack of") != NULL, "the reason is \"%s\"", kss_last_error());
    return count_after(0);
}

/* As much address space as the process has now, and no more: the host refuses the next mapping. */
static bool limit_memory(struct rlimit *old)
{
    struct rlimit now;
    unsigned long pages = 0;
    char text[64] = "";
    int fd = open("/proc/self/statm", O_RDONLY);
    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0 || sscanf(text, "%lu", &pages) != 1 ||
        getrlimit(RLIMIT_AS, old) < 0)
        return fault_expect(false, "the size of this process can't be found out");
    close(fd);
    now = *old;
    now.rlim_cur = (rlim_t)pages * PAGE;
    return fault_expect(setrlimit(RLIMIT_AS, &now) == 0, "the host's limit can't be set");
}

static long use_up_host_memory(void *arg)
{
    struct kss_spawn_attr attr = { .user_stack_size = 256u << 20 };
    struct rlimit old;
    (void)arg;
    count_before();
    if (!limit_memory(&old))
        return 1;
    long pid = kss_spawn(child, NULL, &attr), tid = kss_thread_create(child, NULL, &attr);
    setrlimit(RLIMIT_AS, &old);
    fault_expect(pid == -EAGAIN || pid == -ENOMEM, "kss_spawn() gave %ld", pid);
    fault_expect(tid == -EAGAIN || tid == -ENOMEM, "kss_thread_create() gave %ld", tid);
    fault_expect(kss_last_error()[0] != '\0', "there is no reason");
    return count_after(0);
}

static const char *not_with_asan(void)
{
    return WITH_ASAN ? "AddressSanitizer needs memory of its own when the host's is limited" : NULL;
}

/* ---- stacks of threads that are gone ------------------------------------------------------------------------------- */

static volatile char *kept; /* a local variable of somebody's */

static void with_quarantine(struct kss_config *c)
{
    c->kstack_quarantine = true;
}

KEEP_FRAME static long keep_a_local_variable(void *arg)
{
    volatile char local = 1;
    (void)arg;
    kept = &local;
    return local == 2;
}

static long keep_in_kernel(void *arg)
{
    return fault_in_kernel(keep_a_local_variable, arg);
}

BROKEN static long use_the_kept_variable(void *arg)
{
    (void)arg;
    return *kept;
}

KEEP_FRAME static long use_after_reap(kss_user_fn keep, bool kernel)
{
    long pid = kss_spawn(keep, NULL, NULL);
    fault_expect(kss_wait(pid, NULL) == pid, "no child: %s", kss_last_error());
    return kernel ? fault_in_kernel(use_the_kept_variable, NULL) : use_the_kept_variable(NULL);
}

static long use_kernel_stack(void *arg)
{
    (void)arg;
    return use_after_reap(keep_in_kernel, true);
}

static long use_user_stack(void *arg)
{
    (void)arg;
    return use_after_reap(keep_a_local_variable, false);
}

static const char *names_the_reaped(const struct fault_run *r)
{
    const struct kss_report_near *n = &r->report[0].near;
    return n->freed && n->tid > 0 && n->tid != r->report[0].tid ? NULL : "the report does not say whose stack it was";
}

#define RETURNS(name, what_, fn) { name, NULL, what_, .user = fn, .quiet = true, .status = EXITED(0) }

const struct fault faults_memory[] = {
    { "kernel-memory-touch", NULL, "A process reads its own kernel stack.", .configure = with_protection,
      .skip = not_without_protection, .user = read_its_kernel_stack, .kind = KSS_REPORT_KERNEL_MEMORY,
      .action = KSS_ACTION_KILL_PROCESS, .stack = KSS_STACK_USER, .mode = KSS_MODE_USER,
      .culprit = "read_its_kernel_stack", .sentence = "on the kernel stack of thread",
      .status = KILLED(KSS_VEC_PAGE_FAULT), .check = is_its_own },
    { "kernel-memory-touch", "write", "A process writes to a neighbour's kernel stack.", .configure = with_protection,
      .skip = not_without_protection, .user = write_to_a_neighbours, .kind = KSS_REPORT_KERNEL_MEMORY,
      .action = KSS_ACTION_KILL_PROCESS, .stack = KSS_STACK_USER, .mode = KSS_MODE_USER,
      .culprit = "write_to_a_neighbours", .sentence = "write to inaccessible address",
      .status = KILLED(KSS_VEC_PAGE_FAULT), .check = is_the_neighbours },
    { "bad-user-pointer", NULL, "System calls are given pointers to what is no user memory: -EFAULT, counts exact.",
      .prepare = prepare_pointers, .cleanup = cleanup_pointers, .user = use_bad_pointers, .quiet = true,
      .status = EXITED(0) },
    { "use-after-reap", NULL, "Kernel code uses a variable on the kernel stack of a thread that was reaped.",
      .configure = with_quarantine, .user = use_kernel_stack, .kind = KSS_REPORT_FREED_STACK,
      .action = KSS_ACTION_KILL_PROCESS, .stack = KSS_STACK_TASK, .mode = KSS_MODE_KERNEL,
      .culprit = "use_the_kept_variable", .sentence = "freed stack of thread", .status = KILLED(KSS_VEC_PAGE_FAULT),
      .check = names_the_reaped },
    { "use-after-reap", "user", "A process uses a variable on the user stack of one that was reaped.",
      .configure = with_quarantine, .user = use_user_stack, .kind = KSS_REPORT_FREED_STACK,
      .action = KSS_ACTION_KILL_PROCESS, .stack = KSS_STACK_USER, .mode = KSS_MODE_USER,
      .culprit = "use_the_kept_variable", .sentence = "freed stack of thread", .status = KILLED(KSS_VEC_PAGE_FAULT),
      .check = names_the_reaped },
    RETURNS("out-of-stacks", "Children are made with ever other stack sizes until the machine has no stack: -EAGAIN.",
            use_up_stacks),
    { "out-of-memory", NULL, "The host has no memory for a child's stack: an error to the caller.",
      .skip = not_with_asan, .user = use_up_host_memory, .quiet = true, .status = EXITED(0) },
    RETURNS("too-many-processes", "Children are made until the thread table is full: -EAGAIN.", make_too_many),
    { 0 },
};

/* SPDX-License-Identifier: MIT */
/* Misuse of the library's interface, and signals of the host. */
#define _GNU_SOURCE
#include "faults.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#define LINE KSS_LINE_FREE

/* A call that must give an error, and a sentence that says why. */
#define REFUSED(call, error)                                                                                 \
    do {                                                                                                     \
        long result_ = (call);                                                                               \
        fault_expect(result_ == (error), "%s gave %ld, not %d", #call, result_, (int)(error));               \
    } while (0)

static long child(void *arg)
{
    return (long)arg;
}

static void handler(unsigned line, void *arg)
{
    (void)arg;
    kss_irq_eoi(line);
}

/* ---- NULL ----------------------------------------------------------------------------------------------------- */

static int null_on_the_host(struct kss_machine *m)
{
    struct kss_config c;
    kss_config_init(&c);
    REFUSED(kss_machine_create(NULL, &c), -EINVAL);
    REFUSED(kss_machine_run(NULL, child, NULL, NULL), -EINVAL);
    REFUSED(kss_machine_run(m, NULL, NULL, NULL), -EINVAL);
    REFUSED(kss_machine_stop(NULL), -EINVAL);
    REFUSED(kss_machine_destroy(NULL), 0);
    REFUSED(kss_machine_stats(m, NULL), -EINVAL);
    REFUSED(kss_check(NULL), -EINVAL);
    REFUSED(kss_irq_request(NULL, LINE, handler, NULL, "null"), -EINVAL);
    REFUSED(kss_irq_request(m, LINE, NULL, NULL, "null"), -EINVAL);
    REFUSED(kss_irq_stats(m, 0, LINE, NULL), -EINVAL);
    REFUSED(kss_vector_set(m, KSS_VEC_SOFTWARE, NULL), -EINVAL);
    REFUSED(kss_vector_get(m, KSS_VEC_SOFTWARE, NULL), -EINVAL);
    REFUSED(kss_device_register(m, NULL, NULL, NULL), -EINVAL);
    REFUSED(kss_disk_attach(m, NULL), -EINVAL);
    REFUSED(kss_console_attach(m, NULL), -EINVAL);
    REFUSED(kss_report_format(NULL, NULL, 0), -EINVAL);
    return 0;
}

static long null_in_the_kernel(void *arg)
{
    (void)arg;
    REFUSED(kss_kstack_info(NULL, NULL), -EINVAL);
    REFUSED(kss_backtrace(NULL, NULL, 4), -EINVAL);
    REFUSED(kss_vector_table_load(NULL), -EINVAL);
    REFUSED(kss_threads(kss_machine_current(), NULL, 4), -EINVAL);
    REFUSED(kss_trap_pc(NULL), 0);
    return 0;
}

static long pass_null_handles(void *arg)
{
    REFUSED(kss_spawn(NULL, arg, NULL), -EFAULT);
    REFUSED(kss_thread_create(NULL, arg, NULL), -EFAULT);
    REFUSED(kss_open(NULL, O_RDWR), -EFAULT);
    return fault_in_kernel(null_in_the_kernel, arg);
}

/* ---- twice ---------------------------------------------------------------------------------------------------- */

static long free_twice_in_the_kernel(void *arg)
{
    struct kss_machine *m = kss_machine_current();
    (void)arg;
    REFUSED(kss_irq_request(m, LINE, handler, NULL, "twice"), 0);
    REFUSED(kss_irq_free(m, LINE), 0);
    REFUSED(kss_irq_free(m, LINE), -ENOENT);
    REFUSED(kss_irq_eoi(LINE), -EINVAL);
    return 0;
}

static long free_twice(void *arg)
{
    long pid = kss_spawn(child, NULL, NULL), tid = kss_thread_create(child, NULL, NULL);
    int fd = (int)kss_open("null", O_RDWR);
    REFUSED(kss_wait(pid, NULL), pid);
    REFUSED(kss_wait(pid, NULL), -ECHILD);
    REFUSED(kss_thread_join(tid, NULL), 0);
    REFUSED(kss_thread_join(tid, NULL), -ESRCH);
    REFUSED(kss_close(fd), 0);
    REFUSED(kss_close(fd), -EBADF);
    return fault_in_kernel(free_twice_in_the_kernel, arg);
}

static int prepare_twice(struct kss_machine *m)
{
    static const struct kss_device_ops none;
    struct kss_config c;
    struct kss_machine *other;
    kss_config_init(&c);
    REFUSED(kss_machine_create(&other, &c), 0);
    REFUSED(kss_machine_destroy(other), 0);
    REFUSED(kss_machine_destroy(other), -EINVAL);
    REFUSED(kss_machine_run(other, child, NULL, NULL), -EINVAL);
    return kss_device_register(m, "null", &none, NULL);
}

/* ---- not one of ours ------------------------------------------------------------------------------------------ */

static char zeroes[65536] __attribute__((aligned(64)));

static struct kss_machine *another; /* one of its own, that never runs */

static void use_foreign_machine(struct kss_machine *foreign)
{
    struct kss_machine_stats s;
    REFUSED(kss_machine_run(foreign, child, NULL, NULL), -EINVAL);
    REFUSED(kss_machine_stop(foreign), -EINVAL);
    REFUSED(kss_machine_destroy(foreign), -EINVAL);
    REFUSED(kss_machine_stats(foreign, &s), -EINVAL);
    REFUSED(kss_check(foreign), -EINVAL);
    REFUSED(kss_irq_request(foreign, LINE, handler, NULL, "foreign"), -EINVAL);
    REFUSED(kss_irq_raise(foreign, 0, LINE), -EINVAL);
}

/* Memory that is no machine, inside of one, and no memory. */
static int foreign_on_the_host(struct kss_machine *m)
{
    struct kss_config c;
    use_foreign_machine((struct kss_machine *)(void *)zeroes);
    use_foreign_machine((struct kss_machine *)((uintptr_t)m + 64));
    use_foreign_machine((struct kss_machine *)(uintptr_t)16);
    kss_config_init(&c);
    return kss_machine_create(&another, &c);
}

static void forget_another(void)
{
    kss_machine_destroy(another);
}

static struct kss_thread *reaped;

static long look_up(void *arg)
{
    reaped = kss_thread_find(kss_machine_current(), (int)(long)arg);
    return 0;
}

static long use_foreign_in_the_kernel(void *arg)
{
    struct kss_kstack_info k;
    struct kss_frame f[4];
    struct kss_thread *threads[] = { reaped, (struct kss_thread *)(void *)zeroes,
                                     (struct kss_thread *)((uintptr_t)kss_current() + 8),
                                     (struct kss_thread *)(uintptr_t)16 };
    (void)arg;
    REFUSED(kss_irq_request(another, LINE, handler, NULL, "another"), -EINVAL);
    for (int i = 0; i < 4; i++) {
        REFUSED(kss_kstack_info(threads[i], &k), -EINVAL);
        REFUSED(kss_backtrace(threads[i], f, 4), -EINVAL);
    }
    return 0;
}

static long use_foreign_handles(void *arg)
{
    long pid = kss_spawn(child, NULL, NULL);
    fault_in_kernel(look_up, (void *)pid);
    REFUSED(kss_wait(pid, NULL), pid);
    REFUSED(kss_wait(1, NULL), -ECHILD);
    REFUSED(kss_thread_join(kss_gettid(), NULL), -EDEADLK);
    REFUSED(kss_thread_join(1, NULL), -ESRCH);
    REFUSED(kss_close(7), -EBADF);
    return fault_in_kernel(use_foreign_in_the_kernel, arg);
}

/* ---- signals ------------------------------------------------------------------------------------------------------ */

static void with_signals(struct kss_config *c)
{
    c->host_signals = true;
}

__attribute__((noreturn)) static void signal_oneself(int signal)
{
    kill(getpid(), signal);
    for (;;)
        kss_yield();
}

__attribute__((noreturn)) static long interrupt_the_host(void *arg)
{
    (void)arg;
    signal_oneself(SIGINT);
}

__attribute__((noreturn)) static long terminate_the_host(void *arg)
{
    (void)arg;
    signal_oneself(SIGTERM);
}

/* What SIGQUIT prints goes to standard error: here, to a pipe. */
static int pipe_ends[2], standard_error;
static char printed[65536];
static size_t printed_bytes;

static int prepare_quit(struct kss_machine *m)
{
    (void)m;
    memset(printed, 0, sizeof printed);
    printed_bytes = 0;
    standard_error = dup(STDERR_FILENO);
    if (standard_error < 0 || pipe2(pipe_ends, O_NONBLOCK) < 0)
        return kss_set_error(-EMFILE, "no pipe for standard error");
    return dup2(pipe_ends[1], STDERR_FILENO) < 0 ? kss_set_error(-EMFILE, "standard error can't be a pipe") : 0;
}

static void cleanup_quit(void)
{
    dup2(standard_error, STDERR_FILENO);
    close(standard_error);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
}

static bool all_is_printed(void)
{
    ssize_t n = read(pipe_ends[0], printed + printed_bytes, sizeof printed - 1 - printed_bytes);
    if (n > 0)
        printed_bytes += (size_t)n;
    return strstr(printed, "the run goes on") != NULL;
}

KEEP_FRAME static long ask_for_all_stacks(void *arg)
{
    (void)arg;
    kill(getpid(), SIGQUIT);
    while (!all_is_printed())
        kss_yield();
    return 0;
}

static const char *shows_everybody(const struct fault_run *r)
{
    for (int i = 0; i < FAULT_NEIGHBOURS; i++)
        if (!strstr(printed, r->neighbour[i].name))
            return "a neighbour's stack is not printed";
    return strstr(printed, "take_turns+") && strstr(printed, "ask_for_all_stacks+") ? NULL : "functions are missing";
}

#define SIGNALLED(variant_, what_, fn)                                                                        \
    { "host-signal", variant_, what_, .configure = with_signals, .user = fn, .quiet = true, .run = -ECANCELED }

#define MISUSE(row_, what_, prepare_, fn)                                                                    \
    { row_, NULL, what_, .prepare = prepare_, .user = fn, .quiet = true, .status = EXITED(0) }

const struct fault faults_api[] = {
    MISUSE("double-free", "What was freed, closed or waited for is so once more: an error each time.", prepare_twice,
           free_twice),
    { "foreign-handle", NULL, "Functions are given handles of nobody, of a reaped thread, of another machine: errors.",
      .prepare = foreign_on_the_host, .cleanup = forget_another, .user = use_foreign_handles, .quiet = true,
      .status = EXITED(0) },
    MISUSE("null-handle", "Functions are given NULL: an error each time.", null_on_the_host, pass_null_handles),
    SIGNALLED(NULL, "SIGINT comes during a run: the machine stops in order.", interrupt_the_host),
    SIGNALLED("terminate", "SIGTERM comes during a run: the machine stops in order.", terminate_the_host),
    { "host-signal", "quit", "SIGQUIT comes during a run: all stacks are printed, and it goes on.",
      .configure = with_signals, .prepare = prepare_quit, .cleanup = cleanup_quit, .user = ask_for_all_stacks,
      .quiet = true, .status = EXITED(0), .check = shows_everybody },
    { 0 },
};

/* SPDX-License-Identifier: MIT */
/* The sentence behind an error; and what may be called from where. */
#include "kernel.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static _Thread_local char host_error[KSSI_ERROR_MAX];

/* In user mode it is found through its CPU, which may change between any two lines: what is found must have this
   stack, or it is looked for again. One that has left its own stack takes what it finds. */
static struct kss_thread *thread_in_user_mode(void)
{
    uintptr_t sp = (uintptr_t)__builtin_frame_address(0);
    struct kss_thread *t = NULL;
    for (int i = 0; i < 100; i++) {
        t = __atomic_load_n(&kssi_this_cpu()->current, __ATOMIC_RELAXED);
        if (sp > t->user_low && sp <= t->user_high)
            break;
    }
    return t;
}

/* A simulated thread has its own sentence, wherever it runs; a host thread has one of its own. */
static char *error_buffer(void)
{
    if (!kssi_this_cpu())
        return host_error;
    if (kssi_cpu_mode() == KSS_MODE_USER)
        return thread_in_user_mode()->error;
    bool on = kssi_irq_save();
    struct kss_thread *t = kssi_this_cpu()->current;
    kssi_irq_restore(on);
    return t->error;
}

int kssi_error(int err, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(error_buffer(), KSSI_ERROR_MAX, format, ap);
    va_end(ap);
    return err;
}

int kss_set_error(int err, const char *format, ...)
{
    va_list ap;
    if (!format)
        return err;
    va_start(ap, format);
    vsnprintf(error_buffer(), KSSI_ERROR_MAX, format, ap);
    va_end(ap);
    return err;
}

const char *kss_last_error(void)
{
    return error_buffer();
}

const char *kss_version(void)
{
    return KSS_VERSION_STRING;
}

bool kssi_require_kernel(void)
{
    if (likely(kssi_cpu_mode() == KSS_MODE_KERNEL))
        return true; /* only a simulated CPU is ever in kernel mode */
    if (kssi_this_cpu())
        kssi_privileged_instruction();
    return false;
}

/* 0 in kernel mode, and on the host while the machine does not run. */
static int require(const struct kss_machine *m, const char *else_what)
{
    int r = kssi_valid_machine(m);
    if (r < 0)
        return r;
    if (kssi_require_kernel())
        return kss_machine_current() == m
                   ? 0 : kssi_error(-EINVAL, "machine %p is not the one that this CPU belongs to", (const void *)m);
    return m->life == KSSI_RUNNING ? kssi_error(-EBUSY, "the machine is running: %s", else_what) : 0;
}

int kssi_require_config(struct kss_machine *m)
{
    return require(m, "a host thread can't change it");
}

int kssi_require_view(const struct kss_machine *m)
{
    return require(m, "look from kernel mode, or when it has ended");
}

void kssi_assert_failed(const char *what, const char *file, int line)
{
    if (!kssi_this_cpu()) {
        fprintf(stderr, "kstacksim: assertion failed: %s (%s:%d)\n", what, file, line);
        abort();
    }
    kssi_panic(KSS_REPORT_INVARIANT, "assertion failed: %s (%s:%d)", what, file, line);
}

/* SPDX-License-Identifier: MIT */
/* The sentence behind an error; and what may be called from where. */
#include "kernel.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static _Thread_local char host_error[KSSI_ERROR_MAX];

/* A simulated thread has its own sentence, wherever it runs; a host thread has one of its own. In
   user mode the thread is found through its CPU: if it migrates in between, the sentence is its
   neighbour's, which is why simulated callers store it in kernel mode only. */
static char *error_buffer(void)
{
    struct kssi_cpu *cpu = kssi_this_cpu();
    if (!cpu)
        return host_error;
    bool on = kssi_cpu_mode() == KSS_MODE_KERNEL && kssi_irq_save();
    struct kss_thread *t = cpu->current;
    if (on)
        kssi_irq_restore(true);
    return t ? t->error : host_error;
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

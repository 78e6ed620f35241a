/* SPDX-License-Identifier: MIT */
/* The default context engine: glibc's makecontext and swapcontext. */
#include "hw.h"

#include <string.h>

struct context {
    ucontext_t uc;
};

size_t kssi_context_size(void)
{
    return sizeof(struct context);
}

/* getcontext() costs a host system call; what it gives is the same for every context, so it is
   called once. */
static ucontext_t template;
#if KSSI_ASAN
static kssi_swapcontext_fn *host_swapcontext;
#define swapcontext host_swapcontext
#endif

static void make_template(void)
{
#if KSSI_ASAN
    host_swapcontext = kssi_sanitizer_swapcontext();
#endif
    getcontext(&template);
    kssi_signals_cpu_mask(&template.uc_sigmask);
}

static const ucontext_t *template_context(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_template);
    return &template;
}

void kssi_context_init(void *ctx, struct kssi_range stack, void (*entry)(void))
{
    struct context *c = ctx;
    memcpy(&c->uc, template_context(), sizeof c->uc);
    kssi_arch_own_fpstate(&c->uc);
    c->uc.uc_stack.ss_sp = (void *)stack.low;
    c->uc.uc_stack.ss_size = stack.high - stack.low;
    c->uc.uc_link = NULL;
    makecontext(&c->uc, entry, 0);
}

KSSI_TAIL_CALL void kssi_context_switch(void *from, void *to)
{
    struct context *f = from, *t = to;
    swapcontext(&f->uc, &t->uc);
}

bool kssi_context_is_fresh(const void *ctx)
{
    const ucontext_t *uc = kssi_context_ucontext(ctx);
    return kssi_arch_pc(uc) == (uintptr_t)kssi_thread_entry;
}

const ucontext_t *kssi_context_ucontext(const void *ctx)
{
    return &((const struct context *)ctx)->uc;
}

uintptr_t kssi_context_sp(const void *ctx)
{
    return kssi_arch_ucontext_sp(kssi_context_ucontext(ctx));
}

/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "raw.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

double bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static __thread siginfo_t expiry;
static __thread long own_pid, own_tid;

void bench_expire(void)
{
    if (!own_tid) {
        own_pid = getpid();
        own_tid = gettid();
        memset(&expiry, 0, sizeof expiry);
        expiry.si_signo = SIGALRM;
        expiry.si_code = SI_TIMER;
    }
#ifdef __x86_64__
    long result;
    register long r10 __asm__("r10") = (long)&expiry;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(SYS_rt_tgsigqueueinfo), "D"(own_pid), "S"(own_tid), "d"((long)SIGALRM), "r"(r10)
                     : "rcx", "r11", "memory");
#else
    syscall(SYS_rt_tgsigqueueinfo, own_pid, own_tid, SIGALRM, &expiry);
#endif
}

static char *alternate_stack(void)
{
    char *p = malloc(65536);
    stack_t ss = { .ss_sp = p, .ss_size = 65536 };
    if (p) {
        memset(p, 0, 65536);
        sigaltstack(&ss, NULL);
    }
    return p;
}

static void drop_stack(char *p)
{
    stack_t off = { .ss_flags = SS_DISABLE };
    sigaltstack(&off, NULL);
    free(p);
}

static void empty(int sig)
{
    (void)sig;
}

double raw_signal(long n)
{
    char *stack = alternate_stack();
    struct sigaction sa = { .sa_handler = empty, .sa_flags = SA_ONSTACK | SA_RESTART }, old;
    sigaction(SIGALRM, &sa, &old);
    double start = bench_now();
    for (long i = 0; i < n; i++)
        bench_expire();
    double ns = (bench_now() - start) / (double)n;
    sigaction(SIGALRM, &old, NULL);
    drop_stack(stack);
    return ns;
}

static void skip(int sig, siginfo_t *si, void *context)
{
    ucontext_t *uc = context;
    (void)sig;
    (void)si;
#ifdef __x86_64__
    uc->uc_mcontext.gregs[REG_RIP] += 2;
#else
    (void)uc;
#endif
}

double raw_int(long n)
{
    char *stack = alternate_stack();
    struct sigaction sa = { .sa_sigaction = skip, .sa_flags = SA_ONSTACK | SA_SIGINFO }, old;
    sigaction(SIGSEGV, &sa, &old);
    double start = bench_now();
#ifdef __x86_64__
    for (long i = 0; i < n; i++)
        __asm__ volatile("int $0x81" ::: "memory");
#endif
    double ns = (bench_now() - start) / (double)n;
    sigaction(SIGSEGV, &old, NULL);
    drop_stack(stack);
    return ns;
}

static ucontext_t here, there;

static void bounce(void)
{
    for (;;)
        swapcontext(&there, &here);
}

double raw_swapcontext(long n)
{
    char *stack = malloc(65536);
    getcontext(&there);
    there.uc_stack.ss_sp = stack;
    there.uc_stack.ss_size = 65536;
    makecontext(&there, bounce, 0);
    double start = bench_now();
    for (long i = 0; i < n; i += 2)
        swapcontext(&here, &there);
    double ns = (bench_now() - start) / (double)n;
    free(stack);
    return ns;
}

double raw_getppid(long n)
{
    double start = bench_now();
    for (long i = 0; i < n; i++)
        getppid();
    return (bench_now() - start) / (double)n;
}

static void *nothing(void *arg)
{
    return arg;
}

double raw_pthread(long n)
{
    double start = bench_now();
    for (long i = 0; i < n; i++) {
        pthread_t t;
        if (pthread_create(&t, NULL, nothing, NULL) != 0)
            abort();
        pthread_join(t, NULL);
    }
    return (bench_now() - start) / (double)n;
}

/* SPDX-License-Identifier: MIT */
/* What gdb.sh looks at: a program interrupted in user mode, in a function that a function calls. */
#include <kstacksim/kstacksim.h>

#include <pthread.h>
#include <stdio.h>
#include <time.h>

#define LINE 40
#define ENOUGH 20 /* interrupts */

static volatile int interrupts;
static volatile unsigned long spins;

/* Where gdb.sh puts its breakpoint. */
__attribute__((noinline, used)) static void isr_breakpoint(void)
{
    __asm__ volatile("" ::: "memory");
}

__attribute__((noinline)) static void my_isr(unsigned line, void *arg)
{
    (void)arg;
    isr_breakpoint();
    interrupts++;
    kss_irq_eoi(line);
}

__attribute__((noinline)) static void user_inner(void)
{
    while (interrupts < ENOUGH)
        spins++;
}

__attribute__((noinline)) static long user_function(void *arg)
{
    (void)arg;
    user_inner();
    return spins == 0;
}

/* A device: it raises its line while user mode spins. */
static void *device(void *arg)
{
    struct kss_machine *m = arg;
    struct timespec pause = { 0, 20000000 };
    while (interrupts < ENOUGH) {
        nanosleep(&pause, NULL);
        if (spins)
            kss_irq_raise(m, 0, LINE);
    }
    return NULL;
}

int main(void)
{
    struct kss_config c;
    struct kss_machine *m;
    pthread_t thread;
    int status = -1;

    kss_config_init(&c);
    if (kss_machine_create(&m, &c) < 0 || kss_irq_request(m, LINE, my_isr, NULL, "gdb") < 0 ||
        pthread_create(&thread, NULL, device, m) != 0) {
        printf("gdb_target: %s\n", kss_last_error());
        return 1;
    }
    int r = kss_machine_run(m, user_function, NULL, &status);
    if (r < 0)
        printf("gdb_target: %s\n", kss_last_error());
    interrupts = ENOUGH;
    pthread_join(thread, NULL);
    kss_machine_destroy(m);
    printf("gdb_target: %d interrupts, status %d\n", interrupts, status);
    return r < 0 || status != 0;
}

/* SPDX-License-Identifier: MIT */
/*
 * The story of one timer interrupt, end to end, told from the trace.
 *
 * A process computes and never gives up the CPU; another one sleeps. The first tick that interrupts
 * the computation is picked out of the trace and narrated: expiry, mode switch, trap frame saved,
 * interrupt handler, bookkeeping (the sleeper is woken), end of interrupt, return.
 *
 * Expect: some seven events, each with its explanation. The program counter of the entry and of the
 * return are the same: the interrupted program goes on as if nothing had happened. (REQ I8)
 */
#include <kstacksim/kstacksim.h>

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

#define MARK_COMPUTING 1
#define TIMER_VECTOR (KSS_VEC_IRQ + KSS_LINE_TIMER)

/* What each step means. */
static const char *const meaning[KSS_TR_TYPES] = {
    [KSS_TR_RAISE] = "expiry: the period is over, the timer raises its line",
    [KSS_TR_ENTER] = "mode switch, save: what the CPU was doing is stored on the thread's kernel\n"
                     "     stack, the vector table says where to go",
    [KSS_TR_ISR_IN] = "ISR: the handler of the timer's line runs, just below the trap frame",
    [KSS_TR_WAKE] = "bookkeeping: a sleeper's time has come; it is READY and waits for the CPU",
    [KSS_TR_EOI] = "EOI: bookkeeping is done; the controller may deliver the next tick",
    [KSS_TR_ISR_OUT] = "restore: the handler is through, nothing of it is left on the stack",
    [KSS_TR_LEAVE] = "resume: every register comes back out of the frame, the program goes on",
};

struct story {
    struct kss_machine *machine;
    int tid;   /* the computing thread; 0: its mark was not seen yet */
    bool open; /* between entry and return */
    unsigned steps[KSS_TR_TYPES];
    struct kss_trace_event raise, enter, isr, leave;
};

static void say(const struct story *s, const struct kss_trace_event *event)
{
    char sentence[256];
    if (kss_trace_narrate(s->machine, event, sentence, sizeof sentence) < 0)
        return;
    printf("%s\n", sentence);
    if (meaning[event->type])
        printf("     %s\n", meaning[event->type]);
}

static long sleeper(void *arg)
{
    (void)arg;
    return kss_sleep(20000) < 0; /* 20 us, rounded up to the next tick */
}

/* Computes until a few ticks have come. Nothing in the loop enters the kernel: ticks break in. */
static long program(void *arg)
{
    struct kss_machine *machine = arg;
    struct kss_machine_stats now, start;
    volatile uint64_t x = 1;
    int status = 0;
    long pid = kss_spawn(sleeper, NULL, &(struct kss_spawn_attr){.name = "sleeper"});
    /* The sleeper runs at the yield and sleeps. Then comes the mark. */
    if (pid < 0 || kss_yield() < 0 || kss_machine_stats(machine, &start) < 0 ||
        kss_trace_mark(MARK_COMPUTING, 0) < 0) {
        fprintf(stderr, "timer_story: %s\n", kss_last_error());
        return 1;
    }
    do {
        for (int i = 0; i < 100000; i++)
            x = x * 6364136223846793005u + 1;
        if (kss_machine_stats(machine, &now) < 0)
            return 1;
    } while (now.total.ticks < start.total.ticks + 3);
    return kss_wait(pid, &status) != pid || status != 0;
}

static int tell(const struct kss_trace_event *event, void *arg)
{
    struct story *s = arg;
    if (event->type == KSS_TR_MARK && event->value[0] == MARK_COMPUTING)
        s->tid = event->tid;
    if (!s->tid || event->tid != s->tid)
        return 0;
    if (event->type == KSS_TR_RAISE && event->value[0] == KSS_LINE_TIMER && !s->open)
        s->raise = *event;
    if (event->type == KSS_TR_ENTER && event->value[0] == TIMER_VECTOR &&
        event->value[3] == KSS_MODE_USER) {
        s->open = true;
        s->enter = *event;
        if (s->raise.type == KSS_TR_RAISE)
            say(s, &s->raise);
    }
    if (!s->open)
        return 0;
    if (event->type == KSS_TR_ISR_IN)
        s->isr = *event;
    s->steps[event->type]++;
    say(s, event);
    if (event->type != KSS_TR_LEAVE || event->value[1] != s->enter.value[1])
        return 0;
    s->leave = *event;
    return 1;
}

static int check(const struct story *s, size_t kstack_size)
{
    static const enum kss_trace_type once[] = {KSS_TR_ENTER, KSS_TR_ISR_IN, KSS_TR_EOI,
                                               KSS_TR_ISR_OUT, KSS_TR_LEAVE};
    for (size_t i = 0; i < sizeof once / sizeof once[0]; i++) {
        if (s->steps[once[i]] != 1) {
            fprintf(stderr, "timer_story: %u of %s, 1 expected\n", s->steps[once[i]],
                    kss_trace_type_name(once[i]));
            return 1;
        }
    }
    uint64_t frame = s->enter.value[1], handler = s->isr.value[1];
    if (s->enter.value[2] != s->leave.value[2] || s->leave.value[3] != KSS_MODE_USER) {
        fprintf(stderr, "timer_story: it did not go on where it was interrupted\n");
        return 1;
    }
    if (handler >= frame || frame - handler >= kstack_size) {
        fprintf(stderr, "timer_story: the handler did not run below the trap frame\n");
        return 1;
    }
    printf("\nInterrupted and resumed at pc %#" PRIx64 ", %.1f us later by the clock; the handler's"
           "\nfirst frame lay %" PRIu64 " bytes below the trap frame.\n",
           s->enter.value[2], (double)(s->leave.time_ns - s->enter.time_ns) / 1e3, frame - handler);
    return 0;
}

static int run(void)
{
    struct kss_config config;
    struct story s = {0};
    int status = 0;
    kss_config_init(&config);
    config.trace = true;
    config.timeslice_ns = 10000000000; /* long: the tick of the story comes back to who it took */
    int r = kss_machine_create(&s.machine, &config);
    if (r == 0)
        r = kss_machine_run(s.machine, program, s.machine, &status);
    if (r == 0)
        r = kss_trace_for_each(s.machine, tell, &s);
    if (r < 0)
        fprintf(stderr, "timer_story: %s\n", kss_last_error());
    else if (r == 0)
        fprintf(stderr, "timer_story: no tick interrupted the program\n");
    int bad = r != 1 || status != 0 || check(&s, config.kstack_size);
    if (kss_machine_destroy(s.machine) < 0)
        fprintf(stderr, "timer_story: %s\n", kss_last_error());
    return bad;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    static const char usage[] = "usage: timer_story\n"
                                "One timer interrupt end to end, narrated from the trace.\n";
    int c = getopt_long(argc, argv, "h", options, NULL);
    if (c != -1 || optind != argc) {
        fputs(usage, c == 'h' ? stdout : stderr);
        return c == 'h' ? 0 : 2;
    }
    return run();
}

/* SPDX-License-Identifier: MIT */
/* deep_path: what came of it, for people. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "dp.h"
#include "table.h"

static const char *how(const struct dp_run *run)
{
    return run->irq_stacks == KSS_IRQ_STACKS_PER_CPU ? "interrupts on stacks of the CPU's own"
                                                     : "interrupts on the stack in use";
}

/* ---- which function lies on which stack --------------------------------------------------------- */

static bool of_the_path(const struct kss_frame *f)
{
    for (int i = 0; dp_names[i]; i++)
        if (strcmp(f->symbol, dp_names[i]) == 0)
            return true;
    return false;
}

/* Frames on one stack follow each other at rising addresses. */
static int end_of_stack(const struct dp_run *run, int first)
{
    int i = first + 1;
    while (i < run->frames && run->on[i] == run->on[first] && run->frame[i].sp - run->frame[i - 1].sp < 65536)
        i++;
    return i;
}

/* NULL: nothing of the path. A CPU has several vector stacks: told apart by what runs on them. */
static const char *name_stack(const struct dp_run *run, int first, int end)
{
    const char *name = NULL;
    for (int i = first; i < end; i++) {
        if (strcmp(run->frame[i].symbol, "net_receive") == 0 && run->on[i] == KSS_STACK_VECTOR)
            return "softirq stack";
        if (strcmp(run->frame[i].symbol, "nmi_profiler") == 0)
            return "NMI stack";
        if (of_the_path(&run->frame[i]))
            name = kss_stack_kind_name(run->on[first]);
    }
    return name;
}

/* Words behind a heading, wrapped and indented. */
static int add(int column, const char *word)
{
    if (column && column + (int)strlen(word) > 75) {
        printf(",\n%21s", "");
        column = 0;
    }
    return column + printf("%s%s", column ? ", " : "", word);
}

/* One line a stack, the innermost first; on it the functions of the path, in the order they were called. */
static void show_path(const struct dp_run *run)
{
    printf("  The stacks at the deepest point, and what lies on each:\n");
    for (int first = 0, end; first < run->frames; first = end) {
        int column = 0;
        end = end_of_stack(run, first);
        const char *name = name_stack(run, first, end);
        if (!name)
            continue;
        printf("    %-16s ", name);
        for (int i = end - 1; i >= first; i--) {
            if (run->frame[i].kind == KSS_FRAME_TRAP)
                column = add(column, "[trap frame]");
            else if (of_the_path(&run->frame[i]))
                column = add(column, run->frame[i].symbol);
        }
        putchar('\n');
    }
}

/* ---- one run ------------------------------------------------------------------------------------ */

/* What a reader is to look for in what follows. */
static void explain(const struct dp_run *run)
{
    if (run->expect_overflow)
        printf("The network's interrupt finds the file system deep in its work, and everything it does is laid\n"
               "below that, on the same stack. Neither path is too much for it, but both are: it ends in the\n"
               "guard below the stack. The frames of the report, from the bottom up, are the whole path:\n\n");
    else if (run->irq_stacks == KSS_IRQ_STACKS_PER_CPU)
        printf("The same path. Now an interrupt leaves no more than its trap frame on the thread's stack:\n"
               "softirqs and hard irqs have stacks of their own, one set for each CPU.\n\n");
    else
        printf("The same path, all on one stack again, which is twice as large.\n\n");
}

static void show_overflow(const struct dp_run *run)
{
    static struct kss_stack_picture picture;
    static char text[DP_PICTURE];
    printf("%s\n", run->report_text);
    if (kss_picture_report(&run->report, &picture) == 0 && kss_picture_text(&picture, text, sizeof text) > 0)
        printf("The stack, as the report has found it:\n\n%s\n", text);
    printf("The bystander's kernel stack ends %" PRIuPTR " bytes below the one that overflowed.\n"
           "All its %zu bytes are %s.\n",
           run->report.stack_low - run->neighbour.high, run->neighbour.size,
           run->neighbour_unchanged ? "as they were" : "NOT as they were");
}

void dp_show_run(const struct dp_run *run)
{
    printf("\n%s) Kernel stacks of %zu bytes, %s\n\n", run->label, run->kstack_size, how(run));
    explain(run);
    if (run->reports) {
        show_overflow(run);
        return;
    }
    show_path(run);
    printf("\n%s", run->picture);
}

/* ---- all of them -------------------------------------------------------------------------------- */

static const char *number(char *out, size_t size, size_t n)
{
    snprintf(out, size, n ? "%zu" : "-", n);
    return out;
}

static void row(struct table *t, const struct dp_run *run)
{
    char softirq[24], hard[24], nmi[24], worst[24];
    const struct kss_stack_depths *d = &run->depths;
    snprintf(worst, sizeof worst, run->reports ? "over %zu" : "%zu", run->reports ? run->kstack_size : d->worst);
    table_row(t, "%s|%zu|%s|%s|%zu|%s|%s|%s|%s", run->label, run->kstack_size,
              run->irq_stacks == KSS_IRQ_STACKS_PER_CPU ? "per CPU" : "none",
              run->reports ? kss_report_kind_name(run->report.kind) : "fits", d->task,
              number(softirq, sizeof softirq, d->softirq), number(hard, sizeof hard, d->hard_irq),
              number(nmi, sizeof nmi, d->nmi), worst);
}

void dp_show_table(const struct dp_run *runs, int n)
{
    static const char *const head[] = { "RUN",  "STACK SIZE", "INTERRUPT STACKS", "RESULT", "TASK",
                                        "SOFTIRQ", "HARD IRQ", "NMI",      "WORST CASE" };
    const struct dp_run *a = &runs[0], *b = &runs[1], *c = &runs[2];
    printf("\nHow deep each kind of stack was used, in bytes. The worst case is all of them at once: their\n"
           "sum. A non-maskable interrupt has a stack of its own in every run.\n\n");
    struct table *t = table_new(head, 9, "r r l l r r r r r");
    for (int i = 0; i < n; i++)
        row(t, &runs[i]);
    table_print(t);
    printf("\n  a  Softirq and hard irq use the task's stack. The path needs %zu bytes of it, as c shows:\n"
           "     %zu are not enough. Down to %zu something was written before the guard was hit.\n"
           "  b  The sum is about that of c: no function needs less. But only %zu bytes are on the thread's\n"
           "     stack; the rest is on stacks that a CPU has once, for however many threads.\n"
           "  c  The thread's stack holds the worst case of everything but the NMI. With 1000 threads that\n"
           "     costs %zu KiB more than b, for interrupts that only the running one can be in.\n",
           c->depths.task, a->kstack_size, a->depths.task, b->depths.task, 1000 * (c->kstack_size - b->kstack_size) / 1024);
}

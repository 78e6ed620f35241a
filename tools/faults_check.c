/* SPDX-License-Identifier: MIT */
/* What came of a fault, beside what must come of it. */
#include "faults.h"

#include <stdarg.h>

KSS_PRINTF(4, 5) static void check(struct fault_run *run, const char *name, bool ok, const char *format, ...)
{
    if (run->checks == FAULT_CHECKS)
        return;
    struct fault_check *c = &run->check[run->checks++];
    va_list ap;
    c->name = name;
    c->ok = ok;
    va_start(ap, format);
    vsnprintf(c->said, sizeof c->said, format, ap);
    va_end(ap);
}

static const char *mode_name(enum kss_mode mode)
{
    return mode == KSS_MODE_USER ? "user" : "kernel";
}

bool fault_report_names(const struct kss_report *r, const char *function)
{
    bool found = strcmp(r->symbol, function) == 0 || strcmp(r->place.symbol, function) == 0;
    for (int i = 0; i < r->frames; i++)
        found |= strcmp(r->frame[i].symbol, function) == 0;
    for (int i = 0; i < r->other_frames; i++)
        found |= strcmp(r->other[i].symbol, function) == 0;
    return found;
}

/* "name" when it is what was expected, else "name, not other". */
static void same(struct fault_run *run, const char *name, bool ok, const char *is, const char *expected)
{
    if (ok)
        check(run, name, true, "%s", is);
    else
        check(run, name, false, "%s, not %s", is, expected);
}

static void check_report(struct fault_run *run)
{
    const struct fault *f = run->fault;
    const struct kss_report *r = &run->report[0];
    unsigned want = f->quiet ? 0 : f->reports ? f->reports : 1;
    check(run, "reports", run->reports == want, run->reports == want ? "%u" : "%u, not %u", run->reports, want);
    if (!run->reports || f->quiet)
        return;
    same(run, "kind", r->kind == f->kind, kss_report_kind_name(r->kind), kss_report_kind_name(f->kind));
    same(run, "action", r->action == f->action, kss_report_action_name(r->action),
         kss_report_action_name(f->action));
    same(run, "stack", r->stack == f->stack, kss_stack_kind_name(r->stack), kss_stack_kind_name(f->stack));
    same(run, "mode", r->mode == f->mode, mode_name(r->mode), mode_name(f->mode));
    if (f->culprit)
        check(run, "culprit", fault_report_names(r, f->culprit), "%s%s", f->culprit,
              fault_report_names(r, f->culprit) ? "()" : "() is nowhere in the report");
    if (f->sentence)
        check(run, "sentence", strstr(r->message, f->sentence) != NULL, "\"%s\"%s", f->sentence,
              strstr(r->message, f->sentence) ? "" : " is not in the message");
}

static const char *status_text(int status, char *buffer, size_t size)
{
    if (KSS_WIFEXITED(status))
        snprintf(buffer, size, "exit status %d", KSS_WEXITSTATUS(status));
    else if (KSS_WVECTOR(status) == KSS_KILLED)
        snprintf(buffer, size, "killed");
    else
        snprintf(buffer, size, "killed by vector %d (%s)", KSS_WVECTOR(status),
                 kss_vector_name((unsigned)KSS_WVECTOR(status)));
    return buffer;
}

static int expected_run(const struct fault *f)
{
    return f->run ? f->run : !f->quiet && f->action == KSS_ACTION_STOP_MACHINE ? -EFAULT : 0;
}

static void check_end(struct fault_run *run)
{
    const struct fault *f = run->fault;
    int want = expected_run(f);
    char is[64], expected[64];
    check(run, "run", run->run == want, run->run == want ? (want ? "the machine stopped (%d)" : "to its end (%d)")
                                                        : "kss_machine_run() gave %d, not %d", run->run, want);
    if (want == 0)
        same(run, "status", run->status == f->status, status_text(run->status, is, sizeof is),
             status_text(f->status, expected, sizeof expected));
}

static void check_neighbours(struct fault_run *run)
{
    unsigned long bad = 0, rounds = 0;
    bool well = true;
    for (int i = 0; i < FAULT_NEIGHBOURS; i++) {
        const struct fault_neighbour *n = &run->neighbour[i];
        bad += fault_neighbour_changed(n);
        rounds += n->rounds - n->rounds_at_fault;
        well &= n->status == 0 && n->pid > 0;
    }
    if (expected_run(run->fault) < 0)
        check(run, "neighbours", bad == 0 && well, "%d, %lu bytes of their stacks changed", FAULT_NEIGHBOURS, bad);
    else
        check(run, "neighbours", bad == 0 && well && run->finished,
              "%d, %lu bytes of their stacks changed, %lu rounds since", FAULT_NEIGHBOURS, bad, rounds);
}

void fault_check_all(struct fault_run *run)
{
    const struct fault *f = run->fault;
    check_report(run);
    check_end(run);
    check_neighbours(run);
    if (f->check || run->wrong[0]) {
        const char *wrong = run->wrong[0] ? run->wrong : f->check(run);
        check(run, "account", !wrong, "%s", wrong ? wrong : "as it must be");
    }
    int r = kss_check(run->machine);
    check(run, "machine", r == 0 && !run->trouble[0], "%s",
          r ? kss_last_error() : run->trouble[0] ? run->trouble : "whole");
}

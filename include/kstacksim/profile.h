/* SPDX-License-Identifier: MIT */
/* The profile: where the stacks were, tick by tick, for flame graphs, and how deep each function's frame lay. */
#ifndef KSTACKSIM_PROFILE_H
#define KSTACKSIM_PROFILE_H

#include <stdio.h>
#include <kstacksim/common.h>
#include <kstacksim/kstack.h>

KSS_BEGIN_DECLS

/** What the samples say of one function (or, KSS_FRAME_TRAP, of the trap frames of one vector). */
struct kss_function_depth {
    char function[64];
    enum kss_frame_kind kind;
    uint64_t samples; /* in which it was seen, however often in one */
    size_t frame;     /* its largest frame, return address included; 0: not known */
    size_t depth;     /* most bytes from the top of the stack to the low end of its frame */
};

/**
 * Writes one line for each different stack, "thread;outermost;...;innermost count", as flame graph tools read
 * them. Returns how many samples they are, or -ENODATA (kss_config.profile is off), -EIO.
 * Context: kernel; host while the machine does not run.
 */
KSS_API long kss_profile_folded(struct kss_machine *machine, FILE *out);

/**
 * The functions that were seen, deepest first. Returns how many there are, of which at most max are written;
 * -ENODATA when kss_config.profile is off. Context as kss_profile_folded().
 */
KSS_API int kss_profile_functions(struct kss_machine *machine, struct kss_function_depth *out, int max);

KSS_END_DECLS
#endif

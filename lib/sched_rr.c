/* SPDX-License-Identifier: MIT */
/*
 * Round robin: every thread gets a time slice in turn, first come first served. This is what the
 * defaults of a scheduler class do, so there is nothing to add but a name.
 */
#include <kstacksim/sched.h>

const struct kss_sched_class kss_sched_rr = {
    .abi_size = sizeof(struct kss_sched_class),
    .name = "rr",
};

/* SPDX-License-Identifier: MIT */
/* Inside of the profile: bounded tables, made with the machine, so that taking a sample allocates nothing. */
#ifndef KSSI_PROFILE_H
#define KSSI_PROFILE_H

#include "kernel.h"

/* Powers of two. */
#define KSSI_PROFILE_FUNCTIONS 4096
#define KSSI_PROFILE_STACKS 4096

struct kssi_profile_function {
    uint64_t samples;  /* 0: a free place. The rest is written before it */
    uint64_t last;     /* the sample it was seen in last, for recursion */
    uintptr_t start;   /* where it begins; of KSS_FRAME_TRAP: the vector */
    enum kss_frame_kind kind;
    size_t frame, depth;
    char name[64];     /* by whoever reads first: looking it up is slow */
};

struct kssi_profile_stack {
    uint64_t count;    /* 0: a free place. The rest is written before it */
    uint64_t hash;
    char thread[KSS_NAME_MAX];
    uint16_t frames;
    uint16_t function[KSSI_WALK_FRAMES]; /* innermost first */
};

struct kssi_profile {
    struct kss_spinlock lock; /* writers */
    uint64_t samples, lost;   /* lost: a table was full */
    unsigned functions, stacks;
    struct kssi_profile_function function[KSSI_PROFILE_FUNCTIONS];
    struct kssi_profile_stack stack[KSSI_PROFILE_STACKS];
};

#endif

/* SPDX-License-Identifier: MIT */
/* Inside of the pictures: what one is built from, and where a renderer puts its parts. */
#ifndef KSSI_PICTURE_H
#define KSSI_PICTURE_H

#include "kernel.h"

/* What is known of a stack. */
struct kssi_picture_source {
    uintptr_t low, high, sp;
    uintptr_t user_frame;         /* 0: not a task stack */
    size_t high_water;            /* 0: not known */
    size_t guard_low, guard_high;
    const char *info;             /* thread_info's label; NULL: there is none at the low end, nor a canary */
    bool canary_intact;
    bool user;                    /* a user stack: its frames are user frames */
    bool live;                    /* trap frames can be read where they are */
    bool cut;                     /* the backtrace may have more frames than these */
    const struct kss_frame *frame;
    int frames;
};

/* Title and state are the caller's, before or after. */
void kssi_picture_build(struct kss_stack_picture *p, const struct kssi_picture_source *s);
/* own: the frame of the public function that was called; it and what is below are left out. */
int kssi_picture_thread(struct kss_thread *t, struct kss_stack_picture *p, uintptr_t own);

/* One row of a drawing: a part, or several frames of one function in a row. Tenths of a pixel. */
struct kssi_picture_row {
    unsigned first, count; /* parts */
    int y, height;         /* in the column */
    int label;             /* middle of the label */
    bool scaled;           /* its height is in proportion to its size */
};

struct kssi_picture_layout {
    unsigned rows;
    struct kssi_picture_row row[KSS_PICTURE_PARTS];
    int column;            /* height of the column, guards included */
    int height;            /* of column and labels */
    unsigned enlarged;     /* rows that are higher than their size asks for */
    size_t pixel;          /* bytes a pixel, where in proportion */
};

void kssi_picture_layout(const struct kss_stack_picture *p, struct kssi_picture_layout *l);
/* Where an address of the picture is in the column. */
int kssi_picture_y(const struct kss_stack_picture *p, const struct kssi_picture_layout *l, uintptr_t a);
/* Moves y[0..n) apart to at least `gap`, as little as it takes, order kept, none above `top`. */
void kssi_picture_spread(int *y, unsigned n, int gap, int top);

#endif

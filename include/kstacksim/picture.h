/* SPDX-License-Identifier: MIT */
/* Pictures of a stack: what lies where at one instant, as data, as text and as SVG. */
#ifndef KSTACKSIM_PICTURE_H
#define KSTACKSIM_PICTURE_H

#include <kstacksim/common.h>
#include <kstacksim/kstack.h>
#include <kstacksim/report.h>

KSS_BEGIN_DECLS

/** What a part of a stack is. */
enum kss_part_kind {
    KSS_PART_GUARD,       /* inaccessible, outside of the stack */
    KSS_PART_TRAP,        /* a trap frame */
    KSS_PART_FRAME,       /* a function's frame */
    KSS_PART_PADDING,     /* red zone, alignment, random offset: in use, and nobody's frame */
    KSS_PART_USED,        /* used earlier: between the stack pointer and the high-water mark */
    KSS_PART_UNUSED,      /* never used: poison; or free, where nothing tells what was used */
    KSS_PART_CANARY,      /* the word that an overflow hits first */
    KSS_PART_THREAD_INFO,
    KSS_PART_BEYOND,      /* frames past the low end: an overflow */
    KSS_PART_KINDS
};

#define KSS_PICTURE_PARTS 160 /* most parts of a picture */

/** One part: the bytes [low, high). */
struct kss_stack_part {
    enum kss_part_kind kind;
    uintptr_t low, high;
    char label[120];
};

/**
 * A stack at one instant. The parts go from high to low addresses, each ends where the next one begins, and
 * those that are no guard and not beyond the end cover [low, high) exactly.
 */
struct kss_stack_picture {
    char title[120];              /* such as "kernel stack of thread 3 (writer)" */
    char state[352];              /* the thread's state, or what was reported */
    uintptr_t low, high;          /* the stack is [low, high) */
    uintptr_t sp;                 /* stack pointer; 0: nothing is in use */
    size_t high_water;            /* most bytes ever used; 0: not known */
    size_t guard_low, guard_high; /* bytes guarded beside each end; 0: none, or not known */
    unsigned parts;
    struct kss_stack_part part[KSS_PICTURE_PARTS];
};

/**
 * Takes the picture of a thread's kernel stack. thread may be NULL: the caller, from the function that calls
 * this. -ENODATA while it has none. Context as kss_kstack_info().
 */
KSS_API int kss_picture_thread(struct kss_thread *thread, struct kss_stack_picture *picture);

/**
 * Makes the picture of the stack that a report is about from what the report says, with what lies past its end
 * after an overflow. -ENODATA when the report names no stack, -EINVAL when what it says of one can't be. Context: any.
 */
KSS_API int kss_picture_report(const struct kss_report *report, struct kss_stack_picture *picture);

/** 0 if the picture is one as described above, else -EINVAL with a sentence. Context: any. */
KSS_API int kss_picture_check(const struct kss_stack_picture *picture);

/**
 * Draws a picture as text, to scale, high addresses first; always NUL-terminated. Returns the length that the
 * whole text has. Context: any.
 */
KSS_API int kss_picture_text(const struct kss_stack_picture *picture, char *buffer, size_t size);

/**
 * Draws pictures, one below the other, as one self-contained SVG document; always NUL-terminated. Returns the
 * length that the whole document has. Context: any, with 16 KiB of stack to spare.
 */
KSS_API int kss_picture_svg(const struct kss_stack_picture *pictures, unsigned count, char *buffer, size_t size);

/** A part's kind for people, such as "trap frame". Context: any. */
KSS_API const char *kss_part_kind_name(enum kss_part_kind kind);
/** A part's kind for programs, such as "trap-frame". Context: any. */
KSS_API const char *kss_part_kind_id(enum kss_part_kind kind);

KSS_END_DECLS
#endif

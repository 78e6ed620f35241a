/* SPDX-License-Identifier: MIT */
/* deep_path: what its three files share. */
#ifndef DP_H
#define DP_H

#include <kstacksim/kstacksim.h>

#define DP_FRAMES 64
#define DP_PICTURE 16384
#define DP_REPORT 8192
#define DP_FUNCTIONS 12 /* with locals, that lie on stacks at the same time, the NMI's not counted */
#define DP_LOCALS_MIN 16

/* One run of the deep path on a machine of its own. Simulated programs and the host share one address space. */
struct dp_run {
    /* what is asked for */
    const char *label;
    size_t kstack_size;
    enum kss_irq_stacks irq_stacks;
    size_t locals; /* bytes of local data of each function on the path */
    bool expect_overflow;
    /* what came of it */
    int result;              /* of kss_machine_run() */
    char sentence[256];      /* why, if it failed */
    int status;              /* of the first process */
    long blocks;             /* what the reader's system call returned */
    int reader_tid;
    unsigned reports;
    struct kss_report report;
    char report_text[DP_REPORT];
    struct kss_stack_depths depths;
    /* seen from the deepest point */
    unsigned looks;
    char picture[DP_PICTURE];
    struct kss_frame frame[DP_FRAMES];
    enum kss_stack_kind on[DP_FRAMES]; /* which stack each of them lies on */
    int frames;
    /* a bystander's kernel stack, before the path and after it */
    struct kss_kstack_info neighbour;
    unsigned char *saved;
    bool neighbour_unchanged;
};

/* dp_paths.c: the two paths through the kernel, as a driver and a file system would go them. */
int dp_install(struct kss_machine *m, struct dp_run *run);
extern const char *const dp_names[]; /* its functions; ends with NULL */
/* Saves the bystander's kernel stack, or tells whether it is as it was saved. */
bool dp_neighbour(struct dp_run *run, bool save);
/* The processes: a reader that goes down the path, and its bystander. */
long dp_main(void *run);

/* dp_show.c */
void dp_show_run(const struct dp_run *run);
void dp_show_table(const struct dp_run *runs, int n);

#endif

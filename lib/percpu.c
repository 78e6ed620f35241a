/* SPDX-License-Identifier: MIT */
/*
 * Per-CPU counters. The addition is atomic all the same: a thread may migrate, or be interrupted by one who counts too,
 * between the choice of the slot and the addition. On a line that is the CPU's own that costs next to nothing.
 */
#include "kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <ck_pr.h>

#define STEP (64 / sizeof(int64_t))

int kss_percpu_counter_init(struct kss_percpu_counter *c, struct kss_machine *m)
{
    int r = kssi_require_config(m);
    if (r < 0)
        return r;
    if (!c)
        return kssi_error(-EINVAL, "the counter is NULL");
    size_t size = m->cpus * STEP * sizeof(int64_t);
    int64_t *slot = aligned_alloc(64, size);
    if (!slot)
        return kssi_error(-ENOMEM, "no host memory for a counter of %u CPUs", m->cpus);
    memset(slot, 0, size);
    *c = (struct kss_percpu_counter){ slot, m->cpus };
    return 0;
}

void kss_percpu_counter_destroy(struct kss_percpu_counter *c)
{
    if (kssi_this_cpu() && !kssi_require_kernel())
        return;
    if (!c)
        return;
    free(c->slot);
    *c = (struct kss_percpu_counter){ NULL, 0 };
}

static int check(const struct kss_percpu_counter *c)
{
    if (kssi_this_cpu())
        kssi_require_kernel();
    if (!c || !c->slot)
        return kssi_error(-EINVAL, c ? "the counter was not initialised" : "the counter is NULL");
    return 0;
}

int kss_percpu_counter_add(struct kss_percpu_counter *c, int64_t n)
{
    int r = check(c);
    if (r < 0)
        return r;
    const struct kssi_cpu *cpu = kssi_this_cpu();
    unsigned index = cpu && cpu->index < c->slots ? cpu->index : 0;
    ck_pr_add_64((uint64_t *)&c->slot[index * STEP], (uint64_t)n);
    return 0;
}

int64_t kss_percpu_counter_sum(const struct kss_percpu_counter *c)
{
    uint64_t sum = 0;
    if (check(c) < 0)
        return 0;
    for (unsigned i = 0; i < c->slots; i++)
        sum += ck_pr_load_64((uint64_t *)&c->slot[i * STEP]);
    return (int64_t)sum;
}

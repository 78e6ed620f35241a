/* SPDX-License-Identifier: MIT */
/* Sequence locks: Concurrency Kit's, the writers under a spinlock, the readers without one. */
#include "kernel.h"

#include <ck_pr.h>
#include <ck_sequence.h>

_Static_assert(sizeof(ck_sequence_t) == sizeof(((struct kss_seqlock *)0)->sequence), "storage in the public struct");

#define READER_PAUSES 16

static ck_sequence_t *ck(struct kss_seqlock *s)
{
    return (ck_sequence_t *)&s->sequence;
}

void kss_seqlock_init(struct kss_seqlock *s, const char *name)
{
    if (s)
        *s = (struct kss_seqlock)KSS_SEQLOCK_INIT(name);
}

bool kss_seq_write_begin(struct kss_seqlock *s)
{
    bool on = kss_spin_lock(s ? &s->lock : NULL);
    if (s)
        ck_sequence_write_begin(ck(s));
    return on;
}

/* One who does not have it is reported by the unlock, and leaves the sequence alone. */
void kss_seq_write_end(struct kss_seqlock *s, bool irqs_were_on)
{
    if (s && kssi_cpu_mode() == KSS_MODE_KERNEL && s->lock.holder == kssi_current())
        ck_sequence_write_end(ck(s));
    kss_spin_unlock(s ? &s->lock : NULL, irqs_were_on);
}

/*
 * A writer is at work: whatever is read now is read again. A short wait saves the reader some rounds; but it must not
 * be for ever, since the reader may be the handler of a non-maskable interrupt that came to the writer's CPU.
 */
__attribute__((cold, noinline)) static unsigned odd(const struct kss_seqlock *s)
{
    unsigned sequence = 0;
    for (int i = 0; i < READER_PAUSES; i++) {
        sequence = ck_pr_load_uint(&s->sequence);
        if (!(sequence & 1))
            break;
        kssi_relax();
    }
    if (sequence & 1)
        kssi_relax_long();
    ck_pr_fence_load();
    return sequence & ~1u;
}

unsigned kss_seq_read_begin(const struct kss_seqlock *s)
{
    unsigned sequence = s ? ck_pr_load_uint(&s->sequence) : 0;
    if (unlikely(sequence & 1))
        return odd(s);
    ck_pr_fence_load();
    return sequence;
}

bool kss_seq_read_retry(const struct kss_seqlock *s, unsigned begin)
{
    return s && ck_sequence_read_retry((const ck_sequence_t *)&s->sequence, begin);
}

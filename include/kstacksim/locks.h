/* SPDX-License-Identifier: MIT */
/*
 * For kernel code: locks beyond the spinlocks and wait queues of sync.h. Some spin, with interrupts off, and may be
 * taken anywhere in the kernel; some sleep. The structs are public so that they can be defined and looked at; only the
 * functions here change them. A lock must not be moved, and must outlive whoever has it or waits for it. Its name is
 * not copied.
 *
 * Those that sleep all say:
 *   0            done
 *   -EINTR       the caller was killed meanwhile: the calls with _killable or _timeout in their name only
 *   -ETIMEDOUT   the time is over; times are in ns, and end at the first timer tick from then on
 *   -EINVAL      NULL, or never initialised
 *   -EPERM       on a host thread
 * and with -EINTR and -ETIMEDOUT nothing was taken.
 */
#ifndef KSTACKSIM_LOCKS_H
#define KSTACKSIM_LOCKS_H

#include <kstacksim/sync.h>

KSS_BEGIN_DECLS

/* ---- locks that spin ------------------------------------------------------------------------------ */

/**
 * Many readers or one writer, interrupts off. A writer that waits keeps new readers out, so a reader must not take it
 * twice.
 */
struct kss_rwlock {
    struct kss_spinlock lock; /* what it is known by; .holder is the writer */
    unsigned state[2];
    uint64_t reads_contended;
};
#define KSS_RWLOCK_INIT(n) { KSS_SPINLOCK_INIT(n), { 0, 0 }, 0 }
KSS_API void kss_rwlock_init(struct kss_rwlock *lock, const char *name);
/** Interrupts off, then the lock, with other readers. Returns what the unlock needs. Context: kernel, hard irq. */
KSS_API bool kss_read_lock(struct kss_rwlock *lock);
KSS_API void kss_read_unlock(struct kss_rwlock *lock, bool irqs_were_on);
/** The same, alone. Context: kernel, hard irq. */
KSS_API bool kss_write_lock(struct kss_rwlock *lock);
KSS_API void kss_write_unlock(struct kss_rwlock *lock, bool irqs_were_on);
/** .taken counts writers only: readers do not wait for each other, not even to be counted. Context: any. */
KSS_API int kss_rwlock_stats(const struct kss_rwlock *lock, struct kss_lock_stats *stats);

/**
 * A sequence lock: writers exclude each other; a reader takes nothing, and reads again if a writer came. What it reads
 * it reads as _Atomic or volatile, follows no pointer of it before kss_seq_read_retry() has said false.
 */
struct kss_seqlock {
    struct kss_spinlock lock; /* of the writers */
    unsigned sequence; /* odd while a writer is at work */
};
#define KSS_SEQLOCK_INIT(n) { KSS_SPINLOCK_INIT(n), 0 }
KSS_API void kss_seqlock_init(struct kss_seqlock *lock, const char *name);
/** Interrupts off, and the writers' lock. Returns what kss_seq_write_end() needs. Context: kernel, hard irq. */
KSS_API bool kss_seq_write_begin(struct kss_seqlock *lock);
KSS_API void kss_seq_write_end(struct kss_seqlock *lock, bool irqs_were_on);
/** What kss_seq_read_retry() needs. Does not wait for a writer. Context: any. */
KSS_API unsigned kss_seq_read_begin(const struct kss_seqlock *lock);
/** True: a writer was at work since or before; read again. Context: any. */
KSS_API bool kss_seq_read_retry(const struct kss_seqlock *lock, unsigned begin);

/* ---- bits ----------------------------------------------------------------------------------------- */

/** Words of a bitmap; bit n is bit n % 64 of word n / 64. */
#define KSS_BITMAP_WORDS(bits) (((bits) + 63) / 64)
/**
 * Each is atomic, for the word that has the bit, and orders memory as a lock and its release do together. The four that
 * change a bit return what it was, 0 or 1, or -EINVAL: the bitmap is NULL. Context: any.
 */
KSS_API int kss_bit_set(uint64_t *map, size_t bit);
KSS_API int kss_bit_clear(uint64_t *map, size_t bit);
KSS_API int kss_bit_change(uint64_t *map, size_t bit);
KSS_API int kss_bit_test(const uint64_t *map, size_t bit);
/** The first bit from `from` on, below `bits`, that is set or clear; -ENOENT: none. Not atomic as a whole. Context: any. */
KSS_API long kss_bit_find_set(const uint64_t *map, size_t bits, size_t from);
KSS_API long kss_bit_find_clear(const uint64_t *map, size_t bits, size_t from);
/** Sets a clear bit and returns its number, for one caller only; -ENOENT: all were set. Context: any. */
KSS_API long kss_bit_claim(uint64_t *map, size_t bits);

/* ---- counters ------------------------------------------------------------------------------------- */

/** Counts on each CPU for itself, without a lock. */
struct kss_percpu_counter {
    int64_t *slot; /* of each CPU, a cache line apart */
    unsigned slots;
};
/** A counter of 0 for the machine's CPUs. 0, -EINVAL, -ENOMEM. Context: kernel; host while the machine does not run. */
KSS_API int kss_percpu_counter_init(struct kss_percpu_counter *counter, struct kss_machine *machine);
/** Gives its memory back. Nobody may use it any more. NULL is fine. Context: kernel, host. */
KSS_API void kss_percpu_counter_destroy(struct kss_percpu_counter *counter);
/** Nothing is lost, by interrupts or migration. 0 or -EINVAL. Context: kernel, hard irq; host. */
KSS_API int kss_percpu_counter_add(struct kss_percpu_counter *counter, int64_t n);
/** The sum: exact if nobody adds meanwhile; else it has each addition that came before the call. Context: as the add. */
KSS_API int64_t kss_percpu_counter_sum(const struct kss_percpu_counter *counter);

/* ---- locks that sleep ----------------------------------------------------------------------------- */

/** Threads that sleep on a lock. */
struct kss_lock_queue {
    void *first, *last;
};

/**
 * Owned by one thread, which may sleep with it. Who waits lends the owner its priority, and so on if that waits too.
 * It goes to the one of the highest priority who waits, of equals to the first.
 */
struct kss_mutex {
    uintptr_t owner; /* kss_mutex_owner() */
    unsigned magic;
    const char *name;
    uintptr_t taken_at; /* the place in the code */
    struct kss_lock_queue sleepers;
    struct kss_mutex *next_held, *next_waited; /* of its owner */
    uint64_t taken, contended, wait_ns;
};
/** What kss_mutex.magic holds in a mutex that may be used. */
#define KSS_MUTEX_MAGIC 0x6b6d7478u
#define KSS_MUTEX_INIT(n) { 0, KSS_MUTEX_MAGIC, n, 0, { NULL, NULL }, NULL, NULL, 0, 0, 0 }
KSS_API void kss_mutex_init(struct kss_mutex *mutex, const char *name);
/**
 * Besides what the others return:
 *   -EOWNERDEAD  the caller has it now; its last owner ended with it, so what it guards may be half done
 *   -EDEADLK     it would wait for itself, perhaps by way of others: reported (KSS_REPORT_LOCK_ORDER), and not taken
 * Context: kernel; sleeps.
 */
KSS_API int kss_mutex_lock(struct kss_mutex *mutex);
KSS_API int kss_mutex_lock_killable(struct kss_mutex *mutex);
KSS_API int kss_mutex_lock_timeout(struct kss_mutex *mutex, uint64_t ns);
/** -EBUSY: somebody has it. Context: kernel, a thread's own; not hard irq (-EPERM). */
KSS_API int kss_mutex_trylock(struct kss_mutex *mutex);
/** By its owner only; others are reported (KSS_REPORT_SPINLOCK), and get -EPERM. Context: as kss_mutex_trylock(). */
KSS_API int kss_mutex_unlock(struct kss_mutex *mutex);
/** Who has it; NULL: nobody. Another's answer may be old already. Context: kernel, hard irq. */
KSS_API struct kss_thread *kss_mutex_owner(const struct kss_mutex *mutex);
KSS_API int kss_mutex_stats(const struct kss_mutex *mutex, struct kss_lock_stats *stats);

/** A number of things to be had; who finds none sleeps. First come, first served. */
struct kss_semaphore {
    struct kss_spinlock lock;
    struct kss_lock_queue sleepers;
    unsigned count;
    uint64_t taken, contended, wait_ns;
};
#define KSS_SEMAPHORE_INIT(n, c) { KSS_SPINLOCK_INIT(n), { NULL, NULL }, c, 0, 0, 0 }
KSS_API void kss_sem_init(struct kss_semaphore *sem, const char *name, unsigned count);
/** Takes one. Context: kernel; sleeps. */
KSS_API int kss_sem_down(struct kss_semaphore *sem);
KSS_API int kss_sem_down_killable(struct kss_semaphore *sem);
KSS_API int kss_sem_down_timeout(struct kss_semaphore *sem, uint64_t ns);
/** -EBUSY: there is none. Context: kernel, hard irq. */
KSS_API int kss_sem_trydown(struct kss_semaphore *sem);
/** Gives one, to the first who sleeps. -EOVERFLOW: there are UINT_MAX. Context: kernel, hard irq. */
KSS_API int kss_sem_up(struct kss_semaphore *sem);
KSS_API int kss_sem_stats(const struct kss_semaphore *sem, struct kss_lock_stats *stats);

/** Where owners of a mutex sleep until what it guards has changed. The one of the highest priority is woken first. */
struct kss_condvar {
    struct kss_spinlock lock;
    struct kss_lock_queue sleepers;
    uint64_t waits, wait_ns;
};
#define KSS_CONDVAR_INIT(n) { KSS_SPINLOCK_INIT(n), { NULL, NULL }, 0, 0 }
KSS_API void kss_condvar_init(struct kss_condvar *condvar, const char *name);
/**
 * Gives the mutex up and sleeps, in one step, and takes it again before it returns, however it returns: but with
 * -EDEADLK and -EPERM (the caller does not own it). -EOWNERDEAD is kss_mutex_lock()'s. Test the condition in a loop.
 * Context: kernel; sleeps.
 */
KSS_API int kss_condvar_wait(struct kss_condvar *condvar, struct kss_mutex *mutex);
KSS_API int kss_condvar_wait_killable(struct kss_condvar *condvar, struct kss_mutex *mutex);
KSS_API int kss_condvar_wait_timeout(struct kss_condvar *condvar, struct kss_mutex *mutex, uint64_t ns);
/** Wakes one, or all. Returns how many, or an error. Context: kernel, hard irq. */
KSS_API int kss_condvar_signal(struct kss_condvar *condvar);
KSS_API int kss_condvar_broadcast(struct kss_condvar *condvar);
KSS_API int kss_condvar_stats(const struct kss_condvar *condvar, struct kss_lock_stats *stats);

/**
 * Something that will be done. May live on the stack of the one who waits: kss_complete() does not touch it any more
 * when that has been woken.
 */
struct kss_completion {
    struct kss_spinlock lock;
    struct kss_lock_queue sleepers;
    unsigned done; /* waits that may still pass; UINT_MAX: all */
    uint64_t taken, contended, wait_ns;
};
#define KSS_COMPLETION_INIT(n) { KSS_SPINLOCK_INIT(n), { NULL, NULL }, 0, 0, 0, 0 }
KSS_API void kss_completion_init(struct kss_completion *completion, const char *name);
/** Until it is done. Context: kernel; sleeps. */
KSS_API int kss_completion_wait(struct kss_completion *completion);
KSS_API int kss_completion_wait_killable(struct kss_completion *completion);
KSS_API int kss_completion_wait_timeout(struct kss_completion *completion, uint64_t ns);
/** Done, for one who waits, now or later; kss_complete_all(): for all. Context: kernel, hard irq. */
KSS_API int kss_complete(struct kss_completion *completion);
KSS_API int kss_complete_all(struct kss_completion *completion);
KSS_API int kss_completion_stats(const struct kss_completion *completion, struct kss_lock_stats *stats);

KSS_END_DECLS
#endif

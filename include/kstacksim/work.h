/* SPDX-License-Identifier: MIT */
/* Work queues: functions that kernel code leaves to a thread, since they sleep or take long. */
#ifndef KSTACKSIM_WORK_H
#define KSTACKSIM_WORK_H

#include <kstacksim/common.h>
#include <kstacksim/timer.h>

KSS_BEGIN_DECLS

struct kss_work;
/**
 * A work item's function: in a kernel thread of the CPU that it was queued on, interrupts on; it may sleep. The item is
 * not queued any more, so that the function may queue it again, or free its memory. What is said of kss_kthread_fn
 * holds.
 */
typedef void (*kss_work_fn)(struct kss_work *work, void *arg);

/**
 * A work item; the memory is the caller's, and must stay while it is queued or its function runs. All fields are
 * private.
 */
struct kss_work {
    unsigned magic; /* KSS_WORK_MAGIC, or it was never initialised */
    unsigned cpu, state;
    kss_work_fn fn;
    void *arg;
    uint64_t owner, number, due;
    struct kss_work *next, *prev;
    struct kss_timer timer;
};
/** What kss_work.magic holds in an item that was initialised. */
#define KSS_WORK_MAGIC 0x6b776f72u

/** Makes it a work item that is not queued. -EINVAL (NULL), -EBUSY (it is queued). Context: kernel, hard irq, host. */
KSS_API int kss_work_init(struct kss_work *work, kss_work_fn fn, void *arg);
/**
 * Queues it on this CPU, whose worker thread ("kworker/N") is made at the first use. Items of a CPU run one after the
 * other, in the order they were queued. Returns 1; 0 if it was queued already, then it runs once. Queued while its
 * function runs, it runs once more, on the CPU where it runs. -EINVAL (NULL, never initialised, or queued in another
 * machine before), -EAGAIN or -ENOMEM (no worker could be made), -EPERM (a host thread). Context: kernel, hard irq.
 */
KSS_API int kss_work_queue(struct kss_work *work);
/**
 * The same on a CPU of one's choice. -EINVAL also for a CPU that there is not. Errors and context as kss_work_queue().
 */
KSS_API int kss_work_queue_on(struct kss_work *work, unsigned cpu);
/**
 * Queues it on this CPU in ns nanoseconds, by a kernel timer. It counts as queued at once. Errors and context as
 * kss_work_queue().
 */
KSS_API int kss_work_queue_delayed(struct kss_work *work, uint64_t ns);
/**
 * Takes it off the queue, or stops its delay, from any CPU; its function may still be under way. Returns 1 if it was
 * queued, 0 if not; -EINVAL, -EPERM. Context: kernel, hard irq.
 */
KSS_API int kss_work_cancel(struct kss_work *work);
/**
 * The same, and its function is over when this returns, so that its memory may go. -EDEADLK (from a worker of the same
 * CPU, so from its own function), -EPERM (also from a handler). Context: kernel; sleeps.
 */
KSS_API int kss_work_cancel_wait(struct kss_work *work);
/**
 * Waits until it has run as often as it was queued before the call; a delay ends at once. Returns 0; -EINVAL, -EDEADLK
 * (from a worker of the same CPU), -EINTR (the caller was killed or asked to stop), -EPERM (also from a handler).
 * Context: kernel; sleeps.
 */
KSS_API int kss_work_flush(struct kss_work *work);
/**
 * Waits until all items have run that were queued on any CPU before the call, delayed ones not. -EDEADLK (from any
 * worker), -EINTR, -EPERM. Context: kernel; sleeps.
 */
KSS_API int kss_work_flush_all(void);
/** Is it queued, or will it be after a delay? False for what is no item. Context: kernel, hard irq. */
KSS_API bool kss_work_pending(const struct kss_work *work);

KSS_END_DECLS
#endif

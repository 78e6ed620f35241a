/* SPDX-License-Identifier: MIT */
/*
 * The disk driver: one transfer at a time through a kernel buffer. The process sleeps, its work on its
 * kernel stack, until the completion interrupt.
 */
#include "kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRANSFER_DEFAULT 65536u
#define TRANSFER_MIN 512u
#define TRANSFER_MAX (1u << 20)
#define SEEK_MAX_NS 10000000000ull

struct kssi_disk {
    struct kss_machine *machine;
    struct kssi_disk_hw *hw;
    char name[KSS_NAME_MAX];
    unsigned line;
    bool writable;
    size_t max_transfer;
    char *buffer;                /* owned by who has `busy` */
    struct kss_spinlock lock;
    struct kss_wait_queue free_queue, done_queue;
    bool busy;                   /* lock */
    bool done;                   /* set by the interrupt, cleared before the start */
    struct kssi_disk_status status;
    struct kss_disk_stats stats; /* by who has `busy` */
    struct kssi_disk *next;
};

/* Hard irq: the controller has finished, or it was a spurious interrupt. */
static void on_completion(unsigned line, void *arg)
{
    struct kssi_disk *d = arg;
    struct kssi_disk_status s;
    if (d->machine->platform->disk_status(d->hw, &s)) {
        d->status = s;
        KSSI_TRACE(d->machine, KSS_TR_DEVICE_DONE, (uintptr_t)d->name, s.done, s.error, 0);
        __atomic_store_n(&d->done, true, __ATOMIC_RELEASE);
        kss_wake_up(&d->done_queue, 0);
    }
    kss_irq_eoi(line);
}

static bool try_take(struct kssi_disk *d)
{
    bool on = kss_spin_lock(&d->lock);
    bool mine = !d->busy;
    d->busy = true;
    kss_spin_unlock(&d->lock, on);
    return mine;
}

static void give(struct kssi_disk *d)
{
    bool on = kss_spin_lock(&d->lock);
    d->busy = false;
    kss_spin_unlock(&d->lock, on);
    kss_wake_up(&d->free_queue, 1);
}

static struct kssi_disk_status transfer(struct kssi_disk *d, uint64_t offset, size_t n, bool write)
{
    struct kssi_disk_request r = { .write = write, .offset = offset, .length = n, .memory = d->buffer };
    d->done = false;
    KSSI_TRACE(d->machine, KSS_TR_DEVICE_START, (uintptr_t)d->name, n, offset, write);
    d->machine->platform->disk_start(d->hw, &r);
    /* Not killable: the buffer is the controller's until it is done. */
    kss_wait_event(&d->done_queue, __atomic_load_n(&d->done, __ATOMIC_ACQUIRE));
    if (write) {
        d->stats.writes++;
        d->stats.bytes_written += d->status.done;
    } else {
        d->stats.reads++;
        d->stats.bytes_read += d->status.done;
    }
    return d->status;
}

/* One transfer. Returns the bytes moved, or an error; 0 at the end of the file. */
static long piece(struct kssi_disk *d, struct kss_file *f, char *user, size_t n, bool write)
{
    long r;
    if (n > d->max_transfer)
        n = d->max_transfer;
    if (kss_wait_event_killable(&d->free_queue, try_take(d)) < 0) {
        kss_wake_up(&d->free_queue, 1); /* a wake-up that was meant for one who can use it */
        return -EINTR;
    }
    size_t bad = write ? kss_copy_from_user(d->buffer, user, n) : 0;
    if (write && bad == n) {
        r = kssi_error(-EFAULT, "the buffer at %p can't be read", (void *)user);
    } else {
        struct kssi_disk_status s = transfer(d, f->position, n - bad, write);
        size_t lost = write ? 0 : kss_copy_to_user(user, d->buffer, s.done);
        r = (long)(s.done - lost);
        if (s.done == 0 && s.error)
            r = kssi_error(-s.error, "disk %s: %s at offset %llu: %s", d->name, write ? "write" : "read",
                           (unsigned long long)f->position, strerror(s.error));
        else if (s.done && lost == s.done)
            r = kssi_error(-EFAULT, "the buffer at %p can't be written", (void *)user);
    }
    if (r > 0)
        f->position += (uint64_t)r; /* while the disk is ours: the file may be shared */
    give(d);
    return r;
}

static long disk_io(struct kss_file *f, char *user, size_t n, bool write)
{
    struct kssi_disk *d = f->data;
    size_t done = 0;
    while (done < n) {
        size_t want = n - done < d->max_transfer ? n - done : d->max_transfer;
        long r = piece(d, f, (char *)((uintptr_t)user + done), want, write);
        if (r < 0)
            return done ? (long)done : r;
        done += (size_t)r;
        if ((size_t)r < want)
            break; /* the end of the file, a bad part of the buffer, or an error: the next call says */
    }
    return (long)done;
}

static long disk_open(struct kss_file *f)
{
    struct kssi_disk *d = f->data;
    if (f->flags != 0 && !d->writable) /* 0: O_RDONLY */
        return kssi_error(-EACCES, "disk %s is read-only", d->name);
    return 0;
}

static long disk_read(struct kss_file *f, void *user, size_t n)
{
    return disk_io(f, user, n, false);
}

static long disk_write(struct kss_file *f, const void *user, size_t n)
{
    return disk_io(f, (char *)user, n, true);
}

static const struct kss_device_ops disk_ops = { disk_open, disk_read, disk_write, NULL };

static int check_config(struct kss_machine *m, const struct kss_disk_config *c)
{
    if (!c || !c->name || !c->path)
        return kssi_error(-EINVAL, "a disk needs a name and the path of a host file");
    if (c->seek_ns > SEEK_MAX_NS)
        return kssi_error(-EINVAL, "disk %s: seek_ns %llu: at most %llu", c->name,
                          (unsigned long long)c->seek_ns, SEEK_MAX_NS);
    if (c->max_transfer && (c->max_transfer < TRANSFER_MIN || c->max_transfer > TRANSFER_MAX))
        return kssi_error(-EINVAL, "disk %s: max_transfer %zu: %u to %u bytes, or 0 for %u", c->name,
                          c->max_transfer, TRANSFER_MIN, TRANSFER_MAX, TRANSFER_DEFAULT);
    if (m->next_disk_line >= KSS_LINE_FREE)
        return kssi_error(-ENOSPC, "disk %s: lines %d to %d are taken", c->name, KSS_LINE_DISK,
                          KSS_LINE_FREE - 1);
    if (m->irq[m->next_disk_line].handler)
        return kssi_error(-EBUSY, "disk %s: IRQ line %u is taken", c->name, m->next_disk_line);
    return kssi_device_name_ok(m, c->name); /* before the host file is touched */
}

static void disk_free(struct kssi_disk *d)
{
    if (d->hw)
        d->machine->platform->disk_close(d->hw);
    free(d->buffer);
    free(d);
}

int kss_disk_attach(struct kss_machine *m, const struct kss_disk_config *c)
{
    int r = kssi_require_config(m);
    if (r == 0 && m->life != KSSI_BUILT)
        r = kssi_error(-EBUSY, "disks are attached before the machine runs");
    if (r == 0)
        r = check_config(m, c);
    if (r < 0)
        return r;
    struct kssi_disk *d = calloc(1, sizeof *d);
    if (!d)
        return kssi_error(-ENOMEM, "disk %s: no host memory", c->name);
    d->machine = m;
    d->line = m->next_disk_line;
    d->writable = c->writable || c->create;
    d->max_transfer = c->max_transfer ? c->max_transfer : TRANSFER_DEFAULT;
    d->buffer = malloc(d->max_transfer);
    snprintf(d->name, sizeof d->name, "%s", c->name);
    kss_spinlock_init(&d->lock, d->name);
    kss_wait_queue_init(&d->free_queue, "disk queue");
    kss_wait_queue_init(&d->done_queue, "disk transfer");
    r = d->buffer ? m->platform->disk_open(m, c, d->line, &d->hw)
                  : kssi_error(-ENOMEM, "disk %s: no host memory", c->name);
    if (r == 0)
        r = kss_irq_request(m, d->line, on_completion, d, d->name);
    if (r == 0) {
        r = kss_device_register(m, c->name, &disk_ops, d);
        if (r < 0)
            kss_irq_free(m, d->line);
    }
    if (r < 0) {
        disk_free(d);
        return r;
    }
    m->next_disk_line++;
    d->next = m->disks;
    m->disks = d;
    return 0;
}

int kss_disk_stats(struct kss_machine *m, const char *name, struct kss_disk_stats *stats)
{
    int r = kssi_valid_machine(m);
    if (r < 0)
        return r;
    kssi_require_kernel(); /* or the host */
    if (!name || !stats)
        return kssi_error(-EINVAL, "a disk's name, and room for its counters");
    for (struct kssi_disk *d = m->disks; d; d = d->next) {
        if (strcmp(d->name, name) != 0)
            continue;
        *stats = d->stats;
        m->platform->disk_counters(d->hw, stats);
        return 0;
    }
    return kssi_error(-ENOENT, "there is no disk \"%s\"", name);
}

void kssi_disks_fini(struct kss_machine *m)
{
    while (m->disks) {
        struct kssi_disk *d = m->disks;
        m->disks = d->next;
        disk_free(d);
    }
}

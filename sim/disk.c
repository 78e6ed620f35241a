/* SPDX-License-Identifier: MIT */
/*
 * A disk: a host file behind a controller with one request register, one status register and one
 * interrupt line. A host thread of its own is the DMA engine: it seeks, transfers to or from the
 * kernel's memory while the CPU runs on, sets the status and raises the line.
 */
#define _GNU_SOURCE
#include "hw.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct kssi_disk_hw {
    struct kss_machine *machine;
    unsigned line;
    int fd;
    uint64_t seek_ns, bytes_per_second;
    pthread_t thread;
    sem_t go;                         /* the driver has filled `request` */
    _Atomic bool closing;
    struct kssi_disk_request request; /* handed over by `go` */
    struct kssi_disk_status status;   /* handed over by `done` */
    _Atomic bool done;
    uint64_t head;                    /* where the last transfer ended */
    _Atomic uint64_t seeks, errors, interrupts, busy_ns;
};

/* Until then, or until the disk is closed: nothing else posts while a request is under way. */
static void wait_until(struct kssi_disk_hw *hw, uint64_t ns)
{
    struct timespec t = { (time_t)(ns / 1000000000u), (long)(ns % 1000000000u) };
    int r;
    while ((r = sem_clockwait(&hw->go, CLOCK_MONOTONIC, &t)) != 0 && errno == EINTR)
        ;
    if (r == 0)
        sem_post(&hw->go); /* for the engine's own loop to see */
}

/* A short count without an error is the end of the file, or what the host could still take. */
static struct kssi_disk_status transfer(struct kssi_disk_hw *hw, const struct kssi_disk_request *r)
{
    struct kssi_disk_status s = { 0, 0 };
    while (s.done < r->length) {
        char *p = (char *)r->memory + s.done;
        off_t at = (off_t)(r->offset + s.done);
        ssize_t n = r->write ? pwrite(hw->fd, p, r->length - s.done, at)
                             : pread(hw->fd, p, r->length - s.done, at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            s.error = errno;
        if (n <= 0)
            break;
        s.done += (size_t)n;
    }
    return s;
}

static void serve(struct kssi_disk_hw *hw)
{
    struct kssi_disk_request r = hw->request;
    uint64_t start = kssi_host_now(), cost = 0;
    if (r.offset != hw->head) {
        cost += hw->seek_ns;
        hw->seeks++;
    }
    if (hw->bytes_per_second)
        cost += (uint64_t)((double)r.length * 1e9 / (double)hw->bytes_per_second); /* 2^20 bytes: below 2^60 */
    struct kssi_disk_status s = transfer(hw, &r);
    if (cost)
        wait_until(hw, start + cost);
    hw->head = r.offset + s.done;
    hw->status = s;
    hw->errors += s.error != 0;
    hw->busy_ns += kssi_host_now() - start;
    hw->interrupts++;
    atomic_store(&hw->done, true);
    kssi_device_raise(hw->machine, hw->line);
}

static void *dma_engine(void *arg)
{
    struct kssi_disk_hw *hw = arg;
    for (;;) {
        while (sem_wait(&hw->go) != 0)
            ;
        if (hw->closing)
            return NULL;
        serve(hw);
    }
}

static int open_backing(const struct kss_disk_config *c)
{
    int flags = O_CLOEXEC | (c->create ? O_RDWR | O_CREAT | O_TRUNC : c->writable ? O_RDWR : O_RDONLY);
    struct stat st;
    bool there = stat(c->path, &st) == 0;
    if (there && S_ISDIR(st.st_mode))
        return kssi_error(-EISDIR, "disk %s: %s is a directory; a disk is backed by a file", c->name,
                          c->path);
    if (there && S_ISFIFO(st.st_mode)) /* it can't seek, and opening one may block */
        return kssi_error(-ESPIPE, "disk %s: %s is a pipe; a disk is backed by a file", c->name, c->path);
    int fd = open(c->path, flags, 0666);
    if (fd < 0) {
        int e = errno;
        return kssi_error(-e, "disk %s: can't open %s: %s", c->name, c->path, strerror(e));
    }
    return fd;
}

int kssi_disk_open(struct kss_machine *m, const struct kss_disk_config *config, unsigned line,
                   struct kssi_disk_hw **out)
{
    int fd = open_backing(config);
    if (fd < 0)
        return fd;
    struct kssi_disk_hw *hw = calloc(1, sizeof *hw);
    if (!hw) {
        close(fd);
        return kssi_error(-ENOMEM, "disk %s: no host memory", config->name);
    }
    hw->machine = m;
    hw->line = line;
    hw->fd = fd;
    hw->seek_ns = config->seek_ns;
    hw->bytes_per_second = config->bytes_per_second;
    sem_init(&hw->go, 0, 0);
    int r = kssi_host_thread(&hw->thread, dma_engine, hw);
    if (r < 0) {
        sem_destroy(&hw->go);
        close(fd);
        free(hw);
        return kssi_error(-EAGAIN, "disk %s: no host thread: %s", config->name, strerror(-r));
    }
    *out = hw;
    return 0;
}

void kssi_disk_start(struct kssi_disk_hw *hw, const struct kssi_disk_request *request)
{
    hw->request = *request;
    atomic_store(&hw->done, false);
    sem_post(&hw->go);
}

/* False: no transfer has finished since the last look (a spurious interrupt). */
bool kssi_disk_status(struct kssi_disk_hw *hw, struct kssi_disk_status *status)
{
    if (!atomic_exchange(&hw->done, false))
        return false;
    *status = hw->status;
    return true;
}

void kssi_disk_counters(struct kssi_disk_hw *hw, struct kss_disk_stats *stats)
{
    stats->errors = hw->errors;
    stats->seeks = hw->seeks;
    stats->interrupts = hw->interrupts;
    stats->busy_ns = hw->busy_ns;
}

void kssi_disk_close(struct kssi_disk_hw *hw)
{
    hw->closing = true;
    sem_post(&hw->go);
    pthread_join(hw->thread, NULL);
    sem_destroy(&hw->go);
    close(hw->fd);
    free(hw);
}

/* SPDX-License-Identifier: MIT */
/* Devices: the simulated disk and console, and devices of an experiment's own. */
#ifndef KSTACKSIM_DEVICE_H
#define KSTACKSIM_DEVICE_H

#include <kstacksim/common.h>

KSS_BEGIN_DECLS

/** An open device, as its operations see it. */
struct kss_file {
    void *data;        /* what kss_device_register() was given */
    uint64_t position; /* in bytes; the operations move it */
    int flags;         /* O_RDONLY, O_WRONLY or O_RDWR */
};

/** What a device can do. Kernel mode; buffers are user pointers. All but close may sleep; close may also run
    on the host when the machine is destroyed. A NULL read or write gives -EINVAL. */
struct kss_device_ops {
    long (*open)(struct kss_file *file);
    long (*read)(struct kss_file *file, void *user_buffer, size_t n);
    long (*write)(struct kss_file *file, const void *user_buffer, size_t n);
    void (*close)(struct kss_file *file);
};

/** Registers a device. name: 1 to 31 characters. -EINVAL, -EEXIST, -ENOSPC. Context: host before run. */
KSS_API int kss_device_register(struct kss_machine *machine, const char *name,
                                const struct kss_device_ops *ops, void *data);

/** A disk: a host file, reached by DMA of a host thread while the CPU runs on. */
struct kss_disk_config {
    const char *name;      /* what processes open, such as "disk0" */
    const char *path;      /* host file */
    bool writable;         /* false: opened read-only */
    bool create;           /* made if missing, emptied if not; implies writable */
    uint64_t seek_ns;      /* time before each transfer that does not follow the last; 0 to 10 s */
    uint64_t bytes_per_second; /* transfer rate; 0: as fast as the host */
    size_t max_transfer;   /* largest DMA: 512 to 1 MiB; 0: 65536 */
};
/** What a disk has done. */
struct kss_disk_stats {
    uint64_t reads, writes, bytes_read, bytes_written, errors, interrupts, seeks;
    uint64_t busy_ns; /* time between start and completion of transfers */
};
/**
 * Attaches a disk. Its completion and error interrupts come on a line of their own, the next free
 * one from KSS_LINE_DISK on. Host errors of open(2) come back as they are; -EISDIR, -EINVAL, -ENOSPC
 * (no line left), -ESPIPE (a pipe), -EAGAIN. Context: host before run.
 */
KSS_API int kss_disk_attach(struct kss_machine *machine, const struct kss_disk_config *config);
/** Reads a disk's counters. -ENOENT. Context: any but user. */
KSS_API int kss_disk_stats(struct kss_machine *machine, const char *name,
                           struct kss_disk_stats *stats);

/** The console "console": output to one host descriptor, keyboard interrupts from another. */
struct kss_console_config {
    int input_fd;  /* terminal, pipe or file; -1: none, reading gives end-of-file */
    int output_fd; /* -1: none, output is dropped */
    bool echo;     /* show what is typed; for terminals */
};
/** What the console has done. */
struct kss_console_stats {
    uint64_t key_interrupts, bytes_in, bytes_out, lines, erased, overflow;
};
/**
 * Attaches the console; descriptors 0, 1 and 2 of the first process are open on it. The host
 * descriptors stay the caller's. A host terminal is set to give single keys, and set back at the
 * end. -EINVAL, -EBADF, -EBUSY (has one). Context: host before run.
 */
KSS_API int kss_console_attach(struct kss_machine *machine,
                               const struct kss_console_config *config);
/** Reads the console's counters. -ENOENT. Context: any but user. */
KSS_API int kss_console_stats(struct kss_machine *machine, struct kss_console_stats *stats);

KSS_END_DECLS
#endif

/* SPDX-License-Identifier: MIT */
/* Devices by name, open files by number. Guarded by tree_lock; operations run without it. */
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int kssi_device_name_ok(struct kss_machine *m, const char *name)
{
    if (!name || !*name || strlen(name) >= KSS_NAME_MAX)
        return kssi_error(-EINVAL, "device \"%s\": a name has 1 to %d characters", name ? name : "(null)",
                          KSS_NAME_MAX - 1);
    for (unsigned i = 0; i < m->devices; i++)
        if (strcmp(m->device[i].name, name) == 0)
            return kssi_error(-EEXIST, "device \"%s\" exists", name);
    if (m->devices == KSSI_DEVICES_MAX)
        return kssi_error(-ENOSPC, "device \"%s\": there are %d already", name, KSSI_DEVICES_MAX);
    return 0;
}

int kss_device_register(struct kss_machine *m, const char *name, const struct kss_device_ops *ops,
                        void *data)
{
    int r = kssi_require_config(m);
    if (r < 0)
        return r;
    if (m->life != KSSI_BUILT)
        return kssi_error(-EBUSY, "devices are registered before the machine runs");
    if (!ops)
        return kssi_error(-EINVAL, "device \"%s\": its operations are NULL", name ? name : "(null)");
    r = kssi_device_name_ok(m, name);
    if (r < 0)
        return r;
    struct kssi_device *d = &m->device[m->devices++];
    snprintf(d->name, sizeof d->name, "%s", name);
    d->ops = ops;
    d->data = data;
    return 0;
}

static const struct kssi_device *find_device(struct kss_machine *m, const char *name)
{
    for (unsigned i = 0; i < m->devices; i++)
        if (strcmp(m->device[i].name, name) == 0)
            return &m->device[i];
    return NULL;
}

static struct kssi_open_file *make_open(struct kss_machine *m, const struct kssi_device *d, int flags)
{
    struct kssi_open_file *f = calloc(1, sizeof *f);
    if (f) {
        bool on = kss_spin_lock(&m->tree_lock);
        TAILQ_INSERT_TAIL(&m->all_files, f, all);
        kss_spin_unlock(&m->tree_lock, on);
        f->device = d;
        f->references = 1;
        f->file.data = d->data;
        f->file.flags = flags;
    }
    return f;
}

static void free_file(struct kss_machine *m, struct kssi_open_file *f)
{
    bool on = kss_spin_lock(&m->tree_lock);
    TAILQ_REMOVE(&m->all_files, f, all);
    kss_spin_unlock(&m->tree_lock, on);
    free(f);
}

static void put_file(struct kss_machine *m, struct kssi_open_file *f)
{
    bool on = kss_spin_lock(&m->tree_lock);
    bool last = --f->references == 0;
    kss_spin_unlock(&m->tree_lock, on);
    if (!last)
        return;
    if (f->device->ops->close)
        f->device->ops->close(&f->file);
    free_file(m, f);
}

/* What is still open when the machine goes. Host. */
void kssi_files_fini(struct kss_machine *m)
{
    struct kssi_open_file *f;
    while ((f = TAILQ_FIRST(&m->all_files))) {
        f->references = 1;
        put_file(m, f);
    }
}

static long install(struct kss_process *p, struct kssi_open_file *f)
{
    long fd = -EMFILE;
    bool on = kss_spin_lock(&p->machine->tree_lock);
    for (int i = 0; i < KSSI_OPEN_MAX && fd < 0; i++) {
        if (!p->files[i]) {
            p->files[i] = f;
            fd = i;
        }
    }
    kss_spin_unlock(&p->machine->tree_lock, on);
    return fd >= 0 ? fd : kssi_error(-EMFILE, "process %d has %d files open already", p->pid, KSSI_OPEN_MAX);
}

long kssi_file_open(struct kss_process *p, const char *name, int flags)
{
    const struct kssi_device *d = find_device(p->machine, name);
    if (!d)
        return kssi_error(-ENOENT, "there is no device \"%s\"", name);
    if (flags != O_RDONLY && flags != O_WRONLY && flags != O_RDWR)
        return kssi_error(-EINVAL, "flags %#x: O_RDONLY, O_WRONLY or O_RDWR", (unsigned)flags);
    struct kssi_open_file *f = make_open(p->machine, d, flags);
    if (!f)
        return kssi_error(-ENOMEM, "no host memory for an open file");
    long r = d->ops->open ? d->ops->open(&f->file) : 0;
    if (r < 0) {
        free_file(p->machine, f);
        return r;
    }
    r = install(p, f);
    if (r < 0)
        put_file(p->machine, f);
    return r;
}

/* Holds a reference while an operation runs: another thread may close the number meanwhile. */
static struct kssi_open_file *get_file(struct kss_process *p, int fd)
{
    struct kssi_open_file *f = NULL;
    bool on = kss_spin_lock(&p->machine->tree_lock);
    if (fd >= 0 && fd < KSSI_OPEN_MAX && (f = p->files[fd]))
        f->references++;
    kss_spin_unlock(&p->machine->tree_lock, on);
    if (!f)
        kssi_error(-EBADF, "descriptor %d is not open", fd);
    return f;
}

long kssi_file_close(struct kss_process *p, int fd)
{
    struct kssi_open_file *f = get_file(p, fd);
    if (!f)
        return -EBADF;
    bool on = kss_spin_lock(&p->machine->tree_lock);
    bool mine = p->files[fd] == f;
    if (mine) {
        p->files[fd] = NULL;
        f->references--; /* the table's; ours is still there */
    }
    kss_spin_unlock(&p->machine->tree_lock, on);
    put_file(p->machine, f);
    return mine ? 0 : -EBADF;
}

long kssi_file_io(struct kss_process *p, int fd, void *buffer, size_t n, bool write)
{
    struct kssi_open_file *f = get_file(p, fd);
    if (!f)
        return -EBADF;
    const struct kss_device_ops *ops = f->device->ops;
    long r;
    if (f->file.flags == (write ? O_RDONLY : O_WRONLY))
        r = kssi_error(-EBADF, "descriptor %d is not open for %s", fd, write ? "writing" : "reading");
    else if (write ? !ops->write : !ops->read)
        r = kssi_error(-EINVAL, "device \"%s\" can't %s", f->device->name, write ? "write" : "read");
    else if (n > INT64_MAX)
        r = kssi_error(-EINVAL, "%zu bytes at once", n);
    else
        r = write ? ops->write(&f->file, buffer, n) : ops->read(&f->file, buffer, n);
    put_file(p->machine, f);
    return r;
}

void kssi_files_inherit(struct kss_process *child, struct kss_process *parent)
{
    bool on = kss_spin_lock(&parent->machine->tree_lock);
    for (int i = 0; i < KSSI_OPEN_MAX; i++)
        if ((child->files[i] = parent->files[i]))
            child->files[i]->references++;
    kss_spin_unlock(&parent->machine->tree_lock, on);
}

void kssi_files_close(struct kss_process *p)
{
    for (int i = 0; i < KSSI_OPEN_MAX; i++) {
        struct kssi_open_file *f = p->files[i];
        p->files[i] = NULL;
        if (f)
            put_file(p->machine, f);
    }
}

/* Descriptors 0, 1 and 2 of pid 1, which all others inherit. */
void kssi_console_stdio(struct kss_machine *m, struct kss_process *p)
{
    const struct kssi_device *d = find_device(m, "console");
    struct kssi_open_file *f = d ? make_open(m, d, O_RDWR) : NULL;
    if (!f)
        return;
    f->references = 3;
    p->files[0] = p->files[1] = p->files[2] = f;
}

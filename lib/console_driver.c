/* SPDX-License-Identifier: MIT */
/*
 * The console driver and its line discipline: keys come by interrupt into a line that can be edited
 * (erase: DEL or ^H, kill: ^U) until newline or end-of-file (^D) hands it to readers.
 */
#include "kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define RING 4096u
#define MARK_EOF 0x100u
#define KEY_EOF 4
#define KEY_ERASE 0x7f
#define KEY_BACKSPACE 8
#define KEY_KILL 21

struct kssi_console {
    struct kss_machine *machine;
    struct kssi_console_hw *hw;
    bool echo;
    struct kss_spinlock lock;
    struct kss_wait_queue readers;
    /* lock. Indices run on; the ring holds key codes and end-of-file marks. */
    unsigned read, committed, edit;
    uint16_t ring[RING];
    bool hangup; /* the input has ended for good */
    struct kss_console_stats stats;
};

static void echo(struct kssi_console *c, const char *s, size_t n)
{
    if (c->echo)
        c->machine->platform->console_write(c->hw, s, n);
}

static void erase(struct kssi_console *c, bool all)
{
    while (c->edit != c->committed) {
        c->edit--;
        c->stats.erased++;
        echo(c, "\b \b", 3);
        if (!all)
            break;
    }
}

static void put(struct kssi_console *c, unsigned key)
{
    if (c->edit - c->read >= RING - 1 && key < MARK_EOF && key != '\n') {
        c->stats.overflow++; /* room is kept for the end of the line */
        return;
    }
    if (c->edit - c->read >= RING) {
        c->stats.overflow++;
        return;
    }
    c->ring[c->edit++ % RING] = (uint16_t)key;
    if (key == '\n' || key == MARK_EOF)
        c->committed = c->edit;
}

static void on_key(struct kssi_console *c, int key)
{
    char byte = (char)key;
    switch (key) {
    case KEY_ERASE:
    case KEY_BACKSPACE:
        erase(c, false);
        return;
    case KEY_KILL:
        erase(c, true);
        return;
    case KEY_EOF:
        put(c, MARK_EOF); /* after part of a line it hands that over; alone it is the end, once */
        return;
    case '\r':
        key = byte = '\n';
        break;
    default:
        break;
    }
    put(c, (unsigned)key);
    echo(c, &byte, 1);
    c->stats.lines += key == '\n';
}

/* Hard irq. */
static void on_keyboard(unsigned line, void *arg)
{
    struct kssi_console *c = arg;
    int key;
    bool on = kss_spin_lock(&c->lock);
    c->stats.key_interrupts++;
    while ((key = c->machine->platform->console_key(c->hw)) >= 0) {
        c->stats.bytes_in++;
        on_key(c, key);
    }
    if (key == KSSI_KEY_HANGUP) {
        c->hangup = true;
        c->committed = c->edit; /* a last line without newline */
    }
    bool ready = c->hangup || c->committed != c->read;
    kss_spin_unlock(&c->lock, on);
    if (ready)
        kss_wake_up(&c->readers, 0);
    kss_irq_eoi(line);
}

/* Takes what one read may have: to the end of a line, a mark, or n bytes. -EAGAIN: nothing yet. */
static long take(struct kssi_console *c, char *out, size_t n)
{
    long got = 0;
    bool on = kss_spin_lock(&c->lock);
    if (c->read == c->committed) {
        got = c->hangup ? 0 : -EAGAIN;
    } else {
        while ((size_t)got < n && c->read != c->committed) {
            uint16_t key = c->ring[c->read % RING];
            c->read++;
            if (key == MARK_EOF)
                break;
            out[got++] = (char)key;
            if (key == '\n')
                break;
            if ((size_t)got == n && c->read != c->committed && c->ring[c->read % RING] == MARK_EOF)
                c->read++; /* it ends this read, and is not to look like the end of the file to the next */
        }
    }
    kss_spin_unlock(&c->lock, on);
    return got;
}

static long console_read(struct kss_file *f, void *user, size_t n)
{
    struct kssi_console *c = f->data;
    char buffer[256];
    long got = 0;
    if (!n)
        return 0;
    if (n > sizeof buffer)
        n = sizeof buffer;
    int r = kss_wait_event_killable(&c->readers, (got = take(c, buffer, n)) != -EAGAIN);
    if (r < 0)
        return r;
    size_t lost = got > 0 ? kss_copy_to_user(user, buffer, (size_t)got) : 0;
    if (lost)
        return kssi_error(-EFAULT, "the buffer at %p can't be written", user);
    return got;
}

static long console_write(struct kss_file *f, const void *user, size_t n)
{
    struct kssi_console *c = f->data;
    char buffer[256];
    size_t done = 0;
    while (done < n) {
        size_t want = n - done < sizeof buffer ? n - done : sizeof buffer;
        size_t got = want - kss_copy_from_user(buffer, (const void *)((uintptr_t)user + done), want);
        if (!got)
            return done ? (long)done : kssi_error(-EFAULT, "the buffer at %p can't be read", user);
        long r = c->machine->platform->console_write(c->hw, buffer, got);
        if (r < 0)
            return done ? (long)done : kssi_error((int)r, "console: %s", strerror((int)-r));
        c->stats.bytes_out += (uint64_t)r;
        done += (size_t)r;
        if ((size_t)r < want)
            break;
    }
    return (long)done;
}

static const struct kss_device_ops console_ops = { NULL, console_read, console_write, NULL };

int kss_console_attach(struct kss_machine *m, const struct kss_console_config *config)
{
    int r = kssi_require_config(m);
    if (r < 0)
        return r;
    if (m->life != KSSI_BUILT || m->console)
        return kssi_error(-EBUSY, "the machine has run, or has a console");
    if (!config || config->input_fd < -1 || config->output_fd < -1)
        return kssi_error(-EINVAL, "console: descriptors from 0 up, or -1 for none");
    struct kssi_console *c = calloc(1, sizeof *c);
    if (!c)
        return kssi_error(-ENOMEM, "console: no host memory");
    c->machine = m;
    c->echo = config->echo;
    c->hangup = config->input_fd < 0;
    kss_spinlock_init(&c->lock, "console");
    kss_wait_queue_init(&c->readers, "console input");
    r = kss_irq_request(m, KSS_LINE_KEYBOARD, on_keyboard, c, "keyboard");
    if (r < 0) {
        free(c);
        return r;
    }
    r = kss_device_register(m, "console", &console_ops, c);
    if (r == 0) {
        r = m->platform->console_open(m, config, KSS_LINE_KEYBOARD, &c->hw);
        if (r < 0)
            m->devices--; /* the one just registered */
    }
    if (r < 0) {
        kss_irq_free(m, KSS_LINE_KEYBOARD);
        free(c);
        return r;
    }
    m->console = c;
    return 0;
}

int kss_console_stats(struct kss_machine *m, struct kss_console_stats *stats)
{
    int r = kssi_valid_machine(m);
    if (r < 0)
        return r;
    kssi_require_kernel(); /* or the host */
    if (!stats)
        return kssi_error(-EINVAL, "no place for the counters");
    if (!m->console)
        return kssi_error(-ENOENT, "the machine has no console");
    *stats = m->console->stats;
    return 0;
}

void kssi_console_fini(struct kss_machine *m)
{
    if (!m->console)
        return;
    m->platform->console_close(m->console->hw);
    free(m->console);
    m->console = NULL;
}

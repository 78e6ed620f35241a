/* SPDX-License-Identifier: MIT */
/*
 * The console: a keyboard controller with a 16-key buffer, fed by a host thread from a terminal, pipe
 * or file, and an output port. The thread waits while the buffer is full, so nothing that is typed
 * or piped gets lost.
 */
#define _GNU_SOURCE
#include "hw.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <termios.h>
#include <unistd.h>

#define KEYS 16

struct kssi_console_hw {
    struct kss_machine *machine;
    unsigned line;
    int in, out, wake; /* wake: an eventfd that ends the thread's poll */
    pthread_t thread;
    bool have_thread, restore;
    struct termios before;
    pthread_mutex_t lock;
    pthread_cond_t space;
    bool closing, hangup; /* with the buffer, under lock */
    unsigned first, count;
    unsigned char key[KEYS];
};

static bool put_key(struct kssi_console_hw *hw, unsigned char c)
{
    pthread_mutex_lock(&hw->lock);
    while (hw->count == KEYS && !hw->closing)
        pthread_cond_wait(&hw->space, &hw->lock);
    bool ok = !hw->closing;
    if (ok)
        hw->key[(hw->first + hw->count++) % KEYS] = c;
    pthread_mutex_unlock(&hw->lock);
    if (ok)
        kssi_device_raise(hw->machine, hw->line);
    return ok;
}

static void *keyboard(void *arg)
{
    struct kssi_console_hw *hw = arg;
    unsigned char buffer[256];
    for (;;) {
        struct pollfd p[2] = { { .fd = hw->in, .events = POLLIN }, { .fd = hw->wake, .events = POLLIN } };
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            break;
        if (p[1].revents)
            return NULL;
        if (!p[0].revents)
            continue;
        ssize_t n = read(hw->in, buffer, sizeof buffer);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            break;
        for (ssize_t i = 0; i < n; i++)
            if (!put_key(hw, buffer[i]))
                return NULL;
    }
    pthread_mutex_lock(&hw->lock);
    hw->hangup = true;
    pthread_mutex_unlock(&hw->lock);
    kssi_device_raise(hw->machine, hw->line);
    return NULL;
}

int kssi_console_open(struct kss_machine *m, const struct kss_console_config *config, unsigned line,
                      struct kssi_console_hw **out)
{
    const int fds[2] = { config->input_fd, config->output_fd };
    for (int i = 0; i < 2; i++)
        if (fds[i] >= 0 && fcntl(fds[i], F_GETFD) < 0)
            return kssi_error(-EBADF, "console: host descriptor %d is not open", fds[i]);
    struct kssi_console_hw *hw = calloc(1, sizeof *hw);
    if (!hw)
        return kssi_error(-ENOMEM, "console: no host memory");
    *hw = (struct kssi_console_hw){ .machine = m, .line = line, .in = config->input_fd,
                                    .out = config->output_fd };
    pthread_mutex_init(&hw->lock, NULL);
    pthread_cond_init(&hw->space, NULL);
    hw->wake = eventfd(0, EFD_CLOEXEC);
    int r = hw->wake < 0 ? -errno : 0;
    if (r == 0 && hw->in >= 0) {
        r = kssi_host_thread(&hw->thread, keyboard, hw);
        hw->have_thread = r == 0;
    } else {
        hw->hangup = true;
    }
    if (r < 0) {
        kssi_console_close(hw);
        return kssi_error(-EAGAIN, "console: no host thread or event: %s", strerror(-r));
    }
    if (hw->in >= 0 && isatty(hw->in) && tcgetattr(hw->in, &hw->before) == 0) {
        struct termios raw = hw->before; /* the simulated line discipline edits and echoes */
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        raw.c_cc[VMIN] = 1;
        raw.c_cc[VTIME] = 0;
        hw->restore = tcsetattr(hw->in, TCSANOW, &raw) == 0;
    }
    *out = hw;
    return 0;
}

int kssi_console_key(struct kssi_console_hw *hw)
{
    int key = KSSI_KEY_NONE;
    pthread_mutex_lock(&hw->lock);
    if (hw->count) {
        key = hw->key[hw->first];
        hw->first = (hw->first + 1) % KEYS;
        hw->count--;
        pthread_cond_signal(&hw->space);
    } else if (hw->hangup) {
        key = KSSI_KEY_HANGUP;
    }
    pthread_mutex_unlock(&hw->lock);
    return key;
}

/* The output port is polled: it takes what the host takes. */
long kssi_console_write(struct kssi_console_hw *hw, const void *data, size_t n)
{
    size_t done = 0;
    if (hw->out < 0)
        return (long)n;
    while (done < n) {
        ssize_t w = write(hw->out, (const char *)data + done, n - done);
        if (w < 0 && errno == EINTR)
            continue;
        if (w < 0 && errno == EAGAIN) {
            struct pollfd p = { .fd = hw->out, .events = POLLOUT };
            poll(&p, 1, -1);
            continue;
        }
        if (w <= 0)
            return done ? (long)done : -errno;
        done += (size_t)w;
    }
    return (long)done;
}

void kssi_console_close(struct kssi_console_hw *hw)
{
    uint64_t one = 1;
    pthread_mutex_lock(&hw->lock);
    hw->closing = true;
    pthread_cond_broadcast(&hw->space);
    pthread_mutex_unlock(&hw->lock);
    if (hw->have_thread) {
        while (write(hw->wake, &one, sizeof one) < 0 && errno == EINTR)
            ;
        pthread_join(hw->thread, NULL);
    }
    if (hw->restore)
        tcsetattr(hw->in, TCSANOW, &hw->before);
    if (hw->wake >= 0)
        close(hw->wake);
    pthread_cond_destroy(&hw->space);
    pthread_mutex_destroy(&hw->lock);
    free(hw);
}

/* SPDX-License-Identifier: MIT */
/* The soak's processes: what each does, and how it knows that it was done right. */
#define _GNU_SOURCE
#include "soak.h"

#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

long soak_sys_kernel(const struct kss_syscall_args *a)
{
    long (*fn)(void *) = (long (*)(void *))a->a[0];
    return fn((void *)a->a[1]);
}

long in_kernel(long (*fn)(void *arg), void *arg)
{
    return kss_syscall(SYS_KERNEL, (long)fn, (long)arg, 0, 0, 0, 0);
}

static uint64_t seed_of(long worker)
{
    return soak.seed * 31 + (uint64_t)worker * 0x9e3779b97f4a7c15u + 1;
}

static long leaves(long worker)
{
    soak.left[worker] = true;
    return 0;
}

/* ---- spawn, exit, wait ---------------------------------------------------------------------------------------- */

static long leaf_thread(void *arg)
{
    return (long)arg * 3;
}

static long leaf(void *arg)
{
    long value = 0, n = (long)arg, tid;
    switch (n % 4) {
    case 0:
        tid = kss_thread_create(leaf_thread, arg, NULL);
        if (tid < 0 || kss_thread_join(tid, &value) || value != n * 3)
            soak_wrong("thread's value", n, value);
        break;
    case 1:
        kss_yield();
        break;
    case 2:
        kss_sleep(1);
        break;
    }
    return n & 0x7f;
}

long soak_storm(void *arg)
{
    uint64_t seed = seed_of((long)arg);
    while (!soak.over) {
        long n = 1 + (long)(soak_random(&seed) % 6), pid[6], base = (long)(soak_random(&seed) % 1000);
        int status = -1;
        for (long i = 0; i < n; i++)
            pid[i] = kss_spawn(leaf, (void *)(base + i), NULL);
        for (long i = n - 1; i >= 0; i--) {
            long got = pid[i] > 0 ? kss_wait(pid[i], &status) : pid[i];
            if (got != pid[i] || got < 0 || !KSS_WIFEXITED(status) || KSS_WEXITSTATUS(status) != ((base + i) & 0x7f))
                soak_wrong("spawn and wait", got, status);
        }
        soak.progress[(long)arg]++;
    }
    return leaves((long)arg);
}

/* ---- registers ------------------------------------------------------------------------------------------------- */

struct regs {
    long iterations;
    uint64_t flags_in, flags_out;
    uint32_t mxcsr_in, mxcsr_out, vector, pad[7];
    uint64_t gpr_in[16], gpr_out[16];
    uint64_t red_in[16], red_out[16];
    unsigned char x87_in[8][16], x87_out[8][16];
    uint64_t mask_in[8], mask_out[8], pad2[8];
    unsigned char vec_in[32][64], vec_out[32][64];
};
_Static_assert(offsetof(struct regs, vec_out) == 3072, "regs_x86_64.S");
void regs_spin(struct regs *s);

static struct regs registers[SOAK_WORKERS];

static void fill(struct regs *s, uint64_t *seed)
{
    unsigned char *from = (unsigned char *)s->gpr_in, *to = (unsigned char *)(s + 1);
    for (unsigned char *p = from; p + 8 <= to; p += 8) {
        uint64_t v = soak_random(seed);
        memcpy(p, &v, 8);
    }
    for (int i = 0; i < 8; i++) {
        s->x87_in[i][7] |= 0x80;
        s->x87_in[i][8] = 0x77;
        s->x87_in[i][9] = 0x3f;
        s->mask_in[i] &= 0xffff;
    }
    s->flags_in = (soak_random(seed) & 0xcd5) | 2;
    s->mxcsr_in = 0x1f80 | (uint32_t)(soak_random(seed) & 0xe03f);
    s->iterations = 2000 + (long)(soak_random(seed) % 20000);
    s->vector = __builtin_cpu_supports("avx512f") ? 2 : __builtin_cpu_supports("avx") ? 1 : 0;
}

static bool same(const struct regs *s)
{
    size_t width = s->vector == 2 ? 64 : s->vector == 1 ? 32 : 16;
    bool ok = !memcmp(s->gpr_in, s->gpr_out, 13 * 8) && !memcmp(s->red_in, s->red_out, sizeof s->red_in) &&
              !((s->flags_in ^ s->flags_out) & 0xcd5) && s->mxcsr_in == s->mxcsr_out;
    for (int i = 0; i < 8; i++)
        ok &= !memcmp(s->x87_in[i], s->x87_out[i], 10);
    for (int i = 0; i < (s->vector == 2 ? 32 : 16); i++)
        ok &= !memcmp(s->vec_in[i], s->vec_out[i], width);
    return ok;
}

static long spin_in_kernel(void *arg)
{
    regs_spin(arg);
    return 0;
}

long soak_compute(void *arg)
{
    struct regs *s = &registers[(long)arg];
    uint64_t seed = seed_of((long)arg);
    while (!soak.over) {
        fill(s, &seed);
        if (soak_random(&seed) % 4)
            regs_spin(s);
        else
            in_kernel(spin_in_kernel, s);
        if (!same(s))
            soak_wrong("registers", (long)arg, (long)soak.progress[(long)arg]);
        soak.progress[(long)arg]++;
    }
    return leaves((long)arg);
}

/* ---- a lock, with counters that only it keeps together ---------------------------------------------------------- */

static struct kss_spinlock lock;
static uint64_t locked_a, locked_b;
static _Atomic uint64_t lock_rounds;

static long under_lock(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20; i++) {
        bool on = kss_spin_lock(&lock);
        if (locked_a != locked_b)
            soak_wrong("two at once under a lock", (long)locked_a, (long)locked_b);
        __atomic_store_n(&locked_a, locked_a + 1, __ATOMIC_RELAXED);
        for (int k = 0; k < 20; k++)
            __asm__ volatile("");
        __atomic_store_n(&locked_b, locked_b + 1, __ATOMIC_RELAXED);
        kss_spin_unlock(&lock, on);
    }
    lock_rounds += 20;
    return 0;
}

long soak_lock(void *arg)
{
    while (!soak.over) {
        in_kernel(under_lock, NULL);
        soak.progress[(long)arg]++;
    }
    return leaves((long)arg);
}

/* ---- wait queues: two pairs that hand a token to and fro --------------------------------------------------------- */

static struct kss_wait_queue queue[2];
static _Atomic unsigned token[2];
static _Atomic unsigned players;

static long hand_over(void *arg)
{
    unsigned me = (unsigned)(long)arg, pair = me / 2, mine = me % 2;
    struct kss_wait_queue *q = &queue[pair];
    kss_wait_event(q, token[pair] == mine || soak.over);
    if (soak.over)
        return 0;
    token[pair] = !mine;
    kss_wake_up(q, 0);
    return 1;
}

long soak_queue(void *arg)
{
    long me = players++;
    while (!soak.over)
        if (in_kernel(hand_over, (void *)me) == 1)
            soak.progress[(long)arg]++;
    return leaves((long)arg);
}

long soak_wake_all(void *arg)
{
    (void)arg;
    for (int i = 0; i < 2; i++)
        kss_wake_up(&queue[i], 0);
    return 0;
}

/* ---- devices ------------------------------------------------------------------------------------------------------ */

#define BLOCK 4096

/* A descriptor begins at the start of the file: it reads what it has just written. */
long soak_disk(void *arg)
{
    static unsigned char o[BLOCK], b[BLOCK];
    uint64_t seed = seed_of((long)arg);
    while (!soak.over) {
        int fd = (int)kss_open("disk", O_RDWR);
        for (unsigned i = 0; i < BLOCK; i++)
            o[i] = (unsigned char)soak_random(&seed);
        long n = kss_write(fd, o, BLOCK);
        kss_close(fd);
        fd = (int)kss_open("disk", O_RDONLY);
        memset(b, 0, BLOCK);
        long r = kss_read(fd, b, BLOCK);
        kss_close(fd);
        if (n != BLOCK || r != BLOCK || memcmp(o, b, BLOCK))
            soak_wrong("disk", n, r);
        soak.progress[(long)arg]++;
    }
    return leaves((long)arg);
}

long soak_console(void *arg)
{
    unsigned char line[64];
    int fd = (int)kss_open("console", O_WRONLY);
    while (!soak.over) {
        for (unsigned i = 0; i < sizeof line; i++)
            line[i] = (unsigned char)((soak.console_written + i) % 251 + 1);
        long n = kss_write(fd, line, sizeof line);
        if (n < 0)
            soak_wrong("console", n, 0);
        soak.console_written += n > 0 ? (uint64_t)n : 0;
        soak.progress[(long)arg]++;
    }
    return leaves((long)arg);
}

void *soak_drain_console(void *arg)
{
    unsigned char b[4096];
    ssize_t n;
    (void)arg;
    while ((n = read(soak.console_in, b, sizeof b)) > 0)
        for (ssize_t i = 0; i < n; i++, soak.console_read++)
            if (b[i] != (unsigned char)(soak.console_read % 251 + 1))
                soak_wrong("byte on the console", (long)soak.console_read, b[i]);
    return NULL;
}

/* ---- CPUs ------------------------------------------------------------------------------------------------------------ */

static void answer(void *arg)
{
    soak.called++;
    if (arg)
        __atomic_fetch_add((unsigned *)arg, 1, __ATOMIC_RELAXED);
}

static long call_cpus(void *arg)
{
    uint64_t *seed = arg;
    struct kss_cpumask set = { { soak_random(seed), 0, 0, 0 } };
    unsigned answers = 0;
    bool wait = soak_random(seed) % 2;
    int n = kss_cpu_call(&set, answer, wait ? &answers : NULL, wait);
    if (n < 0 || (wait && answers != (unsigned)n))
        soak_wrong("calls answered", n, answers);
    soak.calls_wanted += n > 0 ? (uint64_t)n : 0;
    return 0;
}

long soak_call(void *arg)
{
    uint64_t seed = seed_of((long)arg);
    while (!soak.over) {
        in_kernel(call_cpus, &seed);
        soak.progress[(long)arg]++;
        if (soak_random(&seed) % 8 == 0)
            kss_yield();
    }
    return leaves((long)arg);
}

/* Moves the others about. */
long soak_mover(void *arg)
{
    uint64_t seed = seed_of((long)arg), all = soak.cpus == 64 ? ~0ull : (1ull << soak.cpus) - 1;
    while (!soak.over) {
        struct kss_cpumask set = { { soak_random(&seed) & all, 0, 0, 0 } };
        long tid = soak.tid[soak_random(&seed) % soak.workers];
        if (!kss_cpumask_empty(&set) && tid > 0) {
            long r = kss_setaffinity(tid, &set);
            if (r < 0 && !soak.over)
                soak_wrong("kss_setaffinity", tid, r);
        }
        soak.progress[(long)arg]++;
        kss_sleep(100000);
    }
    return leaves((long)arg);
}

static long down_and_up(void *arg)
{
    uint64_t *seed = arg;
    unsigned cpu = (unsigned)(soak_random(seed) % soak.cpus);
    int r = kss_cpu_down(cpu);
    if (r < 0 && soak.cpus > 1)
        soak_wrong("kss_cpu_down", cpu, r);
    return cpu;
}

static long up(void *arg)
{
    return kss_cpu_up((unsigned)(long)arg);
}

long soak_hotplug(void *arg)
{
    uint64_t seed = seed_of((long)arg);
    while (!soak.over) {
        long cpu = in_kernel(down_and_up, &seed);
        kss_sleep(5000000);
        long r = in_kernel(up, (void *)cpu);
        if (r < 0)
            soak_wrong("kss_cpu_up", cpu, r);
        kss_sleep(20000000);
        soak.progress[(long)arg]++;
    }
    return leaves((long)arg);
}

/* ---- host calls --------------------------------------------------------------------------------------------------------- */

long soak_malloc(void *arg)
{
    uint64_t seed = seed_of((long)arg);
    unsigned char *held[16] = { NULL };
    size_t size[16] = { 0 };
    while (!soak.over) {
        for (int i = 0; i < 50; i++) {
            unsigned k = (unsigned)(soak_random(&seed) % 16);
            if (held[k] && (held[k][0] != k || held[k][size[k] - 1] != k))
                soak_wrong("host memory", held[k][0], k);
            free(held[k]);
            size[k] = 1 + soak_random(&seed) % 5000;
            held[k] = malloc(size[k]);
            if (!held[k])
                soak_wrong("malloc", (long)size[k], 0);
            else
                held[k][0] = held[k][size[k] - 1] = (unsigned char)k;
        }
        soak.progress[(long)arg]++;
    }
    for (int i = 0; i < 16; i++)
        free(held[i]);
    return leaves((long)arg);
}

#define LINES_MAX 2000000

long soak_print(void *arg)
{
    for (unsigned i = 0; !soak.over; i++) {
        if (soak.lines < LINES_MAX) {
            fprintf(soak.shared, "%02ld %08u the quick brown fox jumps over the lazy dog %08u\n", (long)arg, i, i);
            soak.lines++;
        } else {
            kss_sleep(1000000);
        }
        soak.progress[(long)arg]++;
    }
    return leaves((long)arg);
}

/* ---- before and after ------------------------------------------------------------------------------------------------------ */

void soak_setup(void)
{
    kss_spinlock_init(&lock, "soak");
    for (int i = 0; i < 2; i++) {
        kss_wait_queue_init(&queue[i], "token");
        token[i] = 0;
    }
    players = 0;
    locked_a = locked_b = 0;
    lock_rounds = 0;
}

void soak_check_work(void)
{
    char line[256];
    unsigned a, b;
    long who;
    uint64_t lines = 0;
    if (locked_a != locked_b || locked_a != lock_rounds)
        soak_wrong("rounds under the lock", (long)locked_a, (long)lock_rounds);
    if (soak.console_written != soak.console_read)
        soak_wrong("bytes on the console", (long)soak.console_written, (long)soak.console_read);
    rewind(soak.shared);
    while (fgets(line, sizeof line, soak.shared)) {
        if (strlen(line) != 65 ||
            sscanf(line, "%ld %u the quick brown fox jumps over the lazy dog %u", &who, &a, &b) != 3 || a != b)
            soak_wrong("mangled line", (long)lines, (long)strlen(line));
        lines++;
    }
    if (lines != soak.lines)
        soak_wrong("lines printed and found", (long)soak.lines, (long)lines);
}

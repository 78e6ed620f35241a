/* SPDX-License-Identifier: MIT */
/* Choices by a byte of the program: numbers, pointers and handles, good and bad. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <limits.h>
#include <sys/mman.h>

#define PAGE 4096u

static char *page;  /* one page that user mode may use, and one behind it that nobody may */
static char *empty; /* that long, unmapped */
static _Alignas(64) char zeros[65536];

void numbers_init(void)
{
    page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    empty = mmap(NULL, 16 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || empty == MAP_FAILED || mprotect(page + PAGE, PAGE, PROT_NONE) != 0)
        abort();
}

/* The edges that make a difference somewhere, or a byte as it is. */
uint64_t number(struct run *r)
{
    static const uint64_t edges[] = { 0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32, 63, 64, 65, 99, 100, 255, 256, 4095, 4096,
                                      4097, 16384, 32768, 65536, 262144, 1u << 20, INT_MAX, UINT_MAX, 1ull << 32,
                                      1ull << 33, INT64_MAX, 1ull << 61, 1ull << 62, 1ull << 63, UINT64_MAX,
                                      (uint64_t)INT_MIN, (uint64_t)-2, (uint64_t)-16, (uint64_t)-4096 };
    uint8_t kind = take(&r->code);
    return kind & 1 ? edges[(kind >> 1) % (sizeof edges / sizeof edges[0])] : take(&r->code);
}

/* For what is read or written: never memory that the host could miss. */
void *user_pointer(struct run *r)
{
    static const char constant[64] = "console";
    uint8_t choice = take(&r->code);
    uintptr_t stack = fuzz.a_stack;
    switch (choice & 15) {
    case 0:
        return NULL;
    case 1:
        return page + PAGE - (choice >> 4);
    case 2:
        return page + PAGE;
    case 3:
        return (void *)(stack + 64 * (choice >> 4));
    case 4:
        return (void *)(stack - 64);
    case 5:
        return (void *)(uintptr_t)0x1000;
    case 6:
        return (void *)(uintptr_t)-16;
    case 7:
        return (void *)(uintptr_t)(1ull << 63);
    case 8:
        return empty;
    case 9:
        return (void *)(uintptr_t)constant; /* read-only */
    default:
        return page + 16 * (choice & 15);
    }
}

struct kss_machine *some_machine(struct run *r)
{
    uint8_t choice = take(&r->code);
    switch (choice % 16) {
    case 0:
        return NULL;
    case 1:
        return (struct kss_machine *)zeros;
    case 2:
        return (struct kss_machine *)empty;
    case 3:
        return (struct kss_machine *)((uintptr_t)fuzz.m + 64);
    case 4:
        return fuzz.other;
    default:
        return fuzz.m;
    }
}

struct kss_thread *some_thread(struct run *r)
{
    uint8_t choice = take(&r->code);
    struct kss_thread *t = fuzz.a_thread;
    switch (choice % 16) {
    case 0:
        return NULL;
    case 1:
        return (struct kss_thread *)zeros;
    case 2:
        return (struct kss_thread *)empty;
    case 3:
        return (struct kss_thread *)((uintptr_t)t + 64u * (choice >> 4));
    case 4:
        return (struct kss_thread *)((uintptr_t)t + 1);
    case 5:
        return kss_machine_current() ? kss_thread_find(fuzz.m, choice >> 4) : t;
    case 6:
        return kss_machine_current() ? kss_current() : t;
    default:
        return t;
    }
}

struct kss_trap_frame *some_frame(struct run *r)
{
    uint8_t choice = take(&r->code);
    switch (choice % 8) {
    case 0:
        return NULL;
    case 1:
        return (struct kss_trap_frame *)zeros;
    case 2:
        return (struct kss_trap_frame *)empty;
    case 3:
        return (struct kss_trap_frame *)((uintptr_t)r->frame + 64);
    case 4:
        return fuzz.a_frame;
    default:
        return r->frame;
    }
}

/* The timer's rarely, and never the one that stops. */
unsigned some_line(struct run *r)
{
    uint8_t choice = take(&r->code);
    if (choice < 8)
        return (unsigned)number(r);
    return choice == 8 ? KSS_LINE_TIMER : OWN_LINES + choice % 8;
}

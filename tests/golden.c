/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "golden.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE 1024

extern char __executable_start, etext;

/* A function of this program, and none of the library's, should that be in it too. */
static bool is_own(const char *pc, const char *symbol)
{
    uintptr_t at = (uintptr_t)strtoull(pc, NULL, 16);
    return at >= (uintptr_t)&__executable_start && at < (uintptr_t)&etext && strncmp(symbol, "kss", 3) != 0;
}

/* A frame of a backtrace, "  --> 12  0x7f00  symbol+0x1": its mark and its symbol. */
static bool is_frame(const char *line, const char **pc, const char **symbol)
{
    if (strlen(line) < 10 || strncmp(line, "  ", 2) != 0)
        return false;
    const char *p = line + 6 + strspn(line + 6, " ");
    size_t digits = strspn(p, "0123456789");
    if (!digits || strncmp(p + digits, "  0x", 4) != 0)
        return false;
    *pc = p + digits + 2;
    *symbol = strrchr(line, ' ') + 1;
    return true;
}

/* Another place, "  WHAT at symbol+0x1 (pc 0x7f00)". */
static bool is_place(const char *line, const char **pc, const char **symbol)
{
    const char *at = strstr(line, " at "), *open = strstr(line, " (pc 0x");
    if (!at || !open || at > open)
        return false;
    *pc = open + 5;
    *symbol = at + 4;
    return true;
}

static void mask_numbers(const char *p, char *out)
{
    for (const char *start = p; *p;) {
        if (p > start && p[-1] == '+' && isdigit((unsigned char)*p)) { /* an offset, 0 or 0x1 */
            out = stpcpy(out, "OFFSET");
            p += strspn(p, "x0123456789abcdef");
        } else if (p[0] == '0' && p[1] == 'x') {
            out = stpcpy(out, "ADDR");
            p += 2 + strspn(p + 2, "0123456789abcdef");
        } else if (isdigit((unsigned char)*p)) {
            *out++ = 'N';
            p += strspn(p, "0123456789");
            p += *p == '.' && isdigit((unsigned char)p[1]) ? 1 + strspn(p + 1, "0123456789") : 0;
        } else {
            *out++ = *p++;
        }
    }
    *out = '\0';
}

/* Replaces `from` and what follows it up to one of `stop`. */
static void replace(char *text, const char *from, const char *stop, const char *instead)
{
    char rest[LINE], *at = strstr(text, from);
    if (!at)
        return;
    size_t n = strlen(from);
    snprintf(rest, sizeof rest, "%s%s", instead, at + n + strcspn(at + n, stop));
    strcpy(at, rest);
}

/* What depends on some bytes more or less: which event found no room, and whether the stack had ended by then. */
static bool is_left_out(const struct kss_report *r, const char *line)
{
    const char *pc, *symbol;
    if (is_frame(line, &pc, &symbol) || is_place(line, &pc, &symbol))
        return !is_own(pc, symbol);
    return strstr(line, "bytes past the end of the stack\n") ||
           (r->kind == KSS_REPORT_STACK_OVERFLOW && strncmp(line, "  address ", 10) == 0);
}

static void mask_line(const char *line, char *out)
{
    const char *pc, *symbol;
    if (is_frame(line, &pc, &symbol)) {
        snprintf(out, LINE, "  %.4s%.*s\n", line + 2, (int)strcspn(symbol, "+"), symbol);
        return;
    }
    mask_numbers(line, out);
    replace(out, "no room for the frame of ", ",;\n", "no room for the frame of EVENT");
    replace(out, ", and past the end", ";\n", "");
    replace(out, "live trap frame", " \n", "live trap frames");
}

void golden_append(char *out, size_t size, const struct kss_report *report, const char *text)
{
    char last[2 * LINE] = "", line[LINE], masked[2 * LINE];
    bool events = false;
    for (const char *p = text; *p; p += strlen(line)) {
        snprintf(line, sizeof line, "%.*s", (int)strcspn(p, "\n") + 1, p);
        events = strncmp(line, "  last events", 13) == 0 || (events && strncmp(line, "    ", 4) == 0);
        if (events || is_left_out(report, line))
            continue;
        mask_line(line, masked);
        if (strcmp(masked, last) != 0) /* a recursion: once */
            strncat(out, masked, size - strlen(out) - 1);
        snprintf(last, sizeof last, "%s", masked);
    }
}

bool golden_same(const char *path, const char *text, char *difference, size_t size)
{
    char golden[16384] = "";
    FILE *f = fopen(path, getenv("KSS_GOLDEN_WRITE") ? "w" : "r");
    if (!f) {
        snprintf(difference, size, "%s can't be opened", path);
        return false;
    }
    if (getenv("KSS_GOLDEN_WRITE")) {
        fputs(text, f);
        return fclose(f) == 0;
    }
    golden[fread(golden, 1, sizeof golden - 1, f)] = '\0';
    fclose(f);
    snprintf(difference, size, "%s holds:\n%s\nand the report is:\n%s", path, golden, text);
    return strcmp(golden, text) == 0;
}

/* SPDX-License-Identifier: MIT */
#include "table.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef HAVE_SMARTCOLS
#include <libsmartcols.h>
#endif

#define CELLS 512

static int split(char *row, char **cell, int max)
{
    int n = 0;
    for (char *save = NULL, *c = strtok_r(row, "|", &save); c && n < max; c = strtok_r(NULL, "|", &save))
        cell[n++] = c;
    return n;
}

#ifdef HAVE_SMARTCOLS
struct table {
    struct libscols_table *t;
    int columns;
};

struct table *table_new(const char *const *head, int columns, const char *align)
{
    struct table *t = calloc(1, sizeof *t);
    if (!t || !(t->t = scols_new_table()))
        abort();
    t->columns = columns;
    for (int c = 0; c < columns; c++)
        scols_table_new_column(t->t, head[c], 0, align[2 * c] == 'r' ? SCOLS_FL_RIGHT : 0);
    return t;
}

void table_row(struct table *t, const char *format, ...)
{
    char row[CELLS], *cell[32];
    va_list ap;
    va_start(ap, format);
    vsnprintf(row, sizeof row, format, ap);
    va_end(ap);
    int n = split(row, cell, 32);
    struct libscols_line *line = scols_table_new_line(t->t, NULL);
    for (int c = 0; c < n && c < t->columns; c++)
        scols_line_set_data(line, (size_t)c, cell[c]);
}

void table_print(struct table *t)
{
    scols_print_table(t->t);
    scols_unref_table(t->t);
    free(t);
}
#else
struct table {
    int columns;
};

static void print_cell(const char *s)
{
    printf("%-16s ", s);
}

struct table *table_new(const char *const *head, int columns, const char *align)
{
    struct table *t = calloc(1, sizeof *t);
    (void)align;
    for (int c = 0; c < columns; c++)
        print_cell(head[c]);
    putchar('\n');
    return t;
}

void table_row(struct table *t, const char *format, ...)
{
    char row[CELLS], *cell[32];
    va_list ap;
    (void)t;
    va_start(ap, format);
    vsnprintf(row, sizeof row, format, ap);
    va_end(ap);
    int n = split(row, cell, 32);
    for (int c = 0; c < n; c++)
        print_cell(cell[c]);
    putchar('\n');
}

void table_print(struct table *t)
{
    free(t);
}
#endif

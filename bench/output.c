/* SPDX-License-Identifier: MIT */
/* The results as a table for people, or a JSON object a line for programs. */
#include <stdio.h>

#include "bench.h"
#include "config.h"
#ifdef HAVE_SMARTCOLS
#include <libsmartcols.h>
#endif

void print_json(const struct bench *benches, const struct result *r, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!r[i].left_out)
            printf("{\"name\":\"%s\",\"value_ns\":%.1f,\"raw_ns\":%.1f,\"ratio\":%.3f,\"unit\":\"ns\","
                   "\"ratio_p10\":%.3f,\"ratio_p90\":%.3f,\"limit\":%.2f}\n",
                   benches[i].name, r[i].sim, r[i].raw, r[i].ratio, r[i].low, r[i].high, benches[i].limit);
}

static void cells(const struct bench *b, const struct result *r, char cell[7][48])
{
    snprintf(cell[0], 48, "%s", b->what);
    snprintf(cell[1], 48, "%.0f", r->sim);
    snprintf(cell[2], 48, "%s", b->against);
    snprintf(cell[3], 48, "%.0f", r->raw);
    snprintf(cell[4], 48, "%.2f", r->ratio);
    snprintf(cell[5], 48, "%.2f-%.2f", r->low, r->high);
    cell[6][0] = 0;
    if (b->limit > 0)
        snprintf(cell[6], 48, "%.2f", b->limit);
}

void print_table(const struct bench *benches, const struct result *r, size_t n)
{
    static const char *const head[] = { "PATH", "NS", "AGAINST", "NS", "RATIO", "P10-P90", "AT MOST" };
#ifdef HAVE_SMARTCOLS
    struct libscols_table *t = scols_new_table();
    for (int c = 0; c < 7; c++)
        scols_table_new_column(t, head[c], 0, c == 0 || c == 2 ? 0 : SCOLS_FL_RIGHT);
    for (size_t i = 0; i < n; i++) {
        char cell[7][48];
        if (r[i].left_out)
            continue;
        cells(&benches[i], &r[i], cell);
        struct libscols_line *line = scols_table_new_line(t, NULL);
        for (size_t c = 0; c < 7; c++)
            scols_line_set_data(line, c, cell[c]);
    }
    scols_print_table(t);
    scols_unref_table(t);
#else
    for (size_t i = 0; i < n; i++) {
        char cell[7][48];
        if (r[i].left_out)
            continue;
        cells(&benches[i], &r[i], cell);
        for (int c = 0; c < 7; c++)
            printf("%s %s%s", head[c], cell[c], c < 6 ? ", " : "\n");
    }
#endif
}

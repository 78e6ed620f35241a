/* SPDX-License-Identifier: MIT */
/*
 * Where the parts of a stack picture go on paper: to scale, but none so low that it could not be seen, and
 * labels beside them that do not lie over each other.
 */
#include "picture.h"

#include <string.h>

/* Tenths of a pixel. */
#define BODY 6600
#define ROW_MIN 30
#define GUARD_HEIGHT 260
#define LABEL_GAP 170

#define MERGE_MIN 3 /* as many frames of one function and size become one row */

static size_t bytes_of(const struct kss_stack_picture *p, const struct kssi_picture_row *r)
{
    return p->part[r->first].high - p->part[r->first + r->count - 1].low;
}

static bool alike(const struct kss_stack_part *a, const struct kss_stack_part *b)
{
    size_t name = strcspn(a->label, "+");
    return a->kind == b->kind && a->kind == KSS_PART_FRAME && a->high - a->low == b->high - b->low &&
           a->label[name] && strcspn(b->label, "+") == name && memcmp(a->label, b->label, name) == 0;
}

static void make_rows(const struct kss_stack_picture *p, struct kssi_picture_layout *l)
{
    for (unsigned i = 0; i < p->parts; i += l->row[l->rows++].count) {
        unsigned n = 1;
        while (i + n < p->parts && alike(&p->part[i], &p->part[i + n]))
            n++;
        l->row[l->rows].first = i;
        l->row[l->rows].count = n >= MERGE_MIN ? n : 1;
        l->row[l->rows].scaled = p->part[i].kind != KSS_PART_GUARD;
    }
}

/* Rows that would be too low get the least height; the others share what is left, in proportion. */
static void scale(const struct kss_stack_picture *p, struct kssi_picture_layout *l)
{
    size_t bytes = 0, left = BODY, before;
    for (unsigned i = 0; i < l->rows; i++)
        bytes += l->row[i].scaled ? bytes_of(p, &l->row[i]) : 0;
    do {
        before = left;
        for (unsigned i = 0; i < l->rows; i++) {
            struct kssi_picture_row *r = &l->row[i];
            if (!r->scaled || bytes_of(p, r) * left >= ROW_MIN * bytes)
                continue;
            r->scaled = false;
            l->enlarged++;
            left -= ROW_MIN;
            bytes -= bytes_of(p, r);
        }
    } while (left != before);
    l->pixel = (10 * bytes + left / 2) / left;
    size_t rest = 0;
    for (unsigned i = 0; i < l->rows; i++) {
        struct kssi_picture_row *r = &l->row[i];
        size_t want = r->scaled ? bytes_of(p, r) * left + rest : 0;
        r->height = p->part[r->first].kind == KSS_PART_GUARD ? GUARD_HEIGHT
                    : r->scaled                              ? (int)(want / bytes)
                                                             : ROW_MIN;
        rest = r->scaled ? want % bytes : rest;
        r->y = l->column;
        l->column += r->height;
    }
}

/*
 * Least displacement: groups of labels that touch are placed around the middle of where they want to be. With
 * z[i] = y[i] - i * gap the order of the labels is that of z, and groups that overlap are merged.
 */
void kssi_picture_spread(int *y, unsigned n, int gap, int top)
{
    long sum[KSS_PICTURE_PARTS];
    unsigned count[KSS_PICTURE_PARTS], groups = 0, k = 0;
    for (unsigned i = 0; i < n; i++) {
        sum[groups] = y[i] - (long)i * gap;
        count[groups++] = 1;
        for (; groups > 1 && sum[groups - 2] * (long)count[groups - 1] > sum[groups - 1] * (long)count[groups - 2];
             groups--) {
            sum[groups - 2] += sum[groups - 1];
            count[groups - 2] += count[groups - 1];
        }
    }
    for (unsigned g = 0; g < groups; g++) {
        long z = sum[g] / (long)count[g];
        for (unsigned i = 0; i < count[g]; i++, k++)
            y[k] = (int)(z > top ? z : top) + (int)k * gap;
    }
}

void kssi_picture_layout(const struct kss_stack_picture *p, struct kssi_picture_layout *l)
{
    int y[KSS_PICTURE_PARTS];
    memset(l, 0, sizeof *l);
    make_rows(p, l);
    scale(p, l);
    for (unsigned i = 0; i < l->rows; i++)
        y[i] = l->row[i].y + l->row[i].height / 2;
    kssi_picture_spread(y, l->rows, LABEL_GAP, LABEL_GAP / 2);
    int over = y[l->rows - 1] + LABEL_GAP / 2 - l->column; /* rather up than out of the picture */
    for (int i = (int)l->rows - 1, low = y[i] - over; over > 0 && i >= 0 && y[i] > low && low > 0;
         i--, low -= LABEL_GAP)
        y[i] = low;
    for (unsigned i = 0; i < l->rows; i++)
        l->row[i].label = y[i] > LABEL_GAP / 2 + (int)i * LABEL_GAP ? y[i] : LABEL_GAP / 2 + (int)i * LABEL_GAP;
    l->height = l->row[l->rows - 1].label + LABEL_GAP / 2;
    if (l->height < l->column)
        l->height = l->column;
}

int kssi_picture_y(const struct kss_stack_picture *p, const struct kssi_picture_layout *l, uintptr_t a)
{
    for (unsigned i = 0; i < l->rows; i++) {
        const struct kssi_picture_row *r = &l->row[i];
        uintptr_t high = p->part[r->first].high, low = p->part[r->first + r->count - 1].low;
        /* A boundary belongs to the part above it, but not to a guard, whose height tells nothing. */
        if (a >= low && a <= high && (a > low || p->part[r->first].kind != KSS_PART_GUARD))
            return r->y + (int)((high - a) * (size_t)r->height / (high - low));
    }
    return l->column;
}

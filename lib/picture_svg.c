/* SPDX-License-Identifier: MIT */
/*
 * Stack pictures as one SVG document that needs nothing else: no script, no network, no font of its own. Whole
 * numbers only, so that no locale spoils them. Colours are those of Okabe and Ito, which the colour-blind tell
 * apart; what may be printed in grey has a pattern as well.
 */
#include "picture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define print kssi_text_print

/* Pixels. */
#define MARGIN 24
#define COLUMN_X 222
#define COLUMN_WIDTH 150
#define COLUMN_END (COLUMN_X + COLUMN_WIDTH)
#define BYTES_X 486
#define LABEL_X 498
#define CHAR_WIDTH 73 /* of the labels' font, tenths */
#define WIDTH_MIN 880
#define LINE 17
#define HEAD_HEIGHT 118 /* title, facts and column heads, without the state; and the space below */
#define LEGEND_WIDTH 176

static const char *const colour[KSS_PART_KINDS] = {
    "url(#kss-guard)", "#e69f00", "#56b4e9", "#f0e442", "url(#kss-used)", "url(#kss-unused)", "#cc79a7", "#009e73",
    "#d55e00",
};

struct page {
    struct kssi_text t;
    int width, y; /* of what comes next */
    unsigned kinds; /* seen: 1 << enum kss_part_kind */
};

/* Text of unknown origin: what XML does not allow, or would read as markup, is replaced. */
static void escaped(struct kssi_text *t, const char *s, size_t n)
{
    for (; n && *s; s++, n--) {
        unsigned char c = (unsigned char)*s;
        if (c == '<' || c == '>' || c == '&' || c == '"')
            print(t, "&#%d;", c);
        else
            print(t, "%c", c < 32 || c >= 127 ? '?' : c);
    }
}

/* Tenths of a pixel, below a point in pixels. */
#define PX(base, tenths) (base) + (tenths) / 10, (tenths) % 10

static void text_at(struct kssi_text *t, const char *class, int x, int base, int tenths, const char *s)
{
    print(t, "<text class=\"%s\" x=\"%d\" y=\"%d.%d\">", class, x, PX(base, tenths));
    escaped(t, s, SIZE_MAX);
    print(t, "</text>\n");
}

/* ---- one part --------------------------------------------------------------------------------- */

static void row_label(const struct kss_stack_picture *p, const struct kssi_picture_row *r, char *out, size_t size)
{
    const struct kss_stack_part *part = &p->part[r->first];
    if (r->count > 1)
        snprintf(out, size, "%.*s: %u frames of %zu bytes", (int)strcspn(part->label, "+"), part->label, r->count,
                 (size_t)(part->high - part->low));
    else
        snprintf(out, size, "%s%s", part->label, part->kind == KSS_PART_GUARD ? " (not to scale)" : "");
}

static void draw_row(struct page *g, const struct kss_stack_picture *p, const struct kssi_picture_row *r, int top)
{
    struct kssi_text *t = &g->t;
    const struct kss_stack_part *part = &p->part[r->first], *last = &p->part[r->first + r->count - 1];
    char label[200];
    size_t bytes = part->high - last->low;
    int middle = r->y + r->height / 2;
    row_label(p, r, label, sizeof label);
    print(t, "<g><title>");
    escaped(t, label, SIZE_MAX);
    print(t, ": %zu bytes, %#lx to %#lx</title>\n", bytes, (unsigned long)last->low, (unsigned long)part->high);
    /* The frames of a row of several are told apart by lines, as far as there is room. */
    unsigned n = r->height >= (int)r->count * 20 ? r->count : 1;
    for (unsigned i = 0; i < n; i++) {
        int y = r->height * (int)i / (int)n;
        print(t, "<rect class=\"part\" x=\"%d\" y=\"%d.%d\" width=\"%d\" height=\"%d.%d\" fill=\"%s\"/>\n",
              COLUMN_X, PX(top, r->y + y), COLUMN_WIDTH, PX(0, r->height * (int)(i + 1) / (int)n - y),
              colour[part->kind]);
    }
    print(t, "<path class=\"leader\" d=\"M%d %d.%dH%dL%d %d.%dH%d\"/>\n", COLUMN_END, PX(top, middle),
          COLUMN_END + 8, COLUMN_END + 44, PX(top, r->label), COLUMN_END + 56);
    print(t, "<text class=\"size\" x=\"%d\" y=\"%d.%d\">%zu</text>\n", BYTES_X, PX(top + 4, r->label), bytes);
    text_at(t, part->kind == KSS_PART_BEYOND ? "label bad" : "label", LABEL_X, top + 4, r->label, label);
    print(t, "</g>\n");
    g->kinds |= 1u << part->kind;
}

/* ---- the axis and the marks ------------------------------------------------------------------- */

struct mark {
    const char *class, *name;
    uintptr_t at;
    int y, label;
};

static void draw_mark(struct page *g, const struct kss_stack_picture *p, const struct mark *m, int top)
{
    struct kssi_text *t = &g->t;
    char where[48];
    bool beyond = m->at < p->low;
    snprintf(where, sizeof where, "%zu bytes %s", (size_t)(beyond ? p->low - m->at : p->high - m->at),
             beyond ? "past the end" : "from the top");
    print(t, "<path class=\"leader\" d=\"M%d %d.%dH%dL%d %d.%d\"/>\n", COLUMN_X - 52, PX(top, m->label),
          COLUMN_X - 44, COLUMN_X - 16, PX(top, m->y));
    if (m->name[0] == 's')
        print(t, "<path class=\"arrow\" d=\"M%d %d.%dh-15v-5l15 5l-15 5v-5\"/>\n", COLUMN_X, PX(top, m->y));
    else
        print(t, "<path class=\"mark\" d=\"M%d %d.%dH%d\"/>\n", COLUMN_X - 16, PX(top, m->y), COLUMN_END + 8);
    text_at(t, m->class, COLUMN_X - 56, top - 2, m->label, m->name);
    text_at(t, "axis", COLUMN_X - 56, top + 11, m->label, where);
}

static unsigned find_marks(const struct kss_stack_picture *p, const struct kssi_picture_layout *l,
                           struct mark m[2])
{
    unsigned n = 0;
    if (p->sp)
        m[n++] = (struct mark){ .class = "axis strong", .name = "stack pointer", .at = p->sp };
    if (p->high_water)
        m[n++] = (struct mark){ .class = "axis water", .name = "high-water mark", .at = p->high - p->high_water };
    if (n == 2 && m[0].at < m[1].at) {
        struct mark other = m[0];
        m[0] = m[1];
        m[1] = other;
    }
    int y[2] = { 0 };
    for (unsigned i = 0; i < n; i++)
        y[i] = m[i].y = kssi_picture_y(p, l, m[i].at);
    kssi_picture_spread(y, n, 300, 120);
    for (unsigned i = 0; i < n; i++)
        m[i].label = y[i];
    return n;
}

/* Every so many bytes from the top, where no mark is in the way; the ends with their addresses. */
static void draw_axis(struct page *g, const struct kss_stack_picture *p, const struct kssi_picture_layout *l,
                      int top)
{
    struct mark m[2];
    unsigned n = find_marks(p, l, m);
    size_t size = p->high - p->low, step = 256;
    char tick[40];
    int last = -1000;
    while (step * 10 < size)
        step *= 2;
    for (size_t at = 0;; at = at + step < size ? at + step : size) {
        int y = kssi_picture_y(p, l, p->high - at);
        bool free = y - last >= 150 && (at == size || kssi_picture_y(p, l, p->low) - y >= 150);
        for (unsigned i = 0; i < n; i++)
            free &= y < m[i].label - 250 || y > m[i].label + 250;
        if (at == 0 || at == size)
            snprintf(tick, sizeof tick, "%#lx", (unsigned long)(p->high - at));
        else
            snprintf(tick, sizeof tick, step % 1024 ? "%zu" : "%zu KiB", step % 1024 ? at : at / 1024);
        print(&g->t, "<path class=\"leader\" d=\"M%d %d.%dh-6\"/>\n", COLUMN_X, PX(top, y));
        if (free) {
            text_at(&g->t, "axis", COLUMN_X - 10, top + 4, y, tick);
            last = y;
        }
        if (at == size)
            break;
    }
    for (unsigned i = 0; i < n; i++)
        draw_mark(g, p, &m[i], top);
}

/* ---- one picture ------------------------------------------------------------------------------ */

/* The state, in as many lines as it needs. Returns their number. */
static int state_lines(struct kssi_text *t, const char *s, int width, int y)
{
    size_t room = (size_t)(width - 2 * MARGIN) * 10 / CHAR_WIDTH;
    int lines = 0;
    while (*s) {
        size_t n = strlen(s);
        if (n > room) {
            for (n = room; n > room / 2 && s[n] != ' '; n--)
                ;
        }
        if (t) {
            print(t, "<text class=\"label\" x=\"%d\" y=\"%d\">", MARGIN, y + lines * LINE);
            escaped(t, s, n);
            print(t, "</text>\n");
        }
        lines++;
        for (s += n; *s == ' '; s++)
            ;
    }
    return lines;
}

static void draw_facts(struct page *g, const struct kss_stack_picture *p, const struct kssi_picture_layout *l)
{
    struct kssi_text *t = &g->t;
    print(t, "<text class=\"fact\" x=\"%d\" y=\"%d\">%zu bytes", MARGIN, g->y, (size_t)(p->high - p->low));
    if (p->sp && p->sp >= p->low && p->sp <= p->high)
        print(t, ", %zu in use", (size_t)(p->high - p->sp));
    else if (p->sp && p->sp < p->low)
        print(t, ", all in use and %zu past the end", (size_t)(p->low - p->sp));
    else
        print(t, ", nothing in use");
    if (p->high_water)
        print(t, ", high-water mark %zu", p->high_water);
    print(t, "; high addresses on top</text>\n");
    g->y += LINE;
    print(t, "<text class=\"fact\" x=\"%d\" y=\"%d\">to scale: one pixel is %zu bytes", MARGIN, g->y,
          l->pixel ? l->pixel : 1);
    if (l->enlarged)
        print(t, "; %u part%s smaller than %zu bytes %s 3 pixels high all the same", l->enlarged,
              l->enlarged == 1 ? "" : "s", 3 * (l->pixel ? l->pixel : 1), l->enlarged == 1 ? "is" : "are");
    print(t, "</text>\n");
}

static void draw_picture(struct page *g, const struct kss_stack_picture *p)
{
    struct kssi_picture_layout l;
    struct kssi_text *t = &g->t;
    kssi_picture_layout(p, &l);
    g->y += 22;
    text_at(t, "title", MARGIN, g->y, 0, p->title);
    g->y += 20;
    g->y += LINE * state_lines(t, p->state, g->width, g->y);
    draw_facts(g, p, &l);
    g->y += 26;
    print(t, "<text class=\"axis\" x=\"%d\" y=\"%d\">bytes from the top</text>\n", COLUMN_X - 10, g->y);
    print(t, "<text class=\"size head\" x=\"%d\" y=\"%d\">bytes</text>\n", BYTES_X, g->y);
    text_at(t, "label head", LABEL_X, g->y, 0, "what lies there");
    int top = g->y + 10;
    for (unsigned i = 0; i < l.rows; i++)
        draw_row(g, p, &l.row[i], top);
    print(t, "<rect class=\"frame\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d.%d\"/>\n", COLUMN_X, top,
          COLUMN_WIDTH, PX(0, l.column));
    draw_axis(g, p, &l, top);
    g->y = top + (l.height + 9) / 10 + 22;
}

/* ---- the document ----------------------------------------------------------------------------- */

static void measure(struct page *g, const struct kss_stack_picture *p)
{
    struct kssi_picture_layout l;
    char label[200];
    kssi_picture_layout(p, &l);
    int widest = (int)strlen(p->title) * 115 / 10 + 2 * MARGIN;
    for (unsigned i = 0; i < l.rows; i++) {
        row_label(p, &l.row[i], label, sizeof label);
        int w = LABEL_X + (int)strlen(label) * CHAR_WIDTH / 10 + MARGIN;
        widest = w > widest ? w : widest;
        g->kinds |= 1u << p->part[l.row[i].first].kind;
    }
    g->width = widest > g->width ? widest : g->width;
    g->y += HEAD_HEIGHT + LINE + l.height / 10;
}

static int legend_rows(const struct page *g)
{
    int columns = (g->width - 2 * MARGIN) / LEGEND_WIDTH;
    return (__builtin_popcount(g->kinds) + columns - 1) / columns;
}

static void draw_legend(struct page *g)
{
    int columns = (g->width - 2 * MARGIN) / LEGEND_WIDTH, n = 0;
    for (unsigned k = 0; k < KSS_PART_KINDS; k++) {
        if (!(g->kinds & (1u << k)))
            continue;
        int x = MARGIN + n % columns * LEGEND_WIDTH, y = g->y + n / columns * 22;
        print(&g->t, "<rect class=\"swatch\" x=\"%d\" y=\"%d\" width=\"22\" height=\"13\" fill=\"%s\"/>\n", x,
              y, colour[k]);
        text_at(&g->t, "fact", x + 28, y + 11, 0, kss_part_kind_name((enum kss_part_kind)k));
        n++;
    }
}

static const char style[] =
    "<style>text{font-family:'DejaVu Sans',Verdana,sans-serif;font-size:12px;fill:#000}"
    ".title{font-size:18px;font-weight:bold}.label,.size{font-family:'DejaVu Sans "
    "Mono',Menlo,Consolas,monospace}"
    ".size,.axis{text-anchor:end}.axis{font-size:11px}.strong{font-weight:bold}.head{font-weight:bold}.bad{"
    "fill:#a33f00}"
    ".water{font-weight:bold;fill:#0072b2}.part{stroke:#fff;stroke-width:.6}.frame{fill:none;stroke:#000}"
    ".swatch{stroke:#000;stroke-width:.6}.leader{fill:none;stroke:#777;stroke-width:.7}"
    ".arrow{stroke:#000;stroke-width:1.6}.mark{fill:none;stroke:#0072b2;stroke-width:1.8;stroke-dasharray:7 "
    "4}</style>\n";
static const char defs[] =
    "<defs><pattern id=\"kss-guard\" width=\"8\" height=\"8\" patternUnits=\"userSpaceOnUse\">"
    "<rect width=\"8\" height=\"8\" fill=\"#bbb\"/><path d=\"M-2 2l4-4M0 8l8-8M6 10l4-4\" "
    "stroke=\"#000\"/></pattern>\n"
    "<pattern id=\"kss-used\" width=\"6\" height=\"4\" patternUnits=\"userSpaceOnUse\">"
    "<rect width=\"6\" height=\"4\" fill=\"#e4e4e4\"/><path d=\"M0 2h6\" stroke=\"#aaa\"/></pattern>\n"
    "<pattern id=\"kss-unused\" width=\"10\" height=\"10\" patternUnits=\"userSpaceOnUse\">"
    "<rect width=\"10\" height=\"10\" fill=\"#fff\"/><circle cx=\"5\" cy=\"5\" r=\".8\" "
    "fill=\"#999\"/></pattern></defs>\n";

static void draw_document(struct page *g, const struct kss_stack_picture *p, unsigned count)
{
    struct kssi_text *t = &g->t;
    int height = MARGIN + 6;
    g->width = WIDTH_MIN;
    g->y = 0;
    for (unsigned i = 0; i < count; i++)
        measure(g, &p[i]);
    for (unsigned i = 0; i < count; i++) /* the width is known now */
        height += LINE * (state_lines(NULL, p[i].state, g->width, 0) - 1);
    height += g->y + legend_rows(g) * 22;
    print(t,
          "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" "
          "version=\"1.1\" "
          "width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" role=\"img\" "
          "style=\"max-width:100%%;height:auto\">\n"
          "<title>",
          g->width, height, g->width, height);
    for (unsigned i = 0; i < count; i++) {
        escaped(t, i ? "; " : "", 2);
        escaped(t, p[i].title, sizeof p[i].title);
    }
    print(t,
          "</title>\n<desc>Stacks drawn to scale, high addresses on top: each part with its name and its "
          "size in "
          "bytes.</desc>\n%s%s<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
          style, defs);
    g->y = 12;
    for (unsigned i = 0; i < count; i++)
        draw_picture(g, &p[i]);
    draw_legend(g);
    print(t, "</svg>\n");
}

int kss_picture_svg(const struct kss_stack_picture *p, unsigned count, char *buffer, size_t size)
{
    struct page g = { .t = { buffer, size, 0 } };
    if (!count || (size && !buffer))
        return kssi_error(-EINVAL, "%u pictures, or no buffer: at least one picture", count);
    for (unsigned i = 0; i < count; i++) {
        int r = kss_picture_check(p ? &p[i] : NULL);
        if (r < 0)
            return r;
    }
    if (size)
        buffer[0] = '\0';
    draw_document(&g, p, count);
    return (int)g.t.length;
}

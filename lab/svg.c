/* svg.c: see svg.h. */
#include "lab/svg.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

void svg_escape(Text *t, const char *text) {
    for (; *text; text++) switch (*text) {
        case '<': text_put(t, "&lt;"); break;
        case '>': text_put(t, "&gt;"); break;
        case '&': text_put(t, "&amp;"); break;
        case '"': text_put(t, "&quot;"); break;
        default: text_bytes(t, text, 1);
        }
}

const char *svg_number(double v, char out[32]) {
    if (!isfinite(v))
        snprintf(out, 32, isnan(v) ? "-" : v > 0 ? "∞" : "−∞");
    else if (fabs(v) >= 1e6 || (v != 0 && fabs(v) < 1e-4))
        snprintf(out, 32, "%.3g", v);
    else if (fabs(v) >= 1000 || fabs(v - round(v)) < 1e-9)
        snprintf(out, 32, "%.0f", v);
    else
        snprintf(out, 32, fabs(v) >= 100 ? "%.1f" : fabs(v) >= 10 ? "%.2f" : "%.3f", v);
    if (strcmp(out, "-0") == 0) snprintf(out, 32, "0");
    return out;
}

/* --- scales ----------------------------------------------------------------------------------- */
typedef struct Axis {
    double low, high;  /* of the values, in logs where `log` is set */
    double begin, end; /* of the pixels */
    bool log;
} Axis;

static void widen(Axis *a, double v) {
    if (a->log) v = v > 0 ? log10(v) : (double)NAN;
    if (!isfinite(v)) return;
    a->low = v < a->low ? v : a->low;
    a->high = v > a->high ? v : a->high;
}

static double place(const Axis *a, double v) {
    if (a->log) v = v > 0 ? log10(v) : a->low;
    return a->begin + (v - a->low) / (a->high - a->low) * (a->end - a->begin);
}

/* 1, 2 or 5 times a power of ten, for some `n` ticks. */
static double tick_step(const Axis *a, int n) {
    const double raw = (a->high - a->low) / n, power = pow(10, floor(log10(raw))), f = raw / power;
    return power * (f <= 1 ? 1 : f <= 2 ? 2 : f <= 5 ? 5 : 10);
}

static void settle(Axis *a, double margin) {
    if (a->low > a->high) a->low = 0, a->high = 1;
    if (a->high - a->low < 1e-12 * fmax(1, fabs(a->high))) {
        const double room = fmax(fabs(a->high) * 0.1, 1e-3);
        a->low -= room;
        a->high += room;
    }
    const double room = margin * (a->high - a->low);
    a->low -= room;
    a->high += room;
}

/* --- the frame -------------------------------------------------------------------------------- */
static void put_tick_y(Text *t, const Axis *x, const Axis *y, double v, const char *word) {
    text_put(t, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", x->begin,
             x->end, place(y, v), place(y, v));
    text_put(t, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>",
             x->begin - 8, place(y, v) + 4, word);
}

static void put_tick_x(Text *t, const Axis *x, const Axis *y, double v, const char *word) {
    const double at = place(x, v);
    text_put(t, "<line class=\"mark\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", at, at,
             y->begin, y->begin + 5);
    text_put(t, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>", at,
             y->begin + 20, word);
}

typedef void PutTick(Text *t, const Axis *x, const Axis *y, double v, const char *word);

/* All ticks of an axis have as many decimals as its step needs. */
static void put_ticks(Text *t, const Axis *a, const Axis *x, const Axis *y, int n, PutTick *put) {
    const double step = a->log ? fmax(1, ceil((a->high - a->low) / n)) : tick_step(a, n);
    const int decimals = (int)fmin(6, fmax(0, -floor(log10(step) + 1e-9)));
    char word[32];
    for (double v = ceil(a->low / step - 1e-9) * step; v <= a->high + 1e-9 * step; v += step) {
        const double at = a->log ? pow(10, v) : fabs(v) < 1e-9 * step ? 0 : v;
        if (a->log || fabs(at) >= 1e6)
            svg_number(at, word);
        else
            snprintf(word, sizeof word, decimals > 3 ? "%.*g" : "%.*f", decimals > 3 ? 3 : decimals,
                     at);
        put(t, x, y, at, word);
    }
    for (double d = floor(a->low); a->log && a->high - a->low < 1.2 && d <= a->high; d++)
        for (int m = 2; m <= 5; m += 3) /* of a single decade: 1, 2, 5 */
            if (d + log10(m) >= a->low && d + log10(m) <= a->high)
                put(t, x, y, m * pow(10, d), svg_number(m * pow(10, d), word));
}

static void put_frame(Text *t, const Chart *c, const Axis *x, const Axis *y, int height) {
    put_ticks(t, y, x, y, c->small ? 4 : 5, put_tick_y);
    if (!c->category) put_ticks(t, x, x, y, c->small ? 4 : 7, put_tick_x);
    text_put(t, "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", x->begin,
             x->end, y->begin, y->begin);
    if (y->low < 0 && y->high > 0)
        text_put(t, "<line class=\"axis zero\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>",
                 x->begin, x->end, place(y, 0), place(y, 0));
    text_put(t, "<text class=\"label\" x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">",
             (x->begin + x->end) / 2, height - 6);
    svg_escape(t, c->x);
    text_put(t, "</text><text class=\"label\" x=\"%.1f\" y=\"14\">", 4.0);
    svg_escape(t, c->y);
    text_put(t, "</text>");
}

/* --- lines ------------------------------------------------------------------------------------ */
/* Two units have an interval that would cover all else; the table has it. */
static bool banded(const ChartLine *l) {
    bool any = false;
    for (int i = 0; i < l->n; i++) any = any || (l->point[i].n > 2 && isfinite(l->point[i].low));
    return any && l->n > 1;
}

static void put_band(Text *t, const ChartLine *l, int k, const Axis *x, const Axis *y) {
    const char *word = "M";
    text_put(t, "<path class=\"band c%d\" d=\"", k);
    for (int i = 0; i < l->n; i++, word = "L")
        text_put(t, "%s%.1f %.1f", word, place(x, l->point[i].x),
                 place(y, isfinite(l->point[i].high) ? l->point[i].high : l->point[i].y));
    for (int i = l->n - 1; i >= 0; i--)
        text_put(t, "L%.1f %.1f", place(x, l->point[i].x),
                 place(y, isfinite(l->point[i].low) ? l->point[i].low : l->point[i].y));
    text_put(t, "Z\"/>");
}

static void put_path(Text *t, const char *class, int k, int n, const double *px, const double *py,
                     const Axis *x, const Axis *y) {
    text_put(t, "<path class=\"%s c%d\" d=\"", class, k);
    const char *word = "M";
    for (int i = 0; i < n; i++) {
        if (!isfinite(px[i]) || !isfinite(py[i])) continue;
        text_put(t, "%s%.1f %.1f", word, place(x, px[i]), place(y, py[i]));
        word = "L";
    }
    text_put(t, "\"/>");
}

static void put_line(Text *t, const ChartLine *l, int k, const Axis *x, const Axis *y) {
    AUTOFREE double *px = xcalloc((size_t)l->n + 1, sizeof *px),
                    *py = xcalloc((size_t)l->n + 1, sizeof *py);
    for (int i = 0; i < l->n; i++) {
        px[i] = l->point[i].x;
        py[i] = l->point[i].y;
        for (int u = 0; l->point[i].n > 1 && u < l->point[i].n; u++)
            text_put(t, "<circle class=\"unit c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.6\"/>", k,
                     place(x, l->point[i].ux[u]), place(y, l->point[i].uy[u]));
    }
    put_path(t, "line", k, l->n, px, py, x, y);
    for (int i = 0; i < l->n && l->n <= 40; i++)
        if (isfinite(py[i]))
            text_put(t, "<circle class=\"dot c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"3.2\"/>", k,
                     place(x, px[i]), place(y, py[i]));
    if (l->nf) put_path(t, "fit", k, l->nf, l->fx, l->fy, x, y);
}

/* --- bars ------------------------------------------------------------------------------------- */
static void put_bars(Text *t, const Chart *c, const Axis *x, const Axis *y) {
    const double wide = (x->end - x->begin) / c->ncategory, bar = fmin(56, wide * 0.76 / c->n);
    for (int i = 0; i < c->ncategory; i++) {
        const double middle = x->begin + (i + 0.5) * wide;
        text_put(t, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", middle,
                 y->begin + 20);
        svg_escape(t, c->category[i]);
        text_put(t, "</text>");
    }
    for (int k = 0; k < c->n; k++)
        for (int i = 0; i < c->line[k].n; i++) {
            const ChartPoint *p = &c->line[k].point[i];
            const double centre = x->begin + (p->x + 0.5) * wide + (k - (c->n - 1) / 2.0) * bar,
                         zero = place(y, fmin(fmax(0, y->low), y->high)), top = place(y, p->y);
            if (!isfinite(p->y)) continue;
            text_put(
                t, "<rect class=\"bar c%d\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>",
                k, centre - bar * 0.46, fmin(zero, top), bar * 0.92, fabs(zero - top));
            for (int u = 0; p->n > 1 && u < p->n; u++)
                text_put(t, "<circle class=\"unit ink\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.6\"/>",
                         centre + bar * 0.3 * (p->n > 1 ? (double)u / (p->n - 1) - 0.5 : 0),
                         place(y, p->uy[u]));
            if (isfinite(p->low))
                text_put(t,
                         "<path class=\"whisker\" d=\"M%.1f %.1fV%.1fM%.1f %.1fh8M%.1f %.1fh8\"/>",
                         centre, place(y, p->low), place(y, p->high), centre - 4, place(y, p->low),
                         centre - 4, place(y, p->high));
        }
}

/* --- the chart -------------------------------------------------------------------------------- */
static void measure(const Chart *c, Axis *x, Axis *y) {
    for (int k = 0; k < c->n; k++) {
        const ChartLine *l = &c->line[k];
        for (int i = 0; i < l->n; i++) {
            const ChartPoint *p = &l->point[i];
            widen(x, p->x);
            widen(y, p->y);
            for (int u = 0; u < p->n; u++) {
                if (!c->category) widen(x, p->ux[u]);
                widen(y, p->uy[u]);
            }
        }
    }
    if (c->category) widen(y, 0);
    /* of intervals what fits into twice the range of the points: two seeds give very wide ones */
    const double low = y->low, high = y->high, room = (high - low) / 2;
    for (int k = 0; k < c->n; k++)
        for (int i = 0; i < c->line[k].n; i++) {
            widen(y, fmax(c->line[k].point[i].low, low - room));
            widen(y, fmin(c->line[k].point[i].high, high + room));
        }
    if (c->category) x->low = 0, x->high = c->ncategory;
    settle(x, c->category ? 0 : 0.02);
    settle(y, 0.05);
}

static void put_legend(Text *t, const Chart *c) {
    text_put(t, "<ul class=\"legend\">");
    for (int k = 0; k < c->n; k++) {
        text_put(
            t,
            "<li><svg viewBox=\"0 0 24 12\" width=\"24\" height=\"12\" aria-hidden=\"true\"><path "
            "class=\"line c%d\" d=\"M1 6H23\"/><circle class=\"dot c%d\" cx=\"12\" cy=\"6\" "
            "r=\"3.2\"/></svg>",
            k % 8, k % 8);
        svg_escape(t, c->line[k].name);
        text_put(t, "</li>");
    }
    text_put(t, "</ul>");
}

void svg_chart(Text *t, const Chart *c) {
    static int charts; /* of the page, for the names of clips */
    const int width = c->small ? 360 : 720, height = c->small ? 230 : 380, id = ++charts;
    Axis x = {HUGE_VAL, -HUGE_VAL, c->small ? 56 : 72, width - 14, c->log_x},
         y = {HUGE_VAL, -HUGE_VAL, height - 46, 26, false};
    measure(c, &x, &y);
    if (c->n > 1) put_legend(t, c);
    text_put(t, "<svg class=\"chart\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", width,
             height);
    svg_escape(t, c->y);
    text_put(t, " against ");
    svg_escape(t, c->x);
    text_put(t,
             "\"><clipPath id=\"clip%d\"><rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" "
             "height=\"%.0f\"/></clipPath>",
             id, x.begin - 4, y.end - 4, x.end - x.begin + 8, y.begin - y.end + 8);
    put_frame(t, c, &x, &y, height);
    text_put(t, "<g clip-path=\"url(#clip%d)\">", id);
    if (!c->category) {
        for (int k = 0; k < c->n; k++)
            if (banded(&c->line[k])) put_band(t, &c->line[k], k % 8, &x, &y);
        for (int k = 0; k < c->n; k++) put_line(t, &c->line[k], k % 8, &x, &y);
    }
    text_put(t, "</g>");
    if (c->category) put_bars(t, c, &x, &y);
    text_put(t, "</svg>\n");
}

void svg_free(Chart *c) {
    for (int k = 0; k < c->n; k++) {
        ChartLine *l = &c->line[k];
        for (int i = 0; i < l->n; i++) {
            free(l->point[i].ux);
            free(l->point[i].uy);
        }
        char *texts[] = {l->name, l->words};
        for (int i = 0; i < 2; i++) free(texts[i]);
        free(l->point);
        free(l->fx);
        free(l->fy);
    }
    for (int i = 0; i < c->ncategory; i++) free(c->category[i]);
    free(c->category);
    free(c->line);
    free(c->x);
    free(c->y);
    *c = (Chart){0};
}

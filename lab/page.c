/* page.c: see page.h. */
#include "lab/page.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"

static const char style[] =
    ":root{color-scheme:light "
    "dark;--paper:#fdfcf9;--ink:#1d1f23;--soft:#5d6470;--rule:#d9d6cd;--wash:#f3f1ea;"
    "--good:#1e7a3c;--bad:#b3261e;--open:#8a6100;"
    "--c0:#1763b6;--c1:#cf4a0c;--c2:#2a7d3b;--c3:#8e3bb0;--c4:#8f6d00;--c5:#0a7283;--c6:#b8235a;--"
    "c7:#51575f}"
    "@media(prefers-color-scheme:dark){:root{--paper:#15171b;--ink:#e8e6e1;--soft:#a2a8b3;--rule:#"
    "363a42;"
    "--wash:#1e2127;--good:#6fd08c;--bad:#ff8a80;--open:#e6bd5a;"
    "--c0:#6cb2ff;--c1:#ff9463;--c2:#74d28a;--c3:#d495f2;--c4:#e3c04d;--c5:#59cfe0;--c6:#ff86b0;--"
    "c7:#b3bac4}}"
    "*{box-sizing:border-box}"
    "html{-webkit-text-size-adjust:100%}"
    "body{margin:0;background:var(--paper);color:var(--ink);"
    "font:17px/1.55 Charter,'Bitstream Charter','Sitka Text',Cambria,Georgia,serif}"
    "main{max-width:62rem;margin:0 auto;padding:2.5rem 1.25rem 5rem}"
    ".kicker{font:600 .8rem/1 "
    "system-ui,sans-serif;letter-spacing:.09em;text-transform:uppercase;color:var(--soft);margin:0}"
    "h1{font-size:2.1rem;line-height:1.2;margin:.5rem 0 .6rem;text-wrap:balance}"
    "h2{font-size:1.4rem;line-height:1.3;margin:0 0 .3rem;text-wrap:balance}"
    "h3{font-size:1.05rem;margin:1.6rem 0 .4rem}"
    "p{margin:.4rem 0 .8rem;max-width:44rem}"
    ".source,.note{color:var(--soft);font-size:.92rem}"
    "section{margin-top:3rem;padding-top:1.6rem;border-top:1px solid var(--rule)}"
    ".wide{overflow-x:auto;margin:.8rem 0 1.2rem}"
    "table{border-collapse:collapse;font:.86rem/1.4 "
    "system-ui,sans-serif;font-variant-numeric:tabular-nums;min-width:24rem}"
    "th{font-weight:600;text-align:left;color:var(--soft);border-bottom:1.5px solid "
    "var(--rule);vertical-align:bottom}"
    "td,th{padding:.35rem .8rem .35rem 0}td{border-bottom:1px solid var(--rule);vertical-align:top}"
    "td:last-child,th:last-child{padding-right:0}"
    "td.n,th.n{text-align:right;white-space:nowrap}"
    "td code,p code{font:.95em/1.4 ui-monospace,'Cascadia Mono',Menlo,Consolas,monospace}"
    ".verdicts{width:100%}.verdicts td{line-height:1.4}"
    "a{color:inherit;text-decoration-color:var(--soft);text-underline-offset:.15em}"
    ".v{font:600 .84rem/1.4 system-ui,sans-serif;white-space:nowrap}"
    ".v.holds{color:var(--good)}.v.fails{color:var(--bad)}.v.undecided{color:var(--open)}"
    ".lead{font-size:1.08rem}"
    "figure{margin:1.2rem 0 .4rem}figcaption{font:.84rem/1.45 "
    "system-ui,sans-serif;color:var(--soft);margin-top:.3rem}"
    ".chart{display:block;width:100%;max-width:45rem;height:auto}"
    ".grid2{display:grid;grid-template-columns:repeat(auto-fill,minmax(17rem,1fr));gap:.4rem "
    "1.6rem}"
    ".grid2 .chart{max-width:none}"
    "svg text{font:12.5px system-ui,sans-serif;fill:var(--soft)}svg "
    ".label{fill:var(--ink);font-weight:600}"
    "svg .grid{stroke:var(--rule);stroke-width:1}svg .axis{stroke:var(--soft);stroke-width:1}svg "
    ".mark{stroke:var(--soft)}"
    "svg .zero{stroke-dasharray:1 3}"
    "svg .line{fill:none;stroke-width:2.2;stroke-linejoin:round}svg "
    ".fit{fill:none;stroke-width:1.5;stroke-dasharray:6 4}"
    "svg .band{stroke:none;opacity:.14}svg .unit{opacity:.6}svg .ink{fill:var(--ink)}svg "
    ".dot{stroke:var(--paper);stroke-width:1}"
    "svg .bar{opacity:.8}svg .whisker{stroke:var(--ink);stroke-width:1.4;fill:none}"
    "svg rect.bar+circle.unit,svg circle.unit{stroke:var(--paper);stroke-width:.5}"
#define COLOUR(k) "svg .c" #k "{fill:var(--c" #k ");stroke:var(--c" #k ")}"
    COLOUR(0) COLOUR(1) COLOUR(2) COLOUR(3) COLOUR(4) COLOUR(5) COLOUR(6) COLOUR(7)
#undef COLOUR
        "svg .line,svg .fit{fill:none}svg .band{stroke:none}svg .dot{stroke:var(--paper)}svg "
        ".bar{stroke:none}"
        ".legend{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;margin:.2rem 0 "
        ".4rem;padding:0;"
        "font:.86rem/1.5 system-ui,sans-serif}.legend svg{vertical-align:-.12em;margin-right:.4rem}"
        "pre{font:.82rem/1.5 ui-monospace,'Cascadia "
        "Mono',Menlo,Consolas,monospace;background:var(--wash);padding:.9rem 1rem;"
        "overflow-x:auto;border-radius:4px;white-space:pre-wrap;overflow-wrap:anywhere}"
        "@media(max-width:34rem){body{font-size:16px}main{padding:1.5rem 1rem "
        "3rem}h1{font-size:1.6rem}"
        ".verdicts thead{display:none}.verdicts tr{display:block;padding:.7rem 0;border-bottom:1px "
        "solid var(--rule)}"
        ".verdicts td{display:block;border:0;padding:.1rem 0}.verdicts "
        "td.n{text-align:left}.verdicts{min-width:0}"
        ".verdicts td[data-head]:not(:empty)::before{content:attr(data-head) ' ';color:var(--soft)}"
        "svg text{font-size:20px}.grid2 svg text{font-size:13px}}"
        "@media "
        "print{:root{--paper:#fff;--ink:#000;--soft:#444;--rule:#bbb;--wash:#f4f4f4}body{font-size:"
        "10.5pt}"
        "main{max-width:none;padding:0}section{break-before:auto;margin-top:1.6rem}figure,tr{break-"
        "inside:avoid}"
        "h2,h3{break-after:avoid}.wide{overflow:visible}table{min-width:0}.chart{max-width:15cm}}";

void page_begin(Text *t, const char *kicker, const char *title) {
    text_put(t, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta "
                "name=\"viewport\" "
                "content=\"width=device-width, initial-scale=1\">\n<title>");
    svg_escape(t, title);
    text_put(t, "</title>\n<style>%s</style>\n</head>\n<body>\n<main>\n<p class=\"kicker\">",
             style);
    svg_escape(t, kicker);
    text_put(t, "</p>\n<h1>");
    svg_escape(t, title);
    text_put(t, "</h1>\n");
}

int page_end(Text *t, const char *path) {
    text_put(t, "</main>\n</body>\n</html>\n");
    AUTOFREE char *text = text_take(t);
    return file_write_durable(path, text, strlen(text));
}

/* --- tables ----------------------------------------------------------------------------------- */
static bool is_number(const char *s) {
    if (strcmp(s, "-") == 0) return true;
    if (!strncmp(s, "−", 3)) s += 3;
    return *s &&
           (isdigit((unsigned char)*s) ||
            ((*s == '-' || *s == '+' || *s == '.' || *s == '<') && isdigit((unsigned char)s[1]))) &&
           !s[strspn(s, "0123456789.,-+e%< to")];
}

void page_table(Text *t, const char *const *head, int n) {
    text_put(t, "<div class=\"wide\"><table><thead><tr>");
    for (int i = 0; i < n; i++) {
        text_put(t, "<th>");
        svg_escape(t, head[i]);
        text_put(t, "</th>");
    }
    text_put(t, "</tr></thead><tbody>\n");
}

void page_row(Text *t, const char *const *cell, int n) {
    text_put(t, "<tr>");
    for (int i = 0; i < n; i++) {
        text_put(t, is_number(cell[i]) ? "<td class=\"n\">" : "<td>");
        svg_escape(t, cell[i]);
        text_put(t, "</td>");
    }
    text_put(t, "</tr>\n");
}

void page_table_end(Text *t) { text_put(t, "</tbody></table></div>\n"); }

static void put_numbers_row(Text *t, const Chart *chart, int n, int k, int i) {
    const ChartPoint *p = &chart->line[k].point[i];
    const char *cell[16];
    char x[32], y[8][32], range[8][80], low[32], high[32];
    int cells = 0;
    if (chart->n > 1) cell[cells++] = chart->line[k].name;
    cell[cells++] = chart->category ? chart->category[(int)p->x] : svg_number(p->x, x);
    for (int c = 0; c < n && c < 6; c++) {
        const ChartPoint *q = &chart[c].line[k].point[i];
        cell[cells++] = svg_number(q->y, y[c]);
        range[c][0] = '\0';
        if (isfinite(q->low))
            snprintf(range[c], sizeof range[c], "%s to %s", svg_number(q->low, low),
                     svg_number(q->high, high));
        cell[cells++] = range[c];
    }
    char units[16];
    snprintf(units, sizeof units, "%d", p->n);
    cell[cells++] = units;
    page_row(t, cell, cells);
}

void page_numbers(Text *t, const Chart *chart, int n) {
    const char *head[16];
    int heads = 0;
    if (chart->n > 1) head[heads++] = "line";
    head[heads++] = chart->x;
    for (int c = 0; c < n && c < 6; c++) {
        head[heads++] = chart[c].y;
        head[heads++] = "95 %";
    }
    head[heads++] = "units";
    page_table(t, head, heads);
    for (int k = 0; k < chart->n; k++)
        for (int i = 0; i < chart->line[k].n; i++) put_numbers_row(t, chart, n, k, i);
    page_table_end(t);
}

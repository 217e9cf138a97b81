/* lab_report.c: the report of labs. See lab_report.h; that of a single run is in run_report.c. */
#include "lab/lab_report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "core/kernel.h"
#include "lab/page.h"
#include "lab/panel.h"

static const char *sign(StatsVerdict v) {
    return v == STATS_HOLDS ? "✓" : v == STATS_FAILS ? "✗" : "?";
}

static void put_verdict(Text *t, StatsVerdict v) {
    text_put(t, "<span class=\"v %s\">%s %s</span>", stats_word(v), sign(v), stats_word(v));
}

static const char *p_word(double p, char out[32]) {
    if (isnan(p))
        snprintf(out, 32, "-");
    else if (p < 0.001)
        snprintf(out, 32, "< 0.001");
    else
        snprintf(out, 32, "%.3f", p);
    return out;
}

/* --- the table of verdicts -------------------------------------------------------------------- */
static void put_verdicts(Text *t, const PanelResult *r, int n) {
    text_put(t, "<div class=\"wide\"><table "
                "class=\"verdicts\"><thead><tr><th>panel</th><th>claim</th><th>verdict</th>"
                "<th class=\"n\">p, Holm</th><th "
                "class=\"n\">units</th><th>source</th></tr></thead><tbody>\n");
    for (int i = 0; i < n; i++) {
        char p[32];
        const int units = r[i].panel->holds.n ? r[i].finding[0].n : 0;
        text_put(t, "<tr><td><a href=\"#panel%d\"><b>", i);
        svg_escape(t, r[i].panel->name);
        text_put(t, "</b></a></td><td>");
        svg_escape(t, r[i].panel->claim);
        text_put(t, "</td><td>");
        if (r[i].panel->holds.n)
            put_verdict(t, r[i].verdict);
        else
            text_put(t, "<span class=\"v\">reported</span>");
        text_put(t,
                 "</td><td class=\"n\" data-head=\"p, Holm\">%s</td><td class=\"n\" "
                 "data-head=\"units\">%d</td>"
                 "<td class=\"source\">",
                 p_word(r[i].holm, p), units);
        svg_escape(t, r[i].panel->source ? r[i].panel->source : "");
        text_put(t, "</td></tr>\n");
    }
    text_put(t, "</tbody></table></div>\n");
}

/* --- a panel ---------------------------------------------------------------------------------- */
static void put_units(Text *t, const Finding *f) {
    for (int i = 0; f->value && i < f->n && i < 12; i++) {
        char v[32];
        text_put(t, "%s", i ? ", " : "");
        svg_escape(t, f->unit[i]);
        text_put(t, ": %s", svg_number(f->value[i], v));
    }
    if (f->n > 12) text_put(t, ", ...");
}

static void put_finding(Text *t, const char *criterion, const Finding *f) {
    char mean[32], low[32], high[32], p[32];
    text_put(t, "<tr><td><code>");
    svg_escape(t, criterion);
    text_put(t, "</code></td><td>");
    put_verdict(t, f->verdict);
    text_put(t, "</td><td class=\"n\">%s</td><td class=\"n\">", svg_number(f->i.mean, mean));
    if (f->exact)
        text_put(t, "each unit");
    else if (isfinite(f->i.low))
        text_put(t, "%s to %s", svg_number(f->i.low, low), svg_number(f->i.high, high));
    else
        text_put(t, "-");
    text_put(t, "</td><td class=\"n\">%s</td><td>", f->exact ? "-" : p_word(f->p, p));
    if (*f->problem) {
        svg_escape(t, f->problem);
        if (f->value) text_put(t, "; ");
    }
    put_units(t, f);
    text_put(t, "</td></tr>\n");
}

static void put_findings(Text *t, const PanelResult *r) {
    if (r->panel->holds.n == 0) return;
    text_put(t, "<div class=\"wide\"><table><thead><tr><th>criterion</th><th>verdict</th><th "
                "class=\"n\">estimate</th><th "
                "class=\"n\">95 %% interval</th><th class=\"n\">p</th><th>by ");
    svg_escape(t, r->panel->unit);
    text_put(t, "</th></tr></thead><tbody>\n");
    for (int i = 0; i < r->panel->holds.n; i++)
        put_finding(t, r->panel->holds.v[i], &r->finding[i]);
    text_put(t, "</tbody></table></div>\n");
}

static void put_caption(Text *t, const LabPanel *panel, const LabPlot *plot, const Chart *c) {
    text_put(t, "<figcaption>");
    svg_escape(t, c->y);
    text_put(t, " against ");
    svg_escape(t, c->x);
    if (plot->where) text_put(t, ", where ");
    if (plot->where) svg_escape(t, plot->where);
    text_put(t, c->category ? "; bars: mean over the units, whiskers: 95 %%, points: a "
                            : "; line: mean over the units, band: 95 %%, points: a ");
    svg_escape(t, panel->unit);
    text_put(t, " each.");
    for (int k = 0; k < c->n; k++) {
        if (!c->line[k].words) continue;
        text_put(t, "<br>Fit%s", *c->line[k].name ? " of " : "");
        svg_escape(t, c->line[k].name);
        text_put(t, " (dashed): ");
        svg_escape(t, c->line[k].words);
        text_put(t, ".");
    }
    text_put(t, "</figcaption>");
}

static int put_plot(Text *t, const LabPanel *panel, const LabPlot *plot, const json_t *records) {
    Chart *chart;
    int n, rc = panel_charts(panel, plot, records, &chart, &n);
    if (rc >= 0 && n == 0)
        text_put(t, "<p class=\"note\">Nothing of %s is measured yet.</p>\n", plot->of);
    for (int i = 0; rc >= 0 && i < n; i++) {
        text_put(t, "<figure>");
        svg_chart(t, &chart[i]);
        put_caption(t, panel, plot, &chart[i]);
        text_put(t, "</figure>\n");
    }
    if (rc >= 0 && n > 0) page_numbers(t, chart, n);
    for (int i = 0; i < n; i++) svg_free(&chart[i]);
    free(chart);
    return rc < 0 ? error_wrap(rc, "panel %s", panel->name) : 0;
}

static int put_panel(Text *t, const PanelResult *r, int i, const json_t *records) {
    text_put(t, "<section id=\"panel%d\"><p class=\"kicker\">", i);
    svg_escape(t, r->panel->name);
    text_put(t, " · ");
    svg_escape(t, r->lab->name);
    text_put(t, "</p><h2>");
    svg_escape(t, r->panel->claim);
    text_put(t, "</h2><p class=\"source\">");
    if (r->panel->holds.n) put_verdict(t, r->verdict);
    text_put(t, "%s", r->panel->source && r->panel->holds.n ? " · " : "");
    svg_escape(t, r->panel->source ? r->panel->source : "");
    text_put(t, "</p>\n");
    put_findings(t, r);
    for (int k = 0; k < r->panel->nplot; k++)
        TRY(put_plot(t, r->panel, &r->panel->plot[k], records));
    text_put(t, "</section>\n");
    return 0;
}

/* --- what was run ----------------------------------------------------------------------------- */
static void put_steps(Text *t, const LabGraph *g) {
    static const char *const head[] = {"step", "made", "done", "CPU seconds", "a step"};
    double all = 0;
    int done_all = 0;
    page_table(t, head, 5);
    for (int i = 0; i < g->n; i++) {
        int n = 0, done = 0;
        double cpu = 0;
        bool first = true;
        for (int k = 0; k < i; k++) first = first && strcmp(g->step[k].name, g->step[i].name) != 0;
        if (!first) continue;
        for (int k = i; k < g->n; k++) {
            if (strcmp(g->step[k].name, g->step[i].name) != 0) continue;
            n++;
            done += g->step[k].state == LAB_DONE;
            cpu += g->step[k].cpu;
        }
        char made[16], finished[16], seconds[32], each[32];
        snprintf(made, sizeof made, "%d", n);
        snprintf(finished, sizeof finished, "%d", done);
        snprintf(seconds, sizeof seconds, "%.1f", cpu);
        snprintf(each, sizeof each, "%.1f", done ? cpu / done : 0);
        page_row(t, (const char *const[]){g->step[i].name, made, finished, seconds, each}, 5);
        all += cpu;
        done_all += done;
    }
    char made[16], finished[16], seconds[32];
    snprintf(made, sizeof made, "%d", g->n);
    snprintf(finished, sizeof finished, "%d", done_all);
    snprintf(seconds, sizeof seconds, "%.1f", all);
    page_row(t, (const char *const[]){"all", made, finished, seconds, ""}, 5);
    page_table_end(t);
}

static int put_labs(Text *t, const LabGraph *g) {
    static const char *const head[] = {
        "lab", "recipe", "cells", "XXH3 of the lab", "XXH3 of results.jsonl", "command"};
    page_table(t, head, 6);
    for (int l = 0; l < g->nlab; l++) {
        const LabFile *lab = &g->lab[l];
        uint64_t of_lab = 0, of_results = 0;
        AUTOFREE char *results = xasprintf("%s/%s/results.jsonl", g->out, lab->name);
        TRY(file_hash(lab->path, &of_lab));
        TRY(file_hash(results, &of_results));
        char cells[16], hash[2][24];
        snprintf(cells, sizeof cells, "%d", matrix_cells(lab));
        snprintf(hash[0], sizeof hash[0], "%016" PRIx64, of_lab);
        snprintf(hash[1], sizeof hash[1], "%016" PRIx64, of_results);
        AUTOFREE char *command = xasprintf("rhetor-lab %s", lab->path);
        page_row(t, (const char *const[]){lab->path, lab->recipe, cells, hash[0], hash[1], command},
                 6);
    }
    page_table_end(t);
    return 0;
}

static int put_foot(Text *t, const LabGraph *g) {
    text_put(t,
             "<section><h2>How it was run</h2>\n<p>Rhetor %s, kernels: %s. The unit of inference "
             "is the seed, or what "
             "a panel names: a criterion is computed for each, and its 95 %% interval is Student's "
             "over them "
             "(BCa bootstrap where it is about their spread; Clopper and Pearson for shares). A "
             "criterion holds where "
             "the interval lies on the right side of its bound, fails where it lies on the other, "
             "and is undecided "
             "where it contains the bound. A panel holds where all its criteria do and its largest "
             "one-sided p, "
             "by Holm over all panels of this page, is at most 0.025.</p>\n",
             RHETOR_VERSION, kernel_name(kernel_level));
    TRY(put_labs(t, g));
    text_put(t, "<h3>Steps and what they took</h3>\n");
    put_steps(t, g);
    text_put(t, "</section>\n");
    return 0;
}

/* --- the page --------------------------------------------------------------------------------- */
static void put_summary(Text *t, const LabGraph *g, const PanelResult *r, int n, int missing) {
    int in[3] = {0}, judged = 0;
    for (int i = 0; i < n; i++) {
        if (r[i].panel->holds.n == 0) continue;
        in[r[i].verdict]++;
        judged++;
    }
    if (g->nlab == 1 && g->lab[0].about && judged < n + 1) {
        text_put(t, "<p class=\"lead\">");
        svg_escape(t, g->lab[0].about);
        text_put(t, "</p>\n");
    }
    text_put(t, "<p class=\"lead\">Of %d finding%s %d hold%s, %d fail%s, %d %s undecided.%s</p>\n",
             judged, judged == 1 ? "" : "s", in[STATS_HOLDS], in[STATS_HOLDS] == 1 ? "s" : "",
             in[STATS_FAILS], in[STATS_FAILS] == 1 ? "s" : "", in[STATS_UNDECIDED],
             in[STATS_UNDECIDED] == 1 ? "is" : "are",
             missing ? " Not everything is measured yet." : "");
}

int report_labs(const LabGraph *g, json_t *const *records, int missing, const char *path,
                int *open) {
    Text t = {0};
    int n = 0, rc = 0;
    for (int l = 0; l < g->nlab; l++) n += g->lab[l].npanel;
    PanelResult *r = xcalloc((size_t)n + 1, sizeof *r);
    n = 0;
    for (int l = 0; l < g->nlab && rc >= 0; l++)
        for (int i = 0; i < g->lab[l].npanel && rc >= 0; i++)
            rc = panel_judge(&r[n++], &g->lab[l], &g->lab[l].panel[i], records[l]);
    if (rc >= 0) panel_decide(r, n);
    *open = 0;
    for (int i = 0; i < n; i++)
        *open += r[i].panel && r[i].panel->holds.n > 0 && r[i].verdict != STATS_HOLDS;
    page_begin(&t, "Rhetor · laboratory",
               g->nlab == 1 ? g->lab[0].name : "What holds on small models");
    if (rc >= 0) {
        put_summary(&t, g, r, n, missing);
        put_verdicts(&t, r, n);
    }
    for (int i = 0; i < n && rc >= 0; i++) rc = put_panel(&t, &r[i], i, records[r[i].lab - g->lab]);
    if (rc >= 0) rc = put_foot(&t, g);
    if (rc >= 0) rc = page_end(&t, path);
    for (int i = 0; i < n && rc >= 0; i++)
        if (r[i].panel->holds.n)
            printf("%-9s  %s: %s\n", stats_word(r[i].verdict), r[i].panel->name, r[i].panel->claim);
    for (int i = 0; i < n; i++) panel_free(&r[i]);
    free(r);
    free(t.s);
    return rc < 0 ? rc : 0;
}

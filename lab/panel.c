/* panel.c: findings and charts of a panel. See panel.h. */
#include "lab/panel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

/* --- verdicts --------------------------------------------------------------------------------- */
int panel_judge(PanelResult *out, const LabFile *lab, const LabPanel *panel,
                const json_t *records) {
    *out = (PanelResult){.lab = lab, .panel = panel, .p = (double)NAN, .holm = (double)NAN};
    out->finding = xcalloc((size_t)panel->holds.n + 1, sizeof *out->finding);
    for (int i = 0; i < panel->holds.n; i++) {
        Criterion *c;
        int rc = criterion_parse(&c, panel->holds.v[i]);
        if (rc < 0) return error_wrap(rc, "%s: panel %s", lab->path, panel->name);
        criterion_judge(c, records, panel->unit, &out->finding[i]);
        criterion_free(&c);
    }
    return 0;
}

static bool has_measure(const LabFile *lab, const char *name) {
    for (int i = 0; i < lab->nmeasure; i++)
        if (strcmp(lab->measure[i].name, name) == 0) return true;
    return false;
}

int panel_check(const LabFile *lab) {
    for (int i = 0; i < lab->npanel; i++) {
        const LabPanel *p = &lab->panel[i];
        for (int k = 0; k < p->holds.n; k++) {
            Criterion *c;
            const int rc = criterion_parse(&c, p->holds.v[k]);
            if (rc < 0) return error_wrap(rc, "%s: panel %s", lab->path, p->name);
            criterion_free(&c);
        }
        for (int k = 0; k < p->nplot; k++) {
            const LabPlot *plot = &p->plot[k];
            if (!plot->of || !plot->x || !plot->y.n)
                return error_set(ERR_CONFIG, "%s: panel %s: a plot has no %s", lab->path, p->name,
                                 !plot->of  ? "of: the measure that it shows"
                                 : !plot->x ? "x"
                                            : "y");
            if (!has_measure(lab, plot->of))
                return error_set(ERR_CONFIG, "%s: panel %s: a plot is of %s, which is no measure",
                                 lab->path, p->name, plot->of);
        }
    }
    return 0;
}

void panel_decide(PanelResult *r, int n) {
    AUTOFREE double *p = xcalloc((size_t)n + 1, sizeof *p),
                    *adjusted = xcalloc((size_t)n + 1, sizeof *p);
    AUTOFREE int *of = xcalloc((size_t)n + 1, sizeof *of);
    int tested = 0;
    for (int i = 0; i < n; i++) {
        bool statistical = false, known = true;
        double worst = 0;
        for (int k = 0; k < r[i].panel->holds.n; k++) {
            const Finding *f = &r[i].finding[k];
            if (f->exact) continue;
            statistical = true;
            known = known && !isnan(f->p);
            worst = fmax(worst, f->p);
        }
        if (!statistical) continue;
        r[i].p = known ? worst : (double)NAN;
        p[tested] = r[i].p;
        of[tested++] = i;
    }
    stats_holm(p, tested, adjusted);
    for (int k = 0; k < tested; k++)
        if (!isnan(p[k])) r[of[k]].holm = adjusted[k];
    for (int i = 0; i < n; i++) {
        int holds = 0, fails = 0;
        bool statistical = false;
        for (int k = 0; k < r[i].panel->holds.n; k++) {
            holds += r[i].finding[k].verdict == STATS_HOLDS;
            fails += r[i].finding[k].verdict == STATS_FAILS;
            statistical = statistical || !r[i].finding[k].exact;
        }
        const bool sure = !statistical || r[i].holm <= 0.025;
        r[i].verdict = fails                                               ? STATS_FAILS
                       : holds > 0 && holds == r[i].panel->holds.n && sure ? STATS_HOLDS
                                                                           : STATS_UNDECIDED;
    }
}

void panel_free(PanelResult *r) {
    for (int i = 0; r->finding && i < r->panel->holds.n; i++)
        criterion_free_finding(&r->finding[i]);
    free(r->finding);
    *r = (PanelResult){0};
}

/* --- charts ----------------------------------------------------------------------------------- */
/* The records of one plot, with the line and the unit of each. */
typedef struct Chosen {
    const json_t **record;
    int *line, *unit, n;
    char **name; /* of the lines */
    int nline, nunit;
} Chosen;

static void chosen_free(Chosen *c) {
    for (int i = 0; i < c->nline; i++) free(c->name[i]);
    free(c->name);
    free(c->record);
    free(c->line);
    free(c->unit);
    *c = (Chosen){0};
}

/* The values of the fields "rm" or "rm, beta" of a record: "r350", "r350, 0.2". */
static char *line_name(const char *fields, const json_t *record) {
    char *copy = xstrdup(fields ? fields : ""), *rest = copy, *field, *name = xstrdup("");
    while ((field = strsep(&rest, ", "))) {
        if (!*field) continue;
        AUTOFREE char *value = criterion_text(json_object_get(record, field)), *was = name;
        name = xasprintf("%s%s%s", was, *was ? ", " : "", value);
    }
    free(copy);
    return name;
}

static int name_index(char ***names, int *n, char *name) {
    for (int i = 0; i < *n; i++)
        if (strcmp((*names)[i], name) == 0) {
            free(name);
            return i;
        }
    *names = xrealloc(*names, (size_t)(*n + 1) * sizeof **names);
    (*names)[*n] = name;
    return (*n)++;
}

static int choose(Chosen *c, const LabPanel *panel, const LabPlot *plot, const json_t *records) {
    const size_t all = json_array_size(records);
    const json_t *r;
    size_t i;
    char **units = NULL;
    int rc = 0;
    *c = (Chosen){.record = xcalloc(all + 1, sizeof *c->record),
                  .line = xcalloc(all + 1, sizeof *c->line),
                  .unit = xcalloc(all + 1, sizeof *c->unit)};
    json_array_foreach(records, i, r) {
        const char *measure = json_string_value(json_object_get(r, "measure"));
        if (!measure || strcmp(measure, plot->of) != 0) continue;
        if ((rc = criterion_filter(plot->where, r)) < 0) break;
        if (rc == 0) continue;
        c->record[c->n] = r;
        c->line[c->n] = name_index(&c->name, &c->nline, line_name(plot->lines, r));
        c->unit[c->n++] =
            name_index(&units, &c->nunit, criterion_text(json_object_get(r, panel->unit)));
    }
    for (int k = 0; k < c->nunit; k++) free(units[k]);
    free(units);
    return rc < 0 ? rc : 0;
}

/* The values of an expression for the records of line l and unit u; returns how many, or an error. */
static int values_of(const Chosen *c, int l, int u, const char *text, double *out) {
    AUTOFREE const json_t **some = xcalloc((size_t)c->n + 1, sizeof *some);
    int n = 0;
    for (int i = 0; i < c->n; i++)
        if (c->line[i] == l && c->unit[i] == u) some[n++] = c->record[i];
    if (n == 0) return 0;
    TRY(criterion_series(text, some, n, out));
    return n;
}

static void add_unit(ChartPoint *p, double x, double y) {
    p->ux = xrealloc(p->ux, (size_t)(p->n + 1) * sizeof *p->ux);
    p->uy = xrealloc(p->uy, (size_t)(p->n + 1) * sizeof *p->uy);
    p->ux[p->n] = x;
    p->uy[p->n++] = y;
}

static void settle_point(ChartPoint *p) {
    const StatsInterval i = stats_t(p->uy, p->n, 0.95);
    p->x = stats_mean(p->ux, p->n);
    p->y = i.mean;
    p->low = i.low;
    p->high = i.high;
}

/* Point k of a line: the k-th records of all units. */
static int fill_line(ChartLine *out, const Chosen *c, int l, const char *x, const char *y) {
    AUTOFREE double *xs = xcalloc((size_t)c->n + 1, sizeof *xs),
                    *ys = xcalloc((size_t)c->n + 1, sizeof *ys);
    out->name = xstrdup(c->name[l]);
    for (int u = 0; u < c->nunit; u++) {
        const int n = values_of(c, l, u, x, xs);
        TRY(n);
        TRY(values_of(c, l, u, y, ys));
        if (n > out->n) {
            out->point = xrealloc(out->point, (size_t)n * sizeof *out->point);
            for (; out->n < n; out->n++) out->point[out->n] = (ChartPoint){0};
        }
        for (int i = 0; i < n; i++) add_unit(&out->point[i], xs[i], ys[i]);
    }
    for (int i = 0; i < out->n; i++) settle_point(&out->point[i]);
    return 0;
}

/* Bars: x is a field of texts, each of which is a place. */
static int fill_bars(Chart *chart, const Chosen *c, int l, const char *x, const char *y) {
    ChartLine *out = &chart->line[l];
    AUTOFREE double *ys = xcalloc((size_t)c->n + 1, sizeof *ys);
    out->name = xstrdup(c->name[l]);
    for (int u = 0; u < c->nunit; u++) {
        const int n = values_of(c, l, u, y, ys);
        TRY(n);
        for (int i = 0, k = 0; i < c->n; i++) {
            if (c->line[i] != l || c->unit[i] != u) continue;
            char *category = criterion_text(json_object_get(c->record[i], x));
            const int at = name_index(&chart->category, &chart->ncategory, category);
            int place = 0;
            while (place < out->n && (int)out->point[place].x != at) place++;
            if (place == out->n) {
                out->point = xrealloc(out->point, (size_t)(out->n + 1) * sizeof *out->point);
                out->point[out->n++] = (ChartPoint){.x = at};
            }
            add_unit(&out->point[place], at, ys[k++]);
        }
    }
    for (int i = 0; i < out->n; i++) settle_point(&out->point[i]);
    return 0;
}

static void fit_line(ChartLine *l, const char *form_name) {
    const StatsForm form = strcmp(form_name, "gao-rl") == 0 ? STATS_GAO_RL : STATS_GAO_BON;
    enum { CURVE = 80 };
    double *d = NULL, *y = NULL, most = 0;
    int n = 0;
    StatsFit gao, up;
    for (int i = 0; i < l->n; i++)
        for (int u = 0; u < l->point[i].n; u++) {
            d = xrealloc(d, (size_t)(n + 1) * sizeof *d);
            y = xrealloc(y, (size_t)(n + 1) * sizeof *y);
            d[n] = l->point[i].ux[u];
            y[n++] = l->point[i].uy[u];
            most = fmax(most, l->point[i].ux[u]);
        }
    if (stats_fit(form, d, y, n, 0.95, &gao) && stats_fit(STATS_MONOTONE, d, y, n, 0.95, &up)) {
        char a[5][32];
        l->fx = xcalloc(CURVE, sizeof *l->fx);
        l->fy = xcalloc(CURVE, sizeof *l->fy);
        for (l->nf = 0; l->nf < CURVE; l->nf++) {
            l->fx[l->nf] = most * l->nf / (CURVE - 1);
            l->fy[l->nf] = stats_form(form, &gao, l->fx[l->nf]);
        }
        l->words =
            xasprintf("a = %s (%s to %s), b = %s (%s to %s), peak at d = %s; AIC %.1f, of a form "
                      "that never falls %.1f",
                      svg_number(gao.a, a[0]), svg_number(gao.ia.low, (char[32]){0}),
                      svg_number(gao.ia.high, (char[32]){0}), svg_number(gao.b, a[1]),
                      svg_number(gao.ib.low, a[2]), svg_number(gao.ib.high, a[3]),
                      svg_number(gao.peak, a[4]), gao.aic, up.aic);
    } else
        l->words = xasprintf("no fit: %d points are too few", n);
    free(d);
    free(y);
}

int panel_charts(const LabPanel *panel, const LabPlot *plot, const json_t *records, Chart **out,
                 int *n) {
    Chosen c;
    *out = NULL;
    *n = 0;
    int rc = choose(&c, panel, plot, records);
    for (int k = 0; rc >= 0 && c.n > 0 && k < plot->y.n; k++) {
        *out = xrealloc(*out, (size_t)(*n + 1) * sizeof **out);
        Chart *chart = &(*out)[(*n)++];
        *chart = (Chart){.x = xstrdup(plot->x), .y = xstrdup(plot->y.v[k]), .log_x = plot->log_x};
        chart->line = xcalloc((size_t)c.nline + 1, sizeof *chart->line);
        for (; rc >= 0 && chart->n < c.nline; chart->n++) {
            ChartLine *l = &chart->line[chart->n];
            rc = plot->bars ? fill_bars(chart, &c, chart->n, plot->x, plot->y.v[k])
                            : fill_line(l, &c, chart->n, plot->x, plot->y.v[k]);
            if (rc >= 0 && plot->fit && !plot->bars) fit_line(l, plot->fit);
        }
    }
    chosen_free(&c);
    return rc;
}

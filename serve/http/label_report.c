/* label_report.c: see label_report.h. Agreement is over the items that two labellers or more ranked,
 * without those of quality control and second passes. Its unit is the pair of completions of an
 * item, which a labeller puts in one of three classes: the first is better, both are equal, the
 * second is better. */
#include "serve/http/label_report.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "core/rng.h"
#include "eval/agreement.h"
#include "serve/http/label_form.h"

enum {
    CLASSES = 3,
    BOOTSTRAPS = 1000,
    PAIRS_MAX = LABEL_COMPLETIONS * (LABEL_COMPLETIONS - 1) / 2
};

/* One ranking. */
typedef struct Vote {
    int64_t item, labeller, pass;
    int who, k; /* index of the labeller */
    double rank[LABEL_COMPLETIONS], quality[LABEL_COMPLETIONS], length[LABEL_COMPLETIONS];
    double gold[LABEL_COMPLETIONS]; /* NAN: none */
    uint32_t flags[LABEL_COMPLETIONS];
    double seconds;
} Vote;

typedef struct ReportLabeller {
    char *name;
    double *seconds;
    int64_t n, cap, written;
} ReportLabeller;

typedef struct LabelReport {
    Label *l;
    Vote *vote; /* by item, then pass */
    int64_t n, cap;
    int64_t *first; /* [items+1] items with two votes or more: votes first[i] .. first[i+1]-1 */
    int64_t items;
    int64_t *last; /* [items] one beyond the item's votes */
    ReportLabeller *who;
    int whos, whos_cap;
    int flag; /* that the measure is about */
} LabelReport;

/* --- what there is ---------------------------------------------------------------------------- */

static int who_of(LabelReport *r, const char *name) {
    for (int i = 0; i < r->whos; i++)
        if (strcmp(r->who[i].name, name) == 0) return i;
    XGROW(r->who, r->whos, r->whos_cap);
    r->who[r->whos] = (ReportLabeller){.name = xstrdup(name)};
    return r->whos++;
}

static uint32_t flags_of(const json_t *form, const json_t *given) {
    uint32_t bits = 0;
    size_t i, j;
    json_t *name, *flag;
    json_array_foreach(given, i, name) json_array_foreach(json_object_get(form, "flags"), j, flag)
        bits |= json_equal(name, json_object_get(flag, "name")) ? 1u << j : 0;
    return bits;
}

static double number_or_nan(const json_t *list, int i) {
    const json_t *v = json_array_get(list, (size_t)i);
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

static void add_vote(LabelReport *r, const LabelAnswer *a, int who) {
    const json_t *rank = json_object_get(a->body, "rank");
    Vote v = {.item = a->item,
              .labeller = a->labeller,
              .pass = a->pass,
              .who = who,
              .k = (int)json_array_size(a->completions),
              .seconds = a->seconds};
    if (!rank || v.k > LABEL_COMPLETIONS) return;
    for (int i = 0; i < v.k; i++) {
        v.rank[i] = number_or_nan(rank, i);
        v.quality[i] = number_or_nan(json_object_get(a->body, "quality"), i);
        v.gold[i] = number_or_nan(a->gold, i);
        v.flags[i] =
            flags_of(r->l->form, json_array_get(json_object_get(a->body, "flags"), (size_t)i));
        v.length[i] = (double)json_string_length(json_array_get(a->completions, (size_t)i));
    }
    XGROW(r->vote, r->n, r->cap);
    r->vote[r->n++] = v;
}

static int read_answers(LabelReport *r) {
    AUTOSTMT *cursor = NULL;
    LabelAnswer a;
    int rc;
    TRY(label_answers(r->l, &cursor));
    while ((rc = label_answers_next(cursor, &a)) > 0) {
        const int i = who_of(r, a.name);
        ReportLabeller *w = &r->who[i];
        XGROW(w->seconds, w->n, w->cap);
        if (a.seconds > 0) w->seconds[w->n++] = a.seconds;
        if (strcmp(a.task, "write") == 0) w->written++;
        add_vote(r, &a, i);
        label_answers_drop(&a);
    }
    return rc;
}

static void find_items(LabelReport *r) {
    r->first = xmalloc((size_t)(r->n + 1) * sizeof *r->first);
    r->last = xmalloc((size_t)(r->n + 1) * sizeof *r->last);
    for (int64_t i = 0, j; i < r->n; i = j) {
        int64_t votes = 0;
        for (j = i; j < r->n && r->vote[j].item == r->vote[i].item; j++)
            votes += r->vote[j].pass == 0;
        if (votes < 2 || !isnan(r->vote[i].gold[0])) continue;
        r->first[r->items] = i;
        r->last[r->items++] = i + votes;
    }
}

/* --- measures, over the items item[0..n) -------------------------------------------------------- */

static int class_of(const double *rank, int i, int j) {
    return rank[i] < rank[j] ? 0 : rank[i] == rank[j] ? 1 : 2;
}

typedef struct PairCount {
    double same, all, same_strict, all_strict; /* strict: neither says equal */
} PairCount;

static void compare_ranks(PairCount *c, const double *a, const double *b, int k) {
    for (int j = 1; j < k; j++)
        for (int i = 0; i < j; i++) {
            const int x = class_of(a, i, j), y = class_of(b, i, j);
            const bool strict = x != 1 && y != 1;
            c->all++;
            c->same += x == y;
            c->all_strict += strict;
            c->same_strict += strict && x == y;
        }
}

static PairCount count_pairs(const LabelReport *r, const int64_t *item, int64_t n) {
    PairCount c = {0};
    for (int64_t i = 0; i < n; i++)
        for (int64_t a = r->first[item[i]]; a < r->last[item[i]]; a++)
            for (int64_t b = r->first[item[i]]; b < a; b++)
                compare_ranks(&c, r->vote[a].rank, r->vote[b].rank, r->vote[a].k);
    return c;
}

static double pairs_with_ties(LabelReport *r, const int64_t *item, int64_t n) {
    const PairCount c = count_pairs(r, item, n);
    return c.same / c.all;
}

static double pairs_without_ties(LabelReport *r, const int64_t *item, int64_t n) {
    const PairCount c = count_pairs(r, item, n);
    return c.same_strict / c.all_strict;
}

static double mean_tau(LabelReport *r, const int64_t *item, int64_t n) {
    double sum = 0, all = 0;
    for (int64_t i = 0; i < n; i++)
        for (int64_t a = r->first[item[i]]; a < r->last[item[i]]; a++)
            for (int64_t b = r->first[item[i]]; b < a; b++) {
                const double tau = agreement_tau(r->vote[a].rank, r->vote[b].rank, r->vote[a].k);
                if (!isnan(tau)) sum += tau, all++;
            }
    return sum / all;
}

/* Over the pairs of labellers who share items, each counted as often as it has pairs. */
static double mean_cohen(LabelReport *r, const int64_t *item, int64_t n) {
    const int64_t W = r->whos;
    AUTOFREE double *count = xcalloc((size_t)(W * W * CLASSES * CLASSES), sizeof *count);
    for (int64_t i = 0; i < n; i++)
        for (int64_t a = r->first[item[i]]; a < r->last[item[i]]; a++)
            for (int64_t b = r->first[item[i]]; b < r->last[item[i]]; b++) {
                const Vote *x = &r->vote[a], *y = &r->vote[b];
                if (x->who >= y->who) continue;
                double *m = count + (x->who * W + y->who) * CLASSES * CLASSES;
                for (int q = 1; q < x->k; q++)
                    for (int p = 0; p < q; p++)
                        m[class_of(x->rank, p, q) * CLASSES + class_of(y->rank, p, q)]++;
            }
    double sum = 0, all = 0;
    for (int64_t p = 0; p < W * W; p++) {
        const double *m = count + p * CLASSES * CLASSES, kappa = agreement_cohen(m, CLASSES);
        double weight = 0;
        for (int j = 0; j < CLASSES * CLASSES; j++) weight += m[j];
        if (weight > 0 && !isnan(kappa)) sum += weight * kappa, all += weight;
    }
    return sum / all;
}

static double fleiss(LabelReport *r, const int64_t *item, int64_t n) {
    AUTOFREE int *count = xcalloc((size_t)(n * PAIRS_MAX * CLASSES + 1), sizeof *count);
    int64_t subjects = 0;
    for (int64_t i = 0; i < n; i++) {
        const int64_t from = r->first[item[i]];
        for (int q = 1; q < r->vote[from].k; q++)
            for (int p = 0; p < q; p++, subjects++)
                for (int64_t a = from; a < r->last[item[i]]; a++)
                    count[subjects * CLASSES + class_of(r->vote[a].rank, p, q)]++;
    }
    return agreement_fleiss(count, subjects, CLASSES);
}

/* Who said it does not matter to alpha: row v holds each item's v-th vote. */
static double alpha(LabelReport *r, const int64_t *item, int64_t n, bool flag) {
    int64_t rows = 0, units = n * LABEL_COMPLETIONS;
    for (int64_t i = 0; i < n; i++) {
        const int64_t votes = r->last[item[i]] - r->first[item[i]];
        rows = votes > rows ? votes : rows;
    }
    AUTOFREE double *value = xmalloc((size_t)(rows * units + 1) * sizeof *value);
    for (int64_t i = 0; i < rows * units; i++) value[i] = (double)NAN;
    for (int64_t i = 0; i < n; i++)
        for (int64_t a = r->first[item[i]]; a < r->last[item[i]]; a++)
            for (int c = 0; c < r->vote[a].k; c++)
                value[(a - r->first[item[i]]) * units + i * LABEL_COMPLETIONS + c] =
                    flag ? (double)(r->vote[a].flags[c] >> r->flag & 1) : r->vote[a].quality[c];
    return agreement_alpha(value, rows, units, flag ? ALPHA_NOMINAL : ALPHA_ORDINAL);
}

static double alpha_quality(LabelReport *r, const int64_t *item, int64_t n) {
    return alpha(r, item, n, false);
}
static double alpha_flag(LabelReport *r, const int64_t *item, int64_t n) {
    return alpha(r, item, n, true);
}

typedef double Measure(LabelReport *r, const int64_t *item, int64_t n);

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static json_t *real_or_null(double v) { return isfinite(v) ? json_real(v) : json_null(); }

/* With its interval: the items drawn again and again with replacement. */
static json_t *measured(LabelReport *r, Measure *measure, int64_t n) {
    AUTOFREE int64_t *item = xmalloc((size_t)(n + 1) * sizeof *item);
    AUTOFREE double *drawn = xmalloc(BOOTSTRAPS * sizeof *drawn);
    int64_t good = 0;
    for (int64_t i = 0; i < n; i++) item[i] = i;
    const double value = n ? measure(r, item, n) : (double)NAN;
    for (int b = 0; b < BOOTSTRAPS && isfinite(value); b++) {
        const RngKey key = {
            .seed = (uint64_t)r->l->seed, .purpose = RNG_NOISE, .step = (uint32_t)b};
        for (int64_t i = 0; i < n; i++) item[i] = rng_below(&key, (uint64_t)i, 0, 0, n);
        const double v = measure(r, item, n);
        if (isfinite(v)) drawn[good++] = v;
    }
    qsort(drawn, (size_t)good, sizeof *drawn, by_value);
    return json_pack("{s:o, s:o, s:o, s:I}", "value", real_or_null(value), "low",
                     real_or_null(good ? drawn[good / 40] : (double)NAN), "high",
                     real_or_null(good ? drawn[good - 1 - good / 40] : (double)NAN), "n",
                     (json_int_t)n);
}

static const struct {
    const char *name;
    Measure *measure;
} measures[] = {{"pairs, ties left out", pairs_without_ties},
                {"pairs, ties as a class", pairs_with_ties},
                {"Cohen's kappa", mean_cohen},
                {"Fleiss' kappa", fleiss},
                {"Kendall's tau-b", mean_tau},
                {"Krippendorff's alpha, quality", alpha_quality}};

/* --- each labeller ---------------------------------------------------------------------------- */

/* The mean rank by the item's other labellers; false: there is none. */
static bool others_rank(const LabelReport *r, int64_t item, const Vote *v, double *mean) {
    int64_t n = 0;
    memset(mean, 0, LABEL_COMPLETIONS * sizeof *mean);
    for (int64_t a = r->first[item]; a < r->last[item]; a++) {
        if (r->vote[a].who == v->who) continue;
        for (int i = 0; i < v->k; i++) mean[i] += r->vote[a].rank[i];
        n++;
    }
    return n > 0;
}

typedef struct TauMean {
    double sum, n;
} TauMean;

static void add_tau(TauMean *t, const double *a, const double *b, int k) {
    const double tau = agreement_tau(a, b, k);
    if (!isnan(tau)) t->sum += tau, t->n++;
}

static json_t *labeller_report(LabelReport *r, int who) {
    ReportLabeller *w = &r->who[who];
    PairCount consensus = {0}, retest = {0}, gold = {0};
    TauMean with_others = {0}, length = {0}, position = {0};
    int64_t ranked = 0;
    for (int64_t i = 0; i < r->items; i++)
        for (int64_t a = r->first[i]; a < r->last[i]; a++) {
            double mean[LABEL_COMPLETIONS];
            if (r->vote[a].who != who || !others_rank(r, i, &r->vote[a], mean)) continue;
            compare_ranks(&consensus, r->vote[a].rank, mean, r->vote[a].k);
            add_tau(&with_others, r->vote[a].rank, mean, r->vote[a].k);
        }
    for (int64_t a = 0; a < r->n; a++) {
        const Vote *v = &r->vote[a];
        double better[LABEL_COMPLETIONS], earlier[LABEL_COMPLETIONS];
        int order[LABEL_COMPLETIONS];
        if (v->who != who) continue;
        ranked++;
        label_order(r->l, v->labeller, v->item, v->pass, v->k, order);
        for (int i = 0; i < v->k; i++) better[i] = -v->rank[i], earlier[order[i]] = -i;
        add_tau(&length, v->length, better, v->k);
        add_tau(&position, earlier, better, v->k);
        if (!isnan(v->gold[0])) compare_ranks(&gold, v->rank, v->gold, v->k);
        for (int64_t b = 0; b < a && v->pass == 1; b++)
            if (r->vote[b].item == v->item && r->vote[b].who == who && r->vote[b].pass == 0)
                compare_ranks(&retest, v->rank, r->vote[b].rank, v->k);
    }
    qsort(w->seconds, (size_t)w->n, sizeof *w->seconds, by_value);
    return json_pack("{s:s, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "name", w->name,
                     "ranked", (json_int_t)ranked, "written", (json_int_t)w->written,
                     "seconds, median", real_or_null(w->n ? w->seconds[w->n / 2] : (double)NAN),
                     "pairs as the others",
                     real_or_null(consensus.same_strict / consensus.all_strict),
                     "tau with the others", real_or_null(with_others.sum / with_others.n),
                     "pairs as before (retest)", real_or_null(retest.same / retest.all),
                     "pairs as known (gold)", real_or_null(gold.same_strict / gold.all_strict),
                     "longer is better (tau)", real_or_null(length.sum / length.n),
                     "shown first is better (tau)", real_or_null(position.sum / position.n));
}

/* --- all of it -------------------------------------------------------------------------------- */

static json_t *progress(Label *l) {
    json_t *p = json_object();
    const struct {
        const char *name, *query;
    } counts[] = {
        {"items to rank", "SELECT count(*) FROM item WHERE task = 'rank' AND gold IS NULL"},
        {"items to write", "SELECT count(*) FROM item WHERE task = 'write'"},
        {"items of quality control", "SELECT count(*) FROM item WHERE gold IS NOT NULL"},
        {"answers", "SELECT count(*) FROM assignment WHERE state = 'done'"},
        {"skipped", "SELECT count(*) FROM assignment WHERE state = 'skipped'"},
        {"open", "SELECT count(*) FROM assignment WHERE state = 'open'"}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        json_object_set_new(p, counts[i].name,
                            json_integer(sql_whole(l->db, 0, counts[i].query, "")));
    json_object_set_new(p, "items that lack answers", json_integer(label_unfinished(l)));
    return p;
}

static json_t *agreement(LabelReport *r) {
    json_t *a = json_object(), *flag;
    size_t i;
    for (i = 0; i < sizeof measures / sizeof *measures; i++)
        json_object_set_new(a, measures[i].name, measured(r, measures[i].measure, r->items));
    json_array_foreach(json_object_get(r->l->form, "flags"), i, flag) {
        AUTOFREE char *name =
            xasprintf("Krippendorff's alpha, %s", json_string_value(json_object_get(flag, "name")));
        r->flag = (int)i;
        json_object_set_new(a, name, measured(r, alpha_flag, r->items));
    }
    return a;
}

int label_report(Label *l, json_t **out) {
    LabelReport r = {.l = l};
    int rc = read_answers(&r);
    if (rc >= 0) {
        find_items(&r);
        json_t *each = json_array();
        for (int i = 0; i < r.whos; i++) json_array_append_new(each, labeller_report(&r, i));
        *out = json_pack("{s:o, s:o, s:o}", "progress", progress(l), "agreement", agreement(&r),
                         "labellers", each);
    }
    for (int i = 0; i < r.whos; i++) {
        free(r.who[i].name);
        free(r.who[i].seconds);
    }
    free(r.who);
    free(r.vote);
    free(r.first);
    free(r.last);
    return rc < 0 ? rc : 0;
}

/* --- as text and as a page ---------------------------------------------------------------------- */

static const char *figure(const json_t *v, char to[32]) {
    if (json_is_integer(v))
        snprintf(to, 32, "%" PRId64, (int64_t)json_integer_value(v));
    else if (json_is_real(v))
        snprintf(to, 32, "%.3f", json_real_value(v));
    else
        snprintf(to, 32, "-");
    return to;
}

void label_report_text(const json_t *report, FILE *out) {
    const char *name;
    json_t *v, *labeller;
    size_t i;
    char a[32], b[32], c[32], d[32];
    json_object_foreach(json_object_get(report, "progress"), name, v)
        fprintf(out, "%-40s %s\n", name, figure(v, a));
    fprintf(out, "\n%-40s %8s   95 %% interval      items\n", "agreement", "value");
    json_object_foreach(json_object_get(report, "agreement"), name, v)
        fprintf(out, "%-40s %8s   %6s .. %-6s  %7s\n", name, figure(json_object_get(v, "value"), a),
                figure(json_object_get(v, "low"), b), figure(json_object_get(v, "high"), c),
                figure(json_object_get(v, "n"), d));
    json_array_foreach(json_object_get(report, "labellers"), i, labeller) {
        fprintf(out, "\n%s\n", json_string_value(json_object_get(labeller, "name")));
        json_object_foreach(labeller, name, v) if (strcmp(name, "name") != 0)
            fprintf(out, "    %-36s %8s\n", name, figure(v, a));
    }
}

static void put_escaped(Text *t, const char *s) {
    for (; *s; s++)
        if (*s == '<' || *s == '>' || *s == '&' || *s == '"' || *s == '\'')
            text_put(t, "&#%d;", *s);
        else
            text_bytes(t, s, 1);
}

/* tag: two letters, and attributes */
static void put_cell(Text *t, const char *tag, const char *s) {
    text_put(t, "<%s>", tag);
    put_escaped(t, s);
    text_put(t, "</%.2s>", tag);
}

static void put_row(Text *t, const char *name, const json_t *v, const char *const *member, int n) {
    char a[32];
    text_put(t, "<tr>");
    put_cell(t, "th scope=row", name);
    for (int i = 0; i < n; i++)
        put_cell(t, "td", figure(member[i] ? json_object_get(v, member[i]) : v, a));
    text_put(t, "</tr>\n");
}

void label_report_page(const json_t *report, Text *t) {
    static const char *const interval[] = {"value", "low", "high", "n"}, *const itself[] = {NULL};
    const char *name;
    json_t *v, *labeller;
    size_t i;
    text_put(t, "<!doctype html>\n<html lang=en><meta charset=utf-8><meta name=viewport "
                "content='width=device-width'><title>Labelling: report</title><link rel=stylesheet "
                "href=/style.css><body class=report><main><h1>Labelling: report</h1>\n<table>"
                "<caption>Progress</caption>\n");
    json_object_foreach(json_object_get(report, "progress"), name, v)
        put_row(t, name, v, itself, 1);
    text_put(t,
             "</table>\n<table><caption>Agreement, with 95 %% intervals over items</caption>\n<tr>"
             "<td></td><th scope=col>value</th><th scope=col>low</th><th scope=col>high</th><th "
             "scope=col>items</th></tr>\n");
    json_object_foreach(json_object_get(report, "agreement"), name, v)
        put_row(t, name, v, interval, 4);
    text_put(t, "</table>\n");
    json_array_foreach(json_object_get(report, "labellers"), i, labeller) {
        text_put(t, "<table>");
        text_put(t, "<caption>");
        put_escaped(t, json_string_value(json_object_get(labeller, "name")));
        text_put(t, "</caption>");
        json_object_foreach(labeller, name, v) if (strcmp(name, "name") != 0)
            put_row(t, name, v, itself, 1);
        text_put(t, "</table>\n");
    }
    text_put(t, "</main></body></html>\n");
}

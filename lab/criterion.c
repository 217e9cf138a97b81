/* criterion.c: criteria are parsed into a tree and judged. See criterion.h. */
#include "lab/criterion.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/nearest.h"

/* --- the tree --------------------------------------------------------------------------------- */
typedef struct Filter {
    char *field, *text;
    char op; /* = ! < > */
} Filter;

typedef enum NodeKind { NODE_NUMBER, NODE_FIELD, NODE_CALL, NODE_BINARY } NodeKind;
typedef struct Node {
    NodeKind kind;
    double number;
    char op;        /* of two: + - * / < > */
    int function;   /* in the table below */
    char *name;     /* "MEASURE.FIELD" */
    Filter *filter; /* of a field */
    int nfilter, narg;
    struct Node *arg[3];
} Node;

struct Criterion {
    char *text;
    Node *left, *right, *margin; /* margin: of an equivalence */
    char op;                     /* > < = */
    bool every;
};

enum { RESAMPLES = 2000 }; /* of the bootstrap */
static const double level = 0.95;

/* --- functions -------------------------------------------------------------------------------- */
/* Series in the order of the records. */
typedef struct Series {
    double *v;
    int n; /* -1: an error, ctx->problem */
} Series;

static double mean_of(const Series *a, int n) { return stats_mean(a[0].v, a[0].n); }
static double last_of(const Series *a, int n) { return a[0].v[a[0].n - 1]; }
static double first_of(const Series *a, int n) { return a[0].v[0]; }
static double count_of(const Series *a, int n) { return a[0].n; }
static int place_of(const Series *a, double sign) {
    int at = 0;
    for (int i = 1; i < a->n; i++)
        if (sign * a->v[i] > sign * a->v[at]) at = i;
    return at;
}
static double max_of(const Series *a, int n) { return a[0].v[place_of(a, 1)]; }
static double min_of(const Series *a, int n) { return a[0].v[place_of(a, -1)]; }
static double argmax_of(const Series *a, int n) { return a[1].v[place_of(a, 1)]; }
static double argmin_of(const Series *a, int n) { return a[1].v[place_of(a, -1)]; }
static double slope_of(const Series *a, int n) { return stats_slope(a[1].v, a[0].v, a[0].n); }
static double spearman_of(const Series *a, int n) {
    return stats_spearman(a[1].v, a[0].v, a[0].n, 0, 1, NULL);
}
/* y where x is `to`, between its neighbours on the way there; NAN outside of them. */
static double at_of(const Series *a, int n) {
    const double to = a[2].v[0];
    for (int i = 0; i < a[0].n; i++) {
        const double x = a[1].v[i], next = a[1].v[i + 1 < a[0].n ? i + 1 : i];
        if ((x <= to && to <= next) || (next <= to && to <= x))
            return fabs(next - x) > 0
                       ? a[0].v[i] + (to - x) / (next - x) * (a[0].v[i + 1] - a[0].v[i])
                       : a[0].v[i];
    }
    return (double)NAN;
}
static double gain(const Series *a, StatsForm form) {
    StatsFit gao, up;
    if (!stats_fit(form, a[1].v, a[0].v, a[0].n, level, &gao) ||
        !stats_fit(STATS_MONOTONE, a[1].v, a[0].v, a[0].n, level, &up))
        return (double)NAN;
    return up.aic - gao.aic;
}
static double gain_rl(const Series *a, int n) { return gain(a, STATS_GAO_RL); }
static double gain_bon(const Series *a, int n) { return gain(a, STATS_GAO_BON); }
static double peak(const Series *a, StatsForm form) {
    StatsFit f;
    return stats_fit(form, a[1].v, a[0].v, a[0].n, level, &f) ? f.peak : (double)NAN;
}
static double peak_rl(const Series *a, int n) { return peak(a, STATS_GAO_RL); }
static double peak_bon(const Series *a, int n) { return peak(a, STATS_GAO_BON); }

typedef enum FunctionKind { EACH, REDUCE, SEEDS } FunctionKind;
static const struct {
    const char *name;
    int args;
    FunctionKind kind;
    double (*each)(double);                      /* EACH: of every value */
    double (*reduce)(const Series *args, int n); /* REDUCE: one number of the series */
    double (*seeds)(const double *x, int64_t n); /* SEEDS: of all units */
} functions[] = {
    {"sqrt", 1, EACH, sqrt, NULL, NULL},
    {"log", 1, EACH, log, NULL, NULL},
    {"exp", 1, EACH, exp, NULL, NULL},
    {"abs", 1, EACH, fabs, NULL, NULL},
    {"mean", 1, REDUCE, NULL, mean_of, NULL},
    {"max", 1, REDUCE, NULL, max_of, NULL},
    {"min", 1, REDUCE, NULL, min_of, NULL},
    {"first", 1, REDUCE, NULL, first_of, NULL},
    {"last", 1, REDUCE, NULL, last_of, NULL},
    {"count", 1, REDUCE, NULL, count_of, NULL},
    {"argmax", 2, REDUCE, NULL, argmax_of, NULL}, /* (y, x): the x of the highest y */
    {"argmin", 2, REDUCE, NULL, argmin_of, NULL},
    {"slope", 2, REDUCE, NULL, slope_of, NULL}, /* (y, x): least squares */
    {"spearman", 2, REDUCE, NULL, spearman_of, NULL},
    {"at", 3, REDUCE, NULL, at_of, NULL},        /* (y, x, value) */
    {"gain_rl", 2, REDUCE, NULL, gain_rl, NULL}, /* (y, d): AIC of a form that never falls minus
                                                     Gao's */
    {"gain_bon", 2, REDUCE, NULL, gain_bon, NULL},
    {"peak_rl", 2, REDUCE, NULL, peak_rl, NULL}, /* (y, d): the d of Gao's highest place */
    {"peak_bon", 2, REDUCE, NULL, peak_bon, NULL},
    {"seeds_mean", 1, SEEDS, NULL, NULL, stats_mean},
    {"seeds_sd", 1, SEEDS, NULL, NULL, stats_sd},
    {"seeds_share", 1, SEEDS, NULL, NULL, stats_mean}, /* (a < b): Clopper and Pearson's interval */
};
enum { FUNCTIONS = sizeof functions / sizeof *functions };

/* --- parsing ---------------------------------------------------------------------------------- */
typedef struct Parser {
    const char *text, *at;
} Parser;

static void node_free(Node *n) {
    if (!n) return;
    for (int i = 0; i < n->narg; i++) node_free(n->arg[i]);
    for (int i = 0; i < n->nfilter; i++) {
        free(n->filter[i].field);
        free(n->filter[i].text);
    }
    free(n->filter);
    free(n->name);
    free(n);
}

static int bad(const Parser *p, const char *what) {
    return error_set(ERR_CONFIG, "\"%s\": %s at \"%s\"", p->text, what, p->at);
}

static bool next_is(Parser *p, const char *word) {
    while (isspace((unsigned char)*p->at)) p->at++;
    const size_t n = strlen(word);
    if (strncmp(p->at, word, n) != 0) return false;
    p->at += n;
    return true;
}

#define WORD "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_."
static char *take_word(Parser *p, const char *characters) {
    while (isspace((unsigned char)*p->at)) p->at++;
    const size_t n = strspn(p->at, characters);
    char *word = xasprintf("%.*s", (int)n, p->at);
    p->at += n;
    return word;
}

/* FIELD=TEXT and the like, as many as there are. */
static int parse_filters(Parser *p, Filter **out, int *n) {
    do {
        *out = xrealloc(*out, (size_t)(*n + 1) * sizeof **out);
        Filter *f = &(*out)[(*n)++];
        *f = (Filter){.field = take_word(p, WORD)};
        f->op = next_is(p, "!=")  ? '!'
                : next_is(p, "=") ? '='
                : next_is(p, "<") ? '<'
                : next_is(p, ">") ? '>'
                                  : 0;
        f->text = take_word(p, WORD "+-@ ");
        for (size_t k = strlen(f->text); k > 0 && f->text[k - 1] == ' '; k--) f->text[k - 1] = '\0';
        if (!*f->field || !f->op || !*f->text)
            return bad(p, "expected a filter such as model=ppo or kl<4");
    } while (next_is(p, ","));
    return 0;
}

static int parse_sum(Parser *p, Node **out);

static int parse_call(Parser *p, const char *name, Node *n) {
    const char *names[FUNCTIONS];
    n->kind = NODE_CALL;
    for (n->function = 0; n->function < FUNCTIONS; n->function++) {
        names[n->function] = functions[n->function].name;
        if (strcmp(name, functions[n->function].name) == 0) break;
    }
    if (n->function == FUNCTIONS) {
        AUTOFREE char *hint = nearest_hint(name, names, FUNCTIONS);
        return error_set(ERR_CONFIG, "\"%s\": no function %s%s", p->text, name, hint);
    }
    const int want = functions[n->function].args;
    do {
        if (n->narg == want) return bad(p, "one argument too many");
        TRY(parse_sum(p, &n->arg[n->narg++]));
    } while (next_is(p, ","));
    if (functions[n->function].kind == SEEDS) { /* of a comparison: 0 or 1 */
        const char op = next_is(p, "<") ? '<' : next_is(p, ">") ? '>' : 0;
        if (op) {
            Node *both = xcalloc(1, sizeof *both);
            *both = (Node){.kind = NODE_BINARY, .op = op, .narg = 2, .arg = {n->arg[0]}};
            n->arg[0] = both;
            TRY(parse_sum(p, &both->arg[1]));
        }
    }
    if (n->narg < want) return bad(p, "an argument is missing");
    return next_is(p, ")") ? 0 : bad(p, "expected )");
}

static int parse_atom(Parser *p, Node **out) {
    Node *n = *out = xcalloc(1, sizeof *n);
    char *end;
    if (next_is(p, "(")) {
        free(n);
        *out = NULL;
        TRY(parse_sum(p, out));
        return next_is(p, ")") ? 0 : bad(p, "expected )");
    }
    if (next_is(p, "-")) {
        *n = (Node){.kind = NODE_BINARY, .op = '-', .narg = 2};
        n->arg[0] = xcalloc(1, sizeof *n);
        TRY(parse_atom(p, &n->arg[1]));
        if (n->arg[1]->kind != NODE_NUMBER) return 0;
        const double number = n->arg[1]->number; /* a bound such as -0.1 is a number */
        node_free(n->arg[0]);
        node_free(n->arg[1]);
        *n = (Node){.number = -number};
        return 0;
    }
    if (isdigit((unsigned char)*p->at)) {
        n->number = strtod(p->at, &end);
        p->at = end;
        return 0;
    }
    n->name = take_word(p, WORD "/@");
    if (!*n->name) return bad(p, "expected a number, MEASURE.FIELD or a function");
    /* fields may hold a slash, so a quotient of fields needs spaces */
    if (next_is(p, "(")) return parse_call(p, n->name, n);
    n->kind = NODE_FIELD;
    if (!next_is(p, "[")) return 0;
    TRY(parse_filters(p, &n->filter, &n->nfilter));
    return next_is(p, "]") ? 0 : bad(p, "expected ]");
}

static int parse_chain(Parser *p, Node **out, const char *ops, int (*part)(Parser *, Node **)) {
    TRY(part(p, out));
    for (;;) {
        while (isspace((unsigned char)*p->at)) p->at++;
        if (!*p->at || !strchr(ops, *p->at)) return 0;
        if (p->at[0] == '+' && p->at[1] == '-') return 0; /* the margin */
        Node *n = xcalloc(1, sizeof *n);
        *n = (Node){.kind = NODE_BINARY, .op = *p->at++, .narg = 2, .arg = {*out}};
        *out = n;
        TRY(part(p, &n->arg[1]));
    }
}
static int parse_product(Parser *p, Node **out) { return parse_chain(p, out, "*/", parse_atom); }
static int parse_sum(Parser *p, Node **out) { return parse_chain(p, out, "+-", parse_product); }

int criterion_parse(Criterion **out, const char *text) {
    Criterion *c = *out = xcalloc(1, sizeof *c);
    Parser p = {text, text};
    c->text = xstrdup(text);
    c->every = next_is(&p, "every ");
    int rc = parse_sum(&p, &c->left);
    if (rc >= 0) {
        c->op = next_is(&p, ">") ? '>' : next_is(&p, "<") ? '<' : next_is(&p, "=") ? '=' : 0;
        if (c->op && c->op != '=') next_is(&p, "="); /* >= and <=: the bound has no weight */
        if (!c->op) rc = bad(&p, "expected >, < or = VALUE +- MARGIN");
    }
    if (rc >= 0) rc = parse_sum(&p, &c->right);
    if (rc >= 0 && c->op == '=')
        rc = next_is(&p, "+-") ? parse_atom(&p, &c->margin) : bad(&p, "expected +- MARGIN");
    if (rc >= 0 && c->every && c->op == '=') rc = bad(&p, "every needs > or <, not =");
    next_is(&p, ""); /* spaces */
    if (rc >= 0 && *p.at) rc = bad(&p, "expected the end");
    if (rc < 0) criterion_free(out);
    return rc;
}

void criterion_free(Criterion **cp) {
    Criterion *c = *cp;
    if (!c) return;
    node_free(c->left);
    node_free(c->right);
    node_free(c->margin);
    free(c->text);
    free(c);
    *cp = NULL;
}

/* --- values ----------------------------------------------------------------------------------- */
char *criterion_text(const json_t *v) {
    if (json_is_number(v)) return xasprintf("%.10g", json_number_value(v));
    if (json_is_boolean(v)) return xstrdup(json_is_true(v) ? "true" : "false");
    return xstrdup(json_is_string(v) ? json_string_value(v) : "");
}

static bool passes(const Filter *f, const json_t *record) {
    const json_t *v = json_object_get(record, f->field);
    char *end;
    const double number = strtod(f->text, &end);
    const bool numbers = json_is_number(v) && !*end;
    const double difference = numbers ? json_number_value(v) - number : (double)NAN;
    if (f->op == '<' || f->op == '>') return f->op == '<' ? difference < 0 : difference > 0;
    AUTOFREE char *text = criterion_text(v);
    const bool same =
        numbers ? fabs(difference) <= 1e-12 * fabs(number) : strcmp(text, f->text) == 0;
    return v && same == (f->op == '=');
}

int criterion_filter(const char *text, const json_t *record) {
    Parser p = {text, text};
    Filter *f = NULL;
    int n = 0;
    if (!text || !*text) return 1;
    int rc = parse_filters(&p, &f, &n);
    if (rc >= 0 && *p.at) rc = bad(&p, "expected the end");
    if (rc >= 0) rc = 1;
    for (int i = 0; i < n; i++) {
        if (rc == 1 && !passes(&f[i], record)) rc = 0;
        free(f[i].field);
        free(f[i].text);
    }
    free(f);
    return rc;
}

/* The records in which names are looked up: those of the current unit. */
typedef struct Scope {
    const json_t *const *record;
    const int *unit; /* of each record; NULL: all are of the current one */
    int n, current, nunits;
    const int64_t *drawn; /* units of the resample */
    int64_t ndrawn;
    bool plain; /* names are fields of any record, not MEASURE.FIELD */
    char *problem;
    size_t room;
    char **names; /* of the units */
} Scope;

static Series fail(Scope *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static Series fail(Scope *s, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    if (!*s->problem) vsnprintf(s->problem, s->room, fmt, ap);
    va_end(ap);
    return (Series){NULL, -1};
}

static Series number_value(double v) {
    Series out = {xmalloc(sizeof *out.v), 1};
    *out.v = v;
    return out;
}

static Series field_values(const Node *node, Scope *s) {
    const char *dot = s->plain ? NULL : strchr(node->name, '.');
    const char *field = dot ? dot + 1 : node->name;
    const size_t n = dot ? (size_t)(dot - node->name) : 0;
    if (!s->plain && !dot) return fail(s, "%s: expected MEASURE.FIELD", node->name);
    if (s->current < 0) return fail(s, "%s stands outside of seeds_mean() or its like", node->name);
    Series out = {xcalloc((size_t)s->n + 1, sizeof *out.v), 0};
    for (int i = 0; i < s->n; i++) {
        const json_t *r = s->record[i];
        const char *measure = json_string_value(json_object_get(r, "measure"));
        if (s->unit && s->unit[i] != s->current) continue;
        if (dot && (!measure || strlen(measure) != n || strncmp(measure, node->name, n) != 0))
            continue;
        bool good = true;
        for (int k = 0; k < node->nfilter; k++) good = good && passes(&node->filter[k], r);
        if (!good) continue;
        const json_t *v = json_object_get(r, field);
        if (json_is_number(v) || json_is_boolean(v))
            out.v[out.n++] = json_is_number(v) ? json_number_value(v) : json_is_true(v);
        else if (s->plain || node->nfilter > 0) {
            free(out.v);
            return fail(s, "a record has no number \"%s\"", field);
        }
    }
    if (out.n > 0) return out;
    free(out.v);
    return fail(s, "no record for %s%s%s", node->name, s->names ? " in unit " : "",
                s->names ? s->names[s->current] : "");
}

static Series evaluate(const Node *n, Scope *s);

static double operate(char op, double a, double b) {
    switch (op) {
    case '+': return a + b;
    case '-': return a - b;
    case '*': return a * b;
    case '/': return a / b;
    case '<': return a < b;
    default: return a > b;
    }
}

static Series of_seeds(const Node *n, Scope *s) {
    const int was = s->current;
    AUTOFREE double *x = xcalloc((size_t)s->ndrawn + 1, sizeof *x);
    for (int64_t i = 0; i < s->ndrawn; i++) {
        s->current = (int)s->drawn[i];
        Series v = evaluate(n->arg[0], s);
        x[i] = v.n == 1 ? *v.v : (double)NAN;
        free(v.v);
        if (v.n > 1)
            return fail(s, "%s needs one number a unit, found %d", functions[n->function].name,
                        v.n);
        if (v.n < 0) return v;
    }
    s->current = was;
    return number_value(functions[n->function].seeds(x, s->ndrawn));
}

static Series call(const Node *n, Scope *s) {
    Series a[3] = {{NULL, 0}}, out = {NULL, 0};
    if (functions[n->function].kind == SEEDS) return of_seeds(n, s);
    for (int k = 0; k < n->narg && out.n >= 0; k++) {
        a[k] = evaluate(n->arg[k], s);
        if (a[k].n < 0) out = a[k];
        if (k == 1 && a[1].n >= 0 && a[1].n != a[0].n)
            out =
                fail(s, "%s: %d values and %d values", functions[n->function].name, a[0].n, a[1].n);
    }
    if (out.n >= 0 && functions[n->function].kind == REDUCE)
        out = number_value(functions[n->function].reduce(a, n->narg));
    else if (out.n >= 0) {
        out = a[0];
        a[0].v = NULL;
        for (int i = 0; i < out.n; i++) out.v[i] = functions[n->function].each(out.v[i]);
    }
    for (int k = 0; k < n->narg; k++) free(a[k].v);
    return out;
}

static Series binary(const Node *n, Scope *s) {
    Series a = evaluate(n->arg[0], s), b = a.n < 0 ? a : evaluate(n->arg[1], s), out = {NULL, -1};
    if (a.n >= 0 && b.n >= 0 && a.n != b.n && a.n != 1 && b.n != 1)
        out = fail(s, "%d values %c %d values", a.n, n->op, b.n);
    else if (a.n >= 0 && b.n >= 0) {
        out.n = a.n > b.n ? a.n : b.n;
        out.v = xcalloc((size_t)out.n + 1, sizeof *out.v);
        for (int i = 0; i < out.n; i++)
            out.v[i] = operate(n->op, a.v[a.n > 1 ? i : 0], b.v[b.n > 1 ? i : 0]);
    }
    free(a.v);
    if (b.v != a.v) free(b.v);
    return out;
}

static Series evaluate(const Node *n, Scope *s) {
    switch (n->kind) {
    case NODE_NUMBER: return number_value(n->number);
    case NODE_FIELD: return field_values(n, s);
    case NODE_CALL: return call(n, s);
    default: return binary(n, s);
    }
}

/* One number, or NAN with a problem. */
static double one_number(const Node *n, Scope *s) {
    Series v = evaluate(n, s);
    const double x = v.n == 1 ? *v.v : (double)NAN;
    free(v.v);
    if (v.n > 1)
        fail(s,
             "%d records where one number is expected; narrow it by [FIELD=VALUE], or say max, "
             "last, mean",
             v.n);
    else if (v.n == 1 && isnan(x))
        fail(s, "it is no number%s%s", s->names && s->current >= 0 ? " in unit " : "",
             s->names && s->current >= 0 ? s->names[s->current] : "");
    return x;
}

int criterion_series(const char *text, const json_t *const *record, int n, double *out) {
    Parser p = {text, text};
    Node *node = NULL;
    char problem[256] = "";
    Scope s = {.record = record, .n = n, .plain = true, .problem = problem, .room = sizeof problem};
    int rc = parse_sum(&p, &node);
    if (rc >= 0 && *p.at) rc = bad(&p, "expected the end");
    if (rc >= 0) {
        Series v = evaluate(node, &s);
        if (v.n != n && v.n != 1)
            rc = error_set(ERR_CONFIG, "\"%s\": %s", text,
                           *problem ? problem : "not a value a record");
        for (int i = 0; rc >= 0 && i < n; i++) out[i] = v.v[v.n > 1 ? i : 0];
        free(v.v);
    }
    node_free(node);
    return rc;
}

/* --- judging ---------------------------------------------------------------------------------- */
static int by_order(const void *a, const void *b) {
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    char *xe, *ye;
    const double u = strtod(x, &xe), w = strtod(y, &ye);
    return !*xe && !*ye && u != w ? (u > w) - (u < w) : strcmp(x, y);
}

char **criterion_units(const json_t *records, const char *field, int *n) {
    char **list = xcalloc(json_array_size(records) + 1, sizeof *list);
    const json_t *r;
    size_t i;
    *n = 0;
    json_array_foreach(records, i, r) {
        const json_t *v = json_object_get(r, field);
        char *text = v ? criterion_text(v) : NULL;
        for (int k = 0; text && k < *n; k++)
            if (strcmp(list[k], text) == 0) free(text), text = NULL;
        if (text) list[(*n)++] = text;
    }
    qsort(list, (size_t)*n, sizeof *list, by_order);
    return list;
}

static bool of_all_seeds(const Node *n) {
    if (n->kind == NODE_CALL && functions[n->function].kind == SEEDS) return true;
    for (int i = 0; i < n->narg; i++)
        if (of_all_seeds(n->arg[i])) return true;
    return false;
}

typedef struct Across {
    const Criterion *c;
    Scope *s;
} Across;

static double across(const void *ctx, const int64_t *index, int64_t n) {
    const Across *a = ctx;
    a->s->drawn = index;
    a->s->ndrawn = n;
    a->s->current = -1;
    const double left = one_number(a->c->left, a->s), right = one_number(a->c->right, a->s);
    return left - right;
}

/* The p of a bootstrap: the smallest level whose interval does not reach the bound. */
static double across_p(const Across *a, int n, double bound, bool above) {
    double sure = 0, unsure = 1; /* of the tail */
    for (int k = 0; k < 12; k++) {
        const double tail = (sure + unsure) / 2;
        const StatsInterval i = stats_bca(across, a, n, 1 - tail, RESAMPLES, 1);
        if (above ? i.low > bound : i.high < bound)
            unsure = tail;
        else
            sure = tail;
    }
    return (unsure < 1 ? unsure : 2) / 2;
}

static void judge_share(const Criterion *c, Scope *s, Finding *f) {
    AUTOFREE int64_t *all = xcalloc((size_t)f->n + 1, sizeof *all);
    for (int i = 0; i < f->n; i++) all[i] = i;
    s->drawn = all;
    s->ndrawn = f->n;
    s->current = -1;
    const double share = one_number(c->left, s), bound = one_number(c->right, s);
    if (*s->problem) return;
    const int64_t k = (int64_t)round(share * f->n);
    f->i = stats_share(k, f->n, level);
    f->bound = bound;
    f->verdict = stats_verdict(f->i, bound, c->op == '>');
    f->p = c->op == '<'
               ? (k == f->n ? 1 : 1 - stats_beta_cdf(bound, (double)k + 1, (double)(f->n - k)))
               : (k == 0 ? 1 : stats_beta_cdf(bound, (double)k, (double)(f->n - k) + 1));
}

static void judge_across(const Criterion *c, Scope *s, Finding *f) {
    const Across a = {c, s};
    if (c->left->kind == NODE_CALL &&
        strcmp(functions[c->left->function].name, "seeds_share") == 0 &&
        c->right->kind == NODE_NUMBER && c->op != '=') {
        judge_share(c, s, f);
        return;
    }
    f->i = stats_bca(across, &a, f->n, level, RESAMPLES, 1);
    if (isnan(f->i.low) && !*s->problem) fail(s, "%d units are too few for an interval", f->n);
    if (c->op == '=' && !*s->problem) fail(s, "+- is for values a unit");
    if (*s->problem) return;
    f->verdict = stats_verdict(f->i, 0, c->op == '>');
    f->p = across_p(&a, f->n, 0, c->op == '>');
}

static void judge_every(const Criterion *c, Finding *f) {
    f->exact = true;
    f->p = 0;
    f->verdict = f->n ? STATS_HOLDS : STATS_UNDECIDED;
    for (int i = 0; i < f->n; i++)
        if (c->op == '>' ? f->value[i] < f->bound : f->value[i] > f->bound)
            f->verdict = STATS_FAILS;
    if (f->verdict != STATS_HOLDS) f->p = 1;
}

static void judge_equal(Finding *f, double margin) {
    f->bound = -margin;
    f->bound2 = margin;
    f->p = stats_tost(f->value, f->n, -margin, margin);
    const bool inside =
        f->i.low > -margin && f->i.high<margin, outside = f->i.low> margin || f->i.high < -margin;
    f->verdict = inside ? STATS_HOLDS : outside ? STATS_FAILS : STATS_UNDECIDED;
}

static void judge_units(const Criterion *c, Scope *s, Finding *f) {
    double margin = 0;
    f->value = xcalloc((size_t)f->n + 1, sizeof *f->value);
    /* a bound that is a number stays beside the values, else the difference is looked at */
    const bool plain = c->right->kind == NODE_NUMBER && c->op != '=';
    f->bound = plain ? c->right->number : 0;
    for (int i = 0; i < f->n; i++) {
        s->current = i;
        f->value[i] = one_number(c->left, s);
        if (!plain) f->value[i] -= one_number(c->right, s);
        if (c->margin) margin = one_number(c->margin, s);
    }
    f->i = stats_t(f->value, f->n, level);
    if (*s->problem) return;
    if (c->every) {
        judge_every(c, f);
        return;
    }
    if (f->n < 2) fail(s, "one unit has no spread");
    if (c->op == '=')
        judge_equal(f, margin);
    else {
        const double above = stats_t_above(f->value, f->n, f->bound);
        f->p = c->op == '>' ? above : 1 - above;
        f->verdict = stats_verdict(f->i, f->bound, c->op == '>');
    }
}

void criterion_judge(const Criterion *c, const json_t *records, const char *unit, Finding *f) {
    const double nan = (double)NAN;
    *f = (Finding){.i = {nan, nan, nan}, .p = nan};
    f->unit = criterion_units(records, unit, &f->n);
    const size_t n = json_array_size(records);
    AUTOFREE const json_t **record = xcalloc(n + 1, sizeof *record);
    AUTOFREE int *of = xcalloc(n + 1, sizeof *of);
    for (size_t i = 0; i < n; i++) {
        record[i] = json_array_get(records, i);
        AUTOFREE char *text = criterion_text(json_object_get(record[i], unit));
        while (of[i] < f->n && strcmp(f->unit[of[i]], text) != 0) of[i]++;
    }
    Scope s = {.record = record,
               .unit = of,
               .n = (int)n,
               .nunits = f->n,
               .problem = f->problem,
               .room = sizeof f->problem,
               .names = f->unit};
    if (f->n == 0)
        fail(&s, "nothing is measured yet");
    else if (of_all_seeds(c->left) || of_all_seeds(c->right))
        judge_across(c, &s, f);
    else
        judge_units(c, &s, f);
    if (*f->problem) {
        f->verdict = STATS_UNDECIDED;
        f->p = nan;
    }
}

void criterion_free_finding(Finding *f) {
    for (int i = 0; i < f->n; i++) free(f->unit[i]);
    free(f->unit);
    free(f->value);
    *f = (Finding){0};
}

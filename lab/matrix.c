/* matrix.c: the file of a lab, and the cells of its matrix. See lab.h. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/nearest.h"
#include "lab/lab.h"

typedef struct LabReader {
    LabFile *lab;
    char place[512]; /* "overopt.yaml:7" */
    int number;      /* of the section that the last setting belonged to: measure, panel, plot */
    int panel;
} LabReader;

static const char *const keys[] = {"about", "recipe",  "set",   "matrix",
                                   "steps", "measure", "panels"};
enum { KEYS = sizeof keys / sizeof *keys };

/* --- parts of a key --------------------------------------------------------------------------- */
/* What follows "PART." in a key; NULL: it begins otherwise. */
static const char *below(const char *key, const char *part) {
    const size_t n = strlen(part);
    return strncmp(key, part, n) == 0 && key[n] == '.' ? key + n + 1 : NULL;
}

/* "3.name" is number 3 and "name". */
static const char *numbered(const char *key, int *number) {
    int end = 0;
    return sscanf(key, "%d.%n", number, &end) == 1 && end ? key + end : NULL;
}

static int unknown(const LabReader *r, const char *what, const char *word, const char *const *words,
                   int n) {
    AUTOFREE char *hint = nearest_hint(word, words, n);
    return error_set(ERR_CONFIG, "%s: unknown key %s of %s%s", r->place, word, what, hint);
}

static int text_of(const LabReader *r, const YamlValue *v, char **out) {
    if (v->list || v->null || !*v->items[0])
        return error_set(ERR_CONFIG, "%s: %s is %s, expected a text", r->place, v->key,
                         v->list ? "a list" : "empty");
    if (*out) return error_set(ERR_CONFIG, "%s: %s is set again", r->place, v->key);
    *out = xstrdup(v->items[0]);
    return 0;
}

static int texts_of(const LabReader *r, const YamlValue *v, OptionList *out) {
    if (v->null || v->n == 0) return error_set(ERR_CONFIG, "%s: %s is empty", r->place, v->key);
    for (int i = 0; i < v->n; i++) option_add(&out->v, &out->n, xstrdup(v->items[i]));
    return 0;
}

/* Sets the member `key` of a section from the table of its texts. */
typedef struct Member {
    const char *name;
    char **text;
    OptionList *list; /* or this */
} Member;

static int take_member(const LabReader *r, const char *what, const char *key, const YamlValue *v,
                       const Member *m, int n) {
    const char *names[12];
    for (int i = 0; i < n; i++) {
        names[i] = m[i].name;
        if (strcmp(m[i].name, key) == 0)
            return m[i].list ? texts_of(r, v, m[i].list) : text_of(r, v, m[i].text);
    }
    return unknown(r, what, key, names, n);
}

/* --- the matrix ------------------------------------------------------------------------------- */
/* Names become names of folders and words of filters. */
static int check_word(const LabReader *r, const char *what, const char *word) {
    const size_t good =
        strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.+");
    if (*word && !word[good]) return 0;
    return error_set(ERR_CONFIG, "%s: the %s \"%s\", expected letters, digits and - _ . +",
                     r->place, what, word);
}

static LabFactor *factor_named(LabFile *lab, const char *name) {
    for (int i = 0; i < lab->nfactor; i++)
        if (strcmp(lab->factor[i].name, name) == 0) return &lab->factor[i];
    lab->factor = xrealloc(lab->factor, (size_t)(lab->nfactor + 1) * sizeof *lab->factor);
    lab->factor[lab->nfactor] = (LabFactor){.name = xstrdup(name)};
    return &lab->factor[lab->nfactor++];
}

static LabLevel *level_named(LabFactor *f, const char *name) {
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->level[i].name, name) == 0) return &f->level[i];
    f->level = xrealloc(f->level, (size_t)(f->n + 1) * sizeof *f->level);
    f->level[f->n] = (LabLevel){.name = xstrdup(name)};
    return &f->level[f->n++];
}

/* `seed: [1, 2]` or `ppo.beta: [0, 0.1]`: a level a value; the factor goes by the last part of the
 * key. */
static int take_sweep(LabReader *r, const char *key, const YamlValue *v) {
    const char *dot = strrchr(key, '.'), *colon = strrchr(key, ':');
    const char *name = dot ? dot + 1 : colon ? colon + 1 : key;
    const bool seed = strcmp(key, "seed") == 0;
    TRY(check_word(r, "factor", name));
    LabFactor *f = factor_named(r->lab, name);
    if (f->n) return error_set(ERR_CONFIG, "%s: a second factor %s", r->place, name);
    for (int i = 0; i < v->n; i++) {
        TRY(check_word(r, "level", v->items[i]));
        if (seed && v->items[i][strspn(v->items[i], "0123456789")])
            return error_set(ERR_CONFIG, "%s: seed %s, expected a whole number", r->place,
                             v->items[i]);
        LabLevel *l = level_named(f, v->items[i]);
        if (f->n != i + 1)
            return error_set(ERR_CONFIG, "%s: the level %s is there twice", r->place, v->items[i]);
        option_add(&l->set.v, &l->set.n, xasprintf("%s=%s", seed ? "SEED" : key, v->items[i]));
    }
    return v->n ? 0 : error_set(ERR_CONFIG, "%s: %s has no levels", r->place, key);
}

/* `rm.r350.reward:data.max_records: 350`, or `rm.r7000: {}` for a level that changes nothing. */
static int take_level(LabReader *r, const char *key, const YamlValue *v) {
    const char *dot = strchr(key, '.'), *second = dot ? strchr(dot + 1, '.') : NULL;
    if (!dot || (!second && !v->null))
        return error_set(ERR_CONFIG,
                         "%s: matrix.%s: expected a list of values, or levels with settings: "
                         "{small: {key: value}, large: {}}",
                         r->place, key);
    AUTOFREE char *factor = xasprintf("%.*s", (int)(dot - key), key);
    AUTOFREE char *level =
        second ? xasprintf("%.*s", (int)(second - dot - 1), dot + 1) : xstrdup(dot + 1);
    TRY(check_word(r, "factor", factor));
    TRY(check_word(r, "level", level));
    LabLevel *l = level_named(factor_named(r->lab, factor), level);
    if (second && !v->null)
        option_add(&l->set.v, &l->set.n, xasprintf("%s=%s", second + 1, v->items[0]));
    else if (second)
        return error_set(ERR_CONFIG, "%s: %s is empty, expected a value", r->place, second + 1);
    return 0;
}

int matrix_cells(const LabFile *lab) {
    int n = 1;
    for (int f = 0; f < lab->nfactor; f++) n *= lab->factor[f].n;
    return n;
}

const LabLevel *matrix_level(const LabFile *lab, int cell, int f) {
    for (int k = lab->nfactor - 1; k > f; k--) cell /= lab->factor[k].n;
    return &lab->factor[f].level[cell % lab->factor[f].n];
}

char *matrix_name(const LabFile *lab, int cell) {
    char *name = xstrdup("");
    for (int f = 0; f < lab->nfactor; f++) {
        char *longer = xasprintf("%s%s%s=%s", name, f ? "," : "", lab->factor[f].name,
                                 matrix_level(lab, cell, f)->name);
        free(name);
        name = longer;
    }
    return name;
}

/* --- measures and panels ---------------------------------------------------------------------- */
static int take_measure(LabReader *r, const char *key, const YamlValue *v) {
    LabFile *lab = r->lab;
    int number;
    const char *member = numbered(key, &number), *field;
    if (!member)
        return error_set(ERR_CONFIG, "%s: measure: expected a list of sections with a name",
                         r->place);
    if (lab->nmeasure == 0 || number != r->number) {
        lab->measure = xrealloc(lab->measure, (size_t)(lab->nmeasure + 1) * sizeof *lab->measure);
        lab->measure[lab->nmeasure++] = (LabMeasure){0};
        r->number = number;
    }
    LabMeasure *m = &lab->measure[lab->nmeasure - 1];
    if ((field = below(member, "take"))) {
        char *from = NULL;
        TRY(text_of(r, v, &from));
        option_add(&m->take.v, &m->take.n, xasprintf("%s=%s", field, from));
        free(from);
        return 0;
    }
    const Member members[] = {{"name", &m->name, NULL},
                              {"run", &m->run, NULL},
                              {"read", &m->read, NULL},
                              {"rows", &m->rows, NULL},
                              {"take", NULL, NULL}};
    return take_member(r, "a measure", member, v, members, 4);
}

static int take_plot(LabReader *r, LabPlot *p, const char *key, const YamlValue *v) {
    AUTOFREE char *kind = NULL, *log_x = NULL;
    const Member members[] = {{"of", &p->of, NULL},   {"x", &p->x, NULL},
                              {"y", NULL, &p->y},     {"lines", &p->lines, NULL},
                              {"fit", &p->fit, NULL}, {"where", &p->where, NULL},
                              {"kind", &kind, NULL},  {"log_x", &log_x, NULL}};
    TRY(take_member(r, "a plot", key, v, members, 8));
    if (kind && strcmp(kind, "bars") != 0 && strcmp(kind, "lines") != 0)
        return error_set(ERR_CONFIG, "%s: kind is %s, expected lines or bars", r->place, kind);
    if (log_x && strcmp(log_x, "true") != 0 && strcmp(log_x, "false") != 0)
        return error_set(ERR_CONFIG, "%s: log_x is %s, expected true or false", r->place, log_x);
    if (kind) p->bars = *kind == 'b';
    if (log_x) p->log_x = *log_x == 't';
    if (p->fit && strcmp(p->fit, "gao-rl") != 0 && strcmp(p->fit, "gao-bon") != 0)
        return error_set(ERR_CONFIG, "%s: fit is %s, expected gao-rl or gao-bon", r->place, p->fit);
    return 0;
}

static int take_panel(LabReader *r, const char *key, const YamlValue *v) {
    LabFile *lab = r->lab;
    int number, plot = 0;
    const char *member = numbered(key, &number), *of_plot;
    if (!member)
        return error_set(ERR_CONFIG, "%s: panels: expected a list of sections with a name",
                         r->place);
    if (lab->npanel == 0 || number != r->panel) {
        lab->panel = xrealloc(lab->panel, (size_t)(lab->npanel + 1) * sizeof *lab->panel);
        lab->panel[lab->npanel++] = (LabPanel){0};
        r->panel = number;
    }
    LabPanel *p = &lab->panel[lab->npanel - 1];
    if ((of_plot = below(member, "plot"))) {
        const char *rest = numbered(of_plot, &plot); /* one plot, or a list of them */
        if (plot >= p->nplot) {
            p->plot = xrealloc(p->plot, (size_t)(plot + 1) * sizeof *p->plot);
            for (; p->nplot <= plot; p->nplot++) p->plot[p->nplot] = (LabPlot){0};
        }
        return take_plot(r, &p->plot[plot], rest ? rest : of_plot, v);
    }
    const Member members[] = {{"name", &p->name, NULL},
                              {"claim", &p->claim, NULL},
                              {"source", &p->source, NULL},
                              {"unit", &p->unit, NULL},
                              {"holds", NULL, &p->holds}};
    return take_member(r, "a panel", member, v, members, 5);
}

/* --- the file --------------------------------------------------------------------------------- */
static int take(void *ctx, const YamlValue *v) {
    LabReader *r = ctx;
    LabFile *lab = r->lab;
    const char *rest;
    snprintf(r->place, sizeof r->place, "%s:%d", lab->path, v->line);
    if (strcmp(v->key, "about") == 0) return text_of(r, v, &lab->about);
    if (strcmp(v->key, "recipe") == 0) return text_of(r, v, &lab->recipe);
    if (below(v->key, "steps")) return 0; /* recipe_load_with */
    if ((rest = below(v->key, "set"))) {
        if (v->list || v->null)
            return error_set(ERR_CONFIG, "%s: %s, expected one value", r->place, v->key);
        option_add(&lab->set.v, &lab->set.n, xasprintf("%s=%s", rest, v->items[0]));
        return 0;
    }
    if ((rest = below(v->key, "matrix")))
        return v->list ? take_sweep(r, rest, v) : take_level(r, rest, v);
    if ((rest = below(v->key, "measure"))) return take_measure(r, rest, v);
    if ((rest = below(v->key, "panels"))) return take_panel(r, rest, v);
    if (v->null && v->n == 0 && (strcmp(v->key, "set") == 0 || strcmp(v->key, "matrix") == 0))
        return 0;
    AUTOFREE char *word = xasprintf("%.*s", (int)strcspn(v->key, "."), v->key);
    return unknown(r, "a lab", word, keys, KEYS);
}

static int check_names(const LabFile *lab) {
    for (int i = 0; i < lab->nmeasure; i++) {
        const LabMeasure *m = &lab->measure[i];
        if (!m->name || !m->read)
            return error_set(ERR_CONFIG, "%s: measure %d has no %s", lab->path, i + 1,
                             m->name ? "read: the file of its numbers, below ${RUN}" : "name");
        if (*m->read == '/' || *m->read == '$')
            return error_set(ERR_CONFIG, "%s: measure %s reads %s; expected a name below ${RUN}",
                             lab->path, m->name, m->read);
        for (int k = 0; k < i; k++)
            if (strcmp(lab->measure[k].name, m->name) == 0)
                return error_set(ERR_CONFIG, "%s: two measures are called %s", lab->path, m->name);
    }
    for (int i = 0; i < lab->npanel; i++)
        if (!lab->panel[i].name || !lab->panel[i].claim)
            return error_set(ERR_CONFIG, "%s: panel %d has no %s", lab->path, i + 1,
                             lab->panel[i].name ? "claim" : "name");
    return 0;
}

static int check(LabFile *lab) {
    if (!lab->recipe)
        return error_set(ERR_CONFIG, "%s: which recipe? e.g. recipe: configs/demo", lab->path);
    if (lab->nmeasure == 0) return error_set(ERR_CONFIG, "%s: measures nothing", lab->path);
    TRY(check_names(lab));
    double cells = 1;
    for (int f = 0; f < lab->nfactor; f++) cells *= lab->factor[f].n;
    if (cells > 100000)
        return error_set(ERR_CONFIG, "%s: %.0f cells are too many", lab->path, cells);
    for (int i = 0; i < lab->npanel; i++)
        if (!lab->panel[i].unit) lab->panel[i].unit = xstrdup("seed");
    for (int f = 0; f < lab->nfactor; f++)
        if (strcmp(lab->factor[f].name, "seed") == 0) return 0;
    LabFactor *seed = factor_named(lab, "seed");
    LabLevel *one = level_named(seed, "1");
    option_add(&one->set.v, &one->set.n, xstrdup("SEED=1"));
    return 0;
}

int matrix_read(LabFile *out, const char *path) {
    const char *base = file_basename(path), *dot = strrchr(base, '.');
    *out = (LabFile){.path = xstrdup(path),
                     .name = dot ? xasprintf("%.*s", (int)(dot - base), base) : xstrdup(base)};
    LabReader r = {.lab = out, .number = -1, .panel = -1};
    AUTOFREE char *text = NULL;
    size_t len;
    int rc = file_read(path, &text, &len);
    if (rc >= 0) rc = yaml_settings_all(text, len, path, take, &r);
    if (rc >= 0) rc = check(out);
    if (rc < 0) matrix_free(out);
    return rc < 0 ? rc : 0;
}

void matrix_free(LabFile *lab) {
    for (int f = 0; f < lab->nfactor; f++) {
        for (int i = 0; i < lab->factor[f].n; i++) {
            free(lab->factor[f].level[i].name);
            option_free(&lab->factor[f].level[i].set);
        }
        free(lab->factor[f].level);
        free(lab->factor[f].name);
    }
    for (int i = 0; i < lab->nmeasure; i++) {
        LabMeasure *m = &lab->measure[i];
        char *texts[] = {m->name, m->run, m->read, m->rows};
        for (int k = 0; k < 4; k++) free(texts[k]);
        option_free(&m->take);
    }
    for (int i = 0; i < lab->npanel; i++) {
        LabPanel *p = &lab->panel[i];
        char *texts[] = {p->name, p->claim, p->source, p->unit};
        for (int k = 0; k < 4; k++) free(texts[k]);
        option_free(&p->holds);
        for (int k = 0; k < p->nplot; k++) {
            char *of_plot[] = {p->plot[k].of, p->plot[k].x, p->plot[k].lines, p->plot[k].fit,
                               p->plot[k].where};
            for (int j = 0; j < 5; j++) free(of_plot[j]);
            option_free(&p->plot[k].y);
        }
        free(p->plot);
    }
    char *texts[] = {lab->path, lab->name, lab->about, lab->recipe};
    for (int k = 0; k < 4; k++) free(texts[k]);
    option_free(&lab->set);
    free(lab->factor);
    free(lab->measure);
    free(lab->panel);
    *lab = (LabFile){0};
}

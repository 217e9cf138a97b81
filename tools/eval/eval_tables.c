/* eval_tables.c: rhetor-eval compare, pick, probe. */
#include "eval/pick.h"
#include "eval/probe.h"
#include "tools/eval/eval.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What --expect says: `[MEASURE: ] A>B>C[+X] [on GROUP] [by N se]`, or with < instead of >. */
typedef struct Expectation {
    const char *all;
    char *copy, *name[16];
    int n, measure;
    const char *group;
    bool less;
    double margin, se;
} Expectation;

static int bad_expectation(const char *all, const char *what, const char *found) {
    return error_set(ERR_USAGE,
                     "--expect %s: %s \"%s\"; expected such as \"ppo>sft>base\", \"ppo>sft on "
                     "answerable by 3 se\", \"falsely abstained: ppo<sft+0.02 by 0 se\"",
                     all, what, found);
}

/* Ends the text before the last `word` in it and returns what stands behind; NULL: it is not there. */
static char *cut(char *text, const char *word) {
    char *at = NULL;
    for (char *p = text; (p = strstr(p, word)); p++) at = p;
    if (!at) return NULL;
    *at = 0;
    return at + strlen(word);
}

static int read_expectation(Expectation *e, const char *all, double se) {
    *e = (Expectation){
        .all = all, .copy = xstrdup(all), .group = "all", .se = se, .measure = MEASURE_SCORE};
    char *names = e->copy, *end = NULL, *save = NULL, *word;
    if ((word = strstr(names, ": "))) {
        *word = 0;
        e->measure = compare_measure(names);
        if (e->measure < MEASURE_SCORE) return bad_expectation(all, "no measure", names);
        names = word + 2;
    }
    if ((word = cut(names, " by "))) {
        e->se = strtod(word, &end);
        if (end == word || strcmp(end, " se") != 0)
            return bad_expectation(all, "no number of standard errors:", word);
    }
    if ((word = cut(names, " on "))) e->group = word;
    if ((word = cut(names, "+"))) {
        e->margin = strtod(word, &end);
        if (end == word || *end) return bad_expectation(all, "no number:", word);
    }
    e->less = strchr(names, '<') != NULL;
    if (e->less && strchr(names, '>')) return bad_expectation(all, "both < and > in", names);
    for (word = strtok_r(names, "<>", &save); word && e->n < 16; word = strtok_r(NULL, "<>", &save))
        e->name[e->n++] = word;
    return e->n >= 2 ? 0 : bad_expectation(all, "expected two or more names in", names);
}

/* Each name above (or below) the next. */
static int check_expectation(const Comparison *c, const Expectation *e) {
    const Group *g = groups_find(&c->groups, e->group);
    int rc = 0;
    for (int i = 0; i + 1 < e->n; i++) {
        double mean, se;
        compare_difference_of(c, e->measure, e->name[i], e->name[i + 1], g, &mean, &se);
        const double above = (e->less ? -mean : mean) + (e->less ? e->margin : -e->margin);
        const bool holds = above > e->se * se; /* not where one is NaN */
        printf("expected: %s: %s minus %s is %+.3f +- %.3f: %s\n", e->all, e->name[i],
               e->name[i + 1], mean, se, holds ? "holds" : "does NOT hold");
        if (!holds) rc = error_set(ERR_INTERNAL, "--expect %s does not hold", e->all);
    }
    return rc;
}

/* Before hours of sampling: are they rows of the table? */
static int check_names(const Expectation *e, const Args *a) {
    char best[64];
    snprintf(best, sizeof best, "best of %" PRId64, a->o.best_of);
    for (int k = 0; k < e->n; k++) {
        bool known = a->o.best_of > 0 && strcmp(e->name[k], best) == 0;
        for (int i = 0; i < a->o.n && !known; i++) known = strcmp(e->name[k], a->name[i]) == 0;
        for (int i = 0; i < a->o.npolicy && !known; i++)
            known = strcmp(e->name[k], a->policy_name[i]) == 0;
        if (!known)
            return error_set(ERR_USAGE,
                             "--expect %s: \"%s\" is none of the models given with "
                             "--model NAME=PATH",
                             e->all, e->name[k]);
    }
    return 0;
}

static int report(const Comparison *c, const Args *a, const Expectation *e) {
    compare_print(c, &a->o, stdout);
    if (a->json) {
        json_auto_t *j = compare_json(c);
        TRY(json_write_file(j, a->json));
    }
    int rc = 0;
    if (a->expect.n) printf("\n");
    for (int i = 0; i < a->expect.n; i++) { /* all are shown; the last that fails is the error */
        const int one = check_expectation(c, &e[i]);
        if (one < 0) rc = one;
    }
    fflush(stdout); /* before the message */
    return rc;
}

int eval_compare(const Args *a) {
    if (!a->o.prompts || a->o.n == 0)
        return error_set(ERR_USAGE, "expected --model NAME=PATH (for each row) and --prompts FILE");
    if (a->o.best_of > 0 && !a->o.reward)
        return error_set(ERR_USAGE, "--best-of %" PRId64 " needs --reward PATH, which chooses",
                         a->o.best_of);
    AUTOFREE Expectation *e = xcalloc((size_t)a->expect.n + 1, sizeof *e);
    int rc = 0;
    for (int i = 0; i < a->expect.n && rc == 0; i++) {
        rc = read_expectation(&e[i], a->expect.v[i], a->expect_se);
        if (rc == 0) rc = check_names(&e[i], a);
    }
    Comparison c = {0};
    if (rc == 0) rc = compare(&c, &a->o);
    if (rc == 0) rc = report(&c, a, e);
    compare_free(&c);
    for (int i = 0; i < a->expect.n; i++) free(e[i].copy);
    return rc;
}

int eval_pick(const Args *a) {
    if (!a->o.reward || !a->o.prompts)
        return error_set(ERR_USAGE, "expected --reward PATH and --prompts FILE");
    return pick(&a->o, a->model, a->out, stdout);
}

int eval_probe(const Args *a) {
    Loaded m;
    ProbeScore score[PROBE_KINDS];
    TRY(load_model(&m, a->model, "--model", LOAD_LANGUAGE));
    int rc = probe_run(score, &m, a->o.seed, a->probes, MICRO_TOKENS);
    if (rc == 0) probe_print(score, stdout);
    if (rc == 0 && a->json) {
        json_auto_t *j = probe_json(score, &m, a->o.seed);
        rc = json_write_file(j, a->json);
    }
    for (ProbeKind k = 0; k < PROBE_KINDS && rc == 0; k++) {
        double se, p = probe_accuracy(&score[k], &se);
        if (p < a->expect_accuracy)
            rc = error_set(ERR_INTERNAL, "--expect %g does not hold: %s is %.3f",
                           a->expect_accuracy, world_probe_names[k], p);
    }
    load_free(&m);
    return rc;
}

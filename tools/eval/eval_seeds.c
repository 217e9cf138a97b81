/* eval_seeds.c: rhetor-eval seeds: tables of compare, one a seed, side by side, as Markdown. */
#include "eval/stats.h"
#include "tools/eval/eval.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is shown of each model: a number of a group of prompts. */
static const struct {
    const char *title, *group, *key;
    double scale;
} shown[] = {
    {"gold", "all", "score", 1},
    {"gold minus the base's", "all", "diff", 1},
    {"gold minus the base's, answerable prompts", "answerable", "diff", 1},
    {"falsely abstained, % of the answerable prompts", "answerable", "falsely abstained", 100},
    {"answers that make something up, %", "all", "made_up", 100}};
enum { SHOWN = sizeof shown / sizeof *shown };

static double number_of(const json_t *table, const char *model, int k, double *se) {
    const json_t *of = json_object_get(json_object_get(json_object_get(table, "groups"), model),
                                       shown[k].group),
                 *v = json_object_get(of, shown[k].key);
    char key[32];
    snprintf(key, sizeof key, "%s_se", shown[k].key);
    if (!v) v = json_object_get(json_object_get(of, "acts"), shown[k].key);
    const json_t *error = json_object_get(of, key);
    *se = json_is_number(error) ? json_number_value(error) : (double)NAN;
    return json_is_number(v) ? shown[k].scale * json_number_value(v) : (double)NAN;
}

static void print_cell(double v, double se) {
    if (isnan(v))
        printf(" |");
    else if (isnan(se))
        printf(" %.3g |", v);
    else
        printf(" %.3f ± %.3f |", v, se);
}

/* Rows: the files, then the mean with Student's interval over them. */
static void print_table(json_t *const *table, const char *const *path, int n, int k) {
    const char *model;
    json_t *of;
    printf("\n%s\n\n| table |", shown[k].title);
    json_t *models = json_object_get(table[0], "groups");
    json_object_foreach(models, model, of) printf(" %s |", model);
    printf("\n|---|");
    json_object_foreach(models, model, of) printf("---|");
    AUTOFREE double *x = xmalloc((size_t)(n + 1) * sizeof *x);
    for (int i = 0; i < n; i++) {
        printf("\n| %s |", path[i]);
        json_object_foreach(models, model, of) {
            double se, v = number_of(table[i], model, k, &se);
            print_cell(v, se);
        }
    }
    printf("\n| mean, 95 %% over seeds |");
    json_object_foreach(models, model, of) {
        double se;
        for (int i = 0; i < n; i++) x[i] = number_of(table[i], model, k, &se);
        const StatsInterval s = stats_t(x, n, 0.95);
        if (isnan(s.mean))
            printf(" |");
        else
            printf(" %.3g [%.3g, %.3g] |", s.mean, s.low, s.high);
    }
    printf("\n");
}

static void print_reward(json_t *const *table, const char *const *path, int n) {
    printf("\nreward model, and the kernel\n\n| table | accuracy on samples | right above "
           "abstaining | "
           "kernel |\n|---|---|---|---|\n");
    for (int i = 0; i < n; i++) {
        const json_t *all = json_object_get(json_object_get(table[i], "reward_accuracy"), "all"),
                     *above = json_object_get(table[i], "reward_above_abstaining");
        const char *kernel = json_string_value(json_object_get(table[i], "kernel"));
        printf("| %s | %.3f | %.3f | %s |\n", path[i],
               json_is_number(all) ? json_number_value(all) : (double)NAN,
               json_is_number(above) ? json_number_value(above) : (double)NAN,
               kernel ? kernel : "");
    }
}

int eval_seeds(const Args *a) {
    const int n = a->file.n;
    AUTOFREE json_t **table = xcalloc((size_t)n + 1, sizeof *table);
    int rc = 0;
    for (int i = 0; i < n && rc == 0; i++) {
        rc = json_read_file(&table[i], a->file.v[i]);
        if (rc == 0 && !json_is_object(json_object_get(table[i], "groups")))
            rc = error_set(ERR_DATA,
                           "%s: no \"groups\"; expected what compare --json writes for "
                           "prompts with \"gold\"",
                           a->file.v[i]);
    }
    for (int k = 0; k < SHOWN && rc == 0; k++) print_table(table, a->file.v, n, k);
    if (rc == 0) print_reward(table, a->file.v, n);
    for (int i = 0; i < n; i++) json_decref(table[i]);
    return rc;
}

/* pick.c: the start of PPO among the checkpoints of an SFT run. See pick.h. */
#include "eval/pick.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "checkpoints/checkpoint.h"

/* The candidates, under the names that the table gives them. */
typedef struct Candidates {
    char **path;
    char **name; /* "step 750" */
    int64_t *step;
    int n;
} Candidates;

static void candidates_free(Candidates *c) {
    for (int i = 0; i < c->n; i++) {
        free(c->path[i]);
        free(c->name[i]);
    }
    free(c->path);
    free(c->name);
    free(c->step);
    *c = (Candidates){0};
}

static int find_candidates(Candidates *c, const char *run) {
    *c = (Candidates){0};
    TRY(ckpt_list_kept(run, &c->step, &c->path, &c->n));
    c->name = xcalloc((size_t)c->n + 1, sizeof *c->name);
    for (int i = 0; i < c->n; i++) c->name[i] = xasprintf("step %" PRId64, c->step[i]);
    return 0;
}

int pick_choose(const Comparison *c) {
    double diff, se;
    int best = 0;
    for (int i = 1; i < c->nrow; i++) {
        compare_difference(c, c->row[i].name, c->row[best].name, &diff, &se);
        if (diff >= 0) best = i;
    }
    for (int i = c->nrow - 1; i > best; i--) {
        compare_difference(c, c->row[best].name, c->row[i].name, &diff, &se);
        if (diff <= se) return i;
    }
    return best;
}

static void print_table(const Comparison *c, const CompareOptions *o, int picked, FILE *f) {
    fprintf(f,
            "%" PRId64 " held-out prompts, temperature %g; +- is a standard error, paired for "
            "differences\n\n%-12s %18s %20s %8s %8s %8s\n",
            c->n, o->temperature, "checkpoint", "RM score", "minus picked", "ended", "tokens",
            c->has_gold ? "gold" : "");
    for (int i = 0; i < c->nrow; i++) {
        const CompareRow *r = &c->row[i];
        double se, diff, diff_se;
        char score[64], minus[64] = "(picked)";
        const double mean = compare_score(c, i, &se);
        snprintf(score, sizeof score, "%.3f +- %.3f", mean, se);
        compare_difference(c, r->name, c->row[picked].name, &diff, &diff_se);
        if (i != picked) snprintf(minus, sizeof minus, "%+.3f +- %.3f", diff, diff_se);
        fprintf(f, "%-12s %18s %20s %8.3f %8.1f", r->name, score, minus, r->stopped, r->length);
        if (c->has_gold) fprintf(f, " %8.3f", r->gold);
        fprintf(f, "\n");
    }
    double stopped = 0;
    for (int i = 0; i < c->nrow; i++) stopped += c->row[i].stopped;
    if (stopped <= 0)
        fprintf(f, "\nno answer of any checkpoint ended: the choice says nothing; --max-new, or a "
                   "longer SFT\n");
    fprintf(f, "\npicked: %s, %s\n", c->row[picked].name,
            c->nrow == 1 ? "the only one; save.every_epoch keeps more"
                         : "the latest within one standard error of the best");
}

/* compare's table, with the score of every answer and the choice. */
static json_t *result(const Comparison *c, const Candidates *k, int picked) {
    json_t *j = compare_json(c), *rows = json_object_get(j, "rows");
    json_object_set_new(j, "picked", json_integer(k->step[picked]));
    for (int i = 0; i < c->nrow; i++) {
        json_t *row = json_array_get(rows, (size_t)i), *scores = json_array();
        for (int64_t p = 0; p < c->n; p++)
            json_array_append_new(scores, json_real(c->row[i].score[p]));
        json_object_set_new(row, "scores", scores);
        json_object_set_new(row, "step", json_integer(k->step[i]));
    }
    return j;
}

/* A folder with checkpoints but without our mark is a run's, which must not lose them. */
static int check_folder(const char *out) {
    AUTOFREE char *mark = file_join(out, "picked.json"), *dir = file_join(out, "checkpoints");
    const bool foreign = file_exists(dir) && !file_exists(mark);
    if (!foreign) return 0;
    return error_set(ERR_CONFIG,
                     "%s: is a run folder, its checkpoints would be replaced; choose another "
                     "--out, such as the run's name with -picked",
                     out);
}

/* The mark comes first, so that a folder that a kill left half made is known as ours. */
static int write_folder(const char *out, const char *file, const json_t *choice) {
    AUTOFREE char *mark = file_join(out, "picked.json"), *dir = file_join(out, "checkpoints");
    TRY(file_make_dirs(out));
    TRY(json_write_file(choice, mark));
    TRY(file_make_dirs(dir));
    TRY(ckpt_take(file, dir));
    return 0;
}

int pick(const CompareOptions *o, const char *run, const char *out, FILE *f) {
    Candidates k;
    Comparison c;
    if (out) TRY(check_folder(out));
    TRY(find_candidates(&k, run));
    CompareOptions all = *o;
    all.name = (const char *const *)k.name;
    all.path = (const char *const *)k.path;
    all.n = k.n;
    all.base = k.name[k.n - 1];
    all.by_reward = all.cap_new = true;
    int rc = compare(&c, &all);
    if (rc == 0 && c.n < 2) {
        rc = error_set(ERR_DATA, "%s: one prompt says nothing about noise; expected two or more",
                       o->prompts);
        compare_free(&c);
    } else if (rc == 0) {
        const int picked = pick_choose(&c);
        print_table(&c, o, picked, f);
        if (out) {
            json_auto_t *choice = result(&c, &k, picked);
            rc = write_folder(out, k.path[picked], choice);
        }
        compare_free(&c);
    }
    candidates_free(&k);
    return rc;
}

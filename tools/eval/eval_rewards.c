/* eval_rewards.c: rhetor-eval reward, rank, win. */
#include "data/world/gold.h"
#include "eval/prompts.h"
#include "rlhf/ranking.h"
#include "rlhf/score.h"
#include "tools/eval/eval.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int load_records(Dataset *d, DatasetKind kind, const Args *a, const Loaded *m) {
    StrList files = {(char **)(uintptr_t)a->file.v, a->file.n};
    DatasetOptions o = {.tokenizer = m->tokenizer,
                        .tmpl = m->tmpl,
                        .context = m->gpt->cfg.context,
                        .on_long = ON_LONG_STOP,
                        .on_bad = ON_BAD_STOP,
                        .max_records = a->o.max_prompts};
    if (kind == DATASET_RANKED) o.on_long = ON_LONG_TRUNCATE_LEFT;
    return dataset_load(d, kind, &files, &o);
}

int eval_reward(const Args *a) {
    Loaded m;
    Dataset d = {0};
    TRY(load_model(&m, a->model, "--model", LOAD_REWARD));
    int rc = load_records(&d, DATASET_DEMOS, a, &m);
    if (rc == 0) {
        AUTOFREE float *r = xmalloc((size_t)(d.n + 1) * sizeof *r);
        score_sequences(m.gpt, d.seq, d.n, MICRO_TOKENS, r);
        for (int64_t i = 0; i < d.n; i++) printf("{\"score\": %.9g}\n", (double)r[i]);
    }
    dataset_free(&d);
    load_free(&m);
    return rc;
}

int eval_rank(const Args *a) {
    Loaded m;
    Dataset d = {0};
    TRY(load_model(&m, a->model, "--model", LOAD_REWARD));
    int rc = load_records(&d, DATASET_RANKED, a, &m);
    if (rc == 0) {
        const int64_t nseq = d.first[d.n];
        float *r = xmalloc((size_t)(nseq + 1) * sizeof *r);
        score_sequences(m.gpt, d.seq, nseq, MICRO_TOKENS, r);
        RankStats s = {0};
        for (int64_t i = 0; i < d.n; i++)
            rank_stats_add(&s, r + d.first[i], d.rank + d.first[i], d.first[i + 1] - d.first[i]);
        free(r);
        eval_print(json_pack(
            "{s:I, s:o, s:o, s:o, s:o, s:o}", "pairs", (json_int_t)s.pairs, "accuracy",
            eval_decimals(rank_accuracy(&s), 4), "loss", eval_decimals(rank_loss(&s), 4), "margin",
            eval_decimals(rank_margin(&s), 4), "reward_mean", eval_decimals(rank_mean(&s), 4),
            "reward_std", eval_decimals(rank_std(&s), 4)));
        printf("calibration: |difference|   pairs   accuracy   predicted\n");
        for (int b = 0; b < RANK_BINS; b++) {
            if (s.bin_pairs[b] == 0) continue;
            double lo = rank_bin_low(b), hi = b + 1 < RANK_BINS ? rank_bin_low(b + 1) : lo + 2;
            printf("          %5.2f .. %-5.2f %9.0f %10.3f %11.3f\n", lo, hi, s.bin_pairs[b],
                   s.bin_correct[b] / s.bin_pairs[b], 1 / (1 + exp(-(lo + hi) / 2)));
        }
        if (a->expect_accuracy > 0 && !(rank_accuracy(&s) >= a->expect_accuracy))
            rc = error_set(ERR_INTERNAL, "expected an accuracy of at least %g, found %.4f",
                           a->expect_accuracy, rank_accuracy(&s));
    }
    dataset_free(&d);
    load_free(&m);
    return rc;
}

/* Score of a record's first completion by the gold program. */
static int gold_of(const json_t *rec, const char *path, int64_t line, double *score) {
    char where[512];
    snprintf(where, sizeof where, "%s:%" PRId64, path, line);
    const json_t *text = json_array_get(json_object_get(rec, "completions"), 0);
    if (!text) text = json_object_get(rec, "completion");
    if (!json_is_string(text))
        return error_set(
            ERR_DATA,
            "%s: expected \"completions\" (as rhetor-generate writes it) or \"completion\"", where);
    Gold g;
    TRY(gold_read(&g, json_object_get(rec, "gold"), where));
    *score = gold_score(&g, json_string_value(text), NULL);
    return 0;
}

/* What a sample file answers and how well. */
typedef struct Samples {
    const char *path;
    int64_t n;
    char **prompt; /* [n] */
    double *score; /* [n] */
} Samples;

static void samples_free(Samples *s) {
    for (int64_t i = 0; i < s->n; i++) free(s->prompt[i]);
    free(s->prompt);
    free(s->score);
    *s = (Samples){0};
}

/* What a record asks: its "prompt", or all of it but the answers. */
static char *prompt_of(const json_t *record) {
    static const char *const answers[] = {"completions", "completion", "stopped", "scores",
                                          "ranks"};
    json_auto_t *ask = json_incref(json_object_get(record, "prompt"));
    if (!ask) {
        ask = json_copy((json_t *)(uintptr_t)record);
        for (size_t i = 0; i < sizeof answers / sizeof *answers; i++)
            json_object_del(ask, answers[i]);
    }
    return json_dumps(ask, JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY);
}

static void add_sample(Samples *s, const json_t *record, double score) {
    s->prompt = xrealloc(s->prompt, (size_t)(s->n + 1) * sizeof *s->prompt);
    s->score = xrealloc(s->score, (size_t)(s->n + 1) * sizeof *s->score);
    s->prompt[s->n] = prompt_of(record);
    s->score[s->n++] = score;
}

static int gold_scores(Samples *s, int64_t max) {
    JsonRecords *f;
    json_t *rec;
    int rc = 0;
    TRY(json_records_open(&f, s->path));
    while ((max == 0 || s->n < max) && (rc = json_records_next(f, &rec)) > 0) {
        double score = 0;
        rc = gold_of(rec, s->path, json_records_line(f), &score);
        if (rc >= 0) add_sample(s, rec, score);
        json_decref(rec);
        if (rc < 0) break;
    }
    json_records_close(&f);
    return rc < 0 ? rc : 0;
}

/* Scores of {"prompt","completion"} by a reward model; rhetor-generate's "completions" are first
 * turned into records of one completion. */
static int reward_scores(Samples *s, const Loaded *rm, const Args *a) {
    const char *path = s->path;
    PromptFile p;
    TRY(prompts_load(&p, path, rm, false, rm->gpt->cfg.context - 1, a->o.max_prompts, NULL));
    int rc = 0;
    AUTOFREE Sequence *q = xcalloc((size_t)p.n + 1, sizeof *q);
    AUTOFREE unsigned char *ended = xcalloc((size_t)p.n + 1, 1);
    AUTOFREE float *r = xmalloc((size_t)(p.n + 1) * sizeof *r);
    for (int64_t i = 0; i < p.n && rc >= 0; i++) {
        const int64_t prompt = p.ids[i].n;
        const json_t *text = json_array_get(json_object_get(p.record[i], "completions"), 0);
        const json_t *stopped = json_object_get(p.record[i], "stopped");
        if (json_is_array(stopped)) stopped = json_array_get(stopped, 0);
        ended[i] = !json_is_false(stopped);
        if (!text) text = json_object_get(p.record[i], "completion");
        if (!json_is_string(text))
            rc = error_set(ERR_DATA,
                           "%s: record %" PRId64 ": expected \"completions\" or \"completion\"",
                           path, i + 1);
        else
            rc = template_completion(rm->tmpl, rm->tokenizer, json_string_value(text), &p.ids[i]);
        /* A sample's text can have more tokens than the sample; then the prompt is cut, as rank
         * does. */
        const int64_t over = p.ids[i].n - rm->gpt->cfg.context, cut = over > 0 ? over : 0;
        if (rc >= 0 && cut >= prompt)
            rc =
                error_set(ERR_DATA, "%s: record %" PRId64 ": longer than the context", path, i + 1);
        q[i] = (Sequence){.tokens = p.ids[i].v + cut, .n = p.ids[i].n - cut};
    }
    if (rc >= 0) {
        score_samples(rm->gpt, q, ended, p.n, MICRO_TOKENS, a->o.no_stop_score, r);
        for (int64_t i = 0; i < p.n; i++) add_sample(s, p.record[i], (double)r[i]);
    }
    prompts_free(&p);
    return rc < 0 ? rc : 0;
}

/* Do both answer the same prompts, in the same order? */
static int check_pairs(const Samples *x, const Samples *y) {
    if (x->n != y->n)
        return error_set(ERR_DATA,
                         "%s has %" PRId64 " records, %s has %" PRId64
                         "; both must answer the same prompts",
                         x->path, x->n, y->path, y->n);
    if (x->n == 0) return error_set(ERR_DATA, "%s and %s hold no records", x->path, y->path);
    for (int64_t i = 0; i < x->n; i++)
        if (strcmp(x->prompt[i], y->prompt[i]) != 0)
            return error_set(ERR_DATA,
                             "record %" PRId64 " of %s answers %.80s, of %s %.80s; both must "
                             "answer the same prompts in the same order",
                             i + 1, x->path, x->prompt[i], y->path, y->prompt[i]);
    return 0;
}

static void print_win(const double *x, const double *y, int64_t n) {
    double win = 0, diff = 0, var = 0;
    for (int64_t i = 0; i < n; i++) {
        win += (x[i] > y[i] ? 1 : x[i] < y[i] ? 0 : 0.5) / (double)n;
        diff += (x[i] - y[i]) / (double)n;
    }
    for (int64_t i = 0; i < n; i++) var += pow(x[i] - y[i] - diff, 2) / (double)(n - 1);
    eval_print(json_pack("{s:I, s:o, s:o, s:o}", "prompts", (json_int_t)n, "win_rate",
                         eval_decimals(win, 4), "difference", eval_decimals(diff, 4),
                         "difference_se", eval_decimals(sqrt(var / (double)n), 4)));
}

int eval_win(const Args *a) {
    Loaded rm = {0};
    if (a->file.n != 2 || a->gold == (a->o.reward != NULL))
        return error_set(ERR_USAGE, "expected two sample files and either --gold or --reward PATH");
    if (a->o.reward) TRY(load_model(&rm, a->o.reward, "--reward", LOAD_REWARD));
    Samples s[2] = {{.path = a->file.v[0]}, {.path = a->file.v[1]}};
    int rc = 0;
    for (int i = 0; i < 2 && rc == 0; i++)
        rc = a->gold ? gold_scores(&s[i], a->o.max_prompts) : reward_scores(&s[i], &rm, a);
    if (rc == 0) rc = check_pairs(&s[0], &s[1]);
    if (rc == 0) print_win(s[0].score, s[1].score, s[0].n);
    samples_free(&s[0]);
    samples_free(&s[1]);
    load_free(&rm);
    return rc;
}

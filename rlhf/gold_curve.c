/* gold_curve.c: see gold_curve.h. */
#include "rlhf/gold_curve.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "dist/watchdog.h"
#include "rlhf/score.h"
#include "train/evaluate.h"

/* The gold records of the prompts that were taken, which may be fewer than the file has. */
static int read_gold(GoldCurve *g, const char *path) {
    JsonRecords *f;
    json_t *record;
    int64_t i = 0;
    int rc = 0;
    g->gold = xcalloc((size_t)g->prompts.n + 1, sizeof *g->gold);
    TRY(json_records_open(&f, path));
    while (i < g->prompts.n && (rc = json_records_next(f, &record)) > 0) {
        if (json_records_line(f) == g->prompts.line[i]) {
            char where[512];
            snprintf(where, sizeof where, "%s:%" PRId64, path, json_records_line(f));
            rc = gold_read(&g->gold[i++], json_object_get(record, "gold"), where);
        }
        json_decref(record);
        if (rc < 0) break;
    }
    json_records_close(&f);
    return rc < 0 ? rc : 0;
}

int gold_curve_open(GoldCurve *g, const Run *run, const Loaded *policy) {
    const Config *c = &run->cfg;
    DatasetOptions o;
    char *file[] = {(char *)(uintptr_t)c->eval_prompts};
    const StrList files = {file, 1};
    if (!c->eval_prompts[0]) return 0;
    dataset_options(&o, c, policy->tokenizer, policy->tmpl, policy->cfg.context);
    o.max_prompt = policy->cfg.context - c->ppo_max_response;
    o.max_records = c->eval_records;
    TRY(dataset_load(&g->prompts, DATASET_PROMPTS, &files, &o));
    return read_gold(g, c->eval_prompts);
}

void gold_curve_close(GoldCurve *g) {
    dataset_free(&g->prompts);
    free(g->gold);
    *g = (GoldCurve){0};
}

/* "over-refused" as the end of a metric's name, which the run keeps: "gold/over_refused". */
static const char *name_of(int verdict) {
    static char name[VERDICT_COUNT][64];
    snprintf(name[verdict], sizeof name[verdict], "gold/%s", gold_verdict_names[verdict]);
    for (char *c = name[verdict] + 5; *c; c++)
        if (!isalnum((unsigned char)*c)) *c = '_';
    return name[verdict];
}

static int judge(const GoldCurve *g, const Actor *a, Run *run, const Episodes *e) {
    const double n = (double)e->n;
    double score = 0, made_up = 0, verdict[VERDICT_COUNT] = {0};
    for (int64_t i = 0; i < e->n; i++) {
        char *text = NULL;
        GoldParts parts;
        TRY(template_decode(a->policy->tmpl, a->policy->tokenizer,
                            e->tokens + e->start[i] + e->prompt[i], rollout_length(e, i), &text));
        score += gold_score(&g->gold[i], text, &parts) / n;
        verdict[parts.verdict] += 1 / n;
        made_up += (parts.made_up > 0) / n;
        free(text);
    }
    run_metric(run, "gold/score", score);
    run_metric(run, "gold/made_up", made_up);
    for (int v = 0; v < VERDICT_COUNT; v++) run_metric(run, name_of(v), verdict[v]);
    if (run->main_rank) log_info("step %" PRId64 ": gold %.4f", run->step + 1, score);
    return 0;
}

int gold_curve_measure(const GoldCurve *g, const Actor *a, Run *run, Gpt *reference, Gpt *reward,
                       Ensemble *more, double no_stop_score) {
    const int64_t n = g->prompts.n, micro = run->cfg.train_micro_tokens;
    const uint32_t same = UINT32_MAX; /* the same random numbers in every evaluation */
    Episodes e = {0};
    if (n == 0) return 0;
    TRY(actor_answer(a, &g->prompts, NULL, n, 0, same, &e));
    watchdog_enter(PHASE_EVAL);
    AUTOFREE Sequence *q = xcalloc((size_t)n, sizeof *q);
    AUTOFREE double *mine = xcalloc((size_t)n, sizeof *mine),
                    *other = xcalloc((size_t)n, sizeof *other);
    AUTOFREE float *score = xcalloc((size_t)n, sizeof *score);
    double kl = 0, proxy = 0;
    for (int64_t i = 0; i < n; i++)
        q[i] = (Sequence){.tokens = e.tokens + e.start[i],
                          .n = e.start[i + 1] - e.start[i],
                          .prompt = e.prompt[i]};
    evaluate_logp(a->policy->gpt, q, n, a->decode.temperature, micro, mine);
    evaluate_logp(reference, q, n, a->decode.temperature, micro, other);
    if (reward) score_samples(reward, q, e.stopped, n, micro, no_stop_score, score);
    ensemble_join(more, q, e.stopped, n, a->comm, score);
    for (int64_t i = 0; i < n; i++) {
        kl += (mine[i] - other[i]) / (double)n;
        proxy += (double)score[i] / (double)n;
    }
    run_metric(run, "gold/kl", kl);
    if (reward) run_metric(run, "gold/proxy", proxy);
    if (more->n > 0) run_metric(run, "gold/others", more->others);
    if (more->n > 0) run_metric(run, "gold/spread", more->spread);
    run_metric(run, "gold/tokens", (double)e.first[n] / (double)n);
    const int rc = judge(g, a, run, &e);
    rollout_free(&e);
    return rc;
}

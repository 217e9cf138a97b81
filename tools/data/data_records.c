/* data_records.c: rhetor-data inspect, split, synth, rank, score, policies, examples. */
#include "base/coprocess.h"
#include "base/h5/h5.h"
#include "base/log.h"
#include "base/text.h"
#include "core/kernel.h"
#include "data/inspect.h"
#include "rlhf/score.h"
#include "tools/data/data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PROGRAM_S = 60 /* for the answers to one record */ };

int data_inspect(Args *a) {
    TRY(data_need_files(a, INT32_MAX));
    static const char *const special[] = {"<|endoftext|>"};
    Tokenizer *t;
    TRY(a->tokenizer ? tokenizer_load(&t, a->tokenizer)
                     : tokenizer_train(&t, NULL, NULL,
                                       &(TrainOptions){257, 1, special, 1, TIE_BREAK_HF, false}));
    a->records.tokenizer = t;
    a->records.bytes = !a->tokenizer;
    const bool colour = log_has_colours(STDOUT_FILENO);
    int rc = 0;
    for (int i = 0; i < a->nfile && rc >= 0; i++) {
        const char *path = a->file[i];
        if (a->nfile > 1) printf("%s== %s\n", i > 0 ? "\n" : "", path);
        rc = h5_is(path)
                 ? inspect_corpus(stdout, path, (int)a->samples, colour)
                 : inspect_records(stdout, path, a->kind, &a->records, (int)a->samples, colour);
    }
    tokenizer_close(&t);
    return rc;
}

static int need_gold(const Args *a) {
    return a->gold ? 0 : error_set(ERR_USAGE, "--gold is needed: there is no other judge yet");
}

static int reward_scores(void *ctx, json_t *record, int k, double *score) {
    AUTOFREE float *r = xmalloc((size_t)k * sizeof *r);
    TRY(score_completions(ctx, json_object_get(record, "prompt"),
                          json_object_get(record, "completions"), r));
    for (int i = 0; i < k; i++) score[i] = (double)r[i];
    return 0;
}

static int program_scores(void *ctx, json_t *record, int k, double *score) {
    Text questions = {0};
    for (int i = 0; i < k; i++) {
        json_auto_t *line = json_pack(
            "{s:O?, s:O, s:O}", "prompt", json_object_get(record, "prompt"), "completion",
            json_array_get(json_object_get(record, "completions"), (size_t)i), "record", record);
        AUTOFREE char *text = json_dumps(line, JSON_COMPACT);
        text_put(&questions, "%s\n", text);
    }
    const int rc = coprocess_ask(ctx, questions.s, questions.n, k, score);
    free(questions.s);
    return rc;
}

static int rank_by_model(const Args *a, GoldNoise noise) {
    Loaded m;
    core_init();
    TRY(load_model(&m, a->reward, "--reward", LOAD_REWARD));
    const int rc = records_rank_by(a->file[0], a->out, noise, (RecordScorer){reward_scores, &m});
    load_free(&m);
    return rc;
}

static int rank_by_program(const Args *a, GoldNoise noise) {
    Coprocess *p = coprocess_new(a->program, PROGRAM_S);
    const int rc = records_rank_by(a->file[0], a->out, noise, (RecordScorer){program_scores, p});
    coprocess_close(&p);
    return rc;
}

int data_rank(Args *a) {
    const GoldNoise noise = {a->noise, (uint64_t)a->seed, a->grain};
    if (a->gold + !!a->by + !!a->reward + !!a->program != 1)
        return error_set(ERR_USAGE, "rank by what? One of --gold, --by FIELD, --reward MODEL, "
                                    "--program COMMAND");
    if (!a->gold && (a->raters || a->rater))
        return error_set(ERR_USAGE, "--raters are of the embedded world: they need --gold");
    if (a->by)
        return records_rank_by(a->file[0], a->out, noise,
                               (RecordScorer){records_given, (void *)(uintptr_t)a->by});
    if (a->reward) return rank_by_model(a, noise);
    if (a->program) return rank_by_program(a, noise);
    if (!a->raters && a->rater)
        return error_set(ERR_USAGE, "--rater %s needs --raters FILE", a->rater);
    if (!a->raters) return records_rank(a->file[0], a->out, noise, NULL, NULL);
    if (a->noise > 0 || a->grain > 0)
        return error_set(ERR_USAGE,
                         "--noise and --grain are the raters' own where --raters is given");
    Raters raters;
    double agreement = 0;
    TRY(raters_read(&raters, a->raters, a->rater));
    const int rc = records_rank(a->file[0], a->out, noise, &raters, &agreement);
    if (rc == 0 && isfinite(agreement))
        log_info("%d raters; two of them order two answers alike in %.3f of the cases", raters.n,
                 agreement);
    raters_free(&raters);
    return rc;
}

int data_best(Args *a) {
    int64_t taken, all;
    TRY(data_need_files(a, INT32_MAX));
    TRY(records_best(a->file, a->nfile, a->by ? a->by : "scores", a->least, a->out, &taken, &all));
    log_info("%lld of %lld record%s", (long long)taken, (long long)all, TEXT_S(all));
    return 0;
}

int data_score(Args *a) {
    TRY(need_gold(a));
    return records_score(a->file[0], a->field.n ? a->field.v[0] : NULL, stdout);
}

int data_examples(Args *a) {
    synth_examples(stdout);
    return 0;
}

int data_policies(Args *a) { return records_policies(a->file[0], stdout); }

int data_split(Args *a) {
    TRY(data_need(a->train_out, "--train FILE"));
    TRY(data_need(a->heldout_out, "--heldout-out FILE"));
    if (a->heldout <= 0) return error_set(ERR_USAGE, "--heldout SHARE is needed; see --help");
    int64_t n[2];
    TRY(records_split(a->file[0], a->heldout, a->train_out, a->heldout_out, &a->records, &n[0],
                      &n[1]));
    log_info("%s: %lld record%s; %s: %lld", a->train_out, (long long)n[0], TEXT_S(n[0]),
             a->heldout_out, (long long)n[1]);
    return 0;
}

int data_synth(Args *a) {
    TRY(data_need(a->out, "--out DIR"));
    a->synth.seed = (uint64_t)a->seed;
    return synth_write(a->out, &a->synth);
}

/* opening.c: parents, records, text. See opening.h. */
#include "train/opening.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"

static const char *const records[] = {[DATASET_DEMOS] = "demonstration",
                                      [DATASET_RANKED] = "ranking",
                                      [DATASET_PROMPTS] = "prompt",
                                      [DATASET_LABELLED] = "labelled answer"};

int opening_parent(Run *run, Loaded *l, const char *key, LoadKind kind) {
    const bool reward = strcmp(key, "from.reward") == 0;
    const char *path = reward ? run->cfg.from_reward : run->cfg.from_model;
    TRY(load_open(l, path, key, kind, run->comm));
    run_parent(run, reward ? "reward" : "model", l->id);
    l->half = run->cfg.model_weights == WEIGHTS_BF16;
    return 0;
}

int opening_weights(Run *run, Loaded *l) {
    const LoraConfig o = lora_of_config(&run->cfg);
    if (o.rank == 0 && l->half)
        return config_bad(&run->cfg, "model.weights",
                          "is for weights that nobody trains, and without lora.rank this stage "
                          "trains all; remove it, or set lora.rank");
    if (o.rank == 0) return load_weights(l, true);
    run_adapters(run, &o, l->path, l->id);
    return load_with_adapters(l, &o, (uint64_t)run->cfg.run_seed);
}

int opening_records(Run *run, const Loaded *l, DatasetKind kind, int64_t room, Dataset *train,
                    Dataset *heldout) {
    const Config *c = &run->cfg;
    DatasetOptions o;
    dataset_options(&o, c, l->tokenizer, l->tmpl, l->cfg.context);
    if (kind == DATASET_PROMPTS) o.max_prompt = l->cfg.context - room;
    if (c->data_train.n == 0) return config_bad(c, "data.train", "no %ss are given", records[kind]);
    TRY(dataset_load(train, kind, &c->data_train, &o));
    if (c->data_heldout.n > 0) TRY(dataset_load(heldout, kind, &c->data_heldout, &o));
    run_data(run, "train", train->hash);
    return 0;
}

int opening_text(Run *run, const Loaded *l, const char *key, Windows *w, PlanWork *plan) {
    const Config *c = &run->cfg;
    const uint64_t seed = (uint64_t)c->run_seed;
    if (c->data_mix.n == 0)
        return config_bad(c, key,
                          "pretraining text is to be mixed in, but data.mix names no corpus");
    TRY(windows_open(w, &c->data_mix, tokenizer_hash(l->tokenizer), seed, l->cfg.context));
    run_data(run, "mix", corpus_hash(w->corpus));
    return corpus_window_mean(w->corpus, seed, w->context, &plan->window);
}

void opening_report(const Run *run, const Dataset *d, int64_t batch) {
    const int64_t answers = d->first ? d->first[d->n] : 0;
    AUTOFREE char *each =
        d->kind == DATASET_RANKED ? xasprintf(" of %" PRId64 " answers", answers) : xstrdup("");
    if (run->main_rank)
        log_info("%" PRId64 " %s%s%s (%" PRId64 " tokens, %" PRId64 " too long, %" PRId64
                 " bad), %" PRId64 " step%s of %" PRId64,
                 d->n, records[d->kind], TEXT_S(d->n), each, d->tokens, d->too_long, d->bad,
                 run->steps, TEXT_S(run->steps), batch);
}

int opening_show_answers(const Loaded *l, const Dataset *d) {
    for (int64_t s = d->first[0]; s < d->first[1]; s++) {
        const Sequence *q = &d->seq[s];
        const int64_t from = s == d->first[0] ? 0 : q->prompt; /* the prompt once */
        AUTOFREE char *text = NULL;
        TRY(tokenizer_decode(l->tokenizer, q->tokens + from, q->n - from, false, &text, NULL));
        printf("  rank %d: %s\n", d->rank[s], text);
    }
    return 0;
}

/* rhetor-pretrain: a language model from text.
 *
 * Maximises log p(x) over windows of a corpus (Radford 2019): at most T+1 tokens of one document.
 * A step takes train.batch windows, the same ones whatever the number of ranks: window j of the
 * stream is a pure function of (seed, j). Each virtual rank takes a contiguous share of them, in
 * micro-batches of train.micro_tokens; all losses are divided by the global number of tokens, so
 * ranks and accumulation change the speed, not the experiment. */
#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "train/evaluate.h"
#include "train/memory.h"
#include "train/opening.h"
#include "train/windows.h"

typedef struct Pretrain {
    Windows text;
    Corpus *heldout;
    Tokenizer *tokenizer;
    Loaded parent; /* of continued pretraining: from.model */
    Gpt *gpt;
    Trainer trainer;
    PlanWork plan;
    int64_t nwindows; /* an epoch */
    double loss;
} Pretrain;

/* The windows of the run's next step; those of the step after it are read meanwhile. */
static int next_step(Pretrain *p, Run *run, const Schedule *lr, Step *s) {
    const int64_t B = run->cfg.train_batch;
    const int64_t cycle = run->cfg.train_overfit > 0 ? run->cfg.train_overfit : INT64_MAX;
    *s = step_begin(&p->trainer, run, lr, "windows");
    s->tokens = windows_take(&p->text, run->step % cycle * B, B);
    if (s->tokens < 0) return (int)s->tokens;
    p->text.weight = 1.0f / (float)s->tokens;
    windows_ahead(&p->text, &p->trainer.ranks, (run->step + 1) % cycle * B, B);
    s->items[0] = windows_items(&p->text, step_lm);
    s->sum = &p->loss;
    s->nsum = 1;
    return 0;
}

static int evaluate(Pretrain *p, Run *run) {
    EvalLoss e;
    TRY(evaluate_corpus(p->gpt, p->heldout, run->cfg.eval_records, run->cfg.train_micro_tokens,
                        run->comm, &e));
    evaluate_report(run, &e);
    return 0;
}

static int dry_run(Pretrain *p, Run *run) {
    Windows *w = &p->text;
    int64_t n;
    Step s;
    TRY(next_step(p, run, NULL, &s));
    TRY(memory_dry_run(run, &p->plan, &s));
    TRY(corpus_window(w->corpus, w->seed, 0, w->context, w->buffer, &n, NULL));
    AUTOFREE char *text = NULL;
    TRY(tokenizer_decode(p->tokenizer, w->buffer, n + 1, false, &text, NULL));
    printf("  a window:\n%s\n", text);
    return 0;
}

/* The corpus carries its tokenizer; a given one must be the same. */
static int open_tokenizer(Pretrain *p, const Config *c) {
    size_t len;
    const char *text = corpus_tokenizer(p->text.corpus, &len);
    Tokenizer *given;
    TRY(tokenizer_parse(&p->tokenizer, text, len, "the tokenizer in data.train"));
    if (!c->from_tokenizer[0]) return 0;
    TRY(tokenizer_load(&given, c->from_tokenizer));
    const bool same = tokenizer_hash(given) == tokenizer_hash(p->tokenizer);
    tokenizer_close(&given);
    if (same) return 0;
    return config_bad(c, "from.tokenizer",
                      "%s is not the tokenizer that %s was encoded with; encode it again "
                      "(rhetor-data encode --tokenizer %s) or leave the key out",
                      c->from_tokenizer, c->data_train.v[0], c->from_tokenizer);
}

/* Continued pretraining goes on with the parent's weights, in its shape and tokens. */
static int open_parent(Pretrain *p, Run *run, const GptConfig *g) {
    const Config *c = &run->cfg;
    TRY(opening_parent(run, &p->parent, "from.model", LOAD_LANGUAGE));
    json_auto_t *mine = arch_to_json(g), *its = arch_to_json(&p->parent.cfg);
    const char *key;
    json_t *v;
    json_object_foreach(its, key, v) {
        if (json_equal(v, json_object_get(mine, key))) continue;
        AUTOFREE char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT),
                      *here =
                          json_dumps(json_object_get(mine, key), JSON_ENCODE_ANY | JSON_COMPACT);
        return config_bad(c, "from.model",
                          "its model has %s %s, here it is %s: write it in section model", key,
                          text, here);
    }
    if (tokenizer_hash(p->parent.tokenizer) != tokenizer_hash(p->tokenizer))
        return config_bad(c, "from.model",
                          "%s has another tokenizer than the corpus; encode it with that one",
                          p->parent.path);
    return 0;
}

static int open_all(Pretrain *p, Run *run) {
    const Config *c = &run->cfg;
    if (c->data_train.n == 0)
        return config_bad(c, "data.train", "no corpus is given; rhetor-data encode makes one");
    TRY(windows_open(&p->text, &c->data_train, 0, (uint64_t)c->run_seed, c->model_context));
    TRY(open_tokenizer(p, c));
    if (c->data_heldout.n > 0)
        TRY(corpus_open(&p->heldout, &c->data_heldout, tokenizer_hash(p->tokenizer)));
    GptConfig g;
    TRY(arch_of_config(&g, c, tokenizer_vocab(p->tokenizer)));
    if (c->from_model[0]) TRY(open_parent(p, run, &g));
    p->nwindows = corpus_windows(p->text.corpus, g.context);
    if (p->nwindows < 0) return (int)p->nwindows;
    p->plan = plan_work(c, &g);
    TRY(corpus_window_mean(p->text.corpus, p->text.seed, g.context, &p->plan.length));
    if (p->heldout)
        p->plan.eval_tokens = c->eval_records > 0 ? (double)c->eval_records * p->plan.length
                                                  : (double)corpus_tokens(p->heldout);
    TRY(memory_check(run, &p->plan));
    if (c->from_model[0]) {
        TRY(load_weights(&p->parent, true));
        p->gpt = p->parent.gpt;
    } else {
        TRY(gpt_open(&p->gpt, &g, true));
        gpt_init(p->gpt, (uint64_t)c->run_seed, c->model_init);
    }
    trainer_open(&p->trainer, p->gpt, run, "");
    run_describe(run, &g, p->tokenizer, TEMPLATE_PLAIN, "params");
    run_data(run, "train", corpus_hash(p->text.corpus));
    run->steps = plan_steps(c, p->nwindows);
    return 0;
}

static int train(Pretrain *p, Run *run) {
    const Config *c = &run->cfg;
    TRY(run_resume(run));
    if (run->main_rank)
        log_info("%" PRId64 " parameters, %" PRId64 " tokens (%" PRId64 " window%s of %" PRId64
                 "), %" PRId64 " step%s of %" PRId64 " window%s: %.2f epochs",
                 p->gpt->params.count, corpus_tokens(p->text.corpus), p->nwindows,
                 TEXT_S(p->nwindows), p->text.context, run->steps, TEXT_S(run->steps),
                 c->train_batch, TEXT_S(c->train_batch),
                 (double)run->steps * (double)c->train_batch / (double)p->nwindows);
    const Schedule schedule = trainer_schedule(run);
    while (run_goes_on(run)) {
        Step s;
        TRY(next_step(p, run, &schedule, &s));
        TRY(step_run(&s, 1));
        step_report(&s, run);
        windows_report(&p->text, run);
        if (p->heldout && run_eval_due(run)) TRY(evaluate(p, run));
        TRY(run_step_end(run, s.tokens));
    }
    return 0;
}

static int pretrain(Run *run) {
    Pretrain p = {0};
    int rc = open_all(&p, run);
    if (rc == 0) rc = run->dry ? dry_run(&p, run) : train(&p, run);
    trainer_close(&p.trainer);
    if (p.gpt != p.parent.gpt) gpt_close(&p.gpt);
    load_free(&p.parent);
    tokenizer_close(&p.tokenizer);
    windows_close(&p.text);
    corpus_close(&p.heldout);
    return rc;
}

int main(int argc, char **argv) { return run_main(argc, argv, STAGE_PRETRAIN, pretrain); }

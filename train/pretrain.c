/* rhetor-pretrain: a language model from text.
 *
 * Maximises log p(x) over windows of a corpus (Radford 2019): at most T+1 tokens of one document.
 * A step takes train.batch windows, the same ones whatever the number of ranks: window j of the
 * stream is a pure function of (seed, j). Each virtual rank takes a contiguous share of them, in
 * micro-batches of train.micro_tokens; all losses are divided by the global number of tokens, so
 * ranks and accumulation change the speed, not the experiment. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "checkpoints/exchange/load.h"
#include "train/evaluate.h"
#include "train/memory.h"
#include "train/windows.h"

typedef struct Pretrain {
    Windows text;
    Corpus *heldout;
    Tokenizer *tokenizer;
    Gpt *gpt;
    Trainer trainer;
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
    if (!p->heldout) return 0;
    EvalLoss e;
    TRY(evaluate_corpus(p->gpt, p->heldout, run->cfg.eval_records, run->cfg.train_micro_tokens,
                        run->comm, &e));
    run_metric(run, "eval/loss", e.nll);
    run_metric(run, "eval/bits_per_byte", e.bits_per_byte);
    run_eval_result(run, e.nll);
    if (run->main_rank)
        log_info("step %" PRId64 ": held-out loss %.4f nats a token, %.4f bits a byte",
                 run->step + 1, e.nll, e.bits_per_byte);
    return 0;
}

static int dry_run(Pretrain *p, Run *run) {
    Windows *w = &p->text;
    int64_t n;
    char *text;
    Step s;
    TRY(next_step(p, run, NULL, &s));
    const double began = clock_seconds();
    TRY(step_passes(&s));
    const double tokens = (double)s.tokens;
    run_plan(run, "pretraining", clock_seconds() - began, p->gpt->params.count, tokens,
             gpt_train_flops(&p->gpt->cfg, tokens, tokens, tokens / (double)w->n),
             trainer_bytes(&p->trainer), trainer_scratch(&p->trainer));
    TRY(corpus_window(w->corpus, w->seed, 0, w->context, w->buffer, &n, NULL));
    TRY(tokenizer_decode(p->tokenizer, w->buffer, n + 1, false, &text, NULL));
    printf("  a window:\n%s\n", text);
    free(text);
    return 0;
}

static int check_memory(Pretrain *p, Run *run, const GptConfig *g) {
    const Config *c = &run->cfg;
    PlanWork w = plan_work(c);
    w.model = *g;
    TRY(corpus_window_mean(p->text.corpus, (uint64_t)c->run_seed, g->context, &w.length));
    if (p->heldout)
        w.eval_tokens = c->eval_records > 0 ? (double)c->eval_records * w.length
                                            : (double)corpus_tokens(p->heldout);
    return memory_check(run, &w);
}

static int open_all(Pretrain *p, Run *run) {
    const Config *c = &run->cfg;
    TRY(windows_open(&p->text, &c->data_train, 0, (uint64_t)c->run_seed, c->model_context));
    size_t len;
    const char *text = corpus_tokenizer(p->text.corpus, &len);
    TRY(tokenizer_parse(&p->tokenizer, text, len, "the tokenizer in data.train"));
    if (c->from_tokenizer[0]) { /* the corpus carries one; a given one must be the same */
        Tokenizer *given;
        TRY(tokenizer_load(&given, c->from_tokenizer));
        bool same = tokenizer_hash(given) == tokenizer_hash(p->tokenizer);
        tokenizer_close(&given);
        if (!same)
            return config_bad(c, "from.tokenizer",
                              "%s is not the tokenizer that %s was encoded with; encode it again "
                              "(rhetor-data encode --tokenizer %s) or leave the key out",
                              c->from_tokenizer, c->data_train.v[0], c->from_tokenizer);
    }
    if (c->data_heldout.n > 0)
        TRY(corpus_open(&p->heldout, &c->data_heldout, tokenizer_hash(p->tokenizer)));
    GptConfig g = {.vocab = tokenizer_vocab(p->tokenizer),
                   .context = c->model_context,
                   .layers = c->model_layers,
                   .heads = c->model_heads,
                   .width = c->model_width,
                   .bias = c->model_bias,
                   .norm_eps = 1e-5};
    TRY(check_memory(p, run, &g));
    TRY(gpt_open(&p->gpt, &g, true));
    gpt_init(p->gpt, (uint64_t)c->run_seed);
    p->nwindows = corpus_windows(p->text.corpus, g.context);
    if (p->nwindows < 0) return (int)p->nwindows;
    run->steps =
        c->train_steps > 0
            ? c->train_steps
            : (int64_t)(c->train_epochs * (double)p->nwindows / (double)c->train_batch + 0.5);
    if (run->steps < 1) run->steps = 1;
    return 0;
}

static int train(Pretrain *p, Run *run) {
    const Config *c = &run->cfg;
    trainer_open(&p->trainer, p->gpt, run, "");
    run_describe(run, &p->gpt->cfg, p->tokenizer, TEMPLATE_PLAIN, "params");
    run_data(run, "train", corpus_hash(p->text.corpus));
    if (run->dry) return dry_run(p, run);
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
        const double waited = windows_waited(&p->text);
        Step s;
        TRY(next_step(p, run, &schedule, &s));
        TRY(step_run(&s, 1));
        step_report(&s, run);
        run_timing(run, "data/wait_s", windows_waited(&p->text) - waited);
        if (run_eval_due(run)) TRY(evaluate(p, run));
        TRY(run_step_end(run, s.tokens));
    }
    return 0;
}

static int pretrain(Run *run) {
    if (run->cfg.data_train.n == 0)
        return config_bad(&run->cfg, "data.train",
                          "no corpus is given; rhetor-data encode makes one");
    Pretrain p = {0};
    int rc = open_all(&p, run);
    if (rc == 0) rc = train(&p, run);
    trainer_close(&p.trainer);
    gpt_close(&p.gpt);
    tokenizer_close(&p.tokenizer);
    windows_close(&p.text);
    corpus_close(&p.heldout);
    return rc;
}

int main(int argc, char **argv) { return run_main(argc, argv, STAGE_PRETRAIN, pretrain); }

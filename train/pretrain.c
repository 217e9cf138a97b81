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

#include "base/error.h"
#include "base/log.h"
#include "checkpoints/exchange/loaded.h"
#include "data/corpus.h"
#include "dist/watchdog.h"
#include "train/evaluate.h"
#include "train/memory.h"
#include "train/trainer.h"

typedef struct Pretrain {
    Corpus *corpus, *heldout;
    Tokenizer *tokenizer;
    Gpt *gpt;
    Trainer trainer;
    Batch pack;
    int32_t *window;
    int64_t T, nwindows; /* context; windows an epoch */
} Pretrain;

/* Forward and backward of what is packed. */
static void pass(Pretrain *p, Run *run, bool last, double *loss) {
    const Config *c = &run->cfg;
    if (p->pack.n == 0) return;
    if (last) trainer_last_pass(&p->trainer);
    trainer_lm(&p->trainer, &p->pack, c->model_dropout, (uint64_t)c->run_seed, run->step, loss);
    batch_clear(&p->pack);
}

/* Forward and backward of this rank's windows of the step; the losses of its virtual ranks are
 * their shares of the mean over the step's tokens. */
static int gradients(Pretrain *p, Run *run, int64_t *tokens) {
    const Config *c = &run->cfg;
    const int64_t B = c->train_batch, T = p->T;
    const uint64_t seed = (uint64_t)c->run_seed;
    const int64_t again = c->train_overfit > 0 ? c->train_overfit : INT64_MAX;
    const int64_t step = run->step % again, next = (run->step + 1) % again;
    VirtualRanks *ranks = &p->trainer.ranks;
    double *loss = virtual_parts(ranks, 1);
    int64_t begin, end, n;
    *tokens = corpus_window_tokens(p->corpus, seed, step * B, B, T);
    if (*tokens < 0) return (int)*tokens;
    const float weight = 1.0f / (float)*tokens;
    virtual_share_all(ranks, B, &begin, &end);
    corpus_ahead(p->corpus, seed, next * B + begin, end - begin, T);
    for (int k = ranks->begin; k < ranks->end; k++) {
        virtual_share(ranks, B, k, &begin, &end);
        for (int64_t b = begin; b < end; b++) {
            uint64_t id;
            watchdog_enter(PHASE_DATA);
            TRY(corpus_window(p->corpus, seed, step * B + b, T, p->window, &n, &id));
            batch_add_window(&p->pack, p->window, n, weight, id);
            const bool last = b + 1 == end;
            if (last || p->pack.n + T > c->train_micro_tokens)
                pass(p, run, last && k + 1 == ranks->end, &loss[k]);
        }
        trainer_rank_end(&p->trainer);
    }
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
    int64_t tokens, n;
    char *text;
    TRY(gradients(p, run, &tokens));
    run_plan(run, "pretraining", p->gpt->params.count, (double)tokens,
             gpt_train_flops(&p->gpt->cfg, (double)tokens, (double)tokens,
                             (double)tokens / (double)run->cfg.train_batch),
             trainer_bytes(&p->trainer), p->trainer.arena.high);
    TRY(corpus_window(p->corpus, (uint64_t)run->cfg.run_seed, 0, p->T, p->window, &n, NULL));
    TRY(tokenizer_decode(p->tokenizer, p->window, n + 1, false, &text, NULL));
    printf("  a window:\n%s\n", text);
    free(text);
    return 0;
}

static int check_memory(Pretrain *p, Run *run, const GptConfig *g) {
    const Config *c = &run->cfg;
    PlanWork w = plan_work(c);
    w.model = *g;
    TRY(corpus_window_mean(p->corpus, (uint64_t)c->run_seed, g->context, &w.length));
    if (p->heldout)
        w.eval_tokens = c->eval_records > 0 ? (double)c->eval_records * w.length
                                            : (double)corpus_tokens(p->heldout);
    return memory_check(run, &w);
}

static int open_all(Pretrain *p, Run *run) {
    const Config *c = &run->cfg;
    TRY(corpus_open(&p->corpus, &c->data_train, 0));
    size_t len;
    const char *text = corpus_tokenizer(p->corpus, &len);
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
    p->T = g.context;
    p->window = xmalloc((size_t)(p->T + 1) * sizeof *p->window);
    p->nwindows = corpus_windows(p->corpus, p->T);
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
    run_data(run, "train", corpus_hash(p->corpus));
    if (run->dry) return dry_run(p, run);
    TRY(run_resume(run));
    if (run->main_rank)
        log_info("%" PRId64 " parameters, %" PRId64 " tokens (%" PRId64 " windows of %" PRId64
                 "), %" PRId64 " steps of %" PRId64 " windows: %.2f epochs",
                 p->gpt->params.count, corpus_tokens(p->corpus), p->nwindows, p->T, run->steps,
                 c->train_batch, (double)run->steps * (double)c->train_batch / (double)p->nwindows);

    const Schedule schedule = trainer_schedule(run);
    while (run_goes_on(run)) {
        double loss, norm, lr = schedule_lr(&schedule, run->step);
        const double waited = corpus_waited(p->corpus);
        int64_t tokens;
        TRY(gradients(p, run, &tokens));
        trainer_finish(&(Trainer *){&p->trainer}, 1);
        virtual_sum(&p->trainer.ranks, run->comm, &loss);
        p->trainer.loss = loss;
        char what[64];
        snprintf(what, sizeof what, "step %" PRId64 " (windows %" PRId64 "..)", run->step,
                 run->step * c->train_batch);
        TRY(trainer_update(&p->trainer, lr, what, &norm));

        run_metric(run, "loss", loss);
        run_metric(run, "lr", lr);
        run_metric(run, "grad_norm", norm);
        run_timing(run, "data/wait_s", corpus_waited(p->corpus) - waited);
        run_headline(run, "loss %.4f  lr %.2e  |g| %.3f", loss, lr, norm);
        if (run_eval_due(run)) TRY(evaluate(p, run));
        TRY(run_step_end(run, tokens));
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
    batch_free(&p.pack);
    free(p.window);
    gpt_close(&p.gpt);
    tokenizer_close(&p.tokenizer);
    corpus_close(&p.corpus);
    corpus_close(&p.heldout);
    return rc;
}

int main(int argc, char **argv) { return run_main(argc, argv, STAGE_PRETRAIN, pretrain); }

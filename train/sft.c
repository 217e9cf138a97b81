/* rhetor-sft: supervised fine-tuning on demonstrations (Ouyang 2022, section 3.5 and App. C).
 *
 * Cross-entropy on the tokens of the assistant's turns (end token included), optionally with
 * pretraining text mixed in, as for the model that initialises RL. A step takes train.batch
 * examples, the same ones whatever the number of ranks, and as many pretraining windows as
 * data.mix_ratio asks for; one mean over all learned tokens of the global batch. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "checkpoints/exchange/loaded.h"
#include "data/corpus.h"
#include "data/order.h"
#include "train/evaluate.h"
#include "train/memory.h"
#include "train/trainer.h"

typedef struct Sft {
    Loaded model;
    Dataset demos, heldout;
    Corpus *mix;
    double mix_windows, mix_length; /* pretraining windows a step, their tokens, on average */
    int32_t *window;
    Trainer trainer;
    Batch pack;
    int64_t *epoch_end; /* steps at which an epoch ends */
    int nepoch;
} Sft;

/* Which tokens of an example are learned; NULL: all. */
static const uint8_t *learned(const Sequence *q, const Config *c) {
    return c->data_loss_on == LOSS_ON_ALL ? NULL : q->learn;
}

static int64_t learned_tokens(const Sequence *q, const uint8_t *learn) {
    if (!learn) return q->n - 1;
    int64_t n = 0;
    for (int64_t i = 1; i < q->n; i++) n += learn[i] != 0;
    return n;
}

/* The b-th example of the step and its place in the stream. */
static const Sequence *example(const Sft *s, const Config *c, int64_t step, int64_t b, int64_t *j) {
    *j = step * c->train_batch + b;
    return &s->demos.seq[s->demos.first[order_stream((uint64_t)c->run_seed, *j, s->demos.n)]];
}

static void backward_if(Sft *s, Run *run, bool now, double *loss) {
    if (!now || s->pack.n == 0) return;
    trainer_lm(&s->trainer, &s->pack, run->cfg.model_dropout, (uint64_t)run->cfg.run_seed,
               run->step, loss);
    batch_clear(&s->pack);
}

/* Virtual rank k's share of the step: examples, then pretraining windows; forward and backward of
 * what exceeds a micro-batch. */
static int rank_gradients(Sft *s, Run *run, int k, int64_t step, int64_t first_window,
                          int64_t windows, float weight, double *loss) {
    const Config *c = &run->cfg;
    const int64_t T = s->model.gpt->cfg.context, max = c->train_micro_tokens;
    const VirtualRanks *ranks = &s->trainer.ranks;
    int64_t begin, end, j;
    virtual_share(ranks, c->train_batch, k, &begin, &end);
    for (int64_t b = begin; b < end; b++) {
        const Sequence *q = example(s, c, step, b, &j);
        backward_if(s, run, s->pack.n + q->n > max, loss);
        batch_add(&s->pack, q->tokens, q->n, learned(q, c), weight, (uint64_t)j);
    }
    virtual_share(ranks, windows, k, &begin, &end);
    for (int64_t w = begin; w < end; w++) {
        int64_t n;
        uint64_t id;
        TRY(corpus_window(s->mix, (uint64_t)c->run_seed, first_window + w, T, s->window, &n, &id));
        backward_if(s, run, s->pack.n + n > max, loss);
        batch_add_window(&s->pack, s->window, n, weight, id | (uint64_t)1 << 43);
    }
    return 0;
}

/* Forward and backward of this rank's share of the step; the losses of its virtual ranks are their
 * parts of the mean, *tokens the tokens of the global batch, *learns those of them that are
 * learned.
 */
static int gradients(Sft *s, Run *run, int64_t *tokens, int64_t *learns) {
    const Config *c = &run->cfg;
    const int64_t T = s->model.gpt->cfg.context;
    VirtualRanks *ranks = &s->trainer.ranks;
    const int64_t step = c->train_overfit > 0 ? run->step % c->train_overfit : run->step;
    int64_t wbegin, wend, j;
    const int64_t first_window = (int64_t)floor((double)step * s->mix_windows);
    const int64_t windows = (int64_t)floor((double)(step + 1) * s->mix_windows) - first_window;
    virtual_share_all(ranks, windows, &wbegin, &wend);
    if (s->mix) /* they come last */
        corpus_ahead(s->mix, (uint64_t)c->run_seed, first_window + wbegin, wend - wbegin, T);

    /* the count first, so that the loss makes its gradient in the same pass */
    *learns = 0;
    if (s->mix)
        *learns = corpus_window_tokens(s->mix, (uint64_t)c->run_seed, first_window, windows, T);
    if (*learns < 0) return (int)*learns;
    *tokens = *learns;
    for (int64_t b = 0; b < c->train_batch; b++) { /* every rank knows the whole step */
        const Sequence *q = example(s, c, step, b, &j);
        *learns += learned_tokens(q, learned(q, c));
        *tokens += q->n;
    }
    const float weight = 1.0f / (float)(*learns > 0 ? *learns : 1);

    double *loss = virtual_parts(ranks, 1);
    for (int k = ranks->begin; k < ranks->end; k++) {
        TRY(rank_gradients(s, run, k, step, first_window, windows, weight, &loss[k]));
        if (k + 1 == ranks->end && s->pack.n > 0) trainer_last_pass(&s->trainer);
        backward_if(s, run, true, &loss[k]);
        trainer_rank_end(&s->trainer);
    }
    return 0;
}

static int evaluate(Sft *s, Run *run) {
    if (s->heldout.n == 0) return 0;
    EvalLoss e;
    TRY(evaluate_demos(s->model.gpt, &s->heldout, run->cfg.eval_records,
                       run->cfg.train_micro_tokens, run->comm, &e));
    run_metric(run, "eval/loss", e.nll);
    run_eval_result(run, e.nll);
    if (run->main_rank)
        log_info("step %" PRId64 ": held-out loss %.4f nats a response token", run->step + 1,
                 e.nll);
    return 0;
}

/* Shows an example with the learned tokens marked. */
static int print_example(const Sft *s, const Config *c) {
    int64_t j;
    const Sequence *q = example(s, c, 0, 0, &j);
    const uint8_t *learn = learned(q, c);
    const bool colour = isatty(STDOUT_FILENO);
    printf("  an example (%s is learned):\n",
           colour ? "\033[32mgreen\033[0m" : "what stands in [ ]");
    for (int64_t i = 0; i < q->n;) {
        int64_t end = i;
        const bool on = !learn || learn[i];
        while (end < q->n && (!learn || learn[end]) == on) end++;
        char *text;
        TRY(tokenizer_decode(s->model.tokenizer, q->tokens + i, end - i, false, &text, NULL));
        if (on)
            printf(colour ? "\033[32m%s\033[0m" : "[%s]", text);
        else
            printf("%s", text);
        free(text);
        i = end;
    }
    printf("\n");
    return 0;
}

static int dry_run(Sft *s, Run *run) {
    int64_t tokens, learns;
    TRY(gradients(s, run, &tokens, &learns));
    const ParamSet *ps = &s->model.gpt->params;
    run_plan(run, "supervised fine-tuning", ps->count, (double)tokens,
             gpt_train_flops(&s->model.gpt->cfg, (double)tokens, (double)learns,
                             (double)s->demos.tokens / (double)s->demos.n),
             trainer_bytes(&s->trainer), s->trainer.arena.high);
    return print_example(s, &run->cfg);
}

static void plan_steps(Sft *s, Run *run) {
    const Config *c = &run->cfg;
    const double per_epoch = (double)s->demos.n / (double)c->train_batch;
    run->steps =
        c->train_steps > 0 ? c->train_steps : (int64_t)ceil(c->train_epochs * per_epoch - 1e-9);
    if (run->steps < 1) run->steps = 1;
    if (!c->save_every_epoch) return;
    const int epochs =
        (int)(((double)run->steps + 0.5) / per_epoch); /* several may end in one step */
    s->epoch_end = xcalloc((size_t)epochs + 1, sizeof *s->epoch_end);
    for (int e = 1; e <= epochs; e++)
        s->epoch_end[s->nepoch++] = (int64_t)ceil((double)e * per_epoch - 1e-9);
    run_keep_steps(run, s->epoch_end, s->nepoch);
}

static int check_memory(Sft *s, Run *run) {
    const Config *c = &run->cfg;
    PlanWork w = plan_work(c);
    w.model = s->model.cfg;
    w.length = (double)s->demos.tokens / (double)s->demos.n;
    w.windows = s->mix_windows;
    w.window = s->mix_length;
    if (s->heldout.n > 0) {
        w.eval_tokens = (double)s->heldout.tokens;
        if (c->eval_records > 0 && c->eval_records < s->heldout.n)
            w.eval_tokens *= (double)c->eval_records / (double)s->heldout.n;
    }
    return memory_check(run, &w);
}

static int open_all(Sft *s, Run *run) {
    const Config *c = &run->cfg;
    TRY(load_open(&s->model, c->from_model, "from.model", LOAD_LANGUAGE, run->comm));
    DatasetOptions o;
    Template tmpl;
    TRY(template_of_config(c, &tmpl));
    dataset_options(&o, c, s->model.tokenizer, tmpl, s->model.cfg.context);
    TRY(dataset_load(&s->demos, DATASET_DEMOS, &c->data_train, &o));
    if (c->data_heldout.n > 0) TRY(dataset_load(&s->heldout, DATASET_DEMOS, &c->data_heldout, &o));
    if (c->data_mix_ratio > 0) {
        if (c->data_mix.n == 0)
            return config_bad(c, "data.mix_ratio",
                              "pretraining text is to be mixed in, but data.mix "
                              "names no corpus");
        TRY(corpus_open(&s->mix, &c->data_mix, tokenizer_hash(s->model.tokenizer)));
        run_data(run, "mix", corpus_hash(s->mix));
        const int64_t T = s->model.cfg.context;
        TRY(corpus_window_mean(s->mix, (uint64_t)c->run_seed, T, &s->mix_length));
        const double r = c->data_mix_ratio, example = (double)s->demos.tokens / (double)s->demos.n;
        s->mix_windows = r / (1 - r) * (double)c->train_batch * example / s->mix_length;
        s->window = xmalloc((size_t)(T + 1) * sizeof *s->window);
    }
    TRY(check_memory(s, run));
    TRY(load_weights(&s->model, true));
    run_describe(run, &s->model.cfg, s->model.tokenizer, tmpl, "params");
    run_parent(run, "model", s->model.id);
    run_data(run, "train", s->demos.hash);
    plan_steps(s, run);
    return 0;
}

static int train(Sft *s, Run *run) {
    const Config *c = &run->cfg;
    trainer_open(&s->trainer, s->model.gpt, run, "");
    if (run->dry) return dry_run(s, run);
    TRY(run_resume(run));
    if (run->main_rank)
        log_info("%" PRId64 " demonstrations (%" PRId64 " tokens, %" PRId64 " too long, %" PRId64
                 " bad), %" PRId64 " steps of %" PRId64,
                 s->demos.n, s->demos.tokens, s->demos.too_long, s->demos.bad, run->steps,
                 c->train_batch);

    const Schedule schedule = trainer_schedule(run);
    while (run_goes_on(run)) {
        double loss, norm, lr = schedule_lr(&schedule, run->step);
        const double waited = s->mix ? corpus_waited(s->mix) : 0;
        int64_t tokens, learns;
        TRY(gradients(s, run, &tokens, &learns));
        trainer_finish(&(Trainer *){&s->trainer}, 1);
        virtual_sum(&s->trainer.ranks, run->comm, &loss);
        s->trainer.loss = loss;
        char what[64];
        snprintf(what, sizeof what, "step %" PRId64 " (examples %" PRId64 "..)", run->step,
                 run->step * c->train_batch);
        TRY(trainer_update(&s->trainer, lr, what, &norm));

        run_metric(run, "loss", loss);
        run_metric(run, "lr", lr);
        run_metric(run, "grad_norm", norm);
        if (s->mix) run_timing(run, "data/wait_s", corpus_waited(s->mix) - waited);
        run_headline(run, "loss %.4f  lr %.2e  |g| %.3f", loss, lr, norm);
        if (run_eval_due(run)) TRY(evaluate(s, run));
        TRY(run_step_end(run, tokens));
    }
    return 0;
}

static int sft(Run *run) {
    if (run->cfg.data_train.n == 0)
        return config_bad(&run->cfg, "data.train", "no demonstrations are given");
    Sft s = {0};
    int rc = open_all(&s, run);
    if (rc == 0) rc = train(&s, run);
    trainer_close(&s.trainer);
    batch_free(&s.pack);
    free(s.window);
    free(s.epoch_end);
    corpus_close(&s.mix);
    dataset_free(&s.demos);
    dataset_free(&s.heldout);
    load_free(&s.model);
    return rc;
}

int main(int argc, char **argv) { return run_main(argc, argv, STAGE_SFT, sft); }

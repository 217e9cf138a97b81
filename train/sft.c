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

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "checkpoints/exchange/load.h"
#include "data/order.h"
#include "train/evaluate.h"
#include "train/memory.h"
#include "train/windows.h"

typedef struct Sft {
    Loaded model;
    Dataset demos, heldout;
    Windows mix;
    double mix_windows, mix_length; /* pretraining windows a step, their tokens, on average */
    Trainer trainer;
    bool all;           /* data.loss_on: all tokens are learned */
    int64_t *epoch_end; /* steps at which an epoch ends */
    int nepoch;
    uint64_t seed;
    /* of a step: its first example's place in the stream, the tokens that are learned */
    int64_t first, learns;
    float weight;
    double loss;
} Sft;

/* Which tokens of an example are learned; NULL: all. */
static const uint8_t *learned(const Sft *s, const Sequence *q) { return s->all ? NULL : q->learn; }

static int64_t learned_tokens(const Sequence *q, const uint8_t *learn) {
    if (!learn) return q->n - 1;
    int64_t n = 0;
    for (int64_t i = 1; i < q->n; i++) n += learn[i] != 0;
    return n;
}

/* The b-th example of the step. */
static const Sequence *example(const Sft *s, int64_t b) {
    return &s->demos.seq[s->demos.first[order_stream(s->seed, s->first + b, s->demos.n)]];
}

static int64_t item_tokens(void *sft, int64_t b) { return example(sft, b)->n; }

static int add_item(void *sft, int64_t b, Batch *batch) {
    const Sft *s = sft;
    const Sequence *q = example(s, b);
    batch_add(batch, q->tokens, q->n, learned(s, q), s->weight, (uint64_t)(s->first + b));
    return 0;
}

/* The examples of the run's next step, and the windows, which are read meanwhile. All ranks count
 * the whole step first, so that a pass's loss has its weight. */
static int next_step(Sft *s, Run *run, const Schedule *lr, Step *step) {
    const Config *c = &run->cfg;
    const int64_t n = c->train_overfit > 0 ? run->step % c->train_overfit : run->step;
    *step = step_begin(&s->trainer, run, lr, "examples");
    s->first = n * c->train_batch;
    s->learns = 0;
    if (s->mix.corpus) {
        s->learns = windows_mix(&s->mix, s->mix_windows, n, 1);
        if (s->learns < 0) return (int)s->learns;
        windows_ahead(&s->mix, &s->trainer.ranks, s->mix.first, s->mix.n);
    }
    step->tokens = s->learns;
    for (int64_t b = 0; b < c->train_batch; b++) {
        const Sequence *q = example(s, b);
        s->learns += learned_tokens(q, learned(s, q));
        step->tokens += q->n;
    }
    s->weight = s->mix.weight = 1.0f / (float)(s->learns > 0 ? s->learns : 1);
    step->items[0] = (StepItems){{s, item_tokens, add_item}, c->train_batch, step_lm};
    step->items[1] = windows_items(&s->mix, step_lm);
    step->sum = &s->loss;
    step->nsum = 1;
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
static int print_example(const Sft *s) {
    const Sequence *q = example(s, 0);
    const uint8_t *learn = learned(s, q);
    const bool colour = log_has_colours(STDOUT_FILENO);
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
    Step step;
    TRY(next_step(s, run, NULL, &step));
    const double began = clock_seconds();
    TRY(step_passes(&step));
    const double tokens = (double)step.tokens;
    const ParamSet *ps = &s->model.gpt->params;
    run_plan(run, "supervised fine-tuning", clock_seconds() - began, ps->count, tokens,
             gpt_train_flops(&s->model.gpt->cfg, tokens, (double)s->learns,
                             (double)s->demos.tokens / (double)s->demos.n),
             trainer_bytes(&s->trainer), trainer_scratch(&s->trainer));
    return print_example(s);
}

static void plan_steps(Sft *s, Run *run) {
    const Config *c = &run->cfg;
    const double per_epoch = (double)s->demos.n / (double)c->train_batch;
    step_count(run, s->demos.n);
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
    plan_records(&w, &s->demos, DATASET_DEMOS, s->all);
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
    s->seed = (uint64_t)c->run_seed;
    s->all = c->data_loss_on == LOSS_ON_ALL;
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
        TRY(windows_open(&s->mix, &c->data_mix, tokenizer_hash(s->model.tokenizer), s->seed,
                         s->model.cfg.context));
        s->mix.stream = (uint64_t)1 << 43;
        run_data(run, "mix", corpus_hash(s->mix.corpus));
        TRY(corpus_window_mean(s->mix.corpus, s->seed, s->mix.context, &s->mix_length));
        const double r = c->data_mix_ratio, example = (double)s->demos.tokens / (double)s->demos.n;
        s->mix_windows = r / (1 - r) * (double)c->train_batch * example / s->mix_length;
    }
    TRY(check_memory(s, run));
    TRY(load_weights(&s->model, true));
    if (c->data_mix.n > 0 && !s->mix.corpus && run->main_rank)
        log_warn("data.mix is not read: data.mix_ratio is 0 and says how much of it is mixed in");
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
        log_info("%" PRId64 " demonstration%s (%" PRId64 " tokens, %" PRId64 " too long, %" PRId64
                 " bad), %" PRId64 " step%s of %" PRId64,
                 s->demos.n, TEXT_S(s->demos.n), s->demos.tokens, s->demos.too_long, s->demos.bad,
                 run->steps, TEXT_S(run->steps), c->train_batch);

    const Schedule schedule = trainer_schedule(run);
    while (run_goes_on(run)) {
        const double waited = windows_waited(&s->mix);
        Step step;
        TRY(next_step(s, run, &schedule, &step));
        TRY(step_run(&step, 1));
        step_report(&step, run);
        if (s->mix.corpus) run_timing(run, "data/wait_s", windows_waited(&s->mix) - waited);
        if (run_eval_due(run)) TRY(evaluate(s, run));
        TRY(run_step_end(run, step.tokens));
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
    free(s.epoch_end);
    windows_close(&s.mix);
    dataset_free(&s.demos);
    dataset_free(&s.heldout);
    load_free(&s.model);
    return rc;
}

int main(int argc, char **argv) { return run_main(argc, argv, STAGE_SFT, sft); }

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
#include "data/order.h"
#include "train/evaluate.h"
#include "train/opening.h"

typedef struct Sft {
    Loaded model;
    Dataset demos, heldout;
    Windows mix;
    Trainer trainer;
    PlanWork plan;      /* windows: pretraining windows a step, on average */
    int64_t *epoch_end; /* steps at which an epoch ends */
    uint64_t seed;
    /* of a step: its first example's place in the stream, the tokens that are learned */
    int64_t first, learns;
    float weight;
    double loss;
} Sft;

/* Which tokens of an example are learned; NULL: all. */
static const uint8_t *learned(const Sft *s, const Sequence *q) {
    return s->plan.learn_all ? NULL : q->learn;
}

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
        s->learns = windows_mix(&s->mix, s->plan.windows, n, 1);
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
    EvalLoss e;
    TRY(evaluate_demos(s->model.gpt, &s->heldout, run->cfg.eval_records,
                       run->cfg.train_micro_tokens, run->comm, &e));
    evaluate_report(run, &e);
    return 0;
}

/* Shows an example with the learned tokens marked. */
static int dry_run(Sft *s, Run *run) {
    Step step;
    TRY(next_step(s, run, NULL, &step));
    TRY(memory_dry_run(run, &s->plan, &step));
    const Sequence *q = example(s, 0);
    const uint8_t *learn = learned(s, q);
    const bool colour = log_has_colours(STDOUT_FILENO);
    const char *const mark = colour ? "\033[32m%s\033[0m" : "[%s]";
    printf("  an example (%s is learned):\n",
           colour ? "\033[32mgreen\033[0m" : "what stands in [ ]");
    for (int64_t i = 0, end; i < q->n; i = end) {
        const bool on = !learn || learn[i];
        for (end = i; end < q->n && (!learn || learn[end]) == on;) end++;
        AUTOFREE char *text = NULL;
        TRY(tokenizer_decode(s->model.tokenizer, q->tokens + i, end - i, false, &text, NULL));
        printf(on ? mark : "%s", text);
    }
    printf("\n");
    return 0;
}

/* The checkpoint at the end of each epoch stays. */
static void keep_epochs(Sft *s, Run *run) {
    const double epoch = (double)s->demos.n / (double)run->cfg.train_batch;
    const int n = (int)(((double)run->steps + 0.5) / epoch); /* several may end in one step */
    if (!run->cfg.save_every_epoch) return;
    s->epoch_end = xcalloc((size_t)n + 1, sizeof *s->epoch_end);
    for (int e = 0; e < n; e++) s->epoch_end[e] = (int64_t)ceil((e + 1.0) * epoch - 1e-9);
    run_keep_steps(run, s->epoch_end, n);
}

static int open_all(Sft *s, Run *run) {
    const Config *c = &run->cfg;
    Loaded *m = &s->model;
    s->seed = (uint64_t)c->run_seed;
    TRY(opening_parent(run, m, "from.model", LOAD_LANGUAGE));
    TRY(template_of_config(c, &m->tmpl));
    TRY(opening_records(run, m, DATASET_DEMOS, 0, &s->demos, &s->heldout));
    s->plan = plan_work(c, &m->cfg);
    plan_records(&s->plan, &s->demos);
    plan_evaluation(&s->plan, &s->heldout, c->eval_records);
    if (c->data_mix_ratio > 0) {
        TRY(opening_text(run, m, "data.mix_ratio", &s->mix, &s->plan));
        s->mix.stream = (uint64_t)1 << 43;
        plan_mix(&s->plan, c->data_mix_ratio);
    } else if (c->data_mix.n > 0 && run->main_rank)
        log_warn("data.mix is not read: data.mix_ratio is 0 and says how much of it is mixed in");
    TRY(memory_check(run, &s->plan));
    TRY(opening_weights(run, m));
    trainer_open(&s->trainer, m->gpt, run, "");
    run_describe(run, &m->cfg, m->tokenizer, m->tmpl, "params");
    run->steps = plan_steps(c, s->demos.n);
    keep_epochs(s, run);
    return 0;
}

static int train(Sft *s, Run *run) {
    TRY(run_resume(run));
    opening_report(run, &s->demos, run->cfg.train_batch);
    const Schedule schedule = trainer_schedule(run);
    while (run_goes_on(run)) {
        Step step;
        TRY(next_step(s, run, &schedule, &step));
        TRY(step_run(&step, 1));
        step_report(&step, run);
        windows_report(&s->mix, run);
        if (s->heldout.n > 0 && run_eval_due(run)) TRY(evaluate(s, run));
        TRY(run_step_end(run, step.tokens));
    }
    return 0;
}

static int sft(Run *run) {
    Sft s = {0};
    int rc = open_all(&s, run);
    if (rc == 0) rc = run->dry ? dry_run(&s, run) : train(&s, run);
    trainer_close(&s.trainer);
    free(s.epoch_end);
    windows_close(&s.mix);
    dataset_free(&s.demos);
    dataset_free(&s.heldout);
    load_free(&s.model);
    return rc;
}

int main(int argc, char **argv) { return run_main(argc, argv, STAGE_SFT, sft); }

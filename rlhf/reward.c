/* rhetor-reward: a reward model from ranked completions (Ouyang 2022, section 3.5; Stiennon 2020).
 *
 * The SFT model's trunk with a scalar head at the last token. A step takes train.batch prompts;
 * each of a prompt's K completions goes forward once and all its pairs make one loss (ranking.h),
 * so that a completion is not seen K-1 times. The mean is over the global batch's prompts that have
 * pairs. At the end the head's bias is set so that the mean reward of the reference completions is
 * 0. */
#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "data/order.h"
#include "rlhf/score.h"
#include "train/opening.h"

/* What is reported of a step, in doubles only. */
typedef struct Report {
    double loss;
    RankStats stats;
} Report;

typedef struct Reward {
    Loaded model;
    Dataset ranked, heldout, reference;
    Dataset kway; /* reward.pairs: shuffled: what ranked's pairs are of */
    Trainer trainer;
    PlanWork plan;
    double mean, std; /* of the rewards, after training */
    uint64_t seed;
    /* of a step: its first prompt's place in the stream, the weight of each that has pairs */
    int64_t first;
    double weight;
    Report report;
} Reward;

/* The b-th prompt of the step, an item of the set. */
static int64_t prompt(const Reward *w, int64_t b) {
    return order_stream(w->seed, w->first + b, w->ranked.n);
}

static int64_t item_tokens(void *reward, int64_t b) {
    const Dataset *d = &((const Reward *)reward)->ranked;
    const int64_t i = prompt(reward, b);
    int64_t n = 0;
    for (int64_t s = d->first[i]; s < d->first[i + 1]; s++) n += d->seq[s].n;
    return n;
}

static int add_item(void *reward, int64_t b, Batch *batch) {
    const Dataset *d = &((const Reward *)reward)->ranked;
    const int64_t i = prompt(reward, b);
    for (int64_t s = d->first[i]; s < d->first[i + 1]; s++)
        batch_add(batch, d->seq[s].tokens, d->seq[s].n, NULL, 0, 0);
    return 0;
}

/* One forward pass over all completions of the prompts, the ranking loss of each prompt. */
static void loss(const Step *s, void *reward, const Batch *b, int64_t begin, int64_t end,
                 double *sum) {
    const Reward *w = reward;
    const Dataset *d = &w->ranked;
    Report *report = (Report *)sum;
    Tape *t = s->trainer->tape;
    const GptRows last = gpt_last_rows(t, b);
    Tensor *r = gpt_values(s->trainer->gpt, t, b, &last);
    if (tape_dry(t)) return;
    double *dr = tape_alloc(t, (size_t)b->nseq * sizeof *dr);
    for (int64_t k = begin, at = 0; k < end; k++) {
        const int64_t i = prompt(w, k), first = d->first[i], K = d->first[i + 1] - first;
        report->loss += w->weight * ranking_loss(r->data + at, d->rank + first, K, dr, NULL);
        rank_stats_add(&report->stats, r->data + at, d->rank + first, K);
        for (int64_t j = 0; j < K; j++) r->grad[at + j] = (real)(w->weight * dr[j]);
        at += K;
    }
}

/* The prompts of the run's next step. All ranks count the whole step first. */
static Step next_step(Reward *w, const Run *run, const Schedule *lr) {
    const Config *c = &run->cfg;
    Step s = step_begin(&w->trainer, run, lr, "prompts");
    int64_t with_pairs = 0;
    w->first = (c->train_overfit > 0 ? run->step % c->train_overfit : run->step) * c->train_batch;
    for (int64_t b = 0; b < c->train_batch; b++) {
        const int64_t i = prompt(w, b), first = w->ranked.first[i];
        with_pairs += ranking_pairs(w->ranked.rank + first, w->ranked.first[i + 1] - first) > 0;
        s.tokens += item_tokens(w, b);
    }
    w->weight = with_pairs > 0 ? 1.0 / (double)with_pairs : 0;
    s.items[0] = (StepItems){{w, item_tokens, add_item}, c->train_batch, loss};
    s.sum = (double *)&w->report;
    s.nsum = sizeof w->report / sizeof *s.sum;
    return s;
}

static void evaluate(Reward *w, Run *run) {
    RankStats s;
    score_rankings(w->model.gpt, &w->heldout, run->cfg.eval_records, run->cfg.train_micro_tokens,
                   run->comm, &s);
    run_metric(run, "eval/loss", rank_loss(&s));
    run_metric(run, "eval/accuracy", rank_accuracy(&s));
    run_metric(run, "eval/margin", rank_margin(&s));
    run_metric(run, "eval/reward_mean", rank_mean(&s));
    run_metric(run, "eval/reward_std", rank_std(&s));
    run_eval_result(run, rank_loss(&s));
    if (run->main_rank)
        log_info("step %" PRId64 ": held-out accuracy %.4f over %.0f pairs, loss %.4f, margin %.3f",
                 run->step + 1, rank_accuracy(&s), s.pairs, rank_loss(&s), rank_margin(&s));
}

static void normalise(Reward *w, Run *run) {
    RankStats s;
    score_normalise(w->model.gpt, w->reference.seq, w->reference.n, run->cfg.train_micro_tokens,
                    run->comm, &s);
    w->mean = rank_mean(&s);
    w->std = rank_std(&s);
    if (run->main_rank)
        log_info(
            "the mean reward of %.0f reference completions was %.4f and is 0 now; deviation %.4f",
            s.n, w->mean, w->std);
}

static int dry_run(Reward *w, Run *run) {
    Step step = next_step(w, run, NULL);
    TRY(memory_dry_run(run, &w->plan, &step));
    return opening_show_answers(&w->model, &w->ranked);
}

static int open_reference(Reward *w, const Config *c) {
    DatasetOptions o;
    dataset_options(&o, c, w->model.tokenizer, w->model.tmpl, w->model.cfg.context);
    if (c->data_reference.n > 0)
        return dataset_load(&w->reference, DATASET_DEMOS, &c->data_reference, &o);
    dataset_best(&w->reference, &w->ranked);
    return 0;
}

/* The trunk is the parent's first reward.layers blocks. */
static int choose_layers(GptConfig *g, const Config *c) {
    if (c->reward_layers > g->layers)
        return config_bad(c, "reward.layers", "the parent has %" PRId64 " layers", g->layers);
    if (c->reward_layers > 0) g->layers = c->reward_layers;
    return 0;
}

static int open_all(Reward *w, Run *run) {
    Loaded *m = &w->model;
    w->seed = (uint64_t)run->cfg.run_seed;
    TRY(opening_parent(run, m, "from.model", LOAD_TRUNK));
    TRY(choose_layers(&m->cfg, &run->cfg));
    TRY(opening_records(run, m, DATASET_RANKED, 0, &w->ranked, &w->heldout));
    TRY(open_reference(w, &run->cfg));
    if (run->cfg.reward_pairs == PAIRS_SHUFFLED) {
        w->kway = w->ranked;
        dataset_pairs(&w->ranked, &w->kway);
    }
    w->plan = plan_work(&run->cfg, &m->cfg);
    plan_records(&w->plan, &w->ranked);
    plan_evaluation(&w->plan, &w->reference, 0);
    TRY(memory_check(run, &w->plan));
    TRY(opening_weights(run, m));
    gpt_init_head(m->gpt, w->seed);
    trainer_open(&w->trainer, m->gpt, run, "");
    run_keep_f64(run, "reward_mean_before", &w->mean);
    run_keep_f64(run, "reward_std", &w->std);
    run_describe(run, &m->cfg, m->tokenizer, m->tmpl, "params");
    run->steps = plan_steps(&run->cfg, w->ranked.n);
    return 0;
}

static void report(Run *run, const Step *step, const Report *r) {
    step_report(step, run);
    run_metric(run, "accuracy", rank_accuracy(&r->stats));
    run_metric(run, "margin", rank_margin(&r->stats));
    run_metric(run, "reward_mean", rank_mean(&r->stats));
    run_metric(run, "reward_std", rank_std(&r->stats));
    char accuracy[16] = "-"; /* a batch of nothing but ties has none */
    if (r->stats.pairs > 0) snprintf(accuracy, sizeof accuracy, "%.3f", rank_accuracy(&r->stats));
    run_headline(run, "loss %.4f  accuracy %s  lr %.2e", r->loss, accuracy, step->lr);
}

static int train(Reward *w, Run *run) {
    TRY(run_resume(run));
    opening_report(run, &w->ranked, run->cfg.train_batch);
    const Schedule schedule = trainer_schedule(run);
    while (run_goes_on(run)) {
        Step step = next_step(w, run, &schedule);
        TRY(step_run(&step, 1));
        report(run, &step, &w->report);
        if (w->heldout.n > 0 && run_eval_due(run)) evaluate(w, run);
        /* the bias does not change the loss, so a checkpoint that may be the best gets it too */
        if (run->step + 1 == run->steps || (run->cfg.save_keep_best && run_eval_due(run)))
            normalise(w, run);
        TRY(run_step_end(run, step.tokens));
    }
    return 0;
}

static int reward(Run *run) {
    Reward w = {0};
    int rc = open_all(&w, run);
    if (rc == 0) rc = run->dry ? dry_run(&w, run) : train(&w, run);
    trainer_close(&w.trainer);
    dataset_free(&w.ranked);
    dataset_free(&w.kway);
    dataset_free(&w.heldout);
    dataset_free(&w.reference);
    load_free(&w.model);
    return rc;
}

int main(int argc, char **argv) { return run_main(argc, argv, STAGE_REWARD, reward); }

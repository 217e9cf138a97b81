/* rhetor-dpo: a policy from preferences, without a reward model (Rafailov 2023) or with one of the
 * losses that came after it (preference.h).
 *
 * A step takes train.batch prompts; each of a prompt's K answers goes forward once and all pairs
 * that do not tie make one loss. The reference is the model that the run begins with: how likely
 * it finds each answer is computed once, before the first step, and kept in the checkpoints, so
 * there is never a second model in memory. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "data/order.h"
#include "dist/watchdog.h"
#include "rlhf/preference.h"
#include "train/evaluate.h"
#include "train/opening.h"

typedef struct Preferences {
    Dataset d;
    double *ref; /* [sequences] the reference's log-probabilities; NULL: the loss reads none */
    /* KTO: each prompt with the answer to another one, for the KL between policy and reference. */
    Sequence *other; /* [sequences] */
    double *other_ref;
    int32_t *tokens; /* of `other` */
} Preferences;

typedef struct Dpo {
    Loaded model;
    Preferences train, heldout;
    PrefOptions o;
    Trainer trainer;
    PlanWork plan;
    uint64_t seed;
    int64_t first; /* of a step: its first prompt's place in the stream */
    double weight; /* of a term of its mean */
    PrefStats stats;
} Dpo;

/* --- the reference ---------------------------------------------------------------------------- */

/* Log-probabilities of all sequences' answers, shared among the ranks. Collective. */
static void logps(const Dpo *p, const Run *run, const Sequence *q, int64_t n, double *out) {
    int64_t begin, end;
    comm_share(n, comm_rank(run->comm), comm_size(run->comm), &begin, &end);
    memset(out, 0, (size_t)n * sizeof *out);
    evaluate_logp(p->model.gpt, q + begin, end - begin, 1, run->cfg.train_micro_tokens,
                  out + begin);
    comm_sum_f64(run->comm, out, n); /* the others have 0 */
}

/* The prompt of sequence s and an answer from half the set away, as much of it as there is room
 * for. */
static void pair_others(Preferences *p, int64_t context) {
    const int64_t n = p->d.first[p->d.n];
    int64_t total = 0;
    p->other = xcalloc((size_t)n, sizeof *p->other);
    for (int64_t s = 0; s < n; s++) {
        const Sequence *a = &p->d.seq[s], *b = &p->d.seq[(s + (n + 1) / 2) % n];
        const int64_t all = a->prompt + b->n - b->prompt;
        p->other[s] = (Sequence){.n = all < context ? all : context, .prompt = a->prompt};
        total += p->other[s].n;
    }
    int32_t *at = p->tokens = xmalloc((size_t)(total + 1) * sizeof *at);
    for (int64_t s = 0; s < n; at += p->other[s++].n) {
        const Sequence *a = &p->d.seq[s], *b = &p->d.seq[(s + (n + 1) / 2) % n];
        memcpy(at, a->tokens, (size_t)a->prompt * sizeof *at);
        memcpy(at + a->prompt, b->tokens + b->prompt,
               (size_t)(p->other[s].n - a->prompt) * sizeof *at);
        p->other[s].tokens = at;
    }
}

/* While the model is still the reference. Collective. */
static void ask_reference(const Dpo *p, const Run *run, Preferences *q) {
    const int64_t n = q->d.n > 0 ? q->d.first[q->d.n] : 0;
    watchdog_enter(PHASE_SCORE);
    if (q->ref) logps(p, run, q->d.seq, n, q->ref);
    if (q->other) logps(p, run, q->other, n, q->other_ref);
}

/* KTO's z0: the mean of log pi / ref over answers to other prompts, not below 0. q, other_ref:
 * n of them. Collective. */
static double reference_point(const Dpo *p, const Run *run, const Sequence *q, const double *ref,
                              int64_t n) {
    AUTOFREE double *logp = xmalloc((size_t)(n + 1) * sizeof *logp);
    double sum = 0;
    logps(p, run, q, n, logp);
    for (int64_t s = 0; s < n; s++) sum += (logp[s] - ref[s]) / (double)n;
    return fmax(sum, 0);
}

/* --- a step ----------------------------------------------------------------------------------- */

/* The b-th prompt of the step, an item of the set. */
static int64_t prompt(const Dpo *p, int64_t b) {
    return order_stream(p->seed, p->first + b, p->train.d.n);
}

static int64_t item_tokens(void *dpo, int64_t b) {
    const Dataset *d = &((const Dpo *)dpo)->train.d;
    const int64_t i = prompt(dpo, b);
    int64_t n = 0;
    for (int64_t s = d->first[i]; s < d->first[i + 1]; s++) n += d->seq[s].n;
    return n;
}

static int add_item(void *dpo, int64_t b, Batch *batch) {
    const Dataset *d = &((const Dpo *)dpo)->train.d;
    const int64_t i = prompt(dpo, b);
    for (int64_t s = d->first[i]; s < d->first[i + 1]; s++)
        batch_add_response(batch, d->seq[s].tokens, d->seq[s].n, d->seq[s].prompt, 1, 0);
    return 0;
}

/* What a set's sequences first .. first+K-1 are to the loss; logp: of sequence first + k. */
static void answers(const Preferences *p, int64_t first, int64_t K, PrefAnswer *a) {
    for (int64_t k = 0; k < K; k++) {
        const Sequence *q = &p->d.seq[first + k];
        a[k].n = q->n - q->prompt;
        a[k].ref = p->ref ? p->ref[first + k] : 0;
    }
}

/* A micro-batch of the prompts begin .. end-1. */
typedef struct PrefPass {
    Dpo *p;
    Tape *tape;
    int64_t begin, end;
    PrefStats *stats;
} PrefPass;

static double joint_loss(void *pass, int64_t m, const real *logp, double *dlogp) {
    const PrefPass *c = pass;
    const Dpo *p = c->p;
    const Dataset *d = &p->train.d;
    double loss = 0;
    for (int64_t b = c->begin; b < c->end; b++) {
        const int64_t i = prompt(p, b), first = d->first[i], K = d->first[i + 1] - first;
        PrefAnswer *a = tape_alloc(c->tape, (size_t)K * sizeof *a);
        double *da = tape_alloc(c->tape, (size_t)K * sizeof *da);
        answers(&p->train, first, K, a);
        for (int64_t k = 0; k < K; k++) {
            a[k].logp = 0;
            for (int64_t t = 0; t < a[k].n; t++) a[k].logp += (double)*logp++;
        }
        loss += preference_group(&p->o, a, d->rank + first, K, da, c->stats);
        for (int64_t k = 0; k < K; k++)
            for (int64_t t = 0; t < a[k].n; t++) *dlogp++ = p->weight * da[k];
    }
    return loss;
}

static void loss(const Step *s, void *dpo, const Batch *b, int64_t begin, int64_t end,
                 double *sum) {
    Tape *t = s->trainer->tape;
    PrefPass pass = {dpo, t, begin, end, (PrefStats *)sum};
    const GptRows rows = gpt_weighted_rows(t, b);
    gpt_joint_loss(s->trainer->gpt, t, b, &rows, 1, joint_loss, &pass, NULL);
}

/* The prompts of the run's next step. All ranks count the whole step first. */
static Step next_step(Dpo *p, const Run *run, const Schedule *lr) {
    const Config *c = &run->cfg;
    const Dataset *d = &p->train.d;
    Step s = step_begin(&p->trainer, run, lr, "prompts");
    int64_t terms = 0;
    p->first = (c->train_overfit > 0 ? run->step % c->train_overfit : run->step) * c->train_batch;
    for (int64_t b = 0; b < c->train_batch; b++) {
        const int64_t i = prompt(p, b), first = d->first[i];
        terms += preference_terms(&p->o, d->rank + first, d->first[i + 1] - first);
        s.tokens += item_tokens(p, b);
    }
    p->weight = terms > 0 ? 1.0 / (double)terms : 0;
    s.items[0] = (StepItems){{p, item_tokens, add_item}, c->train_batch, loss};
    s.sum = (double *)&p->stats;
    s.nsum = sizeof p->stats / sizeof *s.sum;
    return s;
}

/* KTO's reference point of the step. Collective. */
static void step_reference_point(Dpo *p, const Run *run) {
    const Dataset *d = &p->train.d;
    int64_t n = 0, batch = run->cfg.train_batch;
    for (int64_t b = 0; b < batch; b++) n += d->first[prompt(p, b) + 1] - d->first[prompt(p, b)];
    AUTOFREE Sequence *q = xmalloc((size_t)(n + 1) * sizeof *q);
    AUTOFREE double *ref = xmalloc((size_t)(n + 1) * sizeof *ref);
    n = 0;
    for (int64_t b = 0; b < batch; b++)
        for (int64_t s = d->first[prompt(p, b)]; s < d->first[prompt(p, b) + 1]; s++) {
            q[n] = p->train.other[s];
            ref[n++] = p->train.other_ref[s];
        }
    watchdog_enter(PHASE_SCORE);
    p->o.kl = reference_point(p, run, q, ref, n);
}

/* --- what is reported ------------------------------------------------------------------------- */

/* The names are TRL's; run_metric keeps them. */
#define NAMES(name) \
    { name, "eval/" name }

static void metrics(const Dpo *p, Run *run, bool held_out, const PrefStats *s) {
    const double chosen = s->reward[0] / s->n[0], rejected = s->reward[1] / s->n[1];
    const struct {
        const char *name[2];
        double value;
    } m[] = {{NAMES("rewards/chosen"), chosen},
             {NAMES("rewards/rejected"), rejected},
             {NAMES("rewards/margins"), chosen - rejected},
             {NAMES("rewards/accuracies"), s->correct / s->pairs},
             {NAMES("logps/chosen"), s->logp[0] / s->n[0]},
             {NAMES("logps/rejected"), s->logp[1] / s->n[1]},
             {NAMES("kl"), p->o.kl}};
    const size_t n = sizeof m / sizeof *m - (p->o.loss != DPO_KTO);
    for (size_t i = 0; i < n; i++) run_metric(run, m[i].name[held_out], m[i].value);
}

static void evaluate(Dpo *p, Run *run) {
    const Preferences *h = &p->heldout;
    const int64_t records = run->cfg.eval_records,
                  n = records > 0 && records < h->d.n ? records : h->d.n;
    const int64_t sequences = h->d.first[n];
    PrefStats s = {0};
    AUTOFREE PrefAnswer *a = xcalloc((size_t)sequences + 1, sizeof *a);
    AUTOFREE double *logp = xmalloc((size_t)(sequences + 1) * sizeof *logp);
    watchdog_enter(PHASE_EVAL);
    logps(p, run, h->d.seq, sequences, logp);
    if (h->other) p->o.kl = reference_point(p, run, h->other, h->other_ref, sequences);
    answers(h, 0, sequences, a);
    for (int64_t i = 0; i < sequences; i++) a[i].logp = logp[i];
    for (int64_t i = 0; i < n; i++) {
        const int64_t first = h->d.first[i];
        preference_group(&p->o, a + first, h->d.rank + first, h->d.first[i + 1] - first, NULL, &s);
    }
    run_metric(run, "eval/loss", s.loss / s.terms);
    metrics(p, run, true, &s);
    run_eval_result(run, s.loss / s.terms);
    if (run->main_rank)
        log_info("step %" PRId64 ": held-out accuracy %.4f over %.0f %s, loss %.4f, margin %.3f",
                 run->step + 1, s.correct / s.pairs, s.pairs, h->other ? "answers" : "pairs",
                 s.loss / s.terms, s.reward[0] / s.n[0] - s.reward[1] / s.n[1]);
}

static void report(const Dpo *p, Run *run, Step *step) {
    const PrefStats *s = &p->stats;
    step->sum[0] = s->terms > 0 ? s->loss / s->terms : 0; /* the mean */
    step_report(step, run);
    metrics(p, run, false, s);
    char accuracy[16] = "-"; /* a batch of nothing but ties has none */
    if (s->pairs > 0) snprintf(accuracy, sizeof accuracy, "%.3f", s->correct / s->pairs);
    run_headline(run, "loss %.4f  accuracy %s  lr %.2e", step->sum[0], accuracy, step->lr);
}

/* --- the stage -------------------------------------------------------------------------------- */

static int dry_run(Dpo *p, Run *run) {
    Step step = next_step(p, run, NULL);
    TRY(memory_dry_run(run, &p->plan, &step));
    return opening_show_answers(&p->model, &p->train.d);
}

/* Settings that the loss does not read are mistaken for ones that it does. */
static int check_settings(const Config *c) {
    const int loss = c->dpo_loss;
    if (c->dpo_smoothing > 0 && loss != DPO_SIGMOID && loss != DPO_SIMPO)
        return config_bad(c, "dpo.smoothing", "is for dpo.loss sigmoid and simpo; remove it");
    if (c->dpo_length == LENGTH_SUM && (loss == DPO_SIMPO || loss == DPO_ORPO))
        return config_bad(c, "dpo.length", "simpo and orpo are made of means; expected method");
    return 0;
}

/* Room for what the reference says of the set. */
static void prepare(const Dpo *p, Preferences *s) {
    const size_t n = s->d.n > 0 ? (size_t)s->d.first[s->d.n] : 0;
    if (n > 0 && preference_has_reference(p->o.loss)) s->ref = xcalloc(n, sizeof *s->ref);
    if (n == 0 || p->o.loss != DPO_KTO) return;
    pair_others(s, p->model.cfg.context);
    s->other_ref = xcalloc(n, sizeof *s->other_ref);
}

static void free_set(Preferences *s) {
    dataset_free(&s->d);
    free(s->ref);
    free(s->other);
    free(s->other_ref);
    free(s->tokens);
}

static int open_all(Dpo *p, Run *run) {
    const Config *c = &run->cfg;
    Loaded *m = &p->model;
    p->seed = (uint64_t)c->run_seed;
    p->o = preference_options(c);
    TRY(check_settings(c));
    TRY(opening_parent(run, m, "from.model", LOAD_LANGUAGE));
    TRY(opening_records(run, m, p->o.loss == DPO_KTO ? DATASET_LABELLED : DATASET_RANKED, 0,
                        &p->train.d, &p->heldout.d));
    prepare(p, &p->train);
    prepare(p, &p->heldout);
    p->plan = plan_work(c, &m->cfg);
    plan_records(&p->plan, &p->train.d);
    plan_evaluation(&p->plan, &p->heldout.d, c->eval_records);
    if (preference_has_reference(p->o.loss)) p->plan.first_tokens = (double)p->train.d.tokens;
    TRY(memory_check(run, &p->plan));
    TRY(opening_weights(run, m));
    trainer_open(&p->trainer, m->gpt, run, "");
    run_describe(run, &m->cfg, m->tokenizer, m->tmpl, "params");
    run->steps = plan_steps(c, p->train.d.n);
    return 0;
}

/* The reference's log-probabilities, from the checkpoint if there is one. Collective. */
static int resume(Dpo *p, Run *run) {
    Preferences *s = &p->train;
    const int64_t n = s->d.first[s->d.n];
    if (s->ref) run_keep_doubles(run, "reference_logps", s->ref, n);
    if (s->other) run_keep_doubles(run, "reference_logps_other", s->other_ref, n);
    for (int64_t i = 0; s->ref && i < n; i++) s->ref[i] = (double)NAN;
    for (int64_t i = 0; s->other && i < n; i++) s->other_ref[i] = (double)NAN;
    ask_reference(p, run, &p->heldout);
    TRY(run_resume(run));
    if (run->step == 0) {
        ask_reference(p, run, s);
    } else if ((s->ref && isnan(s->ref[0])) || (s->other && isnan(s->other_ref[0]))) {
        return config_bad(&run->cfg, "dpo.loss",
                          "the run was begun with a loss that reads other log-probabilities of the "
                          "reference; resume with the same one, or choose another run.dir");
    }
    return 0;
}

static int train(Dpo *p, Run *run) {
    TRY(resume(p, run));
    opening_report(run, &p->train.d, run->cfg.train_batch);
    const Schedule schedule = trainer_schedule(run);
    while (run_goes_on(run)) {
        Step step = next_step(p, run, &schedule);
        if (p->train.other) step_reference_point(p, run);
        TRY(step_run(&step, 1));
        report(p, run, &step);
        if (p->heldout.d.n > 0 && run_eval_due(run)) evaluate(p, run);
        TRY(run_step_end(run, step.tokens));
    }
    return 0;
}

static int dpo(Run *run) {
    Dpo p = {0};
    int rc = open_all(&p, run);
    if (rc == 0) rc = run->dry ? dry_run(&p, run) : train(&p, run);
    trainer_close(&p.trainer);
    free_set(&p.train);
    free_set(&p.heldout);
    load_free(&p.model);
    return rc;
}

int main(int argc, char **argv) { return run_main(argc, argv, STAGE_DPO, dpo); }

/* step.c: passes over micro-batches, sums, update. See step.h. */
#include "train/step.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "dist/watchdog.h"

enum { KINDS = sizeof((Step){0}.items) / sizeof(StepItems) };

Step step_begin(Trainer *t, const Run *run, const Schedule *lr, const char *unit) {
    const Config *c = &run->cfg;
    Step s = {.trainer = t,
              .micro_tokens = c->train_micro_tokens,
              .lr = lr ? schedule_lr(lr, run->step) : 0,
              .dropout = c->model_dropout,
              .seed = (uint64_t)c->run_seed,
              .number = run->step};
    snprintf(s.what, sizeof s.what, "step %" PRId64 " (%s %" PRId64 "..)", run->step, unit,
             run->step * c->train_batch);
    return s;
}

static void pass(Step *s, const StepItems *it, int64_t begin, int64_t end, double *sum) {
    Trainer *t = s->trainer;
    watchdog_enter(PHASE_FORWARD);
    it->loss(s, it->v.ctx, &t->batch, begin, end, sum);
    trainer_backward(t);
    batch_clear(&t->batch);
}

/* All passes of virtual rank k. */
static int rank_passes(Step *s, int k, double *sum) {
    Trainer *t = s->trainer;
    int64_t begin[KINDS], end[KINDS];
    int last = -1; /* kind that has items */
    for (int j = 0; j < KINDS; j++) {
        virtual_share(&t->ranks, s->items[j].n, k, &begin[j], &end[j]);
        if (begin[j] < end[j]) last = j;
    }
    for (int j = 0; j <= last; j++) {
        const StepItems *it = &s->items[j];
        for (int64_t i = begin[j]; i < end[j];) {
            const int64_t first = i;
            TRY(batch_fill(&t->batch, &it->v, &i, end[j], s->micro_tokens));
            if (i == end[j] && j < last && it[1].loss == it->loss) break; /* there is room */
            if (i == end[j] && j == last && k + 1 == t->ranks.end) trainer_last_pass(t);
            pass(s, it, first, i, sum);
        }
    }
    return 0;
}

int step_passes(Step *s) {
    VirtualRanks *r = &s->trainer->ranks;
    double *sum = virtual_parts(r, s->nsum);
    batch_clear(&s->trainer->batch);
    for (int k = r->begin; k < r->end; k++) {
        TRY(rank_passes(s, k, sum + k * s->nsum));
        trainer_rank_end(s->trainer);
    }
    return 0;
}

int step_run(Step *s, int n) {
    for (int i = 0; i < n; i++) {
        TRY(step_passes(&s[i])); /* perhaps on this rank only: no collective calls after that */
        if (s[i].trainer->shard == SHARD_GRADIENTS) trainer_finish(s[i].trainer);
    }
    for (int i = 0; i < n; i++) trainer_finish(s[i].trainer);
    for (int i = 0; i < n; i++) {
        Trainer *t = s[i].trainer;
        virtual_sum(&t->ranks, t->comm, s[i].sum);
        if (!s[i].no_loss) t->loss = s[i].sum[0];
        TRY(trainer_update(t, s[i].lr, s[i].what, &s[i].norm));
    }
    return 0;
}

void step_report(const Step *s, Run *run) {
    run_metric(run, "loss", s->sum[0]);
    run_metric(run, "lr", s->lr);
    run_metric(run, "grad_norm", s->norm);
    run_headline(run, "loss %.4f  lr %.2e  |g| %.3f", s->sum[0], s->lr, s->norm);
}

void step_lm(const Step *s, void *ctx, const Batch *b, int64_t begin, int64_t end, double *sum) {
    Tape *t = s->trainer->tape;
    const GptDropout drop = {
        .p = s->dropout, .seed = s->seed, .step = (uint32_t)s->number, .row = b->row};
    real *logp = tape_alloc(t, (size_t)b->n * sizeof *logp);
    gpt_loss(s->trainer->gpt, t, b,
             s->dropout > 0 || s->trainer->gpt->lora.dropout > 0 ? &drop : NULL, logp);
    for (int64_t i = 0; i < b->n && !tape_dry(t); i++)
        sum[0] -= (double)b->weight[i] * (double)logp[i];
}

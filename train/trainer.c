/* trainer.c: gradients in, update out. See trainer.h. */
#include "train/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "dist/fault.h"
#include "dist/watchdog.h"

void trainer_open(Trainer *t, Gpt *gpt, Run *run, const char *prefix) {
    const Config *c = &run->cfg;
    *t = (Trainer){.gpt = gpt,
                   .run = run,
                   .clip = c->optim_clip,
                   .max_skips = c->optim_max_skips,
                   .skip_z = c->optim_skip_zscore};
    adamw_init(&t->adam, &gpt->params, c->optim_beta1, c->optim_beta2, c->optim_eps,
               c->optim_decay);
    t->tape = tape_open(&t->arena, true);
    gpt->recompute = c->train_recompute;
    char name[PARAM_NAME_MAX];
    snprintf(name, sizeof name, "%sparams", prefix);
    run_keep_params(run, name, &gpt->params, gpt->params.data);
    snprintf(name, sizeof name, "%soptimizer", prefix);
    run_keep_adamw(run, name, &gpt->params, &t->adam);
    snprintf(name, sizeof name, "%sskips", prefix);
    run_keep_i64(run, name, &t->skips);
    snprintf(name, sizeof name, "%sspikes", prefix);
    if (t->skip_z > 0) run_keep_doubles(run, name, (double *)&t->spikes, SPIKE_DOUBLES);
}

void trainer_close(Trainer *t) {
    tape_close(&t->tape);
    arena_free(&t->arena);
    adamw_free(&t->adam);
}

Schedule trainer_schedule(const Run *run) {
    const Config *c = &run->cfg;
    return (Schedule){.kind = c->optim_schedule,
                      .peak = c->optim_lr,
                      .end = c->optim_lr_end,
                      .warmup = c->optim_warmup,
                      .warmup_from = c->optim_warmup_from,
                      .steps = run->steps};
}

int trainer_update(Trainer *t, Comm *comm, double lr, const char *what, double *norm) {
    ParamSet *ps = &t->gpt->params;
    double began = run_seconds();
    fault_values("gradient", ps->grad, ps->size);
    watchdog_enter(PHASE_EXCHANGE);
    grad_reduce(ps, comm);
    if (t->run) t->run->exchange_s += run_seconds() - began;
    watchdog_enter(PHASE_UPDATE);
    *norm = grad_norm(ps);
    const bool finite = isfinite(*norm) && isfinite(t->loss), speaks = comm_rank(comm) == 0;
    const double z = spike_score(&t->spikes, t->loss, *norm);
    t->skips = finite ? 0 : t->skips + 1;
    if (!finite && speaks)
        log_warn("the gradient of %s is not finite: this update is skipped, the weights are as "
                 "before (%" PRId64 " in a row, %" PRId64 " allowed)",
                 what, t->skips, t->max_skips);
    const bool spike = finite && t->skip_z > 0 && z > t->skip_z;
    if (spike && speaks)
        log_warn("the loss %.4g or gradient norm %.4g of %s lies %.1f standard deviations above "
                 "the recent ones (optim.skip_zscore: %g): this update is skipped",
                 t->loss, *norm, what, z, t->skip_z);
    if (finite && !spike) adamw_update(&t->adam, ps, lr, clip_scale(*norm, t->clip));
    fault_values("weights", ps->data, ps->size);
    paramset_zero_grad(ps);
    if (t->skips > t->max_skips)
        return error_set(ERR_INTERNAL,
                         "%" PRId64
                         " gradients in a row were not finite, the last of %s; a smaller "
                         "optim.lr or optim.clip may help; the last checkpoint is good",
                         t->skips, what);
    return 0;
}

double trainer_lm(Trainer *t, const Pack *p, double dropout, uint64_t seed, int64_t step) {
    watchdog_enter(PHASE_FORWARD);
    Batch b = pack_batch(p);
    GptDropout drop = {.p = dropout, .seed = seed, .step = (uint32_t)step, .row = p->row};
    double loss = gpt_loss(t->gpt, t->tape, &b, dropout > 0 ? &drop : NULL, NULL);
    tape_backward(t->tape);
    tape_reset(t->tape);
    return loss;
}

/* trainer.c: gradients in, update out. See trainer.h. */
#include "train/trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "dist/fault.h"
#include "dist/watchdog.h"

/* What dist.reproducible means on this number of ranks, where it is not what one expects. */
static void tell_ranks(const VirtualRanks *v, int want, int ranks) {
    if (ranks > want)
        log_info("%d ranks are more than dist.virtual_ranks=%d and count as one each: "
                 "bit-identical %s",
                 ranks, want,
                 ranks & (ranks - 1) ? "on this number of ranks only"
                                     : "on fewer ranks with as many virtual ones");
    else if (v->most * ranks > v->n)
        log_info("%d ranks share %d virtual ranks unevenly and are as fast as %d; "
                 "dist.reproducible=false shares the work evenly, with other rounding",
                 ranks, v->n, v->n / v->most);
}

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
    const int want = c->dist_reproducible ? 1 << c->dist_virtual_ranks : 0;
    virtual_open(&t->ranks, want, run->comm);
    if (want) gpt_part_gradient(gpt);
    if (want && run->main_rank && !*prefix) tell_ranks(&t->ranks, want, comm_size(run->comm));
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
    virtual_close(&t->ranks);
    for (size_t i = 0; i < sizeof t->node / sizeof t->node[0]; i++) free(t->node[i]);
}

/* --- sums over the virtual ranks -------------------------------------------------------------- */

/* Where the gradients of the backward pass go. */
static void lead_to(ParamSet *ps, real *grad) {
    for (int i = 0; i < ps->n; i++) ps->v[i].tensor.grad = grad + ps->v[i].offset;
}

/* to += from, from = 0. */
static void join(int64_t n, real *restrict to, real *restrict from) {
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n; i++) {
        to[i] += from[i];
        from[i] = 0;
    }
}

/* Complete subtrees that wait when `ended` leaves are done: one for each bit. */
static int waiting(int ended) {
    return __builtin_popcount((unsigned)ended);
}

static real *node(Trainer *t, int depth) {
    ParamSet *ps = &t->gpt->params;
    if (depth == 0) return ps->grad;
    if (!t->node[depth]) t->node[depth] = xcalloc((size_t)ps->size, sizeof(real));
    return t->node[depth];
}

void trainer_rank_end(Trainer *t) {
    ParamSet *ps = &t->gpt->params;
    gpt_join_gradient(t->gpt);
    const int leaves = t->ranks.end - t->ranks.begin;
    for (int depth = waiting(t->ended++); depth >= waiting(t->ended); depth--)
        join(ps->size, node(t, depth - 1), node(t, depth));
    t->ended %= leaves;
    if (leaves > 1) lead_to(ps, node(t, waiting(t->ended)));
}

size_t trainer_bytes(const Trainer *t) {
    int64_t each = t->gpt->params.size, n = 4 * each;
    for (int leaves = t->ranks.end - t->ranks.begin; leaves > 1; leaves /= 2) n += each;
    if (t->gpt->embed == &t->gpt->twin) n += tensor_size(t->gpt->embed);
    return (size_t)n * sizeof(real);
}

/* --- the update ------------------------------------------------------------------------------- */

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
    CHECK(t->ended == 0, "an update after %d of %d virtual ranks", t->ended,
          t->ranks.end - t->ranks.begin);
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

void trainer_lm(Trainer *t, const Pack *p, double dropout, uint64_t seed, int64_t step,
                double *loss) {
    watchdog_enter(PHASE_FORWARD);
    Batch b = pack_batch(p);
    GptDropout drop = {.p = dropout, .seed = seed, .step = (uint32_t)step, .row = p->row};
    real *logp = tape_alloc(t->tape, (size_t)b.n * sizeof *logp);
    gpt_loss(t->gpt, t->tape, &b, dropout > 0 ? &drop : NULL, logp);
    for (int64_t i = 0; i < b.n; i++) *loss -= (double)b.weight[i] * (double)logp[i];
    tape_backward(t->tape);
    tape_reset(t->tape);
}

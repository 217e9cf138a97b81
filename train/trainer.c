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

static void part_done(void *trainer, int part);

static void between_ops(void *comm) { exchange_progress_all(comm); }

void trainer_start(Trainer *t, Gpt *gpt, Comm *comm, int shard, const AdamW *adam) {
    *t = (Trainer){.gpt = gpt, .comm = comm, .shard = shard, .unjoined = gpt->params.nparts - 1};
    grads_open(&t->grads, &gpt->params, comm, shard);
    adamw_start(&t->adam, &gpt->params, grads_shard(t->grads), adam);
    t->tape = tape_open(&t->arena, true);
    virtual_open(&t->ranks, 0, comm);
    if (comm_size(comm) == 1) return;
    gpt->part_done = part_done;
    gpt->part_ctx = t;
    tape_between(t->tape, between_ops, comm);
}

void trainer_open(Trainer *t, Gpt *gpt, Run *run, const char *prefix) {
    const Config *c = &run->cfg;
    trainer_start(t, gpt, run->comm, c->dist_shard,
                  &(AdamW){.beta1 = c->optim_beta1,
                           .beta2 = c->optim_beta2,
                           .eps = c->optim_eps,
                           .decay = c->optim_decay,
                           .muon = c->optim_name == OPTIM_MUON,
                           .momentum = c->optim_momentum});
    t->run = run;
    run->exchange_bytes += exchange_bytes(comm_size(run->comm));
    t->clip = c->optim_clip;
    t->max_skips = c->optim_max_skips;
    t->skip_z = c->optim_skip_zscore;
    const int want = c->dist_reproducible ? 1 << c->dist_virtual_ranks : 0;
    virtual_open(&t->ranks, want, run->comm);
    if (want) gpt_split_tied(gpt);
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
    if (t->gpt) t->gpt->part_done = NULL;
    tape_close(&t->tape);
    arena_free(&t->arena);
    batch_free(&t->batch);
    adamw_free(&t->adam);
    grads_close(&t->grads);
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
static int waiting(int ended) { return __builtin_popcount((unsigned)ended); }

static real *node(Trainer *t, int depth) {
    ParamSet *ps = &t->gpt->params;
    if (depth == 0) return ps->grad;
    if (!t->node[depth]) t->node[depth] = xcalloc((size_t)ps->size, sizeof(real));
    return t->node[depth];
}

/* Elements [begin, end) of the leaf that now ends, into the subtrees that it completes. */
static void join_tree(Trainer *t, int64_t begin, int64_t end) {
    for (int depth = waiting(t->ended); depth >= waiting(t->ended + 1); depth--)
        join(end - begin, node(t, depth - 1) + begin, node(t, depth) + begin);
}

/* In the last pass each part goes into the tree, and on to the other ranks, as soon as it is done.
 */
static void part_done(void *trainer, int part) {
    Trainer *t = trainer;
    if (t->shard != SHARD_GRADIENTS) {
        if (!t->last_pass) return;
        const ParamSet *ps = &t->gpt->params;
        if (part == 0) gpt_sum_tied(t->gpt);
        join_tree(t, ps->part[part].offset, paramset_part_end(ps, part));
        t->unjoined = part - 1;
    }
    grads_part_done(t->grads, part);
}

void trainer_rank_end(Trainer *t) {
    ParamSet *ps = &t->gpt->params;
    const int leaves = t->ranks.end - t->ranks.begin;
    if (t->unjoined >= 0) gpt_sum_tied(t->gpt);
    if (leaves > 1 && t->unjoined >= 0) join_tree(t, 0, paramset_part_end(ps, t->unjoined));
    t->ended = (t->ended + 1) % leaves;
    if (leaves > 1) lead_to(ps, node(t, waiting(t->ended)));
}

size_t trainer_tree_bytes(const Gpt *g, int leaves) {
    int64_t n = 0;
    for (; leaves > 1; leaves /= 2) n += g->params.size;
    if (g->embed.grad) n += tensor_size(&g->embed);
    return (size_t)n * sizeof(real);
}

size_t trainer_bytes(const Trainer *t) {
    const OptimBytes b = optim_bytes(&t->gpt->params, t->shard, comm_size(t->comm), t->adam.muon);
    return b.weights + b.gradients + b.moments + b.exchange +
           trainer_tree_bytes(t->gpt, t->ranks.end - t->ranks.begin);
}

size_t trainer_scratch(const Trainer *t) {
    const size_t update = t->adam.muon ? muon_bytes(&t->gpt->params) : 0;
    return update > t->arena.high ? update : t->arena.high;
}

/* --- the update ------------------------------------------------------------------------------- */

Schedule trainer_schedule(const Run *run) {
    const Config *c = &run->cfg;
    if (run->main_rank && c->optim_warmup >= run->steps)
        log_warn("optim.warmup is %" PRId64 " of %" PRId64 " steps: the learning rate gets no "
                 "further than the warm-up",
                 c->optim_warmup, run->steps);
    return (Schedule){.kind = c->optim_schedule,
                      .peak = c->optim_lr,
                      .end = c->optim_lr_end,
                      .warmup = c->optim_warmup,
                      .warmup_from = c->optim_warmup_from,
                      .steps = run->steps};
}

/* The fault point "gradient": before any of this rank's is on its way. What is added later does not
 * make a NaN good. */
static void fault_gradient(Trainer *t) {
    ParamSet *ps = &t->gpt->params;
    if (!t->visited && ps->grad) fault_values("gradient", ps->grad, ps->size);
    t->visited = true;
}

/* The same where there is no gradient of its own (dist.shard: gradients): the sums. */
static void fault_sums(Trainer *t) {
    const Shard *s = grads_shard(t->grads);
    int k = 0;
    while (k + 1 < s->n && s->v[k].begin == s->v[k].end) k++;
    const int64_t n = s->v[k].end - s->v[k].begin;
    if (!t->gpt->params.grad && n > 0) fault_values("gradient", (real *)(uintptr_t)s->v[k].grad, n);
}

void trainer_last_pass(Trainer *t) {
    t->last_pass = true;
    fault_gradient(t);
    grads_last_pass(t->grads);
}

void trainer_backward(Trainer *t) {
    tape_backward(t->tape);
    tape_reset(t->tape);
}

void trainer_finish(Trainer *t) {
    CHECK(t->ended == 0, "an update after %d of %d virtual ranks", t->ended,
          t->ranks.end - t->ranks.begin);
    fault_gradient(t);
    watchdog_enter(PHASE_EXCHANGE);
    grads_finish(t->grads);
}

static void update(Trainer *t, double lr, double scale) {
    ParamSet *ps = &t->gpt->params;
    adamw_begin(&t->adam);
    for (int k = 0; k < ps->nparts; k++) {
        if (t->adam.muon) muon_part(&t->adam, ps, t->grads, &t->arena, k, lr, scale);
        adamw_part(&t->adam, ps, k, lr, scale);
        grads_updated(t->grads, k);
    }
}

int trainer_update(Trainer *t, double lr, const char *what, double *norm) {
    ParamSet *ps = &t->gpt->params;
    trainer_finish(t);
    fault_sums(t);
    watchdog_enter(PHASE_UPDATE);
    *norm = grads_norm(t->grads);
    const bool finite = isfinite(*norm) && isfinite(t->loss), speaks = comm_rank(t->comm) == 0;
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
    if (finite && !spike) update(t, lr, grad_clip_scale(*norm, t->clip));
    grads_end(t->grads);
    fault_values("weights", ps->data, ps->size);
    t->last_pass = t->visited = false;
    t->unjoined = ps->nparts - 1;
    const double waited = grads_waited(t->grads);
    if (t->run) t->run->exchange_s += waited - t->waited;
    t->waited = waited;
    if (t->skips > t->max_skips)
        return error_set(ERR_INTERNAL,
                         "%" PRId64
                         " gradients in a row were not finite, the last of %s; a smaller "
                         "optim.lr or optim.clip may help; the last checkpoint is good",
                         t->skips, what);
    return 0;
}

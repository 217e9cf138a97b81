/* plan.c: formulas for memory, messages and time. See plan.h.
 *
 * Memory of activations, in vectors of one token and C elements, as core's ops keep them: 10 a
 * layer and 7 beside them in the forward pass; 6 more at the height of the backward pass. With
 * recompute 2 a layer and 10, then 16 for the layer at hand. tests/train/test_plan.c compares with
 * the arena of a real step.
 *
 * Time. A rank does its share of the items, rounded up, in micro-batches; each costs its FLOPs at
 * the measured rate and, for the gradients of the weights, time in proportion to the model. Then
 * the ordered sum, the norm and AdamW. Nothing waits for anything else. */
#include "train/plan.h"

#include <math.h>

#include "base/config.h"
#include "base/error.h"
#include "core/gemm.h"
#include "core/param.h"
#include "dist/exchange.h"

enum { UPDATE_ARRAYS = 9 }; /* norm: g; AdamW: w g m v to w m v; clearing: g */
static const double mib = 1024.0 * 1024.0;

/* The program with its libraries, MiB, measured: peak of short runs less what is known. */
static const double program_alone = 22, program_mpi = 31, program_thread = 0.5;

/* As ckpt_save_memory counts: two windows of 32 stretches of a MiB and a little, of which several
 * ranks send rank 0 what is left when they are packed; the file; packing in a thread. */
static const double save_window = 33.0 * (1 << 20), save_packed = 0.85, save_file = 4.0 * (1 << 20),
                    save_thread = 3.0 * (1 << 20);

const char *plan_shard_name(PlanShard s) {
    static const char *const names[PLAN_SHARDS] = {"none", "optimizer", "gradients"};
    return names[s];
}

PlanWork plan_work(const Config *c) {
    const bool ppo = c->stage == STAGE_PPO;
    PlanWork w = {.stage = c->stage,
                  .items = (double)(ppo ? c->ppo_batch : c->train_batch),
                  .sequences = 1,
                  .micro_tokens = c->train_micro_tokens,
                  .shard = (PlanShard)c->dist_shard,
                  .virtual_ranks = c->dist_reproducible ? (int64_t)1 << c->dist_virtual_ranks : 0,
                  .recompute = c->train_recompute,
                  .dropout = c->model_dropout > 0,
                  .packed = c->save_compression == COMPRESS_ZSTD};
    if (ppo) {
        w.longest = c->ppo_max_response;
        w.response = (double)w.longest;
        w.minibatches = c->ppo_minibatches;
        w.epochs = c->ppo_epochs;
        w.ema = c->ppo_ema > 0;
        if (c->ptx_coef > 0) w.windows = c->ptx_ratio * w.items / (double)w.minibatches;
    }
    return w;
}

static GptConfig with_head(GptConfig cfg) {
    cfg.scalar_head = true;
    cfg.untied = false;
    return cfg;
}
/* PPO's critic and reward model are taken to be as large as the policy. */
static GptConfig trained(const PlanWork *w) {
    return w->stage == STAGE_REWARD ? with_head(w->model) : w->model;
}

int64_t plan_parameters(const PlanWork *w) {
    const GptConfig m = trained(w), critic = with_head(w->model);
    return arch_count(&m) + (w->stage == STAGE_PPO ? arch_count(&critic) : 0);
}

/* --- FLOPs ------------------------------------------------------------------------------------ */

/* Blocks, forward: n tokens in sequences of t. A sequence attends to t (t+1) / 2 pairs. All but
 * `rows` of them need no more of the last block than keys and values. */
static double trunk_flops(const GptConfig *g, double n, double rows, double t) {
    const double C = (double)g->width, L = (double)g->layers, attend = 2 * C * (t + 1);
    return n * L * (24 * C * C + attend) - (n - rows) * (20 * C * C + attend);
}
static double head_flops(const GptConfig *g, double rows) {
    return 2 * (double)g->vocab * (double)g->width * rows;
}
/* Of n tokens of items those whose hidden states the loss reads. */
static double active_of(const PlanWork *w, double n) {
    return w->response > 0 ? n * w->response / w->length : n;
}
static double train_flops(const PlanWork *w, double n) {
    const GptConfig g = trained(w);
    return gpt_train_flops(&g, n, active_of(w, n), w->length);
}
static double window_flops(const PlanWork *w, double windows) {
    const double n = windows * w->window;
    return gpt_train_flops(&w->model, n, n, w->window);
}

/* PPO, for e episodes: what one rank samples, scores, and trains on in one inner epoch. */
static double rollout_flops(const PlanWork *w, double e) {
    return trunk_flops(&w->model, e * (w->length - 1), e * w->response, w->length - 1) +
           head_flops(&w->model, e * w->response);
}
static double scoring_flops(const PlanWork *w, double e) {
    return 3 * trunk_flops(&w->model, e * w->length, e * w->response, w->length) +
           trunk_flops(&w->model, e * w->length, e, w->length) +
           2 * head_flops(&w->model, e * w->response);
}
static double episodes_flops(const PlanWork *w, double e) {
    return 3 * (2 * trunk_flops(&w->model, e * w->length, e * w->response, w->length) +
                head_flops(&w->model, e * w->response));
}

double plan_flops(const PlanWork *w, double part[3]) {
    double p[3] = {0};
    if (w->stage == STAGE_PPO) {
        const double epochs = (double)w->epochs, updates = epochs * (double)w->minibatches;
        p[0] = rollout_flops(w, w->items);
        p[1] = scoring_flops(w, w->items);
        p[2] = epochs * episodes_flops(w, w->items) + updates * window_flops(w, w->windows);
    } else {
        p[2] = train_flops(w, w->items * w->sequences * w->length) + window_flops(w, w->windows);
    }
    for (int i = 0; part && i < 3; i++) part[i] = p[i];
    return p[0] + p[1] + p[2];
}

/* --- shares ----------------------------------------------------------------------------------- */

/* The largest share of n items: comm_share's. */
static double share(double n, int64_t ranks) {
    return n >= 1 ? ceil(n / (double)ranks - 1e-9) : n / (double)ranks;
}

int64_t plan_leaves(int64_t virtual_ranks, int64_t ranks) {
    if (ranks == 1) return virtual_ranks > 0 ? virtual_ranks : 1;
    if (virtual_ranks < ranks) return 1;
    int64_t left = 1; /* as dist/virtual.c divides them */
    while (2 * left < ranks) left *= 2;
    const int64_t a = plan_leaves(virtual_ranks / 2, left),
                  b = plan_leaves(virtual_ranks / 2, ranks - left);
    return a > b ? a : b;
}

/* With sharded gradients each rank is one (there is no whole gradient to put aside). */
static int64_t virtual_ranks(const PlanWork *w, const PlanLayout *l) {
    return l->shard == PLAN_SHARD_GRADIENTS && l->ranks > 1 ? 0 : w->virtual_ranks;
}
static int64_t leaves_of(const PlanWork *w, const PlanLayout *l) {
    return l->leaves > 0 ? l->leaves : plan_leaves(virtual_ranks(w, l), l->ranks);
}
/* The share of n items of a virtual rank (the first has most), and of all those of a rank. */
static double leaf_share(const PlanWork *w, const PlanLayout *l, double n) {
    const int64_t v = virtual_ranks(w, l), leaves = v > l->ranks ? v : l->ranks;
    if (l->leaves == 0 || n < 1) return share(n, leaves);
    const double each = floor(n / (double)leaves); /* comm_share's */
    return each + ((double)l->leaf < n - each * (double)leaves);
}
static double rank_share(const PlanWork *w, const PlanLayout *l, double n) {
    return fmin((double)leaves_of(w, l) * leaf_share(w, l, n), fmax(n, 0));
}

static int64_t micro_of(const PlanWork *w, const PlanLayout *l) {
    return l->micro_tokens > 0 ? l->micro_tokens : w->micro_tokens;
}

/* Tokens of a full micro-batch of items that have `length` tokens, of which a rank has `items`. */
static double micro_batch(double micro, double items, double length) {
    if (items <= 0) return 0;
    const double fit = fmax(floor(micro / length), 1);
    return fmin(fit, fmax(items, 1)) * length;
}
static double micro_batches(double micro, double items, double length) {
    return items > 0 ? fmax(ceil(items / fmax(floor(micro / length), 1) - 1e-9), 1) : 0;
}

/* Items between two optimizer steps, and their tokens. PPO: episodes of a minibatch. */
static double step_items(const PlanWork *w) {
    return w->stage == STAGE_PPO ? ceil(w->items / (double)w->minibatches) : w->items;
}
static double item_tokens(const PlanWork *w) { return w->sequences * w->length; }
/* Micro-batches of a rank between two optimizer steps: of items, and of windows. */
static double item_micros(const PlanWork *w, const PlanLayout *l) {
    return (double)leaves_of(w, l) *
           micro_batches((double)micro_of(w, l), leaf_share(w, l, step_items(w)), item_tokens(w));
}
static double window_micros(const PlanWork *w, const PlanLayout *l) {
    return fmin((double)leaves_of(w, l), ceil(w->windows)) *
           micro_batches((double)micro_of(w, l), leaf_share(w, l, w->windows), w->window);
}

/* --- memory ----------------------------------------------------------------------------------- */

static int64_t padded(int64_t n) { return (n + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN; }
static int64_t embedding_size(const GptConfig *c) {
    return padded(c->vocab * c->width) + padded(c->context * c->width);
}
static int64_t layer_size(const GptConfig *c) {
    const int64_t C = c->width;
    const int64_t bias = padded(3 * C) + 4 * padded(C) + padded(4 * C);
    return 2 * padded(C) + padded(3 * C * C) + padded(C * C) + 2 * padded(4 * C * C) +
           (c->bias ? bias : 0);
}

int64_t plan_flat_size(const GptConfig *c) {
    const int64_t C = c->width;
    return embedding_size(c) + c->layers * layer_size(c) + (1 + c->bias) * padded(C) +
           c->untied * padded(c->vocab * C) + c->scalar_head * (padded(C) + padded(1));
}

static PlanState state_of(const GptConfig *c, int64_t ranks, PlanShard s, int64_t v,
                          int64_t leaves) {
    const double full = (double)plan_flat_size(c) * (double)sizeof(real);
    const double R = s == PLAN_SHARD_NONE ? 1 : (double)ranks;
    PlanState p = {full, full, 2 * full / R};
    if (s != PLAN_SHARD_GRADIENTS || ranks == 1) {
        for (; leaves > 1; leaves /= 2) p.gradients += full;
        if (v > 0 && !c->untied && !c->scalar_head)
            p.gradients += (double)(c->vocab * c->width) * (double)sizeof(real);
        return p;
    }
    const double whole = (double)(embedding_size(c) + 2 * layer_size(c)) * (double)sizeof(real);
    p.gradients = fmin(full / R + whole, full);
    return p;
}

PlanState plan_state(const GptConfig *c, int64_t ranks, PlanShard s, int64_t v) {
    return state_of(c, ranks, s, v, plan_leaves(v, ranks));
}

/* The arrays of one block of the language model's loss (core/op_loss.c), the packed panel of its
 * products (core/gemm.c). */
static double loss_bytes(const GptConfig *c, double n, double active) {
    const double V = (double)c->vocab, C = (double)c->width;
    const double rows = fmin(fmin(fmax(floor((1 << 20) / V), 2 * GEMM_ROWS), 2048), active);
    const double panel = fmin(V, 2048) * fmin(C, 512);
    return (rows * (V + 8) + panel) * (double)sizeof(real) + 20 * n;
}

double plan_activation_bytes(const GptConfig *c, double n, double active, bool recompute,
                             bool dropout) {
    const double L = (double)c->layers, C = (double)c->width, masks = dropout ? 0.25 : 0;
    const double sums = (double)c->heads + 4; /* of softmax and norms, a layer and token */
    double kept = recompute ? (2 * L + 10) * C + sums : (10 * L + 7) * C + L * sums;
    if (active < n) kept += C; /* the rows of attention's output that go on, in the room of all */
    kept += masks * (2 * L + 1) * C;
    double backward = 6 * C;
    if (recompute) backward = (L > 1 ? 16 : 10) * C + L * (sums + 2 * masks * C);
    const double panel = fmin(4 * C, 2048) * fmin(n, 512); /* of the gradient of a weight */
    const double loss = c->scalar_head ? 0 : loss_bytes(c, n, active);
    return n * kept * (double)sizeof(real) +
           fmax((n * backward + panel) * (double)sizeof(real), loss);
}

double plan_scoring_bytes(const GptConfig *c, double n, double active) {
    return 11 * n * (double)c->width * (double)sizeof(real) +
           (c->scalar_head ? 0 : loss_bytes(c, n, active));
}

/* Sequences that are decoded at once, and the bytes a sequence's keys and values take, as in
 * model/decode.c. */
static double slot_bytes(const PlanWork *w) {
    const double positions =
        32 *
        ceil(fmin(w->length - w->response + (double)w->longest, (double)w->model.context) / 32);
    const double head = (double)(w->model.width / w->model.heads);
    return (double)(w->model.layers * w->model.heads) * positions * (head + 16 * ceil(head / 16)) *
           (double)sizeof(real);
}
static double slots(const PlanWork *w, const PlanLayout *l) {
    const double fit = fmax(floor((1 << 30) / slot_bytes(w)), 1);
    return fmin(fmin(16 * (double)l->threads, fit), share(w->items, l->ranks));
}
static double packed_bytes(const GptConfig *c) {
    const double C = (double)c->width;
    return (12 * (double)c->layers * C * C + (double)c->vocab * C) * (double)sizeof(real);
}

/* Policy and critic are held through the iteration with their largest micro-batch; sampling and
 * scoring come beside them, one after the other. */
static void ppo_memory(const PlanWork *w, const PlanLayout *l, PlanMemory *m) {
    const GptConfig critic = with_head(w->model);
    const double policy_size = (double)plan_flat_size(&w->model),
                 critic_size = (double)plan_flat_size(&critic), byte = (double)sizeof(real);
    const double micro = (double)micro_of(w, l);
    const double n = micro_batch(micro, leaf_share(w, l, step_items(w)), w->length);
    const double active = n * w->response / w->length;
    m->frozen = (policy_size * (1 + w->ema) + critic_size) * byte;
    double policy = plan_activation_bytes(&w->model, n, active, w->recompute, false);
    if (w->windows > 0) {
        const double k = micro_batch(micro, leaf_share(w, l, w->windows), w->window);
        policy = fmax(policy, plan_activation_bytes(&w->model, k, k, w->recompute, false));
    }
    const double critics = plan_activation_bytes(&critic, n, active, w->recompute, false);
    m->activations = fmax(policy, packed_bytes(&w->model)) + critics;
    const double rows = fmax(slots(w, l), fmin((8 << 20) / (12 * (double)w->model.width),
                                               share(w->items, l->ranks) * w->length));
    const double passes = 11 * rows * (double)w->model.width * byte +
                          slots(w, l) * (double)(w->model.vocab + w->model.width) * byte;
    /* Scoring is shared among the ranks, not the virtual ones, so its micro-batches are fuller. */
    const double scored = micro_batch(micro, share(step_items(w), l->ranks), w->length);
    m->decoding = fmax(slots(w, l) * slot_bytes(w) + passes,
                       plan_scoring_bytes(&w->model, scored, scored * w->response / w->length));
}

void plan_memory(const PlanWork *w, const PlanLayout *l, PlanMemory *m) {
    *m = (PlanMemory){0};
    const GptConfig cfg = trained(w), critic = with_head(w->model);
    const int64_t v = virtual_ranks(w, l);
    const int64_t leaves = leaves_of(w, l);
    const PlanState state = state_of(&cfg, l->ranks, l->shard, v, leaves),
                    second = state_of(&critic, l->ranks, l->shard, v, leaves);
    const double two = w->stage == STAGE_PPO;
    m->weights = state.weights + two * second.weights;
    m->gradients = state.gradients + two * second.gradients;
    m->moments = state.moments + two * second.moments;
    if (w->stage == STAGE_PPO) {
        ppo_memory(w, l, m);
    } else {
        const double micro = (double)micro_of(w, l);
        double n = micro_batch(micro, leaf_share(w, l, step_items(w)), item_tokens(w));
        /* Windows of pretraining text fill the last micro-batch up. */
        const double more = fmin(leaf_share(w, l, w->windows), ceil(w->windows));
        n = fmin(n + more * w->window, fmax(n, micro));
        const double active = active_of(w, n);
        m->activations = plan_activation_bytes(&cfg, n, active, w->recompute, w->dropout);
        n = fmin(w->eval_tokens / (double)l->ranks, micro_batch(micro, micro, w->length));
        if (n > 0) m->evaluation = plan_scoring_bytes(&cfg, n, active_of(w, n));
    }
    m->exchange = (1 + two) * (double)exchange_bytes((int)l->ranks, sizeof(real));
    m->program =
        ((l->ranks > 1 ? program_mpi : program_alone) + program_thread * (double)l->threads) * mib;
    const double saved = m->weights + 2 * (state.weights + two * second.weights);
    m->save = 2 * fmin(saved, save_window) * (w->packed && l->ranks > 1 ? save_packed : 1) +
              save_file + w->packed * (double)l->threads * save_thread;
    m->total = m->weights + m->gradients + m->moments + m->frozen + m->activations +
               fmax(fmax(m->decoding, m->evaluation), m->save) + m->exchange + m->program;
}

/* --- messages --------------------------------------------------------------------------------- */

/* Optimizer steps of a step of the run, and the bytes of the weights that each updates. */
static double updates(const PlanWork *w) {
    return w->stage == STAGE_PPO ? (double)(w->epochs * w->minibatches) : 1;
}
static double trained_bytes(const PlanWork *w) {
    return (double)plan_parameters(w) * (double)sizeof(real);
}

/* How often a half of the ordered sum is done for an update. */
static double halves(const PlanWork *w, const PlanLayout *l) {
    return 1 + (l->shard == PLAN_SHARD_GRADIENTS ? fmax(item_micros(w, l) + window_micros(w, l), 1)
                                                 : 1);
}

double plan_exchange_bytes(const PlanWork *w, const PlanLayout *l) {
    const double R = (double)l->ranks;
    return updates(w) * halves(w, l) * trained_bytes(w) * (R - 1) / R;
}

static double half_seconds(double bytes, const PlanLayout *l, const PlanNet *n) {
    const double R = (double)l->ranks, r = fmin(R, (double)l->per_node);
    if (R <= 1) return 0;
    const double rounds = ceil(bytes / PLAN_ROUND_BYTES),
                 each = bytes / R; /* to every other rank */
    const double latency = R > r ? n->latency : n->node_latency;
    double seconds = rounds * (R - 1) * latency + r * (r - 1) * each / n->node_bandwidth;
    if (R > r) seconds += r * (R - r) * each / n->bandwidth;
    return seconds;
}

double plan_sum_seconds(double bytes, const PlanLayout *l, const PlanNet *n) {
    return 2 * half_seconds(bytes, l, n);
}

/* --- time ------------------------------------------------------------------------------------- */

/* Rates of a rank with l->threads threads: in proportion, where another number was measured. */
static PlanRates scaled(const PlanRates *r, int64_t threads) {
    const double k = (double)threads / (double)r->threads;
    return (PlanRates){threads,       r->train * k,       r->micro * k, r->forward * k,
                       r->update * k, r->decode_read * k, r->decode * k};
}

/* Weights are packed once; then a pass for every token of the longest response, or of as many
 * responses as follow each other in a slot. */
static double rollout_seconds(const PlanWork *w, const PlanLayout *l, const PlanRates *r) {
    const double e = share(w->items, l->ranks), waiting = e / slots(w, l);
    const double passes =
        fmax((double)w->longest, waiting * w->response + ((double)w->longest - w->response) / 2);
    const double weights = packed_bytes(&w->model);
    return 2 * weights / r->update + passes * weights / r->decode_read +
           rollout_flops(w, e) / r->decode;
}

void plan_time(const PlanWork *w, const PlanLayout *l, const PlanRates *measured, const PlanNet *n,
               PlanTime *t) {
    const PlanRates r = scaled(measured, l->threads);
    const double items = rank_share(w, l, step_items(w)), windows = rank_share(w, l, w->windows);
    const double each = w->stage == STAGE_PPO ? 2 : 1; /* models in a micro-batch of items */
    const double again = w->recompute ? 4.0 / 3 : 1;
    const double byte = trained_bytes(w), model = byte / each;
    const double micros = each * item_micros(w, l) + window_micros(w, l);
    double flops = window_flops(w, windows);
    if (w->stage == STAGE_PPO)
        flops += episodes_flops(w, items);
    else
        flops += train_flops(w, items * item_tokens(w));
    *t = (PlanTime){0};
    if (w->stage == STAGE_PPO) {
        t->rollout = rollout_seconds(w, l, &r);
        t->scoring = scoring_flops(w, share(w->items, l->ranks)) / r.forward;
        t->exchange = plan_sum_seconds(4 * 4 * w->items * w->response, l, n);
    }
    const double compute = flops * again / r.train + micros * model / r.micro;
    const double slice = l->shard == PLAN_SHARD_NONE ? 1 : 1 / (double)l->ranks;
    const double exchange = halves(w, l) * half_seconds(byte, l, n);
    /* The gradient is final in the last micro-batch; two thirds of its time is the way back. */
    const double last = micros > 0 ? compute / micros * each * 2 / 3 : 0;
    const double hidden = fmin(n->overlap * last, exchange);
    t->compute = updates(w) * compute;
    /* A virtual rank's gradient joins another's: two arrays read and both written. */
    const double joins = (double)(leaves_of(w, l) - 1) * 4;
    t->update = updates(w) * (UPDATE_ARRAYS * slice + joins) * byte / r.update;
    t->exposed = t->exchange + updates(w) * (exchange - hidden);
    t->exchange += updates(w) * exchange;
    t->step = t->rollout + t->scoring + t->compute + t->update + t->exposed;
}

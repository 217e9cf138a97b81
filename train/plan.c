/* plan.c: memory, messages and time. See plan.h.
 *
 * Memory of activations is that of the stage's loss on a dry tape (core/tape.h): the largest
 * micro-batch goes forward and backward through a model that takes no memory, and the arena counts.
 * What else a rank holds is asked of whoever allocates it.
 *
 * Time. A rank does its share of the items, rounded up, in micro-batches; each costs its FLOPs at
 * the measured rate and, for the gradients of the weights, time in proportion to the model. Then
 * the ordered sum, the norm and AdamW. Nothing waits for anything else. */
#include "train/plan.h"

#include <limits.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>

#include "base/error.h"
#include "checkpoints/checkpoint.h"
#include "model/decode.h"
#include "train/step.h"

enum { UPDATE_ARRAYS = 9 }; /* norm: g; AdamW: w g m v to w m v; clearing: g */
static const double mib = 1024.0 * 1024.0;

/* The program with its libraries, MiB, measured: peak of short runs less what is known. */
static const double program_alone = 17.7, program_mpi = 27, program_thread = 0.5;

const char *plan_shard_name(int shard) {
    static const char *const names[PLAN_SHARDS] = {"none", "optimizer", "gradients"};
    return names[shard];
}

void plan_values(const Step *s, void *ctx, const Batch *b, int64_t begin, int64_t end,
                 double *sum) {
    const GptRows rows = gpt_weighted_rows(s->trainer->tape, b);
    gpt_values(s->trainer->gpt, s->trainer->tape, b, &rows);
}

void plan_net(PlanWork *w, const GptConfig *cfg, StepLoss *loss, void *ctx) {
    CHECK(w->nets < PLAN_MODELS, "%d networks", w->nets);
    w->net[w->nets++] = (PlanModel){.cfg = *cfg, .loss = loss, .ctx = ctx, .saved = loss != NULL};
}

PlanWork plan_work(const Config *c, const GptConfig *model) {
    PlanWork w = {.stage = c->stage,
                  .model = *model,
                  .items = (double)c->train_batch,
                  .sequences = 1,
                  .micro_tokens = c->train_micro_tokens,
                  .shard = c->dist_shard,
                  .virtual_ranks = c->dist_reproducible ? (int64_t)1 << c->dist_virtual_ranks : 0,
                  .recompute = c->train_recompute,
                  .dropout = c->model_dropout > 0,
                  .muon = c->optim_name == OPTIM_MUON,
                  .lora = lora_of_config(c),
                  .half = c->model_weights == WEIGHTS_BF16,
                  .learn_all = c->data_loss_on == LOSS_ON_ALL,
                  .packed = c->save_compression == COMPRESS_ZSTD};
    plan_net(&w, model, model->scalar_head ? plan_values : step_lm, NULL);
    return w;
}

void plan_records(PlanWork *w, const Dataset *d) {
    const double n = (double)d->first[d->n];
    if (d->n == 0) return;
    w->sequences = n / (double)d->n;
    w->length = (double)d->tokens / n;
    if (d->kind == DATASET_PROMPTS) return;
    if (w->model.scalar_head) { /* the last token's reward */
        w->response = 1;
        return;
    }
    w->response = w->learn_all ? w->length - 1 : 0;
    for (int64_t i = 0; !w->learn_all && i < d->first[d->n]; i++)
        for (int64_t t = 1; t < d->seq[i].n; t++) w->response += (d->seq[i].learn[t] != 0) / n;
}

void plan_evaluation(PlanWork *w, const Dataset *d, int64_t records) {
    if (d->n > 0) w->eval_tokens = (double)d->tokens;
    if (records > 0 && records < d->n) w->eval_tokens *= (double)records / (double)d->n;
}

void plan_mix(PlanWork *w, double ratio) {
    w->windows = ratio / (1 - ratio) * w->items * w->length / w->window;
}

int64_t plan_steps(const Config *c, int64_t n) {
    if (config_has_episodes(c->stage)) return (c->ppo_episodes + c->ppo_batch - 1) / c->ppo_batch;
    if (c->train_steps > 0 || n == 0) return c->train_steps;
    const double steps = c->train_epochs * (double)n / (double)c->train_batch;
    const int64_t whole = (int64_t)(c->stage == STAGE_PRETRAIN ? steps + 0.5 : ceil(steps - 1e-9));
    return whole < 1 ? 1 : whole;
}

int64_t plan_parameters(const PlanWork *w) {
    int64_t n = 0;
    for (int i = 0; i < w->nets; i++)
        if (w->net[i].loss) n += arch_count(&w->net[i].cfg);
    return n;
}

/* Networks that learn. */
static double learners(const PlanWork *w) {
    int n = 0;
    for (int i = 0; i < w->nets; i++) n += w->net[i].loss != NULL;
    return n;
}

/* --- FLOPs ------------------------------------------------------------------------------------ */

/* Of n tokens of items those whose hidden states the loss reads. */
static double active_of(const PlanWork *w, double n) {
    return w->response > 0 ? n * w->response / w->length : n;
}
/* Forward and backward of items of n tokens: the networks that learn, in one inner epoch. */
static double train_flops(const PlanWork *w, double n) {
    double flops = 0;
    for (int i = 0; i < w->nets; i++)
        if (w->net[i].loss) flops += gpt_train_flops(&w->net[i].cfg, n, active_of(w, n), w->length);
    return flops;
}
static double window_flops(const PlanWork *w, double windows) {
    const double n = windows * w->window;
    return gpt_train_flops(&w->model, n, n, w->window);
}

/* Forward is a third of that. PPO, for e episodes: what one rank samples (all tokens but the last
 * go through the policy), and scores, by every network but the moving average. */
static double rollout_flops(const PlanWork *w, double e) {
    const double T = w->length - 1;
    return gpt_train_flops(&w->model, e * T, e * w->response, T) / 3;
}
static double scoring_flops(const PlanWork *w, double e) {
    double flops = 0;
    for (int i = 0; i < w->nets; i++)
        if (w->net[i].loss || !w->net[i].saved)
            flops += gpt_train_flops(&w->net[i].cfg, e * w->length, e * w->response, w->length) / 3;
    return flops;
}

double plan_flops(const PlanWork *w, double part[3]) {
    double p[3] = {0};
    if (config_has_episodes(w->stage)) {
        const double epochs = (double)w->epochs, updates = epochs * (double)w->minibatches;
        p[0] = rollout_flops(w, w->items);
        p[1] = scoring_flops(w, w->items);
        p[2] =
            epochs * train_flops(w, w->items * w->length) + updates * window_flops(w, w->windows);
    } else {
        p[2] = train_flops(w, w->items * w->sequences * w->length) + window_flops(w, w->windows);
    }
    for (int i = 0; part && i < 3; i++) part[i] = p[i];
    return p[0] + p[1] + p[2];
}

/* Newton-Schulz of a model's hidden matrices (optim/muon.c). */
static double muon_flops(const GptConfig *g) {
    double flops = 0;
    for (ArchParam p = {0}; arch_next(g, &p);) {
        if (p.matrices == 0) continue;
        for (int k = 0; k < p.matrices; k++) {
            const int64_t others =
                (p.shape[0] - p.first_rows) / (p.matrices > 1 ? p.matrices - 1 : 1);
            const double rows = (double)(k ? others : p.first_rows), cols = (double)p.shape[1];
            const double n = fmin(rows, cols);
            flops += 5 * (4 * n * rows * cols + 2 * n * n * n);
        }
    }
    return flops;
}

/* --- shares ----------------------------------------------------------------------------------- */

/* The largest share of n items: comm_share's. */
static double share(double n, int64_t ranks) {
    return n >= 1 ? ceil(n / (double)ranks - 1e-9) : n / (double)ranks;
}

/* With sharded gradients each rank is one (there is no whole gradient to put aside). */
static int64_t virtual_ranks(const PlanWork *w, const PlanLayout *l) {
    return l->shard == SHARD_GRADIENTS && l->ranks > 1 ? 0 : w->virtual_ranks;
}
static int64_t leaves_of(const PlanWork *w, const PlanLayout *l) {
    return l->leaves > 0 ? l->leaves : virtual_most((int)virtual_ranks(w, l), l->ranks);
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

/* Optimizer steps of a step of the run. */
static double updates(const PlanWork *w) {
    return config_has_episodes(w->stage) ? (double)(w->epochs * w->minibatches) : 1;
}
/* Items between two optimizer steps, and their tokens. PPO: episodes of a minibatch. */
static double step_items(const PlanWork *w) {
    return config_has_episodes(w->stage) ? ceil(w->items / (double)w->minibatches) : w->items;
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

typedef struct Model {
    Gpt *gpt;  /* dry */
    Gpt *base; /* frozen, of adapters; NULL: none */
    OptimBytes state;
} Model;

/* A frozen network that is adapters: PPO's moving average of them, a reward model on the policy's
 * base. */
static bool frozen_adapters(const PlanModel *p, const PlanWork *w) {
    return w->lora.rank > 0 && (p->saved || (w->one_base && p->cfg.scalar_head));
}

/* Is the base of adapters a frozen network of its own: the reference, the reward model? */
static bool base_counts(const PlanModel *p, const PlanWork *w) {
    for (int i = 0; i < w->nets; i++)
        if (!w->net[i].loss && !w->net[i].saved && w->net[i].cfg.scalar_head == p->cfg.scalar_head)
            return false;
    return true;
}

static Model open_model(const PlanModel *p, const PlanWork *w, const PlanLayout *l) {
    const int ranks = (int)fmin((double)l->ranks, INT_MAX);
    const bool adapters = w->lora.rank > 0 && (p->loss || frozen_adapters(p, w));
    Model m = {0};
    int rc = w->half && (adapters || !(p->loss || p->saved)) ? gpt_open_half(&m.gpt, &p->cfg, true)
                                                             : gpt_open_dry(&m.gpt, &p->cfg);
    if (rc >= 0 && adapters) {
        m.base = m.gpt;
        paramset_drop_grad(&m.base->params);
        rc = lora_open(&m.gpt, m.base, &w->lora, p->cfg.scalar_head, true);
    }
    CHECK(rc >= 0, "%s", error_message());
    m.gpt->recompute = w->recompute;
    if (virtual_ranks(w, l) > 0) gpt_split_tied(m.gpt);
    m.state = optim_bytes(&m.gpt->params, l->shard, ranks, w->muon);
    m.state.gradients += trainer_tree_bytes(m.gpt, (int)leaves_of(w, l));
    return m;
}

/* n tokens in sequences of `length`, of which the loss reads `active`, the last ones of each. */
static void fill(Batch *b, const GptConfig *cfg, double n, double length, double active) {
    const int64_t tokens = (int64_t)fmax(n + 0.5, 1), read = (int64_t)fmax(active + 0.5, 1),
                  fewest = (tokens + cfg->context - 1) / cfg->context,
                  about = (int64_t)(n / length + 0.5), S = about > fewest ? about : fewest;
    AUTOFREE int32_t *zeros = xcalloc((size_t)(tokens / S) + 2, sizeof *zeros);
    for (int64_t s = 0; s < S; s++) {
        const int64_t len = tokens * (s + 1) / S - tokens * s / S;
        const int64_t tail = read * (s + 1) / S - read * s / S;
        if (active >= n || len < 2)
            batch_add_window(b, zeros, len, 1, (uint64_t)s);
        else
            batch_add_response(b, zeros, len, tail < len ? len - tail : 1, 1, (uint64_t)s);
    }
}

enum { DRY_TOKENS = 1 << 18 /* at most in a dry pass, whose batch is real */ };

/* High-water mark of the arena of n tokens: with a loss forward and backward, else a forward pass
 * for scores. Of more than a dry pass takes, each sequence more costs what one of the second half
 * does. */
static double pass_bytes(const Model *m, StepLoss *loss, void *ctx, const PlanWork *w, double n,
                         double length, double active) {
    if (n > DRY_TOKENS) {
        const double part = DRY_TOKENS / n;
        const double whole = pass_bytes(m, loss, ctx, w, DRY_TOKENS, length, active * part);
        const double half = pass_bytes(m, loss, ctx, w, DRY_TOKENS / 2, length, active * part / 2);
        return whole + (whole - half) * (n - DRY_TOKENS) / (DRY_TOKENS / 2);
    }
    Arena arena = {.dry = true};
    Trainer t = {.gpt = m->gpt, .tape = tape_open(&arena, loss != NULL)};
    const Step step = {.trainer = &t, .dropout = loss && w->dropout ? 0.1 : 0};
    double sum[STEP_SUMS] = {0};
    fill(&t.batch, &m->gpt->cfg, n, length, active);
    if (!loss) loss = m->gpt->cfg.scalar_head ? plan_values : step_lm;
    loss(&step, ctx, &t.batch, 0, t.batch.nseq, sum);
    if (tape_records(t.tape)) tape_backward(t.tape);
    double high = (double)arena.high;
    /* The update's scratch lies where the activations were. */
    if (tape_records(t.tape) && w->muon) high = fmax(high, (double)muon_bytes(&m->gpt->params));
    tape_close(&t.tape);
    batch_free(&t.batch);
    arena_free(&arena);
    return high;
}

/* Of response and prompt, all ranks' longest. */
static int64_t longest_of(const PlanWork *w) {
    const double most = w->length - w->response + (double)w->longest;
    return (int64_t)fmin(most + 0.5, (double)w->model.context);
}
static int64_t episodes_of(const PlanWork *w, const PlanLayout *l) {
    return (int64_t)ceil(share(w->items, l->ranks));
}
static double slots(const PlanWork *w, const PlanLayout *l) {
    return (double)decode_slots(&w->model, episodes_of(w, l), longest_of(w), l->threads);
}

/* Tokens of the largest micro-batch that a network learns from: items, and windows, which fill the
 * last micro-batch up where both have one loss, and are the first network's. */
static double learned_bytes(const PlanWork *w, const PlanLayout *l, const Model *m, int net) {
    const PlanModel *p = &w->net[net];
    const double micro = (double)micro_of(w, l), more = leaf_share(w, l, w->windows);
    const double items = micro_batch(micro, leaf_share(w, l, step_items(w)), item_tokens(w));
    const bool together = p->loss == step_lm;
    double n = items;
    if (together) n = fmin(n + fmin(more, ceil(w->windows)) * w->window, fmax(n, micro));
    double most = pass_bytes(m, p->loss, p->ctx, w, n, w->length, active_of(w, n));
    n = micro_batch(micro, more, w->window);
    if (net == 0 && !together && n > 0)
        most = fmax(most, pass_bytes(m, step_lm, NULL, w, n, w->window, n));
    return most;
}

/* What comes and goes beside the networks that learn: a pass that only scores, of n tokens. */
static double scoring_bytes(const PlanWork *w, const Model *m, double n) {
    return n > 0 ? pass_bytes(m, NULL, NULL, w, n, w->length, active_of(w, n)) : 0;
}
/* Of as many tokens in all ranks, those of a rank's largest micro-batch. */
static double scored(const PlanWork *w, const PlanLayout *l, double tokens) {
    const double micro = (double)micro_of(w, l);
    return fmin(tokens / (double)l->ranks, micro_batch(micro, micro, w->length));
}
/* Episodes are shared out among the ranks, not the virtual ones, so that the micro-batches of their
 * scoring are fuller. */
static double scored_episodes(const PlanWork *w, const PlanLayout *l, const PlanModel *p) {
    const double n = p->whole ? w->items : step_items(w);
    return micro_batch((double)micro_of(w, l), share(n, l->ranks), w->length);
}

/* Of text, whose chunks are kept as windows from all over it are read; two are being unpacked. */
static double cached_bytes(const PlanWork *w, const PlanLayout *l) {
    const double windows = w->windows > 0 ? w->windows : w->items;
    const double reads = (double)w->steps * updates(w) * rank_share(w, l, windows);
    if (w->chunks <= 0) return 0;
    return w->chunk_bytes * (w->chunks * (1 - pow(1 - 1 / w->chunks, reads)) + 2);
}

/* The networks that learn are held through the step with their largest micro-batches; sampling,
 * scoring, evaluating and saving come beside them, one after the other. */
void plan_memory(const PlanWork *w, const PlanLayout *l, PlanMemory *m) {
    const int threads = omp_get_max_threads();
    double saved = 0;
    omp_set_num_threads((int)fmin((double)l->threads, 1 << 14)); /* some scratch is a thread's */
    *m = (PlanMemory){0};
    for (int i = 0; i < w->nets; i++) {
        Model net = open_model(&w->net[i], w, l);
        double held = 0;
        const OptimBytes all = optim_bytes(&net.gpt->params, SHARD_NONE, 1, w->muon);
        if (w->net[i].saved) saved += (double)(all.weights + (w->net[i].loss ? all.moments : 0));
        if (!w->net[i].loss) {
            m->frozen += (double)paramset_bytes(&net.gpt->params);
            if (w->net[i].whole)
                m->decoding =
                    fmax(m->decoding, scoring_bytes(w, &net, scored_episodes(w, l, &w->net[i])));
            gpt_close(&net.gpt);
            gpt_close(&net.base);
            continue;
        }
        m->weights += (double)net.state.weights;
        if (net.base && base_counts(&w->net[i], w))
            m->frozen += (double)paramset_bytes(&net.base->params);
        m->gradients += (double)net.state.gradients;
        m->moments += (double)net.state.moments;
        m->exchange += (double)net.state.exchange;
        held = learned_bytes(w, l, &net, i);
        if (w->longest > 0) { /* it samples: the first one */
            const double n = scored_episodes(w, l, &w->net[i]);
            DecodeBytes d = {0};
            if (i == 0)
                decode_bytes(&d, net.gpt, episodes_of(w, l),
                             (int64_t)(w->length - w->response + 0.5), longest_of(w), l->threads);
            held = fmax(held, (double)d.weights); /* which lie where its activations do */
            m->decoding = fmax(m->decoding, fmax((double)d.passes, scoring_bytes(w, &net, n)));
        } else {
            m->evaluation = scoring_bytes(w, &net, scored(w, l, w->eval_tokens));
            m->first = scoring_bytes(w, &net, scored(w, l, w->first_tokens));
        }
        m->activations += held;
        gpt_close(&net.gpt);
        gpt_close(&net.base);
    }
    omp_set_num_threads(threads);
    const double libraries = l->ranks > 1 ? program_mpi : program_alone;
    m->program =
        (libraries + program_thread * (double)l->threads) * mib + w->data + cached_bytes(w, l);
    m->save = (double)ckpt_save_memory(saved, l->ranks, w->packed, l->threads);
    m->beside = fmax(fmax(m->decoding, m->evaluation), m->save);
    m->total = m->weights + m->gradients + m->moments + m->frozen +
               fmax(m->activations + m->beside, m->first) + m->exchange + m->program;
}

/* --- messages --------------------------------------------------------------------------------- */

/* Bytes of the weights that an optimizer step updates. */
static double trained_bytes(const PlanWork *w) {
    return (double)plan_parameters(w) * (double)sizeof(real);
}

/* How often a half of the ordered sum is done for an update. */
static double halves(const PlanWork *w, const PlanLayout *l) {
    return 1 + (l->shard == SHARD_GRADIENTS ? fmax(item_micros(w, l) + window_micros(w, l), 1) : 1);
}

/* Muon's updates of hidden matrices, gathered before they are orthogonalised. */
static double gathered_bytes(const PlanWork *w, const PlanLayout *l) {
    double n = 0;
    if (!w->muon || l->shard == SHARD_NONE) return 0;
    for (ArchParam p = {0}; arch_next(&w->model, &p);)
        if (p.matrices) n += (double)p.n;
    return n * (double)sizeof(real) * learners(w);
}

/* Ranks of a group, as comm.c finds them on nodes that are filled in the order of the ranks. */
static double group_of(const PlanLayout *l) {
    const int64_t r = l->ranks < l->per_node ? l->ranks : l->per_node;
    int64_t n = 1;
    while (2 * n <= PLAN_GROUP_MAX && r % (2 * n) == 0 && l->ranks % (2 * n) == 0) n *= 2;
    return (double)n;
}

double plan_exchange_bytes(const PlanWork *w, const PlanLayout *l) {
    const double G = group_of(l), N = (double)l->ranks / G;
    return updates(w) * (halves(w, l) * trained_bytes(w) + gathered_bytes(w, l)) / G * (N - 1) / N;
}

/* What the group with the largest shares owns over the mean: a shard is of whole blocks of every
 * part, and a part may have fewer of them than there are groups. */
static double unevenness(const PlanWork *w, const PlanLayout *l) {
    if (l->shard == SHARD_NONE || l->ranks == 1) return 1;
    const double N = (double)l->ranks / group_of(l);
    double all = 0, slowest = 0;
    for (int i = 0; i < w->nets; i++) {
        if (!w->net[i].loss) continue;
        Model m = open_model(&w->net[i], w, l);
        const ParamSet *ps = &m.gpt->params;
        for (int k = 0; k < ps->nparts; k++) {
            const double n = (double)(paramset_part_end(ps, k) - ps->part[k].offset);
            all += n / N;
            slowest += fmin(n, ceil(ceil(n / EXCHANGE_BLOCK) / N) * EXCHANGE_BLOCK);
        }
        gpt_close(&m.gpt);
        gpt_close(&m.base);
    }
    return all > 0 ? slowest / all : 1;
}

/* Either half of a sum: the vectors of a node's ranks go into its memory, or come out of it; and each
 * group sends its sums of a share to the group that owns it, or gets them from there. */
static double half_seconds(double bytes, double uneven, const PlanLayout *l, const PlanNet *n) {
    const double R = (double)l->ranks, r = fmin(R, (double)l->per_node);
    if (R <= 1) return 0;
    const double G = group_of(l), N = R / G, k = ceil(r / G); /* groups of a node */
    const double each = uneven * bytes / N, rounds = ceil(bytes / PLAN_ROUND_BYTES);
    const double latency = R > r ? n->latency : n->node_latency;
    double seconds = rounds * (N - 1) * latency + k * (k - 1) * each / n->node_bandwidth;
    if (G > 1) seconds += rounds * n->node_latency + r * bytes / n->node_bandwidth;
    if (R > r) seconds += k * (N - k) * each / n->bandwidth;
    return seconds;
}

double plan_sum_seconds(double bytes, const PlanLayout *l, const PlanNet *n) {
    return 2 * half_seconds(bytes, 1, l, n);
}

/* --- time ------------------------------------------------------------------------------------- */

/* Rates of a rank with l->threads threads: in proportion, where another number was measured. */
static PlanRates scaled(const PlanRates *r, int64_t threads) {
    const double k = (double)threads / (double)r->threads;
    return (PlanRates){threads,       r->train * k,       r->micro * k, r->forward * k,
                       r->update * k, r->decode_read * k, r->decode * k};
}

/* Weights that a pass of decoding reads. */
static double packed_bytes(const GptConfig *c) {
    double n = c->untied ? 0 : (double)(c->vocab * c->width);
    for (ArchParam p = {0}; arch_next(c, &p);)
        if (p.multiplies) n += (double)p.n;
    return n * (double)sizeof(real);
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
    const double each = learners(w); /* models in a micro-batch of items */
    const double again = w->recompute ? 4.0 / 3 : 1;
    const double byte = trained_bytes(w), model = byte / each;
    const double micros = each * item_micros(w, l) + window_micros(w, l);
    const double flops = window_flops(w, windows) + train_flops(w, items * item_tokens(w));
    *t = (PlanTime){0};
    if (config_has_episodes(w->stage)) {
        t->rollout = rollout_seconds(w, l, &r);
        t->scoring = scoring_flops(w, share(w->items, l->ranks)) / r.forward;
        t->exchange = plan_sum_seconds(4 * 4 * w->items * w->response, l, n);
    }
    const double compute = flops * again / r.train + micros * model / r.micro;
    const double slice = l->shard == SHARD_NONE ? 1 : 1 / (double)l->ranks;
    const double uneven = unevenness(w, l);
    const double exchange = halves(w, l) * half_seconds(byte, uneven, l, n);
    /* The gradient is final in the last micro-batch; two thirds of its time is the way back. */
    const double last = micros > 0 ? compute / micros * each * 2 / 3 : 0;
    const double hidden = fmin(n->overlap * last, exchange);
    t->compute = updates(w) * compute;
    /* A virtual rank's gradient joins another's: two arrays read and both written. */
    const double joins = (double)(leaves_of(w, l) - 1) * 4;
    /* The gradient is cleared as a whole, where there is one. */
    const double clear = l->shard == SHARD_OPTIMIZER ? 1 : slice;
    const double node = n->memory / fmin((double)l->ranks, (double)l->per_node);
    const double rate = node > 0 ? fmin(r.update, node) : r.update;
    t->update = updates(w) * ((UPDATE_ARRAYS - 1) * slice + clear + joins) * byte / rate;
    if (w->muon) t->update += updates(w) * each * slice * muon_flops(&w->model) / r.train;
    const double gather = half_seconds(gathered_bytes(w, l), uneven, l, n);
    t->exposed = t->exchange + updates(w) * (exchange - hidden + gather);
    t->exchange += updates(w) * (exchange + gather);
    t->step = t->rollout + t->scoring + t->compute + t->update + t->exposed;
}

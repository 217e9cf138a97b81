/* iteration.c: one iteration of PPO. See iteration.h; the formulas are in ppo_math.c.
 *
 * Positions. Response token t of an episode stands at index j = prompt + t of its sequence. Its
 * log-probability and the critic's value before it was chosen both come from position j - 1; these
 * positions are the active ones. The reward model reads the last token.
 *
 * Who does what. All ranks hold all episodes. Inner epoch k visits them in the order of a
 * permutation that is a function of (seed, iteration, k); minibatch m is a slice of it, the share
 * of a virtual rank a slice of that. Scoring is shared among the ranks without regard to these: a
 * token's forward pass is the same in any micro-batch, so in the first minibatch the new
 * log-probabilities are the old ones bit by bit. */
#include "rlhf/iteration.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "data/order.h"
#include "dist/watchdog.h"

/* --- settings --------------------------------------------------------------------------------- */

int iteration_options(const Config *c, PpoOptions *o, KlControl *kl) {
    *o = (PpoOptions){.batch = c->ppo_batch,
                      .minibatches = c->ppo_minibatches,
                      .epochs = c->ppo_epochs,
                      .micro_tokens = c->train_micro_tokens,
                      .temperature = c->ppo_temperature,
                      .clip = c->ppo_clip,
                      .clip_value = c->ppo_clip_value,
                      .gamma = c->ppo_gamma,
                      .lambda = c->ppo_lambda,
                      .no_stop_score = c->ppo_no_stop_score,
                      .whiten = c->ppo_whiten,
                      .ptx_coef = c->ptx_coef,
                      .ptx_ratio = c->ptx_ratio,
                      .seed = (uint64_t)c->run_seed};
    if (c->stage == STAGE_GRPO) {
        o->samples = c->grpo_samples;
        o->longest = c->ppo_max_response;
        o->leave_one_out = c->grpo_baseline == BASELINE_LOO;
        o->scale = c->grpo_scale == SCALE_STD;
        o->aggregate = c->grpo_aggregate;
        o->clip_high = c->grpo_clip_high;
        o->sequence_ratio = c->grpo_ratio == RATIO_SEQUENCE;
        o->kl_in_loss = c->grpo_kl == KL_IN_LOSS;
        if (o->batch % o->samples != 0)
            return config_bad(c, "ppo.batch",
                              "expected a multiple of grpo.samples, the %" PRId64
                              " responses to a prompt",
                              o->samples);
    }
    *kl = (KlControl){c->ppo_kl == KL_ADAPTIVE, c->ppo_beta, c->ppo_kl_target, c->ppo_kl_horizon};
    if (o->minibatches > o->batch)
        return config_bad(c, "ppo.minibatches",
                          "is more than the %" PRId64 " episodes of ppo.batch", o->batch);
    if (kl->adaptive && 0.2 * (double)o->batch >= kl->horizon)
        return config_bad(c, "ppo.kl_horizon",
                          "a batch of %" PRId64 " may lower beta by %.0f %%; expected more than a "
                          "fifth of ppo.batch, many times that as a rule",
                          o->batch, 20 * (double)o->batch / kl->horizon);
    return 0;
}

/* --- minibatches ------------------------------------------------------------------------------ */

static int64_t item_tokens(void *minibatch, int64_t j) {
    const Minibatch *m = minibatch;
    return m->e->start[m->pick[j] + 1] - m->e->start[m->pick[j]];
}

static int add_item(void *minibatch, int64_t j, Batch *b) {
    const Minibatch *m = minibatch;
    const int64_t i = m->pick[j];
    batch_add_response(b, m->e->tokens + m->e->start[i], item_tokens(minibatch, j), m->e->prompt[i],
                       1.0f, (uint64_t)i);
    return 0;
}

/* Places of the response tokens of the episodes pick[begin..end) in the arrays of Episodes: of the
 * rows, which are the positions that have a weight. In the tape's memory. */
static int64_t *places(Tape *t, const Minibatch *m, const GptRows *rows, int64_t begin,
                       int64_t end) {
    int64_t *at = tape_alloc(t, (size_t)rows->m * sizeof *at), *next = at;
    for (int64_t j = begin; j < end && !tape_dry(t); j++)
        for (int64_t k = m->e->first[m->pick[j]]; k < m->e->first[m->pick[j] + 1]; k++) *next++ = k;
    return at;
}

/* The episodes of minibatch `k` of inner epoch `epoch`, in their order. */
static void choose(const Ppo *p, int64_t iteration, int64_t epoch, int64_t k, Minibatch *m) {
    int64_t begin, end, tokens = 0;
    comm_share(m->e->n, (int)k, (int)p->o.minibatches, &begin, &end);
    m->n = end - begin;
    for (int64_t i = begin; i < end; i++) {
        m->pick[i - begin] = order_item(p->o.seed, iteration * p->o.epochs + epoch, i, m->e->n);
        tokens += rollout_length(m->e, m->pick[i - begin]);
    }
    m->weight = tokens > 0 ? 1.0 / (double)tokens : 0;
}

/* --- scoring ---------------------------------------------------------------------------------- */

/* The response tokens' log-probabilities under g. Always with the entropy, though of the reference
 * nobody wants it: the same code, so that equal models agree exactly. */
static void score_tokens(Gpt *g, Tape *t, const Minibatch *m, const Batch *b, int64_t begin,
                         int64_t end, float *logp, float *entropy) {
    const GptRows rows = gpt_weighted_rows(t, b);
    const int64_t *at = places(t, m, &rows, begin, end);
    real *lp = tape_alloc(t, (size_t)rows.m * sizeof *lp);
    real *en = tape_alloc(t, (size_t)rows.m * sizeof *en);
    gpt_token_loss(g, t, b, &rows, m->ppo->o.temperature, NULL, NULL, lp, en);
    for (int64_t k = 0; k < rows.m; k++) {
        logp[at[k]] = lp[k];
        if (entropy) entropy[at[k]] = en[k];
    }
    tape_reset(t);
}

static void score_values(const Minibatch *m, Episodes *e, Tape *t, const Batch *b, int64_t begin,
                         int64_t end) {
    const GptRows rows = gpt_weighted_rows(t, b);
    const int64_t *at = places(t, m, &rows, begin, end);
    const Tensor *v = gpt_values(m->ppo->critic.gpt, t, b, &rows);
    for (int64_t k = 0; k < rows.m; k++) e->value[at[k]] = v->data[k];
    tape_reset(t);
}

static void score_reward(const Minibatch *m, Episodes *e, Tape *t, const Batch *b, int64_t begin,
                         int64_t end) {
    const GptRows last = gpt_last_rows(t, b);
    const Tensor *r = gpt_values(m->ppo->reward, t, b, &last);
    for (int64_t j = begin; j < end; j++) {
        const int64_t i = m->pick[j];
        e->score[i] = e->stopped[i] ? r->data[j - begin] : (float)m->ppo->o.no_stop_score;
    }
    tape_reset(t);
}

static void score_batch(const Minibatch *m, Episodes *e, Tape *t, const Batch *b, int64_t begin,
                        int64_t end) {
    const Ppo *p = m->ppo;
    score_tokens(p->policy.gpt, t, m, b, begin, end, e->logp, e->entropy);
    if (p->reference) score_tokens(p->reference, t, m, b, begin, end, e->ref_logp, NULL);
    if (p->critic.gpt) score_values(m, e, t, b, begin, end);
    if (p->reward) score_reward(m, e, t, b, begin, end);
}

void iteration_score(Ppo *p, Episodes *e, int64_t iteration) {
    watchdog_enter(PHASE_SCORE);
    Arena arena = {0};
    Tape *tape = tape_open(&arena, false);
    Batch b = {0};
    Minibatch m = {.ppo = p, .e = e, .pick = xmalloc((size_t)p->o.batch * sizeof *m.pick)};
    const BatchItems items = {&m, item_tokens, add_item};
    for (int64_t k = 0; k < p->o.minibatches; k++) {
        int64_t i, end;
        choose(p, iteration, 0, k, &m);
        comm_share(m.n, comm_rank(p->comm), comm_size(p->comm), &i, &end);
        while (i < end) {
            const int64_t begin = i;
            watchdog_beat();
            batch_clear(&b);
            batch_fill(&b, &items, &i, end, p->o.micro_tokens);
            score_batch(&m, e, tape, &b, begin, i);
        }
    }
    /* each number was made on one rank, the others have 0 */
    const int64_t tokens = e->first[e->n];
    comm_sum_f32(p->comm, e->logp, tokens);
    comm_sum_f32(p->comm, e->entropy, tokens);
    if (p->reference) comm_sum_f32(p->comm, e->ref_logp, tokens);
    if (p->critic.gpt) comm_sum_f32(p->comm, e->value, tokens);
    if (p->reward) comm_sum_f32(p->comm, e->score, e->n);
    /* nobody asks how far it is */
    if (!p->reference) memcpy(e->ref_logp, e->logp, (size_t)tokens * sizeof *e->logp);
    free(m.pick);
    batch_free(&b);
    tape_close(&tape);
    arena_free(&arena);
}

/* --- advantages ------------------------------------------------------------------------------- */

static void rollout_stats(const Ppo *p, const Episodes *e, PpoStats *s) {
    const double n = (double)e->n, tokens = (double)e->first[e->n];
    double score2 = 0, v = 0, r = 0, r2 = 0, err2 = 0;
    for (int64_t i = 0; i < e->n; i++) {
        s->score += (double)e->score[i] / n;
        score2 += (double)e->score[i] * (double)e->score[i] / n;
        s->stopped += e->stopped[i] / n;
    }
    for (int64_t t = 0; t < e->first[e->n]; t++) {
        const double d = (double)e->logp[t] - (double)e->ref_logp[t];
        const double gap = fabs((double)e->logp[t] - (double)e->sampled_logp[t]);
        s->kl += d / n;
        s->kl3 += (exp(-d) - 1 + d) / n;
        s->neg_logp -= (double)e->logp[t] / n;
        s->entropy += (double)e->entropy[t] / tokens;
        if (e->sampled_logp[t] < 0 && gap > s->decode_gap) s->decode_gap = gap;
        v += (double)e->value[t] / tokens;
        r += (double)e->ret[t] / tokens;
        r2 += (double)e->ret[t] * (double)e->ret[t] / tokens;
        err2 += pow((double)e->ret[t] - (double)e->value[t], 2) / tokens;
    }
    s->score_std = sqrt(fmax(score2 - s->score * s->score, 0));
    s->length = tokens / n;
    s->non_score_reward = -p->kl.beta * s->kl;
    s->rlhf_reward = s->score + s->non_score_reward;
    s->value_mean = v;
    s->return_mean = r;
    s->return_var = fmax(r2 - r * r, 0);
    s->explained = s->return_var > 0 ? 1 - err2 / s->return_var : (double)NAN;
    s->beta = p->kl.beta;
}

void iteration_advantages(Ppo *p, Episodes *e, PpoStats *s) {
    for (int64_t i = 0; i < e->n; i++) {
        const int64_t f = e->first[i], n = rollout_length(e, i);
        ppo_rewards(e->logp + f, e->ref_logp + f, n, p->kl.beta, (double)e->score[i],
                    e->reward + f);
        ppo_gae(e->reward + f, e->value + f, n, p->o.gamma, p->o.lambda, e->advantage + f,
                e->ret + f);
    }
    rollout_stats(p, e, s);
    if (p->o.whiten) ppo_whiten(e->advantage, e->first[e->n]);
}

void iteration_group_advantages(Ppo *p, Episodes *e, PpoStats *s) {
    const int64_t K = p->o.samples;
    AUTOFREE double *r = xmalloc((size_t)K * sizeof *r);
    AUTOFREE double *a = xmalloc((size_t)K * sizeof *a);
    for (int64_t i = 0; i < e->n; i++) {
        const int64_t f = e->first[i], n = rollout_length(e, i), k = i % K;
        const double beta = p->o.kl_in_loss ? 0 : p->kl.beta;
        ppo_rewards(e->logp + f, e->ref_logp + f, n, beta, (double)e->score[i], e->reward + f);
        r[k] = 0;
        for (int64_t t = f; t < f + n; t++) r[k] += (double)e->reward[t];
        if (k + 1 < K) continue;
        ppo_group_advantages(r, K, p->o.leave_one_out, p->o.scale, a);
        for (int64_t j = 0; j < K; j++)
            for (int64_t t = e->first[i + 1 - K + j]; t < e->first[i + 2 - K + j]; t++)
                e->advantage[t] = (float)a[j];
    }
    rollout_stats(p, e, s);
}

/* --- updates ---------------------------------------------------------------------------------- */

/* What the losses add up over a minibatch: means a response token; the pretraining loss has its
 * coefficient. */
enum { POLICY_LOSS, KL_LOSS, APPROXKL, CLIPPED, RATIO, RATIO_GAP, PTX_LOSS, POLICY_SUMS };
enum { VALUE_LOSS, VALUE_CLIPPED, VALUE_SUMS };

/* What the policy's loss needs to know of the response tokens of a micro-batch: their places, their
 * weights in it, and how many episodes' they are. */
typedef struct PolicyCtx {
    const Minibatch *m;
    const int64_t *at;
    const double *weight;
    int64_t begin, end;
    double *sum;
} PolicyCtx;

/* Weights of the tokens of episodes begin .. end-1 in the minibatch's loss. */
static double *weights(Tape *t, const Minibatch *m, const GptRows *rows, int64_t begin,
                       int64_t end) {
    const PpoOptions *o = &m->ppo->o;
    double *w = tape_alloc(t, (size_t)rows->m * sizeof *w), *next = w;
    for (int64_t j = begin; j < end && !tape_dry(t); j++) {
        const int64_t n = rollout_length(m->e, m->pick[j]);
        const double each = o->aggregate == AGGREGATE_TOKEN ? m->weight
                            : o->aggregate == AGGREGATE_SEQUENCE
                                ? 1.0 / ((double)m->n * (double)n)
                                : 1.0 / ((double)m->n * (double)o->longest);
        for (int64_t k = 0; k < n; k++) *next++ = each;
    }
    return w;
}

static void count_token(const PolicyCtx *c, double d, bool clipped) {
    c->sum[APPROXKL] += 0.5 * d * d * c->m->weight;
    c->sum[CLIPPED] += clipped * c->m->weight;
    c->sum[RATIO] += exp(d) * c->m->weight;
    c->sum[RATIO_GAP] += fabs(d) * c->m->weight;
}

/* The loss's KL to the reference (GRPO). */
static double kl_loss(const PolicyCtx *c, int64_t k, double logp, double *dlogp) {
    const Ppo *p = c->m->ppo;
    double dk3;
    if (!p->o.kl_in_loss || !p->reference) return 0;
    const double k3 = ppo_k3(logp, (double)c->m->e->ref_logp[c->at[k]], &dk3);
    c->sum[KL_LOSS] += k3 * c->weight[k];
    *dlogp += p->kl.beta * dk3 * c->weight[k];
    return p->kl.beta * k3 * c->weight[k];
}

static double clip_high(const PpoOptions *o) { return o->clip_high > 0 ? o->clip_high : o->clip; }

static double token_loss(void *ctx, int64_t k, double logp, double entropy, double *dlogp) {
    const PolicyCtx *c = ctx;
    const PpoOptions *o = &c->m->ppo->o;
    const int64_t at = c->at[k];
    const double weight = c->weight[k];
    const double new_logp = (double)(float)logp; /* as the old one was kept */
    const double d = new_logp - (double)c->m->e->logp[at];
    bool clipped;
    const double loss =
        ppo_clipped_loss(d, (double)c->m->e->advantage[at], o->clip, clip_high(o), dlogp, &clipped);
    *dlogp *= weight;
    c->sum[POLICY_LOSS] += loss * weight;
    count_token(c, d, clipped);
    return loss * weight + kl_loss(c, k, new_logp, dlogp);
}

/* GSPO (Zheng 2025, eq. 5 and 7): one ratio a response, of the mean difference of its tokens. */
static double sequence_loss(void *ctx, int64_t m, const real *logp, double *dlogp) {
    const PolicyCtx *c = ctx;
    const PpoOptions *o = &c->m->ppo->o;
    const Episodes *e = c->m->e;
    double total = 0;
    for (int64_t j = c->begin, first = 0; j < c->end; j++) {
        const int64_t n = rollout_length(e, c->m->pick[j]);
        double d = 0, dd, weight = 0;
        bool clipped;
        for (int64_t k = first; k < first + n; k++) {
            d += ((double)logp[k] - (double)e->logp[c->at[k]]) / (double)n;
            weight += c->weight[k];
        }
        const double loss = ppo_clipped_loss(d, (double)e->advantage[c->at[first]], o->clip,
                                             clip_high(o), &dd, &clipped);
        c->sum[POLICY_LOSS] += loss * weight;
        total += loss * weight;
        for (int64_t k = first; k < first + n; k++) {
            dlogp[k] = dd * weight / (double)n;
            count_token(c, d, clipped);
            total += kl_loss(c, k, (double)logp[k], &dlogp[k]);
        }
        first += n;
    }
    return total;
}

static void policy_loss(const Step *s, void *minibatch, const Batch *b, int64_t begin, int64_t end,
                        double *sum) {
    const Minibatch *m = minibatch;
    const double T = m->ppo->o.temperature;
    Gpt *g = s->trainer->gpt;
    Tape *t = s->trainer->tape;
    const GptRows rows = gpt_weighted_rows(t, b);
    PolicyCtx ctx = {.m = m,
                     .at = places(t, m, &rows, begin, end),
                     .weight = weights(t, m, &rows, begin, end),
                     .begin = begin,
                     .end = end,
                     .sum = sum};
    if (m->ppo->o.sequence_ratio) {
        real *entropy = tape_alloc(t, (size_t)rows.m * sizeof *entropy); /* as scoring has it */
        gpt_joint_loss(g, t, b, &rows, T, sequence_loss, &ctx, entropy);
    } else {
        gpt_token_loss(g, t, b, &rows, T, token_loss, &ctx, NULL, NULL);
    }
}

static void ptx_loss(const Step *s, void *windows, const Batch *b, int64_t begin, int64_t end,
                     double *sum) {
    step_lm(s, windows, b, begin, end, sum + PTX_LOSS);
}

static void value_loss(const Step *s, void *minibatch, const Batch *b, int64_t begin, int64_t end,
                       double *sum) {
    const Minibatch *m = minibatch;
    Tape *t = s->trainer->tape;
    const GptRows rows = gpt_weighted_rows(t, b);
    const int64_t *at = places(t, m, &rows, begin, end);
    Tensor *v = gpt_values(s->trainer->gpt, t, b, &rows);
    for (int64_t k = 0; k < rows.m && !tape_dry(t); k++) {
        double dv;
        bool clipped;
        sum[VALUE_LOSS] +=
            m->weight * ppo_value_loss((double)v->data[k], (double)m->e->value[at[k]],
                                       (double)m->e->ret[at[k]], m->ppo->o.clip_value, &dv,
                                       &clipped);
        sum[VALUE_CLIPPED] += m->weight * clipped;
        v->grad[k] = (real)(m->weight * dv);
    }
}

void iteration_steps(Minibatch *m, Step step[2]) {
    Ppo *p = m->ppo;
    Step *policy = &step[0], *critic = &step[1];
    const StepItems items = {{m, item_tokens, add_item}, m->n, policy_loss};
    *policy = *critic = (Step){.micro_tokens = p->o.micro_tokens, .no_loss = true};
    policy->trainer = &p->policy;
    policy->items[0] = items;
    policy->items[1] = windows_items(&p->ptx, ptx_loss);
    policy->nsum = POLICY_SUMS;
    critic->trainer = &p->critic;
    critic->items[0] = items;
    critic->items[0].loss = value_loss;
    critic->nsum = VALUE_SUMS;
}

int iteration_reference(const Loaded *policy, Gpt **out) {
    *out = policy->base;
    if (*out) return 0;
    TRY(policy->half ? gpt_open_half(out, &policy->cfg, false)
                     : gpt_open(out, &policy->cfg, false));
    return gpt_copy(*out, policy->gpt);
}

PlanWork iteration_plan(const Config *c, const GptConfig *policy) {
    static Ppo ppo = {.o.temperature = 1};
    static Minibatch dry = {.ppo = &ppo};
    PlanWork w = plan_work(c, policy);
    GptConfig head = *policy;
    head.scalar_head = true;
    head.untied = false;
    w.items = (double)c->ppo_batch;
    w.minibatches = c->ppo_minibatches;
    w.epochs = c->ppo_epochs;
    w.longest = c->ppo_max_response;
    w.response = (double)w.longest;
    if (c->ptx_coef > 0) w.windows = c->ptx_ratio * w.items / (double)w.minibatches;
    const bool critic = c->stage == STAGE_PPO;
    w.nets = 0;
    plan_net(&w, policy, policy_loss, &dry);
    if (critic) plan_net(&w, &head, value_loss, &dry);
    if (critic || c->ppo_beta > 0) plan_net(&w, policy, NULL, NULL); /* the reference */
    if (critic || c->from_reward[0]) plan_net(&w, &head, NULL, NULL);
    for (int k = 0; k < c->from_ensemble.n && k < PLAN_ENSEMBLE; k++)
        plan_net(&w, &head, NULL, NULL);
    for (int i = 0; i < w.nets; i++) /* groups are judged before minibatches are made of them */
        w.net[i].whole = !critic && w.net[i].cfg.scalar_head;
    if (c->ppo_ema > 0) {
        plan_net(&w, policy, NULL, NULL);
        w.net[w.nets - 1].saved = true;
    }
    return w;
}

/* The minibatch's pretraining windows, ptx_ratio an episode; which ones follows from the episodes
 * trained on before. They are read while the episodes are trained on. */
static int choose_windows(Ppo *p, int64_t before, int64_t episodes) {
    Windows *w = &p->ptx;
    if (!w->corpus) return 0;
    const int64_t tokens = windows_mix(w, p->o.ptx_ratio, before, episodes);
    if (tokens < 0) return (int)tokens;
    w->weight = (float)(p->o.ptx_coef / (double)(tokens > 0 ? tokens : 1));
    windows_ahead(w, &p->policy.ranks, w->first, w->n);
    return 0;
}

int iteration_update(Ppo *p, Episodes *e, int64_t iteration, double policy_lr, double critic_lr,
                     PpoStats *s) {
    Minibatch m = {.ppo = p, .e = e, .pick = xmalloc((size_t)p->o.batch * sizeof *m.pick)};
    const int64_t filled = p->o.minibatches < e->n ? p->o.minibatches : e->n;
    const double steps = (double)(p->o.epochs * filled);
    int64_t before = iteration * p->o.epochs * p->o.batch; /* episodes of all earlier steps */
    double ratio2 = 0;
    int rc = 0;
    for (int64_t j = 0; j < p->o.epochs * p->o.minibatches; j++) {
        const int64_t epoch = j / p->o.minibatches, k = j % p->o.minibatches;
        double sum[POLICY_SUMS], value[VALUE_SUMS];
        Step step[2];
        choose(p, iteration, epoch, k, &m);
        if (m.n == 0) continue; /* few groups had a signal */
        rc = choose_windows(p, before, m.n);
        if (rc < 0) break;
        iteration_steps(&m, step);
        for (int i = 0; i < 2; i++) {
            step[i].lr = i ? critic_lr : policy_lr;
            step[i].sum = i ? value : sum;
            snprintf(step[i].what, sizeof step[i].what,
                     "iteration %" PRId64 ", inner epoch %" PRId64 ", minibatch %" PRId64,
                     iteration, epoch, k);
        }
        rc = step_run(step, p->critic.gpt ? 2 : 1);
        if (rc < 0) break;
        before += m.n;
        if (p->ema.decay > 0) ema_update(&p->ema, &p->policy.gpt->params);
        if (j == 0) {
            s->first_approxkl = sum[APPROXKL];
            s->first_clipfrac = sum[CLIPPED];
            s->first_ratio_gap = sum[RATIO_GAP];
        }
        s->policy_norm = step[0].norm;
        s->policy_loss += sum[POLICY_LOSS] / steps;
        s->kl_loss += sum[KL_LOSS] / steps;
        s->approxkl += sum[APPROXKL] / steps;
        s->clipfrac += sum[CLIPPED] / steps;
        s->ratio += sum[RATIO] / steps;
        ratio2 += sum[RATIO] * sum[RATIO] / steps;
        if (p->ptx.corpus) s->ptx_loss += sum[PTX_LOSS] / p->o.ptx_coef / steps;
        if (!p->critic.gpt) continue;
        s->critic_norm = step[1].norm;
        s->value_loss += value[VALUE_LOSS] / steps;
        s->value_clipfrac += value[VALUE_CLIPPED] / steps;
    }
    s->ratio_var = fmax(ratio2 - s->ratio * s->ratio, 0);
    if (rc == 0) kl_control_update(&p->kl, s->kl, e->n);
    free(m.pick);
    return rc;
}

/* --- the report ------------------------------------------------------------------------------- */

void iteration_report(const Ppo *p, Run *run, const PpoStats *s) {
    const bool critic = p->critic.gpt != NULL;
    run_metric(run, "objective/kl", s->kl);
    run_metric(run, "objective/kl_k3", s->kl3);
    run_metric(run, "objective/entropy", s->neg_logp);
    run_metric(run, "objective/scores", s->score);
    run_metric(run, "objective/scores_std", s->score_std);
    run_metric(run, "objective/rlhf_reward", s->rlhf_reward);
    run_metric(run, "objective/non_score_reward", s->non_score_reward);
    run_metric(run, "objective/beta", s->beta);
    run_metric(run, "policy/entropy_avg", s->entropy);
    run_metric(run, "policy/approxkl_avg", s->approxkl);
    run_metric(run, "policy/clipfrac_avg", s->clipfrac);
    run_metric(run, "loss/policy_avg", s->policy_loss);
    if (critic) run_metric(run, "loss/value_avg", s->value_loss);
    run_metric(run, "loss/ptx_avg", s->ptx_loss);
    if (critic) run_metric(run, "val/clipfrac_avg", s->value_clipfrac);
    run_metric(run, "val/ratio", s->ratio);
    run_metric(run, "val/ratio_var", s->ratio_var);
    if (critic) run_metric(run, "val/explained_variance", s->explained);
    run_metric(run, "val/num_eos_tokens", s->stopped * (double)run->cfg.ppo_batch);
    run_metric(run, "val/first_ratio_gap", s->first_ratio_gap);
    run_metric(run, "rollout/length", s->length);
    run_metric(run, "rollout/decode_gap_max", s->decode_gap);
    run_metric(run, "grad_norm/policy", s->policy_norm);
    if (critic) run_metric(run, "grad_norm/critic", s->critic_norm);
}

void iteration_watch(Ppo *p, const Run *run, const PpoStats *s) {
    const Config *c = &run->cfg;
    if (!run->main_rank) return;
    if (s->decode_gap > PPO_DECODE_GAP && !p->gap_reported) {
        p->gap_reported = true;
        log_warn("iteration %" PRId64 ": the sampler's log-probabilities differ from the training "
                 "forward's by up to %.1e (rollout/decode_gap_max), expected at most %.0e: the "
                 "samples are not quite the policy's; rhetor-ppo --selftest checks this machine",
                 run->step + 1, s->decode_gap, PPO_DECODE_GAP);
    }
    if (s->stopped <= 0 && !p->no_stop_reported) {
        p->no_stop_reported = true;
        log_warn("iteration %" PRId64 ": none of the %" PRId64 " responses ended with the stop "
                 "token, so each scores ppo.no_stop_score (%g) whatever it says; a longer SFT or a "
                 "larger ppo.max_response (%" PRId64 ") may help",
                 run->step + 1, c->ppo_batch, c->ppo_no_stop_score, c->ppo_max_response);
    }
}

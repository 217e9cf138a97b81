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
#include "data/order.h"
#include "dist/watchdog.h"
#include "rlhf/score.h"

/* --- packing episodes ------------------------------------------------------------------------- */

/* A micro-batch of episodes. Arrays live in an arena until its reset. */
typedef struct Micro {
    Batch batch;
    int64_t n, tokens;   /* episodes, response tokens */
    const int64_t *pick; /* [n] the episodes */
    int64_t *row;        /* [tokens] active positions in the batch */
    int64_t *at;         /* [tokens] their places in the arrays of Episodes */
    int64_t *last;       /* [n] last positions */
} Micro;

/* Packs as many of pick[0..n) as fit; returns how many. */
static int64_t pack_micro(Ppo *p, const Episodes *e, const int64_t *pick, int64_t n, Arena *a,
                          Micro *m) {
    batch_clear(&p->pack);
    *m = (Micro){.pick = pick};
    for (; m->n < n; m->n++) {
        const int64_t i = pick[m->n], len = e->start[i + 1] - e->start[i];
        if (m->n > 0 && p->pack.n + len > p->o.micro_tokens) break;
        batch_add(&p->pack, e->tokens + e->start[i], len, NULL, 1.0f, (uint64_t)i);
        m->tokens += rollout_length(e, i);
    }
    m->batch = p->pack;
    m->row = arena_alloc(a, (size_t)m->tokens * sizeof *m->row);
    m->at = arena_alloc(a, (size_t)m->tokens * sizeof *m->at);
    m->last = arena_alloc(a, (size_t)m->n * sizeof *m->last);
    int64_t k = 0;
    for (int64_t s = 0; s < m->n; s++) {
        const int64_t i = pick[s];
        for (int64_t t = 0; t < rollout_length(e, i); t++, k++) {
            m->row[k] = m->batch.start[s] + e->prompt[i] + t - 1;
            m->at[k] = e->first[i] + t;
        }
        m->last[s] = m->batch.start[s + 1] - 1;
    }
    return m->n;
}

/* The episodes of minibatch `m` of inner epoch `k` in their order; returns how many. */
static int64_t minibatch(const Ppo *p, int64_t iteration, int64_t k, int64_t m, int64_t *out) {
    int64_t begin, end;
    comm_share(p->o.batch, (int)m, (int)p->o.minibatches, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        out[i - begin] = order_item(p->o.seed, iteration * p->o.epochs + k, i, p->o.batch);
    return end - begin;
}

/* --- scoring ---------------------------------------------------------------------------------- */

static void score_micro(Ppo *p, Episodes *e, const Micro *m, Tape *t, real *logp, real *entropy) {
    const Batch *b = &m->batch;
    const GptRows active = {m->tokens, m->row}, last = {m->n, m->last};
    gpt_score(p->policy.gpt, t, b, &active, p->o.temperature, logp, entropy);
    for (int64_t k = 0; k < m->tokens; k++) {
        e->logp[m->at[k]] = logp[k];
        e->entropy[m->at[k]] = entropy[k];
    }
    /* With the entropy, though nobody wants it: the same code, so that equal models agree exactly.
     */
    gpt_score(p->reference, t, b, &active, p->o.temperature, logp, entropy);
    for (int64_t k = 0; k < m->tokens; k++) e->ref_logp[m->at[k]] = logp[k];
    Tensor *v = gpt_values(p->critic.gpt, t, b, &active);
    for (int64_t k = 0; k < m->tokens; k++) e->value[m->at[k]] = v->data[k];
    tape_reset(t);
    Tensor *r = gpt_values(p->reward, t, b, &last);
    for (int64_t s = 0; s < m->n; s++)
        e->score[m->pick[s]] = e->stopped[m->pick[s]] ? r->data[s] : (float)p->o.no_stop_score;
    tape_reset(t);
}

void ppo_score(Ppo *p, Episodes *e, int64_t iteration) {
    watchdog_enter(PHASE_SCORE);
    Arena arena = {0}, lists = {0};
    Tape *tape = tape_open(&arena, false);
    int64_t *pick = xmalloc((size_t)p->o.batch * sizeof *pick), cap = 0;
    real *logp = NULL, *entropy = NULL;
    for (int64_t m = 0; m < p->o.minibatches; m++) {
        int64_t n = minibatch(p, iteration, 0, m, pick), begin, end;
        comm_share(n, comm_rank(p->comm), comm_size(p->comm), &begin, &end);
        while (begin < end) {
            Micro micro;
            watchdog_beat();
            begin += pack_micro(p, e, pick + begin, end - begin, &lists, &micro);
            if (micro.tokens > cap) {
                cap = micro.tokens;
                logp = xrealloc(logp, (size_t)cap * sizeof *logp);
                entropy = xrealloc(entropy, (size_t)cap * sizeof *entropy);
            }
            score_micro(p, e, &micro, tape, logp, entropy);
            arena_reset(&lists);
        }
    }
    /* each number was made on one rank, the others have 0 */
    comm_sum_f32(p->comm, e->logp, e->first[e->n]);
    comm_sum_f32(p->comm, e->ref_logp, e->first[e->n]);
    comm_sum_f32(p->comm, e->entropy, e->first[e->n]);
    comm_sum_f32(p->comm, e->value, e->first[e->n]);
    comm_sum_f32(p->comm, e->score, e->n);
    free(logp);
    free(entropy);
    free(pick);
    tape_close(&tape);
    arena_free(&arena);
    arena_free(&lists);
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

void ppo_advantages(Ppo *p, Episodes *e, PpoStats *s) {
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

/* --- updates ---------------------------------------------------------------------------------- */

/* What the policy's loss needs to know of response token k of a micro-batch. */
typedef struct PolicyCtx {
    const Episodes *e;
    const int64_t *at; /* Micro's */
    double weight, clip;
    double *sums;
} PolicyCtx;

static double policy_loss(void *ctx, int64_t k, double logp, double entropy, double *dlogp) {
    const PolicyCtx *c = ctx;
    const int64_t at = c->at[k];
    const double old = (double)c->e->logp[at];
    const double new_logp = (double)(float)logp; /* as the old one was kept */
    bool clipped;
    double loss =
        ppo_policy_loss(new_logp, old, (double)c->e->advantage[at], c->clip, dlogp, &clipped);
    *dlogp *= c->weight;
    c->sums[SUM_POLICY] += loss * c->weight;
    c->sums[SUM_APPROXKL] += 0.5 * (new_logp - old) * (new_logp - old) * c->weight;
    c->sums[SUM_CLIP] += clipped * c->weight;
    c->sums[SUM_RATIO] += exp(new_logp - old) * c->weight;
    c->sums[SUM_GAP] += fabs(new_logp - old) * c->weight;
    return loss * c->weight;
}

static void policy_micro(Ppo *p, const Episodes *e, const Micro *m, double weight, double *sums) {
    PolicyCtx ctx = {e, m->at, weight, p->o.clip, sums};
    gpt_token_loss(p->policy.gpt, p->policy.tape, &m->batch, &(GptRows){m->tokens, m->row},
                   p->o.temperature, policy_loss, &ctx, NULL, NULL);
    trainer_backward(&p->policy);
}

static void critic_micro(Ppo *p, const Episodes *e, const Micro *m, double weight, double *sums) {
    Tape *t = p->critic.tape;
    Tensor *v = gpt_values(p->critic.gpt, t, &m->batch, &(GptRows){m->tokens, m->row});
    for (int64_t k = 0; k < m->tokens; k++) {
        double dv;
        bool clipped;
        sums[SUM_VALUE] +=
            weight * ppo_value_loss((double)v->data[k], (double)e->value[m->at[k]],
                                    (double)e->ret[m->at[k]], p->o.clip_value, &dv, &clipped);
        sums[SUM_VALUE_CLIP] += weight * clipped;
        v->grad[k] = (real)(weight * dv);
    }
    trainer_backward(&p->critic);
}

void ppo_gradients(Ppo *p, const Episodes *e, const int64_t *pick, int64_t n, int64_t tokens,
                   bool last, double sums[SUM_COUNT]) {
    Arena lists = {0};
    const double weight = 1.0 / (double)tokens;
    for (int64_t i = 0; i < n;) {
        Micro m;
        watchdog_enter(PHASE_FORWARD);
        i += pack_micro(p, e, pick + i, n - i, &lists, &m);
        if (last && i == n) {
            if (!p->ptx) trainer_last_pass(&p->policy);
            trainer_last_pass(&p->critic);
        }
        policy_micro(p, e, &m, weight, sums);
        critic_micro(p, e, &m, weight, sums);
        arena_reset(&lists);
    }
    arena_free(&lists);
}

enum { SUMS = SUM_COUNT + 1 }; /* and the pretraining loss, with its coefficient */

/* The step's pretraining windows: ptx_ratio an episode; which ones follows from the episodes
 * trained on before. Returns how many. */
static int64_t ptx_windows(const Ppo *p, int64_t before, int64_t episodes, int64_t *first) {
    *first = (int64_t)floor((double)before * p->o.ptx_ratio);
    return (int64_t)floor((double)(before + episodes) * p->o.ptx_ratio) - *first;
}

/* coef * mean over the tokens of the step's pretraining windows of -log pi(x), virtual rank k's
 * share of it into the policy's gradient and *loss. */
static int ptx_gradients(Ppo *p, int k, bool last, int64_t before, int64_t episodes, double *loss) {
    const int64_t T = p->policy.gpt->cfg.context;
    int64_t first;
    const int64_t n = ptx_windows(p, before, episodes, &first);
    const int64_t tokens = corpus_window_tokens(p->ptx, p->o.seed, first, n, T);
    if (tokens < 0) return (int)tokens;
    const float weight = (float)(p->o.ptx_coef / (double)(tokens > 0 ? tokens : 1));
    int64_t begin, end, len;
    virtual_share(&p->policy.ranks, n, k, &begin, &end);
    batch_clear(&p->pack);
    for (int64_t w = begin; w < end; w++) {
        uint64_t id;
        TRY(corpus_window(p->ptx, p->o.seed, first + w, T, p->window, &len, &id));
        batch_add_window(&p->pack, p->window, len, weight, id);
        if (w + 1 < end && p->pack.n + T <= p->o.micro_tokens) continue;
        if (last && w + 1 == end) trainer_last_pass(&p->policy);
        trainer_lm(&p->policy, &p->pack, 0, 0, 0, loss);
        batch_clear(&p->pack);
    }
    return 0;
}

/* One optimizer step on minibatch `pick`; `before`: episodes of all earlier steps. */
static int update_minibatch(Ppo *p, Episodes *e, const int64_t *pick, int64_t n, int64_t before,
                            double policy_lr, double critic_lr, const char *what, PpoStats *s) {
    int64_t begin, end, tokens = 0;
    for (int64_t i = 0; i < n; i++) tokens += rollout_length(e, pick[i]);
    VirtualRanks *ranks = &p->policy.ranks;
    double *sums = virtual_parts(ranks, SUMS);
    if (p->ptx) { /* read while the episodes are being trained on */
        int64_t first;
        virtual_share_all(ranks, ptx_windows(p, before, n, &first), &begin, &end);
        corpus_ahead(p->ptx, p->o.seed, first + begin, end - begin, p->policy.gpt->cfg.context);
    }
    for (int k = ranks->begin; k < ranks->end; k++) {
        const bool last = k + 1 == ranks->end;
        virtual_share(ranks, n, k, &begin, &end);
        ppo_gradients(p, e, pick + begin, end - begin, tokens, last, sums + k * SUMS);
        if (p->ptx) TRY(ptx_gradients(p, k, last, before, n, &sums[k * SUMS + SUM_COUNT]));
        trainer_rank_end(&p->policy);
        trainer_rank_end(&p->critic);
    }
    trainer_finish((Trainer *[]){&p->policy, &p->critic}, 2);
    TRY(trainer_update(&p->policy, policy_lr, what, &s->policy_norm));
    TRY(trainer_update(&p->critic, critic_lr, what, &s->critic_norm));
    if (p->ema.decay > 0) ema_update(&p->ema, &p->policy.gpt->params);
    return 0;
}

int ppo_update(Ppo *p, Episodes *e, int64_t iteration, double policy_lr, double critic_lr,
               PpoStats *s) {
    int64_t *pick = xmalloc((size_t)p->o.batch * sizeof *pick);
    const double steps = (double)(p->o.epochs * p->o.minibatches);
    int64_t before = iteration * p->o.epochs * p->o.batch;
    double ratio2 = 0;
    int rc = 0;
    for (int64_t k = 0; k < p->o.epochs && rc == 0; k++) {
        for (int64_t m = 0; m < p->o.minibatches && rc == 0; m++) {
            double sums[SUMS];
            char what[96];
            snprintf(what, sizeof what,
                     "iteration %" PRId64 ", inner epoch %" PRId64 ", minibatch %" PRId64,
                     iteration, k, m);
            int64_t n = minibatch(p, iteration, k, m, pick);
            rc = update_minibatch(p, e, pick, n, before, policy_lr, critic_lr, what, s);
            before += n;
            if (rc < 0) break; /* perhaps on this rank only: no collective calls any more */
            virtual_sum(&p->policy.ranks, p->comm, sums);
            if (k == 0 && m == 0) {
                s->first_approxkl = sums[SUM_APPROXKL];
                s->first_clipfrac = sums[SUM_CLIP];
                s->first_ratio_gap = sums[SUM_GAP];
            }
            s->policy_loss += sums[SUM_POLICY] / steps;
            s->value_loss += sums[SUM_VALUE] / steps;
            s->approxkl += sums[SUM_APPROXKL] / steps;
            s->clipfrac += sums[SUM_CLIP] / steps;
            s->value_clipfrac += sums[SUM_VALUE_CLIP] / steps;
            s->ratio += sums[SUM_RATIO] / steps;
            ratio2 += sums[SUM_RATIO] * sums[SUM_RATIO] / steps;
            if (p->ptx) s->ptx_loss += sums[SUM_COUNT] / p->o.ptx_coef / steps;
        }
    }
    s->ratio_var = fmax(ratio2 - s->ratio * s->ratio, 0);
    if (rc == 0) kl_control_update(&p->kl, s->kl, e->n);
    free(pick);
    return rc;
}

/* iteration.h: one iteration of PPO for language models, as docs/MATH.md and Ouyang 2022 (App. C)
 * have it: sample, score, advantages, updates. The stage around it is ppo.c. */
#ifndef RLHF_ITERATION_H
#define RLHF_ITERATION_H

#include "data/corpus.h"
#include "rlhf/ppo_math.h"
#include "rlhf/rollout.h"
#include "train/trainer.h"

/* Bound on PpoStats.decode_gap: sampler and training forward are the same function. */
#define PPO_DECODE_GAP 1e-4

typedef struct PpoOptions {
    int64_t batch, minibatches, epochs; /* episodes an iteration; optimizer steps an inner epoch */
    int64_t micro_tokens;
    double temperature, clip, clip_value, gamma, lambda, no_stop_score;
    bool whiten;
    double ptx_coef, ptx_ratio; /* windows an episode; 0: no pretraining term */
    uint64_t seed;
} PpoOptions;

/* Everything that an iteration reads and changes. Borrowed. */
typedef struct Ppo {
    PpoOptions o;
    Trainer policy, critic;
    Gpt *reference, *reward; /* frozen */
    Ema ema;                 /* of the policy; decay 0: none */
    KlControl kl;
    Corpus *ptx; /* NULL: no pretraining term */
    Comm *comm;
    Batch pack; /* scratch */
    int32_t *window;
} Ppo;

/* Means over the iteration; the names of DESIGN.md's metrics are in ppo.c. */
typedef struct PpoStats {
    double kl, kl3;  /* an episode: sum of k1 = logp - ref, and of k3 */
    double entropy;  /* a token */
    double neg_logp; /* an episode: sum of -logp */
    double score, score_std, rlhf_reward, non_score_reward; /* an episode */
    double length, stopped;                                 /* an episode; share that stopped */
    double decode_gap; /* largest |sampler's - training forward's log-probability| */
    double policy_loss, value_loss, ptx_loss, approxkl, clipfrac, value_clipfrac, ratio, ratio_var;
    double first_approxkl, first_clipfrac, first_ratio_gap; /* first minibatch: exactly 0 */
    double policy_norm, critic_norm, value_mean, return_mean, return_var, explained;
    double beta; /* used in this iteration */
} PpoStats;

/* Old and reference log-probabilities, values and scores of all episodes, from the training forward
 * on the minibatches of the first inner epoch. The ranks share them without regard to who trains on
 * what: a token's forward pass is the same bits in any micro-batch. Collective. */
void ppo_score(Ppo *p, Episodes *e, int64_t iteration);
/* Rewards with the KL penalty, GAE, whitening over the global batch. Not collective (all ranks hold
 * all episodes). */
void ppo_advantages(Ppo *p, Episodes *e, PpoStats *s);
/* Inner epochs over minibatches: policy, critic, pretraining term, EMA; then the KL controller.
 * Collective; ERR_INTERNAL after too many gradients that are not finite. */
int ppo_update(Ppo *p, Episodes *e, int64_t iteration, double policy_lr, double critic_lr,
               PpoStats *s);

/* Gradients of the losses of episodes pick[0..n) with weight 1/tokens each token, added to both
 * models; sums[] gets what ppo_update reports. `last`: they are this
 * rank's last of the step (but for a pretraining term's). For ppo_update and the self-test. Not
 * collective. */
enum {
    SUM_POLICY,
    SUM_VALUE,
    SUM_APPROXKL,
    SUM_CLIP,
    SUM_VALUE_CLIP,
    SUM_RATIO,
    SUM_GAP,
    SUM_COUNT
};
void ppo_gradients(Ppo *p, const Episodes *e, const int64_t *pick, int64_t n, int64_t tokens,
                   bool last, double sums[SUM_COUNT]);

#endif

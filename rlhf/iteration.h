/* iteration.h: one iteration of PPO for language models, as docs/MATH.md and Ouyang 2022 (App. C)
 * have it: sample, score, advantages, updates. The stage around it is ppo.c. */
#ifndef RLHF_ITERATION_H
#define RLHF_ITERATION_H

#include "rlhf/ppo_math.h"
#include "rlhf/rollout.h"
#include "train/opening.h"

/* Bound on PpoStats.decode_gap: sampler and training forward are the same function. */
#define PPO_DECODE_GAP 1e-4

typedef struct PpoOptions {
    int64_t batch, minibatches, epochs; /* episodes an iteration; optimizer steps an inner epoch */
    int64_t micro_tokens;
    double temperature, clip, clip_value, gamma, lambda, no_stop_score;
    bool whiten;
    double ptx_coef, ptx_ratio; /* windows an episode; 0: no pretraining term */
    /* Without a critic. samples: of a prompt, episodes that follow each other; 0: PPO. */
    int64_t samples, longest; /* longest: response (AGGREGATE_CONSTANT) */
    bool leave_one_out, scale;
    int aggregate;       /* AGGREGATE_*: how tokens' losses become the minibatch's */
    double clip_high;    /* 0: as clip */
    bool sequence_ratio; /* GSPO's importance ratio of a response */
    bool kl_in_loss;
    uint64_t seed;
} PpoOptions;

/* Everything that an iteration reads and changes. Borrowed. */
typedef struct Ppo {
    PpoOptions o;
    Trainer policy, critic;  /* critic.gpt NULL: none */
    Gpt *reference, *reward; /* frozen; NULL: none is asked */
    Ema ema;                 /* of the policy; decay 0: none */
    KlControl kl;
    Windows ptx; /* without a corpus: no pretraining term */
    Comm *comm;
    bool gap_reported, no_stop_reported;
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
    double kl_loss;                /* a token's k3, as it stands in the loss, without beta */
    double groups, without_signal; /* without a critic: prompts sampled; all their scores equal */
    double policy_norm, critic_norm, value_mean, return_mean, return_var, explained;
    double beta; /* used in this iteration */
} PpoStats;

/* What the settings say; ERR_CONFIG where they contradict each other. Not collective. */
int iteration_options(const Config *c, PpoOptions *o, KlControl *kl);
/* What a policy that has just been loaded begins as, frozen: the base of its adapters, which is the
 * policy's (policy->base), else a copy. */
int iteration_reference(const Loaded *policy, Gpt **out);
/* The plan of an iteration; critic and reward model are taken to be as large as the policy. */
PlanWork iteration_plan(const Config *c, const GptConfig *policy);

/* Old and reference log-probabilities, values and scores of all episodes, from the training forward
 * on the minibatches of the first inner epoch. The ranks share them without regard to who trains on
 * what: a token's forward pass is the same bits in any micro-batch. Collective. */
void iteration_score(Ppo *p, Episodes *e, int64_t iteration);
/* Rewards with the KL penalty, GAE, whitening over the global batch. Not collective (all ranks hold
 * all episodes). */
void iteration_advantages(Ppo *p, Episodes *e, PpoStats *s);
/* The same without a critic: rewards of whole responses, compared within their groups. Every token
 * of a response has its advantage. */
void iteration_group_advantages(Ppo *p, Episodes *e, PpoStats *s);
/* Metrics of the iteration, those of a critic if there is one. Not collective. */
void iteration_report(const Ppo *p, Run *run, const PpoStats *s);
/* Said once: samples whose log-probabilities are not the training forward's are not the policy's;
 * where no response ends, all score the same. Not collective. */
void iteration_watch(Ppo *p, const Run *run, const PpoStats *s);
/* Inner epochs over minibatches: policy, critic, pretraining term, EMA; then the KL controller.
 * Collective; ERR_INTERNAL after too many gradients that are not finite. */
int iteration_update(Ppo *p, Episodes *e, int64_t iteration, double policy_lr, double critic_lr,
                     PpoStats *s);

/* What one optimizer step learns from. */
typedef struct Minibatch {
    Ppo *ppo;
    const Episodes *e;
    int64_t *pick, n; /* [n] its episodes */
    double weight;    /* 1 / response tokens of the minibatch */
} Minibatch;
/* Its steps: the policy's and the critic's. Not collective. For iteration_update and the
 * self-test. */
void iteration_steps(Minibatch *m, Step step[2]);

#endif

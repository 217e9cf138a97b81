/* ppo_math.h: the formulas of PPO as plain functions of numbers. Sources: Schulman 2016 (GAE), 2017
 * (PPO), Ziegler 2019 (KL controller), docs/MATH.md. Not collective. */
#ifndef RLHF_PPO_MATH_H
#define RLHF_PPO_MATH_H

#include <stdbool.h>
#include <stdint.h>

/* r_t = -beta (logp_t - ref_t) for all n response tokens, plus score at the last. */
void ppo_rewards(const float *logp, const float *ref_logp, int64_t n, double beta, double score,
                 float *reward);

/* delta_t = r_t + gamma v_{t+1} - v_t; A_t = delta_t + gamma lambda A_{t+1}; v after the end is 0.
 * ret_t = A_t + v_t. */
void ppo_gae(const float *reward, const float *value, int64_t n, double gamma, double lambda,
             float *advantage, float *ret);

/* (x - mean) / sqrt(var + 1e-8), population variance over all n numbers. */
void ppo_whiten(float *x, int64_t n);

/* max(-A rho, -A clip(rho, 1-low, 1+high)), rho = exp(d), d the log-probabilities' difference.
 * *dd: derivative. *clipped: the clipped branch is the larger one. low and high apart: DAPO (Yu
 * 2025, eq. 10). */
double ppo_clipped_loss(double d, double advantage, double low, double high, double *dd,
                        bool *clipped);

/* The same with d = logp - old and one clip for both sides. */
double ppo_policy_loss(double logp, double old, double advantage, double clip, double *dlogp,
                       bool *clipped);

/* k3 of Schulman's three estimators of a token's KL to the reference, e^-d - 1 + d with d = logp -
 * ref; *dlogp: derivative. Never negative. */
double ppo_k3(double logp, double ref, double *dlogp);

/* The advantages of a prompt's K samples with rewards r, without a critic: r_i - b_i, where b_i is
 * the mean of the group (GRPO, Shao 2024) or of the other samples (leave_one_out: RLOO, Ahmadian
 * 2024), and with `scale` divided by their standard deviation (of a sample, K - 1) + 1e-4. K = 1:
 * 0. */
void ppo_group_advantages(const double *r, int64_t K, bool leave_one_out, bool scale, double *a);

/* 1/2 max((v-R)^2, (clip(v, old-e, old+e) - R)^2); e = 0: no clipping. */
double ppo_value_loss(double v, double old, double ret, double clip, double *dv, bool *clipped);

/* The KL penalty's weight: fixed, or adaptive (Ziegler 2019): e = clip(kl/target - 1, -0.2, 0.2),
 * beta *= 1 + e * episodes / horizon. kl: mean over episodes of the per-episode sum, in nats. */
typedef struct KlControl {
    bool adaptive;
    double beta, target, horizon;
} KlControl;
void kl_control_update(KlControl *k, double kl, int64_t episodes);

#endif

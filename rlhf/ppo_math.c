/* ppo_math.c: the formulas of PPO. See ppo_math.h. */
#include "rlhf/ppo_math.h"

#include <math.h>

static double clamp(double x, double lo, double hi) { return x < lo ? lo : x > hi ? hi : x; }

void ppo_rewards(const float *logp, const float *ref_logp, int64_t n, double beta, double score,
                 float *reward) {
    for (int64_t t = 0; t < n; t++)
        reward[t] =
            (float)(-beta * ((double)logp[t] - (double)ref_logp[t]) + (t == n - 1 ? score : 0));
}

void ppo_gae(const float *reward, const float *value, int64_t n, double gamma, double lambda,
             float *advantage, float *ret) {
    double next_value = 0, next_advantage = 0;
    for (int64_t t = n - 1; t >= 0; t--) {
        double delta = (double)reward[t] + gamma * next_value - (double)value[t];
        double a = delta + gamma * lambda * next_advantage;
        advantage[t] = (float)a;
        ret[t] = (float)(a + (double)value[t]);
        next_value = (double)value[t];
        next_advantage = a;
    }
}

void ppo_whiten(float *x, int64_t n) {
    double mean = 0, var = 0;
    for (int64_t i = 0; i < n; i++) mean += (double)x[i];
    mean /= (double)n;
    for (int64_t i = 0; i < n; i++) var += ((double)x[i] - mean) * ((double)x[i] - mean);
    var /= (double)n;
    for (int64_t i = 0; i < n; i++) x[i] = (float)(((double)x[i] - mean) / sqrt(var + 1e-8));
}

double ppo_clipped_loss(double d, double advantage, double low, double high, double *dd,
                        bool *clipped) {
    const double ratio = exp(d);
    const double free = -advantage * ratio;
    const double held = -advantage * clamp(ratio, 1 - low, 1 + high);
    *clipped = held > free;
    *dd = *clipped ? 0 : free; /* d ratio / dd = ratio; the clipped branch is constant */
    return *clipped ? held : free;
}

double ppo_policy_loss(double logp, double old, double advantage, double clip, double *dlogp,
                       bool *clipped) {
    return ppo_clipped_loss(logp - old, advantage, clip, clip, dlogp, clipped);
}

double ppo_k3(double logp, double ref, double *dlogp) {
    const double d = logp - ref;
    *dlogp = 1 - exp(-d);
    return expm1(-d) + d;
}

void ppo_group_advantages(const double *r, int64_t K, bool leave_one_out, bool scale, double *a) {
    const double n = (double)K;
    double mean = 0, var = 0;
    for (int64_t i = 0; i < K; i++) mean += r[i] / n;
    for (int64_t i = 0; i < K; i++) var += (r[i] - mean) * (r[i] - mean) / fmax(n - 1, 1);
    /* r_i - (n mean - r_i) / (n - 1) = n / (n - 1) (r_i - mean) */
    const double factor = leave_one_out ? n / fmax(n - 1, 1) : 1;
    for (int64_t i = 0; i < K; i++) a[i] = factor * (r[i] - mean) / (scale ? sqrt(var) + 1e-4 : 1);
}

double ppo_value_loss(double v, double old, double ret, double clip, double *dv, bool *clipped) {
    const double held = clip > 0 ? clamp(v, old - clip, old + clip) : v;
    const double free2 = (v - ret) * (v - ret), held2 = (held - ret) * (held - ret);
    *clipped = held2 > free2;
    *dv = *clipped ? 0 : v - ret;
    return 0.5 * (*clipped ? held2 : free2);
}

void kl_control_update(KlControl *k, double kl, int64_t episodes) {
    if (!k->adaptive || !isfinite(kl)) return; /* a bad batch must not spoil beta for ever */
    double e = clamp(kl / k->target - 1, -0.2, 0.2);
    k->beta *= 1 + e * (double)episodes / k->horizon;
}

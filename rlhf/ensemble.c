/* ensemble.c: several reward models as one. See ensemble.h. */
#include "rlhf/ensemble.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "rlhf/score.h"
#include "train/plan.h"

double ensemble_score(const double *r, int n, int how, double weight, double *sd) {
    double mean = 0, variance = 0, worst = r[0];
    for (int k = 0; k < n; k++) {
        mean += r[k] / n;
        worst = fmin(worst, r[k]);
    }
    for (int k = 0; k < n; k++) variance += (r[k] - mean) * (r[k] - mean) / n;
    *sd = sqrt(variance);
    switch (how) {
    case ENSEMBLE_MEAN: return mean;
    case ENSEMBLE_WORST: return worst;
    case ENSEMBLE_UNCERTAINTY: return mean - weight * variance;
    default: return r[0];
    }
}

int ensemble_open(Ensemble *m, Run *run, const Loaded *policy) {
    const Config *c = &run->cfg;
    *m = (Ensemble){.cfg = c};
    if (c->from_ensemble.n == 0 && c->reward_ensemble != ENSEMBLE_MEAN)
        return config_bad(c, "reward.ensemble",
                          "from.ensemble names no reward model beside from.reward");
    if (c->from_ensemble.n == 0) return 0;
    if (!c->from_reward[0])
        return config_bad(c, "from.ensemble", "the first model of an ensemble is from.reward");
    if (c->from_ensemble.n > PLAN_ENSEMBLE)
        return config_bad(c, "from.ensemble", "%d models, expected at most %d", c->from_ensemble.n,
                          PLAN_ENSEMBLE);
    m->other = xcalloc((size_t)c->from_ensemble.n, sizeof *m->other);
    for (int k = 0; k < c->from_ensemble.n; k++) {
        char role[32];
        Loaded *l = &m->other[m->n];
        snprintf(role, sizeof role, "reward.%d", k + 2);
        TRY(load_open(l, c->from_ensemble.v[k], "from.ensemble", LOAD_REWARD, run->comm));
        m->n++;
        l->half = c->model_weights == WEIGHTS_BF16;
        run_parent(run, role, l->id);
        TRY(load_same_tokenizer(policy, l));
        if (l->cfg.context < policy->cfg.context)
            return config_bad(c, "from.ensemble",
                              "the context of %s is %" PRId64
                              ", shorter than the policy's %" PRId64,
                              l->path, l->cfg.context, policy->cfg.context);
    }
    return 0;
}

int ensemble_weights(Ensemble *m, const Loaded *policy, const Gpt *base) {
    for (int k = 0; k < m->n; k++) {
        Loaded *l = &m->other[k];
        TRY(base && load_is_on(l, policy) ? load_adapters(l, base, &l->gpt, false)
                                          : load_weights(l, false));
    }
    return 0;
}

void ensemble_close(Ensemble *m) {
    for (int k = 0; k < m->n; k++) load_free(&m->other[k]);
    free(m->other);
    *m = (Ensemble){0};
}

size_t ensemble_bytes(const Ensemble *m) {
    size_t n = 0;
    for (int k = 0; k < m->n; k++) n += paramset_bytes(&m->other[k].gpt->params);
    return n;
}

bool ensemble_rewards(const Ensemble *m) {
    return m->n > 0 && m->cfg->reward_ensemble != ENSEMBLE_FIRST;
}

void ensemble_join(Ensemble *m, const Sequence *q, const unsigned char *ended, int64_t n, Comm *c,
                   float *r) {
    const int all = m->n + 1;
    int64_t finished = 0;
    m->spread = m->others = 0;
    if (m->n == 0) return;
    AUTOFREE float *score = xmalloc((size_t)(m->n * n + 1) * sizeof *score);
    for (int k = 0; k < m->n; k++)
        score_shared(m->other[k].gpt, q, n, m->cfg->train_micro_tokens, c, score + k * n);
    for (int64_t i = 0; i < n; i++) {
        double of[1 + PLAN_ENSEMBLE], sd;
        if (!ended[i]) continue;
        of[0] = (double)r[i];
        for (int k = 0; k < m->n; k++) {
            of[k + 1] = (double)score[k * n + i];
            m->others += of[k + 1] / m->n;
        }
        r[i] = (float)ensemble_score(of, all, m->cfg->reward_ensemble, m->cfg->reward_spread, &sd);
        m->spread += sd;
        finished++;
    }
    if (finished == 0) return;
    m->spread /= (double)finished;
    m->others /= (double)finished;
}

void ensemble_episodes(Ensemble *m, Episodes *e, Comm *c) {
    if (!ensemble_rewards(m)) return;
    AUTOFREE Sequence *q = xmalloc((size_t)(e->n + 1) * sizeof *q);
    for (int64_t i = 0; i < e->n; i++)
        q[i] = (Sequence){.tokens = e->tokens + e->start[i], .n = e->start[i + 1] - e->start[i]};
    ensemble_join(m, q, e->stopped, e->n, c, e->score);
}

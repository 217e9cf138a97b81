/* preference.c: DPO and its relatives. See preference.h. */
#include "rlhf/preference.h"

#include <math.h>

#include "rlhf/ranking.h"

PrefOptions preference_options(const Config *c) {
    const bool by_method =
        c->dpo_loss == DPO_IPO || c->dpo_loss == DPO_SIMPO || c->dpo_loss == DPO_ORPO;
    return (PrefOptions){.loss = c->dpo_loss,
                         .mean = c->dpo_length == LENGTH_MEAN ||
                                 (c->dpo_length == LENGTH_METHOD && by_method),
                         .beta = c->dpo_beta,
                         .smoothing = c->dpo_smoothing,
                         .margin = c->dpo_margin,
                         .sft = c->dpo_sft,
                         .weight = {c->dpo_desirable, c->dpo_undesirable}};
}

bool preference_has_reference(int loss) { return loss != DPO_SIMPO && loss != DPO_ORPO; }

/* By what a sum over the answer's tokens is divided. */
static double length(const PrefOptions *o, const PrefAnswer *a) {
    return o->mean && a->n > 0 ? (double)a->n : 1;
}

static double log_ratio(const PrefOptions *o, const PrefAnswer *a) {
    return (a->logp - (preference_has_reference(o->loss) ? a->ref : 0)) / length(o, a);
}

double preference_reward(const PrefOptions *o, const PrefAnswer *a) {
    return o->beta * log_ratio(o, a);
}

/* -(1-e) log s(h) - e log s(-h), s the sigmoid. */
static double smoothed(double h, double e, double *dh) {
    *dh = e * sigmoid(h) - (1 - e) * sigmoid(-h);
    return (1 - e) * softplus(-h) + e * softplus(h);
}

/* log odds of p = e^x, x < 0; an answer that is certain (or has no token) is taken as almost so. */
static double log_odds(double x, double *dx) {
    const double q = -expm1(fmin(x, -1e-12)); /* 1 - p */
    *dx = 1 / q;
    return x - log(q);
}

double preference_pair(const PrefOptions *o, const PrefAnswer *w, const PrefAnswer *l, double *dw,
                       double *dl) {
    const double lw = length(o, w), ll = length(o, l), nw = w->n > 0 ? (double)w->n : 1;
    double u = log_ratio(o, w), v = log_ratio(o, l), du = 1, dv = 1, sft = o->sft, loss, d;
    if (o->loss == DPO_ORPO) {
        u = log_odds(u, &du);
        v = log_odds(v, &dv);
        sft += 1;
    }
    const double a = u - v, beta = o->beta;
    switch (o->loss) {
    case DPO_IPO:
        d = 2 * (a - 1 / (2 * beta));
        loss = d * d / 4;
        break;
    case DPO_HINGE:
        d = beta * a < 1 ? -beta : 0;
        loss = fmax(0, 1 - beta * a);
        break;
    case DPO_ORPO:
        loss = beta * smoothed(a, 0, &d);
        d *= beta;
        break;
    default:
        loss = smoothed(beta * a - (o->loss == DPO_SIMPO ? o->margin : 0), o->smoothing, &d);
        d *= beta;
    }
    *dw = d * du / lw - sft / nw;
    *dl = -d * dv / ll;
    return loss - sft * w->logp / nw;
}

double preference_single(const PrefOptions *o, const PrefAnswer *a, bool desirable, double *da) {
    const double s = desirable ? 1 : -1, weight = o->weight[!desirable];
    const double h = s * o->beta * (log_ratio(o, a) - o->kl), miss = sigmoid(-h); /* 1 - s(h) */
    *da = -weight * s * o->beta * miss * sigmoid(h) / length(o, a);
    if (!desirable || o->sft == 0 || a->n == 0) return weight * miss;
    *da -= o->sft / (double)a->n;
    return weight * miss - o->sft * a->logp / (double)a->n;
}

static void count(PrefStats *s, int side, const PrefOptions *o, const PrefAnswer *a) {
    s->n[side] += 1;
    s->reward[side] += preference_reward(o, a);
    s->logp[side] += a->logp;
}

int64_t preference_terms(const PrefOptions *o, const int32_t *rank, int64_t K) {
    return o->loss == DPO_KTO ? K : ranking_pairs(rank, K) > 0;
}

double preference_group(const PrefOptions *o, const PrefAnswer *a, const int32_t *rank, int64_t K,
                        double *d, PrefStats *s) {
    const int64_t P = ranking_pairs(rank, K);
    double loss = 0;
    for (int64_t i = 0; d && i < K; i++) d[i] = 0;
    for (int64_t i = 0; i < K && o->loss == DPO_KTO; i++) {
        double di;
        loss += preference_single(o, &a[i], rank[i] == 1, &di);
        if (d) d[i] = di;
        s->correct += (log_ratio(o, &a[i]) > o->kl) == (rank[i] == 1);
        s->pairs += 1;
        count(s, rank[i] != 1, o, &a[i]);
    }
    for (int64_t i = 0; i < K && o->loss != DPO_KTO; i++)
        for (int64_t j = 0; j < K; j++) {
            double dw, dl;
            if (rank[i] >= rank[j]) continue; /* i is the better one of the pair */
            loss += preference_pair(o, &a[i], &a[j], &dw, &dl) / (double)P;
            if (d) d[i] += dw / (double)P;
            if (d) d[j] += dl / (double)P;
            s->correct += preference_reward(o, &a[i]) > preference_reward(o, &a[j]);
            s->pairs += 1;
            count(s, 0, o, &a[i]);
            count(s, 1, o, &a[j]);
        }
    s->loss += loss;
    s->terms += (double)preference_terms(o, rank, K);
    return loss;
}

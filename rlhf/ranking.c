/* ranking.c: K-way ranking loss. See ranking.h. */
#include "rlhf/ranking.h"

#include <math.h>

int64_t ranking_pairs(const int32_t *rank, int64_t K) {
    int64_t n = 0;
    for (int64_t i = 0; i < K; i++)
        for (int64_t j = 0; j < i; j++) n += rank[i] != rank[j];
    return n;
}

double ranking_loss(const float *r, const int32_t *rank, int64_t K, double *dr, int64_t *pairs) {
    const int64_t P = ranking_pairs(rank, K);
    double loss = 0;
    if (pairs) *pairs = P;
    for (int64_t i = 0; i < K; i++) {
        double d = 0;
        for (int64_t j = 0; j < K; j++) {
            if (rank[i] == rank[j]) continue;
            double s = rank[i] < rank[j] ? 1 : -1, diff = s * ((double)r[i] - (double)r[j]);
            d -= s * sigmoid(-diff) / (double)P;
            if (s > 0) loss += softplus(-diff) / (double)P;
        }
        if (dr) dr[i] = d;
    }
    return loss;
}

double rank_bin_low(int bin) {
    static const double low[RANK_BINS] = {0, 0.25, 0.5, 1, 1.5, 2, 3, 4};
    return low[bin];
}

void rank_stats_add(RankStats *s, const float *r, const int32_t *rank, int64_t K) {
    int64_t pairs;
    s->loss += ranking_loss(r, rank, K, 0, &pairs);
    s->groups += pairs > 0;
    for (int64_t i = 0; i < K; i++) {
        s->n += 1;
        s->sum += (double)r[i];
        s->sumsq += (double)r[i] * (double)r[i];
        for (int64_t j = 0; j < K; j++) {
            if (rank[i] >= rank[j]) continue; /* i is the better one of the pair */
            double diff = (double)r[i] - (double)r[j], correct = diff > 0 ? 1 : diff < 0 ? 0 : 0.5;
            int bin = RANK_BINS - 1;
            while (fabs(diff) < rank_bin_low(bin)) bin--;
            s->pairs += 1;
            s->correct += correct;
            s->margin += diff;
            s->bin_pairs[bin] += 1;
            s->bin_correct[bin] += correct;
        }
    }
}

double rank_accuracy(const RankStats *s) { return s->correct / s->pairs; }
double rank_loss(const RankStats *s) { return s->loss / s->groups; }
double rank_margin(const RankStats *s) { return s->margin / s->pairs; }
double rank_mean(const RankStats *s) { return s->sum / s->n; }

double rank_std(const RankStats *s) {
    double mean = rank_mean(s), var = s->sumsq / s->n - mean * mean;
    return sqrt(var > 0 ? var : 0);
}

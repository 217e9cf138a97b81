/* ranking.h: the K-way ranking loss of a reward model (Ouyang 2022, eq. 1) and what is reported of
 * one. Plain functions of a group's rewards; no tensors. Not collective. */
#ifndef RLHF_RANKING_H
#define RLHF_RANKING_H

#include <math.h>
#include <stdint.h>

/* The K completions of one prompt: rewards r[K], ranks rank[K] (1 is best, equal ranks tie). Over
 * the P pairs that do not tie, with w the better and l the worse one:
 *
 *     loss       = -1/P sum log sigmoid(r_w - r_l)
 *     dloss/dr_i = -1/P sum_j s_ij sigmoid(-s_ij (r_i - r_j))
 *
 * with s_ij = +1 if i is preferred, else -1.
 *
 * Writes dr[K] (not added to; may be NULL), returns the loss and the number of pairs in *pairs
 * (may be NULL; 0 pairs: the loss is 0). */
double ranking_loss(const float *r, const int32_t *rank, int64_t K, double *dr, int64_t *pairs);
int64_t ranking_pairs(const int32_t *rank, int64_t K);

/* Without overflow; softplus: log(1 + e^x). */
static inline double sigmoid(double x) {
    const double e = exp(-fabs(x));
    return (x >= 0 ? 1 : e) / (1 + e);
}
static inline double softplus(double x) { return (x > 0 ? x : 0) + log1p(exp(-fabs(x))); }

/* What is reported of a reward model over many groups. */
enum { RANK_BINS = 8 };
typedef struct RankStats {
    double groups, pairs, correct; /* correct: r_w > r_l, half where they are equal */
    double loss;                   /* sum over groups of their losses */
    double margin;                 /* sum over pairs of r_w - r_l */
    double n, sum, sumsq;          /* completions and their rewards */
    double bin_pairs[RANK_BINS], bin_correct[RANK_BINS]; /* by |r_w - r_l|, see rank_bin_low */
} RankStats;

double rank_bin_low(int bin); /* lower edge of a calibration bin: 0, .25, .5, 1, 1.5, 2, 3, 4 */
void rank_stats_add(RankStats *s, const float *r, const int32_t *rank, int64_t K);
double rank_accuracy(const RankStats *s); /* NaN without pairs, like the following */
double rank_loss(const RankStats *s);     /* mean over the groups that have pairs */
double rank_margin(const RankStats *s);
double rank_mean(const RankStats *s);
double rank_std(const RankStats *s);

#endif

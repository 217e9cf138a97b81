/* preference.h: losses that learn from preferences without a reward model, as plain functions of
 * the completions' log-probabilities; no tensors. docs/MATH.md has the formulas side by side. Not
 * collective.
 *
 *   sigmoid  DPO (Rafailov 2023, eq. 7), with label smoothing (Mitchell 2023)
 *   ipo      Azar 2023, eq. 17; with means over the tokens, as its authors ran it (TRL asked them)
 *   hinge    SLiC (Zhao 2023) on DPO's rewards
 *   simpo    Meng 2024, eq. 6: no reference, mean log-probabilities, a margin
 *   orpo     Hong 2024, eq. 6 and 7: no reference, odds, and the chosen answer's likelihood
 *   kto      Ethayarajh 2024, eq. 8: single answers, desirable or not */
#ifndef RLHF_PREFERENCE_H
#define RLHF_PREFERENCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"

typedef struct PrefOptions {
    int loss;         /* DPO_*: dpo.loss */
    bool mean;        /* log-probabilities a token instead of an answer */
    double beta;      /* ORPO: lambda */
    double smoothing; /* share of wrong labels (sigmoid, simpo) */
    double margin;    /* SimPO's gamma */
    double sft;       /* weight of the chosen answer's mean -log p a token */
    double weight[2]; /* KTO: of desirable and of undesirable answers */
    double kl;        /* KTO: the reference point z0, in nats an answer */
} PrefOptions;

PrefOptions preference_options(const Config *c);
/* Does the loss read the reference's log-probabilities? */
bool preference_has_reference(int loss);

/* An answer: sums over its n tokens of the log-probabilities under policy and reference. n 0: both
 * are 0. */
typedef struct PrefAnswer {
    double logp, ref;
    int64_t n;
} PrefAnswer;

/* The implicit reward: beta (logp - ref); SimPO and ORPO: beta times the mean of logp. */
double preference_reward(const PrefOptions *o, const PrefAnswer *a);

/* Of a pair, w better than l, and its derivatives by their logp. Not for KTO. */
double preference_pair(const PrefOptions *o, const PrefAnswer *w, const PrefAnswer *l, double *dw,
                       double *dl);
/* KTO's of one answer. */
double preference_single(const PrefOptions *o, const PrefAnswer *a, bool desirable, double *da);

/* What is reported, sums over pairs (KTO: over answers). */
typedef struct PrefStats {
    double loss, terms;    /* losses of prompts (KTO: of answers), their number */
    double pairs, correct; /* correct: the chosen one has the larger reward (KTO: the reward
                                      lies on the right side of beta z0) */
    double n[2], reward[2], logp[2]; /* chosen and rejected answers */
} PrefStats;

/* The K answers of one prompt with rank[K], 1 is best: the mean over the pairs that do not tie, 0
 * without any; KTO: the sum over the answers, rank 1 is desirable. Writes d[K], the derivatives
 * (may be NULL), and adds to *s. */
double preference_group(const PrefOptions *o, const PrefAnswer *a, const int32_t *rank, int64_t K,
                        double *d, PrefStats *s);
/* How many terms of the batch's mean a prompt has: 1, 0 without pairs; KTO: K. */
int64_t preference_terms(const PrefOptions *o, const int32_t *rank, int64_t K);

#endif

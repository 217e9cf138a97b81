/* stats.h: the statistics of comparisons between runs. All values are doubles; random numbers are
 * counter-based (core/rng.h), so the same input gives the same interval on any machine. The unit of
 * inference is the seed: a value a seed, and an interval over seeds. Where something cannot be said
 * (one seed has no spread) the result is NAN, never a guess. Nothing here is collective. */
#ifndef EVAL_STATS_H
#define EVAL_STATS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct StatsInterval {
    double mean, low, high; /* mean: the estimate, of whatever kind */
} StatsInterval;

/* --- distributions ---------------------------------------------------------------------------- */
double stats_t_cdf(double t, double df);
double stats_t_quantile(double p, double df);
double stats_normal_cdf(double z);
double stats_normal_quantile(double p);
double stats_beta_cdf(double x, double a, double b); /* regularised incomplete beta function */

/* --- means ------------------------------------------------------------------------------------ */
double stats_mean(const double *x, int64_t n);
double stats_sd(const double *x, int64_t n); /* n - 1 below; NAN for n < 2 */
/* Student's interval of the mean at a level such as 0.95. low = high = NAN for n < 2. */
StatsInterval stats_t(const double *x, int64_t n, double level);
/* One-sided: how probable is a mean at least so high if the true one is at most `bound`. NAN for
 * n < 2; without any spread 0, 0.5 or 1. */
double stats_t_above(const double *x, int64_t n, double bound);
/* Two one-sided tests (Schuirmann 1987): p of "the mean is not within low..high". */
double stats_tost(const double *x, int64_t n, double low, double high);
/* Mean of d (paired differences) and its standard error where those of a cluster (a prompt's) hang
 * together: residuals are summed within clusters, G / (G - 1) for few of them. cluster: any
 * labels. NAN for fewer than two clusters. */
double stats_cluster_se(const double *d, const int64_t *cluster, int64_t n, double *mean);
/* Clopper and Pearson 1934: k of n; exact, also for k = 0 and k = n. */
StatsInterval stats_share(int64_t k, int64_t n, double level);

/* --- bootstrap -------------------------------------------------------------------------------- */
/* A statistic of the units index[0..n-1], each 0..n-1, some several times. */
typedef double StatsFn(const void *ctx, const int64_t *index, int64_t n);
/* Bias-corrected and accelerated (Efron 1987). NAN bounds for n < 3; where no resample differs from
 * another low = high = the estimate. */
StatsInterval stats_bca(StatsFn *f, const void *ctx, int64_t n, double level, int64_t resamples,
                        uint64_t seed);
/* Mean of x[s * prompts + i], seeds drawn first, then prompts within each (the same prompts for all
 * seeds of a resample, as they answer the same ones); percentiles. */
StatsInterval stats_hierarchical(const double *x, int64_t seeds, int64_t prompts, double level,
                                 int64_t resamples, uint64_t seed);
double stats_quantile(const double *sorted, int64_t n, double p); /* linear, NumPy's default */

/* --- several tests, ranks --------------------------------------------------------------------- */
void stats_holm(const double *p, int64_t n, double *adjusted); /* Holm 1979; NAN counts as 1 */
/* Spearman's correlation (ties: mean ranks); *p (may be NULL): two-sided, all permutations up to
 * n = 8, else `permutations` random ones, the observed one counted. NAN where one of them is
 * constant. */
double stats_spearman(const double *x, const double *y, int64_t n, int64_t permutations,
                      uint64_t seed, double *p);
/* wins[i * n + j]: how often i beat j (ties half). Strengths with the mean 0, in logits (Bradley
 * and Terry 1952, by Hunter's 2004 MM iteration). false: someone has lost or won everything within
 * a group, so that there is no finite answer; strength is left NAN. */
bool stats_bradley_terry(const double *wins, int n, double *strength);

/* --- best of n, over-optimisation ------------------------------------------------------------- */
/* KL of the best of n samples from one: ln n - (n - 1) / n (Stiennon 2020, appendix G.3). */
double stats_best_of_kl(int64_t n);
/* Mean value of the sample with the highest score among n, over all subsets of n of the K samples:
 * unbiased (Nakano 2021, appendix I). Among equal scores any is taken. 1 <= n <= K. */
double stats_best_of(const double *score, const double *value, int64_t K, int64_t n);

/* Forms of a reward against d = sqrt(KL), each with an offset c and two parameters (Gao 2022,
 * equation 1): best of n c + d (a - b d), RL c + d (a - b ln d); and one that never falls,
 * c + a (1 - exp(-b d)), b > 0, a >= 0. */
typedef enum StatsForm { STATS_GAO_BON, STATS_GAO_RL, STATS_MONOTONE } StatsForm;
typedef struct StatsFit {
    double a, b, c;
    StatsInterval ia, ib; /* by Student; of the monotone form NAN */
    double rss, aic;      /* n ln(rss / n) + 2 (parameters and variance) */
    double peak;          /* the d of the highest value; HUGE_VAL: it does not fall */
} StatsFit;
/* false: fewer than five points or than three different d. */
bool stats_fit(StatsForm form, const double *d, const double *y, int64_t n, double level,
               StatsFit *out);
double stats_form(StatsForm form, const StatsFit *f, double d);
/* Slope of y on x by least squares; NAN for fewer than two different x. */
double stats_slope(const double *x, const double *y, int64_t n);
/* What y1 is above y0 where x is the same: the coefficient of "is of group 1" beside x in the
 * regression of both groups' y with one slope (analysis of covariance). NAN where no x differs. */
double stats_beside(const double *x1, const double *y1, int64_t n1, const double *x0,
                    const double *y0, int64_t n0);

/* --- verdicts --------------------------------------------------------------------------------- */
typedef enum StatsVerdict { STATS_UNDECIDED, STATS_HOLDS, STATS_FAILS } StatsVerdict;
/* Is the value above `bound` (above = false: below it)? Undecided where the interval contains the
 * bound or is none. */
StatsVerdict stats_verdict(StatsInterval i, double bound, bool above);
const char *stats_word(StatsVerdict v); /* "holds", "fails", "undecided" */

#endif

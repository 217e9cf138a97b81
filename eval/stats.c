/* stats.c: intervals and tests. See stats.h; fits and ranks are in stats_fit.c. */
#include "eval/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "core/rng.h"

/* --- distributions ---------------------------------------------------------------------------- */
/* The continued fraction of the incomplete beta function, by Lentz (Press et al. 2007, 6.4). */
static double beta_fraction(double x, double a, double b) {
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double h = d;
    for (int m = 1; m <= 10000; m++) {
        const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
                     odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        double step = 1;
        for (int k = 0; k < 2; k++) {
            const double f = k ? odd : even;
            d = 1 + f * d;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = 1 + f / c;
            if (fabs(c) < tiny) c = tiny;
            h *= step = d * c;
        }
        if (fabs(step - 1) < 1e-16) break;
    }
    return h;
}

double stats_beta_cdf(double x, double a, double b) {
    if (x <= 0 || x >= 1) return x <= 0 ? 0 : 1;
    const double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    return x < (a + 1) / (a + b + 2) ? front * beta_fraction(x, a, b) / a
                                     : 1 - front * beta_fraction(1 - x, b, a) / b;
}

double stats_t_cdf(double t, double df) {
    const double square = t * t, sign = t > 0 ? 1 : -1;
    if (square < df) return 0.5 + sign * stats_beta_cdf(square / (df + square), 0.5, df / 2) / 2;
    const double tail = stats_beta_cdf(df / (df + square), df / 2, 0.5) / 2;
    return t > 0 ? 1 - tail : tail;
}

double stats_normal_cdf(double z) { return erfc(-z * M_SQRT1_2) / 2; }

typedef double Cdf(double x, double a, double b);
static double t_cdf(double x, double df, double unused) { return stats_t_cdf(x, df); }
static double normal_cdf(double x, double unused, double unused2) { return stats_normal_cdf(x); }

/* Where cdf(x) = p, by halving low..high until it cannot be halved. */
static double invert(Cdf *cdf, double p, double a, double b, double low, double high) {
    for (int i = 0; i < 2000; i++) {
        const double middle = low + (high - low) / 2;
        if (middle <= low || middle >= high) break;
        if (cdf(middle, a, b) < p)
            low = middle;
        else
            high = middle;
    }
    return low + (high - low) / 2;
}

/* Of a symmetric distribution: the lower tail is the more exact one. */
static double quantile(Cdf *cdf, double p, double a) {
    if (!(p > 0 && p < 1)) return p == 0 ? -HUGE_VAL : p == 1 ? HUGE_VAL : (double)NAN;
    if (p > 0.5) return -quantile(cdf, 1 - p, a);
    double low = -1;
    while (cdf(low, a, 0) > p && low > -1e300) low *= 2;
    return invert(cdf, p, a, 0, low, 0);
}

double stats_t_quantile(double p, double df) { return quantile(t_cdf, p, df); }
double stats_normal_quantile(double p) { return quantile(normal_cdf, p, 0); }

/* --- means ------------------------------------------------------------------------------------ */
double stats_mean(const double *x, int64_t n) {
    double sum = 0, rest = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i];
    for (int64_t i = 0; i < n; i++) rest += x[i] - sum / (double)n;
    return n > 0 ? (sum + rest) / (double)n : (double)NAN;
}

double stats_sd(const double *x, int64_t n) {
    if (n < 2) return (double)NAN;
    const double mean = stats_mean(x, n);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (x[i] - mean) * (x[i] - mean);
    return sqrt(sum / (double)(n - 1));
}

StatsInterval stats_t(const double *x, int64_t n, double level) {
    const double mean = stats_mean(x, n), se = stats_sd(x, n) / sqrt((double)n);
    if (n < 2) return (StatsInterval){mean, (double)NAN, (double)NAN};
    const double wide = -stats_t_quantile((1 - level) / 2, (double)(n - 1)) * se;
    return (StatsInterval){mean, mean - wide, mean + wide};
}

double stats_t_above(const double *x, int64_t n, double bound) {
    if (n < 2) return (double)NAN;
    const double away = stats_mean(x, n) - bound, se = stats_sd(x, n) / sqrt((double)n);
    if (se <= 0) return away > 0 ? 0 : away < 0 ? 1 : 0.5;
    return stats_t_cdf(-away / se, (double)(n - 1));
}

double stats_tost(const double *x, int64_t n, double low, double high) {
    const double above = stats_t_above(x, n, low), below = 1 - stats_t_above(x, n, high);
    return above > below ? above : below;
}

typedef struct Labelled {
    int64_t cluster;
    double d;
} Labelled;

static int by_cluster(const void *a, const void *b) {
    const int64_t x = ((const Labelled *)a)->cluster, y = ((const Labelled *)b)->cluster;
    return (x > y) - (x < y);
}

double stats_cluster_se(const double *d, const int64_t *cluster, int64_t n, double *mean) {
    AUTOFREE Labelled *v = xcalloc((size_t)n + 1, sizeof *v);
    double sum = 0, groups = 0;
    *mean = stats_mean(d, n);
    for (int64_t i = 0; i < n; i++) v[i] = (Labelled){cluster[i], d[i] - *mean};
    qsort(v, (size_t)n, sizeof *v, by_cluster);
    for (int64_t i = 0; i < n; groups++) {
        double one = 0;
        const int64_t label = v[i].cluster;
        for (; i < n && v[i].cluster == label; i++) one += v[i].d;
        sum += one * one;
    }
    return groups < 2 ? (double)NAN : sqrt(groups / (groups - 1) * sum) / (double)n;
}

StatsInterval stats_share(int64_t k, int64_t n, double level) {
    const double tail = (1 - level) / 2, good = (double)k, bad = (double)(n - k);
    if (n < 1) return (StatsInterval){(double)NAN, (double)NAN, (double)NAN};
    return (StatsInterval){good / (double)n,
                           k == 0 ? 0 : invert(stats_beta_cdf, tail, good, bad + 1, 0, 1),
                           k == n ? 1 : invert(stats_beta_cdf, 1 - tail, good + 1, bad, 0, 1)};
}

/* --- bootstrap -------------------------------------------------------------------------------- */
static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double stats_quantile(const double *sorted, int64_t n, double p) {
    const double at = p * (double)(n - 1), below = floor(at);
    const int64_t i = (int64_t)below;
    if (n < 1 || isnan(p)) return (double)NAN;
    return i >= n - 1 ? sorted[n - 1] : sorted[i] + (at - below) * (sorted[i + 1] - sorted[i]);
}

static RngKey resample_key(uint64_t seed) {
    return (RngKey){.seed = seed, .purpose = RNG_RESAMPLE};
}

StatsInterval stats_bca(StatsFn *f, const void *ctx, int64_t n, double level, int64_t resamples,
                        uint64_t seed) {
    const RngKey key = resample_key(seed);
    AUTOFREE int64_t *index = xcalloc((size_t)n + 1, sizeof *index);
    AUTOFREE double *all = xcalloc((size_t)resamples + 1, sizeof *all),
                    *without = xcalloc((size_t)n + 1, sizeof *without);
    for (int64_t i = 0; i < n; i++) index[i] = i;
    const double estimate = f(ctx, index, n);
    StatsInterval out = {estimate, (double)NAN, (double)NAN};
    if (n < 3 || isnan(estimate)) return out;

    /* the jackknife, for the acceleration */
    double cubes = 0, squares = 0;
    for (int64_t k = 0; k < n; k++) {
        for (int64_t i = 0; i + 1 < n; i++) index[i] = i + (i >= k);
        without[k] = f(ctx, index, n - 1);
    }
    const double centre = stats_mean(without, n);
    for (int64_t k = 0; k < n; k++) {
        squares += pow(centre - without[k], 2);
        cubes += pow(centre - without[k], 3);
    }
    const double acceleration = squares > 0 ? cubes / (6 * pow(squares, 1.5)) : 0;

    double below = 0;
    for (int64_t r = 0; r < resamples; r++) {
        for (int64_t i = 0; i < n; i++) index[i] = rng_below(&key, (uint64_t)r, 0, (uint32_t)i, n);
        all[r] = f(ctx, index, n);
        if (isnan(all[r])) return out;
        below += all[r] < estimate ? 1 : all[r] > estimate ? 0 : 0.5;
    }
    qsort(all, (size_t)resamples, sizeof *all, ascending);
    const double bias = stats_normal_quantile(below / (double)resamples);
    double bound[2] = {all[0], all[resamples - 1]};
    for (int k = 0; k < 2 && isfinite(bias); k++) {
        const double z = bias + stats_normal_quantile(k ? (1 + level) / 2 : (1 - level) / 2);
        bound[k] =
            stats_quantile(all, resamples, stats_normal_cdf(bias + z / (1 - acceleration * z)));
    }
    return (StatsInterval){estimate, bound[0], bound[1]};
}

StatsInterval stats_hierarchical(const double *x, int64_t seeds, int64_t prompts, double level,
                                 int64_t resamples, uint64_t seed) {
    const RngKey key = resample_key(seed);
    AUTOFREE double *all = xcalloc((size_t)resamples + 1, sizeof *all);
    AUTOFREE int64_t *times = xcalloc((size_t)prompts + 1, sizeof *times);
    const double count = (double)(seeds * prompts);
    for (int64_t r = 0; r < resamples; r++) {
        memset(times, 0, (size_t)prompts * sizeof *times);
        for (int64_t i = 0; i < prompts; i++)
            times[rng_below(&key, (uint64_t)r, 1, (uint32_t)i, prompts)]++;
        for (int64_t k = 0; k < seeds; k++) {
            const double *row = x + prompts * rng_below(&key, (uint64_t)r, 0, (uint32_t)k, seeds);
            for (int64_t i = 0; i < prompts; i++) all[r] += (double)times[i] * row[i] / count;
        }
    }
    qsort(all, (size_t)resamples, sizeof *all, ascending);
    return (StatsInterval){stats_mean(x, seeds * prompts),
                           stats_quantile(all, resamples, (1 - level) / 2),
                           stats_quantile(all, resamples, (1 + level) / 2)};
}

/* --- verdicts --------------------------------------------------------------------------------- */
void stats_holm(const double *p, int64_t n, double *adjusted) {
    AUTOFREE bool *taken = xcalloc((size_t)n + 1, sizeof *taken);
    double so_far = 0;
    for (int64_t k = 0; k < n; k++) { /* in the order of p */
        int64_t least = -1;
        for (int64_t i = 0; i < n; i++) {
            if (taken[i]) continue;
            if (least < 0 || (isnan(p[least]) && !isnan(p[i])) || p[i] < p[least]) least = i;
        }
        taken[least] = true;
        const double now = isnan(p[least]) ? 1 : (double)(n - k) * p[least];
        so_far = now > so_far ? now : so_far;
        adjusted[least] = so_far > 1 ? 1 : so_far;
    }
}

StatsVerdict stats_verdict(StatsInterval i, double bound, bool above) {
    if (isnan(i.low) || isnan(i.high)) return STATS_UNDECIDED;
    if (i.low > bound) return above ? STATS_HOLDS : STATS_FAILS;
    if (i.high < bound) return above ? STATS_FAILS : STATS_HOLDS;
    return STATS_UNDECIDED;
}

const char *stats_word(StatsVerdict v) {
    return v == STATS_HOLDS ? "holds" : v == STATS_FAILS ? "fails" : "undecided";
}

/* stats_fit.c: ranks, strengths, best of n and fitted curves. See stats.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "core/rng.h"
#include "eval/stats.h"

/* --- Spearman --------------------------------------------------------------------------------- */
typedef struct Item {
    double v;
    int64_t i;
} Item;

static int by_value(const void *a, const void *b) {
    const Item *x = a, *y = b;
    return x->v != y->v ? (x->v > y->v) - (x->v < y->v) : (x->i > y->i) - (x->i < y->i);
}

/* Ranks from 1, those of equal values their mean. */
static void rank_all(const double *x, int64_t n, double *rank) {
    AUTOFREE Item *v = xcalloc((size_t)n + 1, sizeof *v);
    for (int64_t i = 0; i < n; i++) v[i] = (Item){x[i], i};
    qsort(v, (size_t)n, sizeof *v, by_value);
    for (int64_t i = 0, end; i < n; i = end) {
        for (end = i; end < n && v[end].v <= v[i].v;) end++;
        for (int64_t k = i; k < end; k++) rank[v[k].i] = (double)(i + end + 1) / 2;
    }
}

static double correlation(const double *x, const double *y, int64_t n) {
    const double mx = stats_mean(x, n), my = stats_mean(y, n);
    double xy = 0, xx = 0, yy = 0;
    for (int64_t i = 0; i < n; i++) {
        xy += (x[i] - mx) * (y[i] - my);
        xx += (x[i] - mx) * (x[i] - mx);
        yy += (y[i] - my) * (y[i] - my);
    }
    return xx > 0 && yy > 0 ? xy / sqrt(xx * yy) : (double)NAN;
}

/* The next permutation in lexicographic order; false after the last. */
static bool permute(int64_t *v, int64_t n) {
    int64_t i = n - 2, j = n - 1;
    while (i >= 0 && v[i] >= v[i + 1]) i--;
    if (i < 0) return false;
    while (v[j] <= v[i]) j--;
    int64_t keep = v[i];
    v[i] = v[j];
    v[j] = keep;
    for (int64_t a = i + 1, b = n - 1; a < b; a++, b--) {
        keep = v[a];
        v[a] = v[b];
        v[b] = keep;
    }
    return true;
}

/* Share of permutations of y that correlate with x at least as strongly as `found`. */
static double permuted(const double *x, const double *y, int64_t n, double found,
                       int64_t permutations, uint64_t seed) {
    const RngKey key = {.seed = seed, .purpose = RNG_RESAMPLE};
    const bool all = n <= 8;
    AUTOFREE int64_t *order = xcalloc((size_t)n + 1, sizeof *order);
    AUTOFREE double *other = xcalloc((size_t)n + 1, sizeof *other);
    double far = all ? 0 : 1, count = all ? 0 : 1; /* the observed order is one of them */
    for (int64_t i = 0; i < n; i++) order[i] = i;
    for (int64_t r = 0; all || r < permutations; r++) {
        for (int64_t i = n - 1; !all && i > 0; i--) {
            const int64_t j = rng_below(&key, (uint64_t)r, 2, (uint32_t)i, i + 1), keep = order[i];
            order[i] = order[j];
            order[j] = keep;
        }
        for (int64_t i = 0; i < n; i++) other[i] = y[order[i]];
        far += fabs(correlation(x, other, n)) >= fabs(found) - 1e-12;
        count++;
        if (all && !permute(order, n)) break;
    }
    return far / count;
}

double stats_spearman(const double *x, const double *y, int64_t n, int64_t permutations,
                      uint64_t seed, double *p) {
    AUTOFREE double *rx = xcalloc((size_t)n + 1, sizeof *rx),
                    *ry = xcalloc((size_t)n + 1, sizeof *ry);
    rank_all(x, n, rx);
    rank_all(y, n, ry);
    const double found = correlation(rx, ry, n);
    if (p) *p = isnan(found) ? found : permuted(rx, ry, n, found, permutations, seed);
    return found;
}

/* --- Bradley and Terry ------------------------------------------------------------------------ */
/* Can everybody be reached from everybody along wins? Ford's condition for a finite answer. */
static bool connected(const double *wins, int n) {
    AUTOFREE bool *reach = xcalloc((size_t)n * (size_t)n, sizeof *reach);
    for (int i = 0; i < n * n; i++) reach[i] = wins[i] > 0;
    for (int k = 0; k < n; k++)
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++)
                if (reach[i * n + k] && reach[k * n + j]) reach[i * n + j] = true;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            if (i != j && !reach[i * n + j]) return false;
    return true;
}

bool stats_bradley_terry(const double *wins, int n, double *strength) {
    AUTOFREE double *e = xcalloc((size_t)n + 1, sizeof *e),
                    *next = xcalloc((size_t)n + 1, sizeof *next);
    for (int i = 0; i < n; i++) strength[i] = (double)NAN;
    if (n < 2 || !connected(wins, n)) return false;
    for (int i = 0; i < n; i++) e[i] = 1;
    double moved = 1;
    for (int round = 0; round < 100000 && moved > 1e-13; round++) {
        double logs = 0;
        for (int i = 0; i < n; i++) {
            double won = 0, weight = 0;
            for (int j = 0; j < n; j++) {
                if (i == j) continue;
                won += wins[i * n + j];
                weight += (wins[i * n + j] + wins[j * n + i]) / (e[i] + e[j]);
            }
            next[i] = won / weight;
            logs += log(next[i]) / n;
        }
        moved = 0;
        for (int i = 0; i < n; i++) {
            next[i] /= exp(logs);
            moved = fmax(moved, fabs(log(next[i] / e[i])));
            e[i] = next[i];
        }
    }
    for (int i = 0; i < n; i++) strength[i] = log(e[i]);
    return true;
}

/* --- best of n -------------------------------------------------------------------------------- */
double stats_best_of_kl(int64_t n) { return log((double)n) - (double)(n - 1) / (double)n; }

double stats_best_of(const double *score, const double *value, int64_t K, int64_t n) {
    CHECK(n >= 1 && n <= K, "best of %lld of %lld", (long long)n, (long long)K);
    AUTOFREE Item *v = xcalloc((size_t)K + 1, sizeof *v);
    for (int64_t i = 0; i < K; i++) v[i] = (Item){score[i], i};
    qsort(v, (size_t)K, sizeof *v, by_value);
    /* of all subsets the share with the best one at sorted place i: C(i, n-1) / C(K, n), from the
     * highest place, n / K, downwards */
    double mean = 0, share = (double)n / (double)K;
    for (int64_t end = K, begin; end > 0; end = begin) {
        double sum = 0, weight = 0;
        for (begin = end; begin > 0 && v[begin - 1].v >= v[end - 1].v; begin--) {
            const int64_t i = begin - 1;
            sum += value[v[i].i];
            weight += share;
            share *= i > 0 ? (double)(i - n + 1) / (double)i : 0;
            if (share < 0) share = 0;
        }
        mean += weight * sum / (double)(end - begin);
    }
    return mean;
}

/* --- least squares ---------------------------------------------------------------------------- */
double stats_slope(const double *x, const double *y, int64_t n) {
    const double mx = stats_mean(x, n), my = stats_mean(y, n);
    double xy = 0, xx = 0;
    for (int64_t i = 0; i < n; i++) {
        xy += (x[i] - mx) * (y[i] - my);
        xx += (x[i] - mx) * (x[i] - mx);
    }
    return xx > 0 ? xy / xx : (double)NAN;
}

double stats_beside(const double *x1, const double *y1, int64_t n1, const double *x0,
                    const double *y0, int64_t n0) {
    const double *const x[] = {x0, x1}, *const y[] = {y0, y1};
    const double mx[] = {stats_mean(x0, n0), stats_mean(x1, n1)},
                 my[] = {stats_mean(y0, n0), stats_mean(y1, n1)};
    double xy = 0, xx = 0;
    for (int g = 0; g < 2; g++)
        for (int64_t i = 0; i < (g ? n1 : n0); i++) {
            xy += (x[g][i] - mx[g]) * (y[g][i] - my[g]);
            xx += (x[g][i] - mx[g]) * (x[g][i] - mx[g]);
        }
    return xx > 0 ? my[1] - my[0] - xy / xx * (mx[1] - mx[0]) : (double)NAN;
}

/* Inverse of a symmetric 3 x 3 matrix; false where it has none. */
static bool inverse3(const double m[3][3], double out[3][3]) {
    double det = 0;
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            const int a = (j + 1) % 3, b = (j + 2) % 3, c = (i + 1) % 3, d = (i + 2) % 3;
            out[i][j] = m[a][c] * m[b][d] - m[a][d] * m[b][c];
        }
    for (int j = 0; j < 3; j++) det += m[0][j] * out[j][0];
    for (int i = 0; i < 9; i++) (&out[0][0])[i] /= det;
    return det > 1e-14 * m[0][0] * m[1][1] * m[2][2];
}

/* y = p0 + p1 u + p2 w; the residual sum of squares, and the variances of p over that of y. */
static bool regress(const double *u, const double *w, const double *y, int64_t n, double p[3],
                    double var[3], double *rss) {
    double m[3][3] = {{0}}, v[3][3], right[3] = {0};
    for (int64_t i = 0; i < n; i++) {
        const double row[3] = {1, u[i], w[i]};
        for (int a = 0; a < 3; a++) {
            right[a] += row[a] * y[i];
            for (int b = 0; b < 3; b++) m[a][b] += row[a] * row[b];
        }
    }
    if (!inverse3(m, v)) return false;
    for (int a = 0; a < 3; a++) {
        p[a] = v[a][0] * right[0] + v[a][1] * right[1] + v[a][2] * right[2];
        var[a] = v[a][a];
    }
    *rss = 0;
    for (int64_t i = 0; i < n; i++) *rss += pow(y[i] - p[0] - p[1] * u[i] - p[2] * w[i], 2);
    return true;
}

/* --- forms ------------------------------------------------------------------------------------ */
double stats_form(StatsForm form, const StatsFit *f, double d) {
    if (form == STATS_MONOTONE) return f->c - f->a * expm1(-f->b * d);
    if (form == STATS_GAO_BON) return f->c + d * (f->a - f->b * d);
    return f->c + (d > 0 ? d * (f->a - f->b * log(d)) : 0);
}

/* The best a >= 0 and c of the monotone form for this b. */
static double monotone_rss(const double *d, const double *y, int64_t n, double b, StatsFit *f) {
    AUTOFREE double *u = xcalloc((size_t)n + 1, sizeof *u);
    for (int64_t i = 0; i < n; i++) u[i] = -expm1(-b * d[i]);
    const double slope = stats_slope(u, y, n);
    f->b = b;
    f->a = slope > 0 ? slope : 0;
    f->c = stats_mean(y, n) - f->a * stats_mean(u, n);
    f->rss = 0;
    for (int64_t i = 0; i < n; i++) f->rss += pow(y[i] - stats_form(STATS_MONOTONE, f, d[i]), 2);
    return f->rss;
}

/* A grid of b, then the golden section around the best. From the straight line, b d small, to the
 * step at 0. */
static void fit_monotone(const double *d, const double *y, int64_t n, StatsFit *f) {
    double most = 0, best = 0, least = HUGE_VAL;
    for (int64_t i = 0; i < n; i++) most = fmax(most, d[i]);
    for (double e = -4; e <= 3; e += 0.05) {
        const double rss = monotone_rss(d, y, n, pow(10, e) / most, f);
        if (rss < least) {
            least = rss;
            best = e;
        }
    }
    double low = best - 0.05, high = best + 0.05;
    const double golden = (sqrt(5) - 1) / 2;
    for (int i = 0; i < 80; i++) {
        const double x = high - golden * (high - low), z = low + golden * (high - low);
        if (monotone_rss(d, y, n, pow(10, x) / most, f) <
            monotone_rss(d, y, n, pow(10, z) / most, f))
            high = z;
        else
            low = x;
    }
    monotone_rss(d, y, n, pow(10, (low + high) / 2) / most, f);
    f->ia = f->ib = (StatsInterval){f->a, (double)NAN, (double)NAN};
    f->ib.mean = f->b;
    f->peak = HUGE_VAL;
}

static bool fit_gao(StatsForm form, const double *d, const double *y, int64_t n, double level,
                    StatsFit *f) {
    AUTOFREE double *w = xcalloc((size_t)n + 1, sizeof *w);
    double p[3], var[3];
    for (int64_t i = 0; i < n; i++)
        w[i] = form == STATS_GAO_BON ? -d[i] * d[i] : d[i] > 0 ? -d[i] * log(d[i]) : 0;
    if (!regress(d, w, y, n, p, var, &f->rss)) return false;
    const double s2 = f->rss / (double)(n - 3),
                 t = -stats_t_quantile((1 - level) / 2, (double)(n - 3));
    f->c = p[0];
    f->a = p[1];
    f->b = p[2];
    f->ia = (StatsInterval){p[1], p[1] - t * sqrt(s2 * var[1]), p[1] + t * sqrt(s2 * var[1])};
    f->ib = (StatsInterval){p[2], p[2] - t * sqrt(s2 * var[2]), p[2] + t * sqrt(s2 * var[2])};
    f->peak = f->b <= 0               ? HUGE_VAL
              : form == STATS_GAO_BON ? fmax(0, f->a / (2 * f->b))
                                      : exp(f->a / f->b - 1);
    return true;
}

bool stats_fit(StatsForm form, const double *d, const double *y, int64_t n, double level,
               StatsFit *out) {
    int64_t different = 0;
    *out = (StatsFit){0};
    for (int64_t i = 0; i < n; i++) {
        int64_t k = 0;
        if (!isfinite(d[i]) || !isfinite(y[i]) || d[i] < 0) return false;
        while (k < i && d[k] != d[i]) k++;
        different += k == i;
    }
    if (n < 5 || different < 3) return false;
    if (form == STATS_MONOTONE)
        fit_monotone(d, y, n, out);
    else if (!fit_gao(form, d, y, n, level, out))
        return false;
    out->aic = (double)n * log(fmax(out->rss, 1e-300) / (double)n) + 2 * 4;
    return true;
}

/* test_stats.c: eval/stats.c and stats_fit.c against SciPy's and NumPy's values
 * (tests/golden/stats.json, made by stats_golden.py), and the cases in which nothing can be said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/json.h"
#include "core/kernel.h"
#include "eval/stats.h"

#include <math.h>

static json_t *golden;

static const json_t *part(const char *name) {
    const json_t *v = json_object_get(golden, name);
    assert_non_null(v);
    return v;
}

static double at(const json_t *list, size_t i) {
    assert_true(i < json_array_size(list));
    return json_number_value(json_array_get(list, i));
}

static double number(const json_t *object, const char *key) {
    assert_true(json_is_number(json_object_get(object, key)));
    return json_number_value(json_object_get(object, key));
}

/* The numbers of a list, malloc'd. */
static double *numbers(const json_t *object, const char *key, int64_t *n) {
    const json_t *list = json_object_get(object, key);
    *n = (int64_t)json_array_size(list);
    assert_true(*n > 0);
    double *x = xcalloc((size_t)*n + 1, sizeof *x);
    for (int64_t i = 0; i < *n; i++) x[i] = at(list, (size_t)i);
    return x;
}

/* |got - want| <= tolerance max(|want|, 1e-3) */
static void near(const char *what, double got, double want, double tolerance) {
    if (!(fabs(got - want) <= tolerance * fmax(fabs(want), 1e-3)))
        fail_msg("%s: %.17g, expected %.17g", what, got, want);
}

static void near_interval(const char *what, StatsInterval got, const json_t *want, double e) {
    near(what, got.mean, at(want, 0), e);
    near(what, got.low, at(want, 1), e);
    near(what, got.high, at(want, 2), e);
}

static void test_distributions(void **state) {
    const json_t *v;
    size_t i;
    json_array_foreach(part("t_cdf"), i, v)
        near("t_cdf", stats_t_cdf(at(v, 0), at(v, 1)), at(v, 2), 1e-12);
    json_array_foreach(part("t_quantile"), i, v)
        near("t_quantile", stats_t_quantile(at(v, 0), at(v, 1)), at(v, 2), 1e-10);
    json_array_foreach(part("normal"), i, v) {
        near("normal quantile", stats_normal_quantile(at(v, 0)), at(v, 1), 1e-12);
        near("normal cdf", stats_normal_cdf(at(v, 1)), at(v, 0), 1e-12);
    }
    json_array_foreach(part("beta"), i, v)
        near("beta", stats_beta_cdf(at(v, 0), at(v, 1), at(v, 2)), at(v, 3), 1e-11);
}

static void test_means(void **state) {
    const json_t *g = part("t"), *v;
    int64_t n;
    size_t i;
    AUTOFREE double *x = numbers(g, "x", &n);
    near_interval("t", stats_t(x, n, 0.9), json_object_get(g, "interval"), 1e-10);
    near("above", stats_t_above(x, n, 0.1), number(g, "above"), 1e-10);
    near("tost", stats_tost(x, n, -0.2, 0.9), number(g, "tost"), 1e-10);
    g = part("cluster");
    double mean;
    AUTOFREE double *d = numbers(g, "d", &n), *labels = numbers(g, "cluster", &n);
    AUTOFREE int64_t *cluster = xcalloc((size_t)n, sizeof *cluster);
    for (int64_t k = 0; k < n; k++) cluster[k] = (int64_t)labels[k];
    near("clustered SE", stats_cluster_se(d, cluster, n, &mean), number(g, "se"), 1e-12);
    near("its mean", mean, number(g, "mean"), 1e-12);
    json_array_foreach(part("share"), i, v) {
        const StatsInterval s = stats_share((int64_t)at(v, 0), (int64_t)at(v, 1), 0.95);
        near("share, low", s.low, at(v, 2), 1e-10);
        near("share, high", s.high, at(v, 3), 1e-10);
    }
}

typedef struct Sample {
    const double *x;
    bool sd;
} Sample;

static double of_sample(const void *ctx, const int64_t *index, int64_t n) {
    const Sample *s = ctx;
    double x[64];
    assert_true(n <= 64);
    for (int64_t i = 0; i < n; i++) x[i] = s->x[index[i]];
    return s->sd ? stats_sd(x, n) : stats_mean(x, n);
}

static void test_bootstrap(void **state) {
    const json_t *g = part("bca"), *own = json_object_get(g, "scipy_mean");
    int64_t n;
    AUTOFREE double *x = numbers(g, "x", &n);
    const int64_t R = (int64_t)number(g, "resamples");
    const uint64_t seed = (uint64_t)number(g, "seed");
    const Sample mean = {x, false}, sd = {x, true};
    near_interval("BCa of the mean", stats_bca(of_sample, &mean, n, 0.95, R, seed),
                  json_object_get(g, "mean"), 1e-9);
    near_interval("BCa of the deviation", stats_bca(of_sample, &sd, n, 0.9, R, seed),
                  json_object_get(g, "sd"), 1e-9);
    /* SciPy's own, on 50,000 resamples of its own */
    const double wide = at(own, 2) - at(own, 1);
    const StatsInterval i = stats_bca(of_sample, &mean, n, 0.95, 20000, 11);
    assert_true(fabs(i.low - at(own, 1)) < 0.03 * wide && fabs(i.high - at(own, 2)) < 0.03 * wide);
    g = part("hierarchical");
    AUTOFREE double *grid = numbers(g, "x", &n);
    near_interval("hierarchical",
                  stats_hierarchical(grid, (int64_t)number(g, "seeds"),
                                     (int64_t)number(g, "prompts"), 0.95,
                                     (int64_t)number(g, "resamples"), (uint64_t)number(g, "seed")),
                  json_object_get(g, "interval"), 1e-10);
}

static void test_ranks(void **state) {
    const json_t *g = part("holm");
    int64_t n;
    AUTOFREE double *p = numbers(g, "p", &n), *want = numbers(g, "adjusted", &n);
    double got[8], rho_p;
    stats_holm(p, n, got);
    for (int64_t i = 0; i < n; i++) near("Holm", got[i], want[i], 1e-12);
    stats_holm((double[]){0.5, (double)NAN, 0.001}, 3, got); /* what is not known counts as 1 */
    near("Holm", got[1], 1, 1e-12);
    near("Holm", got[2], 0.003, 1e-12);
    g = part("spearman");
    AUTOFREE double *x = numbers(g, "x", &n), *y = numbers(g, "y", &n);
    near("Spearman", stats_spearman(x, y, n, 0, 1, &rho_p), number(g, "rho"), 1e-12);
    near("its p, all permutations", rho_p, number(g, "p"), 1e-12);
    AUTOFREE double *lx = numbers(g, "long_x", &n), *ly = numbers(g, "long_y", &n);
    near("Spearman", stats_spearman(lx, ly, n, 20000, 1, &rho_p), number(g, "long_rho"), 1e-12);
    assert_true(fabs(rho_p - number(g, "long_p")) < 4 * sqrt(number(g, "long_p") / 20000));
    g = part("bradley_terry");
    AUTOFREE double *wins = numbers(g, "wins", &n), *strength = numbers(g, "strength", &n);
    assert_true(stats_bradley_terry(wins, (int)n, got));
    for (int64_t i = 0; i < n; i++) near("Bradley-Terry", got[i], strength[i], 1e-6);
    assert_false(stats_bradley_terry((double[]){0, 3, 0, 0}, 2, got)); /* who never loses */
    assert_true(isnan(got[0]));
}

static void test_best_of(void **state) {
    const json_t *g = part("best_of");
    int64_t K, n;
    AUTOFREE double *score = numbers(g, "score", &K), *value = numbers(g, "value", &K),
                    *mean = numbers(g, "mean", &n);
    for (n = 1; n <= K; n++)
        near("best of n", stats_best_of(score, value, K, n), mean[n - 1], 1e-12);
    near("KL of best of 1", stats_best_of_kl(1), 0, 1e-12);
    near("KL of best of 16", stats_best_of_kl(16), log(16) - 15.0 / 16, 1e-12);
}

static void check_gao(StatsForm form, const json_t *g, const double *d, const double *y, int64_t n,
                      const char *name) {
    StatsFit f;
    const json_t *want = json_object_get(g, name);
    assert_true(stats_fit(form, d, y, n, 0.95, &f));
    near("c", f.c, number(want, "c"), 1e-5);
    near_interval("a", f.ia, json_object_get(want, "a"), 1e-5);
    near_interval("b", f.ib, json_object_get(want, "b"), 1e-5);
    near("rss", f.rss, number(want, "rss"), 1e-6);
    near("AIC", f.aic, number(want, "aic"), 1e-6);
    near("peak", f.peak, number(want, "peak"), 1e-5);
    for (double step = -0.01; step <= 0.01; step += 0.02) /* it is the highest place */
        assert_true(stats_form(form, &f, f.peak) > stats_form(form, &f, f.peak + step));
}

static void test_fits(void **state) {
    const json_t *g = part("fit");
    StatsFit f;
    int64_t n;
    AUTOFREE double *d = numbers(g, "d", &n), *bon = numbers(g, "bon", &n),
                    *rl = numbers(g, "rl", &n), *up = numbers(g, "up", &n);
    check_gao(STATS_GAO_BON, g, d, bon, n, "bon_fit");
    check_gao(STATS_GAO_RL, g, d, rl, n, "rl_fit");
    const char *names[] = {"bon_monotone", "rl_monotone", "up_monotone"};
    const double *ys[] = {bon, rl, up};
    for (int i = 0; i < 3; i++) {
        assert_true(stats_fit(STATS_MONOTONE, d, ys[i], n, 0.95, &f));
        near(names[i], f.rss, number(g, names[i]), 1e-4);
    }
    near("slope", stats_slope(d, up, n), number(g, "slope"), 1e-10);
    /* numpy.linalg.lstsq on the columns group, 1, x */
    near("beside",
         stats_beside((double[]){1, 2, 2.5, 4, 3}, (double[]){2, 1.5, 2.5, 3, 1}, 5,
                      (double[]){0.5, 1, 2, 3.5}, (double[]){0, 1, 0.5, 1.25}, 4),
         1.1067073170731707, 1e-10);
    /* each form is best where its curve comes from */
    StatsFit gao;
    stats_fit(STATS_GAO_RL, d, rl, n, 0.95, &gao);
    stats_fit(STATS_MONOTONE, d, rl, n, 0.95, &f);
    assert_true(gao.aic < f.aic - 10);
    stats_fit(STATS_GAO_RL, d, up, n, 0.95, &gao);
    stats_fit(STATS_MONOTONE, d, up, n, 0.95, &f);
    assert_true(f.aic < gao.aic);
    assert_false(stats_fit(STATS_GAO_RL, d, rl, 4, 0.95, &f));
    assert_false(stats_fit(STATS_GAO_RL, (double[]){1, 1, 1, 2, 2}, rl, 5, 0.95, &f));
}

static void test_verdicts(void **state) {
    const double nan = (double)NAN;
    assert_int_equal(stats_verdict((StatsInterval){1, 0.1, 2}, 0, true), STATS_HOLDS);
    assert_int_equal(stats_verdict((StatsInterval){1, 0.1, 2}, 0, false), STATS_FAILS);
    assert_int_equal(stats_verdict((StatsInterval){-1, -2, -0.1}, 0, true), STATS_FAILS);
    assert_int_equal(stats_verdict((StatsInterval){-1, -2, -0.1}, 0, false), STATS_HOLDS);
    assert_int_equal(stats_verdict((StatsInterval){1, -0.1, 2}, 0, true), STATS_UNDECIDED);
    assert_int_equal(stats_verdict((StatsInterval){1, 0, 2}, 0, true), STATS_UNDECIDED);
    assert_int_equal(stats_verdict((StatsInterval){1, nan, nan}, 0, true), STATS_UNDECIDED);
    assert_int_equal(stats_verdict((StatsInterval){nan, nan, 2}, 3, false), STATS_UNDECIDED);
    assert_string_equal(stats_word(STATS_FAILS), "fails");
    /* one seed says nothing; two say little; no spread at all is certain */
    double mean;
    assert_true(isnan(stats_t((double[]){5}, 1, 0.95).low) && isnan(stats_sd((double[]){5}, 1)));
    assert_true(isnan(stats_t_above((double[]){5}, 1, 0)));
    assert_true(isnan(stats_cluster_se((double[]){1, 2}, (int64_t[]){4, 4}, 2, &mean)));
    near("two", stats_t((double[]){1, 2}, 2, 0.95).high, 1.5 + 12.706204736432095 * 0.5, 1e-10);
    assert_true(stats_t_above((double[]){2, 2}, 2, 1) == 0 &&
                stats_t_above((double[]){2, 2}, 2, 2) == 0.5);
    assert_true(
        isnan(stats_bca(of_sample, &(Sample){(double[]){1, 2}, false}, 2, 0.95, 100, 1).low));
    assert_true(isnan(stats_spearman((double[]){1, 1, 1}, (double[]){1, 2, 3}, 3, 10, 1, &mean)));
}

static int load(void **state) {
    core_init();
    return json_read_file(&golden, "tests/golden/stats.json");
}

static int unload(void **state) {
    json_decref(golden);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distributions), cmocka_unit_test(test_means),
        cmocka_unit_test(test_bootstrap),     cmocka_unit_test(test_ranks),
        cmocka_unit_test(test_best_of),       cmocka_unit_test(test_fits),
        cmocka_unit_test(test_verdicts)};
    return cmocka_run_group_tests(tests, load, unload);
}

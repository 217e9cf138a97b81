/* The K-way ranking loss against PyTorch, and what is reported of a reward model. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "rlhf/ranking.h"
#include "tests/base/scratch.h"
#include "tests/rlhf/golden.h"

enum { MAX_K = 16 };

static void check_loss(const float *r, const int32_t *rank, int64_t K, double want_loss,
                       const json_t *want, const char *name, int64_t want_pairs) {
    double dr[MAX_K];
    int64_t pairs = -1;
    for (int64_t i = 0; i < K; i++) dr[i] = 7; /* written, not added to */
    double loss = ranking_loss(r, rank, K, dr, &pairs);
    close_to(loss, want_loss, 1e-12, "loss", 0);
    for (int64_t i = 0; i < K; i++) close_to(dr[i], at(want, name, i), 1e-12, "gradient", i);
    assert_int_equal(pairs, want_pairs);
    assert_int_equal(ranking_pairs(rank, K), want_pairs);
    assert_true(ranking_loss(r, rank, K, NULL, NULL) == loss);
}

/* Ties, differences of 180 and 20000, equal rewards. */
static void test_against_pytorch(void **state) {
    const json_t *c;
    size_t n;
    json_array_foreach(golden("ranking"), n, c) {
        float r[MAX_K];
        int32_t rank[MAX_K];
        const int64_t K = length(c, "r");
        floats(c, "r", r);
        for (int64_t i = 0; i < K; i++) rank[i] = (int32_t)at(c, "rank", i);
        check_loss(r, rank, K, num(c, "loss"), c, "grad", (int64_t)num(c, "pairs"));
    }
    assert_true(n > 10);
}

/* The file, made with PyTorch, holds doubles, of which we keep float: the loss moves by as much. */
static void test_against_torch(void **state) {
    json_t *file, *c;
    size_t n;
    OK(json_read_file(&file, "tests/golden/rl_ranking.json"));
    json_array_foreach(json_object_get(file, "cases"), n, c) {
        float r[MAX_K];
        int32_t rank[MAX_K];
        double dr[MAX_K];
        const int64_t K = length(c, "scores_best_to_worst");
        floats(c, "scores_best_to_worst", r);
        for (int64_t i = 0; i < K; i++) rank[i] = (int32_t)i + 1;
        double loss = ranking_loss(r, rank, K, dr, NULL);
        close_to(loss, num(c, "pairwise_loss_mean"), 1e-7, "loss", (int64_t)n);
        for (int64_t i = 0; i < K; i++) close_to(dr[i], at(c, "grad", i), 1e-7, "gradient", i);
        RankStats s = {0};
        rank_stats_add(&s, r, rank, K);
        if (json_object_get(c, "accuracy"))
            close_to(rank_accuracy(&s), num(c, "accuracy"), 1e-12, "accuracy", (int64_t)n);
    }
    assert_true(n > 5);
    json_decref(file);
}

/* The order of the completions and a common shift change nothing; gradients sum to 0. */
static void test_invariances(void **state) {
    static const float r[5] = {0.25f, -1.5f, 2, 0.5f, 0.75f};
    static const int32_t rank[5] = {2, 3, 1, 2, 4};
    static const int order[5] = {3, 0, 4, 2, 1};
    float turned[5];
    int32_t turned_rank[5];
    double a[5], b[5], sum = 0;
    for (int i = 0; i < 5; i++) {
        turned[i] = r[order[i]] + 8;
        turned_rank[i] = 10 * rank[order[i]]; /* only the order of ranks counts */
    }
    double loss = ranking_loss(r, rank, 5, a, NULL);
    close_to(ranking_loss(turned, turned_rank, 5, b, NULL), loss, 1e-14, "loss", 0);
    for (int i = 0; i < 5; i++) {
        close_to(b[i], a[order[i]], 1e-14, "gradient", i);
        sum += a[i];
    }
    close_to(sum, 0, 1e-15, "sum of gradients", 0);
}

static void test_stats_of_one_group(void **state) {
    /* pairs (better - worse): 0-1: 3, 0-2: 0 (equal), 1-2 tie */
    static const float r[3] = {1, -2, 1};
    static const int32_t rank[3] = {1, 2, 2};
    RankStats s = {0};
    rank_stats_add(&s, r, rank, 3);
    assert_true(s.groups == 1 && s.pairs == 2 && s.correct == 1.5 && s.n == 3);
    close_to(rank_accuracy(&s), 0.75, 0, "accuracy, ties half", 0);
    close_to(rank_margin(&s), 1.5, 1e-15, "margin", 0);
    close_to(rank_mean(&s), 0, 1e-15, "mean", 0);
    close_to(rank_std(&s), sqrt(2), 1e-15, "deviation (population)", 0);
    close_to(rank_loss(&s), (log1p(exp(-3.0)) + log(2)) / 2, 1e-15, "loss", 0);
    for (int b = 0; b < RANK_BINS; b++) {
        double pairs = b == 0 || rank_bin_low(b) == 3;
        assert_true(s.bin_pairs[b] == pairs);
        assert_true(s.bin_correct[b] == (b == 0 ? 0.5 : pairs));
    }
}

/* Every difference falls into the bin whose edges hold it; a wrong order counts by its size. */
static void test_bins(void **state) {
    static const double low[RANK_BINS] = {0, 0.25, 0.5, 1, 1.5, 2, 3, 4};
    static const int32_t rank[2] = {1, 2};
    for (int b = 0; b < RANK_BINS; b++) {
        assert_true(rank_bin_low(b) == low[b]);
        const double inside = b + 1 < RANK_BINS ? (low[b] + low[b + 1]) / 2 : 100;
        for (int edge = 0; edge < 2; edge++)
            for (int wrong = 0; wrong < 2; wrong++) {
                RankStats s = {0};
                const float d = (float)(edge ? low[b] : inside);
                rank_stats_add(&s, (float[2]){wrong ? 0 : d, wrong ? d : 0}, rank, 2);
                assert_true(s.bin_pairs[b] == 1);
                assert_true(s.bin_correct[b] == (d == 0 ? 0.5 : !wrong));
            }
    }
}

/* A group of ties has no pairs: it is not in the mean of the losses, its rewards are in theirs. */
static void test_group_without_pairs(void **state) {
    static const float r[4] = {3, 5, 1, 0};
    static const int32_t tie[2] = {1, 1}, rank[2] = {1, 2};
    RankStats s = {0};
    rank_stats_add(&s, r, tie, 2);
    assert_true(s.groups == 0 && s.pairs == 0 && s.loss == 0 && s.n == 2);
    assert_true(isnan(rank_accuracy(&s)) && isnan(rank_loss(&s)) && isnan(rank_margin(&s)));
    rank_stats_add(&s, r + 2, rank, 2);
    close_to(rank_loss(&s), log1p(exp(-1.0)), 1e-15, "loss", 0);
    close_to(rank_mean(&s), 2.25, 1e-15, "mean", 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_pytorch),
        cmocka_unit_test(test_against_torch),
        cmocka_unit_test(test_invariances),
        cmocka_unit_test(test_stats_of_one_group),
        cmocka_unit_test(test_bins),
        cmocka_unit_test(test_group_without_pairs),
    };
    return cmocka_run_group_tests(tests, NULL, golden_close);
}

/* DPO and its relatives against PyTorch (tests/golden/dpo_golden.py), and by differences. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "rlhf/preference.h"
#include "tests/base/scratch.h"
#include "tests/rlhf/golden.h"

enum { MOST = 8 };

static const char *const losses[] = {
    [DPO_SIGMOID] = "sigmoid", [DPO_IPO] = "ipo", [DPO_SIMPO] = "simpo",
    [DPO_ORPO] = "orpo",       [DPO_KTO] = "kto", [DPO_HINGE] = "hinge"};

static PrefOptions options(const json_t *c) {
    PrefOptions o = {.mean = json_is_true(json_object_get(c, "mean")),
                     .beta = num(c, "beta"),
                     .smoothing = num(c, "smoothing"),
                     .margin = num(c, "margin"),
                     .sft = num(c, "sft"),
                     .weight = {at(c, "weight", 0), at(c, "weight", 1)},
                     .kl = num(c, "kl")};
    const char *name = json_string_value(json_object_get(c, "loss"));
    while (strcmp(losses[o.loss], name) != 0) o.loss++;
    return o;
}

static void test_golden(void **state) {
    json_t *file;
    size_t k, pairs = 0;
    json_t *c;
    OK(json_read_file(&file, "tests/golden/dpo.json"));
    json_array_foreach(file, k, c) {
        const PrefOptions o = options(c);
        const int64_t K = length(c, "rank");
        PrefAnswer a[MOST];
        int32_t rank[MOST];
        double d[MOST];
        PrefStats s = {0};
        assert_in_range(K, 1, MOST);
        for (int64_t i = 0; i < K; i++) {
            a[i] = (PrefAnswer){at(c, "logp", i), at(c, "ref", i), (int64_t)at(c, "n", i)};
            rank[i] = (int32_t)at(c, "rank", i);
        }
        const double loss = preference_group(&o, a, rank, K, d, &s);
        close_to(loss, num(c, "value"), 1e-9, losses[o.loss], (int64_t)k);
        for (int64_t i = 0; i < K; i++)
            close_to(d[i], at(c, "grad", i), 1e-9, losses[o.loss], (int64_t)k);
        if (s.loss != loss) fail_msg("case %zu: %g is reported, not %g", k, s.loss, loss);
        pairs += (size_t)s.pairs;
    }
    assert_true(k > 200 && pairs > k);
    json_decref(file);
}

/* Everything may be extreme and nothing is infinite: certain answers, none, huge ratios. */
static void test_finite(void **state) {
    const double logp[] = {0, -1e-300, -1e-9, -5, -1e5}, beta[] = {1e-9, 1, 1e9};
    for (int loss = DPO_SIGMOID; loss <= DPO_HINGE; loss++)
        for (int i = 0; i < 5 * 5 * 3 * 3; i++) {
            const PrefOptions o = {.loss = loss,
                                   .mean = i % 2,
                                   .beta = beta[i % 3],
                                   .smoothing = 0.5,
                                   .sft = 1,
                                   .weight = {1, 1}};
            const PrefAnswer a[2] = {{logp[i / 3 % 5], -1, i / 75}, {logp[i / 15 % 5], -1, 1}};
            const int32_t rank[2] = {1, 2};
            PrefStats s = {0};
            double d[2];
            assert_true(isfinite(preference_group(&o, a, rank, 2, d, &s)));
            assert_true(isfinite(d[0]) && isfinite(d[1]));
            assert_true(isfinite(s.reward[0]) && isfinite(s.reward[1]));
        }
}

static void test_reported(void **state) {
    const PrefOptions o = {.loss = DPO_SIGMOID, .beta = 0.5};
    const PrefAnswer a[3] = {{-3, -4, 2}, {-6, -5, 3}, {-1, -1, 1}};
    const int32_t rank[3] = {1, 2, 2}, ties[3] = {1, 1, 1};
    PrefStats s = {0};
    preference_group(&o, a, rank, 3, NULL, &s);
    assert_true(preference_group(&o, a, ties, 3, NULL, &s) == 0);
    assert_true(s.pairs == 2 && s.correct == 2 && s.terms == 1);
    assert_true(s.n[0] == 2 && s.n[1] == 2);
    close_to(s.reward[0], 2 * 0.5, 1e-12, "chosen", 0);
    close_to(s.reward[1], -0.5, 1e-12, "rejected", 0);
    close_to(s.logp[0], -6, 1e-12, "chosen", 1);
    close_to(s.logp[1], -7, 1e-12, "rejected", 1);
    assert_int_equal(preference_terms(&o, ties, 3), 0);
    const PrefOptions kto = {.loss = DPO_KTO, .beta = 0.5, .weight = {1, 1}, .kl = 0.5};
    s = (PrefStats){0};
    preference_group(&kto, a, rank, 3, NULL, &s); /* 1 > 0.5, -1 < 0.5, 0 < 0.5 */
    assert_true(s.correct == 3 && s.terms == 3 && s.n[0] == 1 && s.n[1] == 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden), cmocka_unit_test(test_finite),
                                       cmocka_unit_test(test_reported)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

/* The formulas of PPO against PyTorch, against plain sums, and against the literal values in the
 * tests of other implementations (tests/golden/rl_peers.json, which names them). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "rlhf/ppo_math.h"
#include "tests/base/scratch.h"
#include "tests/rlhf/golden.h"

enum { MAX = 256 };
static const double FLOAT = 1e-6; /* results that are kept as float */

static const json_t *math(const char *name) {
    const json_t *v = json_object_get(golden("math"), name);
    assert_non_null(v);
    return v;
}

static void test_rewards(void **state) {
    static const float logp[4] = {-1, -2, -3, -0.5f}, ref[4] = {-1.5f, -1, -3, -2.5f};
    float r[4];
    ppo_rewards(logp, ref, 4, 0.25, 3, r);
    static const double want[4] = {-0.125, 0.25, 0, 3 - 0.5};
    for (int t = 0; t < 4; t++) close_to((double)r[t], want[t], 1e-7, "reward", t);
    ppo_rewards(logp, ref, 1, 0.25, 3, r); /* the only token is the last */
    close_to((double)r[0], 3 - 0.125, 1e-7, "reward", 0);
}

static void check_gae(const json_t *c, const char *rewards, const char *values, const char *adv,
                      const char *returns) {
    float r[MAX], v[MAX], a[MAX], ret[MAX];
    const int64_t n = length(c, rewards);
    floats(c, rewards, r);
    floats(c, values, v);
    ppo_gae(r, v, n, num(c, "gamma"), num(c, "lambda"), a, ret);
    for (int64_t t = 0; t < n; t++) {
        close_to((double)a[t], at(c, adv, t), FLOAT, "advantage", t);
        close_to((double)ret[t], at(c, returns, t), FLOAT, "return", t);
    }
}

static void test_gae_against_pytorch(void **state) {
    const json_t *c;
    size_t n;
    json_array_foreach(math("gae"), n, c) check_gae(c, "reward", "value", "advantage", "ret");
    assert_true(n > 5);
}

/* lambda = 1: the return is the discounted sum of rewards, whatever the values. lambda = 0: the
 * advantage is the error of one step. */
static void test_gae_limits(void **state) {
    static const float r[6] = {0.5f, -1, 0, 2, 0.25f, 1}, v[6] = {3, -2, 1, 0.5f, 7, -1};
    float a[6], ret[6];
    ppo_gae(r, v, 6, 0.9, 1, a, ret);
    for (int t = 0; t < 6; t++) {
        double sum = 0;
        for (int k = 5; k >= t; k--) sum = (double)r[k] + 0.9 * sum;
        close_to((double)ret[t], sum, FLOAT, "return", t);
        close_to((double)a[t], sum - (double)v[t], FLOAT, "advantage", t);
    }
    ppo_gae(r, v, 6, 0.9, 0, a, ret);
    for (int t = 0; t < 6; t++)
        close_to((double)a[t], (double)r[t] + (t < 5 ? 0.9 * (double)v[t + 1] : 0) - (double)v[t],
                 FLOAT, "advantage", t);
}

static void test_policy_loss_against_pytorch(void **state) {
    const json_t *c;
    size_t n;
    json_array_foreach(math("policy"), n, c) {
        double grad;
        bool clipped;
        double loss = ppo_policy_loss(num(c, "logp"), num(c, "old"), num(c, "a"), num(c, "clip"),
                                      &grad, &clipped);
        close_to(loss, num(c, "loss"), 1e-13, "policy loss", (int64_t)n);
        close_to(grad, num(c, "grad"), 1e-13, "its derivative", (int64_t)n);
        assert_int_equal(clipped, json_is_true(json_object_get(c, "clipped")));
    }
    assert_true(n > 20);
}

static void test_value_loss_against_pytorch(void **state) {
    const json_t *c;
    size_t n;
    int clips = 0;
    json_array_foreach(math("value"), n, c) {
        double grad;
        bool clipped;
        double loss = ppo_value_loss(num(c, "v"), num(c, "old"), num(c, "ret"), num(c, "clip"),
                                     &grad, &clipped);
        close_to(loss, num(c, "loss"), 1e-13, "value loss", (int64_t)n);
        close_to(grad, num(c, "grad"), 1e-13, "its derivative", (int64_t)n);
        assert_int_equal(clipped, json_is_true(json_object_get(c, "clipped")));
        clips += clipped;
    }
    assert_true(n > 20 && clips > 3);
}

/* The population's variance: with two numbers the other one would give 0.707, not 1. */
static void test_whitening(void **state) {
    const json_t *c;
    size_t n;
    json_array_foreach(math("whiten"), n, c) {
        float x[MAX];
        floats(c, "x", x);
        ppo_whiten(x, length(c, "x"));
        for (int64_t i = 0; i < length(c, "x"); i++)
            close_to((double)x[i], at(c, "y", i), FLOAT, "whitened", i);
    }
    float two[2] = {-3, 5};
    ppo_whiten(two, 2);
    close_to((double)two[0], -1, FLOAT, "whitened", 0);
    close_to((double)two[1], 1, FLOAT, "whitened", 1);
}

static void test_kl_control(void **state) {
    const json_t *c, *step;
    size_t n, i;
    json_array_foreach(math("control"), n, c) {
        KlControl k = {true, num(c, "beta"), num(c, "target"), num(c, "horizon")};
        json_array_foreach(json_object_get(c, "steps"), i, step) {
            kl_control_update(&k, json_number_value(json_array_get(step, 0)),
                              json_integer_value(json_array_get(step, 1)));
            close_to(k.beta, at(c, "betas", (int64_t)i), 1e-14, "beta", (int64_t)i);
        }
    }
    KlControl fixed = {false, 0.02, 6, 10000};
    kl_control_update(&fixed, 100, 512);
    assert_true(fixed.beta == 0.02);
    KlControl k = {true, 0.02, 6, 10000};
    kl_control_update(&k, (double)NAN, 512); /* a bad batch does not spoil it */
    assert_true(k.beta == 0.02);
}

/* --- values printed in others' tests --------------------------------------------------- */

static json_t *peers(void) {
    json_t *file;
    OK(json_read_file(&file, "tests/golden/rl_peers.json"));
    return file;
}

static const json_t *peer(const json_t *file, const char *who, const char *what) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)file, key,
                        v) if (strncmp(key, who, strlen(who)) == 0 &&
                               json_object_get(v, what)) return json_object_get(v, what);
    fail_msg("no %s of %s", what, who);
    return NULL;
}

static void test_peers_gae(void **state) {
    json_t *file = peers();
    check_gae(peer(file, "NVIDIA/NeMo-Aligner", "gae"), "rewards", "values", "advantages",
              "returns");
    json_decref(file);
}

static void test_peers_clip(void **state) {
    json_t *file = peers();
    const json_t *c = peer(file, "NVIDIA-NeMo/RL", "ppo_clip");
    double mean = 0;
    for (int64_t i = 0; i < 3; i++) {
        double grad;
        bool clipped;
        double loss = ppo_policy_loss(at(c, "curr_logprobs", i), at(c, "prev_logprobs", i),
                                      at(c, "advantages", i), num(c, "clip_low"), &grad, &clipped);
        close_to(loss, at(c, "max", i), 1e-5, "loss", i);
        assert_int_equal(clipped, at(c, "loss_clipped", i) > at(c, "loss_unclipped", i));
        mean += loss / 3;
    }
    close_to(mean, num(c, "mean"), 1e-4, "mean", 0);
    json_decref(file);
}

/* Their k1 as the penalty: the reward of beta = 1 and score 0 is -k1. */
static void test_peers_kl(void **state) {
    json_t *file = peers();
    if (!file) skip();
    const json_t *c = peer(file, "NVIDIA-NeMo/RL", "kl");
    float logp[3], ref[3], reward[3];
    floats(c, "logprobs", logp);
    floats(c, "logprobs_reference", ref);
    ppo_rewards(logp, ref, 3, 1, 0, reward);
    for (int i = 0; i < 3; i++) close_to(-(double)reward[i], at(c, "k1", i), FLOAT, "k1", i);
    json_decref(file);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rewards),
        cmocka_unit_test(test_gae_against_pytorch),
        cmocka_unit_test(test_gae_limits),
        cmocka_unit_test(test_policy_loss_against_pytorch),
        cmocka_unit_test(test_value_loss_against_pytorch),
        cmocka_unit_test(test_whitening),
        cmocka_unit_test(test_kl_control),
        cmocka_unit_test(test_peers_gae),
        cmocka_unit_test(test_peers_clip),
        cmocka_unit_test(test_peers_kl),
    };
    return cmocka_run_group_tests(tests, NULL, golden_close);
}

/* Whole iterations without a critic against tests/golden/grpo_golden.py, which has them in plain
 * PyTorch: GRPO, RLOO, DAPO's, GSPO's and Dr. GRPO's variants; the same numbers on any number of
 * ranks. The stage's groups by its own functions. */
/* ranks: 1 2 3 */
#define main grpo_main
#include "rlhf/grpo.c" /* for its static functions */
#undef main

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "core/kernel.h"
#include "tests/base/scratch.h"
#define GOLDEN "tests/golden/grpo.json"
#include "tests/rlhf/golden.h"
#include "tests/rlhf/golden_model.h"

static bool is(const json_t *v, const char *name) { return json_is_true(json_object_get(v, name)); }

static int aggregate(const json_t *v) {
    const char *name = json_string_value(json_object_get(v, "aggregate"));
    return strcmp(name, "token") == 0      ? AGGREGATE_TOKEN
           : strcmp(name, "sequence") == 0 ? AGGREGATE_SEQUENCE
                                           : AGGREGATE_CONSTANT;
}

static void open_iteration(Ppo *p, Gpt **policy, Gpt **reference, Episodes *e, const json_t *v) {
    const json_t *it = golden_file, *o = golden("options");
    make_model(policy, it, false, 1, 2);
    make_model(reference, it, false, 1, 3);
    *p = (Ppo){.reference = num(v, "beta") > 0 ? *reference : NULL, .comm = comm};
    p->o = (PpoOptions){.batch = (int64_t)num(it, "batch"),
                        .minibatches = (int64_t)num(it, "minibatches"),
                        .epochs = (int64_t)num(it, "epochs"),
                        .micro_tokens = 40, /* several micro-batches a minibatch */
                        .temperature = num(o, "temperature"),
                        .seed = (uint64_t)num(it, "seed"),
                        .samples = (int64_t)num(it, "samples"),
                        .longest = (int64_t)num(it, "longest"),
                        .clip = num(v, "low"),
                        .clip_high = num(v, "high"),
                        .leave_one_out = is(v, "loo"),
                        .scale = is(v, "scale"),
                        .aggregate = aggregate(v),
                        .sequence_ratio = is(v, "sequence")};
    p->o.kl_in_loss = strcmp(json_string_value(json_object_get(v, "kl")), "loss") == 0;
    p->kl.beta = num(v, "beta");
    make_trainer(&p->policy, *policy, o);
    read_episodes(e, it);
    for (int64_t i = 0; i < e->n; i++)
        e->score[i] = (float)num(json_array_get(golden("episodes"), (size_t)i), "score");
}

static void test_golden_iterations(void **state) {
    const char *name;
    json_t *v;
    golden("vocab"); /* reads the file */
    json_object_foreach(json_object_get(golden_file, "variants"), name, v) {
        const json_t *mean = json_object_get(v, "mean");
        const int64_t iteration = (int64_t)num(golden_file, "iteration");
        Ppo p;
        Gpt *policy, *reference;
        Episodes e;
        PpoStats s = {0};
        open_iteration(&p, &policy, &reference, &e, v);
        iteration_score(&p, &e, iteration);
        iteration_group_advantages(&p, &e, &s);
        for (int64_t t = 0, i = 0; i < e.n; i++)
            for (; t < e.first[i + 1]; t++)
                close_to((double)e.advantage[t], at(v, "advantage", i), TOLERANCE, name, i);
        OK(iteration_update(&p, &e, iteration, num(golden_file, "lr"), 0, &s));
        assert_true(s.first_approxkl == 0 && s.first_clipfrac == 0 && s.first_ratio_gap == 0);
        close_to(s.policy_loss, num(mean, "policy_loss"), TOLERANCE, name, 1);
        if (p.reference) close_to(s.kl_loss, num(mean, "kl_loss"), TOLERANCE, name, 2);
        close_to(s.approxkl, num(mean, "approxkl"), TOLERANCE, name, 3);
        close_to(s.clipfrac, num(mean, "clipfrac"), TOLERANCE, name, 4);
        close_to(s.ratio, num(mean, "ratio"), TOLERANCE, name, 5);
        close_to(s.policy_norm, num(v, "last_norm"), 1e-4, name, 6);
        compare_weights(&policy->params, policy->params.data, json_object_get(v, "policy"), name);
        trainer_close(&p.policy);
        rollout_free(&e);
        gpt_close(&policy);
        gpt_close(&reference);
    }
}

static void test_advantages(void **state) {
    const double r[4] = {1, 2, 4, 9};
    double a[4];
    ppo_group_advantages(r, 4, false, false, a);
    assert_true(a[0] == -3 && a[1] == -2 && a[2] == 0 && a[3] == 5);
    ppo_group_advantages(r, 4, true, false, a);
    for (int i = 0; i < 4; i++) close_to(a[i], r[i] - (16 - r[i]) / 3, 1e-12, "leave one out", i);
    ppo_group_advantages(r, 4, false, true, a);
    for (int i = 0; i < 4; i++)
        close_to(a[i], (r[i] - 4) / (sqrt(38.0 / 3) + 1e-4), 1e-12, "scaled", i);
    ppo_group_advantages((double[]){3, 3, 3}, 3, false, true, a);
    assert_true(a[0] == 0 && a[1] == 0 && a[2] == 0);
    ppo_group_advantages(r, 1, true, true, a);
    assert_true(a[0] == 0);
    double d;
    close_to(ppo_k3(-1, -1.5, &d), exp(-0.5) - 1 + 0.5, 1e-12, "k3", 0);
    close_to(d, 1 - exp(-0.5), 1e-12, "k3", 1);
    assert_true(ppo_k3(-2, -2, &d) == 0 && d == 0);
}

/* Groups without a signal go, the others keep their order, tokens, scores and prompts. */
static void test_signal(void **state) {
    Episodes e, kept = {0};
    Sampled all = {0};
    int64_t pick[12];
    golden("vocab");
    read_episodes(&e, golden_file);
    for (int i = 0; i < 12; i++) {
        e.score[i] = i / 4 == 1 ? 0.5f : (float)(i % 3);
        e.item[i] = i / 4;
    }
    e.stopped[3] = 0;
    const int64_t n = with_signal(&e, 4, pick, &all);
    assert_int_equal(n, 8);
    assert_true(all.groups == 3 && all.silent == 1 && all.n == 12 && all.stopped == 11);
    assert_true(all.tokens == e.start[12]);
    rollout_append(&kept, &e, pick, 4);
    rollout_append(&kept, &e, pick + 4, 4);
    assert_int_equal(kept.n, 8);
    for (int64_t j = 0; j < 8; j++) {
        const int64_t i = j < 4 ? j : j + 4, tokens = kept.start[j + 1] - kept.start[j];
        assert_int_equal(kept.prompt[j], e.prompt[i]);
        assert_int_equal(tokens, e.start[i + 1] - e.start[i]);
        assert_memory_equal(kept.tokens + kept.start[j], e.tokens + e.start[i],
                            (size_t)tokens * sizeof *e.tokens);
        assert_true(kept.score[j] == e.score[i] && kept.item[j] == e.item[i] &&
                    kept.stopped[j] == e.stopped[i]);
    }
    rollout_free(&kept);
    rollout_free(&e);
}

/* Fewer episodes than minibatches: no empty step. */
static void test_few(void **state) {
    const json_t *v = json_object_get(golden("variants"), "grpo");
    Ppo p;
    Gpt *policy, *reference;
    Episodes e, few = {0};
    PpoStats s = {0};
    open_iteration(&p, &policy, &reference, &e, v);
    rollout_append(&few, &e, (const int64_t[]){0, 1, 2, 3}, 4);
    p.o.minibatches = 7;
    iteration_score(&p, &few, 0);
    iteration_group_advantages(&p, &few, &s);
    OK(iteration_update(&p, &few, 0, 1e-4, 0, &s));
    if (!(isfinite(s.policy_loss) && s.ratio > 0.5 && s.ratio < 2))
        fail_msg("loss %g, ratio %g", s.policy_loss, s.ratio);
    assert_int_equal(p.policy.adam.step, 2 * 4);
    trainer_close(&p.policy);
    rollout_free(&e);
    rollout_free(&few);
    gpt_close(&policy);
    gpt_close(&reference);
}

int main(int argc, char **argv) {
    OK(comm_open(&comm, &argc, &argv));
    core_init();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_golden_iterations),
                                       cmocka_unit_test(test_advantages),
                                       cmocka_unit_test(test_signal), cmocka_unit_test(test_few)};
    int failed = cmocka_run_group_tests(tests, scratch_make, scratch_remove);
    golden_close(NULL);
    comm_close(&comm);
    return failed;
}

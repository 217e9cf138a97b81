/* A whole PPO update of a small GPT against tests/golden/rl_golden.py, which has it in plain
 * PyTorch: log-probabilities, values, scores, advantages, then two inner epochs over uneven
 * minibatches with clipping, pretraining term, AdamW and moving average. The same numbers on any
 * number of ranks. */
/* ranks: 1 2 3 */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/kernel.h"
#include "rlhf/iteration.h"
#include "tests/base/scratch.h"
#include "tests/data/tokens.h"
#include "tests/rlhf/golden.h"
#include "tests/rlhf/golden_model.h"

/* --- what every test has ---------------------------------------------------------------------- */

typedef struct Lab {
    Gpt *policy, *reference, *reward, *critic;
    Ppo ppo;
    Episodes e;
} Lab;

static void open_windows(Windows *w, const json_t *it) {
    char *text = scratch("ptx.jsonl"), *path = scratch("ptx.h5");
    Tokenizer *bytes = tokens_bytes();
    FILE *f = fopen(text, "w");
    assert_non_null(f);
    const json_t *document;
    size_t i;
    json_array_foreach(json_object_get(it, "documents"), i, document)
        fprintf(f, "{\"text\":\"%s\"}\n", json_string_value(document));
    fclose(f);
    CorpusBuild b = {.tokenizer = bytes, .path = path, .no_eot = true};
    OK(corpus_build(&b, &(StrList){&text, 1}));
    OK(windows_open(w, &(StrList){&path, 1}, tokenizer_hash(bytes), (uint64_t)num(it, "seed"),
                    (int64_t)num(it, "context")));
    tokenizer_close(&bytes);
    free(text);
    free(path);
}

static void lab_open(Lab *l) {
    const json_t *it = golden("iteration"), *o = json_object_get(it, "options");
    *l = (Lab){0};
    make_model(&l->policy, it, false, 1, 2);
    make_model(&l->reference, it, false, 1, 3);
    make_model(&l->critic, it, true, 4, 5);
    make_model(&l->reward, it, true, 4, 6);
    Ppo *p = &l->ppo;
    p->o = (PpoOptions){.batch = (int64_t)num(it, "batch"),
                        .minibatches = (int64_t)num(it, "minibatches"),
                        .epochs = (int64_t)num(it, "epochs"),
                        .micro_tokens = 40, /* several micro-batches a minibatch */
                        .temperature = num(o, "temperature"),
                        .clip = num(o, "clip"),
                        .clip_value = num(o, "clip_value"),
                        .gamma = num(o, "gamma"),
                        .lambda = num(o, "lambda"),
                        .no_stop_score = num(o, "no_stop_score"),
                        .whiten = true,
                        .ptx_coef = num(o, "ptx_coef"),
                        .ptx_ratio = num(o, "ptx_ratio"),
                        .seed = (uint64_t)num(it, "seed")};
    p->kl = (KlControl){true, num(o, "beta"), num(o, "target"), num(o, "horizon")};
    p->reference = l->reference;
    p->reward = l->reward;
    p->comm = comm;
    make_trainer(&p->policy, l->policy, o);
    make_trainer(&p->critic, l->critic, o);
    ema_init(&p->ema, &l->policy->params, num(o, "ema"));
    open_windows(&p->ptx, it);
    read_episodes(&l->e, it);
}

static void lab_close(Lab *l) {
    Ppo *p = &l->ppo;
    trainer_close(&p->policy);
    trainer_close(&p->critic);
    ema_free(&p->ema);
    windows_close(&p->ptx);
    rollout_free(&l->e);
    gpt_close(&l->policy);
    gpt_close(&l->reference);
    gpt_close(&l->critic);
    gpt_close(&l->reward);
}

/* --- the golden iteration --------------------------------------------------------------------- */

static void compare_episodes(const Episodes *e, const json_t *it) {
    const json_t *v;
    size_t i;
    json_array_foreach(json_object_get(it, "episodes"), i, v) {
        const struct {
            const char *name;
            const float *have;
        } array[] = {{"logp", e->logp},           {"ref_logp", e->ref_logp},
                     {"entropy", e->entropy},     {"value", e->value},
                     {"reward", e->reward},       {"ret", e->ret},
                     {"advantage", e->advantage}, {NULL, NULL}};
        const int64_t n = rollout_length(e, (int64_t)i);
        close_to((double)e->score[i], num(v, "score"), TOLERANCE, "score", (int64_t)i);
        for (int a = 0; array[a].name; a++) {
            assert_int_equal(length(v, array[a].name), n);
            for (int64_t t = 0; t < n; t++)
                close_to((double)array[a].have[e->first[i] + t], at(v, array[a].name, t), TOLERANCE,
                         array[a].name, 100 * (int64_t)i + t);
        }
    }
}

/* Mean of a number over the optimizer steps. */
static double mean_update(const json_t *it, const char *name) {
    const json_t *updates = json_object_get(it, "updates"), *u;
    size_t i;
    double sum = 0;
    json_array_foreach(updates, i, u) sum += num(u, name);
    return sum / (double)json_array_size(updates);
}

static void test_golden_iteration(void **state) {
    const json_t *it = golden("iteration"), *o = json_object_get(it, "options");
    const json_t *last = json_array_get(json_object_get(it, "updates"), 3);
    const int64_t iteration = (int64_t)num(it, "iteration");
    Lab l;
    PpoStats s = {0};
    lab_open(&l);
    iteration_score(&l.ppo, &l.e, iteration);
    iteration_advantages(&l.ppo, &l.e, &s);
    compare_episodes(&l.e, it);
    close_to(s.kl, num(it, "kl"), TOLERANCE, "KL", 0);
    close_to(s.kl3, num(it, "kl3"), TOLERANCE, "KL, k3", 0);
    close_to(s.stopped, 5.0 / 7, 1e-12, "stopped", 0);
    close_to(s.non_score_reward, -num(o, "beta") * num(it, "kl"), TOLERANCE, "penalty", 0);

    OK(iteration_update(&l.ppo, &l.e, iteration, num(o, "policy_lr"), num(o, "critic_lr"), &s));
    assert_true(s.first_ratio_gap == 0 && s.first_approxkl == 0 && s.first_clipfrac == 0);
    close_to(s.policy_loss, mean_update(it, "policy_loss"), TOLERANCE, "policy loss", 0);
    close_to(s.value_loss, mean_update(it, "value_loss"), TOLERANCE, "value loss", 0);
    close_to(s.ptx_loss, mean_update(it, "ptx_loss"), TOLERANCE, "ptx loss", 0);
    close_to(s.approxkl, mean_update(it, "approxkl"), TOLERANCE, "approxkl", 0);
    close_to(s.clipfrac, mean_update(it, "clipfrac"), TOLERANCE, "clipfrac", 0);
    close_to(s.value_clipfrac, mean_update(it, "value_clipfrac"), TOLERANCE, "value clipfrac", 0);
    close_to(s.ratio, mean_update(it, "ratio"), TOLERANCE, "ratio", 0);
    close_to(s.policy_norm, num(last, "policy_norm"), 1e-4, "gradient norm of the policy", 0);
    close_to(s.critic_norm, num(last, "critic_norm"), 1e-4, "gradient norm of the critic", 0);
    close_to(l.ppo.kl.beta, num(it, "beta_after"), 1e-12, "beta", 0);
    compare_weights(&l.policy->params, l.policy->params.data, json_object_get(it, "policy"),
                    "policy");
    compare_weights(&l.critic->params, l.critic->params.data, json_object_get(it, "critic"),
                    "critic");
    compare_weights(&l.policy->params, l.ppo.ema.w, json_object_get(it, "ema"), "average");
    lab_close(&l);
}

/* --- properties ------------------------------------------------------------------------------- */

/* With learning rate 0 the policy's loss is the mean of -A. A of episode i is 16^i: only the sum in
 * which each episode is there once has each digit once. */
static void test_every_episode_once(void **state) {
    Lab l;
    lab_open(&l);
    Ppo *p = &l.ppo;
    p->o.batch = 8;
    p->o.minibatches = 4;
    p->o.epochs = 1;
    p->o.ptx_ratio = 0;
    char *path = scratch("same_length.jsonl");
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    for (int i = 0; i < 8; i++)
        fprintf(f, "{\"prompt\":[1,%d],\"response\":[5,6,7],\"stopped\":false}\n", i + 1);
    fclose(f);
    rollout_free(&l.e);
    OK(rollout_read(&l.e, path, 8, p->policy.gpt->cfg.vocab, p->policy.gpt->cfg.context));
    free(path);
    double want = 0;
    for (int i = 0; i < 8; i++) want -= pow(16, i) / 8;
    for (int64_t iteration = 0; iteration < 5; iteration++) {
        PpoStats s = {0};
        float *of_scoring[] = {l.e.logp, l.e.ref_logp, l.e.entropy, l.e.value};
        for (int a = 0; a < 4; a++) memset(of_scoring[a], 0, 24 * sizeof(float));
        memset(l.e.score, 0, 8 * sizeof(float));
        iteration_score(p, &l.e, iteration);
        for (int t = 0; t < 24; t++) l.e.advantage[t] = (float)pow(16, t / 3);
        OK(iteration_update(p, &l.e, iteration, 0, 0, &s));
        assert_true(fabs(s.policy_loss - want) < 1e-3); /* a digit is worth 1/8 */
        assert_true(s.approxkl == 0);
    }
    lab_close(&l);
}

/* A gradient that is not finite in one minibatch: the weights stay, after max_skips (0) the end. */
static void test_not_finite(void **state) {
    Lab l;
    PpoStats s = {0};
    lab_open(&l);
    iteration_score(&l.ppo, &l.e, 0);
    iteration_advantages(&l.ppo, &l.e, &s);
    l.e.advantage[3] = (float)NAN;
    const size_t bytes = (size_t)l.policy->params.size * sizeof(real);
    real *before = xmalloc(bytes);
    memcpy(before, l.policy->params.data, bytes);
    l.ppo.o.minibatches = 1; /* it is in the first */
    l.ppo.policy.max_skips = 1;
    FAILS(iteration_update(&l.ppo, &l.e, 0, 1e-3, 1e-3, &s), ERR_INTERNAL,
          "iteration 0, inner epoch 1, minibatch 0", "not finite");
    assert_memory_equal(before, l.policy->params.data, bytes);
    assert_memory_equal(before, l.ppo.ema.w, bytes);
    free(before);
    lab_close(&l);
}

/* --- replay ----------------------------------------------------------------------------------- */

static void test_rollouts_round_trip(void **state) {
    Episodes a, b;
    char *path = scratch("written.jsonl");
    const json_t *it = golden("iteration");
    read_episodes(&a, it);
    OK(rollout_write(&a, path));
    OK(rollout_read(&b, path, a.n, 257, 24));
    assert_int_equal(a.n, b.n);
    assert_memory_equal(a.start, b.start, (size_t)(a.n + 1) * sizeof *a.start);
    assert_memory_equal(a.first, b.first, (size_t)(a.n + 1) * sizeof *a.first);
    assert_memory_equal(a.prompt, b.prompt, (size_t)a.n * sizeof *a.prompt);
    assert_memory_equal(a.tokens, b.tokens, (size_t)a.start[a.n] * sizeof *a.tokens);
    assert_memory_equal(a.stopped, b.stopped, (size_t)a.n);
    const json_t *third = json_array_get(json_object_get(it, "episodes"), 2);
    assert_int_equal(rollout_length(&b, 2), length(third, "response"));
    assert_int_equal(b.tokens[b.start[2] + b.prompt[2]], (int32_t)at(third, "response", 0));
    rollout_free(&a);
    rollout_free(&b);
    free(path);
}

static void test_rollouts_refused(void **state) {
    static const char good[] = "{\"prompt\":[1,2],\"response\":[3],\"stopped\":true}\n";
    const struct {
        const char *second, *place, *text;
    } bad[] = {
        {"", "r.jsonl", "1 episodes, ppo.batch asks for 2"},
        {"{\"prompt\":[1],\"response\":[2],\"stopped\":true}\n"
         "{\"prompt\":[1],\"response\":[2],\"stopped\":true}\n",
         "r.jsonl", "more than 2 episodes"},
        {"{\"prompt\":[1],\"stopped\":true}\n", "r.jsonl:2", "lists of ids"},
        {"{\"prompt\":[],\"response\":[1],\"stopped\":true}\n", "r.jsonl:2", "lists of ids"},
        {"{\"prompt\":[1],\"response\":\"no\",\"stopped\":true}\n", "r.jsonl:2", "lists of ids"},
        {"{\"prompt\":[1],\"response\":[9],\"stopped\":true}\n", "r.jsonl:2", "0..8"},
        {"{\"prompt\":[-1],\"response\":[8],\"stopped\":true}\n", "r.jsonl:2", "0..8"},
        {"{\"prompt\":[1.5],\"response\":[8],\"stopped\":true}\n", "r.jsonl:2", "0..8"},
        {"{\"prompt\":[1,1,1],\"response\":[2,2],\"stopped\":true}\n", "r.jsonl:2", "context of 4"},
        {"{\"prompt\":[1],\"response\":[2]}\n", "r.jsonl:2", "\"stopped\""},
        {"{\"prompt\":[1],\n", "r.jsonl:2", ""},
    };
    char *path = scratch("r.jsonl");
    Episodes e = {0};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *text = xasprintf("%s%s", good, bad[i].second);
        scratch_text(path, text);
        free(text);
        FAILS(rollout_read(&e, path, 2, 9, 4), ERR_DATA, bad[i].place, bad[i].text);
        assert_null(e.tokens);
    }
    unlink(path);
    assert_int_equal(rollout_read(&e, path, 2, 9, 4), ERR_IO);
    FAILS(rollout_write(&e, "/nowhere/r.jsonl"), ERR_IO, "/nowhere/r.jsonl", "cannot be written");
    free(path);
}

/* --- sampling --------------------------------------------------------------------------------- */

/* Ranks hold the same episodes; they begin with their prompts; the sampler's log-probabilities are
 * those of the training forward. */
static void test_sampled_episodes(void **state) {
    Lab l;
    lab_open(&l);
    Ppo *p = &l.ppo;
    int32_t token[3][4] = {{5, 6, 7, 8}, {9, 10}, {200, 3, 4}};
    Sequence seq[3] = {
        {.tokens = token[0], .n = 4}, {.tokens = token[1], .n = 2}, {.tokens = token[2], .n = 3}};
    int64_t first[4] = {0, 1, 2, 3}, item[7] = {2, 0, 1, 0, 0, 2, 1};
    const Dataset d = {.kind = DATASET_PROMPTS, .n = 3, .first = first, .seq = seq};
    static const int32_t stop[3] = {0, 50, 150};
    const DecodeOptions o = {.temperature = p->o.temperature,
                             .top_p = 1,
                             .max_new = 12,
                             .stop = stop,
                             .nstop = 3,
                             .seed = 4};
    rollout_free(&l.e);
    OK(rollout_sample(&l.e, l.policy, &d, item, 7, 70, &o, comm));
    uint64_t hash = 0;
    for (int i = 0; i < 7; i++) {
        const Sequence *q = &seq[item[i]];
        const int32_t *t = l.e.tokens + l.e.start[i], end = l.e.tokens[l.e.start[i + 1] - 1];
        assert_int_equal(l.e.prompt[i], q->n);
        assert_memory_equal(t, q->tokens, (size_t)q->n * sizeof *t);
        assert_true(rollout_length(&l.e, i) >= 1 && rollout_length(&l.e, i) <= 12);
        const bool stopped = end == stop[0] || end == stop[1] || end == stop[2];
        assert_int_equal(l.e.stopped[i], stopped);
        assert_true(stopped || rollout_length(&l.e, i) == 12);
        for (int64_t k = 0; k < l.e.start[i + 1] - l.e.start[i]; k++)
            hash = splitmix(hash + (uint64_t)t[k]);
    }
    assert_true(comm_equal_u64(comm, hash));
    PpoStats s = {0};
    iteration_score(p, &l.e, 0);
    iteration_advantages(p, &l.e, &s);
    assert_true(s.decode_gap > 0 && s.decode_gap < 1e-4);
    lab_close(&l);
}

int main(int argc, char **argv) {
    OK(comm_open(&comm, &argc, &argv));
    core_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_iteration), cmocka_unit_test(test_every_episode_once),
        cmocka_unit_test(test_not_finite),       cmocka_unit_test(test_rollouts_round_trip),
        cmocka_unit_test(test_rollouts_refused), cmocka_unit_test(test_sampled_episodes),
    };
    int failed = scratch_make(NULL) != 0;
    failed += cmocka_run_group_tests(tests, NULL, golden_close);
    scratch_remove(NULL);
    comm_close(&comm);
    return failed;
}

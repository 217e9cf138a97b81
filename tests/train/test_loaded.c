/* Models out of checkpoints, and what is said when it is the wrong one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "checkpoints/exchange/load.h"
#include "model/decode.h"
#include "tests/base/scratch.h"
#include "tests/data/tokens.h"
#include "tests/train/lab.h"

static Gpt *lm, *average, *rm;
static Tokenizer *bytes;
static char *lm_dir, *ppo_dir, *rm_dir, *chat_dir, *other_dir;

static int make(void **state) {
    assert_int_equal(scratch_make(NULL), 0);
    OK(comm_open_alone(&comm));
    lm = lab_model(false, 1);
    average = lab_model(false, 2);
    rm = lab_model(true, 3);
    bytes = tokens_bytes();
    Tokenizer *other = tokens_train("", 257 + 2, true);
    Gpt *wide =
        random_gpt((GptConfig){.vocab = 300, .context = 8, .layers = 1, .heads = 1, .width = 8}, 1);
    lab_save(lm_dir = scratch("lm"), STAGE_SFT, lm, bytes, TEMPLATE_ALPACA, NULL);
    lab_save(ppo_dir = scratch("ppo"), STAGE_PPO, lm, bytes, TEMPLATE_ALPACA, average);
    lab_save(rm_dir = scratch("rm"), STAGE_REWARD, rm, bytes, TEMPLATE_ALPACA, NULL);
    lab_save(chat_dir = scratch("chat"), STAGE_SFT, lm, bytes, TEMPLATE_HH, NULL);
    lab_save(other_dir = scratch("other"), STAGE_SFT, wide, other, TEMPLATE_ALPACA, NULL);
    gpt_close(&wide);
    tokenizer_close(&other);
    return 0;
}

static int clear(void **state) {
    char *const dirs[] = {lm_dir, ppo_dir, rm_dir, chat_dir, other_dir};
    for (int i = 0; i < 5; i++) free(dirs[i]);
    gpt_close(&lm);
    gpt_close(&average);
    gpt_close(&rm);
    tokenizer_close(&bytes);
    comm_close(&comm);
    return scratch_remove(NULL);
}

/* All parameters of `have` that `want` has are its; the others are 0. */
static void assert_weights(Gpt *have, Gpt *want) {
    for (int i = 0; i < have->params.n; i++) {
        const Param *p = &have->params.v[i];
        const Tensor *w = paramset_find(&want->params, p->name);
        for (int64_t j = 0; j < tensor_size(&p->tensor); j++)
            assert_true(p->tensor.data[j] == (w ? w->data[j] : 0));
    }
}

static void test_language_model(void **state) {
    Loaded l;
    OK(load_model(&l, lm_dir, "from.model", LOAD_LANGUAGE));
    assert_weights(l.gpt, lm);
    assert_null(l.gpt->params.grad);
    assert_int_equal(l.gpt->params.n, lm->params.n);
    assert_true(l.gpt->cfg.bias && !l.gpt->cfg.scalar_head && l.gpt->cfg.norm_eps == 1e-5);
    assert_int_equal(l.tmpl, TEMPLATE_ALPACA);
    assert_int_equal(tokenizer_hash(l.tokenizer), tokenizer_hash(bytes));
    assert_string_equal(l.stage, "sft");
    assert_int_equal(l.step, 1);
    assert_int_equal(strlen(l.id), 16);
    Loaded file; /* the checkpoint itself instead of its run */
    OK(load_open(&file, l.path, "from.model", LOAD_LANGUAGE, comm));
    OK(load_weights(&file, true));
    assert_non_null(file.gpt->params.grad);
    assert_string_equal(file.id, l.id);
    load_free(&file);
    load_free(&l);
    assert_null(l.gpt);
}

/* After PPO the average is the model. */
static void test_average(void **state) {
    Loaded l;
    OK(load_model(&l, ppo_dir, "from.model", LOAD_LANGUAGE));
    assert_weights(l.gpt, average);
    load_free(&l);
}

/* Any of a model's own stop tokens is an answer's proper end, until one is chosen. */
static void test_ends(void **state) {
    Loaded l;
    Tokenizer *t = tokens_train("", 257 + 2, true);
    const int32_t two[] = {3, 7};
    char *dir = scratch("ends");
    tokenizer_set_stops(t, two, 2);
    Gpt *g =
        random_gpt((GptConfig){.vocab = 300, .context = 8, .layers = 1, .heads = 1, .width = 8}, 1);
    lab_save(dir, STAGE_SFT, g, t, TEMPLATE_ALPACA, NULL);
    OK(load_model(&l, dir, "from.model", LOAD_LANGUAGE));
    assert_int_equal(l.nend, 2);
    assert_true(load_finished(&l, 3) && load_finished(&l, 7) && !load_finished(&l, 5));
    load_end_with(&l, 7);
    assert_true(load_finished(&l, 7) && !load_finished(&l, 3));
    assert_int_equal(l.nstop, 2); /* both still end a text */
    load_free(&l);
    gpt_close(&g);
    tokenizer_close(&t);
    free(dir);
}

/* Answers end with the end-of-text token, or first with what PPO was given. */
static void test_stop(void **state) {
    Loaded l;
    OK(load_model(&l, lm_dir, "from.model", LOAD_LANGUAGE));
    assert_int_equal(l.nstop, 1);
    assert_int_equal(l.stop[0], tokenizer_eos(bytes));
    load_free(&l);
    for (int32_t stop = tokenizer_eos(bytes); stop <= tokenizer_eos(bytes) + 1; stop++) {
        Run run;
        lab_run(&run, STAGE_PPO, ppo_dir, NULL);
        run.step = 2 + stop;
        run_keep_params(&run, "params", &lm->params, lm->params.data);
        run_describe(&run, &lm->cfg, bytes, TEMPLATE_ALPACA, "params");
        run_stop_token(&run, stop);
        OK(run_save(&run));
        lab_end(&run);
        OK(load_model(&l, ppo_dir, "from.model", LOAD_LANGUAGE));
        assert_int_equal(l.stop[0], stop);
        assert_int_equal(l.nstop, stop == tokenizer_eos(bytes) ? 1 : 2);
        assert_int_equal(l.stop[l.nstop - 1], tokenizer_eos(bytes));
        load_free(&l);
    }
}

static void test_reward_model(void **state) {
    Loaded l;
    OK(load_model(&l, rm_dir, "from.reward", LOAD_REWARD));
    assert_weights(l.gpt, rm);
    assert_true(l.gpt->cfg.scalar_head && l.gpt->head_b->data[0] == rm->head_b->data[0]);
    load_free(&l);
    OK(load_model(&l, lm_dir, "from.model", LOAD_TRUNK)); /* the caller makes the head */
    assert_weights(l.gpt, lm);
    assert_true(l.gpt->cfg.scalar_head && l.gpt->head_w->data[0] == 0);
    load_free(&l);
}

/* Rows of the vocabulary that no token has, here 41 of 300, are never sampled. */
static void test_rows_without_token(void **state) {
    enum { N = 40, NEW = 6 };
    int32_t tokens[N];
    int64_t start[N + 1], met = 0;
    for (int i = 0; i < N; i++) tokens[i] = i, start[i] = i;
    start[N] = N;
    Loaded l;
    OK(load_model(&l, other_dir, "from.model", LOAD_LANGUAGE));
    for (int masked = 1; masked >= 0; masked--) {
        DecodeResult r;
        const DecodeOptions o = {.temperature = 1, .top_p = 1, .max_new = NEW};
        OK(decode(&r, l.gpt, tokens, start, N, NULL, &o));
        for (int64_t i = 0; i < N; i++)
            for (int64_t k = 0; k < r.v[i].n; k++)
                met += r.v[i].tokens[k] >= tokenizer_vocab(l.tokenizer);
        assert_int_equal(met > 0, !masked);
        decode_free(&r);
        gpt_never_sample(l.gpt, NULL, 0);
    }
    load_free(&l);
}

/* One line: the setting, the file, what it is, what to do. */
static void test_wrong_kind(void **state) {
    Loaded l;
    FAILS(load_model(&l, lm_dir, "from.reward", LOAD_REWARD), ERR_CONFIG,
          "from.reward: ", "is a language model of stage sft; a reward model is needed");
    assert_non_null(strstr(error_message(), lm_dir));
    assert_null(l.gpt);
    FAILS(load_model(&l, rm_dir, "from.model", LOAD_LANGUAGE), ERR_CONFIG,
          "from.model: ", "is a reward model; a language model is needed");
    assert_non_null(strstr(error_message(), rm_dir));
}

/* A description of a model that the file does not hold: data that is wrong, not a model that is too
 * large for this machine. */
static void test_false_description(void **state) {
    char *dir = scratch("claims");
    GptConfig claims[3] = {lm->cfg, lm->cfg, lm->cfg};
    claims[0].width = 1 << 20;
    claims[1].layers = 4000;
    claims[2].vocab = 2000000000;
    for (int i = 0; i < 3; i++) {
        Run run;
        Loaded l;
        lab_run(&run, STAGE_PPO, dir, NULL);
        run.step = 2 + i;
        run_keep_params(&run, "params", &lm->params, lm->params.data);
        run_describe(&run, &claims[i], bytes, TEMPLATE_HH, "params");
        OK(run_save(&run));
        lab_end(&run);
        FAILS(load_open(&l, dir, "from.model", LOAD_LANGUAGE, NULL), ERR_DATA, dir, "params/");
    }
    free(dir);
}

static void test_missing(void **state) {
    Loaded l;
    FAILS(load_model(&l, "", "from.model", LOAD_LANGUAGE), ERR_CONFIG, "from.model", "is not set");
    char *path = scratch("nothing");
    assert_true(load_model(&l, path, "from.model", LOAD_LANGUAGE) < 0);
    assert_non_null(strstr(error_message(), "from.model: "));
    assert_non_null(strstr(error_message(), path));
    free(path);
}

static void test_other_tokenizer(void **state) {
    Loaded a, b;
    OK(load_model(&a, lm_dir, "from.model", LOAD_LANGUAGE));
    OK(load_model(&b, rm_dir, "from.reward", LOAD_REWARD));
    OK(load_same_tokenizer(&a, &b));
    a.cfg.vocab += 6; /* rows that no token has are never sampled */
    OK(load_same_tokenizer(&a, &b));
    a.cfg.vocab -= 6;
    load_free(&b);
    OK(load_model(&b, other_dir, "from.reward", LOAD_LANGUAGE));
    FAILS(load_same_tokenizer(&a, &b), ERR_CONFIG, b.path, "different tokenizers (257 tokens");
    assert_non_null(strstr(error_message(), a.path));
    load_free(&b);
    OK(load_model(&b, chat_dir, "from.reward", LOAD_LANGUAGE));
    FAILS(load_same_tokenizer(&a, &b), ERR_CONFIG, b.path, "different chat templates");
    load_free(&b);
    load_free(&a);
}

static void test_description_round_trip(void **state) {
    const GptConfig c = {.vocab = 1,
                         .context = 2,
                         .layers = 3,
                         .heads = 4,
                         .width = 5,
                         .bias = false,
                         .scalar_head = true,
                         .mlp = MLP_GELU_ERF,
                         .untied = true,
                         .norm_eps = 0.1};
    GptConfig d = {0};
    json_t *j = arch_to_json(&c);
    OK(arch_from_json(&d, j));
    assert_true(c.vocab == d.vocab && c.context == d.context && c.layers == d.layers);
    assert_true(c.heads == d.heads && c.width == d.width && c.bias == d.bias);
    assert_true(c.scalar_head == d.scalar_head && c.mlp == d.mlp && c.untied == d.untied &&
                c.norm_eps == d.norm_eps);
    json_object_del(j, "untied"); /* files of version 0.1 have no such member */
    OK(arch_from_json(&d, j));
    assert_false(d.untied);
    json_object_del(j, "heads");
    assert_int_equal(arch_from_json(&d, j), ERR_DATA);
    assert_int_equal(arch_from_json(&d, NULL), ERR_DATA);
    json_decref(j);
}

int main(void) {
    core_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_language_model),
        cmocka_unit_test(test_average),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_rows_without_token),
        cmocka_unit_test(test_reward_model),
        cmocka_unit_test(test_wrong_kind),
        cmocka_unit_test(test_false_description),
        cmocka_unit_test(test_missing),
        cmocka_unit_test(test_other_tokenizer),
        cmocka_unit_test(test_description_round_trip),
    };
    return cmocka_run_group_tests(tests, make, clear);
}

/* test_config.c: settings are read, checked, written back; messages name place and remedy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/config_table.h"
#include "base/error.h"
#include "tests/base/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *recipe; /* the file of the current test */

static int load(Config *c, int stage, const char *yaml) {
    scratch_write(recipe, yaml, strlen(yaml));
    return config_load(c, stage, recipe, NULL, 0);
}

static int override(Config *c, int stage, const char *setting) {
    return config_load(c, stage, NULL, &setting, 1);
}

static void test_defaults(void **unused) {
    Config c;
    OK(config_load(&c, STAGE_PPO, NULL, NULL, 0));
    assert_int_equal(c.stage, STAGE_PPO);
    assert_string_equal(c.origin, "");
    assert_int_equal(c.ppo_batch, 512);
    assert_true(c.ppo_whiten);
    assert_int_equal(c.save_compression, COMPRESS_ZSTD);
    assert_string_equal(c.from_model, "");
    assert_int_equal(c.data_train.n, 0);
    config_free(&c);
    config_free(&c); /* twice does no harm */
}

/* RLHF_SPEC's settings of each stage, without a recipe. */
static void test_stage_defaults(void **unused) {
    static const struct {
        int stage, schedule;
        double lr, eps, warmup, from;
    } want[] = {{STAGE_PRETRAIN, SCHEDULE_COSINE, 3e-4, 1e-8, 0, 0},
                {STAGE_SFT, SCHEDULE_COSINE, 9.65e-6, 1e-8, 0, 0},
                {STAGE_REWARD, SCHEDULE_COSINE, 9e-6, 1e-8, 0, 0},
                {STAGE_PPO, SCHEDULE_CONSTANT, 9e-6, 1e-5, 10, 0.1}};
    Config c;
    for (int i = 0; i < 4; i++) {
        OK(config_load(&c, want[i].stage, NULL, NULL, 0));
        assert_true(c.optim_lr == want[i].lr && c.optim_eps == want[i].eps);
        assert_int_equal(c.optim_schedule, want[i].schedule);
        assert_true((double)c.optim_warmup == want[i].warmup &&
                    c.optim_warmup_from == want[i].from);
        assert_true(c.optim_beta1 == 0.9 && c.optim_beta2 == 0.95 && c.optim_lr_end == 0.1);
        config_free(&c);
    }
    OK(config_load(&c, STAGE_REWARD, NULL, NULL, 0));
    assert_int_equal(c.train_batch, 64);
    config_free(&c);
    /* the recipe and the command line have the last word; the rest stays */
    OK(load(&c, STAGE_PPO, "optim: {schedule: cosine, lr: 1e-3}\n"));
    assert_int_equal(c.optim_schedule, SCHEDULE_COSINE);
    assert_true(c.optim_lr == 1e-3 && c.optim_eps == 1e-5);
    char *yaml = config_yaml(&c);
    assert_non_null(strstr(yaml, "  eps: 1e-5\n"));
    free(yaml);
    config_free(&c);
    OK(override(&c, STAGE_PPO, "optim.eps=1e-8"));
    assert_true(c.optim_eps == 1e-8);
    FAILS(config_bad(&c, "optim.warmup", "too long"), ERR_CONFIG, "optim.warmup is 10 (default)",
          "too long");
    config_free(&c);
    char *sft = config_help(STAGE_SFT), *ppo = config_help(STAGE_PPO), *md = config_markdown();
    assert_non_null(strstr(sft, "    optim.eps=1e-8\n"));
    assert_non_null(strstr(ppo, "    optim.eps=1e-5\n"));
    assert_non_null(strstr(ppo, "    optim.schedule=constant\n"));
    assert_non_null(strstr(md, "| `optim.eps` | number | 1e-8; ppo: 1e-5; grpo: 1e-5 |"));
    assert_non_null(strstr(
        md, "| `optim.lr` | number | 0.0003; sft: 9.65e-6; reward: 9e-6; dpo: 1e-6; ppo: 9e-6; "
            "grpo: 1e-6 |"));
    free(sft);
    free(ppo);
    free(md);
}

/* Each stage's list in base/stages.h names settings and sections that exist, and its defaults are
 * what a recipe with them would have. */
static void test_stage_settings(void **unused) {
    int given = 0;
    for (int stage = STAGE_NONE + 1; stage <= STAGE_SUBMIT; stage++) {
        char *list = xstrdup(config_stage[stage].settings), *rest = list;
        for (char *word; (word = strsep(&rest, " "));) {
            if (!*word) continue;
            const size_t n = strcspn(word + (*word == '-'), "=");
            char *name = xasprintf("%.*s", (int)n, word + (*word == '-'));
            bool found = false;
            for (int i = 0; i < config_nkeys; i++)
                found |= name[n - 1] == '.' ? strncmp(config_keys[i].name, name, n) == 0
                                            : strcmp(config_keys[i].name, name) == 0;
            if (!found) fail_msg("%s: there is no %s", config_stage_name(stage), name);
            if (strchr(word, '=')) {
                Config c;
                OK(config_load(&c, stage, NULL, NULL, 0));
                char *without = config_yaml(&c);
                config_free(&c);
                OK(override(&c, stage, word));
                char *with = config_yaml(&c);
                config_free(&c);
                assert_string_equal(with, without);
                free(with);
                free(without);
                given++;
            }
            free(name);
        }
        free(list);
    }
    assert_true(given >= 8);
    for (int i = 0; i < config_nkeys; i++) { /* and none is forgotten */
        char *all = config_stages(&config_keys[i]);
        if (!all) fail_msg("%s: no stage knows it", config_keys[i].name);
        free(all);
    }
}

/* ~/ is the home folder, in paths only; a setting whose text begins so is left alone. */
static void test_home(void **unused) {
    Config c;
    char *home = xstrdup(getenv("HOME") ? getenv("HOME") : "");
    setenv("HOME", "/home/ann", 1);
    OK(load(&c, STAGE_PPO,
            "run: {dir: ~/runs}\nfrom.model: \"~\"\ndata: {train: [~/a, b/~/c, ~bob]}\n"
            "ppo.stop: ~/\n"));
    assert_string_equal(c.run_dir, "/home/ann/runs");
    assert_string_equal(c.from_model, "/home/ann");
    assert_string_equal(c.data_train.v[0], "/home/ann/a");
    assert_string_equal(c.data_train.v[1], "b/~/c");
    assert_string_equal(c.data_train.v[2], "~bob");
    assert_string_equal(c.ppo_stop, "~/");
    config_free(&c);
    OK(override(&c, STAGE_PRETRAIN, "data.train=~/x.h5"));
    assert_string_equal(c.data_train.v[0], "/home/ann/x.h5");
    config_free(&c);
    setenv("HOME", home, 1);
    free(home);
}

static void test_forms(void **unused) {
    Config c;
    OK(load(&c, STAGE_SFT,
            "# a comment\n"
            "run: {dir: runs/x, seed: 7}\n"
            "optim.lr: 1e-5\n"
            "optim:\n"
            "  schedule: linear\n"
            "  warmup: 1e3\n"
            "data:\n"
            "  train: [a.jsonl, \"b, c.jsonl\"]\n"
            "  heldout: one.jsonl\n"
            "  fields: {prompt: question, completion: \"an swer\"}\n"
            "  on_bad: skip\n"
            "save.every_epoch: true\n"
            "eval:\n"));
    assert_string_equal(c.run_dir, "runs/x");
    assert_int_equal(c.run_seed, 7);
    assert_true(c.optim_lr == 1e-5);
    assert_int_equal(c.optim_schedule, SCHEDULE_LINEAR);
    assert_int_equal(c.optim_warmup, 1000);
    assert_int_equal(c.data_train.n, 2);
    assert_string_equal(c.data_train.v[1], "b, c.jsonl");
    assert_int_equal(c.data_heldout.n, 1);
    assert_string_equal(c.data_heldout.v[0], "one.jsonl");
    assert_string_equal(c.data_field_prompt, "question");
    assert_string_equal(c.data_field_completion, "an swer");
    assert_int_equal(c.data_on_bad, ON_BAD_SKIP);
    assert_true(c.save_every_epoch);
    assert_string_equal(c.origin, recipe);
    config_free(&c);
    OK(load(&c, STAGE_SFT, ""));
    config_free(&c);
    OK(load(&c, STAGE_SFT, "# nothing\n---\n"));
    config_free(&c);
}

static void test_overrides(void **unused) {
    Config c;
    static const char *settings[] = {"optim.lr=2e-4",        "optim.lr=1e-4",
                                     "data.train=a.h5,b.h5", "data.heldout=[x, \"y,z\"]",
                                     "run.dir=runs/a=b c",   "data.on_bad=skip"};
    scratch_write(recipe, "optim.lr: 1\ndata.train: [q]\n", 28);
    OK(config_load(&c, STAGE_REWARD, recipe, settings, 6));
    assert_true(c.optim_lr == 1e-4);
    assert_int_equal(c.data_train.n, 2);
    assert_string_equal(c.data_train.v[1], "b.h5");
    assert_int_equal(c.data_heldout.n, 2);
    assert_string_equal(c.data_heldout.v[1], "y,z");
    assert_string_equal(c.run_dir, "runs/a=b c");
    config_free(&c);
    OK(override(&c, STAGE_REWARD, "data.train="));
    assert_int_equal(c.data_train.n, 0);
    config_free(&c);
    FAILS(override(&c, STAGE_PPO, "nonsense"), ERR_CONFIG, "command line", "section.key=value");
    FAILS(override(&c, STAGE_PPO, "=3"), ERR_CONFIG, "command line", "section.key=value");
    FAILS(override(&c, STAGE_PPO, "ppo.bacth=3"), ERR_CONFIG, "command line",
          "did you mean ppo.batch?");
    FAILS(override(&c, STAGE_PPO, "data.train=[a, b"), ERR_CONFIG, "command line",
          "malformed YAML");
    FAILS(override(&c, STAGE_PPO, "data.train=[a]\nx: 1"), ERR_CONFIG, "command line",
          "unknown setting x");
    FAILS(override(&c, STAGE_PPO, "run.dir=\xff\xfe"), ERR_CONFIG, "command line", "UTF-8");
}

static void test_environment(void **unused) {
    Config c;
    setenv("RHETOR_TEST_HOME", "/data", 1);
    setenv("RHETOR_TEST_N", "17", 1);
    setenv("RHETOR_TEST_EMPTY", "", 1);
    unsetenv("RHETOR_TEST_NONE");
    OK(load(&c, STAGE_PPO,
            "run:\n  dir: ${RHETOR_TEST_HOME}/${RHETOR_TEST_NONE:-runs}/$x$${y}\n"
            "  seed: ${RHETOR_TEST_N}\n"
            "  threads: ${RHETOR_TEST_EMPTY:-3}\n"
            "data.train: [\"${RHETOR_TEST_HOME}/a\", '${RHETOR_TEST_NONE:-}b']\n"));
    assert_string_equal(c.run_dir, "/data/runs/$x${y}");
    assert_int_equal(c.run_seed, 17);
    assert_int_equal(c.run_threads, 3);
    assert_string_equal(c.data_train.v[0], "/data/a");
    assert_string_equal(c.data_train.v[1], "b");
    config_free(&c);
    FAILS(load(&c, STAGE_PPO, "run:\n  dir: a/${RHETOR_TEST_NONE}\n"), ERR_CONFIG,
          "recipe.yaml:2:8",
          "RHETOR_TEST_NONE is not set; set it, or write ${RHETOR_TEST_NONE:-default}");
    FAILS(load(&c, STAGE_PPO, "run.dir: \"${RHETOR\"\n"), ERR_CONFIG, "recipe.yaml:1:10",
          "without \"}\"");
}

static void test_messages(void **unused) {
    static const struct {
        const char *yaml, *place, *text;
    } cases[] = {
        {"optim:\n  lr: 20\n", ":2:7: optim.lr is 20", "expected a number from 0 to 10"},
        {"optim:\n  lr: fast\n", ":2:7: optim.lr is fast", "expected a number"},
        {"optim.lr: 0x1\n", ":1:11", "expected a number"},
        {"optim.lr: nan\n", ":1:11", "expected a number"},
        {"optim.lr: 1e400\n", ":1:11", "expected a number"},
        {"optim.lr:\n", "optim.lr is empty", "expected a number"},
        {"ppo.batch: 0\n", ":1:12: ppo.batch is 0", "expected an integer from 1 to 1e9"},
        {"ppo.batch: 1.5\n", "ppo.batch is 1.5", "expected an integer"},
        {"ppo.batch: 1_000\n", "ppo.batch is 1_000", "expected an integer"},
        {"ppo.batch: [1]\n", "ppo.batch is a list", "expected an integer"},
        {"ppo.batch: 99999999999999999999\n", ":1:12", "expected an integer"},
        {"ppo.whiten: yes\n", "ppo.whiten is yes", "expected true or false"},
        {"ppo.kl: adaptve\n", ":1:9: ppo.kl is adaptve",
         "expected one of fixed, adaptive; did you mean adaptive?"},
        {"ppo.kl: off\n", "ppo.kl is off", "expected one of fixed, adaptive"},
        {"ppo:\n  batchs: 3\n", ":2:11: unknown setting ppo.batchs", "did you mean ppo.batch?"},
        {"lr: 1\n", ":1:5: unknown setting lr", "did you mean optim.lr?"},
        {"train.lr: 1\n", "unknown setting train.lr", "did you mean optim.lr?"},
        {"quux: 1\n", "unknown setting quux", "rhetor-ppo --help"},
        {"model.layers: 3\n", ":1:15: model.layers is a setting of pretrain, not of ppo",
         "from.model"},
        {"train:\n  epochs: 2\n", ":2:11",
         "is a setting of pretrain, sft, reward, dpo, not of ppo; remove"},
        {"ppo: 3\n", ":1:6: ppo is a section", "--help"},
        {"ppo.batch: 8\nppo: {batch: 9}\n", ":2:14: ppo.batch is set again", "recipe.yaml:1:12"},
        {"ppo.batch: {a: 1}\n", "unknown setting ppo.batch.a", "did you mean"},
        {"ppo: [1, 2\n", "recipe.yaml:", "malformed YAML"},
        {"ppo:\n\tbatch: 3\n", "recipe.yaml:2", "malformed YAML"},
        {"- a\n", "recipe.yaml:1:1", "a bare list"},
        {"word\n", "recipe.yaml:1:1", "a bare word"},
        {"data.train: [[a]]\n", "recipe.yaml:1:14", "a list inside a list"},
        {"a: &x 1\nb: *x\n", "recipe.yaml:1", "unknown setting a"},
        {"run.seed: &x 1\nrun.threads: *x\n", "recipe.yaml:2", "alias"},
        {"run.seed: 1\n---\nrun.seed: 2\n", "recipe.yaml:2", "second document"},
        {"run.seed: 1\nrun.dir: \xff\xfe\n", "recipe.yaml:2", "not valid UTF-8; re-encode"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        Config c;
        if (load(&c, STAGE_PPO, cases[i].yaml) == 0) fail_msg("accepted: %s", cases[i].yaml);
        FAILS(load(&c, STAGE_PPO, cases[i].yaml), ERR_CONFIG, cases[i].place, cases[i].text);
        if (!strstr(error_message(), "recipe.yaml")) fail_msg("no file in: %s", error_message());
        assert_null(c.priv);
    }
    Config c;
    char *gone = scratch("gone.yaml");
    FAILS(config_load(&c, STAGE_SFT, gone, NULL, 0), ERR_CONFIG, gone, "No such file");
    free(gone);
}

static void test_bad(void **unused) {
    Config c;
    OK(load(&c, STAGE_PPO, "ppo:\n  batch: 30\n"));
    FAILS(config_bad(&c, "ppo.batch", "expected a multiple of %d", 8), ERR_CONFIG,
          "recipe.yaml:2:10: ppo.batch is 30: ", "expected a multiple of 8");
    FAILS(config_bad(&c, "ppo.minibatches", "too many"), ERR_CONFIG,
          "recipe.yaml: ", "ppo.minibatches is 8 (default): too many");
    FAILS(config_bad(&c, "from.reward", "no reward model is given"), ERR_CONFIG,
          "recipe.yaml: ", "from.reward is not set: no reward model");
    config_free(&c);
    OK(override(&c, STAGE_PPO, "ppo.batch=31"));
    FAILS(config_bad(&c, "ppo.batch", "odd"), ERR_CONFIG, "command line: ", "ppo.batch is 31: odd");
    config_free(&c);
}

/* Everything that is written is read back to the same text, for every stage and odd values. */
static void test_yaml_reads_back(void **unused) {
    static const char *odd[] = {"run.dir=a: b # \"c\" 'd' \\ \t \n é 😀 ${x} $${ \x7f \x01 \xc2\x85 "
                                "\xe2\x80\xa8 \xef\xbb\xbf \xef\xbf\xbf \xe2\x80\xa7"};
    char settings[4][64];
    const char *all[5] = {odd[0]};
    static const double numbers[] = {0.1, 1.0 / 3, 3e-4, 6.02214076e-23};
    for (int i = 0; i < 4; i++) {
        snprintf(settings[i], sizeof settings[i], "%s=%.17g",
                 (const char *[]){"optim.lr", "optim.lr_end", "optim.decay", "optim.eps"}[i],
                 numbers[i]);
        all[i + 1] = settings[i];
    }
    for (int stage = STAGE_NONE + 1; stage < STAGES; stage++) {
        Config c, again;
        setenv("x", "must not be used", 1);
        /* On the command line $${ stands for ${; what is stored must survive the way back. */
        all[0] = "run.dir=a: b # \"c\" 'd' \\ \t \n é 😀 $${x} $ \x7f \x01 \xc2\x85 \xe2\x80\xa8 "
                 "\xef\xbb\xbf \xef\xbf\xbf \xe2\x80\xa7";
        OK(config_load(&c, stage, NULL, all, 5));
        assert_non_null(strstr(c.run_dir, " ${x} "));
        char *yaml = config_yaml(&c);
        OK(load(&again, stage, yaml));
        assert_string_equal(c.run_dir, again.run_dir);
        assert_true(c.optim_lr == again.optim_lr && again.optim_lr == 0.1);
        assert_true(again.optim_lr_end == 1.0 / 3 && again.optim_decay == 3e-4);
        assert_true(again.optim_eps == 6.02214076e-23);
        char *second = config_yaml(&again), *diff = config_diff(stage, yaml, second);
        assert_string_equal(yaml, second);
        assert_string_equal(diff, "");
        free(yaml);
        free(second);
        free(diff);
        config_free(&c);
        config_free(&again);
    }
}

/* What makes other weights is named, the seed too; where and how often is not. */
static void test_diff(void **unused) {
    char *d = config_diff(STAGE_SFT,
                          "run: {dir: a, seed: 1, threads: 3}\noptim:\n  lr: 1\n  clip: 2\nold: x\n"
                          "ppo: {clip: 1}\ndata: {train: [a, b], on_bad: gone}\n",
                          "run: {dir: b, seed: 2}\noptim: {lr: 3, clip: 2}\ndata: {train: []}\n"
                          "save.every: 4\ntrain.micro_tokens: 5\n");
    assert_string_equal(d, "run.seed: 1 -> 2\ndata.train: [\"a\", \"b\"] -> []\noptim.lr: 1 -> 3");
    free(d);
    d = config_diff(STAGE_SFT, "a: [", "a: 1");
    assert_non_null(strstr(d, "malformed YAML"));
    free(d);
}

static int longest_line(const char *s) {
    int longest = 0;
    while (*s) {
        int n = (int)strcspn(s, "\n");
        if (n > longest) longest = n;
        s += n + (s[n] == '\n');
    }
    return longest;
}

static void test_help_and_markdown(void **unused) {
    for (int stage = STAGE_NONE + 1; stage < STAGES; stage++) {
        char *help = config_help(stage);
        assert_true(longest_line(help) <= 100);
        assert_int_equal(strstr(help, "optim.lr=0.0003") != NULL, stage == STAGE_PRETRAIN);
        assert_int_equal(strstr(help, "ppo.batch=512") != NULL, config_has_episodes(stage));
        assert_int_equal(strstr(help, "model.layers=4") != NULL, stage == STAGE_PRETRAIN);
        free(help);
    }
    char *md = config_markdown();
    assert_non_null(strstr(md, "\n## ppo\n"));
    assert_non_null(strstr(md, "| `optim.schedule` | word | cosine; ppo: constant; grpo: constant "
                               "| constant, linear, cosine | all |"));
    assert_non_null(strstr(md, "| `save.keep_best` | true or false | false |  |"));
    /* every key of the table, once */
#define KEY(field, name, ...)                          \
    {                                                  \
        char *at = strstr(md, "| `" name "` |");       \
        assert_non_null(at);                           \
        assert_null(strstr(at + 1, "| `" name "` |")); \
    }
#include "base/config_keys.h"
    free(md);
}

/* Random damage to a recipe: an error or a config, never a crash, and errors have their place. */
static void test_damaged_recipes(void **unused) {
    static const char good[] = "run: {dir: x, seed: 3}\noptim:\n  lr: 1e-3\n  schedule: linear\n"
                               "data:\n  train: [a, \"b\"]\n";
    uint64_t s = 42;
    int errors = 0;
    for (int i = 0; i < 3000; i++) {
        char yaml[sizeof good];
        memcpy(yaml, good, sizeof good);
        for (int j = 0; j < 1 + i % 3; j++) {
            s = s * 6364136223846793005u + 1442695040888963407u;
            yaml[(s >> 33) % (sizeof good - 1)] = (char)(s >> 25 & 0xFF);
        }
        Config c;
        scratch_write(recipe, yaml, sizeof good - 1);
        int rc = config_load(&c, STAGE_SFT, recipe, NULL, 0);
        if (rc < 0) {
            errors++;
            assert_int_equal(rc, ERR_CONFIG);
            if (!strstr(error_message(), recipe)) fail_msg("run %d: %s", i, error_message());
        }
        config_free(&c);
    }
    assert_true(errors > 1000);
}

static int make(void **unused) {
    if (scratch_make(unused)) return -1;
    recipe = scratch("recipe.yaml");
    return 0;
}

static int clean(void **unused) {
    free(recipe);
    return scratch_remove(unused);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_defaults),
                                       cmocka_unit_test(test_stage_defaults),
                                       cmocka_unit_test(test_stage_settings),
                                       cmocka_unit_test(test_home),
                                       cmocka_unit_test(test_forms),
                                       cmocka_unit_test(test_overrides),
                                       cmocka_unit_test(test_environment),
                                       cmocka_unit_test(test_messages),
                                       cmocka_unit_test(test_bad),
                                       cmocka_unit_test(test_yaml_reads_back),
                                       cmocka_unit_test(test_diff),
                                       cmocka_unit_test(test_help_and_markdown),
                                       cmocka_unit_test(test_damaged_recipes)};
    return cmocka_run_group_tests(tests, make, clean);
}

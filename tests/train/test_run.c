/* The state of a run: what a resumed run finds, what its metrics look like, what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/log.h"
#include "tests/base/scratch.h"
#include "tests/data/tokens.h"
#include "tests/train/lab.h"
#include "train/trainer.h"

static const char *const every_two[] = {"save.every=2", "save.keep_last=2", NULL};

/* A stage whose loss of step s is s + 0.5, with a model that the step number moves. */
typedef struct Stage {
    Run run;
    Gpt *g;
    AdamW adam;
    int64_t count;
    double sum;
} Stage;

static void stage_open(Stage *s, int stage, const char *dir, const char *const *settings) {
    *s = (Stage){0};
    lab_run(&s->run, stage, dir, settings);
    s->g = lab_model(false, 4);
    adamw_init(&s->adam, &s->g->params, NULL, 0.9, 0.95, 1e-8, 0);
    run_keep_params(&s->run, "params", &s->g->params, s->g->params.data);
    run_keep_adamw(&s->run, "optimizer", &s->g->params, &s->adam);
    run_keep_i64(&s->run, "count", &s->count);
    run_keep_f64(&s->run, "sum", &s->sum);
    Tokenizer *t = tokens_bytes();
    run_describe(&s->run, &s->g->cfg, t, TEMPLATE_PLAIN, "params");
    tokenizer_close(&t);
    run_parent(&s->run, "model", "0123");
    run_data(&s->run, "train", 77);
    s->run.steps = 9;
}

static void stage_close(Stage *s) {
    adamw_free(&s->adam);
    gpt_close(&s->g);
    lab_end(&s->run);
}

static void do_steps(Stage *s, int64_t until) {
    while (s->run.step < until) {
        for (int64_t i = 0; i < s->g->params.size; i++)
            s->g->params.grad[i] = (real)cos((double)(i + s->run.step));
        adamw_update(&s->adam, &s->g->params, 1e-2, 1);
        s->count += 3;
        s->sum += 0.1;
        run_metric(&s->run, "loss", (double)s->run.step + 0.5);
        run_metric(&s->run, "nothing", (double)NAN);
        OK(run_step_end(&s->run, 10));
    }
}

static char *content(const Stage *s, const char *name) {
    char *text;
    size_t len;
    OK(file_read(run_path(&s->run, name), &text, &len));
    return text;
}

static char *metrics(Stage *s) { return content(s, "metrics.jsonl"); }

static char *metrics_of_steps(int64_t n) {
    char *text = xstrdup("");
    for (int64_t i = 1; i <= n; i++) {
        char *more = xasprintf("%s{\"step\": %lld, \"loss\": %g, \"nothing\": null}\n", text,
                               (long long)i, (double)i - 0.5);
        free(text);
        text = more;
    }
    return text;
}

static void assert_metrics(Stage *s, int64_t n) {
    char *have = metrics(s), *want = metrics_of_steps(n);
    assert_string_equal(have, want);
    free(have);
    free(want);
}

/* Stopped after step 5, saved at step 4, the last line torn: what comes after step 4 is forgotten,
 * and in the end all is as if nothing had been. */
static void test_resume(void **state) {
    char *dir = scratch("resume"), *straight_dir = scratch("straight");
    Stage s, straight;
    stage_open(&s, STAGE_SFT, dir, every_two);
    OK(run_resume(&s.run));
    assert_int_equal(s.run.step, 0);
    do_steps(&s, 5);
    assert_metrics(&s, 5);
    OK(file_append(run_path(&s.run, "metrics.jsonl"), "{\"step\": 6, \"lo", 14));
    stage_close(&s);

    stage_open(&s, STAGE_SFT, dir, every_two);
    OK(run_resume(&s.run));
    assert_int_equal(s.run.step, 4);
    assert_int_equal(s.count, 12);
    assert_int_equal(s.adam.step, 4);
    assert_metrics(&s, 4);
    do_steps(&s, 9);
    assert_false(run_goes_on(&s.run));
    assert_metrics(&s, 9);

    stage_open(&straight, STAGE_SFT, straight_dir, every_two);
    OK(run_resume(&straight.run));
    do_steps(&straight, 9);
    const size_t bytes = (size_t)s.g->params.size * sizeof(real);
    assert_memory_equal(s.g->params.data, straight.g->params.data, bytes);
    assert_memory_equal(s.adam.m, straight.adam.m, bytes);
    assert_memory_equal(s.adam.v, straight.adam.v, bytes);
    assert_true(s.sum == straight.sum && s.count == straight.count);
    stage_close(&straight);
    stage_close(&s);

    stage_open(&s, STAGE_SFT, dir, every_two); /* done: nothing to do, the metrics stay */
    OK(run_resume(&s.run));
    assert_int_equal(s.run.step, 9);
    assert_metrics(&s, 9);
    char *torn = metrics(&s);
    torn[strlen(torn) - 5] = '\0'; /* as a crash of the machine may leave them */
    scratch_text(run_path(&s.run, "metrics.jsonl"), torn);
    free(torn);
    stage_close(&s);

    stage_open(&s, STAGE_SFT, dir, every_two);
    OK(run_resume(&s.run));
    assert_metrics(&s, 8);
    stage_close(&s);
    free(dir);
    free(straight_dir);
}

static bool saved(const char *dir, int64_t step) {
    char *path = xasprintf("%s/checkpoints/step_%08lld.h5", dir, (long long)step);
    const bool there = file_exists(path);
    free(path);
    return there;
}

/* Without save.every a checkpoint comes when the last one is old enough. */
static void test_saved_by_time(void **state) {
    char *dir = scratch("time");
    Stage s;
    stage_open(&s, STAGE_SFT, dir, (const char *const[]){"save.keep_last=9", NULL});
    assert_true(s.run.cfg.save_every_seconds == 600); /* the default */
    OK(run_resume(&s.run));
    do_steps(&s, 2);
    assert_false(saved(dir, 1) || saved(dir, 2));
    s.run.priv->last_save -= 600;
    do_steps(&s, 4);
    assert_true(saved(dir, 3));
    assert_false(saved(dir, 4));
    s.run.cfg.save_every_seconds = 0;
    s.run.priv->last_save -= 1e6;
    do_steps(&s, 5);
    assert_false(saved(dir, 5));
    stage_close(&s);
    free(dir);
}

/* However rare the steps between two lines: neither the log nor status.json is older than 30 s. */
static void test_followed_by_time(void **state) {
    char *dir = scratch("follow");
    Stage s;
    stage_open(&s, STAGE_SFT, dir, (const char *const[]){"run.log_every=1000", NULL});
    OK(log_file(run_path(&s.run, "log.txt")));
    OK(run_resume(&s.run));
    do_steps(&s, 3);
    char *log = content(&s, "log.txt"), *status = content(&s, "status.json");
    assert_non_null(strstr(log, "step 1/9"));
    assert_null(strstr(log, "step 3/9"));
    assert_non_null(strstr(status, "\"step\": 0"));
    free(log), free(status);
    s.run.priv->last_log -= 30;
    s.run.priv->last_status -= 30;
    do_steps(&s, 5);
    log = content(&s, "log.txt"), status = content(&s, "status.json");
    assert_non_null(strstr(log, "step 4/9"));
    assert_null(strstr(log, "step 5/9"));
    assert_non_null(strstr(status, "\"state\": \"running\""));
    assert_non_null(strstr(status, "\"step\": 4"));
    free(log), free(status);
    log_close();
    stage_close(&s);
    free(dir);
}

/* status.json is JSON whatever the reason, and says the stage's headline metric. */
static void test_status(void **state) {
    char *dir = scratch("status");
    Stage s;
    stage_open(&s, STAGE_SFT, dir, NULL);
    OK(run_resume(&s.run));
    char *status = content(&s, "status.json");
    assert_null(strstr(status, "eval/loss"));
    free(status);
    run_metric(&s.run, "eval/loss", 2.5);
    run_write_status(&s.run, "failed", 74, "a \"b\" c:\\d\n\xff\x01 \xC3\xA9");
    status = content(&s, "status.json");
    json_t *j = json_loads(status, 0, NULL);
    assert_non_null(j);
    assert_string_equal(json_string_value(json_object_get(j, "reason")),
                        "a \"b\" c:\\d ?? \xC3\xA9");
    assert_int_equal(json_integer_value(json_object_get(j, "code")), 74);
    assert_true(json_number_value(json_object_get(j, "eval/loss")) == 2.5);
    json_decref(j);
    free(status);
    char *longest = xasprintf("%02000d", 7);
    run_write_status(&s.run, "failed", 70, longest);
    status = content(&s, "status.json");
    assert_non_null(j = json_loads(status, 0, NULL));
    json_decref(j);
    free(status), free(longest);
    stage_close(&s);
    free(dir);
}

/* The window of losses is in the checkpoint: the same decisions after a resume. Older checkpoints
 * have none: it begins empty. */
static void test_spikes_kept(void **state) {
    char *dir = scratch("spikes");
    double v[5] = {1, 1.0 / 3, -0.0, 1e300, 5e-324}, w[5] = {0};
    Stage s;
    stage_open(&s, STAGE_SFT, dir, every_two);
    run_keep_doubles(&s.run, "spikes", v, 5);
    OK(run_resume(&s.run));
    do_steps(&s, 2);
    stage_close(&s);
    stage_open(&s, STAGE_SFT, dir, every_two);
    run_keep_doubles(&s.run, "spikes", w, 5);
    OK(run_resume(&s.run));
    assert_memory_equal(v, w, sizeof v);
    stage_close(&s);
    stage_open(&s, STAGE_SFT, dir, every_two);
    run_keep_doubles(&s.run, "critic/spikes", w, 5);
    OK(run_resume(&s.run));
    assert_memory_equal(v, w, sizeof v);
    stage_close(&s);
    free(dir);
}

/* Killed before the first checkpoint: starts over, with empty metrics. */
static void test_nothing_saved(void **state) {
    char *dir = scratch("early");
    Stage s;
    stage_open(&s, STAGE_SFT, dir, NULL);
    OK(run_resume(&s.run));
    do_steps(&s, 3);
    stage_close(&s);
    stage_open(&s, STAGE_SFT, dir, NULL);
    OK(run_resume(&s.run));
    assert_int_equal(s.run.step, 0);
    assert_metrics(&s, 0);
    stage_close(&s);
    free(dir);
}

/* Another stage, parent, data, a counter that is not in it: one line that names the file. */
static void test_refused(void **state) {
    char *dir = scratch("refused");
    Stage s;
    stage_open(&s, STAGE_SFT, dir, every_two);
    OK(run_resume(&s.run));
    do_steps(&s, 2);
    stage_close(&s);
    stage_open(&s, STAGE_REWARD, dir, every_two);
    FAILS(run_resume(&s.run), ERR_CONFIG, dir, "of stage sft, this is reward");
    stage_close(&s);
    stage_open(&s, STAGE_SFT, dir, every_two);
    run_parent(&s.run, "model", "4567");
    FAILS(run_resume(&s.run), ERR_CONFIG, dir, "other parents");
    stage_close(&s);
    stage_open(&s, STAGE_SFT, dir, every_two);
    run_data(&s.run, "train", 78);
    FAILS(run_resume(&s.run), ERR_CONFIG, dir, "other data");
    stage_close(&s);
    stage_open(&s, STAGE_SFT, dir, every_two);
    run_keep_i64(&s.run, "more", &s.count);
    FAILS(run_resume(&s.run), ERR_DATA, dir, "\"more\" is missing");
    stage_close(&s);
    free(dir);
}

/* The best of the evaluations after steps 1, 2, ... is saved at once and outlives the rotation; a
 * resumed run knows it; NaN is not the best. */
static void test_best(void **state) {
    static const char *const settings[] = {"save.every=1", "save.keep_last=1",
                                           "save.keep_best=true", "eval.every=1", NULL};
    static const double value[8] = {5, 3, 4, (double)NAN, 3, 2, 6, 2.5};
    static const int64_t best[8] = {1, 2, 2, 2, 2, 6, 6, 6};
    char *dir = scratch("best");
    Stage s;
    for (int life = 0; life < 2; life++) {
        stage_open(&s, STAGE_SFT, dir, settings);
        OK(run_resume(&s.run));
        assert_int_equal(s.run.step, life == 0 ? 0 : 3);
        while (s.run.step < (life == 0 ? 3 : 8)) {
            assert_true(run_eval_due(&s.run));
            run_eval_result(&s.run, value[s.run.step]);
            do_steps(&s, s.run.step + 1);
            double v;
            assert_int_equal(ckpt_best_step(s.run.priv->ckpt_dir, &v), best[s.run.step - 1]);
            assert_true(v == value[best[s.run.step - 1] - 1]);
            assert_true(saved(dir, best[s.run.step - 1]));
        }
        stage_close(&s);
    }
    assert_false(saved(dir, 1) || saved(dir, 2));
    free(dir);
}

/* Steps to keep (the ends of epochs) are saved whatever save.every says, and stay. */
static void test_kept_steps(void **state) {
    static const int64_t keep[] = {3, 5};
    char *dir = scratch("kept");
    Stage s;
    stage_open(&s, STAGE_SFT, dir, (const char *const[]){"save.keep_last=1", "save.every=2", NULL});
    run_keep_steps(&s.run, keep, 2);
    OK(run_resume(&s.run));
    do_steps(&s, 9);
    for (int64_t i = 1; i <= 9; i++) assert_int_equal(saved(dir, i), i == 3 || i == 5 || i == 9);
    stage_close(&s);
    free(dir);
}

/* A disk that cannot be written: training goes on, the third time in a row it ends; a save that
 * works in between resets the count. The last step must be saved. */
static void test_failed_saves(void **state) {
    char *dir = scratch("full"), *checkpoints = file_join(dir, "checkpoints");
    char *aside = file_join(dir, "aside");
    Stage s;
    stage_open(&s, STAGE_SFT, dir, (const char *const[]){"save.every=1", NULL});
    OK(run_resume(&s.run));
    do_steps(&s, 1);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(rename(checkpoints, aside), 0);
        scratch_text(checkpoints, "not a folder");
        do_steps(&s, s.run.step + 2);
        assert_int_equal(s.run.priv->save_failures, 2);
        if (round == 1) break;
        unlink(checkpoints);
        assert_int_equal(rename(aside, checkpoints), 0);
        do_steps(&s, s.run.step + 1);
        assert_int_equal(s.run.priv->save_failures, 0);
    }
    assert_true(run_step_end(&s.run, 1) < 0);
    assert_non_null(strstr(error_message(), "3 checkpoints in a row failed"));
    s.run.priv->save_failures = 0;
    s.run.step = 8;
    assert_int_equal(run_step_end(&s.run, 1), ERR_IO);
    assert_non_null(strstr(error_message(), "the last step could not be saved"));
    stage_close(&s);
    free(dir);
    free(checkpoints);
    free(aside);
}

/* Asked to stop with a disk that cannot be written: nothing is called saved that is not. */
static void test_stop_not_saved(void **state) {
    char *dir = scratch("stop"), *checkpoints = file_join(dir, "checkpoints");
    char *aside = file_join(dir, "aside"), *stop = file_join(dir, "STOP");
    Stage s;
    stage_open(&s, STAGE_SFT, dir, NULL);
    OK(run_resume(&s.run));
    do_steps(&s, 1);
    for (int k = 0; k < 2; k++) { /* nothing saved before; step 3 saved before */
        assert_int_equal(rename(checkpoints, aside), 0);
        scratch_text(checkpoints, "not a folder");
        scratch_text(stop, "");
        assert_int_equal(run_step_end(&s.run, 1), ERR_IO);
        assert_non_null(strstr(error_message(), "could not be saved: "));
        assert_non_null(strstr(error_message(), k ? "; then the same command goes on from step 3"
                                                  : "; then the same command starts over"));
        unlink(checkpoints);
        assert_int_equal(rename(aside, checkpoints), 0);
        scratch_text(stop, "");
        if (k == 0) assert_int_equal(run_step_end(&s.run, 1), ERR_REQUEUE);
    }
    stage_close(&s);
    free(dir);
    free(checkpoints);
    free(aside);
    free(stop);
}

static int clear(void **state) {
    comm_close(&comm);
    return scratch_remove(NULL);
}

int main(void) {
    core_init();
    OK(comm_open_alone(&comm));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resume),         cmocka_unit_test(test_nothing_saved),
        cmocka_unit_test(test_refused),        cmocka_unit_test(test_best),
        cmocka_unit_test(test_kept_steps),     cmocka_unit_test(test_failed_saves),
        cmocka_unit_test(test_spikes_kept),    cmocka_unit_test(test_saved_by_time),
        cmocka_unit_test(test_stop_not_saved), cmocka_unit_test(test_followed_by_time),
        cmocka_unit_test(test_status),
    };
    return cmocka_run_group_tests(tests, scratch_make, clear);
}

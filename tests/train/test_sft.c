/* What rhetor-sft learns from in a step, by the stage's own functions: the share of pretraining
 * text, the mean over learned tokens, the ends of epochs. */
/* ranks: 1 3 */
#define main sft_main
#include "train/sft.c" /* for its static functions */
#undef main

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/base/scratch.h"
#include "tests/data/tokens.h"
#include "tests/train/lab.h"

enum { DEMOS = 11, T = LAB_CONTEXT };

static char *model_dir, *demos_path, *corpus_path;

static int make(void **state) {
    scratch_make(NULL);
    model_dir = scratch("model");
    demos_path = scratch("demos.jsonl");
    corpus_path = scratch("mix.h5");
    Gpt *g = lab_model(false, 1);
    Tokenizer *t = tokens_bytes();
    lab_save(model_dir, STAGE_PRETRAIN, g, t, TEMPLATE_PLAIN, NULL);

    FILE *f = fopen(demos_path, "w");
    assert_non_null(f);
    for (int i = 0; i < DEMOS; i++)
        fprintf(f, "{\"prompt\":\"%.*s\",\"completion\":\"%.*s\"}\n", 3 + i % 4, "question", 2 + i,
                "a long enough answer");
    fclose(f);
    char *text = scratch("mix.jsonl");
    f = fopen(text, "w"); /* documents shorter and longer than a window */
    assert_non_null(f);
    for (int d = 0; d < 30; d++) {
        fprintf(f, "{\"text\":\"");
        for (int i = 0; i < 2 + d * 3; i++)
            fputc((int)('a' + random_below((uint64_t)(100 * d + i), 26)), f);
        fprintf(f, "\"}\n");
    }
    fclose(f);
    CorpusBuild b = {.tokenizer = t, .path = corpus_path, .no_eot = true};
    OK(corpus_build(&b, &(StrList){&text, 1}));
    free(text);
    tokenizer_close(&t);
    gpt_close(&g);
    return 0;
}

static int clear(void **state) {
    free(model_dir);
    free(demos_path);
    free(corpus_path);
    return scratch_remove(NULL);
}

static void open_sft(Sft *s, Run *run, const char *const *more) {
    const char *set[16] = {0};
    int n = 0;
    char *own[] = {xasprintf("from.model=%s", model_dir), xasprintf("data.train=%s", demos_path),
                   xasprintf("data.mix=%s", corpus_path)};
    for (int i = 0; i < 3; i++) set[n++] = own[i];
    while (*more) set[n++] = *more++;
    lab_run(run, STAGE_SFT, NULL, set);
    for (int i = 0; i < 3; i++) free(own[i]);
    *s = (Sft){0};
    OK(open_all(s, run));
}

static void close_sft(Sft *s, Run *run) {
    trainer_close(&s->trainer);
    free(s->epoch_end);
    windows_close(&s->mix);
    dataset_free(&s->demos);
    load_free(&s->model);
    lab_end(run);
}

/* Over many steps the windows' share of the tokens is data.mix_ratio, and after no step there are
 * more windows than are due or one less. */
static void test_share_of_pretraining(void **state) {
    static const char *const ratio[] = {"data.mix_ratio=0.1", "data.mix_ratio=0.5",
                                        "data.mix_ratio=0.8"};
    static const double share[] = {0.1, 0.5, 0.8};
    enum { STEPS = 10 * DEMOS }; /* whole epochs */
    for (int k = 0; k < 3; k++) {
        Sft s;
        Run run;
        open_sft(&s, &run, (const char *const[]){ratio[k], "train.batch=5", NULL});
        double mixed = 0, all = 0;
        for (run.step = 0; run.step < STEPS; run.step++) {
            const double windows = floor((double)(run.step + 1) * s.plan.windows);
            int64_t examples = 0;
            Step step;
            OK(next_step(&s, &run, NULL, &step));
            for (int64_t b = 0; b < 5; b++) examples += example(&s, b)->n;
            mixed += (double)(step.tokens - examples);
            all += (double)step.tokens;
            assert_true(mixed ==
                        (double)corpus_window_tokens(s.mix.corpus, 1, 0, (int64_t)windows, T));
        }
        if (!(fabs(mixed / all - share[k]) < 0.01)) fail_msg("%g of %g", mixed / all, share[k]);
        close_sft(&s, &run);
    }
}

/* The loss of a step is the mean over the learned tokens of all ranks and the windows' tokens. */
static void test_loss(void **state) {
    for (int on_all = 0; on_all < 2; on_all++) {
        Sft s;
        Run run;
        open_sft(
            &s, &run,
            (const char *const[]){"data.mix_ratio=0.6", "train.batch=4", "train.micro_tokens=40",
                                  on_all ? "data.loss_on=all" : "data.loss_on=response", NULL});
        run.step = 2;
        double loss, nll = 0, count = 0;
        Step step;
        OK(next_step(&s, &run, NULL, &step));
        OK(step_passes(&step));
        trainer_finish(&s.trainer);
        virtual_sum(&s.trainer.ranks, comm, &loss);
        Gpt *g = s.model.gpt;
        for (int64_t b = 0; b < 4; b++) {
            const Sequence *q = example(&s, b);
            int64_t learns = 0;
            for (int64_t i = 1; i < q->n; i++) learns += on_all || i >= q->prompt;
            nll += lab_nll(g, q->tokens, q->tokens + 1, on_all ? NULL : q->learn + 1, q->n - 1);
            count += (double)learns;
        }
        const int64_t first = (int64_t)(2 * s.plan.windows), end = (int64_t)(3 * s.plan.windows);
        assert_true(end > first);
        for (int64_t w = first; w < end; w++) {
            int32_t window[T + 1];
            int64_t n;
            OK(corpus_window(s.mix.corpus, 1, w, T, window, &n, NULL));
            nll += lab_nll(g, window, window + 1, NULL, n);
            count += (double)n;
        }
        assert_true((double)s.learns == count);
        assert_true(fabs(loss - nll / count) < 1e-5 * loss);
        close_sft(&s, &run);
    }
}

/* Steps at which epochs end, also when an epoch is a small part of a step. */
static void test_epochs(void **state) {
    static const struct {
        const char *batch, *epochs;
        int64_t steps;
        int n;
        int64_t end[12];
    } want[] = {
        {"train.batch=11", "train.epochs=3", 3, 3, {1, 2, 3}},
        {"train.batch=4", "train.epochs=2", 6, 2, {3, 6}}, /* 2.75 steps an epoch */
        {"train.batch=88", "train.epochs=1", 1, 12, {0}},  /* an eighth of a step */
    };
    for (int k = 0; k < 3; k++) {
        Sft s;
        Run run;
        open_sft(
            &s, &run,
            (const char *const[]){want[k].batch, want[k].epochs, "save.every_epoch=true", NULL});
        assert_int_equal(run.steps, want[k].steps);
        assert_int_equal(run.priv->nkeep_step, want[k].n);
        for (int e = 0; k < 2 && e < want[k].n; e++)
            assert_int_equal(s.epoch_end[e], want[k].end[e]);
        close_sft(&s, &run);
    }
}

/* Text to mix in without a share of it. */
static void test_mix_is_not_read(void **state) {
    for (int ratio = 0; ratio < 2; ratio++) {
        Sft s;
        Run run;
        const int keep = scratch_catch();
        open_sft(&s, &run, (const char *const[]){ratio ? "data.mix_ratio=0.1" : NULL, NULL});
        char *text = scratch_caught(keep);
        assert_int_equal(strstr(text, "data.mix is not read") != NULL, !ratio && run.main_rank);
        free(text);
        close_sft(&s, &run);
    }
}

int main(int argc, char **argv) {
    OK(comm_open(&comm, &argc, &argv));
    core_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share_of_pretraining),
        cmocka_unit_test(test_loss),
        cmocka_unit_test(test_epochs),
        cmocka_unit_test(test_mix_is_not_read),
    };
    int failed = cmocka_run_group_tests(tests, make, clear);
    comm_close(&comm);
    return failed;
}

/* The reward stage by its own functions: the loss and gradient of a step against one pair after the
 * other, the references' mean of 0, in the checkpoint kept as the best too. */
/* ranks: 1 3 */
#define main reward_main
#include "rlhf/reward.c" /* for its static functions */
#undef main

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/rlhf/ranked.h"

/* Groups of 3 and 2 with ties, and one without a pair. */
static const char records[] =
    "{\"prompt\":\"one\",\"completions\":[\"a\",\"bcd\",\"ef\"],\"ranks\":[2,1,2]}\n"
    "{\"prompt\":\"two\",\"completions\":[\"xyz\",\"w\"],\"ranks\":[1,2]}\n"
    "{\"prompt\":\"three\",\"completions\":[\"same\",\"rank\"],\"ranks\":[1,1]}\n"
    "{\"prompt\":\"four\",\"completions\":[\"q\",\"r\",\"s\"],\"ranks\":[3,2,1]}\n";

static int make(void **state) { return ranked_make(records); }

static void open_reward(Reward *w, Run *run, const char *dir, const char *const *more) {
    ranked_run(run, STAGE_REWARD, dir, more);
    *w = (Reward){0};
    OK(open_all(w, run));
}

static void close_reward(Reward *w, Run *run) {
    trainer_close(&w->trainer);
    dataset_free(&w->ranked);
    dataset_free(&w->heldout);
    dataset_free(&w->reference);
    load_free(&w->model);
    lab_end(run);
}

static double reward_of(Gpt *g, const Sequence *q) {
    float r;
    score_sequences(g, q, 1, 1, &r);
    return (double)r;
}

/* The mean over the prompts that have pairs of the mean over their pairs. */
static double naive_loss(Reward *w, const Config *c) {
    const Dataset *d = &w->ranked;
    double loss = 0;
    int prompts = 0;
    for (int64_t b = 0; b < c->train_batch; b++) {
        const int64_t i = prompt(w, b);
        double sum = 0;
        int pairs = 0;
        for (int64_t j = d->first[i]; j < d->first[i + 1]; j++)
            for (int64_t k = d->first[i]; k < d->first[i + 1]; k++) {
                if (d->rank[j] >= d->rank[k]) continue;
                double diff =
                    reward_of(w->model.gpt, &d->seq[j]) - reward_of(w->model.gpt, &d->seq[k]);
                sum += log1p(exp(-diff));
                pairs++;
            }
        if (pairs) loss += sum / pairs;
        prompts += pairs > 0;
    }
    return loss / prompts;
}

/* With micro-batches of one prompt and of all; along the gradient the loss changes as it says. */
static void test_gradients(void **state) {
    static const char *const micro[] = {"train.micro_tokens=1", "train.micro_tokens=4096"};
    for (int k = 0; k < 2; k++) {
        Reward w;
        Run run;
        open_reward(&w, &run, NULL, (const char *const[]){"train.batch=6", micro[k], NULL});
        ParamSet *ps = &w.model.gpt->params;
        Report r;
        run.step = 1;
        Step step = next_step(&w, &run, NULL);
        OK(step_passes(&step));
        trainer_finish(&w.trainer);
        virtual_sum(&w.trainer.ranks, comm, (double *)&r);
        assert_true(fabs(r.loss - naive_loss(&w, &run.cfg)) < 1e-5);
        assert_true(fabs(rank_loss(&r.stats) - r.loss) < 1e-9);
        const double norm = grad_norm(ps), h = 2e-3 / norm;
        double at[2];
        for (int side = 0; side < 2; side++) {
            for (int64_t i = 0; i < ps->size; i++)
                ps->data[i] += (real)((side ? -2 : 1) * h * (double)ps->grad[i] / norm);
            at[side] = naive_loss(&w, &run.cfg);
        }
        const double slope = (at[0] - at[1]) / (2 * h);
        if (!(fabs(slope / norm - 1) < 2e-2)) fail_msg("slope %g, gradient %g", slope, norm);
        close_reward(&w, &run);
    }
}

static double mean_of_references(Gpt *g, const Dataset *d) {
    double sum = 0;
    for (int64_t i = 0; i < d->n; i++) sum += reward_of(g, &d->seq[i]);
    return sum / (double)d->n;
}

/* Without data.reference the references are the best completions, the first of equals. */
static void test_normalisation(void **state) {
    Reward w;
    Run run;
    open_reward(&w, &run, NULL, (const char *const[]){"train.batch=2", NULL});
    assert_int_equal(w.reference.n, 4);
    static const int best[4] = {1, 0, 0, 2};
    for (int64_t i = 0; i < 4; i++)
        assert_ptr_equal(w.reference.seq[i].tokens,
                         w.ranked.seq[w.ranked.first[i] + best[i]].tokens);
    const double before = mean_of_references(w.model.gpt, &w.reference);
    assert_true(fabs(before) > 1e-2);
    normalise(&w, &run);
    assert_true(fabs(w.mean - before) < 1e-5 && w.std > 0);
    assert_true(fabs(mean_of_references(w.model.gpt, &w.reference)) < 1e-5);
    close_reward(&w, &run);
}

/* A whole run: every checkpoint that may be loaded later has references of mean 0. */
static void test_checkpoints_are_normalised(void **state) {
    if (comm_size(comm) > 1) skip(); /* ranks would need a common folder */
    char *dir = scratch("run");
    Reward w;
    Run run;
    open_reward(&w, &run, dir,
                (const char *const[]){"train.batch=3", "train.steps=6", "eval.every=2",
                                      "save.keep_best=true", "save.keep_last=9", NULL});
    OK(train(&w, &run));
    char **name = NULL;
    int n = 0, seen = 0;
    OK(file_list(run.priv->ckpt_dir, &name, &n));
    for (int i = 0; i < n; i++) {
        const size_t len = strlen(name[i]);
        if (len < 3 || strcmp(name[i] + len - 3, ".h5") != 0) continue;
        char *path = file_join(run.priv->ckpt_dir, name[i]);
        Loaded m;
        OK(load_model(&m, path, "from.reward", LOAD_REWARD));
        const double mean = mean_of_references(m.gpt, &w.reference);
        if (!(fabs(mean) < 1e-5)) fail_msg("%s: mean reward %g", name[i], mean);
        seen++;
        load_free(&m);
        free(path);
    }
    assert_true(seen >= 1);
    assert_true(ckpt_best_step(run.priv->ckpt_dir, NULL) > 0);
    file_free_list(&name, n);
    close_reward(&w, &run);
    free(dir);
}

int main(int argc, char **argv) {
    OK(comm_open(&comm, &argc, &argv));
    core_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_normalisation),
        cmocka_unit_test(test_checkpoints_are_normalised),
    };
    int failed = cmocka_run_group_tests(tests, make, ranked_clear);
    comm_close(&comm);
    return failed;
}

/* The DPO stage by its own functions: the loss and gradient of a step against answers scored one by
 * one, at the start no margin at all, what KTO compares with. */
/* ranks: 1 3 */
#define main dpo_main
#include "rlhf/dpo.c" /* for its static functions */
#undef main

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/rlhf/ranked.h"

/* Groups of 3 and 2 with ties, one without a pair, an answer that was cut off before its first
 * token. */
static const char records[] =
    "{\"prompt\":\"one\",\"completions\":[\"a\",\"bcd\",\"ef\"],\"ranks\":[2,1,2]}\n"
    "{\"prompt\":\"two\",\"completions\":[\"xyz\",\"\"],\"ranks\":[1,2],\"stopped\":[true,false]}\n"
    "{\"prompt\":\"three\",\"completions\":[\"same\",\"rank\"],\"ranks\":[1,1]}\n"
    "{\"prompt\":\"four\",\"completions\":[\"q\",\"r\",\"s\"],\"ranks\":[3,2,1]}\n";

static int make(void **state) { return ranked_make(records); }

static void open_dpo(Dpo *p, Run *run, const char *const *more) {
    ranked_run(run, STAGE_DPO, NULL, more);
    *p = (Dpo){0};
    OK(open_all(p, run));
    ask_reference(p, run, &p->train);
}

static void close_dpo(Dpo *p, Run *run) {
    trainer_close(&p->trainer);
    free_set(&p->train);
    free_set(&p->heldout);
    load_free(&p->model);
    lab_end(run);
}

static double logp_of(Gpt *g, const Sequence *q) {
    int32_t targets[LAB_CONTEXT] = {0};
    uint8_t active[LAB_CONTEXT] = {0};
    for (int64_t i = 0; i + 1 < q->n; i++) {
        targets[i] = q->tokens[i + 1];
        active[i] = i + 1 >= q->prompt;
    }
    return -lab_nll(g, q->tokens, targets, active, q->n);
}

static double naive_loss(Dpo *p, const Run *run) {
    const Dataset *d = &p->train.d;
    PrefStats s = {0};
    for (int64_t b = 0; b < run->cfg.train_batch; b++) {
        const int64_t i = prompt(p, b), first = d->first[i], K = d->first[i + 1] - first;
        PrefAnswer a[4];
        answers(&p->train, first, K, a);
        for (int64_t k = 0; k < K; k++) a[k].logp = logp_of(p->model.gpt, &d->seq[first + k]);
        preference_group(&p->o, a, d->rank + first, K, NULL, &s);
    }
    return s.loss / s.terms;
}

/* All weights a little away from where they were. */
static void move(Gpt *g) {
    for (int64_t i = 0; i < g->params.size; i++)
        g->params.data[i] *= (real)(1 + 0.2 * sin((double)i));
}

/* With micro-batches of one prompt and of all; along the gradient the loss changes as it says. */
static void test_gradients(void **state) {
    static const char *const loss[] = {"sigmoid", "ipo", "simpo", "orpo", "kto", "hinge"};
    for (int k = 0; k < 12; k++) {
        Dpo p;
        Run run;
        char *set = xasprintf("dpo.loss=%s", loss[k / 2]);
        open_dpo(&p, &run,
                 (const char *const[]){"train.batch=6", set, "dpo.sft=0.2",
                                       k % 2 ? "train.micro_tokens=1" : "train.micro_tokens=4096",
                                       NULL});
        free(set);
        move(p.model.gpt);
        ParamSet *ps = &p.model.gpt->params;
        run.step = 1;
        Step step = next_step(&p, &run, NULL);
        if (p.train.other) step_reference_point(&p, &run);
        OK(step_passes(&step));
        trainer_finish(&p.trainer);
        virtual_sum(&p.trainer.ranks, comm, step.sum);
        const double have = p.stats.loss / p.stats.terms, want = naive_loss(&p, &run);
        if (!(fabs(have - want) < 1e-4 * fmax(1, fabs(want))))
            fail_msg("%s: loss %g, expected %g", loss[k / 2], have, want);
        const double norm = grad_norm(ps), h = 1e-3 / norm;
        double at[2];
        for (int side = 0; side < 2; side++) {
            for (int64_t i = 0; i < ps->size; i++)
                ps->data[i] += (real)((side ? -2 : 1) * h * (double)ps->grad[i] / norm);
            at[side] = naive_loss(&p, &run);
        }
        const double slope = (at[0] - at[1]) / (2 * h);
        if (!(fabs(slope / norm - 1) < 3e-2))
            fail_msg("%s: slope %g, gradient %g", loss[k / 2], slope, norm);
        close_dpo(&p, &run);
    }
}

/* Policy and reference are the same model: every log-ratio is 0, bit by bit. */
static void test_start(void **state) {
    Dpo p;
    Run run;
    open_dpo(&p, &run, (const char *const[]){"train.batch=4", NULL});
    Step step = next_step(&p, &run, NULL);
    OK(step_passes(&step));
    trainer_finish(&p.trainer);
    virtual_sum(&p.trainer.ranks, comm, step.sum);
    assert_true(p.stats.pairs == 6 && p.stats.terms == 3);
    assert_true(p.stats.reward[0] == 0 && p.stats.reward[1] == 0);
    assert_true(fabs(p.stats.loss / p.stats.terms - log(2)) < 1e-12);
    for (int64_t s = 0; s < p.train.d.first[p.train.d.n]; s++)
        assert_true(fabs(p.train.ref[s] - logp_of(p.model.gpt, &p.train.d.seq[s])) < 1e-4);
    close_dpo(&p, &run);
}

/* KTO: the best are desirable; the answers to other prompts, whose KL begins at 0. */
static void test_kto(void **state) {
    Dpo p;
    Run run;
    open_dpo(&p, &run, (const char *const[]){"dpo.loss=kto", "train.batch=4", NULL});
    const Dataset *d = &p.train.d;
    const int64_t n = d->first[d->n];
    static const int32_t rank[] = {2, 1, 2, 1, 2, 1, 1, 2, 2, 1};
    assert_int_equal(n, 10);
    for (int64_t s = 0; s < n; s++) {
        const Sequence *q = &p.train.other[s], *of = &d->seq[s], *other = &d->seq[(s + 5) % n];
        assert_int_equal(d->rank[s], rank[s]);
        assert_int_equal(q->prompt, of->prompt);
        assert_memory_equal(q->tokens, of->tokens, (size_t)of->prompt * sizeof *q->tokens);
        assert_int_equal(q->n - q->prompt, other->n - other->prompt);
        assert_memory_equal(q->tokens + q->prompt, other->tokens + other->prompt,
                            (size_t)(q->n - q->prompt) * sizeof *q->tokens);
    }
    next_step(&p, &run, NULL);
    step_reference_point(&p, &run);
    assert_true(p.o.kl == 0);
    move(p.model.gpt);
    step_reference_point(&p, &run);
    double kl = 0;
    for (int64_t s = 0; s < n; s++)
        kl += (logp_of(p.model.gpt, &p.train.other[s]) - p.train.other_ref[s]) / (double)n;
    assert_true(fabs(p.o.kl - fmax(kl, 0)) < 1e-4);
    close_dpo(&p, &run);
}

int main(int argc, char **argv) {
    OK(comm_open(&comm, &argc, &argv));
    core_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradients),
        cmocka_unit_test(test_start),
        cmocka_unit_test(test_kto),
    };
    int failed = cmocka_run_group_tests(tests, make, ranked_clear);
    comm_close(&comm);
    return failed;
}

/* Gradients in, update out: the sum over ranks, clipping, gradients that are not finite. */
/* ranks: 1 2 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "tests/base/scratch.h"
#include "tests/data/tokens.h"
#include "tests/train/lab.h"
#include "train/step.h"

typedef struct Bench {
    Run run;
    Gpt *g;
    Trainer t;
    real *before; /* weights and moments */
} Bench;

static void bench_open(Bench *b, const char *const *settings) {
    lab_run(&b->run, STAGE_SFT, NULL, settings);
    b->g = lab_model(false, 3);
    trainer_open(&b->t, b->g, &b->run, "");
    b->before = xmalloc(3 * (size_t)b->g->params.size * sizeof(real));
}

static void bench_close(Bench *b) {
    trainer_close(&b->t);
    gpt_close(&b->g);
    free(b->before);
    lab_end(&b->run);
}

static void remember(Bench *b) {
    const size_t n = (size_t)b->g->params.size, bytes = n * sizeof(real);
    memcpy(b->before, b->g->params.data, bytes);
    memcpy(b->before + n, b->t.adam.m, bytes);
    memcpy(b->before + 2 * n, b->t.adam.v, bytes);
}

static void assert_untouched(const Bench *b) {
    const size_t n = (size_t)b->g->params.size, bytes = n * sizeof(real);
    assert_memory_equal(b->before, b->g->params.data, bytes);
    assert_memory_equal(b->before + n, b->t.adam.m, bytes);
    assert_memory_equal(b->before + 2 * n, b->t.adam.v, bytes);
}

/* Every rank's gradient: element i of rank r. */
static void fill_gradient(Bench *b, double scale) {
    const ParamSet *ps = &b->g->params;
    for (int p = 0; p < ps->n; p++)
        for (int64_t j = 0; j < tensor_size(&ps->v[p].tensor); j++)
            ps->v[p].tensor.grad[j] =
                (real)(scale * sin((double)(ps->v[p].offset + j) + comm_rank(comm)));
}

static void assert_no_gradient(const Bench *b) {
    for (int64_t i = 0; i < b->g->params.size; i++) assert_true(b->g->params.grad[i] == 0);
}

/* The first step of Adam is s g / (|s g| + eps), s the clipping; with eps = 1 it shows s. */
static void test_update(void **state) {
    Bench b;
    bench_open(&b, (const char *const[]){"optim.eps=1", "optim.clip=2", "optim.decay=0.5", NULL});
    const ParamSet *ps = &b.g->params;
    for (int big = 1; big >= 0; big--) {
        const double scale = big ? 1 : 1e-3, lr = 0.25;
        double norm2 = 0, norm;
        remember(&b);
        memset(b.t.adam.m, 0, (size_t)ps->size * sizeof(real));
        memset(b.t.adam.v, 0, (size_t)ps->size * sizeof(real));
        b.t.adam.step = 0;
        fill_gradient(&b, scale);
        OK(trainer_update(&b.t, lr, "a batch", &norm));
        double *g = xcalloc((size_t)ps->size, sizeof *g);
        for (int p = 0; p < ps->n; p++)
            for (int64_t j = 0; j < tensor_size(&ps->v[p].tensor); j++) {
                const int64_t i = ps->v[p].offset + j;
                for (int r = 0; r < comm_size(comm); r++) g[i] += scale * sin((double)i + r);
                norm2 += g[i] * g[i];
            }
        assert_true(fabs(norm - sqrt(norm2)) < 1e-5 * norm); /* before clipping */
        assert_int_equal(norm > 2, big);
        for (int p = 0; p < ps->n; p++)
            for (int64_t j = 0; j < tensor_size(&ps->v[p].tensor); j++) {
                const int64_t i = ps->v[p].offset + j;
                const double s = g[i] * (big ? 2 / norm : 1), w = (double)b.before[i];
                const double want = w - lr * (s / (fabs(s) + 1) + (ps->v[p].decay ? 0.5 * w : 0));
                if (!(fabs((double)ps->data[i] - want) < 1e-6))
                    fail_msg("%s[%lld] is %g, expected %g", ps->v[p].name, (long long)j,
                             (double)ps->data[i], want);
            }
        free(g);
        assert_no_gradient(&b);
    }
    bench_close(&b);
}

/* One bad number on one rank: nobody's weights or moments move, and all ranks count it. */
static void test_not_finite(void **state) {
    static const double bad[] = {(double)NAN, (double)INFINITY, (double)-INFINITY};
    Bench b;
    bench_open(&b, (const char *const[]){"optim.max_skips=2", NULL});
    double norm;
    fill_gradient(&b, 1);
    OK(trainer_update(&b.t, 1e-3, "a good batch", &norm));
    const int64_t step = b.t.adam.step;
    for (int round = 0; round < 2; round++) { /* a good one between makes it start over */
        remember(&b);
        for (int k = 0; k < 2; k++) {
            fill_gradient(&b, 1);
            if (comm_rank(comm) == comm_size(comm) - 1) b.g->wpe->grad[k] = (real)bad[round + k];
            OK(trainer_update(&b.t, 1e-3, "a bad batch", &norm));
            assert_false(isfinite(norm));
            assert_int_equal(b.t.skips, k + 1);
            assert_int_equal(b.t.adam.step, step + round);
            assert_untouched(&b);
            assert_no_gradient(&b);
        }
        if (round == 1) break;
        fill_gradient(&b, 1);
        OK(trainer_update(&b.t, 1e-3, "a good batch", &norm));
        assert_int_equal(b.t.skips, 0);
    }
    fill_gradient(&b, 1);
    if (comm_rank(comm) == 0) b.g->params.grad[0] = (real)NAN;
    FAILS(trainer_update(&b.t, 1e-3, "step 12 (windows 96..)", &norm), ERR_INTERNAL,
          "step 12 (windows 96..)", "3 gradients in a row");
    assert_untouched(&b);
    bench_close(&b);
}

/* A spike is skipped and not counted as a fault; a bad loss is one; NaN before does not matter. */
static void test_spike(void **state) {
    Bench b;
    bench_open(&b, (const char *const[]){"optim.skip_zscore=6", NULL});
    double norm;
    for (int i = 0; i < 40; i++) {
        fill_gradient(&b, 1 + 0.01 * sin(i));
        b.t.loss = i == 35 ? (double)NAN : 3;
        if (i == 35) remember(&b);
        OK(trainer_update(&b.t, 1e-3, "a batch", &norm));
        assert_int_equal(b.t.skips, i == 35);
        if (i == 35) assert_untouched(&b);
    }
    for (int off = 0; off < 2; off++) {
        if (off) b.t.skip_z = 0;
        remember(&b);
        const int64_t step = b.t.adam.step;
        fill_gradient(&b, off ? 40 : 2);
        OK(trainer_update(&b.t, 1e-3, "a wild batch", &norm));
        assert_int_equal(b.t.skips, 0);
        assert_int_equal(b.t.adam.step, step + off);
        if (!off) assert_untouched(&b);
        assert_no_gradient(&b);
    }
    bench_close(&b);
}

/* Gradient and loss do not depend on how sequences share passes; dropout's masks neither. */
static void test_language_model(void **state) {
    static const int32_t token[3][8] = {
        {7, 8, 9, 10, 11, 12}, {200, 3}, {1, 100, 1, 100, 50, 2, 2, 9}};
    static const int64_t n[3] = {6, 2, 8};
    Bench b;
    bench_open(&b, NULL);
    const size_t size = (size_t)b.g->params.size;
    real *first = xmalloc(size * sizeof *first);
    for (int drop = 0; drop < 2; drop++) {
        double loss[3] = {0};
        for (int way = 0; way < 3; way++) { /* all in one, each alone, in another order */
            Batch pack = {0};
            batch_clear(&pack);
            for (int k = 0; k < 3; k++) {
                const int s = way == 2 ? 2 - k : k;
                batch_add(&pack, token[s], n[s], NULL, 0.1f, (uint64_t)s + 40);
                if (way == 1 || k == 2) {
                    const Step step = {
                        .trainer = &b.t, .dropout = drop ? 0.4 : 0, .seed = 6, .number = 2};
                    step_lm(&step, NULL, &pack, 0, 0, &loss[way]);
                    trainer_backward(&b.t);
                    batch_clear(&pack);
                }
            }
            batch_free(&pack);
            gpt_sum_tied(b.g);
            if (way == 0) memcpy(first, b.g->params.grad, size * sizeof *first);
            double gap = 0, norm = 0;
            for (size_t i = 0; i < size; i++) {
                gap += pow((double)first[i] - (double)b.g->params.grad[i], 2);
                norm += pow((double)first[i], 2);
            }
            assert_true(norm > 0 && sqrt(gap / norm) < 1e-5);
            assert_true(fabs(loss[way] - loss[0]) < 1e-5 * loss[0]);
            paramset_zero_grad(&b.g->params);
        }
        if (drop) continue;
        double want = 0;
        for (int s = 0; s < 3; s++)
            want += 0.1 * lab_nll(b.g, token[s], token[s] + 1, NULL, n[s] - 1);
        assert_true(fabs(loss[0] - want) < 1e-5 * want);
    }
    free(first);
    bench_close(&b);
}

static real leaf(int k, int64_t i) { return (real)sin((double)(i % 1000) + 77 * k); }

static real tree(int begin, int end, int64_t i) {
    const int middle = (begin + end) / 2;
    return end - begin == 1 ? leaf(begin, i) : tree(begin, middle, i) + tree(middle, end, i);
}

/* What the virtual ranks of a rank add to the gradients is added up in a balanced tree; the next
 * step begins with cleared ones. */
static void test_virtual_ranks(void **state) {
    Bench b;
    bench_open(&b, (const char *const[]){"dist.virtual_ranks=16", NULL});
    const ParamSet *ps = &b.g->params;
    const VirtualRanks *v = &b.t.ranks;
    const size_t before = trainer_bytes(&b.t);
    assert_int_equal(v->n, 16);
    for (int step = 0; step < 2; step++) {
        for (int k = v->begin; k < v->end; k++) {
            for (int p = 0; p < ps->n; p++)
                for (int64_t j = 0; j < tensor_size(&ps->v[p].tensor); j++)
                    ps->v[p].tensor.grad[j] += leaf(k, ps->v[p].offset + j);
            trainer_rank_end(&b.t);
        }
        int extra = 0;
        for (int d = 0; d < 32; d++) extra += b.t.node[d] != NULL;
        assert_int_equal(extra, comm_size(comm) == 1 ? 4 : 3); /* log2 of its virtual ranks */
        assert_int_equal(before,
                         ((size_t)(4 + extra) * (size_t)ps->size + (size_t)tensor_size(b.g->wte)) *
                                 sizeof(real) +
                             exchange_bytes(comm_size(comm)));
        for (int p = 0; p < ps->n; p++)
            for (int64_t j = 0; j < tensor_size(&ps->v[p].tensor); j++) {
                const int64_t i = ps->v[p].offset + j;
                assert_true(ps->grad[i] == tree(v->begin, v->end, i));
            }
        double norm;
        OK(trainer_update(&b.t, 1e-3, "a batch", &norm));
        assert_no_gradient(&b);
    }
    bench_close(&b);
}

int main(int argc, char **argv) {
    OK(comm_open(&comm, &argc, &argv));
    core_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_update),        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_spike),         cmocka_unit_test(test_language_model),
        cmocka_unit_test(test_virtual_ranks),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    comm_close(&comm);
    return failed;
}

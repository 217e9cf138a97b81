/* The model against numbers made with PyTorch: tests/golden/gpt.safetensors (ours, committed; made
 * by gpt_golden.py) and Hugging Face's GPT-2 (tiny_gpt2.h). float: 1e-5. double: 1e-9 (golden
 * values stored as float: their rounding). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/blas.h"
#include "core/kernel.h"
#include "tests/exchange/tiny_gpt2.h"

#ifdef RHETOR_DOUBLE
static const double EXACT = 1e-9, ROUNDED = 1e-7; /* golden in double, golden rounded to float */
#else
static const double EXACT = 1e-5, ROUNDED = 1e-5;
#endif
#define GOLDEN "tests/golden/gpt.safetensors"

/* |have - want| <= tol (1 + |want|) */
static void expect_near(const char *what, const real *have, const double *want, int64_t n,
                        double tol) {
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)have[i] - want[i]) <= tol * (1 + fabs(want[i]))))
            fail_msg("%s[%lld] is %.10g, expected %.10g", what, (long long)i, (double)have[i],
                     want[i]);
}

static void expect_tensor(const SafeTensors *st, const char *name, const real *have, int64_t n,
                          double tol) {
    int64_t m;
    double *want = golden_get(st, name, &m, NULL, NULL);
    assert_int_equal(m, n);
    expect_near(name, have, want, n, tol);
    free(want);
}

/* logits [n,V] from hidden states */
static real *logits_of(const Gpt *g, const Tensor *h) {
    int64_t n = h->shape[0], V = g->cfg.vocab, C = g->cfg.width;
    real *out = malloc(sizeof *out * (size_t)(n * V));
    blas_gemm(false, true, n, V, C, 1, h->data, C, g->out_w->data, C, 0, out, V);
    return out;
}

/* --- ours ------------------------------------------------------------------------------------- */

enum { MAX_N = 64 };
typedef struct Golden {
    SafeTensors *st;
    Batch b;
    int32_t tokens[MAX_N], targets[MAX_N];
    float weight[MAX_N];
    int64_t start[8];
    Arena arena;
    Tape *tape;
    Gpt *g;
} Golden;

static void golden_open(Golden *t, GptConfig cfg) {
    *t = (Golden){0};
    cfg.vocab = 23, cfg.context = 12, cfg.layers = 2, cfg.heads = 2, cfg.width = 16;
    cfg.norm_eps = 1e-5;
    assert_int_equal(gpt_open(&t->g, &cfg, true), 0);
    t->st = golden_file(GOLDEN);
    int64_t n, m;
    double *tokens = golden_get(t->st, "tokens", &n, NULL, NULL);
    double *targets = golden_get(t->st, "targets", &n, NULL, NULL);
    double *weight = golden_get(t->st, "weight", &n, NULL, NULL);
    double *lengths = golden_get(t->st, "lengths", &m, NULL, NULL);
    assert_true(n <= MAX_N && m < 8);
    for (int64_t i = 0; i < n; i++) {
        t->tokens[i] = (int32_t)tokens[i];
        t->targets[i] = (int32_t)targets[i];
        t->weight[i] = (float)weight[i];
    }
    for (int64_t s = 0; s < m; s++) t->start[s + 1] = t->start[s] + (int64_t)lengths[s];
    t->b = (Batch){.n = n,
                   .nseq = m,
                   .tokens = t->tokens,
                   .targets = t->targets,
                   .weight = t->weight,
                   .start = t->start};
    free(tokens), free(targets), free(weight), free(lengths);
    for (int i = 0; i < t->g->params.n; i++) {
        Param *p = &t->g->params.v[i];
        char name[128];
        snprintf(name, sizeof name, "param.%s", p->name);
        double *x = golden_get(t->st, name, &n, NULL, NULL);
        assert_int_equal(n, tensor_size(&p->tensor));
        for (int64_t j = 0; j < n; j++) p->tensor.data[j] = (real)x[j];
        free(x);
    }
    t->tape = tape_open(&t->arena, true);
}

static void golden_close(Golden *t) {
    tape_close(&t->tape);
    arena_free(&t->arena);
    gpt_close(&t->g);
    safetensors_close(&t->st);
}

static void check_gradients(Golden *t, const char *prefix, int at_least) {
    int found = 0;
    for (int i = 0; i < t->g->params.n; i++) {
        const Param *p = &t->g->params.v[i];
        char name[128];
        snprintf(name, sizeof name, "%s.grad.%s", prefix, p->name);
        if (!safetensors_find(t->st, name)) continue;
        expect_tensor(t->st, name, p->tensor.grad, tensor_size(&p->tensor), ROUNDED);
        found++;
    }
    assert_true(found >= at_least);
}

static void check_language_model(bool bias, const char *name, int gradients) {
    Golden t;
    golden_open(&t, (GptConfig){.bias = bias});
    char key[64];
    real entropy[MAX_N], logp[MAX_N];
    int64_t n = t.b.n, V = t.g->cfg.vocab, m;

    real *logits = logits_of(t.g, gpt_forward(t.g, t.tape, &t.b, NULL, NULL));
    snprintf(key, sizeof key, "%s.logits", name);
    expect_tensor(t.st, key, logits, n * V, EXACT);
    free(logits);
    tape_reset(t.tape);

    gpt_score(t.g, t.tape, &t.b, NULL, 1, logp, entropy);
    snprintf(key, sizeof key, "%s.entropy", name);
    expect_tensor(t.st, key, entropy, n, EXACT);

    paramset_zero_grad(&t.g->params);
    double loss = gpt_loss(t.g, t.tape, &t.b, NULL, NULL), sum = 0;
    tape_backward(t.tape);
    for (int64_t i = 0; i < n; i++) sum -= (double)t.weight[i] * (double)logp[i];
    assert_true(fabs(loss - sum) <= EXACT * fabs(loss));
    snprintf(key, sizeof key, "%s.loss", name);
    double *want = golden_get(t.st, key, &m, NULL, NULL);
    assert_true(fabs(loss - *want) <= EXACT * *want);
    free(want);
    check_gradients(&t, name, gradients);
    golden_close(&t);
}

static void test_bias(void **state) { check_language_model(true, "bias", 28); }
static void test_no_bias(void **state) { check_language_model(false, "nobias", 9); }

static void test_gelu_erf(void **state) {
    Golden t;
    golden_open(&t, (GptConfig){.bias = true, .mlp = MLP_GELU_ERF});
    real *logits = logits_of(t.g, gpt_forward(t.g, t.tape, &t.b, NULL, NULL));
    expect_tensor(t.st, "erf.logits", logits, t.b.n * t.g->cfg.vocab, EXACT);
    free(logits);
    golden_close(&t);
}

static void test_scalar_head(void **state) {
    Golden t;
    golden_open(&t, (GptConfig){.bias = true, .scalar_head = true});
    expect_tensor(t.st, "values", gpt_values(t.g, t.tape, &t.b, NULL)->data, t.b.n, EXACT);
    tape_reset(t.tape);

    int64_t n, m = 0, rows[MAX_N];
    double weight[MAX_N] = {0};
    double *at = golden_get(t.st, "value_rows", &n, NULL, NULL);
    double *coefficient = golden_get(t.st, "value_coefficient", &n, NULL, NULL);
    for (int64_t i = 0; i < n; i++) weight[(int64_t)at[i]] = coefficient[i];
    for (int64_t i = 0; i < MAX_N; i++)
        if (weight[i] != 0) rows[m++] = i;
    assert_int_equal(m, n);
    paramset_zero_grad(&t.g->params);
    Tensor *v = gpt_values(t.g, t.tape, &t.b, &(GptRows){m, rows});
    real *dv = tape_grad(t.tape, v);
    for (int64_t i = 0; i < m; i++) dv[i] = (real)weight[rows[i]];
    tape_backward(t.tape);
    check_gradients(&t, "value", 5);
    free(at), free(coefficient);
    golden_close(&t);
}

/* --- Hugging Face's --------------------------------------------------------------------------- */

/* Hidden states, logits and gradients, of the large file. */
static void compare_tiny(Gpt *g, Tape *tape, const TinyBatch *t, const SafeTensors *st) {
    const double tol = TINY_TOLERANCE;
    Tensor *h = gpt_forward(g, tape, &t->b, NULL, NULL);
    expect_tensor(st, "ln_f_out", h->data, TINY_N * 32, tol);
    real *logits = logits_of(g, h);
    expect_tensor(st, "logits", logits, TINY_N * 67, tol);
    free(logits);
    tape_reset(tape);
    tiny_gpt2_loss(g, tape, t);
    for (ArchParam a = {0}; arch_next(&g->cfg, &a);) {
        const Param *p = &g->params.v[a.index];
        double *want = tiny_gpt2_get(st, &a, "grad.");
        const int64_t n = a.n;
        if (strstr(p->name, "qkv.bias")) { /* the key third's true gradient is zero */
            expect_near(p->name, p->tensor.grad, want, n / 3, tol);
            expect_near(p->name, p->tensor.grad + n / 3 * 2, want + n / 3 * 2, n / 3, tol);
            for (int64_t j = n / 3; j < n / 3 * 2; j++)
                assert_true(fabs((double)p->tensor.grad[j]) < tol);
        } else {
            expect_near(p->name, p->tensor.grad, want, n, tol);
        }
        free(want);
    }
}

static void test_tiny_gpt2(void **state) {
    Gpt *g = tiny_gpt2_open();
    SafeTensors *st = tiny_gpt2_more();
    TinyBatch t;
    Arena arena = {0};
    Tape *tape = tape_open(&arena, true);
    tiny_gpt2_batch(&t);
    double loss = tiny_gpt2_loss(g, tape, &t);
    assert_true(fabs(loss - 4.364767500661373) < fmax(TINY_TOLERANCE * 1e-1, 1e-12));
    if (st) compare_tiny(g, tape, &t, st);
    tape_close(&tape);
    arena_free(&arena);
    safetensors_close(&st);
    gpt_close(&g);
}

int main(void) {
    core_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bias),      cmocka_unit_test(test_no_bias),
        cmocka_unit_test(test_gelu_erf),  cmocka_unit_test(test_scalar_head),
        cmocka_unit_test(test_tiny_gpt2),
    };
    int failures = 0; /* every version of the kernels */
    for (KernelLevel best = kernel_supported(), k = KERNEL_BLAS; k <= best; k++) {
        kernel_level = k;
        failures += cmocka_run_group_tests_name(kernel_name(k), tests, NULL, NULL);
    }
    return failures;
}

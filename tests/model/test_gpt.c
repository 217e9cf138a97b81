/* The model but for its numbers: parameters, configuration, initialisation, packing, dropout,
 * gradients of the whole by finite differences, accumulation. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/kernel.h"
#include "tests/model/random_gpt.h"

#ifdef RHETOR_DOUBLE
static const double NEAR = 1e-12, STEP = 1e-4, SLOPE = 1e-6;
#else
static const double NEAR = 1e-5, STEP = 1e-2, SLOPE = 2e-2;
#endif

static const GptConfig small = {
    .vocab = 23, .context = 16, .layers = 2, .heads = 2, .width = 12, .bias = true};

/* Sequences of 5, 16, 1 and 3 tokens. */
enum { N = 25, SEQS = 4 };
typedef struct Sample {
    Batch b;
    int32_t tokens[N], targets[N];
    float weight[N];
    uint64_t row[N];
} Sample;
static const int64_t sample_start[SEQS + 1] = {0, 5, 21, 22, 25};

static void make_sample(Sample *s) {
    for (int i = 0; i < N; i++) {
        s->tokens[i] = (int32_t)random_below(100 + (uint64_t)i, small.vocab);
        s->targets[i] = (int32_t)random_below(200 + (uint64_t)i, small.vocab);
        s->weight[i] = (float)random_below(300 + (uint64_t)i, 4) / 16; /* 0 among them */
        s->row[i] = 1000 + 7 * (uint64_t)i;
    }
    s->b = (Batch){.n = N,
                   .nseq = SEQS,
                   .tokens = s->tokens,
                   .targets = s->targets,
                   .weight = s->weight,
                   .start = sample_start};
}

/* Sequence q of the sample alone. */
static Batch alone(const Sample *s, int q, int64_t start[2]) {
    int64_t a = sample_start[q];
    start[0] = 0, start[1] = sample_start[q + 1] - a;
    return (Batch){.n = start[1],
                   .nseq = 1,
                   .tokens = s->tokens + a,
                   .targets = s->targets + a,
                   .weight = s->weight + a,
                   .start = start};
}

static void expect_close(const real *a, const real *b, int64_t n, double tol) {
    for (int64_t i = 0; i < n; i++)
        if (!(fabs((double)a[i] - (double)b[i]) <= tol))
            fail_msg("element %lld: %.10g and %.10g", (long long)i, (double)a[i], (double)b[i]);
}

/* --- parameters ------------------------------------------------------------------------------- */

static void test_names(void **state) {
    static const char *const names[] = {
        "wte.weight",
        "wpe.weight",
        "h.0.norm1.weight",
        "h.0.norm1.bias",
        "h.0.attn.qkv.weight",
        "h.0.attn.qkv.bias",
        "h.0.attn.proj.weight",
        "h.0.attn.proj.bias",
        "h.0.norm2.weight",
        "h.0.norm2.bias",
        "h.0.mlp.fc.weight",
        "h.0.mlp.fc.bias",
        "h.0.mlp.proj.weight",
        "h.0.mlp.proj.bias",
        "norm_f.weight",
        "norm_f.bias",
        "lm_head.weight",
        "head.weight",
        "head.bias",
    };
    enum { COUNT = sizeof names / sizeof names[0] };
    GptConfig cfg = small;
    cfg.layers = 1;
    for (int i = 0; i < 4; i++) {
        const bool bias = i & 1;
        cfg.bias = bias;
        cfg.scalar_head = i & 2, cfg.untied = !cfg.scalar_head;
        Gpt *g = random_gpt(cfg, 1);
        int at = 0;
        for (int k = 0; k < COUNT; k++) {
            const bool head = strncmp(names[k], "head.", 5) == 0;
            if (head ? !cfg.scalar_head : strstr(names[k], "bias") && !bias) continue;
            if (strcmp(names[k], "lm_head.weight") == 0 && !cfg.untied) continue;
            assert_string_equal(g->params.v[at].name, names[k]);
            assert_int_equal(g->params.v[at].decay, g->params.v[at].tensor.ndim == 2);
            at++;
        }
        assert_int_equal(g->params.n, at);
        gpt_close(&g);
    }
}

static void test_count(void **state) {
    GptConfig gpt2 = {.vocab = 50257,
                      .context = 1024,
                      .layers = 12,
                      .heads = 12,
                      .width = 768,
                      .bias = true,
                      .norm_eps = 1e-5};
    assert_int_equal(arch_count(&gpt2), 124439808); /* as Hugging Face counts it */
    for (int i = 0; i < 6; i++) {
        GptConfig cfg = small;
        cfg.bias = i & 1, cfg.scalar_head = i & 2, cfg.untied = i & 4;
        Gpt *g = random_gpt(cfg, 1);
        assert_int_equal(g->params.count, arch_count(&cfg));
        gpt_close(&g);
    }
    /* n (6 (12 L C^2 + V C) + 6 L C T) */
    double want = 100 * (6.0 * (12 * 2 * 144 + 23 * 12) + 6.0 * 2 * 12 * 10);
    assert_true(gpt_train_flops(&small, 100, 100, 10) == want);
    GptConfig reward = small;
    reward.scalar_head = true;
    assert_true(gpt_train_flops(&reward, 100, 100, 10) == want - 100 * 6.0 * 23 * 12);
    /* of 60 rows the last layer only makes keys and values, 4 of its 24 C^2 */
    want -= 60 * 3 * (20.0 * 144 + 2 * 12 * 10 + 2 * 23 * 12);
    assert_true(gpt_train_flops(&small, 100, 40, 10) == want);
}

static void test_bad_config(void **state) {
    static const struct {
        GptConfig cfg;
        const char *says;
    } bad[] = {
        {{.vocab = 0, .context = 8, .layers = 1, .heads = 1, .width = 4, .norm_eps = 1e-5},
         "vocab"},
        {{.vocab = 9, .context = 0, .layers = 1, .heads = 1, .width = 4, .norm_eps = 1e-5},
         "context"},
        {{.vocab = 9, .context = 8, .layers = 0, .heads = 1, .width = 4, .norm_eps = 1e-5},
         "layers"},
        {{.vocab = 9, .context = 8, .layers = 1, .heads = 0, .width = 4, .norm_eps = 1e-5},
         "heads"},
        {{.vocab = 9, .context = 8, .layers = 1, .heads = 1, .width = -4, .norm_eps = 1e-5},
         "width"},
        {{.vocab = 9, .context = 8, .layers = 1, .heads = 3, .width = 4, .norm_eps = 1e-5},
         "multiple"},
        {{.vocab = 9, .context = 8, .layers = 1, .heads = 1, .width = 4, .norm_eps = 0},
         "norm_eps"},
        {{.vocab = 9,
          .context = 8,
          .layers = 1,
          .heads = 1,
          .width = 4,
          .norm_eps = 1e-5,
          .scalar_head = true,
          .untied = true},
         "untied"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        Gpt *g = NULL;
        assert_int_equal(gpt_open(&g, &bad[i].cfg, false), ERR_CONFIG);
        assert_null(g);
        assert_non_null(strstr(error_message(), bad[i].says));
    }
}

/* --- initialisation and copies ---------------------------------------------------------------- */

static double deviation(const Tensor *t) {
    int64_t n = tensor_size(t);
    double sum = 0, sum2 = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)t->data[i];
    for (int64_t i = 0; i < n; i++) sum2 += pow((double)t->data[i] - sum / (double)n, 2);
    return sqrt(sum2 / (double)n);
}

/* Every matrix has the deviation that `init` asks for, within four of its standard errors. */
static void expect_init(const Gpt *g, int init) {
    for (int i = 0; i < g->params.n; i++) {
        const Param *p = &g->params.v[i];
        int64_t n = tensor_size(&p->tensor);
        double want = init == INIT_GPT2 ? 0.02 : 1 / sqrt((double)p->tensor.shape[1]),
               have = deviation(&p->tensor), off = 4 / sqrt(2 * (double)n);
        if (init == INIT_FAN_IN &&
            (p->tensor.data == g->wte->data || p->tensor.data == g->wpe->data))
            want = 0.2;
        if (strstr(p->name, "proj.weight")) want /= sqrt(16.0);
        if (strcmp(p->name, "head.weight") == 0) want = 1 / sqrt(65.0);
        if (p->tensor.ndim == 2) {
            assert_true(have > want * (1 - off) && have < want * (1 + off));
        } else {
            for (int64_t j = 0; j < n; j++)
                assert_true(p->tensor.data[j] ==
                            (strstr(p->name, "norm") && strstr(p->name, "weight")));
        }
    }
}

static void test_init(void **state) {
    GptConfig cfg = {.vocab = 300,
                     .context = 64,
                     .layers = 8,
                     .heads = 4,
                     .width = 64,
                     .bias = true,
                     .scalar_head = true,
                     .norm_eps = 1e-5};
    Gpt *g, *h;
    assert_int_equal(gpt_open(&g, &cfg, true), 0);
    assert_int_equal(gpt_open(&h, &cfg, false), 0);
    gpt_init(g, 11, INIT_FAN_IN);
    expect_init(g, INIT_FAN_IN);
    gpt_init(g, 11, INIT_GPT2);
    expect_init(g, INIT_GPT2);
    /* The head has numbers of its own, not those of the embedding. */
    assert_true(fabs((double)(g->head_w->data[0] / g->head_w->data[1]) -
                     (double)(g->wte->data[0] / g->wte->data[1])) > 1e-3);
    size_t bytes = sizeof(real) * (size_t)g->params.size;
    gpt_init(h, 11, INIT_GPT2);
    assert_memory_equal(g->params.data, h->params.data, bytes);
    gpt_init(h, 11, INIT_FAN_IN);
    assert_memory_not_equal(g->params.data, h->params.data, bytes);
    gpt_init(h, 12, INIT_GPT2);
    assert_memory_not_equal(g->params.data, h->params.data, bytes);
    assert_null(h->params.grad);
    gpt_close(&g);
    gpt_close(&h);
    gpt_close(&h);
}

static void test_copy(void **state) {
    GptConfig with_head = small;
    with_head.scalar_head = true;
    Gpt *lm = random_gpt(small, 1), *rm = random_gpt(with_head, 2), *lm2 = random_gpt(small, 3);
    real bias = rm->head_b->data[0];
    assert_int_equal(gpt_copy(rm, lm), 0);
    assert_true(rm->head_b->data[0] == bias);
    for (int i = 0; i < lm->params.n; i++)
        expect_close(rm->params.v[i].tensor.data, lm->params.v[i].tensor.data,
                     tensor_size(&lm->params.v[i].tensor), 0);
    assert_int_equal(gpt_copy(lm2, rm), 0);
    assert_memory_equal(lm2->params.data, lm->params.data, sizeof(real) * (size_t)lm->params.size);

    GptConfig other = small;
    other.context = 17;
    Gpt *longer = random_gpt(other, 1);
    assert_int_equal(gpt_copy(longer, lm), ERR_CONFIG);
    assert_non_null(strstr(error_message(), "context"));
    other = small, other.untied = true;
    Gpt *untied = random_gpt(other, 1);
    assert_int_equal(gpt_copy(untied, lm), ERR_CONFIG); /* where would its lm_head come from? */
    assert_non_null(strstr(error_message(), "untied"));
    assert_int_equal(gpt_copy(rm, untied), 0);
    gpt_close(&untied);
    gpt_close(&longer), gpt_close(&lm), gpt_close(&rm), gpt_close(&lm2);
}

/* --- the function ----------------------------------------------------------------------------- */

static void test_packed_is_alone(void **state) {
    Gpt *g = random_gpt(small, 1);
    Arena arena = {0};
    Tape *t = tape_open(&arena, false);
    Sample s;
    make_sample(&s);
    real logp[N], entropy[N], logp1[N], entropy1[N];
    gpt_score(g, t, &s.b, NULL, 0.7, logp, entropy);
    for (int q = 0; q < SEQS; q++) {
        int64_t start[2], a = sample_start[q];
        Batch one = alone(&s, q, start);
        gpt_score(g, t, &one, NULL, 0.7, logp1, entropy1);
        expect_close(logp + a, logp1, one.n, NEAR);
        expect_close(entropy + a, entropy1, one.n, NEAR);
    }
    tape_close(&t);
    arena_free(&arena);
    gpt_close(&g);
}

/* What a pass over a model of so many layers takes from its arena: forward only, or backward
 * too. */
static size_t memory_of(int64_t layers, bool backward, bool recompute, real *hidden) {
    GptConfig deep = small;
    deep.layers = layers;
    Gpt *g = random_gpt(deep, 1);
    g->recompute = recompute;
    Arena a = {0};
    Tape *t = tape_open(&a, backward);
    Sample s;
    make_sample(&s);
    Tensor *x = gpt_forward(g, t, &s.b, NULL, NULL);
    memcpy(hidden, x->data, sizeof(real) * (size_t)(N * deep.width));
    if (backward) {
        tape_grad(t, x)[0] = 1;
        tape_backward(t);
    }
    size_t high = a.high;
    tape_close(&t);
    arena_free(&a);
    gpt_close(&g);
    return high;
}

/* Inference gives a block's memory back when it is done, and what the layers add in training is
 * what the backward pass reads: x, qkv, attention's y and log-sum-exp, the second x, z. */
static void test_memory(void **state) {
    enum { LITTLE = 8192 /* a layer's nodes and shapes */ };
    real *a = malloc(sizeof(real) * N * small.width), *b = malloc(sizeof(real) * N * small.width);
    size_t infer1 = memory_of(3, false, false, a), infer2 = memory_of(12, false, false, a);
    size_t again1 = memory_of(3, true, true, b), again2 = memory_of(12, true, true, b);
    size_t train1 = memory_of(3, true, false, b), train2 = memory_of(12, true, false, b);
    expect_close(a, b, N * small.width, 0);
    assert_true(infer2 - infer1 < 9 * LITTLE);
    size_t layer = (size_t)(N * (10 * small.width + small.heads)) * sizeof(real) + LITTLE;
    assert_true(train2 - train1 < 9 * layer);
    assert_true(again2 - again1 < (train2 - train1) / 2);
    free(a), free(b);
}

/* Activation checkpointing: the same loss and gradient, bit by bit, dropout
 * included, with less memory. */
static void test_recompute(void **state) {
    GptConfig deep = small;
    deep.layers = 6;
    Gpt *g = random_gpt(deep, 1);
    Sample s;
    make_sample(&s);
    uint64_t row[N];
    for (int i = 0; i < N; i++) row[i] = (uint64_t)i;
    GptDropout drop = {.p = 0.2, .seed = 3, .step = 1, .row = row};
    real *grad[2];
    double loss[2];
    for (int again = 0; again < 2; again++) {
        Arena a = {0};
        Tape *t = tape_open(&a, true);
        g->recompute = again;
        paramset_zero_grad(&g->params);
        loss[again] = gpt_loss(g, t, &s.b, &drop, NULL);
        tape_backward(t);
        size_t bytes = (size_t)g->params.size * sizeof(real);
        grad[again] = memcpy(malloc(bytes), g->params.grad, bytes);
        tape_close(&t);
        arena_free(&a);
    }
    assert_true(loss[0] == loss[1]);
    assert_memory_equal(grad[0], grad[1], (size_t)g->params.size * sizeof(real));
    free(grad[0]), free(grad[1]);
    gpt_close(&g);
}

/* What a model computes of some rows: hidden states, loss and all gradients, are the bits that the
 * same model makes of all rows, of which the others' have no weight in the loss. */
static void check_rows(GptConfig cfg, bool recompute, const int64_t *at, int64_t m) {
    Gpt *g = random_gpt(cfg, 6);
    g->recompute = recompute;
    const int64_t C = cfg.width, size = g->params.size;
    const GptDropout drop = {.p = 0.2, .seed = 3, .step = 9, .row = NULL};
    real *hidden = calloc(N * (size_t)C, sizeof *hidden),
         *grad = calloc((size_t)size, sizeof *grad);
    double loss[2];
    Sample s;
    make_sample(&s);
    memset(s.weight, 0, sizeof s.weight);
    for (int64_t j = 0; j < m; j++) s.weight[at[j]] = (float)(j + 1) / 16;
    for (int some = 0; some < 2; some++) {
        Arena arena = {0};
        Tape *t = tape_open(&arena, true);
        paramset_zero_grad(&g->params);
        Tensor *h = gpt_forward(g, t, &s.b, some ? &(GptRows){m, at} : NULL, &drop);
        for (int64_t j = 0; some && j < m; j++)
            expect_close(h->data + j * C, hidden + at[j] * C, C, 0);
        assert_int_equal(h->shape[0], some ? m : N);
        if (!some) memcpy(hidden, h->data, N * (size_t)C * sizeof *hidden);
        if (cfg.scalar_head) {
            Tensor *v = op_scalar_head(t, h, g->head_w, g->head_b);
            loss[some] = 0;
            for (int64_t j = 0; j < m; j++) {
                const int64_t i = some ? j : at[j];
                loss[some] += (double)v->data[i] * (double)s.weight[at[j]];
                v->grad[i] = (real)s.weight[at[j]];
            }
        } else if (some) { /* forward once more: the whole of it as callers get it */
            tape_reset(t);
            loss[some] = gpt_loss(g, t, &s.b, &drop, NULL);
        } else
            loss[some] = op_cross_entropy(t, h, g->out_w, s.targets, s.weight, NULL);
        tape_backward(t);
        if (some) expect_close(g->params.grad, grad, size, 0);
        memcpy(grad, g->params.grad, (size_t)size * sizeof *grad);
        tape_close(&t);
        arena_free(&arena);
    }
    assert_true(loss[0] == loss[1]);
    free(hidden), free(grad);
    gpt_close(&g);
}

static void test_rows(void **state) {
    needs_own_kernels();
    static const int64_t some[] = {1, 2, 4, 17, 18, 20, 24},
                         all[N] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12,
                                   13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24};
    for (int i = 0; i < 16; i++) {
        GptConfig cfg = small;
        cfg.layers = i & 1 ? 1 : 3;
        cfg.scalar_head = i & 2, cfg.untied = !cfg.scalar_head && i & 8, cfg.bias = !(i & 8);
        check_rows(cfg, i & 4, some, 7);
        check_rows(cfg, i & 4, all, N);
        check_rows(cfg, i & 4, some + 5, 1);
    }
    check_rows(small, false, some, 0);
    for (int i = 0; i < 2 * FAMILIES; i++) {
        GptConfig cfg = family_of(small, (ArchFamily)(i / 2));
        check_rows(cfg, i & 1, some, 7);
        check_rows(cfg, i & 1, all, N);
        cfg.scalar_head = true, cfg.untied = false;
        check_rows(cfg, i & 1, some + 5, 1);
    }
}

/* Every parameter tensor, at some elements, in a model with dropout and zero weights. */
static void check_slopes(GptConfig cfg) {
    Gpt *g = random_gpt(cfg, 4);
    Arena arena = {0};
    Tape *t = tape_open(&arena, true);
    Sample s;
    make_sample(&s);
    GptDropout drop = {.p = 0.2, .seed = 3, .step = 9, .row = s.row};
    paramset_zero_grad(&g->params);
    gpt_loss(g, t, &s.b, &drop, NULL);
    tape_backward(t);
    tape_reset(t);
    real *grad = malloc(sizeof(real) * (size_t)g->params.size); /* later losses add to wte's */
    memcpy(grad, g->params.grad, sizeof(real) * (size_t)g->params.size);
    for (int i = 0; i < g->params.n; i++) {
        Tensor *p = &g->params.v[i].tensor;
        const real *dp = grad + g->params.v[i].offset;
        int64_t n = tensor_size(p);
        double largest = 0;
        for (int64_t j = 0; j < n; j++) largest = fmax(largest, fabs((double)dp[j]));
        assert_true(largest > 1e-6);
        for (int64_t j = 0; j < n; j += n / 7 + 1) {
            real at = p->data[j];
            double f[4], shift[4] = {1, -1, 2, -2};
            for (int k = 0; k < 4; k++) {
                p->data[j] = at + (real)(shift[k] * STEP);
                f[k] = gpt_loss(g, t, &s.b, &drop, NULL);
                tape_reset(t);
            }
            p->data[j] = at;
            double want = (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * STEP);
            if (!(fabs(want - (double)dp[j]) <= SLOPE * largest))
                fail_msg("%s[%lld]: gradient %.10g, finite differences %.10g, largest %.3g",
                         g->params.v[i].name, (long long)j, (double)dp[j], want, largest);
        }
    }
    free(grad);
    tape_close(&t);
    arena_free(&arena);
    gpt_close(&g);
}

static void test_slopes(void **state) { check_slopes(small); }

static void test_slopes_no_bias(void **state) {
    GptConfig cfg = small;
    cfg.bias = false, cfg.mlp = MLP_GELU_ERF;
    check_slopes(cfg);
}

static void test_slopes_untied(void **state) {
    GptConfig cfg = small;
    cfg.untied = true;
    check_slopes(cfg);
}

static void test_slopes_of_families(void **state) {
    for (int f = 1; f < FAMILIES; f++) check_slopes(family_of(small, (ArchFamily)f));
}

/* The sum over micro-batches is the batch, dropout included: masks follow the token, not the
 * place. */
static void test_accumulation(void **state) {
    Gpt *g = random_gpt(small, 1);
    Arena arena = {0};
    Tape *t = tape_open(&arena, true);
    Sample s;
    make_sample(&s);
    int64_t size = g->params.size;
    real *whole = malloc(sizeof(real) * (size_t)size);
    GptDropout drop = {.p = 0.3, .seed = 3, .step = 1, .row = s.row};

    paramset_zero_grad(&g->params);
    double loss = gpt_loss(g, t, &s.b, &drop, NULL), sum = 0;
    tape_backward(t);
    tape_reset(t);
    memcpy(whole, g->params.grad, sizeof(real) * (size_t)size);

    paramset_zero_grad(&g->params);
    for (int q = SEQS - 1; q >= 0; q--) {
        int64_t start[2];
        Batch one = alone(&s, q, start);
        drop.row = s.row + sample_start[q];
        sum += gpt_loss(g, t, &one, &drop, NULL);
        tape_backward(t);
        tape_reset(t);
    }
    assert_true(fabs(sum - loss) <= NEAR * fabs(loss));
    expect_close(g->params.grad, whole, size, NEAR);
    free(whole);
    tape_close(&t);
    arena_free(&arena);
    gpt_close(&g);
}

static void test_dropout(void **state) {
    Gpt *g = random_gpt(small, 1);
    Arena arena = {0};
    Tape *t = tape_open(&arena, true);
    Sample s;
    make_sample(&s);
    GptDropout off = {.p = 0}, on = {.p = 0.5, .seed = 3, .step = 1}, later = on;
    later.step = 2;
    double none = gpt_loss(g, t, &s.b, NULL, NULL);
    tape_reset(t);
    assert_true(gpt_loss(g, t, &s.b, &off, NULL) == none);
    tape_reset(t);
    double first = gpt_loss(g, t, &s.b, &on, NULL);
    tape_reset(t);
    assert_true(first != none);
    assert_true(gpt_loss(g, t, &s.b, &on, NULL) == first);
    tape_reset(t);
    assert_true(gpt_loss(g, t, &s.b, &later, NULL) != first);
    tape_close(&t);
    arena_free(&arena);
    gpt_close(&g);
}

static int ascending(const void *a, const void *b) {
    real x = *(const real *)a, y = *(const real *)b;
    return (x > y) - (x < y);
}

/* The five places of dropout in two layers, made to add 1, 2, 4, 8 and 16: with independent masks
 * all 32 sums occur among the 512 columns of a row. */
static void test_dropout_sites(void **state) {
    enum { WIDTH = 512 };
    GptConfig cfg = {
        .vocab = 2, .context = 2, .layers = 2, .heads = 1, .width = WIDTH, .bias = true};
    Gpt *g = random_gpt(cfg, 1);
    memset(g->params.data, 0, sizeof(real) * (size_t)g->params.size);
    for (int j = 0; j < WIDTH; j++) {
        g->wte->data[j] = 1;
        g->block[0].proj_b->data[j] = 2, g->block[0].fc2_b->data[j] = 4;
        g->block[1].proj_b->data[j] = 8, g->block[1].fc2_b->data[j] = 16;
        g->norm_f_w->data[j] = 1;
    }
    Arena arena = {0};
    Tape *t = tape_open(&arena, false);
    Batch b = {.n = 1, .nseq = 1, .tokens = (int32_t[]){0}, .start = (int64_t[]){0, 1}};
    Tensor *h = gpt_forward(g, t, &b, NULL, &(GptDropout){.p = 0.5, .seed = 3, .step = 1});
    qsort(h->data, WIDTH, sizeof(real), ascending);
    int levels = 1;
    for (int j = 1; j < WIDTH; j++) levels += h->data[j] - h->data[j - 1] > (real)0.05;
    assert_int_equal(levels, 32);
    tape_close(&t);
    arena_free(&arena);
    gpt_close(&g);
}

int main(void) {
    core_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),         cmocka_unit_test(test_count),
        cmocka_unit_test(test_bad_config),    cmocka_unit_test(test_init),
        cmocka_unit_test(test_copy),          cmocka_unit_test(test_packed_is_alone),
        cmocka_unit_test(test_memory),        cmocka_unit_test(test_recompute),
        cmocka_unit_test(test_slopes),        cmocka_unit_test(test_slopes_no_bias),
        cmocka_unit_test(test_slopes_untied), cmocka_unit_test(test_accumulation),
        cmocka_unit_test(test_dropout),       cmocka_unit_test(test_dropout_sites),
        cmocka_unit_test(test_rows),          cmocka_unit_test(test_slopes_of_families),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

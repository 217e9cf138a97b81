/* Adapters: gradients by finite differences, the merged model's values, decoding, and that nothing
 * of the base is trained. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/kernel.h"
#include "model/decode.h"
#include "model/lora.h"
#include "tests/model/random_gpt.h"

enum { N = 13, V = 23 };
static const GptConfig small = {
    .vocab = V, .context = 16, .layers = 2, .heads = 2, .width = 12, .bias = true};
static const LoraConfig rank3 = {.rank = 3, .alpha = 5, .targets = 15};

typedef struct Adapted {
    Gpt *base, *g;
    int32_t tokens[N], targets[N];
    float weight[N];
    int64_t start[3];
    Batch b;
} Adapted;

static void open_adapted(Adapted *a, GptConfig cfg, const LoraConfig *o) {
    a->base = random_gpt(cfg, 1);
    paramset_drop_grad(&a->base->params); /* frozen */
    assert_int_equal(lora_open(&a->g, a->base, o, cfg.scalar_head, true), 0);
    RngKey key = {.seed = 3, .purpose = RNG_TEST};
    for (int i = 0; i < a->g->params.n; i++) {
        Tensor *t = &a->g->params.v[i].tensor;
        rng_normal_fill(&key, (uint64_t)i, t->data, tensor_size(t), 0.1);
    }
    for (int i = 0; i < N; i++) {
        a->tokens[i] = (int32_t)random_below((uint64_t)i, V);
        a->targets[i] = (int32_t)random_below((uint64_t)(100 + i), V);
        a->weight[i] = i % 4 ? 0.125f : 0;
    }
    a->start[1] = 8, a->start[2] = N;
    a->b = (Batch){.n = N,
                   .nseq = 2,
                   .tokens = a->tokens,
                   .targets = a->targets,
                   .weight = a->weight,
                   .start = a->start};
}

static void close_adapted(Adapted *a) {
    gpt_close(&a->g);
    gpt_close(&a->base);
}

static double loss_of(Gpt *g, Tape *t, const Batch *b, const GptDropout *drop) {
    const double loss = gpt_loss(g, t, b, drop, NULL);
    if (g->params.grad) tape_backward(t);
    tape_reset(t);
    return loss;
}

static void check_slopes(GptConfig cfg, const LoraConfig *o, bool recompute) {
    const double STEP = 2e-4, SLOPE = 1e-6;
    Adapted a = {0};
    open_adapted(&a, cfg, o);
    a.g->recompute = recompute;
    Arena arena = {0};
    Tape *t = tape_open(&arena, true);
    const GptDropout drop = {.p = 0.2, .seed = 3, .step = 9};
    loss_of(a.g, t, &a.b, &drop);
    const size_t bytes = (size_t)a.g->params.size * sizeof(real);
    real *grad = memcpy(malloc(bytes), a.g->params.grad, bytes);
    for (int i = 0; i < a.g->params.n; i++) {
        Tensor *p = &a.g->params.v[i].tensor;
        const real *dp = grad + a.g->params.v[i].offset;
        const int64_t n = tensor_size(p);
        double largest = 0;
        for (int64_t j = 0; j < n; j++) largest = fmax(largest, fabs((double)dp[j]));
        assert_true(largest > 1e-6);
        for (int64_t j = 0; j < n; j += n / 5 + 1) {
            const real at = p->data[j];
            double f[4], shift[4] = {1, -1, 2, -2};
            for (int k = 0; k < 4; k++) {
                p->data[j] = at + (real)(shift[k] * STEP);
                f[k] = loss_of(a.g, t, &a.b, &drop);
            }
            p->data[j] = at;
            const double want = (8 * (f[0] - f[1]) - (f[2] - f[3])) / (12 * STEP);
            if (!(fabs(want - (double)dp[j]) <= SLOPE * largest))
                fail_msg("%s[%lld]: gradient %.10g, finite differences %.10g",
                         a.g->params.v[i].name, (long long)j, (double)dp[j], want);
        }
    }
    assert_null(a.base->params.grad);
    free(grad);
    tape_close(&t);
    arena_free(&arena);
    close_adapted(&a);
}

static void test_slopes(void **state) {
    if (sizeof(real) == 4) skip(); /* finite differences need double precision */
    LoraConfig some = rank3;
    some.dropout = 0.3, some.targets = 1u << LORA_QKV | 1u << LORA_FC;
    for (int f = 0; f < FAMILIES; f++) {
        check_slopes(family_of(small, (ArchFamily)f), &rank3, f & 1);
        check_slopes(family_of(small, (ArchFamily)f), &some, f & 1);
    }
}

/* At the start the adapters do nothing, bit by bit. */
static void test_start(void **state) {
    Adapted a = {0};
    open_adapted(&a, family_of(small, FAMILY_LLAMA), &rank3);
    lora_init(a.g, 1);
    Arena arena = {0};
    Tape *t = tape_open(&arena, false);
    real mine[N], theirs[N];
    gpt_score(a.g, t, &a.b, NULL, 1, mine, NULL);
    gpt_score(a.base, t, &a.b, NULL, 1, theirs, NULL);
    assert_memory_equal(mine, theirs, sizeof mine);
    tape_close(&t);
    arena_free(&arena);
    close_adapted(&a);
}

/* What adapters compute is what the merged model computes; decoding has its very bits. */
static void test_merged(void **state) {
    for (int f = 0; f < FAMILIES; f++) {
        Adapted a = {0};
        Gpt *full;
        open_adapted(&a, family_of(small, (ArchFamily)f), &rank3);
        assert_int_equal(gpt_open(&full, &a.base->cfg, false), 0);
        assert_int_equal(gpt_copy(full, a.base), 0);
        lora_merge(full, a.g);
        Arena arena = {0};
        Tape *t = tape_open(&arena, false);
        real mine[N], merged[N];
        gpt_score(a.g, t, &a.b, NULL, 1, mine, NULL);
        gpt_score(full, t, &a.b, NULL, 1, merged, NULL);
        for (int i = 0; i < N; i++) assert_true(fabs((double)(mine[i] - merged[i])) < 2e-5);
        DecodeResult r[2];
        const DecodeOptions o = {.temperature = 1, .top_p = 1, .max_new = 7};
        assert_int_equal(decode(&r[0], a.g, a.tokens, a.start, 2, NULL, &o), 0);
        assert_int_equal(decode(&r[1], full, a.tokens, a.start, 2, NULL, &o), 0);
        for (int i = 0; i < 2; i++) {
            assert_memory_equal(r[0].v[i].tokens, r[1].v[i].tokens, 7 * sizeof(int32_t));
            assert_memory_equal(r[0].v[i].logp, r[1].v[i].logp, 7 * sizeof(float));
        }
        decode_free(&r[0]), decode_free(&r[1]);
        tape_close(&t);
        arena_free(&arena);
        gpt_close(&full);
        close_adapted(&a);
    }
}

/* The description; a head of its own; a dry model counts the same parameters. */
static void test_description(void **state) {
    LoraConfig o = rank3, back;
    o.targets = 1u << LORA_PROJ | 1u << LORA_FC2, o.dropout = 0.25;
    json_t *j = lora_to_json(&o);
    assert_int_equal(lora_from_json(&back, j), 0);
    assert_memory_equal(&o, &back, sizeof o);
    json_object_set_new(j, "rank", json_integer(0));
    assert_true(lora_from_json(&back, j) < 0);
    json_decref(j);
    GptConfig cfg = small;
    cfg.scalar_head = true, cfg.norm_eps = 1e-5;
    Adapted a = {0};
    open_adapted(&a, cfg, &o);
    assert_int_equal(a.g->params.n, 2 * 2 * 2 + 2);
    assert_ptr_not_equal(a.g->head_w, a.base->head_w);
    Gpt *dry, *adapters;
    assert_int_equal(gpt_open_dry(&dry, &cfg), 0);
    assert_int_equal(lora_open(&adapters, dry, &o, true, true), 0);
    assert_int_equal(adapters->params.size, a.g->params.size);
    gpt_close(&adapters);
    gpt_close(&dry);
    close_adapted(&a);
}

int main(void) {
    core_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slopes),
        cmocka_unit_test(test_start),
        cmocka_unit_test(test_merged),
        cmocka_unit_test(test_description),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

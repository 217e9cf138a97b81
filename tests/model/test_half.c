/* Frozen weights in bfloat16: the bits of the same numbers in real, in scores, decoding, and the
 * training of adapters on them; half the memory; rounding where they are others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/bfloat.h"
#include "core/kernel.h"
#include "model/decode.h"
#include "model/lora.h"
#include "tests/model/random_gpt.h"

enum { N = 61, V = 83, NEW = 9 };
static const GptConfig small = {
    .vocab = V, .context = 48, .layers = 2, .heads = 4, .width = 40, .ffn = 56, .bias = true};

/* The same numbers twice: wide[0] in real, *half in bfloat16. */
static void open_both(GptConfig cfg, Gpt **wide, Gpt **half) {
    *wide = random_gpt(cfg, 7);
    assert_int_equal(gpt_open_half(half, &(*wide)->cfg, false), 0);
    assert_int_equal(gpt_copy(*half, *wide), 0); /* rounds */
    assert_int_equal(gpt_copy(*wide, *half), 0);
    paramset_drop_grad(&(*wide)->params);
}

typedef struct Text {
    int32_t tokens[N], targets[N];
    float weight[N];
    int64_t start[4];
    Batch b;
} Text;

static void make_text(Text *x) {
    *x = (Text){.start = {0, 20, 21, N}};
    for (int i = 0; i < N; i++) {
        x->tokens[i] = (int32_t)random_below((uint64_t)i, V);
        x->targets[i] = (int32_t)random_below((uint64_t)(100 + i), V);
        x->weight[i] = i % 3 ? 0.125f : 0;
    }
    x->b = (Batch){.n = N,
                   .nseq = 3,
                   .tokens = x->tokens,
                   .targets = x->targets,
                   .weight = x->weight,
                   .start = x->start};
}

static void same_scores(Gpt *a, Gpt *b, const Text *x) {
    Arena arena = {0};
    Tape *t = tape_open(&arena, false);
    real p[N], q[N];
    gpt_score(a, t, &x->b, NULL, 1, p, NULL);
    gpt_score(b, t, &x->b, NULL, 1, q, NULL);
    assert_memory_equal(p, q, sizeof p);
    tape_close(&t);
    arena_free(&arena);
}

static void same_answers(Gpt *a, Gpt *b, const Text *x) {
    const DecodeOptions o = {.temperature = 1, .top_p = 1, .max_new = NEW, .seed = 3};
    DecodeResult r[2];
    assert_int_equal(decode(&r[0], a, x->tokens, x->start, 2, NULL, &o), 0);
    assert_int_equal(decode(&r[1], b, x->tokens, x->start, 2, NULL, &o), 0);
    for (int i = 0; i < 2; i++) {
        assert_memory_equal(r[0].v[i].tokens, r[1].v[i].tokens, NEW * sizeof(int32_t));
        assert_memory_equal(r[0].v[i].logp, r[1].v[i].logp, NEW * sizeof(float));
    }
    decode_free(&r[0]), decode_free(&r[1]);
}

static void test_scores(void **state) {
    Text x;
    make_text(&x);
    for (int f = 0; f < FAMILIES; f++) {
        Gpt *wide, *half;
        open_both(family_of(small, (ArchFamily)f), &wide, &half);
        for (int i = 0; i < half->params.n; i++) {
            const Param *p = &half->params.v[i];
            const bool matrix = p->tensor.ndim == 2 && strcmp(p->name, "wpe.weight") != 0;
            assert_true((p->tensor.half != NULL) == matrix);
            assert_true((p->tensor.data == NULL) == matrix);
        }
        same_scores(wide, half, &x);
        same_answers(wide, half, &x);
        gpt_close(&wide), gpt_close(&half);
    }
}

/* Adapters on both: gradients bit by bit, and what they merge to. */
static void test_adapters(void **state) {
    const LoraConfig o = {.rank = 3, .alpha = 5, .targets = 15};
    Text x;
    make_text(&x);
    for (int f = 0; f < FAMILIES; f++) {
        Gpt *base[2], *g[2];
        open_both(family_of(small, (ArchFamily)f), &base[0], &base[1]);
        for (int k = 0; k < 2; k++) {
            assert_int_equal(lora_open(&g[k], base[k], &o, false, true), 0);
            RngKey key = {.seed = 3, .purpose = RNG_TEST};
            for (int i = 0; i < g[k]->params.n; i++) {
                Tensor *t = &g[k]->params.v[i].tensor;
                rng_normal_fill(&key, (uint64_t)i, t->data, tensor_size(t), 0.1);
            }
            Arena arena = {0};
            Tape *t = tape_open(&arena, true);
            g[k]->recompute = k; /* changes no bit */
            gpt_loss(g[k], t, &x.b, NULL, NULL);
            tape_backward(t);
            tape_close(&t);
            arena_free(&arena);
        }
        const size_t bytes = (size_t)g[0]->params.size * sizeof(real);
        assert_memory_equal(g[0]->params.grad, g[1]->params.grad, bytes);
        same_answers(g[0], g[1], &x);
        Gpt *merged[2];
        for (int k = 0; k < 2; k++) {
            assert_int_equal(gpt_open(&merged[k], &base[k]->cfg, false), 0);
            assert_int_equal(gpt_copy(merged[k], base[k]), 0);
            lora_merge(merged[k], g[k]);
        }
        assert_memory_equal(merged[0]->params.data, merged[1]->params.data,
                            (size_t)merged[0]->params.size * sizeof(real));
        for (int k = 0; k < 2; k++) gpt_close(&merged[k]), gpt_close(&g[k]), gpt_close(&base[k]);
    }
}

/* 1 + 2^-8 lies between two and goes to the even one; others keep 8 bits. */
static void test_rounding(void **state) {
    const struct {
        real from, to;
    } all[] = {{1.00390625f, 1},
               {1.01171875f, 1.015625f},
               {-3.14159274f, -3.140625f},
               {1e-30f, 9.98402083e-31f},
               {0, 0},
               {65280, 65280},
               {3.3961776e38f, (real)1e39}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        uint16_t half;
        real back;
        bfloat_round(1, &all[i].from, &half);
        bfloat_widen(1, &half, &back);
        assert_true(back == (real)(float)all[i].to);
    }
}

/* Without memory it is as large. */
static void test_dry(void **state) {
    GptConfig cfg = family_of(small, FAMILY_LLAMA);
    Gpt *dry, *half;
    assert_int_equal(gpt_open_half(&dry, &cfg, true), 0);
    assert_int_equal(gpt_open_half(&half, &cfg, false), 0);
    assert_int_equal(paramset_bytes(&dry->params), paramset_bytes(&half->params));
    assert_int_equal(dry->params.count, arch_count(&cfg));
    gpt_close(&dry), gpt_close(&half);
}

int main(void) {
    core_init();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores),
        cmocka_unit_test(test_adapters),
        cmocka_unit_test(test_rounding),
        cmocka_unit_test(test_dry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

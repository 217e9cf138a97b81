/* Five training steps of Hugging Face's tiny GPT-2: loss, gradient norm and, where
 * ../shared/data/golden/model is, the parameters after AdamW. Learning rate 1e-3, betas 0.9 and
 * 0.95, eps 1e-8, decay 0.1 on matrices, gradients clipped to norm 1. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "core/kernel.h"
#include "optim/optim.h"
#include "tests/exchange/tiny_gpt2.h"

static void compare(Gpt *g, const SafeTensors *st, const char *prefix) {
    if (!st) return;
    for (ArchParam a = {0}; arch_next(&g->cfg, &a);) {
        const Param *p = &g->params.v[a.index];
        const int64_t n = a.n;
        double *want = tiny_gpt2_get(st, &a, prefix);
        /* The key third of a qkv bias has true gradient 0; Adam blows its rounding up to full
         * steps. */
        bool qkv_bias = strstr(p->name, "qkv.bias") != NULL;
        for (int64_t j = 0; j < n; j++) {
            if (qkv_bias && j >= n / 3 && j < n / 3 * 2) continue;
            double have = (double)p->tensor.data[j];
            if (!(fabs(have - want[j]) <= TINY_TOLERANCE))
                fail_msg("%s%s[%lld] is %.9g, expected %.9g", prefix, p->name, (long long)j, have,
                         want[j]);
        }
        free(want);
    }
}

static void test_adamw_steps(void **state) {
    static const double loss[] = {4.364767500661373, 4.183278713484507, 4.026322748750099,
                                  3.886290672872607, 3.757838299881546};
    static const double norm[] = {2.059224285096886, 1.7949611811391677, 1.6603870754705154,
                                  1.6258093197606953, 1.6297258377095503};
    Gpt *g = tiny_gpt2_open();
    SafeTensors *st = tiny_gpt2_more();
    TinyBatch batch;
    Arena arena = {0};
    Tape *tape = tape_open(&arena, true);
    AdamW adam;
    tiny_gpt2_batch(&batch);
    adamw_init(&adam, &g->params, NULL, 0.9, 0.95, 1e-8, 0.1);
    for (int step = 0; step < 5; step++) {
        assert_true(fabs(tiny_gpt2_loss(g, tape, &batch) - loss[step]) < TINY_TOLERANCE);
        double have = grad_norm(&g->params);
        assert_true(fabs(have - norm[step]) < TINY_TOLERANCE);
        /* PyTorch's clip_grad_norm_ divides by norm + 1e-6. */
        adamw_update(&adam, &g->params, 1e-3, grad_clip_scale(have + 1e-6, 1));
        if (step == 0) compare(g, st, "step1.");
    }
    compare(g, st, "step5.");
    adamw_free(&adam);
    tape_close(&tape);
    arena_free(&arena);
    safetensors_close(&st);
    gpt_close(&g);
}

int main(void) {
    core_init();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_adamw_steps)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

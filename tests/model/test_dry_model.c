/* A dry pass of a model takes, to the byte, what the same pass takes when it computes, and no
 * memory to speak of. */
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <cmocka.h>

#include "core/kernel.h"
#include "tests/model/random_gpt.h"

/* Sequences of `len`, and one of half of it. */
static void fill(Batch *b, const GptConfig *c, int n, int64_t len, int every) {
    int32_t *token = malloc((size_t)len * sizeof *token);
    uint8_t *learn = malloc((size_t)len);
    batch_clear(b);
    for (int s = 0; s <= n; s++) {
        const int64_t m = s < n ? len : (len + 1) / 2;
        for (int64_t i = 0; i < m; i++) {
            token[i] = (int32_t)((i * i + s) % c->vocab);
            learn[i] = i % every == 0;
        }
        batch_add(b, token, m, every > 1 ? learn : NULL, 0.1f, (uint64_t)s);
    }
    free(token);
    free(learn);
}

typedef struct Case {
    GptConfig cfg;
    int sequences;
    int64_t len;
    int every; /* how many of the tokens are learned */
    bool recompute, dropout, split;
} Case;

static size_t high_of(const Case *c, bool dry) {
    Arena arena = {.dry = dry};
    Gpt *g;
    if (dry)
        assert_int_equal(gpt_open_dry(&g, &c->cfg), 0);
    else
        g = random_gpt(c->cfg, 1);
    g->recompute = c->recompute;
    if (c->split) gpt_split_tied(g);
    Tape *t = tape_open(&arena, true);
    Batch b = {0};
    fill(&b, &c->cfg, c->sequences, c->len, c->every);
    const GptDropout drop = {.p = c->dropout ? 0.1 : 0, .seed = 1, .row = b.row};
    int64_t at[] = {0, c->len - 1}; /* the backward pass reads it, too */
    for (int pass = 0; pass < 2; pass++) {
        if (c->cfg.scalar_head) {
            gpt_values(g, t, &b, &(GptRows){2, at});
        } else {
            gpt_loss(g, t, &b, &drop, NULL);
        }
        tape_backward(t);
        tape_reset(t);
        if (!c->cfg.scalar_head) gpt_score(g, t, &b, NULL, 1, NULL, NULL);
        gpt_sum_tied(g);
    }
    const size_t high = arena.high;
    batch_free(&b);
    tape_close(&t);
    arena_free(&arena);
    gpt_close(&g);
    return high;
}

static void whole_model(void **state) {
    const GptConfig small = {.vocab = 61,
                             .context = 64,
                             .layers = 3,
                             .heads = 2,
                             .width = 20,
                             .bias = true,
                             .norm_eps = 1e-5};
    GptConfig other = small, head = small, wide = small;
    other.bias = false, other.mlp = MLP_GELU_ERF, other.untied = true;
    head.scalar_head = true;
    wide.width = 192, wide.vocab = 3000, wide.layers = 2;
    const Case cases[] = {
        {small, 1, 10, 1, false, false, false}, {small, 1, 10, 1, true, false, false},
        {small, 9, 64, 1, false, true, true},   {small, 9, 64, 1, true, true, true},
        {small, 7, 33, 5, false, false, true},  {small, 7, 33, 5, true, true, false},
        {other, 5, 40, 3, false, true, false},  {other, 5, 40, 3, true, true, false},
        {head, 6, 31, 1, false, false, false},  {head, 6, 31, 1, true, false, false},
        {wide, 4, 64, 1, false, false, true},   {wide, 4, 64, 2, true, false, true},
    };
    enum { GIVEN = sizeof cases / sizeof *cases, ALL = GIVEN + 3 * (FAMILIES - 1) };
    Case all[ALL];
    memcpy(all, cases, sizeof cases);
    for (int i = GIVEN; i < ALL; i++) {
        all[i] = cases[i % 3 + 2];
        all[i].cfg = family_of(i % 3 ? small : head, (ArchFamily)(1 + (i - GIVEN) / 3));
    }
    const int before = omp_get_max_threads();
    for (int threads = 1; threads <= 2; threads++)
        for (int i = 0; i < ALL; i++) {
            omp_set_num_threads(threads);
            const size_t want = high_of(&all[i], false), have = high_of(&all[i], true);
            if (have != want)
                fail_msg("case %d, %d threads: %zu bytes dry, %zu otherwise", i, threads, have,
                         want);
        }
    omp_set_num_threads(before);
}

/* GPT-2's largest on 4096 tokens: tens of gigabytes, counted with a few megabytes. */
static void takes_no_memory(void **state) {
    const Case c = {{.vocab = 50257,
                     .context = 1024,
                     .layers = 48,
                     .heads = 25,
                     .width = 1600,
                     .bias = true,
                     .norm_eps = 1e-5},
                    3,
                    1024,
                    1,
                    false,
                    false,
                    true};
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    const size_t high = high_of(&c, true);
    getrusage(RUSAGE_SELF, &after);
    assert_true(high > (size_t)10 << 30);
    assert_true(after.ru_maxrss - before.ru_maxrss < 64 << 10); /* KiB */
}

int main(void) {
    core_init();
    const struct CMUnitTest tests[] = {cmocka_unit_test(takes_no_memory),
                                       cmocka_unit_test(whole_model)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}

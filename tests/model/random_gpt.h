/* random_gpt.h (tests): a model in which every parameter matters. gpt_init's weights are so small
 * that a wrong bias or gain would hide; here all are random and of a size with consequences. */
#ifndef TESTS_RANDOM_GPT_H
#define TESTS_RANDOM_GPT_H

#include <string.h>

#include "base/error.h"
#include "core/kernel.h"
#include "model/gpt.h"

static inline Gpt *random_gpt(GptConfig cfg, uint64_t seed) {
    Gpt *g;
    RngKey key = {.seed = seed, .purpose = RNG_TEST};
    if (cfg.norm_eps == 0) cfg.norm_eps = 1e-5;
    CHECK(gpt_open(&g, &cfg, true) == 0, "%s", error_message());
    for (int i = 0; i < g->params.n; i++) {
        Tensor *t = &g->params.v[i].tensor;
        int64_t n = tensor_size(t);
        const bool gain = t->ndim == 1 && !strstr(g->params.v[i].name, "bias");
        rng_normal_fill(&key, (uint64_t)i, t->data, n, 0.3);
        for (int64_t j = 0; gain && j < n; j++) t->data[j] += 1;
    }
    return g;
}

/* The switches of a family on the sizes of c, whose heads are grouped where it has RoPE, and do not
 * fill the width in Qwen 3. */
static inline GptConfig family_of(GptConfig c, ArchFamily family) {
    GptConfig g = arch_family[family].is;
    g.family = family;
    g.vocab = c.vocab, g.context = c.context, g.layers = c.layers, g.heads = c.heads;
    g.width = c.width, g.scalar_head = c.scalar_head, g.ffn = c.ffn;
    if (c.scalar_head) g.untied = false;
    if (!g.rope) return g;
    if (family != FAMILY_GPT_NEOX) g.kv_heads = c.heads / 2;
    if (family == FAMILY_GPT_NEOX) g.rope_columns = arch_head(&g) / 4 * 2;
    if (family == FAMILY_QWEN3) g.head = c.width / c.heads / 2 * 2 + 2;
    if (family == FAMILY_LLAMA)
        g.rope_factor = 8, g.rope_low = 1, g.rope_high = 4, g.rope_original = c.context / 2;
    return g;
}

static inline int64_t random_below(uint64_t i, int64_t bound) {
    RngKey key = {.seed = 5, .purpose = RNG_TEST};
    return rng_below(&key, i, 0, 0, bound);
}

/* For tests of what is bit-identical whatever else is multiplied with it. */
static inline void needs_own_kernels(void) {
    if (kernel_level != KERNEL_BLAS) return;
    print_message("skipped: products of OpenBLAS depend on their shape, bit by bit\n");
    skip();
}

#endif

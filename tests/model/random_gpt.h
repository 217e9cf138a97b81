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
    cfg.norm_eps = 1e-5;
    CHECK(gpt_open(&g, &cfg, true) == 0, "%s", error_message());
    for (int i = 0; i < g->params.n; i++) {
        Tensor *t = &g->params.v[i].tensor;
        int64_t n = tensor_size(t);
        bool gain = t->ndim == 1 && !strstr(g->params.v[i].name, "bias");
        rng_normal_fill(&key, (uint64_t)i, t->data, n, 0.3);
        for (int64_t j = 0; gain && j < n; j++) t->data[j] += 1;
    }
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

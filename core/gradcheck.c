/* gradcheck.c: what the ops' case builders share. */
#include "core/gradcheck.h"

#include <string.h>

#include "base/error.h"
#include "core/rng.h"

Tensor *gradcheck_input(GradCase *c, int ndim, const int64_t *shape) {
    CHECK(c->nin < GRAD_MAX_INPUT, "a gradient check has more than %d inputs", GRAD_MAX_INPUT);
    Tensor *t = arena_zalloc(c->arena, sizeof *t);
    t->ndim = ndim;
    memcpy(t->shape, shape, (size_t)ndim * sizeof *shape);
    size_t n = (size_t)tensor_size(t);
    t->data = arena_numbers(c->arena, n * sizeof(real));
    t->grad = arena_numbers(c->arena, n * sizeof(real));
    c->in[c->nin++] = t;
    if (c->arena->dry) return t;
    memset(t->grad, 0, n * sizeof(real));
    const RngKey key = {.seed = 1, .purpose = RNG_TEST, .step = 1};
    rng_normal_fill(&key, (uint64_t)c->nin - 1, t->data, (int64_t)n, 1);
    return t;
}

double gradcheck_project(Tape *t, Tensor *y) {
    const RngKey key = {.seed = 1, .purpose = RNG_TEST, .step = 2};
    int64_t n = tensor_size(y);
    real *w = tape_numbers(t, (size_t)n * sizeof(real));
    real *grad = tape_records(t) ? tape_grad(t, y) : NULL;
    if (tape_dry(t)) return 0;
    rng_normal_fill(&key, (uint64_t)n, w, n, 1);
    double loss = 0;
    for (int64_t i = 0; i < n; i++) loss += (double)w[i] * (double)y->data[i];
    for (int64_t i = 0; grad && i < n; i++) grad[i] += w[i];
    return loss;
}

/* gradcheck.c: what the ops' case builders share. */
#include "core/gradcheck.h"

#include <string.h>

#include "base/error.h"
#include "core/rng.h"

Tensor *grad_input(GradCase *c, int ndim, const int64_t *shape) {
    CHECK(c->nin < GRAD_MAX_INPUT, "a gradient check has more than %d inputs", GRAD_MAX_INPUT);
    Tensor *t = arena_zalloc(c->arena, sizeof *t);
    t->ndim = ndim;
    memcpy(t->shape, shape, (size_t)ndim * sizeof *shape);
    size_t n = (size_t)tensor_size(t);
    t->data = arena_alloc(c->arena, n * sizeof(real));
    t->grad = arena_zalloc(c->arena, n * sizeof(real));
    const RngKey key = {.seed = 1, .purpose = RNG_TEST, .step = 1};
    rng_normal_fill(&key, (uint64_t)c->nin, t->data, (int64_t)n, 1);
    return c->in[c->nin++] = t;
}

double grad_project(Tape *t, Tensor *y) {
    const RngKey key = {.seed = 1, .purpose = RNG_TEST, .step = 2};
    int64_t n = tensor_size(y);
    real *w = tape_alloc(t, (size_t)n * sizeof(real));
    rng_normal_fill(&key, (uint64_t)n, w, n, 1);
    double loss = 0;
    for (int64_t i = 0; i < n; i++) loss += (double)w[i] * (double)y->data[i];
    if (tape_records(t)) {
        real *grad = tensor_grad(y);
        for (int64_t i = 0; i < n; i++) grad[i] += w[i];
    }
    return loss;
}

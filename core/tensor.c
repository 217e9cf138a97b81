/* tensor.c: shapes and first-write gradients. */
#include "core/tensor.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "core/tape.h"

int64_t tensor_size(const Tensor *t) {
    int64_t n = 1;
    for (int d = 0; d < t->ndim; d++) n *= t->shape[d];
    return n;
}

void tensor_expect(const Tensor *t, const char *what, int ndim, const int64_t *shape) {
    CHECK(t, "%s is NULL", what);
    if (t->ndim == ndim && memcmp(t->shape, shape, (size_t)ndim * sizeof *shape) == 0) return;
    CHECK(0, "%s has the shape %s, expected %s", what, text_shape(t->ndim, t->shape),
          text_shape(ndim, shape));
}

static void lend_grad(Tensor *t) {
    if (t->grad || !t->tape) return;
    t->grad = tape_take(t->tape, t->room);
    t->lent_grad = true;
}

real tensor_grad_beta(Tensor *t) {
    if (!t->grad_unset) return 1;
    lend_grad(t);
    t->grad_unset = false;
    return 0;
}

real *tensor_grad(Tensor *t) {
    if (t->grad_unset) {
        lend_grad(t);
        memset(t->grad, 0, (size_t)tensor_size(t) * sizeof(real));
        t->grad_unset = false;
    }
    return t->grad;
}

void tensor_keep(Tensor *x) { x->kept = true; }

const real *tensor_data(Tensor *x) {
    if (x->data) return x->data;
    CHECK(x->rebuild, "a tensor's data is wanted that was given back and cannot be rebuilt");
    x->data = tape_take(x->tape, x->room);
    x->rebuild(x->rebuild_ctx);
    x->rebuild = NULL; /* it stays until the backward pass of the op that made it is over */
    return x->data;
}

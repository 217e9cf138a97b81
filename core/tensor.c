/* tensor.c: shapes. */
#include "core/tensor.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "core/bfloat.h"

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

void tensor_read(const Tensor *t, int64_t at, int64_t n, real *out) {
    if (t->half)
        bfloat_widen(n, t->half + at, out);
    else
        memcpy(out, t->data + at, (size_t)n * sizeof *out);
}

void tensor_write(Tensor *t, int64_t at, int64_t n, const real *from) {
    if (t->half)
        bfloat_round(n, from, t->half + at);
    else
        memcpy(t->data + at, from, (size_t)n * sizeof *from);
}

real *tensor_grad(Tensor *t) {
    if (t->grad_unset) memset(t->grad, 0, (size_t)tensor_size(t) * sizeof(real));
    t->grad_unset = false;
    return t->grad;
}

/* golden.h (tests): tensors of golden files. Any failure ends the test: a golden file that cannot
 * be read must not look like a pass. */
#ifndef TESTS_EXCHANGE_GOLDEN_H
#define TESTS_EXCHANGE_GOLDEN_H

#include <stdlib.h>

#include "base/error.h"
#include "checkpoints/exchange/safetensors.h"

static inline SafeTensors *golden_file(const char *path) {
    SafeTensors *st;
    CHECK(safetensors_open(&st, path) == 0, "%s", error_message());
    return st;
}

/* The tensor's n numbers; malloc'd. rows, cols (or NULL): the shape of a matrix. */
static inline double *golden_get(const SafeTensors *st, const char *name, int64_t *n, int64_t *rows,
                                 int64_t *cols) {
    const StTensor *t = safetensors_find(st, name);
    CHECK(t, "no tensor %s in the golden file", name);
    *n = t->n;
    if (rows) *rows = t->shape[0];
    if (cols) *cols = t->n / t->shape[0];
    double *out = xmalloc(sizeof *out * (size_t)t->n);
    CHECK(safetensors_read(st, t, 0, t->n, out) == 0, "%s", error_message());
    return out;
}

#endif

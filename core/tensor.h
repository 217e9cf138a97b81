/* tensor.h: a shape over memory that somebody else owns. Row-major, contiguous. */
#ifndef CORE_TENSOR_H
#define CORE_TENSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "core/real.h"

enum { TENSOR_MAX_DIM = 4 };

typedef struct Tensor {
    real *data;
    real *grad; /* same shape, accumulated with +=; NULL: no gradient wanted */
    int ndim;
    int64_t shape[TENSOR_MAX_DIM];
    bool grad_unset; /* nobody has written grad yet: it counts as zero, its memory is garbage */
} Tensor;

int64_t tensor_size(const Tensor *t); /* number of elements */

/* Ends the job with both shapes when t is not [d0, d1, ...]; used by every op on its inputs. */
void tensor_expect(const Tensor *t, const char *what, int ndim, const int64_t *shape);

/* Clearing a gradient only to add to it costs passes over memory, so the outputs of ops start with
 * grad_unset. tensor_grad_beta says how to write it, 0: store, 1: add, and marks it set: for an op
 * that writes all of it. tensor_grad clears an unset gradient and returns it: for an op that writes
 * a part of it, and for a caller who puts the gradient of a loss into the output of an op. */
real tensor_grad_beta(Tensor *t);
real *tensor_grad(Tensor *t);

#endif

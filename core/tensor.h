/* tensor.h: a shape over memory that somebody else owns. Row-major, contiguous. */
#ifndef CORE_TENSOR_H
#define CORE_TENSOR_H

#include <stdint.h>

#include "core/real.h"

enum { TENSOR_MAX_DIM = 4 };

typedef struct Tensor {
    real *data;
    real *grad; /* same shape, accumulated with +=; NULL: no gradient wanted */
    int ndim;
    int64_t shape[TENSOR_MAX_DIM];
} Tensor;

int64_t tensor_size(const Tensor *t); /* number of elements */

/* Ends the job with both shapes when t is not [d0, d1, ...]; used by every op on its inputs. */
void tensor_expect(const Tensor *t, const char *what, int ndim, const int64_t *shape);

#endif

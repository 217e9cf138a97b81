/* tensor.h: a shape over memory that others own. Row-major, contiguous. */
#ifndef CORE_TENSOR_H
#define CORE_TENSOR_H

#include <stdbool.h>
#include <stdint.h>

#include "core/real.h"

enum { TENSOR_MAX_DIM = 4 };

typedef struct Tensor {
    real *data;
    real *grad;     /* same shape, accumulated with +=; NULL: none, or not yet (a tape's tensors) */
    uint16_t *half; /* instead of data: bfloat16, of a frozen matrix (paramset_alloc_half) */
    int ndim;
    int64_t shape[TENSOR_MAX_DIM];
    bool grad_unset; /* nobody has written grad yet: it counts as zero, its memory is garbage */
    bool lent;       /* data and grad are a tape's, for a while (core/tape.h) */
} Tensor;

int64_t tensor_size(const Tensor *t); /* number of elements */

/* Ends the job with both shapes when t is not [d0, d1, ...]; used by every op on its inputs. */
void tensor_expect(const Tensor *t, const char *what, int ndim, const int64_t *shape);

/* Elements at .. at+n-1, whichever way they are kept; writing rounds where that is half. */
void tensor_read(const Tensor *t, int64_t at, int64_t n, real *out);
void tensor_write(Tensor *t, int64_t at, int64_t n, const real *from);

/* Its gradient, cleared if nobody has written it yet; of a tape's tensor see tape_grad. */
real *tensor_grad(Tensor *t);

#endif

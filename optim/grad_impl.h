/* grad_impl.h: private to optim/. */
#ifndef OPTIM_GRAD_IMPL_H
#define OPTIM_GRAD_IMPL_H

#include "optim/optim.h"

/* part[b] = sum of the squares of block b (EXCHANGE_BLOCK elements) of grad[n]. */
void grad_squares(const real *grad, int64_t n, double *part);

#endif

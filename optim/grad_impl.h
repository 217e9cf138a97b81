/* grad_impl.h: private to optim/. */
#ifndef OPTIM_GRAD_IMPL_H
#define OPTIM_GRAD_IMPL_H

#include "optim/optim.h"

/* part[b] = sum of the squares of block b (EXCHANGE_BLOCK elements) of grad[n]. */
void grad_squares(const real *grad, int64_t n, double *part);

/* Elements of a shard that have a second moment: with Muon the hidden matrices have none. at: as
 * AdamW.v_at, or NULL. */
int64_t shard_second_moments(const Shard *s, const ParamSet *ps, bool muon, int64_t *at);

#endif

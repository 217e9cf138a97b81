/* packed.h: linear layers for decoding, private to model/.
 *
 * Decoding uses the same weights for thousands of small products, so their columns are laid out
 * once, in panels, as the kernel of core/tile.h reads them. That kernel adds each element's terms
 * in order, whatever the number of rows: what a sequence decodes does not depend, to the last bit,
 * on the batch around it. (A BLAS packs anew in every call and promises no such thing.) */
#ifndef MODEL_PACKED_H
#define MODEL_PACKED_H

#include "core/ops.h"

enum { PANEL = 32 };

typedef struct Packed {
    const Tensor *w; /* [M,K] */
    int64_t M, K;
    real *panel; /* [M rounded up / PANEL][K][PANEL] */
} Packed;

int64_t packed_size(const Tensor *w); /* elements of `panel` */
void packed_make(Packed *p, const Tensor *w, real *panel);

/* y = act(x W^T + b).  x [n,K], b [M] or NULL -> y [n,M] */
void packed_linear(const Packed *p, int64_t n, const real *x, const Tensor *b, Activation act,
                   real *y);

#endif

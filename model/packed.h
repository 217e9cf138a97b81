/* packed.h: linear layers for decoding, private to model/.
 *
 * Decoding uses the same weights for thousands of small products, so their columns are laid out
 * once, in strips, as core/gemm.h reads them. Its sums do not depend on the number of rows: what a
 * sequence decodes does not depend, to the last bit, on the batch around it. (A BLAS packs in every
 * call and promises no such thing: on the level `blas` it does depend on it.) */
#ifndef MODEL_PACKED_H
#define MODEL_PACKED_H

#include "core/ops.h"

typedef struct Packed {
    const Tensor *w; /* [M,K] */
    int64_t M, K;
    real *strips;   /* gemm_pack; NULL: */
    uint16_t *half; /* ... gemm_pack_half, of a w in bfloat16 */
} Packed;

/* Bytes of memory for one of these; on the level `blas` it is wide in any case. */
size_t packed_bytes(const Tensor *w);
void packed_make(Packed *p, const Tensor *w, void *memory);

/* y = act(x W^T + b).  x [n,K], b [M] or NULL -> y [n,M] */
void packed_linear(const Packed *p, Arena *scratch, int64_t n, const real *x, const Tensor *b,
                   Activation act, real *y);

#endif

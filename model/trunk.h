/* trunk.h: the stack of blocks between embedding and heads, private to model/. Training and
 * decoding differ only in how a row attends to the rows before it: over the packed batch, or over a
 * KV cache. So the architecture is written once and attention is handed in. */
#ifndef MODEL_TRUNK_H
#define MODEL_TRUNK_H

#include "model/gpt.h"

/* qkv [n,3C] of layer `layer` -> [n,C] */
typedef Tensor *AttendFn(void *ctx, Tape *t, int64_t layer, Tensor *qkv);

/* Embedded tokens x [n,C] -> hidden states after the last layer norm [n,C]. drop NULL: none. */
Tensor *trunk_forward(Gpt *g, Tape *t, Tensor *x, AttendFn *attend, void *ctx,
                      const GptDropout *drop);

#endif

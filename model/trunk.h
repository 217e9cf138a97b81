/* trunk.h: the stack of blocks between embedding and heads, private to model/. Training and
 * decoding differ in how they multiply by a weight matrix and in what a row attends to: the packed
 * batch, or a KV cache. The architecture is written once, and these two are handed in. */
#ifndef MODEL_TRUNK_H
#define MODEL_TRUNK_H

#include "model/gpt.h"

typedef struct TrunkOps {
    void *ctx;
    /* act(x w^T + b), as op_linear; called for each layer with its qkv, proj, fc, fc2 weights. In
     * the last layer x may have fewer rows after `attend`. */
    Tensor *(*linear)(void *ctx, Tape *t, Tensor *x, Tensor *w, Tensor *b, Activation act);
    /* qkv [n, (heads + 2 kv_heads) d] of layer `layer`, rotated here where the model has rotary
     * positions -> [n, heads d]. qkv is used up. */
    Tensor *(*attend)(void *ctx, Tape *t, int64_t layer, Tensor *qkv);
    bool merged; /* the products of `linear` are those of adapted weights already */
} TrunkOps;

/* Embedded tokens x [n,C] -> hidden states after the last layer norm of the rows, [m,C]. rows NULL:
 * all. drop NULL: none. */
Tensor *gpt_trunk(Gpt *g, Tape *t, Tensor *x, const TrunkOps *o, const GptRows *rows,
                  const GptDropout *drop);

#endif

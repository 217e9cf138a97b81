/* ops.h: every operation of the core. Each is implemented in core/op_<family>.c, forward and
 * backward side by side, under a comment with the formula, the shapes, what is saved and the
 * source; each is in OP_LIST, whose members the gradient check visits.
 *
 * Shapes: n tokens of packed sequences, C width, H heads, V vocabulary. All ops end the job on a
 * shape mismatch (CHECK) and return tensors that live in the tape's arena. Gradients accumulate
 * with +=, a parameter's as one chain over the tokens in their order: the same bits however the
 * tokens are cut into micro-batches, as long as the parameter is used once in a model. Every op is
 * threaded with OpenMP in such a way that no result depends on threads or scheduling. */
#ifndef CORE_OPS_H
#define CORE_OPS_H

#include "core/batch.h"
#include "core/gradcheck.h"
#include "core/param.h"
#include "core/rng.h"
#include "core/tape.h"

/* x[i] = wte[tokens[i]] + wpe[i - start of i's sequence].  wte [V,C], wpe [T,C] or NULL -> [n,C]
 * The batch and its arrays must live until tape_reset. */
Tensor *op_embed(Tape *t, Tensor *wte, Tensor *wpe, const Batch *b);

typedef enum Activation { ACT_NONE, ACT_GELU_TANH, ACT_GELU_ERF, ACT_RELU } Activation;

/* y = act(x W^T + b).  x [n,K], w [M,K], b [M] or NULL -> [n,M] */
Tensor *op_linear(Tape *t, Tensor *x, Tensor *w, Tensor *b, Activation act);

/* y = act(z + scale d), a linear layer's output and its adapter's (model/lora.h).  [n,M] */
Tensor *op_adapt(Tape *t, Tensor *z, Tensor *d, double scale, Activation act);

/* The end of it, for products made elsewhere: z [rows,cols], row stride ld, becomes z + b (b NULL:
 * 0), and y = act(z); y may be z. One thread. */
void op_linear_finish(Activation act, int64_t rows, int64_t cols, int64_t ld, const real *b,
                      real *z, real *y);

/* y = LayerNorm(s) * g + b with s = x + r (r NULL: s = x).  x, r [n,C], g [C], b [C] or NULL.
 * *sum, if sum is not NULL, becomes s (a tensor of the tape, the next residual stream). */
Tensor *op_layernorm(Tape *t, Tensor *x, Tensor *r, Tensor *g, Tensor *b, double eps, Tensor **sum);

/* y = s / sqrt(mean(s^2) + eps) * g (RMSNorm), s = x + r and *sum as in op_layernorm. */
Tensor *op_rmsnorm(Tape *t, Tensor *x, Tensor *r, Tensor *g, double eps, Tensor **sum);

/* RMSNorm of each head's q and k (Qwen3), with gains gq and gk [d]; v passes.
 * qkv [n, (heads + 2 kv_heads) d] -> the same shape */
Tensor *op_headnorm(Tape *t, Tensor *qkv, Tensor *gq, Tensor *gk, int heads, int kv_heads,
                    double eps);

/* The same bits for one token, y another place than x. rstd [heads + kv_heads] or NULL. */
void headnorm_row(int64_t heads, int64_t kv_heads, int64_t d, const real *gq, const real *gk,
                  double eps, const real *x, real *y, real *rstd);

/* Causal self-attention inside each packed sequence, computed in tiles with the running softmax
 * of FlashAttention (Dao 2022): no [T,T] matrix in memory; the backward pass rebuilds the
 * probabilities from the saved log-sum-exp.  qkv [n,3C] (q, k, v side by side; head h uses
 * columns h*C/H..) -> [n,C], scale 1/sqrt(C/H). The batch must live until tape_reset. */
Tensor *op_attention(Tape *t, Tensor *qkv, const Batch *b, int heads);

/* The same with kv_heads heads of keys and values, each seen by heads / kv_heads heads one after
 * another; d is what qkv's width says.  qkv [n, (heads + 2 kv_heads) d] -> [n, heads d] */
Tensor *op_attention_grouped(Tape *t, Tensor *qkv, const Batch *b, int heads, int kv_heads);

/* Rotary positions. The first `columns` (0: all) of each head of `head` are rotated; factor, low,
 * high, original: Llama 3's stretching of the frequencies, factor 0: none. */
typedef struct RopeConfig {
    int64_t head, columns;
    double theta;
    double factor, low, high;
    int64_t original;
} RopeConfig;

/* Cosines and sines, made in double, of positions 0..positions-1. */
typedef struct Rope {
    int64_t head, half, positions; /* 2 half columns are rotated */
    real *cos, *sin;               /* [positions, half] */
} Rope;
void rope_open(Rope *r, const RopeConfig *c, int64_t positions);
void rope_free(Rope *r);

/* y = x with its first `heads` heads of rope->head columns rotated by the token's position in its
 * sequence.  [n,C], such as qkv with its heads of q and k. rope and the batch must live until
 * tape_reset. */
Tensor *op_rope(Tape *t, Tensor *x, const Batch *b, const Rope *rope, int heads);

/* The same bits for one token, in place. */
void rope_rotate(const Rope *r, int64_t position, int64_t heads, real *x);

/* y = silu(g) u.  x [n,2F], g its first F columns and u the others -> [n,F] */
Tensor *op_swiglu(Tape *t, Tensor *x);

/* The same bits without a tape. One thread. */
void swiglu_rows(int64_t rows, int64_t F, const real *x, real *y);

/* Inverted dropout; the mask of element (i, c) is a function of (key, row[i], c) alone, where
 * row[i] identifies token i whatever the layout; NULL: row[i] = i. p = 0 returns x itself. */
Tensor *op_dropout(Tape *t, Tensor *x, double p, RngKey key, const uint64_t *row);

/* y = a + b.  [n,C] */
Tensor *op_add(Tape *t, Tensor *a, Tensor *b);

/* y[j] = x[rows[j]].  x [n,C], rows [m] ascending -> [m,C]; x itself if they are all. `rows` must
 * live until tape_reset. Gradients are what they would be if the other rows had been carried on and
 * got none. */
Tensor *op_rows(Tape *t, Tensor *x, const int64_t *rows, int64_t m);

/* y[i] = w . x[i] + b.  x [n,C], w [1,C], b [1] -> [n]
 * y's gradient is there, cleared, when the tape records. */
Tensor *op_scalar_head(Tape *t, Tensor *x, Tensor *w, Tensor *b);

/* The language-model head and a loss on log-probabilities, in one terminal op that never holds
 * all logits: it walks over blocks of tokens, makes the block's logits x wte^T / temperature,
 * their log-softmax, and asks `loss` for the loss of each token and its derivative; from that it
 * makes the gradients of x and wte in the same pass (they are complete when op_token_loss
 * returns; nothing else may be added after it on the same tape but tape_backward).
 *
 * For token i: logp = log softmax(logits_i)[targets[i]], entropy = -sum p log p.
 * Returns the sum of the losses, added in token order in double; `loss` is called in token order
 * from the calling thread. (Tokens that have no loss: op_rows before.)
 *   x [n,C], wte [V,C], targets [n]
 *   loss NULL: no gradient; use it for scoring (0 is returned).
 *   logp_out, entropy_out: [n] or NULL. */
typedef double TokenLossFn(void *ctx, int64_t i, double logp, double entropy, double *dlogp);
double op_token_loss(Tape *t, Tensor *x, Tensor *wte, const int32_t *targets, double temperature,
                     TokenLossFn *loss, void *ctx, real *logp_out, real *entropy_out);

/* The usual loss: sum over i of -weight[i] * logp_i (weights already divided by the global count).
 * logp_out [n] or NULL. */
double op_cross_entropy(Tape *t, Tensor *x, Tensor *wte, const int32_t *targets,
                        const float *weight, real *logp_out);

/* All ops. Each has a builder of gradient-check cases (gradcheck.h) in its file: fills case i and
 * returns true, or returns false when there are no more. */
#define OP_LIST(X) \
    X(embed)       \
    X(linear)      \
    X(adapt)       \
    X(layernorm)   \
    X(rmsnorm)     \
    X(headnorm)    \
    X(attention)   \
    X(rope)        \
    X(swiglu)      \
    X(dropout)     \
    X(add)         \
    X(rows)        \
    X(scalar_head) \
    X(token_loss)  \
    X(cross_entropy)

#define X(name) bool op_##name##_case(GradCase *c, int i);
OP_LIST(X)
#undef X

typedef struct OpInfo {
    const char *name;
    bool (*grad_case)(GradCase *c, int i);
} OpInfo;
extern const OpInfo core_ops[];
extern const int core_nops;

#endif

/* gpt.h: one block with switches, after GPT-2 (Radford 2019): pre-norm, residual projections
 * initialised with std 0.02/sqrt(2 layers). The fields of model/arch.h say which norm, mlp,
 * positions, heads and biases it has; its families are GPT-2's, Llama's, Qwen's, GPT-NeoX's and
 * OPT's. A reward or value model is the same trunk with a scalar head. */
#ifndef MODEL_GPT_H
#define MODEL_GPT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "core/batch.h"
#include "core/ops.h"
#include "core/param.h"
#include "core/tape.h"
#include "model/arch.h"

/* Adapters (model/lora.h): the weights of a block that have one. */
typedef enum LoraTarget { LORA_QKV, LORA_PROJ, LORA_FC, LORA_FC2, LORA_TARGETS } LoraTarget;
enum { LORA_RANK_MAX = 4096 };
typedef struct LoraConfig {
    int64_t rank; /* 0: none */
    double alpha, dropout;
    unsigned targets; /* bits of LoraTarget */
} LoraConfig;

/* d: columns of a head; F: ffn; Q: (heads + 2 kv_heads) d. NULL: the model has it not. */
typedef struct GptBlock {
    Tensor *norm1_w, *norm1_b;           /* [C] */
    Tensor *qkv_w, *qkv_b;               /* [Q,C] [Q] */
    Tensor *q_norm, *k_norm;             /* [d] */
    Tensor *proj_w, *proj_b;             /* [C,heads d] [C] */
    Tensor *norm2_w, *norm2_b;           /* [C] */
    Tensor *fc_w, *fc_b, *fc2_w, *fc2_b; /* [F,C] (SwiGLU: gate and up, [2F,C]) [F] [C,F] [C] */
    Tensor *lora_a[LORA_TARGETS], *lora_b[LORA_TARGETS]; /* [r,K] [M,r] */
} GptBlock;

/* arch.c lists the parameters with their names and shapes. */
typedef struct Gpt {
    GptConfig cfg;
    ParamSet params;
    Tensor *wte, *wpe, *norm_f_w, *norm_f_b, *head_w, *head_b;
    Tensor *out_w;          /* [V,C] logits = hidden out_w^T: wte, or lm_head.weight when untied */
    Tensor embed;           /* wte with a gradient of its own; grad NULL: not split */
    GptBlock *block;        /* [layers] */
    Rope rope;              /* of `context` positions, where cfg.rope */
    const struct Gpt *base; /* model/lora.h: `params` are adapters on this one's; NULL: none */
    LoraConfig lora;
    int32_t *masked; /* [nmasked] tokens that are never sampled, ascending */
    int64_t nmasked;
    bool recompute; /* activation checkpointing, a segment a layer: a third of the activations, a
                       forward pass more, the same bits */
    /* Called in the backward pass when the gradients of a part of the parameters are complete;
     * NULL: nobody wants to know. */
    void (*part_done)(void *ctx, int part);
    void *part_ctx;
} Gpt;

/* Checks the configuration, allocates zeroed parameters. with_grad: also the flat gradient. */
int gpt_open(Gpt **out, const GptConfig *cfg, bool with_grad);
/* A model of these sizes that takes no memory, for dry passes (core/tape.h). */
int gpt_open_dry(Gpt **out, const GptConfig *cfg);
/* Frozen, its matrices in bfloat16 (model.weights): half the memory, and what it computes are the
 * bits of the same numbers in real. dry: without memory. */
int gpt_open_half(Gpt **out, const GptConfig *cfg, bool dry);
void gpt_close(Gpt **g);
/* These tokens, ascending, are never sampled: rows of the vocabulary that no token has. In all
 * probabilities they count, so that those of sampling and training agree. */
void gpt_never_sample(Gpt *g, const int32_t *tokens, int64_t n);

/* Random weights, a function of seed and init alone; biases 0, gains 1. Matrices that add to the
 * residual stream have 1/sqrt(2 layers) of the deviation.
 *   INIT_GPT2    N(0, 0.02^2) whatever the width (Radford 2019)
 *   INIT_FAN_IN  N(0, 1/fan_in), so that what a matrix makes of inputs of variance 1 has variance 1
 *                at any width (LeCun 1998, Glorot 2010); tables N(0, 0.2^2). GPT-2's 0.02 is about
 *                that at its width of 768; in a narrow model it all but mutes the branches, and
 *                attention long stays uniform. */
void gpt_init(Gpt *g, uint64_t seed, int init); /* as model.init */
void gpt_init_head(Gpt *g, uint64_t seed);      /* head ~ N(0, 1/(C+1)), bias 0 */
/* Copies all parameters that both have; a head that only dst has is left alone. Rounds where dst
 * alone is in bfloat16. Shapes must agree: ERR_CONFIG. */
int gpt_copy(Gpt *dst, const Gpt *src);

/* Options of a training forward; NULL: no dropout. */
typedef struct GptDropout {
    double p;
    uint64_t seed;
    uint32_t step;
    const uint64_t *row; /* [n] identity of each token, independent of the layout */
} GptDropout;

/* The gradient of a tied matrix is the sum of the embedding's and that of the logits. After
 * gpt_split_tied they accumulate separately over micro-batches (V C more in memory), so that the
 * sum's bits do not depend on how the batch is cut; gpt_sum_tied adds the embedding's to wte->grad
 * and clears it. Nothing to do for untied models and scalar heads. Not collective. */
void gpt_split_tied(Gpt *g);
void gpt_sum_tied(Gpt *g);

/* The positions of a batch whose hidden states are read, ascending: of the others the last
 * layer makes keys and values only. What is computed of these m, and all gradients, are the same
 * bits as if all had been computed. The array must live until tape_reset. */
typedef struct GptRows {
    int64_t m;
    const int64_t *at; /* [m] */
} GptRows;
/* The positions that have a weight; the last position of each sequence. In the tape's memory. */
GptRows gpt_weighted_rows(Tape *t, const Batch *b);
GptRows gpt_last_rows(Tape *t, const Batch *b);

/* Hidden states after the last layer norm, [m,C] (rows NULL: all, [n,C]). Tokens out of range or
 * sequences longer than the context end the job (CHECK): data/ has checked before. */
Tensor *gpt_forward(Gpt *g, Tape *t, const Batch *b, const GptRows *rows, const GptDropout *drop);

/* Language-model loss of the batch: sum over i of -weight[i]*logp_i, gradients made on a recording
 * tape (then call tape_backward). logp_out, [n] or NULL, is 0 where the weight is. */
double gpt_loss(Gpt *g, Tape *t, const Batch *b, const GptDropout *drop, real *logp_out);

/* A loss of the log-probabilities of the targets at the rows (NULL: all): op_token_loss, whose
 * token j is position rows->at[j]. logp_out, entropy_out [m] or NULL. */
double gpt_token_loss(Gpt *g, Tape *t, const Batch *b, const GptRows *rows, double temperature,
                      TokenLossFn *loss, void *ctx, real *logp_out, real *entropy_out);

/* A loss of all log-probabilities together, such as DPO's of pairs of sequences: loss(ctx, m, logp,
 * dlogp) returns it and writes its m derivatives. The trunk goes forward once, the logits are made
 * twice, since the loss must be known before its gradient can be. entropy_out [m] or NULL: the bits
 * of log-probabilities are those of gpt_token_loss that is, or is not, asked for entropies. */
typedef double JointLossFn(void *ctx, int64_t m, const real *logp, double *dlogp);
double gpt_joint_loss(Gpt *g, Tape *t, const Batch *b, const GptRows *rows, double temperature,
                      JointLossFn *loss, void *ctx, real *entropy_out);

/* The log-probabilities alone, without gradient. Resets the tape. */
void gpt_score(Gpt *g, Tape *t, const Batch *b, const GptRows *rows, double temperature,
               real *logp_out, real *entropy_out);

/* Scalar head at the rows (NULL: all): [m]. */
Tensor *gpt_values(Gpt *g, Tape *t, const Batch *b, const GptRows *rows);

/* FLOPs of forward and backward for n tokens in sequences of mean length T, of which `rows` are
 * wanted (GptRows): of GPT-2 n (6 (12 L C^2 + V C) + 6 L C T), less 60 C^2 + 6 (C T + V C) for each
 * of the other n - rows: they need the last layer's keys and values only. The causal half of attention,
 * the tied head once; a scalar head counts nothing. */
double gpt_train_flops(const GptConfig *cfg, double n, double rows, double T);

#endif

/* lora.h: low-rank adapters (Hu et al. 2021): a frozen matrix W [M,K] is used as W + s B A, with
 * A [r,K] random, B [M,r] zero at first, s = alpha / r. A model with adapters is a Gpt whose
 * parameters are the adapters, and a scalar head where it has one; its other tensors are those of
 * a base without gradients, which several such models may share. So what is not trained has no
 * gradient, moments or place in a checkpoint, and its gradient is not computed. */
#ifndef MODEL_LORA_H
#define MODEL_LORA_H

#include "model/gpt.h"

const char *lora_target_name(LoraTarget t); /* "attn.qkv": of its parameters */
/* The description of adapters in a checkpoint; a new reference. */
json_t *lora_to_json(const LoraConfig *o);
int lora_from_json(LoraConfig *o, const json_t *j); /* ERR_DATA names the field */
/* What the settings lora.* ask for; rank 0: none. */
LoraConfig lora_of_config(const Config *c);

/* The adapters' parameters, in a set without memory. cfg: with the scalar head that is trained. */
void lora_params(const GptConfig *cfg, const LoraConfig *o, ParamSet *ps);
/* A model of adapters on a base, which is borrowed and outlives it; all are zero. scalar_head: it
 * has a head of its own, which begins as the base's if that has one. A dry base makes a dry
 * model. */
int lora_open(Gpt **out, const Gpt *base, const LoraConfig *o, bool scalar_head, bool with_grad);
void lora_init(Gpt *g, uint64_t seed); /* A ~ N(0, 1/(3 K)), B 0: a function of seed alone */

/* y = act(x w^T + b) where w may be the adapted weight `target` of a layer. drop: of the rows of x,
 * NULL: none. */
typedef Tensor *LoraLinear(void *ctx, Tape *t, Tensor *x, Tensor *w, Tensor *b, Activation act);
Tensor *lora_linear(const Gpt *g, int64_t layer, LoraTarget target, LoraLinear *linear, void *ctx,
                    Tape *t, Tensor *x, Tensor *w, Tensor *b, Activation act,
                    const GptDropout *drop);

/* to [M,K] = W + s B A of the layer's weight. Scratch is the arena's. */
void lora_merge_weight(const Gpt *g, int64_t layer, LoraTarget target, Arena *arena, real *to);
/* The adapters of g go into `full`, whose weights are the base's; so does a head. */
void lora_merge(Gpt *full, const Gpt *g);

#endif

/* load.h: a model out of a checkpoint: weights, tokenizer, template. */
#ifndef CHECKPOINTS_EXCHANGE_LOAD_H
#define CHECKPOINTS_EXCHANGE_LOAD_H

#include <jansson.h>

#include "checkpoints/checkpoint.h"
#include "data/template.h"
#include "data/tokenizer/tokenizer.h"
#include "model/lora.h"

enum { LOAD_STOPS = 16 };

typedef struct Loaded {
    Gpt *gpt;
    Tokenizer *tokenizer;
    Template tmpl;
    /* [nstop] tokens that end an answer: the one that PPO trained it to end with, the template's,
     * then the others: those that the imported model names, else the tokenizer's end of text. */
    int32_t stop[LOAD_STOPS];
    int nstop;   /* 0: none is known */
    int nend;    /* the first so many of them are an answer's proper end */
    int32_t eos; /* the token that ends a text; -1: none is known */
    char *id;    /* the checkpoint's, for the lineage */
    char *path;
    char *stage; /* that wrote it */
    int64_t step;
    GptConfig cfg;   /* the model's */
    bool half;       /* before load_weights: what is frozen is kept in bfloat16 (model.weights) */
    Gpt *base;       /* load_adapters: what gpt is adapters on; owned */
    LoraConfig lora; /* the checkpoint holds adapters of this rank; 0: all weights */
    char *base_path, *base_id; /* ... on this one's weights */
    Ckpt *file;                /* between load_open and load_weights */
    Comm *comm;                /* load_open's */
} Loaded;

/* What the model must be (ERR_CONFIG otherwise). */
typedef enum LoadKind {
    LOAD_LANGUAGE, /* a language model */
    LOAD_REWARD,   /* a reward or value model */
    LOAD_TRUNK,    /* any model; it gets a scalar head, which the caller initialises */
    LOAD_EITHER    /* any model as it is; tokenizer NULL where it was imported without */
} LoadKind;

/* Everything but the model itself: gpt is NULL, cfg says how large it will be. `path`: checkpoint
 * file or run directory. `key` names the setting in messages. With a communicator Collective, and
 * the model is the parent of the run: one whose own run has not ended is warned about, a reward
 * model then refused, since it is normalised at the end (LOAD_EITHER refuses it in any case). NULL:
 * for this process alone. */
int load_open(Loaded *out, const char *path, const char *key, LoadKind kind, Comm *c);
/* Then its memory and weights: the group that the checkpoint says to use. with_grad: to train on.
 * Collective if load_open was. */
int load_weights(Loaded *l, bool with_grad);
/* With l->half and no gradient in bfloat16, rounded where they are not bfloat16's already.
 * For a checkpoint of adapters the base's weights are loaded, and the adapters merged into them.
 * To train adapters, or to share a base, instead of load_weights: */

/* The adapters that the checkpoint holds, on `base` (borrowed), which must have its base's weights:
 * load_is_on says whether it has. Collective if load_open was. */
int load_adapters(Loaded *l, const Gpt *base, Gpt **out, bool with_grad);
bool load_is_on(const Loaded *adapters, const Loaded *base);
/* The weights, frozen, become l->base, and l->gpt new adapters on them: with a scalar head where
 * l->cfg has one. Collective if load_open was. */
int load_with_adapters(Loaded *l, const LoraConfig *o, uint64_t seed);

/* load_open and load_weights, for this process alone, without a gradient. */
int load_model(Loaded *out, const char *path, const char *key, LoadKind kind);
int load_model_half(Loaded *out, const char *path, const char *key, LoadKind kind, bool half);
void load_free(Loaded *l);
/* From now on this token alone is an answer's proper end. */
void load_end_with(Loaded *l, int32_t token);
/* Has an answer that ends with this token come to its proper end? */
bool load_finished(const Loaded *l, int32_t token);

/* ERR_CONFIG unless both have the same tokenizer and template: then b knows every id that a may
 * sample. Names both checkpoints. */
int load_same_tokenizer(const Loaded *a, const Loaded *b);

#endif

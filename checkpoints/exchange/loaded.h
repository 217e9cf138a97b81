/* loaded.h: a model out of a checkpoint: weights, tokenizer, template. Not collective: every rank
 * reads the file. */
#ifndef TRAIN_LOAD_H
#define TRAIN_LOAD_H

#include <jansson.h>

#include "checkpoints/checkpoint.h"
#include "data/template.h"
#include "data/tokenizer/tokenizer.h"
#include "model/gpt.h"

typedef struct Loaded {
    Gpt *gpt;
    Tokenizer *tokenizer;
    Template tmpl;
    int32_t stop[2]; /* [nstop] tokens that end an answer: the one that PPO trained it to end with,
                        then the end-of-text token if that is another one */
    int nstop;       /* 0: the tokenizer has none */
    char *id;        /* the checkpoint's, for the lineage */
    char *path;
    char *stage; /* that wrote it */
    int64_t step;
    GptConfig cfg; /* the model's */
    Ckpt *file;    /* between load_open and load_weights */
    int flags;
} Loaded;

enum {
    LOAD_GRAD = 1,   /* with a gradient buffer, to train on */
    LOAD_HEAD = 2,   /* must be a reward or value model (ERR_CONFIG otherwise) */
    LOAD_TRUNK = 4,  /* any model; made into one with a scalar head (initialised by the caller) */
    LOAD_RAW = 8,    /* the group params even where the checkpoint says to use its moving average */
    LOAD_WHOLE = 16, /* refused (ERR_CONFIG) while its run has not ended: a reward model is
                      * normalised at the end. Without it a parent (LOAD_GRAD) is warned about. */
    LOAD_ANY = 32 /* a language model or a whole reward model; tokenizer NULL where it was imported
                   * without */
};

/* `path`: checkpoint file or run directory. `key` names the setting in messages. */
int load_model(Loaded *out, const char *path, const char *key, int flags);
/* The same in two steps: first everything but the model (gpt NULL, cfg says how large it is), then
 * its memory and weights. */
int load_open(Loaded *out, const char *path, const char *key, int flags);
int load_weights(Loaded *l);
void load_free(Loaded *l);

/* ERR_CONFIG unless both have the same tokenizer and template, and b knows every id that a may
 * sample: an imported model can have more than its tokenizer. Names both checkpoints. */
int load_same_tokenizer(const Loaded *a, const Loaded *b);

#endif
